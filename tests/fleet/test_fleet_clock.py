"""fleet/clock.py: what is known of another clock, by simulation: the truth is known here."""

import subprocess
import time

import pytest

import ringbuf
from ringbuf.ctf import tsdl
from ringbuf.ctf.layout import clock_info
from ringbuf.fleet.clock import Correction, Counter, History, Sample, clock_identity, corrected, relation

MS, S = 10**6, 10**9


class Clock:
    """Another machine's: set off by so many seconds, and so much faster (ppm)."""

    def __init__(self, rng, ahead, ppm):
        self.rng, self.ahead, self.rate = rng, round(ahead * S), ppm * 1e-6
        self.start = 1_790_000_000 * S

    def theirs(self, now):
        return now + self.ahead + round(self.rate * (now - self.start))

    def question(self, now, low=1 * MS, high=20 * MS):
        """Ways there and back that have nothing to do with each other."""
        there, back = self.rng.randint(low, high), self.rng.randint(low // 10, high)
        return Sample(now, self.theirs(now + there), now + there + back)

    def error(self, correction, now):
        return correction(self.theirs(now)) - now


def asked(clock, seconds, period=10):
    history = History()
    for second in range(0, seconds + 1, period):
        history.add(clock.question(clock.start + second * S + n * 10 * MS) for n in range(8))
    return history


@pytest.mark.parametrize(("ahead", "ppm"), [(0, 0), (7.5, 100), (-3600, -100), (1e6, 480)])
def test_the_truth_is_within_what_is_stated(rng, ahead, ppm):
    clock = Clock(rng, ahead, ppm)
    history = asked(clock, 300)
    for begin, end in ((0, 300), (270, 300), (300, 300), (290, 330)):
        first, last = clock.start + begin * S, clock.start + end * S
        found = relation(history.samples, clock.theirs(first), clock.theirs(last))
        assert found.uncertainty_ns < 25 * MS
        for now in range(first, last + 1, S):
            assert abs(clock.error(found, now)) <= found.uncertainty_ns


def test_more_questions_make_it_more_certain(rng):
    clock = Clock(rng, 5, 100)
    last = clock.start + 300 * S
    found = [
        relation(asked(clock, seconds).samples, clock.theirs(last - 30 * S), clock.theirs(last)).uncertainty_ns
        for seconds in (0, 100, 300)
    ]
    assert found[0] > found[1] > found[2]


def test_the_drift_is_found(rng):
    clock = Clock(rng, 5, 100)
    found = relation(asked(clock, 600).samples, clock.theirs(clock.start), clock.theirs(clock.start + 600 * S))
    assert abs(found.drift * 1e6 + 100) < 25


def test_a_clock_that_was_set_is_known_from_then_on(rng):
    clock = Clock(rng, 5, 0)
    history = asked(clock, 100)
    clock.ahead += 3 * S
    for second in range(110, 160, 10):
        history.add([clock.question(clock.start + second * S)])
    now = clock.start + 160 * S
    found = relation(history.samples, clock.theirs(now), clock.theirs(now))
    assert abs(clock.error(found, now)) <= found.uncertainty_ns < 100 * MS
    assert found.samples <= 5


def test_a_history_stays_small_and_keeps_the_best(rng):
    clock = Clock(rng, 0, 10)
    history = asked(clock, 3000)
    assert len(history.samples) <= 32
    assert history.samples[-1].theirs - history.samples[0].theirs <= 601 * S
    history.add([])
    assert len(history.samples) <= 32


def test_the_best_of_a_burst_is_kept():
    history = History()
    history.add([Sample(0, 100, 50), Sample(60, 150, 70), Sample(80, 200, 200)])
    assert history.samples == [Sample(60, 150, 70)]


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="cannot be earlier"):
        Sample(10, 0, 9)
    with pytest.raises(ValueError, match="nobody has asked"):
        relation([], 0, 1)


def test_a_correction_goes_both_ways():
    one = Correction(at=10 * S, offset_ns=5 * S, drift=1e-4)
    assert one(10 * S) == 15 * S
    for t in (0, 10 * S, 10**18):
        assert abs(one.inverse(one(t)) - t) <= 200


# ---- in metadata ----


@pytest.mark.parametrize("kind", ["monotonic", "auto"])
@pytest.mark.parametrize("drift", [0.0, 1e-4, -1e-4])
def test_corrected_traces_have_the_reference_s_time(tmp_path, kind, drift, babeltrace2):
    tracer = ringbuf.Tracer("x", clock=kind)
    event = tracer.event("e", n="u32")
    counter = Counter()
    times = []
    for n in range(100):
        times.append(time.monotonic_ns())
        event(n)
    tracer.snapshot(tmp_path / "t")
    correction = Correction(times[0], 12_345_678_901_234_567, drift, uncertainty_ns=17)
    info = clock_info(tracer.channel)
    line = (0, 0, 1.0) if info.description == "monotonic" else counter.line(info.freq)
    new = corrected(info, line, correction, tracer.channel.current_timestamp())
    text = (tmp_path / "t" / "metadata").read_text()
    (tmp_path / "t" / "metadata").write_text(ringbuf.ctf.metadata.with_clock(text, new, {"why": "a test"}))
    with ringbuf.open_trace(tmp_path / "t") as trace:
        found = [record.timestamp for record in trace]
        assert trace.env["why"] == "a test" and trace.clock.precision == new.precision
    limit = 2 * MS if kind == "auto" else 2000
    before = [correction(one) for one in times]
    assert all(-limit // 10 < there - here for there, here in zip(found, before, strict=True))
    assert sum(there - here < limit for there, here in zip(found, before, strict=True)) > 90
    # The same numbers by babeltrace2.
    out = subprocess.run(
        [babeltrace2, "--clock-seconds", str(tmp_path / "t")], capture_output=True, text=True, check=True
    ).stdout  # fmt: skip
    theirs = [int(line[1:].partition("]")[0].replace(".", "")) for line in out.splitlines()]
    assert theirs == found


def test_metadata_of_others_are_not_changed():
    from ringbuf.ctf.metadata import ClockInfo, with_clock

    with pytest.raises(ValueError, match="0 clocks"):
        with_clock("/* CTF 1.8 */\ntrace { major = 1; };\n", ClockInfo(1), {})


def test_a_clock_s_precision_is_read_and_written():
    from ringbuf.ctf.metadata import ChannelLayout, ClockInfo, channel_metadata

    layout = ChannelLayout(bytes(16), "compact", True, ClockInfo(10**9, precision=250))
    assert tsdl.parse(channel_metadata(layout)).clocks["ringbuf"].precision == 250


def test_this_machine_has_one_identity():
    program = "from ringbuf.fleet.clock import clock_identity; print(clock_identity())"
    import sys

    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.strip() == clock_identity()
