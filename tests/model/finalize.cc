/* tests/model/finalize.cc - the end of a channel, and disabling it. */
#include "model.h"

static void tiny(void) { model_write(MODEL_TINY); }
static void half(void) { model_write(MODEL_HALF); }
static void half_twice(void) { half(); half(); }
static void full(void) { model_write(MODEL_FULL); }
static void tiny_discard(void) { model_write(MODEL_TINY, MODEL_DISCARD); }

/* Reads what there is. If that is all, and finalize has returned, nothing may come later. */
static void
finalize_and_drain(void)
{
	struct ringbuf_channel *ch = &model_region.ch;
	struct ringbuf_stream_reader r;

	RL_ASSERT(ringbuf_finalize(ch, model_region.producer(model_me())) == 0);
	ringbuf_stream_reader_init(ch, 0, &r);
	while (model_read(&r) == 0)
		continue;
	model_log.ended = ringbuf_is_drained(&r);
}

/* Another reader, that comes upon the end at any time, and believes it. */
static void
read_to_the_end(void)
{
	struct ringbuf_stream_reader r;

	ringbuf_stream_reader_init(&model_region.ch, 0, &r);
	for (int i = 0; i < 2; i++)
		model_read(&r);
	model_log.ended = ringbuf_is_at_end(&r, model_region.producer(model_me()));
}

static void
finalize(void)
{
	ringbuf_finalize(&model_region.ch, model_region.producer(model_me()));
}

static void
disable_enable(void)
{
	ringbuf_set_state(&model_region.ch, RINGBUF_STATE_DISABLED, 1);
	ringbuf_set_state(&model_region.ch, RINGBUF_STATE_DISABLED, 0);
}

/* After both are done, every further record is refused. */
static void
refused(void)
{
	struct ringbuf_reservation r;

	memset(&r, 0, sizeof(r));
	r.payload_size = 4;
	RL_ASSERT(ringbuf_reserve_as(&model_region.ch, model_region.producer(0), &r) == -ESHUTDOWN);
	model_log.attempts++;
	model_log.lost[RINGBUF_LOST_DISABLED]++;
}

static const struct model models[] = {
	{"finalize_producer", MODEL_DISCARD_2, {half_twice, finalize_and_drain}, NULL, refused},
	{"finalize_fills", MODEL_OVERWRITE_2, {full, finalize_and_drain}, NULL, refused},
	{"finalize_producers", MODEL_DISCARD_2, {tiny, tiny, finalize_and_drain}, NULL, refused},
	{"finalize_reader", MODEL_DISCARD_2, {tiny, finalize, read_to_the_end}, NULL, refused},
	{"finalize_reader_full", MODEL_DISCARD_2, {full, finalize, read_to_the_end}, NULL, refused},
	{"finalize_reader_producers", MODEL_DISCARD_2, {tiny, tiny, finalize, read_to_the_end}, NULL, refused},
	{"finalize_discard", MODEL_DISCARD_2, {tiny_discard, tiny, finalize_and_drain}, NULL, refused},
	{"finalize_twice", MODEL_OVERWRITE_2, {half, finalize, finalize_and_drain}, NULL, refused},
	{"disable_enable", MODEL_DISCARD_2, {half_twice, disable_enable}},
};
MODEL_TABLE(models);
