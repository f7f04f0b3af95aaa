# event.pxi - part of _core: typed events, and contexts that Python provides.

from cpython.buffer cimport PyBUF_STRIDED_RO
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.type cimport type as _type

cdef extern from "Python.h":
    Py_ssize_t PyVectorcall_NARGS(size_t nargsf)
    object PyVectorcall_Call(object callable, object args, object kwargs)
    ctypedef PyObject *(*vectorcallfunc)(PyObject *, PyObject *const *, size_t, PyObject *) except NULL
    PyObject *Py_True
    PyObject *Py_False
    PyObject *Py_None
    int METH_NOARGS, METH_FASTCALL
    ctypedef PyObject *(*PyCFunction)(PyObject *, PyObject *)
    ctypedef struct PyMethodDef:
        const char *ml_name
        PyCFunction ml_meth
        int ml_flags
        const char *ml_doc
    void Py_INCREF_ptr "Py_INCREF" (PyObject *)
    PyObject **PySequence_Fast_ITEMS(PyObject *)
    PyObject *PyTuple_GET_ITEM_ptr "PyTuple_GET_ITEM" (PyObject *, Py_ssize_t)
    Py_ssize_t PyTuple_GET_SIZE_ptr "PyTuple_GET_SIZE" (PyObject *)

cdef extern from "core/encode.h":
    cdef enum:
        RINGBUF_KIND_UINT, RINGBUF_KIND_INT, RINGBUF_KIND_FLOAT, RINGBUF_KIND_BOOL, RINGBUF_KIND_STR, RINGBUF_KIND_BYTES
        RINGBUF_FORM_8, RINGBUF_FORM_4, RINGBUF_FORM_2, RINGBUF_FORM_1, RINGBUF_FORM_STR, RINGBUF_FORM_MANY
        RINGBUF_FEW_FIELDS

    cdef struct ringbuf_field:
        uint8_t kind
        uint8_t form
        uint8_t size
        uint8_t is_many
        uint32_t length
        uint64_t max
        PyObject *name
        PyObject *enum_class

    cdef struct ringbuf_value:
        Py_ssize_t size
        uint8_t has_view
        uint8_t has_memory

    bint ringbuf_small_uint(PyObject *number, uint64_t *bits)
    int ringbuf_measure_named(const ringbuf_field *f, PyObject *arg, ringbuf_value *v) except -1
    void ringbuf_value_release(ringbuf_value *v)
    Py_ssize_t ringbuf_measure_values(const ringbuf_field *fields, Py_ssize_t n, PyObject *const *args,
                                      ringbuf_value *values, int *holds) except -1
    void ringbuf_write_values(const ringbuf_field *fields, Py_ssize_t n, const ringbuf_value *values, uint8_t *at)
    void ringbuf_values_release(ringbuf_value *values, Py_ssize_t n)
    int ringbuf_record_args(ringbuf_channel *ch, const int *closed, uint32_t event_id, const ringbuf_field *fields,
                            Py_ssize_t n, PyObject *const *args)
    int ringbuf_record_after(ringbuf_channel *ch, const int *closed, uint32_t event_id, const void *start,
                             Py_ssize_t n_start, const ringbuf_field *fields, Py_ssize_t n, PyObject *const *args)
    bint RINGBUF_LIKELY(bint)
    bint RINGBUF_UNLIKELY(bint)

    cdef struct ringbuf_run:
        size_t off
        size_t size

    void ringbuf_write_row(const ringbuf_run *runs, Py_ssize_t n, const char *row, uint8_t *at)
    Py_ssize_t ringbuf_record_rows(ringbuf_channel *ch, const ringbuf_reservation *r, const ringbuf_run *runs,
                                   Py_ssize_t n, const char *row, Py_ssize_t stride, Py_ssize_t n_rows) nogil
    void ringbuf_default_value(const ringbuf_field *f, ringbuf_value *v)
    void ringbuf_enable_vectorcall(PyObject *type, Py_ssize_t offset)
    int ringbuf_add_methods(PyObject *type, PyMethodDef *methods) except -1

cdef enum:
    ROWS_AT_A_TIME = 65536  # recorded without the GIL, between looks for signals


cdef dict _KINDS = {"u": RINGBUF_KIND_UINT, "i": RINGBUF_KIND_INT, "f": RINGBUF_KIND_FLOAT}
cdef dict _FORMS = {8: RINGBUF_FORM_8, 4: RINGBUF_FORM_4, 2: RINGBUF_FORM_2, 1: RINGBUF_FORM_1}


@cython.final
@cython.internal
cdef class _Fields:
    """Fields compiled for encode.h."""

    cdef ringbuf_field *fields
    cdef Py_ssize_t n
    cdef readonly tuple names
    cdef tuple enum_classes

    def __cinit__(self, fields, enum_classes):
        """`fields`: of (name, base, length), as in schema.Field; `enum_classes`: for each, its enum.Enum class or None."""
        self.n = len(fields)
        self.names = tuple([name for name, _, _ in fields])
        self.enum_classes = tuple(enum_classes)
        self.fields = <ringbuf_field *>PyMem_Malloc(max(self.n, 1) * sizeof(ringbuf_field))
        if self.fields is NULL:
            raise MemoryError()
        for i, (_, base, length) in enumerate(fields):
            self._compile(&self.fields[i], base, length)
            self.fields[i].name = <PyObject *>self.names[i]
            self.fields[i].enum_class = NULL if self.enum_classes[i] is None else <PyObject *>self.enum_classes[i]

    cdef _compile(self, ringbuf_field *f, str base, length):
        memset(f, 0, sizeof(f[0]))
        if base == "str":
            f.kind = RINGBUF_KIND_STR
        elif base == "bytes":
            f.kind = RINGBUF_KIND_BYTES
        elif base == "bool":
            f.kind = RINGBUF_KIND_BOOL
            f.size = 1
        else:
            f.kind = _KINDS[base[0]]
            f.size = int(base[1:]) // 8
            if f.kind != RINGBUF_KIND_FLOAT:
                f.max = UINT64_MAX >> (64 - 8 * f.size + (f.kind == RINGBUF_KIND_INT))
        f.is_many = length is not None
        f.length = length or 0
        if f.is_many or base == "bytes":
            f.form = RINGBUF_FORM_MANY
        else:
            f.form = RINGBUF_FORM_STR if base == "str" else _FORMS[f.size]

    def __dealloc__(self):
        PyMem_Free(self.fields)


@cython.final
@cython.internal
cdef class _Rows:
    """How rows of a NumPy dtype become records."""

    cdef object dtype
    cdef ringbuf_run *runs
    cdef Py_ssize_t n
    cdef uint64_t size

    def __cinit__(self, Event event, dtype):
        """Raises TypeError where the dtype's fields are not the event's."""
        cdef _Fields fields = event.fields
        cdef ringbuf_field *f
        cdef Py_ssize_t i
        cdef size_t off, size
        self.dtype = dtype
        self.runs = <ringbuf_run *>PyMem_Malloc(max(fields.n, 1) * sizeof(ringbuf_run))
        if self.runs is NULL:
            raise MemoryError()
        if dtype.names is None or set(dtype.names) != set(fields.names):
            raise TypeError(f"event {event.name!r} takes rows with the fields {', '.join(fields.names)}, "
                            f"not those of {dtype}")
        for i in range(fields.n):
            f = &fields.fields[i]
            column, off = dtype.fields[fields.names[i]][:2]
            if not _is_column_of(f, column):
                raise TypeError(f"field {fields.names[i]!r}: rows must have {event.schema_type(i)} there, "
                                f"in this machine's byte order, not {column}")
            size = f.size * (f.length if f.is_many else 1)
            self.size += size
            if self.n and self.runs[self.n - 1].off + self.runs[self.n - 1].size == off:
                self.runs[self.n - 1].size += size
            else:
                self.runs[self.n] = ringbuf_run(off, size)
                self.n += 1

    def __dealloc__(self):
        PyMem_Free(self.runs)


cdef dict _COLUMN_KINDS = {RINGBUF_KIND_UINT: "u", RINGBUF_KIND_INT: "i", RINGBUF_KIND_FLOAT: "f",
                           RINGBUF_KIND_BOOL: "b"}


cdef bint _is_column_of(const ringbuf_field *f, column):
    base, shape = column.subdtype or (column, ())
    return (base.isnative and base.kind == _COLUMN_KINDS.get(f.kind) and base.itemsize == f.size and
            (f.length > 0 if f.is_many else True) and shape == ((f.length,) if f.is_many else ()))


@cython.final
cdef class ContextBlock:
    """The context fields of a record whose values only Python knows.

    Parameters
    ----------
    fields : sequence of (name, base, length), as in schema.Field
    providers : sequence of (callable or None)
        One for each field, called without arguments for every record. One that raises is
        reported through `sys.unraisablehook`, and its field is 0 or empty; so is that of None.
    enum_classes : sequence of (enum.Enum class or None)
    own, copied : tuple of int or None
        Which of them the record has, and its copy in another channel, in order; None: the core encodes those.
    """

    cdef _Fields fields
    cdef tuple providers
    cdef tuple own, copied

    def __cinit__(self, fields, providers, enum_classes, own, copied):
        self.fields = _Fields(fields, enum_classes)
        self.providers = tuple(providers)
        self.own = own
        self.copied = copied

    cdef tuple encode(self):
        """The block of a record, and that of its copy; None: the core encodes it."""
        cdef ringbuf_value *values = <ringbuf_value *>PyMem_Malloc(max(self.fields.n, 1) * sizeof(ringbuf_value))
        cdef Py_ssize_t n = 0
        if values is NULL:
            raise MemoryError()
        kept = []
        try:
            for n in range(self.fields.n):
                self._measure(n, &values[n], kept)
            n = self.fields.n
            return (None if self.own is None else self._block(values, self.own),
                    None if self.copied is None else self._block(values, self.copied))
        finally:
            ringbuf_values_release(values, n)  # those that were measured
            PyMem_Free(values)

    cdef bytes _block(self, const ringbuf_value *values, chosen):
        cdef bytes block
        cdef Py_ssize_t i, total = 0
        cdef uint8_t *at
        for i in chosen:
            total += values[i].size
        block = PyBytes_FromStringAndSize(NULL, total)
        at = <uint8_t *>PyBytes_AS_STRING(block)
        for i in chosen:
            ringbuf_write_values(&self.fields.fields[i], 1, &values[i], at)
            at += values[i].size
        return block

    cdef _measure(self, Py_ssize_t i, ringbuf_value *value, list kept):
        provider = self.providers[i]
        if provider is None:
            ringbuf_default_value(&self.fields.fields[i], value)
            return
        value.has_view = value.has_memory = 0
        try:
            result = provider()
            kept.append(result)  # its memory is read when the block is written
            ringbuf_measure_named(&self.fields.fields[i], <PyObject *>result, value)
        except BaseException as error:
            ringbuf_value_release(value)
            _report(error, provider)
            ringbuf_default_value(&self.fields.fields[i], value)


@cython.final
cdef class Event:
    """A typed event: call it with its fields' values, in order or by name, to record it.

    From `Tracer.event`. Returns True if recorded, False if lost and counted (or if
    `enabled` is False, which counts nothing).

    Raises
    ------
    TypeError
        Wrong number of arguments, or an argument of the wrong type.
    OverflowError
        An integer or float that does not fit its field.
    UnicodeEncodeError
        A str with lone surrogates.
    ValueError
        An array of the wrong length; the channel is closed.

    Whatever is raised, nothing has been recorded. Thread safety: any thread.
    Source: src/ringbuf/encode.h, include/ringbuf/reserve.h.
    """

    cdef vectorcallfunc vectorcall
    cdef _Fields fields
    cdef Channel channel
    cdef ContextBlock contexts
    cdef Event copy                     # of another channel, which gets the same record too
    cdef uint32_t event_id
    cdef bint is_direct                 # few fields, no contexts to ask Python for
    cdef public bint enabled
    cdef readonly str name
    cdef str contexts_text, fields_text
    cdef _Rows rows                     # of the dtype that many() had last; critical section

    def __cinit__(self, Channel channel not None, event_id, str name, str contexts_text, str fields_text, fields,
                  enum_classes, contexts, copy=None):
        """The declared id and texts; `fields`: of (name, base, length); `contexts`: ContextBlock or None; `copy`:
        an Event of another channel with the same fields, or None: what is recorded here is recorded there too."""
        if channel.ch is NULL:
            raise ValueError("the channel is closed")
        self.vectorcall = <vectorcallfunc>_call_event
        ringbuf_share(<PyObject *>self)
        self.channel = channel
        self.event_id = event_id
        self.name = name
        self.contexts_text = contexts_text
        self.fields_text = fields_text
        self.fields = _Fields(fields, enum_classes)
        self.contexts = contexts
        self.copy = copy
        self.is_direct = contexts is None and copy is None and self.fields.n <= RINGBUF_FEW_FIELDS
        self.enabled = True

    @property
    def id(self):
        """int: event class id in the channel."""
        return self.event_id

    @property
    def schema(self):
        """ringbuf.ctf.schema.EventSchema: as declared."""
        from .ctf.schema import EventSchema
        return EventSchema(self.event_id, self.name, self.contexts_text, self.fields_text)

    def __call__(self, *values, **named_values):
        # For those who look whether there is a __call__; a call itself goes through the slot.
        return PyVectorcall_Call(self, values, named_values)

    def __repr__(self):
        return f"<ringbuf.Event {self.name!r}({self.fields_text})>"

    def __reduce__(self):
        raise TypeError("an Event does not pickle: pass the Tracer, and call its event() again")

    cdef bint order(self, PyObject *const *args, Py_ssize_t n, PyObject *kwnames, Py_ssize_t n_named,
                    PyObject **ordered) noexcept:
        """Put the arguments in order of fields, if their names are the very objects of the declaration, as literal
        ones are. As many as there are fields, so none is missing if none is there twice."""
        cdef Py_ssize_t i, at
        cdef PyObject *name
        memset(&ordered[n], 0, n_named * sizeof(PyObject *))
        memcpy(ordered, args, n * sizeof(PyObject *))
        for i in range(n_named):
            name = PyTuple_GET_ITEM_ptr(kwnames, i)
            at = n
            while at < self.fields.n and self.fields.fields[at].name is not name:
                at += 1
            if at == self.fields.n or ordered[at] is not NULL:
                return False
            ordered[at] = args[n + i]
        return True

    cdef list by_name(self, PyObject *const *args, Py_ssize_t n, tuple kwnames):
        """Arguments in order of fields."""
        cdef Py_ssize_t i
        values = [None] * self.fields.n
        seen = [False] * self.fields.n
        for i in range(n):
            values[i] = <object>args[i]
            seen[i] = True
        for i in range(len(kwnames)):
            try:
                at = self.fields.names.index(kwnames[i])
            except ValueError:
                raise TypeError(f"event {self.name!r} has no field {kwnames[i]!r}") from None
            if seen[at]:
                raise TypeError(f"event {self.name!r} got two values for field {kwnames[i]!r}")
            values[at] = <object>args[n + i]
            seen[at] = True
        return values

    cdef str schema_type(self, Py_ssize_t i):
        cdef const ringbuf_field *f = &self.fields.fields[i]
        if f.kind not in _COLUMN_KINDS or (f.is_many and not f.length):
            return "a size that does not vary (this event is recorded by calling it)"
        kind = "bool" if f.kind == RINGBUF_KIND_BOOL else f"{_COLUMN_KINDS[f.kind]}{8 * f.size}"
        return f"{kind}[{f.length}]" if f.is_many else kind

    def many(self, rows):
        """Record each row of a structured NumPy array.

        Its fields are matched by name, in any order; their types must be the event's. For events of
        numbers, bools and arrays of fixed length. Contexts that Python provides are asked for once.

        Parameters
        ----------
        rows : numpy.ndarray
            One-dimensional, structured; its rows may lie apart.

        Returns
        -------
        int
            How many were recorded. The others are lost, and counted by cause in `stats`.

        Rows of up to 4 KiB are claimed at once, and have one time. Who is killed meanwhile loses those,
        counted as torn.

        Raises
        ------
        TypeError
            Not such an array; nothing was recorded.

        Thread safety: any thread. Runs without the GIL, if the channel has no callbacks and does not block.
        """
        cdef Py_buffer view
        cdef _Rows how
        if not self.enabled:
            return 0
        dtype = getattr(rows, "dtype", None)
        if hasattr(rows, "mask"):
            raise TypeError("many() takes no masked array: some of its values are none; see its filled()")
        if dtype is None or rows.ndim != 1:
            raise TypeError(f"many() takes a one-dimensional structured NumPy array, not {type(rows).__name__}")
        how = self.rows_of(dtype)
        self.channel.open_ch()
        PyObject_GetBuffer(rows, &view, PyBUF_STRIDED_RO)
        try:
            if view.ndim != 1 or view.itemsize != dtype.itemsize:  # what it says of itself need not be so
                raise TypeError(f"many() takes a one-dimensional structured NumPy array, not {type(rows).__name__}")
            return self.record_rows(how, &view)
        finally:
            PyBuffer_Release(&view)

    cdef _Rows rows_of(self, dtype):
        cdef _Rows rows
        with cython.critical_section(self):
            rows = self.rows
        if rows is None or (rows.dtype is not dtype and rows.dtype != dtype):
            rows = _Rows(self, dtype)
            with cython.critical_section(self):
                self.rows = rows
        return rows

    cdef Py_ssize_t record_rows(self, _Rows rows, const Py_buffer *view) except -1:
        cdef Py_ssize_t recorded
        cdef tuple blocks = (None, None)
        self.channel.enter_open()
        try:
            if self.contexts is not None and not _is_refusing(self.channel.ch):
                blocks = _encode_contexts(self, self.channel)
            recorded = _record_rows(self, self.channel, rows, view, blocks[0])
        finally:
            self.channel.leave()
        if self.copy is not None:
            self.copy.copy_rows(rows, view, blocks[1])
        return recorded

    # What is recorded in another channel too: that it is closed, or full, is no affair of the caller's.

    cdef int copy_values(self, const ringbuf_value *values, uint64_t size, bytes block) except -1:
        try:
            self.channel.enter_open()
            try:
                _record_values(self, self.channel, values, size, block)
            finally:
                self.channel.leave()
        except BaseException as error:
            if _is_of_program(error):
                _raise_later(error)
        return 0

    cdef int copy_rows(self, _Rows rows, const Py_buffer *view, bytes block) except -1:
        try:
            self.channel.enter_open()
            try:
                _record_rows(self, self.channel, rows, view, block)
            finally:
                self.channel.leave()
        except BaseException as error:
            if _is_of_program(error):
                _raise_later(error)
        return 0

    cdef int wrong_count(self, Py_ssize_t n) except -1:
        raise TypeError(f"event {self.name!r} takes {self.fields.n} values ({', '.join(self.fields.names)}), not {n}")


cdef PyObject *_call_event(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames) except NULL:
    cdef Py_ssize_t n = PyVectorcall_NARGS(nargsf)
    cdef int recorded = 0
    if (<Event>self).enabled:
        if kwnames is NULL and n == (<Event>self).fields.n:
            recorded = _record_event(<Event>self, args)
        else:
            recorded = _record_by_name(<Event>self, args, n, kwnames)
    cdef PyObject *result = Py_True if recorded else Py_False
    Py_INCREF_ptr(result)
    return result


cdef int _record_by_name(Event event, PyObject *const *args, Py_ssize_t n, PyObject *kwnames) except -1:
    cdef PyObject *ordered[RINGBUF_FEW_FIELDS]
    cdef list values
    cdef Py_ssize_t n_named = 0 if kwnames is NULL else PyTuple_GET_SIZE_ptr(kwnames)
    if n + n_named != event.fields.n:
        event.wrong_count(n + n_named)
    if not n_named:
        return _record_event(event, args)
    if event.fields.n <= RINGBUF_FEW_FIELDS and event.order(args, n, kwnames, n_named, ordered):
        return _record_event(event, ordered)
    values = event.by_name(args, n, <tuple>kwnames)
    return _record_event(event, PySequence_Fast_ITEMS(<PyObject *>values))


cdef inline bint _is_plain(PyObject *event) noexcept:
    """A record of this Event runs no Python code, does not wait, and the thread needs no use of the channel."""
    return ((<Event>event).is_direct and not (<Event>event).channel.is_guarded and ringbuf_refusals is NULL and
            ringbuf_is_known_here((<Event>event).channel.ch))


cdef inline int _record_event(Event event, PyObject *const *args) except -1:
    cdef Py_ssize_t n = event.fields.n
    cdef int ret
    if RINGBUF_UNLIKELY(not _is_plain(<PyObject *>event)):
        return _record_guarded(event, args)
    if RINGBUF_UNLIKELY(ringbuf_flag(<const int *>&event.channel.is_closed)):
        event.channel.open_ch()
    ret = ringbuf_record_args(event.channel.ch, <const int *>&event.channel.is_closed, event.event_id, event.fields.fields,
                              n, args)
    if RINGBUF_UNLIKELY(ret < 0):
        if ret == -2:
            event.channel.open_ch()  # raises
        return -1
    return ret


cdef int _record_guarded(Event event, PyObject *const *args) except -1:
    """The path of the others."""
    cdef ringbuf_value *values = <ringbuf_value *>PyMem_Malloc(event.fields.n * sizeof(ringbuf_value))
    if values is NULL:
        raise MemoryError()
    try:
        event.channel.enter_open()
        try:
            return _record_now(event, event.channel, args, values)
        finally:
            event.channel.leave()
    finally:
        PyMem_Free(values)


cdef tuple _encode_contexts(Event event, Channel channel):
    cdef ringbuf_refusal refusal
    _refuse_begin(&refusal, channel.ch)  # a provider that records would be called for that record, and so on
    try:
        return event.contexts.encode()
    finally:
        _refuse_end(&refusal)


cdef int _record_now(Event event, Channel channel, PyObject *const *args, ringbuf_value *values) except -1:
    cdef tuple blocks = (None, None)
    cdef Py_ssize_t n = event.fields.n, size
    cdef int holds, ret
    if event.contexts is not None and not (ringbuf_refusals is not NULL and _is_refusing(channel.ch)):
        blocks = _encode_contexts(event, channel)
    size = ringbuf_measure_values(event.fields.fields, n, args, values, &holds)
    try:
        ret = _record_values(event, channel, values, size, blocks[0])
        if event.copy is not None:
            event.copy.copy_values(values, size, blocks[1])
    finally:
        ringbuf_values_release(values, n)
    return ret


cdef int _record_values(Event event, Channel channel, const ringbuf_value *values, uint64_t size,
                        bytes block) except -1:
    """Values that are measured. Returns 1, or 0: lost."""
    cdef ringbuf_reservation r
    memset(&r, 0, sizeof(r))
    r.payload_size = size
    r.event_id = event.event_id
    if block is not None:
        r.context = PyBytes_AS_STRING(block)
        r.context_size = <uint32_t>len(block)
    if channel.reserve_into(&r):
        return 0
    ringbuf_write_values(event.fields.fields, event.fields.n, values, r.payload)
    ringbuf_commit(channel.ch, &r)
    return 1


cdef Py_ssize_t _record_rows(Event event, Channel channel, _Rows rows, const Py_buffer *view, bytes block) except -1:
    cdef ringbuf_reservation r
    cdef Py_ssize_t n = view.shape[0], done = 0, at_once, recorded = 0
    cdef const char *row
    cdef bint is_direct = not channel.is_guarded and ringbuf_refusals is NULL
    memset(&r, 0, sizeof(r))
    r.event_id = event.event_id
    r.payload_size = rows.size
    if block is not None:
        r.context = PyBytes_AS_STRING(block)
        r.context_size = <uint32_t>len(block)
    while done < n:
        channel.open_ch()
        at_once = min(n - done, ROWS_AT_A_TIME) if is_direct else 1
        row = <const char *>view.buf + done * view.strides[0]
        if is_direct:
            with nogil:
                recorded += ringbuf_record_rows(channel.ch, &r, rows.runs, rows.n, row, view.strides[0], at_once)
            PyErr_CheckSignals()
        else:
            recorded += _record_row(channel, &r, rows, row)
        done += at_once
    return recorded


cdef int _record_row(Channel channel, const ringbuf_reservation *like, _Rows rows, const char *row) except -1:
    cdef ringbuf_reservation r = like[0]
    if channel.reserve_into(&r):
        return 0
    ringbuf_write_row(rows.runs, rows.n, row, r.payload)
    ringbuf_commit(channel.ch, &r)
    return 1


cdef _make_events_callable():
    cdef PyObject *any_object = <PyObject *>Event  # only its address matters
    cdef char *field = <char *>&(<Event>any_object).vectorcall
    ringbuf_enable_vectorcall(<PyObject *>Event, field - <char *>any_object)


_make_events_callable()
