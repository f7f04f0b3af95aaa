"""Part of _decode.pyx: the instants of a time line, in the formats of files."""

cdef extern from "decode/draw.h" nogil:
    enum:
        DRAW_PERFETTO, DRAW_CHROME
        DRAW_NOTHING, DRAW_OTHER, DRAW_INSTANT
        DRAW_ALIGN, DRAW_SKIP, DRAW_PID, DRAW_TID, DRAW_NUMBER, DRAW_TRUTH, DRAW_FLOAT, DRAW_TEXT
        DRAW_DONE, DRAW_FULL, DRAW_WHOSE, DRAW_RECORD

    struct draw_bytes:
        const char *at
        size_t size

    struct draw_member:
        int32_t node
        uint8_t use
        draw_bytes name

    struct draw_class:
        uint8_t kind
        const draw_member *members
        uint32_t n_members
        draw_bytes title

    struct draw_item:
        int64_t time
        int32_t cpu, pid, tid
        uint32_t event, lane, size, kind

    struct draw_record:
        uint64_t origin, begin, end, ticks, outside

    struct draw_plan:
        const draw_class *classes
        uint32_t first_event, format
        uint64_t outside
        int64_t begin, end

    struct draw_who:
        int32_t pid, tid, cpu

    struct draw_state:
        uint32_t format
        int64_t origin
        const draw_class **classes
        const draw_bytes *places
        ctf_text out

    int draw_fill(const ctf_plan *p, const ctf_stream *s, ctf_cursor *c, const draw_plan *wanted, int32_t cpu,
                  uint32_t lane, ctf_text *t, ctf_text *items)
    int draw_note(draw_state *d, const draw_who *who, uint32_t track)
    void draw_forget(draw_state *d)
    draw_who draw_who_of(const draw_item *item)
    int draw_items(draw_state *d, const draw_item *items, size_t n, size_t *next, const char **at)
    void draw_free(draw_state *d)


_ITEM = [
    ("timestamp", "i8"), ("cpu", "i4"), ("pid", "i4"), ("tid", "i4"), ("event", "u4"), ("lane", "u4"), ("size", "u4"),
    ("kind", "u4"), ("zero", "u4"),
]  # fmt: skip
_DRAW_FORMATS = {"perfetto": DRAW_PERFETTO, "chrome": DRAW_CHROME}
_DRAW_KINDS = {None: DRAW_NOTHING, "other": DRAW_OTHER, "event": DRAW_INSTANT}
_DRAW_WHOSE = {"vpid": DRAW_PID, "vtid": DRAW_TID}
#: Contexts by which the caller alone tells whose a record is.
_DRAW_NAMES = ("procname", "thread_name", "image")


@cython.final
cdef class Drawer:
    """Encodes the instants of a trace for a time line. A `Drawing` puts those of several traces in order.

    Parameters
    ----------
    decoder : Decoder
    first_event : int
        Place of its first event class among those of all traces.
    kinds : list of {None, "other", "event"}
        By event class: nothing, or it is the caller's, or an instant. One that cannot be encoded here is the caller's.
    writer : trace.export.perfetto.Writer or trace.export.chrome.Writer
    begin, end : int
        Earliest and latest time of an event, in nanoseconds.

    Thread safety: one thread at a time.
    """

    cdef Decoder _decoder
    cdef list _kept  # owns all that is pointed to
    cdef draw_class *_classes
    cdef uint32_t _n_classes
    cdef draw_plan _plan

    def __cinit__(self, Decoder decoder not None, first_event, list kinds, writer, begin, end):
        cdef uint32_t i
        self._decoder, self._kept = decoder, []
        self._n_classes = len(kinds)
        self._classes = <draw_class *>_calloc(len(kinds), sizeof(draw_class))
        self._plan.classes, self._plan.first_event, self._plan.begin, self._plan.end = self._classes, first_event, begin, end
        self._plan.format = _DRAW_FORMATS[writer.native]
        self._plan.outside = decoder._n_shared * sizeof(uint64_t)
        for i, (kind, info) in enumerate(zip(kinds, decoder._events)):
            self._set_class(&self._classes[i], kind, info, writer)

    def __dealloc__(self):
        PyMem_Free(self._classes)

    cdef draw_bytes _keep(self, bytes text):
        self._kept.append(text)
        return draw_bytes(PyBytes_AS_STRING(text), len(text))

    cdef _set_class(self, draw_class *to, kind, _EventInfo info, writer):
        cdef uint32_t i
        cdef draw_member *kept
        to.kind = _DRAW_KINDS[kind]
        cdef list members = self._members_of(info) if to.kind == DRAW_INSTANT else []
        if members is None:
            to.kind = DRAW_OTHER
        if to.kind != DRAW_INSTANT:
            return
        to.title = self._keep(writer.title(info.name, "event"))
        memory = bytearray(max(1, len(members)) * sizeof(draw_member))
        cdef uint8_t[::1] view = memory
        self._kept.append(memory)
        kept = <draw_member *>&view[0]
        for i, (node, use, name) in enumerate(members):
            kept[i].node, kept[i].use = node, use
            if use >= DRAW_NUMBER:
                kept[i].name = self._keep(writer.argument(name))
        to.members, to.n_members = kept, len(members)

    cdef list _members_of(self, _EventInfo info):
        """(node, DRAW_*, name) for each step through an event; None: it is not for us."""
        cdef list members = [], parts = [(info.stream_context, True), (info.context, True), (info.fields, False)]
        cdef set names = set()
        cdef int32_t part
        for part, is_context in parts:
            if part < 0:
                continue
            members.append((part, DRAW_ALIGN, None))
            for name, node in zip(self._decoder._infos[part], self._decoder.members_of(part)):
                use = self._use_of(node, name, is_context)
                if use is None or name in names:
                    return None
                if name is not None:
                    names.add(name)
                members.append((node, use, name))
        return members

    cdef object _use_of(self, size_t node, name, bint is_context):
        cdef const ctf_node *n = &self._decoder._nodes[node]
        cdef uint8_t style = self._decoder._styles[node]
        if name is None:
            return DRAW_SKIP
        if is_context and name in _DRAW_NAMES:
            return None
        if is_context and name in _DRAW_WHOSE:
            return _DRAW_WHOSE[name] if style == AS_INT else None
        if style == AS_STR:
            return DRAW_TEXT if n.encoding == CTF_UTF8 else None
        return {AS_INT: DRAW_NUMBER, AS_BOOL: DRAW_TRUTH, AS_TRUTH: DRAW_TRUTH, AS_FLOAT: DRAW_FLOAT}.get(style)

    def fill(self, buffer, Packet packet not None, _Lane lane not None, *, offset=None):
        """Add the events of a packet that are wanted to a lane; if it is damaged, those before the damage.

        Returns
        -------
        int
            How many events.

        Raises
        ------
        TraceError
            The packet is damaged.
        """
        cdef const uint8_t[::1] view = buffer
        cdef const ctf_stream *s = self._decoder._stream_of(packet)
        cdef ctf_cursor c
        cdef int failed
        cdef int32_t cpu = -1 if packet.cpu is None or packet.cpu >= 2**31 else packet.cpu
        cdef size_t before = len(lane)
        cdef uint64_t *slots = <uint64_t *>_calloc(self._decoder._plan.n_slots, sizeof(uint64_t))
        try:
            self._decoder._begin(&c, view, packet, offset, slots)
            lane.forget()
            lane.text.limit = lane.text.used + <size_t>self._decoder.limits.text_size
            with nogil:
                failed = draw_fill(&self._decoder._plan, s, &c, &self._plan, cpu, lane.index, &lane.text, &lane.lines)
            lane.text.is_over = False
            if lane.text.is_short or lane.lines.is_short:
                raise MemoryError
            if failed:
                self._decoder._fail_in(packet, &c)
        finally:
            PyMem_Free(slots)
        return len(lane) - before


@cython.final
cdef class Drawing:
    """What several traces show on a time line, each of whose streams is in order of time.

    Parameters
    ----------
    drawers : list of Drawer
        In the order of their event classes.
    owners : list of Drawer
        Whose each stream is.
    caller : trace.export.timeline.Timeline
        Is asked whose a record is, and given the records that are not drawn here.
    writer
        As of `Drawer`.
    origin : int
        From which times of Chrome's format count, in nanoseconds.

    Thread safety: one thread at a time.
    """

    cdef readonly tuple lanes
    cdef list _drawers, _owners, _kept
    cdef object _caller, _writer, _places
    cdef uint32_t _n_places
    cdef draw_state _state
    cdef const draw_class **_classes

    def __cinit__(self, list drawers, list owners, caller, writer, origin):
        cdef Drawer drawer
        cdef uint32_t i
        cdef size_t n_classes = 0
        for drawer in drawers:
            n_classes += drawer._n_classes
        self.lanes = tuple([_Lane(index, _ITEM) for index in range(len(owners))])
        self._drawers, self._owners, self._kept = drawers, owners, []
        self._caller, self._writer, self._places = caller, writer, bytearray()
        self._classes = <const draw_class **>_calloc(n_classes, sizeof(void *))
        for drawer in drawers:
            for i in range(drawer._n_classes):
                self._classes[drawer._plan.first_event + i] = &drawer._classes[i]
        self._state.classes, self._state.origin = self._classes, origin
        self._state.format = _DRAW_FORMATS[writer.native]

    def __dealloc__(self):
        PyMem_Free(self._classes)
        draw_free(&self._state)

    def draw(self, rows):
        """Draw items that were taken out of the lanes and merged; each may be drawn once."""
        cdef const uint8_t[::1] view = rows.view("u1")
        cdef size_t n = len(rows), following = 0
        cdef const draw_item *items
        cdef int answer
        cdef _Lane lane
        cdef const char **at
        if not n:
            return
        items = <const draw_item *>&view[0]
        at = <const char **>_calloc(len(self.lanes), sizeof(char *))
        try:
            for lane in self.lanes:
                at[lane.index] = lane.text.data + lane._done
            while True:
                with nogil:
                    answer = draw_items(&self._state, items, n, &following, at)
                if answer == DRAW_DONE:
                    break
                self.flush()
                self._answer(answer, &items[following], at[items[following].lane])
                if answer == DRAW_RECORD:
                    at[items[following].lane] += items[following].size
                    following += 1
        finally:
            for lane in self.lanes:
                lane._done = at[lane.index] - lane.text.data
            PyMem_Free(at)

    cdef _answer(self, int answer, const draw_item *item, const char *data):
        cdef draw_who who
        cdef object pid, tid, cpu
        if answer == DRAW_RECORD:
            self._caller.draw_record(self._record_of(item, data), item.event)
        elif answer == DRAW_WHOSE:
            who = draw_who_of(item)
            pid, tid = (None if item.pid < 0 else item.pid), (None if item.tid < 0 else item.tid)
            cpu = None if item.cpu < 0 else item.cpu
            if draw_note(&self._state, &who, self._add_place(self._writer.place(self._caller.whose(cpu, pid, tid)))):
                raise MemoryError

    cdef Record _record_of(self, const draw_item *item, const char *data):
        cdef Record record = Record.__new__(Record)
        cdef draw_record head
        cdef Drawer drawer = self._owners[item.lane]
        cdef Decoder decoder = drawer._decoder
        memcpy(&head, data, sizeof(head))
        record._decoder, record._event = decoder, <_EventInfo>decoder._events[item.event - drawer._plan.first_event]
        record._origin, record._begin, record._end, record._ticks = head.origin, head.begin, head.end, head.ticks
        if head.outside:
            record._outside = PyBytes_FromStringAndSize(data + sizeof(head), head.outside)
        record._bytes = PyBytes_FromStringAndSize(
            data + sizeof(head) + head.outside, item.size - sizeof(head) - head.outside
        )
        record._time_ns, record._in_ns = item.time, True
        record.cpu = None if item.cpu < 0 else item.cpu
        return record

    cdef uint32_t _add_place(self, bytes text) except? 0:
        cdef draw_bytes place = self._keep(text)
        self._places += (<const char *>&place)[:sizeof(place)]
        self._n_places += 1
        cdef const uint8_t[::1] view = self._places
        self._state.places = <const draw_bytes *>&view[0]
        return self._n_places - 1

    cdef draw_bytes _keep(self, bytes text):
        self._kept.append(text)
        return draw_bytes(PyBytes_AS_STRING(text), len(text))

    def flush(self):
        """Hand over what was drawn."""
        if self._state.out.is_short:
            raise MemoryError
        if self._state.out.used:
            data = PyBytes_FromStringAndSize(self._state.out.data, self._state.out.used)
            self._state.out.used = 0
            self._writer.raw(data)

    def forget(self):
        """Where records belong may have changed."""
        draw_forget(&self._state)
        self._places, self._n_places, self._kept = bytearray(), 0, []
