/*
 * watch.h - how long spans of one name take: their quantiles, learned as they end.
 *
 * A histogram with eight buckets for each power of two: a quantile is right to an
 * eighth. Old spans count for less and less. One thread at a time (core/watch.pxi).
 */
#ifndef RINGBUF_WATCH_H
#define RINGBUF_WATCH_H

#include <stdint.h>

#define RINGBUF_DURATION_BUCKETS 496
#define RINGBUF_DURATIONS_FIRST 100  /* spans before there is a limit */
#define RINGBUF_DURATIONS_ANEW 64    /* spans until the limit is computed again */
#define RINGBUF_DURATIONS_OLD 16384  /* spans until all counts are halved */

typedef struct ringbuf_durations {
	uint64_t limit;  /* nanoseconds; UINT64_MAX: none, or none yet */
	double factor;   /* of the quantile; 0: the limit is given */
	double quantile;
	uint32_t n, until;
	uint32_t counts[RINGBUF_DURATION_BUCKETS];
} ringbuf_durations;

static inline void
ringbuf_durations_init(ringbuf_durations *of, uint64_t limit, double factor, double quantile)
{
	of->limit = factor ? UINT64_MAX : limit;
	of->factor = factor;
	of->quantile = quantile;
	of->until = RINGBUF_DURATIONS_FIRST;
}

/* The bucket of a duration: exact below 8, then its power of two and the three bits behind it. */
static inline unsigned
ringbuf_duration_bucket(uint64_t ns)
{
	unsigned power = ns < 8 ? 3 : 63 - (unsigned)__builtin_clzll(ns);

	return ns < 8 ? (unsigned)ns : (power - 2) * 8 + (unsigned)(ns >> (power - 3) & 7);
}

/* The least duration that is in no bucket up to this one. */
static inline double
ringbuf_duration_above(unsigned bucket)
{
	return bucket < 8 ? bucket + 1.0 : (double)(1ull << (bucket / 8 - 1)) * (bucket % 8 + 9);
}

static inline void
ringbuf_durations_learn(ringbuf_durations *of)
{
	double wanted, limit;
	uint64_t seen = 0;
	unsigned i = 0;

	if (of->n >= RINGBUF_DURATIONS_OLD) {
		of->n = 0;
		for (i = 0; i < RINGBUF_DURATION_BUCKETS; i++)
			of->n += of->counts[i] /= 2;
	}
	wanted = of->quantile * of->n;
	for (i = 0; i < RINGBUF_DURATION_BUCKETS - 1; i++) {
		seen += of->counts[i];
		if ((double)seen >= wanted)
			break;
	}
	limit = of->factor * ringbuf_duration_above(i);
	of->limit = limit < 9e18 ? (uint64_t)limit : UINT64_MAX;
}

static inline void
ringbuf_durations_add(ringbuf_durations *of, uint64_t ns)
{
	of->counts[ringbuf_duration_bucket(ns)]++;
	of->n++;
	if (of->until && --of->until)
		return;
	of->until = RINGBUF_DURATIONS_ANEW;
	ringbuf_durations_learn(of);
}

/* Relaxed: a number of its own, which orders nothing. */
static inline uint64_t
ringbuf_tally_add(uint64_t *n)
{
	return __atomic_add_fetch(n, 1, __ATOMIC_RELAXED);
}

static inline uint64_t
ringbuf_tally_get(const uint64_t *n)
{
	return __atomic_load_n(n, __ATOMIC_RELAXED);
}

#endif /* RINGBUF_WATCH_H */
