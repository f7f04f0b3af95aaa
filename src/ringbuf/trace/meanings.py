"""Events that mean more than their name: spans, calls, log records, audit events. docs/formats.md has them."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["IDENTITY", "Function", "Loss", "field_of", "functions", "is_identity", "losses", "meaning"]

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


def meaning(event) -> str | None:
    """What an `Event` stands for: "span", "span_end", "call", "call_end", "code", "strand", "switch", "image",
    "log", "audit", or None."""
    match event.name, *(f"{one.name}:{one.type.partition('{')[0]}" for one in event.fields):
        case [_, "span_id:u64", "parent_id:u64", *_]:
            return "span"
        case ["span_end", "span_id:u64", "error:str"]:
            return "span_end"
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


def _loss(before, after, cpu, events: int, packets: int) -> Loss:
    begin = before.begin if before is after else before.end
    return Loss(begin or 0, (after.end if events else after.begin) or 0, cpu, events, packets)
