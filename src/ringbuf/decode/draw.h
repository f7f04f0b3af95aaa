/*
 * draw.h - the instants of a time line, from packets to the bytes of a file. Pure C, no Python.
 *
 * In two steps, as text.h. `draw_fill` walks over a packet and notes an *item* of
 * fixed size for each event, whose arguments it encodes behind those of the one
 * before. Items of all streams are merged by time (ctf_merge_rows). `draw_items`
 * goes through them in that order, and writes those of tracks that it knows. It
 * asks the caller for other tracks; and what it does not draw, such as slices and
 * what changes where others belong, is left to the caller, as the bytes of the record.
 *
 * Two formats: Perfetto's protobuf and Chrome's JSON.
 */
#ifndef RINGBUF_DRAW_H
#define RINGBUF_DRAW_H

#include "pairs.h"
#include "text.h"

enum draw_format { DRAW_PERFETTO,
		   DRAW_CHROME };

enum draw_kind {
	DRAW_NOTHING,
	DRAW_OTHER, /* the caller's */
	DRAW_INSTANT,
};

/* What a member of an event is for. From DRAW_NUMBER on: an argument of that kind. */
enum draw_use { DRAW_ALIGN,
		DRAW_SKIP,
		DRAW_PID,
		DRAW_TID,
		DRAW_NUMBER,
		DRAW_TRUTH,
		DRAW_FLOAT,
		DRAW_TEXT };

struct draw_bytes {
	const char *at;
	size_t size;
};

struct draw_member {
	int32_t node;
	uint8_t use;
	struct draw_bytes name; /* encoded */
};

struct draw_class {
	uint8_t kind;
	const struct draw_member *members;
	uint32_t n_members;
	struct draw_bytes title; /* of an instant, encoded */
};

/* An event of a lane, whose bytes follow those of the one before. Begins as a row does. */
struct draw_item {
	int64_t time;
	int32_t cpu, pid, tid; /* -1: unknown */
	uint32_t event;        /* among all of the trace */
	uint32_t lane, size;
	uint32_t kind, zero;
};

/* What the bytes of an item of DRAW_OTHER begin with; then `outside` bytes of slots, and those of the record. */
struct draw_record {
	uint64_t origin, begin, end, ticks, outside;
};

/* ---- encoding ---- */

static inline uint32_t
draw_varint_size(uint64_t value)
{
	return (uint32_t)(63 - __builtin_clzll(value | 1)) / 7 + 1;
}

static inline char *
draw_varint(char *to, uint64_t value)
{
	for (; value >= 0x80; value >>= 7)
		*to++ = (char)(value | 0x80);
	*to++ = (char)value;
	return to;
}

/* Room for an annotation whose value has `size` bytes; writes all that stands before it. */
static inline char *
draw_annotation(struct ctf_text *t, const struct draw_bytes *name, size_t size)
{
	size_t whole = name->size + size;
	char *to = ctf_text_room(t, whole + 12);

	if (!to)
		return NULL;
	*to++ = 4 << 3 | 2;
	to = draw_varint(to, whole);
	memcpy(to, name->at, name->size);
	t->used = (size_t)(to - t->data) + whole;
	return to + name->size;
}

static void
draw_perfetto_number(struct ctf_text *t, const struct draw_bytes *name, uint64_t value, int is_large)
{
	char *to = draw_annotation(t, name, 1 + draw_varint_size(value));

	if (to) {
		*to++ = (char)((is_large ? 3 : 4) << 3);
		draw_varint(to, value);
	}
}

static void
draw_perfetto_text(struct ctf_text *t, const struct draw_bytes *name, const uint8_t *text, size_t size)
{
	char *to = draw_annotation(t, name, 1 + draw_varint_size(size) + size);

	if (to) {
		*to++ = 6 << 3 | 2;
		memcpy(draw_varint(to, size), text, size);
	}
}

static void
draw_perfetto_fixed(struct ctf_text *t, const struct draw_bytes *name, uint8_t head, const void *bytes, size_t size)
{
	char *to = draw_annotation(t, name, 1 + size);

	if (to) {
		*to++ = (char)head;
		memcpy(to, bytes, size);
	}
}

static void
draw_json_char(struct ctf_text *t, uint8_t c)
{
	static const char from[] = "\"\\\n\r\t\b\f", to[] = "\"\\nrtbf";
	const char *found = strchr(from, c);
	char digits[6] = {'\\', 'u', '0', '0', "0123456789abcdef"[c >> 4], "0123456789abcdef"[c & 15]};

	if (found && c) {
		CTF_PUT(t, "\\");
		ctf_put(t, &to[found - from], 1);
	} else {
		ctf_put(t, digits, 6);
	}
}

/* Text that is UTF-8. */
static void
draw_json_text(struct ctf_text *t, const uint8_t *text, size_t size)
{
	const uint8_t *end = text + size, *plain = text;

	CTF_PUT(t, "\"");
	for (; text < end; text++) {
		if (CTF_LIKELY(*text >= 0x20 && *text != '"' && *text != '\\'))
			continue;
		ctf_put(t, (const char *)plain, (size_t)(text - plain));
		draw_json_char(t, *text);
		plain = text + 1;
	}
	ctf_put(t, (const char *)plain, (size_t)(end - plain));
	CTF_PUT(t, "\"");
}

/* Thousandths, without zeros at the end. */
static void
draw_thousandths(struct ctf_text *t, int64_t value)
{
	uint64_t size = value < 0 ? 0 - (uint64_t)value : (uint64_t)value, rest = size % 1000;
	char digits[4] = {'.', (char)('0' + rest / 100), (char)('0' + rest / 10 % 10), (char)('0' + rest % 10)};

	if (value < 0)
		CTF_PUT(t, "-");
	ctf_put_decimal(t, size / 1000, 1);
	ctf_put(t, digits, rest % 10 ? 4 : rest % 100 ? 3
						      : 2);
}

/* With as few digits as tell it from its neighbours. */
static void
draw_json_double(struct ctf_text *t, double value)
{
	char digits[40];
	int size = 0, is_whole = 1;

	if (!isfinite(value)) {
		size = snprintf(digits, sizeof(digits), "\"%s%s\"", value < 0 ? "-" : "", isnan(value) ? "nan" : "inf");
		ctf_put(t, digits, (size_t)size);
		return;
	}
	if (value > -1e12 && value < 1e12 && !(value == 0 && signbit(value))) {
		int64_t thousandths = (int64_t)(value * 1000 + (value < 0 ? -0.5 : 0.5));

		if ((double)thousandths / 1000 == value) {
			draw_thousandths(t, thousandths);
			return;
		}
	}
	for (int precision = 15; precision <= 17; precision++) {
		size = snprintf(digits, sizeof(digits), "%.*g", precision, value);
		if (strtod(digits, NULL) == value)
			break;
	}
	for (int i = 0; i < size; i++) {
		if (!strchr("0123456789+-e", digits[i]))
			digits[i] = '.'; /* whatever the locale has */
		is_whole &= digits[i] != '.' && digits[i] != 'e';
	}
	ctf_put(t, digits, (size_t)size);
	if (is_whole)
		CTF_PUT(t, ".0");
}

/* ---- arguments ---- */

static void
draw_number(struct ctf_text *t, enum draw_format format, const struct draw_member *m, const struct ctf_node *n,
	    uint64_t value)
{
	double wide;

	if (m->use == DRAW_FLOAT) {
		if (n->size <= 32) {
			uint32_t low = (uint32_t)value;
			float narrow;

			memcpy(&narrow, &low, 4);
			wide = (double)narrow;
		} else {
			memcpy(&wide, &value, 8);
		}
		if (format == DRAW_PERFETTO)
			draw_perfetto_fixed(t, &m->name, 5 << 3 | 1, &wide, 8);
		else
			draw_json_double(t, wide);
	} else if (m->use == DRAW_TRUTH) {
		uint8_t truth = value != 0;

		if (format == DRAW_PERFETTO)
			draw_perfetto_fixed(t, &m->name, 2 << 3, &truth, 1);
		else
			ctf_put(t, truth ? "true" : "false", truth ? 4 : 5);
	} else if (format == DRAW_PERFETTO) {
		draw_perfetto_number(t, &m->name, value, !n->is_signed && value >> 63);
	} else {
		if (n->is_signed && (int64_t)value < 0) {
			CTF_PUT(t, "-");
			value = 0 - value;
		}
		ctf_put_decimal(t, value, 1);
	}
}

/* Text that is encoded. -1: it is not UTF-8, which is the caller's to mend. */
static int
draw_text(const struct ctf_plan *p, struct ctf_text *t, enum draw_format format, const struct draw_member *m,
	  struct ctf_cursor *c)
{
	const char *text;
	size_t size;

	if (pair_text_at(p, &p->nodes[m->node], c, &text, &size) || !ctf_is_utf8((const uint8_t *)text, size))
		return -1;
	if (format == DRAW_PERFETTO)
		draw_perfetto_text(t, &m->name, (const uint8_t *)text, size);
	else
		draw_json_text(t, (const uint8_t *)text, size);
	return 0;
}

/* A process or thread: those that can be one. */
static int
draw_identity(uint64_t value, int32_t *to)
{
	*to = (int32_t)value;
	return value > INT32_MAX ? -1 : 0;
}

/* The arguments of an event, and whose it is. -1: it is for the caller. */
static int
draw_arguments(const struct ctf_plan *p, struct ctf_text *t, enum draw_format format, const struct draw_class *e,
	       struct ctf_cursor *c, struct draw_item *item)
{
	size_t start = t->used;
	uint64_t value;

	for (uint32_t i = 0; i < e->n_members; i++) {
		const struct draw_member *m = &e->members[i];
		const struct ctf_node *n = &p->nodes[m->node];

		if (m->use >= DRAW_NUMBER && format == DRAW_CHROME) {
			if (t->used > start)
				CTF_PUT(t, ",");
			ctf_put(t, m->name.at, m->name.size);
		}
		if (m->use == DRAW_ALIGN || m->use == DRAW_SKIP || m->use == DRAW_TEXT) {
			if (m->use == DRAW_ALIGN  ? ctf_align(c, n->align)
			    : m->use == DRAW_SKIP ? ctf_walk(p, m->node, c)
						  : draw_text(p, t, format, m, c))
				return -1;
			continue;
		}
		if (ctf_number(c, n, &value))
			return -1;
		if (n->slot >= 0)
			c->slots[n->slot] = value;
		if (m->use >= DRAW_NUMBER)
			draw_number(t, format, m, n, value);
		else if (draw_identity(value, m->use == DRAW_PID ? &item->pid : &item->tid))
			return -1;
	}
	return 0;
}

/* ---- packets ---- */

static void
draw_put_record(const struct ctf_cursor *after, const struct ctf_record *r, uint64_t outside, struct ctf_text *t)
{
	struct draw_record head = {r->begin & ~UINT64_C(7), r->begin, after->pos, r->ticks, outside};
	uint64_t end = (after->pos + 7) & ~UINT64_C(7);

	ctf_put(t, (const char *)&head, sizeof(head));
	ctf_put(t, (const char *)after->slots, outside);
	ctf_put(t, (const char *)ctf_at(after, head.origin), (size_t)((end - head.origin) >> 3));
}

/* What does not change while packets are filled in. */
struct draw_plan {
	const struct draw_class *classes; /* by event of this decoder */
	uint32_t first_event;             /* of this decoder, among all of the trace */
	uint32_t format;
	uint64_t outside;                 /* bytes of slots that are not an event's own */
	int64_t begin, end;               /* earliest and latest time */
};

/* Walk to the end: an item for every event that is wanted. -1: the packet is damaged. */
static int
draw_fill(const struct ctf_plan *p, const struct ctf_stream *s, struct ctf_cursor *c, const struct draw_plan *wanted,
	  int32_t cpu, uint32_t lane, struct ctf_text *t, struct ctf_text *items)
{
	struct ctf_record r;

	while (c->pos < c->end) {
		const struct draw_class *e;
		struct draw_item item = {.cpu = cpu, .pid = -1, .tid = -1, .lane = lane};
		size_t before = t->used;

		if (ctf_next_event(p, s, c, &r))
			return -1;
		e = &wanted->classes[r.event->index];
		item.time = ctf_time_ns(&s->clock, r.ticks);
		item.kind = e->kind;
		item.event = wanted->first_event + r.event->index;
		if (e->kind == DRAW_NOTHING || item.time < wanted->begin || item.time > wanted->end)
			continue;
		if (e->kind != DRAW_OTHER) {
			struct ctf_cursor again = *c;

			again.pos = r.begin;
			if (draw_arguments(p, t, (enum draw_format)wanted->format, e, &again, &item)) {
				t->used = before;
				item.kind = DRAW_OTHER;
			}
		}
		if (item.kind == DRAW_OTHER)
			draw_put_record(c, &r, s->asks_outside ? wanted->outside : 0, t);
		if (t->is_over)
			return ctf_fail(c, CTF_TEXT_IS_OVER);
		item.size = (uint32_t)(t->used - before);
		ctf_put(items, (const char *)&item, sizeof(item));
	}
	return 0;
}

/* ---- tracks ---- */

struct draw_who {
	int32_t pid, tid, cpu;
};

/* Where what was once asked for is found again. */
struct draw_seen {
	struct draw_who who;
	uint32_t track; /* and 1; 0: empty */
};

struct draw_state {
	uint32_t format;
	int64_t origin;                          /* Chrome's times count from it */
	const struct draw_class *const *classes; /* by event of the trace */
	const struct draw_bytes *places;         /* of the tracks, encoded */
	struct draw_seen *seen;                  /* linear probing, at most half full */
	size_t n_seen, seen_mask;
	struct draw_who last;
	uint32_t last_number;                    /* of its track, and 1 */
	struct ctf_text out;
};

static inline size_t
draw_hash(const struct draw_who *who)
{
	uint64_t low = (uint64_t)(uint32_t)who->pid << 32 | (uint32_t)who->tid;

	return pair_spread(low ^ pair_spread((uint32_t)who->cpu));
}

static inline int
draw_is_same(const struct draw_who *a, const struct draw_who *b)
{
	return a->pid == b->pid && a->tid == b->tid && a->cpu == b->cpu;
}

/* The track of somebody, and 1; 0 if the caller has not said it. */
static inline uint32_t
draw_find(struct draw_state *d, const struct draw_who *who)
{
	size_t i;

	if (CTF_LIKELY(d->last_number && draw_is_same(who, &d->last)))
		return d->last_number;
	for (i = draw_hash(who) & d->seen_mask; d->n_seen && d->seen[i].track; i = (i + 1) & d->seen_mask)
		if (draw_is_same(who, &d->seen[i].who)) {
			d->last = *who;
			return d->last_number = d->seen[i].track;
		}
	return 0;
}

static int
draw_note(struct draw_state *d, const struct draw_who *who, uint32_t track)
{
	size_t i;

	if (!d->seen || 2 * (d->n_seen + 1) > d->seen_mask) {
		struct draw_seen *old = d->seen;
		size_t size = old ? d->seen_mask + 1 : 0, more = old ? 2 * size : 64;

		d->seen = (struct draw_seen *)calloc(more, sizeof(*d->seen));
		if (!d->seen) {
			d->seen = old;
			return -1;
		}
		d->seen_mask = more - 1;
		d->n_seen = 0;
		for (i = 0; i < size; i++)
			if (old[i].track)
				draw_note(d, &old[i].who, old[i].track - 1);
		free(old);
	}
	for (i = draw_hash(who) & d->seen_mask; d->seen[i].track; i = (i + 1) & d->seen_mask)
		;
	d->seen[i] = (struct draw_seen){*who, track + 1};
	d->n_seen++;
	return 0;
}

/* Where records belong may have changed. */
static void
draw_forget(struct draw_state *d)
{
	if (d->seen)
		memset(d->seen, 0, (d->seen_mask + 1) * sizeof(*d->seen));
	d->n_seen = 0;
	d->last_number = 0;
}

/* ---- events ---- */

static void
draw_perfetto_instant(struct draw_state *d, const struct draw_item *item, const struct draw_bytes *place,
		      const char *arguments)
{
	/* trusted_packet_sequence_id and sequence_flags, then the time */
	static const char head[] = {10 << 3, 1, 13 << 3, 2, 8 << 3};
	const struct draw_bytes *title = &d->classes[item->event]->title;
	size_t event = 2 + place->size + title->size + item->size;
	size_t content = sizeof(head) + draw_varint_size((uint64_t)item->time) + 1 + draw_varint_size(event) + event;
	char *to = ctf_text_room(&d->out, content + 12);

	if (!to)
		return;
	*to++ = 1 << 3 | 2;
	to = draw_varint(to, content);
	memcpy(to, head, sizeof(head));
	to = draw_varint(to + sizeof(head), (uint64_t)item->time);
	*to++ = 11 << 3 | 2;
	to = draw_varint(to, event);
	*to++ = 9 << 3; /* type: an instant */
	*to++ = 3;
	memcpy(to, place->at, place->size);
	to += place->size;
	memcpy(to, title->at, title->size);
	to += title->size;
	memcpy(to, arguments, item->size);
	d->out.used = (size_t)(to - d->out.data) + item->size;
}

static void
draw_chrome_instant(struct draw_state *d, const struct draw_item *item, const struct draw_bytes *place,
		    const char *arguments)
{
	const struct draw_bytes *title = &d->classes[item->event]->title;
	struct ctf_text *t = &d->out;

	CTF_PUT(t, ",\n{\"ph\":\"i\",\"s\":\"t\",\"ts\":");
	draw_thousandths(t, (int64_t)((uint64_t)item->time - (uint64_t)d->origin));
	CTF_PUT(t, ",");
	ctf_put(t, place->at, place->size);
	ctf_put(t, title->at, title->size);
	if (item->size) {
		CTF_PUT(t, ",\"args\":{");
		ctf_put(t, arguments, item->size);
		CTF_PUT(t, "}");
	}
	CTF_PUT(t, "}");
}

/* Why draw_items() came back. */
enum draw_answer {
	DRAW_DONE,
	DRAW_FULL,   /* `out` has enough to be written */
	DRAW_WHOSE,  /* the item's track is not known */
	DRAW_RECORD, /* the item is for the caller */
};

#define DRAW_OUT (1u << 18)

/* Whose an item is: a thread's; or a CPU's, if it does not say its thread. */
static inline struct draw_who
draw_who_of(const struct draw_item *item)
{
	return (struct draw_who){item->pid, item->tid, item->pid >= 0 || item->tid >= 0 ? -1 : item->cpu};
}

/*
 * Draw items from *next on; at[lane] moves on in that lane's bytes. Where it
 * comes back with something else than DRAW_DONE, *next is the item in question,
 * and nothing of it was drawn.
 */
static enum draw_answer
draw_items(struct draw_state *d, const struct draw_item *items, size_t n, size_t *next, const char **at)
{
	for (; *next < n; ++*next) {
		const struct draw_item *item = &items[*next];
		struct draw_who who;
		uint32_t number;

		if (d->out.used >= DRAW_OUT)
			return DRAW_FULL;
		if (item->kind == DRAW_OTHER)
			return DRAW_RECORD;
		who = draw_who_of(item);
		number = draw_find(d, &who);
		if (!number)
			return DRAW_WHOSE;
		if (d->format == DRAW_PERFETTO)
			draw_perfetto_instant(d, item, &d->places[number - 1], at[item->lane]);
		else
			draw_chrome_instant(d, item, &d->places[number - 1], at[item->lane]);
		at[item->lane] += item->size;
	}
	return DRAW_DONE;
}

static void
draw_free(struct draw_state *d)
{
	free(d->seen);
	free(d->out.data);
}

#endif /* RINGBUF_DRAW_H */
