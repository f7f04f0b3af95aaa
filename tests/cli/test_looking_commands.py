"""ringbuf info, summary and flame: what they print, and what they take."""

import json
import os
from argparse import ArgumentTypeError

import pytest
import timelines
from timelines import PID, TID

from ringbuf.cli import _progress, main
from ringbuf.cli._numbers import duration

SPANS = [(0, "db", [1, 0, "t"]), (2000, "web", [2, 1], 7), (5000, "span_end", [2, "E: x"], 7)]
ONE = {name: timelines.SCHEMAS[name] for name in ("db", "span_end")}
SPANS += [(9000, "span_end", [1, ""])]


@pytest.fixture
def trace(tmp_path):
    return timelines.written(tmp_path, *SPANS, env={"vpid": PID, "procname": "shop"})


@pytest.fixture
def run(trace, capsys):
    def run(command, *args, status=0):
        assert main([command, trace.path, *args]) == status
        return capsys.readouterr()

    return run


def rows(text):
    return [(row["name"], row["count"], row["total"]) for row in json.loads(text)["rows"]]


def test_info_says_what_a_trace_is(run):
    text = run("info").out
    assert "procname shop, vpid 100" in text and f"shop {PID}, thread 7" in text
    found = json.loads(run("info", "--json").out)
    assert (found["spans"], found["records"], found["processes"]) == (2, 4, [{"pid": PID, "name": "shop"}])


def test_a_summary_is_a_table_or_json(run):
    lines = run("summary").out.splitlines()
    assert lines[0].split() == ["count", "total", "self", "min", "p50", "p90", "p99", "max", "errors", "name"]
    assert [line.split()[-1] for line in lines[1:]] == ["db", "web"]
    assert rows(run("summary", "--json").out) == [("db", 1, 9000), ("web", 1, 3000)]


@pytest.mark.parametrize(
    "args, names",
    [
        (["--sort", "errors"], ["web", "db"]),
        (["--top", "1"], ["db"]),
        (["--event", "w*"], ["web"]),
        (["--min-duration", "5us"], ["db"]),
        (["--max-depth", "0"], ["db"]),
        (["--min-depth", "1"], ["web"]),
        (["--thread", "7"], ["web"]),
        (["--thread", "nobody"], []),
        (["--process", "shop"], ["db", "web"]),
        (["--process", str(PID + 1)], []),
        (["--task", ""], ["db", "web"]),
        (["--by", "thread"], [f"shop {PID}, thread {TID}", f"shop {PID}, thread 7"]),
        (["--by", "event"], ["span_end", "db", "web"]),
        (["--from", "+0.000006"], ["db"]),
    ],
)
def test_a_summary_of_some(run, args, names):
    assert [name for name, _, _ in rows(run("summary", "--json", *args).out)] == names


def test_two_traces_are_compared(run, tmp_path):
    (tmp_path / "other").mkdir()
    other = timelines.written(tmp_path / "other", (0, "web", [1, 0]), (9000, "span_end", [1, ""]))
    found = json.loads(run("summary", "--json", "--compare", other.path).out)
    assert [(row["name"], row["before"]["total"], row["after"] and row["after"]["total"]) for row in found["rows"]] == [
        ("db", 9000, None), ("web", 3000, 9000)
    ]  # fmt: skip
    assert "+200%" in run("summary", "--compare", other.path).out


def test_a_flame_graph_in_both_formats(run, tmp_path):
    assert run("flame").out == f"shop {PID}, thread {TID};db 6000\nshop {PID}, thread 7;db;web 3000\n"
    file = tmp_path / "x.json"
    assert json.loads(run("flame", "--json", "-o", str(file)).out) == {"file": str(file), "stacks": 2, "ns": 9000}
    assert json.loads(file.read_text())["exporter"] == "ringbuf"
    assert run("flame", "--of", "calls").out == ""


@pytest.mark.parametrize(
    "args, error",
    [
        (["summary", "--event", "nope"], "no span or call is called 'nope'"),
        (["summary", "--by", "event", "--min-duration", "1s"], "events have no min_duration"),
        (["summary", "--thread", "7", "--thread", "x"], "--thread takes numbers or names, not both"),
        (["summary", "--compare", "/nowhere"], "/nowhere: not a directory"),
        (["flame", "-o", "/nowhere/x.json"], "/nowhere: No such file or directory"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(run, args, error):
    command, *rest = args
    said = run(command, *rest, status=1).err
    assert said.startswith(f"ringbuf {command}: ") and error in said and said.count("\n") == 1


@pytest.mark.parametrize("command", ["view", "summary", "flame"])
def test_a_trace_without_packets_says_what_is_missing(run, trace, command):
    os.unlink(f"{trace.path}/s0")
    said = run(command)
    assert said.err == f"ringbuf {command}: {trace.path} has no packet: nothing was written, or its files are missing\n"


@pytest.mark.parametrize("command", ["view", "summary", "flame"])
def test_a_damaged_packet_is_named_with_the_way_around_it(run, trace, command):
    with open(f"{trace.path}/s0", "r+b") as file:
        file.write(b"nonsense")
    said = run(command, status=1).err
    assert "s0: packet at byte 0" in said and said.endswith("; --skip-damaged leaves it out\n")
    assert said.count("\n") == 1
    assert "1 damaged packets left out" in run(command, "--skip-damaged").err


@pytest.mark.parametrize(
    "text, ns", [("5us", 5000), ("1.5ms", 1_500_000), ("2s", 2 * 10**9), ("7ns", 7), ("1m", 60 * 10**9)]
)
def test_durations(text, ns):
    assert duration(text) == ns


@pytest.mark.parametrize("text", ["5", "us", "-1s", "1h", "1 s"])
def test_what_is_no_duration(text):
    with pytest.raises(ArgumentTypeError):
        duration(text)


def test_progress_is_told_of_what_takes_long(capsys, monkeypatch):
    now = iter([0.0, 2.0, 2.1, 9.0])
    monkeypatch.setattr(_progress.time, "monotonic", lambda: next(now))
    meter = _progress._Meter(10_000_000)
    meter.add(2_000_000)
    meter.add(1)
    meter.add(2_999_999)
    meter.wipe()
    assert capsys.readouterr().err.split("\r\x1b[K") == [
        "", "read 20% of 10 MB, about 8 s more", "read 50% of 10 MB, about 9 s more", ""
    ]  # fmt: skip


def test_progress_is_for_terminals(trace, capsys):
    with _progress.shown(trace):
        assert trace.when_read is None
    assert capsys.readouterr().err == ""


def test_a_comparison_of_what_only_one_has_shows_it(run, tmp_path):
    (tmp_path / "other").mkdir()
    other = timelines.written(tmp_path / "other", (0, "db", [1, 0, "t"]), (9000, "span_end", [1, ""]), schemas=ONE)
    (row,) = json.loads(run("summary", "--compare", other.path, "--event", "web", "--json").out)["rows"]
    assert (row["before"]["count"], row["after"]) == (1, None)


def test_a_comparison_of_what_none_has_is_refused(run, trace):
    assert "called 'nowhere'" in run("summary", "--compare", trace.path, "--event", "nowhere", status=1).err


def shown(text):
    return [(one["name"], one["fields"]["span_id"]) for one in map(json.loads, text.splitlines())]


@pytest.mark.parametrize(
    "args, names",
    [
        (["--min-duration", "5us"], [("db", 1), ("span_end", 1)]),
        (["--min-depth", "1"], [("web", 2), ("span_end", 2)]),
        (["--max-depth", "0", "--event", "db"], [("db", 1), ("span_end", 1)]),
        (["--min-duration", "1s"], []),
        (["--min-duration", "1us", "--thread", "7"], [("web", 2), ("span_end", 2)]),
    ],
)
def test_view_shows_the_begins_and_ends_of_those_that_are_meant(run, args, names):
    assert shown(run("view", "--json", *args).out) == names


def test_view_finds_the_begins_and_ends_of_calls(tmp_path, capsys):
    records = [(0, "function_code", [1, "f", "f.py", 1]), (0, "function_begin", [1]), (10, "function_begin", [1])]
    records += [(20, "function_end", [1]), (3000, "function_end", [1])]
    trace = timelines.written(tmp_path, *records)
    assert main(["view", trace.path, "--json", "--min-duration", "1us"]) == 0
    times = [json.loads(line)["timestamp"] - timelines.ORIGIN for line in capsys.readouterr().out.splitlines()]
    assert times == [0, 3000]


def test_an_export_has_the_spans_that_are_meant(run, trace, tmp_path):
    run("export", "-o", str(tmp_path / "x.json"), "--min-duration", "5us")
    events = json.loads((tmp_path / "x.json").read_text())["traceEvents"]
    assert [one["name"] for one in events if one["ph"] == "b"] == ["db"]
    run("export", "-o", str(tmp_path / "x.json"), "--thread", "7")
    events = json.loads((tmp_path / "x.json").read_text())["traceEvents"]
    assert [one["name"] for one in events if one["ph"] == "b"] == ["web"]
    error = run("export", "-o", str(tmp_path / "x.parquet"), "--min-duration", "5us", status=1).err
    assert "takes no min_duration" in error


def test_what_is_followed_has_no_duration_yet(run):
    assert "as they come" in run("view", "-f", "--min-duration", "1us", status=1).err
