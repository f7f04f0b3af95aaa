"""Make a trace of the file of a channel whose processes are dead."""

from __future__ import annotations

import json
import time

from ..ctf.metadata import FORMATS
from ..record.files import mark_recovered
from ..record.recovery import Recovery, recover
from ._output import say

__all__ = ["configure", "run"]


def configure(parser) -> None:
    parser.add_argument("path", metavar="PATH", help="the file; it is only read")
    parser.add_argument("-o", "--output", metavar="DIR", required=True, help="the trace")
    parser.add_argument("--all", action="store_true", help="also packets that a reader or recorder has had")
    parser.add_argument("--force", action="store_true", help="even if living processes use the file")
    parser.add_argument("--format", choices=FORMATS, default="ctf", help="CTF 1.8 or CTF 2 (%(default)s)")


def run(args) -> int:
    found = recover(args.path, args.output, all=args.all, force=args.force, format=args.format)
    if not args.force:
        mark_recovered(args.path, args.output)
    if args.json:
        print(json.dumps(found.as_dict()))
    else:
        for line in _lines(found):
            say(line)
    return 0


def _lines(found: Recovery):
    yield f"{found.directory}: {found.records} records in {found.packets} packets, until {_time(found.end)}"
    yield f"channel {found.name!r} of {found.program} (pid {found.pid}) on {found.hostname}"
    if found.missing:
        yield f"the file lacks its last {found.missing} bytes"
    for count, what in (
        (found.stats.records_torn, "records torn: their producers died over them"),
        (found.stats.records_lost, "records lost while it ran"),
        (found.consumed, "packets left out: they were read before (--all has those that still stand)"),
        (found.damaged, "packets left out: they are damaged"),
    ):
        if count:
            yield f"{count} {what}"
    for one in found.damage:
        yield f"  stream {one.stream}, packet {one.sequence_number}: {one.reason}"
    for stream in found.streams:
        if stream.astray:
            yield f"  stream {stream.stream}: its position is damaged; packets were looked for one by one"
    if found.producers:
        yield f"{len(found.producers)} threads were recording at the end:"
    for words in sorted(found.producers, key=lambda words: words.last_record or 0, reverse=True):
        when = f"last record {_time(words.last_record)}" if words.last_record else "no record"
        over = f", in the middle of {words.open_records}" if words.open_records else ""
        yield f"  pid {words.pid} tid {words.tid} {words.thread} ({words.program or '?'}): {when}{over}"


def _time(ns: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ns // 10**9)) + f".{ns % 10**9:09d}"
