"""What the clock, the locked instructions and the ledger take of a record from C: the same code without them."""

import ctypes
import platform
import statistics

import compiled
import pytest
from ratios import in_turns, note

import ringbuf

RECORDS = 5_000
ROUNDS = 100

NO_CLOCK = "-D__builtin_ia32_rdtsc()=(uint64_t)12345"
NO_LOCKS = f'-DRINGBUF_ATOMIC_HEADER="{compiled.SOURCES}/unlocked.h"'
PARTS = {
    "the ledger": ["-include", f"{compiled.SOURCES}/no_ledger.h"],
    "the clock": [NO_CLOCK],
    "the locked instructions": [NO_LOCKS],
    "clock and locked instructions": [NO_CLOCK, NO_LOCKS],
}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="knows the clock of x86-64 only")
@pytest.mark.parametrize("part", PARTS)
def bench_part(benchmark, loops, one_cpu, scaled, part):
    """The record and the floor, whole and without the part, in turns."""
    without = compiled.loops(f"loops-without-{part.replace(' ', '-')}", *PARTS[part])
    channel = ringbuf.Channel("bench", mode="overwrite", subbuf_size=1 << 18, n_subbufs=4)
    handles = [library.attach(f"/proc/self/fd/{channel.fileno()}".encode()) for library in (loops, without)]
    lost = ctypes.c_uint64()

    def of(library, handle):
        """ns of a record, and of the floor."""
        return library.loop_record(handle, RECORDS, ctypes.byref(lost)), library.loop_floor(RECORDS)

    less, whole = in_turns(
        benchmark,
        lambda: of(without, handles[1]),
        lambda: of(loops, handles[0]),
        rounds=scaled(ROUNDS, least=5),
        warmup=5,
    )
    assert channel.stats().records_lost == 0
    for library, handle in zip((loops, without), handles, strict=True):
        library.detach(handle)
    channel.close()
    note(
        benchmark,
        "parts",
        part,
        record_ns=round(statistics.median(record for record, _ in less), 1),
        floor_ns=round(statistics.median(floor for _, floor in less), 1),
        takes_ns=round(statistics.median(a[0] - b[0] for a, b in zip(whole, less, strict=True)), 1),
        floor_takes_ns=round(statistics.median(a[1] - b[1] for a, b in zip(whole, less, strict=True)), 1),
    )
