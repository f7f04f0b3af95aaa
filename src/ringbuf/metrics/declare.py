"""What a declaration needs: its name, its labels, its buckets. Imported by whoever declares one."""

from __future__ import annotations

import re
from enum import Enum

from .._core import Channel, Counter, Gauge, Histogram, declare_metric
from ..ctf import schema as _schema

__all__ = ["counter", "default_buckets", "foreign", "gauge", "histogram", "label_values"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z", re.ASCII)
_RESERVED = re.compile(r"metric_|le\Z|pid\Z|quantile\Z|__|ringbuf_", re.ASCII)
_PER = {"channel": False, "process": True}


def counter(channel: Channel, name: str, unit: str, help: str, real: bool, labels: dict) -> Counter:
    """See `Tracer.counter`."""
    return _declared(channel, "counter", name, unit, help, labels, real=real)


def gauge(channel: Channel, name: str, unit: str, help: str, per: str, labels: dict) -> Gauge:
    """See `Tracer.gauge`."""
    if per not in _PER:
        raise ValueError(f"per must be 'channel' or 'process', not {per!r}")
    return _declared(channel, "gauge", name, unit, help, labels, per_process=_PER[per])


def histogram(channel: Channel, name: str, unit: str, help: str, buckets, labels: dict) -> Histogram:
    """See `Tracer.histogram`."""
    bounds = default_buckets(unit) if buckets is None else tuple(float(bound) for bound in buckets)
    if not bounds or any(not low < high for low, high in zip(bounds, bounds[1:], strict=False)):
        raise ValueError(f"histogram {name!r}: buckets are numbers that ascend, not {buckets!r}")
    if bounds[-1] == float("inf"):
        bounds = bounds[:-1]  # the last bucket has no bound anyway
    return _declared(channel, "histogram", name, unit, help, labels, bounds=bounds)


def foreign(channel: Channel, name: str, unit: str, help: str, labels: tuple[str, ...], per_process: bool) -> Gauge:
    """A gauge of floats with labels of texts, whatever they are called, for metrics of another library."""
    fields = _schema.from_mapping(dict.fromkeys(labels, "str"))
    return _declare(channel, "gauge", name, unit, help, fields, [None] * len(fields), per_process=per_process)


def default_buckets(unit: str) -> tuple[float, ...]:
    """1, 2, 5 of each power of ten: of a second, 1e-6 to 100, else 1e-3 to 1e7; of bytes powers of four, 64 to 2^32."""
    if unit in ("bytes", "B"):
        return tuple(float(4**n) for n in range(3, 17))
    low, high = {"s": (-6, 2), "seconds": (-6, 2), "ms": (-3, 5), "us": (0, 8), "ns": (0, 11)}.get(unit, (-3, 7))
    steps = [float(f"{digit}e{power}") for power in range(low, high) for digit in (1, 2, 5)]
    return (*steps, float(f"1e{high}"))


def _declared(channel, kind, name, unit, help, labels, *, real=False, per_process=False, bounds=()):
    if not isinstance(name, str) or not _NAME.match(name):
        raise ValueError(f"a metric's name is an ASCII identifier, such as 'requests', not {name!r}")
    fields = _schema.from_mapping(labels)
    for field in fields:
        if field.kind not in ("int", "bool", "str", "enum"):
            raise ValueError(
                f"label {field.name!r}: a label is str, bool, an integer or an enum.Enum, not {field.type}"
            )
        if _RESERVED.match(field.name):
            raise ValueError(f"label {field.name!r}: names such as this are Prometheus's and ours, take another")
    classes = [kind if isinstance(kind, type) else None for kind in labels.values()]
    return _declare(channel, kind, name, unit, help, fields, classes, real=real, per_process=per_process, bounds=bounds)


def _declare(channel, kind, name, unit, help, fields, classes, *, real=False, per_process=False, bounds=()):
    texts = [_text_of(field, cls) for field, cls in zip(fields, classes, strict=True)]

    def encode(values: tuple) -> bytes:
        return b"".join(_sized(text(value)) for text, value in zip(texts, values, strict=True))

    return declare_metric(
        channel, kind, name, unit, help, _schema.to_text(fields), tuple(field.name for field in fields), bounds, real,
        per_process, encode,
    )  # fmt: skip


# ---- label values, as texts ----


def _sized(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(4, "little") + data


def _text_of(field, enum_class: type[Enum] | None):
    """A function from values of a label to their texts."""
    wrong = f"label {field.name!r} is {field.type}, not "

    def of_str(value) -> str:
        if not isinstance(value, str):
            raise TypeError(wrong + type(value).__name__)
        return value

    def of_bool(value) -> str:
        if not isinstance(value, bool):
            raise TypeError(wrong + type(value).__name__)
        return "true" if value else "false"

    bits, signed = _schema.INTEGERS.get(field.base, (0, False))
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)

    def of_int(value) -> str:
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(wrong + type(value).__name__)
        if not low <= value <= high:
            raise ValueError(f"{wrong}{value}: it is {low} to {high}")
        return str(int(value))

    names = {value: label for label, value in field.labels}

    def of_enum(value) -> str:
        if isinstance(value, Enum) and (enum_class is None or isinstance(value, enum_class)):
            return value.name
        if isinstance(value, int) and value in names:
            return names[value]
        raise TypeError(f"{wrong}{value!r}")

    return {"str": of_str, "bool": of_bool, "int": of_int, "enum": of_enum}[field.kind]


def label_values(labels: str, data: bytes) -> dict[str, str | int | bool]:
    """What the bytes of a series say, by the labels' declaration. What makes no sense is left out."""
    found: dict[str, str | int | bool] = {}
    for field in _schema.parse(labels):
        size = int.from_bytes(data[:4], "little")
        text, data = data[4 : 4 + size].decode("utf-8", "backslashreplace"), data[4 + size :]
        try:
            found[field.name] = int(text) if field.kind == "int" else text == "true" if field.kind == "bool" else text
        except ValueError:
            continue
    return found
