"""How long a process waits for the GIL, twenty times a second; so silence in a record means something."""

from __future__ import annotations

import contextlib
import threading
import time

__all__ = ["TICK", "Longest", "watch_gil"]

TICK = 0.05  # seconds between two looks
_NOTE = 0.5  # seconds between two records of the longest that was seen
_LONG = 100_000_000  # ns of waiting that are recorded at once


class Longest:
    """Records the longest of some waits, twice a second, and a long one at once. One thread."""

    def __init__(self, event) -> None:
        self._event = event
        self._longest, self._noted = 0, time.monotonic()

    def add(self, ns: int) -> None:
        self._longest = max(self._longest, ns)
        now = time.monotonic()
        if self._longest >= _LONG or now - self._noted >= _NOTE:
            with contextlib.suppress(ValueError):  # the channel was closed
                self._event(self._longest)
            self._longest, self._noted = 0, now


def watch_gil(tracer, closed: threading.Event) -> None:
    """Record as ``gil_wait``, in nanoseconds, what a thread waits for the GIL that gives it away; until `closed`."""
    longest = Longest(tracer.event("gil_wait", ns="u64"))

    def watch() -> None:
        while not closed.wait(TICK):
            before = time.monotonic_ns()
            time.sleep(0)  # gives the GIL away, and wants it back
            longest.add(time.monotonic_ns() - before)

    threading.Thread(target=watch, name="ringbuf-gil", daemon=True).start()
