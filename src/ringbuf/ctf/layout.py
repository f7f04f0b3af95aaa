"""What the bytes of a live channel's packets depend on, gathered for decoding and for metadata."""

from __future__ import annotations

import time
from dataclasses import replace

from ..errors import RegionError
from .metadata import ChannelLayout, ClockInfo
from .schema import EventSchema

__all__ = ["channel_layout", "clock_info", "clock_now", "wall_clock"]

_SET = 10_000_000  # ns that the wall clock differs from what a channel says, if it was set since


def clock_info(channel) -> ClockInfo:
    """The channel's clock as trace metadata says it."""
    kind, freq, offset_s, offset = channel.clock_parameters
    return ClockInfo(freq=freq, offset_s=offset_s, offset_cycles=offset, name="ringbuf", description=kind)


def wall_clock(channel, clock: ClockInfo, known: int = 0) -> tuple[int, int, bool]:
    """How far the wall clock is ahead of what a clock says, in nanoseconds.

    Returns
    -------
    (int, int, bool)
        The time by that clock, nanoseconds since the Unix epoch; by how much; and whether that is another distance than
        the one that is `known`. If it is not, or if the clock is the program's own, `known` is returned.
    """
    if clock.description == "custom":
        return 0, known, False
    tries = []
    for _ in range(5):
        before = time.time_ns()
        tick = channel.current_timestamp()
        tries.append((time.time_ns() - before, before, tick))
    took, before, tick = min(tries)
    here = clock.offset_s * 10**9 + (clock.offset_cycles + tick) * 10**9 // clock.freq
    ahead = before + took // 2 - here
    return (here, ahead, True) if abs(ahead - known) > _SET + took else (here, known, False)


def clock_now(channel) -> ClockInfo:
    """The channel's clock, by the wall clock as it is now: that may have been set since the channel was made.

    A clock of the program's own is left as it is: nobody else knows what it counts.
    """
    clock = clock_info(channel)
    _, ahead, _ = wall_clock(channel, clock)
    if not ahead:
        return clock
    zero = clock.offset_s * clock.freq + clock.offset_cycles + ahead * clock.freq // 10**9
    offset_s, offset = divmod(zero, clock.freq)
    return replace(clock, offset_s=offset_s, offset_cycles=offset)


def channel_layout(channel, *, holes: bool, events=None) -> ChannelLayout:
    """The layout of `channel` with the events declared so far.

    Parameters
    ----------
    channel : Channel
    holes : bool
        Records may have been discarded or torn.
    events : iterable of EventSchema, optional
        Instead of all that are declared.

    Raises
    ------
    RegionError
        Somebody scribbled on the declarations.
    """
    try:
        return _layout(channel, holes, _declared(channel) if events is None else events)
    except ValueError as error:
        raise RegionError(f"the channel's declarations are damaged: {error}") from None


def _declared(channel):
    return [EventSchema(*schema) for schema in channel.schemas()]


def _layout(channel, holes, events):
    return ChannelLayout(
        uuid=channel.uuid.bytes,
        header=channel.header,
        per_cpu=channel.per_cpu,
        clock=clock_info(channel),
        contexts=channel.contexts,
        env={"tracer_name": "ringbuf", "tracer_major": 0, "tracer_minor": 1, **channel.environment},
        holes=holes,
        events=events,
    )
