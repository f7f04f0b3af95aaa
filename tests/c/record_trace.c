/*
 * record_trace DIRECTORY: threads record into a channel of this process alone, and the
 * consumer's thread writes it to DIRECTORY. Prints what its metadata must say.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ringbuf/consumer.h>
#include <ringbuf/files.h>

#define THREADS 4
#define EACH 5000

static struct ringbuf_channel *ch;

static void *
produce(void *arg)
{
	for (uint64_t i = 0; i < EACH; i++) {
		uint64_t n = (uintptr_t)arg * EACH + i;
		struct ringbuf_reservation r = {.payload_size = sizeof(n)};

		if (ringbuf_reserve(ch, &r))
			exit(3);
		memcpy(r.payload, &n, sizeof(n));
		if (i % 7)
			ringbuf_commit(ch, &r);
		else
			ringbuf_discard(ch, &r);
	}
	return NULL;
}

int
main(int argc, char **argv)
{
	struct ringbuf_config config = {.name = "trace", .subbuf_size = 4096, .n_subbufs = 4, .mode = RINGBUF_DISCARD,
					.streams = RINGBUF_PER_CPU, .wakeup = RINGBUF_WAKEUP_WRITER,
					.blocking_timeout_ns = UINT64_MAX};
	struct ringbuf_consumer_options options = {.directory = argv[1], .stream_name = "stream"};
	struct ringbuf_consumer *consumer = NULL;
	pthread_t threads[THREADS];

	if (argc != 2 || ringbuf_create(&config, &ch) || ringbuf_declare_event(ch, "step", "", "n:u64") != 0 ||
	    ringbuf_consumer_start(ch, &options, &consumer))
		return 2;
	for (uintptr_t i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, produce, (void *)i))
			return 2;
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	if (ringbuf_consumer_stop(consumer, 60 * RINGBUF_NS_PER_S))
		return 4;
	for (size_t i = 0; i < sizeof(ch->super->uuid); i++)
		printf("%02x", ch->super->uuid[i]);
	printf(" %" PRIu64 " %" PRId64 " %" PRIu64 "\n", ch->super->clock_freq, ch->super->clock_offset_s,
	       ch->super->clock_offset);
	return 0;
}
