/*
 * levels.h - a long time line in little memory. Pure C, no Python.
 *
 * What is too much to be kept one by one is counted in *cells*: of a lane, and of
 * a bin of time. Where there are more cells than may be, bins become twice as
 * wide, and neighbours are joined. So memory is bounded whatever comes, and
 * resolution is as good as that allows.
 *
 * Of what a cell is mostly, a weighted majority vote tells: exact if something has
 * more than half of its time.
 *
 * Functions that can fail return -1 for want of memory; what they were given stays
 * valid.
 */
#ifndef RINGBUF_LEVELS_H
#define RINGBUF_LEVELS_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LEVEL_MAX_BINS 4096 /* that one slice is spread over; beyond, the first and the last half of them */

struct level_cell {
	uint32_t lane, bin;
	uint32_t n;           /* how many began here; 0: the place is empty, or they began further left */
	uint32_t what;        /* what it is mostly */
	int64_t covered;      /* nanoseconds in which something was open, of each added up */
	int64_t self;         /* of those nanoseconds, what they spent in themselves */
	int64_t lead;         /* of `what`, in the vote */
};

/* Linear probing, at most half full. A place is taken if `used` says so. */
struct levels {
	int64_t begin;
	uint64_t width;       /* of a bin, nanoseconds */
	size_t n, limit, mask;
	struct level_cell *cells;
	uint8_t *used;
};

static inline size_t
level_spread(uint32_t lane, uint32_t bin)
{
	uint64_t key = ((uint64_t)lane << 32 | bin) * UINT64_C(0x9e3779b97f4a7c15);

	return (size_t)(key ^ key >> 32);
}

static void
level_free(struct levels *l)
{
	free(l->cells);
	free(l->used);
	l->cells = NULL;
	l->used = NULL;
}

static int
level_init(struct levels *l, int64_t begin, int64_t end, size_t limit)
{
	uint64_t span = end > begin ? (uint64_t)end - (uint64_t)begin : 0;
	size_t size = 64;

	while (size < 2 * (limit + 2))
		size *= 2;
	memset(l, 0, sizeof(*l));
	l->begin = begin;
	l->limit = limit;
	l->mask = size - 1;
	for (l->width = 1; span / l->width >= UINT64_C(1) << 20;)
		l->width *= 2;
	l->cells = (struct level_cell *)calloc(size, sizeof(*l->cells));
	l->used = (uint8_t *)calloc(size, 1);
	if (l->cells && l->used)
		return 0;
	level_free(l);
	return -1;
}

static inline struct level_cell *
level_cell_at(struct levels *l, uint32_t lane, uint32_t bin)
{
	size_t i = level_spread(lane, bin) & l->mask;

	while (l->used[i]) {
		if (l->cells[i].lane == lane && l->cells[i].bin == bin)
			return &l->cells[i];
		i = (i + 1) & l->mask;
	}
	l->used[i] = 1;
	l->n++;
	memset(&l->cells[i], 0, sizeof(l->cells[i]));
	l->cells[i].lane = lane;
	l->cells[i].bin = bin;
	return &l->cells[i];
}

/* Add to a cell; `weight` is what the vote counts. */
static inline void
level_add_to(struct level_cell *c, uint32_t n, uint32_t what, int64_t covered, int64_t self, int64_t weight)
{
	c->n = c->n + n < c->n ? UINT32_MAX : c->n + n;
	c->covered += covered;
	c->self += self;
	if (c->what == what)
		c->lead += weight;
	else if (weight > c->lead) {
		c->what = what;
		c->lead = weight - c->lead;
	} else
		c->lead -= weight;
}

/* Bins become twice as wide until there are few enough. */
static int
level_halve(struct levels *l)
{
	struct levels wide = *l;

	wide.width *= 2;
	wide.n = 0;
	wide.cells = (struct level_cell *)calloc(l->mask + 1, sizeof(*l->cells));
	wide.used = (uint8_t *)calloc(l->mask + 1, 1);
	if (!wide.cells || !wide.used) {
		level_free(&wide);
		return -1;
	}
	for (size_t i = 0; i <= l->mask; i++) {
		const struct level_cell *c = &l->cells[i];

		if (l->used[i])
			level_add_to(level_cell_at(&wide, c->lane, c->bin / 2), c->n, c->what, c->covered, c->self, c->lead);
	}
	level_free(l);
	*l = wide;
	return 0;
}

static inline uint32_t
level_bin(const struct levels *l, int64_t time)
{
	uint64_t bin = time > l->begin ? ((uint64_t)time - (uint64_t)l->begin) / l->width : 0;

	return bin > UINT32_MAX ? UINT32_MAX : (uint32_t)bin;
}

/* What of a slice lies in a bin. */
static inline int64_t
level_overlap(const struct levels *l, uint32_t bin, int64_t begin, int64_t end)
{
	int64_t first = (int64_t)((uint64_t)l->begin + bin * l->width);
	int64_t last = (int64_t)((uint64_t)first + l->width);

	begin = begin > first ? begin : first;
	end = end < last ? end : last;
	return end > begin ? end - begin : 0;
}

/* Count a slice, or, of no duration, an instant, in the cells in which it lies. */
static int
level_add(struct levels *l, uint32_t lane, int64_t begin, int64_t duration, int64_t self, uint32_t what)
{
	int64_t end = duration > 0 && begin <= INT64_MAX - duration ? begin + duration : begin;
	int64_t within = duration > 0 ? end - 1 : end;
	uint32_t first = level_bin(l, begin), last = level_bin(l, within);

	self = self < 0 ? 0 : self > duration ? duration
					      : self;
	while (last - first > LEVEL_MAX_BINS || l->n + (last - first) + 1 > l->limit) {
		if (l->width > UINT64_MAX / 4)
			return 0; /* more lanes than cells: beyond what is drawn */
		if (level_halve(l))
			return -1;
		first = level_bin(l, begin);
		last = level_bin(l, within);
	}
	for (uint32_t bin = first;; bin++) {
		int64_t covered = level_overlap(l, bin, begin, end);
		int64_t own = duration > 0 ? (int64_t)((double)self * (double)covered / (double)duration) : 0;

		level_add_to(level_cell_at(l, lane, bin), bin == first, what, covered, own, covered + 1);
		if (bin == last)
			return 0;
	}
}

/*
 * level_pack - rows for slices that may overlap, such that none hides another.
 *
 * The slices of each track stand together, by begin; where two begin together the
 * longer is first. A slice gets the first row from `wanted` on that is free; where
 * more than `max_rows` are open at a time, the last row.
 */
static int
level_pack(const uint32_t *tracks, const int64_t *begins, const int64_t *ends, const uint32_t *wanted, uint32_t *rows,
	   size_t n, uint32_t max_rows)
{
	int64_t *free_from = (int64_t *)malloc(max_rows * sizeof(*free_from));

	if (!free_from)
		return -1;
	for (size_t i = 0; i < n; i++) {
		uint32_t row = wanted[i] < max_rows ? wanted[i] : max_rows - 1;

		if (!i || tracks[i] != tracks[i - 1])
			for (uint32_t k = 0; k < max_rows; k++)
				free_from[k] = INT64_MIN;
		while (row < max_rows - 1 && free_from[row] > begins[i])
			row++;
		rows[i] = row;
		free_from[row] = ends[i];
	}
	free(free_from);
	return 0;
}

#endif /* RINGBUF_LEVELS_H */
