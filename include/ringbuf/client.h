/*
 * ringbuf/client.h - what a channel's client decides: its callbacks.
 *
 * The ring knows bytes, positions and counts; the client knows the format: how
 * large a record's header is, what stands in it, what a packet begins and ends
 * with. A NULL callback, or a NULL table, means the built-in CTF client
 * (ctf.h), which is then compiled into the caller and costs no call.
 *
 * Callbacks run on the recording thread between reserve and commit, possibly
 * in a signal handler and possibly on several threads at once. They may record
 * into the channel themselves: that is a nested record.
 */
#ifndef RINGBUF_CLIENT_H
#define RINGBUF_CLIENT_H

#include "layout.h"

/* What the caller asks of ringbuf_reserve, and what it gets. */
struct ringbuf_reservation {
	/* in: */
	uint32_t event_id;
	uint32_t align;        /* of the payload, within the packet; a power of two, 0 = 1 */
	uint64_t payload_size; /* bytes */
	uint16_t flags;        /* RINGBUF_LENGTH_PREFIX, _NONBLOCK, _NOWAIT */
	uint16_t n_more;       /* as many records more, of the same event and size: ringbuf_next_record */
	uint32_t context_size; /* bytes at `context`, copied between header and payload */
	const void *context;

	/* out: */
	uint8_t *payload;      /* write payload_size bytes here, then commit */
	uint64_t timestamp;
	uint32_t stream_idx;

	/* the ring's own. Those that a commit needs stand between others on purpose: where they are
	 * neighbours, compilers store two at once through a vector register and load one of them
	 * soon after, and the load must wait until the wide store has reached the cache. */
	uint32_t header_flags; /* RINGBUF_FULL_TIMESTAMP */
	uint64_t size;         /* of the whole record, padding before it included; of all, if there are more */
	uint32_t pre_padding;  /* bytes before the header */
	uint32_t header_size;  /* bytes of the header alone */
	uint64_t pos;          /* where the record begins */
	uint64_t word;         /* `produced` as this reservation left it */
	uint64_t owned;        /* what its ledger entry says */
	struct ringbuf_stream *stream;
	uint8_t *data;         /* the sub-buffer it lies in */
	struct ringbuf_subbuf *subbuf; /* its entry, with the counter */
	struct ringbuf_producer_slot *producer;
	struct ringbuf_ledger_entry *entry;
};

/* Records in it. */
RINGBUF_INLINE uint64_t
ringbuf_n_records(const struct ringbuf_reservation *r)
{
	return 1 + (uint64_t)r->n_more;
}

#define RINGBUF_LENGTH_PREFIX 1u /* a 32-bit payload_size stands before the payload */
#define RINGBUF_NONBLOCK 2u      /* -EAGAIN, uncounted, where a blocking channel would wait */
#define RINGBUF_NOWAIT 4u        /* lost and counted, where a blocking channel would wait */

#define RINGBUF_FULL_TIMESTAMP 1u /* the short timestamp would be ambiguous */

struct ringbuf_client {
	/* Ticks of the channel's clock. A value below an earlier one is raised to it. */
	uint64_t (*clock_read)(const struct ringbuf_channel *ch);

	/* Bytes of header for a record placed at `offset` of the packet; *pre_padding
	 * before it. Depends on nothing but its arguments, and is the one that must not
	 * record: the position would have moved each time. */
	size_t (*record_header_size)(const struct ringbuf_channel *ch, size_t offset,
				     size_t *pre_padding, const struct ringbuf_reservation *r);
	/* Writes exactly that many bytes at `header`. */
	void (*write_record_header)(const struct ringbuf_channel *ch, uint8_t *header,
				    const struct ringbuf_reservation *r);
	/* Makes `size` bytes at `at` a thing that readers of the format skip. */
	void (*write_filler)(const struct ringbuf_channel *ch, uint8_t *at, size_t size);

	/* Packet header: its size is channel->packet_header_size. `header` is the
	 * sub-buffer's first byte. */
	void (*buffer_begin)(const struct ringbuf_channel *ch, struct ringbuf_stream *s,
			     uint32_t stream_idx, uint32_t subbuf_idx, uint64_t timestamp,
			     uint8_t *header);
	/* The packet is complete and about to be readable; data_size counts the header. */
	void (*buffer_end)(const struct ringbuf_channel *ch, struct ringbuf_stream *s,
			   uint32_t stream_idx, uint32_t subbuf_idx, uint64_t timestamp,
			   uint64_t data_size, uint8_t *header);

	/* Life of a stream, called by the process that creates, and that finalizes. */
	int (*buffer_create)(const struct ringbuf_channel *ch, uint32_t stream_idx, uint32_t cpu,
			     const char *name);
	void (*buffer_finalize)(const struct ringbuf_channel *ch, uint32_t stream_idx,
				uint32_t cpu);
};

#endif /* RINGBUF_CLIENT_H */
