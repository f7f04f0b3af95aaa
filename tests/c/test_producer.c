/* producer.h: a thread's slot, from its first record to its end, and waiting for room. */
#define HARNESS_HOOKS
#include "harness.h"

#define MS UINT64_C(1000000)

static struct ringbuf_channel *ch;

/* ---- slots ---- */

TEST(a_thread_keeps_its_slot)
{
	struct ringbuf_producer_slot *slot;
	char name[16] = "";

	ch = create(CONFIG());
	prctl(PR_SET_NAME, "a thread");
	slot = my_slot(ch);
	OK(slot == my_slot(ch));
	EQ(atomic_load(&slot->pid), getpid());
	EQ(atomic_load(&slot->tid), gettid());
	EQ(atomic_load(&slot->start), ringbuf_process_start());
	memcpy(name, slot->name, sizeof(name));
	EQ(strcmp(name, "a thread"), 0);
	GT(ringbuf_process_start(), 0);
	EQ(record(ch, 16, 0), 0);
	OK(slot == my_slot(ch));
	OK(ringbuf_is_own_slot(ch, slot));
	OK(!ringbuf_is_own_slot(ch, slot + 1));
}

static void *
record_one(void *arg)
{
	(void)arg;
	EQ(record(ch, 16, 0), 0);
	return my_slot(ch);
}

TEST(a_slot_is_used_again_after_its_thread_has_ended)
{
	void *first;

	ch = create(CONFIG(.n_producers = 2));
	my_slot(ch);
	first = join(start(record_one, NULL));
	for (int i = 0; i < 20; i++)
		OK(join(start(record_one, NULL)) == first);
	EQ(flush_and_read(ch), 21);
}

static pthread_barrier_t barrier;

static void *
record_at_once(void *arg)
{
	struct ringbuf_reservation r;
	int ret = reserve(ch, &r, 16, 0);

	(void)arg;
	if (!ret)
		ringbuf_commit(ch, &r);
	pthread_barrier_wait(&barrier); /* none ends before all have tried */
	return (void *)(intptr_t)ret;
}

TEST(threads_beyond_the_slots_are_refused_and_counted)
{
	pthread_t t[6];
	int refused = 0;

	ch = create(CONFIG(.n_producers = 4));
	pthread_barrier_init(&barrier, NULL, 6);
	for (int i = 0; i < 6; i++)
		t[i] = start(record_at_once, NULL);
	for (int i = 0; i < 6; i++) {
		intptr_t ret = (intptr_t)join(t[i]);

		OK(ret == 0 || ret == -EUSERS);
		refused += ret != 0;
	}
	EQ(refused, 2);
	EQ(lost(ch, RINGBUF_LOST_SLOTS), 2);
	EQ(record(ch, 16, 0), 0); /* they have ended */
	EQ(flush_and_read(ch), 5);
	CHECK_IDENTITIES(stats_of(ch), 7);
}

TEST(one_thread_records_into_many_channels)
{
	struct ringbuf_channel *c[20];

	for (int i = 0; i < 20; i++)
		c[i] = create(CONFIG());
	for (int n = 0; n < 50; n++)
		for (int i = 0; i < 20; i++)
			EQ(record(c[(i * 7 + n) % 20], 16, (uint64_t)n), 0);
	for (int i = 0; i < 20; i++)
		EQ(flush_and_read(c[i]), 50);
	for (int i = 0; i < 20; i++)
		ringbuf_close(c[i]);
}

static struct ringbuf_reservation left_open;

static void *
leave_open(void *arg)
{
	(void)arg;
	EQ(reserve(ch, &left_open, 16, 0), 0);
	return my_slot(ch);
}

TEST(a_thread_that_ends_over_an_open_record_keeps_its_slot_until_that_is_repaired)
{
	struct ringbuf_producer_slot *slot;

	ch = create(CONFIG(.n_producers = 3));
	slot = join(start(leave_open, NULL));
	EQ(ringbuf_ledger_state(atomic_load(&slot->ledger[0].word)), RINGBUF_LEDGER_OWNED);
	for (int i = 0; i < 10; i++)
		OK(join(start(record_one, NULL)) != slot);
	/* others go on until they come round to it; then the one who does repairs it */
	for (uint64_t i = 0; i < 3; i++)
		EQ(record(ch, 3900, i), 0);
	EQ(ringbuf_ledger_state(atomic_load(&slot->ledger[0].word)), RINGBUF_LEDGER_OWNED);
	EQ(record(ch, 3900, 9), -ENOBUFS);
	OK(ringbuf_ledger_is_idle(slot));
	EQ(stats_of(ch).lost[RINGBUF_LOST_WRAP], 0);
	EQ(stats_of(ch).lost[RINGBUF_LOST_TORN], 1);
	EQ(flush_and_read(ch), 10 + 3);
	OK(join(start(record_one, NULL)) == slot);
}

TEST(slots_of_the_dead_are_repaired_when_they_run_out)
{
	ch = create(CONFIG(.n_producers = 2, .n_subbufs = 16));
	EQ(record(ch, 16, 0), 0);
	for (int i = 0; i < 5; i++)
		join(start(leave_open, NULL)); /* from the second on, each must repair to get a slot */
	EQ(ringbuf_repair(ch), 1);
	EQ(flush_and_read(ch), 1);
	CHECK_IDENTITIES(stats_of(ch), 6);
	EQ(stats_of(ch).lost[RINGBUF_LOST_TORN], 5);
}

/* ---- death of a process ---- */

static void
wait_for(int *flag)
{
	uint64_t deadline = now_ns() + 20000 * MS;

	while (!__atomic_load_n(flag, __ATOMIC_ACQUIRE)) {
		CHECK(now_ns() < deadline, "a child did not come so far");
		sched_yield();
	}
}

static void
raise_flag(int *flag)
{
	__atomic_store_n(flag, 1, __ATOMIC_RELEASE);
}

static uint32_t
slots_with_a_living_owner(void)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < ch->n_producers; i++) {
		struct ringbuf_producer_slot *slot = ringbuf_producer_slot_at(ch, i);

		if (ringbuf_robust_lock(&slot->certificate, 0))
			n++;
		else
			ringbuf_robust_unlock(&slot->certificate);
	}
	return n;
}

TEST(a_killed_process_gives_its_slots_back)
{
	int *ready = shared_memory(sizeof(*ready));

	ch = create(CONFIG(.n_producers = 1));
	for (int i = 0; i < 5; i++) {
		pid_t pid = spawn();

		if (!pid) {
			EQ(record(ch, 16, 0), 0);
			raise_flag(ready);
			pause();
		}
		wait_for(ready);
		*ready = 0;
		EQ(slots_with_a_living_owner(), 1);
		EQ(record(ch, 16, 0), -EUSERS);
		kill_child(pid);
		EQ(slots_with_a_living_owner(), 0);
	}
	EQ(record(ch, 16, 0), 0);
	EQ(flush_and_read(ch), 6);
	CHECK_IDENTITIES(stats_of(ch), 11);
}

TEST(a_process_that_exits_gives_its_slots_back)
{
	ch = create(CONFIG(.n_producers = 1));
	for (int i = 0; i < 5; i++) {
		pid_t pid = spawn();

		if (!pid) {
			EQ(record(ch, 16, 0), 0);
			if (i % 2)
				exit(0);
			_exit(0);
		}
		reap(pid);
	}
	EQ(record(ch, 16, 0), 0);
	EQ(flush_and_read(ch), 6);
}

TEST(a_process_killed_over_a_record_leaves_its_ledger_to_a_repairer)
{
	int *ready = shared_memory(sizeof(*ready));
	struct ringbuf_producer_slot *slot;
	pid_t pid;

	ch = create(CONFIG(.n_producers = 2));
	pid = spawn();
	if (!pid) {
		EQ(reserve(ch, &left_open, 16, 0), 0);
		raise_flag(ready);
		pause();
	}
	wait_for(ready);
	kill_child(pid);
	slot = ringbuf_producer_slot_at(ch, 0);
	EQ(ringbuf_ledger_state(atomic_load(&slot->ledger[0].word)), RINGBUF_LEDGER_OWNED);
	OK(my_slot(ch) == slot + 1);
	EQ(record(ch, 16, 1), 0);
}

static void
die(void *arg)
{
	(void)arg;
	raise(SIGKILL);
}

TEST(a_process_killed_before_it_claimed_anything_leaves_nothing_to_repair)
{
	pid_t pid;

	ch = create(CONFIG(.n_producers = 1));
	pid = spawn();
	if (!pid) {
		my_slot(ch);
		ringbuf_ledger_take(my_slot(ch));
		die(NULL);
	}
	reap_killed(pid);
	EQ(record(ch, 16, 0), 0);
	EQ(flush_and_read(ch), 1);
}

TEST(a_process_killed_while_registering_leaves_the_slot_free)
{
	pid_t pid;

	ch = create(CONFIG(.n_producers = 1));
	pid = spawn();
	if (!pid) {
		hook_at("producer_registered", die, NULL);
		record(ch, 16, 0);
		_exit(1);
	}
	reap_killed(pid);
	EQ(record(ch, 16, 0), 0);
}

TEST(exec_ends_a_producer)
{
	for (int open = 0; open < 2; open++) {
		int until_exec[2];
		char c;
		pid_t pid;

		ch = create(CONFIG(.n_producers = 2));
		EQ(pipe2(until_exec, O_CLOEXEC), 0);
		pid = spawn();
		if (!pid) {
			close(until_exec[0]);
			EQ(record(ch, 16, 0), 0);
			if (open)
				EQ(reserve(ch, &left_open, 16, 0), 0);
			execl("/bin/sleep", "sleep", "1000", (char *)NULL);
			_exit(1);
		}
		close(until_exec[1]);
		EQ(read(until_exec[0], &c, 1), 0);
		EQ(slots_with_a_living_owner(), 0);
		OK(my_slot(ch) == ringbuf_producer_slot_at(ch, (uint32_t)open));
		EQ(record(ch, 16, 1), 0);
		kill_child(pid);
	}
}

/* ---- fork ---- */

TEST(a_forked_child_records_with_a_slot_of_its_own)
{
	struct ringbuf_producer_slot *slot;
	uint64_t forks;
	pid_t pid;

	ch = create(CONFIG());
	EQ(record(ch, 16, 0), 0);
	slot = my_slot(ch);
	forks = ringbuf_registry.forks;
	pid = spawn();
	if (!pid) {
		EQ(ringbuf_registry.forks, forks + 1);
		OK(my_slot(ch) != slot);
		for (uint64_t i = 0; i < 10; i++)
			EQ(record_event(ch, 1, 16, 1, 1, i), 0);
		_exit(0);
	}
	for (uint64_t i = 1; i < 10; i++)
		EQ(record(ch, 16, i), 0);
	OK(my_slot(ch) == slot);
	reap(pid);
	EQ(ringbuf_registry.forks, forks);
	EQ(flush_and_read(ch), 20);
	CHECK_IDENTITIES(stats_of(ch), 20);
}

TEST(a_fork_over_an_open_record_leaves_it_to_the_parent)
{
	struct ringbuf_reservation r;
	pid_t pid;

	ch = create(CONFIG());
	EQ(reserve(ch, &r, 16, 0), 0);
	pid = spawn();
	if (!pid) {
		OK(ringbuf_ledger_is_idle(my_slot(ch)));
		EQ(record_event(ch, 1, 16, 1, 1, 0), 0);
		exit(0);
	}
	reap(pid);
	ringbuf_commit(ch, &r);
	EQ(flush_and_read(ch), 2);
	CHECK_IDENTITIES(stats_of(ch), 2);
}

TEST(grandchildren_record_too_and_a_closed_channel_is_forgotten)
{
	struct ringbuf_channel *closed;
	pid_t pid;

	closed = create(CONFIG());
	EQ(record(closed, 16, 0), 0);
	ch = create(CONFIG());
	EQ(record(ch, 16, 0), 0);
	ringbuf_close(closed);
	pid = spawn();
	if (!pid) {
		EQ(record(ch, 16, 1), 0);
		pid = spawn();
		if (!pid) {
			EQ(record(ch, 16, 2), 0);
			ringbuf_close(ch);
			exit(0);
		}
		reap(pid);
		exit(0);
	}
	reap(pid);
	EQ(flush_and_read(ch), 3);
}

static atomic_int stop;

static void *
keep_recording(void *arg)
{
	uint64_t n = 0;

	while (!atomic_load(&stop))
		record_event(ch, 1, 16 + n % 100, 1, (uint32_t)(uintptr_t)arg, n), n++;
	return (void *)(uintptr_t)n;
}

TEST(forks_while_other_threads_record)
{
	uint64_t attempts = 0;
	pthread_t t[2];

	ch = create(CONFIG(.mode = RINGBUF_OVERWRITE, .n_subbufs = 16));
	for (uintptr_t i = 0; i < 2; i++)
		t[i] = start(keep_recording, (void *)i);
	for (int i = 0; i < 30; i++) {
		pid_t pid = spawn();

		if (!pid) {
			for (uint64_t n = 0; n < 20; n++) {
				int ret = record_event(ch, 1, 16, 1, 9, n);

				CHECK(ret == 0 || ret == -EIO, "%d", ret); /* round to one that sleeps over its record */
			}
			_exit(0);
		}
		reap(pid);
		attempts += 20;
	}
	atomic_store(&stop, 1);
	for (int i = 0; i < 2; i++)
		attempts += (uint64_t)(uintptr_t)join(t[i]);
	CHECK_IDENTITIES(stats_of(ch), attempts);
	flush_and_read(ch);
	CHECK_IDENTITIES(stats_of(ch), attempts);
}

/* ---- closing ---- */

static atomic_int go_on;
static uint8_t *mapped_at;

static int
is_mapped(const uint8_t *at)
{
	unsigned char in_core;

	return mincore((void *)(uintptr_t)at, 1, &in_core) == 0;
}

static void *
outlive_the_channel(void *arg)
{
	(void)arg;
	EQ(record(ch, 16, 0), 0);
	atomic_store(&go_on, 1);
	while (atomic_load(&go_on) == 1)
		sched_yield();
	OK(is_mapped(mapped_at)); /* my certificate lies in it */
	return NULL;
}

TEST(a_closed_channels_mapping_stays_until_the_last_recording_thread_has_ended)
{
	pthread_t t;

	ch = create(CONFIG());
	EQ(record(ch, 16, 0), 0);
	mapped_at = ch->base;
	t = start(outlive_the_channel, NULL);
	while (!atomic_load(&go_on))
		sched_yield();
	ringbuf_close(ch);
	OK(is_mapped(mapped_at));
	atomic_store(&go_on, 2);
	join(t);
	OK(!is_mapped(mapped_at));
}

TEST(a_thread_gives_closed_channels_up_when_it_registers_elsewhere)
{
	struct ringbuf_channel *first = create(CONFIG());

	EQ(record(first, 16, 0), 0);
	mapped_at = first->base;
	ch = create(CONFIG());
	pthread_mutex_lock(&ringbuf_registry.lock);
	first->refs++; /* another user of it, who closes it */
	pthread_mutex_unlock(&ringbuf_registry.lock);
	pthread_mutex_lock(&ringbuf_registry.lock);
	first->closed = 1;
	first->refs -= 2;
	pthread_mutex_unlock(&ringbuf_registry.lock);
	OK(is_mapped(mapped_at));
	EQ(record(ch, 16, 0), 0);
	OK(!is_mapped(mapped_at));
}

TEST(many_channels_come_and_go)
{
	for (int i = 0; i < 200; i++) {
		ch = create(CONFIG());
		EQ(record(ch, 16, 0), 0);
		OK(join(start(record_one, NULL)));
		EQ(flush_and_read(ch), 2);
		ringbuf_close(ch);
	}
	OK(!ringbuf_registry.channels);
}

/* ---- signals ---- */

static struct ringbuf_channel *handlers_channel;
static struct ringbuf_producer_slot *handlers_slot;
static volatile sig_atomic_t signals, handler_attempts;

/* From here on the handler runs as often as the system can make it, until no_more_signals(). */
static timer_t storm_timer;

static void
many_signals(void (*handler)(int))
{
	struct sigaction sa = {.sa_handler = handler};
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
	struct itimerspec every = {{0, 10000}, {0, 10000}};

	sigaction(SIGUSR1, &sa, NULL);
	EQ(timer_create(CLOCK_MONOTONIC, &event, &storm_timer), 0);
	EQ(timer_settime(storm_timer, 0, &every, NULL), 0);
}

static void
no_more_signals(void)
{
	timer_delete(storm_timer);
}

/* Have there been `n`, or has it been long enough? */
static int
enough_signals(int n, uint64_t end)
{
	return (signals >= n && now_ns() > end) || now_ns() > end + 5000 * MS;
}

static void
use_other_channel(int sig)
{
	(void)sig;
	CHECK(ringbuf_this_producer(handlers_channel)->slot == handlers_slot, "the wrong channel's slot");
	signals++;
}

/* The thread's "last channel used" must not name one channel with the slot of another. */
TEST(a_handler_and_its_thread_may_use_different_channels)
{
	struct ringbuf_channel *c[2];
	struct ringbuf_producer_slot *slots[2];

	for (int i = 0; i < 2; i++) {
		c[i] = create(CONFIG());
		slots[i] = my_slot(c[i]);
	}
	handlers_channel = c[0];
	handlers_slot = slots[0];
	many_signals(use_other_channel);
	for (uint64_t end = now_ns() + soak_ns(0.3); !enough_signals(1000, end);)
		for (int n = 0; n < 100; n++)
			OK(my_slot(c[n & 1]) == slots[n & 1]);
	no_more_signals();
	GT(signals, 10);
}

static void
attempt_in_handler(int sig)
{
	struct ringbuf_reservation r = {.event_id = 1, .payload_size = 8};

	(void)sig;
	EQ(ringbuf_reserve(ch, &r), -ESHUTDOWN);
	handler_attempts++;
	signals++;
}

TEST(refusals_are_counted_exactly_also_under_signals)
{
	uint64_t attempts = 0;

	ch = create(CONFIG());
	my_slot(ch);
	ringbuf_set_state(ch, RINGBUF_STATE_DISABLED, 1);
	many_signals(attempt_in_handler);
	for (uint64_t end = now_ns() + soak_ns(0.5); !enough_signals(2000, end);)
		for (int n = 0; n < 10000; n++, attempts++) {
			struct ringbuf_reservation r = {.event_id = 1, .payload_size = 8};

			EQ(ringbuf_reserve(ch, &r), -ESHUTDOWN);
		}
	no_more_signals();
	GT(handler_attempts, 10);
	EQ(lost(ch, RINGBUF_LOST_DISABLED), attempts + (uint64_t)handler_attempts);
}

/* ---- waiting for room ---- */

static struct reading rd;

static void
full_channel(uint64_t timeout_ns)
{
	ch = create(CONFIG(.n_subbufs = 2, .blocking_timeout_ns = timeout_ns));
	reading_init(&rd, ch, 0);
	EQ(record(ch, 3950, 0), 0);
	EQ(record(ch, 3950, 1), 0);
}

static void
until_someone_waits(void)
{
	uint64_t deadline = now_ns() + 20000 * MS;

	while (!atomic_load(&ringbuf_stream_at(ch, 0)->space_wanted)) {
		CHECK(now_ns() < deadline, "nobody waits");
		sched_yield();
	}
	sleep_ms(5); /* and asleep, most likely */
}

TEST(a_full_ring_is_waited_for_until_the_deadline)
{
	uint64_t begun, waited;

	full_channel(150 * MS);
	begun = now_ns();
	EQ(record(ch, 3950, 2), -ENOBUFS);
	waited = now_ns() - begun;
	GE(waited, 150 * MS);
	LT(waited, 2000 * MS);
	EQ(lost(ch, RINGBUF_LOST_FULL), 1); /* the tries in between are not counted */
	flush_and_read(ch);
	CHECK_IDENTITIES(stats_of(ch), 3);
}

static void *
record_blocking(void *arg)
{
	struct ringbuf_reservation r;
	int ret = reserve(ch, &r, 3950, (uintptr_t)arg);

	if (!ret)
		ringbuf_commit(ch, &r);
	return (void *)(intptr_t)ret;
}

TEST(a_reader_that_releases_a_packet_wakes_the_waiting)
{
	uint64_t timeouts[] = {20000 * MS, UINT64_MAX};

	for (int i = 0; i < 2; i++) {
		uint64_t begun = now_ns();
		pthread_t t;

		full_channel(timeouts[i]);
		t = start(record_blocking, (void *)2);
		until_someone_waits();
		flush(ch);
		EQ(ringbuf_get_next_subbuf(&rd.reader), 0);
		ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_BACK);
		sleep_ms(5);
		EQ(lost(ch, RINGBUF_LOST_FULL), 0);
		EQ(ringbuf_get_next_subbuf(&rd.reader), 0);
		ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_READ);
		EQ((intptr_t)join(t), 0);
		LT(now_ns() - begun, 15000 * MS);
		EQ(lost(ch, RINGBUF_LOST_FULL), 0);
		CHECK_IDENTITIES(stats_of(ch), 3);
	}
}

TEST(disabling_or_finalizing_wakes_the_waiting)
{
	for (int how = 0; how < 2; how++) {
		uint64_t begun = now_ns();
		pthread_t t;

		full_channel(UINT64_MAX);
		t = start(record_blocking, (void *)2);
		until_someone_waits();
		if (how)
			finalize(ch);
		else
			ringbuf_set_state(ch, RINGBUF_STATE_DISABLED, 1);
		EQ((intptr_t)join(t), -ESHUTDOWN);
		LT(now_ns() - begun, 10000 * MS);
		EQ(lost(ch, RINGBUF_LOST_DISABLED), 1);
		EQ(lost(ch, RINGBUF_LOST_FULL), 0);
		read_all(&rd);
		CHECK_IDENTITIES(stats_of(ch), 3);
	}
}

TEST(a_nested_record_does_not_wait)
{
	struct ringbuf_reservation outer, inner;
	uint64_t begun = now_ns();

	ch = create(CONFIG(.n_subbufs = 2, .blocking_timeout_ns = 20000 * MS));
	EQ(record(ch, 3950, 0), 0);
	EQ(reserve(ch, &outer, 2000, 1), 0);
	EQ(reserve(ch, &inner, 3000, 2), -ENOBUFS); /* it might wait for itself */
	LT(now_ns() - begun, 10000 * MS);
	EQ(lost(ch, RINGBUF_LOST_FULL), 1);
	ringbuf_commit(ch, &outer);
	CHECK_IDENTITIES(stats_of(ch), 3);
}

TEST(nonblock_and_nowait_do_not_wait)
{
	struct ringbuf_reservation r = {.event_id = 1, .payload_size = 3000, .flags = RINGBUF_NONBLOCK};
	uint64_t begun = now_ns();

	full_channel(20000 * MS);
	EQ(ringbuf_reserve(ch, &r), -EAGAIN);
	EQ(r.flags, RINGBUF_NONBLOCK);
	EQ(lost(ch, RINGBUF_LOST_FULL), 0);
	r.flags = RINGBUF_NOWAIT;
	EQ(ringbuf_reserve(ch, &r), -ENOBUFS);
	EQ(lost(ch, RINGBUF_LOST_FULL), 1);
	LT(now_ns() - begun, 10000 * MS);
}

TEST(a_record_too_big_is_refused_at_once_though_others_wait)
{
	uint64_t begun = now_ns();

	full_channel(20000 * MS);
	EQ(record(ch, 5000, 0), -ENOSPC);
	LT(now_ns() - begun, 10000 * MS);
}

TEST(an_overwriting_channel_does_not_wait)
{
	ch = create(CONFIG(.mode = RINGBUF_OVERWRITE, .n_subbufs = 2, .blocking_timeout_ns = UINT64_MAX));
	for (uint64_t i = 0; i < 10; i++)
		EQ(record(ch, 3950, i), 0);
}

TEST(a_sub_buffer_that_is_still_written_is_waited_for_too)
{
	struct ringbuf_reservation open;
	uint64_t begun = now_ns();
	pthread_t t;

	ch = create(CONFIG(.n_subbufs = 2, .blocking_timeout_ns = 20000 * MS));
	reading_init(&rd, ch, 0);
	EQ(reserve(ch, &open, 3950, 0), 0);
	t = start(record_blocking, (void *)1);
	EQ((intptr_t)join(t), 0);
	t = start(record_blocking, (void *)2);
	until_someone_waits();
	ringbuf_commit(ch, &open);
	read_all(&rd);
	EQ((intptr_t)join(t), 0);
	LT(now_ns() - begun, 15000 * MS);
	CHECK_IDENTITIES(stats_of(ch), 3);
}

static void
interrupt(int sig)
{
	(void)sig;
	signals++;
}

TEST(signals_do_not_end_the_waiting)
{
	uint64_t begun;

	full_channel(300 * MS);
	many_signals(interrupt);
	begun = now_ns();
	EQ(record(ch, 3950, 2), -ENOBUFS);
	GE(now_ns() - begun, 300 * MS);
	LT(now_ns() - begun, 5000 * MS);
	no_more_signals();
	GT(signals, 0);
	EQ(lost(ch, RINGBUF_LOST_FULL), 1);
}

/* Room appears just as the look at the slot is over, and another producer takes part of it. */
static void
room_and_company(void *arg)
{
	(void)arg;
	read_all(&rd);
	EQ((intptr_t)join(start(record_one, NULL)), (intptr_t)ringbuf_producer_slot_at(ch, 1));
}

TEST(room_that_appears_between_the_look_and_the_sleep_is_not_missed)
{
	for (unsigned int look = 0; look < 2; look++) {
		uint64_t begun = now_ns();

		full_channel(20000 * MS);
		flush(ch);
		hook_after("switch_slot_sampled", look, room_and_company, NULL);
		EQ(record(ch, 100, 2), 0);
		hooks_done();
		LT(now_ns() - begun, 10000 * MS);
		EQ(flush_and_read(ch), 2);
		CHECK_IDENTITIES(stats_of(ch), 4);
	}
}

/* Producers that wait, against one reader: everything arrives, nothing is lost. */
#define BLOCKED 4

static void *
record_many(void *arg)
{
	uint32_t me = (uint32_t)(uintptr_t)arg;

	for (uint64_t n = 0; n < 3000; n++)
		EQ(record_event(ch, 1, 16 + n % 300, 1, me, n), 0);
	return NULL;
}

static uint64_t next_seq[BLOCKED];

static void
in_order(const struct record *rec, void *arg)
{
	(void)arg;
	LT(rec->stamp.producer, BLOCKED);
	EQ(rec->stamp.seq, next_seq[rec->stamp.producer]);
	next_seq[rec->stamp.producer]++;
}

static void *
read_on(void *arg)
{
	(void)arg;
	while (!atomic_load(&stop)) {
		if (!read_all(&rd))
			usleep(200);
	}
	return NULL;
}

TEST(with_waiting_producers_and_a_slow_reader_nothing_is_lost)
{
	pthread_t t[BLOCKED], reader;

	ch = create(CONFIG(.blocking_timeout_ns = UINT64_MAX, .n_subbufs = 2));
	reading_init(&rd, ch, 0);
	rd.each = in_order;
	reader = start(read_on, NULL);
	for (uintptr_t i = 0; i < BLOCKED; i++)
		t[i] = start(record_many, (void *)i);
	for (int i = 0; i < BLOCKED; i++)
		join(t[i]);
	atomic_store(&stop, 1);
	join(reader);
	flush(ch);
	read_all(&rd);
	for (int i = 0; i < BLOCKED; i++)
		EQ(next_seq[i], 3000);
	CHECK_IDENTITIES(stats_of(ch), 3000 * BLOCKED);
	EQ(lost(ch, RINGBUF_LOST_FULL) + lost(ch, RINGBUF_LOST_WRAP), 0);
}

/* Others take the room each time: the deadline still holds. */
static void *
take_all_room(void *arg)
{
	struct ringbuf_reservation r = {.event_id = 1, .payload_size = 16,
					.flags = RINGBUF_NOWAIT | RINGBUF_LENGTH_PREFIX};

	(void)arg;
	while (!atomic_load(&stop))
		if (ringbuf_reserve(ch, &r) == 0) {
			stamp_payload(r.payload, 16, 0, 0);
			ringbuf_commit(ch, &r);
		}
	return NULL;
}

TEST(a_deadline_holds_against_company_that_takes_all_room)
{
	pthread_t t[2];
	uint64_t end = now_ns() + soak_ns(0.4);

	ch = create(CONFIG(.blocking_timeout_ns = 20 * MS, .n_subbufs = 2));
	reading_init(&rd, ch, 0);
	t[0] = start(take_all_room, NULL);
	t[1] = start(read_on, NULL);
	while (now_ns() < end) {
		uint64_t begun = now_ns();

		record(ch, 3950, 0);
		LT(now_ns() - begun, 5000 * MS);
	}
	atomic_store(&stop, 1);
	join(t[0]);
	join(t[1]);
}
