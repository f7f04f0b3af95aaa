/*
 * loops.c - the timed loops of the benchmarks, as a shared library for ctypes.
 *
 * Each runs n times what its name says and returns nanoseconds per turn.
 */
#include <sys/ioctl.h>

#include <ringbuf/files.h>

#define EXPORT __attribute__((visibility("default")))

static volatile uint64_t sink;

static double
per_turn(uint64_t began, uint64_t n)
{
	return (double)(ringbuf_clock_ns(CLOCK_MONOTONIC) - began) / (double)n;
}

/* What any per-CPU, time-stamped, lock-free record must do at least. */
EXPORT double
loop_floor(uint64_t n)
{
	static ringbuf_atomic_u64 position __attribute__((aligned(64))), count __attribute__((aligned(64)));
	uint64_t began = ringbuf_clock_ns(CLOCK_MONOTONIC), sum = 0;

	for (uint64_t i = 0; i < n; i++) {
		uint64_t pos = ringbuf_load(&position, RINGBUF_RELAXED);

		sum += ringbuf_cpu() + ringbuf_tsc_early();
		sum += (uint64_t)ringbuf_cas(&position, &pos, pos + 16, RINGBUF_ACQ_REL, RINGBUF_RELAXED);
		ringbuf_add(&count, 16, RINGBUF_ACQ_REL);
	}
	sink = sum;
	return per_turn(began, n);
}

EXPORT double
loop_clock(uint64_t n)
{
	uint64_t began = ringbuf_clock_ns(CLOCK_MONOTONIC), sum = 0;

	for (uint64_t i = 0; i < n; i++)
		sum += ringbuf_tsc_early();
	sink = sum;
	return per_turn(began, n);
}

/* Records with an 8-byte payload; what is lost is counted by the channel, and told in *lost. */
EXPORT double
loop_record(struct ringbuf_channel *ch, uint64_t n, uint64_t *lost)
{
	uint64_t began = ringbuf_clock_ns(CLOCK_MONOTONIC);

	*lost = 0;
	for (uint64_t i = 0; i < n; i++) {
		struct ringbuf_reservation r = {.event_id = 1, .payload_size = 8};

		if (RINGBUF_UNLIKELY(ringbuf_reserve(ch, &r))) {
			++*lost;
			continue;
		}
		memcpy(r.payload, &i, 8);
		ringbuf_commit(ch, &r);
	}
	return per_turn(began, n);
}

/* Swaps of a mapped stream that has `n` sub-buffers ready. */
EXPORT double
loop_map(struct ringbuf_map *map, uint64_t n)
{
	uint64_t began = ringbuf_clock_ns(CLOCK_MONOTONIC), sum = 0;

	for (uint64_t i = 0; i < n; i++)
		sum += (uint64_t)ringbuf_map_get_reader(map);
	sink = sum;
	return per_turn(began, n);
}

/* The kernel's, on an open trace_pipe_raw: TRACE_MMAP_IOCTL_GET_READER. */
EXPORT double
loop_kernel_map(int fd, uint64_t n)
{
	uint64_t began = ringbuf_clock_ns(CLOCK_MONOTONIC), sum = 0;

	for (uint64_t i = 0; i < n; i++)
		sum += (uint64_t)ioctl(fd, 0x5220);
	sink = sum;
	return per_turn(began, n);
}

EXPORT struct ringbuf_map *
map_open(struct ringbuf_channel *ch)
{
	struct ringbuf_map *map = (struct ringbuf_map *)malloc(sizeof(*map));

	if (map && ringbuf_map_open(ch, 0, map)) {
		free(map);
		return NULL;
	}
	return map;
}

EXPORT void
map_close(struct ringbuf_map *map)
{
	ringbuf_map_close(map);
	free(map);
}

/* Throw away what is unread: between rounds, so that discard mode never fills. */
EXPORT void
drain(struct ringbuf_channel *ch)
{
	for (uint32_t i = 0; i < ch->n_streams; i++) {
		struct ringbuf_stream_reader r;

		ringbuf_stream_reader_init(ch, i, &r);
		ringbuf_clear_stream(&r, ringbuf_this_producer(ch)->slot);
	}
}

EXPORT struct ringbuf_channel *
attach(const char *path)
{
	struct ringbuf_channel *ch;

	return ringbuf_attach(path, &ch) ? NULL : ch;
}

EXPORT void
detach(struct ringbuf_channel *ch)
{
	ringbuf_close(ch);
}
