"""Print the counters of a channel: of its records, and what its programs count."""

from __future__ import annotations

import json
from dataclasses import asdict

from ..live.sharing import look
from ..metrics.reading import read
from . import _buffers
from ._counted import number, rows
from ._numbers import target
from ._output import say

__all__ = ["configure", "run"]


def configure(parser) -> None:
    parser.add_argument("target", metavar="TARGET", help="a path, or a pid")


def run(args) -> int:
    with look(target(args.target)) as channel:
        counts = channel.stats()
        hint = _buffers.spares_hint(counts, channel)
        about = {"name": channel.name, "mode": channel.mode, "streams": len(channel.streams)}
        counted = read(channel)
    stats = asdict(counts)
    if args.json:
        print(json.dumps({**about, **stats, "metrics": [asdict(metric) for metric in counted]}))
        return 0
    say(f"{about['name']!r}, {about['mode']}, {about['streams']} streams")
    for name, count in stats.items():
        if count:
            print(f"{count:16} {name}")
    for title, value, said in rows(counted):
        print(f"{number(value) if isinstance(value, float) else value:>16} {title}{f' ({said})' if said else ''}")
    if hint:
        say(f"{hint}: make n_spares larger")
    return 0
