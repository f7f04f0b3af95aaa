"""Records as they come: of a trace that is being written, or of a living channel.

Neither takes anything away. A directory grows by whole packets; of a channel, packets are looked at in the
ring. Those of one look are merged by time; those of the next come after them, even if some stream was late.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import NamedTuple

from .._decode import Decoder, Packet, Page, Printer, Record, merged, merged_rows
from ..ctf.layout import channel_layout
from ..errors import EndOfStream, TraceError
from ..trace.trace import open_trace

__all__ = ["FollowedChannel", "FollowedDirectory", "Look"]

_HEADER = 4096


class Look(NamedTuple):
    """What one look has found.

    Attributes
    ----------
    decoder : Decoder
        It learns what was declared meanwhile, so each look has its own.
    streams : list of list of (Packet, bytes)
        The packets of each stream, in order.
    missed : int
        Packets that were overwritten before they could be looked at.
    """

    decoder: Decoder
    streams: list[list[tuple[Packet, bytes]]]
    missed: int = 0

    def counts(self) -> dict[str, int]:
        """How many records there are of each event."""
        counts = self.decoder.new_counts()
        for packet, data in (one for stream in self.streams for one in stream):
            self.decoder.count_events(data, packet, counts, offset=0)
        found: dict[str, int] = {}
        for name, count in zip(self.decoder.event_names, counts, strict=False):
            found[name] = found.get(name, 0) + count
        return found

    def records(self) -> Iterator[Record]:
        """By time."""
        decode = self.decoder.packet_records

        def of(stream) -> Iterator[Record]:
            return (one for packet, data in stream for one in decode(data, packet, offset=0, in_ns=True))

        return merged([of(stream) for stream in self.streams])

    def text(self) -> str:
        """A line for each record, as `Trace.iter_text`."""
        printer, page = Printer(self.decoder, ""), Page(len(self.streams))
        for stream, lane in zip(self.streams, page.lanes, strict=True):
            for packet, data in stream:
                printer.fill(data, packet, lane, offset=0)
        rows = [[lane.take()] for lane in page.lanes if len(lane)]
        return page.lines(merged_rows(rows)) if rows else ""


def _decoder_of(path: str) -> Decoder:
    sources = open_trace(path).sources
    if len(sources) > 1 or sources[0].directories != ("",):
        raise TraceError(f"{path}: its traces are in directories below: follow one of these")
    return sources[0].decoder


class FollowedDirectory:
    """A trace directory that somebody writes.

    Raises
    ------
    TraceError
        There is no trace.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._offsets: dict[str, int] = {}
        self._decoder, self._version = _decoder_of(path), self._metadata()

    def look(self) -> Look:
        """The packets that were written since the last look."""
        streams = []
        for name in sorted(os.listdir(self._path)):
            path = os.path.join(self._path, name)
            if name != "metadata" and not name.startswith(".") and os.path.isfile(path):
                found = list(self._packets(name, path))
                streams += [found] if found else []
        return Look(self._decoder, streams)

    def _packets(self, name: str, path: str) -> Iterator[tuple[Packet, bytes]]:
        with open(path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            while self._offsets.get(name, 0) < size:
                offset = self._offsets.get(name, 0)
                packet = self._packet(file.fileno(), name, offset, size - offset)
                if packet is None:
                    return
                yield packet, os.pread(file.fileno(), packet.content_size, offset)
                self._offsets[name] = offset + packet.size

    def _packet(self, fd: int, name: str, offset: int, available: int) -> Packet | None:
        """None: it is not whole yet."""
        header = os.pread(fd, _HEADER, offset)
        # Events are declared before they are recorded, and the metadata is replaced as a whole.
        version = self._metadata()
        if version != self._version:
            self._decoder, self._version = _decoder_of(self._path), version
        try:
            return self._decoder.read_packet(header, available=available, file=name, position=offset)
        except TraceError as error:
            if "the file ends after" in str(error) or available < _HEADER:
                return None
            raise

    def _metadata(self) -> tuple:
        about = os.stat(os.path.join(self._path, "metadata"))
        return about.st_ino, about.st_size, about.st_mtime_ns

    @property
    def is_over(self) -> bool:
        return False


class FollowedChannel:
    """The ring of a living channel.

    Parameters
    ----------
    channel : Channel
    flush : bool
        Also look at packets that are not full: each look then ends them, which in a flight recorder costs the
        oldest ones.
    consume : bool
        Take the packets out of the ring.
    seen : dict, optional
        Of an object for the same channel before: its `seen`.

    Attributes
    ----------
    seen : dict of int to int
        Number of the newest packet that was looked at, by stream.

    Raises
    ------
    TraceError
        Its packets are of a client of its own.
    """

    def __init__(self, channel, flush: bool, consume: bool = False, seen: dict[int, int] | None = None) -> None:
        if not channel.is_ctf:
            raise TraceError(f"{channel.name}: its records have headers of a client's own: Channel.reader() reads them")
        self._channel, self._flush, self._consume = channel, flush, consume
        self.seen = {} if seen is None else seen

    def look(self) -> Look:
        """The packets that were delivered since the last look.

        Raises
        ------
        ReaderBusyError
            The channel has a reader, or is being recorded.
        """
        found: dict[int, list[bytes]] = {}
        missed = 0
        with self._channel.reader() as reader:  # for the length of a look only: others may want to read
            for packet in self._taken(reader) if self._consume else reader.snapshot(flush=self._flush):
                stream, number = packet.stream, packet.sequence_number
                seen = self.seen.get(stream)
                if seen is not None and number <= seen:
                    continue
                missed += number - seen - 1 if seen is not None else 0
                self.seen[stream] = number
                with memoryview(packet) as view:
                    found.setdefault(stream, []).append(bytes(view))
        # Made now: what these records are was declared before.
        decoder = Decoder(channel_layout(self._channel, holes=True))
        return Look(decoder, [[(decoder.read_packet(one), one) for one in found[key]] for key in sorted(found)], missed)

    def _taken(self, reader) -> Iterator:
        if self._flush:
            reader.flush()
        with contextlib.suppress(EndOfStream):
            while (packet := reader.next(timeout=0)) is not None:
                with packet:
                    yield packet

    @property
    def is_over(self) -> bool:
        """Nothing will come any more."""
        return self._channel.is_finalized
