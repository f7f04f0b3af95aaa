/* look.h: counters from a copy. */
#include "harness.h"
#include "ringbuf/look.h"

TEST(a_copy_has_the_counters_and_takes_no_place)
{
	struct ringbuf_channel *ch = create(CONFIG(.streams = RINGBUF_PER_CPU, .n_streams = 3)), *seen;

	for (uint64_t n = 0; n < 10; n++)
		EQ(record(ch, 8, n), 0);
	EQ(ringbuf_look(ch->fd, &seen), 0);
	EQ(stats_of(seen).written, 10);
	EQ(record(ch, 8, 10), 0);
	EQ(stats_of(seen).written, 10);
	EQ(seen->n_streams, 3);
	ringbuf_close(seen);
	EQ(stats_of(ch).written, 11);
	ringbuf_close(ch);
}

TEST(a_copy_of_a_file_that_is_cut_short_meanwhile_is_none)
{
	char path[64];
	struct ringbuf_channel *ch, *seen;
	int fd;

	snprintf(path, sizeof(path), "/dev/shm/ringbuf-look-%d", (int)getpid());
	unlink(path);
	ch = create(CONFIG(.path = path));
	fd = open(path, O_RDWR | O_CLOEXEC);
	EQ(ringbuf_look(fd, &seen), 0);
	EQ(ftruncate(fd, 0), 0);
	EQ(stats_of(seen).written, 0); /* its own */
	ringbuf_close(seen);
	EQ(ringbuf_look(fd, &seen), -RINGBUF_E_UNFINISHED);
	close(fd);
	unlink(path);
	ringbuf_close(ch);
}

TEST(holes_of_a_claimed_giant_take_no_memory)
{
	struct ringbuf_channel *ch, *seen;

	ch = create(CONFIG(.streams = RINGBUF_PER_CPU, .n_streams = 64, .n_subbufs = 16384, .subbuf_size = 65536));
	EQ(record(ch, 8, 1), 0);
	EQ(ringbuf_look(ch->fd, &seen), 0);
	EQ(stats_of(seen).written, 1);
	ringbuf_close(seen);
	ringbuf_close(ch);
}
