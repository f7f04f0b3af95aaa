/*
 * lttng_producer.c - ns of an LTTng-UST record with an 8-byte payload, and of the floor, in turns.
 *
 * lttng_producer ROUNDS COUNT: one line for each round, "record floor". With a third argument, there is one line before
 * them, of records into memory that is touched for the first time; then the buffer is gone round, so that they are warm.
 */
#define LTTNG_UST_TRACEPOINT_CREATE_PROBES
#define LTTNG_UST_TRACEPOINT_DEFINE
#include "lttng_events.h"
#include "loops.c"
#include <unistd.h>

#define UNTOUCHED 100000 /* records that take less than the buffer of 4 MiB */
#define ALL_OF_IT 400000 /* records that take more */

/* ns for each of `count` records. */
static double
loop_tracepoint(uint64_t count)
{
	uint64_t began = ringbuf_clock_ns(CLOCK_MONOTONIC);

	for (uint64_t i = 0; i < count; i++)
		lttng_ust_tracepoint(bench, one, i);
	return per_turn(began, count);
}

static void
print_turn(uint64_t count)
{
	double floor_ns = loop_floor(count);

	printf("%f %f\n", loop_tracepoint(count), floor_ns);
}

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
	if (argc > 3) {
		print_turn(UNTOUCHED);
		loop_tracepoint(ALL_OF_IT);
	}
	for (uint64_t round = 0; round < rounds; round++)
		print_turn(count);
	return 0;
}
