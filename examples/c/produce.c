/*
 * produce.c - records into a channel that a Python program created.
 *
 * Build:
 *	cc -std=gnu11 -O2 -pthread -I"$(python -c 'import ringbuf; print(ringbuf.get_include())')" \
 *		produce.c -o produce
 * Run, while the Python program has the channel:
 *	./produce TARGET [THREADS [RECORDS]]
 *
 * TARGET is the channel's file (Channel(path=...)), or /proc/PID/fd/N for one in anonymous
 * memory, where PID is the Python process and N its channel.fileno(). There is nothing to
 * link with: the library is its headers.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ringbuf/ringbuf.h>

struct worker {
	pthread_t thread;
	struct ringbuf_channel *channel;
	uint32_t event_id;
	uint32_t number;
	uint64_t n_records;
	uint64_t lost;
	int error; /* what ended the thread early, negative, or 0 */
};

/*
 * One record. Returns 0, or -errno: the record is lost, and the channel has counted why.
 *
 * Payload bytes are the fields in the order they were declared in, without padding: numbers
 * little-endian, a str with its NUL. Between reserve and commit, do nothing that may fail or
 * wait; ringbuf_discard() gives a reservation back.
 */
static int
record_tick(struct ringbuf_channel *ch, uint32_t event_id, uint32_t thread, uint64_t n, const char *label)
{
	struct ringbuf_reservation r = {
		.event_id = event_id,
		.payload_size = sizeof(thread) + sizeof(n) + strlen(label) + 1,
	};
	struct ringbuf_writer w;
	int ret = ringbuf_reserve(ch, &r);

	if (ret)
		return ret;
	ringbuf_writer_init(&w, &r);
	ringbuf_write(&w, &thread, sizeof(thread));
	ringbuf_write(&w, &n, sizeof(n));
	ringbuf_write(&w, label, strlen(label) + 1);
	ringbuf_commit(ch, &r);
	return 0;
}

static void *
run(void *arg)
{
	struct worker *self = arg;

	for (uint64_t n = 0; n < self->n_records; n++) {
		int ret = record_tick(self->channel, self->event_id, self->number, n, n % 2 ? "tock" : "tick");

		switch (ret) {
		case 0:
			break;
		case -ENOBUFS: /* full: the reader is behind */
		case -EIO:     /* full, because somebody is still writing in the oldest sub-buffer */
			self->lost++;
			break; /* a tracer goes on; to wait instead, create the channel with a blocking_timeout */
		default: /* -ESHUTDOWN: disabled or finalized; -EUSERS: too many threads record */
			self->error = ret;
			return NULL;
		}
	}
	return NULL;
}

static int
produce(struct ringbuf_channel *ch, unsigned long n_threads, uint64_t n_records)
{
	/* The name and fields are the event: Python's tracer.event("c_tick", thread="u32", n="u64",
	 * label="str") is the same one, and gets the same id. */
	int64_t event_id = ringbuf_declare_event(ch, "c_tick", "", "thread:u32,n:u64,label:str");
	struct worker *workers = calloc(n_threads, sizeof(*workers));
	uint64_t lost = 0;
	int error = 0;

	if (event_id < 0 || !workers) {
		free(workers);
		return event_id < 0 ? (int)event_id : -ENOMEM;
	}
	for (unsigned long i = 0; i < n_threads; i++) {
		workers[i] = (struct worker){.channel = ch, .event_id = (uint32_t)event_id, .number = (uint32_t)i,
					     .n_records = n_records};
		if (pthread_create(&workers[i].thread, NULL, run, &workers[i])) {
			n_threads = i;
			error = -EAGAIN;
		}
	}
	for (unsigned long i = 0; i < n_threads; i++) {
		pthread_join(workers[i].thread, NULL);
		lost += workers[i].lost;
		if (workers[i].error)
			error = workers[i].error;
	}
	printf("lost %llu of %llu records\n", (unsigned long long)lost,
	       (unsigned long long)(n_threads * n_records));
	free(workers);
	return error;
}

int
main(int argc, char **argv)
{
	unsigned long n_threads = argc > 2 ? strtoul(argv[2], NULL, 10) : 4;
	uint64_t n_records = argc > 3 ? strtoull(argv[3], NULL, 10) : 1000;
	struct ringbuf_channel *ch;
	int ret;

	if (argc < 2 || argc > 4 || !n_threads) {
		fprintf(stderr, "usage: %s TARGET [THREADS [RECORDS]]\n", argv[0]);
		return 2;
	}
	ret = ringbuf_attach(argv[1], &ch);
	if (ret) {
		fprintf(stderr, "%s: %s: %s\n", argv[0], argv[1], ringbuf_strerror(ret));
		return 1;
	}
	ret = produce(ch, n_threads, n_records);
	if (ret)
		fprintf(stderr, "%s: %s\n", argv[0], ringbuf_strerror(ret));
	ringbuf_close(ch);
	return ret != 0;
}
