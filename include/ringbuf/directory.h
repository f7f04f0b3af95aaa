/*
 * ringbuf/directory.h - the directory that files are written in, and new files in it.
 *
 * It is opened once, and everything in it is done by that descriptor: neither a
 * chdir nor a rename on the way there leads what is written later elsewhere.
 *
 * Names in a directory can be planted by whoever may write in it: links that lead
 * to other files, files that are there before ours. So
 *
 *  - a directory that is there already is taken only if it is ours or root's, and,
 *    if it is not ours, not open to everybody;
 *  - a file is always a new one (O_EXCL, which follows no link), for its owner alone.
 *
 * src/ringbuf/output.py has what Python writes, by the same rules.
 */
#ifndef RINGBUF_DIRECTORY_H
#define RINGBUF_DIRECTORY_H

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "descriptor.h"

RINGBUF_FUNC int
ringbuf_directory_is_safe(const struct stat *st)
{
	if (st->st_uid == geteuid())
		return 1;
	return st->st_uid == 0 && !(st->st_mode & S_IWOTH);
}

RINGBUF_FUNC int
ringbuf_directory_open_existing(const char *path, int flags)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | flags);
	struct stat st;
	int error;

	if (fd < 0)
		return -errno;
	error = fstat(fd, &st) ? errno : (ringbuf_directory_is_safe(&st) ? 0 : EPERM);
	if (error) {
		close(fd);
		return -error;
	}
	return ringbuf_move_up(fd);
}

/*
 * ringbuf_directory_open - to write files in.
 *
 * Made, with mode 0700, if it is missing; its parent must exist. *made says so.
 * Callers:  any thread.
 * Returns:  the descriptor, which is the caller's; -EPERM others may write in it;
 *           -errno. On failure there is no new directory.
 */
RINGBUF_FUNC int
ringbuf_directory_open(const char *path, int *made)
{
	int fd;

	*made = mkdir(path, 0700) == 0;
	if (!*made && errno != EEXIST)
		return -errno;
	/* a link that took the place of the one just made is not followed */
	fd = ringbuf_directory_open_existing(path, *made ? O_NOFOLLOW : 0);
	if (fd < 0 && *made)
		rmdir(path);
	return fd;
}

/* Returns the descriptor of a new file, to write to, or -errno: -EEXIST, if there is anything of that name. */
RINGBUF_FUNC int
ringbuf_directory_create(int dir_fd, const char *name)
{
	int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	return fd < 0 ? -errno : ringbuf_move_up(fd);
}

/* Remove what was made there, if `name` still is what `fd` has open. */
RINGBUF_FUNC void
ringbuf_directory_remove(int dir_fd, const char *name, int fd)
{
	struct stat made, there;

	if (fstat(fd, &made) == 0 && fstatat(dir_fd, name, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
	    made.st_dev == there.st_dev && made.st_ino == there.st_ino)
		unlinkat(dir_fd, name, 0);
}

/* Remove a file of ours that is closed. Returns 0 or -errno: -ENOENT, if the name is nobody's, or another file's. */
RINGBUF_FUNC int
ringbuf_directory_unlink(int dir_fd, const char *name, const struct ringbuf_identity *id)
{
	struct stat there;

	if (fstatat(dir_fd, name, &there, AT_SYMLINK_NOFOLLOW))
		return -errno;
	if ((uint64_t)there.st_dev != id->dev || (uint64_t)there.st_ino != id->ino)
		return -ENOENT;
	return unlinkat(dir_fd, name, 0) ? -errno : 0;
}

#endif /* RINGBUF_DIRECTORY_H */
