/*
 * Load: threads and processes record, discard, nest, flush, migrate and take
 * signals while a reader drains. At the end every counter agrees with what the
 * producers counted themselves, and in discard mode everything that was
 * committed has arrived once, in its producer's order.
 */
#include "harness.h"

#define DEPTHS 8    /* of signal handlers over a thread; one identity each */
#define THREADS 4
#define PROCESSES 3
#define IDS (PROCESSES * THREADS * DEPTHS)

/* One source of records that come one after another: a thread, or its handlers of one depth. */
struct source {
	uint64_t attempts, committed, discarded, lost[RINGBUF_N_CAUSES], seq_sum;
	/* the reader's: */
	uint64_t read, read_sum, last_seq[8]; /* in each stream; seq + 1 */
};

struct load {
	uint32_t mode, streams, n_streams, threads, processes;
	uint64_t start_pos, n_subbufs;
	uint32_t header;
	int flushes, signals, migrates, snapshots, no_reader;
	double seconds;
};

static struct ringbuf_channel *ch;
static const struct load *load;
static struct source *sources; /* shared */
static atomic_int *stop;       /* shared */

static enum ringbuf_cause
cause_of(int ret)
{
	int cause = ringbuf_loss_of_error(ret);

	if (cause < 0)
		FAIL("ringbuf_reserve returned %d", ret);
	return (enum ringbuf_cause)cause;
}

/* ---- producers ---- */

static _Thread_local uint32_t my_id;             /* of depth 0 */
static _Thread_local volatile sig_atomic_t depth;
static _Thread_local uint64_t handler_rnd;       /* handlers must not disturb rnd_state */

static uint64_t
quick_random(void)
{
	uint64_t x = handler_rnd += UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	return (x ^ (x >> 27)) >> 8;
}

static uint64_t
random_size(uint64_t r)
{
	switch (r % 64) {
	case 0: return 5000; /* too big, in small sub-buffers */
	case 1: return ringbuf_subbuf_size(&ch->geometry) - 200 + r / 64 % 120;
	case 2:
	case 3: return 16 + r / 64 % 2000;
	default: return 16 + r / 64 % 100;
	}
}

/* One record of a source; perhaps something nested in it; committed, or now and then discarded. */
static int
attempt(uint32_t id, void (*inside)(void))
{
	struct source *src = &sources[id];
	struct ringbuf_reservation r = {.event_id = 1, .flags = RINGBUF_LENGTH_PREFIX};
	uint64_t random = quick_random(), seq;
	int ret;

	r.payload_size = random_size(random / 64);
	src->attempts++;
	ret = ringbuf_reserve(ch, &r);
	if (ret) {
		src->lost[cause_of(ret)]++;
		return ret;
	}
	if (random % 64 < 6) {
		memset(r.payload, 0xdd, r.payload_size);
		if (inside)
			inside();
		ringbuf_discard(ch, &r);
		src->discarded++;
		return 0;
	}
	seq = src->committed;
	stamp_payload(r.payload, r.payload_size, id, seq);
	if (inside)
		inside();
	ringbuf_commit(ch, &r);
	src->committed++;
	src->seq_sum += seq;
	return 0;
}

static void
raise_another(void)
{
	if (quick_random() % 4 == 0)
		raise(SIGUSR1);
}

static void
on_signal(int sig)
{
	int saved = errno;

	(void)sig;
	if (depth + 1 < DEPTHS) {
		depth++;
		attempt(my_id + (uint32_t)depth, raise_another);
		depth--;
	}
	errno = saved;
}

static void
nest_some(void)
{
	if (load->signals)
		raise_another();
}

#ifndef sigev_notify_thread_id /* its name in timer_create(2), which older C libraries do not have */
#define sigev_notify_thread_id _sigev_un._tid
#endif

static timer_t
start_signals(void)
{
	struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_NODEFER | SA_RESTART};
	struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1};
	struct itimerspec every = {{0, 30000}, {0, 30000}};
	timer_t timer = NULL;

	event.sigev_notify_thread_id = gettid();
	sigaction(SIGUSR1, &sa, NULL);
	EQ(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
	EQ(timer_settime(timer, 0, &every, NULL), 0);
	return timer;
}

static void *
produce(void *arg)
{
	int cpus[8], n_cpus = allowed_cpus(cpus, 8);
	struct ringbuf_producer_slot *slot;
	timer_t timer = NULL;

	my_id = (uint32_t)(uintptr_t)arg;
	handler_rnd = test_seed + my_id * 77;
	rnd_seed(my_id);
	slot = my_slot(ch);
	if (load->signals)
		timer = start_signals();
	while (!atomic_load_explicit(stop, memory_order_relaxed)) {
		int ret = attempt(my_id, nest_some);

		if (ret == -ENOBUFS || ret == -EIO)
			sched_yield(); /* full, or round to one that sleeps over its record: let others on */
		if (rnd_below(100) == 0)
			sched_yield();
		if (load->migrates && rnd_below(64) == 0)
			pin(cpus[rnd_below((uint64_t)n_cpus)]);
		if (load->flushes && rnd_below(50) == 0)
			ringbuf_flush(ch, slot, (uint32_t)rnd_below(ch->n_streams),
				      rnd_below(4) ? 0 : RINGBUF_FLUSH_EMPTY);
	}
	if (load->signals) {
		sigset_t set;

		timer_delete(timer);
		sigemptyset(&set);
		sigaddset(&set, SIGUSR1);
		pthread_sigmask(SIG_BLOCK, &set, NULL); /* a last one may be on its way */
	}
	return NULL;
}

static void
produce_all(uint32_t process)
{
	pthread_t t[THREADS];

	for (uint32_t i = 0; i < load->threads; i++)
		t[i] = start(produce, (void *)(uintptr_t)((process * THREADS + i) * DEPTHS));
	for (uint32_t i = 0; i < load->threads; i++)
		join(t[i]);
}

/* ---- the reader ---- */

static void
see(const struct record *rec, void *arg)
{
	uint32_t stream = (uint32_t)(uintptr_t)arg;
	struct source *src;

	LT(rec->stamp.producer, IDS);
	src = &sources[rec->stamp.producer];
	CHECK(rec->stamp.seq + 1 > src->last_seq[stream], "source %u: %llu after %llu", rec->stamp.producer,
	      (unsigned long long)rec->stamp.seq, (unsigned long long)src->last_seq[stream] - 1);
	if (load->mode == RINGBUF_DISCARD && ch->n_streams == 1)
		EQ(rec->stamp.seq, src->last_seq[stream]);
	src->last_seq[stream] = rec->stamp.seq + 1;
	src->read++;
	src->read_sum += rec->stamp.seq;
}

static void
snapshot(struct reading *rd)
{
	struct ringbuf_stream_reader *r = &rd->reader;
	uint64_t from, to;

	ringbuf_snapshot_range(r, &from, &to);
	for (; from != to; from = ringbuf_pos_add(from, ringbuf_subbuf_size(&ch->geometry)))
		if (ringbuf_get_subbuf(r, from) == 0) {
			struct reading look = {.reader = *r, .plain = 0};

			check_packet(&look);
			ringbuf_put_subbuf(r, RINGBUF_PUT_BACK);
		}
}

/* Read what there is, wait for the streams' records to stop, and count. */
static void
drain(struct reading *rd)
{
	for (uint32_t i = 0; i < ch->n_streams; i++) {
		if (load->snapshots && rnd_below(3) == 0)
			snapshot(&rd[i]);
		else
			read_all(&rd[i]);
	}
}

static void
settle(struct reading *rd)
{
	uint64_t attempts = 0, committed = 0, discarded = 0, read = 0, lost[RINGBUF_N_CAUSES] = {0}, records = 0;
	struct ringbuf_stats st = stats_of(ch);

	for (uint32_t id = 0; id < IDS; id++) {
		attempts += sources[id].attempts;
		committed += sources[id].committed;
		discarded += sources[id].discarded;
		for (int cause = 0; cause < RINGBUF_N_CAUSES; cause++)
			lost[cause] += sources[id].lost[cause];
	}
	CHECK_IDENTITIES(st, attempts);
	EQ(st.written, committed);
	EQ(st.discarded, discarded);
	for (int cause = 0; cause <= RINGBUF_LOST_DISABLED; cause++)
		EQ(st.lost[cause], lost[cause]);
	flush(ch);
	for (uint32_t i = 0; i < ch->n_streams; i++) {
		read_all(&rd[i]);
		records += rd[i].records;
	}
	st = stats_of(ch);
	CHECK_IDENTITIES(st, attempts);
	EQ(st.unread, 0);
	EQ(st.read, records);
	for (uint32_t id = 0; id < IDS; id++) {
		read += sources[id].read;
		if (load->mode == RINGBUF_DISCARD) {
			EQ(sources[id].read, sources[id].committed);
			EQ(sources[id].read_sum, sources[id].seq_sum);
		}
	}
	EQ(read, records);
	if (load->mode == RINGBUF_DISCARD)
		EQ(st.overrun, 0);
	GT(records, 0);
	for (uint32_t i = 0; i < ch->n_streams; i++)
		EQ(rd[i].discarded <= lost_total(&st), 1);
	printf("# %llu attempts, %llu committed, %llu discarded, %llu read, lost %llu full %llu wrap %llu nesting\n",
	       (unsigned long long)attempts, (unsigned long long)committed, (unsigned long long)discarded,
	       (unsigned long long)records, (unsigned long long)lost[RINGBUF_LOST_FULL],
	       (unsigned long long)lost[RINGBUF_LOST_WRAP], (unsigned long long)lost[RINGBUF_LOST_NESTING]);
}

static void
run_load(const struct load *l)
{
	struct reading rd[8];
	pid_t pids[PROCESSES];
	uint64_t end;

	if (TSAN && l->processes > 1)
		SKIP("ThreadSanitizer does not see what other processes order");
	load = l;
	sources = shared_memory(sizeof(*sources) * IDS);
	stop = shared_memory(sizeof(*stop));
	ch = create(CONFIG(.mode = l->mode, .streams = l->streams, .n_streams = l->n_streams, .header = l->header,
			   .n_subbufs = l->n_subbufs ? l->n_subbufs : 8, .start_pos = l->start_pos));
	OK(ch->n_streams <= 8);
	for (uint32_t i = 0; i < ch->n_streams; i++) {
		reading_init(&rd[i], ch, i);
		rd[i].each = see;
		rd[i].arg = (void *)(uintptr_t)i;
	}
	for (uint32_t p = 0; p < l->processes; p++) {
		pids[p] = spawn();
		if (!pids[p]) {
			produce_all(p);
			_exit(0);
		}
	}
	for (end = now_ns() + soak_ns(l->seconds ? l->seconds : 0.5); now_ns() < end;) {
		if (l->no_reader)
			sleep_ms(10);
		else
			drain(rd);
	}
	atomic_store(stop, 1);
	for (uint32_t p = 0; p < l->processes; p++) {
		int status;

		do { /* blocked on nothing: overwrite and discard producers never wait */
			if (!l->no_reader)
				drain(rd);
		} while (waitpid(pids[p], &status, l->no_reader ? 0 : WNOHANG) == 0);
		CHECK(status == 0, "a producing process ended with status %#x", status);
	}
	settle(rd);
}

/* Rings that begin just below what wraps: the position, and the byte half of the counters. */
#define RING (UINT64_C(8) * 4096)
#define BELOW_WRAP (POS_END - RING)
#define BELOW_COUNTER_WRAP ((UINT64_C(1) << 20) * RING - 2 * RING)

TEST(threads_in_a_global_stream_discard)
{
	run_load(&(struct load){.mode = RINGBUF_DISCARD, .streams = RINGBUF_GLOBAL, .threads = 4, .processes = 1,
				.start_pos = BELOW_WRAP});
}

TEST(threads_in_a_global_stream_overwrite)
{
	run_load(&(struct load){.mode = RINGBUF_OVERWRITE, .streams = RINGBUF_GLOBAL, .threads = 4, .processes = 1,
				.start_pos = BELOW_WRAP});
}

TEST(threads_in_cpu_streams_discard)
{
	run_load(&(struct load){.mode = RINGBUF_DISCARD, .streams = RINGBUF_PER_CPU, .threads = 4, .processes = 1,
				.n_streams = 4, .start_pos = BELOW_COUNTER_WRAP});
}

TEST(threads_in_cpu_streams_overwrite)
{
	run_load(&(struct load){.mode = RINGBUF_OVERWRITE, .streams = RINGBUF_PER_CPU, .threads = 4, .processes = 1,
				.n_streams = 4, .start_pos = BELOW_WRAP, .header = RINGBUF_LARGE});
}

TEST(processes_in_a_global_stream_discard)
{
	run_load(&(struct load){.mode = RINGBUF_DISCARD, .streams = RINGBUF_GLOBAL, .threads = 2, .processes = 3,
				.start_pos = BELOW_COUNTER_WRAP, .flushes = 1});
}

TEST(processes_in_cpu_streams_overwrite)
{
	run_load(&(struct load){.mode = RINGBUF_OVERWRITE, .streams = RINGBUF_PER_CPU, .threads = 2, .processes = 3,
				.n_streams = 4, .flushes = 1});
}

TEST(remote_flushes_under_load_discard)
{
	run_load(&(struct load){.mode = RINGBUF_DISCARD, .streams = RINGBUF_PER_CPU, .threads = 4, .processes = 1,
				.n_streams = 4, .start_pos = BELOW_WRAP, .flushes = 1, .header = RINGBUF_LARGE});
}

TEST(remote_flushes_under_load_overwrite_the_smallest_ring)
{
	run_load(&(struct load){.mode = RINGBUF_OVERWRITE, .streams = RINGBUF_GLOBAL, .threads = 4, .processes = 1,
				.n_subbufs = 2, .start_pos = POS_END - 2 * 4096, .flushes = 1});
}

TEST(migrating_threads_discard)
{
	run_load(&(struct load){.mode = RINGBUF_DISCARD, .streams = RINGBUF_PER_CPU, .threads = 4, .processes = 1,
				.n_streams = 4, .migrates = 1, .flushes = 1});
}

TEST(migrating_threads_overwrite)
{
	run_load(&(struct load){.mode = RINGBUF_OVERWRITE, .streams = RINGBUF_PER_CPU, .threads = 4, .processes = 1,
				.n_streams = 4, .migrates = 1, .flushes = 1, .start_pos = BELOW_WRAP});
}

TEST(signal_handlers_record_at_random_instants_discard)
{
	run_load(&(struct load){.mode = RINGBUF_DISCARD, .streams = RINGBUF_GLOBAL, .threads = 2, .processes = 1,
				.signals = 1, .start_pos = BELOW_WRAP, .seconds = 0.8});
}

TEST(signal_handlers_record_at_random_instants_overwrite)
{
	run_load(&(struct load){.mode = RINGBUF_OVERWRITE, .streams = RINGBUF_PER_CPU, .threads = 2, .processes = 2,
				.n_streams = 4, .signals = 1, .flushes = 1, .seconds = 0.8});
}

TEST(snapshots_under_load)
{
	run_load(&(struct load){.mode = RINGBUF_OVERWRITE, .streams = RINGBUF_GLOBAL, .threads = 3, .processes = 1,
				.snapshots = 1, .flushes = 1, .start_pos = BELOW_WRAP});
}

TEST(a_flight_recorder_that_nobody_reads)
{
	run_load(&(struct load){.mode = RINGBUF_OVERWRITE, .streams = RINGBUF_PER_CPU, .threads = 4, .processes = 2,
				.n_streams = 4, .no_reader = 1, .start_pos = BELOW_WRAP, .signals = 1});
}

TEST(a_full_ring_that_nobody_reads)
{
	run_load(&(struct load){.mode = RINGBUF_DISCARD, .streams = RINGBUF_GLOBAL, .threads = 4, .processes = 2,
				.no_reader = 1, .seconds = 0.2});
}
