"""Records of a live channel in order of time: rounds, streams that are held up, records left in hand."""

import itertools
import os
import threading

import pytest
from rings import assert_exact, small

import ringbuf
from ringbuf.live import merge


class Record:
    def __init__(self, timestamp, stream, number):
        self.timestamp, self.stream, self.number = timestamp, stream, number

    def __repr__(self):
        return f"{self.timestamp}/{self.stream}/{self.number}"


class Packet(list):
    """As a Packet: must be released before the next is taken."""

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.clear()


class World:
    """A reader over streams whose records appear as time goes on, and its channel.

    Records are made before and after the clock is read, and while one stream after the
    other is flushed. So some that are found are newer than the clock was, and newer than
    others that are not found yet.
    """

    def __init__(self, rng, n_streams, rounds):
        self.rng, self.rounds, self.now = rng, rounds, 0
        self.open = [[] for _ in range(n_streams)]
        self.packets = [[] for _ in range(n_streams)]
        self.made = []
        self.stream_indices = range(n_streams)
        self.channel = self
        self._cursors = None
        self.is_finalized = False

    def make(self):
        if self.is_finalized:
            return
        for stream in self.rng.choices(range(len(self.open)), k=self.rng.randrange(6)):
            self.now += self.rng.randrange(2)  # times may be equal
            record = Record(self.now, stream, len(self.made))
            self.made.append(record)
            self.open[stream].append(record)
            if self.rng.random() < 0.2:
                self.deliver(stream)

    def deliver(self, stream):
        if self.open[stream]:
            self.packets[stream].append(Packet(self.open[stream]))
            self.open[stream] = []

    def current_timestamp(self):
        if self.rounds:
            self.make()
            now, self.now = self.now, self.now + 1
            self.make()
            self.rounds -= 1
        else:
            self.is_finalized, now = True, self.now
        return now

    def flush(self):
        for stream in range(len(self.open)):
            self.make()
            self.deliver(stream)

    def _next_of_stream(self, stream):
        return self.packets[stream].pop(0) if self.packets[stream] else None

    def _is_stream_drained(self, stream):
        return not self.packets[stream]

    def _is_at_end(self):
        return not any(self.packets) and not any(self.open)


@pytest.fixture
def world(rng, monkeypatch):
    monkeypatch.setattr(merge, "packet_decoder", lambda channel: list)
    monkeypatch.setattr(merge, "_PERIOD", 0)
    return World(rng, rng.randrange(2, 6), rng.randrange(1, 60))


def in_order(records):
    return sorted(records, key=lambda record: (record.timestamp, record.stream, record.number))


def test_records_of_all_streams_come_in_order_whenever_they_are_made(world):
    found = list(merge.merged_records(world, None))
    assert [record.timestamp for record in found] == sorted(record.timestamp for record in world.made)
    assert in_order(found) == in_order(world.made)
    for stream in world.stream_indices:
        mine = [record.number for record in found if record.stream == stream]
        assert mine == sorted(mine)


def test_nothing_is_lost_between_calls(world, rng):
    """Calls that give up at once, and calls that are left after a few records."""
    found = []
    while not (world.is_finalized and world._is_at_end() and len(found) == len(world.made)):
        before = len(found)
        take = rng.choice([1, 3, None])
        found += itertools.islice(merge.merged_records(world, 0), take)
        assert len(found) > before or world.rounds or not world.is_finalized
    assert in_order(found) == in_order(world.made)


@pytest.fixture
def pinned():
    """A function that lets this thread record on the first or second CPU that it may use."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        pytest.skip("two CPUs are needed")
    yield lambda i: os.sched_setaffinity(0, {cpus[i]})
    os.sched_setaffinity(0, cpus)


def take(reader, **options):
    return [record.payload for record in reader.records(**options)]


@pytest.mark.parametrize("streams", ["global", "per-cpu"])
def test_records_left_in_a_packet_come_with_the_next_call(streams):
    with small(streams=streams, n_streams=1) as channel, channel.reader() as reader:
        for i in range(5):
            channel.write(b"%d" % i)
        assert next(reader.records()).payload == b"0"
        for record in reader.records(timeout=0):
            assert record.payload == b"1"
            break
        channel.write(b"5")
        assert take(reader, timeout=0) == [b"2", b"3", b"4", b"5"]
        assert_exact(channel.stats(), attempts=6)
        assert channel.stats().records_read == 6


def test_two_iterations_at_once_share_the_records():
    with small() as channel, channel.reader() as reader:
        for i in range(6):
            channel.write(b"%d" % i)
        channel.finalize()
        one, other = reader.records(), reader.records()
        assert [next(it).payload for it in (one, other) * 3] == [b"%d" % i for i in range(6)]
        assert list(one) == list(other) == []


def test_records_newer_than_a_clock_that_stepped_back_are_not_lost(pinned):
    now = [100]
    with small(streams="per-cpu", clock=lambda: now[0]) as channel, channel.reader() as reader:
        for i in range(2):
            pinned(i)
            channel.write(b"%d" % i)
            now[0] += 1
        now[0] = 5
        assert take(reader, timeout=0) == [b"0", b"1"]
        assert take(reader, timeout=0) == []


def test_ties_go_by_stream(pinned):
    with small(streams="per-cpu", clock=lambda: 17) as channel, channel.reader() as reader:
        for i in (1, 0, 1, 0):
            pinned(i)
            channel.write(b"%d" % i)
        channel.finalize()
        assert take(reader) == [b"0", b"0", b"1", b"1"]


def test_a_stream_that_is_held_up_delays_the_others_and_its_records_come_late(pinned):
    with small(streams="per-cpu") as channel, channel.reader() as reader:
        pinned(0)
        slot = channel.reserve(4)
        slot.payload[:] = b"late"
        channel.write(b"behind")
        pinned(1)
        channel.write(b"other")
        assert take(reader, timeout=0) == [b"other"]
        slot.commit()
        channel.write(b"newest")
        assert take(reader, timeout=0) == [b"late", b"behind", b"newest"]
        assert_exact(channel.stats(), attempts=4)


def test_a_record_in_flight_is_waited_for_and_comes_in_order(pinned, monkeypatch):
    monkeypatch.setattr(merge, "_PATIENCE", 60)
    with small(streams="per-cpu") as channel, channel.reader() as reader:
        reserved, waiting = threading.Event(), threading.Event()

        def slow():
            pinned(0)
            with channel.reserve(4) as slot:
                slot.payload[:] = b"slow"
                reserved.set()
                waiting.wait(60)

        thread = threading.Thread(target=slow)
        thread.start()
        reserved.wait(60)
        pinned(1)
        channel.write(b"other")
        monkeypatch.setattr(merge._StreamCursor, "is_held_up", told(merge._StreamCursor.is_held_up, waiting))
        assert take(reader, timeout=0) == [b"slow", b"other"]
        thread.join()


def told(function, event):
    """`function`, which sets `event` when it has returned True."""

    def call(*args):
        result = function(*args)
        if result:
            event.set()
        return result

    return call


def test_at_the_end_a_record_in_flight_is_waited_for_until_it_is_committed():
    with small() as channel, channel.reader() as reader:
        slot = channel.reserve(4)
        slot.payload[:] = b"last"
        channel.finalize()
        assert take(reader, timeout=0) == []
        slot.commit()
        assert take(reader) == [b"last"]


class Lines(ringbuf.Client):
    """Records without a header that end with a newline; a `!` cannot be read."""

    def record_header_size(self, offset, event_id, flags):
        return 0, 0

    def write_record_header(self, buffer, event_id, timestamp, flags):
        pass

    def record_get(self, packet, offset):
        self.line = packet[offset : bytes(packet).index(b"\n", offset) + 1]
        if b"!" in bytes(self.line):
            raise ValueError("damaged")
        return 0, len(self.line), 0


def test_a_client_may_keep_parts_of_a_packet():
    with small(client=Lines()) as channel, channel.reader() as reader:
        channel.write(b"one\n")
        channel.write(b"two\n")
        assert take(reader, timeout=0) == [b"one\n", b"two\n"]
        assert bytes(channel.client.line) == b"two\n"


def test_an_error_of_the_client_is_what_is_raised_and_costs_its_packet():
    with small(client=Lines()) as channel, channel.reader() as reader:
        for line in (b"one\n", b"two!\n"):
            channel.write(line)
        with pytest.raises(ValueError, match="damaged"):
            take(reader, timeout=0)
        channel.write(b"three\n")
        assert take(reader, timeout=0) == [b"three\n"]


def test_a_record_of_a_format_of_ones_own_tells_what_it_is():
    record = merge.CustomRecord(17, 3, b"four")
    assert (record.timestamp, record.cpu, record.payload, record.name) == (17, 3, b"four", "payload")
    assert record.fields == {"payload": b"four"}
    assert repr(record) == "<CustomRecord at 17: 4 bytes>"
