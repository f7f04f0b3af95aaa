/* reserve.h: every outcome of a reservation, with exact positions, sizes and counters. */
#define HARNESS_HOOKS
#define HARNESS_CLOCK
#include "harness.h"

/* Positions to start from: zero, at the wrap of the position, where the byte half of the
 * commit counters wraps, and where differences of positions change their sign. */
static const uint64_t starts[] = {0, POS_END - 4 * 4096, POS_END - 8 * 4096,
				  ((UINT64_C(1) << 20) - 1) * 4 * 4096, POS_END / 2 - 4 * 4096};

#define FOR_ALL_STARTS(start) for (uint64_t i_ = 0, start; i_ < ARRAY_SIZE(starts) && (start = starts[i_], 1); i_++)

static uint64_t
advanced(const struct ringbuf_channel *ch)
{
	return ringbuf_pos_sub(pos_of(ch, 0), ch->start_pos);
}

/* Records that fill `n` sub-buffers, one each. */
static void
fill(struct ringbuf_channel *ch, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		EQ(record(ch, payload_max(ch), i), 0);
}

TEST(a_record_that_fits_moves_the_position_by_its_size)
{
	FOR_ALL_STARTS (start) {
		struct ringbuf_channel *ch = create(CONFIG(.start_pos = start));
		uint64_t expected = 80;
		struct ringbuf_reservation r;

		for (uint64_t size = 0; size < 40; size++) {
			uint64_t padding = -expected & 3;

			EQ(reserve(ch, &r, size, size), 0);
			EQ(r.size, padding + 8 + size);
			EQ(r.pre_padding, padding);
			EQ(r.header_size, 4);
			EQ(ringbuf_pos_sub(r.pos, ch->start_pos), expected);
			EQ(r.payload - r.data, expected + padding + 8);
			EQ(r.stream_idx, 0);
			expected += r.size;
			EQ(advanced(ch), expected);
			if (size >= sizeof(struct stamp))
				ringbuf_commit(ch, &r);
			else
				ringbuf_discard(ch, &r), expected -= r.size;
		}
		EQ(flush_and_read(ch), 24);
	}
}

TEST(a_record_that_fills_the_sub_buffer_exactly_is_delivered)
{
	FOR_ALL_STARTS (start) {
		struct ringbuf_channel *ch = create(CONFIG(.start_pos = start));
		struct reading rd;

		reading_init(&rd, ch, 0);
		EQ(record(ch, payload_max(ch) - 100 - 8, 0), 0);
		EQ(ringbuf_get_next_subbuf(&rd.reader), -EAGAIN);
		EQ(record(ch, 100, 1), 0);
		EQ(advanced(ch), 4096);
		EQ(ringbuf_get_next_subbuf(&rd.reader), 0);
		EQ(rd.reader.packet.content_size, 4096);
		check_packet(&rd);
		EQ(rd.records, 2);
		ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_READ);
		EQ(ringbuf_get_next_subbuf(&rd.reader), -EAGAIN);
	}
}

TEST(a_record_alone_that_fills_a_fresh_sub_buffer_is_delivered)
{
	FOR_ALL_STARTS (start) {
		struct ringbuf_channel *ch = create(CONFIG(.start_pos = start));
		struct reading rd;

		reading_init(&rd, ch, 0);
		for (uint64_t i = 0; i < 20; i++) {
			fill(ch, 1);
			EQ(advanced(ch), (i + 1) * 4096);
			EQ(read_all(&rd), 1);
			EQ(rd.records, i + 1);
		}
	}
}

TEST(a_record_one_byte_too_long_for_the_rest_goes_to_the_next_sub_buffer)
{
	FOR_ALL_STARTS (start) {
		struct ringbuf_channel *ch = create(CONFIG(.start_pos = start));
		struct reading rd;

		reading_init(&rd, ch, 0);
		EQ(record(ch, payload_max(ch) - 100 - 8, 0), 0);
		EQ(record(ch, 101, 1), 0);
		EQ(advanced(ch), 4096 + 80 + 8 + 101);
		EQ(ringbuf_get_next_subbuf(&rd.reader), 0);
		EQ(rd.reader.packet.content_size, 4096 - 100 - 8);
		EQ(rd.reader.packet.records, 1);
		check_packet(&rd);
		ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_READ);
		flush(ch);
		EQ(read_all(&rd), 1);
		EQ(rd.records, 2);
	}
}

TEST(a_record_that_leaves_less_than_a_header_is_followed_by_padding)
{
	for (uint64_t rest = 1; rest <= 12; rest++) {
		struct ringbuf_channel *ch = create(CONFIG());

		EQ(record(ch, payload_max(ch) - rest, 0), 0);
		EQ(advanced(ch), 4096 - rest);
		EQ(record(ch, 16, 1), 0);
		EQ(advanced(ch), 4096 + 80 + 8 + 16);
		EQ(flush_and_read(ch), 2);
	}
}

TEST(a_record_that_can_never_fit_is_refused_and_moves_nothing)
{
	FOR_ALL_STARTS (start) {
		struct ringbuf_channel *ch = create(CONFIG(.start_pos = start));

		EQ(record(ch, payload_max(ch) + 1, 0), -ENOSPC);
		EQ(record(ch, 4096, 0), -ENOSPC);
		EQ(record(ch, UINT64_MAX, 0), -ENOSPC);
		EQ(record(ch, UINT64_C(1) << 32, 0), -ENOSPC);
		EQ(record_event(ch, 1, 16, 4096, 0, 0), -ENOSPC); /* aligned to where no sub-buffer reaches */
		EQ(record_event(ch, 1, 16, 1u << 31, 0, 0), -ENOSPC);
		EQ(advanced(ch), 0);
		EQ(record(ch, 100, 0), 0);
		EQ(record(ch, payload_max(ch) + 1, 0), -ENOSPC);
		EQ(advanced(ch), 80 + 108);
		EQ(lost(ch, RINGBUF_LOST_BIG), 7);
		EQ(record(ch, payload_max(ch), 1), 0); /* the largest */
		EQ(flush_and_read(ch), 2);
		CHECK_IDENTITIES(stats_of(ch), 9);
	}
}

TEST(context_and_header_count_towards_what_is_too_big)
{
	struct ringbuf_channel *ch = create(CONFIG());
	uint8_t context[100] = {0};
	struct ringbuf_reservation r = {.event_id = 1, .context = context, .context_size = 100,
					.payload_size = 4096 - 80 - 4 - 100 + 1};

	EQ(ringbuf_reserve(ch, &r), -ENOSPC);
	r.payload_size--;
	EQ(ringbuf_reserve(ch, &r), 0);
	EQ(advanced(ch), 4096);
	ringbuf_commit(ch, &r);
	r.event_id = 30; /* an extended header, 13 bytes for 4 */
	EQ(ringbuf_reserve(ch, &r), -ENOSPC);
	r.payload_size -= 9;
	EQ(ringbuf_reserve(ch, &r), 0);
	EQ(advanced(ch), 8192);
	ringbuf_commit(ch, &r);
}

TEST(a_full_ring_refuses_until_the_reader_releases_a_packet)
{
	FOR_ALL_STARTS (start) {
		struct ringbuf_channel *ch = create(CONFIG(.start_pos = start));
		struct reading rd;

		reading_init(&rd, ch, 0);
		fill(ch, 4);
		EQ(record(ch, 16, 4), -ENOBUFS);
		EQ(record(ch, 16, 4), -ENOBUFS);
		EQ(advanced(ch), 4 * 4096);
		EQ(lost(ch, RINGBUF_LOST_FULL), 2);
		EQ(ringbuf_get_next_subbuf(&rd.reader), 0);
		EQ(record(ch, 16, 4), -ENOBUFS); /* held is not released */
		check_packet(&rd);
		ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_READ);
		fill(ch, 1);
		EQ(record(ch, 16, 5), -ENOBUFS);
		EQ(lost(ch, RINGBUF_LOST_FULL), 4);
		read_all(&rd);
		EQ(rd.records, 5);
		EQ(rd.discarded, 3); /* before the last packet was closed */
		CHECK_IDENTITIES(stats_of(ch), 9);
	}
}

TEST(a_full_ring_refuses_a_record_that_does_not_fit_the_rest_but_takes_a_smaller_one)
{
	struct ringbuf_channel *ch = create(CONFIG());

	fill(ch, 3);
	EQ(record(ch, 3000, 3), 0);
	EQ(record(ch, 2000, 4), -ENOBUFS);
	EQ(record(ch, 500, 5), 0);
	EQ(lost(ch, RINGBUF_LOST_FULL), 1);
	EQ(flush_and_read(ch), 5);
}

TEST(a_record_too_big_is_told_so_even_where_the_ring_is_full)
{
	struct ringbuf_channel *ch = create(CONFIG());

	fill(ch, 4);
	EQ(record(ch, 5000, 0), -ENOSPC);
	EQ(lost(ch, RINGBUF_LOST_BIG), 1);
	EQ(lost(ch, RINGBUF_LOST_FULL), 0);
}

TEST(nonblock_says_full_without_counting)
{
	struct ringbuf_channel *ch = create(CONFIG());
	struct ringbuf_reservation r = {.event_id = 1, .payload_size = 16, .flags = RINGBUF_NONBLOCK};

	fill(ch, 4);
	EQ(ringbuf_reserve(ch, &r), -EAGAIN);
	EQ(lost(ch, RINGBUF_LOST_FULL), 0);
	r.payload_size = 5000;
	EQ(ringbuf_reserve(ch, &r), -ENOSPC); /* waiting would not help */
	EQ(lost(ch, RINGBUF_LOST_BIG), 1);
}

TEST(the_ring_coming_round_to_an_open_record_loses_new_ones)
{
	for (uint32_t mode = RINGBUF_DISCARD; mode <= RINGBUF_OVERWRITE; mode++) {
		struct ringbuf_channel *ch = create(CONFIG(.mode = mode, .start_pos = POS_END - 4 * 4096));
		struct ringbuf_reservation open;
		struct reading rd;
		uint64_t n = 1;

		reading_init(&rd, ch, 0);
		EQ(reserve(ch, &open, 16, 0), 0);
		for (; advanced(ch) < 4 * 4096; n++)
			EQ(record(ch, payload_max(ch) - (n == 1 ? 24 : 0), n), 0);
		EQ(record(ch, 16, n), -EIO);
		EQ(record(ch, 16, n), -EIO);
		EQ(lost(ch, RINGBUF_LOST_WRAP), 2);
		EQ(advanced(ch), 4 * 4096);
		EQ(ringbuf_get_next_subbuf(&rd.reader), -EAGAIN);
		ringbuf_commit(ch, &open); /* and all is well */
		EQ(read_all(&rd), 4);
		EQ(record(ch, 16, n + 1), 0);
		flush(ch);
		read_all(&rd);
		EQ(rd.records, n + 1);
		CHECK_IDENTITIES(stats_of(ch), n + 3);
	}
}

TEST(overwrite_mode_never_refuses_for_want_of_room)
{
	FOR_ALL_STARTS (start) {
		struct ringbuf_channel *ch = create(CONFIG(.mode = RINGBUF_OVERWRITE, .start_pos = start));
		struct ringbuf_stats st;

		fill(ch, 50);
		st = stats_of(ch);
		EQ(st.written, 50);
		EQ(st.overrun, 46);
		EQ(st.unread, 4);
		CHECK_IDENTITIES(st, 50);
		EQ(flush_and_read(ch), 4);
		CHECK_IDENTITIES(stats_of(ch), 50);
	}
}

TEST(a_fifth_level_of_nesting_is_lost_and_counted)
{
	struct ringbuf_channel *ch = create(CONFIG());
	struct ringbuf_reservation r[5];

	for (unsigned int i = 0; i < 4; i++)
		EQ(reserve(ch, &r[i], 16, i), 0);
	EQ(reserve(ch, &r[4], 16, 4), -EPERM);
	EQ(reserve(ch, &r[4], 5000, 4), -EPERM);
	EQ(lost(ch, RINGBUF_LOST_NESTING), 2);
	EQ(lost(ch, RINGBUF_LOST_BIG), 0);
	for (int i = 3; i >= 0; i--)
		ringbuf_commit(ch, &r[i]);
	EQ(record(ch, 16, 5), 0);
	EQ(flush_and_read(ch), 5);
	CHECK_IDENTITIES(stats_of(ch), 7);
}

TEST(a_disabled_channel_refuses_and_counts_in_the_producers_slot)
{
	struct ringbuf_channel *ch = create(CONFIG());

	EQ(record(ch, 16, 0), 0);
	ringbuf_set_state(ch, RINGBUF_STATE_DISABLED, 1);
	for (int i = 0; i < 3; i++)
		EQ(record(ch, 16, 1), -ESHUTDOWN);
	EQ(record(ch, 5000, 1), -ESHUTDOWN);
	EQ(atomic_load(&my_slot(ch)->lost_disabled), 4);
	ringbuf_set_state(ch, RINGBUF_STATE_DISABLED, 0);
	EQ(record(ch, 16, 1), 0);
	EQ(lost(ch, RINGBUF_LOST_DISABLED), 4);
	EQ(flush_and_read(ch), 2);
	CHECK_IDENTITIES(stats_of(ch), 6);
}

TEST(a_finalized_channel_refuses_for_good)
{
	struct ringbuf_channel *ch = create(CONFIG());

	EQ(record(ch, 16, 0), 0);
	finalize(ch);
	EQ(record(ch, 16, 1), -ESHUTDOWN);
	ringbuf_set_state(ch, RINGBUF_STATE_DISABLED, 0);
	EQ(record(ch, 16, 1), -ESHUTDOWN);
	EQ(lost(ch, RINGBUF_LOST_DISABLED), 2);
	EQ(flush_and_read(ch), 1);
	CHECK_IDENTITIES(stats_of(ch), 3);
}

TEST(losses_of_the_disabled_do_not_count_as_missing_from_the_trace)
{
	struct ringbuf_channel *ch = create(CONFIG());
	struct reading rd;

	EQ(record(ch, 5000, 0), -ENOSPC);
	ringbuf_set_state(ch, RINGBUF_STATE_DISABLED, 1);
	EQ(record(ch, 16, 0), -ESHUTDOWN);
	ringbuf_set_state(ch, RINGBUF_STATE_DISABLED, 0);
	EQ(record(ch, 16, 0), 0);
	flush(ch);
	reading_init(&rd, ch, 0);
	read_all(&rd);
	EQ(rd.discarded, 1);
}

/* ---- layout of one record ---- */

TEST(a_length_prefix_stands_before_the_payload)
{
	struct ringbuf_channel *ch = create(CONFIG());
	struct ringbuf_reservation r;

	EQ(reserve(ch, &r, 33, 0), 0);
	EQ(get_le(r.payload - 4, 4), 33);
	EQ(r.payload - r.data, 80 + 4 + 4);
	ringbuf_commit(ch, &r);
	EQ(flush_and_read(ch), 1);
}

TEST(context_stands_between_header_and_payload)
{
	struct ringbuf_channel *ch = create(CONFIG());
	struct ringbuf_reservation r = {.event_id = 1, .payload_size = 8, .align = 8, .context = "context",
					.context_size = 7, .flags = RINGBUF_LENGTH_PREFIX};

	EQ(ringbuf_reserve(ch, &r), 0);
	OK(!memcmp(r.data + 84, "context", 7));
	EQ(get_le(r.data + 91, 4), 8);
	EQ(r.payload - r.data, 96);
	EQ(r.size, 96 + 8 - 80);
	ringbuf_commit(ch, &r);
}

TEST(a_payload_may_be_empty)
{
	FOR_ALL_STARTS (start) {
		struct ringbuf_channel *ch = create(CONFIG(.start_pos = start));
		struct ringbuf_reservation r = {.event_id = 3};

		for (int i = 0; i < (4096 - 80) / 4; i++) { /* the last one ends the sub-buffer */
			EQ(ringbuf_reserve(ch, &r), 0);
			EQ(r.size, 4);
			EQ(r.payload - r.data, 80 + 4 * (i + 1));
			ringbuf_commit(ch, &r);
		}
		EQ(advanced(ch), 4096);
		EQ(stats_of(ch).unread, (4096 - 80) / 4);
	}
}

/* For the sweep: an event id says its payload's size and alignment. */
static void
swept_shape(uint32_t id, uint64_t *size, uint64_t *align)
{
	*size = id / 8 % 71;
	*align = UINT64_C(1) << id % 8;
	*align = *align > 64 ? 64 : *align;
}

static uint64_t swept_records, swept_ids[8192];
static uint64_t swept_times[8192];

static void
check_swept(struct ringbuf_stream_reader *reader)
{
	while (ringbuf_get_next_subbuf(reader) == 0) {
		struct walker w;
		struct record rec;

		walk_begin(&w, reader->ch, &reader->packet);
		w.shape = swept_shape;
		while (walk_next(&w, &rec)) {
			EQ(rec.id, swept_ids[swept_records]);
			EQ(rec.time, swept_times[swept_records]);
			EQ((uint64_t)(rec.payload - reader->packet.data) % (UINT64_C(1) << rec.id % 8 % 7), 0);
			for (uint64_t i = 0; i < rec.size; i++)
				EQ(rec.payload[i], stamp_byte(rec.id, swept_records, i));
			swept_records++;
		}
		EQ(w.off, reader->packet.content_size);
		ringbuf_put_subbuf(reader, RINGBUF_PUT_READ);
	}
}

/* All payload sizes 0..70 at all alignments 1..64, in an order that varies what precedes them. */
static void
sweep(uint32_t header, uint32_t streams, uint64_t start_pos, int shuffled)
{
	struct ringbuf_channel *ch = create(CONFIG(.header = header, .streams = streams, .n_streams = 1,
						   .start_pos = start_pos));
	struct ringbuf_stream_reader reader;
	uint64_t n = 0, attempts = 0;

	swept_records = 0;
	ringbuf_stream_reader_init(ch, 0, &reader);
	for (uint32_t i = 0; i < 71 * 7; i++) {
		uint32_t at = shuffled ? (uint32_t)rnd_below(71 * 7) : i, id = at / 7 * 8 + at % 7, size = at / 7;
		struct ringbuf_reservation r = {.event_id = id, .payload_size = size, .align = 1u << at % 7};

		EQ(ringbuf_reserve(ch, &r), 0);
		attempts++;
		for (uint64_t b = 0; b < size; b++)
			r.payload[b] = stamp_byte(id, n, b);
		if (shuffled && !rnd_below(4)) {
			ringbuf_discard(ch, &r);
			continue;
		}
		swept_times[n] = r.timestamp;
		swept_ids[n++] = id;
		ringbuf_commit(ch, &r);
		check_swept(&reader);
	}
	flush(ch);
	check_swept(&reader);
	EQ(swept_records, n);
	CHECK_IDENTITIES(stats_of(ch), attempts);
}

TEST(all_sizes_at_all_alignments_parse_with_compact_headers)
{
	sweep(RINGBUF_COMPACT, RINGBUF_GLOBAL, 0, 0);
	sweep(RINGBUF_COMPACT, RINGBUF_PER_CPU, POS_END - 4 * 4096, 0);
}

TEST(all_sizes_at_all_alignments_parse_with_large_headers)
{
	sweep(RINGBUF_LARGE, RINGBUF_GLOBAL, 0, 0);
	sweep(RINGBUF_LARGE, RINGBUF_PER_CPU, POS_END - 4 * 4096, 0);
}

TEST(sizes_and_alignments_in_random_order_with_discards_parse)
{
	for (struct runs run = runs(0.3); next_run(&run);)
		sweep((uint32_t)rnd_below(2), (uint32_t)rnd_below(2), starts[rnd_below(ARRAY_SIZE(starts))], 1);
}

/* ---- several records at once ---- */

static uint64_t several_size;

static void
several_shape(uint32_t id, uint64_t *size, uint64_t *align)
{
	(void)id;
	*size = several_size;
	*align = 1;
}

/* The packet that was just ended has records first..end, all of one time. */
static void
check_several(struct ringbuf_stream_reader *reader, const struct ringbuf_reservation *r, uint64_t first, uint64_t end)
{
	struct walker w;
	struct record rec;

	EQ(ringbuf_get_next_subbuf(reader), 0);
	walk_begin(&w, reader->ch, &reader->packet);
	w.context_size = r->context_size;
	w.shape = r->flags & RINGBUF_LENGTH_PREFIX ? NULL : several_shape;
	several_size = r->payload_size;
	for (; walk_next(&w, &rec); first++) {
		EQ(rec.id, r->event_id);
		EQ(rec.time, r->timestamp);
		EQ(rec.size, r->payload_size);
		for (uint64_t b = 0; b < rec.size; b++)
			EQ(rec.payload[b], stamp_byte(r->event_id, first, b));
	}
	EQ(first, end);
	ringbuf_put_subbuf(reader, RINGBUF_PUT_READ);
}

/* Rounds of 1 to 20 records of some size, of an event with a short or a long id, with a context or without. */
static void
record_several(uint32_t header, uint32_t event_id, uint32_t context_size, uint32_t flags)
{
	static const uint8_t context[8] = {1, 2, 3, 4, 5, 6, 7, 8};
	struct ringbuf_channel *ch = create(CONFIG(.header = header, .start_pos = POS_END - 4 * 4096));
	struct ringbuf_stream_reader reader;
	uint64_t n = 0;

	ringbuf_stream_reader_init(ch, 0, &reader);
	for (uint32_t i = 0; i < 300; i++) {
		struct ringbuf_reservation r = {.event_id = event_id, .payload_size = i % 41, .n_more = i * 7 % 20,
						.context = context, .context_size = context_size, .flags = flags};
		uint64_t first = n;

		EQ(ringbuf_reserve(ch, &r), 0);
		for (uint32_t left = r.n_more;; left--) {
			for (uint64_t b = 0; b < r.payload_size; b++)
				r.payload[b] = stamp_byte(event_id, n, b);
			n++;
			if (!left)
				break;
			ringbuf_next_record(ch, &r);
		}
		/* the last one ends where the claim does */
		EQ(ringbuf_subbuf_off(&ch->geometry, r.pos) + r.size, (uint64_t)(r.payload - r.data) + r.payload_size);
		ringbuf_commit(ch, &r);
		flush(ch);
		check_several(&reader, &r, first, n);
	}
	CHECK_IDENTITIES(stats_of(ch), n);
	ringbuf_close(ch);
}

TEST(several_records_at_once_parse_as_one_by_one)
{
	for (uint32_t header = RINGBUF_COMPACT; header <= RINGBUF_LARGE; header++)
		for (uint32_t context_size = 0; context_size <= 8; context_size += context_size ? 3 : 5) {
			record_several(header, 3, context_size, 0);
			record_several(header, 70000, context_size, 0);
			record_several(header, 3, context_size, RINGBUF_LENGTH_PREFIX);
		}
}

TEST(several_records_are_lost_and_discarded_together)
{
	struct ringbuf_channel *ch = create(CONFIG(.n_subbufs = 2));
	struct ringbuf_reservation r = {.event_id = 1, .payload_size = 96, .n_more = 9}, aligned = {.n_more = 1, .align = 8};
	uint64_t attempts = 10;

	EQ(ringbuf_reserve(ch, &r), 0);
	ringbuf_discard(ch, &r);
	EQ(stats_of(ch).discarded, 10);
	for (int ret = 0; ret == 0; attempts += 10) {
		ret = ringbuf_reserve(ch, &r);
		if (ret == 0)
			ringbuf_commit(ch, &r);
	}
	EQ(stats_of(ch).lost[RINGBUF_LOST_FULL], 10);
	r.n_more = 50;
	EQ(ringbuf_reserve(ch, &r), -ENOSPC);
	EQ(stats_of(ch).lost[RINGBUF_LOST_BIG], 51);
	CHECK_IDENTITIES(stats_of(ch), attempts + 51);
	r.flags = RINGBUF_NONBLOCK;
	r.n_more = 5;
	EQ(ringbuf_reserve(ch, &r), -EAGAIN);
	EQ(ringbuf_reserve(ch, &aligned), -EINVAL);
	CHECK_IDENTITIES(stats_of(ch), attempts + 51);
	ringbuf_set_state(ch, RINGBUF_STATE_DISABLED, 1);
	EQ(ringbuf_reserve(ch, &r), -ESHUTDOWN);
	EQ(stats_of(ch).lost[RINGBUF_LOST_DISABLED], 6);
}

/* ---- what others do meanwhile, at each test point of reserve.h ---- */

static struct ringbuf_channel *hooked;
static uint64_t hooked_n;

static void
record_meanwhile(void *arg)
{
	uint64_t size = (uintptr_t)arg;
	int ret = record_event(hooked, 1, size, 1, 1, hooked_n++);

	CHECK(ret == 0, "%d", ret);
}

TEST(others_that_record_between_sample_and_claim_make_it_start_again)
{
	uint64_t sizes[] = {16, 2000, 3500};

	for (int i = 0; i < 3; i++) {
		struct ringbuf_reservation r;

		hooked = create(CONFIG());
		hooked_n = 0;
		EQ(record(hooked, 1500, 0), 0);
		hook_at("ledger_claimed", record_meanwhile, (void *)(uintptr_t)sizes[i]);
		EQ(reserve(hooked, &r, 100, 1), 0);
		hooks_done();
		ringbuf_commit(hooked, &r);
		EQ(flush_and_read(hooked), 3);
		CHECK_IDENTITIES(stats_of(hooked), 3);
	}
}

static int until_meanwhile;

/* The built-in header, but that somebody else records when it is asked for. */
static size_t
header_size_meanwhile(const struct ringbuf_channel *c, size_t off, size_t *pre_padding,
		      const struct ringbuf_reservation *r)
{
	size_t size = ringbuf_record_header_size(NULL, c, off, pre_padding, r);

	if (until_meanwhile && !--until_meanwhile)
		record_meanwhile((void *)16);
	return size;
}

static void
write_header(const struct ringbuf_channel *c, uint8_t *header, const struct ringbuf_reservation *r)
{
	ringbuf_write_record_header(NULL, c, header, r);
}

/* After a long pause the first record has a long header, and the one that fills a sub-buffer has not if it is not
 * the first. Somebody who planned it as the first, and was overtaken, must plan again and not give it up. */
TEST(a_record_that_fits_behind_a_short_header_is_not_too_big_for_who_was_overtaken)
{
	static const struct ringbuf_client client = {.record_header_size = header_size_meanwhile,
						     .write_record_header = write_header};

	for (int overtaken = 0; overtaken < 2; overtaken++) {
		struct ringbuf_reservation r;

		until_meanwhile = 0;
		hooked_n = 1;
		hooked = create(CONFIG(.client = &client));
		EQ(record(hooked, 100, 0), 0);
		ringbuf_flush(hooked, ringbuf_this_producer(hooked)->slot, 0, 0);
		atomic_fetch_add(&ticks, UINT64_C(1) << 28);
		until_meanwhile = overtaken;
		EQ(reserve(hooked, &r, 4096 - 80 - 4 - 4, 2), overtaken ? 0 : -ENOSPC);
		if (overtaken)
			ringbuf_commit(hooked, &r);
		EQ(lost(hooked, RINGBUF_LOST_BIG), !overtaken);
	}
}

TEST(others_that_record_after_the_claim_come_after_it)
{
	const char *points[] = {"reserve_claimed", "reserve_owned", "reserve_before_header", "reserve_done"};

	for (unsigned int i = 0; i < ARRAY_SIZE(points); i++) {
		struct ringbuf_reservation r;

		hooked = create(CONFIG());
		hooked_n = 0;
		EQ(record(hooked, 16, 0), 0);
		hook_at(points[i], record_meanwhile, (void *)4000);
		EQ(reserve(hooked, &r, 100, 1), 0);
		EQ(advanced(hooked), 4096 + 80 + 8 + 4000);
		hooks_done();
		ringbuf_commit(hooked, &r);
		EQ(flush_and_read(hooked), 3);
	}
}

TEST(others_that_record_while_the_claim_crosses_come_after_it)
{
	const char *points[] = {"reserve_claimed_slow", "switch_entered", "switch_before_padding", "switch_padded",
				"switch_before_header", "switch_header_counted", "reserve_owned_slow"};

	for (unsigned int i = 0; i < ARRAY_SIZE(points); i++)
		for (uint64_t size = 16; size < 4000; size += 1900) {
			struct ringbuf_reservation r;

			hooked = create(CONFIG());
			hooked_n = 0;
			EQ(record(hooked, 3900, 0), 0);
			hook_at(points[i], record_meanwhile, (void *)(uintptr_t)size);
			EQ(reserve(hooked, &r, 300, 1), 0);
			hooks_done();
			ringbuf_commit(hooked, &r);
			EQ(flush_and_read(hooked), 3);
		}
}

/* ---- which stream ---- */

TEST(records_of_a_pinned_thread_go_to_its_cpus_stream)
{
	int cpus[4], n = allowed_cpus(cpus, 4);
	struct ringbuf_channel *ch = create(CONFIG(.streams = RINGBUF_PER_CPU));

	GE(ch->n_streams, n);
	for (int i = 0; i < n; i++) {
		struct ringbuf_reservation r;

		pin(cpus[i]);
		EQ(reserve(ch, &r, 16, (uint64_t)i), 0);
		EQ(r.stream_idx, cpus[i]);
		ringbuf_commit(ch, &r);
	}
	EQ(flush_and_read(ch), n);
}

TEST(cpus_beyond_the_streams_share_them)
{
	struct ringbuf_channel ch = {.n_streams = 3};

	EQ(ringbuf_stream_of_cpu(&ch, 2), 2);
	EQ(ringbuf_stream_of_cpu(&ch, 3), 0);
	EQ(ringbuf_stream_of_cpu(&ch, 4000000001u), 4000000001u % 3);
}

TEST(there_may_be_more_streams_than_cpus)
{
	struct ringbuf_channel *ch = create(CONFIG(.streams = RINGBUF_PER_CPU, .n_streams = 64));

	for (uint64_t i = 0; i < 100; i++)
		EQ(record(ch, 100, i), 0);
	EQ(flush_and_read(ch), 100);
	CHECK_IDENTITIES(stats_of(ch), 100);
}
