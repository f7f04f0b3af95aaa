/*
 * explore.h - forced and enumerated schedules of the shipped headers.
 *
 * Actors are coroutines of one thread. Every atomic access and every copy into
 * or out of a sub-buffer is a place where the running actor can be stopped and
 * another go on, so a schedule is a sequence of decisions that can be written
 * down, enumerated, or drawn from a seed:
 *
 *	run_until(&a, "switch_before_header")   a script, by test point
 *	explore(&world, bound)                  all schedules of at most `bound` preemptions
 *	explore_random(&world)                  one, drawn from rnd()
 *
 * What it misses: memory is sequentially consistent here (the model checker
 * looks at weak orders), and an actor is stopped between accesses only.
 *
 * The clock is a counter. An early read (clock.h) returns the oldest time that
 * a processor could: that of the last read on this CPU, or of the actor's
 * arrival on it.
 */
#ifndef EXPLORE_H
#define EXPLORE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <ucontext.h>

/* ---- the seams: atomics, clock, CPU, test points ---- */

static void explore_yield(void);
static void explore_testpoint(const char *name);

#define RINGBUF_TESTPOINT(name) explore_testpoint(#name)

#define RINGBUF_ATOMIC_HEADER <stdatomic.h>
typedef _Atomic uint64_t ringbuf_atomic_u64;
typedef _Atomic uint32_t ringbuf_atomic_u32;
#define RINGBUF_RELAXED memory_order_relaxed
#define RINGBUF_ACQUIRE memory_order_acquire
#define RINGBUF_RELEASE memory_order_release
#define RINGBUF_ACQ_REL memory_order_acq_rel
#define RINGBUF_SEQ_CST memory_order_seq_cst
#define ringbuf_load(p, order) (explore_yield(), atomic_load_explicit((p), (order)))
#define ringbuf_store(p, v, order) (explore_yield(), atomic_store_explicit((p), (v), (order)))
#define ringbuf_add(p, v, order) (explore_yield(), atomic_fetch_add_explicit((p), (v), (order)))
#define ringbuf_or(p, v, order) (explore_yield(), atomic_fetch_or_explicit((p), (v), (order)))
#define ringbuf_and(p, v, order) (explore_yield(), atomic_fetch_and_explicit((p), (v), (order)))
#define ringbuf_exchange(p, v, order) (explore_yield(), atomic_exchange_explicit((p), (v), (order)))
#define ringbuf_cas(p, expected, desired, success, failure)                                  \
	(explore_yield(),                                                                    \
	 atomic_compare_exchange_strong_explicit((p), (expected), (desired), (success), (failure)))
#define ringbuf_data_write(dst, src, len) (explore_yield(), memcpy((dst), (src), (len)))
#define ringbuf_data_read(dst, src, len) (explore_yield(), memcpy((dst), (src), (len)))
#define ringbuf_data_fill(dst, byte, len) (explore_yield(), memset((dst), (byte), (len)))

#define EXPLORE_CPUS 4

struct actor {
	ucontext_t context;
	void *stack;
	void (*fn)(void *arg);
	void *arg;
	const char *at;      /* the test point it stands at */
	const char *stop_at; /* the one it is to run to */
	unsigned int stop_skip;
	int done;
	void (*signal)(void *arg); /* a handler that may run over it, on its own stack */
	void (*die)(struct actor *self); /* it may be stopped for ever: called then */
	int dead;
	uint32_t cpu;
	uint64_t arrived;    /* on that CPU */
	int migrated;        /* since it asked for its number */
};

static ucontext_t explore_main;
static struct actor *explore_running; /* NULL: the test itself */
static uint32_t explore_cpu;          /* where the test itself is */
static uint64_t explore_time, explore_last_read[EXPLORE_CPUS];

static void explore_log(const char *what);
static void (*explore_passed)(const char *name); /* called at each test point, if set */

struct ringbuf_channel;
#define RINGBUF_CPU_HEADER <stdint.h>
static inline uint32_t
ringbuf_cpu(void)
{
	explore_yield();
	if (!explore_running)
		return explore_cpu;
	explore_running->migrated = 0;
	return explore_running->cpu;
}

#define RINGBUF_CLOCK_HEADER <time.h>
#define RINGBUF_NS_PER_S UINT64_C(1000000000)

/* Of actors: the counter again, so that a schedule can be repeated. */
static inline uint64_t
ringbuf_clock_ns(clockid_t id)
{
	struct timespec ts;

	if (explore_running && id == CLOCK_MONOTONIC)
		return ++explore_time;
	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * RINGBUF_NS_PER_S + (uint64_t)ts.tv_nsec;
}

static inline uint64_t
ringbuf_clock_ordered(const struct ringbuf_channel *ch)
{
	uint32_t cpu;

	(void)ch;
	explore_yield();
	cpu = explore_running ? explore_running->cpu : explore_cpu;
	explore_last_read[cpu] = ++explore_time;
	explore_log("reads the clock");
	return explore_time;
}

static inline uint64_t
ringbuf_clock_early(const struct ringbuf_channel *ch)
{
	struct actor *self = explore_running;
	uint64_t oldest;

	if (!self)
		return ringbuf_clock_ordered(ch);
	explore_yield();
	++explore_time;
	oldest = explore_last_read[self->cpu];
	if (self->arrived > oldest)
		oldest = self->arrived;
	explore_last_read[self->cpu] = oldest + 1 < explore_time ? oldest + 1 : explore_time;
	explore_log("reads the clock early");
	return explore_last_read[self->cpu];
}

static inline uint64_t ringbuf_tsc_measure_freq(void) { return RINGBUF_NS_PER_S; }
static inline void
ringbuf_clock_offset(int clock, uint64_t freq, int64_t *offset_s, uint64_t *offset)
{
	(void)clock;
	(void)freq;
	*offset_s = 0;
	*offset = 0;
}

#if !defined(EXPLORE_REAL_LOCKS)
/* Certificates: plain words, which are restored with the region. Their owner is an actor, or the
 * test itself, and whoever makes an actor die gives up what it held. */
#define RINGBUF_CERTIFICATE_HEADER <pthread.h>
#define EXPLORE_TEST_OWNS 1u

static unsigned int explore_owner(void);

static inline unsigned int *
explore_owner_of(pthread_mutex_t *m)
{
	return (unsigned int *)(void *)m;
}

static inline int
ringbuf_robust_mutex_init(pthread_mutex_t *m)
{
	memset(m, 0, sizeof(*m));
	return 0;
}

static inline int
ringbuf_robust_lock(pthread_mutex_t *m, int wait)
{
	(void)wait;
	explore_yield();
	if (*explore_owner_of(m))
		return -EBUSY;
	*explore_owner_of(m) = explore_owner();
	return 0;
}

static inline void
ringbuf_robust_unlock(pthread_mutex_t *m)
{
	explore_yield();
	*explore_owner_of(m) = 0;
}

static inline void
ringbuf_robust_fork_child(void)
{
}

static inline int
ringbuf_robust_was_held(const pthread_mutex_t *m)
{
	return *(const unsigned int *)(const void *)m != 0;
}
#endif /* EXPLORE_REAL_LOCKS */

#include "harness.h"

/* ---- actors ---- */

#define EXPLORE_STACK (128 * 1024)
#define EXPLORE_ACTORS_MAX 8
#define EXPLORE_STEPS_MAX 100000

enum explore_mode { EXPLORE_SCRIPT, EXPLORE_ALL, EXPLORE_RANDOM };

/* One decision of an enumeration: which of n was taken. */
struct explore_choice {
	uint16_t taken, n;
};

static struct {
	enum explore_mode mode;
	struct actor *actors;
	unsigned int n_actors;
	unsigned int steps;
	/* EXPLORE_ALL: */
	struct explore_choice *choices;
	unsigned int depth, replayed, preemptions, bound;
	unsigned int signals_left, deaths_left; /* bounds on these, in each run */
	/* EXPLORE_RANDOM: one in this many accesses is a switch, a migration, ...; 0: none */
	unsigned int switch_odds, migrate_odds, signal_odds, death_odds;
	uint32_t n_cpus;
	struct actor *next; /* chosen by the actor that stopped */
} explore_state;

#if !defined(EXPLORE_REAL_LOCKS)
static unsigned int
explore_owner(void)
{
	return explore_running ? (unsigned int)(explore_running - explore_state.actors) + 2 : EXPLORE_TEST_OWNS;
}
#endif

/* With RINGBUF_TRACE set, the schedule on stderr: actor, its CPU, the time, the step. */
static UNUSED void
explore_log(const char *what)
{
	static int on = -1;

	if (on < 0)
		on = getenv("RINGBUF_TRACE") != NULL;
	if (on && explore_running)
		fprintf(stderr, "  %td@%u %llu %s\n", explore_running - explore_state.actors,
			explore_running->cpu, (unsigned long long)explore_time, what);
}

#if defined(__GLIBC__)
#define explore_swap swapcontext

static void
explore_make(ucontext_t *context, void *stack, void (*entry)(void))
{
	getcontext(context);
	context->uc_stack.ss_sp = stack;
	context->uc_stack.ss_size = EXPLORE_STACK;
	context->uc_link = NULL;
	makecontext(context, entry, 0);
}
#else /* musl has the type, without the functions */
#define explore_swap(from, to) ((void)(from), (void)(to))
#define explore_make(context, stack, entry)                                                       \
	((void)(context), (void)(stack), (void)(entry), SKIP("this C library cannot switch stacks"))
#endif

static void
explore_stop(void)
{
	struct actor *self = explore_running;

	explore_swap(&self->context, &explore_main);
}

static unsigned int
explore_runnable(const struct actor *except, struct actor **list)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < explore_state.n_actors; i++)
		if (!explore_state.actors[i].done && &explore_state.actors[i] != except)
			list[n++] = &explore_state.actors[i];
	return n;
}

/* One of n, the first time 0, then as the enumeration goes on. */
static unsigned int
explore_choose(unsigned int n)
{
	struct explore_choice *c = &explore_state.choices[explore_state.depth];

	if (explore_state.depth >= EXPLORE_STEPS_MAX)
		FAIL("a schedule without end");
	if (explore_state.depth++ >= explore_state.replayed) {
		c->taken = 0;
		c->n = (uint16_t)n;
	}
	CHECK(c->n == n, "the schedule cannot be repeated");
	return c->taken;
}

static void
explore_kill(struct actor *self)
{
	explore_log("dies");
	explore_state.deaths_left--;
	self->dead = 1;
	explore_stop();
}

static void
explore_interrupt(struct actor *self)
{
	int migrated = self->migrated;
	uint32_t cpu = self->cpu;

	explore_log("has a signal");
	explore_state.signals_left--;
	self->migrated = 0;
	self->signal(self->arg);
	if (migrated && self->cpu != cpu) { /* nor back by way of a signal: see below */
		self->cpu = cpu;
		self->arrived = ++explore_time;
	}
	self->migrated = migrated || self->migrated || self->cpu != cpu;
	explore_log("returns from a signal");
}

static unsigned int
explore_odds(unsigned int odds)
{
	return odds && !rnd_below(odds);
}

static void
explore_yield_random(struct actor *self)
{
	CHECK(explore_state.steps < 10 * EXPLORE_STEPS_MAX, "a schedule without end");
	if (!self->migrated && explore_odds(explore_state.migrate_odds)) {
		/* Away and back between two questions is left out: clock.h takes it to be
		 * impossible in the nanoseconds that an early read is early by. */
		self->migrated = 1;
		self->cpu = (uint32_t)rnd_below(explore_state.n_cpus);
		self->arrived = ++explore_time;
		explore_log("arrives");
	}
	if (self->signal && explore_state.signals_left && explore_odds(explore_state.signal_odds))
		explore_interrupt(self);
	if (self->die && explore_state.deaths_left && explore_odds(explore_state.death_odds))
		explore_kill(self);
	if (explore_odds(explore_state.switch_odds))
		explore_stop();
}

static void
explore_yield(void)
{
	struct actor *self = explore_running, *others[EXPLORE_ACTORS_MAX];
	unsigned int n = 0, signals, deaths, choice;

	if (!self || explore_state.mode == EXPLORE_SCRIPT)
		return;
	explore_state.steps++;
	if (explore_state.mode == EXPLORE_RANDOM) {
		explore_yield_random(self);
		return;
	}
	if (explore_state.preemptions < explore_state.bound)
		n = explore_runnable(self, others);
	signals = self->signal && explore_state.signals_left;
	deaths = self->die && explore_state.deaths_left;
	if (!n && !signals && !deaths)
		return;
	choice = explore_choose(1 + n + signals + deaths);
	if (!choice)
		return;
	if (choice <= n) {
		explore_state.preemptions++;
		explore_state.next = others[choice - 1];
		explore_stop();
	} else if (signals && choice == n + 1) {
		explore_interrupt(self);
	} else {
		explore_kill(self);
	}
}

static void
explore_testpoint(const char *name)
{
	struct actor *self = explore_running;

	if (explore_passed)
		explore_passed(name);
	if (!self)
		return;
	self->at = name;
	explore_log(name);
	if (explore_state.mode == EXPLORE_SCRIPT && self->stop_at && !strcmp(self->stop_at, name)) {
		if (self->stop_skip)
			self->stop_skip--;
		else
			explore_stop();
	}
}

static void
explore_entry(void)
{
	struct actor *self = explore_running;

	self->fn(self->arg);
	self->done = 1;
	self->at = NULL;
	explore_stop();
}

/* Make *a an actor that will do fn(arg); it may have been one before, however far it got. */
static UNUSED void
actor_init(struct actor *a, void (*fn)(void *), void *arg)
{
	void *stack = a->stack ? a->stack : malloc(EXPLORE_STACK);

	if (TSAN)
		SKIP("all actors run in one thread: ThreadSanitizer would see no race");
	memset(a, 0, sizeof(*a));
	a->stack = stack;
	a->fn = fn;
	a->arg = arg;
	explore_make(&a->context, stack, explore_entry);
}

static UNUSED void
actor_resume(struct actor *a)
{
	struct actor *before = explore_running;

	OK(!before && !a->done);
	explore_running = a;
	explore_swap(&explore_main, &a->context);
	explore_running = NULL;
	if (a->dead)
		a->die(a);
}

/* ---- scripts ---- */

/* Run `a` until it stands at the test point, for the (skip+1)-th time from here. */
static UNUSED void
run_until_after(struct actor *a, const char *name, unsigned int skip)
{
	explore_state.mode = EXPLORE_SCRIPT;
	a->stop_at = name;
	a->stop_skip = skip;
	actor_resume(a);
	if (a->done)
		FAIL("the actor ended without reaching %s", name);
}

static UNUSED void
run_until(struct actor *a, const char *name)
{
	run_until_after(a, name, 0);
}

/* Run `a` to its end. */
static UNUSED void
run(struct actor *a)
{
	explore_state.mode = EXPLORE_SCRIPT;
	a->stop_at = NULL;
	actor_resume(a);
	OK(a->done);
}

/* ---- enumeration ---- */

/* A situation to be explored: what is set up, who acts, what must hold at the end. */
struct world {
	void (*reset)(struct actor *actors, unsigned int *n_actors);
	void (*check)(void);
};

static UNUSED void
explore_run(const struct world *w)
{
	static struct actor actors[EXPLORE_ACTORS_MAX];
	struct actor *list[EXPLORE_ACTORS_MAX];
	unsigned int n;

	explore_state.actors = actors;
	explore_state.steps = explore_state.depth = explore_state.preemptions = 0;
	explore_state.next = NULL;
	w->reset(actors, &explore_state.n_actors);
	while ((n = explore_runnable(NULL, list))) {
		struct actor *next = explore_state.next;

		if (!next || next->done)
			next = explore_state.mode == EXPLORE_RANDOM ? list[rnd_below(n)]
								    : list[explore_choose(n)];
		explore_state.next = NULL;
		explore_running = next;
		explore_log("resumes");
		explore_running = NULL;
		actor_resume(next);
	}
	explore_state.mode = EXPLORE_SCRIPT;
	w->check();
}

/*
 * All schedules of at most `bound` preemptions, or those that fit into
 * `seconds` of the processor's time. Returns how many were run; *complete says whether that was all.
 */
static UNUSED unsigned long long
explore(const struct world *w, unsigned int bound, double seconds, int *complete)
{
	unsigned long long runs = 0;
	uint64_t limit = (uint64_t)(seconds * 1e9);

	explore_state.choices = calloc(EXPLORE_STEPS_MAX + 1, sizeof(*explore_state.choices));
	explore_state.bound = bound;
	explore_state.replayed = 0;
	*complete = 0;
	do {
		unsigned int depth;

		explore_state.mode = EXPLORE_ALL;
		explore_run(w);
		runs++;
		depth = explore_state.depth;
		while (depth && explore_state.choices[depth - 1].taken + 1 >=
					explore_state.choices[depth - 1].n)
			depth--;
		if (!depth) {
			*complete = 1;
			break;
		}
		explore_state.choices[depth - 1].taken++;
		explore_state.replayed = depth;
	} while (ringbuf_clock_ns(CLOCK_PROCESS_CPUTIME_ID) < limit);
	free(explore_state.choices);
	return runs;
}

/* One schedule drawn from rnd(), by the odds in explore_state. */
static UNUSED void
explore_random(const struct world *w)
{
	explore_state.mode = EXPLORE_RANDOM;
	explore_run(w);
}

#endif /* EXPLORE_H */
