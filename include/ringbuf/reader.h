/*
 * ringbuf/reader.h - take delivered packets, and give them back.
 *
 * One reader at a time has the stream (the lock is in channel.h). It takes a
 * packet by setting HELD in its slot's word: from then on the sub-buffer is
 * the reader's. A producer that laps the slot leaves the sub-buffer with the
 * reader and puts the spare in its place; what the reader then gives back
 * becomes the new spare. If nobody has lapped it, the reader itself puts the
 * spare in its place as it gives the packet back read. So the reader never sees
 * bytes being overwritten, producers never wait for it, and the sub-buffer that
 * it read last stays its own until it takes another. In discard mode the same
 * happens, but nobody laps a packet that has not been released.
 *
 * The mapped consumer (map.h) may also hold a sub-buffer that is still being
 * written; producers go on in it. It says so in the sub-buffer's stage (KEPT): if
 * that is parked (park.h), it stays out of the pool of spares until it is given back.
 *
 * What the reader holds, and how far it has counted it, is written in the
 * stream (hold, read_seq), so that the next reader takes over from a dead one:
 * the packet is returned again, or its release is finished, counted once.
 */
#ifndef RINGBUF_READER_H
#define RINGBUF_READER_H

#include <errno.h>

#include "layout.h"
#include "wait.h"

struct ringbuf_packet {
	uint32_t stream_idx, subbuf_idx;
	uint64_t pos;
	const uint8_t *data;   /* content_size bytes, the header included */
	uint64_t content_size; /* bytes */
	uint64_t packet_size;  /* bytes, >= content_size, <= subbuf_size */
	uint64_t timestamp_begin, timestamp_end;
	uint64_t events_discarded; /* records lost since the channel's start, before this packet's end */
	uint64_t sequence_number;
	uint64_t records;
	uint64_t records_read; /* of them, by a mapper that gives the packet up unread (map.h) */
};

/* One stream as its reader sees it; private to the process. */
struct ringbuf_stream_reader {
	const struct ringbuf_channel *ch;
	struct ringbuf_stream *s;
	uint32_t stream_idx;
	int holding, is_described;    /* is_described: all of the packet is known; it was complete */
	struct ringbuf_packet packet; /* while holding */
	struct ringbuf_slot *slot;    /* of the packet */
};

RINGBUF_FUNC uint64_t
ringbuf_bounded(uint64_t value, uint64_t max)
{
	return value < max ? value : max;
}

/* Say where the packet is, and nothing of it: it may still be written to. */
RINGBUF_FUNC void
ringbuf_locate_packet(struct ringbuf_stream_reader *r, uint64_t pos, uint32_t idx)
{
	struct ringbuf_packet *p = &r->packet;

	memset(p, 0, sizeof(*p));
	p->stream_idx = r->stream_idx;
	p->subbuf_idx = idx;
	p->pos = pos;
	p->data = ringbuf_subbuf_data(r->ch, r->s, idx);
	r->slot = ringbuf_slot_at(r->ch, r->s, pos);
	r->is_described = 0;
}

/* And what the sub-buffer table says of it, once it is complete. Sizes are bounded: they index memory. */
RINGBUF_FUNC void
ringbuf_describe_packet(struct ringbuf_stream_reader *r)
{
	struct ringbuf_packet *p = &r->packet;
	const struct ringbuf_subbuf *sb = ringbuf_subbuf_at(r->ch, r->s, p->subbuf_idx);
	uint64_t size = ringbuf_subbuf_size(&r->ch->geometry);

	/* all relaxed: stable and published by O3, acquired with the stage */
	p->packet_size = ringbuf_bounded(ringbuf_load(&sb->packet_size, RINGBUF_RELAXED), size);
	p->content_size = ringbuf_bounded(ringbuf_load(&sb->content_size, RINGBUF_RELAXED), p->packet_size);
	p->timestamp_begin = ringbuf_load(&sb->timestamp_begin, RINGBUF_RELAXED);
	p->timestamp_end = ringbuf_load(&sb->timestamp_end, RINGBUF_RELAXED);
	p->events_discarded = ringbuf_load(&sb->events_discarded, RINGBUF_RELAXED);
	p->sequence_number = ringbuf_load(&sb->sequence_number, RINGBUF_RELAXED);
	p->records = ringbuf_load(&sb->n_records, RINGBUF_RELAXED);
	r->is_described = 1;
}

/* Count a packet of which so many records were read, and the others dropped, once. Ordering: O11. */
RINGBUF_FUNC void
ringbuf_account_packet(struct ringbuf_stream *s, uint64_t records, uint64_t read)
{
	uint64_t seq = ringbuf_load(&s->read_seq, RINGBUF_RELAXED); /* the reader's own */
	unsigned int now = seq & 1, next = !now;

	ringbuf_store(&s->read_total[next],
		      ringbuf_load(&s->read_total[now], RINGBUF_RELAXED) + read, RINGBUF_RELAXED);
	ringbuf_store(&s->dropped_total[next],
		      ringbuf_load(&s->dropped_total[now], RINGBUF_RELAXED) + records - read, RINGBUF_RELAXED);
	RINGBUF_TESTPOINT(reader_before_account);
	/* O11 release: the totals of the new parity. Pairs with ringbuf_count_stream. */
	ringbuf_store(&s->read_seq, seq + 1, RINGBUF_RELEASE);
	RINGBUF_TESTPOINT(reader_accounted);
}

RINGBUF_INLINE void
ringbuf_release_hold(struct ringbuf_stream *s)
{
	/* O11 release: whatever ended the hold is done. Pairs with ringbuf_take_over. */
	ringbuf_store(&s->hold, 0, RINGBUF_RELEASE);
}

RINGBUF_INLINE uint64_t
ringbuf_ref_held(uint64_t ref, uint64_t spare)
{
	return (ref & ~RINGBUF_REF_SPARE_MASK) | (spare << RINGBUF_REF_SPARE_SHIFT & RINGBUF_REF_SPARE_MASK) |
	       RINGBUF_REF_HELD;
}

RINGBUF_INLINE uint64_t
ringbuf_ref_unheld(uint64_t ref)
{
	return ref & ~(RINGBUF_REF_HELD | RINGBUF_REF_SPARE_MASK);
}

/* The offered spare in the place of the sub-buffer that was held, as a lapping producer does it. */
RINGBUF_INLINE uint64_t
ringbuf_ref_exchanged(uint64_t ref)
{
	uint64_t spare = (ref & RINGBUF_REF_SPARE_MASK) >> RINGBUF_REF_SPARE_SHIFT;

	return (ringbuf_ref_unheld(ref) & ~RINGBUF_REF_IDX_MASK) | spare | RINGBUF_REF_READ;
}

RINGBUF_INLINE int
ringbuf_ref_is_held(const struct ringbuf_channel *ch, uint64_t ref, uint64_t pos)
{
	return ringbuf_ref_pass(ref) == ringbuf_ref_pass_at(ch, pos) && (ref & RINGBUF_REF_HELD);
}

/*
 * Keep the held sub-buffer as the spare; the old spare takes its place in the
 * ring, if no producer has put it there already. But for one that was parked:
 * another spare took its place, and it is one of those now. Ordering: O3, O5.
 */
RINGBUF_FUNC void
ringbuf_exchange_held(const struct ringbuf_channel *ch, struct ringbuf_stream *s, struct ringbuf_slot *slot,
		      uint64_t pos, uint32_t idx)
{
	struct ringbuf_subbuf *sb = ringbuf_subbuf_at(ch, s, idx);
	uint64_t ref = ringbuf_load(&slot->subbuf_ref, RINGBUF_RELAXED); /* the swap checks it */
	uint64_t stage = ringbuf_load(&sb->stage, RINGBUF_RELAXED); /* the reader's own, while held and complete */

	if (ringbuf_stage_is(stage, pos, RINGBUF_STAGE_OUTSIDE)) {
		/* O3 release: my loads of it precede its reuse. Pairs with ringbuf_set_aside. */
		ringbuf_store(&sb->stage, ringbuf_stage_word(pos, RINGBUF_STAGE_FREE, stage & RINGBUF_STAGE_CELL),
			      RINGBUF_RELEASE);
		return;
	}
	RINGBUF_TESTPOINT(reader_unholding);
	/* O5 release: my loads of the spare, once a packet, precede its reuse. Pairs with
	 * ringbuf_enter_slow. The reader alone clears HELD while the pass stands. */
	if (ringbuf_ref_is_held(ch, ref, pos))
		ringbuf_cas(&slot->subbuf_ref, &ref, ringbuf_ref_exchanged(ref), RINGBUF_RELEASE,
			    RINGBUF_RELAXED);
	RINGBUF_TESTPOINT(reader_exchanged);
	/* relaxed: the reader's own, offered to producers by the next hold (O5) */
	ringbuf_store(&s->spare, idx, RINGBUF_RELAXED);
}

/* Where reading goes on: after `pos`'s packet. Discard-mode producers may use it again, and some wait for that. */
RINGBUF_FUNC void
ringbuf_advance(const struct ringbuf_channel *ch, struct ringbuf_stream *s, uint64_t pos)
{
	uint64_t next = ringbuf_pos_add(pos, ringbuf_subbuf_size(&ch->geometry));
	/* the reader's own word; a snapshot may release packets out of turn */
	int is_further = ringbuf_pos_diff(next, ringbuf_load(&s->consumed_pos, RINGBUF_RELAXED)) > 0;

	if (ch->mode == RINGBUF_OVERWRITE) {
		if (is_further)
			ringbuf_store(&s->consumed_pos, next, RINGBUF_RELAXED); /* no producer asks */
		return;
	}
	if (is_further)
		/* O4 release: my loads of the packet precede its reuse. Pairs with
		 * ringbuf_slot_is_free. O8 seq_cst: before the look at `space_wanted`. */
		ringbuf_store(&s->consumed_pos, next, RINGBUF_SEQ_CST);
	ringbuf_wait_wake(&s->space_seq, &s->space_wanted);
}

/*
 * Classify a failed look-up of the packet at `pos`: -EAGAIN, not complete yet; -ESTALE,
 * overwritten (or parked) or read; -EINVAL, not in the ring. `ref` is the slot's word, `stage`
 * that of the sub-buffer in there.
 * `produced` may be old by now. That does no harm: -ESTALE moves the reader on, and after
 * -EAGAIN it looks at the slot once more.
 */
RINGBUF_FUNC int
ringbuf_why_no_packet(const struct ringbuf_channel *ch, struct ringbuf_stream *s, uint64_t pos, uint64_t ref,
		      uint64_t stage)
{
	uint64_t produced = ringbuf_pos(ringbuf_load(&s->produced, RINGBUF_ACQUIRE)); /* O1 */
	uint64_t pass = ringbuf_ref_pass(ref);

	if (ringbuf_pos_diff(produced, pos) < 0)
		return -EINVAL;
	if (pass == ringbuf_ref_pass_before(ch, pos))
		return -EAGAIN;
	return pass == ringbuf_ref_pass_at(ch, pos) && !(ref & RINGBUF_REF_READ) && !ringbuf_stage_is_past(stage, pos)
		       ? -EAGAIN
		       : -ESTALE;
}

/*
 * ringbuf_find_packet - is there an unread packet that begins at `pos`?
 * Returns:  0 and the slot's word; -EAGAIN not complete yet (or nothing there);
 *           -ESTALE lapped by a producer, or read already; -EINVAL unaligned, or
 *           not a place in the ring.
 * Ordering: O3, O5, O8.
 */
RINGBUF_FUNC int
ringbuf_find_packet(const struct ringbuf_channel *ch, struct ringbuf_stream *s, uint64_t pos, uint64_t *ref)
{
	uint64_t stage;

	if (pos & ~RINGBUF_POS_MASK || ringbuf_subbuf_off(&ch->geometry, pos))
		return -EINVAL;
	/* O5 acquire: pairs with ringbuf_enter_slow. O8 seq_cst, both loads: a reader about to
	 * sleep looks here after setting `data_wanted`; if it misses the delivery, it does not
	 * miss the word or the stage. */
	*ref = ringbuf_load(&ringbuf_slot_at(ch, s, pos)->subbuf_ref, RINGBUF_SEQ_CST);
	RINGBUF_TESTPOINT(reader_sampled);
	/* O3 acquire: the packet. Pairs with ringbuf_deliver. */
	stage = ringbuf_load(&ringbuf_subbuf_at(ch, s, ringbuf_checked_idx(ch, *ref & RINGBUF_REF_IDX_MASK))->stage,
			     RINGBUF_SEQ_CST);
	if (RINGBUF_LIKELY(ringbuf_stage_is(stage, pos, RINGBUF_STAGE_DONE) &&
			   ringbuf_ref_pass(*ref) == ringbuf_ref_pass_at(ch, pos) && !(*ref & RINGBUF_REF_READ)))
		return 0;
	return ringbuf_why_no_packet(ch, s, pos, *ref, stage);
}

/*
 * Hold the sub-buffer in the slot of `pos`, whose word is `ref`. Returns 0 and
 * where it is in r->packet; -ESTALE a producer has lapped it. Ordering: O5, O11.
 */
RINGBUF_FUNC int
ringbuf_hold(struct ringbuf_stream_reader *r, uint64_t pos, uint64_t ref)
{
	const struct ringbuf_channel *ch = r->ch;
	struct ringbuf_stream *s = r->s;
	uint32_t idx = ringbuf_checked_idx(ch, ref & RINGBUF_REF_IDX_MASK);
	struct ringbuf_subbuf *sb;
	uint64_t spare, stage, last;

	/* Say first what is about to be held: ringbuf_take_over tells from the slot
	 * whether it came to that. All in the reader's own words (O11). */
	ringbuf_store(&s->hold_pos, pos, RINGBUF_RELAXED);
	ringbuf_store(&s->hold_seq, ringbuf_load(&s->read_seq, RINGBUF_RELAXED), RINGBUF_RELAXED);
	ringbuf_store(&s->hold, RINGBUF_HOLD_VALID | idx, RINGBUF_RELEASE);
	RINGBUF_TESTPOINT(reader_holding);
	spare = ringbuf_load(&s->spare, RINGBUF_RELAXED); /* the reader's own */
	ringbuf_locate_packet(r, pos, idx);
	/* relaxed both: the same. It must not say what it says for so long that it seems to lie in the future. Nor may it go
	 * back, if packets are taken out of turn: whoever is slow to enter the slot that it stood in goes by this. */
	sb = ringbuf_subbuf_at(ch, s, ringbuf_checked_idx(ch, spare));
	stage = ringbuf_load(&sb->stage, RINGBUF_RELAXED);
	last = ringbuf_pos_sub(ringbuf_pos(stage), pos) < ringbuf_ring_size(&ch->geometry) ? ringbuf_pos(stage) : pos;
	ringbuf_store(&sb->stage, ringbuf_stage_word(last, RINGBUF_STAGE_READERS, stage & RINGBUF_STAGE_CELL),
		      RINGBUF_RELAXED);
	/* O5 release: my loads of the spare precede its use by whoever laps. Pairs with
	 * ringbuf_enter_slow. */
	if (!ringbuf_cas(&r->slot->subbuf_ref, &ref, ringbuf_ref_held(ref, spare), RINGBUF_RELEASE,
			 RINGBUF_RELAXED)) {
		ringbuf_release_hold(s);
		return -ESTALE; /* only a producer lapping it can have changed the word */
	}
	RINGBUF_TESTPOINT(reader_held);
	r->holding = 1;
	return 0;
}

/*
 * ringbuf_get_subbuf - hold the packet that begins at `pos`.
 * Callers:  the stream's reader, holding nothing.
 * Progress: wait-free.
 * Ordering: O3, O5, O11.
 * Returns:  0 and r->packet; as ringbuf_find_packet; -EBUSY already holding.
 */
RINGBUF_FUNC int
ringbuf_get_subbuf(struct ringbuf_stream_reader *r, uint64_t pos)
{
	uint64_t ref;
	int ret;

	if (r->holding)
		return -EBUSY;
	ret = ringbuf_find_packet(r->ch, r->s, pos, &ref);
	if (!ret)
		ret = ringbuf_hold(r, pos, ref);
	if (!ret)
		ringbuf_describe_packet(r);
	return ret;
}

/* What ringbuf_put_subbuf does with the packet. */
enum ringbuf_put {
	RINGBUF_PUT_READ,
	RINGBUF_PUT_BACK,
	RINGBUF_PUT_DROP,
};

RINGBUF_INLINE uint64_t
ringbuf_records_read(const struct ringbuf_packet *p, enum ringbuf_put how)
{
	return how == RINGBUF_PUT_READ ? p->records : ringbuf_bounded(p->records_read, p->records);
}

/*
 * ringbuf_keep - a sub-buffer that is held, and is not complete, stays the reader's if it is parked.
 * Returns whether it does, or is complete: 0: it is parked already, and others may use it again.
 * Ordering: O3.
 */
RINGBUF_FUNC int
ringbuf_keep(const struct ringbuf_stream_reader *r)
{
	struct ringbuf_subbuf *sb = ringbuf_subbuf_at(r->ch, r->s, r->packet.subbuf_idx);
	uint64_t pos = r->packet.pos, stage = ringbuf_load(&sb->stage, RINGBUF_RELAXED); /* the swap checks it */

	do {
		if (ringbuf_stage_is_past(stage, pos))
			return ringbuf_stage_is(stage, pos, RINGBUF_STAGE_DONE);
		/* relaxed both: it is a mark, for whoever parks it or completes it; both swap the same word */
	} while (!ringbuf_cas(&sb->stage, &stage, stage | RINGBUF_STAGE_KEPT, RINGBUF_RELAXED, RINGBUF_RELAXED));
	RINGBUF_TESTPOINT(map_kept);
	return 1;
}

/* Take that back, if it was so. Returns the stage, which says whether the packet is complete. Ordering: O3. */
RINGBUF_FUNC uint64_t
ringbuf_let_go(const struct ringbuf_channel *ch, struct ringbuf_stream *s, uint32_t idx)
{
	struct ringbuf_subbuf *sb = ringbuf_subbuf_at(ch, s, idx);
	/* O3 acquire: the packet. Pairs with ringbuf_deliver. */
	uint64_t stage = ringbuf_load(&sb->stage, RINGBUF_ACQUIRE);

	while (stage & RINGBUF_STAGE_KEPT)
		/* O3 release: my loads of it precede its reuse. acquire, if it fails: as above. */
		if (ringbuf_cas(&sb->stage, &stage, stage & ~RINGBUF_STAGE_KEPT, RINGBUF_ACQ_REL, RINGBUF_ACQUIRE))
			break;
	return stage;
}

/*
 * ringbuf_put_subbuf - give the held packet back.
 * READ: it counts as read, and its space is free. BACK: it stays unread in the
 * ring (a snapshot does this); if a producer has lapped it meanwhile, its
 * records count as overrun. DROP: it is thrown away unread. A sub-buffer that
 * is not complete can only go BACK; if it is parked, whoever completes it counts.
 * Callers:  the reader that holds it. Progress: wait-free, but for a wake-up.
 * Ordering: O4, O5, O11.
 */
RINGBUF_FUNC void
ringbuf_put_subbuf(struct ringbuf_stream_reader *r, enum ringbuf_put how)
{
	struct ringbuf_stream *s = r->s;
	const struct ringbuf_packet *p = &r->packet;

	r->holding = 0;
	if (how == RINGBUF_PUT_BACK) {
		/* relaxed: the swap checks it */
		uint64_t ref = ringbuf_load(&r->slot->subbuf_ref, RINGBUF_RELAXED), stage;
		/* O5 release: my loads of the packet precede its reuse. Pairs with ringbuf_enter_slow. */
		int is_back = ringbuf_ref_is_held(r->ch, ref, p->pos) &&
			      ringbuf_cas(&r->slot->subbuf_ref, &ref, ringbuf_ref_unheld(ref), RINGBUF_RELEASE,
					  RINGBUF_RELAXED);

		stage = ringbuf_let_go(r->ch, s, p->subbuf_idx);
		/* back in the ring; or parked, and whoever completes it counts it */
		if (!ringbuf_stage_is(stage, p->pos, RINGBUF_STAGE_OUTSIDE) &&
		    (is_back || !ringbuf_stage_is(stage, p->pos, RINGBUF_STAGE_DONE))) {
			ringbuf_release_hold(s);
			return;
		}
		ringbuf_describe_packet(r);
	}
	if (how != RINGBUF_PUT_BACK)
		/* relaxed: the next reader has it by O11. What it finds beyond this number
		 * was lost since, and no reader has been told. */
		ringbuf_store(&s->read_discarded, p->events_discarded, RINGBUF_RELAXED);
	ringbuf_account_packet(s, p->records, ringbuf_records_read(p, how));
	ringbuf_exchange_held(r->ch, s, r->slot, p->pos, p->subbuf_idx);
	RINGBUF_TESTPOINT(reader_unheld);
	if (how != RINGBUF_PUT_BACK)
		ringbuf_advance(r->ch, s, p->pos);
	RINGBUF_TESTPOINT(reader_advanced);
	ringbuf_release_hold(s);
}

/* The oldest packet that could still be had when the position was `produced`. Never one beyond
 * that, nor more than a ring before it, whatever consumed_pos says. */
RINGBUF_FUNC uint64_t
ringbuf_first_pos(const struct ringbuf_stream_reader *r, uint64_t produced)
{
	const struct ringbuf_geometry *g = &r->ch->geometry;
	uint64_t pos = ringbuf_subbuf_begin(g, ringbuf_load(&r->s->consumed_pos, RINGBUF_RELAXED)); /* own */
	uint64_t oldest = ringbuf_oldest_begin(g, produced);

	return ringbuf_pos_sub(pos, oldest) > ringbuf_pos_sub(produced, oldest) ? oldest : pos;
}

/* Where reading goes on. */
RINGBUF_FUNC uint64_t
ringbuf_next_pos(const struct ringbuf_stream_reader *r)
{
	return ringbuf_first_pos(r, ringbuf_pos(ringbuf_load(&r->s->produced, RINGBUF_ACQUIRE))); /* O1 */
}

/* The first position from there on at which a packet is, or will be. */
RINGBUF_FUNC uint64_t
ringbuf_waiting_pos(const struct ringbuf_stream_reader *r)
{
	uint64_t produced = ringbuf_pos(ringbuf_load(&r->s->produced, RINGBUF_ACQUIRE)); /* O1 */
	uint64_t pos = ringbuf_first_pos(r, produced), ref;

	while (ringbuf_pos_diff(produced, pos) > 0 && ringbuf_find_packet(r->ch, r->s, pos, &ref) == -ESTALE)
		pos = ringbuf_pos_add(pos, ringbuf_subbuf_size(&r->ch->geometry));
	return pos;
}

/*
 * ringbuf_get_next_subbuf - hold the next unread packet, oldest first.
 * Progress: wait-free: lapped packets are tried past at most twice round the ring.
 * Returns:  0; -EAGAIN nothing complete; -EBUSY already holding.
 */
RINGBUF_FUNC int
ringbuf_get_next_subbuf(struct ringbuf_stream_reader *r)
{
	const struct ringbuf_geometry *g = &r->ch->geometry;
	uint64_t pos = ringbuf_next_pos(r);
	int ret = -EAGAIN;

	for (uint32_t tries = 2 * ringbuf_n_subbufs(g); tries; tries--) {
		uint64_t oldest;

		ret = ringbuf_get_subbuf(r, pos);
		if (ret != -ESTALE)
			break;
		pos = ringbuf_pos_add(pos, ringbuf_subbuf_size(g));
		oldest = ringbuf_next_pos(r);
		if (ringbuf_pos_diff(oldest, pos) > 0)
			pos = oldest;
		ret = -EAGAIN;
	}
	return ret == -EINVAL ? -EAGAIN : ret;
}

/* Is a complete packet waiting, or did one just go by? For pollers; takes nothing. */
RINGBUF_FUNC int
ringbuf_has_packet(const struct ringbuf_stream_reader *r)
{
	uint64_t ref;
	int ret = ringbuf_find_packet(r->ch, r->s, ringbuf_next_pos(r), &ref);

	return ret == 0 || ret == -ESTALE;
}

/* Has all that was ever reserved been read? For the end of a finalized channel, see
 * ringbuf_is_at_end (channel.h). */
RINGBUF_FUNC int
ringbuf_is_drained(const struct ringbuf_stream_reader *r)
{
	uint64_t produced = ringbuf_pos(ringbuf_load(&r->s->produced, RINGBUF_ACQUIRE)); /* O1 */

	return !r->holding && ringbuf_waiting_pos(r) == produced;
}

/* Positions of the packets that a snapshot taken now would hold: [*from, *to). */
RINGBUF_FUNC void
ringbuf_snapshot_range(const struct ringbuf_stream_reader *r, uint64_t *from, uint64_t *to)
{
	uint64_t produced = ringbuf_pos(ringbuf_load(&r->s->produced, RINGBUF_ACQUIRE)); /* O1 */

	*from = ringbuf_first_pos(r, produced);
	*to = ringbuf_subbuf_begin(&r->ch->geometry, produced);
}

/*
 * Is the sub-buffer named in the hold the reader's? `ref`: the word of its slot. If it is not marked there, the slot
 * still has that sub-buffer if it never was held, or was put back, and nobody has lapped it since; and another one if
 * a producer took the old spare, or it was exchanged for that. Then its stage stands: who fills it anew, or parks it,
 * changes that. Ordering: O3.
 */
RINGBUF_FUNC int
ringbuf_is_held(const struct ringbuf_channel *ch, struct ringbuf_stream *s, uint64_t pos, uint32_t idx, uint64_t ref)
{
	/* O3 acquire: the packet, if it is complete. Pairs with ringbuf_deliver. */
	uint64_t stage = ringbuf_load(&ringbuf_subbuf_at(ch, s, idx)->stage, RINGBUF_ACQUIRE);
	int is_marked = ringbuf_ref_is_held(ch, ref, pos), is_elsewhere = (ref & RINGBUF_REF_IDX_MASK) != idx;

	if (ringbuf_stage_is(stage, pos, RINGBUF_STAGE_DONE))
		return is_marked || is_elsewhere;
	return ringbuf_stage_is(stage, pos, RINGBUF_STAGE_OUTSIDE) ||
	       (stage & RINGBUF_STAGE_KEPT && (is_marked || ringbuf_stage_is(stage, pos, RINGBUF_STAGE_PARKED)));
}

/* Is the sub-buffer named in the hold the reader's? If not, all marks of that go. Ordering: O3, O5. */
RINGBUF_FUNC int
ringbuf_settle_hold(const struct ringbuf_channel *ch, struct ringbuf_stream *s, uint64_t pos, uint32_t idx)
{
	struct ringbuf_slot *slot = ringbuf_slot_at(ch, s, pos);
	uint64_t ref = ringbuf_load(&slot->subbuf_ref, RINGBUF_ACQUIRE); /* O5 */

	for (;;) {
		if (ringbuf_is_held(ch, s, pos, idx, ref))
			return 1;
		/* O5 acquire: if it fails, as above. Nothing was read of it. */
		if (!ringbuf_ref_is_held(ch, ref, pos) ||
		    ringbuf_cas(&slot->subbuf_ref, &ref, ringbuf_ref_unheld(ref), RINGBUF_ACQUIRE, RINGBUF_ACQUIRE))
			return ringbuf_stage_is(ringbuf_let_go(ch, s, idx), pos, RINGBUF_STAGE_OUTSIDE);
	}
}

/*
 * ringbuf_take_over - make sense of what the last reader left.
 * Callers:  a new reader, having the stream's lock and before anything else.
 * A packet that was held and not yet counted is held again, in r->packet: in
 * discard mode it may have been read already, and its sequence number tells.
 */
RINGBUF_FUNC void
ringbuf_take_over(struct ringbuf_stream_reader *r)
{
	const struct ringbuf_channel *ch = r->ch;
	struct ringbuf_stream *s = r->s;
	uint64_t hold = ringbuf_load(&s->hold, RINGBUF_ACQUIRE); /* O11 */
	uint64_t pos = ringbuf_subbuf_begin(&ch->geometry, ringbuf_load(&s->hold_pos, RINGBUF_RELAXED));
	uint32_t idx = ringbuf_checked_idx(ch, hold & ~RINGBUF_HOLD_VALID);
	struct ringbuf_slot *slot = ringbuf_slot_at(ch, s, pos);
	int counted, is_known = r->holding && r->packet.pos == pos && r->packet.subbuf_idx == idx;

	r->holding = 0;
	if (!(hold & RINGBUF_HOLD_VALID))
		return;
	counted = ringbuf_load(&s->hold_seq, RINGBUF_RELAXED) !=
		  ringbuf_load(&s->read_seq, RINGBUF_ACQUIRE); /* O11 */
	if (!ringbuf_settle_hold(ch, s, pos, idx)) {
		ringbuf_release_hold(s);
	} else if (counted) {
		ringbuf_exchange_held(ch, s, slot, pos, idx);
		ringbuf_advance(ch, s, pos);
		ringbuf_release_hold(s);
	} else {
		if (!is_known)
			ringbuf_locate_packet(r, pos, idx);
		r->holding = 1;
	}
}

/* ringbuf_take_over for a mapper, which most often finds what it left. */
RINGBUF_FUNC void
ringbuf_catch_up(struct ringbuf_stream_reader *r)
{
	const struct ringbuf_packet *p = &r->packet;
	const struct ringbuf_stream *s = r->s;

	/* relaxed all: mappers change them under map_lock, and readers have no right to */
	if (!r->holding || ringbuf_load(&s->hold, RINGBUF_RELAXED) != (RINGBUF_HOLD_VALID | p->subbuf_idx) ||
	    ringbuf_load(&s->hold_pos, RINGBUF_RELAXED) != p->pos ||
	    ringbuf_load(&s->hold_seq, RINGBUF_RELAXED) != ringbuf_load(&s->read_seq, RINGBUF_RELAXED) ||
	    !ringbuf_ref_is_held(r->ch, ringbuf_load(&r->slot->subbuf_ref, RINGBUF_RELAXED), p->pos))
		ringbuf_take_over(r);
}

/*
 * ringbuf_held_is_complete - has the held sub-buffer been delivered?
 * One that a mapper holds may not be. If so, r->packet is right. Ordering: O3.
 */
RINGBUF_FUNC int
ringbuf_held_is_complete(struct ringbuf_stream_reader *r)
{
	uint64_t stage;

	if (r->is_described)
		return 1;
	/* O3 acquire: the packet. Pairs with ringbuf_deliver. */
	stage = ringbuf_load(&ringbuf_subbuf_at(r->ch, r->s, r->packet.subbuf_idx)->stage, RINGBUF_ACQUIRE);
	if (!ringbuf_stage_is(stage, r->packet.pos, RINGBUF_STAGE_DONE) &&
	    !ringbuf_stage_is(stage, r->packet.pos, RINGBUF_STAGE_OUTSIDE))
		return 0;
	ringbuf_describe_packet(r);
	return 1;
}

RINGBUF_FUNC void
ringbuf_stream_reader_set(const struct ringbuf_channel *ch, uint32_t stream_idx,
			  struct ringbuf_stream_reader *r)
{
	memset(r, 0, sizeof(*r));
	r->ch = ch;
	r->s = ringbuf_stream_at(ch, stream_idx);
	r->stream_idx = stream_idx;
}

RINGBUF_FUNC void
ringbuf_stream_reader_init(const struct ringbuf_channel *ch, uint32_t stream_idx,
			   struct ringbuf_stream_reader *r)
{
	ringbuf_stream_reader_set(ch, stream_idx, r);
	ringbuf_take_over(r);
	if (r->holding && !ringbuf_held_is_complete(r))
		ringbuf_put_subbuf(r, RINGBUF_PUT_BACK); /* a mapper's, still being written */
}

#endif /* RINGBUF_READER_H */
