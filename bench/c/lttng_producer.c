/*
 * lttng_producer.c - ns of an LTTng-UST record with an 8-byte payload, and of the floor, in turns.
 *
 * lttng_producer ROUNDS COUNT: one line for each round, "record floor".
 */
#define LTTNG_UST_TRACEPOINT_CREATE_PROBES
#define LTTNG_UST_TRACEPOINT_DEFINE
#include "lttng_events.h"
#include "loops.c"
#include <unistd.h>

int
main(int argc, char **argv)
{
	uint64_t rounds = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
	uint64_t count = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;

	for (int i = 0; !lttng_ust_tracepoint_enabled(bench, one); i++) {
		if (i == 30000)
			return 1;
		usleep(1000);
	}
	for (uint64_t round = 0; round < rounds; round++) {
		double floor_ns = loop_floor(count);
		uint64_t began = ringbuf_clock_ns(CLOCK_MONOTONIC);

		for (uint64_t i = 0; i < count; i++)
			lttng_ust_tracepoint(bench, one, i);
		printf("%f %f\n", per_turn(began, count), floor_ns);
	}
	return 0;
}
