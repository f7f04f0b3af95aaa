"""Write one page that shows a trace: a time line, flame graphs, tables. It opens offline in any browser.

Some megabytes at most, whatever the trace: the widest spans and calls, of each name the slowest, and those with errors
or without an end are in it one by one, and the others counted. --from and --to make a page of a part of it.
"""

from __future__ import annotations

import json
import os

from . import _progress, _selection
from ._output import say

__all__ = ["configure", "run"]


def configure(parser) -> None:
    _selection.configure(parser, "spans, functions or events")
    _selection.configure_pairs(parser)
    parser.add_argument("-o", "--output", metavar="FILE", default="report.html", help="the page (%(default)s)")


def run(args) -> int:
    args.skip_damaged = True  # the page shows where
    with _selection.opened(args) as trace:
        with _progress.shown(trace, passes=4):  # what it is: twice; names of functions; all
            trace.report(args.output, **_selection.wanted_pairs(args, trace))
        size = os.path.getsize(args.output)
        say(json.dumps({"file": args.output, "bytes": size}) if args.json else f"{args.output}: {size} bytes")
        _selection.report(args, trace)
    return 0
