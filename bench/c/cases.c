/*
 * cases.c - timed loops for what one record costs by size, at what pace, and at worst.
 *
 * As loops.c, whose attach and detach belong to these as well.
 */
#include "loops.c"
#include <unistd.h>

/* Records whose payload is `size` bytes of `from`. */
EXPORT double
loop_payload(struct ringbuf_channel *ch, uint64_t n, uint64_t size, const void *from, uint64_t *lost)
{
	uint64_t began = ringbuf_clock_ns(CLOCK_MONOTONIC);

	*lost = 0;
	for (uint64_t i = 0; i < n; i++) {
		struct ringbuf_reservation r = {.payload_size = size};

		if (RINGBUF_UNLIKELY(ringbuf_reserve(ch, &r))) {
			++*lost;
			continue;
		}
		memcpy(r.payload, from, size);
		ringbuf_commit(ch, &r);
	}
	return per_turn(began, n);
}

/* The copy alone, to a place that moves on through `room` bytes, from call to call. */
EXPORT double
loop_memcpy(char *to, uint64_t room, uint64_t n, uint64_t size, const void *from)
{
	static uint64_t at;
	uint64_t began = ringbuf_clock_ns(CLOCK_MONOTONIC);

	for (uint64_t i = 0; i < n; i++) {
		at = at + size <= room ? at : 0;
		memcpy(to + at, from, size);
		__asm__ volatile("" : : "r"(to + at) : "memory");
		at += size;
	}
	return per_turn(began, n);
}

static int
record_word(struct ringbuf_channel *ch, uint64_t word)
{
	struct ringbuf_reservation r = {.payload_size = 8};
	int err = ringbuf_reserve(ch, &r);

	if (RINGBUF_LIKELY(!err)) {
		memcpy(r.payload, &word, 8);
		ringbuf_commit(ch, &r);
	}
	return err;
}

/* The clock between two fences: nothing of what is timed is outside. */
static inline uint64_t
exact_ticks(void)
{
#if defined(__x86_64__)
	uint32_t low, high;

	__asm__ volatile("lfence\n\trdtsc\n\tlfence" : "=a"(low), "=d"(high) : : "memory");
	return (uint64_t)high << 32 | low;
#else
	return ringbuf_clock_ns(CLOCK_MONOTONIC);
#endif
}

/* Ticks of each of n records; with no channel, of nothing. Returns ns for each tick. */
EXPORT double
sample_records(struct ringbuf_channel *ch, uint64_t n, uint32_t *ticks)
{
	uint64_t began = ringbuf_clock_ns(CLOCK_MONOTONIC), first = exact_ticks();

	for (uint64_t i = 0; i < n; i++) {
		uint64_t before = exact_ticks(), after;

		if (ch)
			record_word(ch, i);
		after = exact_ticks() - before;
		ticks[i] = after < UINT32_MAX ? (uint32_t)after : UINT32_MAX;
	}
	return (double)(ringbuf_clock_ns(CLOCK_MONOTONIC) - began) / (double)(exact_ticks() - first);
}

/* n records, one every `period` ns; late ones at once. Returns ns for each. */
EXPORT double
loop_paced(struct ringbuf_channel *ch, uint64_t n, double period)
{
	uint64_t began = ringbuf_clock_ns(CLOCK_MONOTONIC);

	for (uint64_t i = 0; i < n; i++) {
		uint64_t due = began + (uint64_t)((double)i * period);

		while (ringbuf_clock_ns(CLOCK_MONOTONIC) < due)
			;
		record_word(ch, i);
	}
	return per_turn(began, n);
}

/* Flush all streams, until *stop; returns how often. */
EXPORT uint64_t
loop_flush(struct ringbuf_channel *ch, const volatile int *stop, uint64_t pause_ns)
{
	struct timespec pause = {.tv_nsec = (long)pause_ns};
	uint64_t n = 0;

	for (; !*stop; n++) {
		for (uint32_t i = 0; i < ch->n_streams; i++)
			ringbuf_flush(ch, ringbuf_this_producer(ch)->slot, i, 0);
		nanosleep(&pause, NULL);
	}
	return n;
}

/* Records written to the kernel's trace_marker_raw. */
EXPORT double
loop_write(int fd, uint64_t n)
{
	uint64_t began = ringbuf_clock_ns(CLOCK_MONOTONIC);

	for (uint64_t i = 0; i < n; i++) {
		struct { uint32_t id; uint64_t n; } __attribute__((packed)) record = {1, i};

		if (write(fd, &record, sizeof(record)) < 0)
			return -1;
	}
	return per_turn(began, n);
}
