/*
 * As fuzz_region.c, for those who map a stream instead of reading it.
 */
#include "fuzz.h"

static struct ringbuf_channel *ch;
static struct ringbuf_producer *self;
static struct ringbuf_map maps[2];
static int is_open[2];

static void
open_or_close(unsigned int i)
{
	if (is_open[i])
		ringbuf_map_close(&maps[i]);
	is_open[i] = !is_open[i] && ringbuf_map_open(ch, 0, &maps[i]) == 0;
}

/* What is handed out can be read. */
static void
get(struct ringbuf_map *map)
{
	int id = ringbuf_map_get_reader(map);

	if (id < 0)
		return;
	FUZZ_REQUIRE((uint32_t)id <= ringbuf_n_subbufs(&ch->geometry));
	FUZZ_REQUIRE(map->from <= map->to && map->to <= ringbuf_subbuf_size(&ch->geometry));
	for (uint64_t at = map->from; at < map->to; at += 64)
		(void)*(const volatile uint8_t *)(ringbuf_map_subbuf(map, (uint32_t)id) + at);
}

static void
record(int commit)
{
	struct ringbuf_reservation r;

	if (fuzz_record(ch, fuzz_take(2) % 4400, &r))
		return;
	if (commit)
		ringbuf_commit(ch, &r);
	else
		ringbuf_discard(ch, &r);
}

static void
step(uint64_t op)
{
	unsigned int i = (unsigned int)op & 1;

	switch (op >> 1) {
	case 0: open_or_close(i); break;
	case 1:
	case 2: if (is_open[i]) get(&maps[i]); break;
	case 3: if (is_open[i]) ringbuf_map_is_ready(&maps[i], (unsigned int)fuzz_take(1) % 101); break;
	case 4: if (is_open[i]) ringbuf_map_repair(&maps[i]); break;
	case 5: if (is_open[i]) ringbuf_map_clear(&maps[i], self->slot); break;
	case 6: if (is_open[i]) ringbuf_map_is_at_end(&maps[i], self->slot); break;
	case 7: ringbuf_flush(ch, self->slot, 0, i); break;
	case 8: fuzz_die_over(ch); break;
	case 9:
	case 10:
	case 11: record(fuzz_take(1) % 8 != 0); break;
	case 12: if (i) ringbuf_finalize(ch, self->slot); break;
	default: fuzz_scribble(ch, op); break;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	fuzz_tape.at = data;
	fuzz_tape.left = size;
	ch = fuzz_create(fuzz_take(1) & ~UINT64_C(4));
	self = ringbuf_this_producer(ch);
	for (uint64_t n = fuzz_take(1) % 64; n; n--)
		record(1);
	open_or_close(0);
	while (fuzz_tape.left)
		step(fuzz_take(1) % 36);
	for (unsigned int i = 0; i < 2; i++)
		if (is_open[i])
			open_or_close(i);
	fuzz_close(ch);
	FUZZ_REQUIRE(!ringbuf_registry.rights && !ringbuf_registry.channels);
	return 0;
}
