"""Counters, gauges and histograms over time: what counts up is shown by how fast it does."""

from __future__ import annotations

import numpy

from ..trace.plain import plain

__all__ = ["Graphs"]

_BINS = 2000  # of a graph: the least and the greatest value of each
_MOST = 60  # graphs


class Graphs:
    """The metrics of a trace, each series a line of bounded size.

    Parameters
    ----------
    trace : Trace
    first, last : int
        The time that is shown.
    """

    def __init__(self, trace, first: int, last: int) -> None:
        self._first, self._last = first, last
        self._series: dict[tuple, tuple[list, list]] = {}
        self._scales: list[float] = []
        for one in trace.counters(begin=first, end=last):
            key = one.title, one.unit, one.pid, one.kind
            if key in self._series or len(self._series) < _MOST:
                times, values = self._series.setdefault(key, ([], []))
                times.append(one.time)
                values.append(float(one.value or 0))

    def columns(self) -> dict:
        """Numbers of graphs, times, and values in a scale of each graph's own."""
        found: dict[str, list] = {"graphNumber": [], "graphTime": [], "graphValue": []}
        for number, ((*_, kind), (times, values)) in enumerate(self._series.items()):
            time, value = numpy.array(times, "i8"), numpy.array(values)
            if kind != "gauge":
                time, value = _speed(time, value)
            time, value = self._thinned(time, value)
            most = float(numpy.abs(value[numpy.isfinite(value)]).max(initial=0)) or 1.0
            scale = most / 1e6
            self._scales.append(scale)
            found["graphTime"].append(time - self._first)
            found["graphValue"].append(
                numpy.rint(numpy.nan_to_num(value, posinf=most, neginf=-most) / scale).astype("i8")
            )
            found["graphNumber"].append(numpy.full(len(time), number))
        return {name: numpy.concatenate([numpy.zeros(0, "i8"), *parts]) for name, parts in found.items()}

    def _thinned(self, time, value):
        """Of each bin the least and the greatest value, in their order: no peak is lost."""
        if len(time) <= 4 * _BINS:
            return time, value
        bins = (time - self._first) // max(1, (self._last - self._first) // _BINS)
        order = numpy.lexsort((value, bins))
        starts = numpy.flatnonzero(numpy.diff(bins[order], prepend=-1))
        ends = numpy.append(starts[1:], len(order)) - 1
        keep = numpy.unique(numpy.concatenate([order[starts], order[ends]]))
        return time[keep], value[keep]

    def head(self) -> list:
        """What explains them; after `columns`."""
        found = []
        for (title, unit, pid, kind), scale in zip(self._series, self._scales, strict=True):
            shown = unit if kind == "gauge" else f"{unit or ''} per second".strip()
            found.append({"name": plain(title), "pid": pid, "unit": plain(shown), "scale": scale})
        return found


def _speed(time, value):
    """By how much a count rises in a second; where it falls, it began anew."""
    if len(time) < 2:
        return time, numpy.zeros(len(value))
    rises = numpy.maximum(numpy.diff(value), 0) * 1e9 / numpy.maximum(numpy.diff(time), 1)
    return time, numpy.append(rises, 0.0)
