"""Trace.query: SQL over the events of a trace."""

import needs
import pytest
import timelines


@pytest.fixture
def trace(tmp_path):
    needs.module("pyarrow")
    needs.module("duckdb")
    logs = [(n, "log", [20 if n % 3 else 40, "a", f"message {n % 2}", "f", n, "", ""]) for n in range(1, 30)]
    return timelines.written(tmp_path, *logs, (40, "tick", timelines.TICK))


def test_a_query_counts(trace):
    found = trace.query(
        "SELECT message, count(*) AS n, max(line) AS last FROM log WHERE level = 'INFO' GROUP BY 1 ORDER BY 1"
    )
    records = [record.fields for record in trace.records("log") if record.fields["level"] == "INFO"]
    expected = [
        {"message": text, "n": len(lines), "last": max(lines)}
        for text in ("message 0", "message 1")
        for lines in [[one["line"] for one in records if one["message"] == text]]
    ]
    assert found.to_pylist() == expected


def test_times_and_several_events(trace):
    (row,) = trace.query("SELECT epoch_ns(max(log.timestamp)) AS last, min(n) AS n FROM log, tick").to_pylist()
    assert row == {"last": max(record.timestamp for record in trace.records("log")), "n": 1}


def test_nothing_else_is_there(trace, tmp_path):
    import duckdb

    other = trace.to_arrow("tick")
    assert len(other) == 1
    for sql in ("SELECT * FROM other", f"COPY log TO '{tmp_path}/x.csv'", "SELECT * FROM '/etc/passwd'", "nonsense"):
        with pytest.raises(duckdb.Error):
            trace.query(sql)
