/*
 * ringbuf/consumer.h - write packets to files: as they come (a consumer, which
 * is a native thread), or all that are there at one moment (a snapshot).
 *
 * One file for each stream, whole packets one after another, straight from the
 * mapping; the trace's `metadata` file is the caller's. Rules:
 *
 *  - A packet is released as read only when all of it is in its file. If it
 *    cannot be written, the file is cut back to whole packets, the packet stays
 *    unread in the ring, other streams go on, and it is tried again every
 *    100 ms. So nothing gets lost here that the ring does not count.
 *  - What is there already is never overwritten. What somebody takes away is
 *    not made again, since the trace would lack its beginning and not say so:
 *    a stream whose file was deleted (ENOENT), cut short (ESTALE), or made by
 *    somebody else before its first packet (EEXIST) has failed for good. Its
 *    packets stay in the ring, for a consumer with another directory.
 *  - A reader of the trace takes losses from the differences between the
 *    packets' events_discarded, so a file whose first packet has such a number
 *    gets an empty packet before it, with the number that was known to whoever
 *    read last; and losses after the last packet get an empty packet too. Where
 *    earlier packets were overwritten unread nobody knows the number, there is
 *    no such packet, and readers say "some".
 *  - A region that is a file can be cut short by others, and touching it then
 *    kills the process: its size is checked before each pass over the streams,
 *    and if it has shrunk, it is not touched again.
 *
 * After a fork the child has no such thread and no right to read: there, stop
 * and poke do nothing, and destroy frees the child's copy.
 */
#ifndef RINGBUF_CONSUMER_H
#define RINGBUF_CONSUMER_H

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

#include "channel.h"

#define RINGBUF_TRACE_NAME_SIZE 240 /* with "_4095" it must fit a file name */

#define RINGBUF_READ_PERIOD_NS UINT64_C(10000000)        /* default */
#define RINGBUF_READ_PERIOD_WRITER_NS UINT64_C(100000000) /* default, when producers wake us */
#define RINGBUF_PERIOD_MIN_NS UINT64_C(100000)
#define RINGBUF_RETRY_NS UINT64_C(100000000)   /* between tries at a file that failed */
#define RINGBUF_RECHECK_NS UINT64_C(100000000) /* between looks at whether a file is still there */
#define RINGBUF_IN_FLIGHT_NS UINT64_C(100000000) /* default wait for records in flight */
#define RINGBUF_STUCK_NS UINT64_C(1000000)     /* between looks at a record in flight */
#define RINGBUF_IDLE_NS UINT64_C(1000000000)   /* no sleep is longer */
#define RINGBUF_TURN_BYTES UINT64_C(4194304)   /* of one stream, before the next has its turn */

struct ringbuf_consumer_options {
	const char *directory;     /* made (mode 0700) if missing; its parent must exist */
	const char *stream_name;   /* of the file; per-CPU channels add "_" and the CPU. NULL: "stream" */
	/* a consumer's: */
	uint64_t read_period_ns;   /* 0: 10 ms, or 100 ms where producers wake the reader */
	uint64_t switch_period_ns; /* flush all streams that often; 0: never */
	/* a snapshot's: */
	uint64_t since_timestamp;  /* leave out packets that ended before */
	uint64_t timeout_ns;       /* wait for records in flight at most that long; 0: 100 ms */
};

struct ringbuf_consumer_stats {
	uint64_t packets, records; /* written, of the ring's */
	uint64_t bytes;            /* in the files, with the empty packets that tell losses */
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

struct ringbuf_stream_file {
	struct ringbuf_stream_reader reader;
	int fd;                /* -1: made with the first packet */
	int error;             /* errno of the last attempt; 0: it worked */
	int gone;              /* and there will be no other */
	uint64_t size;         /* bytes, of whole packets */
	uint64_t retry_ns, checked_ns; /* CLOCK_MONOTONIC */
	uint64_t told;         /* events_discarded as this trace or an earlier reader knows it */
	uint64_t told_pos;     /* and the position of the packet that follows */
	uint64_t end_timestamp; /* of the last packet in the file */
	uint64_t limit;        /* read no further, if the trace is limited */
};

/* A directory being written to. One thread at a time writes; others read the counters. */
struct ringbuf_trace {
	struct ringbuf_channel *ch;
	struct ringbuf_right right;
	struct ringbuf_stream_file *files; /* one for each stream */
	char name[RINGBUF_TRACE_NAME_SIZE];
	int dir_fd, dir_made;
	int region_fd;       /* -1: the region cannot shrink */
	int limited;
	int flush_error;     /* -errno of the last flush */
	/* relaxed all: statistics, with one writer each */
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
	uint32_t size = ch->streams == RINGBUF_GLOBAL ? RINGBUF_CTF_PACKET_HEADER_SIZE_GLOBAL
						      : RINGBUF_CTF_PACKET_HEADER_SIZE;

	return ch->packet_header_size >= size &&
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
	ringbuf_data_read(&magic, p->data, 4);
	ringbuf_data_read(sizes, p->data + 48, 16);
	return magic == RINGBUF_CTF_MAGIC && sizes[0] == p->content_size * 8 &&
	       sizes[1] == p->packet_size * 8;
}

RINGBUF_FUNC void
ringbuf_file_name(const struct ringbuf_trace *t, uint32_t stream_idx, char *out, size_t size)
{
	if (t->ch->streams == RINGBUF_GLOBAL)
		snprintf(out, size, "%s", t->name);
	else
		snprintf(out, size, "%s_%u", t->name, (unsigned int)stream_idx);
}

RINGBUF_FUNC int
ringbuf_file_create(const struct ringbuf_trace *t, struct ringbuf_stream_file *f)
{
	char name[RINGBUF_TRACE_NAME_SIZE + 16];
	int error;

	ringbuf_file_name(t, f->reader.stream_idx, name, sizeof(name));
	f->fd = openat(t->dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
	if (f->fd >= 0)
		return 0;
	error = errno;
	/* ENOENT: the directory itself was removed */
	f->gone = error == EEXIST || error == ENOENT;
	return -error;
}

/* Is the file still there, and still ours? Looked at now and then. */
RINGBUF_FUNC int
ringbuf_file_check(struct ringbuf_stream_file *f, uint64_t now_ns)
{
	struct stat st;

	if (f->fd < 0 || now_ns - f->checked_ns < RINGBUF_RECHECK_NS)
		return 0;
	f->checked_ns = now_ns;
	if (fstat(f->fd, &st))
		return -errno;
	f->gone = st.st_nlink == 0 || (uint64_t)st.st_size < f->size;
	return !f->gone ? 0 : st.st_nlink == 0 ? -ENOENT : -ESTALE;
}

/* Cut what an incomplete write left. If that fails too, the next write goes over it. */
RINGBUF_FUNC void
ringbuf_file_cut_back(const struct ringbuf_stream_file *f)
{
	if (ftruncate(f->fd, (off_t)f->size))
		return;
}

/* Append `len` bytes and then zeros up to `size`: all of it, or nothing. Returns 0 or -errno. */
RINGBUF_FUNC int
ringbuf_file_append(struct ringbuf_trace *t, struct ringbuf_stream_file *f, const uint8_t *data,
		    uint64_t len, uint64_t size)
{
	uint64_t done = 0;
	int error = 0;

	while (!error && done < len) {
		ssize_t n = pwrite(f->fd, data + done, len - done, (off_t)(f->size + done));

		if (n > 0)
			done += (uint64_t)n;
		else
			error = n == 0 ? EIO : errno == EINTR ? 0 : errno;
	}
	if (!error && size > len && ftruncate(f->fd, (off_t)(f->size + size)))
		error = errno;
	if (error) {
		ringbuf_file_cut_back(f);
		return -error;
	}
	f->size += size;
	ringbuf_bump(&t->bytes, size);
	return 0;
}

/* A packet without records that is not from the ring: it tells `discarded` losses. */
RINGBUF_FUNC int
ringbuf_file_append_empty(struct ringbuf_trace *t, struct ringbuf_stream_file *f, uint64_t timestamp,
			  uint64_t sequence_number, uint64_t discarded)
{
	const struct ringbuf_channel *ch = t->ch;
	uint64_t size = ringbuf_align_up(ch->packet_header_size, ch->page_size);
	uint8_t header[RINGBUF_CTF_PACKET_HEADER_SIZE];
	struct ringbuf_subbuf sb;

	/* relaxed: my own */
	ringbuf_store(&sb.timestamp_end, timestamp, RINGBUF_RELAXED);
	ringbuf_store(&sb.events_discarded, discarded, RINGBUF_RELAXED);
	ringbuf_store(&sb.sequence_number, sequence_number, RINGBUF_RELAXED);
	ringbuf_store(&sb.content_size, ch->packet_header_size, RINGBUF_RELAXED);
	ringbuf_store(&sb.packet_size, size, RINGBUF_RELAXED);
	memset(header, 0, sizeof(header));
	ringbuf_ctf_buffer_begin(ch, f->reader.stream_idx, timestamp, header);
	ringbuf_ctf_buffer_end(&sb, header);
	return ringbuf_file_append(t, f, header,
				   ringbuf_bounded(ch->packet_header_size, sizeof(header)), size);
}

/*
 * Make the file, if it is not there, and say in it what the losses were before
 * the packet at `pos`, if that is known and the packet tells any.
 */
RINGBUF_FUNC int
ringbuf_file_begin(struct ringbuf_trace *t, struct ringbuf_stream_file *f, uint64_t pos,
		   uint64_t sequence_number, uint64_t timestamp, uint64_t discarded)
{
	int ret = f->fd < 0 ? ringbuf_file_create(t, f) : 0;

	if (ret || f->size || !discarded || pos != f->told_pos || !ringbuf_has_ctf_packets(t->ch))
		return ret;
	/* Before sequence number 0 comes 2^64 - 1, which readers take for "unknown". */
	return ringbuf_file_append_empty(t, f, timestamp, sequence_number - 1, f->told);
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
	int ret = ringbuf_file_begin(t, f, p->pos, p->sequence_number, p->timestamp_begin,
				     p->events_discarded);

	RINGBUF_TESTPOINT(consumer_before_write);
	if (!ret)
		ret = ringbuf_file_append(t, f, p->data, p->packet_size, p->packet_size);
	RINGBUF_TESTPOINT(consumer_written);
	if (ret)
		return ret;
	ringbuf_file_told(f, p);
	f->end_timestamp = p->timestamp_end;
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
	ringbuf_store(&t->last_error, (uint64_t)f->reader.stream_idx << 32 | (uint32_t)error,
		      RINGBUF_RELAXED); /* one word: no error of one stream with the number of another */
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
	struct stat st;

	return t->region_fd < 0 ||
	       (fstat(t->region_fd, &st) == 0 && (uint64_t)st.st_size >= t->ch->region_size);
}

/* A descriptor to watch the region's size by; none if it is sealed. */
RINGBUF_FUNC int
ringbuf_trace_watch_region(struct ringbuf_trace *t)
{
	int seals = fcntl(t->ch->fd, 1024 + 10 /* F_GET_SEALS */);
	char path[64];

	if (seals < 0 || !(seals & 2 /* F_SEAL_SHRINK */)) {
		/* its own, so that the channel may be closed; and not a copy of the
		 * lock's, which would keep the lock */
		snprintf(path, sizeof(path), "/proc/self/fd/%d", t->ch->fd);
		t->region_fd = open(path, O_RDONLY | O_CLOEXEC);
		if (t->region_fd < 0)
			return -errno;
	}
	return ringbuf_trace_is_whole(t) ? 0 : -RINGBUF_E_TRUNCATED;
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
ringbuf_trace_open_directory(struct ringbuf_trace *t, const char *directory)
{
	char name[RINGBUF_TRACE_NAME_SIZE + 16];
	struct stat st;

	if (mkdir(directory, 0700) == 0)
		t->dir_made = 1;
	else if (errno != EEXIST)
		return -errno;
	t->dir_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (t->dir_fd < 0)
		return -errno;
	for (uint32_t i = 0; !t->dir_made && i < t->ch->n_streams; i++) {
		ringbuf_file_name(t, i, name, sizeof(name));
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
		f->told_pos = ringbuf_subbuf_begin(
			&ch->geometry, ringbuf_load(&f->reader.s->consumed_pos, RINGBUF_RELAXED));
		if (f->told > ringbuf_events_discarded(f->reader.s))
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

/* End of writing: the right is free again. Touches no shared memory. Returns 0 or -errno. */
RINGBUF_FUNC int
ringbuf_trace_close(struct ringbuf_trace *t)
{
	int ret = 0;

	for (uint32_t i = 0; t->files && i < t->ch->n_streams; i++) {
		struct ringbuf_stream_file *f = &t->files[i];

		if (f->fd >= 0 && close(f->fd) && !ret)
			ret = -errno; /* some file systems report a full disk this late */
		f->fd = -1;
	}
	if (t->dir_fd >= 0)
		close(t->dir_fd);
	t->dir_fd = -1;
	ringbuf_close_reader(&t->right);
	return ret;
}

RINGBUF_FUNC void
ringbuf_trace_free(struct ringbuf_trace *t)
{
	ringbuf_trace_close(t);
	if (t->region_fd >= 0)
		close(t->region_fd);
	free(t->files);
	pthread_mutex_lock(&ringbuf_registry.lock);
	ringbuf_channel_unref(t->ch);
	pthread_mutex_unlock(&ringbuf_registry.lock);
}

RINGBUF_FUNC int
ringbuf_trace_open_parts(struct ringbuf_trace *t, const struct ringbuf_consumer_options *o)
{
	int ret = ringbuf_trace_set_name(t, o->stream_name);

	if (!ret)
		ret = ringbuf_trace_watch_region(t);
	if (!ret)
		ret = ringbuf_open_reader(t->ch, 0, t->ch->n_streams, &t->right);
	if (!ret)
		ret = ringbuf_trace_open_directory(t, o->directory);
	if (!ret)
		ret = ringbuf_trace_open_streams(t);
	return ret;
}

/* *t is zeroed. On failure nothing is left, not the directory either. */
RINGBUF_FUNC int
ringbuf_trace_open(struct ringbuf_trace *t, struct ringbuf_channel *ch,
		   const struct ringbuf_consumer_options *o)
{
	int ret;

	if (!o->directory || !*o->directory)
		return -EINVAL;
	t->ch = ch;
	t->dir_fd = t->region_fd = t->right.fd = -1;
	pthread_mutex_lock(&ringbuf_registry.lock);
	ch->refs++; /* the mapping stays until ringbuf_trace_free */
	pthread_mutex_unlock(&ringbuf_registry.lock);
	ret = ringbuf_trace_open_parts(t, o);
	if (ret) {
		if (t->dir_made)
			rmdir(o->directory);
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

RINGBUF_FUNC void
ringbuf_trace_add_fill(const struct ringbuf_trace *t, struct ringbuf_consumer_stats *st)
{
	const struct ringbuf_channel *ch = t->ch;
	uint64_t ring = ringbuf_ring_size(&ch->geometry);

	st->capacity = ring * ch->n_streams;
	if (!ringbuf_trace_is_whole(t))
		return;
	for (uint32_t i = 0; i < ch->n_streams; i++) {
		struct ringbuf_stream *s = ringbuf_stream_at(ch, i);
		/* relaxed: a picture of something that moves */
		uint64_t consumed = ringbuf_load(&s->consumed_pos, RINGBUF_RELAXED);
		uint64_t produced = ringbuf_pos(ringbuf_load(&s->produced, RINGBUF_RELAXED));
		int64_t fill = ringbuf_pos_diff(produced, consumed);

		fill = fill < 0 ? 0 : fill > (int64_t)ring ? (int64_t)ring : fill;
		st->unread += (uint64_t)fill;
		if ((uint64_t)fill > st->fullest)
			st->fullest = (uint64_t)fill;
	}
}

RINGBUF_FUNC void
ringbuf_trace_stats(const struct ringbuf_trace *t, struct ringbuf_consumer_stats *st)
{
	uint64_t last_error = ringbuf_load(&t->last_error, RINGBUF_RELAXED);

	memset(st, 0, sizeof(*st));
	st->packets = ringbuf_load(&t->packets, RINGBUF_RELAXED);
	st->records = ringbuf_load(&t->records, RINGBUF_RELAXED);
	st->bytes = ringbuf_load(&t->bytes, RINGBUF_RELAXED);
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
	return !f->reader.holding && ringbuf_pos_diff(ringbuf_next_pos(&f->reader), f->limit) >= 0;
}

/* Hold the next packet to be written; returns 0 if there is none. */
RINGBUF_INLINE int
ringbuf_drain_get(const struct ringbuf_trace *t, struct ringbuf_stream_file *f)
{
	if (f->reader.holding)
		return 1; /* a dead reader's */
	if (t->limited && ringbuf_file_is_at_limit(f))
		return 0;
	return ringbuf_get_next_subbuf(&f->reader) == 0;
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
	while (!ret && turn-- && f->size < end && ringbuf_drain_get(t, f)) {
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

/* ---- the consumer's thread ---- */

struct ringbuf_consumer {
	struct ringbuf_trace trace;
	pthread_t thread;
	pthread_mutex_t lock; /* of stopping */
	int joined, close_error; /* under the lock */
	int result;           /* of the thread: 0 or -errno; read once it is done or joined */
	uint64_t forks;       /* generation of the process that has the thread */
	uint64_t stop_deadline_ns; /* set before `stopping` */
	ringbuf_atomic_u32 stopping, poked, done;
	/* the thread's own: */
	uint64_t read_period_ns, switch_period_ns;
	uint64_t next_read_ns, next_switch_ns; /* absolute, CLOCK_MONOTONIC */
	int closed;           /* has seen the channel finalized and closed its packets */
};

/* The first tick after `now`. Ticks are at fixed distances: a late one delays no other. */
RINGBUF_FUNC uint64_t
ringbuf_next_tick(uint64_t tick_ns, uint64_t period_ns, uint64_t now_ns)
{
	if (now_ns < tick_ns)
		return tick_ns;
	return tick_ns + ((now_ns - tick_ns) / period_ns + 1) * period_ns;
}

/* Has the tick come? Then on to the next. */
RINGBUF_FUNC int
ringbuf_take_tick(uint64_t *tick_ns, uint64_t period_ns, uint64_t now_ns)
{
	if (now_ns < *tick_ns)
		return 0;
	*tick_ns = ringbuf_next_tick(*tick_ns, period_ns, now_ns);
	return 1;
}

/* What the thread must do in this pass. */
RINGBUF_FUNC int
ringbuf_consumer_is_due(struct ringbuf_consumer *c, uint64_t now_ns)
{
	const struct ringbuf_channel *ch = c->trace.ch;
	int due = ch->wakeup == RINGBUF_WAKEUP_WRITER || c->closed;

	if (ch->wakeup != RINGBUF_WAKEUP_NONE)
		due |= ringbuf_take_tick(&c->next_read_ns, c->read_period_ns, now_ns) |
		       (now_ns >= ringbuf_trace_retry_ns(&c->trace));
	/* O13 acq_rel: what was recorded before the poke. Pairs with ringbuf_consumer_poke. */
	due |= (int)ringbuf_exchange(&c->poked, 0, RINGBUF_ACQ_REL);
	return due;
}

/* Until when to sleep if nobody wakes us. */
RINGBUF_FUNC uint64_t
ringbuf_consumer_deadline(const struct ringbuf_consumer *c, uint64_t now_ns)
{
	uint64_t until = now_ns + RINGBUF_IDLE_NS;
	int reads = c->trace.ch->wakeup != RINGBUF_WAKEUP_NONE || c->closed;

	if (c->switch_period_ns)
		until = ringbuf_bounded(c->next_switch_ns, until);
	if (reads)
		until = ringbuf_bounded(c->next_read_ns > now_ns ? c->next_read_ns
								  : now_ns + c->read_period_ns,
					ringbuf_bounded(ringbuf_trace_retry_ns(&c->trace), until));
	return until;
}

/* Nobody will record any more: end the packets that a finalizer may have left, once. */
RINGBUF_FUNC void
ringbuf_consumer_close_streams(struct ringbuf_consumer *c)
{
	struct ringbuf_channel *ch = c->trace.ch;
	struct ringbuf_producer_slot *producer = ringbuf_trace_producer(&c->trace);

	for (uint32_t i = 0; producer && i < ch->n_streams; i++)
		ringbuf_close_stream(ch, producer, i);
	c->closed = 1;
}

/* Finalized, and everything is written, but for streams that cannot be any more. */
RINGBUF_FUNC int
ringbuf_consumer_is_drained(const struct ringbuf_consumer *c)
{
	const struct ringbuf_trace *t = &c->trace;

	for (uint32_t i = 0; c->closed && i < t->ch->n_streams; i++) {
		const struct ringbuf_stream_file *f = &t->files[i];
		uint64_t produced = ringbuf_load(&f->reader.s->produced, RINGBUF_ACQUIRE); /* O1 */

		if (!f->gone && (f->error || f->reader.holding ||
				 ringbuf_next_pos(&f->reader) != ringbuf_pos(produced)))
			return 0;
	}
	return c->closed;
}

/*
 * The thread's main part. Returns 0: to finish; or -RINGBUF_E_TRUNCATED.
 * Before it sleeps it announces that, and looks once more at everything. Ordering: O8, O13.
 */
RINGBUF_FUNC int
ringbuf_consumer_run(struct ringbuf_consumer *c)
{
	struct ringbuf_trace *t = &c->trace;
	struct ringbuf_control *control = t->ch->control;
	int busy = 0, announced = 0;
	uint32_t seq = 0;

	for (;;) {
		uint64_t now = ringbuf_clock_ns(CLOCK_MONOTONIC);

		if (!ringbuf_trace_is_whole(t))
			return -RINGBUF_E_TRUNCATED;
		/* O13 acquire: the deadline. Pairs with ringbuf_consumer_stop. */
		if (ringbuf_load(&c->stopping, RINGBUF_ACQUIRE))
			return 0;
		if (!c->closed && ringbuf_is_finalized(t->ch))
			ringbuf_consumer_close_streams(c);
		if (c->switch_period_ns &&
		    ringbuf_take_tick(&c->next_switch_ns, c->switch_period_ns, now))
			ringbuf_trace_flush(t);
		if (ringbuf_consumer_is_due(c, now) || busy)
			busy = ringbuf_drain_streams(t, now);
		if (busy < 0)
			return busy;
		if (busy) {
			announced = 0;
		} else if (ringbuf_consumer_is_drained(c)) {
			return 0;
		} else if (!announced) {
			seq = ringbuf_wait_prepare(&control->data_seq, &control->data_wanted);
			announced = 1;
		} else {
			ringbuf_futex_wait(&control->data_seq, seq,
					   ringbuf_consumer_deadline(c, now));
			announced = 0;
		}
	}
}

/* From here on, read what is produced now, and no more. */
RINGBUF_FUNC void
ringbuf_trace_limit(struct ringbuf_trace *t)
{
	t->limited = 1;
	for (uint32_t i = 0; i < t->ch->n_streams; i++) {
		struct ringbuf_stream_file *f = &t->files[i];

		f->limit = ringbuf_subbuf_begin(
			&t->ch->geometry, ringbuf_load(&f->reader.s->produced, RINGBUF_ACQUIRE)); /* O1 */
	}
}

RINGBUF_FUNC int
ringbuf_trace_is_at_limit(const struct ringbuf_trace *t)
{
	for (uint32_t i = 0; i < t->ch->n_streams; i++)
		if (!t->files[i].error && !ringbuf_file_is_at_limit(&t->files[i]))
			return 0;
	return 1;
}

/* Drain up to the limit; wait for records in flight until the deadline. Failed files are
 * left alone. Returns 0, -ETIMEDOUT or -RINGBUF_E_TRUNCATED. */
RINGBUF_FUNC int
ringbuf_drain_to_limit(struct ringbuf_trace *t, uint64_t deadline_ns)
{
	struct ringbuf_control *control = t->ch->control;

	for (;;) {
		uint64_t now = ringbuf_clock_ns(CLOCK_MONOTONIC);
		uint32_t seq;
		int ret;

		if (!ringbuf_trace_is_whole(t))
			return -RINGBUF_E_TRUNCATED;
		seq = ringbuf_wait_prepare(&control->data_seq, &control->data_wanted);
		ret = ringbuf_drain_streams(t, now);
		if (ret < 0)
			return ret;
		if (ret)
			continue;
		if (ringbuf_trace_is_at_limit(t))
			return 0;
		if (now >= deadline_ns)
			return -ETIMEDOUT;
		ringbuf_futex_wait(&control->data_seq, seq,
				   ringbuf_bounded(deadline_ns, now + RINGBUF_STUCK_NS));
	}
}

/* Streams that have lost records since their last packet get an empty one. */
RINGBUF_FUNC void
ringbuf_trace_flush_losses(struct ringbuf_trace *t)
{
	struct ringbuf_producer_slot *producer = ringbuf_trace_producer(t);

	for (uint32_t i = 0; producer && i < t->ch->n_streams; i++) {
		struct ringbuf_stream_file *f = &t->files[i];

		/* If no sub-buffer is free, producers have filled them meanwhile: their
		 * packets tell. */
		if (!f->error && ringbuf_events_discarded(f->reader.s) > f->told)
			ringbuf_flush(t->ch, producer, i, RINGBUF_FLUSH_EMPTY);
	}
}

/* One more try for each failed file; a look at each that works. */
RINGBUF_FUNC void
ringbuf_trace_recheck(struct ringbuf_trace *t)
{
	uint64_t now = ringbuf_clock_ns(CLOCK_MONOTONIC);

	for (uint32_t i = 0; i < t->ch->n_streams; i++) {
		struct ringbuf_stream_file *f = &t->files[i];
		int ret;

		f->retry_ns = 0;
		f->checked_ns = now - RINGBUF_RECHECK_NS;
		ret = f->gone ? 0 : ringbuf_file_check(f, now);
		if (ret)
			ringbuf_file_failed(t, f, -ret, now);
	}
}

/* The first error that still stands, of a file, or of flushing. */
RINGBUF_FUNC int
ringbuf_trace_error(const struct ringbuf_trace *t)
{
	for (uint32_t i = 0; i < t->ch->n_streams; i++)
		if (t->files[i].error)
			return -t->files[i].error;
	return t->flush_error;
}

/* Write what is there now, and say what was lost. Returns 0 or the first error. */
RINGBUF_FUNC int
ringbuf_trace_finish(struct ringbuf_trace *t, uint64_t deadline_ns)
{
	int ret;

	ringbuf_trace_recheck(t);
	ringbuf_trace_flush(t);
	ringbuf_trace_limit(t);
	ret = ringbuf_drain_to_limit(t, deadline_ns);
	if (!ret) {
		ringbuf_trace_flush_losses(t);
		ringbuf_trace_limit(t);
		ret = ringbuf_drain_to_limit(t, deadline_ns);
	}
	if (ret == -RINGBUF_E_TRUNCATED)
		return ret;
	ringbuf_trace_put_back(t);
	return ringbuf_trace_error(t) ? ringbuf_trace_error(t) : ret;
}

RINGBUF_FUNC void *
ringbuf_consumer_main(void *arg)
{
	struct ringbuf_consumer *c = (struct ringbuf_consumer *)arg;
	int ret;

	prctl(PR_SET_NAME, "ringbuf-reader");
	ringbuf_trace_producer(&c->trace); /* now: later there may be no slot to flush with */
	ret = ringbuf_consumer_run(c);
	if (!ret) {
		/* O13 acquire: as in ringbuf_consumer_run */
		int stopping = ringbuf_load(&c->stopping, RINGBUF_ACQUIRE) != 0;

		ret = ringbuf_trace_finish(&c->trace,
					   stopping ? c->stop_deadline_ns : ringbuf_deadline(RINGBUF_IN_FLIGHT_NS));
	}
	if (ret == -RINGBUF_E_TRUNCATED)
		/* This thread's certificate lies in what is gone: do not give it back.
		 * The kernel, which does not mind, marks the thread dead. */
		pthread_setspecific(ringbuf_registry.thread_exit, NULL);
	c->result = ret;
	/* O13 release: the result. Pairs with ringbuf_consumer_is_done. */
	ringbuf_store(&c->done, 1, RINGBUF_RELEASE);
	return NULL;
}

/* ---- the consumer, from outside ---- */

RINGBUF_FUNC uint64_t
ringbuf_consumer_period(uint64_t period_ns, uint64_t by_default)
{
	if (!period_ns)
		return by_default;
	/* the upper bound, 73 years, keeps sums of it from overflowing */
	return period_ns < RINGBUF_PERIOD_MIN_NS ? RINGBUF_PERIOD_MIN_NS
						 : ringbuf_bounded(period_ns, UINT64_C(1) << 61);
}

RINGBUF_FUNC void
ringbuf_consumer_set_timers(struct ringbuf_consumer *c, const struct ringbuf_consumer_options *o)
{
	uint64_t now = ringbuf_clock_ns(CLOCK_MONOTONIC);

	c->read_period_ns = ringbuf_consumer_period(
		o->read_period_ns, c->trace.ch->wakeup == RINGBUF_WAKEUP_WRITER
					   ? RINGBUF_READ_PERIOD_WRITER_NS
					   : RINGBUF_READ_PERIOD_NS);
	c->switch_period_ns = ringbuf_consumer_period(o->switch_period_ns, 0);
	c->next_read_ns = now + c->read_period_ns;
	c->next_switch_ns = now + c->switch_period_ns;
}

/* The thread takes no signals: they are for threads that know what to do with them. */
RINGBUF_FUNC int
ringbuf_consumer_spawn(struct ringbuf_consumer *c)
{
	sigset_t all, saved;
	int ret;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &saved);
	ret = pthread_create(&c->thread, NULL, ringbuf_consumer_main, c);
	pthread_sigmask(SIG_SETMASK, &saved, NULL);
	return -ret;
}

/* Forked off: the thread, the lock and the right are the parent's. */
RINGBUF_INLINE int
ringbuf_consumer_is_inherited(const struct ringbuf_consumer *c)
{
	return c->forks != ringbuf_registry.forks;
}

/*
 * ringbuf_consumer_start - write all streams of the channel to files, from now on.
 *
 * When it reads is the channel's wakeup: WRITER, when a packet is delivered;
 * TIMER, every read period; NONE, when poked, and after the channel is finalized.
 * The channel may be closed before the consumer is destroyed.
 * Callers:  any thread. Makes a thread; takes memory and descriptors.
 * Returns:  0; -EBUSY the channel has a reader; -EEXIST a stream file is there
 *           already; -EINVAL an impossible stream name; -RINGBUF_E_TRUNCATED;
 *           -errno of making the directory or the thread.
 */
RINGBUF_FUNC int
ringbuf_consumer_start(struct ringbuf_channel *ch, const struct ringbuf_consumer_options *options,
		       struct ringbuf_consumer **out)
{
	struct ringbuf_consumer *c = (struct ringbuf_consumer *)calloc(1, sizeof(*c));
	int ret = c ? ringbuf_trace_open(&c->trace, ch, options) : -ENOMEM;

	if (ret) {
		free(c);
		return ret;
	}
	c->forks = ringbuf_registry.forks;
	pthread_mutex_init(&c->lock, NULL);
	ringbuf_consumer_set_timers(c, options);
	ret = ringbuf_consumer_spawn(c);
	if (ret) {
		ringbuf_trace_put_back(&c->trace);
		if (c->trace.dir_made)
			rmdir(options->directory);
		ringbuf_trace_free(&c->trace);
		free(c);
		return ret;
	}
	*out = c;
	return 0;
}

/* Make the thread look at its flags, however deep it sleeps. Ordering: the flag was set
 * before the add, whose value the thread acquires before it looks (O13). */
RINGBUF_FUNC void
ringbuf_consumer_wake(struct ringbuf_consumer *c)
{
	struct ringbuf_control *control = c->trace.ch->control;

	if (!ringbuf_trace_is_whole(&c->trace))
		return; /* it will find out by itself, within RINGBUF_IDLE_NS */
	ringbuf_add(&control->data_seq, 1, RINGBUF_RELEASE); /* pairs with ringbuf_wait_prepare */
	ringbuf_futex_wake_all(&control->data_seq);
}

/*
 * ringbuf_consumer_poke - read now, whatever the channel's wakeup.
 * Callers: any thread, until the consumer is destroyed. Does not wait.
 */
RINGBUF_FUNC void
ringbuf_consumer_poke(struct ringbuf_consumer *c)
{
	if (ringbuf_consumer_is_inherited(c))
		return;
	/* O13 release: what I recorded before. Pairs with ringbuf_consumer_is_due. */
	ringbuf_store(&c->poked, 1, RINGBUF_RELEASE);
	ringbuf_consumer_wake(c);
}

/*
 * ringbuf_consumer_is_done - has the thread ended by itself?
 * It does when the channel is finalized and all is written, or when the region
 * was cut short. *result is then how: 0 or an error, as of ringbuf_consumer_stop.
 */
RINGBUF_FUNC int
ringbuf_consumer_is_done(const struct ringbuf_consumer *c, int *result)
{
	/* O13 acquire: the result. Pairs with ringbuf_consumer_main. */
	if (!ringbuf_load(&c->done, RINGBUF_ACQUIRE))
		return 0;
	if (result)
		*result = c->result;
	return 1;
}

/*
 * ringbuf_consumer_stop - flush, write all that was recorded before the call, and
 * what was lost; end the thread and give up the right to read.
 *
 * Waits at most timeout_ns for records in flight (a producer stopped in the
 * middle of one), and as long as it takes for the disk. A file that failed gets
 * one more try. What could not be written stays in the ring.
 * Callers:  any thread; again is harmless.
 * Returns:  0, or the first error that still stands: -errno of a file, -EUSERS
 *           the open packets could not be flushed, -ETIMEDOUT a record was in
 *           flight, -RINGBUF_E_TRUNCATED; -ECHILD in a forked child.
 */
RINGBUF_FUNC int
ringbuf_consumer_stop(struct ringbuf_consumer *c, uint64_t timeout_ns)
{
	if (ringbuf_consumer_is_inherited(c))
		return -ECHILD;
	pthread_mutex_lock(&c->lock);
	if (!c->joined) {
		c->stop_deadline_ns = ringbuf_deadline(timeout_ns);
		/* O13 release: the deadline. Pairs with ringbuf_consumer_run. */
		ringbuf_store(&c->stopping, 1, RINGBUF_RELEASE);
		ringbuf_consumer_wake(c);
		pthread_join(c->thread, NULL);
		c->joined = 1;
		c->close_error = ringbuf_trace_close(&c->trace);
	}
	pthread_mutex_unlock(&c->lock);
	return c->result ? c->result : c->close_error;
}

/*
 * ringbuf_consumer_stats - what has been written, what has failed, how full the ring is.
 * Callers: any thread, until the consumer is destroyed.
 */
RINGBUF_FUNC void
ringbuf_consumer_stats(const struct ringbuf_consumer *c, struct ringbuf_consumer_stats *st)
{
	ringbuf_trace_stats(&c->trace, st);
}

/* ringbuf_consumer_destroy - stop without waiting for anybody, and free. Callers: one, last. */
RINGBUF_FUNC void
ringbuf_consumer_destroy(struct ringbuf_consumer *c)
{
	if (ringbuf_consumer_stop(c, 0) != -ECHILD)
		pthread_mutex_destroy(&c->lock);
	ringbuf_trace_free(&c->trace);
	free(c);
}

/* ---- snapshot ---- */

/*
 * Hold the first packet at or after *pos that can be had. Passes over the
 * lapped, and over those that are not complete by the deadline.
 * Returns 0, or -ENODATA: there is none before the limit.
 */
RINGBUF_FUNC int
ringbuf_snapshot_get(struct ringbuf_trace *t, struct ringbuf_stream_file *f, uint64_t *pos,
		     uint64_t deadline_ns)
{
	const struct ringbuf_geometry *g = &t->ch->geometry;
	struct timespec pause = {0, (long)RINGBUF_STUCK_NS};

	while (ringbuf_pos_diff(*pos, f->limit) < 0) {
		uint64_t next = ringbuf_pos_add(*pos, ringbuf_subbuf_size(g)), oldest;
		int ret = ringbuf_get_subbuf(&f->reader, *pos);

		if (!ret)
			return 0;
		if (ret == -EAGAIN && ringbuf_clock_ns(CLOCK_MONOTONIC) < deadline_ns) {
			nanosleep(&pause, NULL);
			continue;
		}
		oldest = ringbuf_next_pos(&f->reader);
		if (ret == -ESTALE && ringbuf_pos_diff(oldest, next) > 0)
			next = ringbuf_pos_diff(oldest, f->limit) < 0 ? oldest : f->limit;
		ringbuf_bump(ret == -ESTALE ? &t->lapped : &t->incomplete,
			     ringbuf_pos_sub(next, *pos) >> g->subbuf_order);
		*pos = next;
	}
	return -ENODATA;
}

/* Write the held packet, if it belongs in the snapshot. Returns 0 or -errno. */
RINGBUF_FUNC int
ringbuf_snapshot_packet(struct ringbuf_trace *t, struct ringbuf_stream_file *f, uint64_t since)
{
	const struct ringbuf_packet *p = &f->reader.packet;

	if (!ringbuf_packet_is_sound(t->ch, p)) {
		ringbuf_bump(&t->corrupt, 1);
		return 0;
	}
	if (p->timestamp_end < since) {
		ringbuf_file_told(f, p); /* its losses are before what was asked for */
		ringbuf_bump(&t->before, 1);
		return 0;
	}
	return ringbuf_file_put(t, f);
}

/*
 * Losses after the last packet. Here the packet that tells them is made in the
 * file: one made in the ring would push out the oldest of an overwriting ring, and
 * there is no room for it in a full one.
 */
RINGBUF_FUNC int
ringbuf_snapshot_losses(struct ringbuf_trace *t, struct ringbuf_stream_file *f)
{
	const struct ringbuf_channel *ch = t->ch;
	struct ringbuf_stream *s = f->reader.s;
	uint64_t discarded = ringbuf_events_discarded(s);
	uint64_t now = ringbuf_timestamp(ch->client, ch, s);
	uint64_t seq = ringbuf_pos_sub(f->limit, ch->start_pos) >> ch->geometry.subbuf_order;
	int ret;

	if (discarded <= f->told || !ringbuf_has_ctf_packets(ch))
		return 0;
	if (now < f->end_timestamp)
		now = f->end_timestamp;
	ret = ringbuf_file_begin(t, f, f->limit, seq, now, discarded);
	return ret ? ret : ringbuf_file_append_empty(t, f, now, seq, discarded);
}

RINGBUF_FUNC int
ringbuf_snapshot_stream(struct ringbuf_trace *t, struct ringbuf_stream_file *f, uint64_t from,
			uint64_t since, uint64_t deadline_ns)
{
	uint64_t pos = from;
	int ret = 0;

	while (!ret && (f->reader.holding || ringbuf_snapshot_get(t, f, &pos, deadline_ns) == 0)) {
		if (!ringbuf_trace_is_whole(t))
			return -RINGBUF_E_TRUNCATED;
		ret = ringbuf_snapshot_packet(t, f, since);
		if (ret == -EFAULT && !ringbuf_trace_is_whole(t))
			return -RINGBUF_E_TRUNCATED;
		if (f->reader.packet.pos == pos)
			pos = ringbuf_pos_add(pos, ringbuf_subbuf_size(&t->ch->geometry));
		ringbuf_put_subbuf(&f->reader, RINGBUF_PUT_BACK);
	}
	return ret ? ret : ringbuf_snapshot_losses(t, f);
}

/*
 * Hold each stream's oldest packet, then flush: so no producer pushes the oldest
 * out in between. The flush itself enters no new sub-buffer, hence overwrites
 * nothing. Reading begins at from[], and ends where the flush has left the position.
 */
RINGBUF_FUNC void
ringbuf_snapshot_pin(struct ringbuf_trace *t, uint64_t *from)
{
	for (uint32_t i = 0; i < t->ch->n_streams; i++) {
		struct ringbuf_stream_file *f = &t->files[i];

		from[i] = ringbuf_next_pos(&f->reader);
		/* a dead reader's packet, held already, comes before `from` or is it */
		if (!f->reader.holding && ringbuf_get_next_subbuf(&f->reader) == 0)
			from[i] = f->reader.packet.pos;
	}
	ringbuf_trace_flush(t);
	ringbuf_trace_limit(t);
}

/* All streams, even if one fails. Returns 0 or the first error. */
RINGBUF_FUNC int
ringbuf_snapshot_streams(struct ringbuf_trace *t, const uint64_t *from,
			 const struct ringbuf_consumer_options *o)
{
	uint64_t deadline = ringbuf_deadline(o->timeout_ns ? o->timeout_ns : RINGBUF_IN_FLIGHT_NS);
	int first = 0;

	for (uint32_t i = 0; i < t->ch->n_streams; i++) {
		int ret = ringbuf_snapshot_stream(t, &t->files[i], from[i], o->since_timestamp, deadline);

		if (ret == -RINGBUF_E_TRUNCATED)
			return ret;
		if (ret) {
			ringbuf_file_failed(t, &t->files[i], -ret, 0);
			first = first ? first : ret;
		}
	}
	return first;
}

/*
 * ringbuf_snapshot_files - write all unread packets, oldest first, and leave them
 * in the ring.
 *
 * Flushes first, so that it has everything up to now. Packets that producers
 * overwrite meanwhile are missing, and counted. If no producer slot is free to
 * flush with, the newest, open packets are missing (flush_errors).
 * Callers:  any thread; takes memory and descriptors, and the right to read
 *           while it lasts.
 * Returns:  as ringbuf_consumer_start, or -errno of the first file that failed;
 *           what was written of the others stays. *st (not NULL) is filled in if
 *           0 or a file's error is returned.
 */
RINGBUF_FUNC int
ringbuf_snapshot_files(struct ringbuf_channel *ch, const struct ringbuf_consumer_options *options,
		       struct ringbuf_consumer_stats *st)
{
	struct ringbuf_trace *t = (struct ringbuf_trace *)calloc(1, sizeof(*t));
	uint64_t *from = (uint64_t *)calloc(ch->n_streams, sizeof(*from));
	int ret = t && from ? ringbuf_trace_open(t, ch, options) : -ENOMEM, closed;

	memset(st, 0, sizeof(*st));
	if (!ret) {
		ringbuf_snapshot_pin(t, from);
		ret = ringbuf_snapshot_streams(t, from, options);
		if (ret != -RINGBUF_E_TRUNCATED)
			ringbuf_trace_put_back(t);
		ringbuf_trace_stats(t, st);
		closed = ringbuf_trace_close(t);
		ret = ret ? ret : closed;
		ringbuf_trace_free(t);
	}
	free(from);
	free(t);
	return ret;
}

#endif /* RINGBUF_CONSUMER_H */
