/*
 * tests/model/park.cc - producers that may stop at any operation, for as long as others need to go round the ring
 * twice and more.
 *
 * The checker stops every thread anywhere. As long as there are spares for all that can be stopped (two for each: a
 * claim over a boundary owes bytes in two sub-buffers) nobody loses a record.
 */
#include "model.h"

static void tiny(void) { model_write(MODEL_TINY); }
static void half(void) { model_write(MODEL_HALF); }
static void half_twice(void) { half(); half(); }
static void full(void) { model_write(MODEL_FULL); }
static void full_3(void) { for (int i = 0; i < 3; i++) full(); }
static void full_5(void) { full_3(); full(); full(); }
static void discard_tiny(void) { model_write(MODEL_TINY, MODEL_DISCARD); }
static void flush_empty(void) { model_flush(RINGBUF_FLUSH_EMPTY); }
static void repair_twice(void) { ringbuf_repair(&model_region.ch); ringbuf_repair(&model_region.ch); }

/* An open record, and the ring comes round twice: the same every time, whatever others do. */
static void
go_round(void)
{
	struct ringbuf_reservation r;

	if (model_reserve(MODEL_TINY, &r))
		return;
	full_5();
	model_resolve(&r, MODEL_COMMIT);
	full();
}

static void go_round_twice(void) { go_round(); go_round(); }

static void
nobody_lost(void)
{
	RL_ASSERT(!model_log.lost[RINGBUF_LOST_WRAP]);
}

static void
read_n(int n)
{
	struct ringbuf_stream_reader r;

	ringbuf_stream_reader_init(&model_region.ch, 0, &r);
	if (r.holding)
		ringbuf_put_subbuf(&r, RINGBUF_PUT_BACK);
	while (n--)
		model_read(&r);
}

static void read_2(void) { read_n(2); }

static void
snapshot(void)
{
	struct ringbuf_stream_reader r;

	ringbuf_stream_reader_init(&model_region.ch, 0, &r);
	model_snapshot(&r);
}

/* All of it, or what is complete of it. Nothing of that counts as read. */
static void
look_at(struct ringbuf_stream_reader *r)
{
	struct ringbuf_part part;

	if (ringbuf_held_is_complete(r)) {
		model_check_packet(r);
		return;
	}
	part = ringbuf_held_part(r, 0);
	if (part.bytes)
		model_check_part(r, model_region.ch.packet_header_size, part.bytes);
	model_log.n_handed_out = 0;
}

/* Hold what is being written, as a mapper does, and give it back. */
static void
hold_open(void)
{
	struct ringbuf_stream_reader r;

	ringbuf_stream_reader_set(&model_region.ch, 0, &r);
	ringbuf_take_over(&r);
	for (int i = 0; i < 2; i++) {
		if (!r.holding && ringbuf_map_get_open(&r))
			continue;
		look_at(&r);
		ringbuf_put_subbuf(&r, RINGBUF_PUT_BACK);
	}
}

static void
die_holding(void)
{
	struct ringbuf_stream_reader r;

	try {
		model_self().die_in = 1 + (int)rl::rand(40);
		hold_open();
	} catch (const struct model_death &) {
	}
	model_self().die_in = 0;
	ringbuf_stream_reader_init(&model_region.ch, 0, &r);
	if (r.holding)
		ringbuf_put_subbuf(&r, RINGBUF_PUT_BACK);
}

static void
die(void (*work)(void))
{
	model_log.died = model_until_death(1 + (int)rl::rand(90), work);
}

static void die_half(void) { die([] { half(); half(); }); }
static void die_parking(void) { die([] { full_3(); }); }

/*
 * Two records are open in `kept`, each in a sub-buffer of its own; one of these is parked, and the ring has come round
 * to the other. As the first is counted its sub-buffer is a spare again: two that lap may set one aside each, and
 * whoever wins the position may enter with the other's.
 */
static struct ringbuf_reservation kept[2];

static void
keep(int i, int owner)
{
	model_self().producer = model_region.producer(owner);
	RL_ASSERT(!model_reserve(MODEL_TINY, &kept[i]));
	model_self().producer = NULL;
}

static void
keep_two_of(int parked, int lapped)
{
	keep(0, parked);
	full();
	full();
	keep(1, lapped);
	full();
}

static void keep_for_the_end(void) { keep_two_of(0, 3); }
static void keep_for_others(void) { keep_two_of(0, 2); }
static void commit_parked(void) { model_resolve(&kept[0], MODEL_COMMIT); }
static void commit_lapped(void) { model_resolve(&kept[1], MODEL_COMMIT); }

static const struct model models[] = {
	{"park_tiny", MODEL_PARK(2), {tiny, full_5}, NULL, nobody_lost},
	{"park_half", MODEL_PARK(2), {half_twice, full_5}, half, nobody_lost},
	{"park_discard", MODEL_PARK(2), {discard_tiny, full_5}, NULL, nobody_lost},
	{"park_flush", MODEL_PARK(2), {flush_empty, full_5}, NULL, nobody_lost},
	{"park_two", MODEL_PARK(3), {tiny, half, full_5}},
	{"park_two_lappers", MODEL_PARK(2), {full_3, full_3}, tiny},
	{"park_spare_again", MODEL_PARK(3), {commit_parked, full, full}, keep_for_the_end, commit_lapped},
	{"park_both_again", MODEL_PARK(3), {commit_parked, full_3, commit_lapped}, keep_for_others},
	{"park_scarce", MODEL_PARK(1), {half_twice, full_3, half}},
	{"park_open", MODEL_PARK(1), {go_round}, NULL, nobody_lost},
	{"park_open_beside", MODEL_PARK(3), {go_round, half}, NULL, nobody_lost},
	{"park_read", MODEL_PARK(2), {half_twice, full_3, read_2}, NULL, nobody_lost},
	{"park_snapshot", MODEL_PARK(2), {tiny, full_3, snapshot}, half},
	{"park_mapped", MODEL_PARK(2), {half_twice, full_3, hold_open}, half, nobody_lost},
	{"park_mapped_open", MODEL_PARK(1), {go_round, hold_open}, half},
	{"park_mapped_again", MODEL_PARK(1), {go_round_twice, hold_open}, half},
	{"park_mapper_dies", MODEL_PARK(1), {go_round, die_holding}, half},
	{"park_repair", MODEL_PARK(2), {half_twice, full_3, repair_twice}, NULL, nobody_lost},
	{"park_death", MODEL_PARK(2), {die_half, full_3, half}},
	{"park_death_parking", MODEL_PARK(2), {half_twice, die_parking, full}},
	{"park_death_repaired", MODEL_PARK(1), {die_half, full_5, repair_twice}},
};
MODEL_TABLE(models);
