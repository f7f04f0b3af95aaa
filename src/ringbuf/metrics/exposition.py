"""Metrics as Prometheus and its like read them: its text format 0.0.4, and OpenMetrics 1.0."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .reading import Metric, Series

__all__ = ["CONTENT_TYPES", "exposition"]

#: By whether it is OpenMetrics.
CONTENT_TYPES = {
    False: "text/plain; version=0.0.4; charset=utf-8",
    True: "application/openmetrics-text; version=1.0.0; charset=utf-8",
}
_UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds", "B": "bytes", "%": "percent"}
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_]+")


class _Family:
    """Metrics of one name, of one channel or several."""

    def __init__(self, metric: Metric, name: str, unit: str) -> None:
        self.kind, self.help, self.name, self.unit = metric.kind, metric.help, name, unit
        self.lines: list[str] = []

    def add(self, metric: Metric, more: dict) -> None:
        for one in metric.series:
            labels = {**more, **one.labels}
            if one.pid is not None and metric.per_process:
                labels["pid"] = one.pid
            if one.is_rest:
                labels["ringbuf_rest"] = "1"
            self._add_series(metric, one, labels)

    def _add_series(self, metric: Metric, one: Series, labels: dict) -> None:
        if metric.kind == "counter":
            self._line("_total", labels, one.value)
        elif metric.kind == "gauge":
            self._line("", labels, one.value)
        else:
            sum_so_far = 0
            for bound, count in zip([*metric.bounds, float("inf")], one.counts, strict=True):
                sum_so_far += count
                self._line("_bucket", {**labels, "le": _number(bound)}, sum_so_far)
            self._line("_sum", labels, one.value)
            self._line("_count", labels, sum_so_far)

    def _line(self, ending: str, labels: dict, value) -> None:
        inner = ",".join(f'{name}="{_escaped(_label(text))}"' for name, text in labels.items())
        self.lines.append(f"{self.name}{ending}{{{inner}}} {_number(value)}" if inner else
                          f"{self.name}{ending} {_number(value)}")  # fmt: skip

    def text(self, openmetrics: bool) -> str:
        name = self.name if openmetrics or self.kind != "counter" else self.name + "_total"
        head = [f"# TYPE {name} {self.kind}"]
        if openmetrics and self.unit:
            head.append(f"# UNIT {name} {self.unit}")
        if self.help:
            help = _escaped(self.help) if openmetrics else self.help.replace("\\", "\\\\").replace("\n", "\\n")
            head.append(f"# HELP {name} {help}")
        return "".join(line + "\n" for line in [*head, *self.lines])


class _Foreign(_Family):
    """Metrics of prometheus_client (integrations/prometheus.py): its type and mode stand in the unit."""

    def __init__(self, metric: Metric) -> None:
        _, self.kind, self.name, self._mode = [*metric.unit.split(":", 3), "", "", ""][:4]
        self.help, self.unit, self.lines = metric.help, "", []
        self._values: dict[tuple, dict] = {}  # labels -> what of them was counted: by sample, or by bucket

    def add(self, metric: Metric, more: dict) -> None:
        for one in metric.series:
            labels = {**more, **one.labels, **({"ringbuf_rest": "1"} if one.is_rest else {})}
            bound = labels.pop("le", None) if self.kind == "histogram" else None
            if one.pid is not None and self._mode in ("", "all"):
                labels["pid"] = one.pid
            known = self._values.setdefault(tuple(labels.items()), {})
            key = metric.name if bound is None else float(bound)
            known[key] = self._joined(known[key], one.value) if key in known else one.value

    def _joined(self, a: float, b: float) -> float:
        return {"min": min, "max": max}.get(self._mode, lambda a, b: a + b)(a, b)

    def text(self, openmetrics: bool) -> str:
        for labels, known in self._values.items():
            so_far, bounds = 0.0, sorted(key for key in known if isinstance(key, float))
            for bound in bounds:
                so_far += known[bound]
                self._line("_bucket", {**dict(labels), "le": _number(bound)}, so_far)
            for name in known:
                if isinstance(name, str):
                    self._line(name.removeprefix(self.name), dict(labels), known[name])
            if bounds:
                self._line("_count", dict(labels), so_far)
        return super().text(openmetrics)


def exposition(channels: Iterable[tuple[str, Iterable[Metric]]], *, openmetrics: bool = False) -> str:
    """The metrics of some channels as text.

    Parameters
    ----------
    channels : iterable of (name, metrics)
        Where there are several, each sample says its channel in a label of that name.
    openmetrics : bool
        OpenMetrics 1.0 instead of Prometheus's own format.

    A counter's name ends with ``_total``, other names with their unit: ``latency`` in ``"s"`` is ``latency_seconds``.
    """
    channels = [(name, list(metrics)) for name, metrics in channels]
    families: dict[tuple[str, str], _Family] = {}
    names: set[str] = set()
    for channel, metrics in channels:
        more = {"channel": channel} if len(channels) > 1 else {}
        for metric in metrics:
            if metric.unit.startswith("prometheus:"):
                families.setdefault(("prometheus", metric.unit), _Foreign(metric)).add(metric, more)
                continue
            name, unit = _name_of(metric)
            family = families.get((name, metric.kind))
            if family is None:
                while name in names:  # of another kind
                    name += "_"
                names.add(name)
                family = families[name, metric.kind] = _Family(metric, name, unit)
            family.add(metric, more)
    text = "".join(family.text(openmetrics) for family in families.values())
    return text + "# EOF\n" if openmetrics else text


def _name_of(metric: Metric) -> tuple[str, str]:
    """Its name with its unit, and the unit, which OpenMetrics wants to be the end of the name."""
    unit = _NOT_IN_NAMES.sub("_", _UNITS.get(metric.unit, metric.unit)).strip("_")
    name = metric.name.removesuffix("_total") if metric.kind == "counter" else metric.name
    if not unit or name == unit or name.endswith("_" + unit):
        return name, unit if name.endswith("_" + unit) else ""
    return f"{name}_{unit}", unit


def _label(value) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value)
