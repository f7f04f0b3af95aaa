"""Part of _decode.pyx: a trace as text, one line for each event."""

cdef extern from "decode/text.h" nogil:
    struct ctf_text:
        char *data
        size_t used, room, limit
        int is_short, is_over

    struct ctf_label:
        uint64_t low, high
        const char *text

    struct ctf_names:
        const char **members
        const uint8_t *looks
        const uint32_t *first_label
        const ctf_label *labels

    enum:
        CTF_LOOK_PLAIN, CTF_LOOK_TEXT, CTF_LOOK_BYTES, CTF_LOOK_ENUM, CTF_LOOK_FLAGS, CTF_LOOK_TRUTH

    struct ctf_selection:
        const char **prefixes
        int64_t begin, end

    struct ctf_line:
        int64_t time
        uint32_t lane, size

    struct ctf_clock_face:
        pass

    void ctf_put_quoted(ctf_text *t, const char *text, size_t size)
    int ctf_put_value(const ctf_plan *p, const ctf_names *names, int32_t index, ctf_cursor *c, ctf_text *t)
    int ctf_put_packet(const ctf_plan *p, const ctf_stream *s, const ctf_names *names, ctf_cursor *c, uint32_t lane,
                       const ctf_selection *wanted, const char *packet, ctf_text *t, ctf_text *lines)
    void ctf_put_lines(const ctf_line *lines, size_t n, const char **at, ctf_clock_face *face, ctf_text *t)


_LINE = [("timestamp", "i8"), ("lane", "u4"), ("size", "u4")]


@cython.final
cdef class _Lane:
    """Text of one stream that waits for those of the others; and where its lines are, as rows of `dtype`."""

    cdef readonly uint32_t index
    cdef ctf_text text, lines
    cdef size_t _done  # bytes of the text that were printed
    cdef object _dtype
    cdef size_t _line_size

    def __cinit__(self, index, dtype):
        self.index, self._dtype = index, _numpy().dtype(dtype)
        self._line_size = self._dtype.itemsize

    def __dealloc__(self):
        free(self.text.data)
        free(self.lines.data)

    def __len__(self):
        return self.lines.used // self._line_size

    @property
    def held(self):
        """int: bytes of text that were not printed."""
        return self.text.used - self._done

    def take(self):
        """Take out where the lines are: rows for `merged_rows`."""
        data = PyBytes_FromStringAndSize(self.lines.data, self.lines.used)
        self.lines.used = 0
        return _numpy().frombuffer(data, self._dtype)

    cdef forget(self):
        """Drop what was printed."""
        if self._done:  # else there may be no memory yet
            self.text.used -= self._done
            memmove(self.text.data, self.text.data + self._done, self.text.used)
            self._done = 0


@cython.final
cdef class Printer:
    """Prints the events of a trace as babeltrace2 does. A `Page` puts those of several traces in order.

    Parameters
    ----------
    decoder : Decoder
    origin : str
        What stands before the name of every event.
    names : collection of str, optional
        Of the events to print; all by default.
    begin, end : int
        Earliest and latest time of an event, in nanoseconds.

    Thread safety: one thread at a time.
    """

    cdef Decoder _decoder
    cdef list _texts  # owns all that is pointed to
    cdef const char **_prefixes
    cdef ctf_selection _wanted
    cdef const char **_members
    cdef uint8_t *_looks
    cdef uint32_t *_first_label
    cdef ctf_label *_labels
    cdef ctf_names _names

    def __cinit__(self, Decoder decoder not None, origin, *, names=None, begin=-2**63, end=2**63 - 1):
        self._decoder = decoder
        self._texts = []
        self._prefixes = <const char **>_calloc(len(decoder._events), sizeof(char *))
        for index, info in enumerate(decoder._events):
            if names is None or info.name in names:
                prefix = f"{origin}{info.name}: ".encode("utf-8", "surrogateescape")
                self._prefixes[<size_t>index] = self._keep(prefix)
        self._wanted.prefixes, self._wanted.begin, self._wanted.end = self._prefixes, begin, end
        self._name_nodes()

    def __dealloc__(self):
        PyMem_Free(self._prefixes)
        PyMem_Free(self._members)
        PyMem_Free(self._looks)
        PyMem_Free(self._first_label)
        PyMem_Free(self._labels)

    cdef const char *_keep(self, bytes text):
        self._texts.append(text)
        return PyBytes_AS_STRING(text)

    cdef _name_nodes(self):
        cdef Decoder decoder = self._decoder
        cdef size_t n = len(decoder._infos), i, j
        cdef const ctf_node *node
        cdef list labels = []
        self._members = <const char **>_calloc(decoder._n_members, sizeof(char *))
        self._looks = <uint8_t *>_calloc(n, 1)
        self._first_label = <uint32_t *>_calloc(n + 1, sizeof(uint32_t))
        for i in range(n):
            node, info = &decoder._nodes[i], decoder._infos[i]
            self._looks[i] = self._look_of(i)
            self._first_label[i] = len(labels)
            if i in decoder._all_labels:
                labels += decoder._all_labels[i]
            elif node.kind == CTF_STRUCT:
                for j, name in enumerate(info):
                    if name is not None:
                        self._members[node.first + j] = self._keep(f"{name} = ".encode("utf-8", "surrogateescape"))
        self._first_label[n] = len(labels)
        self._labels = <ctf_label *>_calloc(len(labels), sizeof(ctf_label))
        last = None
        for i, (label, low, high) in enumerate(labels):
            self._labels[i].low, self._labels[i].high = low & 0xFFFFFFFFFFFFFFFF, high & 0xFFFFFFFFFFFFFFFF
            # The text of a label that has several ranges is one object: see ctf_put_labels().
            self._labels[i].text = self._labels[i - 1].text if i and label == last else self._keep(_quoted(label))
            last = label
        self._names.members, self._names.labels = self._members, self._labels
        self._names.first_label, self._names.looks = self._first_label, self._looks

    cdef uint8_t _look_of(self, size_t node):
        cdef uint8_t style = self._decoder._styles[node]
        if style == AS_STR:
            return CTF_LOOK_TEXT
        # CTF 1.8 has no bytes: what ringbuf gives as such are its integers.
        if style == AS_BYTES and self._decoder.model.version == 2:
            return CTF_LOOK_BYTES
        return {AS_ENUM: CTF_LOOK_ENUM, AS_FLAGS: CTF_LOOK_FLAGS, AS_TRUTH: CTF_LOOK_TRUTH}.get(style, CTF_LOOK_PLAIN)

    cdef bytes _context_of(self, Packet packet, const ctf_cursor *at, const ctf_stream *s):
        """What is printed of the packet's context in each of its lines."""
        cdef ctf_text text
        cdef ctf_cursor c = at[0]
        if not packet.context:
            return b""
        memset(&text, 0, sizeof(text))
        c.pos = packet._context_pos
        try:
            if ctf_put_value(&self._decoder._plan, &self._names, s.packet_context, &c, &text):
                raise _Corrupt("the packet changed while it was read")
            if text.is_short:
                raise MemoryError
            return PyBytes_FromStringAndSize(text.data, text.used)
        finally:
            free(text.data)

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
        cdef size_t lines = lane.lines.used
        cdef bytes context
        cdef const char *context_text
        cdef uint64_t *slots = <uint64_t *>_calloc(self._decoder._plan.n_slots, sizeof(uint64_t))
        try:
            self._decoder._begin(&c, view, packet, offset, slots)
            lane.forget()
            lane.text.limit = lane.text.used + <size_t>self._decoder.limits.text_size
            context = self._context_of(packet, &c, s)
            context_text = PyBytes_AS_STRING(context)
            with nogil:
                failed = ctf_put_packet(&self._decoder._plan, s, &self._names, &c, lane.index, &self._wanted,
                                        context_text, &lane.text, &lane.lines)
            lane.text.is_over = False
            if lane.text.is_short or lane.lines.is_short:
                raise MemoryError
            if failed:
                self._decoder._fail_in(packet, &c)
        finally:
            PyMem_Free(slots)
        return (lane.lines.used - lines) // sizeof(ctf_line)


@cython.final
cdef class Page:
    """The text of several streams, each of which is in order of time.

    Parameters
    ----------
    n_lanes : int
        How many streams there are.

    Thread safety: one thread at a time.
    """

    cdef readonly tuple lanes
    cdef ctf_text _out
    cdef ctf_clock_face _face

    def __cinit__(self, n_lanes):
        self.lanes = tuple([_Lane(index, _LINE) for index in range(n_lanes)])

    def __dealloc__(self):
        free(self._out.data)

    def lines(self, rows):
        """The text of lines that were taken out of the lanes and merged; each may be printed once.

        Parameters
        ----------
        rows : numpy.ndarray

        Returns
        -------
        str
        """
        cdef const uint8_t[::1] view = rows.view("u1")
        cdef size_t n = len(rows), i
        cdef _Lane lane
        cdef const char **at = <const char **>_calloc(len(self.lanes), sizeof(char *))
        try:
            for lane in self.lanes:
                at[lane.index] = lane.text.data + lane._done
            self._out.used = 0
            if n:
                with nogil:
                    ctf_put_lines(<const ctf_line *>&view[0], n, at, &self._face, &self._out)
            for lane in self.lanes:
                lane._done = at[lane.index] - lane.text.data
        finally:
            PyMem_Free(at)
        if self._out.is_short:
            raise MemoryError
        return PyUnicode_DecodeUTF8(self._out.data, self._out.used, "replace")


cdef bytes _quoted(label):
    cdef ctf_text text
    cdef bytes plain = label.encode("utf-8", "surrogateescape")
    memset(&text, 0, sizeof(text))
    ctf_put_quoted(&text, PyBytes_AS_STRING(plain), len(plain))
    try:
        if text.is_short:
            raise MemoryError
        return PyBytes_FromStringAndSize(text.data, text.used)
    finally:
        free(text.data)
