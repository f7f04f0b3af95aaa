# recorder.pxi - part of _core: the native consumer, and snapshots to files.

cdef extern from "ringbuf/directory.h" nogil:
    int ringbuf_directory_open(const char *path, int *made)


cdef extern from "ringbuf/consumer.h" nogil:
    cdef struct ringbuf_consumer_options:
        int dir_fd
        const char *stream_name
        uint64_t read_period_ns
        uint64_t switch_period_ns
        uint64_t max_size
        uint64_t since_timestamp
        uint64_t timeout_ns

    cdef struct ringbuf_consumer_stats_t "ringbuf_consumer_stats":
        uint64_t packets
        uint64_t records
        uint64_t bytes
        uint64_t packets_rotated
        uint64_t records_rotated
        uint64_t bytes_rotated
        uint64_t write_errors
        uint64_t flush_errors
        uint64_t corrupt
        uint64_t streams_failed
        int last_error
        uint32_t last_error_stream
        uint64_t lapped
        uint64_t incomplete
        uint64_t before
        uint64_t unread
        uint64_t capacity
        uint64_t fullest

    cdef struct ringbuf_consumer:
        pass

    uint64_t ringbuf_consumer_period(uint64_t period_ns, uint64_t by_default)
    int ringbuf_consumer_start(ringbuf_channel *ch, const ringbuf_consumer_options *options, ringbuf_consumer **out)
    void ringbuf_consumer_poke(ringbuf_consumer *c)
    bint ringbuf_consumer_is_done(const ringbuf_consumer *c, int *result)
    int ringbuf_consumer_stop(ringbuf_consumer *c, uint64_t timeout_ns)
    void ringbuf_consumer_get_stats "ringbuf_consumer_stats" (const ringbuf_consumer *c, ringbuf_consumer_stats_t *st)
    void ringbuf_consumer_destroy(ringbuf_consumer *c)
    int ringbuf_snapshot_files(ringbuf_channel *ch, const ringbuf_consumer_options *options,
                               ringbuf_consumer_stats_t *st)


cdef extern from "ringbuf/image.h" nogil:
    int ringbuf_has_others(const ringbuf_channel *ch)


def has_others(Channel channel not None):
    """bool: another process that lives has the channel; None: it cannot be known here."""
    cdef ringbuf_channel *ch = channel.enter_open()
    cdef int ret = ringbuf_has_others(ch)
    channel.leave()
    return None if ret < 0 else ret != 0


cdef dict _consumer_stats(ringbuf_consumer_stats_t *st):
    return {"packets": st.packets, "records": st.records, "bytes": st.bytes,
            "packets_rotated": st.packets_rotated, "records_rotated": st.records_rotated,
            "bytes_rotated": st.bytes_rotated, "write_errors": st.write_errors,
            "flush_errors": st.flush_errors, "corrupt": st.corrupt, "streams_failed": st.streams_failed,
            "last_error": st.last_error, "lapped": st.lapped, "incomplete": st.incomplete, "before": st.before,
            "unread_bytes": st.unread, "capacity": st.capacity, "fullest": st.fullest}


def open_directory(path):
    """A descriptor of a directory to write in, made if it is missing, and whether it was made."""
    cdef bytes path_bytes = _path_bytes(path)
    cdef const char *chars = path_bytes
    cdef int made = 0, fd
    with nogil:
        fd = ringbuf_directory_open(chars, &made)
    if fd == -EPERM:
        raise PermissionError(EPERM, "the directory is somebody else's, or everybody may write in it: name a new one, "
                              "or one of your own", path)
    if fd < 0:
        raise _region_error(fd, path)
    return fd, made != 0


cdef int _check_consumer(int ret, Channel channel, object directory) except -1:
    """Raise what starting a consumer or a snapshot came to."""
    if ret == -EBUSY:
        raise ReaderBusyError("another reader, or recorder, has the channel")
    if ret == -EAGAIN:
        raise OSError(EAGAIN, "no thread can be made to write the trace: the limit of processes, ulimit -u or that "
                      "of the container, is reached, or clone is forbidden (by seccomp, perhaps)", directory.path)
    if ret <= -4096:  # of the channel, not of the directory
        raise _region_error(ret, _name_of(channel))
    if ret:
        raise _region_error(ret, directory.path)
    return 0


@cython.final
@cython.no_gc_clear
cdef class Consumer:
    """The native thread that writes packets to files; `ringbuf.Recorder` is the thing to use.

    Thread safety: any thread. Source: include/ringbuf/consumer.h.
    """

    cdef Channel channel
    cdef ringbuf_consumer *c

    def __cinit__(self, Channel channel not None, directory, str name not None, read_period, switch_period,
                  uint64_t max_size=0):
        cdef ringbuf_consumer_options options
        cdef bytes name_bytes = name.encode()
        cdef ringbuf_channel *ch
        cdef int ret
        memset(&options, 0, sizeof(options))
        options.dir_fd = directory.fileno()
        options.stream_name = name_bytes
        options.read_period_ns = _nanoseconds("read_timer", read_period or 0)
        options.switch_period_ns = _nanoseconds("switch_timer", switch_period or 0)
        options.max_size = max_size
        ch = channel.enter_open()
        with nogil:
            ret = ringbuf_consumer_start(ch, &options, &self.c)
        if ret:
            channel.leave()
        _check_consumer(ret, channel, directory)
        self.channel = channel

    def __dealloc__(self):
        if self.c is not NULL:
            with nogil:
                ringbuf_consumer_destroy(self.c)
            self.channel.leave()

    def stop(self, timeout):
        """Flush, write what is there, end the thread. Returns 0 or a negative errno that still stands."""
        cdef uint64_t ns = _nanoseconds("timeout", timeout)
        cdef int ret
        with nogil:
            ret = ringbuf_consumer_stop(self.c, ns)
        return ret

    def poke(self):
        """Read now, whatever the channel's wakeup."""
        ringbuf_consumer_poke(self.c)

    def schemas(self):
        """As `Channel.schemas`; the channel may be closed."""
        return _schemas(self.channel.mapped_ch())

    def channel_stats(self):
        """As `Channel.stats`; the channel may be closed."""
        cdef ringbuf_stats st
        ringbuf_channel_stats(self.channel.mapped_ch(), &st)
        return _stats(&st)

    def metrics(self):
        """As `read_metrics`, and the time; the channel may be closed."""
        cdef ringbuf_channel *ch = self.channel.mapped_ch()
        return _read_metrics(ch), self.channel.clock() if self.channel.clock is not None else ringbuf_clock_ordered(ch)

    @property
    def result(self):
        """None while the thread runs, then 0 or a negative errno."""
        cdef int result = 0
        return result if ringbuf_consumer_is_done(self.c, &result) else None

    def stats(self):
        """dict of counters."""
        cdef ringbuf_consumer_stats_t st
        ringbuf_consumer_get_stats(self.c, &st)
        return _consumer_stats(&st)

    @staticmethod
    def strerror(int error):
        """Text for a negative result."""
        return (<const char *>ringbuf_strerror(error)).decode()


def snapshot_files(Channel channel not None, directory, str name not None, uint64_t since_timestamp, timeout):
    """Write all unread packets to stream files, consuming none; returns a dict of counters."""
    cdef ringbuf_consumer_options options
    cdef ringbuf_consumer_stats_t st
    cdef bytes name_bytes = name.encode()
    cdef ringbuf_channel *ch
    cdef int ret
    memset(&options, 0, sizeof(options))
    options.dir_fd = directory.fileno()
    options.stream_name = name_bytes
    options.since_timestamp = since_timestamp
    options.timeout_ns = _nanoseconds("timeout", timeout)
    ch = channel.enter_open()
    try:
        with nogil:
            ret = ringbuf_snapshot_files(ch, &options, &st)
    finally:
        channel.leave()
    _check_consumer(ret, channel, directory)
    return _consumer_stats(&st)
