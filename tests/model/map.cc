/* tests/model/map.cc - producers and mappers, who may hold a sub-buffer that is still being written. */
#include "model.h"

static void half(void) { model_write(MODEL_HALF); }
static void half_twice(void) { half(); half(); }
static void half_4(void) { half_twice(); half_twice(); }
static void third_3(void) { for (int i = 0; i < 3; i++) model_write(MODEL_THIRD); }
static void third_6(void) { third_3(); third_3(); }
static void full(void) { model_write(MODEL_FULL); }
static void full_4(void) { for (int i = 0; i < 4; i++) full(); }
static void tiny_discarding(void)
{
	model_write(MODEL_TINY);
	model_write(MODEL_TINY, MODEL_DISCARD);
	model_write(MODEL_TINY);
}
static void flush_twice(void) { model_flush(); model_flush(); }

/* The part of a sub-buffer that get_reader hands out, and whose it is. */
struct part {
	int held;
	uint64_t pos, bytes;
};

static struct part
at_hand(const struct ringbuf_stream_reader *r)
{
	struct part part = {r->holding, r->packet.pos, ringbuf_map_handed_out(r).bytes};

	return part;
}

/* One get_reader, but for its meta page. What it hands out is checked, and nothing is handed out twice. */
static void
get_reader(struct ringbuf_stream_reader *r)
{
	struct part before = at_hand(r), after;
	uint64_t from = model_region.ch.packet_header_size;
	struct ringbuf_part handed_out = ringbuf_map_handed_out(r);
	enum ringbuf_map_step step = ringbuf_map_step_on(r, &handed_out);

	after = at_hand(r);
	RL_ASSERT(after.bytes == handed_out.bytes && after.bytes <= MODEL_SUBBUF_SIZE);
	if (before.held && !(after.held && after.pos == before.pos))
		model_note_parts();
	if (step == RINGBUF_MAP_SWAPPED)
		RL_ASSERT(after.held && !(before.held && after.pos == before.pos));
	if (step == RINGBUF_MAP_EXTENDED)
		RL_ASSERT(after.held && before.held && after.pos == before.pos && after.bytes > before.bytes);
	if (step == RINGBUF_MAP_UNCHANGED)
		RL_ASSERT(!after.held || (after.pos == before.pos && after.bytes == before.bytes));
	else if (after.bytes) {
		model_check_part(r, step == RINGBUF_MAP_EXTENDED && before.bytes ? before.bytes : from, after.bytes);
		RL_ASSERT(ringbuf_map_handed_out(r).records == model_log.n_handed_out);
	}
}

/* As ringbuf_map_release. */
static void
release(struct ringbuf_stream_reader *r)
{
	struct ringbuf_part none = {0, 0};

	if (!r->holding)
		return;
	if (ringbuf_held_is_complete(r) && r->packet.content_size <= ringbuf_map_handed_out(r).bytes) {
		model_note_parts();
		ringbuf_put_subbuf(r, RINGBUF_PUT_READ);
	} else {
		ringbuf_put_subbuf(r, RINGBUF_PUT_BACK);
	}
	ringbuf_map_hand_out(r->s, none);
}

static void
map_n(int n)
{
	struct ringbuf_stream_reader r;

	ringbuf_stream_reader_set(&model_region.ch, 0, &r);
	ringbuf_take_over(&r);
	while (n--)
		get_reader(&r);
	release(&r);
}

static void map_once(void) { map_n(1); }
static void map_twice(void) { map_n(2); }
static void map_3(void) { map_n(3); }

/* Mappers take turns by their lock, and each takes over what the other holds. */
static void
compete(void)
{
	for (int i = 0; i < 2; i++) {
		struct ringbuf_stream_reader r;

		if (!model_region.take_right())
			continue;
		ringbuf_stream_reader_set(&model_region.ch, 0, &r);
		ringbuf_take_over(&r);
		get_reader(&r);
		model_region.give_right();
	}
}

static void
release_at_last(void)
{
	struct ringbuf_stream_reader r;

	ringbuf_stream_reader_set(&model_region.ch, 0, &r);
	ringbuf_take_over(&r);
	release(&r);
}

static const struct model models[] = {
	{"map_alone", MODEL_DISCARD_2, {map_twice}, half},
	{"map_half_discard", MODEL_DISCARD_2, {half_twice, map_twice}},
	{"map_half_overwrite", MODEL_OVERWRITE_2, {half_4, map_twice}},
	{"map_third_overwrite", MODEL_OVERWRITE_2, {third_6, map_3}},
	{"map_full_overwrite", MODEL_OVERWRITE_2, {full_4, map_3}},
	{"map_two_producers", MODEL_DISCARD_2, {half_twice, third_3, map_twice}},
	{"map_two_producers_overwrite", MODEL_OVERWRITE_2, {half_twice, third_3, map_twice}},
	{"map_discarding", MODEL_DISCARD_2, {tiny_discarding, half, map_twice}},
	{"map_flushed", MODEL_OVERWRITE_2, {half_twice, flush_twice, map_twice}},
	{"map_competing", MODEL_OVERWRITE_2, {half_4, compete, compete}, NULL, release_at_last},
};
MODEL_TABLE(models);
