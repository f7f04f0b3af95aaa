"""Processes that ended while they were recorded, and had not closed what they recorded to.

Those that were killed, and those that ended by themselves with the buffers open. Who left nothing open missed nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from .meanings import ended
from .threads import Thread
from .units import duration_text

__all__ = ["Death", "deaths"]

_PART = 20  # of a trace: others go on for one such part at least after one that is told


class Death(NamedTuple):
    """The end of a process.

    Attributes
    ----------
    pid : int
    process : str
        Its name; empty if the trace does not say.
    time : int or None
        When it was last heard of, or seen to live; nanoseconds since the Unix epoch.
    records : int
        That it was in the middle of: they are lost.
    is_early : bool
        Others recorded after it, for a good part of the trace.
    host : str
        The machine, where the trace is of several; else empty.
    """

    pid: int
    process: str
    time: int | None
    records: int
    is_early: bool
    host: str = ""

    def said(self, begin: int, n_open: int | None = None) -> str:
        """In words; of a trace from `begin` on, where it left `n_open` spans and calls (None: not counted)."""
        who = f"{self.process or 'process'} {self.pid}{' on ' if self.host else ''}{self.host}"
        when = "" if self.time is None else f" at +{duration_text(max(0, self.time - begin))}"
        what = [f"{self.records} record{'s' * (self.records > 1)} it was writing lost"] if self.records else []
        if n_open:
            what.append(f"{n_open} span{'s' * (n_open > 1)} or call{'s' * (n_open > 1)} not ended")
        if what:
            return f"{who} died{when}: {', '.join(what)}"
        others = ", while others went on" if self.is_early else ""
        return f"{who} ended{when}{others}{'; nothing was open' if n_open == 0 else ''}"


def deaths(trace, threads: Iterable[Thread]) -> list[Death]:
    """Those that the trace says (docs/formats.md), by their time; `threads` are those that recorded."""
    found: dict[tuple, Death] = {}
    names: dict[tuple, str] = {}
    last: dict[tuple, int] = {}
    for thread in threads:
        who = thread.host, thread.pid
        names[who] = names.get(who) or thread.process
        last[who] = max(last.get(who, thread.last), thread.last)
    newest = sorted(last, key=last.__getitem__)[-2:]  # processes
    begin, end = trace.time_range or (0, 0)
    part = (end - begin) // _PART
    for one in ended(trace):
        who = one.host, one.pid
        known = found.get(who)
        times = [one.last, one.seen, last.get(who), known.time if known else None]
        records = one.open + (known.records if known else 0)
        time = max(filter(None, times), default=None)
        is_early = time is not None and any(other != who and last[other] > time + part for other in newest)
        found[who] = Death(one.pid, names.get(who, ""), time, records, is_early, one.host)
    return sorted(found.values(), key=lambda death: (death.time or 0, death.pid))
