"""Records lost because producers were preempted in the middle of one: sixteen processes flat out on all CPUs.

Overwrite mode, 4 sub-buffers of 256 KiB for each CPU. What is overwritten later is not lost here.
"""

import ctypes
import os

import peers
from bench_c_peers import lttng_producer
from ratios import note

import ringbuf

PROCESSES = 16
EVENTS = 3_000_000  # of each


def in_processes(work):
    """work() in so many forked processes at once."""
    pids = []
    for _ in range(PROCESSES):
        pid = os.fork()
        if not pid:
            try:
                work()
                os._exit(0)
            finally:
                os._exit(1)
        pids.append(pid)
    assert not any(os.waitpid(pid, 0)[1] for pid in pids)


def note_lost(benchmark, what, attempts, lost):
    note(benchmark, "paused", what, attempts=attempts, lost=lost, lost_percent=round(100 * lost / attempts, 3))


def bench_ringbuf(benchmark, cases, attached, scaled):
    count = scaled(EVENTS)
    with ringbuf.Channel("bench", mode="overwrite") as channel:
        handle = attached(channel)
        benchmark.pedantic(in_processes, (lambda: cases.loop_record(handle, count, ctypes.byref(ctypes.c_uint64())),))
        stats = channel.stats()
    assert stats.attempts == PROCESSES * count == stats.records_written + stats.records_lost
    note_lost(benchmark, "ringbuf", stats.attempts, stats.records_lost)


def bench_typed_events(benchmark, scaled):
    """The same from Python."""
    count = scaled(EVENTS // 10)

    def record():
        for n in range(count):
            event(n)

    with ringbuf.Tracer("bench", mode="overwrite") as tracer:
        event = tracer.event("number", n="u64")
        benchmark.pedantic(in_processes, (record,))
        stats = tracer.stats()
    assert stats.attempts == PROCESSES * count == stats.records_written + stats.records_lost
    note_lost(benchmark, "ringbuf, typed events from Python", stats.attempts, stats.records_lost)


def bench_lttng_ust(benchmark, scaled, lttng_home):
    program, count = lttng_home.install(lttng_producer()), scaled(EVENTS)
    flat_out = f"for i in $(seq {PROCESSES}); do {program} 1 {count} & done; wait"
    benchmark.pedantic(lttng_home.trace, ("sh", "-c", flat_out), {"subbuf_size": "256K", "keep": True})
    with ringbuf.open_trace(lttng_home.path) as trace:
        lost = trace.lost.events + trace.lost.events_before
    note_lost(benchmark, f"LTTng-UST {peers.debian_version('liblttng-ust-dev')}", PROCESSES * count, lost)
