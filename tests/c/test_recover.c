/* recover.h: the file of the dead, cut short, damaged, or with things that nobody can decide. */
#define HARNESS_HOOKS
#define HARNESS_CLOCK
#include "harness.h"

#include <dirent.h>

static char folder[] = "/tmp/ringbuf-recover-XXXXXX";
static char path[64], out[64];

/* A channel in a file of a folder of its own. */
static struct ringbuf_channel *
create_file(struct ringbuf_config *cfg)
{
	OK(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/ring", folder);
	snprintf(out, sizeof(out), "%s/trace", folder);
	cfg->path = path;
	return create(cfg);
}

static void
remove_all(const char *directory)
{
	DIR *dir = opendir(directory);
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		unlinkat(dirfd(dir), entry->d_name, 0);
	if (dir)
		closedir(dir);
	rmdir(directory);
}

/* ---- what is recovered ---- */

static struct recovered {
	struct ringbuf_recovered_stream stream;
	uint64_t time, torn, missing;
	uint64_t seqs[4096];
	unsigned int n, disagree;
	int ret;
} got;

static int any_payload; /* scribbles made holes where they liked */

/* Do the headers of compact records fill the packet, with times in order? */
static int
is_readable(const struct ringbuf_packet *p)
{
	uint64_t off = 80, time = p->timestamp_begin;

	while (off < p->content_size) {
		const uint8_t *at;
		int extended;
		uint64_t now;

		off = (off + 3) & ~UINT64_C(3);
		at = p->data + off;
		if (off + 8 > p->content_size)
			return 0;
		if ((at[0] & 31) == 30) {
			off += 4 + (get_le(at, 4) >> 5);
			continue;
		}
		extended = (at[0] & 31) == 31;
		now = extended ? get_le(at + 5, 8) : get_le(at, 4) >> 5; /* HARNESS_CLOCK: all times are short */
		off += (extended ? 13 : 4) + 4;
		if (off > p->content_size || now < time || now > p->timestamp_end)
			return 0;
		off += get_le(p->data + off - 4, 4);
		time = now;
	}
	return off == p->content_size;
}

/* A recovery's judge: the harness's walker, which ends the test if a packet that can be read is wrong. */
static int64_t
judge(void *arg, const struct ringbuf_packet *p, int agrees)
{
	struct ringbuf_packet unknown = *p;
	struct walker w;
	struct record rec;

	got.disagree += !agrees;
	if (!agrees || !is_readable(p))
		return -1;
	walk_begin(&w, (const struct ringbuf_channel *)arg, p);
	w.p = &unknown;
	unknown.records = UINT64_MAX;
	while (w.off < p->content_size) {
		OK(walk_next(&w, &rec));
		if (!any_payload)
			check_stamp(&rec);
		got.seqs[got.n++] = rec.stamp.seq;
	}
	return (int64_t)w.records;
}

static struct ringbuf_channel *
open_copy(void)
{
	struct ringbuf_channel *ch;
	int fd = open(path, O_RDONLY | O_CLOEXEC), copy;

	OK(fd >= 0);
	copy = ringbuf_recover_copy(fd, &got.missing);
	close(fd);
	CHECK(copy >= 0, "%s", ringbuf_strerror(copy));
	EQ(ringbuf_attach_fd(copy, NULL, NULL, &ch), 0);
	return ch;
}

static void
recover(int all)
{
	struct ringbuf_channel *ch;
	struct ringbuf_recovery how = {.files = {.directory = out}, .all = all, .check = judge};

	memset(&got, 0, sizeof(got));
	ch = open_copy();
	how.arg = ch;
	got.ret = ringbuf_recover_files(ch, &how, &got.stream);
	got.time = how.timestamp;
	got.torn = lost(ch, RINGBUF_LOST_TORN);
	ringbuf_close(ch);
	remove_all(out);
}

/* Change a word of the region in the file. */
static void
poke(struct ringbuf_channel *ch, ringbuf_atomic_u64 *word, uint64_t value)
{
	int fd = open(path, O_WRONLY);

	EQ(pwrite(fd, &value, 8, (uint8_t *)(void *)word - ch->base), 8);
	close(fd);
}

static void
expect_seqs(uint64_t first, uint64_t n)
{
	EQ(got.ret, 0);
	EQ(got.n, n);
	for (uint64_t i = 0; i < n; i++)
		EQ(got.seqs[i], first + i);
	EQ(got.stream.records, n);
}

static void
record_many(struct ringbuf_channel *ch, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		EQ(record(ch, 100, i), 0);
}

static void
end(void)
{
	unlink(path);
	rmdir(folder);
}

TEST(an_open_packet_ends_when_the_last_record_was_made)
{
	struct ringbuf_channel *ch = create_file(CONFIG());
	uint64_t last;

	record_many(ch, 10);
	last = atomic_load(&ticks);
	atomic_fetch_add(&ticks, 1000000);
	recover(0);
	expect_seqs(0, 10);
	EQ(got.time, last);
	EQ(got.stream.packets, 1);
	EQ(got.stream.damaged, 0);
	/* and the file is as it was */
	EQ(pos_of(ch, 0) % 4096 != 0, 1);
	EQ(stats_of(ch).unread, 10);
	end();
}

TEST(a_sparse_file_is_copied_sparsely)
{
	struct ringbuf_channel *ch = create_file(CONFIG(.subbuf_size = MIB, .n_subbufs = 16)), *copy;
	struct stat st;

	record_many(ch, 10);
	copy = open_copy();
	EQ(fstat(copy->fd, &st), 0);
	EQ((uint64_t)st.st_size, ch->region_size);
	LT((uint64_t)st.st_blocks * 512, 4 * MIB);
	EQ(got.missing, 0);
	EQ(memcmp(copy->base, ch->base, 72) != 0, 0);
	ringbuf_close(copy);
	end();
}

TEST(a_short_file_says_how_much_is_missing)
{
	struct ringbuf_channel *ch = create_file(CONFIG());

	record_many(ch, 100);
	EQ(truncate(path, (off_t)(ch->region_size - 4096 * 3 - 17)), 0);
	recover(0);
	EQ(got.missing, 4096 * 3 + 17);
	GE(got.stream.damaged, 1);
	end();
}

/* ---- deaths ---- */

static void
die(void *unused)
{
	(void)unused;
	raise(SIGKILL);
}

/* A child dies at the test point in a record of 100 bytes. */
static void
die_at(struct ringbuf_channel *ch, const char *point)
{
	pid_t pid = spawn();

	if (pid == 0) {
		my_slot(ch);
		hook_at(point, die, NULL);
		record(ch, 100, 1000);
		FAIL("%s was not reached", point);
	}
	reap_killed(pid);
}

TEST(a_claim_at_the_end_was_not_won)
{
	struct ringbuf_channel *ch = create_file(CONFIG());

	record_many(ch, 5);
	/* Alone, the sums could not tell these two apart. */
	die_at(ch, "commit_written");
	die_at(ch, "ledger_claimed");
	recover(0);
	EQ(got.n, 6);
	EQ(got.seqs[5], 1000);
	EQ(got.torn, 0);
	end();
}

TEST(a_packet_in_doubt_is_kept_if_all_of_it_can_be_read)
{
	struct ringbuf_channel *ch = create_file(CONFIG());

	record_many(ch, 5);
	die_at(ch, "ledger_claimed");
	EQ(record(ch, 100, 5), 0); /* where it would have claimed: the sums cannot tell any more who did */
	die_at(ch, "commit_written");
	recover(0);
	EQ(got.n, 7);
	EQ(got.seqs[5], 5);
	EQ(got.seqs[6], 1000);
	EQ(got.torn, 0);
	EQ(got.stream.damaged, 0);
	end();
}

TEST(a_packet_in_doubt_that_cannot_be_read_keeps_what_precedes_the_doubt)
{
	struct ringbuf_channel *ch = create_file(CONFIG());

	record_many(ch, 5);
	die_at(ch, "reserve_claimed"); /* has won its claim, and written nothing */
	die_at(ch, "commit_written");
	die_at(ch, "commit_counted");
	recover(0);
	expect_seqs(0, 5);
	EQ(got.torn, 3);
	EQ(got.stream.packets, 1);
	EQ(got.stream.damaged, 0);
	end();
}

TEST(holes_before_the_doubt_are_joined)
{
	struct ringbuf_channel *ch = create_file(CONFIG());
	struct ringbuf_reservation a, b;

	record_many(ch, 3);
	EQ(reserve(ch, &a, 40, 0), 0);
	EQ(reserve(ch, &b, 60, 0), 0);
	EQ(record(ch, 100, 3), 0);
	ringbuf_discard(ch, &a);
	ringbuf_discard(ch, &b);
	die_at(ch, "reserve_claimed");
	die_at(ch, "commit_written");
	die_at(ch, "commit_counted");
	recover(0);
	expect_seqs(0, 4);
	end();
}

TEST(every_death_of_one_producer_tears_at_most_its_own_record)
{
	static const char *points[] = {"ledger_claimed", "commit_begin", "commit_written", "commit_counted"};
	struct ringbuf_channel *ch = create_file(CONFIG(.n_subbufs = 16));
	uint64_t recorded = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(points); i++) {
		record_many(ch, 5);
		die_at(ch, points[i]);
		flush(ch);
		recorded += 5 + (i >= 2);
	}
	recover(0);
	EQ(got.n, recorded);
	EQ(got.torn, 1);
	EQ(got.stream.damaged, 0);
	end();
}

/* ---- who was there ---- */

TEST(those_who_left_in_order_have_no_last_words)
{
	struct ringbuf_channel *ch = create_file(CONFIG()), *copy;
	struct ringbuf_last_words words;
	pid_t pid = spawn();
	unsigned int found = 0;

	if (pid == 0) {
		record(ch, 100, 0);
		ringbuf_close(ch);
		_exit(0);
	}
	reap(pid);
	die_at(ch, "commit_begin");
	copy = open_copy();
	for (uint32_t i = 0; i < copy->n_producers; i++)
		if (ringbuf_get_last_words(copy, i, &words)) {
			EQ(words.open, 1);
			NE(words.timestamp, 0);
			found++;
		}
	EQ(found, 1);
	end();
}

TEST(a_region_is_used_as_long_as_somebody_lives)
{
	struct ringbuf_channel *ch = create_file(CONFIG());
	int fd = open(path, O_RDONLY);
	pid_t pid = spawn();

	if (pid == 0)
		for (;;)
			pause();
	OK(ringbuf_is_used(fd));
	ringbuf_close(ch);
	OK(ringbuf_is_used(fd)); /* by the child, which has inherited it */
	kill_child(pid);
	OK(!ringbuf_is_used(fd));
	EQ(ringbuf_attach(path, &ch), 0);
	OK(ringbuf_is_used(fd));
	ringbuf_close(ch);
	OK(!ringbuf_is_used(fd));
	end();
}

/* ---- damage ---- */

TEST(a_time_in_the_future_is_not_believed)
{
	struct ringbuf_channel *ch = create_file(CONFIG());
	struct ringbuf_producer_slot *slot = ringbuf_producer_slot_at(ch, 7);

	record_many(ch, 5);
	poke(ch, &slot->ledger[3].timestamp, UINT64_MAX / 2);
	recover(0);
	expect_seqs(0, 5);
	LE(got.time, atomic_load(&ticks));
	end();
}

TEST(a_position_that_is_nonsense_costs_the_open_packet)
{
	struct ringbuf_channel *ch = create_file(CONFIG());
	struct ringbuf_stream *s = ringbuf_stream_at(ch, 0);

	record_many(ch, 80);
	poke(ch, &s->produced, UINT64_C(0x123456789abcdef0));
	recover(0);
	OK(got.stream.astray);
	EQ(got.stream.packets, 2);
	expect_seqs(0, got.n);
	end();
}

TEST(a_slot_that_is_nonsense_costs_no_complete_packet)
{
	for (int word = 0; word < 3; word++) {
		struct ringbuf_channel *ch;
		struct ringbuf_subbuf *sb;

		memcpy(folder + sizeof(folder) - 7, "XXXXXX", 6);
		ch = create_file(CONFIG());
		sb = subbuf_of(ch, 4096);
		record_many(ch, 100);
		flush(ch);
		poke(ch, word == 0   ? &sb->committed
			 : word == 1 ? &sb->stage
				     : &ringbuf_slot_at(ch, ringbuf_stream_at(ch, 0), 4096)->subbuf_ref,
		     UINT64_C(0xfedcba9876543210));
		recover(0);
		OK(!got.stream.astray);
		EQ(got.stream.damaged, 0);
		expect_seqs(0, 100);
		end();
	}
}

TEST(a_table_entry_that_is_nonsense_costs_its_packet)
{
	struct ringbuf_channel *ch = create_file(CONFIG());
	struct ringbuf_stream *s = ringbuf_stream_at(ch, 0);
	uint64_t ref;

	record_many(ch, 100);
	flush(ch);
	ref = ringbuf_load(&ringbuf_slot_at(ch, s, 4096)->subbuf_ref, RINGBUF_RELAXED);
	poke(ch, &ringbuf_subbuf_at(ch, s, (uint32_t)(ref & RINGBUF_REF_IDX_MASK))->n_records, 3);
	recover(0);
	EQ(got.stream.damaged, 1);
	EQ(got.stream.packets, 2);
	EQ(got.disagree, 0);
	end();
}

TEST(random_words_crash_nothing)
{
	int fd;

	any_payload = 1;
	for (struct runs r = runs(1.5); next_run(&r);) {
		struct ringbuf_channel *ch;
		pid_t pid;

		memcpy(folder + sizeof(folder) - 7, "XXXXXX", 6);
		ch = create_file(CONFIG(.mode = rnd_below(2) ? RINGBUF_OVERWRITE : RINGBUF_DISCARD));
		pid = spawn();
		if (pid == 0) {
			for (uint64_t i = rnd_below(300); i; i--)
				record(ch, 100, i);
			raise(SIGKILL);
		}
		reap_killed(pid);
		fd = open(path, O_WRONLY);
		for (uint64_t i = 1 + rnd_below(100); i; i--) {
			uint64_t words = (ch->streams_off + ch->data_off - 4096) / 8, value = rnd() >> rnd_below(64);

			EQ(pwrite(fd, &value, 8, (off_t)(4096 + 8 * rnd_below(words))), 8);
		}
		close(fd);
		recover((int)rnd_below(2));
		EQ(got.ret, 0);
		ringbuf_close(ch);
		end();
	}
}

/* ---- claims ---- */

static int64_t
nothing_to_judge(void *arg, const struct ringbuf_packet *p, int agrees)
{
	FAIL("a packet of %llu bytes, agrees %d, in a file without any", (unsigned long long)p->packet_size, agrees);
	(void)arg;
	return -1;
}

/* A file with a superblock for `cfg`, and if `all` a position in each stream and all slots used; the rest is holes. */
static void
claim(const struct ringbuf_config *cfg, int all)
{
	struct ringbuf_superblock sb;
	uint64_t position = cfg->n_subbufs * cfg->subbuf_size;
	uint32_t used = cfg->n_producers;
	int fd;

	OK(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/ring", folder);
	snprintf(out, sizeof(out), "%s/trace", folder);
	EQ(ringbuf_fill_superblock(&sb, cfg), 0);
	atomic_store(&sb.magic, RINGBUF_MAGIC);
	fd = open(path, O_RDWR | O_CREAT, 0600);
	EQ(pwrite(fd, &sb, sizeof(sb), 0), sizeof(sb));
	EQ(ftruncate(fd, all ? (off_t)sb.region_size : 8192), 0);
	for (uint32_t i = 0; all && i < sb.n_streams; i++)
		EQ(pwrite(fd, &position, 8, (off_t)(sb.streams_off + i * sb.stream_stride)), 8);
	if (all)
		EQ(pwrite(fd, &used, 4, (off_t)(sb.control_off + offsetof(struct ringbuf_control, producers_used))), 4);
	close(fd);
}

/* Gigabytes of tables, and every sub-buffer times a quarter of a million of producers. */
TEST(a_file_of_nothing_costs_nothing_whatever_it_claims)
{
	for (int all = 0; all < 2; all++) {
		struct ringbuf_recovered_stream *streams = calloc(512, sizeof(*streams));
		struct ringbuf_recovery how = {.files = {.directory = out}, .check = nothing_to_judge};
		struct ringbuf_channel *ch;
		struct ringbuf_stats stats;
		struct stat st;

		claim(CONFIG(.n_subbufs = 1 << 14, .subbuf_size = 4096, .n_streams = 512, .n_producers = 1 << 18,
			      .streams = RINGBUF_PER_CPU), all);
		ch = open_copy();
		EQ(ringbuf_recover_files(ch, &how, streams), 0);
		ringbuf_recover_stats(ch, streams, &stats);
		EQ(stats.written, 0);
		EQ(fstat(ch->fd, &st), 0);
		CHECK(st.st_blocks < 16 << 11, "it has taken %lld MiB", (long long)st.st_blocks >> 11);
		for (int i = 0; i < 512; i++)
			EQ(streams[i].packets + streams[i].damaged + (uint64_t)!streams[i].blank, 0);
		ringbuf_close(ch);
		free(streams);
		remove_all(out);
		remove_all(folder);
		memcpy(folder + sizeof(folder) - 7, "XXXXXX", 6);
	}
}

static int
give_up(void *arg)
{
	return ++*(int *)arg > 3;
}

TEST(a_recovery_can_be_given_up)
{
	struct ringbuf_channel *ch = create_file(CONFIG()), *copy;
	struct ringbuf_recovered_stream stream = {0};
	int asked = 0;
	struct ringbuf_recovery how = {.files = {.directory = out}, .check = judge, .pause = give_up, .arg = &asked};

	for (uint64_t i = 0; i < 300; i++)
		record(ch, 100, i);
	copy = open_copy();
	EQ(ringbuf_recover_files(copy, &how, &stream), -EINTR);
	EQ(asked, 4);
	ringbuf_close(copy);
	remove_all(out);
	ringbuf_close(ch);
}
