/*
 * ringbuf/snapshot.h - write the packets that are in the ring now to files, and
 * leave them there. trace.h has the rules of the files.
 */
#ifndef RINGBUF_SNAPSHOT_H
#define RINGBUF_SNAPSHOT_H

#include "trace.h"

/*
 * Hold the first packet at or after *pos that can be had. Passes over the
 * lapped, and over those that are not complete by the deadline.
 * Returns 0, or -ENODATA: there is none before the limit.
 */
RINGBUF_FUNC int
ringbuf_snapshot_get(struct ringbuf_trace *t, struct ringbuf_stream_file *f, uint64_t *pos,
		     uint64_t deadline_ns)
{
	const struct ringbuf_geometry *g = &t->ch->geometry;
	struct timespec pause = {0, (long)RINGBUF_STUCK_NS};
	uint64_t repaired = UINT64_MAX; /* no position */

	while (ringbuf_pos_diff(*pos, f->limit) < 0) {
		uint64_t next = ringbuf_pos_add(*pos, ringbuf_subbuf_size(g)), oldest;
		int ret = ringbuf_get_subbuf(&f->reader, *pos);

		if (!ret)
			return 0;
		/* once: if that does not help, somebody scribbled on the position */
		if (ret == -EAGAIN && repaired != *pos &&
		    ringbuf_repair_subbuf(t->ch, f->reader.stream_idx, *pos) > 0) {
			repaired = *pos;
			continue;
		}
		if (ret == -EAGAIN && ringbuf_clock_ns(CLOCK_MONOTONIC) < deadline_ns) {
			nanosleep(&pause, NULL);
			continue;
		}
		oldest = ringbuf_next_pos(&f->reader);
		if (ret == -ESTALE && ringbuf_pos_diff(oldest, next) > 0)
			next = ringbuf_pos_diff(oldest, f->limit) < 0 ? oldest : f->limit;
		ringbuf_bump(ret == -ESTALE ? &t->lapped : &t->incomplete,
			     ringbuf_pos_sub(next, *pos) >> g->subbuf_order);
		*pos = next;
	}
	return -ENODATA;
}

/* Write the held packet, if it belongs in the snapshot. Returns 0 or -errno. */
RINGBUF_FUNC int
ringbuf_snapshot_packet(struct ringbuf_trace *t, struct ringbuf_stream_file *f, uint64_t since)
{
	const struct ringbuf_packet *p = &f->reader.packet;

	if (!ringbuf_packet_is_sound(t->ch, p)) {
		ringbuf_bump(&t->corrupt, 1);
		return 0;
	}
	if (p->timestamp_end < since) {
		ringbuf_file_told(f, p); /* its losses are before what was asked for */
		ringbuf_bump(&t->before, 1);
		return 0;
	}
	return ringbuf_file_put(t, f);
}

RINGBUF_FUNC int
ringbuf_snapshot_stream(struct ringbuf_trace *t, struct ringbuf_stream_file *f, uint64_t from,
			uint64_t since, uint64_t deadline_ns)
{
	uint64_t pos = from;
	int ret = 0;

	while (!ret) {
		if (!ringbuf_trace_is_whole(t))
			return -RINGBUF_E_TRUNCATED;
		if (!f->reader.holding && ringbuf_snapshot_get(t, f, &pos, deadline_ns))
			break;
		ret = ringbuf_snapshot_packet(t, f, since);
		if (ret == -EFAULT && !ringbuf_trace_is_whole(t))
			return -RINGBUF_E_TRUNCATED;
		if (f->reader.packet.pos == pos) /* not one that a dead reader held outside the ring */
			pos = ringbuf_pos_add(pos, ringbuf_subbuf_size(&t->ch->geometry));
		ringbuf_put_subbuf(&f->reader, RINGBUF_PUT_BACK);
	}
	/* not by an empty packet in the ring: it would push out the oldest of an
	 * overwriting one, and there is no room for it in a full one */
	return ret ? ret : ringbuf_file_tell_losses(t, f);
}

/*
 * The limit comes from a position that any process can scribble on: what a ring
 * cannot have is not looked for, packet by packet, up to there.
 */
RINGBUF_FUNC void
ringbuf_snapshot_clamp(struct ringbuf_trace *t, const struct ringbuf_stream_file *f, uint64_t *from)
{
	const struct ringbuf_geometry *g = &t->ch->geometry;
	uint64_t oldest = ringbuf_oldest_begin(g, f->limit), next = *from;

	if (f->reader.holding && f->reader.packet.pos == next)
		next = ringbuf_pos_add(next, ringbuf_subbuf_size(g)); /* had already */
	if (ringbuf_pos_diff(oldest, next) <= 0)
		return;
	ringbuf_bump(&t->lapped, ringbuf_pos_sub(oldest, next) >> g->subbuf_order);
	*from = oldest;
}

/*
 * Hold each stream's oldest packet, then flush: so no producer pushes the oldest
 * out in between. The flush itself enters no new sub-buffer, hence overwrites
 * nothing. Reading begins at from[], and ends where the flush has left the position.
 */
RINGBUF_FUNC void
ringbuf_snapshot_pin(struct ringbuf_trace *t, uint64_t *from)
{
	for (uint32_t i = 0; i < t->ch->n_streams; i++) {
		struct ringbuf_stream_file *f = &t->files[i];

		f->at_start = UINT64_MAX; /* it has begun long ago */
		from[i] = ringbuf_next_pos(&f->reader);
		/* a dead reader's packet, held already, comes before `from` or is it */
		if (!f->reader.holding && ringbuf_get_next_subbuf(&f->reader) == 0)
			from[i] = f->reader.packet.pos;
	}
	ringbuf_trace_flush(t);
	ringbuf_trace_limit(t);
	for (uint32_t i = 0; i < t->ch->n_streams; i++)
		ringbuf_snapshot_clamp(t, &t->files[i], &from[i]);
}

/* All streams, even if one fails. Returns 0 or the first error. */
RINGBUF_FUNC int
ringbuf_snapshot_streams(struct ringbuf_trace *t, const uint64_t *from,
			 const struct ringbuf_consumer_options *o)
{
	uint64_t deadline = ringbuf_deadline(o->timeout_ns ? o->timeout_ns : RINGBUF_IN_FLIGHT_NS);
	int first = 0;

	for (uint32_t i = 0; i < t->ch->n_streams; i++) {
		int ret = ringbuf_snapshot_stream(t, &t->files[i], from[i], o->since_timestamp, deadline);

		if (ret == -RINGBUF_E_TRUNCATED)
			return ret;
		if (ret) {
			ringbuf_file_failed(t, &t->files[i], -ret, 0);
			first = first ? first : ret;
		}
	}
	return first;
}

/*
 * ringbuf_snapshot_files - write all unread packets, oldest first, and leave them
 * in the ring.
 *
 * Flushes first, so that it has everything up to now. Packets that producers
 * overwrite meanwhile are missing, and counted. If no producer slot is free to
 * flush with, the newest, open packets are missing (flush_errors).
 * Callers:  any thread; takes memory and descriptors, and the right to read
 *           while it lasts.
 * Returns:  as ringbuf_consumer_start, or -errno of the first file that failed;
 *           then none is left. *st (not NULL) is filled in if
 *           0 or a file's error is returned.
 */
RINGBUF_FUNC int
ringbuf_snapshot_files(struct ringbuf_channel *ch, const struct ringbuf_consumer_options *options,
		       struct ringbuf_consumer_stats *st)
{
	struct ringbuf_trace *t = (struct ringbuf_trace *)calloc(1, sizeof(*t));
	uint64_t *from = (uint64_t *)calloc(ch->n_streams, sizeof(*from));
	int ret = t && from ? ringbuf_trace_open(t, ch, options) : -ENOMEM, closed;

	memset(st, 0, sizeof(*st));
	if (!ret) {
		ringbuf_snapshot_pin(t, from);
		ret = ringbuf_snapshot_streams(t, from, options);
		if (ret != -RINGBUF_E_TRUNCATED)
			ringbuf_trace_put_back(t);
		ringbuf_trace_stats(t, st);
		if (ret)
			ringbuf_trace_remove(t, options);
		closed = ringbuf_trace_close(t);
		ret = ret ? ret : closed;
		ringbuf_trace_free(t);
	}
	free(from);
	free(t);
	return ret;
}

#endif /* RINGBUF_SNAPSHOT_H */
