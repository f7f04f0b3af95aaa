"""Opens trace directories: records of all streams by time, NumPy columns, losses.

    with ringbuf.open_trace("out") as trace:
        for record in trace:
            print(record.timestamp, record.name, record.fields)
        orders = trace.to_numpy("checkout")["order"]

Files are read in pieces of about `_CHUNK` bytes, so that a trace may be larger
than memory, and by read(), not mmap(), so that a file that is cut short while
it is read is an error and not a SIGBUS.
"""

from __future__ import annotations

import bisect
import contextlib
import errno
import fnmatch
import functools
import html
import itertools
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType

from .._decode import Decoder, Packet, Printer, Record, empty_rows, merged, merged_rows
from ..ctf import tsdl
from ..errors import TraceError
from ..limits import DEFAULT, Limits
from . import tables
from .pairs import Pairs

__all__ = ["Damage", "Event", "FieldInfo", "Lost", "Stream", "Trace", "open_trace"]

_CHUNK = 256 * 1024
_HEADER = 4096
_ROWS = 1 << 18  # read at a time: more does not fit a processor's own cache
_NEVER = 2**63
_SHOWN_AT_ONCE = 64 << 20  # bytes, by a notebook
_HINTS = 1000  # directories looked into for a trace: not the whole machine's


def open_trace(path, *, errors: str = "raise", limits: Limits = DEFAULT) -> Trace:
    """Open a CTF 1.8 trace: one that ringbuf wrote, or one from LTTng.

    Parameters
    ----------
    path : path-like
        The directory that has the file ``metadata``.
    errors : {"raise", "skip"}
        What to do with a damaged packet: raise, or leave out that packet alone
        and count it in `Trace.skipped_packets`.
    limits : ringbuf.limits.Limits
        What the trace may ask of its reader, so that one from somebody else takes
        no more memory and time than its size justifies.

    Returns
    -------
    Trace

    Raises
    ------
    TraceError
        There is no readable metadata; says why, with the line.
    """
    return Trace(path, errors=errors, limits=limits)


@dataclass(frozen=True)
class FieldInfo:
    """A field or context of an event.

    Attributes
    ----------
    name : str
    type : str
        As in a schema text, such as ``"u32[]"``. For what a schema cannot say:
        ``"u24"``, ``"str[8]"``, ``"struct"``, ``"variant"``, ``"struct[]"``.
    labels : mapping of str to (int, int)
        Of an enumeration: lowest and highest value of each label.
    """

    name: str
    type: str
    labels: MappingProxyType


@dataclass(frozen=True)
class Event:
    """An event class. `contexts` has those of all events of its stream first."""

    name: str
    id: int
    stream_id: int
    contexts: tuple[FieldInfo, ...]
    fields: tuple[FieldInfo, ...]


@dataclass(frozen=True)
class Lost:
    """What the producer counted as lost, told from one packet to the next.

    Attributes
    ----------
    events : int
        Events that were discarded between the first packet and the last.
    packets : int
        Packets that are missing between the first and the last.
    events_before : int
        The count that the first packet of each stream already had: events that
        were discarded since tracing began, before or during that packet.
        babeltrace2 reports these, too, but without a number.
    streams : tuple of Lost
        The same for each of `Trace.streams`.
    """

    events: int = 0
    packets: int = 0
    events_before: int = 0
    streams: tuple[Lost, ...] = ()


@dataclass(frozen=True)
class Damage:
    """A place in a file that could not be read: see `Trace.damage`.

    Attributes
    ----------
    file : str
    offset : int
        Byte at which the packet is, or would be.
    reason : str
    """

    file: str
    offset: int
    reason: str


@dataclass(frozen=True, eq=False)
class Stream:
    """Packets that one producer, such as a CPU's ring, wrote one after another.

    Attributes
    ----------
    id : int
        Stream class.
    instance_id : int or None
    cpu : int or None
    packets : tuple of Packet
        In order of time.
    lost : Lost
    gaps : tuple of (Packet, Packet, int, int)
        Neighbours between which something is missing: how many events were discarded, how many
        packets are not there.
    """

    id: int
    instance_id: int | None
    cpu: int | None
    packets: tuple[Packet, ...]
    lost: Lost
    gaps: tuple[tuple[Packet, Packet, int, int], ...] = ()


class Trace:
    """A trace directory. Made by `open_trace`; a context manager.

    Iterating gives the records of all streams, merged by time; records of the
    same time are in the order of `streams`, and those of a stream stay in its
    order. ``record.timestamp`` is in nanoseconds since the Unix epoch. Each
    iterator starts from the beginning.

    Attributes
    ----------
    path : str
    env : mapping of str to (str or int)
        What the tracer said of itself, such as ``hostname``.
    clock : tsdl.Clock or None
        The first one declared; LTTng and ringbuf declare one.
    events : mapping of str to Event
        By name; of classes that share a name, the first. `event_classes` has all.
    event_classes : tuple of Event

    Thread safety: any number of threads; an iterator belongs to one of them.
    """

    def __init__(self, path, *, errors: str = "raise", limits: Limits = DEFAULT) -> None:
        if errors not in ("raise", "skip"):
            raise ValueError(f"errors is 'raise' or 'skip', not {errors!r}")
        self.path = os.fsdecode(path)
        self._skips = errors == "skip"
        self._skipped: dict[tuple[str, int], str] = {}
        self._is_closed = False
        self.when_read = None  # is told of each piece that was read: its size in bytes
        model = tsdl.parse(tsdl.text_of(_metadata(self.path, limits.metadata_size)))
        self._decoder = Decoder(model, limits)
        self.env = MappingProxyType(model.env)
        self.clock = next(iter(model.clocks.values()), None)
        streams = model.streams.values()
        self.event_classes = tuple(_event(stream, event) for stream in streams for event in _by_id(stream))
        self.events = MappingProxyType({event.name: event for event in reversed(self.event_classes)})

    def __enter__(self) -> Trace:
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()

    def close(self) -> None:
        """Refuse further reading. No file is kept open, so this is optional."""
        self._is_closed = True

    def __repr__(self) -> str:
        sizes = f"{len(self.events)} events, {len(self.streams)} streams, {len(self.packets)} packets"
        return f"<Trace {self.path!r}: {sizes}>"

    def _repr_html_(self) -> str:
        """A table of what is in it; of a large one, which would have to be read for that, only what it is."""
        from .about import about

        if sum(packet.size for packet in self.packets) > _SHOWN_AT_ONCE:
            return f"<code>{html.escape(repr(self))}</code>"
        return about(self)._repr_html_()

    # ---- packets ----

    @functools.cached_property
    def streams(self) -> tuple[Stream, ...]:
        """The streams, by stream class and instance."""
        files: dict[tuple, list[list[Packet]]] = {}
        for name in sorted(os.listdir(self.path)):
            packets = self._packets_of(name) if self._is_stream_file(name) else []
            for key, group in _grouped(packets, name).items():
                files.setdefault(key, []).append(group)
        return tuple(_stream(files[key], _discarded_bits(self._decoder.model, key[0])) for key in sorted(files))

    @property
    def packets(self) -> tuple[Packet, ...]:
        """All packets, stream by stream."""
        return tuple(packet for stream in self.streams for packet in stream.packets)

    @property
    def skipped_packets(self) -> int:
        """Damaged places that were left out so far; with ``errors="skip"``."""
        return len(self._skipped)

    @property
    def damage(self) -> tuple[Damage, ...]:
        """Those places, by file and offset."""
        return tuple(Damage(file, offset, why) for (file, offset), why in sorted(self._skipped.items()))

    @property
    def lost(self) -> Lost:
        """What was lost, as the packets tell."""
        parts = tuple(stream.lost for stream in self.streams)
        events, packets = sum(one.events for one in parts), sum(one.packets for one in parts)
        return Lost(events, packets, sum(one.events_before for one in parts), parts)

    @property
    def time_range(self) -> tuple[int, int] | None:
        """First beginning and last end of a packet, in nanoseconds since the Unix epoch; None without packets."""
        begins = [packet.begin for packet in self.packets if packet.begin is not None]
        ends = [packet.end for packet in self.packets if packet.end is not None]
        return (min(begins), max(ends)) if begins and ends else None

    def _is_stream_file(self, name: str) -> bool:
        path = os.path.join(self.path, name)
        return name != "metadata" and not name.startswith(".") and os.path.isfile(path)

    def _packets_of(self, name: str) -> list[Packet]:
        packets, offset = [], 0
        with open(os.path.join(self.path, name), "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            while offset < size:
                header = os.pread(file.fileno(), _HEADER, offset)
                try:
                    packet = self._decoder.read_packet(header, available=size - offset, file=name, position=offset)
                except TraceError as error:
                    self._skip(name, offset, error)
                    offset = self._next_packet(file, offset + 1, size)
                else:
                    packets.append(packet)
                    offset += packet.size
        return packets

    def _next_packet(self, file, offset: int, size: int) -> int:
        """Where the next packet header seems to be, judging by its magic number and the trace's UUID."""
        order = "<" if self._decoder.model.byte_order == "le" else ">"
        pattern = struct.pack(order + "I", tsdl.PACKET_MAGIC) + (self._decoder.model.uuid or b"")
        while offset < size:
            offset = _next_data(file.fileno(), offset, size)
            piece = os.pread(file.fileno(), _CHUNK, offset)
            found = piece.find(pattern)
            if found >= 0:
                return offset + found
            # A pattern that the piece cuts in two begins in the next one.
            offset += max(1, len(piece) - len(pattern) + 1)
        return size

    def _skip(self, name: str, offset: int, error: TraceError) -> None:
        """Note a damaged place, or raise the error."""
        if not self._skips:
            raise error
        self._skipped[name, offset] = str(error)

    def _chunks(
        self, stream: Stream, begin: int = -_NEVER, end: int = _NEVER - 1
    ) -> Iterator[tuple[memoryview, list[tuple[Packet, int]], int]]:
        """Bytes, the packets in them with their places, and the earliest time of what follows.

        The bytes are good until the next chunk is asked for. Packets that cannot have a record
        from `begin` to `end` are left out.
        """
        run: list[Packet] = []
        buffer = bytearray()
        packets = [packet for packet in stream.packets if _overlaps(packet, begin, end)]
        for index, packet in enumerate(packets):
            run.append(packet)
            after = packets[index + 1] if index + 1 < len(packets) else None
            joins = after is not None and (after.file, after.offset) == (packet.file, packet.offset + packet.size)
            if not joins or packet.offset + packet.size - run[0].offset >= _CHUNK:
                start = run[0].offset
                size = packet.offset + packet.content_size - start
                if size > len(buffer):
                    buffer = bytearray(size)
                data = memoryview(buffer)[:size]
                self._read(packet.file, start, data)
                yield data, [(one, one.offset - start) for one in run], _begin_of(after)
                run = []

    def _read(self, name: str, offset: int, data: memoryview) -> None:
        if self._is_closed:
            raise ValueError("the trace is closed")
        with open(os.path.join(self.path, name), "rb", buffering=0) as file:
            file.seek(offset)
            done = 0
            while done < len(data):
                count = file.readinto(data[done:])
                if not count:
                    raise TraceError(f"{name}: the file was cut short while it was read")
                done += count
        if self.when_read is not None:
            self.when_read(len(data))

    # ---- records ----

    def __iter__(self) -> Iterator[Record]:
        return self.records()

    def records(self, events=None, *, begin: int | None = None, end: int | None = None) -> Iterator[Record]:
        """The records of some events, or of some time.

        Parameters
        ----------
        events : str or iterable of str, optional
            Names, or patterns such as ``"db.*"``; all by default.
        begin, end : int, optional
            Earliest and latest time, in nanoseconds since the Unix epoch.

        Yields
        ------
        Record

        Raises
        ------
        TraceError
            No event has such a name; or a packet is damaged.
        """
        names = frozenset(self.event_names(events))
        first, last = _bounds(begin, end)
        records = merged([self._records(stream, first, last) for stream in self.streams])
        if begin is None and end is None and len(names) == len(self.events):
            return records
        return (one for one in records if one.name in names and first <= one.timestamp <= last)

    def event_names(self, events=None) -> list[str]:
        """Names of events, all or those that `events` asks for as in `records`; in the order of their declaration."""
        names = list(dict.fromkeys(self._decoder.event_names))
        if events is None:
            return names
        wanted: set[str] = set()
        for pattern in [events] if isinstance(events, str) else events:
            found = [pattern] if pattern in names else fnmatch.filter(names, pattern)
            if not found:
                raise TraceError(f"{self.path}: no event is called {pattern!r}")
            wanted.update(found)
        return [name for name in names if name in wanted]

    def _records(self, stream: Stream, begin: int = -_NEVER, end: int = _NEVER - 1) -> Iterator[Record]:
        for data, places, _ in self._chunks(stream, begin, end):
            for packet, offset in places:
                try:
                    records = self._decoder.packet_records(data, packet, offset=offset, in_ns=True)
                except TraceError as error:
                    self._skip(packet.file, packet.offset, error)
                else:
                    yield from records

    def packets_with_bytes(self, stream: Stream) -> Iterator[tuple[memoryview, Packet, int]]:
        """Bytes, a packet in them, and where it begins there: good until the next is asked for."""
        for data, places, _ in self._chunks(stream):
            for packet, offset in places:
                yield data, packet, offset

    @contextlib.contextmanager
    def skipping(self, packet: Packet):
        """What is done here with a packet is left out if that is damaged, and if damage is to be left out."""
        try:
            yield
        except TraceError as error:
            self._skip(packet.file, packet.offset, error)

    # ---- counts ----

    def count(self) -> dict[str, int]:
        """How many events there are of each name, those with none included.

        Raises
        ------
        TraceError
            A packet is damaged.
        """
        return dict(self._counts)

    def __len__(self) -> int:
        return sum(self._counts.values())

    @functools.cached_property
    def _counts(self) -> dict[str, int]:
        counts = self._decoder.new_counts()
        for stream in self.streams:
            for data, packet, offset in self.packets_with_bytes(stream):
                with self.skipping(packet):
                    self._decoder.count_events(data, packet, counts, offset=offset)
        totals = dict.fromkeys(self._decoder.event_names, 0)
        for name, count in zip(self._decoder.event_names, counts, strict=False):
            totals[name] += count
        return totals

    # ---- spans and calls ----

    def spans(self, names=None, **wanted) -> Pairs:
        """The spans: begins joined with their ends.

        Parameters
        ----------
        names : str or iterable of str, optional
            Names, or patterns such as ``"db.*"``; all by default.
        **wanted
            Which of them, as for `Pairs.where`.

        Returns
        -------
        Pairs
            Nothing is read before it is asked for.

        Raises
        ------
        TraceError
            No span has such a name.

        >>> for span in trace.spans("db", min_duration=1_000_000):
        ...     print(span.name, span.duration, span.fields)
        >>> rows = trace.spans().to_numpy()
        """
        return Pairs(self, ("span",)).where(names, **wanted)

    def calls(self, names=None, **wanted) -> Pairs:
        """The calls of functions, as `spans`."""
        return Pairs(self, ("call",)).where(names, **wanted)

    def pairs(self, names=None, **wanted) -> Pairs:
        """Spans and calls in one, as `spans`: a trace is read once for both."""
        return Pairs(self).where(names, **wanted)

    def summary(self, by: str | None = None, *, sort: str = "total", top: int | None = None, names=None, **wanted):
        """Where time went, by name, task, thread or process.

        Parameters
        ----------
        by : {"span", "function", "event", "task", "thread", "process"}, optional
            What a row is of. By default spans and functions; of a trace that has neither, events.
        sort : str
            A column: "total", "self", "count", "min", "p50", "p90", "p99", "max", "errors", "missing" or "name".
        top : int, optional
            Only the first so many.
        names, **wanted
            Which spans, calls or events, as for `Pairs.where`; events are of no duration or depth.

        Returns
        -------
        summary.Summary
            Iterable; prints as a table. Percentiles are exact up to four million durations, and beyond
            right to `Summary.error` of themselves.

        Raises
        ------
        TraceError
            A packet is damaged, or nothing has such a name.

        >>> print(trace.summary("span", sort="p99", top=10))
        """
        from .summary import summarized

        return summarized(self, by, sort=sort, top=top, names=names, **wanted)

    def packet_bytes(self, packet: Packet) -> memoryview:
        """The bytes of one packet.

        Raises
        ------
        TraceError
            The file was cut short.
        """
        data = memoryview(bytearray(packet.content_size))
        self._read(packet.file, packet.offset, data)
        return data

    # ---- columns ----

    def to_numpy(self, name: str | None = None):
        """The events of one name as a structured array, by time; or all, as a dict of them.

        Parameters
        ----------
        name : str, optional

        Returns
        -------
        numpy.ndarray or dict of str to numpy.ndarray
            One dimension. Columns: ``timestamp`` (i8, nanoseconds since the
            Unix epoch), ``cpu`` (i4, -1 if unknown), contexts, fields. Numbers
            and bools have the dtype that holds them, enumerations that of their
            container (labels: ``trace.events[name]``), fixed arrays are
            subarrays; what varies in size is an object: str, bytes, or an array
            for a sequence. Ordered as records are.

        Raises
        ------
        KeyError
            There is no such event.
        TraceError
            A packet is damaged; or event classes of the same name differ in
            their columns.
        """
        names = list(dict.fromkeys(self._decoder.event_names)) if name is None else [name]
        dtypes = {one: self._dtype(one) for one in names}
        # Counting first is cheaper than joining many parts, and takes half the memory.
        whole = {one: empty_rows(self._counts[one], dtypes[one]) for one in names}
        filled = dict.fromkeys(names, 0)
        for one, rows in self._columns(names, _ROWS):
            _copy_rows(whole[one][filled[one] :], rows)
            filled[one] += len(rows)
        whole = {one: rows[: filled[one]] for one, rows in whole.items()}
        return whole if name is None else whole[name]

    def to_arrow(self, name: str | None = None):
        """The same as `to_numpy`, as a pyarrow.Table or a dict of them.

        ``timestamp`` is a time in UTC. Text that is no UTF-8 has the replacement
        character U+FFFD where it is not.

        Raises
        ------
        ImportError
            pyarrow is not installed.
        KeyError, TraceError
            As `to_numpy`.
        """
        return self._converted(tables.to_arrow, name)

    def to_pandas(self, name: str | None = None):
        """The same as `to_arrow`, as a pandas.DataFrame or a dict of them."""
        return self._converted(tables.to_pandas, name)

    def to_polars(self, name: str | None = None):
        """The same as `to_arrow`, as a polars.DataFrame or a dict of them."""
        return self._converted(tables.to_polars, name)

    def export(self, path, *, events=None, begin: int | None = None, end: int | None = None) -> None:
        """Write the trace to a file of another format, that of its name.

        Parameters
        ----------
        path : path-like
            ``x.pftrace`` (Perfetto) or ``x.json`` (Chrome), both for ui.perfetto.dev and
            with or without ``.gz``; or ``x.parquet``. It appears when it is complete, and
            then takes the place of one that is there.
        events, begin, end
            Which records, as for `records`.

        Memory is bounded, whatever the trace's size. docs/formats.md says what becomes of a record.

        Raises
        ------
        ValueError
            No such format; or the file would be in the trace's own directory, and spoil it.
        ImportError
            For Parquet: pyarrow is not installed.
        TraceError
            As `records`.
        OSError
            The file cannot be written.
        """
        from .export import export

        export(self, path, events=events, begin=begin, end=end)

    def _converted(self, convert, name: str | None):
        if name is None:
            return {one: convert(rows, self._types(one)) for one, rows in self.to_numpy().items()}
        return convert(self.to_numpy(name), self._types(name))

    def _types(self, name: str) -> dict[str, str]:
        return self._column_types(self._decoder.event_indexes(name)[0])

    def _column_types(self, index: int) -> dict[str, str]:
        """Of an event class: the schema type of each column after the first two."""
        event, names = self.event_classes[index], self._decoder.dtype(index).names[2:]
        return dict(zip(names, (one.type for one in event.contexts + event.fields), strict=True))

    def _empty_rows(self, index: int):
        return empty_rows(0, self._decoder.dtype(index))

    def iter_numpy(self, name: str, rows: int = _ROWS):
        """The same rows as `to_numpy`, a part at a time, in bounded memory.

        Parameters
        ----------
        name : str
        rows : int
            About how many to return at a time.

        Yields
        ------
        numpy.ndarray

        Raises
        ------
        KeyError, TraceError
            As `to_numpy`.
        """
        self._dtype(name)
        return (part for _, part in self._columns([name], rows))

    def _columns(self, names: list[str], limit: int):
        """(name, rows) in order of time for each name, about every `limit` rows."""
        return itertools.chain.from_iterable(
            self._column_batches({name: self._decoder.event_indexes(name) for name in names}, limit)
        )

    def class_rows(self, indexes) -> Iterator:
        """Rows of event classes (indexes into `event_classes`), each class for itself, a part at a time."""
        batches = self._column_batches({index: [index] for index in indexes}, _ROWS) if indexes else ()
        return (rows for _, rows in itertools.chain.from_iterable(batches))

    def _column_batches(self, classes: dict, limit: int, begin: int | None = None, end: int | None = None):
        """As `batches`, of the event classes (indexes) that `classes` has for each key."""
        decoder = self._decoder
        lanes = [{key: list(map(decoder.table, classes[key])) for key in classes} for _ in self.streams]

        def fill(data, packet, offset, tables):
            return decoder.fill(data, packet, tables, offset=offset)

        return self.batches(lanes, limit, fill, *_bounds(begin, end))

    def _dtype(self, name: str):
        indexes = self._decoder.event_indexes(name)
        if not indexes:
            raise KeyError(name)
        dtypes = [self._decoder.dtype(index) for index in indexes]
        if any(dtype != dtypes[0] for dtype in dtypes):
            raise TraceError(f"the event classes called {name!r} differ in their columns")
        return dtypes[0]

    # ---- text ----

    def iter_text(
        self, records: int = 1 << 14, *, events=None, begin: int | None = None, end: int | None = None
    ) -> Iterator[str]:
        """The records as text, a line for each, as ``babeltrace2 --clock-date`` prints them.

        Times are local. Members that only help to read another one, such as
        the length of a sequence, are left out.

        Parameters
        ----------
        records : int
            About how many to return at a time.
        events, begin, end
            Which, as for `records`.

        Yields
        ------
        str
            Whole lines.

        Raises
        ------
        TraceError
            As `records`.
        """
        names = frozenset(self.event_names(events))
        first, last = _bounds(begin, end)
        printer = Printer(self._decoder, self._origin(), len(self.streams), names=names, begin=first, end=last)

        def fill(data, packet, offset, lanes):
            return printer.fill(data, packet, lanes[0], offset=offset)

        lanes = [{None: [lane]} for lane in printer.lanes]
        for ((_, rows),) in self.batches(lanes, records, fill, first, last):
            yield printer.lines(rows)

    def _origin(self) -> str:
        known = [str(self.env[name]) for name in ("hostname", "domain", "procname") if name in self.env]
        known += [f"({self.env['vpid']})"] if "vpid" in self.env else []
        return ":".join(known) + " " if known else ""

    # ---- all streams together ----

    def batches(self, lanes, limit: int, fill, begin: int = -_NEVER, end: int = _NEVER - 1):
        """Lists of (key, rows), about every `limit` rows; each key's rows are in order of time.

        All rows of a list are earlier than those of the next. `lanes` has for each stream
        {key: tables}; fill(data, packet, offset, tables) adds a packet to all tables of its stream.
        """
        merges = {key: _Merge() for lane in lanes for key in lane}
        pairs = zip(self.streams, lanes, strict=True)
        sources = [self._filled(stream, lane, fill, begin, end) for stream, lane in pairs]
        # Earliest time that a stream can still bring. The one that holds up all others goes on.
        frontiers = [-_NEVER] * len(sources)
        waiting = 0
        while sources and min(frontiers) < _NEVER:
            behind = frontiers.index(min(frontiers))
            added, frontiers[behind] = next(sources[behind], (0, _NEVER))
            waiting += added
            if waiting >= limit or min(frontiers) == _NEVER:
                for index, lane in enumerate(lanes):
                    for key, tables in lane.items():
                        merges[key].add(index, tables)
                found = [(key, merge.before(min(frontiers))) for key, merge in merges.items()]
                batch = [(key, rows) for key, rows in found if rows is not None]
                waiting -= sum(len(rows) for _, rows in batch)
                if batch:
                    yield batch

    def _filled(self, stream: Stream, lane, fill, begin: int, end: int) -> Iterator[tuple[int, int]]:
        """Chunk by chunk: how many rows were added to the lane, and the earliest time of what follows."""
        tables = [table for some in lane.values() for table in some]
        for data, places, frontier in self._chunks(stream, begin, end):
            added = 0
            for packet, offset in places:
                with self.skipping(packet):
                    added += fill(data, packet, offset, tables)
            yield added, frontier


def _copy_rows(room, rows) -> None:
    """Copy rows to the beginning of `room`."""
    if len(rows) > len(room):
        raise TraceError("the trace changed while it was read")
    if rows.dtype.hasobject:
        room[: len(rows)] = rows
    else:
        # As bytes: structures would be copied field by field.
        room[: len(rows)].view("u1")[:] = rows.view("u1")


class _Merge:
    """Rows that wait for slower streams."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[int, int], list] = {}  # by stream and event class

    def add(self, stream: int, tables) -> None:
        """Take the rows out of the tables of a stream."""
        for index, table in enumerate(tables):
            if len(table):
                self._waiting.setdefault((stream, index), []).append(table.take())

    def before(self, time: int):
        """Take out the rows earlier than `time`, merged; None if there are none."""
        ready = []
        for lane in sorted(self._waiting):
            pieces = self._waiting[lane]
            cuts = [(rows, _count_before(rows, time)) for rows in pieces]
            ready.append([rows[:count] for rows, count in cuts])
            self._waiting[lane] = [rows[count:] for rows, count in cuts if count < len(rows)]
        return merged_rows(ready) if any(len(rows) for pieces in ready for rows in pieces) else None


def _count_before(rows, time: int) -> int:
    times = rows["timestamp"]
    # searchsorted() would copy the column.
    return len(times) if times[-1] < time else bisect.bisect_left(times, time)


# ---- what is in the directory ----


def _next_data(fd: int, offset: int, size: int) -> int:
    """The first place from `offset` on that is not in a hole of the file, where the file system knows."""
    try:
        return os.lseek(fd, offset, os.SEEK_DATA)
    except OSError as error:
        return size if error.errno == errno.ENXIO else offset


def _metadata(path: str, limit: int) -> bytes:
    if not os.path.isdir(path):
        raise TraceError(f"{path}: not a directory")
    name = os.path.join(path, "metadata")
    if os.path.lexists(name) and not os.path.isfile(name):
        raise TraceError(f"{name}: not a file")  # to open a fifo is to wait for who writes
    try:
        with open(name, "rb") as file:
            text = file.read(limit + 1)
        if len(text) > limit:
            raise TraceError(f"{name}: it has more than {limit} bytes, which limits.metadata_size allows")
        return text
    except FileNotFoundError:
        raise TraceError(f"{path}: there is no file called metadata{_hint(path)}") from None


def _hint(path: str) -> str:
    """LTTng writes its traces some directories below the one it is given."""
    for directory, _, files in itertools.islice(os.walk(path), _HINTS):
        if "metadata" in files:
            return f"; but there is one in {directory}"
    return ""


def _grouped(packets: list[Packet], name: str) -> dict[tuple, list[Packet]]:
    groups: dict[tuple, list[Packet]] = {}
    for packet in packets:
        instance = packet.stream_instance_id
        # Without an instance id, each file is a stream of its own.
        key = (packet.stream_id, 0, instance, "") if instance is not None else (packet.stream_id, 1, 0, name)
        groups.setdefault(key, []).append(packet)
    return groups


def _stream(files: list[list[Packet]], discarded_bits: int) -> Stream:
    packets = [packet for packets in files for packet in packets]
    if len(files) > 1:
        # One stream in many files: trace file rotation.
        packets.sort(key=_begin_of)
    first, gaps = packets[0], tuple(_gaps(packets, discarded_bits))
    lost = Lost(sum(gap[2] for gap in gaps), sum(gap[3] for gap in gaps), first.events_discarded or 0)
    return Stream(first.stream_id, first.stream_instance_id, first.cpu, tuple(packets), lost, gaps)


def _begin_of(packet: Packet | None) -> int:
    if packet is None:
        return _NEVER
    return -_NEVER if packet.begin is None else packet.begin


def _bounds(begin: int | None, end: int | None) -> tuple[int, int]:
    """Times that 64 bits hold: none is beyond them."""
    first = -_NEVER if begin is None else min(max(begin, -_NEVER), _NEVER - 1)
    return first, _NEVER - 1 if end is None else min(max(end, -_NEVER), _NEVER - 1)


def _overlaps(packet: Packet, begin: int, end: int) -> bool:
    return (packet.end is None or packet.end >= begin) and (packet.begin is None or packet.begin <= end)


def _gaps(packets: list[Packet], discarded_bits: int) -> Iterator[tuple[Packet, Packet, int, int]]:
    """See `Stream.gaps`."""
    for before, after in itertools.pairwise(packets):
        events = missing = 0
        if before.events_discarded is not None and after.events_discarded is not None:
            # A narrow counter may have begun again from 0.
            events = (after.events_discarded - before.events_discarded) % (1 << discarded_bits)
        if before.sequence_number is not None and after.sequence_number is not None:
            missing = max(0, after.sequence_number - before.sequence_number - 1)
        if events or missing:
            yield before, after, events, missing


# ---- what is in the metadata ----


def _by_id(stream: tsdl.Stream) -> list[tsdl.Event]:
    return sorted(stream.events.values(), key=lambda event: event.id)


def _event(stream: tsdl.Stream, event: tsdl.Event) -> Event:
    contexts = _fields(stream.event_context) + _fields(event.context)
    return Event(event.name, event.id, event.stream_id, contexts, _fields(event.fields))


def _fields(kind: tsdl.Struct | None) -> tuple[FieldInfo, ...]:
    if kind is None:
        return ()
    fields, align = [], 1
    for name, member in tsdl.visible_members(kind):
        if name is not None:
            fields.append(FieldInfo(name, _type(member, align), MappingProxyType(_labels(member))))
            align = 1
        elif isinstance(member, tsdl.Variant):
            # Padding: what follows is aligned.
            align = max(option.align for _, option in member.options) // 8
    return tuple(fields)


def _labels(kind: tsdl.Type) -> dict[str, tuple[int, int]]:
    return {label: (low, high) for label, low, high in kind.labels} if isinstance(kind, tsdl.Enum) else {}


def _type(kind: tsdl.Type, align: int = 1) -> str:
    if isinstance(kind, tsdl.Integer):
        return "bool" if (kind.alias, kind.size) == ("bool_t", 8) else f"{'i' if kind.signed else 'u'}{kind.size}"
    if isinstance(kind, tsdl.Enum):
        return f"{_type(kind.container)}{{{','.join(_label(*one) for one in kind.labels)}}}"
    if isinstance(kind, (tsdl.Array, tsdl.Sequence)):
        return _type_of_many(kind, align)
    if isinstance(kind, tsdl.Float):
        return f"f{kind.size}"
    return {tsdl.String: "str", tsdl.Struct: "struct", tsdl.Variant: "variant"}[type(kind)]


def _type_of_many(kind: tsdl.Array | tsdl.Sequence, align: int) -> str:
    element = kind.element
    length = kind.length if isinstance(kind, tsdl.Array) else ""
    if isinstance(element, tsdl.Integer) and element.size == 8:
        if element.encoding:
            return f"str[{length}]"
        if element.alias == "byte_t" and length == "":
            return "bytes" if align == 1 else f"bytes@{align}"
    return f"{_type(element)}[{length}]"


def _label(label: str, low: int, high: int) -> str:
    return f"{label}={low}" if low == high else f"{label}={low}...{high}"


def _discarded_bits(model: tsdl.Trace, stream_id: int) -> int:
    context = model.streams[stream_id].packet_context or tsdl.Struct()
    counter = dict(context.members).get("events_discarded")
    return counter.size if isinstance(counter, tsdl.Integer) else 64
