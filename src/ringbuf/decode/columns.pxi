"""Part of _decode.pyx: the rows of event classes, and their columns."""


@cython.final
cdef class Table:
    """The rows of one event class, as they are filled. Made by `Decoder.table`.

    Numbers go to `_rows` in C, and so does where the heap has text, bytes and sequences
    of numbers. An event with a value of another kind, such as a variant, has all that vary
    in size as objects, in a list for each column: rows with objects in them cannot be
    written from C without NumPy's own headers.

    Thread safety: one thread at a time.
    """

    cdef readonly object index, columns
    cdef readonly bint has_objects
    cdef object copies
    cdef list lists  # of the values of each column of objects
    cdef list elements  # of each of them: dtype of a sequence's elements, or None
    cdef ctf_cell *cells
    cdef Py_ssize_t n_cells
    cdef object _rows
    cdef uint8_t[::1] _bytes
    cdef uint64_t _used, _size, _row_size
    cdef uint64_t _mark  # rows there were when the packet began
    cdef uint64_t _hint  # rows there were when they were last taken out
    cdef ctf_copy *_copies
    cdef ctf_op *_ops
    cdef list _heaps  # what rows refer to; the last one has room
    cdef uint8_t *_heap
    cdef uint64_t _heap_room, _heap_size
    cdef bint _has_all_room  # whether the caller's rows are all that there will be

    def __cinit__(self, Decoder decoder, index, room):
        self.index, self.columns = index, (<_EventInfo>decoder._events[index]).columns
        self.columns.check(decoder.limits.row_size)
        self.copies, self.has_objects, self._heaps = self.columns.copies, self.columns.has_objects, []
        self._copies = <ctf_copy *>_calloc(len(self.copies or ()), sizeof(ctf_copy))
        cdef uint32_t i
        for i, (start, to, length, is_bool) in enumerate(self.copies or ()):
            self._copies[i] = ctf_copy(start, to, length, is_bool)
        self._ops = <ctf_op *>_calloc(len(self.columns.ops or ()), sizeof(ctf_op))
        for i, (move, size, to, slot, length) in enumerate(self.columns.ops or ()):
            self._ops[i] = ctf_op(move, size, to, slot, length)
        self._set_cells(decoder, decoder._events[index])
        self._begin()
        if room is not None:
            self._has_all_room = True
            self._rows, self._bytes, self._size = room, room.view("u1"), len(room)

    cdef _set_cells(self, Decoder decoder, _EventInfo event):
        parts = [part for part in (event.stream_context, event.context, event.fields) if part >= 0]
        steps = list(self.columns.cells(decoder, parts))
        self.elements = [elements for step, _, elements in steps if step == CTF_STEP_OBJECT]
        self.n_cells = len(steps)
        self.cells = <ctf_cell *>_calloc(len(steps), sizeof(ctf_cell))
        for i, (step, node, _) in enumerate(steps):
            self.cells[<Py_ssize_t>i] = ctf_cell(node, step)

    def __dealloc__(self):
        PyMem_Free(self._copies)
        PyMem_Free(self._ops)
        PyMem_Free(self.cells)

    def __len__(self):
        return self._used

    cdef _begin(self):
        self.lists = [[] for _ in self.elements]
        self._heaps = self._heaps[len(self._heaps) - 1:]
        self._hint, self._used = self._used, 0
        self._resize(0)

    cdef _resize(self, uint64_t size):
        rows = _numpy().empty(size, self.columns.plain_dtype())
        cdef uint8_t[::1] data = rows.view("u1")
        if self._used:
            memcpy(&data[0], &self._bytes[0], self._used * self._row_size)
        self._rows, self._bytes, self._size, self._row_size = rows, data, size, rows.itemsize

    cdef _grow(self):
        if self._has_all_room:
            raise TraceError("the trace changed while it was read")
        cdef uint64_t first = max(1, min(FIRST_ROWS, FIRST_BYTES // max(1, self._row_size)))
        self._resize(max(first, self._hint, 2 * self._size))

    cdef uint8_t *_end(self) noexcept:
        return &self._bytes[0] + self._used * self._row_size

    cdef open(self, ctf_rows *rows):
        """Begin a packet."""
        self._mark = self._used
        rows.is_wanted = True
        if self.has_objects:  # there is no room: Decoder._fill adds the rows
            return
        rows.row_size = self._row_size
        if self.copies is not None:
            rows.copies, rows.n_copies = self._copies, len(self.copies)
        else:
            rows.cells, rows.n_cells = self.cells, self.n_cells
            if self.columns.ops is not None:
                rows.ops, rows.n_ops = self._ops, len(self.columns.ops)
            rows.heap, rows.heap_room = self._heap, self._heap_room
        self._offer(rows)

    cdef _offer(self, ctf_rows *rows):
        rows.room = self._size - self._used
        if rows.room:
            rows.next = self._end()

    cdef make_room(self, ctf_rows *rows, uint64_t need):
        """For a row, and so many bytes that it refers to."""
        if not rows.room:
            self._used = self._size
            self._grow()
            self._offer(rows)
        if self.copies is None and rows.heap_room < need:
            self._heap_size = max(need, FIRST_HEAP, min(2 * self._heap_size, MAX_HEAP))
            heap = PyBytes_FromStringAndSize(NULL, self._heap_size + CTF_SLACK)
            self._heaps.append(heap)
            rows.heap, rows.heap_room = <uint8_t *>PyBytes_AS_STRING(heap), self._heap_size

    cdef uint64_t close(self, const ctf_rows *rows):
        """End the packet; how many rows it has added."""
        if not self.has_objects:
            self._used = self._size - rows.room
            self._heap, self._heap_room = rows.heap, rows.heap_room
        return self._used - self._mark

    cdef drop_row(self):
        """Forget the last row, which is not complete."""
        self._used -= 1
        for values in self.lists:
            del values[self._used:]

    cdef uint8_t *next_row(self) except NULL:
        if self._used == self._size:
            self._grow()
        self._used += 1
        return self._end() - self._row_size

    def take(self):
        """Take out the rows.

        Returns
        -------
        numpy.ndarray or Rows
            See `Decoder.dtype`. The latter where something varies in size, and nothing is an object.
        """
        rows, lists, heaps = self._rows[:self._used], self.lists, self._heaps
        self._begin()
        if not self.has_objects:
            return Rows(rows, heaps, self.columns) if self.columns.varying else rows
        table = empty_rows(len(rows), self.columns.dtype())
        for name in rows.dtype.names:
            table[name] = rows[name]
        for name, values in zip(self.columns.varying, lists):
            table[name] = _objects(values)
        return table


@cython.final
cdef class Rows:
    """Rows of an event class with text, bytes or sequences of numbers, for which no Python object is made.

    To be used as a structured array of `Decoder.dtype`: a name gives a column, made of objects where
    the size varies; a slice or a mask gives rows.

    Attributes
    ----------
    cells : numpy.ndarray
        Structured; a value of varying size is an address and a size.
    dtype : numpy.dtype
        See `Decoder.dtype`.

    Thread safety: any number of threads.
    """

    cdef readonly object cells
    cdef object _columns
    cdef list _heaps  # owns what cells refer to

    def __init__(self, cells, list heaps, columns):
        self.cells, self._heaps, self._columns = cells, heaps, columns

    @staticmethod
    def joined(pieces, cells):
        """The rows of `pieces` that were merged to `cells`."""
        heaps = {id(heap): heap for piece in pieces for heap in (<Rows>piece)._heaps}
        return Rows(cells, list(heaps.values()), (<Rows>pieces[0])._columns)

    def __len__(self):
        return len(self.cells)

    @property
    def dtype(self):
        return self._columns.dtype()

    def __getitem__(self, key):
        if not isinstance(key, str):
            return Rows(self.cells[key], self._heaps, self._columns)
        return self._objects(key) if self.varies(key) else self.cells[key]

    def to_numpy(self):
        """A structured array."""
        rows = empty_rows(len(self), self.dtype)
        self.copy_to(rows)
        return rows

    def copy_to(self, rows):
        """Copy them to a structured array of their `dtype`."""
        for name in rows.dtype.names:
            rows[name] = self[name]

    def varies(self, name):
        """Whether the column has values of varying size."""
        return name in self._columns.varying

    def is_text(self, name):
        """Whether the column has text of varying size."""
        return self.varies(name) and self._columns.varying[name].step == CTF_STEP_TEXT

    def elements(self, name):
        """Of a column of sequences: the dtype of elements in `values`. Of text and bytes: None."""
        return self._columns.varying[name].elements

    def values(self, name):
        """A column of varying size in two arrays.

        Returns
        -------
        tuple of numpy.ndarray
            The bytes of all values, one after another, as in the packets; and i8, one more than
            there are rows: where in these each value begins, and the last one ends.
        """
        return picked(self, [name])[name]

    def text(self, name):
        """A column of text as `values`, or None if some of it is not UTF-8."""
        found = self.values(name)
        return found if self.is_utf8(name, *found) else None

    def is_utf8(self, name, data, offsets):
        """Whether `values` of text are UTF-8, each for itself."""
        return not self._columns.varying[name].encoding and are_utf8(data, offsets)

    def numbers(self, name, data, offsets):
        """`values` of sequences: their elements as the host has them, and offsets in elements."""
        elements = self.elements(name)
        return _numbers(data, elements), offsets // _numpy().dtype(elements).itemsize

    def fixed_text(self, name):
        """A column of text as bytes of one size (dtype S).

        None if some of it is not UTF-8, or if it would be many times the text.
        """
        cdef uint64_t n = len(self.cells), width, total = 0
        cdef uint32_t row_size = self.cells.itemsize
        cdef const uint8_t *start = self._start(name)
        cdef uint8_t[::1] room
        cdef bint is_good = True
        if self._columns.varying[name].encoding:
            return None
        with nogil:
            width = max(1, ctf_longest(start, n, row_size, &total))
        if n * width > 8 * (total + 16 * n):
            return None
        spread = _numpy().zeros(n * width, "u1")
        room = spread
        if n:
            with nogil:
                ctf_spread(start, n, row_size, width, &room[0])
                is_good = ctf_is_ascii(&room[0], n * width) or ctf_refer_to_utf8(start, n, row_size)
        return spread.view(f"S{width}") if is_good else None

    cdef const uint8_t *_start(self, name) except? NULL:
        """The first row's reference."""
        cdef const uint8_t[::1] data
        if not self.varies(name):
            raise KeyError(name)
        if not len(self.cells):
            return NULL
        self.cells = _numpy().ascontiguousarray(self.cells)
        data = self.cells.view("u1")
        return &data[<Py_ssize_t>self.cells.dtype.fields[name][1]]

    cdef _objects(self, name):
        cdef Py_ssize_t i, n = len(self.cells), row_size = self.cells.itemsize
        cdef const uint8_t *at = self._start(name)
        cdef ctf_reference value
        cdef uint8_t encoding
        cdef list seen = [None] * TEXTS_SEEN
        how = self._columns.varying[name]
        elements, encoding = how.elements, how.encoding
        cdef bint is_text = how.step == CTF_STEP_TEXT
        column = _numpy().empty(n, "O")
        cdef object[::1] objects = column
        for i in range(n):
            memcpy(&value, at, sizeof(value))
            at += row_size
            if not is_text:
                data = PyBytes_FromStringAndSize(<const char *>value.at, value.size)
                objects[i] = data if elements is None else _numbers(data, elements)
            elif encoding:
                objects[i] = _wide_text(<const char *>value.at, value.size, encoding)
            else:
                objects[i] = _seen_text(seen, <const char *>value.at, value.size)
        return column


def picked(rows, names):
    """Columns of rows, contiguous.

    Parameters
    ----------
    rows : Rows, or structured numpy.ndarray without objects
    names : iterable of str

    Returns
    -------
    dict of str to (numpy.ndarray, or tuple of two)
        Of those that vary in size: see `Rows.values`.
    """
    cdef list columns = list(names)
    cdef uint32_t n_picks = len(columns), row_size, i
    cdef uint64_t n = len(rows)
    cdef const uint8_t[::1] view
    cdef const uint8_t *start = NULL
    cdef int64_t[::1] ends
    cells = _numpy().ascontiguousarray(rows.cells if isinstance(rows, Rows) else rows)
    row_size = cells.itemsize
    if n:
        view = cells.view("u1")
        start = &view[0]
    cdef dict found = {}
    cdef ctf_pick *picks = <ctf_pick *>_calloc(n_picks, sizeof(ctf_pick))
    try:
        for i, name in enumerate(columns):
            dtype, picks[i].at = cells.dtype.fields[name][:2]
            picks[i].size = dtype.itemsize
            if isinstance(rows, Rows) and rows.varies(name):
                offsets = found[name] = _numpy().zeros(n + 1, "i8")
                ends = offsets
                picks[i].ends = &ends[0]
            else:
                column = found[name] = _numpy().empty(n, dtype)
                picks[i].to = _first_byte(column)
        if n:
            with nogil:
                ctf_pick_columns(start, n, row_size, picks, n_picks)
        for i, name in enumerate(columns):
            if picks[i].ends != NULL:
                found[name] = _gathered(start + picks[i].at if n else NULL, n, row_size, found[name]), found[name]
    finally:
        PyMem_Free(picks)
    return found


cdef _gathered(const uint8_t *start, uint64_t n, uint32_t row_size, offsets):
    """The bytes that references refer to, whose offsets are known."""
    data = _numpy().empty(offsets[n] + CTF_SLACK, "u1")
    cdef uint8_t *to = _first_byte(data)
    with nogil:
        ctf_gather(start, n, row_size, to)
    return data[:len(data) - CTF_SLACK]


cdef uint8_t *_first_byte(array) except? NULL:
    """Of a contiguous array."""
    cdef uint8_t[::1] view
    if not array.nbytes:
        return NULL
    view = array.reshape(-1).view("u1")
    return &view[0]


def are_utf8(data, offsets):
    """Whether each text is UTF-8, of `Rows.values`."""
    cdef const uint8_t[::1] room = data
    cdef const int64_t[::1] ends = offsets
    cdef uint64_t n = len(offsets) - 1
    cdef int is_good = 1
    if room.shape[0]:
        with nogil:
            is_good = ctf_are_utf8(&room[0], &ends[0], n)
    return bool(is_good)


cdef _objects(list values):
    """A NumPy array of them. Assigning a list of arrays would try to make a matrix of it."""
    column = _numpy().empty(len(values), "O")
    cdef object[::1] cells = column
    cdef Py_ssize_t i
    for i in range(len(values)):
        cells[i] = values[i]
    return column
