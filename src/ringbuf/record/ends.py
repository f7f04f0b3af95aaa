"""Ends of processes: what is still to be done then, and which of them are good ones.

A process can only do something at its end if it runs Python until then. One that is killed, calls
``os._exit`` or executes another program does nothing any more; `finish` is for those that know before.

- A program ends well unless an exception passes that nobody has caught. ``sys.exit``, whatever its
  status, and KeyboardInterrupt are how somebody wanted it.
- A child of multiprocessing, and so of concurrent.futures and joblib, ends well with exit code 0, as
  its parent sees. Exceptions do not tell: multiprocessing catches them all.
"""

from __future__ import annotations

import atexit
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

__all__ = ["AtEnd", "finish"]

_LAST = -1  # multiprocessing's priority of what is done after its children have ended

_pending: list[AtEnd] = []


class AtEnd:
    """Calls `action` at the end of this process, with whether that is a good one; not in forked copies.

    Parameters
    ----------
    action : callable
        Takes a bool. In the order of making, the newest is the first; all after the process's
        multiprocessing children have ended.
    """

    def __init__(self, action: Callable[[bool], None]) -> None:
        self._action: Callable[[bool], None] | None = action
        self._pid = os.getpid()
        self._child = _child_main()
        _pending.append(self)
        if self._child is None:
            _expect_child()
        # A program that has not imported multiprocessing is not made to: importing it would put a
        # function of its own in the middle of the program's atexit functions. In one that has, that
        # function waits for the children, and calls what was left with it: in the children too, which
        # do not always call those of atexit. If the import comes later, that function comes first.
        util = sys.modules.get("multiprocessing.util")
        if hasattr(util, "Finalize"):
            self._finalizer = util.Finalize(None, self._run, exitpriority=_LAST)
        else:
            self._finalizer = None
            atexit.register(self._run)

    def _run(self) -> None:
        self.run(_is_good() if self._child is None else _exit_code(self._child) == 0)

    def run(self, well: bool) -> None:
        """The end is now. Once."""
        action = self._action
        if os.getpid() == self._pid and action is not None:
            self.cancel()
            action(well)

    def cancel(self) -> None:
        """There is nothing left to be done. Twice is harmless."""
        self._action = self._child = None  # and with it, what they refer to
        if self in _pending:
            _pending.remove(self)
        if self._finalizer is None:
            atexit.unregister(self._run)
        else:
            self._finalizer.cancel()


def finish(well: bool = True) -> None:
    """Do now what the end of this process would do, because it will not come to that.

    Stops recorders that still run, and removes files of ``RINGBUF_DIR`` (and those with
    ``keep=False``). For processes that end without running Python to its end: by ``os._exit``, as
    the workers of celery do, by ``os.execv``, or by a signal that has its default action, as
    uvicorn's. docs/deploying.md says where each has a place for the call.

    Parameters
    ----------
    well : bool
        False: this is no good end. The files stay.

    What is recorded after it goes to the buffers, and is in no trace. Thread safety: any thread.

    >>> import ringbuf
    >>> ringbuf.finish()
    """
    for one in reversed(_pending.copy()):
        one.run(well)


def _is_good() -> bool:
    """Of a program."""
    if hasattr(sys, "ps1"):
        return True  # somebody sits before it, and has seen the exceptions
    kind = getattr(sys, "last_type", None)  # of what nobody has caught
    return kind is None or issubclass(kind, KeyboardInterrupt)


def _child_main() -> FrameType | None:
    """The frame of the function that a child of multiprocessing lives in; None in any other process."""
    process = sys.modules.get("multiprocessing.process")
    if process is None or process.parent_process() is None:
        return None
    frame = sys._current_frames().get(sys.modules["threading"].main_thread().ident)
    while frame is not None and frame.f_code is not process.BaseProcess._bootstrap.__code__:
        frame = frame.f_back
    return frame


def _expect_child() -> None:
    """A child that is spawned imports the program before it becomes one: look again when it has."""
    process, spawned = (sys.modules.get(f"multiprocessing.{name}") for name in ("process", "context"))
    kind = getattr(spawned, "SpawnProcess", None)
    if not hasattr(kind, "_after_fork"):
        return
    if not ("--multiprocessing-fork" in sys.argv or getattr(process.current_process(), "_inheriting", False)):
        return
    begin = kind._after_fork
    if getattr(begin, "__module__", None) == __name__:
        return  # it is expected already

    def become_child() -> None:
        begin()
        for one in _pending:
            one._child = one._child or _child_main()

    kind._after_fork = staticmethod(become_child)


def _exit_code(child_main: FrameType) -> int:
    """Of a child of multiprocessing, while its finalizers run."""
    error = sys.exc_info()[1]
    if error is None:
        return child_main.f_locals.get("exitcode", 1)  # it has returned, or run what it had to
    if not isinstance(error, SystemExit):
        return 1
    # Before Python 3.13 the finalizers run while the exception passes that decides.
    return error.code if isinstance(error.code, int) else int(error.code is not None)
