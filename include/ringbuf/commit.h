/*
 * ringbuf/commit.h - count a record as complete; deliver a full sub-buffer.
 */
#ifndef RINGBUF_COMMIT_H
#define RINGBUF_COMMIT_H

#include "holes.h"
#include "ledger.h"
#include "wait.h"

/*
 * ringbuf_deliver - make a complete sub-buffer readable.
 * Callers:  whoever's count completed it: exactly one, since one add returned
 *           the full value. A repairer may do it again for a dead deliverer:
 *           every store below gives the same result the second time.
 * Progress: wait-free, but for the client's callback and a wake-up call.
 * Ordering: O2 (acquired by the caller), O3, O8.
 */
RINGBUF_SLOW void
ringbuf_deliver(const struct ringbuf_channel *ch, struct ringbuf_stream *s,
		uint32_t stream_idx, uint64_t pos, uint64_t committed)
{
	const struct ringbuf_geometry *g = &ch->geometry;
	struct ringbuf_slot *slot = ringbuf_slot_at(ch, s, pos);
	uint64_t ref = ringbuf_load(&slot->subbuf_ref, RINGBUF_RELAXED); /* O2: set by who entered */
	uint32_t idx = ringbuf_checked_idx(ch, ref & RINGBUF_REF_IDX_MASK);
	struct ringbuf_subbuf *sb = ringbuf_subbuf_at(ch, s, idx);
	unsigned int now = ringbuf_pass(g, pos) & 1, before = !now;
	/* relaxed: changed by deliverers of this slot alone, who are ordered by
	 * the O1, O2 and O3 between two passes */
	uint32_t records = ringbuf_records_between(ringbuf_load(&slot->delivered, RINGBUF_RELAXED),
						   committed);
	uint64_t overrun = ref & RINGBUF_REF_LOST
				   ? ringbuf_load(&slot->records[before], RINGBUF_RELAXED)
				   : 0;
	uint64_t content;

	/* All relaxed: published together by O3. */
	ringbuf_store(&slot->records[now], records, RINGBUF_RELAXED);
	ringbuf_store(&slot->total[now],
		      ringbuf_load(&slot->total[before], RINGBUF_RELAXED) + records, RINGBUF_RELAXED);
	ringbuf_store(&slot->overrun[now],
		      ringbuf_load(&slot->overrun[before], RINGBUF_RELAXED) + overrun,
		      RINGBUF_RELAXED);

	/* O2: set before the filler was counted */
	if (RINGBUF_UNLIKELY(ringbuf_load(&slot->fillers, RINGBUF_RELAXED)))
		ringbuf_settle_fillers(ch, s, pos, ringbuf_subbuf_data(ch, s, idx));
	content = ringbuf_load(&slot->close_size, RINGBUF_RELAXED);

	ringbuf_store(&sb->pos, ringbuf_subbuf_begin(g, pos), RINGBUF_RELAXED);
	ringbuf_store(&sb->timestamp_end, ringbuf_load(&slot->close_timestamp, RINGBUF_RELAXED),
		      RINGBUF_RELAXED);
	ringbuf_store(&sb->events_discarded, ringbuf_load(&slot->close_discarded, RINGBUF_RELAXED),
		      RINGBUF_RELAXED);
	ringbuf_store(&sb->sequence_number,
		      ringbuf_pos_sub(ringbuf_subbuf_begin(g, pos), ch->start_pos) >> g->subbuf_order,
		      RINGBUF_RELAXED);
	ringbuf_store(&sb->content_size, content, RINGBUF_RELAXED);
	ringbuf_store(&sb->packet_size, ringbuf_align_up(content, ch->page_size), RINGBUF_RELAXED);
	ringbuf_store(&sb->records, records, RINGBUF_RELAXED);
	RINGBUF_TESTPOINT(deliver_before_end);
	ringbuf_buffer_end(ch->client, ch, s, stream_idx, idx);

	RINGBUF_TESTPOINT(deliver_before_publish);
	/* O3 release: the packet and all that is known of it. Pairs with the acquire in
	 * ringbuf_get_subbuf (reader.h) and in ringbuf_slot_is_free (switch.h).
	 * O8 seq_cst: before the look at `data_wanted`. */
	ringbuf_store(&slot->delivered, committed, RINGBUF_SEQ_CST);
	RINGBUF_TESTPOINT(deliver_published);
	if (ch->wakeup == RINGBUF_WAKEUP_WRITER)
		ringbuf_wait_wake(&ch->control->data_seq, &ch->control->data_wanted);
}

/*
 * ringbuf_count - add committed bytes (and records) to the sub-buffer of `pos`.
 * Whoever completes it delivers. Ordering: O2.
 */
RINGBUF_INLINE void
ringbuf_count(const struct ringbuf_channel *ch, struct ringbuf_stream *s, uint32_t stream_idx,
	      struct ringbuf_slot *slot, uint64_t pos, uint64_t amount)
{
	/* O2 release: my bytes precede my count. O2 acquire: if I complete the
	 * sub-buffer I publish everybody's bytes, so I must have seen them.
	 * Pairs with itself in the other committers. */
	uint64_t committed = ringbuf_add(&slot->committed, amount, RINGBUF_ACQ_REL) + amount;

	RINGBUF_TESTPOINT(commit_counted);
	if (RINGBUF_UNLIKELY(ringbuf_is_complete(&ch->geometry, committed)))
		ringbuf_deliver(ch, s, stream_idx, pos, committed);
}

/*
 * ringbuf_commit - the record is complete; all of them, if there are more.
 * Callers:  the thread that reserved it, once.
 * Progress: wait-free but for a delivery it may owe. Ordering: O2, O7.
 * Returns nothing: a commit that could fail would strand the sub-buffer.
 */
RINGBUF_INLINE void
ringbuf_commit(const struct ringbuf_channel *ch, const struct ringbuf_reservation *r)
{
	RINGBUF_TESTPOINT(commit_begin);
	ringbuf_signal_fence(); /* the payload, before I say that it is complete: I may die next */
	ringbuf_ledger_set(r->entry, ringbuf_ledger_next(r->owned));
	RINGBUF_TESTPOINT(commit_written);
	ringbuf_count(ch, r->stream, ringbuf_ledger_stream(r->owned), r->slot, ringbuf_pos(r->owned),
		      ringbuf_n_records(r) * RINGBUF_ONE_RECORD + r->size);
	/* relaxed: a hint that may lag. An older value only makes a header longer.
	 * Stored after the count: short timestamps refer to visible records only. */
	ringbuf_store(&r->stream->base_timestamp, r->timestamp, RINGBUF_RELAXED);
	ringbuf_ledger_idle(r->entry);
}

#endif /* RINGBUF_COMMIT_H */
