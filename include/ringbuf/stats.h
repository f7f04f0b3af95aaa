/*
 * ringbuf/stats.h - how many records were written, read, lost.
 *
 * Nothing is counted twice, and nothing on the fast path: the upper half of
 * the commit counters has the records. When nobody records or reads, the sums
 * are exact and
 *
 *	attempts = written + discarded + lost (full, wrap, big, nesting, slots, disabled)
 *	written  = read + overrun + unread + torn
 *
 * hold as equalities between independent counters. While producers run, each
 * stream is sampled slot by slot and the sums may be off by what moved
 * meanwhile.
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
};

struct ringbuf_slot_count {
	uint64_t written, overrun, unread;
};

#define RINGBUF_SAMPLE_TRIES 16

/*
 * ringbuf_count_slot - from the words of a slot, if they can be had without a delivery between.
 * Progress: bounded tries, then the last sample, torn as it may be. Ordering: O2, O3, O5.
 */
RINGBUF_FUNC struct ringbuf_slot_count
ringbuf_count_slot(const struct ringbuf_channel *ch, const struct ringbuf_slot *slot)
{
	struct ringbuf_slot_count count;
	uint64_t delivered, ref, records, committed, pass;
	int tries = RINGBUF_SAMPLE_TRIES, complete;

	do {
		unsigned int last; /* parity of the last delivered pass */

		delivered = ringbuf_load(&slot->delivered, RINGBUF_ACQUIRE); /* O3 */
		ref = ringbuf_load(&slot->subbuf_ref, RINGBUF_ACQUIRE);      /* O5 */
		pass = ringbuf_ref_pass(ref);
		complete = (uint32_t)delivered == (uint32_t)((pass + 1) << ch->geometry.subbuf_order);
		last = (pass - !complete) & 1;
		/* O3 acquire: not for these words, which are stored relaxed, but so that
		 * the re-read below is done after them. C11 alone does not promise
		 * that it is newer; if not, a running statistic is off. */
		records = ringbuf_load(&slot->records[last], RINGBUF_ACQUIRE);
		count.written = ringbuf_load(&slot->total[last], RINGBUF_ACQUIRE);
		count.overrun = ringbuf_load(&slot->overrun[last], RINGBUF_ACQUIRE);
		committed = ringbuf_load(&slot->committed, RINGBUF_ACQUIRE); /* O2 */
	} while ((ringbuf_load(&slot->delivered, RINGBUF_ACQUIRE) != delivered ||
		  ringbuf_load(&slot->subbuf_ref, RINGBUF_RELAXED) != ref) &&
		 --tries);

	if (complete) {
		count.unread = ref & RINGBUF_REF_READ ? 0 : records;
		return count;
	}
	count.unread = ringbuf_records_between(delivered, committed); /* so far */
	count.written += count.unread;
	if (ref & RINGBUF_REF_LOST)
		count.overrun += records;
	return count;
}

/*
 * What the reader's hold changes in the unread records that the slots show: a
 * packet that a producer has lapped is still in its hands, and one that it has
 * counted may still stand in the ring (for ever, if it died there).
 */
RINGBUF_FUNC int64_t
ringbuf_held_unread(const struct ringbuf_channel *ch, struct ringbuf_stream *s)
{
	uint64_t hold = ringbuf_load(&s->hold, RINGBUF_ACQUIRE); /* O11 */
	uint64_t pos = ringbuf_load(&s->hold_pos, RINGBUF_RELAXED);
	uint64_t ref = ringbuf_load(&ringbuf_slot_at(ch, s, pos)->subbuf_ref, RINGBUF_ACQUIRE); /* O5 */
	uint32_t idx = ringbuf_checked_idx(ch, hold & ~RINGBUF_HOLD_VALID);
	int counted = ringbuf_load(&s->hold_seq, RINGBUF_RELAXED) != ringbuf_load(&s->read_seq, RINGBUF_RELAXED);
	int64_t records = (int64_t)ringbuf_load(&ringbuf_subbuf_at(ch, s, idx)->records, RINGBUF_RELAXED);

	if (!(hold & RINGBUF_HOLD_VALID))
		return 0;
	if (ringbuf_ref_pass(ref) == ringbuf_ref_pass_at(ch, pos))
		return counted && !(ref & RINGBUF_REF_READ) ? -records : 0;
	return counted || (ref & RINGBUF_REF_IDX_MASK) == idx ? 0 : records;
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

/* Add one stream's numbers to *st. Callers: anybody. Ordering: O3, O5, O11. */
RINGBUF_FUNC void
ringbuf_add_stream_stats(const struct ringbuf_channel *ch, uint32_t stream_idx,
			 struct ringbuf_stats *st)
{
	struct ringbuf_stream *s = ringbuf_stream_at(ch, stream_idx);
	struct ringbuf_stream_count own = ringbuf_count_stream(s); /* first: what was read is seen written */
	int64_t held;

	for (int cause = 0; cause < RINGBUF_N_CAUSES; cause++)
		st->lost[cause] += ringbuf_count_lost(s, cause);
	st->discarded += ringbuf_count_lost(s, RINGBUF_DISCARDED);
	st->written += ringbuf_count_lost(s, RINGBUF_LOST_TORN);
	st->read += own.read;
	st->overrun += own.dropped;
	st->cleared += own.dropped;
	st->packets_read += own.packets_read;
	for (uint64_t i = 0; i < ringbuf_n_subbufs(&ch->geometry); i++) {
		struct ringbuf_slot_count count =
			ringbuf_count_slot(ch, ringbuf_slot_at(ch, s, i << ch->geometry.subbuf_order));

		st->written += count.written;
		st->overrun += count.overrun;
		st->unread += count.unread;
	}
	held = ringbuf_held_unread(ch, s);
	/* sampled after the slots: what moved meanwhile must not make it negative */
	st->unread = held < 0 && st->unread < (uint64_t)-held ? 0 : st->unread + (uint64_t)held;
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

	usage.unread = (uint64_t)(unread < 0 ? 0 : unread > ring ? ring : unread);
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
