/*
 * fuzz.h - what every fuzz target is made of: an input that is read like a
 * tape, a small channel, and a time that depends on nothing but the input.
 *
 * A region is mapped between pages that nobody may touch, so that an access
 * beyond it ends the run. FUZZ_REQUIRE does the same for what must hold inside.
 */
#ifndef FUZZ_H
#define FUZZ_H

#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define FUZZ_GUARD (UINT64_C(1) << 20)

#define FUZZ_REQUIRE(cond)                                                          \
	do {                                                                        \
		if (!(cond)) {                                                      \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);  \
			abort();                                                    \
		}                                                                   \
	} while (0)

/* ---- time: each look at it takes a tick ---- */

struct ringbuf_channel;
static uint64_t fuzz_ticks;

#define RINGBUF_CLOCK_HEADER <time.h>
#define RINGBUF_NS_PER_S UINT64_C(1000000000)

static inline uint64_t
ringbuf_clock_ordered(const struct ringbuf_channel *ch)
{
	(void)ch;
	return ++fuzz_ticks;
}

static inline uint64_t
ringbuf_clock_early(const struct ringbuf_channel *ch)
{
	return ringbuf_clock_ordered(ch);
}

/* Of sleeps and deadlines, which are over at once. */
static inline uint64_t
ringbuf_clock_ns(clockid_t id)
{
	(void)id;
	return fuzz_ticks += 1000000;
}

static inline uint64_t
ringbuf_tsc_measure_freq(void)
{
	return RINGBUF_NS_PER_S;
}

static inline void
ringbuf_clock_offset(int clock, uint64_t freq, int64_t *offset_s, uint64_t *offset)
{
	(void)clock;
	(void)freq;
	*offset_s = 0;
	*offset = 0;
}

/* ---- the CPU: the input says which ---- */

static uint32_t fuzz_cpu;

#define RINGBUF_CPU_HEADER <time.h>
#define ringbuf_cpu() fuzz_cpu

#define RINGBUF_ROBUST_WAIT_MS 0

/* ---- the mapping ---- */

static inline void *
fuzz_mmap(void *at, size_t size, int prot, int flags, int fd, off_t off)
{
	uint8_t *room;

	if (at || !(flags & MAP_SHARED))
		return mmap(at, size, prot, flags, fd, off);
	room = mmap(NULL, size + 2 * FUZZ_GUARD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	FUZZ_REQUIRE(room != MAP_FAILED);
	return mmap(room + FUZZ_GUARD, size, prot, flags | MAP_FIXED, fd, off);
}

static inline int
fuzz_munmap(void *at, size_t size)
{
	return munmap((uint8_t *)at - FUZZ_GUARD, size + 2 * FUZZ_GUARD);
}

#define mmap fuzz_mmap
#define munmap fuzz_munmap
#include <ringbuf/files.h>
#undef mmap
#undef munmap

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- the input ---- */

static struct {
	const uint8_t *at;
	size_t left;
} fuzz_tape;

/* The next `size` bytes as a number; zeros where the tape ends. */
static inline uint64_t
fuzz_take(size_t size)
{
	uint64_t value = 0;
	size_t n = size < fuzz_tape.left ? size : fuzz_tape.left;

	memcpy(&value, fuzz_tape.at, n);
	fuzz_tape.at += n;
	fuzz_tape.left -= n;
	return value;
}

/* ---- a channel ---- */

/* One stream, or one for each of two CPUs; 2 or 4 sub-buffers. */
static inline struct ringbuf_channel *
fuzz_create(uint64_t kind)
{
	struct ringbuf_config cfg = {
		.name = "fuzz",
		.contexts = kind & 16 ? "vpid:i32,request:u64[2]" : NULL,
		.subbuf_size = 4096,
		.n_subbufs = kind & 1 ? 2 : 4,
		.mode = kind & 2 ? RINGBUF_DISCARD : RINGBUF_OVERWRITE,
		.streams = kind & 4 ? RINGBUF_PER_CPU : RINGBUF_GLOBAL,
		.header = kind & 8 ? RINGBUF_LARGE : RINGBUF_COMPACT,
		.clock = RINGBUF_CLOCK_MONOTONIC,
		.n_streams = 2,
		.n_producers = 3,
		.schema_size = 4096,
		/* so that positions wrap soon */
		.start_pos = kind & 32 ? RINGBUF_POS_MASK + 1 - 65536 : 0,
	};
	struct ringbuf_channel *ch;

	fuzz_ticks = 0;
	fuzz_cpu = 0;
	FUZZ_REQUIRE(ringbuf_create(&cfg, &ch) == 0);
	return ch;
}

static inline void
fuzz_close(struct ringbuf_channel *ch)
{
	int fd = ch->fd;

	ringbuf_close(ch);
	close(fd);
}

/* A record of `size` bytes; returns the result of ringbuf_reserve. */
static inline int
fuzz_record(struct ringbuf_channel *ch, uint64_t size, struct ringbuf_reservation *r)
{
	int ret;

	memset(r, 0, sizeof(*r));
	r->payload_size = size;
	r->event_id = (uint32_t)size % 40; /* short and extended headers */
	if (ch->blocking_timeout_ns > RINGBUF_NS_PER_S / 1000)
		r->flags = RINGBUF_NOWAIT; /* it would wait as long as the file says, which is right */
	ret = ringbuf_reserve(ch, r);
	if (!ret) {
		FUZZ_REQUIRE(r->payload >= ch->base && r->payload + size <= ch->base + ch->region_size);
		memset(r->payload, (int)size, size);
	}
	return ret;
}

/* Every byte of the packet can be read. */
static inline void
fuzz_read(const struct ringbuf_channel *ch, const struct ringbuf_packet *p)
{
	FUZZ_REQUIRE(p->content_size <= p->packet_size && p->packet_size <= ringbuf_subbuf_size(&ch->geometry));
	FUZZ_REQUIRE(p->data >= ch->base && p->data + p->packet_size <= ch->base + ch->region_size);
	for (uint64_t i = 0; i < p->packet_size; i += 64)
		(void)*(const volatile uint8_t *)&p->data[i];
}

/* ---- the hostile one ---- */

/* One word of the region, the superblock aside: sizes are taken from there at attach only
 * (fuzz_attach.c). Half of the time one of a stream's control words. */
static inline ringbuf_atomic_u64 *
fuzz_any_word(const struct ringbuf_channel *ch)
{
	uint64_t where = fuzz_take(2), n_words = (ch->region_size - 4096) / 8;
	uint64_t stream = where & 2 && ch->n_streams > 1;
	uint64_t off = ch->streams_off + stream * ch->stream_stride - 4096;

	if (where & 1)
		n_words = ch->data_off / 8;
	else
		off = 0;
	return (ringbuf_atomic_u64 *)(void *)(ch->base + 4096 + off) + (where >> 2) % n_words;
}

static inline void
fuzz_scribble(const struct ringbuf_channel *ch, uint64_t op)
{
	ringbuf_atomic_u64 *word = fuzz_any_word(ch);
	uint64_t old = ringbuf_load(word, RINGBUF_RELAXED);

	switch (op % 5) {
	case 0: old = fuzz_take(8); break;
	case 1: old ^= UINT64_C(1) << fuzz_take(1) % 64; break;
	case 2: old += (uint64_t)(int64_t)(int8_t)fuzz_take(1) << 12; break; /* sub-buffers */
	case 3: old += (uint64_t)(int64_t)(int8_t)fuzz_take(1); break;
	case 4: old = ringbuf_load(fuzz_any_word(ch), RINGBUF_RELAXED); break;
	}
	ringbuf_store(word, old, RINGBUF_RELAXED);
}

/* A ledger entry, as a dead producer leaves it: its slot is nobody's. */
static inline void
fuzz_die_over(const struct ringbuf_channel *ch)
{
	struct ringbuf_producer_slot *slot = ringbuf_producer_slot_at(ch, 2);
	struct ringbuf_ledger_entry *e = &slot->ledger[fuzz_take(1) % RINGBUF_NESTING_MAX];
	uint64_t how = fuzz_take(1), stream = how >> 4 & 1;
	uint64_t produced = ringbuf_load(&ringbuf_stream_at(ch, 0)->produced, RINGBUF_RELAXED);
	uint64_t pos = ringbuf_pos_add(produced, (uint64_t)(int64_t)(int16_t)fuzz_take(2)), extent = fuzz_take(2);

	ringbuf_store(&ch->control->producers_used, 3, RINGBUF_RELAXED);
	ringbuf_store(&e->extent, extent | extent >> 12 << 32, RINGBUF_RELAXED); /* several records, if it is large */
	ringbuf_store(&e->word,
		      ringbuf_ledger_word((enum ringbuf_ledger_state)(how & 7), (uint32_t)stream, pos) |
			      (how & 8 ? RINGBUF_LEDGER_FLAG : 0),
		      RINGBUF_RELAXED);
}

#endif
