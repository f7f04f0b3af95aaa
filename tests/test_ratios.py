"""bench/ratios.py and core.py: what is measured while somebody else is on the core is left out."""

import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench"


@pytest.fixture
def bench(monkeypatch):
    """The modules core and ratios."""
    monkeypatch.syspath_prepend(BENCH)
    there = set(sys.modules)
    import core
    import ratios

    monkeypatch.setattr(core.Patience, "seconds", 0.01)
    yield core, ratios
    for name in {"core", "ratios", "compiled"} - there:
        del sys.modules[name]


class Benchmark:
    """As pytest-benchmark's fixture."""

    def __init__(self):
        self.extra_info = {}

    def pedantic(self, run, setup, rounds, warmup_rounds):
        for _ in range(warmup_rounds + rounds):
            run()


def in_turns(bench, monkeypatch, is_own):
    """The values of rounds 0, 1, 2, ... if the core is ours in those that `is_own` says."""
    core, ratios = bench
    numbers = iter(range(100))
    current = [0]

    class Fake:
        def is_own(self):
            return is_own(current[0])

        def wait(self, seconds):
            return self.is_own()

    def run():
        current[0] = next(numbers)
        return current[0]

    monkeypatch.setattr(core, "the_core", Fake)
    benchmark = Benchmark()
    values, floors = ratios.in_turns(benchmark, run, lambda: current[0], rounds=12, warmup=0)
    assert len(values) == len(floors)
    return list(values), benchmark.extra_info["own_core"]


def test_rounds_in_which_the_core_was_taken_do_not_count(bench, monkeypatch):
    values, own_core = in_turns(bench, monkeypatch, lambda n: n < 5)
    assert values == [0, 1, 2, 3, 4] and own_core


def test_too_few_rounds_are_no_measurement(bench, monkeypatch):
    values, own_core = in_turns(bench, monkeypatch, lambda n: n < 2)
    assert values == list(range(12)) and not own_core


def test_without_patience_nobody_looks(bench, monkeypatch):
    monkeypatch.setattr(bench[0].Patience, "seconds", 0)
    values, own_core = in_turns(bench, monkeypatch, lambda n: pytest.fail("looked"))
    assert values == list(range(12)) and own_core


def test_a_core_is_ours_while_its_load_is_among_the_least_that_were_seen(bench, monkeypatch):
    slip = 0.5
    loads = iter([1.5, 1.6, 1.0, 1.6, *[1.1] * 150, slip, 1.1, 1.6, 1.6, 1.1])
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})
    monkeypatch.setattr("os.sched_setaffinity", lambda *_: None)
    core = bench[0].Core(loads.__next__, first_look=0)
    assert [core.is_own() for _ in range(3)] == [True, True, False]
    assert all(core.is_own() for _ in range(150)) and core.is_own()
    assert core.is_own() and not core.is_own()
    assert core.wait(5)
