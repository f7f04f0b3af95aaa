"""One record from C: include/ringbuf/reserve.h and commit.h."""

import ctypes

import pytest
from ratios import in_turns, note_ratio

import ringbuf

RECORDS = 20_000  # a round: fits the ring, so that discard mode loses nothing
ROUNDS = 40


@pytest.mark.parametrize("header", ["compact", "large"])
@pytest.mark.parametrize("streams", ["per-cpu", "global"])
@pytest.mark.parametrize("mode", ["discard", "overwrite"])
def bench_c_record(benchmark, loops, one_cpu, mode, streams, header):
    """An 8-byte payload, ledger on, beside the floor: clock, CPU number and two atomic operations."""
    channel = ringbuf.Channel(
        "bench", mode=mode, streams=streams, client=ringbuf.CtfClient(header), subbuf_size=1 << 18, n_subbufs=4
    )
    handle = loops.attach(f"/proc/self/fd/{channel.fileno()}".encode())
    lost = ctypes.c_uint64()
    records, floors = in_turns(
        benchmark,
        lambda: loops.loop_record(handle, RECORDS, ctypes.byref(lost)),
        lambda: loops.loop_floor(RECORDS),
        setup=lambda: loops.drain(handle),
        rounds=ROUNDS,
        warmup=5,
    )
    assert channel.stats().records_lost == 0
    note_ratio(benchmark, "record", records, "floor", floors)
    loops.detach(handle)
    channel.close()


def bench_clock(benchmark, loops, one_cpu):
    """Reading the clock alone, for scale."""
    clocks, floors = in_turns(
        benchmark, lambda: loops.loop_clock(RECORDS), lambda: loops.loop_floor(RECORDS), rounds=ROUNDS, warmup=5
    )
    note_ratio(benchmark, "clock", clocks, "floor", floors)
