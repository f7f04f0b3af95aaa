"""Triggers that nothing sets off but time: who does not come any more, what is lost, how much memory is taken."""

import _thread
import os
import sys
import time
from _weakref import ref

from .._core import call_in_main_thread
from ..record.later import when_imported
from ..record.taps import tapped

__all__ = ["PERIODIC", "Watchdog"]

PERIODIC = ("loop", "main", "heartbeat", "loss", "memory")

_SLOWEST, _FASTEST = 0.5, 0.02  # seconds between looks
_AGAIN = 0.9  # of the memory: below, it may be too much once more
_PAGE = os.sysconf("SC_PAGESIZE")


class Watchdog:
    """Looks now and then, from a thread of its own.

    Parameters
    ----------
    watch : Watch
    limits : dict
        Of `PERIODIC`, those that are wanted, with their values.
    """

    def __init__(self, watch, limits: dict) -> None:
        self._watch, self._limits = watch, limits
        times = [value for kind, value in limits.items() if kind in ("loop", "main", "heartbeat")]
        self._period = min([_SLOWEST, *(max(one / 4, _FASTEST) for one in times)])
        self._loops: "dict[int, _Waiting]" = {}
        self._main = _Waiting(None)
        self._beaten: "float | None" = None
        self._is_heart_told = self._is_memory_told = False
        self._lost = watch._channel.stats().records_lost
        self._undo: list = []
        self._is_over = _thread.allocate_lock()
        if "loop" in limits:
            self._find_loops()

    # ---- the thread ----

    def go_on_in_child(self) -> None:
        """Of a fork: it has no thread of its parent's, its heart has not begun to beat, and its memory is its own."""
        self._beaten, self._is_heart_told, self._is_memory_told = None, False, False
        self.start()

    def start(self) -> None:
        """Begin to look."""
        self._is_over = _thread.allocate_lock()
        self._is_over.acquire()
        for one in (self._main, *self._loops.values()):
            one.since = None
        _thread.start_new_thread(self._run, (self._is_over,))

    def stop(self) -> None:
        """Twice is harmless."""
        if self._is_over.locked():
            self._is_over.release()
        while self._undo:
            self._undo.pop()()

    def _run(self, is_over) -> None:
        looks = [getattr(self, f"_look_at_{kind}") for kind in self._limits]
        while not is_over.acquire(True, self._period):
            for look in looks:
                try:
                    look()
                except Exception as error:
                    if self._watch._channel.closed or sys.is_finalizing():
                        return
                    self._watch._fail(error)

    # ---- event loops ----

    def _find_loops(self) -> None:
        here = getattr(sys.modules.get("asyncio"), "_get_running_loop", lambda: None)()
        if here is not None:
            self._add_loop(here)
        for name in ("asyncio.base_events", "uvloop"):
            when_imported(name, self._follow_loops)

    def _follow_loops(self, module) -> None:
        kind = getattr(module, "BaseEventLoop", None) or getattr(module, "Loop", None)
        if hasattr(kind, "run_forever"):
            self._undo.append(tapped(kind, "run_forever", self._add_loop))

    def _add_loop(self, loop) -> bool:
        self._loops[id(loop)] = _Waiting(ref(loop), _thread.get_ident())
        return False

    def loops(self) -> list:
        """Those that are known, and still there."""
        return [loop for one in list(self._loops.values()) if (loop := one.of()) is not None]

    def _look_at_loop(self) -> None:
        for key, one in list(self._loops.items()):
            loop = one.of()
            if loop is None or loop.is_closed():
                self._loops.pop(key, None)
            elif one.since is None:
                if loop.is_running():
                    one.begin()
                    try:
                        loop.call_soon_threadsafe(one.end)
                    except RuntimeError:
                        one.end()  # closed meanwhile
            elif not loop.is_running():
                one.end()  # it has ended, and may begin again
            elif one.is_late(self._limits["loop"]):
                what = f"the event loop has come to nothing else for {one.waited():.3f} s"
                self._watch.fire("loop", what, thread=one.thread, loops=[loop])

    # ---- the main thread ----

    def _look_at_main(self) -> None:
        if self._main.since is None:
            self._main.begin()
            if not call_in_main_thread(self._main.end):
                self._main.end()
        elif self._main.is_late(self._limits["main"]):
            what = f"the main thread has run no Python for {self._main.waited():.3f} s"
            main = getattr(getattr(sys.modules.get("threading"), "_main_thread", None), "ident", 0)
            self._watch.fire("main", what, thread=main or 0)

    # ---- a heart of the program's own ----

    def beat(self) -> None:
        """It beats."""
        self._beaten, self._is_heart_told = time.monotonic(), False

    def _look_at_heartbeat(self) -> None:
        if self._beaten is None or self._is_heart_told:
            return
        waited = time.monotonic() - self._beaten
        if waited > self._limits["heartbeat"]:
            self._is_heart_told = True
            self._watch.fire("heartbeat", f"no heartbeat for {waited:.3f} s")

    # ---- losses, memory ----

    def _look_at_loss(self) -> None:
        lost = self._watch._channel.stats().records_lost
        if lost > self._lost:
            more, self._lost = lost - self._lost, lost
            self._watch.fire("loss", f"{more} records were lost, {lost} in all")

    def _look_at_memory(self) -> None:
        with open("/proc/self/statm", "rb") as file:
            taken = int(file.read().split()[1]) * _PAGE
        limit = self._limits["memory"]
        if taken > limit and not self._is_memory_told:
            self._is_memory_told = True
            self._watch.fire("memory", f"{taken >> 20} MiB are resident, of {limit >> 20} MiB that may be")
        elif taken < limit * _AGAIN:
            self._is_memory_told = False


class _Waiting:
    """Something that is to be done elsewhere, and since when it is waited for."""

    def __init__(self, of, thread: int = 0) -> None:
        self.of, self.thread = of, thread
        self.since: "float | None" = None
        self._is_told = False

    def begin(self) -> None:
        self.since, self._is_told = time.monotonic(), False

    def end(self) -> None:
        self.since = None

    def waited(self) -> float:
        since = self.since
        return 0.0 if since is None else time.monotonic() - since

    def is_late(self, limit: float) -> bool:
        """Once."""
        if self._is_told or self.waited() <= limit:
            return False
        self._is_told = True
        return True
