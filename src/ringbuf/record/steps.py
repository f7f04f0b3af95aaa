"""What becomes of the wall clock while a recording goes on: a trace has one clock, and says where the other went."""

from __future__ import annotations

import time

from ..ctf.layout import wall_clock
from ..ctf.metadata import ClockInfo
from ..errors import RingbufError

__all__ = ["Steps"]

_PERIOD = 10.0  # seconds between looks
_MOST = 200  # notes; then every second one goes


class Steps:
    """Notes when the wall clock has another distance from a trace's clock than before, because it was set, or by drift.

    Thread safety: one thread at a time.
    """

    def __init__(self, channel, clock: ClockInfo) -> None:
        self._channel, self._clock = channel, clock
        self._ahead = 0
        self._due = 0.0
        self.noted: list[tuple[int, int]] = []

    def look(self, now: bool = False) -> bool:
        """Whether there is a new note."""
        if time.monotonic() < self._due and not now:
            return False
        self._due = time.monotonic() + _PERIOD
        try:
            when, self._ahead, is_new = wall_clock(self._channel, self._clock, self._ahead)
        except (RingbufError, ValueError, OSError):
            return False
        if is_new:
            self.noted.append((when, self._ahead))
            if len(self.noted) > _MOST:
                del self.noted[::2]
        return is_new

    def env(self) -> dict[str, str]:
        """For the environment of the trace's metadata."""
        return {f"wall_clock_{number}": f"{when} {ahead}" for number, (when, ahead) in enumerate(self.noted, 1)}
