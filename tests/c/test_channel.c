/* channel.h: making, finding, checking, ending a channel, and the right to read it. */
#include "harness.h"

#include <sys/mount.h>
#include <sys/time.h>

#define MS UINT64_C(1000000)

static struct ringbuf_channel *ch;

/* A path of this process's own in /dev/shm (or /tmp), unlinked at its exit. */
static char temp_path[64];

static void
remove_temp(void)
{
	unlink(temp_path);
}

static const char *
temp(void)
{
	static int n;

	if (!n)
		atexit(remove_temp);
	else
		unlink(temp_path);
	snprintf(temp_path, sizeof(temp_path), "%s/ringbuf-test-%d-%d", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm",
		 (int)getpid(), n++);
	return temp_path;
}

static const char *
fd_path(const struct ringbuf_channel *c)
{
	static char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", c->fd);
	return path;
}

/* ---- create ---- */

TEST(impossible_sizes_are_refused)
{
	struct ringbuf_config bad[] = {
		*CONFIG(.subbuf_size = 0),
		*CONFIG(.subbuf_size = 1),
		*CONFIG(.subbuf_size = 2048),
		*CONFIG(.subbuf_size = 4095),
		*CONFIG(.subbuf_size = 4097),
		*CONFIG(.subbuf_size = 12288),
		*CONFIG(.subbuf_size = 64 * MIB),
		*CONFIG(.subbuf_size = UINT64_C(1) << 32),
		*CONFIG(.subbuf_size = (UINT64_C(1) << 32) + 4096), /* 4096 in 32 bits */
		*CONFIG(.subbuf_size = UINT64_C(1) << 44),
		*CONFIG(.subbuf_size = UINT64_C(1) << 63),
		*CONFIG(.subbuf_size = UINT64_MAX),
		*CONFIG(.n_subbufs = 0),
		*CONFIG(.n_subbufs = 1),
		*CONFIG(.n_subbufs = 3),
		*CONFIG(.n_subbufs = UINT64_C(1) << 15),
		*CONFIG(.n_subbufs = UINT64_C(1) << 32),
		*CONFIG(.n_subbufs = (UINT64_C(1) << 32) + 4),
		*CONFIG(.n_subbufs = UINT64_MAX),
		*CONFIG(.streams = RINGBUF_PER_CPU, .n_streams = 4097),
		*CONFIG(.streams = RINGBUF_PER_CPU, .n_streams = UINT32_MAX),
		*CONFIG(.streams = 2),
		*CONFIG(.mode = 2),
		*CONFIG(.header = 2),
		*CONFIG(.clock = 3),
		*CONFIG(.wakeup = 3),
		*CONFIG(.n_producers = (1u << 20) + 1),
		*CONFIG(.schema_size = 4095),
		*CONFIG(.schema_size = (UINT64_C(1) << 30) + 1),
		*CONFIG(.schema_size = (UINT64_C(1) << 32) + 8192),
		*CONFIG(.packet_header_size = 3),
		*CONFIG(.packet_header_size = 2049),
		*CONFIG(.packet_header_size = UINT32_MAX),
		*CONFIG(.start_pos = 4096),
		*CONFIG(.start_pos = 4 * 4096 + 1),
		*CONFIG(.start_pos = POS_END),
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		struct ringbuf_channel *none = NULL;
		int ret = ringbuf_create(&bad[i], &none);

		CHECK(ret == -EINVAL, "case %u: %d", i, ret);
		OK(!none);
		bad[i].path = temp();
		EQ(ringbuf_create(&bad[i], &none), -EINVAL);
		EQ(access(temp_path, F_OK), -1);
	}
}

TEST(the_smallest_and_the_largest_sizes_work)
{
	struct ringbuf_config good[] = {
		*CONFIG(.subbuf_size = 4096, .n_subbufs = 2, .n_producers = 1),
		*CONFIG(.subbuf_size = 32 * MIB, .n_subbufs = 2),
		*CONFIG(.subbuf_size = 4096, .n_subbufs = 16384),
		*CONFIG(.streams = RINGBUF_PER_CPU, .n_streams = 4096),
		*CONFIG(.n_producers = 20000),
		*CONFIG(.schema_size = 4096),
		*CONFIG(.packet_header_size = 2048),
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(good); i++)
		for (int ring = 0; ring < 2; ring++) {
			good[i].start_pos = ring ? POS_END - good[i].subbuf_size * good[i].n_subbufs : 0;
			ch = create(&good[i]);
			for (uint64_t n = 0; n < 200; n++)
				EQ(record(ch, good[i].subbuf_size / 128, n), 0);
			flush(ch);
			EQ(stats_of(ch).unread, 200);
			CHECK_IDENTITIES(stats_of(ch), 200);
			ringbuf_close(ch);
		}
}

TEST(regions_that_memory_cannot_hold_are_refused)
{
	struct ringbuf_channel *none = NULL;
	/* 16384 * 32 MiB * 4096 streams */
	int ret = ringbuf_create(CONFIG(.subbuf_size = 32 * MIB, .n_subbufs = 16384, .streams = RINGBUF_PER_CPU,
					.n_streams = 4096), &none);

	CHECK(ret < 0 && ret != -EINVAL, "%d", ret);
	OK(!none);
}

TEST(defaults_are_one_stream_for_each_cpu_and_1024_producers)
{
	ch = create(CONFIG(.streams = RINGBUF_PER_CPU, .n_producers = 0, .schema_size = 0));
	EQ(ch->n_streams, ringbuf_cpus_possible());
	EQ(ch->n_producers, 1024);
	EQ(ch->schema_size, MIB);
	EQ(ch->packet_header_size, 84);
	GE((long)ringbuf_cpus_possible(), sysconf(_SC_NPROCESSORS_ONLN));
}

TEST(names_are_cut_and_contexts_that_are_too_long_refused)
{
	struct ringbuf_channel *none = NULL;
	char text[RINGBUF_CONTEXTS_SIZE + 1];

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	ch = create(CONFIG(.name = text));
	EQ(strlen(ch->super->name), RINGBUF_NAME_SIZE - 1);
	ch = create(CONFIG(.name = NULL));
	EQ(strlen(ch->super->name), 0);
	EQ(ringbuf_create(CONFIG(.contexts = text), &none), -ENAMETOOLONG);
}

TEST(a_file_is_made_for_its_owner_alone_and_never_overwritten)
{
	struct ringbuf_channel *none = NULL;
	struct stat st;

	umask(0);
	ch = create(CONFIG(.path = temp()));
	EQ(stat(temp_path, &st), 0);
	EQ(st.st_mode & 0777, 0600);
	EQ(st.st_size, ch->region_size);
	GE((uint64_t)st.st_blocks * 512, ch->region_size); /* all of it is there */
	EQ(ringbuf_create(CONFIG(.path = temp_path), &none), -EEXIST);
	EQ(stat(temp_path, &st), 0);
	EQ(record(ch, 16, 0), 0);
	ringbuf_close(ch);
	EQ(access(temp_path, F_OK), 0);
}

TEST(a_symbolic_link_is_not_followed)
{
	struct ringbuf_channel *none = NULL;

	EQ(symlink("/nonexistent/target", temp()), 0);
	EQ(ringbuf_create(CONFIG(.path = temp_path), &none), -EEXIST);
}

TEST(a_path_that_cannot_be_is_an_error)
{
	struct ringbuf_channel *none = NULL;

	EQ(ringbuf_create(CONFIG(.path = "/nonexistent/file"), &none), -ENOENT);
	EQ(ringbuf_create(CONFIG(.path = "/proc/version/x"), &none), -ENOTDIR);
}

TEST(a_full_file_system_is_an_error_at_creation_and_leaves_no_file)
{
	char dir[] = "/tmp/ringbuf-full-XXXXXX", path[64];
	pid_t pid;

	if (geteuid() != 0)
		SKIP("needs root, to mount a small file system");
	OK(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/channel", dir);
	pid = spawn();
	if (!pid) {
		struct ringbuf_channel *none = NULL;

		if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
		    mount("tmpfs", dir, "tmpfs", 0, "size=1m"))
			SKIP("cannot mount here: %s", strerror(errno));
		EQ(ringbuf_create(CONFIG(.path = path, .subbuf_size = MIB), &none), -ENOSPC);
		EQ(access(path, F_OK), -1);
		ch = create(CONFIG(.path = path)); /* a small one fits */
		for (uint64_t i = 0; i < 100; i++)
			record(ch, 3000, i);
		_exit(0);
	}
	reap(pid);
	rmdir(dir);
}

static void
nothing(int sig)
{
	(void)sig;
}

/* fallocate() is interrupted by signals: a profiler's timer must not prevent a channel. */
TEST(a_file_is_made_although_signals_arrive)
{
	struct sigaction sa = {.sa_handler = nothing};
	struct itimerval every = {{0, 500}, {0, 500}}, never = {{0, 0}, {0, 0}};

	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &every, NULL);
	ch = create(CONFIG(.path = temp(), .subbuf_size = 4 * MIB, .n_subbufs = 8));
	setitimer(ITIMER_REAL, &never, NULL);
	EQ(record(ch, 16, 0), 0);
}

TEST(an_anonymous_region_cannot_shrink_or_grow)
{
	ch = create(CONFIG());
	EQ(ftruncate(ch->fd, 4096), -1);
	EQ(errno, EPERM);
	EQ(ftruncate(ch->fd, (off_t)ch->region_size * 2), -1);
	EQ(fcntl(ch->fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	OK(ringbuf_is_whole(ch));
}

TEST(channels_differ_in_their_uuids)
{
	uint8_t first[16];

	ch = create(CONFIG());
	memcpy(first, ch->super->uuid, 16);
	EQ(first[6] >> 4, 4);
	EQ(first[8] >> 6, 2);
	ch = create(CONFIG());
	NE(memcmp(first, ch->super->uuid, 16), 0);
}

/* ---- layout ---- */

TEST(everything_has_its_place_and_nothing_overlaps)
{
	struct ringbuf_config cfgs[] = {
		*CONFIG(.streams = RINGBUF_GLOBAL),
		*CONFIG(.streams = RINGBUF_PER_CPU, .n_streams = 3, .n_subbufs = 2, .schema_size = 5000),
		*CONFIG(.streams = RINGBUF_PER_CPU, .n_streams = 2, .subbuf_size = 65536, .n_producers = 3),
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(cfgs); i++) {
		uint64_t n, size;

		ch = create(&cfgs[i]);
		n = cfgs[i].n_subbufs;
		size = cfgs[i].subbuf_size;
		GE((uint64_t)((uint8_t *)ch->control - ch->base), sizeof(struct ringbuf_superblock));
		GE(ch->schema_off, (uint64_t)((uint8_t *)ch->control - ch->base) + sizeof(struct ringbuf_control));
		GE(ch->producers_off, ch->schema_off + ch->schema_size);
		GE(ch->streams_off, ch->producers_off + ch->n_producers * sizeof(struct ringbuf_producer_slot));
		GE(ch->slots_off, sizeof(struct ringbuf_stream));
		GE(ch->subbufs_off, ch->slots_off + n * sizeof(struct ringbuf_slot));
		GE(ch->fillers_off, ch->subbufs_off + (n + 1) * sizeof(struct ringbuf_subbuf));
		GE(ch->meta_off, ch->fillers_off + n * size / 4 / 8);
		GE(ch->data_off, ch->meta_off + 4096);
		GE(ch->stream_stride, ch->data_off + (n + 1) * size);
		EQ(ch->region_size, ch->streams_off + ch->n_streams * ch->stream_stride);
		EQ(ch->data_off % 4096 + ch->meta_off % 4096 + ch->streams_off % 4096, 0);
		for (uint32_t s = 0; s < ch->n_streams; s++) {
			EQ(ringbuf_stream_at(ch, s)->index, s);
			EQ((uintptr_t)ringbuf_subbuf_at(ch, ringbuf_stream_at(ch, s), 0) % RINGBUF_CACHE_LINE, 0);
		}
	}
}

TEST(what_producers_write_and_what_the_reader_writes_are_on_different_cache_lines)
{
	EQ(sizeof(struct ringbuf_subbuf) % RINGBUF_CACHE_LINE, 0);
	EQ(sizeof(struct ringbuf_producer_slot) % RINGBUF_CACHE_LINE, 0);
	NE(offsetof(struct ringbuf_stream, produced) / 64, offsetof(struct ringbuf_stream, consumed_pos) / 64);
	NE(offsetof(struct ringbuf_stream, lost) / 64, offsetof(struct ringbuf_stream, produced) / 64);
	NE(offsetof(struct ringbuf_subbuf, committed) / 64, offsetof(struct ringbuf_subbuf, stage) / 64);
	NE(offsetof(struct ringbuf_producer_slot, ledger) / 64,
	   offsetof(struct ringbuf_producer_slot, lost_disabled) / 64);
}

/* ---- attach ---- */

TEST(a_channel_is_attached_to_by_path_and_by_descriptor)
{
	struct ringbuf_channel *other = NULL;

	for (int file = 0; file < 2; file++) {
		ch = create(CONFIG(.path = file ? temp() : NULL));
		EQ(record(ch, 16, 0), 0);
		EQ(ringbuf_attach(file ? temp_path : fd_path(ch), &other), 0);
		OK(other->base != ch->base);
		EQ(other->region_size, ch->region_size);
		EQ(record(other, 16, 1), 0);
		OK(my_slot(ch) != my_slot(other)); /* two channels, as far as this process goes */
		EQ(flush_and_read(other), 2);
		CHECK_IDENTITIES(stats_of(ch), 2);
		ringbuf_close(other);
		EQ(record(ch, 16, 2), 0);
		EQ(ringbuf_attach_fd(dup(ch->fd), NULL, NULL, &other), 0);
		EQ(flush_and_read(other), 1);
		ringbuf_close(ch);
		EQ(record(other, 16, 3), 0);
		EQ(flush_and_read(other), 1);
		ringbuf_close(other);
	}
}

TEST(another_process_attaches_and_records)
{
	pid_t pid;

	ch = create(CONFIG(.path = temp()));
	pid = spawn();
	if (!pid) {
		struct ringbuf_channel *other;

		EQ(ringbuf_attach(temp_path, &other), 0);
		for (uint64_t i = 0; i < 50; i++)
			EQ(record(other, 16, i), 0);
		_exit(0);
	}
	reap(pid);
	EQ(flush_and_read(ch), 50);
	unlink(temp_path);
}

static int
attach_copy(const void *bytes, size_t size, struct ringbuf_channel **out)
{
	int fd = (int)syscall(SYS_memfd_create, "copy", 0u), ret;

	OK(fd >= 0);
	EQ(write(fd, bytes, size), (ssize_t)size);
	*out = NULL;
	ret = ringbuf_attach_fd(fd, NULL, NULL, out);
	if (ret)
		close(fd);
	return ret;
}

static uint8_t *image; /* of a good region */
static size_t image_size;

static struct ringbuf_superblock *
good_image(void)
{
	ch = create(CONFIG(.streams = RINGBUF_PER_CPU, .n_streams = 2, .n_producers = 4));
	EQ(record(ch, 16, 0), 0);
	image_size = ch->region_size;
	image = malloc(image_size);
	memcpy(image, ch->base, image_size);
	return (struct ringbuf_superblock *)(void *)image;
}

TEST(files_that_are_no_channel_are_refused_with_the_reason)
{
	struct ringbuf_superblock *sb = good_image();
	struct ringbuf_channel *none;
	uint8_t zeros[8192] = {0};
	int ends[2];

	EQ(attach_copy(image, image_size, &none), 0);
	EQ(attach_copy("", 0, &none), -RINGBUF_E_UNFINISHED);
	EQ(attach_copy("short", 5, &none), -RINGBUF_E_MAGIC);
	EQ(attach_copy(zeros, sizeof(zeros), &none), -RINGBUF_E_UNFINISHED);
	EQ(attach_copy(image, 15, &none), -RINGBUF_E_MAGIC);
	EQ(attach_copy(image, 16, &none), -RINGBUF_E_TRUNCATED);
	EQ(attach_copy(image, sizeof(*sb) - 1, &none), -RINGBUF_E_TRUNCATED);
	EQ(attach_copy(image, sizeof(*sb), &none), -RINGBUF_E_TRUNCATED);
	EQ(attach_copy(image, image_size - 1, &none), -RINGBUF_E_TRUNCATED);
	sb->byte_order = UINT32_C(0x04030201);
	EQ(attach_copy(image, image_size, &none), -RINGBUF_E_BYTE_ORDER);
	sb->byte_order = RINGBUF_BYTE_ORDER;
	sb->layout_version++;
	EQ(attach_copy(image, image_size, &none), -RINGBUF_E_VERSION);
	sb->layout_version -= 2;
	EQ(attach_copy(image, image_size, &none), -RINGBUF_E_VERSION);
	sb->layout_version++;
	atomic_store(&sb->magic, 0); /* not finished */
	EQ(attach_copy(image, image_size, &none), -RINGBUF_E_UNFINISHED);
	atomic_store(&sb->magic, RINGBUF_MAGIC + 1);
	EQ(attach_copy(image, image_size, &none), -RINGBUF_E_MAGIC);
	atomic_store(&sb->magic, __builtin_bswap64(RINGBUF_MAGIC));
	EQ(attach_copy(image, image_size, &none), -RINGBUF_E_BYTE_ORDER);
	atomic_store(&sb->magic, RINGBUF_MAGIC);
	EQ(attach_copy(image, image_size, &none), 0);
	EQ(ringbuf_attach("/nonexistent", &none), -ENOENT);
	EQ(ringbuf_attach("/", &none), -EISDIR);
	EQ(ringbuf_attach("/dev/zero", &none), -RINGBUF_E_MAGIC);
	EQ(pipe(ends), 0);
	EQ(ringbuf_attach_fd(ends[0], NULL, NULL, &none), -RINGBUF_E_MAGIC);
	for (int e = RINGBUF_E_TRUNCATED; e <= RINGBUF_E_NO_PROC; e++) {
		OK(strlen(ringbuf_strerror(-e)) > 10);
		OK(!strcmp(ringbuf_strerror(-e), ringbuf_strerror(e)));
	}
	OK(!strcmp(ringbuf_strerror(-ENOENT), strerror(ENOENT)));
}

/* A channel that was attached to: use it, whatever its numbers say. In a child. */
static void
use(struct ringbuf_channel *c)
{
	LE(c->region_size, image_size);
	c->blocking_timeout_ns = 0; /* it may wait for ever, if the superblock says so */
	if (!ringbuf_this_producer(c))
		return; /* one slot, and the image's owner has it */
	for (uint64_t i = 0; i < 50; i++)
		record(c, i * 50, i);
	for (uint32_t i = 0; i < c->n_streams; i++) {
		struct ringbuf_stream_reader r;

		ringbuf_flush(c, my_slot(c), i, RINGBUF_FLUSH_EMPTY);
		ringbuf_stream_reader_init(c, i, &r);
		for (int n = 0; n < 20 && ringbuf_get_next_subbuf(&r) == 0; n++) {
			OK(r.packet.data >= c->base && r.packet.data + r.packet.packet_size <= c->base + image_size);
			ringbuf_put_subbuf(&r, RINGBUF_PUT_READ);
		}
	}
	stats_of(c);
}

TEST(each_field_of_the_superblock_is_checked)
{
	static const uint64_t values[] = {0, 1, 2, 3, 5, 11, 12, 13, 25, 26, 31, 63, 64, 4095, 4096, 8192, 65536,
					  UINT64_C(1) << 20, UINT64_C(1) << 31, UINT64_C(1) << 32, UINT64_C(1) << 47,
					  UINT64_C(1) << 63, UINT64_MAX, UINT64_MAX - 4095, 0xfffff000};
	struct ringbuf_superblock *sb = good_image();
	unsigned int attached = 0, refused = 0;
	pid_t pid = spawn();

	if (!pid) {
		alarm(60);
		for (size_t off = 0; off < offsetof(struct ringbuf_superblock, uuid); off += 4)
			for (unsigned int width = 4; width <= 8; width += 4)
				for (unsigned int v = 0; v < ARRAY_SIZE(values) + 8; v++) {
					uint64_t value = v < ARRAY_SIZE(values) ? values[v]
									      : rnd() >> rnd_below(64);
					struct ringbuf_channel *c;
					uint8_t saved[8];

					memcpy(saved, (uint8_t *)(void *)sb + off, width);
					memcpy((uint8_t *)(void *)sb + off, &value, width);
					if (attach_copy(image, image_size, &c) == 0) {
						attached++;
						use(c);
						ringbuf_close(c);
					} else {
						refused++;
					}
					memcpy((uint8_t *)(void *)sb + off, saved, width);
				}
		GT(refused, attached); /* times, flags and the like may be anything */
		_exit(0);
	}
	reap(pid);
}

TEST(random_damage_to_the_superblock_is_refused_or_harmless)
{
	struct ringbuf_superblock *sb = good_image();
	pid_t pid = spawn();

	if (!pid) {
		alarm(60);
		for (struct runs run = runs(0.3); next_run(&run);) {
			struct ringbuf_superblock saved;
			struct ringbuf_channel *c;

			memcpy((void *)&saved, (void *)sb, sizeof(saved));
			for (uint64_t n = 1 + rnd_below(4); n; n--)
				((uint8_t *)(void *)sb)[8 + rnd_below(sizeof(*sb) - 8)] ^= (uint8_t)(1u << rnd_below(8));
			if (attach_copy(image, image_size, &c) == 0) {
				use(c);
				ringbuf_close(c);
			}
			memcpy((void *)sb, (void *)&saved, sizeof(saved));
		}
		_exit(0);
	}
	reap(pid);
}

TEST(another_users_file_is_refused)
{
	pid_t pid;

	if (geteuid() != 0)
		SKIP("needs root, to be another user");
	ch = create(CONFIG(.path = temp()));
	EQ(chmod(temp_path, 0666), 0);
	pid = spawn();
	if (!pid) {
		struct ringbuf_channel *none = NULL;

		if (setuid(65534))
			SKIP("setuid: %s", strerror(errno));
		EQ(ringbuf_attach(temp_path, &none), -RINGBUF_E_OWNER);
		OK(!none);
		_exit(0);
	}
	reap(pid);
	EQ(chown(temp_path, 65534, 65534), 0);
	pid = spawn();
	if (!pid) {
		struct ringbuf_channel *other;

		EQ(ringbuf_attach(temp_path, &other), 0); /* root may */
		EQ(setuid(65534), 0);
		EQ(ringbuf_attach(temp_path, &other), 0); /* and the owner */
		_exit(0);
	}
	reap(pid);
}

TEST(a_file_cut_short_under_its_mapping_is_noticed)
{
	ch = create(CONFIG(.path = temp()));
	OK(ringbuf_is_whole(ch));
	EQ(truncate(temp_path, (off_t)ch->region_size - 1), 0);
	OK(!ringbuf_is_whole(ch));
	EQ(truncate(temp_path, (off_t)ch->region_size), 0);
	OK(ringbuf_is_whole(ch));
}

/* ---- the right to read ---- */

TEST(a_stream_has_one_reader_at_a_time)
{
	struct ringbuf_right a, b, c;
	struct ringbuf_channel *other;

	ch = create(CONFIG(.streams = RINGBUF_PER_CPU, .n_streams = 4));
	OK(ringbuf_has_no_reader(ch, 1));
	EQ(ringbuf_open_reader(ch, 0, 2, &a), 0);
	EQ(ringbuf_open_reader(ch, 1, 1, &b), -EBUSY); /* also in the same process */
	EQ(ringbuf_open_reader(ch, 1, 3, &b), -EBUSY);
	EQ(ringbuf_open_reader(ch, 2, 2, &b), 0);
	EQ(ringbuf_attach(fd_path(ch), &other), 0);
	EQ(ringbuf_open_reader(other, 0, 1, &c), -EBUSY);
	for (uint32_t i = 0; i < 4; i++)
		OK(!ringbuf_has_no_reader(other, i));
	ringbuf_close_reader(&a);
	OK(ringbuf_has_no_reader(ch, 0));
	OK(!ringbuf_has_no_reader(ch, 2));
	EQ(ringbuf_open_reader(other, 0, 1, &c), 0);
	EQ(ringbuf_open_reader(ch, 0, 1, &a), -EBUSY);
	ringbuf_close_reader(&c);
	ringbuf_close_reader(&c); /* harmless */
	ringbuf_close_reader(&b);
	EQ(ringbuf_open_reader(ch, 0, 4, &a), 0);
	ringbuf_close_reader(&a);
}

TEST(asking_whether_there_is_a_reader_does_not_get_in_the_way_of_one)
{
	atomic_int *stop = shared_memory(sizeof(*stop));
	pid_t pid;

	ch = create(CONFIG());
	pid = spawn();
	if (!pid) {
		while (!atomic_load(stop))
			ringbuf_has_no_reader(ch, 0);
		_exit(0);
	}
	for (uint64_t end = now_ns() + 200 * MS; now_ns() < end;) {
		struct ringbuf_right right;

		EQ(ringbuf_open_reader(ch, 0, 1, &right), 0);
		ringbuf_close_reader(&right);
	}
	atomic_store(stop, 1);
	reap(pid);
}

TEST(the_right_to_read_is_not_inherited_and_ends_with_its_process)
{
	int *ready = shared_memory(2 * sizeof(*ready));
	struct ringbuf_right right, other;
	pid_t pid;

	ch = create(CONFIG());
	EQ(ringbuf_open_reader(ch, 0, 1, &right), 0);
	pid = spawn();
	if (!pid) {
		EQ(right.fd, -1);
		EQ(ringbuf_open_reader(ch, 0, 1, &other), -EBUSY);
		ringbuf_close_reader(&right); /* the parent's: nothing happens */
		__atomic_store_n(&ready[0], 1, __ATOMIC_RELEASE);
		while (!__atomic_load_n(&ready[1], __ATOMIC_ACQUIRE))
			sched_yield();
		EQ(ringbuf_open_reader(ch, 0, 1, &other), 0);
		__atomic_store_n(&ready[0], 2, __ATOMIC_RELEASE);
		pause();
	}
	while (__atomic_load_n(&ready[0], __ATOMIC_ACQUIRE) != 1)
		sched_yield();
	OK(!ringbuf_has_no_reader(ch, 0));
	ringbuf_close_reader(&right);
	OK(ringbuf_has_no_reader(ch, 0)); /* though the child lives */
	__atomic_store_n(&ready[1], 1, __ATOMIC_RELEASE);
	while (__atomic_load_n(&ready[0], __ATOMIC_ACQUIRE) != 2)
		sched_yield();
	EQ(ringbuf_open_reader(ch, 0, 1, &right), -EBUSY);
	kill_child(pid);
	EQ(ringbuf_open_reader(ch, 0, 1, &right), 0);
	ringbuf_close_reader(&right);
}

/* A child that was just forked holds every descriptor of its parent, until its handlers run. */
TEST(a_closed_reader_is_closed_even_if_a_child_still_holds_the_descriptor)
{
	struct ringbuf_right right;
	int copy;

	ch = create(CONFIG(.streams = RINGBUF_PER_CPU, .n_streams = 3));
	EQ(ringbuf_open_reader(ch, 0, 3, &right), 0);
	copy = dup(right.fd);
	ringbuf_close_reader(&right);
	for (uint32_t i = 0; i < 3; i++)
		OK(ringbuf_has_no_reader(ch, i));
	EQ(ringbuf_open_reader(ch, 0, 3, &right), 0);
	close(copy);
	OK(!ringbuf_has_no_reader(ch, 0));
	ringbuf_close_reader(&right);
}

/* ---- the end ---- */

static atomic_int stop;
static uint64_t accepted[4], attempts[4];

static void *
record_until_refused(void *arg)
{
	uint32_t me = (uint32_t)(uintptr_t)arg;
	int ret;

	do {
		ret = record_event(ch, 1, 16 + accepted[me] % 700, 1, me, accepted[me]);
		attempts[me]++;
		accepted[me] += ret == 0;
	} while (ret != -ESHUTDOWN);
	return NULL;
}

static void *
flush_until_stopped(void *arg)
{
	struct ringbuf_producer_slot *slot = my_slot(ch);

	(void)arg;
	while (!atomic_load(&stop)) {
		ringbuf_flush(ch, slot, 0, RINGBUF_FLUSH_EMPTY);
		sched_yield();
	}
	return NULL;
}

/* After finalize has returned and what was in flight is committed, the end is the end. */
static void
finalize_under_load(uint32_t streams, uint32_t mode)
{
	uint64_t total = 0, all = 0;
	struct reading rd[2];
	pthread_t t[4];

	atomic_store(&stop, 0);
	memset(accepted, 0, sizeof(accepted));
	memset(attempts, 0, sizeof(attempts));
	ch = create(CONFIG(.mode = mode, .streams = streams, .n_streams = 2, .n_subbufs = 64));
	for (uint32_t i = 0; i < ch->n_streams; i++)
		reading_init(&rd[i], ch, i);
	for (uintptr_t i = 0; i < 4; i++)
		t[i] = start(i < 3 ? record_until_refused : flush_until_stopped, (void *)i);
	for (uint64_t end = now_ns() + 1 * MS + rnd_below(3 * MS); now_ns() < end;)
		for (uint32_t i = 0; i < ch->n_streams; i++)
			read_all(&rd[i]);
	finalize(ch);
	{
		uint64_t at[2] = {0, 0};

		for (uint32_t i = 0; i < ch->n_streams; i++)
			at[i] = pos_of(ch, i);
		for (int i = 0; i < 3; i++)
			join(t[i]);
		for (uint32_t i = 0; i < ch->n_streams; i++) {
			read_all(&rd[i]);
			OK(ringbuf_is_at_end(&rd[i].reader, my_slot(ch)));
			EQ(pos_of(ch, i), at[i]);
			total += rd[i].records;
		}
	}
	EQ(record(ch, 16, 0), -ESHUTDOWN);
	usleep(300);
	atomic_store(&stop, 1);
	join(t[3]);
	for (uint32_t i = 0; i < ch->n_streams; i++)
		EQ(read_all(&rd[i]), 0);
	for (int i = 0; i < 3; i++) {
		all += attempts[i];
		if (mode == RINGBUF_DISCARD)
			total -= accepted[i];
	}
	if (mode == RINGBUF_DISCARD)
		EQ(total, 0);
	CHECK_IDENTITIES(stats_of(ch), all + 1);
	ringbuf_close(ch);
}

TEST(finalize_under_load_is_an_end)
{
	for (struct runs run = runs(0.5); next_run(&run);)
		finalize_under_load((uint32_t)rnd_below(2), (uint32_t)rnd_below(2));
}

TEST(finalize_inside_four_open_records_is_refused)
{
	struct ringbuf_reservation r[4];

	ch = create(CONFIG());
	for (uint64_t i = 0; i < 4; i++)
		EQ(reserve(ch, &r[i], 16, i), 0);
	EQ(ringbuf_finalize(ch, my_slot(ch)), -EPERM);
	OK(!ringbuf_is_finalized(ch));
	ringbuf_commit(ch, &r[3]);
	finalize(ch);
	OK(ringbuf_is_finalized(ch));
	for (int i = 2; i >= 0; i--)
		ringbuf_commit(ch, &r[i]);
	EQ(flush_and_read(ch), 4);
}

TEST(a_record_open_at_finalize_is_read_once_it_is_committed)
{
	struct ringbuf_reservation r;
	struct reading rd;

	ch = create(CONFIG());
	reading_init(&rd, ch, 0);
	EQ(reserve(ch, &r, 16, 0), 0);
	finalize(ch);
	OK(!ringbuf_is_at_end(&rd.reader, my_slot(ch)));
	EQ(read_all(&rd), 0);
	ringbuf_commit(ch, &r);
	EQ(read_all(&rd), 1);
	OK(ringbuf_is_at_end(&rd.reader, my_slot(ch)));
}

TEST(a_finalizer_that_dies_half_way_leaves_an_end_all_the_same)
{
	struct reading rd[3];
	pid_t pid;

	ch = create(CONFIG(.streams = RINGBUF_PER_CPU, .n_streams = 3));
	EQ(record(ch, 16, 0), 0);
	pid = spawn();
	if (!pid) {
		ringbuf_set_state(ch, RINGBUF_STATE_FINALIZED, 1);
		raise(SIGKILL);
	}
	reap_killed(pid);
	EQ(record(ch, 16, 1), -ESHUTDOWN);
	for (uint32_t i = 0; i < 3; i++) {
		reading_init(&rd[i], ch, i);
		if (!ringbuf_is_at_end(&rd[i].reader, my_slot(ch)))
			ringbuf_close_stream(ch, my_slot(ch), i);
		read_all(&rd[i]);
		OK(ringbuf_is_at_end(&rd[i].reader, my_slot(ch)));
	}
	EQ(rd[0].records + rd[1].records + rd[2].records, 1);
}

TEST(enable_undoes_disable_and_not_finalize)
{
	ch = create(CONFIG());
	OK(!ringbuf_is_disabled(ch));
	ringbuf_set_state(ch, RINGBUF_STATE_DISABLED, 1);
	OK(ringbuf_is_disabled(ch));
	OK(!ringbuf_is_finalized(ch));
	ringbuf_set_state(ch, RINGBUF_STATE_DISABLED, 0);
	EQ(record(ch, 16, 0), 0);
	finalize(ch);
	OK(ringbuf_is_disabled(ch));
	ringbuf_set_state(ch, RINGBUF_STATE_DISABLED, 0);
	EQ(record(ch, 16, 0), -ESHUTDOWN);
}

/* ---- clear ---- */

TEST(clear_throws_away_what_is_there_and_no_more)
{
	for (uint32_t mode = RINGBUF_DISCARD; mode <= RINGBUF_OVERWRITE; mode++) {
		struct ringbuf_reservation open;
		struct reading rd;

		ch = create(CONFIG(.mode = mode, .start_pos = POS_END - 4 * 4096));
		reading_init(&rd, ch, 0);
		ringbuf_clear_stream(&rd.reader, my_slot(ch));
		for (uint64_t i = 0; i < 5; i++)
			EQ(record(ch, 2000, i), 0);
		ringbuf_clear_stream(&rd.reader, my_slot(ch));
		EQ(stats_of(ch).cleared, 5);
		EQ(stats_of(ch).overrun, 5);
		EQ(stats_of(ch).unread, 0);
		EQ(read_all(&rd), 0);
		EQ(record(ch, 16, 5), 0);
		EQ(reserve(ch, &open, 16, 6), 0);
		ringbuf_clear_stream(&rd.reader, my_slot(ch)); /* what is being written stays */
		ringbuf_commit(ch, &open);
		EQ(read_all(&rd), 1);
		EQ(rd.records, 2);
		CHECK_IDENTITIES(stats_of(ch), 7);
	}
}

TEST(clear_gives_the_room_back)
{
	struct reading rd;

	ch = create(CONFIG());
	reading_init(&rd, ch, 0);
	for (int lap = 0; lap < 10; lap++) {
		uint64_t n = 0;

		while (record(ch, 3000, n) == 0)
			n++;
		EQ(n, 4);
		ringbuf_clear_stream(&rd.reader, my_slot(ch));
	}
	CHECK_IDENTITIES(stats_of(ch), 50);
}

static void *
clear_until_stopped(void *arg)
{
	struct ringbuf_stream_reader r;

	(void)arg;
	ringbuf_stream_reader_init(ch, 0, &r);
	while (!atomic_load(&stop))
		ringbuf_clear_stream(&r, my_slot(ch));
	return NULL;
}

TEST(clear_under_load_counts_everything)
{
	for (uint32_t mode = RINGBUF_DISCARD; mode <= RINGBUF_OVERWRITE; mode++) {
		pthread_t t[3];

		atomic_store(&stop, 0);
		memset(attempts, 0, sizeof(attempts));
		memset(accepted, 0, sizeof(accepted));
		ch = create(CONFIG(.mode = mode));
		for (uintptr_t i = 0; i < 3; i++)
			t[i] = start(i < 2 ? record_until_refused : clear_until_stopped, (void *)i);
		sleep_ms(100);
		finalize(ch);
		join(t[0]);
		join(t[1]);
		atomic_store(&stop, 1);
		join(t[2]);
		flush_and_read(ch);
		EQ(stats_of(ch).written, accepted[0] + accepted[1]);
		CHECK_IDENTITIES(stats_of(ch), attempts[0] + attempts[1]);
	}
}

/* ---- a peer that scribbles ---- */

/* Anything but the mutexes, which are the C library's. */
static void
scribble(void)
{
	uint64_t what = rnd_below(10), value = rnd() >> rnd_below(64), off;
	uint32_t idx = (uint32_t)rnd_below(ch->n_streams);
	uint8_t *at;

	switch (what) {
	case 0:
		at = (uint8_t *)&ringbuf_producer_slot_at(ch, (uint32_t)rnd_below(ch->n_producers))->ledger;
		off = rnd_below(sizeof(struct ringbuf_ledger_entry) * RINGBUF_NESTING_MAX / 8) * 8;
		break;
	case 1:
		at = (uint8_t *)ringbuf_stream_at(ch, idx);
		off = ch->data_off + rnd_below(ch->stream_stride - ch->data_off) / 8 * 8;
		break;
	case 2:
		at = ch->base + ch->schema_off;
		off = rnd_below(ch->schema_size) / 8 * 8;
		break;
	default: /* positions, counters, slots, sub-buffer table, filler maps */
		at = (uint8_t *)ringbuf_stream_at(ch, idx);
		off = rnd_below(rnd_below(2) ? ch->data_off : ch->subbufs_off) / 8 * 8;
	}
	if (rnd_below(3) == 0)
		value = atomic_load((ringbuf_atomic_u64 *)(void *)(at + off)) ^ UINT64_C(1) << rnd_below(64);
	atomic_store((ringbuf_atomic_u64 *)(void *)(at + off), value);
}

static void *
live_among_scribbles(void *arg)
{
	uint64_t end = now_ns() + soak_ns(0.6), sum = 0, n = 0;
	struct ringbuf_stream_reader r;

	while (now_ns() < end) {
		struct ringbuf_reservation res = {.event_id = 1, .payload_size = 16 + n % 900,
						  .flags = RINGBUF_LENGTH_PREFIX};

		n++;
		if (arg) {
			if (ringbuf_reserve(ch, &res) == 0) {
				OK(res.payload >= ch->base && res.payload + res.payload_size <= ch->base + ch->region_size);
				memset(res.payload, 1, res.payload_size);
				if (n % 4)
					ringbuf_commit(ch, &res);
				else
					ringbuf_discard(ch, &res);
			}
			if (n % 16 == 0)
				ringbuf_flush(ch, my_slot(ch), (uint32_t)n % ch->n_streams, n & 32 ? RINGBUF_FLUSH_EMPTY : 0);
			continue;
		}
		ringbuf_stream_reader_init(ch, (uint32_t)n % ch->n_streams, &r);
		for (int i = 0; i < 10 && (r.holding || ringbuf_get_next_subbuf(&r) == 0); i++) {
			for (uint64_t b = 0; b < r.packet.content_size; b++)
				sum += r.packet.data[b];
			ringbuf_put_subbuf(&r, (enum ringbuf_put)(n % 3));
		}
		stats_of(ch);
		ringbuf_get_subbuf(&r, rnd());
		if (r.holding)
			ringbuf_put_subbuf(&r, RINGBUF_PUT_READ);
		ringbuf_declare_event(ch, "event", "", "n:u64");
		ringbuf_clear_stream(&r, my_slot(ch));
	}
	return (void *)(uintptr_t)sum;
}

TEST(scribbled_shared_memory_crashes_and_hangs_nobody)
{
	if (TSAN)
		SKIP("a data race on purpose");
	for (uint32_t mode = RINGBUF_DISCARD; mode <= RINGBUF_OVERWRITE; mode++) {
		uint64_t deadline = now_ns() + soak_ns(0.6) + 60000 * MS;
		int status;
		pid_t pid;

		ch = create(CONFIG(.mode = mode, .streams = RINGBUF_PER_CPU, .n_streams = 2, .header = mode,
				   .wakeup = RINGBUF_WAKEUP_WRITER));
		pid = spawn();
		if (!pid) {
			pthread_t t[2];

			for (uintptr_t i = 0; i < 2; i++)
				t[i] = start(live_among_scribbles, (void *)(i + 1));
			live_among_scribbles(NULL);
			for (int i = 0; i < 2; i++)
				join(t[i]);
			_exit(0);
		}
		while (waitpid(pid, &status, WNOHANG) == 0) {
			CHECK(now_ns() < deadline, "mode %u: it hangs", mode);
			for (int i = 0; i < 50; i++)
				scribble();
			usleep(20);
		}
		CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "mode %u: status %#x", mode, status);
	}
}

TEST(the_superblock_is_read_once)
{
	struct ringbuf_channel *ch = create(CONFIG(.name = "mine"));
	uint8_t uuid[16];

	memcpy(uuid, ch->super->uuid, 16);
	memset(ch->base, 'x', sizeof(struct ringbuf_superblock)); /* whoever does that */
	OK(!strcmp(ch->super->name, "mine"));
	OK(!memcmp(ch->super->uuid, uuid, 16));
	EQ(record(ch, 8, 0), 0);
}
