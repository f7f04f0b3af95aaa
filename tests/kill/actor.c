/*
 * actor.c - a process that has a part in a channel, and may die at a test point.
 *
 *	actor CHANNEL TALLY INDEX ROLE [POINT SKIP HOW]
 *
 * ROLE: producer, reader, repairer, declarer, or recorder:DIR. It goes on until
 * the tally's stop flag is set. At the (SKIP+1)-th passage of the test point
 * POINT it ends by HOW: kill, stop, segv, abort, exit, exec.
 *
 * What it has done is counted in the tally, a file of entries shared with the
 * test; entry 0 has the stop flag.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

static void testpoint(const char *name);
#define RINGBUF_TESTPOINT(name) testpoint(#name)
#include <ringbuf/files.h>

struct entry {
	_Atomic uint64_t attempts, committed, discarded, lost, open, stop, reserved[2];
};

static struct entry *tally, *mine;
static const char *die_point, *die_how;
static unsigned long die_skip;
static struct ringbuf_channel *ch;
static uint32_t producer;

/* ---- ends ---- */

static void
raise_fault(void)
{
	volatile int *volatile nowhere = NULL;

	*nowhere = 0;
}

static void
end_here(void)
{
	switch (die_how[0] + die_how[1]) {
	case 'k' + 'i': raise(SIGKILL); break;
	case 's' + 't': raise(SIGSTOP); break;
	case 's' + 'e': raise_fault(); break;
	case 'a' + 'b': abort();
	default:
		if (!strcmp(die_how, "exec"))
			execl("/bin/true", "true", (char *)NULL);
		_exit(3);
	}
}

static void
testpoint(const char *name)
{
	static atomic_int done;

	if (!die_point)
		return;
	if (!strcmp(name, die_point) && !die_skip-- && !atomic_exchange(&done, 1))
		end_here();
}

/* ---- producer ---- */

static uint32_t event_id;

/* Sizes differ between actors of neighbouring numbers, so that sums of two that die tell them apart. */
static uint32_t
fill_size(uint64_t seq)
{
	return (uint32_t)(16 * (seq * 7 % 5) + 8 * (producer % 2));
}

static void
fill_in(const struct ringbuf_reservation *r, uint64_t seq, uint32_t fill)
{
	memcpy(r->payload, &producer, 4);
	memcpy(r->payload + 4, &seq, 8);
	memcpy(r->payload + 12, &fill, 4);
	memset(r->payload + 16, (int)(seq & 0xff), fill);
}

/* One record, and `n_more` in the same claim. */
static int
begin(struct ringbuf_reservation *r, uint64_t seq, uint32_t fill, uint32_t n_more)
{
	int ret;

	memset(r, 0, sizeof(*r));
	r->event_id = event_id;
	r->payload_size = 4 + 8 + 4 + fill;
	r->n_more = n_more;
	atomic_fetch_add(&mine->open, 1 + n_more);
	atomic_fetch_add(&mine->attempts, 1 + n_more);
	ret = ringbuf_reserve(ch, r);
	if (ret) {
		atomic_fetch_add(&mine->lost, 1 + n_more);
		atomic_fetch_sub(&mine->open, 1 + n_more);
		return ret;
	}
	fill_in(r, seq, fill);
	while (n_more--) {
		ringbuf_next_record(ch, r);
		fill_in(r, ++seq, fill);
	}
	return 0;
}

/* Open falls last: what is still open when the actor is dead may or may not have been counted before. */
static void
finish(struct ringbuf_reservation *r, int commit)
{
	if (commit)
		ringbuf_commit(ch, r);
	else
		ringbuf_discard(ch, r);
	atomic_fetch_add(commit ? &mine->committed : &mine->discarded, 1 + r->n_more);
	atomic_fetch_sub(&mine->open, 1 + r->n_more);
}

/* To the end of the sub-buffer as it looks now, or about a third of one. */
static uint32_t
fill_to_the_end(void)
{
	uint64_t off = ringbuf_subbuf_off(&ch->geometry, ringbuf_load(&ringbuf_stream_at(ch, 0)->produced,
								      RINGBUF_RELAXED));
	uint64_t used = ringbuf_align_up(off, 4) + 4 + 16;

	return off && used + 64 < 4096 ? (uint32_t)(4096 - used) : 1300;
}

static void
produce(void)
{
	struct ringbuf_reservation a, b;
	uint64_t seq = 0;

	event_id = (uint32_t)ringbuf_declare_event(ch, "stamp", "", "producer:u32,seq:u64,fill:u8[]");
	for (uint64_t n = 0; !atomic_load(&tally->stop); n++) {
		uint64_t turn = n % 64;
		uint32_t n_more = turn % 8 == 3 ? 3 : turn % 16 == 5;
		int opened = !begin(&a, seq, turn == 40 ? fill_to_the_end() : fill_size(seq), n_more);

		seq += 1 + n_more;
		if (turn % 16 == 7 && !begin(&b, seq, fill_size(seq), 0))
			finish(&b, turn != 23);
		seq += turn % 16 == 7;
		if (opened)
			finish(&a, turn % 8 != 5 && turn % 32 != 7);
		if (turn == 29 || turn == 57)
			ringbuf_flush(ch, ringbuf_this_producer(ch)->slot, (uint32_t)(n / 64 % ch->n_streams),
				      turn == 57 ? RINGBUF_FLUSH_EMPTY : 0);
		/* As a program that also does something else; but many die over a record. */
		if (n % 512 < 64 && turn == 63)
			usleep(50);
	}
}

/* ---- the others ---- */

static void
consume(void)
{
	while (!atomic_load(&tally->stop)) {
		struct ringbuf_right right;
		struct ringbuf_stream_reader r;

		if (ringbuf_open_reader(ch, 0, ch->n_streams, &right)) {
			usleep(1000);
			continue;
		}
		for (uint32_t i = 0; i < ch->n_streams; i++) {
			ringbuf_stream_reader_init(ch, i, &r);
			for (int n = 0; n < 20; n++) {
				if (!r.holding && ringbuf_get_next_subbuf(&r) && !ringbuf_repair_next(&r))
					break;
				if (r.holding)
					ringbuf_put_subbuf(&r, n % 4 == 3 ? RINGBUF_PUT_BACK : RINGBUF_PUT_READ);
			}
		}
		ringbuf_close_reader(&right);
	}
}

static void
map_streams(void)
{
	while (!atomic_load(&tally->stop)) {
		struct ringbuf_map map;

		if (ringbuf_map_open(ch, 0, &map)) {
			usleep(1000);
			continue;
		}
		for (int n = 0; n < 20; n++)
			ringbuf_map_get_reader(&map);
		ringbuf_map_close(&map);
	}
}

static void
repair(void)
{
	while (!atomic_load(&tally->stop)) {
		ringbuf_repair(ch);
		usleep(100);
	}
}

static void
declare(void)
{
	char name[64];

	for (int i = 0; !atomic_load(&tally->stop); i++) {
		snprintf(name, sizeof(name), "event_%u_%d", producer, i % 50);
		ringbuf_declare_event(ch, name, "", "n:u32");
	}
}

static void
record(const char *directory)
{
	struct ringbuf_consumer_options options = {.directory = directory, .read_period_ns = 1000000,
						   .switch_period_ns = 5000000};
	struct ringbuf_consumer *c;

	while (ringbuf_consumer_start(ch, &options, &c))
		usleep(1000);
	while (!atomic_load(&tally->stop))
		usleep(1000);
	ringbuf_consumer_stop(c, UINT64_C(1000000000));
}

int
main(int argc, char **argv)
{
	int fd = argc > 4 ? open(argv[2], O_RDWR) : -1;
	const char *role = argc > 4 ? argv[4] : "";

	setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
	if (fd < 0 || ringbuf_attach(argv[1], &ch))
		return 2;
	tally = (struct entry *)mmap(NULL, (size_t)lseek(fd, 0, SEEK_END), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (tally == MAP_FAILED)
		return 2;
	producer = (uint32_t)atoi(argv[3]);
	mine = &tally[producer];
	if (argc > 5) {
		die_point = argv[5];
		die_skip = argc > 6 ? strtoul(argv[6], NULL, 10) : 0;
		die_how = argc > 7 ? argv[7] : "kill";
	}
	if (!strcmp(role, "producer"))
		produce();
	else if (!strcmp(role, "reader"))
		consume();
	else if (!strcmp(role, "mapper"))
		map_streams();
	else if (!strcmp(role, "repairer"))
		repair();
	else if (!strcmp(role, "declarer"))
		declare();
	else if (!strncmp(role, "recorder:", 9))
		record(role + 9);
	return 0;
}
