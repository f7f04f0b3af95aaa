"""What applications use above events: spans, traced functions, calls, logging. Each beside time.perf_counter_ns()."""

import logging
import sys
from pathlib import Path

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


def bench_traced_function(benchmark, one_cpu, tracer, scaled):
    beside(benchmark, "ringbuf @trace: a call", "traced()", scaled, traced=tracer.trace(lambda: None))


def beside_clock_in(benchmark, what, scaled, program, *arguments):
    command = [sys.executable, PROGRAMS / program, *arguments]
    in_a_program(
        benchmark, what, lambda rounds, count: output([*command, str(rounds), str(count)]), scaled, table="span"
    )


def viztracer_version():
    return peers.python_package("viztracer")[1]


def bench_call(benchmark, one_cpu, scaled):
    beside_clock_in(benchmark, "a call, not recorded", scaled, "traced_calls.py", "nobody")


def bench_recorded_call(benchmark, one_cpu, scaled):
    beside_clock_in(benchmark, f"ringbuf --functions: a call ({HOW})", scaled, "traced_calls.py", "ringbuf")


def bench_viztracer_call(benchmark, one_cpu, scaled):
    what = f"VizTracer {viztracer_version()}: a call"
    beside_clock_in(benchmark, what, scaled, "traced_calls.py", "viztracer")


@pytest.mark.parametrize("handler", ["ringbuf", "null"])
def bench_logging_handler(benchmark, one_cpu, tracer, scaled, handler):
    made = ringbuf.LoggingHandler(tracer) if handler == "ringbuf" else logging.NullHandler()
    logger = logging.Logger("bench", logging.INFO)
    logger.addHandler(made)
    beside(benchmark, f"logging: {handler} handler", "log('order %d', 12345)", scaled, log=logger.info)


def bench_viztracer_logging_handler(benchmark, one_cpu, scaled):
    beside_clock_in(benchmark, f"logging: VizTracer {viztracer_version()}'s handler", scaled, "viztracer_log.py")
