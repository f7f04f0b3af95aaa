"""A scan of a trace set by many processes at once: processor time beside that of one, and memory.

    python bench/scan.py                       # 8 traces of 64 MiB, as many processes as CPUs
    python bench/scan.py --traces 2 --size 4 --workers 2 --json

Partitions have nothing in common, so n processes should take, together, the processor time that one takes: the ratio is
what a scan keeps of n times the pace of one, as far as the machine has n idle CPUs. The wall clock is told as well, and
means something on a quiet machine alone.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import ringbuf

PARTITION = 8 << 20
COLUMNS = ["timestamp", "n", "text"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=int, default=8)
    parser.add_argument("--size", type=int, default=64, help="MiB of each trace")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(args.traces):
            record(os.path.join(folder, f"t{number}"), args.size << 20)
        before = cpu(resource.RUSAGE_SELF)
        plan = ringbuf.scan(folder, "e", COLUMNS, size=PARTITION)
        found = {"partitions": len(plan), "planning_cpu_s": cpu(resource.RUSAGE_SELF) - before}
        one, many = (scanned(plan, workers) for workers in (1, args.workers))
    found |= {
        "workers": args.workers, "rows": many["rows"], "one_cpu_s": one["cpu_s"], "many_cpu_s": many["cpu_s"],
        "pace_kept": one["cpu_s"] / many["cpu_s"], "one_wall_s": one["wall_s"], "many_wall_s": many["wall_s"],
        "worker_growth_mib": max(one["growth_mib"], many["growth_mib"]),
    }  # fmt: skip
    assert one["rows"] == many["rows"]
    if args.json:
        print(json.dumps(found, indent=1))
        return
    for name, value in found.items():
        print(f"{name:<20}{value:>14.4g}" + ("   (goal: 0.9)" if name == "pace_kept" else ""))


def record(directory: str, size: int) -> None:
    tracer = ringbuf.Tracer(
        "scan", mode="discard", streams="global", subbuf_size=1 << 18, n_subbufs=16, blocking_timeout=60.0
    )
    event = tracer.event("e", n="u64", text="str")
    with tracer.record(directory):
        for n in range(size // 40):  # bytes of a record, about
            event(n, "a text of some length")
    assert tracer.stats().records_lost == 0
    tracer.channel.close()


def scanned(plan, workers: int) -> dict:
    """Read all partitions, in so many processes; what they took together."""
    begin = time.perf_counter()
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        parts = list(pool.map(rows_of, [plan] * len(plan), range(len(plan))))
    return {
        "rows": sum(part["rows"] for part in parts),
        "cpu_s": sum(part["cpu_s"] for part in parts),
        "wall_s": time.perf_counter() - begin,
        "growth_mib": max(part["growth_mib"] for part in parts),
    }


start_mib = 0.0  # of this process, once it has read something


def rows_of(plan, number: int) -> dict:
    global start_mib
    if not start_mib:  # what every worker does once is no part of a partition's time
        next(iter(plan.batches([plan.partitions[number]])))
        start_mib = peak_mib()
    before = cpu(resource.RUSAGE_SELF)
    rows = sum(batch.num_rows for batch in plan.batches([plan.partitions[number]]))
    return {"rows": rows, "cpu_s": cpu(resource.RUSAGE_SELF) - before, "growth_mib": peak_mib() - start_mib}


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def cpu(who: int) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
