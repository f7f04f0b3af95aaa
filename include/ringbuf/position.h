/*
 * ringbuf/position.h - arithmetic on positions. Pure: no atomics, no memory.
 *
 * A position is a free-running count of bytes, 48 bits wide, that wraps. The
 * word that producers compare-and-swap carries one in its low 48 bits; the
 * upper 16 hold a tag that changes whenever a reservation is rolled back, so
 * that a producer which sampled the clock before the roll-back cannot win the
 * swap after it (its record would go back in time).
 *
 * With SB = subbuf_size and N = n_subbufs, position P lies in slot
 * (P / SB) mod N, on pass P / (SB * N). A sub-buffer's commit counter never
 * resets: each packet adds SB bytes. So "all bytes of the packet are committed"
 * is one comparison: the counter is a multiple of SB.
 *
 * Example, SB = 4096, N = 4: P = 37000 lies 136 bytes into sub-buffer 9 since
 * the start, which is slot 1 on pass 2. If the sub-buffer that stands there had
 * 8192 bytes committed when that pass began, it is complete when it has 12288.
 */
#ifndef RINGBUF_POSITION_H
#define RINGBUF_POSITION_H

#include "atomic.h"

#define RINGBUF_POS_BITS 48
#define RINGBUF_POS_MASK ((UINT64_C(1) << RINGBUF_POS_BITS) - 1)

#define RINGBUF_SUBBUF_ORDER_MIN 12 /* a page is no smaller */
/* 32 MiB: a hole's length field has 27 bits, two of them lent to discard.h. */
#define RINGBUF_SUBBUF_ORDER_MAX 25
/* 2^14: two sub-buffer indices and a pass share a word (layout.h). And pass * SB must
 * wrap at a multiple of 2^32 when the position wraps, which 2^16 would allow. */
#define RINGBUF_COUNT_ORDER_MAX 14

struct ringbuf_geometry {
	uint32_t subbuf_order; /* log2 of bytes in a sub-buffer */
	uint32_t count_order;  /* log2 of sub-buffers in the ring */
	/* what follows from these, for the fast path: */
	uint32_t ring_order;
	uint32_t idx_mask; /* n_subbufs - 1 */
	uint64_t off_mask; /* subbuf_size - 1 */
};

RINGBUF_INLINE struct ringbuf_geometry
ringbuf_geometry_of(uint32_t subbuf_order, uint32_t count_order)
{
	struct ringbuf_geometry g = {subbuf_order, count_order, subbuf_order + count_order,
				     (UINT32_C(1) << count_order) - 1, (UINT64_C(1) << subbuf_order) - 1};

	return g;
}

RINGBUF_INLINE uint64_t
ringbuf_pos(uint64_t word)
{
	return word & RINGBUF_POS_MASK;
}

/* The word for `pos` with the tag of `word`. */
RINGBUF_INLINE uint64_t
ringbuf_word_at(uint64_t word, uint64_t pos)
{
	return (word & ~RINGBUF_POS_MASK) | pos;
}

/* The word for `pos` with a tag no recent word has had. */
RINGBUF_INLINE uint64_t
ringbuf_word_retagged(uint64_t word, uint64_t pos)
{
	return ringbuf_word_at(word + (RINGBUF_POS_MASK + 1), pos);
}

RINGBUF_INLINE uint64_t
ringbuf_pos_add(uint64_t pos, uint64_t len)
{
	return (pos + len) & RINGBUF_POS_MASK;
}

RINGBUF_INLINE uint64_t
ringbuf_pos_sub(uint64_t pos, uint64_t len)
{
	return (pos - len) & RINGBUF_POS_MASK;
}

/* a - b, signed: right as long as they are less than 2^47 bytes apart. */
RINGBUF_INLINE int64_t
ringbuf_pos_diff(uint64_t a, uint64_t b)
{
	return (int64_t)((a - b) << (64 - RINGBUF_POS_BITS)) >> (64 - RINGBUF_POS_BITS);
}

RINGBUF_INLINE uint64_t
ringbuf_subbuf_size(const struct ringbuf_geometry *g)
{
	return g->off_mask + 1;
}

RINGBUF_INLINE uint32_t
ringbuf_n_subbufs(const struct ringbuf_geometry *g)
{
	return g->idx_mask + 1;
}

RINGBUF_INLINE uint64_t
ringbuf_ring_size(const struct ringbuf_geometry *g)
{
	return UINT64_C(1) << g->ring_order;
}

/* Bytes from the start of the sub-buffer that holds `pos`. */
RINGBUF_INLINE uint64_t
ringbuf_subbuf_off(const struct ringbuf_geometry *g, uint64_t pos)
{
	return pos & g->off_mask;
}

RINGBUF_INLINE uint64_t
ringbuf_subbuf_begin(const struct ringbuf_geometry *g, uint64_t pos)
{
	return pos & RINGBUF_POS_MASK & ~g->off_mask;
}

/* The first sub-buffer boundary at or after `pos`. */
RINGBUF_INLINE uint64_t
ringbuf_subbuf_ceil(const struct ringbuf_geometry *g, uint64_t pos)
{
	return ringbuf_subbuf_begin(g, pos + ringbuf_subbuf_size(g) - 1);
}

RINGBUF_INLINE uint32_t
ringbuf_slot_idx(const struct ringbuf_geometry *g, uint64_t pos)
{
	return (uint32_t)(pos >> g->subbuf_order) & g->idx_mask;
}

RINGBUF_INLINE uint64_t
ringbuf_pass(const struct ringbuf_geometry *g, uint64_t pos)
{
	return ringbuf_pos(pos) >> g->ring_order;
}

RINGBUF_INLINE uint64_t
ringbuf_pass_before(const struct ringbuf_geometry *g, uint64_t pass)
{
	return (pass - 1) & (RINGBUF_POS_MASK >> g->ring_order);
}

/*
 * A commit counter packs records << 32 | bytes. The carries of the lower half
 * into the upper one cancel in a difference of two counters of one sub-buffer.
 */
#define RINGBUF_ONE_RECORD (UINT64_C(1) << 32)

/*
 * Is the sub-buffer complete with the addition that made its counter `committed`? A packet
 * begins and ends at multiples of the sub-buffer's size, and something was added.
 */
RINGBUF_INLINE int
ringbuf_is_complete(const struct ringbuf_geometry *g, uint64_t committed)
{
	return (committed & g->off_mask) == 0;
}

RINGBUF_INLINE uint32_t
ringbuf_records_between(uint64_t earlier, uint64_t later)
{
	return (uint32_t)((later - earlier) >> 32);
}

/* The oldest sub-buffer that a producer standing at `produced` has not begun to reuse. */
RINGBUF_INLINE uint64_t
ringbuf_oldest_begin(const struct ringbuf_geometry *g, uint64_t produced)
{
	return ringbuf_pos_sub(ringbuf_subbuf_ceil(g, produced), ringbuf_ring_size(g));
}

RINGBUF_INLINE uint64_t
ringbuf_align_up(uint64_t value, uint64_t align)
{
	return (value + align - 1) & ~(align - 1);
}

#endif /* RINGBUF_POSITION_H */
