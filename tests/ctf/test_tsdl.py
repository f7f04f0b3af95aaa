"""tsdl.py: metadata text to a model of types."""

import struct
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringbuf.ctf import model as types
from ringbuf.ctf import tsdl
from ringbuf.ctf.model import Array, Enum, Float, Integer, Sequence, String, Struct, Variant
from ringbuf.errors import TraceError

# What LTTng writes, cut down: types before the trace block, natural alignment, ids that do not start at 0.
LTTNG = """/* CTF 1.8 */

typealias integer { size = 8; align = 8; signed = false; } := uint8_t;
typealias integer { size = 16; align = 16; signed = false; } := uint16_t;
typealias integer { size = 32; align = 32; signed = false; } := uint32_t;
typealias integer { size = 64; align = 64; signed = false; } := uint64_t;
typealias integer { size = 64; align = 64; signed = false; } := unsigned long;
typealias integer { size = 5; align = 1; signed = false; } := uint5_t;

trace {
	major = 1;
	minor = 8;
	uuid = "2a6422d0-6cee-11e0-8c08-cb07d7b3a564";
	byte_order = be;
	packet.header := struct {
		uint32_t magic;
		uint8_t  uuid[16];
		uint32_t stream_id;
		uint64_t stream_instance_id;
	};
};

env {
	hostname = "h\\"o\\\\st\\n\\303\\251\\x41";
	tracer_major = 2;
	negative = -0x10;
	octal = 010;
};

clock {
	name = "monotonic";
	uuid = "17d5dd1e-cfe7-4d05-9f04-4d2cc3a4d1b7";
	description = "Monotonic Clock";
	freq = 1000000000; /* Frequency, in Hz */
	/* clock value offset from Epoch is: offset * (1/freq) */
	offset_s = -3;
	offset = 1351530929945824323;
};

typealias integer { size = 27; align = 1; signed = false; map = clock.monotonic.value; } := uint27_clock_monotonic_t;
typealias integer { size = 64; align = 64; signed = false; map = clock.monotonic.value; } := uint64_clock_monotonic_t;

struct packet_context {
	uint64_clock_monotonic_t timestamp_begin;
	unsigned long events_discarded;
};

struct event_header_compact {
	enum : uint5_t { compact = 0 ... 30, extended = 31 } id;
	variant <id> {
		struct { uint27_clock_monotonic_t timestamp; } compact;
		struct { uint32_t id; uint64_clock_monotonic_t timestamp; } extended;
	} v;
} align(32);

stream {
	id = 3;
	event.header := struct event_header_compact;
	packet.context := struct packet_context;
	event.context := struct {
		integer { size = 8; align = 8; signed = 1; encoding = UTF8; base = 10; } _procname[17];
	};
};

event {
	name = "hello";
	id = 7;
	stream_id = 3;
	loglevel = 13;
	model.emf.uri = "http://example.org";
	fields := struct {
		integer { size = 32; align = 8; signed = true; byte_order = le; base = x; } _a, _b;
		floating_point { exp_dig = 11; mant_dig = 53; align = 8; } _double;
		string _text;
		string { encoding = ASCII; } _ascii;
		uint16_t __values_length;
		uint16_t _values[ __values_length ];
		uint8_t _matrix[2][3];
		enum colour : uint8_t { RED, GREEN = 5, "light blue", RANGE = 10 ... 19, } _colour;
		enum colour _again;
	};
};
"""


def model(body, text=LTTNG):
    return tsdl.parse(text + body)


def fields(text):
    """The type of each member of an event that has `text` as its fields."""
    parsed = model(f'event {{ name = "x"; id = 99; stream_id = 3; fields := struct {{ {text} }}; }};')
    return dict(parsed.streams[3].events[99].fields.members)


U8, U16, U32, U64 = (Integer(bits, align=bits) for bits in (8, 16, 32, 64))


def test_the_trace_block_and_the_environment_are_read():
    trace = model("")
    assert trace.byte_order == "be"
    assert trace.uuid == uuid.UUID("2a6422d0-6cee-11e0-8c08-cb07d7b3a564").bytes
    assert trace.packet_header.members == (
        ("magic", U32), ("uuid", Array(U8, 16)), ("stream_id", U32), ("stream_instance_id", U64),
    )  # fmt: skip
    assert trace.env == {"hostname": 'h"o\\st\néA', "tracer_major": 2, "negative": -16, "octal": 8}


def test_a_clock_keeps_every_digit():
    clock = model("").clocks["monotonic"]
    assert (clock.freq, clock.offset_s, clock.offset) == (10**9, -3, 1351530929945824323)
    assert clock.uuid == uuid.UUID("17d5dd1e-cfe7-4d05-9f04-4d2cc3a4d1b7").bytes
    assert (clock.absolute, clock.description) == (False, "Monotonic Clock")


def test_a_stream_has_header_and_contexts():
    stream = model("").streams[3]
    assert stream.packet_context.members == (
        ("timestamp_begin", Integer(64, align=64, clock="monotonic")), ("events_discarded", U64),
    )  # fmt: skip
    short, long = (Integer(size, align=align, clock="monotonic") for size, align in ((27, 1), (64, 64)))
    assert stream.event_header == Struct(
        (
            ("id", Enum(Integer(5), (("compact", 0, 30), ("extended", 31, 31)))),
            (
                "v",
                Variant(
                    "id",
                    (
                        ("compact", Struct((("timestamp", short),))),
                        ("extended", Struct((("id", U32), ("timestamp", long)))),
                    ),
                ),
            ),
        ),
        align=32,
    )
    character = Integer(8, signed=True, align=8, encoding="utf8")
    assert stream.event_context == Struct((("_procname", Array(character, 17)),))


def test_an_event_has_fields_of_every_kind():
    event = model("").streams[3].events[7]
    assert event.name == "hello"
    little = Integer(32, signed=True, align=8, byte_order="le")
    colour = Enum(U8, (("RED", 0, 0), ("GREEN", 5, 5), ("light blue", 6, 6), ("RANGE", 10, 19)))
    assert event.fields.members == (
        ("_a", little), ("_b", little), ("_double", Float(64, align=8)), ("_text", String()), ("_ascii", String()),
        ("__values_length", U16), ("_values", Sequence(U16, "__values_length")), ("_matrix", Array(Array(U8, 3), 2)),
        ("_colour", colour), ("_again", colour),
    )  # fmt: skip


def test_a_type_knows_its_name():
    assert fields("uint8_t a; integer { size = 8; } b;")["a"].alias == "uint8_t"
    assert fields("integer { size = 8; } b;")["b"].alias is None


def test_names_declared_in_a_block_end_with_it():
    found = fields("typealias integer { size = 3; } := tiny; tiny a; struct s { tiny b; } c; struct s d;")
    assert found["d"] == Struct((("b", Integer(3)),))
    with pytest.raises(TraceError, match="type 'tiny' is not declared"):
        model("struct a { typealias integer { size = 3; } := tiny; tiny a; }; struct b { tiny c; };")


def test_typedefs_and_named_variants_are_types():
    parsed = model(
        "typedef uint8_t byte, pair[2]; variant either { byte small; uint64_t big; }; enum which : byte { small, big };"
        'event { name = "x"; id = 9; stream_id = 3; fields := struct {'
        "    byte a; pair b; enum which tag; variant either <tag> c; }; };"
    )
    assert parsed.streams[3].events[9].fields.members == (
        ("a", U8), ("b", Array(U8, 2)), ("tag", Enum(U8, (("small", 0, 0), ("big", 1, 1)))),
        ("c", Variant("tag", (("small", U8), ("big", U64)))),
    )  # fmt: skip


def test_default_alignment_is_a_byte_only_for_whole_bytes():
    assert fields("integer { size = 16; } a; integer { size = 3; } b;") == {"a": Integer(16, align=8), "b": Integer(3)}


def test_helper_members_are_not_shown():
    kind = model("").streams[3].events[7].fields
    assert [name for name, _ in types.visible_members(kind)] == [
        "a", "b", "double", "text", "ascii", None, "values", "matrix", "colour", "again",
    ]  # fmt: skip


def test_a_length_that_has_its_own_name_is_shown():
    kind = Struct((("n", U8), ("_x", Sequence(U8, "n")), ("_y_length", U8)))
    assert [name for name, _ in types.visible_members(kind)] == ["n", "x", "y_length"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("trace { major = 2; minor = 0; byte_order = le; };", "the trace is not CTF 1.8"),
        ("trace { major = 1; minor = 8; byte_order = pdp; };", "byte_order 'pdp'"),
        ('trace { major = 1; minor = 8; byte_order = le; uuid = "12"; };', "is not a UUID"),
        ("trace { packet.header := integer { size = 8; }; };", "packet.header is not a structure"),
        ("stream { id = 3; };", "stream 3 is declared twice"),
        ("stream { id = 18446744073709551616; };", "id 18446744073709551616 is out of range"),
        ('event { name = "x"; id = -1; stream_id = 3; };', "id -1 is out of range"),
        ('event { name = "x"; id = 7; stream_id = 3; };', "event 7 of stream 3 is declared twice"),
        ("event { id = 8; stream_id = 3; };", "name is missing"),
        ("clock { freq = 0; };", "name is missing"),
        ("clock { name = c; freq = 0; };", "freq must be positive"),
        ("struct s { uint8_t a; uint8_t a; };", "member 'a' appears twice"),
        ("struct s { int128_t a; };", "type 'int128_t' is not declared"),
        ("struct s { struct t a; };", "struct t is not declared"),
        ("struct s { uint8_t *a; };", "pointers are not supported"),
        ("struct s { uint8_t a[-1]; };", "length is negative"),
        ("struct s { integer { size = 65; } a; };", "integers of 65 bits"),
        ("struct s { integer { size = 0; } a; };", "integers of 0 bits"),
        ("struct s { integer { size = 8; align = 3; } a; };", "alignment 3"),
        ("struct s { integer { size = 8; align = 0; } a; };", "alignment 0"),
        ("struct s { integer { size = 8; map = clock; } a; };", "map = clock"),
        ("struct s { floating_point { exp_dig = 5; mant_dig = 11; } a; };", "floating-point"),
        ("struct s { enum : floating_point { exp_dig = 8; mant_dig = 24; } { A } a; };", "container"),
        ("struct s { enum : uint8_t { 5 } a; };", "'5' is not a label"),
        ("struct s { variant <t> { } a; };", "no options"),
        ("struct s { uint8_t a; } align(7);", "alignment 7"),
        ("union u { uint8_t a; };", "'union' is not supported"),
        ("struct s { uint8_t a }", "expected"),
        ("struct s { uint8_t a;", "expected|is not"),
        ("struct s { uint8_t a; } align(09);", "09 is not a number"),
        ("§", "is not TSDL"),
        ('env { a = "unfinished }; ', "has no end"),
        ("env { a = 'ab'; };", "has no end"),
        ("/* unfinished", "has no end"),
        ('env { a = "\0"; };', "a NUL is not TSDL"),
        ("env { a = 1; a = 2; };", "a is given twice"),
        ("typealias integer { size = 8; base = 7; } := u;", "base 7"),
        ("typealias integer { size = 8; signed = maybe; } := u;", "neither true nor false"),
        ("typealias integer { size = 8; encoding = latin; } := u;", "encoding latin"),
        ("typealias integer { size = 8; byte_order = up; } := u;", "byte_order 'up'"),
        ("typealias integer { size = 8; } := uint8_t;", "declared twice"),
        ("struct s { uint8_t a; }; struct s { uint8_t b; };", "declared twice"),
        ("struct s { uint8_t event; };", "'event' is a keyword"),
        ("struct s { uint8_t a[int]; };", "'int' is a keyword"),
        ('struct s { uint8_t a["n"]; };', "no length"),
        ("struct s { uint8_t a[env.missing]; };", "env.missing is not a number"),
        ("enum e : uint8_t { };", "no labels"),
        ("enum e : uint8_t { A = 256 };", "does not fit 8 bits"),
        ("enum e : uint8_t { A = 3 ... 2 };", "no range"),
        ("struct s { enum : uint8_t { A } t; variant <2> { uint8_t A; } v; };", "expected name"),
    ],
)
def test_what_is_not_supported_is_an_error_with_its_line(text, reason):
    line = LTTNG.count("\n") + 1
    with pytest.raises(TraceError, match=f"metadata line {line}: .*({reason})"):
        model(text)


def test_a_text_without_a_trace_block_is_an_error():
    with pytest.raises(TraceError, match="there is no trace block"):
        tsdl.parse("/* CTF 1.8 */\n")


def test_nesting_is_bounded():
    deep = "struct { " * 5000 + "uint8_t a; " + "} a; " * 5000
    with pytest.raises(TraceError, match="nested more than"):
        model(f"struct s {{ {deep} }};")


def packetized(text, order="<", **changes):
    """Metadata as LTTng's daemon writes it, in packets of 256 bytes."""
    packets = []
    for start in range(0, len(text), 219):
        body = text[start : start + 219]
        header = {
            "magic": 0x75D11D57, "uuid": bytes(16), "checksum": 0, "content": 8 * (37 + len(body)), "packet": 8 * 256,
            "compression": 0, "encryption": 0, "scheme": 0, "major": 1, "minor": 8, **changes,
        }  # fmt: skip
        packets.append((struct.pack(order + "I16sIIIBBBBB", *header.values()) + body).ljust(256, b"\0"))
    return b"".join(packets)


def test_plain_text_comes_back_as_it_is():
    assert tsdl.text_of(LTTNG.encode()) == LTTNG


@pytest.mark.parametrize("order", ["<", ">"])
def test_packets_of_metadata_are_joined_in_either_byte_order(order):
    assert tsdl.text_of(packetized(LTTNG.encode(), order)) == LTTNG


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "first line"),
        (b"\n/* CTF 1.8 */", "first line"),
        (b"/* CTF 2.0 */", "first line"),
        (packetized(b"x")[:30], "byte 0 is cut short"),
        (packetized(b"x")[:200], "sizes"),
        (packetized(b"x", content=8 * 36), "sizes"),
        (packetized(b"x", content=8 * 257), "sizes"),
        (packetized(b"x", content=301), "no packet header"),
        (packetized(b"x", packet=0), "sizes"),
        (packetized(b"x", compression=1), "compressed"),
        (packetized(b"x", encryption=1), "encrypted"),
        (packetized(b"x") + b"\0" * 256, "no packet header at byte 256"),
    ],
)
def test_a_metadata_file_that_is_neither_is_refused(data, reason):
    with pytest.raises(TraceError, match=reason):
        tsdl.text_of(data)


WORDS = [*LTTNG.split(), *'{ } [ ] < > ; := = align( -1 variant enum typedef "'.split()]


@given(st.lists(st.sampled_from(WORDS), max_size=40), st.integers(0, len(LTTNG)))
def test_no_text_raises_anything_but_a_trace_error(words, cut):
    for text in (" ".join(words), LTTNG[:cut] + " ".join(words), LTTNG[:cut] + " ".join(words) + LTTNG[cut:]):
        try:
            tsdl.parse(text)
        except TraceError as error:
            assert str(error).startswith("metadata line ")


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_but_a_trace_error(data):
    for prefix in (b"", b"/* CTF 1.8 */", packetized(b"x")[:40]):
        try:
            tsdl.parse(tsdl.text_of(prefix + data))
        except TraceError:
            pass
