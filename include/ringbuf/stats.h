/*
 * ringbuf/stats.h - how many records were written, read, lost.
 *
 * Nothing is counted twice, and nothing on the fast path: the upper half of
 * the commit counters has the records. When nobody records or reads, the sums
 * are exact and
 *
 *	attempts = written + discarded + lost (full, wrap, big, nesting, slots, memory, disabled)
 *	written  = read + overrun + unread + torn
 *
 * hold as equalities between independent counters. While producers run, each
 * stream is sampled sub-buffer by sub-buffer and the sums may be off by what moved
 * meanwhile. What is committed in a parked sub-buffer (park.h) counts as overrun.
 */
#ifndef RINGBUF_STATS_H
#define RINGBUF_STATS_H

#include "layout.h"

struct ringbuf_stats {
	uint64_t written;   /* committed, or torn */
	uint64_t read;      /* in packets that a reader released as read */
	uint64_t unread;    /* committed, still in the ring or in the reader's hands */
	uint64_t overrun;   /* overwritten or cleared before they were read */
	uint64_t cleared;   /* of those, cleared or lost from a reader's snapshot */
	uint64_t discarded; /* reservations given up by their producer */
	uint64_t lost[RINGBUF_N_CAUSES];
	uint64_t packets_read;
	uint64_t parked;     /* packets that left the ring before they were complete, so far */
	uint64_t parked_now; /* of those, not complete yet */
};

struct ringbuf_subbuf_count {
	uint64_t written, overrun, unread;
};

#define RINGBUF_SAMPLE_TRIES 16

/* The slot's word says that the sub-buffer stands there now, and is to be read: what of it is unread? And the rest. */
RINGBUF_FUNC void
ringbuf_count_in_ring(const struct ringbuf_channel *ch, uint64_t ref, uint64_t pos, uint64_t stage, uint64_t counted,
		      uint64_t records, struct ringbuf_subbuf_count *count)
{
	/* from `pos`, which may be of another pass */
	int64_t passes = (int64_t)((ringbuf_ref_pass(ref) - ringbuf_ref_pass_at(ch, pos)) << RINGBUF_REF_PASS_SHIFT) >>
			 RINGBUF_REF_PASS_SHIFT;
	uint64_t begin = ringbuf_pos_add(pos, (uint64_t)passes << ch->geometry.ring_order);

	if (ref & RINGBUF_REF_READ)
		return;
	if (ringbuf_stage_is(stage, begin, RINGBUF_STAGE_DONE)) {
		count->unread = records;
	} else if (!ringbuf_stage_is_past(stage, begin)) {
		count->unread = counted; /* so far */
		count->written += counted;
		if (ref & RINGBUF_REF_LOST)
			count->overrun += records;
	}
}

/* The same of one that stands in no slot, or that nobody has put another in the place of yet, though it is parked. */
RINGBUF_FUNC void
ringbuf_count_outside(uint64_t stage, uint64_t counted, uint64_t records, struct ringbuf_subbuf_count *count)
{
	int parked = ringbuf_stage_phase(stage) == RINGBUF_STAGE_PARKED;

	if (ringbuf_stage_phase(stage) == RINGBUF_STAGE_OUTSIDE)
		count->unread = records;
	if (!parked)
		return;
	count->written += counted;
	if (stage & RINGBUF_STAGE_KEPT)
		count->unread = counted;
	else
		count->overrun += counted;
	if (stage & RINGBUF_STAGE_LOST)
		count->overrun += records;
}

/*
 * ringbuf_count_subbuf - from its words, if they can be had without a delivery between. `slot`: of the slot that it
 * stood in a moment ago, which `pos` lies in; NULL: in none.
 * Progress: bounded tries, then the last sample, torn as it may be. Ordering: O2, O3, O5.
 */
RINGBUF_FUNC struct ringbuf_subbuf_count
ringbuf_count_subbuf(const struct ringbuf_channel *ch, struct ringbuf_stream *s, uint32_t idx, uint64_t pos,
		     const struct ringbuf_slot *slot)
{
	const struct ringbuf_subbuf *sb = ringbuf_subbuf_at(ch, s, idx);
	struct ringbuf_subbuf_count count;
	uint64_t stage, ref, records, counted;
	int tries = RINGBUF_SAMPLE_TRIES;

	do {
		unsigned int cell;

		stage = ringbuf_load(&sb->stage, RINGBUF_ACQUIRE);                 /* O3 */
		ref = slot ? ringbuf_load(&slot->subbuf_ref, RINGBUF_ACQUIRE) : 0; /* O5 */
		cell = ringbuf_stage_cell(stage);
		/* O3 acquire: not for these words, which are stored relaxed, but so that
		 * the re-read below is done after them. C11 alone does not promise
		 * that it is newer; if not, a running statistic is off. */
		records = ringbuf_load(&sb->records[cell], RINGBUF_ACQUIRE);
		count.written = ringbuf_load(&sb->total[cell], RINGBUF_ACQUIRE);
		count.overrun = ringbuf_load(&sb->overrun[cell], RINGBUF_ACQUIRE);
		counted = ringbuf_counted_since(sb, stage, ringbuf_load(&sb->committed, RINGBUF_ACQUIRE)) >> 32; /* O2 */
	} while ((ringbuf_load(&sb->stage, RINGBUF_ACQUIRE) != stage ||
		  (slot && ringbuf_load(&slot->subbuf_ref, RINGBUF_RELAXED) != ref)) &&
		 --tries);

	count.unread = 0;
	if (slot && (ref & RINGBUF_REF_IDX_MASK) == idx && ringbuf_stage_phase(stage) != RINGBUF_STAGE_PARKED &&
	    ringbuf_stage_phase(stage) != RINGBUF_STAGE_OUTSIDE)
		ringbuf_count_in_ring(ch, ref, pos, stage, counted, records, &count);
	else
		ringbuf_count_outside(stage, counted, records, &count);
	return count;
}

/*
 * What the reader's hold changes in the unread records that the sub-buffers show: a
 * packet that a producer has lapped is still in its hands, and one that it has
 * counted may still stand in the ring (for ever, if it died there).
 */
RINGBUF_FUNC int64_t
ringbuf_held_unread(const struct ringbuf_channel *ch, struct ringbuf_stream *s)
{
	uint64_t hold = ringbuf_load(&s->hold, RINGBUF_ACQUIRE); /* O11 */
	uint64_t pos = ringbuf_subbuf_begin(&ch->geometry, ringbuf_load(&s->hold_pos, RINGBUF_RELAXED));
	uint64_t ref = ringbuf_load(&ringbuf_slot_at(ch, s, pos)->subbuf_ref, RINGBUF_ACQUIRE); /* O5 */
	uint32_t idx = ringbuf_checked_idx(ch, hold & ~RINGBUF_HOLD_VALID);
	int counted = ringbuf_load(&s->hold_seq, RINGBUF_RELAXED) != ringbuf_load(&s->read_seq, RINGBUF_RELAXED);
	const struct ringbuf_subbuf *sb = ringbuf_subbuf_at(ch, s, idx);
	uint64_t stage = ringbuf_load(&sb->stage, RINGBUF_ACQUIRE); /* O3 */
	int64_t records = (int64_t)ringbuf_load(&sb->n_records, RINGBUF_RELAXED);

	if (!(hold & RINGBUF_HOLD_VALID))
		return 0;
	if (ringbuf_stage_is(stage, pos, RINGBUF_STAGE_OUTSIDE))
		return counted ? -records : 0;
	if (ringbuf_ref_pass(ref) == ringbuf_ref_pass_at(ch, pos))
		return counted && !(ref & RINGBUF_REF_READ) ? -records : 0;
	return counted || (ref & RINGBUF_REF_IDX_MASK) == idx || !ringbuf_stage_is(stage, pos, RINGBUF_STAGE_DONE)
		       ? 0
		       : records;
}

/* What the reader counts, once for a stream. */
struct ringbuf_stream_count {
	uint64_t read, dropped, packets_read;
};

/* Ordering: O11. */
RINGBUF_FUNC struct ringbuf_stream_count
ringbuf_count_stream(const struct ringbuf_stream *s)
{
	struct ringbuf_stream_count count;

	/* O11 acquire: the totals of that parity. Pairs with ringbuf_account_packet. */
	count.packets_read = ringbuf_load(&s->read_seq, RINGBUF_ACQUIRE);
	/* relaxed both: by O11 */
	count.read = ringbuf_load(&s->read_total[count.packets_read & 1], RINGBUF_RELAXED);
	count.dropped = ringbuf_load(&s->dropped_total[count.packets_read & 1], RINGBUF_RELAXED);
	return count;
}

RINGBUF_INLINE uint64_t
ringbuf_count_lost(const struct ringbuf_stream *s, int cause)
{
	return ringbuf_load(&s->lost[cause], RINGBUF_RELAXED); /* a statistic */
}

#define RINGBUF_ALL_MAX ((1u << RINGBUF_COUNT_ORDER_MAX) + 1 + RINGBUF_SPARES_MAX)

/* In which slot each sub-buffer stands, plus one; 0: in none. A sub-buffer is counted once, wherever it goes meanwhile. */
RINGBUF_FUNC void
ringbuf_find_places(const struct ringbuf_channel *ch, struct ringbuf_stream *s, uint16_t *places)
{
	memset(places, 0, ch->n_all * sizeof(*places));
	for (uint32_t i = 0; i < ringbuf_n_subbufs(&ch->geometry); i++) {
		uint64_t pos = (uint64_t)i << ch->geometry.subbuf_order;
		/* relaxed: looked at again */
		uint64_t ref = ringbuf_load(&ringbuf_slot_at(ch, s, pos)->subbuf_ref, RINGBUF_RELAXED);

		places[ringbuf_checked_idx(ch, ref & RINGBUF_REF_IDX_MASK)] = (uint16_t)(i + 1);
	}
}

RINGBUF_FUNC struct ringbuf_subbuf_count
ringbuf_count_placed(const struct ringbuf_channel *ch, struct ringbuf_stream *s, uint32_t idx, uint16_t place)
{
	/* relaxed: any position of late tells the pass, of which the slot's word has 31 bits */
	uint64_t pos = ringbuf_pos(ringbuf_load(&s->produced, RINGBUF_RELAXED)) & ~(ringbuf_ring_size(&ch->geometry) - 1);

	if (!place)
		return ringbuf_count_subbuf(ch, s, idx, pos, NULL);
	pos |= (uint64_t)(place - 1) << ch->geometry.subbuf_order;
	return ringbuf_count_subbuf(ch, s, idx, pos, ringbuf_slot_at(ch, s, pos));
}

RINGBUF_FUNC int
ringbuf_is_parked(const struct ringbuf_channel *ch, struct ringbuf_stream *s, uint32_t idx)
{
	/* relaxed: a statistic */
	return ringbuf_stage_phase(ringbuf_load(&ringbuf_subbuf_at(ch, s, idx)->stage, RINGBUF_RELAXED)) ==
	       RINGBUF_STAGE_PARKED;
}

/* Add one stream's numbers to *st. Callers: anybody. Ordering: O3, O5, O11. */
RINGBUF_FUNC void
ringbuf_add_stream_stats(const struct ringbuf_channel *ch, uint32_t stream_idx,
			 struct ringbuf_stats *st)
{
	struct ringbuf_stream *s = ringbuf_stream_at(ch, stream_idx);
	struct ringbuf_stream_count own = ringbuf_count_stream(s); /* first: what was read is seen written */
	uint16_t places[RINGBUF_ALL_MAX];
	int64_t held;

	for (int cause = 0; cause < RINGBUF_N_CAUSES; cause++)
		st->lost[cause] += ringbuf_count_lost(s, cause);
	st->discarded += ringbuf_count_lost(s, RINGBUF_DISCARDED);
	st->written += ringbuf_count_lost(s, RINGBUF_LOST_TORN);
	st->read += own.read;
	st->overrun += own.dropped;
	st->cleared += own.dropped;
	st->packets_read += own.packets_read;
	ringbuf_find_places(ch, s, places);
	for (uint32_t i = 0; i < ch->n_all; i++) {
		struct ringbuf_subbuf_count count = ringbuf_count_placed(ch, s, i, places[i]);

		st->written += count.written;
		st->overrun += count.overrun;
		st->unread += count.unread;
		st->parked_now += ringbuf_is_parked(ch, s, i);
	}
	st->parked += ringbuf_load(&s->parked, RINGBUF_RELAXED); /* a statistic */
	held = ringbuf_held_unread(ch, s);
	/* sampled after the sub-buffers: what moved meanwhile must not make it negative */
	st->unread = held < 0 && st->unread < -(uint64_t)held ? 0 : st->unread + (uint64_t)held;
}

/* Bytes of a stream, headers and padding included. */
struct ringbuf_usage {
	uint64_t produced; /* ever claimed */
	uint64_t unread;   /* of those, not released by a reader, and not overwritten */
};

RINGBUF_FUNC struct ringbuf_usage
ringbuf_stream_usage(const struct ringbuf_channel *ch, const struct ringbuf_stream *s)
{
	/* relaxed: a picture of something that moves */
	uint64_t consumed = ringbuf_load(&s->consumed_pos, RINGBUF_RELAXED);
	uint64_t produced = ringbuf_pos(ringbuf_load(&s->produced, RINGBUF_RELAXED));
	int64_t unread = ringbuf_pos_diff(produced, consumed), ring = (int64_t)ringbuf_ring_size(&ch->geometry);
	struct ringbuf_usage usage = {ringbuf_pos_sub(produced, ch->start_pos), 0};

	usage.unread = (uint64_t)(unread < 0 ? 0 : (unread > ring ? ring : unread));
	return usage;
}

/* The channel's numbers: all streams, and what the producers counted themselves (relaxed:
 * statistics). */
RINGBUF_FUNC void
ringbuf_channel_stats(const struct ringbuf_channel *ch, struct ringbuf_stats *st)
{
	memset(st, 0, sizeof(*st));
	for (uint32_t i = 0; i < ch->n_streams; i++)
		ringbuf_add_stream_stats(ch, i, st);
	for (uint32_t i = 0; i < ch->n_producers; i++)
		st->lost[RINGBUF_LOST_DISABLED] +=
			ringbuf_load(&ringbuf_producer_slot_at(ch, i)->lost_disabled, RINGBUF_RELAXED);
}

#endif /* RINGBUF_STATS_H */
