/*
 * ringbuf/layout.h - what lies in the shared region, and how to find it.
 *
 *	superblock       1 page   written once, before the magic; read-only after
 *	control          1 page   channel state, schema lock, reader wake-up
 *	schema area               event declarations, append-only
 *	producer table            one slot for each recording thread, one for the repairer
 *	metrics                   declarations, append-only; rows of words (metrics.h)
 *	stream 0, 1, ...          one for each CPU (or one, global)
 *		stream control    positions, losses, reader's hold
 *		slots             one for each place in the ring: which sub-buffer stands there
 *		sub-buffer table  one entry for each sub-buffer: commit counters, and what is known of it
 *		filler maps       for each sub-buffer, one bit for each 4 bytes
 *		meta page         the mapped consumer's view
 *		sub-buffers       n_subbufs + 1 + n_spares, each subbuf_size bytes
 *
 * Offsets only, never pointers. Whoever attaches copies the geometry into
 * private memory once, checked (channel.h); nothing in the region is used as
 * a size, an index or an offset without a bound.
 *
 * Who writes a word is said beside it: P producers, R the reader, D whoever
 * delivers the sub-buffer (one thread at a time), C the creator.
 */
#ifndef RINGBUF_LAYOUT_H
#define RINGBUF_LAYOUT_H

#include <pthread.h>

#include "atomic.h"
#include "descriptor.h"
#include "position.h"

#define RINGBUF_LAYOUT_VERSION 3
#define RINGBUF_MAGIC UINT64_C(0x676e6972627566f1) /* "\xf1fubring" */
#define RINGBUF_BYTE_ORDER UINT32_C(0x01020304)
#define RINGBUF_CACHE_LINE 64
#define RINGBUF_NAME_SIZE 64
#define RINGBUF_CONTEXTS_SIZE 1024
#define RINGBUF_STREAMS_MAX 4096 /* a ledger word has 12 bits for the stream */
#define RINGBUF_NESTING_MAX 4
#define RINGBUF_SPARES_MAX 1024

#define RINGBUF_ALIGNED __attribute__((aligned(RINGBUF_CACHE_LINE)))

enum ringbuf_mode {
	RINGBUF_DISCARD = 0,
	RINGBUF_OVERWRITE = 1,
};
enum ringbuf_streams {
	RINGBUF_PER_CPU = 0,
	RINGBUF_GLOBAL = 1,
};
enum ringbuf_header {
	RINGBUF_COMPACT = 0,
	RINGBUF_LARGE = 1,
};
enum ringbuf_clock {
	RINGBUF_CLOCK_TSC = 0,
	RINGBUF_CLOCK_MONOTONIC = 1,
	RINGBUF_CLOCK_CUSTOM = 2,
};
#define RINGBUF_CLIENT_CUSTOM 1u /* superblock: there is a client */
#define RINGBUF_CLIENT_FORMAT 2u /* it writes packets or records of its own */
enum ringbuf_wakeup {
	RINGBUF_WAKEUP_TIMER = 0,
	RINGBUF_WAKEUP_WRITER = 1,
	RINGBUF_WAKEUP_NONE = 2,
};

/*
 * Why a reservation is refused and its record lost: X(cause, its name in Stats, errno).
 * A new cause is a line here and a field of stats.py; tests compare the two.
 * FULL      discard mode: no room until the reader moves on
 * WRAP      the ring came round to a sub-buffer still being written, and no spare was left
 * BIG       larger than a sub-buffer
 * NESTING   more than RINGBUF_NESTING_MAX open in one thread
 * SLOTS     more recording threads than producer slots
 * MEMORY    the file system is full, and the stream's sub-buffers have no memory in it yet
 * DISABLED  channel disabled or finalized; counted in the thread's producer slot, not in a stream
 */
#define RINGBUF_LOSSES(X)            \
	X(FULL, "full", ENOBUFS)     \
	X(WRAP, "wrap", EIO)         \
	X(BIG, "big", ENOSPC)        \
	X(NESTING, "nesting", EPERM) \
	X(SLOTS, "slots", EUSERS)    \
	X(MEMORY, "memory", ENOMEM)  \
	X(DISABLED, "disabled", ESHUTDOWN)

enum ringbuf_cause {
#define RINGBUF_LOSS_CAUSE(cause, name, error) RINGBUF_LOST_##cause,
	/* clang-format off: it takes what follows the list for a part of it */
	RINGBUF_LOSSES(RINGBUF_LOSS_CAUSE)
#undef RINGBUF_LOSS_CAUSE
		RINGBUF_LOST_TORN, /* reserved, but its producer died over it */
	/* clang-format on */
	RINGBUF_DISCARDED, /* given up by its own producer: no loss */
	RINGBUF_N_CAUSES
};
#define RINGBUF_N_LOSSES RINGBUF_LOST_TORN

/* ---- superblock ---- */

struct ringbuf_superblock {
	ringbuf_atomic_u64 magic; /* C: last; O10 (channel.h) */
	uint32_t layout_version;
	uint32_t byte_order;
	uint64_t region_size;
	uint32_t page_size;
	uint32_t flags;

	uint32_t mode, streams, header, clock, wakeup, custom_client;
	uint32_t n_streams;
	uint32_t subbuf_order, count_order;
	uint32_t n_producers;
	uint32_t packet_header_size;
	uint32_t n_spares; /* of each stream, the reader's not counted: park.h */

	uint64_t control_off, schema_off, schema_size, producers_off;
	uint64_t streams_off, stream_stride;
	/* inside a stream: */
	uint64_t slots_off, subbufs_off, fillers_off, meta_off, data_off;
	/* metrics.h: metrics_size bytes of declarations, then as many for each row and for the shared one */
	uint64_t metrics_off, metrics_size, metrics_rows, metrics_stride;

	uint64_t start_pos;
	uint64_t clock_freq;        /* ticks per second */
	int64_t clock_offset_s;     /* tick 0 = offset_s + offset / freq, Unix time */
	uint64_t clock_offset;      /* ticks, < clock_freq */
	uint64_t switch_timer_ns, read_timer_ns, blocking_timeout_ns;

	uint8_t uuid[16];
	uint64_t creator_pid, creator_start; /* start in clock ticks since boot */
	char name[RINGBUF_NAME_SIZE];
	char program[RINGBUF_NAME_SIZE];
	char hostname[RINGBUF_NAME_SIZE];
	char contexts[RINGBUF_CONTEXTS_SIZE]; /* field text, as in schema.h */
};

/* ---- control ---- */

#define RINGBUF_STATE_DISABLED 1u
#define RINGBUF_STATE_FINALIZED 2u

struct ringbuf_control {
	/* Read by every record, written by disable, enable and finalize. */
	RINGBUF_ALIGNED ringbuf_atomic_u32 state;

	RINGBUF_ALIGNED pthread_mutex_t schema_lock; /* the place of one: certificate.h */
	ringbuf_atomic_u64 schema_used;              /* bytes; grows under the lock */
	ringbuf_atomic_u64 metrics_used;             /* the same of metrics.h, under the same lock */
	ringbuf_atomic_u64 metrics_words;            /* of each row, given to series */

	/* A reader asleep until a packet is delivered (wait.h). */
	RINGBUF_ALIGNED ringbuf_atomic_u32 data_seq;
	ringbuf_atomic_u32 data_wanted;

	RINGBUF_ALIGNED ringbuf_atomic_u32 producers_used; /* slots of the table ever taken: the first so many */
	ringbuf_atomic_u64 repair_after; /* CLOCK_MONOTONIC ns: no producer tries to repair before */
	ringbuf_atomic_u32 images; /* numbers given to process images: 1, 2, ... (image.h) */
	ringbuf_atomic_u32 codes;  /* numbers given to code whose calls are recorded */
};

/* ---- producer table ---- */

/*
 * One reservation in flight. `word` says all that a repairer must read
 * together: position (48 bits) | stream (12) | flag (1) | state (3).
 * The rest is read only once the producer is known to be dead.
 */
struct ringbuf_ledger_entry {
	ringbuf_atomic_u64 word;      /* P */
	ringbuf_atomic_u64 timestamp; /* P: of the newest reservation */
	ringbuf_atomic_u64 extent;    /* P: bytes reserved, for records or padding; records more than one << 32 */
	/* P: losses sampled before a claim that ends or begins a sub-buffer (48 bits) | the tag of `produced` then */
	ringbuf_atomic_u64 discarded;
};

enum ringbuf_ledger_state {
	RINGBUF_LEDGER_IDLE = 0,
	RINGBUF_LEDGER_TAKEN,    /* nothing claimed yet */
	/* these three in this order: ringbuf_ledger_next */
	RINGBUF_LEDGER_CLAIMING, /* the swap may or may not have happened */
	RINGBUF_LEDGER_OWNED,    /* it has; the payload is incomplete */
	RINGBUF_LEDGER_WRITTEN,  /* payload complete; perhaps counted */
	RINGBUF_LEDGER_UNDOING,  /* the roll-back may or may not have happened */
	RINGBUF_LEDGER_FLUSHING, /* claiming for padding alone, no record */
	RINGBUF_LEDGER_MOVING,   /* a claim of padding, or that opens, succeeded; perhaps counted */
};

#define RINGBUF_LEDGER_STREAM_SHIFT 48
#define RINGBUF_LEDGER_FLAG (UINT64_C(1) << 60)
#define RINGBUF_LEDGER_OPENS RINGBUF_LEDGER_FLAG     /* CLAIMING, MOVING: a record that opens the next sub-buffer */
#define RINGBUF_LEDGER_NO_RECORD RINGBUF_LEDGER_FLAG /* WRITTEN: a filler */
#define RINGBUF_LEDGER_STATE_SHIFT 61

struct ringbuf_producer_slot {
	RINGBUF_ALIGNED struct ringbuf_ledger_entry ledger[RINGBUF_NESTING_MAX];
	/* Held for the thread's life; has its id and its process image. */
	RINGBUF_ALIGNED pthread_mutex_t certificate;
	ringbuf_atomic_u32 pid, tid;        /* P, at registration: as the producer sees them */
	ringbuf_atomic_u64 start;           /* P: process start, clock ticks since boot */
	char name[16];                      /* P: thread name */
	ringbuf_atomic_u64 lost_disabled;   /* P: this thread and its signal handlers alone */
};

/* ---- stream ---- */

struct ringbuf_stream {
	/* P, every record: */
	RINGBUF_ALIGNED ringbuf_atomic_u64 produced; /* tag | position */
	ringbuf_atomic_u64 base_timestamp;           /* of the newest committed record */

	/* P, slow path: */
	RINGBUF_ALIGNED ringbuf_atomic_u64 lost[RINGBUF_N_CAUSES];
	ringbuf_atomic_u32 sparse;                   /* its sub-buffers have no memory in the file yet: file.h */

	/* R; producers read consumed_pos on their slow path, and pull it along if it is far behind: */
	RINGBUF_ALIGNED ringbuf_atomic_u64 consumed_pos;
	ringbuf_atomic_u64 read_seq;         /* packets consumed; parity selects the totals */
	ringbuf_atomic_u64 read_total[2];    /* records read */
	ringbuf_atomic_u64 dropped_total[2]; /* records taken and thrown away unread */
	ringbuf_atomic_u64 hold_pos;         /* the packet in the reader's hands */
	ringbuf_atomic_u64 hold;             /* its sub-buffer | RINGBUF_HOLD_VALID */

	RINGBUF_ALIGNED ringbuf_atomic_u64 hold_seq; /* R: read_seq when it was taken */
	ringbuf_atomic_u64 spare;            /* R: the sub-buffer outside the ring, to be offered with the next hold */
	ringbuf_atomic_u64 read_discarded;   /* R: events_discarded of the newest packet consumed */
	ringbuf_atomic_u64 custom_timestamp; /* P: last time of a user's clock */
	ringbuf_atomic_u32 space_seq;        /* a producer asleep until there is room */
	ringbuf_atomic_u32 space_wanted;
	uint32_t index, cpu;                 /* C */
	/* Whoever has the repair lock: torn records are counted once, however often it dies. */
	ringbuf_atomic_u64 repair_pos;       /* the packet under repair | RINGBUF_HOLD_VALID */
	ringbuf_atomic_u64 repair_subbuf;    /* the sub-buffer that it is in */
	ringbuf_atomic_u64 repair_torn;      /* lost[TORN] once that is complete */
	ringbuf_atomic_u64 parked;           /* P: packets that left the ring before they were complete */
	ringbuf_atomic_u64 parking;          /* P: how many are about to park one, or died over it */

	/* The mappers', under their lock (map.h): */
	RINGBUF_ALIGNED pthread_mutex_t map_lock; /* robust */
	ringbuf_atomic_u64 map_read;         /* of the sub-buffer held: records and bytes handed out */
	ringbuf_atomic_u64 map_overrun;      /* records overrun when it was taken */
	ringbuf_atomic_u32 map_wakes;        /* calls to wake all who wait */
};

#define RINGBUF_HOLD_VALID (UINT64_C(1) << 63)

/*
 * subbuf_ref: which sub-buffer stands in the slot, and what became of the
 * packet in it: index (15 bits) | spare (15) | HELD | READ | LOST | pass (31).
 *	HELD  the reader has it; a producer that laps it leaves it to the reader
 *	      and puts the sub-buffer named by `spare` in its place. The spare
 *	      stands in the word itself, so that a producer which slept between
 *	      its load and its swap cannot bring back an old one
 *	READ  consumed; lapping it loses nothing
 *	LOST  the packet of the pass before was lapped unread
 */
#define RINGBUF_REF_IDX_MASK UINT64_C(0x7fff)
#define RINGBUF_REF_SPARE_SHIFT 15
#define RINGBUF_REF_SPARE_MASK (RINGBUF_REF_IDX_MASK << RINGBUF_REF_SPARE_SHIFT)
#define RINGBUF_REF_HELD (UINT64_C(1) << 30)
#define RINGBUF_REF_READ (UINT64_C(1) << 31)
#define RINGBUF_REF_LOST (UINT64_C(1) << 32)
#define RINGBUF_REF_PASS_SHIFT 33
#define RINGBUF_REF_PASS_MASK (UINT64_MAX >> RINGBUF_REF_PASS_SHIFT)

struct ringbuf_slot {
	ringbuf_atomic_u64 subbuf_ref; /* P when entering a pass, R */
};

/*
 * stage: the packet that a sub-buffer was in last, by its position (48 bits), and what became of it: phase (3) |
 * LOST | KEPT | CELL. While it is being filled for a later packet it still says this of the one before, but for
 * TAKEN. All changes are swaps, and decide between a deliverer, whoever laps the sub-buffer, and a mapper (park.h).
 *	DONE     delivered
 *	TAKEN    a spare, set aside for the packet at that position, or being filled for it
 *	PARKED   not complete when the ring came round: it left the ring
 *	OUTSIDE  the same, complete since, and KEPT: the reader has it
 *	FREE     a spare
 *	READERS  the reader's spare
 * LOST: the packet in it before the one that is parked was lapped unread, and is not counted yet. KEPT: a mapper has
 * it, and it is not complete. CELL: which of records[], total[], overrun[] and delivered[] hold.
 */
enum ringbuf_stage {
	RINGBUF_STAGE_DONE = 0,
	RINGBUF_STAGE_TAKEN,
	RINGBUF_STAGE_PARKED,
	RINGBUF_STAGE_OUTSIDE,
	RINGBUF_STAGE_FREE,
	RINGBUF_STAGE_READERS,
};

#define RINGBUF_STAGE_SHIFT 48
#define RINGBUF_STAGE_PHASES 7u
#define RINGBUF_STAGE_LOST (UINT64_C(1) << 51)
#define RINGBUF_STAGE_KEPT (UINT64_C(1) << 52)
#define RINGBUF_STAGE_CELL (UINT64_C(1) << 53)

/* A sub-buffer's commit counter, and what is known of its packet without reading its bytes. */
struct ringbuf_subbuf {
	/* P, every record: */
	RINGBUF_ALIGNED ringbuf_atomic_u64 committed; /* records << 32 | bytes, never reset */

	/* P who closes the packet, then D: */
	RINGBUF_ALIGNED ringbuf_atomic_u64 stage;     /* D, P when lapping, R */
	ringbuf_atomic_u64 close_timestamp;
	ringbuf_atomic_u64 close_size;                /* bytes of content */
	ringbuf_atomic_u64 close_discarded;           /* events_discarded sampled before closing */
	ringbuf_atomic_u64 fillers;                   /* P: not 0: some bit of its filler map is set */
	ringbuf_atomic_u64 open_noted;                /* P who opens: packet whose header is there */
	ringbuf_atomic_u64 close_noted;               /* P who closes: packet that close_* describes */

	/* D: cells selected by the stage's CELL, so that delivering twice is harmless. */
	RINGBUF_ALIGNED ringbuf_atomic_u64 delivered[2]; /* `committed` when last complete */
	ringbuf_atomic_u64 records[2];                /* in the packet that was then complete */
	ringbuf_atomic_u64 total[2];                  /* in this sub-buffer since the start */
	ringbuf_atomic_u64 overrun[2];                /* of those, lapped unread */

	RINGBUF_ALIGNED ringbuf_atomic_u64 pos; /* D: the position it began at */
	ringbuf_atomic_u64 timestamp_begin;     /* P who begins it */
	ringbuf_atomic_u64 timestamp_end;       /* D */
	ringbuf_atomic_u64 events_discarded;    /* D */
	ringbuf_atomic_u64 sequence_number;     /* D */
	ringbuf_atomic_u64 content_size;        /* D: bytes */
	ringbuf_atomic_u64 packet_size;         /* D: bytes, content rounded up to a page */
	ringbuf_atomic_u64 n_records;           /* D */
};

/* ---- the process's own view ---- */

struct ringbuf_client;
struct ringbuf_producer;

/* Private memory: filled and checked once at creation or attachment. */
struct ringbuf_channel {
	struct ringbuf_geometry geometry;
	uint8_t mode, streams, header, clock, wakeup;
	uint8_t cpus_share;                   /* fewer streams than CPUs: clock.h */
	uint8_t is_rare;                      /* has a client of its own, or blocks: producer.h */
	uint32_t n_streams;
	uint32_t n_all;                       /* sub-buffers of a stream, in the ring and outside */
	uint32_t packet_header_size;
	uint8_t *base;                        /* of the mapping */
	uint8_t *stream0;                     /* the first stream */
	uint8_t *metrics0;                    /* the first row of metrics.h */
	uint64_t metrics_stride;
	uint32_t metrics_rows;                /* without the shared one */
	struct ringbuf_control *control;
	uint64_t streams_off, stream_stride, slots_off, subbufs_off, fillers_off, data_off;
	const struct ringbuf_client *client;  /* NULL: the built-in CTF client */
	void *client_data;

	uint64_t id;                          /* never used twice in a process */
	uint64_t blocking_timeout_ns;         /* UINT64_MAX: for ever */
	const struct ringbuf_superblock *super; /* a copy, behind this */
	uint64_t region_size, start_pos, meta_off, producers_off, schema_off, schema_size, metrics_off, metrics_size;
	uint32_t n_producers, page_size;
	int fd;                               /* of the region, as long as it is `file`: descriptor.h */
	struct ringbuf_identity file;
	char *path;                           /* of the file, absolute; NULL: it has none */
	uint32_t is_sealed;                   /* the region cannot shrink */
	int child_fd;                         /* while a fork is under way: file.h */
	/* registry (producer.h), under its lock: */
	uint32_t image;    /* this process's number in the region (image.h) */
	void *image_lock;  /* the mapping that holds the number's lock; NULL: there is no lock */
	struct ringbuf_channel *registry_next;
	struct ringbuf_producer *producers;
	uint32_t refs;
	uint32_t closed;
	uint32_t kept;   /* not freed with its last reference: producer.h */
#if !defined(RINGBUF_CERTIFICATE_HEADER)       /* cut.h; a model's regions are no files: */
	ringbuf_atomic_u32 buried;            /* the file was cut short: the mapping is empty memory now */
	ringbuf_atomic_u64 cut_next;
#endif
	char contexts[RINGBUF_CONTEXTS_SIZE]; /* field text */
};

RINGBUF_INLINE struct ringbuf_stream *
ringbuf_stream_at(const struct ringbuf_channel *ch, uint32_t idx)
{
	return (struct ringbuf_stream *)(void *)(ch->stream0 + idx * ch->stream_stride);
}

RINGBUF_INLINE struct ringbuf_slot *
ringbuf_slot_at(const struct ringbuf_channel *ch, struct ringbuf_stream *s, uint64_t pos)
{
	/* slots_off is the size of what stands before them (ringbuf_compute_layout): nothing to load */
	return (struct ringbuf_slot *)(void *)(s + 1) + ringbuf_slot_idx(&ch->geometry, pos);
}

/* `idx` came from shared memory: an impossible one is folded to a possible one. */
RINGBUF_INLINE uint32_t
ringbuf_checked_idx(const struct ringbuf_channel *ch, uint64_t idx)
{
	return RINGBUF_LIKELY(idx < ch->n_all) ? (uint32_t)idx : 0;
}

RINGBUF_INLINE struct ringbuf_subbuf *
ringbuf_subbuf_at(const struct ringbuf_channel *ch, struct ringbuf_stream *s, uint32_t idx)
{
	uint8_t *table = (uint8_t *)(void *)s + ch->subbufs_off;

	return (struct ringbuf_subbuf *)(void *)table + idx;
}

RINGBUF_INLINE uint32_t
ringbuf_subbuf_idx(const struct ringbuf_channel *ch, struct ringbuf_stream *s, const struct ringbuf_subbuf *sb)
{
	return (uint32_t)(sb - ringbuf_subbuf_at(ch, s, 0));
}

/* A sub-buffer's filler map: bit i says that a discarded or torn record begins at byte 4i. */
#define RINGBUF_FILLER_UNIT 4

RINGBUF_INLINE uint64_t
ringbuf_filler_map_words(const struct ringbuf_geometry *g)
{
	return ringbuf_subbuf_size(g) / RINGBUF_FILLER_UNIT / 64;
}

RINGBUF_INLINE ringbuf_atomic_u64 *
ringbuf_filler_map(const struct ringbuf_channel *ch, struct ringbuf_stream *s, uint32_t idx)
{
	uint8_t *maps = (uint8_t *)(void *)s + ch->fillers_off;

	return (ringbuf_atomic_u64 *)(void *)maps + idx * ringbuf_filler_map_words(&ch->geometry);
}

RINGBUF_INLINE uint8_t *
ringbuf_subbuf_data(const struct ringbuf_channel *ch, struct ringbuf_stream *s, uint32_t idx)
{
	return (uint8_t *)(void *)s + ch->data_off + ((uint64_t)idx << ch->geometry.subbuf_order);
}

RINGBUF_INLINE struct ringbuf_producer_slot *
ringbuf_producer_slot_at(const struct ringbuf_channel *ch, uint32_t idx)
{
	return (struct ringbuf_producer_slot *)(void *)(ch->base + ch->producers_off) + idx;
}

/* One more than producers have: its certificate is the repair lock, and its owner the repairer. */
RINGBUF_INLINE struct ringbuf_producer_slot *
ringbuf_repairer_slot(const struct ringbuf_channel *ch)
{
	return ringbuf_producer_slot_at(ch, ch->n_producers);
}

/* The pass number stored in subbuf_ref, 31 bits of it; below, the one that a slot has while
 * `pos` is written. They are enough: a slot is only ever on the current or the previous pass. */
RINGBUF_INLINE uint64_t
ringbuf_ref_pass(uint64_t ref)
{
	return ref >> RINGBUF_REF_PASS_SHIFT;
}

RINGBUF_INLINE uint64_t
ringbuf_ref_pass_at(const struct ringbuf_channel *ch, uint64_t pos)
{
	return ringbuf_pass(&ch->geometry, pos) & RINGBUF_REF_PASS_MASK;
}

RINGBUF_INLINE uint64_t
ringbuf_ref_pass_before(const struct ringbuf_channel *ch, uint64_t pos)
{
	return ringbuf_pass_before(&ch->geometry, ringbuf_pass(&ch->geometry, pos)) & RINGBUF_REF_PASS_MASK;
}

/* What open_noted and close_noted say of the packet that `pos` is in. */
RINGBUF_INLINE uint64_t
ringbuf_packet_tag(const struct ringbuf_channel *ch, uint64_t pos)
{
	return ringbuf_subbuf_begin(&ch->geometry, pos) | RINGBUF_HOLD_VALID;
}

RINGBUF_INLINE enum ringbuf_stage
ringbuf_stage_phase(uint64_t stage)
{
	return (enum ringbuf_stage)(stage >> RINGBUF_STAGE_SHIFT & RINGBUF_STAGE_PHASES);
}

/* The stage of a sub-buffer for the packet at `begin`, with these flags. */
RINGBUF_INLINE uint64_t
ringbuf_stage_word(uint64_t begin, enum ringbuf_stage phase, uint64_t flags)
{
	return begin | (uint64_t)phase << RINGBUF_STAGE_SHIFT | flags;
}

RINGBUF_INLINE int
ringbuf_stage_is(uint64_t stage, uint64_t begin, enum ringbuf_stage phase)
{
	return ringbuf_pos(stage) == begin && ringbuf_stage_phase(stage) == phase;
}

/* Of a sub-buffer that has been filled for the packet at `begin`: is it complete, or out of the ring? Else it still
 * says what became of the packet before. */
RINGBUF_INLINE int
ringbuf_stage_is_past(uint64_t stage, uint64_t begin)
{
	int64_t diff = ringbuf_pos_diff(ringbuf_pos(stage), begin);

	return diff > 0 || (!diff && ringbuf_stage_phase(stage) != RINGBUF_STAGE_TAKEN);
}

RINGBUF_INLINE unsigned int
ringbuf_stage_cell(uint64_t stage)
{
	return (stage & RINGBUF_STAGE_CELL) != 0;
}

/* What was counted in a sub-buffer since it was complete last, from `committed` and its stage. */
RINGBUF_INLINE uint64_t
ringbuf_counted_since(const struct ringbuf_subbuf *sb, uint64_t stage, uint64_t committed)
{
	/* relaxed: published by the stage (O3) */
	return committed - ringbuf_load(&sb->delivered[ringbuf_stage_cell(stage)], RINGBUF_RELAXED);
}

#endif /* RINGBUF_LAYOUT_H */
