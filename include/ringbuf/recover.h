/*
 * ringbuf/recover.h - make a trace of a region whose processes are all dead.
 *
 * All is done in a copy; the file is only read. In the copy nobody lives, so
 * its locks are made anew, and then
 *
 * 1. open packets are closed, at the newest time that any producer had noted:
 *    the trace ends when they died, not now;
 * 2. what they were in the middle of is repaired, as the living would do it.
 *    Where a repair cannot tell what happened, the packet is not emptied: if it
 *    can be read as though no claim in doubt was won, it is. Else it ends before
 *    the first thing in doubt;
 * 3. every packet is checked, by the caller too, who knows what records look
 *    like. One that is damaged is left out, and costs nothing but itself.
 *
 * The file may be cut short, and any of its bytes may be wrong. What a slot's
 * words say is taken for true if they fit the stream's position. Packets that
 * no slot speaks for are taken if they are whole by themselves.
 */
#ifndef RINGBUF_RECOVER_H
#define RINGBUF_RECOVER_H

#include "trace.h"

/* A word of the copy. Relaxed: nobody else has it. */
RINGBUF_INLINE uint64_t
ringbuf_peek(const ringbuf_atomic_u64 *word)
{
	return ringbuf_load(word, RINGBUF_RELAXED);
}

/* ---- the copy ---- */

/* Pages of zeros take no memory in the copy. */
RINGBUF_FUNC void
ringbuf_copy_pages(uint8_t *to, const uint8_t *from, size_t size)
{
	static const uint8_t zeros[4096] = {0};

	for (size_t at = 0; at < size; at += sizeof(zeros)) {
		size_t n = size - at < sizeof(zeros) ? size - at : sizeof(zeros);

		if (memcmp(from + at, zeros, n))
			memcpy(to + at, from + at, n);
	}
}

/* The first `size` bytes of the file. What a disk cannot read stays zero, page by page. Returns 0 or -errno. */
RINGBUF_FUNC int
ringbuf_copy_file(int fd, uint8_t *base, uint64_t size)
{
	uint8_t chunk[65536];
	uint64_t at = 0;

	while (at < size) {
		off_t data = lseek(fd, (off_t)at, SEEK_DATA); /* a hole may have any size */
		ssize_t n;

		if (data < 0 && errno == ENXIO)
			return 0;
		at = data > (off_t)at ? (uint64_t)data : at;
		if (at >= size)
			return 0;
		n = pread(fd, chunk, ringbuf_bounded(size - at, sizeof(chunk) - at % 4096), (off_t)at);
		if (n == 0)
			return 0; /* cut short since */
		if (n < 0 && errno != EINTR && errno != EIO)
			return -errno;
		if (n > 0) {
			ringbuf_copy_pages(base + at, chunk, (size_t)n);
			at += (uint64_t)n;
		} else if (errno == EIO) {
			at = ringbuf_align_up(at + 1, 4096);
		}
	}
	return 0;
}

/*
 * Where what `fd` has of [begin, end) ends; holes are passed over without a look, because to read a hole of a
 * memfd takes memory. `begin` if there is nothing.
 */
RINGBUF_FUNC uint64_t
ringbuf_data_end(int fd, uint64_t begin, uint64_t end)
{
	uint64_t found = begin;
	off_t at = (off_t)begin;

	while ((at = lseek(fd, at, SEEK_DATA)) >= 0 && (uint64_t)at < end) {
		at = lseek(fd, at, SEEK_HOLE);
		if (at < 0)
			return end;
		found = ringbuf_bounded((uint64_t)at, end);
	}
	return at < 0 && errno != ENXIO ? end : found; /* not a file that knows its holes */
}

/* Slots beyond the last that has anything were never used, whatever the file claims: each repair looks at them all. */
RINGBUF_FUNC void
ringbuf_recover_claim(int copy, const struct ringbuf_superblock *sb, uint8_t *base)
{
	struct ringbuf_control *control = (struct ringbuf_control *)(void *)(base + sb->control_off);
	uint64_t slots = sb->n_producers * (uint64_t)sizeof(struct ringbuf_producer_slot);
	uint64_t end = ringbuf_data_end(copy, sb->producers_off, sb->producers_off + slots);
	uint64_t n = (end - sb->producers_off + sizeof(struct ringbuf_producer_slot) - 1) /
		     sizeof(struct ringbuf_producer_slot);

	/* relaxed both: as ringbuf_peek */
	if (ringbuf_load(&control->producers_used, RINGBUF_RELAXED) > n)
		ringbuf_store(&control->producers_used, (uint32_t)n, RINGBUF_RELAXED);
}

RINGBUF_FUNC int
ringbuf_recover_fill(int fd, int copy, const struct ringbuf_superblock *sb, uint64_t size)
{
	void *base = mmap(NULL, sb->region_size, PROT_READ | PROT_WRITE, MAP_SHARED, copy, 0);
	struct ringbuf_superblock *super = (struct ringbuf_superblock *)base;
	int ret;

	if (base == MAP_FAILED)
		return -errno;
	ret = ringbuf_copy_file(fd, (uint8_t *)base, ringbuf_bounded(size, sb->region_size));
	memcpy((void *)super, (const void *)sb, sizeof(*sb)); /* the one that was checked */
	super->custom_client = 0;
	ringbuf_recover_claim(copy, sb, (uint8_t *)base);
	munmap(base, sb->region_size);
	return ret;
}

/*
 * ringbuf_recover_copy - a sealed memfd with what the file has of its region.
 * Attach to it without a client. *missing: how many bytes the file is too short.
 * Returns: the descriptor, -errno, or as ringbuf_attach_fd; -RINGBUF_E_FORMAT: it
 *          holds no CTF.
 */
RINGBUF_FUNC int
ringbuf_recover_copy(int fd, uint64_t *missing)
{
	struct ringbuf_superblock sb;
	uint64_t size = 0;
	int copy, ret = ringbuf_check_superblock(fd, &sb, &size);

	if (ret)
		return ret;
	if (sb.custom_client & RINGBUF_CLIENT_FORMAT ||
	    sb.packet_header_size != ringbuf_ctf_packet_header_size(sb.streams))
		return -RINGBUF_E_FORMAT;
	*missing = size < sb.region_size ? sb.region_size - size : 0;
	copy = ringbuf_open_memory("ringbuf-recovery");
	if (copy < 0)
		return copy;
	ret = ringbuf_size_backing(copy, sb.region_size, 1);
	if (!ret)
		ret = ringbuf_recover_fill(fd, copy, &sb, size);
	if (ret)
		close(copy);
	return ret ? ret : copy;
}

/* ---- who was there ---- */

/* A producer that had not given its slot back. */
struct ringbuf_last_words {
	uint32_t pid, tid;   /* as it saw them itself */
	uint64_t start;      /* of its process, clock ticks since boot */
	char name[17];       /* of the thread */
	uint64_t timestamp;  /* of its newest reservation */
	uint32_t open;       /* reservations it was in the middle of */
};

/*
 * ringbuf_get_last_words - the producer in slot `idx` of a copy that is not recovered yet.
 * Returns: 1, or 0: nobody was there at the end.
 */
RINGBUF_FUNC int
ringbuf_get_last_words(const struct ringbuf_channel *ch, uint32_t idx, struct ringbuf_last_words *out)
{
	const struct ringbuf_producer_slot *slot = ringbuf_producer_slot_at(ch, idx);

	memset(out, 0, sizeof(*out));
	if (idx >= ringbuf_slots_used(ch) || !ringbuf_robust_was_held(&slot->certificate))
		return 0;
	/* relaxed both: as ringbuf_peek */
	out->pid = ringbuf_load(&slot->pid, RINGBUF_RELAXED);
	out->tid = ringbuf_load(&slot->tid, RINGBUF_RELAXED);
	out->start = ringbuf_peek(&slot->start);
	memcpy(out->name, slot->name, sizeof(slot->name));
	for (int level = 0; level < RINGBUF_NESTING_MAX; level++) {
		uint64_t timestamp = ringbuf_peek(&slot->ledger[level].timestamp);
		uint64_t word = ringbuf_peek(&slot->ledger[level].word);

		out->timestamp = timestamp > out->timestamp ? timestamp : out->timestamp;
		out->open += ringbuf_ledger_state(word) > RINGBUF_LEDGER_TAKEN;
	}
	return 1;
}

/* ---- when they died ---- */

/* What the clock cannot have reached: an hour from now, for machines are set wrong. */
RINGBUF_FUNC uint64_t
ringbuf_future(const struct ringbuf_channel *ch)
{
	const struct ringbuf_superblock *sb = ch->super;
	double s = (double)ringbuf_clock_ns(CLOCK_REALTIME) / 1e9 + 3600 - (double)sb->clock_offset_s;
	double ticks = s * (double)sb->clock_freq - (double)sb->clock_offset;

	if (ch->clock == RINGBUF_CLOCK_CUSTOM || ticks >= 18e18)
		return UINT64_MAX;
	return ticks > 0 ? (uint64_t)ticks : 0;
}

RINGBUF_FUNC void
ringbuf_take_newer(uint64_t *newest, ringbuf_atomic_u64 *word, uint64_t limit)
{
	uint64_t time = ringbuf_peek(word);

	if (time > *newest && time <= limit)
		*newest = time;
}

/* The newest time, not after `limit`, that a producer has noted. Not only of records: of
 * two that commit at once, the one of the older time may store base_timestamp last. */
RINGBUF_FUNC uint64_t
ringbuf_newest_time(const struct ringbuf_channel *ch, uint64_t limit)
{
	uint64_t newest = 0;

	for (uint32_t i = 0; i < ch->n_streams; i++) {
		struct ringbuf_stream *s = ringbuf_stream_at(ch, i);

		ringbuf_take_newer(&newest, &s->base_timestamp, limit);
		ringbuf_take_newer(&newest, &s->custom_timestamp, limit);
	}
	for (uint32_t i = 0, used = ringbuf_slots_used(ch); i <= used; i++) /* with the repairer's */
		for (int level = 0; level < RINGBUF_NESTING_MAX; level++)
			ringbuf_take_newer(&newest, &ringbuf_slot_to_scan(ch, i, used)->ledger[level].timestamp, limit);
	return newest;
}

/* A clock that stands. */
RINGBUF_FUNC uint64_t
ringbuf_clock_stopped(const struct ringbuf_channel *ch)
{
	return *(const uint64_t *)ch->client_data;
}

/* ---- what can be trusted ---- */

/* Do the slot's words fit a position by which its newest sub-buffer begins at `begin`? */
RINGBUF_FUNC int
ringbuf_slot_is_sane(const struct ringbuf_channel *ch, struct ringbuf_stream *s, uint64_t begin)
{
	const struct ringbuf_geometry *g = &ch->geometry;
	uint64_t ref = ringbuf_peek(&ringbuf_slot_at(ch, s, begin)->subbuf_ref), pass = ringbuf_ref_pass(ref);
	struct ringbuf_subbuf *sb = ringbuf_subbuf_at(ch, s, ringbuf_checked_idx(ch, ref & RINGBUF_REF_IDX_MASK));
	uint64_t stage = ringbuf_peek(&sb->stage);
	uint32_t counted = (uint32_t)ringbuf_counted_since(sb, stage, ringbuf_peek(&sb->committed));

	if ((ref & RINGBUF_REF_IDX_MASK) >= ch->n_all || counted > ringbuf_subbuf_size(g) ||
	    ringbuf_stage_phase(stage) > RINGBUF_STAGE_READERS)
		return 0;
	if (pass == ringbuf_ref_pass_at(ch, begin))
		return ref & RINGBUF_REF_READ || ringbuf_stage_is(stage, begin, RINGBUF_STAGE_DONE)
			       ? !counted
			       : !ringbuf_stage_is_past(stage, begin);
	return pass == ringbuf_ref_pass_before(ch, begin);
}

/* Positions of the sub-buffers that the ring has: [*from, *to). */
RINGBUF_FUNC void
ringbuf_ring_range(const struct ringbuf_channel *ch, struct ringbuf_stream *s, uint64_t *from, uint64_t *to)
{
	uint64_t produced = ringbuf_pos(ringbuf_peek(&s->produced));

	*from = ringbuf_oldest_begin(&ch->geometry, produced);
	*to = ringbuf_subbuf_ceil(&ch->geometry, produced);
}

/* Is the stream's position one that most of its slots know of? */
RINGBUF_FUNC int
ringbuf_stream_is_sane(const struct ringbuf_channel *ch, struct ringbuf_stream *s)
{
	uint32_t n = ringbuf_n_subbufs(&ch->geometry), sane = 0;
	uint64_t pos, end;

	ringbuf_ring_range(ch, s, &pos, &end);
	for (; pos != end; pos = ringbuf_pos_add(pos, ringbuf_subbuf_size(&ch->geometry)))
		sane += (uint32_t)ringbuf_slot_is_sane(ch, s, pos);
	return sane >= n / 2;
}

/* ---- closing and repairing ---- */

/* What the caller asks for, and what it gets. */
struct ringbuf_recovery {
	struct ringbuf_consumer_options files; /* directory and stream_name */
	int all; /* also packets that have been read: another trace has them */
	/* Is the packet whole? Returns how many records it has, or -1. `agrees`: its header
	 * says what the sub-buffer table says; if not, it is left out whatever is returned. */
	int64_t (*check)(void *arg, const struct ringbuf_packet *p, int agrees);
	/* Called often; not 0: give up, and return -EINTR. Or NULL. */
	int (*pause)(void *arg);
	void *arg;
	/* out: */
	uint64_t timestamp; /* when the last producer died: the newest time noted */
};

/* What became of a stream. */
struct ringbuf_recovered_stream {
	uint64_t packets, records; /* in its file */
	uint64_t damaged;          /* packets left out because they are */
	uint64_t consumed;         /* packets left out because they were read before */
	int astray;                /* its position makes no sense: packets were looked for one by one */
	int blank;                 /* the file has nothing of its tables, so there are no packets */
};

RINGBUF_FUNC int
ringbuf_recover_pause(const struct ringbuf_recovery *how)
{
	return how->pause && how->pause(how->arg) ? -EINTR : 0;
}

/* Is there nothing but zeros in `size` bytes at `at`? Looks at no more than the first page, which others may share. */
RINGBUF_FUNC int
ringbuf_is_blank(const struct ringbuf_channel *ch, const void *at, uint64_t size)
{
	const uint8_t *bytes = (const uint8_t *)at;
	uint64_t begin = (uint64_t)(bytes - ch->base), whole = ringbuf_align_up(begin, ch->page_size), end = begin + size;

	for (uint64_t i = 0; i < size && begin + i < whole; i++)
		if (bytes[i])
			return 0;
	return whole >= end || ringbuf_data_end(ch->fd, whole, end) == whole;
}

/* A file of some kilobytes may claim thousands of streams. */
RINGBUF_FUNC int
ringbuf_stream_is_blank(const struct ringbuf_channel *ch, struct ringbuf_stream *s)
{
	uint64_t n = ringbuf_n_subbufs(&ch->geometry);

	return ringbuf_is_blank(ch, ringbuf_slot_at(ch, s, 0), n * sizeof(struct ringbuf_slot)) &&
	       ringbuf_is_blank(ch, ringbuf_subbuf_at(ch, s, 0), ch->n_all * sizeof(struct ringbuf_subbuf));
}

RINGBUF_FUNC void
ringbuf_recover_close(const struct ringbuf_channel *ch, uint32_t stream_idx)
{
	struct ringbuf_stream *s = ringbuf_stream_at(ch, stream_idx);
	uint64_t produced = ringbuf_pos(ringbuf_peek(&s->produced));

	if (ringbuf_subbuf_off(&ch->geometry, produced) &&
	    ringbuf_slot_is_sane(ch, s, ringbuf_subbuf_begin(&ch->geometry, produced)))
		ringbuf_flush(ch, ringbuf_repairer_slot(ch), stream_idx, 0);
}

/* For ringbuf_cut_back. Relaxed: nobody else looks at it any more. */
RINGBUF_FUNC void
ringbuf_recover_doubt(const struct ringbuf_channel *ch, struct ringbuf_stream *s, uint64_t begin, uint64_t doubt)
{
	for (uint32_t i = 0; doubt && i < ch->n_all; i++) {
		struct ringbuf_subbuf *sb = ringbuf_subbuf_at(ch, s, i);
		uint64_t stage = ringbuf_peek(&sb->stage);

		if (ringbuf_stage_is(stage, begin, RINGBUF_STAGE_DONE))
			ringbuf_store(&sb->close_size, doubt, RINGBUF_RELAXED);
	}
}

RINGBUF_FUNC int
ringbuf_recover_repair(const struct ringbuf_channel *ch, const struct ringbuf_recovery *how, uint32_t stream_idx)
{
	struct ringbuf_stream *s = ringbuf_stream_at(ch, stream_idx);
	uint64_t pos, end;

	ringbuf_count_torn(ch, s);
	ringbuf_repair_parked(ch, stream_idx); /* they were lapped: they count, and are not looked for */
	ringbuf_ring_range(ch, s, &pos, &end);
	for (; pos != end; pos = ringbuf_pos_add(pos, ringbuf_subbuf_size(&ch->geometry))) {
		uint64_t doubt = 0;

		if (ringbuf_recover_pause(how))
			return -EINTR;
		if (ringbuf_is_done(ch, s, pos) || !ringbuf_slot_is_sane(ch, s, pos))
			continue;
		ringbuf_repair_locked(ch, stream_idx, pos, &doubt);
		ringbuf_recover_doubt(ch, s, pos, doubt);
	}
	return 0;
}

/* Returns 0 or -EINTR. */
RINGBUF_FUNC int
ringbuf_recover_settle(const struct ringbuf_channel *ch, const struct ringbuf_recovery *how,
		       struct ringbuf_recovered_stream *streams)
{
	struct ringbuf_producer_slot *self = ringbuf_repairer_slot(ch);
	int ret = 0;

	if (ringbuf_robust_lock(&self->certificate, 0))
		return 0;
	/* Before anything is closed: a claim at the position itself has not been won. */
	ringbuf_clear_settled(ch);
	for (uint32_t i = 0; !ret && i < ch->n_streams; i++) {
		ret = ringbuf_recover_pause(how);
		streams[i].blank = ringbuf_stream_is_blank(ch, ringbuf_stream_at(ch, i));
		if (ret || streams[i].blank)
			continue;
		streams[i].astray = !ringbuf_stream_is_sane(ch, ringbuf_stream_at(ch, i));
		if (!streams[i].astray)
			ringbuf_recover_close(ch, i);
	}
	for (uint32_t i = 0; !ret && i < ch->n_streams; i++)
		if (!streams[i].astray && !streams[i].blank)
			ret = ringbuf_recover_repair(ch, how, i);
	ringbuf_robust_unlock(&self->certificate);
	return ret;
}

/* As ringbuf_channel_stats, but without a look at what the file has nothing of: that would take its memory. */
RINGBUF_FUNC void
ringbuf_recover_stats(const struct ringbuf_channel *ch, const struct ringbuf_recovered_stream *streams,
		      struct ringbuf_stats *st)
{
	uint32_t used = ringbuf_slots_used(ch);

	memset(st, 0, sizeof(*st));
	for (uint32_t i = 0; i < ch->n_streams; i++)
		if (!streams[i].blank)
			ringbuf_add_stream_stats(ch, i, st);
	for (uint32_t i = 0; i < used; i++)
		st->lost[RINGBUF_LOST_DISABLED] += ringbuf_peek(&ringbuf_producer_slot_at(ch, i)->lost_disabled);
}

/* ---- one stream's packets ---- */

/* A sub-buffer that may be written to the trace. */
struct ringbuf_found {
	uint64_t sequence_number, pos;
	uint32_t idx;
	int unread, good;
};

struct ringbuf_search {
	const struct ringbuf_recovery *how;
	struct ringbuf_trace *t;
	struct ringbuf_stream_file *f;
	struct ringbuf_recovered_stream *st;
	struct ringbuf_found *found;
	uint32_t n;
	uint64_t from, to, consumed_pos;
};

RINGBUF_FUNC int
ringbuf_is_in_ring(const struct ringbuf_channel *ch, struct ringbuf_stream *s, uint64_t pos, uint32_t idx,
		   uint64_t *ref)
{
	*ref = ringbuf_peek(&ringbuf_slot_at(ch, s, pos)->subbuf_ref);
	return (*ref & RINGBUF_REF_IDX_MASK) == idx && ringbuf_ref_pass(*ref) == ringbuf_ref_pass_at(ch, pos) &&
	       ringbuf_stage_is(ringbuf_peek(&ringbuf_subbuf_at(ch, s, idx)->stage), pos, RINGBUF_STAGE_DONE);
}

RINGBUF_FUNC int
ringbuf_is_held_outside(const struct ringbuf_search *x, uint32_t idx)
{
	const struct ringbuf_stream_reader *r = &x->f->reader;
	uint64_t ref;

	return r->holding && r->packet.subbuf_idx == idx &&
	       !ringbuf_is_in_ring(r->ch, r->s, r->packet.pos, idx, &ref);
}

/* 1: unread; 0: read before, or of a time long ago; -1: a sub-buffer that is not to be looked at. */
RINGBUF_FUNC int
ringbuf_is_unread(const struct ringbuf_search *x, uint32_t idx, uint64_t pos)
{
	const struct ringbuf_stream_reader *r = &x->f->reader;
	int in_range = ringbuf_pos_diff(pos, x->from) >= 0 && ringbuf_pos_diff(x->to, pos) > 0;
	uint64_t ref;

	if (r->holding && r->packet.subbuf_idx == idx)
		return 1;
	if (ringbuf_is_in_ring(r->ch, r->s, pos, idx, &ref))
		return !(ref & RINGBUF_REF_READ);
	if (!x->st->astray && !in_range)
		return 0; /* the spare */
	return ringbuf_pos_diff(pos, x->consumed_pos) >= 0;
}

/* Does the table make sense, and does the packet's header say the same? */
RINGBUF_FUNC int
ringbuf_packet_agrees(const struct ringbuf_channel *ch, const struct ringbuf_packet *p)
{
	const struct ringbuf_geometry *g = &ch->geometry;
	uint8_t header[RINGBUF_CTF_PACKET_HEADER_SIZE];

	if (p->pos & ~RINGBUF_POS_MASK || ringbuf_subbuf_off(g, p->pos) ||
	    p->sequence_number != ringbuf_pos_sub(p->pos, ch->start_pos) >> g->subbuf_order ||
	    p->packet_size != ringbuf_align_up(p->content_size, ch->page_size) ||
	    p->timestamp_begin > p->timestamp_end || !ringbuf_packet_is_sound(ch, p))
		return 0;
	ringbuf_packet_header(ch, p, p->events_discarded, header);
	return !memcmp(header, p->data, ch->packet_header_size);
}

/* A packet that was given up, and whose records are counted now. Returns 0: they cannot be so many. */
RINGBUF_FUNC int
ringbuf_count_kept(const struct ringbuf_stream_reader *r, uint64_t records)
{
	ringbuf_atomic_u64 *torn = &r->s->lost[RINGBUF_LOST_TORN];
	uint64_t counted = ringbuf_peek(torn);

	if (records > counted)
		return 0;
	/* relaxed both: as ringbuf_peek */
	ringbuf_store(&ringbuf_subbuf_at(r->ch, r->s, r->packet.subbuf_idx)->n_records, records, RINGBUF_RELAXED);
	ringbuf_store(torn, counted - records, RINGBUF_RELAXED);
	return 1;
}

/* End the packet before the first thing in doubt. Returns 0 if it ends there already. */
RINGBUF_FUNC int
ringbuf_cut_back(struct ringbuf_stream_reader *r)
{
	const struct ringbuf_channel *ch = r->ch;
	struct ringbuf_subbuf *sb = ringbuf_subbuf_at(ch, r->s, r->packet.subbuf_idx);
	uint64_t doubt = ringbuf_peek(&sb->close_size);

	if (doubt < ch->packet_header_size || doubt >= r->packet.content_size)
		return 0;
	/* relaxed both: as ringbuf_peek */
	ringbuf_store(&sb->content_size, doubt, RINGBUF_RELAXED);
	ringbuf_store(&sb->packet_size, ringbuf_align_up(doubt, ch->page_size), RINGBUF_RELAXED);
	ringbuf_buffer_end(NULL, ch, r->s, r->stream_idx, r->packet.subbuf_idx);
	ringbuf_describe_packet(r);
	return 1;
}

/* r->packet is described. Is it whole? */
RINGBUF_FUNC int
ringbuf_recover_check(const struct ringbuf_search *x)
{
	struct ringbuf_stream_reader *r = &x->f->reader;
	const struct ringbuf_packet *p = &r->packet;
	int agrees = ringbuf_packet_agrees(x->t->ch, p);
	int given_up = agrees && p->records == 0 && p->content_size > x->t->ch->packet_header_size;
	int64_t records = x->how->check(x->how->arg, p, agrees);

	if (given_up && records < 0 && ringbuf_cut_back(r))
		records = x->how->check(x->how->arg, p, 1);
	if (!agrees || records < 0)
		return 0;
	return given_up ? ringbuf_count_kept(r, (uint64_t)records) : (uint64_t)records == p->records;
}

/* Describe sub-buffer `idx` in reader.packet, whatever is held. */
RINGBUF_FUNC const struct ringbuf_packet *
ringbuf_recover_describe(struct ringbuf_stream_reader *r, uint32_t idx)
{
	ringbuf_locate_packet(r, ringbuf_peek(&ringbuf_subbuf_at(r->ch, r->s, idx)->pos), idx);
	ringbuf_describe_packet(r);
	return &r->packet;
}

RINGBUF_FUNC int
ringbuf_by_sequence(const void *a, const void *b)
{
	uint64_t x = ((const struct ringbuf_found *)a)->sequence_number;
	uint64_t y = ((const struct ringbuf_found *)b)->sequence_number;

	return (x > y) - (x < y);
}

RINGBUF_FUNC int
ringbuf_is_free_spare(const struct ringbuf_channel *ch, struct ringbuf_stream *s, uint32_t idx)
{
	enum ringbuf_stage phase = ringbuf_stage_phase(ringbuf_peek(&ringbuf_subbuf_at(ch, s, idx)->stage));

	return phase == RINGBUF_STAGE_FREE || phase == RINGBUF_STAGE_TAKEN;
}

/* Look at every sub-buffer; list what is to be written, in order. Returns 0 or -EINTR. */
RINGBUF_FUNC int
ringbuf_recover_search(struct ringbuf_search *x)
{
	struct ringbuf_stream_reader *r = &x->f->reader;
	struct ringbuf_packet held = r->packet;

	for (uint32_t idx = 0; idx < r->ch->n_all; idx++) {
		struct ringbuf_found *found = &x->found[x->n];
		const struct ringbuf_packet *p;

		if (ringbuf_recover_pause(x->how))
			return -EINTR;
		r->packet = held;
		found->pos = ringbuf_peek(&ringbuf_subbuf_at(r->ch, r->s, idx)->pos);
		found->unread = ringbuf_is_unread(x, idx, found->pos);
		p = ringbuf_recover_describe(r, idx);
		if (!p->content_size || ringbuf_is_free_spare(r->ch, r->s, idx))
			continue; /* nothing was ever in there, or it was lapped */
		x->st->consumed += !found->unread && !x->how->all;
		if (!found->unread && !x->how->all)
			continue;
		found->good = ringbuf_recover_check(x);
		found->idx = idx;
		found->sequence_number = p->sequence_number;
		x->n++;
	}
	r->packet = held;
	qsort(x->found, x->n, sizeof(*x->found), ringbuf_by_sequence);
	return 0;
}

/* Packets that should be there and unread. */
RINGBUF_FUNC uint64_t
ringbuf_recover_expected(const struct ringbuf_search *x)
{
	const struct ringbuf_channel *ch = x->t->ch;
	struct ringbuf_stream *s = x->f->reader.s;
	uint64_t n = 0;

	if (x->st->astray) {
		for (uint32_t i = 0; i < x->n; i++)
			n += (uint64_t)x->found[i].unread;
		return n;
	}
	for (uint64_t pos = x->from; pos != x->to; pos = ringbuf_pos_add(pos, ringbuf_subbuf_size(&ch->geometry)))
		if (ringbuf_slot_is_sane(ch, s, pos))
			n += !(ringbuf_peek(&ringbuf_slot_at(ch, s, pos)->subbuf_ref) & RINGBUF_REF_READ);
		else
			n += ringbuf_pos_diff(pos, x->consumed_pos) >= 0;
	for (uint32_t idx = 0; idx < ch->n_all; idx++)
		n += (uint64_t)ringbuf_is_held_outside(x, idx);
	return n;
}

/* Write what is good and follows what was written. Returns how many unread packets were, or -errno. */
RINGBUF_FUNC int64_t
ringbuf_recover_write(struct ringbuf_search *x)
{
	int64_t unread = 0;
	uint64_t discarded = 0;

	for (uint32_t i = 0; i < x->n; i++) {
		const struct ringbuf_found *found = &x->found[i];
		const struct ringbuf_packet *p = ringbuf_recover_describe(&x->f->reader, found->idx);
		int ret;

		if (!found->good || p->timestamp_begin < x->f->end_timestamp || p->events_discarded < discarded ||
		    (x->st->packets && p->sequence_number == found[-1].sequence_number))
			continue;
		ret = ringbuf_file_put(x->t, x->f);
		if (ret)
			return ret;
		discarded = p->events_discarded;
		x->st->packets++;
		x->st->records += p->records;
		unread += found->unread;
	}
	return unread;
}

RINGBUF_FUNC int
ringbuf_recover_stream(struct ringbuf_search *x)
{
	const struct ringbuf_channel *ch = x->t->ch;
	struct ringbuf_stream *s = x->f->reader.s;
	uint64_t expected;
	int64_t unread;

	ringbuf_ring_range(ch, s, &x->from, &x->to);
	x->consumed_pos = ringbuf_peek(&s->consumed_pos);
	x->f->at_start = UINT64_MAX; /* it has begun long ago */
	if (x->how->all) {
		x->f->told = 0;
		x->f->told_pos = ch->start_pos;
	}
	if (ringbuf_recover_search(x))
		return -EINTR;
	expected = ringbuf_recover_expected(x);
	x->f->owed = ringbuf_events_discarded(s);
	x->f->limit = x->to;
	unread = ringbuf_recover_write(x);
	if (unread < 0)
		return (int)unread;
	x->st->damaged = expected > (uint64_t)unread ? expected - (uint64_t)unread : 0;
	return x->st->astray ? 0 : ringbuf_file_tell_losses(x->t, x->f);
}

/* ---- all of it ---- */

/* In the copy nobody lives. Only the locks of slots that are looked at: a region may claim a million of them. */
RINGBUF_FUNC int
ringbuf_recover_locks(const struct ringbuf_channel *ch)
{
	uint32_t used = ringbuf_slots_used(ch);
	int ret = ringbuf_robust_mutex_init(&ch->control->schema_lock);

	for (uint32_t i = 0; !ret && i <= used; i++)
		ret = ringbuf_robust_mutex_init(&ringbuf_slot_to_scan(ch, i, used)->certificate);
	for (uint32_t i = 0; !ret && i < ch->n_streams; i++)
		ret = ringbuf_robust_mutex_init(&ringbuf_stream_at(ch, i)->map_lock);
	return ret;
}

RINGBUF_FUNC int
ringbuf_recover_streams(struct ringbuf_trace *t, const struct ringbuf_recovery *how,
			struct ringbuf_recovered_stream *streams)
{
	struct ringbuf_search x;
	int ret = 0;

	memset(&x, 0, sizeof(x));
	x.how = how;
	x.t = t;
	x.found = (struct ringbuf_found *)calloc(t->ch->n_all, sizeof(*x.found));
	if (!x.found)
		return -ENOMEM;
	for (uint32_t i = 0; !ret && i < t->ch->n_streams; i++) {
		x.n = 0;
		x.f = &t->files[i];
		x.st = &streams[i];
		ret = x.st->blank ? 0 : ringbuf_recover_stream(&x);
	}
	free(x.found);
	return ret;
}

/*
 * ringbuf_recover_files - repair the copy, and write its packets to files.
 *
 * trace.h has the rules of the files; metadata is the caller's.
 * Callers:  once, on a channel attached to what ringbuf_recover_copy returned, which
 *           nobody else uses. `streams`: n_streams results, zeroed.
 * Returns:  0, or as ringbuf_trace_open, or -errno of the first file that failed; then none is left. -EINTR: `pause`
 *           was not 0.
 */
RINGBUF_FUNC int
ringbuf_recover_files(struct ringbuf_channel *ch, struct ringbuf_recovery *how,
		      struct ringbuf_recovered_stream *streams)
{
	struct ringbuf_trace *t = (struct ringbuf_trace *)calloc(1, sizeof(*t));
	struct ringbuf_client stopped;
	int ret = t ? ringbuf_recover_locks(ch) : -ENOMEM, closed;

	if (!ret)
		ret = ringbuf_trace_open(t, ch, &how->files);
	if (ret) {
		free(t);
		return ret;
	}
	how->timestamp = ringbuf_newest_time(ch, ringbuf_future(ch));
	if (!how->timestamp) /* all of it lies in the future: the clock was set back since */
		how->timestamp = ringbuf_newest_time(ch, UINT64_MAX);
	memset(&stopped, 0, sizeof(stopped));
	stopped.clock_read = ringbuf_clock_stopped;
	ch->client = &stopped;
	ch->client_data = &how->timestamp;
	ret = ringbuf_recover_settle(ch, how, streams);
	if (!ret)
		ret = ringbuf_recover_streams(t, how, streams);
	ch->client = NULL;
	ch->client_data = NULL;
	if (ret)
		ringbuf_trace_remove(t, &how->files);
	closed = ringbuf_trace_close(t);
	ringbuf_trace_free(t);
	free(t);
	return ret ? ret : closed;
}

#endif /* RINGBUF_RECOVER_H */
