/*
 * kernel.h - sub-buffers of the kernel's ring buffer, as CTF packets.
 *
 * A sub-buffer is a header, u64 time and u64 commit word, then events one after
 * another, each a u32 with type_len in 5 bits and a time delta in 27:
 *	1..28  an event of 4 * type_len bytes
 *	0      an event; u32 length (which counts itself) follows
 *	29     padding: to the end if the delta is 0, else u32 length: a discarded event
 *	30     time extend: u32 follows, upper bits of the delta
 *	31     absolute time: u32 follows, upper bits
 * Events begin with the u16 id of their format, which says where their fields are.
 * A packet gets the fields one by one, packed: fields that are kept elsewhere in
 * the event (data_loc) cannot be described otherwise.
 *
 * Nothing is trusted: lengths and offsets are checked against the sub-buffer.
 */
#ifndef RINGBUF_KERNEL_H
#define RINGBUF_KERNEL_H

#include <stdint.h>
#include <string.h>

#include <ringbuf/format.h>

#define KERNEL_HEADER_SIZE 16
#define KERNEL_STREAM_ID 1
#define KERNEL_SHORT_TIME (UINT64_C(1) << RINGBUF_CTF_TIME_BITS) /* as babeltrace2 and decode.h extend times */
#define KERNEL_EXTENDED_ID RINGBUF_CTF_LARGE_EXTENDED

enum kernel_kind {
	KERNEL_COPY,       /* `size` bytes at `offset` */
	KERNEL_TEXT_LOC,   /* text elsewhere: u32 of length << 16 | offset in the event */
	KERNEL_BYTES_LOC,  /* likewise, bytes; as u32 count, then they */
	KERNEL_TEXT_REL,   /* offset from the end of the u32 */
	KERNEL_BYTES_REL,
	KERNEL_TEXT_TAIL,  /* text from `offset` to the end of the event */
	KERNEL_BYTES_TAIL,
};

struct kernel_field {
	uint32_t offset, size, kind;
};

struct kernel_event {
	const struct kernel_field *fields;
	uint32_t n_fields; /* 0: not known */
};

struct kernel_formats {
	const struct kernel_event *events; /* by id */
	uint32_t n_events;
	uint8_t uuid[16];
};

struct kernel_packet {
	uint8_t *data; /* to be filled */
	uint64_t size, capacity;
	uint64_t begin, end; /* times */
	uint64_t n_events, n_unknown;
	int is_full; /* it did not fit: start over with more room */
};

static inline uint16_t
kernel_u16(const uint8_t *at)
{
	uint16_t v;
	memcpy(&v, at, sizeof(v));
	return v;
}
static inline uint32_t
kernel_u32(const uint8_t *at)
{
	uint32_t v;
	memcpy(&v, at, sizeof(v));
	return v;
}
static inline uint64_t
kernel_u64(const uint8_t *at)
{
	uint64_t v;
	memcpy(&v, at, sizeof(v));
	return v;
}

static inline void
kernel_append(struct kernel_packet *p, const void *data, uint64_t size)
{
	if (size > p->capacity - p->size) {
		p->is_full = 1;
		return;
	}
	memcpy(p->data + p->size, data, size);
	p->size += size;
}

/* Text ends at its NUL, or where its room does. */
static inline void
kernel_append_text(struct kernel_packet *p, const uint8_t *text, uint64_t room)
{
	kernel_append(p, text, strnlen((const char *)text, room));
	kernel_append(p, "", 1);
}

static inline void
kernel_append_bytes(struct kernel_packet *p, const uint8_t *bytes, uint32_t size)
{
	kernel_append(p, &size, 4);
	kernel_append(p, bytes, size);
}

/* A field of an event of `size` bytes. What lies outside is empty, or zeros. */
static inline void
kernel_append_field(struct kernel_packet *p, const struct kernel_field *f, const uint8_t *event, uint32_t size)
{
	static const uint8_t zeros[256];
	uint32_t loc, at = f->offset, length;

	if (f->kind == KERNEL_COPY) {
		uint32_t there = at >= size ? 0 : size - at < f->size ? size - at
								      : f->size;

		kernel_append(p, event + at, there);
		for (uint32_t left = f->size - there; left; left -= length) {
			length = left < sizeof(zeros) ? left : sizeof(zeros);
			kernel_append(p, zeros, length);
		}
		return;
	}
	if (f->kind == KERNEL_TEXT_TAIL || f->kind == KERNEL_BYTES_TAIL) {
		length = at < size ? size - at : 0;
	} else {
		loc = at <= size && size - at >= 4 ? kernel_u32(event + at) : 0;
		at = (loc & 0xffff) + (f->kind >= KERNEL_TEXT_REL ? at + 4 : 0);
		length = loc >> 16;
		if (at > size || length > size - at)
			length = 0;
	}
	if (f->kind == KERNEL_TEXT_LOC || f->kind == KERNEL_TEXT_REL || f->kind == KERNEL_TEXT_TAIL)
		kernel_append_text(p, event + (length ? at : 0), length);
	else
		kernel_append_bytes(p, event + (length ? at : 0), length);
}

/* CTF's large header: u16 id and u32 time, or u16 65535, u32 id and u64 time. */
static inline void
kernel_append_event(struct kernel_packet *p, const struct kernel_formats *formats, const uint8_t *event,
		    uint32_t size, uint64_t time)
{
	uint16_t id = size >= 2 ? kernel_u16(event) : 0, tag = KERNEL_EXTENDED_ID;
	uint32_t wide = id, low = (uint32_t)time;
	const struct kernel_event *e = id < formats->n_events ? &formats->events[id] : NULL;

	if (!e || !e->n_fields) {
		p->n_unknown++;
		return;
	}
	if (!p->n_events)
		p->begin = p->end = time;
	if (time - p->end < KERNEL_SHORT_TIME) {
		kernel_append(p, &id, 2);
		kernel_append(p, &low, 4);
	} else {
		kernel_append(p, &tag, 2);
		kernel_append(p, &wide, 4);
		kernel_append(p, &time, 8);
	}
	for (uint32_t i = 0; i < e->n_fields; i++)
		kernel_append_field(p, &e->fields[i], event, size);
	p->end = time;
	p->n_events++;
}

/* The 59 bits of an absolute time, and the upper ones of the time before. */
static inline uint64_t
kernel_absolute(uint64_t bits, uint64_t before)
{
	uint64_t time = bits | (before & ~((UINT64_C(1) << 59) - 1));

	return time < before && before >> 59 ? time + (UINT64_C(1) << 59) : time;
}

/*
 * The events of a sub-buffer whose headers lie in [begin, end) of its data, `room`
 * bytes in all. Returns NULL, or what is wrong with it; what came before is there.
 */
static inline const char *
kernel_append_events(struct kernel_packet *p, const struct kernel_formats *formats, const uint8_t *subbuf,
		     uint64_t begin, uint64_t end)
{
	const uint8_t *data = subbuf + KERNEL_HEADER_SIZE;
	uint64_t time = kernel_u64(subbuf), off = 0;

	while (off + 4 <= end) {
		uint32_t head = kernel_u32(data + off), type = head & 31, size;
		uint64_t delta = head >> 5, at = off + 4;

		if (type >= 1 && type <= 28) {
			size = 4 * type;
		} else {
			if (type == 29 && !delta)
				return NULL;
			if (end - at < 4)
				return "an event ends after its sub-buffer does";
			size = kernel_u32(data + at);
			at += 4;
			if (type == 30 || type == 31) {
				delta |= (uint64_t)size << 27;
				time = type == 30 ? time + delta : kernel_absolute(delta, time);
				off = at;
				continue;
			}
			if (size < 4)
				return "an event has no length";
			size -= 4;
		}
		if (size > end - at)
			return "an event ends after its sub-buffer does";
		/* a discarded event's delta is made 1 where it was 0 */
		if (type != 29 || delta != 1)
			time += delta;
		if (type != 29 && off >= begin)
			kernel_append_event(p, formats, data + at, size, time);
		off = (at + size + 3) & ~UINT64_C(3);
	}
	return NULL;
}

/* Room for the header that kernel_end_packet writes. */
static inline void
kernel_begin_packet(struct kernel_packet *p, uint8_t *data, uint64_t capacity)
{
	memset(p, 0, sizeof(*p));
	p->data = data;
	p->capacity = capacity;
	p->size = RINGBUF_CTF_PACKET_HEADER_SIZE;
}

/* The header of ringbuf's own packets, with another stream id. */
static inline void
kernel_end_packet(struct kernel_packet *p, const struct kernel_formats *formats, uint32_t cpu,
		  uint64_t sequence_number, uint64_t events_discarded)
{
	struct ringbuf_ctf_packet_header header = {
		.magic = RINGBUF_CTF_MAGIC,
		.stream_id = KERNEL_STREAM_ID,
		.stream_instance_id = cpu,
		.timestamp_begin = p->begin,
		.timestamp_end = p->end,
		.content_size = 8 * p->size,
		.packet_size = 8 * p->size,
		.packet_seq_num = sequence_number,
		.events_discarded = events_discarded,
		.cpu_id = cpu,
	};

	memcpy(header.uuid, formats->uuid, sizeof(header.uuid));
	memcpy(p->data, &header, sizeof(header));
}

#endif /* RINGBUF_KERNEL_H */
