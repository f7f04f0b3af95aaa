/*
 * pairs.h - joins the begins of spans and calls with their ends. Pure C, no Python.
 *
 * In two steps. `pair_fill` walks over a packet and notes a *mark*, of fixed
 * size, for each record that begins or ends something. Marks of all streams are
 * merged by time (ctf_merge_rows). `pair_join` reads them in that order, keeps
 * what is open, and writes a *row* for each span or call when its end comes.
 *
 * Memory is what is open at a time, and each distinct text once.
 *
 * Functions that can fail return -1 for want of memory; what they were given
 * stays valid.
 */
#ifndef RINGBUF_PAIRS_H
#define RINGBUF_PAIRS_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "decode.h"

enum pair_kind {
	PAIR_NOTHING,
	PAIR_SPAN,
	PAIR_SPAN_END,
	PAIR_CALL,
	PAIR_CALL_END,
	PAIR_RECORD, /* neither begins nor ends anything, but its thread is counted */
	PAIR_STRAND, /* what a greenlet or task is called */
	PAIR_SWITCH, /* the thread runs another one from here on */
	PAIR_IMAGE,  /* a forked process begins, in the middle of calls */
	PAIR_RUN,    /* the kernel has a CPU run another thread */
	PAIR_IRQ,
	PAIR_IRQ_END,
	PAIR_SYSCALL,
	PAIR_SYSCALL_END,
};

/* Why a begin or an end is not there. */
enum pair_missing {
	PAIR_THERE,
	PAIR_LOST,      /* records were lost, and it was, or may have been, among them */
	PAIR_BEFORE,    /* begin: older than the trace */
	PAIR_INHERITED, /* begin: of the process that forked this one */
	PAIR_OPEN,      /* end: it had not ended when the trace did */
	PAIR_DIED,      /* end: its process ended before, or was replaced */
	PAIR_RESUMED,   /* begin: it goes on here, after its greenlet or task had waited */
};

/* A record that begins or ends something. The time is first: marks are rows of ctf_merge_rows. */
struct pair_mark {
	int64_t time;
	int32_t cpu;
	uint8_t kind;
	uint8_t reserved[3];
	uint32_t name;                  /* of a span: its name's number; of a call: its code; how many calls begin again;
	                                   of a system call: its name's number, or 0: `id` is its number; of an interrupt:
	                                   what `id` is added to */
	int32_t pid, tid;               /* -1: unknown; a tid below 0 is CPU -1 - tid */
	uint32_t process, thread, task; /* names, as texts */
	uint64_t id, parent;            /* of a call: when it began, if it says so; and how long before this, in ns;
	                                   of PAIR_RUN: threads, the one that runs from now on and the one that has run */
	uint64_t at;                    /* where it is: number of the packet << 32, and the bit in it */
};

struct pair_row {
	int64_t begin, duration, self;
	uint64_t id, parent;
	uint64_t begin_at, end_at;      /* see pair_mark; PAIR_NOWHERE if it is not there */
	uint32_t name;
	uint32_t thread;                /* index into pair_joiner.threads */
	uint32_t task, error;           /* texts */
	uint32_t depth;
	uint8_t kind;
	uint8_t begin_missing, end_missing;
	uint8_t reserved;
	uint32_t path;                  /* index into pair_joiner.paths */
	uint32_t end_thread;            /* of the end: a span may end in another */
};

#define PAIR_NOWHERE UINT64_MAX
#define PAIR_MAX_PATHS (1u << 20)
#define PAIR_MAX_LOOK 4096

/* ---- arrays that grow ---- */

/* Room for one more of `size` bytes at *items; 0 if there is none to be had. */
static inline int
pair_room(void **items, size_t used, size_t *room, size_t size)
{
	size_t more = *room ? 2 * *room : 64;
	void *grown;

	if (CTF_LIKELY(used < *room))
		return 1;
	grown = realloc(*items, more * size);
	if (!grown)
		return 0;
	*items = grown;
	*room = more;
	return 1;
}

/* ---- numbers by numbers ---- */

struct pair_place {
	uint64_t key;
	uint32_t value; /* the value + 1; 0: nothing is here */
};

/* Linear probing, at most half full. */
struct pair_map {
	struct pair_place *places;
	size_t n, mask;
};

static inline size_t
pair_spread(uint64_t key)
{
	key *= UINT64_C(0x9e3779b97f4a7c15);
	return (size_t)(key ^ key >> 32);
}

static inline struct pair_place *
pair_find(const struct pair_map *map, uint64_t key)
{
	size_t i = pair_spread(key) & map->mask;

	if (!map->n)
		return NULL;
	while (map->places[i].value) {
		if (map->places[i].key == key)
			return &map->places[i];
		i = (i + 1) & map->mask;
	}
	return NULL;
}

static void
pair_place(struct pair_map *map, uint64_t key, uint32_t value)
{
	size_t i = pair_spread(key) & map->mask;

	while (map->places[i].value)
		i = (i + 1) & map->mask;
	map->places[i].key = key;
	map->places[i].value = value;
}

static int
pair_grow_map(struct pair_map *map)
{
	size_t size = map->places ? 2 * (map->mask + 1) : 64;
	struct pair_map grown = {(struct pair_place *)calloc(size, sizeof(struct pair_place)), map->n, size - 1};

	if (!grown.places)
		return -1;
	for (size_t i = 0; map->places && i <= map->mask; i++)
		if (map->places[i].value)
			pair_place(&grown, map->places[i].key, map->places[i].value);
	free(map->places);
	*map = grown;
	return 0;
}

/* Add a key that is not there. */
static inline int
pair_put(struct pair_map *map, uint64_t key, uint32_t value)
{
	if (CTF_UNLIKELY(!map->places || 2 * (map->n + 1) > map->mask) && pair_grow_map(map))
		return -1;
	pair_place(map, key, value + 1);
	map->n++;
	return 0;
}

/* Remove what stands in a place; those that probed past it move up. */
static inline void
pair_remove(struct pair_map *map, struct pair_place *place)
{
	size_t hole = (size_t)(place - map->places), i = hole;

	for (;;) {
		size_t home;

		i = (i + 1) & map->mask;
		if (!map->places[i].value)
			break;
		home = pair_spread(map->places[i].key) & map->mask;
		if (((i - home) & map->mask) >= ((i - hole) & map->mask)) {
			map->places[hole] = map->places[i];
			hole = i;
		}
	}
	map->places[hole].value = 0;
	map->n--;
}

/* ---- texts ---- */

struct pair_text {
	size_t at; /* in bytes */
	uint32_t size, hash;
};

/* A process: of two machines, or containers, two may have one id; an image tells apart those of one machine too. */
struct pair_process {
	int32_t pid;
	uint32_t host, image;
};

/* Each distinct text has a number. The empty one is 0. */
struct pair_texts {
	char *bytes;
	size_t used, room;
	struct pair_text *texts;
	size_t n, texts_room;
	uint32_t *places; /* number + 1; 0: nothing is here */
	size_t mask;
	uint8_t has_images;          /* some records tell one */
	struct pair_map aliases;     /* of processes, by what tells them apart: see pair_alias */
	struct pair_process *processes;
	size_t n_processes, processes_room;
	struct pair_process last;    /* the one that was asked for last */
	int32_t last_alias;
};

static int
pair_grow_texts(struct pair_texts *t)
{
	size_t size = t->places ? 2 * (t->mask + 1) : 64;
	uint32_t *places = (uint32_t *)calloc(size, sizeof(*places));

	if (!places)
		return -1;
	for (size_t n = 0; n < t->n; n++) {
		size_t i = t->texts[n].hash & (size - 1);

		while (places[i])
			i = (i + 1) & (size - 1);
		places[i] = (uint32_t)n + 1;
	}
	free(t->places);
	t->places = places;
	t->mask = size - 1;
	return 0;
}

static int
pair_add_text(struct pair_texts *t, const char *text, size_t size, uint32_t hash)
{
	while (t->room - t->used < size)
		if (!pair_room((void **)&t->bytes, t->room, &t->room, 1))
			return -1;
	if (!pair_room((void **)&t->texts, t->n, &t->texts_room, sizeof(*t->texts)))
		return -1;
	memcpy(t->bytes + t->used, text, size);
	t->texts[t->n++] = (struct pair_text){t->used, (uint32_t)size, hash};
	t->used += size;
	return 0;
}

/* The number of a text, or -1. */
static int64_t
pair_number(struct pair_texts *t, const char *text, size_t size)
{
	uint32_t hash = ctf_hash(text, size) ^ (uint32_t)size << 24;
	size_t i;

	if (!size)
		return 0;
	if (CTF_UNLIKELY(!t->places || 2 * (t->n + 1) > t->mask) && pair_grow_texts(t))
		return -1;
	for (i = hash & t->mask; t->places[i]; i = (i + 1) & t->mask) {
		const struct pair_text *found = &t->texts[t->places[i] - 1];

		if (found->hash == hash && found->size == size && !memcmp(t->bytes + found->at, text, size))
			return t->places[i];
	}
	if (pair_add_text(t, text, size, hash))
		return -1;
	t->places[i] = (uint32_t)t->n;
	return (int64_t)t->n;
}

/* The name of a strand of which n others are called the same, so that they can be told apart. */
static int64_t
pair_numbered(struct pair_texts *t, uint32_t told, uint32_t n)
{
	const struct pair_text *text = &t->texts[told - 1];
	char name[512], end[16];
	int end_size = snprintf(end, sizeof(end), " #%" PRIu32, n + 1);
	size_t size = text->size < sizeof(name) - sizeof(end) ? text->size : sizeof(name) - sizeof(end);

	memcpy(name, t->bytes + text->at, size);
	memcpy(name + size, end, (size_t)end_size);
	return pair_number(t, name, size + (size_t)end_size);
}

/* ---- processes ---- */

/*
 * In marks the id of a process is its own, or, where a host or an image is told,
 * a number from PAIR_ALIAS on, which nothing else has: a place in `processes`.
 */
#define PAIR_ALIAS (1 << 30)

static inline uint64_t
pair_process_key(const struct pair_process *p)
{
	uint64_t key = (uint64_t)p->host << 32 | p->image;

	key = (key ^ key >> 29) * UINT64_C(0xbf58476d1ce4e5b9);
	return (key ^ key >> 32) * UINT64_C(0x94d049bb133111eb) ^ (uint32_t)p->pid;
}

static int
pair_same_process(const struct pair_process *a, const struct pair_process *b)
{
	return a->pid == b->pid && a->host == b->host && a->image == b->image;
}

/* The place of a process; -1: it is not there. */
static int64_t
pair_find_process(const struct pair_texts *t, struct pair_process p)
{
	const struct pair_place *place = pair_find(&t->aliases, pair_process_key(&p));

	return place ? (int64_t)place->value - 1 : -1;
}

/* Who says no image is the first that has its id there, which is also who says an image first. */
static int64_t
pair_new_process(struct pair_texts *t, struct pair_process p)
{
	struct pair_process any = {p.pid, p.host, 0};
	int64_t place = pair_find_process(t, any);

	if (place >= 0 && !t->processes[place].image) {
		t->processes[place].image = p.image;
		return pair_put(&t->aliases, pair_process_key(&p), (uint32_t)place) ? -1 : place;
	}
	if (!pair_room((void **)&t->processes, t->n_processes, &t->processes_room, sizeof(p)) ||
	    pair_put(&t->aliases, pair_process_key(&p), (uint32_t)t->n_processes))
		return -1;
	if (place < 0 && p.image && pair_put(&t->aliases, pair_process_key(&any), (uint32_t)t->n_processes))
		return -1;
	t->processes[t->n_processes] = p;
	return (int64_t)t->n_processes++;
}

/* The id of a process in marks. -1: no memory. */
static inline int
pair_alias(struct pair_texts *t, uint32_t host, uint32_t image, int32_t *pid)
{
	struct pair_process p = {*pid, host, image};
	int64_t place;

	if (CTF_LIKELY(!host && !t->has_images && *pid < PAIR_ALIAS))
		return 0;
	if (!t->n_processes || !pair_same_process(&p, &t->last)) {
		place = pair_find_process(t, p);
		if (place < 0)
			place = pair_new_process(t, p);
		if (place < 0)
			return -1;
		t->last = p;
		t->last_alias = PAIR_ALIAS + (int32_t)place;
	}
	*pid = t->last_alias;
	return 0;
}

/* ---- marks from packets ---- */

/* What is taken from a member of a record. */
enum pair_what {
	PAIR_ALIGN,
	PAIR_SKIP,
	/* numbers */
	PAIR_PID,
	PAIR_TID,
	PAIR_CODE,
	PAIR_ID,
	PAIR_PARENT,
	PAIR_AGAIN,
	PAIR_WHO, /* the image of its process */
	/* texts */
	PAIR_PROCESS,
	PAIR_THREAD,
	PAIR_TASK,
	PAIR_ERROR,
};

struct pair_step {
	int32_t node;
	uint8_t what;
};

/* How the records of an event class become marks. */
struct pair_event {
	struct pair_mark mark;       /* what all of them have in common; kind PAIR_NOTHING: none is a mark */
	uint8_t has_pid, has_tid;
	uint8_t is_late;             /* a call's begin that says when it was: `id`, in ticks */
	uint8_t is_fixed;            /* `copies` has it all, but for the error */
	const struct ctf_copy *copies;
	uint32_t n_copies;
	uint32_t error_from;         /* byte at which the error stands, if is_fixed; 0: there is none */
	uint32_t image_from;         /* the same of the image, + 1 */
	uint32_t host;
	const struct pair_step *steps;
	uint32_t n_steps;
};

struct pair_marks {
	struct pair_mark *marks;
	size_t n, room;
};

/* The type of an exception: what stands before the colon. */
static inline size_t
pair_type_size(const char *error, size_t size)
{
	const char *colon = (const char *)memchr(error, ':', size);

	return colon ? (size_t)(colon - error) : size;
}

/* Move over a text. */
static int
pair_text_at(const struct ctf_plan *p, const struct ctf_node *n, struct ctf_cursor *c, const char **text, size_t *size)
{
	uint64_t length;
	const char *nul;

	if (ctf_align(c, n->align))
		return -1;
	*text = (const char *)ctf_at(c, c->pos);
	if (n->kind == CTF_STRING) {
		int64_t found = ctf_string_length(n, c);

		if (found < 0)
			return ctf_fail(c, "a string has no end");
		*size = (size_t)found;
		return ctf_skip(c, 8 * ((uint64_t)found + 1));
	}
	if (ctf_length(p, n, c, &length))
		return -1;
	nul = (const char *)memchr(*text, 0, length);
	*size = nul ? (size_t)(nul - *text) : (size_t)length;
	return ctf_skip(c, 8 * length);
}

static int
pair_take_text(struct pair_texts *texts, struct pair_mark *mark, uint8_t what, const char *text, size_t size)
{
	int64_t number = pair_number(texts, text, what == PAIR_ERROR ? pair_type_size(text, size) : size);

	if (number < 0)
		return -1;
	if (what == PAIR_ERROR)
		mark->name = (uint32_t)number;
	else if (what == PAIR_PROCESS)
		mark->process = (uint32_t)number;
	else if (what == PAIR_THREAD)
		mark->thread = (uint32_t)number;
	else
		mark->task = (uint32_t)number;
	return 0;
}

static void
pair_take_number(struct pair_mark *mark, uint8_t what, uint64_t value, uint32_t *image)
{
	if (what == PAIR_WHO)
		*image = (uint32_t)value;
	else if (what == PAIR_PID)
		mark->pid = (int32_t)value;
	else if (what == PAIR_TID)
		mark->tid = (int32_t)value;
	else if (what == PAIR_CODE || what == PAIR_AGAIN)
		mark->name = (uint32_t)value;
	else if (what == PAIR_ID)
		mark->id = value;
	else
		mark->parent = value;
}

/* Take what is wanted from a record, member by member. -1: the packet is damaged; -2: no memory. */
static int
pair_walk(const struct ctf_plan *p, const struct pair_event *e, struct ctf_cursor c, struct pair_texts *texts,
	  struct pair_mark *mark, uint32_t *image)
{
	for (uint32_t i = 0; i < e->n_steps; i++) {
		const struct pair_step *step = &e->steps[i];
		const struct ctf_node *n = &p->nodes[step->node];
		const char *text;
		size_t size;
		uint64_t value;

		if (step->what == PAIR_ALIGN) {
			if (ctf_align(&c, n->align))
				return -1;
		} else if (step->what == PAIR_SKIP) {
			if (ctf_walk(p, step->node, &c))
				return -1;
		} else if (step->what < PAIR_PROCESS) {
			if (ctf_number(&c, n, &value))
				return -1;
			if (n->slot >= 0)
				c.slots[n->slot] = value;
			pair_take_number(mark, step->what, value, image);
		} else {
			if (pair_text_at(p, n, &c, &text, &size))
				return -1;
			if (pair_take_text(texts, mark, step->what, text, size))
				return -2;
		}
	}
	return 0;
}

/* The same, of a record in which everything stands at a known place. */
static inline int
pair_copy(const struct pair_event *e, const struct ctf_cursor *after, const uint8_t *from, struct pair_texts *texts,
	  struct pair_mark *mark, uint32_t *image)
{
	if (e->image_from)
		memcpy(image, from + e->image_from - 1, sizeof(*image));
	for (uint32_t i = 0; i < e->n_copies; i++)
		ctf_copy_bytes((uint8_t *)mark + e->copies[i].to, from + e->copies[i].from, e->copies[i].size);
	if (e->error_from) {
		const char *error = (const char *)from + e->error_from;

		if (CTF_UNLIKELY(*error))
			return pair_take_text(texts, mark, PAIR_ERROR, error,
					      strnlen(error, (size_t)(ctf_at(after, after->pos) - (const uint8_t *)error)));
	}
	return 0;
}

/* How long before its record a call began, in nanoseconds: what it says of later times is not so. */
static inline uint64_t
pair_late(const struct ctf_clock *clock, uint64_t began, uint64_t recorded)
{
	int64_t late = began < recorded ? ctf_time_ns(clock, recorded) - ctf_time_ns(clock, began) : 0;

	return late > 0 ? (uint64_t)late : 0;
}

static inline __attribute__((always_inline)) int
pair_fill_kind(const struct ctf_plan *p, const struct ctf_stream *restrict s, struct ctf_cursor *restrict c,
	       const struct pair_event *restrict events, struct pair_texts *texts, struct pair_marks *restrict out,
	       int32_t cpu, uint64_t packet, const int kind)
{
	struct ctf_cursor at = *c;
	struct ctf_record r;
	int result = 0;

	while (at.pos < at.end) {
		uint64_t start = at.pos;
		const struct pair_event *e;
		struct pair_mark *mark;
		uint32_t image = 0;

		result = ctf_next(p, s, &at, &r, kind);
		if (CTF_UNLIKELY(result))
			break;
		e = &events[r.event->index];
		if (e->mark.kind == PAIR_NOTHING)
			continue;
		if (CTF_UNLIKELY(!pair_room((void **)&out->marks, out->n, &out->room, sizeof(*mark)))) {
			result = -2;
			break;
		}
		mark = &out->marks[out->n];
		*mark = e->mark;
		mark->time = ctf_time_ns(&s->clock, r.ticks);
		mark->cpu = cpu;
		mark->at = start >> 32 ? PAIR_NOWHERE : packet << 32 | start;
		if (!e->has_pid && !e->has_tid)
			mark->tid = cpu < 0 ? INT32_MIN : -1 - cpu;
		if (CTF_LIKELY(e->is_fixed)) {
			if (CTF_UNLIKELY(pair_copy(e, &at, ctf_at(&at, r.begin), texts, mark, &image)))
				result = -2;
		} else {
			struct ctf_cursor again = at;

			again.pos = r.begin;
			result = pair_walk(p, e, again, texts, mark, &image);
			if (CTF_UNLIKELY(result == -1))
				at.error = "an event does not fit its type";
		}
		if (CTF_UNLIKELY(result))
			break;
		if (e->has_pid && !e->has_tid)
			mark->tid = mark->pid;
		if (CTF_UNLIKELY(e->is_late))
			mark->parent = pair_late(&s->clock, mark->id, r.ticks);
		if (CTF_UNLIKELY(pair_alias(texts, e->host, image, &mark->pid))) {
			result = -2;
			break;
		}
		out->n++;
	}
	*c = at;
	return result;
}

/* Walk to the end of a packet, and add its marks. -1: the packet is damaged; -2: no memory. */
static int
pair_fill(const struct ctf_plan *p, const struct ctf_stream *s, struct ctf_cursor *c, const struct pair_event *events,
	  struct pair_texts *texts, struct pair_marks *out, int32_t cpu, uint64_t packet)
{
	switch (s->header_kind) {
	case CTF_HEADER_COMPACT:
		return pair_fill_kind(p, s, c, events, texts, out, cpu, packet, CTF_HEADER_COMPACT);
	case CTF_HEADER_LARGE:
		return pair_fill_kind(p, s, c, events, texts, out, cpu, packet, CTF_HEADER_LARGE);
	default:
		return pair_fill_kind(p, s, c, events, texts, out, cpu, packet, CTF_HEADER_ANY);
	}
}

/* ---- joining ---- */

/* A span that is open. */
struct pair_span {
	int64_t begin;
	int64_t covered, since; /* time with a child open, but for those open `since` */
	uint64_t id, parent, at;
	uint64_t counted_at;    /* `at` of the span that counts it among its children; its own: none does */
	uint32_t name, thread, task, depth, path;
	uint32_t n_children;    /* open now */
	uint32_t next_free;
};

/* A call that is open. */
struct pair_call {
	int64_t begin, children; /* time in calls within it */
	uint64_t id, at;
	uint32_t code, name, task, path;
	uint8_t kind, begin_missing;
};

/* What was open, outermost first, when something began: a name, and the path to it. */
struct pair_path {
	uint32_t above, name;
	uint32_t is_within; /* the same name stands further up: it recurs */
};

struct pair_thread {
	int32_t pid, tid;
	uint32_t process, name; /* texts */
	int64_t first, last;    /* mark */
	int64_t last_before;    /* the mark before the last */
	uint64_t n_marks;
	int64_t begin;          /* what is open then began before */
	uint8_t begin_missing;  /* PAIR_INHERITED: at a fork; else: with the trace */
	uint8_t again_missing;  /* why so many of the next calls only go on */
	uint32_t again;
	uint32_t task;          /* text: of the greenlet or task that it runs, if that was told */
	uint32_t image;         /* of its process; 0: not known yet */
	uint32_t running;       /* of a CPU: the thread that it runs; 0: none */
	int64_t children;       /* time in calls that nothing is known to be around */
	struct pair_call *calls; /* innermost last */
	size_t n_calls, room;
};

/* What a code is that was called in a process. */
struct pair_code {
	uint32_t name;
	uint32_t image; /* of the process that called it; 0: unknown */
};

/* A greenlet or task: what it was called, and the name that tells it from others. Texts. */
struct pair_strand {
	uint32_t told, name;
};

struct pair_joiner {
	int64_t begin;                /* of the trace */
	int64_t first_loss, last_loss; /* when records were lost: not before, not after */
	struct pair_map codes_by_key; /* by pid << 32 | code */
	struct pair_code *codes;
	size_t n_codes, codes_room;
	uint32_t n_names;
	struct pair_texts *texts;     /* of the marks */
	struct pair_map strands_by_id; /* places in `strands` */
	struct pair_map n_called;     /* by text: how many strands are */
	struct pair_strand *strands;
	size_t n_strands, strands_room;
	struct pair_map spans_by_id, threads_by_id;
	struct pair_map threads_by_tid; /* the newest of each, whatever its process: as the kernel names them */
	struct pair_span *spans;
	size_t n_spans, spans_room;
	uint32_t free_span;           /* + 1; 0: none */
	struct pair_thread *threads;
	size_t n_threads, threads_room;
	struct pair_map paths_by_end; /* by path above << 32 | name */
	struct pair_path *paths;      /* [0]: nothing */
	size_t n_paths, paths_room;
	uint64_t *unknown;            /* pid << 32 | code of names that nobody told, in order of their numbers */
	size_t n_unknown, unknown_room;
	struct pair_row *rows;
	size_t n_rows, rows_room;
	uint64_t last_call;           /* its id */
	uint64_t last_thread_id;      /* of the newest mark; its thread, + 1 */
	uint32_t last_thread;
};

/* Times of a damaged trace may be anything. */
static inline int64_t
pair_minus(int64_t end, int64_t begin)
{
	return (int64_t)((uint64_t)end - (uint64_t)begin);
}

static inline int64_t
pair_plus(int64_t sum, int64_t more)
{
	return (int64_t)((uint64_t)sum + (uint64_t)more);
}

static inline uint64_t
pair_two(int32_t high, uint32_t low)
{
	return (uint64_t)(uint32_t)high << 32 | low;
}

static void
pair_free(struct pair_joiner *j)
{
	for (size_t i = 0; i < j->n_threads; i++)
		free(j->threads[i].calls);
	free(j->codes_by_key.places);
	free(j->codes);
	free(j->strands_by_id.places);
	free(j->n_called.places);
	free(j->strands);
	free(j->spans_by_id.places);
	free(j->threads_by_id.places);
	free(j->threads_by_tid.places);
	free(j->spans);
	free(j->threads);
	free(j->paths_by_end.places);
	free(j->paths);
	free(j->unknown);
	free(j->rows);
}

static struct pair_row *
pair_new_row(struct pair_joiner *j)
{
	struct pair_row *row;

	if (!pair_room((void **)&j->rows, j->n_rows, &j->rows_room, sizeof(*row)))
		return NULL;
	row = &j->rows[j->n_rows++];
	memset(row, 0, sizeof(*row));
	row->begin_at = row->end_at = PAIR_NOWHERE;
	return row;
}

static struct pair_thread *
pair_new_thread(struct pair_joiner *j, const struct pair_mark *m, uint64_t id)
{
	struct pair_place *same = m->tid < 0 ? NULL : pair_find(&j->threads_by_tid, (uint32_t)m->tid);
	struct pair_thread *t;

	if (same && j->threads[same->value - 1].pid < 0 && m->pid >= 0) { /* the kernel knows no process: here it is */
		t = &j->threads[same->value - 1];
		t->pid = m->pid;
		t->name = 0; /* its own records say better */
		return pair_put(&j->threads_by_id, id, (uint32_t)(t - j->threads)) ? NULL : t;
	}
	if (!pair_room((void **)&j->threads, j->n_threads, &j->threads_room, sizeof(*t)) ||
	    pair_put(&j->threads_by_id, id, (uint32_t)j->n_threads))
		return NULL;
	if (same)
		same->value = (uint32_t)j->n_threads + 1;
	else if (m->tid >= 0 && pair_put(&j->threads_by_tid, (uint32_t)m->tid, (uint32_t)j->n_threads))
		return NULL;
	t = &j->threads[j->n_threads++];
	memset(t, 0, sizeof(*t));
	t->pid = m->pid;
	t->tid = m->tid;
	t->first = t->last = m->time;
	t->begin = j->begin;
	return t;
}

/* The thread that a mark is of. */
static inline struct pair_thread *
pair_thread_of(struct pair_joiner *j, const struct pair_mark *m)
{
	uint64_t id = pair_two(m->pid, (uint32_t)m->tid);
	struct pair_thread *t;

	if (CTF_LIKELY(j->last_thread && id == j->last_thread_id)) {
		t = &j->threads[j->last_thread - 1];
	} else {
		const struct pair_place *place = pair_find(&j->threads_by_id, id);

		t = place ? &j->threads[place->value - 1] : pair_new_thread(j, m, id);
		if (!t)
			return NULL;
		j->last_thread_id = id;
		j->last_thread = (uint32_t)(t - j->threads) + 1;
	}
	t->n_marks++;
	t->last_before = t->last;
	t->first = m->time < t->first ? m->time : t->first; /* those that are only counted come in any order */
	t->last = m->time > t->last ? m->time : t->last;
	if (m->process)
		t->process = m->process;
	if (m->thread)
		t->name = m->thread;
	return t;
}

/* Why an end is not there that would have come after `begin`. */
static inline uint8_t
pair_no_end(const struct pair_joiner *j, int64_t begin)
{
	return j->last_loss >= begin ? PAIR_LOST : PAIR_OPEN;
}

/* Why a begin is not there that would have come before `end`. */
static inline uint8_t
pair_no_begin(const struct pair_joiner *j, int64_t end)
{
	return j->first_loss <= end ? PAIR_LOST : PAIR_BEFORE;
}

/* Does a name stand in a path, as far as one cares to look? */
static uint32_t
pair_is_in(const struct pair_joiner *j, uint32_t path, uint32_t name)
{
	for (unsigned steps = 0; path && steps < PAIR_MAX_LOOK; steps++, path = j->paths[path].above)
		if (j->paths[path].name == name)
			return 1;
	return 0;
}

/* The path that goes on with a name. Where there are too many, it ends early. */
static inline int
pair_go_on(struct pair_joiner *j, uint32_t above, uint32_t name, uint32_t *path)
{
	uint64_t key = (uint64_t)above << 32 | name;
	const struct pair_place *place = pair_find(&j->paths_by_end, key);

	if (CTF_LIKELY(place != NULL)) {
		*path = place->value - 1;
		return 0;
	}
	*path = above;
	if (j->n_paths >= PAIR_MAX_PATHS)
		return 0;
	if (!pair_room((void **)&j->paths, j->n_paths + !j->n_paths, &j->paths_room, sizeof(*j->paths)))
		return -1;
	if (!j->n_paths)
		j->paths[j->n_paths++] = (struct pair_path){0, 0, 0};
	if (pair_put(&j->paths_by_end, key, (uint32_t)j->n_paths))
		return -1;
	j->paths[j->n_paths] = (struct pair_path){above, name, pair_is_in(j, above, name)};
	*path = (uint32_t)j->n_paths++;
	return 0;
}

/* ---- calls ---- */

/* Add a code that is not there. */
static int
pair_add_code(struct pair_joiner *j, uint64_t key, uint32_t name, uint32_t image)
{
	if (!pair_room((void **)&j->codes, j->n_codes, &j->codes_room, sizeof(*j->codes)) ||
	    pair_put(&j->codes_by_key, key, (uint32_t)j->n_codes))
		return -1;
	j->codes[j->n_codes++] = (struct pair_code){name, image};
	return 0;
}

/* What a code is; if nobody told, it gets a name of its own. */
static const struct pair_code *
pair_code_of(struct pair_joiner *j, int32_t pid, uint32_t code)
{
	uint64_t key = pair_two(pid, code);
	const struct pair_place *place = pair_find(&j->codes_by_key, key);

	if (CTF_LIKELY(place != NULL))
		return &j->codes[place->value - 1];
	if (!pair_room((void **)&j->unknown, j->n_unknown, &j->unknown_room, sizeof(*j->unknown)) ||
	    pair_add_code(j, key, j->n_names, 0))
		return NULL;
	j->unknown[j->n_unknown++] = key;
	j->n_names++;
	return &j->codes[j->n_codes - 1];
}

/* A row for the innermost call, which is not open any more. */
static inline int
pair_pop_call(struct pair_joiner *j, struct pair_thread *t, int64_t time, uint64_t at, uint8_t missing)
{
	const struct pair_call *call = &t->calls[t->n_calls - 1];
	struct pair_row *row = pair_new_row(j);

	if (!row)
		return -1;
	row->kind = call->kind;
	row->name = call->name;
	row->path = call->path;
	row->begin = call->begin;
	row->duration = pair_minus(time, call->begin);
	row->self = pair_minus(row->duration, call->children);
	row->id = call->id;
	row->begin_at = call->at;
	row->end_at = at;
	row->thread = row->end_thread = (uint32_t)(t - j->threads);
	row->task = call->task;
	row->depth = (uint32_t)--t->n_calls;
	row->begin_missing = call->begin_missing;
	row->end_missing = missing;
	if (t->n_calls) {
		row->parent = t->calls[t->n_calls - 1].id;
		t->calls[t->n_calls - 1].children = pair_plus(t->calls[t->n_calls - 1].children, row->duration);
	} else {
		t->children = pair_plus(t->children, row->duration);
	}
	return 0;
}

/* A thread of this number begins anew: another process image has it. What was open ended with the one before. */
static struct pair_thread *
pair_replace_thread(struct pair_joiner *j, struct pair_thread *t, const struct pair_mark *m)
{
	uint64_t id = pair_two(t->pid, (uint32_t)t->tid);
	struct pair_place *place = pair_find(&j->threads_by_id, id);
	int32_t pid = t->pid;

	t->n_marks--; /* this mark is the new one's */
	t->last = t->last_before;
	for (size_t i = 0; i < j->n_threads; i++) {
		struct pair_thread *other = &j->threads[i];

		while (other->pid == pid && other->n_calls)
			if (pair_pop_call(j, other, other->last, PAIR_NOWHERE, PAIR_DIED))
				return NULL;
	}
	if (place)
		pair_remove(&j->threads_by_id, place);
	t = pair_new_thread(j, m, id);
	if (!t)
		return NULL;
	t->n_marks = 1;
	t->process = m->process;
	t->name = m->thread;
	j->last_thread_id = id;
	j->last_thread = (uint32_t)j->n_threads;
	return t;
}

/* Something begins within what is open in a thread. */
static inline __attribute__((always_inline)) int
pair_push_call(struct pair_joiner *j, struct pair_thread *t, const struct pair_mark *m, uint32_t name, uint8_t kind)
{
	struct pair_call *call;

	if (!pair_room((void **)&t->calls, t->n_calls, &t->room, sizeof(*call)))
		return -1;
	call = &t->calls[t->n_calls];
	if (pair_go_on(j, t->n_calls ? call[-1].path : 0, name, &call->path))
		return -1;
	t->n_calls++;
	call->begin = pair_minus(m->time, kind == PAIR_CALL ? (int64_t)m->parent : 0);
	if (t->n_calls > 1 && call->begin < call[-1].begin)
		call->begin = call[-1].begin; /* only damage makes it so */
	call->children = 0;
	call->id = ++j->last_call;
	call->at = m->at;
	call->code = kind == PAIR_CALL ? m->name : name;
	call->name = name;
	call->kind = kind;
	call->task = m->task && kind == PAIR_CALL ? m->task : t->task;
	call->begin_missing = PAIR_THERE;
	if (CTF_UNLIKELY(t->again) && kind == PAIR_CALL) {
		t->again--;
		call->begin_missing = t->again_missing;
	}
	return 0;
}

static inline int
pair_begin_call(struct pair_joiner *j, struct pair_thread *t, const struct pair_mark *m)
{
	const struct pair_code *code = pair_code_of(j, t->pid, m->name);

	if (!code)
		return -1;
	if (CTF_UNLIKELY(code->image && code->image != t->image)) {
		if (t->image && !(t = pair_replace_thread(j, t, m)))
			return -1;
		t->image = code->image;
	}
	return pair_push_call(j, t, m, code->name, PAIR_CALL);
}

/*
 * An end without a begin. If no call is open, this one began before all that its
 * thread has told: what has ended meanwhile lay within it. Else its begin was
 * lost somewhere within the innermost call.
 */
static int
pair_end_unbegun(struct pair_joiner *j, struct pair_thread *t, const struct pair_mark *m, uint32_t name)
{
	struct pair_row *row = pair_new_row(j);

	if (!row)
		return -1;
	row->name = name;
	if (pair_go_on(j, t->n_calls ? t->calls[t->n_calls - 1].path : 0, row->name, &row->path))
		return -1;
	row->kind = PAIR_CALL;
	row->id = ++j->last_call;
	row->end_at = m->at;
	row->thread = row->end_thread = (uint32_t)(t - j->threads);
	row->task = m->task ? m->task : t->task;
	row->depth = (uint32_t)t->n_calls;
	if (t->n_calls) {
		row->begin = m->time;
		row->begin_missing = PAIR_LOST;
		row->parent = t->calls[t->n_calls - 1].id;
		return 0;
	}
	row->begin = t->begin < m->time ? t->begin : m->time;
	row->duration = pair_minus(m->time, row->begin);
	row->self = pair_minus(row->duration, t->children);
	t->children = row->duration;
	row->begin_missing = t->begin_missing ? t->begin_missing : pair_no_begin(j, m->time);
	return 0;
}

/* The innermost that has this code, and of this kind, ends: what is open within it has lost its end. 1: there is none. */
static inline __attribute__((always_inline)) int
pair_end_code(struct pair_joiner *j, struct pair_thread *t, const struct pair_mark *m, uint32_t code, uint8_t kind)
{
	size_t n = t->n_calls;

	while (n && (t->calls[n - 1].code != code || t->calls[n - 1].kind != kind))
		n--;
	if (CTF_UNLIKELY(!n))
		return 1;
	while (CTF_UNLIKELY(t->n_calls > n))
		if (pair_pop_call(j, t, m->time, PAIR_NOWHERE, PAIR_LOST))
			return -1;
	return pair_pop_call(j, t, m->time, m->at, PAIR_THERE);
}

static inline int
pair_end_call(struct pair_joiner *j, struct pair_thread *t, const struct pair_mark *m)
{
	const struct pair_code *code;
	int failed = pair_end_code(j, t, m, m->name, PAIR_CALL);

	if (CTF_LIKELY(failed <= 0))
		return failed;
	code = pair_code_of(j, t->pid, m->name);
	return code ? pair_end_unbegun(j, t, m, code->name) : -1;
}

/* ---- what the kernel does ---- */

/* A CPU that runs this thread; 0: none, or nobody knows which. */
static uint32_t
pair_running(const struct pair_joiner *j, int32_t nobody, int32_t cpu)
{
	const struct pair_place *place = pair_find(&j->threads_by_id, pair_two(nobody, (uint32_t)cpu));
	const struct pair_thread *t = place ? &j->threads[place->value - 1] : NULL;

	return t ? t->running : 0;
}

/* A mark of a system call with the process that the thread is of; where it says no thread, it is what the CPU runs. */
static struct pair_mark
pair_of_thread(const struct pair_joiner *j, struct pair_mark m)
{
	uint32_t tid = m.tid < 0 ? pair_running(j, m.pid, m.tid) : (uint32_t)m.tid;
	const struct pair_place *place = tid ? pair_find(&j->threads_by_tid, tid) : NULL;

	if (tid)
		m.tid = (int32_t)tid;
	if (place)
		m.pid = j->threads[place->value - 1].pid;
	m.process = m.thread = m.task = 0;
	return m;
}

/* Names that only the trace has are those of codes too, of processes that there cannot be. */
static const struct pair_code *
pair_kernel_name(struct pair_joiner *j, uint32_t text, uint32_t number)
{
	return pair_code_of(j, (int32_t)(UINT32_C(0x80000000) | text), number);
}

/* The kernel tells what a thread is called that has said nothing of itself. */
static void
pair_name_thread(struct pair_joiner *j, uint32_t tid, uint32_t text)
{
	const struct pair_place *place = pair_find(&j->threads_by_tid, tid);

	if (place && j->threads[place->value - 1].pid < 0)
		j->threads[place->value - 1].name = text;
}

/* What a CPU has run ends, with all that interrupts it; another thread's time begins. */
static int
pair_run(struct pair_joiner *j, const struct pair_mark *m)
{
	struct pair_mark of_cpu = *m;
	uint32_t before = (uint32_t)m->parent, next = (uint32_t)m->id;
	struct pair_thread *t;
	const struct pair_code *code;

	of_cpu.process = of_cpu.task = 0;
	t = pair_thread_of(j, &of_cpu);
	if (!t)
		return -1;
	while (t->n_calls) {
		int is_there = t->n_calls == 1 && t->running == before;

		if (pair_pop_call(j, t, m->time, is_there ? m->at : PAIR_NOWHERE, is_there ? PAIR_THERE : PAIR_LOST))
			return -1;
	}
	t->running = next;
	if (!next) /* it is idle */
		return 0;
	pair_name_thread(j, next, m->task);
	code = pair_kernel_name(j, m->task, next);
	return code ? pair_push_call(j, t, &of_cpu, code->name, PAIR_RUN) : -1;
}

static int
pair_join_kernel(struct pair_joiner *j, const struct pair_mark *mark)
{
	int is_syscall = mark->kind >= PAIR_SYSCALL;
	struct pair_mark m = is_syscall ? pair_of_thread(j, *mark) : *mark;
	struct pair_thread *t = pair_thread_of(j, &m);
	uint32_t name = m.name;

	if (!t)
		return -1;
	if (!is_syscall || !name) {
		const struct pair_code *code = pair_kernel_name(j, 0, name + (uint32_t)m.id);

		if (!code)
			return -1;
		name = code->name;
	}
	if (m.kind == PAIR_IRQ || m.kind == PAIR_SYSCALL)
		return pair_push_call(j, t, &m, name, m.kind);
	/* Without a begin it is older than the trace, or of the call that made the thread: no row. */
	return pair_end_code(j, t, &m, name, (uint8_t)(m.kind - 1)) < 0 ? -1 : 0;
}

/* ---- spans ---- */

static inline struct pair_span *
pair_open_span(struct pair_joiner *j, uint64_t id)
{
	const struct pair_place *place = pair_find(&j->spans_by_id, id);

	return place ? &j->spans[place->value - 1] : NULL;
}

/* A row for a span; it is not open any more. */
static int
pair_close_span(struct pair_joiner *j, struct pair_place *place, int64_t time, uint64_t at, uint8_t missing,
		const struct pair_thread *t, uint32_t error)
{
	struct pair_span *span = &j->spans[place->value - 1], *parent;
	struct pair_row *row = pair_new_row(j);
	uint64_t counted_at = span->counted_at;

	if (!row)
		return -1;
	if (span->n_children && time > span->since)
		span->covered = pair_plus(span->covered, pair_minus(time, span->since));
	row->kind = PAIR_SPAN;
	row->begin = span->begin;
	row->duration = pair_minus(time, span->begin);
	/* Children may have begun after its process ended. */
	row->self = span->covered < row->duration ? pair_minus(row->duration, span->covered) : 0;
	row->id = span->id;
	row->parent = span->parent;
	row->begin_at = span->at;
	row->end_at = at;
	row->name = span->name;
	row->thread = span->thread;
	row->end_thread = t ? (uint32_t)(t - j->threads) : span->thread;
	row->path = span->path;
	row->task = span->task;
	row->error = error;
	row->depth = span->depth;
	row->end_missing = missing;
	span->next_free = j->free_span;
	j->free_span = place->value;
	pair_remove(&j->spans_by_id, place);
	/* Not one that began later, at the same time on another CPU, or with the id of one that was open before. */
	parent = pair_open_span(j, row->parent);
	if (parent && parent->at == counted_at && !--parent->n_children && time > parent->since)
		parent->covered = pair_plus(parent->covered, pair_minus(time, parent->since));
	return 0;
}

static struct pair_span *
pair_new_span(struct pair_joiner *j, uint64_t id)
{
	size_t i = j->free_span ? j->free_span - 1 : j->n_spans;

	if (!pair_room((void **)&j->spans, i, &j->spans_room, sizeof(*j->spans)) ||
	    pair_put(&j->spans_by_id, id, (uint32_t)i))
		return NULL;
	if (i == j->n_spans)
		j->n_spans++;
	else
		j->free_span = j->spans[i].next_free;
	return &j->spans[i];
}

static int
pair_begin_span(struct pair_joiner *j, const struct pair_thread *t, const struct pair_mark *m)
{
	struct pair_place *known = pair_find(&j->spans_by_id, m->id);
	struct pair_span *span, *parent;

	/* Ids are not used twice; where one is, the first has no end. */
	if (CTF_UNLIKELY(known != NULL) && pair_close_span(j, known, m->time, PAIR_NOWHERE, PAIR_LOST, NULL, 0))
		return -1;
	span = pair_new_span(j, m->id);
	if (!span)
		return -1;
	memset(span, 0, sizeof(*span));
	span->begin = m->time;
	span->id = m->id;
	span->parent = m->parent;
	span->at = span->counted_at = m->at;
	span->name = m->name;
	span->thread = (uint32_t)(t - j->threads);
	span->task = m->task ? m->task : t->task;
	parent = m->parent && m->parent != m->id ? pair_open_span(j, m->parent) : NULL;
	if (parent) {
		span->depth = parent->depth + 1;
		span->counted_at = parent->at;
		if (!parent->n_children++)
			parent->since = m->time;
	}
	return pair_go_on(j, parent ? parent->path : 0, span->name, &span->path);
}

static int
pair_end_span(struct pair_joiner *j, const struct pair_thread *t, const struct pair_mark *m)
{
	struct pair_place *known = pair_find(&j->spans_by_id, m->id);
	struct pair_row *row;

	if (CTF_LIKELY(known != NULL))
		return pair_close_span(j, known, m->time, m->at, PAIR_THERE, t, m->name);
	row = pair_new_row(j);
	if (!row)
		return -1;
	row->kind = PAIR_SPAN;
	row->begin = j->begin < m->time ? j->begin : m->time;
	row->duration = row->self = pair_minus(m->time, row->begin);
	row->id = m->id;
	row->end_at = m->at;
	row->thread = row->end_thread = (uint32_t)(t - j->threads);
	row->task = m->task ? m->task : t->task;
	row->error = m->name;
	row->begin_missing = pair_no_begin(j, m->time);
	return 0;
}

/* ---- strands, process images ---- */

/* A name for a strand that no other has; -1: no memory. */
static int64_t
pair_name_apart(struct pair_joiner *j, uint32_t told)
{
	struct pair_place *called = told && j->texts ? pair_find(&j->n_called, told) : NULL;

	if (called)
		return pair_numbered(j->texts, told, called->value++);
	return told && j->texts && pair_put(&j->n_called, told, 0) ? -1 : told;
}

static int
pair_name_strand(struct pair_joiner *j, const struct pair_mark *m)
{
	const struct pair_place *known = pair_find(&j->strands_by_id, m->id);
	struct pair_strand *strand;
	int64_t name;

	if (known && j->strands[known->value - 1].told == m->task) /* it is told again */
		return 0;
	name = pair_name_apart(j, m->task);
	if (name < 0)
		return -1;
	if (!known) {
		if (!pair_room((void **)&j->strands, j->n_strands, &j->strands_room, sizeof(*strand)) ||
		    pair_put(&j->strands_by_id, m->id, (uint32_t)j->n_strands))
			return -1;
		j->n_strands++;
	}
	strand = &j->strands[known ? known->value - 1 : j->n_strands - 1];
	*strand = (struct pair_strand){m->task, (uint32_t)name};
	return 0;
}

static void
pair_switch(const struct pair_joiner *j, struct pair_thread *t, const struct pair_mark *m)
{
	const struct pair_place *strand = pair_find(&j->strands_by_id, m->id);

	t->task = strand ? j->strands[strand->value - 1].name : 0;
	t->again = m->name;
	t->again_missing = PAIR_RESUMED;
}

static int
pair_begin_image(struct pair_joiner *j, struct pair_thread *t, const struct pair_mark *m)
{
	if (t->n_marks > 1 && !(t = pair_replace_thread(j, t, m)))
		return -1;
	t->begin = m->time;
	t->begin_missing = PAIR_INHERITED;
	t->again = m->name;
	t->again_missing = PAIR_INHERITED;
	t->image = (uint32_t)m->id;
	return 0;
}

/* ---- all of them ---- */

static int
pair_join(struct pair_joiner *j, const struct pair_mark *marks, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct pair_mark *m = &marks[i];
		struct pair_thread *t;
		int failed = 0;

		if (CTF_UNLIKELY(m->kind >= PAIR_RUN)) {
			if (m->kind == PAIR_RUN ? pair_run(j, m) : pair_join_kernel(j, m))
				return -1;
			continue;
		}
		t = pair_thread_of(j, m);
		if (CTF_UNLIKELY(!t))
			return -1;
		if (m->kind == PAIR_CALL)
			failed = pair_begin_call(j, t, m);
		else if (m->kind == PAIR_CALL_END)
			failed = pair_end_call(j, t, m);
		else if (m->kind == PAIR_SPAN)
			failed = pair_begin_span(j, t, m);
		else if (m->kind == PAIR_SPAN_END)
			failed = pair_end_span(j, t, m);
		else if (m->kind == PAIR_STRAND)
			failed = pair_name_strand(j, m);
		else if (m->kind == PAIR_SWITCH)
			pair_switch(j, t, m);
		else if (m->kind == PAIR_IMAGE)
			failed = pair_begin_image(j, t, m);
		if (CTF_UNLIKELY(failed))
			return -1;
	}
	return 0;
}

/* A process that has ended: it was still there at `seen`. */
struct pair_end {
	int64_t seen;
	int32_t pid;
};

/* Is the process among those that have ended? If so, *end is when it was last heard of. */
static int
pair_has_ended(const struct pair_joiner *j, int32_t pid, const struct pair_end *ended, size_t n, int64_t *end)
{
	size_t i = 0;

	while (i < n && ended[i].pid != pid)
		i++;
	if (i == n)
		return 0;
	*end = ended[i].seen;
	for (i = 0; i < j->n_threads; i++)
		if (j->threads[i].pid == pid && j->threads[i].last > *end)
			*end = j->threads[i].last;
	return 1;
}

static int
pair_finish_calls(struct pair_joiner *j, int64_t end, const struct pair_end *ended, size_t n_ended)
{
	for (size_t i = 0; i < j->n_threads; i++) {
		struct pair_thread *t = &j->threads[i];
		int64_t last = end;
		int died = t->n_calls && pair_has_ended(j, t->pid, ended, n_ended, &last);

		while (t->n_calls)
			if (pair_pop_call(j, t, last, PAIR_NOWHERE,
					  died ? PAIR_DIED : pair_no_end(j, t->calls[t->n_calls - 1].begin)))
				return -1;
	}
	return 0;
}

/* A span that is open at the end of the trace, and when it is taken to end. */
struct pair_last {
	int64_t time;
	uint64_t id;
	uint8_t died;
};

static int
pair_compare_lasts(const void *a, const void *b)
{
	int64_t first = ((const struct pair_last *)a)->time, second = ((const struct pair_last *)b)->time;

	return (first > second) - (first < second);
}

/*
 * In the order of time: what died before its parent is taken off the parent's
 * own time up to its death, and what died after it up to the parent's end.
 */
static int
pair_finish_spans(struct pair_joiner *j, int64_t end, const struct pair_end *ended, size_t n_ended)
{
	struct pair_last *lasts = (struct pair_last *)malloc((j->n_spans + 1) * sizeof(*lasts));
	size_t n = 0, i;
	int failed = !lasts;

	for (i = 0; !failed && i < j->n_spans; i++) {
		const struct pair_span *span = &j->spans[i];
		struct pair_place *place = pair_find(&j->spans_by_id, span->id);
		struct pair_last *one = &lasts[n];

		if (!place || place->value != i + 1)
			continue;
		one->time = end;
		one->id = span->id;
		one->died = (uint8_t)pair_has_ended(j, j->threads[span->thread].pid, ended, n_ended, &one->time);
		n++;
	}
	if (n > 1)
		qsort(lasts, n, sizeof(*lasts), pair_compare_lasts);
	for (i = 0; !failed && i < n; i++) {
		struct pair_place *place = pair_find(&j->spans_by_id, lasts[i].id);
		uint8_t missing = lasts[i].died ? PAIR_DIED : pair_no_end(j, j->spans[place->value - 1].begin);

		failed = pair_close_span(j, place, lasts[i].time, PAIR_NOWHERE, missing, NULL, 0);
	}
	free(lasts);
	return failed ? -1 : 0;
}

/* Rows for what is open at the end of the trace; of the processes in `ended` at theirs. */
static int
pair_finish(struct pair_joiner *j, int64_t end, const struct pair_end *ended, size_t n_ended)
{
	if (pair_finish_calls(j, end, ended, n_ended))
		return -1;
	return pair_finish_spans(j, end, ended, n_ended);
}

#endif /* RINGBUF_PAIRS_H */
