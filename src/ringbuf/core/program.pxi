# program.pxi - part of _core: what a program meets that is recorded without knowing it: as little as possible.

cdef extern from "Python.h":
    object PyMethod_New(object function, object instance)
    PyObject *PyObject_Vectorcall(PyObject *callable, PyObject *const *args, size_t nargsf, PyObject *kwnames)
    void PyErr_Fetch(PyObject **type, PyObject **error, PyObject **traceback)
    int Py_AddPendingCall(int (*function)(void *), void *argument)
    int PyThreadState_SetAsyncExc(unsigned long thread, PyObject *error)
    unsigned long PyThread_get_thread_ident()
    void Py_XDECREF(PyObject *)
    PyObject *PyDict_GetItem(object, object)

cdef extern from "fnmatch.h" nogil:
    int c_fnmatch "fnmatch"(const char *pattern, const char *text, int flags)

cdef extern from "fcntl.h" nogil:
    int fcntl(int fd, int command, ...)
    int F_DUPFD_CLOEXEC

cdef extern from "unistd.h" nogil:
    int getpid()
    int gettid()


def glob_matches(str pattern not None, str text not None):
    """bool: does the text match a pattern with ``*``, ``?`` and ``[...]``? As `fnmatch.fnmatchcase`, without imports."""
    cdef bytes p = pattern.encode("utf-8", "surrogatepass"), t = text.encode("utf-8", "surrogatepass")
    return c_fnmatch(PyBytes_AS_STRING(p), PyBytes_AS_STRING(t), 0) == 0


# ---- exceptions that belong to the program ----
#
# A callback of ours that is Python code (a clock, a provider of a context, an audit hook) is interrupted like any
# other code: a signal handler runs there, and what it raises comes out of the callback. That is not the callback's
# failure but the program's affair: it is raised again once the record is made, at the next step of the program.

cdef set _on_the_way = set()  # ids of exceptions that are to be raised again


cdef bint _is_of_program(object error):
    """It was not raised by a callback, but while one ran."""
    if not isinstance(error, Exception) or id(error) in _on_the_way:
        return True
    handlers = _codes_of_signal_handlers()
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code in handlers:
            return True
        traceback = traceback.tb_next
    return False


cdef set _codes_of_signal_handlers():
    import _signal  # what the module `signal` is made from, which Python has built in
    codes = set()
    for number in range(1, _signal.NSIG):
        try:
            handler = _signal.getsignal(number)
        except ValueError:
            continue
        while hasattr(handler, "func"):  # functools.partial
            handler = handler.func
        for one in (handler, getattr(type(handler), "__call__", None)):  # a function, a method, or what is called like one
            code = getattr(one, "__code__", None)
            if code is not None:
                codes.add(code)
    return codes


cdef bint _raise_later(object error):
    """In this thread, by the interpreter, at its next step. False: there is no room for one more."""
    cdef object kind = type(error)
    if gettid() != getpid():
        # Signal handlers run in the main thread only: this was sent to the thread, as a type.
        return PyThreadState_SetAsyncExc(PyThread_get_thread_ident(), <PyObject *>kind) == 1
    Py_INCREF(error)
    if Py_AddPendingCall(_raise_now, <void *>error):
        Py_XDECREF(<PyObject *>error)
        return False
    _on_the_way.add(id(error))
    return True


cdef int _raise_now(void *argument) noexcept:
    cdef object error = <object>argument, kind = type(error), traceback = error.__traceback__
    _on_the_way.discard(id(error))
    Py_XINCREF(<PyObject *>kind)
    cdef PyObject *tb = NULL if traceback is None else <PyObject *>traceback
    Py_XINCREF(tb)
    PyErr_Restore(<PyObject *>kind, <PyObject *>argument, tb)  # takes the reference that the call had
    return -1


def pass_on(error not None):
    """Raise, at the program's next step, an exception that is the program's; False: it is the callback's own."""
    return _is_of_program(error) and _raise_later(error)


# ---- in between ----


@cython.final
cdef class Tap:
    """Stands in a class for a method: calls ``before(*args)``, then the method, then ``after(*args)`` if `before` said so.

    While the method runs, no frame of ours is on the stack: programs look at it, and print it. Whatever `before` and
    `after` raise is dropped. Attributes are the method's.
    """

    cdef vectorcallfunc vectorcall
    cdef object method, before, after

    def __cinit__(self, method, before, after):
        self.vectorcall = <vectorcallfunc>_call_tap
        self.method = method
        self.before = before
        self.after = after

    def __get__(self, instance, owner):
        return self if instance is None else PyMethod_New(self, instance)

    def __getattribute__(self, name):
        return getattr(self.method, name)

    def __call__(self, *args, **named):
        # For those who look whether there is a __call__; a call itself goes through the slot.
        return PyVectorcall_Call(self, args, named)

    cdef bint ask(self, object asked, PyObject *const *args, Py_ssize_t n):
        try:
            return bool(asked(*_tuple_of(args, n)))
        except BaseException as error:
            if _is_of_program(error):
                _raise_later(error)
            return False


def untapped(Tap tap not None):
    """The method that it stands for."""
    return tap.method


cdef PyObject *_call_tap(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames) noexcept:
    # Not "except NULL": an exception of the method's would get a line of ours in its traceback.
    cdef Tap tap = <Tap>self
    cdef Py_ssize_t n = PyVectorcall_NARGS(nargsf)
    cdef bint again = tap.ask(tap.before, args, n)
    cdef PyObject *result = PyObject_Vectorcall(<PyObject *>tap.method, args, nargsf, kwnames)
    cdef PyObject *kind
    cdef PyObject *error
    cdef PyObject *traceback
    if again:
        PyErr_Fetch(&kind, &error, &traceback)
        tap.ask(tap.after, args, n)
        PyErr_Restore(kind, error, traceback)
    return result


cdef _make_taps_callable():
    cdef PyObject *any_object = <PyObject *>Tap  # only its address matters
    cdef char *field = <char *>&(<Tap>any_object).vectorcall
    ringbuf_enable_vectorcall(<PyObject *>Tap, field - <char *>any_object)


_make_taps_callable()


cdef extern from *:
    """
    static _Thread_local int ringbuf_acting; /* an audit hook of ours is: what it causes is not the program's */
    """
    int ringbuf_acting


@cython.final
cdef class AuditHook:
    """An audit hook: calls ``action(name, args)`` for the audit events that it chooses.

    Parameters
    ----------
    choose : callable
        ``choose(name)`` gives the action for events of this name, or None; asked once for each name.
    """

    cdef object choose
    cdef dict actions  # what is in it stays, so that it can be borrowed

    def __cinit__(self, choose):
        self.choose = choose
        self.actions = {}

    def __call__(self, str name not None, tuple args not None):
        global ringbuf_acting
        cdef PyObject *known = PyDict_GetItem(self.actions, name)
        if ringbuf_acting or known is <PyObject *>None:
            return
        ringbuf_acting = 1
        try:
            if known is NULL:
                self.actions.setdefault(name, self.choose(name))
                known = PyDict_GetItem(self.actions, name)
            action = <object>known
            if action is not None:
                action(name, args)
        except BaseException as error:  # what is raised here would stop what the program is doing
            if _is_of_program(error):
                _raise_later(error)
        finally:
            ringbuf_acting = 0


# ---- descriptors ----

cdef enum:
    A_HIGH_DESCRIPTOR = 1000  # programs take the lowest that are free, and some count on their numbers


def moved_up(int fd):
    """The same open file under a descriptor (int) that the program is not going to meet; `fd` is closed."""
    cdef int high, at_least = A_HIGH_DESCRIPTOR
    while at_least > 2:
        high = fcntl(fd, F_DUPFD_CLOEXEC, at_least)
        if high >= 0:
            os.close(fd)
            return high
        at_least //= 2  # the process may have few
    return fd
