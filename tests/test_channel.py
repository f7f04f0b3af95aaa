"""Channel: creation, states, raw records, losses, waiting for room."""

import array
import errno
import fcntl
import os
import signal
import stat
import threading
import time
import uuid

import numpy
import pytest
import rings
from rings import assert_exact, fill, in_fork, in_thread, payloads, small

import ringbuf
from ringbuf import _core

# ---- creation ----


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("", ValueError), ("a/b", ValueError), ("a\0b", ValueError), (".", ValueError), ("..", ValueError),
        ("x" * 64, ValueError), ("é" * 32, ValueError), ("\ud800", ValueError), (b"bytes", TypeError),
        (None, TypeError),
    ],
)  # fmt: skip
def test_a_name_that_cannot_be_a_file_name_is_refused(name, error):
    with pytest.raises(error):
        small(name)


@pytest.mark.parametrize("name", ["x" * 63, "é" * 31, "with space", "-", "...", "名前"])
def test_any_other_name_is_kept(name):
    assert small(name).name == name


@pytest.mark.parametrize(
    "options",
    [
        {"subbuf_size": 0}, {"subbuf_size": -4096}, {"subbuf_size": 1}, {"subbuf_size": 2048}, {"subbuf_size": 4097},
        {"subbuf_size": 5000}, {"subbuf_size": 1 << 26}, {"subbuf_size": (1 << 32) + 4096}, {"subbuf_size": 1 << 32},
        {"subbuf_size": 1 << 64}, {"subbuf_size": 4096.0}, {"subbuf_size": "4096"}, {"subbuf_size": None},
        {"n_subbufs": 0}, {"n_subbufs": 1}, {"n_subbufs": 3}, {"n_subbufs": 1 << 17}, {"n_subbufs": (1 << 32) + 2},
        {"n_subbufs": -2}, {"n_subbufs": 2.0}, {"n_streams": 0}, {"n_streams": 4097}, {"n_streams": -1},
        {"n_producers": 0}, {"n_producers": (1 << 20) + 1}, {"n_producers": "many"}, {"schema_size": 0},
        {"schema_size": (1 << 30) + 1}, {"mode": "Discard"}, {"mode": None}, {"mode": 0}, {"mode": []},
        {"streams": "cpu"}, {"clock": "utc"}, {"clock": 3}, {"wakeup": "never"}, {"blocking_timeout": -0.1},
        {"blocking_timeout": float("nan")}, {"switch_timer": -1}, {"read_timer": float("nan")},
        {"client": ringbuf.CtfClient(header="tiny")},
    ],
    ids=str,
)  # fmt: skip
def test_a_parameter_out_of_range_is_named_in_the_error(options):
    (name,) = options
    with pytest.raises(ValueError, match="header" if name == "client" else name):
        small(**options)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"client": "ctf"}, TypeError), ({"client": ringbuf.CtfClient}, TypeError), ({"path": 3.5}, TypeError),
        ({"blocking_timeout": "soon"}, ValueError), ({"contexts": None}, TypeError), ({"contexts": "vpid"}, ValueError),
        ({"contexts": "a:u9"}, ValueError), ({"contexts": "a:u8,a:u8"}, ValueError),
        ({"contexts": "a:bytes@8"}, ValueError),
        ({"contexts": "a:u8[4097]"}, ValueError), ({"contexts": "a:u64[4294967295]"}, ValueError),
        ({"contexts": ",".join(f"a{i}:u64" for i in range(200))}, ValueError), ({"unknown": 1}, TypeError),
    ],
    ids=str,
)  # fmt: skip
def test_a_parameter_of_the_wrong_kind_is_refused(options, error):
    with pytest.raises(error):
        small(**options)


def test_a_path_with_a_nul_is_refused_and_makes_no_file(tmp_path):
    for path in (f"{tmp_path}/ri\0ng", os.fsencode(f"{tmp_path}/ri\0ng")):
        with pytest.raises(ValueError, match="NUL"):
            small(path=path)
    assert not list(tmp_path.iterdir())


def test_a_path_of_bytes_is_one(tmp_path):
    with small(path=os.fsencode(tmp_path / "ring")) as channel:
        assert channel.path == str(tmp_path / "ring") and os.path.exists(channel.path)


def test_errors_name_what_is_wrong():
    for options in ({"schema_size": 1}, {"switch_timer": "often"}, {"read_timer": -1}):
        with pytest.raises(ValueError, match=next(iter(options))):
            small(**options)
    with small() as channel, pytest.raises(ValueError, match="65535"):
        channel.declare_event("x" * 65536, "", "")


def test_largest_and_smallest_geometries_work():
    for subbuf_size, n_subbufs in ((4096, 2), (1 << 25, 2), (4096, 1 << 14)):
        with small(subbuf_size=subbuf_size, n_subbufs=n_subbufs) as channel:
            assert (channel.subbuf_size, channel.n_subbufs) == (subbuf_size, n_subbufs)
            assert channel.write(b"x" * channel.max_record_size)
            assert channel.stats().records_written == 1


def test_a_channel_says_what_it_was_made_with(tmp_path):
    with ringbuf.Channel(
        "all", subbuf_size=8192, n_subbufs=8, mode="overwrite", client=ringbuf.CtfClient("large"), streams="global",
        clock="monotonic", path=tmp_path / "all", switch_timer=0.25, read_timer=1, wakeup="writer",
        contexts=" vpid : i32 , who:str",
    ) as channel:  # fmt: skip
        assert (channel.name, channel.mode, channel.header, channel.per_cpu) == ("all", "overwrite", "large", False)
        assert (channel.subbuf_size, channel.n_subbufs, channel.wakeup) == (8192, 8, "writer")
        assert (channel.timers, channel.blocking_timeout) == ((0.25, 1.0), 0.0)
        assert (channel.contexts, channel.path) == ("vpid:i32,who:str", str(tmp_path / "all"))
        assert channel.clock_parameters[:2] == ("monotonic", 10**9)
        assert channel.environment["vpid"] == os.getpid()
        assert isinstance(channel.uuid, uuid.UUID)
        assert (channel.closed, channel.is_finalized, channel.is_disabled) == (False, False, False)
        assert "all" in repr(channel)


def test_defaults_are_as_documented():
    with ringbuf.Channel("defaults") as channel:
        assert (channel.mode, channel.header, channel.per_cpu) == ("discard", "compact", True)
        assert (channel.subbuf_size, channel.n_subbufs, channel.wakeup) == (256 * 1024, 4, "timer")
        assert (channel.timers, channel.blocking_timeout, channel.path) == ((None, None), 0.0, None)
        assert len(channel.streams) == os.sysconf("SC_NPROCESSORS_CONF")
        assert [stream.cpu for stream in channel.streams] == list(range(len(channel.streams)))


def test_two_channels_of_one_name_have_nothing_in_common():
    with small() as one, small() as other:
        assert one.uuid != other.uuid
        one.write(b"x")
        assert (one.stats().records_written, other.stats().records_written) == (1, 0)


def test_a_blocking_timeout_means_nothing_in_overwrite_mode():
    with small(mode="overwrite", blocking_timeout=None) as channel:
        assert channel.blocking_timeout == 0.0
        assert all(channel.write(b"x" * 1000) for _ in range(100))


def test_anonymous_memory_can_neither_shrink_nor_grow():
    with small() as channel:
        seals = fcntl.fcntl(channel.fileno(), 1024 + 10)  # F_GET_SEALS
        assert seals & 0x7 == 0x7  # seal, shrink, grow
        for size in (0, 4096, 1 << 30):
            with pytest.raises(PermissionError):
                os.ftruncate(channel.fileno(), size)


def test_the_descriptor_is_not_inherited_by_other_programs():
    with small() as channel:
        assert not os.get_inheritable(channel.fileno())


def test_memory_can_be_had_in_advance():
    with small(preallocate=True) as channel:
        blocks = os.fstat(channel.fileno()).st_blocks * 512
        assert blocks >= os.fstat(channel.fileno()).st_size


def test_a_file_has_memory_for_the_cpus_that_are_recorded_on(tmp_path):
    with ringbuf.Channel("many", path=tmp_path / "ring", n_streams=240) as channel:
        status = os.stat(channel.path)
        assert status.st_size > 300 << 20 and status.st_blocks * 512 < 64 << 20
    with ringbuf.Channel("all", path=tmp_path / "all", n_streams=4, preallocate=True) as channel:
        status = os.stat(channel.path)
        assert status.st_blocks * 512 >= status.st_size


def test_what_a_channel_takes_is_said_when_there_is_no_room(tiny_disk):
    with pytest.raises(OSError, match=r"no room for 60 MiB of buffers.* MiB, and 0\.2 MiB for each"):
        ringbuf.Channel(
            "many",
            path=tiny_disk / "ring",
            n_streams=240,
            subbuf_size=1 << 16,
            n_subbufs=2,
            n_spares=1,
            mode="overwrite",
        )
    with pytest.raises(OSError, match=r"no room for 1 MiB of buffers: the channel takes 2\.\d MiB; make"):
        ringbuf.Channel("one", path=tiny_disk / "ring", streams="global")
    assert os.listdir(tiny_disk) == []


@pytest.fixture
def on_cpu():
    """Makes this thread run on a CPU by its place among those that it may run on."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        pytest.skip("needs two CPUs")
    yield lambda i: os.sched_setaffinity(0, {cpus[i]})
    os.sched_setaffinity(0, cpus)


def test_records_that_find_no_memory_are_counted(tiny_disk, on_cpu):
    on_cpu(0)
    sizes = {"subbuf_size": 1 << 16, "n_subbufs": 2, "schema_size": 4096, "metrics_size": 4096, "n_producers": 8}
    with ringbuf.Channel("full", path=tiny_disk / "ring", **sizes) as channel:
        room = os.statvfs(tiny_disk)
        (tiny_disk / "other").write_bytes(bytes(room.f_bavail * room.f_frsize))
        assert channel.write(b"x")
        on_cpu(1)
        assert not channel.write(b"x")
        with pytest.raises(ringbuf.BufferFullError, match="the file system of the channel's file is full"):
            channel.reserve(1)
        stats = channel.stats()
        assert (stats.records_lost_memory, stats.records_lost, stats.records_written) == (2, 2, 1)
        (tiny_disk / "other").unlink()
        assert channel.write(b"x")


# ---- files ----


def test_a_file_is_private_and_outlives_its_channel(tmp_path):
    mask = os.umask(0)
    try:
        small(path=tmp_path / "ring").close()
    finally:
        os.umask(mask)
    status = os.stat(tmp_path / "ring")
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert status.st_blocks * 512 >= status.st_size  # no hole that a full disk could not fill later


def test_what_exists_is_never_overwritten(tmp_path):
    (tmp_path / "precious").write_text("here")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("precious", "link"):
        with pytest.raises(FileExistsError):
            small(path=tmp_path / name)
    assert (tmp_path / "precious").read_text() == "here"
    assert not (tmp_path / "nowhere").exists()


def test_a_path_without_a_directory_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        small(path=tmp_path / "no" / "ring")
    with pytest.raises(NotADirectoryError):
        (tmp_path / "file").touch()
        small(path=tmp_path / "file" / "ring")


def test_a_full_disk_is_an_error_at_creation_that_says_what_to_change(tiny_disk):
    with pytest.raises(OSError, match="n_subbufs or subbuf_size") as error:
        small(path=tiny_disk / "ring", subbuf_size=1 << 20)
    assert error.value.errno in (errno.ENOSPC, errno.ENOMEM)
    assert os.listdir(tiny_disk) == []


# ---- life ----


def test_closing_twice_is_harmless():
    channel = small()
    channel.close()
    channel.close()
    assert channel.closed
    assert "closed" in repr(channel)


USES = {
    "write": lambda channel: channel.write(b"x"),
    "reserve": lambda channel: channel.reserve(1),
    "try_reserve": lambda channel: channel.try_reserve(1),
    "flush": lambda channel: channel.flush(),
    "clear": lambda channel: channel.clear(),
    "enable": lambda channel: channel.enable(),
    "disable": lambda channel: channel.disable(),
    "finalize": lambda channel: channel.finalize(),
    "stats": lambda channel: channel.stats(),
    "reader": lambda channel: channel.reader(),
    "has_reader": lambda channel: channel.has_reader(),
    "fileno": lambda channel: channel.fileno(),
    "schemas": lambda channel: channel.schemas(),
    "declare_event": lambda channel: channel.declare_event("e", "", ""),
    "current_timestamp": lambda channel: channel.current_timestamp(),
    "enter": lambda channel: channel.__enter__(),
    **{
        name: lambda channel, name=name: getattr(channel, name)
        for name in (
            "name", "mode", "header", "per_cpu", "wakeup", "subbuf_size", "n_subbufs", "max_record_size", "uuid",
            "contexts", "timers", "blocking_timeout", "clock_parameters", "environment", "streams", "is_finalized",
            "is_disabled", "is_ctf",
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("use", USES)
def test_a_closed_channel_refuses_every_use(use):
    channel = small()
    stream = channel.streams[0]
    channel.close()
    with pytest.raises(ValueError, match="closed"):
        USES[use](channel)
    for method in (stream.stats, stream.flush, stream.reader, stream.events_discarded):
        with pytest.raises(ValueError, match="closed"):
            method()


def test_objects_made_without_their_factory_refuse_use():
    for kind in (ringbuf.Reader, ringbuf.Packet, ringbuf.Reservation, ringbuf.Channel):
        made = kind.__new__(kind)
        for name in (name for name in dir(made) if not name.startswith("_")):
            try:
                use = getattr(made, name)
                if callable(use):
                    use()
            except Exception:
                pass  # which exception does not matter; a crash would
    for kind in (ringbuf.Stream, ringbuf.Event, _core.Consumer, _core.ContextBlock):
        with pytest.raises(TypeError):
            kind.__new__(kind)
    with pytest.raises(TypeError):
        ringbuf.Stream(None, 0)
    with pytest.raises(TypeError):
        ringbuf.Reader()


def test_a_channel_cannot_be_initialized_twice():
    with small() as channel, pytest.raises(RuntimeError):
        channel.__init__("again")


# ---- raw records ----


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"\0", b"bytes", bytearray(b"bytearray"), memoryview(b"memoryview")[2:5], array.array("d", [1.5, -2]),
        numpy.arange(6, dtype=">u2").reshape(2, 3), memoryview(b"abcd").cast("B", (2, 2)), numpy.float64(3.5),
    ],
    ids=lambda payload: type(payload).__name__,
)  # fmt: skip
def test_any_contiguous_buffer_is_recorded_byte_for_byte(payload):
    with small() as channel:
        assert channel.write(payload) is True
        assert payloads(channel) == [bytes(payload)]


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        ("text", TypeError), (None, TypeError), (5, TypeError), ([1, 2], TypeError),
        (memoryview(b"abcdef")[::2], (TypeError, BufferError, ValueError)),
        (numpy.arange(9).reshape(3, 3)[:, 1], (TypeError, BufferError, ValueError)),
    ],
    ids=repr,
)  # fmt: skip
def test_anything_else_is_refused_and_leaves_nothing(payload, error):
    with small() as channel:
        with pytest.raises(error):
            channel.write(payload)
        assert channel.stats() == ringbuf.Stats()
        assert payloads(channel) == []


@pytest.mark.parametrize("align", [1, 2, 8, 64, 512, 1024])
@pytest.mark.parametrize("header", ["compact", "large"])
def test_payloads_stand_where_their_alignment_says(align, header, tmp_path):
    with small(client=ringbuf.CtfClient(header)) as channel:
        for i in range(3):
            channel.write(b"padding"[: i + 1])
            assert channel.write(b"<%d>" % i, align=align)
        channel.flush()
        with channel.reader() as reader, reader.next(0) as packet:
            data = bytes(packet)
        assert [data.index(b"<%d>" % i) % align for i in range(3)] == [0, 0, 0]


@pytest.mark.parametrize("align", [0, 3, -1, 8192, 1.0, None, "8"])
def test_an_impossible_alignment_is_refused(align):
    with small() as channel:
        with pytest.raises((ValueError, TypeError)):
            channel.write(b"x", align=align)
        with pytest.raises((ValueError, TypeError)):
            channel.reserve(1, align=align)
        assert channel.stats() == ringbuf.Stats()


@pytest.mark.parametrize("header", ["compact", "large"])
@pytest.mark.parametrize("contexts", ["", "vpid:i32,procname:str"])
@pytest.mark.parametrize("streams", ["global", "per-cpu"])
def test_a_record_of_max_record_size_fits_every_fresh_sub_buffer(header, contexts, streams):
    with small(client=ringbuf.CtfClient(header), contexts=contexts, streams=streams) as channel:
        payload = os.urandom(channel.max_record_size)
        for _ in range(3):
            assert channel.write(payload)
        assert channel.stats().records_lost == 0
        assert payloads(channel) == [payload] * 3


def test_a_record_larger_than_a_sub_buffer_is_lost_counted_and_ends_no_packet():
    with small() as channel:
        channel.write(b"before")
        for size in (4096 - 80, 4096, 1 << 20):
            assert channel.write(bytes(size)) is False
        channel.write(b"after")
        stats = channel.stats()
        assert (stats.records_lost_big, stats.records_written) == (3, 2)
        assert_exact(stats, attempts=5)
        channel.flush()
        with channel.reader() as reader:
            packet = reader.next(0)
            assert (packet.n_records, packet.sequence_number, packet.events_discarded) == (2, 0, 3)


def test_records_come_back_in_order_and_complete(rng):
    sent = [rng.randbytes(rng.randrange(200)) for _ in range(500)]
    with small(n_subbufs=64) as channel:
        assert all([channel.write(payload) for payload in sent])
        assert payloads(channel) == sent


# ---- losses ----


def test_a_full_buffer_drops_new_records_and_counts_them():
    with small() as channel:
        written = fill(channel)
        assert not any([channel.write(b"x" * 1000) for _ in range(9)])
        stats = channel.stats()
        assert (stats.records_written, stats.records_lost_full, stats.records_overrun) == (written, 10, 0)
        with channel.reader() as reader:
            reader.next(0).release()
            assert channel.write(b"room again")
        assert_exact(channel.stats(), attempts=written + 11)


def test_a_packet_says_how_many_records_were_lost_before_its_end():
    with small() as channel:
        fill(channel)
        fill(channel, b"")
        with channel.reader() as reader:
            counts = [reader.next(0).events_discarded for _ in range(4)]
            assert counts[:3] == [0, 0, 0]
            channel.write(b"the next packet")
            channel.flush()
            assert reader.next(0).events_discarded == channel.stats().records_lost_full


def test_overwriting_keeps_the_newest_and_counts_the_rest():
    with small(mode="overwrite") as channel:
        for i in range(1000):
            assert channel.write(b"%0100d" % i)
        stats = channel.stats()
        assert (stats.records_written, stats.records_lost) == (1000, 0)
        kept = [int(payload) for payload in payloads(channel)]
        assert kept == list(range(1000 - len(kept), 1000))
        assert channel.stats().records_overrun == 1000 - len(kept) > 0
        assert len(kept) * 110 > 3 * 4096
        assert_exact(channel.stats(), attempts=1000)


def test_a_packet_sequence_has_a_gap_where_packets_were_overwritten():
    with small(mode="overwrite") as channel, channel.reader() as reader:
        channel.write(b"first")
        channel.flush()
        assert reader.next(0).sequence_number == 0
        for _ in range(20):
            channel.write(b"x")
            channel.flush()
        numbers = [packet.sequence_number for packet in iter(lambda: reader.next(0), None)]
        assert numbers == [17, 18, 19, 20]


# ---- states ----


def test_flush_ends_the_packet_and_does_nothing_when_there_is_none():
    with small() as channel, channel.reader() as reader:
        channel.flush()
        assert reader.next(0) is None
        channel.write(b"x")
        assert reader.next(0) is None
        channel.flush()
        channel.flush()
        assert reader.next(0).n_records == 1
        assert reader.next(0) is None


def test_an_empty_packet_can_be_asked_for():
    with small() as channel, channel.reader() as reader:
        for i in range(3):
            channel.flush(empty=True)
            with reader.next(0) as packet:
                assert (packet.n_records, packet.content_size, packet.sequence_number) == (0, 80, i)
                assert packet.timestamp_begin == packet.timestamp_end


def test_an_empty_packet_never_takes_the_place_of_records():
    with small() as channel:
        written = fill(channel)
        channel.flush()
        for _ in range(10):
            channel.flush(empty=True)
        assert len(payloads(channel)) == written


def test_clear_throws_away_what_is_unread_and_counts_it():
    with small() as channel:
        channel.write(b"read")
        channel.flush()
        with channel.reader() as reader:
            reader.next(0).release()
        for i in range(7):
            channel.write(b"%d" % i)
        channel.clear()
        stats = channel.stats()
        assert (stats.records_written, stats.records_read, stats.records_unread) == (8, 1, 0)
        assert (stats.records_overrun, stats.records_cleared) == (7, 7)
        assert_exact(stats, attempts=8)
        channel.write(b"after")
        assert payloads(channel) == [b"after"]


def test_a_full_buffer_that_is_cleared_has_room_for_all():
    with small() as channel:
        written = fill(channel)
        channel.clear()
        assert fill(channel) == written


def test_clear_respects_a_reader():
    with small() as channel, channel.reader(), pytest.raises(ringbuf.ReaderBusyError):
        channel.clear()


def test_a_disabled_channel_refuses_and_counts_until_enabled():
    with small() as channel:
        channel.write(b"1")
        channel.disable()
        channel.disable()
        assert channel.is_disabled
        assert channel.write(b"2") is False
        assert channel.try_reserve(1) is None
        with pytest.raises(ringbuf.ChannelDisabledError):
            channel.reserve(1)
        channel.enable()
        assert not channel.is_disabled
        channel.write(b"3")
        stats = channel.stats()
        assert (stats.records_written, stats.records_lost_disabled) == (2, 3)
        assert_exact(stats, attempts=5)
        assert payloads(channel) == [b"1", b"3"]


def test_being_disabled_is_no_loss_that_a_trace_tells():
    with small() as channel, channel.reader() as reader:
        channel.disable()
        channel.write(b"x")
        channel.enable()
        channel.write(b"y")
        channel.flush()
        assert reader.next(0).events_discarded == 0
        assert channel.streams[0].events_discarded() == 0


def test_states_hold_in_every_process():
    with small() as channel:

        def child():
            channel.disable()

        in_fork(child)
        assert channel.is_disabled
        assert channel.write(b"x") is False
        channel.enable()

        def finalize():
            assert not channel.is_disabled
            channel.finalize()

        in_fork(finalize)
        assert channel.is_finalized
        assert channel.write(b"x") is False


def test_a_finalized_channel_can_be_read_to_the_end_and_takes_nothing_more():
    with small() as channel:
        channel.write(b"last")
        channel.finalize()
        channel.finalize()
        assert channel.is_finalized and channel.is_disabled
        assert channel.write(b"late") is False
        channel.enable()
        assert channel.write(b"late") is False
        with channel.reader() as reader:
            assert [packet.n_records for packet in reader] == [1]
            with pytest.raises(ringbuf.EndOfStream):
                reader.next()
        assert channel.stats().records_lost_disabled == 2


def test_counters_of_streams_add_up_to_those_of_the_channel():
    with small(streams="per-cpu", n_streams=2) as channel:
        channel.write(b"x")
        channel.write(bytes(5000))
        parts = [stream.stats() for stream in channel.streams]
        assert len(parts) == 2
        for name in ("records_written", "records_lost_big", "records_unread", "attempts"):
            assert sum(getattr(part, name) for part in parts) == getattr(channel.stats(), name)
        with pytest.raises(IndexError):
            ringbuf.Stream(channel, 2).stats()
        with pytest.raises(IndexError):
            channel.reader(2)


def test_a_stream_can_be_flushed_alone():
    with small(streams="per-cpu", n_streams=1) as channel:
        channel.write(b"x")
        channel.streams[0].flush()
        channel.streams[0].flush(empty=True)
        with channel.streams[0].reader() as reader:
            assert [reader.next(0).n_records for _ in range(2)] == [1, 0]


# ---- producer slots ----


def test_more_threads_than_slots_lose_their_records_and_count_them():
    with small(n_producers=1) as channel:
        assert channel.write(b"mine")
        assert in_thread(channel.write, b"theirs") is False
        with pytest.raises(ringbuf.TooManyProducersError):
            in_thread(channel.reserve, 1)
        with pytest.raises(ringbuf.TooManyProducersError):
            in_thread(channel.flush)
        stats = channel.stats()
        assert (stats.records_written, stats.records_lost_slots) == (1, 2)
        assert_exact(stats, attempts=3)


def test_a_thread_that_ends_gives_its_slot_to_the_next():
    with small(n_producers=1, n_subbufs=64) as channel:
        for _ in range(50):
            # a thread is joined a moment before it is gone
            rings.eventually(lambda: in_thread(channel.write, b"x"))
        rings.eventually(lambda: channel.write(b"y"))
        assert len(payloads(channel)) == 51


def test_a_process_that_dies_gives_its_slots_to_the_next():
    with small(n_producers=2, n_subbufs=64) as channel:

        def child():
            assert channel.write(b"x")
            os.kill(os.getpid(), signal.SIGKILL)

        for _ in range(10):
            assert rings.exit_code(rings.fork(child)) == -signal.SIGKILL
        assert channel.write(b"y")
        assert len(payloads(channel)) == 11


# ---- clocks ----


def test_the_monotonic_clock_is_the_systems():
    with small(clock="monotonic") as channel:
        before = time.monotonic_ns()
        channel.write(b"x")
        now = channel.current_timestamp()
        (record,) = rings.records(channel)
        assert before <= record.timestamp <= now <= time.monotonic_ns()


def test_times_translate_to_the_wall_clock():
    with small() as channel:
        before = time.time_ns()
        channel.write(b"x")
        after = time.time_ns()
        (record,) = rings.records(channel)
        assert before - 10**9 < record.time_ns < after + 10**9


def test_the_processors_counter_is_refused_where_it_cannot_be_trusted():
    with open("/sys/devices/system/clocksource/clocksource0/current_clocksource") as file:
        is_usable = file.read().startswith("tsc")
    if is_usable:
        assert small(clock="tsc").clock_parameters[0] == "tsc"
    else:
        with pytest.raises(ValueError, match="monotonic"):
            small(clock="tsc")


# ---- event declarations ----


def test_an_event_that_is_declared_again_has_the_same_id():
    with small() as channel:
        ids = [channel.declare_event(name, "", fields) for name, fields in (("a", "x:u8"), ("b", ""), ("a", "x:u8"))]
        assert ids == [0, 1, 0]
        in_fork(lambda: assert_equal(channel.declare_event("b", "", ""), 1))
        in_fork(lambda: assert_equal(channel.declare_event("c", "", ""), 2))
        assert [schema[:2] for schema in channel.schemas()] == [(0, "a"), (1, "b"), (2, "c")]


def assert_equal(one, other):
    assert one == other


def test_a_full_schema_area_is_an_error_that_says_what_to_change():
    with small(schema_size=4096) as channel:
        with pytest.raises(OSError, match="schema_size") as error:
            for i in range(1000):
                channel.declare_event(f"event {i}", "", "order:u64,path:str")
        assert error.value.errno == errno.ENOSPC
        assert channel.declare_event("event 0", "", "order:u64,path:str") == 0
        with pytest.raises(OSError, match="schema_size"):
            channel.write(b"the first of its kind")
        assert channel.stats().attempts == 0


# ---- waiting for room ----


def test_a_blocked_record_gives_up_at_its_deadline():
    with small(blocking_timeout=0.3) as channel:
        begin = time.monotonic()
        written = fill(channel)
        assert 0.25 < time.monotonic() - begin < 30
        assert channel.stats().records_lost_full == 1
        assert_exact(channel.stats(), attempts=written + 1)


@pytest.mark.parametrize("timeout", [None, 30.0])
def test_a_blocked_record_goes_on_when_the_reader_makes_room(timeout):
    with small(blocking_timeout=timeout) as channel, channel.reader() as reader:
        total, taken = 200, []
        thread = threading.Thread(target=lambda: [channel.write(b"%03d" % i * 100) for i in range(total)])
        thread.start()
        while sum(taken) < total:
            packet = reader.next(timeout=0.05)
            if packet is None:
                channel.flush()
            else:
                taken.append(packet.n_records)
        thread.join()
        assert channel.stats().records_lost == 0
        assert sum(taken) == total


def test_other_threads_run_while_one_waits_for_room():
    with small(blocking_timeout=30) as channel:
        blocked = threading.Thread(target=fill, args=(channel,))
        blocked.start()
        rings.eventually(lambda: channel.stats().records_unread >= 12)
        begin = time.monotonic()
        sum(range(100_000))
        assert time.monotonic() - begin < 20
        assert blocked.is_alive()
        channel.finalize()
        blocked.join()


@pytest.mark.parametrize("end", ["disable", "finalize"])
def test_a_blocked_record_ends_when_the_channel_refuses_records(end):
    with small(blocking_timeout=None) as channel:
        blocked = threading.Thread(target=fill, args=(channel,))
        blocked.start()
        rings.eventually(lambda: channel.stats().records_unread >= 12)
        getattr(channel, end)()
        blocked.join(60)
        assert not blocked.is_alive()
        assert channel.stats().records_lost_disabled == 1


@pytest.mark.parametrize("timeout", [None, 2.0])
def test_closing_the_channel_ends_a_blocked_record_with_an_error(timeout):
    channel = small(blocking_timeout=timeout)
    errors = []

    def run():
        try:
            fill(channel)
        except ValueError as error:
            errors.append(str(error))

    blocked = threading.Thread(target=run)
    blocked.start()
    rings.eventually(lambda: channel.stats().records_unread >= 12)
    channel.close()
    blocked.join(60)
    assert errors == ["the channel is closed"]


def test_a_signal_handler_that_raises_ends_a_blocked_record():
    class Stop(Exception):
        pass

    def stop(*_):
        raise Stop

    before = signal.signal(signal.SIGUSR1, stop)
    try:
        with small(blocking_timeout=None) as channel:
            timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR1))
            timer.start()
            with pytest.raises(Stop):
                fill(channel)
            timer.join()
            stats = channel.stats()
            assert (stats.records_lost, stats.records_unread) == (0, stats.records_written)
            channel.clear()
            assert channel.write(b"it works on")
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_record_over_an_open_one_does_not_wait_for_its_own_thread():
    with small(blocking_timeout=None) as channel:
        with channel.reserve(3000) as slot:
            slot.payload[:] = bytes(3000)
            lost = 0
            for _ in range(20):
                lost += not channel.write(b"x" * 3000)
        assert lost == channel.stats().records_lost > 0
        assert_exact(channel.stats(), attempts=21)
