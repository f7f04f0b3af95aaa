/*
 * tests/model/model.h - what a model is made of, and what every model checks.
 *
 * The log below is the model's own knowledge of what was recorded and read. It
 * is plain memory that Relacy does not see: threads of a model never run at the
 * same moment.
 *
 * At the end of each execution the streams are flushed and drained, and then:
 *
 *	every record that was committed was read once, and only then
 *		(overwrite mode: or never, and is counted as overrun)
 *	the identities of stats.h hold, against what the model counted itself
 *	time never decreases along a stream; each record is within its packet's bounds
 *	events_discarded never decreases, nor exceeds what was lost
 *	the sub-buffers in the slots and the spare one are all there, once
 */
#ifndef MODEL_MODEL_H
#define MODEL_MODEL_H

#include "region.h"

/* ---- records ---- */

/* With 176 bytes of a sub-buffer left by the packet header, and 4 of record header: */
enum model_event {
	MODEL_TINY,  /* 8 */
	MODEL_THIRD, /* 56: three fit, and leave 8 */
	MODEL_HALF,  /* 88: two fill it */
	MODEL_FULL,  /* 176: one fills it */
	MODEL_BIG,   /* never fits */
	MODEL_EVENTS
};

enum model_fate { MODEL_COMMIT, MODEL_DISCARD };

enum model_state { MODEL_NONE, MODEL_TRYING, MODEL_RESERVED, MODEL_COMMITTED, MODEL_DISCARDED, MODEL_LOST };

struct model_record {
	enum model_state state;
	uint32_t event;
	uint64_t timestamp;
	unsigned reads; /* in packets that were then released as read */
	bool found;     /* in the packet checked last */
};

#define MODEL_RECORDS_MAX 16 /* of one thread */
#define MODEL_PACKETS_MAX 64 /* of one stream */

struct model_packet {
	unsigned seen; /* times that a reader held it */
	uint64_t begin, end, discarded, records;
};

struct model_log {
	struct model_record records[MODEL_THREADS_MAX][MODEL_RECORDS_MAX];
	unsigned n[MODEL_THREADS_MAX];
	unsigned attempts, discarded, lost[RINGBUF_N_CAUSES];
	struct model_packet packets[MODEL_STREAMS_MAX][MODEL_PACKETS_MAX];
	uint64_t read;   /* records in packets that were released as read */
	bool ended;      /* a reader was told that nothing will follow */
	bool died;       /* a producer did, over one record at the most */
	struct model_record *handed_out[MODEL_RECORDS_MAX]; /* of the sub-buffer that a mapper holds */
	unsigned n_handed_out;
	int scratch[8];  /* a model's own, 0 at first */
};

extern struct model_log model_log;

inline int
model_me(void)
{
	return (int)rl::ctx().threadx_->index_;
}

#define MODEL_BLOCK (UINT32_C(1) << 31) /* wait for room, as in a blocking channel */

/* One attempt at a record by the calling thread. Returns what ringbuf_reserve_as did. */
int model_write(enum model_event event, enum model_fate fate = MODEL_COMMIT, uint32_t flags = 0);

/* The same in two steps, for models that do something in between. */
int model_reserve(enum model_event event, struct ringbuf_reservation *r, uint32_t flags = 0);
void model_resolve(struct ringbuf_reservation *r, enum model_fate fate);

void model_flush(unsigned int flags = 0, uint32_t stream_idx = 0);

/* The slot that the calling thread records through. */
struct ringbuf_producer_slot *model_producer(void);

/* ---- death ---- */

/* The thread is dead: the kernel says so in its certificate. */
void model_bury(void);

/*
 * Run work(), in which the thread dies before its n-th atomic operation, if it has so many.
 * That is finer than at the headers' test points. The caller then goes on as somebody else.
 * Returns whether it died.
 */
template <typename F>
bool
model_until_death(int n, F work)
{
	bool died = false;

	model_self().die_in = n;
	try {
		work();
	} catch (const struct model_death &) {
		died = true;
	}
	model_self().die_in = 0;
	if (died)
		model_bury();
	return died;
}

/* ---- reading ---- */

/* Check the packet that r holds, against the log and against itself. */
void model_check_packet(struct ringbuf_stream_reader *r);
/* Its records have now been read: called before it is put as READ. And taken back, when
 * the reader died over the put and the packet is held again. */
void model_note_read(struct ringbuf_stream_reader *r);
void model_unnote_read(struct ringbuf_stream_reader *r);
/* Hold the next packet, check it, give it back. Returns what ringbuf_get_next_subbuf did. */
int model_read(struct ringbuf_stream_reader *r, enum ringbuf_put how = RINGBUF_PUT_READ);

/* Hold what the reader finds next, check it, and leave it held. */
int model_hold(struct ringbuf_stream_reader *r);
/* Check the records in bytes [from, to) of the sub-buffer that a mapper holds, which may still
 * be written to; and when it puts that as READ, note all of them. */
void model_check_part(struct ringbuf_stream_reader *r, uint64_t from, uint64_t to);
void model_note_parts(void);
/* All packets of a snapshot taken now: look at each, put it back. */
void model_snapshot(struct ringbuf_stream_reader *r);

/* A custom client's own walk over a packet, which returns its records; NULL: CTF's. */
extern uint64_t (*model_walk)(struct ringbuf_stream_reader *r);

/* Note a record found at `word` of a packet; what a walk calls for each. */
void model_found(struct ringbuf_stream_reader *r, uint32_t word, uint32_t last_word, uint64_t timestamp);

/* ---- models ---- */

struct model {
	const char *name;
	struct model_config config;
	void (*threads[MODEL_THREADS_MAX])(void); /* the first are used, up to a NULL */
	void (*begin)(void); /* before the threads, or NULL */
	void (*end)(void);   /* after them, before the common checks, or NULL */
	bool strong;         /* all operations sequentially consistent */
};

/* The common checks, at the end of each execution. */
void model_finish(void);

/* One table in each file of models; linked into a list before main(). */
struct model_table {
	const struct model *models;
	size_t n;
	struct model_table *next;

	model_table(const struct model *models, size_t n);
};

#define MODEL_TABLE(models) static struct model_table table((models), sizeof(models) / sizeof((models)[0]))

/* The configurations that most models use: one global stream of two (four) sub-buffers, just
 * below the wrap of positions. The others begin at 0. */
#define MODEL_RING(mode, order, start) {mode, order, 1, RINGBUF_COMPACT, RINGBUF_WAKEUP_NONE, start, NULL, 0}
#define MODEL_DISCARD_2 MODEL_RING(RINGBUF_DISCARD, 1, MODEL_BELOW_WRAP(2))
#define MODEL_OVERWRITE_2 MODEL_RING(RINGBUF_OVERWRITE, 1, MODEL_BELOW_WRAP(2))
#define MODEL_OVERWRITE_4 MODEL_RING(RINGBUF_OVERWRITE, 2, MODEL_BELOW_WRAP(4))
/* Two sub-buffers, and so many spares. */
#define MODEL_PARK(n) {RINGBUF_OVERWRITE, 1, 1, RINGBUF_COMPACT, RINGBUF_WAKEUP_NONE, MODEL_BELOW_WRAP(2), NULL, 0, n}

#endif /* MODEL_MODEL_H */
