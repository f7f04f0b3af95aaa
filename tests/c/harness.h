/*
 * harness.h - what every test_*.c is made of.
 *
 *	TEST(a_sentence_that_says_what_holds) { ... CHECK, EQ, SKIP ... }
 *
 *	test_x --list       names of the cases
 *	test_x NAME...      runs these; without names, all
 *
 * Each case runs in a process of its own, so that it may crash, hang, leak or
 * kill itself. A failed check ends that process, also from a thread or a forked
 * child, and the first reason given is the one reported. RINGBUF_SEED repeats a
 * random run; RINGBUF_SOAK is the length in seconds of those that take longer
 * the more you let them.
 *
 * Below that: channels for tests, records that can be recognised, and a walker
 * over CTF packets that shares no code with ctf.h.
 */
#ifndef HARNESS_H
#define HARNESS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/*
 * With -DHARNESS_HOOKS (a #define before the include), a test point can run a
 * function once: hook_at("name", fn, arg). The function may itself hook.
 */
#ifdef HARNESS_HOOKS
static void testpoint(const char *name);
#define RINGBUF_TESTPOINT(name) testpoint(#name)
#endif

/*
 * With HARNESS_CLOCK, time is a counter that each look at it moves on by one:
 * record headers are short, and sizes exact.
 */
#ifdef HARNESS_CLOCK
static _Atomic uint64_t ticks;
struct ringbuf_channel;

#define RINGBUF_CLOCK_HEADER <time.h>
#define RINGBUF_NS_PER_S UINT64_C(1000000000)
static inline uint64_t
ringbuf_clock_ordered(const struct ringbuf_channel *ch)
{
	(void)ch;
	return atomic_fetch_add(&ticks, 1) + 1;
}

static inline uint64_t
ringbuf_clock_early(const struct ringbuf_channel *ch)
{
	return ringbuf_clock_ordered(ch);
}

static inline uint64_t
ringbuf_clock_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * RINGBUF_NS_PER_S + (uint64_t)ts.tv_nsec;
}

static inline uint64_t
ringbuf_tsc_measure_freq(void)
{
	return RINGBUF_NS_PER_S;
}

static inline void
ringbuf_clock_offset(int clock, uint64_t freq, int64_t *offset_s, uint64_t *offset)
{
	(void)clock;
	(void)freq;
	*offset_s = 0;
	*offset = 0;
}
#endif

#include <ringbuf/files.h>

#define UNUSED __attribute__((unused))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* CONFIG(.x = y) overrides its own defaults, which is what the warning is about. */
#if defined(__clang__)
#pragma clang diagnostic ignored "-Winitializer-overrides"
#else
#pragma GCC diagnostic ignored "-Woverride-init"
#endif

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#if defined(__SANITIZE_THREAD__)
#define TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TSAN 1
#endif
#endif
#ifndef TSAN
#define TSAN 0
#endif

#if TSAN
/* A thread holds a certificate for each channel, more than the deadlock detector can count. A
 * forked child has no threads, and is told that it leaks them. */
const char *__tsan_default_options(void);
const char *
__tsan_default_options(void)
{
	return "detect_deadlocks=0:report_thread_leaks=0";
}
#endif

/* ---- cases and checks ---- */

struct test_case {
	const char *name;
	void (*run)(void);
};

/* Shared by a case's processes and the one that reports. */
struct test_verdict {
	atomic_int state; /* 0 nothing yet, 1 being written, 2 failed, 3 skipped */
	unsigned long long run; /* which one of many random runs: RINGBUF_RUN repeats it alone */
	char reason[1000];
};

#define TEST_SECONDS_MAX 100

static struct test_case test_cases[200];
static unsigned int test_n_cases;
static struct test_verdict *test_verdict;
static uint64_t test_seed;

#define TEST(name)                                                            \
	static void name(void);                                               \
	__attribute__((constructor)) static void test_register_##name(void)   \
	{                                                                     \
		test_cases[test_n_cases++] = (struct test_case){#name, name}; \
	}                                                                     \
	static void name(void)

__attribute__((noreturn, format(printf, 2, 3))) static void
test_end(int state, const char *fmt, ...)
{
	int none = 0;
	va_list args;

	if (atomic_compare_exchange_strong(&test_verdict->state, &none, 1)) {
		va_start(args, fmt);
		vsnprintf(test_verdict->reason, sizeof(test_verdict->reason), fmt, args);
		va_end(args);
		atomic_store(&test_verdict->state, state);
	} else if (none == 1) {
		usleep(100 * 1000); /* another is about to say why */
	}
	_exit(state == 3 ? 0 : 1);
}

#define FAIL(fmt, ...) test_end(2, "line %d: " fmt, __LINE__, ##__VA_ARGS__)
#define SKIP(...) test_end(3, __VA_ARGS__)
#define OK(cond)                           \
	do {                               \
		if (!(cond))               \
			FAIL("%s", #cond); \
	} while (0)
#define CHECK(cond, fmt, ...)                                         \
	do {                                                          \
		if (!(cond))                                          \
			FAIL("%s (" fmt ")", #cond, ##__VA_ARGS__);   \
	} while (0)
#define TEST_COMPARE(a, op, b)                                                               \
	do {                                                                                 \
		__typeof__((a) + 0) test_a = (a);                                            \
		__typeof__((b) + 0) test_b = (b);                                            \
		if (!((long long)test_a op (long long)test_b))                               \
			FAIL("%s " #op " %s, but they are %lld (%#llx) and %lld (%#llx)",    \
			     #a, #b, (long long)test_a, (unsigned long long)test_a,          \
			     (long long)test_b, (unsigned long long)test_b);                 \
	} while (0)
#define EQ(a, b) TEST_COMPARE(a, ==, b)
#define NE(a, b) TEST_COMPARE(a, !=, b)
#define LE(a, b) TEST_COMPARE(a, <=, b)
#define LT(a, b) TEST_COMPARE(a, <, b)
#define GE(a, b) TEST_COMPARE(a, >=, b)
#define GT(a, b) TEST_COMPARE(a, >, b)

/* ---- random numbers ---- */

static _Thread_local uint64_t rnd_state;

static UNUSED void
rnd_seed(uint64_t n)
{
	rnd_state = test_seed * UINT64_C(0x9e3779b97f4a7c15) + n;
}

static UNUSED uint64_t
rnd(void) /* splitmix64 */
{
	uint64_t z = (rnd_state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static UNUSED uint64_t
rnd_below(uint64_t n)
{
	return rnd() % n;
}

/*
 * Random runs one after another, for `seconds` or RINGBUF_SOAK, each with its
 * own numbers:  for (struct runs r = runs(1); next_run(&r);) ... r.n ...
 */
struct runs {
	uint64_t n, end_ns;
	int only;
};

/* ---- time ---- */

static UNUSED uint64_t
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static UNUSED void
sleep_ms(unsigned int ms)
{
	struct timespec ts = {ms / 1000, (long)(ms % 1000) * 1000000};

	while (nanosleep(&ts, &ts) && errno == EINTR)
		;
}

/* How long a random test of `seconds` should go on: RINGBUF_SOAK, if set, says. */
static UNUSED uint64_t
soak_ns(double seconds)
{
	const char *env = getenv("RINGBUF_SOAK");

	return (uint64_t)((env && *env ? atof(env) : seconds) * 1e9);
}

static UNUSED struct runs
runs(double seconds)
{
	const char *only = getenv("RINGBUF_RUN");
	struct runs r = {(uint64_t)-1, now_ns() + soak_ns(seconds), 0};

	if (only && *only) {
		r.n = strtoull(only, NULL, 0) - 1;
		r.only = 1;
	}
	return r;
}

/* At least one; returns 0 when it is time to stop. */
static UNUSED int
next_run(struct runs *r)
{
	if (r->only == 2 || (!r->only && r->n != (uint64_t)-1 && now_ns() > r->end_ns))
		return 0;
	if (r->only)
		r->only = 2;
	r->n++;
	rnd_seed(r->n);
	test_verdict->run = r->n;
	return 1;
}

/* ---- threads and processes ---- */

static UNUSED pthread_t
start(void *(*fn)(void *), void *arg)
{
	pthread_t t;
	int ret = pthread_create(&t, NULL, fn, arg);

	CHECK(ret == 0, "pthread_create: %s", strerror(ret));
	return t;
}

static UNUSED void *
join(pthread_t t)
{
	void *result;

	EQ(pthread_join(t, &result), 0);
	return result;
}

static UNUSED void
pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		SKIP("cannot pin a thread to CPU %d", cpu);
}

/* The CPUs this process may use: fills cpus[], returns how many. */
static UNUSED int
allowed_cpus(int *cpus, int max)
{
	cpu_set_t set;
	int n = 0;

	sched_getaffinity(0, sizeof(set), &set);
	for (int i = 0; i < CPU_SETSIZE && n < max; i++)
		if (CPU_ISSET(i, &set))
			cpus[n++] = i;
	return n;
}

static UNUSED void
need_cpus(int n)
{
	int cpus[4];

	if (allowed_cpus(cpus, 4) < n)
		SKIP("needs %d CPUs", n);
}

/* A forked child, which dies with its parent; in it, returns 0. */
static UNUSED pid_t
spawn(void)
{
	pid_t parent = getpid(), pid = fork();

	CHECK(pid >= 0, "fork: %s", strerror(errno));
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
	}
	return pid;
}

/* The wait status of `pid`, or -1 (and it is killed) if it does not end in time. */
static UNUSED int
reap_within(pid_t pid, uint64_t ns)
{
	uint64_t deadline = now_ns() + ns;
	int status;

	while (waitpid(pid, &status, WNOHANG) == 0) {
		if (now_ns() > deadline) {
			kill(pid, SIGKILL);
			waitpid(pid, &status, 0);
			return -1;
		}
		sleep_ms(1);
	}
	return status;
}

/* The child must end with exit status 0. */
static UNUSED void
reap(pid_t pid)
{
	int status;

	EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a child ended with status %#x", status);
}

/* The child kills itself. */
static UNUSED void
reap_killed(pid_t pid)
{
	int status;

	EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "status %#x", status);
}

static UNUSED void
kill_child(pid_t pid)
{
	kill(pid, SIGKILL);
	reap_killed(pid);
}

/* Zeroed memory that children share. */
static UNUSED void *
shared_memory(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	OK(p != MAP_FAILED);
	return p;
}

/* ---- hooks at test points ---- */

#ifdef HARNESS_HOOKS
static struct {
	const char *name;
	unsigned int skip;
	void (*fn)(void *arg);
	void *arg;
} test_hooks[8];
static unsigned int test_hooks_run;

static UNUSED void
testpoint(const char *name)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(test_hooks); i++) {
		void (*fn)(void *) = test_hooks[i].fn;

		if (!fn || strcmp(test_hooks[i].name, name))
			continue;
		if (test_hooks[i].skip) {
			test_hooks[i].skip--;
			continue;
		}
		test_hooks[i].fn = NULL;
		test_hooks_run++;
		fn(test_hooks[i].arg);
	}
}

/* At the (skip+1)-th passage of the test point, once. */
static UNUSED void
hook_after(const char *name, unsigned int skip, void (*fn)(void *), void *arg)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(test_hooks); i++)
		if (!test_hooks[i].fn) {
			test_hooks[i].name = name;
			test_hooks[i].skip = skip;
			test_hooks[i].arg = arg;
			test_hooks[i].fn = fn;
			return;
		}
	FAIL("too many hooks");
}

static UNUSED void
hook_at(const char *name, void (*fn)(void *), void *arg)
{
	hook_after(name, 0, fn, arg);
}

/* All that were hooked have run. */
static UNUSED void
hooks_done(void)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(test_hooks); i++)
		if (test_hooks[i].fn)
			FAIL("test point %s was not reached", test_hooks[i].name);
}
#endif

/* ---- channels ---- */

#define MIB (UINT64_C(1) << 20)
#define POS_END (UINT64_C(1) << 48)

/* A small global discard-mode channel, but for what the arguments say. */
#define CONFIG(...)                                                                          \
	(&(struct ringbuf_config){.name = "test", .subbuf_size = 4096, .n_subbufs = 4,       \
				  .streams = RINGBUF_GLOBAL, .n_producers = 16,              \
				  .schema_size = 4096, .clock_freq = 1000000000, ##__VA_ARGS__})

static UNUSED struct ringbuf_channel *
create(const struct ringbuf_config *cfg)
{
	struct ringbuf_channel *ch = NULL;
	int ret = ringbuf_create(cfg, &ch);

	CHECK(ret == 0, "ringbuf_create: %s", ringbuf_strerror(ret));
	return ch;
}

/* The calling thread's producer slot. */
static UNUSED struct ringbuf_producer_slot *
my_slot(struct ringbuf_channel *ch)
{
	struct ringbuf_producer *p = ringbuf_this_producer(ch);

	OK(p);
	return p->slot;
}

/* The sub-buffer that stands in the slot of `pos`, of stream 0. */
static UNUSED struct ringbuf_subbuf *
subbuf_of(const struct ringbuf_channel *ch, uint64_t pos)
{
	struct ringbuf_stream *s = ringbuf_stream_at(ch, 0);
	uint64_t ref = ringbuf_load(&ringbuf_slot_at(ch, s, pos)->subbuf_ref, RINGBUF_ACQUIRE);

	return ringbuf_subbuf_at(ch, s, ref & RINGBUF_REF_IDX_MASK);
}

static UNUSED uint64_t
pos_of(const struct ringbuf_channel *ch, uint32_t stream_idx)
{
	return ringbuf_pos(ringbuf_load(&ringbuf_stream_at(ch, stream_idx)->produced, RINGBUF_ACQUIRE));
}

static UNUSED uint64_t
lost(const struct ringbuf_channel *ch, enum ringbuf_cause cause)
{
	struct ringbuf_stats st;

	ringbuf_channel_stats(ch, &st);
	return st.lost[cause];
}

static UNUSED struct ringbuf_stats
stats_of(const struct ringbuf_channel *ch)
{
	struct ringbuf_stats st;

	ringbuf_channel_stats(ch, &st);
	return st;
}

static UNUSED uint64_t
lost_total(const struct ringbuf_stats *st)
{
	uint64_t sum = 0;

	for (int cause = RINGBUF_LOST_FULL; cause <= RINGBUF_LOST_DISABLED; cause++)
		sum += st->lost[cause];
	return sum;
}

/* The two identities; attempts as the test counted them. */
#define CHECK_IDENTITIES(stats, attempts)                                                          \
	do {                                                                                       \
		struct ringbuf_stats test_st = (stats);                                            \
		EQ(attempts, test_st.written + test_st.discarded + lost_total(&test_st));          \
		EQ(test_st.written, test_st.read + test_st.overrun + test_st.unread +              \
					    test_st.lost[RINGBUF_LOST_TORN]);                      \
	} while (0)

/* ---- records that can be recognised ---- */

#define STAMP_MAGIC UINT32_C(0x57a3b1e5)

/* The first bytes of a payload; the rest is a pattern that follows from them. */
struct stamp {
	uint32_t magic, producer;
	uint64_t seq;
};

static UNUSED uint8_t
stamp_byte(uint32_t producer, uint64_t seq, uint64_t i)
{
	return (uint8_t)(producer * 31 + seq * 7 + i * 13 + 5);
}

static UNUSED void
stamp_payload(uint8_t *payload, uint64_t size, uint32_t producer, uint64_t seq)
{
	struct stamp stamp = {STAMP_MAGIC, producer, seq};
	uint64_t i = size < sizeof(stamp) ? size : sizeof(stamp);

	memcpy(payload, &stamp, i);
	for (; i < size; i++)
		payload[i] = stamp_byte(producer, seq, i);
}

/* One record: reserve, stamp, commit. Returns what ringbuf_reserve did. */
static UNUSED int
record_event(struct ringbuf_channel *ch, uint32_t event_id, uint64_t size, uint32_t align,
	     uint32_t producer, uint64_t seq)
{
	struct ringbuf_reservation r = {.event_id = event_id, .payload_size = size, .align = align,
					.flags = RINGBUF_LENGTH_PREFIX};
	int ret = ringbuf_reserve(ch, &r);

	if (ret)
		return ret;
	stamp_payload(r.payload, size, producer, seq);
	ringbuf_commit(ch, &r);
	return 0;
}

static UNUSED int
record(struct ringbuf_channel *ch, uint64_t size, uint64_t seq)
{
	return record_event(ch, 1, size, 1, 0, seq);
}

/* A reservation of `size` bytes, stamped, to be committed or discarded later. */
static UNUSED int
reserve(struct ringbuf_channel *ch, struct ringbuf_reservation *r, uint64_t size, uint64_t seq)
{
	int ret;

	*r = (struct ringbuf_reservation){.event_id = 1, .payload_size = size,
					  .flags = RINGBUF_LENGTH_PREFIX};
	ret = ringbuf_reserve(ch, r);
	if (!ret)
		stamp_payload(r->payload, size, 0, seq);
	return ret;
}

/* Bytes that record() uses at `off` of a packet: compact short header and length before the payload. */
static UNUSED uint64_t
record_size(uint64_t off, uint64_t payload_size)
{
	return ((4 - off % 4) % 4) + 4 + 4 + payload_size;
}

/* The largest payload that record() can place. */
static UNUSED uint64_t
payload_max(const struct ringbuf_channel *ch)
{
	return ringbuf_subbuf_size(&ch->geometry) - ch->packet_header_size - 8;
}

static UNUSED void
flush(struct ringbuf_channel *ch)
{
	for (uint32_t i = 0; i < ch->n_streams; i++)
		EQ(ringbuf_flush(ch, my_slot(ch), i, 0), 0);
}

static UNUSED void
finalize(struct ringbuf_channel *ch)
{
	EQ(ringbuf_finalize(ch, my_slot(ch)), 0);
}

/* ---- a walker over CTF packets ---- */

struct record {
	uint32_t id;
	uint64_t time;
	const uint8_t *payload;
	uint64_t size;       /* of the payload */
	uint64_t off, end;   /* of its header, of its last byte + 1 */
	int extended;
	struct stamp stamp;  /* if size >= sizeof(stamp) */
};

struct walker {
	const struct ringbuf_channel *ch;
	const struct ringbuf_packet *p;
	/* Size and alignment of event `id`; NULL: a length prefix says, and alignment is 1. */
	void (*shape)(uint32_t id, uint64_t *size, uint64_t *align);
	uint64_t context_size;
	uint64_t off, time, records, holes;
};

static UNUSED uint64_t
get_le(const uint8_t *at, unsigned int n)
{
	uint64_t v = 0;

	while (n--)
		v = v << 8 | at[n];
	return v;
}

/* Check the packet header against what the ring says of the packet. */
static UNUSED void
walk_begin(struct walker *w, const struct ringbuf_channel *ch, const struct ringbuf_packet *p)
{
	const uint8_t *d = p->data;
	uint64_t header = ch->streams == RINGBUF_PER_CPU ? 84 : 80;

	memset(w, 0, sizeof(*w));
	w->ch = ch;
	w->p = p;
	w->off = header;
	w->time = p->timestamp_begin;
	GE(p->content_size, header);
	GE(p->packet_size, p->content_size);
	EQ(p->packet_size % 4096, 0);
	LE(p->packet_size, ringbuf_subbuf_size(&ch->geometry));
	EQ(get_le(d, 4), 0xC1FC1FC1);
	EQ(memcmp(d + 4, ch->super->uuid, 16), 0);
	EQ(get_le(d + 20, 4), 0);
	EQ(get_le(d + 24, 8), p->stream_idx);
	EQ(get_le(d + 32, 8), p->timestamp_begin);
	EQ(get_le(d + 40, 8), p->timestamp_end);
	EQ(get_le(d + 48, 8), p->content_size * 8);
	EQ(get_le(d + 56, 8), p->packet_size * 8);
	EQ(get_le(d + 64, 8), p->sequence_number);
	EQ(get_le(d + 72, 8), p->events_discarded);
	if (header == 84)
		EQ(get_le(d + 80, 4), p->stream_idx);
	OK(p->timestamp_begin <= p->timestamp_end);
}

/* One record header at w->off, which is moved past it. Returns its id, or -1: a hole. */
static UNUSED int64_t
walk_header(struct walker *w, struct record *rec)
{
	const uint8_t *at = w->p->data + w->off;
	int compact = w->ch->header == RINGBUF_COMPACT;
	unsigned int tag_size = compact ? 1 : 2, bits = compact ? 27 : 32;
	uint64_t left = w->p->content_size - w->off, time;
	uint64_t id;

	GE(left, compact ? 4 : 6);
	id = compact ? at[0] & 31 : get_le(at, 2);
	rec->extended = id == (compact ? 31 : 65535);
	if (rec->extended) {
		GE(left, tag_size + 12);
		if (compact)
			EQ(at[0] >> 5, 0);
		rec->id = (uint32_t)get_le(at + tag_size, 4);
		rec->time = get_le(at + tag_size + 4, 8);
		w->off += tag_size + 12;
		return rec->id;
	}
	time = compact ? get_le(at, 4) >> 5 : get_le(at + 2, 4);
	w->off += compact ? 4 : 6;
	if (id == (compact ? 30 : 65534)) {
		LE(time, left - (compact ? 4 : 6));
		w->off += time;
		return -1;
	}
	rec->id = (uint32_t)id;
	/* as a reader does: the next moment whose low bits are these */
	rec->time = (w->time & ~((UINT64_C(1) << bits) - 1)) | time;
	if (rec->time < w->time)
		rec->time += UINT64_C(1) << bits;
	return rec->id;
}

/* The next record: 1, or 0 at the end of the packet's content. */
static UNUSED int
walk_next(struct walker *w, struct record *rec)
{
	uint64_t content = w->p->content_size, align = 1;

	memset(rec, 0, sizeof(*rec));
	if (w->off == content) {
		EQ(w->records, w->p->records);
		return 0;
	}
	w->off = (w->off + 3) & ~UINT64_C(3);
	LT(w->off, content);
	rec->off = w->off;
	if (walk_header(w, rec) < 0) {
		w->holes++;
		CHECK(w->off < content, "the packet ends with a hole");
		w->off = (w->off + 3) & ~UINT64_C(3);
		rec->off = w->off;
		CHECK(walk_header(w, rec) >= 0, "two holes touch");
	}
	CHECK(rec->time >= w->time, "time goes back by %lld at offset %lld",
	      (long long)(w->time - rec->time), (long long)rec->off);
	OK(rec->time <= w->p->timestamp_end);
	w->time = rec->time;
	w->off += w->context_size;
	if (w->shape) {
		w->shape(rec->id, &rec->size, &align);
	} else {
		LE(w->off + 4, content);
		rec->size = get_le(w->p->data + w->off, 4);
		w->off += 4;
	}
	w->off = (w->off + align - 1) & ~(align - 1);
	LE(w->off + rec->size, content);
	rec->payload = w->p->data + w->off;
	w->off += rec->size;
	rec->end = w->off;
	w->records++;
	if (rec->size >= sizeof(rec->stamp))
		memcpy(&rec->stamp, rec->payload, sizeof(rec->stamp));
	return 1;
}

/* The payload is what stamp_payload() wrote. */
static UNUSED void
check_stamp(const struct record *rec)
{
	EQ(rec->stamp.magic, STAMP_MAGIC);
	for (uint64_t i = sizeof(rec->stamp); i < rec->size; i++)
		if (rec->payload[i] != stamp_byte(rec->stamp.producer, rec->stamp.seq, i))
			FAIL("producer %u record %llu: byte %llu of %llu is damaged", rec->stamp.producer,
			     (unsigned long long)rec->stamp.seq, (unsigned long long)i,
			     (unsigned long long)rec->size);
}

/* ---- one stream, read to check it ---- */

struct reading {
	struct ringbuf_stream_reader reader;
	void (*each)(const struct record *rec, void *arg); /* NULL: nothing more */
	void *arg;
	int plain;                 /* payloads are no stamps */
	int any;
	uint64_t end, seq, discarded;  /* of the last packet */
	uint64_t packets, records, holes, gaps; /* gaps: packets lapped or dropped before they were read */
};

static UNUSED void
reading_init(struct reading *rd, const struct ringbuf_channel *ch, uint32_t stream_idx)
{
	memset(rd, 0, sizeof(*rd));
	ringbuf_stream_reader_init(ch, stream_idx, &rd->reader);
}

/* Check the held packet: its records, and that it follows the one before. */
static UNUSED void
check_packet(struct reading *rd)
{
	const struct ringbuf_packet *p = &rd->reader.packet;
	struct walker w;
	struct record rec;

	walk_begin(&w, rd->reader.ch, p);
	while (walk_next(&w, &rec)) {
		if (!rd->plain)
			check_stamp(&rec);
		if (rd->each)
			rd->each(&rec, rd->arg);
	}
	if (rd->any) {
		CHECK(p->timestamp_begin >= rd->end, "packet %lld begins %lld before its predecessor's end",
		      (long long)p->sequence_number, (long long)(rd->end - p->timestamp_begin));
		GT(p->sequence_number, rd->seq);
		GE(p->events_discarded, rd->discarded);
		rd->gaps += p->sequence_number - rd->seq - 1;
	} else {
		rd->gaps += p->sequence_number;
	}
	rd->any = 1;
	rd->end = p->timestamp_end;
	rd->seq = p->sequence_number;
	rd->discarded = p->events_discarded;
	rd->packets++;
	rd->records += w.records;
	rd->holes += w.holes;
}

/* Read what there is, checking it. Returns the number of packets. */
static UNUSED uint64_t
read_all(struct reading *rd)
{
	uint64_t packets = 0;

	while (ringbuf_get_next_subbuf(&rd->reader) == 0) {
		check_packet(rd);
		ringbuf_put_subbuf(&rd->reader, RINGBUF_PUT_READ);
		packets++;
	}
	return packets;
}

/* Flush, then read and check everything in all streams: returns the records found. */
static UNUSED uint64_t
flush_and_read(struct ringbuf_channel *ch)
{
	uint64_t records = 0;

	flush(ch);
	for (uint32_t i = 0; i < ch->n_streams; i++) {
		struct reading rd;

		reading_init(&rd, ch, i);
		read_all(&rd);
		records += rd.records;
	}
	return records;
}

/* ---- main ---- */

static void
test_report(const struct test_case *c, int status, int timed_out)
{
	int state = atomic_load(&test_verdict->state);
	char why[64] = "";

	if (timed_out)
		snprintf(why, sizeof(why), "did not end within %d seconds", TEST_SECONDS_MAX);
	else if (WIFSIGNALED(status))
		snprintf(why, sizeof(why), "killed by signal %d", WTERMSIG(status));
	else if (WEXITSTATUS(status))
		snprintf(why, sizeof(why), "exit status %d", WEXITSTATUS(status));
	if (state == 2 || *why)
		printf("not ok %s: %s (RINGBUF_SEED=%llu RINGBUF_RUN=%llu)\n", c->name,
		       state == 2 ? test_verdict->reason : why, (unsigned long long)test_seed,
		       test_verdict->run);
	else if (state == 3)
		printf("ok %s # SKIP %s\n", c->name, test_verdict->reason);
	else
		printf("ok %s\n", c->name);
	fflush(stdout);
}

/* Returns 1 if the case failed. */
static int
test_run(const struct test_case *c)
{
	struct timespec limit = {TEST_SECONDS_MAX, 0};
	sigset_t chld, before;
	int status = 0, timed_out = 0;
	pid_t pid;

	if (getenv("RINGBUF_SOAK"))
		limit.tv_sec += (time_t)(atof(getenv("RINGBUF_SOAK")) * 10);
	memset(test_verdict, 0, sizeof(*test_verdict));
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_BLOCK, &chld, &before);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		sigprocmask(SIG_SETMASK, &before, NULL);
		rnd_seed(0);
		c->run();
		fflush(NULL);
		exit(0);
	}
	while (waitpid(pid, &status, WNOHANG) == 0)
		if (sigtimedwait(&chld, NULL, &limit) < 0 && errno == EAGAIN) {
			timed_out = 1;
			kill(pid, SIGKILL);
			waitpid(pid, &status, 0);
			break;
		}
	sigprocmask(SIG_SETMASK, &before, NULL);
	test_report(c, status, timed_out);
	return timed_out || status || atomic_load(&test_verdict->state) == 2;
}

int
main(int argc, char **argv)
{
	const char *seed = getenv("RINGBUF_SEED");
	int failed = 0;

	if (argc == 2 && !strcmp(argv[1], "--list")) {
		for (unsigned int i = 0; i < test_n_cases; i++)
			puts(test_cases[i].name);
		return 0;
	}
	test_seed = seed && *seed ? strtoull(seed, NULL, 0) : now_ns() ^ (uint64_t)getpid() << 32;
	test_verdict = (struct test_verdict *)mmap(NULL, sizeof(*test_verdict), PROT_READ | PROT_WRITE,
						   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (test_verdict == MAP_FAILED)
		return 1;
	for (int arg = 1; arg < argc; arg++) {
		unsigned int i = 0;

		while (i < test_n_cases && strcmp(argv[arg], test_cases[i].name))
			i++;
		if (i < test_n_cases) {
			failed |= test_run(&test_cases[i]);
		} else {
			printf("not ok %s: no such case\n", argv[arg]);
			failed = 1;
		}
	}
	for (unsigned int i = 0; argc == 1 && i < test_n_cases; i++)
		failed |= test_run(&test_cases[i]);
	return failed;
}

#endif /* HARNESS_H */
