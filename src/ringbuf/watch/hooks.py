"""Triggers that the program itself sets off: exceptions that nobody caught, signals, log records.

Each function begins to listen for a `Watch`, and returns what ends that.
"""

import _signal  # type: ignore[import-not-found]
import os

from .._core import Tap, listen_to_uncaught, stop_listening
from ..record.later import when_imported
from ..record.taps import tapped
from ..texts import encodable
from ..texts import of_error as text_of

__all__ = ["on_exceptions", "on_log_records", "on_signal"]

_WANTED = (KeyboardInterrupt, SystemExit, GeneratorExit)  # somebody wanted the end

#: Whose default action is to end the process, and which somebody sends for that.
_ENDING = frozenset(
    int(getattr(_signal, name)) for name in ("SIGTERM", "SIGHUP", "SIGQUIT", "SIGINT", "SIGXCPU", "SIGALRM")
)


# ---- exceptions ----


def on_exceptions(watch):
    """By audit events of the interpreter, threading's hook, and what asyncio tells its loops.

    Whatever the program has put into `sys.excepthook`, and puts there later, stands there.
    """

    def tell(hook, _kind, error, _traceback) -> None:
        if isinstance(error, BaseException) and not isinstance(error, _WANTED):
            watch.tell_uncaught(error, text_of(error))

    listen_to_uncaught(tell)
    undo = [lambda: stop_listening(tell)]
    when_imported("threading", lambda threading: undo.append(_on_threads(watch, threading)))
    for name in ("asyncio.base_events", "uvloop"):
        when_imported(name, lambda module: undo.append(_on_tasks(watch, module)))
    when_imported("multiprocessing.util", lambda util: _on_children(watch, util))

    def end() -> None:
        while undo:
            undo.pop()()

    return end


def _on_threads(watch, threading):
    """A thread whose function raises: threading.excepthook has it, and nobody else."""
    before = getattr(threading, "excepthook", None)
    if before is None:
        return _nothing  # a module of the program's own that has this name

    def tell(args, /) -> bool:
        error = args.exc_value
        if error is not None and not isinstance(error, _WANTED):
            watch.tell_uncaught(error, f"in thread {getattr(args.thread, '_name', '?')}: {text_of(error)}")
        return False

    hook = threading.excepthook = Tap(before, tell, None)
    return lambda: setattr(threading, "excepthook", before) if threading.excepthook is hook else None


def _on_tasks(watch, module):
    """What an event loop is told: a task's exception that nobody asked for, and those of callbacks."""
    loop = getattr(module, "BaseEventLoop", None) or getattr(module, "Loop", None)
    before = getattr(loop, "call_exception_handler", None)
    if before is None:
        return _nothing

    def tell(_loop, context) -> bool:
        error = context.get("exception") if type(context) is dict else None
        if isinstance(error, BaseException) and not isinstance(error, _WANTED):
            task = context.get("task") or context.get("future")
            name = task.get_name() if hasattr(task, "get_name") else ""
            where = f"in task {name}: " if type(name) is str and name else ""
            watch.tell_uncaught(error, f"{where}{text_of(error)}")
        return False

    return tapped(loop, "call_exception_handler", tell)


def _on_children(watch, util) -> None:
    """A child that multiprocessing has forked catches all its exceptions: its exit code tells."""
    if hasattr(util, "register_after_fork"):
        util.register_after_fork(watch, type(watch).begin_in_child_of_multiprocessing)


def _nothing() -> None:
    """There was nothing to listen to."""


# ---- signals ----


def on_signal(watch, number: int):
    """Beside what the program does about it. One that would end the process does so when the snapshot is written."""
    name = _name_of(number)

    def handle(received, frame) -> None:
        watch.fire("signal", name)
        if callable(before):
            before(received, frame)
        elif before == _signal.SIG_DFL and received in _ENDING:
            watch.wait()
            _signal.signal(received, _signal.SIG_DFL)
            os.kill(os.getpid(), received)

    try:
        before = _signal.getsignal(number)
        _signal.signal(number, handle)
    except (ValueError, OSError) as error:
        raise ValueError(f"signal: {name}: {error}") from None

    def undo() -> None:
        if _signal.getsignal(number) is handle:
            try:
                _signal.signal(number, _signal.SIG_DFL if before is None else before)
            except ValueError:
                pass  # in another thread: it stays, and does what was there before

    return undo


def _name_of(number: int) -> str:
    for name in dir(_signal):
        if name.startswith("SIG") and not name.startswith("SIG_") and getattr(_signal, name) == number:
            return name
    return f"signal {number}"


# ---- log records ----


def on_log_records(watch, level: int):
    """Of this level or a higher one, as loggers pass them to their handlers."""
    undo = [_nothing]

    def begin(logging) -> None:
        logger = getattr(logging, "Logger", None)
        if hasattr(logger, "callHandlers"):
            undo[0] = tapped(logger, "callHandlers", tell)

    def tell(_logger, record) -> bool:
        about = record.__dict__
        number = about.get("levelno")
        if type(number) is int and number >= level:
            from ..inject.logs import formed

            info = about.get("exc_info")
            error = info[1] if type(info) is tuple and len(info) == 3 else None
            text = formed(about.get("msg"), about.get("args"))
            watch.fire("log", encodable(f"{about.get('levelname')} {about.get('name')}: {text}"), error=error)
        return False

    when_imported("logging", begin)
    return lambda: undo[0]()
