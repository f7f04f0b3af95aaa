"""Write a trace to a file for other tools: .pftrace (Perfetto), .json (Chrome), either with .gz, or .parquet."""

from __future__ import annotations

import json
import os

from . import _progress, _selection
from ._output import say

__all__ = ["configure", "run"]


def configure(parser) -> None:
    _selection.configure(parser)
    _selection.configure_pairs(parser)
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="the file; its name says the format")


def run(args) -> int:
    with _selection.opened(args) as trace:
        more = {**_selection.wanted_threads(args), **_selection.wanted_limits(args)}
        with _progress.shown(trace, passes=2):  # of names of functions, and of all
            trace.export(args.output, **_selection.wanted(args, trace), **more)
        size = os.path.getsize(args.output)
        if args.json:
            print(json.dumps({"file": args.output, "bytes": size}))
        else:
            say(f"{args.output}: {size} bytes")
        _selection.report(args, trace)
    return 0
