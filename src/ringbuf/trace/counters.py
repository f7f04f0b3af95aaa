"""Counters, gauges and histograms in a trace: their values over time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["Counted", "counters", "is_counted"]

_OURS = ("metric_kind", "metric_unit", "metric_rest", "metric_pid", "metric_value", "metric_sum", "metric_bounds")


class Counted(NamedTuple):
    """What a counter, gauge or histogram had come to at a moment.

    Attributes
    ----------
    time : int
        Nanoseconds since the Unix epoch.
    name, kind, unit : str
        `kind` is "counter", "gauge" or "histogram".
    labels : dict of str to (str, int or bool)
    value : int or float
        Of a histogram, how many values it had.
    pid : int or None
        Of the process, where each has its own.
    sum : float or None
        Of a histogram's values.
    bounds, counts : tuple
        Of a histogram: the largest value of each bucket but the last, and how many each has.
    """

    time: int
    name: str
    kind: str
    unit: str
    labels: dict
    value: int | float
    pid: int | None = None
    sum: float | None = None
    bounds: tuple = ()
    counts: tuple = ()

    @property
    def title(self) -> str:
        """Its name with its labels, as Prometheus writes them."""
        labels = {**self.labels, **({} if self.pid is None else {"pid": self.pid})}
        inner = ", ".join(f"{name}={value}" for name, value in labels.items())
        return f"{self.name}{{{inner}}}" if inner else self.name


def is_counted(event) -> bool:
    """Whether an `Event` of a trace is such a sample: docs/formats.md."""
    names = [one.name for one in event.fields]
    return event.name.startswith("metric:") and names[:3] == list(_OURS[:3])


def counters(trace, names=None, *, begin: int | None = None, end: int | None = None) -> Iterator[Counted]:
    """See `Trace.counters`."""
    ours = {event.name for event in trace.event_classes if is_counted(event)}
    if names is not None:
        patterns = [names] if isinstance(names, str) else list(names)
        ours &= set(trace.event_names([f"metric:{pattern}" for pattern in patterns]))
    if ours:
        for record in trace.records(sorted(ours), begin=begin, end=end):
            yield counted(record)


def counted(record) -> Counted:
    """A record of such an event."""
    fields = dict(record.fields)
    known = {name: fields.pop(name, None) for name in _OURS}
    counts = tuple(fields.pop("metric_counts", ()))
    if known["metric_rest"]:
        fields = {"rest": True}
    value = sum(counts) if counts else known["metric_value"]
    name = record.name.removeprefix("metric:")
    return Counted(
        record.timestamp, name, known["metric_kind"], known["metric_unit"], fields, value, known["metric_pid"],
        known["metric_sum"], tuple(known["metric_bounds"] or ()), counts,
    )  # fmt: skip
