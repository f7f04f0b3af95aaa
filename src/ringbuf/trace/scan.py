"""Traces larger than memory: a plan of partitions, made from packets' headers, for whoever computes.

    plan = ringbuf.scan("s3://bucket/what-happened", events="db", columns=["timestamp", "table", "rows"])
    plan.to_dask().groupby("table").rows.sum().compute()

Nothing but metadata and headers is read until somebody asks for a partition. A partition is a small object that
pickles; what it takes to read one is bounded by its `size`.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..errors import TraceError
from ..limits import DEFAULT, Limits
from ..places import place_of
from . import tables
from .trace import Trace

__all__ = ["Partition", "Piece", "Scan", "scan"]

_SIZE = 64 << 20
_LEAST = 1 << 16
_READ = 1 << 20  # bytes of packets that are decoded at a time
_OPEN = 64  # traces whose metadata a process keeps
_ALWAYS = ("timestamp", "cpu")
_MADE = ("event", "trace")  # columns that are not in the trace: the event's name, the directory

#: How a plan is cut.
WAYS = ("stream", "time")


@dataclass(frozen=True)
class Piece:
    """Packets that lie one after another in a file."""

    directory: str
    file: str
    offset: int
    size: int
    packets: int


@dataclass(frozen=True)
class Partition:
    """A part of a scan.

    Attributes
    ----------
    pieces : tuple of Piece
    begin, end : int
        Its records are from this time to before that, nanoseconds since the Unix epoch.
    size : int
        Bytes of its packets.
    packets : int
    cpus : tuple of int
        Whose packets they are, as far as they say.
    lost : int
        Records that were refused in streams that it has a part of, at the time of its newest packets.
    """

    pieces: tuple[Piece, ...]
    begin: int
    end: int
    size: int
    packets: int
    cpus: tuple[int, ...]
    lost: int


@dataclass(frozen=True)
class _Wanted:
    """What is read of each partition; pickles."""

    url: str
    events: tuple[str, ...]
    by_time: bool
    limits: Limits


def scan(
    url, events=None, columns=None, *, begin: int | None = None, end: int | None = None, by: str = "stream",
    size: int = _SIZE, limits: Limits = DEFAULT,
) -> Scan:  # fmt: skip
    """Plan to read a trace, or a set of traces, in partitions.

    Parameters
    ----------
    url : path-like
        As for `open_trace`.
    events : str or iterable of str, optional
        Names, or patterns such as ``"db.*"``; all by default.
    columns : iterable of str, optional
        Of the result, in this order; all by default. Besides those of `Trace.to_numpy`: ``event``, the name, and
        ``trace``, the directory within the set.
    begin, end : int, optional
        Earliest time, and the time from which on nothing is read, in nanoseconds since the Unix epoch. Packets
        and traces that have nothing of it are not opened.
    by : {"stream", "time"}
        A partition is a part of one stream, or of few; or all streams' part of some time, sorted. Then partitions
        follow one another, and packets that lie across a border are read twice.
    size : int
        Bytes of packets in a partition, about; 64 KiB at least. Of a set of many streams, a partition by time
        has one packet of each of them at least.

    Returns
    -------
    Scan

    Raises
    ------
    ImportError
        pyarrow is not installed.
    TraceError
        There is no trace, or what was asked for is not in it; or events of one column name differ in its type.
    """
    if by not in WAYS:
        raise ValueError(f"a scan is by one of {', '.join(WAYS)}, not {by!r}")
    if not size >= _LEAST:
        raise ValueError(f"a partition has {_LEAST} bytes at least, not {size!r}")
    tables.library("pyarrow")
    return Scan(_Planner(os.fsdecode(url), limits, begin, end), events, columns, by, size)


class Scan:
    """A plan. From `scan`.

    Attributes
    ----------
    partitions : tuple of Partition
    schema : pyarrow.Schema
        Of all of them.
    events : tuple of str
    opened, left_out : int
        Traces whose headers were read, and those that have nothing of the time asked for, by the set's manifest.

    Thread safety: any thread. Pickles.
    """

    def __init__(self, planner: _Planner, events, columns, by: str, size: int) -> None:
        planner.read()
        self.events = planner.names(events)
        whole = planner.schema(self.events)
        chosen = _chosen(whole, columns, self.events, planner.url)
        self.schema = whole.empty_table().select(chosen).schema
        self._wanted = _Wanted(planner.url, self.events, by == "time", planner.limits)
        self.partitions = tuple(planner.by_time(size) if by == "time" else planner.by_stream(size))
        self.opened, self.left_out = planner.opened, planner.left_out

    def __len__(self) -> int:
        return len(self.partitions)

    def __repr__(self) -> str:
        size = sum(one.size for one in self.partitions)
        return f"<Scan of {self._wanted.url!r}: {len(self)} partitions, {size} bytes, {', '.join(self.events)}>"

    # ---- reading ----

    def read(self, partition: Partition, columns=None):
        """A partition, or some of its columns, as a pyarrow.Table. By time, it is sorted."""
        arrow = tables.library("pyarrow")
        schema = self._projected(columns)
        if not self._wanted.by_time:
            return arrow.Table.from_batches(_batches(self._wanted, schema, partition), schema)
        wider = schema
        if "timestamp" not in schema.names:
            wider = schema.append(arrow.field("timestamp", arrow.timestamp("ns", "UTC")))
        found = arrow.Table.from_batches(_batches(self._wanted, wider, partition), wider)
        return found.sort_by("timestamp").select(schema.names)

    def batches(self, partitions: Iterable[Partition] | None = None, columns=None) -> Iterator:
        """Record batches of pyarrow, in memory bounded by some MiB, whatever the partitions' size.

        Those of a partition by time are of that time, but not sorted.
        """
        schema = self._projected(columns)
        for partition in self.partitions if partitions is None else partitions:
            yield from _batches(self._wanted, schema, partition)

    def reader(self, columns=None):
        """The same as a pyarrow.RecordBatchReader, which DuckDB and others take."""
        arrow = tables.library("pyarrow")
        return arrow.RecordBatchReader.from_batches(self._projected(columns), self.batches(columns=columns))

    def _projected(self, columns):
        """The schema of some columns."""
        if columns is None:
            return self.schema
        chosen = [columns] if isinstance(columns, str) else list(columns)
        unknown = [one for one in chosen if one not in self.schema.names]
        if unknown:
            raise KeyError(unknown[0])
        return self.schema.empty_table().select(chosen).schema

    # ---- for others ----

    def to_dask(self, columns=None):
        """A dask.dataframe; a partition is one of its.

        By time, ``timestamp`` is its index, and the divisions are known: selecting a time reads what it has to.
        Dask reads the columns alone that are used.
        """
        frames = tables.library("dask.dataframe")
        read = _ReadPandas(self, columns)
        if not self.partitions:
            return frames.from_pandas(read.empty(), npartitions=1)
        meta = read.empty()
        divisions = self._divisions() if self._wanted.by_time else None
        return frames.from_map(read, list(self.partitions), meta=meta, divisions=divisions, label="ringbuf")

    def _divisions(self) -> tuple:
        pandas = tables.library("pandas")
        times = [one.begin for one in self.partitions] + [self.partitions[-1].end - 1]
        return tuple(pandas.to_datetime(times, unit="ns", utc=True))

    def to_polars(self):
        """A polars.LazyFrame. Of projection and row limit, what is not needed is not read; predicates are applied
        to each batch."""
        polars = tables.library("polars")
        from polars.io.plugins import register_io_source

        schema = polars.from_arrow(self.schema.empty_table()).schema

        def source(with_columns, predicate, n_rows, batch_size):
            left = n_rows
            names = list(schema) if with_columns is None else list(with_columns)
            # A predicate may need other columns than the result has.
            needed = names if predicate is None else [*names, *(set(predicate.meta.root_names()) - set(names))]
            for partition in self.partitions:
                if left == 0:
                    return
                frames = [self.read(partition, needed)] if self._wanted.by_time else self.batches([partition], needed)
                for one in frames:
                    frame = polars.from_arrow(one)
                    frame = frame if left is None else frame.head(left)
                    left = left if left is None else left - len(frame)
                    if predicate is not None:
                        frame = frame.filter(predicate)
                    yield frame.select(names)
                    if left == 0:
                        return

        return register_io_source(source, schema=schema, is_pure=True)

    def to_ray(self, **options):
        """A ray.data.Dataset; a partition is a read task. `options`: as of ``ray.data.read_datasource``."""
        data = tables.library("ray.data")
        from .ray_source import datasource

        return data.read_datasource(datasource(self), **options)

    def to_parquet(self, directory, executor=None) -> list[str]:
        """A file for each partition that has rows, ``part-00000.parquet`` and so on; for DuckDB, Spark and others.

        Parameters
        ----------
        directory : path-like
            New or empty, or a URL.
        executor : concurrent.futures.Executor or distributed.Client, optional
            Its ``map`` writes them; by default this thread does.

        Returns
        -------
        list of str
            Names of the files.
        """
        place = place_of(directory)
        if place.is_directory() and place.names():
            raise FileExistsError(17, "the directory is not empty", place.path)
        write = functools.partial(_write_parquet, self, place.path)
        items = list(enumerate(self.partitions))
        written = list(map(write, items) if executor is None else executor.map(write, items))
        if written and hasattr(written[0], "result"):  # Dask's futures
            written = [one.result() for one in written]
        return [name for name in written if name]


def _write_parquet(plan: Scan, directory: str, item: tuple[int, Partition]) -> str:
    arrow, parquet = tables.library("pyarrow"), tables.library("pyarrow.parquet")
    number, partition = item
    name = f"part-{number:05}.parquet"
    place = place_of(directory)
    parts = [plan.read(partition)] if plan._wanted.by_time else plan.batches([partition])
    first = next((one for one in parts if len(one)), None) if not isinstance(parts, list) else parts[0]
    if first is None or not len(first):
        return ""
    with place.draft(name) as draft, parquet.ParquetWriter(draft, plan.schema, compression="zstd") as writer:
        writer.write_table(first if isinstance(first, arrow.Table) else arrow.Table.from_batches([first]))
        for one in () if isinstance(parts, list) else parts:
            writer.write_batch(one)
    return name


class _ReadPandas:
    """Of a partition: what Dask calls, with the columns that are needed."""

    def __init__(self, plan: Scan, columns) -> None:
        self._plan, self._columns = plan, None if columns is None else list(columns)

    def __call__(self, partition: Partition, columns=None):
        return self._frame(lambda names: self._plan.read(partition, names), columns)

    def empty(self):
        return self._frame(lambda names: self._plan._projected(names).empty_table(), None)

    def _frame(self, read, columns):
        by_time = self._plan._wanted.by_time
        names = list(columns if columns is not None else self._columns or self._plan.schema.names)
        if by_time:
            names = ["timestamp", *(one for one in names if one != "timestamp")]
        table = read(names)
        frame = table.to_pandas()
        return frame.set_index("timestamp") if by_time else frame

    def __dask_tokenize__(self):
        return type(self).__name__, self._plan._wanted, tuple(self._plan.schema.names), self._columns


# ---- planning ----


class _Planner:
    """Reads headers, and groups packets."""

    def __init__(self, url: str, limits: Limits, begin: int | None, end: int | None) -> None:
        self.url, self.limits = url, limits
        self._begin = -(2**63) if begin is None else begin
        self._end = 2**63 - 1 if end is None else end
        if self._begin > self._end:
            raise ValueError(f"begin {begin} is later than end {end}")
        self._directories: list[str] = []
        self._kinds: dict[tuple[str, str], object] = {}
        self._event_names: dict[str, None] = {}
        self._types: dict[str, dict[str, object]] = {}  # by event: columns
        self.opened = self.left_out = 0

    def read(self) -> None:
        place = place_of(self.url)
        if not place.is_directory():
            raise TraceError(f"{self.url}: not a directory")
        known = self._known_times(place)
        found = [directory for directory, names in place.walk() if "metadata" in names]
        if not found:
            raise TraceError(f"{self.url}: there is no file called metadata, neither here nor below")
        for directory in sorted(found):
            begin, end = known.get(directory, (None, None))
            if begin is not None and self.opened and (end < self._begin or begin >= self._end):
                self.left_out += 1  # but one is opened always, for its events
                continue
            self._note_events(self._open(directory))
            self._directories.append(directory)

    def _open(self, directory: str) -> Trace:
        # What is damaged is left out of the plan.
        return Trace(place_of(self.url).join(directory), errors="skip", limits=self.limits)

    def _known_times(self, place) -> dict[str, tuple]:
        from ..fleet.manifest import read_manifest

        manifest = read_manifest(place)
        if manifest is None:
            return {}
        return {one.directory: (one.begin, one.end) for member in manifest.members for one in member.traces}

    def _note_events(self, trace: Trace) -> None:
        self.opened += 1
        for index, event in enumerate(trace.event_classes):
            self._event_names.setdefault(event.name)
            self._note_types(trace, index, event.name)

    def _packets(self) -> Iterator[tuple]:
        """(packet, directory, file), file by file: there may be millions."""
        for directory in self._directories:
            for source in self._open(directory).sources:
                for file, packets, _ in source.files():
                    for packet in packets:
                        if _from(packet, self._end) and _until(packet, self._begin):
                            yield packet, directory, file

    def _note_types(self, trace: Trace, index: int, name: str) -> None:
        # Most traces of a set have the same events: what a column is, is asked once for each kind.
        key = name, str(trace.event_classes[index])
        if key in self._kinds:
            return
        empty = tables.to_arrow(trace._empty_rows(index), trace._column_kinds(index))
        self._kinds[key] = empty.schema
        known = self._types.setdefault(name, {})
        for one in empty.schema:
            if known.setdefault(one.name, one.type) != one.type:
                raise TraceError(
                    f"{self.url}: column {one.name!r} of event {name!r} is {known[one.name]} in one trace and "
                    f"{one.type} in another: scan them apart"
                )

    def names(self, events) -> tuple[str, ...]:
        import fnmatch

        if events is None:
            return tuple(self._event_names)
        found: dict[str, None] = {}
        for pattern in [events] if isinstance(events, str) else events:
            some = [pattern] if pattern in self._event_names else fnmatch.filter(self._event_names, pattern)
            if not some:
                raise TraceError(f"{self.url}: no event is called {pattern!r}")
            found |= dict.fromkeys(some)
        return tuple(found)

    def schema(self, events: tuple[str, ...]):
        arrow = tables.library("pyarrow")
        columns: dict[str, object] = {}
        owner: dict[str, str] = {}
        for event in events:
            for name, kind in self._types[event].items():
                if columns.setdefault(name, kind) != kind:
                    raise TraceError(
                        f"{self.url}: column {name!r} is {columns[name]} of event {owner[name]!r} and {kind} of "
                        f"{event!r}: scan them apart, or other columns"
                    )
                owner.setdefault(name, event)
        for name in _MADE:
            columns.setdefault(name, arrow.large_string())
        return arrow.schema(list(columns.items()))

    # ---- partitions ----

    def by_stream(self, size: int) -> Iterator[Partition]:
        """Packets in the order of their files, until there are enough."""
        group: list[tuple] = []
        total = 0
        for item in self._packets():
            if group and total + item[0].size > size:
                yield self._partition(group, self._begin, self._end)
                group, total = [], 0
            group.append(item)
            total += item[0].size
        if group:
            yield self._partition(group, self._begin, self._end)

    def by_time(self, size: int) -> Iterator[Partition]:
        """All packets that overlap a time, from cut to cut."""
        items = sorted(self._packets(), key=lambda item: (_begin_of(item[0]), item[1], item[2]))
        cuts, total = [], 0
        for packet, _, _ in items:
            if total >= size and (not cuts or _begin_of(packet) > cuts[-1]):
                cuts.append(_begin_of(packet))
                total = 0
            total += packet.size
        first = max(self._begin, _begin_of(items[0][0])) if items else 0
        last = max((_end_of(packet) for packet, _, _ in items), default=0) + 1
        edges = [first, *(cut for cut in cuts if first < cut < self._end), min(self._end, last)]
        waiting, still = iter(items), []
        upcoming = next(waiting, None)
        for begin, end in zip(edges, edges[1:], strict=False):
            still = [item for item in still if _until(item[0], begin)]
            while upcoming is not None and _begin_of(upcoming[0]) < end:
                still.append(upcoming)
                upcoming = next(waiting, None)
            if still and begin < end:
                yield self._partition(sorted(still, key=lambda item: (item[1], item[2], item[0].offset)), begin, end)

    def _partition(self, group: list[tuple], begin: int, end: int) -> Partition:
        pieces: list[Piece] = []
        for packet, directory, file in group:
            last = pieces[-1] if pieces else None
            if last and (last.directory, last.file, last.offset + last.size) == (directory, file, packet.offset):
                pieces[-1] = Piece(directory, file, last.offset, last.size + packet.size, last.packets + 1)
            else:
                pieces.append(Piece(directory, file, packet.offset, packet.size, 1))
        newest = {(directory, file): packet.events_discarded or 0 for packet, directory, file in group}
        cpus = sorted({packet.cpu for packet, _, _ in group if packet.cpu is not None})
        size = sum(packet.size for packet, _, _ in group)
        return Partition(tuple(pieces), begin, end, size, len(group), tuple(cpus), sum(newest.values()))


def _begin_of(packet) -> int:
    return -(2**63) if packet.begin is None else packet.begin


def _end_of(packet) -> int:
    return 2**63 - 2 if packet.end is None else packet.end


def _from(packet, end: int) -> bool:
    return packet.begin is None or packet.begin < end


def _until(packet, begin: int) -> bool:
    return packet.end is None or packet.end >= begin


def _chosen(whole, columns, events: tuple[str, ...], url: str) -> list[str]:
    if columns is None:
        made = ["event"] if len(events) != 1 else []
        return [one for one in whole.names if one not in _MADE or one in made]
    chosen = [columns] if isinstance(columns, str) else list(columns)
    for one in chosen:
        if one not in whole.names:
            raise TraceError(f"{url}: no column is called {one!r}; there are {', '.join(whole.names)}")
    return chosen


# ---- reading a partition ----


@functools.lru_cache(maxsize=_OPEN)
def _opened(path: str, limits: Limits) -> Trace:
    return Trace(path, errors="raise", limits=limits)


def _batches(wanted: _Wanted, schema, partition: Partition) -> Iterator:
    for piece in partition.pieces:
        place = place_of(wanted.url)
        yield from _of_piece(_opened(place.join(piece.directory), wanted.limits), wanted, schema, partition, piece)


def _of_piece(trace: Trace, wanted: _Wanted, schema, partition: Partition, piece: Piece) -> Iterator:
    source = trace.sources[0]
    decoder = source.decoder
    indexes = [index for index, event in enumerate(trace.event_classes) if event.name in wanted.events]
    rows = {index: decoder.table(index) for index in indexes}
    name = os.path.join(source.directories[0], piece.file)
    with source.place.open(name) as file:
        for data, packets in _packets(decoder, file, name, piece):
            for packet, offset in packets:
                decoder.fill(data, packet, list(rows.values()), offset=offset)
            for index, table in rows.items():
                if len(table):
                    yield from _converted(trace, index, table.take(), wanted, schema, partition, piece)


def _packets(decoder, file, name: str, piece: Piece) -> Iterator:
    """Some packets at a time: bytes, and each with its place in them."""
    offset, end = piece.offset, piece.offset + piece.size
    while offset < end:
        size = min(_READ, end - offset)
        data = file.read_at(offset, size)
        first = decoder.read_packet(data, available=end - offset, file=name, position=offset)
        if first.size > size:  # a packet is decoded as a whole
            data = file.read_at(offset, first.size)
        found, place = [], 0
        while place < len(data):
            if len(data) - place < _HEADER and place:
                break
            packet = decoder.read_packet(
                data, place, available=end - offset - place, file=name, position=offset + place
            )
            if place + packet.size > len(data):
                break
            found.append((packet, place))
            place += packet.size
        if not found:
            raise TraceError(f"{name}: the file was cut short since the scan was planned")
        yield data, found
        offset += place


_HEADER = 4096  # more than any packet's header: what begins later in a piece is read with the next


def _converted(trace: Trace, index: int, rows, wanted: _Wanted, schema, partition: Partition, piece: Piece) -> Iterator:
    times = rows["timestamp"]
    inside = (times >= partition.begin) & (times < partition.end)
    if not inside.all():
        rows = rows[inside]
    if not len(rows):
        return
    arrow = tables.library("pyarrow")
    own = [one for one in schema.names if one in rows.dtype.names and one not in _MADE]
    kinds = trace._column_kinds(index)
    found = tables.to_arrow(rows, kinds, own)
    texts = {"event": trace.event_classes[index].name, "trace": piece.directory}
    arrays = []
    for field in schema:
        if field.name in own:
            arrays.append(found[field.name].combine_chunks())
        elif field.name in _MADE:
            arrays.append(arrow.repeat(arrow.scalar(texts[field.name], field.type), len(rows)))
        else:
            arrays.append(arrow.nulls(len(rows), field.type))
    yield from arrow.table(arrays, schema).to_batches()
