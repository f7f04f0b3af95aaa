/* clock.h: counters, their rate and their place in time. */
#include "harness.h"

static const struct ringbuf_channel tsc = {.clock = RINGBUF_CLOCK_TSC};
static const struct ringbuf_channel monotonic = {.clock = RINGBUF_CLOCK_MONOTONIC};

TEST(both_reads_of_a_clock_tell_the_same_time)
{
	const struct ringbuf_channel *channels[] = {&tsc, &monotonic};

	for (int i = 0; i < 2; i++)
		for (int n = 0; n < 100000; n++) {
			uint64_t a = ringbuf_clock_ordered(channels[i]);
			uint64_t b = ringbuf_clock_early(channels[i]);
			uint64_t c = ringbuf_clock_ordered(channels[i]);

			LE(a, b);
			LE(b, c);
		}
}

TEST(the_monotonic_clock_is_the_systems)
{
	uint64_t before = now_ns(), at = ringbuf_clock_ordered(&monotonic);

	LE(before, at);
	LE(at, now_ns());
}

TEST(the_measured_rate_is_the_counters_rate)
{
	uint64_t freq = ringbuf_tsc_measure_freq(), t0, ns0, t1, ns1;
	double measured;

	GE(freq, 1000000);
	for (int tries = 0;; tries++) {
		ringbuf_clock_pair(CLOCK_MONOTONIC_RAW, &t0, &ns0);
		sleep_ms(100);
		ringbuf_clock_pair(CLOCK_MONOTONIC_RAW, &t1, &ns1);
		measured = (double)(t1 - t0) * 1e9 / (double)(ns1 - ns0);
		if (measured > 0.999 * (double)freq && measured < 1.001 * (double)freq)
			return;
		CHECK(tries < 5, "%.0f ticks per second, measured %llu", measured,
		      (unsigned long long)freq);
		freq = ringbuf_tsc_measure_freq(); /* a busy machine can spoil one */
	}
}

/* What a reader of the trace makes of a tick. */
static double
unix_time(uint64_t tick, uint64_t freq, int64_t offset_s, uint64_t offset)
{
	return (double)offset_s + ((double)offset + (double)(tick % freq)) / (double)freq +
	       (double)(tick / freq);
}

TEST(the_offset_puts_a_tick_at_its_unix_time)
{
	int clocks[] = {RINGBUF_CLOCK_TSC, RINGBUF_CLOCK_MONOTONIC};

	for (int i = 0; i < 2; i++) {
		const struct ringbuf_channel *ch = i ? &monotonic : &tsc;
		uint64_t freq = i ? RINGBUF_NS_PER_S : ringbuf_tsc_measure_freq(), offset, tick;
		int64_t offset_s;
		double now, then;

		ringbuf_clock_offset(clocks[i], freq, &offset_s, &offset);
		LT(offset, freq);
		tick = ringbuf_clock_ordered(ch);
		then = unix_time(tick, freq, offset_s, offset);
		now = (double)ringbuf_clock_ns(CLOCK_REALTIME) / 1e9;
		CHECK(now - then < 0.05 && then - now < 0.05, "off by %f s", now - then);
	}
}

TEST(a_channel_says_how_to_read_its_clock)
{
	struct ringbuf_channel *ch = create(CONFIG(.clock = RINGBUF_CLOCK_MONOTONIC));

	EQ(ch->super->clock_freq, RINGBUF_NS_PER_S);
	LT(ch->super->clock_offset, ch->super->clock_freq);
	ch = create(CONFIG(.clock = RINGBUF_CLOCK_TSC, .clock_freq = 0));
	GE(ch->super->clock_freq, 1000000);
	LT(ch->super->clock_offset, ch->super->clock_freq);
	ch = create(CONFIG(.clock = RINGBUF_CLOCK_TSC, .clock_freq = 123456789));
	EQ(ch->super->clock_freq, 123456789);
	ch = create(CONFIG(.clock = RINGBUF_CLOCK_CUSTOM, .clock_freq = 1000, .clock_offset_s = -5,
			   .clock_offset = 17));
	EQ(ch->super->clock_freq, 1000);
	EQ(ch->super->clock_offset_s, -5);
	EQ(ch->super->clock_offset, 17);
	ch = create(CONFIG(.clock = RINGBUF_CLOCK_CUSTOM, .clock_freq = 0));
	EQ(ch->super->clock_freq, RINGBUF_NS_PER_S);
}

TEST(records_have_the_time_of_their_reservation)
{
	for (uint32_t clock = RINGBUF_CLOCK_TSC; clock <= RINGBUF_CLOCK_MONOTONIC; clock++) {
		struct ringbuf_channel *ch = create(CONFIG(.clock = clock));
		uint64_t last = 0;

		for (int i = 0; i < 100; i++) {
			struct ringbuf_reservation r;
			uint64_t before = ringbuf_clock_ordered(ch);

			EQ(reserve(ch, &r, 16, (uint64_t)i), 0);
			LE(before, r.timestamp);
			LE(r.timestamp, ringbuf_clock_ordered(ch));
			LE(last, r.timestamp);
			last = r.timestamp;
			ringbuf_commit(ch, &r);
		}
		EQ(flush_and_read(ch), 100);
	}
}

/* ---- the argument for early reads, on the real machine ---- */

static struct ringbuf_channel *ch;
static atomic_int stop;
static int cpus[2];

/* Records, moving from CPU to CPU as often as it can. */
static void *
migrate_and_record(void *arg)
{
	uint32_t me = (uint32_t)(uintptr_t)arg;
	uint64_t seq = 0;

	rnd_seed(me + 1);
	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		pin(cpus[rnd_below(2)]);
		for (uint64_t n = rnd_below(40); n; n--)
			if (record_event(ch, 1, 16 + rnd_below(32), 1, me, seq) == 0)
				seq++;
	}
	return NULL;
}

/* Moves other threads in the middle of whatever they do. */
static pid_t tids[2];

static void *
record_while_moved(void *arg)
{
	uint32_t me = (uint32_t)(uintptr_t)arg;
	uint64_t seq = 0;

	__atomic_store_n(&tids[me], gettid(), __ATOMIC_RELEASE);
	while (!atomic_load_explicit(&stop, memory_order_relaxed))
		if (record_event(ch, 1, 16, 1, me, seq) == 0)
			seq++;
	return NULL;
}

static void *
move_others(void *arg)
{
	(void)arg;
	rnd_seed(99);
	while (!atomic_load_explicit(&stop, memory_order_relaxed))
		for (int i = 0; i < 2; i++) {
			pid_t tid = __atomic_load_n(&tids[i], __ATOMIC_ACQUIRE);
			cpu_set_t set;

			CPU_ZERO(&set);
			CPU_SET(cpus[rnd_below(2)], &set);
			if (tid)
				sched_setaffinity(tid, sizeof(set), &set);
		}
	return NULL;
}

static void *
flush_remotely(void *arg)
{
	struct ringbuf_producer_slot *slot = my_slot(ch);

	(void)arg;
	for (uint32_t i = 0; !atomic_load_explicit(&stop, memory_order_relaxed); i++) {
		EQ(ringbuf_flush(ch, slot, i % ch->n_streams, 0), 0);
		if (i % 16 == 0)
			sched_yield();
	}
	return NULL;
}

/* Threads, in the end: read both streams, checking that time goes on (harness.h does). */
static void
record_and_read(void *(*const *fns)(void *), int n, double seconds)
{
	struct reading rd[2];
	uint64_t end = now_ns() + soak_ns(seconds), records = 0;
	pthread_t t[4];

	for (uint32_t i = 0; i < ch->n_streams; i++)
		reading_init(&rd[i], ch, i);
	for (intptr_t i = 0; i < n; i++)
		t[i] = start(fns[i], (void *)i);
	while (now_ns() < end)
		for (uint32_t i = 0; i < ch->n_streams; i++)
			read_all(&rd[i]);
	atomic_store(&stop, 1);
	for (int i = 0; i < n; i++)
		join(t[i]);
	flush(ch);
	for (uint32_t i = 0; i < ch->n_streams; i++) {
		read_all(&rd[i]);
		records += rd[i].records;
	}
	GT(records, 1000);
}

static void
two_cpu_channel(uint32_t n_streams, uint32_t streams)
{
	need_cpus(2);
	allowed_cpus(cpus, 2);
	if (n_streams > 1 && (cpus[0] > 1 || cpus[1] > 1))
		n_streams = ringbuf_cpus_possible();
	if (n_streams > 2)
		SKIP("written for CPUs 0 and 1");
	ch = create(CONFIG(.streams = streams, .n_streams = n_streams, .subbuf_size = 16384, .n_subbufs = 32));
}

TEST(time_does_not_go_back_while_threads_change_cpus)
{
	void *(*const fns[])(void *) = {migrate_and_record, migrate_and_record};

	two_cpu_channel(2, RINGBUF_PER_CPU);
	record_and_read(fns, 2, 1.0);
}

TEST(time_does_not_go_back_while_threads_are_moved_and_flushed_from_afar)
{
	void *(*const fns[])(void *) = {record_while_moved, record_while_moved, move_others, flush_remotely};

	two_cpu_channel(2, RINGBUF_PER_CPU);
	record_and_read(fns, 4, 1.5);
}

TEST(time_does_not_go_back_where_cpus_share_a_stream)
{
	void *(*const fns[])(void *) = {migrate_and_record, migrate_and_record, flush_remotely};

	two_cpu_channel(1, RINGBUF_PER_CPU);
	record_and_read(fns, 3, 1.0);
}

TEST(time_does_not_go_back_in_a_global_stream)
{
	void *(*const fns[])(void *) = {migrate_and_record, migrate_and_record, flush_remotely};

	two_cpu_channel(1, RINGBUF_GLOBAL);
	record_and_read(fns, 3, 1.0);
}
