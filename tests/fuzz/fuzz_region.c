/*
 * A channel in use by one process, while another (the input) changes words of
 * the shared region between any two calls. Nothing may be touched outside of
 * it, and no call may run on without end (the fuzzer's time limit).
 */
#include "fuzz.h"

#define OPEN_MAX 3

static struct ringbuf_channel *ch;
static struct ringbuf_producer *self;
static struct ringbuf_stream_reader readers[2];
static struct ringbuf_reservation open_records[OPEN_MAX];
static unsigned int n_open;

/* ---- those who use it ---- */

static struct ringbuf_stream_reader *
any_reader(void)
{
	return &readers[fuzz_take(1) % ch->n_streams];
}

/* As one does who finds what the last reader had in its hands. */
static void
begin_reading(uint32_t stream_idx)
{
	ringbuf_stream_reader_init(ch, stream_idx, &readers[stream_idx]);
}

static void
get(struct ringbuf_stream_reader *r)
{
	if (!r->holding && ringbuf_get_next_subbuf(r))
		return;
	FUZZ_REQUIRE(r->holding);
	fuzz_read(ch, &r->packet);
}

static void
get_at(struct ringbuf_stream_reader *r)
{
	uint64_t back = fuzz_take(1), pos = ringbuf_pos(ringbuf_load(&r->s->produced, RINGBUF_RELAXED));

	pos = ringbuf_pos_sub(ringbuf_subbuf_begin(&ch->geometry, pos), (back & 15) << 12) | back >> 7;
	if (ringbuf_get_subbuf(r, pos) == 0)
		fuzz_read(ch, &r->packet);
}

static void
put(struct ringbuf_stream_reader *r, enum ringbuf_put how)
{
	if (r->holding)
		ringbuf_put_subbuf(r, how);
}

/* As a waiting reader does it: get or repair, until neither helps. Packets are
 * bounded by what a ring can have; nobody records meanwhile. */
static void
read_all(struct ringbuf_stream_reader *r)
{
	unsigned int steps = 0;

	do {
		get(r);
		if (r->holding)
			ringbuf_put_subbuf(r, RINGBUF_PUT_READ);
		else if (!ringbuf_repair_next(r))
			break;
	} while (++steps <= 4 * ringbuf_n_subbufs(&ch->geometry));
	FUZZ_REQUIRE(steps <= 4 * ringbuf_n_subbufs(&ch->geometry));
}

static void
snapshot(struct ringbuf_stream_reader *r)
{
	uint64_t pos, to, steps = 0;

	ringbuf_snapshot_range(r, &pos, &to);
	for (; pos != to; pos = ringbuf_pos_add(pos, 4096)) {
		FUZZ_REQUIRE(++steps <= ringbuf_n_subbufs(&ch->geometry));
		if (!r->holding && ringbuf_get_subbuf(r, pos) == 0) {
			fuzz_read(ch, &r->packet);
			ringbuf_put_subbuf(r, RINGBUF_PUT_BACK);
		}
	}
}

static void
open_record(void)
{
	uint64_t size = fuzz_take(2) % 4400;

	fuzz_cpu = (uint32_t)size & 1;
	if (n_open < OPEN_MAX && !fuzz_record(ch, size, &open_records[n_open]))
		n_open++;
}

static void
end_record(int commit)
{
	unsigned int i = n_open ? (unsigned int)fuzz_take(1) % n_open : 0;

	if (!n_open)
		return;
	if (commit)
		ringbuf_commit(ch, &open_records[i]);
	else
		ringbuf_discard(ch, &open_records[i]);
	open_records[i] = open_records[--n_open];
}

static void
declare_and_walk(void)
{
	char name[] = {'e', (char)('a' + fuzz_take(1) % 26), 0};
	struct ringbuf_schema s;
	uint64_t off = 0;

	ringbuf_declare_event(ch, name, "", "n:u64");
	while (ringbuf_next_schema(ch, &off, &s)) {
		FUZZ_REQUIRE((const uint8_t *)s.name >= ch->base + ch->schema_off);
		FUZZ_REQUIRE((const uint8_t *)s.fields + s.fields_size <= ch->base + ch->schema_off + ch->schema_size);
	}
}

static void
step(uint64_t op)
{
	struct ringbuf_stats st;

	switch (op) {
	case 0: get(any_reader()); break;
	case 1: put(any_reader(), RINGBUF_PUT_READ); break;
	case 2: put(any_reader(), RINGBUF_PUT_BACK); break;
	case 3: put(any_reader(), RINGBUF_PUT_DROP); break;
	case 4: get_at(any_reader()); break;
	case 5: read_all(any_reader()); break;
	case 6: snapshot(any_reader()); break;
	case 7: ringbuf_channel_stats(ch, &st); break;
	case 8: begin_reading((uint32_t)fuzz_take(1) % ch->n_streams); break;
	case 9: ringbuf_repair(ch); break;
	case 10: ringbuf_flush(ch, self->slot, (uint32_t)fuzz_take(1) % ch->n_streams, fuzz_take(1) & 1); break;
	case 11: ringbuf_set_state(ch, RINGBUF_STATE_DISABLED, fuzz_take(1) & 1); break;
	case 12: ringbuf_finalize(ch, self->slot); break;
	case 13: ringbuf_is_at_end(any_reader(), self->slot); break;
	case 14: put(&readers[0], RINGBUF_PUT_BACK); ringbuf_clear_stream(&readers[0], self->slot); break;
	case 15: ringbuf_has_packet(any_reader()); break;
	case 16: declare_and_walk(); break;
	case 17: fuzz_die_over(ch); break;
	case 18:
	case 19:
	case 20: open_record(); break;
	case 21: end_record(0); break;
	case 22:
	case 23: end_record(1); break;
	default: fuzz_scribble(ch, op); break;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	fuzz_tape.at = data;
	fuzz_tape.left = size;
	ch = fuzz_create(fuzz_take(1));
	self = ringbuf_this_producer(ch);
	n_open = 0;
	for (uint32_t i = 0; i < ch->n_streams; i++)
		begin_reading(i);
	for (uint64_t n = fuzz_take(1); n; n--) { /* something to read */
		open_record();
		end_record(n % 8 != 0);
	}
	while (fuzz_tape.left)
		step(fuzz_take(1) % 32);
	while (n_open)
		end_record(1);
	for (uint32_t i = 0; i < ch->n_streams; i++)
		read_all(&readers[i]);
	fuzz_close(ch);
	FUZZ_REQUIRE(!ringbuf_registry.rights && !ringbuf_registry.channels);
	return 0;
}
