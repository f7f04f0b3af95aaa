"""What `ringbuf view` and `ringbuf export` read: a trace, and which of its records."""

from __future__ import annotations

import re
import sys
from datetime import datetime

from ..trace.trace import Trace, open_trace

__all__ = ["configure", "opened", "report", "wanted"]

_TIMES = "a time: 12:34:56.7, 2026-01-31 12:34:56, seconds since 1970, +SECONDS from the beginning, -SECONDS to the end"


def configure(parser) -> None:
    parser.add_argument("directory", metavar="DIR", help="the trace")
    parser.add_argument("--event", metavar="NAME", action="append", help="only these events; NAME may be a pattern")
    parser.add_argument("--from", metavar="TIME", dest="begin", help=f"leave out what is earlier; {_TIMES}")
    parser.add_argument("--to", metavar="TIME", dest="end", help="leave out what is later")
    parser.add_argument("--skip-damaged", action="store_true", help="leave out damaged packets, and say how many")


def opened(args) -> Trace:
    return open_trace(args.directory, errors="skip" if args.skip_damaged else "raise")


def wanted(args, trace: Trace) -> dict:
    """The arguments of `Trace.records` and others."""
    single = args.event[0] if args.event and len(args.event) == 1 else args.event
    return {"events": single, "begin": _moment(args.begin, trace), "end": _moment(args.end, trace)}


def report(args, trace: Trace) -> None:
    """What is not there, to stderr."""
    lost = trace.lost
    for count, what in (
        (trace.skipped_packets, "damaged packets left out"),
        (lost.events + lost.events_before, "records lost when it was recorded"),
        (lost.packets, "packets overwritten or lost when it was recorded"),
    ):
        if count:
            print(f"ringbuf {args.command}: {count} {what}", file=sys.stderr)


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
