"""_decode.pyx and decode.h: packets to records and columns."""

import itertools
import random
import struct
import subprocess
import sys
import threading

import ctf_writer
import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_schema import fields as any_field
from test_schema import limits

from ringbuf._decode import Decoder, Page, Printer, merged_rows
from ringbuf.ctf import schema, tsdl
from ringbuf.ctf.metadata import ChannelLayout, ClockInfo
from ringbuf.ctf.schema import EventSchema
from ringbuf.errors import TraceError

UUID = b"0123456789abcdef"
HEADERS = [(header, align) for header in ("compact", "large") for align in (1, 4)]


def layout(*texts, header="compact", contexts="", freq=10**9, **more):
    events = [EventSchema(index, f"e{index}", fields=text) for index, text in enumerate(texts)]
    return ChannelLayout(UUID, header, True, ClockInfo(freq, 100, 7), contexts, **{"events": events, **more})


def decoded(channel, *packets, **options):
    return list(Decoder(channel).records(b"".join(packet.bytes() for packet in packets), **options))


# ---- records ----


def test_a_record_tells_what_was_written():
    channel = layout("order:u64,path:str", contexts="vpid:i32", freq=2 * 10**9)
    packet = ctf_writer.Packet(channel, begin=10, cpu=3).event(0, 20, [17, "/pay"], common=[-1])
    (record,) = decoded(channel, packet)
    assert (record.timestamp, record.ticks, record.time_ns) == (20, 20, 100 * 10**9 + 3 + 10)
    assert (record.name, record.event_id, record.cpu) == ("e0", 0, 3)
    assert record.contexts == {"vpid": -1}
    assert record.fields == {"order": 17, "path": "/pay"}
    assert record.payload == struct.pack("<Q", 17) + b"/pay\0"
    assert repr(record) == "Record(20, 'e0', cpu=3, contexts={'vpid': -1}, fields={'order': 17, 'path': '/pay'})"


def test_the_payload_of_a_record_of_bytes_is_its_data():
    channel = layout("payload:bytes@64", "payload:bytes", "n:u8,payload:bytes", contexts="c:u8")
    packet = ctf_writer.Packet(channel)
    packet.event(0, 1, [b"abc"], common=[1]).event(1, 2, [b"de"], common=[1]).event(2, 3, [9, b"f"], common=[1])
    assert [record.payload for record in decoded(channel, packet)] == [b"abc", b"de", b"\x09\x01\0\0\0f"]


def test_records_are_equal_if_all_they_tell_is():
    channel = layout("x:u8", "x:u8", contexts="c:u8")

    def one(ticks=1, id_=0, x=1, c=1, cpu=0):
        return decoded(channel, ctf_writer.Packet(channel, cpu=cpu).event(id_, ticks, [x], common=[c]))[0]

    assert one() == one()
    assert hash(one()) == hash(one())
    for other in (one(ticks=2), one(id_=1), one(x=2), one(c=2), one(cpu=1), object(), None):
        assert one() != other


def test_records_outlive_their_packet():
    channel = layout("text:str,data:bytes@8,more:u32[]")
    packet = ctf_writer.Packet(channel).event(0, 1, ["first", b"\1\2", [7, 8]]).event(0, 2, ["second", b"", []])
    buffer = bytearray(packet.bytes())
    records = list(Decoder(channel).records(buffer))
    buffer[:] = b"\xff" * len(buffer)
    assert [record.fields["text"] for record in records] == ["first", "second"]
    assert records[0].fields == {"text": "first", "data": b"\1\2", "more": [7, 8]}
    assert records[0].payload.startswith(b"first\0")


def test_packets_that_follow_one_another_are_read_in_turn():
    channel = layout("x:u8")
    packets = [ctf_writer.Packet(channel, begin=10 * n, cpu=n).event(0, 10 * n + 1, [n]) for n in range(3)]
    packets.insert(1, ctf_writer.Packet(channel))
    records = decoded(channel, *packets)
    assert [(record.ticks, record.cpu, record.fields["x"]) for record in records] == [(1, 0, 0), (11, 1, 1), (21, 2, 2)]


def test_a_global_stream_takes_its_cpu_from_the_caller():
    channel = ChannelLayout(UUID, "compact", False, ClockInfo(10**9), events=[EventSchema(0, "e")])
    packet = ctf_writer.Packet(channel).event(0, 1)
    assert [record.cpu for record in decoded(channel, packet)] == [None]
    assert [record.cpu for record in decoded(channel, packet, cpu=5)] == [5]
    assert Decoder(channel).to_numpy(packet.bytes(), "e")["cpu"].tolist() == [-1]
    assert Decoder(channel).to_numpy(packet.bytes(), "e", cpu=5)["cpu"].tolist() == [5]


def test_a_packet_tells_its_header():
    channel = layout("x:u8")
    data = ctf_writer.Packet(channel, begin=10, cpu=3, seq=4, discarded=5, instance=6).event(0, 11, [1]).bytes(end=12)
    (packet,) = Decoder(channel).packets(data)
    assert (packet.offset, packet.size, packet.content_size) == (0, 4096, 89)
    assert (packet.begin_ticks, packet.end_ticks) == (10, 12)
    assert (packet.begin, packet.end) == (100 * 10**9 + 17, 100 * 10**9 + 19)
    assert (packet.sequence_number, packet.events_discarded, packet.cpu) == (4, 5, 3)
    assert (packet.stream_id, packet.stream_instance_id) == (0, 6)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", ""),
        ("é☃😀".encode(), "é☃😀"),
        (b"a\xc0\x80b\xc0\x80", "a\0b\0"),
        (b"\xff\xfe", "\udcff\udcfe"),
        (b"\xc0\x80\xff", "\0\udcff"),
        (b"\xc0", "\udcc0"),
        (b"\xc3", "\udcc3"),
        (b"\xed\xa0\x80", "\udced\udca0\udc80"),
    ],
)
def test_text_in_any_bytes_is_decoded(data, text):
    channel = layout("x:str")
    (record,) = decoded(channel, ctf_writer.Packet(channel).event(0, 1, [data]))
    assert record.fields == {"x": text}


def test_texts_that_come_again_are_themselves(rng):
    """Of any length and number, although equal ones may be one object."""
    letters = ["a", "b", "\0", "é", "\udcff"]
    sizes = [0, 1, 8, 63, 64, 65]
    texts = ["".join(rng.choices(letters[: rng.choice([2, 5])], k=rng.choice(sizes))) for _ in range(700)]
    texts += [f"{n:x}" for n in range(700)]
    written = rng.choices(texts, k=3000)
    channel = layout("x:str")
    packet = ctf_writer.Packet(channel)
    for n, text in enumerate(written):
        packet.event(0, n, [text.encode("utf-8", "surrogateescape").replace(b"\0", b"\xc0\x80")])
    decoder = Decoder(channel)
    assert [record.fields["x"] for record in decoder.records(packet.bytes())] == written
    assert decoder.to_numpy(packet.bytes(), "e0")["x"].tolist() == written


def test_numbers_stay_exact():
    channel = layout("a:u64,b:i64,c:f32,d:f64,e:bool,f:bool")
    narrow = struct.unpack("f", struct.pack("f", 0.1))[0]
    values = [2**64 - 1, -(2**63), 0.1, 0.1, True, False]
    (record,) = decoded(channel, ctf_writer.Packet(channel).event(0, 1, values))
    assert list(record.fields.values()) == [2**64 - 1, -(2**63), narrow, 0.1, True, False]
    assert [type(value) for value in record.fields.values()] == [int, int, float, float, bool, bool]


def test_threads_may_share_a_decoder_and_a_record():
    channel = layout("x:u32[],y:str")
    packet = ctf_writer.Packet(channel)
    for count in range(200):
        packet.event(0, count, [range(count % 50), str(count)])
    decoder, data, results = Decoder(channel), packet.bytes(), []
    shared = list(decoder.records(data))

    def run():
        results.append([record.fields for record in decoder.records(data)] + [record.fields for record in shared])

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(result == results[0] for result in results)
    assert results[0][199] == {"x": list(range(49)), "y": "199"}


# ---- columns ----

SIMPLE = {"u8": "u1", "u16": "u2", "u32": "u4", "u64": "u8", "i8": "i1", "i16": "i2", "i32": "i4", "i64": "i8",
          "f32": "f4", "f64": "f8", "bool": "?"}  # fmt: skip


def test_every_type_has_its_dtype():
    text = ",".join(f"a_{base}:{base}" for base in SIMPLE)
    text += ",b:f32[3],c:bool[2],d:i16{A=-1},e:str,f:bytes,g:u8[],h:bytes@8"
    dtype = Decoder(layout(text, contexts="vpid:i32,name:str")).dtype(0)
    expected = [("timestamp", "i8"), ("cpu", "i4"), ("vpid", "i4"), ("name", "O")]
    expected += [(f"a_{base}", kind) for base, kind in SIMPLE.items()]
    expected += [("b", "f4", 3), ("c", "?", 2), ("d", "i2"), ("e", "O"), ("f", "O"), ("g", "O"), ("h", "O")]
    assert dtype == numpy.dtype(expected)


def test_columns_with_one_name_are_told_apart():
    events = [EventSchema(0, "e", contexts="x:u8,cpu:u8", fields="timestamp:u8,x:u16,y:u8")]
    channel = ChannelLayout(UUID, "compact", True, ClockInfo(1), "x:u32,timestamp:u64", events=events)
    names = Decoder(channel).dtype(0).names
    assert names == (
        "timestamp", "cpu", "x", "context.timestamp", "event_context.x", "event_context.cpu", "field.timestamp",
        "field.x", "y",
    )  # fmt: skip


@st.composite
def values_of(draw, field, only_labelled):
    if field.labels and (only_labelled or draw(st.booleans())):
        return draw(st.sampled_from([value for _, value in field.labels]))
    if field.base == "str":
        return draw(st.text(st.characters(codec="utf-8"), max_size=5))
    if field.base == "bytes":
        return draw(st.binary(max_size=5))
    if field.base in schema.INTEGERS:
        one = st.integers(*limits(field.base))
    elif field.base == "bool":
        one = st.booleans()
    else:
        one = st.floats(width=32, allow_nan=False)
    if field.length is None:
        return draw(one)
    size = {"min_size": field.length, "max_size": field.length} if field.length else {"max_size": 4}
    return draw(st.lists(one, **size))


field_lists = st.lists(any_field(), max_size=5, unique_by=lambda field: field.name)
own_contexts = field_lists.map(lambda fields: [field for field in fields if field.kind not in ("bytes", "sequence")])


@st.composite
def channels(draw, only_labelled=False):
    """A layout, packets that fill one stream, and the values of each event: (id, ticks, common, own, fields)."""
    common = draw(field_lists)
    shapes = draw(st.lists(st.tuples(own_contexts, field_lists), min_size=1, max_size=3))
    ids = draw(st.lists(st.integers(0, 40) | st.just(70000), min_size=len(shapes), max_size=len(shapes), unique=True))
    events = [
        EventSchema(id_, f"e{id_}", schema.to_text(own), schema.to_text(fields))
        for id_, (own, fields) in zip(ids, shapes, strict=True)
    ]
    clock = ClockInfo(draw(st.sampled_from([10**9, 3_000_001])))
    header, align = draw(st.sampled_from(["compact", "large"])), draw(st.sampled_from([1, 2, 4, 8]))
    more = {"holes": draw(st.booleans()), "header_align": align, "events": events}
    channel = ChannelLayout(UUID, header, draw(st.booleans()), clock, schema.to_text(common), **more)
    packets, written, now = [], [], draw(st.integers(0, 2**40))
    for seq in range(draw(st.integers(1, 3))):
        packet = ctf_writer.Packet(channel, begin=now, seq=seq)
        for _ in range(draw(st.integers(0, 5))):
            index = draw(st.integers(0, len(shapes) - 1))
            now += draw(st.sampled_from([0, 1, 2**27 - 1, 2**27, 2**33]))
            values = [[draw(values_of(field, only_labelled)) for field in part] for part in (common, *shapes[index])]
            if channel.holes and draw(st.booleans()):
                packet.hole(draw(st.integers(0, 40)))
            packet.event(ids[index], now, values[2], values[1], values[0])
            written.append((ids[index], now, *values))
        packets.append(packet)
    return channel, packets, written


def as_record(channel, id_, ticks, common, own, fields):
    event = next(event for event in channel.events if event.id == id_)
    contexts = {**named(channel.contexts, common), **named(event.contexts, own)}
    return id_, ticks, contexts, named(event.fields, fields)


def named(text, values):
    fields = schema.parse(text)
    labels = [{value: label for label, value in reversed(field.labels)} for field in fields]
    return {
        field.name: labels.get(value, value) if field.labels else value
        for field, value, labels in zip(fields, values, labels, strict=True)
    }


@settings(max_examples=40)
@given(channels())
def test_whatever_was_written_is_read(written):
    channel, packets, events = written
    records = decoded(channel, *packets)
    assert [(record.event_id, record.ticks, record.contexts, record.fields) for record in records] == [
        as_record(channel, *event) for event in events
    ]


@settings(max_examples=40)
@given(channels())
def test_columns_have_the_values_of_the_records(written):
    channel, packets, events = written
    data = b"".join(packet.bytes() for packet in packets)
    decoder = Decoder(channel)
    tables = decoder.to_numpy(data)
    assert set(tables) == {event.name for event in channel.events}
    assert sum(map(len, tables.values())) == len(events)
    for event in channel.events:
        table = tables[event.name]
        rows = [values for values in events if values[0] == event.id]
        records = [record for record in decoder.records(data) if record.event_id == event.id]
        assert table["timestamp"].tolist() == [record.time_ns for record in records]
        columns = list(table.dtype.names[2:])
        assert len(columns) == len(table.dtype.names) - 2
        for row, (_, _, *parts) in zip(table, rows, strict=True):
            values = [value for part in parts for value in part]
            assert [plain(row[name]) for name in columns] == values


def plain(cell):
    return cell.tolist() if isinstance(cell, (numpy.ndarray, numpy.generic)) else cell


@pytest.mark.parametrize(("header", "align"), HEADERS)
def test_wanted_events_are_picked_from_among_others(header, align):
    channel = layout("x:u32,y:u8", "text:str", "z:f64[2]", header=header, header_align=align)
    packet = ctf_writer.Packet(channel)
    for count in range(100):
        packet.event(0, 3 * count, [count, count % 7]).event(1, 3 * count + 1, ["x" * (count % 5)])
        packet.hole(count).event(2, 3 * count + 2, [[count, -count]])
    decoder = Decoder(channel)
    table = decoder.to_numpy(packet.bytes(), "e2")
    assert table["z"].tolist() == [[count, -count] for count in range(100)]
    assert table["timestamp"].tolist() == [100 * 10**9 + 7 + 3 * count + 2 for count in range(100)]
    assert decoder.to_numpy(packet.bytes(), "e1")["text"].tolist() == ["x" * (count % 5) for count in range(100)]
    with pytest.raises(KeyError):
        decoder.to_numpy(packet.bytes(), "e3")


def test_cells_of_sequences_are_arrays_that_can_be_written():
    channel = layout("x:u16[],y:bool[],z:f32[]")
    packet = ctf_writer.Packet(channel).event(0, 1, [[1, 2], [True, False], [0.5]]).event(0, 2, [[3, 4], [], []])
    table = Decoder(channel).to_numpy(packet.bytes(), "e0")
    assert [cell.dtype for cell in table[0].tolist()[2:]] == [numpy.dtype(kind) for kind in ("u2", "?", "f4")]
    table[0]["x"][0] = 9
    assert [cell.tolist() for cell in table["x"]] == [[9, 2], [3, 4]]


def test_any_byte_that_is_not_zero_is_true():
    channel = layout("x:bool,y:bool[2]")
    data = bytearray(ctf_writer.Packet(channel).event(0, 1, [True, [False, True]]).bytes())
    data[88:91] = b"\x02\x00\x80"
    assert list(Decoder(channel).records(data))[0].fields == {"x": True, "y": [True, False, True][1:]}
    table = Decoder(channel).to_numpy(data, "e0")
    assert table["x"].view("u1").tolist() == [1]
    assert table["y"].tolist() == [[False, True]]


def test_counting_adds_up_and_reads_nothing_else():
    channel = layout("x:u8", "y:str")
    packet = ctf_writer.Packet(channel).event(0, 1, [1]).event(1, 2, ["a"]).event(0, 3, [2])
    decoder, data = Decoder(channel), packet.bytes()
    counts = decoder.new_counts()
    for one in decoder.packets(data + data):
        decoder.count_events(data + data, one, counts)
    assert list(counts) == [4, 2]


@pytest.mark.parametrize("n_bytes", range(1, 41))
def test_rows_of_any_size_are_whole(n_bytes):
    channel = layout(",".join(f"f{i}:u8" for i in range(n_bytes)))
    packet = ctf_writer.Packet(channel)
    values = [[(7 * row + i) % 256 for i in range(n_bytes)] for row in range(3)]
    for time, row in enumerate(values):
        packet.event(0, time, row)
    table = Decoder(channel).to_numpy(packet.bytes(), "e0")
    assert [list(row)[2:] for row in table.tolist()] == values


@pytest.mark.parametrize("header", ["compact", "large"])
@pytest.mark.parametrize("holes", [False, True])
def test_every_header_of_ours_is_read_without_walking_its_types(header, holes):
    channel = ChannelLayout(
        bytes(16), header, True, ClockInfo(10**9), holes=holes, events=[EventSchema(0, "e", fields="x:u64")]
    )
    assert Decoder(channel).least_size(0) == 8 + (4 if header == "compact" else 6)


def long_packet(channel, count):
    packet = ctf_writer.Packet(channel)
    for n in range(count):
        packet.event(n % 3 == 2, n, [str(n)] if n % 3 == 2 else [n])
    return packet.bytes()


def test_tables_grow_with_the_packet():
    channel = layout("x:u64", "y:str")
    decoder, data = Decoder(channel), long_packet(channel, 5000)
    tables = [decoder.table(0), decoder.table(1)]
    packet = decoder.read_packet(data)
    assert decoder.fill(data, packet, tables) + decoder.fill(data, packet, tables[:1]) == 5000 + 3334
    numbers, texts = (table.take() for table in tables)
    assert numbers["x"].tolist() == [n for n in range(5000) if n % 3 != 2] * 2
    assert texts["y"].tolist() == [str(n) for n in range(5000) if n % 3 == 2]
    assert [len(table) for table in tables] == [len(table.take()) for table in tables] == [0, 0]


def test_of_a_damaged_packet_tables_have_what_is_before_the_damage():
    channel = layout("x:u64", "y:str")
    decoder, good = Decoder(channel), long_packet(channel, 9)
    bad = bytearray(long_packet(channel, 5000))
    packet = decoder.read_packet(bad)
    bad[packet.content_size - 12] = 0x1D  # the id of the last event
    tables = [decoder.table(0), decoder.table(1)]
    decoder.fill(good, decoder.read_packet(good), tables)
    with pytest.raises(TraceError):
        decoder.fill(bad, packet, tables)
    counts = decoder.new_counts()
    with pytest.raises(TraceError):
        decoder.count_events(bad, packet, counts)
    assert [len(table) for table in tables] == [6 + counts[0], 3 + counts[1]]
    assert sum(counts) == 4999
    events, byte, _ = decoder.damage_in(bad, packet)
    assert (events, byte) == (4999, packet.content_size - 12)
    assert [record.event_id for record in decoder.packet_records(good, decoder.read_packet(good))] == [
        record.event_id for record in itertools.islice(decoder.packet_records(bad, packet, check=False), 9)
    ]


@pytest.mark.parametrize("n_lanes", [1, 2, 3, 4, 7, 20])
@pytest.mark.parametrize("dtype", ["i8", "O"])
def test_rows_are_merged_by_time_and_ties_go_by_lane(rng, n_lanes, dtype):
    lanes, count = [], 0
    for _ in range(n_lanes):
        pieces, now = [], rng.randrange(10)
        for _ in range(rng.randrange(1, 6)):
            rows = numpy.empty(rng.choice((0, 1, 2, 30)), [("timestamp", "i8"), ("cpu", "i4"), ("x", dtype)])
            for row in rows:
                now += rng.choice((0, 0, 1, 9))
                count += 1
                row["timestamp"], row["cpu"], row["x"] = now, 0, count
            pieces.append(rows)
        lanes.append(pieces)
    everything = numpy.concatenate([rows for pieces in lanes for rows in pieces])
    expected = everything[everything["timestamp"].argsort(kind="stable")]
    if count:
        assert merged_rows(lanes).tolist() == expected.tolist()


def test_importing_the_decoder_does_not_import_numpy():
    code = "import sys, ringbuf._decode, ringbuf.trace.trace; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---- damage ----


def damaged(channel, packet, reason, **changes):
    """The packet, changed, is refused for the reason, and none of its records is handed out."""
    data = packet if isinstance(packet, (bytes, bytearray)) else packet.bytes(**changes)
    decoder = Decoder(channel)
    records = decoder.records(data)
    with pytest.raises(TraceError, match=f"packet at byte 0: .*{reason}"):
        next(records)
    with pytest.raises(TraceError):
        decoder.to_numpy(data)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"magic": 0xC1FC1FC0}, "its magic number is 0xc1fc1fc0, not 0xc1fc1fc1"),
        ({"uuid": b"\0" * 16}, "its UUID is not the trace's"),
        ({"stream_id": 1}, "it belongs to stream 1, which the metadata lacks"),
        ({"packet_size": 8 * 4097}, "it has 4097 bytes, but the file ends after 4096"),
        ({"packet_size": 2**64 - 8}, "but the file ends after 4096"),
        ({"packet_size": 8 * 4096 - 1}, "are impossible"),
        ({"packet_size": 0}, "are impossible"),
        ({"content_size": 8 * 83}, "are impossible"),
        ({"content_size": 0}, "are impossible"),
        ({"content_size": 8 * 4096 + 8}, "are impossible"),
        ({"content_size": 2**64 - 1}, "are impossible"),
        ({"content_size": 8 * 88}, "the content ends too early"),
        ({"content_size": 8 * 86}, "the content ends too early"),
        ({"content_size": 8 * 90}, "the content ends too early|an event has an id"),
        ({"begin": 2**64 - 1}, "beyond the range"),
        ({"end": 2**63 - 1}, "beyond the range"),
    ],
)
def test_a_damaged_packet_header_is_refused(changes, reason):
    channel = layout("x:u8")
    damaged(channel, ctf_writer.Packet(channel).event(0, 1, [1]), reason, **changes)


@pytest.mark.parametrize("size", [0, 1, 4, 20, 83])
def test_a_packet_that_is_cut_short_is_refused(size):
    channel = layout("x:u8")
    with pytest.raises(TraceError, match="packet at byte 0: "):
        Decoder(channel).read_packet(ctf_writer.Packet(channel).bytes()[:size])


@pytest.mark.parametrize("header", ["compact", "large"])
@pytest.mark.parametrize("header_align", [1, 4])
def test_damaged_events_are_refused(header, header_align):
    def packet(**more):
        return ctf_writer.Packet(channel, **more).event(0, 1, [5], extended=True)

    channel = layout(
        "x:u32", "n:u16[]", "s:str", "d:bytes@64", "a:u8[40]", "m:bool[]", header=header, header_align=header_align,
        contexts="",
    )  # fmt: skip
    for id_, values in ((1, [[1, 2]]), (2, ["text"]), (3, [b"data"]), (4, [range(40)]), (5, [[True]])):
        whole = packet().event(id_, 2, values)
        short = len(whole.body)
        for lost in range(1, short - len(packet().body) - 3):
            reasons = "content ends too early|longer than the content|has no end"
            damaged(channel, whole, reasons, content_size=8 * (short - lost))
    start = len(packet().event(1, 2, [[]]).body) - 4
    for id_, length in ((1, 2**32 - 1), (3, 2**31 - 1), (5, 5)):
        data = bytearray(packet().event(id_, 2, [[]] if id_ != 3 else [b""]).bytes())
        data[start : start + 4] = struct.pack("<I", length)
        damaged(channel, data, "is longer than the content")
    damaged(channel, packet().hole(2**20), "content ends too early", content_size=8 * 200)
    damaged(channel, packet().hole(7), "content ends too early")
    damaged(channel, packet().hole(0).hole(0).event(0, 2, [1]), "variant's tag selects no option")


@pytest.mark.parametrize("header", ["compact", "large"])
def test_events_that_the_metadata_lacks_are_refused(header):
    more = layout(events=[EventSchema(id_, f"e{id_}", fields="x:u8") for id_ in (0, 1, 5, 9, 70000)], header=header)
    less = layout(events=[EventSchema(id_, f"e{id_}", fields="x:u8") for id_ in (0, 5, 70000)], header=header)
    for id_ in (0, 5, 70000):
        packet = ctf_writer.Packet(more).event(id_, 1, [id_ % 256])
        assert [record.event_id for record in decoded(less, packet)] == [id_]
    for id_ in (1, 9):
        damaged(less, ctf_writer.Packet(more).event(id_, 1, [1]), "has an id that the metadata lacks")


def test_times_beyond_64_bits_of_nanoseconds_are_refused():
    for freq, ticks in ((10**9, 2**63 - 100 * 10**9 - 2**13), (1, 2**63 // 10**9 - 108), (3 * 10**9, 2**64 - 1)):
        channel = layout("", freq=freq)
        (record,) = decoded(channel, ctf_writer.Packet(channel).event(0, ticks))
        assert 0 < record.time_ns < 2**63
    for freq, ticks in ((10**9, 2**63 - 100 * 10**9), (1, 2**63 // 10**9), (10**6, 2**64 - 1)):
        channel = layout("", freq=freq)
        damaged(channel, ctf_writer.Packet(channel).event(0, ticks), "beyond the range", end=0)


def test_a_stray_buffer_is_not_read_beyond_its_end():
    channel = layout("x:u8")
    data = ctf_writer.Packet(channel).event(0, 1, [1]).bytes()
    decoder = Decoder(channel)
    packet = decoder.read_packet(data)
    for offset in (-1, 1, 4096, 2**40):
        with pytest.raises((ValueError, OverflowError)):
            decoder.packet_records(data[:89], packet, offset=offset)
    with pytest.raises(ValueError):
        decoder.read_packet(data, 4097)


def test_a_packet_of_another_trace_is_refused():
    one, two = (
        compile_fields(
            "u8 a;",
            trace="packet.header := struct { u8 stream_id; };",
            stream="".join(f"stream {{ id = {id_}; event.header := {HEADER}; }};" for id_ in range(count)),
        )
        for count in (1, 2)
    )
    data = b"\1" + bytes(100)
    packet = two.read_packet(data)
    with pytest.raises(ValueError, match="not of this decoder's trace"):
        one.packet_records(data, packet)
    with pytest.raises((TypeError, AttributeError)):
        one.packet_records(data, None)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("struct { u8 a; } magic;", "magic is not an unsigned integer"),
        ("struct { u8 a; } stream_id;", "stream_id is not an unsigned integer"),
        ("string stream_instance_id;", "stream_instance_id is not an unsigned integer"),
        ("u8 uuid[3];", "uuid is not an array of 16 bytes"),
        ("string uuid;", "uuid is not an array of 16 bytes"),
    ],
)
def test_odd_types_in_packet_headers_are_refused(header, reason):
    uuid = 'uuid = "2a6422d0-6cee-11e0-8c08-cb07d7b3a564"; packet.header'
    with pytest.raises(TraceError, match=f"metadata: the packets' {reason}"):
        compile_fields("u8 a;", trace=f"{uuid} := struct {{ {header} }};")


@pytest.mark.parametrize("name", ["timestamp_begin", "content_size", "packet_size", "packet_seq_num"])
def test_signed_numbers_with_a_meaning_are_refused_in_packet_contexts(name):
    stream = f"stream {{ event.header := {HEADER}; packet.context := struct {{ i8 {name}; }}; }};"
    with pytest.raises(TraceError, match=f"metadata: the packets' {name} is not an unsigned integer"):
        compile_fields("u8 a;", stream=stream)


def every_kind():
    """A channel with fields of every kind, and packets full of them."""
    channel = layout(
        "a:u8,b:f64[2]", "s:str,n:u32[],e:u8{A=0,B=9}", "d:bytes@32,t:bool,q:bool[]", contexts="vpid:i32,name:str"
    )  # fmt: skip
    packets = []
    for seq in range(3):
        packet = ctf_writer.Packet(channel, begin=1000 * seq, seq=seq)
        for count in range(6):
            now = 1000 * seq + 10 * count
            packet.event(0, now, [count, [1.5, count]], common=[7, "proc"])
            packet.hole(5 * count).event(1, now + 1, ["é" * count, range(count), 9], common=[8, ""])
            packet.event(2, now + 2, [b"x" * count, True, [True] * count], common=[-1, "p"], extended=count == 3)
        packets.append(packet.bytes())
    return channel, packets


def read_everything(decoder, data):
    for record in decoder.records(data):
        repr(record), record.payload
    decoder.to_numpy(data)
    printer, page = Printer(decoder, ""), Page(1)
    for packet in decoder.packets(data):
        printer.fill(data, packet, page.lanes[0])
    page.lines(page.lanes[0].take())


def test_no_damage_does_more_than_raise_a_trace_error(seed):
    rng = random.Random(seed)
    channel, packets = every_kind()
    decoder = Decoder(channel)
    good = b"".join(packets)
    read_everything(decoder, good)
    refused = 0
    for _ in range(3000):
        data = bytearray(good)
        for _ in range(rng.choice((1, 1, 2, 8))):
            start = rng.randrange(len(data))
            if rng.random() < 0.8:
                # Most of a packet is padding: aim at what is read.
                start = start // 4096 * 4096 + rng.randrange(900)
            patch = rng.choice((b"\0", b"\xff", b"\x80", rng.randbytes(1), rng.randbytes(4), b"\xff" * 8, b"\0" * 8))
            data[start : start + len(patch)] = patch
        if rng.random() < 0.1:
            del data[rng.randrange(len(data)) :]
        try:
            read_everything(decoder, bytes(data))
        except TraceError:
            refused += 1
    assert refused > 300


def test_a_packet_that_changes_while_it_is_read_does_no_harm(seed):
    rng = random.Random(seed)
    channel, packets = every_kind()
    decoder = Decoder(channel)
    for _ in range(300):
        data = bytearray(packets[0])
        packet = decoder.read_packet(data)
        records = decoder.packet_records(data, packet)
        next(records)
        for _ in range(rng.choice((1, 3, 20))):
            data[rng.randrange(84, 900)] = rng.randrange(256)
        try:
            for record in records:
                repr(record), record.payload
            decoder.fill(data, packet, [decoder.table(index) for index in range(3)])
        except TraceError:
            pass


# ---- metadata that cannot be decoded ----

BEGIN = """/* CTF 1.8 */
typealias integer { size = 8; align = 8; } := u8;
typealias integer { size = 8; align = 8; signed = true; } := i8;
typealias integer { size = 64; align = 8; map = clock.c.value; } := time;
trace { major = 1; minor = 8; byte_order = le; };
clock { name = c; freq = 1000000000; };
"""


HEADER = "struct { u8 id; time t; }"


def compile_fields(fields, *, header=HEADER, before="", trace="", stream=None):
    stream = stream or f"stream {{ event.header := {header}; }};"
    text = BEGIN.replace("byte_order = le;", "byte_order = le; " + trace)
    event = f'event {{ name = "x"; id = 0; stream_id = 0; fields := struct {{ {fields} }}; }};'
    return Decoder(tsdl.parse(f"{text} {before} {stream} {event}"))


def test_streams_have_their_own_contexts_and_headers():
    """Sequences in packet contexts, whose length is in the packet header, in each of two streams."""
    text = BEGIN.replace("byte_order = le;", "byte_order = le; packet.header := struct { u8 stream_id; u8 n; };")
    for id_, kind in ((3, "u8"), (4, "i8")):
        text += f"""
stream {{
    id = {id_};
    packet.context := struct {{ u8 pad[trace.packet.header.n]; u8 cpu_id; u8 packet_size; u8 content_size; }};
    event.header := struct {{ u8 id; time t; }};
    event.context := struct {{ u8 count; }};
}};
event {{ name = "x{id_}"; id = 1; stream_id = {id_}; context := struct {{ {kind} own[stream.event.context.count]; }};
    fields := struct {{ {kind} more[stream.event.context.count]; u8 count2; {kind} rest[event.fields.count2]; }}; }};
"""
    decoder = Decoder(tsdl.parse(text))
    packets = b""
    for id_, pad in ((3, 2), (4, 0), (3, 1)):
        event = b"\x01" + struct.pack("<Q", 7) + b"\x02\xff\xfe\x01\x02\x03\x09\x08\x07"
        size = 2 + pad + 3 + len(event)
        packets += bytes([id_, pad]) + bytes(pad) + bytes([pad, 8 * size, 8 * size]) + event
    records = list(decoder.records(packets))
    assert [(record.name, record.cpu) for record in records] == [("x3", 2), ("x4", 0), ("x3", 1)]
    assert records[0].contexts == {"count": 2, "own": [255, 254]}
    assert records[1].contexts == {"count": 2, "own": [-1, -2]}
    assert records[2].fields == {"more": [1, 2], "count2": 3, "rest": [9, 8, 7]}
    assert [cell.tolist() for cell in decoder.to_numpy(packets, "x3")["rest"]] == [[9, 8, 7]] * 2


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ("u8 a[n];", "n is not an integer"),
        ("u8 a[n]; u8 n;", "n is not an integer"),
        ("string n; u8 a[n];", "n is not an integer"),
        ("i8 n; u8 a[n];", "the length n is signed"),
        ("struct { u8 n; } s; u8 a[s.m];", "s.m is not an integer"),
        ("u8 a[stream.event.header.x];", "is not an integer that can be referred to here"),
        ("variant <n> { u8 a; } v;", "n is not an integer"),
        ("u8 n; variant <n> { u8 a; } v;", "the tag n is not an enumeration"),
        ("variant { u8 a; } v;", "a variant has no tag"),
        ("u8 a[100000][100000][100000];", "an array is too long"),
        ("struct { u8 a[100000000000]; u8 b[100000000000]; } s;", "a structure is too large"),
    ],
)
def test_types_that_cannot_be_decoded_are_refused(fields, reason):
    with pytest.raises(TraceError, match=f"metadata.*{reason}"):
        compile_fields(fields)


def test_types_that_explode_are_refused():
    doubled = "struct s0 { u8 a; };" + "".join(f"struct s{n + 1} {{ struct s{n} a, b; }};" for n in range(40))
    with pytest.raises(TraceError, match="more than"):
        compile_fields("struct s40 a;", before=doubled)
    nested = "struct s0 { u8 a; };" + "".join(f"struct s{n + 1} {{ struct s{n} a; }};" for n in range(5000))
    with pytest.raises(TraceError, match="nested more than"):
        compile_fields("struct s5000 a;", before=nested)


def test_the_clock_of_a_stream_must_be_declared():
    with pytest.raises(TraceError, match="clock 'd' is not declared"):
        compile_fields("u8 a;", header="struct { integer { size = 64; map = clock.d.value; } t; }")
