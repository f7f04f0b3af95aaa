"""Write a trace, or a part of it, for other tools, in the format that the name of the file says.

.pftrace (Perfetto), .json (Chrome), .otlp.json (spans for OpenTelemetry), with or without .gz; .parquet. The name
of a directory makes a trace of it: what --event, --from and --to choose, the chunks of a session as one.
"""

from __future__ import annotations

import json
import os

from . import _progress, _selection
from ._output import say

__all__ = ["configure", "run"]


def configure(parser) -> None:
    _selection.configure(parser)
    _selection.configure_pairs(parser)
    parser.add_argument(
        "-o", "--output", metavar="FILE", required=True, help="the file or directory; its name says the format"
    )
    parser.add_argument("--partition", choices=("event",), help="of Parquet: a directory with a file for each event")


def run(args) -> int:
    with _selection.opened(args) as trace:
        more = {**_selection.wanted_threads(args), **_selection.wanted_limits(args), "partition": args.partition}
        with _progress.shown(trace, passes=2):  # of names of functions, and of all
            trace.export(args.output, **_selection.wanted(args, trace), **more)
        size = _size(args.output)
        if args.json:
            print(json.dumps({"file": args.output, "bytes": size}))
        else:
            say(f"{args.output}: {size} bytes")
        _selection.report(args, trace)
    return 0


def _size(path: str) -> int:
    """Bytes of a file, or of all in a directory."""
    if not os.path.isdir(path):
        return os.path.getsize(path)
    return sum(os.path.getsize(os.path.join(folder, name)) for folder, _, names in os.walk(path) for name in names)
