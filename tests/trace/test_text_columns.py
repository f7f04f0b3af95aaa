"""Columns whose values vary in size: text, bytes and sequences go to NumPy and pyarrow as the records have them."""

import ctf_writer
import needs
import numpy
import pytest

from ringbuf._decode import Rows
from ringbuf.ctf.metadata import ChannelLayout, ClockInfo
from ringbuf.ctf.model import Enum, Integer
from ringbuf.ctf.schema import EventSchema
from ringbuf.trace import tables
from ringbuf.trace.trace import open_trace

FIELDS = "text:str,data:bytes,n:u16,few:i64[],flags:bool[],last:str"
TEXTS = ["", "a", "zwölf", "\U0001f642" * 5, "x" * 300, "plain ASCII of some length", "\0inside", "end"]


def a_text(rng):
    return rng.choice(TEXTS) * rng.choice((1, 1, 2)) + str(rng.randrange(10))


def values(rng):
    few = [rng.randrange(-(2**63), 2**63) for _ in range(rng.choice((0, 1, 5)))]
    flags = [rng.random() < 0.5 for _ in range(rng.randrange(4))]
    return [a_text(rng), rng.randbytes(rng.choice((0, 3, 200))), rng.randrange(2**16), few, flags, a_text(rng)]


def make(directory, rng, n, cpus=2):
    """A trace of `n` events from each CPU, in some packets."""
    events = [EventSchema(0, "e", fields=FIELDS), EventSchema(1, "other", fields="x:u8")]
    channel = ChannelLayout(bytes(16), "compact", True, ClockInfo(10**9), contexts="comm:str", events=events)
    files = {}
    for cpu in range(cpus):
        now, packets = 0, []
        while len(packets) < 3:
            packet = ctf_writer.Packet(channel, begin=now, cpu=cpu, seq=len(packets))
            for _ in range(n // 3):
                now += rng.choice((0, 1, 30))
                packet.event(0, now, values(rng), common=[a_text(rng)])
                packet.event(1, now, [7], common=["-"])
            packets.append(packet.bytes())
        files[f"chan_{cpu}"] = packets
    return open_trace(ctf_writer.write(directory, channel, **files))


@pytest.fixture
def trace(tmp_path, rng):
    return make(tmp_path / "trace", rng, 3000)


def of_records(trace, name="e"):
    return [
        [record.time_ns, record.cpu, *record.contexts.values(), *record.fields.values()]
        for record in trace.records(name)
    ]


def plain(value):
    return plain(value.tolist()) if isinstance(value, numpy.ndarray) else value


def transposed(columns):
    return [list(row) for row in zip(*columns, strict=True)]


def test_numpy_has_the_values_of_the_records(trace):
    assert [[plain(value) for value in row] for row in trace.to_numpy("e").tolist()] == of_records(trace)
    parts = list(trace.iter_numpy("e", 500))
    assert len(parts) > 3
    assert [row["last"] for part in parts for row in part] == [row[-1] for row in of_records(trace)]


def test_columns_have_the_values_of_the_records(trace):
    columns = trace.to_columns("e")
    times = columns["timestamp"]
    assert times.dtype == "M8[ns]"
    found = transposed([times.view("i8").tolist(), *[map(plain, column) for column in list(columns.values())[1:]]])
    assert found == of_records(trace)
    assert all(len(part["text"]) for part in trace.iter_columns("e", 500))
    with pytest.raises(KeyError):
        trace.to_columns("nothing")


@pytest.mark.skipif(not hasattr(numpy, "dtypes") or not hasattr(numpy.dtypes, "StringDType"), reason="NumPy 1")
def test_columns_of_text_are_numpys_strings(trace):
    columns = trace.to_columns("e")
    assert {name for name, one in columns.items() if isinstance(one.dtype, numpy.dtypes.StringDType)} == {
        "comm", "text", "last",
    }  # fmt: skip
    assert all(one.flags.c_contiguous for one in columns.values())


def test_arrow_has_the_values_of_the_records(trace):
    arrow = needs.module("pyarrow")
    table = trace.to_arrow("e")
    table.validate(full=True)
    assert table["text"].type == arrow.large_string() and table["few"].type == arrow.large_list(arrow.int64())
    rows = table.set_column(0, "timestamp", table["timestamp"].cast("int64")).to_pylist()
    assert [list(row.values()) for row in rows] == of_records(trace)
    parts = list(trace.iter_arrow("e", 500))
    assert len(parts) > 3 and arrow.concat_tables(parts) == table


@pytest.mark.parametrize("bad", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe0\x80\x80", b"\xc1\xbf"])
def test_one_text_that_is_no_utf8_spoils_no_other(tmp_path, bad):
    events = [EventSchema(0, "e", fields="text:str")]
    channel = ChannelLayout(bytes(16), "compact", True, ClockInfo(10**9), events=events)
    packet = ctf_writer.Packet(channel)
    # The second would be whole together with the third.
    for text in ("good", "b" * len(bad), "é", "\0"):
        packet.event(0, 1, [text])
    data = packet.bytes().replace(b"b" * len(bad) + b"\0", bad + b"\0")
    trace = open_trace(ctf_writer.write(tmp_path / "trace", channel, chan=[data]))
    expected = ["good", bad.decode("utf-8", "replace"), "é", "\0"]
    assert trace.to_columns("e")["text"].tolist() == expected
    assert trace.to_numpy("e")["text"].tolist()[1] == bad.decode("utf-8", "surrogateescape")
    needs.module("pyarrow")
    assert trace.to_arrow("e")["text"].to_pylist() == expected


def test_one_long_text_costs_no_more_than_itself(tmp_path):
    events = [EventSchema(0, "e", fields="text:str")]
    channel = ChannelLayout(bytes(16), "compact", True, ClockInfo(10**9), events=events)
    packet, texts = ctf_writer.Packet(channel), ["short"] * 2000 + ["long" * 100_000]
    for text in texts:
        packet.event(0, 1, [text])
    trace = open_trace(ctf_writer.write(tmp_path / "trace", channel, chan=[packet.bytes()]))
    assert trace.to_columns("e")["text"].tolist() == texts


def test_rows_outlive_the_trace_and_their_siblings(tmp_path, rng):
    trace = make(tmp_path / "trace", rng, 600)
    expected = of_records(trace)
    batches = [rows for _, rows in trace._columns(["e"], 200)]
    del trace
    assert all(isinstance(rows, Rows) for rows in batches)
    kept = [rows[::2] for rows in batches]
    starts = [sum(len(rows) for rows in batches[:index]) for index in range(len(batches))]
    del batches
    for start, rows in zip(starts, kept, strict=True):
        assert rows["text"].tolist() == [row[3] for row in expected[start : start + 2 * len(rows) : 2]]
        masked = rows[rows["n"] > 2**15]
        assert masked["last"].tolist() == [text for text, n in zip(rows["last"], rows["n"], strict=True) if n > 2**15]


LABELS = (("low", 1, 1), ("high", 2, 2), ("low", 7, 7), ("some", 10, 20), ("never", -5, -5), ("4", 3, 3))


@pytest.mark.parametrize("dtype", ["u1", "i8", "u8"])
def test_enumerations_are_their_labels(dtype):
    rows = numpy.zeros(7, [("timestamp", "i8"), ("cpu", "i4"), ("level", dtype)])
    rows["level"] = [1, 2, 7, 12, 4, 3, 1]
    kinds = {"level": Enum(Integer(8), LABELS)}
    expected = ["low", "high", "low", "some", "4", "4", "low"]
    for convert, library in ((tables.to_arrow, "pyarrow"), (tables.to_pandas, "pandas"), (tables.to_polars, "polars")):
        needs.module(library)
        column = convert(rows, kinds)["level"]
        assert (column.to_pylist() if library == "pyarrow" else list(column)) == expected
        empty = convert(rows[:0], kinds)["level"]
        assert (empty.type if library == "pyarrow" else empty.dtype.name if library == "pandas" else empty.dtype) == (
            column.type if library == "pyarrow" else column.dtype.name if library == "pandas" else column.dtype
        )


def test_a_time_that_is_not_there_is_null():
    rows = numpy.zeros(1, [("timestamp", "i8"), ("cpu", "i4")])
    rows["timestamp"] = -(2**63)
    assert numpy.isnat(tables.to_columns(rows)["timestamp"]).all()
    needs.module("pyarrow")
    assert tables.to_arrow(rows, {})["timestamp"].to_pylist() == [None]
