"""The lines of the page: of each thread one of instants, of spans and of calls; the same of its tasks and greenlets;
of each CPU one of what it ran.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy

__all__ = ["DEPTHS", "KINDS", "KIND_OF", "Track", "Tracks"]

#: What a track has: its number is that in the page.
KINDS = ("events", "spans", "calls", "runs")
#: By the kind of a pair.
KIND_OF = {"span": 1, "call": 2, "syscall": 2, "run": 3, "irq": 3}
DEPTHS = 256  #: that are counted for themselves; what is deeper counts as the deepest
_TASKS = 300  # of a thread, that have tracks of their own; the others share one
_MOST = 4000  # tracks in all


@dataclass
class Track:
    """Slices or instants of a thread or a task."""

    thread: int
    task: int  # text; -1: of more tasks than have tracks
    kind: int
    top: int = DEPTHS  # depth of what is outermost in it


class Tracks:
    """Numbers tracks as they come."""

    def __init__(self) -> None:
        self.all: list[Track] = []
        self._numbers: dict[tuple[int, int, int], int] = {}
        self._n_tasks: dict[tuple[int, int], int] = {}

    def of(self, kind: int, threads, tasks):
        """The track of each: arrays of threads and tasks, one array of numbers."""
        keys, places = numpy.unique(threads.astype("u8") << 32 | tasks, return_inverse=True)
        numbers = [self._number(kind, key >> 32, key & 0xFFFFFFFF) for key in keys.tolist()]
        return numpy.array(numbers, "u4")[places]

    def _number(self, kind: int, thread: int, task: int) -> int:
        key = kind, thread, task
        known = self._numbers.get(key)
        if known is None:
            if task > 0 and (self._n_tasks.get((kind, thread), 0) >= _TASKS or len(self.all) >= _MOST):
                known = self._number(kind, thread, -1)
            else:
                if task > 0:
                    self._n_tasks[kind, thread] = self._n_tasks.get((kind, thread), 0) + 1
                known = len(self.all)
                self.all.append(Track(thread, task, kind))
            self._numbers[key] = known
        return known

    def note_depths(self, numbers, depths) -> None:
        """Where the outermost of each track are."""
        tops = numpy.full(len(self.all), DEPTHS, "i8")
        numpy.minimum.at(tops, numbers, depths)
        for number in numpy.flatnonzero(tops < DEPTHS).tolist():
            self.all[number].top = min(self.all[number].top, int(tops[number]))

    def tops(self):
        """Array: the depth of each track's outermost, by number."""
        return numpy.array([track.top % DEPTHS for track in self.all], "i8")
