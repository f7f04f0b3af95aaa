/* tests/model/time.cc - short timestamps, by a clock that runs fast enough to overflow them. */
#include "model.h"

static void third_twice(void) { model_write(MODEL_THIRD); model_write(MODEL_THIRD); }
static void tiny(void) { model_write(MODEL_TINY); }
static void tiny_3(void) { tiny(); tiny(); tiny(); }
static void tiny_discard_tiny(void) { tiny(); model_write(MODEL_TINY, MODEL_DISCARD); tiny(); }

/* Half of what a short timestamp can tell apart, and then some. */
static void fast(void) { model_machine.tick = (UINT64_C(1) << (RINGBUF_CTF_TIME_BITS - 1)) + 1; }
static void faster(void) { model_machine.tick = (UINT64_C(1) << RINGBUF_CTF_TIME_BITS) + 1; }
static void slower(void) { model_machine.tick = (UINT64_C(1) << (RINGBUF_CTF_TIME_BITS - 2)) - 1; }

#define LARGE {RINGBUF_OVERWRITE, 1, 1, RINGBUF_LARGE, RINGBUF_WAKEUP_NONE, 0, NULL, 0}

static const struct model models[] = {
	{"time_fast", MODEL_OVERWRITE_2, {tiny_3, tiny_3}, fast},
	{"time_faster", MODEL_OVERWRITE_2, {third_twice, tiny_3}, faster},
	{"time_slower", MODEL_OVERWRITE_2, {tiny_3, tiny_3}, slower},
	{"time_discards", MODEL_OVERWRITE_2, {tiny_discard_tiny, tiny_discard_tiny}, slower},
	{"time_large", LARGE, {tiny_3, tiny_discard_tiny}, slower},
};
MODEL_TABLE(models);
