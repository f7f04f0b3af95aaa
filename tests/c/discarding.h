/*
 * discarding.h - for the tests of discard.h and holes.h: one channel, its reader, and what a packet holds.
 */
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

static UNUSED uint64_t
advanced(void)
{
	return ringbuf_pos_sub(pos_of(ch, 0), ch->start_pos);
}

static UNUSED uint64_t
tag(void)
{
	return atomic_load(&s->produced) >> 48;
}

/* The next packet, checked: n records, so many holes, and the content's end. */
static UNUSED void
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

/* The sub-buffers are clean: no bit of a filler map is left for the next packet. */
static UNUSED void
check_map_clear(void)
{
	for (uint32_t idx = 0; idx < ch->n_all; idx++) {
		EQ(atomic_load(&ringbuf_subbuf_at(ch, s, idx)->fillers), 0);
		for (uint64_t i = 0; i < ringbuf_filler_map_words(&ch->geometry); i++)
			EQ(atomic_load(&ringbuf_filler_map(ch, s, idx)[i]), 0);
	}
}

#define FOR_BOTH_HEADERS(header) for (uint32_t header = RINGBUF_COMPACT; header <= RINGBUF_LARGE; header++)
#define HEADER_SIZE(header) ((header) == RINGBUF_COMPACT ? 4u : 6u)
