"""What applications use above events: spans, traced functions, calls, logging. Each beside time.perf_counter_ns()."""

import logging
import re
import sys
from pathlib import Path

import compiled
import peers
import pytest
from lttng import output
from ratios import beside_clock, calls, in_a_program

import ringbuf

PROGRAMS = Path(__file__).parent / "programs"
HOW = "sys.monitoring" if hasattr(sys, "monitoring") else "profile function"


@pytest.fixture
def tracer():
    with ringbuf.Tracer("bench", subbuf_size=1 << 20, n_subbufs=4) as tracer:
        yield tracer


def beside(benchmark, what, statement, scaled, **names):
    beside_clock(benchmark, what, calls(statement, scaled(1_000), **names), scaled, table="span")


def bench_span(benchmark, one_cpu, tracer, scaled):
    beside(benchmark, "ringbuf span: str", "with span('db', table='orders'): pass", scaled, span=tracer.span)


def bench_declared_span(benchmark, one_cpu, tracer, scaled):
    db = tracer.span_type("db", table="str")
    beside(benchmark, "ringbuf span, declared: str", "with db('orders'): pass", scaled, db=db)


def bench_disabled_span(benchmark, one_cpu, tracer, scaled):
    db = tracer.span_type("db", table="str")
    db.enabled = False
    beside(benchmark, "ringbuf span, disabled", "with db('orders'): pass", scaled, db=db)


@pytest.mark.parametrize("manager", ["Empty", "Setter"])
def bench_least_span(benchmark, one_cpu, scaled, manager):
    what = {"Empty": "that is empty", "Setter": "that sets a context variable twice"}[manager]
    made = getattr(compiled.extension("nothing.c"), manager)
    beside(benchmark, f"a context manager in C {what}", "with made('orders'): pass", scaled, made=made)


def bench_span_in_a_span(benchmark, one_cpu, tracer, scaled):
    db = tracer.span_type("db", table="str")
    with db("outer"):
        beside(benchmark, "ringbuf span, declared: str, in another", "with db('orders'): pass", scaled, db=db)


def bench_traced_function(benchmark, one_cpu, tracer, scaled):
    beside(benchmark, "ringbuf @trace: a call", "traced()", scaled, traced=tracer.trace(lambda: None))


def beside_clock_in(benchmark, what, scaled, program, *arguments, table="span"):
    command = [sys.executable, PROGRAMS / program, *arguments]
    in_a_program(
        benchmark, what, lambda rounds, count: output([*command, str(rounds), str(count)]), scaled, table=table
    )


def viztracer_version():
    return peers.python_package("viztracer")[1]


@pytest.mark.skipif(not hasattr(sys, "monitoring"), reason="sys.monitoring is there from Python 3.12 on")
def bench_least_call(benchmark, one_cpu, scaled):
    what = "two callbacks of sys.monitoring that do nothing"
    beside_clock_in(benchmark, what, scaled, "traced_calls.py", "nothing", table="calls")


def bench_recorded_call(benchmark, one_cpu, scaled):
    beside_clock_in(benchmark, f"ringbuf --functions ({HOW})", scaled, "traced_calls.py", "ringbuf", table="calls")


@pytest.mark.parametrize("peer", ["viztracer", "trace0"])
def bench_peers_call(benchmark, one_cpu, scaled, peer):
    _, version = peers.python_package(peer)
    name = {"viztracer": "VizTracer"}.get(peer, peer)
    beside_clock_in(benchmark, f"{name} {version}", scaled, "traced_calls.py", peer, table="calls")


FIB = 15  # 1973 calls in a round
TWO_NUMBERS = re.compile(r"[\d.]+ [\d.]+")


def bench_program(benchmark, one_cpu, scaled):
    beside_clock_under(benchmark, "a program that does little but call", scaled)


def bench_recorded_program(benchmark, one_cpu, scaled, memory_disk):
    command = ["-m", "ringbuf", "record", "--functions", "-o", memory_disk / "trace", "--", sys.executable]
    beside_clock_under(benchmark, "ringbuf record --functions", scaled, *command)


@pytest.mark.parametrize("peer", ["viztracer", "trace0"])
def bench_peers_program(benchmark, one_cpu, scaled, memory_disk, peer):
    _, version = peers.python_package(peer)
    commands = {
        "viztracer": ["-m", "viztracer", "--quiet", "-o", memory_disk / "trace.json"],
        "trace0": [Path(sys.executable).with_name("trace0"), "run", "-o", memory_disk / "trace.pb"],
    }
    beside_clock_under(benchmark, f"{peer} {version}", scaled, *commands[peer])


def beside_clock_under(benchmark, what, scaled, *recorder):
    """fib.py under a command, which may print something itself."""
    start = [] if recorder and Path(recorder[0]).name == "trace0" else [sys.executable]

    def run(rounds, _):
        printed = output([*map(str, [*start, *recorder, PROGRAMS / "fib.py", rounds, FIB])])
        return "\n".join(line for line in printed.splitlines() if TWO_NUMBERS.fullmatch(line))

    in_a_program(benchmark, what, run, scaled, table="program")


@pytest.mark.parametrize("handler", ["ringbuf", "null"])
def bench_logging_handler(benchmark, one_cpu, tracer, scaled, handler):
    made = ringbuf.LoggingHandler(tracer) if handler == "ringbuf" else logging.NullHandler()
    logger = logging.Logger("bench", logging.INFO)
    logger.addHandler(made)
    beside(benchmark, f"logging: {handler} handler", "log('order %d', 12345)", scaled, log=logger.info)


def bench_viztracer_logging_handler(benchmark, one_cpu, scaled):
    beside_clock_in(benchmark, f"logging: VizTracer {viztracer_version()}'s handler", scaled, "viztracer_log.py")
