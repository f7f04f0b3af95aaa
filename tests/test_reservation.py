"""Reservation: fill a record's space, then commit or discard it."""

import gc
import os
import signal
import threading

import judge
import pytest
import rings
from rings import assert_exact, fill, in_fork, in_thread, payloads, small

import ringbuf
from ringbuf.live.merge import packet_decoder


def test_a_reservation_is_recorded_when_its_block_ends():
    with small() as channel:
        with channel.reserve(5) as slot:
            assert (slot.payload.nbytes, slot.payload.format, slot.payload.readonly) == (5, "B", False)
            slot.payload[:] = b"hello"
            assert slot.stream == 0
            assert slot.timestamp <= channel.current_timestamp()
            assert channel.stats().records_written == 0
        assert channel.stats().records_written == 1
        assert payloads(channel) == [b"hello"]


def test_a_reservation_is_discarded_when_its_block_raises():
    with small() as channel:
        with pytest.raises(KeyError), channel.reserve(5) as slot:
            slot.payload[:] = b"hello"
            raise KeyError
        assert channel.stats().records_discarded == 1
        assert_exact(channel.stats(), attempts=1)
        assert payloads(channel) == []


def test_a_record_has_the_time_of_its_reservation():
    with small() as channel:
        with channel.reserve(1) as slot:
            timestamp = slot.timestamp
            later = channel.current_timestamp()
            slot.payload[0] = 1
        (record,) = rings.records(channel)
        assert record.timestamp == timestamp <= later


def test_the_block_may_commit_or_discard_by_itself():
    with small() as channel:
        with channel.reserve(1) as slot:
            slot.payload[:] = b"a"
            slot.commit()
        with channel.reserve(1) as slot:
            slot.discard()
        with pytest.raises(KeyError), channel.reserve(1) as slot:
            slot.payload[:] = b"b"
            slot.commit()
            raise KeyError
        assert channel.stats().records_discarded == 1
        assert payloads(channel) == [b"a", b"b"]


@pytest.mark.parametrize("first", ["commit", "discard"])
def test_an_ended_reservation_refuses_use(first):
    with small() as channel:
        slot = channel.reserve(1)
        getattr(slot, first)()
        for use in (slot.commit, slot.discard, slot.__enter__, lambda: slot.payload):
            with pytest.raises(ValueError, match="committed or discarded"):
                use()
        assert_exact(channel.stats(), attempts=1)


def test_the_payload_is_of_no_use_after_the_end():
    with small() as channel:
        slot = channel.reserve(4)
        view = slot.payload
        slot.commit()
        with pytest.raises(ValueError):
            view[0] = 1


def test_a_slice_that_outlives_its_record_cannot_crash():
    with small() as channel:
        slot = channel.reserve(4)
        part = slot.payload[1:3]
        slot.commit()
        part[:] = b"ok"
    del channel, slot
    gc.collect()
    part[:] = b"OK"
    assert bytes(part) == b"OK"


def test_a_reservation_of_nothing_is_an_empty_record():
    with small() as channel:
        with channel.reserve(0) as slot:
            assert slot.payload.nbytes == 0
        channel.reserve(0).commit()
        assert payloads(channel) == [b"", b""]


@pytest.mark.parametrize("nbytes", [-1, 3.0, "4", None, b"x"])
def test_an_impossible_size_is_refused(nbytes):
    with small() as channel:
        for reserve in (channel.reserve, channel.try_reserve):
            with pytest.raises((TypeError, ValueError)):
                reserve(nbytes)
        assert channel.stats() == ringbuf.Stats()


@pytest.mark.parametrize(
    "nbytes", [4096 - 80, 4096, 1 << 31, 1 << 32, (1 << 32) + 1, 1 << 63, (1 << 64) - 1, 1 << 64, 1 << 100]
)
def test_a_reservation_too_large_is_counted_and_said(nbytes):
    with small() as channel:
        with pytest.raises(ringbuf.RecordTooLargeError, match=str(nbytes)):
            channel.reserve(nbytes)
        assert channel.try_reserve(nbytes) is None
        assert channel.stats().records_lost_big == 2
        assert channel.write(b"it works on")


def test_every_refusal_has_its_exception_and_its_counter():
    with small() as channel:
        fill(channel)
        with pytest.raises(ringbuf.BufferFullError, match="reader"):
            channel.reserve(1000)
        assert channel.try_reserve(1000) is None
        assert channel.stats().records_lost_full == 3
        channel.disable()
        with pytest.raises(ringbuf.ChannelDisabledError):
            channel.reserve(1)
        assert channel.try_reserve(1) is None
        assert channel.stats().records_lost_disabled == 2
    for error in (
        ringbuf.BufferFullError, ringbuf.RecordTooLargeError, ringbuf.ChannelDisabledError, ringbuf.NestingError,
        ringbuf.TooManyProducersError, ringbuf.ReaderBusyError, ringbuf.EndOfStream, ringbuf.RegionError,
    ):  # fmt: skip
        assert issubclass(error, ringbuf.RingbufError)


# ---- nesting ----


def test_four_records_can_be_open_in_a_thread_and_a_fifth_is_counted():
    with small() as channel:
        slots = [channel.reserve(1) for _ in range(4)]
        with pytest.raises(ringbuf.NestingError):
            channel.reserve(1)
        assert channel.try_reserve(1) is None
        assert channel.write(b"x") is False
        assert in_thread(channel.write, b"of another thread")
        for refused in (channel.flush, channel.finalize):
            with pytest.raises(ringbuf.NestingError):
                refused()
        for i, slot in enumerate(slots):
            slot.payload[:] = b"%d" % i
            slot.commit()
        assert channel.stats().records_lost_nesting == 3
        assert_exact(channel.stats(), attempts=8)
        assert payloads(channel) == [b"0", b"1", b"2", b"3", b"of another thread"]


def test_records_are_in_order_of_reservation_whatever_the_order_of_commits(rng):
    with small(n_subbufs=64) as channel:
        for first in range(0, 400, 4):
            slots = [(i, channel.reserve(3)) for i in range(first, first + 4)]
            rng.shuffle(slots)
            for i, slot in slots:
                slot.payload[:] = b"%03d" % i
                slot.commit()
        assert payloads(channel) == [b"%03d" % i for i in range(400)]


def test_a_signal_handler_records_over_an_open_record():
    with small() as channel:

        def handle(*_):
            channel.write(b"handler")

        before = signal.signal(signal.SIGUSR1, handle)
        try:
            with channel.reserve(5) as slot:
                signal.raise_signal(signal.SIGUSR1)
                slot.payload[:] = b"outer"
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert payloads(channel) == [b"outer", b"handler"]


# ---- taking back ----


def test_discarding_the_last_reservation_leaves_no_trace_of_it():
    with small() as channel, channel.reader() as reader:
        channel.write(b"a")
        channel.reserve(2000).discard()
        channel.write(b"b")
        channel.flush()
        with reader.next(0) as packet:
            assert (packet.n_records, packet.content_size < 200) == (2, True)


@pytest.mark.parametrize("header", ["compact", "large"])
@pytest.mark.parametrize("size", [0, 1, 3, 100])
def test_a_reservation_discarded_in_the_middle_is_never_seen(header, size, tmp_path):
    with rings.tracer(client=ringbuf.CtfClient(header), clock="monotonic") as tracer:
        event = tracer.event("event", i="u32")
        channel = tracer.channel
        for i in range(0, 50, 2):
            event(i)
            slots = [channel.reserve(size) for _ in range(3)]
            event(i + 1)
            for slot in slots:
                slot.discard()
        assert channel.stats().records_discarded == 75
        assert_exact(channel.stats(), attempts=125)
        tracer.snapshot(tmp_path / "trace")
        judged = judge.read(tmp_path / "trace")
        assert [one["fields"]["i"] for one in judged.events] == list(range(50))
        assert judged.discarded_events == []
        assert [record.fields["i"] for record in rings.records(channel)] == list(range(50))


def test_a_packet_of_nothing_but_discarded_records_can_be_read(tmp_path):
    with rings.tracer() as tracer:
        channel = tracer.channel
        tracer.event("event", i="u32")(1)
        channel.flush()
        slots = [channel.reserve(10) for _ in range(3)]
        for slot in slots:
            slot.discard()
        channel.flush()
        tracer.event("event", i="u32")(2)
        tracer.snapshot(tmp_path / "trace")
        assert [event["fields"]["i"] for event in judge.events(tmp_path / "trace")] == [1, 2]


def test_a_forgotten_reservation_is_discarded():
    with small() as channel:
        channel.write(b"a")
        slot = channel.reserve(10)
        del slot
        channel.write(b"b")
        assert channel.stats().records_discarded == 1
        assert_exact(channel.stats(), attempts=3)
        assert payloads(channel) == [b"a", b"b"]


def test_a_reservation_in_a_reference_cycle_is_discarded_by_the_collector():
    class Owner(ringbuf.Client):
        pass

    owner = Owner()
    channel = small(client=owner)
    path = f"/proc/self/fd/{channel.fileno()}"
    other = ringbuf.attach(channel.fileno())
    owner.slot, owner.channel = channel.reserve(10), channel
    del owner, channel
    gc.collect()
    assert not os.path.exists(path) or os.readlink(path) != os.readlink(f"/proc/self/fd/{other.fileno()}")
    assert other.stats().records_discarded == 1
    assert_exact(other.stats(), attempts=1)


# ---- whose it is ----


def test_a_reservation_belongs_to_its_thread():
    with small() as channel:
        slot = channel.reserve(1)
        for use in (slot.commit, slot.discard):
            with pytest.raises(RuntimeError, match="another thread"):
                in_thread(use)
        slot.payload[:] = b"x"
        slot.commit()
        assert payloads(channel) == [b"x"]


def test_the_reservation_of_a_thread_that_is_gone_is_nobodys():
    # Thread numbers are used again: the next thread may well have the number of the last.
    with small(subbuf_size=1 << 16) as channel:
        for _ in range(20):
            slot = in_thread(channel.reserve, 8)
            for use in (slot.commit, slot.discard):
                with pytest.raises(RuntimeError, match="another thread"):
                    in_thread(use)
        assert channel.stats().records_written == channel.stats().records_discarded == 0


def test_a_reservation_belongs_to_its_process():
    with small() as channel:
        slot = channel.reserve(6)

        def child():
            for use in (slot.commit, slot.discard):
                with pytest.raises(RuntimeError, match="forked"):
                    use()
            assert channel.write(b"child")

        in_fork(child)
        slot.payload[:] = b"parent"
        slot.commit()
        assert payloads(channel) == [b"parent", b"child"]
        assert_exact(channel.stats(), attempts=2)


def test_a_block_that_a_fork_happens_in_is_the_parents():
    with small() as channel:
        with channel.reserve(6) as slot:
            slot.payload[:] = b"parent"
            pid = os.fork()
            if not pid:
                os._exit(0 if channel.write(b"child") else 1)  # and never commits
        assert rings.exit_code(pid) == 0
        assert payloads(channel) == [b"parent", b"child"]


def test_closing_the_channel_leaves_an_open_reservation_alone():
    channel = small()
    other = ringbuf.attach(channel.fileno())
    slot = channel.reserve(4)
    channel.close()
    slot.payload[:] = b"late"
    slot.commit()
    assert payloads(other) == [b"late"]


# ---- others go on ----


def test_an_open_reservation_holds_its_packet_back_and_nothing_else():
    with small() as channel, channel.reader() as reader:
        with channel.reserve(4) as slot:
            slot.payload[:] = b"open"
            for _ in range(8):
                in_thread(channel.write, b"x" * 1000)
            channel.flush()
            assert reader.next(timeout=0.2) is None  # in time, too
        assert [packet.sequence_number for packet in iter(lambda: reader.next(0), None)] == [0, 1, 2]
        assert_exact(channel.stats(), attempts=9)


@pytest.mark.parametrize("mode", ["discard", "overwrite"])
def test_records_that_come_round_to_an_open_one_are_lost_and_counted(mode):
    with small(mode=mode, n_spares=0) as channel:
        attempts = 1
        with channel.reserve(4) as slot:
            slot.payload[:] = b"open"
            while channel.write(b"x" * 1000):
                attempts += 1
            attempts += 1
            with pytest.raises(ringbuf.BufferFullError, match="still being written"):
                channel.reserve(1000)
            attempts += 1
        stats = channel.stats()
        assert (stats.records_lost_wrap, stats.records_lost_full) == (2, 0)
        assert_exact(stats, attempts=attempts)
        found = payloads(channel)
        assert found[0] == b"open" and len(found) == attempts - 2


def test_with_a_spare_nothing_is_lost_to_an_open_record():
    with small(mode="overwrite", n_spares=1) as channel:
        with channel.reserve(4) as slot:
            assert all([channel.write(b"x" * 1000) for _ in range(100)])
            assert (channel.stats().packets_parked, channel.stats().parked_now) == (1, 1)
            slot.payload[:] = b"open"
        assert channel.stats().parked_now == 0
        assert_exact(channel.stats(), attempts=101)
        assert b"open" not in payloads(channel)


def test_a_wrap_loss_heals_when_the_open_record_is_committed():
    with small(mode="overwrite", n_spares=0) as channel:
        slot = channel.reserve(4)
        attempts = 1
        while channel.write(b"x" * 1000):
            attempts += 1
        slot.discard()
        assert all([channel.write(b"y" * 1000) for _ in range(100)])
        assert channel.stats().records_lost_wrap == 1
        assert_exact(channel.stats(), attempts=attempts + 101)


def test_many_threads_with_delayed_commits_keep_time_within_packets(rng):
    """Records reserved late may be committed before earlier ones: the packet ends with the last reservation's time."""
    with small(n_subbufs=256, clock="monotonic") as channel:
        barrier = threading.Barrier(4)

        def run(seed):
            barrier.wait()
            for i in range(100):
                slots = [channel.reserve(8) for _ in range(1 + (seed + i) % 3)]
                for slot in reversed(slots):
                    slot.commit()

        threads = [threading.Thread(target=run, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        channel.flush()
        decode = packet_decoder(channel)
        last_end = 0
        with channel.reader() as reader:
            for packet in iter(lambda: reader.next(0), None):
                times = [record.timestamp for record in decode(packet)]
                assert last_end <= packet.timestamp_begin <= times[0]
                assert times == sorted(times)
                assert times[-1] <= packet.timestamp_end
                last_end = packet.timestamp_end
