"""One record from C, by what else there is: LTTng-UST, and the kernel's own ring buffer."""

import contextlib
import ctypes
import mmap
import os
import subprocess

import compiled
import peers
import pytest
from ratios import in_turns, note, note_ratio

import ringbuf

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
    program = lttng_home.install(lttng_producer())
    rounds = scaled(ROUNDS, least=3)
    command = (program, rounds + 2, scaled(20_000))
    printed = benchmark.pedantic(lttng_home.trace, command, {"mode": f"--{mode}"})
    rows = [list(map(float, line.split())) for line in printed.splitlines()][-rounds:]
    note_ratio(benchmark, "record", [row[0] for row in rows], "floor", [row[1] for row in rows])
    note(benchmark, "c", f"LTTng-UST {peers.debian_version('liblttng-ust-dev')}, 8 bytes, {mode}")


def lttng_producer():
    try:
        return compiled.build("lttng_producer.c", f"-I{compiled.SOURCES}", "-llttng-ust", "-ldl")
    except subprocess.CalledProcessError:
        pytest.skip("LTTng-UST's headers are missing: apt-get install liblttng-ust-dev")


# ---- the kernel ----


@pytest.fixture
def tracefs(tmp_path):
    """An instance of the kernel's tracer, of our own."""
    if os.geteuid() != 0:
        pytest.skip("the kernel's tracer needs root")
    directory = tmp_path / "tracefs"
    directory.mkdir()
    if subprocess.run(["mount", "-t", "tracefs", "tracefs", directory], capture_output=True).returncode:
        pytest.skip("this kernel has no tracefs, or forbids it")
    instance = directory / "instances" / f"ringbuf-bench-{os.getpid()}"
    try:
        instance.mkdir()
        yield instance
        instance.rmdir()
    finally:
        subprocess.run(["umount", directory], check=True)


def bench_kernel_trace_marker_raw(benchmark, cases, one_cpu, scaled, tracefs):
    if not (tracefs / "trace_marker_raw").exists():
        pytest.skip("this kernel has no trace_marker_raw")
    count = scaled(20_000)
    (tracefs / "buffer_size_kb").write_text("4096")
    with open(tracefs / "trace_marker_raw", "wb", buffering=0) as file:
        times, floors = in_turns(
            benchmark,
            lambda: cases.loop_write(file.fileno(), count),
            lambda: cases.loop_floor(count),
            rounds=scaled(ROUNDS, least=3),
        )
    assert min(times) > 0
    note_ratio(benchmark, "record", times, "floor", floors)
    note(benchmark, "c", f"kernel {os.uname().release.split('-')[0]}: write to trace_marker_raw, 8 bytes")


@contextlib.contextmanager
def mapped(cases, path):
    """trace_pipe_raw of one CPU, mapped; its descriptor."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        page = cases.map_reader(descriptor) or pytest.skip("this kernel cannot map its ring buffer")
        try:
            yield descriptor
        finally:
            cases.unmap_reader(page)
    finally:
        os.close(descriptor)


def fill_pages(cases, tracefs, pages):
    """Let the kernel fill that many pages."""
    with open(tracefs / "trace_marker_raw", "wb", buffering=0) as file:
        assert cases.loop_write(file.fileno(), pages * mmap.PAGESIZE // 16) > 0


def bench_get_reader(benchmark, cases, attached, one_cpu, scaled, tracefs):
    """Taking a page or packet from the ring: ours, beside the kernel's ioctl in turns."""
    pages = scaled(256, least=8)
    (tracefs / "buffer_size_kb").write_text("4096")
    (cpu,) = os.sched_getaffinity(0)
    with (
        mapped(cases, tracefs / f"per_cpu/cpu{cpu}/trace_pipe_raw") as descriptor,
        ringbuf.Channel("bench", mode="overwrite", streams="global", subbuf_size=4096, n_subbufs=1024) as channel,
    ):
        handle = attached(channel)

        def fill():
            fill_pages(cases, tracefs, 2 * pages)
            cases.loop_record(handle, 2 * pages * 256, lost())

        times, ioctls = in_turns(
            benchmark,
            lambda: cases.loop_get_subbuf(handle, 0, pages),
            lambda: cases.loop_get_reader(descriptor, pages),
            rounds=scaled(ROUNDS, least=3),
            setup=fill,
        )
    assert min(times + ioctls) > 0
    note_ratio(benchmark, "get", times, "ioctl", ioctls)
    note(benchmark, "get", "ringbuf_get_next_subbuf, beside the kernel's GET_READER")
