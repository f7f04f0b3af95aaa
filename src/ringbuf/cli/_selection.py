"""What commands read: a trace, and which of its records, spans or calls."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Iterator
from datetime import datetime

from ..errors import TraceError
from ..texts import printable
from ..trace.choose import LIMITS, chooser
from ..trace.trace import Trace, open_trace
from ._numbers import count, duration

__all__ = [
    "chosen", "configure", "configure_pairs", "configure_threads", "opened", "report", "wanted", "wanted_limits",
    "wanted_pairs", "wanted_threads",
]  # fmt: skip

_TIMES = "a time: 12:34:56.7, 2026-01-31 12:34:56, seconds since 1970, +SECONDS from the beginning, -SECONDS to the end"


def configure(parser, what: str = "events") -> None:
    """The trace, and which names and times of it; `what` has names."""
    parser.add_argument("directory", metavar="DIR", help="the trace")
    parser.add_argument("--event", metavar="NAME", action="append", help=f"only these {what}; NAME may be a pattern")
    parser.add_argument("--from", metavar="TIME", dest="begin", help=f"leave out what is earlier; {_TIMES}")
    parser.add_argument("--to", metavar="TIME", dest="end", help="leave out what is later")
    parser.add_argument("--skip-damaged", action="store_true", help="leave out damaged packets, and say how many")


def configure_threads(parser) -> None:
    """Of which threads."""
    parser.add_argument("--process", metavar="WHO", action="append", help="only these: a pid, or a name or pattern")
    parser.add_argument("--thread", metavar="WHO", action="append", help="likewise: a tid, or a name or pattern")
    parser.add_argument("--task", metavar="NAME", action="append", help="only of these tasks of asyncio")


def configure_pairs(parser) -> None:
    """Of spans and calls: which threads, which sizes."""
    configure_threads(parser)
    parser.add_argument("--min-duration", metavar="TIME", type=duration, help="only what takes 5us, 1.5ms, 2s")
    parser.add_argument("--min-depth", metavar="N", type=count, help="leave out what fewer are around")
    parser.add_argument("--max-depth", metavar="N", type=count, help="leave out what more are around; 0: the outermost")


@contextlib.contextmanager
def opened(args, directory: str | None = None) -> Iterator[Trace]:
    """The trace, or another one that is read in the same way."""
    try:
        with open_trace(directory or args.directory, errors="skip" if args.skip_damaged else "raise") as trace:
            yield trace
    except TraceError as error:
        if args.skip_damaged or "packet at byte" not in str(error):
            raise
        raise TraceError(f"{error}; --skip-damaged leaves it out") from None


def wanted(args, trace: Trace) -> dict:
    """The arguments of `Trace.records` and others."""
    single = args.event[0] if args.event and len(args.event) == 1 else args.event
    begin, end = _moment(args.begin, trace), _moment(args.end, trace)
    if begin is not None and end is not None and begin > end:
        raise ValueError(f"--from {args.begin} is later than --to {args.end}: there is nothing in between")
    return {"events": single, "begin": begin, "end": end}


def wanted_threads(args) -> dict:
    """The arguments of `Pairs.where` that say whose."""
    found = {}
    for name, number in (("process", "pid"), ("thread", "tid")):
        given = getattr(args, name) or []
        found[number] = [int(one) for one in given if one.isdecimal()] or None
        found[name] = [one for one in given if not one.isdecimal()] or None
        if found[number] and found[name]:
            raise ValueError(f"--{name} takes numbers or names, not both")
    return {**found, "task": args.task}


def wanted_pairs(args, trace: Trace) -> dict:
    """The arguments of `Trace.pairs`."""
    some = wanted(args, trace)
    return {"names": some.pop("events"), **some, **wanted_threads(args), **wanted_limits(args)}


def wanted_limits(args) -> dict:
    """Of these arguments those that only spans and calls have."""
    return {name: getattr(args, name) for name in LIMITS if getattr(args, name) is not None}


def chosen(args, trace: Trace, some: dict) -> Callable | None:
    """Tells which records are meant beyond what `wanted` says; None: all. With a duration, `some` is of all events."""
    limits = wanted_limits(args)
    names, wanted = (some["events"] if limits else None), {**wanted_threads(args), **limits}
    found = chooser(trace, names, begin=some["begin"], end=some["end"], **wanted)
    if limits:
        some["events"] = None
    return found


def report(args, trace: Trace) -> None:
    """What is not there, to stderr."""
    if not trace.packets:
        empty = "has no packet: nothing was written, or its files are missing"
        print(f"ringbuf {args.command}: {printable(trace.path)} {empty}", file=sys.stderr)
    lost = trace.lost
    for number, what in (
        (trace.skipped_packets, "damaged packets left out"),
        (lost.events + lost.events_before, "records lost when it was recorded"),
        (lost.packets, "packets overwritten or lost when it was recorded"),
    ):
        if number:
            print(f"ringbuf {args.command}: {number} {what}", file=sys.stderr)


def _moment(text: str | None, trace: Trace) -> int | None:
    """Nanoseconds since the Unix epoch."""
    if text is None:
        return None
    first, last = trace.time_range or (0, 0)
    if found := re.fullmatch(r"([+-]?)(\d+)(?:\.(\d{1,9}))?", text):
        span = _ns(found[2], found[3])
        return {"+": first + span, "-": last - span, "": span}[found[1]]
    found = re.fullmatch(r"(?:(\d{4}-\d\d-\d\d)[ T])?(\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,9}))?", text)
    try:
        moment = datetime.fromisoformat(f"{found[1] or datetime.fromtimestamp(first // 10**9).date()} {found[2]}")
    except (TypeError, ValueError):
        raise ValueError(f"{text!r} is no time; {_TIMES}") from None
    return _ns(int(moment.timestamp()), found[3])


def _ns(seconds, fraction: str | None) -> int:
    return int(seconds) * 10**9 + int((fraction or "").ljust(9, "0"))
