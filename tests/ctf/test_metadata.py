"""metadata.py: the metadata of a channel. babeltrace2 judges it on packets written by ctf_writer."""

import itertools
import re
from pathlib import Path

import ctf_writer
import judge
import pytest
from agreement import assert_agrees, plain

from ringbuf.ctf import metadata, tsdl
from ringbuf.ctf.metadata import ChannelLayout, ClockInfo
from ringbuf.ctf.schema import EventSchema
from ringbuf.trace.trace import open_trace

UUID = bytes(range(1, 17))
CLOCK = ClockInfo(10**9, 1_700_000_000, 5)


def layout(*fields, header="compact", per_cpu=True, clock=CLOCK, **more):
    """A channel with one event per schema text; each is called by its number."""
    events = [EventSchema(index, f"event {index}", fields=text) for index, text in enumerate(fields)]
    return ChannelLayout(UUID, header, per_cpu, clock, **{"events": events, **more})


def written(tmp_path, channel, *packets, name="trace"):
    return ctf_writer.write(tmp_path / name, channel, stream_0=[packet.bytes() for packet in packets])


every_header = pytest.mark.parametrize(
    ("header", "per_cpu", "header_align", "holes"),
    list(itertools.product(["compact", "large"], [True, False], [1, 4], [True, False])),
)


@every_header
def test_babeltrace2_reads_every_kind_of_event_header(tmp_path, header, per_cpu, header_align, holes):
    ids = [0, 29, 30, 31, 32, 65533, 65534, 65535, 2**32 - 1]
    events = [EventSchema(id_, f"e{id_}", fields="x:u8") for id_ in ids]
    channel = layout(header=header, per_cpu=per_cpu, header_align=header_align, holes=holes, events=events)
    packet = ctf_writer.Packet(channel, begin=2**27 - 2, cpu=2)
    for count, id_ in enumerate(ids):
        packet.event(id_, 2**27 + count, [count])
    for step in (2**27 - 1, 2**27, 2**27 + 1, 1, 2**40):
        packet.event(0, packet.now + step, [1])
    records = assert_agrees(written(tmp_path, channel, packet))
    assert [record.event_id for record in records] == [*ids, 0, 0, 0, 0, 0]
    assert [record.fields["x"] for record in records] == [*range(len(ids)), 1, 1, 1, 1, 1]
    assert records[-1].ticks == packet.now


@pytest.mark.parametrize("header", ["compact", "large"])
@pytest.mark.parametrize("per_cpu", [True, False])
@pytest.mark.parametrize("header_align", [1, 4, 8])
def test_holes_are_invisible_to_babeltrace2(tmp_path, header, per_cpu, header_align):
    channel = layout("x:u32", "y:u8", header=header, per_cpu=per_cpu, header_align=header_align)
    packet = ctf_writer.Packet(channel, begin=1000)
    # First in the packet; of every small size; large; before a short header, an extended one, and one that wraps.
    for length in (0, *range(1, 18), 255, 256, 1000, 65537, 2**20 + 3):
        packet.hole(length).event(1, packet.now + 3, [length % 256])
        packet.event(0, packet.now + 2**27 - 1, [length])
        packet.hole(length).event(0, packet.now + 2**27, [length])
        packet.hole(length).event(1, packet.now + 1, [7], extended=True)
    records = assert_agrees(written(tmp_path, channel, packet))
    assert len(records) == 4 * 23
    assert {record.name for record in records} == {"event 0", "event 1"}


def test_a_hole_may_be_the_first_thing_babeltrace2_reads_of_a_trace(tmp_path):
    channel = layout("", per_cpu=False)
    assert_agrees(written(tmp_path, channel, ctf_writer.Packet(channel, begin=9).hole(3).event(0, 10)))


@pytest.mark.parametrize(
    ("header", "text"),
    [
        (
            "compact",
            """struct event_header_compact {
	enum : uint5_t { compact = 0 ... 30, extended = 31 } id;
	variant <id> {
		struct {
			uint27_clock_ringbuf_t timestamp;
		} compact;
		struct {
			uint32_t id;
			uint64_clock_ringbuf_t timestamp;
		} extended;
	} v;
} align(8);
""",
        ),
        (
            "large",
            """struct event_header_large {
	enum : uint16_t { compact = 0 ... 65534, extended = 65535 } id;
	variant <id> {
		struct {
			uint32_clock_ringbuf_t timestamp;
		} compact;
		struct {
			uint32_t id;
			uint64_clock_ringbuf_t timestamp;
		} extended;
	} v;
} align(8);
""",
        ),
    ],
)
def test_without_holes_the_event_header_is_the_one_other_viewers_know(header, text):
    written_text = metadata.channel_metadata(layout(header=header, holes=False, header_align=1))
    assert text in written_text
    assert "hole" not in written_text


VALUES = {
    "u8": 255, "u16": 2**16 - 1, "u32": 2**32 - 1, "u64": 2**64 - 1,
    "i8": -128, "i16": -(2**15), "i32": -(2**31), "i64": -(2**63), "f32": -0.5, "f64": 1e300, "bool": True,
}  # fmt: skip


def test_babeltrace2_reads_every_type_of_field(tmp_path):
    scalars = ",".join(f"a_{base}:{base}" for base in VALUES)
    sequences = ",".join(f"b_{base}:{base}[]" for base in VALUES)
    arrays = ",".join(f"c_{base}:{base}[3]" for base in VALUES)
    channel = layout(f"{scalars},{sequences},{arrays},text:str,data:bytes")
    packet = ctf_writer.Packet(channel)
    values = list(VALUES.values())
    sequences, arrays = [[value, 0, value] for value in values], [[0, value, 1] for value in values]
    packet.event(0, 1, [*values, *sequences, *arrays, "é☃", b"\0\xff"])
    packet.event(0, 2, [*values, *([] for _ in values), *arrays, "", b""])
    assert_agrees(written(tmp_path, channel, packet))


@pytest.mark.parametrize("align", [2**power for power in range(13)])
def test_babeltrace2_reads_bytes_of_every_alignment(tmp_path, align):
    channel = layout(f"before:u8,data:bytes@{align},after:u16")
    packet = ctf_writer.Packet(channel)
    for count in range(4):
        packet.event(0, count, [count, bytes(range(3 * count)), 1000 + count])
        start = len(packet.body) - 2 - 3 * count
        assert start % align == 0
    records = assert_agrees(written(tmp_path, channel, packet))
    assert [record.fields["data"] for record in records] == [bytes(range(3 * count)) for count in range(4)]


KEYWORDS = (
    "align const char clock double enum env event float floating_point integer int long short signed stream string "
    "struct trace callsite typealias typedef unsigned variant void _Bool uint8_t id timestamp v magic len class None "
    "_ __ _x X9 cpu"
).split()


def test_any_name_can_be_a_field_a_context_or_a_label(tmp_path):
    labels = ",".join(f"{name}={index}" for index, name in enumerate(KEYWORDS))
    fields = ",".join(f"{name}:u8" for name in KEYWORDS) + f",label:u8{{{labels}}}"
    channel = layout(fields, contexts=",".join(f"{name}:u8" for name in KEYWORDS))
    packet = ctf_writer.Packet(channel)
    for index in range(len(KEYWORDS)):
        packet.event(0, index, [*range(len(KEYWORDS)), index], common=range(len(KEYWORDS)))
    records = assert_agrees(written(tmp_path, channel, packet))
    assert [record.fields["label"] for record in records] == KEYWORDS
    assert records[0].fields["struct"] == KEYWORDS.index("struct")


def test_a_field_may_have_the_name_of_anothers_length(tmp_path):
    channel = layout("x:u8[],_x_length:u8,_x_length_:u8,y:bytes@8,_y_length:u8,_y_tag:u8,_y_align:u8,_y_tag_:u8")
    packet = ctf_writer.Packet(channel).event(0, 1, [[1, 2], 3, 4, b"abc", 5, 6, 7, 8])
    directory = written(tmp_path, channel, packet)
    (record,) = open_trace(directory)
    assert list(record.fields.values()) == [[1, 2], 3, 4, b"abc", 5, 6, 7, 8]
    (event,) = judge.events(directory)
    assert {name: event["fields"][name] for name in record.fields} == plain(record.fields)


NAMES = [
    "checkout", "two words", 'quote " and \\', "tab\tline\nreturn\r", "\x01\x7f\x1b", "é☃😀", "a:b{c};", "/* */",
    "%s", "'",
]  # fmt: skip


def test_any_text_can_be_the_name_of_an_event(tmp_path):
    channel = layout(events=[EventSchema(index, name) for index, name in enumerate(NAMES)])
    packet = ctf_writer.Packet(channel)
    for index in range(len(NAMES)):
        packet.event(index, index)
    records = assert_agrees(written(tmp_path, channel, packet))
    assert [record.name for record in records] == NAMES


@pytest.mark.parametrize("base", ["u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64"])
def test_enumerations_reach_the_limits_of_their_container(tmp_path, base):
    bits = int(base[1:])
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if base[0] == "i" else (0, 2**bits - 1)
    channel = layout(f"x:{base}{{LOW={low},ALSO={low},ONE=1,_HIGH={high},é=2}}")
    packet = ctf_writer.Packet(channel)
    for count, value in enumerate([low, 1, high, 2, 3]):
        packet.event(0, count, [value])
    records = assert_agrees(written(tmp_path, channel, packet))
    assert [record.fields["x"] for record in records] == ["LOW", "ONE", "_HIGH", "é", 3]


def test_contexts_of_the_stream_come_before_those_of_the_event(tmp_path):
    events = [EventSchema(0, "with", contexts="own:str", fields="x:u8"), EventSchema(1, "without")]
    channel = layout(contexts="vpid:i32,name:str", events=events)
    packet = ctf_writer.Packet(channel)
    packet.event(0, 1, [5], ["mine"], [-7, "proc"]).event(1, 2, [], [], [8, "other"])
    first, second = assert_agrees(written(tmp_path, channel, packet))
    assert first.contexts == {"vpid": -7, "name": "proc", "own": "mine"}
    assert second.contexts == {"vpid": 8, "name": "other"}


def test_the_environment_is_kept_exactly(tmp_path):
    env = {"hostname": 'h"\\ö\n', "tracer_name": "ringbuf", "tracer_major": 1, "negative": -5, "event": 2**63 - 1}
    env["empty"] = ""
    written_text = metadata.channel_metadata(layout(env=env))
    assert tsdl.parse(written_text).env == env
    directory = written(tmp_path, channel := layout("", env=env), ctf_writer.Packet(channel).event(0, 1))
    details = judge.text(directory, "--component", "sink.text.details").stdout
    assert "tracer_major: 1" in details
    assert 'hostname: h"\\ö' in details


@pytest.mark.parametrize(("env", "error"), [({"a b": 1}, ValueError), ({"": 1}, ValueError), ({"a": 1.5}, TypeError)])
def test_an_environment_that_cannot_be_written_is_refused(env, error):
    with pytest.raises(error):
        metadata.channel_metadata(layout(env=env))


@pytest.mark.parametrize(
    "clock",
    [
        ClockInfo(10**9),
        ClockInfo(1, 5),
        ClockInfo(3_000_000_001, 1_700_000_000, 2_999_999_999),
        ClockInfo(2_441_599_123, -1_000, 2**62, description='the "tsc"\\', uuid=UUID),
        ClockInfo(999_999_999, 2**32, 0, name="my_clock"),
    ],
)
def test_times_agree_with_babeltrace2_to_the_nanosecond(tmp_path, clock):
    channel = layout("", clock=clock)
    packet = ctf_writer.Packet(channel, begin=1)
    for ticks in (1, 2, 999, 2**27, 10**9 - 1, 2**32 - 1, 2**32):
        packet.event(0, ticks)
    if clock.freq > 10**6:
        for ticks in (2**53 + 1, 2**59 + 3, 2**60):
            packet.event(0, ticks)
    assert_agrees(written(tmp_path, channel, packet))
    parsed = tsdl.parse(metadata.channel_metadata(channel)).clocks[clock.name]
    assert (parsed.freq, parsed.offset_s, parsed.offset) == (clock.freq, clock.offset_s, clock.offset_cycles)
    assert (parsed.uuid, parsed.description, parsed.absolute) == (clock.uuid, clock.description, clock.uuid is None)


@pytest.mark.parametrize("uuid", [None, UUID])
def test_babeltrace2_merges_the_traces_of_two_channels(tmp_path, uuid):
    clock = ClockInfo(10**9, 7, uuid=uuid)
    for name, ticks, id_ in (("a", (1, 3), b"a" * 16), ("b", (2, 4), b"b" * 16)):
        channel = ChannelLayout(id_, "compact", True, clock, events=[EventSchema(0, name)])
        packet = ctf_writer.Packet(channel)
        for one in ticks:
            packet.event(0, one)
        written(tmp_path, channel, packet, name=name)
    printed = judge.text(tmp_path / "a", str(tmp_path / "b"))
    assert re.findall(r"\) (\w+): ", printed.stdout) == ["a", "b", "a", "b"]


def test_events_can_be_appended_to_a_metadata_text(tmp_path):
    channel = layout("x:u8")
    grown = layout("x:u8", "y:bytes@16,z:u8{A=1}")
    directory = written(tmp_path, grown, ctf_writer.Packet(grown).event(1, 5, [b"q", 1]))
    text = metadata.channel_metadata(channel) + metadata.event_metadata(grown.events[1])
    (directory / "metadata").write_text(text)
    assert_agrees(directory)
    assert tsdl.parse(text) == tsdl.parse(metadata.channel_metadata(grown))


def test_thousands_of_fields_are_fine(tmp_path):
    channel = layout(",".join(f"f{index}:u16" for index in range(3000)))
    (record,) = assert_agrees(written(tmp_path, channel, ctf_writer.Packet(channel).event(0, 1, range(3000))))
    assert list(record.fields.values()) == list(range(3000))


@pytest.mark.parametrize(
    "changes",
    [
        {"uuid": b"short"}, {"header": "huge"}, {"header_align": 0}, {"header_align": 3}, {"contexts": "a"},
        {"events": [EventSchema(1, "a"), EventSchema(1, "b")]},
    ],
)  # fmt: skip
def test_an_impossible_layout_is_refused(changes):
    with pytest.raises(ValueError):
        ChannelLayout(**{"uuid": UUID, "header": "compact", "per_cpu": True, "clock": CLOCK, **changes})


@pytest.mark.parametrize("changes", [{"freq": 0}, {"freq": 1, "offset_cycles": -1}, {"freq": 1, "name": "a b"}])
def test_an_impossible_clock_is_refused(changes):
    with pytest.raises(ValueError):
        ClockInfo(**changes)


def header_struct():
    """(name, bits) of each member of struct ringbuf_ctf_packet_header, in its order."""
    text = Path(__file__).parents[2].joinpath("include/ringbuf/format.h").read_text()
    body = re.search(r"struct ringbuf_ctf_packet_header {(.*?)^}", text, re.S | re.M)[1]
    members = re.findall(r"^\tuint(\d+)_t (\w+)(?:\[(\d+)\])?;", body, re.M)
    return [(name, int(bits) * int(count or 1)) for bits, name, count in members]


@pytest.mark.parametrize("per_cpu", [True, False])
def test_packet_headers_are_what_the_headers_of_c_say(per_cpu):
    channel = layout("", per_cpu=per_cpu)
    model = tsdl.parse(metadata.channel_metadata(channel))
    members = [*model.packet_header.members, *model.streams[0].packet_context.members]
    found = [(name, 128 if name == "uuid" else kind.size) for name, kind in members]
    assert found == (header_struct() if per_cpu else header_struct()[:-1])
    assert header_struct()[-1][0] == "cpu_id"
    assert channel.packet_header_size * 8 == sum(bits for _, bits in found)
