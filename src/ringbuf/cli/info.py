"""Say what a trace is: processes, threads, events, counts, times, losses, damaged places."""

from __future__ import annotations

from ..texts import printable_lines
from ..trace.about import about
from ..trace.plain import to_json
from ..trace.trace import open_trace
from . import _progress

__all__ = ["configure", "run"]


def configure(parser) -> None:
    parser.add_argument("directory", metavar="DIR", help="the trace")


def run(args) -> int:
    with open_trace(args.directory, errors="skip") as trace, _progress.shown(trace, passes=2):
        found = about(trace)
    print(printable_lines(to_json(found.as_dict()) if args.json else str(found)))
    return 0
