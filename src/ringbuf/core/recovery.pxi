# recovery.pxi - part of _core: regions whose processes are dead; ringbuf.record.recovery is the thing to use.

cdef extern from "ringbuf/recover.h" nogil:
    cdef struct ringbuf_last_words:
        uint32_t pid
        uint32_t tid
        uint64_t start
        char name[17]
        uint64_t timestamp
        uint32_t open

    cdef struct ringbuf_recovery:
        ringbuf_consumer_options files
        bint all
        int64_t (*check)(void *arg, const ringbuf_packet *p, bint agrees) noexcept
        int (*pause)(void *arg) noexcept
        void *arg
        uint64_t timestamp

    cdef struct ringbuf_recovered_stream:
        uint64_t packets
        uint64_t records
        uint64_t damaged
        uint64_t consumed
        bint astray
        bint blank

    int ringbuf_recover_copy(int fd, uint64_t *missing)
    bint ringbuf_get_last_words(const ringbuf_channel *ch, uint32_t idx, ringbuf_last_words *out)
    void ringbuf_recover_stats(const ringbuf_channel *ch, const ringbuf_recovered_stream *streams, ringbuf_stats *st)
    int ringbuf_recover_files(ringbuf_channel *ch, ringbuf_recovery *how, ringbuf_recovered_stream *streams)


def copy_region(int fd, what):
    """A memfd with what the file behind `fd` has of its region, and how many bytes that is too short."""
    cdef uint64_t missing = 0
    cdef int copy
    with nogil:
        copy = ringbuf_recover_copy(fd, &missing)
    if copy < 0:
        raise _region_error(copy, what)
    return copy, missing


def last_words(Channel channel not None):
    """Producers that held their slots to the end: list of (pid, tid, process start, thread name, time, open records)."""
    cdef ringbuf_channel *ch = channel.enter_open()
    cdef ringbuf_last_words words
    cdef uint32_t i
    found = []
    try:
        for i in range(ch.n_producers):
            if ringbuf_get_last_words(ch, i, &words):
                found.append((words.pid, words.tid, words.start, (<const char *>words.name).decode("utf-8", "replace"),
                              words.timestamp, words.open))
    finally:
        channel.leave()
    return found


@cython.final
@cython.internal
cdef class _Judge:
    """Calls back to Python for each packet; the first exception ends the judging, and is kept."""

    cdef Channel channel
    cdef object function, error

    cdef int64_t judge(self, const ringbuf_packet *p, bint agrees) except -2:
        data = memoryview(_view(self.channel, p.data, p.packet_size, True))
        return self.function(data, p.stream_idx, p.sequence_number, agrees)


cdef int64_t _judge(void *arg, const ringbuf_packet *p, bint agrees) noexcept:
    cdef _Judge judge = <_Judge>arg
    if judge.error is not None:
        return -1
    try:
        return judge.judge(p, agrees)
    except BaseException as error:
        judge.error = error
        return -1


cdef int _pause(void *arg) noexcept:
    """Let signal handlers run; an exception, of theirs or of the judge, ends the recovery."""
    cdef _Judge judge = <_Judge>arg
    if judge.error is None:
        try:
            PyErr_CheckSignals()
        except BaseException as error:
            judge.error = error
    return judge.error is not None


cdef object _stats_recovered(const ringbuf_channel *ch, uint32_t index, bint is_blank):
    """To count what is a hole of the copy would take its memory, for thousands of streams, perhaps."""
    cdef ringbuf_stats st
    memset(&st, 0, sizeof(st))
    if not is_blank:
        ringbuf_add_stream_stats(ch, index, &st)
    return _stats(&st)


def recover_files(Channel channel not None, directory, str name, check, include_consumed):
    """Repair a copied region and write its packets to stream files.

    ``check(data, stream, sequence_number, agrees)`` returns the number of records of a packet,
    or -1 if it is damaged. Returns the time of the end, `Stats`, and a dict for each stream.
    """
    cdef ringbuf_recovery how
    cdef bytes name_bytes = name.encode()
    cdef _Judge judge = _Judge.__new__(_Judge)
    cdef ringbuf_recovered_stream *streams = NULL
    cdef ringbuf_channel *ch
    cdef ringbuf_stats st
    cdef int ret
    judge.channel, judge.function = channel, check
    memset(&how, 0, sizeof(how))
    how.files.dir_fd = directory.fileno()
    how.files.stream_name = name_bytes
    how.all = bool(include_consumed)
    how.check = _judge
    how.pause = _pause
    how.arg = <void *>judge
    ch = channel.enter_open()
    try:
        streams = <ringbuf_recovered_stream *>calloc(ch.n_streams, sizeof(ringbuf_recovered_stream))
        if streams is NULL:
            raise MemoryError()
        ret = ringbuf_recover_files(ch, &how, streams)
        if judge.error is not None:
            raise judge.error
        _check_consumer(ret, channel, directory)
        ringbuf_recover_stats(ch, streams, &st)
        return how.timestamp, _stats(&st), [
            {"packets": streams[i].packets, "records": streams[i].records, "damaged": streams[i].damaged,
             "consumed": streams[i].consumed, "astray": bool(streams[i].astray),
             "stats": _stats_recovered(ch, i, streams[i].blank)} for i in range(ch.n_streams)]
    finally:
        channel.leave()
        free(streams)


def is_region_used(int fd):
    """bool: a living process has the region behind `fd`, a description of the caller's own."""
    cdef int used = ringbuf_is_used(fd)
    return used > 0 if used >= 0 else bool(_seen_users(fd, True))


def is_last_user(int fd):
    """bool: nobody but this process has the region behind `fd`, a description of the caller's own.

    If so it is locked until that is closed, so that nobody begins to use it. For a process that ends.
    """
    cdef int last = ringbuf_is_last_user(fd)
    return last > 0 if last >= 0 else not _seen_users(fd, False)


cdef object _seen_users(int fd, bint ourselves):
    """Where the file system knows no locks: the processes that have it open, with this one or without."""
    from .record.processes import users_of
    return [pid for pid in users_of(fd) if ourselves or pid != os.getpid()]


def describe_region(int fd, what):
    """dict of what the superblock behind `fd` says; nothing is mapped. Raises as `ringbuf.attach`."""
    cdef ringbuf_superblock sb
    cdef uint64_t size = 0
    cdef int ret = ringbuf_check_superblock(fd, &sb, &size)
    if ret:
        raise _region_error(ret, what)
    return {"name": sb.name.decode("utf-8", "backslashreplace"), "mode": "overwrite" if sb.mode else "discard",
            "program": sb.program.decode("utf-8", "replace"), "pid": sb.creator_pid, "start": sb.creator_start,
            "size": sb.region_size}
