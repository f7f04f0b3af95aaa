# span.pxi - part of _core: spans, which are two events with one id.

from _contextvars import ContextVar

from cpython.contextvars cimport PyContextVar_Set, get_value
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM

from . import texts as _texts

cdef object _current_span = ContextVar("ringbuf_span", default=0)  # id of the innermost span that is open
cdef uint64_t _last_span_id = 0
cdef unsigned int _span_forks = 0


def _begin_span_ids():
    """Ids count from where no other process counts: chosen among so many that two ranges never meet."""
    global _last_span_id, _span_forks
    _last_span_id = int.from_bytes(os.urandom(8), "little") >> 5
    _span_forks += 1


_begin_span_ids()
os.register_at_fork(after_in_child=_begin_span_ids)


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

    def __cinit__(self, Event begin not None, Event end not None):
        """`begin`: of span_id, parent_id and the span's own fields; `end`: of span_id and error."""
        if begin.fields.names[:2] != ("span_id", "parent_id") or end.fields.names != ("span_id", "error"):
            raise TypeError(f"no span: {begin!r} to {end!r}")
        self.vectorcall = <vectorcallfunc>_call_span_type
        self.begin = begin
        self.end = end
        self.names = begin.fields.names[2:]

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

    def __repr__(self):
        return f"<ringbuf.SpanType {self.name!r}({', '.join(map(str, self.names))})>"

    def __reduce__(self):
        raise TypeError("a SpanType does not pickle: pass the Tracer, and call its span_type() again")


cdef PyObject *_call_span_type(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames) except NULL:
    cdef SpanType kind = <SpanType>self
    cdef Py_ssize_t i, n = PyVectorcall_NARGS(nargsf)
    cdef tuple values = _tuple_of(args, n)
    if kwnames is not NULL:
        named = {name: <object>args[n + i] for i, name in enumerate(<tuple>kwnames)}
        values += kind.by_name(named, n)
    if len(values) != len(kind.names):
        raise TypeError(f"span {kind.name!r} takes {len(kind.names)} values ({', '.join(kind.names)}), not {len(values)}")
    span = _new_span(kind, values)
    Py_INCREF(span)
    return <PyObject *>span


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
    span.values = values
    return span


cdef inline object _durations_of(Event begin):
    """Durations or None: who wants to know how long these spans take; they may watch the copy's channel."""
    if begin.channel.durations is not None or begin.copy is None:
        return begin.channel.durations
    return begin.copy.channel.durations


@cython.final
@cython.freelist(16)
@cython.nonecheck(True)  # of Span.__new__, which has no kind
cdef class Span:
    """What `Tracer.span` gives: a context manager that records a begin, and an end.

    It can be used again after its end, and then is another span. An exception that passes goes
    on; its text stands in the end. Where the begin was lost, there is no end.

    Belongs to one thread or task at a time; the end may be in another than the begin.
    """

    cdef SpanType kind
    cdef tuple values
    cdef object number, outer
    cdef unsigned int forks
    cdef uint64_t began  # when, in nanoseconds, if somebody wants to know how long it takes; else 0
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
        return self.number or 0

    def __enter__(self):
        global _last_span_id
        cdef tuple args
        if self.is_open:
            raise RuntimeError(f"span {self.kind.name!r} is open already: each `with` takes one of its own")
        self.number = None
        if not self.kind.begin.enabled:
            return self
        outer = get_value(_current_span)
        _last_span_id += 1
        number = _last_span_id
        args = (number, outer) + self.values
        if self.record_begin(args):
            self.number = number
            self.outer = outer
            self.forks = _span_forks
            self.is_open = True
            self.began = 0 if _durations_of(self.kind.begin) is None else _now_ns()
            PyContextVar_Set(_current_span, number)
        return self

    cdef int record_begin(self, tuple args) except -1:
        try:
            return _record_event(self.kind.begin, PySequence_Fast_ITEMS(<PyObject *>args))
        except (TypeError, OverflowError) as error:
            fields = self.kind.begin.fields_text.removeprefix("span_id:u64,parent_id:u64,")
            raise type(error)(f"span {self.name!r} was declared, or first used, with {fields}: {error}") from None

    def __exit__(self, exc_type, exc, traceback):
        cdef PyObject *args[2]
        if not self.is_open:
            return
        PyContextVar_Set(_current_span, self.outer)
        self.is_open = False
        if self.forks != _span_forks:
            return  # this is a forked child, and the span the parent's
        text = "" if exc is None else _texts.of_error(exc)
        args[0] = <PyObject *>self.number
        args[1] = <PyObject *>text
        try:
            _record_event(self.kind.end, args)
        except ValueError:
            pass  # the channel was closed meanwhile: no reason to fail here
        if self.began:
            durations = _durations_of(self.kind.begin)
            if durations is not None:
                (<Durations>durations).ended(self.kind.begin.name, self.began)

    def _leave(self):
        """What comes is not inside this span, though it is open: its generator waits."""
        if self.is_open:
            PyContextVar_Set(_current_span, self.outer)

    def _back(self):
        """The generator goes on."""
        if self.is_open:
            self.outer = get_value(_current_span)
            PyContextVar_Set(_current_span, self.number)

    def __repr__(self):
        return f"<ringbuf.Span {self.kind.name!r}{', open' if self.is_open else ''}>"

    def __reduce__(self):
        raise TypeError("a Span is one: a copy would end it twice")
