/* file.h: the memory of a stream's sub-buffers, which a file has when somebody records there first. */
static unsigned int this_cpu;
#define RINGBUF_CPU_HEADER <time.h>
#define ringbuf_cpu() this_cpu

#include "harness.h"

#include <sched.h>
#include <sys/mount.h>

#define MANY 240u

static char dir[64], path[80];

/* The rest of the case runs in a child with a file system of so many MiB at `dir`. Returns whether this is it. */
static int
in_small_file_system(unsigned int mib)
{
	char options[32];
	pid_t pid;

	strcpy(dir, "/tmp/ringbuf-memory-XXXXXX");
	OK(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/channel", dir);
	snprintf(options, sizeof(options), "size=%um", mib);
	pid = spawn();
	if (!pid) {
		if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
		    mount("tmpfs", dir, "tmpfs", 0, options))
			SKIP("cannot mount here: %s", strerror(errno));
		return 1;
	}
	reap(pid);
	rmdir(dir);
	return 0;
}

/* What Python makes by default, on a machine of many CPUs. */
static struct ringbuf_channel *
create_large(void)
{
	return create(CONFIG(.path = path, .streams = RINGBUF_PER_CPU, .n_streams = MANY, .mode = RINGBUF_OVERWRITE,
			     .subbuf_size = MIB / 4, .n_subbufs = 4, .n_spares = 8, .n_producers = 1024,
			     .schema_size = MIB));
}

/* Something else in the file system: so large, or not there. */
static void
another_file(int number, uint64_t size)
{
	char name[96];
	int fd;

	snprintf(name, sizeof(name), "%s/%d", dir, number);
	if (!size) {
		EQ(unlink(name), 0);
		return;
	}
	fd = open(name, O_RDWR | O_CREAT, 0600);
	EQ(posix_fallocate(fd, 0, (off_t)size), 0);
	close(fd);
}

static uint64_t
taken(void)
{
	struct stat st;

	EQ(stat(path, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

TEST(a_cpu_that_nobody_records_on_costs_no_memory)
{
	this_cpu = 3;
	if (in_small_file_system(64)) {
		struct ringbuf_channel *ch = create_large();
		uint64_t a_stream = ch->stream_stride - ch->data_off, fixed = ringbuf_fixed_size(ch->super);

		GE(ch->region_size, 700 * MIB);
		GE(40 * MIB, fixed);
		EQ(taken(), fixed + a_stream); /* its own */
		EQ(record(ch, 16, 0), 0);
		EQ(taken(), fixed + a_stream);
		this_cpu = 239;
		EQ(record(ch, 16, 1), 0);
		EQ(taken(), fixed + 2 * a_stream);
		_exit(0);
	}
}

TEST(a_full_file_system_refuses_records_and_kills_nobody)
{
	this_cpu = 0;
	if (in_small_file_system(48)) {
		struct ringbuf_channel *ch;
		struct ringbuf_stats st;
		unsigned int there = 0;

		another_file(0, 4 * MIB);
		another_file(1, 4 * MIB);
		ch = create_large();
		for (this_cpu = 0; this_cpu < MANY && record(ch, 16, this_cpu) == 0; this_cpu++)
			there++;
		GE(there, 1);
		GE(10, there);
		EQ(record(ch, 16, 0), -ENOMEM);
		EQ(ringbuf_flush(ch, ringbuf_this_producer(ch)->slot, this_cpu,
		                 RINGBUF_FLUSH_EMPTY), -ENOMEM);
		st = stats_of(ch);
		EQ(st.lost[RINGBUF_LOST_MEMORY], 2);
		EQ(st.written, there);
		for (int closed = 0; closed < 2; closed++) { /* the program may have closed the descriptor */
			if (closed)
				close(ch->fd);
			EQ(record(ch, 16, 0), -ENOMEM);
			another_file(closed, 0);
			EQ(record(ch, 16, 0), 0);
			this_cpu++;
		}
		_exit(0);
	}
}

TEST(no_room_for_one_cpu_is_an_error_at_creation)
{
	this_cpu = 0;
	if (in_small_file_system(8)) {
		struct ringbuf_channel *none = NULL;

		EQ(ringbuf_create(CONFIG(.path = path, .streams = RINGBUF_PER_CPU, .n_streams = 2, .subbuf_size = 2 * MIB),
				  &none),
		   -ENOSPC);
		EQ(access(path, F_OK), -1);
		EQ(ringbuf_create(CONFIG(.path = path, .streams = RINGBUF_PER_CPU, .n_streams = 2, .subbuf_size = MIB,
					 .preallocate = 1),
				  &none),
		   -ENOSPC); /* one would fit */
		_exit(0);
	}
}

TEST(who_maps_a_stream_has_its_memory)
{
	this_cpu = 0;
	if (in_small_file_system(12)) {
		struct ringbuf_channel *ch = create(CONFIG(.path = path, .streams = RINGBUF_PER_CPU, .n_streams = 4,
							   .subbuf_size = MIB));
		struct ringbuf_map map;

		EQ(ringbuf_map_open(ch, 1, &map), 0);
		ringbuf_map_close(&map);
		EQ(ringbuf_map_open(ch, 2, &map), -ENOSPC);
		_exit(0);
	}
}
