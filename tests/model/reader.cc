/* tests/model/reader.cc - producers and the reader. */
#include "model.h"

static void half(void) { model_write(MODEL_HALF); }
static void half_twice(void) { half(); half(); }
static void half_4(void) { half_twice(); half_twice(); }
static void full(void) { model_write(MODEL_FULL); }
static void full_twice(void) { full(); full(); }
static void full_3(void) { full_twice(); full(); }
static void full_4(void) { full_twice(); full_twice(); }
static void third_3(void) { for (int i = 0; i < 3; i++) model_write(MODEL_THIRD); }

static void
read_n(int n, enum ringbuf_put how)
{
	struct ringbuf_stream_reader r;

	ringbuf_stream_reader_init(&model_region.ch, 0, &r);
	while (n--)
		model_read(&r, how);
}

static void read_once(void) { read_n(1, RINGBUF_PUT_READ); }
static void read_twice(void) { read_n(2, RINGBUF_PUT_READ); }
static void read_3(void) { read_n(3, RINGBUF_PUT_READ); }
static void drop_twice(void) { read_n(2, RINGBUF_PUT_DROP); }

/* Holds each packet a little longer, and looks at it again before giving it back. */
static void
look_twice(void)
{
	struct ringbuf_stream_reader r;

	ringbuf_stream_reader_init(&model_region.ch, 0, &r);
	for (int i = 0; i < 2; i++)
		if (model_hold(&r) == 0) {
			model_check_packet(&r);
			model_note_read(&r);
			ringbuf_put_subbuf(&r, RINGBUF_PUT_READ);
		}
}

/* As if the last packet had been read weeks ago. */
static void
read_long_ago(void)
{
	ringbuf_store(&model_region.stream()->consumed_pos,
		      ringbuf_pos_sub(model_region.ch.start_pos, RINGBUF_CONSUMED_BEHIND_MAX + MODEL_SUBBUF_SIZE),
		      rl::mo_relaxed);
}

/* Statistics may be a little off while others run, by C11, but not by their logic. */
static void
sample_stats(void)
{
	struct ringbuf_stats st;

	model_self().unchecked = true;
	ringbuf_channel_stats(&model_region.ch, &st);
	RL_ASSERT(st.written <= model_log.attempts && st.read <= model_log.read);
}

static const struct model models[] = {
	{"reader_half_discard", MODEL_DISCARD_2, {half_4, read_twice}},
	{"reader_full_discard", MODEL_DISCARD_2, {full_4, read_3}},
	{"reader_third_overwrite", MODEL_OVERWRITE_2, {third_3, read_once}},
	{"reader_full_overwrite", MODEL_OVERWRITE_2, {full_4, read_3}},
	{"reader_holding_overwrite", MODEL_OVERWRITE_2, {full_4, look_twice}},
	{"reader_drop_overwrite", MODEL_OVERWRITE_2, {full_3, drop_twice}},
	{"reader_two_producers_discard", MODEL_DISCARD_2, {full_twice, half_twice, read_3}},
	{"reader_two_producers_overwrite", MODEL_OVERWRITE_2, {full_3, half_twice, read_3}},
	{"reader_far_behind", MODEL_OVERWRITE_2, {full_3, read_twice}, read_long_ago},
	{"reader_stats", MODEL_OVERWRITE_2, {full_3, read_twice, sample_stats}, NULL, NULL, true},
	{"reader_two_producers_full", MODEL_OVERWRITE_2, {full_3, full_3, read_3}},
};
MODEL_TABLE(models);
