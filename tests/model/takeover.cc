/* tests/model/takeover.cc - a reader dies before any of its atomic operations; the next takes over. */
#include "model.h"

static void full(void) { model_write(MODEL_FULL); }
static void full_twice(void) { full(); full(); }
static void full_3(void) { full_twice(); full(); }
static void half_twice(void) { model_write(MODEL_HALF); model_write(MODEL_HALF); }

#define WITHIN 70 /* operations; two packets take about 60 */

/* The successor runs in the same thread: the stream's lock orders it after the dead. */
static void
die_and_take_over(enum ringbuf_put how)
{
	struct ringbuf_channel *ch = &model_region.ch;
	struct ringbuf_stream_reader r;
	bool noted = false;

	model_self().die_in = 1 + (int)rl::rand(WITHIN);
	try {
		ringbuf_stream_reader_init(ch, 0, &r);
		for (int i = 0; i < 2; i++) {
			if (model_hold(&r))
				continue;
			if (how == RINGBUF_PUT_READ) {
				model_note_read(&r);
				noted = true;
			}
			ringbuf_put_subbuf(&r, how);
			noted = false;
		}
	} catch (const struct model_death &) {
	}
	model_self().die_in = 0;

	ringbuf_stream_reader_init(ch, 0, &r);
	if (r.holding) {
		if (noted) /* its release was not counted: it is returned again */
			model_unnote_read(&r);
		model_check_packet(&r);
		if (how != RINGBUF_PUT_BACK)
			model_note_read(&r);
		ringbuf_put_subbuf(&r, how == RINGBUF_PUT_DROP ? RINGBUF_PUT_READ : how);
	}
	model_read(&r);
}

static void die_reading(void) { die_and_take_over(RINGBUF_PUT_READ); }
static void die_looking(void) { die_and_take_over(RINGBUF_PUT_BACK); }
static void die_dropping(void) { die_and_take_over(RINGBUF_PUT_DROP); }

static void fill(void) { full_twice(); }

static const struct model models[] = {
	{"takeover_alone", MODEL_OVERWRITE_2, {die_reading}, fill},
	{"takeover_discard", MODEL_DISCARD_2, {full_3, die_reading}},
	{"takeover_overwrite", MODEL_OVERWRITE_2, {full_3, die_reading}, fill},
	{"takeover_snapshot", MODEL_OVERWRITE_2, {full_3, die_looking}, fill},
	{"takeover_drop", MODEL_OVERWRITE_2, {full_3, die_dropping}, fill},
	{"takeover_two_producers", MODEL_OVERWRITE_2, {full_twice, half_twice, die_reading}, fill},
};
MODEL_TABLE(models);
