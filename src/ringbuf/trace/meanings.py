"""Events that mean more than their name: spans, calls, log records, audit events. docs/formats.md has them."""

from __future__ import annotations

from typing import NamedTuple

__all__ = [
    "IDENTITY", "Ended", "Function", "Loss", "ended", "field_of", "functions", "is_identity", "losses", "meaning",
]  # fmt: skip

#: Contexts that say whose a record is, and the type of their values.
IDENTITY = {"vpid": int, "vtid": int, "procname": str, "thread_name": str}
_LARGEST_ID = 2**31 - 1  # of a process or thread


def is_identity(name: str, value) -> bool:
    """Does the context say whose a record is? One that is only called so does not: it is a context like others."""
    kind = IDENTITY.get(name)
    return type(value) is kind and (kind is str or 0 <= value <= _LARGEST_ID)


class Function(NamedTuple):
    """Where a function that was called is; `image`: the process image that called it, if the trace says so."""

    name: str
    file: str
    line: int
    image: int | None = None


class Loss(NamedTuple):
    """Records that are missing: some time between two moments.

    Attributes
    ----------
    begin, end : int
        Nanoseconds since the Unix epoch: after the packet before it, and before the end of the packet
        that tells of it.
    cpu : int or None
    events : int
        Records that were refused.
    packets : int
        Packets that were overwritten, or are missing otherwise.
    """

    begin: int
    end: int
    cpu: int | None
    events: int
    packets: int


class Ended(NamedTuple):
    """A thread that had its place among the producers when its process ended: killed, perhaps, or by ``os._exit``.

    Attributes
    ----------
    pid, tid : int
    last : int or None
        Time of its newest record, as far as it was seen; nanoseconds since the Unix epoch.
    seen : int or None
        When the recorder last saw that it lived.
    open : int
        Records it was in the middle of.
    thread : str
        Its name.
    """

    pid: int
    tid: int
    last: int | None
    seen: int | None
    open: int
    thread: str

    def as_env(self) -> str:
        """As a trace's environment has it: ``ended_1`` and so on."""
        return f"{self.pid} {self.tid} {self.last or 0} {self.seen or 0} {self.open} {self.thread}"


def meaning(event) -> str | None:
    """What an `Event` stands for: "span", "span_end", "link", "call", "call_end", "code", "strand", "switch", "image",
    "log", "audit", or None."""
    match event.name, *(f"{one.name}:{one.type.partition('{')[0]}" for one in event.fields):
        case [_, "span_id:u64", "parent_id:u64", *_]:
            return "span"
        case ["span_end", "span_id:u64", "error:str"]:
            return "span_end"
        case ["span_link", "span_id:u64", "link:u64"]:
            return "link"
        case ["function_begin", "code:u32"]:
            return "call"
        case ["function_end", "code:u32"]:
            return "call_end"
        case ["function_code", "code:u32", "name:str", "file:str", "line:u32", *more] if more in ([], ["image:u32"]):
            return "code"
        case ["strand", "strand:u64", "kind:str", "name:str"]:
            return "strand"
        case ["strand_switch", "strand:u64", "resumed:u32"]:
            return "switch"
        case ["process_image", "image:u32", "parent:u32", "inherited:u32"]:
            return "image"
        case ["log", _, "logger:str", "message:str", *_]:
            return "log"
        case ["audit", "name:str", "args:str"]:
            return "audit"
    return None


def functions(trace) -> dict[tuple, Function]:
    """By process (None: unknown) and code: they are told once, perhaps after the first call, by whatever thread."""
    indexes = [index for index, event in enumerate(trace.event_classes) if meaning(event) == "code"]
    found = {}
    for rows in trace.class_rows(indexes):
        pids = rows["vpid"].tolist() if "vpid" in rows.dtype.names else [None] * len(rows)
        images = field_of(rows, "image").tolist() if "image" in rows.dtype.names else [None] * len(rows)
        columns = (field_of(rows, name).tolist() for name in ("code", "name", "file", "line"))
        for pid, image, code, name, file, line in zip(pids, images, *columns, strict=True):
            found[pid if is_identity("vpid", pid) else None, code] = Function(name, file, line, image)
    return found


def field_of(rows, name: str):
    """A column that is a field, not a context of the same name."""
    qualified = f"field.{name}"
    return rows[qualified if qualified in rows.dtype.names else name]


def losses(trace) -> list[Loss]:
    """Where the packets say that records are missing, in order of time."""
    found = []
    for stream in trace.streams:
        packets = stream.packets
        if packets[0].events_discarded:
            found.append(_loss(packets[0], packets[0], stream.cpu, packets[0].events_discarded, 0))
        for before, after, events, missing in stream.gaps:
            found.append(_loss(before, after, stream.cpu, events, missing))
    return sorted(found)


def ended(trace) -> list[Ended]:
    """The threads whose process ended while they had a place, as far as the trace says it (docs/formats.md)."""
    found = []
    for source in trace.sources:
        for name, value in source.env.items():
            if name.startswith("ended_"):
                *numbers, thread = str(value).split(" ", 5)
                if len(numbers) == 5 and all(one.isascii() and one.isdecimal() and len(one) < 20 for one in numbers):
                    pid, tid, last, seen, n_open = map(int, numbers)
                    found.append(Ended(pid, tid, last or None, seen or None, n_open, thread))
    return [one for one in found if max(one.pid, one.tid) <= _LARGEST_ID and max(one.last or 0, one.seen or 0) < 2**63]


def _loss(before, after, cpu, events: int, packets: int) -> Loss:
    begin = before.begin if before is after else before.end
    return Loss(begin or 0, (after.end if events else after.begin) or 0, cpu, events, packets)
