/*
 * ringbuf/ledger.h - what a producer leaves behind if it dies.
 *
 * Each recording thread owns a slot of the channel's producer table. For each
 * reservation it has open (nested ones included), one entry says how far it
 * got, in one 64-bit word, so that a repairer never pairs an old state with a
 * new position. Plain stores to the thread's own cache lines.
 *
 * Ordering O7: the store by which an entry leaves a sub-buffer (it goes idle, or
 * on to the next one) releases, and the repairer's scan acquires: an entry seen
 * elsewhere, then or later, means that its counts are seen too. The other
 * stores may be relaxed: the claiming store is published by the release of the
 * position's swap (O1), and a dead thread's stores by its death (the
 * certificate's lock). A thread dies between two instructions, so only the
 * compiler must be kept from reordering, where that matters.
 */
#ifndef RINGBUF_LEDGER_H
#define RINGBUF_LEDGER_H

#include "image.h"

RINGBUF_INLINE uint64_t
ringbuf_ledger_word(enum ringbuf_ledger_state state, uint32_t stream_idx, uint64_t pos)
{
	return pos | (uint64_t)stream_idx << RINGBUF_LEDGER_STREAM_SHIFT |
	       (uint64_t)state << RINGBUF_LEDGER_STATE_SHIFT;
}

RINGBUF_INLINE enum ringbuf_ledger_state
ringbuf_ledger_state(uint64_t word)
{
	return (enum ringbuf_ledger_state)(word >> RINGBUF_LEDGER_STATE_SHIFT);
}

RINGBUF_INLINE uint32_t
ringbuf_ledger_stream(uint64_t word)
{
	return (uint32_t)(word >> RINGBUF_LEDGER_STREAM_SHIFT) & (RINGBUF_STREAMS_MAX - 1);
}

/* Take the entry if it is idle. Returns whether it was. */
RINGBUF_INLINE int
ringbuf_ledger_try(struct ringbuf_ledger_entry *e)
{
	/* relaxed both: only this thread writes it; the dead hold nothing by it */
	if (RINGBUF_UNLIKELY(ringbuf_load(&e->word, RINGBUF_RELAXED)))
		return 0;
	ringbuf_store(&e->word, (uint64_t)RINGBUF_LEDGER_TAKEN << RINGBUF_LEDGER_STATE_SHIFT,
		      RINGBUF_RELAXED);
	ringbuf_signal_fence();
	return 1;
}

/*
 * Take an idle entry of the calling thread's slot; NULL: all levels are taken.
 * From here on a signal handler takes another one. (One that interrupts between
 * the load and the store takes this one, and has it idle again when it returns.)
 */
RINGBUF_SLOW struct ringbuf_ledger_entry *
ringbuf_ledger_take(struct ringbuf_producer_slot *slot)
{
	for (int i = 0; i < RINGBUF_NESTING_MAX; i++)
		if (ringbuf_ledger_try(&slot->ledger[i]))
			return &slot->ledger[i];
	return NULL;
}

RINGBUF_FUNC int
ringbuf_ledger_is_full(const struct ringbuf_producer_slot *slot)
{
	for (int i = 0; i < RINGBUF_NESTING_MAX; i++)
		if (!ringbuf_load(&slot->ledger[i].word, RINGBUF_RELAXED)) /* this thread's own */
			return 0;
	return 1;
}

RINGBUF_FUNC int
ringbuf_ledger_is_idle(const struct ringbuf_producer_slot *slot)
{
	for (int i = 0; i < RINGBUF_NESTING_MAX; i++)
		if (ringbuf_load(&slot->ledger[i].word, RINGBUF_ACQUIRE)) /* O7 */
			return 0;
	return 1;
}

/* Bytes of a claim, and in the upper half how many records it is more than one. */
RINGBUF_INLINE uint64_t
ringbuf_ledger_extent(uint64_t size, uint32_t n_more)
{
	return size | (uint64_t)n_more << 32;
}

/* Before the swap of the position: "I may be about to own the `extent` at `pos`". */
RINGBUF_INLINE void
ringbuf_ledger_claim(struct ringbuf_ledger_entry *e, uint64_t word, uint64_t extent, uint64_t timestamp)
{
	/* relaxed both: read of the dead */
	ringbuf_store(&e->extent, extent, RINGBUF_RELAXED);
	ringbuf_store(&e->timestamp, timestamp, RINGBUF_RELAXED);
	ringbuf_store(&e->word, word, RINGBUF_RELAXED); /* O7, by O1 */
	RINGBUF_TESTPOINT(ledger_claimed);
}

/* The same of a claim that ends a sub-buffer or begins one: what the closer would have noted. `tagged`: as `discarded` is. */
RINGBUF_INLINE void
ringbuf_ledger_claim_boundary(struct ringbuf_ledger_entry *e, uint64_t word, uint64_t extent,
			      uint64_t timestamp, uint64_t tagged)
{
	ringbuf_store(&e->discarded, tagged, RINGBUF_RELAXED); /* relaxed: as below */
	ringbuf_ledger_claim(e, word, extent, timestamp);
}

/* The word with the state after this one: claiming, owned, written. */
RINGBUF_INLINE uint64_t
ringbuf_ledger_next(uint64_t word)
{
	return word + (UINT64_C(1) << RINGBUF_LEDGER_STATE_SHIFT);
}

/* The claim succeeded, of a record that opens a sub-buffer or may end one: there are things to do first. */
RINGBUF_INLINE void
ringbuf_ledger_won(struct ringbuf_ledger_entry *e, uint32_t stream_idx, uint64_t pos, int opens)
{
	uint64_t word = opens ? ringbuf_ledger_word(RINGBUF_LEDGER_MOVING, stream_idx, pos) | RINGBUF_LEDGER_OPENS
			      : ringbuf_ledger_word(RINGBUF_LEDGER_OWNED, stream_idx, pos);

	ringbuf_store(&e->word, word, RINGBUF_RELAXED); /* O7: read of the dead, or to find me alive */
}

RINGBUF_INLINE void
ringbuf_ledger_set(struct ringbuf_ledger_entry *e, uint64_t word)
{
	ringbuf_store(&e->word, word, RINGBUF_RELAXED); /* O7: read of the dead, or to find me alive */
}

/* A claim that crossed a boundary is carried out: what is left of it is the record, in the word `owned`. */
RINGBUF_INLINE void
ringbuf_ledger_land(struct ringbuf_ledger_entry *e, uint64_t owned)
{
	/* O7 release: whoever sees that I have left the sub-buffer before sees what I counted
	 * there. Pairs with ringbuf_slot_concerns. */
	ringbuf_store(&e->word, owned, RINGBUF_RELEASE);
}

RINGBUF_INLINE void
ringbuf_ledger_idle(struct ringbuf_ledger_entry *e)
{
	/* O7 release: whoever sees the entry idle sees the count it led to.
	 * Pairs with the acquire of a repairer's scan. */
	ringbuf_store(&e->word, 0, RINGBUF_RELEASE);
}

/* Has the dead owner of the slot left nothing to repair? Then its entries are idle. */
RINGBUF_FUNC int
ringbuf_ledger_is_clear(struct ringbuf_producer_slot *slot)
{
	for (int i = 0; i < RINGBUF_NESTING_MAX; i++)
		if (ringbuf_ledger_state(ringbuf_load(&slot->ledger[i].word, RINGBUF_ACQUIRE)) > /* O7 */
		    RINGBUF_LEDGER_TAKEN)
			return 0;
	for (int i = 0; i < RINGBUF_NESTING_MAX; i++)
		ringbuf_ledger_idle(&slot->ledger[i]);
	return 1;
}

#endif /* RINGBUF_LEDGER_H */
