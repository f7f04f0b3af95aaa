"""trace.py: trace directories. babeltrace2 judges every trace that is valid."""

import os
import struct

import ctf_writer
import judge
import numpy
import pytest
import rings
from agreement import assert_agrees
from hypothesis import HealthCheck, Phase, given, settings
from test_decode import channels
from test_tsdl import packetized

from ringbuf.ctf.metadata import ChannelLayout, ClockInfo, channel_metadata
from ringbuf.ctf.schema import EventSchema
from ringbuf.errors import TraceError
from ringbuf.trace.trace import Lost, Trace, open_trace

UUID = b"fedcba9876543210"


def layout(*texts, per_cpu=True, **more):
    events = [EventSchema(index, f"e{index}", fields=text) for index, text in enumerate(texts)]
    return ChannelLayout(UUID, "compact", per_cpu, ClockInfo(10**9, 50), **{"events": events, **more})


CHANNEL = layout("x:u32", "text:str")


def packet(times, *, cpu=0, **more):
    """A packet with e0 at each time, whose field is that time."""
    made = ctf_writer.Packet(CHANNEL, cpu=cpu, begin=more.pop("begin", min(times, default=0)), **more)
    for time in times:
        made.event(0, time, [time])
    return made.bytes()


def write(tmp_path, **files):
    return ctf_writer.write(tmp_path / "trace", CHANNEL, **files)


# ---- records ----


@settings(max_examples=15, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture])
# The bindings of babeltrace2 2.0 fail on an enumeration whose first value has no label.
@given(channels(only_labelled=True))
def test_babeltrace2_agrees_on_whatever_was_written(tmp_path_factory, written):
    channel, packets, events = written
    directory = tmp_path_factory.mktemp("trace")
    ctf_writer.write(directory, channel, stream=[one.bytes() for one in packets])
    records = assert_agrees(directory)
    assert [(record.event_id, record.ticks) for record in records] == [event[:2] for event in events]


def test_some_events_or_some_time_can_be_asked_for(tmp_path, rng, monkeypatch):
    monkeypatch.setattr("ringbuf.trace.trace._CHUNK", 8192)
    trace = open_trace(many(tmp_path, rng))
    every = list(trace)
    begin, end = sorted(rng.choice(every).timestamp for _ in range(2))
    both = {"e0", "e1"}
    for events, names in ((None, both), ("e1", {"e1"}), (["e*"], both), (["e1", "[a-e]0"], both)):
        expected = [one for one in every if one.name in names]
        assert list(trace.records(events)) == expected
        within = [one for one in expected if begin <= one.timestamp <= end]
        assert list(trace.records(events, begin=begin, end=end)) == within
        assert "".join(trace.iter_text(events=events, begin=begin, end=end)).count("\n") == len(within)
        assert list(trace.records(events, begin=begin)) == [one for one in expected if one.timestamp >= begin]
    with pytest.raises(TraceError, match="no event is called 'x'"):
        trace.records(["e0", "x"])


def test_packets_of_another_time_are_not_read(tmp_path):
    data = [packet([10 * n, 10 * n + 5], seq=n) for n in range(4)]
    directory = write(tmp_path, chan_0=data)
    trace = open_trace(directory)
    assert len(trace.packets) == 4
    path = directory / "chan_0"
    path.write_bytes(data[0] + data[1] + b"\xff" * len(data[2]) + data[3])
    first = trace.packets[0].begin
    assert [one.fields["x"] for one in trace.records(begin=first + 5, end=first + 12)] == [5, 10]
    with pytest.raises(TraceError):
        list(trace.records(begin=first + 5, end=first + 22))


def test_streams_are_merged_by_time_and_ties_go_by_stream(tmp_path):
    directory = write(
        tmp_path,
        chan_1=[packet([1, 4, 4, 9], cpu=1), packet([9, 9], cpu=1, seq=1)],
        chan_0=[packet([4, 8], cpu=0), packet([9], cpu=0, seq=1)],
        chan_2=[packet([2, 9], cpu=2)],
    )
    records = assert_agrees(directory)
    expected = [(1, 1), (2, 2), (4, 0), (4, 1), (4, 1), (8, 0), (9, 0), (9, 1), (9, 1), (9, 1), (9, 2)]
    assert [(record.ticks, record.cpu) for record in records] == expected
    assert [(row["x"], row["cpu"]) for row in open_trace(directory).to_numpy("e0")] == expected


def test_times_are_nanoseconds_since_the_epoch(tmp_path):
    directory = write(tmp_path, chan_0=[packet([5])])
    (record,) = open_trace(directory)
    assert (record.timestamp, record.time_ns, record.ticks) == (50 * 10**9 + 5, 50 * 10**9 + 5, 5)
    assert repr(record) == "Record(50000000005, 'e0', cpu=0, fields={'x': 5})"


def test_each_iteration_starts_from_the_beginning(tmp_path):
    trace = open_trace(write(tmp_path, chan_0=[packet([1, 2])]))
    first = iter(trace)
    next(first)
    assert [record.ticks for record in trace] == [1, 2]
    assert [record.ticks for record in first] == [2]


def test_a_global_stream_has_no_cpu(tmp_path):
    channel = layout("x:u8", per_cpu=False)
    packet = ctf_writer.Packet(channel).event(0, 1, [7])
    directory = ctf_writer.write(tmp_path / "trace", channel, chan=[packet.bytes()])
    (record,) = assert_agrees(directory)
    trace = open_trace(directory)
    assert (record.cpu, trace.streams[0].cpu, trace.to_numpy("e0")["cpu"].tolist()) == (None, None, [-1])


def test_a_closed_trace_is_not_read(tmp_path):
    with open_trace(write(tmp_path, chan_0=[packet([1])])) as trace:
        assert len(trace) == 1
    with pytest.raises(ValueError, match="closed"):
        list(trace)


# ---- what the trace tells of itself ----

TYPES = (
    "a:u8,b:u16,c:u32,d:u64,e:i8,f:i16,g:i32,h:i64,i:f32,j:f64,k:bool,l:str,m:bytes,n:bytes@64,o:u32[],p:f64[3],"
    "q:bool[],r:bool[2],s:u8{RED=0,GREEN=1},t:i16{LOW=-5},u:bytes"
)


def test_events_have_the_schema_they_were_declared_with(tmp_path):
    events = [EventSchema(3, "checkout", "own:str", TYPES), EventSchema(1, "other")]
    channel = layout(contexts="vpid:i32", events=events)
    trace = open_trace(ctf_writer.write(tmp_path / "trace", channel))
    assert list(trace.events) == ["checkout", "other"]
    event = trace.events["checkout"]
    assert (event.name, event.id, event.stream_id) == ("checkout", 3, 0)
    assert ",".join(f"{field.name}:{field.type}" for field in event.fields) == TYPES
    assert [(field.name, field.type) for field in event.contexts] == [("vpid", "i32"), ("own", "str")]
    assert {field.name: dict(field.labels) for field in event.fields if field.labels} == {
        "s": {"RED": (0, 0), "GREEN": (1, 1)},
        "t": {"LOW": (-5, -5)},
    }


def test_a_trace_tells_its_environment_clock_and_path(tmp_path):
    channel = layout("", env={"hostname": "h", "pid": 5})
    trace = open_trace(ctf_writer.write(tmp_path / "trace", channel))
    assert dict(trace.env) == {"hostname": "h", "pid": 5}
    assert (trace.clock.freq, trace.clock.offset_s, trace.clock.name) == (10**9, 50, "ringbuf")
    assert trace.path == str(tmp_path / "trace")
    assert (trace.streams, trace.packets, trace.time_range, len(trace), list(trace)) == ((), (), None, 0, [])
    assert trace.lost == Lost()


def test_packets_tell_where_they_are(tmp_path):
    other = [packet([7], cpu=1, discarded=3)]
    directory = write(tmp_path, chan_1=other, chan_0=[packet([1]), packet([], begin=9, seq=1)])
    trace = open_trace(directory)
    told = [(p.file, p.offset, p.size, p.content_size, p.begin, p.end, p.sequence_number, p.cpu) for p in trace.packets]
    start = 50 * 10**9
    assert told == [
        ("chan_0", 0, 4096, 92, start + 1, start + 1, 0, 0),
        ("chan_0", 4096, 4096, 84, start + 9, start + 9, 1, 0),
        ("chan_1", 0, 4096, 92, start + 7, start + 7, 0, 1),
    ]
    assert [p.events_discarded for p in trace.packets] == [0, 0, 3]
    assert [(stream.id, stream.instance_id, stream.cpu, len(stream.packets)) for stream in trace.streams] == [
        (0, 0, 0, 2),
        (0, 1, 1, 1),
    ]
    assert trace.time_range == (start + 1, start + 9)
    assert repr(trace).endswith("2 events, 2 streams, 3 packets>")


def test_events_are_counted_by_name(tmp_path):
    made = ctf_writer.Packet(CHANNEL).event(0, 1, [1]).event(1, 2, ["a"]).event(0, 3, [1])
    trace = open_trace(write(tmp_path, chan_0=[made.bytes()], chan_1=[packet([5], cpu=1)]))
    assert trace.count() == {"e0": 3, "e1": 1}
    assert len(trace) == 4


def test_losses_agree_with_babeltrace2_stream_by_stream(tmp_path):
    def packets(cpu, *told):
        return [packet([10 * n], cpu=cpu, seq=seq, discarded=lost) for n, (seq, lost) in enumerate(told)]

    directory = write(
        tmp_path,
        chan_0=packets(0, (0, 0), (1, 5), (2, 5), (6, 2**40)),
        chan_1=packets(1, (7, 100), (8, 101), (8, 101)),
        chan_2=packets(2, (3, 0)),
    )
    assert_agrees(directory)
    lost = open_trace(directory).lost
    assert (lost.events, lost.packets, lost.events_before) == (2**40 + 1, 3, 100)
    assert lost.streams == (Lost(2**40, 3, 0), Lost(1, 0, 100), Lost())
    losses = judge.read(directory).discarded_events
    assert sorted((loss["stream"], loss["count"]) for loss in losses if loss["count"]) == [
        ([0, 0], 5), ([0, 0], 2**40 - 5), ([0, 1], 1),
    ]  # fmt: skip


# ---- columns ----


def many(tmp_path, rng, streams=3, packets=40):
    """Streams whose packets overlap in time, with many equal times."""
    files, events = {}, []
    for cpu in range(streams):
        now, made = rng.randrange(20), []
        for seq in range(packets):
            one = ctf_writer.Packet(CHANNEL, begin=now, cpu=cpu, seq=seq)
            for _ in range(rng.randrange(30)):
                now += rng.choice((0, 0, 1, 5))
                one.event(0, now, [len(events)])
                events.append(now)
                if rng.random() < 0.3:
                    one.event(1, now, [str(len(events))])
            made.append(one.bytes())
        files[f"chan_{cpu}"] = made
    return write(tmp_path, **files)


def test_columns_are_in_the_order_of_the_records(tmp_path, rng):
    directory = many(tmp_path, rng)
    records = assert_agrees(directory)
    trace = open_trace(directory)
    tables = trace.to_numpy()
    for name, field in (("e0", "x"), ("e1", "text")):
        expected = [(record.timestamp, record.cpu, record.fields[field]) for record in records if record.name == name]
        assert tables[name].tolist() == expected
        assert trace.to_numpy(name).tolist() == expected


@pytest.mark.parametrize("name", ["e0", "e1"])
@pytest.mark.parametrize("rows", [1, 50, 10**6])
def test_columns_can_be_read_a_part_at_a_time(tmp_path, rng, monkeypatch, name, rows):
    monkeypatch.setattr("ringbuf.trace.trace._CHUNK", 8192)
    trace = open_trace(many(tmp_path, rng))
    parts = list(trace.iter_numpy(name, rows))
    assert numpy.concatenate(parts).tolist() == trace.to_numpy(name).tolist()
    if rows < 100:
        # No part is much larger than what was asked for and one chunk of each stream.
        assert len(parts) > 3
        assert max(map(len, parts)) < rows + 3 * 2 * 30


def test_an_event_that_never_happened_has_an_empty_table(tmp_path):
    trace = open_trace(write(tmp_path, chan_0=[packet([1])]))
    for table in (trace.to_numpy("e1"), trace.to_numpy()["e1"]):
        assert (len(table), table.dtype.names) == (0, ("timestamp", "cpu", "text"))
    assert list(trace.iter_numpy("e1")) == []


@pytest.mark.parametrize("method", ["to_numpy", "iter_numpy"])
def test_an_event_that_does_not_exist_is_a_key_error(tmp_path, method):
    trace = open_trace(write(tmp_path, chan_0=[packet([1])]))
    with pytest.raises(KeyError, match="nothing"):
        getattr(trace, method)("nothing")


def test_event_classes_that_share_a_name_share_a_table_if_they_can(tmp_path):
    events = [EventSchema(0, "same", fields="x:u8"), EventSchema(1, "same", fields="x:u8")]
    channel = layout(events=events)
    made = ctf_writer.Packet(channel).event(1, 1, [1]).event(0, 2, [2]).event(1, 3, [3])
    trace = open_trace(ctf_writer.write(tmp_path / "trace", channel, chan=[made.bytes()]))
    assert trace.to_numpy("same")["x"].tolist() == [1, 2, 3]
    assert (trace.count(), trace.events["same"].id, len(trace.event_classes)) == ({"same": 3}, 0, 2)

    other = layout(events=[events[0], EventSchema(1, "same", fields="x:u16")])
    trace = open_trace(ctf_writer.write(tmp_path / "other", other))
    with pytest.raises(TraceError, match="'same' differ"):
        trace.to_numpy("same")


# ---- damage ----


def damage(directory, name, offset, data):
    with open(directory / name, "r+b") as file:
        file.seek(offset)
        file.write(data)


def three_packets(tmp_path):
    return write(tmp_path, chan_0=[packet([10 * n, 10 * n + 1], seq=n) for n in range(3)], chan_1=[packet([5], cpu=1)])


@pytest.mark.parametrize(
    ("place", "data", "reason"),
    [
        (4096, b"\0", "magic number"),
        (4096 + 48, b"\xff" * 8, "are impossible"),
        (4096 + 56, b"\xf8" + b"\xff" * 6, "but the file ends"),
        (4096 + 84, b"\x1d", "an id that the metadata lacks"),
        (4096 + 48, struct.pack("<Q", 8 * 90), "content ends too early"),
    ],
)
def test_a_damaged_packet_costs_that_packet_only(tmp_path, place, data, reason):
    directory = three_packets(tmp_path)
    damage(directory, "chan_0", place, data)
    for read in (list, len, Trace.to_numpy, lambda trace: list(trace.iter_numpy("e0"))):
        with pytest.raises(TraceError, match=f"chan_0: packet at byte 4096: .*{reason}"):
            read(open_trace(directory))
    trace = open_trace(directory, errors="skip")
    for _ in range(2):
        assert [record.ticks for record in trace] == [0, 1, 5, 20, 21]
        assert trace.to_numpy("e0")["x"].tolist() == [0, 1, 5, 20, 21]
        assert (len(trace), trace.skipped_packets) == (5, 1)


def test_a_file_that_ends_within_a_packet_loses_that_packet_only(tmp_path):
    directory = three_packets(tmp_path)
    os.truncate(directory / "chan_0", 8192 + 50)
    with pytest.raises(TraceError, match="chan_0: packet at byte 8192: "):
        list(open_trace(directory))
    trace = open_trace(directory, errors="skip")
    assert ([record.ticks for record in trace], trace.skipped_packets) == ([0, 1, 5, 10, 11], 1)


def test_the_next_packet_is_found_across_the_edge_of_a_piece(tmp_path, monkeypatch):
    directory = write(tmp_path, chan_0=[packet([10 * n], seq=n) for n in range(3)])
    damage(directory, "chan_0", 0, b"\0")
    for piece in range(20, 4100, 51):
        monkeypatch.setattr("ringbuf.trace.sources._CHUNK", piece)
        trace = open_trace(directory, errors="skip")
        assert ([record.ticks for record in trace], trace.skipped_packets) == ([10, 20], 1)


def test_a_file_that_shrinks_while_it_is_read_is_an_error(tmp_path):
    directory = three_packets(tmp_path)
    trace = open_trace(directory)
    assert len(trace.packets) == 4
    os.truncate(directory / "chan_0", 4096)
    with pytest.raises(TraceError, match="chan_0: .*cut short"):
        list(trace)


def test_no_damage_to_a_trace_does_more_than_raise_a_trace_error(tmp_path, rng):
    directory = many(tmp_path, rng, streams=2, packets=5)
    good = {name: (directory / name).read_bytes() for name in ("metadata", "chan_0", "chan_1")}
    opened = 0
    for _ in range(250):
        name = rng.choice(list(good))
        data = bytearray(good[name])
        for _ in range(rng.choice((1, 2, 20))):
            at = rng.randrange(len(data)) if name == "metadata" else rng.randrange(5) * 4096 + rng.randrange(400)
            data[at] = rng.choice((0, 255, 128, rng.randrange(256)))
        (directory / name).write_bytes(data[: rng.choice((len(data), rng.randrange(len(data))))])
        try:
            trace = open_trace(directory, errors=rng.choice(("raise", "skip")))
            list(trace)
            trace.to_numpy()
            opened += 1
        except TraceError:
            pass
        (directory / name).write_bytes(good[name])
    assert opened > 20


# ---- directories ----


def test_what_is_no_trace_is_refused_with_the_reason(tmp_path):
    with pytest.raises(TraceError, match="not a directory"):
        open_trace(tmp_path / "missing")
    with pytest.raises(TraceError, match="there is no file called metadata, neither here nor below$"):
        open_trace(tmp_path)
    directory = write(tmp_path)
    with pytest.raises(ValueError, match="errors"):
        open_trace(directory, errors="ignore")
    metadata = directory / "metadata"
    metadata.write_text(metadata.read_text().replace("1.8", "1.9", 1))
    with pytest.raises(TraceError, match="the first line is not"):
        open_trace(directory)
    metadata.write_text(channel_metadata(CHANNEL) + "\nunion u { };\n")
    line = channel_metadata(CHANNEL).count("\n") + 2
    with pytest.raises(TraceError, match=f"metadata line {line}: 'union' is not supported"):
        open_trace(directory)


def test_metadata_that_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "metadata")
    code = "import ringbuf, sys; ringbuf.open_trace(sys.argv[1])"
    assert "metadata: not a file" in rings.script(code, tmp_path).stderr


def test_times_beyond_64_bits_are_no_times(tmp_path):
    with open_trace(write(tmp_path, chan_0=[packet([1, 2])])) as trace:
        always = {"begin": -(10**30), "end": 10**30}
        assert len(list(trace.records(**always))) == len(trace) > 0
        assert "".join(trace.iter_text(**always)) == "".join(trace.iter_text())
        assert "".join(trace.iter_text(begin=10**30)) == "".join(trace.iter_text(end=-(10**30))) == ""


def test_other_things_in_the_directory_are_left_alone(tmp_path):
    directory = write(tmp_path, chan_0=[packet([1])], empty=[])
    (directory / ".hidden").write_bytes(b"not a packet")
    (directory / "index").mkdir()
    (directory / "index" / "chan_0.idx").write_bytes(b"not a packet")
    assert len(assert_agrees(directory)) == 1


def test_a_stream_may_be_in_several_files(tmp_path):
    directory = write(
        tmp_path,
        chan_0_1=[packet([30], seq=2), packet([40], seq=3)],
        chan_0_0=[packet([50], seq=4)],
        chan_0_2=[packet([10], seq=0), packet([20], seq=1)],
        chan_1_0=[packet([25], cpu=1)],
    )
    records = assert_agrees(directory)
    assert [record.ticks for record in records] == [10, 20, 25, 30, 40, 50]
    assert [len(stream.packets) for stream in open_trace(directory).streams] == [5, 1]


@pytest.mark.parametrize("order", ["<", ">"])
def test_metadata_in_packets_is_read(tmp_path, order):
    directory = write(tmp_path, chan_0=[packet([1, 2])])
    metadata = directory / "metadata"
    metadata.write_bytes(packetized(metadata.read_bytes(), order))
    assert [record.ticks for record in open_trace(directory)] == [1, 2]


# ---- traces of others ----


class Foreign:
    """Packets of a tracer that aligns naturally, in either byte order."""

    def __init__(self, order):
        self.order, self.data = order, bytearray()

    def put(self, code, *values, align=None):
        for value in values:
            packed = struct.pack(self.order + code, value)
            self.align(len(packed) if align is None else align)
            self.data += packed
        return self

    def align(self, align):
        self.data += b"\xee" * (-len(self.data) % align)
        return self

    def text(self, data):
        self.data += data
        return self


def natural(order, header):
    """LTTng's metadata where types are aligned naturally."""
    name = {"<": "le", ">": "be"}[order]
    id_type, top, bits, align = ("uint5_t", 31, 27, 1) if header == "compact" else ("uint16_t", 65535, 32, 32)
    integers = "".join(
        f"typealias integer {{ size = {size}; align = {size}; signed = false; }} := uint{size}_t;\n"
        f"typealias integer {{ size = {size}; align = {size}; signed = true; }} := int{size}_t;\n"
        for size in (8, 16, 32, 64)
    )
    return f"""/* CTF 1.8 */
{integers}typealias integer {{ size = 64; align = 64; signed = false; }} := unsigned long;
typealias integer {{ size = 5; align = 1; signed = false; }} := uint5_t;
trace {{
	major = 1; minor = 8; uuid = "66656463-6261-3938-3736-353433323130"; byte_order = {name};
	packet.header := struct {{ uint32_t magic; uint8_t uuid[16]; uint32_t stream_id; uint64_t stream_instance_id; }};
}};
env {{ hostname = "h"; domain = "ust"; tracer_name = "lttng-ust"; tracer_major = 2; tracer_minor = 13; }};
clock {{ name = "monotonic"; uuid = "2a6422d0-6cee-11e0-8c08-cb07d7b3a564"; freq = 1000000000; offset = 1000; }};
typealias integer {{ size = {bits}; align = {align}; signed = false; map = clock.monotonic.value; }} := short_time_t;
typealias integer {{ size = 64; align = 64; signed = false; map = clock.monotonic.value; }} := time_t;
struct packet_context {{
	time_t timestamp_begin; time_t timestamp_end; uint64_t content_size; uint64_t packet_size;
	uint64_t packet_seq_num; unsigned long events_discarded; uint32_t cpu_id;
}};
struct event_header {{
	enum : {id_type} {{ compact = 0 ... {top - 1}, extended = {top} }} id;
	variant <id> {{
		struct {{ short_time_t timestamp; }} compact;
		struct {{ uint32_t id; time_t timestamp; }} extended;
	}} v;
}} align({32 if header == "compact" else 16});
stream {{
	id = 5; event.header := struct event_header; packet.context := struct packet_context;
	event.context := struct {{
		int32_t _vpid;
		integer {{ size = 8; align = 8; signed = 1; encoding = UTF8; base = 10; }} _procname[6];
	}};
}};
event {{
	name = "ust:one"; id = 0; stream_id = 5; loglevel = 13;
	fields := struct {{
		uint8_t _small; int64_t _big; floating_point {{ exp_dig = 8; mant_dig = 24; align = 32; }} _ratio;
		integer {{ size = 16; align = 16; signed = 0; byte_order = be; base = 16; }} _port;
		string _text; uint16_t __many_length; uint32_t _many[ __many_length ];
		uint8_t __letters_length;
		integer {{ size = 8; align = 8; signed = 1; encoding = UTF8; }} _letters[ __letters_length ];
		enum : uint8_t {{ "RED" = 0, "GREEN" = 2 ... 5 }} _colour; int16_t _matrix[2][2];
	}};
}};
event {{
	name = "ust:two"; id = 1; stream_id = 5;
	context := struct {{ uint64_t _ip; }};
	fields := struct {{
		integer {{ size = 3; align = 1; }} _three; integer {{ size = 11; align = 1; signed = true; }} _eleven;
		integer {{ size = 2; align = 1; }} _two;
		struct {{ uint8_t _a; uint32_t _b; }} _pair;
		enum : uint8_t {{ _number, _word }} _kind; variant <_kind> {{ uint32_t _number; string _word; }} _either;
		uint8_t _tail;
	}};
}};
event {{
	name = "ust:three"; id = 70000; stream_id = 5;
	fields := struct {{ uint8_t _a; uint64_t _b; int16_t _c[2]; }};
}};
"""


def bit_field(order, *parts):
    """(value, bits) one after another as two bytes."""
    word, at = 0, 0
    for value, bits in parts:
        value &= (1 << bits) - 1
        word |= value << at if order == "<" else value << (16 - at - bits)
        at += bits
    return word


def foreign_events(made, order, header):
    """Three events of each kind; returns what their fields should be."""
    fields, now = [], 100

    def begin(id_):
        nonlocal now
        now += 2**26
        if header == "compact" and id_ < 31:
            made.put("I", id_ | now % 2**27 << 5 if order == "<" else id_ << 27 | now % 2**27)
        elif header == "compact":
            made.align(4)
            made.put("B", 31 if order == "<" else 31 << 3).align(8)
            made.put("I", id_).put("Q", now)
        elif id_ < 65535:
            made.put("H", id_).put("I", now % 2**32)
        else:
            made.put("H", 65535).align(8)
            made.put("I", id_).put("Q", now)

    for n in range(3):
        begin(0)
        made.put("i", -n).text(b"proc\0\0")
        made.align(8)
        made.put("B", n).put("q", -(2**40) * n).put("f", n / 2).align(2)
        made.text(struct.pack(">H", 8080 + n)).text(b"hi" * n + b"\0").put("H", n).align(4)
        made.put("I", *range(n)).put("B", n).text(b"xyz"[:n]).put("B", 2 * n).put("h", 1, -1, n, -n)
        fields.append({
            "small": n, "big": -(2**40) * n, "ratio": n / 2, "port": 8080 + n, "text": "hi" * n, "many": list(range(n)),
            "letters": "xyz"[:n], "colour": ["RED", "GREEN", "GREEN"][n], "matrix": [[1, -1], [n, -n]],
        })  # fmt: skip
        begin(1)
        made.put("i", n).text(b"proc\0\0").put("Q", 2**63 + n).align(4)
        made.put("H", bit_field(order, (n + 3, 3), (-500 - n, 11), (n, 2))).align(4)
        made.put("B", n).put("I", 9 * n).put("B", n % 2)
        if n % 2:
            made.text(b"word\0")
        else:
            made.put("I", 1000 + n)
        made.put("B", 77)
        either = "word" if n % 2 else 1000 + n
        kind = "_word" if n % 2 else "_number"
        fields.append({
            "three": n + 3, "eleven": -500 - n, "two": n, "pair": {"a": n, "b": 9 * n}, "kind": kind, "either": either,
            "tail": 77,
        })  # fmt: skip
        begin(70000)
        made.put("i", 5).text(b"longer").align(8)
        made.put("B", n).put("Q", 2**64 - 1 - n).put("h", n, -n)
        fields.append({"a": n, "b": 2**64 - 1 - n, "c": [n, -n]})
    return fields, now


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("header", ["compact", "large"])
def test_traces_of_lttng_with_natural_alignment_are_read(tmp_path, order, header):
    (tmp_path / "metadata").write_text(natural(order, header))
    made = Foreign(order)
    made.put("I", 0xC1FC1FC1).text(UUID).put("I", 5).put("Q", 9)
    made.put("Q", 100, 0, 0, 0, 0, 0).put("I", 2)
    fields, end = foreign_events(made, order, header)
    struct.pack_into(order + "QQQ", made.data, 40, end, 8 * len(made.data), 8 * 4096)
    (tmp_path / "chan_0").write_bytes(made.data.ljust(4096, b"\0"))

    records = list(open_trace(tmp_path))
    judged = judge.events(tmp_path)
    assert [(r.name, r.time_ns, r.cpu) for r in records] == [(e["name"], e["ns"], e["cpu"]) for e in judged]
    assert [record.fields for record in records] == fields
    assert [record.contexts["procname"] for record in records[:3]] == ["proc", "proc", "longer"]
    assert records[1].contexts == {"vpid": 0, "procname": "proc", "ip": 2**63}
    for record, event in zip(records, judged, strict=True):
        for name, value in record.fields.items():
            assert event["fields"][name] == value or event["labels"][name][0] == value
        assert event["contexts"]["stream"].items() <= record.contexts.items()
    trace = open_trace(tmp_path)
    assert [(field.name, field.type) for field in trace.events["ust:one"].fields] == [
        ("small", "u8"), ("big", "i64"), ("ratio", "f32"), ("port", "u16"), ("text", "str"), ("many", "u32[]"),
        ("letters", "str[]"), ("colour", "u8{RED=0,GREEN=2...5}"), ("matrix", "i16[2][2]"),
    ]  # fmt: skip
    assert [field.type for field in trace.events["ust:two"].fields] == [
        "u3", "i11", "u2", "struct", "u8{_number=0,_word=1}", "variant", "u8",
    ]  # fmt: skip
    table = trace.to_numpy("ust:three")
    for name in ("a", "b", "c"):
        assert table[name].tolist() == [f[name] for f in fields[2::3]]
    one, two = trace.to_numpy("ust:one"), trace.to_numpy("ust:two")
    assert one["matrix"].tolist() == [f["matrix"] for f in fields[::3]]
    assert [cell.tolist() for cell in one["many"]] == [[], [0], [0, 1]]
    assert one["port"].tolist() == [8080, 8081, 8082]
    assert two["eleven"].tolist() == [-500, -501, -502]
    assert two["pair"]["b"].tolist() == [0, 9, 18]
    assert two["either"].tolist() == [1000, "word", 1002]
