# metric.pxi - part of _core: counters, gauges and histograms, which are counted in place.

from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from libc.math cimport isfinite

cdef extern from "Python.h":
    bint PyLong_CheckExact(object)
    bint PyLong_CheckExact_ptr "PyLong_CheckExact" (PyObject *)
    bint PyFloat_CheckExact_ptr "PyFloat_CheckExact" (PyObject *)
    double PyFloat_AS_DOUBLE_ptr "PyFloat_AS_DOUBLE" (PyObject *)
    long long PyLong_AsLongLongAndOverflow_ptr "PyLong_AsLongLongAndOverflow" (PyObject *, int *overflow) except? -1
    double PyLong_AsDouble(object) except? -1.0
    unsigned long long PyLong_AsUnsignedLongLong(object) except? 0xffffffffffffffff
    long long PyLong_AsLongLongAndOverflow(object, int *overflow) except? -1

cdef enum _State:
    READY      # its word is known
    OF_PROCESS  # it is this process image's; another one has another word
    LABELLED   # it has labels, and is counted by those

_METRIC_KINDS = {"counter": RINGBUF_COUNTER, "gauge": RINGBUF_GAUGE, "histogram": RINGBUF_HISTOGRAM}
cdef dict _TIMER_SCALES = {"s": 1e-9, "seconds": 1e-9, "ms": 1e-6, "us": 1e-3, "ns": 1.0}
cdef enum:
    MANY_LABELS = 1000  # of those without a place of their own, so many are remembered


@cython.final
@cython.internal
@cython.no_gc_clear
cdef class _Metric:
    """A declared metric of a channel: what all its series have in common.

    Where there is no GIL it is a use of the channel, for as long as it lives: so counting is none, and needs no word
    that threads share.
    """

    cdef Channel channel
    cdef bint is_use
    cdef ringbuf_metric m
    cdef str name, unit
    cdef tuple names        # of the labels
    cdef object encode      # values of the labels, in order -> their bytes; TypeError, ValueError
    cdef dict series        # label values -> Counter, Gauge or Histogram

    cdef int hold(self, Channel channel) except -1:
        if RINGBUF_NO_GIL:
            channel.enter_open()
            self.is_use = True
        self.channel = channel
        return 0

    def __dealloc__(self):
        if self.is_use:
            self.channel.leave()

    cdef int64_t word_of(self, bytes labels) except -1:
        """The word of the series, in this process image."""
        cdef ringbuf_channel *ch = self.channel.enter_whole()
        cdef const char *at = labels
        cdef uint32_t size = <uint32_t>len(labels)
        cdef int64_t word
        try:
            with nogil:
                word = ringbuf_metric_series(ch, &self.m, at, size)
        finally:
            self.channel.leave()
        if word < 0:
            raise OSError(-word, os.strerror(-word))
        return word


cdef class MetricSeries:
    """What a Counter, a Gauge and a Histogram have in common."""

    cdef vectorcallfunc vectorcall
    cdef _Metric metric
    cdef bytes encoded           # its label values
    cdef Channel channel
    cdef uint32_t word, image
    cdef _State state
    cdef bint is_real            # a counter that adds floats

    def __init__(self):
        raise TypeError(f"a {type(self).__name__} comes from a Tracer: tracer.{type(self).__name__.lower()}(name)")

    @property
    def name(self):
        """str"""
        return self.metric.name

    @property
    def unit(self):
        """str"""
        return self.metric.unit

    def labels(self, *values, **named):
        """The one with these label values, in the order in which they were declared or by name; made if it is new.

        Keep it where it is counted often: to look it up costs more than to count. If the channel has no room for
        one more (`metrics_size`), it is that of all for which there was none: sums over the labels stay right.

        Raises
        ------
        TypeError
            Other labels than were declared, or a value of another type.
        ValueError
            A value that does not fit its type; the channel is closed.
        OSError
            EBUSY: another process has been declaring for five seconds (stopped, perhaps).
        """
        if named:
            values = self._ordered(values, named)
        found = self.metric.series.get(values)
        return self._new(values) if found is None else found

    cdef tuple _ordered(self, tuple values, dict named):
        names = self.metric.names[len(values):]
        if len(names) != len(named) or any([name not in named for name in names]):
            raise TypeError(f"{self.name} takes the labels {', '.join(self.metric.names) or '(none)'}: see "
                            f"{', '.join(sorted({*named} ^ {*names}))}")
        return values + tuple([named[name] for name in names])

    cdef MetricSeries _new(self, tuple values):
        cdef MetricSeries one
        if len(values) != len(self.metric.names):
            raise TypeError(f"{self.name} takes {len(self.metric.names)} label values "
                            f"({', '.join(self.metric.names)}), not {len(values)}")
        if not values:
            return self
        one = _new_series(type(self), self.metric, self.metric.encode(values))
        if one.word != self.metric.m.rest or len(self.metric.series) < MANY_LABELS:
            one = self.metric.series.setdefault(values, one)
        return one

    cdef int prepare(self) except -1:
        """Not READY: find the word, or say why there is none."""
        cdef ringbuf_channel *ch = self.metric.channel.open_ch()
        if self.state == LABELLED:
            raise TypeError(f"{self.name} has labels: {self.name}.labels({', '.join(self.metric.names)})")
        with cython.critical_section(self):
            if self.image != ch.image:
                self.word = <uint32_t>self.metric.word_of(self.encoded)
                self.image = ch.image
        return 0

    def __repr__(self):
        return f"<ringbuf.{type(self).__name__} {self.name!r}>"

    def __reduce__(self):
        raise TypeError(f"a {type(self).__name__} does not pickle: pass the Tracer, and declare it again")


cdef inline ringbuf_channel *_channel_now(MetricSeries series) except NULL:
    """The channel, with the series's `word` valid for it."""
    if RINGBUF_UNLIKELY(ringbuf_flag(<const int *>&series.channel.is_closed)):
        series.channel.open_ch()
    if RINGBUF_UNLIKELY(series.state != READY):
        series.prepare()
    return series.channel.ch


cdef object _number(PyObject *const *args, size_t nargsf, PyObject *kwnames, str what):
    """The one argument of a call; None: there is none."""
    cdef Py_ssize_t n = PyVectorcall_NARGS(nargsf)
    if kwnames is not NULL and PyTuple_GET_SIZE_ptr(kwnames):
        raise TypeError(f"{what} takes no labels by name in the call: labels(...) first")
    if n > 1:
        raise TypeError(f"{what} takes one value, not {n}")
    return <object>args[0] if n else None


cdef extern from *:
    bint RINGBUF_LIKELY(bint)


cdef inline double _real(object value, str what) except? -1.0:
    """A number that is finite: one that is not would spoil a sum for good."""
    cdef double real
    real = PyFloat_AS_DOUBLE(value) if PyFloat_CheckExact(value) else _real_slow(value, what)
    if RINGBUF_UNLIKELY(not isfinite(real)):
        raise ValueError(f"{what}: {value!r} is not finite")
    return real


cdef double _real_slow(object value, str what) except? -1.0:
    if PyLong_CheckExact(value):
        return PyLong_AsDouble(value)
    if isinstance(value, (str, bytes)):
        raise TypeError(f"{what} takes a number, not {type(value).__name__}")
    return float(value)


@cython.final
cdef class Counter(MetricSeries):
    """Counts up: call it to add 1, or ``counter(n)`` to add n. From `Tracer.counter`.

    Raises
    ------
    TypeError
        No number; or a fraction, where it was not declared with ``real=True``; or it has labels: `labels` first.
    ValueError
        A negative or infinite number; the channel is closed.

    Thread safety: any thread, process, or signal handler; no lock. Source: include/ringbuf/metrics.h.
    """

    def __call__(self, n=1):
        # For those who look whether there is a __call__; a call itself goes through the slot.
        _count(self, n)

    @property
    def value(self):
        """int or float: the sum over all processes, as it is now."""
        cdef ringbuf_channel *ch = _channel_now(self)
        if self.metric.m.flags & RINGBUF_METRIC_REAL:
            return ringbuf_metric_real(ch, self.word)
        return ringbuf_metric_sum(ch, self.word)


cdef int _count(Counter counter, object n) except -1:
    cdef ringbuf_channel *ch = _channel_now(counter)
    cdef double real
    cdef long long whole
    cdef int overflow
    if counter.metric.m.flags & RINGBUF_METRIC_REAL:
        real = _real(n, counter.metric.name)
        if real < 0:
            raise ValueError(f"{counter.name}: a counter does not count down: a gauge does")
        ch = _channel_now(counter)  # the conversion may have run any code
        ringbuf_metric_add_real(ch, counter.word, real)
        return 0
    if not PyLong_CheckExact(n):
        n = _count_of(counter, n)
        ch = _channel_now(counter)
    whole = PyLong_AsLongLongAndOverflow(n, &overflow)
    if RINGBUF_UNLIKELY(overflow > 0):
        whole = <long long>PyLong_AsUnsignedLongLong(n)
    elif RINGBUF_UNLIKELY(whole < 0):
        raise ValueError(f"{counter.name}: a counter does not count down: a gauge does")
    ringbuf_metric_add(ch, counter.word, <uint64_t>whole)
    return 0


cdef object _count_of(Counter counter, object n):
    try:
        return index(n)
    except TypeError:
        raise TypeError(f"{counter.name} counts whole numbers, not {type(n).__name__}: declare it with real=True "
                        "to add others") from None


cdef PyObject *_call_counter(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames) except NULL:
    cdef Py_ssize_t n_args = PyVectorcall_NARGS(nargsf)
    cdef long long n = 1
    cdef int overflow = 0
    if RINGBUF_UNLIKELY(n_args > 1 or kwnames is not NULL or (<Counter>self).is_real):
        return _call_counter_slow(self, args, nargsf, kwnames)
    if n_args:
        if RINGBUF_UNLIKELY(not PyLong_CheckExact_ptr(args[0])):
            return _call_counter_slow(self, args, nargsf, kwnames)
        n = PyLong_AsLongLongAndOverflow_ptr(args[0], &overflow)
        if RINGBUF_UNLIKELY(n < 0 or overflow):
            return _call_counter_slow(self, args, nargsf, kwnames)
    ringbuf_metric_add(_channel_now(<Counter>self), (<Counter>self).word, <uint64_t>n)
    Py_INCREF_ptr(<PyObject *>None)
    return <PyObject *>None


cdef PyObject *_call_counter_slow(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames) except NULL:
    """What is unusual, or wrong."""
    n = _number(args, nargsf, kwnames, (<Counter>self).name)
    _count(<Counter>self, 1 if n is None else n)
    Py_INCREF_ptr(<PyObject *>None)
    return <PyObject *>None


@cython.final
cdef class Gauge(MetricSeries):
    """A value that goes up and down: call it to set it, ``add`` to change it. From `Tracer.gauge`.

    Raises as `Counter`, but takes any number; what is added must be finite.

    Thread safety: any thread, process, or signal handler; no lock. Of two that set it at the same time, one is last;
    what others add meanwhile counts before or after. Source: include/ringbuf/metrics.h.
    """

    def __call__(self, value):
        # For those who look whether there is a __call__; a call itself goes through the slot.
        _set_gauge(self, value)

    def add(self, n=1):
        """Add a number, which may be negative."""
        cdef double real = _real(n, self.metric.name)
        ringbuf_metric_add_real(_channel_now(self), self.word, real)

    @property
    def value(self):
        """float: as it is now; of this process, if each has its own."""
        cdef ringbuf_channel *ch = _channel_now(self)
        return ringbuf_metric_real(ch, self.word)


cdef int _set_gauge(Gauge gauge, object value) except -1:
    cdef double real
    real = PyFloat_AS_DOUBLE(value) if PyFloat_CheckExact(value) else _real_slow(value, gauge.metric.name)
    ringbuf_gauge_set(_channel_now(gauge), gauge.word, real)
    return 0


cdef PyObject *_call_gauge(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames) except NULL:
    cdef Gauge gauge = <Gauge>self
    value = _number(args, nargsf, kwnames, gauge.metric.name)
    if value is None:
        raise TypeError(f"{gauge.metric.name} takes a value; add() adds to it")
    _set_gauge(gauge, value)
    Py_INCREF_ptr(<PyObject *>None)
    return <PyObject *>None


@cython.final
cdef class Histogram(MetricSeries):
    """Counts values by size: call it with each. From `Tracer.histogram`.

    Raises as `Counter`, but takes any finite number.

    Thread safety: any thread, process, or signal handler; no lock. Source: include/ringbuf/metrics.h.
    """

    def __call__(self, value):
        # For those who look whether there is a __call__; a call itself goes through the slot.
        _observe(self, value)

    def time(self):
        """A context manager that counts how long its block takes, in the histogram's unit: s, ms, us or ns.

        Each ``with`` takes one of its own. ValueError: the unit is none of time.
        """
        cdef _Timer timer
        if self.metric.unit not in _TIMER_SCALES:
            raise ValueError(f"{self.name} counts {self.metric.unit or 'no unit'}, which is no time: declare it in "
                             f"{', '.join(_TIMER_SCALES)}")
        if self.state == LABELLED:
            self.prepare()  # raises
        timer = _Timer.__new__(_Timer)
        timer.histogram = self
        timer.scale = _TIMER_SCALES[self.metric.unit]
        return timer

    @property
    def count(self):
        """int: how many values there are."""
        return sum(self.counts)

    @property
    def sum(self):
        """float: of all values. Who is killed over a value may have counted it, and not added it."""
        cdef ringbuf_channel *ch = _channel_now(self)
        return ringbuf_metric_real(ch, self.word)

    @property
    def bounds(self):
        """tuple of float: the largest value of each bucket, but for the last, which has none."""
        self.metric.channel.open_ch()
        return _bounds(&self.metric.m)

    @property
    def counts(self):
        """list of int: in each bucket."""
        cdef ringbuf_channel *ch = _channel_now(self)
        return [ringbuf_metric_sum(ch, self.word + 1 + i) for i in range(self.metric.m.n_bounds + 1)]


cdef int _observe(Histogram histogram, object value) except -1:
    cdef double real = _real(value, histogram.metric.name)
    ringbuf_observe(_channel_now(histogram), &histogram.metric.m, histogram.word, real)
    return 0


cdef PyObject *_call_histogram(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames) except NULL:
    cdef double real
    if RINGBUF_LIKELY(PyVectorcall_NARGS(nargsf) == 1 and kwnames is NULL and PyFloat_CheckExact_ptr(args[0])):
        real = PyFloat_AS_DOUBLE_ptr(args[0])
        if RINGBUF_LIKELY(isfinite(real)):
            ringbuf_observe(_channel_now(<Histogram>self), &(<Histogram>self).metric.m, (<Histogram>self).word, real)
            Py_INCREF_ptr(<PyObject *>None)
            return <PyObject *>None
    return _call_histogram_slow(self, args, nargsf, kwnames)


cdef PyObject *_call_histogram_slow(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames) except NULL:
    """What is unusual, or wrong."""
    cdef Histogram histogram = <Histogram>self
    value = _number(args, nargsf, kwnames, histogram.metric.name)
    if value is None:
        raise TypeError(f"{histogram.metric.name} takes a value")
    _observe(histogram, value)
    Py_INCREF_ptr(<PyObject *>None)
    return <PyObject *>None


@cython.final
@cython.internal
@cython.freelist(16)
cdef class _Timer:
    cdef Histogram histogram
    cdef double scale
    cdef uint64_t begin

    def __enter__(self):
        self.begin = _now_ns()
        return self

    def __exit__(self, *error):
        cdef uint64_t end = _now_ns()
        cdef Histogram histogram = self.histogram
        if not histogram.metric.channel.closed:  # closed meanwhile: no reason to fail here
            ringbuf_observe(_channel_now(histogram), &histogram.metric.m, histogram.word, (end - self.begin) * self.scale)


cdef _make_metrics_callable():
    cdef PyObject *any_object = <PyObject *>Counter  # only its address matters
    cdef char *field = <char *>&(<MetricSeries>any_object).vectorcall
    for kind in (Counter, Gauge, Histogram):
        ringbuf_enable_vectorcall(<PyObject *>kind, field - <char *>any_object)


_make_metrics_callable()


cdef MetricSeries _new_series(kind, _Metric metric, bytes encoded):
    """The series with these labels; None: the metric itself, which may have some."""
    cdef MetricSeries one = kind.__new__(kind)
    cdef bint has_owner = metric.m.flags & RINGBUF_METRIC_PROCESS
    if kind is Counter:
        one.vectorcall = <vectorcallfunc>_call_counter
    elif kind is Gauge:
        one.vectorcall = <vectorcallfunc>_call_gauge
    else:
        one.vectorcall = <vectorcallfunc>_call_histogram
    one.metric = metric
    one.channel = metric.channel
    one.is_real = metric.m.flags & RINGBUF_METRIC_REAL
    one.encoded = b"" if encoded is None else encoded
    one.word = metric.m.word
    one.state = READY
    if encoded is None and metric.names:
        one.state = LABELLED
    elif has_owner:
        one.state = OF_PROCESS
        if encoded is not None:
            one.prepare()  # else when it is first set: who only declares it has none
    elif encoded is not None:
        one.word = <uint32_t>metric.word_of(encoded)
    return one


def declare_metric(Channel channel not None, str kind not None, str name not None, str unit not None, str help not None,
                   str labels not None, tuple names not None, bounds, bint real, bint per_process, encode):
    """The Counter, Gauge or Histogram of this name, declared now if no process has declared it.

    `labels`: field text; `names`: of the labels; `encode`: values of labels to their bytes. ValueError: one of
    this name is something else. OSError (ENOSPC): there is no room. OSError (EBUSY): see Channel.declare_event.
    """
    cdef _Metric metric = _Metric.__new__(_Metric)
    cdef double *copy
    cdef int ret
    cdef ringbuf_channel *ch
    texts = [name.encode(), unit.encode(), help.encode(), labels.encode()]
    metric.hold(channel)
    metric.name = name
    metric.unit = unit
    metric.names = names
    metric.encode = encode
    metric.series = {}
    memset(&metric.m, 0, sizeof(metric.m))
    metric.m.kind = _METRIC_KINDS[kind]
    metric.m.flags = (RINGBUF_METRIC_REAL if real else 0) | (RINGBUF_METRIC_PROCESS if per_process else 0)
    metric.m.name, metric.m.unit, metric.m.help, metric.m.labels = texts[0], texts[1], texts[2], texts[3]
    metric.m.name_size, metric.m.unit_size = <uint32_t>len(texts[0]), <uint32_t>len(texts[1])
    metric.m.help_size, metric.m.labels_size = <uint32_t>len(texts[2]), <uint32_t>len(texts[3])
    metric.m.n_bounds = <uint32_t>len(bounds)
    copy = <double *>PyMem_Malloc((len(bounds) + 1) * sizeof(double))
    if copy is NULL:
        raise MemoryError()
    try:
        for i, bound in enumerate(bounds):
            copy[i] = bound
        metric.m.bounds = copy
        ch = channel.enter_whole()
        try:
            with nogil:
                ret = ringbuf_declare_metric(ch, &metric.m)
        finally:
            channel.leave()
    finally:
        PyMem_Free(copy)
        metric.m.name = metric.m.unit = metric.m.help = metric.m.labels = NULL
    if ret:
        _raise_undeclared(ret, kind, name)
    return _new_series({"counter": Counter, "gauge": Gauge, "histogram": Histogram}[kind], metric, None)


cdef int _raise_undeclared(int error, str kind, str name) except -1:
    if error == -17:  # EEXIST
        raise ValueError(f"there is a metric {name!r} already, of another kind, unit, labels or buckets than this {kind}")
    if error == -ENOSPC:
        raise OSError(ENOSPC, f"no room for {kind} {name!r}: make the channel's metrics_size larger")
    if error == -EINVAL:
        raise ValueError(f"{kind} {name[:40]!r}: it needs a name, no text may be longer than 65535 bytes, and there are "
                         f"at most {RINGBUF_BOUNDS_MAX} buckets")
    raise OSError(-error, os.strerror(-error))


# ---- reading ----


cdef tuple _bounds(const ringbuf_metric *m):
    return tuple([m.bounds[i] for i in range(m.n_bounds)])


cdef tuple _metric_found(const ringbuf_metric *m):
    kind = ("counter", "gauge", "histogram")[m.kind]
    return (m.number, kind, bool(m.flags & RINGBUF_METRIC_REAL), bool(m.flags & RINGBUF_METRIC_PROCESS),
            _text(m.name, m.name_size), _text(m.unit, m.unit_size), _text(m.help, m.help_size),
            _text(m.labels, m.labels_size), _bounds(m))


cdef tuple _series_found(const ringbuf_channel *ch, const ringbuf_metric *m, const ringbuf_metric *one):
    cdef uint32_t i
    if m.kind == RINGBUF_COUNTER and not m.flags & RINGBUF_METRIC_REAL:
        values = [ringbuf_metric_sum(ch, one.word)]
    else:
        values = [ringbuf_metric_real(ch, one.word)]
    if m.kind == RINGBUF_HISTOGRAM:
        values += [ringbuf_metric_sum(ch, one.word + 1 + i) for i in range(m.n_bounds + 1)]
    return (one.number, <bytes>one.labels[:one.labels_size], bool(one.flags & RINGBUF_METRIC_REST),
            <uint32_t>one.owner, ringbuf_series_is_gone(ch, one.owner), values)


def read_metrics(Channel channel not None):
    """All metrics of a channel, and what their series have counted.

    Returns
    -------
    metrics : list of (number, kind, is real, is of processes, name, unit, help, labels text, bounds)
    series : list of (number of the metric, label values, is the rest, pid or 0, is its process gone, values)
        Values: one; of a histogram the sum, then the count in each bucket.
    """
    cdef ringbuf_channel *ch = channel.enter_whole()
    try:
        return _read_metrics(ch)
    finally:
        channel.leave()


cdef tuple _read_metrics(ringbuf_channel *ch):
    cdef uint64_t off = 0
    cdef ringbuf_metric m
    cdef list metrics = [], series = []
    cdef dict known = {}  # number -> _Metric
    cdef _Metric metric
    while ringbuf_next_metric(ch, &off, &m):
        if m.kind != RINGBUF_SERIES:
            metric = _Metric.__new__(_Metric)
            metric.m = m
            known[m.number] = metric
            metrics.append(_metric_found(&m))
        elif m.number in known:
            metric = known[m.number]
            if ringbuf_series_fits(ch, &metric.m, m.word):
                series.append(_series_found(ch, &metric.m, &m))
    return metrics, series


def gil_wait():
    """Give the GIL up, and ask for it again: seconds until it is had (float)."""
    cdef uint64_t begin
    with nogil:
        begin = _now_ns()
    return (_now_ns() - begin) * 1e-9
