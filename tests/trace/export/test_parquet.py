"""parquet.py: what pyarrow reads is what was recorded."""

import sys

import ctf_writer
import needs
import pytest
import rings
from timelines import ORIGIN, PID, TICK, TID, written

from ringbuf.ctf.metadata import ChannelLayout, ClockInfo
from ringbuf.ctf.schema import EventSchema
from ringbuf.trace.trace import open_trace


@pytest.fixture
def parquet():
    return needs.module("pyarrow.parquet")


@pytest.fixture
def table(parquet, tmp_path):
    """Export a trace; the table in the file."""

    def export(trace, **wanted):
        trace.export(tmp_path / "x.parquet", **wanted)
        return parquet.read_table(tmp_path / "x.parquet")

    return export


def times(found):
    return [time - ORIGIN for time in found["timestamp"].cast("int64").to_pylist()]


def test_one_event_is_its_table(table, tmp_path):
    trace = written(tmp_path, (1, "tick", TICK), (2, "web", [1, 0]), (3, "tick", TICK))
    found = table(trace, events="tick")
    assert found.equals(trace.to_arrow("tick").combine_chunks())


def test_all_events_are_one_table_by_time(table, tmp_path):
    trace = written(tmp_path, (1, "tick", TICK), (2, "web", [5, 0]), (3, "tick", TICK), (3, "db", [6, 5, "orders"]))
    found = table(trace)
    assert found.column_names[:5] == ["timestamp", "event", "cpu", "vpid", "vtid"]
    assert times(found) == [1, 2, 3, 3]
    assert found["event"].to_pylist() == ["tick", "web", "db", "tick"]  # at one time, as they were declared
    assert set(found["vpid"].to_pylist()) == {PID} and set(found["vtid"].to_pylist()) == {TID}
    rows = found.drop_columns(["timestamp"]).to_pylist()
    web = rows[1]
    assert (web["span_id"], web["parent_id"], web["table"], web["data"]) == (5, 0, None, None)
    assert rows[0]["many"] == [1, 2] and rows[0]["data"] == b"\x00\xff" and rows[0]["span_id"] is None


def test_fields_of_one_name_and_type_share_a_column(table, tmp_path):
    trace = written(
        tmp_path, (1, "log", [20, "shop", "m", "f.py", 3, "g", ""]), (2, "function_code", [1, "f", "f.py", 2])
    )
    found = table(trace, events=["log", "function_code"])
    assert found["line"].to_pylist() == [3, 2]


def test_fields_of_one_name_and_several_types_have_columns_of_their_own(table, tmp_path):
    texts = ("a", "x:u8,event:u8"), ("b", "x:str"), ("b", "x:f64")
    events = [EventSchema(index, name, fields=text) for index, (name, text) in enumerate(texts)]
    channel = ChannelLayout(bytes(16), "compact", True, ClockInfo(10**9, 0), events=events)
    packet = ctf_writer.Packet(channel).event(0, 1, [7, 8]).event(1, 2, ["t"]).event(2, 3, [0.5])
    trace = open_trace(ctf_writer.write(tmp_path / "trace", channel, s=[packet.bytes()]))
    rows = table(trace).drop_columns(["timestamp", "cpu"]).to_pylist()
    assert rows == [
        {"event": "a", "x": 7, "a.event": 8, "b.x": None, "b.b.x": None},
        {"event": "b", "x": None, "a.event": None, "b.x": "t", "b.b.x": None},
        {"event": "b", "x": None, "a.event": None, "b.x": None, "b.b.x": 0.5},
    ]


def test_row_groups_are_written_as_the_trace_is_read(parquet, tmp_path, monkeypatch):
    monkeypatch.setattr("ringbuf.trace.export.parquet._ROWS", 100)
    monkeypatch.setattr("ringbuf.trace.trace._CHUNK", 4096)
    with rings.tracer(subbuf_size=4096, n_subbufs=64) as tracer:
        events = [tracer.event(name, n="u64", **{name: "str"}) for name in ("a", "b")]
        with tracer.record(tmp_path / "trace"):
            for n in range(2000):
                events[n % 2](n, "x" * 50)
    open_trace(tmp_path / "trace").export(tmp_path / "x.parquet")
    file = parquet.ParquetFile(tmp_path / "x.parquet")
    assert file.num_row_groups > 10
    assert file.read()["n"].to_pylist() == list(range(2000))


def test_a_time_can_be_asked_for(table, tmp_path):
    trace = written(tmp_path, *[(ticks, "tick", TICK) for ticks in (1, 5, 9)])
    assert times(table(trace, begin=ORIGIN + 2, end=ORIGIN + 9)) == [5, 9]
    assert times(table(trace, events="tick", begin=ORIGIN + 10)) == []


def test_a_trace_without_records_has_the_columns(table, tmp_path):
    found = table(written(tmp_path))
    assert len(found) == 0 and {"timestamp", "event", "span_id"} <= set(found.column_names)


def test_pyarrow_is_named_where_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match="pip install pyarrow"):
        written(tmp_path).export(tmp_path / "x.parquet")


def test_partitions_have_a_file_for_each_event(tmp_path):
    parquet = needs.module("pyarrow.parquet")
    trace = written(tmp_path, *[(n, "log", [20, "a", f"{n}", "f", n, "", ""]) for n in range(1, 9)], (9, "tick", TICK))
    trace.export(tmp_path / "x.parquet", partition="event")
    found = sorted(
        path.relative_to(tmp_path / "x.parquet").as_posix() for path in (tmp_path / "x.parquet").rglob("*.*")
    )
    assert found == ["event=log/part-0.parquet", "event=tick/part-0.parquet"]
    whole = parquet.read_table(tmp_path / "x.parquet" / "event=log" / "part-0.parquet", partitioning=None)
    assert whole.to_pylist() == trace.to_arrow("log").to_pylist()
    both = parquet.read_table(tmp_path / "x.parquet", columns=["timestamp", "event"])
    assert sorted(both["event"].to_pylist()) == ["log"] * 8 + ["tick"]
    for wrong in ("x.json", "y"):
        with pytest.raises(ValueError):
            trace.export(tmp_path / wrong, partition="event")
    with pytest.raises(FileExistsError):
        trace.export(tmp_path / "x.parquet", partition="event")
