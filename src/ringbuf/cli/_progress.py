"""How far a long reading of a trace has come, on a terminal's stderr."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

__all__ = ["shown"]

_PATIENCE = 1.0  # seconds before anything is said
_PERIOD = 0.2
_CLEAR = "\r\x1b[K"


@contextlib.contextmanager
def shown(trace, passes: int = 1) -> Iterator[None]:
    """While this is open, say how much of the trace has been read, and how long it may take; then wipe it out.

    Parameters
    ----------
    trace : Trace
    passes : int
        How often it will be read.
    """
    if not sys.stderr.isatty():
        yield
        return
    meter = _Meter(passes * sum(packet.content_size for packet in trace.packets))
    trace.when_read = meter.add
    try:
        yield
    finally:
        trace.when_read = None
        meter.wipe()


class _Meter:
    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0
        self._begin = time.monotonic()
        self._next = self._begin + _PATIENCE
        self._is_shown = False

    def add(self, size: int) -> None:
        self._done += size
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _PERIOD
            self._is_shown = True
            print(f"{_CLEAR}{self._text(now - self._begin)}", end="", file=sys.stderr, flush=True)

    def wipe(self) -> None:
        if self._is_shown:
            print(_CLEAR, end="", file=sys.stderr, flush=True)

    def _text(self, passed: float) -> str:
        part = min(1.0, self._done / max(1, self._total))
        left = passed / part - passed if part else 0
        return f"read {part:.0%} of {self._total / 1e6:.0f} MB, about {left:.0f} s more"
