"""What a process says of itself, and gauges that are asked for: sampled by whoever writes or shows metrics."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time

from .._core import gil_wait

__all__ = ["sample", "take_samples", "watch_process"]

_PAGE = os.sysconf("SC_PAGE_SIZE")
_samplers: list = []  # (function, what is done with its result)
_lock = threading.Lock()
os.register_at_fork(after_in_child=lambda: globals().update(_lock=threading.Lock()))


def sample(gauge, function) -> None:
    """Set a gauge to what `function` returns, whenever metrics are written or shown by this process.

    An exception is reported through `sys.unraisablehook`, and the gauge is not set; None does not set it either.
    """
    if not callable(function):
        raise TypeError(f"a gauge is sampled from a callable, not from {function!r}")
    with _lock:
        _samplers.append((function, gauge))
    _take(function, gauge)


def take_samples() -> None:
    """Ask all functions. Callers: the threads that write or show metrics."""
    for function, gauge in list(_samplers):
        _take(function, gauge)


def _take(function, gauge) -> None:
    try:
        value = function()
        if value is not None:
            gauge(value)
    except Exception as error:
        if isinstance(error, ValueError) and "the channel is closed" in str(error):
            _forget(function, gauge)
        else:
            _report(error, function)


def _forget(function, gauge) -> None:
    with _lock:
        if (function, gauge) in _samplers:
            _samplers.remove((function, gauge))


def _report(error: Exception, function) -> None:
    class Unraisable:
        exc_type, exc_value, exc_traceback = type(error), error, error.__traceback__
        err_msg, object = "ringbuf: a gauge could not be sampled, by", function

    sys.unraisablehook(Unraisable)


def watch_process(tracer) -> None:
    """Metrics of each process that uses the tracer: call it in each, after a fork too.

    ``process_memory`` (bytes, resident), ``process_threads``, ``process_open_files``, ``gc_pause`` (a histogram of
    seconds, by generation) and ``gil_wait`` (how long the thread that takes samples waits for the GIL, once each time:
    what any other thread waits too; nothing where there is none). The gauges are set when metrics are written or
    shown by this process, and by a recorder once a second.
    """
    memory = tracer.gauge("process_memory", "bytes", help="Resident memory.", per="process")
    threads = tracer.gauge("process_threads", help="Threads, of Python and others.", per="process")
    files = tracer.gauge("process_open_files", help="Open descriptors.", per="process")
    sample(memory, lambda: int(_read("/proc/self/statm").split()[1]) * _PAGE)
    sample(threads, lambda: int(_read("/proc/self/stat").rpartition(")")[2].split()[17]))
    sample(files, lambda: len(os.listdir("/proc/self/fd")) - 1)
    if getattr(sys, "_is_gil_enabled", lambda: True)():
        waits = tracer.histogram("gil_wait", "s", help="How long a thread waits for the GIL.")
        sample(waits, gil_wait)
    _watch_gc(
        tracer.histogram("gc_pause", "s", help="How long the garbage collector stops the program.", generation="u8")
    )


def _watch_gc(pauses) -> None:
    by_generation = [pauses.labels(generation) for generation in range(3)]
    began = 0

    def note(phase: str, info: dict) -> None:
        nonlocal began
        now = time.monotonic_ns()
        if phase == "start":
            began = now
        elif began and info["generation"] < len(by_generation):
            try:
                by_generation[info["generation"]]((now - began) * 1e-9)
            except ValueError:  # the channel is closed
                gc.callbacks.remove(note)

    gc.callbacks.append(note)


def _read(path: str) -> str:
    with open(path) as file:
        return file.read()
