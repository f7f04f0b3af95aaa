"""The native consumer: how fast it writes packets to memory, and what it takes of a CPU at a given pace."""

import ctypes
import shutil
import statistics
import time

from ratios import note

import ringbuf

RING = 256 << 20


def bench_consumer_speed(benchmark, cases, attached, scaled, memory_disk):
    """A full ring, written to a file in memory: bytes for each second of the process's CPU time, and of the clock."""
    cpu, wall = [], []
    packets = scaled(RING >> 20, least=4)

    def full():
        channel = ringbuf.Channel("bench", mode="discard", streams="global", subbuf_size=1 << 20, n_subbufs=RING >> 20)
        cases.loop_payload(attached(channel), packets * 255, 4096, bytes(4096), ctypes.byref(ctypes.c_uint64()))
        return (channel, memory_disk / str(len(cpu))), {}

    def write(channel, directory):
        with channel:
            recorder = ringbuf.Recorder(channel, directory, read_timer=1.0)
            before, began = time.process_time(), time.perf_counter()
            recorder.stop()
            after, ended = time.process_time(), time.perf_counter()
            size = recorder.stats()["bytes"]
        cpu.append(size / (after - before) / 1e9)
        wall.append(size / (ended - began) / 1e9)
        shutil.rmtree(directory)

    benchmark.pedantic(write, setup=full, rounds=scaled(8, least=2))
    columns = {"cpu_gb_s": round(statistics.median(cpu), 2), "wall_gb_s": round(statistics.median(wall), 2)}
    note(benchmark, "drain", "consumer, packets of 1 MiB to a file in memory", **columns)


def bench_consumer_share(benchmark, cases, attached, scaled, memory_disk):
    """1 M events a second, 8 bytes each: the CPU time of all threads but the producer's."""
    count = scaled(4_000_000, least=100_000)
    with ringbuf.Channel("bench", mode="discard") as channel:
        handle = attached(channel)
        with ringbuf.Recorder(channel, memory_disk / "trace"):
            cases.loop_paced(handle, 1000, 1000.0)  # the first record registers the thread
            before, mine, began = time.process_time(), time.thread_time(), time.perf_counter()
            benchmark.pedantic(cases.loop_paced, (handle, count, 1000.0))
            seconds = time.perf_counter() - began
            share = (time.process_time() - before - (time.thread_time() - mine)) / seconds
        assert channel.stats().records_lost == 0
    columns = {"pace": round(count / seconds), "share_percent": round(100 * share, 2)}
    note(benchmark, "share", "consumer, at 1,000,000 events a second", **columns)
