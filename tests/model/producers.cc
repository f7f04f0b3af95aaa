/* tests/model/producers.cc - producers against one another, without a reader. */
#include "model.h"

static void half(void) { model_write(MODEL_HALF); }
static void half_twice(void) { model_write(MODEL_HALF); model_write(MODEL_HALF); }
static void third_twice(void) { model_write(MODEL_THIRD); model_write(MODEL_THIRD); }
static void third(void) { model_write(MODEL_THIRD); }
static void third_6(void) { third_twice(); third_twice(); third_twice(); }
static void full(void) { model_write(MODEL_FULL); }
static void full_twice(void) { model_write(MODEL_FULL); model_write(MODEL_FULL); }
static void full_thrice(void) { model_write(MODEL_FULL); model_write(MODEL_FULL); model_write(MODEL_FULL); }

static void tiny(void) { model_write(MODEL_TINY); }
static void big_then_half(void) { model_write(MODEL_BIG); model_write(MODEL_HALF); }

/*
 * Sequentially consistent, so that no load is old: the slot that the full one needs was always
 * delivered, or `produced` had moved. Nested, because others try to repair first, and look again.
 */
static void
full_not_wrapped(void)
{
	struct ringbuf_reservation r;
	int ok = model_reserve(MODEL_TINY, &r) == 0;

	RL_ASSERT(ok && model_write(MODEL_FULL) != -EIO);
	model_resolve(&r, MODEL_COMMIT);
}

static const struct model models[] = {
	{"producers_half_discard", MODEL_DISCARD_2, {half_twice, half}},
	{"producers_third_discard", MODEL_DISCARD_2, {third_twice, third_twice}},
	{"producers_full_overwrite", MODEL_OVERWRITE_2, {full_thrice, full}},
	{"producers_mixed_overwrite", MODEL_OVERWRITE_2, {full_twice, third_twice}},
	{"producers_three_overwrite", MODEL_OVERWRITE_2, {full_twice, half_twice, full}},
	/* one fills the ring, one laps it, one lands beside that on the fast path */
	{"producers_lapped", MODEL_OVERWRITE_2, {third_6, third, third}},
	{"producers_tiny", MODEL_DISCARD_2, {tiny, tiny}},
	{"producers_three_tiny", MODEL_DISCARD_2, {tiny, tiny, tiny}},
	{"producers_big", MODEL_DISCARD_2, {big_then_half, big_then_half}},
	{"producers_false_wrap", MODEL_OVERWRITE_4, {full_twice, full_not_wrapped}, NULL, NULL, true},
};
MODEL_TABLE(models);
