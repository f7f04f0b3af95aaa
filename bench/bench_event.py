"""One record from Python: src/ringbuf/core/event.pxi and encode.h."""

import statistics
import time

import compiled
import numpy
import pytest
from ratios import calls, in_turns, note, note_ratio

import ringbuf

CALLS = 10_000
ROUNDS = 40


@pytest.fixture(params=["discard", "overwrite"])
def tracer(request):
    with ringbuf.Tracer("bench", mode=request.param, subbuf_size=1 << 20, n_subbufs=4) as tracer:
        yield tracer


def compare(benchmark, channel, run, name="call"):
    """Time `run` beside time.perf_counter_ns(), in turns."""
    clock = calls("clock()", CALLS, clock=time.perf_counter_ns)
    times, clocks = in_turns(benchmark, run, clock, setup=channel.clear, rounds=ROUNDS, warmup=3)
    note_ratio(benchmark, name, times, "perf_counter_ns", clocks)
    assert channel.stats().records_lost == 0


def bench_event_with_one_integer(benchmark, one_cpu, tracer):
    event = tracer.event("one", n="u64")
    compare(benchmark, tracer.channel, calls("event(12345)", CALLS, event=event))


def bench_event_with_integer_text_and_float(benchmark, one_cpu, tracer):
    event = tracer.event("three", n="u64", path="str", ms="f64")
    compare(benchmark, tracer.channel, calls("event(12345, '/pay', 3.25)", CALLS, event=event))


def bench_disabled_event(benchmark, one_cpu, tracer):
    event = tracer.event("one", n="u64")
    event.enabled = False
    compare(benchmark, tracer.channel, calls("event(12345)", CALLS, event=event))


@pytest.mark.parametrize("fields", [1, 3])
def bench_rows_of_an_array(benchmark, one_cpu, tracer, fields):
    """Each row of a structured array: fields of 8 bytes."""
    names = ["a", "b", "c"][:fields]
    event = tracer.event("row", **dict.fromkeys(names, "u64"))
    rows = numpy.zeros(CALLS, [(name, "u8") for name in names])
    many = calls("many(rows)", 1, many=event.many, rows=rows)
    compare(benchmark, tracer.channel, lambda: many() / CALLS, "row")


@pytest.mark.parametrize("disabled", ["event", "channel"])
def bench_empty(benchmark, one_cpu, tracer, disabled):
    """Recording nothing beside a method that does nothing, both compiled by Cython."""
    pytest.importorskip("Cython")
    event = tracer.event("one", n="u64")
    if disabled == "event":
        event.enabled = False
    else:
        tracer.channel.disable()
    empty = calls("method(12345)", CALLS, method=compiled.extension("empty.pyx").Empty().method)
    values, floors = in_turns(benchmark, calls("event(12345)", CALLS, event=event), empty, rounds=ROUNDS)
    ratio = statistics.median(value / floor for value, floor in zip(values, floors, strict=True))
    note(
        benchmark,
        "empty",
        f"event, disabled {disabled}: {tracer.channel.mode}",
        ns=round(statistics.median(values), 1),
        empty_ns=round(statistics.median(floors), 1),
        ratio=round(ratio, 3),
    )


def bench_channel_write(benchmark, one_cpu, tracer):
    run = calls("write(data)", CALLS, write=tracer.channel.write, data=b"12345678")
    compare(benchmark, tracer.channel, run)


def bench_channel_reserve(benchmark, one_cpu, tracer):
    statement = "slot = reserve(8); slot.payload[:] = data; slot.commit()"
    compare(benchmark, tracer.channel, calls(statement, CALLS, reserve=tracer.channel.reserve, data=b"12345678"))


def bench_channel_reserve_and_commit(benchmark, one_cpu, tracer):
    """As `with` does it, and nothing is filled in."""
    statement = "with reserve(8): pass"
    compare(benchmark, tracer.channel, calls(statement, CALLS, reserve=tracer.channel.reserve))
