"""One event of a living channel as structured arrays, a packet at a time.

For programs that take millions of records a second from others: no Python object is made
for a record, and each is copied once, or not at all.
"""

from __future__ import annotations

import asyncio
import time

from .._decode import Decoder, plain_rows
from ..ctf.layout import channel_layout
from ..errors import EndOfStream

__all__ = ["Batches"]

_PERIOD = 0.005  # seconds between two looks that find nothing


class Batches:
    """See `Reader.batches`: an iterator, and one for ``async for``.

    Attributes
    ----------
    missed : int
        Packets that were overwritten before they could be read.
    """

    def __init__(self, reader, event: str, timeout: float | None, copy: bool) -> None:
        if not reader.channel.is_ctf:
            raise TypeError("records with headers of a client's own have no fields: Reader.records reads them")
        self._reader, self._event, self._timeout, self._copy = reader, event, timeout, copy
        self._n_events = -1
        self._numbers: dict[int, int] = {}  # of the last packet, by stream
        self.missed = 0

    def __iter__(self) -> Batches:
        return self

    def __aiter__(self) -> Batches:
        return self

    def __next__(self):
        last = time.monotonic()
        while (rows := self._look()) is None:
            if not self._is_to_go_on(last):
                raise StopIteration
            time.sleep(_PERIOD)
        return rows

    async def __anext__(self):
        last = time.monotonic()
        while (rows := self._look()) is None:
            if not self._is_to_go_on(last):
                raise StopAsyncIteration
            await asyncio.sleep(_PERIOD)
        return rows

    def _is_to_go_on(self, last: float) -> bool:
        over = self._timeout is not None and time.monotonic() - last >= self._timeout
        return not over and not self._is_at_end

    _is_at_end = False

    def _look(self):
        """Rows of the next packet that has some, or None if no packet is there."""
        while (packet := self._next()) is not None:
            self._count_missed(packet)
            rows = self._rows(packet)
            if rows is not None and len(rows):
                return rows
        return None

    def _next(self):
        try:
            packet = self._reader.next(timeout=0)
            if packet is None:
                self._reader.flush()  # what is in packets that are not full
                packet = self._reader.next(timeout=0)
            return packet
        except EndOfStream:
            self._is_at_end = True
            return None

    def _count_missed(self, packet) -> None:
        before = self._numbers.get(packet.stream, packet.sequence_number - 1)
        self.missed += max(0, packet.sequence_number - before - 1)
        self._numbers[packet.stream] = packet.sequence_number

    def _rows(self, packet):
        schemas = self._reader.channel.schemas()  # after the packet: its events are declared
        if len(schemas) != self._n_events:
            self._n_events = len(schemas)
            self._decoder = Decoder(channel_layout(self._reader.channel, holes=True))
            found = self._decoder.event_indexes(self._event)
            self._table = self._decoder.table(found[0]) if found else None
        if self._table is None:
            return None
        rows = None if self._copy else self._rows_in_place(packet, self._table)
        return self._copied(packet, self._table) if rows is None else rows

    def _rows_in_place(self, packet, table):
        """The packet is held as long as these are."""
        view = memoryview(packet)
        return self._decoder.rows_in_place(view, self._decoder.read_packet(view), table.index)

    def _copied(self, packet, table):
        with packet, memoryview(packet) as view:
            self._decoder.fill(view, self._decoder.read_packet(view), [table], cpu=packet.cpu)
        rows = plain_rows(table.take())
        return rows if self._copy else rows[list(rows.dtype.names[2:])]
