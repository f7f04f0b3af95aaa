/* consumer.h: what is recorded is in the files, what is not is in the ring or counted. */
#define HARNESS_HOOKS
#include "harness.h"

#include <dirent.h>
#include <ftw.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include <ringbuf/consumer.h>

#define MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)
#define FOR_EVER UINT64_MAX

/* ---- directories ---- */

static char work_dir[64]; /* of this case, removed when it ends well */

static int
remove_entry(const char *path, const struct stat *st UNUSED, int flag UNUSED, struct FTW *at UNUSED)
{
	return remove(path);
}

static void
remove_tree(const char *path)
{
	nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static void
remove_work_dir(void)
{
	remove_tree(work_dir);
}

/* A path in this case's own directory; forgotten after eight more. */
static const char *
in_work_dir(const char *fmt, ...)
{
	static char paths[8][160];
	static unsigned int next;
	char *path = paths[next++ % 8];
	va_list args;
	int n;

	if (!*work_dir) {
		strcpy(work_dir, "/tmp/test_consumer.XXXXXX");
		CHECK(mkdtemp(work_dir), "%s", strerror(errno));
		atexit(remove_work_dir);
	}
	n = snprintf(path, sizeof(paths[0]), "%s/", work_dir);
	va_start(args, fmt);
	vsnprintf(path + n, sizeof(paths[0]) - (size_t)n, fmt, args);
	va_end(args);
	return path;
}

static uint64_t
file_size(const char *path)
{
	struct stat st;

	return stat(path, &st) ? 0 : (uint64_t)st.st_size;
}

static unsigned int
entries_in(const char *path)
{
	DIR *d = opendir(path);
	unsigned int n = 0;

	CHECK(d, "%s: %s", path, strerror(errno));
	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

/* ---- a trace, read back ---- */

#define PRODUCERS_MAX 8
#define SEQ_MAX (UINT64_C(1) << 22)

/* Which records were found: shared by the traces of one case. */
struct found {
	uint8_t *times[PRODUCERS_MAX];
	uint64_t records, repeated;
};

/* What a reader of the files can tell, as babeltrace2 does. */
struct trace {
	const struct ringbuf_channel *ch;
	struct found *found;
	int torn_end;     /* the last packet of a file may be incomplete */
	uint64_t packets, records, bytes, files;
	uint64_t told;    /* losses */
	uint64_t gaps;    /* packets missing inside a file */
	uint64_t unknown; /* files that begin with an unknown number of losses */
	uint64_t first_seq, last_seq;
	uint64_t end;     /* newest packet's timestamp_end */
};

static void
found_one(struct found *found, const struct record *rec)
{
	uint8_t **times;

	check_stamp(rec);
	LT(rec->stamp.producer, PRODUCERS_MAX);
	LT(rec->stamp.seq, SEQ_MAX);
	times = &found->times[rec->stamp.producer];
	if (!*times)
		*times = shared_memory(SEQ_MAX);
	found->records++;
	found->repeated += (*times)[rec->stamp.seq] != 0;
	(*times)[rec->stamp.seq]++;
}

/* All sequence numbers below `n` were found. */
static void
check_found_all(const struct found *found, uint32_t producer, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		CHECK(found->times[producer] && found->times[producer][i], "record %llu of producer %u",
		      (unsigned long long)i, producer);
}

/* The packet at `data`, described by its own header. */
static struct ringbuf_packet
packet_at(const uint8_t *data, uint32_t stream_idx)
{
	return (struct ringbuf_packet){
		.stream_idx = stream_idx,
		.data = data,
		.timestamp_begin = get_le(data + 32, 8),
		.timestamp_end = get_le(data + 40, 8),
		.content_size = get_le(data + 48, 8) / 8,
		.packet_size = get_le(data + 56, 8) / 8,
		.sequence_number = get_le(data + 64, 8),
		.events_discarded = get_le(data + 72, 8),
	};
}

static void
read_packet(struct trace *tr, struct ringbuf_packet *p)
{
	struct walker w;
	struct record rec;

	walk_begin(&w, tr->ch, p);
	/* the number of records is not in the file */
	while (p->records = w.records, walk_next(&w, &rec))
		if (tr->found)
			found_one(tr->found, &rec);
	tr->packets++;
	tr->records += w.records;
}

/* Read one stream file. Losses and gaps are differences between neighbours. */
static void
read_file(struct trace *tr, const char *path, uint32_t stream_idx)
{
	uint64_t size = file_size(path), off = 0, end = 0, discarded = 0, seq = 0;
	int fd = open(path, O_RDONLY);
	uint8_t *data = malloc(size + 1);

	CHECK(fd >= 0, "%s: %s", path, strerror(errno));
	EQ(read(fd, data, size), (ssize_t)size);
	close(fd);
	tr->files++;
	tr->bytes += size;
	while (off < size) {
		struct ringbuf_packet p = packet_at(data + off, stream_idx);

		if (size - off < 80 || p.packet_size > size - off) {
			CHECK(tr->torn_end, "%s ends inside a packet", path);
			break;
		}
		read_packet(tr, &p);
		GE(p.timestamp_begin, end);
		if (off == 0) {
			tr->unknown += p.events_discarded != 0;
			tr->first_seq = p.sequence_number;
		} else {
			GE(p.events_discarded, discarded);
			tr->told += p.events_discarded - discarded;
			tr->gaps += p.sequence_number - seq - 1;
		}
		end = p.timestamp_end;
		discarded = p.events_discarded;
		seq = p.sequence_number;
		off += p.packet_size;
	}
	tr->last_seq = seq;
	if (end > tr->end)
		tr->end = end;
	free(data);
}

/* All stream files of `directory`. */
static struct trace
read_trace(const struct ringbuf_channel *ch, const char *directory, struct found *found, int torn_end)
{
	struct trace tr = {.ch = ch, .found = found, .torn_end = torn_end};

	for (uint32_t i = 0; i < ch->n_streams; i++) {
		char path[256];

		if (ch->streams == RINGBUF_GLOBAL)
			snprintf(path, sizeof(path), "%s/stream", directory);
		else
			snprintf(path, sizeof(path), "%s/stream_%u", directory, i);
		if (access(path, F_OK) == 0)
			read_file(&tr, path, i);
	}
	return tr;
}

/* ---- consumers ---- */

static struct ringbuf_consumer *
consume_to(struct ringbuf_channel *ch, const char *directory, uint64_t read_period_ns,
	   uint64_t switch_period_ns)
{
	struct ringbuf_consumer_options o = {.directory = directory, .read_period_ns = read_period_ns,
					     .switch_period_ns = switch_period_ns};
	struct ringbuf_consumer *c = NULL;
	int ret = ringbuf_consumer_start(ch, &o, &c);

	CHECK(ret == 0, "ringbuf_consumer_start: %s", ringbuf_strerror(ret));
	return c;
}

static struct ringbuf_consumer *
consume(struct ringbuf_channel *ch, const char *directory)
{
	return consume_to(ch, directory, 0, 0);
}

static int
try_consume(struct ringbuf_channel *ch, const char *directory, const char *name)
{
	struct ringbuf_consumer_options o = {.directory = directory, .stream_name = name};
	struct ringbuf_consumer *c = NULL;
	int ret = ringbuf_consumer_start(ch, &o, &c);

	OK(!ret == !!c);
	if (c)
		ringbuf_consumer_destroy(c);
	return ret;
}

static struct ringbuf_consumer_stats
consumed(const struct ringbuf_consumer *c)
{
	struct ringbuf_consumer_stats st;

	ringbuf_consumer_stats(c, &st);
	return st;
}

/* Stop it, which must work, and return its last numbers. */
static struct ringbuf_consumer_stats
stop_consumer(struct ringbuf_consumer *c)
{
	struct ringbuf_consumer_stats st;
	int ret = ringbuf_consumer_stop(c, 10 * NS_PER_S);

	CHECK(ret == 0, "ringbuf_consumer_stop: %s", ringbuf_strerror(ret));
	st = consumed(c);
	ringbuf_consumer_destroy(c);
	return st;
}

#define WAIT_UNTIL(cond)                                                       \
	do {                                                                   \
		uint64_t wait_end = now_ns() + 20 * NS_PER_S;                  \
		while (!(cond)) {                                              \
			CHECK(now_ns() < wait_end, "waited 20 s for %s", #cond); \
			sleep_ms(1);                                           \
		}                                                              \
	} while (0)

/* ---- producers ---- */

struct producer {
	struct ringbuf_channel *ch;
	uint32_t id;
	int cpu;             /* -1: any */
	uint64_t n;          /* records to try */
	uint64_t size;       /* of the largest payload */
	uint64_t written, lost;
	atomic_int *stop;    /* or NULL */
	pthread_t thread;
};

static void *
produce(void *arg)
{
	struct producer *p = arg;

	rnd_seed(p->id);
	if (p->cpu >= 0)
		pin(p->cpu);
	for (uint64_t i = 0; i < p->n && !(p->stop && atomic_load(p->stop)); i++) {
		uint64_t size = sizeof(struct stamp) + rnd_below(p->size - sizeof(struct stamp) + 1);

		if (record_event(p->ch, (uint32_t)rnd_below(40), size, 1, p->id, i) == 0)
			p->written++;
		else
			p->lost++;
	}
	return NULL;
}

static void
start_producers(struct producer *p, int n, struct ringbuf_channel *ch, uint64_t records, atomic_int *stop)
{
	for (int i = 0; i < n; i++) {
		p[i] = (struct producer){.ch = ch, .id = (uint32_t)i, .cpu = -1, .n = records, .size = 100, .stop = stop};
		p[i].thread = start(produce, &p[i]);
	}
}

static uint64_t
join_producers(struct producer *p, int n)
{
	uint64_t written = 0;

	for (int i = 0; i < n; i++) {
		join(p[i].thread);
		written += p[i].written;
	}
	return written;
}

/* Records 0 .. n-1 of the calling thread, which must all be written. */
static void
record_n(struct ringbuf_channel *ch, uint64_t first, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		EQ(record(ch, 100, first + i), 0);
}

/*
 * A child whose threads record, so that this process may fork with a single thread.
 * When it ends, the number of records that each tried is in its struct producer.
 */
static pid_t
spawn_producers(struct producer **p, int n, struct ringbuf_channel *ch, uint64_t records, atomic_int *stop)
{
	pid_t child;

	*p = shared_memory((size_t)n * sizeof(**p));
	child = spawn();
	if (child)
		return child;
	start_producers(*p, n, ch, records, stop);
	join_producers(*p, n);
	_exit(0);
}

/* Losses that a trace tells: not those of a channel that was off. */
static uint64_t
losses(const struct ringbuf_channel *ch)
{
	struct ringbuf_stats st = stats_of(ch);

	return lost_total(&st) + st.lost[RINGBUF_LOST_TORN] - st.lost[RINGBUF_LOST_DISABLED];
}

/* ---- the whole, under load ---- */

static void
load(uint32_t mode, uint32_t streams, uint32_t wakeup)
{
	struct ringbuf_channel *ch = create(CONFIG(.mode = mode, .streams = streams, .wakeup = wakeup,
						   .start_pos = POS_END - (1 << 14)));
	const char *dir = in_work_dir("trace");
	struct ringbuf_consumer *c = consume_to(ch, dir, MS, 0);
	struct producer p[3];
	struct found found = {{0}, 0, 0};
	struct ringbuf_consumer_stats st;
	struct ringbuf_stats rs;
	struct trace tr;
	uint64_t written, n = SANITIZED ? 30000 : 300000;

	start_producers(p, 3, ch, n, NULL);
	written = join_producers(p, 3);
	st = stop_consumer(c);
	rs = stats_of(ch);
	tr = read_trace(ch, dir, &found, 0);

	CHECK_IDENTITIES(rs, 3 * n);
	EQ(rs.written, written);
	EQ(rs.unread, 0);
	EQ(rs.read, tr.records);
	EQ(st.records, tr.records);
	EQ(st.bytes, tr.bytes);
	EQ(st.unread, 0);
	EQ(st.write_errors + st.flush_errors + st.corrupt + st.streams_failed, 0);
	EQ(found.repeated, 0);
	EQ(tr.unknown, 0);
	if (mode == RINGBUF_DISCARD) {
		EQ(tr.records, written);
		EQ(tr.gaps, 0);
	} else {
		EQ(tr.gaps != 0, rs.overrun != 0);
	}
	EQ(tr.told, losses(ch));
	ringbuf_close(ch);
}

TEST(all_is_in_the_files_discard_global_writer)
{
	load(RINGBUF_DISCARD, RINGBUF_GLOBAL, RINGBUF_WAKEUP_WRITER);
}

TEST(all_is_in_the_files_discard_per_cpu_timer)
{
	load(RINGBUF_DISCARD, RINGBUF_PER_CPU, RINGBUF_WAKEUP_TIMER);
}

TEST(all_is_in_the_files_overwrite_global_timer)
{
	load(RINGBUF_OVERWRITE, RINGBUF_GLOBAL, RINGBUF_WAKEUP_TIMER);
}

TEST(all_is_in_the_files_overwrite_per_cpu_writer)
{
	load(RINGBUF_OVERWRITE, RINGBUF_PER_CPU, RINGBUF_WAKEUP_WRITER);
}

/* Blocking producers and a reader that they wake: nothing may be lost, nor wait for ever. */
TEST(blocking_producers_lose_nothing)
{
	struct ringbuf_channel *ch = create(CONFIG(.wakeup = RINGBUF_WAKEUP_WRITER, .streams = RINGBUF_PER_CPU,
						   .blocking_timeout_ns = FOR_EVER));
	const char *dir = in_work_dir("trace");
	struct ringbuf_consumer *c = consume_to(ch, dir, 100 * NS_PER_S, 0); /* no help from the timer */
	struct producer p[3];
	struct found found = {{0}, 0, 0};
	struct trace tr;
	uint64_t n = SANITIZED ? 20000 : 200000;

	start_producers(p, 3, ch, n, NULL);
	EQ(join_producers(p, 3), 3 * n);
	stop_consumer(c);
	tr = read_trace(ch, dir, &found, 0);
	EQ(tr.records, 3 * n);
	EQ(found.repeated, 0);
	EQ(tr.told + tr.gaps + tr.unknown, 0);
	for (uint32_t i = 0; i < 3; i++)
		check_found_all(&found, i, n);
	ringbuf_close(ch);
}

static void *
watch_numbers(void *arg)
{
	struct ringbuf_consumer *c = arg;
	struct ringbuf_consumer_stats last = {0}, st;

	while (!ringbuf_consumer_is_done(c, NULL)) {
		ringbuf_consumer_stats(c, &st);
		GE(st.packets, last.packets);
		GE(st.records, last.records);
		GE(st.bytes, last.bytes);
		LE(st.unread, st.capacity);
		LE(st.fullest, st.unread);
		last = st;
	}
	return NULL;
}

TEST(its_numbers_can_be_watched_while_it_runs)
{
	struct ringbuf_channel *ch = create(CONFIG(.wakeup = RINGBUF_WAKEUP_WRITER));
	struct ringbuf_consumer *c = consume(ch, in_work_dir("trace"));
	pthread_t watcher = start(watch_numbers, c);
	struct producer p[2];

	start_producers(p, 2, ch, 50000, NULL);
	join_producers(p, 2);
	finalize(ch);
	join(watcher);
	EQ(stop_consumer(c).records, stats_of(ch).written);
	ringbuf_close(ch);
}

/* ---- when it reads ---- */

TEST(a_writer_wakes_it_at_once)
{
	struct ringbuf_channel *ch = create(CONFIG(.wakeup = RINGBUF_WAKEUP_WRITER));
	struct ringbuf_consumer *c = consume_to(ch, in_work_dir("trace"), 1000 * NS_PER_S, 0);
	uint64_t begin = now_ns();

	sleep_ms(50);
	record_n(ch, 0, 60); /* more than a packet */
	WAIT_UNTIL(consumed(c).packets == 1);
	LT(now_ns() - begin, 5 * NS_PER_S);
	stop_consumer(c);
	ringbuf_close(ch);
}

TEST(the_timer_reads_without_being_woken)
{
	struct ringbuf_channel *ch = create(CONFIG(.wakeup = RINGBUF_WAKEUP_TIMER));
	struct ringbuf_consumer *c = consume_to(ch, in_work_dir("trace"), 300 * MS, 0);
	uint64_t begin = now_ns();

	record_n(ch, 0, 60);
	sleep_ms(50);
	if (now_ns() - begin < 200 * MS)
		EQ(consumed(c).packets, 0);
	WAIT_UNTIL(consumed(c).packets == 1);
	stop_consumer(c);
	ringbuf_close(ch);
}

TEST(without_wake_ups_it_reads_when_poked_and_at_the_end)
{
	struct ringbuf_channel *ch = create(CONFIG(.wakeup = RINGBUF_WAKEUP_NONE));
	const char *dir = in_work_dir("trace");
	struct ringbuf_consumer *c = consume_to(ch, dir, MS, 5 * MS);

	record_n(ch, 0, 60);
	sleep_ms(100);
	EQ(consumed(c).packets, 0);
	ringbuf_consumer_poke(c);
	WAIT_UNTIL(consumed(c).packets >= 1);
	record_n(ch, 60, 60);
	EQ(stop_consumer(c).records, 120);
	EQ(read_trace(ch, dir, NULL, 0).records, 120);
	ringbuf_close(ch);
}

TEST(a_poke_is_never_lost)
{
	struct ringbuf_channel *ch = create(CONFIG(.wakeup = RINGBUF_WAKEUP_NONE));
	struct ringbuf_consumer *c = consume(ch, in_work_dir("trace"));
	uint64_t begin = now_ns();

	for (uint64_t i = 1; i <= 2000; i++) {
		record_n(ch, i, 1);
		flush(ch);
		ringbuf_consumer_poke(c);
		while (consumed(c).packets < i)
			CHECK(now_ns() - begin < 60 * NS_PER_S, "poke %llu", (unsigned long long)i);
	}
	/* a lost one would be found by the longest sleep, a second each */
	LT(now_ns() - begin, 20 * NS_PER_S);
	stop_consumer(c);
	ringbuf_close(ch);
}

TEST(the_switch_timer_ends_packets_at_its_period)
{
	struct ringbuf_channel *ch = create(CONFIG(.n_subbufs = 64));
	struct ringbuf_consumer *c = consume_to(ch, in_work_dir("trace"), 0, 50 * MS);
	uint64_t begin = now_ns(), elapsed;
	uint64_t packets;

	for (uint64_t i = 0; now_ns() - begin < 500 * MS; i++) {
		record_n(ch, i, 1);
		sleep_ms(20);
	}
	elapsed = now_ns() - begin;
	packets = stop_consumer(c).packets;
	LE(packets, elapsed / (50 * MS) + 2); /* units: not more often */
	GE(packets, 3);                       /* nor much less, even on a busy machine */
	ringbuf_close(ch);
}

TEST(ticks_do_not_drift)
{
	uint64_t tick = 1000;

	EQ(ringbuf_take_tick(&tick, 100, 999), 0);
	EQ(tick, 1000);
	EQ(ringbuf_take_tick(&tick, 100, 1000), 1);
	EQ(tick, 1100);
	EQ(ringbuf_take_tick(&tick, 100, 1199), 1); /* late */
	EQ(tick, 1200);
	EQ(ringbuf_take_tick(&tick, 100, 1750), 1); /* some missed: once, and on the grid */
	EQ(tick, 1800);
	EQ(ringbuf_take_tick(&tick, 100, 1799), 0);
	EQ(ringbuf_consumer_period(0, 7), 7);
	EQ(ringbuf_consumer_period(1, 7), RINGBUF_PERIOD_MIN_NS);
	EQ(ringbuf_consumer_period(UINT64_MAX, 7), UINT64_C(1) << 61);
}

TEST(it_ends_by_itself_when_the_channel_is_finalized)
{
	for (uint32_t wakeup = RINGBUF_WAKEUP_TIMER; wakeup <= RINGBUF_WAKEUP_NONE; wakeup++) {
		struct ringbuf_channel *ch = create(CONFIG(.wakeup = wakeup));
		const char *dir = in_work_dir("trace%u", wakeup);
		struct ringbuf_consumer *c = consume_to(ch, dir, 100 * NS_PER_S, 0);
		struct ringbuf_reservation r;
		int result = 1;

		record_n(ch, 0, 100);
		EQ(reserve(ch, &r, 50, 100), 0);
		finalize(ch);
		sleep_ms(20);
		OK(!ringbuf_consumer_is_done(c, &result)); /* a record is in flight */
		ringbuf_commit(ch, &r);
		ringbuf_consumer_poke(c); /* producers do not wake it in all three */
		WAIT_UNTIL(ringbuf_consumer_is_done(c, &result));
		EQ(result, 0);
		EQ(stop_consumer(c).records, 101);
		EQ(read_trace(ch, dir, NULL, 0).records, 101);
		ringbuf_close(ch);
	}
}

/* ---- stopping ---- */

TEST(stopping_again_is_harmless)
{
	struct ringbuf_channel *ch = create(CONFIG(.wakeup = RINGBUF_WAKEUP_NONE));
	struct ringbuf_consumer *c = consume(ch, in_work_dir("trace"));

	record_n(ch, 0, 10);
	EQ(ringbuf_consumer_stop(c, NS_PER_S), 0);
	EQ(ringbuf_consumer_stop(c, NS_PER_S), 0);
	OK(ringbuf_consumer_is_done(c, NULL));
	ringbuf_consumer_poke(c);
	EQ(consumed(c).records, 10);
	EQ(try_consume(ch, in_work_dir("another"), NULL), 0); /* the right is free */
	ringbuf_consumer_destroy(c);
	ringbuf_close(ch);
}

TEST(stopping_does_not_wait_for_a_stuck_producer_for_ever)
{
	struct ringbuf_channel *ch = create(CONFIG(.wakeup = RINGBUF_WAKEUP_WRITER));
	const char *dir = in_work_dir("first"), *rest = in_work_dir("rest");
	struct ringbuf_consumer *c = consume(ch, dir);
	struct ringbuf_reservation r;
	struct found found = {{0}, 0, 0};
	uint64_t begin;

	record_n(ch, 0, 50);
	EQ(reserve(ch, &r, 100, 50), 0);
	record_n(ch, 51, 9);
	begin = now_ns();
	EQ(ringbuf_consumer_stop(c, 200 * MS), -ETIMEDOUT);
	GE(now_ns() - begin, 200 * MS);
	LT(now_ns() - begin, 5 * NS_PER_S);
	ringbuf_consumer_destroy(c);
	ringbuf_commit(ch, &r);
	stop_consumer(consume(ch, rest));
	read_trace(ch, dir, &found, 0);
	read_trace(ch, rest, &found, 0);
	check_found_all(&found, 0, 60);
	EQ(found.repeated, 0);
	ringbuf_close(ch);
}

/* It must come to an end although producers never do. */
TEST(stopping_writes_what_was_recorded_before_and_no_more)
{
	struct ringbuf_channel *ch = create(CONFIG(.wakeup = RINGBUF_WAKEUP_WRITER));
	const char *dir = in_work_dir("trace");
	struct producer p[2];
	atomic_int stop = 0;
	struct found found = {{0}, 0, 0};
	struct ringbuf_consumer *c;
	uint64_t before;

	c = consume(ch, dir);
	start_producers(p, 2, ch, SEQ_MAX, &stop);
	sleep_ms(50);
	before = stats_of(ch).written;
	stop_consumer(c);
	atomic_store(&stop, 1);
	join_producers(p, 2);
	GE(read_trace(ch, dir, &found, 0).records, before);
	EQ(stats_of(ch).read, found.records);
	ringbuf_close(ch);
}

/* What it has not written is for the next one, also when it was closed in a hurry. */
TEST(the_channel_may_be_closed_first)
{
	struct ringbuf_channel *ch = create(CONFIG(.wakeup = RINGBUF_WAKEUP_NONE));
	struct ringbuf_channel *again = NULL;
	const char *dir = in_work_dir("trace");
	struct ringbuf_consumer *c = consume(ch, dir);
	int fd = dup(ch->fd);

	record_n(ch, 0, 10);
	ringbuf_close(ch);
	EQ(stop_consumer(c).records, 10);
	EQ(ringbuf_attach_fd(fd, NULL, NULL, &again), 0);
	EQ(read_trace(again, dir, NULL, 0).records, 10);
	ringbuf_close(again);
}

static unsigned int
threads(void)
{
	return entries_in("/proc/self/task");
}

TEST(a_storm_of_starts_and_stops_leaves_nothing)
{
	struct ringbuf_channel *ch = create(CONFIG(.streams = RINGBUF_PER_CPU, .wakeup = RINGBUF_WAKEUP_WRITER));
	unsigned int fds, rounds = SANITIZED ? 50 : 300;
	atomic_int stop = 0;
	struct producer p;
	struct found found = {{0}, 0, 0};

	in_work_dir("x");
	fds = entries_in("/proc/self/fd"); /* a thread that registers opens one for a moment */
	start_producers(&p, 1, ch, SEQ_MAX, &stop);
	for (unsigned int i = 0; i < rounds; i++) {
		struct ringbuf_consumer *c = consume_to(ch, in_work_dir("%u", i), 1, i % 2);

		if (i % 3 == 1)
			sched_yield();
		if (i % 3 == 2)
			sleep_ms(1);
		if (i % 5)
			EQ(ringbuf_consumer_stop(c, NS_PER_S), 0);
		ringbuf_consumer_destroy(c);
	}
	atomic_store(&stop, 1);
	join_producers(&p, 1);
	EQ(entries_in("/proc/self/fd"), fds);
	WAIT_UNTIL(threads() == (SANITIZED ? threads() : 1)); /* joined is not yet gone from /proc */
	stop_consumer(consume(ch, in_work_dir("last")));
	for (unsigned int i = 0; i < rounds; i++)
		read_trace(ch, in_work_dir("%u", i), &found, 0);
	read_trace(ch, in_work_dir("last"), &found, 0);
	EQ(found.records, p.written);
	EQ(found.repeated, 0);
	ringbuf_close(ch);
}

TEST(its_thread_takes_no_signals)
{
	struct ringbuf_channel *ch = create(CONFIG());
	struct ringbuf_consumer *c = consume(ch, in_work_dir("trace"));
	DIR *d = opendir("/proc/self/task");
	struct dirent *e;
	int seen = 0;

	WAIT_UNTIL(threads() >= 2);
	WAIT_UNTIL(ringbuf_slots_used(ch) == 1); /* it registers after it has its name */
	while ((e = readdir(d))) {
		char path[300], line[256], name[64] = "";
		FILE *f;

		snprintf(path, sizeof(path), "/proc/self/task/%s/status", e->d_name);
		f = *e->d_name == '.' ? NULL : fopen(path, "r");
		while (f && fgets(line, sizeof(line), f)) {
			sscanf(line, "Name: %63s", name);
			if (!strncmp(line, "SigBlk:", 7) && !strcmp(name, "ringbuf-reader")) {
				unsigned long long mask = strtoull(line + 7, NULL, 16);

				OK(mask >> (SIGINT - 1) & 1 && mask >> (SIGPROF - 1) & 1 &&
				   mask >> (SIGCHLD - 1) & 1 && mask >> (SIGXFSZ - 1) & 1);
				seen++;
			}
		}
		if (f)
			fclose(f);
	}
	closedir(d);
	EQ(seen, 1);
	stop_consumer(c);
	ringbuf_close(ch);
}

/* ---- refusals ---- */

static void
touch(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT, 0600);

	EQ(write(fd, "mine", 4), 4);
	close(fd);
}

TEST(nothing_that_is_there_is_overwritten)
{
	struct ringbuf_channel *ch = create(CONFIG());

	EQ(mkdir(in_work_dir("old"), 0700), 0);
	touch(in_work_dir("old/stream"));
	record_n(ch, 0, 1);
	EQ(try_consume(ch, in_work_dir("old"), NULL), -EEXIST);
	EQ(file_size(in_work_dir("old/stream")), 4);
	EQ(try_consume(ch, in_work_dir("old"), "other"), 0); /* the right was given back */
	EQ(symlink("/nowhere", in_work_dir("old/dangling")), 0);
	EQ(try_consume(ch, in_work_dir("old"), "dangling"), -EEXIST);
	ringbuf_close(ch);
}

TEST(a_bad_directory_or_name_is_refused_and_leaves_nothing)
{
	struct ringbuf_channel *ch = create(CONFIG());
	char name[300];

	memset(name, 'x', sizeof(name));
	name[299] = 0;
	touch(in_work_dir("file"));
	EQ(try_consume(ch, in_work_dir("no/such"), NULL), -ENOENT);
	EQ(try_consume(ch, in_work_dir("file"), NULL), -ENOTDIR);
	EQ(try_consume(ch, "", NULL), -EINVAL);
	EQ(try_consume(ch, NULL, NULL), -EINVAL);
	EQ(try_consume(ch, in_work_dir("d"), ""), -EINVAL);
	EQ(try_consume(ch, in_work_dir("d"), "a/b"), -EINVAL);
	EQ(try_consume(ch, in_work_dir("d"), "../x"), -EINVAL);
	EQ(try_consume(ch, in_work_dir("d"), "metadata"), -EINVAL);
	EQ(try_consume(ch, in_work_dir("d"), name), -EINVAL);
	EQ(access(in_work_dir("d"), F_OK), -1);
	ringbuf_close(ch);
}

TEST(a_channel_has_one_reader)
{
	struct ringbuf_channel *ch = create(CONFIG());
	struct ringbuf_consumer *c = consume(ch, in_work_dir("trace"));
	struct ringbuf_consumer_options o = {.directory = in_work_dir("snapshot")};
	struct ringbuf_consumer_stats st;
	pid_t child;

	EQ(try_consume(ch, in_work_dir("second"), NULL), -EBUSY);
	EQ(ringbuf_snapshot_files(ch, &o, &st), -EBUSY);
	child = spawn();
	if (!child) {
		EQ(try_consume(ch, in_work_dir("third"), NULL), -EBUSY);
		_exit(0);
	}
	reap(child);
	EQ(entries_in(in_work_dir(".")), 1); /* none of them left a directory */
	stop_consumer(c);
	ringbuf_close(ch);
}

TEST(without_a_producer_slot_it_writes_what_is_delivered)
{
	struct ringbuf_channel *ch = create(CONFIG(.n_producers = 1));
	const char *dir = in_work_dir("trace");
	struct ringbuf_consumer *c;

	record_n(ch, 0, 60); /* this thread has the only slot */
	c = consume_to(ch, dir, MS, MS);
	WAIT_UNTIL(consumed(c).packets == 1 && consumed(c).flush_errors);
	EQ(ringbuf_consumer_stop(c, 0), -EUSERS);
	EQ(read_trace(ch, dir, NULL, 0).packets, 1);
	GT(stats_of(ch).unread, 0);
	ringbuf_consumer_destroy(c);
	ringbuf_close(ch);
}

/* ---- files that cannot be written ---- */

/* Record sequence numbers from `first` until `n` packets are unread in the ring. */
static uint64_t
record_packets(struct ringbuf_channel *ch, uint64_t first, uint64_t n)
{
	uint64_t end = ringbuf_pos_add(pos_of(ch, 0), n * 4096);

	while (ringbuf_pos_diff(pos_of(ch, 0), end) < 0)
		record_n(ch, first++, 1);
	return first;
}

/* A full disk: the ring keeps what does not fit, and all goes on when there is room again. */
TEST(a_full_disk_is_reported_and_heals)
{
	struct ringbuf_channel *ch = create(CONFIG(.n_subbufs = 16, .wakeup = RINGBUF_WAKEUP_WRITER));
	const char *disk, *dir;
	struct ringbuf_consumer *c;
	struct found found = {{0}, 0, 0};
	struct ringbuf_consumer_stats st;
	char block[4096] = "";
	uint64_t n;
	int fd;

	if (geteuid() != 0)
		SKIP("mounting a small tmpfs needs root");
	disk = in_work_dir("disk");
	dir = in_work_dir("disk/trace");
	EQ(mkdir(disk, 0700), 0);
	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("tmpfs", disk, "tmpfs", 0, "size=40960"))
		SKIP("cannot mount a tmpfs: %s", strerror(errno));
	c = consume(ch, dir);
	fd = open(in_work_dir("disk/ballast"), O_WRONLY | O_CREAT, 0600);
	for (int i = 0; i < 5; i++)
		EQ(write(fd, block, sizeof(block)), (ssize_t)sizeof(block));
	n = record_packets(ch, 0, 8);
	WAIT_UNTIL(consumed(c).write_errors >= 2);
	st = consumed(c);
	EQ(st.last_error, ENOSPC);
	EQ(st.last_error_stream, 0);
	EQ(st.streams_failed, 1);
	GT(st.packets, 0);
	LT(st.packets, 8);
	EQ(file_size(in_work_dir("disk/trace/stream")), st.packets * 4096); /* whole ones */
	EQ(stats_of(ch).written, n);
	EQ(losses(ch), 0);

	EQ(ftruncate(fd, 0), 0); /* room */
	WAIT_UNTIL(consumed(c).packets == 8);
	EQ(consumed(c).streams_failed, 0);
	stop_consumer(c);
	read_trace(ch, dir, &found, 0);
	check_found_all(&found, 0, n);
	EQ(found.repeated, 0);
	close(fd);
	EQ(umount2(disk, MNT_DETACH), 0);
	ringbuf_close(ch);
}

/* The same for who is not root, by another limit; and it does not heal. */
TEST(what_cannot_be_written_stays_in_the_ring_for_the_next)
{
	struct ringbuf_channel *ch = create(CONFIG(.n_subbufs = 16, .wakeup = RINGBUF_WAKEUP_WRITER));
	const char *dir = in_work_dir("first"), *rest = in_work_dir("rest");
	struct rlimit limit, small;
	struct ringbuf_consumer *c;
	struct found found = {{0}, 0, 0};
	uint64_t n, begin;

	EQ(getrlimit(RLIMIT_FSIZE, &limit), 0);
	small = limit;
	small.rlim_cur = 3 * 4096 + 100; /* the fourth packet is cut off in the middle */
	c = consume(ch, dir);
	EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
	n = record_packets(ch, 0, 8);
	WAIT_UNTIL(consumed(c).write_errors >= 1);
	EQ(consumed(c).last_error, EFBIG);
	begin = now_ns();
	EQ(ringbuf_consumer_stop(c, 100 * NS_PER_S), -EFBIG);
	LT(now_ns() - begin, 10 * NS_PER_S); /* a full disk is not waited for */
	EQ(consumed(c).packets, 3);
	ringbuf_consumer_destroy(c);
	EQ(file_size(in_work_dir("first/stream")), 3 * 4096);
	GT(stats_of(ch).unread, 0);

	EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
	stop_consumer(consume(ch, rest));
	read_trace(ch, dir, &found, 0);
	EQ(read_trace(ch, rest, &found, 0).unknown, 0);
	check_found_all(&found, 0, n);
	EQ(found.repeated, 0);
	EQ(stats_of(ch).unread, 0);
	ringbuf_close(ch);
}

TEST(a_directory_that_disappears_is_reported_and_not_made_again)
{
	struct ringbuf_channel *ch = create(CONFIG(.n_subbufs = 16, .wakeup = RINGBUF_WAKEUP_WRITER));
	const char *dir = in_work_dir("trace"), *rest = in_work_dir("rest");
	struct ringbuf_consumer *c = consume(ch, dir);
	struct found found = {{0}, 0, 0};
	uint64_t n = record_packets(ch, 0, 3), first_left;

	WAIT_UNTIL(consumed(c).packets == 3);
	remove_tree(dir);
	WAIT_UNTIL(consumed(c).streams_failed == 1); /* also when there is nothing to write */
	n = record_packets(ch, n, 4);
	sleep_ms(50);
	EQ(consumed(c).last_error, ENOENT);
	EQ(consumed(c).packets, 3);
	n = record_packets(ch, n, 2); /* producers go on */
	EQ(ringbuf_consumer_stop(c, NS_PER_S), -ENOENT);
	ringbuf_consumer_destroy(c);
	EQ(access(dir, F_OK), -1);

	stop_consumer(consume(ch, rest));
	read_trace(ch, rest, &found, 0);
	first_left = n - found.records;
	GT(first_left, 0);
	for (uint64_t i = first_left; i < n; i++)
		EQ(found.times[0][i], 1);
	ringbuf_close(ch);
}

TEST(a_directory_that_disappears_before_the_first_packet_is_reported)
{
	struct ringbuf_channel *ch = create(CONFIG(.wakeup = RINGBUF_WAKEUP_WRITER));
	const char *dir = in_work_dir("trace");
	struct ringbuf_consumer *c = consume(ch, dir);

	EQ(rmdir(dir), 0);
	record_n(ch, 0, 10);
	EQ(ringbuf_consumer_stop(c, NS_PER_S), -ENOENT);
	EQ(stats_of(ch).unread, 10);
	ringbuf_consumer_destroy(c);
	ringbuf_close(ch);
}

/* Deleted when all is quiet: found at the latest when it stops. */
TEST(a_deleted_file_is_reported_at_the_end)
{
	struct ringbuf_channel *ch = create(CONFIG(.wakeup = RINGBUF_WAKEUP_NONE));
	struct ringbuf_consumer *c = consume(ch, in_work_dir("trace"));

	record_n(ch, 0, 60);
	ringbuf_consumer_poke(c);
	WAIT_UNTIL(consumed(c).packets == 1);
	EQ(unlink(in_work_dir("trace/stream")), 0);
	EQ(ringbuf_consumer_stop(c, NS_PER_S), -ENOENT);
	EQ(consumed(c).streams_failed, 1);
	ringbuf_consumer_destroy(c);
	ringbuf_close(ch);
}

TEST(a_file_cut_short_is_not_written_on)
{
	struct ringbuf_channel *ch = create(CONFIG(.wakeup = RINGBUF_WAKEUP_NONE));
	struct ringbuf_consumer *c = consume(ch, in_work_dir("trace"));

	record_n(ch, 0, 60);
	ringbuf_consumer_poke(c);
	WAIT_UNTIL(consumed(c).packets == 1);
	EQ(truncate(in_work_dir("trace/stream"), 100), 0);
	EQ(ringbuf_consumer_stop(c, NS_PER_S), -ESTALE);
	EQ(file_size(in_work_dir("trace/stream")), 100);
	ringbuf_consumer_destroy(c);
	ringbuf_close(ch);
}

TEST(one_failed_stream_does_not_stop_the_others)
{
	struct ringbuf_channel *ch;
	struct ringbuf_consumer *c;
	struct trace tr;
	int cpus[2];

	need_cpus(2);
	allowed_cpus(cpus, 2);
	ch = create(CONFIG(.streams = RINGBUF_PER_CPU, .wakeup = RINGBUF_WAKEUP_TIMER,
			   .n_streams = (uint32_t)cpus[1] + 1));
	c = consume(ch, in_work_dir("trace"));
	touch(in_work_dir("trace/stream_%d", cpus[0])); /* after the start */
	pin(cpus[0]);
	record_n(ch, 0, 60);
	WAIT_UNTIL(consumed(c).streams_failed == 1);
	EQ(consumed(c).last_error, EEXIST);
	EQ(consumed(c).last_error_stream, (uint32_t)cpus[0]);
	pin(cpus[1]);
	record_n(ch, 60, 60);
	EQ(ringbuf_consumer_stop(c, NS_PER_S), -EEXIST);
	EQ(consumed(c).records, 60);
	EQ(file_size(in_work_dir("trace/stream_%d", cpus[0])), 4);
	EQ(unlink(in_work_dir("trace/stream_%d", cpus[0])), 0);
	tr = read_trace(ch, in_work_dir("trace"), NULL, 0);
	EQ(tr.records, 60);
	EQ(stats_of(ch).unread, 60);
	ringbuf_consumer_destroy(c);
	ringbuf_close(ch);
}

/* ---- a region that shrinks, or lies ---- */

/* Is the process's other thread asleep? The kernel says "running" of one that is in no system call. */
static int
other_sleeps(void)
{
	struct dirent *entry;
	char path[300], call[32] = "";
	DIR *tasks = opendir("/proc/self/task");

	OK(tasks);
	while ((entry = readdir(tasks))) {
		FILE *f;

		if (atoi(entry->d_name) == 0 || atoi(entry->d_name) == getpid())
			continue;
		snprintf(path, sizeof(path), "/proc/self/task/%s/syscall", entry->d_name);
		f = fopen(path, "re");
		if (f && !fgets(call, sizeof(call), f))
			*call = 0;
		if (f)
			fclose(f);
	}
	closedir(tasks);
	return *call && strncmp(call, "running", 7) != 0;
}

TEST(a_region_cut_short_ends_it_without_a_crash)
{
	for (uint32_t wakeup = RINGBUF_WAKEUP_TIMER; wakeup <= RINGBUF_WAKEUP_NONE; wakeup++) {
		const char *path = in_work_dir("region%u", wakeup);
		struct ringbuf_channel *ch = create(CONFIG(.path = path, .wakeup = wakeup));
		struct ringbuf_consumer *c = consume(ch, in_work_dir("trace%u", wakeup));
		struct ringbuf_consumer_stats st;
		int result = 0;

		WAIT_UNTIL(other_sleeps()); /* no size check can cover a touch in progress */
		EQ(truncate(path, 4096), 0);
		WAIT_UNTIL(ringbuf_consumer_is_done(c, &result));
		EQ(result, -RINGBUF_E_TRUNCATED);
		ringbuf_consumer_poke(c);
		st = consumed(c);
		EQ(st.unread, 0);
		EQ(ringbuf_consumer_stop(c, NS_PER_S), -RINGBUF_E_TRUNCATED);
		ringbuf_consumer_destroy(c);
		EQ(try_consume(ch, in_work_dir("again"), NULL), -RINGBUF_E_TRUNCATED);
		EQ(access(in_work_dir("again"), F_OK), -1);
	}
}

/* Somebody writes nonsense into the packet, or into what is known of it. */
TEST(a_damaged_packet_is_left_out_and_counted)
{
	for (int where = 0; where < 4; where++) {
		struct ringbuf_channel *ch = create(CONFIG(.wakeup = RINGBUF_WAKEUP_NONE));
		const char *dir = in_work_dir("trace%d", where);
		struct ringbuf_consumer *c = consume(ch, dir);
		struct ringbuf_stream *s = ringbuf_stream_at(ch, 0);
		struct ringbuf_subbuf *sb = ringbuf_subbuf_at(ch, s, 2); /* of the second packet */
		uint8_t *data = ringbuf_subbuf_data(ch, s, 2);
		uint64_t nonsense = UINT64_MAX - 4095;
		struct trace tr;

		record_packets(ch, 0, 3);
		switch (where) {
		case 0: memcpy(data, &nonsense, 4); break;
		case 1: memcpy(data + 56, &nonsense, 8); break;
		case 2: ringbuf_store(&sb->packet_size, 0, RINGBUF_RELAXED); break;
		case 3: ringbuf_store(&sb->content_size, 0, RINGBUF_RELAXED); break;
		}
		ringbuf_consumer_poke(c);
		EQ(stop_consumer(c).corrupt, 1);
		tr = read_trace(ch, dir, NULL, 0);
		GE(tr.packets, 2);
		EQ(tr.gaps, 1);
		ringbuf_close(ch);
	}
}

/* ---- losses, as a reader of the trace is told ---- */

TEST(losses_at_the_end_are_in_the_trace)
{
	struct ringbuf_channel *ch = create(CONFIG(.wakeup = RINGBUF_WAKEUP_NONE));
	struct ringbuf_consumer *c = consume(ch, in_work_dir("first"));
	struct trace tr;
	uint64_t n = 0, lost_n = 0;

	while (record(ch, 100, n) == 0)
		n++;
	flush(ch); /* so that no packet is open, which would tell what follows */
	for (lost_n = 1; lost_n < 1000; lost_n++)
		EQ(record(ch, 100, n), -ENOBUFS);
	EQ(losses(ch), 1000);
	EQ(stop_consumer(c).records, n);
	tr = read_trace(ch, in_work_dir("first"), NULL, 0);
	EQ(tr.told, 1000);
	EQ(tr.unknown + tr.gaps, 0);
	EQ(tr.packets, 5);

	/* The next trace does not tell them again, nor say that it does not know. */
	c = consume(ch, in_work_dir("second"));
	record_n(ch, 0, 10);
	stop_consumer(c);
	tr = read_trace(ch, in_work_dir("second"), NULL, 0);
	EQ(tr.records, 10);
	EQ(tr.told + tr.unknown + tr.gaps, 0);
	ringbuf_close(ch);
}

TEST(losses_before_the_first_packet_are_in_the_trace)
{
	struct ringbuf_channel *ch = create(CONFIG(.wakeup = RINGBUF_WAKEUP_NONE));
	struct ringbuf_consumer *c = consume(ch, in_work_dir("trace"));
	struct trace tr;

	for (int i = 0; i < 7; i++)
		EQ(record(ch, 5000, 0), -ENOSPC);
	record_n(ch, 0, 10);
	stop_consumer(c);
	tr = read_trace(ch, in_work_dir("trace"), NULL, 0);
	EQ(tr.records, 10);
	EQ(tr.told, 7);
	EQ(tr.unknown + tr.gaps, 0);
	ringbuf_close(ch);
}

TEST(losses_alone_make_a_trace)
{
	struct ringbuf_channel *ch = create(CONFIG(.wakeup = RINGBUF_WAKEUP_TIMER));
	struct ringbuf_consumer *c = consume(ch, in_work_dir("trace"));
	struct trace tr;

	for (int i = 0; i < 7; i++)
		EQ(record(ch, 5000, 0), -ENOSPC);
	finalize(ch);
	WAIT_UNTIL(ringbuf_consumer_is_done(c, NULL));
	stop_consumer(c);
	tr = read_trace(ch, in_work_dir("trace"), NULL, 0);
	EQ(tr.records, 0);
	EQ(tr.told, 7);
	stop_consumer(consume(ch, in_work_dir("again")));
	EQ(entries_in(in_work_dir("again")), 0); /* once is enough */
	ringbuf_close(ch);
}

TEST(a_trace_without_records_or_losses_has_no_file)
{
	struct ringbuf_channel *ch = create(CONFIG(.streams = RINGBUF_PER_CPU));
	struct ringbuf_consumer *c = consume_to(ch, in_work_dir("trace"), MS, MS);

	sleep_ms(20);
	stop_consumer(c);
	EQ(entries_in(in_work_dir("trace")), 0);
	ringbuf_close(ch);
}

/* ---- a trace of limited size ---- */

/* All files of its only stream, "stream", "stream.1", ..., of which the first are gone. */
static struct trace
read_series(const struct ringbuf_channel *ch, const char *directory, struct found *found)
{
	struct trace tr = {.ch = ch, .found = found};
	unsigned int left = entries_in(directory);

	for (uint32_t number = 0; left; number++) {
		char path[256];

		snprintf(path, sizeof(path), number ? "%s/stream.%u" : "%s/stream", directory, number);
		LT(number, 1000000);
		if (access(path, F_OK) == 0) {
			read_file(&tr, path, 0);
			left--;
		} else {
			EQ(tr.files, 0); /* the oldest ones are gone */
		}
	}
	return tr;
}

TEST(of_a_limited_trace_the_oldest_packets_go_and_are_counted)
{
	struct ringbuf_channel *ch = create(CONFIG(.wakeup = RINGBUF_WAKEUP_NONE));
	struct ringbuf_consumer_options o = {.directory = in_work_dir("trace"),
					     .max_size = 20 * ringbuf_subbuf_size(&ch->geometry)};
	struct ringbuf_consumer *c = NULL;
	struct found found = {0};
	struct ringbuf_consumer_stats st;
	struct trace tr;
	uint64_t n = 0, rotated = 0;

	EQ(ringbuf_consumer_start(ch, &o, &c), 0);
	for (unsigned int round = 0; round < 100; round++) {
		for (unsigned int i = 0; i < 10; i++)
			n += record(ch, 100, n) == 0;
		EQ(ringbuf_flush(ch, ringbuf_this_producer(ch)->slot, 0, 0), 0);
		ringbuf_consumer_poke(c);
		WAIT_UNTIL(consumed(c).records == n);
		tr = read_series(ch, o.directory, NULL);
		LE(tr.bytes, o.max_size);
		st = consumed(c);
		EQ(tr.records, n - st.records_rotated);
		EQ(tr.packets, st.packets - st.packets_rotated);
		EQ(tr.bytes, st.bytes - st.bytes_rotated);
		EQ(tr.gaps, 0);
		GE(st.records_rotated, rotated);
		rotated = st.records_rotated;
	}
	OK(rotated && rotated < n);
	GE(tr.bytes, o.max_size / 2); /* and not more than must */
	stop_consumer(c);
	tr = read_series(ch, o.directory, &found);
	for (uint64_t i = 0; i < n; i++)
		EQ(found.times[0][i], i >= rotated);
	ringbuf_close(ch);
}

TEST(a_limit_that_no_two_packets_fit_is_refused)
{
	struct ringbuf_channel *ch = create(CONFIG(.wakeup = RINGBUF_WAKEUP_NONE));
	struct ringbuf_consumer_options o = {.directory = in_work_dir("trace"),
					     .max_size = 2 * ringbuf_subbuf_size(&ch->geometry) - 1};
	struct ringbuf_consumer *c = NULL;

	EQ(ringbuf_consumer_start(ch, &o, &c), -EINVAL);
	o.max_size++;
	EQ(ringbuf_consumer_start(ch, &o, &c), 0);
	ringbuf_consumer_destroy(c);
	ringbuf_close(ch);
}

/* What the oldest file has is of whichever stream: here of one that records no more. */
TEST(the_oldest_file_goes_of_whichever_stream)
{
	struct ringbuf_channel *ch;
	struct ringbuf_consumer *c = NULL;
	struct ringbuf_consumer_options o = {.directory = in_work_dir("trace"), .max_size = 8 * 4096};
	uint64_t n = 0;
	int cpus[2];

	need_cpus(2);
	allowed_cpus(cpus, 2);
	ch = create(CONFIG(.streams = RINGBUF_PER_CPU, .wakeup = RINGBUF_WAKEUP_NONE,
			   .n_streams = (uint32_t)cpus[1] + 1));
	EQ(ringbuf_consumer_start(ch, &o, &c), 0);
	for (unsigned int round = 0; round < 22; round++) {
		int cpu = cpus[round >= 2];

		pin(cpu);
		record_n(ch, n++, 1);
		EQ(ringbuf_flush(ch, ringbuf_this_producer(ch)->slot, (uint32_t)cpu, 0), 0);
		ringbuf_consumer_poke(c);
		WAIT_UNTIL(consumed(c).records == n);
		if (round == 1)
			GT(file_size(in_work_dir("trace/stream_%d.1", cpu)), 0);
	}
	EQ(file_size(in_work_dir("trace/stream_%d", cpus[0])), 0);
	EQ(file_size(in_work_dir("trace/stream_%d.1", cpus[0])), 0);
	EQ(file_size(in_work_dir("trace/stream_%d", cpus[1])), 0);
	GT(file_size(in_work_dir("trace/stream_%d.19", cpus[1])), 0);
	GE(stop_consumer(c).records_rotated, 2);
	ringbuf_close(ch);
}

/* ---- losses, again ---- */

/* Lost while nobody read: the trace that goes on from there tells them, exactly. */
TEST(losses_between_two_consumers_are_in_the_second_trace)
{
	struct ringbuf_channel *ch = create(CONFIG(.wakeup = RINGBUF_WAKEUP_NONE));
	struct trace tr;
	uint64_t n = 0;

	EQ(record(ch, 5000, 0), -ENOSPC);
	stop_consumer(consume(ch, in_work_dir("first")));
	EQ(read_trace(ch, in_work_dir("first"), NULL, 0).told, 1);
	EQ(record(ch, 5000, 0), -ENOSPC);
	while (record(ch, 100, n) == 0) /* the ring fills up: the first trace's packet is not in it any more */
		n++;
	stop_consumer(consume(ch, in_work_dir("second")));
	tr = read_trace(ch, in_work_dir("second"), NULL, 0);
	EQ(tr.records, n);
	EQ(tr.told, 2);
	EQ(tr.unknown, 0);
	ringbuf_close(ch);
}

/* Packets overwritten before the consumer came to them: their losses are told, older ones not. */
TEST(losses_before_the_consumer_began_are_not_its_own)
{
	struct ringbuf_channel *ch = create(CONFIG(.mode = RINGBUF_OVERWRITE, .wakeup = RINGBUF_WAKEUP_NONE));
	struct ringbuf_consumer *c;
	struct trace tr;

	EQ(record(ch, 5000, 0), -ENOSPC);
	record_packets(ch, 0, 10);
	c = consume(ch, in_work_dir("trace"));
	EQ(record(ch, 5000, 0), -ENOSPC);
	EQ(record(ch, 5000, 0), -ENOSPC);
	record_packets(ch, 1000, 10);
	stop_consumer(c);
	tr = read_trace(ch, in_work_dir("trace"), NULL, 0);
	EQ(tr.told, 2);
	EQ(tr.unknown, 0);
	ringbuf_close(ch);
}

/* A client's own packets are none of our business: its bytes, and an empty packet of its making. */
static void
own_begin(const struct ringbuf_channel *ch UNUSED, struct ringbuf_stream *s UNUSED, uint32_t stream_idx UNUSED,
	  uint32_t subbuf_idx UNUSED, uint64_t timestamp UNUSED, uint8_t *header)
{
	memset(header, 0xab, 32);
}

static void
own_end(const struct ringbuf_channel *ch UNUSED, struct ringbuf_stream *s UNUSED, uint32_t stream_idx UNUSED,
	uint32_t subbuf_idx UNUSED, uint64_t timestamp UNUSED, uint64_t data_size, uint8_t *header)
{
	memcpy(header + 8, &data_size, 8);
}

TEST(a_clients_own_packets_are_written_as_they_are)
{
	static const struct ringbuf_client client = {.buffer_begin = own_begin, .buffer_end = own_end};
	struct ringbuf_channel *ch = create(CONFIG(.client = &client, .packet_header_size = 32));
	struct ringbuf_consumer *c = consume(ch, in_work_dir("trace"));
	uint8_t data[3 * 4096];
	int fd;

	record_n(ch, 0, 3);
	flush(ch);
	EQ(record(ch, 5000, 0), -ENOSPC);
	EQ(stop_consumer(c).records, 3);
	fd = open(in_work_dir("trace/stream"), O_RDONLY);
	EQ(read(fd, data, sizeof(data)), 2 * 4096);
	close(fd);
	EQ(data[0], 0xab);
	EQ(data[31], 0xab);
	EQ(data[4096], 0xab);
	EQ(get_le(data + 4096 + 8, 8), 32);
	ringbuf_close(ch);
}

/* ---- processes that end ---- */

static void
kill_self(void *arg UNUSED)
{
	kill(getpid(), SIGKILL);
}

/* A child that consumes until it is killed at the (skip+1)-th passage of the test point. */
static pid_t
consume_until_killed_at(struct ringbuf_channel *ch, const char *dir, const char *point, unsigned int skip)
{
	pid_t child = spawn();

	if (!child) {
		hook_after(point, skip, kill_self, NULL);
		consume(ch, dir);
		sleep_ms(60000);
		_exit(1);
	}
	return child;
}

TEST(the_next_consumer_goes_on_after_a_kill_anywhere)
{
	static const char *const points[] = {
		"reader_sampled", "reader_holding", "reader_held", "consumer_before_write", "consumer_written",
		"reader_before_account", "reader_accounted", "reader_unholding", "reader_exchanged", "reader_unheld", "reader_advanced",
	};
	struct ringbuf_channel *ch = create(CONFIG(.wakeup = RINGBUF_WAKEUP_WRITER, .n_subbufs = 8,
						   .blocking_timeout_ns = FOR_EVER));
	struct found found = {{0}, 0, 0};
	struct producer *p;
	uint64_t n = 100000, kills = 0, records_max = 4096 / (16 + 8);
	pid_t producers = spawn_producers(&p, 2, ch, n, NULL);
	int status;

	for (unsigned int round = 0; round < 2; round++)
		for (unsigned int i = 0; i < ARRAY_SIZE(points); i++) {
			const char *dir = in_work_dir("%llu", (unsigned long long)kills);
			pid_t child = consume_until_killed_at(ch, dir, points[i], 5 + 10 * round);

			EQ(waitpid(child, &status, 0), child);
			CHECK(WIFSIGNALED(status), "at %s: status %#x", points[i], status);
			kills++;
		}
	{
		struct ringbuf_consumer *c = consume(ch, in_work_dir("last"));

		reap(producers);
		stop_consumer(c);
	}
	EQ(p[0].written + p[1].written, 2 * n);
	for (uint64_t i = 0; i < kills; i++) {
		struct trace tr = read_trace(ch, in_work_dir("%llu", (unsigned long long)i), &found, 1);

		EQ(tr.gaps + tr.told + tr.unknown, 0);
	}
	read_trace(ch, in_work_dir("last"), &found, 0);
	check_found_all(&found, 0, n);
	check_found_all(&found, 1, n);
	LE(found.repeated, kills * records_max); /* a packet each, at most */
	GT(found.repeated, 0);                   /* killed after the write, before the release */
	EQ(stats_of(ch).read, 2 * n);            /* counted once all the same */
	ringbuf_close(ch);
}

TEST(in_overwrite_mode_too_with_what_was_lapped_counted)
{
	struct ringbuf_channel *ch = create(CONFIG(.mode = RINGBUF_OVERWRITE, .wakeup = RINGBUF_WAKEUP_WRITER));
	atomic_int *stop = shared_memory(sizeof(*stop));
	struct producer *p;
	pid_t producers = spawn_producers(&p, 2, ch, SEQ_MAX, stop);
	struct ringbuf_stats rs;
	struct ringbuf_consumer *c;
	int status;

	for (unsigned int i = 0; i < 10; i++) {
		pid_t child = consume_until_killed_at(ch, in_work_dir("%u", i),
						      i % 2 ? "consumer_written" : "reader_accounted", i);

		EQ(waitpid(child, &status, 0), child);
		CHECK(WIFSIGNALED(status), "status %#x", status);
		read_trace(ch, in_work_dir("%u", i), NULL, 1);
	}
	c = consume(ch, in_work_dir("last"));
	atomic_store(stop, 1);
	reap(producers);
	stop_consumer(c);
	read_trace(ch, in_work_dir("last"), NULL, 0);
	rs = stats_of(ch);
	EQ(rs.unread, 0);
	CHECK_IDENTITIES(rs, p[0].written + p[1].written + p[0].lost + p[1].lost);
	ringbuf_close(ch);
}

/* A snapshot dies over a packet in the middle; order and completeness must not suffer. */
TEST(a_dead_snapshots_packet_has_its_turn)
{
	struct ringbuf_channel *ch = create(CONFIG(.n_subbufs = 8));
	struct found found = {{0}, 0, 0};
	uint64_t n = record_packets(ch, 0, 5);
	struct ringbuf_right right;
	pid_t child = spawn();
	struct trace tr;
	int status;

	if (!child) {
		struct ringbuf_stream_reader r;

		EQ(ringbuf_open_reader(ch, 0, 1, &right), 0);
		ringbuf_stream_reader_init(ch, 0, &r);
		EQ(ringbuf_get_subbuf(&r, 2 * 4096), 0);
		kill_self(NULL);
	}
	EQ(waitpid(child, &status, 0), child);
	stop_consumer(consume(ch, in_work_dir("trace")));
	tr = read_trace(ch, in_work_dir("trace"), &found, 0);
	EQ(tr.gaps, 0);
	EQ(found.repeated, 0);
	check_found_all(&found, 0, n);
	ringbuf_close(ch);
}

TEST(a_forked_child_has_no_consumer_and_does_no_harm)
{
	struct ringbuf_channel *ch = create(CONFIG(.wakeup = RINGBUF_WAKEUP_WRITER, .blocking_timeout_ns = FOR_EVER));
	const char *dir = in_work_dir("trace");
	struct ringbuf_consumer *c = consume(ch, dir);
	struct found found = {{0}, 0, 0};
	struct producer p[2];
	pid_t child;

	start_producers(p, 2, ch, 50000, NULL);
	for (int i = 0; i < 5; i++) {
		child = spawn();
		if (!child) {
			struct ringbuf_consumer_stats st;

			ringbuf_consumer_poke(c);
			ringbuf_consumer_stats(c, &st);
			EQ(ringbuf_consumer_stop(c, NS_PER_S), -ECHILD);
			/* it may record; but ThreadSanitizer does not see what orders two processes */
			if (!SANITIZED)
				EQ(record_event(ch, 1, 50, 1, 2, (uint64_t)i), 0);
			ringbuf_consumer_destroy(c);
			ringbuf_close(ch);
			_exit(0);
		}
		reap(child);
	}
	EQ(join_producers(p, 2), 100000);
	EQ(stop_consumer(c).records, 100000 + (SANITIZED ? 0 : 5));
	read_trace(ch, dir, &found, 0);
	check_found_all(&found, 0, 50000);
	check_found_all(&found, 1, 50000);
	check_found_all(&found, 2, SANITIZED ? 0 : 5);
	EQ(found.repeated, 0);
	ringbuf_close(ch);
}

/* ---- snapshots ---- */

static struct ringbuf_consumer_stats
snapshot(struct ringbuf_channel *ch, const char *directory, uint64_t since)
{
	struct ringbuf_consumer_options o = {.directory = directory, .since_timestamp = since};
	struct ringbuf_consumer_stats st;
	int ret = ringbuf_snapshot_files(ch, &o, &st);

	CHECK(ret == 0, "ringbuf_snapshot_files: %s", ringbuf_strerror(ret));
	return st;
}

TEST(a_snapshot_takes_nothing_out_of_the_ring)
{
	for (uint32_t mode = RINGBUF_DISCARD; mode <= RINGBUF_OVERWRITE; mode++) {
		struct ringbuf_channel *ch = create(CONFIG(.mode = mode));

		record_n(ch, 0, 90);
		for (int i = 0; i < 3; i++) {
			const char *dir = in_work_dir("%u.%d", mode, i);
			struct ringbuf_consumer_stats st = snapshot(ch, dir, 0);
			struct found found = {{0}, 0, 0};
			struct trace tr = read_trace(ch, dir, &found, 0);

			EQ(st.records, 90);
			EQ(st.packets, 3);
			EQ(tr.records, 90);
			EQ(tr.packets, 3);
			EQ(tr.told + tr.gaps + tr.unknown, 0);
			EQ(tr.bytes, st.bytes);
			check_found_all(&found, 0, 90);
			EQ(st.lapped + st.incomplete + st.before + st.corrupt, 0);
		}
		EQ(stats_of(ch).unread, 90);
		EQ(flush_and_read(ch), 90);
		ringbuf_close(ch);
	}
}

TEST(a_snapshots_flush_does_not_push_out_the_oldest)
{
	struct ringbuf_channel *ch = create(CONFIG(.mode = RINGBUF_OVERWRITE));
	struct trace tr;
	struct found found = {{0}, 0, 0};
	uint64_t n = record_packets(ch, 0, 11), oldest;

	record_n(ch, n, 3);
	oldest = (ringbuf_oldest_begin(&ch->geometry, pos_of(ch, 0)) - ch->start_pos) / 4096;
	EQ(snapshot(ch, in_work_dir("trace"), 0).packets, 4);
	tr = read_trace(ch, in_work_dir("trace"), &found, 0);
	EQ(tr.first_seq, oldest);
	EQ(tr.gaps, 0);
	EQ(tr.records, stats_of(ch).unread);
	EQ(found.times[0][n + 2], 1); /* the newest is there as well */
	ringbuf_close(ch);
}

TEST(snapshots_under_overwriting_producers_are_well_formed)
{
	struct ringbuf_channel *ch = create(CONFIG(.mode = RINGBUF_OVERWRITE, .streams = RINGBUF_PER_CPU));
	struct producer p[2];
	atomic_int stop = 0;
	struct ringbuf_stats rs;
	uint64_t begin = now_ns(), lapped = 0;

	start_producers(p, 2, ch, SEQ_MAX, &stop);
	for (unsigned int i = 0; now_ns() - begin < soak_ns(1.5); i++) {
		const char *dir = in_work_dir("%u", i);
		struct ringbuf_consumer_stats st = snapshot(ch, dir, 0);
		struct found found = {{0}, 0, 0};
		struct trace tr = read_trace(ch, dir, &found, 0);

		EQ(tr.records, st.records);
		EQ(found.repeated, 0);
		LE(tr.gaps, st.lapped + st.incomplete);
		lapped += st.lapped;
		for (int j = 0; j < PRODUCERS_MAX; j++)
			if (found.times[j])
				munmap(found.times[j], SEQ_MAX);
		remove_tree(dir);
		if (atomic_load(&stop))
			break;
	}
	atomic_store(&stop, 1);
	join_producers(p, 2);
	if (!SANITIZED)
		GT(lapped, 0);
	flush_and_read(ch);
	rs = stats_of(ch);
	EQ(rs.unread, 0);
	CHECK_IDENTITIES(rs, p[0].written + p[1].written + p[0].lost + p[1].lost);
	ringbuf_close(ch);
}

static void
scribble_on_position(void *stream)
{
	atomic_fetch_add(&((struct ringbuf_stream *)stream)->produced, 4 * 4 * 4096);
}

/* A repairer then takes the packet for one that was lapped, and the slot says that it is being written. */
TEST(a_snapshot_ends_whatever_the_position_says)
{
	struct ringbuf_channel *ch = create(CONFIG());
	struct ringbuf_consumer_options o = {.directory = in_work_dir("trace"), .timeout_ns = 5 * MS};
	struct ringbuf_consumer_stats st;
	struct ringbuf_reservation r;

	EQ(reserve(ch, &r, 16, 0), 0);
	record_packets(ch, 1, 2);
	hook_after("reader_sampled", 3, scribble_on_position, ringbuf_stream_at(ch, 0));
	EQ(ringbuf_snapshot_files(ch, &o, &st), 0);
	hooks_done();
	GE(st.incomplete, 1);
	ringbuf_close(ch);
}

static void
scribble_far_ahead(void *stream)
{
	atomic_fetch_add(&((struct ringbuf_stream *)stream)->produced, UINT64_C(1) << 45);
}

static void
scribble_back(void *stream)
{
	atomic_fetch_sub(&((struct ringbuf_stream *)stream)->produced, UINT64_C(1) << 45);
}

/* Where it ends is taken from a position that was far ahead for a moment: packet by packet, that takes hours. */
TEST(a_snapshot_does_not_go_all_the_way_to_a_position_far_ahead)
{
	static const char *const names[] = {"first", "second", "third", "fourth"};

	for (unsigned int passed = 0; passed < ARRAY_SIZE(names); passed++) {
		struct ringbuf_channel *ch = create(CONFIG());
		struct ringbuf_consumer_options o = {.directory = in_work_dir(names[passed]), .timeout_ns = 5 * MS};
		struct ringbuf_consumer_stats st;

		record_packets(ch, 1, 2);
		hook_after("reader_sampled", passed, scribble_far_ahead, ringbuf_stream_at(ch, 0));
		hook_after("reader_sampled", passed + 1, scribble_back, ringbuf_stream_at(ch, 0));
		EQ(ringbuf_snapshot_files(ch, &o, &st), 0);
		memset(test_hooks, 0, sizeof(test_hooks));
		ringbuf_close(ch);
	}
}

TEST(a_snapshot_tells_the_losses)
{
	struct ringbuf_channel *ch = create(CONFIG());
	struct ringbuf_consumer_stats st;
	struct trace tr;
	uint64_t n = 0;

	while (record(ch, 100, n) == 0)
		n++;
	flush(ch);
	for (int i = 1; i < 100; i++)
		EQ(record(ch, 100, n), -ENOBUFS);
	st = snapshot(ch, in_work_dir("full"), 0);
	tr = read_trace(ch, in_work_dir("full"), NULL, 0);
	EQ(st.packets, 4);
	EQ(st.records, n);
	EQ(tr.told, 100);
	EQ(tr.gaps + tr.unknown, 0);
	EQ(tr.packets, 5);

	/* Nothing of that is in the ring: a consumer tells them as well. */
	EQ(stats_of(ch).unread, n);
	stop_consumer(consume(ch, in_work_dir("trace")));
	EQ(read_trace(ch, in_work_dir("trace"), NULL, 0).told, 100);
	ringbuf_close(ch);
}

TEST(a_snapshot_of_losses_alone_tells_them)
{
	struct ringbuf_channel *ch = create(CONFIG(.mode = RINGBUF_OVERWRITE));
	struct trace tr;

	snapshot(ch, in_work_dir("empty"), 0);
	EQ(entries_in(in_work_dir("empty")), 0);
	for (int i = 0; i < 7; i++)
		EQ(record(ch, 5000, 0), -ENOSPC);
	EQ(snapshot(ch, in_work_dir("trace"), 0).packets, 0);
	tr = read_trace(ch, in_work_dir("trace"), NULL, 0);
	EQ(tr.told, 7);
	EQ(tr.records + tr.unknown, 0);
	ringbuf_close(ch);
}

/* Once packets were overwritten, the number before the oldest is not known, and not made up. */
TEST(losses_before_an_overwritten_packet_are_unknown)
{
	struct ringbuf_channel *ch = create(CONFIG(.mode = RINGBUF_OVERWRITE));
	struct trace tr;

	EQ(record(ch, 5000, 0), -ENOSPC);
	record_packets(ch, 0, 10);
	snapshot(ch, in_work_dir("trace"), 0);
	tr = read_trace(ch, in_work_dir("trace"), NULL, 0);
	EQ(tr.unknown, 1);
	EQ(tr.told, 0);
	ringbuf_close(ch);
}

TEST(a_snapshot_of_the_last_while_leaves_older_packets_out)
{
	struct ringbuf_channel *ch = create(CONFIG(.mode = RINGBUF_OVERWRITE, .n_subbufs = 8));
	uint64_t n = record_packets(ch, 0, 2), since;
	struct ringbuf_consumer_stats st;
	struct trace tr;

	EQ(record(ch, 5000, 0), -ENOSPC); /* before: told by no packet in the range */
	record_n(ch, n, 1);
	flush(ch);
	since = ringbuf_clock_ordered(ch);
	record_n(ch, n + 1, 20);
	EQ(record(ch, 5000, 0), -ENOSPC);
	EQ(record(ch, 5000, 0), -ENOSPC);
	st = snapshot(ch, in_work_dir("trace"), since);
	tr = read_trace(ch, in_work_dir("trace"), NULL, 0);
	EQ(st.before, 3);
	EQ(st.packets, 1);
	EQ(tr.records, 20);
	EQ(tr.told, 2);
	EQ(tr.unknown + tr.gaps, 0);
	EQ(snapshot(ch, in_work_dir("nothing"), UINT64_MAX).packets, 0);
	ringbuf_close(ch);
}

TEST(a_snapshot_goes_round_a_record_in_flight)
{
	struct ringbuf_channel *ch = create(CONFIG(.n_subbufs = 8));
	struct ringbuf_consumer_options o = {.directory = in_work_dir("trace"), .timeout_ns = 50 * MS};
	struct ringbuf_consumer_stats st;
	struct ringbuf_reservation r;
	struct trace tr;
	uint64_t n = record_packets(ch, 0, 2), begin;

	EQ(reserve(ch, &r, 50, n), 0);
	n = record_packets(ch, n + 1, 2);
	begin = now_ns();
	EQ(ringbuf_snapshot_files(ch, &o, &st), 0);
	GE(now_ns() - begin, 50 * MS);
	LT(now_ns() - begin, 5 * NS_PER_S);
	tr = read_trace(ch, o.directory, NULL, 0);
	EQ(st.incomplete, 1);
	EQ(st.packets, 4);
	EQ(tr.gaps, 1);
	ringbuf_commit(ch, &r);
	EQ(snapshot(ch, in_work_dir("again"), 0).incomplete, 0);
	EQ(read_trace(ch, in_work_dir("again"), NULL, 0).records, n);
	ringbuf_close(ch);
}

TEST(a_snapshot_that_does_not_fit_says_so_and_loses_nothing)
{
	struct ringbuf_channel *ch = create(CONFIG(.n_subbufs = 8));
	struct ringbuf_consumer_options o = {.directory = in_work_dir("trace")};
	struct rlimit limit, small;
	struct ringbuf_consumer_stats st;
	uint64_t n = record_packets(ch, 0, 4);

	signal(SIGXFSZ, SIG_IGN); /* as Python does */
	EQ(getrlimit(RLIMIT_FSIZE, &limit), 0);
	small = limit;
	small.rlim_cur = 2 * 4096 + 1000;
	EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
	EQ(ringbuf_snapshot_files(ch, &o, &st), -EFBIG);
	EQ(st.packets, 2);
	EQ(st.streams_failed, 1);
	EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
	EQ(access(in_work_dir("trace"), F_OK), -1); /* so that it can be tried again */
	EQ(snapshot(ch, in_work_dir("trace"), 0).records, n);
	EQ(ringbuf_snapshot_files(ch, &o, &st), -EEXIST);
	ringbuf_close(ch);
}
