/* holes.h: fillers are joined, and left out at the end of a packet. */
#include "discarding.h"

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

static void
discard_it(void *r)
{
	ringbuf_discard(ch, r);
}

/* A deliverer that dies after any of the steps of settling: another does all of it again. */
static void
settle_again(const char *point, uint32_t header, int hole_at_end)
{
	static struct actor a;
	struct ringbuf_reservation r[5];
	uint64_t end = 0, committed;
	struct ringbuf_subbuf *sb;

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
	sb = subbuf_of(ch, 0);
	committed = atomic_load(&sb->committed);
	EQ((uint32_t)committed, 4096);
	ringbuf_deliver(ch, s, 0, sb, 0, committed);
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
			atomic_store(&ringbuf_filler_map(ch, s, ringbuf_subbuf_idx(ch, s, last.subbuf))[i], UINT64_MAX);
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
