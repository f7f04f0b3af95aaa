"""How long single records take, one by one: percentiles, with the worst, sub-buffer switches included.

Each record stands between two fenced reads of the clock, which cost something themselves: the same
without a record between them is the first row. What an interrupt or the host takes is in both.
"""

import numpy
import pytest
from ratios import note

import ringbuf

PERCENTILES = {"p50_ns": 50, "p99_ns": 99, "p999_ns": 99.9, "p9999_ns": 99.99, "max_ns": 100}
CURVE = [0, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99, 99.995, 99.999, 100]


def distribution(benchmark, cases, handle, count, what, **more):
    ticks = numpy.empty(count, "u4")
    benchmark.pedantic(cases.sample_records, (handle, count, ticks.ctypes.data))  # touches the memory
    ns = ticks * cases.sample_records(handle, count, ticks.ctypes.data)
    columns = {name: round(float(numpy.percentile(ns, p)), 1) for name, p in PERCENTILES.items()}
    curve = [round(float(numpy.percentile(ns, p)), 1) for p in CURVE]
    note(benchmark, "latency", what, **columns, samples=count, curve=curve, percentiles=CURVE, **more)


def bench_no_record(benchmark, cases, one_cpu, scaled):
    distribution(benchmark, cases, None, scaled(2_000_000), "nothing: two reads of the clock")


@pytest.mark.parametrize("streams", ["per-cpu", "global"])
def bench_overwrite(benchmark, cases, attached, one_cpu, scaled, streams):
    """Sub-buffers of a page: every 340th record or so switches."""
    with ringbuf.Channel("bench", mode="overwrite", streams=streams, subbuf_size=4096, n_subbufs=64) as channel:
        distribution(benchmark, cases, attached(channel), scaled(2_000_000), f"overwrite, {streams}, 4 KiB")


def bench_overwrite_default_geometry(benchmark, cases, attached, one_cpu, scaled):
    with ringbuf.Channel("bench", mode="overwrite") as channel:
        distribution(benchmark, cases, attached(channel), scaled(2_000_000), "overwrite, per-cpu, 256 KiB")


def bench_recorded(benchmark, cases, attached, scaled, memory_disk):
    """While a consumer takes the packets away."""
    with ringbuf.Channel("bench", mode="discard", subbuf_size=1 << 18, n_subbufs=64) as channel:
        handle = attached(channel)
        with ringbuf.Recorder(channel, memory_disk / "trace"):
            distribution(benchmark, cases, handle, scaled(2_000_000), "discard, per-cpu, 256 KiB, being recorded")
