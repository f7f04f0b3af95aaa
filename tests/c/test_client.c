/* client.h: a format, a clock and packet headers of one's own. */
#include "harness.h"

static struct ringbuf_channel *ch;
static struct ringbuf_stream_reader reader;
static unsigned int begins, ends, creates, finalizes;
static uint64_t clock_now;

/* ---- a format: records are [len u8][time u8][payload], packets begin with "PK", index, times ---- */

static uint64_t
tiny_clock(const struct ringbuf_channel *c)
{
	(void)c;
	return ++clock_now;
}

static size_t
tiny_size(const struct ringbuf_channel *c, size_t offset, size_t *pre_padding, const struct ringbuf_reservation *r)
{
	(void)c, (void)offset, (void)r;
	*pre_padding = 0;
	return 2;
}

static void
tiny_header(const struct ringbuf_channel *c, uint8_t *header, const struct ringbuf_reservation *r)
{
	EQ(c->client_data == &clock_now, 1);
	header[0] = (uint8_t)r->payload_size;
	header[1] = (uint8_t)r->timestamp;
}

static void
tiny_filler(const struct ringbuf_channel *c, uint8_t *at, size_t size)
{
	(void)c;
	GE(size, 2);
	memset(at, 0xff, size);
	at[0] = (uint8_t)(size - 2);
	at[1] = 0; /* no record has time 0 */
}

static void
tiny_begin(const struct ringbuf_channel *c, struct ringbuf_stream *s, uint32_t stream_idx, uint32_t subbuf_idx,
	   uint64_t timestamp, uint8_t *header)
{
	OK(s == ringbuf_stream_at(c, stream_idx));
	OK(header == ringbuf_subbuf_data(c, s, subbuf_idx));
	memset(header, 0, 8);
	memcpy(header, "PK", 2);
	header[2] = (uint8_t)timestamp;
	begins++;
}

static void
tiny_end(const struct ringbuf_channel *c, struct ringbuf_stream *s, uint32_t stream_idx, uint32_t subbuf_idx,
	 uint64_t timestamp, uint64_t data_size, uint8_t *header)
{
	(void)stream_idx;
	OK(header == ringbuf_subbuf_data(c, s, subbuf_idx));
	header[3] = (uint8_t)timestamp;
	memcpy(header + 4, &data_size, 4);
	ends++;
}

static int
tiny_create(const struct ringbuf_channel *c, uint32_t stream_idx, uint32_t cpu, const char *name)
{
	(void)c;
	EQ(stream_idx, cpu);
	EQ(strcmp(name, "test"), 0);
	creates++;
	return 0;
}

static void
tiny_finalize(const struct ringbuf_channel *c, uint32_t stream_idx, uint32_t cpu)
{
	(void)c;
	EQ(stream_idx, cpu);
	finalizes++;
}

static const struct ringbuf_client tiny = {
	.clock_read = tiny_clock, .record_header_size = tiny_size, .write_record_header = tiny_header,
	.write_filler = tiny_filler, .buffer_begin = tiny_begin, .buffer_end = tiny_end,
	.buffer_create = tiny_create, .buffer_finalize = tiny_finalize};

static void
setup(const struct ringbuf_config *cfg)
{
	ch = create(cfg);
	ringbuf_stream_reader_init(ch, 0, &reader);
}

#define TINY(...)                                                                                     \
	CONFIG(.client = &tiny, .client_data = &clock_now, .clock = RINGBUF_CLOCK_CUSTOM, \
	       .packet_header_size = 8, ##__VA_ARGS__)

static int
tiny_record(uint8_t byte, uint8_t size)
{
	struct ringbuf_reservation r = {.payload_size = size};
	int ret = ringbuf_reserve(ch, &r);

	if (ret)
		return ret;
	memset(r.payload, byte, size);
	ringbuf_commit(ch, &r);
	return 0;
}

/* Walk the held packet; every record's payload is its number. Returns how many. */
static unsigned int
tiny_walk(uint8_t *next)
{
	const struct ringbuf_packet *p = &reader.packet;
	const uint8_t *at = p->data + 8, *end = p->data + p->content_size;
	unsigned int n = 0;
	uint8_t time = p->data[2];
	uint32_t size;

	EQ(memcmp(p->data, "PK", 2), 0);
	EQ(p->data[2], (uint8_t)p->timestamp_begin);
	EQ(p->data[3], (uint8_t)p->timestamp_end);
	memcpy(&size, p->data + 4, 4);
	EQ(size, p->content_size);
	while (at < end) {
		if (at[1]) {
			GE((int8_t)(at[1] - time), 0);
			time = at[1];
			for (unsigned int i = 0; i < at[0]; i++)
				EQ(at[2 + i], *next);
			++*next;
			n++;
		}
		at += 2 + at[0];
	}
	OK(at == end);
	EQ(n, p->records);
	return n;
}

TEST(a_format_of_ones_own_is_written_and_read)
{
	uint8_t next = 0;
	unsigned int n = 0;

	setup(TINY());
	EQ(creates, 1);
	for (unsigned int i = 0; i < 100; i++) {
		clock_now += clock_now % 256 == 255; /* no time 0 */
		EQ(tiny_record((uint8_t)i, (uint8_t)(i * 2)), 0);
	}
	EQ(ringbuf_flush(ch, my_slot(ch), 0, 0), 0);
	while (ringbuf_get_next_subbuf(&reader) == 0) {
		n += tiny_walk(&next);
		ringbuf_put_subbuf(&reader, RINGBUF_PUT_READ);
	}
	EQ(n, 100);
	EQ(begins, ends);
	EQ(stats_of(ch).packets_read, ends);
	finalize(ch);
	finalize(ch);
	EQ(finalizes, 1);
	CHECK_IDENTITIES(stats_of(ch), 100);
}

TEST(discarded_records_of_a_format_of_ones_own_are_fillers)
{
	struct ringbuf_reservation r[3];
	uint8_t next = 0;

	setup(TINY());
	for (int i = 0; i < 3; i++) {
		r[i] = (struct ringbuf_reservation){.payload_size = 10};
		EQ(ringbuf_reserve(ch, &r[i]), 0);
		memset(r[i].payload, i == 2 ? 1 : 0, 10);
	}
	ringbuf_commit(ch, &r[0]);
	ringbuf_discard(ch, &r[1]);
	ringbuf_commit(ch, &r[2]);
	EQ(ringbuf_flush(ch, my_slot(ch), 0, 0), 0);
	EQ(ringbuf_get_next_subbuf(&reader), 0);
	EQ(tiny_walk(&next), 2);
	ringbuf_put_subbuf(&reader, RINGBUF_PUT_READ);
	CHECK_IDENTITIES(stats_of(ch), 3);
}

/* ---- records without any bytes of their own ---- */

static size_t
no_size(const struct ringbuf_channel *c, size_t offset, size_t *pre_padding, const struct ringbuf_reservation *r)
{
	(void)c, (void)offset, (void)r;
	*pre_padding = 0;
	return 0;
}

static void
no_header(const struct ringbuf_channel *c, uint8_t *header, const struct ringbuf_reservation *r)
{
	(void)c, (void)header, (void)r;
}

TEST(records_of_no_bytes_are_counted_and_do_not_stop_deliveries)
{
	static const struct ringbuf_client none = {.record_header_size = no_size, .write_record_header = no_header};
	struct ringbuf_reservation r[2] = {{.payload_size = 0}, {.payload_size = 0}};
	uint64_t n = 0;

	setup(CONFIG(.client = &none));
	EQ(ringbuf_reserve(ch, &r[0]), 0);
	EQ(ringbuf_flush(ch, my_slot(ch), 0, 0), 0);
	EQ(ringbuf_get_next_subbuf(&reader), -EAGAIN); /* one is open in it */
	ringbuf_commit(ch, &r[0]);
	EQ(ringbuf_get_next_subbuf(&reader), 0);
	EQ(reader.packet.records, 1);
	ringbuf_put_subbuf(&reader, RINGBUF_PUT_READ);
	for (; n < 5000; n++) {
		EQ(ringbuf_reserve(ch, &r[0]), 0);
		EQ(ringbuf_reserve(ch, &r[1]), 0);
		ringbuf_discard(ch, &r[0]);
		ringbuf_commit(ch, &r[1]);
		while (ringbuf_get_next_subbuf(&reader) == 0)
			ringbuf_put_subbuf(&reader, RINGBUF_PUT_READ);
	}
	CHECK_IDENTITIES(stats_of(ch), 1 + 2 * n);
}

/* ---- callbacks that record themselves ---- */

static unsigned int nested_attempts, nested_in, nested_depth_max = 1;

static void
nested_record(void)
{
	struct ringbuf_reservation r = {.event_id = 2, .payload_size = 16, .flags = RINGBUF_LENGTH_PREFIX};

	if (nested_in >= nested_depth_max)
		return;
	nested_in++;
	nested_attempts++;
	if (ringbuf_reserve(ch, &r) == 0) {
		stamp_payload(r.payload, 16, 2, nested_attempts);
		ringbuf_commit(ch, &r);
	}
	nested_in--;
}

static uint64_t
recording_clock(const struct ringbuf_channel *c)
{
	(void)c;
	nested_record();
	return ++clock_now;
}

static void
recording_begin(const struct ringbuf_channel *c, struct ringbuf_stream *s, uint32_t stream_idx,
		uint32_t subbuf_idx, uint64_t timestamp, uint8_t *header)
{
	(void)s, (void)subbuf_idx;
	nested_record();
	ringbuf_ctf_buffer_begin(c, stream_idx, timestamp, header);
}

static void
recording_end(const struct ringbuf_channel *c, struct ringbuf_stream *s, uint32_t stream_idx, uint32_t subbuf_idx,
	      uint64_t timestamp, uint64_t data_size, uint8_t *header)
{
	(void)stream_idx, (void)timestamp, (void)data_size;
	nested_record();
	ringbuf_ctf_buffer_end(ringbuf_subbuf_at(c, s, subbuf_idx), header);
}

TEST(callbacks_may_record_themselves)
{
	static const struct ringbuf_client clients[] = {
		{.clock_read = recording_clock},
		{.buffer_begin = recording_begin},
		{.buffer_end = recording_end},
		{.clock_read = recording_clock, .buffer_begin = recording_begin, .buffer_end = recording_end}};

	for (unsigned int i = 0; i < ARRAY_SIZE(clients); i++)
		for (nested_depth_max = 1; nested_depth_max <= 5; nested_depth_max++)
			for (uint32_t mode = RINGBUF_DISCARD; mode <= RINGBUF_OVERWRITE; mode++) {
				struct reading rd;
				uint64_t n = 0;

				nested_attempts = 0;
				setup(CONFIG(.client = &clients[i], .mode = mode, .n_subbufs = 8));
				reading_init(&rd, ch, 0);
				for (; n < 60; n++) {
					record(ch, 500, n);
					read_all(&rd);
				}
				flush(ch);
				read_all(&rd);
				flush(ch); /* what those flushes recorded */
				CHECK_IDENTITIES(stats_of(ch), n + nested_attempts);
				GE(rd.records, 60);
			}
}

/* ---- attaching ---- */

TEST(a_channel_with_a_client_is_attached_with_one)
{
	struct ringbuf_channel *other = NULL;
	char path[64];

	setup(TINY());
	snprintf(path, sizeof(path), "/proc/self/fd/%d", ch->fd);
	EQ(ringbuf_attach(path, &other), -RINGBUF_E_CLIENT);
	OK(!other);
	EQ(ringbuf_attach_fd(dup(ch->fd), &tiny, &clock_now, &other), 0);
	EQ(other->packet_header_size, 8);
	EQ(tiny_record(0, 10), 0);
	ringbuf_close(other);
}

static int
failing_create(const struct ringbuf_channel *c, uint32_t stream_idx, uint32_t cpu, const char *name)
{
	(void)c, (void)cpu, (void)name;
	return stream_idx == 2 ? -EXDEV : 0;
}

TEST(a_client_that_refuses_a_stream_prevents_the_channel)
{
	static const struct ringbuf_client client = {.buffer_create = failing_create};
	struct ringbuf_channel *none = NULL;

	EQ(ringbuf_create(CONFIG(.client = &client, .streams = RINGBUF_PER_CPU, .n_streams = 4), &none), -EXDEV);
	OK(!none);
	EQ(ringbuf_create(CONFIG(.client = &client, .streams = RINGBUF_PER_CPU, .n_streams = 2), &none), 0);
}
