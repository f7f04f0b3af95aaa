/*
 * ringbuf/holes.h - bytes that were claimed and hold no record: fillers, joined into holes.
 *
 * A record that is discarded while others follow it, or torn because its
 * producer died, leaves a filler. In the built-in format (ctf.h) a filler is a
 * hole. Whoever delivers the sub-buffer joins neighbouring holes, and ends the
 * packet's content before a hole that nothing follows.
 *
 * Until then a hole's length field carries, above the length, how many bytes
 * of padding stood before the record: if the hole turns out to be the last
 * thing in the packet, its content ends before that padding.
 */
#ifndef RINGBUF_HOLES_H
#define RINGBUF_HOLES_H

#include "ctf.h"

#define RINGBUF_HOLE_PADDING_SHIFT 25
#define RINGBUF_HOLE_LENGTH_MASK ((UINT32_C(1) << RINGBUF_HOLE_PADDING_SHIFT) - 1)

/*
 * ringbuf_put_filler - turn `size` reserved bytes at `pos`, which lies in `sb`, of which
 * `padding` precede the header, into something readers skip. Not counted yet.
 * Callers:  the owner of those bytes. Progress: wait-free. Ordering: O2.
 */
RINGBUF_FUNC void
ringbuf_put_filler(const struct ringbuf_client *client, const struct ringbuf_channel *ch,
		   struct ringbuf_stream *s, struct ringbuf_subbuf *sb, uint64_t pos, uint64_t size,
		   uint32_t padding)
{
	uint32_t idx = ringbuf_subbuf_idx(ch, s, sb);
	uint8_t *data = ringbuf_subbuf_data(ch, s, idx);
	uint64_t off = ringbuf_subbuf_off(&ch->geometry, pos) + padding;
	uint64_t unit = off / RINGBUF_FILLER_UNIT;
	uint32_t skip;

	size -= padding;
	if (!ringbuf_has_holes(client)) {
		if (client->write_filler)
			client->write_filler(ch, data + off, size);
		else
			ringbuf_data_fill(data + off, 0, size);
		return;
	}
	skip = (uint32_t)(size - ringbuf_ctf_hole_size(ch));
	ringbuf_ctf_write_hole(ch, data + off, skip | padding << RINGBUF_HOLE_PADDING_SHIFT);
	/* relaxed: seen by the deliverer through the count that follows (O2) */
	ringbuf_or(&ringbuf_filler_map(ch, s, idx)[unit / 64], UINT64_C(1) << (unit % 64),
		   RINGBUF_RELAXED);
	ringbuf_store(&sb->fillers, 1, RINGBUF_RELAXED);
}

/* Where a walk over a sub-buffer's fillers stands. */
struct ringbuf_filler_walk {
	ringbuf_atomic_u64 *map;
	uint64_t n_words, word_idx, bits;
	uint64_t off;     /* of the current filler's header, in bytes */
	uint32_t skip;    /* its length field */
};

RINGBUF_FUNC int
ringbuf_next_filler(const struct ringbuf_channel *ch, const uint8_t *data,
		    struct ringbuf_filler_walk *w)
{
	uint64_t size = ringbuf_subbuf_size(&ch->geometry);

	for (;;) {
		while (!w->bits) {
			if (++w->word_idx >= w->n_words)
				return 0;
			w->bits = ringbuf_load(&w->map[w->word_idx], RINGBUF_RELAXED); /* O2 */
		}
		w->off = (w->word_idx * 64 + (uint64_t)__builtin_ctzll(w->bits)) * RINGBUF_FILLER_UNIT;
		w->bits &= w->bits - 1;
		/* Else no such filler was ever put: shared memory was scribbled on. */
		if (w->off + ringbuf_ctf_hole_size(ch) <= size &&
		    ringbuf_ctf_read_hole(ch, data + w->off, &w->skip) &&
		    w->off + ringbuf_ctf_hole_size(ch) + (w->skip & RINGBUF_HOLE_LENGTH_MASK) <= size)
			return 1;
	}
}

RINGBUF_INLINE void
ringbuf_filler_walk_init(const struct ringbuf_channel *ch, struct ringbuf_stream *s, uint32_t idx,
			 struct ringbuf_filler_walk *w)
{
	memset(w, 0, sizeof(*w));
	w->map = ringbuf_filler_map(ch, s, idx);
	w->n_words = ringbuf_filler_map_words(&ch->geometry);
	w->bits = ringbuf_load(&w->map[0], RINGBUF_RELAXED); /* O2 */
}

/* The holes that follow one another without a gap, as one. */
struct ringbuf_hole_run {
	uint64_t begin, end; /* offsets: header of the first, end of the last */
	uint32_t padding;    /* before the first */
};

/* Extend the run by the walk's filler if it touches; returns 0 if it does not. */
RINGBUF_INLINE int
ringbuf_hole_run_extend(const struct ringbuf_channel *ch, const struct ringbuf_filler_walk *w,
			struct ringbuf_hole_run *run)
{
	uint64_t end = w->off + ringbuf_ctf_hole_size(ch) + (w->skip & RINGBUF_HOLE_LENGTH_MASK);

	if (w->off > ringbuf_align_up(run->end, RINGBUF_CTF_ALIGN))
		return 0;
	if (end > run->end)
		run->end = end;
	return 1;
}

RINGBUF_INLINE void
ringbuf_hole_run_start(const struct ringbuf_channel *ch, const struct ringbuf_filler_walk *w,
		       struct ringbuf_hole_run *run)
{
	run->begin = run->end = w->off;
	run->padding = w->skip >> RINGBUF_HOLE_PADDING_SHIFT;
	ringbuf_hole_run_extend(ch, w, run);
}

/*
 * ringbuf_settle_fillers - join the holes of a complete, undelivered sub-buffer,
 * and end its content before a hole that nothing follows.
 * Callers:  its deliverer. Doing it again after dying half-way is harmless: the
 *           content is cut before any hole is rewritten, a joined hole covers
 *           what it joined, and the map is cleared last.
 */
RINGBUF_SLOW void
ringbuf_settle_fillers(const struct ringbuf_channel *ch, struct ringbuf_stream *s, uint32_t idx)
{
	struct ringbuf_subbuf *sb = ringbuf_subbuf_at(ch, s, idx);
	uint8_t *data = ringbuf_subbuf_data(ch, s, idx);
	uint64_t content = ringbuf_load(&sb->close_size, RINGBUF_RELAXED);
	struct ringbuf_filler_walk w;
	struct ringbuf_hole_run run = {0, 0, 0};

	/* 1. Is the last run the end of the content? */
	ringbuf_filler_walk_init(ch, s, idx, &w);
	while (ringbuf_next_filler(ch, data, &w))
		if (w.off < content && (!run.begin || !ringbuf_hole_run_extend(ch, &w, &run)))
			ringbuf_hole_run_start(ch, &w, &run);
	if (run.begin && run.end == content) {
		content = run.begin - run.padding;
		ringbuf_store(&sb->close_size, content, RINGBUF_RELAXED);
	}
	RINGBUF_TESTPOINT(settle_cut);

	/* 2. One hole for each run. */
	run.begin = 0;
	ringbuf_filler_walk_init(ch, s, idx, &w);
	for (;;) {
		int more = ringbuf_next_filler(ch, data, &w) && w.off < content;

		if (more && run.begin && ringbuf_hole_run_extend(ch, &w, &run))
			continue;
		if (run.begin)
			ringbuf_ctf_write_hole(ch, data + run.begin,
					       (uint32_t)(run.end - run.begin - ringbuf_ctf_hole_size(ch)));
		if (!more)
			break;
		ringbuf_hole_run_start(ch, &w, &run);
	}
	RINGBUF_TESTPOINT(settle_joined);

	/* 3. Ready for the next packet. */
	for (uint64_t i = 0; i < w.n_words; i++)
		ringbuf_store(&w.map[i], 0, RINGBUF_RELAXED); /* O3: before the sub-buffer is reused */
	ringbuf_store(&sb->fillers, 0, RINGBUF_RELAXED);
}

#endif /* RINGBUF_HOLES_H */
