/*
 * decode.h - walks over CTF packets whose types are known. Pure C, no Python.
 *
 * A plan is the tree of a trace's types, flattened into arrays. A cursor is a
 * place in one packet. Nothing in the bytes is trusted: every length, tag and
 * id is checked against the end of the packet's content before it is used, and
 * each value is read once, so that bytes that change meanwhile can at worst
 * decode to nonsense.
 *
 * Positions and sizes are in bits, counted from the start of the packet.
 * Functions return 0, or -1 with a reason in cursor->error.
 *
 * Time is bounded by the size of the packet: whoever goes through values spends
 * from the cursor's budget, so that those without bytes come to an end too.
 *
 * Thread safety: a plan is never written after it was built; each thread needs
 * its own cursor.
 */
#ifndef RINGBUF_DECODE_H
#define RINGBUF_DECODE_H

#include <math.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#define CTF_LIKELY(x) __builtin_expect(!!(x), 1)
#define CTF_UNLIKELY(x) __builtin_expect(!!(x), 0)

enum ctf_kind {
	CTF_INTEGER,
	CTF_FLOAT,
	CTF_STRING,
	CTF_STRUCT,
	CTF_ARRAY,
	CTF_SEQUENCE,
	CTF_VARIANT,
	CTF_VARINT,   /* LEB128 */
	CTF_OPTIONAL, /* a variant that may be nothing */
};

/* What a value means to every reader; in the order of ringbuf.ctf.model.ROLES. */
enum ctf_role {
	CTF_ROLE_NONE,
	CTF_ROLE_CLOCK,    /* counts the stream's clock */
	CTF_ROLE_EVENT_ID, /* of the event class */
	CTF_ROLE_MAGIC,
	CTF_ROLE_UUID,     /* its position, in bits */
	CTF_ROLE_STREAM_ID,
	CTF_ROLE_INSTANCE_ID,
	CTF_ROLE_END,
	CTF_ROLE_CONTENT_SIZE,
	CTF_ROLE_PACKET_SIZE,
	CTF_ROLE_SEQUENCE_NUMBER,
	CTF_ROLE_DISCARDED,
	CTF_ROLE_CPU,
	CTF_N_ROLES,
};

/* Of text. */
enum ctf_encoding { CTF_UTF8,
		    CTF_UTF16LE,
		    CTF_UTF16BE,
		    CTF_UTF32LE,
		    CTF_UTF32BE };

/* Event headers that are read without walking their tree. */
enum ctf_header { CTF_HEADER_ANY,
		  CTF_HEADER_COMPACT,
		  CTF_HEADER_LARGE };

struct ctf_node {
	uint8_t kind;
	uint8_t is_signed;
	uint8_t is_big_endian;
	uint8_t is_bool;
	uint8_t role;          /* integer, elements: enum ctf_role */
	uint8_t is_odd;        /* number: not `size` bits in the order of its byte order, 64 at most */
	uint8_t is_reversed;   /* number: its first bit is the value's last */
	uint8_t base;          /* integer: to print it in: 2, 8, 10, 16 */
	uint8_t encoding;      /* text: enum ctf_encoding */
	uint32_t align;
	uint32_t size;         /* integer, float; of one in LEB128: 64 */
	int64_t fixed;         /* size from the aligned start on, if it never varies; else -1 */
	int32_t slot;          /* integer: where its value is kept for those who ask; else -1 */
	int32_t asks;          /* sequence, variant, optional: the slot of the length, the tag */
	uint32_t first, count; /* struct: members; variant, optional: ranges; array and sequence: first is the element */
	uint64_t length;       /* array: elements; float: bits of the exponent */
};

/* A variant's option `node` is there when low <= tag <= high, in the tag's signedness. */
struct ctf_range {
	uint64_t low, high;
	int32_t node;
};

struct ctf_event {
	uint64_t id;
	uint32_t index;               /* among all events of the trace */
	int32_t context, fields;      /* nodes, or -1 */
	int64_t fixed;                /* of all contexts and fields, if no alignment is more than 8; else -1 */
};

/* A part of a record that goes to a row as it is, or one bool. In bytes. */
struct ctf_copy {
	uint32_t from, to, size;
	uint8_t is_bool;
};

/* time = base_ns + ticks * 1e9 / freq; larger ticks than max_ticks would overflow. */
struct ctf_clock {
	uint64_t freq, max_ticks;
	int64_t base_ns;
};

struct ctf_stream {
	uint64_t id;
	int32_t packet_context, event_context, event_header; /* nodes, or -1 */
	uint8_t header_kind;
	uint8_t has_holes;
	uint8_t asks_packet;  /* events need values of the packet's header or context */
	uint8_t asks_outside; /* contexts or fields need values from before them */
	uint32_t header_align;
	struct ctf_clock clock;
	struct ctf_event *events; /* by id */
	uint32_t n_events;
};

struct ctf_plan {
	const struct ctf_node *nodes;
	const int32_t *members;
	const struct ctf_range *ranges;
	uint32_t n_slots;
};

struct ctf_cursor {
	const uint8_t *data;  /* the first byte there is */
	uint64_t origin;      /* position of that byte */
	uint64_t pos, end;
	uint64_t *slots;
	uint64_t ticks;       /* the stream's clock, now */
	uint64_t event_id;
	uint64_t *roles;      /* while a packet's header is read: the value of each role; [0] is the set of those found */
	uint32_t varint_bits; /* of the last number in LEB128 */
	const struct ctf_event *last; /* short event; its id and size are known without a load */
	uint64_t last_id, last_fixed;
	const char *error;
	uint64_t at_hand, values; /* that may be gone through: until the next pause, and after it */
	int (*pause)(void);       /* called now and then: not 0 ends the walk. Or NULL */
	uint64_t deadline;        /* by CLOCK_MONOTONIC, in nanoseconds; 0: none */
};

struct ctf_record {
	const struct ctf_event *event;
	uint64_t ticks;
	uint64_t begin; /* of the contexts and fields */
};

/* ---- bits ---- */

static inline int
ctf_fail(struct ctf_cursor *c, const char *reason)
{
	c->error = reason;
	return -1;
}

/* ---- the budget ---- */

#define CTF_VALUES_PER_BIT 4 /* a value has a bit, and is walked over, measured, and built */
#define CTF_VALUES_AT_HAND (UINT64_C(1) << 20)

static inline uint64_t
ctf_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/*
 * For the whole of the cursor's packet: `empty` is how many values without bits it may have, `seconds` how long it
 * may take, or 0.
 */
static inline void
ctf_set_budget(struct ctf_cursor *c, uint64_t empty, uint64_t seconds, int (*pause)(void))
{
	c->deadline = seconds && seconds < UINT32_MAX ? ctf_now() + seconds * 1000000000u : 0;
	c->at_hand = 0;
	c->values = CTF_VALUES_PER_BIT * (c->end - c->pos) + empty;
	c->pause = pause;
}

static __attribute__((noinline)) int
ctf_spend_more(struct ctf_cursor *c, uint64_t n)
{
	n -= c->at_hand;
	c->at_hand = 0;
	if (n > c->values)
		return ctf_fail(c, "it has more values without bytes than limits.empty_values allows");
	c->values -= n;
	c->at_hand = c->values < CTF_VALUES_AT_HAND ? c->values : CTF_VALUES_AT_HAND;
	c->values -= c->at_hand;
	if (c->deadline && ctf_now() > c->deadline)
		return ctf_fail(c, "it takes longer than limits.seconds allows");
	return c->pause && c->pause() ? ctf_fail(c, "interrupted") : 0;
}

static inline int
ctf_spend(struct ctf_cursor *c, uint64_t n)
{
	if (CTF_UNLIKELY(n > c->at_hand))
		return ctf_spend_more(c, n);
	c->at_hand -= n;
	return 0;
}

/* What another cursor on the same packet has left. */
static inline void
ctf_take_budget(struct ctf_cursor *c, const struct ctf_cursor *from)
{
	c->at_hand = from->at_hand;
	c->values = from->values;
}

static inline int
ctf_align(struct ctf_cursor *c, uint64_t align)
{
	uint64_t aligned = (c->pos + align - 1) & ~(align - 1);

	if (CTF_UNLIKELY(aligned > c->end))
		return ctf_fail(c, "the content ends too early");
	c->pos = aligned;
	return 0;
}

static inline int
ctf_skip(struct ctf_cursor *c, uint64_t bits)
{
	if (CTF_UNLIKELY(bits > c->end - c->pos))
		return ctf_fail(c, "the content ends too early");
	c->pos += bits;
	return 0;
}

static inline const uint8_t *
ctf_at(const struct ctf_cursor *c, uint64_t pos)
{
	return c->data + ((pos - c->origin) >> 3);
}

/* A bit-field that need not begin or end with a byte. */
static inline uint64_t
ctf_bits(const struct ctf_cursor *c, uint32_t size, int is_big_endian)
{
	uint64_t value = 0, pos = c->pos;
	uint32_t got = 0;

	while (got < size) {
		uint32_t off = pos & 7, take = 8 - off < size - got ? 8 - off : size - got;
		uint64_t mask = (1u << take) - 1, byte = *ctf_at(c, pos);

		if (is_big_endian)
			value = value << take | (byte >> (8 - off - take) & mask);
		else
			value |= (byte >> off & mask) << got;
		got += take;
		pos += take;
	}
	return value;
}

/* The next `size` bits, which the caller knows to be there. */
static inline uint64_t
ctf_peek(const struct ctf_cursor *c, uint32_t size, int is_big_endian)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	if (CTF_LIKELY(!is_big_endian && !(c->pos & 7) && (size == 8 || size == 16 || size == 32 || size == 64))) {
		uint64_t value = 0;

		memcpy(&value, ctf_at(c, c->pos), size / 8);
		return value;
	}
#endif
	return ctf_bits(c, size, is_big_endian);
}

static inline uint64_t
ctf_reverse(uint64_t value, uint32_t size)
{
	uint64_t reversed = 0;

	for (; size; size--, value >>= 1)
		reversed = reversed << 1 | (value & 1);
	return reversed;
}

/* Bits `low` and following of the number of n->size bits that begins at the cursor; 64 at most. */
static uint64_t
ctf_slice(const struct ctf_cursor *c, const struct ctf_node *n, uint32_t low, uint32_t size)
{
	struct ctf_cursor at = *c;

	if (n->is_reversed != n->is_big_endian)
		low = n->size - low - size;
	at.pos += low;
	return n->is_reversed ? ctf_reverse(ctf_bits(&at, size, n->is_big_endian), size)
			      : ctf_bits(&at, size, n->is_big_endian);
}

static uint64_t
ctf_double_bits(double value)
{
	uint64_t bits;

	memcpy(&bits, &value, 8);
	return bits;
}

/* The bits of the nearest double, or float for 16 bits, of an IEEE 754 number of another size. */
static uint64_t
ctf_other_float(const struct ctf_cursor *c, const struct ctf_node *n)
{
	uint32_t exponent_bits = (uint32_t)n->length, fraction_bits = n->size - 1 - exponent_bits;
	uint32_t got = fraction_bits < 62 ? fraction_bits : 62;
	int64_t bias = ((int64_t)1 << (exponent_bits - 1)) - 1, power;
	uint64_t exponent, fraction;
	double value;
	float narrow;

	exponent = ctf_slice(c, n, fraction_bits, exponent_bits);
	fraction = ctf_slice(c, n, fraction_bits - got, got);
	/* What is below the bits that are taken decides only a tie. */
	for (uint32_t low = 0, size; low < fraction_bits - got; low += size) {
		size = fraction_bits - got - low < 32 ? fraction_bits - got - low : 32;
		fraction |= ctf_slice(c, n, low, size) != 0;
	}
	power = (exponent ? (int64_t)exponent : 1) - bias - (int64_t)got;
	power = power < -4096 ? -4096 : power > 4096 ? 4096
						     : power;
	if (exponent == ((uint64_t)1 << exponent_bits) - 1)
		value = fraction ? (double)__builtin_nan("") : (double)__builtin_inf();
	else
		value = ldexp((double)(exponent ? (uint64_t)1 << got | fraction : fraction), (int)power);
	if (ctf_slice(c, n, n->size - 1, 1))
		value = -value;
	if (n->size > 16)
		return ctf_double_bits(value);
	narrow = (float)value;
	fraction = 0;
	memcpy(&fraction, &narrow, 4);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	fraction >>= 32;
#endif
	return fraction;
}

static int
ctf_varint(struct ctf_cursor *c, const struct ctf_node *n, uint64_t *value)
{
	uint32_t bits = 0;
	uint8_t byte;

	*value = 0;
	do {
		if (c->end - c->pos < 8)
			return ctf_fail(c, "the content ends too early");
		byte = *ctf_at(c, c->pos);
		c->pos += 8;
		/* The tenth byte has room for one bit of the 64; the rest must repeat the sign. */
		if (bits == 63 && byte != 0 && byte != 1 && !(n->is_signed && byte == 0x7f))
			return ctf_fail(c, "an integer of variable length has more than 64 bits");
		*value |= (uint64_t)(byte & 0x7f) << bits;
		bits += 7;
	} while (byte & 0x80);
	if (n->is_signed && bits < 64 && byte & 0x40)
		*value |= ~UINT64_C(0) << bits;
	c->varint_bits = bits;
	return 0;
}

/* Read a number whose node is_odd. */
static int
ctf_odd_number(struct ctf_cursor *c, const struct ctf_node *n, uint64_t *value)
{
	if (n->kind == CTF_VARINT)
		return ctf_varint(c, n, value);
	if (n->size > c->end - c->pos)
		return ctf_fail(c, "the content ends too early");
	*value = n->kind == CTF_FLOAT && (n->size == 16 || n->size > 64) ? ctf_other_float(c, n)
									 : ctf_slice(c, n, 0, n->size);
	c->pos += n->size;
	if (n->is_signed && n->size < 64 && *value >> (n->size - 1) & 1)
		*value |= ~UINT64_C(0) << n->size;
	return 0;
}

/* Read a number: an integer, sign-extended if it is signed, or the bits of a float or double. */
static inline int
ctf_number(struct ctf_cursor *c, const struct ctf_node *n, uint64_t *value)
{
	if (ctf_align(c, n->align))
		return -1;
	if (CTF_UNLIKELY(n->is_odd))
		return ctf_odd_number(c, n, value);
	if (CTF_UNLIKELY(n->size > c->end - c->pos))
		return ctf_fail(c, "the content ends too early");
	*value = ctf_peek(c, n->size, n->is_big_endian);
	c->pos += n->size;
	if (n->is_signed && n->size < 64 && *value >> (n->size - 1) & 1)
		*value |= ~UINT64_C(0) << n->size;
	return 0;
}

/* ---- time ---- */

/* The clock's low `size` bits are now `value`; it never went back by itself. */
static inline void
ctf_set_clock(struct ctf_cursor *c, uint64_t value, uint32_t size)
{
	uint64_t mask;

	if (size >= 64) {
		c->ticks = value;
		return;
	}
	mask = (UINT64_C(1) << size) - 1;
	if (value < (c->ticks & mask))
		c->ticks += mask + 1;
	c->ticks = (c->ticks & ~mask) | value;
}

/* In floating point, because babeltrace2 does the same and must agree to the nanosecond. */
static inline int64_t
ctf_time_ns(const struct ctf_clock *clock, uint64_t ticks)
{
	if (clock->freq == 1000000000)
		return clock->base_ns + (int64_t)ticks;
	return clock->base_ns + (int64_t)(1e9 * (double)ticks / (double)clock->freq);
}

/* ---- types ---- */

static int ctf_walk(const struct ctf_plan *p, int32_t index, struct ctf_cursor *c);

static inline void
ctf_play_role(const struct ctf_node *n, struct ctf_cursor *c, uint64_t value)
{
	if (n->role == CTF_ROLE_EVENT_ID)
		c->event_id = value;
	else if (n->role == CTF_ROLE_CLOCK)
		ctf_set_clock(c, value, n->kind == CTF_VARINT ? c->varint_bits : n->size);
	if (CTF_UNLIKELY(c->roles != NULL)) {
		c->roles[n->role] = value;
		c->roles[0] |= UINT64_C(1) << n->role;
	}
}

static inline int
ctf_walk_integer(const struct ctf_node *n, struct ctf_cursor *c)
{
	uint64_t value;

	if (ctf_number(c, n, &value))
		return -1;
	if (n->slot >= 0)
		c->slots[n->slot] = value;
	if (n->role)
		ctf_play_role(n, c, value);
	return 0;
}

/* Bytes of a code unit, of which a NUL has one. */
static inline uint32_t
ctf_unit(uint8_t encoding)
{
	return encoding == CTF_UTF8 ? 1 : encoding <= CTF_UTF16BE ? 2
								  : 4;
}

/* Bytes before the first NUL within `size`, or -1. */
static int64_t
ctf_wide_nul(const uint8_t *start, uint64_t size, uint32_t unit)
{
	for (uint64_t at = 0; size - at >= unit; at += unit)
		if (!memcmp(start + at, "\0\0\0", unit))
			return (int64_t)at;
	return -1;
}

/* Bytes of the string at the cursor, which is on a byte; -1 if no NUL ends it. */
static inline int64_t
ctf_string_length(const struct ctf_node *n, const struct ctf_cursor *c)
{
	const uint8_t *start = ctf_at(c, c->pos), *nul;

	if (CTF_UNLIKELY(n->encoding != CTF_UTF8))
		return ctf_wide_nul(start, (c->end - c->pos) >> 3, ctf_unit(n->encoding));
	nul = (const uint8_t *)memchr(start, 0, (c->end - c->pos) >> 3);
	return nul ? nul - start : -1;
}

static inline int
ctf_walk_string(const struct ctf_node *n, struct ctf_cursor *c)
{
	int64_t length = ctf_string_length(n, c);

	if (length < 0)
		return ctf_fail(c, "a string has no end");
	c->pos += 8 * ((uint64_t)length + ctf_unit(n->encoding));
	return 0;
}

/* Bits that every element has at least. */
static inline uint64_t
ctf_least_size(const struct ctf_node *n)
{
	if (n->kind == CTF_INTEGER || n->kind == CTF_FLOAT)
		return n->size; /* `fixed` is -1 for one that the walk looks at */
	return n->fixed > 0 ? (uint64_t)n->fixed : 0;
}

/* How many elements; a length that cannot be true is refused before it is used. Spends nothing. */
static inline int
ctf_length(const struct ctf_plan *p, const struct ctf_node *n, struct ctf_cursor *c, uint64_t *length)
{
	const struct ctf_node *element = &p->nodes[n->first];
	uint64_t room = c->end - c->pos, size = ctf_least_size(element);

	*length = n->kind == CTF_ARRAY ? n->length : c->slots[n->asks];
	/* Of elements without a bit there is any number: the budget is for them. */
	if (CTF_UNLIKELY(element->fixed && *length > (size ? room / size : room)))
		return ctf_fail(c, "a sequence or array is longer than the content");
	return 0;
}

/* Bits of `length` elements of a fixed size; more than any packet has if they are too many. */
static inline uint64_t
ctf_fixed_elements(const struct ctf_node *element, uint64_t length)
{
	uint64_t size = (uint64_t)element->fixed, stride = (size + element->align - 1) & ~((uint64_t)element->align - 1);
	uint64_t bits;

	if (__builtin_mul_overflow(length - 1, stride, &bits) || __builtin_add_overflow(bits, size, &bits))
		return UINT64_MAX;
	return bits;
}

static int
ctf_walk_elements(const struct ctf_plan *p, const struct ctf_node *n, struct ctf_cursor *c)
{
	const struct ctf_node *element = &p->nodes[n->first];
	uint64_t length;

	if (ctf_length(p, n, c, &length))
		return -1;
	if (n->role)
		ctf_play_role(n, c, c->pos);
	if (element->fixed >= 0 && length)
		return ctf_skip(c, ctf_fixed_elements(element, length));
	if (ctf_spend(c, length))
		return -1;
	while (length--)
		if (ctf_walk(p, (int32_t)n->first, c))
			return -1;
	return 0;
}

/* The option that the variant's tag selects; -1: none, which only an optional may have. */
static int32_t
ctf_option(const struct ctf_plan *p, const struct ctf_node *n, struct ctf_cursor *c)
{
	uint64_t tag = c->slots[n->asks];

	for (uint32_t i = 0; i < n->count; i++) {
		const struct ctf_range *r = &p->ranges[n->first + i];

		if (n->is_signed ? (int64_t)r->low <= (int64_t)tag && (int64_t)tag <= (int64_t)r->high
				 : r->low <= tag && tag <= r->high)
			return r->node;
	}
	return n->kind == CTF_OPTIONAL ? -1 : ctf_fail(c, "a variant's tag selects no option");
}

/* Move over one value, and keep what later values ask for. */
static int
ctf_walk(const struct ctf_plan *p, int32_t index, struct ctf_cursor *c)
{
	const struct ctf_node *n = &p->nodes[index];
	int32_t option;

	if (ctf_align(c, n->align))
		return -1;
	if (n->fixed >= 0)
		return ctf_skip(c, (uint64_t)n->fixed);
	switch (n->kind) {
	case CTF_INTEGER:
	case CTF_VARINT:
		return ctf_walk_integer(n, c);
	case CTF_STRING:
		return ctf_walk_string(n, c);
	case CTF_FLOAT:
		return ctf_skip(c, n->size);
	case CTF_STRUCT:
		if (ctf_spend(c, n->count))
			return -1;
		for (uint32_t i = 0; i < n->count; i++)
			if (ctf_walk(p, p->members[n->first + i], c))
				return -1;
		return 0;
	case CTF_VARIANT:
	case CTF_OPTIONAL:
		option = ctf_option(p, n, c);
		return option >= 0 ? ctf_walk(p, option, c) : n->kind == CTF_OPTIONAL ? 0
										      : -1;
	default:
		return ctf_walk_elements(p, n, c);
	}
}

/* ---- events ---- */

static inline const struct ctf_event *
ctf_find_event(const struct ctf_stream *s, uint64_t id)
{
	uint32_t low = 0, high = s->n_events;

	/* Ids usually count from 0 without a gap. */
	if (CTF_LIKELY(id < high && s->events[id].id == id))
		return &s->events[id];
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (s->events[middle].id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low < s->n_events && s->events[low].id == id ? &s->events[low] : NULL;
}

/* Of packed little-endian headers: bits of a short one, and the id that says it is extended. */
#define CTF_SHORT_BITS(is_large) ((is_large) ? 48u : 32u)
#define CTF_TOP_ID(is_large) ((is_large) ? 65535u : 31u)

/* The id and short time of the header at `p`, which has all its bytes. */
static inline void
ctf_load_short(const uint8_t *p, int is_large, uint32_t *id, uint32_t *time)
{
	uint16_t tag;

	if (is_large) {
		memcpy(&tag, p, 2);
		memcpy(time, p + 2, 4);
		*id = tag;
	} else {
		memcpy(time, p, 4);
		*id = *time & 31;
		*time >>= 5;
	}
}

/*
 * Move over an event with a short header and a fixed size, by far the most
 * frequent: 1. Or 0, with nothing done: whatever it is, or is wrong, is found
 * by walking the tree of its types.
 */
static inline __attribute__((always_inline)) int
ctf_next_short(const struct ctf_stream *s, struct ctf_cursor *c, struct ctf_record *r, const int is_large)
{
	uint64_t start = (c->pos + s->header_align - 1) & ~(uint64_t)(s->header_align - 1);
	uint64_t begin = start + CTF_SHORT_BITS(is_large), ticks = c->ticks;
	uint64_t mask = is_large ? UINT32_MAX : (1u << 27) - 1;
	const struct ctf_event *e;
	uint32_t id, time;

	if (CTF_UNLIKELY(begin > c->end))
		return 0;
	ctf_load_short(ctf_at(c, start), is_large, &id, &time);
	/* Where the next one begins does not wait for these loads if the processor guesses the branch. */
	if (!c->last || id != c->last_id) {
		if (CTF_UNLIKELY(id >= CTF_TOP_ID(is_large) - s->has_holes || id >= s->n_events))
			return 0;
		e = &s->events[id];
		if (CTF_UNLIKELY(e->id != id))
			return 0;
		c->last = e;
		c->last_id = id;
		c->last_fixed = (uint64_t)e->fixed;
	}
	/* A size of -1, for one that varies, is larger than any room as well. */
	if (CTF_UNLIKELY(c->last_fixed > c->end - begin))
		return 0;
	ticks = (ticks & ~mask) + (time < (ticks & mask) ? mask + 1 : 0) + time;
	if (CTF_UNLIKELY(ticks > s->clock.max_ticks))
		return 0;
	c->ticks = r->ticks = ticks;
	c->pos = begin + c->last_fixed;
	r->begin = begin;
	r->event = c->last;
	return 1;
}

/* A packed, little-endian header: 1. Or 0, with nothing done: a hole comes first, or the content ends. */
static inline int
ctf_packed_header(const struct ctf_stream *s, struct ctf_cursor *c)
{
	int is_large = s->header_kind == CTF_HEADER_LARGE;
	uint64_t start = (c->pos + s->header_align - 1) & ~(uint64_t)(s->header_align - 1);
	uint32_t size = CTF_SHORT_BITS(is_large), top = CTF_TOP_ID(is_large), id, time;
	const uint8_t *p;

	if (start > c->end || c->end - start < size)
		return 0;
	p = ctf_at(c, start);
	ctf_load_short(p, is_large, &id, &time);
	if (id < top - s->has_holes) {
		ctf_set_clock(c, time, is_large ? 32 : 27);
	} else {
		uint32_t tag_bytes = is_large ? 2 : 1;

		size = 8 * (tag_bytes + 12);
		if (id != top || c->end - start < size)
			return 0;
		memcpy(&id, p + tag_bytes, 4);
		memcpy(&c->ticks, p + tag_bytes + 4, 8);
	}
	c->event_id = id;
	c->pos = start + size;
	return 1;
}

static int
ctf_event_header(const struct ctf_plan *p, const struct ctf_stream *s, struct ctf_cursor *c)
{
	/* These kinds exist on little-endian hosts only. */
	if (s->header_kind != CTF_HEADER_ANY && ctf_packed_header(s, c))
		return 0;
	c->event_id = 0; /* if the header has none */
	return s->event_header < 0 ? 0 : ctf_walk(p, s->event_header, c);
}

static int
ctf_walk_parts(const struct ctf_plan *p, const struct ctf_stream *s, const struct ctf_event *e,
	       struct ctf_cursor *c)
{
	if (s->event_context >= 0 && ctf_walk(p, s->event_context, c))
		return -1;
	if (e->context >= 0 && ctf_walk(p, e->context, c))
		return -1;
	return e->fields >= 0 && ctf_walk(p, e->fields, c) ? -1 : 0;
}

static int
ctf_next_other(const struct ctf_plan *p, const struct ctf_stream *s, struct ctf_cursor *c, struct ctf_record *r)
{
	uint64_t start = c->pos;

	if (ctf_event_header(p, s, c))
		return -1;
	r->event = ctf_find_event(s, c->event_id);
	if (!r->event)
		return ctf_fail(c, "an event has an id that the metadata lacks");
	if (c->ticks > s->clock.max_ticks)
		return ctf_fail(c, "a time is beyond the range of 64-bit nanoseconds");
	r->ticks = c->ticks;
	r->begin = c->pos;
	if (r->event->fixed >= 0)
		return ctf_skip(c, (uint64_t)r->event->fixed);
	if (ctf_walk_parts(p, s, r->event, c))
		return -1;
	return CTF_UNLIKELY(c->pos == start) ? ctf_fail(c, "an event without a bit: there is no end of them") : 0;
}

/* Move over the next event. The cursor is before its end, and moves. */
static inline __attribute__((always_inline)) int
ctf_next(const struct ctf_plan *p, const struct ctf_stream *s, struct ctf_cursor *c, struct ctf_record *r,
	 const int kind)
{
	/* Nobody else sees the caller's own: they can stay in registers. */
	struct ctf_cursor cursor;
	struct ctf_record record;
	int failed;

	if (kind != CTF_HEADER_ANY && CTF_LIKELY(ctf_next_short(s, c, r, kind == CTF_HEADER_LARGE)))
		return 0;
	cursor = *c;
	failed = ctf_next_other(p, s, &cursor, &record);
	*c = cursor;
	*r = record;
	return failed;
}

static int
ctf_next_event(const struct ctf_plan *p, const struct ctf_stream *s, struct ctf_cursor *c, struct ctf_record *r)
{
	switch (s->header_kind) {
	case CTF_HEADER_COMPACT:
		return ctf_next(p, s, c, r, CTF_HEADER_COMPACT);
	case CTF_HEADER_LARGE:
		return ctf_next(p, s, c, r, CTF_HEADER_LARGE);
	default:
		return ctf_next(p, s, c, r, CTF_HEADER_ANY);
	}
}

static inline __attribute__((always_inline)) int
ctf_count_kind(const struct ctf_plan *p, const struct ctf_stream *restrict s, struct ctf_cursor *restrict c,
	       uint64_t *restrict counts, const int kind)
{
	struct ctf_cursor at = *c;
	struct ctf_record r;
	int failed = 0;

	while (at.pos < at.end) {
		failed = ctf_next(p, s, &at, &r, kind);
		if (CTF_UNLIKELY(failed))
			break;
		counts[r.event->index]++;
	}
	*c = at;
	return failed;
}

/* Walk to the end; counts[event->index] += 1 for each event. One loop for each kind of header. */
static int
ctf_count_events(const struct ctf_plan *p, const struct ctf_stream *s, struct ctf_cursor *c, uint64_t *counts)
{
	switch (s->header_kind) {
	case CTF_HEADER_COMPACT:
		return ctf_count_kind(p, s, c, counts, CTF_HEADER_COMPACT);
	case CTF_HEADER_LARGE:
		return ctf_count_kind(p, s, c, counts, CTF_HEADER_LARGE);
	default:
		return ctf_count_kind(p, s, c, counts, CTF_HEADER_ANY);
	}
}

/*
 * Walk to the end as ctf_count_events does, and see that no time is before the one
 * that precedes it, or after `last`. Returns how many events, or -1.
 */
static int64_t
ctf_check_events(const struct ctf_plan *p, const struct ctf_stream *s, struct ctf_cursor *c, uint64_t last)
{
	struct ctf_record r;
	uint64_t before = c->ticks;
	int64_t n = 0;

	for (; c->pos < c->end; n++) {
		if (ctf_next_event(p, s, c, &r))
			return -1;
		if (r.ticks < before || r.ticks > last)
			return ctf_fail(c, "a time is outside its packet, or goes back");
		before = r.ticks;
	}
	return n;
}

/* Spreads short texts over a table; not meant against somebody who chooses them. */
static uint32_t
ctf_hash(const void *bytes, uint64_t length)
{
	uint64_t hash = length, word;
	const uint8_t *at = (const uint8_t *)bytes;

	for (; length >= 8; length -= 8, at += 8) {
		memcpy(&word, at, 8);
		hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
	}
	for (word = 0; length; length--)
		word = word << 8 | *at++;
	hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
	return (uint32_t)(hash >> 40);
}

/* ---- columns ---- */

/* A step through an event whose size varies, or whose values are not on bytes, on the way to its row. */
enum ctf_step {
	CTF_STEP_ALIGN, /* to the structure `node` */
	CTF_STEP_SKIP,
	CTF_STEP_STORE, /* of fixed size */
	CTF_STEP_TEXT,  /* copied to the heap, up to a NUL: in the row is a ctf_reference */
	CTF_STEP_BYTES, /* the same, all of it */
	CTF_STEP_OBJECT /* the caller's: not for ctf_add_cells() */
};

struct ctf_cell {
	int32_t node;
	uint8_t step;
};

/*
 * The same for an event on a little-endian host that begins with a short header, all of whose values are whole bytes
 * that need no alignment: walked over and written in one go.
 */
enum ctf_move {
	CTF_MOVE_COPY,  /* `size` bytes as they are */
	CTF_MOVE_BOOL,
	CTF_MOVE_SKIP,
	CTF_MOVE_KEEP,  /* a number of `size` bytes, to `slot`; and to the row, if `to` is not 0 */
	CTF_MOVE_TEXT,  /* up to a NUL, as a ctf_reference */
	CTF_MOVE_MANY,  /* elements of `size` bytes, as many as `slot` says, or `length` if there is none */
	CTF_MOVE_CHARS, /* the same, text up to a NUL */
};

struct ctf_op {
	uint8_t move;
	uint32_t size, to;
	int32_t slot;
	uint64_t length;
};

/* Bytes that are not in the row. */
struct ctf_reference {
	const uint8_t *at;
	uint64_t size;
};

/* Where the rows of one event class go. Each row begins with i64 ns, i32 cpu. */
struct ctf_rows {
	uint8_t *next;
	uint64_t room;               /* rows */
	uint32_t row_size;
	uint8_t is_wanted;           /* if so, the caller is asked when there is no room */
	const struct ctf_copy *copies;
	uint32_t n_copies;
	const struct ctf_cell *cells; /* instead of copies, or NULL */
	uint32_t n_cells;
	const struct ctf_op *ops;     /* do what cells do, where they can; or NULL */
	uint32_t n_ops;
	uint8_t *heap;               /* for what rows refer to; bytes there stay where they are */
	uint64_t heap_room;
};

#define CTF_ROW_PREFIX 12
#define CTF_SLACK 16 /* bytes behind every heap, and behind what is gathered from it: short values without a call */

/* The usual sizes without a call. */
static inline void
ctf_copy_bytes(uint8_t *to, const uint8_t *from, uint32_t size)
{
	if (size == 8) {
		memcpy(to, from, 8);
	} else if (size == 4) {
		memcpy(to, from, 4);
	} else if (size > 8 && size <= 16) {
		memcpy(to, from, 8);
		memcpy(to + size - 8, from + size - 8, 8);
	} else if (size > 16 && size <= 32) {
		memcpy(to, from, 16);
		memcpy(to + size - 16, from + size - 16, 16);
	} else {
		memcpy(to, from, size);
	}
}

/* Append a record to rows that have room for it. */
static inline void
ctf_add_row(struct ctf_rows *rows, const uint8_t *from, int64_t time_ns, int32_t cpu)
{
	memcpy(rows->next, &time_ns, 8);
	memcpy(rows->next + 8, &cpu, 4);
	for (uint32_t i = 0; i < rows->n_copies; i++) {
		const struct ctf_copy *copy = &rows->copies[i];

		if (copy->is_bool)
			rows->next[copy->to] = from[copy->from] != 0;
		else
			ctf_copy_bytes(rows->next + copy->to, from + copy->from, copy->size);
	}
	rows->next += rows->row_size;
	rows->room--;
}

/* Write a value of fixed size as the host keeps it; returns where it ends, or NULL. */
static uint8_t *
ctf_store(const struct ctf_plan *p, int32_t index, struct ctf_cursor *c, uint8_t *to)
{
	const struct ctf_node *n = &p->nodes[index];
	uint64_t value;
	uint32_t bytes;

	if (ctf_align(c, n->align))
		return NULL;
	switch (n->kind) {
	case CTF_STRUCT:
		if (ctf_spend(c, n->count))
			return NULL;
		for (uint32_t i = 0; i < n->count && to; i++)
			to = ctf_store(p, p->members[n->first + i], c, to);
		return to;
	case CTF_ARRAY:
		if (ctf_spend(c, n->length))
			return NULL;
		for (uint64_t i = 0; i < n->length && to; i++)
			to = ctf_store(p, (int32_t)n->first, c, to);
		return to;
	default:
		if (ctf_number(c, n, &value))
			return NULL;
		if (n->slot >= 0)
			c->slots[n->slot] = value;
		bytes = n->size <= 8 ? 1 : n->size <= 16 && n->kind != CTF_FLOAT ? 2
				   : n->size <= 32                               ? 4
										 : 8;
		value = n->is_bool ? value != 0 : value;
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
		value <<= 64 - 8 * bytes;
#endif
		ctf_copy_bytes(to, (const uint8_t *)&value, bytes);
		return to + bytes;
	}
}

/* Bytes that a value of text or bytes has at the cursor, which moves over it; -1 if it is damaged. */
static inline int64_t
ctf_take_bytes(const struct ctf_plan *p, const struct ctf_node *n, struct ctf_cursor *c, int is_text)
{
	const uint8_t *start = ctf_at(c, c->pos), *nul;
	uint64_t size;
	int64_t text;

	if (n->kind == CTF_STRING) {
		text = ctf_string_length(n, c);
		if (text < 0)
			return ctf_fail(c, "a string has no end");
		c->pos += 8 * ((uint64_t)text + ctf_unit(n->encoding));
		return text;
	}
	if (ctf_length(p, n, c, &size))
		return -1;
	size *= p->nodes[n->first].size >> 3;
	c->pos += 8 * size;
	if (!is_text)
		return (int64_t)size;
	if (n->encoding == CTF_UTF8) {
		nul = (const uint8_t *)memchr(start, 0, size);
		return nul ? nul - start : (int64_t)size;
	}
	text = ctf_wide_nul(start, size, ctf_unit(n->encoding));
	return text < 0 ? (int64_t)size : text;
}

/* Copy a value to the heap, which has room for it, and write to the row where it is. */
static inline int
ctf_refer(const struct ctf_plan *p, const struct ctf_cell *cell, struct ctf_cursor *c, struct ctf_rows *rows,
	  uint8_t *to)
{
	const struct ctf_node *n = &p->nodes[cell->node];
	struct ctf_reference reference = {rows->heap, 0};
	const uint8_t *start;
	int64_t size;

	if (ctf_align(c, n->align))
		return -1;
	start = ctf_at(c, c->pos);
	size = ctf_take_bytes(p, n, c, cell->step == CTF_STEP_TEXT);
	if (size < 0)
		return -1;
	reference.size = (uint64_t)size;
	if (reference.size > rows->heap_room)
		return ctf_fail(c, "the packet changed while it was read");
	memcpy(rows->heap, start, reference.size);
	rows->heap += reference.size;
	rows->heap_room -= reference.size;
	memcpy(to, &reference, sizeof(reference));
	return 0;
}

/* The same as ctf_add_row, by cells, of the event that `c` is at; its bytes were walked over before. */
static int
ctf_add_cells(const struct ctf_plan *p, struct ctf_rows *rows, struct ctf_cursor *c, int64_t time_ns, int32_t cpu)
{
	uint8_t *to = rows->next + CTF_ROW_PREFIX;

	memcpy(rows->next, &time_ns, 8);
	memcpy(rows->next + 8, &cpu, 4);
	for (uint32_t i = 0; i < rows->n_cells; i++) {
		const struct ctf_cell *cell = &rows->cells[i];

		switch (cell->step) {
		case CTF_STEP_ALIGN:
			if (ctf_align(c, p->nodes[cell->node].align))
				return -1;
			break;
		case CTF_STEP_SKIP:
			if (ctf_walk(p, cell->node, c))
				return -1;
			break;
		case CTF_STEP_STORE:
			to = ctf_store(p, cell->node, c, to);
			if (!to)
				return -1;
			break;
		default:
			if (ctf_refer(p, cell, c, rows, to))
				return -1;
			to += sizeof(struct ctf_reference);
		}
	}
	rows->next += rows->row_size;
	rows->room--;
	return 0;
}

/* `size` bytes of those from `from` to `end` to the heap; `to` refers to them. 1, or 0 if there is no room. */
static inline int
ctf_refer_bytes(uint8_t **heap, const uint8_t *heap_end, const uint8_t *from, const uint8_t *end, uint64_t size,
		uint8_t *to)
{
	struct ctf_reference reference = {*heap, size};

	if (CTF_UNLIKELY((uint64_t)(heap_end - *heap) < size))
		return 0;
	if (CTF_LIKELY(size <= CTF_SLACK && (uint64_t)(end - from) >= CTF_SLACK))
		memcpy(*heap, from, CTF_SLACK);
	else
		memcpy(*heap, from, size);
	*heap += size;
	memcpy(to, &reference, sizeof(reference));
	return 1;
}

/* The first NUL of `room` bytes, or NULL: most texts are short, and need no call. */
static inline const uint8_t *
ctf_find_nul(const uint8_t *from, uint64_t room)
{
	const uint8_t *at = from, *end = from + (room < 32 ? room : 32);
	uint64_t word, zeros;

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	for (; end - at >= 8; at += 8) {
		memcpy(&word, at, 8);
		zeros = (word - UINT64_C(0x0101010101010101)) & ~word & UINT64_C(0x8080808080808080);
		if (zeros)
			return at + (__builtin_ctzll(zeros) >> 3);
	}
#endif
	return (const uint8_t *)memchr(at, 0, room - (uint64_t)(at - from));
}

/* Do one op at `from`. Where the next one begins, or NULL: it does not fit. */
static inline __attribute__((always_inline)) const uint8_t *
ctf_do(const struct ctf_op *op, struct ctf_cursor *c, const uint8_t *from, const uint8_t *end, uint8_t *row,
       uint8_t **heap, const uint8_t *heap_end)
{
	uint64_t room = (uint64_t)(end - from), size = op->size, value = 0;
	const uint8_t *nul;

	switch (op->move) {
	case CTF_MOVE_TEXT:
		nul = ctf_find_nul(from, room);
		if (!nul || !ctf_refer_bytes(heap, heap_end, from, end, (uint64_t)(nul - from), row + op->to))
			return NULL;
		return nul + 1;
	case CTF_MOVE_MANY:
	case CTF_MOVE_CHARS:
		value = op->slot >= 0 ? c->slots[op->slot] : op->length;
		if (value > room / size)
			return NULL;
		size *= value;
		nul = op->move == CTF_MOVE_CHARS ? (const uint8_t *)memchr(from, 0, size) : NULL;
		if (!ctf_refer_bytes(heap, heap_end, from, end, nul ? (uint64_t)(nul - from) : size, row + op->to))
			return NULL;
		return from + size;
	default:
		break;
	}
	if (CTF_UNLIKELY(room < size))
		return NULL;
	if (op->move == CTF_MOVE_COPY) {
		ctf_copy_bytes(row + op->to, from, op->size);
	} else if (op->move == CTF_MOVE_BOOL) {
		row[op->to] = *from != 0;
	} else if (op->move == CTF_MOVE_KEEP) {
		memcpy(&value, from, size);
		c->slots[op->slot] = value;
		if (op->to)
			memcpy(row + op->to, from, size);
	}
	return from + size;
}

/* What ctf_fill_run() goes through: bytes of a packet's content from c->data on. */
struct ctf_run {
	const uint8_t *data, *end;
	uint64_t ahead; /* bytes of the packet before them, for alignment */
};

/* One event at `from`, after its header: its row, if there is room for that. Where it ends, or NULL: nothing is done. */
static inline __attribute__((always_inline)) const uint8_t *
ctf_fill_one(struct ctf_cursor *c, struct ctf_rows *out, const uint8_t *from, const uint8_t *end, int64_t time_ns,
	     int32_t cpu)
{
	uint8_t *heap = out->heap, *row = out->next;
	const uint8_t *heap_end = heap + out->heap_room;

	for (const struct ctf_op *op = out->ops, *last = op + out->n_ops; op < last; op++) {
		from = ctf_do(op, c, from, end, row, &heap, heap_end);
		if (CTF_UNLIKELY(!from))
			return NULL;
	}
	memcpy(row, &time_ns, 8);
	memcpy(row + 8, &cpu, 4);
	out->next = row + out->row_size;
	out->room--;
	out->heap_room = (uint64_t)(heap_end - heap);
	out->heap = heap;
	return from;
}

/*
 * The next events, as long as they are of such a kind and wanted, to their rows. What stops it, or is wrong, is found
 * by walking the tree of its types. Where the next event begins depends on few instructions of this one: the length
 * of its texts, and sums.
 */
static inline __attribute__((always_inline)) void
ctf_fill_run(const struct ctf_stream *s, struct ctf_cursor *c, struct ctf_rows *rows, int32_t cpu, const int is_large)
{
	const uint64_t mask = is_large ? UINT32_MAX : (1u << 27) - 1, align = s->header_align >> 3;
	const uint32_t header = CTF_SHORT_BITS(is_large) >> 3, most = CTF_TOP_ID(is_large) - s->has_holes;
	const struct ctf_run run = {c->data, ctf_at(c, c->end), c->origin >> 3};
	const uint8_t *at = ctf_at(c, c->pos), *from;
	uint64_t ticks = c->ticks, now;
	uint32_t id, time, last = UINT32_MAX;
	struct ctf_rows *out = NULL;

	for (;; at = from, ticks = now) {
		from = at;
		if (align > 1)
			from += -((uint64_t)(at - run.data) + run.ahead) & (align - 1);
		if (CTF_UNLIKELY((int64_t)(run.end - from) < (int64_t)header))
			break;
		ctf_load_short(from, is_large, &id, &time);
		if (id != last) {
			if (id >= most || id >= s->n_events || s->events[id].id != id)
				break;
			out = &rows[s->events[id].index];
			if (!out->ops || !out->heap)
				break;
			last = id;
		}
		now = (ticks & ~mask) + (time < (ticks & mask) ? mask + 1 : 0) + time;
		if (CTF_UNLIKELY(!out->room || now > s->clock.max_ticks))
			break;
		from = ctf_fill_one(c, out, from + header, run.end, ctf_time_ns(&s->clock, now), cpu);
		if (CTF_UNLIKELY(!from))
			break;
	}
	c->ticks = ticks;
	c->pos = c->origin + 8 * (uint64_t)(at - run.data);
}

/* Bytes of the heap that the rows of an event take at most. */
static inline uint64_t
ctf_heap_need(const struct ctf_cursor *after, const struct ctf_record *r)
{
	return ((after->pos - r->begin) >> 3) + 1;
}

/* Add the event before the cursor: 0. Or 1, with nothing done: the heap is too small; or -1. */
static int
ctf_add_event(const struct ctf_plan *p, struct ctf_rows *rows, struct ctf_cursor *after, const struct ctf_record *r,
	      int64_t time_ns, int32_t cpu)
{
	struct ctf_cursor c = *after;
	int failed;

	if (CTF_UNLIKELY(rows->heap_room < ctf_heap_need(after, r)))
		return 1;
	c.pos = r->begin;
	failed = ctf_add_cells(p, rows, &c, time_ns, cpu);
	ctf_take_budget(after, &c);
	after->error = c.error;
	return failed;
}

/* A column of rows. One of references has `ends`; `to` is for their bytes then. */
struct ctf_pick {
	uint32_t at, size; /* in a row, in bytes */
	uint8_t *to;
	int64_t *ends;     /* ends[0] = 0, and where each value ends among all */
};

#define CTF_PICK_ROWS 256 /* stay in a processor's first cache while each column is picked from them */

static inline void
ctf_pick_sized(const uint8_t *from, uint64_t n, uint32_t row_size, const uint32_t size, uint8_t *to)
{
	for (; n; n--, from += row_size, to += size)
		memcpy(to, from, size);
}

static inline void
ctf_pick_ends(const uint8_t *from, uint64_t n, uint32_t row_size, int64_t *ends)
{
	struct ctf_reference reference;
	int64_t end = *ends;

	for (; n; n--, from += row_size) {
		memcpy(&reference, from, sizeof(reference));
		end += (int64_t)reference.size;
		*++ends = end;
	}
}

static inline void
ctf_pick_some(const struct ctf_pick *pick, const uint8_t *from, uint64_t n, uint32_t row_size, uint8_t *to)
{
	switch (pick->size) {
	case 8:
		ctf_pick_sized(from, n, row_size, 8, to);
		break;
	case 4:
		ctf_pick_sized(from, n, row_size, 4, to);
		break;
	case 2:
		ctf_pick_sized(from, n, row_size, 2, to);
		break;
	case 1:
		ctf_pick_sized(from, n, row_size, 1, to);
		break;
	default:
		ctf_pick_sized(from, n, row_size, pick->size, to);
	}
}

/* Columns of rows, apart from the bytes that references refer to. */
static void
ctf_pick_columns(const uint8_t *rows, uint64_t n, uint32_t row_size, const struct ctf_pick *picks, uint32_t n_picks)
{
	for (uint64_t start = 0; start < n; start += CTF_PICK_ROWS) {
		const uint8_t *from = rows + start * row_size;
		uint64_t some = n - start < CTF_PICK_ROWS ? n - start : CTF_PICK_ROWS;

		for (uint32_t i = 0; i < n_picks; i++)
			if (picks[i].ends)
				ctf_pick_ends(from + picks[i].at, some, row_size, picks[i].ends + start);
			else
				ctf_pick_some(&picks[i], from + picks[i].at, some, row_size, picks[i].to + start * picks[i].size);
	}
}

/* What references in rows refer to, one after another. */
static void
ctf_gather(const uint8_t *rows, uint64_t n, uint32_t row_size, uint8_t *to)
{
	struct ctf_reference reference;

	for (; n; n--, rows += row_size) {
		memcpy(&reference, rows, sizeof(reference));
		if (CTF_LIKELY(reference.size <= CTF_SLACK))
			memcpy(to, reference.at, CTF_SLACK);
		else
			memcpy(to, reference.at, reference.size);
		to += reference.size;
	}
}

/* Bytes of the longest one, and of all. */
static uint64_t
ctf_longest(const uint8_t *rows, uint64_t n, uint32_t row_size, uint64_t *total)
{
	struct ctf_reference reference;
	uint64_t longest = 0, sum = 0;

	for (; n; n--, rows += row_size) {
		memcpy(&reference, rows, sizeof(reference));
		longest = reference.size > longest ? reference.size : longest;
		sum += reference.size;
	}
	*total = sum;
	return longest;
}

/* The values, each `width` bytes apart, which no value is longer than; the rest is zeros, and was so before. */
static void
ctf_spread(const uint8_t *rows, uint64_t n, uint32_t row_size, uint64_t width, uint8_t *to)
{
	struct ctf_reference reference;

	for (; n; n--, rows += row_size, to += width) {
		memcpy(&reference, rows, sizeof(reference));
		memcpy(to, reference.at, reference.size);
	}
}

/*
 * Whether `size` bytes are UTF-8 as everybody else has it: no surrogates, no
 * C0 80 for a NUL, nothing in more bytes than it needs.
 */
static int
ctf_is_utf8(const uint8_t *text, uint64_t size)
{
	const uint8_t *end = text + size;
	uint64_t word;

	while (text < end) {
		uint32_t more, low = 0x80, high = 0xbf;

		if (end - text >= 8) {
			memcpy(&word, text, 8);
			if (!(word & UINT64_C(0x8080808080808080))) {
				text += 8;
				continue;
			}
		}
		if (*text < 0x80) {
			text++;
			continue;
		}
		if (*text < 0xc2 || *text > 0xf4)
			return 0;
		more = *text < 0xe0 ? 1 : *text < 0xf0 ? 2
						       : 3;
		if (*text == 0xe0)
			low = 0xa0;
		else if (*text == 0xed)
			high = 0x9f;
		else if (*text == 0xf0)
			low = 0x90;
		else if (*text == 0xf4)
			high = 0x8f;
		if ((uint64_t)(end - text) <= more || text[1] < low || text[1] > high)
			return 0;
		for (uint32_t i = 2; i <= more; i++)
			if ((text[i] & 0xc0) != 0x80)
				return 0;
		text += more + 1;
	}
	return 1;
}

/* Whether `size` bytes are all ASCII. */
static int
ctf_is_ascii(const uint8_t *text, uint64_t size)
{
	uint64_t word, seen = 0;

	for (; size >= 8; size -= 8, text += 8) {
		memcpy(&word, text, 8);
		seen |= word;
	}
	while (size)
		seen |= text[--size];
	return !(seen & UINT64_C(0x8080808080808080));
}

/* Whether what references in rows refer to is. */
static int
ctf_refer_to_utf8(const uint8_t *rows, uint64_t n, uint32_t row_size)
{
	struct ctf_reference reference;

	for (; n; n--, rows += row_size) {
		memcpy(&reference, rows, sizeof(reference));
		if (!ctf_is_utf8(reference.at, reference.size))
			return 0;
	}
	return 1;
}

/* Whether all values are: one for itself each. */
static int
ctf_are_utf8(const uint8_t *data, const int64_t *offsets, uint64_t n)
{
	if (CTF_LIKELY(ctf_is_ascii(data, (uint64_t)offsets[n])))
		return 1;
	for (uint64_t i = 0; i < n; i++)
		if (!ctf_is_utf8(data + offsets[i], (uint64_t)(offsets[i + 1] - offsets[i])))
			return 0;
	return 1;
}

static inline __attribute__((always_inline)) int
ctf_fill_kind(const struct ctf_plan *p, const struct ctf_stream *restrict s, struct ctf_cursor *restrict c,
	      struct ctf_record *restrict asked, struct ctf_rows *restrict rows, int32_t cpu, const int kind)
{
	struct ctf_cursor at = *c;
	struct ctf_record r;
	int result = 0, has_ops = 0;

	for (uint32_t i = 0; i < s->n_events && kind != CTF_HEADER_ANY; i++)
		has_ops |= rows[s->events[i].index].ops != NULL;
	while (at.pos < at.end) {
		struct ctf_rows *out;

		if (has_ops && !(at.pos & 7))
			ctf_fill_run(s, &at, rows, cpu, kind == CTF_HEADER_LARGE);
		if (at.pos >= at.end)
			break;
		result = ctf_next(p, s, &at, &r, kind);
		if (CTF_UNLIKELY(result))
			break;
		out = &rows[r.event->index];
		if (CTF_LIKELY(out->room && !out->cells)) {
			ctf_add_row(out, ctf_at(&at, r.begin), ctf_time_ns(&s->clock, r.ticks), cpu);
			continue;
		}
		if (out->room) {
			result = ctf_add_event(p, out, &at, &r, ctf_time_ns(&s->clock, r.ticks), cpu);
			if (!result)
				continue;
			*asked = r;
			break;
		}
		if (out->is_wanted) {
			*asked = r;
			result = 1;
			break;
		}
	}
	*c = at;
	return result;
}

/*
 * Walk on, and add a row for every event to rows[event->index].
 *
 * 0: at the end. 1: *asked is wanted, but there is no room for it or for what
 * it refers to; the cursor is after it. -1: the packet is damaged.
 */
static int
ctf_fill_rows(const struct ctf_plan *p, const struct ctf_stream *s, struct ctf_cursor *c, struct ctf_record *asked,
	      struct ctf_rows *rows, int32_t cpu)
{
	switch (s->header_kind) {
	case CTF_HEADER_COMPACT:
		return ctf_fill_kind(p, s, c, asked, rows, cpu, CTF_HEADER_COMPACT);
	case CTF_HEADER_LARGE:
		return ctf_fill_kind(p, s, c, asked, rows, cpu, CTF_HEADER_LARGE);
	default:
		return ctf_fill_kind(p, s, c, asked, rows, cpu, CTF_HEADER_ANY);
	}
}

/*
 * Whether all events are `event` and lie one as far from the next as every other: how many they are; and where the
 * fields of the first begin, and how far apart they are. 0 if not, or if there are none; -1: the packet is damaged.
 */
static int64_t
ctf_regular_events(const struct ctf_plan *p, const struct ctf_stream *s, struct ctf_cursor *c, uint32_t event,
		   uint64_t *first, uint64_t *stride)
{
	struct ctf_record r;
	uint64_t before = 0;
	int64_t n = 0;

	for (*stride = 0; c->pos < c->end; n++) {
		if (ctf_next_event(p, s, c, &r))
			return -1;
		if (r.event->index != event)
			return 0;
		if (!n)
			*first = r.begin;
		else if (n == 1)
			*stride = r.begin - before;
		else if (r.begin - before != *stride)
			return 0;
		before = r.begin;
	}
	return n;
}

/* Where an event is in its packet: from its header, which is aligned to `align`, to its end. In bits. */
struct ctf_spot {
	uint64_t ticks, start, end;
	int64_t time_ns;
	uint32_t index, zero;
};

/* Walk to the end, or over `room` events; how many there were, or -1. */
static int64_t
ctf_list_events(const struct ctf_plan *p, const struct ctf_stream *s, struct ctf_cursor *c, uint64_t align,
		struct ctf_spot *spots, uint64_t room)
{
	struct ctf_record r;
	uint64_t n = 0, start;

	for (; c->pos < c->end && n < room; n++) {
		start = (c->pos + align - 1) & ~(align - 1);
		if (ctf_next_event(p, s, c, &r))
			return -1;
		spots[n] = (struct ctf_spot){r.ticks, start, c->pos, ctf_time_ns(&s->clock, r.ticks), r.event->index, 0};
	}
	return (int64_t)n;
}

/* ---- merging rows by time ---- */

struct ctf_piece {
	const uint8_t *begin, *end;
};

/* Pieces of rows one after another, in order of time. Ends with a piece of no rows. */
struct ctf_lane {
	const uint8_t *next;            /* row */
	const struct ctf_piece *piece;  /* it is in */
	int64_t time;                   /* of it */
};

/* Of equal times, the lane that comes first in memory is first. */
static inline int
ctf_lane_precedes(const struct ctf_lane *a, const struct ctf_lane *b)
{
	return a->time < b->time || (a->time == b->time && a < b);
}

static void
ctf_sift_down(struct ctf_lane **heap, uint32_t n, uint32_t at)
{
	for (;;) {
		uint32_t child = 2 * at + 1;
		struct ctf_lane *lane = heap[at];

		if (child >= n)
			return;
		if (child + 1 < n && ctf_lane_precedes(heap[child + 1], heap[child]))
			child++;
		if (ctf_lane_precedes(lane, heap[child]))
			return;
		heap[at] = heap[child];
		heap[child] = lane;
		at = child;
	}
}

/* Copy the rows of the first lane that precede those of all others; 0 if it has no more. */
static inline int
ctf_merge_lane(struct ctf_lane *lane, const struct ctf_lane *rival, uint32_t row_size, uint8_t **to)
{
	const uint8_t *from = lane->next, *next = from, *end = lane->piece->end;

	do {
		next += row_size;
		if (next == end)
			break;
		memcpy(&lane->time, next, 8);
	} while (!rival || ctf_lane_precedes(lane, rival));
	memcpy(*to, from, (size_t)(next - from));
	*to += next - from;
	if (next == end) {
		next = (++lane->piece)->begin;
		if (next == lane->piece->end)
			return 0;
		memcpy(&lane->time, next, 8);
	}
	lane->next = next;
	return 1;
}

/* Rows of `n` lanes to `to`, by the i64 that each row begins with. `heap` points to the lanes in any order. */
static void
ctf_merge_rows(struct ctf_lane **heap, uint32_t n, uint32_t row_size, uint8_t *to)
{
	for (uint32_t i = n / 2; i-- > 0;)
		ctf_sift_down(heap, n, i);
	while (n) {
		const struct ctf_lane *rival = n > 1 ? heap[1] : NULL;

		if (n > 2 && ctf_lane_precedes(heap[2], rival))
			rival = heap[2];
		if (!ctf_merge_lane(heap[0], rival, row_size, &to))
			heap[0] = heap[--n];
		ctf_sift_down(heap, n, 0);
	}
}

#endif /* RINGBUF_DECODE_H */
