"""Records of a live channel, in order of time across its streams.

Streams are read in rounds. A round samples the clock and flushes every stream: then
every record older than that moment is in a delivered packet, but for those whose
producer is still writing them, and the streams can be merged up to it. A producer that
holds its stream up (stopped in mid-record) delays the others for `_PATIENCE` seconds;
after that its records may come late.
"""

from __future__ import annotations

import heapq
import time

from ..client import Client

__all__ = ["merged_records"]

_PATIENCE = 0.1
_PERIOD = 0.01  # between rounds that find nothing


class _StreamCursor:
    """The records of one stream, one packet at a time."""

    def __init__(self, index: int, decode) -> None:
        self._index = index
        self._decode = decode
        self._records: list = []
        self._next = 0

    def peek(self, reader):
        """The stream's next record, or None if no complete packet is there."""
        while self._next >= len(self._records):
            packet = reader._next_of_stream(self._index)
            if packet is None:
                return None
            with packet:
                self._records = self._decode(packet)
            self._next = 0
        return self._records[self._next]

    def pop(self):
        record = self._records[self._next]
        self._next += 1
        return record

    def is_held_up(self, reader) -> bool:
        return self.peek(reader) is None and not reader._is_stream_drained(self._index)


def merged_records(reader, timeout):
    """See `Reader.records`."""
    if reader._cursors is None:
        decode = packet_decoder(reader.channel)
        reader._cursors = [_StreamCursor(i, decode) for i in range(len(reader.stream_indices))]
    return _merged(reader, reader._cursors, timeout)


def _merged(reader, cursors, timeout):
    last = time.monotonic()
    while True:
        final = reader.channel.is_finalized
        now = reader.channel.current_timestamp()
        if not final:
            reader.flush()
        found = False
        # A single stream is in order by itself; `now` may be less than its times, if a user's clock steps back.
        for record in _round(reader, cursors, None if final or len(cursors) == 1 else now):
            found = True
            yield record
        if found:
            last = time.monotonic()
        elif final and reader._is_at_end():
            return
        elif timeout is not None and time.monotonic() - last >= timeout:
            yield from _round(reader, cursors, None)  # newer than `now`, or than a clock that has stepped back
            return
        else:
            time.sleep(_PERIOD)


def _round(reader, cursors, until):
    """Merge what is there, up to ticks `until` (None: all)."""
    give_up = time.monotonic() + _PATIENCE
    while any(cursor.is_held_up(reader) for cursor in cursors) and time.monotonic() < give_up:
        time.sleep(0.001)
    heap = [(c.peek(reader).timestamp, i) for i, c in enumerate(cursors) if c.peek(reader) is not None]
    heapq.heapify(heap)
    while heap:
        timestamp, i = heap[0]
        if until is not None and timestamp > until:
            return
        yield cursors[i].pop()
        record = cursors[i].peek(reader)
        if record is None:
            heapq.heappop(heap)
        else:
            heapq.heapreplace(heap, (record.timestamp, i))


def packet_decoder(channel):
    """A function from a held packet to the list of its records."""
    decode = content_decoder(channel)

    def decode_packet(packet):
        with memoryview(packet) as view:
            return decode(view, packet.content_size, packet.cpu)

    return decode_packet


def content_decoder(channel):
    """A function from a packet's bytes, its content size and its CPU to the list of its records."""
    if channel.is_ctf:
        return _CtfDecoder(channel)
    if type(channel.client).record_get is Client.record_get:
        raise TypeError("records of a client with headers of its own need its record_get")
    return lambda view, size, cpu: _custom_records(channel, view[:size], cpu)


class _CtfDecoder:
    """Decodes packets of the built-in client, learning events as they are declared."""

    def __init__(self, channel) -> None:
        self._channel = channel
        self._n_events = -1

    def __call__(self, view, size, cpu):
        from .._decode import Decoder
        from ..ctf.layout import channel_layout

        schemas = self._channel.schemas()  # after the packet: its events are declared
        if len(schemas) != self._n_events:
            self._n_events = len(schemas)
            self._decoder = Decoder(channel_layout(self._channel, holes=True))
        return list(self._decoder.records(bytes(view), cpu=cpu))  # a copy: the records refer to it


def _custom_records(channel, content, cpu):
    """Walk a packet by the client's `record_get`."""
    with content:
        data = memoryview(bytes(content))  # a copy: the client may keep parts of it, or fail with one in its hands
    records = []
    offset = channel.packet_header_size
    while offset < len(data):
        found = channel.client.record_get(data, offset)
        if found is None:
            break
        header, size, timestamp = found
        if header + size <= 0:
            raise ValueError(f"record_get at {offset} made no progress: {found!r}")
        begin = offset + header
        records.append(CustomRecord(timestamp, cpu, bytes(data[begin : begin + size])))
        offset = begin + size
    return records


class CustomRecord:
    """A record of a client with a header of its own.

    `timestamp` in ticks, `cpu`, and `payload`, bytes.
    """

    __slots__ = ("cpu", "payload", "timestamp")
    name = "payload"

    def __init__(self, timestamp: int, cpu: int | None, payload: bytes) -> None:
        self.timestamp = timestamp
        self.cpu = cpu
        self.payload = payload

    @property
    def fields(self) -> dict:
        return {"payload": self.payload}

    def __repr__(self) -> str:
        return f"<CustomRecord at {self.timestamp}: {len(self.payload)} bytes>"
