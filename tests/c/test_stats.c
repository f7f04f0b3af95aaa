/* stats.h: two identities, as equalities between independent counters. */
#include "harness.h"

TEST(a_fresh_channel_has_counted_nothing)
{
	uint64_t starts[] = {0, POS_END - 4 * 4096, POS_END / 2 - 4 * 4096, ((UINT64_C(1) << 20) - 1) * 4 * 4096};

	for (unsigned int i = 0; i < ARRAY_SIZE(starts); i++) {
		struct ringbuf_stats st, none;

		memset(&none, 0, sizeof(none));
		st = stats_of(create(CONFIG(.start_pos = starts[i])));
		EQ(memcmp(&st, &none, sizeof(st)), 0);
	}
}

TEST(open_records_are_not_written_yet)
{
	struct ringbuf_channel *ch = create(CONFIG());
	struct ringbuf_reservation r;

	EQ(reserve(ch, &r, 16, 0), 0);
	EQ(stats_of(ch).written, 0);
	ringbuf_commit(ch, &r);
	EQ(stats_of(ch).written, 1);
	EQ(stats_of(ch).unread, 1);
	EQ(reserve(ch, &r, 16, 0), 0);
	ringbuf_discard(ch, &r);
	EQ(stats_of(ch).written, 1);
	EQ(stats_of(ch).discarded, 1);
}

TEST(each_cause_of_loss_has_its_counter)
{
	struct ringbuf_channel *ch = create(CONFIG(.n_producers = 1, .n_subbufs = 2));
	struct ringbuf_reservation r[5];
	struct ringbuf_stats st;

	for (uint64_t i = 0; i < 5; i++)
		EQ(reserve(ch, &r[i], 16, i), i < 4 ? 0 : -EPERM);
	EQ(record(ch, 16, 0), -EPERM);
	ringbuf_commit(ch, &r[3]);
	EQ(record(ch, 9000, 0), -ENOSPC);
	EQ(record(ch, 3950, 0), 0);
	EQ(record(ch, 3950, 0), -EIO); /* round to the sub-buffer with the open ones */
	for (int i = 0; i < 3; i++)
		ringbuf_commit(ch, &r[i]);
	EQ(record(ch, 3950, 0), -ENOBUFS);
	EQ(record(ch, 3950, 0), -ENOBUFS);
	ringbuf_set_state(ch, RINGBUF_STATE_DISABLED, 1);
	for (int i = 0; i < 4; i++)
		EQ(record(ch, 16, 0), -ESHUTDOWN);
	st = stats_of(ch);
	EQ(st.lost[RINGBUF_LOST_NESTING], 2);
	EQ(st.lost[RINGBUF_LOST_BIG], 1);
	EQ(st.lost[RINGBUF_LOST_WRAP], 1);
	EQ(st.lost[RINGBUF_LOST_FULL], 2);
	EQ(st.lost[RINGBUF_LOST_DISABLED], 4);
	EQ(st.lost[RINGBUF_LOST_SLOTS], 0);
	EQ(st.written, 5);
	CHECK_IDENTITIES(st, 15);
}

/* Every step of a random life, both modes, from positions where something wraps. */
TEST(the_identities_hold_after_every_single_step)
{
	uint64_t rings = 64 * 4096;
	uint64_t starts[] = {0, POS_END - rings, POS_END / 2 - rings, (UINT64_C(1) << 32) * 64 - rings};

	for (struct runs run = runs(0.5); next_run(&run);) {
		uint32_t mode = (uint32_t)rnd_below(2), n = 1u << (1 + rnd_below(3));
		struct ringbuf_channel *ch = create(CONFIG(.mode = mode, .n_subbufs = n,
							   .start_pos = starts[rnd_below(ARRAY_SIZE(starts))]));
		struct ringbuf_reservation open[4];
		unsigned int n_open = 0;
		uint64_t attempts = 0;
		struct reading rd;

		reading_init(&rd, ch, 0);
		for (int step = 0; step < 300; step++) {
			switch (rnd_below(12)) {
			case 0:
			case 1:
			case 2:
				attempts++;
				if (n_open < 4 && reserve(ch, &open[n_open], 16 + rnd_below(300), attempts) == 0)
					n_open++;
				else if (n_open == 4)
					EQ(record(ch, 16, 0), -EPERM);
				break;
			case 3:
			case 4:
			case 5:
				attempts++;
				record(ch, rnd_below(20) ? 16 + rnd_below(3000) : 5000, attempts);
				break;
			case 6:
				if (n_open)
					ringbuf_discard(ch, &open[--n_open]);
				break;
			case 7:
			case 8:
				if (n_open)
					ringbuf_commit(ch, &open[--n_open]);
				break;
			case 9:
				if (n_open < 4)
					ringbuf_flush(ch, my_slot(ch), 0, (unsigned int)rnd_below(2));
				break;
			default:
				if (rd.reader.holding)
					ringbuf_put_subbuf(&rd.reader, (enum ringbuf_put)rnd_below(3));
				else
					ringbuf_get_next_subbuf(&rd.reader);
			}
			{
				struct ringbuf_stats st = stats_of(ch);

				EQ(attempts - n_open, st.written + st.discarded + lost_total(&st));
				CHECK_IDENTITIES(st, attempts - n_open);
			}
		}
		if (rd.reader.holding)
			ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_BACK);
		while (n_open)
			ringbuf_commit(ch, &open[--n_open]);
		flush(ch);
		while (ringbuf_get_next_subbuf(&rd.reader) == 0) {
			check_packet(&rd);
			ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_READ);
		}
		CHECK_IDENTITIES(stats_of(ch), attempts);
		ringbuf_close(ch);
	}
}

TEST(streams_add_up_to_the_channel)
{
	struct ringbuf_channel *ch = create(CONFIG(.streams = RINGBUF_PER_CPU, .n_streams = 4));
	struct ringbuf_stats sum, all;

	for (uint64_t i = 0; i < 50; i++)
		record(ch, 16 + i * 100, i);
	memset(&sum, 0, sizeof(sum));
	for (uint32_t i = 0; i < 4; i++)
		ringbuf_add_stream_stats(ch, i, &sum);
	all = stats_of(ch);
	EQ(memcmp(&sum, &all, sizeof(sum)), 0);
	CHECK_IDENTITIES(all, 50);
}

TEST(usage_is_what_was_claimed_and_what_waits)
{
	uint64_t starts[] = {0, POS_END - 2 * 4 * 4096};

	for (unsigned int i = 0; i < 2 * ARRAY_SIZE(starts); i++) {
		unsigned int mode = i & 1 ? RINGBUF_OVERWRITE : RINGBUF_DISCARD;
		struct ringbuf_channel *ch = create(CONFIG(.start_pos = starts[i / 2], .mode = mode, .n_subbufs = 4));
		uint64_t ring = 4 * 4096;
		struct ringbuf_usage use = ringbuf_stream_usage(ch, ringbuf_stream_at(ch, 0));
		struct reading rd;

		EQ(use.produced, 0);
		EQ(use.unread, 0);
		EQ(record(ch, 1000, 0), 0);
		use = ringbuf_stream_usage(ch, ringbuf_stream_at(ch, 0));
		GE(use.produced, 1000);
		EQ(use.unread, use.produced);
		for (uint64_t n = 0; n < 100; n++)
			record(ch, 1000, n);
		use = ringbuf_stream_usage(ch, ringbuf_stream_at(ch, 0));
		if (mode == RINGBUF_OVERWRITE) {
			GE(use.produced, 100 * 1000);
			EQ(use.unread, ring);
			continue;
		}
		GE(use.produced, 12 * 1000);
		GE(ring, use.produced);
		EQ(use.unread, use.produced);
		reading_init(&rd, ch, 0);
		read_all(&rd);
		use = ringbuf_stream_usage(ch, ringbuf_stream_at(ch, 0));
		LT(use.unread, 4096);
	}
}

/* While others run, a sample may lag but must not be absurd, nor go on for ever. */
static struct ringbuf_channel *busy;
static atomic_int stop;

static void *
work(void *arg)
{
	uint64_t n = 0;
	struct reading rd;

	if (arg) {
		reading_init(&rd, busy, 0);
		while (!atomic_load(&stop))
			read_all(&rd);
	} else {
		while (!atomic_load(&stop))
			record(busy, 16 + n % 500, n), n++;
	}
	return NULL;
}

TEST(a_sample_of_a_busy_stream_is_about_right)
{
	uint64_t end = now_ns() + 300000000, before = 0;
	pthread_t t[2];

	busy = create(CONFIG(.mode = RINGBUF_OVERWRITE, .n_subbufs = 8));
	for (intptr_t i = 0; i < 2; i++)
		t[i] = start(work, (void *)i);
	while (now_ns() < end) {
		struct ringbuf_stats st = stats_of(busy);

		GE(st.written + 100000, before); /* may step back by what moved meanwhile */
		LT(st.unread, 100000);
		before = st.written;
	}
	atomic_store(&stop, 1);
	for (int i = 0; i < 2; i++)
		join(t[i]);
	EQ(stats_of(busy).written, stats_of(busy).read + stats_of(busy).overrun + stats_of(busy).unread);
}

TEST(each_cause_has_one_error_and_one_name)
{
	for (int cause = 0; cause < RINGBUF_N_LOSSES; cause++) {
		LT(ringbuf_loss_error(cause), 0);
		EQ(ringbuf_loss_of_error(ringbuf_loss_error(cause)), cause);
		for (int other = 0; other < cause; other++)
			OK(strcmp(ringbuf_loss_name(cause), ringbuf_loss_name(other)));
	}
	EQ(ringbuf_loss_of_error(-EAGAIN), -1);
	EQ(ringbuf_loss_of_error(0), -1);
}
