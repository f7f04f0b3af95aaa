"""Reader and Packet: the packets of a live channel, its records in order, snapshots, take-over, waiting."""

import asyncio
import contextlib
import gc
import os
import select
import signal
import struct
import threading
import time

import numpy
import pytest
import rings
from rings import assert_exact, exit_code, fill, fork, in_fork, in_thread, run_script, small

import ringbuf
from ringbuf.live.merge import packet_decoder


def filled(n_packets, name="small", **options):
    """A channel with so many packets of one record each."""
    channel = small(name, **options)
    for i in range(n_packets):
        assert channel.write(b"%d" % i)
        channel.flush()
    return channel


def numbers(reader):
    """Sequence numbers of the packets that are there now."""
    return [packet.sequence_number for packet in iter(lambda: reader.next(0), None)]


# ---- packets ----


@pytest.mark.parametrize("streams", ["global", "per-cpu"])
def test_a_packet_is_what_its_header_says(streams):
    with small(streams=streams, n_streams=1) as channel, channel.reader() as reader:
        before = channel.current_timestamp()
        channel.write(b"payload")
        channel.write(bytes(5000))
        channel.flush()
        packet = reader.next(0)
        with memoryview(packet) as view:
            assert (view.readonly, view.nbytes, view.format) == (True, packet.packet_size, "B")
            header = struct.unpack_from("<I16sIQQQQQQQ", view)
            assert header[0] == 0xC1FC1FC1
            assert header[1] == channel.uuid.bytes
            assert header[2:4] == (packet.stream_id, packet.stream) == (0, 0)
            assert header[4:6] == (packet.timestamp_begin, packet.timestamp_end)
            assert header[6:8] == (packet.content_size * 8, packet.packet_size * 8)
            assert header[8:] == (packet.sequence_number, packet.events_discarded) == (0, 1)
            assert b"payload" in bytes(view[: packet.content_size])
        assert before <= packet.timestamp_begin <= packet.timestamp_end <= channel.current_timestamp()
        assert packet.packet_size == 4096
        assert (packet.n_records, packet.cpu) == (1, 0 if streams == "per-cpu" else None)
        assert "1 records" in repr(packet)


def test_a_packet_is_not_copied():
    with filled(1, "mapped") as channel, channel.reader() as reader, reader.next(0) as packet:
        array = numpy.frombuffer(packet, "u1")
        address = array.__array_interface__["data"][0]
        del array
        with open("/proc/self/maps") as maps:
            ranges = [line.split()[0].split("-") for line in maps if "memfd:ringbuf:mapped" in line]
        assert any(int(begin, 16) <= address < int(end, 16) for begin, end in ranges)


def test_a_packet_is_released_once_its_views_are():
    with filled(2) as channel, channel.reader() as reader:
        packet = reader.next(0)
        view = memoryview(packet)
        for refused in (packet.release, reader.close, lambda: reader.next(0)):
            with pytest.raises(BufferError):
                refused()
        assert not packet.released and not reader.closed
        view.release()
        packet.release()
        packet.release()
        assert packet.released
        with pytest.raises((ValueError, BufferError)):
            memoryview(packet)
        assert channel.stats().records_read == 1
        assert reader.next(0).sequence_number == 1


def test_the_next_packet_releases_the_last_one():
    with filled(3) as channel, channel.reader() as reader:
        first = reader.next(0)
        second = reader.next(0)
        assert (first.released, second.released) == (True, False)
        assert channel.stats().records_read == 1


def test_values_of_a_released_packet_stay():
    with filled(1) as channel, channel.reader() as reader:
        with reader.next(0) as packet:
            pass
        assert (packet.sequence_number, packet.n_records, packet.content_size > 80) == (0, 1, True)


def test_packets_follow_each_other_in_time():
    with small(n_subbufs=64) as channel, channel.reader() as reader:
        fill(channel, b"x" * 300)
        channel.flush()
        end = 0
        for packet in iter(lambda: reader.next(0), None):
            assert end <= packet.timestamp_begin <= packet.timestamp_end
            end = packet.timestamp_end


# ---- waiting ----


def test_next_gives_up_at_its_timeout():
    with small() as channel, channel.reader() as reader:
        for timeout in (0, 0.0, 0.2):
            begin = time.monotonic()
            assert reader.next(timeout=timeout) is None
            assert timeout * 0.9 <= time.monotonic() - begin < 20
            assert reader.wait(timeout=timeout) is False


@pytest.mark.parametrize("timers", [{"read_timer": 1e300}, {"switch_timer": 1e300}])
def test_an_endless_timer_is_never_due(timers):
    with small(**timers) as channel, channel.reader() as reader:
        channel.write(b"not flushed")
        begin = time.thread_time()
        assert reader.next(timeout=1) is None
        assert time.thread_time() - begin < 0.5  # it slept
        assert channel.stats().records_unread == 1


@pytest.mark.parametrize("stream", [0.0, "0", [], object()])
def test_the_index_of_a_stream_is_an_int(stream):
    with small() as channel:
        for use in (channel.reader, channel.has_reader):
            with pytest.raises(TypeError):
                use(stream)


@pytest.mark.parametrize("timeout", [-1, float("nan"), "soon"])
def test_an_impossible_timeout_is_refused(timeout):
    with small() as channel, channel.reader() as reader:
        for wait in (reader.next, reader.wait):
            with pytest.raises(ValueError):
                wait(timeout=timeout)


@pytest.mark.parametrize("wakeup", ["timer", "writer", "none"])
@pytest.mark.parametrize("timeout", [None, 60])
def test_a_waiting_reader_gets_a_packet_that_comes(wakeup, timeout):
    with small(wakeup=wakeup) as channel, channel.reader() as reader:

        def produce():
            time.sleep(0.1)
            channel.write(b"x")
            channel.flush()

        thread = threading.Thread(target=produce)
        thread.start()
        begin = time.monotonic()
        assert reader.wait(timeout=timeout) is True
        assert reader.next(timeout=timeout).n_records == 1
        assert time.monotonic() - begin < 30
        thread.join()


@pytest.mark.parametrize("wakeup", ["timer", "writer", "none"])
def test_a_waiting_reader_is_told_of_the_end(wakeup):
    with small(wakeup=wakeup) as channel, channel.reader() as reader:
        timer = threading.Timer(0.2, channel.finalize)
        timer.start()
        with pytest.raises(ringbuf.EndOfStream):
            reader.next()
        assert reader.wait() is True
        timer.join()


def test_other_threads_run_while_a_reader_waits():
    with small() as channel, channel.reader() as reader:
        progress = []

        def work():
            progress.extend(range(1000))
            channel.write(b"x")
            channel.flush()

        timer = threading.Timer(0.1, work)
        timer.start()
        assert reader.next(timeout=60).n_records == 1
        assert len(progress) == 1000
        timer.join()


def test_a_signal_handler_that_raises_ends_a_wait():
    class Stop(Exception):
        pass

    def stop(*_):
        raise Stop

    before = signal.signal(signal.SIGUSR1, stop)
    try:
        with small() as channel, channel.reader() as reader:
            for wait in (reader.next, reader.wait):
                timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1))
                timer.start()
                with pytest.raises(Stop):
                    wait()
                timer.join()
            channel.write(b"x")
            channel.flush()
            assert reader.next(0).n_records == 1
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_the_switch_timer_brings_records_to_a_waiting_reader():
    with small(switch_timer=0.05) as channel, channel.reader() as reader:
        channel.write(b"never flushed")
        assert reader.next(timeout=60).n_records == 1


def test_iteration_ends_with_the_channel():
    with filled(3) as channel, channel.reader() as reader:
        channel.write(b"open")
        channel.finalize()
        assert [packet.sequence_number for packet in reader] == [0, 1, 2, 3]
        assert list(reader) == []
        assert channel.stats().records_read == 4


# ---- one reader ----


def test_a_channel_has_one_reader_at_a_time():
    with small() as channel:
        assert not channel.has_reader()
        with channel.reader() as reader:
            assert channel.has_reader()
            for again in (channel.reader, channel.streams[0].reader, channel.clear):
                with pytest.raises(ringbuf.ReaderBusyError):
                    again()
            with pytest.raises(ringbuf.ReaderBusyError):
                in_thread(channel.reader)

            def child():
                assert channel.has_reader()
                with pytest.raises(ringbuf.ReaderBusyError):
                    channel.reader()
                with pytest.raises(ringbuf.ReaderBusyError):
                    ringbuf.attach(channel.fileno()).reader()

            in_fork(child)
        assert reader.closed and not channel.has_reader()
        channel.reader().close()


def test_each_stream_can_have_a_reader_of_its_own():
    with small(streams="per-cpu", n_streams=3) as channel:
        with channel.reader(0) as zero, channel.streams[2].reader() as two:
            assert (list(zero.stream_indices), list(two.stream_indices)) == ([0], [2])
            assert [channel.has_reader(i) for i in range(3)] == [True, False, True]
            with pytest.raises(ringbuf.ReaderBusyError):
                channel.reader()
        with channel.reader() as reader:
            assert list(reader.stream_indices) == [0, 1, 2]


@pytest.mark.parametrize("stream", [1, -1, 1 << 40])
def test_a_stream_that_is_not_there_has_no_reader(stream):
    with small() as channel, pytest.raises(IndexError):
        channel.reader(stream)


def test_a_dead_process_is_no_reader():
    with filled(2) as channel:

        def child():
            channel.reader().next(0)
            os.kill(os.getpid(), signal.SIGKILL)

        assert exit_code(fork(child)) == -signal.SIGKILL
        with channel.reader() as reader:
            assert numbers(reader) == [0, 1]


def test_a_dropped_reader_gives_up_its_right_and_what_it_held():
    with filled(2) as channel:
        reader = channel.reader()
        packet = reader.next(0)
        del reader
        with pytest.raises(ringbuf.ReaderBusyError):
            channel.reader()
        del packet
        gc.collect()
        with channel.reader() as reader:
            assert numbers(reader) == [0, 1]


def test_the_next_reader_goes_on_where_the_last_one_stopped():
    with filled(3) as channel:
        with channel.reader() as reader:
            reader.next(0)
        with channel.reader() as reader:
            reader.next(0)
            reader.next(0).release()
        with channel.reader() as reader:
            assert numbers(reader) == []
        assert channel.stats().records_read == 3


def test_a_closed_reader_refuses_use():
    with filled(1) as channel:
        reader = channel.reader()
        reader.close()
        reader.close()
        uses = (
            reader.next, reader.wait, reader.fileno, reader.snapshot, reader.clear, reader.flush,
            lambda: next(reader), lambda: list(reader.records(timeout=0)),
        )  # fmt: skip
        for use in uses:
            with pytest.raises(ValueError, match="closed"):
                use()


def test_a_packet_outlives_its_channels_close_and_the_reader_refuses_more():
    channel = filled(2)
    reader = channel.reader()
    packet = reader.next(0)
    channel.close()
    with pytest.raises(ValueError, match="closed"):
        reader.next(0)
    view = memoryview(packet)
    del reader, packet, channel
    gc.collect()
    assert bytes(view[:4]) == struct.pack("<I", 0xC1FC1FC1)


def test_a_forked_child_leaves_its_parents_reader_alone():
    with filled(3) as channel, channel.reader() as reader:
        packet = reader.next(0)

        def child():
            for use in (reader.next, reader.wait, reader.snapshot, reader.clear):
                with pytest.raises(RuntimeError, match="parent"):
                    use()
            packet.release()
            reader.close()
            assert channel.stats().records_read == 0
            assert channel.has_reader()

        in_fork(child)
        assert not packet.released
        assert channel.stats().records_read == 0
        assert numbers(reader) == [1, 2]
        assert_exact(channel.stats(), attempts=3)


# ---- take-over ----


@pytest.mark.parametrize("mode", ["discard", "overwrite"])
def test_a_packet_in_a_dead_readers_hands_is_read_again_and_counted_once(mode):
    with filled(3, mode=mode) as channel:

        def child():
            reader = channel.reader()
            reader.next(0).release()
            assert reader.next(0).sequence_number == 1
            os.kill(os.getpid(), signal.SIGKILL)

        exit_code(fork(child))
        with channel.reader() as reader:
            assert numbers(reader) == [1, 2]
        assert channel.stats().records_read == 3
        assert_exact(channel.stats(), attempts=3)


def test_a_dead_readers_packet_survives_being_lapped():
    with filled(2, mode="overwrite") as channel:

        def child():
            channel.reader().next(0)
            os.kill(os.getpid(), signal.SIGKILL)

        exit_code(fork(child))
        for _ in range(100):
            channel.write(b"x" * 1000)
        with channel.reader() as reader:
            with reader.next(0) as packet:
                assert packet.sequence_number == 0
                assert b"0" in bytes(packet)[80 : packet.content_size]
            assert reader.next(0).sequence_number > 20
        assert_exact(channel.stats(), attempts=102)


def test_a_snapshot_includes_what_a_dead_reader_held():
    with filled(3) as channel:

        def child():
            channel.reader().next(0)
            os.kill(os.getpid(), signal.SIGKILL)

        exit_code(fork(child))
        with channel.reader() as reader:
            assert [packet.sequence_number for packet in reader.snapshot()] == [0, 1, 2]
            assert numbers(reader) == [0, 1, 2]
        assert_exact(channel.stats(), attempts=3)


def test_packets_stay_in_order_after_a_snapshot_died_over_a_later_one():
    with filled(4, n_subbufs=8) as channel:

        def child():
            for packet in channel.reader().snapshot():
                if packet.sequence_number == 2:
                    os.kill(os.getpid(), signal.SIGKILL)

        assert exit_code(fork(child)) == -signal.SIGKILL
        with channel.reader() as reader:
            assert numbers(reader) == [0, 1, 2, 3]
        assert_exact(channel.stats(), attempts=4)


def test_readers_killed_at_random_lose_nothing(rng):
    """Discard mode: every packet is read at least once, and a repetition has the number of its first time."""
    total = 120
    with small(n_subbufs=8, blocking_timeout=None) as channel:
        out, into = os.pipe()

        def produce():
            for i in range(total):
                assert channel.write(b"%d" % i)
                channel.flush()
            channel.finalize()

        def consume():
            with channel.reader() as reader:
                for packet in reader:
                    os.write(into, b"%d\n" % packet.sequence_number)

        producer = fork(produce)
        kills = 0
        while True:
            consumer = fork(consume)
            time.sleep(rng.random() * 0.02)
            with contextlib.suppress(ProcessLookupError):
                os.kill(consumer, signal.SIGKILL if kills < 30 else 0)
            kills += 1
            if exit_code(consumer) == 0:
                break
        assert exit_code(producer) == 0
        os.close(into)
        with os.fdopen(out) as file:
            seen = [int(line) for line in file]
        assert sorted(set(seen)) == list(range(total))
        assert all(later >= earlier for earlier, later in zip(seen, seen[1:], strict=False))
        stats = channel.stats()
        assert stats.records_read == stats.records_written == total
        assert_exact(stats, attempts=total)


# ---- records ----


def test_records_carry_values_contexts_and_times():
    with rings.tracer(contexts=("vpid", ("who", "str", lambda: "me"))) as tracer:
        event = tracer.event("order", id="u64", path="str", ms="f64")
        event(7, "/pay", 0.5)
        tracer.channel.write(b"raw")
        first, second = rings.records(tracer.channel)
        assert (first.name, first.fields, first.cpu) == ("order", {"id": 7, "path": "/pay", "ms": 0.5}, None)
        assert first.contexts == {"vpid": os.getpid(), "who": "me"}
        assert (second.name, second.payload, second.fields) == ("payload", b"raw", {"payload": b"raw"})
        assert first.timestamp <= second.timestamp


def test_records_outlive_packet_reader_and_channel():
    with rings.tracer() as tracer:
        tracer.event("blob", data="bytes", text="str")(b"\x01" * 100, "x" * 100)
        found = rings.records(tracer.channel)
    del tracer
    gc.collect()
    assert found[0].fields == {"data": b"\x01" * 100, "text": "x" * 100}


def test_records_of_all_cpus_come_in_order_of_time():
    cpus = sorted(os.sched_getaffinity(0))
    with rings.tracer(streams="per-cpu", subbuf_size=4096, n_subbufs=64, clock="monotonic") as tracer:
        event = tracer.event("event", i="u32")
        try:
            for i in range(600):
                os.sched_setaffinity(0, {cpus[i % len(cpus)]})
                event(i)
        finally:
            os.sched_setaffinity(0, cpus)
        found = rings.records(tracer.channel)
        assert [record.fields["i"] for record in found] == list(range(600))
        assert {record.cpu for record in found} == set(cpus)


def test_records_come_while_the_channel_is_in_use():
    with small(streams="per-cpu") as channel, channel.reader() as reader:
        total, seen = 2000, []

        def produce():
            for i in range(total):
                while not channel.write(b"%d" % i):
                    time.sleep(0.001)
            channel.finalize()

        thread = threading.Thread(target=produce)
        thread.start()
        times = []
        for record in reader.records():
            seen.append(int(record.payload))
            times.append(record.timestamp)
        thread.join()
        assert seen == list(range(total))
        assert times == sorted(times)


def test_records_stop_after_a_quiet_time():
    with small() as channel, channel.reader() as reader:
        channel.write(b"one")
        begin = time.monotonic()
        assert [record.payload for record in reader.records(timeout=0.3)] == [b"one"]
        assert 0.25 < time.monotonic() - begin < 30
        channel.write(b"two")
        assert [record.payload for record in reader.records(timeout=0)] == [b"two"]


def test_events_declared_while_reading_are_understood():
    with rings.tracer() as tracer, tracer.channel.reader() as reader:
        for i in range(40):
            tracer.event(f"event{i}", **{f"field{i}": "u16"})(i)
            (record,) = reader.records(timeout=0)
            assert (record.name, record.fields) == (f"event{i}", {f"field{i}": i})


def test_a_reader_of_one_stream_gives_the_records_of_that_stream():
    cpus = sorted(os.sched_getaffinity(0))
    with small(streams="per-cpu") as channel:
        try:
            for cpu in cpus:
                os.sched_setaffinity(0, {cpu})
                channel.write(b"%d" % cpu)
        finally:
            os.sched_setaffinity(0, cpus)
        channel.finalize()
        for cpu in cpus:
            with channel.reader(cpu) as reader:
                assert [(record.cpu, record.payload) for record in reader.records()] == [(cpu, b"%d" % cpu)]


# ---- snapshots ----


def test_a_snapshot_takes_nothing():
    with filled(3) as channel, channel.reader() as reader:
        channel.write(b"open")
        for _ in range(2):
            assert [packet.sequence_number for packet in reader.snapshot()] == [0, 1, 2, 3]
        assert channel.stats().records_read == 0
        assert numbers(reader) == [0, 1, 2, 3]
        assert_exact(channel.stats(), attempts=4)


def test_a_snapshot_can_be_given_up():
    with filled(3) as channel, channel.reader() as reader:
        snapshot = reader.snapshot()
        next(snapshot)
        assert numbers(reader) == [0, 1, 2]
        assert list(snapshot) == []


def test_a_packet_overwritten_in_a_snapshots_hands_stays_intact():
    with filled(2, mode="overwrite") as channel, channel.reader() as reader:
        attempts = 2
        found = []
        for packet in reader.snapshot():
            before = bytes(packet)
            for _ in range(100):
                attempts += 1
                assert channel.write(b"y" * 1000)
            found.append(packet.sequence_number)
            assert bytes(packet) == before
        assert found == [0]  # the other one was overwritten before its turn
        assert_exact(channel.stats(), attempts=attempts)


def test_a_reader_never_sees_bytes_being_overwritten():
    with small(mode="overwrite", n_subbufs=2) as channel, channel.reader() as reader:
        stop = threading.Event()

        def produce(byte):
            while not stop.is_set():
                for _ in range(50):
                    channel.write(byte * 200)

        threads = [threading.Thread(target=produce, args=(byte,)) for byte in (b"a", b"b")]
        for thread in threads:
            thread.start()
        decode = packet_decoder(channel)
        for _ in range(300):
            packet = reader.next(60)
            records = decode(packet)
            time.sleep(0.001)
            assert [record.payload for record in decode(packet)] == [record.payload for record in records]
            assert all(record.payload in (b"a" * 200, b"b" * 200) for record in records)
            assert len(records) == packet.n_records
        stop.set()
        for thread in threads:
            thread.join()
        list(iter(lambda: reader.next(0), None))
        assert_exact(channel.stats())


def test_the_reader_can_clear():
    with filled(3) as channel, channel.reader() as reader:
        reader.next(0)
        reader.clear()
        assert numbers(reader) == []
        stats = channel.stats()
        assert (stats.records_read, stats.records_cleared) == (1, 2)
        assert_exact(stats, attempts=3)


def test_the_reader_can_flush():
    with small() as channel, channel.reader() as reader:
        channel.write(b"x")
        reader.flush()
        reader.flush(empty=True)
        assert [reader.next(0).n_records for _ in range(2)] == [1, 0]


# ---- event loops ----


def test_async_for_gives_packets_to_the_end():
    async def main():
        with small() as channel, channel.reader() as reader:

            async def produce():
                for i in range(20):
                    while not channel.write(b"%d" % i):  # full, where the reader waits for a processor
                        await asyncio.sleep(0.005)
                    channel.flush()
                    await asyncio.sleep(0.005)
                channel.finalize()

            task = asyncio.create_task(produce())
            found = [packet.sequence_number async for packet in reader]
            await task
            return found

    assert asyncio.run(asyncio.wait_for(main(), 60)) == list(range(20))


def test_async_waiting_can_be_cancelled_and_begun_again():
    async def main():
        with small() as channel, channel.reader() as reader:
            for _ in range(3):
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(reader.__anext__(), 0.1)
            channel.write(b"x")
            channel.flush()
            packet = await asyncio.wait_for(reader.__anext__(), 60)
            return packet.n_records

    assert asyncio.run(main()) == 1


def test_many_async_readers_share_a_loop():
    async def read(channel):
        with channel.reader() as reader:
            return [packet.sequence_number async for packet in reader]

    async def main():
        channels = [small() for _ in range(5)]
        readers = [asyncio.create_task(read(channel)) for channel in channels]
        for _ in range(3):
            await asyncio.sleep(0.02)
            for channel in channels:
                channel.write(b"x")
                channel.flush()
        for channel in channels:
            channel.finalize()
        return await asyncio.gather(*readers)

    assert asyncio.run(asyncio.wait_for(main(), 60)) == [[0, 1, 2]] * 5


def test_the_descriptor_is_readable_while_a_packet_waits():
    with small() as channel, channel.reader() as reader:
        fd = reader.fileno()
        assert reader.fileno() == fd
        assert select.select([fd], [], [], 0.1)[0] == []
        channel.write(b"x")
        channel.flush()
        assert select.select([fd], [], [], 30)[0] == [fd]
        assert reader.next(0).n_records == 1


def test_the_descriptor_is_readable_at_the_end():
    with small() as channel, channel.reader() as reader:
        fd = reader.fileno()
        channel.finalize()
        assert select.select([fd], [], [], 30)[0] == [fd]
        with pytest.raises(ringbuf.EndOfStream):
            reader.next(0)


def test_a_descriptor_that_somebody_reads_becomes_readable_again():
    with small() as channel, channel.reader() as reader:
        fd = reader.fileno()
        for _ in range(2):
            channel.write(b"x")
            channel.flush()
            assert select.select([fd], [], [], 30)[0] == [fd]
            os.eventfd_read(fd)
            assert reader.next(0).n_records == 1


def test_the_descriptor_and_its_thread_go_with_the_reader():
    def count():
        return threading.active_count(), len(os.listdir("/proc/self/fd"))

    with small() as channel:
        channel.write(b"x")  # registers
        before = count()
        for close in (True, False):
            reader = channel.reader()
            reader.fileno()
            if close:
                reader.close()
            del reader
            rings.eventually(lambda: count() == before)
        channel.reader().close()


def test_a_forked_child_can_close_a_reader_with_a_descriptor():
    with small() as channel, channel.reader() as reader:
        fd = reader.fileno()
        in_fork(reader.close)
        channel.write(b"x")
        channel.flush()
        assert select.select([fd], [], [], 30)[0] == [fd]


# ---- a file that is cut short ----


def test_a_file_truncated_under_its_reader_is_an_error_and_no_crash(tmp_path):
    with filled(2, path=tmp_path / "ring") as channel:
        channel.write(b"x")
    run_script(
        """
import os, sys, ringbuf
channel = ringbuf.attach(sys.argv[1])
reader = channel.reader()
packet = reader.next(0)
os.truncate(sys.argv[1], 4096)
for use in (reader.next, reader.wait, reader.snapshot, reader.clear, reader.flush, lambda: next(reader),
    channel.reader):
    try:
        use()
    except ringbuf.RegionError as error:
        assert "truncated" in str(error), error
    else:
        raise AssertionError(use)
packet.release()
reader.close()
channel.close()
try:
    ringbuf.attach(sys.argv[1])
except ringbuf.RegionError as error:
    assert "truncated" in str(error), error
""",
        tmp_path / "ring",
    )
