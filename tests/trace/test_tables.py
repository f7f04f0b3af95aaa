"""tables.py: pyarrow, pandas and polars have what the records have."""

import datetime
import sys

import ctf_writer
import needs
import numpy
import pytest

from ringbuf.ctf.metadata import ChannelLayout, ClockInfo
from ringbuf.ctf.model import Integer, Sequence, String, Struct
from ringbuf.ctf.schema import EventSchema
from ringbuf.trace import tables
from ringbuf.trace.trace import open_trace

FIELDS = "n:u64,small:i8,text:str,data:bytes,many:u32[],flags:bool[],three:f64[3],level:u8{LOW=1,HIGH=2},on:bool,x:f32"
LIBRARIES = {"to_arrow": "pyarrow", "to_pandas": "pandas", "to_polars": "polars"}
NANOSECOND = 1_700_000_000_123_456_789


@pytest.fixture(params=LIBRARIES)
def convert(request):
    """The name of a method of Trace whose library is there."""
    needs.module(LIBRARIES[request.param])
    return request.param


def rows_of(table):
    """Rows of plain Python values."""
    if hasattr(table, "to_pylist"):
        return table.to_pylist()
    if hasattr(table, "to_dicts"):
        return table.to_dicts()
    return table.to_dict("records")


def plain(value):
    return plain(value.tolist()) if isinstance(value, numpy.ndarray) else value


@pytest.fixture
def trace(tmp_path):
    events = [EventSchema(0, "e0", fields=FIELDS), EventSchema(1, "never", fields=FIELDS)]
    channel = ChannelLayout(bytes(16), "compact", True, ClockInfo(10**9, *divmod(NANOSECOND, 10**9)), events=events)
    packet = ctf_writer.Packet(channel, cpu=1)
    packet.event(0, 5, [2**63, -1, "\u00e9", b"\0\xff", [1, 2], [True, False], [0.5, 1.5, 2.5], 2, True, 0.25])
    packet.event(0, 6, [0, 1, "", b"", [], [], [0.0, 0.0, 0.0], 1, False, 1.0])
    return open_trace(ctf_writer.write(tmp_path / "trace", channel, chan=[packet.bytes()]))


def test_every_library_has_the_values_of_the_records(trace, convert):
    names = trace.to_numpy("e0").dtype.names
    expected = [[plain(value) for value in row] for row in trace.to_numpy("e0").tolist()]
    for row, record in zip(expected, trace, strict=True):
        row[names.index("level")] = record.fields["level"]  # its label
    found = [[plain(row[name]) for name in names] for row in rows_of(getattr(trace, convert)("e0"))]
    assert [row[1:] for row in found] == [row[1:] for row in expected]


def test_times_are_utc_to_the_nanosecond(trace, convert):
    times = getattr(trace, convert)("e0")["timestamp"]
    zones = {
        "to_arrow": lambda: times.type.tz,
        "to_pandas": lambda: times.dt.tz,
        "to_polars": lambda: times.dtype.time_zone,
    }
    assert zones[convert]() in ("UTC", datetime.timezone.utc)
    ticks = {
        "to_arrow": lambda: times.cast("int64").to_pylist(),
        "to_pandas": lambda: times.astype("int64").tolist(),
        "to_polars": lambda: times.to_physical().to_list(),
    }
    assert ticks[convert]() == [NANOSECOND + 5, NANOSECOND + 6]


def test_a_table_without_rows_has_the_same_types(trace, convert):
    tables = getattr(trace, convert)()
    assert list(tables) == ["e0", "never"]
    types = "schema" if hasattr(tables["e0"], "schema") else "dtypes"
    schemas = [getattr(tables[name], types) for name in tables]
    assert str(schemas[0]) == str(schemas[1])
    assert [len(tables[name]) for name in tables] == [2, 0]


def test_text_that_is_no_utf8_is_marked(tmp_path, convert):
    events = [EventSchema(0, "e0", fields="text:str")]
    channel = ChannelLayout(bytes(16), "compact", True, ClockInfo(10**9, 0), events=events)
    data = ctf_writer.Packet(channel).event(0, 1, ["abc"]).bytes().replace(b"abc", b"a\xffc")
    trace = open_trace(ctf_writer.write(tmp_path / "trace", channel, chan=[data]))
    assert [row["text"] for row in rows_of(getattr(trace, convert)("e0"))] == ["a\ufffdc"]


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_structure_is_no_text(name):
    needs.module(LIBRARIES[name])
    rows = numpy.zeros(1, [("timestamp", "i8"), ("cpu", "i4"), ("where", "O"), ("all", "O")])
    rows[0] = 0, 0, {"x": 1, "name": "a"}, [{"x": 2, "name": "b"}]
    where = Struct((("x", Integer(8)), ("name", String())))
    (row,) = rows_of(getattr(tables, name)(rows, {"where": where, "all": Sequence(where, "n")}))
    assert row["where"] == {"x": 1, "name": "a"} and plain(row["all"]) == [{"x": 2, "name": "b"}]


@pytest.mark.parametrize("method", LIBRARIES)
def test_a_missing_library_is_named(trace, monkeypatch, method):
    monkeypatch.setitem(sys.modules, LIBRARIES[method], None)
    with pytest.raises(ImportError, match=f"pip install {LIBRARIES[method]}"):
        getattr(trace, method)("e0")


def test_an_unknown_event_is_a_key_error(trace, convert):
    with pytest.raises(KeyError):
        getattr(trace, convert)("nothing")
