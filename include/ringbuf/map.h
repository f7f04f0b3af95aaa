/*
 * ringbuf/map.h - a stream as the kernel maps its ring buffer: a meta page, then
 * all sub-buffers, read-only, and one call that swaps the reader's sub-buffer.
 *
 *	struct ringbuf_map map;
 *	ringbuf_map_open(ch, 0, &map);
 *	int id = ringbuf_map_get_reader(&map);
 *	const uint8_t *data = ringbuf_map_subbuf(&map, id);
 *
 * ringbuf_map_get_reader decides as the kernel's TRACE_MMAP_IOCTL_GET_READER does:
 * nothing new: nothing changes; more in the sub-buffer at hand: `read` grows, the
 * id stays; else the next one, if there is any. What it hands out never changes
 * under the consumer's eyes, but for the packet header of one still being written.
 *
 * Sub-buffer k lies at meta_page_size + k * subbuf_size, for the life of the
 * channel. docs/mapped.md lists where this differs from the kernel.
 *
 * Several mappers, in any processes, share a stream, its reader's sub-buffer and
 * its meta page, and compete. They exclude readers (reader.h) and are excluded by
 * them. The hold is the stream's: it outlives a mapper that dies, and the next
 * mapper or reader takes it over. Producers never wait for any of this, and do
 * nothing for it: all counters are summed up by the call.
 */
#ifndef RINGBUF_MAP_H
#define RINGBUF_MAP_H

#include "channel.h"
#include "repair.h"
#include "stats.h"

/* The kernel's struct trace_buffer_meta, and three counters more: meta_struct_len says so. */
struct ringbuf_meta {
	uint32_t meta_page_size;
	uint32_t meta_struct_len;
	uint32_t subbuf_size;
	uint32_t nr_subbufs;      /* with the reader's, and the spares */
	struct {
		uint64_t lost_events; /* overrun between this sub-buffer and the one before */
		uint32_t id;
		uint32_t read;        /* bytes handed out of it, without its header */
	} reader;
	uint64_t flags;           /* 0 */
	/* since the channel was created: */
	uint64_t entries;         /* records committed */
	uint64_t overrun;         /* records overwritten or cleared unread */
	uint64_t read;            /* records handed out */
	uint64_t pages_lost;      /* sub-buffers overwritten unread */
	uint64_t pages_touched;   /* sub-buffers begun */
	uint64_t dropped;         /* records refused: full, wrap, big, nesting, slots */
	uint64_t discarded;       /* reservations given up */
	uint64_t torn;            /* records whose producer died over them */
};

#define RINGBUF_META_KERNEL_SIZE 80

/* What a sub-buffer adds to the counters of its stream, and its words and its slot's when that was counted. */
struct ringbuf_map_count {
	uint64_t committed, stage, ref;
	uint64_t written, overrun;
};

struct ringbuf_map {
	struct ringbuf_channel *ch;
	uint8_t *base;            /* the read-only mapping */
	uint64_t size;
	struct ringbuf_right right;
	struct ringbuf_stream_reader reader; /* under map_lock */
	uint64_t from, to;        /* bytes of its sub-buffer that the last get_reader handed out */
	/* private sums over the sub-buffers, under map_lock: */
	struct ringbuf_map_count *counts, sum;
	uint64_t parked, parked_now; /* as counted then */
	uint64_t counted_read;       /* where reading went on then */
	struct ringbuf_stream_count own;
	uint64_t counted_pos;     /* slots before it change no more until they are lapped */
	uint64_t counted_end;     /* the sub-buffer that was written then ends there */
};

/* A part of a sub-buffer from its begin on. */
struct ringbuf_part {
	uint64_t bytes, records;
};

/* map_read packs what was handed out; a sub-buffer has at most 2^25 bytes. */
#define RINGBUF_MAP_RECORDS_SHIFT 32

RINGBUF_INLINE const struct ringbuf_meta *
ringbuf_map_meta(const struct ringbuf_map *map)
{
	return (const struct ringbuf_meta *)(const void *)map->base;
}

/* The sub-buffer with this id, its packet header first. */
RINGBUF_INLINE const uint8_t *
ringbuf_map_subbuf(const struct ringbuf_map *map, uint32_t id)
{
	return map->base + map->ch->page_size +
	       ((uint64_t)ringbuf_checked_idx(map->ch, id) << map->ch->geometry.subbuf_order);
}

/* ---- what may be read ---- */

/*
 * ringbuf_open_part - what may be read of the sub-buffer of `pos`, still being written.
 * All that is reserved in it, if all of that is committed; nothing, while a record
 * is under way, or if one was discarded: its hole changes when the packet is delivered.
 * Progress: wait-free. Ordering: O1, O2, O3.
 */
RINGBUF_FUNC struct ringbuf_part
ringbuf_open_part(const struct ringbuf_channel *ch, struct ringbuf_stream *s, uint64_t pos)
{
	const struct ringbuf_geometry *g = &ch->geometry;
	struct ringbuf_part none = {0, 0}, part;
	uint64_t word = ringbuf_load(&s->produced, RINGBUF_ACQUIRE); /* O1 */
	/* O5 acquire: which sub-buffer it is. Pairs with ringbuf_enter_slow. */
	uint64_t ref = ringbuf_load(&ringbuf_slot_at(ch, s, pos)->subbuf_ref, RINGBUF_ACQUIRE);
	struct ringbuf_subbuf *sb = ringbuf_subbuf_at(ch, s, ringbuf_checked_idx(ch, ref & RINGBUF_REF_IDX_MASK));
	/* O2 acquire: the bytes that were counted, and whether one was a filler. Pairs with
	 * ringbuf_count. */
	uint64_t committed = ringbuf_load(&sb->committed, RINGBUF_ACQUIRE);
	/* O3 acquire, of both: if they are of this packet's delivery, the position is seen to have
	 * moved on below. Pairs with ringbuf_deliver. (It clears `fillers` relaxed: C11 alone
	 * does not promise it for that.) */
	uint64_t fillers = ringbuf_load(&sb->fillers, RINGBUF_ACQUIRE);
	uint64_t stage = ringbuf_load(&sb->stage, RINGBUF_ACQUIRE), counted;

	RINGBUF_TESTPOINT(map_sampled);
	part.bytes = ringbuf_subbuf_off(g, word);
	counted = ringbuf_counted_since(sb, stage, committed);
	part.records = counted >> 32;
	/* relaxed: by O2, whatever was counted is seen reserved. If the position stood
	 * still, what was counted is a part of what lies below it. */
	if (!part.bytes || ringbuf_load(&s->produced, RINGBUF_RELAXED) != word ||
	    ringbuf_subbuf_begin(g, word) != pos || ringbuf_ref_pass(ref) != ringbuf_ref_pass_at(ch, pos) ||
	    ringbuf_stage_is_past(stage, pos) || (uint32_t)counted != part.bytes || fillers)
		return none;
	return part;
}

/* What may be read of the held sub-buffer. */
RINGBUF_FUNC struct ringbuf_part
ringbuf_held_part(struct ringbuf_stream_reader *r, int complete)
{
	struct ringbuf_part part = {r->packet.content_size, r->packet.records};

	return complete ? part : ringbuf_open_part(r->ch, r->s, r->packet.pos);
}

/* ---- what was handed out: under map_lock ---- */

/* Bounded: it indexes memory. */
RINGBUF_INLINE struct ringbuf_part
ringbuf_map_handed_out(const struct ringbuf_stream_reader *r)
{
	uint64_t word = ringbuf_load(&r->s->map_read, RINGBUF_RELAXED); /* relaxed: locked */
	struct ringbuf_part part = {ringbuf_bounded((uint32_t)word, ringbuf_subbuf_size(&r->ch->geometry)),
				    word >> RINGBUF_MAP_RECORDS_SHIFT};

	return part;
}

RINGBUF_INLINE void
ringbuf_map_hand_out(struct ringbuf_stream *s, struct ringbuf_part part)
{
	uint64_t word = part.records << RINGBUF_MAP_RECORDS_SHIFT | part.bytes;

	ringbuf_store(&s->map_read, word, RINGBUF_RELAXED); /* relaxed: locked */
}

/* ---- the meta page: one writer at a time, by map_lock ---- */

/* relaxed: each field is whole; all of them are of one moment to the caller alone */
RINGBUF_INLINE void
ringbuf_meta_put(uint64_t *field, uint64_t value)
{
	/* relaxed: see above */
	ringbuf_store((ringbuf_atomic_u64 *)(void *)field, value, RINGBUF_RELAXED);
}

RINGBUF_INLINE void
ringbuf_meta_put_u32(uint32_t *field, uint64_t value)
{
	ringbuf_store((ringbuf_atomic_u32 *)(void *)field, (uint32_t)value, RINGBUF_RELAXED);
}

RINGBUF_INLINE struct ringbuf_meta *
ringbuf_meta_of(const struct ringbuf_stream_reader *r)
{
	return (struct ringbuf_meta *)(void *)((uint8_t *)(void *)r->s + r->ch->meta_off);
}

/* The reader's own sub-buffer: the held one, or the one it held last. */
RINGBUF_INLINE uint32_t
ringbuf_map_id(const struct ringbuf_stream_reader *r)
{
	/* relaxed: the reader's own */
	return r->holding ? r->packet.subbuf_idx
			  : ringbuf_checked_idx(r->ch, ringbuf_load(&r->s->spare, RINGBUF_RELAXED));
}

RINGBUF_INLINE uint64_t
ringbuf_pages_before(const struct ringbuf_channel *ch, uint64_t pos)
{
	return ringbuf_pos_sub(pos, ch->start_pos) >> ch->geometry.subbuf_order;
}

/* Sub-buffers that were lapped unread: all that are past, but those that a reader consumed. */
RINGBUF_FUNC uint64_t
ringbuf_pages_lost(const struct ringbuf_map *map)
{
	const struct ringbuf_stream_reader *r = &map->reader;
	uint64_t next = ringbuf_first_pos(r, map->counted_end), past = ringbuf_pages_before(r->ch, next);
	uint64_t taken = map->own.packets_read + (r->holding && ringbuf_pos_diff(r->packet.pos, next) < 0);

	return past > taken ? past - taken : 0;
}

RINGBUF_FUNC void
ringbuf_meta_put_counters(const struct ringbuf_map *map, struct ringbuf_part handed_out)
{
	const struct ringbuf_stream_reader *r = &map->reader;
	const struct ringbuf_stream_count *own = &map->own;
	const struct ringbuf_stream *s = r->s;
	struct ringbuf_meta *meta = ringbuf_meta_of(r);
	uint64_t dropped = 0;

	for (int cause = 0; cause < RINGBUF_N_LOSSES; cause++)
		dropped += ringbuf_count_lost(s, cause);
	ringbuf_meta_put(&meta->entries, map->sum.written);
	ringbuf_meta_put(&meta->overrun, map->sum.overrun + own->dropped);
	ringbuf_meta_put(&meta->read, own->read + (r->holding ? handed_out.records : 0));
	ringbuf_meta_put(&meta->pages_lost, ringbuf_pages_lost(map));
	ringbuf_meta_put(&meta->pages_touched, ringbuf_pages_before(r->ch, map->counted_end));
	ringbuf_meta_put(&meta->dropped, dropped);
	ringbuf_meta_put(&meta->discarded, ringbuf_count_lost(s, RINGBUF_DISCARDED));
	ringbuf_meta_put(&meta->torn, ringbuf_count_lost(s, RINGBUF_LOST_TORN));
}

/* Whose sub-buffer it is, and how much of it. Left alone where nothing is held: the last one
 * stays readable. */
RINGBUF_FUNC void
ringbuf_meta_put_reader(const struct ringbuf_stream_reader *r, struct ringbuf_part handed_out)
{
	struct ringbuf_meta *meta = ringbuf_meta_of(r);
	uint64_t bytes = handed_out.bytes, header = r->ch->packet_header_size;

	ringbuf_meta_put_u32(&meta->reader.read, bytes > header ? bytes - header : 0);
	ringbuf_meta_put_u32(&meta->reader.id, ringbuf_map_id(r));
}

/* Does the meta page name another reader sub-buffer than the one we hold? So it is after an empty
 * packet, after a clear, and after another mapper's death. */
RINGBUF_FUNC int
ringbuf_meta_is_stale(const struct ringbuf_stream_reader *r)
{
	ringbuf_atomic_u32 *id = (ringbuf_atomic_u32 *)(void *)&ringbuf_meta_of(r)->reader.id;

	return ringbuf_load(id, RINGBUF_RELAXED) != ringbuf_map_id(r); /* relaxed: locked */
}

/* Records overrun since the sub-buffer before was taken. */
RINGBUF_FUNC void
ringbuf_meta_put_lost(const struct ringbuf_map *map)
{
	const struct ringbuf_stream_reader *r = &map->reader;
	uint64_t overrun = map->sum.overrun + map->own.dropped;
	uint64_t before = ringbuf_load(&r->s->map_overrun, RINGBUF_RELAXED); /* relaxed: locked */

	ringbuf_meta_put(&ringbuf_meta_of(r)->reader.lost_events, overrun - before);
	ringbuf_store(&r->s->map_overrun, overrun, RINGBUF_RELAXED); /* relaxed: locked */
}

RINGBUF_FUNC void
ringbuf_meta_put_geometry(const struct ringbuf_stream_reader *r)
{
	struct ringbuf_meta *meta = ringbuf_meta_of(r);

	ringbuf_meta_put_u32(&meta->meta_page_size, r->ch->page_size);
	ringbuf_meta_put_u32(&meta->subbuf_size, ringbuf_subbuf_size(&r->ch->geometry));
	ringbuf_meta_put_u32(&meta->nr_subbufs, r->ch->n_all);
	ringbuf_meta_put_u32(&meta->meta_struct_len, sizeof(*meta));
}

RINGBUF_FUNC int
ringbuf_meta_is_filled(const struct ringbuf_stream_reader *r)
{
	ringbuf_atomic_u32 *length = (ringbuf_atomic_u32 *)(void *)&ringbuf_meta_of(r)->meta_struct_len;

	return ringbuf_load(length, RINGBUF_RELAXED) != 0; /* relaxed: locked */
}

/* Count a sub-buffer, if any of its words has changed, or its slot's word is not known (UINT64_MAX): it may be on its way
 * into a slot. `place`: as ringbuf_find_places says. */
RINGBUF_FUNC void
ringbuf_map_count_subbuf(struct ringbuf_map *map, uint32_t idx, uint16_t place, uint64_t ref)
{
	struct ringbuf_stream *s = map->reader.s;
	const struct ringbuf_subbuf *sb = ringbuf_subbuf_at(map->ch, s, idx);
	struct ringbuf_map_count *last = &map->counts[idx];
	/* Before it is counted: what changes then is found changed the next time. O2 acquire: who counted
	 * had seen the pass entered. Pairs with ringbuf_count. relaxed: a delivery is a count before that. */
	uint64_t committed = ringbuf_load(&sb->committed, RINGBUF_ACQUIRE);
	uint64_t stage = ringbuf_load(&sb->stage, RINGBUF_RELAXED);
	struct ringbuf_subbuf_count now;

	if (ref != UINT64_MAX && committed == last->committed && stage == last->stage && ref == last->ref)
		return;
	now = ringbuf_count_placed(map->ch, s, idx, place);
	map->sum.written += now.written - last->written;
	map->sum.overrun += now.overrun - last->overrun;
	last->written = now.written;
	last->overrun = now.overrun;
	last->committed = committed;
	last->stage = stage;
	last->ref = ref;
}

/* All of them: some have left the ring by another way than through the reader. */
RINGBUF_SLOW void
ringbuf_map_count_all(struct ringbuf_map *map)
{
	struct ringbuf_stream *s = map->reader.s;
	uint16_t places[RINGBUF_ALL_MAX];

	ringbuf_find_places(map->ch, s, places);
	map->parked_now = 0;
	for (uint32_t i = 0; i < map->ch->n_all; i++) {
		map->parked_now += ringbuf_is_parked(map->ch, s, i);
		ringbuf_map_count_subbuf(map, i, places[i], UINT64_MAX);
	}
}

/* Is the slot's packet one whose counters change no more, until it is lapped? */
RINGBUF_FUNC int
ringbuf_map_is_settled(const struct ringbuf_map *map, uint64_t pos, uint64_t ref)
{
	const struct ringbuf_channel *ch = map->ch;
	uint32_t idx = ringbuf_checked_idx(ch, ref & RINGBUF_REF_IDX_MASK);
	/* O3 acquire: the totals. Pairs with ringbuf_deliver. */
	uint64_t stage = ringbuf_load(&ringbuf_subbuf_at(ch, map->reader.s, idx)->stage, RINGBUF_ACQUIRE);

	return ringbuf_ref_pass(ref) == ringbuf_ref_pass_at(ch, pos) &&
	       (ref & RINGBUF_REF_READ || ringbuf_stage_is(stage, pos, RINGBUF_STAGE_DONE));
}

/*
 * What was read since it was counted, by whatever mapper: each such packet has left its slot, and the sub-buffer of one
 * read before stands there. That may have been counted before it was complete.
 */
RINGBUF_FUNC void
ringbuf_map_count_read(struct ringbuf_map *map, uint64_t oldest, uint64_t read)
{
	const struct ringbuf_geometry *g = &map->ch->geometry;
	uint64_t pos = map->counted_read;

	if (ringbuf_pos_sub(pos, oldest) > ringbuf_ring_size(g)) /* lapped since */
		pos = oldest;
	for (; ringbuf_pos_diff(read, pos) > 0; pos = ringbuf_pos_add(pos, ringbuf_subbuf_size(g))) {
		/* relaxed: the mappers' own, while the pass stands */
		uint64_t ref = ringbuf_load(&ringbuf_slot_at(map->ch, map->reader.s, pos)->subbuf_ref, RINGBUF_RELAXED);

		ringbuf_map_count_subbuf(map, ringbuf_checked_idx(map->ch, ref & RINGBUF_REF_IDX_MASK),
					 (uint16_t)(ringbuf_slot_idx(g, pos) + 1), UINT64_MAX);
	}
}

/* Has the one slot that may have changed not done so? It may be entered though `end` is the same. */
RINGBUF_INLINE int
ringbuf_map_is_counted(const struct ringbuf_map *map, uint64_t end)
{
	const struct ringbuf_geometry *g = &map->ch->geometry;
	struct ringbuf_stream *s = map->reader.s;
	uint64_t pos = map->counted_pos;
	/* relaxed all: if they are old, so is what was counted */
	uint64_t ref = ringbuf_load(&ringbuf_slot_at(map->ch, s, pos)->subbuf_ref, RINGBUF_RELAXED);
	uint32_t idx = ringbuf_checked_idx(map->ch, ref & RINGBUF_REF_IDX_MASK);
	const struct ringbuf_subbuf *sb = ringbuf_subbuf_at(map->ch, s, idx);
	const struct ringbuf_map_count *last = &map->counts[idx];

	return end == map->counted_end && end == ringbuf_pos_add(pos, ringbuf_subbuf_size(g)) && ref == last->ref &&
	       ringbuf_load(&sb->committed, RINGBUF_RELAXED) == last->committed;
}

/* The mappers' own: they may have left the ring since they were counted. */
RINGBUF_FUNC void
ringbuf_map_count_own(struct ringbuf_map *map)
{
	const struct ringbuf_geometry *g = &map->ch->geometry;
	struct ringbuf_stream *s = map->reader.s;
	/* relaxed all: they change under the mappers' lock; the slot's word is looked at again */
	uint64_t hold = ringbuf_load(&s->hold, RINGBUF_RELAXED);
	uint64_t pos = ringbuf_load(&s->hold_pos, RINGBUF_RELAXED);
	uint64_t ref = ringbuf_load(&ringbuf_slot_at(map->ch, s, pos)->subbuf_ref, RINGBUF_RELAXED);
	uint32_t held = ringbuf_checked_idx(map->ch, hold & ~RINGBUF_HOLD_VALID);
	int in_slot = (ref & RINGBUF_REF_IDX_MASK) == held;

	ringbuf_map_count_subbuf(map, ringbuf_checked_idx(map->ch, ringbuf_load(&s->spare, RINGBUF_RELAXED)), 0, UINT64_MAX);
	if (hold & RINGBUF_HOLD_VALID)
		ringbuf_map_count_subbuf(map, held, in_slot ? (uint16_t)(ringbuf_slot_idx(g, pos) + 1) : 0, UINT64_MAX);
}

/*
 * ringbuf_map_count - bring the sums over the sub-buffers up to date.
 * One that stands in a slot changes only while it is filled: those that were complete when
 * last counted, and have not been lapped, are left out. While any is parked, or about to be, all are counted.
 * Under map_lock. Ordering: O1.
 */
RINGBUF_FUNC void
ringbuf_map_count(struct ringbuf_map *map)
{
	const struct ringbuf_channel *ch = map->ch;
	const struct ringbuf_geometry *g = &ch->geometry;
	struct ringbuf_stream *s = map->reader.s;
	/* O1 acquire: what was counted before the position came here */
	uint64_t end = ringbuf_subbuf_ceil(g, ringbuf_load(&s->produced, RINGBUF_ACQUIRE));
	uint64_t oldest = ringbuf_pos_sub(end, ringbuf_ring_size(g)), pos;
	/* relaxed both, and in any order: of an old value, counted the next time */
	uint64_t parked = ringbuf_load(&s->parked, RINGBUF_RELAXED);
	uint64_t parking = ringbuf_load(&s->parking, RINGBUF_RELAXED);
	uint64_t read = ringbuf_next_pos(&map->reader);
	int settled = 1;

	map->own = ringbuf_count_stream(s);
	if (parking || parked != map->parked || map->parked_now) {
		map->parked = parked;
		map->counted_end = end;
		map->counted_pos = oldest;
		map->counted_read = read;
		ringbuf_map_count_all(map);
		return;
	}
	ringbuf_map_count_own(map);
	if (read == map->counted_read && ringbuf_map_is_counted(map, end))
		return;
	ringbuf_map_count_read(map, oldest, read);
	map->counted_read = read;
	map->counted_end = end;
	if (ringbuf_pos_sub(map->counted_pos, oldest) > ringbuf_ring_size(g)) /* lapped since, however long ago */
		map->counted_pos = oldest;
	pos = map->counted_pos;
	for (; ringbuf_pos_diff(end, pos) > 0; pos = ringbuf_pos_add(pos, ringbuf_subbuf_size(g))) {
		/* O5 acquire: pairs with ringbuf_enter_slow */
		uint64_t ref = ringbuf_load(&ringbuf_slot_at(ch, s, pos)->subbuf_ref, RINGBUF_ACQUIRE);

		settled = settled && ringbuf_map_is_settled(map, pos, ref);
		ringbuf_map_count_subbuf(map, ringbuf_checked_idx(ch, ref & RINGBUF_REF_IDX_MASK),
					 (uint16_t)(ringbuf_slot_idx(g, pos) + 1), ref);
		if (settled)
			map->counted_pos = ringbuf_pos_add(pos, ringbuf_subbuf_size(g));
	}
}

/* ---- the swap ---- */

enum ringbuf_map_step {
	RINGBUF_MAP_UNCHANGED,
	RINGBUF_MAP_EXTENDED,
	RINGBUF_MAP_SWAPPED,
};

/* Hand out what is new in the held sub-buffer. Returns 1 if that is all that can be done now. */
RINGBUF_FUNC int
ringbuf_map_extend(struct ringbuf_stream_reader *r, struct ringbuf_part *handed_out, enum ringbuf_map_step *step)
{
	int complete = ringbuf_held_is_complete(r);
	struct ringbuf_part part = ringbuf_held_part(r, complete);

	if (part.bytes <= handed_out->bytes)
		return !complete;
	ringbuf_map_hand_out(r->s, part);
	*handed_out = part;
	*step = RINGBUF_MAP_EXTENDED;
	return 1;
}

/* Hold the sub-buffer that is being written, if it is the next, and has a record. */
RINGBUF_FUNC int
ringbuf_map_get_open(struct ringbuf_stream_reader *r)
{
	uint64_t pos = ringbuf_next_pos(r);
	int ret;
	/* O5 acquire: pairs with ringbuf_enter_slow */
	uint64_t ref = ringbuf_load(&ringbuf_slot_at(r->ch, r->s, pos)->subbuf_ref, RINGBUF_ACQUIRE);

	if (!ringbuf_open_part(r->ch, r->s, pos).records ||
	    ringbuf_ref_pass(ref) != ringbuf_ref_pass_at(r->ch, pos) || (ref & RINGBUF_REF_READ))
		return -EAGAIN;
	ret = ringbuf_hold(r, pos, ref);
	if (!ret && !ringbuf_keep(r)) {
		ringbuf_put_subbuf(r, RINGBUF_PUT_BACK);
		ret = -EAGAIN;
	}
	return ret;
}

/* Hold the next sub-buffer with a record in it; packets without are passed over, as read. */
RINGBUF_FUNC int
ringbuf_map_get_next(struct ringbuf_stream_reader *r)
{
	uint32_t tries = ringbuf_n_subbufs(&r->ch->geometry);

	while (tries-- && ringbuf_get_next_subbuf(r) == 0) {
		if (r->packet.records)
			return 0;
		ringbuf_put_subbuf(r, RINGBUF_PUT_READ);
	}
	return ringbuf_map_get_open(r);
}

/*
 * ringbuf_map_step_on - one decision of get_reader. Under map_lock, r->holding up to date,
 * and what was handed out, which changes.
 * The sub-buffer at hand counts as read once all of it was handed out and more is asked for. So it is if
 * it is parked: what was handed out counts as read, and so the rest has to be.
 */
RINGBUF_FUNC enum ringbuf_map_step
ringbuf_map_step_on(struct ringbuf_stream_reader *r, struct ringbuf_part *handed_out)
{
	enum ringbuf_map_step step = RINGBUF_MAP_UNCHANGED;
	struct ringbuf_part none = {0, 0};

	if (r->holding) {
		if (ringbuf_map_extend(r, handed_out, &step))
			return step;
		/* first: a death here hands the packet out again, whole */
		ringbuf_map_hand_out(r->s, none);
		*handed_out = none;
		RINGBUF_TESTPOINT(map_before_put);
		ringbuf_put_subbuf(r, RINGBUF_PUT_READ);
	}
	RINGBUF_TESTPOINT(map_before_get);
	if (ringbuf_map_get_next(r))
		return RINGBUF_MAP_UNCHANGED;
	RINGBUF_TESTPOINT(map_held);
	ringbuf_map_extend(r, handed_out, &step);
	return RINGBUF_MAP_SWAPPED;
}

/* Lock the mappers out, and see what they did. Returns 0 or -errno. */
RINGBUF_FUNC int
ringbuf_map_enter(struct ringbuf_map *map)
{
	int ret = ringbuf_robust_lock(&map->reader.s->map_lock, 1);

	if (ret)
		return ret;
	if (map->right.fd < 0) { /* a forked child's, or released by another thread, which had the lock */
		ringbuf_robust_unlock(&map->reader.s->map_lock);
		return -ECHILD;
	}
	ret = ringbuf_keep_right(map->ch, map->reader.stream_idx, 1, F_RDLCK, &map->right);
	if (ret < 0) {
		ringbuf_robust_unlock(&map->reader.s->map_lock);
		return ret;
	}
	ringbuf_catch_up(&map->reader);
	return 0;
}

RINGBUF_FUNC void
ringbuf_map_leave(struct ringbuf_map *map)
{
	ringbuf_robust_unlock(&map->reader.s->map_lock);
}

/*
 * ringbuf_map_get_reader - hand out what is new; refresh the meta page.
 * Idempotent while nothing is recorded. The sub-buffer is the caller's until the
 * next call of any mapper of the stream.
 * Callers:  any thread. Progress: blocking, for other mappers inside this call;
 *           it looks at each slot that was written since the last call.
 * Returns:  the reader's sub-buffer, >= 0; -ECHILD in a forked child, or released; -errno.
 */
RINGBUF_FUNC int
ringbuf_map_get_reader(struct ringbuf_map *map)
{
	struct ringbuf_stream_reader *r = &map->reader;
	struct ringbuf_part handed_out;
	enum ringbuf_map_step step;
	int ret = ringbuf_map_enter(map);

	if (ret)
		return ret;
	handed_out = ringbuf_map_handed_out(r);
	map->from = handed_out.bytes;
	step = ringbuf_map_step_on(r, &handed_out);
	map->to = handed_out.bytes;
	if (step != RINGBUF_MAP_EXTENDED || !map->from)
		map->from = ringbuf_bounded(r->ch->packet_header_size, map->to);
	if (step == RINGBUF_MAP_UNCHANGED || map->from > map->to)
		map->from = map->to;
	ringbuf_map_count(map);
	if (step == RINGBUF_MAP_SWAPPED)
		ringbuf_meta_put_lost(map);
	if (step != RINGBUF_MAP_UNCHANGED || ringbuf_meta_is_stale(r))
		ringbuf_meta_put_reader(r, handed_out);
	ringbuf_meta_put_counters(map, handed_out);
	ret = (int)ringbuf_map_id(r);
	ringbuf_map_leave(map);
	return ret;
}

/* ---- waiting ---- */

/* Where get_reader looks when it is done with the sub-buffer at hand. */
RINGBUF_FUNC uint64_t
ringbuf_map_next_pos(const struct ringbuf_stream_reader *r)
{
	uint64_t next = ringbuf_next_pos(r);

	if (r->holding && ringbuf_pos_diff(r->packet.pos, next) >= 0)
		return ringbuf_pos_add(r->packet.pos, ringbuf_subbuf_size(&r->ch->geometry));
	return next;
}

/* Sub-buffers that producers have left and nobody has taken. */
RINGBUF_FUNC uint64_t
ringbuf_map_full_subbufs(const struct ringbuf_stream_reader *r)
{
	const struct ringbuf_geometry *g = &r->ch->geometry;
	uint64_t produced = ringbuf_load(&r->s->produced, RINGBUF_ACQUIRE); /* O1 */
	int64_t bytes = ringbuf_pos_diff(ringbuf_subbuf_begin(g, produced), ringbuf_map_next_pos(r));

	return bytes > 0 ? (uint64_t)bytes >> g->subbuf_order : 0;
}

/* Would get_reader hand anything out? */
RINGBUF_FUNC int
ringbuf_map_has_new(struct ringbuf_stream_reader *r)
{
	uint64_t pos = ringbuf_map_next_pos(r), ref;
	int ret;

	if (r->holding) {
		int complete = ringbuf_held_is_complete(r);

		if (ringbuf_held_part(r, complete).bytes > ringbuf_map_handed_out(r).bytes)
			return 1;
		if (!complete)
			return 0;
	}
	ret = ringbuf_find_packet(r->ch, r->s, pos, &ref);
	return ret == 0 || ret == -ESTALE || ringbuf_open_part(r->ch, r->s, pos).records;
}

/*
 * ringbuf_map_is_ready - has the stream `percent` of its sub-buffers to hand out?
 * As the kernel counts: the one being written is one of them, and the one at hand
 * must have been left by producers. 0 percent: anything new.
 * Callers: as get_reader. Returns 1, 0 or -errno.
 */
RINGBUF_FUNC int
ringbuf_map_is_ready(struct ringbuf_map *map, unsigned int percent)
{
	struct ringbuf_stream_reader *r = &map->reader;
	int ret = ringbuf_map_enter(map);

	if (ret)
		return ret;
	if (!percent)
		ret = ringbuf_map_has_new(r);
	else if (!r->holding || ringbuf_held_is_complete(r))
		ret = (ringbuf_map_full_subbufs(r) + 1) * 100 >=
		      (uint64_t)percent * ringbuf_n_subbufs(&r->ch->geometry);
	ringbuf_map_leave(map);
	return ret;
}

/* Repair what a dead producer left in the sub-buffer that is waited for, if it is that. */
RINGBUF_FUNC int
ringbuf_map_repair(struct ringbuf_map *map)
{
	struct ringbuf_stream_reader *r = &map->reader;
	const struct ringbuf_geometry *g = &map->ch->geometry;
	uint64_t pos, produced, ref;
	int waits;

	if (ringbuf_map_enter(map))
		return 0;
	waits = r->holding && !ringbuf_held_is_complete(r);
	pos = waits ? r->packet.pos : ringbuf_map_next_pos(r);
	waits |= ringbuf_find_packet(map->ch, r->s, pos, &ref) == -EAGAIN;
	produced = ringbuf_load(&r->s->produced, RINGBUF_ACQUIRE); /* O1 */
	ringbuf_map_leave(map);
	return waits && ringbuf_pos_diff(ringbuf_pos(produced), pos) >= (int64_t)ringbuf_subbuf_size(g) &&
	       ringbuf_repair_subbuf(map->ch, r->stream_idx, pos) > 0;
}

/*
 * ringbuf_map_wait - wait until ringbuf_map_is_ready, the channel is finalized, the
 * deadline, or a wake-up.
 * Records that complete no sub-buffer wake nobody: it looks every period_ns.
 * Returns: 0; -ETIMEDOUT; -ECANCELED ringbuf_map_wake was called; -errno.
 */
RINGBUF_FUNC int
ringbuf_map_wait(struct ringbuf_map *map, unsigned int percent, uint64_t period_ns, uint64_t deadline_ns)
{
	ringbuf_atomic_u32 *wakes = &map->reader.s->map_wakes;
	uint32_t before = ringbuf_load(wakes, RINGBUF_RELAXED); /* own: what was called before me is past */
	int repaired = 0;

	for (;;) {
		uint32_t seq = ringbuf_data_wanted(map->ch);
		uint64_t now = ringbuf_clock_ns(CLOCK_MONOTONIC);
		int ret = ringbuf_map_is_ready(map, percent);

		if (ret)
			return ret < 0 ? ret : 0;
		/* once between two sleeps: if that does not help, somebody scribbled on the position */
		repaired = !repaired && ringbuf_map_repair(map);
		if (repaired)
			continue;
		if (ringbuf_is_finalized(map->ch))
			return 0;
		/* relaxed: by O8, if I have missed the wake-up I am not asleep */
		if (ringbuf_load(wakes, RINGBUF_RELAXED) != before)
			return -ECANCELED;
		if (now >= deadline_ns)
			return -ETIMEDOUT;
		ret = ringbuf_wait_for_data(map->ch, seq, ringbuf_bounded(now + period_ns, deadline_ns));
		if (ret == -EINTR)
			return ret;
	}
}

/* End every ringbuf_map_wait on the stream. Callers: anybody. Ordering: O8. */
RINGBUF_FUNC void
ringbuf_map_wake(const struct ringbuf_channel *ch, uint32_t stream_idx)
{
	/* O8 seq_cst: before the look at `data_wanted`. Pairs with ringbuf_wait_prepare. */
	ringbuf_add(&ringbuf_stream_at(ch, stream_idx)->map_wakes, 1, RINGBUF_SEQ_CST);
	ringbuf_wait_wake(&ch->control->data_seq, &ch->control->data_wanted);
}

/* ---- open, clear, close ---- */

/* A read-only mapping of the stream's meta page and sub-buffers, made by a descriptor that
 * could not make another. */
RINGBUF_FUNC int
ringbuf_map_memory(struct ringbuf_map *map)
{
	const struct ringbuf_channel *ch = map->ch;
	int fd;

	map->size = ch->data_off - ch->meta_off +
		    ((uint64_t)ch->n_all << ch->geometry.subbuf_order);
	fd = ringbuf_reopen(ch, O_RDONLY);
	if (fd < 0)
		return fd;
	map->base = (uint8_t *)mmap(NULL, map->size, PROT_READ, MAP_SHARED, fd,
				    (off_t)(ch->streams_off + map->reader.stream_idx * ch->stream_stride +
					    ch->meta_off));
	close(fd);
	return map->base == MAP_FAILED ? -errno : 0;
}

/* Has the stream no other living mapper? Under map_lock, where they come and go. */
RINGBUF_FUNC int
ringbuf_map_is_alone(const struct ringbuf_map *map)
{
	struct flock lock = ringbuf_reader_lock(F_WRLCK, map->reader.stream_idx, 1);

	return ringbuf_is_ours(map->right.fd, &map->right.file) &&
	       fcntl(map->right.fd, RINGBUF_OFD_GETLK, &lock) == 0 && lock.l_type == F_UNLCK;
}

/*
 * The first of a stream's mappers fills the meta page. What a dead one held, it hands
 * out again, whole. Under map_lock.
 */
RINGBUF_FUNC void
ringbuf_map_begin(struct ringbuf_map *map)
{
	struct ringbuf_stream_reader *r = &map->reader;
	struct ringbuf_part none = {0, 0};

	/* one that has died in here may still have its descriptor */
	if (ringbuf_meta_is_filled(r) && !ringbuf_map_is_alone(map))
		return;
	ringbuf_take_over(r);
	ringbuf_map_hand_out(r->s, none);
	ringbuf_map_count(map);
	ringbuf_meta_put_reader(r, none);
	ringbuf_meta_put_counters(map, none);
	ringbuf_meta_put_geometry(r); /* last: ringbuf_meta_is_filled */
}

/*
 * ringbuf_map_open - map one stream of a channel, which must stay open meanwhile.
 * Other mappers of the stream are welcome; a reader is not.
 * Callers: any thread; takes locks, a descriptor, address space.
 * Returns: 0; -EBUSY a reader has the stream; -EINVAL no such stream; -ENOSPC no room for its memory; -errno.
 */
RINGBUF_FUNC int
ringbuf_map_open(struct ringbuf_channel *ch, uint32_t stream_idx, struct ringbuf_map *map)
{
	int ret;

	if (stream_idx >= ch->n_streams)
		return -EINVAL;
	memset((void *)map, 0, sizeof(*map));
	map->ch = ch;
	ringbuf_stream_reader_set(ch, stream_idx, &map->reader);
	/* relaxed: any position of late will do; all slots of a ring before it are counted */
	map->counted_pos = ringbuf_oldest_begin(&ch->geometry, ringbuf_load(&map->reader.s->produced,
									    RINGBUF_RELAXED));
	map->parked = UINT64_MAX; /* count all at first */
	if (ringbuf_have_memory(ch, map->reader.s)) /* who maps it may look at any of it */
		return -ENOSPC;
	map->counts = (struct ringbuf_map_count *)calloc(ch->n_all, sizeof(*map->counts));
	ret = map->counts ? ringbuf_map_memory(map) : -ENOMEM;
	if (ret) {
		free(map->counts);
		return ret;
	}
	ret = ringbuf_robust_lock(&map->reader.s->map_lock, 1);
	if (!ret) {
		ret = ringbuf_take_right(ch, stream_idx, 1, F_RDLCK, &map->right);
		if (!ret)
			ringbuf_map_begin(map);
		ringbuf_map_leave(map);
	}
	if (ret) {
		munmap(map->base, map->size);
		free(map->counts);
	}
	return ret;
}

/*
 * ringbuf_map_clear - throw away all that is recorded and not yet handed out; it counts
 * as overrun. The counters go on; the reader's sub-buffer may be another one, of which nothing is handed out.
 * Callers: as get_reader, with a producer slot. Returns 0 or -errno.
 */
RINGBUF_FUNC int
ringbuf_map_clear(struct ringbuf_map *map, struct ringbuf_producer_slot *producer)
{
	struct ringbuf_stream_reader *r = &map->reader;
	struct ringbuf_part none = {0, 0};
	int ret = ringbuf_map_enter(map);

	if (ret)
		return ret;
	ringbuf_flush(r->ch, producer, r->stream_idx, 0);
	/* one that a producer is still in stays, as in ringbuf_clear_stream */
	if (r->holding && ringbuf_held_is_complete(r)) {
		r->packet.records_read = ringbuf_map_handed_out(r).records;
		ringbuf_map_hand_out(r->s, none);
		ringbuf_put_subbuf(r, RINGBUF_PUT_DROP);
	}
	if (!r->holding)
		ringbuf_clear_stream(r, producer);
	if (ringbuf_meta_is_stale(r))
		ringbuf_meta_put_reader(r, ringbuf_map_handed_out(r));
	ringbuf_map_leave(map);
	return 0;
}

/*
 * ringbuf_map_is_at_end - finalized, and all handed out, for good? As ringbuf_is_at_end.
 * Callers: as get_reader, with a producer slot. Returns 1, 0 or -errno. Ordering: O9.
 */
RINGBUF_FUNC int
ringbuf_map_is_at_end(struct ringbuf_map *map, struct ringbuf_producer_slot *producer)
{
	struct ringbuf_stream_reader *r = &map->reader;
	int ret;

	if (!ringbuf_is_finalized(map->ch))
		return 0;
	ringbuf_close_stream(map->ch, producer, r->stream_idx);
	ret = ringbuf_map_enter(map);
	if (ret)
		return ret;
	ret = !ringbuf_map_has_new(r) && !ringbuf_map_full_subbufs(r) &&
	      (!r->holding || ringbuf_held_is_complete(r));
	ringbuf_map_leave(map);
	return ret;
}

/*
 * ringbuf_map_release - give up the right to read; the memory stays mapped. The last
 * mapper of a stream gives its sub-buffer back: as read if all of it was handed out,
 * else for the next reader to read from its begin.
 * Callers: any thread, once; also in a forked child, where it does nothing.
 */
RINGBUF_FUNC void
ringbuf_map_release(struct ringbuf_map *map)
{
	struct ringbuf_stream_reader *r = &map->reader;

	if (ringbuf_map_enter(map)) { /* a forked child's; or a lock that somebody scribbled on */
		ringbuf_close_reader(&map->right);
		return;
	}
	if (r->holding && ringbuf_map_is_alone(map)) {
		int all = ringbuf_held_is_complete(r) &&
			  r->packet.content_size <= ringbuf_map_handed_out(r).bytes;

		r->packet.records_read = ringbuf_map_handed_out(r).records; /* if it was lapped */
		ringbuf_put_subbuf(r, all ? RINGBUF_PUT_READ : RINGBUF_PUT_BACK);
	}
	ringbuf_close_reader(&map->right);
	ringbuf_map_leave(map);
}

/* ringbuf_map_unmap - the memory. Callers: one, last. */
RINGBUF_FUNC void
ringbuf_map_unmap(struct ringbuf_map *map)
{
	munmap(map->base, map->size);
	free(map->counts);
}

/* ringbuf_map_close - release, and unmap. */
RINGBUF_FUNC void
ringbuf_map_close(struct ringbuf_map *map)
{
	ringbuf_map_release(map);
	ringbuf_map_unmap(map);
}

#endif /* RINGBUF_MAP_H */
