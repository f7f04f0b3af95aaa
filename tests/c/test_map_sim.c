/*
 * map.h under random schedules: two mappers, of one struct ringbuf_map or each with its own, beside producers
 * that record several at once, nest, discard and flush; all may die anywhere. Every record is handed out once, or
 * counted as what it came to; nothing that was handed out changes; and whenever all is quiet, the meta page says
 * what the stream's own statistics do.
 */
#include "sim.h"

#define MAPPERS 2

struct mapper {
	struct ringbuf_map own, *map;
	struct ringbuf_producer_slot *slot; /* for its flushes */
	unsigned int turns;
};

static struct mapper mappers[MAPPERS];
static struct ringbuf_stream *s;
static uint64_t n_seen;
static int mapper_deaths; /* in this run */
static unsigned long long swaps, extensions, clears, died;

/* What was handed out of the sub-buffer at hand, and by position which that is. */
static struct {
	uint64_t pos, from, to; /* to = 0: nothing */
	uint8_t bytes[4096];
	struct {
		uint32_t producer;
		uint64_t seq;
	} records[300];
	unsigned int n;
} at_hand;

static const struct ringbuf_meta *
meta(void)
{
	return (const struct ringbuf_meta *)(const void *)((const uint8_t *)(const void *)s + sim.ch->meta_off);
}

static int
is_locked(void)
{
	return *explore_owner_of(&s->map_lock) != 0;
}

/* Producers may go on in the sub-buffer, behind what was handed out. */
static void
check_at_hand(const struct ringbuf_map *map)
{
	if (at_hand.to && !is_locked())
		CHECK(!memcmp(at_hand.bytes + at_hand.from, ringbuf_map_subbuf(map, meta()->reader.id) + at_hand.from,
			      at_hand.to - at_hand.from),
		      "what was handed out has changed");
}

static void
saw(const struct record *rec)
{
	struct producer *p = &sim.producers[rec->stamp.producer];
	uint64_t seq = rec->stamp.seq;

	check_stamp(rec);
	LT(rec->stamp.producer, PRODUCERS_MAX);
	LT(seq, p->seq);
	CHECK(p->fate[seq] == FATE_COMMITTED || p->fate[seq] == FATE_PERHAPS,
	      "producer %u record %llu was handed out, but its fate is %d", p->id, (unsigned long long)seq, p->fate[seq]);
	CHECK(!p->seen[seq], "producer %u record %llu was handed out twice", p->id, (unsigned long long)seq);
	EQ(rec->time, p->time[seq]);
	p->seen[seq] = 1;
	OK(at_hand.n < ARRAY_SIZE(at_hand.records));
	at_hand.records[at_hand.n].producer = p->id;
	at_hand.records[at_hand.n++].seq = seq;
	n_seen++;
}

/* What the last call handed out. Not a step of any schedule: nobody has the lock, or a turn, meanwhile. */
static void
look(const struct ringbuf_map *map)
{
	uint64_t header = sim.ch->packet_header_size;
	const uint8_t *data = ringbuf_map_subbuf(map, meta()->reader.id);
	struct ringbuf_packet p = {.data = data, .content_size = map->to, .timestamp_end = INT64_MAX};
	struct walker w = {.ch = sim.ch, .p = &p, .off = header, .time = get_le(data + 32, 8)};
	struct record rec;

	if (map->from == map->to)
		return;
	if (map->from == header)
		at_hand.n = 0;
	p.records = ringbuf_map_handed_out(&map->reader).records;
	EQ(meta()->reader.read, map->to - header);
	while (walk_next(&w, &rec))
		if (rec.off >= map->from)
			saw(&rec);
	at_hand.pos = map->reader.packet.pos;
	at_hand.from = header;
	at_hand.to = map->to;
	memcpy(at_hand.bytes, data, map->to);
}

/* One call of get_reader, and all that must hold after it. Returns whether it could be made. */
static int
swap(struct mapper *m)
{
	struct ringbuf_map *map = m->map;
	uint64_t pages_lost, lost_before;
	enum explore_mode mode = explore_state.mode;
	int ret;

	explore_state.mode = EXPLORE_SCRIPT; /* nobody else has a turn */
	check_at_hand(map);
	lost_before = atomic_load(&s->map_overrun);
	pages_lost = meta()->pages_lost;
	explore_state.mode = mode;
	ret = ringbuf_map_get_reader(map);
	explore_state.mode = EXPLORE_SCRIPT;
	if (ret == -EBUSY) {
		explore_state.mode = mode;
		return 0;
	}
	EQ(ret, meta()->reader.id);
	GE(atomic_load(&s->map_overrun), lost_before);
	CHECK(meta()->reader.lost_events < 1000000, "%lld lost events", (long long)meta()->reader.lost_events);
	GE(meta()->pages_lost, mapper_deaths ? 0 : pages_lost);
	if (!map->reader.holding || map->reader.packet.pos != at_hand.pos)
		at_hand.to = 0;
	extensions += map->from > sim.ch->packet_header_size && map->from < map->to;
	swaps += map->from == sim.ch->packet_header_size && map->from < map->to;
	look(map);
	if (!mapper_deaths && !sim.given_up)
		EQ(meta()->read, n_seen);
	explore_state.mode = mode;
	return 1;
}

static void
clear(struct mapper *m)
{
	check_at_hand(m->map);
	clears += ringbuf_map_clear(m->map, m->slot) == 0;
	at_hand.to = 0;
}

static void
use_mapping(void *arg)
{
	struct mapper *m = arg;

	if (!m->map->base) {
		void (*die)(struct actor *) = explore_running->die;

		explore_running->die = NULL;
		while (ringbuf_map_open(sim.ch, 0, m->map) == -EBUSY)
			explore_yield();
		explore_running->die = die;
	}
	for (unsigned int i = 0; i < m->turns; i++) {
		uint64_t dice = rnd_below(32);

		explore_yield();
		if (dice < 26)
			swap(m);
		else if (dice < 28)
			ringbuf_map_is_ready(m->map, (unsigned int)rnd_below(3) * 50);
		else if (dice < 30 && sim.mortal)
			ringbuf_map_repair(m->map);
		else if (dice == 31 && !sim.mortal)
			clear(m);
	}
}

/* Its process is gone; the next of its kind makes a mapping of its own. */
static void
mapper_dies(struct actor *self)
{
	struct mapper *m = self->arg;
	void (*die)(struct actor *) = self->die;
	unsigned int *lock = explore_owner_of(&s->map_lock);

	died++;
	mapper_deaths++;
	if (*lock == (unsigned int)(self - explore_state.actors) + 2)
		*lock = 0;
	release_locks(self, NULL);
	ringbuf_close_reader(&m->map->right);
	ringbuf_map_unmap(m->map);
	memset(m->map, 0, sizeof(*m->map));
	/* what it was about to hand out may be handed out again, and so may all of that sub-buffer */
	for (unsigned int i = 0; i < at_hand.n; i++)
		sim.producers[at_hand.records[i].producer].seen[at_hand.records[i].seq] = 0;
	at_hand.n = 0;
	at_hand.to = 0;
	actor_init(self, self->fn, self->arg);
	self->die = die;
}

static void
open_mappers(void)
{
	for (unsigned int i = 0; i < MAPPERS; i++)
		if (mappers[i].map->base == NULL)
			EQ(ringbuf_map_open(sim.ch, 0, mappers[i].map), 0);
}

static void
close_mappers(void)
{
	for (unsigned int i = 0; i < MAPPERS; i++)
		if (mappers[i].map && mappers[i].map->base) {
			ringbuf_map_close(mappers[i].map);
			memset(mappers[i].map, 0, sizeof(*mappers[i].map));
		}
}

static void
world_reset(struct actor *actors, unsigned int *n_actors)
{
	unsigned int n;
	int shared = rnd_below(3) == 0;

	sim_reset(actors, &n);
	s = ringbuf_stream_at(sim.ch, 0);
	n_seen = 0;
	mapper_deaths = 0;
	memset(&at_hand, 0, sizeof(at_hand));
	mappers[0].slot = sim.own_slot;
	mappers[1].slot = sim.producers[2].slot;
	for (unsigned int i = 0; i < MAPPERS; i++) {
		struct mapper *m = &mappers[i];

		m->map = shared ? &mappers[0].own : &m->own;
		m->turns = 1 + (unsigned int)rnd_below(12);
		actor_init(&actors[n], use_mapping, m);
		/* one that shares its mapping takes the other with it */
		actors[n++].die = sim.mortal && !shared ? mapper_dies : NULL;
	}
	open_mappers();
	*n_actors = n;
}

/* All is quiet: the page says what the statistics do. */
static void
check_meta(struct mapper *m)
{
	const struct ringbuf_geometry *g = &sim.ch->geometry;
	struct ringbuf_stats st;
	struct ringbuf_part part = {0, 0};
	uint64_t past;

	OK(swap(m));
	st = stats_of(sim.ch);
	if (m->map->reader.holding)
		part = ringbuf_map_handed_out(&m->map->reader);
	past = ringbuf_subbuf_ceil(g, ringbuf_pos_sub(pos_of(sim.ch, 0), sim.ch->start_pos)) >> g->subbuf_order;
	EQ(meta()->entries, st.written - st.lost[RINGBUF_LOST_TORN]);
	EQ(meta()->overrun, st.overrun);
	EQ(meta()->read, st.read + part.records);
	EQ(meta()->dropped, lost_total(&st) - st.lost[RINGBUF_LOST_DISABLED]);
	EQ(meta()->discarded, st.discarded);
	EQ(meta()->torn, st.lost[RINGBUF_LOST_TORN]);
	EQ(meta()->pages_touched, past);
	LE(meta()->pages_lost + st.packets_read, past);
	EQ(st.written, st.read + st.overrun + st.unread + st.lost[RINGBUF_LOST_TORN]);
}

static void
check_records(void)
{
	struct ringbuf_stats st = stats_of(sim.ch);
	uint64_t attempts = 0, committed = 0, maybe = 0, gone = 0;

	for (unsigned int i = 0; i < PRODUCERS_MAX; i++) {
		const struct producer *p = &sim.producers[i];

		attempts += p->attempts;
		committed += p->committed;
		maybe += p->maybe;
		for (uint64_t seq = 0; seq < p->seq; seq++)
			gone += p->fate[seq] == FATE_COMMITTED && !p->seen[seq];
	}
	if (maybe)
		check_counts_of_mortals(&st, attempts, committed, maybe);
	else
		CHECK_IDENTITIES(st, attempts);
	EQ(st.unread, 0);
	if (!mapper_deaths && !sim.given_up)
		LE(gone, st.overrun);
	if (!mapper_deaths && !maybe && !sim.given_up)
		EQ(gone, st.overrun);
	if (!mapper_deaths && !sim.given_up)
		EQ(meta()->read, n_seen);
}

static void
world_check(void)
{
	uint64_t before;

	open_mappers();
	if (sim.mortal)
		GE(ringbuf_repair(sim.ch), 0);
	for (unsigned int i = 0; i < 2 * MAPPERS; i++)
		check_meta(&mappers[i % MAPPERS]);
	EQ(ringbuf_flush(sim.ch, sim.own_slot, 0, 0), 0);
	do {
		before = n_seen;
		for (unsigned int i = 0; i < MAPPERS; i++)
			check_meta(&mappers[i]);
	} while (n_seen > before);
	check_meta(&mappers[0]);
	EQ(ringbuf_map_is_ready(mappers[1].map, 0), 0);
	check_records();
	close_mappers();
}

static const struct world world = {world_reset, world_check};

static void
count_given_up(const char *name)
{
	sim.given_up += !strcmp(name, "repair_giving_up");
}

static void
random_mappers(int mode, int mortal)
{
	sim_mortals = mortal;
	explore_passed = count_given_up;
	for (struct runs r = runs(1.2); next_run(&r);) {
		if (r.n % 500 == 0 || !sim.ch) {
			rnd_seed(UINT64_C(1) << 40 | r.n / 500);
			random_channel(mode, 0, 1);
			rnd_seed(r.n);
		}
		random_programs();
		memset(sim.producers[2].ops, 0, sizeof(sim.producers[2].ops)); /* a mapper has its slot */
		sim.reader_turns = 0;
		if (!mortal)
			sim.deaths = 0;
		explore_random(&world);
	}
	printf("# %llu swaps, %llu extensions, %llu clears, %llu dead mappers\n", swaps, extensions, clears, died);
	CHECK(getenv("RINGBUF_RUN") || (swaps && extensions), "nothing was handed out, or nothing in parts");
}

TEST(random_mappers_in_discard_mode)
{
	random_mappers(RINGBUF_DISCARD, 0);
}

TEST(random_mappers_in_overwrite_mode)
{
	random_mappers(RINGBUF_OVERWRITE, 0);
}

TEST(random_deaths_of_mappers_and_producers_in_discard_mode)
{
	random_mappers(RINGBUF_DISCARD, 1);
}

TEST(random_deaths_of_mappers_and_producers_in_overwrite_mode)
{
	random_mappers(RINGBUF_OVERWRITE, 1);
}
