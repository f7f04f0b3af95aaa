"""Show what channels take in at the moment: records and bytes a second, losses, and how full they are."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass

from ..errors import RingbufError
from ..live.sharing import attach
from ..record.files import open_channels
from ..texts import printable
from ..trace.units import short
from ._numbers import seconds, target

__all__ = ["configure", "run"]

_HOME, _REST_OF_LINE, _REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"
_COLUMNS = "{:24.24} {:9} {:>10} {:>10} {:>8} {:>10} {:>5}  {}"
_HEADER = _COLUMNS.format("CHANNEL", "MODE", "RECORDS/S", "BYTES/S", "LOST/S", "LOST", "FULL", "PROCESSES")


@dataclass
class _Sample:
    """What a channel has counted by some moment."""

    time: float
    name: str
    mode: str
    processes: list[int]
    records: int
    bytes: int
    lost: int
    full: float


@dataclass
class _Row:
    """What it did between two of them; a second's worth."""

    path: str
    name: str
    mode: str
    processes: list[int]
    records_per_second: float
    bytes_per_second: float
    lost_per_second: float
    lost: int
    full: float


def configure(parser) -> None:
    parser.add_argument("target", metavar="TARGET", nargs="?", help="a path, or a pid (default: all of yours)")
    parser.add_argument("--once", action="store_true", help="one table, of one interval")
    parser.add_argument("--interval", metavar="SECONDS", type=seconds, default=1.0, help="between tables (%(default)s)")


def run(args) -> int:
    show = _show_json if args.json else _show_screen if sys.stdout.isatty() and not args.once else _show
    before = _samples(args.target)
    while True:
        time.sleep(args.interval)
        now = _samples(args.target)
        show([_row(path, before[path], now[path]) for path in now if path in before])
        sys.stdout.flush()
        if args.once:
            return 0
        before = now


# ---- looking ----


def _samples(wanted: str | None) -> dict[str, _Sample]:
    """By path. Nothing is kept open: it would keep the files of those that end."""
    if wanted is not None:
        return {wanted: _sample(target(wanted), [])}
    found = {}
    for path, users in open_channels():
        try:
            found[path] = _sample(path, users)
        except (RingbufError, OSError):
            continue  # it has ended, or has a client that only its own program knows
    return found


def _sample(where: int | str, users: list[int]) -> _Sample:
    with attach(where) as channel:
        stats, usage = channel.stats(), [stream.usage() for stream in channel.streams]
        ring = channel.subbuf_size * channel.n_subbufs
        return _Sample(
            time.monotonic(),
            channel.name,
            channel.mode,
            users,
            stats.records_written,
            sum(produced for produced, _ in usage),
            stats.records_lost + stats.records_torn,
            max(unread for _, unread in usage) / ring,
        )


def _row(path: str, before: _Sample, now: _Sample) -> _Row:
    def rate(name: str) -> float:
        return max(0, getattr(now, name) - getattr(before, name)) / (now.time - before.time)

    rates = rate("records"), rate("bytes"), rate("lost")
    return _Row(path, now.name, now.mode, now.processes, *rates, now.lost, now.full)


# ---- showing ----


def _show_json(rows: list[_Row]) -> None:
    print(json.dumps({"time": time.time(), "channels": [asdict(row) for row in rows]}))


def _show(rows: list[_Row]) -> None:
    print("\n".join(_lines(rows)))


def _show_screen(rows: list[_Row]) -> None:
    lines = "".join(f"{line}{_REST_OF_LINE}\n" for line in _lines(rows))
    print(f"{_HOME}{lines}{_REST_OF_SCREEN}", end="")


def _lines(rows: list[_Row]) -> list[str]:
    busiest = sorted(rows, key=lambda row: (-row.records_per_second, row.name))
    return [_HEADER, *map(_line, busiest)] if rows else ["no channel is in use"]


def _line(row: _Row) -> str:
    rates = map(short, (row.records_per_second, row.bytes_per_second, row.lost_per_second, row.lost))
    where = ",".join(map(str, row.processes)) or row.path
    return _COLUMNS.format(printable(row.name), row.mode, *rates, f"{row.full:.0%}", printable(where))
