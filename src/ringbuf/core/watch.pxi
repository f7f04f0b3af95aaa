# watch.pxi - part of _core: what triggers look at as the program runs, so that it costs next to nothing.

from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree

cdef extern from "core/watch.h":
    ctypedef struct ringbuf_durations:
        uint64_t limit
        double factor
        double quantile
    void ringbuf_durations_init(ringbuf_durations *, uint64_t limit, double factor, double quantile)
    void ringbuf_durations_add(ringbuf_durations *, uint64_t ns)
    ctypedef int (*Py_AuditHookFunction)(const char *, PyObject *, void *)
    int PySys_AddAuditHook(Py_AuditHookFunction, void *)
    uint64_t ringbuf_tally_add(uint64_t *)
    uint64_t ringbuf_tally_get(const uint64_t *)


@cython.final
cdef class Tally:
    """A count that any thread, and a signal handler within it, may add to; none is lost."""

    cdef uint64_t n

    def add(self):
        """One more."""
        ringbuf_tally_add(&self.n)

    @property
    def value(self):
        """int"""
        return ringbuf_tally_get(&self.n)


@cython.final
cdef class Durations:
    """Tells of spans that take longer than their limit.

    Parameters
    ----------
    choose : callable
        ``choose(name)`` gives the limit of spans of this name, as (nanoseconds, factor, quantile): the number, or, where
        it is 0, `factor` times the `quantile` of those before. None: there is no limit. Asked once for each name.
    tell : callable
        ``tell(name, nanoseconds)`` is called at the end of one that took longer, in its thread.

    A learned limit stands from the hundredth span on. Thread safety: any thread.
    """

    cdef object choose, tell
    cdef dict known  # by name: the address of what is known of its spans, 0 for none; that itself: critical section

    def __cinit__(self, choose, tell):
        self.choose = choose
        self.tell = tell
        self.known = {}

    def __dealloc__(self):
        if self.known is not None:
            for address in self.known.values():
                PyMem_RawFree(<void *><uintptr_t>address)

    cdef uintptr_t first(self, str name) except? 0:
        cdef ringbuf_durations *of = NULL
        rule = self.choose(name)
        if rule is not None:
            of = <ringbuf_durations *>PyMem_RawCalloc(1, sizeof(ringbuf_durations))
            if of is NULL:
                raise MemoryError()
            ringbuf_durations_init(of, rule[0], rule[1], rule[2])
        found = self.known.setdefault(name, <uintptr_t>of)
        if found != <uintptr_t>of:
            PyMem_RawFree(of)
        return found

    cdef void ended(self, str name, uint64_t began) noexcept:
        """A span that began at that time of the monotonic clock, in nanoseconds, ends."""
        self.took(name, _now_ns() - began)

    cdef void took(self, str name, uint64_t took) noexcept:
        """A span, or a call, has ended."""
        cdef ringbuf_durations *of
        cdef bint is_over
        try:
            address = self.known.get(name)
            if address is None:
                address = self.first(name)
            of = <ringbuf_durations *><uintptr_t>address
            if of is NULL:
                return
            with cython.critical_section(self):
                is_over = took > of.limit
                if of.factor:
                    ringbuf_durations_add(of, took)
            if is_over:
                self.tell(name, took)
        except BaseException as error:
            _report(error, self.tell)

    def add(self, str name not None, double seconds):
        """What the end of a span of that length does."""
        self.ended(name, _now_ns() - <uint64_t>(seconds * 1e9))

    def limit_of(self, str name not None):
        """float or None: of spans of that name, in seconds; None: there is none, or none yet."""
        cdef ringbuf_durations *of = <ringbuf_durations *><uintptr_t>self.known.get(name, 0)
        cdef uint64_t limit = UINT64_MAX
        if of is not NULL:
            with cython.critical_section(self):
                limit = of.limit
        return None if limit == UINT64_MAX else limit / 1e9


cdef _add_former(Durations durations):
    if durations is not None:
        _former.append(durations)  # another thread may have it in hand, without a lock


cdef list _former = []  # what channels had; few, for somebody decides each time


def watch_spans(Channel channel not None, Durations durations):
    """Tell `durations` of each span of this process that ends in the channel; None: nobody any more."""
    with cython.critical_section(channel):
        _add_former(channel.durations)
        channel.durations = durations


# ---- exceptions that nobody has caught ----
#
# The interpreter raises an audit event for them, whoever has put what into sys.excepthook. A hook in C, so that the
# other events cost next to nothing; it cannot be removed, and stays for nothing when nobody listens.

cdef list _listening = []  # callables of (kind of hook, exception type, exception, traceback)
cdef bint _is_hooked = False

cdef extern from *:
    """
    static _Thread_local int ringbuf_hearing; /* what listeners raise would come here again, and again */
    """
    int ringbuf_hearing


cdef int _hear(const char *event, PyObject *args, void *unused) noexcept:
    global ringbuf_hearing
    if event[0] != c"s" or ringbuf_hearing or not _is_hooked or not _listening:
        return 0
    if strcmp(event, "sys.excepthook") != 0 and strcmp(event, "sys.unraisablehook") != 0:
        return 0
    ringbuf_hearing = 1
    if event[4] == c"e":
        _tell_uncaught("sys.excepthook", (<tuple>args)[1:4])
    else:
        about = (<tuple>args)[1]
        _tell_uncaught("sys.unraisablehook", (about.exc_type, about.exc_value, about.exc_traceback))
    ringbuf_hearing = 0
    return 0


cdef _tell_uncaught(str hook, tuple about):
    for listener in list(_listening):
        try:
            listener(hook, *about)
        except BaseException as error:
            if _is_of_program(error):
                _raise_later(error)


def listen_to_uncaught(listener not None):
    """From now on call it with the hook's name and (type, exception, traceback) of each exception nobody caught."""
    global _is_hooked
    _listening.append(listener)
    if not _is_hooked:
        if PySys_AddAuditHook(_hear, NULL):
            _listening.remove(listener)
            raise RuntimeError("an audit hook of the program forbids ours, by which uncaught exceptions are noticed")
        _is_hooked = True


def stop_listening(listener):
    """Twice is harmless."""
    if listener in _listening:
        _listening.remove(listener)


# ---- the main thread ----

def call_in_main_thread(action not None):
    """Call it in the main thread, at the next step of Python's that it takes. False: there is no room for one more."""
    Py_INCREF(action)
    if Py_AddPendingCall(_call_now, <void *>action):
        Py_XDECREF(<PyObject *>action)
        return False
    return True


cdef int _call_now(void *argument) noexcept:
    cdef object action = <object>argument
    Py_XDECREF(<PyObject *>action)
    try:
        action()
    except BaseException as error:
        _report(error, action)
    return 0
