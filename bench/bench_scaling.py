"""One producer and two, each on a CPU of its own: threads and processes, C and Python.

The ratio is how much more two record than one in the same time: 2 is the most there can be.
"""

import ctypes
import statistics
import sys
import threading

import pytest
from ratios import calls, in_turns, note
from together import Processes, in_threads

import ringbuf

ROUNDS = 30


def throughput(times):
    """Records each microsecond of all producers together, whose ns for each record are given."""
    return sum(1000 / ns for ns in times)


def note_scaling(benchmark, what, ones, twos):
    ratios = [throughput(two) / throughput(one) for one, two in zip(ones, twos, strict=True)]
    note(
        benchmark,
        "scaling",
        what,
        one_ns=round(statistics.median(one[0] for one in ones), 2),
        two_ns=round(statistics.median(statistics.mean(two) for two in twos), 2),
        ratio=round(statistics.median(ratios), 3),
    )


@pytest.fixture
def channel(request):
    with ringbuf.Channel("bench", mode="overwrite", subbuf_size=1 << 20, n_subbufs=4) as channel:
        yield channel


def lost():
    return ctypes.byref(ctypes.c_uint64())


def bench_threads(benchmark, cases, attached, two_cpus, scaled, channel):
    handle, count = attached(channel), scaled(100_000)

    def loop(_):
        return cases.loop_record(handle, count, lost())

    compare_threads(benchmark, "threads, C, a stream for each CPU", two_cpus, loop, scaled(ROUNDS, least=3))


def bench_threads_on_one_stream(benchmark, cases, attached, two_cpus, scaled):
    """What two CPUs pay for writing the same two words: the position, and the sub-buffer's count."""
    with ringbuf.Channel("bench", mode="overwrite", streams="global", subbuf_size=1 << 20, n_subbufs=4) as channel:
        handle, count = attached(channel), scaled(50_000)

        def loop(_):
            return cases.loop_record(handle, count, lost())

        compare_threads(benchmark, "threads, C, one stream for all", two_cpus, loop, scaled(ROUNDS, least=3))


def bench_floor_of_threads(benchmark, cases, two_cpus, scaled):
    """What two CPUs of this machine do at most: the clock alone, which they do not share."""
    count = scaled(100_000)

    def loop(_):
        return cases.loop_clock(count)

    compare_threads(benchmark, "threads, C, reading the clock alone", two_cpus, loop, scaled(ROUNDS, least=3))


def compare_threads(benchmark, what, cpus, loop, rounds):
    twos, ones = in_turns(benchmark, lambda: in_threads(cpus, loop), lambda: in_threads(cpus[:1], loop), rounds=rounds)
    note_scaling(benchmark, what, ones, twos)


def compare_processes(benchmark, what, cpus, loop, rounds):
    both, one = Processes(cpus, loop), Processes(cpus[:1], loop)
    try:
        twos, ones = in_turns(benchmark, both.run, one.run, rounds=rounds)
    finally:
        both.close()
        one.close()
    note_scaling(benchmark, what, ones, twos)


def bench_processes(benchmark, cases, attached, two_cpus, scaled, channel):
    handle, count = attached(channel), scaled(100_000)

    def loop(_):
        return cases.loop_record(handle, count, lost())

    compare_processes(benchmark, "processes, C, a stream for each CPU", two_cpus, loop, scaled(ROUNDS, least=3))


def bench_python_processes(benchmark, two_cpus, scaled):
    with ringbuf.Tracer("bench", subbuf_size=1 << 20, n_subbufs=4) as tracer:
        run = calls("event(12345)", scaled(50_000), event=tracer.event("one", n="u64"))
        what = "processes, Python, a stream for each CPU"
        compare_processes(benchmark, what, two_cpus, lambda _: run(), scaled(ROUNDS, least=3))


@pytest.mark.skipif(getattr(sys, "_is_gil_enabled", lambda: True)(), reason="with a GIL, threads of Python take turns")
def bench_python_threads(benchmark, two_cpus, scaled):
    """One Event, which both threads call."""
    with ringbuf.Tracer("bench", subbuf_size=1 << 20, n_subbufs=4) as tracer:
        event, count = tracer.event("one", n="u64"), scaled(50_000)
        runs = [calls("event(12345)", count, event=event) for _ in two_cpus]
        what = "threads, Python without a GIL, one Event, a stream for each CPU"
        compare_threads(benchmark, what, two_cpus, lambda index: runs[index](), scaled(ROUNDS, least=3))


def bench_record_under_remote_flush(benchmark, cases, attached, two_cpus, scaled, channel):
    """A record while another CPU flushes all streams again and again, beside one while nobody does."""
    handle, count = attached(channel), scaled(100_000)
    times, quiet = in_turns(
        benchmark,
        lambda: while_flushing(cases, handle, count, two_cpus),
        lambda: in_threads(two_cpus[:1], lambda _: cases.loop_record(handle, count, lost()))[0],
        rounds=scaled(ROUNDS, least=3),
    )
    note(
        benchmark,
        "flush",
        "record, while another CPU flushes 10,000 times a second",
        quiet_ns=round(statistics.median(quiet), 2),
        record_ns=round(statistics.median(times), 2),
        ratio=round(statistics.median(time / base for time, base in zip(times, quiet, strict=True)), 3),
    )


def while_flushing(cases, handle, count, cpus):
    stop = ctypes.c_int(0)
    began = threading.Event()

    def loop(index):
        if index:
            began.set()
            return cases.loop_flush(handle, ctypes.byref(stop), 100_000)
        began.wait()
        try:
            return cases.loop_record(handle, count, lost())
        finally:
            stop.value = 1

    return in_threads(cpus, loop)[0]
