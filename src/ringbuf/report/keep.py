"""What of a trace is kept one by one, when not all can be."""

from __future__ import annotations

import numpy

from ..trace.pairs import MISSING

__all__ = ["Kept", "is_special"]

_ORDINARY = [MISSING.index(one) for one in (None, "resumed", "inherited")]


class Kept:
    """The widest, of each name the slowest, and those with errors or without a begin or an end; the rest is counted.

    Parameters
    ----------
    limit : int
        How many are kept.
    rest : callable
        Is given those that are not: rows, and their lanes.
    """

    def __init__(self, limit: int, rest) -> None:
        self._limit, self._rest = limit, rest
        self._parts: list[tuple] = []
        self._n = 0
        self._least = -1  # of an ordinary one: what is shorter is not kept
        self._least_special = -1
        self._least_of = numpy.zeros(0, "i8")  # by name: so long is one of its slowest
        self.n_left = 0  # how many were not kept

    def add(self, rows, lanes) -> None:
        """Rows of `Pairs.iter_numpy`, and a number for each that goes with it."""
        if self._least >= 0:
            wanted = self._may_stay(rows)
            self._drop(rows[~wanted], lanes[~wanted])
            rows, lanes = rows[wanted], lanes[wanted]
        self._parts.append((rows, lanes))
        self._n += len(rows)
        if self._n > 2 * self._limit:
            self._choose()

    def _may_stay(self, rows):
        size = int(rows["name"].max(initial=0)) + 1
        if size > len(self._least_of):
            self._least_of = numpy.append(self._least_of, numpy.full(size - len(self._least_of), -1, "i8"))
        durations = rows["duration"]
        return (
            (durations >= self._least)
            | (durations > self._least_of[rows["name"]])
            | (is_special(rows) & (durations >= self._least_special))
        )

    def _choose(self) -> None:
        rows, lanes = (numpy.concatenate(parts) for parts in zip(*self._parts, strict=True))
        durations, share = rows["duration"], self._limit // 4
        keep = self._slowest_by_name(rows, share)
        special = numpy.flatnonzero(is_special(rows))
        chosen = special[_largest(durations[special], share)]
        self._least_special = int(durations[chosen].min()) if len(chosen) == share else -1
        keep[chosen] = True
        others = numpy.flatnonzero(~keep)
        chosen = others[_largest(durations[others], max(0, self._limit - int(keep.sum())))]
        self._least = int(durations[chosen].min(initial=2**62))
        keep[chosen] = True
        self._drop(rows[~keep], lanes[~keep])
        self._parts, self._n = [(rows[keep], lanes[keep])], int(keep.sum())

    def _slowest_by_name(self, rows, share: int):
        """Marks the few slowest of each; how slow they are is kept, so that others need not be looked at again."""
        order = numpy.lexsort((-rows["duration"], rows["name"]))
        names = rows["name"][order]
        starts = numpy.flatnonzero(numpy.diff(names, prepend=-1))
        each = max(1, min(64, share // max(1, len(starts))))
        rank = numpy.arange(len(order)) - numpy.repeat(starts, numpy.diff(numpy.append(starts, len(order))))
        keep = numpy.zeros(len(rows), "?")
        chosen = order[rank < each]
        keep[chosen[_largest(rows["duration"][chosen], share)]] = True  # there may be more names than room
        self._least_of = numpy.full(int(names[-1]) + 1, -1, "i8")
        last = order[rank == each - 1]
        self._least_of[rows["name"][last]] = rows["duration"][last]
        return keep

    def _drop(self, rows, lanes) -> None:
        if len(rows):
            self.n_left += len(rows)
            self._rest(rows, lanes)

    def finish(self) -> tuple:
        """Rows and lanes of what is kept."""
        if self._n > self._limit:
            self._choose()
        if not self._parts:
            return None, None
        return tuple(numpy.concatenate(parts) for parts in zip(*self._parts, strict=True))


def is_special(rows):
    """Those that are kept whatever they take: an error, or a begin or an end that is not there."""
    return (rows["error"] != 0) | (rows["end_missing"] != 0) | ~numpy.isin(rows["begin_missing"], _ORDINARY)


def _largest(values, n: int):
    """Where the n largest are."""
    if n >= len(values):
        return numpy.arange(len(values))
    return numpy.argpartition(values, len(values) - n)[len(values) - n :] if n else numpy.zeros(0, "i8")
