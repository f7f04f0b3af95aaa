/*
 * ringbuf/reserve.h - claim space for a record: fast path, slow path.
 */
#ifndef RINGBUF_RESERVE_H
#define RINGBUF_RESERVE_H

#include "cpu.h"
#include "repair.h"

RINGBUF_INLINE uint32_t
ringbuf_prefix_size(const struct ringbuf_reservation *r)
{
	return r->flags & RINGBUF_LENGTH_PREFIX ? 4 : 0;
}

/* Where the records after the first end, which ends at `end`. They have its time, so their headers are short. */
RINGBUF_SLOW uint64_t
ringbuf_layout_more(const struct ringbuf_channel *ch, struct ringbuf_reservation *r, uint64_t end)
{
	uint64_t size;

	r->header_flags = 0;
	size = ringbuf_ctf_record_header_size(ch, r) + r->context_size + ringbuf_prefix_size(r) + r->payload_size;
	return ringbuf_align_up(end, RINGBUF_CTF_ALIGN) +
	       (r->n_more - 1) * ringbuf_align_up(size, RINGBUF_CTF_ALIGN) + size;
}

/* Lay the record out at `off` of its packet: sizes and padding, for that very place. */
RINGBUF_INLINE uint64_t
ringbuf_layout_record(const struct ringbuf_client *client, const struct ringbuf_channel *ch,
		      struct ringbuf_reservation *r, uint64_t off)
{
	uint64_t align = r->align ? r->align : 1, end;
	size_t padding;

	r->header_size = (uint32_t)ringbuf_record_header_size(client, ch, off, &padding, r);
	r->pre_padding = (uint32_t)padding;
	end = off + padding + r->header_size + r->context_size + ringbuf_prefix_size(r);
	r->size = ringbuf_align_up(end, align) + r->payload_size - off;
	/* A record of no bytes would not keep its sub-buffer from being delivered. The
	 * built-in client has none. */
	if (RINGBUF_UNLIKELY(client && !r->size))
		r->size = 1;
	if (RINGBUF_UNLIKELY(r->n_more)) {
		struct ringbuf_reservation copy = *r; /* as in ringbuf_reserve_with */

		r->size = ringbuf_layout_more(ch, &copy, off + r->size) - off;
	}
	return r->size;
}

/* Too large for any sub-buffer, and perhaps for the arithmetic. Nothing to test for small constants. */
RINGBUF_INLINE int
ringbuf_is_huge(const struct ringbuf_geometry *g, uint64_t payload_size)
{
	return payload_size >= UINT64_C(1) << RINGBUF_SUBBUF_ORDER_MIN && payload_size >= ringbuf_subbuf_size(g);
}

/* A short timestamp is unambiguous within 2^27 ticks of an earlier visible record. */
RINGBUF_INLINE uint32_t
ringbuf_timestamp_flags(const struct ringbuf_stream *s, uint64_t timestamp)
{
	/* relaxed: any value is one of a committed, earlier record, or 0; an old one
	 * only costs a longer header */
	uint64_t base = ringbuf_load(&s->base_timestamp, RINGBUF_RELAXED);

	return (timestamp - base) >> RINGBUF_CTF_TIME_BITS ? RINGBUF_FULL_TIMESTAMP : 0;
}

/* Where it is going to be, in this sub-buffer. Returns the place of its header. */
RINGBUF_INLINE uint8_t *
ringbuf_place_record(const struct ringbuf_channel *ch, struct ringbuf_reservation *r, uint32_t idx)
{
	uint8_t *at;

	r->data = ringbuf_subbuf_data(ch, r->stream, idx);
	at = r->data + ringbuf_subbuf_off(&ch->geometry, r->pos);
	r->payload = at + (r->size - r->payload_size);
	if (RINGBUF_UNLIKELY(r->n_more))
		r->payload = at + r->pre_padding + r->header_size + r->context_size + ringbuf_prefix_size(r);
	return at + r->pre_padding;
}

/* Header, context and length prefix. */
RINGBUF_INLINE void
ringbuf_write_start(const struct ringbuf_client *client, const struct ringbuf_channel *ch,
		    const struct ringbuf_reservation *r, uint8_t *p)
{
	ringbuf_write_record_header(client, ch, p, r);
	p += r->header_size;
	if (r->context_size == 8) { /* vpid and vtid: one move instead of a call */
		ringbuf_data_write(p, r->context, 8);
		p += 8;
	} else if (r->context_size) {
		ringbuf_data_write(p, r->context, r->context_size);
		p += r->context_size;
	}
	if (r->flags & RINGBUF_LENGTH_PREFIX) {
		uint32_t length = (uint32_t)r->payload_size;

		ringbuf_data_write(p, &length, 4);
	}
}

/* The claim succeeded: all before the payload; then that is the caller's. */
RINGBUF_INLINE void
ringbuf_begin_record(const struct ringbuf_client *client, const struct ringbuf_channel *ch,
		     const struct ringbuf_reservation *r, uint8_t *header)
{
	RINGBUF_TESTPOINT(reserve_before_header);
	ringbuf_write_start(client, ch, r, header);
	RINGBUF_TESTPOINT(reserve_done);
}

/*
 * ringbuf_next_record - of a reservation with n_more: the next of them; r->payload is its.
 * Callers: the thread that reserved it, n_more times, then commit, which counts all.
 */
RINGBUF_INLINE void
ringbuf_next_record(const struct ringbuf_channel *ch, struct ringbuf_reservation *r)
{
	uint64_t end = (uint64_t)(r->payload - r->data) + r->payload_size;
	uint8_t *header = r->data + ringbuf_align_up(end, RINGBUF_CTF_ALIGN);

	r->header_flags = 0;
	r->header_size = (uint32_t)ringbuf_ctf_record_header_size(ch, r);
	r->payload = header + r->header_size + r->context_size + ringbuf_prefix_size(r);
	ringbuf_write_start(NULL, ch, r, header);
}

RINGBUF_SLOW int
ringbuf_refuse(struct ringbuf_stream *s, enum ringbuf_cause cause, uint64_t n_records)
{
	ringbuf_lose(s, cause, n_records);
	return ringbuf_loss_error(cause);
}

/* Counted in the thread's own slot: being off must cost next to nothing. */
RINGBUF_INLINE int
ringbuf_refuse_disabled(struct ringbuf_producer_slot *producer, uint64_t n_records)
{
	ringbuf_add_own(&producer->lost_disabled, n_records); /* a statistic */
	return ringbuf_loss_error(RINGBUF_LOST_DISABLED);
}

/* For a thread that has no slot, or no free entry: no stream was chosen yet. */
RINGBUF_SLOW int
ringbuf_refuse_here(const struct ringbuf_channel *ch, enum ringbuf_cause cause, uint64_t n_records)
{
	uint32_t idx = ch->streams == RINGBUF_PER_CPU ? ringbuf_stream_of_cpu(ch, ringbuf_cpu()) : 0;

	return ringbuf_refuse(ringbuf_stream_at(ch, idx), cause, n_records);
}

/*
 * ringbuf_plan - what must happen for the record to be placed, given `produced`.
 * Returns: 0 and the plan in *m, the layout in *r; -EAGAIN: sample again; -ENOSPC,
 *          -EIO, -ENOBUFS, -ENOMEM: it cannot be placed, and nothing must move.
 */
RINGBUF_FUNC int
ringbuf_plan(const struct ringbuf_client *client, const struct ringbuf_channel *ch,
	     struct ringbuf_stream *s, struct ringbuf_reservation *r, struct ringbuf_move *m, int park)
{
	const struct ringbuf_geometry *g = &ch->geometry;
	uint64_t size = ringbuf_subbuf_size(g), off = ringbuf_subbuf_off(g, m->pos), begin;

	if (ringbuf_is_huge(g, r->payload_size))
		return -ENOSPC;
	m->open_new = off == 0;
	if (off && off + ringbuf_layout_record(client, ch, r, off) > size)
		m->open_new = m->close_old = 1;
	r->pos = m->pos;
	if (m->open_new) {
		int ret;

		begin = ringbuf_subbuf_ceil(g, m->pos);
		off = ch->packet_header_size;
		r->pos = ringbuf_pos_add(begin, off);
		if (off + ringbuf_layout_record(client, ch, r, off) > size)
			return -ENOSPC;
		ret = ringbuf_slot_is_free(ch, s, m->word, begin, park);
		if (ret)
			return ret;
	}
	m->close_new = off + r->size == size;
	m->next = ringbuf_pos_add(r->pos, r->size);
	return 0;
}

/* One attempt on one sample of `produced`. `park`: as for ringbuf_slot_is_free. Returns as
 * ringbuf_plan, or -ESHUTDOWN: finalized; 0: claimed. */
RINGBUF_FUNC int
ringbuf_reserve_try(const struct ringbuf_client *client, const struct ringbuf_channel *ch,
		    struct ringbuf_reservation *r, struct ringbuf_move *m, int park)
{
	struct ringbuf_stream *s;
	uint64_t word, custom;
	uint32_t cpu = 0;
	int ret;

	memset(m, 0, sizeof(*m));
	custom = ringbuf_clock_custom(client, ch);
	r->stream_idx = 0;
	if (ch->streams == RINGBUF_PER_CPU) {
		cpu = ringbuf_cpu();
		r->stream_idx = ringbuf_stream_of_cpu(ch, cpu);
	}
	r->stream = s = ringbuf_stream_at(ch, r->stream_idx);
	m->word = ringbuf_load(&s->produced, RINGBUF_ACQUIRE); /* O1, O9 */
	/* relaxed: O9, by the load above. A swap that starts from before the stream was
	 * closed fails. Pairs with ringbuf_close_stream. */
	if (RINGBUF_UNLIKELY(ringbuf_load(&ch->control->state, RINGBUF_RELAXED) &
			     RINGBUF_STATE_FINALIZED))
		return -ESHUTDOWN;
	m->pos = ringbuf_pos(m->word);
	m->timestamp = r->timestamp = ringbuf_timestamp(client, ch, s, custom);
	if (ch->streams == RINGBUF_PER_CPU && ringbuf_cpu() != cpu)
		return -EAGAIN; /* clock.h: the clock must be this stream's CPU's */
	r->header_flags = ringbuf_timestamp_flags(s, r->timestamp);
	m->discarded = ringbuf_events_discarded(s);
	ret = ringbuf_plan(client, ch, s, r, m, park);
	/* A plan on an old position may have assumed too long a header. */
	if (ret == -ENOSPC && ringbuf_load(&s->produced, RINGBUF_RELAXED) != m->word)
		return -EAGAIN;
	if (ret)
		return ret;

	word = ringbuf_ledger_word(RINGBUF_LEDGER_CLAIMING, r->stream_idx, m->pos);
	if (m->open_new)
		word |= RINGBUF_LEDGER_OPENS;
	ringbuf_ledger_claim_boundary(r->entry, word, ringbuf_ledger_extent(r->size, r->n_more), r->timestamp,
				      ringbuf_word_at(m->word, ringbuf_pos(m->discarded)));
	r->word = ringbuf_word_at(m->word, m->next);
	/* O1 release: what the load above and the slot's words (O3, O4) told me, to all who
	 * land in this sub-buffer; and as in the fast path. */
	if (!ringbuf_cas(&s->produced, &m->word, r->word, RINGBUF_RELEASE, RINGBUF_RELAXED))
		return -EAGAIN;
	RINGBUF_TESTPOINT(reserve_claimed_slow);
	return 0;
}

/*
 * ringbuf_reserve_slow - the record opens a sub-buffer, ends one, or lost the race for the position.
 * Progress: lock-free: every retry means that another thread moved on, that this
 *           one was migrated, or that a dead one's sub-buffer was repaired. More repairs than there are
 *           sub-buffers mean that somebody scribbled on their words, and help nobody. Ordering: O1-O5, O9.
 */
RINGBUF_SLOW int
ringbuf_reserve_slow(const struct ringbuf_client *client, const struct ringbuf_channel *ch,
		     struct ringbuf_producer_slot *producer, struct ringbuf_reservation *r)
{
	struct ringbuf_move m;
	uint32_t repairs = 0;
	int park = 0, ret;

	if (!r->entry && !(r->entry = ringbuf_ledger_take(producer)))
		return ringbuf_refuse_here(ch, RINGBUF_LOST_NESTING, ringbuf_n_records(r));
	do {
		ret = ringbuf_reserve_try(client, ch, r, &m, park);
	} while (ret == -EAGAIN ||
		 (ret == -EIO && ((repairs++ < ch->n_all &&
				   ringbuf_repair_lapped(ch, producer, r->stream_idx,
							 ringbuf_subbuf_ceil(&ch->geometry, m.pos))) ||
				  !park++)));
	if (RINGBUF_UNLIKELY(ret)) {
		ringbuf_ledger_idle(r->entry);
		if (ret == -ESHUTDOWN)
			return ringbuf_refuse_disabled(producer, ringbuf_n_records(r));
		if (ret == -ENOSPC)
			return ringbuf_refuse(r->stream, RINGBUF_LOST_BIG, ringbuf_n_records(r));
		if (ret == -ENOMEM)
			return ringbuf_refuse(r->stream, RINGBUF_LOST_MEMORY, ringbuf_n_records(r));
		if (ch->mode == RINGBUF_DISCARD && (r->flags & RINGBUF_NONBLOCK))
			return -EAGAIN;
		return ringbuf_refuse(r->stream, ret == -EIO ? RINGBUF_LOST_WRAP : RINGBUF_LOST_FULL,
				      ringbuf_n_records(r));
	}
	ringbuf_ledger_won(r->entry, r->stream_idx, m.pos, m.open_new);
	RINGBUF_TESTPOINT(reserve_moving);
	ringbuf_carry_out(client, ch, r->stream, r->stream_idx, &m);
	r->owned = ringbuf_ledger_word(RINGBUF_LEDGER_OWNED, r->stream_idx, r->pos);
	ringbuf_ledger_land(r->entry, r->owned);
	RINGBUF_TESTPOINT(reserve_owned_slow);
	r->subbuf = ringbuf_enter(ch, r->stream, r->pos);
	ringbuf_begin_record(client, ch, r,
			     ringbuf_place_record(ch, r, ringbuf_subbuf_idx(ch, r->stream, r->subbuf)));
	return 0;
}

#define RINGBUF_AHEAD 256 /* bytes: some records */

/* What a fast path begins with: where the position is, and what time. Returns the CPU. Ordering: O1. */
RINGBUF_INLINE uint32_t
ringbuf_sample(const struct ringbuf_channel *ch, struct ringbuf_reservation *r)
{
	int per_cpu = RINGBUF_LIKELY(ch->streams == RINGBUF_PER_CPU);
	uint32_t cpu = per_cpu ? ringbuf_cpu() : 0;

	r->stream_idx = per_cpu ? ringbuf_stream_of_cpu(ch, cpu) : 0;
	r->stream = ringbuf_stream_at(ch, r->stream_idx);
	/* O1 acquire: what whoever opened this sub-buffer had seen (O3, O4), so its bytes
	 * are free. Also keeps the compiler from reading the clock first. */
	r->word = ringbuf_load(&r->stream->produced, RINGBUF_ACQUIRE);
	r->timestamp = RINGBUF_LIKELY(per_cpu && !ch->cpus_share) ? ringbuf_clock_early(ch)
								  : ringbuf_clock_ordered(ch);
	return cpu;
}

/*
 * The fast path: claim space where the sample says, in the middle of a sub-buffer.
 * Returns whether it did. Ordering: O1, O5.
 */
RINGBUF_INLINE int
ringbuf_reserve_fast(const struct ringbuf_client *client, const struct ringbuf_channel *ch,
		     struct ringbuf_producer_slot *producer, uint32_t cpu, struct ringbuf_reservation *r)
{
	uint64_t word = r->word, off = ringbuf_subbuf_off(&ch->geometry, word), claim;
	int32_t idx;
	uint8_t *header;

	r->pos = ringbuf_pos(word);
	/* Before the swap, so that nothing is left to be found out after it: if it wins, the
	 * position has been in this sub-buffer all the time, which has not changed. (It may be parked
	 * right after the swap. It stays what it is until my bytes are counted.) */
	idx = ringbuf_entered(ch, ringbuf_slot_at(ch, r->stream, word), word);
	if (RINGBUF_UNLIKELY(idx < 0)) /* also at a boundary, where nobody can have entered the next pass */
		return 0;
	r->entry = &producer->ledger[0];
	if (RINGBUF_UNLIKELY(!ringbuf_ledger_try(r->entry))) { /* in the middle of another record */
		r->entry = ringbuf_ledger_take(producer);
		if (!r->entry)
			return 0;
	}
	r->header_flags = ringbuf_timestamp_flags(r->stream, r->timestamp);
	/* `>=`: a record that ends at the very end must note the closing */
	if (RINGBUF_UNLIKELY(ringbuf_is_huge(&ch->geometry, r->payload_size) ||
			     off + ringbuf_layout_record(client, ch, r, off) >=
				     ringbuf_subbuf_size(&ch->geometry)))
		return 0;
	if (RINGBUF_LIKELY(ch->streams == RINGBUF_PER_CPU) &&
	    RINGBUF_UNLIKELY(ringbuf_cpu() != cpu)) /* clock.h says why */
		return 0;

	r->subbuf = ringbuf_subbuf_at(ch, r->stream, (uint32_t)idx);
	header = ringbuf_place_record(ch, r, (uint32_t)idx);
	/* The store to a cold line would hold up the commit's add: fetch what the next records need. */
	__builtin_prefetch(r->payload + RINGBUF_AHEAD, 1);
	claim = ringbuf_ledger_word(RINGBUF_LEDGER_CLAIMING, r->stream_idx, r->pos);
	ringbuf_ledger_claim(r->entry, claim, ringbuf_ledger_extent(r->size, r->n_more), r->timestamp);
	r->owned = ringbuf_ledger_next(claim);
	r->word = word + r->size;
	/* O1 release: my claim in the ledger, to whoever sees the position moved. Pairs
	 * with the loads of `produced`. RELEASE without ACQUIRE suffices: a roll-back changes
	 * the tag, so the value matched is the very store that ringbuf_sample acquired. */
	if (RINGBUF_UNLIKELY(!ringbuf_cas(&r->stream->produced, &word, r->word, RINGBUF_RELEASE,
					  RINGBUF_RELAXED)))
		return 0;
	RINGBUF_TESTPOINT(reserve_claimed);
	ringbuf_ledger_set(r->entry, r->owned);
	RINGBUF_TESTPOINT(reserve_owned);
	ringbuf_begin_record(client, ch, r, header);
	return 1;
}

/*
 * ringbuf_reserve_with - claim space for one record in this CPU's stream.
 * Callers:  any thread with a producer slot; a signal handler too, over a
 *           reservation of its own thread, up to four levels.
 * Progress: lock-free; never waits.
 * Ordering: O1, O5, O7.
 * Returns:  0: write r->payload, then commit or discard. Otherwise lost and
 *           counted: -ENOBUFS full, -EIO wrap, -ENOSPC big, -EPERM nesting, -ENOMEM
 *           memory, -ESHUTDOWN disabled or finalized. With RINGBUF_NONBLOCK, -EAGAIN:
 *           full, and not counted; -EINVAL, not counted: n_more with what it cannot go with.
 */
RINGBUF_INLINE int
ringbuf_reserve_with(const struct ringbuf_client *client, const struct ringbuf_channel *ch,
		     struct ringbuf_producer_slot *producer, struct ringbuf_reservation *r)
{
	struct ringbuf_reservation copy;
	int ret;

	/* relaxed: disable takes effect soon; finalize has O9 */
	if (RINGBUF_UNLIKELY(ringbuf_load(&ch->control->state, RINGBUF_RELAXED)))
		return ringbuf_refuse_disabled(producer, ringbuf_n_records(r));
	/* those after the first have the built-in format, and payloads that may lie anywhere */
	if (RINGBUF_UNLIKELY(r->n_more && (client || r->align > 1)))
		return -EINVAL;
	r->producer = producer;
	r->entry = NULL;
	if (!client || !client->clock_read) {
		uint32_t cpu = ringbuf_sample(ch, r);

		if (RINGBUF_LIKELY(ringbuf_reserve_fast(client, ch, producer, cpu, r)))
			return 0;
	}
	/* On a copy, so that a reservation that only its caller sees can stay in registers. */
	copy = *r;
	ret = ringbuf_reserve_slow(client, ch, producer, &copy);
	*r = copy;
	return ret;
}

/* As ringbuf_reserve_with, for the channel's own client. */
RINGBUF_INLINE int
ringbuf_reserve_as(const struct ringbuf_channel *ch, struct ringbuf_producer_slot *producer,
		   struct ringbuf_reservation *r)
{
	return RINGBUF_LIKELY(!ch->client) ? ringbuf_reserve_with(NULL, ch, producer, r)
					   : ringbuf_reserve_with(ch->client, ch, producer, r);
}

#endif /* RINGBUF_RESERVE_H */
