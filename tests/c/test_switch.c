/* switch.h: leaving and entering sub-buffers, flushing; one forced schedule for each test point, or more. */
#include "explore.h"

static struct ringbuf_channel *ch;
static struct ringbuf_stream *s;
static struct reading rd;
static uint64_t n_recorded;

static void
setup(const struct ringbuf_config *cfg)
{
	ch = create(cfg);
	s = ringbuf_stream_at(ch, 0);
	reading_init(&rd, ch, 0);
	n_recorded = 0;
}

static int
rec(uint64_t size)
{
	return record(ch, size, n_recorded++);
}

static uint64_t
advanced(void)
{
	return ringbuf_pos_sub(pos_of(ch, 0), ch->start_pos);
}

static uint32_t
subbuf_in_slot(uint64_t pos)
{
	return atomic_load(&ringbuf_slot_at(ch, s, pos)->subbuf_ref) & RINGBUF_REF_IDX_MASK;
}

/* The n + 1 sub-buffers are all there, each once: in the slots, and the spare or held one. */
static void
check_sub_buffers(void)
{
	uint32_t n = ringbuf_n_subbufs(&ch->geometry);
	uint64_t seen = 0;

	for (uint64_t i = 0; i < n; i++)
		seen |= UINT64_C(1) << subbuf_in_slot(i << ch->geometry.subbuf_order);
	if (!rd.reader.holding)
		seen |= UINT64_C(1) << atomic_load(&s->spare);
	else
		seen |= UINT64_C(1) << rd.reader.packet.subbuf_idx | UINT64_C(1) << atomic_load(&s->spare);
	EQ(seen, (UINT64_C(1) << (n + 1)) - 1);
}

/* ---- actors ---- */

static void
record_it(void *size)
{
	struct ringbuf_reservation r;
	int ret = reserve(ch, &r, (uintptr_t)size, n_recorded++);

	CHECK(ret == 0, "%d", ret);
	ringbuf_commit(ch, &r);
}

static void
flush_it(void *flags)
{
	EQ(ringbuf_flush(ch, my_slot(ch), 0, (unsigned int)(uintptr_t)flags), 0);
}

static void
read_it(void *arg)
{
	(void)arg;
	read_all(&rd);
}

#define SIZE(n) ((void *)(uintptr_t)(n))

static void
fill(unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		EQ(rec(payload_max(ch)), 0);
}

/* Flush and read everything; all that was recorded must be there. */
static void
read_the_rest(uint64_t expected)
{
	flush(ch);
	read_all(&rd);
	EQ(rd.records, expected);
	check_sub_buffers();
}

/* ---- is the next slot free? ---- */

TEST(a_slot_is_free_full_or_in_use)
{
	struct ringbuf_reservation open;
	uint64_t word;

	setup(CONFIG(.n_subbufs = 2));
	word = atomic_load(&s->produced);
	EQ(ringbuf_slot_is_free(ch, s, word, 0, 0), 0);
	EQ(ringbuf_slot_is_free(ch, s, word + 1, 0, 0), -EAGAIN);
	EQ(ringbuf_slot_is_free(ch, s, ringbuf_word_retagged(word, 0), 0, 0), -EAGAIN);
	EQ(reserve(ch, &open, payload_max(ch), 0), 0);
	fill(1);
	word = atomic_load(&s->produced);
	EQ(ringbuf_slot_is_free(ch, s, word, 2 * 4096, 1), -EIO);
	ringbuf_commit(ch, &open);
	EQ(ringbuf_slot_is_free(ch, s, word, 2 * 4096, 1), -ENOBUFS);
	EQ(read_all(&rd), 2);
	EQ(ringbuf_slot_is_free(ch, s, word, 2 * 4096, 1), 0);
}

TEST(a_position_that_moves_under_the_look_at_the_slot_is_no_loss)
{
	static struct actor slow;

	setup(CONFIG(.n_subbufs = 2, .start_pos = POS_END - 2 * 4096));
	actor_init(&slow, record_it, SIZE(100));
	run_until(&slow, "switch_slot_sampled");
	/* Three times round: the counters it sampled belong to a pass long gone. */
	for (int i = 0; i < 6; i++) {
		fill(1);
		read_all(&rd);
	}
	EQ(rec(16), 0);
	run(&slow);
	EQ(lost(ch, RINGBUF_LOST_WRAP), 0);
	EQ(lost(ch, RINGBUF_LOST_FULL), 0);
	read_the_rest(8);
}

TEST(a_slot_seen_full_just_before_it_is_read_is_an_honest_loss)
{
	static struct actor slow;
	struct ringbuf_reservation r = {.event_id = 1, .payload_size = 16, .flags = RINGBUF_NONBLOCK};

	setup(CONFIG(.n_subbufs = 2));
	fill(2);
	EQ(ringbuf_reserve(ch, &r), -EAGAIN);
	actor_init(&slow, read_it, NULL);
	run_until(&slow, "reader_before_account");
	EQ(ringbuf_reserve(ch, &r), -EAGAIN);
	run(&slow);
	EQ(ringbuf_reserve(ch, &r), 0);
	ringbuf_discard(ch, &r);
}

/* ---- entering a slot ---- */

TEST(of_two_that_enter_a_slot_both_write_to_the_same_sub_buffer)
{
	for (int held = 0; held < 2; held++) {
		static struct actor a, b;

		setup(CONFIG(.n_subbufs = 2, .mode = RINGBUF_OVERWRITE, .start_pos = POS_END - 2 * 4096));
		fill(2);
		if (held)
			EQ(ringbuf_get_next_subbuf(&rd.reader), 0);
		actor_init(&a, record_it, SIZE(100));
		actor_init(&b, record_it, SIZE(100));
		run_until(&a, "switch_entering"); /* opened it, and is about to enter */
		run_until(&b, "switch_entering"); /* follows in the same sub-buffer */
		run(&b);
		run(&a);
		check_sub_buffers();
		if (held) {
			EQ(subbuf_in_slot(0), 0); /* the spare */
			check_packet(&rd);
			ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_READ);
			EQ(atomic_load(&s->spare), 1);
		}
		read_the_rest(held ? 4 : 3);
		EQ(stats_of(ch).overrun, held ? 0 : 1);
		CHECK_IDENTITIES(stats_of(ch), 4);
	}
}

TEST(a_reader_takes_the_packet_between_the_look_and_the_entering)
{
	static struct actor a;

	setup(CONFIG(.n_subbufs = 2, .mode = RINGBUF_OVERWRITE));
	fill(2);
	actor_init(&a, record_it, SIZE(100));
	run_until(&a, "switch_entering");
	EQ(ringbuf_get_subbuf(&rd.reader, 0), 0);
	run(&a); /* its swap fails, and it takes the spare */
	EQ(subbuf_in_slot(0), 0);
	check_packet(&rd);
	ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_READ);
	EQ(stats_of(ch).overrun, 0);
	read_the_rest(3);
	CHECK_IDENTITIES(stats_of(ch), 3);
}

TEST(a_reader_gives_the_packet_back_between_the_look_and_the_entering)
{
	enum ringbuf_put hows[] = {RINGBUF_PUT_READ, RINGBUF_PUT_BACK, RINGBUF_PUT_DROP};

	for (int i = 0; i < 3; i++) {
		static struct actor a;

		setup(CONFIG(.n_subbufs = 2, .mode = RINGBUF_OVERWRITE));
		fill(2);
		EQ(ringbuf_get_subbuf(&rd.reader, 0), 0);
		actor_init(&a, record_it, SIZE(100));
		run_until(&a, "switch_entering");
		ringbuf_put_subbuf(&rd.reader, hows[i]);
		run(&a);
		EQ(subbuf_in_slot(0), hows[i] == RINGBUF_PUT_BACK ? 1 : 0);
		EQ(atomic_load(&s->spare), hows[i] == RINGBUF_PUT_BACK ? 0 : 1);
		EQ(stats_of(ch).overrun, hows[i] == RINGBUF_PUT_READ ? 0 : 1);
		read_the_rest(2);
		CHECK_IDENTITIES(stats_of(ch), 3);
	}
}

/* A producer that slept between its load of the slot's word and its swap, while the reader's
 * spare changed and the word came to look the same again. */
TEST(an_old_spare_is_not_brought_back)
{
	static struct actor a, b;

	setup(CONFIG(.n_subbufs = 4, .mode = RINGBUF_OVERWRITE));
	fill(4);
	EQ(ringbuf_get_subbuf(&rd.reader, 0), 0);
	actor_init(&a, record_it, SIZE(payload_max(ch)));
	run_until(&a, "switch_entering"); /* has seen packet 0 held, and the spare */
	ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_BACK);
	EQ(ringbuf_get_subbuf(&rd.reader, 4096), 0);
	actor_init(&b, record_it, SIZE(payload_max(ch)));
	run(&b); /* laps packet 1 with the spare */
	ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_BACK);
	(void)ringbuf_get_subbuf(&rd.reader, 0);
	check_sub_buffers();
	run(&a);
	check_sub_buffers();
	if (rd.reader.holding)
		ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_BACK);
	check_sub_buffers();
	read_the_rest(4);
	CHECK_IDENTITIES(stats_of(ch), 6);
}

TEST(after_entering_a_reader_finds_the_old_packet_lapped)
{
	static struct actor a;

	setup(CONFIG(.n_subbufs = 2, .mode = RINGBUF_OVERWRITE));
	fill(2);
	actor_init(&a, record_it, SIZE(100));
	run_until(&a, "switch_entered");
	EQ(ringbuf_get_subbuf(&rd.reader, 0), -ESTALE);
	EQ(ringbuf_get_subbuf(&rd.reader, 2 * 4096), -EAGAIN);
	EQ(ringbuf_get_next_subbuf(&rd.reader), 0);
	EQ(rd.reader.packet.pos, 4096);
	ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_BACK);
	EQ(stats_of(ch).overrun, 1);
	run(&a);
	read_the_rest(2);
	CHECK_IDENTITIES(stats_of(ch), 3);
}

/* ---- carrying out a move ---- */

TEST(a_closer_stalled_before_the_padding_holds_back_its_old_packet_only)
{
	static struct actor a;

	setup(CONFIG(.n_subbufs = 4));
	EQ(rec(3900), 0);
	actor_init(&a, record_it, SIZE(500));
	run_until(&a, "switch_before_padding");
	EQ(rec(16), 0); /* in the sub-buffer whose header is missing */
	flush(ch);      /* and that is all of it */
	EQ(rec(16), 0);
	flush(ch);
	EQ(ringbuf_get_next_subbuf(&rd.reader), -EAGAIN);
	EQ(ringbuf_get_subbuf(&rd.reader, 4096), -EAGAIN);
	EQ(ringbuf_get_subbuf(&rd.reader, 2 * 4096), 0); /* others' */
	ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_BACK);
	run(&a);
	read_the_rest(4);
	CHECK_IDENTITIES(stats_of(ch), 4);
}

TEST(a_closer_stalled_after_the_padding_has_delivered_its_old_packet)
{
	static struct actor a;

	setup(CONFIG(.n_subbufs = 4));
	EQ(rec(3900), 0);
	actor_init(&a, record_it, SIZE(500));
	run_until(&a, "switch_padded");
	EQ(read_all(&rd), 1);
	EQ(rec(16), 0);
	EQ(read_all(&rd), 0);
	run(&a);
	read_the_rest(3);
}

TEST(a_switcher_stalled_before_the_header_lets_others_commit_close_and_go_on)
{
	static struct actor a;

	setup(CONFIG(.n_subbufs = 4, .start_pos = POS_END - 4 * 4096));
	EQ(rec(3900), 0);
	actor_init(&a, record_it, SIZE(500));
	run_until(&a, "switch_before_header");
	EQ(read_all(&rd), 1);
	EQ(rec(1000), 0);
	EQ(rec(3900), 0); /* closes it */
	EQ(rec(3900), 0);
	EQ(ringbuf_get_next_subbuf(&rd.reader), -EAGAIN);
	run(&a);
	EQ(read_all(&rd), 2);
	read_the_rest(5);
	CHECK_IDENTITIES(stats_of(ch), 5);
}

TEST(a_header_counted_last_delivers)
{
	static struct actor a;

	setup(CONFIG(.n_subbufs = 4));
	actor_init(&a, record_it, SIZE(500));
	run_until(&a, "switch_before_header");
	EQ(rec(payload_max(ch) - 508), 0); /* ends the sub-buffer exactly */
	EQ(ringbuf_get_next_subbuf(&rd.reader), -EAGAIN);
	run_until(&a, "switch_header_counted");
	EQ(ringbuf_get_next_subbuf(&rd.reader), -EAGAIN); /* the opener's own record is missing */
	run(&a);
	EQ(read_all(&rd), 1);
	read_the_rest(2);
}

static void
flush_empty_stalls(void *arg)
{
	(void)arg;
	flush_it((void *)(uintptr_t)RINGBUF_FLUSH_EMPTY);
}

TEST(a_flush_stalled_after_its_claim_holds_back_that_packet_only)
{
	for (int empty = 0; empty < 2; empty++) {
		static struct actor a;

		setup(CONFIG(.n_subbufs = 4));
		if (!empty)
			EQ(rec(100), 0);
		actor_init(&a, empty ? flush_empty_stalls : flush_it, NULL);
		run_until(&a, "flush_claimed");
		EQ(advanced(), 4096);
		fill(1);
		EQ(ringbuf_get_next_subbuf(&rd.reader), -EAGAIN);
		EQ(ringbuf_get_subbuf(&rd.reader, 4096), 0);
		ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_BACK);
		run(&a);
		EQ(read_all(&rd), 2);
		read_the_rest(empty ? 1 : 2);
	}
}

TEST(all_orders_of_two_switchers_leave_time_in_order)
{
	/* b samples, a crosses, b crosses after it: b's time must be read again */
	static struct actor a, b;

	setup(CONFIG(.n_subbufs = 4));
	EQ(rec(3900), 0);
	actor_init(&b, record_it, SIZE(600));
	run_until(&b, "ledger_claimed");
	actor_init(&a, record_it, SIZE(500));
	run(&a);
	fill(1);
	run(&b);
	read_the_rest(4);
}

/* ---- flush ---- */

TEST(flushing_an_unbegun_packet_does_nothing)
{
	setup(CONFIG());
	flush(ch);
	EQ(advanced(), 0);
	fill(1);
	flush(ch);
	EQ(advanced(), 4096);
	EQ(read_all(&rd), 1);
	flush(ch);
	EQ(advanced(), 4096);
	EQ(read_all(&rd), 0);
}

TEST(flushing_ends_a_begun_packet)
{
	setup(CONFIG());
	EQ(rec(100), 0);
	EQ(ringbuf_get_next_subbuf(&rd.reader), -EAGAIN);
	flush(ch);
	EQ(advanced(), 4096);
	EQ(ringbuf_get_next_subbuf(&rd.reader), 0);
	EQ(rd.reader.packet.content_size, 80 + 108);
	EQ(rd.reader.packet.packet_size, 4096);
	EQ(rd.reader.packet.timestamp_end, explore_time);
	check_packet(&rd);
	ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_READ);
}

TEST(flushing_an_empty_packet_gives_one_if_asked_for)
{
	setup(CONFIG(.start_pos = POS_END - 4 * 4096));
	for (uint64_t i = 0; i < 10; i++) {
		EQ(ringbuf_flush(ch, my_slot(ch), 0, RINGBUF_FLUSH_EMPTY), 0);
		EQ(advanced(), (i + 1) * 4096);
		EQ(ringbuf_get_next_subbuf(&rd.reader), 0);
		EQ(rd.reader.packet.records, 0);
		EQ(rd.reader.packet.content_size, 80);
		EQ(rd.reader.packet.sequence_number, i);
		EQ(rd.reader.packet.timestamp_begin, rd.reader.packet.timestamp_end);
		check_packet(&rd);
		ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_READ);
	}
	EQ(rec(16), 0);
	EQ(ringbuf_flush(ch, my_slot(ch), 0, RINGBUF_FLUSH_EMPTY), 0); /* ends it, no more */
	EQ(advanced(), 11 * 4096);
	read_the_rest(1);
}

TEST(flushing_an_empty_packet_in_a_full_ring_is_refused_and_harms_nothing)
{
	setup(CONFIG());
	fill(4);
	for (int i = 0; i < 10; i++) {
		EQ(ringbuf_flush(ch, my_slot(ch), 0, RINGBUF_FLUSH_EMPTY), -ENOBUFS);
		EQ(ringbuf_flush(ch, my_slot(ch), 0, 0), 0);
	}
	EQ(advanced(), 4 * 4096);
	EQ(lost(ch, RINGBUF_LOST_FULL), 0);
	read_the_rest(4);
}

TEST(flushing_an_empty_packet_where_a_record_is_open_is_refused)
{
	struct ringbuf_reservation open;

	setup(CONFIG(.mode = RINGBUF_OVERWRITE));
	EQ(reserve(ch, &open, payload_max(ch), 0), 0);
	fill(3);
	EQ(ringbuf_flush(ch, my_slot(ch), 0, RINGBUF_FLUSH_EMPTY), -EIO);
	ringbuf_commit(ch, &open);
	EQ(ringbuf_flush(ch, my_slot(ch), 0, RINGBUF_FLUSH_EMPTY), 0);
	read_the_rest(3);
}

TEST(flushing_in_overwrite_mode_overwrites_nothing)
{
	setup(CONFIG(.mode = RINGBUF_OVERWRITE));
	fill(3);
	EQ(rec(100), 0);
	for (int i = 0; i < 5; i++)
		flush(ch);
	EQ(stats_of(ch).overrun, 0);
	EQ(ringbuf_get_next_subbuf(&rd.reader), 0);
	EQ(rd.reader.packet.sequence_number, 0);
	ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_BACK);
	read_the_rest(4);
}

TEST(flushing_over_an_open_record_gives_the_packet_when_it_is_committed)
{
	struct ringbuf_reservation open;

	setup(CONFIG());
	EQ(reserve(ch, &open, 100, 0), 0);
	flush(ch);
	EQ(rec(16), 0);
	flush(ch);
	EQ(read_all(&rd), 0);
	ringbuf_commit(ch, &open);
	EQ(read_all(&rd), 2);
	EQ(rd.records, 2);
}

TEST(flushing_inside_four_records_is_refused)
{
	struct ringbuf_reservation r[4];

	setup(CONFIG());
	for (uint64_t i = 0; i < 4; i++)
		EQ(reserve(ch, &r[i], 16, i), 0);
	EQ(ringbuf_flush(ch, my_slot(ch), 0, 0), -EPERM);
	ringbuf_commit(ch, &r[3]);
	EQ(ringbuf_flush(ch, my_slot(ch), 0, 0), 0);
	for (int i = 2; i >= 0; i--)
		ringbuf_commit(ch, &r[i]);
	read_the_rest(4);
}

TEST(flushing_what_a_discard_left_gives_a_packet_without_records)
{
	struct ringbuf_reservation r;

	setup(CONFIG());
	EQ(reserve(ch, &r, 100, 0), 0);
	ringbuf_discard(ch, &r);
	EQ(advanced(), 80); /* the packet is begun */
	flush(ch);
	EQ(ringbuf_get_next_subbuf(&rd.reader), 0);
	EQ(rd.reader.packet.records, 0);
	EQ(rd.reader.packet.content_size, 80);
	check_packet(&rd);
	ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_READ);
}

TEST(flushing_a_finalized_channel_does_nothing_more)
{
	setup(CONFIG());
	EQ(rec(100), 0);
	finalize(ch);
	EQ(advanced(), 4096);
	EQ(ringbuf_flush(ch, my_slot(ch), 0, RINGBUF_FLUSH_EMPTY), 0);
	EQ(advanced(), 4096);
	read_the_rest(1);
}

TEST(losses_are_told_in_the_packet_that_was_open_when_they_happened)
{
	setup(CONFIG(.n_subbufs = 2));
	EQ(rec(5000), -ENOSPC); /* before the first packet begins */
	EQ(rec(100), 0);
	EQ(rec(5000), -ENOSPC);
	flush(ch);
	EQ(rec(5000), -ENOSPC);
	fill(1);
	EQ(rec(100), -ENOBUFS);
	EQ(ringbuf_get_next_subbuf(&rd.reader), 0);
	EQ(rd.reader.packet.events_discarded, 2);
	ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_READ);
	EQ(ringbuf_get_next_subbuf(&rd.reader), 0);
	EQ(rd.reader.packet.events_discarded, 3);
	ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_READ);
	EQ(ringbuf_flush(ch, my_slot(ch), 0, RINGBUF_FLUSH_EMPTY), 0);
	EQ(ringbuf_get_next_subbuf(&rd.reader), 0);
	EQ(rd.reader.packet.events_discarded, 4);
	ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_READ);
}

TEST(a_loss_after_the_claim_that_closes_is_not_in_that_packet)
{
	static struct actor a;

	setup(CONFIG(.n_subbufs = 4));
	EQ(rec(3900), 0);
	actor_init(&a, record_it, SIZE(500));
	run_until(&a, "switch_before_padding");
	EQ(rec(5000), -ENOSPC);
	run(&a);
	EQ(ringbuf_get_next_subbuf(&rd.reader), 0);
	EQ(rd.reader.packet.events_discarded, 0);
	check_packet(&rd);
	ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_READ);
	flush(ch);
	EQ(ringbuf_get_next_subbuf(&rd.reader), 0);
	EQ(rd.reader.packet.events_discarded, 1);
	check_packet(&rd);
	ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_READ);
}

/* ---- a recorder that runs for weeks without a reader ---- */

TEST(a_position_far_ahead_of_the_last_reader_is_still_found)
{
	setup(CONFIG(.mode = RINGBUF_OVERWRITE, .start_pos = (UINT64_C(1) << 47) + 4096 * 4));
	atomic_store(&s->consumed_pos, 4 * 4096 * 3); /* a reader's, long ago */
	fill(9);
	EQ(read_all(&rd), 4);
	EQ(rd.records, 4);
	fill(3);
	EQ(read_all(&rd), 3);
	EQ(ringbuf_get_next_subbuf(&rd.reader), -EAGAIN);
	read_the_rest(7);
}

TEST(consumed_follows_a_ring_that_nobody_reads)
{
	uint64_t start = 0;

	for (unsigned int lap = 0; lap < 5; lap++) {
		setup(CONFIG(.mode = RINGBUF_OVERWRITE, .start_pos = start));
		if (lap)
			atomic_store(&s->consumed_pos, (start - (UINT64_C(1) << 46)) & RINGBUF_POS_MASK);
		fill(6);
		/* pulled up when the second sub-buffer was opened, to what was in the ring then */
		LE(ringbuf_pos_diff(pos_of(ch, 0), atomic_load(&s->consumed_pos)), (6 - 1 + 4) * 4096);
		EQ(read_all(&rd), 4);
		start = (start + (UINT64_C(1) << 46)) & RINGBUF_POS_MASK;
	}
}
