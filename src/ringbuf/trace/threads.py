"""Who recorded: threads of a trace, how many records each has, and records counted by name and thread."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from typing import NamedTuple

from .._decode import Joiner, Marks
from ..errors import TraceError
from .sources import Source

__all__ = [
    "Thread",
    "UnknownName",
    "creator_of",
    "event_counts",
    "hosts_of",
    "is_named",
    "is_one_of",
    "marks_of",
    "resolved",
    "several",
    "thread_of",
    "threads_of",
]

_NO_THREAD = -(2**31)
_PART = 1 << 16  # marks taken at a time


class UnknownName(TraceError):
    """Nothing in the trace has a name that was asked for."""


class Thread(NamedTuple):
    """A thread in which something began.

    Attributes
    ----------
    pid, tid : int or None
        Of process and thread; None if the trace does not say.
    cpu : int or None
        Where the trace says no thread: the CPU stands for it.
    process, name : str
        Empty if the trace does not say.
    host : str
        The machine, where the trace is of several; else empty.
    image : int
        What tells the process from others of the same id on one machine, if the trace says so; else 0.
    first, last : int
        When something first and last began or ended in it, nanoseconds since the Unix epoch.
    records : int
        Begins and ends that it has told.
    """

    pid: int | None
    tid: int | None
    cpu: int | None
    process: str
    name: str
    first: int
    last: int
    records: int
    host: str = ""
    image: int = 0

    @property
    def process_id(self) -> tuple[str, int | None, int]:
        """What no other process has: host, pid and image."""
        return self.host, self.pid, self.image

    @property
    def process_title(self) -> str:
        where = f" on {self.host}" if self.host else ""
        return f"{self.process or 'process'} {'?' if self.pid is None else self.pid}{where}"

    def __str__(self) -> str:
        if self.tid is None:
            where = f" on {self.host}" if self.host else ""
            return f"{'all CPUs' if self.cpu is None else f'CPU {self.cpu}'}{where}"
        process = self.process_title
        if self.tid == self.pid and not self.name:
            return process
        return f"{process}, {self.name or 'thread'} {self.tid}"


def hosts_of(trace) -> dict[Source, str]:
    """By source: its machine; empty where all are of one."""
    names = {source: str(source.env.get("hostname", "")) for source in trace.sources}
    return names if len(set(names.values())) > 1 else dict.fromkeys(names, "")


def resolved(trace, marks: Marks, threads: list[tuple]) -> list[Thread]:
    """What `Joiner.threads` has, of these marks."""
    hosts = [*dict.fromkeys(hosts_of(trace).values())]
    found = []
    for alias, *rest in threads:
        pid, host, image = marks.process(alias)
        found.append(thread_of(trace.env, pid, *rest)._replace(host=hosts[host], image=image))
    return found


def thread_of(env, pid: int, tid: int, process: str, name: str, first: int, last: int, records: int) -> Thread:
    """From what `Joiner.threads` has."""
    number = None if pid < 0 else pid
    if tid < 0:
        return Thread(number, None, None if tid == _NO_THREAD else -1 - tid, "", "", first, last, records)
    if not process and pid == env.get("vpid"):
        process = str(env.get("procname", ""))
    return Thread(number, tid, None, process, name, first, last, records)


def creator_of(env) -> int | None:
    """The process that made the channel, which is that of records that do not say theirs."""
    pid = env.get("vpid")
    return pid if isinstance(pid, int) and 0 <= pid < 2**31 else None


def marks_of(trace, kinds: dict[int, tuple[str, int]], n_lanes: int) -> dict[Source, Marks]:
    """`Marks` for each source; the first has the lanes, and the texts of all. `kinds` are by `Trace.event_classes`."""
    found: dict[Source, Marks] = {}
    names = hosts_of(trace)
    hosts = {host: number for number, host in enumerate(dict.fromkeys(names.values()))}
    for source in trace.sources:
        start, first = trace.first_class[source], next(iter(found.values()), None)
        own = {
            index - start: kind for index, kind in kinds.items() if 0 <= index - start < len(source.decoder.event_names)
        }
        found[source] = Marks(
            source.decoder, own, 0 if first else n_lanes, creator_of(source.env), first, hosts[names[source]]
        )
    return found


def threads_of(trace) -> list[Thread]:
    """Every thread that has recorded anything, by number; `Thread.records` counts all it has recorded."""
    joiner = Joiner(0, None, 0, {})
    marks = _marks(trace, range(len(trace.event_classes)))
    for part in _parts(trace, marks):
        joiner.join(part)
    first = next(iter(marks.values()))
    return sorted(resolved(trace, first, joiner.threads(first.texts)), key=_by_number)


def event_counts(trace, names: list[str], begin: int | None = None, end: int | None = None, **who) -> dict[str, int]:
    """How many records of some names there are, of some time and of some threads and tasks, as for `Pairs.where`."""
    import numpy

    numbers = {name: number for number, name in enumerate(names)}
    events = trace.event_classes
    marks = _marks(trace, [index for index, event in enumerate(events) if event.name in numbers], numbers)
    who = {name: several(one) for name, one in who.items() if one is not None}
    counts = numpy.zeros(len(names), "i8")
    for part in _parts(trace, marks):
        keep = numpy.ones(len(part), "?")
        if begin is not None:
            keep &= part["timestamp"] >= begin
        if end is not None:
            keep &= part["timestamp"] <= end
        if who:
            keep &= _is_of(trace, part, marks, who)
        counts += numpy.bincount(part["name"][keep], minlength=len(names))
    return dict(zip(names, counts.tolist(), strict=True))


def _is_of(trace, part, marks: dict[Source, Marks], who: dict):
    import numpy

    columns = ["pid", "tid", "process", "thread", "task"]
    found, places = numpy.unique(numpy.ascontiguousarray(part[columns]), return_inverse=True)
    first = next(iter(marks.values()))
    texts = first.texts
    keep = []
    for pid, tid, process, name, task in found.tolist():
        (thread,) = resolved(trace, first, [(pid, tid, texts[process], texts[name], 0, 0, 0)])
        keep.append(is_one_of(thread, who) and is_named(texts[task], who.get("task", ("*",))))
    return numpy.array(keep, "?")[places]


def _marks(trace, indexes, numbers=None) -> dict[Source, Marks]:
    events = trace.event_classes
    kinds = {index: ("record", numbers[events[index].name] if numbers else 0) for index in indexes}
    return marks_of(trace, kinds, 1)


def _parts(trace, marks: dict[Source, Marks]) -> Iterator:
    """Marks of all records, stream by stream."""
    (lane,) = next(iter(marks.values())).lanes
    for stream in trace.streams:
        for data, packet, offset in trace.packets_with_bytes(stream):
            with trace.skipping(stream, packet, data, offset):
                marks[stream.source].fill(data, packet, lane, 0, offset=offset)
            if len(lane) >= _PART:
                yield lane.take()
    if len(lane):
        yield lane.take()


def _by_number(thread: Thread) -> tuple:
    numbers = (-1 if one is None else one for one in (thread.pid, thread.tid, thread.cpu, thread.image))
    return (thread.host, *numbers)


# ---- selecting ----


def several(one) -> tuple:
    """Of one or many."""
    if one is None:
        return ()
    return (one,) if isinstance(one, (str, int)) else tuple(one)


def is_named(name: str, patterns: tuple[str, ...]) -> bool:
    return any(name == pattern or fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def is_one_of(thread: Thread, who: dict[str, tuple]) -> bool:
    """Is it one of those: ``pid``, ``tid``, and patterns of ``process`` and ``thread``?"""
    return (
        ("pid" not in who or thread.pid in who["pid"])
        and ("tid" not in who or thread.tid in who["tid"])
        and ("process" not in who or is_named(thread.process, who["process"]))
        and ("thread" not in who or is_named(thread.name, who["thread"]))
    )
