"""Write what the buffers of living processes hold now to a trace; nothing is consumed."""

from __future__ import annotations

import json
import sys
import warnings

from ..ctf.metadata import FORMATS
from ..live.sharing import attach
from ..record.recorder import snapshot
from ._numbers import seconds, target
from ._output import say

__all__ = ["configure", "run"]


def configure(parser) -> None:
    parser.add_argument("target", metavar="TARGET", help="a path, or a pid")
    parser.add_argument("-o", "--output", metavar="DIR", required=True, help="the trace")
    parser.add_argument("--last", metavar="SECONDS", type=seconds, help="leave out packets that ended before")
    parser.add_argument("--format", choices=FORMATS, default="ctf", help="CTF 1.8 or CTF 2 (%(default)s)")


def run(args) -> int:
    with attach(target(args.target)) as channel:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            written = snapshot(channel, args.output, last=args.last, format=args.format)
    if args.json:
        print(json.dumps({"directory": args.output, **written}))
    else:
        say(f"{args.output}: {written['records']} records in {written['packets']} packets")
    for warning in told:
        say(f"ringbuf snapshot: {warning.message}", sys.stderr)
    return 1 if told else 0
