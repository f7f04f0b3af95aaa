"""What a channel has counted."""

from __future__ import annotations

from dataclasses import dataclass, field

from .._core import Channel, read_metrics
from .declare import label_values

__all__ = ["Metric", "Series", "read"]


@dataclass(frozen=True)
class Series:
    """What was counted with one combination of labels.

    Attributes
    ----------
    labels : dict of str to (str, int or bool)
    value : int or float
        Of a histogram, the sum of its values.
    counts : list of int
        Of a histogram: how many values each bucket has, without those of the buckets below it.
    pid : int or None
        Of the process, where each has its own.
    is_rest : bool
        It is of all labels for which the channel had no room.
    """

    labels: dict
    value: int | float
    counts: list[int] = field(default_factory=list)
    pid: int | None = None
    is_rest: bool = False

    @property
    def count(self) -> int:
        """Of a histogram: how many values."""
        return sum(self.counts)


@dataclass(frozen=True)
class Metric:
    """A counter, gauge or histogram, and its series.

    Attributes
    ----------
    name, kind, unit, help : str
        `kind` is "counter", "gauge" or "histogram".
    labels : str
        Field text: their names and types.
    bounds : tuple of float
        Of a histogram: the largest value of each bucket but the last.
    per_process : bool
    series : list of Series
    """

    name: str
    kind: str
    unit: str
    help: str
    labels: str
    bounds: tuple[float, ...]
    per_process: bool
    series: list[Series]
    real: bool = False


def read(target, *, gone: bool = False) -> list[Metric]:
    """All metrics of a channel, in the order in which they were declared.

    Parameters
    ----------
    target : Tracer, Channel, or as for `ringbuf.attach`
        Of a living process it takes nothing, not even the right to write.
    gone : bool
        Also what belongs to processes that have ended.

    Raises as `ringbuf.attach`. Thread safety: any thread.
    Source: include/ringbuf/metrics.h.
    """
    channel = getattr(target, "channel", target)
    if isinstance(channel, Channel):
        return _read(channel, gone)
    from ..live.sharing import look

    with look(target) as copy:
        return _read(copy, gone)


def _read(channel: Channel, gone: bool) -> list[Metric]:
    metrics, series = read_metrics(channel)
    found = {}
    for number, kind, real, per_process, name, unit, help, labels, bounds in metrics:
        try:
            label_values(labels, b"")
        except ValueError:
            continue  # a damaged region
        found[number] = Metric(name, kind, unit, help, labels, bounds, per_process, [], real)
    for number, labels, is_rest, pid, is_gone, (value, *counts) in series:
        metric = found.get(number)
        if metric is None or (is_gone and not gone) or (is_rest and not (any(counts) or value)):
            continue
        values = {} if is_rest else label_values(metric.labels, labels)
        metric.series.append(Series(values, value, counts, pid or None, is_rest))
    return list(found.values())
