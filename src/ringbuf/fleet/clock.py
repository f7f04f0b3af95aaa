"""One clock for many machines: how far another one is from ours, and how sure that is.

Somebody is asked what time it is. His clock was read between our question and his answer, so its distance
from ours is between two numbers, whatever the network does: that needs no trust in both ways taking the same time.
Of many questions the one with the least round trip says most.

    distance
       |        |                   Each bar is a question: the distance was within it. A clock that runs a
       |   |    |     ____|         little fast makes a sloping line; every line that passes through all bars
       |   |__--+-----   |          is possible. At a moment the possible lines leave a range: its middle is
       |   |    |                   our answer, its half the uncertainty.
       +----------------------- time

A clock that was slewed makes no line any more: then the oldest questions are forgotten, as many as it takes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass

from ..ctf.metadata import ClockInfo

__all__ = ["Correction", "Counter", "History", "Sample", "clock_identity", "corrected", "relation"]

_KEPT = 32  # samples of a history: what a relation is computed from
_HORIZON = 600 * 10**9  # ns that a history reaches back: rates wander
_LARGEST_RATE = 1e-3  # by which a clock can run fast or slow: NTP slews by half of it
_WANDER = 1e-6  # by which a rate may change outside of the time in which questions were asked
_SLACK = 1.0  # ns, for the arithmetic


@dataclass(frozen=True)
class Sample:
    """A question: our clock before it and after the answer, and theirs in between, in nanoseconds."""

    sent: int
    theirs: int
    received: int

    def __post_init__(self) -> None:
        if self.received < self.sent:
            raise ValueError("an answer cannot be earlier than its question")

    @property
    def round_trip(self) -> int:
        return self.received - self.sent


@dataclass(frozen=True)
class Correction:
    """What brings a clock to the reference: there it is t + offset_ns + drift * (t - at), whatever t is here.

    Parameters
    ----------
    at : int
        A time of the clock, in nanoseconds.
    offset_ns : int
        What the reference was ahead then.
    drift : float
        How much faster the reference runs, as a part: 1e-6 is a microsecond a second.
    uncertainty_ns : int
        The truth is not further away, in all of the time that was asked for.
    round_trip_ns : int
        The least one that it rests on.
    samples : int
        How many questions it rests on; 0: nothing had to be asked, the clocks are one.
    """

    at: int
    offset_ns: int
    drift: float = 0.0
    uncertainty_ns: int = 0
    round_trip_ns: int = 0
    samples: int = 0

    def __call__(self, t: int) -> int:
        """A time of the clock as the reference has it."""
        return t + self.offset_ns + round(self.drift * (t - self.at))

    def inverse(self, reference: int) -> int:
        """A time of the reference as the clock has it."""
        ahead = reference - self.at - self.offset_ns
        return self.at + round(ahead / (1 + self.drift))


class History:
    """The questions that one clock was asked: the best of each burst, some dozens of them, of the last minutes.

    Thread safety: one thread.
    """

    def __init__(self, samples: Iterable[Sample] = ()) -> None:
        self.samples: list[Sample] = list(samples)

    def add(self, burst: Iterable[Sample]) -> None:
        """Take the answer of the least round trip of those that were got together."""
        best = min(burst, key=lambda one: one.round_trip, default=None)
        if best is None:
            return
        self.samples.append(best)
        self.samples.sort(key=lambda one: one.theirs)
        newest = self.samples[-1].theirs
        self.samples = [one for one in self.samples if newest - one.theirs <= _HORIZON]
        if len(self.samples) > _KEPT:
            self._drop_one()

    def _drop_one(self) -> None:
        """Of the two that are closest in time, the less certain one; never the first or last."""
        some = self.samples
        place = min(range(1, len(some) - 2), key=lambda i: some[i + 1].theirs - some[i].theirs)
        worse = max((place, place + 1), key=lambda i: some[i].round_trip)
        del some[worse]


def relation(samples: Iterable[Sample], begin: int, end: int) -> Correction:
    """What is known of a clock between two of its times.

    Parameters
    ----------
    samples : iterable of Sample
    begin, end : int

    Raises
    ------
    ValueError
        There is no sample.
    """
    some = sorted(samples, key=lambda one: one.theirs)
    if not some:
        raise ValueError("nobody has asked the clock")
    while True:
        found = _bounds(some, begin, end)
        if found is not None:
            break
        some = some[1:]  # its rate has changed since, or it was set
    (low, high), (low_end, high_end) = found
    middle, middle_end = (low + high) / 2, (low_end + high_end) / 2
    drift = (middle_end - middle) / (end - begin) if end > begin else 0.0
    outside = max(some[0].theirs - begin, end - some[-1].theirs, 0)
    uncertainty = max(high - low, high_end - low_end) / 2 + _WANDER * outside + _SLACK
    return Correction(
        at=begin,
        offset_ns=_distance(some[0]) + round(middle),
        drift=drift,
        uncertainty_ns=int(uncertainty) + 1,
        round_trip_ns=min(one.round_trip for one in some),
        samples=len(some),
    )


def _distance(sample: Sample) -> int:
    """What all distances are counted from, so that floats are exact enough."""
    return sample.sent - sample.theirs


def _bounds(some: list[Sample], begin: int, end: int):
    """Least and greatest distance at `begin` and at `end` of a line that passes through all; None if none does.

    The lines a + b * t are a polygon in a and b, and what is extreme at a time is so at one of its corners: where two
    of its sides meet, and all others hold.
    """
    import numpy

    origin, base = some[0].theirs, _distance(some[0])
    t = numpy.array([one.theirs - origin for one in some], "f8")
    low = numpy.array([one.sent - one.theirs - base for one in some], "f8")
    high = numpy.array([one.received - one.theirs - base for one in some], "f8")
    times, values = numpy.concatenate([t, t]), numpy.concatenate([low, high])
    first, second = numpy.triu_indices(len(times), 1)
    apart = times[second] != times[first]
    first, second = first[apart], second[apart]
    slopes = (values[second] - values[first]) / (times[second] - times[first])
    steep = numpy.repeat([-_LARGEST_RATE, _LARGEST_RATE], len(times))
    b = numpy.concatenate([slopes, steep])
    a = numpy.concatenate([values[first] - slopes * times[first], numpy.tile(values, 2) - steep * numpy.tile(times, 2)])
    keep = numpy.abs(b) <= _LARGEST_RATE * (1 + 1e-9)
    a, b = a[keep], b[keep]
    lines = a[:, None] + b[:, None] * t
    holds = ((lines >= low - _SLACK) & (lines <= high + _SLACK)).all(axis=1)
    if not holds.any():
        return None
    a, b = a[holds], b[holds]
    return [(float(at.min()), float(at.max())) for at in (a + b * (begin - origin), a + b * (end - origin))]


# ---- this machine's ----


def clock_identity() -> str:
    """What all have in common that see the same CLOCK_MONOTONIC: the kernel's boot, and the time namespace."""
    parts = []
    for read, path in ((_text, "/proc/sys/kernel/random/boot_id"), (os.readlink, "/proc/self/ns/time")):
        try:
            parts.append(read(path))
        except OSError:  # a kernel without such namespaces; or no /proc, and then nobody is taken for us
            parts.append("" if path.startswith("/proc/self") else os.urandom(8).hex())
    return " ".join(parts)


def _text(path: str) -> str:
    with open(path) as file:
        return file.read().strip()


class Counter:
    """How a processor's counter, which channels may have for a clock, runs beside CLOCK_MONOTONIC.

    What a channel says of the counter's frequency was measured in some milliseconds. Here it is measured
    from the making of this object on.
    """

    def __init__(self) -> None:
        from .._core import Channel

        self._channel = Channel("counter", streams="global", subbuf_size=4096, n_subbufs=2, clock="auto", n_producers=1)
        self.is_usable = self._channel.clock_parameters[0] == "tsc"
        self._first = self.pair()

    def pair(self) -> tuple[int, int]:
        """The counter and CLOCK_MONOTONIC at one moment: the tightest of some tries."""
        tries = []
        for _ in range(8):
            before = time.monotonic_ns()
            ticks = self._channel.current_timestamp()
            after = time.monotonic_ns()
            tries.append((after - before, ticks, before + (after - before) // 2))
        _, ticks, ns = min(tries)
        return ticks, ns

    def line(self, declared: int) -> tuple[int, int, float]:
        """A tick, its time, and nanoseconds per tick: by the `declared` frequency until a better one is known."""
        ticks, ns = self.pair()
        first, first_ns = self._first
        measured = ns - first_ns >= 10**9
        return ticks, ns, (ns - first_ns) / (ticks - first) if measured else 1e9 / declared


def corrected(clock: ClockInfo, line: tuple[int, int, float], correction: Correction, middle: int) -> ClockInfo:
    """A trace's clock as metadata are to state it, so that its records are in the time of the reference.

    Parameters
    ----------
    clock : ClockInfo
        The trace's.
    line : (int, int, float)
        A tick of it, what `correction` is about at that moment (CLOCK_MONOTONIC), and nanoseconds per tick.
    correction : Correction
    middle : int
        The tick at which it is to be exact: metadata say a frequency in whole ticks a second.
    """
    tick, ns, length = line
    at_middle = correction(ns + round((middle - tick) * length))
    freq = max(1, round(1e9 / (length * (1 + correction.drift))))
    # Unix time of tick 0, in ticks: the reference's nanoseconds at `middle`, less so many ticks.
    zero = at_middle * freq // 10**9 - middle
    offset_s, offset = divmod(zero, freq)
    precision = -(-correction.uncertainty_ns * freq // 10**9)
    return ClockInfo(freq, offset_s, offset, clock.name, clock.description, clock.uuid, precision)
