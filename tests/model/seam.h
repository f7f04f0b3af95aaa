/*
 * tests/model/seam.h - the headers' seams, for the model checker.
 *
 * Supplies what atomic.h, clock.h, cpu.h and wait.h otherwise take from the
 * machine: atomics that Relacy explores, sub-buffer bytes that Relacy checks
 * for data races, a clock, a CPU number and a futex of the model's own. The
 * headers themselves compile unchanged.
 *
 * A model is a small program of 2 to 4 threads. Relacy runs it again and again,
 * each time with another interleaving, and lets a load return any value that
 * C11 allows it (of the last two or three written).
 */
#ifndef MODEL_SEAM_H
#define MODEL_SEAM_H

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

/* The parts of Relacy that define no macros over the C library's names. */
#include <relacy/base.hpp>
#include <relacy/context.hpp>
#include <relacy/context_base_impl.hpp>
#include <relacy/atomic_fence.hpp>
#include <relacy/atomic.hpp>
#include <relacy/var.hpp>
#include <relacy/test_suite.hpp>
#include <relacy/stdlib/mutex.hpp>
#include <relacy/stdlib/condition_variable.hpp>
#include <relacy/stdlib/semaphore.hpp>
#include <relacy/stdlib/event.hpp>

#define MODEL_THREADS_MAX 4
#define MODEL_CPUS_MAX 2

/* ---- memory orders: each occurrence in the headers is a site that can be weakened ---- */

#define MODEL_SITES_MAX 1024

struct model_orders {
	bool strong; /* all operations sequentially consistent: checks logic alone */
	bool weak[MODEL_SITES_MAX];                 /* mutants: this site ... */
	rl::memory_order weakened[MODEL_SITES_MAX]; /* ... has this order instead */
	bool seen[MODEL_SITES_MAX];                 /* executed at least once */
};

extern struct model_orders model_orders;

inline rl::memory_order
model_order(rl::memory_order order, int site)
{
	model_orders.seen[site] = true;
	if (model_orders.strong)
		return rl::mo_seq_cst;
	return model_orders.weak[site] ? model_orders.weakened[site] : order;
}

/* __COUNTER__ numbers the occurrences in the order of the text; mutants.py reads
 * them off the preprocessor's output. */
#define RINGBUF_RELAXED (model_orders.strong ? rl::mo_seq_cst : rl::mo_relaxed)
#define RINGBUF_ACQUIRE model_order(rl::mo_acquire, __COUNTER__)
#define RINGBUF_RELEASE model_order(rl::mo_release, __COUNTER__)
#define RINGBUF_ACQ_REL model_order(rl::mo_acq_rel, __COUNTER__)
#define RINGBUF_SEQ_CST model_order(rl::mo_seq_cst, __COUNTER__)

/* ---- threads of the model: death, signals, CPUs ---- */

/* Thrown where a thread dies; caught by model_until_death() (model.h). */
struct model_death {};

struct model_thread {
	int die_in;          /* dies before its n-th atomic operation from here; 0: lives */
	int signal_in;       /* likewise, runs `handler` there */
	void (*handler)(void);
	uint32_t cpu;
	int migrate_in[2];   /* likewise, goes to the other CPU; and, so many after that, back */
	uint64_t floor;      /* an early clock read cannot be older than this */
	bool unchecked;      /* may read words that others own, as statistics do */
	const pthread_mutex_t *held[4]; /* certificates that it has locked itself */
	struct ringbuf_producer_slot *producer; /* records through this one; NULL: its own */
};

struct model_machine {
	struct model_thread threads[MODEL_THREADS_MAX];
	uint64_t now, tick;
	uint64_t cpu_floor[MODEL_CPUS_MAX];
	bool early;          /* ringbuf_clock_early() may run ahead of earlier loads */
	bool quiet;          /* no preemption at words that threads do not contend for */
};

extern struct model_machine model_machine;

inline struct model_thread &
model_self(void)
{
	return model_machine.threads[rl::ctx().threadx_->index_];
}

/* To the other CPU: a context switch, which waits for everything. */
inline void
model_migrate(struct model_thread &self)
{
	self.cpu = (self.cpu + 1) % MODEL_CPUS_MAX;
	self.floor = model_machine.now;
}

/* Before each atomic operation of a thread. */
inline void
model_step(void)
{
	struct model_thread &self = model_self();

	if (self.migrate_in[0]) {
		if (!--self.migrate_in[0])
			model_migrate(self);
	} else if (self.migrate_in[1] && !--self.migrate_in[1]) {
		model_migrate(self);
	}
	if (self.die_in && !--self.die_in)
		throw model_death();
	if (self.signal_in && !--self.signal_in)
		self.handler();
}

/* ---- atomics ---- */

enum model_word_kind {
	MODEL_SHARED,  /* threads contend for it */
	MODEL_OWNED,   /* relaxed throughout: ordered by other words. Races on it are checked */
	MODEL_PRIVATE, /* one thread's, or a statistic */
};

template <typename T>
class model_atomic {
public:
	model_atomic() : kind(MODEL_SHARED), owner(NULL) {}

	T
	load(rl::memory_order order, rl::debug_info_param info) const
	{
		quietly q(*this, false, info);
		return word.load(order, info);
	}

	void
	store(T v, rl::memory_order order, rl::debug_info_param info)
	{
		quietly q(*this, true, info);
		word.store(v, order, info);
	}

	template <rl::rmw_type_e type>
	T
	rmw(T v, rl::memory_order order, rl::debug_info_param info)
	{
		quietly q(*this, true, info);
		return word.rmw(rl::rmw_type_t<type>(), v, order, info);
	}

	/* Relacy takes no failure order stronger than the success order, C11 does. */
	bool
	cas(T *expected, T desired, rl::memory_order success, rl::memory_order failure,
	    rl::debug_info_param info)
	{
		quietly q(*this, true, info);
		if (word.compare_exchange(rl::bool_t<false>(), *expected, desired, success,
					  rl::mo_relaxed, info))
			return true;
		if (failure != rl::mo_relaxed) {
			rl::preemption_disabler now(rl::ctx());
			*expected = word.load(failure, info);
		}
		return false;
	}

	unsigned char kind;
	rl::var<int> *owner; /* shadow of a word: finds races on it, between writes alone if it is no MODEL_OWNED */
	mutable rl::atomic<T> word;

private:
	struct quietly {
		bool quiet;

		quietly(const model_atomic &a, bool write, rl::debug_info_param info)
		{
			model_step();
			if (a.owner && !model_self().unchecked && write)
				(*a.owner)(info).store(0);
			else if (a.owner && a.kind == MODEL_OWNED && !model_self().unchecked)
				(void)(*a.owner)(info).load();
			quiet = model_machine.quiet && a.kind != MODEL_SHARED;
			if (quiet)
				rl::ctx().disable_preemption();
		}

		~quietly()
		{
			if (quiet)
				rl::ctx().enable_preemption();
		}
	};
};

typedef model_atomic<uint64_t> ringbuf_atomic_u64;
typedef model_atomic<uint32_t> ringbuf_atomic_u32;

#define ringbuf_load(p, order) ((p)->load(order, $))
#define ringbuf_store(p, v, order) ((p)->store((v), (order), $))
#define ringbuf_add(p, v, order) ((p)->template rmw<rl::rmw_type_add>((v), (order), $))
#define ringbuf_or(p, v, order) ((p)->template rmw<rl::rmw_type_or>((v), (order), $))
#define ringbuf_and(p, v, order) ((p)->template rmw<rl::rmw_type_and>((v), (order), $))
#define ringbuf_exchange(p, v, order) ((p)->template rmw<rl::rmw_type_swap>((v), (order), $))
#define ringbuf_cas(p, expected, desired, success, failure) \
	((p)->cas((expected), (desired), (success), (failure), $))

/* ---- sub-buffer bytes ---- */

/* Fails the execution if another thread's access of these bytes is not ordered, or
 * if they are no sub-buffer's (region.h). */
void model_touch(const void *p, size_t len, bool write, rl::debug_info_param info);

inline void
model_data_write(void *dst, const void *src, size_t len, rl::debug_info_param info)
{
	model_touch(dst, len, true, info);
	memcpy(dst, src, len);
}

inline void
model_data_read(void *dst, const void *src, size_t len, rl::debug_info_param info)
{
	model_touch(src, len, false, info);
	memcpy(dst, src, len);
}

inline void
model_data_fill(void *dst, int byte, size_t len, rl::debug_info_param info)
{
	model_touch(dst, len, true, info);
	memset(dst, byte, len);
}

#define ringbuf_data_write(dst, src, len) model_data_write((dst), (src), (len), $)
#define ringbuf_data_read(dst, src, len) model_data_read((dst), (src), (len), $)
#define ringbuf_data_fill(dst, byte, len) model_data_fill((dst), (byte), (len), $)

/* ---- clock: one for all CPUs, advancing with each read ---- */

#define RINGBUF_NS_PER_S UINT64_C(1000000000)

struct ringbuf_channel;

/* A read that waits for the loads before it. A scheduling point of its own: others may
 * run between a load and the clock read that follows it. */
inline uint64_t
ringbuf_clock_ordered(const struct ringbuf_channel *)
{
	rl::ctx().sched();
	struct model_thread &self = model_self();

	model_machine.now += model_machine.tick;
	self.floor = model_machine.cpu_floor[self.cpu] = model_machine.now;
	return model_machine.now;
}

/*
 * A read that may run ahead of earlier loads, but not of an earlier read on the
 * same CPU, nor of the context switch that brought the thread here.
 */
inline uint64_t
ringbuf_clock_early(const struct ringbuf_channel *ch)
{
	rl::ctx().sched();
	struct model_thread &self = model_self();
	uint64_t floor = model_machine.cpu_floor[self.cpu];

	if (self.floor > floor)
		floor = self.floor;
	if (model_machine.early && floor < model_machine.now && rl::rand(2)) {
		self.floor = model_machine.cpu_floor[self.cpu] = floor;
		return floor;
	}
	model_machine.now += model_machine.tick;
	self.floor = model_machine.cpu_floor[self.cpu] = model_machine.now;
	return model_machine.now;
}

inline uint64_t
ringbuf_clock_ns(clockid_t)
{
	return model_machine.now;
}

/* Named by the parts of channel.h that no model runs. */
inline uint64_t ringbuf_tsc_measure_freq(void) { return RINGBUF_NS_PER_S; }
inline void ringbuf_clock_offset(int, uint64_t, int64_t *, uint64_t *) {}
inline int ringbuf_tsc_is_usable(void) { return 1; }

/* ---- CPU number ---- */

inline uint32_t
ringbuf_cpu(void)
{
	return model_self().cpu;
}

/* ---- futex ---- */

/* The kernel compares and goes to sleep under a lock that the waker takes too. Deadlines
 * are never reached, so that no lost wake-up is made good by one. */
inline int
model_futex_wait(ringbuf_atomic_u32 *seq, uint32_t expected, uint64_t, rl::debug_info_param info)
{
	rl::context &c = rl::ctx();

	c.sched();
	if (seq->word.debug_value() == expected)
		seq->word.wait(c, false, false, info);
	return 0;
}

inline void
model_futex_wake_all(ringbuf_atomic_u32 *seq, rl::debug_info_param info)
{
	rl::context &c = rl::ctx();

	c.sched();
	seq->word.wake(c, MODEL_THREADS_MAX, info);
}

/* The headers' other words for one thread: a signal strikes only between atomic operations,
 * of which this is one, as it is one instruction or an atomic addition in production. */
#define ringbuf_signal_fence() ((void)0)

/* ---- robust mutexes: the certificates of producers ---- */

/* One for each producer (region.h). They order as C11's do, and as the kernel does when it
 * finds the owner dead. */
enum model_mutex { MODEL_MUTEX_FREE, MODEL_MUTEX_LOCKED, MODEL_MUTEX_OWNER_DEAD };

int model_mutex_lock(const pthread_mutex_t *m, rl::debug_info_param info); /* 0 or -EBUSY */
void model_mutex_unlock(const pthread_mutex_t *m, rl::debug_info_param info);

#define RINGBUF_CERTIFICATE_HEADER <cerrno>
#define ringbuf_robust_mutex_init(m) ((void)(m), 0)
#define ringbuf_robust_lock(m, wait) model_mutex_lock((m), $)
#define ringbuf_robust_unlock(m) model_mutex_unlock((m), $)
#define ringbuf_robust_fork_child() ((void)0)
#define ringbuf_robust_was_held(m) ((void)(m), 0)

#define ringbuf_futex_wait(seq, expected, deadline) model_futex_wait((seq), (expected), (deadline), $)
#define ringbuf_futex_wake_all(seq) model_futex_wake_all((seq), $)

#endif /* MODEL_SEAM_H */
