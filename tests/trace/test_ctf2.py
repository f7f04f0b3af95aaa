"""json2.py, decode.h, text.h: every field class of CTF 2, as records, text, columns; the lines are babeltrace2's."""

import math
import os
import shutil
import struct
import subprocess

import ctf2_writer
import needs
import numpy
import pytest
from ctf2_writer import fixed, location, signed, structure, unsigned

from ringbuf.trace.trace import open_trace

U8 = unsigned(8)
BOOL = fixed("boolean", 8)


def option(kind, *ranges, **more):
    return {"selector-field-ranges": [list(one) for one in ranges], "field-class": kind, **more}


def variant(selector, *options):
    return {"type": "variant", "selector-field-location": selector, "options": list(options)}


#: What: fields, payload, values, what babeltrace2 2.1 prints of them (None where it cannot).
CASES = {
    "integers": (
        {"a": unsigned(12, align=1), "b": unsigned(4, align=1), "c": signed(64), "d": unsigned(24, order="big-endian")},
        b"\x34\x52" + struct.pack("<q", -5) + b"\x01\x02\x03",
        {"a": 0x234, "b": 5, "c": -5, "d": 0x010203},
        "{ a = 564, b = 5, c = -5, d = 66051 }",
    ),
    "bit order": (
        {"a": unsigned(12, align=1, **{"bit-order": "last-to-first"}), "b": unsigned(4, align=1)},
        b"\x01\x50",
        {"a": 2048, "b": 5},
        "{ a = 2048, b = 5 }",
    ),
    "bases": (
        {f"x{base}": signed(8, **{"preferred-display-base": base}) for base in (2, 8, 10, 16)},
        b"\xfe\xfe\xfe\x05",
        {"x2": -2, "x8": -2, "x10": -2, "x16": 5},
        "{ x2 = 0b11111110, x8 = 0776, x10 = -2, x16 = 0x5 }",
    ),
    "mappings": (
        {"m": signed(16, mappings={"Z": [[1, 4], [9, 9]], "B": [[3, 3]]}), "n": unsigned(8, mappings={"X": [[1, 1]]})},
        b"\x03\x00\x02",
        {"m": "Z", "n": 2},
        '{ m = ( { "Z", "B" } : container = 3 ), n = ( <unknown> : container = 2 ) }',
    ),
    "variable length": (
        {
            "u": {"type": "variable-length-unsigned-integer"},
            "s": {"type": "variable-length-signed-integer"},
            "m": {"type": "variable-length-unsigned-integer", "mappings": {"X": [[1, 1], [5, 9]]}},
            "most": {"type": "variable-length-unsigned-integer"},
        },
        b"\xe5\x8e\x26" + b"\xc0\xbb\x78" + b"\x05" + b"\xff" * 9 + b"\x01",
        {"u": 624485, "s": -123456, "m": "X", "most": 2**64 - 1},
        '{ u = 624485, s = -123456, m = ( "X" : container = 5 ), most = 18446744073709551615 }',
    ),
    "bits": (
        {
            "a": fixed("bit-array", 16),
            "m": fixed("bit-map", 8, flags={"A": [[0, 0]], "B": [[1, 2]], "C": [[7, 7]]}),
            "none": fixed("bit-map", 8, flags={"A": [[0, 3]]}),
            "t": BOOL,
            "f": BOOL,
        },
        b"\x12\x34\x05\x00\x40\x00",
        {"a": 0x3412, "m": 5, "none": 0, "t": True, "f": False},
        '{ a = 0x3412, m = 0x5 { "A", "B" }, none = 0x0, t = true, f = false }',
    ),
    "floats": (
        {"f": fixed("floating-point-number", 32, order="big-endian"), "d": fixed("floating-point-number", 64)},
        struct.pack(">f", 1.5) + struct.pack("<d", -0.1),
        {"f": 1.5, "d": -0.1},
        "{ f = 1.5, d = -0.1 }",
    ),
    "other floats": (
        {
            "half": fixed("floating-point-number", 16),
            "small": fixed("floating-point-number", 16, order="big-endian"),
            "quad": fixed("floating-point-number", 128),
            "large": fixed("floating-point-number", 128, order="big-endian"),
            "wide": fixed("floating-point-number", 160),
        },
        struct.pack("<e", 1.5)
        + struct.pack(">e", -6e-8)
        + (0x3FFF8 << 108).to_bytes(16, "little")  # 1.5
        + (0xFFFF << 112).to_bytes(16, "big")  # -inf
        + (0xC001 << 143 | 1 << 159).to_bytes(20, "little"),  # -2 ** (0xC001 - 0x7FFF), beyond a double
        {"half": 1.5, "small": -(2**-24), "quad": 1.5, "large": -math.inf, "wide": -math.inf},
        None,
    ),
    "text": (
        {
            "a": {"type": "null-terminated-string"},
            "b": {"type": "null-terminated-string", "encoding": "utf-16le"},
            "c": {"type": "null-terminated-string", "encoding": "utf-32be"},
            "d": {"type": "static-length-string", "length": 4},
            "n": U8,
            "e": {"type": "dynamic-length-string", "length-field-location": location("n"), "encoding": "utf-16be"},
            "none": {"type": "static-length-string", "length": 0, "encoding": "utf-32le"},
        },
        "\u00e9\0".encode() + "h\U0001f600\0".encode("utf-16le") + "w\u00fc\0".encode("utf-32be") + b"ab\0x"
        + b"\x04" + "xy".encode("utf-16be"),
        {"a": "\u00e9", "b": "h\U0001f600", "c": "w\u00fc", "d": "ab", "n": 4, "e": "xy", "none": ""},
        '{ a = "\u00e9", b = "h\U0001f600", c = "w\u00fc", d = "ab", n = 4, e = "xy", none = "" }',
    ),
    "bytes": (
        {
            "b": {"type": "static-length-blob", "length": 3, "media-type": "image/png"},
            "n": U8,
            "d": {"type": "dynamic-length-blob", "length-field-location": location("n")},
        },
        b"abc\x02\x00\xff",
        {"b": b"abc", "n": 2, "d": b"\0\xff"},
        "{ b = { 61 62 63 }, n = 2, d = { 00 ff } }",
    ),
    "no bytes": ({"none": {"type": "static-length-blob", "length": 0}, "a": U8}, b"\x01", {"none": b"", "a": 1}, None),
    "optional": (
        {
            "s": BOOL,
            "o": {"type": "optional", "selector-field-location": location("s"), "field-class": U8},
            "k": signed(8),
            "p": {
                "type": "optional", "selector-field-location": location("k"), "selector-field-ranges": [[-2, 3]],
                "field-class": structure(z=U8),
            },
            "q": {
                "type": "optional", "selector-field-location": location("k"), "selector-field-ranges": [[0, 3]],
                "field-class": U8,
            },
        },
        b"\x80\x07\xff\x05",
        {"s": True, "o": 7, "k": -1, "p": {"z": 5}, "q": None},
        "{ s = true, o = { 7 }, k = -1, p = { { z = 5 } }, q = <none> }",
    ),
    "variant": (
        {
            "t": U8,
            "v": variant(location("t"), option(U8, (0, 1), (5, 5), name="a"), option(structure(), (2, 3))),
            "a": {"type": "static-length-array", "length": 2, "minimum-alignment": 32, "element-field-class": U8},
            "z": unsigned(16),
        },
        b"\x05\x07\0\0\x01\x02\x09\x00",  # 60 bytes before it
        {"t": 5, "v": 7, "a": [1, 2], "z": 9},
        "{ t = 5, v = { 7 }, a = [ [0] = 1, [1] = 2 ], z = 9 }",
    ),
    "length in a variant": (
        {
            "t": U8,
            "n": variant(location("t"), option(U8, (0, 0)), option(unsigned(16), (1, 1))),
            "x": {"type": "dynamic-length-array", "length-field-location": location("n"), "element-field-class": U8},
        },
        b"\x01\x02\x00\x08\x09",
        {"t": 1, "n": 2, "x": [8, 9]},
        "{ t = 1, n = { 2 }, x = [ [0] = 8, [1] = 9 ] }",
    ),
    "locations": (
        {
            "n": U8,
            "s": structure(
                m=U8,
                a={"type": "dynamic-length-array", "length-field-location": location("m", origin=None),
                   "element-field-class": U8},
                b={"type": "dynamic-length-array", "length-field-location": location(None, "n", origin=None),
                   "element-field-class": U8},
                c={"type": "dynamic-length-array", "length-field-location": location("s", "m"),
                   "element-field-class": U8},
            ),
        },
        b"\x02\x01" + b"\x05" + b"\x06\x07" + b"\x08",
        {"n": 2, "s": {"m": 1, "a": [5], "b": [6, 7], "c": [8]}},
        "{ n = 2, s = { m = 1, a = [ [0] = 5 ], b = [ [0] = 6, [1] = 7 ], c = [ [0] = 8 ] } }",
    ),
    "an alias": (
        {"x": "byte", "s": {"type": "structure", "member-classes": [{"name": "y", "field-class": "byte"}]}},
        b"\x01\x02",
        {"x": 1, "s": {"y": 2}},
        "{ x = 1, s = { y = 2 } }",
    ),
}  # fmt: skip


def written(tmp_path, what):
    fields, payload, *_ = CASES[what]
    return ctf2_writer.write(tmp_path / "trace", fields, [payload, payload], aliases={"byte": U8})


def newest_babeltrace2():
    """A babeltrace2 that reads CTF 2: that of RINGBUF_BABELTRACE2, or the one on the PATH; None if there is none."""
    command = os.environ.get("RINGBUF_BABELTRACE2") or shutil.which("babeltrace2")
    if command is None:
        return None
    version = subprocess.run([command, "--version"], capture_output=True, text=True, check=False).stdout
    return command if version.startswith("Babeltrace ") and not version.startswith("Babeltrace 2.0") else None


@pytest.mark.parametrize("what", CASES)
def test_values_are_read(tmp_path, what):
    first, second = open_trace(written(tmp_path, what))
    assert first.fields == second.fields == CASES[what][2]
    assert (first.timestamp, second.timestamp) == (1010, 1020)


@pytest.mark.parametrize("what", [what for what, case in CASES.items() if case[3] is not None])
def test_text_is_that_of_babeltrace2(tmp_path, what, monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    directory = written(tmp_path, what)
    printed = "".join(open_trace(directory).iter_text())
    assert printed.splitlines()[1] == f"[1970-01-01 00:00:00.000001020] (+0.000000010) h e: {CASES[what][3]}"
    if command := newest_babeltrace2():  # the lines above were recorded from 2.1.2
        done = subprocess.run([command, "--clock-date", directory], capture_output=True, text=True, check=True)
        assert done.stdout == printed


@pytest.mark.parametrize("what", CASES)
def test_columns_have_the_values_of_the_records(tmp_path, what):
    trace = open_trace(written(tmp_path, what))
    rows = trace.to_numpy("e")
    for name, value in CASES[what][2].items():
        cell = rows[name][1]
        if isinstance(cell, numpy.void):
            cell = dict(zip(cell.dtype.names, cell.tolist(), strict=True))
        labels = {field.name: field.labels for field in trace.events["e"].fields}[name]
        if isinstance(value, str) and labels:  # an enumeration is its integer
            value = {"Z": 3, "X": 5}[value]
        assert (cell.tolist() if isinstance(cell, numpy.ndarray) else cell) == value


@pytest.mark.parametrize("what", CASES)
@pytest.mark.parametrize("library", ["pyarrow", "polars", "pandas"])
def test_every_library_takes_them(tmp_path, what, library):
    needs.module(library)
    method = {"pyarrow": "to_arrow", "polars": "to_polars", "pandas": "to_pandas"}[library]
    table = getattr(open_trace(written(tmp_path, what)), method)("e")
    assert len(table) == 2


def test_packet_contexts_and_common_contexts(tmp_path, monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    directory = ctf2_writer.write(
        tmp_path / "trace",
        {"x": {"type": "dynamic-length-array", "length-field-location": location("n", origin="packet-context"),
               "element-field-class": U8}},
        [b"\x09\x01\x02"],
        context={"cpu_id": unsigned(32), "n": U8, "who": {"type": "null-terminated-string"}},
        packet_context=b"\x03\0\0\0\x02me\0",
        common={"tid": U8},
    )  # fmt: skip
    trace = open_trace(directory)
    (record,) = trace
    assert (record.cpu, record.contexts, record.fields) == (3, {"tid": 9}, {"x": [1, 2]})
    assert trace.packets[0].context == {"cpu_id": 3, "n": 2, "who": "me"}
    assert "".join(trace.iter_text()) == (
        "[1970-01-01 00:00:00.000001010] (+?.?????????) h e: "
        '{ cpu_id = 3, n = 2, who = "me" }, { tid = 9 }, { x = [ [0] = 1, [1] = 2 ] }\n'
    )


def test_a_clock_of_another_frequency_that_is_short_in_the_header(tmp_path):
    parts = ctf2_writer.fragments(
        {"a": U8}, clock={"frequency": 1000, "offset-from-origin": {"seconds": 5, "cycles": 500}, "precision": 3}
    )
    parts[-2]["event-record-header-field-class"] = structure(
        t={"type": "variable-length-unsigned-integer", "roles": ["default-clock-timestamp"]}
    )
    directory = tmp_path / "trace"
    directory.mkdir()
    (directory / "metadata").write_text(ctf2_writer.text(parts))
    bits = 8 * (52 + 4)
    head = struct.pack("<I16s4Q", 0xC1FC1FC1, ctf2_writer.UUID, bits, bits, 126, 400)
    (directory / "stream").write_bytes(head + b"\x7f\x01" + b"\x02\x02")  # 127; then 2, as 7 bits: 130
    trace = open_trace(directory)
    assert [record.ticks for record in trace] == [127, 130]
    assert [record.timestamp for record in trace] == [5_627_000_000, 5_630_000_000]
    assert trace.clock.precision == 3


def test_bytes_are_not_read_twice_as_long_as_they_are(tmp_path):
    """A number in LEB128 that goes on, or has too many bits, is damage."""
    for data, reason in ((b"\x80" * 8, "too early"), (b"\xff" * 10 + b"\x01", "more than 64 bits")):
        directory = ctf2_writer.write(
            tmp_path / reason.replace(" ", "_"), {"u": {"type": "variable-length-unsigned-integer"}}, [b"\1", data]
        )
        trace = open_trace(directory, errors="skip")
        assert [record.fields["u"] for record in trace] == [1]
        assert reason in trace.damage[0].reason
