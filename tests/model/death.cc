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
begin(void)
{
	model_machine.threads[0].die_in = 1 + (int)rl::rand(WITHIN);
}

static void
die(void (*work)(void))
{
	try {
		work();
		work();
	} catch (const struct model_death &) {
		model_log.died = true;
	}
	model_self().die_in = 0;
}

static void die_half(void) { die(half); }
static void die_full(void) { die(full); }
static void discard_half(void) { model_write(MODEL_HALF, MODEL_DISCARD); }
static void die_discarding(void) { die(discard_half); }
static void flush_empty(void) { model_flush(RINGBUF_FLUSH_EMPTY); }
static void die_flushing(void) { die(flush_empty); }
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
	{"death_half", MODEL_OVERWRITE_2, {die_half, half_3, read_3}, begin},
	{"death_full", MODEL_OVERWRITE_2, {die_full, full_3, read_3}, begin},
	{"death_discarding", MODEL_DISCARD_2, {die_discarding, half_3}, begin},
	{"death_flushing", MODEL_OVERWRITE_2, {die_flushing, half_3}, begin},
};
MODEL_TABLE(models);
