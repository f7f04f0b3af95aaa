"""Write a flame graph: collapsed stacks, or, to FILE.json, what https://www.speedscope.app opens.

The width of a name is the time in it alone, in nanoseconds, by thread and by what was open around it. Of calls of
functions, or, where a trace has none or --of says so, of spans.
"""

from __future__ import annotations

import json
import os
import sys

from ..output import directory_of
from ..texts import printable_lines
from ..trace.meanings import meaning
from ..trace.trace import Trace
from . import _progress, _selection
from ._output import say

__all__ = ["configure", "run"]


def configure(parser) -> None:
    _selection.configure(parser, "spans or functions")
    _selection.configure_pairs(parser)
    parser.add_argument("--of", choices=("spans", "calls"), help="what the graph is of")
    parser.add_argument("-o", "--output", metavar="FILE", default="-", help="the file; .json: speedscope (stdout)")


def run(args) -> int:
    from ..trace.flame import burnt

    with _selection.opened(args) as trace:
        with _progress.shown(trace, passes=2):
            flame = burnt(_chosen(args, trace)(**_selection.wanted_pairs(args, trace)))
        parts = [flame.speedscope(trace.path)] if args.output.endswith(".json") else flame.collapsed()
        _write(args.output, parts)
        if args.output != "-":
            total = sum(ns for _, _, ns in flame.stacks)
            result = {"file": args.output, "stacks": len(flame.stacks), "ns": total}
            say(json.dumps(result) if args.json else f"{args.output}: {len(flame.stacks)} stacks")
        _selection.report(args, trace)
    return 0


def _chosen(args, trace: Trace):
    counts = trace.count() if args.of is None else {}
    has_calls = any(counts[event.name] for event in trace.event_classes if meaning(event) == "call" and counts)
    return trace.calls if args.of == "calls" or has_calls else trace.spans


def _write(path: str, parts) -> None:
    if path == "-":
        sys.stdout.writelines(map(printable_lines, parts))
        return
    if path.startswith("/dev/") or (os.path.exists(path) and not os.path.isfile(path)):
        with open(path, "w", encoding="utf-8", errors="backslashreplace") as file:  # a pipe, a terminal
            file.writelines(parts)
        return
    with directory_of(path) as folder, folder.replacing(os.path.basename(path)) as draft:
        draft.writelines(part.encode("utf-8", "backslashreplace") for part in parts)
