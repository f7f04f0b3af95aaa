"""Which processes ended while they recorded: what a trace says of them, and how a recorder notices."""

from __future__ import annotations

import time
from collections.abc import Iterable

from .._core import last_words
from ..errors import RingbufError
from ..trace.meanings import Ended
from . import processes

__all__ = ["Watch", "ended_env"]

_MOST = 200  # that a trace names


def ended_env(words: Iterable[Ended]) -> dict[str, str]:
    """For the environment of a trace's metadata."""
    return {f"ended_{number}": one.as_env() for number, one in enumerate(list(words)[:_MOST], 1)}


class Watch:
    """Looks again and again who records into a channel, and notes those whose process has ended meanwhile.

    Those that are seen in /proc as they see themselves: of others, in another PID namespace, nothing is said. One that
    comes and goes between two looks is not noticed. Thread safety: one thread at a time.
    """

    def __init__(self, channel) -> None:
        self._channel = channel
        self._living: dict[tuple[int, int, int], Ended] = {}  # by pid, tid and the process's start
        self.ended: list[Ended] = []

    def look(self) -> bool:
        """Whether something has changed that a trace says."""
        before = len(self.ended)
        try:
            words = {(one[0], one[1], one[2]): one for one in last_words(self._channel)}
        except (RingbufError, ValueError, OSError):
            return False
        now = time.time_ns()
        lives: dict[tuple[int, int], bool] = {}
        for pid, _, start in {*words, *self._living}:
            lives[pid, start] = processes.lives(pid, start)
        for key, (pid, tid, start, name, ticks, n_open) in words.items():
            if lives[pid, start] or key in self._living:
                self._living[key] = Ended(
                    pid,
                    tid,
                    self._unix_ns(ticks) if ticks else None,
                    now if lives[pid, start] else self._seen(key),
                    n_open,
                    name,
                )
        for key in [key for key in self._living if not lives[key[0], key[2]]]:
            self._note(self._living.pop(key))
        for key in [key for key in self._living if key not in words]:
            pid, _, start = key
            if any((pid, start) == (one[0], one[2]) for one in words):
                del self._living[key]  # the thread alone has ended, and well
        return len(self.ended) > before

    def _seen(self, key: tuple[int, int, int]) -> int | None:
        return self._living[key].seen

    def _note(self, one: Ended) -> None:
        if len(self.ended) < _MOST:
            self.ended.append(one)

    def _unix_ns(self, ticks: int) -> int:
        _, freq, offset_s, offset = self._channel.clock_parameters
        return offset_s * 10**9 + (offset + ticks) * 10**9 // freq
