/*
 * ringbuf/metrics.h - counters, gauges and histograms: counted in place, without records.
 *
 * The area has two parts. The declarations are a log, appended to under the
 * schema lock and never changed: of metrics (name, unit, labels, bounds), and of
 * their series, one for each combination of label values. A series has some
 * *words*, at the same place in each *row*. There is a row for each CPU, and one
 * more, the shared row:
 *
 *	counter    1 word      rows: what was added on this CPU
 *	gauge      1 word      rows: what was added on this CPU; shared: what was set, less
 *	                       the sum of the rows at that moment
 *	histogram  n + 2       rows: the sum of the values, then a count for each of n + 1 buckets
 *
 * The value is the sum over the rows, and the shared one. So counting is one
 * addition to a word that no other CPU writes: a thread that is moved between
 * the look at its CPU and the addition writes another one's once. For that the
 * addition is atomic, for nothing else, and it is relaxed: a word says nothing
 * about other memory. Nothing can be lost by a death: a count is one instruction,
 * or a swap that was done or was not. (A histogram's value is two: the bucket is
 * first, so whoever dies between leaves a count that is right, and a sum without
 * that value.)
 *
 * A *process's* series belongs to a process image (image.h). When the image is
 * gone, readers of a living channel leave the series out, and the next image that
 * wants one with these labels takes it over.
 *
 * Labels are texts, one after the other, each with its size (u32) before it.
 */
#ifndef RINGBUF_METRICS_H
#define RINGBUF_METRICS_H

#include "channel.h"

enum ringbuf_metric_kind {
	RINGBUF_COUNTER = 0,
	RINGBUF_GAUGE,
	RINGBUF_HISTOGRAM,
	RINGBUF_SERIES, /* no metric, but a series of one */
};

#define RINGBUF_METRIC_REAL 1u    /* counters: doubles are added, not integers */
#define RINGBUF_METRIC_PROCESS 2u /* gauges: one for each process */
#define RINGBUF_METRIC_REST 4u    /* a series: of all for which there was no room */
#define RINGBUF_BOUNDS_MAX 1024
#define RINGBUF_OWNER_GONE UINT64_MAX /* in a private copy: of a process that was gone when it was made */

struct ringbuf_metric_entry {
	uint32_t size;   /* of this entry, a multiple of 8 */
	uint32_t kind, flags;
	uint32_t metric; /* its number: 0, 1, ... */
	uint32_t word;   /* series: the first of its words */
	uint32_t n_bounds;
	uint32_t name_size, unit_size, help_size, labels_size; /* of a series: the last alone, its label values */
	ringbuf_atomic_u64 owner; /* series: image << 32 | pid, 0: of no process; changed under the lock */
	/* then n_bounds doubles, and the texts: no NULs at their ends */
};

/* One declaration. The texts are not NUL-terminated. */
struct ringbuf_metric {
	uint32_t kind, flags, number;
	uint32_t n_bounds;
	const double *bounds; /* ascending */
	const char *name, *unit, *help, *labels; /* labels: field text, as in schema.h */
	uint32_t name_size, unit_size, help_size, labels_size;
	uint32_t word, rest; /* after declaring: of the series without labels; of all for which there is no room */
	uint64_t owner;      /* of a series that was read */
};

/* Words of a series. */
RINGBUF_INLINE uint32_t
ringbuf_metric_words(const struct ringbuf_metric *m)
{
	return m->kind == RINGBUF_HISTOGRAM ? m->n_bounds + 2 : 1;
}

/* ---- counting ---- */

RINGBUF_INLINE ringbuf_atomic_u64 *
ringbuf_metric_word(const struct ringbuf_channel *ch, uint32_t row, uint32_t word)
{
	return (ringbuf_atomic_u64 *)(void *)(ch->metrics0 + row * ch->metrics_stride) + word;
}

/* A word of this CPU's row. `word` comes from declaring: it is inside the row. */
RINGBUF_INLINE ringbuf_atomic_u64 *
ringbuf_metric_here(const struct ringbuf_channel *ch, uint32_t word)
{
	uint32_t cpu = ringbuf_cpu();

	return ringbuf_metric_word(ch, RINGBUF_LIKELY(cpu < ch->metrics_rows) ? cpu : cpu % ch->metrics_rows, word);
}

/*
 * ringbuf_metric_add - add n to a counter of integers. Modulo 2^64.
 * Callers:  any thread or signal handler; nothing is looked at, not even whether the channel is disabled.
 * Progress: wait-free.
 */
RINGBUF_INLINE void
ringbuf_metric_add(const struct ringbuf_channel *ch, uint32_t word, uint64_t n)
{
	ringbuf_add(ringbuf_metric_here(ch, word), n, RINGBUF_RELAXED); /* relaxed: a sum, that speaks for nothing else */
}

RINGBUF_INLINE double
ringbuf_as_real(uint64_t bits)
{
	double value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}

RINGBUF_INLINE uint64_t
ringbuf_as_bits(double value)
{
	uint64_t bits;

	memcpy(&bits, &value, sizeof(bits));
	return bits;
}

RINGBUF_INLINE void
ringbuf_add_real(ringbuf_atomic_u64 *at, double value)
{
	uint64_t old = ringbuf_load(at, RINGBUF_RELAXED); /* relaxed, as the swap: a sum, that speaks for nothing else */

	while (!ringbuf_cas(at, &old, ringbuf_as_bits(ringbuf_as_real(old) + value), RINGBUF_RELAXED, RINGBUF_RELAXED))
		continue;
}

/*
 * ringbuf_metric_add_real - the same for a gauge, or a counter with RINGBUF_METRIC_REAL.
 * Progress: lock-free; only who has moved to another CPU is in the way.
 */
RINGBUF_INLINE void
ringbuf_metric_add_real(const struct ringbuf_channel *ch, uint32_t word, double value)
{
	ringbuf_add_real(ringbuf_metric_here(ch, word), value);
}

/* The rows of one word: as integers. */
RINGBUF_FUNC uint64_t
ringbuf_metric_sum(const struct ringbuf_channel *ch, uint32_t word)
{
	uint64_t sum = 0;

	for (uint32_t row = 0; row < ch->metrics_rows; row++)
		sum += ringbuf_load(ringbuf_metric_word(ch, row, word), RINGBUF_RELAXED); /* relaxed: what is there */
	return sum;
}

/* The same as doubles, with what the shared row has. */
RINGBUF_FUNC double
ringbuf_metric_real(const struct ringbuf_channel *ch, uint32_t word)
{
	double sum = 0;

	for (uint32_t row = 0; row <= ch->metrics_rows; row++)
		/* relaxed: what is there */
		sum += ringbuf_as_real(ringbuf_load(ringbuf_metric_word(ch, row, word), RINGBUF_RELAXED));
	return sum;
}

/*
 * ringbuf_gauge_set - make it `value`. Additions that run meanwhile count before or after; of two that
 * set it, the one that stores last.
 * Progress: wait-free: a load for each CPU, and a store.
 */
RINGBUF_FUNC void
ringbuf_gauge_set(const struct ringbuf_channel *ch, uint32_t word, double value)
{
	double sum = 0;

	for (uint32_t row = 0; row < ch->metrics_rows; row++)
		sum += ringbuf_as_real(ringbuf_load(ringbuf_metric_word(ch, row, word), RINGBUF_RELAXED));
	/* relaxed, as the loads: one word has all that was set */
	ringbuf_store(ringbuf_metric_word(ch, ch->metrics_rows, word), ringbuf_as_bits(value - sum), RINGBUF_RELAXED);
}

/* The bucket of a value: the first whose bound is not below it; n, if it is above all, or no number. */
RINGBUF_INLINE uint32_t
ringbuf_bucket_of(const double *bounds, uint32_t n, double value)
{
	uint32_t first = 0;

	while (n) {
		uint32_t half = n / 2, above = !(value <= bounds[first + half]);

		first += above ? half + 1 : 0;
		n = above ? n - half - 1 : half;
	}
	return first;
}

/* ringbuf_observe - a value of a histogram: one more in its bucket, and added to the sum. As ringbuf_metric_add_real. */
RINGBUF_INLINE void
ringbuf_observe(const struct ringbuf_channel *ch, const struct ringbuf_metric *m, uint32_t word, double value)
{
	ringbuf_atomic_u64 *at = ringbuf_metric_here(ch, word);

	/* relaxed: a count, as in ringbuf_metric_add */
	ringbuf_add(at + 1 + ringbuf_bucket_of(m->bounds, m->n_bounds, value), 1, RINGBUF_RELAXED);
	RINGBUF_TESTPOINT(metric_bucket_counted);
	ringbuf_add_real(at, value);
}

/* ---- declarations ---- */

/*
 * ringbuf_next_metric - the declaration at *off, of a metric or a series, and *off moved past it.
 * Start with *off = 0. Returns 0 at the end, or where the area makes no sense. The words of a series
 * are those of its metric, which the caller has seen before: ringbuf_series_fits.
 * Ordering: O16. Callers: anybody.
 */
RINGBUF_FUNC int
ringbuf_next_metric(const struct ringbuf_channel *ch, uint64_t *off, struct ringbuf_metric *out)
{
	/* O16 acquire: the entries below `used` are complete. Pairs with ringbuf_append_metric. */
	uint64_t used = ringbuf_load(&ch->control->metrics_used, RINGBUF_ACQUIRE), need;
	struct ringbuf_metric_entry e;
	const uint8_t *at;

	if (used > ch->metrics_size || *off > used || used - *off < sizeof(e))
		return 0;
	at = ch->base + ch->metrics_off + *off;
	memcpy((void *)&e, at, sizeof(e)); /* once: what is checked is what is used */
	if (e.n_bounds > RINGBUF_BOUNDS_MAX)
		return 0;
	need = sizeof(e) + e.n_bounds * sizeof(double) + e.name_size + (uint64_t)e.unit_size + e.help_size + e.labels_size;
	if (e.size > used - *off || e.size % 8 || need > e.size || e.kind > RINGBUF_SERIES)
		return 0;
	memset(out, 0, sizeof(*out));
	out->kind = e.kind;
	out->flags = e.flags;
	out->number = e.metric;
	out->word = e.word;
	out->owner = ringbuf_load(&e.owner, RINGBUF_RELAXED); /* relaxed: our copy */
	out->n_bounds = e.n_bounds;
	out->bounds = (const double *)(const void *)(at + sizeof(e));
	out->name = (const char *)(out->bounds + e.n_bounds);
	out->name_size = e.name_size;
	out->unit = out->name + e.name_size;
	out->unit_size = e.unit_size;
	out->help = out->unit + e.unit_size;
	out->help_size = e.help_size;
	out->labels = out->help + e.help_size;
	out->labels_size = e.labels_size;
	*off += e.size;
	return 1;
}

/* Do the words that a series claims to have lie inside a row? */
RINGBUF_INLINE int
ringbuf_series_fits(const struct ringbuf_channel *ch, const struct ringbuf_metric *m, uint32_t word)
{
	return (uint64_t)word + ringbuf_metric_words(m) <= ch->metrics_size / 8;
}

RINGBUF_FUNC int
ringbuf_text_equals(const char *a, uint32_t a_size, const char *b, uint32_t b_size)
{
	return a_size == b_size && !memcmp(a, b, a_size);
}

/* Of one name: is it the same metric? The help may differ. */
RINGBUF_FUNC int
ringbuf_metric_equals(const struct ringbuf_metric *a, const struct ringbuf_metric *b)
{
	return a->kind == b->kind && a->flags == b->flags && a->n_bounds == b->n_bounds &&
	       !memcmp(a->bounds, b->bounds, a->n_bounds * sizeof(double)) &&
	       ringbuf_text_equals(a->unit, a->unit_size, b->unit, b->unit_size) &&
	       ringbuf_text_equals(a->labels, a->labels_size, b->labels, b->labels_size);
}

/* Where entries may be added, under the lock: not in a log whose end nobody finds. */
RINGBUF_FUNC uint8_t *
ringbuf_metrics_end(const struct ringbuf_channel *ch, uint64_t size)
{
	uint64_t used = ringbuf_load(&ch->control->metrics_used, RINGBUF_RELAXED); /* relaxed: locked */

	return used <= ch->metrics_size && size <= ch->metrics_size - used ? ch->base + ch->metrics_off + used : NULL;
}

/* `n` words more of each row. Returns the first, or -ENOSPC. Under the lock. */
RINGBUF_FUNC int64_t
ringbuf_take_words(const struct ringbuf_channel *ch, uint32_t n)
{
	uint64_t words = ringbuf_load(&ch->control->metrics_words, RINGBUF_RELAXED); /* relaxed, both: locked */

	if (words > ch->metrics_size / 8 || n > ch->metrics_size / 8 - words)
		return -ENOSPC;
	ringbuf_store(&ch->control->metrics_words, words + n, RINGBUF_RELAXED);
	return (int64_t)words;
}

RINGBUF_FUNC uint64_t
ringbuf_metric_entry_size(const struct ringbuf_metric *m)
{
	return ringbuf_align_up(sizeof(struct ringbuf_metric_entry) + m->n_bounds * sizeof(double) + m->name_size +
					(uint64_t)m->unit_size + m->help_size + m->labels_size,
				8);
}

/* Under the lock. A death before the last store leaves no trace but words that nobody uses. */
RINGBUF_FUNC int
ringbuf_append_metric(const struct ringbuf_channel *ch, const struct ringbuf_metric *m)
{
	uint64_t size = ringbuf_metric_entry_size(m);
	uint8_t *at = ringbuf_metrics_end(ch, size), *text = at + sizeof(struct ringbuf_metric_entry);
	struct ringbuf_metric_entry *e = (struct ringbuf_metric_entry *)(void *)at;

	if (!at)
		return -ENOSPC;
	memset(at, 0, size);
	e->size = (uint32_t)size;
	e->kind = m->kind;
	e->flags = m->flags;
	e->metric = m->number;
	e->word = m->word;
	e->n_bounds = m->n_bounds;
	e->name_size = m->name_size;
	e->unit_size = m->unit_size;
	e->help_size = m->help_size;
	e->labels_size = m->labels_size;
	ringbuf_store(&e->owner, m->owner, RINGBUF_RELAXED); /* relaxed: published below */
	memcpy(text, m->bounds, m->n_bounds * sizeof(double));
	text += m->n_bounds * sizeof(double);
	memcpy(text, m->name, m->name_size);
	text += m->name_size;
	memcpy(text, m->unit, m->unit_size);
	text += m->unit_size;
	memcpy(text, m->help, m->help_size);
	text += m->help_size;
	memcpy(text, m->labels, m->labels_size);
	RINGBUF_TESTPOINT(metric_written);
	/* O16 release: the entry. Pairs with ringbuf_next_metric. */
	ringbuf_store(&ch->control->metrics_used,
		      ringbuf_load(&ch->control->metrics_used, RINGBUF_RELAXED) + size, RINGBUF_RELEASE);
	return 0;
}

/* Who a series of this metric belongs to: nobody, or this process. One whose end cannot be seen has no image. */
RINGBUF_FUNC uint64_t
ringbuf_series_owner(const struct ringbuf_channel *ch, const struct ringbuf_metric *m)
{
	if (!(m->flags & RINGBUF_METRIC_PROCESS))
		return 0;
	return (uint64_t)(ch->image_lock ? ch->image : 0) << 32 | (uint32_t)getpid();
}

/*
 * Take over the series whose entry ends at `end`, of a process that is gone: under the lock, so nobody else does,
 * and the dead add nothing. All rows are made 0 before it has another owner.
 */
RINGBUF_FUNC void
ringbuf_adopt_series(const struct ringbuf_channel *ch, const struct ringbuf_metric *m, uint32_t word, uint64_t end,
		     uint64_t owner)
{
	uint8_t *at = ch->base + ch->metrics_off + end;
	struct ringbuf_metric_entry *e = (struct ringbuf_metric_entry *)(void *)at;

	/* relaxed, all: a reader meanwhile shows the dead's gauge at 0, or not at all */
	for (uint32_t row = 0; row <= ch->metrics_rows; row++)
		for (uint32_t i = 0; i < ringbuf_metric_words(m); i++)
			ringbuf_store(ringbuf_metric_word(ch, row, word + i), 0, RINGBUF_RELAXED);
	ringbuf_store(&e->owner, owner, RINGBUF_RELAXED);
}

/* Is it a series of `m` with these labels, of `owner` or, to be adopted, of a process that is gone? */
RINGBUF_FUNC int
ringbuf_is_series(const struct ringbuf_metric *have, const struct ringbuf_metric *m, const char *labels, uint32_t size)
{
	return have->kind == RINGBUF_SERIES && have->number == m->number && !(have->flags & RINGBUF_METRIC_REST) &&
	       ringbuf_text_equals(have->labels, have->labels_size, labels, size);
}

/*
 * ringbuf_owner_is_gone - has the process of a series ended? `fd`: any descriptor of the region's file. A series
 * of no process, or of one whose end cannot be seen, is not gone.
 */
RINGBUF_FUNC int
ringbuf_owner_is_gone(int fd, uint64_t owner)
{
	uint32_t image = (uint32_t)(owner >> 32);
	struct flock lock = ringbuf_file_lock(F_WRLCK, RINGBUF_IMAGE_LOCK + image, 1);

	if (owner == RINGBUF_OWNER_GONE)
		return 1;
	return image && fd >= 0 && fcntl(fd, RINGBUF_OFD_GETLK, &lock) == 0 && lock.l_type == F_UNLCK;
}

/* My own lock tells whether one can know: where it is not seen, the descriptor is closed, or another file's. */
RINGBUF_FUNC int
ringbuf_may_adopt(const struct ringbuf_channel *ch, uint64_t owner, uint64_t from)
{
	return owner >> 32 && !ringbuf_owner_is_gone(ch->fd, owner) && ringbuf_owner_is_gone(ch->fd, from);
}

/* The word of a series that is there, or -ENOENT. Under the lock if `adopts`. */
RINGBUF_FUNC int64_t
ringbuf_find_series(const struct ringbuf_channel *ch, const struct ringbuf_metric *m, const char *labels, uint32_t size,
		    int adopts)
{
	uint64_t off = 0, before = 0, owner = ringbuf_series_owner(ch, m);
	struct ringbuf_metric have;

	for (; ringbuf_next_metric(ch, &off, &have); before = off) {
		if (!ringbuf_is_series(&have, m, labels, size) || !ringbuf_series_fits(ch, m, have.word))
			continue;
		if (have.owner == owner)
			return have.word;
		if (adopts && ringbuf_may_adopt(ch, owner, have.owner)) {
			ringbuf_adopt_series(ch, m, have.word, before, owner);
			return have.word;
		}
	}
	return -ENOENT;
}

/* Under the lock: one more series. Returns its word, or -ENOSPC. */
RINGBUF_FUNC int64_t
ringbuf_add_series(const struct ringbuf_channel *ch, const struct ringbuf_metric *m, const char *labels, uint32_t size,
		   uint32_t flags)
{
	struct ringbuf_metric series;
	int64_t word;

	memset(&series, 0, sizeof(series));
	series.kind = RINGBUF_SERIES;
	series.flags = flags;
	series.number = m->number;
	series.labels = labels;
	series.labels_size = size;
	series.name = series.unit = series.help = "";
	series.bounds = (const double *)(const void *)"";
	series.owner = flags & RINGBUF_METRIC_REST ? 0 : ringbuf_series_owner(ch, m);
	if (!ringbuf_metrics_end(ch, ringbuf_metric_entry_size(&series)))
		return -ENOSPC;
	word = ringbuf_take_words(ch, ringbuf_metric_words(m));
	if (word < 0)
		return word;
	series.word = (uint32_t)word;
	return ringbuf_append_metric(ch, &series) ? -ENOSPC : word;
}

/* The series that metrics have from the start: the one without labels, or the one of all that find no room. */
RINGBUF_FUNC int
ringbuf_first_series(const struct ringbuf_channel *ch, struct ringbuf_metric *m)
{
	uint32_t flags = m->labels_size || m->flags & RINGBUF_METRIC_PROCESS ? RINGBUF_METRIC_REST : 0;
	struct ringbuf_metric have;
	int64_t word = -ENOENT;

	for (uint64_t off = 0; word < 0 && ringbuf_next_metric(ch, &off, &have);)
		if (have.kind == RINGBUF_SERIES && have.number == m->number &&
		    (have.flags & RINGBUF_METRIC_REST) == flags && ringbuf_series_fits(ch, m, have.word))
			word = have.word;
	if (word < 0)
		word = ringbuf_add_series(ch, m, "", 0, flags);
	if (word < 0)
		return (int)word;
	m->word = m->rest = (uint32_t)word;
	return 0;
}

RINGBUF_FUNC int
ringbuf_check_metric(const struct ringbuf_metric *m)
{
	if (m->kind > RINGBUF_HISTOGRAM || !m->name_size || m->name_size > 65535 || m->unit_size > 65535 ||
	    m->help_size > 65535 || m->labels_size > 65535 || m->n_bounds > RINGBUF_BOUNDS_MAX ||
	    (m->kind == RINGBUF_HISTOGRAM) != (m->n_bounds > 0))
		return -EINVAL;
	for (uint32_t i = 0; i < m->n_bounds; i++)
		if (!(m->bounds[i] - m->bounds[i] == 0) || (i && !(m->bounds[i - 1] < m->bounds[i])))
			return -EINVAL; /* not finite, or not ascending */
	return 0;
}

/* Under the lock. */
RINGBUF_FUNC int
ringbuf_declare_metric_locked(const struct ringbuf_channel *ch, struct ringbuf_metric *m)
{
	struct ringbuf_metric have;
	const uint8_t *at;
	uint32_t number = 0;

	for (uint64_t off = 0; ringbuf_next_metric(ch, &off, &have);) {
		if (have.kind == RINGBUF_SERIES)
			continue;
		if (ringbuf_text_equals(have.name, have.name_size, m->name, m->name_size)) {
			if (!ringbuf_metric_equals(&have, m))
				return -EEXIST;
			m->number = have.number;
			m->bounds = have.bounds;
			return ringbuf_first_series(ch, m);
		}
		number++;
	}
	m->number = number;
	at = ringbuf_metrics_end(ch, 0);
	if (ringbuf_append_metric(ch, m))
		return -ENOSPC;
	m->bounds = (const double *)(const void *)(at + sizeof(struct ringbuf_metric_entry));
	RINGBUF_TESTPOINT(metric_without_series);
	return ringbuf_first_series(ch, m);
}

/*
 * ringbuf_declare_metric - a metric, declared now if it was not yet: *m says what it is to be, and afterwards its
 * number, the word of its series if it has no labels, and bounds in the region.
 * Callers:  any thread; takes a lock that survives its owner's death.
 * Returns:  0; -EEXIST one of that name is something else; -ENOSPC the area is full; -EINVAL no name, a text over
 *           64 KiB, bounds that do not ascend or are too many; -EBUSY, -errno as ringbuf_declare_event.
 */
RINGBUF_FUNC int
ringbuf_declare_metric(const struct ringbuf_channel *ch, struct ringbuf_metric *m)
{
	int ret = ringbuf_check_metric(m);

	if (ret)
		return ret;
	ret = ringbuf_robust_lock(&ch->control->schema_lock, 1);
	if (ret)
		return ret;
	ret = ringbuf_declare_metric_locked(ch, m);
	ringbuf_robust_unlock(&ch->control->schema_lock);
	return ret;
}

/*
 * ringbuf_metric_series - the word of a metric's series with these label values; of this process alone, where the
 * metric is one of processes. If there is no room for one more, that of the rest, m->rest: sums stay whole.
 * Callers:  as ringbuf_declare_metric; keep the word, but not beyond a fork where the metric is one of processes.
 * Returns:  the word; -EBUSY, -errno as ringbuf_declare_event.
 */
RINGBUF_FUNC int64_t
ringbuf_metric_series(const struct ringbuf_channel *ch, const struct ringbuf_metric *m, const char *labels,
		      uint32_t size)
{
	int64_t word = ringbuf_find_series(ch, m, labels, size, 0);

	if (word != -ENOENT)
		return word;
	word = ringbuf_robust_lock(&ch->control->schema_lock, 1);
	if (word)
		return word;
	word = ringbuf_find_series(ch, m, labels, size, 1);
	if (word == -ENOENT)
		word = ringbuf_add_series(ch, m, labels, size, 0);
	ringbuf_robust_unlock(&ch->control->schema_lock);
	return word == -ENOSPC ? m->rest : word;
}

/* The same of a channel's series; where the program has closed the descriptor, nobody is known to be gone. */
RINGBUF_FUNC int
ringbuf_series_is_gone(const struct ringbuf_channel *ch, uint64_t owner)
{
	return ringbuf_owner_is_gone(ringbuf_is_ours(ch->fd, &ch->file) ? ch->fd : -1, owner);
}

/* Note in a private copy of the region behind `fd` which processes are gone: the copy has no locks. */
RINGBUF_FUNC void
ringbuf_note_gone(const struct ringbuf_channel *copy, int fd)
{
	struct ringbuf_metric m;

	for (uint64_t off = 0, at = 0; ringbuf_next_metric(copy, &off, &m); at = off) {
		uint8_t *entry = copy->base + copy->metrics_off + at;

		if (m.kind == RINGBUF_SERIES && ringbuf_owner_is_gone(fd, m.owner))
			/* relaxed: nobody else has it */
			ringbuf_store(&((struct ringbuf_metric_entry *)(void *)entry)->owner, RINGBUF_OWNER_GONE,
				      RINGBUF_RELAXED);
	}
}

#endif /* RINGBUF_METRICS_H */
