"""What a channel has counted, in a trace: a stream of its own, with a packet for each look.

An event class for each metric, ``metric:NAME``; docs/formats.md has its fields. Readers tell them by these. A series
is written when its value is another than at the look before.
"""

from __future__ import annotations

import struct
import sys

from ..ctf import schema as _schema
from ..ctf.metadata import ClockInfo, sampled_metadata
from ..ctf.model import PACKET_MAGIC
from .declare import label_values

__all__ = ["FILE", "Samples", "SamplesFile", "ask_gauges", "sample_channel"]

#: The stream's file.
FILE = "metrics"
STREAM_ID = 2

_HEADER = struct.Struct("<I16sIQ QQQQQQ")
_RECORD = struct.Struct("<IQ")
_NUMBERS = {
    "u8": "B", "u16": "H", "u32": "I", "u64": "Q", "i8": "b", "i16": "h", "i32": "i", "i64": "q", "f64": "d",
    "bool": "?",
}  # fmt: skip


class Samples:
    """The metrics of one channel on their way into one trace.

    Parameters
    ----------
    uuid : bytes
    clock : ClockInfo
    """

    def __init__(self, uuid: bytes, clock: ClockInfo) -> None:
        self._uuid = uuid
        self._clock = clock
        self._events: dict[int, _schema.EventSchema] = {}
        self._last: dict[tuple, list] = {}
        self._n_packets = 0

    def learn(self, found) -> bool:
        """Note what `read_metrics` has found; whether there is something that the metadata do not have yet."""
        known = len(self._events)
        for number, kind, real, per_process, name, _, _, labels, _ in found[0]:
            if number not in self._events:
                try:
                    self._events[number] = _event(number, kind, real, per_process, name, labels)
                except ValueError:
                    continue  # a damaged region
        return len(self._events) > known

    def metadata(self) -> str:
        """Blocks for all that was learnt; "" if that is nothing."""
        return sampled_metadata(self._clock, STREAM_ID, self._events.values()) if self._events else ""

    def packet(self, found, time: int, *, gone: bool = False) -> bytes:
        """A packet of what has another value than in the packet before; b"" if nothing has."""
        metrics = {metric[0]: metric for metric in found[0] if metric[0] in self._events}
        records = [
            self._record(metrics[one[0]], one, time)
            for one in found[1]
            if one[0] in metrics and (gone or not one[4]) and self._is_new(one)
        ]
        if not records:
            return b""
        body = b"".join(records)
        bits = 8 * (_HEADER.size + len(body))
        head = (PACKET_MAGIC, self._uuid, STREAM_ID, 0, time, time, bits, bits, self._n_packets, 0)
        self._n_packets += 1
        return _HEADER.pack(*head) + body

    def forget(self) -> None:
        """The next packet has all values again."""
        self._last.clear()

    def _is_new(self, one) -> bool:
        number, labels, is_rest, pid, _, values = one
        key = number, labels, is_rest, pid
        if self._last.get(key) == values or (is_rest and not any(values)):
            return False
        self._last[key] = values
        return True

    def _record(self, metric, one, time: int) -> bytes:
        number, kind, _, per_process, _, unit, _, labels, bounds = metric
        _, encoded, is_rest, pid, _, values = one
        given = {"metric_kind": kind, "metric_unit": unit, "metric_rest": is_rest, "metric_pid": pid}
        if kind == "histogram":
            given |= {"metric_sum": values[0], "metric_bounds": bounds, "metric_counts": values[1:]}
        else:
            given["metric_value"] = values[0]
        given.update(label_values(labels, encoded))
        fields = _schema.parse(self._events[number].fields)
        return _RECORD.pack(number, time) + b"".join(_encoded(field, given.get(field.name)) for field in fields)


class SamplesFile:
    """Where the packets of a recording go.

    Parameters
    ----------
    output : Directory
    max_size : int
        Bytes; 0: any. At the half of it another file begins, with all values, and the one before the last is removed.
    """

    def __init__(self, output, max_size: int = 0) -> None:
        self._output = output
        self._limit = max_size // 2
        self._file = None
        self._number = -1

    def write(self, samples: Samples, found, time: int) -> None:
        """What `samples` has to say of `found`. OSError: it could not be written."""
        data = samples.packet(found, time)
        if data and self._limit and self._file is not None and self._file.tell() + len(data) > self._limit:
            self.close()
            samples.forget()
            data = samples.packet(found, time)
        if data:
            self._opened().write(data)
            self._file.flush()

    def _opened(self):
        if self._file is None:
            self._number += 1
            self._output.remove([_name(self._number - 2)] * (self._number > 1))
            self._file = self._output.create(_name(self._number))
        return self._file

    def close(self) -> None:
        """Twice is harmless."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _name(number: int) -> str:
    return f"{FILE}.{number}" if number else FILE


def _event(number: int, kind: str, real: bool, per_process: bool, name: str, labels: str) -> _schema.EventSchema:
    fields = ["metric_kind:str", "metric_unit:str", "metric_rest:bool"]
    if per_process:
        fields.append("metric_pid:u32")
    if kind == "histogram":
        fields += ["metric_sum:f64", "metric_bounds:f64[]", "metric_counts:u64[]"]
    else:
        fields.append("metric_value:u64" if kind == "counter" and not real else "metric_value:f64")
    fields += [f"{one.name}:{'str' if one.labels else one.base}" for one in _schema.parse(labels)]
    return _schema.EventSchema(number, f"metric:{name}", "", ",".join(fields))


def _encoded(field: _schema.Field, value) -> bytes:
    """A value of a field, or the least there is, where the labels are those of the rest."""
    if field.base == "str":
        return (value or "").encode("utf-8", "replace").replace(b"\0", b"\xc0\x80") + b"\0"
    code = _NUMBERS[field.base]
    if field.length is not None:
        return struct.pack(f"<I{len(value)}{code}", len(value), *value)
    return struct.pack(f"<{code}", value or 0)


def sample_channel(output, layout, found, time: int, *, gone: bool = False) -> str:
    """Write what a channel has counted as one packet into a trace's directory; its metadata, "" if it has nothing."""
    samples = Samples(layout.uuid, layout.clock)
    samples.learn(found)
    data = samples.packet(found, time, gone=gone)
    if data:
        with output.create(FILE) as file:
            file.write(data)
    return samples.metadata()


def ask_gauges() -> None:
    """Those that are sampled, if there are any: who has none has not imported what samples them."""
    process = sys.modules.get("ringbuf.metrics.process")
    if process is not None:
        process.take_samples()
