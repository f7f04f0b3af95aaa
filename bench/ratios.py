"""Puts the ratios of one run into a benchmark's extra_info."""

import statistics
import sys


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
