# distutils: language = c
"""The compiled part of ringbuf: objects over include/ringbuf, no algorithm of its own.

A channel's mapping lives until the last of its users is gone: the Channel
itself, reservations, packets, and every memoryview of any of them.

There may be no GIL. What it would protect says, at its field, what protects it
there: an atomic word (core/life.h), or the critical section of an object. Such a
section is as much as a GIL and no more: it ends wherever the GIL could change hands.
"""

cimport cython
from cpython.buffer cimport PyBUF_C_CONTIGUOUS, PyBUF_WRITABLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING
from cpython.exc cimport PyErr_CheckSignals, PyErr_WriteUnraisable
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.errno cimport EAGAIN, EBADF, EBUSY, EINTR, EINVAL, EIO, EISDIR, ENOBUFS, ENOSPC, ENOSYS, ENXIO, EOPNOTSUPP
from libc.errno cimport ENOMEM, EPERM, ESHUTDOWN, ESTALE, ETIMEDOUT, EUSERS
from libc.stdint cimport UINT64_MAX, int64_t, uint8_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset, strcmp, strlen
from posix.fcntl cimport F_RDLCK, F_WRLCK
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from ringbuf.cringbuf cimport *

# What is imported here is imported into every program that is recorded, before the program: modules that a
# Python has anyway, and our own. What else is needed is imported by those who need it (tests/test_imports.py).
import os
from _operator import index
from _stat import S_ISDIR as _S_ISDIR, S_ISREG as _S_ISREG, S_ISSOCK as _S_ISSOCK
from time import sleep as _sleep

from _weakref import ref as _weak_ref

from . import client as _client
from .errors import (
    BufferFullError,
    ChannelDisabledError,
    EndOfStream,
    NestingError,
    ReaderBusyError,
    RecordTooLargeError,
    RegionError,
    RegionUnfinishedError,
    TooManyProducersError,
)

cdef uint64_t _WAIT_STEP_NS = 100_000_000  # between looks for signals

_MODES = {"discard": RINGBUF_DISCARD, "overwrite": RINGBUF_OVERWRITE}
_STREAMS = {"per-cpu": RINGBUF_PER_CPU, "global": RINGBUF_GLOBAL}
_HEADERS = {"compact": RINGBUF_COMPACT, "large": RINGBUF_LARGE}
_WAKEUPS = {"timer": RINGBUF_WAKEUP_TIMER, "writer": RINGBUF_WAKEUP_WRITER, "none": RINGBUF_WAKEUP_NONE}
_CLOCKS = {"tsc": RINGBUF_CLOCK_TSC, "monotonic": RINGBUF_CLOCK_MONOTONIC}

_MAX_ALIGN = 4096
_DEFAULT_READ_PERIOD_NS = 10_000_000


# ---- small helpers ----

cdef object _choice(str what, object value, dict choices):
    try:
        return choices[value]
    except (KeyError, TypeError):
        names = ", ".join(repr(name) for name in choices)
        raise ValueError(f"{what} must be one of {names}, not {value!r}") from None


cdef uint64_t _nanoseconds(str what, object seconds) except? 0xffffffffffffffff:
    """Seconds as a number, None for ever."""
    if seconds is None:
        return UINT64_MAX
    try:
        value = float(seconds)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{what} must be a number of seconds >= 0 or None, not {seconds!r}") from None
    if not value >= 0:
        raise ValueError(f"{what} must be a number of seconds >= 0 or None, not {seconds!r}")
    return <uint64_t>(value * 1e9) if value < 9e9 else UINT64_MAX


cdef bytes _path_bytes(object path):
    """A path as C takes it, which would end at a NUL."""
    cdef bytes data = os.fsencode(path)
    if b"\0" in data:
        raise ValueError(f"there is a NUL in the path {path!r}")
    return data


cdef object _ONE = 1  # the default, told by identity


cdef inline Py_ssize_t _size_of(object nbytes) except -1:
    cdef Py_ssize_t size
    cdef uint64_t bits
    if RINGBUF_LIKELY(type(nbytes) is int and ringbuf_small_uint(<PyObject *>nbytes, &bits)):
        return <Py_ssize_t>bits
    size = PyNumber_AsSsize_t(nbytes, NULL)  # clipped: too large is too large
    if size < 0:
        raise ValueError(f"nbytes must be >= 0, not {nbytes}")
    return size


cdef uint32_t _checked_align(object align) except 0:
    if not isinstance(align, int) or not 1 <= align <= _MAX_ALIGN or align & (align - 1):
        raise ValueError(f"align must be a power of two, 1 to {_MAX_ALIGN}, not {align!r}")
    return align


cdef int64_t _measured_tsc_frequency = 0  # whoever comes first may be two


cdef uint64_t _tsc_frequency() noexcept:
    """Measured once in a process; it takes 20 ms."""
    if not ringbuf_number(&_measured_tsc_frequency):
        ringbuf_number_set(&_measured_tsc_frequency, <int64_t>ringbuf_tsc_measure_freq())
    return <uint64_t>ringbuf_number(&_measured_tsc_frequency)


cdef uint64_t _now_ns() noexcept nogil:
    cdef timespec ts
    clock_gettime(CLOCK_MONOTONIC, &ts)
    return <uint64_t>ts.tv_sec * 1000000000 + <uint64_t>ts.tv_nsec


cdef str _text(const char *s, Py_ssize_t size):
    return PyUnicode_DecodeUTF8(s, size, "backslashreplace")


cdef object _name_of(Channel channel):
    """What an error calls the channel: its file, or the name that it was given."""
    return channel.path if channel.path is not None else f"channel {_text(channel.ch.super.name, strlen(channel.ch.super.name))!r}"


cdef object _region_error(int error, object what):
    """The exception for a failed creation or attachment; `error` is negative."""
    message = ringbuf_strerror(error).decode()
    if error == -RINGBUF_E_UNFINISHED:
        return RegionUnfinishedError(f"{what}: {message}")
    if -error >= 4096:
        return RegionError(f"{what}: {message}")
    return OSError(-error, message, what)


cdef extern from "core/life.h":
    cdef struct ringbuf_life:
        pass
    bint RINGBUF_NO_GIL
    void ringbuf_share(PyObject *)
    void ringbuf_life_set(ringbuf_life *life, bint closed)
    bint ringbuf_life_enter(ringbuf_life *life, bint has_one)
    bint ringbuf_life_leave(ringbuf_life *life)
    bint ringbuf_life_close(ringbuf_life *life)
    bint ringbuf_is_known_here(const ringbuf_channel *ch)
    bint ringbuf_flag(const int *flag)
    void ringbuf_flag_set(int *flag, bint value)
    int64_t ringbuf_number(const int64_t *number)
    void ringbuf_number_set(int64_t *number, int64_t value)


cdef extern from "Python.h":
    Py_ssize_t PyNumber_AsSsize_t(object, PyObject *) except? -1
    void PyErr_Restore(PyObject *, PyObject *, PyObject *)
    void Py_XINCREF(PyObject *)


cdef int _report(object error, object where) except -1:
    """Tell sys.unraisablehook of an exception that was caught. Within `except`, it is no longer set.

    One that is the program's own goes on to the program: see core/program.pxi.
    """
    if _is_of_program(error) and _raise_later(error):
        return 0
    cdef object kind = type(error), traceback = error.__traceback__
    cdef PyObject *tb = NULL if traceback is None else <PyObject *>traceback
    Py_INCREF(kind)
    Py_INCREF(error)
    Py_XINCREF(tb)
    PyErr_Restore(<PyObject *>kind, <PyObject *>error, tb)
    PyErr_WriteUnraisable(where)
    return 0


cdef int _check_locks() except -1:
    """A thread that may not hold robust locks could record nothing."""
    if ringbuf_robust_check():
        raise OSError(EOPNOTSUPP, "this thread cannot record: get_robust_list or set_robust_list is forbidden to it (by "
                      "seccomp, perhaps), and without them nobody would notice its death: allow them")
    return 0


@cython.final
cdef class Descriptor:
    """A descriptor of ours, in a program that may close it and give its number to somebody else's file.

    Never one of the standard three. `fileno` and `close` compare first; include/ringbuf/descriptor.h.
    """

    cdef int fd  # critical section: or two would close it, and the second one somebody else's
    cdef ringbuf_identity file

    def __cinit__(self, int fd):
        """Takes `fd` over."""
        self.fd = ringbuf_move_up(fd)
        if self.fd >= 0:
            ringbuf_identify(self.fd, &self.file)

    @cython.critical_section
    def fileno(self):
        """The number, -1 once it is closed; OSError (EBADF): the program has closed it."""
        if self.fd < 0:
            return -1
        if not ringbuf_is_ours(self.fd, &self.file):
            raise OSError(EBADF, "the program has closed a descriptor of ringbuf's")
        return self.fd

    @cython.critical_section
    def close(self):
        """Twice is harmless, and so is one that is not ours any more."""
        ringbuf_close_ours(self.fd, &self.file)
        self.fd = -1

    @cython.critical_section
    def forget(self):
        """It is known to be somebody else's, though the file is the same: leave it alone."""
        self.fd = -1

    def __dealloc__(self):
        ringbuf_close_ours(self.fd, &self.file)


def open_file(path, int flags, *, follow=True):
    """A descriptor of a regular file, for us: not a standard one, and nothing is waited for.

    Raises RegionError for what is no regular file, without opening it: that alone may have effects. With
    ``follow=False`` a symbolic link is none. OSError as `os.open`; EAGAIN: somebody holds a lease on the file.
    """
    cdef int fd = -1
    if not follow:
        flags |= os.O_NOFOLLOW
    for _ in range(100):  # somebody may replace it in between
        status = os.stat(path, follow_symlinks=follow)
        if _S_ISDIR(status.st_mode) and flags & os.O_RDWR:
            raise IsADirectoryError(EISDIR, os.strerror(EISDIR), path)
        if _S_ISSOCK(status.st_mode):
            raise OSError(ENXIO, "a socket is no file", path)
        if not _S_ISREG(status.st_mode):
            raise RegionError(f"{os.fsdecode(path)}: not a regular file, so not a ringbuf region (wrong magic)")
        fd = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        opened = os.fstat(fd)
        if (opened.st_dev, opened.st_ino) == (status.st_dev, status.st_ino):
            break
        os.close(fd)
    else:
        raise RegionError(f"{os.fsdecode(path)}: it is replaced again and again while it is being opened")
    fd = ringbuf_move_up(fd)
    if fd < 0:
        raise OSError(-fd, os.strerror(-fd), path)
    return fd


cdef object _needs(const ringbuf_superblock *sb, const ringbuf_config *cfg):
    """How much memory a channel takes, and when."""
    def mib(size):
        return f"{size / 2**20:.1f} MiB"
    fixed = ringbuf_fixed_size(sb)
    each = (sb.region_size - fixed) // sb.n_streams
    if cfg.path is NULL or cfg.preallocate or sb.n_streams == 1:
        return f"the channel takes {mib(sb.region_size)}"
    return f"the channel takes {mib(fixed + each)}, and {mib(each)} for each further CPU that records"


cdef int _raise_lost(int error, object size) except -1:
    """Raise what a refused reservation of `size` payload bytes means."""
    if error == -ENOBUFS:
        raise BufferFullError("the buffer is full: its reader is behind")
    if error == -EIO:
        raise BufferFullError("the buffer came round to a sub-buffer that is still being written")
    if error == -ENOSPC:
        raise RecordTooLargeError(f"a record of {size} bytes does not fit a sub-buffer; see max_record_size")
    if error == -EPERM:
        raise NestingError(f"{RINGBUF_NESTING_MAX} records of this thread are open already, "
                           "or this is called by what the channel itself calls for a record")
    if error == -ESHUTDOWN:
        raise ChannelDisabledError("the channel is disabled or finalized")
    if error == -EUSERS:
        raise TooManyProducersError("all producer slots of the channel are taken by other threads")
    if error == -ENOMEM:
        raise BufferFullError("the file system of the channel's file is full, and has no room for the buffers of this CPU")
    raise OSError(-error, os.strerror(-error))


@cython.final
@cython.internal
@cython.no_gc_clear
@cython.freelist(8)
cdef class _View:
    """Bytes of the mapping, as a buffer that keeps the mapping alive."""

    cdef Channel channel
    cdef uint8_t *data
    cdef Py_ssize_t size
    cdef bint readonly

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.data, self.size, self.readonly, flags)

    def __dealloc__(self):
        if self.channel is not None:
            self.channel.leave()


cdef _View _view(Channel channel, const void *data, size_t size, bint readonly):
    """For who has a use of the channel."""
    cdef _View view = _View.__new__(_View)
    channel.enter()
    view.channel = channel
    view.data = <uint8_t *>data
    view.size = <Py_ssize_t>size
    view.readonly = readonly
    return view


# ---- the client's callbacks, from C to Python ----
#
# They may run on a thread without the GIL. An exception is reported and the
# native behaviour takes the callback's place, so that the ring goes on.
#
# The clock and the header size are asked for before a record has its place. A
# record made there would take the place away, again and again: it is refused,
# and counted as nested too deep. The others run once the record has its place,
# and may record: the ring counts their levels.

cdef extern from *:
    """
    /* The calls of this thread, innermost first, in which a channel refuses records. */
    struct ringbuf_refusal {
        const void *channel;
        struct ringbuf_refusal *outer;
    };
    static _Thread_local struct ringbuf_refusal *ringbuf_refusals;
    """
    cdef struct ringbuf_refusal:
        const void *channel
        ringbuf_refusal *outer
    ringbuf_refusal *ringbuf_refusals


cdef inline void _refuse_begin(ringbuf_refusal *refusal, const ringbuf_channel *ch) noexcept:
    global ringbuf_refusals
    refusal.channel = ch
    refusal.outer = ringbuf_refusals
    ringbuf_refusals = refusal


cdef inline void _refuse_end(const ringbuf_refusal *refusal) noexcept:
    global ringbuf_refusals
    ringbuf_refusals = refusal.outer


cdef inline bint _is_refusing(const ringbuf_channel *ch) noexcept:
    """Is this thread inside a call that `ch` makes before a record has its place?"""
    cdef const ringbuf_refusal *refusal = ringbuf_refusals
    while refusal is not NULL:
        if refusal.channel == ch:
            return True
        refusal = refusal.outer
    return False


cdef uint64_t _clock_read(const ringbuf_channel *ch) noexcept with gil:
    cdef Channel channel = <Channel>ch.client_data
    cdef ringbuf_refusal refusal
    _refuse_begin(&refusal, ch)
    try:
        now = channel.clock()
        if not isinstance(now, int):
            raise TypeError(f"a clock returns an int, of ticks, not {type(now).__name__}: time.time_ns, not time.time")
        return now
    except BaseException as error:
        _report(error, channel.clock)
        return 0  # raised to the last time by the caller
    finally:
        _refuse_end(&refusal)


cdef size_t _record_header_size(const ringbuf_channel *ch, size_t offset, size_t *pre_padding,
                                const ringbuf_reservation *r) noexcept with gil:
    cdef Channel channel = <Channel>ch.client_data
    cdef size_t size, padding, limit = ringbuf_subbuf_size(&ch.geometry)
    cdef ringbuf_refusal refusal
    _refuse_begin(&refusal, ch)
    try:
        size, padding = channel.client.record_header_size(offset, r.event_id, r.header_flags)
        if size > limit or padding > limit:
            raise ValueError(f"record_header_size returned {(size, padding)} for a sub-buffer of {limit} bytes")
        pre_padding[0] = padding
        return size
    except BaseException as error:
        _report(error, channel.client.record_header_size)
        return ringbuf_record_header_size(NULL, ch, offset, pre_padding, r)
    finally:
        _refuse_end(&refusal)


cdef void _write_record_header(const ringbuf_channel *ch, uint8_t *header, const ringbuf_reservation *r) noexcept with gil:
    cdef Channel channel = <Channel>ch.client_data
    try:
        _call_with_buffer(channel, channel.client.write_record_header, (), header, r.header_size,
                          (r.event_id, r.timestamp, r.header_flags))
    except BaseException as error:
        _report(error, channel.client.write_record_header)


cdef void _write_filler(const ringbuf_channel *ch, uint8_t *at, size_t size) noexcept with gil:
    cdef Channel channel = <Channel>ch.client_data
    try:
        _call_with_buffer(channel, channel.client.write_filler, (), at, size, ())
    except BaseException as error:
        _report(error, channel.client.write_filler)


cdef void _buffer_begin(const ringbuf_channel *ch, ringbuf_stream *s, uint32_t stream_idx, uint32_t subbuf_idx,
                        uint64_t timestamp, uint8_t *header) noexcept with gil:
    cdef Channel channel = <Channel>ch.client_data
    try:
        _call_with_buffer(channel, channel.client.buffer_begin, (Stream(channel, stream_idx), timestamp, subbuf_idx),
                          header, ch.packet_header_size, ())
    except BaseException as error:
        _report(error, channel.client.buffer_begin)
        if channel.has_native_packets():
            ringbuf_buffer_begin(NULL, ch, s, stream_idx, subbuf_idx, timestamp)


cdef void _buffer_end(const ringbuf_channel *ch, ringbuf_stream *s, uint32_t stream_idx, uint32_t subbuf_idx,
                      uint64_t timestamp, uint64_t data_size, uint8_t *header) noexcept with gil:
    cdef Channel channel = <Channel>ch.client_data
    try:
        _call_with_buffer(channel, channel.client.buffer_end,
                          (Stream(channel, stream_idx), timestamp, subbuf_idx, data_size),
                          header, ch.packet_header_size, ())
    except BaseException as error:
        _report(error, channel.client.buffer_end)
        if channel.has_native_packets():
            ringbuf_buffer_end(NULL, ch, s, stream_idx, subbuf_idx)


cdef int _buffer_create(const ringbuf_channel *ch, uint32_t stream_idx, uint32_t cpu, const char *name) noexcept with gil:
    cdef Channel channel = <Channel>ch.client_data
    try:
        channel.client.buffer_create(Stream(channel, stream_idx), cpu, name.decode())
    except BaseException as error:
        _report(error, channel.client.buffer_create)
    return 0


cdef void _buffer_finalize(const ringbuf_channel *ch, uint32_t stream_idx, uint32_t cpu) noexcept with gil:
    cdef Channel channel = <Channel>ch.client_data
    try:
        channel.client.buffer_finalize(Stream(channel, stream_idx), cpu)
    except BaseException as error:
        _report(error, channel.client.buffer_finalize)


cdef object _call_with_buffer(Channel channel, object method, tuple before, uint8_t *data, size_t size, tuple after):
    """Call method(*before, buffer, *after); the buffer is of no use once it returns."""
    buffer = memoryview(_view(channel, data, size, False))
    try:
        if after:
            method(buffer, *after)
        else:
            method(*before, buffer)
    finally:
        try:
            buffer.release()
        except BufferError:
            pass  # kept by the callback: it may scribble, the mapping stays


# Of each stream in overwrite mode. A paused producer takes one, or two if it is paused between two sub-buffers.
cdef int _SPARES = 8


cdef uint32_t _n_spares(object wanted, uint32_t mode) except? 0:
    if wanted is None:
        return _SPARES if mode == RINGBUF_OVERWRITE else 0
    return _client.checked_count("n_spares", wanted, RINGBUF_SPARES_MAX, low=0)


cdef bint _overrides(object client, str name):
    return getattr(type(client), name) is not getattr(_client.Client, name)


# ---- channel ----

cdef class Channel:
    """Channel(name, *, subbuf_size=262144, n_subbufs=4, mode="discard", client=None, streams="per-cpu", \
clock="auto", path=None, switch_timer=None, read_timer=None, wakeup="timer", blocking_timeout=0.0, contexts="", \
n_producers=1024, n_streams=None, preallocate=False, schema_size=1048576, metrics_size=65536, start_position=0, n_spares=None)
--

    A set of ring buffers in shared memory, one stream for each CPU (or one in all).

    Parameters
    ----------
    name : str
        1 to 63 bytes of UTF-8, without ``/``; stream files are named after it.
    subbuf_size : int
        Bytes of a sub-buffer: a power of two, from one page to 32 MiB.
    n_subbufs : int
        Sub-buffers of each stream: a power of two, 2 to 16384. One more is kept for the reader.
    mode : {"discard", "overwrite"}
        When the ring is full: drop the new record, or the oldest packet.
    client : Client, optional
        Format callbacks; the default is ``CtfClient()``.
    streams : {"per-cpu", "global"}
    clock : {"auto", "tsc", "monotonic"} or callable
        ``"auto"`` is the processor's counter where the kernel itself uses it. A callable
        returns an int, nanoseconds unless the client's ``clock_frequency`` says otherwise.
    path : str or os.PathLike, optional
        Keep the buffers in this new file (mode 0600) instead of anonymous memory.
    switch_timer, read_timer : float, optional
        Seconds between flushes, and between looks for packets, of a consumer.
    wakeup : {"timer", "writer", "none"}
        Whether delivering a packet wakes a sleeping reader.
    blocking_timeout : float or None
        Discard mode: seconds that a record waits for room; None for ever.
    contexts : str
        Fields of every record, as schema text, for example ``"vpid:i32,vtid:i32"``.
    n_producers : int
        Threads, of all processes, that can record at one time.
    n_streams : int, optional
        Of a per-CPU channel; one for each CPU that the machine may have by default.
    preallocate : bool
        Take all memory at once. Otherwise anonymous memory is taken page by page; and of a file the buffers of
        each CPU when the first record is made there, which is lost if the file system is full
        (``records_lost_memory``).
    schema_size : int
        Bytes for the declarations of events.
    metrics_size : int
        Bytes for the names and labels of counters, gauges and histograms, and as many for each CPU, for
        their values: a power of two, 4096 to 16 MiB.
    start_position : int
        Where the positions of the rings begin; for tests.
    n_spares : int, optional
        Overwrite mode: sub-buffers of each stream that take the place of those in which a producer
        is stopped; 8 by default.

    Raises
    ------
    ValueError
        A parameter is out of range.
    OSError
        The memory or file could not be had; ``FileExistsError`` if `path` exists.

    Thread safety: any thread; recording takes no lock.
    Source: include/ringbuf/channel.h.
    """

    cdef ringbuf_channel *ch            # NULL: not made yet. There as long as this is; the mapping: `life`
    cdef ringbuf_client callbacks       # those the client overrides
    cdef readonly object client         # Client
    cdef readonly object path           # str or None
    cdef object clock                   # a user's callable, or None
    cdef bint is_closed                 # to callers, also before it is there; the mapping may outlive it. Atomic
    cdef bint is_recording              # of `ringbuf record`, which has started this program
    cdef bint is_guarded                # a record may run Python code or wait, and meet a close()
    cdef dict events                    # (name, contexts, fields): id, of the first n_events declarations;
    cdef uint64_t events_off            # where those end. All three: critical section
    cdef uint32_t n_events
    cdef int64_t payload_ids[13]        # event id of raw payloads aligned to 1 << i, -1: not declared. Atomic
    cdef ringbuf_life life              # here, away from what is read for each record
    cdef object durations               # Durations, which want to know of each span's end, or None
    cdef object call_durations          # the same of calls
    cdef object __weakref__

    def __cinit__(self):
        self.is_closed = True
        ringbuf_life_set(&self.life, True)
        self.events = {}
        for i in range(13):
            self.payload_ids[i] = -1

    def __init__(self, name, *, subbuf_size=256 * 1024, n_subbufs=4, mode="discard", client=None,
                 streams="per-cpu", clock="auto", path=None, switch_timer=None, read_timer=None, wakeup="timer",
                 blocking_timeout=0.0, contexts="", n_producers=1024, n_streams=None, preallocate=False,
                 schema_size=1 << 20, metrics_size=1 << 16, start_position=0, n_spares=None):
        cdef ringbuf_config cfg
        cdef bytes name_bytes = _client.checked_name(name), path_bytes = None
        cdef bytes contexts_bytes = _client.checked_contexts(contexts)
        cdef ringbuf_channel *ch = NULL
        cdef int ret
        if self.ch is not NULL:
            raise RuntimeError("the channel exists already")
        memset(&cfg, 0, sizeof(cfg))
        cfg.name = name_bytes
        cfg.contexts = contexts_bytes
        if ringbuf_encode_contexts(cfg.contexts, NULL, 0) > RINGBUF_CONTEXT_BLOCK_MAX:
            raise ValueError(f"contexts take more than {RINGBUF_CONTEXT_BLOCK_MAX} bytes of every record")
        if path is not None:
            path_bytes = _path_bytes(path)
            cfg.path = path_bytes
            self.path = os.fsdecode(path_bytes)
        cfg.subbuf_size = _client.checked_size("subbuf_size", subbuf_size, os.sysconf("SC_PAGESIZE"), 1 << 25)
        cfg.n_subbufs = _client.checked_size("n_subbufs", n_subbufs, 2, 1 << 14)
        cfg.mode = _choice("mode", mode, _MODES)
        cfg.n_spares = _n_spares(n_spares, cfg.mode)
        cfg.streams = _choice("streams", streams, _STREAMS)
        cfg.wakeup = _choice("wakeup", wakeup, _WAKEUPS)
        cfg.n_streams = _client.checked_count("n_streams", n_streams, 4096)
        cfg.n_producers = _client.checked_count("n_producers", n_producers, 1 << 20)
        cfg.preallocate = bool(preallocate)
        cfg.schema_size = _client.checked_count("schema_size", schema_size, 1 << 30, low=4096)
        cfg.metrics_size = _client.checked_size("metrics_size", metrics_size, 4096, 1 << 24)
        cfg.start_pos = start_position
        cfg.switch_timer_ns = 0 if switch_timer is None else _nanoseconds("switch_timer", switch_timer)
        cfg.read_timer_ns = 0 if read_timer is None else _nanoseconds("read_timer", read_timer)
        cfg.blocking_timeout_ns = _nanoseconds("blocking_timeout", blocking_timeout)
        self._set_client(client, clock)
        cfg.header = _choice("header", self.client.header, _HEADERS)
        self._fill_clock(&cfg, clock)
        self._fill_packet_header_size(&cfg)
        if self._has_callbacks():
            cfg.client = &self.callbacks
            cfg.client_data = <void *>self
        _check_locks()
        # buffer_create is called from within, when self.ch is not there yet: below instead
        ret = ringbuf_create(&cfg, &ch)
        if ret:
            raise self._creation_error(ret, &cfg)
        self.begin(ch)
        self._call_buffer_create()
        remember(self)

    @staticmethod
    def open(path, name=None, *, client=None, clock="auto", **options):
        """Attach to the channel in a file, or make it if there is none; whoever comes first.

        Any number of processes may do it at the same time: one makes the file, which has its name
        only when it is finished, and all the others attach to it.

        Parameters
        ----------
        path : str or os.PathLike
        name : str, optional
            Of the channel, if it is made; by default the file's name.
        client, clock, **options
            As for `Channel`. A channel that is there keeps what it was made with.

        Returns
        -------
        Channel

        Raises
        ------
        RegionUnfinishedError
            The file is not finished, and was not for a second: its maker was killed over it.
        RegionError, OSError
            As `ringbuf.attach`, and as making a channel.

        Thread safety: any thread. Source: include/ringbuf/channel.h.
        """
        from .live.sharing import open_channel
        return open_channel(path, name, client=client, clock=clock, **options)

    @staticmethod
    def _attach(int fd, client, clock, path):
        """A Channel over an open descriptor, which is its own from now on, and closed if this fails."""
        cdef Channel self = Channel.__new__(Channel)
        cdef ringbuf_channel *ch = NULL
        cdef int ret
        try:
            if clock is not None and not callable(clock):
                raise TypeError(f"clock must be the callable that the channel was made with, not {clock!r}")
            self._set_client(client, clock)
            if self._has_callbacks():
                self._check_likeness(fd)
            self.path = path
            ret = ringbuf_attach_fd(fd, &self.callbacks if self._has_callbacks() else NULL, <void *>self, &ch)
            if ret:
                raise _region_error(ret, path if path is not None else os.readlink(f"/proc/self/fd/{fd}"))
        except:
            os.close(fd)
            raise
        self.is_recording = path is not None and path == os.environ.get("RINGBUF_CHANNEL")
        self.begin(ch)
        if client is None:
            self.client = _client.CtfClient(header="large" if self.ch.header == RINGBUF_LARGE else "compact")
        return self

    @staticmethod
    def _look(int fd, path):
        """A Channel over a private copy of the counters behind `fd`, which stays the caller's."""
        cdef Channel self = Channel.__new__(Channel)
        cdef ringbuf_channel *ch = NULL
        cdef int ret
        self._set_client(None, None)
        self.path = path
        with nogil:
            ret = ringbuf_look(fd, &ch)
        if ret:
            raise _region_error(ret, path)
        self.begin(ch)
        return self

    cdef begin(self, ringbuf_channel *ch):
        """It is made."""
        cdef bint is_mine
        with cython.critical_section(self):
            is_mine = self.ch is NULL
            if is_mine:
                ch.kept = 1
                self.is_guarded = self._has_callbacks() or ch.blocking_timeout_ns
                self.ch = ch
                ringbuf_life_set(&self.life, False)
                ringbuf_flag_set(<int *>&self.is_closed, False)
        if not is_mine:
            ringbuf_close(ch)
            raise RuntimeError("the channel exists already")
        ringbuf_outlive_cuts()  # if it fails, nothing is worse than without

    cdef _check_likeness(self, int fd):
        """Whoever records with other callbacks than the channel's spoils its packets, and its times."""
        cdef ringbuf_superblock sb
        cdef uint64_t size
        if ringbuf_check_superblock(fd, &sb, &size):
            return  # who attaches says why
        if (sb.custom_client != ringbuf_client_flags(&self.callbacks) or
                (sb.clock == RINGBUF_CLOCK_CUSTOM) != (self.clock is not None)):
            raise RegionError(f"channel {_text(sb.name, strlen(sb.name))!r} was made with another client or clock: "
                              "pass those, or none if it has none")

    cdef _set_client(self, client, clock):
        self.client = _client.CtfClient() if client is None else client
        if not isinstance(self.client, _client.Client):
            raise TypeError(f"client must be a ringbuf.Client, not {type(client).__name__}")
        memset(&self.callbacks, 0, sizeof(self.callbacks))
        if callable(clock):
            if getattr(clock, "__module__", None) == "time" and not clock.__name__.endswith("_ns"):
                raise TypeError(f"clock=time.{clock.__name__} gives seconds as a float: use time.{clock.__name__}_ns")
            self.clock = clock
        if _overrides(self.client, "clock_read"):
            if self.clock is not None:
                raise ValueError("the client overrides clock_read: leave clock at its default")
            self.clock = self.client.clock_read
        if self.clock is not None:
            self.callbacks.clock_read = _clock_read
        if _overrides(self.client, "record_header_size"):
            self.callbacks.record_header_size = _record_header_size
        if _overrides(self.client, "write_record_header"):
            self.callbacks.write_record_header = _write_record_header
        if _overrides(self.client, "write_filler"):
            self.callbacks.write_filler = _write_filler
        if _overrides(self.client, "buffer_begin"):
            self.callbacks.buffer_begin = _buffer_begin
        if _overrides(self.client, "buffer_end"):
            self.callbacks.buffer_end = _buffer_end
        if _overrides(self.client, "buffer_finalize"):
            self.callbacks.buffer_finalize = _buffer_finalize
        if (self.callbacks.record_header_size is NULL) != (self.callbacks.write_record_header is NULL):
            raise TypeError("a client overrides record_header_size and write_record_header together, or neither")
        if self.callbacks.write_filler is not NULL and self.callbacks.write_record_header is NULL:
            raise TypeError("a client overrides write_filler for record headers of its own; the built-in have fillers")

    cdef bint _has_callbacks(self):
        cdef ringbuf_client *c = &self.callbacks
        return (c.clock_read is not NULL or c.record_header_size is not NULL or c.write_filler is not NULL or
                c.buffer_begin is not NULL or c.buffer_end is not NULL or c.buffer_finalize is not NULL)

    cdef _fill_clock(self, ringbuf_config *cfg, clock):
        if self.clock is not None:
            cfg.clock = RINGBUF_CLOCK_CUSTOM
            cfg.clock_freq = self.client.clock_frequency
            cfg.clock_offset_s = self.client.clock_offset_s
            cfg.clock_offset = self.client.clock_offset
        elif clock == "auto":
            cfg.clock = RINGBUF_CLOCK_TSC if ringbuf_tsc_is_usable() else RINGBUF_CLOCK_MONOTONIC
        else:
            cfg.clock = _choice("clock", clock, _CLOCKS)
            if cfg.clock == RINGBUF_CLOCK_TSC and not ringbuf_tsc_is_usable():
                raise ValueError("clock='tsc': the kernel does not trust this machine's counter; use 'monotonic'")
        if cfg.clock == RINGBUF_CLOCK_TSC:
            cfg.clock_freq = _tsc_frequency()

    cdef _fill_packet_header_size(self, ringbuf_config *cfg):
        cdef uint32_t native = (RINGBUF_CTF_PACKET_HEADER_SIZE if cfg.streams == RINGBUF_PER_CPU
                                else RINGBUF_CTF_PACKET_HEADER_SIZE_GLOBAL)
        cfg.packet_header_size = native
        if not _overrides(self.client, "packet_header_size"):
            return
        size = index(self.client.packet_header_size())
        if not 4 <= size <= cfg.subbuf_size // 2:
            raise ValueError(f"packet_header_size() is {size}; it must be 4 to half a sub-buffer")
        if size < native and not (self.callbacks.buffer_begin is not NULL and self.callbacks.buffer_end is not NULL):
            raise ValueError(f"packet_header_size() is {size}, less than the built-in header's {native}: "
                             "override buffer_begin and buffer_end too")
        cfg.packet_header_size = size

    cdef _creation_error(self, int error, ringbuf_config *cfg):
        cdef ringbuf_superblock sb
        if ringbuf_fill_superblock(&sb, cfg):
            return _region_error(error, self.path)
        size = (cfg.n_subbufs + 1 + cfg.n_spares) * cfg.subbuf_size * sb.n_streams
        if error == -ENOSPC or error == -ENOMEM:
            return OSError(-error, f"no room for {size >> 20} MiB of buffers: {_needs(&sb, cfg)}; make n_subbufs or "
                           "subbuf_size smaller, choose streams='global' or another path", self.path)
        if error == -27:  # EFBIG, which memory too is given
            return OSError(-error, f"{size >> 20} MiB of buffers are more than this process may have in a file: make "
                           "n_subbufs or subbuf_size smaller, choose streams='global', or raise ulimit -f", self.path)
        if error in (-EPERM, -ENOSYS) and self.path is None:
            return OSError(-error, "anonymous memory cannot be had: memfd_create is forbidden to this process (by "
                           "seccomp, perhaps): allow it, or give the channel a path")
        return _region_error(error, self.path)

    @property
    def has_custom_records(self):
        """bool: the client writes its own record headers."""
        return self.callbacks.record_header_size is not NULL

    @property
    def is_ctf(self):
        """bool: packets and records are in the built-in format."""
        cdef ringbuf_channel *ch = self.open_ch()
        cdef uint32_t native = (RINGBUF_CTF_PACKET_HEADER_SIZE if ch.streams == RINGBUF_PER_CPU
                                else RINGBUF_CTF_PACKET_HEADER_SIZE_GLOBAL)
        return self.callbacks.record_header_size is NULL and ch.packet_header_size == native

    cdef bint has_native_packets(self):
        return self.ch.packet_header_size >= (RINGBUF_CTF_PACKET_HEADER_SIZE if self.ch.streams == RINGBUF_PER_CPU
                                              else RINGBUF_CTF_PACKET_HEADER_SIZE_GLOBAL)

    @property
    def _needs_client(self):
        return self._has_callbacks()

    @property
    def _clock(self):
        return None if _overrides(self.client, "clock_read") else self.clock

    def _call_buffer_create(self):
        cdef ringbuf_channel *ch
        if _overrides(self.client, "buffer_create"):
            ch = self.enter_open()  # it may close the channel
            ch.client_data = <void *>self
            for i in range(ch.n_streams):
                _buffer_create(ch, i, i, <const char *>ch.super.name)
            self.leave()

    def __dealloc__(self):
        if self.ch is not NULL:
            if ringbuf_life_close(&self.life):
                ringbuf_close(self.ch)
            ringbuf_channel_forget(self.ch)

    # -- life --

    cdef ringbuf_channel *open_ch(self) except NULL:
        """What it is, and no word of its mapping: that may be gone as soon as this returns.

        But for a thread that is known to the channel (`ringbuf_is_known_here`).
        """
        if ringbuf_flag(<const int *>&self.is_closed):
            raise ValueError("the channel is closed")
        return self.ch

    cdef ringbuf_channel *mapped_ch(self) except NULL:
        """For who has a use, also once the channel is closed: what was cut off must not be touched."""
        if not ringbuf_is_whole(self.ch):
            raise RegionError(f"{_name_of(self)}: the file has been truncated")
        return self.ch

    cdef ringbuf_channel *whole_ch(self) except NULL:
        """As `mapped_ch`, of a channel that is not closed."""
        self.open_ch()
        return self.mapped_ch()

    cdef int enter(self) except -1:
        """One more use of the mapping, for who has one."""
        if not ringbuf_life_enter(&self.life, True):
            raise ValueError("the channel is closed")
        return 0

    cdef ringbuf_channel *enter_open(self) except NULL:
        """One more use, of a channel that is not closed.

        For every call that touches the mapping: meanwhile another thread, a callback, the conversion of an
        argument or a finalizer may close the channel. The mapping stays until `leave`.
        """
        if not ringbuf_life_enter(&self.life, False):
            raise ValueError("the channel is closed")
        return self.ch

    cdef ringbuf_channel *enter_whole(self) except NULL:
        """As `enter_open`, where the region is looked at; no record."""
        self.enter_open()
        try:
            return self.mapped_ch()
        except:
            self.leave()
            raise

    cdef uint32_t new_code(self) noexcept:
        """A number for a code object; 0: the channel is closed."""
        cdef uint32_t number = 0
        if ringbuf_life_enter(&self.life, False):
            number = ringbuf_new_code(self.ch)
            self.leave()
        return number

    cdef void count_lost(self, uint32_t cause) noexcept:
        if ringbuf_life_enter(&self.life, False):
            ringbuf_refuse_here(self.ch, cause, 1)
            self.leave()

    cdef int leave(self) noexcept:
        if ringbuf_life_leave(&self.life):
            ringbuf_close(self.ch)
        return 0

    def close(self):
        """Stop using the channel in this process; others are not disturbed. Twice is harmless.

        Its events and readers refuse use, and a wait in another thread ends with ValueError.
        Packets in hand stay readable, open reservations can be committed: memory is given
        back when the last of them, and the last memoryview, is gone.
        """
        ringbuf_flag_set(<int *>&self.is_closed, True)  # first: who still enters may see it
        if ringbuf_life_close(&self.life):
            ringbuf_close(self.ch)

    def __enter__(self):
        self.open_ch()
        return self

    def __exit__(self, *exc):
        self.close()

    def __repr__(self):
        cdef ringbuf_channel *ch = self.ch
        if self.closed:
            return "<ringbuf.Channel, closed>"
        name = _text(ch.super.name, strlen(ch.super.name))
        mode = "overwrite" if ch.mode == RINGBUF_OVERWRITE else "discard"
        return (f"<ringbuf.Channel {name!r}, {mode}, {ch.n_streams} stream(s) of "
                f"{ringbuf_n_subbufs(&ch.geometry)} x {ringbuf_subbuf_size(&ch.geometry)} bytes>")

    def __reduce__(self):
        from .live import sharing
        return sharing.reduce_channel(self)

    # -- what it is --

    @property
    def closed(self):
        """bool: `close` was called."""
        return ringbuf_flag(<const int *>&self.is_closed)

    @property
    def image(self):
        """int: the number of this process image in the region: a forked child, and what an exec starts, has another."""
        return self.open_ch().image

    @property
    def name(self):
        """str"""
        return (<char *>self.open_ch().super.name).decode("utf-8", "backslashreplace")

    @property
    def mode(self):
        """str: ``"discard"`` or ``"overwrite"``."""
        return "overwrite" if self.open_ch().mode == RINGBUF_OVERWRITE else "discard"

    @property
    def header(self):
        """str: record header, ``"compact"`` or ``"large"``."""
        return "large" if self.open_ch().header == RINGBUF_LARGE else "compact"

    @property
    def per_cpu(self):
        """bool: one stream for each CPU, not one in all."""
        return self.open_ch().streams == RINGBUF_PER_CPU

    @property
    def wakeup(self):
        """str: ``"timer"``, ``"writer"`` or ``"none"``."""
        return ("timer", "writer", "none")[self.open_ch().wakeup]

    @property
    def subbuf_size(self):
        """int: bytes of a sub-buffer."""
        return ringbuf_subbuf_size(&self.open_ch().geometry)

    @property
    def n_subbufs(self):
        """int: sub-buffers of each stream's ring, without the reader's."""
        return ringbuf_n_subbufs(&self.open_ch().geometry)

    @property
    def n_spares(self):
        """int: sub-buffers of each stream that take the place of those in which a producer is stopped; 0 in discard mode."""
        return self.open_ch().super.n_spares

    @property
    def packet_header_size(self):
        """int: bytes of a packet before its first record."""
        return self.open_ch().packet_header_size

    @property
    def max_record_size(self):
        """int: the largest payload, in bytes, that fits a fresh sub-buffer whatever its header.

        For `align` > 1, and for contexts that vary in size, subtract what they need.
        """
        cdef ringbuf_channel *ch = self.enter_whole()
        cdef ringbuf_producer *p = ringbuf_this_producer(ch)
        cdef size_t extra = RINGBUF_CTF_HEADER_SIZE_MAX + 3 + 4  # header, its alignment, length prefix
        if p is not NULL:
            extra += p.context_size
        self.leave()
        return ringbuf_subbuf_size(&ch.geometry) - ch.packet_header_size - extra

    @property
    def uuid(self):
        """uuid.UUID of the channel, and of its traces."""
        import uuid
        return uuid.UUID(bytes=(<const char *>self.open_ch().super.uuid)[:16])

    @property
    def contexts(self):
        """str: schema text of the fields that every record carries."""
        return (<const char *>self.open_ch().contexts).decode()

    @property
    def timers(self):
        """tuple of (switch_timer, read_timer), float seconds, or None where not set."""
        cdef const ringbuf_superblock *sb = self.open_ch().super
        cdef double switch_timer = sb.switch_timer_ns / 1e9, read_timer = sb.read_timer_ns / 1e9
        return (switch_timer or None, read_timer or None)

    @property
    def blocking_timeout(self):
        """float or None: seconds that a record waits for room; None: for ever."""
        cdef uint64_t ns = self.open_ch().blocking_timeout_ns
        return None if ns == UINT64_MAX else ns / 1e9

    @property
    def clock_parameters(self):
        """tuple of (kind, ticks per second, offset in s, offset in ticks).

        Tick 0 is at the two offsets, Unix time.
        """
        cdef ringbuf_channel *ch = self.open_ch()
        return (("tsc", "monotonic", "custom")[ch.clock], ch.super.clock_freq, ch.super.clock_offset_s,
                ch.super.clock_offset)

    @property
    def environment(self):
        """dict: who created the channel."""
        cdef const ringbuf_superblock *sb = self.open_ch().super
        return {"hostname": (<char *>sb.hostname).decode("utf-8", "replace"),
                "procname": (<char *>sb.program).decode("utf-8", "replace"),
                "vpid": sb.creator_pid}

    def current_timestamp(self):
        """Now, in ticks of the channel's clock (int)."""
        cdef ringbuf_channel *ch = self.open_ch()
        if self.clock is not None:
            return self.clock()
        return ringbuf_clock_ordered(ch)

    def fileno(self):
        """The descriptor of the shared memory; it belongs to the channel.

        If the program has closed it, another one, where the channel's file can be opened again; else RegionError.
        """
        cdef ringbuf_channel *ch = self.enter_open()
        cdef int ret = ringbuf_own_descriptor(ch)
        self.leave()
        if ret < 0:
            raise _region_error(ret, _name_of(self))
        return ret

    @property
    def streams(self):
        """list of Stream, in order of CPU."""
        return [Stream(self, i) for i in range(self.open_ch().n_streams)]

    def schemas(self):
        """Declared events: list of (id, name, contexts text, fields text), in order of id."""
        cdef ringbuf_channel *ch = self.enter_whole()
        try:
            return _schemas(ch)
        finally:
            self.leave()

    def declare_event(self, str name not None, str contexts not None, str fields not None):
        """The id of an event (int), declared now if no process has declared it.

        Texts as in `ringbuf.ctf.schema`, canonical, up to 65535 bytes each. OSError (ENOSPC): the schema
        area is full. OSError (EBUSY): another process has been declaring for five seconds (stopped, perhaps).
        """
        cdef int64_t ret
        cdef bytes n = name.encode(), c = contexts.encode(), f = fields.encode()
        cdef const char *pn = n
        cdef const char *pc = c
        cdef const char *pf = f
        cdef ringbuf_channel *ch = self.enter_whole()
        cdef uint64_t off
        cdef uint32_t id
        try:
            with cython.critical_section(self):
                self.learn_events()
                known = self.events.get((n, c, f))
                off, id = self.events_off, self.n_events
            if known is not None:
                return known
            with nogil:
                ret = ringbuf_declare_event_after(ch, off, id, pn, pc, pf)
        finally:
            self.leave()
        if ret == -ENOSPC:
            raise OSError(ENOSPC, f"no room for event {name!r}: make the channel's schema_size larger")
        if ret == -EINVAL:
            raise ValueError(f"event {name[:40]!r}: it needs a name, and no text may be longer than 65535 bytes")
        if ret < 0:
            raise OSError(-ret, os.strerror(-ret))
        return ret

    cdef int learn_events(self) except -1:
        """What was declared since we looked: to go through all of it for each declaration takes time for many."""
        cdef ringbuf_schema s
        cdef uint64_t off = self.events_off
        cdef uint32_t n = self.n_events
        while ringbuf_next_schema(self.ch, &off, &s):
            key = (<bytes>s.name[:s.name_size], <bytes>s.contexts[:s.contexts_size], <bytes>s.fields[:s.fields_size])
            self.events.setdefault(key, s.id)
            n += 1
        if off > self.events_off:
            self.events_off, self.n_events = off, n
        return 0

    # -- recording --

    cdef int64_t payload_id(self, uint32_t align) except -1:
        """Event id of raw payloads with this alignment, a power of two."""
        cdef int order = 0
        cdef int64_t id
        while (1 << order) < align:
            order += 1
        id = ringbuf_number(&self.payload_ids[order])
        if id < 0:
            id = self.declare_event("payload", "", "payload:bytes" if align == 1 else f"payload:bytes@{align}")
            ringbuf_number_set(&self.payload_ids[order], id)
        return id

    cdef int prepare_payload(self, ringbuf_reservation *r, size_t size, object align) except -1:
        """Of a reservation that is all zeros."""
        cdef int64_t id
        r.payload_size = size
        r.align = 1 if align is _ONE else _checked_align(align)
        if self.callbacks.record_header_size is NULL:
            r.flags = RINGBUF_LENGTH_PREFIX
            id = ringbuf_number(&self.payload_ids[0])
            r.event_id = <uint32_t>(id if r.align == 1 and id >= 0 else self.payload_id(r.align))
        return 0

    cdef int reserve_into(self, ringbuf_reservation *r) except? -1:
        """ringbuf_reserve, waiting without the GIL and letting signals in. Returns 0 or -errno.

        Where `is_guarded`, or the thread is not known yet, the caller has entered, and leaves after its commit.
        """
        cdef ringbuf_channel *ch = self.open_ch()  # what came before may have run any code
        if ringbuf_refusals is not NULL and _is_refusing(ch):
            return ringbuf_refuse_here(ch, RINGBUF_LOST_NESTING, 1)
        if not ch.blocking_timeout_ns:
            return ringbuf_reserve(ch, r)
        r.flags |= RINGBUF_NONBLOCK
        cdef int ret = ringbuf_reserve(ch, r)
        return ret if ret != -EAGAIN else self.reserve_waiting(r)

    cdef int reserve_waiting(self, ringbuf_reservation *r) except? -1:
        """As ringbuf_reserve_blocking, in steps between which signal handlers run."""
        cdef ringbuf_channel *ch = self.open_ch()
        cdef uint64_t deadline = 0
        cdef uint32_t stream, seq
        cdef int ret = -EAGAIN
        if ringbuf_may_block(ringbuf_this_producer(ch).slot):
            deadline = ringbuf_deadline(ch.blocking_timeout_ns)
        while ret == -EAGAIN:
            stream = r.stream_idx
            seq = ringbuf_space_wanted(ch, stream)
            if self.is_recording and ringbuf_has_no_reader(ch, stream):
                deadline = 0  # the recorder is gone: nobody makes room any more
            if _now_ns() >= deadline:  # the last try counts the loss
                r.flags = (r.flags & ~RINGBUF_NONBLOCK) | RINGBUF_NOWAIT
            ret = ringbuf_reserve(ch, r)
            if ret == -EAGAIN and r.stream_idx == stream:
                with nogil:
                    ringbuf_wait_for_space(ch, stream, seq, deadline)
                PyErr_CheckSignals()
                self.open_ch()
        return ret

    def write(self, payload, align=1):
        """Record the bytes of `payload`, any C-contiguous buffer.

        Parameters
        ----------
        payload : bytes-like
        align : int
            Of the first payload byte within its packet; a power of two up to 4096.

        Returns
        -------
        bool
            True: recorded. False: lost, and counted by cause in `stats`.

        Thread safety: any thread. Blocks only with a ``blocking_timeout``.
        Source: include/ringbuf/reserve.h, commit.h.
        """
        if ringbuf_is_known_here(self.open_ch()) and not self.is_guarded:
            return self.write_now(payload, align) == 1
        self.enter_open()
        try:
            return self.write_now(payload, align) == 1
        finally:
            self.leave()

    cdef int write_now(self, payload, align) except -1:
        cdef Py_buffer view  # not a memoryview of Cython's, which imports collections.abc
        if type(payload) is bytes:
            return self.write_bytes(PyBytes_AS_STRING(payload), len(<bytes>payload), align)
        PyObject_GetBuffer(payload, &view, PyBUF_C_CONTIGUOUS)
        try:
            return self.write_bytes(<const char *>view.buf, view.len, align)
        finally:
            PyBuffer_Release(&view)

    cdef int write_bytes(self, const char *data, Py_ssize_t size, align) except -1:
        cdef ringbuf_reservation r
        memset(&r, 0, sizeof(r))
        self.prepare_payload(&r, size, align)
        if self.reserve_into(&r):
            return 0
        if size:
            memcpy(r.payload, data, size)
        ringbuf_commit(self.ch, &r)
        return 1

    def reserve(self, nbytes, align=1):
        """Reserve payload space in this CPU's stream.

        Parameters
        ----------
        nbytes : int
            Payload bytes, 0 to about `max_record_size`.
        align : int
            As in `write`.

        Returns
        -------
        Reservation
            A context manager: commits on exit, discards if an exception passes.

        Raises
        ------
        BufferFullError
            Counted in records_lost_full, or records_lost_wrap.
        RecordTooLargeError
            Counted in records_lost_big.
        NestingError
            Four reservations of this thread are open; counted in records_lost_nesting.
        TooManyProducersError
            All producer slots are taken by other threads; counted in records_lost_slots.
        ChannelDisabledError
            Disabled or finalized; counted in records_lost_disabled.

        Thread safety: any thread; the reservation belongs to the thread that made it.
        Source: include/ringbuf/reserve.h.
        """
        cdef Reservation slot = Reservation.__new__(Reservation)
        cdef int ret = slot.begin(self, nbytes, align)
        if ret:
            _raise_lost(ret, nbytes)
        return slot

    def try_reserve(self, nbytes, align=1):
        """As `reserve`, but None where it would raise because the record is lost."""
        cdef Reservation slot = Reservation.__new__(Reservation)
        return None if slot.begin(self, nbytes, align) else slot

    # -- states --

    cdef ringbuf_producer_slot *producer(self) except NULL:
        """For who has a use."""
        cdef ringbuf_producer *p = ringbuf_this_producer(self.whole_ch())
        if p is NULL:
            _check_locks()
            _raise_lost(-EUSERS, 0)
        if _is_refusing(self.ch):
            _raise_lost(-EPERM, 0)
        return p.slot

    def flush(self, empty=False):
        """End the current packet of every stream, so that a reader can have it.

        With ``empty=True``, a stream without a begun packet gets one without records, if a
        sub-buffer is free: it carries the loss count and the time.
        Thread safety: any thread. Source: include/ringbuf/switch.h.
        """
        cdef unsigned int flags = RINGBUF_FLUSH_EMPTY if empty else 0
        cdef ringbuf_channel *ch = self.enter_open()
        cdef ringbuf_producer_slot *producer
        cdef uint32_t i
        try:
            producer = self.producer()
            for i in range(ch.n_streams):
                _flush(ch, producer, i, flags)
        finally:
            self.leave()

    def repair(self):
        """Complete the packets that producers left unfinished when they died.

        Readers, recorders and producers do it by themselves where they are held up by one.
        A packet in which somebody alive is still writing is left alone. Also frees the
        producer slots of the dead.

        Returns
        -------
        int
            How many packets can be read now that could not be before.

        Raises
        ------
        TimeoutError
            Another process has been repairing for a second.

        Thread safety: any thread. Source: include/ringbuf/repair.h.
        """
        cdef uint64_t deadline = ringbuf_deadline(1_000_000_000)
        cdef ringbuf_channel *ch = self.enter_whole()
        cdef int ret
        try:
            while True:
                ret = ringbuf_repair(ch)
                if ret >= 0:
                    return ret
                if _now_ns() >= deadline:
                    raise TimeoutError("somebody else is repairing the channel, and does not finish")
                _sleep(0.001)
        finally:
            self.leave()

    def clear(self):
        """Throw away everything recorded and not yet read; it counts as overrun, and as cleared.

        Raises ReaderBusyError while a reader, in any process, has the channel.
        """
        with Reader._open(self, None) as reader:
            reader.clear()

    def disable(self):
        """Refuse records until `enable`, in every process; they count in records_lost_disabled."""
        self.set_disabled(True)

    def enable(self):
        """Undo `disable`."""
        self.set_disabled(False)

    cdef set_disabled(self, bint value):
        ringbuf_set_state(self.enter_whole(), RINGBUF_STATE_DISABLED, value)
        self.leave()

    def finalize(self):
        """Refuse records from now on, in every process; readers read on to the end.

        When this returns, no further record is accepted. Twice is harmless.
        """
        cdef ringbuf_channel *ch = self.enter_open()
        cdef int ret
        try:
            ret = ringbuf_finalize(ch, self.producer())
        finally:
            self.leave()
        if ret:
            _raise_lost(ret, 0)

    @property
    def is_finalized(self):
        """bool"""
        cdef bint value = ringbuf_is_finalized(self.enter_whole())
        self.leave()
        return value

    @property
    def is_disabled(self):
        """bool: records are refused; finalized channels are disabled too."""
        cdef bint value = ringbuf_is_disabled(self.enter_whole())
        self.leave()
        return value

    def stats(self):
        """Counters of the whole channel, all processes (`Stats`)."""
        cdef ringbuf_stats st
        ringbuf_channel_stats(self.enter_whole(), &st)
        self.leave()
        return _stats(&st)

    # -- reading --

    def reader(self, stream=None):
        """The right to read: all streams, or the one with this index.

        Raises ReaderBusyError if a living reader, in any process, has one of them.
        """
        return Reader._open(self, stream)

    def map(self, cpu=0):
        """The stream of a CPU, or the only one, as the kernel maps its ring buffer.

        Returns
        -------
        ringbuf.live.mapping.Mapping
            A context manager. Raises ReaderBusyError if a reader has the stream.
        """
        from .live.mapping import Mapping
        return Mapping(self, cpu)

    def has_reader(self, stream=0):
        """bool: a living reader has the stream, now."""
        cdef uint32_t number = self.checked_stream(stream)
        cdef bint none = ringbuf_has_no_reader(self.enter_whole(), number)
        self.leave()
        return not none

    cdef uint32_t checked_stream(self, stream) except? 0xffffffff:
        """Before the caller asks for `ch`: an object's __index__ may close the channel."""
        number = index(stream)
        cdef uint32_t n_streams = self.open_ch().n_streams
        if not 0 <= number < n_streams:
            raise IndexError(f"stream {number} of {n_streams}")
        return number

    # -- what a client's default callbacks do --

    def _native_header(self, stream, uint64_t subbuf_idx, uint64_t timestamp, bint end):
        cdef uint32_t s = self.checked_stream(stream)
        cdef ringbuf_channel *ch = self.enter_open()
        cdef uint32_t idx = ringbuf_checked(ch, subbuf_idx)
        if end:
            ringbuf_buffer_end(NULL, ch, ringbuf_stream_at(ch, s), s, idx)
        else:
            ringbuf_buffer_begin(NULL, ch, ringbuf_stream_at(ch, s), s, idx, timestamp)
        self.leave()


known_channels = {}  # by uuid: weak references to those of this process


def remember(Channel channel not None):
    """Let an unpickled copy of it, in this process or a forked child, be `channel` itself."""
    uuid = (<const char *>channel.open_ch().super.uuid)[:16]

    def forget(gone):
        if known_channels.get(uuid) is gone:
            known_channels.pop(uuid, None)

    known_channels[uuid] = _weak_ref(channel, forget)


def known_channel(bytes uuid not None):
    """Channel or None: the one of this process that has this uuid."""
    known = known_channels.get(uuid)
    return None if known is None else known()


cdef list _schemas(const ringbuf_channel *ch):
    cdef ringbuf_schema s
    cdef uint64_t off = 0
    found = []
    while ringbuf_next_schema(ch, &off, &s):
        found.append((s.id, _text(s.name, s.name_size), _text(s.contexts, s.contexts_size),
                      _text(s.fields, s.fields_size)))
    return found


cdef extern from "ringbuf/layout.h" nogil:
    uint32_t ringbuf_checked "ringbuf_checked_idx"(const ringbuf_channel *ch, uint64_t idx)


cdef int _flush(ringbuf_channel *ch, ringbuf_producer_slot *producer, uint32_t stream, unsigned int flags) except -1:
    cdef int ret = ringbuf_flush(ch, producer, stream, flags)
    if ret == -EPERM:
        _raise_lost(ret, 0)
    return 0  # -ENOBUFS, -EIO, -ENOMEM: no free sub-buffer for an empty packet


# The causes of losses, as Stats names them, in the order of the counters.
_LOSSES = tuple([f"records_lost_{ringbuf_loss_name(cause).decode()}" for cause in range(RINGBUF_N_LOSSES)])


cdef object _stats_class = None


cdef object _stats(ringbuf_stats *st):
    global _stats_class
    if _stats_class is None:  # not before it is needed; and nothing can be imported when the interpreter ends
        from .stats import Stats
        _stats_class = Stats
    lost = {name: st.lost[cause] for cause, name in enumerate(_LOSSES)}
    return _stats_class(
        records_written=st.written, records_read=st.read, records_unread=st.unread, records_overrun=st.overrun,
        records_torn=st.lost[RINGBUF_LOST_TORN], records_discarded=st.discarded, records_cleared=st.cleared,
        packets_read=st.packets_read, packets_parked=st.parked, parked_now=st.parked_now, **lost)


@cython.final
cdef class Stream:
    """One ring of a channel: that of a CPU, or the only one. From ``channel.streams``."""

    cdef readonly Channel channel
    cdef readonly uint32_t index

    def __cinit__(self, Channel channel not None, index):
        self.channel = channel
        self.index = index

    @property
    def cpu(self):
        """int, or None in a global channel."""
        return self.index if self.channel.per_cpu else None

    def stats(self):
        """Counters of this stream; records_lost_disabled is counted for the channel alone."""
        cdef ringbuf_stats st
        cdef uint32_t index = self.channel.checked_stream(self.index)
        memset(&st, 0, sizeof(st))
        ringbuf_add_stream_stats(self.channel.enter_whole(), index, &st)
        self.channel.leave()
        return _stats(&st)

    def usage(self):
        """(int, int): bytes claimed so far, and of those not read and not overwritten; headers and padding included."""
        cdef uint32_t index = self.channel.checked_stream(self.index)
        cdef ringbuf_channel *ch = self.channel.enter_whole()
        cdef ringbuf_usage usage = ringbuf_stream_usage(ch, ringbuf_stream_at(ch, index))
        self.channel.leave()
        return usage.produced, usage.unread

    def events_discarded(self):
        """int: records lost so far, as the next packet will say it."""
        cdef uint32_t index = self.channel.checked_stream(self.index)
        cdef uint64_t discarded = ringbuf_events_discarded(ringbuf_stream_at(self.channel.enter_whole(), index))
        self.channel.leave()
        return discarded

    def flush(self, empty=False):
        """End this stream's current packet; see `Channel.flush`."""
        cdef unsigned int flags = RINGBUF_FLUSH_EMPTY if empty else 0
        cdef uint32_t index = self.channel.checked_stream(self.index)
        cdef ringbuf_channel *ch = self.channel.enter_open()
        try:
            _flush(ch, self.channel.producer(), index, flags)
        finally:
            self.channel.leave()

    def reader(self):
        """The right to read this stream alone."""
        return Reader._open(self.channel, self.index)

    def __repr__(self):
        return f"<ringbuf.Stream {self.index} of {self.channel!r}>"


@cython.final
@cython.no_gc_clear
@cython.freelist(8)
cdef class Reservation:
    """Space reserved for one record: fill `payload`, then `commit` or `discard`.

    A context manager: commits on exit, discards if an exception passes. It belongs to
    the thread that made it, and to its process: a forked child cannot commit it.
    """

    cdef Channel channel
    cdef ringbuf_reservation r
    cdef _View view      # this and `data`: critical section
    cdef object data
    cdef uint64_t forks
    cdef bint is_open    # its own thread alone changes it

    cdef int begin(self, Channel channel, nbytes, align) except? -1:
        """Once, of what is all zeros."""
        cdef int ret
        channel.prepare_payload(&self.r, _size_of(nbytes), align)
        channel.enter_open()  # what came before may have run any code
        if channel.is_guarded:
            try:
                ret = channel.reserve_into(&self.r)
            except:
                channel.leave()
                raise
        else:
            ret = channel.reserve_into(&self.r)
        if ret:
            channel.leave()
            return ret
        self.channel = channel
        self.forks = ringbuf_registry.forks
        self.is_open = True
        return 0

    cdef bint is_mine(self):
        """Was it made by this very thread? A number of the thread's would not tell: they are used again."""
        return ringbuf_is_own_slot(self.channel.ch, self.r.producer)

    @property
    @cython.critical_section
    def payload(self):
        """memoryview, writable, format 'B', shape (nbytes,); of no use after commit or discard."""
        if not self.is_open:
            raise ValueError("the reservation is committed or discarded")
        if self.data is None:
            self.view = _view(self.channel, self.r.payload, self.r.payload_size, False)
            self.data = memoryview(self.view)
        return self.data

    @property
    def timestamp(self):
        """int: ticks of the channel's clock."""
        return self.r.timestamp

    @property
    def stream(self):
        """int: index of the stream it lies in."""
        return self.r.stream_idx

    @cython.critical_section
    cdef int end(self, str what) except -1:
        if not self.is_open:
            raise ValueError(f"cannot {what}: the reservation is committed or discarded")
        if self.forks != ringbuf_registry.forks:
            raise RuntimeError(f"cannot {what}: the reservation was made before this process was forked")
        if not self.is_mine():
            raise RuntimeError(f"cannot {what}: the reservation belongs to another thread")
        self.is_open = False
        if self.data is not None:
            try:
                self.data.release()
            except BufferError:
                pass  # somebody's view of it lives on, and could scribble; the mapping stays
            self.data = self.view = None
        return 0

    cdef int end_by_commit(self) except -1:
        self.end("commit")
        ringbuf_commit(self.channel.ch, &self.r)
        self.channel.leave()
        return 0

    cdef int end_by_discard(self) except -1:
        self.end("discard")
        ringbuf_discard(self.channel.ch, &self.r)
        self.channel.leave()
        return 0

    def commit(self):
        """The record is complete."""
        self.end_by_commit()

    def discard(self):
        """Give the record up; it counts as discarded, not as lost."""
        self.end_by_discard()

    def __dealloc__(self):
        if not self.is_open:
            return
        # Forgotten. In its own thread it can still be discarded; elsewhere it stays open
        # until that thread exits, and is then torn.
        if self.forks == ringbuf_registry.forks and self.is_mine():
            ringbuf_discard(self.channel.ch, &self.r)
        self.channel.leave()


include "core/reading.pxi"
include "core/mapping.pxi"
include "core/event.pxi"
include "core/watch.pxi"
include "core/span.pxi"
include "core/metric.pxi"
include "core/calls.pxi"
include "core/program.pxi"
include "core/recorder.pxi"
include "core/recovery.pxi"


# ---- a reservation as a context manager ----

cdef PyObject *_enter_reservation(PyObject *self, PyObject *_nothing) except NULL:
    if not (<Reservation>self).is_open:
        raise ValueError("the reservation is committed or discarded")
    Py_INCREF_ptr(self)
    return self


cdef PyObject *_exit_reservation(PyObject *self, PyObject *const *args, Py_ssize_t n) except NULL:
    if n != 3:
        raise TypeError(f"__exit__() takes 3 arguments (type, exception, traceback), not {n}")
    if (<Reservation>self).is_open:
        if args[0] is Py_None:
            (<Reservation>self).end_by_commit()
        else:
            (<Reservation>self).end_by_discard()
    Py_INCREF_ptr(Py_None)
    return Py_None


cdef PyMethodDef _reservation_methods[3]
_reservation_methods[0] = PyMethodDef(b"__enter__", <PyCFunction>_enter_reservation, METH_NOARGS,
                                      b"__enter__($self, /)\n--\n\n")
_reservation_methods[1] = PyMethodDef(b"__exit__", <PyCFunction><void *>_exit_reservation, METH_FASTCALL,
                                      b"__exit__($self, exc_type, exc, traceback, /)\n--\n\n")
_reservation_methods[2] = PyMethodDef(NULL, NULL, 0, NULL)
ringbuf_add_methods(<PyObject *>Reservation, _reservation_methods)
