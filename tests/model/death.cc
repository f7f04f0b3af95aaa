/*
 * tests/model/death.cc - a producer dies before any of its atomic operations.
 *
 * Nobody repairs what it left. Still nobody hangs or reads a wrong byte: others lose
 * records when they come round to its sub-buffer, and count them.
 */
#include "model.h"

static void half(void) { model_write(MODEL_HALF); }
static void full(void) { model_write(MODEL_FULL); }

#define WITHIN 90 /* operations: two records take about that many */

static void
die(void (*work)(void))
{
	model_log.died = model_until_death(1 + (int)rl::rand(WITHIN), work);
}

static void die_half(void) { die([] { half(); half(); }); }
static void die_full(void) { die([] { full(); full(); }); }
static void discard_half(void) { model_write(MODEL_HALF, MODEL_DISCARD); }
static void die_discarding(void) { die([] { discard_half(); discard_half(); }); }
static void flush_empty(void) { model_flush(RINGBUF_FLUSH_EMPTY); }
static void die_flushing(void) { die([] { flush_empty(); flush_empty(); }); }
static void half_3(void) { half(); half(); half(); }
static void full_3(void) { full(); full(); full(); }

static void
read_3(void)
{
	struct ringbuf_stream_reader r;

	ringbuf_stream_reader_init(&model_region.ch, 0, &r);
	for (int i = 0; i < 3; i++)
		model_read(&r);
}

static const struct model models[] = {
	{"death_half", MODEL_OVERWRITE_2, {die_half, half_3, read_3}},
	{"death_full", MODEL_OVERWRITE_2, {die_full, full_3, read_3}},
	{"death_discarding", MODEL_DISCARD_2, {die_discarding, half_3}},
	{"death_flushing", MODEL_OVERWRITE_2, {die_flushing, half_3}},
};
MODEL_TABLE(models);
