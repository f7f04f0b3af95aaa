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
import fnmatch
import functools
import html
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import MappingProxyType

from .._decode import Decoder, Packet, Page, Printer, Record, Rows, empty_rows, merged, merged_rows, plain_rows
from ..ctf import model
from ..errors import TraceError
from ..limits import DEFAULT, Limits
from . import tables
from .counters import Counted
from .flows import Flow
from .pairs import KINDS, Pairs
from .sources import Damage, Gap, Source, sources_in
from .threads import UnknownName

__all__ = ["Damage", "Event", "FieldInfo", "Lost", "Source", "Stream", "Trace", "open_trace"]

_CHUNK = 256 * 1024
_ROWS = 1 << 16  # read at a time: more does not fit a processor's own cache
_HELD = 32 << 20  # bytes of text that may wait for other streams, and a packet's more
_NEVER = 2**63
_SHOWN_AT_ONCE = 64 << 20  # bytes, by a notebook


def open_trace(path, *, errors: str = "raise", limits: Limits = DEFAULT) -> Trace:
    """Open a trace in CTF 1.8 or CTF 2, by ringbuf, LTTng, barectf or whoever; or a session of several.

    Parameters
    ----------
    path : path-like
        The directory that has the file ``metadata``; or one above several of these, such
        as the output of an LTTng session, or a set gathered from many machines. Then all traces
        in it are read as one, by time. Or the same as a URL of fsspec's, with ``://``.
    errors : {"raise", "skip"}
        What to do where a packet is damaged. All records before that place are given in
        either case. Then: raise; or go on with the next packet, and tell of the place in
        `Trace.damage`.
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
    _kind: model.Type = field(repr=False, compare=False)


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
    source : Source
        The trace it is of; one of `Trace.sources`.
    """

    id: int
    instance_id: int | None
    cpu: int | None
    packets: tuple[Packet, ...]
    lost: Lost
    gaps: tuple[tuple[Packet, Packet, int, int], ...]
    source: Source
    _broken: MappingProxyType  # {file and offset of the packet before, or the file and -1: Gap}


class Trace:
    """A trace, or several that are read as one. Made by `open_trace`; a context manager.

    Iterating gives the records of all streams, merged by time; records of the
    same time are in the order of `streams`, and those of a stream stay in its
    order. ``record.timestamp`` is in nanoseconds since the Unix epoch. Each
    iterator starts from the beginning.

    Attributes
    ----------
    path : str
    sources : tuple of Source
        Mostly one; of a session, each trace in it.
    env : mapping of str to (str or int)
        What the tracer said of itself, such as ``hostname``. Of several sources: what is
        the same in all.
    clock : Clock or None
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
        self._damage: dict[tuple[str, int], Damage] = {}
        self._is_closed = False
        self.when_read = None  # is told of each piece that was read: its size in bytes
        self.sources = tuple(sources_in(self.path, limits))
        self.env = _common([source.env for source in self.sources])
        clocks = (clock for source in self.sources for clock in source.clocks.values())
        self.clock = next(clocks, None)
        classes = [(source, stream, event) for source in self.sources for stream, event in _classes(source)]
        self.event_classes = tuple(_event(stream, event) for _, stream, event in classes)
        self.events = MappingProxyType({event.name: event for event in reversed(self.event_classes)})
        # Where the event classes of each source begin among all.
        starts = itertools.accumulate((len(source.decoder.event_names) for source in self.sources), initial=0)
        self.first_class = dict(zip(self.sources, starts, strict=False))

    def __enter__(self) -> Trace:
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()

    def close(self) -> None:
        """Refuse further reading. No file is kept open, so this is optional."""
        self._is_closed = True

    @functools.cached_property
    def manifest(self):
        """Of a set gathered from many machines, what its manifest says (`ringbuf.fleet.manifest.Manifest`); else None.

        Raises
        ------
        TraceError
            There is one that cannot be read.
        """
        from ..fleet.manifest import read_manifest

        return read_manifest(self.sources[0].place)

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
        """The streams, by source, stream class and instance."""
        return tuple(stream for source in self.sources for stream in self._streams_of(source))

    def _streams_of(self, source: Source) -> list[Stream]:
        files: dict[tuple, list[list[Packet]]] = {}
        gaps: dict[tuple[str, int], Gap] = {}
        for name, packets, found in source.files():
            for key, group in _grouped(packets, name).items():
                files.setdefault(key, []).append(group)
            before = {(packet.file, packet.offset + packet.size): packet.offset for packet in packets}
            for gap in found:
                gaps[gap.file, before.get((gap.file, gap.offset), -1)] = gap
                self._note_gap(gap, packets)
            if found and not packets and not self._skips:
                raise found[0].error
        return [_stream(source, key, files[key], gaps) for key in sorted(files)]

    def _note_gap(self, gap: Gap, packets: list[Packet]) -> None:
        before = [packet for packet in packets if packet.offset < gap.offset]
        after = [packet for packet in packets if packet.offset > gap.offset]
        first, last = before[-1] if before else None, after[0] if after else None
        missing = None
        if first and last and first.sequence_number is not None and last.sequence_number is not None:
            missing = max(0, last.sequence_number - first.sequence_number - 1)
        begin, end = first and first.end, last and last.begin
        reason = _reason(gap.error)
        self._damage[gap.file, gap.offset] = Damage(
            gap.file, gap.offset, gap.size, reason, packets=missing, begin=begin, end=end
        )

    @property
    def packets(self) -> tuple[Packet, ...]:
        """All packets, stream by stream."""
        return tuple(packet for stream in self.streams for packet in stream.packets)

    @property
    def damage(self) -> tuple[Damage, ...]:
        """The damaged places that were found so far, by file: what was read tells, and what is between packets."""
        self.streams  # noqa: B018 - looks at all packets' headers
        return tuple(self._damage[place] for place in sorted(self._damage))

    @property
    def skipped_packets(self) -> int:
        """How many damaged places were left out so far; with ``errors="skip"``."""
        return len(self.damage) if self._skips else 0

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

    def _note(self, stream: Stream, packet: Packet, data, offset: int, error: TraceError) -> int:
        """Remember where a packet is damaged; the time before which all of its stream was read."""
        records, start, time = stream.source.decoder.damage_in(data, packet, offset=offset)
        self._damage[packet.file, packet.offset + start] = Damage(
            packet.file,
            packet.offset + start,
            packet.content_size - start,
            _reason(error),
            records=records,
            begin=packet.begin if time is None else time,
            end=packet.end,
        )
        # What precedes the damage may be of the very time at which the packet begins.
        return (_begin_of(packet) if time is None else time) + 1

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
            self._check_gap(stream, packet.file, -1)
            run.append(packet)
            after = packets[index + 1] if index + 1 < len(packets) else None
            has_gap = (packet.file, packet.offset) in stream._broken
            joins = after is not None and (after.file, after.offset) == (packet.file, packet.offset + packet.size)
            if not joins or packet.offset + packet.size - run[0].offset >= _CHUNK:
                start = run[0].offset
                size = packet.offset + packet.content_size - start
                if size > len(buffer):
                    buffer = bytearray(size)
                data = memoryview(buffer)[:size]
                self._read(packet.file, start, data)
                frontier = _after(packet) if has_gap and not self._skips else _begin_of(after)
                yield data, [(one, one.offset - start) for one in run], frontier
                run = []
                self._check_gap(stream, packet.file, packet.offset)

    def _check_gap(self, stream: Stream, file: str, offset: int) -> None:
        """Raise, if it is asked for, where no packet follows the one at `offset` but something else."""
        gap = stream._broken.get((file, offset))
        if gap is not None and not self._skips:
            raise gap.error

    def _read(self, name: str, offset: int, data: memoryview) -> None:
        if self._is_closed:
            raise ValueError("the trace is closed")
        with self.sources[0].place.open(name) as file:
            if file.read_into(offset, data) < len(data):
                raise TraceError(f"{name}: the file was cut short while it was read")
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
        indexes = (index for name in names for index in self._names[name])
        having = {(self._source(index), self.event_classes[index].stream_id) for index in indexes}
        streams = [stream for stream in self.streams if (stream.source, stream.id) in having]
        records = merged([self._records(stream, first, last) for stream in streams])
        if begin is None and end is None and len(names) == len(self.events):
            return records
        return (one for one in records if one.name in names and first <= _time_of(one) <= last)

    def event_names(self, events=None) -> list[str]:
        """Names of events, all or those that `events` asks for as in `records`; in the order of their declaration."""
        names = list(self._names)
        if events is None:
            return names
        wanted: set[str] = set()
        for pattern in [events] if isinstance(events, str) else events:
            found = [pattern] if pattern in names else fnmatch.filter(names, pattern)
            if not found:
                raise UnknownName(f"{self.path}: no event is called {pattern!r}")
            wanted.update(found)
        return [name for name in names if name in wanted]

    @functools.cached_property
    def _names(self) -> dict[str, list[int]]:
        """The event classes of each name, by their places in `event_classes`."""
        names: dict[str, list[int]] = {}
        for index, event in enumerate(self.event_classes):
            names.setdefault(event.name, []).append(index)
        return names

    def _owner(self, index: int) -> tuple[Decoder, int]:
        """Of an event class: the decoder, and its place among that one's classes."""
        source = self._source(index)
        return source.decoder, index - self.first_class[source]

    def _source(self, index: int) -> Source:
        """Whose an event class is."""
        return max((one for one in self.sources if self.first_class[one] <= index), key=self.first_class.get)

    def _records(self, stream: Stream, begin: int = -_NEVER, end: int = _NEVER - 1) -> Iterator[Record]:
        decoder = stream.source.decoder
        for data, places, _ in self._chunks(stream, begin, end):
            for packet, offset in places:
                with self.skipping(stream, packet, data, offset):
                    yield from decoder.packet_records(data, packet, offset=offset, in_ns=True, check=False)

    def packets_with_bytes(
        self, stream: Stream, begin: int | None = None, end: int | None = None
    ) -> Iterator[tuple[memoryview, Packet, int]]:
        """Bytes, a packet in them, and where it begins there: good until the next is asked for."""
        for data, places, _ in self._chunks(stream, *_bounds(begin, end)):
            for packet, offset in places:
                yield data, packet, offset

    @contextlib.contextmanager
    def skipping(self, stream: Stream, packet: Packet, data, offset: int):
        """Where a packet is found to be damaged here: note it; and raise, unless damage is to be skipped."""
        try:
            yield
        except TraceError as error:
            self._note(stream, packet, data, offset, error)
            if not self._skips:
                raise

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
        counts = {source: source.decoder.new_counts() for source in self.sources}
        for stream in self.streams:
            decoder = stream.source.decoder
            for data, packet, offset in self.packets_with_bytes(stream):
                with self.skipping(stream, packet, data, offset):
                    decoder.count_events(data, packet, counts[stream.source], offset=offset)
        totals = dict.fromkeys(self._names, 0)
        for source, found in counts.items():
            for name, count in zip(source.decoder.event_names, found, strict=False):
                totals[name] += count
        return totals

    def near_the_end(self, count: int, events=None, begin: int | None = None, end: int | None = None) -> dict:
        """Which records to ask for, so that the last ones are among them and as little as possible is read.

        Parameters
        ----------
        count : int
            How many are wanted.
        events, begin, end
            Which, as for `records`.

        Returns
        -------
        dict
            The arguments of `records`, with a later `begin` if that will do. All that is
            read for it is the last packets.
        """
        wanted = {"events": events, "begin": begin, "end": end}
        names = frozenset(self.event_names(events))
        found = [(packet.begin, stream, packet) for stream in self.streams for packet in stream.packets]
        if any(packet.begin is None or packet.end is None for _, _, packet in found):
            return wanted
        for start, stream, packet in sorted(found, key=lambda one: one[0], reverse=True):
            if end is not None and packet.end > end:
                continue  # some of its records are too late
            if count <= 0 or (begin is not None and start < begin):
                break
            count -= self._count_in(stream, packet, names)
            wanted["begin"] = start
        return wanted if count <= 0 else {"events": events, "begin": begin, "end": end}

    def _count_in(self, stream: Stream, packet: Packet, names: frozenset) -> int:
        decoder = stream.source.decoder
        counts = decoder.new_counts()
        with contextlib.suppress(TraceError):  # whoever reads the records is told
            decoder.count_events(self.packet_bytes(packet), packet, counts, offset=0)
        return sum(n for name, n in zip(decoder.event_names, counts, strict=False) if name in names)

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

    def pairs(self, names=None, *, kinds=("span", "call"), **wanted) -> Pairs:
        """Spans and calls in one, as `spans`: a trace is read once for both.

        Parameters
        ----------
        names, **wanted
            As for `spans`.
        kinds : iterable of str
            Of "span", "call", and what the kernel tells where its events are recorded: "run" (which thread a CPU
            ran), "irq" (what interrupted it), "syscall" (the system calls of threads).
        """
        kinds = tuple(kinds)
        unknown = [one for one in kinds if one not in KINDS.values()]
        if unknown or not kinds:
            raise ValueError(f"kinds are some of {', '.join(KINDS.values())}, not {kinds!r}")
        return Pairs(self, kinds).where(names, **wanted)

    def flows(self, *, begin: int | None = None, end: int | None = None) -> Iterator[Flow]:
        """Which spans followed from which, where neither was within the other, by time.

        Parameters
        ----------
        begin, end : int, optional
            As for `records`.

        Yields
        ------
        Flow

        Raises as `records`. `Pair.follows` has the same of one span.
        """
        from .flows import flows

        return flows(self, begin=begin, end=end)

    def counters(self, names=None, *, begin: int | None = None, end: int | None = None) -> Iterator[Counted]:
        """What counters, gauges and histograms had come to, by time.

        Parameters
        ----------
        names : str or iterable of str, optional
            Of metrics, or patterns such as ``"http_*"``; all by default.
        begin, end : int, optional
            As for `records`.

        Yields
        ------
        Counted
            One for each series whose value had changed since the look before.

        Raises as `records`.

        >>> for one in trace.counters("queue"):
        ...     print(one.time, one.labels, one.value, one.unit)
        """
        from .counters import counters

        return counters(self, names, begin=begin, end=end)

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
        if name is not None:
            rows = self._rows_of_one(name)
            if rows is not None:
                return rows
        names = list(self._names) if name is None else [name]
        dtypes = {one: self._dtype(one) for one in names}
        whole = {one: _Whole(dtypes[one], self._most_rows(one, is_alone=len(names) == 1)) for one in names}
        for one, rows in self._columns(names, _ROWS):
            whole[one].add(rows)
        found = {one: rows.take() for one, rows in whole.items()}
        return found if name is None else found[name]

    def _rows_of_one(self, name: str):
        """All events of a name that one stream has, decoded into one array; None: it takes more than that."""
        dtype = self._dtype(name)
        indexes = self._names[name]
        if len(indexes) > 1 or len(self.streams) > 1 or dtype.hasobject:
            return None
        most = self._most_rows(name, is_alone=True)
        if most is None:
            return None
        whole = _Whole(dtype, most)
        if whole.room is None:
            return None
        decoder, local = self._owner(indexes[0])
        table = decoder.table(local, whole.room)
        for stream in self.streams:
            for data, packet, offset in self.packets_with_bytes(stream):
                with self.skipping(stream, packet, data, offset):
                    decoder.fill(data, packet, [table], offset=offset)
        whole.used = len(table)
        del table  # it looks into the rows
        return whole.take()

    def _most_rows(self, name: str, is_alone: bool) -> int | None:
        """How many events of a name there are at most; None: the trace would have to be read for that.

        Room that is not used takes no memory. But that of many events at once might be refused.
        """
        if not is_alone or "_counts" in self.__dict__:
            return self._counts[name]
        most = 0
        for decoder, local in map(self._owner, self._names[name]):
            least = decoder.least_size(local)
            if least is None:
                return None
            sizes = (one.content_size for s in self.streams if s.source.decoder is decoder for one in s.packets)
            most += sum(size // least for size in sizes)
        return most

    def to_columns(self, name: str) -> dict:
        """The same rows as `to_numpy`, as an array for each column.

        Text is in NumPy's `StringDType` where NumPy has it, from 2.0 on: no Python object
        is made for a value. Text that is no UTF-8 has the replacement character U+FFFD
        where it is not.

        Returns
        -------
        dict of str to numpy.ndarray
            Contiguous, all of one length. ``timestamp`` is datetime64[ns], in UTC; NaT where
            there is no clock.

        Raises
        ------
        KeyError, TraceError
            As `to_numpy`.
        """
        return tables.joined_columns(list(self.iter_columns(name)), tables.to_columns(self._no_rows(name)))

    def iter_columns(self, name: str, rows: int = _ROWS) -> Iterator[dict]:
        """The same as `to_columns`, about so many rows at a time, in bounded memory."""
        self._dtype(name)
        return (tables.to_columns(part) for _, part in self._columns([name], rows))

    def to_arrow(self, name: str | None = None):
        """The same as `to_numpy`, as a pyarrow.Table or a dict of them.

        ``timestamp`` is a time in UTC, null where there is no clock. Enumerations are
        dictionaries of their labels; a value without one is its digits. Text that is no
        UTF-8 has the replacement character U+FFFD where it is not. No Python object is made
        for a value unless it is of a variant or structure.

        Raises
        ------
        ImportError
            pyarrow is not installed.
        KeyError, TraceError
            As `to_numpy`.
        """
        return self._converted(tables.to_arrow, name)

    def iter_arrow(self, name: str, rows: int = _ROWS) -> Iterator:
        """The same tables as `to_arrow`, about so many rows at a time, in bounded memory."""
        self._dtype(name)
        return (tables.to_arrow(part, self._kinds(name)) for _, part in self._columns([name], rows))

    def to_pandas(self, name: str | None = None):
        """The same as `to_arrow`, as a pandas.DataFrame or a dict of them."""
        return self._converted(tables.to_pandas, name)

    def to_polars(self, name: str | None = None):
        """The same as `to_arrow`, as a polars.DataFrame or a dict of them."""
        return self._converted(tables.to_polars, name)

    def export(self, path, *, events=None, begin: int | None = None, end: int | None = None, **wanted) -> None:
        """Write the trace to a file of another format, that of its name.

        Parameters
        ----------
        path : path-like
            ``x.pftrace`` (Perfetto) or ``x.json`` (Chrome), both for ui.perfetto.dev and
            with or without ``.gz``; ``x.otlp.json`` (spans and calls for OpenTelemetry); or
            ``x.parquet``, with ``partition="event"`` a directory. It appears when it is complete, and
            then takes the place of one that is there. A name without a dot, or with a slash
            at its end, is that of a new directory: a trace in CTF, of the version this one has.
        events, begin, end
            Which records, as for `records`.
        **wanted
            Of time lines: of whom, as for `Pairs.where`; and with a duration or depth, the spans and calls
            that have it, alone.

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

        export(self, path, events=events, begin=begin, end=end, **wanted)

    def query(self, sql: str):
        """Ask the trace in SQL, through DuckDB.

        Parameters
        ----------
        sql : str
            Each event that it names is a table, with the columns of `to_arrow`; a name
            that is no identifier is quoted: ``FROM "db:query"``.

        Returns
        -------
        pyarrow.Table

        Raises
        ------
        ImportError
            duckdb or pyarrow is not installed.
        duckdb.Error
            The query is wrong.
        TraceError
            As `to_numpy`.

        Events that the query names are read into memory; of a large trace, ask the files
        that `export` makes.

        >>> trace.query("SELECT path, avg(ms) FROM request GROUP BY path ORDER BY 2 DESC").to_pandas()
        """
        duckdb = tables.library("duckdb")
        with duckdb.connect() as connection:
            # Nothing but the trace is there: no file, and none of the caller's variables.
            connection.execute("SET enable_external_access = false; SET python_enable_replacements = false")
            for name in self._names:
                if name in sql:
                    connection.register(name, self.to_arrow(name))
            return connection.sql(sql).to_arrow_table()

    def report(self, path, **wanted) -> None:
        """Write one page that shows the trace: a file that opens offline in any browser, of some megabytes at most.

        Parameters
        ----------
        path : path-like
            ``report.html``. It appears when it is complete, and then takes the place of one that is there.
        **wanted
            Which part of it, as for `Pairs.where`; names and times choose among events, too.

        The widest spans and calls, of each name the slowest, and those with errors or without an end are in it one by
        one; where there are more, the others are counted. Damaged places are drawn, if the trace was opened with
        ``errors="skip"``. Memory is bounded, whatever the trace's size.

        Raises
        ------
        ValueError
            The file would be in the trace's own directory, and spoil it.
        TraceError
            A packet is damaged, or nothing has such a name.
        OSError
            The file cannot be written.

        >>> trace.report("report.html")
        """
        from ..report import write

        write(self, path, **wanted)

    def _converted(self, convert, name: str | None):
        names = list(self._names) if name is None else [name]
        for one in names:
            self._dtype(one)
        parts: dict[str, list] = {one: [] for one in names}
        for one, rows in self._columns(names, _ROWS):
            parts[one].append(rows)
        whole = {one: merged_rows([parts[one]]) if parts[one] else self._no_rows(one) for one in names}
        found = {one: convert(rows, self._kinds(one)) for one, rows in whole.items()}
        return found if name is None else found[name]

    def _no_rows(self, name: str):
        return self._empty_rows(self._names[name][0])

    def _kinds(self, name: str) -> dict[str, model.Type]:
        return self._column_kinds(self._names[name][0])

    def _column_kinds(self, index: int) -> dict[str, model.Type]:
        """Of an event class: the type of each column after the first two."""
        event, names = self.event_classes[index], self._class_dtype(index).names[2:]
        return dict(zip(names, (one._kind for one in event.contexts + event.fields), strict=True))

    def _empty_rows(self, index: int):
        decoder, local = self._owner(index)
        return decoder.table(local).take()

    def _class_dtype(self, index: int):
        decoder, local = self._owner(index)
        return decoder.dtype(local)

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
        return (plain_rows(part) for _, part in self._columns([name], rows))

    def _columns(self, names: list[str], limit: int):
        """(name, rows) in order of time for each name, about every `limit` rows. See `Table.take`."""
        return itertools.chain.from_iterable(self._column_batches({name: self._names[name] for name in names}, limit))

    def class_rows(self, indexes) -> Iterator:
        """Rows of event classes (indexes into `event_classes`), each class for itself, a part at a time."""
        batches = self._column_batches({index: [index] for index in indexes}, _ROWS) if indexes else ()
        return (plain_rows(rows) for _, rows in itertools.chain.from_iterable(batches))

    def _column_batches(self, classes: dict, limit: int, begin: int | None = None, end: int | None = None):
        """As `batches`, of the event classes (indexes) that `classes` has for each key."""
        owners = {key: [self._owner(index) for index in classes[key]] for key in classes}
        lanes = []
        for stream in self.streams:
            decoder = stream.source.decoder
            lanes.append({key: [one.table(local) for one, local in owners[key] if one is decoder] for key in classes})

        def fill(stream, data, packet, offset, tables):
            stream.source.decoder.fill(data, packet, tables, offset=offset)

        return self.batches(lanes, limit, fill, *_bounds(begin, end))

    def _dtype(self, name: str):
        if name not in self._names:
            raise KeyError(name)
        dtypes = [self._class_dtype(index) for index in self._names[name]]
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
        page = Page(len(self.streams))
        printers = {
            source: Printer(source.decoder, _origin(source.env), names=names, begin=first, end=last)
            for source in self.sources
        }

        def fill(stream, data, packet, offset, lanes):
            printers[stream.source].fill(data, packet, lanes[0], offset=offset)

        lanes = [{None: [lane]} for lane in page.lanes]
        for ((_, rows),) in self.batches(lanes, records, fill, first, last):
            yield page.lines(rows)

    # ---- all streams together ----

    def batches(self, lanes, limit: int, fill, begin: int = -_NEVER, end: int = _NEVER - 1):
        """Lists of (key, rows), about every `limit` rows; each key's rows are in order of time.

        All rows of a list are earlier than those of the next. `lanes` has for each stream
        {key: tables}; fill(stream, data, packet, offset, tables) adds a packet to all tables of
        its stream. Where a stream is damaged, all that is earlier is given before an error.
        """
        merges = {key: _Merge() for lane in lanes for key in lane}
        pairs = zip(self.streams, lanes, strict=True)
        sources = [self._filled(stream, lane, fill, begin, end) for stream, lane in pairs]
        # Earliest time that a stream can still bring. The one that holds up all others goes on.
        frontiers = [-_NEVER] * len(sources)
        waiting, held = 0, [0] * len(sources)
        while sources and min(frontiers) < _NEVER:
            behind = frontiers.index(min(frontiers))
            error = None
            try:
                added, frontiers[behind], held[behind] = next(sources[behind], (0, _NEVER, 0))
                waiting += added
            except TraceError as one:
                error = one
            if error or waiting >= limit or sum(held) >= _HELD or min(frontiers) == _NEVER:
                # One stream waits for no other, not even where all of it is of one time.
                batch = _take_before(min(frontiers) if len(sources) > 1 else _NEVER, lanes, merges)
                waiting -= sum(len(rows) for _, rows in batch)
                if batch:
                    yield batch
            if error:
                raise error

    def _filled(self, stream: Stream, lane, fill, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Piece by piece: rows added to the lane, the earliest time of what follows, bytes of text held."""
        tables = [table for some in lane.values() for table in some]
        lines = [table for table in tables if hasattr(table, "held")]
        for data, places, frontier in self._chunks(stream, begin, end):
            before = sum(map(len, tables))
            for index, (packet, offset) in enumerate(places):
                try:
                    fill(stream, data, packet, offset, tables)
                except TraceError as error:
                    reached = self._note(stream, packet, data, offset, error)
                    if not self._skips:
                        yield sum(map(len, tables)) - before, reached, 0
                        raise
                if sum(one.held for one in lines) >= _HELD and index + 1 < len(places):
                    # A small packet may have much text.
                    after = _begin_of(places[index + 1][0])
                    yield sum(map(len, tables)) - before, after, sum(one.held for one in lines)
                    before = sum(map(len, tables))
            yield sum(map(len, tables)) - before, frontier, sum(one.held for one in lines)


def _take_before(time: int, lanes, merges: dict) -> list:
    """What lanes have that is earlier, as (key, rows)."""
    for index, lane in enumerate(lanes):
        for key, some in lane.items():
            merges[key].add(index, some)
    found = [(key, merge.before(time)) for key, merge in merges.items()]
    return [(key, rows) for key, rows in found if rows is not None]


class _Whole:
    """All rows of an event in one array, of which the size is known, at most; else they are kept in parts."""

    def __init__(self, dtype, most: int | None) -> None:
        self._dtype, self._parts, self.used = dtype, [], 0
        self.room = None
        if most is not None:
            with contextlib.suppress(MemoryError):
                self.room = empty_rows(most, dtype)

    def add(self, rows) -> None:
        if self.room is None:
            self._parts.append(rows)
        else:
            _copy_rows(self.room[self.used :], rows)
        self.used += len(rows)

    def take(self):
        if self.room is None:
            self.room, self.used = empty_rows(self.used, self._dtype), 0
            for index, rows in enumerate(self._parts):
                _copy_rows(self.room[self.used :], rows)
                self.used += len(rows)
                self._parts[index] = None
        elif self.used < len(self.room):
            self.room.resize(self.used, refcheck=False)  # nobody else has it yet
        return self.room


def _copy_rows(room, rows) -> None:
    """Copy rows to the beginning of `room`."""
    if len(rows) > len(room):
        raise TraceError("the trace changed while it was read")
    if isinstance(rows, Rows):
        rows.copy_to(room[: len(rows)])
    elif rows.dtype.hasobject:
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


# ---- streams ----


def _common(mappings: list) -> MappingProxyType:
    """What is the same in all of them."""
    first = mappings[0]
    absent = object()
    same = {key: value for key, value in first.items() if all(one.get(key, absent) == value for one in mappings)}
    return MappingProxyType(same)


def _origin(env) -> str:
    """What babeltrace2 prints before the name of every event."""
    known = [str(env[name]).partition("\0")[0] for name in ("hostname", "procname") if name in env]
    known += [f"({env['vpid']})"] if "vpid" in env else []
    return ":".join(known) + " " if known else ""


def _reason(error: TraceError) -> str:
    """What is wrong, without the place."""
    return str(error).partition("packet at byte ")[2].partition(": ")[2] or str(error)


def _grouped(packets: list[Packet], name: str) -> dict[tuple, list[Packet]]:
    groups: dict[tuple, list[Packet]] = {}
    for packet in packets:
        instance = packet.stream_instance_id
        # Without an instance id, each file is a stream of its own.
        key = (packet.stream_id, 0, instance, "") if instance is not None else (packet.stream_id, 1, 0, name)
        groups.setdefault(key, []).append(packet)
    return groups


def _stream(source: Source, key: tuple, files: list[list[Packet]], gaps: dict) -> Stream:
    packets = [packet for packets in files for packet in packets]
    if len(files) > 1:
        # One stream in many files: trace file rotation, chunks, snapshots.
        packets = _without_copies(sorted(packets, key=_begin_of))
    first = packets[0]
    bits = _discarded_bits(source.decoder.model, key[0])
    names = {packet.file for packet in packets}
    own = {place: gap for place, gap in gaps.items() if gap.file in names}
    losses = tuple(_gaps(packets, bits))
    lost = Lost(sum(gap[2] for gap in losses), sum(gap[3] for gap in losses), first.events_discarded or 0)
    return Stream(
        first.stream_id,
        first.stream_instance_id,
        first.cpu,
        tuple(packets),
        lost,
        losses,
        source,
        MappingProxyType(own),
    )


def _without_copies(packets: list[Packet]) -> list[Packet]:
    """Snapshots one after another have packets that they share; the last of one may go on in the next."""
    fullest: dict[tuple, Packet] = {}
    for packet in packets:
        key = packet.begin, packet.sequence_number
        if None in key:
            key = packet.file, packet.offset
        if key not in fullest or fullest[key].content_size < packet.content_size:
            fullest[key] = packet
    return list(fullest.values())


def _time_of(record: Record) -> int:
    """Where there is no clock, all is before all times."""
    return -_NEVER if record.timestamp is None else record.timestamp


def _after(packet: Packet) -> int:
    """The earliest time after a packet."""
    return _begin_of(packet) if packet.end is None else packet.end + 1


def _begin_of(packet: Packet | None) -> int:
    if packet is None:
        return _NEVER
    # Not the very first time: what has no time at all is to be given before.
    return -_NEVER + 1 if packet.begin is None else packet.begin


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
            events = _discarded_between(before.events_discarded, after.events_discarded, discarded_bits)
        if before.sequence_number is not None and after.sequence_number is not None:
            missing = max(0, after.sequence_number - before.sequence_number - 1)
        if events or missing:
            yield before, after, events, missing


def _discarded_between(before: int, after: int, bits: int) -> int:
    """Of a counter, which may be narrow and have begun again from 0. One that falls otherwise tells nothing."""
    difference = (after - before) % (1 << bits)
    return difference if after >= before or difference < 1 << bits - 1 else 0


# ---- what is in the metadata ----


def _classes(source: Source) -> Iterator[tuple[model.Stream, model.Event]]:
    """In the order of `Decoder.event_names`."""
    for stream in source.decoder.model.streams.values():
        for event in sorted(stream.events.values(), key=lambda one: one.id):
            yield stream, event


def _event(stream: model.Stream, event: model.Event) -> Event:
    contexts = _fields(stream.event_context) + _fields(event.context)
    return Event(event.name, event.id, event.stream_id, contexts, _fields(event.fields))


def _fields(kind: model.Struct | None) -> tuple[FieldInfo, ...]:
    if kind is None:
        return ()
    fields, align = [], 1
    for name, member in model.visible_members(kind):
        if name is not None:
            fields.append(FieldInfo(name, _type(member, align), MappingProxyType(_labels(member)), member))
            align = 1
        elif isinstance(member, model.Variant):
            # Padding: what follows is aligned.
            align = max(option.align for _, option in member.options) // 8
    return tuple(fields)


def _labels(kind: model.Type) -> dict[str, tuple[int, int]]:
    labels = kind.labels if isinstance(kind, model.Enum) else kind.flags if isinstance(kind, model.Bits) else ()
    return {label: (low, high) for label, low, high in labels}


def _type(kind: model.Type, align: int = 1) -> str:
    if isinstance(kind, model.Integer):
        return "bool" if (kind.alias, kind.size) == ("bool_t", 8) else f"{'i' if kind.signed else 'u'}{kind.size}"
    if isinstance(kind, model.VarInteger):
        return "i64" if kind.signed else "u64"
    if isinstance(kind, model.Enum):
        return f"{_type(kind.container)}{{{','.join(_label(*one) for one in kind.labels)}}}"
    if isinstance(kind, (model.Array, model.Sequence)):
        return _type_of_many(kind, align)
    if isinstance(kind, (model.Text, model.Blob)):
        base = "str" if isinstance(kind, model.Text) else "bytes"
        return f"{base}[{kind.length}]" if isinstance(kind.length, int) else base
    if isinstance(kind, (model.Float, model.Bits)):
        return f"{'f' if isinstance(kind, model.Float) else 'u'}{kind.size}"
    if isinstance(kind, model.Optional):
        return f"{_type(kind.element)}?"
    names = {model.String: "str", model.Struct: "struct", model.Variant: "variant", model.Boolean: "bool"}
    return names[type(kind)]


def _type_of_many(kind: model.Array | model.Sequence, align: int) -> str:
    element = kind.element
    length = kind.length if isinstance(kind, model.Array) else ""
    if isinstance(element, model.Integer) and element.size == 8:
        if element.encoding:
            return f"str[{length}]"
        if element.alias == "byte_t" and length == "":
            return "bytes" if align == 1 else f"bytes@{align}"
    return f"{_type(element)}[{length}]"


def _label(label: str, low: int, high: int) -> str:
    return f"{label}={low}" if low == high else f"{label}={low}...{high}"


def _discarded_bits(types: model.Trace, stream_id: int) -> int:
    context = types.streams[stream_id].packet_context or model.Struct()
    sizes = [
        getattr(member, "size", 64) for _, member in context.members if getattr(member, "role", None) == _DISCARDED
    ]
    return sizes[0] if sizes else 64


_DISCARDED = "discarded-event-record-counter-snapshot"
