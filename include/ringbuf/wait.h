/*
 * ringbuf/wait.h - sleeping in shared memory, with a deadline.
 *
 * Two sides sleep: a reader until a packet is delivered, and a producer of a
 * blocking channel until there is room. Each uses a pair of words: `wanted`,
 * set by the sleeper, and `seq`, the futex.
 *
 * Ordering O8 (a Dekker pair, hence seq_cst on both stores and both loads): the sleeper stores
 * `wanted`, then looks at the ring again; the waker changes the ring, then
 * looks at `wanted`. At least one sees the other. The waker clears `wanted`, so
 * a sleeper that was killed costs one needless wake-up and no more. Ordering O14:
 * the clearing of `wanted` comes before the change of `seq` that ends a sleep, so it
 * cannot wipe out the announcement of the next one.
 */
#ifndef RINGBUF_WAIT_H
#define RINGBUF_WAIT_H

#include "clock.h"

#if defined(RINGBUF_WAIT_HEADER)
#include RINGBUF_WAIT_HEADER
#else

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Sleep while *seq == expected, at most until `deadline_ns` of CLOCK_MONOTONIC
 * (UINT64_MAX: no deadline). Returns 0, -ETIMEDOUT, -EINTR. */
RINGBUF_FUNC int
ringbuf_futex_wait(ringbuf_atomic_u32 *seq, uint32_t expected, uint64_t deadline_ns)
{
	struct timespec at;

	at.tv_sec = (time_t)(deadline_ns / RINGBUF_NS_PER_S);
	at.tv_nsec = (long)(deadline_ns % RINGBUF_NS_PER_S);
	if (syscall(SYS_futex, seq, FUTEX_WAIT_BITSET, expected,
		    deadline_ns == UINT64_MAX ? NULL : &at, NULL, FUTEX_BITSET_MATCH_ANY) == 0)
		return 0;
	return errno == EAGAIN ? 0 : -errno;
}

RINGBUF_FUNC void
ringbuf_futex_wake_all(ringbuf_atomic_u32 *seq)
{
	int saved = errno; /* the application's: we may be inside its signal handler */

	syscall(SYS_futex, seq, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
	errno = saved;
}

#endif /* RINGBUF_WAIT_HEADER */

#define RINGBUF_WAIT_STEP_NS UINT64_C(100000000) /* no sleep is longer: who wakes may be killed */

/* Now + timeout, saturating; UINT64_MAX stays "for ever". */
RINGBUF_FUNC uint64_t
ringbuf_deadline(uint64_t timeout_ns)
{
	uint64_t now = ringbuf_clock_ns(CLOCK_MONOTONIC);

	return timeout_ns >= UINT64_MAX - now ? UINT64_MAX : now + timeout_ns;
}

/* Sleeper: announce, and get the value to sleep on. Look at the ring after it. */
RINGBUF_INLINE uint32_t
ringbuf_wait_prepare(ringbuf_atomic_u32 *seq, ringbuf_atomic_u32 *wanted)
{
	/* O14 acquire: `wanted` was cleared before I set it again; and what a flag-setter
	 * (consumer.h) had set. Pairs with ringbuf_wait_wake and ringbuf_consumer_wake. */
	uint32_t expected = ringbuf_load(seq, RINGBUF_ACQUIRE);

	/* O8 seq_cst: before my next look at the ring. Pairs with ringbuf_wait_wake. */
	ringbuf_store(wanted, 1, RINGBUF_SEQ_CST);
	return expected;
}

/* Waker: call after a seq_cst change of the ring. */
RINGBUF_INLINE void
ringbuf_wait_wake(ringbuf_atomic_u32 *seq, ringbuf_atomic_u32 *wanted)
{
	/* O8 seq_cst: after my change of the ring. Pairs with ringbuf_wait_prepare. */
	if (RINGBUF_LIKELY(!ringbuf_load(wanted, RINGBUF_SEQ_CST)))
		return;
	ringbuf_store(wanted, 0, RINGBUF_RELAXED); /* by O14 */
	/* O14 release: that clearing. Pairs with the load in ringbuf_wait_prepare. */
	ringbuf_add(seq, 1, RINGBUF_RELEASE);
	ringbuf_futex_wake_all(seq);
}

/* Reader: announce that a delivery is awaited. Look at the streams after it, then wait. */
RINGBUF_INLINE uint32_t
ringbuf_data_wanted(const struct ringbuf_channel *ch)
{
	return ringbuf_wait_prepare(&ch->control->data_seq, &ch->control->data_wanted);
}

/* Sleep until a delivery, finalize, a step or the deadline is over: look again, for who would wake may
 * have died. Returns as ringbuf_futex_wait. */
RINGBUF_INLINE int
ringbuf_wait_for_data(const struct ringbuf_channel *ch, uint32_t seq, uint64_t deadline_ns)
{
	uint64_t step = ringbuf_deadline(RINGBUF_WAIT_STEP_NS);

	return ringbuf_futex_wait(&ch->control->data_seq, seq, step < deadline_ns ? step : deadline_ns);
}

#endif /* RINGBUF_WAIT_H */
