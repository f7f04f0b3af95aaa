"""Print the counters of a channel."""

from __future__ import annotations

import json
from dataclasses import asdict

from ..live.sharing import look
from ._numbers import target
from ._output import say

__all__ = ["configure", "run"]


def configure(parser) -> None:
    parser.add_argument("target", metavar="TARGET", help="a path, or a pid")


def run(args) -> int:
    with look(target(args.target)) as channel:
        stats = asdict(channel.stats())
        about = {"name": channel.name, "mode": channel.mode, "streams": len(channel.streams)}
    if args.json:
        print(json.dumps({**about, **stats}))
        return 0
    say(f"{about['name']!r}, {about['mode']}, {about['streams']} streams")
    for name, count in stats.items():
        if count:
            print(f"{count:16} {name}")
    return 0
