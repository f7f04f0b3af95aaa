/* discard.h: taking reservations back, alone and among others, under schedules and in random order. */
#include "discarding.h"

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
