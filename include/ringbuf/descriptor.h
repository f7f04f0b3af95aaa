/*
 * ringbuf/descriptor.h - descriptors, in a program that may close them behind our back.
 *
 * A daemon closes every number it finds, and the next file that it opens gets one of
 * ours. So a number alone says nothing: beside it stands which file it was, and every
 * use compares first. One that is not ours any more is never closed, locked, read, cut
 * or written to.
 *
 * Nor is a number of ours ever one of the standard three, which a program may have been
 * started without: whoever prints an error would print it into our file.
 */
#ifndef RINGBUF_DESCRIPTOR_H
#define RINGBUF_DESCRIPTOR_H

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "atomic.h"

#define RINGBUF_FD_MIN 3 /* the first after standard error */

#ifndef SEEK_DATA /* hidden without _GNU_SOURCE */
#define SEEK_DATA 3
#define SEEK_HOLE 4
#endif

#ifdef O_PATH
#define RINGBUF_O_DIRECTORY (O_PATH | O_DIRECTORY) /* need not be readable */
#else
#define RINGBUF_O_DIRECTORY (O_RDONLY | O_DIRECTORY)
#endif

/* Which file it is. For as long as anything of it is mapped or open, no other file has the same. */
struct ringbuf_identity {
	uint64_t dev, ino;
};

/* Returns 0 or -errno; then no descriptor is of this file. */
RINGBUF_FUNC int
ringbuf_identify(int fd, struct ringbuf_identity *id)
{
	struct stat st;

	id->dev = id->ino = 0;
	if (fstat(fd, &st))
		return -errno;
	id->dev = (uint64_t)st.st_dev;
	id->ino = (uint64_t)st.st_ino;
	return 0;
}

/* Is `fd` still open, and still the file that it was? */
RINGBUF_FUNC int
ringbuf_is_ours(int fd, const struct ringbuf_identity *id)
{
	struct ringbuf_identity now;

	return fd >= 0 && ringbuf_identify(fd, &now) == 0 && now.dev == id->dev && now.ino == id->ino;
}

/* Close it, if it is still ours. Returns 0 or -errno of closing. */
RINGBUF_FUNC int
ringbuf_close_ours(int fd, const struct ringbuf_identity *id)
{
	return ringbuf_is_ours(fd, id) && close(fd) ? -errno : 0;
}

/* The same description under a number that is not a standard one; takes `fd` over. Returns it or -errno. */
RINGBUF_FUNC int
ringbuf_move_up(int fd)
{
	int up, error;

	if (fd < 0 || fd >= RINGBUF_FD_MIN)
		return fd;
	up = fcntl(fd, F_DUPFD_CLOEXEC, RINGBUF_FD_MIN);
	error = errno;
	close(fd);
	return up < 0 ? -error : up;
}

/* open(2) for us: never waits for the other end of a fifo, nor for a lease. Returns a descriptor or -errno. */
RINGBUF_FUNC int
ringbuf_open_at(int dir_fd, const char *path, int flags, mode_t mode)
{
	int fd = openat(dir_fd, path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, mode);

	return fd < 0 ? -errno : ringbuf_move_up(fd);
}

/* The path by which the file was opened, absolute and malloc'ed; NULL: it cannot be told, or there is none. */
RINGBUF_FUNC char *
ringbuf_path_of(int fd)
{
	char link[64], path[PATH_MAX];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n <= 0 || path[0] != '/' || !strncmp(path, "/memfd:", 7))
		return NULL;
	path[n] = 0;
	return strdup(path);
}

/*
 * Can the bytes be read, or would touching them be the end of the process? Asked of the
 * kernel: it reads the set before it looks at what is to be done with it, which is nothing
 * that there is. `at` has 8 readable bytes after it, or none.
 */
RINGBUF_FUNC int
ringbuf_is_readable(const void *at)
{
	return syscall(SYS_rt_sigprocmask, -1, at, NULL, 8) == 0 || errno != EFAULT;
}

#endif /* RINGBUF_DESCRIPTOR_H */
