# calls.pxi - part of _core: calls of Python functions, each a begin and an end.

from sys import _getframe

cdef extern from "core/calls.h":
    ctypedef struct PyFrameObject:
        pass
    ctypedef int (*Py_tracefunc)(PyObject *, PyFrameObject *, int, PyObject *)
    int PyTrace_CALL, PyTrace_RETURN, PyTrace_C_CALL, PyTrace_C_RETURN, PyTrace_C_EXCEPTION
    PyObject *RINGBUF_FRAME_CODE(PyFrameObject *)
    PyObject *PyEval_GetGlobals()
    void PyEval_SetProfile(Py_tracefunc, PyObject *)
    void Py_DECREF_ptr "Py_DECREF" (PyObject *)
    int ringbuf_code_init()
    uint64_t ringbuf_code_word(PyObject *)
    void ringbuf_code_set_word(PyObject *, uint64_t)
    bint ringbuf_code_is_coroutine(PyObject *)
    PyFrameObject *PyEval_GetFrame()
    struct ringbuf_step:
        void *frame
        uint64_t strand
    ringbuf_step ringbuf_step_here
    void ringbuf_calls_put_begun(const ringbuf_calls *, uint32_t, uint64_t)
    uint32_t ringbuf_followed_here
    struct ringbuf_calls:
        ringbuf_channel *ch
        const int *is_closed
        int is_on, is_direct, is_retold
        uint32_t begin_id, end_id
        int64_t left
    int ringbuf_calls_left_here
    uint32_t ringbuf_era()
    void ringbuf_set_era(uint32_t)
    bint ringbuf_calls_take(ringbuf_calls *, int64_t)
    bint ringbuf_calls_is_plain(const ringbuf_calls *)
    bint ringbuf_calls_put_told(const ringbuf_calls *, uint32_t, PyObject *const *, Py_ssize_t, bint)
    PyObject *ringbuf_none()
    void ringbuf_calls_put(const ringbuf_calls *, uint32_t, uint32_t)
    PyMethodDef RINGBUF_CALLBACK(const char *, void *)
    object PyCFunction_New(PyMethodDef *, object)
    bint PyCode_Check(PyObject *)
    void *ringbuf_c_function(PyObject *)
    object ringbuf_c_function_name(PyObject *)

cdef extern from "core/open.h":
    struct ringbuf_open_call:
        uint64_t began
        uint32_t number
    struct ringbuf_open_calls:
        size_t n, n_written, n_outside
        ringbuf_open_call *calls
    int ringbuf_open_init()
    void ringbuf_open_set_first(uint64_t)
    ringbuf_open_calls *ringbuf_open_of(uint64_t)
    int ringbuf_open_begin(ringbuf_open_calls *, uint32_t, uint64_t)
    size_t ringbuf_open_find(ringbuf_open_calls *, uint32_t)

cdef enum:
    CALLS_OF_AN_ERA = 65536
    ERA_OF_COROUTINES = 1 << 31  # never that of now: each begin and end of theirs is looked at

# The word of a code: the era in which it was last told what the code is, and its number, 0 if it is not wanted.
# Another era begins where what was told may be gone, by and by in a flight recorder. With the first era of a series
# all numbers are given anew: in another process image, and for another channel, a code has another number.
cdef uint32_t _first_era = 0  # of the series; stands for "not told"
cdef list _recording = []  # each Calls that is on
cdef uint64_t _last_chooser = 0  # number of the latest Calls that chooses among calls


cdef _begin_code_series():
    global _first_era
    _first_era = ringbuf_era() + 1
    ringbuf_set_era(_first_era + 1)


def _go_on_in_child():
    """A forked child: its calls are those of another image, and those that it is in begin with it."""
    cdef uint32_t before = _first_era
    ringbuf_step_here.frame = NULL
    if _recording:
        _begin_code_series()
    for calls in _recording:
        (<Calls>calls).begin_in_child(before)


os.register_at_fork(after_in_child=_go_on_in_child)


@cython.final
cdef class Calls:
    """Records begin and end of calls, for `sys.monitoring` or as a profile function. See ringbuf.record.functions.

    Parameters
    ----------
    begin, end : Event
        Of one u32, the code's number; the begin of one more with `min_duration`, a u64: the time at which it was.
    strands : Strands
        Told of greenlets, tasks and forks; see ringbuf.record.strands.
    declare : callable
        ``declare(number, code, globals)`` tells what a code is: True; False if that was lost, and
        must be told again; None if its calls are not recorded.
    retell : bool
        Tell it again now and then, as in a flight recorder old records go.
    declare_c : callable, optional
        ``declare_c(number, name)`` tells what a function of C is, as `declare`: then calls of these are recorded, too,
        where a code makes them whose calls are.
    disable : object
        What callbacks of `sys.monitoring` return for a code that is not recorded.
    min_duration : int
        Ticks of the channel's clock. Of calls that take less nothing is recorded; 0: of none.
    max_depth : int
        Of calls that are made within so many others that are recorded, nothing is. 0: that does not matter.
    names : dict, optional
        By number, for those whom `watch_calls` tells.

    No callback raises. Thread safety: any thread.
    """

    cdef ringbuf_calls c
    cdef Event begins, ends
    cdef object strands, declare, declare_c, disable
    cdef dict c_functions  # by the address of what they are known by: as the word of a code
    cdef uint32_t follows
    cdef uint32_t parent  # the image that this one was forked from
    cdef uint64_t chooser  # its number, if it chooses among calls; 0: it does not
    cdef uint64_t min_duration
    cdef size_t max_depth
    cdef dict names
    cdef bint is_unguarded  # what is_direct would be, if it did not choose

    def __cinit__(self, Event begin not None, Event end not None, strands, declare, retell=False, disable=None,
                  declare_c=None, uint64_t min_duration=0, size_t max_depth=0, dict names=None):
        cdef Channel channel = begin.channel
        if ringbuf_code_init():
            raise RuntimeError("code objects have no room for a word of ours")
        channel.open_ch()
        self.begins = begin
        self.ends = end
        self.strands = strands
        self.declare = declare
        self.disable = disable
        self.declare_c = declare_c
        self.c_functions = {}
        self.c.ch = channel.ch
        self.c.is_closed = <const int *>&channel.is_closed
        self.c.is_on = True
        self.is_unguarded = begin.is_direct and end.is_direct and end.channel is channel and not channel.is_guarded
        self.min_duration, self.max_depth = min_duration, max_depth
        self.names = {} if names is None else names
        if min_duration and channel.clock is not None:
            raise ValueError("min_duration needs a channel whose clock is not a function of Python's")
        self.c.is_direct = self.is_unguarded
        if min_duration or max_depth or channel.call_durations is not None:
            self.begin_to_choose()
        self.c.is_retold = retell
        self.c.begin_id = begin.event_id
        self.c.end_id = end.event_id
        self.c.left = CALLS_OF_AN_ERA
        self.parent = channel.ch.image
        _begin_code_series()
        _recording.append(self)
        _forget_choosers()

    @property
    def is_on(self):
        """bool: `stop` was not called."""
        return ringbuf_flag(&self.c.is_on)

    def callbacks(self):
        """For `sys.monitoring`: {name of an event: what to register for it}.

        Those of exceptions may not be disabled; the others return `disable` for a code that is not recorded.
        """
        cdef int i, n = N_CALLBACKS if self.declare_c is not None else N_PYTHON_CALLBACKS
        cdef int shift = N_CALLBACKS if self.follows else 0
        return {_monitored[i]: PyCFunction_New(&_callbacks[shift + i], self) for i in range(n)}

    def report(self, error):
        """An exception of our own making: nobody could catch it."""
        _report(error, self.strands)

    def follow_greenlets(self):
        """Call ``strands.follow_here()`` in each thread that calls something from now on, once.

        By callbacks that are to be registered anew.
        """
        global _last_follower
        _last_follower += 1
        self.follows = _last_follower

    def stop(self):
        """Record no more."""
        ringbuf_flag_set(&self.c.is_on, False)
        if self in _recording:
            _recording.remove(self)
        _forget_choosers()

    cdef inline bint is_recording(self) noexcept:
        return ringbuf_flag(&self.c.is_on) and not ringbuf_flag(self.c.is_closed)

    cdef bint record(self, bint is_end, PyObject *code) noexcept:
        """False: this code's calls are not recorded."""
        cdef uint64_t word = ringbuf_code_word(code)
        cdef uint32_t number = <uint32_t>word
        if RINGBUF_UNLIKELY(word >> 32 != ringbuf_era()):
            return self.record_rare(is_end, code, word)
        if RINGBUF_UNLIKELY(not self.is_recording()):
            return True
        if not number:
            return False
        self.put(is_end, number)
        return True

    cdef bint record_rare(self, bint is_end, PyObject *code, uint64_t word) noexcept:
        """A code that was not told yet, or not in this era, or a coroutine's."""
        cdef uint32_t number = <uint32_t>word
        cdef bint is_step
        if not self.is_recording():
            return True
        if word >> 32 != (ringbuf_era() | ERA_OF_COROUTINES):
            number = self.tell(code, <uint32_t>(word >> 32), number, NULL)
        if not number:
            return False
        is_step = ringbuf_code_is_coroutine(code)
        if is_step and not is_end:
            self.begin_step()
        self.put(is_end, number)
        if is_step and is_end:
            self.end_step()
        return True

    cdef void put(self, bint is_end, uint32_t number) noexcept:
        if RINGBUF_UNLIKELY(not ringbuf_calls_is_plain(&self.c) or ringbuf_refusals is not NULL):
            if self.chooser:
                self.choose(is_end, number)
            else:
                self.put_guarded(self.ends if is_end else self.begins, number)
        else:
            ringbuf_calls_put(&self.c, self.c.end_id if is_end else self.c.begin_id, number)
        if self.c.is_retold:
            _count_a_call(&self.c)

    # ---- calls that are recorded if they take long enough, or do not lie too deep ----

    cdef begin_to_choose(self):
        """From now on the calls that each thread is in are noted."""
        global _last_chooser
        if self.chooser or self.begins.channel.clock is not None:
            return
        if ringbuf_open_init():
            raise MemoryError()
        _last_chooser += 1
        self.chooser = _last_chooser
        self.c.is_direct = False

    cdef void choose(self, bint is_end, uint32_t number) noexcept:
        """A call begins or ends: note it, and record what is known to belong into the trace."""
        cdef ringbuf_open_calls *stack = ringbuf_open_of(self.chooser)
        cdef uint64_t now = ringbuf_clock_early(self.c.ch)
        if stack is NULL:
            return
        if is_end:
            self.end_chosen(stack, number, now)
            return
        self.record_begins(stack, stack.n, now)
        if ringbuf_open_begin(stack, number, now) == 0 and not self.min_duration:
            self.record_begins(stack, stack.n, now)

    cdef void end_chosen(self, ringbuf_open_calls *stack, uint32_t number, uint64_t now) noexcept:
        cdef size_t place = ringbuf_open_find(stack, number)
        cdef uint64_t began
        if not place:
            return  # it began before all that is recorded
        began = stack.calls[place - 1].began
        stack.n = place
        if stack.n_written > place:
            stack.n_written = place  # those within it have lost their ends
        self.record_begins(stack, place, now)
        stack.n = place - 1
        if stack.n_written == place:
            stack.n_written = place - 1
            self.put_chosen(True, number, 0)
        if self.begins.channel.call_durations is not None and now > began:
            self.tell_duration(number, now - began)

    cdef void tell_duration(self, uint32_t number, uint64_t ticks) noexcept:
        try:
            durations = self.begins.channel.call_durations
            name = self.names.get(number)
            if name is not None and durations is not None:
                (<Durations>durations).took(name, <uint64_t>(ticks * (1e9 / self.begins.channel.clock_parameters[1])))
        except BaseException as error:
            _report(error, self.names)

    cdef inline void record_begins(self, ringbuf_open_calls *stack, size_t n, uint64_t now) noexcept:
        """Of the outermost n that are open, those that take long enough by now: the outermost first."""
        cdef ringbuf_open_call *call
        cdef bint is_outside = False
        if self.max_depth and n > self.max_depth:
            n = self.max_depth
        while stack.n_written < n:
            call = &stack.calls[stack.n_written]
            if now - call.began < self.min_duration or now < call.began:
                break  # and those within it take less
            if RINGBUF_UNLIKELY(is_outside != (stack.n_written < stack.n_outside)):
                is_outside = not is_outside
                self.step_aside(is_outside)
            stack.n_written += 1
            self.put_chosen(False, call.number, call.began)
        if RINGBUF_UNLIKELY(is_outside):
            self.step_aside(False)

    cdef void step_aside(self, bint is_outside) noexcept:
        """What is recorded now is not the task's in whose step this thread is; or it is again."""
        try:
            self.strands.switched(self.strands.strand_here() if is_outside else ringbuf_step_here.strand, 0)
        except Exception as error:
            _report(error, self.strands)

    cdef inline void enter_step(self, bint is_in) noexcept:
        """A step of a task begins, or ends."""
        cdef ringbuf_open_calls *stack
        if self.chooser:
            stack = ringbuf_open_of(self.chooser)
            if stack is not NULL:
                stack.n_outside = stack.n if is_in else 0

    cdef void put_chosen(self, bint is_end, uint32_t number, uint64_t began) noexcept:
        cdef bint is_plain = (self.is_unguarded and ringbuf_is_known_here(self.c.ch) and self.is_recording() and
                              ringbuf_refusals is NULL)
        if not is_end and self.min_duration:
            if is_plain:
                ringbuf_calls_put_begun(&self.c, number, began)
            else:
                self.put_guarded_begun(number, began)
        elif is_plain:
            ringbuf_calls_put(&self.c, self.c.end_id if is_end else self.c.begin_id, number)
        else:
            self.put_guarded(self.ends if is_end else self.begins, number)

    cdef void put_guarded_begun(self, uint32_t number, uint64_t began) noexcept:
        try:
            self.begins(number, began)
        except BaseException as error:  # as in put_guarded
            if _is_of_program(error):
                _raise_later(error)
                self.begins.channel.count_lost(RINGBUF_LOST_FULL)

    cdef void forget_open_calls(self) noexcept:
        """A forked child is in none of them: it begins them anew."""
        cdef ringbuf_open_calls *stack
        if self.chooser:
            stack = ringbuf_open_of(self.chooser)
            if stack is not NULL:
                stack.n = stack.n_written = stack.n_outside = 0

    cdef void put_guarded(self, Event event, uint32_t number) noexcept:
        try:
            event(number)
        except BaseException as error:  # closed meanwhile, or a signal handler ran while it waited for room
            if _is_of_program(error):
                _raise_later(error)
                event.channel.count_lost(RINGBUF_LOST_FULL)

    cdef uint32_t tell(self, PyObject *code, uint32_t era, uint32_t number, PyObject *names) noexcept:
        """Tell what this code is, which was told in that era. Its number; 0: it is not wanted."""
        cdef uint64_t now = ringbuf_era()
        if not number or (era & ~ERA_OF_COROUTINES) < _first_era:
            number = self.begins.channel.new_code()
            if not number:
                return 0  # closed meanwhile
        if names is NULL:
            names = PyEval_GetGlobals()
        if ringbuf_code_is_coroutine(code):
            now |= ERA_OF_COROUTINES
        try:
            told = self.declare(number, <object>code, {} if names is NULL else <object>names)
        except BaseException as error:
            _report(error, self.declare)
            told = None
        if told is None:
            number, now = 0, ringbuf_era()
        ringbuf_code_set_word(code, (now if told is not False else _first_era) << 32 | number)
        return number

    # ---- functions of C, in the code that calls them ----

    cdef bint record_c(self, bint is_end, PyObject *code, PyObject *called) noexcept:
        """False: this code's calls are not recorded."""
        cdef uint64_t word = ringbuf_code_word(code)
        cdef uint32_t number = <uint32_t>word, era = <uint32_t>(word >> 32) & ~<uint32_t>ERA_OF_COROUTINES
        cdef void *key
        if not self.is_recording():
            return True
        if era < _first_era:
            number = self.tell(code, <uint32_t>(word >> 32), number, NULL)
        if not number:
            return False
        key = ringbuf_c_function(called)
        if key is not NULL:
            number = self.number_of_c(key, called)
            if number:
                self.put(is_end, number)
        return True

    cdef uint32_t number_of_c(self, void *key, PyObject *called) noexcept:
        """0: its calls are not recorded."""
        cdef uint64_t word
        try:
            known = self.c_functions.get(<uintptr_t>key)
            if known is not None:
                word = known
                if word >> 32 == ringbuf_era():
                    return <uint32_t>word
            return self.tell_c(<uintptr_t>key, 0 if known is None else known, ringbuf_c_function_name(called))
        except BaseException as error:
            _report(error, self.declare_c)
            return 0

    cdef uint32_t tell_c(self, uintptr_t key, uint64_t word, str name) except? 0:
        """As `tell`."""
        cdef uint64_t now = ringbuf_era()
        cdef uint32_t number = <uint32_t>word
        if not number or word >> 32 < _first_era:
            number = self.begins.channel.new_code()
            if not number:
                return 0  # closed meanwhile
        told = self.declare_c(number, name)
        if told is None:
            number = 0
        self.c_functions[key] = (now if told is not False else <uint64_t>_first_era) << 32 | number
        return number

    # ---- calls that are open: those of another greenlet wait, those that a fork interrupted begin again ----

    cdef list open_calls(self, PyObject *frame, uint32_t first_era):
        """[(address of the frame, number of its code), ...] from a frame outwards, of those that are recorded.

        A code that was not met since that era was called before anything was recorded: so its call has no begin.
        """
        global ringbuf_acting
        cdef int acting = ringbuf_acting
        cdef object at = None if frame is NULL else <object>frame, code, names
        cdef uint64_t word
        cdef uint32_t number, era
        found = []
        ringbuf_acting = 1  # looking at a frame is an audit event
        while at is not None:
            code = at.f_code
            word = ringbuf_code_word(<PyObject *>code)
            number = <uint32_t>word
            era = <uint32_t>(word >> 32) & ~<uint32_t>ERA_OF_COROUTINES
            if era < first_era:
                number = 0
            elif era != ringbuf_era():
                names = at.f_globals
                number = self.tell(<PyObject *>code, <uint32_t>(word >> 32), number, <PyObject *>names)
            if number:
                found.append((<uintptr_t><void *>at, number))
            at = at.f_back
        ringbuf_acting = acting
        return found

    def switch(self, frame, before, strand, step):
        """This thread runs another greenlet now.

        The calls that wait for it, in `frame` and around it, end; those begin again that go on.

        Parameters
        ----------
        frame : frame or None
        before, strand : int
            What ran, and what runs now.
        step : (int, int)
            The task in which it waited, as this returned it: the address of its frame, and its strand.

        Returns
        -------
        (int, int)
            In which task the other one was.
        """
        cdef ringbuf_step was = ringbuf_step_here
        if self.is_recording():
            for address, number in self.open_calls(NULL if frame is None else <PyObject *>frame, _first_era):
                self.put(True, number)
                if <void *><uintptr_t>address is was.frame:
                    self.enter_step(False)
                    self.strands.switched(before, 0)  # those around the task's step are not the task's
        ringbuf_step_here.frame = <void *><uintptr_t>step[0]
        ringbuf_step_here.strand = step[1]
        if self.is_recording():
            self.begin_again(self.open_calls(<PyObject *>PyEval_GetFrame(), _first_era), strand)
        return <uintptr_t>was.frame, was.strand

    cdef begin_again(self, list calls, strand):
        """Those of a strand, and within it of a task's, from the outermost on."""
        left = self.n_told_again(len(calls))
        self.strands.switched(strand, left)
        for frame, number in reversed(calls):
            if <void *><uintptr_t>frame is ringbuf_step_here.frame:
                self.strands.switched(ringbuf_step_here.strand, max(left, 0))
                self.enter_step(True)
            self.put(False, number)
            left -= 1

    cdef Py_ssize_t n_told_again(self, Py_ssize_t n):
        """How many of n calls that go on here have a begin at once."""
        if self.min_duration:
            return 0
        return min(n, <Py_ssize_t>self.max_depth) if self.max_depth else n

    cdef begin_in_child(self, uint32_t first_era):
        cdef Channel channel = self.begins.channel
        cdef uint32_t image
        self.forget_open_calls()
        if channel.closed:
            return
        image = channel.ch.image
        try:
            calls = self.open_calls(<PyObject *>PyEval_GetFrame(), first_era)
            strand = self.strands.forked(image, self.parent, self.n_told_again(len(calls)))
            if strand:
                self.begin_again(calls, strand)
            else:
                for _, number in reversed(calls):
                    self.put(False, number)
        except Exception as error:
            _report(error, self.strands)
        self.parent = image

    # ---- greenlets: their package calls us back, but each thread must ask for that ----

    cdef inline void follow(self) noexcept:
        global ringbuf_followed_here
        if RINGBUF_UNLIKELY(ringbuf_followed_here != self.follows):
            ringbuf_followed_here = self.follows
            try:
                self.strands.follow_here()
            except Exception as error:
                _report(error, self.strands)

    # ---- tasks: what the outermost coroutine of a step calls is the task's ----

    cdef void begin_step(self) noexcept:
        if ringbuf_step_here.frame is not NULL:
            return
        try:
            strand = self.strands.task_here()
            if strand:
                ringbuf_step_here.frame = <void *>PyEval_GetFrame()
                ringbuf_step_here.strand = strand
                self.enter_step(True)
                self.strands.switched(strand, 0)
        except Exception as error:
            _report(error, self.strands)

    cdef void end_step(self) noexcept:
        if ringbuf_step_here.frame is NULL or ringbuf_step_here.frame is not <void *>PyEval_GetFrame():
            return
        ringbuf_step_here.frame = NULL
        self.enter_step(False)
        try:
            self.strands.switched(self.strands.strand_here(), 0)
        except Exception as error:
            _report(error, self.strands)


cdef _forget_choosers():
    """What threads keep for those that are off may go."""
    ringbuf_open_set_first(min([(<Calls>calls).chooser for calls in _recording if (<Calls>calls).chooser],
                               default=_last_chooser + 1))


def watch_calls(Channel channel not None, Durations durations):
    """Tell `durations` of each call that is recorded in the channel, and that begins from now on."""
    with cython.critical_section(channel):
        _add_former(channel.call_durations)
        channel.call_durations = durations
    if durations is not None:
        for calls in list(_recording):
            if (<Calls>calls).begins.channel is channel:
                (<Calls>calls).begin_to_choose()


cdef uint32_t _last_follower = 0


cdef inline void _count_a_call(ringbuf_calls *calls) noexcept:
    """After so many, everything is told again."""
    global ringbuf_calls_left_here
    ringbuf_calls_left_here -= 1
    if RINGBUF_UNLIKELY(ringbuf_calls_left_here < 0 and ringbuf_calls_take(calls, CALLS_OF_AN_ERA)):
        ringbuf_set_era(ringbuf_era() + 1)


# ---- callbacks of sys.monitoring: bare functions of C, (code, offset, ...) ----
#
# Most calls are of codes that were told, into a channel that takes them as they come: these are recorded here, and
# all the rest is below.

cdef PyObject *_begin_call(PyObject *calls, PyObject *const *args, Py_ssize_t n) noexcept:
    """A function begins, or goes on."""
    cdef ringbuf_calls *c = &(<Calls>calls).c
    if RINGBUF_LIKELY(ringbuf_calls_put_told(c, c.begin_id, args, n, ringbuf_refusals is not NULL)):
        if RINGBUF_UNLIKELY(c.is_retold):
            _count_a_call(c)
        return ringbuf_none()
    return _record_other(<Calls>calls, False, True, args, n)


cdef PyObject *_end_call(PyObject *calls, PyObject *const *args, Py_ssize_t n) noexcept:
    """It returns, or yields."""
    cdef ringbuf_calls *c = &(<Calls>calls).c
    if RINGBUF_LIKELY(ringbuf_calls_put_told(c, c.end_id, args, n, ringbuf_refusals is not NULL)):
        if RINGBUF_UNLIKELY(c.is_retold):
            _count_a_call(c)
        return ringbuf_none()
    return _record_other(<Calls>calls, True, True, args, n)


cdef PyObject *_begin_call_by_throw(PyObject *calls, PyObject *const *args, Py_ssize_t n) noexcept:
    """A generator goes on with an exception."""
    return _record_other(<Calls>calls, False, False, args, n)


cdef PyObject *_end_call_by_throw(PyObject *calls, PyObject *const *args, Py_ssize_t n) noexcept:
    """An exception leaves a function."""
    return _record_other(<Calls>calls, True, False, args, n)


cdef PyObject *_begin_c_call(PyObject *calls, PyObject *const *args, Py_ssize_t n) noexcept:
    """A function of C is called, or anything else is."""
    return _record_c(<Calls>calls, False, args, n)


cdef PyObject *_end_c_call(PyObject *calls, PyObject *const *args, Py_ssize_t n) noexcept:
    """It returns, or raises."""
    return _record_c(<Calls>calls, True, args, n)


cdef PyObject *_begin_call_following(PyObject *calls, PyObject *const *args, Py_ssize_t n) noexcept:
    """As without following, where greenlets are followed; so are the next ones."""
    (<Calls>calls).follow()
    return _begin_call(calls, args, n)


cdef PyObject *_end_call_following(PyObject *calls, PyObject *const *args, Py_ssize_t n) noexcept:
    (<Calls>calls).follow()
    return _end_call(calls, args, n)


cdef PyObject *_begin_call_by_throw_following(PyObject *calls, PyObject *const *args, Py_ssize_t n) noexcept:
    (<Calls>calls).follow()
    return _begin_call_by_throw(calls, args, n)


cdef PyObject *_end_call_by_throw_following(PyObject *calls, PyObject *const *args, Py_ssize_t n) noexcept:
    (<Calls>calls).follow()
    return _end_call_by_throw(calls, args, n)


cdef PyObject *_begin_c_call_following(PyObject *calls, PyObject *const *args, Py_ssize_t n) noexcept:
    (<Calls>calls).follow()
    return _begin_c_call(calls, args, n)


cdef PyObject *_end_c_call_following(PyObject *calls, PyObject *const *args, Py_ssize_t n) noexcept:
    (<Calls>calls).follow()
    return _end_c_call(calls, args, n)


cdef PyObject *_record_c(Calls calls, bint is_end, PyObject *const *args, Py_ssize_t n) noexcept:
    cdef PyObject *answer = Py_None
    if n > 2 and PyCode_Check(args[0]) and not calls.record_c(is_end, args[0], args[2]) and not is_end:
        answer = <PyObject *>calls.disable
    Py_INCREF_ptr(answer)
    return answer


cdef PyObject *_record_other(Calls calls, bint is_end, bint may_disable, PyObject *const *args, Py_ssize_t n) noexcept:
    cdef PyObject *answer = Py_None
    if n > 0 and PyCode_Check(args[0]) and not calls.record(is_end, args[0]) and may_disable:
        answer = <PyObject *>calls.disable
    Py_INCREF_ptr(answer)
    return answer


cdef enum:
    N_PYTHON_CALLBACKS = 6
    N_CALLBACKS = 9

cdef tuple _monitored = (
    "PY_START", "PY_RESUME", "PY_THROW", "PY_RETURN", "PY_YIELD", "PY_UNWIND", "CALL", "C_RETURN", "C_RAISE")
cdef PyMethodDef _callbacks[2 * N_CALLBACKS]  # for each of these; the latter half follows greenlets
_callbacks[0] = _callbacks[1] = RINGBUF_CALLBACK("begin", <void *>_begin_call)
_callbacks[2] = RINGBUF_CALLBACK("begin_by_throw", <void *>_begin_call_by_throw)
_callbacks[3] = _callbacks[4] = RINGBUF_CALLBACK("end", <void *>_end_call)
_callbacks[5] = RINGBUF_CALLBACK("end_by_throw", <void *>_end_call_by_throw)
_callbacks[6] = RINGBUF_CALLBACK("begin_c", <void *>_begin_c_call)
_callbacks[7] = _callbacks[8] = RINGBUF_CALLBACK("end_c", <void *>_end_c_call)
_callbacks[9] = _callbacks[10] = RINGBUF_CALLBACK("begin_following", <void *>_begin_call_following)
_callbacks[11] = RINGBUF_CALLBACK("begin_by_throw_following", <void *>_begin_call_by_throw_following)
_callbacks[12] = _callbacks[13] = RINGBUF_CALLBACK("end_following", <void *>_end_call_following)
_callbacks[14] = RINGBUF_CALLBACK("end_by_throw_following", <void *>_end_call_by_throw_following)
_callbacks[15] = RINGBUF_CALLBACK("begin_c_following", <void *>_begin_c_call_following)
_callbacks[16] = _callbacks[17] = RINGBUF_CALLBACK("end_c_following", <void *>_end_c_call_following)


# ---- before Python 3.12 ----

cdef int _profile(PyObject *calls, PyFrameObject *frame, int what, PyObject *argument) noexcept:
    cdef bint is_python = what == PyTrace_CALL or what == PyTrace_RETURN
    cdef PyObject *code
    if not is_python and (<Calls>calls).declare_c is None:
        return 0
    if (<Calls>calls).follows:
        (<Calls>calls).follow()
    code = RINGBUF_FRAME_CODE(frame)
    if is_python:
        (<Calls>calls).record(what == PyTrace_RETURN, code)
    elif what == PyTrace_C_CALL or what == PyTrace_C_RETURN or what == PyTrace_C_EXCEPTION:
        (<Calls>calls).record_c(what != PyTrace_C_CALL, code, argument)
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
        if not self.calls.c.is_on or not hasattr(threading, "Thread"):
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
            before = self.get_profile()
            is_told = before is not None and not isinstance(before, Calls) and callable(before)
            if is_told:  # the program's own function sees this call, as it would without us
                self.place(None)
                before(_getframe(), "c_call", self.set_profile)
            if function is None and self.calls.c.is_on:
                self.profile_here()
                return
            if function is not None and self.displaced is not None:
                self.displaced()
            if is_told and callable(function):
                function(_getframe(), "c_return", self.set_profile)
            self.place(function)
        return setprofile

    cdef place(self, function):
        global ringbuf_acting
        ringbuf_acting += 1
        try:
            self.set_profile(function)
        finally:
            ringbuf_acting -= 1

    def _getprofile(self):
        def getprofile():
            found = self.get_profile()
            return None if isinstance(found, Calls) else found
        return getprofile
