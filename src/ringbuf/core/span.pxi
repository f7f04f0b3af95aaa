# span.pxi - part of _core: spans, which are two events with one id.

from _contextvars import ContextVar

from cpython.contextvars cimport PyContextVar_Set
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM

from . import texts as _texts

cdef extern from "core/span.h":
    uint64_t ringbuf_next_span_id()
    void ringbuf_begin_span_ids(uint64_t)
    int ringbuf_record_span_end(ringbuf_channel *ch, const int *closed, uint32_t event_id, uint64_t id)
    bint ringbuf_is_alone_here(PyObject *value, Py_ssize_t references)
    int ringbuf_test_contexts(PyObject *variable) except -1
    void ringbuf_be_methods(PyObject *type)
    bint Py_IS_TYPE_ptr "Py_IS_TYPE" (PyObject *, void *)
    int PyContextVar_Get_ptr "PyContextVar_Get" (PyObject *, PyObject *, PyObject **) except -1
    void PyErr_NormalizeException(PyObject **type, PyObject **error, PyObject **traceback)

cdef enum:
    N_IDS = 2  # fields of a begin that are not the span's own: its id, and that of the span around it

cdef struct open_span:
    uint64_t ids[N_IDS]
    uint64_t began  # when, in nanoseconds, if somebody wants to know how long it takes; else 0
    unsigned int forks

cdef object _current_span = ContextVar("ringbuf_span", default=None)  # a _Place
cdef unsigned int _span_forks = 0

ringbuf_test_contexts(<PyObject *>_current_span)


@cython.final
@cython.internal
@cython.freelist(64)
cdef class _Place:
    """Where a context is: in which span, 0 for none. Changed only while no other context can find it."""

    cdef uint64_t number


# What each span goes through is done by addresses: to count references that are held elsewhere is a part of its cost.

cdef inline PyObject *_current_place() except NULL:
    """A new reference."""
    cdef PyObject *found = NULL
    PyContextVar_Get_ptr(<PyObject *>_current_span, NULL, &found)
    return found


cdef inline uint64_t _number_of(PyObject *place) noexcept:
    return (<_Place>place).number if Py_IS_TYPE_ptr(place, <void *>_Place) else 0


cdef inline int _move(PyObject *place, uint64_t number) except -1:
    """From the current place to a span. The caller's reference to the place is the only one of ours."""
    cdef _Place other
    if RINGBUF_LIKELY(Py_IS_TYPE_ptr(place, <void *>_Place) and ringbuf_is_alone_here(place, 1)):
        (<_Place>place).number = number
        return 0
    other = _Place.__new__(_Place)
    other.number = number
    PyContextVar_Set(_current_span, other)
    return 0


cdef inline int _move_back(uint64_t number) except -1:
    """From wherever this context is."""
    cdef PyObject *place = _current_place()
    try:
        _move(place, number)
    finally:
        Py_DECREF_ptr(place)
    return 0


def current_span():
    """int: the id of the innermost span that is open in this context; 0: there is none."""
    cdef PyObject *place = _current_place()
    cdef uint64_t number = _number_of(place)
    Py_DECREF_ptr(place)
    return number


def _begin_span_ids():
    """Ids count from where no other process counts: chosen among so many that two ranges never meet."""
    global _span_forks
    ringbuf_begin_span_ids(int.from_bytes(os.urandom(8), "little") >> 5)
    _span_forks += 1


_begin_span_ids()
os.register_at_fork(after_in_child=_begin_span_ids)


cdef str _text_of(object error):
    try:
        return _texts.of_error(error)
    except Exception:  # at the limit of recursion, say
        return type(error).__name__


@cython.final
cdef class SpanType:
    """Spans of one name and one list of fields: call it with their values, in order or by name.

    From `Tracer.span_type`. Thread safety: any thread.

    >>> query = tracer.span_type("query", table="str")
    >>> with query("orders"): ...
    """

    cdef vectorcallfunc vectorcall
    cdef Event begin, end
    cdef tuple names
    cdef Py_ssize_t n  # of values

    def __cinit__(self, Event begin not None, Event end not None):
        """`begin`: of span_id, parent_id and the span's own fields; `end`: of span_id and error."""
        if begin.fields_text.split(",")[:N_IDS] != ["span_id:u64", "parent_id:u64"] or end.fields_text != "span_id:u64,error:str":
            raise TypeError(f"no span: {begin!r} to {end!r}")
        self.vectorcall = <vectorcallfunc>_call_span_type
        ringbuf_share(<PyObject *>self)
        self.begin = begin
        self.end = end
        self.names = begin.fields.names[N_IDS:]
        self.n = len(self.names)

    @property
    def name(self):
        """str: of its spans."""
        return self.begin.name

    @property
    def enabled(self):
        """bool: False: its spans are not recorded, and nothing is counted."""
        return self.begin.enabled

    @enabled.setter
    def enabled(self, bint value):
        self.begin.enabled = value

    def __call__(self, *values, **named):
        # For those who look whether there is a __call__; a call itself goes through the slot.
        return PyVectorcall_Call(self, values, named)

    def _of(self, dict fields not None):
        """A span, of all fields by name."""
        return _new_span(self, self.by_name(fields, 0))

    cdef tuple by_name(self, dict named, Py_ssize_t first):
        """The values of the fields from the first-th on, in their order."""
        cdef tuple names = self.names[first:] if first else self.names
        if len(named) == len(names):
            try:
                return tuple([named[name] for name in names])
            except KeyError:
                pass
        wrong = sorted({*named} ^ {*names})
        raise TypeError(f"span {self.name!r} takes {', '.join(self.names) or 'no values'}: see {', '.join(wrong)}")

    cdef int record_begin(self, const uint64_t *ids, PyObject *const *values) except -1:
        """As an event like any other. Returns 1, or 0: lost."""
        cdef tuple args = (ids[0], ids[1]) + _tuple_of(values, self.n)
        try:
            return _record_event(self.begin, PySequence_Fast_ITEMS(<PyObject *>args))
        except (TypeError, OverflowError) as error:
            self.refuse(error)

    cdef int record_begin_failed(self, int ret) except -1:
        """Raise what ringbuf_record_after returned."""
        if ret == -2:
            self.begin.channel.open_ch()
        try:
            _raise_what_is_set()
        except (TypeError, OverflowError) as error:
            self.refuse(error)

    cdef int refuse(self, object error) except -1:
        fields = self.begin.fields_text.removeprefix("span_id:u64,parent_id:u64,")
        raise type(error)(f"span {self.name!r} was declared, or first used, with {fields}: {error}") from None

    cdef int record_end(self, uint64_t number, object error) except -1:
        """As an event like any other. What cannot be recorded is no reason to fail here."""
        cdef PyObject *args[2]
        cdef object id = number, text
        text = "" if error is None else _text_of(error)
        args[0] = <PyObject *>id
        args[1] = <PyObject *>text
        try:
            _record_event(self.end, args)
        except ValueError:
            pass  # the channel was closed meanwhile
        return 0

    def __repr__(self):
        return f"<ringbuf.SpanType {self.name!r}({', '.join(map(str, self.names))})>"

    def __reduce__(self):
        raise TypeError("a SpanType does not pickle: pass the Tracer, and call its span_type() again")


cdef PyObject *_call_span_type(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames) except NULL:
    cdef Span span
    cdef Py_ssize_t n = PyVectorcall_NARGS(nargsf)
    if RINGBUF_LIKELY(kwnames is NULL and n == (<SpanType>self).n):
        span = Span.__new__(Span)
        span.kind = <SpanType>self
        if n == 1:
            span.only = <object>args[0]
        elif n:
            span.values = _tuple_of(args, n)
    else:
        span = _new_span(<SpanType>self, _ordered(<SpanType>self, args, n, kwnames))
    Py_INCREF_ptr(<PyObject *>span)
    return <PyObject *>span


cdef tuple _ordered(SpanType kind, PyObject *const *args, Py_ssize_t n, PyObject *kwnames):
    """Values by position and by name."""
    cdef tuple values = _tuple_of(args, n)
    cdef Py_ssize_t i
    if kwnames is not NULL:
        named = {name: <object>args[n + i] for i, name in enumerate(<tuple>kwnames)}
        values += kind.by_name(named, n)
    if len(values) != kind.n:
        raise TypeError(f"span {kind.name!r} takes {kind.n} values ({', '.join(kind.names)}), not {len(values)}")
    return values


cdef tuple _tuple_of(PyObject *const *args, Py_ssize_t n):
    cdef tuple values
    cdef Py_ssize_t i
    if not n:
        return ()
    values = PyTuple_New(n)
    for i in range(n):
        Py_INCREF(<object>args[i])
        PyTuple_SET_ITEM(values, i, <object>args[i])
    return values


cdef _make_span_types_callable():
    cdef PyObject *any_object = <PyObject *>SpanType  # only its address matters
    cdef char *field = <char *>&(<SpanType>any_object).vectorcall
    ringbuf_enable_vectorcall(<PyObject *>SpanType, field - <char *>any_object)


_make_span_types_callable()


cdef Span _new_span(SpanType kind, tuple values):
    cdef Span span = Span.__new__(Span)
    span.kind = kind
    if kind.n == 1:
        span.only = values[0]
    else:
        span.values = values
    return span


# ---- to be in a span ----

cdef int _raise_what_is_set() except -1:
    return -1


cdef inline object _durations_of(Event begin):
    """Durations or None: who wants to know how long these spans take; they may watch the copy's channel."""
    if begin.channel.durations is not None or begin.copy is None:
        return begin.channel.durations
    return begin.copy.channel.durations


cdef inline bint _may_be_timed(PyObject *kind) noexcept:
    """Whether somebody may want to know how long its spans take: see `_durations_of`."""
    return (<SpanType>kind).begin.channel.durations is not None or (<SpanType>kind).begin.copy is not None


cdef inline int _begin_span(PyObject *kind, PyObject *const *values, open_span *span) except -1:
    """Record the begin of a span of this type, and be inside of it. Returns 1, or 0: it is lost.

    `values` are those of its fields, as many as there are.
    """
    cdef uint64_t *ids = span.ids
    cdef PyObject *place = _current_place()
    cdef int recorded
    span.ids[0] = ringbuf_next_span_id()
    span.ids[1] = _number_of(place)
    try:
        recorded = _record_begin(kind, values, span.ids)
        if recorded:
            span.forks = _span_forks
            span.began = 0
            if RINGBUF_UNLIKELY(_may_be_timed(kind)) and _durations_of((<SpanType>kind).begin) is not None:
                span.began = _now_ns()
            _move(place, span.ids[0])
    finally:
        Py_DECREF_ptr(place)
    return recorded


cdef inline int _record_begin(PyObject *kind, PyObject *const *values, const uint64_t *ids) except -1:
    cdef PyObject *begin = <PyObject *>(<SpanType>kind).begin
    cdef int recorded
    if RINGBUF_UNLIKELY(not _is_plain(begin) or ringbuf_flag(<const int *>&(<Event>begin).channel.is_closed)):
        return (<SpanType>kind).record_begin(ids, values)
    recorded = ringbuf_record_after(
        (<Event>begin).channel.ch, <const int *>&(<Event>begin).channel.is_closed, (<Event>begin).event_id, ids,
        N_IDS * sizeof(uint64_t), (<Event>begin).fields.fields + N_IDS, (<Event>begin).fields.n - N_IDS, values)
    if RINGBUF_UNLIKELY(recorded < 0):
        (<SpanType>kind).record_begin_failed(recorded)
    return recorded


cdef inline int _end_span(PyObject *kind, const open_span *span, PyObject *error) except -1:
    cdef PyObject *end = <PyObject *>(<SpanType>kind).end
    _move_back(span.ids[1])
    if RINGBUF_UNLIKELY(span.forks != _span_forks):
        return 0  # this is a forked child, and the span the parent's
    if RINGBUF_LIKELY(error is Py_None and _is_plain(end)):
        ringbuf_record_span_end((<Event>end).channel.ch, <const int *>&(<Event>end).channel.is_closed,
                                (<Event>end).event_id, span.ids[0])
    else:
        (<SpanType>kind).record_end(span.ids[0], <object>error)
    if RINGBUF_UNLIKELY(span.began != 0):
        durations = _durations_of((<SpanType>kind).begin)
        if durations is not None:
            (<Durations>durations).ended((<SpanType>kind).begin.name, span.began)
    return 0


@cython.final
@cython.freelist(16)
@cython.no_gc  # values are numbers and texts, and what is neither is refused when it is entered
@cython.nonecheck(True)  # of Span.__new__, which has no kind
cdef class Span:
    """What `Tracer.span` gives: a context manager that records a begin, and an end.

    It can be used again after its end, and then is another span. An exception that passes goes
    on; its text stands in the end. Where the begin was lost, there is no end.

    Belongs to one thread or task at a time; the end may be in another than the begin.
    """

    cdef SpanType kind
    cdef object only   # the value of a span that has one field
    cdef tuple values  # those of one that has more
    cdef open_span state
    cdef bint is_open

    def __init__(self):
        raise TypeError("a Span comes from Tracer.span() or a SpanType")

    @property
    def name(self):
        """str"""
        return self.kind.name

    @property
    def id(self):
        """int: of the latest use; 0 if there was none, or its begin was not recorded."""
        return self.state.ids[0]

    def link(self):
        """int: what names this span to whoever works on because of it, in another thread, task, process or machine.

        To be put into a queue's item, a header (as digits), an argument; `Tracer.follow` takes it. The `id`.
        """
        return self.state.ids[0]

    def _leave(self):
        """What comes is not inside this span, though it is open: its generator waits."""
        if self.is_open:
            _move_back(self.state.ids[1])

    def _back(self):
        """The generator goes on."""
        cdef PyObject *place
        if self.is_open:
            place = _current_place()
            self.state.ids[1] = _number_of(place)
            Py_DECREF_ptr(place)
            _move_back(self.state.ids[0])

    def __repr__(self):
        return f"<ringbuf.Span {self.kind.name!r}{', open' if self.is_open else ''}>"

    def __reduce__(self):
        raise TypeError("a Span is one: a copy would end it twice")

    cdef int refuse_entry(self) except -1:
        if self.kind is None:
            raise AttributeError("a Span comes from Tracer.span() or a SpanType")
        raise RuntimeError(f"span {self.kind.name!r} is open already: each `with` takes one of its own")


cdef PyObject *_enter_span(PyObject *self, PyObject *_nothing) except NULL:
    cdef open_span state
    cdef PyObject *kind = <PyObject *>(<Span>self).kind
    cdef PyObject *only
    cdef PyObject *const *values = &only
    if RINGBUF_UNLIKELY((<Span>self).is_open or kind is Py_None):
        (<Span>self).refuse_entry()
    (<Span>self).state.ids[0] = 0
    if (<SpanType>kind).begin.enabled:
        only = <PyObject *>(<Span>self).only
        if (<SpanType>kind).n > 1:
            values = PySequence_Fast_ITEMS(<PyObject *>(<Span>self).values)
        if _begin_span(kind, values, &state):
            (<Span>self).state = state
            (<Span>self).is_open = True
    Py_INCREF_ptr(self)
    return self


cdef PyObject *_exit_span(PyObject *self, PyObject *const *args, Py_ssize_t n) except NULL:
    if RINGBUF_UNLIKELY(n != 3):
        raise TypeError(f"__exit__() takes 3 arguments (type, exception, traceback), not {n}")
    if (<Span>self).is_open:
        (<Span>self).is_open = False
        _end_span(<PyObject *>(<Span>self).kind, &(<Span>self).state, args[1])
    return ringbuf_none()


cdef PyMethodDef _span_methods[3]
_span_methods[0] = PyMethodDef(b"__enter__", <PyCFunction>_enter_span, METH_NOARGS, b"__enter__($self, /)\n--\n\n")
_span_methods[1] = PyMethodDef(b"__exit__", <PyCFunction><void *>_exit_span, METH_FASTCALL,
                               b"__exit__($self, exc_type, exc, traceback, /)\n--\n\n")
_span_methods[2] = PyMethodDef(NULL, NULL, 0, NULL)
ringbuf_add_methods(<PyObject *>Span, _span_methods)


# ---- traced functions ----


@cython.final
cdef class Traced:
    """What `Tracer.trace` makes of a plain function: each call is a span.

    Like the object that `functools.lru_cache` gives, it stands for the function and has no frame of its own.
    """

    cdef vectorcallfunc vectorcall
    cdef object function
    cdef SpanType kind
    cdef dict __dict__
    cdef object __weakref__

    def __cinit__(self, function, SpanType kind not None):
        """`kind`: of spans without fields."""
        if kind.names:
            raise TypeError(f"spans of {kind.name!r} have fields")
        self.vectorcall = <vectorcallfunc>_call_traced
        self.function = function
        self.kind = kind

    def __get__(self, instance, owner):
        return self if instance is None else PyMethod_New(self, instance)

    def __call__(self, *args, **named):
        # For those who look whether there is a __call__; a call itself goes through the slot.
        return PyVectorcall_Call(self, args, named)

    def __getattr__(self, name):
        return getattr(self.function, name)

    def __repr__(self):
        return f"<ringbuf.Traced {self.function!r}>"

    def __reduce__(self):
        return self.__qualname__

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self


cdef PyObject *_call_traced(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames) except NULL:
    cdef PyObject *kind = <PyObject *>(<Traced>self).kind
    cdef open_span span
    cdef PyObject *result
    cdef bint is_open = (<SpanType>kind).begin.enabled and _begin_span(kind, NULL, &span)
    result = PyObject_Vectorcall(<PyObject *>(<Traced>self).function, args, nargsf, kwnames)
    if is_open:
        if RINGBUF_LIKELY(result is not NULL):
            _end_span(kind, &span, Py_None)
        else:
            _end_span_by_error(kind, &span)
    return result


cdef void _end_span_by_error(PyObject *kind, const open_span *span) noexcept:
    """The exception that is on its way goes on."""
    cdef PyObject *type = NULL
    cdef PyObject *error = NULL
    cdef PyObject *traceback = NULL
    PyErr_Fetch(&type, &error, &traceback)
    PyErr_NormalizeException(&type, &error, &traceback)
    try:
        _end_span(kind, span, Py_None if error is NULL else error)
    except BaseException as failed:
        _report(failed, <object>kind)
    PyErr_Restore(type, error, traceback)


cdef _make_traced_callable():
    cdef PyObject *any_object = <PyObject *>Traced  # only its address matters
    cdef char *field = <char *>&(<Traced>any_object).vectorcall
    ringbuf_enable_vectorcall(<PyObject *>Traced, field - <char *>any_object)
    ringbuf_be_methods(<PyObject *>Traced)


_make_traced_callable()
