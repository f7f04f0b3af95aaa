/*
 * Bugs that another implementation of this algorithm had, each once: number,
 * what went wrong there, and that it does not here.
 *
 * Without a test:
 *  24  A copy from another address space faulted and the cursor stayed behind.
 *      Payloads are written in place by the process that owns the data, so no
 *      copy can fail half-way. That cursors advance past what they could not
 *      write is in test_write.c.
 */
#define HARNESS_HOOKS
#include "harness.h"

#define MS UINT64_C(1000000)

static struct ringbuf_channel *ch;
static struct reading rd;
static atomic_int stop;

static void
setup(const struct ringbuf_config *cfg)
{
	ch = create(cfg);
	reading_init(&rd, ch, 0);
	atomic_store(&stop, 0);
}

static void
fill(unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		EQ(record(ch, 3000, i), 0);
		flush(ch);
	}
}

static void *
record_a_lot(void *arg)
{
	uint32_t me = (uint32_t)(uintptr_t)arg;

	for (uint64_t n = 0; n < 4000; n++) {
		int ret = record_event(ch, 1, 16 + n % 200, 1, me, n);

		CHECK(ret == 0, "%d", ret);
	}
	return NULL;
}

/* The commit counter was read, then the position moved, and the slot seemed to be in use. The
 * forced schedule is in test_switch.c. */
TEST(bug01_no_false_wrap_with_many_writers)
{
	pthread_t t[8];

	setup(CONFIG(.n_subbufs = 2048)); /* all of it fits: nobody comes round */
	for (uintptr_t i = 0; i < 8; i++)
		t[i] = start(record_a_lot, (void *)i);
	for (int i = 0; i < 8; i++)
		join(t[i]);
	EQ(lost(ch, RINGBUF_LOST_WRAP), 0);
	EQ(lost(ch, RINGBUF_LOST_FULL), 0);
	EQ(flush_and_read(ch), 8 * 4000);
}

/* Flushing an empty sub-buffer skipped the check whether it may be entered. */
TEST(bug02_flushing_a_full_ring_keeps_what_is_in_it)
{
	setup(CONFIG());
	fill(4);
	for (int i = 0; i < 100; i++)
		EQ(ringbuf_flush(ch, my_slot(ch), 0, RINGBUF_FLUSH_EMPTY), -ENOBUFS);
	EQ(flush_and_read(ch), 4);
}

static void *
flush_all_the_time(void *arg)
{
	(void)arg;
	while (!atomic_load(&stop)) {
		for (uint32_t i = 0; i < ch->n_streams; i++)
			ringbuf_flush(ch, my_slot(ch), i, i & 1 ? RINGBUF_FLUSH_EMPTY : 0);
		sched_yield();
	}
	return NULL;
}

static void *
record_all_the_time(void *arg)
{
	uint64_t n = 0, attempts = 0;

	for (; !atomic_load(&stop); attempts++) {
		int ret = record_event(ch, 1, 16 + attempts % 1500, 1, (uint32_t)(uintptr_t)arg, n);

		n += ret == 0;
		if (ret == -ENOBUFS || ret == -EIO || attempts % 64 == 0)
			sched_yield();
	}
	return (void *)(uintptr_t)attempts;
}

/* Two recorders and a flusher on two streams, all read and checked; returns the attempts. */
static uint64_t
load(const struct ringbuf_config *cfg, double seconds)
{
	struct reading r[2];
	uint64_t attempts = 0, packets = 0;
	pthread_t t[3];

	setup(cfg);
	for (uint32_t i = 0; i < ch->n_streams; i++)
		reading_init(&r[i], ch, i);
	for (uintptr_t i = 0; i < 3; i++)
		t[i] = start(i < 2 ? record_all_the_time : flush_all_the_time, (void *)i);
	for (uint64_t end = now_ns() + soak_ns(seconds); now_ns() < end;)
		for (uint32_t i = 0; i < ch->n_streams; i++)
			read_all(&r[i]);
	atomic_store(&stop, 1);
	for (int i = 0; i < 2; i++)
		attempts += (uint64_t)(uintptr_t)join(t[i]);
	join(t[2]);
	flush(ch);
	for (uint32_t i = 0; i < ch->n_streams; i++) {
		read_all(&r[i]);
		packets += r[i].packets;
	}
	GT(packets, 0); /* of both: all may have run on one CPU */
	CHECK_IDENTITIES(stats_of(ch), attempts);
	EQ(stats_of(ch).unread, 0);
	return attempts;
}

/* Another CPU's flush met atomics that were for that CPU alone. */
TEST(bug03_a_remote_flush_under_load_corrupts_nothing)
{
	load(CONFIG(.streams = RINGBUF_PER_CPU, .n_streams = 2), 0.4);
}

/* A packet's last time was taken when it was committed, later than the next one's first. */
TEST(bug04_packets_do_not_overlap_in_time)
{
	load(CONFIG(.mode = RINGBUF_OVERWRITE), 0.4); /* check_packet() looks at it */
}

/* The deliverer may have reserved before others whose commits came earlier. */
TEST(bug05_records_lie_within_their_packets_times_although_commits_are_late)
{
	struct ringbuf_reservation late[3];

	for (int which = 0; which < 3; which++) {
		setup(CONFIG());
		for (int i = 0; i < 3; i++)
			EQ(reserve(ch, &late[i], 500, (uint64_t)i), 0);
		EQ(record(ch, 3500, 3), 0); /* closes */
		for (int i = 0; i < 3; i++)
			if (i != which)
				ringbuf_commit(ch, &late[i]);
		sleep_ms(2);
		EQ(record(ch, 16, 4), 0);
		ringbuf_commit(ch, &late[which]);
		EQ(flush_and_read(ch), 5);
	}
}

/* The number of lost events went back, or was garbage where a sub-buffer was used again. */
TEST(bug06_the_number_of_lost_records_never_goes_back_and_sums_up)
{
	uint64_t lost_before = 0, read = 0, attempts = 0;

	setup(CONFIG(.start_pos = POS_END - 4 * 4096));
	for (int lap = 0; lap < 30; lap++) {
		for (int i = 0; i < lap % 7; i++, attempts++)
			EQ(record(ch, 6000, 0), -ENOSPC);
		for (int i = 0; i < 9; i++, attempts++)
			record(ch, 1500, attempts);
		flush(ch);
		while (ringbuf_get_next_subbuf(&rd.reader) == 0) {
			GE(rd.reader.packet.events_discarded, lost_before);
			lost_before = rd.reader.packet.events_discarded;
			read += rd.reader.packet.records;
			check_packet(&rd);
			ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_READ);
		}
	}
	EQ(ringbuf_flush(ch, my_slot(ch), 0, RINGBUF_FLUSH_EMPTY), 0);
	EQ(ringbuf_get_next_subbuf(&rd.reader), 0);
	EQ(rd.reader.packet.events_discarded + read, attempts);
}

/* Any position was taken for one in the ring. */
TEST(bug07_get_subbuf_does_not_trust_its_argument)
{
	setup(CONFIG(.mode = RINGBUF_OVERWRITE, .start_pos = POS_END - 8 * 4096));
	fill(11);
	for (int i = 0; i < 200000; i++) {
		uint64_t pos = rnd() >> rnd_below(64);
		int ret;

		if (i % 2)
			pos = (pos & ~UINT64_C(4095)) | (i % 8 ? 0 : pos % 2);
		if (i % 3 == 0)
			pos = ringbuf_pos_add(pos_of(ch, 0), (rnd_below(20) - 10) * 4096);
		ret = ringbuf_get_subbuf(&rd.reader, pos);
		if (ret == 0) {
			LT((uint64_t)ringbuf_pos_diff(pos_of(ch, 0), pos) - 4096, 4 * 4096);
			EQ(rd.reader.packet.pos, pos);
			check_packet(&(struct reading){.reader = rd.reader});
			ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_BACK);
		}
	}
	CHECK_IDENTITIES(stats_of(ch), 11);
}

/* The reader spun on a writer that did not come back. */
TEST(bug08_a_reader_returns_although_a_writer_is_stuck)
{
	int *ready = shared_memory(sizeof(*ready));
	uint64_t begun;
	pid_t pid;

	setup(CONFIG(.wakeup = RINGBUF_WAKEUP_WRITER));
	pid = spawn();
	if (!pid) {
		struct ringbuf_reservation r;

		EQ(reserve(ch, &r, 16, 0), 0);
		__atomic_store_n(ready, 1, __ATOMIC_RELEASE);
		raise(SIGSTOP);
		ringbuf_commit(ch, &r);
		_exit(0);
	}
	while (!__atomic_load_n(ready, __ATOMIC_ACQUIRE))
		sched_yield();
	while (record(ch, 1000, 1) == 0)
		;
	GT(lost(ch, RINGBUF_LOST_WRAP), 0);
	begun = now_ns();
	for (int i = 0; i < 1000; i++)
		EQ(ringbuf_get_next_subbuf(&rd.reader), -EAGAIN);
	EQ(ringbuf_wait_for_data(ch, ringbuf_data_wanted(ch), now_ns() + 50 * MS), -ETIMEDOUT);
	LT(now_ns() - begun, 5000 * MS);
	kill(pid, SIGCONT); /* heals all */
	reap(pid);
	GE(read_all(&rd), 3);
	EQ(record(ch, 16, 9), 0);
}

/* After a crash, the count of what is complete had never been written. */
TEST(bug09_what_a_killed_producer_completed_is_readable)
{
	for (int i = 0; i < 20; i++) {
		pid_t pid;

		setup(CONFIG(.mode = RINGBUF_OVERWRITE, .n_subbufs = 8));
		pid = spawn();
		if (!pid)
			for (uint64_t n = 0;; n++)
				record(ch, 16 + n % 300, n);
		while (ringbuf_pos_diff(pos_of(ch, 0), 0) < 3 * 4096)
			sched_yield();
		usleep((useconds_t)rnd_below(2000));
		kill_child(pid);
		/* at most the packet that it was in is missing, and what follows it in order */
		GE(read_all(&rd), 1);
		GT(rd.records, 5);
	}
}

/* A payload of no bytes at the end of a sub-buffer was written to the next page. */
TEST(bug10_an_empty_payload_as_the_last_record)
{
	setup(CONFIG(.mode = RINGBUF_OVERWRITE));
	for (uint64_t lap = 0; lap < 12; lap++) {
		struct ringbuf_reservation r = {.event_id = 1, .flags = RINGBUF_LENGTH_PREFIX};
		struct ringbuf_writer w;
		uint64_t off;

		do {
			EQ(record(ch, 16, lap), 0);
			off = ringbuf_subbuf_off(&ch->geometry, pos_of(ch, 0));
		} while (off + 24 < 4096 - 8);
		if (off < 4096 - 8) {
			r.payload_size = 4096 - 8 - off;
			EQ(ringbuf_reserve(ch, &r), 0);
			memset(r.payload, 0, r.payload_size);
			ringbuf_commit(ch, &r);
			continue; /* it took the last bytes itself */
		}
		r.payload_size = 0;
		EQ(ringbuf_reserve(ch, &r), 0);
		ringbuf_writer_init(&w, &r);
		ringbuf_write(&w, NULL, 0);
		ringbuf_strcpy(&w, "text", 0, '#');
		ringbuf_commit(ch, &r);
	}
	EQ(stats_of(ch).written, stats_of(ch).unread + stats_of(ch).overrun);
}

/* The reader looked at a sub-buffer that producers had. */
TEST(bug11_a_held_packet_is_the_readers_alone)
{
	uint64_t end, looks = 0;
	uint8_t copy[4096];
	pthread_t t[2];

	setup(CONFIG(.mode = RINGBUF_OVERWRITE, .n_subbufs = 2));
	for (uintptr_t i = 0; i < 2; i++)
		t[i] = start(record_all_the_time, (void *)i);
	for (end = now_ns() + soak_ns(0.5); now_ns() < end;) {
		if (ringbuf_get_next_subbuf(&rd.reader))
			continue;
		memcpy(copy, rd.reader.packet.data, rd.reader.packet.content_size);
		check_packet(&rd);
		if (looks++ % 4 == 0)
			usleep((useconds_t)rnd_below(500)); /* lapped many times */
		OK(!memcmp(copy, rd.reader.packet.data, rd.reader.packet.content_size));
		ringbuf_put_subbuf(&rd.reader, (enum ringbuf_put)(looks % 2 * 2));
	}
	atomic_store(&stop, 1);
	for (int i = 0; i < 2; i++)
		join(t[i]);
	GT(looks, 10);
}

/* Sizes were checked in 32 bits, and a count of one was allowed. */
TEST(bug12_sizes_are_checked_in_64_bits)
{
	uint64_t sizes[] = {(UINT64_C(1) << 32) | 4096, UINT64_C(1) << 32, UINT64_C(1) << 63, 0, 6000};
	uint64_t counts[] = {0, 1, 6, UINT64_C(1) << 32, (UINT64_C(1) << 32) | 4, UINT64_C(1) << 62};
	struct ringbuf_channel *none = NULL;

	for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++)
		EQ(ringbuf_create(CONFIG(.subbuf_size = sizes[i]), &none), -EINVAL);
	for (unsigned int i = 0; i < ARRAY_SIZE(counts); i++)
		EQ(ringbuf_create(CONFIG(.n_subbufs = counts[i]), &none), -EINVAL);
}

static char changing[64];

static void *
change(void *arg)
{
	volatile char *s = changing;

	(void)arg;
	while (!atomic_load(&stop))
		for (int i = 0; i < 60; i++) {
			s[i] = 0;
			s[i] = 'x';
		}
	return NULL;
}

/* A string grew between the measuring and the copying of it. */
TEST(bug13_a_string_that_changes_while_it_is_copied_leaves_a_record_that_parses)
{
	pthread_t t;

	if (TSAN)
		SKIP("a data race on purpose");
	setup(CONFIG(.mode = RINGBUF_OVERWRITE));
	rd.plain = 1;
	memset(changing, 'x', 60);
	t = start(change, NULL);
	for (uint64_t end = now_ns() + 100 * MS; now_ns() < end;) {
		struct ringbuf_reservation r = {.event_id = 1, .payload_size = 32, .flags = RINGBUF_LENGTH_PREFIX};
		struct ringbuf_writer w;

		if (ringbuf_reserve(ch, &r))
			continue;
		ringbuf_writer_init(&w, &r);
		ringbuf_strcpy(&w, changing, 20, 0);
		ringbuf_memset(&w, 'e', 12);
		EQ(r.payload[19], 0);
		EQ(r.payload[20], 'e');
		EQ(r.payload[31], 'e');
		ringbuf_commit(ch, &r);
	}
	atomic_store(&stop, 1);
	join(t);
	flush(ch);
	read_all(&rd);
	GT(rd.records, 0);
}

static uint64_t custom_now;

static uint64_t
custom_clock(const struct ringbuf_channel *c)
{
	(void)c;
	return custom_now;
}

static uint64_t expected_times[64], n_times;

static void
check_times(const struct record *rec, void *arg)
{
	(void)arg;
	EQ(rec->time, expected_times[n_times++]);
}

/* A gap was short by the 32 bits of one header and long by the 27 of the other. */
TEST(bug14_gaps_around_2_to_27_and_a_clock_that_steps_back)
{
	static const struct ringbuf_client client = {.clock_read = custom_clock};
	uint64_t range = UINT64_C(1) << 27;
	uint64_t steps[] = {range - 1, range, range + 1, 2 * range - 1, (UINT64_C(1) << 32) - 1, UINT64_C(1) << 32,
			    (UINT64_C(1) << 32) + 1, 1, 0, (uint64_t)-5, range - 1, (uint64_t)-1000, range};

	for (uint32_t header = RINGBUF_COMPACT; header <= RINGBUF_LARGE; header++) {
		uint64_t n = 0;

		setup(CONFIG(.header = header, .client = &client, .clock = RINGBUF_CLOCK_CUSTOM));
		rd.each = check_times;
		custom_now = 12345;
		n_times = 0;
		for (unsigned int i = 0; i < ARRAY_SIZE(steps); i++) {
			struct ringbuf_reservation r;

			custom_now += steps[i];
			EQ(reserve(ch, &r, 16, n), 0);
			expected_times[n++] = r.timestamp;
			ringbuf_commit(ch, &r);
		}
		flush(ch);
		read_all(&rd);
		EQ(n_times, n);
	}
}

/* The memory under a mapping went away: a full disk, or a peer that cut the file short. */
TEST(bug15_memory_does_not_go_away_or_that_is_noticed)
{
	char path[64];

	setup(CONFIG());
	EQ(ftruncate(ch->fd, 0), -1); /* sealed */
	snprintf(path, sizeof(path), "/tmp/ringbuf-bug15-%d", (int)getpid());
	setup(CONFIG(.path = path));
	OK(ringbuf_is_whole(ch));
	EQ(truncate(path, 4096), 0);
	OK(!ringbuf_is_whole(ch)); /* whoever looks first does not touch it */
	unlink(path);
}

/* A fork shared what should not be shared, and a reader's death killed producers (there is no
 * pipe here, hence no SIGPIPE). */
TEST(bug16_forks_and_a_readers_death_harm_nobody)
{
	int *ready = shared_memory(sizeof(*ready));
	struct ringbuf_reservation open;
	pid_t reader, child;

	setup(CONFIG(.wakeup = RINGBUF_WAKEUP_WRITER));
	reader = spawn();
	if (!reader) {
		struct ringbuf_right right;

		EQ(ringbuf_open_reader(ch, 0, 1, &right), 0);
		(void)ringbuf_data_wanted(ch);
		__atomic_store_n(ready, 1, __ATOMIC_RELEASE);
		for (;;)
			ringbuf_wait_for_data(ch, ringbuf_data_wanted(ch), UINT64_MAX);
	}
	while (!__atomic_load_n(ready, __ATOMIC_ACQUIRE))
		sched_yield();
	EQ(reserve(ch, &open, 16, 0), 0);
	child = spawn();
	if (!child) {
		for (uint64_t i = 0; i < 20; i++)
			EQ(record_event(ch, 1, 100, 1, 1, i), 0);
		exit(0);
	}
	reap(child);
	kill_child(reader);
	ringbuf_commit(ch, &open);
	fill(2);
	EQ(flush_and_read(ch), 23);
	CHECK_IDENTITIES(stats_of(ch), 23);
}

static void
shape17(uint32_t id, uint64_t *size, uint64_t *align)
{
	*size = id % 71;
	*align = UINT64_C(1) << id / 71;
}

/* What was sized in one pass was larger or smaller than what was written in the other. */
TEST(bug17_what_is_sized_is_what_is_written)
{
	for (uint32_t context_size = 0; context_size < 20; context_size += 3) {
		uint8_t context[20] = {0};
		struct walker w;
		struct record rec;
		uint64_t n = 0;

		setup(CONFIG(.n_subbufs = 128));
		for (uint32_t id = 0; id < 71 * 7; id++) {
			struct ringbuf_reservation r = {.event_id = id, .payload_size = id % 71,
							.align = 1u << id / 71, .context = context,
							.context_size = context_size};

			EQ(ringbuf_reserve(ch, &r), 0);
			memset(r.payload, 0xff, r.payload_size);
			ringbuf_commit(ch, &r);
		}
		flush(ch);
		while (ringbuf_get_next_subbuf(&rd.reader) == 0) {
			walk_begin(&w, ch, &rd.reader.packet);
			w.shape = shape17;
			w.context_size = context_size;
			for (; walk_next(&w, &rec); n++) {
				EQ(rec.id, n);
				for (uint64_t i = 0; i < rec.size; i++)
					EQ(rec.payload[i], 0xff);
			}
			ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_READ);
		}
		EQ(n, 71 * 7);
	}
}

/* The number of the pass was off by one, or too narrow, or wrong before the first. */
TEST(bug18_every_bit_of_the_pass_is_right)
{
	for (uint64_t n_subbufs = 2; n_subbufs <= 16; n_subbufs *= 8)
		for (int before = 0; before <= 2; before++)
			for (unsigned int bit = 20; bit <= 48; bit++) {
				uint64_t ring = n_subbufs * 4096;

				setup(CONFIG(.mode = bit & 1 ? RINGBUF_OVERWRITE : RINGBUF_DISCARD,
					     .n_subbufs = n_subbufs,
					     .start_pos = ((UINT64_C(1) << bit) - (uint64_t)before * ring) & (POS_END - 1)));
				for (uint64_t i = 0; i < 3 * n_subbufs; i++) {
					EQ(record(ch, 3000, i), 0);
					flush(ch);
					EQ(ringbuf_get_next_subbuf(&rd.reader), 0);
					EQ(rd.reader.packet.sequence_number, i);
					check_packet(&rd);
					ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_READ);
				}
				CHECK_IDENTITIES(stats_of(ch), 3 * n_subbufs);
				ringbuf_close(ch);
			}
}

/* Positions were compared unsigned, and nothing worked across the wrap. */
TEST(bug19_positions_wrap)
{
	uint64_t starts[] = {POS_END - 4 * 4096, POS_END / 2 - 4 * 4096, POS_END / 4 - 4 * 4096};

	for (unsigned int i = 0; i < ARRAY_SIZE(starts); i++)
		for (uint32_t mode = RINGBUF_DISCARD; mode <= RINGBUF_OVERWRITE; mode++) {
			uint64_t n = 0;

			setup(CONFIG(.mode = mode, .start_pos = starts[i]));
			for (; n < 100; n++) {
				record(ch, 1000 + n * 37 % 2000, n);
				if (n % 7 == 0)
					read_all(&rd);
			}
			flush_and_read(ch);
			CHECK_IDENTITIES(stats_of(ch), n);
		}
}

static void *
wait_and_read(void *arg)
{
	uint64_t idle = 0;

	(void)arg;
	while (!ringbuf_is_finalized(ch)) {
		uint32_t seq = ringbuf_data_wanted(ch);

		if (!ringbuf_has_packet(&rd.reader) && !ringbuf_is_finalized(ch)) {
			CHECK(ringbuf_wait_for_data(ch, seq, now_ns() + 20000 * MS) != -ETIMEDOUT,
			      "a delivery woke nobody");
			idle++;
		}
		read_all(&rd);
	}
	return (void *)(uintptr_t)idle;
}

/* Two sides that store one word and load the other's must not both see the old one. That is shown
 * by the model checker; here, that nobody sleeps on while there is something to read. */
TEST(bug20_a_sleeping_reader_misses_no_delivery)
{
	pthread_t reader;
	uint64_t n = 0;

	setup(CONFIG(.wakeup = RINGBUF_WAKEUP_WRITER));
	reader = start(wait_and_read, NULL);
	for (uint64_t end = now_ns() + soak_ns(0.4); now_ns() < end; n++) {
		record(ch, 3000, n);
		if (n % 3 == 0)
			flush(ch);
		for (uint64_t spin = rnd_below(2000); spin; spin--)
			__asm__ volatile("");
		if (n % 16 == 0)
			sched_yield();
	}
	finalize(ch);
	join(reader);
	read_all(&rd);
	EQ(stats_of(ch).unread, 0);
	CHECK_IDENTITIES(stats_of(ch), n);
}

/* Writers that met in a sub-buffer padded it away, or gave up. Nobody owns one here. */
TEST(bug21_sharing_a_stream_wastes_no_space)
{
	uint64_t content = 0, packets = 0;
	pthread_t t[8];

	setup(CONFIG(.n_subbufs = 2048));
	for (uintptr_t i = 0; i < 8; i++)
		t[i] = start(record_a_lot, (void *)i);
	for (int i = 0; i < 8; i++)
		join(t[i]);
	while (ringbuf_get_next_subbuf(&rd.reader) == 0) {
		content += rd.reader.packet.content_size;
		packets++;
		ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_READ);
	}
	GT(packets, 500);
	GT(content, packets * 4096 * 95 / 100); /* a record has 224 bytes at most */
	EQ(lost(ch, RINGBUF_LOST_WRAP), 0);
}

/* Packets made by a flush had wrong counts, ids or uuids. */
TEST(bug22_packets_made_by_a_flush_are_like_any_other)
{
	struct ringbuf_reservation r;

	for (uint32_t streams = RINGBUF_PER_CPU; streams <= RINGBUF_GLOBAL; streams++) {
		struct ringbuf_channel *c = create(CONFIG(.streams = streams, .n_streams = 3));

		for (uint32_t i = 0; i < c->n_streams; i++) {
			struct reading look;

			reading_init(&look, c, i);
			for (uint64_t n = 0; n < 6; n++) {
				EQ(ringbuf_flush(c, my_slot(c), i, RINGBUF_FLUSH_EMPTY), 0);
				EQ(ringbuf_get_next_subbuf(&look.reader), 0);
				check_packet(&look); /* header, stream, uuid, times, counts */
				EQ(look.reader.packet.records, 0);
				EQ(look.reader.packet.sequence_number, n);
				ringbuf_put_subbuf(&look.reader, RINGBUF_PUT_READ);
			}
		}
	}
	/* and in between others: losses are told, times go on */
	setup(CONFIG(.n_subbufs = 8));
	EQ(record(ch, 100, 0), 0);
	EQ(record(ch, 6000, 0), -ENOSPC);
	EQ(ringbuf_flush(ch, my_slot(ch), 0, RINGBUF_FLUSH_EMPTY), 0);
	EQ(record(ch, 6000, 0), -ENOSPC);
	EQ(ringbuf_flush(ch, my_slot(ch), 0, RINGBUF_FLUSH_EMPTY), 0);
	EQ(reserve(ch, &r, 100, 1), 0);
	ringbuf_discard(ch, &r);
	EQ(ringbuf_flush(ch, my_slot(ch), 0, RINGBUF_FLUSH_EMPTY), 0);
	for (uint64_t n = 0; n < 3; n++) {
		EQ(ringbuf_get_next_subbuf(&rd.reader), 0);
		EQ(rd.reader.packet.events_discarded, n ? 2 : 1);
		check_packet(&rd);
		ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_READ);
	}
}

/* The flush that a snapshot begins with overwrote the oldest packet of the snapshot. */
TEST(bug23_the_flush_of_a_snapshot_pushes_nothing_out)
{
	uint64_t from, to;

	setup(CONFIG(.mode = RINGBUF_OVERWRITE));
	fill(6);
	EQ(ringbuf_get_next_subbuf(&rd.reader), 0);
	EQ(rd.reader.packet.sequence_number, 2);
	ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_BACK);
	EQ(record(ch, 16, 6), 0); /* this takes the oldest's place */
	EQ(ringbuf_get_next_subbuf(&rd.reader), 0);
	EQ(rd.reader.packet.sequence_number, 3);
	for (int i = 0; i < 10; i++)
		flush(ch); /* this does not, held or not */
	ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_BACK);
	ringbuf_snapshot_range(&rd.reader, &from, &to);
	EQ(to - from, 4 * 4096);
	EQ(ringbuf_get_subbuf(&rd.reader, from), 0);
	EQ(rd.reader.packet.sequence_number, 3);
	ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_BACK);
	EQ(stats_of(ch).overrun, 3);
}

/* The first packet began when the stream was made, long before its first record. */
TEST(bug25_a_packet_begins_with_its_first_record)
{
	struct ringbuf_reservation r;

	setup(CONFIG(.clock = RINGBUF_CLOCK_MONOTONIC));
	for (uint64_t i = 0; i < 3; i++) {
		sleep_ms(5);
		flush(ch); /* idle: nothing to end */
		EQ(ringbuf_get_next_subbuf(&rd.reader), -EAGAIN);
		EQ(reserve(ch, &r, 16, i), 0);
		ringbuf_commit(ch, &r);
		flush(ch);
		EQ(ringbuf_get_next_subbuf(&rd.reader), 0);
		EQ(rd.reader.packet.timestamp_begin, r.timestamp);
		check_packet(&rd);
		ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_READ);
	}
}

/* A sequence of bytes ended at the first NUL. */
TEST(bug26_a_payload_may_be_any_bytes)
{
	uint8_t bytes[256];
	struct walker w;
	struct record rec;

	for (int i = 0; i < 256; i++)
		bytes[i] = (uint8_t)(i * 7);
	setup(CONFIG());
	for (uint64_t size = 0; size <= 256; size += 32) {
		struct ringbuf_reservation r = {.event_id = 1, .payload_size = size, .flags = RINGBUF_LENGTH_PREFIX};

		EQ(ringbuf_reserve(ch, &r), 0);
		memcpy(r.payload, bytes, size);
		ringbuf_commit(ch, &r);
	}
	flush(ch);
	EQ(ringbuf_get_next_subbuf(&rd.reader), 0);
	walk_begin(&w, ch, &rd.reader.packet);
	for (uint64_t size = 0; size <= 256; size += 32) {
		OK(walk_next(&w, &rec));
		EQ(rec.size, size);
		OK(!memcmp(rec.payload, bytes, size));
	}
}

static void *
make_and_close(void *arg)
{
	(void)arg;
	for (uint64_t i = 0; i < 60; i++) {
		struct ringbuf_channel *c = create(CONFIG(.mode = i & 1));

		EQ(record(c, 16, i), 0);
		EQ(flush_and_read(c), 1);
		ringbuf_close(c);
	}
	return NULL;
}

/* Making and unmaking many at once met in the timers' lists. Periods are test_consumer.c's. */
TEST(bug27_channels_are_made_and_closed_in_a_storm)
{
	pthread_t t[4];

	for (int i = 0; i < 4; i++)
		t[i] = start(make_and_close, NULL);
	for (int i = 0; i < 20; i++) {
		pid_t pid = spawn();

		if (!pid) {
			make_and_close(NULL);
			_exit(0);
		}
		reap(pid);
	}
	for (int i = 0; i < 4; i++)
		join(t[i]);
	OK(!ringbuf_registry.channels);
}
