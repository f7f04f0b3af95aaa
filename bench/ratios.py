"""Puts the ratios of one run into a benchmark's extra_info, and says which table they belong to."""

import statistics
import sys
import timeit


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
    """Time `floor` and `run` in turns; both return ns for each operation. The values of both."""
    values, floors = [], []

    def round_():
        floors.append(floor())
        values.append(run())

    # called for every round, warm-up included, and once where nothing is timed
    benchmark.pedantic(round_, setup=setup, rounds=rounds, warmup_rounds=warmup)
    return values[-rounds:], floors[-rounds:]


def calls(statement, count, **names):
    """A function that executes a statement `count` times and returns ns for each."""
    timer = timeit.Timer(statement, globals=names)
    return lambda: timer.timeit(count) / count * 1e9
