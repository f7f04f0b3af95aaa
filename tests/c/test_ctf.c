/* ctf.h: the bytes of packet and record headers, and when a time needs the long one. */
#define HARNESS_CLOCK
#include "harness.h"

#define TIME_RANGE (UINT64_C(1) << 27)

static struct ringbuf_channel *ch;
static struct reading rd;

static void
setup(const struct ringbuf_config *cfg)
{
	ch = create(cfg);
	reading_init(&rd, ch, 0);
	atomic_store(&ticks, 0);
}

static const uint8_t *
record_bytes(uint32_t event_id, const char *payload, struct ringbuf_reservation *r)
{
	*r = (struct ringbuf_reservation){.event_id = event_id, .payload_size = strlen(payload)};
	EQ(ringbuf_reserve(ch, r), 0);
	memcpy(r->payload, payload, strlen(payload));
	return r->data + ringbuf_subbuf_off(&ch->geometry, r->pos) + r->pre_padding;
}

#define BYTES(at, ...)                                                                  \
	do {                                                                            \
		const uint8_t bytes_[] = {__VA_ARGS__};                                 \
		for (size_t i_ = 0; i_ < sizeof(bytes_); i_++)                          \
			CHECK((at)[i_] == bytes_[i_], "byte %zu is %#x, not %#x", i_,   \
			      (at)[i_], bytes_[i_]);                                    \
	} while (0)

TEST(a_compact_header_is_one_word)
{
	struct ringbuf_reservation r;
	const uint8_t *at;

	setup(CONFIG());
	atomic_store(&ticks, 0x1234566);
	at = record_bytes(5, "ab", &r);
	EQ(r.header_size, 4);
	ringbuf_commit(ch, &r);
	at = record_bytes(5, "ab", &r);
	EQ(r.timestamp, 0x1234569);
	EQ(r.header_size, 4);
	/* 0x1234569 << 5 | 5 */
	BYTES(at, 0x25, 0xad, 0x68, 0x24, 'a', 'b');
	ringbuf_commit(ch, &r);
}

TEST(an_extended_compact_header_has_the_whole_time_and_id)
{
	struct ringbuf_reservation r;
	const uint8_t *at;

	setup(CONFIG());
	atomic_store(&ticks, UINT64_C(0x1122334455667700) - 1);
	at = record_bytes(0x01020304, "ab", &r);
	EQ(r.header_size, 13);
	EQ(r.timestamp, UINT64_C(0x1122334455667700) + 1);
	BYTES(at, 31, 4, 3, 2, 1, 0x01, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 'a', 'b');
	ringbuf_commit(ch, &r);
}

TEST(a_large_header_is_six_bytes)
{
	struct ringbuf_reservation r;
	const uint8_t *at;

	setup(CONFIG(.header = RINGBUF_LARGE));
	atomic_store(&ticks, 0x1234566);
	record_bytes(0x0506, "ab", &r);
	EQ(r.header_size, 6);
	ringbuf_commit(ch, &r);
	at = record_bytes(0x0506, "ab", &r);
	EQ(r.header_size, 6);
	BYTES(at, 0x06, 0x05, 0x69, 0x45, 0x23, 0x01, 'a', 'b');
	ringbuf_commit(ch, &r);
}

TEST(an_extended_large_header_is_fourteen_bytes)
{
	struct ringbuf_reservation r;
	const uint8_t *at;

	setup(CONFIG(.header = RINGBUF_LARGE));
	atomic_store(&ticks, UINT64_C(0x1122334455667700) - 1);
	at = record_bytes(0x01020304, "ab", &r);
	EQ(r.header_size, 14);
	BYTES(at, 0xff, 0xff, 4, 3, 2, 1, 0x01, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 'a', 'b');
	ringbuf_commit(ch, &r);
}

TEST(ids_that_do_not_fit_and_those_of_holes_are_extended)
{
	struct {
		uint32_t header, id;
		int extended;
	} cases[] = {{RINGBUF_COMPACT, 0, 0},     {RINGBUF_COMPACT, 29, 0},    {RINGBUF_COMPACT, 30, 1},
		     {RINGBUF_COMPACT, 31, 1},    {RINGBUF_COMPACT, 32, 1},    {RINGBUF_COMPACT, 65536, 1},
		     {RINGBUF_LARGE, 0, 0},       {RINGBUF_LARGE, 31, 0},      {RINGBUF_LARGE, 65533, 0},
		     {RINGBUF_LARGE, 65534, 1},   {RINGBUF_LARGE, 65535, 1},   {RINGBUF_LARGE, 65536, 1},
		     {RINGBUF_LARGE, UINT32_MAX, 1}, {RINGBUF_COMPACT, UINT32_MAX, 1}};

	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		struct walker w;
		struct record rec;

		setup(CONFIG(.header = cases[i].header));
		for (uint64_t n = 0; n < 3; n++)
			EQ(record_event(ch, cases[i].id, 16, 1, 0, n), 0);
		flush(ch);
		EQ(ringbuf_get_next_subbuf(&rd.reader), 0);
		walk_begin(&w, ch, &rd.reader.packet);
		for (uint64_t n = 0; n < 3; n++) {
			OK(walk_next(&w, &rec));
			EQ(rec.id, cases[i].id);
			EQ(rec.extended, cases[i].extended);
			EQ(rec.stamp.seq, n);
		}
		ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_READ);
	}
}

/* ---- times around 2^27 ---- */

static uint64_t want_times[16];
static unsigned int n_times;

static void
check_time(const struct record *rec, void *arg)
{
	(void)arg;
	EQ(rec->time, want_times[rec->stamp.seq]);
}

/* A committed record at that very time, or one that is only reserved. */
static void
record_at(uint64_t time, struct ringbuf_reservation *r, int extended)
{
	atomic_store(&ticks, time - 1);
	EQ(reserve(ch, r, 16, n_times), 0);
	EQ(r->timestamp, time);
	want_times[n_times++] = time;
	EQ(r->header_flags & RINGBUF_FULL_TIMESTAMP, extended ? RINGBUF_FULL_TIMESTAMP : 0);
}

TEST(a_gap_below_2_to_27_is_short_and_from_there_on_long)
{
	int64_t gaps[] = {1, TIME_RANGE - 1, TIME_RANGE, TIME_RANGE + 1, 2 * TIME_RANGE - 1, 2 * TIME_RANGE,
			  INT64_C(1) << 32, (INT64_C(1) << 32) + 1, INT64_C(1) << 59, 0};
	uint64_t begins[] = {1, TIME_RANGE - 2, TIME_RANGE, TIME_RANGE * 5 / 2, UINT64_C(1) << 32};

	for (uint32_t header = RINGBUF_COMPACT; header <= RINGBUF_LARGE; header++)
		for (unsigned int b = 0; b < ARRAY_SIZE(begins); b++)
			for (unsigned int i = 0; i < ARRAY_SIZE(gaps); i++) {
				struct ringbuf_reservation r;

				setup(CONFIG(.header = header));
				rd.each = check_time;
				n_times = 0;
				/* the opener's time is what the slow path reads, one later */
				atomic_store(&ticks, begins[b] - 1);
				EQ(reserve(ch, &r, 16, n_times), 0);
				want_times[n_times++] = r.timestamp;
				ringbuf_commit(ch, &r);
				record_at(r.timestamp + (uint64_t)gaps[i], &r, gaps[i] >= (int64_t)TIME_RANGE);
				ringbuf_commit(ch, &r);
				atomic_store(&ticks, r.timestamp + TIME_RANGE);
				flush(ch);
				read_all(&rd);
				EQ(rd.records, 2);
			}
}

TEST(a_gap_is_measured_from_the_last_committed_record)
{
	struct ringbuf_reservation a, b, c, d;

	setup(CONFIG());
	rd.each = check_time;
	n_times = 0;
	atomic_store(&ticks, 99);
	EQ(reserve(ch, &a, 16, n_times), 0);
	want_times[n_times++] = a.timestamp;
	ringbuf_commit(ch, &a);
	/* b is short but open: it may yet be discarded, and c must not lean on it */
	record_at(a.timestamp + TIME_RANGE - 1, &b, 0);
	record_at(a.timestamp + TIME_RANGE, &c, 1);
	ringbuf_discard(ch, &b);
	ringbuf_commit(ch, &c);
	record_at(c.timestamp + TIME_RANGE - 1, &d, 0);
	ringbuf_commit(ch, &d);
	flush(ch);
	read_all(&rd);
	EQ(rd.records, 3);
}

TEST(a_gap_across_packets_is_measured_the_same_way)
{
	for (int64_t gap = TIME_RANGE - 2; gap <= (int64_t)TIME_RANGE + 2; gap++) {
		struct ringbuf_reservation r;

		setup(CONFIG());
		rd.each = check_time;
		n_times = 0;
		atomic_store(&ticks, 99);
		EQ(reserve(ch, &r, 3900, n_times), 0);
		want_times[n_times++] = r.timestamp;
		ringbuf_commit(ch, &r);
		atomic_store(&ticks, r.timestamp + (uint64_t)gap - 2);
		EQ(reserve(ch, &r, 3900, n_times), 0); /* opens the next */
		want_times[n_times++] = r.timestamp;
		ringbuf_commit(ch, &r);
		flush(ch);
		read_all(&rd);
		EQ(rd.records, 2);
	}
}

/* ---- a user's clock ---- */

static uint64_t custom_time;

static uint64_t
read_custom(const struct ringbuf_channel *c)
{
	(void)c;
	return custom_time;
}

static const struct ringbuf_client custom_client = {.clock_read = read_custom};

TEST(a_custom_clock_that_steps_back_is_held)
{
	uint64_t steps[] = {1000, 2000, 1500, 1999, 2000, 2001, 0, TIME_RANGE + 2001, TIME_RANGE + 2000, 5,
			    TIME_RANGE * 3, 1, UINT64_MAX / 2, 3};
	uint64_t highest = 0;

	for (uint32_t header = RINGBUF_COMPACT; header <= RINGBUF_LARGE; header++) {
		setup(CONFIG(.clock = RINGBUF_CLOCK_CUSTOM, .client = &custom_client, .header = header));
		rd.each = check_time;
		highest = 0;
		n_times = 0;
		for (unsigned int i = 0; i < ARRAY_SIZE(steps); i++) {
			struct ringbuf_reservation r;

			custom_time = steps[i];
			highest = steps[i] > highest ? steps[i] : highest;
			EQ(reserve(ch, &r, i % 3 ? 16 : 2000, n_times), 0);
			EQ(r.timestamp, highest);
			want_times[n_times++] = highest;
			ringbuf_commit(ch, &r);
			if (i % 5 == 4) {
				custom_time = 7;
				flush(ch);
			}
			read_all(&rd);
		}
		flush(ch);
		read_all(&rd);
		EQ(rd.records, ARRAY_SIZE(steps));
	}
}

TEST(random_custom_times_come_back)
{
	for (struct runs run = runs(0.2); next_run(&run);) {
		setup(CONFIG(.clock = RINGBUF_CLOCK_CUSTOM, .client = &custom_client, .header = (uint32_t)rnd_below(2)));
		rd.each = check_time;
		custom_time = rnd() >> (8 + rnd_below(56));
		for (n_times = 0; n_times < ARRAY_SIZE(want_times);) {
			struct ringbuf_reservation r;

			custom_time += rnd_below(4) ? TIME_RANGE + rnd_below(5) - 2 : rnd() >> (24 + rnd_below(40));
			EQ(reserve(ch, &r, 16 + rnd_below(1200), n_times), 0);
			want_times[n_times++] = r.timestamp;
			if (rnd_below(5))
				ringbuf_commit(ch, &r);
			else
				ringbuf_discard(ch, &r);
			read_all(&rd);
		}
		flush(ch);
		read_all(&rd);
		EQ(rd.records, stats_of(ch).written);
	}
}

/* ---- holes ---- */

TEST(a_hole_is_an_id_and_a_length)
{
	struct {
		uint32_t header, skip;
		uint8_t bytes[6];
	} cases[] = {
		{RINGBUF_COMPACT, 0, {30, 0, 0, 0}},
		{RINGBUF_COMPACT, 1, {30 | 32, 0, 0, 0}},
		{RINGBUF_COMPACT, 0x1234567, {0xfe, 0xac, 0x68, 0x24}},
		{RINGBUF_COMPACT, (1 << 27) - 1, {0xfe, 0xff, 0xff, 0xff}},
		{RINGBUF_LARGE, 0, {0xfe, 0xff, 0, 0, 0, 0}},
		{RINGBUF_LARGE, 0x1234567, {0xfe, 0xff, 0x67, 0x45, 0x23, 0x01}},
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		struct ringbuf_channel c = {.header = (uint8_t)cases[i].header};
		uint8_t at[8] = {0};
		size_t size = cases[i].header == RINGBUF_COMPACT ? 4 : 6;
		uint32_t skip;

		EQ(ringbuf_ctf_hole_size(&c), size);
		ringbuf_ctf_write_hole(&c, at, cases[i].skip);
		OK(!memcmp(at, cases[i].bytes, size));
		EQ(at[size], 0);
		OK(ringbuf_ctf_read_hole(&c, at, &skip));
		EQ(skip, cases[i].skip);
		at[0] ^= 1;
		OK(!ringbuf_ctf_read_hole(&c, at, &skip));
	}
}

/* ---- packets ---- */

TEST(a_packet_header_has_84_bytes_and_80_in_a_global_stream)
{
	setup(CONFIG());
	EQ(ch->packet_header_size, 80);
	setup(CONFIG(.streams = RINGBUF_PER_CPU));
	EQ(ch->packet_header_size, 84);
}

TEST(every_stream_says_which_it_is)
{
	struct ringbuf_channel *c = create(CONFIG(.streams = RINGBUF_PER_CPU, .n_streams = 5));

	for (uint32_t i = 0; i < 5; i++)
		EQ(ringbuf_flush(c, my_slot(c), i, RINGBUF_FLUSH_EMPTY), 0);
	for (uint32_t i = 0; i < 5; i++) {
		struct reading r;

		reading_init(&r, c, i);
		EQ(ringbuf_get_next_subbuf(&r.reader), 0);
		EQ(get_le(r.reader.packet.data + 24, 8), i);
		EQ(get_le(r.reader.packet.data + 80, 4), i);
		check_packet(&r);
		ringbuf_put_subbuf(&r.reader, RINGBUF_PUT_READ);
	}
}

TEST(content_and_packet_sizes_are_in_bits_and_whole_pages)
{
	setup(CONFIG(.subbuf_size = 65536));
	EQ(record(ch, 5000, 0), 0);
	flush(ch);
	EQ(ringbuf_get_next_subbuf(&rd.reader), 0);
	EQ(rd.reader.packet.content_size, 80 + 8 + 5000);
	EQ(rd.reader.packet.packet_size, 8192);
	EQ(get_le(rd.reader.packet.data + 48, 8), 8 * (80 + 8 + 5000));
	EQ(get_le(rd.reader.packet.data + 56, 8), 8 * 8192);
	ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_READ);
}

TEST(sequence_numbers_count_packets_also_across_the_wrap)
{
	setup(CONFIG(.start_pos = POS_END - 4 * 4096));
	for (uint64_t i = 0; i < 12; i++) {
		EQ(record(ch, 3000, i), 0);
		flush(ch);
		EQ(ringbuf_get_next_subbuf(&rd.reader), 0);
		EQ(rd.reader.packet.sequence_number, i);
		check_packet(&rd);
		ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_READ);
	}
}
