/*
 * metrics.c - the timed loops of counting, as a shared library for ctypes.
 *
 * Each runs n times what its name says and returns nanoseconds per turn.
 */
#include <ringbuf/files.h>

#define EXPORT __attribute__((visibility("default")))

static double
per_turn(uint64_t began, uint64_t n)
{
	return (double)(ringbuf_clock_ns(CLOCK_MONOTONIC) - began) / (double)n;
}

/* What any count that several threads may add to must do at least. */
EXPORT double
loop_add(uint64_t n)
{
	static ringbuf_atomic_u64 count __attribute__((aligned(64)));
	uint64_t began = ringbuf_clock_ns(CLOCK_MONOTONIC);

	for (uint64_t i = 0; i < n; i++)
		ringbuf_add(&count, i, RINGBUF_RELAXED);
	return per_turn(began, n);
}

EXPORT void *
attach(const char *path)
{
	struct ringbuf_channel *ch;

	return ringbuf_attach(path, &ch) ? NULL : ch;
}

EXPORT void
detach(void *ch)
{
	ringbuf_close((struct ringbuf_channel *)ch);
}

/* Of the first metric that the channel has. */
EXPORT double
loop_metric(void *handle, int is_histogram, uint64_t n)
{
	struct ringbuf_channel *ch = (struct ringbuf_channel *)handle;
	struct ringbuf_metric m, series;
	uint64_t off = 0, began;

	if (!ringbuf_next_metric(ch, &off, &m) || !ringbuf_next_metric(ch, &off, &series))
		return -1;
	began = ringbuf_clock_ns(CLOCK_MONOTONIC);
	for (uint64_t i = 0; i < n; i++)
		if (is_histogram)
			ringbuf_observe(ch, &m, series.word, (double)(i & 63) * 1e-3);
		else
			ringbuf_metric_add(ch, series.word, i);
	return per_turn(began, n);
}
