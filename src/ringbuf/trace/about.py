"""What a trace is: processes, threads, events, times, losses, damage."""

from __future__ import annotations

import html
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from ..texts import printable
from .deaths import Death, deaths
from .meanings import Loss, field_of, losses, meaning, wall_clock_steps
from .threads import Thread, threads_of
from .units import duration_text, short

__all__ = ["About", "about"]

_SHOWN = 20  # events and threads of the text


@dataclass(frozen=True)
class About:
    """What `ringbuf info` says of a trace.

    Attributes
    ----------
    path : str
    env : dict
        What the tracer said of itself.
    begin, end : int or None
        Nanoseconds since the Unix epoch; None: there is no packet.
    bytes, packets, streams : int
    events : dict of str to int
        Records by name, those with none left out.
    spans, calls : int
        Begins of spans, and of calls of functions.
    threads : tuple of Thread
    losses : tuple of Loss
        Where records are missing.
    events_lost, packets_lost : int
        Records that were refused, or torn by a death; packets that were overwritten, or are missing otherwise.
    not_recorded : tuple of (int, str, str)
        Processes that `ringbuf record` missed: pid (0: not known), program, and why.
    damage : tuple of Damage
        What could not be read; only where the trace was opened with ``errors="skip"``.
    deaths : tuple of Death
        Processes that ended while they were recorded.
    set : tuple of str
        Of a set gathered from many machines: who is missing, died or ends before the others, and how far apart the
        clocks may be.
    clock_steps : tuple of (int, int)
        Times from which the wall clock was so many nanoseconds ahead of the trace's: it was set, or has drifted.
    """

    path: str
    env: dict
    begin: int | None
    end: int | None
    bytes: int
    packets: int
    streams: int
    events: dict[str, int]
    spans: int
    calls: int
    threads: tuple[Thread, ...]
    losses: tuple[Loss, ...]
    events_lost: int
    packets_lost: int
    not_recorded: tuple[tuple[int, str, str], ...]
    damage: tuple
    deaths: tuple[Death, ...] = ()
    set: tuple[str, ...] = ()
    clock_steps: tuple[tuple[int, int], ...] = ()

    @property
    def records(self) -> int:
        return sum(self.events.values())

    @property
    def processes(self) -> dict[tuple[str, int | None, int], str]:
        """By host (empty if all are of one), pid and image: the name."""
        return {thread.process_id: thread.process for thread in self.threads if thread.tid is not None}

    def as_dict(self) -> dict:
        """Of numbers, texts, lists and dicts."""
        found = asdict(self)
        found["records"] = self.records
        found["processes"] = [
            {"pid": pid, "name": name, **({"host": host} if host else {})}
            for (host, pid, _), name in self.processes.items()
        ]
        found["threads"] = [one._asdict() for one in self.threads]
        found["deaths"] = [one._asdict() for one in self.deaths]
        found["losses"] = [one._asdict() for one in self.losses]
        return found

    def __str__(self) -> str:
        width = max(len(name) for name, _ in self.lines())
        return "\n".join(printable(f"{name:<{width}}  {text}".rstrip()) for name, text in self.lines())

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th style="text-align:left">{html.escape(name)}</th>'
            f'<td style="text-align:left">{html.escape(text)}</td></tr>'
            for name, text in self.lines()
        )
        return f"<table>{rows}</table>"

    def lines(self) -> list[tuple[str, str]]:
        """What it is, as title and text."""
        env = self.env
        made = ", ".join(f"{name} {env[name]}" for name in ("procname", "vpid", "hostname") if env.get(name))
        lines = [("trace", self.path), *(("set", one) for one in self.set), *([("made by", made)] if made else [])]
        if self.begin is None:
            empty = "there is no packet: nothing was written, or the files are missing"
            return [*lines, ("empty", empty), *self._damage()]
        lines += [("begins", _moment(self.begin)), ("lasts", duration_text(self.end - self.begin))]
        lines.append(("records", f"{self.records} in {self.packets} packets of {self.streams} streams, "
                                 f"{short(self.bytes)}B"))  # fmt: skip
        most = sorted(self.events.items(), key=lambda item: (-item[1], item[0]))
        lines += [("", f"{count:>10}  {name}") for name, count in most[:_SHOWN]]
        lines += [("", f"and {len(most) - _SHOWN} more events")] if len(most) > _SHOWN else []
        lines += [(what, str(count)) for what, count in (("spans", self.spans), ("calls", self.calls)) if count]
        lines += [("threads", f"{len(self.threads)} in {len(self.processes)} processes")]
        busiest = sorted(self.threads, key=lambda thread: -thread.records)
        lines += [("", f"{thread.records:>10}  {thread}{self._span_of(thread)}") for thread in busiest[:_SHOWN]]
        lines += [("", f"and {len(busiest) - _SHOWN} more threads")] if len(busiest) > _SHOWN else []
        return [*lines, *self._clock(), *self._ended(), *self._lost(), *self._missed(), *self._damage()]

    def _span_of(self, thread: Thread) -> str:
        return f"  from +{duration_text(thread.first - self.begin)} to +{duration_text(thread.last - self.begin)}"

    def _clock(self) -> list[tuple[str, str]]:
        lines = []
        for when, ahead in self.clock_steps[:_SHOWN]:
            way = "ahead of" if ahead >= 0 else "behind"
            since = duration_text(max(0, when - self.begin))
            lines.append(
                ("clock", f"from +{since} on the wall clock was {duration_text(abs(ahead))} {way} these times")
            )
        rest = len(self.clock_steps) - _SHOWN
        return lines + ([("", f"and {rest} more times")] if rest > 0 else [])

    def _ended(self) -> list[tuple[str, str]]:
        shown = [("ended", one.said(self.begin)) for one in self.deaths[:_SHOWN]]
        rest = len(self.deaths) - _SHOWN
        return shown + ([("", f"and {rest} more processes")] if rest > 0 else [])

    def _lost(self) -> list[tuple[str, str]]:
        return [*self._rotated(), *self._lost_here()]

    def _rotated(self) -> list[tuple[str, str]]:
        records, packets = (self.env.get(f"rotated_{what}", 0) for what in ("records", "packets"))
        if not packets:
            return []
        return [
            ("rotated", f"{records} records in {packets} packets have left before these: the trace is of limited size")
        ]

    def _lost_here(self) -> list[tuple[str, str]]:
        if not self.losses:
            return [("lost", "nothing")]
        lines = []
        if self.events_lost:
            lines.append(("lost", f"{self.events_lost} records that did not fit, or that their thread died over"))
        if self.packets_lost:
            lines.append(("lost", f"{self.packets_lost} packets that were overwritten, or are missing"))
        for one in self.losses[:_SHOWN]:
            what = ", ".join(f"{n} {name}" for n, name in ((one.events, "records"), (one.packets, "packets")) if n)
            where = "" if one.cpu is None else f", CPU {one.cpu}"
            first, last = (duration_text(max(0, moment - self.begin)) for moment in (one.begin, one.end))
            lines.append(("", f"{what}: from +{first} to +{last}{where}"))
        return lines + ([("", f"and {len(self.losses) - _SHOWN} more places")] if len(self.losses) > _SHOWN else [])

    def _missed(self) -> list[tuple[str, str]]:
        return [("not there", f"{program} {pid or ''}: {why}") for pid, program, why in self.not_recorded]

    def _damage(self) -> list[tuple[str, str]]:
        return [("damaged", str(one)) for one in self.damage]


def _moment(ns: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ns // 10**9)) + f".{ns % 10**9:09d}"


def _not_recorded(trace) -> Iterator[tuple[int, str, str]]:
    columns = ("pid", "program", "why")
    for index, event in enumerate(trace.event_classes):
        if event.name == "not_recorded" and tuple(one.name for one in event.fields) == columns:
            for rows in trace.class_rows([index]):
                yield from zip(*(field_of(rows, name).tolist() for name in columns), strict=True)


def about(trace) -> About:
    """Read all of a trace, and say what it is."""
    from ..fleet.health import set_lines

    begin, end = trace.time_range or (None, None)
    counts = trace.count()
    kinds = {event.name: meaning(event) for event in trace.event_classes}
    missing, threads = losses(trace), tuple(threads_of(trace))
    return About(
        path=trace.path,
        env=dict(trace.env),
        begin=begin,
        end=end,
        bytes=sum(packet.size for packet in trace.packets),
        packets=len(trace.packets),
        streams=len(trace.streams),
        events={name: count for name, count in counts.items() if count},
        spans=sum(count for name, count in counts.items() if kinds[name] == "span"),
        calls=sum(count for name, count in counts.items() if kinds[name] == "call"),
        threads=threads,
        losses=tuple(missing),
        events_lost=sum(one.events for one in missing),
        packets_lost=sum(one.packets for one in missing),
        not_recorded=tuple(_not_recorded(trace)),
        damage=trace.damage,
        deaths=tuple(deaths(trace, threads)),
        clock_steps=tuple(wall_clock_steps(trace)),
        set=set_lines(trace),
    )
