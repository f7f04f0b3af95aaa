"""A short soak; and that what the stress tests look with can see."""

import os
import subprocess
import sys
import threading
from collections import namedtuple
from pathlib import Path

import load
import pytest
import soak

import ringbuf

Record = namedtuple("Record", "name fields cpu")


@pytest.mark.slow
@pytest.mark.timeout(600)  # a round takes as long as its processes do
def test_a_short_soak(seed):
    command = [sys.executable, Path(soak.__file__), "--seconds", "12"]
    environment = {**os.environ, "SEED": str(seed)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"seed: {seed} ")
    assert "nothing grew" in done.stdout


# ---- the checks fail when they should ----


def record(producer, seq, /, cpu=0, **changes):
    return Record("work", {**dict(zip(load.WORK, load.fields(producer, seq), strict=True)), **changes}, cpu)


def test_all_records_once_and_in_order_are_fine():
    seen = load.Seen(lossless=True)
    seen.add([record(0, 1, cpu=1), record(0, 2, cpu=1), record(1, 0), record(0, 0, cpu=0), record(0, 3, cpu=0)])
    seen.check_complete([4, 1, 0])
    assert seen.count == 5


@pytest.mark.parametrize(
    "records",
    [
        [record(0, 0), record(0, 0)], [record(0, 1), record(0, 0)], [record(0, 0, cpu=0), record(0, 0, cpu=1)],
        [record(0, 0, check=1)], [record(0, 5, data=b"")], [record(0, 0, producer=1)],
    ],
    ids=["twice", "out of order", "in two streams", "wrong number", "wrong bytes", "another's"],
)  # fmt: skip
def test_a_record_that_is_wrong_is_seen(records):
    with pytest.raises(AssertionError):
        load.Seen(lossless=True).add(records)


@pytest.mark.parametrize("written", [[3], [1], [2, 1], []])
def test_a_record_that_is_missing_is_seen(written):
    seen = load.Seen(lossless=True)
    seen.add([record(0, 0), record(0, 1)])
    with pytest.raises(AssertionError):
        seen.check_complete(written)


def test_a_hole_in_the_sequence_is_seen():
    seen = load.Seen(lossless=True)
    seen.add([record(0, 0), record(0, 2)])
    with pytest.raises(AssertionError):
        seen.check_complete([3])
    with pytest.raises(AssertionError):
        seen.check_complete([1])


def usages(**growth):
    """Twenty rounds whose needs go up and down, and grow by so much in each."""
    level = {name: 100 for name in vars(soak.SLACK)}
    return [
        soak.Usage(**{name: value + round(growth.get(name, 0) * i) + i % 3 for name, value in level.items()})
        for i in range(20)
    ]


def test_ups_and_downs_are_no_growth():
    soak.check_flat(usages())
    soak.check_flat(usages()[:3])


@pytest.mark.parametrize(
    ("name", "growth"), [("descriptors", 0.5), ("threads", 0.5), ("regions", 0.5), ("rss_kib", 2000), ("mappings", 3)]
)
def test_growth_is_seen(name, growth):
    with pytest.raises(AssertionError, match=f"{name} grew"):
        soak.check_flat(usages(**{name: growth}))


def test_a_count_that_differs_is_seen():
    with ringbuf.Tracer("load", mode="discard", contexts=()) as tracer:
        tally = load.Tally(2)
        load.produce(tracer, [0, 1], tally, 0, 100, threading.Barrier(2))
        load.check_counts(tracer.channel, tally)
        for outcome in range(len(load.OUTCOMES)):
            tally.rows[1, outcome] += 1
            with pytest.raises(AssertionError):
                load.check_counts(tracer.channel, tally)
            tally.rows[1, outcome] -= 1
        seen = load.Seen(lossless=True)
        load.settle(tracer.channel, tally, seen)
