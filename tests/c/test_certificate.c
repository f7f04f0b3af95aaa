/* certificate.h: locks that survive their owners, beside those of the C library, and under scribbles. */
#define HARNESS_HOOKS
#define RINGBUF_ROBUST_WAIT_MS 20
#include "harness.h"

#define N 6

/* A child, as of a process that has a channel: there are none here. */
static pid_t
fork_off(void)
{
	pid_t pid = spawn();

	if (!pid)
		ringbuf_robust_fork_child();
	return pid;
}

/* Ours, and the library's, in shared memory. */
struct locks {
	pthread_mutex_t ours[N], theirs[N];
	unsigned int held; /* bit i: ours[i], bit N + i: theirs[i] */
};

static struct locks *
new_locks(void)
{
	struct locks *l = shared_memory(sizeof(*l));
	pthread_mutexattr_t attr;

	EQ(pthread_mutexattr_init(&attr), 0);
	EQ(pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED), 0);
	EQ(pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST), 0);
	for (int i = 0; i < N; i++) {
		EQ(ringbuf_robust_mutex_init(&l->ours[i]), 0);
		EQ(pthread_mutex_init(&l->theirs[i], &attr), 0);
	}
	return l;
}

static void
toggle(struct locks *l, unsigned int i)
{
	int held = l->held >> i & 1;

	if (i < N && held)
		ringbuf_robust_unlock(&l->ours[i]);
	else if (i < N)
		EQ(ringbuf_robust_lock(&l->ours[i], 0), 0);
	else if (held)
		EQ(pthread_mutex_unlock(&l->theirs[i - N]), 0);
	else
		EQ(pthread_mutex_lock(&l->theirs[i - N]), 0);
	l->held ^= 1u << i;
}

static void *
try_ours(void *m)
{
	int ret = ringbuf_robust_lock(m, 0);

	if (!ret)
		ringbuf_robust_unlock(m);
	return (void *)(intptr_t)ret;
}

static int
is_free(pthread_mutex_t *m)
{
	return join(start(try_ours, m)) == 0;
}

TEST(a_lock_has_one_owner)
{
	struct locks *l = new_locks();

	EQ(ringbuf_robust_lock(&l->ours[0], 0), 0);
	EQ(ringbuf_robust_lock(&l->ours[0], 0), -EBUSY);
	OK(!is_free(&l->ours[0]));
	OK(is_free(&l->ours[1]));
	ringbuf_robust_unlock(&l->ours[0]);
	OK(is_free(&l->ours[0]));
}

static void *
unlock(void *m)
{
	ringbuf_robust_unlock(m);
	return NULL;
}

TEST(only_the_owner_unlocks)
{
	struct locks *l = new_locks();

	EQ(ringbuf_robust_lock(&l->ours[0], 1), 0);
	join(start(unlock, &l->ours[0]));
	OK(!is_free(&l->ours[0]));
}

TEST(whoever_waits_gives_up_some_time)
{
	struct locks *l = new_locks();

	EQ(ringbuf_robust_lock(&l->ours[0], 0), 0);
	EQ(ringbuf_robust_lock(&l->ours[0], 1), -EBUSY);
}

static void *
unlock_later(void *arg)
{
	struct locks *l = arg;

	EQ(ringbuf_robust_lock(&l->ours[0], 0), 0);
	__atomic_store_n(&l->held, 1, __ATOMIC_RELEASE);
	sleep_ms(2);
	ringbuf_robust_unlock(&l->ours[0]);
	return NULL;
}

TEST(whoever_waits_gets_it)
{
	struct locks *l = new_locks();
	pthread_t t = start(unlock_later, l);

	while (!__atomic_load_n(&l->held, __ATOMIC_ACQUIRE))
		sched_yield();
	for (int ret = -EBUSY; ret;)
		ret = ringbuf_robust_lock(&l->ours[0], 1);
	join(t);
}

/* A process that locks and unlocks at random, both kinds, is killed. Then what it held is had, and marked. */
static void
live_and_die(struct locks *l, unsigned int steps)
{
	while (steps--)
		toggle(l, (unsigned int)rnd_below(2 * N));
	raise(SIGKILL);
}

static void
check_inheritance(struct locks *l)
{
	for (int i = 0; i < N; i++) {
		int dead = l->held >> (N + i) & 1;

		EQ(ringbuf_robust_was_held(&l->ours[i]), l->held >> i & 1);
		EQ(ringbuf_robust_lock(&l->ours[i], 0), 0);
		EQ(pthread_mutex_trylock(&l->theirs[i]), dead ? EOWNERDEAD : 0);
		if (dead)
			EQ(pthread_mutex_consistent(&l->theirs[i]), 0);
	}
	for (int i = 0; i < N; i++) {
		ringbuf_robust_unlock(&l->ours[N - 1 - i]);
		EQ(ringbuf_robust_was_held(&l->ours[N - 1 - i]), 0);
		EQ(pthread_mutex_unlock(&l->theirs[i]), 0);
	}
}

TEST(what_the_killed_held_is_had_by_others_and_nothing_else_is_marked)
{
	struct locks *l = new_locks();

	for (struct runs run = runs(0.5); next_run(&run);) {
		pid_t pid = fork_off();

		if (!pid)
			live_and_die(l, (unsigned int)rnd_below(60));
		reap_killed(pid);
		check_inheritance(l);
		l->held = 0;
	}
}

static void
die(void *arg)
{
	(void)arg;
	raise(SIGKILL);
}

static void
check_death_at(const char *point)
{
	struct locks *l = new_locks();
	pid_t pid = fork_off();

	if (!pid) {
		EQ(ringbuf_robust_lock(&l->ours[0], 0), 0);
		hook_at(point, die, NULL);
		EQ(ringbuf_robust_lock(&l->ours[1], 0), 0);
		ringbuf_robust_unlock(&l->ours[1]);
		_exit(1);
	}
	reap_killed(pid);
	EQ(ringbuf_robust_lock(&l->ours[0], 0), 0);
	EQ(ringbuf_robust_lock(&l->ours[1], 0), 0);
}

TEST(a_lock_is_had_whose_owner_was_killed_before_it_was_in_the_list)
{
	check_death_at("robust_taken");
}

TEST(a_lock_is_had_whose_owner_was_killed_when_it_was_not_in_the_list_any_more)
{
	check_death_at("robust_unlinked");
}

/* ---- signal handlers ---- */

static void
get_nothing(void *m)
{
	EQ(ringbuf_robust_lock(m, 1), -EBUSY);
}

TEST(a_signal_handler_over_another_call_gets_no_lock)
{
	struct locks *l = new_locks();

	hook_at("robust_taken", get_nothing, &l->ours[1]);
	hook_at("robust_unlinked", get_nothing, &l->ours[1]);
	EQ(ringbuf_robust_lock(&l->ours[0], 0), 0);
	OK(is_free(&l->ours[1]));
	ringbuf_robust_unlock(&l->ours[0]);
	hooks_done();
	EQ(ringbuf_robust_lock(&l->ours[1], 0), 0);
	/* the library's, in the middle of its own */
	ringbuf_robust_self.list->list_op_pending = (struct robust_list *)&l->theirs[0]; /* any */
	get_nothing(&l->ours[0]);
	ringbuf_robust_self.list->list_op_pending = NULL;
	EQ(ringbuf_robust_lock(&l->ours[0], 0), 0);
}

static struct locks *of_handler;
static _Atomic unsigned int had, refused;

static void
lock_and_unlock(int signal)
{
	(void)signal;
	if (ringbuf_robust_lock(&of_handler->ours[N - 1], 0)) {
		refused++;
		return;
	}
	had++;
	ringbuf_robust_unlock(&of_handler->ours[N - 1]);
}

static void *
send_signals(void *to)
{
	for (;;)
		pthread_kill(*(pthread_t *)to, SIGUSR1);
	return NULL;
}

TEST(signal_handlers_lock_and_unlock_at_any_moment)
{
	for (struct runs run = runs(0.5); next_run(&run);) {
		struct locks *l = of_handler = new_locks();
		pid_t pid = fork_off();

		if (!pid) {
			pthread_t self = pthread_self();

			EQ(ringbuf_robust_lock(&l->ours[0], 0), 0); /* has locked before */
			ringbuf_robust_unlock(&l->ours[0]);
			signal(SIGUSR1, lock_and_unlock);
			start(send_signals, &self);
			while (had < 20 || refused < 20) {
				unsigned int i = (unsigned int)rnd_below(2 * N);

				if (i != N - 1)
					toggle(l, i);
			}
			raise(SIGKILL);
		}
		reap_killed(pid);
		check_inheritance(l);
	}
}

static void *
lock_some_and_exit(void *arg)
{
	struct locks *l = arg;

	for (unsigned int i = 0; i < 2 * N; i += 1 + (unsigned int)rnd_below(3))
		toggle(l, i);
	return NULL;
}

TEST(what_a_thread_held_that_exits_is_had_by_others)
{
	struct locks *l = new_locks();

	EQ(ringbuf_robust_lock(&l->ours[1], 0), 0); /* a list of my own */
	ringbuf_robust_unlock(&l->ours[1]);
	join(start(lock_some_and_exit, l));
	/* the kernel marks them on the thread's way out, perhaps after the join */
	for (int i = 0; i < N; i++)
		while (ringbuf_robust_lock(&l->ours[i], 0))
			sched_yield();
}

TEST(a_forked_child_holds_nothing)
{
	struct locks *l = new_locks();
	struct ringbuf_channel *ch = create(CONFIG()); /* forks know of channels */
	pid_t pid;

	OK(record(ch, 8, 0) == 0);
	EQ(ringbuf_robust_lock(&l->ours[0], 0), 0);
	pid = spawn();
	if (!pid) {
		ringbuf_robust_unlock(&l->ours[0]);
		EQ(ringbuf_robust_lock(&l->ours[0], 0), -EBUSY);
		EQ(ringbuf_robust_lock(&l->ours[1], 0), 0);
		raise(SIGKILL);
	}
	reap_killed(pid);
	EQ(ringbuf_robust_lock(&l->ours[1], 0), 0);
	OK(!is_free(&l->ours[0]));
}

struct elsewhere {
	_Atomic int locked, die;
};

/* A child, and in a PID namespace of its own a grandchild that takes the lock, and is killed when it is told to. */
static pid_t
lock_elsewhere(pthread_mutex_t *m, struct elsewhere *e)
{
	pid_t pid = fork_off(), inner;

	if (pid)
		return pid;
	EQ(unshare(CLONE_NEWPID), 0);
	inner = fork();
	GE(inner, 0);
	if (!inner) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		ringbuf_robust_fork_child();
		EQ(syscall(SYS_gettid), 1);
		EQ(ringbuf_robust_lock(m, 0), 0);
		atomic_store(&e->locked, 1);
		for (;;)
			pause();
	}
	while (!atomic_load(&e->die))
		sleep_ms(1);
	kill(inner, SIGKILL);
	reap_killed(inner);
	_exit(0);
}

TEST(threads_with_one_id_in_two_pid_namespaces_are_told_apart)
{
	struct locks *l = new_locks();
	struct elsewhere *e = shared_memory(2 * sizeof(*e));
	pid_t pids[2];

	if (geteuid() != 0)
		SKIP("a PID namespace needs root");
	for (int i = 0; i < 2; i++) {
		pids[i] = lock_elsewhere(&l->ours[i], &e[i]);
		for (uint64_t end = now_ns() + 20 * 1000000000ull; !atomic_load(&e[i].locked); sleep_ms(1))
			LT(now_ns(), end);
		OK(!is_free(&l->ours[i]));
	}
	atomic_store(&e[0].die, 1);
	reap(pids[0]);
	OK(is_free(&l->ours[0]));
	OK(!is_free(&l->ours[1]));
	atomic_store(&e[1].die, 1);
	reap(pids[1]);
	OK(is_free(&l->ours[1]));
}

/* Somebody writes whatever he likes over our locks, at any time. The library's stay whole. */
TEST(scribbles_on_a_lock_touch_nothing_else)
{
	struct locks *l = new_locks();

	for (struct runs run = runs(0.5); next_run(&run);) {
		pid_t pid = fork_off();

		if (!pid) {
			for (unsigned int steps = (unsigned int)rnd_below(60); steps; steps--) {
				unsigned int i = (unsigned int)rnd_below(N);

				((volatile uint8_t *)l->ours)[rnd_below(sizeof(l->ours))] = (uint8_t)rnd();
				toggle(l, N + (unsigned int)rnd_below(N));
				if (ringbuf_robust_lock(&l->ours[i], 0) || rnd_below(2))
					ringbuf_robust_unlock(&l->ours[i]);
			}
			for (unsigned int i = 0; i < N; i++)
				if (l->held >> (N + i) & 1)
					toggle(l, N + i);
			_exit(0);
		}
		reap(pid);
		memset((void *)l->ours, 0, sizeof(l->ours));
		check_inheritance(l);
	}
}
