"""One record from Python, by what people use for it: each beside time.perf_counter_ns() in turns."""

import collections
import logging
import logging.handlers
import multiprocessing
import queue
import statistics
import sys
import time
from pathlib import Path

import numpy
import peers
import pytest
from lttng import output
from ratios import beside_clock, calls, in_a_program, in_turns, note

import ringbuf

PROGRAMS = Path(__file__).parent / "programs"
ONE = "event(12345)"
THREE = "event(12345, '/pay', 3.25)"
MESSAGE = "log('order %d', 12345)"


@pytest.fixture
def tracer():
    with ringbuf.Tracer("bench", subbuf_size=1 << 20, n_subbufs=4) as tracer:
        yield tracer


def bench_ringbuf_one_integer(benchmark, one_cpu, tracer, scaled):
    run = calls(ONE, scaled(5_000), event=tracer.event("one", n="u64"))
    beside_clock(benchmark, "ringbuf event: u64", run, scaled)


def bench_ringbuf_three_fields(benchmark, one_cpu, tracer, scaled):
    run = calls(THREE, scaled(5_000), event=tracer.event("three", n="u64", path="str", ms="f64"))
    beside_clock(benchmark, "ringbuf event: u64, str, f64", run, scaled)


def bench_ringbuf_channel_write(benchmark, one_cpu, tracer, scaled):
    run = calls("write(data)", scaled(5_000), write=tracer.channel.write, data=b"12345678")
    beside_clock(benchmark, "ringbuf Channel.write: 8 bytes", run, scaled)


def bench_deque(benchmark, one_cpu, scaled):
    records = collections.deque(maxlen=100_000)
    run = calls("append((clock(), 12345))", scaled(5_000), append=records.append, clock=time.perf_counter_ns)
    beside_clock(benchmark, "deque.append((perf_counter_ns(), i))", run, scaled)


def bench_viztracer(benchmark, one_cpu, scaled):
    _, version = peers.python_package("viztracer")
    in_a_program(
        benchmark,
        f"VizTracer.log_instant {version}",
        lambda rounds, count: output([sys.executable, PROGRAMS / "viztracer_instant.py", str(rounds), str(count)]),
        scaled,
    )


def logger(module, handler):
    made = module.Logger("bench", module.INFO)
    handler.setFormatter(module.Formatter("%(asctime)s %(levelname)s %(message)s"))
    made.addHandler(handler)
    return made


@pytest.mark.parametrize("handler", ["null", "file"])
def bench_logging(benchmark, one_cpu, scaled, memory_disk, handler):
    target = logging.NullHandler() if handler == "null" else logging.FileHandler(memory_disk / "log")
    run = calls(MESSAGE, scaled(1_000), log=logger(logging, target).info)
    beside_clock(benchmark, f"logging: {handler} handler", run, scaled)
    target.close()


def bench_logging_queue(benchmark, one_cpu, scaled, memory_disk):
    records = queue.SimpleQueue()
    file = logging.FileHandler(memory_disk / "log")
    listener = logging.handlers.QueueListener(records, file)
    listener.start()
    run = calls(MESSAGE, scaled(1_000), log=logger(logging, logging.handlers.QueueHandler(records)).info)
    beside_clock(benchmark, "logging: QueueHandler, QueueListener to a file", run, scaled)
    listener.stop()
    file.close()


def bench_picologging(benchmark, one_cpu, scaled, memory_disk):
    picologging, version = peers.python_package("picologging")
    file = picologging.FileHandler(str(memory_disk / "log"))
    run = calls(MESSAGE, scaled(1_000), log=logger(picologging, file).info)
    beside_clock(benchmark, "picologging: file handler", run, scaled, version=version)
    file.close()


def bench_lttng_agent(benchmark, scaled, lttng_home):
    python = peers.debian_module("lttngust", "python3-lttngust")
    program = lttng_home.install(PROGRAMS / "lttng_agent.py")
    in_a_program(
        benchmark,
        f"LTTng's Python agent {peers.debian_version('python3-lttngust')}",
        lambda rounds, count: lttng_home.trace(python, program, rounds, count, event=("--python", "bench")),
        scaled,
    )


# ---- messages to another process: until it has taken all of them ----


@pytest.fixture
def consumer():
    """A function: fork a process that calls function(*args, done), where done() tells us that a round has ended."""
    processes = []

    def start(function, *args):
        reading, writing = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(target=function, args=(*args, lambda: writing.send(None)))
        process.start()
        processes.append(process)
        return reading.recv

    yield start
    for process in processes:
        process.kill()
        process.join()


def take(get, done):
    """The last message of a round is None."""
    while True:
        if get() is None:
            done()


def beside_clock_until_taken(benchmark, what, put, end, scaled, *, version=""):
    """put() sends one message; end() returns when all of a round have been taken."""
    count = scaled(5_000)

    def run():
        began = time.perf_counter_ns()
        for _ in range(count):
            put(12345)
        end()
        return (time.perf_counter_ns() - began) / count

    beside_clock(benchmark, what, run, scaled, table="messages", version=version)


def through_a_queue(benchmark, consumer, what, made, scaled, *, version=""):
    wait = consumer(take, made.get)
    beside_clock_until_taken(benchmark, what, made.put, lambda: (made.put(None), wait()), scaled, version=version)


def bench_multiprocessing_queue(benchmark, consumer, scaled):
    made = multiprocessing.get_context("fork").Queue()
    through_a_queue(benchmark, consumer, "multiprocessing.Queue", made, scaled)
    made.close()
    made.join_thread()


def bench_multiprocessing_simple_queue(benchmark, consumer, scaled):
    made = multiprocessing.get_context("fork").SimpleQueue()
    through_a_queue(benchmark, consumer, "multiprocessing.SimpleQueue", made, scaled)
    made.close()


def bench_faster_fifo(benchmark, consumer, scaled):
    faster_fifo, version = peers.python_package("faster_fifo", "faster-fifo")
    made = faster_fifo.Queue(1 << 24)
    through_a_queue(benchmark, consumer, "faster-fifo", made, scaled, version=version)


def bench_faster_fifo_many(benchmark, consumer, scaled):
    """put_many and get_many, 100 messages at a time."""
    faster_fifo, version = peers.python_package("faster_fifo", "faster-fifo")
    made, batch = faster_fifo.Queue(1 << 24), []
    wait = consumer(take_many, made)

    def put(message):
        batch.append(message)
        if len(batch) == 100:
            made.put_many(batch)
            batch.clear()

    def end():
        made.put_many([*batch, None])
        batch.clear()
        wait()

    beside_clock_until_taken(benchmark, f"faster-fifo {version}, 100 at a time", put, end, scaled)


def take_many(made, done):
    while True:
        if made.get_many(timeout=600)[-1] is None:
            done()


def bench_ringbuf_to_a_process(benchmark, consumer, scaled):
    with ringbuf.Tracer("bench", mode="discard", blocking_timeout=None, wakeup="writer") as tracer:
        event = tracer.event("one", n="u64")
        wait = consumer(take_packets, tracer.channel)
        put_end = tracer.event("end")

        def end():
            put_end()
            tracer.channel.flush()
            wait()

        beside_clock_until_taken(benchmark, "ringbuf event: u64", event, end, scaled)
        stats = tracer.stats()
        assert (stats.records_lost, stats.records_unread) == (0, 0)


def bench_ringbuf_batches_to_a_process(benchmark, consumer, scaled):
    """The same, taken as NumPy arrays."""
    with ringbuf.Tracer("bench", mode="discard", blocking_timeout=None, wakeup="writer") as tracer:
        event = tracer.event("one", n="u64")
        wait = consumer(take_batches, tracer.channel)

        def end():
            event(END)
            tracer.channel.flush()
            wait()

        beside_clock_until_taken(benchmark, "ringbuf event: u64, taken as NumPy batches", event, end, scaled)
        stats = tracer.stats()
        assert (stats.records_lost, stats.records_unread) == (0, 0)


END = 2**64 - 1


def take_batches(channel, done):
    """The last record of a round is END."""
    with channel.reader() as reader:
        for rows in reader.batches("one"):
            if rows["n"][-1] == END:
                done()


@pytest.mark.parametrize("peer", ["records", "faster-fifo"])
def bench_taking(benchmark, scaled, peer):
    """CPU time of the consumer alone: NumPy batches beside Python objects of what is already there."""
    count, rounds = scaled(200_000, least=20_000), scaled(9, least=3)
    tracer = ringbuf.Tracer("bench", streams="global", mode="discard", contexts=(), subbuf_size=1 << 18, n_subbufs=64)
    event = tracer.event("one", n="u64")
    rows = numpy.zeros(count, [("n", "u8")])
    queue = peers.python_package("faster_fifo", "faster-fifo")[0].Queue(1 << 26) if peer == "faster-fifo" else None

    def ours():
        event.many(rows)
        tracer.channel.flush()
        start, left = time.process_time(), count
        with tracer.channel.reader() as reader:
            for part in reader.batches("one"):
                left -= len(part)
                if not left:
                    return count / (time.process_time() - start) / 1e6

    def many():
        for _ in range(count // 100):
            queue.put_many([1] * 100)
        start, left = time.process_time(), count
        while left:
            left -= len(queue.get_many(max_messages_to_get=100))
        return count / (time.process_time() - start) / 1e6

    def records():
        event.many(rows)
        tracer.channel.flush()
        start, left = time.process_time(), count
        with tracer.channel.reader() as reader:
            for _ in reader.records():
                left -= 1
                if not left:
                    return count / (time.process_time() - start) / 1e6

    batches, others = in_turns(benchmark, ours, many if queue else records, rounds=rounds, warmup=1)
    tracer.close()
    note(
        benchmark,
        "taking",
        f"NumPy batches beside {peer}" + (" (get_many, 100)" if queue else ""),
        m_records_s=round(statistics.median(batches), 2),
        other_m_records_s=round(statistics.median(others), 2),
        ratio=round(statistics.median(a / b for a, b in zip(batches, others, strict=True)), 1),
    )


def take_packets(channel, done):
    """The last record of a round is an "end"."""
    with channel.reader() as reader:
        for record in reader.records():
            if record.name == "end":
                done()
