"""Which processes ended while they recorded: what a trace says of them, and how a recorder notices."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

from .._core import last_words
from ..ctf.metadata import ClockInfo
from ..errors import RingbufError
from ..trace.meanings import Ended
from . import processes

__all__ = ["Watch", "ended_env"]

_MOST = 200  # that a trace names
_SHARE = 100  # a look takes so small a part of the time
_ALONE = 0.2  # seconds at least between two looks, while nobody else records


def ended_env(words: Iterable[Ended]) -> dict[str, str]:
    """For the environment of a trace's metadata."""
    return {f"ended_{number}": one.as_env() for number, one in enumerate(list(words)[:_MOST], 1)}


class Watch:
    """Looks again and again who records into a channel, and notes those whose process has ended meanwhile.

    Those that are seen in /proc as they see themselves: of others, in another PID namespace, nothing is said. One that
    comes and goes between two looks is not noticed. Thread safety: one thread at a time.
    """

    def __init__(self, channel, clock: ClockInfo) -> None:
        self._channel = channel
        self._clock = clock  # of the trace
        self._living: dict[tuple[int, int, int], Ended] = {}  # by pid, tid and the process's start
        self._due = 0.0
        self.ended: list[Ended] = []

    def look(self, now: bool = False) -> bool:
        """Whether something has changed that a trace says. Unless `now`, it takes a hundredth of the time at most."""
        begin = time.monotonic()
        if begin < self._due and not now:
            return False
        before = len(self.ended)
        try:
            self._look()
        except (RingbufError, ValueError, OSError):
            return False
        end = time.monotonic()
        is_alone = all(pid == os.getpid() for pid, _, _ in self._living)
        self._due = end + max(_ALONE if is_alone else 0.0, _SHARE * (end - begin))
        return len(self.ended) > before

    def _look(self) -> None:
        words = {(pid, tid, start): more for pid, tid, start, *more in last_words(self._channel)}
        now, lives = time.time_ns(), {}
        for pid, start in {(pid, start) for pid, _, start in (*words, *self._living)}:
            lives[pid, start] = pid == os.getpid() or processes.lives(pid, start)
        for key in list(self._living):
            pid, _, start = key
            if not lives[pid, start]:
                was = self._living.pop(key)
                self._note(self._told(key, words[key], was.seen) if key in words else was)
            elif key not in words:
                del self._living[key]  # the thread alone has ended, and well
        for key, word in words.items():
            if lives[key[0], key[2]]:
                self._living[key] = self._told(key, word, now)

    def _note(self, one: Ended) -> None:
        if len(self.ended) < _MOST:
            self.ended.append(one)

    def _told(self, key: tuple[int, int, int], word: list, seen: int | None) -> Ended:
        name, ticks, n_open = word
        return Ended(key[0], key[1], self._unix_ns(ticks) if ticks else None, seen, n_open, name)

    def _unix_ns(self, ticks: int) -> int:
        clock = self._clock
        return clock.offset_s * 10**9 + (clock.offset_cycles + ticks) * 10**9 // clock.freq
