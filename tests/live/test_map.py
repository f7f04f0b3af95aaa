"""mapping.py and mapping.pxi: channel.map() in Python. What get_reader decides is tested in tests/c/test_map.c."""

import asyncio
import gc
import os
import signal
import struct
import threading
import time

import numpy
import pytest
import rings

import ringbuf


def channel(**options):
    return rings.small(**{"mode": "overwrite", **options})


def test_the_page_shows_what_was_handed_out():
    with channel() as ch, ch.map() as m:
        assert m.get_reader() == 0
        assert (m.meta.entries, m.meta.read, m.meta.reader.read) == (0, 0, 0)
        for _ in range(16):
            ch.write(b"sixteen bytes...")
        assert m.meta.entries == 0  # as of the last call
        assert m.get_reader() == 1
        meta = m.meta
        assert (meta.entries, meta.overrun, meta.read, meta.reader.id) == (16, 0, 16, 1)
        assert (meta.meta_page_size, meta.meta_struct_len, meta.subbuf_size) == (4096, 104, 4096)
        assert meta.nr_subbufs == ch.n_subbufs + 1 + ch.n_spares
        assert (meta.flags, meta.pages_lost, meta.pages_touched) == (0, 0, 1)
        assert (meta.dropped, meta.discarded, meta.torn) == (0, 0, 0)
        assert len(m.reader_data) == meta.reader.read == len(m.new_data)
        assert bytes(m.reader_data).count(b"sixteen bytes...") == 16
        assert "entries=16" in repr(meta) and "read=" in repr(meta.reader)
        with pytest.raises(AttributeError):
            _ = meta.pages


def test_new_data_is_what_the_last_call_added():
    with channel() as ch, ch.map() as m:
        ch.write(b"first")
        m.get_reader()
        assert bytes(m.new_data).endswith(b"first")
        ch.write(b"second")
        m.get_reader()
        assert bytes(m.new_data).endswith(b"second") and b"first" not in bytes(m.new_data)
        assert b"first" in bytes(m.reader_data)
        m.get_reader()
        assert bytes(m.new_data) == b""


def test_views_are_of_the_shared_memory_and_read_only():
    with channel() as ch, ch.map() as m:
        ch.write(struct.pack("<4Q", 1, 2, 3, 4), align=8)
        number = m.get_reader()
        assert m.reader_data.readonly and m.subbuf(number).readonly
        values = numpy.frombuffer(m.reader_data[-32:], "<u8")
        assert values.tolist() == [1, 2, 3, 4] and not values.flags.owndata and not values.flags.writeable
        with pytest.raises(TypeError):
            m.reader_data[0] = 1
        assert len(m.subbuf(number)) == 4096
        with pytest.raises(IndexError):
            m.subbuf(m.meta.nr_subbufs)


def test_views_outlive_the_mapping_and_the_channel():
    ch = channel()
    m = ch.map()
    ch.write(b"lasting")
    m.get_reader()
    view = m.reader_data
    m.close()
    ch.close()
    del ch, m
    gc.collect()
    assert bytes(view).endswith(b"lasting")


def mapped_memory():
    with open("/proc/self/maps") as maps:
        return sum(1 for line in maps if "ringbuf:" in line)


def test_closing_gives_everything_back():
    before = mapped_memory(), len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with channel() as ch, ch.map() as m:
            ch.write(b"x")
            m.get_reader()
            m.close()
        m.close()
    assert (mapped_memory(), len(os.listdir("/proc/self/fd"))) == before
    for use in (lambda: m.meta, m.get_reader, m.wait, m.flush, m.clear, m.wake, m.fileno, lambda: next(m.records())):
        with pytest.raises(ValueError):
            use()
    assert m.closed and "closed" in repr(m)


def test_a_mapping_that_is_forgotten_is_closed():
    with channel() as ch:
        ch.map().get_reader()
        gc.collect()
        ch.reader().close()


def test_streams_are_mapped_by_cpu():
    with ringbuf.Channel("cpus", subbuf_size=4096, n_subbufs=2) as ch:
        ch.write(b"somewhere")
        cpu = next(s.cpu for s in ch.streams if s.stats().records_unread)
        with ch.map(cpu=cpu) as m:
            m.get_reader()
            assert m.cpu == cpu and m.meta.entries == 1
            with pytest.raises(ringbuf.ReaderBusyError):
                ch.reader(cpu)
        with pytest.raises(IndexError):
            ch.map(cpu=len(ch.streams))
    with channel() as ch, ch.map() as m:
        assert m.cpu is None


@pytest.mark.parametrize("mode", ["discard", "overwrite"])
@pytest.mark.parametrize("header", ["compact", "large"])
def test_records_come_as_from_a_reader(mode, header):
    options = {"mode": mode, "client": ringbuf.CtfClient(header=header), "subbuf_size": 16384}
    with rings.tracer(**options) as one, rings.tracer(**options) as two:
        for tracer in (one, two):
            event = tracer.event("step", n="u64", text="str")
            for n in range(300):
                event(n, "x" * (n % 50))
        expected = [(r.name, r.fields) for r in rings.records(two.channel)]
        one.channel.finalize()
        with one.channel.map() as m:
            found = [(r.name, r.fields) for r in m.records()]
        assert found == expected and len(found) == 300


def test_records_come_while_their_sub_buffer_is_written():
    with rings.tracer(subbuf_size=4096) as tracer, tracer.channel.map() as m:
        event = tracer.event("step", n="u64")
        records = m.records(timeout=10)
        for n in range(400):
            event(n)
            record = next(records)
            assert record.fields == {"n": n}
        assert m.meta.pages_touched == 2  # nothing was flushed
        assert list(m.records(timeout=0)) == []


def test_records_behind_a_discarded_one_come_after_a_flush():
    with channel() as ch, ch.map() as m:
        ch.write(b"before")
        slot = ch.reserve(10)
        ch.write(b"after")
        slot.discard()
        assert [r.payload for r in m.records(timeout=0.1)] == [b"before", b"after"]


def test_records_of_a_client_of_its_own():
    class Plain(ringbuf.Client):
        def record_header_size(self, offset, event_id, flags):
            return 8, -offset % 8

        def write_record_header(self, buffer, event_id, timestamp, flags):
            buffer[:] = timestamp.to_bytes(8, "little")

        def record_get(self, packet, offset):
            begin = offset + -offset % 8
            return begin + 8 - offset, 8, int.from_bytes(packet[begin : begin + 8], "little")

    with channel(client=Plain()) as ch, ch.map() as m:
        records = m.records(timeout=10)
        for n in range(5):
            ch.write(b"%08d" % n)
            assert next(records).payload == b"%08d" % n


def test_losses_are_told_with_the_sub_buffer_that_follows_them():
    with channel() as ch, ch.map() as m:
        told = 0
        for n in range(400):
            ch.write(bytes(500))
            if n % 97 == 0:
                m.get_reader()
                told += m.meta.reader.lost_events if len(m.new_data) == len(m.reader_data) else 0
        assert told == m.meta.overrun > 0
        assert m.meta.entries == ch.stats().records_written - 400 + n + 1 - (n % 97)


def test_drops_show_in_the_page():
    with channel(mode="discard") as ch, ch.map() as m:
        written = rings.fill(ch)
        m.get_reader()
        assert (m.meta.entries, m.meta.dropped, m.meta.overrun) == (written, 1, 0)


# ---- waiting ----


def test_waiting_ends_in_time():
    with channel() as ch, ch.map() as m:
        began = time.monotonic()
        assert not m.wait(0.05)
        assert m.get_reader(block=True, timeout=0.05) == 0
        assert time.monotonic() - began >= 0.1
        ch.write(b"x")
        assert m.wait(0) and not m.wait(0, percent=50)
        assert m.get_reader(block=True) == 1
        with pytest.raises(ValueError):
            m.wait(0, percent=101)
        with pytest.raises(ValueError):
            m.wait(-1)


def test_a_record_ends_a_wait():
    with channel() as ch, ch.map() as m:
        thread = threading.Timer(0.05, ch.write, (b"x",))
        thread.start()
        assert m.get_reader(block=True, timeout=60) == 1
        thread.join()


@pytest.mark.parametrize("end", ["wake", "finalize"])
def test_a_wait_for_ever_ends_when_it_is_told_to(end):
    with channel() as ch, ch.map() as m:
        thread = threading.Timer(0.05, m.wake if end == "wake" else ch.finalize)
        thread.start()
        assert m.get_reader(block=True) == 0
        thread.join()


def test_a_signal_handler_runs_during_a_wait():
    def handler(*_):
        raise KeyboardInterrupt

    with channel() as ch, ch.map() as m:
        before = signal.signal(signal.SIGUSR1, handler)
        thread = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
        thread.start()
        try:
            with pytest.raises(KeyboardInterrupt):
                m.wait()
        finally:
            thread.join()
            signal.signal(signal.SIGUSR1, before)


def test_an_event_loop_is_told():
    async def main(ch, m):
        found = []
        asyncio.get_running_loop().call_later(0.05, ch.write, b"late")
        while not found:
            await asyncio.wait_for(m.next_reader(), 60)
            found.append(bytes(m.new_data))
        return found

    with channel() as ch, ch.map() as m:
        assert asyncio.run(main(ch, m))[0].endswith(b"late")


# ---- others ----


def test_readers_are_kept_out_and_mappers_are_not(tmp_path):
    with channel() as ch, ch.map() as m:
        for use in (ch.reader, ch.clear, lambda: ringbuf.snapshot(ch, tmp_path / "s")):
            with pytest.raises(ringbuf.ReaderBusyError):
                use()
        with ch.map() as second:
            ch.write(b"x" * 3000)
            assert second.get_reader() == 1 and m.get_reader() == 1
            assert len(second.new_data) and not len(m.new_data)
        with pytest.raises(ringbuf.ReaderBusyError):
            ch.reader()
    with channel() as ch, ch.reader(), pytest.raises(ringbuf.ReaderBusyError):
        ch.map()


def test_an_attached_channel_in_another_process_is_mapped(tmp_path):
    path = tmp_path / "ring"
    with channel(path=path) as ch:
        ch.write(b"from here")
        printed = rings.run_script(
            "import sys, ringbuf\n"
            "with ringbuf.attach(sys.argv[1]).map() as m:\n"
            "    m.get_reader()\n"
            "    print(bytes(m.reader_data)[-9:].decode(), m.meta.entries)\n",
            path,
        )
        assert printed == "from here 1\n"
        assert ch.stats().records_unread == 1  # its sub-buffer was not complete: the rest may come


def test_a_killed_mapper_loses_nothing():
    with channel(mode="discard") as ch:
        for n in range(3):
            ch.write(b"%d" % n * 2000)

        def child():
            m = ch.map()
            m.get_reader()
            os.kill(os.getpid(), signal.SIGKILL)

        assert rings.exit_code(rings.fork(child)) == -signal.SIGKILL
        assert [p[:1] for p in rings.payloads(ch)] == [b"0", b"1", b"2"]
        rings.assert_exact(ch.stats(), 3)


def test_a_forked_child_can_look_but_not_swap():
    with channel() as ch, ch.map() as m:
        ch.write(b"x" * 100)
        m.get_reader()

        def child():
            assert bytes(m.reader_data).endswith(b"x" * 100)
            for use in (m.get_reader, m.wait, m.clear):
                with pytest.raises(RuntimeError):
                    use()
            m.close()

        rings.in_fork(child)
        ch.write(b"y")
        assert m.get_reader() == 1 and bytes(m.new_data).endswith(b"y")


def test_clear_throws_away_what_was_not_handed_out():
    with channel() as ch, ch.map() as m:
        ch.write(b"x")
        m.get_reader()
        for _ in range(4):
            ch.write(bytes(3000))
        m.clear()
        m.get_reader()
        assert not len(m.new_data)
        assert (m.meta.entries, m.meta.overrun + m.meta.read) == (5, 5)
        ch.write(b"y")
        assert [r.payload for r in m.records(timeout=0)] == [b"y"]
        rings.assert_exact(ch.stats(), 6)


def test_a_truncated_file_is_refused(tmp_path):
    with channel(path=tmp_path / "ring") as ch:
        m = ch.map()
        os.truncate(tmp_path / "ring", 8192)
        with pytest.raises(ringbuf.RegionError):
            m.get_reader()
        m.close()
        with pytest.raises(ringbuf.RegionError):
            ch.map()


def test_threads_share_a_stream_and_every_record_is_handed_out_once():
    n_records, sizes = 3000, []
    with channel(mode="discard", n_subbufs=8, blocking_timeout=None) as ch:
        done = threading.Event()

        def take(m):
            while True:
                finished = done.is_set()
                before = m.get_reader()
                begin, end = m._new
                if begin < end:
                    sizes.append(end - begin)
                elif finished:
                    return before

        maps = [ch.map(), ch.map()]
        threads = [threading.Thread(target=take, args=(m,)) for m in maps]
        for thread in threads:
            thread.start()
        for _ in range(n_records):
            ch.write(b"12345678")
        done.set()
        for thread in threads:
            thread.join()
        assert maps[0].meta.read == maps[0].meta.entries == n_records
        assert sum(sizes) >= n_records * 16
        for m in maps:
            m.close()
        rings.assert_exact(ch.stats(), n_records)


WAITS = {
    "wait": lambda m: m.wait(),
    "records": lambda m: list(m.records()),
    "get_reader": lambda m: [m.get_reader(block=True) for _ in iter(int, 1)],
}


@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize("closed", ["mapping", "channel", "both"])
def test_a_wait_ends_when_another_thread_closes_the_mapping_or_the_channel(wait, closed):
    def child():
        ch = channel(read_timer=0.0001)
        m, ended = ch.map(), []

        def work():
            with pytest.raises(ValueError, match="closed|released"):
                WAITS[wait](m)
            ended.append(True)

        thread = threading.Thread(target=work)
        thread.start()
        time.sleep(0.05)
        if closed != "mapping":
            ch.close()
        if closed != "channel":
            m.close()
        thread.join(60)
        assert ended == [True]
        m.close()
        ch.close()

    rings.in_fork(child)


def test_closing_while_another_thread_is_in_the_mapping_gives_the_right_up_once_it_is_out():
    def child():
        with channel() as ch:
            for _ in range(200):
                m, begun = ch.map(), threading.Event()

                def work(m=m, begun=begun):
                    with pytest.raises(ValueError):
                        while True:
                            m.get_reader()
                            begun.set()

                thread = threading.Thread(target=work)
                thread.start()
                begun.wait(60)
                m.close()
                thread.join(60)
                ch.reader().close()

    rings.in_fork(child)


def test_an_endless_read_timer_does_not_keep_it_awake():
    with channel(read_timer=1e300) as ch, ch.map() as m:
        begin = time.thread_time()
        assert not m.wait(1)
        assert time.thread_time() - begin < 0.5  # awake, it would be a second
