/*
 * ringbuf/discard.h - take a reservation back; leave no trace of it.
 *
 * If nothing was reserved after it, the position is rolled back. Otherwise its
 * bytes become a filler (holes.h).
 */
#ifndef RINGBUF_DISCARD_H
#define RINGBUF_DISCARD_H

#include "reserve.h"

/* Roll the position back to where the record began, if it is the last. Ordering: O1. */
RINGBUF_FUNC int
ringbuf_roll_back(const struct ringbuf_channel *ch, struct ringbuf_reservation *r)
{
	uint64_t word = r->word;

	/* A record that filled its sub-buffer has closed it: others may rely on that. */
	if (ringbuf_subbuf_off(&ch->geometry, word) == 0)
		return 0;
	ringbuf_ledger_set(r->entry, ringbuf_ledger_word(RINGBUF_LEDGER_UNDOING, r->stream_idx, r->pos));
	RINGBUF_TESTPOINT(discard_undoing);
	/* O1 release: my writes to the bytes precede their next owner's. It reads what I
	 * stored myself. The new tag makes every swap fail whose clock was read before this. */
	return ringbuf_cas(&r->stream->produced, &word, ringbuf_word_retagged(word, r->pos),
			   RINGBUF_RELEASE, RINGBUF_RELAXED);
}

/*
 * ringbuf_discard_with - give the record up; counted as discarded, not as lost.
 * Callers:  the thread that reserved it, instead of commit, once.
 * Progress: wait-free but for a delivery it may owe. Ordering: O1, O2, O7.
 */
RINGBUF_FUNC void
ringbuf_discard_with(const struct ringbuf_client *client, const struct ringbuf_channel *ch,
		     struct ringbuf_reservation *r)
{
	if (!ringbuf_roll_back(ch, r)) {
		RINGBUF_TESTPOINT(discard_before_filler);
		ringbuf_ledger_set(r->entry, r->owned);
		ringbuf_put_filler(client, ch, r->stream, r->subbuf, r->pos, r->size, r->pre_padding);
		ringbuf_signal_fence(); /* the filler, before I say that it is there: I may die next */
		/* O7: read of the dead */
		ringbuf_store(&r->entry->word,
			      ringbuf_ledger_next(r->owned) | RINGBUF_LEDGER_NO_RECORD,
			      RINGBUF_RELAXED);
		RINGBUF_TESTPOINT(discard_written);
		ringbuf_count(ch, r->stream, r->stream_idx, r->subbuf, r->pos, r->size);
	}
	RINGBUF_TESTPOINT(discarded);
	ringbuf_add(&r->stream->lost[RINGBUF_DISCARDED], ringbuf_n_records(r), RINGBUF_RELAXED); /* a statistic */
	ringbuf_ledger_idle(r->entry);
}

RINGBUF_FUNC void
ringbuf_discard(const struct ringbuf_channel *ch, struct ringbuf_reservation *r)
{
	ringbuf_discard_with(ch->client, ch, r);
}

#endif /* RINGBUF_DISCARD_H */
