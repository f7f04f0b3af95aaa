"""What a record costs by the size of its payload, beside the copy alone."""

import ctypes

import pytest
from ratios import in_turns, note, note_ratio

import ringbuf

SIZES = [8 << n for n in range(14)]  # to 64 KiB
ROUND_BYTES = 4 << 20
RING = 8 << 20


@pytest.mark.parametrize("size", SIZES)
def bench_payload(benchmark, cases, attached, one_cpu, scaled, size):
    target, source = ctypes.create_string_buffer(RING), bytes(size)
    count = scaled(min(50_000, ROUND_BYTES // size), least=4)
    lost = ctypes.c_uint64()
    with ringbuf.Channel("bench", mode="overwrite", subbuf_size=1 << 20, n_subbufs=RING >> 20) as channel:
        handle = attached(channel)
        # every page there is has been touched, on both sides
        cases.loop_payload(handle, 2 * RING // size, size, source, ctypes.byref(lost))
        cases.loop_memcpy(ctypes.addressof(target), RING, 2 * RING // size, size, source)
        times, copies = in_turns(
            benchmark,
            lambda: cases.loop_payload(handle, count, size, source, ctypes.byref(lost)),
            lambda: cases.loop_memcpy(ctypes.addressof(target), RING, count, size, source),
            rounds=scaled(50, least=3),
        )
        assert lost.value == 0
    note_ratio(benchmark, "record", times, "memcpy", copies)
    note(benchmark, "payload", f"{size} bytes", size=size)
