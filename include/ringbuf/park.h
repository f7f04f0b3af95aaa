/*
 * ringbuf/park.h - enter a sub-buffer; and a sub-buffer that the ring comes round to before it is complete.
 *
 * A producer that is preempted, or stopped, in the middle of a record keeps its
 * sub-buffer from being delivered. When the ring comes round, that sub-buffer is
 * parked: it leaves the ring, and a spare takes its place. Its counter goes with
 * it. Whoever counts last in it completes it: its records were lapped, and count
 * as overrun; it is a spare again.
 *
 * Two decisions are made, each by one swap of one word, and never taken back:
 *
 *	the stage of the old sub-buffer: was it delivered first, or parked first?
 *		Whoever enters the slot asks (ringbuf_leave).
 *	the slot's word: which sub-buffer stands there on this pass? Whoever enters
 *		first; all others go by it.
 *
 * No producer waits for another: whoever finds a slot not entered enters it, be
 * it the opener's or not. The spare has been set aside before the position moved
 * into the sub-buffer (ringbuf_set_aside), so that it is there for whoever enters.
 * It was set aside for one position, which its stage names. If it turns out not
 * to be needed, or two were set aside for one position, that can be seen: the slot
 * is on that pass, or a later one, with another sub-buffer. Then it is a spare
 * like any other (ringbuf_is_spare): nobody has to give it back, so nobody can die
 * over that.
 *
 * Who owns bytes in a parked sub-buffer finds it by its stage; it stays as it is
 * until those bytes are counted.
 */
#ifndef RINGBUF_PARK_H
#define RINGBUF_PARK_H

#include <errno.h>

#include "layout.h"

/* The sub-buffer whose stage says this; -1: none. Ordering: O3. */
RINGBUF_SLOW int32_t
ringbuf_find_stage(const struct ringbuf_channel *ch, struct ringbuf_stream *s, uint64_t begin,
		   enum ringbuf_stage phase)
{
	for (uint32_t i = 0; i < ch->n_all; i++)
		/* O3 acquire: a spare's bytes are free. Pairs with ringbuf_deliver, by way of ringbuf_set_aside. */
		if (ringbuf_stage_is(ringbuf_load(&ringbuf_subbuf_at(ch, s, i)->stage, RINGBUF_ACQUIRE), begin, phase))
			return (int32_t)i;
	return -1;
}

/*
 * ringbuf_leave - the packet at `begin` in `sb`: delivered (1), or else parked (0), now if it was not before.
 * Callers:  whoever enters the slot of `begin` for the next pass, whose word is `ref`. Ordering: O3.
 */
RINGBUF_FUNC int
ringbuf_leave(struct ringbuf_stream *s, struct ringbuf_subbuf *sb, uint64_t begin, uint64_t ref)
{
	/* O3 acquire: the deliverer is done. Pairs with ringbuf_deliver. */
	uint64_t stage = ringbuf_load(&sb->stage, RINGBUF_ACQUIRE), next;
	int parked;

	if (ringbuf_stage_is_past(stage, begin))
		return ringbuf_stage_is(stage, begin, RINGBUF_STAGE_DONE);
	ringbuf_add(&s->parking, 1, RINGBUF_RELAXED); /* relaxed, as below */
	do {
		next = ringbuf_stage_word(begin, RINGBUF_STAGE_PARKED,
					  (stage & (RINGBUF_STAGE_KEPT | RINGBUF_STAGE_CELL)) |
						  (ref & RINGBUF_REF_LOST ? RINGBUF_STAGE_LOST : 0));
		RINGBUF_TESTPOINT(park_parking);
		/* O3 release: the statistic. acquire, if it fails: as above. */
		parked = ringbuf_cas(&sb->stage, &stage, next, RINGBUF_ACQ_REL, RINGBUF_ACQUIRE);
	} while (!parked && !ringbuf_stage_is_past(stage, begin));
	RINGBUF_TESTPOINT(park_parked);
	if (parked)
		ringbuf_add(&s->parked, 1, RINGBUF_RELAXED); /* a statistic */
	/* relaxed: mappers look at both again, and then find `parked` changed. Pairs with ringbuf_map_count. */
	ringbuf_add(&s->parking, -1, RINGBUF_RELAXED);
	return !parked && ringbuf_stage_is(stage, begin, RINGBUF_STAGE_DONE);
}

/*
 * What puts the slot on the pass of `begin`, given *ref, its word on the pass before. Returns 0 if the word has
 * changed: *ref is the new one. Ordering: O3, O5.
 */
RINGBUF_FUNC int
ringbuf_ref_entered(const struct ringbuf_channel *ch, struct ringbuf_stream *s, struct ringbuf_slot *slot,
		    uint64_t begin, uint64_t *ref, uint64_t *next)
{
	uint64_t before = ringbuf_pos_sub(begin, ringbuf_ring_size(&ch->geometry)), old = *ref;
	uint64_t idx = old & RINGBUF_REF_IDX_MASK, pass = ringbuf_ref_pass_at(ch, begin) << RINGBUF_REF_PASS_SHIFT;
	int32_t spare;

	*next = pass | idx;
	if (old & RINGBUF_REF_READ)
		return 1;
	if (ringbuf_leave(s, ringbuf_subbuf_at(ch, s, ringbuf_checked_idx(ch, idx)), before, old)) {
		*next = old & RINGBUF_REF_HELD ? pass | (old & RINGBUF_REF_SPARE_MASK) >> RINGBUF_REF_SPARE_SHIFT
					       : *next | RINGBUF_REF_LOST;
		return 1;
	}
	spare = ringbuf_find_stage(ch, s, begin, RINGBUF_STAGE_TAKEN);
	if (spare >= 0) {
		*next = pass | (uint64_t)spare;
		return 1;
	}
	/* It is in the slot already, and filled; or somebody scribbled on it: then as if it were not parked. */
	*ref = ringbuf_load(&slot->subbuf_ref, RINGBUF_ACQUIRE); /* O5, as in ringbuf_enter_slow */
	return *ref == old;
}

/*
 * ringbuf_enter_slow - put the slot of `pos` on the pass of `pos`, and say which sub-buffer `pos` lies in.
 * Callers:  any thread, once the position has moved into that sub-buffer; the first to come
 *           enters it, the others see it done. If the slot is on a later pass already, the caller
 *           owns bytes there, and the sub-buffer is parked.
 * Progress: lock-free; the reader changes the word twice for each packet that it takes.
 * Ordering: O3, O5.
 */
RINGBUF_SLOW uint32_t
ringbuf_enter_slow(const struct ringbuf_channel *ch, struct ringbuf_stream *s, uint64_t pos)
{
	struct ringbuf_slot *slot = ringbuf_slot_at(ch, s, pos);
	uint64_t pass = ringbuf_ref_pass_at(ch, pos), before = ringbuf_ref_pass_before(ch, pos);
	uint64_t begin = ringbuf_subbuf_begin(&ch->geometry, pos);
	/* O5 acquire: what the reader did with the packet, or with the spare. Pairs with
	 * its swaps. */
	uint64_t ref = ringbuf_load(&slot->subbuf_ref, RINGBUF_ACQUIRE);
	int32_t parked;

	while (ringbuf_ref_pass(ref) == before) {
		uint64_t next;
		int ret = ringbuf_ref_entered(ch, s, slot, begin, &ref, &next);

		RINGBUF_TESTPOINT(switch_entering);
		/* O5 acq_rel: acquire as above; release passes the reader's hand-over on to
		 * the producers that see the new word, and tells a reader that holds the packet
		 * before that it is delivered. Pairs with ringbuf_held_is_complete, too.
		 * O8 seq_cst: a reader about to sleep must not miss it, and look at the wrong
		 * sub-buffer's stage. */
		if (ret && ringbuf_cas(&slot->subbuf_ref, &ref, next, RINGBUF_SEQ_CST, RINGBUF_ACQUIRE))
			ref = next;
	}
	RINGBUF_TESTPOINT(switch_entered);
	if (ringbuf_ref_pass(ref) == pass)
		return ringbuf_checked_idx(ch, ref & RINGBUF_REF_IDX_MASK);
	parked = ringbuf_find_stage(ch, s, begin, RINGBUF_STAGE_PARKED);
	return parked < 0 ? 0 : (uint32_t)parked;
}

/* The sub-buffer that the pass of `pos` has in the slot; -1: nobody has entered that pass
 * yet, or it is past, or somebody scribbled on the word. Ordering: O5. */
RINGBUF_INLINE int32_t
ringbuf_entered(const struct ringbuf_channel *ch, const struct ringbuf_slot *slot, uint64_t pos)
{
	/* O5 acquire: the sub-buffer is the producers' to write. Pairs with whoever entered. */
	uint64_t ref = ringbuf_load(&slot->subbuf_ref, RINGBUF_ACQUIRE);
	uint64_t idx = ref & RINGBUF_REF_IDX_MASK;

	if (RINGBUF_LIKELY(ringbuf_ref_pass(ref) == ringbuf_ref_pass_at(ch, pos) && idx < ch->n_all))
		return (int32_t)idx;
	return -1;
}

/* The sub-buffer to write to at `pos`, where the caller owns bytes. Ordering: O5. */
RINGBUF_INLINE struct ringbuf_subbuf *
ringbuf_enter(const struct ringbuf_channel *ch, struct ringbuf_stream *s, uint64_t pos)
{
	int32_t idx = ringbuf_entered(ch, ringbuf_slot_at(ch, s, pos), pos);

	return ringbuf_subbuf_at(ch, s, RINGBUF_LIKELY(idx >= 0) ? (uint32_t)idx : ringbuf_enter_slow(ch, s, pos));
}

/* ---- spares ---- */

/*
 * Is the sub-buffer a spare, that may be set aside for the packet at `begin`? One that is set aside for another is, if
 * that turned out not to need it. Ordering: O5.
 */
RINGBUF_FUNC int
ringbuf_is_spare(const struct ringbuf_channel *ch, struct ringbuf_stream *s, uint32_t idx, uint64_t stage,
		 uint64_t begin)
{
	uint64_t pos = ringbuf_pos(stage), ref;

	/* One that has been used for `begin` or later: the asker was slow, and the position has moved on. A stage does not go
	 * back: whoever is slow to enter the slot that the sub-buffer stood in goes by it. */
	if (ringbuf_pos_diff(pos, begin) >= 0)
		return 0;
	if (ringbuf_stage_phase(stage) == RINGBUF_STAGE_FREE)
		return 1;
	if (ringbuf_stage_phase(stage) != RINGBUF_STAGE_TAKEN)
		return 0;
	ringbuf_enter(ch, s, pos); /* its opener may be slow to do so */
	/* O5 acquire: not for any bytes, but so that the swap that takes it is not before. A slot that is on that pass
	 * with another sub-buffer, or on a later one, has no use for this one any more. */
	ref = ringbuf_load(&ringbuf_slot_at(ch, s, pos)->subbuf_ref, RINGBUF_ACQUIRE);
	return ringbuf_ref_pass(ref) != ringbuf_ref_pass_at(ch, pos) || (ref & RINGBUF_REF_IDX_MASK) != idx;
}

/*
 * ringbuf_set_aside - see to it that a spare is there for the packet at `begin`.
 * Callers:  a producer that found the sub-buffer in its slot incomplete, and will enter it if its
 *           swap of the position succeeds. What is set aside needs no giving back.
 * Progress: lock-free: somebody else took the spare.
 * Returns:  0, or -EIO: there is none left. Ordering: O3.
 */
RINGBUF_SLOW int
ringbuf_set_aside(const struct ringbuf_channel *ch, struct ringbuf_stream *s, uint64_t begin)
{
	uint64_t stage, found = 0, next;
	int32_t spare;

	do {
		RINGBUF_TESTPOINT(park_looking);
		spare = -1;
		for (uint32_t i = 0; i < ch->n_all; i++) {
			/* O3 acquire: whoever filled it last is done with it. Pairs with ringbuf_deliver. */
			stage = ringbuf_load(&ringbuf_subbuf_at(ch, s, i)->stage, RINGBUF_ACQUIRE);
			if (ringbuf_stage_is(stage, begin, RINGBUF_STAGE_TAKEN))
				return 0;
			if (spare < 0 && ringbuf_is_spare(ch, s, i, stage, begin)) {
				spare = (int32_t)i;
				found = stage;
			}
		}
		if (spare < 0)
			return -EIO;
		next = ringbuf_stage_word(begin, RINGBUF_STAGE_TAKEN, found & RINGBUF_STAGE_CELL);
		RINGBUF_TESTPOINT(park_taking);
		/* O3 release: what I acquired, to whoever finds the spare by its new stage. */
	} while (!ringbuf_cas(&ringbuf_subbuf_at(ch, s, (uint32_t)spare)->stage, &found, next, RINGBUF_ACQ_REL,
			      RINGBUF_RELAXED));
	RINGBUF_TESTPOINT(park_taken);
	return 0;
}

#endif /* RINGBUF_PARK_H */
