/* position.h: arithmetic on positions, against the definitions done in 128 bits. */
#include "harness.h"

/* Every geometry that a channel may have. */
#define FOR_ALL_GEOMETRIES(g)                                                                        \
	for (struct ringbuf_geometry g = ringbuf_geometry_of(RINGBUF_SUBBUF_ORDER_MIN, 1);            \
	     g.subbuf_order <= RINGBUF_SUBBUF_ORDER_MAX;                                              \
	     g = g.count_order == RINGBUF_COUNT_ORDER_MAX                                             \
			 ? ringbuf_geometry_of(g.subbuf_order + 1, 1)                                 \
			 : ringbuf_geometry_of(g.subbuf_order, g.count_order + 1))

/* A position worth trying: anywhere, or within a few bytes of a sub-buffer, of the ring, or of the wrap. */
static uint64_t
some_position(const struct ringbuf_geometry *g)
{
	uint64_t near = rnd_below(9) - 4;

	switch (rnd_below(4)) {
	case 0: return rnd() & RINGBUF_POS_MASK;
	case 1: return ((rnd() << g->subbuf_order) + near) & RINGBUF_POS_MASK;
	case 2: return ((rnd() << (g->subbuf_order + g->count_order)) + near) & RINGBUF_POS_MASK;
	default: return (near - (rnd_below(4) << (g->subbuf_order + g->count_order))) & RINGBUF_POS_MASK;
	}
}

TEST(the_worked_example_holds)
{
	struct ringbuf_geometry g = ringbuf_geometry_of(12, 2);

	EQ(ringbuf_subbuf_size(&g), 4096);
	EQ(ringbuf_n_subbufs(&g), 4);
	EQ(ringbuf_subbuf_off(&g, 37000), 136);
	EQ(ringbuf_subbuf_begin(&g, 37000), 9 * 4096);
	EQ(ringbuf_slot_idx(&g, 37000), 1);
	EQ(ringbuf_pass(&g, 37000), 2);
	OK(!ringbuf_is_complete(&g, 8192 + 136));
	OK(ringbuf_is_complete(&g, 12288));
}

TEST(adding_and_subtracting_wrap_at_48_bits)
{
	EQ(ringbuf_pos_add(POS_END - 1, 1), 0);
	EQ(ringbuf_pos_add(POS_END - 8, 24), 16);
	EQ(ringbuf_pos_sub(0, 1), POS_END - 1);
	EQ(ringbuf_pos_sub(16, 24), POS_END - 8);
	for (int i = 0; i < 100000; i++) {
		uint64_t pos = rnd() & RINGBUF_POS_MASK, len = rnd() >> rnd_below(64);

		EQ(ringbuf_pos_sub(ringbuf_pos_add(pos, len), len), pos);
		EQ(ringbuf_pos_add(pos, len), (pos + len % POS_END) % POS_END);
	}
}

TEST(a_difference_is_signed_and_right_up_to_half_the_range)
{
	EQ(ringbuf_pos_diff(0, 0), 0);
	EQ(ringbuf_pos_diff(0, POS_END - 1), 1);
	EQ(ringbuf_pos_diff(POS_END - 1, 0), -1);
	EQ(ringbuf_pos_diff(5, POS_END - 5), 10);
	for (int i = 0; i < 100000; i++) {
		uint64_t a = rnd() & RINGBUF_POS_MASK;
		int64_t d = (int64_t)(rnd_below(POS_END - 1)) - (int64_t)(POS_END / 2 - 1);

		EQ(ringbuf_pos_diff(ringbuf_pos_add(a, (uint64_t)d), a), d);
		EQ(ringbuf_pos_diff(a, ringbuf_pos_add(a, (uint64_t)d)), -d);
	}
}

TEST(the_tag_and_the_position_share_a_word_without_touching)
{
	for (int i = 0; i < 100000; i++) {
		uint64_t word = rnd(), pos = rnd() & RINGBUF_POS_MASK;

		EQ(ringbuf_pos(word), word % POS_END);
		EQ(ringbuf_pos(ringbuf_word_at(word, pos)), pos);
		EQ(ringbuf_word_at(word, pos) >> 48, word >> 48);
		EQ(ringbuf_pos(ringbuf_word_retagged(word, pos)), pos);
		EQ(ringbuf_word_retagged(word, pos) >> 48, ((word >> 48) + 1) & 0xffff);
	}
}

TEST(the_tag_returns_only_after_65536_changes)
{
	uint64_t first = ringbuf_word_at(0, 4180), word = first;

	for (int i = 1; i < 65536; i++) {
		word = ringbuf_word_retagged(word, 4180);
		NE(word, first);
	}
	EQ(ringbuf_word_retagged(word, 4180), first);
}

TEST(sub_buffer_arithmetic_agrees_with_division)
{
	FOR_ALL_GEOMETRIES (g) {
		unsigned __int128 size = ringbuf_subbuf_size(&g), ring = ringbuf_ring_size(&g);

		EQ(size, (unsigned __int128)1 << g.subbuf_order);
		EQ(ring, size * ringbuf_n_subbufs(&g));
		for (int i = 0; i < 200; i++) {
			uint64_t pos = some_position(&g);

			EQ(ringbuf_subbuf_off(&g, pos), pos % size);
			EQ(ringbuf_subbuf_begin(&g, pos), pos - pos % size);
			EQ(ringbuf_subbuf_ceil(&g, pos), (pos + size - 1) / size * size % POS_END);
			EQ(ringbuf_slot_idx(&g, pos), pos / size % ringbuf_n_subbufs(&g));
			EQ(ringbuf_pass(&g, pos), pos / ring);
			EQ(ringbuf_pass(&g, pos | UINT64_C(0xabcd) << 48), pos / ring);
			EQ(ringbuf_subbuf_off(&g, pos | UINT64_C(0xabcd) << 48), pos % size);
		}
	}
}

TEST(the_pass_before_is_known_also_across_the_wrap)
{
	FOR_ALL_GEOMETRIES (g) {
		uint64_t ring = ringbuf_ring_size(&g);

		EQ((ring << (48 - g.subbuf_order - g.count_order)) % POS_END, 0);
		for (int i = 0; i < 100; i++) {
			uint64_t pos = some_position(&g), after = ringbuf_pos_add(pos, ring);

			EQ(ringbuf_pass_before(&g, ringbuf_pass(&g, after)), ringbuf_pass(&g, pos));
		}
		EQ(ringbuf_pass_before(&g, 0), ringbuf_pass(&g, POS_END - 1));
	}
}

TEST(the_oldest_sub_buffer_is_a_ring_behind_the_next_boundary)
{
	FOR_ALL_GEOMETRIES (g) {
		uint64_t ring = ringbuf_ring_size(&g), size = ringbuf_subbuf_size(&g);

		EQ(ringbuf_oldest_begin(&g, 0), POS_END - ring);
		EQ(ringbuf_oldest_begin(&g, 1), (POS_END - ring + size) % POS_END);
		EQ(ringbuf_oldest_begin(&g, size), (POS_END - ring + size) % POS_END);
		for (int i = 0; i < 100; i++) {
			uint64_t pos = some_position(&g), oldest = ringbuf_oldest_begin(&g, pos);

			EQ(oldest % size, 0);
			LE(ringbuf_pos_diff(pos, oldest), (int64_t)ring);
			GT(ringbuf_pos_diff(pos, oldest), (int64_t)(ring - size));
		}
	}
}

TEST(a_slot_word_tells_neighbouring_passes_and_all_sub_buffers_apart)
{
	FOR_ALL_GEOMETRIES (g) {
		struct ringbuf_channel ch = {.geometry = g};
		uint64_t ring = ringbuf_ring_size(&g);

		LE(ringbuf_n_subbufs(&g), RINGBUF_REF_IDX_MASK); /* the spare too */
		for (int i = 0; i < 100; i++) {
			uint64_t pos = some_position(&g), before = ringbuf_pos_sub(pos, ring);
			uint64_t ref = ringbuf_ref_pass_at(&ch, pos) << RINGBUF_REF_PASS_SHIFT;

			NE(ringbuf_ref_pass_at(&ch, pos), ringbuf_ref_pass_at(&ch, before));
			EQ(ringbuf_ref_pass_before(&ch, pos), ringbuf_ref_pass_at(&ch, before));
			EQ(ringbuf_ref_pass(ref), ringbuf_ref_pass_at(&ch, pos));
			EQ(ringbuf_ref_pass(ref | RINGBUF_REF_LOST | RINGBUF_REF_READ | RINGBUF_REF_HELD |
					    RINGBUF_REF_IDX_MASK | RINGBUF_REF_SPARE_MASK),
			   ringbuf_ref_pass_at(&ch, pos));
		}
	}
}

TEST(records_are_counted_across_carries_of_the_byte_half)
{
	for (int i = 0; i < 100000; i++) {
		uint64_t counter = rnd(), at = counter;
		uint32_t records = (uint32_t)rnd_below(1000), bytes = 0;

		for (uint32_t n = 0; n < records; n++) {
			uint32_t size = (uint32_t)rnd_below(1 << 15);

			at += RINGBUF_ONE_RECORD + size;
			bytes += size;
		}
		EQ(ringbuf_records_between(counter, at), records);
		EQ((uint32_t)(at - counter), bytes);
	}
	EQ(ringbuf_records_between(UINT64_C(0xffffffffffffffff), UINT64_C(0x100000007)), 1);
	EQ(ringbuf_records_between(UINT64_C(0xfffffffe00000000), UINT64_C(3) << 32), 5);
}

TEST(aligning_up_gives_the_next_multiple)
{
	for (uint64_t align = 1; align <= UINT64_C(1) << 31; align *= 2)
		for (int i = 0; i < 1000; i++) {
			uint64_t v = rnd_below(UINT64_C(1) << 40);

			EQ(ringbuf_align_up(v, align), (v + align - 1) / align * align);
		}
}
