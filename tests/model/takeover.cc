/* tests/model/takeover.cc - a reader dies before any of its atomic operations; the next takes over. */
#include "model.h"

static void full(void) { model_write(MODEL_FULL); }
static void full_twice(void) { full(); full(); }
static void full_3(void) { full_twice(); full(); }
static void half_twice(void) { model_write(MODEL_HALF); model_write(MODEL_HALF); }

#define WITHIN 70 /* operations; two packets take about 60 */

/* Reads up to two packets, and dies somewhere in it. */
static void
read_until_death(enum ringbuf_put how)
{
	int *noted = &model_log.scratch[0]; /* was the packet in hand noted as read? */

	model_until_death(1 + (int)rl::rand(WITHIN), [=] {
		struct ringbuf_stream_reader r;

		ringbuf_stream_reader_init(&model_region.ch, 0, &r);
		for (int i = 0; i < 2; i++) {
			if (model_hold(&r))
				continue;
			if (how == RINGBUF_PUT_READ) {
				model_note_read(&r);
				*noted = 1;
			}
			ringbuf_put_subbuf(&r, how);
			*noted = 0;
		}
	});
}

static void
take_over(enum ringbuf_put how)
{
	struct ringbuf_stream_reader r;

	ringbuf_stream_reader_init(&model_region.ch, 0, &r);
	if (r.holding) {
		model_check_packet(&r);
		if (model_log.scratch[0]) /* its release was not counted: it is returned again */
			model_unnote_read(&r);
		if (how != RINGBUF_PUT_BACK)
			model_note_read(&r);
		ringbuf_put_subbuf(&r, how == RINGBUF_PUT_DROP ? RINGBUF_PUT_READ : how);
	}
	model_log.scratch[0] = 0;
	model_read(&r);
}

/* The successor runs in the same thread: no lock is needed to order it after the dead. */
static void
die_and_take_over(enum ringbuf_put how)
{
	read_until_death(how);
	take_over(how);
}

/* Or in another, after it in the order of the lock, which the kernel releases for the dead. */
static void
with_the_right(void (*work)(enum ringbuf_put))
{
	if (!model_region.take_right())
		return;
	work(RINGBUF_PUT_READ);
	model_region.give_right();
}

static void die_with_the_right(void) { with_the_right(read_until_death); }
static void take_over_by_right(void) { with_the_right(take_over); }
static void take_over_at_last(void) { take_over(RINGBUF_PUT_READ); }

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
	{"takeover_by_another", MODEL_OVERWRITE_2, {full_3, die_with_the_right, take_over_by_right}, fill,
	 take_over_at_last},
	{"takeover_two_producers", MODEL_OVERWRITE_2, {full_twice, half_twice, die_reading}, fill},
};
MODEL_TABLE(models);
