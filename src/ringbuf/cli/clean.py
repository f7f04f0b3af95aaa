"""Remove flight recorder files of dead processes: those that were recovered, or that the options name."""

from __future__ import annotations

import json
import os

from ..errors import RegionError
from ..record.automatic import default_directory
from ..record.files import clean
from ._numbers import age, count, size
from ._output import say

__all__ = ["configure", "run"]


def configure(parser) -> None:
    text = "of the files (default: the variable RINGBUF_DIR; else that of RINGBUF=flight)"
    parser.add_argument("directory", metavar="DIR", nargs="?", help=text)
    parser.add_argument("--age", metavar="AGE", type=age, help="also what is older: 90s, 15m, 12h, 7d")
    parser.add_argument("--keep", metavar="N", type=count, help="also all but the newest N")
    parser.add_argument("--max-size", metavar="SIZE", type=size, help="also the oldest, down to this: 500M, 2G")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")


def run(args) -> int:
    directory = args.directory or default_directory()
    if not (args.directory or os.environ.get("RINGBUF_DIR") or os.path.isdir(directory)):
        raise RegionError("no directory: name one, or set RINGBUF_DIR")
    options = {"age": args.age, "keep": args.keep, "max_size": args.max_size}
    removed = clean(directory, **options, dry_run=args.dry_run)
    if args.json:
        print(json.dumps([one.as_dict() for one in removed]))
        return 0
    for one in removed:
        say(f"{'would remove' if args.dry_run else 'removed'} {one.path} ({one.size >> 10} KiB): {one.why}")
    return 0
