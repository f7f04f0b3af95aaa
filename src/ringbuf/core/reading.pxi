# reading.pxi - part of _core: Reader and Packet.

@cython.final
cdef class Packet:
    """A delivered sub-buffer in the reader's hands.

    ``memoryview(packet)`` is its `packet_size` bytes, read-only and without a copy: what a
    CTF stream file holds, with padding after the first `content_size`. It must be released,
    by `release`, as a context manager, or by asking the reader for the next packet; not
    before every memoryview of it is.
    """

    cdef Reader reader
    cdef ringbuf_packet p
    cdef int exports     # this and `is_held`: critical section
    cdef ringbuf_put how
    cdef bint is_held, is_per_cpu

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        with cython.critical_section(self):
            if not self.is_held:
                raise ValueError("the packet is released")
            PyBuffer_FillInfo(buffer, self, <void *>self.p.data, <Py_ssize_t>self.p.packet_size, True, flags)
            self.exports += 1

    def __releasebuffer__(self, Py_buffer *buffer):
        with cython.critical_section(self):
            self.exports -= 1

    @property
    def stream_id(self):
        """int: class of the stream, 0, as in the packet header."""
        return 0

    @property
    def stream(self):
        """int: index of the stream."""
        return self.p.stream_idx

    @property
    def cpu(self):
        """int, or None in a global channel."""
        return self.p.stream_idx if self.is_per_cpu else None

    @property
    def timestamp_begin(self):
        """int: ticks of the channel's clock."""
        return self.p.timestamp_begin

    @property
    def timestamp_end(self):
        """int: ticks; not before any record of the packet, not after the next packet's begin."""
        return self.p.timestamp_end

    @property
    def content_size(self):
        """int: bytes, the packet header included."""
        return self.p.content_size

    @property
    def packet_size(self):
        """int: bytes; the content rounded up to whole pages."""
        return self.p.packet_size

    @property
    def events_discarded(self):
        """int: records of this stream lost since the channel began, when the packet was closed."""
        return self.p.events_discarded

    @property
    def sequence_number(self):
        """int: of this packet in its stream; a gap means that packets were overwritten."""
        return self.p.sequence_number

    @property
    def n_records(self):
        """int"""
        return self.p.records

    @property
    def released(self):
        """bool"""
        return not self.is_held

    def release(self):
        """Give the packet back, as read. Twice is harmless.

        Raises BufferError while a memoryview of the packet exists.
        """
        if self.let_go():
            self.reader.put(self)

    @cython.critical_section
    cdef bint let_go(self) except -1:
        """Whoever gets True gives it back."""
        if self.is_held and self.exports:
            raise BufferError(f"{self.exports} memoryview(s) of the packet are in use: release them first")
        was_held, self.is_held = self.is_held, False
        return was_held

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.release()

    def __repr__(self):
        return (f"<ringbuf.Packet {self.p.sequence_number} of stream {self.p.stream_idx}: "
                f"{self.p.records} records, {self.p.content_size} bytes>")


@cython.final
@cython.no_gc_clear
cdef class Reader:
    """The one reader of a channel, or of one stream. From `Channel.reader`.

    Iterating gives packets until the channel is finalized and drained; so does ``async
    for``. A context manager; closing it gives the right to read to the next one, which
    goes on where this one stopped.

    Thread safety: one thread at a time. More do no harm, but to each other: what one asks for
    releases the packet of another.
    """

    # All of it: critical section, so that of several threads one at a time goes on, as with a GIL.

    cdef readonly Channel channel
    cdef ringbuf_right right
    cdef ringbuf_stream_reader *streams
    cdef uint32_t n_streams
    cdef uint32_t turn               # the stream to look at first
    cdef Packet current
    cdef uint64_t period_ns, switch_ns, next_switch_ns
    cdef bint is_open
    cdef int callers                 # calls during which other code may run, and close it
    cdef object notifier
    cdef public object _cursors      # what records() has in hand between two calls
    cdef object __weakref__

    def __init__(self):
        raise TypeError("a Reader comes from Channel.reader() or Stream.reader()")

    @staticmethod
    cdef Reader _open(Channel channel, stream):
        cdef Reader self = Reader.__new__(Reader)
        cdef uint32_t first = 0 if stream is None else channel.checked_stream(stream)
        cdef ringbuf_channel *ch = channel.enter_open()
        cdef int ret
        try:
            channel.whole_ch()
            self.n_streams = ch.n_streams if stream is None else 1
            self.streams = <ringbuf_stream_reader *>calloc(self.n_streams, sizeof(ringbuf_stream_reader))
            if self.streams is NULL:
                raise MemoryError()
            ret = ringbuf_open_reader(ch, first, self.n_streams, &self.right)
            if ret == -EBUSY:
                raise ReaderBusyError("another reader has the channel")
            if ret:
                raise _region_error(ret, _name_of(channel))
        except:
            channel.leave()
            raise
        self.channel = channel
        self.is_open = True
        self.period_ns = ringbuf_consumer_period(ch.super.read_timer_ns, _DEFAULT_READ_PERIOD_NS)
        self.switch_ns = ringbuf_consumer_period(ch.super.switch_timer_ns, 0)
        self.next_switch_ns = _now_ns() + self.switch_ns
        for i in range(self.n_streams):
            self.open_stream(&self.streams[i], first + i)
        return self

    cdef open_stream(self, ringbuf_stream_reader *r, uint32_t index):
        ringbuf_stream_reader_init(self.channel.ch, index, r)
        # A snapshot died over a packet that is not the oldest: that one has its turn in order.
        if r.holding and ringbuf_pos_diff(r.packet.pos, ringbuf_next_pos(r)) > 0:
            ringbuf_put_subbuf(r, RINGBUF_PUT_BACK)

    def __dealloc__(self):
        if self.is_open:
            self._close()
        free(self.streams)

    cdef _close(self):
        self.is_open = False
        if not self.callers:
            self.give_up()

    cdef give_up(self):
        """Unread packets stay unread: what is held goes back."""
        if self.right.fd >= 0:  # not in a forked child
            for i in range(self.n_streams):
                if (self.streams[i].holding and ringbuf_is_ours(self.right.fd, &self.right.file) and
                        ringbuf_is_whole(self.channel.ch)):
                    ringbuf_put_subbuf(&self.streams[i], RINGBUF_PUT_BACK)
            ringbuf_close_reader(&self.right)
        self.channel.leave()

    cdef ringbuf_stream_reader *stream_of(self, Packet packet):
        return &self.streams[packet.p.stream_idx - self.streams[0].stream_idx]

    @cython.critical_section
    cdef put(self, Packet packet):
        # In a forked child it is the parent's; of a truncated file, nothing may be touched.
        cdef ringbuf_stream_reader *r = self.stream_of(packet)
        if self.is_open and self.right.fd >= 0 and ringbuf_is_whole(self.channel.ch):
            self.keep_right()
            if r.holding and r.packet.pos == packet.p.pos:
                ringbuf_put_subbuf(r, packet.how)
        if self.current is packet:
            self.current = None

    cdef _release_current(self):
        current = self.current
        if current is not None:
            current.release()

    cdef int check(self) except -1:
        if not self.is_open:
            raise ValueError("the reader is closed")
        if self.right.fd < 0:
            raise RuntimeError("the reader belongs to the parent of this process")
        self.channel.whole_ch()
        self.keep_right()
        return 0

    cdef int keep_right(self) except -1:
        """Read on, if the program has closed our lock's descriptor and nobody else reads by now."""
        cdef int ret = ringbuf_keep_right(self.channel.ch, self.streams[0].stream_idx, self.n_streams, F_WRLCK,
                                          &self.right)
        if ret == -EBUSY:
            raise ReaderBusyError("the program closed the reader's descriptor, and another reader has the channel now")
        if ret < 0:
            raise _region_error(ret, _name_of(self.channel))
        if ret:
            for i in range(self.n_streams):
                ringbuf_catch_up(&self.streams[i])
        return 0

    cdef int enter(self) except -1:
        """As `check`, for a call during which other code may run: a callback, a signal handler, another thread.

        Who closes the reader meanwhile leaves the end of it to `leave`.
        """
        self.check()
        self.callers += 1
        return 0

    cdef leave(self):
        self.callers -= 1
        if not self.callers and not self.is_open:
            self.give_up()

    cdef Packet wrap(self, ringbuf_stream_reader *r, ringbuf_put how):
        cdef Packet packet = Packet.__new__(Packet)
        self.check()  # closed in a callback, while the packet was fetched: it goes back
        packet.reader = self
        packet.p = r.packet
        packet.how = how
        packet.is_per_cpu = self.channel.ch.streams == RINGBUF_PER_CPU
        packet.is_held = True
        self.current = packet
        return packet

    cdef Packet poll(self):
        """The next packet of any stream that has one, or None."""
        cdef ringbuf_stream_reader *r
        for i in range(self.n_streams):
            r = &self.streams[(self.turn + i) % self.n_streams]
            # held already: taken over from a reader that died
            if r.holding or ringbuf_get_next_subbuf(r) == 0:
                self.turn = (self.turn + i + 1) % self.n_streams
                return self.wrap(r, RINGBUF_PUT_READ)
        return None

    cdef bint is_at_end(self):
        """Finalized, and everything read, for good."""
        cdef ringbuf_producer *producer = ringbuf_this_producer(self.channel.ch)
        if producer is NULL:
            return False  # no slot to close the streams with; another look comes
        for i in range(self.n_streams):
            if not ringbuf_is_at_end(&self.streams[i], producer.slot):
                return False
        return True

    cdef bint has_packet(self):
        for i in range(self.n_streams):
            if self.streams[i].holding or ringbuf_has_packet(&self.streams[i]):
                return True
        return False

    cdef bint repair(self):
        """Nothing can be had: because of a dead producer? True: look again."""
        for i in range(self.n_streams):
            if not self.streams[i].holding and ringbuf_repair_next(&self.streams[i]):
                return True
        return False

    cdef run_switch_timer(self):
        """Flush when the channel's switch timer says so: a waiting reader is who wants it."""
        cdef uint64_t now
        if self.switch_ns:
            now = _now_ns()
            if now >= self.next_switch_ns:
                self.flush()
                self.next_switch_ns = max(self.next_switch_ns + self.switch_ns, now)

    cdef sleep(self, uint32_t seq, uint64_t deadline):
        cdef ringbuf_channel *ch = self.channel.ch
        cdef uint64_t now = _now_ns(), until
        until = min(deadline, now + (_WAIT_STEP_NS if ch.wakeup == RINGBUF_WAKEUP_WRITER else self.period_ns))
        if self.switch_ns:
            until = min(until, max(self.next_switch_ns, now))
        with nogil:
            ringbuf_wait_for_data(ch, seq, until)
        PyErr_CheckSignals()

    @cython.critical_section
    def next(self, timeout=None):
        """The next unread packet, oldest first within its stream.

        The packet that was returned before is released, as read.

        Parameters
        ----------
        timeout : float or None
            Seconds to wait for one; None: for ever; 0: only look.

        Returns
        -------
        Packet or None
            None on time-out.

        Raises
        ------
        EndOfStream
            The channel is finalized and everything is read.
        BufferError
            A memoryview of the packet before is in use.
        """
        cdef uint64_t deadline = ringbuf_deadline(_nanoseconds("timeout", timeout))
        cdef uint32_t seq
        cdef bint final
        cdef Packet packet
        self.enter()
        try:
            self._release_current()
            while True:
                seq = ringbuf_data_wanted(self.channel.ch)
                final = ringbuf_is_finalized(self.channel.ch)  # before the look: what was recorded is seen
                self.run_switch_timer()
                packet = self.poll()
                if packet is not None:
                    return packet
                if final and self.is_at_end():
                    raise EndOfStream("the channel is finalized and read to the end")
                if self.repair():
                    continue
                self.check()
                if _now_ns() >= deadline:
                    return None
                self.sleep(seq, deadline)
                self.check()
        finally:
            self.leave()

    @cython.critical_section
    def wait(self, timeout=None):
        """Wait for a packet, or for the end; takes nothing.

        Returns
        -------
        bool
            False on time-out.
        """
        cdef uint64_t deadline = ringbuf_deadline(_nanoseconds("timeout", timeout))
        cdef uint32_t seq
        self.enter()
        try:
            while True:
                seq = ringbuf_data_wanted(self.channel.ch)
                self.run_switch_timer()
                if self.has_packet() or ringbuf_is_finalized(self.channel.ch) or self.repair():
                    return True
                if _now_ns() >= deadline:
                    return False
                self.sleep(seq, deadline)
                self.check()
        finally:
            self.leave()

    def __iter__(self):
        return self

    def __next__(self):
        try:
            return self.next()
        except EndOfStream:  # the packet before is released
            raise StopIteration from None

    def __aiter__(self):
        return self

    async def __anext__(self):
        from .live.notify import readable
        while True:
            try:
                packet = self.next(timeout=0)
            except EndOfStream:
                raise StopAsyncIteration from None
            if packet is not None:
                return packet
            await readable(self)

    @cython.critical_section
    def fileno(self):
        """A descriptor that is readable while a packet waits or the channel is finalized.

        An eventfd, served by a thread that starts with the first call. It may be readable
        once more after the last packet was taken.
        """
        from .live.notify import Notifier
        self.check()
        notifier = self.notifier
        if notifier is None:
            notifier = Notifier(self)
            if self.notifier is not None or not self.is_open:  # another thread, meanwhile
                notifier.close()
                self.check()
            else:
                self.notifier = notifier
        return self.notifier.fileno()

    def records(self, timeout=None):
        """Iterate over records of all streams in order of time, until finalized and drained.

        Each look flushes the streams, so records come soon after they are committed. The
        records of a packet count as read together; those that are left when you stop early
        come with the next call.

        Parameters
        ----------
        timeout : float or None
            Stop after this many seconds without a record; None: wait for the end.

        Yields
        ------
        Record
            ``timestamp`` in ticks of the channel's clock, ``time_ns``, ``name``, ``cpu``,
            ``fields``, ``contexts``, ``payload``. Copies: they outlive the packet.
        """
        from .live.merge import merged_records
        return merged_records(self, timeout)

    def batches(self, event, timeout=None, copy=True):
        """Iterate over the records of one event as structured arrays, until the channel is finalized and drained.

        Each array has the records of one packet, in order of time; those of several streams
        are not merged. Each look that finds no full packet flushes the streams. The records
        of other events count as read, too. Also for ``async for``.

        Parameters
        ----------
        event : str or Event
            Its name, which may be declared later.
        timeout : float or None
            Stop after this many seconds without a record; None: wait for the end.
        copy : bool
            If false, arrays have the contexts and fields alone and, where a packet holds nothing
            but such events, all of one size, they are the packet itself, read-only. Such an
            array must be gone before the next one is asked for: ``del`` it.

        Yields
        ------
        numpy.ndarray
            Not empty. Columns as of `Trace.to_numpy`: ``timestamp`` in nanoseconds since the
            Unix epoch, ``cpu``, contexts, fields.

        Raises
        ------
        BufferError
            From the iterator: an array that is a packet is still in use.
        TypeError
            The channel's records are of a client of its own.

        Examples
        --------
        >>> with tracer.channel.reader() as reader:
        ...     for rows in reader.batches("order"):
        ...         print(len(rows), rows["n"].sum())
        """
        from .live.batches import Batches
        return Batches(self, event if isinstance(event, str) else event.name, timeout, copy)

    @cython.critical_section
    def snapshot(self, flush=True):
        """Iterate over the packets that are there now, without consuming them.

        Flushes first, unless `flush` is false: then packets that are not full are left out, and the ring
        stays as it is. A packet that is overwritten before its turn is left out; one that is
        overwritten in your hands stays intact, and counts as overrun.
        """
        cdef uint64_t first, last
        self.enter()
        try:
            self._release_current()
            ranges = []
            if flush:
                self.flush()
            ringbuf_repair(self.channel.ch)
            for i in range(self.n_streams):
                ringbuf_snapshot_range(&self.streams[i], &first, &last)
                ranges.append((i, first, last))
        finally:
            self.leave()
        return self._snapshot(ranges)

    def _snapshot(self, ranges):
        for i, pos, last in ranges:
            packet, at = self._taken_over(i)
            if packet is not None:
                if at == pos:
                    pos = (pos + self.channel.subbuf_size) & RINGBUF_POS_MASK
                yield packet
                packet.release()
            while pos != last:
                packet = self._get_at(i, pos)
                if packet is not None:
                    yield packet
                    packet.release()
                pos = (pos + self.channel.subbuf_size) & RINGBUF_POS_MASK

    @cython.critical_section
    cdef tuple _taken_over(self, uint32_t i):
        """The packet that a reader which died had in its hands, and its position; or None."""
        self.check_stream(i)
        self._release_current()
        if not self.streams[i].holding:
            return None, 0
        return self.wrap(&self.streams[i], RINGBUF_PUT_BACK), self.streams[i].packet.pos

    cdef int check_stream(self, uint32_t i) except -1:
        self.check()
        if i >= self.n_streams:
            raise IndexError(f"stream {i} of {self.n_streams}")
        return 0

    @cython.critical_section
    def _get_at(self, uint32_t i, uint64_t pos):
        self.check_stream(i)
        self.enter()
        try:
            if self.streams[i].holding or ringbuf_get_subbuf(&self.streams[i], pos):
                return None
            return self.wrap(&self.streams[i], RINGBUF_PUT_BACK)
        finally:
            self.leave()

    @cython.critical_section
    def _next_of_stream(self, uint32_t i):
        """The next packet of one stream, or None."""
        self.check_stream(i)
        self.enter()
        try:
            self._release_current()
            while not self.streams[i].holding and ringbuf_get_next_subbuf(&self.streams[i]):
                if not ringbuf_repair_next(&self.streams[i]):
                    return None
            return self.wrap(&self.streams[i], RINGBUF_PUT_READ)
        finally:
            self.leave()

    @cython.critical_section
    def _is_stream_drained(self, uint32_t i):
        self.check_stream(i)
        return ringbuf_is_drained(&self.streams[i])

    @cython.critical_section
    def _is_at_end(self):
        self.enter()
        try:
            return self.is_at_end()
        finally:
            self.leave()

    @property
    def stream_indices(self):
        """range: the streams that this reader reads."""
        cdef uint32_t first = self.streams[0].stream_idx if self.n_streams else 0
        return range(first, first + self.n_streams)

    @cython.critical_section
    def flush(self, empty=False):
        """End the current packets of the reader's streams; see `Channel.flush`."""
        cdef ringbuf_producer_slot *producer
        cdef unsigned int flags = RINGBUF_FLUSH_EMPTY if empty else 0
        self.enter()
        try:
            producer = self.channel.producer()
            for i in range(self.n_streams):
                _flush(self.channel.ch, producer, self.streams[i].stream_idx, flags)
        finally:
            self.leave()

    @cython.critical_section
    def clear(self):
        """Throw away everything recorded and not yet read; it counts as overrun, and as cleared."""
        cdef ringbuf_producer_slot *producer
        self.enter()
        try:
            producer = self.channel.producer()
            self._release_current()
            for i in range(self.n_streams):
                if self.streams[i].holding:
                    ringbuf_put_subbuf(&self.streams[i], RINGBUF_PUT_DROP)
                ringbuf_clear_stream(&self.streams[i], producer)
        finally:
            self.leave()

    @cython.critical_section
    def _lower(self):
        if self.notifier is not None:
            self.notifier.lower()

    @property
    def closed(self):
        """bool"""
        return not self.is_open

    @cython.critical_section
    def close(self):
        """Give up the right to read. The current packet is released as read. Twice is harmless."""
        if not self.is_open:
            return
        if self.right.fd >= 0:
            self._release_current()
        notifier, self.notifier = self.notifier, None
        if notifier is not None:
            notifier.close()
        self._cursors = None
        if self.is_open:  # another thread may have done it meanwhile
            self._close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
