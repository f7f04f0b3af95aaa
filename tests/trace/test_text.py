"""text.h, text.pxi: a trace as text is what babeltrace2 prints of it, without the members that only help to read."""

import os
import re
import subprocess
import time

import ctf_writer
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from test_decode import channels

from ringbuf.ctf.metadata import ChannelLayout, ClockInfo
from ringbuf.ctf.schema import EventSchema
from ringbuf.errors import TraceError
from ringbuf.trace.trace import open_trace

#: Members that only help to read another one.
HELPER = re.compile(
    r'(?<=[{,] )(?:_\w+_length = \d+|_\w+_tag = \( "aligned" : container = 0 \)|_\w+_align = { { } }), '
)


def layout(*texts, **more):
    events = [EventSchema(index, f"e{index}", fields=text) for index, text in enumerate(texts)]
    return ChannelLayout(bytes(range(16)), "compact", True, ClockInfo(10**9, 1_700_000_000), events=events, **more)


#: Several labels of a value: babeltrace2 before 2.1 prints them as they were declared, then in order, in braces.
SEVERAL = re.compile(r'\( (?:\{ )?("\w+"(?:, "\w+")+)(?: \})? : container')


def judged(babeltrace2, directory):
    done = subprocess.run([babeltrace2, "--clock-date", directory], capture_output=True, check=True)
    return HELPER.sub("", done.stdout.decode("utf-8", "replace"))


def ordered(text):
    return SEVERAL.sub(lambda labels: f"( {', '.join(sorted(labels[1].split(', ')))} : container", text)


def text_of(directory, **options):
    return "".join(open_trace(directory).iter_text(**options))


def assert_same(babeltrace2, directory):
    text = text_of(directory)
    assert ordered(text) == ordered(judged(babeltrace2, directory))
    return text


def written(tmp_path, channel, *packets):
    return ctf_writer.write(tmp_path / "trace", channel, **{f"s{i}": [one.bytes()] for i, one in enumerate(packets)})


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("u8", [0, 9, 10, 255]),
        ("u64", [0, 2**64 - 1]),
        ("i8", [0, 127, -1, -128]),
        ("i64", [2**63 - 1, -(2**63)]),
        ("f32", [0.1, -0.0, 1e30, float("inf"), float("nan")]),
        ("f64", [0.1, 123456789.0, 1e-300, float("-inf")]),
        ("bool", [True, False]),
        ("str", ["a", "\u00e9\u20ac", "'\"\\?", "".join(map(chr, range(1, 128))), "x" * 5000]),
        ("bytes", [b"\x00\x0f\xff", b""]),
        ("u16[]", [[1, 2, 65535], []]),
        ("f32[2]", [[1.5, -2.5]]),
        ("u8{ONE=1,TWO=2}", [1, 2, 3]),
        ("i16{LOW=-5,HIGH=300}", [-5, 300, 0]),
        ("u8{ONE=1,ALSO=1}", [1]),
    ],
)
def test_every_kind_of_value(tmp_path, babeltrace2, field, values):
    channel = layout(f"x:{field},y:u8")
    packet = ctf_writer.Packet(channel)
    for time_, value in enumerate(values):
        packet.event(0, time_, [value, 7])
    text = assert_same(babeltrace2, written(tmp_path, channel, packet))
    assert text.count("\n") == len(values)


@settings(max_examples=15, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(channels(only_labelled=True))
def test_babeltrace2_prints_the_same_of_whatever_was_written(tmp_path_factory, babeltrace2, case):
    channel, packets, events = case
    directory = tmp_path_factory.mktemp("trace")
    ctf_writer.write(directory, channel, stream=[one.bytes() for one in packets])
    lines = ordered(text_of(directory)).split("\n")
    expected = ordered(judged(babeltrace2, directory)).split("\n")
    assert len(lines) == len(expected) == len(events) + 1
    # babeltrace2 before 2.0.5 gives an empty string the value of the string before it.
    assert [line for line in lines if '""' not in line] == [
        there for line, there in zip(lines, expected, strict=True) if '""' not in line
    ]


def test_an_empty_string_is_empty(tmp_path):
    channel = layout("x:str")
    packet = ctf_writer.Packet(channel).event(0, 1, ["before"]).event(0, 2, [""])
    assert text_of(written(tmp_path, channel, packet)).endswith('e0: { cpu_id = 0 }, { x = "" }\n')


@pytest.mark.parametrize("value", [-1, -5, 0, 0x7FFF])
def test_integers_in_hexadecimal(tmp_path, babeltrace2, value):
    channel = layout("x:i16,y:u16")
    directory = written(tmp_path, channel, ctf_writer.Packet(channel).event(0, 1, [value, value & 0xFFFF]))
    metadata = directory / "metadata"
    text = metadata.read_text()
    changed = re.sub(r"(size = 16; align = 8; signed = \w+;)( })", r"\1 base = 16;\2", text)
    assert changed != text
    metadata.write_text(changed)
    assert f"y = 0x{value & 0xFFFF:X}" in assert_same(babeltrace2, directory)


@pytest.mark.parametrize("per_cpu", [True, False])
def test_contexts_and_streams_without_a_cpu(tmp_path, babeltrace2, per_cpu):
    contexts = EventSchema(0, "x", fields="vpid:i32,who:str").fields
    channel = layout("x:u8", "")
    channel = ChannelLayout(channel.uuid, "compact", per_cpu, channel.clock, events=channel.events, contexts=contexts)
    packet = ctf_writer.Packet(channel)
    packet.event(0, 1, [5], common=[17, "me"]).event(1, 2, common=[18, "you"])
    assert_same(babeltrace2, written(tmp_path, channel, packet))


def test_streams_are_merged_by_time(tmp_path, babeltrace2, rng, monkeypatch):
    monkeypatch.setattr("ringbuf.trace.trace._CHUNK", 4096)
    channel = layout("x:u64,text:str")
    files = {}
    for cpu in range(3):
        now, packets = 0, []
        for seq in range(4):
            packet = ctf_writer.Packet(channel, cpu=cpu, seq=seq, begin=now)
            for _ in range(rng.randrange(1, 60)):
                now += rng.randrange(1, 2_000_000_000)
                packet.event(0, now, [now, "x" * rng.randrange(1, 50)])
            packets.append(packet.bytes())
        files[f"s{cpu}"] = packets
    directory = ctf_writer.write(tmp_path / "trace", channel, **files)
    text = assert_same(babeltrace2, directory)
    parts = list(open_trace(directory).iter_text(records=10))
    assert len(parts) > 3 and all(part.endswith("\n") for part in parts)
    assert "".join(parts) == text


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/New_York"])
def test_times_are_local(tmp_path, babeltrace2, monkeypatch, zone):
    channel = layout("x:u8")
    packet = ctf_writer.Packet(channel)
    for hour in range(0, 5000, 700):
        packet.event(0, hour * 3600 * 10**9 + 5, [1])
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert_same(babeltrace2, written(tmp_path, channel, packet))
    finally:
        monkeypatch.undo()
        time.tzset()


def test_times_before_1970(tmp_path):
    channel = ChannelLayout(bytes(16), "compact", True, ClockInfo(10**9, -1), events=layout("x:u8").events)
    packet = ctf_writer.Packet(channel).event(0, 750_000_000, [1])
    os.environ["TZ"], before = "UTC", os.environ.get("TZ")
    time.tzset()
    try:
        assert text_of(written(tmp_path, channel, packet)).startswith("[-0.250000000] ")
    finally:
        if before is None:
            del os.environ["TZ"]
        else:
            os.environ["TZ"] = before
        time.tzset()


def test_of_a_damaged_packet_all_is_printed_that_is_before_the_damage(tmp_path):
    channel = layout("x:u64,text:str")
    made = [ctf_writer.Packet(channel, seq=n, begin=10 * n) for n in range(3)]
    for n, packet in enumerate(made):
        packet.event(0, 10 * n, [n, "a"]).event(0, 10 * n + 1, [n, "b"])
    data = [packet.bytes() for packet in made]
    last = data[1].rindex(b"b\0")
    data[1] = data[1][:last] + b"b" * (len(data[1]) - last)  # a string without an end
    directory = ctf_writer.write(tmp_path / "trace", channel, chan=data)
    before = []
    with pytest.raises(TraceError, match="a string has no end"):
        for part in open_trace(directory).iter_text():
            before.append(part)
    assert "".join(before).count("\n") == 3
    trace = open_trace(directory, errors="skip")
    text = "".join(trace.iter_text())
    assert re.findall(r"x = (\d), text = \"(\w)\"", text) == [
        ("0", "a"), ("0", "b"), ("1", "a"), ("2", "a"), ("2", "b"),
    ]  # fmt: skip
    assert trace.skipped_packets == 1


def test_a_part_of_the_text_is_the_lines_that_are_asked_for(tmp_path):
    channel = layout("x:u64", "text:str")
    packet = ctf_writer.Packet(channel)
    for n in range(10):
        packet.event(n % 2, n, [n] if n % 2 == 0 else [str(n)])
    directory = written(tmp_path, channel, packet)
    first = next(iter(open_trace(directory))).timestamp

    def values(**wanted):
        return re.findall(r'{ (?:x|text) = "?(\d)', text_of(directory, **wanted))

    assert values(events="e1") == ["1", "3", "5", "7", "9"]
    assert values(begin=first + 3, end=first + 5) == ["3", "4", "5"]
    assert values(events=["e0"], begin=first + 3) == ["4", "6", "8"]
    assert values(events=["e0"], end=first - 1) == []


def test_a_trace_without_records_is_no_text(tmp_path):
    channel = layout("x:u8")
    assert list(open_trace(written(tmp_path, channel, ctf_writer.Packet(channel))).iter_text()) == []
