/*
 * ringbuf/file.h - the region's file, or anonymous memory: whether it is whole, whether
 * somebody living has it, and how to come by another descriptor of it.
 */
#ifndef RINGBUF_FILE_H
#define RINGBUF_FILE_H

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "layout.h"

/* Beyond errno: why a file is not a channel that can be attached to. */
enum ringbuf_error {
	RINGBUF_E_TRUNCATED = 4096, /* smaller than its superblock says */
	RINGBUF_E_MAGIC,            /* not a ringbuf region */
	RINGBUF_E_VERSION,          /* another layout version */
	RINGBUF_E_BYTE_ORDER,
	RINGBUF_E_OWNER,            /* another user's file */
	RINGBUF_E_CORRUPT,          /* sizes and offsets that do not fit together */
	RINGBUF_E_CLIENT,           /* made with a custom client: attach with the same */
	RINGBUF_E_FORMAT,           /* its client writes packets or records of its own: there is no trace of them */
	RINGBUF_E_UNFINISHED,       /* being made, or its maker was killed over it */
	RINGBUF_E_UNSEALED,         /* another user's memory, which can shrink under whoever maps it */
	RINGBUF_E_CLOSED,           /* the program closed our descriptor, and there is no way to another */
	RINGBUF_E_FORBIDDEN,        /* this user may not open the file once more */
	RINGBUF_E_NO_PROC,          /* /proc is not there to open it by */
};

RINGBUF_FUNC const char *
ringbuf_strerror(int error)
{
	switch (error < 0 ? -error : error) {
	case RINGBUF_E_TRUNCATED: return "the file is truncated";
	case RINGBUF_E_MAGIC: return "not a ringbuf region (wrong magic)";
	case RINGBUF_E_VERSION: return "the region has another layout version";
	case RINGBUF_E_BYTE_ORDER: return "the region was written with another byte order";
	case RINGBUF_E_OWNER: return "the file belongs to another user";
	case RINGBUF_E_CORRUPT: return "the region's superblock is corrupt";
	case RINGBUF_E_CLIENT: return "the channel has a custom client: pass the same client to attach";
	case RINGBUF_E_FORMAT: return "the channel's client writes a format of its own, which is not CTF";
	case RINGBUF_E_UNFINISHED: return "not a finished region (no magic yet): it is being made, or its maker was killed over it";
	case RINGBUF_E_UNSEALED:
		return "the memory is another user's and not sealed: it could shrink under whoever uses it";
	case RINGBUF_E_CLOSED:
		return "the program has closed the channel's descriptor, and there is no path to open it by again: "
		       "leave Channel.fileno() open, or give the channel a path";
	case RINGBUF_E_FORBIDDEN:
		return "this user may not open the channel's file again: read, map and record to files as the user who "
		       "opened it, or change its owner";
	case RINGBUF_E_NO_PROC: return "the channel cannot be opened a second time: /proc is not mounted";
	default: return strerror(error < 0 ? -error : error);
	}
}

/*
 * A file can be cut short under its mapping; a sealed memfd cannot. Look before touching it.
 * That the descriptor was closed says nothing about the file: then its last page is asked.
 */
RINGBUF_FUNC int
ringbuf_is_whole(const struct ringbuf_channel *ch)
{
	struct stat st;

	if (ch->is_sealed)
		return 1;
	if (ringbuf_is_ours(ch->fd, &ch->file) && fstat(ch->fd, &st) == 0)
		return (uint64_t)st.st_size >= ch->region_size;
	return ringbuf_is_readable(ch->base + ch->region_size - ch->page_size);
}

/* ---- memory in the file ---- */

#define RINGBUF_POPULATE_WRITE 23 /* MADV_POPULATE_WRITE, which not all C libraries know; Linux 5.14 */

/* Have the bytes of a file for good: a full file system says so now, and sends nobody SIGBUS later. Some kernels give up
 * at a signal, and undo it all: a profiler's timer would never let it end. Returns 0 or -errno. */
RINGBUF_FUNC int
ringbuf_allocate(int fd, uint64_t off, uint64_t size)
{
	sigset_t all, before;
	int ret;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	ret = syscall(SYS_fallocate, fd, 1 /* FALLOC_FL_KEEP_SIZE */, (off_t)off, (off_t)size) ? -errno : 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return ret;
}

#if defined(RINGBUF_CERTIFICATE_HEADER) /* a model checker's: its regions are no files */

#define ringbuf_have_memory(ch, s) 0

#else

/* The same for the sub-buffers of one stream; by the mapping, if the program has closed the descriptor. */
RINGBUF_SLOW int
ringbuf_back_stream(const struct ringbuf_channel *ch, struct ringbuf_stream *s)
{
	uint8_t *data = (uint8_t *)(void *)s + ch->data_off;
	uint64_t size = ch->stream_stride - ch->data_off;
	int saved = errno, ret;

	if (ringbuf_is_ours(ch->fd, &ch->file))
		ret = ringbuf_allocate(ch->fd, (uint64_t)(data - ch->base), size);
	else
		ret = madvise(data, size, RINGBUF_POPULATE_WRITE) ? -errno : 0;
	errno = saved;
	if (ret)
		return -ENOMEM;
	/* relaxed: says nothing of any bytes of the region. Who still sees it set asks the kernel once more, for what is there. */
	ringbuf_store(&s->sparse, 0, RINGBUF_RELAXED);
	return 0;
}

/*
 * ringbuf_have_memory - before the sub-buffers of a stream are touched: they have memory in the file.
 * CPUs that nobody records on cost none.
 * Callers:  any thread, also in a signal handler.
 * Returns:  0, or -ENOMEM: the file system has no room.
 */
RINGBUF_INLINE int
ringbuf_have_memory(const struct ringbuf_channel *ch, struct ringbuf_stream *s)
{
	/* relaxed: as in ringbuf_back_stream */
	return RINGBUF_UNLIKELY(ringbuf_load(&s->sparse, RINGBUF_RELAXED)) ? ringbuf_back_stream(ch, s) : 0;
}

#endif

/*
 * For as long as any process has this description open, or mapped, nobody takes the file for
 * one of the dead: so it outlives a descriptor that the program closed. Where the file system
 * knows no such lock, there is none.
 */
RINGBUF_FUNC void
ringbuf_mark_used(int fd)
{
	if (flock(fd, LOCK_SH | LOCK_NB))
		return;
}

/*
 * ringbuf_is_used - does a living process have the region behind `fd`?
 * Callers: with a description of their own. Creating and attaching do not wait for it.
 * Returns: 1, 0, or -errno: the file system knows no such lock.
 */
RINGBUF_FUNC int
ringbuf_is_used(int fd)
{
	if (flock(fd, LOCK_EX | LOCK_NB))
		return errno == EWOULDBLOCK ? 1 : -errno;
	flock(fd, LOCK_UN);
	return 0;
}

/*
 * ringbuf_reopen - another description of the region's file.
 *
 * By the descriptor, if we still have it; else by the path, if that is still the file; else
 * by the mapping, which the kernel allows to root.
 * Returns: a descriptor; -RINGBUF_E_CLOSED, _FORBIDDEN, _NO_PROC; -errno.
 */
RINGBUF_FUNC int
ringbuf_reopen(const struct ringbuf_channel *ch, int flags)
{
	int had = ringbuf_is_ours(ch->fd, &ch->file), ret = -RINGBUF_E_CLOSED;
	char names[2][96];
	const char *ways[3] = {had ? names[0] : NULL, ch->path, had ? NULL : names[1]};

	snprintf(names[0], sizeof(names[0]), "/proc/self/fd/%d", ch->fd);
	snprintf(names[1], sizeof(names[1]), "/proc/self/map_files/%lx-%lx", (unsigned long)(uintptr_t)ch->base,
		 (unsigned long)((uintptr_t)ch->base + ch->region_size));
	for (int i = 0; i < 3; i++) {
		int fd = ways[i] ? ringbuf_open_at(AT_FDCWD, ways[i], flags, 0) : -RINGBUF_E_CLOSED;

		if (ringbuf_is_ours(fd, &ch->file))
			return fd;
		if (fd >= 0)
			close(fd);
		else if (had ? !i : fd == -EACCES && i == 1)
			ret = fd;
	}
	return ret == -EACCES ? -RINGBUF_E_FORBIDDEN : (ret == -ENOENT ? -RINGBUF_E_NO_PROC : ret);
}

/* Have a descriptor again, if the program closed ours. Under the registry's lock. Returns 0 or as ringbuf_reopen. */
RINGBUF_FUNC int
ringbuf_regain(struct ringbuf_channel *ch)
{
	if (ringbuf_is_ours(ch->fd, &ch->file))
		return 0;
	ch->fd = ringbuf_reopen(ch, O_RDWR);
	if (ch->fd < 0)
		return ch->fd;
	ringbuf_mark_used(ch->fd);
	return 0;
}

/*
 * A fork is coming: a description for the child, marked as used before there is a child.
 * The inherited one is its parent's too, who gives up the lock of it when it ends
 * (ringbuf_is_last_user), perhaps before the child has run.
 */
RINGBUF_FUNC void
ringbuf_prepare_child(struct ringbuf_channel *ch)
{
	int ours = !ch->is_sealed && !ch->closed && ringbuf_is_ours(ch->fd, &ch->file);

	ch->child_fd = ours ? ringbuf_reopen(ch, O_RDWR) : -1;
	if (ch->child_fd >= 0)
		ringbuf_mark_used(ch->child_fd);
}

/* In the parent. */
RINGBUF_FUNC void
ringbuf_leave_child(struct ringbuf_channel *ch)
{
	if (ch->child_fd >= 0)
		close(ch->child_fd);
}

/* In the child: the description has the number and the address of the inherited one. The mapping
 * keeps the lock, should a daemon close its descriptors. */
RINGBUF_FUNC void
ringbuf_part_from_parent(struct ringbuf_channel *ch)
{
	if (ch->child_fd < 0)
		return;
	if (mmap(ch->base, ch->region_size, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_SHARED, ch->child_fd, 0) !=
	    MAP_FAILED)
		syscall(SYS_dup3, ch->child_fd, ch->fd, O_CLOEXEC);
	close(ch->child_fd);
}

#endif /* RINGBUF_FILE_H */
