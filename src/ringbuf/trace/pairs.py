"""Spans and calls of a trace: each begin joined with its end.

    for span in trace.spans("db"):
        print(span.name, span.duration, span.self_time, span.fields)
    rows = trace.calls().to_numpy()

Joining is done in C (decode/pairs.h). Memory is what is open at a time, a part of the rows, and each
name of a process, thread, task and function once.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from .._decode import RECORD, Joiner, Marks, Packet, Record, record_at
from .meanings import IRQ, SOFTIRQ, Function, ended, functions, kernel_name, losses, meaning, system_call
from .plain import to_text
from .sources import Source
from .tables import library
from .threads import Thread, UnknownName, hosts_of, is_named, is_one_of, marks_of, resolved, several

__all__ = ["KERNEL", "KINDS", "MISSING", "Pair", "Pairs"]

_ROWS = 1 << 18  # marks read at a time
_PACKETS = 8  # kept, to look for fields in
_NOWHERE = 2**64 - 1

#: What `kind` counts.
KINDS = {1: "span", 3: "call", 9: "run", 10: "irq", 12: "syscall"}
_RUN = 9
#: Those that the kernel tells.
KERNEL = ("run", "irq", "syscall")
#: What `begin_missing` and `end_missing` count; the first: it is there.
MISSING = (None, "lost", "before", "inherited", "open", "died", "resumed")


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A span, a call of a function, or what the kernel tells.

    Attributes
    ----------
    kind : {"span", "call", "run", "irq", "syscall"}
        "run": a CPU runs a thread; "irq": it is interrupted.
    name : str
        Empty of a span whose begin is missing; ``"function CODE"`` of a call whose function nobody told; of what the
        kernel tells ``"COMMAND TID"``, ``"irq 7"``, ``"softirq TIMER"``, ``"syscall read"``.
    begin, duration : int
        Nanoseconds, `begin` since the Unix epoch. Where `begin_missing` or `end_missing` is said,
        they are bounds; see there.
    self_time : int
        The duration without the time in which something directly within it was open: of a
        span its children, wherever they ran; of a call those that its thread made, and its system calls; of a run
        the interrupts.
    id, parent : int
        Of a span its id, of a call a number that no other call of the trace has; 0: no parent.
    depth : int
        How many were open around it, as far as the trace tells.
    thread : Thread
        In which it began; of a span without a begin, in which it ended; of a run or interrupt its CPU.
    task : str
        What its thread ran then: of asyncio, where the trace has the context ``task_name``, or, where functions
        are recorded, the task or greenlet; the second of one name is ``"NAME #2"``.
    error : str
        Type of the exception that ended the span; empty if there was none. `error_text` has all of it.
    begin_missing : {None, "lost", "before", "inherited", "resumed"}
        Why the begin is not in the trace: "before": it is older, or overwritten, and `begin` is where the trace
        begins; "lost": records were lost before the end, and it may be among them. Of a call that lies in another
        one `begin` is then its end, as nothing says how long it was. "inherited": it began in the
        process that forked this one. "resumed": it goes on here, after its task or greenlet had waited; what
        went before is a call of its own.
    end_missing : {None, "lost", "open", "died"}
        Why the end is not: "open": it had not ended when the trace did; "lost": records were lost after
        the begin, and it may be among them; "died": the process ended before, or was replaced by another program. The
        duration goes to the end of the call around it, if that has ended, or else to that of the trace or process.
    function : Function or None
        Of a call: where it is.
    """

    kind: str
    name: str
    begin: int
    duration: int
    self_time: int
    id: int
    parent: int
    depth: int
    thread: Thread
    task: str
    error: str
    begin_missing: str | None
    end_missing: str | None
    function: Function | None
    _pairs: Pairs
    _begin_at: int
    _end_at: int

    @property
    def end(self) -> int:
        return self.begin + self.duration

    @property
    def fields(self) -> dict:
        """Of the record that began it, without its ids. Read from the trace each time that they are asked for."""
        record = self._pairs.record_at(self._begin_at)
        hidden = ("span_id", "parent_id", "code")
        return {} if record is None else {name: one for name, one in record.fields.items() if name not in hidden}

    @property
    def contexts(self) -> dict:
        """Of the record that began it, or of its end if that is missing."""
        record = self._pairs.record_at(self._end_at if self._begin_at == _NOWHERE else self._begin_at)
        return {} if record is None else record.contexts

    @property
    def follows(self) -> tuple[int, ...]:
        """Of a span: ids of those that it followed from, without being within them. Of all spans read at once."""
        return self._pairs.sources.get(self.id, ()) if self.kind == "span" else ()

    @property
    def error_text(self) -> str:
        """All of the error: ``"KeyError: 'x'"``."""
        record = self._pairs.record_at(self._end_at) if self.error else None
        return "" if record is None else record.fields["error"]

    def __repr__(self) -> str:
        missing = "".join(
            f", {what}={value!r}"
            for what, value in (("begin_missing", self.begin_missing), ("end_missing", self.end_missing))
            if value
        )
        return f"<{self.kind} {self.name!r}: {self.duration} ns from {self.begin}, depth {self.depth}{missing}>"


class Pairs:
    """Spans, calls or both of a trace. From `Trace.spans`, `Trace.calls`, `Trace.pairs`.

    Iterating gives a `Pair` for each, in the order of their ends (those without one: where that
    became known), in bounded memory. Each iteration reads the trace from its beginning.

    Attributes
    ----------
    names : list of str
        What the column ``name`` counts. The first one stands for a span whose begin is missing.
    functions : list of Function or None
        The same for the functions: two of one name may be in different files.
    threads : list of Thread
        What the column ``thread`` counts.
    texts : list of str
        What the columns ``task`` and ``error`` count.

    paths : numpy.ndarray
        What the column ``path`` counts: a structured array of ``above`` (the path that this one goes on
        from; 0: none), ``name`` and ``is_within`` (not 0: the name stands further up as well). There are at most
        a million; where there would be more, a path ends early.

    These five grow while the trace is read: they have all that is in the rows that were handed out.

    Thread safety: one thread at a time; an object for each costs nothing.
    """

    def __init__(self, trace, kinds: Iterable[str] = ("span", "call")) -> None:
        self._trace = trace
        self._kinds = tuple(kinds)
        self._reading: _Reading | None = None
        self._names: tuple[str, ...] = ()
        self._bounds: tuple[int | None, int | None] = None, None
        self._who: dict[str, tuple] = {}
        self._limits: dict[str, int | None] = {}

    # ---- which ----

    def where(
        self,
        names=None,
        *,
        begin: int | None = None,
        end: int | None = None,
        pid=None,
        tid=None,
        process=None,
        thread=None,
        task=None,
        min_duration: int | None = None,
        min_depth: int | None = None,
        max_depth: int | None = None,
    ) -> Pairs:
        """Some of them.

        Parameters
        ----------
        names : str or iterable of str, optional
            Names, or patterns such as ``"db.*"``.
        begin, end : int, optional
            Those that were open at some time between, nanoseconds since the Unix epoch.
        pid, tid : int or iterable of int, optional
        process, thread, task : str or iterable of str, optional
            Names or patterns.
        min_duration : int, optional
            Nanoseconds.
        min_depth, max_depth : int, optional

        Returns
        -------
        Pairs
            Its `self_time`, `depth` and `parent` are the same: the trace is read as a whole.

        Raises
        ------
        TraceError
            Nothing has such a name.
        """
        found = copy.copy(self)
        found._reading = None
        found._names = several(names)
        found._bounds = begin, end
        who = {"pid": pid, "tid": tid, "process": process, "thread": thread, "task": task}
        found._who = {name: several(one) for name, one in who.items() if one is not None}
        found._limits = {"min_duration": min_duration, "min_depth": min_depth, "max_depth": max_depth}
        for pattern in found._names:
            # What nobody named is "function CODE", and shows only when all is read.
            is_untold = pattern.startswith("function ") or self._names_threads
            if not (is_untold or any(is_named(name, (pattern,)) for name in self._known)):
                raise UnknownName(f"{self._trace.path}: no {' or '.join(self._kinds)} is called {pattern!r}")
        return found

    @functools.cached_property
    def _names_threads(self) -> bool:
        """Are there names that only records have?"""
        return any(
            meaning(event) in ("run", "irq") and meaning(event) in self._kinds for event in self._trace.event_classes
        )

    @functools.cached_property
    def _known(self) -> list[str]:
        names, told, _ = _names_of(self._trace, self._kinds)
        return [*names, *(function.name for function in told.values())]

    # ---- as they are ----

    def iter_numpy(self, rows: int = _ROWS, *, heard: Callable | None = None) -> Iterator:
        """As structured arrays, a part at a time, in bounded memory.

        Parameters
        ----------
        rows : int
            About how many to return at a time.
        heard : callable, optional
            Is given all other records too, in order of time, before the rows that come with them, as
            structured arrays of ``timestamp``, ``cpu``, ``name`` (index into `Trace.event_classes`), ``pid``, ``tid``,
            ``task``, ``at`` and more (`_decode.Marks`): so a trace is read once for everything.

        Yields
        ------
        numpy.ndarray
            One dimension, in the order of ends. Columns: ``begin``, ``duration``, ``self`` (i8,
            nanoseconds); ``id``, ``parent`` (u8); ``begin_at``, ``end_at`` (u8, for `record_at`);
            ``name``, ``thread``, ``task``, ``error`` (u4, see the attributes of this class); ``depth`` (u4);
            ``kind`` (u1, see `KINDS`); ``begin_missing``, ``end_missing`` (u1, see `MISSING`);
            ``path``, ``end_thread`` (u4: what was open around it; the thread of its end).

        Raises
        ------
        TraceError
            A packet is damaged.
        """
        reading = self._reading = _Reading(self._trace, self._kinds, heard)
        for part in reading.rows(max(1, rows)):
            found = self._selected(part, reading)
            if len(found):
                yield found

    def to_numpy(self):
        """All of them as one structured array, by begin. See `iter_numpy`."""
        import numpy

        parts = list(self.iter_numpy()) or [Joiner(0, None, 0, {}).take()]
        rows = numpy.concatenate(parts)
        return rows[rows["begin"].argsort(kind="stable")]

    def __iter__(self) -> Iterator[Pair]:
        for rows in self.iter_numpy():
            yield from self.records_of(rows)

    def records_of(self, rows) -> Iterator[Pair]:
        """A `Pair` for each row of `iter_numpy`, or of a selection of them."""
        texts, threads, names, functions = self.texts, self.threads, self.names, self.functions
        columns = ("kind", "name", "begin", "duration", "self", "id", "parent", "depth", "thread", "task", "error")
        places = ("begin_missing", "end_missing", "begin_at", "end_at")
        values = zip(*(rows[one].tolist() for one in columns + places), strict=True)
        for kind, name, begin, duration, own, number, parent, depth, thread, task, error, *where in values:
            first, last, begin_at, end_at = where
            yield Pair(
                KINDS[kind], names[name], begin, duration, own, number, parent, depth, threads[thread], texts[task],
                texts[error], MISSING[first], MISSING[last], functions[name], self, begin_at, end_at,
            )  # fmt: skip

    # ---- as tables ----

    def iter_arrow(self, rows: int = _ROWS) -> Iterator:
        """As `iter_numpy`, with names for numbers.

        Yields
        ------
        pyarrow.RecordBatch
            Columns: ``kind``, ``name``, ``begin`` (a time in UTC), ``duration``, ``self`` (nanoseconds), ``id``,
            ``parent``, ``depth``, ``pid``, ``tid`` (null if unknown), ``process``, ``thread``, ``task``, ``error``,
            ``begin_missing``, ``end_missing`` (null: it is there). Texts are dictionaries.

        Raises
        ------
        ImportError
            pyarrow is not installed.
        TraceError
            A packet is damaged.
        """
        arrow = library("pyarrow")
        for part in self.iter_numpy(rows):
            yield self._arrow_batch(arrow, part)

    def to_arrow(self):
        """All of them as one pyarrow.Table, by begin. See `iter_arrow`."""
        arrow = library("pyarrow")
        return arrow.Table.from_batches([self._arrow_batch(arrow, self.to_numpy())])

    def to_pandas(self):
        """The same as `to_arrow`, as a pandas.DataFrame. Texts are categories."""
        library("pandas")
        return self.to_arrow().to_pandas()

    def to_polars(self):
        """The same as `to_arrow`, as a polars.DataFrame. Texts are categories."""
        return library("polars").from_arrow(self.to_arrow())

    def _arrow_batch(self, arrow, rows):
        import numpy

        threads = self.threads
        pids, tids = ([getattr(one, name) for one in threads] for name in ("pid", "tid"))

        def words(indexes, names, absent=None):
            mask = None if absent is None else indexes == absent
            numbers = arrow.array(indexes.astype("i4"), mask=mask)
            return arrow.DictionaryArray.from_arrays(numbers, arrow.array(list(map(_said, names)), arrow.string()))

        def of_threads(values, kind):
            return arrow.array(values, kind).take(arrow.array(rows["thread"]))

        kinds = numpy.searchsorted(list(KINDS), rows["kind"])
        columns = {
            "kind": words(kinds, KINDS.values()),
            "name": words(rows["name"], self.names),
            "begin": arrow.array(rows["begin"]).cast(arrow.timestamp("ns", "UTC")),
            **{name: arrow.array(rows[name]) for name in ("duration", "self", "id", "parent", "depth")},
            "pid": of_threads(pids, arrow.int32()),
            "tid": of_threads(tids, arrow.int32()),
            "process": words(rows["thread"], [one.process for one in threads]),
            "thread": words(rows["thread"], [one.name for one in threads]),
            "task": words(rows["task"], self.texts),
            "error": words(rows["error"], self.texts),
            **{name: words(rows[name], MISSING, 0) for name in ("begin_missing", "end_missing")},
        }
        return arrow.RecordBatch.from_pydict(columns)

    # ---- what numbers mean ----

    @property
    def names(self) -> list[str]:
        return self._now().names

    @property
    def functions(self) -> list[Function | None]:
        return self._now().functions

    @property
    def threads(self) -> list[Thread]:
        return self._now().threads()

    def numbers_of(self, marks):
        """The threads of marks that were heard (`iter_numpy`): an array of what the column ``thread`` counts."""
        import numpy

        numbers = {key: index for index, key in enumerate(self._now().thread_keys())}
        keys, places = numpy.unique(
            marks["pid"].astype("i8") << 32 | marks["tid"].astype("i8") & 0xFFFFFFFF, return_inverse=True
        )
        found = [numbers.get((key >> 32, (key & 0xFFFFFFFF ^ 2**31) - 2**31), 0) for key in keys.tolist()]
        return numpy.array(found, "u4")[places]

    @property
    def texts(self) -> list[str]:
        return self._now().texts()

    @property
    def paths(self):
        return self._now().paths()

    def _now(self) -> _Reading:
        if self._reading is None:
            self._reading = _Reading(self._trace, self._kinds)
        return self._reading

    def record_at(self, place: int) -> Record | None:
        """The record at a place of the columns ``begin_at`` and ``end_at``, with its fields and contexts.

        None: the trace has none. Its time is not known: the row has it.
        """
        if place == _NOWHERE:
            return None
        packet, source = self._packets[place >> 32]
        return record_at(source.decoder, self._bytes_of(packet), packet, place & 0xFFFFFFFF, offset=0)

    @functools.cached_property
    def sources(self) -> dict[int, tuple[int, ...]]:
        """By span: those that it followed from (`Trace.flows`)."""
        found: dict[int, tuple[int, ...]] = {}
        for flow in self._trace.flows():
            found[flow.target] = (*found.get(flow.target, ()), flow.source)
        return found

    @functools.cached_property
    def _packets(self) -> list[tuple[Packet, Source]]:
        return [(packet, stream.source) for stream in self._trace.streams for packet in stream.packets]

    @functools.cached_property
    def _bytes_of(self):
        return functools.lru_cache(maxsize=_PACKETS)(self._trace.packet_bytes)

    # ---- selecting ----

    def _selected(self, rows, reading: _Reading):
        import numpy

        first, last = self._bounds
        keep = numpy.ones(len(rows), "?")
        if "syscall" in self._kinds and "run" not in self._kinds:  # it was told for the threads alone
            keep &= rows["kind"] != _RUN
        if first is not None:
            keep &= rows["begin"] + rows["duration"] >= first
        if last is not None:
            keep &= rows["begin"] <= last
        if self._limits.get("min_duration") is not None:
            keep &= rows["duration"] >= self._limits["min_duration"]
        if self._limits.get("min_depth") is not None:
            keep &= rows["depth"] >= self._limits["min_depth"]
        if self._limits.get("max_depth") is not None:
            keep &= rows["depth"] <= self._limits["max_depth"]
        if self._names:
            keep &= numpy.array([is_named(one, self._names) for one in reading.names])[rows["name"]]
        if "task" in self._who:
            keep &= numpy.array([is_named(one, self._who["task"]) for one in reading.texts()])[rows["task"]]
        if self._who:
            keep &= numpy.array([is_one_of(one, self._who) for one in reading.threads()])[rows["thread"]]
        return rows if keep.all() else rows[keep]


class _Reading:
    """One pass over a trace."""

    def __init__(self, trace, kinds: tuple[str, ...], heard: Callable | None = None) -> None:
        self._trace = trace
        self._kinds = kinds
        self._heard = heard
        self.names, told, events = _names_of(trace, kinds)
        if heard is not None or "syscall" in kinds:  # any record may say which process a thread is of
            others = (index for index in range(len(trace.event_classes)) if index not in events)
            events.update((index, ("record", index)) for index in others)
        self._n_names = len(self.names)
        self.functions: list[Function | None] = [None] * len(self.names)
        self._told: dict[tuple[int, int], tuple[int, int]] = {}
        numbers: dict[Function, int] = {}
        for (pid, code), function in told.items():
            place = function._replace(image=None)  # many processes call one function
            if place not in numbers:
                numbers[place] = len(self.names)
                self.names.append(place.name)
                self.functions.append(place)
            self._told[-1 if pid is None else pid, code] = numbers[place], function.image or 0
        self._n_told = len(self.names)
        self._marks = marks_of(trace, events, len(trace.streams))
        self._joiner: Joiner | None = None

    def rows(self, limit: int) -> Iterator:
        packets = {packet: index for index, packet in enumerate(self._trace.packets)}

        def fill(stream, data, packet, offset, lanes):
            self._marks[stream.source].fill(data, packet, lanes[0], packets[packet], offset=offset)

        last = None
        lanes = [{None: [lane]} for lane in self._texts_of.lanes]
        for ((_, marks),) in self._trace.batches(lanes, limit, fill):
            joiner = self._started(int(marks["timestamp"][0]))
            joiner.join(marks)
            if self._heard is not None:
                self._heard(marks[marks["kind"] == RECORD])
            last = int(marks["timestamp"][-1])
            if len(joiner) >= limit:
                yield self._taken()
        if last is not None:
            end = max(last, (self._trace.time_range or (0, last))[1])
            self._joiner.finish(end, self._ended(end))
            yield self._taken()

    def _ended(self, end: int) -> list[tuple[int, int]]:
        """The processes that ended, as marks call them, and when they were last seen."""
        hosts = [*dict.fromkeys(hosts_of(self._trace).values())]
        return [
            (pid, min(one.seen or 0, end))
            for one in ended(self._trace)
            for pid in self._texts_of.ids_of(one.pid, hosts.index(one.host))
        ]

    def _started(self, first: int) -> Joiner:
        if self._joiner is None:
            missing = losses(self._trace)
            bounds = (min(one.begin for one in missing), max(one.end for one in missing)) if missing else None
            begin = min(first, (self._trace.time_range or (first, 0))[0])
            self._joiner = Joiner(begin, bounds, self._n_told, self._told, self._texts_of)
        return self._joiner

    def _taken(self):
        for pid, code in self._joiner.unknown(len(self.names) - self._n_told):
            self.names.append(f"function {code}" if pid >= -1 else kernel_name(self.texts()[pid & 0x7FFFFFFF], code))
            self.functions.append(None)
        return self._joiner.take()

    def texts(self) -> list[str]:
        return self._texts_of.texts

    @property
    def _texts_of(self) -> Marks:
        """Those that have the texts of all, and the lanes."""
        return next(iter(self._marks.values()))

    def paths(self):
        joiner = Joiner(0, None, 0, {}) if self._joiner is None else self._joiner
        return joiner.paths(0)

    def threads(self) -> list[Thread]:
        if self._joiner is None:
            return []
        return resolved(self._trace, self._texts_of, self._joiner.threads(self.texts()))

    def thread_keys(self) -> list[tuple[int, int]]:
        """What marks have of each thread: process and number."""
        return [] if self._joiner is None else [(pid, tid) for pid, tid, *_ in self._joiner.threads(self.texts())]


def _names_of(trace, kinds: Iterable[str]):
    """Names of spans; functions by process and code; what `Marks` takes."""
    names: dict[str, int] = {"": 0}
    events = {}
    for index, event in enumerate(trace.event_classes):
        kind = meaning(event)
        is_shaping = kind in ("strand", "switch", "image") and "call" in kinds or kind == "run" and "syscall" in kinds
        if kind is not None and (is_shaping or kind.removesuffix("_end") in kinds):
            events[index] = kind, _number_of(event, kind, names)
    return list(names), functions(trace) if "call" in kinds else {}, events


def _number_of(event, kind: str, names: dict[str, int]) -> int:
    """What marks of an event have as their name."""
    if kind == "span":
        return names.setdefault(event.name, len(names))
    if kind.startswith("irq"):
        return SOFTIRQ if "softirq" in event.name else IRQ
    call = system_call(event) if kind.startswith("syscall") else ""
    return names.setdefault(f"syscall {call}", len(names)) if call else 0


def _said(name: str | None) -> str | None:
    return None if name is None else to_text(name)
