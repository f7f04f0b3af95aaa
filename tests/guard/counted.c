/*
 * counted.c - records for valgrind to count the instructions of.
 *
 *	counted DIRECTORY    one callgrind part for each kind of channel, RECORDS records in it; and for metrics
 *
 * Only fast paths: the record that opens the sub-buffer comes before, and the rest fits.
 */
#include <stdint.h>

/* valgrind's threads have no restartable sequences: the number from memory, as with them. */
#define RINGBUF_CPU_HEADER <stdio.h>
static volatile int32_t the_cpu;
static inline uint32_t
ringbuf_cpu(void)
{
	return (uint32_t)the_cpu;
}

#include <ringbuf/ringbuf.h>
#include <valgrind/callgrind.h>

#define RECORDS 1000

static struct ringbuf_channel *
channel(int mode, int streams, int header, const char *contexts)
{
	struct ringbuf_config config = {
		.name = "guard", .subbuf_size = 1 << 16, .n_subbufs = 2, .n_producers = 4, .n_streams = 1,
		.clock = RINGBUF_CLOCK_TSC, .clock_freq = 1000000000,
	};
	struct ringbuf_channel *ch;
	int ret;

	config.mode = mode;
	config.streams = streams;
	config.header = header;
	config.contexts = contexts;
	config.packet_header_size = streams == RINGBUF_PER_CPU ? RINGBUF_CTF_PACKET_HEADER_SIZE
							       : RINGBUF_CTF_PACKET_HEADER_SIZE_GLOBAL;
	ret = ringbuf_create(&config, &ch);
	if (ret) {
		fprintf(stderr, "no channel: %s\n", ringbuf_strerror(ret));
		exit(1);
	}
	ch->cpus_share = 0; /* its one stream is this CPU's */
	return ch;
}

static __attribute__((noinline)) uint64_t
record(struct ringbuf_channel *ch, uint64_t n)
{
	uint64_t lost = 0;

	for (uint64_t i = 0; i < n; i++) {
		struct ringbuf_reservation r = {.event_id = 1, .payload_size = 8};

		if (ringbuf_reserve(ch, &r)) {
			lost++;
			continue;
		}
		memcpy(r.payload, &i, 8);
		ringbuf_commit(ch, &r);
	}
	return lost;
}

static void
count(const char *name, struct ringbuf_channel *ch)
{
	uint64_t lost = record(ch, 1);

	CALLGRIND_ZERO_STATS;
	lost += record(ch, RECORDS);
	CALLGRIND_DUMP_STATS_AT(name);
	if (lost)
		exit(2);
	ringbuf_close(ch);
}

static __attribute__((noinline)) void
count_up(struct ringbuf_channel *ch, uint32_t word)
{
	for (uint64_t i = 0; i < RECORDS; i++)
		ringbuf_metric_add(ch, word, i);
}

static __attribute__((noinline)) void
observe(struct ringbuf_channel *ch, const struct ringbuf_metric *m)
{
	for (uint64_t i = 0; i < RECORDS; i++)
		ringbuf_observe(ch, m, m->word, (double)(i % 32));
}

static void
count_metrics(void)
{
	double bounds[25];
	struct ringbuf_metric counter = {.kind = RINGBUF_COUNTER, .name = "c", .name_size = 1, .unit = "", .help = "",
					 .labels = "", .bounds = bounds};
	struct ringbuf_metric histogram = counter;
	struct ringbuf_channel *ch = channel(RINGBUF_DISCARD, RINGBUF_PER_CPU, RINGBUF_COMPACT, "");

	for (int i = 0; i < 25; i++)
		bounds[i] = i;
	histogram.kind = RINGBUF_HISTOGRAM;
	histogram.name = "h";
	histogram.n_bounds = 25;
	if (ringbuf_declare_metric(ch, &counter) || ringbuf_declare_metric(ch, &histogram))
		exit(3);
	CALLGRIND_ZERO_STATS;
	count_up(ch, counter.word);
	CALLGRIND_DUMP_STATS_AT("a counter");
	CALLGRIND_ZERO_STATS;
	observe(ch, &histogram);
	CALLGRIND_DUMP_STATS_AT("a histogram of 25 buckets");
	if (ringbuf_metric_sum(ch, counter.word) != RECORDS * (RECORDS - 1) / 2)
		exit(4);
	ringbuf_close(ch);
}

int
main(void)
{
	static const char *modes[] = {"discard", "overwrite"}, *streams[] = {"per-cpu", "global"},
			  *headers[] = {"compact", "large"};

	for (int mode = 0; mode < 2; mode++)
		for (int stream = 0; stream < 2; stream++)
			for (int header = 0; header < 2; header++) {
				char name[64];

				snprintf(name, sizeof(name), "%s %s %s", modes[mode], streams[stream], headers[header]);
				count(name, channel(mode, stream, header, ""));
			}
	count("vpid and vtid", channel(RINGBUF_DISCARD, RINGBUF_PER_CPU, RINGBUF_COMPACT, "vpid:i32,vtid:i32"));
	count_metrics();
	return 0;
}
