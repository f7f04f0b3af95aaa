"""List flight recorder files, and the channels of living processes."""

from __future__ import annotations

import json
import os
import time

from ..record.automatic import default_directory
from ..record.files import Region, find, in_memory
from ._output import say

__all__ = ["configure", "run"]


def configure(parser) -> None:
    text = "of the files (default: the variable RINGBUF_DIR; else that of RINGBUF=flight)"
    parser.add_argument("directory", metavar="DIR", nargs="?", help=text)


def run(args) -> int:
    directory = args.directory or default_directory()
    named = args.directory or os.environ.get("RINGBUF_DIR")
    regions = (find(directory) if named or os.path.isdir(directory) else []) + in_memory()
    if args.json:
        print(json.dumps([region.as_dict() for region in regions]))
    else:
        for region in regions:
            say(_line(region))
    return 0


def _line(region: Region) -> str:
    if region.problem:
        return f"{region.path}: {region.problem}"
    return (
        f"{region.path}: {region.name!r}, {region.mode}, of {region.program} (pid {region.pid}), "
        f"{region.size >> 10} KiB, {_state(region)}"
    )


def _state(region: Region) -> str:
    if region.users:
        return "used by process " + ", ".join(map(str, region.users))
    if region.used:
        return "used by a process that cannot be seen"
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(region.modified))
    return f"dead since {when}" + (f", recovered to {region.recovered}" if region.recovered else "")
