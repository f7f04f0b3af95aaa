/* tests/model/flush.cc - packets that another thread ends. */
#include "model.h"

static void third_twice(void) { model_write(MODEL_THIRD); model_write(MODEL_THIRD); }
static void half_twice(void) { model_write(MODEL_HALF); model_write(MODEL_HALF); }
static void half(void) { model_write(MODEL_HALF); }
static void flush(void) { model_flush(); }
static void flush_twice(void) { model_flush(); model_flush(); }
static void flush_empty(void) { model_flush(RINGBUF_FLUSH_EMPTY); }
static void flush_empty_twice(void) { flush_empty(); flush_empty(); }

static void
read_twice(void)
{
	struct ringbuf_stream_reader r;

	ringbuf_stream_reader_init(&model_region.ch, 0, &r);
	model_read(&r);
	model_read(&r);
}

/* What `ch.clear()` does, with its own flush. */
static void
clear(void)
{
	struct ringbuf_stream_reader r;

	ringbuf_stream_reader_init(&model_region.ch, 0, &r);
	ringbuf_clear_stream(&r, model_region.producer(model_me()));
}

static void half_flush(void) { half(); flush(); }
static void full_twice(void) { model_write(MODEL_FULL); model_write(MODEL_FULL); }
static void big(void) { model_write(MODEL_BIG); } /* lost: the packets that end after it say so */
static void discard_half(void) { model_write(MODEL_HALF, MODEL_DISCARD); }

/* What was committed before a flush is delivered, and needs no other call. */
static void
delivered(void)
{
	struct ringbuf_stream_reader r;

	ringbuf_stream_reader_init(&model_region.ch, 0, &r);
	while (model_read(&r) == 0)
		continue;
	RL_ASSERT(model_log.records[0][0].state == MODEL_LOST || model_log.records[0][0].reads == 1);
}

static const struct model models[] = {
	{"flush_discard", MODEL_DISCARD_2, {third_twice, flush_twice}},
	{"flush_overwrite", MODEL_OVERWRITE_2, {third_twice, flush_twice}},
	{"flush_empty_discard", MODEL_DISCARD_2, {half_twice, flush_empty_twice}},
	{"flush_empty_overwrite", MODEL_OVERWRITE_2, {half_twice, flush_empty_twice}},
	{"flush_flush_overwrite", MODEL_OVERWRITE_2, {half, flush_empty, flush}},
	{"flush_reader_discard", MODEL_DISCARD_2, {third_twice, flush_twice, read_twice}},
	{"flush_reader_overwrite", MODEL_OVERWRITE_2, {half_twice, flush_empty_twice, read_twice}},
	/* a packet that neither the flusher nor the last deliverer of its slot has opened */
	{"flush_lapped", MODEL_OVERWRITE_2, {full_twice, half, flush}},
	{"flush_tells_losses", MODEL_DISCARD_2, {big, half_flush, half_flush}},
	{"flush_delivers", MODEL_DISCARD_2, {half_flush, discard_half}, NULL, delivered},
	{"flush_delivers_with_another", MODEL_DISCARD_2, {half_flush, half}, NULL, delivered},
	{"clear_discard", MODEL_DISCARD_2, {half_twice, clear}},
	{"clear_overwrite", MODEL_OVERWRITE_2, {half_twice, half_twice, clear}},
};
MODEL_TABLE(models);
