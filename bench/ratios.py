"""Puts the ratios of one run into a benchmark's extra_info, and says which table they belong to."""

import statistics
import sys
import time
import timeit

from core import Patience

ROUNDS = 30
ENOUGH = 3  # of so many rounds one with a core of our own will do


def note_ratio(benchmark, name, values, floor_name, floors):
    """Put the medians and the median of the paired ratios into the benchmark's extra_info."""
    ratios = [value / floor for value, floor in zip(values, floors, strict=True)]
    benchmark.extra_info.update(
        {
            f"{name}_ns": round(statistics.median(values), 2),
            f"{floor_name}_ns": round(statistics.median(floors), 2),
            f"ratio_to_{floor_name}": round(statistics.median(ratios), 3),
        }
    )
    print(f"\n{benchmark.name}: {benchmark.extra_info}", file=sys.stderr)


def note(benchmark, table, what, **columns):
    """A row of one of report.py's tables."""
    benchmark.extra_info.update(table=table, what=what, **columns)
    print(f"\n{benchmark.name}: {benchmark.extra_info}", file=sys.stderr)


def in_turns(benchmark, run, floor, *, rounds, setup=None, warmup=2):
    """Time `floor` and `run` in turns; both return what they measured. The values of both, of the rounds in which
    the core was ours alone (core.py), or of all if those are too few.
    """
    turns, patience = [], Patience()

    def round_():
        was_own = patience.wait()
        base, value = floor(), run()
        turns.append((value, base, was_own and patience.is_own()))

    # called for every round, warm-up included, and once where nothing is timed
    benchmark.pedantic(round_, setup=setup, rounds=rounds, warmup_rounds=warmup)
    turns = turns[-rounds:]
    undisturbed = [turn for turn in turns if turn[2]]
    is_own = len(undisturbed) * ENOUGH >= len(turns)
    benchmark.extra_info["own_core"] = is_own
    values, floors, _ = zip(*(undisturbed if is_own else turns), strict=True)
    return values, floors


def calls(statement, count, **names):
    """A function that executes a statement `count` times and returns ns for each."""
    timer = timeit.Timer(statement, globals=names)
    return lambda: timer.timeit(count) / count * 1e9


def beside_clock(benchmark, what, run, scaled, *, table="python", version=""):
    """A row of `table`: `run`, which returns ns for each operation, in turns with time.perf_counter_ns()."""
    clock = calls("clock()", scaled(5_000), clock=time.perf_counter_ns)
    times, clocks = in_turns(benchmark, run, clock, rounds=scaled(ROUNDS, least=3))
    note_ratio(benchmark, "record", times, "perf_counter_ns", clocks)
    note(benchmark, table, f"{what} {version}".strip())


def in_a_program(benchmark, what, run, scaled, *, table="python"):
    """The same of a program that prints ns for a record and for the clock, a line for each round."""
    rounds = scaled(ROUNDS, least=3)
    printed = benchmark.pedantic(run, (rounds + 2, scaled(1_000)))
    rows = [list(map(float, line.split())) for line in printed.splitlines()][-rounds:]
    note_ratio(benchmark, "record", [row[0] for row in rows], "perf_counter_ns", [row[1] for row in rows])
    note(benchmark, table, what)
