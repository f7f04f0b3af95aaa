/* certificate.h, all schedules: a lock whose owner is gone is had by one at a time, whatever the kernel freed, and
 * though thread ids are used again. */
#define EXPLORE_REAL_LOCKS
#include "explore.h"

enum { OWNER, ONE, OTHER, N_ACTORS };
#define FIRST_IMAGE 5u /* of the owner; the others have the next ones */

struct thread {
	struct ringbuf_robust_self self;
	uint32_t image;
	int dies_over_it; /* leaves without giving it back, by an exec that the kernel does not see through */
	int n_had;
};

static struct ringbuf_robust lock;
static struct thread threads[N_ACTORS];
static int is_dead[FIRST_IMAGE + N_ACTORS], n_holders, kernel_marks;

static void
be_thread(struct thread *t, uint32_t tid, uint32_t image, int dies_over_it)
{
	memset((void *)t, 0, sizeof(*t));
	t->self.list = ringbuf_robust_unknown_list(&t->self);
	t->self.tid = tid;
	t->self.held = t->self.few;
	t->self.room = RINGBUF_ROBUST_FEW;
	t->image = image;
	t->dies_over_it = dies_over_it;
}

/* What the kernel does of a thread's death, with the half of the word that it knows. */
static void
mark_death(uint32_t tid)
{
	ringbuf_atomic_u32 *word = (ringbuf_atomic_u32 *)(void *)lock.words;
	uint32_t was = ringbuf_load(word, RINGBUF_RELAXED);

	while ((was & FUTEX_TID_MASK) == tid &&
	       !ringbuf_cas(word, &was, FUTEX_OWNER_DIED, RINGBUF_RELAXED, RINGBUF_RELAXED))
		;
}

static int
take(struct thread *t)
{
	struct ringbuf_robust_claim claim = {t->image, 0, 0};
	int ret = ringbuf_robust_begin(&t->self);

	OK(!ret);
	ret = ringbuf_robust_try(&t->self, &lock, &claim);
	explore_yield();
	if (ret && is_dead[claim.holder >> 32]) {
		claim.from = claim.holder;
		ret = ringbuf_robust_try(&t->self, &lock, &claim);
	}
	return ret;
}

/* Nobody has the lock beside me; then it is given back, or I am gone. */
static int
hold(struct thread *t)
{
	t->n_had++;
	EQ(++n_holders, 1);
	explore_yield();
	EQ(n_holders--, 1);
	if (!t->dies_over_it) {
		ringbuf_robust_release(&t->self, &lock);
		return 0;
	}
	if (kernel_marks)
		mark_death(t->self.tid);
	explore_yield();
	is_dead[t->image] = 1;
	return 1;
}

static void
act(void *arg)
{
	struct thread *t = arg;

	for (int i = 0; i < 2; i++)
		if (!take(t) && hold(t))
			return;
}

static void
act_as_owner(void *arg)
{
	hold(arg);
}

/* The owner has the lock; one of those who want it has its thread id, of another PID namespace. */
static void
reset(struct actor *actors, unsigned int *n_actors)
{
	memset((void *)&lock, 0, sizeof(lock));
	memset(is_dead, 0, sizeof(is_dead));
	n_holders = 0;
	be_thread(&threads[OWNER], 7, FIRST_IMAGE, 1);
	be_thread(&threads[ONE], 7, FIRST_IMAGE + 1, 1);
	be_thread(&threads[OTHER], 9, FIRST_IMAGE + 2, 0);
	OK(!take(&threads[OWNER]));
	actor_init(&actors[OWNER], act_as_owner, &threads[OWNER]);
	actor_init(&actors[ONE], act, &threads[ONE]);
	actor_init(&actors[OTHER], act, &threads[OTHER]);
	*n_actors = N_ACTORS;
}

static unsigned int most_had;

/* Who comes now gets it. */
static void
check(void)
{
	struct thread late;
	unsigned int had = 0;

	for (int i = 0; i < N_ACTORS; i++)
		had += (unsigned int)threads[i].n_had;
	most_had = had > most_had ? had : most_had;
	EQ(n_holders, 0);
	is_dead[FIRST_IMAGE + 1] = 1; /* has ended, perhaps holding nothing */
	be_thread(&late, 11, FIRST_IMAGE + 2, 0);
	OK(!take(&late));
}

static void
check_all_schedules(void)
{
	struct world world = {reset, check};
	int complete;

	most_had = 0;
	GT(explore(&world, 4, 20, &complete), 100);
	OK(complete);
	EQ(most_had, 1 + 1 + 2);
}

TEST(what_the_kernel_did_not_free_is_had_by_one_at_a_time)
{
	kernel_marks = 0;
	check_all_schedules();
}

TEST(what_the_kernel_frees_while_others_look_at_the_image_is_had_by_one_at_a_time)
{
	kernel_marks = 1;
	check_all_schedules();
}
