"""Counting without records: include/ringbuf/metrics.h and src/ringbuf/core/metric.pxi, beside prometheus_client."""

import os
import subprocess
import sys
from pathlib import Path

import compiled
import peers
import pytest
from ratios import beside_clock, calls, in_a_program, in_turns, note, note_ratio

import ringbuf

PROGRAM = Path(__file__).parent / "programs" / "prometheus_counts.py"
TURNS = 1_000_000


@pytest.fixture
def tracer():
    with ringbuf.Tracer("bench") as tracer:
        yield tracer


def beside(benchmark, what, statement, scaled, **names):
    beside_clock(benchmark, what, calls(statement, scaled(5_000), **names), scaled, table="metrics")


def bench_counter(benchmark, one_cpu, tracer, scaled):
    beside(benchmark, "ringbuf counter", "add()", scaled, add=tracer.counter("requests"))


def bench_counter_with_labels(benchmark, one_cpu, tracer, scaled):
    count = tracer.counter("requests", path="str").labels("/")
    beside(benchmark, "ringbuf counter, of a label, by 3", "add(3)", scaled, add=count)


def bench_gauge(benchmark, one_cpu, tracer, scaled):
    beside(benchmark, "ringbuf gauge, set", "set(17.5)", scaled, set=tracer.gauge("queue"))


def bench_histogram(benchmark, one_cpu, tracer, scaled):
    count = tracer.histogram("took", "s", path="str").labels("/")
    beside(benchmark, "ringbuf histogram, 25 buckets", "add(0.25)", scaled, add=count)


def bench_event(benchmark, one_cpu, tracer, scaled):
    tracer = ringbuf.Tracer("bench", subbuf_size=1 << 20)
    beside(benchmark, "ringbuf event: u64", "event(3)", scaled, event=tracer.event("requests", n="u64"))


@pytest.mark.parametrize("mode", ["one process", "multi-process"])
@pytest.mark.parametrize("kind", ["counter", "histogram"])
def bench_prometheus_client(benchmark, one_cpu, scaled, tmp_path, mode, kind):
    _, version = peers.python_package("prometheus_client", "prometheus-client")
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    if mode == "one process":
        del environment["PROMETHEUS_MULTIPROC_DIR"]

    def run(rounds, count):
        command = [sys.executable, PROGRAM, kind, str(rounds), str(count)]
        return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout

    in_a_program(benchmark, f"prometheus_client {version} {kind}, {mode}", run, scaled, table="metrics")


@pytest.mark.parametrize("kind", ["counter", "histogram"])
def bench_from_c(benchmark, one_cpu, tracer, scaled, kind):
    """Beside one relaxed atomic addition, without which no count of several threads is right."""
    library = compiled.metrics()
    one = tracer.counter("n") if kind == "counter" else tracer.histogram("n", "s")
    handle = library.attach(f"/proc/self/fd/{tracer.channel.fileno()}".encode())
    turns = scaled(TURNS)
    try:
        times, floors = in_turns(
            benchmark,
            lambda: library.loop_metric(handle, kind == "histogram", turns),
            lambda: library.loop_add(turns),
            rounds=20,
        )
    finally:
        library.detach(handle)
    note_ratio(benchmark, "record", times, "floor", floors)
    note(benchmark, "metrics_c", kind)
    if kind == "counter":
        assert one.value % (turns * (turns - 1) // 2) == 0  # a loop adds 0, 1, 2, ...
    else:
        assert one.count % turns == 0
