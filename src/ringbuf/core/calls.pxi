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

    # before Python 3.12

    def profile_here(self, frame=None, what=None, argument=None):
        """Profile this thread from now on: for itself, or as the profile function that a new thread calls first."""
        PyEval_SetProfile(_profile, <PyObject *>self)
        if what == "call":
            code = frame.f_code
            self.record(self.begins, <PyObject *>code)

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
        except Exception:
            pass  # closed meanwhile

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
        except Exception as error:
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
