"""The kill matrix: an actor dies, or is stopped, at each test point of the headers; the others go on.

Each test asserts that the actor did end at the point, so that a point which nobody reaches fails. `make kill` runs
every combination; without RINGBUF_KILL=all, each point has its turn in one of them, which SEED chooses.
"""

import os
import random
import signal
import time
from pathlib import Path

import pytest
from seeds import SEED
from stage import Stage, points

DOUBT = "repair_giving_up"  # only where two have died within a few instructions: tests/c/test_repair.c
METRICS = [point for point in points() if point.startswith("metric_")]  # these record nothing: tests/c/test_metrics.c
POINTS = [point for point in points() if point != DOUBT and point not in METRICS]
ENDS = {"kill": -signal.SIGKILL, "segv": -signal.SIGSEGV, "abort": -signal.SIGABRT, "exit": 3, "exec": 0}
# Who passes the point: by its prefix, a producer if it has none of these.
ROLES = {"reader": "reader", "map": "mapper", "consumer": "recorder", "repair": "repairer", "robust": "repairer",
         "schema": "declarer", "park": "parker"}  # fmt: skip
OFTEN = ["ledger_claimed", "reserve_claimed", "reserve_owned", "reserve_done", "commit_written", "commit_counted",
         "reserve_claimed_slow", "switch_before_padding", "switch_padded", "switch_header_counted", "flush_claimed",
         "discard_undoing", "discard_written", "deliver_before_end", "deliver_published"]  # fmt: skip
MODES = ["discard", "overwrite"]
pytestmark = pytest.mark.timeout(600)

ALL = os.environ.get("RINGBUF_KILL") == "all"
chance = random.Random(SEED)


def some(combinations, n):
    """All of them, or n that SEED chooses."""
    combinations = list(combinations)
    return combinations if ALL else sorted(chance.sample(combinations, n))


def each_once(names, others):
    """Pairs: all of them, or each name with one of the others."""
    return [(name, other) for name in names for other in (others if ALL else [chance.choice(others)])]


def role_of(point):
    return ROLES.get(point.split("_")[0], "producer")


def in_modes(combinations):
    """Nothing is parked in discard mode: there it is an overwriting ring's turn."""
    return sorted({(point, "overwrite" if role_of(point) == "parker" else mode) for point, mode in combinations})


def is_reading(point):
    return role_of(point) in ("reader", "mapper", "recorder")


def test_the_points_of_metrics_have_their_own_test():
    text = (Path(__file__).parents[1] / "c" / "test_metrics.c").read_text()
    assert METRICS and [point for point in METRICS if f'"{point}"' not in text] == []


def start_victim(stage, point, how, rng):
    role = role_of(point)
    skip = 0 if point == "producer_registered" else rng.randrange(30)
    if role == "parker":
        role, skip = "producer", 0
    return stage.start(f"recorder:{stage.directory}/victim" if role == "recorder" else role, point, skip, how)


def feed_repairer(stage, victim, rng):
    """Others die over records until the repairer has met one at its point."""
    for _ in range(150):
        if stage.process(victim).poll() is not None:
            return
        stage.died(stage.start("producer", "reserve_owned", rng.randrange(9), "kill"))


def feed_parker(stage, victim, rng):
    """Others stop in the middle of a record until the victim is the one that comes round to one of them."""
    for _ in range(50):
        paused = stage.start("producer", "reserve_owned", rng.randrange(9), "stop")
        assert stage.stopped(paused)
        parked, deadline = stage.channel.stats().packets_parked, time.monotonic() + 1
        while stage.channel.stats().packets_parked == parked and time.monotonic() < deadline:
            if stage.process(victim).poll() is not None or stage.stopped(victim, 0.01):
                break
        stage.process(paused).send_signal(signal.SIGCONT)
        if stage.process(victim).poll() is not None or stage.stopped(victim, 0.01):
            return


def kill_at(stage, point, how, rng):
    """Somebody ends at `point`, with two producers around."""
    if not is_reading(point):
        stage.record()
    survivors = [stage.start(), stage.start()]
    victim = start_victim(stage, point, how, rng)
    if role_of(point) == "repairer":
        feed_repairer(stage, victim, rng)
    if role_of(point) == "parker":
        feed_parker(stage, victim, rng)
    assert stage.died(victim) == ENDS[how], f"nobody reached {point}"
    if is_reading(point):
        stage.record()
    return survivors


@pytest.mark.parametrize("point, mode", in_modes(each_once(POINTS, MODES)))
def test_killed_at(point, mode, tmp_path, rng):
    with Stage(tmp_path, mode=mode, actors=200) as stage:
        stage.go_on(kill_at(stage, point, "kill", rng))
        stats, tallies = stage.check()
        stage.check_traces(stats, tallies, every=mode == "discard" and not is_reading(point))


@pytest.mark.parametrize("how, point", each_once([how for how in ENDS if how != "kill"], OFTEN))
def test_other_ways_to_die(how, point, tmp_path, rng):
    with Stage(tmp_path, streams="per-cpu", header="large") as stage:
        stage.go_on(kill_at(stage, point, how, rng))
        stats, tallies = stage.check()
        stage.check_traces(stats, tallies)


@pytest.mark.parametrize("point, mode", in_modes(some(((p, m) for p in POINTS for m in MODES if not is_reading(p)), 6)))
def test_stopped_at(point, mode, tmp_path, rng):
    """A stopped actor blocks nobody; what it holds up is counted, and when it goes on, so does all."""
    if role_of(point) in ("repairer", "declarer"):
        point = "commit_written"
    with Stage(tmp_path, mode=mode) as stage:
        stage.record()
        survivors = [stage.start(), stage.start()]
        victim = start_victim(stage, point, "stop", rng)
        if role_of(point) == "parker":
            feed_parker(stage, victim, rng)
        assert stage.stopped(victim), f"nobody reached {point}"
        lost = stage.channel.stats().records_lost_wrap
        stage.attempt_on(survivors)
        if mode == "overwrite":  # one that is stopped costs the others nothing
            assert stage.channel.stats().records_lost_wrap == lost
        stage.process(victim).send_signal(signal.SIGCONT)
        stage.go_on([*survivors, victim])
        stats, tallies = stage.check()
        assert stats.records_torn == 0
        stage.check_traces(stats, tallies, every=mode == "discard")


@pytest.mark.parametrize("first, second", some(((a, b) for a in OFTEN for b in OFTEN), 8))
@pytest.mark.parametrize("mode", MODES)
def test_killed_in_pairs(first, second, mode, tmp_path, rng):
    """Two die at once; their records have different sizes, so that nothing is in doubt."""
    with Stage(tmp_path, mode=mode) as stage:
        stage.record()
        survivors = [stage.start(), stage.start()]
        victims = [start_victim(stage, point, "kill", rng) for point in (first, second)]
        for victim, point in zip(victims, (first, second), strict=True):
            assert stage.died(victim) == -signal.SIGKILL, f"nobody reached {point}"
        stage.go_on(survivors)
        stats, tallies = stage.check()
        stage.check_traces(stats, tallies, every=mode == "discard")


@pytest.mark.parametrize("first, second", some(((a, b) for a in OFTEN for b in POINTS if b.startswith("repair_")), 4))
def test_a_producer_and_its_repairer_are_killed(first, second, tmp_path, rng):
    with Stage(tmp_path, actors=200) as stage:
        survivors = kill_at(stage, second, "kill", rng)
        assert stage.died(start_victim(stage, first, "kill", rng)) == -signal.SIGKILL
        stage.go_on(survivors)
        stats, tallies = stage.check()
        stage.check_traces(stats, tallies)
