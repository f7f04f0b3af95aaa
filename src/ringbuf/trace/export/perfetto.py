"""Perfetto's trace format: protobuf messages, encoded by hand.

A trace is a series of packets. Those of the tracks describe them; those of events name their track by its
id, and what names them by a number, which the first packet that uses it explains. Numbers of fields are
those of Perfetto's protos/perfetto/trace/. Packets are compressed, many in one (`compressed_packets`).
"""

from __future__ import annotations

import struct
import zlib

from ..meanings import Function
from ..plain import plain, to_text
from .timeline import Track

__all__ = ["Writer"]

_SEQUENCE = 1
_CLEARED, _NEEDED = 1, 2  # sequence_flags: numbers are explained from here on; this packet relies on that
_REALTIME, _MONOTONIC, _OURS = 1, 3, 128  # clocks; from 128 on they are nobody's but the trace's
_CHUNK = 1 << 19  # bytes of packets that are compressed in one

# Fields of InternedData.
_CATEGORIES, _NAMES, _ARGUMENTS, _LOCATIONS = 1, 2, 3, 4


# ---- protobuf ----


def varint(value: int) -> bytes:
    """A number below 2^64; negative ones as their two's complement."""
    if 0 <= value < len(_SHORT):
        return _SHORT[value]
    value &= 0xFFFFFFFFFFFFFFFF
    low = value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14 & 0x7F | 0x80
    return bytes(low) + varint(value >> 21) if value >> 21 else bytes((*low[:2], value >> 14))


_SHORT = [bytes([value] if value < 0x80 else [value & 0x7F | 0x80, value >> 7]) for value in range(1 << 14)]


def number(field: int, value: int) -> bytes:
    return _SHORT[field << 3] + varint(value)


def double(field: int, value: float) -> bytes:
    return _SHORT[field << 3 | 1] + struct.pack("<d", value)


def message(field: int, data: bytes) -> bytes:
    """A message in a message, or bytes."""
    return _SHORT[field << 3 | 2] + varint(len(data)) + data


def text(field: int, value: str) -> bytes:
    try:
        return message(field, value.encode())
    except UnicodeEncodeError:
        return message(field, to_text(value).encode())


# ---- packets ----


class Writer:
    """See `timeline.Writer`."""

    native = "perfetto"  #: the format's name in `_decode`, whose C code writes instants
    origin = 0  #: times count from it

    def __init__(self, write, trace, *, compress: bool = True) -> None:
        self._write = write
        self._compress = compress
        self._waiting: list[bytes] = []
        self._n_waiting = 0
        self._numbers: dict[int, dict] = {kind: {} for kind in (_CATEGORIES, _NAMES, _ARGUMENTS, _LOCATIONS)}
        self._new = b""  # what the next packet explains
        self._tracks: dict[Track, bytes] = {}
        self._flow = b""  # of the next event
        self._packet(_clocks(trace) + number(13, _CLEARED) + number(87, 1) + message(59, number(58, _OURS)))

    def track(self, track: Track) -> None:
        self._tracks[track] = number(11, track.id)
        if track.kind == "process" and track.pid is not None:
            what = message(3, number(1, track.pid) + text(6, track.name))
        elif track.kind == "thread" and track.pid is not None:
            what = message(4, number(1, track.pid) + number(2, track.tid) + text(5, track.name))
        elif track.kind == "counter":
            what = text(2, track.name) + message(8, text(6, track.unit) if track.unit else b"")
        else:
            what = text(2, track.name or track.kind)
        parent = number(5, track.parent.id) if track.parent is not None else b""
        self._packet(message(60, number(1, track.id) + parent + what))

    def begin(self, time, track, name, category, args, function) -> None:
        title = self._title(name, category) + (self._location(function) if function is not None else b"")
        self._event(_SLICE_BEGIN, time, track, title, args)

    def end(self, time, track, name, category, args) -> None:
        self._event(_SLICE_END, time, track, b"", args)

    def instant(self, time, track, name, category, args) -> None:
        self._event(_INSTANT, time, track, self._title(name, category), args)

    def value(self, time, track, value) -> None:
        what = number(30, value) if isinstance(value, int) and value < 2**63 else double(44, value)
        self._packet(_RELIES + number(8, time) + message(11, _COUNTER + self._tracks[track] + what))

    def flow(self, outgoing, incoming) -> None:
        ways = ((47, outgoing), (48, incoming))  # flow_ids, terminating_flow_ids
        self._flow = b"".join(_SHORT[way << 3 | 1] + struct.pack("<Q", one) for way, ones in ways for one in ones)

    def close(self) -> None:
        self._flush()

    # ---- for C code: parts of an instant as it writes them ----

    def raw(self, packets: bytes) -> None:
        """Whole packets."""
        self._add(packets)

    def place(self, track: Track) -> bytes:
        return self._tracks[track]

    def title(self, name: str, category: str) -> bytes:
        return self._explained(self._title(name, category))

    def argument(self, name: str) -> bytes:
        return self._explained(self._number(1, _ARGUMENTS, name, _text_of))

    def _explained(self, part: bytes) -> bytes:
        """The same, whose numbers are explained by a packet before all that have them."""
        if self._new:
            self._packet(_RELIES + message(12, self._new))
            self._new = b""
        return part

    # ---- packets ----

    def _event(self, kind: bytes, time: int, track: Track, title: bytes, args: dict) -> None:
        event = message(11, kind + self._tracks[track] + title + self._flow + self._annotations(args))
        self._flow = b""
        if self._new:
            event += message(12, self._new)
            self._new = b""
        self._packet(_RELIES + number(8, time) + event)

    def _packet(self, content: bytes) -> None:
        self._add(message(1, _FROM_US + content))

    def _add(self, packets: bytes) -> None:
        if not self._compress:
            self._write(packets)
            return
        self._waiting.append(packets)
        self._n_waiting += len(packets)
        if self._n_waiting >= _CHUNK:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._write(message(1, message(50, zlib.compress(b"".join(self._waiting), 6))))
            self._waiting, self._n_waiting = [], 0

    # ---- names ----

    def _number(self, field: int, kind: int, key, explain) -> bytes:
        """The field that has the number of `key`; explain(key) is what that stands for."""
        numbers = self._numbers[kind]
        known = numbers.get(key)
        if known is None:
            new = len(numbers) + 1
            known = numbers[key] = number(field, new)
            self._new += message(kind, number(1, new) + explain(key))
        return known

    def _title(self, name: str, category: str) -> bytes:
        of_category = self._number(3, _CATEGORIES, category, _text_of)
        if category == "log":  # messages differ: the table of names would grow without end
            return of_category + text(23, name)
        return of_category + self._number(10, _NAMES, name, _text_of)

    def _location(self, function: Function) -> bytes:
        return self._number(34, _LOCATIONS, function, _explained_location)

    # ---- arguments ----

    def _annotations(self, args: dict) -> bytes:
        found = b""
        for name, value in args.items():
            found += message(4, self._number(1, _ARGUMENTS, name, _text_of) + _value(value))
        return found


def _clocks(trace) -> bytes:
    """A snapshot: our clock is Unix time as the trace knows it, and says nothing of one that was not looked at.

    So another trace of this host, whose snapshots have the same REALTIME beside its own clocks, has the same time line.
    """
    start = (trace.time_range or (0, 0))[0]
    times = {_REALTIME: start, _OURS: start}
    clock = trace.clock
    if clock is not None and clock.description == "monotonic" and clock.freq == 10**9:
        times[_MONOTONIC] = start - clock.offset_s * 10**9 - clock.offset  # it is what was counted
    clocks = b"".join(message(1, number(1, one) + number(2, time)) for one, time in times.items() if time >= 0)
    return message(6, clocks + number(2, _REALTIME))


def _text_of(name: str) -> bytes:
    return text(2, name)


def _explained_location(function: Function) -> bytes:
    return text(2, function.file) + text(3, function.name) + number(4, function.line)


_FROM_US = number(10, _SEQUENCE)
_RELIES = number(13, _NEEDED)
_SLICE_BEGIN, _SLICE_END, _INSTANT, _COUNTER = (number(9, kind) for kind in (1, 2, 3, 4))


def _value(value) -> bytes:
    """The fields of a DebugAnnotation that are its value."""
    if isinstance(value, str):
        return text(6, value)
    if isinstance(value, bool):
        return number(2, value)
    if isinstance(value, int):
        return number(4, value) if value < 2**63 else number(3, value)
    if isinstance(value, float):
        return double(5, value)
    if isinstance(value, list):
        return b"".join(message(12, _value(one)) for one in value)
    if isinstance(value, dict):
        return b"".join(message(11, text(10, name) + _value(one)) for name, one in value.items())
    return text(6, plain(value))
