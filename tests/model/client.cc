/* tests/model/client.cc - a client of one's own: small headers, its clock, its fillers. */
#include "model.h"

/* Packet header: u64 begin, u64 end. Record header: u32, event id | size << 8; id 255 is
 * a filler. Time is not stored, so the walk takes it from the log. */
#define HEADER_SIZE 16
#define FILLER 255u

static uint64_t
clock_read(const struct ringbuf_channel *)
{
	rl::ctx().sched();
	/* steps back now and then */
	return ++model_machine.now % 4 == 0 ? model_machine.now - 3 : model_machine.now;
}

static size_t
record_header_size(const struct ringbuf_channel *, size_t offset, size_t *pre_padding,
		   const struct ringbuf_reservation *)
{
	*pre_padding = -offset & 7;
	return 4;
}

static void
write_record_header(const struct ringbuf_channel *, uint8_t *header, const struct ringbuf_reservation *r)
{
	uint32_t word = r->event_id | (uint32_t)(4 + r->payload_size) << 8;

	ringbuf_data_write(header, &word, 4);
}

static void
write_filler(const struct ringbuf_channel *, uint8_t *at, size_t size)
{
	uint32_t word = FILLER | (uint32_t)size << 8;

	ringbuf_data_write(at, &word, 4);
}

static void
buffer_begin(const struct ringbuf_channel *, struct ringbuf_stream *, uint32_t, uint32_t, uint64_t timestamp,
	     uint8_t *header)
{
	ringbuf_data_write(header, &timestamp, 8);
}

static void
buffer_end(const struct ringbuf_channel *, struct ringbuf_stream *, uint32_t, uint32_t, uint64_t timestamp,
	   uint64_t, uint8_t *header)
{
	ringbuf_data_write(header + 8, &timestamp, 8);
}

static const struct ringbuf_client client = {
	clock_read, record_header_size, write_record_header, write_filler, buffer_begin, buffer_end, NULL, NULL,
};

static uint64_t
walk(struct ringbuf_stream_reader *r)
{
	const struct ringbuf_packet *p = &r->packet;
	uint64_t off = HEADER_SIZE, records = 0, time, last = p->timestamp_begin;

	ringbuf_data_read(&time, p->data, 8);
	RL_ASSERT(time == p->timestamp_begin);
	ringbuf_data_read(&time, p->data + 8, 8);
	RL_ASSERT(time == p->timestamp_end);
	while (off < p->content_size) {
		uint32_t header, word, last_word;

		off = ringbuf_align_up(off, 8);
		RL_ASSERT(off + 8 <= p->content_size);
		ringbuf_data_read(&header, p->data + off, 4);
		RL_ASSERT(off + (header >> 8) <= p->content_size);
		if ((header & 0xff) != FILLER) {
			ringbuf_data_read(&word, p->data + off + 4, 4);
			ringbuf_data_read(&last_word, p->data + off + (header >> 8) - 4, 4);
			time = model_log.records[word >> 16 & 0xff][word >> 8 & 0xff].timestamp;
			RL_ASSERT(time >= last);
			last = time;
			model_found(r, word, last_word, time);
			records++;
		}
		off += header >> 8;
	}
	RL_ASSERT(off == p->content_size);
	return records;
}

static void begin(void) { model_walk = walk; }

static void half_twice(void) { model_write(MODEL_HALF); model_write(MODEL_HALF); }
static void third_twice(void) { model_write(MODEL_THIRD); model_write(MODEL_THIRD); }
static void third_discard(void) { model_write(MODEL_THIRD, MODEL_DISCARD); model_write(MODEL_THIRD); }

static void
read_twice(void)
{
	struct ringbuf_stream_reader r;

	ringbuf_stream_reader_init(&model_region.ch, 0, &r);
	model_read(&r);
	model_read(&r);
}

#define CUSTOM(mode) {mode, 1, 1, RINGBUF_COMPACT, RINGBUF_WAKEUP_NONE, 0, &client, HEADER_SIZE}

static const struct model models[] = {
	{"client_discard", CUSTOM(RINGBUF_DISCARD), {half_twice, third_twice}, begin},
	{"client_overwrite", CUSTOM(RINGBUF_OVERWRITE), {half_twice, third_twice, read_twice}, begin},
	{"client_fillers", CUSTOM(RINGBUF_OVERWRITE), {third_discard, third_discard}, begin},
};
MODEL_TABLE(models);
