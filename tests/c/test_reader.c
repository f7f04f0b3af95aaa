/* reader.h: holding packets and giving them back, lapped or not, alive or dead. */
#include "explore.h"

static struct ringbuf_channel *ch;
static struct ringbuf_stream *s;
static struct reading rd;
static uint64_t n_recorded;

static void
setup(const struct ringbuf_config *cfg)
{
	if (ch)
		ringbuf_close(ch);
	ch = create(cfg);
	s = ringbuf_stream_at(ch, 0);
	reading_init(&rd, ch, 0);
	n_recorded = 0;
}

static uint64_t
at(uint64_t subbufs)
{
	return ringbuf_pos_add(ch->start_pos, subbufs * 4096);
}

/* Packets of two records each. */
static void
fill(unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		EQ(record(ch, 1000, n_recorded++), 0);
		EQ(record(ch, payload_max(ch) - 1008, n_recorded++), 0);
	}
}

static int
get(uint64_t pos)
{
	return ringbuf_get_subbuf(&rd.reader, pos);
}

static int
get_next(void)
{
	return ringbuf_get_next_subbuf(&rd.reader);
}

static void
put(enum ringbuf_put how)
{
	ringbuf_put_subbuf(&rd.reader, how);
}

static uint64_t
first_seq_held(void)
{
	struct walker w;
	struct record rec;

	walk_begin(&w, ch, &rd.reader.packet);
	OK(walk_next(&w, &rec));
	check_stamp(&rec);
	return rec.stamp.seq;
}

/* ---- which packet can be had ---- */

TEST(a_position_in_the_ring_is_held_and_others_are_refused_with_a_reason)
{
	uint64_t starts[] = {0, POS_END - 4 * 4096, POS_END / 2 - 4 * 4096};

	for (unsigned int i = 0; i < ARRAY_SIZE(starts); i++) {
		setup(CONFIG(.mode = RINGBUF_OVERWRITE, .start_pos = starts[i]));
		EQ(get(at(0)), -EAGAIN); /* nothing there yet */
		EQ(get_next(), -EAGAIN);
		fill(6);
		EQ(record(ch, 16, n_recorded++), 0);
		EQ(get(at(0)), -ESTALE);
		EQ(get(at(1)), -ESTALE);
		EQ(get(at(2)), -ESTALE); /* being reused */
		EQ(get(at(6)), -EAGAIN); /* open */
		EQ(get(at(7)), -EINVAL);
		EQ(get(at(100)), -EINVAL);
		EQ(get(at(3) + 1), -EINVAL);
		EQ(get(at(3) + 2048), -EINVAL);
		EQ(get(POS_END + at(3)), -EINVAL);
		for (uint64_t n = 3; n < 6; n++) {
			EQ(get(at(n)), 0);
			EQ(rd.reader.packet.pos, at(n));
			EQ(rd.reader.packet.sequence_number, n);
			EQ(rd.reader.packet.records, 2);
			EQ(first_seq_held(), 2 * n);
			EQ(get(at(n)), -EBUSY);
			EQ(get_next(), -EBUSY);
			put(RINGBUF_PUT_BACK);
		}
	}
}

TEST(what_lies_before_the_beginning_is_no_packet)
{
	uint64_t starts[] = {0, 4 * 4096 * 10, POS_END - 4 * 4096};

	for (unsigned int i = 0; i < ARRAY_SIZE(starts); i++)
		for (uint32_t mode = RINGBUF_DISCARD; mode <= RINGBUF_OVERWRITE; mode++) {
			setup(CONFIG(.mode = mode, .start_pos = starts[i]));
			for (uint64_t n = 1; n <= 8; n++)
				NE(get(ringbuf_pos_sub(at(0), n * 4096)), 0);
			fill(1);
			for (uint64_t n = 1; n <= 8; n++)
				NE(get(ringbuf_pos_sub(at(0), n * 4096)), 0);
		}
}

/* Positions that a multiple of some counter's range away look like one in the ring. */
TEST(a_position_a_whole_range_of_counters_away_is_refused)
{
	setup(CONFIG(.mode = RINGBUF_OVERWRITE, .n_subbufs = 2));
	fill(3);
	for (unsigned int bit = 14; bit < 48; bit++)
		for (uint64_t n = 1; n < 3; n++) {
			int ret = get(at(n) + (UINT64_C(1) << bit));

			CHECK(ret == -EINVAL || ret == -ESTALE || ret == -EAGAIN, "2^%u away: %d", bit, ret);
		}
	CHECK_IDENTITIES(stats_of(ch), 6);
}

TEST(any_position_is_answered_and_nothing_is_counted_twice)
{
	for (struct runs run = runs(0.3); next_run(&run);) {
		uint64_t n = rnd_below(12), consumed;

		setup(CONFIG(.mode = (uint32_t)rnd_below(2), .start_pos = rnd_below(2) ? POS_END - 4 * 4096 : 0));
		for (uint64_t i = 0; i < n; i++)
			fill(ch->mode == RINGBUF_DISCARD && i > 3 ? 0 : 1);
		for (int i = 0; i < 30; i++) {
			uint64_t pos = rnd_below(2) ? at(rnd_below(16) - 8) : rnd();
			int ret = get(pos);

			if (rnd_below(4) == 0)
				pos &= RINGBUF_POS_MASK & ~UINT64_C(4095);
			if (ret == 0) {
				EQ(first_seq_held(), 2 * rd.reader.packet.sequence_number);
				put((enum ringbuf_put)rnd_below(3));
			} else {
				OK(ret == -EINVAL || ret == -ESTALE || ret == -EAGAIN);
			}
		}
		consumed = ringbuf_pos(atomic_load(&s->consumed_pos));
		LE(ringbuf_pos_diff(consumed, pos_of(ch, 0)), 0);
		CHECK_IDENTITIES(stats_of(ch), n_recorded);
		while (get_next() == 0)
			put(RINGBUF_PUT_READ);
		CHECK_IDENTITIES(stats_of(ch), n_recorded);
	}
}

TEST(a_packet_read_out_of_turn_does_not_take_reading_back)
{
	enum ringbuf_put hows[] = {RINGBUF_PUT_READ, RINGBUF_PUT_DROP};

	for (int i = 0; i < 2; i++)
		for (uint32_t mode = RINGBUF_DISCARD; mode <= RINGBUF_OVERWRITE; mode++) {
			setup(CONFIG(.mode = mode));
			fill(3);
			EQ(get(at(1)), 0);
			put(hows[i]);
			EQ(ringbuf_pos(atomic_load(&s->consumed_pos)), at(2));
			EQ(get(at(0)), 0); /* older, and still there */
			put(hows[i]);
			EQ(ringbuf_pos(atomic_load(&s->consumed_pos)), at(2));
			EQ(get_next(), 0);
			EQ(rd.reader.packet.sequence_number, 2);
			put(RINGBUF_PUT_READ);
			CHECK_IDENTITIES(stats_of(ch), 6);
		}
}

TEST(a_packet_that_was_read_or_dropped_cannot_be_had_again)
{
	enum ringbuf_put hows[] = {RINGBUF_PUT_READ, RINGBUF_PUT_DROP};

	for (int i = 0; i < 2; i++)
		for (uint32_t mode = RINGBUF_DISCARD; mode <= RINGBUF_OVERWRITE; mode++) {
			setup(CONFIG(.mode = mode));
			fill(2);
			EQ(get(at(0)), 0);
			put(hows[i]);
			EQ(get(at(0)), -ESTALE);
			EQ(get_next(), 0);
			EQ(rd.reader.packet.sequence_number, 1);
			put(RINGBUF_PUT_BACK);
			CHECK_IDENTITIES(stats_of(ch), 4);
		}
}

/* ---- what each way of giving back counts ---- */

TEST(read_back_and_drop_count_as_they_say)
{
	struct ringbuf_stats st;

	setup(CONFIG());
	fill(3);
	EQ(stats_of(ch).unread, 6);
	EQ(get_next(), 0);
	EQ(stats_of(ch).unread, 6); /* in the reader's hands */
	put(RINGBUF_PUT_BACK);
	EQ(stats_of(ch).unread, 6);
	EQ(atomic_load(&s->consumed_pos), 0);
	EQ(get_next(), 0);
	EQ(rd.reader.packet.sequence_number, 0);
	put(RINGBUF_PUT_READ);
	EQ(atomic_load(&s->consumed_pos), 4096);
	EQ(get_next(), 0);
	put(RINGBUF_PUT_DROP);
	EQ(atomic_load(&s->consumed_pos), 2 * 4096);
	st = stats_of(ch);
	EQ(st.read, 2);
	EQ(st.overrun, 2);
	EQ(st.cleared, 2);
	EQ(st.unread, 2);
	EQ(st.packets_read, 2);
	CHECK_IDENTITIES(st, 6);
}

TEST(packets_given_back_out_of_turn_free_what_is_before_them)
{
	setup(CONFIG());
	fill(4);
	EQ(get(at(2)), 0);
	put(RINGBUF_PUT_READ);
	EQ(atomic_load(&s->consumed_pos), 3 * 4096);
	fill(3); /* the two unread ones before are lapped, and counted */
	EQ(record(ch, 16, n_recorded), -ENOBUFS);
	EQ(stats_of(ch).overrun, 4);
	EQ(read_all(&rd), 4);
	EQ(rd.records, 8);
	CHECK_IDENTITIES(stats_of(ch), 15);
}

TEST(a_snapshot_taken_twice_is_the_same)
{
	uint64_t from, to, n = 0;
	uint8_t first[3][4096];

	for (uint32_t mode = RINGBUF_DISCARD; mode <= RINGBUF_OVERWRITE; mode++) {
		setup(CONFIG(.mode = mode));
		fill(mode == RINGBUF_OVERWRITE ? 8 : 3);
		flush(ch);
		for (int twice = 0; twice < 2; twice++) {
			ringbuf_snapshot_range(&rd.reader, &from, &to);
			EQ(to - from, mode == RINGBUF_OVERWRITE ? 4 * 4096 : 3 * 4096);
			for (n = 0; n < 3; n++) {
				EQ(get(from + n * 4096), 0);
				if (!twice)
					memcpy(first[n], rd.reader.packet.data, 4096);
				OK(!memcmp(first[n], rd.reader.packet.data, 4096));
				put(RINGBUF_PUT_BACK);
			}
		}
		CHECK_IDENTITIES(stats_of(ch), n_recorded);
		EQ(stats_of(ch).packets_read, 0);
	}
}

TEST(an_empty_stream_has_an_empty_snapshot)
{
	uint64_t from, to;

	setup(CONFIG(.start_pos = POS_END - 4 * 4096));
	ringbuf_snapshot_range(&rd.reader, &from, &to);
	EQ(from, to);
	fill(2);
	read_all(&rd);
	ringbuf_snapshot_range(&rd.reader, &from, &to);
	EQ(from, to);
	OK(ringbuf_is_drained(&rd.reader));
	OK(!ringbuf_has_packet(&rd.reader));
	fill(1);
	OK(!ringbuf_is_drained(&rd.reader));
	OK(ringbuf_has_packet(&rd.reader));
}

/* ---- lapped ---- */

TEST(a_held_packet_does_not_change_however_often_it_is_lapped)
{
	uint8_t copy[4096];

	setup(CONFIG(.mode = RINGBUF_OVERWRITE, .start_pos = POS_END - 8 * 4096));
	fill(3);
	EQ(get(at(1)), 0);
	memcpy(copy, rd.reader.packet.data, 4096);
	for (int i = 0; i < 100; i++) {
		fill(1);
		OK(!memcmp(copy, rd.reader.packet.data, 4096));
		CHECK_IDENTITIES(stats_of(ch), n_recorded);
	}
	check_packet(&rd);
	put(RINGBUF_PUT_READ);
	CHECK_IDENTITIES(stats_of(ch), n_recorded);
	EQ(stats_of(ch).read, 2);
	EQ(stats_of(ch).unread, 8);
	EQ(read_all(&rd), 4);
	CHECK_IDENTITIES(stats_of(ch), n_recorded);
}

TEST(a_packet_lapped_while_held_counts_by_how_it_is_given_back)
{
	enum ringbuf_put hows[] = {RINGBUF_PUT_READ, RINGBUF_PUT_BACK, RINGBUF_PUT_DROP};

	for (unsigned int laps = 0; laps <= 9; laps += 3)
		for (int i = 0; i < 3; i++) {
			struct ringbuf_stats st;
			int lapped = laps > 0;

			setup(CONFIG(.mode = RINGBUF_OVERWRITE, .n_subbufs = 2));
			fill(2);
			EQ(get(at(0)), 0);
			fill(laps);
			EQ(stats_of(ch).unread, lapped ? 6 : 4);
			put(hows[i]);
			st = stats_of(ch);
			EQ(st.read, hows[i] == RINGBUF_PUT_READ ? 2 : 0);
			EQ(st.cleared, hows[i] == RINGBUF_PUT_DROP || (hows[i] == RINGBUF_PUT_BACK && lapped) ? 2 : 0);
			EQ(st.unread, lapped || hows[i] == RINGBUF_PUT_BACK ? 4 : 2);
			EQ(atomic_load(&s->spare), lapped || hows[i] != RINGBUF_PUT_BACK ? 1 : 0);
			CHECK_IDENTITIES(st, n_recorded);
			fill(5);
			CHECK_IDENTITIES(stats_of(ch), n_recorded);
			EQ(get_next(), 0);
			put(RINGBUF_PUT_READ);
		}
}

TEST(unread_and_overrun_are_exact_at_every_step)
{
	uint64_t overrun = 0;

	setup(CONFIG(.mode = RINGBUF_OVERWRITE, .start_pos = POS_END - 8 * 4096));
	for (uint64_t i = 0; i < 40; i++) {
		struct ringbuf_stats st;

		EQ(record(ch, 1000, n_recorded++), 0);
		if (i >= 4)
			overrun += 2; /* begun: the oldest is gone */
		st = stats_of(ch);
		EQ(st.overrun, overrun);
		EQ(st.unread, n_recorded - overrun);
		EQ(record(ch, payload_max(ch) - 1008, n_recorded++), 0);
		EQ(stats_of(ch).overrun, overrun);
		CHECK_IDENTITIES(stats_of(ch), n_recorded);
	}
}

static struct actor reader_actor, producer_actor;

static void
get_packet(void *pos)
{
	(void)get(at((uintptr_t)pos));
}

static void
fill_some(void *n)
{
	fill((unsigned int)(uintptr_t)n);
}

TEST(a_reader_that_sampled_and_was_lapped_is_told_so)
{
	const char *points[] = {"reader_sampled", "reader_holding"};

	for (int i = 0; i < 2; i++)
		for (unsigned int laps = 1; laps <= 9; laps++) {
			setup(CONFIG(.mode = RINGBUF_OVERWRITE, .n_subbufs = 2));
			fill(2);
			actor_init(&reader_actor, get_packet, (void *)0);
			run_until(&reader_actor, points[i]);
			fill(laps);
			run(&reader_actor);
			OK(!rd.reader.holding);
			EQ(atomic_load(&s->hold), 0);
			EQ(stats_of(ch).unread, 4);
			CHECK_IDENTITIES(stats_of(ch), n_recorded);
			EQ(read_all(&rd), 2);
		}
}

TEST(a_reader_holds_before_the_one_that_laps_has_entered)
{
	setup(CONFIG(.mode = RINGBUF_OVERWRITE, .n_subbufs = 2));
	fill(2);
	actor_init(&producer_actor, fill_some, (void *)2);
	run_until(&producer_actor, "reserve_claimed_slow");
	EQ(get(at(0)), 0); /* the position has gone past it, nobody is in */
	run(&producer_actor);
	EQ(first_seq_held(), 0);
	put(RINGBUF_PUT_READ);
	EQ(stats_of(ch).overrun, 2);
	CHECK_IDENTITIES(stats_of(ch), 8);
}

static void
put_packet(void *how)
{
	put((enum ringbuf_put)(uintptr_t)how);
}

TEST(a_reader_lapped_at_any_step_of_giving_back_counts_once)
{
	const char *points[] = {"reader_before_account", "reader_accounted", "reader_unholding", "reader_exchanged", "reader_unheld",
				"reader_advanced"};

	for (unsigned int i = 0; i < ARRAY_SIZE(points); i++)
		for (unsigned int laps = 1; laps <= 5; laps++)
			for (uintptr_t how = 0; how < 3; how++) {
				setup(CONFIG(.mode = RINGBUF_OVERWRITE, .n_subbufs = 2));
				fill(2);
				EQ(get(at(0)), 0);
				if (how == RINGBUF_PUT_BACK)
					fill(1); /* else it takes none of these steps */
				actor_init(&reader_actor, put_packet, (void *)how);
				run_until(&reader_actor, points[i]);
				fill(laps);
				run(&reader_actor);
				EQ(stats_of(ch).packets_read, 1);
				CHECK_IDENTITIES(stats_of(ch), n_recorded);
				EQ(read_all(&rd), 2);
				CHECK_IDENTITIES(stats_of(ch), n_recorded);
			}
}

TEST(in_discard_mode_room_appears_when_the_packet_is_given_back_and_not_before)
{
	const char *before[] = {"reader_before_account", "reader_accounted", "reader_unholding", "reader_exchanged", "reader_unheld"};

	for (unsigned int i = 0; i < ARRAY_SIZE(before); i++) {
		setup(CONFIG(.n_subbufs = 2));
		fill(2);
		EQ(get_next(), 0);
		actor_init(&reader_actor, put_packet, (void *)RINGBUF_PUT_READ);
		run_until(&reader_actor, before[i]);
		EQ(record(ch, 16, 99), -ENOBUFS);
		run_until(&reader_actor, "reader_advanced");
		fill(1);
		run(&reader_actor);
		EQ(read_all(&rd), 2);
		CHECK_IDENTITIES(stats_of(ch), n_recorded + 1);
	}
}

/* ---- a reader that dies, and the one that takes over ---- */

enum step { STEP_GET, STEP_PUT };

struct death {
	enum step step;
	const char *point; /* NULL: at the end of it */
	int counted;       /* by then, given that it is put as read */
	int held;
};

static const struct death deaths[] = {
	{STEP_GET, "reader_sampled", 0, 0},   {STEP_GET, "reader_holding", 0, 0},
	{STEP_GET, "reader_held", 0, 1},      {STEP_GET, NULL, 0, 1},
	{STEP_PUT, "reader_before_account", 0, 1}, {STEP_PUT, "reader_accounted", 1, 1},
	{STEP_PUT, "reader_unholding", 1, 1}, {STEP_PUT, "reader_exchanged", 1, 0},
	{STEP_PUT, "reader_unheld", 1, 0},
	{STEP_PUT, "reader_advanced", 1, 0},  {STEP_PUT, NULL, 1, 0},
};

static void
die_at(const struct death *d, enum ringbuf_put how)
{
	actor_init(&reader_actor, get_packet, (void *)0);
	if (d->step == STEP_GET && d->point) {
		run_until(&reader_actor, d->point);
		return;
	}
	run(&reader_actor);
	OK(rd.reader.holding);
	if (d->step == STEP_GET)
		return;
	actor_init(&reader_actor, put_packet, (void *)(uintptr_t)how);
	if (d->point)
		run_until(&reader_actor, d->point);
	else
		run(&reader_actor);
}

static void
take_over(void)
{
	memset(&rd, 0, sizeof(rd));
	ringbuf_stream_reader_init(ch, 0, &rd.reader);
}

TEST(in_discard_mode_nothing_is_lost_by_a_readers_death)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(deaths); i++) {
		const struct death *d = &deaths[i];

		setup(CONFIG(.start_pos = POS_END - 4 * 4096));
		fill(3);
		die_at(d, RINGBUF_PUT_READ);
		take_over();
		EQ(rd.reader.holding, d->held && !d->counted);
		if (rd.reader.holding) {
			EQ(rd.reader.packet.sequence_number, 0);
			EQ(get_next(), -EBUSY);
			check_packet(&rd);
			put(RINGBUF_PUT_READ);
		}
		EQ(atomic_load(&s->hold), 0);
		EQ(read_all(&rd), d->counted || d->held ? 2 : 3);
		EQ(rd.records, d->counted ? 4 : 6);
		EQ(stats_of(ch).read, 6);
		EQ(stats_of(ch).packets_read, 3);
		fill(4); /* all room is back */
		EQ(read_all(&rd), 4);
		CHECK_IDENTITIES(stats_of(ch), n_recorded);
	}
}

/* Lapped before the death, after it, or after the next one took over. */
TEST(in_overwrite_mode_a_readers_death_costs_its_packet_at_most)
{
	enum ringbuf_put hows[] = {RINGBUF_PUT_READ, RINGBUF_PUT_DROP};

	for (unsigned int i = 0; i < ARRAY_SIZE(deaths); i++)
		for (unsigned int laps = 0; laps < 6; laps++)
			for (int again = 0; again < 3; again++)
				for (int h = 0; h < 2; h++) {
					setup(CONFIG(.mode = RINGBUF_OVERWRITE, .n_subbufs = 2));
					fill(2);
					die_at(&deaths[i], hows[h]);
					fill(laps);
					CHECK_IDENTITIES(stats_of(ch), n_recorded);
					for (int n = 0; n < again; n++)
						take_over(); /* and dies at once */
					fill(laps / 2);
					CHECK_IDENTITIES(stats_of(ch), n_recorded);
					take_over();
					if (rd.reader.holding) {
						EQ(first_seq_held(), 0);
						put(RINGBUF_PUT_READ);
					}
					CHECK_IDENTITIES(stats_of(ch), n_recorded);
					fill(3);
					EQ(read_all(&rd), 2);
					CHECK_IDENTITIES(stats_of(ch), n_recorded);
					EQ(stats_of(ch).unread, 0);
				}
}

TEST(a_snapshot_reader_that_dies_changes_nothing)
{
	const char *points[] = {"reader_sampled", "reader_holding", "reader_held", NULL};

	for (uint32_t mode = RINGBUF_DISCARD; mode <= RINGBUF_OVERWRITE; mode++)
		for (unsigned int i = 0; i < ARRAY_SIZE(points); i++) {
			struct death d = {STEP_GET, points[i], 0, 0};

			setup(CONFIG(.mode = mode));
			fill(4);
			die_at(&d, RINGBUF_PUT_BACK);
			take_over();
			if (rd.reader.holding)
				put(RINGBUF_PUT_BACK);
			EQ(stats_of(ch).unread, 8);
			EQ(read_all(&rd), 4);
			EQ(rd.records, 8);
			CHECK_IDENTITIES(stats_of(ch), n_recorded);
		}
}

TEST(a_reader_killed_with_a_packet_in_its_hands_leaves_it_to_the_next)
{
	for (uint32_t mode = RINGBUF_DISCARD; mode <= RINGBUF_OVERWRITE; mode++) {
		int *ready = shared_memory(sizeof(*ready));
		pid_t pid;

		setup(CONFIG(.mode = mode));
		fill(3);
		pid = spawn();
		if (!pid) {
			struct ringbuf_right right;

			EQ(ringbuf_open_reader(ch, 0, 1, &right), 0);
			take_over();
			EQ(get_next(), 0);
			__atomic_store_n(ready, 1, __ATOMIC_RELEASE);
			pause();
		}
		while (!__atomic_load_n(ready, __ATOMIC_ACQUIRE))
			sched_yield();
		OK(!ringbuf_has_no_reader(ch, 0));
		if (mode == RINGBUF_OVERWRITE)
			fill(6);
		kill_child(pid);
		OK(ringbuf_has_no_reader(ch, 0));
		take_over();
		OK(rd.reader.holding);
		EQ(first_seq_held(), 0);
		check_packet(&rd);
		put(RINGBUF_PUT_READ);
		EQ(read_all(&rd), mode == RINGBUF_OVERWRITE ? 4 : 2);
		CHECK_IDENTITIES(stats_of(ch), n_recorded);
	}
}

/* A hold that no reader can have written. */
TEST(a_scribbled_hold_is_taken_over_without_harm)
{
	for (struct runs run = runs(0.2); next_run(&run);) {
		setup(CONFIG(.mode = (uint32_t)rnd_below(2)));
		fill(3);
		atomic_store(&s->hold, rnd());
		atomic_store(&s->hold_pos, rnd());
		atomic_store(&s->hold_seq, rnd_below(2));
		atomic_store(&s->spare, rnd());
		if (rnd_below(2))
			atomic_store(&s->read_seq, rnd());
		take_over();
		if (rd.reader.holding) {
			LE(rd.reader.packet.content_size, 4096);
			OK(rd.reader.packet.data >= ch->base);
			OK(rd.reader.packet.data + 4096 <= ch->base + ch->region_size);
			put((enum ringbuf_put)rnd_below(3));
		}
		while (get_next() == 0) {
			LE(rd.reader.packet.content_size, 4096);
			put(RINGBUF_PUT_READ);
		}
		record(ch, 100, 0);
	}
}

/* ---- scribbles ---- */

/* What a reader does that waits for the end. Returns how many packets it got before there was nothing to wait for. */
static unsigned int
read_to_the_end(void)
{
	struct ringbuf_producer_slot *self = ringbuf_this_producer(ch)->slot;
	unsigned int packets = 0;

	for (unsigned int looks = 0; !ringbuf_is_at_end(&rd.reader, self); looks++) {
		CHECK(looks < 20, "no end after %u packets", packets);
		while (ringbuf_get_next_subbuf(&rd.reader) == 0) {
			packets++;
			put(RINGBUF_PUT_READ);
		}
		ringbuf_repair_next(&rd.reader);
	}
	return packets;
}

/* Four packets; then the word is overwritten, and the channel finalized. */
static unsigned int
packets_after(uint32_t mode, ringbuf_atomic_u64 *(*word)(void), uint64_t value)
{
	setup(CONFIG(.mode = mode, .n_subbufs = 4, .start_pos = 0));
	fill(4);
	ringbuf_store(word(), value, RINGBUF_RELAXED);
	EQ(ringbuf_finalize(ch, ringbuf_this_producer(ch)->slot), 0);
	return read_to_the_end();
}

static ringbuf_atomic_u64 *consumed_pos(void) { return &s->consumed_pos; }
static ringbuf_atomic_u64 *third_count(void) { return &subbuf_of(ch, at(2))->committed; }
static ringbuf_atomic_u64 *third_stage(void) { return &subbuf_of(ch, at(2))->stage; }
static ringbuf_atomic_u64 *third_ref(void) { return &ringbuf_slot_at(ch, s, at(2))->subbuf_ref; }
static ringbuf_atomic_u64 *last_ref(void) { return &ringbuf_slot_at(ch, s, at(3))->subbuf_ref; }

TEST(a_scribbled_word_costs_no_more_than_its_packet_and_the_end_is_reached)
{
	static const uint64_t before = (uint64_t)0x7fffffff << RINGBUF_REF_PASS_SHIFT;

	for (uint32_t mode = RINGBUF_DISCARD; mode <= RINGBUF_OVERWRITE; mode++) {
		EQ(packets_after(mode, consumed_pos, UINT64_C(1) << 40), 4); /* beyond what was produced */
		EQ(packets_after(mode, consumed_pos, UINT64_C(1) << 47 | 5), 4);
		EQ(packets_after(mode, third_count, 12345678), 4); /* of no use once it is delivered */
		EQ(packets_after(mode, third_stage, 0), 4);
		EQ(packets_after(mode, third_stage, ringbuf_stage_word(at(2), RINGBUF_STAGE_FREE, 0)), 3);
		EQ(packets_after(mode, third_stage, ringbuf_stage_word(at(2), RINGBUF_STAGE_PARKED, 0)), 3);
		EQ(packets_after(mode, third_stage, UINT64_MAX), 4); /* not of its packet: repaired */
		EQ(packets_after(mode, third_ref, before | 2), 4); /* on the pass before: entered again, and given up */
		EQ(packets_after(mode, last_ref, before | 3), 4); /* the same */
		EQ(packets_after(mode, last_ref, UINT64_MAX), 4);
	}
}

TEST(a_count_that_cannot_be_is_given_up)
{
	setup(CONFIG(.n_subbufs = 4, .start_pos = 0));
	fill(4);
	ringbuf_store(third_count(), 12345678, RINGBUF_RELAXED);
	ringbuf_store(third_stage(), 0, RINGBUF_RELAXED);
	EQ(ringbuf_finalize(ch, ringbuf_this_producer(ch)->slot), 0);
	EQ(read_to_the_end(), 4);
}

TEST(producers_do_not_repair_a_scribbled_stage_for_ever)
{
	for (uint32_t mode = RINGBUF_DISCARD; mode <= RINGBUF_OVERWRITE; mode++) {
		setup(CONFIG(.mode = mode, .n_subbufs = 4, .start_pos = 0, .n_spares = mode == RINGBUF_OVERWRITE));
		fill(4);
		for (unsigned int i = 0; i < 4 && mode == RINGBUF_DISCARD; i++) {
			EQ(get_next(), 0);
			put(RINGBUF_PUT_READ);
		}
		/* as if the packet in the slot were not complete, and its sub-buffer in use for a later one */
		ringbuf_and(&ringbuf_slot_at(ch, s, at(0))->subbuf_ref, ~(uint64_t)RINGBUF_REF_READ, RINGBUF_RELAXED);
		ringbuf_store(&subbuf_of(ch, at(0))->stage, ringbuf_stage_word(at(20), RINGBUF_STAGE_TAKEN, 0),
			      RINGBUF_RELAXED);
		record(ch, 16, n_recorded++); /* it returns, whatever it says */
	}
}

TEST(a_snapshot_is_not_larger_than_the_ring_whatever_the_words_say)
{
	setup(CONFIG(.n_subbufs = 4));
	fill(3);
	for (struct runs run = runs(0.1); next_run(&run);) {
		uint64_t from, to;

		ringbuf_store(&s->consumed_pos, rnd(), RINGBUF_RELAXED);
		ringbuf_store(&s->produced, rnd(), RINGBUF_RELAXED);
		ringbuf_snapshot_range(&rd.reader, &from, &to);
		GE(ringbuf_pos_diff(to, from), 0);
		LE(ringbuf_pos_diff(to, from), 4 * 4096);
	}
}

/* Whatever stands in the words of the stream. */
TEST(a_scribbled_stream_has_an_end)
{
	for (struct runs run = runs(1); next_run(&run);) {
		setup(CONFIG(.n_subbufs = 4, .mode = rnd_below(2) ? RINGBUF_DISCARD : RINGBUF_OVERWRITE, .n_producers = 4));
		fill(1 + (unsigned int)rnd_below(4));
		for (uint64_t n = 1 + rnd_below(3); n; n--) {
			ringbuf_atomic_u64 *words = (ringbuf_atomic_u64 *)(void *)s;
			uint64_t value = rnd_below(2) ? rnd() : at(rnd_below(9)) + rnd_below(2) * rnd_below(4096);

			ringbuf_store(&words[rnd_below(ch->meta_off / 8)], value, RINGBUF_RELAXED);
		}
		EQ(ringbuf_finalize(ch, ringbuf_this_producer(ch)->slot), 0);
		read_to_the_end();
	}
}
