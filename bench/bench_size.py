"""Bytes on disk for each event: the same number of the same events, by each who writes files."""

import logging
import sys

import peers
from bench_c_peers import lttng_producer
from bench_python import PROGRAMS, logger
from lttng import output
from ratios import note

import ringbuf
from ringbuf.record.functions import Functions

EVENTS = 100_000


def size_of(path):
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def note_size(benchmark, what, fields, path, count):
    note(benchmark, "size", what, fields=fields, bytes_each=round(size_of(path) / count, 2))


def record(directory, count, contexts, values, **fields):
    with ringbuf.Tracer("bench", mode="discard", blocking_timeout=None, contexts=contexts) as tracer:
        event = tracer.event("order", **fields)
        with tracer.record(directory):
            for _ in range(count):
                event(*values)


def bench_ringbuf_one_integer(benchmark, scaled, memory_disk):
    count = scaled(EVENTS, least=10_000)
    benchmark.pedantic(record, (memory_disk / "trace", count, (), (12345,)), {"n": "u64"})
    note_size(benchmark, "ringbuf", "u64", memory_disk / "trace", count)


def bench_ringbuf_three_fields(benchmark, scaled, memory_disk):
    count = scaled(EVENTS, least=10_000)
    fields = {"n": "u64", "path": "str", "ms": "f64"}
    benchmark.pedantic(record, (memory_disk / "trace", count, (), (12345, "/pay", 3.25)), fields)
    note_size(benchmark, "ringbuf", "u64, str, f64", memory_disk / "trace", count)


def bench_ringbuf_contexts(benchmark, scaled, memory_disk):
    count = scaled(EVENTS, least=10_000)
    fields = {"n": "u64", "path": "str", "ms": "f64"}
    benchmark.pedantic(record, (memory_disk / "trace", count, ("vpid", "vtid"), (12345, "/pay", 3.25)), fields)
    note_size(benchmark, "ringbuf, with the contexts vpid and vtid", "u64, str, f64", memory_disk / "trace", count)


def bench_ringbuf_calls(benchmark, scaled, memory_disk):
    """Begin and end of each call of a function."""
    count = scaled(EVENTS, least=10_000)

    def run():
        with (
            ringbuf.Tracer("bench", mode="discard", blocking_timeout=None) as tracer,
            tracer.record(memory_disk / "trace"),
        ):
            with Functions(tracer, include=[__name__]):
                for _ in range(count):
                    nothing()

    benchmark.pedantic(run)
    note_size(benchmark, "ringbuf --functions", "a call", memory_disk / "trace", count)


def nothing():
    pass


def bench_lttng_ust(benchmark, scaled, lttng_home):
    count = scaled(EVENTS, least=10_000)
    program = lttng_home.install(lttng_producer())
    benchmark.pedantic(lttng_home.trace, (program, 1, count), {"mode": "--discard"})
    version = peers.debian_version("liblttng-ust-dev")
    note_size(benchmark, f"LTTng-UST {version}", "u64", lttng_home.path / "trace", count)


def bench_viztracer(benchmark, scaled, memory_disk):
    _, version = peers.python_package("viztracer")
    count, path = scaled(EVENTS, least=10_000), memory_disk / "trace.json"
    benchmark.pedantic(output, ([sys.executable, PROGRAMS / "viztracer_instant.py", "1", str(count), path],))
    note_size(benchmark, f"VizTracer {version}", "u64, str, f64", path, count)


def bench_logging(benchmark, scaled, memory_disk):
    count, path = scaled(EVENTS, least=10_000), memory_disk / "log"
    file = logging.FileHandler(path)
    log = logger(logging, file).info

    def write():
        for _ in range(count):
            log("order %d %s %g", 12345, "/pay", 3.25)

    benchmark.pedantic(write)
    file.close()
    note_size(benchmark, "logging: file handler", "u64, str, f64", path, count)
