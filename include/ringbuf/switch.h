/*
 * ringbuf/switch.h - leave a sub-buffer, enter the next; flush.
 *
 * A move of the position across a boundary is planned on a snapshot of
 * `produced`, won by one compare-and-swap, and only then carried out. Other
 * producers may already be writing in the new sub-buffer while its header is
 * missing; it cannot be delivered before the header is counted, since header,
 * payload and padding all count into the one commit counter.
 */
#ifndef RINGBUF_SWITCH_H
#define RINGBUF_SWITCH_H

#include <errno.h>

#include "commit.h"
#include "file.h"

struct ringbuf_move {
	uint64_t word;      /* `produced` as sampled */
	uint64_t pos;       /* its position */
	uint64_t next;      /* the position after the move */
	uint64_t timestamp;
	uint64_t discarded; /* losses of the stream, sampled before the swap */
	int close_old;      /* pads out the sub-buffer of `pos` */
	int open_new;       /* writes the packet header at the boundary at or after `pos` */
	int close_new;      /* ends exactly at the end of its sub-buffer */
};

/* Records that a reader of the trace must be told are missing. */
RINGBUF_FUNC uint64_t
ringbuf_events_discarded(const struct ringbuf_stream *s)
{
	uint64_t sum = 0;

	/* relaxed: monotonic counters; O1 orders one closer's sample after the last one's */
	for (int cause = 0; cause <= RINGBUF_LOST_TORN; cause++) /* DISABLED is 0 in a stream */
		sum += ringbuf_load(&s->lost[cause], RINGBUF_RELAXED);
	return sum;
}

/* What a reservation returns that is refused for this cause: -errno. */
RINGBUF_FUNC int
ringbuf_loss_error(int cause)
{
#define RINGBUF_LOSS_ERROR(cause, name, error) -error,
	static const int errors[] = {RINGBUF_LOSSES(RINGBUF_LOSS_ERROR)};
#undef RINGBUF_LOSS_ERROR

	return errors[cause];
}

/* The cause for which a reservation returned this -errno; -1: none, nothing was counted. */
RINGBUF_FUNC int
ringbuf_loss_of_error(int error)
{
	for (int cause = 0; cause < RINGBUF_N_LOSSES; cause++)
		if (ringbuf_loss_error(cause) == error)
			return cause;
	return -1;
}

/* Its name in Stats, after "records_lost_". */
RINGBUF_FUNC const char *
ringbuf_loss_name(int cause)
{
#define RINGBUF_LOSS_NAME(cause, name, error) name,
	static const char *const names[] = {RINGBUF_LOSSES(RINGBUF_LOSS_NAME)};
#undef RINGBUF_LOSS_NAME

	return names[cause];
}

RINGBUF_FUNC void
ringbuf_lose(struct ringbuf_stream *s, enum ringbuf_cause cause, uint64_t n_records)
{
	ringbuf_add(&s->lost[cause], n_records, RINGBUF_RELAXED); /* a statistic */
}

/*
 * The slot has a word of another pass than the one before. Nobody has entered that one yet: whoever claimed it is slow
 * to do so. Or somebody scribbled on the word. Callers: a producer about to enter the slot, which `ref` was true of when
 * the position was what it still is. Ordering: O5.
 */
RINGBUF_SLOW void
ringbuf_enter_before(const struct ringbuf_channel *ch, struct ringbuf_stream *s, uint64_t before, uint64_t ref)
{
	struct ringbuf_slot *slot = ringbuf_slot_at(ch, s, before);
	uint32_t idx = ringbuf_checked_idx(ch, ref & RINGBUF_REF_IDX_MASK);

	if (ringbuf_ref_pass(ref) == ringbuf_ref_pass_before(ch, before))
		ringbuf_enter(ch, s, before);
	else
		/* relaxed both: nothing is known of the sub-buffer in there */
		ringbuf_cas(&slot->subbuf_ref, &ref,
			    ringbuf_ref_pass_at(ch, before) << RINGBUF_REF_PASS_SHIFT | RINGBUF_REF_READ | idx,
			    RINGBUF_RELAXED, RINGBUF_RELAXED);
}

/*
 * ringbuf_slot_is_free - may the sub-buffer that begins at `begin` be entered?
 * With `park`, one that is not complete may: a spare is set aside for it.
 * Returns:  0; -EAGAIN if `produced` is no longer `word` (plan again);
 *           -EIO if the slot's last packet is not delivered (a producer is still in it), and
 *           is not to be parked, or no spare is left;
 *           -ENOBUFS in discard mode if the reader has not released it;
 *           -ENOMEM if the sub-buffers have no memory yet, and get none.
 * Ordering: O3, O4, O5 acquired here, passed on by the O1 of the caller's swap.
 */
RINGBUF_FUNC int
ringbuf_slot_is_free(const struct ringbuf_channel *ch, struct ringbuf_stream *s, uint64_t word,
		     uint64_t begin, int park)
{
	const struct ringbuf_geometry *g = &ch->geometry;
	uint64_t before = ringbuf_pos_sub(begin, ringbuf_ring_size(g));
	/* O4 acquire: the reader's loads are done. Pairs with ringbuf_advance.
	 * O8 seq_cst: a producer about to sleep looks here after setting `space_wanted`.
	 * Read first: then what the reader has released is seen delivered below. */
	uint64_t consumed = ringbuf_load(&s->consumed_pos, RINGBUF_SEQ_CST);
	/* O5 acquire: pairs with whoever entered, and with the reader that gave it back. */
	uint64_t ref = ringbuf_load(&ringbuf_slot_at(ch, s, begin)->subbuf_ref, RINGBUF_ACQUIRE);
	uint32_t idx = ringbuf_checked_idx(ch, ref & RINGBUF_REF_IDX_MASK);
	/* O3 acquire: the delivered packet's bookkeeping, about to be reused. Pairs with
	 * ringbuf_deliver. And before the re-read of `produced` below. */
	uint64_t stage = ringbuf_load(&ringbuf_subbuf_at(ch, s, idx)->stage, RINGBUF_ACQUIRE);

	RINGBUF_TESTPOINT(switch_slot_sampled);
	/* relaxed: all loads above are acquires, so this one is not older. If the
	 * position has moved, the words may belong to a later pass. */
	if (ringbuf_load(&s->produced, RINGBUF_RELAXED) != word)
		return -EAGAIN;
	if (RINGBUF_UNLIKELY(ringbuf_ref_pass(ref) != ringbuf_ref_pass_at(ch, before))) {
		ringbuf_enter_before(ch, s, before, ref);
		return -EAGAIN;
	}
	if (!(ref & RINGBUF_REF_READ) && !ringbuf_stage_is(stage, before, RINGBUF_STAGE_DONE)) {
		if (!park || ch->mode != RINGBUF_OVERWRITE)
			return -EIO;
		if (!ringbuf_set_aside(ch, s, begin))
			return 0;
		/* relaxed: as above. If it has moved, another sub-buffer is to be entered, which may need no spare. */
		return ringbuf_load(&s->produced, RINGBUF_RELAXED) != word ? -EAGAIN : -EIO;
	}
	if (ch->mode == RINGBUF_DISCARD &&
	    ringbuf_pos_diff(begin, consumed) >= (int64_t)ringbuf_ring_size(g))
		return -ENOBUFS;
	return ringbuf_have_memory(ch, s);
}

/*
 * What the deliverer will say of a packet that this move ends. Published by the
 * mover's own count (O2). The last store tells a repairer that it is all there.
 */
RINGBUF_FUNC void
ringbuf_note_close(const struct ringbuf_channel *ch, struct ringbuf_subbuf *sb, const struct ringbuf_move *m,
		   uint64_t pos, uint64_t content_size)
{
	ringbuf_store(&sb->close_timestamp, m->timestamp, RINGBUF_RELAXED);
	ringbuf_store(&sb->close_size, content_size, RINGBUF_RELAXED);
	ringbuf_store(&sb->close_discarded, m->discarded, RINGBUF_RELAXED);
	ringbuf_signal_fence();
	ringbuf_store(&sb->close_noted, ringbuf_packet_tag(ch, pos), RINGBUF_RELAXED);
}

/* Enter the slot of `begin` and write the packet header there. Published as above. Returns the sub-buffer. Ordering: O5. */
RINGBUF_FUNC struct ringbuf_subbuf *
ringbuf_begin_packet(const struct ringbuf_client *client, const struct ringbuf_channel *ch,
		     struct ringbuf_stream *s, uint32_t stream_idx, uint64_t begin, uint64_t timestamp)
{
	struct ringbuf_subbuf *sb = ringbuf_enter(ch, s, begin);

	RINGBUF_TESTPOINT(switch_before_header);
	ringbuf_buffer_begin(client, ch, s, stream_idx, ringbuf_subbuf_idx(ch, s, sb), timestamp);
	ringbuf_signal_fence();
	ringbuf_store(&sb->open_noted, ringbuf_packet_tag(ch, begin), RINGBUF_RELAXED);
	return sb;
}

/*
 * A flight recorder may run for weeks without a reader. Positions compare right
 * only within 2^47 bytes, so that consumed_pos must not stay behind that far:
 * pull it up to what is still in the ring. The reader's own moves are recent,
 * and make the swap fail.
 */
#define RINGBUF_CONSUMED_BEHIND_MAX (INT64_C(1) << 46)

RINGBUF_INLINE void
ringbuf_keep_consumed_near(const struct ringbuf_channel *ch, struct ringbuf_stream *s, uint64_t begin)
{
	uint64_t consumed = ringbuf_load(&s->consumed_pos, RINGBUF_RELAXED); /* the swap checks it */

	if (RINGBUF_UNLIKELY(ringbuf_pos_diff(begin, consumed) > RINGBUF_CONSUMED_BEHIND_MAX))
		/* relaxed: says nothing of any bytes; O4 is for discard mode, where nobody is so far behind */
		ringbuf_cas(&s->consumed_pos, &consumed, ringbuf_oldest_begin(&ch->geometry, begin),
			    RINGBUF_RELAXED, RINGBUF_RELAXED);
}

/*
 * ringbuf_carry_out - do what a won move promised: close, open.
 * Callers:  the producer whose swap of `produced` succeeded, once.
 * Progress: lock-free. Ordering: O2, O5.
 */
RINGBUF_FUNC void
ringbuf_carry_out(const struct ringbuf_client *client, const struct ringbuf_channel *ch,
		  struct ringbuf_stream *s, uint32_t stream_idx, const struct ringbuf_move *m)
{
	const struct ringbuf_geometry *g = &ch->geometry;
	uint64_t begin = ringbuf_subbuf_ceil(g, m->pos);
	struct ringbuf_subbuf *sb;

	if (m->close_old) {
		uint64_t off = ringbuf_subbuf_off(g, m->pos);

		sb = ringbuf_enter(ch, s, m->pos);
		ringbuf_note_close(ch, sb, m, m->pos, off);
		RINGBUF_TESTPOINT(switch_before_padding);
		ringbuf_count(ch, s, stream_idx, sb, m->pos, ringbuf_subbuf_size(g) - off);
		RINGBUF_TESTPOINT(switch_padded);
	}
	if (m->open_new) {
		ringbuf_keep_consumed_near(ch, s, begin);
		sb = ringbuf_begin_packet(client, ch, s, stream_idx, begin, m->timestamp);
		if (m->close_new)
			ringbuf_note_close(ch, sb, m, begin, ringbuf_subbuf_size(g));
		ringbuf_count(ch, s, stream_idx, sb, begin, ch->packet_header_size);
		RINGBUF_TESTPOINT(switch_header_counted);
	} else if (m->close_new) {
		ringbuf_note_close(ch, ringbuf_enter(ch, s, m->pos), m, m->pos, ringbuf_subbuf_size(g));
	}
}

/* A user's clock, which is read before the position: it may record something itself,
 * and would move the position away each time. 0 if there is none. */
RINGBUF_INLINE uint64_t
ringbuf_clock_custom(const struct ringbuf_client *client, const struct ringbuf_channel *ch)
{
	return RINGBUF_UNLIKELY(client && client->clock_read) ? client->clock_read(ch) : 0;
}

/* It may also step back, or be older than the position; time along a stream may not. All
 * relaxed: the swap keeps the maximum, and O1 orders one record's before the next one's. */
RINGBUF_FUNC uint64_t
ringbuf_raise_custom(struct ringbuf_stream *s, uint64_t now)
{
	uint64_t last = ringbuf_load(&s->custom_timestamp, RINGBUF_RELAXED);

	do {
		if (now <= last)
			return last;
	} while (!ringbuf_cas(&s->custom_timestamp, &last, now, RINGBUF_RELAXED, RINGBUF_RELAXED));
	return now;
}

/* The time, read after the position was; `custom` is what ringbuf_clock_custom said. */
RINGBUF_INLINE uint64_t
ringbuf_timestamp(const struct ringbuf_client *client, const struct ringbuf_channel *ch,
		  struct ringbuf_stream *s, uint64_t custom)
{
	if (RINGBUF_UNLIKELY(client && client->clock_read))
		return ringbuf_raise_custom(s, custom);
	return ringbuf_clock_ordered(ch);
}

#define RINGBUF_FLUSH_EMPTY 1u /* also emit a packet without records */

/*
 * ringbuf_flush_try - one attempt at ending the current packet.
 * Returns:  1 done, 0 nothing to do, -EAGAIN lost a race, -EIO, -ENOBUFS or -ENOMEM:
 *           no sub-buffer is free for the empty packet that was asked for.
 */
RINGBUF_FUNC int
ringbuf_flush_try(const struct ringbuf_client *client, const struct ringbuf_channel *ch,
		  struct ringbuf_stream *s, uint32_t stream_idx, struct ringbuf_ledger_entry *entry,
		  unsigned int flags)
{
	const struct ringbuf_geometry *g = &ch->geometry;
	struct ringbuf_move m;
	uint64_t off, custom;

	memset(&m, 0, sizeof(m));
	custom = ringbuf_clock_custom(client, ch);
	m.word = ringbuf_load(&s->produced, RINGBUF_ACQUIRE); /* O1, O9 */
	m.pos = ringbuf_pos(m.word);
	m.timestamp = ringbuf_timestamp(client, ch, s, custom);
	m.discarded = ringbuf_events_discarded(s);
	off = ringbuf_subbuf_off(g, m.pos);
	if (off == 0) {
		int ret;

		/* relaxed: O9, as in ringbuf_reserve_try */
		if (!(flags & RINGBUF_FLUSH_EMPTY) ||
		    ringbuf_load(&ch->control->state, RINGBUF_RELAXED) & RINGBUF_STATE_FINALIZED)
			return 0;
		ret = ringbuf_slot_is_free(ch, s, m.word, m.pos, 1);
		if (ret)
			return ret;
		m.open_new = 1;
	}
	m.close_old = 1;
	m.next = ringbuf_pos_add(ringbuf_subbuf_begin(g, m.pos), ringbuf_subbuf_size(g));
	ringbuf_ledger_claim_boundary(entry, ringbuf_ledger_word(RINGBUF_LEDGER_FLUSHING, stream_idx, m.pos),
				      ringbuf_subbuf_size(g) - off, m.timestamp,
				      ringbuf_word_at(m.word, ringbuf_pos(m.discarded)));
	/* O1 release: as in ringbuf_reserve_try. */
	if (!ringbuf_cas(&s->produced, &m.word, ringbuf_word_at(m.word, m.next), RINGBUF_RELEASE,
			 RINGBUF_RELAXED))
		return -EAGAIN;
	RINGBUF_TESTPOINT(flush_claimed);
	ringbuf_ledger_set(entry, ringbuf_ledger_word(RINGBUF_LEDGER_MOVING, stream_idx, m.pos));
	if (m.open_new) {
		/* Header and padding of one empty packet, in one count. */
		struct ringbuf_subbuf *sb = ringbuf_begin_packet(client, ch, s, stream_idx, m.pos, m.timestamp);

		ringbuf_note_close(ch, sb, &m, m.pos, ch->packet_header_size);
		ringbuf_count(ch, s, stream_idx, sb, m.pos, ringbuf_subbuf_size(g));
	} else {
		ringbuf_carry_out(client, ch, s, stream_idx, &m);
	}
	return 1;
}

/*
 * ringbuf_flush - end the stream's current packet, so that a reader can have it.
 *
 * Without RINGBUF_FLUSH_EMPTY, and in a finalized channel, does nothing if no
 * packet is begun. The next packet's header is left to the next record, so
 * flushing in overwrite mode overwrites nothing.
 * Callers:  any thread with a producer slot, also for another CPU's stream.
 * Progress: lock-free. Ordering: O1, O2, O3, O5.
 * Returns:  0; -ENOBUFS, -EIO or -ENOMEM if an empty packet was asked for and no
 *           sub-buffer is free; -EPERM if this thread's four levels are taken.
 */
RINGBUF_FUNC int
ringbuf_flush(const struct ringbuf_channel *ch, struct ringbuf_producer_slot *producer,
	      uint32_t stream_idx, unsigned int flags)
{
	struct ringbuf_stream *s = ringbuf_stream_at(ch, stream_idx);
	struct ringbuf_ledger_entry *entry = ringbuf_ledger_take(producer);
	int ret;

	if (!entry)
		return -EPERM;
	do {
		ret = ringbuf_flush_try(ch->client, ch, s, stream_idx, entry, flags);
	} while (ret == -EAGAIN);
	ringbuf_ledger_idle(entry);
	return ret > 0 ? 0 : ret;
}

#endif /* RINGBUF_SWITCH_H */
