"""One swap of a mapped stream: include/ringbuf/map.h, beside the kernel's ioctl on its own buffer."""

import os
import struct

import pytest
from ratios import in_turns, note_ratio

import ringbuf
from ringbuf.kernel import tracefs

SUBBUFS = 64
ROUNDS = 40
PAYLOAD = bytes(960)  # four to a page, there and here


@pytest.fixture
def kernel_buffer():
    """A mapped buffer of the kernel with as many pages, and a descriptor to write events with."""
    try:
        instance = tracefs.Instance(buffer_size=4080 * SUBBUFS)
    except (tracefs.TracefsError, OSError) as error:
        pytest.skip(str(error))
    (cpu,) = os.sched_getaffinity(0)
    with instance, tracefs.MappedBuffer(cpu, instance) as buffer:
        if not buffer.is_mapped:
            pytest.skip("the kernel cannot map its buffers")
        writer = os.open(instance.path / "trace_marker_raw", os.O_WRONLY)
        instance.start()
        yield buffer, writer
        os.close(writer)


@pytest.mark.parametrize("what", ["swap", "nothing new"])
def bench_map(benchmark, loops, one_cpu, kernel_buffer, what):
    """get_reader, called once for each sub-buffer that is ready; or with nothing to do."""
    buffer, writer = kernel_buffer
    channel = ringbuf.Channel("bench", mode="overwrite", streams="global", subbuf_size=4096, n_subbufs=SUBBUFS)
    handle = loops.attach(f"/proc/self/fd/{channel.fileno()}".encode())
    mapping = loops.map_open(handle)

    def fill():
        if what == "swap":
            for number in range(4 * SUBBUFS):
                os.write(writer, struct.pack("<I", number) + PAYLOAD)
                channel.write(PAYLOAD)

    ours, theirs = in_turns(
        benchmark,
        lambda: loops.loop_map(mapping, SUBBUFS),
        lambda: loops.loop_kernel_map(buffer.fileno(), SUBBUFS),
        setup=fill,
        rounds=ROUNDS,
        warmup=5,
    )
    note_ratio(benchmark, "map", ours, "kernel", theirs)
    loops.map_close(mapping)
    loops.detach(handle)
    channel.close()
