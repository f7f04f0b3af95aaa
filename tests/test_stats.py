"""Stats: what the counters are called, and that every one of them is exact."""

import dataclasses
import inspect
import os
import pickle
import re
from collections import Counter
from pathlib import Path

import pytest
from rings import assert_exact, exit_code, fork, in_thread, small

import ringbuf

NAMES = [field.name for field in dataclasses.fields(ringbuf.Stats)]
LOST = [name for name in NAMES if name.startswith("records_lost_")]


def test_sums_are_of_all_their_parts():
    stats = ringbuf.Stats(**{name: 1 << i for i, name in enumerate(NAMES)})
    assert stats.records_lost == sum(getattr(stats, name) for name in LOST)
    assert stats.attempts == stats.records_written + stats.records_discarded + stats.records_lost
    assert (ringbuf.Stats().attempts, ringbuf.Stats().records_lost) == (0, 0)


def test_stats_are_values():
    with small() as channel:
        channel.write(b"x")
        one, other = channel.stats(), channel.stats()
        assert one == other and hash(one) == hash(other)
        assert pickle.loads(pickle.dumps(one)) == one
        channel.write(b"x")
        assert channel.stats() != one
        with pytest.raises(dataclasses.FrozenInstanceError):
            one.records_written = 0
        assert "records_written=1" in repr(one)


def test_every_counter_is_documented():
    text = inspect.getdoc(ringbuf.Stats)
    for name in NAMES:
        assert re.search(rf"^(\w+, )*{name}(, \w+)* : int$", text, re.MULTILINE), name
    readme = Path(__file__).parents[1].joinpath("README.md").read_text()
    assert re.findall(r"^\| `(records_lost_\w+)` \|", readme, re.MULTILINE) == LOST


def test_a_new_channel_has_counted_nothing():
    with small(start_position=1 << 20) as channel:
        assert channel.stats() == ringbuf.Stats()
        assert channel.streams[0].stats() == ringbuf.Stats()


CAUSES = {
    ringbuf.BufferFullError: "full",
    ringbuf.RecordTooLargeError: "big",
    ringbuf.NestingError: "nesting",
    ringbuf.ChannelDisabledError: "disabled",
}


class Driver:
    """Does things at random, and counts what comes of them by itself."""

    def __init__(self, channel, rng):
        self.channel, self.rng, self.counts = channel, rng, Counter()
        self.reader = channel.reader()

    def reserve(self, size):
        try:
            return self.channel.reserve(size)
        except tuple(CAUSES) as error:
            self.counts[CAUSES[type(error)]] += 1

    def end(self, slot):
        if slot is None:
            return
        if self.rng.random() < 0.3:
            slot.discard()
            self.counts["discarded"] += 1
        else:
            slot.commit()
            self.counts["written"] += 1

    def write(self):
        self.end(self.reserve(self.rng.randrange(1500)))

    def write_too_much(self):
        self.end(self.reserve(self.rng.randrange(4096, 10_000)))

    def nest(self):
        slots = [self.reserve(self.rng.randrange(300)) for _ in range(self.rng.randrange(2, 7))]
        for slot in self.rng.sample(slots, len(slots)):
            self.end(slot)

    def wrap(self):
        slot = self.reserve(100)
        for _ in range(self.rng.randrange(30)):
            self.write()
        self.end(slot)

    def disabled(self):
        self.channel.disable()
        self.write()
        self.channel.enable()

    def read(self):
        packet = self.reader.next(0)
        if packet is not None:
            self.counts["read"] += packet.n_records
            self.counts["packets"] += 1
            packet.release()

    def snapshot(self):
        for _ in self.reader.snapshot():
            pass

    def flush(self):
        self.channel.flush(empty=self.rng.random() < 0.3)

    def clear(self):
        self.reader.clear()

    def elsewhere(self):
        in_thread(self.write)

    def check(self):
        stats, counts = self.channel.stats(), self.counts
        parts = [stream.stats() for stream in self.channel.streams]
        for name in NAMES:
            if name != "records_lost_disabled":  # counted for the channel alone
                assert sum(getattr(part, name) for part in parts) == getattr(stats, name), name
        lost = [counts[cause] for cause in CAUSES.values()]
        assert_exact(stats, attempts=counts["written"] + counts["discarded"] + sum(lost))
        assert (stats.records_written, stats.records_discarded) == (counts["written"], counts["discarded"])
        assert stats.records_lost_full + stats.records_lost_wrap == counts["full"]
        assert [stats.records_lost_big, stats.records_lost_nesting, stats.records_lost_disabled] == lost[1:]
        assert (stats.records_lost_slots, stats.records_torn) == (0, 0)
        assert stats.records_read == counts["read"]
        assert stats.packets_read >= counts["packets"]
        assert stats.records_overrun >= stats.records_cleared
        if self.channel.mode == "discard":
            assert stats.records_overrun == stats.records_cleared
        return stats


@pytest.mark.parametrize("streams", ["global", "per-cpu"])
@pytest.mark.parametrize("mode", ["discard", "overwrite"])
def test_every_counter_is_exact_whatever_happens(mode, streams, rng):
    start = rng.choice([0, (1 << 48) - (1 << 16), (1 << 32) - (1 << 14)])  # where counters wrap
    with small(mode=mode, streams=streams, n_streams=2, start_position=start) as channel:
        driver = Driver(channel, rng)
        actions = [driver.write] * 20 + [driver.read] * 4 + [
            driver.write_too_much, driver.nest, driver.wrap, driver.disabled, driver.snapshot, driver.flush,
            driver.elsewhere,
        ]  # fmt: skip
        for _ in range(1500):
            rng.choice(actions)()
            driver.check()
            if rng.random() < 0.005:
                driver.clear()
                driver.check()
        before = driver.check()
        channel.finalize()
        left = 0
        for packet in driver.reader:
            left += packet.n_records
        driver.reader.close()
        after = channel.stats()
        assert left == before.records_unread
        assert (after.records_unread, after.records_read) == (0, before.records_read + left)
        assert_exact(after, attempts=before.attempts)


def test_counters_are_those_of_all_processes_and_outlive_them():
    with small(n_producers=64) as channel:

        def child(n):
            for _ in range(n):
                channel.write(b"x")
            channel.write(bytes(5000))
            channel.reserve(1).discard()
            channel.disable()
            channel.write(b"x")
            channel.enable()
            os._exit(0)  # without a goodbye

        for n in (1, 2, 3):
            assert exit_code(fork(child, n)) == 0
        stats = channel.stats()
        assert (stats.records_written, stats.records_lost_big, stats.records_discarded) == (6, 3, 3)
        assert stats.records_lost_disabled == 3
        assert_exact(stats, attempts=15)
        with ringbuf.attach(channel) as other:
            assert other.stats() == stats
