/*
 * text.h - the values of CTF events as text, the way babeltrace2 prints them. Pure C, no Python.
 *
 * Follows a plan and a cursor as decode.h does, over packets that were walked
 * once already. Functions return 0, or -1 with a reason in cursor->error.
 */
#ifndef RINGBUF_TEXT_H
#define RINGBUF_TEXT_H

#include "decode.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Text that grows at its end. That no more could be had, or is allowed, is remembered, and nothing is added then. */
struct ctf_text {
	char *data;
	size_t used, room;
	size_t limit; /* of `used`; 0: none */
	int is_short, is_over;
};

struct ctf_label {
	uint64_t low, high; /* in the enumeration's signedness */
	const char *text;   /* escaped, in quotes */
};

/* What the nodes of a plan are called. */
struct ctf_names {
	const char *const *members;      /* "NAME = ", as plan->members; NULL: not shown */
	const uint8_t *looks;            /* node: enum ctf_look */
	const uint32_t *first_label;     /* enumeration, bits: its labels; the next node's entry is their end */
	const struct ctf_label *labels;
};

/* How a value is printed that has several ways. */
enum ctf_look { CTF_LOOK_PLAIN,
		CTF_LOOK_TEXT,
		CTF_LOOK_BYTES,
		CTF_LOOK_ENUM,
		CTF_LOOK_FLAGS,
		CTF_LOOK_TRUTH };

/* Room for `size` more bytes, or NULL. */
static inline char *
ctf_text_room(struct ctf_text *t, size_t size)
{
	if (CTF_UNLIKELY(size > t->room - t->used)) {
		size_t room = 2 * t->room > t->used + size ? 2 * t->room : t->used + size + 4096;
		char *data;

		t->is_over |= t->limit && t->used + size > t->limit;
		if (t->is_over)
			return NULL;
		data = t->is_short ? NULL : (char *)realloc(t->data, room);

		if (!data) {
			t->is_short = 1;
			return NULL;
		}
		t->data = data;
		t->room = room;
	}
	return t->data + t->used;
}

static inline void
ctf_put(struct ctf_text *t, const char *text, size_t size)
{
	char *to = ctf_text_room(t, size);

	if (to) {
		memcpy(to, text, size);
		t->used += size;
	}
}

#define CTF_PUT(t, literal) ctf_put(t, literal, sizeof(literal) - 1)

/* A number with at least `digits` digits. */
static inline void
ctf_put_decimal(struct ctf_text *t, uint64_t value, int digits)
{
	char buffer[20], *at = buffer + sizeof(buffer);

	do {
		*--at = (char)('0' + value % 10);
		value /= 10;
		digits--;
	} while (value || digits > 0);
	ctf_put(t, at, (size_t)(buffer + sizeof(buffer) - at));
}

/* In base 2, 8 or 16; of a negative one, the digits that its size has. */
static void
ctf_put_digits(struct ctf_text *t, uint64_t value, uint32_t size, int base)
{
	char buffer[64], *at = buffer + sizeof(buffer);
	uint32_t bits = base == 16 ? 4 : base == 8 ? 3
						   : 1,
		 rounded = (size + bits - 1) / bits * bits;

	if (rounded < 64)
		value &= (UINT64_C(1) << rounded) - 1;
	do {
		*--at = "0123456789ABCDEF"[value & ((1u << bits) - 1)];
		value >>= bits;
	} while (value || (base == 2 && buffer + sizeof(buffer) - at < (int64_t)size));
	ctf_put(t, base == 16 ? "0x" : base == 8 ? "0"
						 : "0b",
		base == 8 ? 1 : 2);
	ctf_put(t, at, (size_t)(buffer + sizeof(buffer) - at));
}

static void
ctf_put_escaped_char(struct ctf_text *t, char c)
{
	static const char from[] = "\\'\"?\a\b\033\f\n\r\t\v", to[] = "\\'\"?abefnrtv";
	const char *found = strchr(from, c);

	CTF_PUT(t, "\\");
	if (found) {
		ctf_put(t, &to[found - from], 1);
	} else {
		char digits[2] = {"0123456789abcdef"[(c >> 4) & 15], "0123456789abcdef"[c & 15]};

		CTF_PUT(t, "x");
		ctf_put(t, digits, 2);
	}
}

static inline int
ctf_is_plain_char(char c)
{
	return (unsigned char)c >= 32 && c != 127 && c != '\\' && c != '\'' && c != '"' && c != '?';
}

/* In quotes, up to the first NUL. */
static void
ctf_put_quoted(struct ctf_text *t, const char *text, size_t size)
{
	CTF_PUT(t, "\"");
	while (size && *text) {
		size_t plain = 0;

		while (plain < size && ctf_is_plain_char(text[plain]))
			plain++;
		ctf_put(t, text, plain);
		text += plain;
		size -= plain;
		if (size && *text) {
			ctf_put_escaped_char(t, *text++);
			size--;
		}
	}
	CTF_PUT(t, "\"");
}

/* Appends a code point in UTF-8; one that is none as U+FFFD. */
static void
ctf_put_code_point(struct ctf_text *t, uint32_t code)
{
	char *to = ctf_text_room(t, 4);

	if (!to)
		return;
	if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
		code = 0xfffd;
	if (code < 0x80) {
		*to++ = (char)code;
	} else if (code < 0x800) {
		*to++ = (char)(0xc0 | code >> 6);
		*to++ = (char)(0x80 | (code & 63));
	} else if (code < 0x10000) {
		*to++ = (char)(0xe0 | code >> 12);
		*to++ = (char)(0x80 | (code >> 6 & 63));
		*to++ = (char)(0x80 | (code & 63));
	} else {
		*to++ = (char)(0xf0 | code >> 18);
		*to++ = (char)(0x80 | (code >> 12 & 63));
		*to++ = (char)(0x80 | (code >> 6 & 63));
		*to++ = (char)(0x80 | (code & 63));
	}
	t->used = (size_t)(to - t->data);
}

/* The code unit of UTF-16 or UTF-32 at `p`. */
static uint32_t
ctf_code_unit(const uint8_t *p, uint8_t encoding)
{
	switch (encoding) {
	case CTF_UTF16LE:
		return (uint32_t)p[0] | (uint32_t)p[1] << 8;
	case CTF_UTF16BE:
		return (uint32_t)p[1] | (uint32_t)p[0] << 8;
	case CTF_UTF32LE:
		return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
	default:
		return (uint32_t)p[3] | (uint32_t)p[2] << 8 | (uint32_t)p[1] << 16 | (uint32_t)p[0] << 24;
	}
}

/* As ctf_put_quoted, of text in UTF-16 or UTF-32. */
static void
ctf_put_wide(struct ctf_text *t, const uint8_t *text, size_t size, uint8_t encoding)
{
	uint32_t unit = ctf_unit(encoding);
	struct ctf_text narrow = {NULL, 0, 0, t->limit, 0, 0};

	for (size_t at = 0; size - at >= unit; at += unit) {
		uint32_t code = ctf_code_unit(text + at, encoding), next;

		if (!code)
			break;
		if (unit == 2 && code >= 0xd800 && code < 0xdc00 && size - at >= 4) {
			next = ctf_code_unit(text + at + 2, encoding);
			if (next >= 0xdc00 && next < 0xe000) {
				code = 0x10000 + ((code & 0x3ff) << 10 | (next & 0x3ff));
				at += 2;
			}
		}
		ctf_put_code_point(&narrow, code);
	}
	ctf_put_quoted(t, narrow.data, narrow.used);
	t->is_short |= narrow.is_short;
	t->is_over |= narrow.is_over;
	free(narrow.data);
}

static void
ctf_put_any_quoted(struct ctf_text *t, const uint8_t *text, size_t size, uint8_t encoding)
{
	if (encoding == CTF_UTF8)
		ctf_put_quoted(t, (const char *)text, size);
	else
		ctf_put_wide(t, text, size, encoding);
}

/* Which events are printed. */
struct ctf_selection {
	const char *const *prefixes; /* by event: what its line begins with; NULL: it is left out */
	int64_t begin, end;          /* earliest and latest time */
};

/* ---- values ---- */

static int ctf_put_value(const struct ctf_plan *p, const struct ctf_names *names, int32_t index, struct ctf_cursor *c,
			 struct ctf_text *t);

static void
ctf_put_float(struct ctf_text *t, uint64_t bits, uint32_t size)
{
	char *to = ctf_text_room(t, 40);
	uint32_t low = (uint32_t)bits;
	double wide;
	float narrow;

	memcpy(&wide, &bits, 8);
	memcpy(&narrow, &low, 4);
	if (to)
		t->used += (size_t)snprintf(to, 40, "%g", size <= 32 ? (double)narrow : wide);
}

static void
ctf_put_integer(const struct ctf_node *n, uint64_t value, struct ctf_text *t)
{
	if (n->base != 10) {
		ctf_put_digits(t, value, n->size, n->base);
	} else if (n->is_signed && (int64_t)value < 0) {
		CTF_PUT(t, "-");
		ctf_put_decimal(t, 0 - value, 1);
	} else {
		ctf_put_decimal(t, value, 1);
	}
}

/* Whether a label of an enumeration, or the name of some bits, is that of `value`. */
static inline int
ctf_has_label(const struct ctf_label *l, const struct ctf_node *n, uint64_t value, int are_flags)
{
	if (are_flags)
		return l->low < 64 && value >> l->low & (l->high - l->low < 63 ? (UINT64_C(2) << (l->high - l->low)) - 1 : ~UINT64_C(0));
	return n->is_signed ? (int64_t)l->low <= (int64_t)value && (int64_t)value <= (int64_t)l->high
			    : l->low <= value && value <= l->high;
}

/* Labels that fit, with commas; how many. A label that stands for several ranges is said once. */
static int
ctf_put_labels(const struct ctf_names *names, int32_t index, const struct ctf_node *n, uint64_t value,
	       struct ctf_text *t)
{
	int are_flags = names->looks[index] == CTF_LOOK_FLAGS, found = 0;
	const char *last = NULL;

	for (uint32_t i = names->first_label[index]; i < names->first_label[index + 1]; i++) {
		const struct ctf_label *l = &names->labels[i];

		if (l->text == last || !ctf_has_label(l, n, value, are_flags))
			continue;
		if (found++)
			CTF_PUT(t, ", ");
		last = l->text;
		ctf_put(t, last, strlen(last));
	}
	return found;
}

/* Puts braces around what was appended since `start`. */
static void
ctf_put_braces(struct ctf_text *t, size_t start)
{
	if (!ctf_text_room(t, 4))
		return;
	memmove(t->data + start + 2, t->data + start, t->used - start);
	memcpy(t->data + start, "{ ", 2);
	t->used += 2;
	CTF_PUT(t, " }");
}

static void
ctf_put_enum(const struct ctf_names *names, int32_t index, const struct ctf_node *n, uint64_t value,
	     struct ctf_text *t)
{
	size_t start;
	int found;

	CTF_PUT(t, "( ");
	start = t->used;
	found = ctf_put_labels(names, index, n, value, t);
	if (!found)
		CTF_PUT(t, "<unknown>");
	if (found > 1)
		ctf_put_braces(t, start);
	CTF_PUT(t, " : container = ");
	ctf_put_integer(n, value, t);
	CTF_PUT(t, " )");
}

static void
ctf_put_flags(const struct ctf_names *names, int32_t index, const struct ctf_node *n, uint64_t value,
	      struct ctf_text *t)
{
	size_t start;

	ctf_put_integer(n, value, t);
	CTF_PUT(t, " ");
	start = t->used;
	if (ctf_put_labels(names, index, n, value, t))
		ctf_put_braces(t, start);
	else if (!t->is_short)
		t->used--;
}

static int
ctf_put_number(const struct ctf_names *names, int32_t index, const struct ctf_node *n, struct ctf_cursor *c,
	       struct ctf_text *t)
{
	uint64_t value;

	if (ctf_number(c, n, &value))
		return -1;
	if (n->slot >= 0)
		c->slots[n->slot] = value;
	if (n->kind == CTF_FLOAT) {
		ctf_put_float(t, value, n->size);
		return 0;
	}
	switch (names->looks[index]) {
	case CTF_LOOK_TRUTH:
		ctf_put(t, value ? "true" : "false", value ? 4 : 5);
		break;
	case CTF_LOOK_ENUM:
		ctf_put_enum(names, index, n, value, t);
		break;
	case CTF_LOOK_FLAGS:
		ctf_put_flags(names, index, n, value, t);
		break;
	default:
		ctf_put_integer(n, value, t);
	}
	return 0;
}

static int
ctf_put_string(const struct ctf_node *n, struct ctf_cursor *c, struct ctf_text *t)
{
	int64_t length = ctf_string_length(n, c);

	if (length < 0)
		return ctf_fail(c, "a string has no end");
	ctf_put_any_quoted(t, ctf_at(c, c->pos), (size_t)length, n->encoding);
	c->pos += 8 * ((uint64_t)length + ctf_unit(n->encoding));
	return 0;
}

static void
ctf_put_bytes(struct ctf_text *t, const uint8_t *bytes, uint64_t size)
{
	CTF_PUT(t, "{ ");
	for (uint64_t i = 0; i < size; i++) {
		char digits[3] = {"0123456789abcdef"[bytes[i] >> 4], "0123456789abcdef"[bytes[i] & 15], ' '};

		ctf_put(t, digits, 3);
	}
	CTF_PUT(t, "}");
}

static int
ctf_put_struct(const struct ctf_plan *p, const struct ctf_names *names, const struct ctf_node *n,
	       struct ctf_cursor *c, struct ctf_text *t)
{
	const char *between = "{ ";

	if (ctf_spend(c, n->count))
		return -1;
	for (uint32_t i = 0; i < n->count; i++) {
		int32_t member = p->members[n->first + i];
		const char *name = names->members[n->first + i];

		if (!name) {
			if (ctf_walk(p, member, c))
				return -1;
			continue;
		}
		ctf_put(t, between, 2);
		ctf_put(t, name, strlen(name));
		if (ctf_put_value(p, names, member, c, t))
			return -1;
		between = ", ";
	}
	if (*between == '{')
		CTF_PUT(t, "{");
	CTF_PUT(t, " }");
	return 0;
}

static int
ctf_put_elements(const struct ctf_plan *p, const struct ctf_names *names, int32_t index, const struct ctf_node *n,
		 struct ctf_cursor *c, struct ctf_text *t)
{
	uint64_t length;

	if (ctf_length(p, n, c, &length))
		return -1;
	if (names->looks[index] == CTF_LOOK_TEXT) {
		ctf_put_any_quoted(t, ctf_at(c, c->pos), length, n->encoding);
		return ctf_skip(c, 8 * length);
	}
	if (names->looks[index] == CTF_LOOK_BYTES) {
		ctf_put_bytes(t, ctf_at(c, c->pos), length);
		return ctf_skip(c, 8 * length);
	}
	if (ctf_spend(c, length))
		return -1;
	CTF_PUT(t, "[");
	for (uint64_t i = 0; i < length && !t->is_over; i++) {
		ctf_put(t, ", [" + !i, (size_t)(3 - !i));
		ctf_put_decimal(t, i, 1);
		CTF_PUT(t, "] = ");
		if (ctf_put_value(p, names, (int32_t)n->first, c, t))
			return -1;
	}
	CTF_PUT(t, " ]");
	return 0;
}

static int
ctf_put_option(const struct ctf_plan *p, const struct ctf_names *names, const struct ctf_node *n,
	       struct ctf_cursor *c, struct ctf_text *t)
{
	int32_t option = ctf_option(p, n, c);

	if (option < 0 && n->kind == CTF_OPTIONAL) {
		CTF_PUT(t, "<none>");
		return 0;
	}
	CTF_PUT(t, "{ ");
	if (option < 0 || ctf_put_value(p, names, option, c, t))
		return -1;
	CTF_PUT(t, " }");
	return 0;
}

/* The value at the cursor, which moves over it. */
static int
ctf_put_value(const struct ctf_plan *p, const struct ctf_names *names, int32_t index, struct ctf_cursor *c,
	      struct ctf_text *t)
{
	const struct ctf_node *n = &p->nodes[index];

	if (ctf_align(c, n->align))
		return -1;
	switch (n->kind) {
	case CTF_INTEGER:
	case CTF_VARINT:
	case CTF_FLOAT:
		return ctf_put_number(names, index, n, c, t);
	case CTF_STRING:
		return ctf_put_string(n, c, t);
	case CTF_STRUCT:
		return ctf_put_struct(p, names, n, c, t);
	case CTF_VARIANT:
	case CTF_OPTIONAL:
		return ctf_put_option(p, names, n, c, t);
	default:
		return ctf_put_elements(p, names, index, n, c, t);
	}
}

/* ---- lines ---- */

/* A line of a lane's text, which follows the one before. Begins as a row does: see ctf_merge_rows. */
struct ctf_line {
	int64_t time;
	uint32_t lane, size;
};

static int
ctf_put_scope(const struct ctf_plan *p, const struct ctf_names *names, int32_t index, struct ctf_cursor *c,
	      const char *between, struct ctf_text *t)
{
	if (index < 0)
		return 0;
	ctf_put(t, between, strlen(between));
	return ctf_put_value(p, names, index, c, t);
}

#define CTF_TEXT_IS_OVER "its text is longer than limits.text_size allows"

/* Name, contexts and fields of the event before the cursor. `packet` is what its packet's context has to say, or empty. */
static int
ctf_put_event(const struct ctf_plan *p, const struct ctf_stream *s, const struct ctf_names *names,
	      const struct ctf_record *r, struct ctf_cursor *after, const char *prefix, const char *packet,
	      struct ctf_text *t)
{
	const char *between = *packet ? ", " : "";
	const int32_t scopes[] = {s->event_context, r->event->context, r->event->fields};
	struct ctf_cursor c = *after;

	c.pos = r->begin;
	ctf_put(t, prefix, strlen(prefix));
	ctf_put(t, packet, strlen(packet));
	for (int i = 0; i < 3; i++) {
		if (ctf_put_scope(p, names, scopes[i], &c, between, t))
			return ctf_fail(after, t->is_over ? CTF_TEXT_IS_OVER : c.error);
		if (scopes[i] >= 0)
			between = ", ";
	}
	ctf_take_budget(after, &c);
	CTF_PUT(t, "\n");
	return t->is_over ? ctf_fail(after, CTF_TEXT_IS_OVER) : 0;
}

/* Walk to the end: a line for every event that is wanted. `lines` has struct ctf_line. */
static int
ctf_put_packet(const struct ctf_plan *p, const struct ctf_stream *s, const struct ctf_names *names,
	       struct ctf_cursor *c, uint32_t lane, const struct ctf_selection *wanted, const char *packet,
	       struct ctf_text *t, struct ctf_text *lines)
{
	struct ctf_record r;

	while (c->pos < c->end) {
		struct ctf_line line = {.lane = lane};
		size_t before = t->used;
		const char *prefix;

		if (ctf_next_event(p, s, c, &r))
			return -1;
		prefix = wanted->prefixes[r.event->index];
		line.time = ctf_time_ns(&s->clock, r.ticks);
		if (!prefix || line.time < wanted->begin || line.time > wanted->end)
			continue;
		if (ctf_put_event(p, s, names, &r, c, prefix, packet, t)) {
			t->used = before;
			return -1;
		}
		line.size = (uint32_t)(t->used - before);
		ctf_put(lines, (const char *)&line, sizeof(line));
	}
	return 0;
}

/* What the last line said, and the second that `date` is of. */
struct ctf_clock_face {
	int64_t last, second;
	int has_last;
	char date[24];
};

static inline void
ctf_put_date(struct ctf_clock_face *face, int64_t time, struct ctf_text *t)
{
	time_t second = (time_t)(time / 1000000000);

	if (!face->date[0] || face->second != second) {
		struct tm parts;

		localtime_r(&second, &parts);
		strftime(face->date, sizeof(face->date), "%Y-%m-%d %H:%M:%S", &parts);
		face->second = second;
	}
	CTF_PUT(t, "[");
	ctf_put(t, face->date, strlen(face->date));
	CTF_PUT(t, ".");
	ctf_put_decimal(t, (uint64_t)(time % 1000000000), 9);
}

/* In seconds, as babeltrace2 does. */
static void
ctf_put_time_before_1970(int64_t time, struct ctf_text *t)
{
	uint64_t before = 0 - (uint64_t)time;

	CTF_PUT(t, "[-");
	ctf_put_decimal(t, before / 1000000000, 1);
	CTF_PUT(t, ".");
	ctf_put_decimal(t, before % 1000000000, 9);
}

static inline void
ctf_put_time(struct ctf_clock_face *face, int64_t time, struct ctf_text *t)
{
	uint64_t delta = (uint64_t)time - (uint64_t)face->last;

	if (time == INT64_MIN) /* the stream has no clock */
		return;
	if (time < 0)
		ctf_put_time_before_1970(time, t);
	else
		ctf_put_date(face, time, t);
	if (face->has_last) {
		CTF_PUT(t, "] (+");
		ctf_put_decimal(t, delta / 1000000000, 1);
		CTF_PUT(t, ".");
		ctf_put_decimal(t, delta % 1000000000, 9);
		CTF_PUT(t, ") ");
	} else {
		CTF_PUT(t, "] (+?.?\?\?\?\?\?\?\?\?) ");
	}
	face->last = time;
	face->has_last = 1;
}

/* Lines of several lanes in the order of `lines`; at[lane] moves on in that lane's text. */
static void
ctf_put_lines(const struct ctf_line *lines, size_t n, const char **at, struct ctf_clock_face *face,
	      struct ctf_text *t)
{
	for (size_t i = 0; i < n; i++) {
		ctf_put_time(face, lines[i].time, t);
		ctf_put(t, at[lines[i].lane], lines[i].size);
		at[lines[i].lane] += lines[i].size;
	}
}

#endif /* RINGBUF_TEXT_H */
