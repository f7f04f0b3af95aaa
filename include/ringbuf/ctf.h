/*
 * ringbuf/ctf.h - the built-in client: Common Trace Format 1.8.
 *
 * It fills in what format.h describes.
 */
#ifndef RINGBUF_CTF_H
#define RINGBUF_CTF_H

#include "client.h"
#include "format.h"

RINGBUF_INLINE uint32_t
ringbuf_ctf_packet_header_size(uint32_t streams)
{
	return streams == RINGBUF_GLOBAL ? RINGBUF_CTF_PACKET_HEADER_SIZE_GLOBAL : RINGBUF_CTF_PACKET_HEADER_SIZE;
}

RINGBUF_INLINE int
ringbuf_ctf_is_extended(const struct ringbuf_channel *ch, const struct ringbuf_reservation *r)
{
	uint32_t ids = ch->header == RINGBUF_COMPACT ? RINGBUF_CTF_COMPACT_HOLE : RINGBUF_CTF_LARGE_HOLE;

	return (r->header_flags & RINGBUF_FULL_TIMESTAMP) || r->event_id >= ids;
}

RINGBUF_INLINE size_t
ringbuf_ctf_record_header_size(const struct ringbuf_channel *ch, const struct ringbuf_reservation *r)
{
	size_t tag = ch->header == RINGBUF_COMPACT ? 1 : 2;

	if (RINGBUF_UNLIKELY(ringbuf_ctf_is_extended(ch, r))) {
		ringbuf_stay_branch();
		return tag + 4 + 8;
	}
	return RINGBUF_LIKELY(ch->header == RINGBUF_COMPACT) ? RINGBUF_CTF_COMPACT_SIZE
							     : RINGBUF_CTF_LARGE_SIZE;
}

RINGBUF_SLOW void
ringbuf_ctf_write_extended(const struct ringbuf_channel *ch, uint8_t *header, uint32_t event_id,
			   uint64_t timestamp)
{
	uint16_t tag = ch->header == RINGBUF_COMPACT ? RINGBUF_CTF_COMPACT_EXTENDED
						     : RINGBUF_CTF_LARGE_EXTENDED;
	size_t tag_size = ch->header == RINGBUF_COMPACT ? 1 : 2;

	ringbuf_data_write(header, &tag, tag_size);
	ringbuf_data_write(header + tag_size, &event_id, 4);
	ringbuf_data_write(header + tag_size + 4, &timestamp, 8);
}

/* r->header_size says which of the three it is. */
RINGBUF_INLINE void
ringbuf_ctf_write_record_header(const struct ringbuf_channel *ch, uint8_t *header,
				const struct ringbuf_reservation *r)
{
	if (RINGBUF_LIKELY(r->header_size == RINGBUF_CTF_COMPACT_SIZE)) {
		uint32_t id_and_time = r->event_id | (uint32_t)(r->timestamp << RINGBUF_CTF_COMPACT_ID_BITS);

		ringbuf_data_write(header, &id_and_time, 4);
	} else if (RINGBUF_LIKELY(r->header_size == RINGBUF_CTF_LARGE_SIZE)) {
		uint16_t id = (uint16_t)r->event_id;
		uint32_t time = (uint32_t)r->timestamp;

		ringbuf_data_write(header, &id, 2);
		ringbuf_data_write(header + 2, &time, 4);
	} else {
		ringbuf_ctf_write_extended(ch, header, r->event_id, r->timestamp);
	}
}

/* Bytes of a hole before what it skips; no record is smaller. */
RINGBUF_INLINE size_t
ringbuf_ctf_hole_size(const struct ringbuf_channel *ch)
{
	return ch->header == RINGBUF_COMPACT ? RINGBUF_CTF_COMPACT_SIZE : RINGBUF_CTF_LARGE_SIZE;
}

/* A hole whose length field is `skip` (27 bits). */
RINGBUF_FUNC void
ringbuf_ctf_write_hole(const struct ringbuf_channel *ch, uint8_t *at, uint32_t skip)
{
	if (ch->header == RINGBUF_COMPACT) {
		uint32_t id_and_skip = RINGBUF_CTF_COMPACT_HOLE | skip << RINGBUF_CTF_COMPACT_ID_BITS;

		ringbuf_data_write(at, &id_and_skip, 4);
	} else {
		uint16_t id = RINGBUF_CTF_LARGE_HOLE;

		ringbuf_data_write(at, &id, 2);
		ringbuf_data_write(at + 2, &skip, 4);
	}
}

/* Is there a hole? Then *skip is its length field. */
RINGBUF_FUNC int
ringbuf_ctf_read_hole(const struct ringbuf_channel *ch, const uint8_t *at, uint32_t *skip)
{
	uint16_t id;

	if (ch->header == RINGBUF_COMPACT) {
		ringbuf_data_read(skip, at, 4);
		id = *skip & RINGBUF_CTF_COMPACT_EXTENDED;
		*skip >>= RINGBUF_CTF_COMPACT_ID_BITS;
		return id == RINGBUF_CTF_COMPACT_HOLE;
	}
	ringbuf_data_read(&id, at, 2);
	ringbuf_data_read(skip, at + 2, 4);
	return id == RINGBUF_CTF_LARGE_HOLE;
}

/* Store one member of a packet's header. */
#define ringbuf_ctf_put(header, member, value)                                                                \
	do {                                                                                                  \
		uint64_t put_value = (value);                                                                 \
		ringbuf_data_write((header) + offsetof(struct ringbuf_ctf_packet_header, member), &put_value, \
				   sizeof(((struct ringbuf_ctf_packet_header *)0)->member));                  \
	} while (0)

RINGBUF_FUNC void
ringbuf_ctf_buffer_begin(const struct ringbuf_channel *ch, uint32_t stream_idx, uint64_t timestamp,
			 uint8_t *header)
{
	ringbuf_ctf_put(header, magic, RINGBUF_CTF_MAGIC);
	ringbuf_data_write(header + offsetof(struct ringbuf_ctf_packet_header, uuid), ch->super->uuid, 16);
	ringbuf_ctf_put(header, stream_id, 0);
	ringbuf_ctf_put(header, stream_instance_id, stream_idx);
	ringbuf_ctf_put(header, timestamp_begin, timestamp);
	if (ch->streams == RINGBUF_PER_CPU)
		ringbuf_ctf_put(header, cpu_id, stream_idx);
}

RINGBUF_FUNC void
ringbuf_ctf_buffer_end(const struct ringbuf_subbuf *sb, uint8_t *header)
{
	/* all relaxed: the deliverer's own, who has just stored them */
	ringbuf_ctf_put(header, timestamp_end, ringbuf_load(&sb->timestamp_end, RINGBUF_RELAXED));
	ringbuf_ctf_put(header, content_size, ringbuf_load(&sb->content_size, RINGBUF_RELAXED) * 8);
	ringbuf_ctf_put(header, packet_size, ringbuf_load(&sb->packet_size, RINGBUF_RELAXED) * 8);
	ringbuf_ctf_put(header, packet_seq_num, ringbuf_load(&sb->sequence_number, RINGBUF_RELAXED));
	ringbuf_ctf_put(header, events_discarded, ringbuf_load(&sb->events_discarded, RINGBUF_RELAXED));
}

/* ---- dispatch: the client's callback where it has one, CTF where not ---- */

RINGBUF_INLINE size_t
ringbuf_record_header_size(const struct ringbuf_client *client, const struct ringbuf_channel *ch,
			   size_t offset, size_t *pre_padding, const struct ringbuf_reservation *r)
{
	if (client && client->record_header_size) {
		*pre_padding = 0;
		return client->record_header_size(ch, offset, pre_padding, r);
	}
	*pre_padding = -offset & (RINGBUF_CTF_ALIGN - 1);
	return ringbuf_ctf_record_header_size(ch, r);
}

RINGBUF_INLINE void
ringbuf_write_record_header(const struct ringbuf_client *client, const struct ringbuf_channel *ch,
			    uint8_t *header, const struct ringbuf_reservation *r)
{
	if (client && client->write_record_header)
		client->write_record_header(ch, header, r);
	else
		ringbuf_ctf_write_record_header(ch, header, r);
}

RINGBUF_FUNC void
ringbuf_buffer_begin(const struct ringbuf_client *client, const struct ringbuf_channel *ch,
		     struct ringbuf_stream *s, uint32_t stream_idx, uint32_t subbuf_idx,
		     uint64_t timestamp)
{
	uint8_t *header = ringbuf_subbuf_data(ch, s, subbuf_idx);

	ringbuf_store(&ringbuf_subbuf_at(ch, s, subbuf_idx)->timestamp_begin, timestamp,
		      RINGBUF_RELAXED); /* published by O2, then O3 */
	if (client && client->buffer_begin)
		client->buffer_begin(ch, s, stream_idx, subbuf_idx, timestamp, header);
	else
		ringbuf_ctf_buffer_begin(ch, stream_idx, timestamp, header);
}

RINGBUF_FUNC void
ringbuf_buffer_end(const struct ringbuf_client *client, const struct ringbuf_channel *ch,
		   struct ringbuf_stream *s, uint32_t stream_idx, uint32_t subbuf_idx)
{
	const struct ringbuf_subbuf *sb = ringbuf_subbuf_at(ch, s, subbuf_idx);
	uint8_t *header = ringbuf_subbuf_data(ch, s, subbuf_idx);

	/* relaxed: the deliverer's own */
	if (client && client->buffer_end)
		client->buffer_end(ch, s, stream_idx, subbuf_idx,
				   ringbuf_load(&sb->timestamp_end, RINGBUF_RELAXED),
				   ringbuf_load(&sb->content_size, RINGBUF_RELAXED), header);
	else
		ringbuf_ctf_buffer_end(sb, header);
}

/* Do this client's discarded records become holes that can be joined? */
RINGBUF_INLINE int
ringbuf_has_holes(const struct ringbuf_client *client)
{
	return !client || (!client->record_header_size && !client->write_record_header &&
			   !client->write_filler);
}

#endif /* RINGBUF_CTF_H */
