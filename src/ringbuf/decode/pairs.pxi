"""Part of _decode.pyx: begins of spans and calls, joined with their ends."""

cdef extern from "decode/pairs.h" nogil:
    enum:
        PAIR_NOTHING, PAIR_SPAN, PAIR_SPAN_END, PAIR_CALL, PAIR_CALL_END, PAIR_RECORD
        PAIR_STRAND, PAIR_SWITCH, PAIR_IMAGE, PAIR_RUN, PAIR_IRQ, PAIR_IRQ_END, PAIR_SYSCALL, PAIR_SYSCALL_END
        PAIR_ALIGN, PAIR_SKIP, PAIR_PID, PAIR_TID, PAIR_CODE, PAIR_ID, PAIR_PARENT, PAIR_AGAIN, PAIR_WHO
        PAIR_ALIAS
        PAIR_PROCESS, PAIR_THREAD, PAIR_TASK, PAIR_ERROR

    struct pair_mark:
        int64_t time
        int32_t cpu
        uint8_t kind
        uint32_t name
        int32_t pid, tid
        uint32_t process, thread, task
        uint64_t id, parent, at

    struct pair_row:
        int64_t begin

    struct pair_map:
        void *places

    struct pair_process:
        int32_t pid
        uint32_t host, image

    struct pair_text:
        size_t at
        uint32_t size

    struct pair_texts:
        char *bytes
        pair_text *texts
        size_t n
        uint32_t *places
        uint8_t has_images
        pair_map aliases
        pair_process *processes
        size_t n_processes

    struct pair_step:
        int32_t node
        uint8_t what

    struct pair_event:
        pair_mark mark
        uint8_t has_pid, has_tid, is_late, is_fixed
        const ctf_copy *copies
        uint32_t n_copies, error_from, image_from, host
        const pair_step *steps
        uint32_t n_steps

    struct pair_marks:
        pair_mark *marks
        size_t n, room

    struct pair_thread:
        int32_t pid, tid
        uint32_t process, name
        int64_t first, last
        uint64_t n_marks

    struct pair_end:
        int64_t seen
        int32_t pid

    struct pair_path:
        uint32_t above, name, is_within

    struct pair_joiner:
        int64_t begin, first_loss, last_loss
        pair_texts *texts
        uint32_t n_names
        pair_thread *threads
        size_t n_threads
        pair_path *paths
        size_t n_paths
        uint64_t *unknown
        size_t n_unknown
        pair_row *rows
        size_t n_rows

    int pair_fill(const ctf_plan *p, const ctf_stream *s, ctf_cursor *c, const pair_event *events, pair_texts *texts,
                  pair_marks *out, int32_t cpu, uint64_t packet)
    int pair_add_code(pair_joiner *j, uint64_t key, uint32_t name, uint32_t image)
    int pair_join(pair_joiner *j, const pair_mark *marks, size_t n)
    int pair_finish(pair_joiner *j, int64_t end, const pair_end *ended, size_t n_ended)
    void pair_free(pair_joiner *j)


_MARK = [
    ("timestamp", "i8"), ("cpu", "i4"), ("kind", "u1"), ("reserved", "V3"), ("name", "u4"), ("pid", "i4"), ("tid", "i4"),
    ("process", "u4"), ("thread", "u4"), ("task", "u4"), ("id", "u8"), ("parent", "u8"), ("at", "u8"),
]  # fmt: skip
_PAIR = [
    ("begin", "i8"), ("duration", "i8"), ("self", "i8"), ("id", "u8"), ("parent", "u8"), ("begin_at", "u8"),
    ("end_at", "u8"), ("name", "u4"), ("thread", "u4"), ("task", "u4"), ("error", "u4"), ("depth", "u4"),
    ("kind", "u1"), ("begin_missing", "u1"), ("end_missing", "u1"), ("reserved", "u1"),
    ("path", "u4"), ("end_thread", "u4"),
]  # fmt: skip
_PATH = [("above", "u4"), ("name", "u4"), ("is_within", "u4")]
_PAIR_KINDS = {
    "span": PAIR_SPAN, "span_end": PAIR_SPAN_END, "call": PAIR_CALL, "call_end": PAIR_CALL_END, "record": PAIR_RECORD,
    "strand": PAIR_STRAND, "switch": PAIR_SWITCH, "image": PAIR_IMAGE, "run": PAIR_RUN, "irq": PAIR_IRQ,
    "irq_end": PAIR_IRQ_END, "syscall": PAIR_SYSCALL, "syscall_end": PAIR_SYSCALL_END,
}  # fmt: skip
RECORD = PAIR_RECORD  #: `kind` of a mark that neither begins nor ends anything
# Where a number goes in a mark, and of how many bits it must be to be copied there.
_PAIR_NUMBERS = {
    PAIR_CODE: (16, 32), PAIR_AGAIN: (16, 32), PAIR_PID: (20, 32), PAIR_TID: (24, 32), PAIR_ID: (40, 64),
    PAIR_PARENT: (48, 64), PAIR_WHO: (0, 32),
}  # fmt: skip
_PAIR_CONTEXTS = {
    "vpid": PAIR_PID, "vtid": PAIR_TID, "procname": PAIR_PROCESS, "thread_name": PAIR_THREAD, "task_name": PAIR_TASK,
    "image": PAIR_WHO,
}  # fmt: skip
# Of the kernel's events: those of a thread; the others are of their CPU.
_PAIR_KERNEL_CONTEXTS = {
    PAIR_RUN: {}, PAIR_IRQ: {}, PAIR_IRQ_END: {},
    PAIR_SYSCALL: {"common_pid": PAIR_TID, "tid": PAIR_TID}, PAIR_SYSCALL_END: {"common_pid": PAIR_TID, "tid": PAIR_TID},
}  # fmt: skip
_PAIR_FIELDS = {
    PAIR_SPAN: {"span_id": PAIR_ID, "parent_id": PAIR_PARENT},
    PAIR_SPAN_END: {"span_id": PAIR_ID, "error": PAIR_ERROR},
    PAIR_CALL: {"code": PAIR_CODE, "began": PAIR_ID},
    PAIR_CALL_END: {"code": PAIR_CODE},
    PAIR_RECORD: {},
    PAIR_STRAND: {"strand": PAIR_ID, "name": PAIR_TASK},
    PAIR_SWITCH: {"strand": PAIR_ID, "resumed": PAIR_AGAIN},
    PAIR_IMAGE: {"image": PAIR_ID, "inherited": PAIR_AGAIN},
    PAIR_RUN: {"next_comm": PAIR_TASK, "next_pid": PAIR_ID, "next_tid": PAIR_ID, "prev_pid": PAIR_PARENT,
               "prev_tid": PAIR_PARENT},
    PAIR_IRQ: {"irq": PAIR_ID, "vec": PAIR_ID},
    PAIR_IRQ_END: {"irq": PAIR_ID, "vec": PAIR_ID},
    PAIR_SYSCALL: {"id": PAIR_ID},
    PAIR_SYSCALL_END: {"id": PAIR_ID},
}  # fmt: skip


@cython.final
cdef class Marks:
    """What begins and what ends in a trace: finds it in packets, for a `Joiner`.

    Parameters
    ----------
    decoder : Decoder
    kinds : mapping of int to (str, int)
        Of event classes, by their index in `Decoder.event_names`: "span", "span_end", "call",
        "call_end", "strand", "switch", "image" (docs/formats.md), "run", "irq", "irq_end", "syscall", "syscall_end" of
        the kernel, or "record" for what only counts for its thread; and the number of a span's or record's name.
    n_lanes : int
        How many streams there are, each of which is in order of time.
    pid : int, optional
        Of records that do not say their process.
    first : Marks, optional
        Of another trace that is read as one with this: both number texts alike.
    host : int
        Number of the machine, where there are several.

    Attributes
    ----------
    lanes : tuple

    Thread safety: one thread at a time.
    """

    cdef Decoder _decoder
    cdef readonly tuple lanes
    cdef pair_event *_events
    cdef list _owned  # memory that events point to
    cdef pair_texts _own_texts
    cdef pair_texts *_texts
    cdef Marks _first
    cdef list _strings

    def __cinit__(self, Decoder decoder not None, kinds, n_lanes, pid=None, Marks first=None, host=0):
        self._first = first
        self._texts = &self._own_texts if first is None else first._texts
        self._decoder, self._owned, self._strings = decoder, [], [""]
        self.lanes = tuple([_MarkLane() for _ in range(n_lanes)])
        self._events = <pair_event *>_calloc(len(decoder._events), sizeof(pair_event))
        for index, (kind, name) in kinds.items():
            self._set_event(index, _PAIR_KINDS[kind], name, -1 if pid is None else pid)
            self._events[<size_t>index].host = host

    def __dealloc__(self):
        PyMem_Free(self._events)
        free(self._own_texts.bytes)
        free(self._own_texts.texts)
        free(self._own_texts.places)
        free(self._own_texts.aliases.places)
        free(self._own_texts.processes)

    cdef _set_event(self, size_t index, uint8_t kind, uint32_t name, int32_t pid):
        cdef pair_event *e = &self._events[index]
        cdef _EventInfo info = self._decoder._events[index]
        steps, known = self._steps(info, kind)
        found = {what for _, what in steps}
        self._texts.has_images |= PAIR_WHO in found
        e.mark.kind, e.mark.name, e.mark.pid, e.mark.tid = kind, name, pid, -1
        e.is_late = kind == PAIR_CALL and PAIR_ID in found
        e.has_pid, e.has_tid = PAIR_PID in found, PAIR_TID in found
        e.mark.pid = pid if e.has_tid and not e.has_pid and kind < PAIR_RUN else -1
        e.is_fixed = known is not None and all(what in known for what in found if what > PAIR_SKIP)
        if e.is_fixed:
            copies = [(start, _PAIR_NUMBERS[what][0], size, False) for what, (start, size) in known.items()
                      if size and what != PAIR_WHO]
            e.copies, e.n_copies = self._keep_copies(_joined(sorted(copies))), len(_joined(sorted(copies)))
            e.error_from = known.get(PAIR_ERROR, (0, 0))[0]
            e.image_from = known.get(PAIR_WHO, (-1, 0))[0] + 1
        e.steps, e.n_steps = self._keep_steps(steps), len(steps)

    def _steps(self, _EventInfo info, kind):
        """[(node, what), ...] through a record; and {what: (byte, bytes)} of what stands at a known place."""
        cdef int32_t part, member
        cdef const ctf_node *n
        steps, known = [], {}
        is_known, position = self._is_packed(info), 0  # in bits
        last = 0  # what follows it is not looked at
        contexts = _PAIR_KERNEL_CONTEXTS.get(kind, _PAIR_CONTEXTS)
        for part, wanted in ((info.stream_context, contexts), (info.context, contexts),
                             (info.fields, _PAIR_FIELDS[kind])):
            if part < 0:
                continue
            steps.append((part, PAIR_ALIGN))
            for member, name in zip(self._decoder.members_of(part), self._decoder._infos[part]):
                n = &self._decoder._nodes[member]
                what = wanted.get(name, PAIR_SKIP)
                steps.append((member, what if self._can_be(n, what) else PAIR_SKIP))
                if steps[-1][1] != PAIR_SKIP:
                    last = len(steps)
                    if is_known and what in _PAIR_NUMBERS and n.size == _PAIR_NUMBERS[what][1] and not n.is_big_endian:
                        known[what] = position // 8, n.size // 8
                    elif is_known and what == PAIR_ERROR and n.kind == CTF_STRING:
                        known[what] = position // 8, 0
                    else:
                        known.pop(what, None)  # this one hides another of the same name
                is_known = is_known and n.fixed >= 0 and n.fixed % 8 == 0 and n.align <= 8
                position += n.fixed
        return steps[:last], known

    cdef bint _is_packed(self, _EventInfo info):
        """Do records begin on a byte, with nothing that moves what follows?"""
        cdef const ctf_stream *s = &self._decoder._streams[self._decoder._stream_indexes[info.stream_id]]
        parts = [part for part in (info.stream_context, info.context, info.fields) if part >= 0]
        return s.header_kind != CTF_HEADER_ANY and all([self._decoder._nodes[<size_t>part].align <= 8 for part in parts])

    cdef bint _can_be(self, const ctf_node *n, what):
        if what < PAIR_PROCESS:
            return n.kind == CTF_INTEGER and not n.is_odd
        if n.encoding != CTF_UTF8:
            return False
        return n.kind == CTF_STRING or n.kind in (CTF_ARRAY, CTF_SEQUENCE) and \
            self._decoder._nodes[n.first].kind == CTF_INTEGER and self._decoder._nodes[n.first].size == 8 and \
            self._decoder._nodes[n.first].align == 8

    cdef const ctf_copy *_keep_copies(self, list copies) except NULL:
        memory = bytearray(max(1, len(copies)) * sizeof(ctf_copy))
        cdef uint8_t[::1] view = memory
        cdef ctf_copy *kept = <ctf_copy *>&view[0]
        self._owned.append(memory)
        for i, (start, to, size, _) in enumerate(copies):
            kept[<size_t>i] = ctf_copy(start, to, size, 0)
        return kept

    cdef const pair_step *_keep_steps(self, list steps) except NULL:
        memory = bytearray(max(1, len(steps)) * sizeof(pair_step))
        cdef uint8_t[::1] view = memory
        cdef pair_step *kept = <pair_step *>&view[0]
        self._owned.append(memory)
        for i, (node, what) in enumerate(steps):
            kept[<size_t>i] = pair_step(node, what)
        return kept

    def fill(self, buffer, Packet packet not None, _MarkLane lane not None, number, *, offset=None):
        """Add the marks of a packet to a lane; if it is damaged, those before the damage.

        Parameters
        ----------
        buffer, packet, offset
            See `Decoder.packet_records`.
        lane : _MarkLane
        number : int
            Of the packet, by which it is found again.

        Returns
        -------
        int
            How many marks.

        Raises
        ------
        TraceError
            The packet is damaged.
        """
        cdef const uint8_t[::1] view = buffer
        cdef const ctf_stream *s = self._decoder._stream_of(packet)
        cdef ctf_cursor c
        cdef int failed
        cdef size_t before = lane.marks.n
        cdef int32_t cpu = -1 if packet.cpu is None else packet.cpu
        cdef uint64_t at = number
        cdef uint64_t *slots = <uint64_t *>_calloc(self._decoder._plan.n_slots, sizeof(uint64_t))
        try:
            self._decoder._begin(&c, view, packet, offset, slots)
            with nogil:
                failed = pair_fill(&self._decoder._plan, s, &c, self._events, self._texts, &lane.marks, cpu, at)
            if failed == -2:
                raise MemoryError
            if failed:
                self._decoder._fail_in(packet, &c)
        finally:
            PyMem_Free(slots)
        return lane.marks.n - before

    def process(self, int32_t pid):
        """(id, host, image) of a process, from its id in marks: numbers, 0 if they are not told."""
        cdef const pair_process *found
        if pid < PAIR_ALIAS or <size_t>(pid - PAIR_ALIAS) >= self._texts.n_processes:
            return pid, 0, 0
        found = &self._texts.processes[pid - PAIR_ALIAS]
        return found.pid, found.host, found.image

    def ids_of(self, int32_t pid, uint32_t host):
        """[int, ...]: what the processes of this id on this host are called in marks."""
        cdef size_t i
        found = [] if host else [pid]
        for i in range(self._texts.n_processes):
            if self._texts.processes[i].pid == pid and self._texts.processes[i].host == host:
                found.append(PAIR_ALIAS + <int32_t>i)
        return found

    @property
    def texts(self):
        """list of str: names of processes, threads and tasks, and types of errors, by their numbers."""
        cdef const pair_text *text
        while <size_t>len(self._strings) <= self._texts.n:
            text = &self._texts.texts[len(self._strings) - 1]
            self._strings.append(_text(self._texts.bytes + text.at, text.size))
        return self._strings


@cython.final
cdef class _MarkLane:
    """Marks of one stream that wait for those of the others."""

    cdef pair_marks marks

    def __dealloc__(self):
        free(self.marks.marks)

    def __len__(self):
        return self.marks.n

    def take(self):
        """Take out the marks: rows for `merged_rows`."""
        data = PyBytes_FromStringAndSize(<const char *>self.marks.marks, self.marks.n * sizeof(pair_mark))
        self.marks.n = 0
        return _numpy().frombuffer(data, _MARK)


@cython.final
cdef class Joiner:
    """Joins the marks of a trace, in order of time.

    Parameters
    ----------
    begin : int
        Where the trace begins, in nanoseconds: so does what began before it.
    losses : (int, int) or None
        Records were lost, but none before the first time, and none after the second.
    n_names : int
        How many names there are already.
    codes : mapping of (int, int) to (int, int)
        By process and code: the number of the function's name, and the process image that called it, 0 if unknown.
    texts : Marks, optional
        Whose texts the marks have; without, there is no strand.

    Thread safety: one thread at a time.
    """

    cdef pair_joiner _joiner
    cdef Marks _marks

    def __cinit__(self, begin, losses, n_names, codes, Marks texts=None):
        cdef uint64_t key
        self._marks = texts
        self._joiner.texts = NULL if texts is None else texts._texts
        self._joiner.begin = begin
        self._joiner.first_loss, self._joiner.last_loss = (2**63 - 1, -2**63) if losses is None else losses
        self._joiner.n_names = n_names
        for (pid, code), (number, image) in codes.items():
            key = (pid & 0xFFFFFFFF) << 32 | code
            if pair_add_code(&self._joiner, key, number, image):
                raise MemoryError

    def __dealloc__(self):
        pair_free(&self._joiner)

    def join(self, marks):
        """Take marks, from the lanes of `Marks` and merged; mere records may come in any order."""
        cdef const uint8_t[::1] view = marks.view("u1")
        cdef size_t n = len(marks)
        cdef int failed = 0
        if n:
            with nogil:
                failed = pair_join(&self._joiner, <const pair_mark *>&view[0], n)
        if failed:
            raise MemoryError

    def finish(self, end, ended=()):
        """The trace ends here, in nanoseconds: nothing follows.

        Parameters
        ----------
        end : int
        ended : sequence of (int, int)
            Processes that ended before, and when they were last seen; what they told last is later, perhaps.
        """
        cdef int64_t time = end
        cdef int failed
        cdef size_t i, n = len(ended)
        cdef pair_end *ends = <pair_end *>_calloc(n, sizeof(pair_end))
        try:
            for i, (pid, seen) in enumerate(ended):
                ends[i].pid, ends[i].seen = pid, seen
            with nogil:
                failed = pair_finish(&self._joiner, time, ends, n)
        finally:
            PyMem_Free(ends)
        if failed:
            raise MemoryError

    def __len__(self):
        return self._joiner.n_rows

    def take(self):
        """Take out what has ended.

        Returns
        -------
        numpy.ndarray
            In the order of ends. Of what has no end: where that became known.
        """
        data = bytearray(self._joiner.n_rows * sizeof(pair_row))
        cdef uint8_t[::1] view = data
        if self._joiner.n_rows:
            memcpy(&view[0], self._joiner.rows, self._joiner.n_rows * sizeof(pair_row))
        self._joiner.n_rows = 0
        return _numpy().frombuffer(data, _PAIR)

    def unknown(self, Py_ssize_t first):
        """[(process, code), ...] of functions whose name nobody has told, from the first-th on.

        Their names have the numbers that follow those that were given.
        """
        cdef size_t i
        cdef uint64_t key
        found = []
        for i in range(first, self._joiner.n_unknown):
            key = self._joiner.unknown[i]
            found.append((<int32_t>(key >> 32), <uint32_t>key))
        return found

    def paths(self, size_t first):
        """The paths from the first-th on: number of the path above, of the name, and whether that stands further up too.

        The first of all is empty.

        Returns
        -------
        numpy.ndarray
        """
        cdef size_t n = self._joiner.n_paths
        if first >= n:
            return _numpy().zeros(0 if n or first else 1, _PATH)
        data = PyBytes_FromStringAndSize(<const char *>&self._joiner.paths[first], (n - first) * sizeof(pair_path))
        return _numpy().frombuffer(data, _PATH)

    def threads(self, texts):
        """[(pid, tid, process, name, first, last, marks), ...] by number: when it was first and last told of."""
        cdef size_t i
        cdef const pair_thread *t
        found = []
        for i in range(self._joiner.n_threads):
            t = &self._joiner.threads[i]
            found.append((t.pid, t.tid, texts[t.process], texts[t.name], t.first, t.last, t.n_marks))
        return found


def record_at(Decoder decoder not None, buffer, Packet packet not None, bit, *, offset=None):
    """The record of a mark, from its place in its packet.

    Parameters
    ----------
    decoder : Decoder
    buffer, packet, offset
        See `Decoder.packet_records`.
    bit : int
        The lower half of the mark's place.

    Returns
    -------
    Record
        Its time is not known.

    Raises
    ------
    TraceError
        There is no such record.
    """
    cdef const uint8_t[::1] view = buffer
    cdef const ctf_stream *s = decoder._stream_of(packet)
    cdef ctf_cursor c
    cdef ctf_record r
    cdef uint64_t *slots = <uint64_t *>_calloc(decoder._plan.n_slots, sizeof(uint64_t))
    try:
        decoder._begin(&c, view, packet, offset, slots)
        if not packet._first_event <= bit < packet._content_bits:
            raise decoder._packet_error(packet, f"no record is at bit {bit}")
        c.pos = bit
        if ctf_next_event(&decoder._plan, s, &c, &r):
            decoder._fail_in(packet, &c)
        return decoder._record(s, &c, &r)
    finally:
        PyMem_Free(slots)
