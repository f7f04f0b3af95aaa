/* descriptor.h: numbers that a program may close, and give to files of its own. */
#include "harness.h"

static int
pipe_end(void)
{
	int ends[2];

	EQ(pipe(ends), 0);
	close(ends[1]);
	return ends[0];
}

TEST(a_number_that_another_file_has_is_not_ours)
{
	struct ringbuf_identity id;
	int fd = pipe_end(), other = pipe_end();

	EQ(ringbuf_identify(fd, &id), 0);
	OK(ringbuf_is_ours(fd, &id));
	EQ(dup2(other, fd), fd);
	OK(!ringbuf_is_ours(fd, &id));
	EQ(ringbuf_close_ours(fd, &id), 0);
	EQ(fcntl(fd, F_GETFD) >= 0, 1); /* left open */
	close(fd);
	close(other);
}

TEST(a_closed_number_is_not_ours)
{
	struct ringbuf_identity id;
	int fd = pipe_end();

	EQ(ringbuf_identify(fd, &id), 0);
	EQ(ringbuf_close_ours(fd, &id), 0);
	EQ(fcntl(fd, F_GETFD), -1);
	OK(!ringbuf_is_ours(fd, &id));
	OK(!ringbuf_is_ours(-1, &id));
	EQ(ringbuf_identify(fd, &id), -EBADF);
	OK(!ringbuf_is_ours(0, &id)); /* of no file */
}

TEST(no_descriptor_is_a_standard_one)
{
	int saved = dup(0), fd;

	close(0);
	fd = ringbuf_open_at(AT_FDCWD, "/dev/null", O_RDONLY, 0);
	OK(fd >= RINGBUF_FD_MIN);
	EQ(fcntl(0, F_GETFD), -1);
	EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
	EQ(dup2(saved, 0), 0);
	close(saved);
	close(fd);
	EQ(ringbuf_open_at(AT_FDCWD, "/dev/null/none", O_RDONLY, 0), -ENOTDIR);
}

TEST(what_was_cut_off_is_not_readable)
{
	long page = sysconf(_SC_PAGESIZE);
	int fd = ringbuf_open_memory("cut");
	uint8_t *at;

	EQ(ftruncate(fd, 2 * page), 0);
	at = (uint8_t *)mmap(NULL, 2 * page, PROT_READ, MAP_SHARED, fd, 0);
	OK(at != MAP_FAILED);
	OK(ringbuf_is_readable(at + page));
	EQ(ftruncate(fd, page), 0);
	OK(ringbuf_is_readable(at));
	OK(!ringbuf_is_readable(at + page));
	munmap(at, 2 * page);
	close(fd);
}
