"""Traces whose fields are only called like ours: exported plainly, as valid JSON and protobuf."""

import json
import struct

import hostile
import pytest

import ringbuf


def with_context(members):
    return hostile.HEAD.replace("event.header :=", f"event.context := struct {{ {members} }};\n    event.header :=")


def exported(trace_path, tmp_path):
    trace = ringbuf.open_trace(trace_path)
    trace.export(tmp_path / "x.pftrace")
    assert (tmp_path / "x.pftrace").stat().st_size

    def refuse(text):
        raise AssertionError(f"{text} is no JSON")

    trace.export(tmp_path / "x.json")
    return json.loads((tmp_path / "x.json").read_text(), parse_constant=refuse)["traceEvents"]


CONTEXTS = {
    "text": ("string vpid; string vtid;", b'1,"evil":1\0' + b"}\0", {"vpid": '1,"evil":1', "vtid": "}"}),
    "floats": (
        "floating_point { exp_dig = 11; mant_dig = 53; align = 8; } vpid;"
        " floating_point { exp_dig = 11; mant_dig = 53; align = 8; } vtid;",
        struct.pack("<dd", float("nan"), float("inf")),
        {"vpid": "nan", "vtid": "inf"},
    ),
    "arrays": ("uint8_t vpid[2]; struct { uint8_t a; } procname;", b"\1\2\3", {"vpid": [1, 2], "procname": {"a": 3}}),
    "large": (
        "integer { size = 64; signed = true; align = 8; } vpid; uint64_t vtid;",
        struct.pack("<qQ", -(2**63), 2**64 - 1),
        {"vpid": -(2**63), "vtid": 2**64 - 1},
    ),
    "names": ("uint32_t procname; uint32_t thread_name;", struct.pack("<II", 1, 2), {"procname": 1, "thread_name": 2}),
}


@pytest.mark.parametrize("kind", CONTEXTS)
def test_contexts_of_another_type_are_arguments(kind, tmp_path):
    members, values, shown = CONTEXTS[kind]
    metadata = hostile.event("uint8_t x;")
    path = hostile.trace(tmp_path / "t", metadata, hostile.packet([values + b"\7"]), head=with_context(members))
    (one,) = [event for event in exported(path, tmp_path) if event["ph"] == "i"]
    assert one["args"] == {**shown, "x": 7}
    assert "evil" not in one and isinstance(one["pid"], int) and isinstance(one["tid"], int)


def test_an_environment_of_another_type_names_no_process(tmp_path):
    env = 'env { vpid = "1,\\"evil\\":2"; procname = 5; };\n'
    head = with_context("uint32_t vtid;")
    path = hostile.trace(
        tmp_path / "t", env + hostile.event("uint8_t x;"), hostile.packet([bytes(4) + b"\7"]), head=head
    )
    assert all(isinstance(event["pid"], int) and "evil" not in event for event in exported(path, tmp_path))


def test_events_that_are_only_called_like_ours(tmp_path):
    metadata = "".join(
        hostile.event(fields, name, id)
        for id, (name, fields) in enumerate(
            [
                ("function_code", "uint32_t code; uint8_t name; uint8_t file; string line;"),
                ("function_begin", "string code;"),
                ("span_end", "string span_id; uint8_t error;"),
                ("log", "uint8_t level; uint8_t logger; uint8_t message;"),
                ("audit", "uint8_t name;"),
            ]
        )
    )
    payloads = [b"\1\0\0\0\1\1x\0", b"y\0", b"z\0\1", b"\1\2\3", b"\1"]
    data = bytearray(hostile.packet(payloads))
    at = hostile.PACKET_HEADER
    for id, payload in enumerate(payloads):
        data[at] = id
        at += hostile.EVENT_HEADER + len(payload)
    path = hostile.trace(tmp_path / "t", metadata, bytes(data))
    names = [event["name"] for event in exported(path, tmp_path) if event["ph"] == "i"]
    assert names == ["function_code", "function_begin", "span_end", "log", "audit"]


def test_a_context_does_not_hide_the_field_of_a_function(tmp_path):
    fields = "uint32_t code; string name; string file; uint32_t line;"
    metadata = hostile.event(fields, "function_code") + hostile.event("uint32_t code;", "function_begin", 1)
    code = b"\5\0\0\0" + struct.pack("<I", 1) + b"f\0file\0" + struct.pack("<I", 9)
    begin = struct.pack("<I", 5) + struct.pack("<I", 1)
    data = bytearray(hostile.packet([code, begin]))
    data[hostile.PACKET_HEADER + hostile.EVENT_HEADER + len(code)] = 1
    path = hostile.trace(tmp_path / "t", metadata, bytes(data), head=with_context("uint32_t name;"))
    events = [event for event in exported(path, tmp_path) if event["ph"] == "B"]
    assert [event["name"] for event in events] == ["f"]
