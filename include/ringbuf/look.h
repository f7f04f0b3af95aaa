/*
 * ringbuf/look.h - the counters of a channel that is not ours, from a copy.
 *
 * A file can be cut short while we look, and so can memory that its maker did not
 * seal: whoever had it mapped would die of it. So the words are read, not mapped, into
 * memory of our own; of the data, nothing. It takes no place, no lock and no right to
 * write, and the owner does not notice.
 */
#ifndef RINGBUF_LOOK_H
#define RINGBUF_LOOK_H

#include "metrics.h"

/* The next part of the file at or after *at that is not a hole. Returns its end, or 0: there is none before `end`. */
RINGBUF_FUNC uint64_t
ringbuf_next_part(int fd, uint64_t *at, uint64_t end)
{
	off_t data = lseek(fd, (off_t)*at, SEEK_DATA), hole;

	if (data < 0)
		return errno == ENXIO ? 0 : end; /* a file system that cannot tell: all of it */
	if ((uint64_t)data >= end)
		return 0;
	hole = lseek(fd, data, SEEK_HOLE);
	*at = (uint64_t)data;
	return hole < 0 ? end : ringbuf_bounded((uint64_t)hole, end);
}

/* Copy [at, end) of the file to the same place in `base`; holes take no time and no memory. Returns 0 or -errno. */
RINGBUF_FUNC int
ringbuf_look_at(int fd, uint8_t *base, uint64_t at, uint64_t end)
{
	uint64_t part;

	while (at < end && (part = ringbuf_next_part(fd, &at, end)) != 0)
		while (at < part) {
			ssize_t n = pread(fd, base + at, part - at, (off_t)at);

			if (n == 0)
				return -RINGBUF_E_TRUNCATED;
			if (n < 0 && errno != EINTR)
				return -errno;
			at += n > 0 ? (uint64_t)n : 0;
		}
	return 0;
}

/*
 * ringbuf_look - a channel over a private copy of the words of the one behind `fd`, for its counters
 * and nothing else. `fd` is a description of the caller's own, readable, and stays his.
 * Returns: as ringbuf_attach_fd, whatever client the channel has.
 */
RINGBUF_FUNC int
ringbuf_look(int fd, struct ringbuf_channel **out)
{
	struct ringbuf_superblock sb;
	struct ringbuf_channel *ch = NULL;
	void *base;
	int ret = ringbuf_read_superblock(fd, &sb);

	if (ret)
		return ret;
	base = mmap(NULL, sb.region_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (base == MAP_FAILED)
		return -errno;
	ret = ringbuf_look_at(fd, (uint8_t *)base, sb.control_off, sb.streams_off);
	for (uint64_t i = 0, at = sb.streams_off; !ret && i < sb.n_streams; i++, at += sb.stream_stride)
		ret = ringbuf_look_at(fd, (uint8_t *)base, at, at + sb.fillers_off);
	if (!ret)
		ch = ringbuf_channel_view(&sb, (uint8_t *)base, -1);
	if (ch) {
		ch->is_sealed = 1; /* nobody else has it */
		ringbuf_note_gone(ch, fd);
		ret = ringbuf_channel_enlist(ch);
	} else if (!ret) {
		ret = -ENOMEM;
	}
	if (ret) {
		munmap(base, sb.region_size);
		ringbuf_channel_free(ch);
		return ret;
	}
	*out = ch;
	return 0;
}

#endif /* RINGBUF_LOOK_H */
