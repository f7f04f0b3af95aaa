/* tests/model/discard.cc - reservations that are taken back. */
#include "model.h"

static void third(void) { model_write(MODEL_THIRD); }
static void tiny(void) { model_write(MODEL_TINY); }
static void half(void) { model_write(MODEL_HALF); }
static void discard_third(void) { model_write(MODEL_THIRD, MODEL_DISCARD); }
static void discard_half(void) { model_write(MODEL_HALF, MODEL_DISCARD); }
static void discard_full(void) { model_write(MODEL_FULL, MODEL_DISCARD); }
static void flush(void) { model_flush(); }

/* The position comes back to where it was after the first: a swap that was planned
 * between must not win, or time goes backwards. */
static void third_discard_third(void) { third(); discard_third(); third(); }
static void discard_third_third(void) { discard_third(); third(); }
static void discard_twice(void) { discard_third(); discard_third(); }
static void third_then_discard(void) { third(); discard_third(); }
static void half_then_discard(void) { half(); discard_half(); }
static void discard_full_half(void) { discard_full(); half(); }

/* Two of one thread at a time, given up in either order. */
static void
discard_first_of_two(void)
{
	struct ringbuf_reservation first, second;

	if (model_reserve(MODEL_THIRD, &first))
		return;
	if (model_reserve(MODEL_THIRD, &second) == 0) {
		model_resolve(&first, MODEL_DISCARD);
		model_resolve(&second, MODEL_DISCARD);
	} else {
		model_resolve(&first, MODEL_DISCARD);
	}
}

static void
read_twice(void)
{
	struct ringbuf_stream_reader r;

	ringbuf_stream_reader_init(&model_region.ch, 0, &r);
	model_read(&r);
	model_read(&r);
}

#define LARGE {RINGBUF_OVERWRITE, 1, 1, RINGBUF_LARGE, RINGBUF_WAKEUP_NONE, 0, NULL, 0}

static const struct model models[] = {
	{"discard_roll_back", MODEL_DISCARD_2, {discard_third_third, tiny}},
	{"discard_roll_back_twice", MODEL_DISCARD_2, {third_discard_third, third}},
	{"discard_both", MODEL_DISCARD_2, {discard_twice, discard_third_third}},
	{"discard_flush", MODEL_DISCARD_2, {third_then_discard, flush}},
	{"discard_roll_back_flush", MODEL_DISCARD_2, {discard_third_third, flush}},
	{"discard_fills", MODEL_OVERWRITE_2, {half_then_discard, half}},
	{"discard_full", MODEL_OVERWRITE_2, {discard_full_half, half}},
	{"discard_three", MODEL_DISCARD_2, {discard_third, discard_third_third, third}},
	{"discard_nested", MODEL_OVERWRITE_2, {discard_first_of_two, discard_third_third}},
	{"discard_reader", MODEL_OVERWRITE_2, {discard_third_third, discard_full_half, read_twice}},
	{"discard_large", LARGE, {discard_twice, discard_third_third}},
};
MODEL_TABLE(models);
