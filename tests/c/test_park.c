/* Producers that are stopped in the middle of a record, and others that go round the ring meanwhile: park.h. */
#include "sim.h"

static struct ringbuf_channel *ch;
static struct ringbuf_stream *s;
static struct reading rd;

static void
setup(const struct ringbuf_config *cfg)
{
	ch = create(cfg);
	s = ringbuf_stream_at(ch, 0);
	reading_init(&rd, ch, 0);
}

static void
count_given_up(const char *name)
{
	sim.given_up += !strcmp(name, "repair_giving_up");
}

#define RING(spares) CONFIG(.mode = RINGBUF_OVERWRITE, .n_subbufs = 2, .n_spares = (spares), .start_pos = POS_END - 8192)

static void
fill(unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		EQ(record(ch, payload_max(ch), 0), 0);
}

/* ---- one by one ---- */

TEST(an_open_record_costs_nobody_else_one_however_often_the_ring_comes_round)
{
	struct ringbuf_reservation open;
	struct ringbuf_stats st;

	setup(RING(1));
	EQ(reserve(ch, &open, 100, 1), 0);
	fill(20);
	st = stats_of(ch);
	EQ(st.lost[RINGBUF_LOST_WRAP], 0);
	EQ(st.parked, 1);
	EQ(st.parked_now, 1);
	EQ(st.written, 20);
	EQ(st.unread, 2);
	ringbuf_commit(ch, &open);
	st = stats_of(ch);
	EQ(st.parked_now, 0);
	EQ(st.written, 21);
	EQ(st.overrun, 19);
	EQ(st.unread, 2);
	EQ(read_all(&rd), 2);
	CHECK_IDENTITIES(stats_of(ch), 21);
}

TEST(what_others_committed_in_a_parked_sub_buffer_counts_as_overrun_at_once)
{
	struct ringbuf_reservation open;
	struct ringbuf_stats st;

	setup(RING(1));
	EQ(record(ch, 16, 0), 0);
	EQ(reserve(ch, &open, 100, 1), 0);
	EQ(record(ch, 16, 2), 0);
	fill(4);
	st = stats_of(ch);
	EQ(st.written, 6);
	EQ(st.overrun, 4);
	EQ(st.unread, 2);
	ringbuf_discard(ch, &open);
	CHECK_IDENTITIES(stats_of(ch), 7);
	EQ(stats_of(ch).overrun, 4);
}

TEST(a_spare_is_used_again_and_again)
{
	struct ringbuf_reservation open;

	setup(RING(1));
	for (uint64_t i = 0; i < 50; i++) {
		EQ(reserve(ch, &open, 100, i), 0);
		fill(2 + (unsigned int)rnd_below(4));
		ringbuf_commit(ch, &open);
		EQ(stats_of(ch).parked_now, 0);
	}
	EQ(stats_of(ch).lost[RINGBUF_LOST_WRAP], 0);
	EQ(stats_of(ch).parked, 50);
	CHECK_IDENTITIES(stats_of(ch), stats_of(ch).written);
}

TEST(when_no_spare_is_left_records_are_lost_and_counted)
{
	struct ringbuf_reservation open[3];

	setup(CONFIG(.mode = RINGBUF_OVERWRITE, .n_subbufs = 4, .n_spares = 2));
	for (uint64_t i = 0; i < 3; i++) {
		EQ(reserve(ch, &open[i], 100, i), 0);
		fill(1);
	}
	fill(2);
	EQ(stats_of(ch).parked_now, 2);
	for (uint64_t i = 0; i < 10; i++)
		EQ(record(ch, payload_max(ch), 3), -EIO);
	EQ(stats_of(ch).lost[RINGBUF_LOST_WRAP], 10);
	ringbuf_commit(ch, &open[1]);
	fill(8);
	EQ(stats_of(ch).lost[RINGBUF_LOST_WRAP], 10);
	EQ(stats_of(ch).parked_now, 2);
	ringbuf_commit(ch, &open[0]);
	ringbuf_commit(ch, &open[2]);
	EQ(read_all(&rd), 4);
	CHECK_IDENTITIES(stats_of(ch), 26);
}

TEST(without_spares_it_is_as_ever)
{
	struct ringbuf_reservation open;

	setup(RING(0));
	EQ(reserve(ch, &open, 100, 0), 0);
	fill(1);
	EQ(record(ch, payload_max(ch), 1), -EIO);
	ringbuf_commit(ch, &open);
	fill(2);
	CHECK_IDENTITIES(stats_of(ch), 5);
}

TEST(in_discard_mode_nobody_loses_a_record_before_the_ring_is_full)
{
	struct ringbuf_reservation open;

	setup(CONFIG(.mode = RINGBUF_DISCARD, .n_subbufs = 4, .n_spares = 4));
	EQ(ch->n_all, 5); /* nobody laps: no spares */
	fill(1);
	EQ(reserve(ch, &open, 100, 0), 0);
	fill(2);
	EQ(read_all(&rd), 1); /* what comes after the open one would be out of order */
	fill(1);
	EQ(record(ch, payload_max(ch), 1), -EIO);
	ringbuf_commit(ch, &open);
	EQ(read_all(&rd), 4);
	CHECK_IDENTITIES(stats_of(ch), 6);
}

TEST(readers_and_snapshots_pass_by_what_is_parked)
{
	struct ringbuf_reservation open;

	setup(CONFIG(.mode = RINGBUF_OVERWRITE, .n_subbufs = 4, .n_spares = 1));
	EQ(reserve(ch, &open, 100, 0), 0);
	fill(3);
	EQ(ringbuf_get_next_subbuf(&rd.reader), -EAGAIN); /* order: it is still to come */
	fill(3);
	EQ(read_all(&rd), 4);
	ringbuf_commit(ch, &open);
	EQ(read_all(&rd), 0);
	EQ(stats_of(ch).overrun, 3);
	CHECK_IDENTITIES(stats_of(ch), 7);
}

static void
fill_one(void *arg)
{
	*(int *)arg = record(ch, payload_max(ch), 0);
}

/* It looks for a spare; meanwhile the one that it came for is used, and the position moves on. */
TEST(a_lapping_producer_that_is_slow_goes_by_where_the_position_is_now)
{
	struct ringbuf_reservation open;
	static struct actor slow;
	int ret = 1;

	setup(RING(1));
	EQ(reserve(ch, &open, 100, 0), 0);
	fill(1);
	actor_init(&slow, fill_one, &ret);
	run_until(&slow, "park_looking");
	fill(2); /* the first of them takes the spare; none is left */
	run(&slow);
	EQ(ret, 0);
	EQ(stats_of(ch).lost[RINGBUF_LOST_WRAP], 0);
	ringbuf_commit(ch, &open);
	CHECK_IDENTITIES(stats_of(ch), 5);
}

/* Whoever parks it may stop before the spare is in its place. */
TEST(what_is_committed_in_a_sub_buffer_that_is_just_being_parked_is_counted)
{
	const char *const points[] = {"park_looking", "park_taking", "park_taken", "park_parking", "park_parked", "switch_entering"};

	for (unsigned int i = 0; i < 2 * ARRAY_SIZE(points); i++) {
		struct ringbuf_reservation open;
		static struct actor slow;
		int ret = 1, completes = i % 2;

		setup(RING(1));
		EQ(record(ch, 16, 0), 0);
		EQ(reserve(ch, &open, 100, 1), 0);
		fill(1);
		actor_init(&slow, fill_one, &ret);
		run_until(&slow, points[i / 2]);
		if (completes)
			ringbuf_commit(ch, &open);
		EQ(stats_of(ch).written, 2 + completes);
		EQ(stats_of(ch).overrun + stats_of(ch).unread, 2 + completes);
		run(&slow);
		EQ(ret, 0);
		if (!completes)
			ringbuf_commit(ch, &open);
		CHECK_IDENTITIES(stats_of(ch), 4);
	}
}

/* Somebody may be slow to enter the slot of the packet that was in the reader's spare last, and asks whether it is past. */
TEST(a_reader_that_takes_packets_out_of_turn_takes_no_stage_back)
{
	uint64_t last = 2 * 4096, stage;

	setup(CONFIG(.mode = RINGBUF_OVERWRITE, .n_subbufs = 4, .n_spares = 1));
	fill(4);
	EQ(ringbuf_flush(ch, my_slot(ch), 0, 0), 0);
	EQ(ringbuf_get_subbuf(&rd.reader, last), 0);
	ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_READ);
	EQ(ringbuf_get_subbuf(&rd.reader, 4096), 0);
	stage = atomic_load(&ringbuf_subbuf_at(ch, s, (uint32_t)atomic_load(&s->spare))->stage);
	OK(ringbuf_stage_is_past(stage, last));
	ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_READ);
	EQ(read_all(&rd), 1);
	CHECK_IDENTITIES(stats_of(ch), 4);
}

/* ---- a mapper that holds what is parked ---- */

/* What it has handed out counts as read, and so will the rest; if it leaves before that, none of it does. */
TEST(a_mapper_waits_for_the_rest_of_a_sub_buffer_at_hand_that_is_parked)
{
	for (int leaves = 0; leaves < 2; leaves++) {
		struct ringbuf_reservation open;
		struct ringbuf_map map;
		struct ringbuf_stats st;
		int id;

		setup(CONFIG(.mode = RINGBUF_OVERWRITE, .n_subbufs = 4, .n_spares = 1));
		EQ(ringbuf_map_open(ch, 0, &map), 0);
		EQ(record(ch, 16, 0), 0);
		id = ringbuf_map_get_reader(&map);
		GE(id, 0);
		EQ(reserve(ch, &open, 100, 0), 0);
		EQ(ringbuf_map_get_reader(&map), id);
		fill(3);
		EQ(ringbuf_map_get_reader(&map), id);
		fill(5);
		EQ(stats_of(ch).parked_now, 1);
		EQ(stats_of(ch).lost[RINGBUF_LOST_WRAP], 0);
		EQ(ringbuf_map_get_reader(&map), id);
		EQ(ringbuf_map_meta(&map)->read, 1);
		if (leaves)
			ringbuf_map_close(&map);
		ringbuf_commit(ch, &open);
		if (leaves)
			EQ(ringbuf_map_open(ch, 0, &map), 0);
		else
			EQ(ringbuf_map_get_reader(&map), id); /* complete: more of it */
		while (ringbuf_map_has_new(&map.reader))
			NE(ringbuf_map_get_reader(&map), id);
		st = stats_of(ch);
		EQ(ringbuf_map_meta(&map)->entries, 10);
		EQ(ringbuf_map_meta(&map)->overrun, st.overrun);
		EQ(ringbuf_map_meta(&map)->overrun + ringbuf_map_meta(&map)->read, 10);
		ringbuf_map_close(&map);
		st = stats_of(ch);
		EQ(st.overrun, leaves ? 6 : 4);
		CHECK_IDENTITIES(st, 10);
		EQ(stats_of(ch).parked_now, 0);
		for (uint64_t i = 0; i < 3; i++) { /* the spare is one again */
			EQ(reserve(ch, &open, 100, i), 0);
			fill(6);
			ringbuf_commit(ch, &open);
		}
		EQ(stats_of(ch).lost[RINGBUF_LOST_WRAP], 0);
	}
}

/* ---- every order ---- */

/* One producer stops anywhere in a record; the other goes round twice. */
TEST(a_producer_stops_at_any_access_of_a_record_in_the_middle)
{
	sim_create(RING(2)); /* it may come to a boundary, and owe bytes on both sides */
	sim_prefix(100);
	program(0, RECORD(16), END, END);
	program(1, RECORD(3990), RECORD(3990), RECORD(3990));
	sim.producers[1].ops[3] = RECORD(3990);
	sim.producers[1].ops[4] = RECORD(3990);
	sim.suffice = 1;
	sim_explore(2);
}

TEST(a_producer_stops_at_any_access_of_a_record_that_crosses)
{
	sim_create(RING(2));
	sim_prefix(3800);
	program(0, RECORD(500), END, END);
	program(1, RECORD(3990), RECORD(3990), RECORD(3990));
	sim.producers[1].ops[3] = RECORD(3990);
	sim.producers[1].ops[4] = RECORD(3990);
	sim.suffice = 1;
	sim_explore(2);
}

TEST(a_producer_stops_at_any_access_of_a_discard_or_a_flush)
{
	struct op ops[] = {DISCARD(16), FLUSH(0), FLUSH_EMPTY(0), RECORD(FILL)};

	for (unsigned int i = 0; i < ARRAY_SIZE(ops); i++) {
		sim_create(RING(2));
		sim_prefix(100);
		program(0, ops[i], END, END);
		program(1, RECORD(16), RECORD(3990), RECORD(3990));
		sim.producers[1].ops[3] = RECORD(3990);
		sim.producers[1].ops[4] = RECORD(3990);
		sim.suffice = 1;
		sim_explore(2);
		sim_destroy();
	}
}

TEST(two_producers_stop_while_a_third_goes_round)
{
	sim_create(RING(4));
	sim_prefix(3700);
	program(0, RECORD(16), END, END);
	program(1, RECORD(300), END, END);
	program(2, RECORD(3990), RECORD(3990), RECORD(3990));
	sim.producers[2].ops[3] = RECORD(3990);
	sim.suffice = 1;
	sim_explore(1);
}

TEST(two_producers_park_and_enter_at_the_same_time)
{
	struct op open = NEST(16);

	sim_create(RING(2));
	program(0, open, RECORD(3990), RECORD(3990));
	sim.producers[0].ops[3] = RECORD(2000);
	sim.producers[0].ops[4] = RECORD(2000);
	program(1, RECORD(3000), RECORD(3000), END);
	sim.suffice = 0;
	sim_explore(2);
}

TEST(a_reader_looks_on_while_a_producer_is_parked)
{
	sim_create(RING(2));
	sim_prefix(3990);
	sim_prefix(100);
	program(0, RECORD(16), END, END);
	program(1, RECORD(3990), RECORD(3990), RECORD(3990));
	sim.reader_turns = 2;
	sim.suffice = 1;
	sim_explore(2);
}

TEST(a_snapshot_looks_on_while_a_producer_is_parked)
{
	sim_create(RING(2));
	sim_prefix(3990);
	sim_prefix(100);
	program(0, RECORD(16), END, END);
	program(1, RECORD(3990), RECORD(3990), RECORD(3990));
	sim.reader_turns = 2;
	sim.habit = SNAPSHOTS;
	sim.suffice = 1;
	sim_explore(2);
}

TEST(a_producer_dies_at_any_access_and_is_parked)
{
	sim_create(RING(2));
	sim_prefix(3800);
	program(0, RECORD(16), RECORD(500), END);
	program(1, RECORD(3990), RECORD(3990), RECORD(3990));
	sim.producers[1].ops[3] = RECORD(3990);
	sim.mortal = 1;
	sim.deaths = 1;
	explore_passed = count_given_up;
	sim_explore(1);
}

TEST(a_producer_dies_at_any_access_of_the_parking_while_another_repairs)
{
	sim_create(RING(2));
	sim_prefix(3800);
	program(0, RECORD(16), END, END);
	program(1, RECORD(3990), RECORD(3990), END);
	program(2, REPAIR, END, END);
	sim.mortal = 1;
	sim.deaths = 1;
	explore_passed = count_given_up;
	sim_explore(1);
}

TEST(a_repair_at_any_access_of_those_who_park)
{
	sim_create(RING(2));
	sim_prefix(3800);
	program(0, RECORD(16), RECORD(500), END);
	program(1, RECORD(3990), RECORD(3990), RECORD(3990));
	program(2, REPAIR, REPAIR, END);
	sim.suffice = 1;
	sim_explore(2);
}

TEST(a_signal_at_any_access_of_who_is_parked)
{
	sim_create(RING(4));
	sim_prefix(100);
	program(0, RECORD(16), END, END);
	program(1, RECORD(3990), RECORD(3990), RECORD(3990));
	sim.signals = 1;
	sim.signal_op = RECORD(3990);
	sim.unordered = 1;
	sim.suffice = 1;
	sim_explore(1);
}

static void
random_parking(int mortal)
{
	sim_mortals = mortal;
	explore_passed = count_given_up;
	for (struct runs r = runs(3); next_run(&r);) {
		if (r.n % 200 == 0 || !sim.ch) {
			rnd_seed(UINT64_C(1) << 40 | r.n / 200);
			if (sim.ch)
				sim_destroy();
			sim_create(CONFIG(.mode = RINGBUF_OVERWRITE, .n_subbufs = 2, .n_spares = (uint32_t)rnd_below(7),
					  .start_pos = POS_END - 8192));
			for (uint64_t i = rnd_below(6); i; i--)
				sim_prefix(random_size());
			sim_save();
			rnd_seed(r.n);
		}
		random_programs();
		explore_state.n_cpus = 1;
		explore_state.switch_odds = 1u << (4 + rnd_below(5)); /* long pauses */
		explore_random(&sim_world);
	}
}

TEST(random_long_pauses) { random_parking(0); }
TEST(random_long_pauses_and_deaths) { random_parking(1); }
