"""Producers that count what they do, and a reader's side that checks it: the load of the stress tests.

A record says who made it and which of that producer's accepted records it is; the rest of it follows from these two.
So nothing can be lost, doubled, torn or out of order unseen, whatever happens around it.
"""

import contextlib
import random
import struct
import sys
import threading
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.sharedctypes import RawArray

import numpy

import ringbuf
from ringbuf.live.merge import packet_decoder

WORK = {"producer": "u32", "seq": "u64", "check": "u64", "data": "bytes"}
HEAD = struct.Struct("<IQQ")  # of a raw payload: the same fields
PATTERN = random.Random(0).randbytes(4096)
OUTCOMES = ("written", "discarded", "full", "big", "nesting", "slots", "disabled", "refused")
CAUSES = {
    ringbuf.BufferFullError: "full",
    ringbuf.RecordTooLargeError: "big",
    ringbuf.NestingError: "nesting",
    ringbuf.TooManyProducersError: "slots",
    ringbuf.ChannelDisabledError: "disabled",
}


def fields(producer, seq):
    """The values of a record, in the order of WORK."""
    size = 1200 if seq % 101 == 100 else (seq * 31 + producer) % 57
    begin = (seq * 7 + producer) % 2048
    return producer, seq, (seq + 1) * 0x9E3779B97F4A7C15 + producer & 2**64 - 1, PATTERN[begin : begin + size]


def payload(producer, seq):
    """The same as bytes."""
    *head, data = fields(producer, seq)
    return HEAD.pack(*head) + data


class Tally:
    """How the attempts of each producer ended, in memory that processes share; a row has one writer at a time."""

    def __init__(self, producers):
        self._cells = RawArray("Q", producers * len(OUTCOMES))

    @property
    def rows(self):
        return numpy.frombuffer(self._cells, "u8").reshape(-1, len(OUTCOMES))

    @property
    def attempts(self):
        return int(self.rows.sum())

    def totals(self):
        return dict(zip(OUTCOMES, self.rows.sum(axis=0).tolist(), strict=True))

    def written(self):
        """How many records of each producer were accepted."""
        return self.rows[:, OUTCOMES.index("written")].tolist()


class Producer:
    """Records for a while, in every way there is, and counts each attempt once.

    What an Event or `Channel.write` refuses is counted as "refused": they do not say why. All else has its cause.
    """

    def __init__(self, tracer, number, tally, seed):
        self.channel = tracer.channel
        self.work = tracer.event("work", **WORK)
        self.number = number
        self.rng = random.Random(f"{seed} {number}")
        self.row = tally.rows[number]
        self.counts = dict(zip(OUTCOMES, self.row.tolist(), strict=True))

    def run(self, attempts, goes_on=lambda: True):
        ways = (self.call, self.call_by_name, self.write, self.reserve, self.nest, self.discard, self.too_big)
        weights = (8, 1, 2, 3, 2, 1, 0.1)
        end = sum(self.counts.values()) + attempts
        try:
            while sum(self.counts.values()) < end and goes_on():
                for way in self.rng.choices(ways, weights, k=20):
                    way()
        finally:
            self.row[:] = list(self.counts.values())

    @property
    def next(self):
        return fields(self.number, self.counts["written"])

    def count(self, accepted):
        self.counts["written" if accepted else "refused"] += 1

    def call(self):
        self.count(self.work(*self.next))

    def call_by_name(self):
        self.count(self.work(**dict(zip(WORK, self.next, strict=True))))

    def write(self):
        record = payload(self.number, self.counts["written"])
        self.count(self.channel.write(record, align=self.rng.choice((1, 8))))

    def reserve(self):
        slot = self.reserved(keep=True)
        if slot:
            slot.commit()

    def discard(self):
        slot = self.reserved(keep=False)
        if slot:
            slot.discard()

    def nest(self):
        """Several records open at a time, one too many now and then, ended in any order."""
        kept = [self.rng.random() < 0.7 for _ in range(self.rng.choice((2, 2, 3, 4, 5)))]
        slots = [(self.reserved(keep), keep) for keep in kept]
        self.rng.shuffle(slots)
        for slot, keep in slots:
            if slot:
                slot.commit() if keep else slot.discard()

    def reserved(self, keep):
        """An open reservation that is to be committed, or one that is to be discarded; None: lost."""
        record = payload(self.number, self.counts["written"])
        try:
            slot = self.channel.reserve(len(record))
        except tuple(CAUSES) as error:
            self.counts[CAUSES[type(error)]] += 1
            return None
        slot.payload[:] = record if keep else b"\xdd" * len(record)
        self.counts["written" if keep else "discarded"] += 1
        return slot

    def too_big(self):
        try:
            self.channel.reserve(self.channel.subbuf_size)
        except tuple(CAUSES) as error:
            self.counts[CAUSES[type(error)]] += 1
        else:
            raise AssertionError("a record larger than a sub-buffer was accepted")


def produce(tracer, numbers, tally, seed, attempts, start):
    """A thread for each of these producers. Also what a child process runs.

    `start`, a barrier for all producers and whoever started them, is passed twice: when all are ready, and when all
    have tried to record, so that no thread ends before another begins.
    """
    sys.setswitchinterval(1e-4)  # threads change in the middle of records

    def run(number):
        producer = Producer(tracer, number, tally, seed)
        start.wait()
        producer.run(1)
        start.wait()
        producer.run(attempts)

    in_threads(run, numbers)


class Thread(threading.Thread):
    """A thread that has an exit code like a process."""

    exitcode = 1

    def run(self):
        super().run()
        self.exitcode = 0


def let_go(workers, start, around):
    """Start threads and processes that `produce`, join them, and have the load itself go on within around()."""
    interval = sys.getswitchinterval()
    try:
        for worker in workers:
            worker.start()  # before other threads do: a fork is best made without any
        with around():
            start.wait()
            start.wait()
            for worker in workers:
                worker.join()
    finally:
        sys.setswitchinterval(interval)
    assert [worker.exitcode for worker in workers] == [0] * len(workers)


def in_threads(function, values):
    """Call the function with each value, all at a time; raise what a thread has raised."""
    with ThreadPoolExecutor(len(values)) as pool:
        list(pool.map(function, values))


@contextlib.contextmanager
def meanwhile(step):
    """Call step() again and again in a thread, at least once, until the block has ended; raise what it raised."""
    stopped, failures = threading.Event(), []

    def run():
        try:
            step()
            while not stopped.is_set():
                step()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
    if failures:
        raise failures[0]


class Seen:
    """What was read, checked record by record.

    Along a stream, the records of a producer are in order. If the channel is `lossless` (nothing is overwritten or
    cleared), all of a producer's records are seen by the end, each once.
    """

    def __init__(self, lossless):
        self.lossless = lossless
        self.count = 0
        self.complete = Counter()  # of each producer: all below this were seen
        self._ahead = defaultdict(set)  # and these, which have one before them in a stream not yet read
        self._last = {}

    def add(self, records):
        for record in records:
            producer, seq = identity(record)
            where = producer, record.cpu
            assert seq > self._last.get(where, -1), f"{seq} after {self._last[where]}, producer and CPU {where}"
            self._last[where] = seq
            self.count += 1
            if self.lossless:
                self._see(producer, seq)

    def _see(self, producer, seq):
        ahead = self._ahead[producer]
        assert seq >= self.complete[producer] and seq not in ahead, f"{seq} of producer {producer} came twice"
        ahead.add(seq)
        while self.complete[producer] in ahead:
            ahead.remove(self.complete[producer])
            self.complete[producer] += 1

    def check_complete(self, written):
        """`written`: how many of each producer there must be."""
        if self.lossless:
            assert {n: seen for n, seen in self.complete.items() if seen} == {n: w for n, w in enumerate(written) if w}
            assert not any(self._ahead.values())


def identity(record):
    """Producer and sequence number of a record whose values are right."""
    if record.name == "work":
        found = tuple(record.fields.values())
    else:
        data = record.fields["payload"]
        found = (*HEAD.unpack_from(data), data[HEAD.size :])
    assert found == fields(*found[:2]), f"{record}: {found}"
    return found[:2]


def read_some(reader, seen, timeout=0, packets=16):
    """Read and check some packets; False if there was none."""
    decode = packet_decoder(reader.channel)
    for i in range(packets):
        packet = reader.next(timeout)
        if packet is None:
            return i > 0
        records = decode(packet)
        assert len(records) == packet.n_records
        packet.release()
        seen.add(records)
    return True


def drain(channel, seen):
    """Read everything. Nobody may be recording."""
    with channel.reader() as reader:
        reader.flush()
        while read_some(reader, seen):
            pass


def settle(channel, tally, seen):
    """Everybody has stopped: the counters are what the producers counted, and all that is left can be read."""
    check_counts(channel, tally)
    drain(channel, seen)
    stats = check_counts(channel, tally)
    assert (stats.records_unread, stats.records_read) == (0, seen.count), stats
    if seen.lossless:
        assert stats.records_overrun == 0, stats
    seen.check_complete(tally.written())
    return stats


def check_counts(channel, tally):
    """Compare every counter, and return them."""
    stats, counted = channel.stats(), tally.totals()
    refused = counted.pop("refused")
    unexplained = {
        "full": stats.records_lost_full + stats.records_lost_wrap - counted.pop("full"),
        "slots": stats.records_lost_slots - counted.pop("slots"),
        "disabled": stats.records_lost_disabled - counted.pop("disabled"),
    }
    assert sum(unexplained.values()) == refused and min(unexplained.values()) >= 0, (unexplained, refused, stats)
    assert {
        "written": stats.records_written,
        "discarded": stats.records_discarded,
        "big": stats.records_lost_big,
        "nesting": stats.records_lost_nesting,
    } == counted, stats
    assert stats.attempts == tally.attempts, stats
    parts = stats.records_read, stats.records_overrun, stats.records_unread, stats.records_torn
    assert (stats.records_written, stats.records_torn) == (sum(parts), 0), stats
    for name in vars(stats):
        of_streams = sum(getattr(stream.stats(), name) for stream in channel.streams)
        assert name == "records_lost_disabled" or of_streams == getattr(stats, name), name
    reported = sum(stream.events_discarded() for stream in channel.streams)
    assert reported == stats.records_lost - stats.records_lost_disabled, (reported, stats)
    return stats
