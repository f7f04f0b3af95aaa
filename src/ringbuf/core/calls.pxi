# calls.pxi - part of _core: calls of Python functions, each a begin and an end.

cdef extern from "core/calls.h":
    ctypedef struct PyFrameObject:
        pass
    ctypedef int (*Py_tracefunc)(PyObject *, PyFrameObject *, int, PyObject *)
    int PyTrace_CALL, PyTrace_RETURN
    PyObject *RINGBUF_FRAME_CODE(PyFrameObject *)
    PyObject *PyEval_GetGlobals()
    void PyEval_SetProfile(Py_tracefunc, PyObject *)
    void Py_DECREF_ptr "Py_DECREF" (PyObject *)
    int ringbuf_code_init()
    uint64_t ringbuf_code_word(PyObject *)
    void ringbuf_code_set_word(PyObject *, uint64_t)

cdef enum:
    CALLS_OF_AN_ERA = 65536

# The word of a code: the era in which it was last told what the code is, and its number, 0 if it is not wanted.
# Another era begins where what was told may be gone: in a forked child, and by and by in a flight recorder.
cdef uint32_t _code_era = 0
cdef uint32_t _last_code = 0


def _begin_code_era():
    global _code_era
    _code_era += 1


os.register_at_fork(after_in_child=_begin_code_era)


@cython.final
cdef class Calls:
    """Records begin and end of calls, for `sys.monitoring` or as a profile function. See ringbuf.record.functions.

    Parameters
    ----------
    begin, end : Event
        Of one u32, the code's number.
    declare : callable
        ``declare(number, code, globals)`` tells what a code is: True; False if that was lost, and
        must be told again; None if its calls are not recorded.
    retell : bool
        Tell it again now and then, as in a flight recorder old records go.
    disable : object
        What callbacks of `sys.monitoring` return for a code that is not recorded.

    No callback raises. Thread safety: any thread.
    """

    cdef Event begins, ends
    cdef object declare, disable
    cdef bint retell, is_on
    cdef uint32_t left

    def __cinit__(self, Event begin not None, Event end not None, declare, retell=False, disable=None):
        if ringbuf_code_init():
            raise RuntimeError("code objects have no room for a word of ours")
        self.begins = begin
        self.ends = end
        self.declare = declare
        self.retell = retell
        self.disable = disable
        self.left = CALLS_OF_AN_ERA
        self.is_on = True
        _begin_code_era()

    # callbacks of sys.monitoring; those of exceptions may not be disabled

    def begin(self, code, offset):
        """A function begins, or goes on."""
        return None if self.record(self.begins, <PyObject *>code) else self.disable

    def end(self, code, offset, value):
        """It returns, or yields."""
        return None if self.record(self.ends, <PyObject *>code) else self.disable

    def begin_by_throw(self, code, offset, error):
        """A generator goes on with an exception."""
        self.record(self.begins, <PyObject *>code)

    def end_by_throw(self, code, offset, error):
        """An exception leaves a function."""
        self.record(self.ends, <PyObject *>code)

    def stop(self):
        """Record no more."""
        self.is_on = False

    cdef bint record(self, Event event, PyObject *code) noexcept:
        """False: this code's calls are not recorded."""
        cdef uint64_t word = ringbuf_code_word(code)
        cdef uint32_t number = <uint32_t>word
        cdef Channel channel = event.channel
        cdef ringbuf_reservation r
        cdef ringbuf_run run
        if RINGBUF_UNLIKELY(word >> 32 != _code_era) and self.is_on and not channel.is_closed:
            number = self.tell(code, number)
        if RINGBUF_UNLIKELY(not self.is_on or channel.is_closed):
            return True
        if not number:
            return False
        if RINGBUF_UNLIKELY(not event.is_direct or channel.is_guarded or ringbuf_refusals is not NULL):
            self.record_guarded(event, number)
            return True
        memset(&r, 0, sizeof(r))
        r.event_id = event.event_id
        r.payload_size = sizeof(number)
        run = ringbuf_run(0, sizeof(number))
        ringbuf_record_rows(channel.ch, &r, &run, 1, <const char *>&number, 0, 1)
        if self.retell:
            self.left -= 1
            if not self.left:
                self.left = CALLS_OF_AN_ERA
                _begin_code_era()
        return True

    cdef void record_guarded(self, Event event, uint32_t number) noexcept:
        try:
            event(number)
        except BaseException as error:  # closed meanwhile, or a signal handler ran while it waited for room
            if _is_of_program(error):
                _raise_later(error)
                ringbuf_refuse_here(event.channel.ch, RINGBUF_LOST_FULL, 1)

    cdef uint32_t tell(self, PyObject *code, uint32_t number) noexcept:
        """Tell what this code is. Its number; 0: it is not wanted."""
        global _last_code
        cdef uint64_t era = _code_era
        cdef PyObject *names = PyEval_GetGlobals()
        if not number:
            _last_code += 1
            number = _last_code
        try:
            told = self.declare(number, <object>code, {} if names is NULL else <object>names)
        except BaseException as error:
            _report(error, self.declare)
            told = None
        if told is None:
            number = 0
        ringbuf_code_set_word(code, (era if told is not False else 0) << 32 | number)
        return number


cdef int _profile(PyObject *calls, PyFrameObject *frame, int what, PyObject *argument) noexcept:
    cdef PyObject *code
    if what == PyTrace_CALL or what == PyTrace_RETURN:
        code = RINGBUF_FRAME_CODE(frame)
        (<Calls>calls).record((<Calls>calls).begins if what == PyTrace_CALL else (<Calls>calls).ends, code)
        Py_DECREF_ptr(code)
    return 0


@cython.final
cdef class Profiling:
    """Calls by a profile function, before Python 3.12: of this thread, and of threads to come.

    A thread has one such function. The program does not see ours: `sys.getprofile` says what it would say without us,
    and `sys.setprofile` gives the place to the program's own, and back to ours when that is taken away.

    Parameters
    ----------
    calls : Calls
    displaced : callable or None
        Called when the program takes the place.
    """

    cdef Calls calls
    cdef object displaced, set_profile, get_profile, threading

    def __cinit__(self, Calls calls not None, displaced):
        self.calls = calls
        self.displaced = displaced

    def start(self):
        """In this thread."""
        import sys
        self.set_profile, self.get_profile = sys.setprofile, sys.getprofile
        sys.setprofile, sys.getprofile = self._setprofile(), self._getprofile()
        self.profile_here()

    def start_in_threads(self, threading):
        """In those that this module starts from now on. Nothing is set where the program would look."""
        if not self.calls.is_on or not hasattr(threading, "Thread"):
            return
        self.threading = threading
        threading.Thread._bootstrap_inner = Tap(threading.Thread._bootstrap_inner, self._begin_thread, None)

    def stop(self):
        """In this thread; others go on for nothing."""
        import sys
        if isinstance(self.get_profile(), Calls):
            self.set_profile(None)
        sys.setprofile, sys.getprofile = self.set_profile, self.get_profile
        if self.threading is not None:
            self.threading.Thread._bootstrap_inner = untapped(self.threading.Thread._bootstrap_inner)

    def _begin_thread(self, thread):
        self.profile_here()

    cdef profile_here(self):
        global ringbuf_acting
        cdef int acting = ringbuf_acting
        ringbuf_acting = 1  # setting one is an audit event
        PyEval_SetProfile(_profile, <PyObject *>self.calls)
        ringbuf_acting = acting

    # Functions of Cython's: a C function, or one of Python's, would be told to the profile function itself.

    def _setprofile(self):
        def setprofile(function, /):
            global ringbuf_acting
            if function is None and self.calls.is_on:
                self.profile_here()
                return
            if function is not None and self.displaced is not None:
                self.displaced()
            ringbuf_acting += 1
            try:
                self.set_profile(function)
            finally:
                ringbuf_acting -= 1
        return setprofile

    def _getprofile(self):
        def getprofile():
            found = self.get_profile()
            return None if isinstance(found, Calls) else found
        return getprofile
