"""Traces in CTF: a part of a trace, by time and by event, with the rotated chunks of a session as one.

Events and metadata stay as they are, byte for byte, and with them the version of CTF. An
event's header says only the last bits of its time, so where what lies between two
events is left out and their times are too far apart for these bits, the second one
begins another packet. What is written into packets anew: their sizes, times and numbers.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

from ...ctf import model
from ...errors import TraceError
from ...output import own_directory

__all__ = ["write"]

_SIZES = "packet-content-length", "packet-total-length"
_BEGIN, _END, _NUMBER = "default-clock-timestamp", "packet-end-default-clock-timestamp", "packet-sequence-number"


def write(trace, path: str, *, events=None, begin: int | None = None, end: int | None = None) -> None:
    """Write a directory that is not there yet, or is empty; a trace of several has one in it for each."""
    names = frozenset(trace.event_names(events))
    if os.path.isdir(path) and os.listdir(path):
        raise FileExistsError(f"{path}: there is something in it: export to a new directory")
    for index, source in enumerate(trace.sources):
        place = path if len(trace.sources) == 1 else os.path.join(path, source.directories[0] or f"trace-{index}")
        streams = [stream for stream in trace.streams if stream.source is source]
        _write_source(trace, source, streams, place, _Wanted(source.decoder, names, begin, end))


def _write_source(trace, source, streams: list, path: str, wanted: _Wanted) -> None:
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    written: list[str] = []
    with own_directory(path) as folder:
        try:
            for index, stream in enumerate(streams):
                name = f"stream-{index}"
                with folder.create(name) as file:
                    written.append(name)
                    for packet in _Stream(trace, stream, wanted).packets():
                        file.write(packet)
            with source.place.open(os.path.join(source.directories[0], "metadata")) as metadata:
                text = bytes(metadata.read_at(0, metadata.size()))
            with folder.replacing("metadata") as file:  # last: with it there is a trace
                file.write(text)
        except BaseException:
            folder.remove(written)
            folder.undo()
            raise


class _Wanted:
    """Which events of a source, and what the rest of it must be like to leave some out."""

    def __init__(self, decoder, names: frozenset, begin: int | None, end: int | None) -> None:
        import numpy

        self.is_wanted = numpy.array([name in names for name in decoder.event_names], "?")
        self.aligns = [decoder.event_align(index) for index in range(len(decoder.event_names))]
        self.begin, self.end = begin, end

    def mask(self, spots):
        """Those of `spots` to keep."""
        keep = self.is_wanted[spots["index"]]
        if self.begin is not None:
            keep &= spots["time_ns"] >= self.begin
        if self.end is not None:
            keep &= spots["time_ns"] <= self.end
        return keep


class _Stream:
    """The packets of a stream, written anew."""

    def __init__(self, trace, stream, wanted: _Wanted) -> None:
        types = stream.source.decoder.model
        self._trace, self._stream, self._wanted, self._types = trace, stream, wanted, types
        self._places = _places(types, stream.id)
        self._time_bits = _time_bits(types.streams[stream.id].event_header)
        self._number: int | None = None  # of the next packet
        self._before: int | None = None  # number that the packet before had

    def packets(self) -> Iterator[bytes]:
        decoder = self._stream.source.decoder
        wanted = self._wanted
        for data, packet, offset in self._trace.packets_with_bytes(self._stream, wanted.begin, wanted.end):
            self._follow(packet)
            with self._trace.skipping(self._stream, packet, data, offset):
                spots = decoder.event_spots(data, packet, offset=offset)
                whole = data[offset : offset + packet.content_size]
                yield from self._pieces(whole, packet, spots, decoder.header_align(packet))

    def _follow(self, packet) -> None:
        """Packets that were missing are missing still; those that are left out are not."""
        number = packet.sequence_number
        if number is not None:
            missing = 0 if self._before is None else max(0, number - self._before - 1)
            self._number = number if self._number is None else self._number + missing
            self._before = number

    def _pieces(self, data, packet, spots, align: int) -> Iterator[bytes]:
        keep = self._wanted.mask(spots)
        if not keep.any():
            return
        if keep.all():
            yield self._packet(data, packet, data[self._header(packet) :], packet.begin_ticks, packet.end_ticks)
            return
        runs = list(_runs(keep))
        pieces = list(self._split(packet, spots, runs))
        for index, (begin, group) in enumerate(pieces):
            body = self._body(data, packet, spots, group, align)
            last = int(spots["ticks"][group[-1][1] - 1])
            is_tail = index + 1 == len(pieces) and self._wanted.end is None
            yield self._packet(data, packet, body, begin, packet.end_ticks if is_tail else last)

    def _split(self, packet, spots, runs: list) -> Iterator[tuple[int | None, list]]:
        """(first tick, runs of events) for each packet that this one becomes."""
        before, begin, group = packet.begin_ticks, packet.begin_ticks, []
        for first, after in runs:
            tick = int(spots["ticks"][first])
            is_far = self._time_bits < 64 and (before is None or tick - before >= 1 << self._time_bits)
            if is_far and group:
                yield begin, group
                group = []
            if not group and (is_far or (self._wanted.begin is not None and begin is not None)):
                begin = tick
            group = [*group, (first, after)]
            before = int(spots["ticks"][after - 1])
        yield begin, group

    def _body(self, data, packet, spots, group: list, align: int) -> bytes:
        start = 8 * self._header(packet)
        body = bytearray()
        for first, after in group:
            begin, end = int(spots["start"][first]), int(spots["end"][after - 1])
            here = -(-(start + 8 * len(body)) // align) * align
            largest = max(self._wanted.aligns[index] for index in set(spots["index"][first:after].tolist()))
            if begin % 8 or (here - begin) % max(largest, align):
                raise TraceError(
                    f"{packet.file}: its events cannot be moved without changing them, for their parts are aligned to "
                    f"{largest} bits and their headers to {align}: a part of this trace cannot be in CTF"
                )
            body += bytes((here - start) // 8 - len(body))
            body += data[begin // 8 : -(-end // 8)]
            if end % 8 and after < len(spots):
                raise TraceError(f"{packet.file}: its events do not end with a byte: a part of it cannot be in CTF")
        return bytes(body)

    def _header(self, packet) -> int:
        """Bytes before the events."""
        return packet.header_bits // 8

    def _packet(self, data, packet, body, begin: int | None, end: int | None) -> bytes:
        if packet.header_bits % 8:
            raise TraceError(f"{packet.file}: its events do not begin with a byte: it cannot be in CTF again")
        whole = bytearray(data[: self._header(packet)]) + body
        size = -(-len(whole) // 8) * 8
        values = {_BEGIN: begin, _END: end, _NUMBER: self._number}
        values |= {_SIZES[0]: 8 * len(whole), _SIZES[1]: 8 * size}
        for role, value in values.items():
            if role in self._places and value is not None:
                _put(whole, self._places[role], value)
        if begin != packet.begin_ticks and _BEGIN not in self._places:
            raise TraceError(f"{packet.file}: its packets do not say when they begin: a part of it cannot be in CTF")
        if not set(_SIZES) <= set(self._places) and len(self._stream.packets) > 1:
            raise TraceError(f"{packet.file}: its packets do not say their sizes: it cannot be in CTF again")
        self._number = None if self._number is None else self._number + 1
        return bytes(whole) + bytes(size - len(whole) if _SIZES[1] in self._places else 0)


def _runs(keep) -> Iterator[tuple[int, int]]:
    """Where those that are true begin and end."""
    import numpy

    edges = numpy.flatnonzero(numpy.diff(numpy.concatenate(([False], keep, [False])))).tolist()
    return zip(edges[::2], edges[1::2], strict=True)


# ---- what is written into packets ----


def _places(types: model.Trace, stream_id: int) -> dict[str, tuple[int, model.Integer, str]]:
    """Role -> (bit, type, byte order) of the numbers of a packet's header and context."""
    places: dict[str, tuple[int, model.Integer, str]] = {}
    position = 0
    for scope in (types.packet_header, types.streams[stream_id].packet_context):
        for _, member in scope.members if scope else ():
            size, align = _fixed(member)
            if size is None:
                break
            if position % max(align, scope.align):
                position += -position % align
            kind = member.container if isinstance(member, model.Enum) else member
            if isinstance(kind, model.Integer) and kind.role in (*_SIZES, _BEGIN, _END, _NUMBER):
                places[kind.role] = position, kind, kind.byte_order or types.byte_order
            position += size
    return places


def _fixed(kind: model.Type) -> tuple[int | None, int]:
    """Bits of a type, None if they vary; and its alignment."""
    if isinstance(kind, model.Enum):
        return _fixed(kind.container)
    if isinstance(kind, (model.Integer, model.Float, model.Bits, model.Boolean)):
        return kind.size, kind.align
    if isinstance(kind, model.Array):
        size, align = _fixed(kind.element)
        return (size * kind.length if size is not None and size % align == 0 else None), max(align, kind.align)
    if isinstance(kind, (model.Blob, model.Text)) and isinstance(kind.length, int):
        return 8 * kind.length, 8
    return None, 1


def _put(packet: bytearray, place: tuple, value: int) -> None:
    position, kind, order = place
    if position % 8 or kind.size % 8 or kind.is_reversed:
        raise TraceError("the numbers in the packets' headers are not whole bytes: the trace cannot be in CTF again")
    if value >= 1 << kind.size:
        value &= (1 << kind.size) - 1
    start = position // 8
    packet[start : start + kind.size // 8] = value.to_bytes(kind.size // 8, "little" if order == "le" else "big")


def _time_bits(kind: model.Type | None) -> int:
    """The fewest bits in which an event's header says its time."""
    if isinstance(kind, model.Integer) and kind.role == _BEGIN:
        return kind.size
    if isinstance(kind, model.VarInteger) and kind.role == _BEGIN:
        return 7
    if isinstance(kind, model.Struct):
        within = [member for _, member in kind.members]
    elif isinstance(kind, model.Variant):
        within = [option for _, option in kind.options]
    else:
        within = [kind.element] if isinstance(kind, (model.Optional, model.Array, model.Sequence)) else []
    return min(itertools.chain(map(_time_bits, within), (64,)))
