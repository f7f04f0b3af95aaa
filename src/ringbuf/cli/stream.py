"""Write what living processes record to a trace, from outside, until they have all ended.

Nothing is asked of the programs: what they have committed is in the trace, also if they are killed, end by
os._exit or execute another program. TARGET is a channel's file, a process that has one channel, or a directory
of flight recorder files (RINGBUF_DIR): then each channel in it, and each that is made in it meanwhile, gets a trace of
its own below DIR. SIGINT, SIGTERM and SIGHUP end it as well; then it writes what is there.
"""

from __future__ import annotations

import json
import os
import sys
import time

from ..record.stream import ChannelStream, FlightStream
from . import _signals
from ._numbers import target
from ._output import say

__all__ = ["configure", "run"]

_PERIOD = 0.1  # seconds between looks at who is there


def configure(parser) -> None:
    parser.add_argument("target", metavar="TARGET", help="a path, a pid, or a directory of flight recorder files")
    parser.add_argument("-o", "--output", metavar="DIR", required=True, help="the trace, or where traces are made")
    parser.add_argument("--stay", action="store_true", help="of a directory: wait for others when all have ended")
    parser.add_argument(
        "--remove", action="store_true",
        help="of a directory: also write what the dead have left there, and remove each file that is in traces",
    )  # fmt: skip


def run(args) -> int:
    with _signals.held_back():
        if os.path.isdir(args.target):
            flights = FlightStream(args.target, args.output, remove=args.remove)
            flights.look()
            there = f"{len(flights)} there now" if len(flights) else "none there yet"
            until = "until it is ended" if args.stay else "until the last process of those that come has ended"
            _announce(args, f"each channel ({there}) {until}")
            _until_over(flights.is_over, flights.look, args.stay)
            results, errors = flights.stop(), [f"{path}: {error}" for path, error in flights.errors.items()]
        elif args.stay or args.remove:
            raise ValueError("--stay and --remove go with a directory of flight recorder files")
        else:
            stream = ChannelStream(target(args.target), args.output)
            _announce(args, "until its last process has ended")
            _until_over(stream.is_over)
            results, errors = [stream.stop()], [str(stream.error)] if stream.error else []
    _report(results, args)
    for error in errors:
        print(f"ringbuf stream: {error}", file=sys.stderr)
    return 1 if errors else 0


def _announce(args, what: str) -> None:
    """Nothing else is printed before the end, which may be far."""
    say(f"ringbuf stream: {args.target} to {args.output}, {what}; Ctrl-C ends it", sys.stderr)
    sys.stderr.flush()


def _until_over(is_over, look=None, stay: bool = False) -> None:
    """Until it is, or a signal comes."""
    while True:
        if look is not None:
            look()
        time.sleep(_PERIOD)
        if (is_over() and not stay) or _signals.next_one() is not None:
            return


def _report(results: list[dict], args) -> None:
    if args.json:
        print(json.dumps({"directory": args.output, "traces": results}))
        return
    for result in results:
        more = "".join(f", {count} {what}" for what, count in list(result.items())[2:] if count)
        print(f"{result['directory']}: {result['records']} records{more}")
