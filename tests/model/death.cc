/*
 * tests/model/death.cc - a producer dies before any of its atomic operations.
 *
 * Others repair what it left: producers that come round to it, readers, repairers that die
 * themselves; at last the common checks. Nothing else is lost.
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

static void
read_and_repair(void)
{
	struct ringbuf_stream_reader r;

	ringbuf_stream_reader_init(&model_region.ch, 0, &r);
	for (int i = 0; i < 3; i++)
		if (model_read(&r) && ringbuf_repair_next(&r))
			model_read(&r);
}

static void repair_once(void) { ringbuf_repair(&model_region.ch); }
static void repair_twice(void) { repair_once(); repair_once(); }
static void half(int n) { while (n--) half(); }
static void third(void) { model_write(MODEL_THIRD); }
static void die_third(void) { die([] { third(); third(); third(); }); }
static void half_then_repair(void) { half(1); repair_once(); }

/* A repairer dies anywhere, and another comes. */
static void
die_repairing(void)
{
	model_until_death(1 + (int)rl::rand(3 * WITHIN), repair_twice);
	repair_once();
}

static const struct model models[] = {
	{"death_half", MODEL_OVERWRITE_2, {die_half, half_3, read_3}},
	{"death_full", MODEL_OVERWRITE_2, {die_full, full_3, read_3}},
	{"death_discarding", MODEL_DISCARD_2, {die_discarding, half_3}},
	{"death_flushing", MODEL_OVERWRITE_2, {die_flushing, half_3}},
	{"death_read", MODEL_DISCARD_2, {die_half, half_3, read_and_repair}},
	{"death_repaired", MODEL_DISCARD_2, {die_third, repair_twice}},
	{"death_repaired_by_two", MODEL_DISCARD_2, {die_third, repair_once, repair_once}},
	{"death_repaired_beside", MODEL_DISCARD_2, {die_third, half_then_repair}},
	{"death_repairing", MODEL_DISCARD_2, {die_third, die_repairing}},
	{"death_repairing_beside", MODEL_DISCARD_2, {die_half, die_repairing, third}},
	{"death_full_repaired", MODEL_OVERWRITE_2, {die_full, die_repairing, full}},
};
MODEL_TABLE(models);
