/* ledger.h: what a producer would leave behind at each of its steps. */
#define HARNESS_HOOKS
#define HARNESS_CLOCK
#include "harness.h"

static struct ringbuf_channel *ch;

/* What is seen of the entries at a test point. */
static struct ringbuf_ledger_entry seen[RINGBUF_NESTING_MAX];

static void
look(void *arg)
{
	memcpy((void *)seen, (const void *)my_slot(ch)->ledger, sizeof(seen));
	if (arg)
		hook_at((const char *)arg, look, NULL);
}

static uint64_t
word(int i)
{
	return atomic_load(&seen[i].word);
}

static void
check_entry(int i, enum ringbuf_ledger_state state, uint64_t pos)
{
	EQ(ringbuf_ledger_state(word(i)), state);
	EQ(word(i) & RINGBUF_POS_MASK, pos);
	EQ(ringbuf_ledger_stream(word(i)), 0);
}

static int
all_idle(void)
{
	return ringbuf_ledger_is_idle(my_slot(ch));
}

TEST(a_word_holds_state_stream_and_position)
{
	enum ringbuf_ledger_state states[] = {RINGBUF_LEDGER_CLAIMING, RINGBUF_LEDGER_OWNED,
					      RINGBUF_LEDGER_WRITTEN};

	for (int i = 0; i < 10000; i++) {
		uint32_t stream = (uint32_t)rnd_below(RINGBUF_STREAMS_MAX);
		uint64_t pos = rnd() & RINGBUF_POS_MASK, w;
		enum ringbuf_ledger_state state = states[rnd_below(3)];

		w = ringbuf_ledger_word(state, stream, pos);
		EQ(ringbuf_ledger_state(w), state);
		EQ(ringbuf_ledger_stream(w), stream);
		EQ(w & RINGBUF_POS_MASK, pos);
		EQ(w & RINGBUF_LEDGER_OPENS, 0);
		w |= RINGBUF_LEDGER_OPENS;
		EQ(ringbuf_ledger_state(w), state);
		EQ(ringbuf_ledger_stream(w), stream);
		EQ(w & RINGBUF_POS_MASK, pos);
	}
	NE(ringbuf_ledger_word(RINGBUF_LEDGER_CLAIMING, 0, 0), 0);
}

TEST(entries_are_taken_one_by_one_and_there_are_four)
{
	struct ringbuf_producer_slot *slot;
	struct ringbuf_ledger_entry *e[RINGBUF_NESTING_MAX];

	ch = create(CONFIG());
	slot = my_slot(ch);
	EQ(RINGBUF_NESTING_MAX, 4);
	OK(!ringbuf_ledger_is_full(slot));
	for (int i = 0; i < 4; i++) {
		e[i] = ringbuf_ledger_take(slot);
		OK(e[i]);
		for (int j = 0; j < i; j++)
			OK(e[i] != e[j]);
	}
	OK(ringbuf_ledger_is_full(slot));
	OK(!ringbuf_ledger_take(slot));
	ringbuf_ledger_idle(e[2]);
	OK(!ringbuf_ledger_is_full(slot));
	OK(ringbuf_ledger_take(slot) == e[2]);
}

TEST(a_record_goes_through_its_states)
{
	struct ringbuf_reservation r;
	uint64_t pos;

	ch = create(CONFIG());
	EQ(record(ch, 16, 0), 0);
	pos = pos_of(ch, 0);

	hook_at("ledger_claimed", look, NULL);
	EQ(reserve(ch, &r, 100, 1), 0);
	check_entry(0, RINGBUF_LEDGER_CLAIMING, pos);
	EQ(word(0) & RINGBUF_LEDGER_OPENS, 0);
	EQ(atomic_load(&seen[0].extent), r.size);
	EQ(atomic_load(&seen[0].timestamp), r.timestamp);
	look(NULL);
	check_entry(0, RINGBUF_LEDGER_OWNED, pos);
	hook_at("commit_begin", look, NULL);
	hook_at("commit_written", look, NULL);
	ringbuf_commit(ch, &r);
	check_entry(0, RINGBUF_LEDGER_WRITTEN, pos);
	OK(all_idle());
	hooks_done();
}

TEST(the_entry_stays_until_the_count_and_the_delivery)
{
	struct ringbuf_reservation r;
	uint64_t pos;

	ch = create(CONFIG());
	EQ(reserve(ch, &r, payload_max(ch), 0), 0); /* fills: its commit delivers */
	pos = r.pos;
	hook_at("deliver_published", look, NULL);
	ringbuf_commit(ch, &r);
	check_entry(0, RINGBUF_LEDGER_WRITTEN, pos);
	OK(all_idle());
	hooks_done();
}

TEST(a_claim_that_crosses_says_so)
{
	struct ringbuf_reservation r;
	uint64_t pos;

	ch = create(CONFIG());
	EQ(record(ch, 3000, 0), 0);
	pos = pos_of(ch, 0);
	hook_at("ledger_claimed", look, NULL);
	EQ(reserve(ch, &r, 2000, 1), 0);
	check_entry(0, RINGBUF_LEDGER_CLAIMING, pos);
	OK(word(0) & RINGBUF_LEDGER_OPENS);
	EQ(r.pos, 4096 + ch->packet_header_size);
	EQ(atomic_load(&seen[0].discarded), 0);
	EQ(atomic_load(&seen[0].extent), r.size);
	look(NULL);
	check_entry(0, RINGBUF_LEDGER_OWNED, r.pos);
	ringbuf_commit(ch, &r);
	OK(all_idle());
}

TEST(a_won_claim_that_crosses_says_so_until_it_is_carried_out)
{
	struct ringbuf_reservation r;
	uint64_t pos;

	ch = create(CONFIG());
	EQ(record(ch, 3000, 0), 0);
	pos = pos_of(ch, 0);
	hook_at("switch_before_padding", look, NULL);
	EQ(reserve(ch, &r, 2000, 1), 0);
	check_entry(0, RINGBUF_LEDGER_MOVING, pos);
	OK(word(0) & RINGBUF_LEDGER_OPENS);
	ringbuf_commit(ch, &r);
}

TEST(a_won_claim_that_fills_owns_its_record_at_once)
{
	struct ringbuf_reservation r;
	uint64_t pos;

	ch = create(CONFIG());
	EQ(record(ch, payload_max(ch) - 100 - 8, 0), 0);
	pos = pos_of(ch, 0);
	hook_at("reserve_moving", look, NULL);
	EQ(reserve(ch, &r, 100, 1), 0);
	check_entry(0, RINGBUF_LEDGER_OWNED, pos);
	ringbuf_commit(ch, &r);
}

TEST(a_claim_that_opens_the_first_sub_buffer_crosses)
{
	struct ringbuf_reservation r;

	ch = create(CONFIG(.start_pos = POS_END - 4 * 4096));
	hook_at("ledger_claimed", look, NULL);
	EQ(reserve(ch, &r, 16, 0), 0);
	check_entry(0, RINGBUF_LEDGER_CLAIMING, POS_END - 4 * 4096);
	OK(word(0) & RINGBUF_LEDGER_OPENS);
	ringbuf_commit(ch, &r);
}

TEST(a_discard_says_that_it_may_be_rolling_back)
{
	struct ringbuf_reservation r;

	ch = create(CONFIG());
	EQ(record(ch, 16, 0), 0);
	EQ(reserve(ch, &r, 16, 1), 0);
	hook_at("discard_undoing", look, NULL);
	ringbuf_discard(ch, &r);
	check_entry(0, RINGBUF_LEDGER_UNDOING, r.pos);
	OK(all_idle());
	hooks_done();
}

TEST(a_discard_in_the_middle_is_owned_until_its_hole_is_written)
{
	struct ringbuf_reservation r, after;

	ch = create(CONFIG());
	EQ(reserve(ch, &r, 16, 1), 0);
	EQ(reserve(ch, &after, 16, 2), 0);
	hook_at("discard_before_filler", look, (void *)"commit_counted");
	ringbuf_discard(ch, &r);
	check_entry(0, RINGBUF_LEDGER_WRITTEN, r.pos);
	check_entry(1, RINGBUF_LEDGER_OWNED, after.pos);
	ringbuf_commit(ch, &after);
	OK(all_idle());
	hooks_done();
}

TEST(a_flush_claims_the_padding_alone)
{
	ch = create(CONFIG());
	EQ(record(ch, 16, 0), 0);
	hook_at("ledger_claimed", look, NULL);
	EQ(ringbuf_flush(ch, my_slot(ch), 0, 0), 0);
	check_entry(0, RINGBUF_LEDGER_FLUSHING, ch->packet_header_size + record_size(ch->packet_header_size, 16));
	hooks_done();
	EQ(record(ch, 16, 1), 0);
	hook_at("commit_counted", look, NULL);
	EQ(ringbuf_flush(ch, my_slot(ch), 0, 0), 0);
	EQ(ringbuf_ledger_state(word(0)), RINGBUF_LEDGER_MOVING);
	OK(all_idle());
	hooks_done();
}

TEST(every_refusal_leaves_the_entry_idle)
{
	ch = create(CONFIG(.n_subbufs = 2));
	EQ(record(ch, 5000, 0), -ENOSPC);
	OK(all_idle());
	while (record(ch, 1000, 0) == 0)
		;
	OK(all_idle());
	EQ(ringbuf_flush(ch, my_slot(ch), 0, 0), 0);
	EQ(ringbuf_flush(ch, my_slot(ch), 0, RINGBUF_FLUSH_EMPTY), -ENOBUFS);
	OK(all_idle());
	ringbuf_set_state(ch, RINGBUF_STATE_DISABLED, 1);
	EQ(record(ch, 16, 0), -ESHUTDOWN);
	OK(all_idle());
	ringbuf_set_state(ch, RINGBUF_STATE_DISABLED, 0);
	EQ(record(ch, 16, 0), -ENOBUFS);
	finalize(ch);
	EQ(record(ch, 16, 0), -ESHUTDOWN);
	OK(all_idle());
}

TEST(nested_records_have_entries_of_their_own)
{
	struct ringbuf_reservation r[4];

	ch = create(CONFIG());
	for (int i = 0; i < 4; i++)
		EQ(reserve(ch, &r[i], 16, (uint64_t)i), 0);
	look(NULL);
	for (int i = 0; i < 4; i++)
		check_entry(i, RINGBUF_LEDGER_OWNED, r[i].pos);
	ringbuf_commit(ch, &r[1]);
	look(NULL);
	EQ(word(1), 0);
	for (int i = 3; i >= 0; i--)
		if (i != 1)
			ringbuf_commit(ch, &r[i]);
	OK(all_idle());
	EQ(flush_and_read(ch), 4);
}

/* A handler at every step of reserve; the entry it used must not be the one that is being filled in. */
static void
nested_record(void *arg)
{
	(void)arg;
	EQ(record(ch, 32, 77), 0);
}

TEST(a_handler_at_any_step_leaves_the_interrupted_entry_as_it_was)
{
	const char *points[] = {"ledger_claimed", "reserve_claimed", "reserve_owned", "reserve_before_header",
				"reserve_done"};

	for (unsigned int i = 0; i < ARRAY_SIZE(points); i++) {
		struct ringbuf_reservation r;

		ch = create(CONFIG());
		EQ(record(ch, 16, 0), 0);
		hook_at(points[i], nested_record, NULL);
		EQ(reserve(ch, &r, 100, 1), 0);
		hooks_done();
		EQ(ringbuf_ledger_state(atomic_load(&r.entry->word)), RINGBUF_LEDGER_OWNED);
		EQ(atomic_load(&r.entry->word) & RINGBUF_POS_MASK, r.pos);
		EQ(atomic_load(&r.entry->extent), r.size);
		EQ(atomic_load(&r.entry->timestamp), r.timestamp);
		ringbuf_commit(ch, &r);
		OK(all_idle());
		EQ(flush_and_read(ch), 3);
	}
}
