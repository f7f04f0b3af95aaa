"""What the clock, the locked instructions and the ledger take of a record from C: the same code without them."""

import ctypes
import platform
import statistics

import compiled
import pytest
from conftest import loops_with
from ratios import in_turns, note

import ringbuf

RECORDS = 20_000
ROUNDS = 100

NO_CLOCK = "-D__builtin_ia32_rdtsc()=(uint64_t)12345"
NO_LOCKS = f'-DRINGBUF_ATOMIC_HEADER="{compiled.SOURCES}/unlocked.h"'
LEFT_OUT = {
    "nothing": [],
    "the ledger": ["-include", f"{compiled.SOURCES}/no_ledger.h"],
    "the clock": [NO_CLOCK],
    "the locked instructions": [NO_LOCKS],
    "clock and locked instructions": [NO_CLOCK, NO_LOCKS],
}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="knows the clock of x86-64 only")
@pytest.mark.parametrize("left_out", LEFT_OUT)
def bench_record_without(benchmark, one_cpu, left_out):
    loops = loops_with(f"loops-without-{left_out.replace(' ', '-')}", *LEFT_OUT[left_out])
    channel = ringbuf.Channel("bench", mode="overwrite", subbuf_size=1 << 18, n_subbufs=4)
    handle = loops.attach(f"/proc/self/fd/{channel.fileno()}".encode())
    lost = ctypes.c_uint64()
    records, floors = in_turns(
        benchmark,
        lambda: loops.loop_record(handle, RECORDS, ctypes.byref(lost)),
        lambda: loops.loop_floor(RECORDS),
        rounds=ROUNDS,
    )
    assert lost.value == 0
    loops.detach(handle)
    channel.close()
    record_ns, floor_ns = statistics.median(records), statistics.median(floors)
    note(benchmark, "parts", left_out, record_ns=round(record_ns, 1), floor_ns=round(floor_ns, 1))
