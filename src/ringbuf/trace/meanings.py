"""Events that mean more than their name: spans, calls, log records, audit events. docs/formats.md has them."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = [
    "IDENTITY", "IRQ", "SOFTIRQ", "Ended", "Function", "Loss", "ended", "field_of", "functions", "is_identity",
    "kernel_name", "losses", "meaning", "system_call", "wall_clock_steps",
]  # fmt: skip

#: Contexts that say whose a record is, and the type of their values.
IDENTITY = {"vpid": int, "vtid": int, "procname": str, "thread_name": str}
#: Added to numbers of interrupts, so that they are none of system calls.
IRQ, SOFTIRQ = 1 << 30, 1 << 31
_SYSCALL = re.compile(r"(?:compat_)?sys(?:call)?_(?P<way>enter|entry|exit)(?:_(?P<call>\w+))?")
_ENDLESS = {"exit", "exit_group", "rt_sigreturn"}
_STEP = re.compile(r"(\d{1,19}) (-?\d{1,18})")
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
    host : str
        The machine, where the trace is of several; else empty.
    """

    pid: int
    tid: int
    last: int | None
    seen: int | None
    open: int
    thread: str
    host: str = ""

    def as_env(self) -> str:
        """As a trace's environment has it: ``ended_1`` and so on."""
        return f"{self.pid} {self.tid} {self.last or 0} {self.seen or 0} {self.open} {self.thread}"


def meaning(event) -> str | None:
    """What an `Event` stands for: "span", "span_end", "link", "call", "call_end", "code", "strand", "switch", "image",
    "log", "audit", those of the kernel "run", "irq", "irq_end", "syscall", "syscall_end", or None."""
    match event.name, *(f"{one.name}:{one.type.partition('{')[0]}" for one in event.fields):
        case [_, "span_id:u64", "parent_id:u64", *_]:
            return "span"
        case ["span_end", "span_id:u64", "error:str"]:
            return "span_end"
        case ["span_link", "span_id:u64", "link:u64"]:
            return "link"
        case ["function_begin", "code:u32", *more] if more in ([], ["began:u64"]):
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
    return _of_kernel(event.name, {one.name for one in event.fields})


def _of_kernel(name: str, fields: set[str]) -> str | None:
    """As tracefs and LTTng call them."""
    if name == "sched_switch":
        is_known = "next_comm" in fields and ({"prev_pid", "next_pid"} <= fields or {"prev_tid", "next_tid"} <= fields)
        return "run" if is_known else None
    if name.removeprefix("irq_") in ("softirq_entry", "softirq_exit", "handler_entry", "handler_exit"):
        is_entry = name.endswith("entry")
        return ("irq" if is_entry else "irq_end") if fields & {"irq", "vec"} else None
    found = _SYSCALL.fullmatch(name)
    if found is None or found["call"] in _ENDLESS or not (found["call"] or "id" in fields):
        return None
    return "syscall" if found["way"] in ("enter", "entry") else "syscall_end"


def system_call(event) -> str:
    """The name of a system call that an event begins or ends; empty: its number is a field."""
    found = _SYSCALL.fullmatch(event.name)
    return (found["call"] or "") if found else ""


#: What can interrupt a CPU without an interrupt's line, by number.
SOFTIRQS = ("HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "IRQ_POLL", "TASKLET", "SCHED", "HRTIMER", "RCU")


def kernel_name(text: str, number: int) -> str:
    """Of a thread that the kernel calls so; without text, of a system call or an interrupt (`pairs.py`)."""
    if text:
        return f"{text} {number}"
    if number >= SOFTIRQ:
        vector = number - SOFTIRQ
        return f"softirq {SOFTIRQS[vector] if vector < len(SOFTIRQS) else vector}"
    return f"irq {number - IRQ}" if number >= IRQ else f"syscall {number}"


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
    from .threads import hosts_of

    found = []
    for source, host in hosts_of(trace).items():
        for name, value in source.env.items():
            if name.startswith("ended_"):
                *numbers, thread = str(value).split(" ", 5)
                if len(numbers) == 5 and all(one.isascii() and one.isdecimal() and len(one) < 20 for one in numbers):
                    pid, tid, last, seen, n_open = map(int, numbers)
                    found.append(Ended(pid, tid, last or None, seen or None, n_open, thread, host))
    return [one for one in found if max(one.pid, one.tid) <= _LARGEST_ID and max(one.last or 0, one.seen or 0) < 2**63]


def wall_clock_steps(trace) -> list[tuple[int, int]]:
    """(time, how far the wall clock was ahead of the trace's from then on), in nanoseconds, as the trace says."""
    found = []
    for source in trace.sources:
        for name, value in source.env.items():
            numbers = _STEP.fullmatch(str(value)) if name.startswith("wall_clock_") else None
            if numbers:
                found.append((int(numbers[1]), int(numbers[2])))
    return sorted(found)


def _loss(before, after, cpu, events: int, packets: int) -> Loss:
    begin = before.begin if before is after else before.end
    return Loss(begin or 0, (after.end if events else after.begin) or 0, cpu, events, packets)
