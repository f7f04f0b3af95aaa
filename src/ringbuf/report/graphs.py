"""Counters: values over time, of events that have a counter's shape."""

from __future__ import annotations

import numpy

from ..trace.meanings import field_of, meaning
from ..trace.plain import plain

__all__ = ["Graphs"]

_BINS = 2000  # of a graph: the least and the greatest value of each
_MOST = 60  # graphs


class Graphs:
    """The counters of a trace, each as a line of bounded size."""

    def __init__(self, trace, first: int, last: int) -> None:
        self._trace, self._first, self._last = trace, first, last
        self._series: dict[tuple, list] = {}

    def read(self, bounds) -> None:
        events = self._trace.event_classes
        for index, event in enumerate(events):
            if meaning(event) != "counter":
                continue
            value = event.fields[0].name
            unit = getattr(event, "unit", "")
            for rows in self._trace.class_rows([index]):
                pids = rows["vpid"] if "vpid" in (rows.dtype.names or ()) else numpy.full(len(rows), -1)
                values = field_of(rows, value).astype("f8")
                for pid in numpy.unique(pids).tolist():
                    if len(self._series) < _MOST or (event.name, pid) in self._series:
                        some = pids == pid
                        key = event.name, pid
                        self._series.setdefault(key, [unit]).append((rows["timestamp"][some], values[some]))

    def columns(self) -> dict:
        times, values, numbers = [], [], []
        self._scales: list[float] = []
        for number, (_, *parts) in enumerate(self._series.values()):
            time, value = (numpy.concatenate(some) for some in zip(*parts, strict=True))
            time, value = self._thinned(time, value)
            most = float(numpy.abs(value[numpy.isfinite(value)]).max(initial=0)) or 1.0
            scale = most / 1e6
            self._scales.append(scale)
            times.append(time - self._first)
            values.append(numpy.rint(numpy.nan_to_num(value, posinf=most, neginf=-most) / scale).astype("i8"))
            numbers.append(numpy.full(len(time), number))
        empty = [numpy.zeros(0, "i8")]
        return {
            "graphNumber": numpy.concatenate(numbers or empty),
            "graphTime": numpy.concatenate(times or empty),
            "graphValue": numpy.concatenate(values or empty),
        }

    def _thinned(self, time, value):
        """Of each bin the least and the greatest value, in their order: no peak is lost."""
        if len(time) <= 4 * _BINS:
            return time, value
        width = max(1, (self._last - self._first) // _BINS)
        bins = (time - self._first) // width
        order = numpy.lexsort((value, bins))
        starts = numpy.flatnonzero(numpy.diff(bins[order], prepend=-1))
        ends = numpy.append(starts[1:], len(order)) - 1
        keep = numpy.unique(numpy.concatenate([order[starts], order[ends]]))
        return time[keep], value[keep]

    def head(self) -> list:
        return [
            {"name": plain(name), "pid": None if pid < 0 else pid, "unit": plain(series[0]), "scale": scale}
            for ((name, pid), series), scale in zip(self._series.items(), self._scales, strict=True)
        ]
