/*
 * ringbuf/repair.h - finish what the dead have left.
 *
 * A producer that dies between its claim and its count leaves a sub-buffer that
 * nobody can complete. Whoever needs it repairs it: the reader that waits for
 * it, the producer that comes round to it, or somebody who asks. One at a time,
 * under the repair lock, which is the certificate of the repairer's own slot:
 *
 * 1. Only a closed sub-buffer is repaired: no claim in it can succeed any more.
 * 2. Scan the ledgers. A living producer is still in it: not now.
 * 3. What is missing in the commit counter is what the dead did not count. Find
 *    out which of them that is (ringbuf_solve).
 * 4. Make fillers of torn records; write header and closing notes that are
 *    missing.
 * 5. Bring the counter to full with one swap, deliver, clear the dead entries.
 *
 * A repairer may be killed anywhere. Until the swap the next one finds the same
 * sum and does the same again; after it, there is only the delivery to be done,
 * which can be done twice.
 *
 * A dead producer's word often leaves open whether its swap or its add was
 * done. One such is decided by the sum. With several, more than one choice may
 * give the right sum, usually with the same effect. If not (several threads
 * died within those few instructions), the packet is given up: its records
 * count as torn (but see recover.h).
 */
#ifndef RINGBUF_REPAIR_H
#define RINGBUF_REPAIR_H

#include "reader.h"
#include "switch.h"

#define RINGBUF_SUSPECTS_MAX 64
#define RINGBUF_SOLVE_STEPS 65536
#define RINGBUF_REPAIR_PERIOD_NS UINT64_C(1000000) /* between a producer's tries, while somebody lives */

/* What a dead producer may have owned in a sub-buffer. */
enum ringbuf_suspicion {
	RINGBUF_SUSPECT_CLAIM,  /* a record, not complete: not counted */
	RINGBUF_SUSPECT_OPENER, /* the same, and the packet header, perhaps counted */
	RINGBUF_SUSPECT_RECORD, /* a whole record, perhaps counted */
	RINGBUF_SUSPECT_FILLER, /* the same, a filler */
	RINGBUF_SUSPECT_CLOSER, /* the rest of the sub-buffer, perhaps counted */
};

struct ringbuf_suspect {
	enum ringbuf_suspicion kind;
	int won;             /* its swap was done */
	uint64_t records;    /* in it, if it is whole */
	uint64_t begin, end; /* offsets in the sub-buffer */
	uint64_t header;     /* bytes before `begin` that it may also owe */
	uint64_t pos;        /* where it claimed */
	uint64_t timestamp, discarded;
	uint16_t tag;        /* of `produced` where it claimed, if it ends or begins a sub-buffer */
	unsigned int choice; /* 0: it owes nothing, 1: [begin, end), 2: the header too */
};

struct ringbuf_repair {
	const struct ringbuf_channel *ch;
	struct ringbuf_stream *s;
	struct ringbuf_subbuf *sb;
	uint32_t stream_idx;
	uint64_t begin; /* position of the packet */
	uint64_t stage;
	uint64_t committed, missing;
	unsigned int n;
	uint64_t *doubt; /* see ringbuf_give_up_size */
	struct ringbuf_suspect suspects[RINGBUF_SUSPECTS_MAX];
	/* of the search: */
	unsigned int choices[RINGBUF_SUSPECTS_MAX], steps;
	int found, doubtful;
	uint64_t effect;
	uint64_t uncounted; /* records: the fewest that any answer says */
};

/*
 * The sub-buffer of the packet at `begin`, where the position has been; NULL if it is complete. Nobody may have entered
 * it yet: it is, then. Ordering: O3, O5.
 */
RINGBUF_FUNC struct ringbuf_subbuf *
ringbuf_find_unfinished(const struct ringbuf_channel *ch, struct ringbuf_stream *s, uint64_t begin)
{
	uint64_t pass = ringbuf_ref_pass_at(ch, begin), ref, stage;
	struct ringbuf_slot *slot = ringbuf_slot_at(ch, s, begin);
	struct ringbuf_subbuf *sb;
	int32_t parked;

	if (ringbuf_ref_pass(ringbuf_load(&slot->subbuf_ref, RINGBUF_ACQUIRE)) == ringbuf_ref_pass_before(ch, begin)) /* O5 */
		return ringbuf_enter(ch, s, begin);
	/* O5 acquire: pairs with ringbuf_enter_slow. If it is of a later pass, that it was parked before is seen. */
	ref = ringbuf_load(&slot->subbuf_ref, RINGBUF_ACQUIRE);
	if (ringbuf_ref_pass(ref) == pass) {
		if (ref & RINGBUF_REF_READ)
			return NULL;
		sb = ringbuf_subbuf_at(ch, s, ringbuf_checked_idx(ch, ref & RINGBUF_REF_IDX_MASK));
		/* O3 acquire: the packet, if it is complete. Pairs with ringbuf_deliver. */
		stage = ringbuf_load(&sb->stage, RINGBUF_ACQUIRE);
		return !ringbuf_stage_is_past(stage, begin) || ringbuf_stage_is(stage, begin, RINGBUF_STAGE_PARKED)
			       ? sb
			       : NULL;
	}
	parked = ringbuf_find_stage(ch, s, begin, RINGBUF_STAGE_PARKED);
	return parked < 0 ? NULL : ringbuf_subbuf_at(ch, s, (uint32_t)parked);
}

/* Is the packet at `begin`, where the position has been, complete? */
RINGBUF_FUNC int
ringbuf_is_done(const struct ringbuf_channel *ch, struct ringbuf_stream *s, uint64_t begin)
{
	return !ringbuf_find_unfinished(ch, s, begin);
}

/* ---- who is suspected ---- */

RINGBUF_INLINE int
ringbuf_word_opens(uint64_t word)
{
	enum ringbuf_ledger_state state = ringbuf_ledger_state(word);

	return (state == RINGBUF_LEDGER_CLAIMING || state == RINGBUF_LEDGER_MOVING) && word & RINGBUF_LEDGER_OPENS;
}

/* Does the ledger word speak of the sub-buffer that begins at `begin`? */
RINGBUF_FUNC int
ringbuf_word_concerns(const struct ringbuf_channel *ch, uint64_t word, uint32_t stream_idx, uint64_t begin)
{
	uint64_t pos = ringbuf_pos(word);

	if (ringbuf_ledger_state(word) <= RINGBUF_LEDGER_TAKEN || ringbuf_ledger_stream(word) != stream_idx)
		return 0;
	return ringbuf_subbuf_begin(&ch->geometry, pos) == begin ||
	       (ringbuf_word_opens(word) && ringbuf_subbuf_ceil(&ch->geometry, pos) == begin);
}

/* What the entry means there. Returns 0 if nothing: somebody scribbled on it. All relaxed: its owner is
 * dead, and its certificate was locked since. */
RINGBUF_FUNC int
ringbuf_suspect_of(const struct ringbuf_repair *r, const struct ringbuf_ledger_entry *e, uint64_t word,
		   struct ringbuf_suspect *x)
{
	const struct ringbuf_geometry *g = &r->ch->geometry;
	uint64_t extent = ringbuf_load(&e->extent, RINGBUF_RELAXED), size = (uint32_t)extent, tagged;
	enum ringbuf_ledger_state state = ringbuf_ledger_state(word);

	memset(x, 0, sizeof(*x));
	x->won = state == RINGBUF_LEDGER_OWNED || state == RINGBUF_LEDGER_WRITTEN ||
		 state == RINGBUF_LEDGER_MOVING;
	x->records = 1 + (extent >> 32);
	x->pos = ringbuf_pos(word);
	x->timestamp = ringbuf_load(&e->timestamp, RINGBUF_RELAXED);
	tagged = ringbuf_load(&e->discarded, RINGBUF_RELAXED);
	x->discarded = ringbuf_pos(tagged);
	x->tag = (uint16_t)(tagged >> RINGBUF_POS_BITS);
	x->begin = ringbuf_subbuf_off(g, x->pos);
	if (ringbuf_word_opens(word)) {
		x->kind = RINGBUF_SUSPECT_CLOSER; /* of the old sub-buffer */
		if (ringbuf_subbuf_ceil(g, x->pos) == r->begin) {
			x->kind = RINGBUF_SUSPECT_OPENER;
			x->begin = x->header = r->ch->packet_header_size;
		}
	} else {
		switch (state) {
		case RINGBUF_LEDGER_WRITTEN:
			x->kind = word & RINGBUF_LEDGER_NO_RECORD ? RINGBUF_SUSPECT_FILLER
								  : RINGBUF_SUSPECT_RECORD;
			break;
		case RINGBUF_LEDGER_FLUSHING:
		case RINGBUF_LEDGER_MOVING: x->kind = RINGBUF_SUSPECT_CLOSER; break;
		default: x->kind = RINGBUF_SUSPECT_CLAIM; break;
		}
	}
	if (x->kind == RINGBUF_SUSPECT_CLOSER) {
		size = ringbuf_subbuf_size(g) - x->begin;
		x->records = 0; /* they are in the next one */
	}
	x->end = x->begin + size;
	return size && size <= ringbuf_subbuf_size(g) && x->end <= ringbuf_subbuf_size(g) && x->records <= size;
}

/* The i-th slot that a repairer looks at; its own is the last. */
RINGBUF_INLINE uint32_t
ringbuf_slots_used(const struct ringbuf_channel *ch)
{
	/* relaxed: whoever moved the position (O1) had its slot noted before */
	uint32_t used = ringbuf_load(&ch->control->producers_used, RINGBUF_RELAXED);

	return used < ch->n_producers ? used : ch->n_producers;
}

RINGBUF_INLINE struct ringbuf_producer_slot *
ringbuf_slot_to_scan(const struct ringbuf_channel *ch, uint32_t i, uint32_t used)
{
	return i < used ? ringbuf_producer_slot_at(ch, i) : ringbuf_repairer_slot(ch);
}

/* Lock the slot's certificate: 0 if its owner lives. The repairer's own is locked, and what
 * stands there when a repair begins is a dead predecessor's. */
RINGBUF_FUNC int
ringbuf_lock_dead(const struct ringbuf_channel *ch, struct ringbuf_producer_slot *slot)
{
	return slot == ringbuf_repairer_slot(ch) || ringbuf_certificate_take(ch, &slot->certificate) == 0;
}

RINGBUF_FUNC void
ringbuf_unlock_dead(const struct ringbuf_channel *ch, struct ringbuf_producer_slot *slot)
{
	if (slot != ringbuf_repairer_slot(ch))
		ringbuf_robust_unlock(&slot->certificate);
}

RINGBUF_FUNC int
ringbuf_slot_concerns(const struct ringbuf_repair *r, const struct ringbuf_producer_slot *slot)
{
	for (int i = 0; i < RINGBUF_NESTING_MAX; i++)
		/* O7 acquire: idle, or busy elsewhere: its count here is seen. Pairs with
		 * ringbuf_ledger_idle. */
		if (ringbuf_word_concerns(r->ch, ringbuf_load(&slot->ledger[i].word, RINGBUF_ACQUIRE),
					  r->stream_idx, r->begin))
			return 1;
	return 0;
}

/* Its owner is dead: no word of it changes any more. Relaxed: its certificate is locked. */
RINGBUF_FUNC void
ringbuf_suspect_slot(struct ringbuf_repair *r, const struct ringbuf_producer_slot *slot)
{
	for (int i = 0; i < RINGBUF_NESTING_MAX; i++) {
		const struct ringbuf_ledger_entry *e = &slot->ledger[i];
		uint64_t word = ringbuf_load(&e->word, RINGBUF_RELAXED);

		if (!ringbuf_word_concerns(r->ch, word, r->stream_idx, r->begin))
			continue;
		if (r->n == RINGBUF_SUSPECTS_MAX)
			r->doubtful = 1;
		else
			r->n += (unsigned int)ringbuf_suspect_of(r, e, word, &r->suspects[r->n]);
	}
}

/* Returns 0, or -EAGAIN: somebody in there lives. */
RINGBUF_FUNC int
ringbuf_scan_ledgers(struct ringbuf_repair *r)
{
	uint32_t used = ringbuf_slots_used(r->ch);

	for (uint32_t i = 0; i <= used; i++) {
		struct ringbuf_producer_slot *slot = ringbuf_slot_to_scan(r->ch, i, used);

		if (!ringbuf_slot_concerns(r, slot))
			continue;
		if (!ringbuf_lock_dead(r->ch, slot))
			return -EAGAIN;
		ringbuf_suspect_slot(r, slot);
		ringbuf_unlock_dead(r->ch, slot);
	}
	return 0;
}

/* ---- what happened ---- */

RINGBUF_INLINE int
ringbuf_suspect_owns(const struct ringbuf_suspect *x)
{
	return x->choice || x->won;
}

RINGBUF_INLINE uint64_t
ringbuf_suspect_owes(const struct ringbuf_suspect *x)
{
	return x->choice ? x->end - x->begin + (x->choice == 2 ? x->header : 0) : 0;
}

RINGBUF_INLINE int
ringbuf_suspect_tears(const struct ringbuf_suspect *x)
{
	return x->choice && x->kind <= RINGBUF_SUSPECT_OPENER;
}

/* Two choices with the same sum over all suspects come to the same packet. */
RINGBUF_FUNC uint64_t
ringbuf_suspect_effect(const struct ringbuf_suspect *x)
{
	uint64_t what = ringbuf_suspect_tears(x) ? RINGBUF_SUSPECT_CLAIM : x->kind, h;

	if (!x->choice || what == RINGBUF_SUSPECT_FILLER)
		return 0;
	if (what == RINGBUF_SUSPECT_RECORD) /* only the number matters */
		return x->records;
	h = x->begin << 26 | x->end;
	h = (h << 5 | (what + 1) << 2 | x->choice) * UINT64_C(0x9e3779b97f4a7c15);
	return (h ^ h >> 29) * UINT64_C(0xbf58476d1ce4e5b9);
}

/* Does the i-th own bytes that one before it owns? */
RINGBUF_FUNC int
ringbuf_suspect_contradicts(const struct ringbuf_repair *r, unsigned int i)
{
	const struct ringbuf_suspect *x = &r->suspects[i];

	for (unsigned int j = 0; j < i; j++) {
		const struct ringbuf_suspect *y = &r->suspects[j];

		if (ringbuf_suspect_owns(x) && ringbuf_suspect_owns(y) && x->begin - x->header < y->end &&
		    y->begin - y->header < x->end)
			return 1;
	}
	return 0;
}

/* A record that was claimed, and not complete. */
RINGBUF_INLINE unsigned int
ringbuf_suspect_surely(const struct ringbuf_suspect *x)
{
	return x->won && x->kind <= RINGBUF_SUSPECT_OPENER;
}

RINGBUF_INLINE unsigned int
ringbuf_suspect_at_most(const struct ringbuf_suspect *x)
{
	return x->kind == RINGBUF_SUSPECT_OPENER ? 2 : 1;
}

/* An answer: the choices that stand in the suspects now. */
RINGBUF_FUNC void
ringbuf_solved(struct ringbuf_repair *r, uint64_t effect)
{
	uint64_t uncounted = 0;

	for (unsigned int i = 0; i < r->n; i++) {
		const struct ringbuf_suspect *x = &r->suspects[i];

		uncounted += x->choice && x->kind <= RINGBUF_SUSPECT_RECORD ? x->records : 0;
		if (!r->found)
			r->choices[i] = x->choice;
	}
	if (!r->found || uncounted < r->uncounted)
		r->uncounted = uncounted;
	if (r->found && effect != r->effect)
		r->doubtful = 1;
	r->found = 1;
	r->effect = effect;
}

/* Search for choices of the suspects from the i-th on that owe `left` bytes together. */
RINGBUF_SLOW void
ringbuf_solve(struct ringbuf_repair *r, unsigned int i, uint64_t left, uint64_t effect)
{
	struct ringbuf_suspect *x = &r->suspects[i];
	unsigned int step;

	if (!r->steps) {
		r->doubtful = 1;
		return;
	}
	r->steps--;
	if (i == r->n) {
		if (!left)
			ringbuf_solved(r, effect);
		return;
	}
	/* An opener that has not won has not counted the header either. */
	step = x->kind == RINGBUF_SUSPECT_OPENER && !x->won ? 2 : 1;
	for (x->choice = ringbuf_suspect_surely(x); x->choice <= ringbuf_suspect_at_most(x); x->choice += step)
		if (ringbuf_suspect_owes(x) <= left && !ringbuf_suspect_contradicts(r, i))
			ringbuf_solve(r, i + 1, left - ringbuf_suspect_owes(x),
				      effect + ringbuf_suspect_effect(x));
}

/* ---- what to do about it ---- */

RINGBUF_FUNC int
ringbuf_suspect_opens(const struct ringbuf_suspect *x)
{
	return x->kind == RINGBUF_SUSPECT_OPENER || (x->kind == RINGBUF_SUSPECT_CLOSER && !x->begin);
}

RINGBUF_FUNC int
ringbuf_suspect_closes(const struct ringbuf_repair *r, const struct ringbuf_suspect *x)
{
	return x->kind == RINGBUF_SUSPECT_CLOSER ||
	       (x->kind <= RINGBUF_SUSPECT_OPENER && x->end == ringbuf_subbuf_size(&r->ch->geometry));
}

/*
 * Which of the dead closed the sub-buffer? Returns 0 if none did. If several may
 * have: the one whose ledger says that it won, or else one that sampled the last
 * position. If several of those are left, take the earliest of their times.
 */
RINGBUF_FUNC int
ringbuf_suspect_that_closes(const struct ringbuf_repair *r, int chosen, struct ringbuf_suspect *who)
{
	int found = 0;

	for (unsigned int i = 0; i < r->n; i++) {
		const struct ringbuf_suspect *x = &r->suspects[i];

		if (!ringbuf_suspect_closes(r, x) || (chosen && !x->choice))
			continue;
		if (!found || x->won > who->won ||
		    (x->won == who->won && ringbuf_pos_diff(x->pos, who->pos) > 0))
			*who = *x;
		found = 1;
	}
	for (unsigned int i = 0; found && !who->won && i < r->n; i++) {
		const struct ringbuf_suspect *x = &r->suspects[i];

		if (ringbuf_suspect_closes(r, x) && x->pos == who->pos && x->timestamp < who->timestamp)
			who->timestamp = x->timestamp;
	}
	return found;
}

/* Did x sample the position later than y? Negative: earlier; 0: the same one. */
RINGBUF_FUNC int64_t
ringbuf_sampled_after(const struct ringbuf_suspect *x, const struct ringbuf_suspect *y)
{
	int16_t tags = (int16_t)(x->tag - y->tag);

	return tags ? tags : ringbuf_pos_diff(x->pos, y->pos);
}

/*
 * When was the sub-buffer opened? Returns 0 if none of the dead did so. The one whose ledger says that it won, or else
 * one that sampled the position last: whoever won did. If several of those are left, take the earliest of their times:
 * the winner died before it wrote on either side of the boundary, so the packet before ends no later.
 */
RINGBUF_FUNC int
ringbuf_time_of_opening(const struct ringbuf_repair *r, uint64_t *timestamp)
{
	const struct ringbuf_suspect *who = NULL;

	for (unsigned int i = 0; i < r->n; i++) {
		const struct ringbuf_suspect *x = &r->suspects[i];
		int64_t after = who ? ringbuf_sampled_after(x, who) : 1;

		if (ringbuf_suspect_opens(x) &&
		    (!who || x->won > who->won ||
		     (x->won == who->won && (after > 0 || (!after && x->timestamp < who->timestamp)))))
			who = x;
	}
	*timestamp = who ? who->timestamp : 0;
	return who != NULL;
}

RINGBUF_FUNC void
ringbuf_repair_close(const struct ringbuf_repair *r, const struct ringbuf_suspect *x)
{
	struct ringbuf_move m;
	uint64_t content = x->kind != RINGBUF_SUSPECT_CLOSER ? x->end
			   : x->begin                        ? x->begin
							     : r->ch->packet_header_size;

	memset(&m, 0, sizeof(m));
	m.timestamp = x->timestamp;
	m.discarded = x->discarded;
	ringbuf_note_close(r->ch, r->sb, &m, r->begin, content);
}

/* Packet header and closing notes, where they are missing. `chosen`: it is known who owes what. */
RINGBUF_FUNC void
ringbuf_repair_boundaries(const struct ringbuf_repair *r, int chosen)
{
	uint64_t tag = ringbuf_packet_tag(r->ch, r->begin), timestamp;
	struct ringbuf_suspect who;

	memset(&who, 0, sizeof(who)); /* g++ 12 does not see that it is used only where it was found */
	/* relaxed both: of the dead, or published by a count (O2) */
	if (ringbuf_load(&r->sb->open_noted, RINGBUF_RELAXED) != tag && ringbuf_time_of_opening(r, &timestamp))
		ringbuf_begin_packet(r->ch->client, r->ch, r->s, r->stream_idx, r->begin, timestamp);
	if (ringbuf_load(&r->sb->close_noted, RINGBUF_RELAXED) != tag &&
	    ringbuf_suspect_that_closes(r, chosen, &who))
		ringbuf_repair_close(r, &who);
}

/* Torn ranges become fillers. Returns how many records are torn; *records: how many were whole. */
RINGBUF_FUNC uint64_t
ringbuf_repair_records(const struct ringbuf_repair *r, uint64_t *records)
{
	uint64_t torn = 0;

	*records = 0;
	for (unsigned int i = 0; i < r->n; i++) {
		const struct ringbuf_suspect *x = &r->suspects[i];
		int holes = ringbuf_has_holes(r->ch->client);
		uint32_t padding = holes ? -x->begin & (RINGBUF_CTF_ALIGN - 1) : 0;

		if (x->kind == RINGBUF_SUSPECT_RECORD && x->choice)
			*records += x->records;
		if (!ringbuf_suspect_tears(x))
			continue;
		torn += x->records;
		/* smaller than any record: scribbled on */
		if (!holes || x->end - x->begin >= padding + ringbuf_ctf_hole_size(r->ch))
			ringbuf_put_filler(r->ch->client, r->ch, r->s, r->sb, r->begin + x->begin,
					   x->end - x->begin, padding);
	}
	return torn;
}

/*
 * Torn records are counted once, however often a repairer dies: what lost[TORN]
 * is going to be is noted before the swap that completes the sub-buffer, and
 * becomes so after it; whoever comes next finds by the counter whether the swap
 * was done. All relaxed: under the repair lock. A thread dies between two
 * instructions, and the fences keep those in order.
 */
RINGBUF_FUNC void
ringbuf_note_torn(const struct ringbuf_repair *r, uint64_t torn)
{
	uint64_t before = ringbuf_load(&r->s->lost[RINGBUF_LOST_TORN], RINGBUF_RELAXED);

	ringbuf_store(&r->s->repair_torn, before + torn, RINGBUF_RELAXED);
	ringbuf_store(&r->s->repair_subbuf, ringbuf_subbuf_idx(r->ch, r->s, r->sb), RINGBUF_RELAXED);
	ringbuf_signal_fence();
	RINGBUF_TESTPOINT(repair_noting_torn);
	ringbuf_store(&r->s->repair_pos, r->begin | RINGBUF_HOLD_VALID, RINGBUF_RELAXED);
}

RINGBUF_FUNC void
ringbuf_count_torn(const struct ringbuf_channel *ch, struct ringbuf_stream *s)
{
	uint64_t tag = ringbuf_load(&s->repair_pos, RINGBUF_RELAXED), begin = ringbuf_pos(tag);
	uint32_t idx = ringbuf_checked_idx(ch, ringbuf_load(&s->repair_subbuf, RINGBUF_RELAXED));
	struct ringbuf_subbuf *sb = ringbuf_subbuf_at(ch, s, idx);
	/* relaxed both: the repairers' alone, since all producers in it were dead; or done, long ago perhaps */
	uint64_t stage = ringbuf_load(&sb->stage, RINGBUF_RELAXED), committed = ringbuf_load(&sb->committed, RINGBUF_RELAXED);

	if (!(tag & RINGBUF_HOLD_VALID))
		return;
	if (ringbuf_is_done(ch, s, begin) ||
	    (uint32_t)ringbuf_counted_since(sb, stage, committed) == ringbuf_subbuf_size(&ch->geometry))
		ringbuf_store(&s->lost[RINGBUF_LOST_TORN], ringbuf_load(&s->repair_torn, RINGBUF_RELAXED),
			      RINGBUF_RELAXED);
	ringbuf_signal_fence();
	RINGBUF_TESTPOINT(repair_torn_counted);
	ringbuf_store(&s->repair_pos, 0, RINGBUF_RELAXED);
}

/* Everything but the counter. Returns what to add to it. */
RINGBUF_FUNC uint64_t
ringbuf_repair_contents(struct ringbuf_repair *r)
{
	uint64_t records, torn;

	for (unsigned int i = 0; i < r->n; i++)
		r->suspects[i].choice = r->choices[i];
	torn = ringbuf_repair_records(r, &records);
	RINGBUF_TESTPOINT(repair_filled);
	ringbuf_repair_boundaries(r, 1);
	ringbuf_note_torn(r, torn);
	return r->missing + records * RINGBUF_ONE_RECORD;
}

/*
 * Content size, in bytes, of a packet that could not be repaired. Normally only its header
 * survives. A caller that can decode records (recovery) asks for all of it by passing
 * `doubt`: *doubt is then where the first suspect begins, and all before it is complete.
 */
RINGBUF_FUNC uint64_t
ringbuf_give_up_size(const struct ringbuf_repair *r)
{
	uint64_t least = r->ch->packet_header_size;
	/* O2, or stored by ringbuf_repair_close */
	uint64_t size = ringbuf_load(&r->sb->close_size, RINGBUF_RELAXED), first = size;

	if (!r->doubt || !r->n)
		return least;
	for (unsigned int i = 0; i < r->n; i++)
		if (r->suspects[i].begin < first)
			first = r->suspects[i].begin;
	*r->doubt = first > least ? first : least;
	return size > least ? size : least;
}

/* Of a packet that is kept: what was certainly torn becomes a filler. */
RINGBUF_FUNC void
ringbuf_give_up_torn(struct ringbuf_repair *r)
{
	uint64_t records;

	for (unsigned int i = 0; i < r->n; i++)
		r->suspects[i].choice = ringbuf_suspect_surely(&r->suspects[i]);
	ringbuf_repair_records(r, &records);
}

/* Nobody can tell what is in there: all its records are torn. */
RINGBUF_FUNC uint64_t
ringbuf_give_up_contents(struct ringbuf_repair *r)
{
	uint64_t counted = ringbuf_counted_since(r->sb, r->stage, r->committed + r->missing) >> 32;

	RINGBUF_TESTPOINT(repair_giving_up);
	ringbuf_repair_boundaries(r, 0);
	if (r->doubt)
		ringbuf_give_up_torn(r);
	ringbuf_store(&r->sb->close_size, ringbuf_give_up_size(r), RINGBUF_RELAXED); /* O2, by the swap */
	ringbuf_note_torn(r, counted + r->uncounted);
	return r->missing - counted * RINGBUF_ONE_RECORD;
}

/* The counter is short of full: make it full. Returns 0, or -EAGAIN: it has moved. */
RINGBUF_FUNC int
ringbuf_repair_count(struct ringbuf_repair *r)
{
	uint64_t amount;

	r->steps = RINGBUF_SOLVE_STEPS;
	for (unsigned int i = 0; i < r->n; i++) /* in case there is no answer */
		r->uncounted += ringbuf_suspect_surely(&r->suspects[i]) ? r->suspects[i].records : 0;
	ringbuf_solve(r, 0, r->missing, 0);
	amount = r->found && !r->doubtful ? ringbuf_repair_contents(r) : ringbuf_give_up_contents(r);
	RINGBUF_TESTPOINT(repair_before_count);
	/* O2 acq_rel: as in ringbuf_count, for all the dead at once. */
	if (!ringbuf_cas(&r->sb->committed, &r->committed, r->committed + amount, RINGBUF_ACQ_REL,
			 RINGBUF_RELAXED))
		return -EAGAIN;
	r->committed += amount;
	RINGBUF_TESTPOINT(repair_counted);
	ringbuf_count_torn(r->ch, r->s);
	return 0;
}

/* ---- clearing up ---- */

/* A dead producer's word with no meaning any more: what it speaks of is delivered, or never happened. */
RINGBUF_FUNC int
ringbuf_word_is_settled(const struct ringbuf_channel *ch, uint64_t word)
{
	uint64_t pos = ringbuf_pos(word), next = ringbuf_subbuf_ceil(&ch->geometry, pos), produced;
	struct ringbuf_stream *s;

	if (ringbuf_ledger_state(word) <= RINGBUF_LEDGER_TAKEN || ringbuf_ledger_stream(word) >= ch->n_streams)
		return 1;
	s = ringbuf_stream_at(ch, ringbuf_ledger_stream(word));
	produced = ringbuf_pos(ringbuf_load(&s->produced, RINGBUF_ACQUIRE)); /* O1 */
	if (ringbuf_pos_diff(produced, pos) <= 0)
		return 1; /* the claim has failed, or was rolled back */
	if (!ringbuf_is_done(ch, s, ringbuf_subbuf_begin(&ch->geometry, pos)))
		return 0;
	return !ringbuf_word_opens(word) || ringbuf_pos_diff(produced, next) <= 0 || ringbuf_is_done(ch, s, next);
}

/* With the repair lock. Frees the slots of the dead who have left nothing else. */
RINGBUF_FUNC void
ringbuf_clear_settled(const struct ringbuf_channel *ch)
{
	uint32_t used = ringbuf_slots_used(ch);

	for (uint32_t i = 0; i <= used; i++) {
		struct ringbuf_producer_slot *slot = ringbuf_slot_to_scan(ch, i, used);

		if (ringbuf_ledger_is_idle(slot) || !ringbuf_lock_dead(ch, slot))
			continue;
		for (int level = 0; level < RINGBUF_NESTING_MAX; level++)
			/* relaxed: by its certificate */
			if (ringbuf_word_is_settled(ch, ringbuf_load(&slot->ledger[level].word, RINGBUF_RELAXED)))
				ringbuf_ledger_idle(&slot->ledger[level]);
		ringbuf_unlock_dead(ch, slot);
	}
}

/* ---- one sub-buffer ---- */

/*
 * With the repair lock. Returns 1: delivered now, by this call or another;
 * -EAGAIN: not yet closed, or somebody alive is in it. `doubt`: see ringbuf_give_up_size;
 * NULL: an ordinary repair.
 */
RINGBUF_SLOW int
ringbuf_repair_locked(const struct ringbuf_channel *ch, uint32_t stream_idx, uint64_t begin, uint64_t *doubt)
{
	const struct ringbuf_geometry *g = &ch->geometry;
	struct ringbuf_repair r;
	int ret;

	memset(&r, 0, offsetof(struct ringbuf_repair, suspects));
	r.found = r.doubtful = 0;
	r.uncounted = 0;
	r.ch = ch;
	r.s = ringbuf_stream_at(ch, stream_idx);
	r.stream_idx = stream_idx;
	r.begin = begin;
	r.doubt = doubt;
	/* O1 acquire: closed, so all claims in it are seen in the ledgers, or were counted. */
	if (ringbuf_pos_diff(ringbuf_pos(ringbuf_load(&r.s->produced, RINGBUF_ACQUIRE)), begin) <
	    (int64_t)ringbuf_subbuf_size(g))
		return -EAGAIN;
	if (ringbuf_is_done(ch, r.s, begin))
		return 1;
	ringbuf_count_torn(ch, r.s); /* what a dead repairer had not */
	ret = ringbuf_scan_ledgers(&r);
	if (ret)
		return ret;
	RINGBUF_TESTPOINT(repair_scanned);
	/* Nobody alive is in it: so if it is not delivered now, nobody else will do it. */
	r.sb = ringbuf_find_unfinished(ch, r.s, begin);
	if (!r.sb)
		return 1;
	/* relaxed: whoever parks it leaves alone what is read of it here */
	r.stage = ringbuf_load(&r.sb->stage, RINGBUF_RELAXED);
	/* O2 acquire: what was counted, for the delivery. Pairs with ringbuf_count. */
	r.committed = ringbuf_load(&r.sb->committed, RINGBUF_ACQUIRE);
	r.missing = (uint32_t)(ringbuf_subbuf_size(g) - ringbuf_counted_since(r.sb, r.stage, r.committed));
	/* More than there is: somebody scribbled on it. */
	if (r.missing > ringbuf_subbuf_size(g))
		r.doubtful = 1;
	if (r.missing) {
		ret = ringbuf_repair_count(&r);
		if (ret)
			return ret;
	}
	ringbuf_deliver(ch, r.s, stream_idx, r.sb, begin, r.committed);
	RINGBUF_TESTPOINT(repair_delivered);
	ringbuf_clear_settled(ch);
	RINGBUF_TESTPOINT(repair_cleared);
	return 1;
}

/*
 * ringbuf_repair_subbuf - deliver the sub-buffer at `begin` if only the dead are in it.
 * Callers:  any thread, not in a signal handler. Does not wait: if somebody else
 *           repairs, it returns at once.
 * Progress: bounded by the number of producer slots, and the steps of a search.
 * Returns:  1 it is delivered; -EAGAIN not now; -EBUSY somebody else repairs.
 * Ordering: O1, O2, O3, O5, O7.
 */
RINGBUF_SLOW int
ringbuf_repair_subbuf(const struct ringbuf_channel *ch, uint32_t stream_idx, uint64_t begin)
{
	struct ringbuf_producer_slot *self = ringbuf_repairer_slot(ch);
	int ret;

	if (ringbuf_robust_lock(&self->certificate, 0))
		return -EBUSY;
	ret = ringbuf_repair_locked(ch, stream_idx, begin, NULL);
	ringbuf_robust_unlock(&self->certificate);
	return ret;
}

/* With the repair lock: the parked ones of a stream. Returns how many are complete now. */
RINGBUF_FUNC int
ringbuf_repair_parked(const struct ringbuf_channel *ch, uint32_t stream_idx)
{
	struct ringbuf_stream *s = ringbuf_stream_at(ch, stream_idx);
	int repaired = 0;

	for (uint32_t i = 0; ch->mode == RINGBUF_OVERWRITE && i < ch->n_all; i++) {
		struct ringbuf_subbuf *sb = ringbuf_subbuf_at(ch, s, i);
		uint64_t stage = ringbuf_load(&sb->stage, RINGBUF_RELAXED); /* a position alone, which is looked for again */

		if (ringbuf_stage_phase(stage) == RINGBUF_STAGE_PARKED)
			/* relaxed: the same thread's, or another's progress */
			repaired += ringbuf_repair_locked(ch, stream_idx, ringbuf_pos(stage), NULL) > 0 &&
				    ringbuf_load(&sb->stage, RINGBUF_RELAXED) != stage;
	}
	return repaired;
}

/* ---- by whom ---- */

/* More than the entry of the record being reserved: a signal handler over a record, perhaps. */
RINGBUF_FUNC int
ringbuf_is_nested(const struct ringbuf_producer_slot *producer)
{
	int open = 0;

	for (int i = 0; i < RINGBUF_NESTING_MAX; i++)
		open += ringbuf_load(&producer->ledger[i].word, RINGBUF_RELAXED) != 0; /* this thread's own */
	return open > 1;
}

/*
 * ringbuf_repair_lapped - the ring has come round to a sub-buffer that is not delivered.
 * Callers:  a producer about to enter the slot of `begin`. While somebody alive is in
 *           there (stopped, perhaps), producers try once in a while only.
 * Returns:  1: try to reserve again.
 */
RINGBUF_SLOW int
ringbuf_repair_lapped(const struct ringbuf_channel *ch, const struct ringbuf_producer_slot *producer,
		      uint32_t stream_idx, uint64_t begin)
{
	/* relaxed both: saves work, no more */
	uint64_t now = ringbuf_clock_ns(CLOCK_MONOTONIC);
	uint64_t after = ringbuf_load(&ch->control->repair_after, RINGBUF_RELAXED);
	struct ringbuf_producer_slot *self = ringbuf_repairer_slot(ch);
	int ret;

	if ((now < after && after - now <= RINGBUF_REPAIR_PERIOD_NS) || ringbuf_is_nested(producer))
		return 0;
	if (ringbuf_robust_lock(&self->certificate, 0))
		return 0;
	ret = ringbuf_repair_locked(ch, stream_idx, ringbuf_pos_sub(begin, ringbuf_ring_size(&ch->geometry)), NULL);
	/* And those before it, which have the spares. */
	if (ringbuf_repair_parked(ch, stream_idx))
		ret = 1;
	ringbuf_robust_unlock(&self->certificate);
	if (ret == -EAGAIN)
		ringbuf_store(&ch->control->repair_after, now + RINGBUF_REPAIR_PERIOD_NS, RINGBUF_RELAXED);
	return ret > 0;
}

/*
 * ringbuf_repair_next - is the packet that the reader waits for stuck? Then repair it.
 * Callers:  the stream's reader, having got -EAGAIN, now and then.
 * Returns:  1: look again.
 */
RINGBUF_FUNC int
ringbuf_repair_next(const struct ringbuf_stream_reader *r)
{
	uint64_t pos = ringbuf_waiting_pos(r);
	uint64_t produced = ringbuf_pos(ringbuf_load(&r->s->produced, RINGBUF_ACQUIRE)); /* O1 */

	return ringbuf_pos_diff(produced, pos) >= (int64_t)ringbuf_subbuf_size(&r->ch->geometry) &&
	       ringbuf_repair_subbuf(r->ch, r->stream_idx, pos) > 0;
}

/* Is the sub-buffer that producers write to now one in which the dead have left something? */
RINGBUF_FUNC int
ringbuf_word_is_open(const struct ringbuf_channel *ch, uint64_t word)
{
	uint32_t stream_idx = ringbuf_ledger_stream(word);
	uint64_t produced;

	if (ringbuf_word_is_settled(ch, word))
		return 0;
	produced = ringbuf_load(&ringbuf_stream_at(ch, stream_idx)->produced, RINGBUF_ACQUIRE); /* O1 */
	return ringbuf_subbuf_off(&ch->geometry, produced) &&
	       ringbuf_word_concerns(ch, word, stream_idx, ringbuf_subbuf_begin(&ch->geometry, produced));
}

/* With the repair lock: end the packets that need repair and are not complete. */
RINGBUF_FUNC void
ringbuf_close_torn(const struct ringbuf_channel *ch)
{
	uint32_t used = ringbuf_slots_used(ch);

	for (uint32_t i = 0; i <= used; i++) {
		struct ringbuf_producer_slot *slot = ringbuf_slot_to_scan(ch, i, used);
		uint64_t words[RINGBUF_NESTING_MAX];

		if (ringbuf_ledger_is_idle(slot) || !ringbuf_lock_dead(ch, slot))
			continue;
		for (int level = 0; level < RINGBUF_NESTING_MAX; level++) /* relaxed: by its certificate */
			words[level] = ringbuf_load(&slot->ledger[level].word, RINGBUF_RELAXED);
		ringbuf_unlock_dead(ch, slot);
		for (int level = 0; level < RINGBUF_NESTING_MAX; level++)
			if (ringbuf_word_is_open(ch, words[level]))
				ringbuf_flush(ch, ringbuf_repairer_slot(ch), ringbuf_ledger_stream(words[level]), 0);
	}
}

/*
 * ringbuf_repair - repair whatever needs it, in all streams, and free the slots of the dead.
 * Ends packets in which the dead have left something.
 * Callers:  any thread, not in a signal handler. Does not wait.
 * Returns:  how many sub-buffers it has delivered; -EBUSY: somebody else repairs.
 */
RINGBUF_SLOW int
ringbuf_repair(const struct ringbuf_channel *ch)
{
	const struct ringbuf_geometry *g = &ch->geometry;
	struct ringbuf_producer_slot *self = ringbuf_repairer_slot(ch);
	int repaired = 0;

	if (ringbuf_robust_lock(&self->certificate, 0))
		return -EBUSY;
	ringbuf_close_torn(ch);
	for (uint32_t i = 0; i < ch->n_streams; i++) {
		struct ringbuf_stream *s = ringbuf_stream_at(ch, i);
		uint64_t produced = ringbuf_pos(ringbuf_load(&s->produced, RINGBUF_ACQUIRE)); /* O1 */
		uint64_t pos = ringbuf_oldest_begin(g, produced), end = ringbuf_subbuf_begin(g, produced);

		ringbuf_count_torn(ch, s);
		repaired += ringbuf_repair_parked(ch, i);
		for (; pos != end; pos = ringbuf_pos_add(pos, ringbuf_subbuf_size(g)))
			if (!ringbuf_is_done(ch, s, pos))
				repaired += ringbuf_repair_locked(ch, i, pos, NULL) > 0;
		repaired += ringbuf_repair_parked(ch, i); /* a repair may have entered a slot, and parked what stood there */
	}
	ringbuf_clear_settled(ch);
	ringbuf_robust_unlock(&self->certificate);
	return repaired;
}

#endif /* RINGBUF_REPAIR_H */
