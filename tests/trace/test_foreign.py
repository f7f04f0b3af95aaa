"""Traces of CTF 1.8 as other tracers write them; texts are those of babeltrace2."""

import itertools
import os
import struct
import time

import needs
import pytest

from ringbuf.errors import TraceError
from ringbuf.trace.trace import open_trace

METADATA = """/* CTF 1.8 */
trace {{ major = 1; minor = 8; {uuid} byte_order = {order};
    packet.header := struct {{ integer {{ size = 32; align = 8; }} magic; {header} }}; }};
env {{ {env} }};
clock {{ name = c; freq = 1000000000; {clock} }};
stream {{ packet.context := struct {{
        integer {{ size = 64; align = 8; }} packet_size; integer {{ size = 64; align = 8; }} content_size;
        integer {{ size = 64; align = 8; {map} }} timestamp_begin;
        integer {{ size = 64; align = 8; {map} }} timestamp_end; {context} }};
    event.header := struct {{ integer {{ size = 64; align = 8; {map} }} {time}; }}; }};
event {{ name = "e"; fields := struct {{ {fields} }}; }};
"""


def integer(size, more=""):
    return f"integer {{ size = {size}; align = 8; {more} }}"


U8 = integer(8)


def metadata(
    fields, *, order="le", env='hostname = "h";', context="", clock="", map="map = clock.c.value;", time="timestamp"
):
    return METADATA.format(
        fields=fields, order=order, env=env, context=context, clock=clock, map=map, time=time, uuid="", header=""
    )


def packet(payloads, *, context=b"", begin=1000, order="<"):
    body = b"".join(struct.pack(order + "Q", begin + 10 * n) + one for n, one in enumerate(payloads, 1))
    bits = 8 * (36 + len(context) + len(body))
    return struct.pack(order + "I4Q", 0xC1FC1FC1, bits, bits, begin, begin + 10 * len(payloads)) + context + body


def write(directory, fields, payloads, *, packet_context=b"", files=None, **more):
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "metadata").write_text(metadata(fields, **more))
    order = "<" if more.get("order", "le") == "le" else ">"
    for name, data in (files or {"s": packet(payloads, context=packet_context, order=order)}).items():
        (directory / name).write_bytes(data)
    return directory


@pytest.fixture(autouse=True)
def utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def line(directory, **options):
    """What is printed after the time of the only line."""
    (printed,) = "".join(open_trace(directory, **options).iter_text()).splitlines()
    return printed.partition(") ")[2]


@pytest.mark.parametrize(
    ("fields", "payload", "text"),
    [
        (f"{integer(16, 'base = 8;')} a; {integer(16, 'base = oct; signed = true;')} b;", b"\xa4\x01\xff\xff",
         "a = 0644, b = 0777777"),
        (f"{integer(16, 'base = 8;')} a; {integer(16, 'base = o; signed = true;')} b;", b"\0\0\x08\0",
         "a = 00, b = 010"),
        (f"{integer(8, 'base = 2;')} a; {integer(16, 'base = binary; signed = true;')} b;", b"\x05\xff\xff",
         "a = 0b00000101, b = 0b1111111111111111"),
        (f"{integer(8, 'base = 16; signed = true;')} a; {integer(64, 'base = x; signed = true;')} b;",
         struct.pack("<bq", -1, -2), "a = 0xFF, b = 0xFFFFFFFFFFFFFFFE"),
        (f'enum : {U8} {{ A = 1 ... 4, B = 3, "C C" = 3 ... 9 }} x;', b"\x03",
         'x = ( { "A", "B", "C C" } : container = 3 )'),
        (f"{integer(8, 'encoding = UTF8;')} s[4]; string t;", b"xy\0zbad \xff\0", 's = "xy", t = "bad \ufffd"'),
        (f"struct {{ }} s; struct {{ }} t[2]; {U8} n; struct {{ }} u[n];", b"\x02",
         "s = { }, t = [ [0] = { }, [1] = { } ], n = 2, u = [ [0] = { }, [1] = { } ]"),
        (f"{U8} a[env.two]; {U8} n; {U8} b[event.fields.n];", b"\1\2\1\3",
         "a = [ [0] = 1, [1] = 2 ], n = 1, b = [ [0] = 3 ]"),
        (f"{U8} a[stream.packet.context.n];", b"\1\2", "a = [ [0] = 1, [1] = 2 ]"),
        (f"enum : {U8} {{ one, two }} t; struct {{ variant <event.fields.t> {{ {U8} one; string two; }} v; }} s;",
         b"\1x\0", 't = ( "two" : container = 1 ), s = { v = { "x" } }'),
    ],
)  # fmt: skip
def test_values_are_printed_as_babeltrace2_does(tmp_path, fields, payload, text):
    directory = write(
        tmp_path / "t", fields, [payload], env='hostname = "h"; two = 2;', context=f"{U8} n;", packet_context=b"\x02"
    )
    assert line(directory) == f"h e: {{ n = 2 }}, {{ {text} }}"
    (record,) = open_trace(directory)
    assert len(record.fields) == len(open_trace(directory).to_numpy("e").dtype.names) - 2


def test_a_length_in_the_header_of_the_event(tmp_path):
    directory = write(tmp_path / "t", f"{U8} a[stream.event.header.n];", [b"\2\1\2", b"\0", b"\1\7"])
    text = (directory / "metadata").read_text().replace("} timestamp; }; };", f"}} timestamp; {U8} n; }}; }};")
    (directory / "metadata").write_text(text)
    trace = open_trace(directory)
    records = list(trace)
    assert [record.fields for record in records] == [{"a": [1, 2]}, {"a": []}, {"a": [7]}]
    assert [cell.tolist() for cell in trace.to_numpy("e")["a"]] == [[1, 2], [], [7]]


@pytest.mark.parametrize("cpu", [b"\xff" * 4, b"\x05\0\0\0"])
def test_any_number_of_a_cpu(tmp_path, cpu):
    directory = write(tmp_path / "t", f"{U8} a;", [b"\1"], context=f"{integer(32)} cpu_id;", packet_context=cpu)
    number = int.from_bytes(cpu, "little")
    assert line(directory) == f"h e: {{ cpu_id = {number} }}, {{ a = 1 }}"
    trace = open_trace(directory)
    assert [record.cpu for record in trace] == [number]
    assert trace.to_numpy("e")["cpu"].tolist() == [number if number < 2**31 else -1]


def test_all_of_the_packet_context_is_shown(tmp_path):
    context = f"{integer(32, 'base = 16;')} cpu_id; string name; {U8} prio;"
    directory = write(tmp_path / "t", f"{U8} a;", [b"\1"], context=context, packet_context=b"\x1a\0\0\0worker\0\5")
    assert line(directory) == 'h e: { cpu_id = 0x1A, name = "worker", prio = 5 }, { a = 1 }'
    assert open_trace(directory).packets[0].context == {"cpu_id": 26, "name": "worker", "prio": 5}


def test_the_domain_is_not_part_of_an_events_origin(tmp_path):
    env = 'hostname = "h"; domain = "ust"; procname = "p"; vpid = 5;'
    assert line(write(tmp_path / "t", f"{U8} a;", [b"\1"], env=env)) == "h:p:(5) e: { a = 1 }"
    env = 'hostname = "h\\0not seen";'
    assert line(write(tmp_path / "u", f"{U8} a;", [b"\1"], env=env)) == "h e: { a = 1 }"


@pytest.mark.parametrize(("clocks", "expected"), [("one", [1010, 1020]), ("none", [1010, 1020])])
def test_a_time_that_names_no_clock_is_that_of_the_only_one(tmp_path, clocks, expected):
    directory = write(tmp_path / "t", f"{U8} a;", [b"\1", b"\2"], map="")
    if clocks == "none":
        text = (directory / "metadata").read_text().replace("clock { name = c; freq = 1000000000;  };", "")
        (directory / "metadata").write_text(text)
    assert [record.timestamp for record in open_trace(directory)] == expected


def test_a_stream_without_times(tmp_path):
    directory = write(tmp_path / "t", f"{U8} a;", [b"\1", b"\2"], map="", time="when")
    text = (directory / "metadata").read_text().replace("timestamp_begin", "first").replace("timestamp_end", "last")
    (directory / "metadata").write_text(text)
    trace = open_trace(directory)
    assert [(one.timestamp, one.ticks, one.time_ns, one.fields["a"]) for one in trace] == [
        (None,) * 3 + (n,) for n in (1, 2)
    ]
    assert trace.time_range is None
    text = "".join(trace.iter_text()).splitlines()
    assert text == ["h e: { first = 1000, last = 1020 }, { a = 1 }", "h e: { first = 1000, last = 1020 }, { a = 2 }"]
    assert trace.to_numpy("e")["a"].tolist() == [1, 2]
    assert str(trace.to_numpy("e")["timestamp"].view("M8[ns]")[0]) == "NaT"


def test_events_without_a_header(tmp_path):
    directory = write(tmp_path / "t", f"{U8} a;", [])
    text = (directory / "metadata").read_text()
    begin = text.index("event.header")
    (directory / "metadata").write_text(text[:begin] + "}; event { " + text[text.index('name = "e"') :])
    bits = 8 * 39
    (directory / "s").write_bytes(struct.pack("<I4Q", 0xC1FC1FC1, bits, bits, 1000, 2000) + b"\1\2\3")
    assert [(record.timestamp, record.fields["a"]) for record in open_trace(directory)] == [
        (1000, n) for n in (1, 2, 3)
    ]


def test_events_without_a_bit_are_not_read_for_ever(tmp_path):
    directory = write(tmp_path / "t", "", [])
    text = (directory / "metadata").read_text()
    (directory / "metadata").write_text(text[: text.index("event.header")] + '}; event { name = "e"; };')
    bits = 8 * 39
    (directory / "s").write_bytes(struct.pack("<I4Q", 0xC1FC1FC1, bits, bits, 1000, 2000) + b"\1\2\3")
    for read in (list, len, lambda trace: "".join(trace.iter_text()), lambda trace: trace.to_numpy()):
        with pytest.raises(TraceError, match="an event without a bit"):
            read(open_trace(directory))


@pytest.mark.parametrize(
    ("counts", "bits", "lost"),
    [
        ([0, 7, 0, 9], 64, 16),
        ([5, 7, 3, 9], 64, 8),
        ([250, 3], 8, 9),
        ([0, 7, 9, 9], 32, 9),
    ],
)
def test_a_count_of_losses_that_falls_makes_no_astronomic_number(tmp_path, counts, bits, lost):
    data = [
        packet([b"\1"], context=count.to_bytes(bits // 8, "little"), begin=100 * n) for n, count in enumerate(counts)
    ]
    context = f"{integer(bits)} events_discarded;"
    directory = write(tmp_path / "t", f"{U8} a;", [], context=context, files={"s": b"".join(data)})
    assert open_trace(directory).lost.events == lost


def test_a_packet_of_another_uuid_is_read(tmp_path):
    directory = write(tmp_path / "t", f"{U8} a;", [b"\1"])
    text = METADATA.format(
        fields=f"{U8} a;", order="le", env="", context="", clock="", map="map = clock.c.value;", time="timestamp",
        uuid='uuid = "2a6422d0-6cee-11e0-8c08-cb07d7b3a564";', header=f"{U8} uuid[16];",
    )  # fmt: skip
    (directory / "metadata").write_text(text)
    bits = 8 * 61
    head = struct.pack("<I16s4Q", 0xC1FC1FC1, bytes(16), bits, bits, 1000, 2000)
    (directory / "s").write_bytes(head + struct.pack("<Q", 1500) + b"\7")
    assert [record.fields for record in open_trace(directory)] == [{"a": 7}]


@pytest.mark.parametrize("size", [1, 3, 12, 24, 40, 63])
@pytest.mark.parametrize("library", ["pyarrow", "polars"])
def test_sequences_of_odd_integers_are_columns(tmp_path, size, library):
    needs.module(library)
    odd = f"integer {{ size = {size}; align = 1; }}"
    fields = f"{U8} len; {odd} data[len]; {odd} arr[5]; {odd} one;"
    directory = write(tmp_path / "t", fields, [b"\2" + b"\xff" * size] * 2)
    trace = open_trace(directory)
    table = trace.to_arrow("e") if library == "pyarrow" else trace.to_polars("e")
    most = 2**size - 1
    of = "to_pylist" if library == "pyarrow" else "to_list"
    data, several, one = (getattr(table[name], of)() for name in ("data", "arr", "one"))
    assert data == [[most, most]] * 2
    assert [list(values) for values in several] == [[most] * 5] * 2
    assert one == [most, most]


# ---- damage ----


def damaged(tmp_path, n_packets=3):
    """Packets of three events, of which the second one's second is longer than the packet."""
    packets = [packet([b"\1" + bytes([n]) for n in (1, 2, 3)], begin=100 * k) for k in range(n_packets)]
    bad = bytearray(packets[1])
    bad[36 + 10 + 8] = 0xFF
    packets[1] = bytes(bad)
    other = [packet([b"\0"], begin=100 * k + 5) for k in range(4)]
    files = {"s": b"".join(packets), "t": b"".join(other)}
    return write(tmp_path / "t", f"{U8} n; {U8} a[n];", [], files=files)


def test_what_is_before_and_after_a_damaged_place_is_given_exactly(tmp_path):
    directory = damaged(tmp_path)
    expected = [10, 15, 20, 30, 110, 115, 210, 215, 220, 230, 315]
    trace = open_trace(directory, errors="skip")
    for _ in range(2):
        assert [record.timestamp for record in trace] == expected
        assert "".join(trace.iter_text()).count("\n") == len(trace) == len(expected)
        assert trace.to_numpy("e")["timestamp"].tolist() == expected
    (damage,) = trace.damage
    size = len(packet([b"\1\1"] * 3))
    assert (damage.file, damage.offset, damage.size) == ("s", size + 46, 20)
    assert (damage.records, damage.begin, damage.end, damage.packets) == (1, 110, 130, None)
    assert "longer than the content" in damage.reason


def test_what_is_before_a_damaged_place_is_given_before_the_error(tmp_path):
    trace = open_trace(damaged(tmp_path))
    for read in (lambda: (str(record.timestamp) for record in trace), lambda: trace.iter_text(records=1)):
        found = []
        with pytest.raises(TraceError, match="s: packet at byte 66: a sequence"):
            for part in read():
                found += part.splitlines()
        assert len(found) == 5
    assert len(trace.damage) == 1


def test_a_header_that_is_none_costs_its_packet(tmp_path):
    packets = [packet([b"\1"], context=bytes([k, 0]), begin=100 * k) for k in range(5)]
    junk = b"\xc1\x1f\xfc\xc1" + b"\0" * 41  # looks like a packet, and is none
    data = packets[0] + junk + packets[1] + b"\xee" * 47 + packets[4]
    context = f"{integer(16)} packet_seq_num;"
    directory = write(tmp_path / "t", f"{U8} a;", [], context=context, files={"s": data})
    before = []
    with pytest.raises(TraceError, match=f"s: packet at byte {len(packets[0])}: "):
        for record in open_trace(directory):
            before.append(record.timestamp)
    assert before == [10]
    trace = open_trace(directory, errors="skip")
    assert [record.timestamp for record in trace] == [10, 110, 410]
    first, second = trace.damage
    assert (first.offset, first.size, first.packets) == (len(packets[0]), 45, 0)
    assert (second.size, second.packets, second.begin, second.end) == (47, 2, 110, 400)
    assert trace.lost.packets == 2


def test_the_index_of_lttng_tells_where_the_next_packet_is(tmp_path):
    """No magic number, so that nothing else tells."""
    packets = [packet([b"\1"], begin=100 * k) for k in range(3)]
    bad = b"\xff" * len(packets[1])
    directory = write(tmp_path / "t", f"{U8} a;", [], files={"s": packets[0] + bad + packets[2]})
    text = (directory / "metadata").read_text().replace("magic;", "anything;")
    (directory / "metadata").write_text(text)
    assert [record.timestamp for record in open_trace(directory, errors="skip")] == [10]
    (directory / "index").mkdir()
    entries = b"".join(struct.pack(">7Q", n * len(bad), 8 * len(bad), 8 * len(bad), 0, 0, 0, 0) for n in range(3))
    (directory / "index" / "s.idx").write_bytes(struct.pack(">4I", 0xC1F1DCC1, 1, 0, 56) + entries)
    trace = open_trace(directory, errors="skip")
    assert [record.timestamp for record in trace] == [10, 210]
    assert trace.damage[0].size == len(bad)


# ---- sessions ----


def test_a_session_is_one_trace_by_time(tmp_path):
    for n, (place, name) in enumerate([("kernel", "k"), ("ust/uid/0/64-bit", "u"), ("host2/ust/pid/7", "p")]):
        env = f'hostname = "{name}"; same = 1; vpid = {n};'
        write(tmp_path / "session" / place, f"{U8} a;", [], env=env,
              files={"s": packet([b"\1", b"\2"], begin=1000 + n)})  # fmt: skip
    (tmp_path / "session" / ".hidden").mkdir()
    (tmp_path / "session" / ".hidden" / "metadata").write_text("nonsense")
    trace = open_trace(tmp_path / "session")
    assert [source.directories for source in trace.sources] == [
        ("host2/ust/pid/7",),
        ("kernel",),
        ("ust/uid/0/64-bit",),
    ]
    assert dict(trace.env) == {"same": 1}
    assert [record.timestamp for record in trace] == [1010, 1011, 1012, 1020, 1021, 1022]
    names = [line.partition(") ")[2].partition(" ")[0] for line in "".join(trace.iter_text()).splitlines()]
    assert names == ["k:(0)", "u:(1)", "p:(2)"] * 2
    assert trace.to_numpy("e")["timestamp"].tolist() == [1010, 1011, 1012, 1020, 1021, 1022]
    assert (len(trace), len(trace.streams), trace.count()) == (6, 3, {"e": 6})
    assert trace.packets[0].file == os.path.join("host2/ust/pid/7", "s")


UUID = 'uuid = "2a6422d0-6cee-11e0-8c08-cb07d7b3a564";'


def chunk(directory, more, *packets):
    """A part of a trace that has a UUID, and whose streams have ids."""
    text = METADATA.format(
        fields=f"{U8} a;", order="le", env="", context=f"{integer(16)} packet_seq_num;", clock="",
        map="map = clock.c.value;", time="timestamp", uuid=UUID, header=f"{U8} uuid[16]; {U8} stream_instance_id;",
    )  # fmt: skip
    directory.mkdir(parents=True)
    (directory / "metadata").write_text(text + more)
    data = b""
    for number, times in packets:
        body = b"".join(struct.pack("<QB", one, one % 256) for one in times)
        bits = 8 * (55 + len(body))
        head = struct.pack("<I16sB4QH", 0xC1FC1FC1, bytes(16), 3, bits, bits, times[0], times[-1], number)
        data += head + body
    (directory / "chan_0").write_bytes(data)


def test_chunks_of_a_rotation_are_one_stream(tmp_path):
    more = '\nevent { name = "later"; id = 9; };\n'
    chunk(tmp_path / "s/archives/1/ust", "", (0, [10, 11]), (1, [20]))
    chunk(tmp_path / "s/archives/2/ust", more, (2, [30]), (3, [40, 41]))
    trace = open_trace(tmp_path / "s")
    assert (len(trace.sources), len(trace.streams), trace.lost.packets) == (1, 1, 0)
    assert [record.timestamp for record in trace] == [10, 11, 20, 30, 40, 41]
    assert set(trace.events) == {"e", "later"}


def test_what_snapshots_share_is_given_once(tmp_path):
    chunk(tmp_path / "s/snapshot-1", "", (0, [10]), (1, [20]))
    chunk(tmp_path / "s/snapshot-2", "", (1, [20, 21]), (2, [30]))
    trace = open_trace(tmp_path / "s")
    assert [record.timestamp for record in trace] == [10, 20, 21, 30]
    assert trace.lost.packets == 0


def test_an_error_in_one_trace_of_a_session_names_it(tmp_path):
    write(tmp_path / "s/a", f"{U8} a;", [b"\1"])
    (tmp_path / "s/b").mkdir()
    (tmp_path / "s/b/metadata").write_text("/* CTF 1.8 */ what")
    with pytest.raises(TraceError, match="s/b: metadata line 1: 'what'"):
        open_trace(tmp_path / "s")


def test_a_file_that_grows_is_read_to_what_is_there(tmp_path, monkeypatch):
    directory = write(tmp_path / "t", f"{U8} a;", [b"\1"])
    whole = (directory / "s").read_bytes()
    (directory / "s").write_bytes(whole + whole[:40])
    sizes = itertools.count(len(whole) + 40)
    real, inode = os.fstat, (directory / "s").stat().st_ino

    def growing(fd):
        found = real(fd)
        if found.st_ino != inode:
            return found
        return os.stat_result((*found[:6], next(sizes), *found[7:]))

    monkeypatch.setattr("ringbuf.trace.sources.os.fstat", growing)
    assert [record.timestamp for record in open_trace(directory)] == [1010]
