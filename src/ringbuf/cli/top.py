"""Show what channels take in at the moment: records and bytes a second, losses, and how full they are.

With --events: which events these records are, judged by the full packets that pass. Nothing is taken out of a ring, and
no packet ended. A channel that is being recorded shows its events in its trace only: ringbuf view -f.

With --metrics: what the programs count, and how it grows.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass

from ..errors import RingbufError
from ..live.sharing import look
from ..metrics.reading import read
from ..record.files import open_channels
from ..texts import printable
from ..trace.units import short
from . import _buffers
from ._counted import number
from ._counted import rows as counted_rows
from ._numbers import seconds, target
from ._shares import Share, Shares

__all__ = ["configure", "run"]

_HOME, _REST_OF_LINE, _REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"
_COLUMNS = "{:24.24} {:9} {:>10} {:>10} {:>8} {:>10} {:>5}  {}"
_EVENT_COLUMNS = "{:40.40} {:>10} {:>6}  {}"
_COUNTED_COLUMNS = "{:48.48} {:>10} {:>10}  {} {}"
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
    counted: dict[str, tuple[float, str]]
    hint: str


@dataclass
class _Counted:
    """A counter, gauge or histogram: what it had come to, and how it grew."""

    channel: str
    metric: str
    value: float
    said: str
    per_second: float


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
    hint: str  # which option would have kept what was lost


def configure(parser) -> None:
    parser.add_argument("target", metavar="TARGET", nargs="?", help="a path, or a pid (default: all of yours)")
    parser.add_argument("--once", action="store_true", help="one table, of one interval")
    rows = parser.add_mutually_exclusive_group()
    rows.add_argument("--events", action="store_true", help="a row for each event, instead of each channel")
    rows.add_argument("--metrics", action="store_true", help="a row for each counter, gauge and histogram")
    parser.add_argument("--interval", metavar="SECONDS", type=seconds, default=1.0, help="between tables (%(default)s)")


def run(args) -> int:
    if not args.interval and not args.once:
        raise ValueError("--interval 0 is for --once: tables without end would take a processor")
    show = _show_json if args.json else _show_screen if sys.stdout.isatty() and not args.once else _show
    shares = Shares()
    before = _samples(args.target)
    while True:
        time.sleep(args.interval)
        now = _samples(args.target)
        rows: list = [_row(path, before[path], now[path]) for path in now if path in before]
        if args.metrics:
            rows = [one for path in now if path in before for one in _counted(before[path], now[path])]
        elif args.events:
            rows = [share for row in rows for share in _events(shares, args.target, row)]
        show(rows)
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
            continue  # it has ended
    return found


def _sample(where: int | str, users: list[int]) -> _Sample:
    with look(where) as channel:
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
            {title: (value, said) for title, value, said in counted_rows(read(channel))},
            _hint(stats, channel),
        )


def _hint(stats, channel) -> str:
    hint = _buffers.spares_hint(stats, channel)
    return f"{hint}: make n_spares larger" if hint else ""


def _row(path: str, before: _Sample, now: _Sample) -> _Row:
    def rate(name: str) -> float:
        return max(0, getattr(now, name) - getattr(before, name)) / (now.time - before.time)

    rates = rate("records"), rate("bytes"), rate("lost")
    return _Row(path, now.name, now.mode, now.processes, *rates, now.lost, now.full, now.hint)


def _counted(before: _Sample, now: _Sample) -> list[_Counted]:
    found = []
    for title, (value, said) in now.counted.items():
        rate = (value - before.counted.get(title, (0, ""))[0]) / (now.time - before.time)
        found.append(_Counted(now.name, title, value, said, rate))
    return found


def _events(shares: Shares, wanted: str | None, row: _Row) -> list[Share]:
    where = row.path if wanted is None else target(wanted)
    return shares.of(row.path, where, row.name, row.records_per_second)


# ---- showing ----


def _show_json(rows: list) -> None:
    kind = {Share: "events", _Counted: "metrics"}.get(type(rows[0]), "channels") if rows else "channels"
    print(json.dumps({"time": time.time(), kind: [asdict(row) for row in rows]}))


def _show(rows: list) -> None:
    print("\n".join(_lines(rows)))


def _show_screen(rows: list) -> None:
    lines = "".join(f"{line}{_REST_OF_LINE}\n" for line in _lines(rows))
    print(f"{_HOME}{lines}{_REST_OF_SCREEN}", end="")


def _lines(rows: list) -> list[str]:
    if not rows:
        return ["no channel is in use"]
    if isinstance(rows[0], _Counted):
        return [_COUNTED_COLUMNS.format("METRIC", "VALUE", "PER SECOND", "CHANNEL", ""), *map(_counted_line, rows)]
    if isinstance(rows[0], Share):
        busiest = sorted(rows, key=lambda row: (-row.records_per_second, row.channel, row.event))
        return [_EVENT_COLUMNS.format("EVENT", "RECORDS/S", "SHARE", "CHANNEL"), *map(_event_line, busiest)]
    busiest = sorted(rows, key=lambda row: (-row.records_per_second, row.name))
    return [_HEADER, *map(_line, busiest), *(f"{printable(row.name)}: {row.hint}" for row in busiest if row.hint)]


def _counted_line(row: _Counted) -> str:
    said = f"({row.said})" if row.said else ""
    return _COUNTED_COLUMNS.format(row.metric, number(row.value), number(row.per_second), printable(row.channel), said)


def _event_line(row: Share) -> str:
    share = "-" if row.share is None else f"{row.share:.0%}"
    channel = f"{row.channel} ({row.why})" if row.share is None else row.channel
    return _EVENT_COLUMNS.format(printable(row.event), short(row.records_per_second), share, printable(channel))


def _line(row: _Row) -> str:
    rates = map(short, (row.records_per_second, row.bytes_per_second, row.lost_per_second, row.lost))
    where = ",".join(map(str, row.processes)) or row.path
    return _COLUMNS.format(printable(row.name), row.mode, *rates, f"{row.full:.0%}", printable(where))
