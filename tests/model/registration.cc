/*
 * tests/model/registration.cc - threads that share one slot of the producer table, one after
 * the other: registered, given back, had from the dead.
 */
#include "model.h"

static void
one_slot(void)
{
	model_region.certificate(&model_region.producer(0)->certificate).store(MODEL_MUTEX_FREE, rl::mo_relaxed, $);
	model_region.check_ledger(0);
}

/* Returns 0 if there is no slot, and the loss is counted. */
static int
take(void)
{
	struct ringbuf_producer_slot *slot = ringbuf_take_producer_slot(&model_region.ch);

	model_self().producer = slot;
	if (slot)
		return 1;
	ringbuf_refuse_here(&model_region.ch, RINGBUF_LOST_SLOTS, 1);
	model_log.attempts++;
	model_log.lost[RINGBUF_LOST_SLOTS]++;
	return 0;
}

static void
give_back(void)
{
	ringbuf_robust_unlock(&model_self().producer->certificate);
	model_self().producer = NULL;
}

static void
record_once(void)
{
	if (take()) {
		model_write(MODEL_HALF);
		give_back();
	}
}

static void record_twice(void) { record_once(); record_once(); }

#define WITHIN 50 /* operations: registration and a record take about that many */

static void
die_recording(void)
{
	model_log.died = model_until_death(1 + (int)rl::rand(WITHIN), record_once);
}

/* The slot of one who died over a record is left to a repairer. Had from the dead, it has
 * nothing open: all that was claimed can be read. */
static void
had_from_the_dead(void)
{
	struct ringbuf_stream_reader r;

	if (!take())
		return;
	RL_ASSERT(ringbuf_ledger_is_idle(model_self().producer));
	model_flush();
	give_back();
	ringbuf_stream_reader_init(&model_region.ch, 0, &r);
	while (model_read(&r) == 0)
		continue;
	RL_ASSERT(ringbuf_is_drained(&r));
}

static const struct model models[] = {
	{"registration_two", MODEL_OVERWRITE_2, {record_once, record_twice}, one_slot},
	{"registration_three", MODEL_OVERWRITE_2, {record_once, record_once, record_once}, one_slot},
	{"registration_death", MODEL_DISCARD_2, {die_recording, record_twice}, one_slot, had_from_the_dead},
};
MODEL_TABLE(models);
