/* format.h: the structure of a packet's header is what lies in a packet. */
#include "harness.h"

#define AT(member) offsetof(struct ringbuf_ctf_packet_header, member)

TEST(members_lie_where_every_reader_of_these_traces_expects_them)
{
	EQ(AT(magic), 0);
	EQ(AT(uuid), 4);
	EQ(AT(stream_id), 20);
	EQ(AT(stream_instance_id), 24);
	EQ(AT(timestamp_begin), 32);
	EQ(AT(timestamp_end), 40);
	EQ(AT(content_size), 48);
	EQ(AT(packet_size), 56);
	EQ(AT(packet_seq_num), 64);
	EQ(AT(events_discarded), 72);
	EQ(AT(cpu_id), 80);
}

TEST(a_delivered_packet_begins_with_it)
{
	struct ringbuf_channel *ch = create(CONFIG(.streams = RINGBUF_PER_CPU, .n_streams = 3));
	struct ringbuf_ctf_packet_header header;
	struct reading rd;

	EQ(ringbuf_flush(ch, my_slot(ch), 2, RINGBUF_FLUSH_EMPTY), 0);
	reading_init(&rd, ch, 2);
	EQ(ringbuf_get_next_subbuf(&rd.reader), 0);
	memcpy(&header, rd.reader.packet.data, sizeof(header));
	EQ(header.magic, RINGBUF_CTF_MAGIC);
	OK(!memcmp(header.uuid, ch->super->uuid, 16));
	EQ(header.stream_id, 0);
	EQ(header.stream_instance_id, 2);
	EQ(header.cpu_id, 2);
	EQ(header.content_size, 8 * rd.reader.packet.content_size);
	EQ(header.packet_size, 8 * rd.reader.packet.packet_size);
	EQ(header.timestamp_begin, rd.reader.packet.timestamp_begin);
	EQ(header.timestamp_end, rd.reader.packet.timestamp_end);
	EQ(header.packet_seq_num, 0);
	EQ(header.events_discarded, 0);
	ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_READ);
}
