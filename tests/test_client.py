"""Client: each callback, what it is given, and what happens when it raises, records, closes or lies."""

import contextlib
import gc
import struct
import sys
import threading

import judge
import pytest
import rings
from rings import assert_exact, in_fork, in_thread, payloads, run_script, small

import ringbuf

TWO_27 = 1 << 27


@contextlib.contextmanager
def unraisable():
    """Collects what is reported to sys.unraisablehook."""
    found = []
    before = sys.unraisablehook
    sys.unraisablehook = lambda report: found.append((report.exc_type, str(report.exc_value), report.object))
    try:
        yield found
    finally:
        sys.unraisablehook = before


class Ticker(ringbuf.Client):
    """A clock that says what it is told."""

    clock_offset_s = 1_700_000_000

    def __init__(self, *ticks, header="compact"):
        self.ticks = list(ticks)
        self.header = header
        self.last = 0

    def clock_read(self):
        if self.ticks:
            self.last = self.ticks.pop(0)
        return self.last


class Plain(ringbuf.Client):
    """A format of its own: records of length, event id, time, in 16 bytes; packets of 16 bytes header."""

    def __init__(self):
        self.calls = []

    def record_header_size(self, offset, event_id, flags):
        self.calls.append(("size", offset, event_id, flags))
        return 16, -offset % 8

    def write_record_header(self, buffer, event_id, timestamp, flags):
        self.calls.append(("header", len(buffer), event_id, flags))
        struct.pack_into("<IIQ", buffer, 0, 0xABCD, event_id, timestamp)

    def write_filler(self, buffer):
        self.calls.append(("filler", len(buffer)))
        buffer[:] = b"\xff" * len(buffer)

    def packet_header_size(self):
        return 16

    def buffer_begin(self, stream, timestamp, subbuf_idx, header):
        self.calls.append(("begin", stream.index, subbuf_idx, len(header)))
        struct.pack_into("<QQ", header, 0, 0x1234, timestamp)

    def buffer_end(self, stream, timestamp, subbuf_idx, data_size, header):
        self.calls.append(("end", stream.index, subbuf_idx, data_size, len(header)))

    def buffer_create(self, stream, cpu, name):
        self.calls.append(("create", stream.index, cpu, name))

    def buffer_finalize(self, stream, cpu):
        self.calls.append(("finalize", stream.index, cpu))

    def record_get(self, packet, offset):
        skip = 0
        while offset + skip < len(packet) and packet[offset + skip] == 0xFF:
            skip += 1
        skip += -(offset + skip) % 8
        if offset + skip + 16 > len(packet):
            return None
        mark, event_id, timestamp = struct.unpack_from("<IIQ", packet, offset + skip)
        assert mark == 0xABCD
        return skip + 16, 24, timestamp


# ---- the built-in client ----


@pytest.mark.parametrize("header", ["compact", "large"])
def test_the_built_in_client_makes_no_calls_into_python(header):
    with small(client=ringbuf.CtfClient(header)) as channel:
        assert channel.header == header and channel.is_ctf and not channel.has_custom_records
        assert not channel._needs_client


def test_a_client_that_overrides_nothing_costs_nothing():
    class Nothing(ringbuf.Client):
        header = "large"

    with small(client=Nothing()) as channel:
        assert not channel._needs_client and channel.header == "large"
        ringbuf.attach(channel.fileno()).close()


def test_overriding_one_callback_leaves_the_format_alone(tmp_path):
    class Begin(ringbuf.Client):
        begun = 0

        def buffer_begin(self, stream, timestamp, subbuf_idx, header):
            super().buffer_begin(stream, timestamp, subbuf_idx, header)
            self.begun += 1
            assert struct.unpack_from("<I", header) == (0xC1FC1FC1,)

    client = Begin()
    with rings.tracer(client=client, subbuf_size=4096, n_subbufs=8) as tracer:
        event = tracer.event("event", i="u32")
        assert all([event(i) for i in range(1000)])
        tracer.snapshot(tmp_path / "trace")
        judged = judge.read(tmp_path / "trace")
        assert [one["fields"]["i"] for one in judged.events] == list(range(1000))
        assert client.begun == len(judged.packets)


# ---- a format of one's own ----


def test_every_callback_gets_what_it_is_promised():
    client = Plain()
    with small(client=client, n_subbufs=2) as channel:
        assert client.calls == [("create", 0, 0, "small")]
        assert (channel.is_ctf, channel.has_custom_records) == (False, True)
        client.calls.clear()
        assert channel.write(b"a" * 24)
        assert ("header", 16, 0, 1) in client.calls
        assert ("size", 16, 0, 1) in client.calls
        begun = [call for call in client.calls if call[0] == "begin"]
        assert begun == [("begin", 0, begun[0][2], 16)]
        client.calls.clear()
        assert channel.write(b"b" * 24)
        assert client.calls == [("size", 56, 0, 0), ("header", 16, 0, 0)]
        client.calls.clear()
        channel.flush()
        assert client.calls == [("end", 0, begun[0][2], 96, 16)]
        client.calls.clear()
        channel.finalize()
        channel.finalize()
        assert client.calls == [("finalize", 0, 0)]


def test_a_format_of_ones_own_is_read_by_record_get():
    client = Plain()
    with small(client=client, n_subbufs=32) as channel:
        sent = [b"%024d" % i for i in range(1000)]
        assert all([channel.write(payload) for payload in sent])
        found = rings.records(channel)
        assert [record.payload for record in found] == sent
        assert [record.timestamp for record in found] == sorted(record.timestamp for record in found)
        assert found[0].fields == {"payload": sent[0]} and "24 bytes" in repr(found[0])
        assert_exact(channel.stats(), attempts=1000)


def test_bytes_of_a_format_of_ones_own_are_exactly_the_clients():
    with small(client=Plain()) as channel, channel.reader() as reader:
        channel.write(b"a" * 24)
        channel.write(b"b" * 24)
        channel.flush()
        with reader.next(0) as packet:
            data = bytes(packet)[: packet.content_size]
        assert struct.unpack_from("<Q", data)[0] == 0x1234
        assert struct.unpack_from("<II", data, 16) == (0xABCD, 0)
        assert data[32:56] == b"a" * 24
        assert data[72:96] == b"b" * 24
        assert len(data) == 96


def test_discarded_records_become_the_clients_filler():
    client = Plain()
    with small(client=client) as channel:
        channel.write(b"a" * 24)
        slot = channel.reserve(24)
        channel.write(b"b" * 24)
        client.calls.clear()
        slot.discard()
        assert client.calls == [("filler", 40)]
        assert payloads(channel) == [b"a" * 24, b"b" * 24]


def test_a_format_of_ones_own_cannot_be_written_as_a_trace(tmp_path):
    with small(client=Plain()) as channel:
        for write in (ringbuf.snapshot, ringbuf.Recorder):
            with pytest.raises(TypeError, match="reader"):
                write(channel, tmp_path / "trace")
    assert not (tmp_path / "trace").exists()


def test_records_without_record_get_are_refused_at_once():
    class Wide(ringbuf.Client):
        def packet_header_size(self):
            return 128

    class Half(Plain):
        record_get = ringbuf.Client.record_get

    for client in (Wide(), Half()):
        with small(client=client) as channel, channel.reader() as reader:
            channel.write(b"x" * 24)
            channel.flush()
            with pytest.raises(TypeError, match="record_get"):
                reader.records()
            assert reader.next(0).n_records == 1


def test_a_record_get_that_makes_no_progress_is_an_error_and_no_loop():
    class Stuck(Plain):
        def record_get(self, packet, offset):
            return 0, 0, 0

    with small(client=Stuck()) as channel, channel.reader() as reader:
        channel.write(b"x" * 24)
        with pytest.raises(ValueError, match="progress"):
            list(reader.records(timeout=0))


def test_a_wider_packet_header_keeps_ctfs_at_its_beginning():
    class Wide(ringbuf.Client):
        def packet_header_size(self):
            return 256

        def buffer_begin(self, stream, timestamp, subbuf_idx, header):
            super().buffer_begin(stream, timestamp, subbuf_idx, header)
            header[200:204] = b"mine"

    with small(client=Wide()) as channel, channel.reader() as reader:
        channel.write(b"payload")
        channel.flush()
        with reader.next(0) as packet:
            data = bytes(packet)[: packet.content_size]
        assert struct.unpack_from("<I", data) == (0xC1FC1FC1,)
        assert struct.unpack_from("<Q", data, 48) == (packet.content_size * 8,)
        assert data[200:204] == b"mine"
        assert data.endswith(b"payload") and len(data) > 256


def test_a_record_of_no_bytes_still_holds_its_packet_open():
    class Bare(Plain):
        def record_header_size(self, offset, event_id, flags):
            return 0, 0

        def write_record_header(self, buffer, event_id, timestamp, flags):
            assert len(buffer) == 0

    with small(client=Bare()) as channel:
        channel.write(b"x")
        slot = channel.reserve(0)
        while channel.stats().records_written < 100:
            assert channel.write(b"y" * 100)
        before = channel.stats().records_written
        slot.commit()
        assert channel.stats().records_written == before + 1
        assert_exact(channel.stats(), attempts=before + 1)


# ---- what cannot be ----


@pytest.mark.parametrize("names", [["record_header_size"], ["write_record_header"], ["write_filler"]])
def test_half_a_format_is_refused(names):
    half = type("Half", (ringbuf.Client,), {name: getattr(Plain, name) for name in names})
    with pytest.raises(TypeError):
        small(client=half())


@pytest.mark.parametrize("size", [0, 3, -1, 83, 4096, 1 << 40, "84", None, 84.0])
def test_an_impossible_packet_header_size_is_refused(size):
    half = type("Half", (ringbuf.Client,), {"packet_header_size": lambda self: size})
    with pytest.raises((ValueError, TypeError)):
        small(client=half(), streams="per-cpu", n_streams=1)


def test_a_packet_header_size_that_raises_is_the_creators_error():
    with pytest.raises(KeyError):
        small(client=type("Raises", (ringbuf.Client,), {"packet_header_size": lambda self: {}["no"]})())


def test_a_clock_of_the_client_and_one_of_the_channel_exclude_each_other():
    with pytest.raises(ValueError, match="clock"):
        small(client=Ticker(1), clock=lambda: 1)


# ---- raising ----


def raising(name):
    def callback(self, *args):
        raise LookupError(f"from {name}")

    return callback


@pytest.mark.parametrize("name", ["clock_read", "buffer_begin", "buffer_end", "buffer_create", "buffer_finalize"])
def test_a_callback_that_raises_is_reported_and_the_trace_is_whole(name, tmp_path):
    client = type("Raises", (ringbuf.Client,), {name: raising(name)})()
    with unraisable() as reports, rings.tracer(client=client, subbuf_size=4096, n_subbufs=8) as tracer:
        event = tracer.event("event", i="u32", text="str")
        assert all([event(i, "x" * 20) for i in range(500)])
        tracer.channel.finalize()
        tracer.snapshot(tmp_path / "trace")
        if name == "clock_read":  # not from the caller's own request
            reports = [report for report in reports if report[2] == client.clock_read]
    assert reports
    for kind, message, where in reports:
        assert (kind, message) == (LookupError, f"from {name}")
        assert where == getattr(client, name)
    judged = judge.read(tmp_path / "trace")
    assert [one["fields"]["i"] for one in judged.events] == list(range(500))


@pytest.mark.parametrize(
    "name", ["record_header_size", "write_record_header", "write_filler", "buffer_begin", "buffer_end"]
)
def test_a_callback_of_a_format_of_ones_own_that_raises_stops_nothing(name):
    client = type("Raises", (Plain,), {name: raising(name)})()
    with unraisable() as reports, small(client=client, n_subbufs=64) as channel:
        for _ in range(100):
            assert channel.write(b"x" * 24)
            slot = channel.reserve(24)
            assert channel.write(b"y" * 24)
            slot.discard()
        channel.finalize()
        assert_exact(channel.stats(), attempts=300)
        with channel.reader() as reader:
            assert sum(packet.n_records for packet in reader) == 200
    assert (LookupError, f"from {name}", getattr(client, name)) in reports
    # its native replacement has another size, which write_record_header is told
    assert {report[0] for report in reports} <= {LookupError, struct.error}


@pytest.mark.parametrize(
    "answer", [(1 << 40, 0), (4, 1 << 40), (-1, 0), (0, -1), ("4", 0), 4, None, (4,), (4, 0, 0), (1 << 70, 0), (3.5, 0)]
)
def test_a_header_size_that_is_none_is_reported_and_replaced(answer):
    client = type(
        "Lies", (Plain,), {"record_header_size": lambda self, *_: answer, "write_record_header": lambda *_: None}
    )()
    with unraisable() as reports, small(client=client) as channel:
        assert channel.write(b"x" * 24)
        channel.flush()
        assert_exact(channel.stats(), attempts=1)
    if answer != (3.5, 0):
        assert reports and all(issubclass(kind, (ValueError, TypeError, OverflowError)) for kind, *_ in reports)


@pytest.mark.parametrize("answer", [-1, 1 << 64, 1 << 100, 1.5, "now", None])
def test_a_clock_that_gives_no_time_is_reported_and_time_stands_still(answer):
    client = Ticker(5, 6, answer, answer, 9)
    with unraisable() as reports, small(client=client) as channel:
        for _ in range(5):
            channel.write(b"x")
        times = [record.timestamp for record in rings.records(channel)]
        assert times == sorted(times) and times[0] == 5
    if answer != 1.5:
        assert {issubclass(report[0], (TypeError, OverflowError, ValueError)) for report in reports} == {True}


def test_reports_have_a_traceback():
    found = []
    before, sys.unraisablehook = sys.unraisablehook, lambda report: found.append(report.exc_traceback)
    try:
        with small(client=type("Raises", (ringbuf.Client,), {"clock_read": raising("clock_read")})()) as channel:
            channel.write(b"x")
    finally:
        sys.unraisablehook = before
    names = []
    traceback = found[0]
    while traceback is not None:
        names.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    assert "callback" in names


# ---- recording from a callback ----


@pytest.mark.parametrize("name", ["clock_read", "record_header_size"])
def test_recording_where_a_record_has_no_place_yet_is_refused_and_counted(name):
    refused = []

    class Records(Plain):
        pass

    def callback(self, *args):
        refused.append(channel.write(b"nested"))
        refused.append(channel.try_reserve(5))
        with pytest.raises(ringbuf.NestingError):
            channel.reserve(5)
        for use in (channel.flush, channel.finalize, channel.clear):
            with pytest.raises(ringbuf.NestingError):
                use()
        return 1 if name == "clock_read" else Plain.record_header_size(self, *args)

    channel = small(client=type("Client", (Records,), {name: callback})(), n_subbufs=64)
    assert all([channel.write(b"x" * 24) for _ in range(10)])
    stats = channel.stats()
    assert stats.records_written == 10
    assert stats.records_lost_nesting == stats.records_lost > 0
    assert set(refused) == {False, None}
    assert_exact(stats)


@pytest.mark.parametrize("name", ["write_record_header", "buffer_begin", "buffer_end"])
def test_recording_from_a_callback_is_a_nested_record(name):
    class Records(Plain):
        depth = deepest = nested = lost = 0

    def callback(self, *args):
        self.depth += 1
        self.deepest = max(self.deepest, self.depth)
        if self.depth < 10:
            if channel.write(b"n" * 24):
                self.nested += 1
            else:
                self.lost += 1
        getattr(Plain, name)(self, *args)
        self.depth -= 1

    client = type("Client", (Records,), {name: callback})()
    channel = small(client=client, n_subbufs=64)
    assert all([channel.write(b"x" * 24) for _ in range(50)])
    channel.flush()
    stats = channel.stats()
    assert client.nested > 0 and client.deepest <= 4
    assert stats.records_lost == stats.records_lost_nesting == client.lost
    assert stats.records_written == 50 + client.nested
    assert_exact(stats, attempts=50 + client.nested + client.lost)
    assert sorted(payloads(channel)) == sorted([b"x" * 24] * 50 + [b"n" * 24] * client.nested)


def test_two_channels_whose_clocks_record_into_each_other_come_to_an_end():
    class Echo(ringbuf.Client):
        def clock_read(self):
            self.other.write(b"echo")
            return 7

    one, other = Echo(), Echo()
    one.other = small("other", client=other)
    other.other = small("one", client=one)
    assert other.other.write(b"x")
    for channel in (one.other, other.other):
        stats = channel.stats()
        assert stats.records_lost == stats.records_lost_nesting
        assert_exact(stats)
    assert other.other.stats().records_lost_nesting == 1
    one.other = other.other = None


def test_callbacks_may_use_other_channels():
    log = small("log", n_subbufs=64)

    class Logs(Plain):
        def record_header_size(self, *args):
            assert log.write(b"size")
            return super().record_header_size(*args)

        def buffer_begin(self, *args):
            assert log.write(b"begin")
            super().buffer_begin(*args)

    with small(client=Logs()) as channel:
        assert channel.write(b"x" * 24)
    found = payloads(log)
    assert b"begin" in found and b"size" in found


# ---- closing from a callback ----


@pytest.mark.parametrize(
    "name", [name for name in vars(Plain) if not name.startswith("_") and name != "record_get"] + ["clock_read"]
)
def test_a_callback_may_close_the_channel(name):
    """In an interpreter of its own: what is feared is a crash."""
    run_script(
        """
import sys
import test_client
from test_client import Plain, ringbuf, small

name = sys.argv[1]

def callback(self, *args):
    if self.channel is not None:
        self.channel.close()
    return Plain.packet_header_size(self) if name == "packet_header_size" else None if name != "clock_read" else 5

class Closes(Plain):
    channel = None

setattr(Closes, name, callback)
if name == "record_header_size":
    Closes.record_header_size = lambda self, *args: (callback(self), Plain.record_header_size(self, *args))[1]
for use in ("write", "reserve", "flush", "finalize"):
    client = Closes()
    channel = small(client=client)
    clock = (lambda: 5) if name == "clock_read" else None
    other = ringbuf.attach(channel.fileno(), client=Plain(), clock=clock)
    if use in ("flush", "finalize"):
        channel.write(b"x" * 24)
    client.channel = channel
    try:
        if use == "write":
            channel.write(b"x" * 24)
        elif use == "reserve":
            slot = channel.reserve(24)
            channel.try_reserve(24)
            slot.discard()
        else:
            getattr(channel, use)()
    except ValueError as error:
        assert "closed" in str(error), error
    client.channel = None
    stats = other.stats()
    assert stats.records_written == stats.records_unread, stats
""",
        name,
    )


def test_another_thread_may_close_the_channel_while_a_callback_runs():
    run_script(
        """
import threading
from test_client import Plain, small

class Slow(Plain):
    def write_record_header(self, *args):
        entered.set()
        closed.wait()
        super().write_record_header(*args)

for use in ("write", "reserve"):
    entered, closed = threading.Event(), threading.Event()
    channel = small(client=Slow())

    def record():
        if use == "write":
            assert channel.write(b"x" * 24)
        else:
            with channel.reserve(24) as slot:
                slot.payload[:] = b"y" * 24

    thread = threading.Thread(target=record)
    thread.start()
    entered.wait()
    channel.close()
    closed.set()
    thread.join()
"""
    )


# ---- buffers ----


def test_a_buffer_is_of_no_use_after_its_callback():
    kept = []

    class Keeps(Plain):
        def write_record_header(self, buffer, event_id, timestamp, flags):
            super().write_record_header(buffer, event_id, timestamp, flags)
            kept.append(buffer)

        def buffer_begin(self, stream, timestamp, subbuf_idx, header):
            super().buffer_begin(stream, timestamp, subbuf_idx, header)
            kept.append(header)

    with small(client=Keeps()) as channel:
        channel.write(b"x" * 24)
    for buffer in kept:
        with pytest.raises(ValueError):
            buffer[0] = 1


def test_a_slice_that_a_callback_keeps_cannot_crash():
    kept = []

    class Keeps(Plain):
        def write_record_header(self, buffer, event_id, timestamp, flags):
            super().write_record_header(buffer, event_id, timestamp, flags)
            kept.append(buffer[:4])

    with small(client=Keeps()) as channel:
        channel.write(b"x" * 24)
    del channel
    gc.collect()
    assert bytes(kept[0]) == struct.pack("<I", 0xABCD)


# ---- clocks ----

STEPS = [
    0, 1, 2, TWO_27 + 1, TWO_27 + 2, 2 * TWO_27 + 2, 3 * TWO_27 + 1, 3 * TWO_27 + 2, 4 * TWO_27 + 3, 5 * TWO_27 + 2,
    1 << 32, (1 << 32) + TWO_27 - 1, (1 << 33) - 1, 1 << 33, 1 << 40, (1 << 40) + 31 * TWO_27, 1 << 62,
    (1 << 62) + TWO_27,
]  # fmt: skip


@pytest.mark.parametrize("header", ["compact", "large"])
def test_times_are_exact_across_steps_of_any_size(header, tmp_path):
    client = Ticker(*(tick for tick in STEPS for _ in range(2)), header=header)
    with rings.tracer(client=client, n_subbufs=8) as tracer:
        event = tracer.event("event", i="u32")
        for i in range(len(STEPS) * 2):
            assert event(i)
        ticks = [record.timestamp for record in rings.records(tracer.channel)]
    assert ticks == [tick for tick in STEPS for _ in range(2)]


@pytest.mark.parametrize("header", ["compact", "large"])
@pytest.mark.parametrize("step", [TWO_27 - 1, TWO_27, TWO_27 + 1, (1 << 32) - 1, 1 << 32, (1 << 32) + 1])
def test_babeltrace_reads_every_gap_as_it_was(header, step, tmp_path):
    ticks = [1000 + i * step for i in range(60)]
    with rings.tracer(client=Ticker(*ticks, header=header), subbuf_size=4096, n_subbufs=8) as tracer:
        event = tracer.event("event", i="u32", fill="u8[100]")
        for i in range(60):
            assert event(i, bytes(100))
        tracer.snapshot(tmp_path / "trace")
    judged = judge.events(tmp_path / "trace")
    assert [one["ticks"] for one in judged] == ticks
    assert [one["ns"] for one in judged] == [1_700_000_000 * 10**9 + tick for tick in ticks]


@pytest.mark.parametrize("back", [1, 1000, TWO_27 - 1, TWO_27, TWO_27 + 1, 1 << 40])
def test_a_clock_that_steps_back_stands_still(back, tmp_path):
    start = 1 << 41
    ticks = [start, start + 5, start + 5 - back, start - back + 6, start + 6, start + 6 + TWO_27]
    with rings.tracer(client=Ticker(*ticks)) as tracer:
        event = tracer.event("event", i="u32")
        for i in range(len(ticks)):
            assert event(i)
        tracer.snapshot(tmp_path / "trace")
        judged = [one["ticks"] for one in judge.events(tmp_path / "trace")]
        assert judged == [max(ticks[: i + 1]) for i in range(len(ticks))]
        assert [record.timestamp for record in rings.records(tracer.channel)] == judged


def test_a_clock_that_stepped_back_for_good_holds_no_records_up():
    with rings.tracer(client=Ticker(1000, 5)) as tracer:
        event = tracer.event("event", i="u32")
        event(1)
        event(2)
        with tracer.channel.reader() as reader:
            assert [record.fields["i"] for record in reader.records(timeout=0)] == [1, 2]


def test_gaps_at_packet_boundaries_are_exact(tmp_path):
    """The first record of a packet has its time in full if it is far from the last record of the packet before."""
    now = [0]
    with small(clock=lambda: now[0], n_subbufs=64) as channel:
        times = []
        for i in range(40):
            now[0] += (TWO_27 - 1, TWO_27, TWO_27 + 1, 3)[i % 4]
            times.append(now[0])
            assert channel.write(b"x")
            channel.flush()
        assert [record.timestamp for record in rings.records(channel)] == times


def test_a_callable_clock_counts_nanoseconds_since_the_epoch():
    with small(clock=lambda: 123_456_789) as channel:
        channel.write(b"x")
        assert channel.clock_parameters[0] == "custom"
        assert channel.current_timestamp() == 123_456_789
        (record,) = rings.records(channel)
        assert record.timestamp == record.time_ns == 123_456_789


def test_many_threads_share_a_clock_of_python():
    ticks = iter(range(10**9))
    with small(clock=lambda: next(ticks), subbuf_size=1 << 16) as channel:

        def run():
            for _ in range(300):
                assert channel.write(b"x")

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        times = [record.timestamp for record in rings.records(channel)]
        assert len(times) == 1200 and times == sorted(times)


# ---- other processes ----


def test_attaching_without_the_client_is_refused():
    with small(client=Plain()) as channel:
        with pytest.raises(ringbuf.RegionError, match="client"):
            ringbuf.attach(channel.fileno())
        with ringbuf.attach(channel.fileno(), client=Plain()) as other:
            assert other.write(b"y" * 24)
            assert payloads(channel) == [b"y" * 24]


def test_attaching_without_the_clock_is_refused():
    with small(clock=lambda: 5) as channel:
        with pytest.raises(ringbuf.RegionError, match="client"):
            ringbuf.attach(channel.fileno())
        with ringbuf.attach(channel.fileno(), clock=lambda: 9) as other:
            other.write(b"y")
            assert [record.timestamp for record in rings.records(channel)] == [9]


class Bytes(ringbuf.Client):
    def record_header_size(self, offset, event_id, flags):
        return 8, 0

    def write_record_header(self, buffer, event_id, timestamp, flags):
        buffer[:] = bytes(8)


@pytest.mark.parametrize(
    ("made", "passed"),
    [
        ({}, {"clock": lambda: 5}), ({}, {"client": Ticker(5)}), ({}, {"client": Bytes()}),
        ({"clock": lambda: 5}, {"client": Bytes()}), ({"clock": lambda: 5}, {"client": Bytes(), "clock": lambda: 5}),
        ({"client": Bytes()}, {"clock": lambda: 5}), ({"client": Bytes()}, {"client": Bytes(), "clock": lambda: 5}),
    ],
)  # fmt: skip
def test_attaching_with_another_client_or_clock_is_refused(made, passed):
    with small(**made) as channel, pytest.raises(ringbuf.RegionError, match="another client or clock"):
        ringbuf.attach(channel, **passed)


@pytest.mark.parametrize("clock", ["tsc", 5, float("nan")])
def test_attaching_with_a_clock_that_is_none_is_refused(clock):
    with small() as channel, pytest.raises(TypeError, match="clock"):
        ringbuf.attach(channel, clock=clock)


def test_a_forked_child_makes_the_same_calls():
    client = Plain()
    with small(client=client) as channel:

        def child():
            client.calls.clear()
            assert channel.write(b"c" * 24)
            assert ("header", 16, 0, 1) in client.calls

        in_fork(child)
        assert ("header", 16, 0, 1) not in client.calls
        assert payloads(channel) == [b"c" * 24]


def test_the_creating_process_alone_makes_streams():
    client = Plain()
    with small(client=Plain(), streams="global") as channel, ringbuf.attach(channel.fileno(), client=client) as other:
        assert not any(call[0] == "create" for call in client.calls)
        other.finalize()
        assert client.calls[-1] == ("finalize", 0, 0)


def test_every_stream_is_made_and_finalized():
    client = Plain()
    with small("many", client=client, streams="per-cpu", n_streams=3) as channel:
        assert client.calls == [("create", i, i, "many") for i in range(3)]
        client.calls.clear()
        in_thread(channel.finalize)
        assert client.calls == [("finalize", i, i) for i in range(3)]


def test_a_recorder_calls_a_clock_of_python_from_its_own_thread(tmp_path):
    ticks = iter(range(10**9))
    with rings.tracer(clock=lambda: next(ticks), switch_timer=0.02) as tracer:
        event = tracer.event("event", i="u32")
        with tracer.record(tmp_path / "trace"):
            for i in range(500):
                assert event(i)
        assert [one["fields"]["i"] for one in judge.events(tmp_path / "trace")] == list(range(500))
