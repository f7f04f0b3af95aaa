"""One record from C, by what else there is: LTTng-UST, and the kernel's own ring buffer."""

import ctypes
import os
import subprocess

import compiled
import peers
import pytest
from ratios import in_turns, note, note_ratio

import ringbuf
from ringbuf.kernel import tracefs

ROUNDS = 30


def lost():
    return ctypes.byref(ctypes.c_uint64())


def bench_ringbuf(benchmark, cases, attached, one_cpu, scaled):
    """The same loop as bench_record.py's, once more, so that it stands beside the others."""
    with ringbuf.Channel("bench", mode="overwrite", subbuf_size=1 << 20, n_subbufs=4) as channel:
        handle, count = attached(channel), scaled(100_000)
        times, floors = in_turns(
            benchmark,
            lambda: cases.loop_record(handle, count, lost()),
            lambda: cases.loop_floor(count),
            rounds=scaled(ROUNDS, least=3),
        )
    note_ratio(benchmark, "record", times, "floor", floors)
    note(benchmark, "c", "ringbuf, 8 bytes, overwrite")


@pytest.mark.parametrize("mode", ["discard", "overwrite"])
def bench_lttng_ust(benchmark, scaled, lttng_home, mode):
    """Warm, as we are measured: the buffer was gone round before."""
    rounds = scaled(ROUNDS, least=3)
    rows = lttng_rows(benchmark, scaled, lttng_home, mode, rounds + 2)[-rounds:]
    note_lttng(benchmark, rows, mode)


def bench_lttng_ust_first_touch(benchmark, scaled, lttng_home):
    """Records into a buffer that was just made: each page of it is given by the kernel as it is written."""
    note_lttng(benchmark, lttng_rows(benchmark, scaled, lttng_home, "overwrite", 0)[:1], "overwrite, buffer untouched")


def lttng_rows(benchmark, scaled, home, mode, rounds):
    """(ns for a record, ns for the floor): the first of memory that was not touched before, then of each round."""
    program = home.install(lttng_producer())
    printed = benchmark.pedantic(home.trace, (program, rounds, scaled(20_000), "warm"), {"mode": f"--{mode}"})
    return [list(map(float, line.split())) for line in printed.splitlines()]


def note_lttng(benchmark, rows, how):
    note_ratio(benchmark, "record", [row[0] for row in rows], "floor", [row[1] for row in rows])
    note(benchmark, "c", f"LTTng-UST {peers.debian_version('liblttng-ust-dev')}, 8 bytes, {how}")


def lttng_producer():
    try:
        return compiled.build("lttng_producer.c", f"-I{compiled.SOURCES}", "-llttng-ust", "-ldl")
    except subprocess.CalledProcessError:
        pytest.skip("LTTng-UST's headers are missing: apt-get install liblttng-ust-dev")


def bench_kernel_trace_marker_raw(benchmark, cases, one_cpu, scaled):
    count = scaled(20_000)
    try:
        instance = tracefs.Instance(buffer_size=4 << 20)
    except (tracefs.TracefsError, OSError) as error:
        pytest.skip(str(error))
    with instance, open(instance.path / "trace_marker_raw", "wb", buffering=0) as file:
        instance.start()
        times, floors = in_turns(
            benchmark,
            lambda: cases.loop_write(file.fileno(), count),
            lambda: cases.loop_floor(count),
            rounds=scaled(ROUNDS, least=3),
        )
    assert min(times) > 0
    note_ratio(benchmark, "record", times, "floor", floors)
    note(benchmark, "c", f"kernel {os.uname().release.split('-')[0]}: write to trace_marker_raw, 8 bytes")
