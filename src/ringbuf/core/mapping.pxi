# mapping.pxi - part of _core: a stream's mapping, over map.h.

cdef extern from "<errno.h>" nogil:
    const int ECANCELED  # not in libc.errno


def end_packet(packet not None):
    """Write into the header of a packet that is still being written that it ends here, when it began.

    Parameters
    ----------
    packet : writable buffer of bytes, shape (n,)
        A copy of the packet so far, in the built-in format. ValueError: it is shorter than a header.
    """
    cdef ringbuf_ctf_packet_header *header
    cdef Py_buffer view  # not a memoryview of Cython's, which imports collections.abc
    PyObject_GetBuffer(packet, &view, PyBUF_WRITABLE)
    try:
        if view.len < <Py_ssize_t>RINGBUF_CTF_PACKET_HEADER_SIZE_GLOBAL:
            raise ValueError("a packet is not shorter than its header")
        header = <ringbuf_ctf_packet_header *>view.buf
        header.timestamp_end = header.timestamp_begin
        header.content_size = header.packet_size = 8 * view.len
    finally:
        PyBuffer_Release(&view)


@cython.final
@cython.no_gc_clear
cdef class StreamMap:
    """A stream's meta page and sub-buffers, read-only, and the call that swaps.

    What `ringbuf.live.mapping.Mapping` is made of. ``memoryview(map)`` is the whole mapping; it
    stays until the last view of it is gone.
    """

    # All of it: critical section.
    cdef readonly Channel channel
    cdef readonly uint32_t stream
    cdef ringbuf_map map
    cdef uint64_t period_ns
    cdef Py_ssize_t exports
    cdef int callers                 # that are in the map without the GIL
    cdef bint is_open, is_mapped

    def __cinit__(self, Channel channel not None, stream):
        cdef ringbuf_channel *ch
        cdef int ret
        self.stream = channel.checked_stream(stream)
        ch = channel.enter_whole()
        try:
            with nogil:
                ret = ringbuf_map_open(ch, self.stream, &self.map)
            if ret == -EBUSY:
                raise ReaderBusyError("a reader has the stream")
            if ret:
                raise _region_error(ret, _name_of(channel))
        except:
            channel.leave()
            raise
        self.period_ns = ringbuf_consumer_period(ch.super.read_timer_ns, _DEFAULT_READ_PERIOD_NS)
        self.channel = channel
        self.is_open = self.is_mapped = True
        channel.open_ch()  # closed meanwhile: __dealloc__ gives all of it back

    def __dealloc__(self):
        self.close()
        self.unmap()

    cdef unmap(self):
        if self.is_mapped and not self.callers:
            self.is_mapped = False
            ringbuf_map_unmap(&self.map)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        with cython.critical_section(self):
            if not self.is_open:
                raise ValueError("the mapping is closed")
            PyBuffer_FillInfo(buffer, self, self.map.base, <Py_ssize_t>self.map.size, True, flags)
            self.exports += 1

    def __releasebuffer__(self, Py_buffer *buffer):
        with cython.critical_section(self):
            self.exports -= 1
            if not self.exports and not self.is_open:
                self.unmap()

    cdef ringbuf_map *checked(self) except NULL:
        if not self.is_open:
            raise ValueError("the mapping is closed")
        self.channel.open_ch()
        if self.map.right.fd < 0:
            raise RuntimeError("the mapping belongs to the parent of this process")
        self.channel.whole_ch()
        return &self.map

    cdef ringbuf_map *enter(self) except NULL:
        """As `checked`, for a call during which other code may run: who closes meanwhile leaves the end to it."""
        cdef ringbuf_map *map = self.checked()
        self.callers += 1
        return map

    cdef leave(self):
        self.callers -= 1
        if not self.callers and not self.is_open:
            self.release()

    @cython.critical_section
    def check(self):
        """ValueError: the mapping is closed. RegionError: the file was cut short, so its memory must not be touched."""
        if not self.is_open:
            raise ValueError("the mapping is closed")
        self.channel.mapped_ch()

    @cython.critical_section
    def get_reader(self):
        """The reader's sub-buffer, as of now (int); see `ringbuf.live.mapping.Mapping.get_reader`."""
        cdef ringbuf_map *map = self.enter()
        cdef int ret
        with nogil:
            ret = ringbuf_map_get_reader(map)
        self.leave()
        return self.result(ret)

    cdef object result(self, int ret):
        if ret < 0:
            raise _region_error(ret, _name_of(self.channel))
        return ret

    @property
    def new_range(self):
        """tuple of (int, int): bytes of the sub-buffer that the last `get_reader` handed out."""
        return self.map.begin, self.map.end

    @cython.critical_section
    def is_ready(self, unsigned int percent):
        """bool: `percent` of the sub-buffers wait to be handed out; 0: anything does."""
        cdef int ret = ringbuf_map_is_ready(self.enter(), percent)
        self.leave()
        return self.result(ret) > 0

    @cython.critical_section
    def wait(self, timeout, unsigned int percent):
        """bool: as `is_ready`, after waiting for it; True too if woken, or finalized."""
        cdef uint64_t deadline = ringbuf_deadline(_nanoseconds("timeout", timeout)), until
        cdef ringbuf_map *map
        cdef int ret
        while True:
            map = self.enter()
            until = min(deadline, _now_ns() + _WAIT_STEP_NS)
            with nogil:
                ret = ringbuf_map_wait(map, percent, self.period_ns, until)
            self.leave()
            if ret == 0 or ret == -ECANCELED:
                return True
            if ret != -ETIMEDOUT and ret != -EINTR:
                return self.result(ret)
            PyErr_CheckSignals()
            if _now_ns() >= deadline:
                self.checked()
                return False

    @cython.critical_section
    def wake(self):
        """End every wait on the stream, in every process."""
        self.checked()
        ringbuf_map_wake(self.channel.ch, self.stream)

    @cython.critical_section
    def flush(self):
        """End the stream's current packet."""
        self.enter()
        try:
            _flush(self.channel.ch, self.channel.producer(), self.stream, 0)
        finally:
            self.leave()

    @cython.critical_section
    def clear(self):
        """Throw away what was not handed out yet; it counts as overrun."""
        cdef ringbuf_map *map = self.enter()
        cdef int ret
        try:
            ret = ringbuf_map_clear(map, self.channel.producer())
        finally:
            self.leave()
        self.result(ret)

    @cython.critical_section
    def is_at_end(self):
        """bool: the channel is finalized, and everything was handed out."""
        cdef ringbuf_map *map = self.enter()
        cdef int ret
        try:
            ret = ringbuf_map_is_at_end(map, self.channel.producer())
        finally:
            self.leave()
        return self.result(ret) > 0

    @property
    def closed(self):
        """bool"""
        return not self.is_open

    @cython.critical_section
    def close(self):
        """Give up the right to read, once calls in other threads have ended. Twice is harmless."""
        if not self.is_open:
            return
        self.is_open = False
        if not self.callers:
            self.release()

    cdef release(self):
        if self.map.right.fd >= 0 and ringbuf_is_whole(self.channel.ch):
            ringbuf_map_release(&self.map)
        ringbuf_close_reader(&self.map.right)
        if not self.exports:
            self.unmap()
        self.channel.leave()
