"""Producers that die over a record: Channel.repair, and who does it unasked."""

import os
import signal
import threading
import time

import judge
import pytest
import rings

READER_TIMEOUT = 20  # seconds; far more than any repair takes


def die_over_a_record(channel, payload=b"", how=signal.SIGKILL):
    """In a child: reserve, write, and die before the commit."""

    def child():
        channel.write(b"before")
        slot = channel.reserve(max(len(payload), 64))
        slot.payload[: len(payload)] = payload
        os.kill(os.getpid(), how)

    assert rings.exit_code(rings.fork(child)) == -how


def test_a_dead_producers_record_is_torn_and_nothing_else():
    with rings.small() as channel:
        channel.write(b"first")
        die_over_a_record(channel, b"half writt")
        channel.write(b"last")
        assert channel.stats().records_torn == 0
        assert channel.repair() == 1
        assert channel.stats().records_torn == 1
        rings.assert_exact(channel.stats(), attempts=4)
        assert rings.payloads(channel) == [b"first", b"before", b"last"]
        rings.assert_exact(channel.stats(), attempts=4)


def test_nothing_to_repair():
    with rings.small() as channel:
        assert channel.repair() == 0
        channel.write(b"x")
        assert channel.repair() == 0
        assert rings.payloads(channel) == [b"x"]


def test_a_living_producers_record_is_left_alone():
    with rings.small() as channel:
        slot = channel.reserve(8)
        channel.flush()
        assert channel.repair() == 0
        slot.payload[:] = b"complete"
        slot.commit()
        assert channel.stats().records_torn == 0
        assert rings.payloads(channel) == [b"complete"]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_reader_repairs_what_it_waits_for(how):
    with rings.small() as channel, channel.reader() as reader:
        die_over_a_record(channel, how=how)
        channel.write(b"after")
        channel.flush()
        packet = reader.next(timeout=READER_TIMEOUT)
        assert packet is not None
        packet.release()
        stats = channel.stats()
        assert (stats.records_read, stats.records_torn) == (2, 1)


def test_an_async_reader_repairs_what_it_waits_for():
    import asyncio

    async def read(channel):
        async for packet in channel.reader():
            return packet.sequence_number

    with rings.small() as channel:
        die_over_a_record(channel)
        channel.flush()
        assert asyncio.run(asyncio.wait_for(read(channel), READER_TIMEOUT)) == 0


def test_the_end_is_reached_past_a_dead_producer():
    with rings.small() as channel:
        die_over_a_record(channel)
        assert rings.payloads(channel) == [b"before"]


def test_a_thread_that_ends_over_a_record_tears_it():
    with rings.small() as channel:
        kept = []
        rings.in_thread(lambda: kept.append(channel.reserve(8)))
        channel.write(b"after")
        assert rings.payloads(channel) == [b"after"]
        assert channel.stats().records_torn == 1


def test_producers_of_an_overwriting_ring_repair_what_they_come_round_to():
    with rings.small(mode="overwrite") as channel:
        die_over_a_record(channel)
        for i in range(1000):
            assert channel.write(b"%1000d" % i)
        stats = channel.stats()
        assert stats.records_lost == 0
        assert stats.records_torn == 1
        rings.assert_exact(stats, attempts=1002)


@pytest.mark.parametrize("n_spares", [0, 2])
def test_a_stopped_producer_holds_up_its_own_packet_only(n_spares):
    with rings.small(mode="overwrite", n_spares=n_spares) as channel:
        ready_read, ready_write = os.pipe()

        def child():
            slot = channel.reserve(8)
            os.write(ready_write, b"x")
            os.kill(os.getpid(), signal.SIGSTOP)
            slot.payload[:] = b"resumed!"
            slot.commit()

        pid = rings.fork(child)
        os.read(ready_read, 1)
        os.waitpid(pid, os.WUNTRACED)
        written = sum(channel.write(b"%1000d" % i) for i in range(100))
        assert written == 100 if n_spares else 0 < written < 100
        assert channel.stats().records_lost_wrap == 100 - written
        assert channel.stats().parked_now == bool(n_spares)
        assert channel.stats().records_torn == 0
        os.kill(pid, signal.SIGCONT)
        assert rings.exit_code(pid) == 0
        assert all(channel.write(b"%1000d" % i) for i in range(100))
        rings.assert_exact(channel.stats(), attempts=201)


def test_a_recorder_repairs_and_babeltrace2_skips_what_was_torn(tmp_path):
    with rings.tracer() as tracer:
        tick = tracer.event("tick", n="u32", text="str")
        tick(0, "first")

        def child():
            tick(1, "in the child")
            slot = tracer.channel.reserve(100)
            slot.payload[:4] = b"torn"
            os.kill(os.getpid(), signal.SIGKILL)

        with tracer.record(tmp_path / "trace"):
            assert rings.exit_code(rings.fork(child)) == -signal.SIGKILL
            tick(2, "last")
        assert tracer.channel.stats().records_torn == 1
    trace = judge.read(tmp_path / "trace")
    assert [event["fields"]["n"] for event in trace.events] == [0, 1, 2]


def test_a_snapshot_has_what_stands_beside_a_torn_record(tmp_path):
    with rings.tracer(mode="overwrite") as tracer:
        tick = tracer.event("tick", n="u32")
        tick(0)

        def child():
            slot = tracer.channel.reserve(100)
            slot.payload[:4] = b"torn"
            os.kill(os.getpid(), signal.SIGKILL)

        assert rings.exit_code(rings.fork(child)) == -signal.SIGKILL
        tick(1)
        tracer.snapshot(tmp_path / "trace")
    assert [event["fields"]["n"] for event in judge.events(tmp_path / "trace")] == [0, 1]


def test_clear_goes_past_a_dead_producer():
    with rings.small() as channel:
        die_over_a_record(channel)
        channel.clear()
        stats = channel.stats()
        assert (stats.records_torn, stats.records_unread, stats.records_cleared) == (1, 0, 1)


def test_slots_of_the_dead_are_used_again():
    with rings.small(n_producers=2, n_subbufs=64) as channel:
        channel.write(b"x")
        for _ in range(5):
            die_over_a_record(channel)
        assert channel.repair() == 1
        assert channel.stats().records_torn == 5
        rings.assert_exact(channel.stats(), attempts=11)


def test_many_repair_at_once():
    with rings.small() as channel:
        for _ in range(3):
            die_over_a_record(channel)
            channel.flush()
        repaired = []
        threads = [threading.Thread(target=lambda: repaired.append(channel.repair())) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(repaired) == 3
        assert channel.stats().records_torn == 3


def test_a_reader_waits_no_longer_than_told_for_a_stopped_producer():
    with rings.small() as channel, channel.reader() as reader:
        slot = channel.reserve(8)
        channel.flush()
        begin = time.monotonic()
        assert reader.next(timeout=0.05) is None
        assert time.monotonic() - begin < READER_TIMEOUT
        slot.discard()
