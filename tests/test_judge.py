"""The judge itself, on a trace written by hand: what it reports must be what the bytes say."""

import struct

import judge
import pytest

METADATA = """/* CTF 1.8 */
typealias integer { size = 8; align = 8; signed = false; } := u8;
typealias integer { size = 32; align = 8; signed = false; } := u32;
typealias integer { size = 64; align = 8; signed = false; map = clock.mono.value; } := ticks;
typealias integer { size = 64; align = 8; signed = false; } := u64;
trace {
    major = 1; minor = 8; byte_order = le;
    packet.header := struct { u32 magic; u32 stream_id; };
};
clock { name = mono; freq = 1000000000; offset = 0; };
stream {
    id = 0;
    packet.context := struct {
        ticks timestamp_begin; ticks timestamp_end; u64 content_size; u64 packet_size; u64 events_discarded; u32 cpu_id;
    };
    event.header := struct { u32 id; ticks timestamp; };
    event.context := struct { u32 vpid; };
};
event {
    id = 7; name = "colour"; stream_id = 0;
    fields := struct { string text; u8 few[2]; enum : u8 { red = 1, blue = 2 } which; };
};
"""


def packet(begin, end, discarded, *events):
    body = b"".join(events)
    bits = 8 * (8 + 5 * 8 + 4 + len(body))
    return struct.pack("<IIQQQQQI", 0xC1FC1FC1, 0, begin, end, bits, bits, discarded, 3) + body


def event(ticks, text, few, which):
    return struct.pack("<IQI", 7, ticks, 42) + text.encode() + b"\0" + bytes([*few, which])


@pytest.fixture
def trace(tmp_path):
    (tmp_path / "metadata").write_text(METADATA)
    packets = packet(100, 200, 0, event(110, "né", (1, 2), 1), event(200, "", (0, 255), 2)), packet(300, 400, 5)
    (tmp_path / "stream_0").write_bytes(b"".join(packets))
    return tmp_path


def test_events_come_back_with_every_value(trace):
    first, second = judge.events(trace)
    assert first == {
        "name": "colour",
        "id": 7,
        "ns": 110,
        "ticks": 110,
        "cpu": 3,
        "stream": [0, 0],
        "fields": {"text": "né", "few": [1, 2], "which": 1},
        "contexts": {"packet": {"cpu_id": 3}, "stream": {"vpid": 42}, "event": {}},
        "labels": {"which": ["red"]},
    }
    assert (second["ns"], second["fields"]) == (200, {"text": "", "few": [0, 255], "which": 2})


def test_packets_and_losses_are_reported(trace):
    found = judge.read(trace)
    packets = [(p["begin_ns"], p["end_ns"], p["events"], p["cpu"]) for p in found.packets]
    assert packets == [(100, 200, 2, 3), (300, 400, 0, 3)]
    assert [(d["count"], d["begin_ns"], d["end_ns"]) for d in found.discarded_events] == [(5, 200, 400)]
    assert found.discarded_packets == []


def test_the_command_line_agrees(trace):
    assert "Tracer discarded 5 events" in judge.text(trace).stderr
    assert len(judge.text(trace).stdout.splitlines()) == 2
    counts = judge.counts(trace)
    assert (counts["Event"], counts["Packet beginning"], counts["Discarded event"]) == (2, 2, 1)


def test_a_broken_trace_is_refused(trace):
    (trace / "stream_0").write_bytes(b"\xff" * 64)
    with pytest.raises(judge.Refused):
        judge.events(trace)
    with pytest.raises(judge.Refused):
        judge.text(trace)
