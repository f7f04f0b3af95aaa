/*
 * ringbuf/trace.h - the files of a trace, for a consumer and for a snapshot.
 *
 * One file for each stream, whole packets one after another, straight from the
 * mapping; the trace's `metadata` file is the caller's. Rules:
 *
 *  - A packet is released as read only when all of it is in its file. If it
 *    cannot be written, the file is cut back to whole packets, the packet stays
 *    unread in the ring, other streams go on, and it is tried again every
 *    100 ms. So nothing gets lost here that the ring does not count. If the
 *    process is killed in between, the file may end inside a packet, which the
 *    next consumer finds in the ring.
 *  - What is there already is never overwritten. What somebody takes away is
 *    not made again, since the trace would lack its beginning and not say so:
 *    a stream whose file was deleted (ENOENT), cut short (ESTALE), or made by
 *    somebody else before its first packet (EEXIST) has failed for good. Its
 *    packets stay in the ring, for a consumer with another directory. Files are
 *    looked at every 100 ms; what was written in between is lost with the file.
 *  - A trace tells its own losses, exactly. Readers take them from differences
 *    between the packets' events_discarded, and if the first packet's is not 0,
 *    say "some". So in the files that number counts from where the last reader
 *    of the stream left off, or, if packets since then were overwritten, from the
 *    consumer's start; if it is not 0 in the first packet, an empty packet with 0
 *    comes before; and losses after the last packet get an empty packet too.
 *    A snapshot of a ring that has been overwriting cannot know how many losses
 *    are older than its first packet: there it is left as it is, and "some" is right.
 *  - A trace may have a largest size. Then each stream is written to a series of
 *    files, which readers put together by the stream's number in the packets; before
 *    a packet that would make all of them larger, the file goes whose packets are the
 *    oldest, of whichever stream. What went with it is counted. A file goes only
 *    if it still is ours.
 *  - A region that is a file can be cut short by others, and touching it then
 *    kills the process: its size is checked before each pass over the streams,
 *    and if it has shrunk, it is not touched again.
 */
#ifndef RINGBUF_TRACE_H
#define RINGBUF_TRACE_H

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "channel.h"
#include "directory.h"
#include "discard.h"
#include "stats.h"

#define RINGBUF_TRACE_NAME_SIZE 239 /* with "_4095.4294967295" it must fit a file name */

#define RINGBUF_RETRY_NS UINT64_C(100000000)     /* between tries at a file that failed */
#define RINGBUF_RECHECK_NS UINT64_C(100000000)   /* between looks at whether a file is still there */
#define RINGBUF_IN_FLIGHT_NS UINT64_C(100000000) /* default wait for records in flight */
#define RINGBUF_STUCK_NS UINT64_C(1000000)       /* between looks at a record in flight */
#define RINGBUF_TURN_BYTES UINT64_C(4194304)     /* of one stream, before the next has its turn */
#define RINGBUF_ROTATED_SHARE 16                 /* so small a part of a trace of limited size goes at once */

struct ringbuf_consumer_options {
	const char *directory;     /* as for ringbuf_directory_open, */
	int dir_fd;                /* or, if not 0, what that has returned; it stays the caller's */
	const char *stream_name;   /* of the file; per-CPU channels add "_" and the CPU. NULL: "stream" */
	/* a consumer's: */
	uint64_t read_period_ns;   /* 0: 10 ms, or 100 ms where producers wake the reader */
	uint64_t switch_period_ns; /* flush all streams that often; 0: never */
	uint64_t max_size;         /* of all files together, at least 2 sub-buffers; 0: no limit */
	/* a snapshot's: */
	uint64_t since_timestamp;  /* leave out packets that ended before */
	uint64_t timeout_ns;       /* wait for records in flight at most that long; 0: 100 ms */
};

struct ringbuf_consumer_stats {
	uint64_t packets, records; /* written, of the ring's */
	uint64_t bytes;            /* with the empty packets that tell losses */
	uint64_t packets_rotated, records_rotated, bytes_rotated; /* of these, removed again for max_size */
	uint64_t write_errors;     /* attempts that failed */
	uint64_t flush_errors;     /* no producer slot was free to flush with */
	uint64_t corrupt;          /* packets thrown away: somebody scribbled on the shared memory */
	uint64_t streams_failed;   /* now */
	int last_error;            /* errno of the newest failed attempt, 0: none */
	uint32_t last_error_stream;

	/* a snapshot's packets that are not in it: */
	uint64_t lapped;           /* overwritten before their turn came */
	uint64_t incomplete;       /* a producer was still writing */
	uint64_t before;           /* ended before since_timestamp */

	/* how full the ring is, in bytes: */
	uint64_t unread, capacity; /* all streams */
	uint64_t fullest;          /* the fullest stream; its capacity is capacity / n_streams */
};

/* ---- one stream's file ---- */

/* A file of a trace of limited size, that is full. */
struct ringbuf_full_file {
	struct ringbuf_full_file *next; /* of the stream */
	struct ringbuf_identity file;
	uint32_t number;
	uint64_t size, packets, records, end_timestamp;
};

struct ringbuf_stream_file {
	struct ringbuf_stream_reader reader;
	int fd;                /* -1: made with the first packet */
	struct ringbuf_identity file;
	uint32_t number;       /* in the series of the stream's files */
	uint64_t packets, records; /* in this one; not those that tell losses alone */
	struct ringbuf_full_file *oldest, *newest; /* those before it that are still there */
	int error;             /* errno of the last attempt; 0: it worked */
	int gone;              /* and there will be no other */
	uint64_t size;         /* bytes, of whole packets */
	uint64_t retry_ns, checked_ns, repair_ns; /* CLOCK_MONOTONIC */
	uint64_t told;         /* events_discarded as this trace or an earlier reader knows it */
	uint64_t told_pos;     /* and the position of the packet that follows */
	uint64_t at_start;     /* events_discarded when the trace began */
	uint64_t base;         /* subtracted from events_discarded in the file */
	uint64_t end_timestamp; /* of the last packet in the file */
	uint64_t limit;        /* read no further, if the trace is limited */
	uint64_t owed;         /* events_discarded when the limit was set */
};

/* A directory being written to. One thread at a time writes; others read the counters. */
struct ringbuf_trace {
	struct ringbuf_channel *ch;
	struct ringbuf_right right;
	struct ringbuf_stream_file *files; /* one for each stream */
	char name[RINGBUF_TRACE_NAME_SIZE];
	int dir_fd, dir_made;
	struct ringbuf_identity dir;
	char *dir_path;      /* absolute, should the program close dir_fd */
	int limited;
	int flush_error;     /* -errno of the last flush */
	uint64_t max_size, size; /* of all files: the most there may be, 0: any; and what there is */
	/* relaxed all: statistics, with one writer each */
	ringbuf_atomic_u64 packets_rotated, records_rotated, bytes_rotated;
	ringbuf_atomic_u64 packets, records, bytes, write_errors, flush_errors, corrupt;
	ringbuf_atomic_u64 streams_failed, last_error; /* stream << 32 | errno */
	ringbuf_atomic_u64 lapped, incomplete, before;
};

RINGBUF_INLINE void
ringbuf_bump(ringbuf_atomic_u64 *counter, uint64_t by)
{
	/* relaxed load and store, no RMW: a statistic with one writer */
	ringbuf_store(counter, ringbuf_load(counter, RINGBUF_RELAXED) + by, RINGBUF_RELAXED);
}

/* Is the packets' header the built-in one, so that we can check it and make one? */
RINGBUF_FUNC int
ringbuf_has_ctf_packets(const struct ringbuf_channel *ch)
{
	return ch->packet_header_size >= ringbuf_ctf_packet_header_size(ch->streams) &&
	       !(ch->client && (ch->client->buffer_begin || ch->client->buffer_end));
}

/*
 * Does the packet's header say what the sub-buffer table says? Both lie in shared
 * memory; a size that is not the written one would make the rest of the file unreadable.
 */
RINGBUF_FUNC int
ringbuf_packet_is_sound(const struct ringbuf_channel *ch, const struct ringbuf_packet *p)
{
	uint64_t sizes[2];
	uint32_t magic;

	if (!p->packet_size || p->content_size < ch->packet_header_size)
		return 0;
	if (!ringbuf_has_ctf_packets(ch))
		return 1;
	ringbuf_data_read(&magic, p->data + offsetof(struct ringbuf_ctf_packet_header, magic), 4);
	ringbuf_data_read(sizes, p->data + offsetof(struct ringbuf_ctf_packet_header, content_size), 16);
	return magic == RINGBUF_CTF_MAGIC && sizes[0] == p->content_size * 8 &&
	       sizes[1] == p->packet_size * 8;
}

/* The built-in header of the packet, which tells `discarded` losses: min(packet_header_size, its own) bytes. */
RINGBUF_FUNC void
ringbuf_packet_header(const struct ringbuf_channel *ch, const struct ringbuf_packet *p, uint64_t discarded,
		      uint8_t *header)
{
	struct ringbuf_subbuf sb;

	/* relaxed: my own */
	ringbuf_store(&sb.timestamp_end, p->timestamp_end, RINGBUF_RELAXED);
	ringbuf_store(&sb.events_discarded, discarded, RINGBUF_RELAXED);
	ringbuf_store(&sb.sequence_number, p->sequence_number, RINGBUF_RELAXED);
	ringbuf_store(&sb.content_size, p->content_size, RINGBUF_RELAXED);
	ringbuf_store(&sb.packet_size, p->packet_size, RINGBUF_RELAXED);
	ringbuf_ctf_buffer_begin(ch, p->stream_idx, p->timestamp_begin, header);
	ringbuf_ctf_buffer_end(&sb, header);
}

/* The first of a stream's files has no number: "name", or "name_CPU"; then come "name_CPU.1", ... */
RINGBUF_FUNC void
ringbuf_file_name(const struct ringbuf_trace *t, uint32_t stream_idx, uint32_t number, char *out, size_t size)
{
	char cpu[16] = "", more[16] = "";

	if (t->ch->streams != RINGBUF_GLOBAL)
		snprintf(cpu, sizeof(cpu), "_%u", (unsigned int)stream_idx);
	if (number)
		snprintf(more, sizeof(more), ".%u", (unsigned int)number);
	snprintf(out, size, "%s%s%s", t->name, cpu, more);
}

/* The directory's descriptor, if the program closed it. Returns 0 or -errno. */
RINGBUF_FUNC int
ringbuf_trace_regain_directory(struct ringbuf_trace *t)
{
	if (ringbuf_is_ours(t->dir_fd, &t->dir))
		return 0;
	t->dir_fd = t->dir_path ? ringbuf_open_at(AT_FDCWD, t->dir_path, O_RDONLY | O_DIRECTORY, 0) : -EBADF;
	if (t->dir_fd < 0 || ringbuf_is_ours(t->dir_fd, &t->dir))
		return t->dir_fd < 0 ? t->dir_fd : 0;
	close(t->dir_fd);
	t->dir_fd = -1;
	return -ENOENT; /* another one has its name */
}

/* The file's descriptor, if the program closed it: what has the number now is not written to. Returns 0 or -errno. */
RINGBUF_FUNC int
ringbuf_file_regain(struct ringbuf_trace *t, struct ringbuf_stream_file *f)
{
	char name[RINGBUF_TRACE_NAME_SIZE + 32];
	int fd;

	if (f->fd < 0 || ringbuf_is_ours(f->fd, &f->file))
		return 0;
	fd = ringbuf_trace_regain_directory(t);
	ringbuf_file_name(t, f->reader.stream_idx, f->number, name, sizeof(name));
	if (!fd)
		fd = ringbuf_open_at(t->dir_fd, name, O_WRONLY | O_NOFOLLOW, 0);
	if (ringbuf_is_ours(fd, &f->file)) {
		f->fd = fd;
		return 0;
	}
	if (fd >= 0)
		close(fd);
	f->gone = fd >= 0 || fd == -ENOENT;
	return f->gone ? -ENOENT : fd;
}

RINGBUF_FUNC int
ringbuf_file_create(struct ringbuf_trace *t, struct ringbuf_stream_file *f)
{
	char name[RINGBUF_TRACE_NAME_SIZE + 32];
	int fd;

	ringbuf_file_name(t, f->reader.stream_idx, f->number, name, sizeof(name));
	fd = ringbuf_trace_regain_directory(t);
	if (!fd)
		fd = ringbuf_directory_create(t->dir_fd, name);
	if (fd >= 0) {
		f->fd = fd;
		return ringbuf_identify(fd, &f->file);
	}
	/* ENOENT: the directory itself was removed */
	f->gone = fd == -EEXIST || fd == -ENOENT;
	return fd;
}

/* Is the file still there, and still ours? Looked at now and then. */
RINGBUF_FUNC int
ringbuf_file_check(struct ringbuf_stream_file *f, uint64_t now_ns)
{
	struct stat st;

	if (f->fd < 0 || now_ns - f->checked_ns < RINGBUF_RECHECK_NS)
		return 0;
	f->checked_ns = now_ns;
	if (!ringbuf_is_ours(f->fd, &f->file) || fstat(f->fd, &st))
		return 0; /* ringbuf_file_regain sees to it */
	f->gone = st.st_nlink == 0 || (uint64_t)st.st_size < f->size;
	return !f->gone ? 0 : (st.st_nlink == 0 ? -ENOENT : -ESTALE);
}

/* Cut what an incomplete write left. If that fails too, the next write goes over it. */
RINGBUF_FUNC void
ringbuf_file_cut_back(const struct ringbuf_stream_file *f)
{
	if (ringbuf_is_ours(f->fd, &f->file) && ftruncate(f->fd, (off_t)f->size))
		return;
}

/*
 * Append a packet of `size` bytes: `head` bytes of header, the rest up to `len` from
 * `data` (where the header's own bytes are passed over), then zeros. All of it, or
 * nothing. Returns 0 or -errno.
 */
RINGBUF_FUNC int
ringbuf_file_append(struct ringbuf_trace *t, struct ringbuf_stream_file *f, uint8_t *header,
		    uint64_t head, const uint8_t *data, uint64_t len, uint64_t size)
{
	uint64_t done = 0;
	int error = 0;

	while (!error && done < len) {
		uint64_t from = done < head ? head : done;
		struct iovec parts[2];
		ssize_t n;

		parts[0].iov_base = header + done;
		parts[0].iov_len = from - done;
		parts[1].iov_base = (void *)(uintptr_t)(data + from);
		parts[1].iov_len = len - from;
		n = done < head ? pwritev(f->fd, parts, 2, (off_t)(f->size + done))
				: pwrite(f->fd, data + done, len - done, (off_t)(f->size + done));
		if (n > 0)
			done += (uint64_t)n;
		else
			error = n == 0 ? EIO : (errno == EINTR ? 0 : errno);
	}
	if (!error && size > len && ftruncate(f->fd, (off_t)(f->size + size)))
		error = errno;
	if (error) {
		ringbuf_file_cut_back(f);
		return -error;
	}
	f->size += size;
	t->size += size;
	ringbuf_bump(&t->bytes, size);
	return 0;
}

/*
 * Append the packet that *p describes. Its header is made anew, from what has been
 * checked: its sizes are those written, whoever scribbles meanwhile, and it tells the
 * losses of this trace.
 */
RINGBUF_FUNC int
ringbuf_file_append_packet(struct ringbuf_trace *t, struct ringbuf_stream_file *f,
			   const struct ringbuf_packet *p, uint64_t len)
{
	const struct ringbuf_channel *ch = t->ch;
	uint8_t header[RINGBUF_CTF_PACKET_HEADER_SIZE];
	uint64_t head = ringbuf_bounded(ch->packet_header_size, sizeof(header));

	if (!ringbuf_has_ctf_packets(ch))
		return ringbuf_file_append(t, f, header, 0, p->data, len, p->packet_size);
	ringbuf_packet_header(ch, p, p->events_discarded > f->base ? p->events_discarded - f->base : 0, header);
	return ringbuf_file_append(t, f, header, head, p->data, len, p->packet_size);
}

/* A packet without records that is not from the ring: it tells `discarded` losses. */
RINGBUF_FUNC int
ringbuf_file_append_empty(struct ringbuf_trace *t, struct ringbuf_stream_file *f, uint64_t timestamp,
			  uint64_t sequence_number, uint64_t discarded)
{
	uint8_t no_data[RINGBUF_CTF_PACKET_HEADER_SIZE] = {0};
	struct ringbuf_packet p;

	memset(&p, 0, sizeof(p));
	p.stream_idx = f->reader.stream_idx;
	p.data = no_data;
	p.content_size = t->ch->packet_header_size;
	p.packet_size = ringbuf_align_up(p.content_size, t->ch->page_size);
	p.timestamp_begin = p.timestamp_end = timestamp;
	p.sequence_number = sequence_number;
	p.events_discarded = discarded;
	return ringbuf_file_append_packet(t, f, &p, ringbuf_bounded(p.content_size, sizeof(no_data)));
}

/* ---- a trace of limited size ---- */

/* The file is full: the next packet makes another. Returns 0 or -ENOMEM; an error of closing tells what cannot be
 * mended. */
RINGBUF_FUNC int
ringbuf_file_end(struct ringbuf_stream_file *f)
{
	struct ringbuf_full_file *full = (struct ringbuf_full_file *)calloc(1, sizeof(*full));

	if (!full)
		return -ENOMEM;
	full->file = f->file;
	full->number = f->number;
	full->size = f->size;
	full->packets = f->packets;
	full->records = f->records;
	full->end_timestamp = f->end_timestamp;
	if (f->newest)
		f->newest->next = full;
	else
		f->oldest = full;
	f->newest = full;
	ringbuf_close_ours(f->fd, &f->file);
	f->fd = -1;
	f->number++;
	f->size = f->packets = f->records = 0;
	return 0;
}

/* Whose file has the oldest packets? NULL: there is none. */
RINGBUF_FUNC struct ringbuf_stream_file *
ringbuf_trace_oldest(const struct ringbuf_trace *t)
{
	struct ringbuf_stream_file *found = NULL;
	uint64_t first = UINT64_MAX;

	for (uint32_t i = 0; i < t->ch->n_streams; i++) {
		struct ringbuf_stream_file *f = &t->files[i];
		uint64_t end = f->oldest ? f->oldest->end_timestamp : f->end_timestamp;

		if ((f->oldest || f->fd >= 0) && end <= first) {
			first = end;
			found = f;
		}
	}
	return found;
}

/* Remove the oldest file of a stream, and count what goes. What somebody has taken away is gone as well.
 * Returns 0 or -errno: it stays. */
RINGBUF_FUNC int
ringbuf_file_rotate(struct ringbuf_trace *t, struct ringbuf_stream_file *f)
{
	struct ringbuf_full_file *full;
	char name[RINGBUF_TRACE_NAME_SIZE + 32];
	int ret = f->oldest ? 0 : ringbuf_file_end(f);

	if (!ret)
		ret = ringbuf_trace_regain_directory(t);
	if (ret)
		return ret;
	full = f->oldest;
	ringbuf_file_name(t, f->reader.stream_idx, full->number, name, sizeof(name));
	ret = ringbuf_directory_unlink(t->dir_fd, name, &full->file);
	if (ret && ret != -ENOENT)
		return ret;
	ringbuf_bump(&t->packets_rotated, full->packets);
	ringbuf_bump(&t->records_rotated, full->records);
	ringbuf_bump(&t->bytes_rotated, full->size);
	t->size -= full->size;
	f->oldest = full->next;
	if (!f->oldest)
		f->newest = NULL;
	free(full);
	return 0;
}

/* Before a packet of so many bytes is written, and perhaps an empty one before it. Returns 0 or -errno. */
RINGBUF_FUNC int
ringbuf_file_make_room(struct ringbuf_trace *t, struct ringbuf_stream_file *f, uint64_t size)
{
	uint64_t most = t->max_size / RINGBUF_ROTATED_SHARE;
	int ret = 0;

	if (!t->max_size)
		return 0;
	size += t->ch->page_size;
	if (f->size && f->size + size > most)
		ret = ringbuf_file_end(f);
	while (!ret && t->size && t->size + size > t->max_size)
		ret = ringbuf_file_rotate(t, ringbuf_trace_oldest(t));
	return ret;
}

/*
 * Make the file, if it is not there, for a packet at `pos` and `discarded` losses before
 * its end. If it is known how many of them are older than the trace, they are not its own.
 */
RINGBUF_FUNC int
ringbuf_file_begin(struct ringbuf_trace *t, struct ringbuf_stream_file *f, uint64_t pos,
		   uint64_t sequence_number, uint64_t timestamp, uint64_t discarded)
{
	int ret = f->fd < 0 ? ringbuf_file_create(t, f) : ringbuf_file_regain(t, f);

	if (ret || f->size || f->number || !ringbuf_has_ctf_packets(t->ch))
		return ret;
	if (pos == f->told_pos)
		f->base = f->told;
	else if (discarded >= f->at_start)
		f->base = f->at_start;
	else
		return 0; /* unknown */
	if (discarded <= f->base)
		return 0;
	/* Before sequence number 0 comes 2^64 - 1, which readers take for "unknown". */
	return ringbuf_file_append_empty(t, f, timestamp, sequence_number - 1, f->base);
}

/* The trace tells of the losses before the packet, and the next one follows it. */
RINGBUF_INLINE void
ringbuf_file_told(struct ringbuf_stream_file *f, const struct ringbuf_packet *p)
{
	f->told = p->events_discarded;
	f->told_pos = ringbuf_pos_add(p->pos, ringbuf_subbuf_size(&f->reader.ch->geometry));
}

/* Write the held packet. Returns 0 or -errno; then the file ends where it did before. */
RINGBUF_FUNC int
ringbuf_file_put(struct ringbuf_trace *t, struct ringbuf_stream_file *f)
{
	const struct ringbuf_packet *p = &f->reader.packet;
	int ret = ringbuf_file_make_room(t, f, p->packet_size);

	if (!ret)
		ret = ringbuf_file_begin(t, f, p->pos, p->sequence_number, p->timestamp_begin, p->events_discarded);
	RINGBUF_TESTPOINT(consumer_before_write);
	if (!ret)
		ret = ringbuf_file_append_packet(t, f, p, p->packet_size);
	RINGBUF_TESTPOINT(consumer_written);
	if (ret)
		return ret;
	ringbuf_file_told(f, p);
	f->end_timestamp = p->timestamp_end;
	f->packets++;
	f->records += p->records;
	ringbuf_bump(&t->packets, 1);
	ringbuf_bump(&t->records, p->records);
	return 0;
}

RINGBUF_FUNC void
ringbuf_file_failed(struct ringbuf_trace *t, struct ringbuf_stream_file *f, int error,
		    uint64_t now_ns)
{
	if (!f->error)
		ringbuf_bump(&t->streams_failed, 1);
	f->error = error;
	f->retry_ns = now_ns + RINGBUF_RETRY_NS;
	ringbuf_bump(&t->write_errors, 1);
	/* relaxed: a statistic; one word, so that no error comes with another stream's number */
	ringbuf_store(&t->last_error, (uint64_t)f->reader.stream_idx << 32 | (uint32_t)error,
		      RINGBUF_RELAXED);
}

RINGBUF_FUNC void
ringbuf_file_works(struct ringbuf_trace *t, struct ringbuf_stream_file *f)
{
	if (f->error)
		ringbuf_bump(&t->streams_failed, UINT64_MAX);
	f->error = 0;
}

/* ---- the directory and the right to read ---- */

/* May the region be touched? */
RINGBUF_FUNC int
ringbuf_trace_is_whole(const struct ringbuf_trace *t)
{
	return ringbuf_is_whole(t->ch);
}

RINGBUF_FUNC int
ringbuf_trace_set_name(struct ringbuf_trace *t, const char *name)
{
	if (!name)
		name = "stream";
	if (!*name || *name == '.' || strchr(name, '/') || !strcmp(name, "metadata") ||
	    strlen(name) >= sizeof(t->name))
		return -EINVAL;
	memcpy(t->name, name, strlen(name) + 1);
	return 0;
}

RINGBUF_FUNC int
ringbuf_trace_open_directory(struct ringbuf_trace *t, const struct ringbuf_consumer_options *o)
{
	char name[RINGBUF_TRACE_NAME_SIZE + 32];
	struct stat st;
	int fd;

	if (o->dir_fd) {
		fd = fcntl(o->dir_fd, F_DUPFD_CLOEXEC, RINGBUF_FD_MIN);
		if (fd < 0)
			return -errno;
	} else {
		fd = ringbuf_directory_open(o->directory, &t->dir_made);
		if (fd < 0)
			return fd;
	}
	t->dir_fd = fd;
	ringbuf_identify(fd, &t->dir);
	t->dir_path = ringbuf_path_of(fd);
	for (uint32_t i = 0; !t->dir_made && i < t->ch->n_streams; i++) {
		ringbuf_file_name(t, i, 0, name, sizeof(name));
		if (fstatat(t->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
			return -EEXIST;
		if (errno != ENOENT)
			return -errno;
	}
	return 0;
}

/* Take over the streams, from a dead reader if need be. Having the right to. */
RINGBUF_FUNC int
ringbuf_trace_open_streams(struct ringbuf_trace *t)
{
	struct ringbuf_channel *ch = t->ch;

	t->files = (struct ringbuf_stream_file *)calloc(ch->n_streams, sizeof(*t->files));
	if (!t->files)
		return -ENOMEM;
	for (uint32_t i = 0; i < ch->n_streams; i++) {
		struct ringbuf_stream_file *f = &t->files[i];

		f->fd = -1;
		ringbuf_stream_reader_init(ch, i, &f->reader);
		/* a dead snapshot held one that is not the next: it will have its turn */
		if (f->reader.holding &&
		    ringbuf_pos_diff(f->reader.packet.pos, ringbuf_next_pos(&f->reader)) > 0)
			ringbuf_put_subbuf(&f->reader, RINGBUF_PUT_BACK);
		/* relaxed both: the last reader's words are mine now (O11, in take_over) */
		f->told = ringbuf_load(&f->reader.s->read_discarded, RINGBUF_RELAXED);
		f->at_start = ringbuf_events_discarded(f->reader.s);
		f->told_pos = ringbuf_subbuf_begin(
			&ch->geometry, ringbuf_load(&f->reader.s->consumed_pos, RINGBUF_RELAXED));
		if (f->told > f->at_start)
			f->told_pos = UINT64_MAX; /* impossible: take it for unknown */
	}
	return 0;
}

/* What is held and could not be written stays in the ring. The region must be whole. */
RINGBUF_FUNC void
ringbuf_trace_put_back(struct ringbuf_trace *t)
{
	for (uint32_t i = 0; t->files && i < t->ch->n_streams; i++)
		if (t->files[i].reader.holding)
			ringbuf_put_subbuf(&t->files[i].reader, RINGBUF_PUT_BACK);
}

/* The right, if the program closed its descriptor: then what was held may have been read by others.
 * Returns 0 or -errno. */
RINGBUF_FUNC int
ringbuf_trace_keep_right(struct ringbuf_trace *t)
{
	int ret = ringbuf_keep_right(t->ch, 0, t->ch->n_streams, F_WRLCK, &t->right);

	for (uint32_t i = 0; ret > 0 && i < t->ch->n_streams; i++)
		ringbuf_catch_up(&t->files[i].reader);
	return ret < 0 ? ret : 0;
}

/* End of writing: the right is free again. Touches no shared memory. Returns 0 or -errno. */
RINGBUF_FUNC int
ringbuf_trace_close(struct ringbuf_trace *t)
{
	int ret = 0;

	for (uint32_t i = 0; t->files && i < t->ch->n_streams; i++) {
		struct ringbuf_stream_file *f = &t->files[i];

		int closed = ringbuf_close_ours(f->fd, &f->file);

		ret = ret ? ret : closed; /* some file systems report a full disk this late */
		f->fd = -1;
	}
	ringbuf_close_ours(t->dir_fd, &t->dir);
	t->dir_fd = -1;
	ringbuf_close_reader(&t->right);
	return ret;
}

RINGBUF_FUNC void
ringbuf_trace_free(struct ringbuf_trace *t)
{
	ringbuf_trace_close(t);
	free(t->dir_path);
	for (uint32_t i = 0; t->files && i < t->ch->n_streams; i++) {
		struct ringbuf_full_file *next, *full = t->files[i].oldest;

		for (; full; full = next) {
			next = full->next;
			free(full);
		}
	}
	free(t->files);
	pthread_mutex_lock(&ringbuf_registry.lock);
	ringbuf_channel_unref(t->ch);
	pthread_mutex_unlock(&ringbuf_registry.lock);
}

RINGBUF_FUNC int
ringbuf_trace_open_parts(struct ringbuf_trace *t, const struct ringbuf_consumer_options *o)
{
	int ret = ringbuf_trace_set_name(t, o->stream_name);

	if (!ret && !ringbuf_trace_is_whole(t))
		ret = -RINGBUF_E_TRUNCATED;
	if (!ret)
		ret = ringbuf_open_reader(t->ch, 0, t->ch->n_streams, &t->right);
	if (!ret)
		ret = ringbuf_trace_open_directory(t, o);
	if (!ret)
		ret = ringbuf_trace_open_streams(t);
	return ret;
}

/* It came to nothing: leave none of the files, so that it can be tried again. Before ringbuf_trace_close. */
RINGBUF_FUNC void
ringbuf_trace_remove(struct ringbuf_trace *t, const struct ringbuf_consumer_options *o)
{
	char name[RINGBUF_TRACE_NAME_SIZE + 32];

	for (uint32_t i = 0; t->files && i < t->ch->n_streams; i++) {
		if (t->files[i].fd < 0)
			continue;
		ringbuf_file_name(t, i, 0, name, sizeof(name));
		ringbuf_directory_remove(t->dir_fd, name, t->files[i].fd);
	}
	if (t->dir_made)
		rmdir(o->directory);
}

/* *t is zeroed. On failure nothing is left, not the directory either. */
RINGBUF_FUNC int
ringbuf_trace_open(struct ringbuf_trace *t, struct ringbuf_channel *ch,
		   const struct ringbuf_consumer_options *o)
{
	int ret;

	if (!o->dir_fd && (!o->directory || !*o->directory))
		return -EINVAL;
	if (o->max_size && o->max_size < 2 * ringbuf_subbuf_size(&ch->geometry))
		return -EINVAL;
	t->ch = ch;
	t->max_size = o->max_size;
	t->dir_fd = t->right.fd = -1;
	pthread_mutex_lock(&ringbuf_registry.lock);
	ch->refs++; /* the mapping stays until ringbuf_trace_free */
	pthread_mutex_unlock(&ringbuf_registry.lock);
	ret = ringbuf_trace_open_parts(t, o);
	if (ret) {
		ringbuf_trace_remove(t, o);
		ringbuf_trace_free(t);
	}
	return ret;
}

/* To flush with; NULL: none is free. */
RINGBUF_FUNC struct ringbuf_producer_slot *
ringbuf_trace_producer(const struct ringbuf_trace *t)
{
	struct ringbuf_producer *self = ringbuf_this_producer(t->ch);

	return self ? self->slot : NULL;
}

/* End the open packets. Returns 0, or -EUSERS: no producer slot is free. */
RINGBUF_FUNC int
ringbuf_trace_flush(struct ringbuf_trace *t)
{
	struct ringbuf_producer_slot *producer = ringbuf_trace_producer(t);
	int ret = producer ? 0 : -EUSERS;

	for (uint32_t i = 0; !ret && i < t->ch->n_streams; i++)
		ret = ringbuf_flush(t->ch, producer, i, 0);
	if (ret)
		ringbuf_bump(&t->flush_errors, 1);
	t->flush_error = ret;
	return ret;
}

/* From here on, read what has been produced by now, and no more. */
RINGBUF_FUNC void
ringbuf_trace_limit(struct ringbuf_trace *t)
{
	for (uint32_t i = 0; i < t->ch->n_streams; i++) {
		struct ringbuf_stream_file *f = &t->files[i];

		if (!t->limited)
			f->owed = ringbuf_events_discarded(f->reader.s);
		f->limit = ringbuf_subbuf_begin(
			&t->ch->geometry, ringbuf_load(&f->reader.s->produced, RINGBUF_ACQUIRE)); /* O1 */
	}
	t->limited = 1;
}

/* Losses after the last packet: told by one that is made in the file. Returns 0 or -errno. */
RINGBUF_FUNC int
ringbuf_file_tell_losses(struct ringbuf_trace *t, struct ringbuf_stream_file *f)
{
	const struct ringbuf_channel *ch = t->ch;
	uint64_t seq = ringbuf_pos_sub(f->limit, ch->start_pos) >> ch->geometry.subbuf_order;
	uint64_t now;
	int ret;

	if (f->owed <= f->told || !ringbuf_has_ctf_packets(ch))
		return 0;
	now = ringbuf_timestamp(ch->client, ch, f->reader.s, ringbuf_clock_custom(ch->client, ch));
	if (now < f->end_timestamp)
		now = f->end_timestamp;
	ret = ringbuf_file_make_room(t, f, ch->page_size);
	if (!ret)
		ret = ringbuf_file_begin(t, f, f->limit, seq, now, f->owed);
	return ret ? ret : ringbuf_file_append_empty(t, f, now, seq, f->owed);
}

RINGBUF_FUNC void
ringbuf_trace_add_fill(const struct ringbuf_trace *t, struct ringbuf_consumer_stats *st)
{
	const struct ringbuf_channel *ch = t->ch;

	st->capacity = ringbuf_ring_size(&ch->geometry) * ch->n_streams;
	if (!ringbuf_trace_is_whole(t))
		return;
	for (uint32_t i = 0; i < ch->n_streams; i++) {
		uint64_t unread = ringbuf_stream_usage(ch, ringbuf_stream_at(ch, i)).unread;

		st->unread += unread;
		if (unread > st->fullest)
			st->fullest = unread;
	}
}

RINGBUF_FUNC void
ringbuf_trace_stats(const struct ringbuf_trace *t, struct ringbuf_consumer_stats *st)
{
	/* relaxed all: statistics */
	uint64_t last_error = ringbuf_load(&t->last_error, RINGBUF_RELAXED);

	memset(st, 0, sizeof(*st));
	st->packets = ringbuf_load(&t->packets, RINGBUF_RELAXED);
	st->records = ringbuf_load(&t->records, RINGBUF_RELAXED);
	st->bytes = ringbuf_load(&t->bytes, RINGBUF_RELAXED);
	st->packets_rotated = ringbuf_load(&t->packets_rotated, RINGBUF_RELAXED);
	st->records_rotated = ringbuf_load(&t->records_rotated, RINGBUF_RELAXED);
	st->bytes_rotated = ringbuf_load(&t->bytes_rotated, RINGBUF_RELAXED);
	st->write_errors = ringbuf_load(&t->write_errors, RINGBUF_RELAXED);
	st->flush_errors = ringbuf_load(&t->flush_errors, RINGBUF_RELAXED);
	st->corrupt = ringbuf_load(&t->corrupt, RINGBUF_RELAXED);
	st->streams_failed = ringbuf_load(&t->streams_failed, RINGBUF_RELAXED);
	st->lapped = ringbuf_load(&t->lapped, RINGBUF_RELAXED);
	st->incomplete = ringbuf_load(&t->incomplete, RINGBUF_RELAXED);
	st->before = ringbuf_load(&t->before, RINGBUF_RELAXED);
	st->last_error = (int)(uint32_t)last_error;
	st->last_error_stream = (uint32_t)(last_error >> 32);
	ringbuf_trace_add_fill(t, st);
}

/* ---- draining ---- */

/* Has everything below the limit been read? */
RINGBUF_FUNC int
ringbuf_file_is_at_limit(const struct ringbuf_stream_file *f)
{
	return !f->reader.holding && ringbuf_pos_diff(ringbuf_waiting_pos(&f->reader), f->limit) >= 0;
}

/* Nothing can be had. Because of somebody dead? Looks now and then. Returns 1: it was. */
RINGBUF_FUNC int
ringbuf_drain_repair(struct ringbuf_stream_file *f, uint64_t now_ns)
{
	if (now_ns < f->repair_ns)
		return 0;
	f->repair_ns = now_ns + RINGBUF_STUCK_NS;
	return ringbuf_repair_next(&f->reader);
}

/* Hold the next packet to be written; returns 0 if there is none. */
RINGBUF_INLINE int
ringbuf_drain_get(const struct ringbuf_trace *t, struct ringbuf_stream_file *f, uint64_t now_ns)
{
	if (f->reader.holding)
		return 1; /* a dead reader's */
	if (t->limited && ringbuf_file_is_at_limit(f))
		return 0;
	if (ringbuf_get_next_subbuf(&f->reader) == 0)
		return 1;
	return ringbuf_drain_repair(f, now_ns) && ringbuf_get_next_subbuf(&f->reader) == 0;
}

/* Write and release the held packet, or put it back. Returns 0 or -errno. */
RINGBUF_FUNC int
ringbuf_drain_packet(struct ringbuf_trace *t, struct ringbuf_stream_file *f)
{
	int ret;

	if (!ringbuf_packet_is_sound(t->ch, &f->reader.packet)) {
		ringbuf_bump(&t->corrupt, 1);
		ringbuf_put_subbuf(&f->reader, RINGBUF_PUT_DROP);
		return 0;
	}
	ret = ringbuf_file_put(t, f);
	if (ret == -EFAULT && !ringbuf_trace_is_whole(t))
		return -RINGBUF_E_TRUNCATED; /* and keep off it */
	ringbuf_put_subbuf(&f->reader, ret ? RINGBUF_PUT_BACK : RINGBUF_PUT_READ);
	return ret;
}

/*
 * ringbuf_drain_stream - write what one stream has, but at most one turn's worth.
 * Returns: 1 some was written, 0 nothing to do or the file failed,
 *          -RINGBUF_E_TRUNCATED.
 */
RINGBUF_FUNC int
ringbuf_drain_stream(struct ringbuf_trace *t, struct ringbuf_stream_file *f, uint64_t now_ns)
{
	uint64_t end = f->size + RINGBUF_TURN_BYTES;
	uint32_t turn = ringbuf_n_subbufs(&t->ch->geometry);
	int ret, some = 0;

	if (f->gone || (f->error && now_ns < f->retry_ns))
		return 0;
	f->retry_ns = now_ns + RINGBUF_RETRY_NS; /* also if there turns out to be nothing to try */
	ret = ringbuf_file_check(f, now_ns);
	while (!ret && turn-- && f->size < end && ringbuf_drain_get(t, f, now_ns)) {
		ret = ringbuf_drain_packet(t, f);
		if (!ret) {
			some = 1;
			ringbuf_file_works(t, f);
		}
	}
	if (ret == -RINGBUF_E_TRUNCATED)
		return ret;
	if (ret)
		ringbuf_file_failed(t, f, -ret, now_ns);
	return some;
}

/* One turn for each stream. Returns as ringbuf_drain_stream. */
RINGBUF_FUNC int
ringbuf_drain_streams(struct ringbuf_trace *t, uint64_t now_ns)
{
	int ret = 0, some = 0;

	for (uint32_t i = 0; ret >= 0 && i < t->ch->n_streams; i++) {
		ret = ringbuf_drain_stream(t, &t->files[i], now_ns);
		some |= ret > 0;
	}
	return ret < 0 ? ret : some;
}

/* When a failed file is due again; UINT64_MAX: there is none. */
RINGBUF_FUNC uint64_t
ringbuf_trace_retry_ns(const struct ringbuf_trace *t)
{
	uint64_t first = UINT64_MAX;

	if (!ringbuf_load(&t->streams_failed, RINGBUF_RELAXED)) /* my own */
		return first;
	for (uint32_t i = 0; i < t->ch->n_streams; i++)
		if (t->files[i].error && !t->files[i].gone && t->files[i].retry_ns < first)
			first = t->files[i].retry_ns;
	return first;
}

#endif /* RINGBUF_TRACE_H */
