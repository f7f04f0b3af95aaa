"""Records lost when they come faster than the consumer writes them away; every one of them is accounted for."""

import pytest
from ratios import note

import ringbuf

PACES = [500_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000, 100_000_000]  # a second; the last is flat out


@pytest.mark.parametrize("pace", PACES)
def bench_loss(benchmark, cases, attached, scaled, memory_disk, pace):
    """A small ring (4 sub-buffers of 64 KiB), and a consumer that looks every 10 ms."""
    count = max(1000, int(scaled(1000) / 1000 * min(pace, 10_000_000) * 0.5))
    ring = {"mode": "discard", "subbuf_size": 1 << 16, "n_subbufs": 4, "read_timer": 0.01, "wakeup": "timer"}
    with ringbuf.Channel("bench", **ring) as channel:
        handle = attached(channel)
        with ringbuf.Recorder(channel, memory_disk / "trace") as recorder:
            ns = benchmark.pedantic(cases.loop_paced, (handle, count, 1e9 / pace))
        stats, files = channel.stats(), recorder.stats()
    assert stats.attempts == count == stats.records_written + stats.records_lost
    assert files["records"] == stats.records_read == stats.records_written
    note(
        benchmark,
        "overload",
        "flat out" if pace == PACES[-1] else f"{pace:,} a second",
        reached=round(1e9 / ns),
        attempts=count,
        lost=stats.records_lost,
        lost_percent=round(100 * stats.records_lost / count, 3),
    )
