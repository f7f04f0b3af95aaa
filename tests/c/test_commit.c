/* commit.h: counting records and delivering sub-buffers, in whatever order records are committed. */
#include "explore.h"

static struct ringbuf_channel *ch;
static struct reading rd;

static void
setup(const struct ringbuf_config *cfg)
{
	ch = create(cfg);
	reading_init(&rd, ch, 0);
}

static uint64_t
committed(uint64_t pos)
{
	return atomic_load(&subbuf_of(ch, pos)->committed);
}

static int
get(void)
{
	return ringbuf_get_next_subbuf(&rd.reader);
}

static void
put(void)
{
	check_packet(&rd);
	ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_READ);
}

TEST(every_byte_and_record_is_counted)
{
	uint64_t start = ((UINT64_C(1) << 20) - 1) * 4 * 4096; /* the byte half wraps in this pass */
	struct ringbuf_reservation r;

	setup(CONFIG(.start_pos = start));
	EQ(committed(start), (uint32_t)-4096);
	EQ(reserve(ch, &r, 100, 0), 0);
	EQ(committed(start), (uint32_t)(-4096 + 80)); /* the packet header */
	ringbuf_commit(ch, &r);
	EQ(committed(start), RINGBUF_ONE_RECORD + (uint32_t)(-4096 + 80 + 108));
	EQ(record(ch, payload_max(ch) - 108, 1), 0);
	EQ(committed(start), (3 * RINGBUF_ONE_RECORD)); /* two, and the carry */
	EQ(get(), 0);
	EQ(rd.reader.packet.records, 2);
	put();
}

static void
commit_in_order(const int *order, int n, uint64_t start_pos)
{
	struct ringbuf_reservation r[4], after;
	uint64_t rest = 4096 - 80;

	setup(CONFIG(.start_pos = start_pos));
	for (int i = 0; i < n; i++) {
		EQ(reserve(ch, &r[i], i == n - 1 ? rest - 8 : 500, (uint64_t)i), 0);
		rest -= r[i].size;
	}
	EQ(rest, 0);
	EQ(reserve(ch, &after, 16, 99), n < 4 ? 0 : -EPERM);
	for (int i = 0; i < n; i++) {
		EQ(get(), -EAGAIN);
		ringbuf_commit(ch, &r[order[i]]);
	}
	EQ(get(), 0);
	EQ(rd.reader.packet.records, n);
	EQ(rd.reader.packet.timestamp_end, r[n - 1].timestamp); /* of the last reserved, not of the last committed */
	EQ(rd.reader.packet.timestamp_begin, r[0].timestamp);
	put();
	if (n < 4)
		ringbuf_commit(ch, &after);
}

TEST(the_last_commit_delivers_whichever_it_is)
{
	int order[4];

	for (int n = 1; n <= 4; n++)
		for (int code = 0; code < 256; code++) {
			int used = 0;

			for (int i = 0; i < n; i++) {
				order[i] = code >> 2 * i & 3;
				used |= 1 << order[i];
			}
			if (used == (1 << n) - 1 && code >> 2 * n == 0) {
				commit_in_order(order, n, 0);
				commit_in_order(order, n, POS_END - 4 * 4096);
			}
		}
}

TEST(a_late_commit_in_an_old_sub_buffer_delivers_that_one)
{
	struct ringbuf_reservation late;

	setup(CONFIG());
	EQ(reserve(ch, &late, 100, 0), 0);
	EQ(record(ch, 3950, 1), 0);
	flush(ch);
	EQ(get(), -EAGAIN); /* in order, though the second is complete */
	EQ(ringbuf_get_subbuf(&rd.reader, 4096), 0);
	ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_BACK);
	ringbuf_commit(ch, &late);
	EQ(read_all(&rd), 2);
	EQ(rd.records, 2);
}

TEST(timestamp_end_is_that_of_the_reservation_that_closed)
{
	struct ringbuf_reservation old, crossing;
	uint64_t end;

	setup(CONFIG());
	EQ(reserve(ch, &old, 100, 0), 0);
	EQ(reserve(ch, &crossing, 3950, 1), 0);
	explore_time += 1000;
	ringbuf_commit(ch, &crossing);
	explore_time += 1000;
	ringbuf_commit(ch, &old); /* delivers, much later */
	EQ(get(), 0);
	EQ(rd.reader.packet.timestamp_end, crossing.timestamp);
	end = rd.reader.packet.timestamp_end;
	put();
	flush(ch);
	EQ(get(), 0);
	EQ(rd.reader.packet.timestamp_begin, end);
	put();
}

TEST(base_time_is_that_of_a_committed_record)
{
	struct ringbuf_stream *s;
	struct ringbuf_reservation a, b;

	setup(CONFIG());
	s = ringbuf_stream_at(ch, 0);
	EQ(atomic_load(&s->base_timestamp), 0);
	EQ(reserve(ch, &a, 16, 0), 0);
	EQ(reserve(ch, &b, 16, 1), 0);
	EQ(atomic_load(&s->base_timestamp), 0);
	ringbuf_commit(ch, &b);
	EQ(atomic_load(&s->base_timestamp), b.timestamp);
	ringbuf_discard(ch, &a);
	EQ(atomic_load(&s->base_timestamp), b.timestamp);
}

TEST(delivering_again_changes_nothing)
{
	struct ringbuf_stats before, after;
	uint8_t copy[4096];

	setup(CONFIG(.mode = RINGBUF_OVERWRITE, .n_subbufs = 2));
	for (uint64_t i = 0; i < 5; i++) {
		EQ(record(ch, 1000, i), 0);
		EQ(record(ch, payload_max(ch) - 1008, i), 0);
	}
	before = stats_of(ch);
	for (uint64_t pos = 3 * 4096; pos < 5 * 4096; pos += 4096) {
		struct ringbuf_stream *s = ringbuf_stream_at(ch, 0);
		struct ringbuf_subbuf *sb = subbuf_of(ch, pos);
		uint8_t *data = ringbuf_subbuf_data(ch, s, ringbuf_subbuf_idx(ch, s, sb));

		memcpy(copy, data, sizeof(copy));
		/* as a repairer does: the stage of before the delivery is put back first */
		for (int i = 0; i < 2; i++) {
			atomic_fetch_xor(&sb->stage, RINGBUF_STAGE_CELL);
			ringbuf_deliver(ch, s, 0, sb, pos, committed(pos));
		}
		OK(!memcmp(copy, data, sizeof(copy)));
	}
	after = stats_of(ch);
	EQ(memcmp(&before, &after, sizeof(before)), 0);
	EQ(read_all(&rd), 2);
	EQ(rd.records, 4);
	CHECK_IDENTITIES(stats_of(ch), 10);
}

/* ---- a deliverer that is slow ---- */

static void
record_3900(void *arg)
{
	EQ(record(ch, 3900, (uintptr_t)arg), 0);
}

static void
crossing(void *arg) /* its padding completes the sub-buffer */
{
	struct ringbuf_reservation r;

	(void)arg;
	EQ(reserve(ch, &r, 500, 1), 0);
	ringbuf_commit(ch, &r);
}

static void
stalled_deliverer(const char *at, int published)
{
	static struct actor slow;
	struct ringbuf_reservation r;

	setup(CONFIG(.n_subbufs = 2));
	EQ(record(ch, 3900, 0), 0);
	actor_init(&slow, crossing, NULL);
	run_until(&slow, at);
	/* Others go on in the sub-buffer that it opened, or is about to. */
	EQ(record(ch, 3000, 2), 0);
	EQ(get(), published ? 0 : -EAGAIN);
	if (published) {
		put();
	} else {
		/* and find the slow one in their way when they come round, which is no room to wait for */
		EQ(record(ch, 3000, 3), -EIO);
		EQ(reserve(ch, &r, 3000, 3), -EIO);
	}
	run(&slow);
	if (!published) {
		EQ(get(), 0);
		put();
	}
	EQ(record(ch, 3000, 4), 0);
	flush(ch);
	read_all(&rd);
	EQ(rd.records, 4);
	CHECK_IDENTITIES(stats_of(ch), published ? 4 : 6);
}

TEST(a_deliverer_stalled_after_its_count)
{
	stalled_deliverer("commit_counted", 0);
}

TEST(a_deliverer_stalled_before_the_packets_end)
{
	stalled_deliverer("deliver_before_end", 0);
}

TEST(a_deliverer_stalled_before_publishing)
{
	stalled_deliverer("deliver_before_publish", 0);
}

TEST(a_deliverer_stalled_after_publishing)
{
	stalled_deliverer("deliver_published", 1);
}

static struct ringbuf_reservation slow_r;

static void
commit_slow(void *arg)
{
	(void)arg;
	ringbuf_commit(ch, &slow_r);
}

TEST(a_committer_stalled_before_its_count_is_waited_for)
{
	const char *points[] = {"commit_begin", "commit_written"};

	for (int i = 0; i < 2; i++) {
		static struct actor slow;

		setup(CONFIG(.n_subbufs = 2));
		EQ(reserve(ch, &slow_r, 100, 0), 0);
		actor_init(&slow, commit_slow, NULL);
		run_until(&slow, points[i]);
		EQ(record(ch, 3900, 1), 0);
		EQ(record(ch, 3900, 2), 0);
		EQ(record(ch, 3900, 3), -EIO);
		EQ(get(), -EAGAIN);
		run(&slow);
		EQ(read_all(&rd), 1);
		flush(ch);
		EQ(read_all(&rd), 1);
		EQ(rd.records, 3);
	}
}

TEST(a_committer_stalled_after_its_count_holds_nobody_up)
{
	static struct actor slow;

	setup(CONFIG(.n_subbufs = 2));
	EQ(reserve(ch, &slow_r, 100, 0), 0);
	actor_init(&slow, commit_slow, NULL);
	run_until(&slow, "commit_counted");
	for (uint64_t i = 1; i < 20; i++) {
		record_3900((void *)(uintptr_t)i);
		read_all(&rd);
	}
	run(&slow); /* an old base time is stored: headers get longer, no more */
	EQ(atomic_load(&ringbuf_stream_at(ch, 0)->base_timestamp), slow_r.timestamp);
	EQ(record(ch, 16, 20), 0);
	flush(ch);
	read_all(&rd);
	EQ(rd.records, 21);
}

/* ---- who delivers, with a client that counts ---- */

static atomic_int ends[64];

static void
count_end(const struct ringbuf_channel *c, struct ringbuf_stream *s, uint32_t stream_idx, uint32_t subbuf_idx,
	  uint64_t timestamp, uint64_t data_size, uint8_t *header)
{
	(void)c, (void)stream_idx, (void)subbuf_idx, (void)timestamp, (void)header;
	EQ(data_size, atomic_load(&ringbuf_subbuf_at(c, s, subbuf_idx)->content_size));
	atomic_fetch_add(&ends[atomic_load(&ringbuf_subbuf_at(c, s, subbuf_idx)->sequence_number)], 1);
}

TEST(each_sub_buffer_is_ended_once)
{
	static const struct ringbuf_client client = {.buffer_end = count_end};

	setup(CONFIG(.client = &client));
	for (uint64_t i = 0; i < 50; i++) {
		EQ(record(ch, 3000, i), 0);
		while (get() == 0)
			ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_READ);
	}
	flush(ch);
	for (int i = 0; i < 50; i++)
		EQ(atomic_load(&ends[i]), 1);
	EQ(atomic_load(&ends[50]), 0);
}

/* ---- waking the reader ---- */

static uint32_t
data_seq(void)
{
	return atomic_load(&ch->control->data_seq);
}

TEST(a_delivery_wakes_a_reader_that_asked_if_the_channel_is_so)
{
	for (uint32_t wakeup = RINGBUF_WAKEUP_TIMER; wakeup <= RINGBUF_WAKEUP_NONE; wakeup++) {
		uint32_t seq;

		setup(CONFIG(.wakeup = wakeup));
		record_3900((void *)0);
		record_3900((void *)1);
		EQ(data_seq(), 0); /* nobody asked */
		seq = ringbuf_data_wanted(ch);
		EQ(seq, 0);
		record_3900((void *)2);
		EQ(data_seq(), wakeup == RINGBUF_WAKEUP_WRITER ? 1 : 0);
		EQ(atomic_load(&ch->control->data_wanted), wakeup != RINGBUF_WAKEUP_WRITER);
		record_3900((void *)3);
		EQ(data_seq(), wakeup == RINGBUF_WAKEUP_WRITER ? 1 : 0);
	}
}
