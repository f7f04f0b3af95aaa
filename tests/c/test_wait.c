/* wait.h: sleeping with a deadline, and being woken. */
#include "harness.h"

#define MS UINT64_C(1000000)

static ringbuf_atomic_u32 seq, wanted;

TEST(a_deadline_saturates)
{
	uint64_t now = now_ns();

	GE(ringbuf_deadline(0), now);
	LT(ringbuf_deadline(0), now + 1000 * MS);
	GE(ringbuf_deadline(1000 * MS), now + 1000 * MS);
	EQ(ringbuf_deadline(UINT64_MAX), UINT64_MAX);
	EQ(ringbuf_deadline(UINT64_MAX - 1), UINT64_MAX);
	EQ(ringbuf_deadline(UINT64_MAX - now / 2), UINT64_MAX);
}

TEST(a_sleep_ends_at_its_deadline)
{
	uint64_t start = now_ns(), slept;

	EQ(ringbuf_futex_wait(&seq, 0, start + 50 * MS), -ETIMEDOUT);
	slept = now_ns() - start;
	GE(slept, 50 * MS);
	LT(slept, 1000 * MS);
	EQ(ringbuf_futex_wait(&seq, 0, start), -ETIMEDOUT); /* past */
	EQ(ringbuf_futex_wait(&seq, 0, 0), -ETIMEDOUT);
}

TEST(a_sleep_on_an_old_value_does_not_begin)
{
	uint64_t start = now_ns();

	EQ(ringbuf_futex_wait(&seq, 1, UINT64_MAX), 0);
	LT(now_ns() - start, 1000 * MS);
}

static void
on_signal(int sig)
{
	(void)sig;
}

TEST(a_sleep_is_interrupted_by_a_signal)
{
	struct sigaction sa = {.sa_handler = on_signal};

	sigaction(SIGALRM, &sa, NULL);
	ualarm(20000, 0);
	EQ(ringbuf_futex_wait(&seq, 0, UINT64_MAX), -EINTR);
}

TEST(a_wake_up_that_nobody_wants_costs_nothing)
{
	ringbuf_wait_wake(&seq, &wanted);
	EQ(atomic_load(&seq), 0);
	EQ(ringbuf_wait_prepare(&seq, &wanted), 0);
	EQ(atomic_load(&wanted), 1);
	ringbuf_wait_wake(&seq, &wanted);
	EQ(atomic_load(&wanted), 0);
	EQ(atomic_load(&seq), 1);
	ringbuf_wait_wake(&seq, &wanted);
	EQ(atomic_load(&seq), 1);
	EQ(ringbuf_futex_wait(&seq, 0, UINT64_MAX), 0); /* it came before the sleep */
}

TEST(a_wake_up_leaves_errno_alone)
{
	(void)ringbuf_wait_prepare(&seq, &wanted);
	errno = 4242;
	ringbuf_wait_wake(&seq, &wanted);
	EQ(errno, 4242);
}

/* ---- many sleepers and wakers ---- */

static atomic_uint value;
static atomic_int stop;
static atomic_ullong sleeps;

static void *
sleeper(void *arg)
{
	unsigned int seen = 0;

	(void)arg;
	while (!atomic_load(&stop)) {
		uint32_t at = ringbuf_wait_prepare(&seq, &wanted);

		if (atomic_load(&value) != seen || atomic_load(&stop)) {
			seen = atomic_load(&value);
			continue;
		}
		atomic_fetch_add(&sleeps, 1);
		/* a lost wake-up is a sleep to the deadline */
		CHECK(ringbuf_futex_wait(&seq, at, now_ns() + 20000 * MS) != -ETIMEDOUT, "a wake-up was lost");
	}
	return NULL;
}

static void *
waker(void *arg)
{
	rnd_seed((uintptr_t)arg);
	while (!atomic_load(&stop)) {
		atomic_fetch_add(&value, 1);
		ringbuf_wait_wake(&seq, &wanted);
		for (uint64_t n = rnd_below(3); n; n--)
			sched_yield();
	}
	return NULL;
}

TEST(no_wake_up_is_lost)
{
	uint64_t end = now_ns() + soak_ns(0.4);
	pthread_t t[5];

	for (uintptr_t i = 0; i < 5; i++)
		t[i] = start(i < 3 ? sleeper : waker, (void *)i);
	while (now_ns() < end)
		sleep_ms(10);
	atomic_store(&stop, 1);
	for (int i = 3; i < 5; i++)
		join(t[i]);
	atomic_fetch_add(&value, 1);
	ringbuf_wait_wake(&seq, &wanted);
	for (int i = 0; i < 3; i++)
		join(t[i]);
	GT(atomic_load(&sleeps), 0);
}

TEST(a_sleeper_in_another_process_is_woken)
{
	struct ringbuf_channel *ch = create(CONFIG(.wakeup = RINGBUF_WAKEUP_WRITER));
	uint64_t begun = now_ns();
	pid_t pid = spawn();

	if (!pid) {
		uint32_t at = ringbuf_data_wanted(ch);

		CHECK(ringbuf_wait_for_data(ch, at, now_ns() + 20000 * MS) == 0, "not woken");
		_exit(0);
	}
	while (!atomic_load(&ch->control->data_wanted))
		sched_yield();
	sleep_ms(20);
	EQ(record(ch, payload_max(ch) - 9, 0), 0);
	EQ(record(ch, 100, 0), 0);
	reap(pid);
	LT(now_ns() - begun, 10000 * MS);
}

TEST(changing_the_state_wakes_everybody)
{
	struct ringbuf_channel *ch = create(CONFIG(.streams = RINGBUF_PER_CPU, .n_streams = 3));
	uint32_t bits[] = {RINGBUF_STATE_DISABLED, RINGBUF_STATE_FINALIZED};

	for (int i = 0; i < 2; i++)
		for (int on = 1; on >= 0; on--) {
			uint32_t data = ringbuf_data_wanted(ch), space[3];

			for (uint32_t n = 0; n < 3; n++)
				space[n] = ringbuf_space_wanted(ch, n);
			ringbuf_set_state(ch, bits[i], on);
			EQ(atomic_load(&ch->control->data_seq), data + 1);
			for (uint32_t n = 0; n < 3; n++)
				EQ(atomic_load(&ringbuf_stream_at(ch, n)->space_seq), space[n] + 1);
		}
}
