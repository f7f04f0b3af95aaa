/* discard.h: taking reservations back, alone and among others, under schedules and in random order. */
#include "explore.h"

static struct ringbuf_channel *ch;
static struct ringbuf_stream *s;
static struct reading rd;

static void
setup(const struct ringbuf_config *cfg)
{
	if (ch)
		ringbuf_close(ch);
	ch = create(cfg);
	s = ringbuf_stream_at(ch, 0);
	reading_init(&rd, ch, 0);
}

static uint64_t
advanced(void)
{
	return ringbuf_pos_sub(pos_of(ch, 0), ch->start_pos);
}

static uint64_t
tag(void)
{
	return atomic_load(&s->produced) >> 48;
}

/* The next packet, checked: n records, so many holes, and the content's end. */
static void
expect_packet(uint64_t records, uint64_t holes, uint64_t content_size)
{
	uint64_t r = rd.records, h = rd.holes;

	EQ(ringbuf_get_next_subbuf(&rd.reader), 0);
	EQ(rd.reader.packet.content_size, content_size);
	check_packet(&rd);
	EQ(rd.records - r, records);
	EQ(rd.holes - h, holes);
	ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_READ);
}

/* The slot is clean: no bit of its filler map is left for the next pass. */
static void
check_map_clear(void)
{
	for (uint64_t slot = 0; slot < ringbuf_n_subbufs(&ch->geometry); slot++) {
		uint64_t pos = slot << ch->geometry.subbuf_order;

		EQ(atomic_load(&ringbuf_slot_at(ch, s, pos)->fillers), 0);
		for (uint64_t i = 0; i < ringbuf_filler_map_words(&ch->geometry); i++)
			EQ(atomic_load(&ringbuf_filler_map(ch, s, pos)[i]), 0);
	}
}

#define FOR_BOTH_HEADERS(header) for (uint32_t header = RINGBUF_COMPACT; header <= RINGBUF_LARGE; header++)
#define HEADER_SIZE(header) ((header) == RINGBUF_COMPACT ? 4u : 6u)

TEST(the_last_record_is_rolled_back_without_a_trace)
{
	FOR_BOTH_HEADERS (header) {
		struct ringbuf_reservation r;
		uint64_t before, t;

		setup(CONFIG(.header = header, .start_pos = POS_END - 4 * 4096));
		EQ(record(ch, 16, 0), 0);
		before = pos_of(ch, 0);
		t = tag();
		EQ(reserve(ch, &r, 100, 1), 0);
		EQ(tag(), t);
		ringbuf_discard(ch, &r);
		EQ(pos_of(ch, 0), before);
		EQ(tag(), t + 1);
		EQ(stats_of(ch).discarded, 1);
		EQ(record(ch, 50, 2), 0);
		flush(ch);
		expect_packet(2, 0, 80 + (header == RINGBUF_COMPACT ? 24 + 58 : 26 + 2 + 60));
		CHECK_IDENTITIES(stats_of(ch), 3);
	}
}

TEST(the_only_record_of_a_packet_is_rolled_back)
{
	struct ringbuf_reservation r;

	setup(CONFIG());
	EQ(reserve(ch, &r, 100, 0), 0);
	ringbuf_discard(ch, &r);
	EQ(advanced(), 80); /* the packet stays begun */
	EQ(record(ch, 30, 1), 0);
	flush(ch);
	expect_packet(1, 0, 80 + 38);
}

TEST(many_roll_backs_change_the_tag_each_time)
{
	setup(CONFIG());
	EQ(record(ch, 16, 0), 0);
	for (uint64_t i = 0; i < 70000; i++) {
		struct ringbuf_reservation r;

		EQ(tag(), i & 0xffff);
		EQ(reserve(ch, &r, 16, i), 0);
		ringbuf_discard(ch, &r);
	}
	flush(ch);
	expect_packet(1, 0, 80 + 24);
	CHECK_IDENTITIES(stats_of(ch), 70001);
}

TEST(a_record_in_the_middle_becomes_a_hole)
{
	FOR_BOTH_HEADERS (header) {
		for (uint64_t size = 16; size < 40; size++) {
			struct ringbuf_reservation r;
			uint64_t end;

			setup(CONFIG(.header = header));
			EQ(record(ch, 17, 0), 0);
			EQ(reserve(ch, &r, size, 1), 0);
			EQ(record(ch, 18, 2), 0);
			ringbuf_discard(ch, &r);
			end = advanced();
			flush(ch);
			expect_packet(2, 1, end);
			check_map_clear();
			CHECK_IDENTITIES(stats_of(ch), 3);
		}
	}
}

TEST(the_first_record_of_a_packet_becomes_a_hole)
{
	FOR_BOTH_HEADERS (header) {
		struct ringbuf_reservation r;
		uint64_t end;

		setup(CONFIG(.header = header));
		EQ(reserve(ch, &r, 33, 0), 0);
		EQ(record(ch, 18, 1), 0);
		ringbuf_discard(ch, &r);
		end = advanced();
		flush(ch);
		expect_packet(1, 1, end);
	}
}

TEST(the_smallest_record_leaves_room_for_a_hole)
{
	FOR_BOTH_HEADERS (header) {
		struct ringbuf_reservation r[3];

		setup(CONFIG(.header = header));
		for (int i = 0; i < 3; i++) {
			r[i] = (struct ringbuf_reservation){.event_id = 1};
			EQ(ringbuf_reserve(ch, &r[i]), 0);
			EQ(r[i].size - r[i].pre_padding, HEADER_SIZE(header));
		}
		EQ(record(ch, 16, 9), 0);
		for (int i = 0; i < 3; i++)
			ringbuf_discard(ch, &r[i]);
		flush(ch);
		EQ(ringbuf_get_next_subbuf(&rd.reader), 0);
		check_packet(&rd);
		EQ(rd.records, 1);
		EQ(rd.holes, 1);
		ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_READ);
	}
}

TEST(holes_that_touch_are_joined_in_whatever_order_they_are_made)
{
	static const int orders[][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};

	FOR_BOTH_HEADERS (header) {
		for (unsigned int o = 0; o < ARRAY_SIZE(orders); o++) {
			struct ringbuf_reservation r[3];
			uint64_t end;

			setup(CONFIG(.header = header));
			EQ(record(ch, 19, 0), 0);
			for (uint64_t i = 0; i < 3; i++)
				EQ(reserve(ch, &r[i], 21 + i, i + 1), 0);
			EQ(record(ch, 16, 4), 0);
			for (int i = 0; i < 3; i++)
				ringbuf_discard(ch, &r[orders[o][i]]);
			end = advanced();
			flush(ch);
			expect_packet(2, 1, end);
		}
	}
}

TEST(holes_with_a_record_between_them_are_two)
{
	struct ringbuf_reservation r[3];

	setup(CONFIG());
	for (uint64_t i = 0; i < 3; i++)
		EQ(reserve(ch, &r[i], 21, i), 0);
	EQ(record(ch, 16, 4), 0);
	ringbuf_discard(ch, &r[0]);
	ringbuf_commit(ch, &r[1]);
	ringbuf_discard(ch, &r[2]);
	flush(ch);
	EQ(ringbuf_get_next_subbuf(&rd.reader), 0);
	check_packet(&rd);
	EQ(rd.records, 2);
	EQ(rd.holes, 2);
	ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_READ);
}

/* Content ends after the last record, before the padding of the discarded one. */
TEST(a_hole_at_the_end_of_the_packet_is_left_out_of_its_content)
{
	FOR_BOTH_HEADERS (header) {
		for (uint64_t size = 16; size < 24; size++) {
			struct ringbuf_reservation r, next;
			uint64_t end;

			setup(CONFIG(.header = header));
			EQ(record(ch, size, 0), 0);
			end = advanced();
			EQ(reserve(ch, &r, 100, 1), 0);
			EQ(reserve(ch, &next, 4000, 2), 0); /* closes the packet */
			ringbuf_discard(ch, &r);
			expect_packet(1, 0, end);
			ringbuf_commit(ch, &next);
			flush(ch);
			EQ(read_all(&rd), 1);
			check_map_clear();
			CHECK_IDENTITIES(stats_of(ch), 3);
		}
	}
}

TEST(joined_holes_at_the_end_are_all_left_out)
{
	FOR_BOTH_HEADERS (header) {
		struct ringbuf_reservation r[3];
		uint64_t end;

		setup(CONFIG(.header = header));
		EQ(record(ch, 17, 0), 0);
		end = advanced();
		for (uint64_t i = 0; i < 3; i++)
			EQ(reserve(ch, &r[i], 21 + i, i + 1), 0);
		flush(ch);
		for (int i = 0; i < 3; i++)
			ringbuf_discard(ch, &r[i]);
		expect_packet(1, 0, end);
	}
}

TEST(a_discarded_record_that_ended_its_sub_buffer_is_left_out)
{
	struct ringbuf_reservation r;

	setup(CONFIG());
	EQ(record(ch, 1000, 0), 0);
	EQ(reserve(ch, &r, payload_max(ch) - 1008, 1), 0);
	EQ(advanced(), 4096);
	ringbuf_discard(ch, &r); /* not rolled back: others may rely on the closing */
	EQ(advanced(), 4096);
	expect_packet(1, 0, 80 + 1008);
	CHECK_IDENTITIES(stats_of(ch), 2);
}

TEST(a_packet_of_which_all_was_discarded_has_a_header_only)
{
	FOR_BOTH_HEADERS (header) {
		struct ringbuf_reservation r[3];

		setup(CONFIG(.header = header));
		for (uint64_t i = 0; i < 3; i++)
			EQ(reserve(ch, &r[i], 21 + i, i), 0);
		flush(ch);
		for (int i = 0; i < 3; i++)
			ringbuf_discard(ch, &r[i]);
		expect_packet(0, 0, 80);
		CHECK_IDENTITIES(stats_of(ch), 3);
		EQ(reserve(ch, &r[0], payload_max(ch) - (header == RINGBUF_LARGE ? 2 : 0), 3), 0); /* alone, and all of it */
		ringbuf_discard(ch, &r[0]);
		expect_packet(0, 0, 80);
	}
}

TEST(a_hole_as_long_as_a_sub_buffer_can_have)
{
	struct ringbuf_reservation r;
	struct walker w;
	struct record rec;

	setup(CONFIG(.subbuf_size = 32 * MIB, .n_subbufs = 2));
	EQ(reserve(ch, &r, 32 * MIB - 80 - 8 - 8, 0), 0);
	EQ(ringbuf_subbuf_off(&ch->geometry, r.word), 32 * MIB - 8);
	{
		struct ringbuf_reservation tail = {.event_id = 2, .payload_size = 4};

		EQ(ringbuf_reserve(ch, &tail), 0);
		memcpy(tail.payload, "tail", 4);
		ringbuf_commit(ch, &tail);
	}
	ringbuf_discard(ch, &r);
	EQ(ringbuf_get_next_subbuf(&rd.reader), 0);
	EQ(rd.reader.packet.content_size, 32 * MIB);
	walk_begin(&w, ch, &rd.reader.packet);
	w.off = 80;
	EQ(get_le(rd.reader.packet.data + 80, 4) & 31, 30);
	EQ(get_le(rd.reader.packet.data + 80, 4) >> 5, 32 * MIB - 80 - 8 - 4);
	EQ(walk_header(&w, &rec), -1);
	EQ(walk_header(&w, &rec), 2);
	OK(!memcmp(rd.reader.packet.data + w.off, "tail", 4));
	ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_READ);
}

TEST(nested_records_discarded_inside_out_are_all_rolled_back_but_the_last)
{
	struct ringbuf_reservation r[4];

	setup(CONFIG());
	EQ(record(ch, 16, 0), 0);
	for (uint64_t i = 0; i < 4; i++)
		EQ(reserve(ch, &r[i], 16, i), 0);
	ringbuf_discard(ch, &r[3]);
	EQ(advanced(), 80 + 4 * 24);
	/* its neighbour's claim is older than that roll-back: a hole, though nothing follows */
	ringbuf_discard(ch, &r[2]);
	EQ(advanced(), 80 + 4 * 24);
	ringbuf_discard(ch, &r[1]);
	ringbuf_discard(ch, &r[0]);
	flush(ch);
	expect_packet(1, 0, 80 + 24);
	CHECK_IDENTITIES(stats_of(ch), 5);
}

TEST(slots_are_clean_for_the_next_pass)
{
	setup(CONFIG(.n_subbufs = 2, .mode = RINGBUF_OVERWRITE, .start_pos = POS_END - 2 * 4096));
	for (uint64_t i = 0; i < 20; i++) {
		struct ringbuf_reservation r;

		EQ(reserve(ch, &r, 100 + i % 5, i), 0);
		EQ(record(ch, 16, i), 0);
		ringbuf_discard(ch, &r);
		flush(ch);
		check_map_clear();
		if (i % 3 == 0)
			read_all(&rd);
	}
	CHECK_IDENTITIES(stats_of(ch), 40);
}

/* ---- clients of their own format ---- */

static size_t
plain_header_size(const struct ringbuf_channel *c, size_t offset, size_t *pre_padding,
		  const struct ringbuf_reservation *r)
{
	(void)c, (void)offset, (void)r;
	*pre_padding = 1;
	return 3;
}

static void
plain_header(const struct ringbuf_channel *c, uint8_t *header, const struct ringbuf_reservation *r)
{
	(void)c, (void)r;
	memset(header, 'h', 3);
}

static void
plain_filler(const struct ringbuf_channel *c, uint8_t *at, size_t size)
{
	(void)c;
	memset(at, 'f', size);
}

TEST(a_client_with_its_own_format_writes_its_own_filler)
{
	static struct ringbuf_client client = {.record_header_size = plain_header_size,
					       .write_record_header = plain_header};

	for (int i = 0; i < 2; i++) {
		struct ringbuf_reservation a = {.payload_size = 10}, b = {.payload_size = 2};
		const char *expected = i ? "\0\0\0hhhb" : "\0fffffffffffff\0hhhbb";

		client.write_filler = i ? NULL : plain_filler;
		setup(CONFIG(.client = &client));
		EQ(ringbuf_reserve(ch, &a), 0);
		EQ(a.size, 14);
		memset(a.payload, 'a', 10);
		EQ(ringbuf_reserve(ch, &b), 0);
		memset(b.payload, 'b', 2);
		ringbuf_commit(ch, &b);
		ringbuf_discard(ch, &a);
		flush(ch);
		EQ(ringbuf_get_next_subbuf(&rd.reader), 0);
		EQ(rd.reader.packet.content_size, 80 + 14 + 6);
		if (i)
			for (int j = 1; j < 14; j++)
				EQ(rd.reader.packet.data[80 + j], 0);
		else
			OK(!memcmp(rd.reader.packet.data + 80, expected, 20));
		ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_BACK);
	}
}

/* ---- forced schedules ---- */

static void
discard_it(void *r)
{
	ringbuf_discard(ch, r);
}

static void
record_it(void *size)
{
	EQ(record(ch, (uintptr_t)size, 5), 0);
}

TEST(a_record_between_the_intent_and_the_roll_back_makes_it_a_hole)
{
	static struct actor a;
	struct ringbuf_reservation r;

	setup(CONFIG());
	EQ(record(ch, 16, 0), 0);
	EQ(reserve(ch, &r, 100, 1), 0);
	actor_init(&a, discard_it, &r);
	run_until(&a, "discard_undoing");
	EQ(record(ch, 16, 2), 0);
	run_until(&a, "discard_before_filler");
	flush(ch);
	EQ(ringbuf_get_next_subbuf(&rd.reader), -EAGAIN);
	run(&a);
	expect_packet(2, 1, 80 + 24 + 108 + 24);
	CHECK_IDENTITIES(stats_of(ch), 3);
}

/* A claim planned before a roll-back must not win after it: its time is older than that of the
 * records that have taken the place since. */
TEST(a_claim_from_before_a_roll_back_fails)
{
	static struct actor a;
	struct ringbuf_reservation r;

	setup(CONFIG());
	EQ(record(ch, 16, 0), 0);
	EQ(reserve(ch, &r, 100, 1), 0);
	actor_init(&a, record_it, (void *)16);
	run_until(&a, "ledger_claimed"); /* has its time, and a place after r */
	ringbuf_discard(ch, &r);
	EQ(record(ch, 100, 2), 0); /* the same bytes as r: the position is the same again */
	run(&a);
	flush(ch);
	expect_packet(3, 0, 80 + 24 + 108 + 24);
}

TEST(a_flush_between_the_intent_and_the_roll_back_cuts_the_hole_off)
{
	static struct actor a;
	struct ringbuf_reservation r;

	setup(CONFIG());
	EQ(record(ch, 16, 0), 0);
	EQ(reserve(ch, &r, 100, 1), 0);
	actor_init(&a, discard_it, &r);
	run_until(&a, "discard_undoing");
	flush(ch);
	run(&a);
	expect_packet(1, 0, 80 + 24);
}

TEST(after_a_roll_back_the_bytes_are_the_next_owners)
{
	static struct actor a;
	struct ringbuf_reservation r;

	setup(CONFIG());
	EQ(reserve(ch, &r, 100, 1), 0);
	actor_init(&a, discard_it, &r);
	run_until(&a, "discarded");
	EQ(record(ch, 200, 2), 0);
	flush(ch);
	run(&a);
	expect_packet(1, 0, 80 + 208);
	CHECK_IDENTITIES(stats_of(ch), 2);
}

/* A deliverer that dies after any of the steps of settling: another does all of it again. */
static void
settle_again(const char *point, uint32_t header, int hole_at_end)
{
	static struct actor a;
	struct ringbuf_reservation r[5];
	uint64_t end = 0, committed;
	struct ringbuf_slot *slot;

	setup(CONFIG(.header = header));
	EQ(record(ch, 17, 0), 0);
	for (uint64_t i = 0; i < 4; i++)
		EQ(reserve(ch, &r[i], 21 + i, i + 1), 0);
	ringbuf_discard(ch, &r[0]);
	ringbuf_discard(ch, &r[1]);
	ringbuf_commit(ch, &r[2]);
	end = ringbuf_pos_add(r[2].pos, r[2].size);
	EQ(reserve(ch, &r[4], 25, 5), 0);
	if (!hole_at_end) {
		end = advanced();
		ringbuf_commit(ch, &r[4]);
	} else {
		ringbuf_discard(ch, &r[4]); /* rolled back */
		EQ(reserve(ch, &r[4], 25, 5), 0);
	}
	flush(ch);
	if (hole_at_end)
		ringbuf_discard(ch, &r[4]);
	actor_init(&a, discard_it, &r[3]);
	run_until(&a, point);
	EQ(ringbuf_get_next_subbuf(&rd.reader), -EAGAIN);
	/* the dead one's slot and entry are a repairer's; here only the delivery is made good */
	slot = ringbuf_slot_at(ch, s, 0);
	committed = atomic_load(&slot->committed);
	EQ((uint32_t)committed, 4096);
	ringbuf_deliver(ch, s, 0, 0, committed);
	expect_packet(hole_at_end ? 2 : 3, hole_at_end ? 1 : 2, end);
	check_map_clear();
}

TEST(settling_can_be_done_again_after_each_of_its_steps)
{
	const char *points[] = {"commit_counted", "settle_cut", "settle_joined", "deliver_before_end",
				"deliver_before_publish"};

	FOR_BOTH_HEADERS (header)
		for (unsigned int i = 0; i < ARRAY_SIZE(points); i++)
			for (int hole_at_end = 0; hole_at_end < 2; hole_at_end++)
				settle_again(points[i], header, hole_at_end);
}

/* ---- random ---- */

struct shot {
	struct ringbuf_reservation r;
	int open, fate; /* 1 committed, 2 discarded */
	uint64_t time;
};

static struct shot shots[400];
static uint64_t expected_at;

static void
expect_record(const struct record *rec, void *arg)
{
	uint64_t n = *(uint64_t *)arg;

	while (expected_at < n && shots[expected_at].fate != 1)
		expected_at++;
	LT(expected_at, n);
	EQ(rec->stamp.seq, expected_at);
	EQ(rec->time, shots[expected_at].time);
	expected_at++;
}

/* Records that overlap, committed and discarded in any order: what is read is what was committed. */
/* Every bit of the map is set: holes that nobody put, in the middle of what was committed. */
TEST(a_scribbled_filler_map_changes_no_record)
{
	FOR_BOTH_HEADERS (header) {
		struct ringbuf_reservation r, last;

		setup(CONFIG(.header = header));
		EQ(record(ch, 16, 0), 0);
		EQ(reserve(ch, &r, 50, 1), 0);
		for (int n = 1; n < 40; n++)
			EQ(record(ch, 20 + 17 * n % 40, n), 0);
		EQ(reserve(ch, &last, 20, 40), 0);
		ringbuf_discard(ch, &r);
		for (uint64_t i = 0; i < ringbuf_filler_map_words(&ch->geometry); i++)
			atomic_store(&ringbuf_filler_map(ch, s, last.pos)[i], UINT64_MAX);
		ringbuf_commit(ch, &last);
		flush(ch);
		EQ(ringbuf_get_next_subbuf(&rd.reader), 0);
		check_packet(&rd);
		EQ(rd.records, 41);
		EQ(rd.holes, 1);
		ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_READ);
		check_map_clear();
	}
}

TEST(random_reserves_commits_and_discards_leave_exactly_the_committed)
{
	uint64_t starts[] = {0, POS_END - 4 * 4096};

	for (struct runs run = runs(0.5); next_run(&run);) {
		uint64_t n = 0, total = 1 + rnd_below(ARRAY_SIZE(shots)), open[4], n_open = 0, read_n;
		uint32_t header = (uint32_t)rnd_below(2);

		setup(CONFIG(.header = header, .n_subbufs = 1u << (5 + rnd_below(2)),
			     .start_pos = rnd_below(2) ? 0 : starts[1] & ~(UINT64_C(64) * 4096 - 1)));
		memset(shots, 0, sizeof(shots));
		expected_at = 0;
		read_n = 0;
		rd.each = expect_record;
		rd.arg = &read_n;
		while (n < total || n_open) {
			uint64_t which = rnd_below(4);

			if (n < total && n_open < 4 && (which < 2 || !n_open)) {
				uint64_t size = rnd_below(10) ? 16 + rnd_below(100) : 16 + rnd_below(1000);

				EQ(reserve(ch, &shots[n].r, size, n), 0);
				shots[n].time = shots[n].r.timestamp;
				open[n_open++] = n++;
			} else if (n_open) {
				uint64_t at = rnd_below(2) ? n_open - 1 : rnd_below(n_open);
				struct shot *shot = &shots[open[at]];

				shot->fate = rnd_below(2) ? 1 : 2;
				if (shot->fate == 1)
					ringbuf_commit(ch, &shot->r);
				else
					ringbuf_discard(ch, &shot->r);
				memmove(&open[at], &open[at + 1], (--n_open - at) * sizeof(open[0]));
			}
			if (n_open < 4 && !rnd_below(20)) {
				flush(ch);
				read_n = n;
				read_all(&rd);
			}
		}
		flush(ch);
		read_n = n;
		read_all(&rd);
		while (expected_at < n && shots[expected_at].fate != 1)
			expected_at++;
		EQ(expected_at, n);
		check_map_clear();
		CHECK_IDENTITIES(stats_of(ch), n);
	}
}
