"""What channels have counted, as lines for people."""

from __future__ import annotations

from ..metrics.reading import Metric, Series
from ..texts import printable
from ..trace.units import short

__all__ = ["number", "percentile", "rows", "title"]


def number(value: float) -> str:
    """``"17"``, ``"0.0025"``, ``"25.0M"``: with three digits, or four."""
    if not abs(value) < 1e15:
        return f"{value:.4g}"
    return short(value) if isinstance(value, int) or abs(value) >= 1000 else f"{value:.3g}"


def title(metric: Metric, one: Series) -> str:
    """Its name with its labels."""
    labels = {**one.labels, **({"pid": one.pid} if one.pid is not None and metric.per_process else {})}
    if one.is_rest:
        labels = {"of all without a place": "yes"}
    inner = ", ".join(f"{name}={value}" for name, value in labels.items())
    return printable(f"{metric.name}{{{inner}}}" if inner else metric.name)


def rows(metrics: list[Metric]):
    """(title, value, what is said beside it) of each series."""
    for metric in metrics:
        for one in metric.series:
            if metric.kind != "histogram":
                yield title(metric, one), one.value, metric.unit
                continue
            said = metric.unit
            if one.count:
                mean, tail = one.value / one.count, percentile(metric.bounds, one.counts, 0.99)
                beyond = f"<= {number(tail)}" if tail is not None else f"> {number(metric.bounds[-1])}"
                said = f"values, mean {number(mean)}, p99 {beyond} {metric.unit}".rstrip()
            yield title(metric, one), one.count, said


def percentile(bounds: tuple[float, ...], counts: list[int], share: float) -> float | None:
    """The bound of the bucket in which that share of the values is reached; None: it is in the last, which has none."""
    wanted, so_far = share * sum(counts), 0
    for bound, count in zip(bounds, counts, strict=False):
        so_far += count
        if so_far >= wanted:
            return bound
    return None
