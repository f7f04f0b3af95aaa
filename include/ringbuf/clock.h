/*
 * ringbuf/clock.h - the clocks a channel can use. The only header that knows
 * a processor's counter.
 *
 * Time must not decrease along a stream. A producer loads the position, then
 * reads the clock, then swaps the position; if the swap wins, nobody stood
 * between, so it is enough that the clock is read after the load. Counters
 * are not ordered after an earlier load by themselves, so there are two reads:
 *
 * ringbuf_clock_ordered() is. The slow path, flushes and global streams use it.
 *
 * ringbuf_clock_early() is not: it may be taken before the position arrives.
 * The fast path of a per-CPU stream that no other CPU shares may use it,
 * because there every record that does not open a sub-buffer is preceded by one
 * whose clock was read on the same CPU: reserve.h reads the CPU number again
 * after the clock (away and back within an early read is not a thing), and
 * whoever moves the position from another CPU (a flush, a repair) leaves it at
 * a sub-buffer boundary, where the slow path takes over. Two reads on one CPU
 * are ordered by the retirement of the first, or by the context switch or
 * interrupt between them. (Not excluded: a thread that is moved to another CPU
 * after reading the number, and back after reading the clock, within these few
 * instructions; its time is then early by what one core can look ahead.)
 */
#ifndef RINGBUF_CLOCK_H
#define RINGBUF_CLOCK_H

#include <stdio.h>
#include <time.h>

#include "layout.h"

#if defined(RINGBUF_CLOCK_HEADER)
#include RINGBUF_CLOCK_HEADER
#else

#define RINGBUF_NS_PER_S UINT64_C(1000000000)

RINGBUF_FUNC uint64_t
ringbuf_clock_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * RINGBUF_NS_PER_S + (uint64_t)ts.tv_nsec;
}

#if defined(__x86_64__)
#define RINGBUF_HAVE_TSC 1
RINGBUF_INLINE uint64_t
ringbuf_tsc_early(void)
{
	return __builtin_ia32_rdtsc();
}

RINGBUF_INLINE uint64_t
ringbuf_tsc_ordered(void)
{
	__builtin_ia32_lfence(); /* earlier loads have their values */
	return __builtin_ia32_rdtsc();
}
#elif defined(__aarch64__)
#define RINGBUF_HAVE_TSC 1
RINGBUF_INLINE uint64_t
ringbuf_tsc_ordered(void)
{
	uint64_t t;

	/* dsb: earlier loads have their values; isb: the counter is not read ahead of it */
	__asm__ volatile("dsb ishld\n\tisb\n\tmrs %0, cntvct_el0" : "=r"(t) : : "memory");
	return t;
}

/* The architecture does not even order two reads of this counter on one CPU. */
RINGBUF_INLINE uint64_t
ringbuf_tsc_early(void)
{
	return ringbuf_tsc_ordered();
}
#else
#define RINGBUF_HAVE_TSC 0
RINGBUF_INLINE uint64_t
ringbuf_tsc_early(void)
{
	return ringbuf_clock_ns(CLOCK_MONOTONIC);
}
RINGBUF_INLINE uint64_t
ringbuf_tsc_ordered(void)
{
	return ringbuf_clock_ns(CLOCK_MONOTONIC);
}
#endif

RINGBUF_INLINE uint64_t
ringbuf_clock_early(const struct ringbuf_channel *ch)
{
	if (RINGBUF_LIKELY(ch->clock == RINGBUF_CLOCK_TSC))
		return ringbuf_tsc_early();
	return ringbuf_clock_ns(CLOCK_MONOTONIC);
}

RINGBUF_INLINE uint64_t
ringbuf_clock_ordered(const struct ringbuf_channel *ch)
{
	if (RINGBUF_LIKELY(ch->clock == RINGBUF_CLOCK_TSC))
		return ringbuf_tsc_ordered();
	return ringbuf_clock_ns(CLOCK_MONOTONIC); /* the vDSO orders it itself */
}

/* Is the counter one clock for all CPUs, at one rate? The kernel has checked. */
RINGBUF_FUNC int
ringbuf_tsc_is_usable(void)
{
#if defined(__x86_64__)
	char name[16] = "";
	FILE *f = fopen("/sys/devices/system/clocksource/clocksource0/current_clocksource", "re");

	if (!f)
		return 0;
	if (!fgets(name, sizeof(name), f))
		name[0] = 0;
	fclose(f);
	return strncmp(name, "tsc", 3) == 0;
#else
	return RINGBUF_HAVE_TSC;
#endif
}

/* One moment read on two clocks: the tightest of several tries. */
RINGBUF_FUNC void
ringbuf_clock_pair(clockid_t id, uint64_t *tsc, uint64_t *ns)
{
	uint64_t best = UINT64_MAX;

	*tsc = *ns = 0;
	for (int i = 0; i < 16; i++) {
		uint64_t before = ringbuf_tsc_ordered(), now = ringbuf_clock_ns(id),
			 after = ringbuf_tsc_ordered();

		if (after - before < best) {
			best = after - before;
			*tsc = before + (after - before) / 2;
			*ns = now;
		}
	}
}

/* Counter ticks per second, measured against CLOCK_MONOTONIC_RAW over 20 ms. */
RINGBUF_FUNC uint64_t
ringbuf_tsc_measure_freq(void)
{
#if defined(__aarch64__)
	uint64_t freq;

	__asm__ volatile("mrs %0, cntfrq_el0" : "=r"(freq));
	return freq;
#else
	struct timespec pause = {0, 20 * 1000 * 1000};
	uint64_t tsc0, ns0, tsc1, ns1;

	if (!RINGBUF_HAVE_TSC)
		return RINGBUF_NS_PER_S;
	ringbuf_clock_pair(CLOCK_MONOTONIC_RAW, &tsc0, &ns0);
	nanosleep(&pause, NULL);
	ringbuf_clock_pair(CLOCK_MONOTONIC_RAW, &tsc1, &ns1);
	return (uint64_t)((double)(tsc1 - tsc0) * 1e9 / (double)(ns1 - ns0) + 0.5);
#endif
}

/* What tick 0 of a clock of frequency `freq` is in Unix time. */
RINGBUF_FUNC void
ringbuf_clock_offset(int clock, uint64_t freq, int64_t *offset_s, uint64_t *offset)
{
	uint64_t tick = 0, ns = 0, since_s, since;

	if (clock == RINGBUF_CLOCK_TSC) {
		ringbuf_clock_pair(CLOCK_REALTIME, &tick, &ns);
	} else {
		tick = ringbuf_clock_ns(CLOCK_MONOTONIC);
		ns = ringbuf_clock_ns(CLOCK_REALTIME);
	}
	/* now = ns since the epoch = tick / freq since tick 0 */
	since_s = ns / RINGBUF_NS_PER_S;
	since = (uint64_t)((double)(ns % RINGBUF_NS_PER_S) * (double)freq / 1e9);
	*offset_s = (int64_t)since_s - (int64_t)(tick / freq);
	if (since < tick % freq) {
		*offset_s -= 1;
		since += freq;
	}
	*offset = since - tick % freq;
}

#endif /* RINGBUF_CLOCK_HEADER */
#endif /* RINGBUF_CLOCK_H */
