"""Spans and calls as OpenTelemetry's: OTLP in JSON, a request to a line, as its collector's file receiver takes them.

Ids of spans are ours. A trace's id is made of the trace's UUID and of the outermost span that is known, so that all
below that one belong together; calls of a thread are one trace. Times that are bounds only have the attribute
``ringbuf.begin_missing`` or ``ringbuf.end_missing``.
"""

from __future__ import annotations

import json
import uuid
from collections import deque
from collections.abc import Iterator

from ..meanings import meaning
from ..plain import plain, to_text

__all__ = ["write"]

_AT_ONCE = 512  # spans in a request
_KEPT = 1 << 16  # spans that have ended, for what may still begin within them
_ERROR = 2  # of a status


def write(trace, file, *, events=None, begin: int | None = None, end: int | None = None, **wanted) -> None:
    """Write to a binary file."""
    pairs = trace.pairs(events, begin=begin, end=end, **wanted)
    roots = _Roots(trace)
    resource = {"attributes": _attributes(_resource(trace.env))}
    for some in _groups(pairs, _AT_ONCE):
        spans = [_span(trace, one, roots) for one in some]
        scope = {"scope": {"name": "ringbuf"}, "spans": spans}
        request = {"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]}
        file.write(json.dumps(request, separators=(",", ":")).encode() + b"\n")


def _groups(pairs, size: int) -> Iterator[list]:
    group: list = []
    for one in pairs:
        group.append(one)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _resource(env) -> dict:
    names = {"hostname": "host.name", "vpid": "process.pid", "procname": "service.name"}
    return {**{names[name]: env[name] for name in names if name in env}, "telemetry.sdk.name": "ringbuf"}


class _Roots:
    """The outermost span around each that has not ended, or did so not long ago.

    Spans come when they end, those within before those around them; so begins are read beside them.
    """

    def __init__(self, trace) -> None:
        names = {event.name for event in trace.event_classes if meaning(event) == "span"}
        self._begins = iter(trace.records(names) if names else ())
        self._next = next(self._begins, None)
        self._roots: dict[int, int] = {}
        self._ended: deque[int] = deque()

    def of(self, pair) -> int:
        while self._next is not None and self._next.time_ns <= pair.end:
            number, parent = self._next.fields["span_id"], self._next.fields["parent_id"]
            self._roots[number] = self._roots.get(parent, parent or number)
            self._next = next(self._begins, None)
        self._ended.append(pair.id)
        if len(self._ended) > _KEPT:
            self._roots.pop(self._ended.popleft(), None)
        return self._roots.get(pair.id, pair.parent or pair.id)


def _span(trace, pair, roots: _Roots) -> dict:
    root = f"span {roots.of(pair)}" if pair.kind == "span" else f"thread {pair.thread.pid} {pair.thread.tid}"
    span = {
        "traceId": _trace_id(trace, root),
        "spanId": _span_id(pair.kind, pair.id),
        "name": to_text(pair.name) or "(unknown)",
        "kind": 1,
        "startTimeUnixNano": str(max(0, pair.begin)),
        "endTimeUnixNano": str(max(0, pair.end)),
        "attributes": _attributes(_about(pair)),
    }
    if pair.parent:
        span["parentSpanId"] = _span_id(pair.kind, pair.parent)
    if pair.error:
        span["status"] = {"code": _ERROR, "message": to_text(pair.error_text)}
    return span


def _trace_id(trace, root: str) -> str:
    identity = trace.sources[0].decoder.model.uuid or b""
    return uuid.uuid5(uuid.NAMESPACE_OID, f"ringbuf {identity.hex()} {root}").hex


def _span_id(kind: str, number: int) -> str:
    """Numbers of calls and ids of spans are counted apart."""
    return f"{number | (1 << 63 if kind == 'call' else 0):016x}"


def _about(pair) -> dict:
    about = {"thread.id": pair.thread.tid, "thread.name": pair.thread.name or None, "ringbuf.task": pair.task or None}
    if pair.function is not None:
        about |= {"code.file.path": pair.function.file, "code.line.number": pair.function.line}
    about |= {"ringbuf.begin_missing": pair.begin_missing, "ringbuf.end_missing": pair.end_missing}
    return {**{name: value for name, value in about.items() if value is not None}, **pair.fields}


def _attributes(values: dict) -> list[dict]:
    return [{"key": to_text(name), "value": _value(plain(value))} for name, value in values.items()]


def _value(value) -> dict:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)} if -(1 << 63) <= value < 1 << 63 else {"stringValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_value(one) for one in value]}}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": [{"key": key, "value": _value(one)} for key, one in value.items()]}}
    return {"stringValue": "" if value is None else str(value)}
