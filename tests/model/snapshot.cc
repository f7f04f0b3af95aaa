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

/* The ring is full, and counted, before the threads begin. */
static void
fill(void)
{
	full_twice();
}

static const struct model models[] = {
	{"snapshot_discard", MODEL_DISCARD_2, {full_twice, snapshot_then_read}, NULL, NULL, false},
	{"snapshot_overwrite", MODEL_OVERWRITE_2, {full_4, snapshot_twice}, NULL, NULL, false},
	{"snapshot_then_read_overwrite", MODEL_OVERWRITE_2, {full_4, snapshot_then_read}, NULL, NULL, false},
	{"snapshot_two_producers", MODEL_OVERWRITE_2, {full_3, full_twice, snapshot_twice}, NULL, NULL, false},
	{"snapshot_of_full_ring", MODEL_OVERWRITE_2, {full, full, snapshot_twice}, fill, NULL, false},
	{"snapshot_of_full_ring_once", MODEL_OVERWRITE_2, {full_twice, snapshot}, fill, NULL, false},
};
MODEL_TABLE(models);
