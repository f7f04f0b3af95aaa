"""json2.py: what breaks a rule of CTF 2 is refused, and the object is named."""

import copy
import json

import ctf2_writer
import pytest
from ctf2_writer import fixed, location, role, structure, unsigned

from ringbuf._decode import Decoder
from ringbuf.ctf import json2, model
from ringbuf.errors import TraceError

U8 = unsigned(8)


def read(parts):
    return json2.parse(ctf2_writer.text(parts))


def field(kind):
    """Fragments with an event whose field `x` is of that class."""
    return ctf2_writer.fragments({"n": U8, "s": unsigned(8, mappings={"A": [[0, 9]]}), "x": kind})


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ({"type": "no-such"}, "member 'x': there is no field class of the type 'no-such'"),
        ({}, "member 'x': type is missing"),
        ("u9", "member 'x': there is no field class alias 'u9' before it"),
        (17, "member 'x': 17 is not an object"),
        (unsigned(0), "length 0 is less than 1"),
        (unsigned(65), "a length of 65 bits is not supported"),
        (unsigned(8, align=3), "alignment 3 is not a power of two"),
        (unsigned(8, order="middle"), "byte-order 'middle' is not one of"),
        (unsigned(8, **{"bit-order": "up"}), "bit-order 'up' is not one of"),
        (unsigned(8, **{"preferred-display-base": 3}), "preferred-display-base 3 is not one of 2, 8, 10, 16"),
        (unsigned(8, zoom=1), "there is no property 'zoom'"),
        (unsigned(8, mappings={"A": []}), "mappings 'A': \\[\\] is not an array of ranges"),
        (unsigned(8, mappings={"A": [[3, 2]]}), "ends before it begins"),
        (unsigned(8, mappings={"A": [[True, 2]]}), "is not a range of two integers"),
        (role("packet-total-length"), "the role 'packet-total-length' means nothing here"),
        (unsigned(True), "length True is not an integer"),
        ({"type": "fixed-length-unsigned-integer", "length": 8}, "byte-order is missing"),
        (fixed("floating-point-number", 80), "length 80 is not one of 16, 32, 64, 128"),
        (fixed("bit-map", 8), "flags is missing"),
        (fixed("bit-map", 8, flags={}), "flags is empty"),
        (fixed("bit-map", 8, flags={"A": [[-1, 2]]}), "-1 is not the number of a bit"),
        ({"type": "null-terminated-string", "encoding": "latin-1"}, "encoding 'latin-1' is not one of"),
        ({"type": "static-length-string", "length": -1}, "length -1 is less than 0"),
        ({"type": "static-length-blob", "length": 3, "media-type": 4}, "media-type 4 is not a string"),
        ({"type": "dynamic-length-blob"}, "length-field-location is missing"),
        (
            {"type": "dynamic-length-blob", "length-field-location": {"path": []}},
            "path \\[\\] is not an array of names",
        ),
        ({"type": "dynamic-length-blob", "length-field-location": {"path": [None]}}, "is not an array of names"),
        ({"type": "dynamic-length-blob", "length-field-location": location("n", origin="moon")}, "origin 'moon'"),
        ({"type": "structure", "minimum-alignment": 6}, "minimum-alignment 6"),
        ({"type": "structure", "member-classes": [{"name": "a"}]}, "member 'a': field-class is missing"),
        ({"type": "structure", "member-classes": 2 * [{"name": "a", "field-class": U8}]}, "the name stands twice"),
        ({"type": "variant", "selector-field-location": location("n"), "options": []}, "a variant has no options"),
        ({"type": "optional", "field-class": U8}, "selector-field-location is missing"),
        (unsigned(8, extensions={"my": {"more": 1}}), "does not declare the extension 'more' of 'my'"),
    ],
)
def test_field_classes_that_break_a_rule_are_refused_by_name(kind, reason):
    with pytest.raises(TraceError, match=f"metadata: event record class 0 \\(stream 0, e\\): payload.*{reason}"):
        read(field(kind))


def sequence(where):
    return {"type": "dynamic-length-array", "length-field-location": where, "element-field-class": U8}


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (sequence(location("m")), "m is not an integer that can be referred to here"),
        (sequence(location(None, "n", origin=None)), r"\(parent\).n is not an integer"),
        (sequence(location("e", origin="event-record-specific-context")), "event.context.e is not an integer"),
        (
            {"type": "optional", "selector-field-location": location("n"), "field-class": U8},
            "the selector event.fields.n is not a boolean",
        ),
    ],
)
def test_locations_that_lead_nowhere_are_refused_by_name(kind, reason):
    with pytest.raises(TraceError, match=f"metadata event record class 0 .*member 'x': .*{reason}"):
        Decoder(read(field(kind)))


def changed(index, **properties):
    parts = copy.deepcopy(ctf2_writer.fragments({"x": U8}))
    parts[index].update(properties)
    return parts


PREAMBLE, TRACE, CLOCK, STREAM, EVENT = range(5)


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([], "there is no preamble"),
        (changed(PREAMBLE)[1:], "the preamble is the first fragment"),
        (changed(PREAMBLE)[:1] * 2, "the preamble is the first fragment, and the only one"),
        (changed(PREAMBLE, version=3), "version 3 is not 2"),
        (changed(PREAMBLE, uuid=[1, 2]), "is not an array of 16 bytes"),
        (changed(PREAMBLE, extensions={"my": {"x": 1}}), "the trace needs the extension 'x' of 'my'"),
        (changed(TRACE, type="trace"), "there is no fragment of the type 'trace'"),
        (changed(TRACE, environment={"a": 1.5}), "environment 'a': 1.5 is neither"),
        (changed(TRACE, **{"packet-header-field-class": U8}), "trace class: packet-header: it is not a structure"),
        (
            changed(TRACE, **{"packet-header-field-class": structure(a=U8, m=role("packet-magic-number", 32))}),
            "member 'm': the magic number is the first member",
        ),
        (changed(CLOCK, frequency=0), "clock class 'c': frequency 0 is less than 1"),
        (changed(CLOCK, origin={"name": "n"}), "clock class 'c': origin: uid is missing"),
        (changed(CLOCK, **{"offset-from-origin": {"cycles": 10**9}}), "cycles 1000000000 is not less than"),
        (changed(CLOCK, id="d"), "data stream class 0: there is no clock class 'c' before it"),
        (changed(EVENT, **{"data-stream-class-id": 1}), "there is no data stream class 1 before it"),
        (changed(EVENT) + changed(EVENT)[EVENT:], "event record class 0 .*: it is declared twice"),
        (changed(STREAM)[:4] + changed(STREAM)[3:], "data stream class 0: it is declared twice"),
        (changed(EVENT) + changed(TRACE)[1:2], "trace class: there is one at most"),
        (["x"], "'x' is not an object"),
    ],
)
def test_fragments_that_break_a_rule_are_refused_by_name(parts, reason):
    with pytest.raises(TraceError, match=f"metadata: .*{reason}"):
        read(parts)


def test_the_clock_roles_need_a_clock():
    parts = ctf2_writer.fragments({"x": U8})
    del parts[STREAM]["default-clock-class-id"]
    with pytest.raises(TraceError, match="packet-context: member 'begin': the role .* no default clock"):
        read(parts)


def test_options_of_a_variant_exclude_each_other():
    options = [{"selector-field-ranges": [[0, 5]], "field-class": U8}] * 2
    with pytest.raises(TraceError, match="options 0 and 1 are both selected by 0"):
        read(field({"type": "variant", "selector-field-location": location("n"), "options": options}))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"type": "preamble", "type": "preamble", "version": 2}', "line 1: the key 'type' stands twice"),
        ('\n\n{"type": "preamble", "version": 20000000000000000000000}', "line 3: the number .* does not fit 64 bits"),
        ('{"type": "preamble", "version": ' + "9" * 100_000 + "}", "does not fit 64 bits"),
        ('{"type": "preamble", "version": NaN}', "NaN is no JSON"),
        ('{"type": "preamble",\n "version": 2,}', "line 2, column"),
        ('{"type": "preamble", "version": 2', "line 1, column"),
        ('{"a": ' + "[" * 100_000, "line 1: JSON is nested more than 800 deep"),
        ('{"a": ' + '{"a":' * 100_000, "nested more than 800 deep"),
    ],
)
def test_json_that_is_none_is_refused_with_its_place(text, reason):
    with pytest.raises(TraceError, match=f"metadata.*{reason}") as caught:
        json2.parse(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_types_that_nest_too_deep_are_refused():
    kind = U8
    for _ in range(120):
        kind = {"type": "static-length-array", "length": 1, "element-field-class": kind}
    with pytest.raises(TraceError, match="nested more than 100 deep"):
        read(field(kind))


def test_what_is_said_of_the_trace_is_kept():
    parts = ctf2_writer.fragments(
        {"x": U8},
        clock={"accuracy": 7, "origin": {"name": "o", "uid": "u"}, "namespace": "ns", "uid": "id", "description": "d"},
        event={"attributes": {"lttng.org,2009": {"log-level": "debug"}}, "uid": "e1"},
    )
    parts[TRACE] |= {"name": "t", "namespace": "ns", "uid": "abc", "attributes": {"a": [1, {"b": None}]}}
    types = read(parts)
    assert (types.version, types.uuid, types.env) == (2, ctf2_writer.UUID, {"hostname": "h"})
    assert (types.name, types.namespace, types.uid, types.attributes) == ("t", "ns", "abc", {"a": [1, {"b": None}]})
    clock = types.clocks["c"]
    assert (clock.accuracy, clock.precision, clock.origin, clock.absolute) == (7, None, (None, "o", "u"), False)
    event = types.streams[0].events[0]
    assert (event.uid, event.attributes) == ("e1", {"lttng.org,2009": {"log-level": "debug"}})
    assert event.fields.members == (("x", model.Integer(8, align=8, byte_order="le")),)


def test_a_text_sequence_needs_no_separators_between_objects():
    parts = ctf2_writer.fragments({"x": U8})
    assert json2.parse("\n".join(json.dumps(one) for one in parts)) == read(parts)
    assert json2.is_json("  {") and json2.is_json("\x1e{") and not json2.is_json("/* CTF 1.8 */")
