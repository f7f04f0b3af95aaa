/* tests/model/snapshot.cc - packets that are looked at and put back, while they are lapped. */
#include "model.h"

static void full(void) { model_write(MODEL_FULL); }
static void full_twice(void) { full(); full(); }
static void full_3(void) { full_twice(); full(); }
static void full_4(void) { full_twice(); full_twice(); }

static void
snapshot_n(int n)
{
	struct ringbuf_stream_reader r;

	ringbuf_stream_reader_init(&model_region.ch, 0, &r);
	while (n--)
		model_snapshot(&r);
}

static void snapshot(void) { snapshot_n(1); }
static void snapshot_twice(void) { snapshot_n(2); }

static void
snapshot_then_read(void)
{
	struct ringbuf_stream_reader r;

	ringbuf_stream_reader_init(&model_region.ch, 0, &r);
	model_snapshot(&r);
	model_read(&r);
}

/* Holds the packets of one lap by turns: the spare changes while a producer stands
 * between its look at a held slot and its swap. */
static void
hold_by_turns(uint64_t first)
{
	struct ringbuf_stream_reader r;

	ringbuf_stream_reader_init(&model_region.ch, 0, &r);
	for (int i = 0; i < 3; i++)
		if (ringbuf_get_subbuf(&r, ringbuf_pos_add(model_region.ch.start_pos,
							   (first ^ (i & 1)) * MODEL_SUBBUF_SIZE)) == 0) {
			model_check_packet(&r);
			ringbuf_put_subbuf(&r, RINGBUF_PUT_BACK);
		}
}

static void hold_first_by_turns(void) { hold_by_turns(0); }
static void hold_second_by_turns(void) { hold_by_turns(1); }

static void half(void) { model_write(MODEL_HALF); }
static void full_half(void) { full(); half(); }

/* Holds the oldest packet alone: two producers then land in one sub-buffer. */
static void
hold_first(void)
{
	struct ringbuf_stream_reader r;

	ringbuf_stream_reader_init(&model_region.ch, 0, &r);
	if (ringbuf_get_subbuf(&r, model_region.ch.start_pos) == 0) {
		model_check_packet(&r);
		ringbuf_put_subbuf(&r, RINGBUF_PUT_BACK);
	}
}

/* The ring is full, and counted, before the threads begin. */
static void
fill(void)
{
	full_twice();
}

static const struct model models[] = {
	{"snapshot_discard", MODEL_DISCARD_2, {full_twice, snapshot_then_read}},
	{"snapshot_overwrite", MODEL_OVERWRITE_2, {full_4, snapshot_twice}},
	{"snapshot_then_read_overwrite", MODEL_OVERWRITE_2, {full_4, snapshot_then_read}},
	{"snapshot_two_producers", MODEL_OVERWRITE_2, {full_3, full_twice, snapshot_twice}},
	{"snapshot_of_full_ring", MODEL_OVERWRITE_2, {full, full, snapshot_twice}, fill},
	{"snapshot_by_turns", MODEL_OVERWRITE_2, {full, full, hold_first_by_turns}, fill},
	{"snapshot_by_turns_second", MODEL_OVERWRITE_2, {full, full, hold_second_by_turns}, fill},
	/* the spare comes back into the ring with two producers in it */
	{"snapshot_spare_shared", MODEL_OVERWRITE_2, {full_half, half, snapshot}, fill},
	{"enter_two", MODEL_OVERWRITE_2, {half, half, hold_first}, fill},
	{"snapshot_of_full_ring_once", MODEL_OVERWRITE_2, {full_twice, snapshot}, fill},
};
MODEL_TABLE(models);
