/* map.h: the meta page, swaps, mappers that share, compete and die. */
#include "explore.h"

static struct ringbuf_channel *ch;
static struct ringbuf_stream *s;
static struct ringbuf_map map;
static uint64_t n_recorded, n_seen, n_told, next_seq;

static void
setup(const struct ringbuf_config *cfg)
{
	if (ch) {
		ringbuf_map_close(&map);
		ringbuf_close(ch);
	}
	ch = create(cfg);
	s = ringbuf_stream_at(ch, 0);
	EQ(ringbuf_map_open(ch, 0, &map), 0);
	n_recorded = n_seen = n_told = next_seq = 0;
}

static const struct ringbuf_meta *
meta(void)
{
	return ringbuf_map_meta(&map);
}

static void
write_record(uint64_t size)
{
	EQ(record(ch, size, n_recorded++), 0);
}

/* Packets of two records each. */
static void
fill(unsigned int n)
{
	while (n--) {
		write_record(1000);
		write_record(payload_max(ch) - 1008);
	}
}

/* The records that the last get_reader of `m` handed out: whole, new, in order. Returns their number. */
static uint64_t
check_new(const struct ringbuf_map *m)
{
	const uint8_t *data = ringbuf_map_subbuf(m, ringbuf_map_meta(m)->reader.id);
	struct ringbuf_packet p = {.data = data, .content_size = m->to, .timestamp_end = INT64_MAX};
	struct walker w = {.ch = ch, .p = &p, .off = ch->packet_header_size, .time = get_le(data + 32, 8)};
	struct record rec;
	uint64_t n = 0;

	if (m->from == m->to)
		return 0;
	if (m->from == ch->packet_header_size)
		n_told += ringbuf_map_meta(m)->reader.lost_events;
	p.records = ringbuf_map_handed_out(&m->reader).records;
	EQ(ringbuf_map_meta(m)->reader.read, m->to - ch->packet_header_size);
	EQ(get_le(data, 4), 0xC1FC1FC1);
	while (walk_next(&w, &rec)) {
		check_stamp(&rec);
		if (rec.off < m->from)
			continue;
		GE(rec.stamp.seq, next_seq);
		next_seq = rec.stamp.seq + 1;
		n++;
	}
	n_seen += n;
	return n;
}

/* Swap until nothing is new. */
static void
drain(void)
{
	do {
		GE(ringbuf_map_get_reader(&map), 0);
		check_new(&map);
	} while (map.from < map.to);
}

static void
check_counters(void)
{
	struct ringbuf_stats st = stats_of(ch);

	EQ(meta()->entries, st.written);
	EQ(meta()->overrun, st.overrun);
	EQ(meta()->discarded, st.discarded);
	EQ(meta()->dropped, lost_total(&st));
	EQ(st.written, st.read + st.unread + st.overrun);
}

/* ---- what the page says ---- */

TEST(the_meta_page_is_the_kernels)
{
	EQ(offsetof(struct ringbuf_meta, meta_page_size), 0);
	EQ(offsetof(struct ringbuf_meta, meta_struct_len), 4);
	EQ(offsetof(struct ringbuf_meta, subbuf_size), 8);
	EQ(offsetof(struct ringbuf_meta, nr_subbufs), 12);
	EQ(offsetof(struct ringbuf_meta, reader.lost_events), 16);
	EQ(offsetof(struct ringbuf_meta, reader.id), 24);
	EQ(offsetof(struct ringbuf_meta, reader.read), 28);
	EQ(offsetof(struct ringbuf_meta, flags), 32);
	EQ(offsetof(struct ringbuf_meta, entries), 40);
	EQ(offsetof(struct ringbuf_meta, overrun), 48);
	EQ(offsetof(struct ringbuf_meta, read), 56);
	EQ(offsetof(struct ringbuf_meta, pages_lost), 64);
	EQ(offsetof(struct ringbuf_meta, pages_touched), 72);
	EQ(offsetof(struct ringbuf_meta, dropped), RINGBUF_META_KERNEL_SIZE);
	setup(CONFIG(.subbuf_size = 16384, .n_subbufs = 8));
	EQ(meta()->meta_page_size, 4096);
	EQ(meta()->meta_struct_len, sizeof(struct ringbuf_meta));
	EQ(meta()->subbuf_size, 16384);
	EQ(meta()->nr_subbufs, 9);
	EQ(map.size, 4096 + 9 * 16384);
	for (unsigned int i = sizeof(struct ringbuf_meta); i < 4096; i++)
		EQ(map.base[i], 0);
	for (uint32_t id = 0; id < 9; id++)
		EQ(ringbuf_map_subbuf(&map, id) - map.base, 4096 + id * 16384);
}

TEST(an_empty_stream_has_sub_buffer_0_and_nothing_in_it)
{
	setup(CONFIG(.mode = RINGBUF_OVERWRITE));
	for (int i = 0; i < 3; i++) {
		EQ(ringbuf_map_get_reader(&map), 0);
		EQ(map.from, map.to);
		EQ(meta()->reader.id, 0);
		EQ(meta()->reader.read, 0);
		EQ(meta()->entries, 0);
		EQ(meta()->overrun, 0);
		EQ(meta()->read, 0);
		EQ(meta()->flags, 0);
	}
}

TEST(sixteen_records_are_handed_out_at_once_and_once)
{
	struct ringbuf_meta before;

	setup(CONFIG(.mode = RINGBUF_OVERWRITE));
	for (int i = 0; i < 16; i++)
		write_record(16);
	EQ(meta()->entries, 0); /* as of the last call */
	EQ(ringbuf_map_get_reader(&map), 1);
	EQ(meta()->entries, 16);
	EQ(meta()->read, 16);
	EQ(meta()->reader.id, 1);
	EQ(check_new(&map), 16);
	memcpy(&before, meta(), sizeof(before));
	for (int i = 0; i < 3; i++) {
		EQ(ringbuf_map_get_reader(&map), 1);
		EQ(memcmp(&before, meta(), sizeof(before)), 0);
		EQ(check_new(&map), 0);
	}
}

TEST(a_sub_buffer_still_being_written_is_extended_and_keeps_its_id)
{
	uint32_t read = 0;

	for (int mode = RINGBUF_DISCARD; mode <= RINGBUF_OVERWRITE; mode++) {
		setup(CONFIG(.mode = mode));
		for (int i = 1; i <= 20; i++) {
			write_record(100);
			EQ(ringbuf_map_get_reader(&map), 1);
			EQ(check_new(&map), 1);
			EQ(meta()->read, i);
			if (i > 1)
				GT(meta()->reader.read, read);
			read = meta()->reader.read;
		}
		flush(ch); /* ends it where it was: nothing new */
		EQ(ringbuf_map_get_reader(&map), 1);
		EQ(meta()->reader.read, read);
		EQ(check_new(&map), 0);
		write_record(100);
		EQ(ringbuf_map_get_reader(&map), 2);
		EQ(check_new(&map), 1);
	}
}

TEST(sub_buffers_come_in_the_kernels_order)
{
	uint64_t starts[] = {0, POS_END - 4 * 4096};

	for (unsigned int i = 0; i < ARRAY_SIZE(starts); i++)
		for (int mode = RINGBUF_DISCARD; mode <= RINGBUF_OVERWRITE; mode++) {
			setup(CONFIG(.mode = mode, .start_pos = starts[i]));
			for (unsigned int n = 1; n <= 23; n++) {
				fill(1);
				EQ(ringbuf_map_get_reader(&map), n % 5);
				EQ(check_new(&map), 2);
				EQ(meta()->reader.lost_events, 0);
				EQ(meta()->pages_touched, n);
			}
			check_counters();
		}
}

/* While the reader has a sub-buffer, complete or not, the ring beside it holds n_subbufs more. */
TEST(overwriting_leaves_the_readers_sub_buffer_alone_and_is_told)
{
	for (int open = 0; open <= 1; open++) {
		setup(CONFIG(.mode = RINGBUF_OVERWRITE));
		for (unsigned int laps = 0; laps < 12; laps++) {
			fill(laps);
			if (open)
				write_record(16);
			drain();
			EQ(meta()->overrun, n_told);
			EQ(meta()->entries, n_recorded);
			EQ(meta()->read, n_seen);
			EQ(n_seen + n_told, n_recorded);
			EQ(meta()->pages_lost > 0, n_told > 0);
			check_counters();
		}
		GT(n_told, 0);
	}
}

TEST(what_lies_in_the_readers_hands_does_not_change)
{
	uint8_t saved[4096];

	setup(CONFIG(.mode = RINGBUF_OVERWRITE, .n_subbufs = 2));
	write_record(100);
	EQ(ringbuf_map_get_reader(&map), 1);
	memcpy(saved, ringbuf_map_subbuf(&map, 1), map.to);
	write_record(payload_max(ch) - 108);
	fill(7);
	EQ(memcmp(saved + 80, ringbuf_map_subbuf(&map, 1) + 80, map.to - 80), 0);
	EQ(ringbuf_map_get_reader(&map), 1); /* the rest of it first */
	EQ(check_new(&map), 1);
	NE(ringbuf_map_get_reader(&map), 1);
	EQ(check_new(&map), 2);
	EQ(meta()->reader.lost_events, 10);
}

TEST(in_discard_mode_drops_are_counted_in_the_page)
{
	uint64_t accepted = 0;

	setup(CONFIG(.n_subbufs = 2));
	for (int i = 0; i < 50; i++)
		accepted += record(ch, 1000, i) == 0;
	EQ(ringbuf_map_get_reader(&map), 1);
	EQ(meta()->entries, accepted);
	EQ(meta()->dropped, 50 - accepted);
	EQ(meta()->overrun, 0);
	check_new(&map);
	drain();
	EQ(n_seen, accepted);
}

/* ---- records under way, given up, empty packets ---- */

TEST(nothing_after_a_record_under_way_is_handed_out)
{
	struct ringbuf_reservation r;

	setup(CONFIG(.mode = RINGBUF_OVERWRITE));
	write_record(100);
	EQ(ringbuf_map_get_reader(&map), 1);
	EQ(check_new(&map), 1);
	EQ(reserve(ch, &r, 100, n_recorded++), 0);
	write_record(100);
	EQ(ringbuf_map_get_reader(&map), 1);
	EQ(check_new(&map), 0);
	fill(1); /* producers have left it, but for one */
	EQ(ringbuf_map_get_reader(&map), 1);
	EQ(check_new(&map), 0);
	ringbuf_commit(ch, &r);
	EQ(ringbuf_map_get_reader(&map), 1);
	EQ(check_new(&map), 3);
	EQ(ringbuf_map_get_reader(&map), 2);
	EQ(check_new(&map), 1);
}

TEST(after_a_discarded_record_the_sub_buffer_waits_until_it_is_complete)
{
	struct ringbuf_reservation r;

	setup(CONFIG(.mode = RINGBUF_OVERWRITE));
	write_record(100);
	EQ(reserve(ch, &r, 100, 99), 0);
	write_record(100);
	ringbuf_discard(ch, &r);
	EQ(ringbuf_map_get_reader(&map), 0);
	flush(ch);
	EQ(ringbuf_map_get_reader(&map), 1);
	EQ(check_new(&map), 2);
	EQ(meta()->entries, 2);
	EQ(meta()->discarded, 1);
	/* one that is rolled back leaves nothing behind */
	write_record(100);
	EQ(reserve(ch, &r, 100, 99), 0);
	EQ(ringbuf_map_get_reader(&map), 1);
	ringbuf_discard(ch, &r);
	EQ(ringbuf_map_get_reader(&map), 2);
	EQ(check_new(&map), 1);
}

TEST(packets_without_records_are_passed_over)
{
	setup(CONFIG(.mode = RINGBUF_OVERWRITE));
	for (int i = 0; i < 3; i++)
		EQ(ringbuf_flush(ch, my_slot(ch), 0, RINGBUF_FLUSH_EMPTY), 0);
	GE(ringbuf_map_get_reader(&map), 0);
	EQ(map.from, map.to);
	write_record(16);
	GE(ringbuf_map_get_reader(&map), 0);
	EQ(check_new(&map), 1);
	check_counters();
}

/* What the page names is out of the producers' reach, also if nothing is handed out of it. */
TEST(the_page_names_the_sub_buffer_that_is_the_readers)
{
	for (int cleared = 0; cleared <= 1; cleared++) {
		uint8_t saved[4096];
		int id;

		setup(CONFIG(.mode = RINGBUF_OVERWRITE));
		fill(1);
		EQ(ringbuf_map_get_reader(&map), 1);
		check_new(&map);
		EQ(ringbuf_flush(ch, my_slot(ch), 0, RINGBUF_FLUSH_EMPTY), 0);
		EQ(ringbuf_flush(ch, my_slot(ch), 0, RINGBUF_FLUSH_EMPTY), 0);
		if (cleared)
			EQ(ringbuf_map_clear(&map, my_slot(ch)), 0);
		else
			EQ(ringbuf_map_get_reader(&map), 3);
		id = (int)meta()->reader.id;
		EQ(id, 3);
		EQ(meta()->reader.read, 0);
		memcpy(saved, ringbuf_map_subbuf(&map, 3), 4096);
		fill(9);
		EQ(memcmp(saved, ringbuf_map_subbuf(&map, 3), 4096), 0);
		NE(ringbuf_map_get_reader(&map), id);
		EQ(check_new(&map), 2);
		EQ(ringbuf_map_get_reader(&map), meta()->reader.id);
	}
}

/* ---- read-only ---- */

TEST(the_mapping_cannot_be_written_to_or_made_writable)
{
	pid_t pid;
	int status;

	setup(CONFIG(.mode = RINGBUF_OVERWRITE));
	EQ(mprotect(map.base, map.size, PROT_READ | PROT_WRITE), -1);
	EQ(errno, EACCES);
	for (uint64_t off = 0; off < map.size; off += 4096) {
		pid = fork();
		if (!pid) {
			signal(SIGSEGV, SIG_DFL); /* a sanitizer has its own */
			*(volatile uint8_t *)(map.base + off) = 1;
			_exit(0);
		}
		EQ(waitpid(pid, &status, 0), pid);
		OK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
	}
}

/* ---- who else reads ---- */

TEST(readers_and_mappers_exclude_each_other_and_mappers_share)
{
	struct ringbuf_right right;
	struct ringbuf_map second;

	setup(CONFIG(.mode = RINGBUF_OVERWRITE));
	EQ(ringbuf_open_reader(ch, 0, 1, &right), -EBUSY);
	EQ(ringbuf_has_no_reader(ch, 0), 0);
	EQ(ringbuf_map_open(ch, 0, &second), 0);
	EQ(ringbuf_map_open(ch, 1, &second), -EINVAL);
	ringbuf_map_close(&second);
	EQ(ringbuf_open_reader(ch, 0, 1, &right), -EBUSY);
	ringbuf_map_close(&map);
	EQ(ringbuf_open_reader(ch, 0, 1, &right), 0);
	EQ(ringbuf_map_open(ch, 0, &map), -EBUSY);
	ringbuf_close_reader(&right);
	EQ(ringbuf_map_open(ch, 0, &map), 0);
}

TEST(two_mappers_compete_for_what_is_new)
{
	struct ringbuf_map second;

	setup(CONFIG(.mode = RINGBUF_OVERWRITE));
	EQ(ringbuf_map_open(ch, 0, &second), 0);
	for (unsigned int n = 1; n <= 30; n++) {
		struct ringbuf_map *m = n % 3 ? &map : &second, *other = n % 3 ? &second : &map;

		fill(1);
		EQ(ringbuf_map_get_reader(m), n % 5);
		EQ(check_new(m), 2);
		EQ(ringbuf_map_get_reader(other), n % 5);
		EQ(check_new(other), 0);
		EQ(ringbuf_map_meta(&map)->read, 2 * n);
		EQ(ringbuf_map_meta(&second)->reader.id, n % 5);
	}
	ringbuf_map_close(&second);
	EQ(ringbuf_map_get_reader(&map), 0); /* the sub-buffer is still at hand */
	fill(1);
	EQ(ringbuf_map_get_reader(&map), 1);
	EQ(check_new(&map), 2);
}

TEST(the_counters_agree_however_much_went_by_between_two_looks)
{
	struct ringbuf_map second;
	uint64_t dice;

	for (int mode = RINGBUF_DISCARD; mode <= RINGBUF_OVERWRITE; mode++) {
		setup(CONFIG(.mode = mode));
		EQ(ringbuf_map_open(ch, 0, &second), 0);
		for (unsigned int i = 0; i < 3000; i++) {
			dice = rnd();
			/* a few records, or up to some rings of them */
			for (unsigned int n = (dice >> 33) % (dice >> 40 & 7 ? 3 : 60); n; n--)
				if (record(ch, (dice >> 20) * n % 1500, n_recorded) == 0)
					n_recorded++;
			if ((dice >> 43 & 15) == 0)
				flush(ch);
			GE(ringbuf_map_get_reader(dice >> 50 & 1 ? &map : &second), 0);
			check_counters();
		}
		ringbuf_map_close(&second);
	}
}

TEST(a_closed_mapping_leaves_to_readers_what_it_did_not_hand_out)
{
	struct reading rd;

	/* partly handed out: again, from its begin */
	setup(CONFIG(.mode = RINGBUF_DISCARD));
	write_record(100);
	EQ(ringbuf_map_get_reader(&map), 1);
	ringbuf_map_close(&map);
	EQ(atomic_load(&s->hold), 0);
	write_record(100);
	flush(ch);
	reading_init(&rd, ch, 0);
	OK(!rd.reader.holding);
	EQ(read_all(&rd), 1);
	EQ(rd.records, 2);
	CHECK_IDENTITIES(stats_of(ch), n_recorded);
	/* all of it: no more */
	EQ(ringbuf_map_open(ch, 0, &map), 0);
	next_seq = 0;
	fill(1);
	EQ(ringbuf_map_get_reader(&map), 2);
	ringbuf_map_close(&map);
	EQ(stats_of(ch).read, 4);
	EQ(stats_of(ch).unread, 0);
	EQ(ringbuf_map_open(ch, 0, &map), 0);
	EQ(meta()->reader.id, 2);
	EQ(meta()->reader.read, 0);
}

TEST(clear_throws_away_what_was_not_handed_out)
{
	for (int mode = RINGBUF_DISCARD; mode <= RINGBUF_OVERWRITE; mode++)
		for (int held = 0; held <= 1; held++) {
			int id;

			setup(CONFIG(.mode = mode));
			if (held) {
				write_record(100);
				EQ(ringbuf_map_get_reader(&map), 1);
				check_new(&map);
			}
			fill(2);
			write_record(16);
			EQ(ringbuf_map_clear(&map, my_slot(ch)), 0);
			id = ringbuf_map_get_reader(&map);
			EQ(id, ringbuf_map_get_reader(&map));
			EQ(map.from, map.to);
			EQ(meta()->entries, n_recorded);
			EQ(meta()->overrun + meta()->read, n_recorded);
			next_seq = n_recorded;
			write_record(16);
			GE(ringbuf_map_get_reader(&map), 0);
			EQ(check_new(&map), 1);
			check_counters();
		}
}

TEST(of_a_sub_buffer_partly_handed_out_clear_and_close_throw_the_rest_away)
{
	for (int closed = 0; closed <= 1; closed++) {
		setup(CONFIG(.mode = RINGBUF_OVERWRITE));
		for (int i = 0; i < 3; i++)
			write_record(100);
		EQ(ringbuf_map_get_reader(&map), 1);
		EQ(check_new(&map), 3);
		write_record(100);
		if (closed) {
			fill(5); /* it is lapped */
			ringbuf_map_close(&map);
			EQ(ringbuf_map_open(ch, 0, &map), 0);
		}
		EQ(ringbuf_map_clear(&map, my_slot(ch)), 0);
		GE(ringbuf_map_get_reader(&map), 0);
		EQ(meta()->read, n_seen);
		EQ(meta()->overrun, n_recorded - n_seen);
		check_counters();
	}
}

TEST(a_forked_child_cannot_swap_and_disturbs_nothing)
{
	pid_t pid;

	setup(CONFIG(.mode = RINGBUF_OVERWRITE));
	fill(1);
	EQ(ringbuf_map_get_reader(&map), 1);
	pid = fork();
	if (!pid) {
		EQ(ringbuf_map_get_reader(&map), -ECHILD);
		EQ(get_le(ringbuf_map_subbuf(&map, 1), 4), 0xC1FC1FC1);
		ringbuf_map_close(&map);
		_exit(0);
	}
	reap(pid);
	fill(1);
	EQ(ringbuf_map_get_reader(&map), 2);
}

/* ---- death ---- */

static struct actor mapper;

static void
get_reader(void *arg)
{
	(void)arg;
	GE(ringbuf_map_get_reader(&map), 0);
}

/* What another process finds: the lock of a dead owner, no other mapper. The actor is never resumed. */
static void
die(void)
{
	ringbuf_robust_unlock(&s->map_lock);
	ringbuf_close_reader(&map.right);
	ringbuf_map_unmap(&map);
}

static const char *const map_points[] = {
	"map_sampled", "map_before_put", "reader_before_account", "reader_accounted", "reader_unholding",
	"reader_exchanged", "reader_unheld", "reader_advanced", "map_before_get", "reader_holding", "reader_held",
	"map_held",
};

/* The mapper dies over the second swap; a reader, or a mapper, finds all that was not counted as read. */
TEST(a_mapper_that_dies_loses_nothing_and_leaves_nothing_behind)
{
	unsigned int reached = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(map_points); i++)
		for (int mode = RINGBUF_DISCARD; mode <= RINGBUF_OVERWRITE; mode++)
			for (int open = 0; open <= 1; open++)
				for (int then = 0; then <= 1; then++)
					for (unsigned int laps = 0; laps <= 4; laps += mode ? 2 : 5) {
						struct ringbuf_stats st;
						struct reading rd;

						setup(CONFIG(.mode = mode, .n_subbufs = 2));
						fill(1);
						EQ(ringbuf_map_get_reader(&map), 1);
						if (open)
							write_record(100);
						else
							fill(1);
						actor_init(&mapper, get_reader, NULL);
						mapper.stop_at = map_points[i];
						mapper.stop_skip = 0;
						mapper.at = NULL;
						actor_resume(&mapper);
						reached += !mapper.done;
						if (mapper.done)
							continue;
						die();
						fill(laps);
						st = stats_of(ch);
						EQ(st.written, st.read + st.unread + st.overrun);
						next_seq = n_seen = 0;
						if (then) {
							EQ(ringbuf_map_open(ch, 0, &map), 0);
							drain();
							flush(ch);
							drain();
							check_counters();
							ringbuf_map_close(&map);
						}
						flush(ch);
						reading_init(&rd, ch, 0);
						if (rd.reader.holding) {
							check_packet(&rd);
							ringbuf_put_subbuf(&rd.reader, RINGBUF_PUT_READ);
						}
						read_all(&rd);
						st = stats_of(ch);
						EQ(st.unread, 0);
						EQ(st.read + st.overrun, n_recorded);
						EQ(mode == RINGBUF_DISCARD && st.overrun, 0);
						GE(rd.records + n_seen + st.overrun + 2, n_recorded);
						EQ(atomic_load(&s->hold), 0);
						fill(2); /* every sub-buffer is still there */
						EQ(read_all(&rd), 2);
						CHECK_IDENTITIES(stats_of(ch), n_recorded);
						EQ(ringbuf_map_open(ch, 0, &map), 0);
					}
	GT(reached, 60);
}

TEST(a_sub_buffer_that_a_dead_mapper_held_open_goes_back_into_the_ring)
{
	struct ringbuf_reservation r;
	struct reading rd;

	for (int mode = RINGBUF_DISCARD; mode <= RINGBUF_OVERWRITE; mode++) {
		setup(CONFIG(.mode = mode));
		write_record(100);
		EQ(ringbuf_map_get_reader(&map), 1);
		EQ(reserve(ch, &r, 100, n_recorded++), 0);
		ringbuf_close_reader(&map.right);
		ringbuf_map_unmap(&map);
		reading_init(&rd, ch, 0);
		OK(!rd.reader.holding);
		EQ(read_all(&rd), 0);
		ringbuf_commit(ch, &r);
		flush(ch);
		EQ(read_all(&rd), 1);
		EQ(rd.records, 2);
		CHECK_IDENTITIES(stats_of(ch), n_recorded);
		EQ(ringbuf_map_open(ch, 0, &map), 0);
	}
}

/* ---- a packet that is given up ---- */

static void
record_300(void *slot)
{
	struct ringbuf_reservation r = {.event_id = 1, .payload_size = 300, .flags = RINGBUF_LENGTH_PREFIX};

	EQ(ringbuf_reserve_as(ch, slot, &r), 0);
	stamp_payload(r.payload, r.payload_size, 0, n_recorded++);
	ringbuf_commit(ch, &r);
}

/* Dies at the test point, in the middle of its record. */
static void
record_and_die(struct actor *dead, const char *at)
{
	struct ringbuf_producer_slot *slot = ringbuf_take_producer_slot(ch);

	actor_init(dead, record_300, slot);
	run_until(dead, at);
	ringbuf_robust_unlock(&slot->certificate);
}

/* Had the one counted its record, or the other claimed its own? Nobody knows: what was counted is torn. */
TEST(records_counted_before_their_packet_was_given_up_are_not_counted_after)
{
	static struct actor dead[2];
	struct ringbuf_stats st;

	for (int before = 0; before <= 1; before++) {
		setup(CONFIG(.mode = RINGBUF_OVERWRITE));
		write_record(100);
		write_record(100);
		if (before)
			EQ(ringbuf_map_get_reader(&map), 1);
		record_and_die(&dead[0], "commit_written");
		record_and_die(&dead[1], "ledger_claimed");
		write_record(300);
		if (before)
			EQ(ringbuf_map_get_reader(&map), 1);
		flush(ch);
		EQ(ringbuf_repair(ch), 1);
		GE(ringbuf_map_get_reader(&map), 0);
		st = stats_of(ch);
		EQ(st.lost[RINGBUF_LOST_TORN], 4);
		EQ(st.written, 4);
		EQ(meta()->torn, 4);
		EQ(meta()->entries, 0);
	}
}

/* Between claiming a sub-buffer and counting its header, a producer enters it: what was there is overrun then. */
TEST(a_mapper_sees_what_was_overrun_before_anything_new_is_counted)
{
	struct ringbuf_producer_slot *slot;
	struct ringbuf_map second;
	static struct actor producer;

	setup(CONFIG(.mode = RINGBUF_OVERWRITE));
	EQ(ringbuf_map_open(ch, 0, &second), 0);
	slot = ringbuf_take_producer_slot(ch);
	fill(4);
	EQ(ringbuf_map_get_reader(&map), 1);
	check_new(&map);
	fill(1);
	actor_init(&producer, record_300, slot);
	run_until(&producer, "reserve_moving");
	GE(ringbuf_map_get_reader(&map), 0);
	EQ(meta()->overrun, 0);
	run_until(&producer, "switch_before_header");
	EQ(stats_of(ch).overrun, 2);
	GE(ringbuf_map_get_reader(&second), 0);
	EQ(meta()->reader.lost_events, 2);
	EQ(meta()->overrun, 2);
	GE(ringbuf_map_get_reader(&map), 0);
	EQ(meta()->reader.lost_events, 0);
	EQ(meta()->overrun, 2);
	run(&producer);
	drain();
	check_counters();
	ringbuf_map_close(&second);
}

/* A sub-buffer that was late and is lapped: those after it are settled again, and not looked at any more. */
TEST(what_was_settled_is_left_out_also_after_one_that_was_late)
{
	struct ringbuf_reservation late;

	setup(CONFIG(.mode = RINGBUF_OVERWRITE));
	EQ(reserve(ch, &late, 100, n_recorded++), 0);
	fill(3);
	GE(ringbuf_map_get_reader(&map), 0);
	EQ(map.counted_pos, 0);
	ringbuf_commit(ch, &late);
	for (unsigned int n = 0; n < 20; n++) {
		fill(1);
		GE(ringbuf_map_get_reader(&map), 0);
		check_counters();
		if (n > 1)
			EQ(map.counted_pos, ringbuf_subbuf_begin(&ch->geometry, pos_of(ch, 0)));
	}
}

TEST(a_mapper_that_comes_back_after_any_number_of_bytes_counts_all)
{
	setup(CONFIG(.mode = RINGBUF_OVERWRITE));
	fill(9);
	for (unsigned int order = 14; order < 48; order++) {
		fill(5); /* so that every slot has changed */
		map.counted_pos = ringbuf_pos_sub(pos_of(ch, 0) & ~UINT64_C(4095), UINT64_C(3) << order >> 1);
		GE(ringbuf_map_get_reader(&map), 0);
		check_counters();
	}
}

/* ---- waiting ---- */

static uint64_t
soon(void)
{
	return ringbuf_deadline(20 * 1000 * 1000);
}

static int
wait_for(unsigned int percent)
{
	return ringbuf_map_wait(&map, percent, 1000 * 1000, soon());
}

/* The kernel's own figures: with 5 sub-buffers 2 full ones for 50 %, 4 for 100 %; here with 4. */
TEST(the_watermark_counts_as_the_kernel_does)
{
	setup(CONFIG(.mode = RINGBUF_OVERWRITE));
	EQ(wait_for(0), -ETIMEDOUT);
	write_record(16);
	EQ(wait_for(0), 0);
	EQ(wait_for(50), -ETIMEDOUT);
	write_record(payload_max(ch) - 16 - 8);
	EQ(wait_for(50), 0); /* one full, one about to be written */
	EQ(wait_for(100), -ETIMEDOUT);
	fill(2);
	EQ(wait_for(100), 0);
	EQ(ringbuf_map_get_reader(&map), 1);
	EQ(wait_for(100), -ETIMEDOUT);
	EQ(wait_for(75), 0);
	drain();
	EQ(wait_for(0), -ETIMEDOUT);
	write_record(16);
	EQ(ringbuf_map_get_reader(&map), 4);
	fill(0);
	EQ(wait_for(25), -ETIMEDOUT); /* producers are in the reader's own */
}

static void *
wake_later(void *arg)
{
	(void)arg;
	sleep_ms(20);
	ringbuf_map_wake(ch, 0);
	return NULL;
}

static void *
finalize_later(void *arg)
{
	(void)arg;
	sleep_ms(20);
	finalize(ch);
	return NULL;
}

TEST(a_wait_ends_by_a_call_or_with_the_channel)
{
	pthread_t t;

	setup(CONFIG(.mode = RINGBUF_OVERWRITE));
	t = start(wake_later, NULL);
	EQ(ringbuf_map_wait(&map, 0, UINT64_C(100000000000), UINT64_MAX), -ECANCELED);
	join(t);
	t = start(finalize_later, NULL);
	EQ(ringbuf_map_wait(&map, 100, UINT64_C(100000000000), UINT64_MAX), 0);
	join(t);
}

TEST(the_end_is_when_all_is_handed_out_of_a_finalized_channel)
{
	setup(CONFIG(.mode = RINGBUF_OVERWRITE));
	write_record(16);
	EQ(ringbuf_map_is_at_end(&map, my_slot(ch)), 0);
	finalize(ch);
	EQ(ringbuf_map_is_at_end(&map, my_slot(ch)), 0);
	drain();
	EQ(ringbuf_map_is_at_end(&map, my_slot(ch)), 1);
	EQ(n_seen, 1);
}

/* A position more than a ring ahead: by it the held sub-buffer was delivered long ago; by its own slot it was not. */
TEST(a_wait_over_a_scribbled_position_ends_by_its_deadline)
{
	struct ringbuf_reservation r;
	pid_t pid;

	setup(CONFIG(.mode = RINGBUF_OVERWRITE));
	write_record(100);
	EQ(ringbuf_map_get_reader(&map), 1);
	EQ(reserve(ch, &r, 100, n_recorded++), 0);
	atomic_store(&s->produced, ringbuf_pos_add(pos_of(ch, 0), 100 * ringbuf_ring_size(&ch->geometry)));
	pid = spawn();
	if (!pid) {
		map.right.fd = 0; /* as though it had one */
		_exit(wait_for(0) == -ETIMEDOUT ? 0 : 1);
	}
	EQ(reap_within(pid, UINT64_C(10000000000)), 0);
}

/* ---- all schedules ---- */

static const struct ringbuf_config *world_config;
static unsigned int world_records, world_swaps;

static void
produce(void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < world_records; i++) {
		struct ringbuf_reservation r = {.event_id = 1, .payload_size = 1100 + i % 3 * 700,
						.flags = RINGBUF_LENGTH_PREFIX};

		if (ringbuf_reserve_as(ch, my_slot(ch), &r))
			continue;
		stamp_payload(r.payload, r.payload_size, 0, n_recorded++);
		ringbuf_commit(ch, &r);
	}
}

static void
consume(void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < world_swaps; i++) {
		struct ringbuf_map got;

		GE(ringbuf_map_get_reader(&map), 0);
		got = map;
		check_new(&got);
		EQ(meta()->read, n_seen);
	}
}

static void
world_reset(struct actor *actors, unsigned int *n_actors)
{
	setup(world_config);
	my_slot(ch);
	actor_init(&actors[0], produce, NULL);
	actor_init(&actors[1], consume, NULL);
	*n_actors = 2;
}

static void
world_check(void)
{
	struct ringbuf_stats st;

	drain();
	flush(ch);
	drain();
	st = stats_of(ch);
	EQ(n_seen + st.overrun, n_recorded);
	EQ(world_config->mode == RINGBUF_DISCARD && st.overrun, 0);
	EQ(meta()->overrun, st.overrun);
	EQ(meta()->entries, n_recorded);
	CHECK_IDENTITIES(st, n_recorded + lost_total(&st));
}

static const struct world world = {world_reset, world_check};

TEST(whatever_the_schedule_every_record_is_handed_out_once_or_counted)
{
	int complete;

	for (int mode = RINGBUF_DISCARD; mode <= RINGBUF_OVERWRITE; mode++) {
		world_config = CONFIG(.mode = mode, .n_subbufs = 2);
		world_records = 9;
		world_swaps = 3;
		GT(explore(&world, 2, 2.0 * (mode + 1), &complete), 100); /* of the process's time */
		for (unsigned int i = 0; i < 1000; i++)
			explore_random(&world);
	}
}
