"""Reading a trace: ours beside babeltrace2 and its Python bindings, on the same files in turns."""

import ctypes
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

import peers
import pytest
from ratios import in_turns, note
from together import in_threads

import ringbuf

PROGRAMS = Path(__file__).parent / "programs"
EVENTS = 4_000_000
ROUNDS = 5


def cpu_seconds(run):
    """CPU time that a function takes, with that of the programs it runs."""
    before = used_seconds()
    run()
    return used_seconds() - before


def used_seconds():
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def beside_babeltrace(benchmark, what, run, count, other, other_count, rounds, table="reading"):
    """M events for each second of CPU time, of us and of babeltrace2."""
    ours, theirs = in_turns(
        benchmark,
        lambda: count / cpu_seconds(run) / 1e6,
        lambda: other_count / cpu_seconds(other) / 1e6,
        rounds=rounds,
        warmup=1,
    )
    pairs = list(zip(ours, theirs, strict=True))
    note(
        benchmark,
        table,
        what,
        m_events_s=round(statistics.median(pair[0] for pair in pairs), 2),
        babeltrace2_m_events_s=round(statistics.median(pair[1] for pair in pairs), 3),
        ratio=round(statistics.median(pair[0] / pair[1] for pair in pairs), 1),
    )


class Made:
    """A trace on disk: how many events it has, and where it is."""

    def __init__(self, directory, count):
        self.directory, self.count = directory, count


def record(directory, event_fields, loop, contexts=(), streams="per-cpu"):
    tracer = ringbuf.Tracer(
        "bench", mode="discard", blocking_timeout=None, contexts=contexts, streams=streams, subbuf_size=1 << 18
    )
    with tracer:
        event = tracer.event("order", **event_fields)
        with tracer.record(directory):
            loop(tracer.channel, event)
        assert tracer.stats().records_lost == 0
        return Made(directory, tracer.stats().records_written)


@pytest.fixture
def integers(cases, attached, scaled, memory_disk):
    """One u64 each, from one CPU."""
    count = scaled(EVENTS, least=50_000)

    def loop(channel, _):
        lost = ctypes.c_uint64()
        cases.loop_payload(attached(channel), count, 8, b"\1" * 8, ctypes.byref(lost))

    return record(memory_disk / "trace", {"n": "u64"}, loop)


@pytest.fixture
def two_streams(cases, attached, scaled, memory_disk, two_cpus):
    """One u64 each, from two CPUs at once: they must be merged."""
    count = scaled(EVENTS // 2, least=50_000)

    def loop(channel, _):
        handle = attached(channel)
        in_threads(two_cpus, lambda _: cases.loop_payload(handle, count, 8, b"\1" * 8, ctypes.byref(ctypes.c_uint64())))

    return record(memory_disk / "trace", {"n": "u64"}, loop)


@pytest.fixture
def texts(scaled, memory_disk):
    """u64, str, f64 and two contexts each, from Python."""

    def loop(_, event):
        for n in range(scaled(EVENTS // 10, least=20_000)):
            event(n, "/pay", 3.25)

    return record(memory_disk / "trace", {"n": "u64", "path": "str", "ms": "f64"}, loop, contexts=("vpid", "vtid"))


def babeltrace2(*options):
    """A function: what babeltrace2 does with a trace, its output thrown away."""
    command = peers.command("babeltrace2", "babeltrace2")

    def run(made):
        subprocess.run([command, *options, made.directory], check=True, stdout=subprocess.DEVNULL)

    return run


def columns(made):
    """All rows, a part at a time."""
    with ringbuf.open_trace(made.directory) as trace:
        assert sum(map(len, trace.iter_numpy("order"))) == made.count


def whole(made):
    """All rows in one array."""
    with ringbuf.open_trace(made.directory) as trace:
        assert len(trace.to_numpy("order")) == made.count


def records(made):
    """A Python object for each event, its fields decoded."""
    with ringbuf.open_trace(made.directory) as trace:
        for record in trace:
            assert record.fields is not None


def bench_columns(benchmark, one_cpu, scaled, integers):
    compare(benchmark, "iter_numpy: u64, one stream", columns, integers, babeltrace2("-o", "dummy"), scaled)


def bench_columns_of_two_streams(benchmark, one_cpu, scaled, two_streams):
    compare(benchmark, "iter_numpy: u64, two streams merged", columns, two_streams, babeltrace2("-o", "dummy"), scaled)


def bench_whole_array(benchmark, one_cpu, scaled, integers):
    compare(benchmark, "to_numpy: u64, one stream", whole, integers, babeltrace2("-o", "dummy"), scaled)


def numpy_columns(made):
    """All rows, a part at a time, with NumPy's own strings."""
    with ringbuf.open_trace(made.directory) as trace:
        assert sum(len(part["path"]) for part in trace.iter_columns("order")) == made.count


def arrow_columns(made):
    """The same in pyarrow's tables."""
    with ringbuf.open_trace(made.directory) as trace:
        assert sum(map(len, trace.iter_arrow("order"))) == made.count


@pytest.mark.parametrize("ours", [columns, numpy_columns, arrow_columns])
def bench_columns_with_text(benchmark, one_cpu, scaled, texts, ours):
    how = {columns: "iter_numpy", numpy_columns: "iter_columns", arrow_columns: "iter_arrow"}[ours]
    if ours is arrow_columns:
        pytest.importorskip("pyarrow")
    what = f"{how}: u64, str, f64 and two contexts"
    compare(benchmark, what, ours, texts, babeltrace2("-o", "dummy"), scaled)


def compare(benchmark, what, ours, made, theirs, scaled, **more):
    rounds = scaled(ROUNDS, least=2)
    beside_babeltrace(benchmark, what, lambda: ours(made), made.count, lambda: theirs(made), made.count, rounds, **more)


def text(made):
    """Every event as a line."""
    with ringbuf.open_trace(made.directory) as trace:
        assert sum(part.count("\n") for part in trace.iter_text()) == made.count


@pytest.mark.parametrize("events", ["integers", "texts"])
def bench_text(benchmark, one_cpu, scaled, request, events):
    what = {"integers": "iter_text: u64, one stream", "texts": "iter_text: u64, str, f64 and two contexts"}[events]
    compare(benchmark, what, text, request.getfixturevalue(events), babeltrace2("--clock-date"), scaled, table="text")


def bench_records(benchmark, one_cpu, scaled, texts):
    """Python objects: ours beside those of babeltrace2's bindings."""
    python = peers.debian_module("bt2", "python3-bt2")

    def bindings(made):
        subprocess.run([python, PROGRAMS / "bt2_records.py", made.directory], check=True, stdout=subprocess.DEVNULL)

    compare(benchmark, "records: u64, str, f64 and two contexts", records, texts, bindings, scaled, table="objects")


def bench_memory(benchmark, scaled, integers):
    """The most memory that reading in parts takes, as the process's peak above what it had."""
    program = PROGRAMS / "read_in_parts.py"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, program, integers.directory]
    printed = benchmark.pedantic(subprocess.check_output, (command,), {"env": environment, "text": True})
    peak, size = int(printed), sum(file.stat().st_size for file in integers.directory.iterdir())
    note(benchmark, "memory", "iter_numpy", peak_mib=round(peak / 2**20, 1), trace_mib=round(size / 2**20, 1))
