/*
 * ringbuf/commit.h - count a record as complete; deliver a full sub-buffer.
 */
#ifndef RINGBUF_COMMIT_H
#define RINGBUF_COMMIT_H

#include "holes.h"
#include "ledger.h"
#include "park.h"
#include "wait.h"

/* What is known of a complete packet, into the sub-buffer table and the packet itself. All relaxed: published by O3. */
RINGBUF_FUNC void
ringbuf_end_packet(const struct ringbuf_channel *ch, struct ringbuf_stream *s, uint32_t stream_idx,
		   struct ringbuf_subbuf *sb, uint64_t begin, uint64_t records)
{
	uint32_t idx = ringbuf_subbuf_idx(ch, s, sb);
	uint64_t content;

	/* O2: set before the filler was counted */
	if (RINGBUF_UNLIKELY(ringbuf_load(&sb->fillers, RINGBUF_RELAXED)))
		ringbuf_settle_fillers(ch, s, idx);
	content = ringbuf_load(&sb->close_size, RINGBUF_RELAXED);
	ringbuf_store(&sb->pos, begin, RINGBUF_RELAXED);
	ringbuf_store(&sb->timestamp_end, ringbuf_load(&sb->close_timestamp, RINGBUF_RELAXED), RINGBUF_RELAXED);
	ringbuf_store(&sb->events_discarded, ringbuf_load(&sb->close_discarded, RINGBUF_RELAXED), RINGBUF_RELAXED);
	ringbuf_store(&sb->sequence_number, ringbuf_pos_sub(begin, ch->start_pos) >> ch->geometry.subbuf_order,
		      RINGBUF_RELAXED);
	ringbuf_store(&sb->content_size, content, RINGBUF_RELAXED);
	ringbuf_store(&sb->packet_size, ringbuf_align_up(content, ch->page_size), RINGBUF_RELAXED);
	ringbuf_store(&sb->n_records, records, RINGBUF_RELAXED);
	RINGBUF_TESTPOINT(deliver_before_end);
	ringbuf_buffer_end(ch->client, ch, s, stream_idx, idx);
}

/*
 * The totals of a complete sub-buffer, from those of its packet before, and its new stage. That packet was lapped
 * unread if the slot's word says so, or the stage of a parked one, which is lapped itself. All relaxed: as above; one
 * deliverer of a sub-buffer is ordered after the last by O3, O1 and O2, and by O5.
 */
RINGBUF_FUNC uint64_t
ringbuf_add_totals(const struct ringbuf_channel *ch, struct ringbuf_stream *s, struct ringbuf_subbuf *sb, uint64_t begin,
		   uint64_t stage, uint64_t committed, uint64_t records)
{
	unsigned int before = ringbuf_stage_cell(stage), now = !before;
	/* The look at the word is good if the stage stands until the swap that follows: whoever changes the one after
	 * that of this pass has changed the other before. */
	uint64_t ref = ringbuf_load(&ringbuf_slot_at(ch, s, begin)->subbuf_ref, RINGBUF_RELAXED);
	int parked = ringbuf_stage_is(stage, begin, RINGBUF_STAGE_PARKED);
	int lost = parked ? (stage & RINGBUF_STAGE_LOST) != 0 : (ref & RINGBUF_REF_LOST) != 0;
	uint64_t overrun = lost ? ringbuf_load(&sb->records[before], RINGBUF_RELAXED) : 0;
	enum ringbuf_stage phase = RINGBUF_STAGE_DONE;

	if (parked && stage & RINGBUF_STAGE_KEPT) {
		phase = RINGBUF_STAGE_OUTSIDE; /* its reader will say what became of them */
	} else if (parked) {
		phase = RINGBUF_STAGE_FREE;
		overrun += records;
	}
	ringbuf_store(&sb->delivered[now], committed, RINGBUF_RELAXED);
	ringbuf_store(&sb->records[now], records, RINGBUF_RELAXED);
	ringbuf_store(&sb->total[now], ringbuf_load(&sb->total[before], RINGBUF_RELAXED) + records, RINGBUF_RELAXED);
	ringbuf_store(&sb->overrun[now], ringbuf_load(&sb->overrun[before], RINGBUF_RELAXED) + overrun,
		      RINGBUF_RELAXED);
	return ringbuf_stage_word(begin, phase, now ? RINGBUF_STAGE_CELL : 0);
}

/*
 * ringbuf_deliver - make a complete sub-buffer readable; or a spare, if it is parked.
 * Callers:  whoever's count completed it: exactly one, since one add returned
 *           the full value. A repairer may do it again for a dead deliverer:
 *           every store gives the same result the second time, up to the last.
 * Progress: wait-free, but for the client's callback and a wake-up call: the stage changes twice at the most.
 * Ordering: O2 (acquired by the caller), O3, O8.
 */
RINGBUF_SLOW void
ringbuf_deliver(const struct ringbuf_channel *ch, struct ringbuf_stream *s,
		uint32_t stream_idx, struct ringbuf_subbuf *sb, uint64_t pos, uint64_t committed)
{
	uint64_t begin = ringbuf_subbuf_begin(&ch->geometry, pos), next;
	uint64_t stage = ringbuf_load(&sb->stage, RINGBUF_RELAXED); /* the swap checks it */
	uint64_t records = ringbuf_counted_since(sb, stage, committed) >> 32;

	ringbuf_end_packet(ch, s, stream_idx, sb, begin, records);
	do {
		next = ringbuf_add_totals(ch, s, sb, begin, stage, committed, records);
		RINGBUF_TESTPOINT(deliver_before_publish);
		/* O3 release: the packet and all that is known of it; of a spare, that I am done with it.
		 * Pairs with the acquires in ringbuf_get_subbuf (reader.h), ringbuf_slot_is_free (switch.h)
		 * and park.h. O8 seq_cst: before the look at `data_wanted`.
		 * relaxed, if it fails: the word alone is what I go by. */
	} while (!ringbuf_cas(&sb->stage, &stage, next, RINGBUF_SEQ_CST, RINGBUF_RELAXED));
	RINGBUF_TESTPOINT(deliver_published);
	if (ch->wakeup == RINGBUF_WAKEUP_WRITER)
		ringbuf_wait_wake(&ch->control->data_seq, &ch->control->data_wanted);
}

/*
 * ringbuf_count - add committed bytes (and records) to the sub-buffer, which `pos` lies in.
 * Whoever completes it delivers. Ordering: O2.
 */
RINGBUF_INLINE void
ringbuf_count(const struct ringbuf_channel *ch, struct ringbuf_stream *s, uint32_t stream_idx,
	      struct ringbuf_subbuf *sb, uint64_t pos, uint64_t amount)
{
	/* O2 release: my bytes precede my count. O2 acquire: if I complete the
	 * sub-buffer I publish everybody's bytes, so I must have seen them.
	 * Pairs with itself in the other committers. */
	uint64_t committed = ringbuf_add(&sb->committed, amount, RINGBUF_ACQ_REL) + amount;

	RINGBUF_TESTPOINT(commit_counted);
	if (RINGBUF_UNLIKELY(ringbuf_is_complete(&ch->geometry, committed)))
		ringbuf_deliver(ch, s, stream_idx, sb, pos, committed);
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
	ringbuf_count(ch, r->stream, ringbuf_ledger_stream(r->owned), r->subbuf, ringbuf_pos(r->owned),
		      ringbuf_n_records(r) * RINGBUF_ONE_RECORD + r->size);
	/* relaxed: a hint that may lag. An older value only makes a header longer.
	 * Stored after the count: short timestamps refer to visible records only. */
	ringbuf_store(&r->stream->base_timestamp, r->timestamp, RINGBUF_RELAXED);
	ringbuf_ledger_idle(r->entry);
}

#endif /* RINGBUF_COMMIT_H */
