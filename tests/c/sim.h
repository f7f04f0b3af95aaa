/*
 * sim.h - whole operations under enumerated and random schedules (explore.h),
 * stopped between any two accesses: what was committed is read once, intact, in
 * order and with its own time, and all counters agree to the last record.
 *
 * Readers may die anywhere; the next takes over. Producers may die anywhere
 * (sim.mortal); then somebody repairs, and only what was in flight is torn.
 */
#ifndef SIM_H
#define SIM_H

#include "explore.h"

#define PRODUCERS_MAX 4
#define OPS_MAX 12
#define RECORDS_MAX 128 /* of one producer */
#define STREAMS_MAX 2

enum op_kind {
	OP_END,
	OP_RECORD,
	OP_DISCARD,
	OP_NEST,         /* a record, with the next op done before its commit */
	OP_NEST_DISCARD,
	OP_FLUSH,        /* of stream `size` */
	OP_FLUSH_EMPTY,
	OP_DISABLE,
	OP_ENABLE,
	OP_FINALIZE,
	OP_REPAIR,
};

#define FILL UINT64_MAX /* a size: to the end of the sub-buffer, as it looks now */

struct op {
	enum op_kind kind;
	uint64_t size;
	uint32_t n_more; /* records that are claimed with it */
};

/* TORN: its producer died over it; PERHAPS: over its commit. */
enum fate { FATE_NONE, FATE_OPEN, FATE_COMMITTED, FATE_DISCARDED, FATE_TORN, FATE_PERHAPS };

struct producer {
	uint32_t id;
	struct ringbuf_producer_slot *slot;
	struct op ops[OPS_MAX + 1];
	uint64_t seq, attempts, committed, discarded, lost[RINGBUF_N_CAUSES];
	uint8_t fate[RECORDS_MAX], ended[RECORDS_MAX], seen[RECORDS_MAX];
	unsigned int open;   /* attempts that have not ended */
	unsigned int maybe;  /* of them, when it died */
	uint64_t time[RECORDS_MAX];
};

/* What the readers do with each packet. */
enum habit { READS, SNAPSHOTS, DROPS, ANYTHING };

/* A packet checked, and about to be counted as read. */
struct pending {
	int active;
	uint64_t read_seq;
	struct reading before; /* to go on from if it was not counted */
	unsigned int n;
	struct {
		uint32_t producer;
		uint64_t seq;
	} records[300];
};

static struct {
	struct ringbuf_channel *ch;
	uint8_t *saved;
	struct ringbuf_producer_slot *own_slot;
	struct producer producers[PRODUCERS_MAX];
	unsigned int n_producers, reader_turns;
	enum habit habit;
	struct reading reading[STREAMS_MAX];
	struct pending pending[STREAMS_MAX];
	struct op signal_op;
	unsigned int signals, deaths;
	int mortal;    /* producers die too */
	int suffice;   /* there are spares for all who may be stopped: nobody loses a record to the wrap */
	int given_up;  /* packets that a repairer could not make out */
	int unordered; /* with signals and migrations, numbers and places may differ */
	int n_finalized;
	uint64_t final_pos[STREAMS_MAX];
} sim;

/* ---- producers ---- */

static enum ringbuf_cause
cause_of(int ret)
{
	int cause = ringbuf_loss_of_error(ret);

	if (cause < 0)
		FAIL("ringbuf_reserve returned %d", ret);
	return (enum ringbuf_cause)cause;
}

static uint64_t
size_that_fills(void)
{
	uint32_t cpu = explore_running ? explore_running->cpu : explore_cpu;
	uint64_t off = pos_of(sim.ch, cpu % sim.ch->n_streams) % 4096, overhead;

	if (!off)
		off = sim.ch->packet_header_size;
	overhead = record_size(off, 0);
	return off + overhead + sizeof(struct stamp) <= 4096 ? 4096 - off - overhead : 16;
}

/* Reserve and stamp, in two pieces, so that a half-written payload can be caught. */
static int
begin_record(struct producer *p, struct ringbuf_reservation *r, const struct op *op, uint64_t *seq)
{
	uint64_t size = op->size == FILL ? size_that_fills() : op->size;
	unsigned int n = 1 + op->n_more;
	int ret;

	*r = (struct ringbuf_reservation){.event_id = 1, .payload_size = size, .n_more = op->n_more,
					  .flags = RINGBUF_LENGTH_PREFIX};
	p->attempts += n;
	p->open += n;
	ret = ringbuf_reserve_as(sim.ch, p->slot, r);
	if (ret) {
		p->lost[cause_of(ret)] += n;
		p->open -= n;
		return 0;
	}
	if (sim.n_finalized) /* then it was claimed before */
		GE(ringbuf_pos_diff(sim.final_pos[r->stream_idx], r->pos), (int64_t)r->size);
	*seq = p->seq;
	p->seq += n;
	OK(p->seq <= RECORDS_MAX);
	for (uint64_t i = *seq; i < p->seq; i++) {
		p->fate[i] = FATE_OPEN;
		p->time[i] = r->timestamp;
	}
	for (unsigned int i = 0; i < n; i++) {
		if (i)
			ringbuf_next_record(sim.ch, r);
		memset(r->payload, 0xee, size);
		explore_yield();
		stamp_payload(r->payload, size, p->id, *seq + i);
	}
	return 1;
}

static void
end_record(struct producer *p, struct ringbuf_reservation *r, uint64_t seq, int commit)
{
	unsigned int n = 1 + r->n_more;

	memset(&p->fate[seq], commit ? FATE_COMMITTED : FATE_DISCARDED, n);
	if (commit) {
		ringbuf_commit(sim.ch, r);
		p->committed += n;
	} else {
		ringbuf_discard(sim.ch, r);
		p->discarded += n;
	}
	memset(&p->ended[seq], 1, n);
	p->open -= n;
}

/* Locks that the dead actor held are free; so is its certificate. */
static void
release_locks(const struct actor *self, struct ringbuf_producer_slot *certificate)
{
	unsigned int id = (unsigned int)(self - explore_state.actors) + 2;

	for (uint32_t i = 0; i <= sim.ch->n_producers; i++) {
		struct ringbuf_producer_slot *slot = ringbuf_producer_slot_at(sim.ch, i);
		unsigned int *owner = explore_owner_of(&slot->certificate);

		if (*owner == id || slot == certificate)
			*owner = 0;
	}
}

static void
producer_dies(struct actor *self)
{
	struct producer *p = self->arg;

	self->done = 1;
	p->maybe = p->open;
	for (uint64_t i = 0; i < p->seq; i++)
		if (!p->ended[i])
			p->fate[i] = p->fate[i] == FATE_COMMITTED ? FATE_PERHAPS : FATE_TORN;
	release_locks(self, p->slot);
}

static void
finalize_now(struct producer *p)
{
	int ret = ringbuf_finalize(sim.ch, p->slot);

	if (ret == -EPERM)
		return;
	EQ(ret, 0);
	for (uint32_t i = 0; i < sim.ch->n_streams && !sim.n_finalized; i++)
		sim.final_pos[i] = pos_of(sim.ch, i);
	sim.n_finalized++;
}

static const struct op *do_op(struct producer *p, const struct op *op);

static const struct op *
do_record(struct producer *p, const struct op *op)
{
	int nests = op->kind == OP_NEST || op->kind == OP_NEST_DISCARD;
	const struct op *next = op + 1;
	struct ringbuf_reservation r;
	uint64_t seq;

	if (!begin_record(p, &r, op, &seq))
		return next;
	if (nests && next->kind)
		next = do_op(p, next);
	end_record(p, &r, seq, op->kind == OP_RECORD || op->kind == OP_NEST);
	return next;
}

/* Returns the op to do next. */
static const struct op *
do_op(struct producer *p, const struct op *op)
{
	int ret;

	switch (op->kind) {
	case OP_RECORD:
	case OP_DISCARD:
	case OP_NEST:
	case OP_NEST_DISCARD:
		return do_record(p, op);
	case OP_FLUSH:
	case OP_FLUSH_EMPTY:
		ret = ringbuf_flush(sim.ch, p->slot, (uint32_t)op->size % sim.ch->n_streams,
				    op->kind == OP_FLUSH_EMPTY ? RINGBUF_FLUSH_EMPTY : 0);
		CHECK(op->kind == OP_FLUSH_EMPTY || ret == 0 || ret == -EPERM, "%d", ret);
		break;
	case OP_DISABLE:
	case OP_ENABLE:
		ringbuf_set_state(sim.ch, RINGBUF_STATE_DISABLED, op->kind == OP_DISABLE);
		break;
	case OP_FINALIZE:
		finalize_now(p);
		break;
	case OP_REPAIR:
		ringbuf_repair(sim.ch);
		break;
	case OP_END:
		return op;
	}
	return op + 1;
}

static void
produce(void *arg)
{
	struct producer *p = arg;

	for (const struct op *op = p->ops; op->kind;)
		op = do_op(p, op);
}

/* A signal handler over whatever the producer is doing. */
static void
take_signal(void *arg)
{
	struct producer *p = arg;

	if (p->seq + 16 < RECORDS_MAX)
		do_op(p, &sim.signal_op);
}

/* ---- readers ---- */

static uint64_t
read_seq_of(uint32_t idx)
{
	return atomic_load(&ringbuf_stream_at(sim.ch, idx)->read_seq);
}

static void
saw_record(const struct record *rec, void *arg)
{
	struct pending *pending = arg;
	struct producer *p = &sim.producers[rec->stamp.producer];
	uint64_t seq = rec->stamp.seq;

	LT(rec->stamp.producer, sim.n_producers);
	LT(seq, p->seq);
	CHECK(p->fate[seq] == FATE_COMMITTED || p->fate[seq] == FATE_PERHAPS, "producer %u record %llu was read, but its fate is %d",
	      p->id, (unsigned long long)seq, p->fate[seq]);
	CHECK(!p->seen[seq], "producer %u record %llu was read twice", p->id, (unsigned long long)seq);
	EQ(rec->time, p->time[seq]);
	for (uint64_t later = seq + 1; later < p->seq && !sim.unordered; later++)
		CHECK(!p->seen[later], "producer %u: record %llu comes after %llu", p->id,
		      (unsigned long long)seq, (unsigned long long)later);
	p->seen[seq] = 1;
	OK(pending->n < ARRAY_SIZE(pending->records));
	pending->records[pending->n].producer = p->id;
	pending->records[pending->n++].seq = seq;
}

/* Was the packet counted as read? If not, forget what was seen in it. */
static void
settle_pending(uint32_t idx)
{
	struct pending *pending = &sim.pending[idx];

	if (!pending->active)
		return;
	pending->active = 0;
	if (read_seq_of(idx) != pending->read_seq)
		return;
	sim.reading[idx] = pending->before;
	for (unsigned int i = 0; i < pending->n; i++)
		sim.producers[pending->records[i].producer].seen[pending->records[i].seq] = 0;
}

static void
put_held(struct reading *rd, uint32_t idx, enum ringbuf_put how)
{
	struct pending *pending = &sim.pending[idx];
	const struct ringbuf_packet *p = &rd->reader.packet;
	uint8_t copy[4096];

	LE(p->content_size, sizeof(copy));
	memcpy(copy, p->data, p->content_size);
	if (how == RINGBUF_PUT_READ) {
		pending->before = *rd;
		pending->read_seq = read_seq_of(idx);
		pending->n = 0;
		pending->active = 1;
		check_packet(rd);
	}
	for (int i = 0; i < 3; i++)
		explore_yield();
	CHECK(!memcmp(copy, p->data, p->content_size), "a held packet changed");
	ringbuf_put_subbuf(&rd->reader, how);
	settle_pending(idx);
}

static enum ringbuf_put
choose_put(void)
{
	switch (sim.habit) {
	case SNAPSHOTS: return RINGBUF_PUT_BACK;
	case DROPS: return RINGBUF_PUT_DROP;
	case ANYTHING: return (enum ringbuf_put)rnd_below(3);
	default: return RINGBUF_PUT_READ;
	}
}

static void
take_over(uint32_t idx)
{
	settle_pending(idx);
	ringbuf_stream_reader_init(sim.ch, idx, &sim.reading[idx].reader);
	sim.reading[idx].each = saw_record;
	sim.reading[idx].arg = &sim.pending[idx];
}

static void
consume(void *arg)
{
	uint32_t idx = (uint32_t)(uintptr_t)arg;
	struct reading *rd = &sim.reading[idx];

	take_over(idx);
	if (rd->reader.holding)
		put_held(rd, idx, choose_put());
	for (unsigned int i = 0; i < sim.reader_turns; i++) {
		explore_yield();
		if (ringbuf_get_next_subbuf(&rd->reader) == 0)
			put_held(rd, idx, choose_put());
	}
}

static void
reader_dies(struct actor *self)
{
	void (*die)(struct actor *) = self->die;

	release_locks(self, NULL);
	actor_init(self, self->fn, self->arg);
	self->die = die;
}

/* ---- the world ---- */

static struct ringbuf_producer_slot *
take_slot(void)
{
	struct ringbuf_producer_slot *slot = ringbuf_take_producer_slot(sim.ch);

	OK(slot);
	return slot;
}

/* A channel for all schedules of a case; what is done to it before sim_save() is their start. */
static void
sim_create(const struct ringbuf_config *cfg)
{
	memset(&sim, 0, sizeof(sim));
	sim.ch = create(cfg);
	OK(sim.ch->n_streams <= STREAMS_MAX);
	sim.own_slot = take_slot();
	for (uint32_t i = 0; i < PRODUCERS_MAX; i++) {
		sim.producers[i].id = i;
		sim.producers[i].slot = take_slot();
	}
}

static void
sim_destroy(void)
{
	ringbuf_robust_unlock(&sim.own_slot->certificate);
	for (uint32_t i = 0; i < PRODUCERS_MAX; i++)
		ringbuf_robust_unlock(&sim.producers[i].slot->certificate);
	free(sim.saved);
	ringbuf_close(sim.ch);
	sim.ch = NULL;
}

/* Records of the test itself are producer 3's. */
#define OWN 3

static void
sim_prefix(uint64_t size)
{
	struct op op = {OP_RECORD, size, 0};

	sim.n_producers = PRODUCERS_MAX;
	do_op(&sim.producers[OWN], &op);
}

static struct producer sim_prefix_producer;
static uint64_t sim_prefix_time, sim_prefix_last_read[EXPLORE_CPUS];

static void
sim_save(void)
{
	sim.n_producers = PRODUCERS_MAX;
	sim.saved = realloc(sim.saved, sim.ch->region_size);
	OK(sim.saved);
	memcpy(sim.saved, sim.ch->base, sim.ch->region_size);
	sim_prefix_producer = sim.producers[OWN];
	sim_prefix_time = explore_time;
	memcpy(sim_prefix_last_read, explore_last_read, sizeof(explore_last_read));
}

static void
sim_restore(void)
{
	memcpy(sim.ch->base, sim.saved, sim.ch->region_size);
	for (uint32_t i = 0; i < OWN; i++) {
		struct producer *p = &sim.producers[i];
		size_t counts = offsetof(struct producer, seq);

		memset((char *)p + counts, 0, sizeof(*p) - counts);
	}
	sim.producers[OWN] = sim_prefix_producer;
	memset(sim.reading, 0, sizeof(sim.reading));
	for (uint32_t i = 0; i < STREAMS_MAX; i++)
		sim.pending[i].active = 0;
	sim.n_finalized = sim.given_up = 0;
	explore_time = sim_prefix_time;
	memcpy(explore_last_read, sim_prefix_last_read, sizeof(explore_last_read));
}

/* The actors: producers that have a program, then a reader for each stream if it has turns. */
static void
sim_reset(struct actor *actors, unsigned int *n_actors)
{
	unsigned int n = 0;

	sim_restore();
	for (uint32_t i = 0; i < OWN; i++) {
		if (!sim.producers[i].ops[0].kind)
			continue;
		actor_init(&actors[n], produce, &sim.producers[i]);
		actors[n].cpu = i % sim.ch->n_streams;
		if (sim.signals)
			actors[n].signal = take_signal;
		if (sim.mortal)
			actors[n].die = producer_dies;
		n++;
	}
	for (uintptr_t i = 0; i < sim.ch->n_streams && sim.reader_turns; i++) {
		actor_init(&actors[n], consume, (void *)i);
		if (sim.deaths)
			actors[n].die = reader_dies;
		n++;
	}
	explore_state.signals_left = sim.signals;
	explore_state.deaths_left = sim.deaths;
	*n_actors = n;
}

static uint64_t
seen_by(const struct producer *p)
{
	uint64_t n = 0;

	for (uint64_t i = 0; i < p->seq; i++)
		n += p->seen[i];
	return n;
}

/* What was in flight when its producer died is counted once, as whatever it came to, or not at all. */
static void
check_counts_of_mortals(const struct ringbuf_stats *st, uint64_t attempts, uint64_t committed, uint64_t maybe)
{
	uint64_t counted = st->written + st->discarded + lost_total(st);
	uint64_t torn = st->lost[RINGBUF_LOST_TORN];

	LE(counted, attempts);
	GE(counted + maybe, attempts);
	EQ(st->written, st->read + st->overrun + st->unread + torn);
	if (!sim.given_up) {
		LE(torn, maybe);
		GE(st->written - torn, committed);
	}
}

/* Counters against what the producers know of their own records. */
static struct ringbuf_stats
check_counts(void)
{
	struct ringbuf_stats st = stats_of(sim.ch);
	uint64_t attempts = 0, committed = 0, discarded = 0, seen = 0, maybe = 0, lost[RINGBUF_N_CAUSES] = {0};

	for (unsigned int i = 0; i < sim.n_producers; i++) {
		const struct producer *p = &sim.producers[i];

		attempts += p->attempts;
		committed += p->committed;
		discarded += p->discarded;
		maybe += p->maybe;
		seen += seen_by(p);
		for (int cause = 0; cause < RINGBUF_N_CAUSES; cause++)
			lost[cause] += p->lost[cause];
	}
	EQ(st.read, seen);
	if (maybe) {
		check_counts_of_mortals(&st, attempts, committed, maybe);
		return st;
	}
	EQ(st.written, committed);
	EQ(st.discarded, discarded);
	for (int cause = RINGBUF_LOST_FULL; cause <= RINGBUF_LOST_DISABLED; cause++)
		CHECK(st.lost[cause] == lost[cause], "cause %d: %llu, counted %llu", cause,
		      (unsigned long long)st.lost[cause], (unsigned long long)lost[cause]);
	CHECK_IDENTITIES(st, attempts);
	return st;
}

/* Every sub-buffer is in one slot, or the reader's, or a spare. */
static void
check_places(uint32_t stream_idx)
{
	struct ringbuf_stream *s = ringbuf_stream_at(sim.ch, stream_idx);
	uint16_t places[RINGBUF_ALL_MAX];
	uint64_t next = ringbuf_subbuf_ceil(&sim.ch->geometry, pos_of(sim.ch, stream_idx));
	uint32_t in_ring = 0;

	EQ(atomic_load(&s->hold), 0);
	ringbuf_find_places(sim.ch, s, places);
	for (uint32_t i = 0; i < sim.ch->n_all; i++) {
		uint64_t stage = atomic_load(&ringbuf_subbuf_at(sim.ch, s, i)->stage);
		enum ringbuf_stage phase = ringbuf_stage_phase(stage);

		in_ring += places[i] != 0;
		EQ(stage & RINGBUF_STAGE_KEPT, 0);
		NE(phase, RINGBUF_STAGE_PARKED);
		NE(phase, RINGBUF_STAGE_OUTSIDE);
		if (atomic_load(&s->spare) == i)
			OK(!places[i] && phase != RINGBUF_STAGE_FREE);
		else if (places[i])
			NE(phase, RINGBUF_STAGE_FREE);
		else
			OK(ringbuf_stage_is(stage, next, RINGBUF_STAGE_TAKEN) || ringbuf_is_spare(sim.ch, s, i, stage, next));
	}
	EQ(in_ring, ringbuf_n_subbufs(&sim.ch->geometry));
}

static void
sim_check(void)
{
	struct ringbuf_stats st;
	uint64_t packets = 0;

	if (sim.mortal)
		GE(ringbuf_repair(sim.ch), 0);
	for (uint32_t i = 0; i < PRODUCERS_MAX; i++)
		OK(ringbuf_ledger_is_idle(sim.producers[i].slot));
	for (uint32_t i = 0; i < sim.ch->n_streams && sim.n_finalized; i++)
		CHECK(pos_of(sim.ch, i) == sim.final_pos[i], "stream %u moved after finalize had returned", i);
	for (uint32_t i = 0; i < sim.ch->n_streams; i++)
		settle_pending(i);
	check_counts();
	for (uint32_t i = 0; i < sim.ch->n_streams; i++) {
		struct reading *rd = &sim.reading[i];

		take_over(i);
		if (rd->reader.holding)
			put_held(rd, i, RINGBUF_PUT_READ);
		EQ(ringbuf_flush(sim.ch, sim.own_slot, i, 0), 0);
		while (ringbuf_get_next_subbuf(&rd->reader) == 0)
			put_held(rd, i, RINGBUF_PUT_READ);
		packets += rd->packets;
	}
	st = check_counts();
	EQ(st.unread, 0);
	EQ(st.parked_now, 0);
	for (uint32_t i = 0; i < sim.ch->n_streams; i++)
		check_places(i);
	if (sim.suffice)
		EQ(st.lost[RINGBUF_LOST_WRAP], 0);
	if (sim.ch->mode == RINGBUF_DISCARD && (sim.habit == READS || sim.habit == SNAPSHOTS))
		EQ(st.overrun, 0);
	for (unsigned int i = 0; i < sim.n_producers && !st.overrun && !sim.given_up; i++)
		for (uint64_t seq = 0; seq < sim.producers[i].seq; seq++)
			CHECK(sim.producers[i].fate[seq] != FATE_COMMITTED || sim.producers[i].seen[seq],
			      "producer %u record %llu was committed and is gone", i, (unsigned long long)seq);
	LE(packets, st.packets_read);
}

static const struct world sim_world = {sim_reset, sim_check};

static UNUSED void
program(uint32_t producer, struct op a, struct op b, struct op c)
{
	memset(sim.producers[producer].ops, 0, sizeof(sim.producers[producer].ops));
	sim.producers[producer].ops[0] = a;
	sim.producers[producer].ops[1] = b;
	sim.producers[producer].ops[2] = c;
}

#define END ((struct op){OP_END, 0, 0})
#define RECORD(size) ((struct op){OP_RECORD, (size), 0})
#define RECORDS(n, size) ((struct op){OP_RECORD, (size), (n) - 1})
#define DISCARD(size) ((struct op){OP_DISCARD, (size), 0})
#define DISCARDS(n, size) ((struct op){OP_DISCARD, (size), (n) - 1})
#define NEST(size) ((struct op){OP_NEST, (size), 0})
#define NEST_DISCARD(size) ((struct op){OP_NEST_DISCARD, (size), 0})
#define FLUSH(stream) ((struct op){OP_FLUSH, (stream), 0})
#define FLUSH_EMPTY(stream) ((struct op){OP_FLUSH_EMPTY, (stream), 0})
#define FINALIZE ((struct op){OP_FINALIZE, 0, 0})
#define REPAIR ((struct op){OP_REPAIR, 0, 0})

/* All schedules of `bound` preemptions; with RINGBUF_SOAK, as many as that many seconds allow. */
static UNUSED void
sim_explore(unsigned int bound)
{
	unsigned long long runs;
	int complete;
	double limit = getenv("RINGBUF_SOAK") ? soak_ns(0) / 1e9 : 30;

	sim_save();
	runs = explore(&sim_world, getenv("RINGBUF_SOAK") ? bound + 1 : bound, limit, &complete);
	printf("# %llu schedules%s\n", runs, complete ? "" : ", not all");
	CHECK(complete || SANITIZED || getenv("RINGBUF_SOAK"), "too many schedules for the time: %llu", runs);
}

/* ---- random ---- */

static int sim_mortals; /* random programs are of producers that may die */

static uint64_t
random_size(void)
{
	switch (rnd_below(8)) {
	case 0: return FILL;
	case 1: return rnd_below(16) ? 3990 : 5000;
	case 2:
	case 3: return 1000 + rnd_below(1500);
	default: return 16 + rnd_below(64);
	}
}

static struct op
random_op(void)
{
	static const uint8_t kinds[] = {
		OP_RECORD, OP_RECORD, OP_RECORD, OP_RECORD, OP_DISCARD, OP_DISCARD, OP_NEST,
		OP_NEST_DISCARD, OP_FLUSH, OP_FLUSH_EMPTY};
	struct op op = {(enum op_kind)kinds[rnd_below(sizeof(kinds))], random_size(), 0};

	if (op.kind == OP_FLUSH || op.kind == OP_FLUSH_EMPTY)
		op.size = rnd_below(2);
	else if (!rnd_below(4))
		op.n_more = (uint32_t)rnd_below(4);
	if (!rnd_below(200))
		op.kind = (enum op_kind)(OP_DISABLE + rnd_below(3));
	if (sim_mortals && !rnd_below(8))
		op.kind = OP_REPAIR;
	return op;
}

static void
random_programs(void)
{
	unsigned int n = 1 + (unsigned int)rnd_below(3);

	for (unsigned int i = 0; i < OWN; i++) {
		unsigned int length = i < n ? 1 + (unsigned int)rnd_below(OPS_MAX) : 0;

		memset(sim.producers[i].ops, 0, sizeof(sim.producers[i].ops));
		for (unsigned int j = 0; j < length; j++)
			sim.producers[i].ops[j] = random_op();
	}
	sim.habit = rnd_below(3) ? READS : ANYTHING;
	sim.reader_turns = (unsigned int)rnd_below(8);
	sim.mortal = sim_mortals;
	sim.deaths = sim_mortals ? 1 + (unsigned int)rnd_below(3) : rnd_below(3) ? 0 : (unsigned int)rnd_below(4);
	sim.signals = rnd_below(3) ? 0 : (unsigned int)rnd_below(10);
	do {
		sim.signal_op = random_op();
	} while (sim.signal_op.kind == OP_NEST || sim.signal_op.kind == OP_NEST_DISCARD ||
		 sim.signal_op.kind >= OP_DISABLE);
	explore_state.switch_odds = 1u << rnd_below(7);
	explore_state.signal_odds = 1u << rnd_below(8);
	explore_state.death_odds = 1u << rnd_below(8);
	explore_state.migrate_odds = rnd_below(2) ? 0 : 4u << rnd_below(6);
	sim.unordered = sim.signals || sim.ch->n_streams > 1;
}

static void
random_channel(int mode, uint32_t n_streams, uint32_t n_cpus)
{
	uint64_t n = rnd_below(3) ? 2 : 4;
	uint64_t starts[] = {0, POS_END - n * 4096, (UINT64_C(1) << 20) * n * 4096 - n * 4096,
			     POS_END / 2 - n * 4096};

	if (sim.ch)
		sim_destroy();
	sim_create(CONFIG(.mode = (uint32_t)mode, .n_subbufs = n, .header = (uint32_t)rnd_below(2),
			  .streams = n_streams ? RINGBUF_PER_CPU : RINGBUF_GLOBAL, .n_streams = n_streams,
			  .n_spares = (uint32_t)rnd_below(2) * (uint32_t)rnd_below(5),
			  .start_pos = starts[rnd_below(ARRAY_SIZE(starts))]));
	sim.ch->cpus_share = n_cpus > sim.ch->n_streams;
	explore_state.n_cpus = n_cpus;
	for (uint64_t i = rnd_below(10); i; i--)
		sim_prefix(random_size());
	sim_save();
}

static UNUSED void
random_schedules(int mode, uint32_t n_streams, uint32_t n_cpus)
{
	for (struct runs r = runs(1.2); next_run(&r);) {
		if (r.n % 500 == 0 || !sim.ch) {
			rnd_seed(UINT64_C(1) << 40 | r.n / 500);
			random_channel(mode, n_streams, n_cpus);
			rnd_seed(r.n);
		}
		random_programs();
		explore_random(&sim_world);
	}
}

#endif /* SIM_H */
