"""chrome.py: JSON that json.load takes, with the events as Chrome's trace event format has them."""

import json

import pytest
import timelines
from timelines import PID, TICK, TID, written


@pytest.fixture
def exported(tmp_path):
    """Export records; the events without those that name things, and all of the file."""

    def export(*records, **options):
        written(tmp_path, *records, **options).export(tmp_path / "x.json")
        found = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
        return [event for event in found["traceEvents"] if event["ph"] != "M"], found

    return export


def test_an_instant_has_time_place_and_arguments(exported):
    (event,), found = exported((1_234_567, "tick", TICK), env={"procname": "shop", "vpid": PID})
    assert round(event.pop("ts") * 1000) + found["otherData"]["origin_ns"] == 1_700_000_000 * 10**9 + 1_234_567
    args = {"n": 1, "x": 0.5, "data": "00ff", "text": "t", "many": [1, 2], "on": True, "low": -1}
    assert event == {"ph": "i", "s": "t", "pid": PID, "tid": TID, "name": "tick", "cat": "event", "args": args}
    assert found["otherData"]["procname"] == "shop" and found["displayTimeUnit"] == "ns"


def test_times_are_exact_to_the_nanosecond(exported):
    ticks = [1, 999, 1000, 86_400 * 10**9 + 1]
    events, found = exported(*[(one, "tick", TICK) for one in ticks])
    offset = 1_700_000_000 * 10**9 - found["otherData"]["origin_ns"]
    assert [round(event["ts"] * 1000) - offset for event in events] == ticks
    assert all(event["ts"] >= 0 for event in events)


def test_processes_and_threads_have_names(exported):
    contexts = "vpid:i32,vtid:i32,procname:str,thread_name:str"
    _, found = exported((1, "tick", TICK, (PID, TID, "shop", "worker")), contexts=contexts)
    names = [(event["name"], event["pid"], event["tid"], event["args"]["name"]) for event in found["traceEvents"][:2]]
    assert names == [("process_name", PID, 0, "shop"), ("thread_name", PID, TID, "worker")]


def test_a_child_that_ended_has_the_name_that_the_trace_says(exported):
    env = {"procname": "shop", "vpid": PID, "ended_1": "77 77 0 0 0 python3", "ended_2": "77 78 0 0 0 worker"}
    _, found = exported((1, "tick", TICK, (PID, PID)), (2, "tick", TICK, (77, 78)), env=env)
    names = [(one["pid"], one["args"]["name"]) for one in found["traceEvents"] if one["name"] == "process_name"]
    assert names == [(PID, "shop"), (77, "python3")]


def test_cpus_have_names(exported):
    events, found = exported((1, "tick", TICK), contexts="")
    names = [(event["name"], event["pid"], event["tid"], event["args"]["name"]) for event in found["traceEvents"][:2]]
    assert names == [("process_name", 0, 0, "CPUs"), ("thread_name", 0, 0, "CPU 0")]
    assert (events[0]["pid"], events[0]["tid"]) == (0, 0)


def test_a_call_is_one_complete_event(exported):
    code = (0, "function_code", [3, "pay", "shop.py", 12])
    inner = [(1500, "function_begin", [3]), (1500, "function_end", [3])]
    events, _ = exported(code, (1000, "function_begin", [3]), *inner, (3000, "function_end", [3]))
    assert {event["ph"] for event in events} == {"X"}
    inner, outer = events
    assert (outer["name"], outer["cat"], outer["args"]) == ("pay", "function", {"file": "shop.py", "line": 12})
    assert outer["dur"] == pytest.approx(2) and inner["dur"] == 0
    assert inner["ts"] - outer["ts"] == pytest.approx(0.5)
    assert (outer["pid"], outer["tid"]) == (PID, TID)


def test_calls_that_have_not_ended_begin(exported):
    code = (0, "function_code", [3, "pay", "shop.py", 12])
    events, _ = exported(code, *[(time, "function_begin", [3]) for time in (1000, 2000)], (3000, "function_end", [3]))
    assert [(event["ph"], event["name"]) for event in events] == [("X", "pay"), ("B", "pay")]
    assert events[0]["ts"] - events[1]["ts"] == pytest.approx(1)


def test_spans_are_asynchronous_events_told_apart_by_id(exported):
    records = [
        (1, "web", [1, 0]), (2, "db", [2, 1, "t"]), (3, "db", [3, 1, "t"]), (4, "span_end", [2, ""]),
        (5, "span_end", [3, "boom"]), (6, "span_end", [1, ""]),
    ]  # fmt: skip
    events, _ = exported(*records)
    assert [event["ph"] for event in events] == ["b", "b", "b", "e", "e", "e"]
    web, first, second, *ends = events
    assert web["id2"] == first["id2"] != second["id2"]
    assert [(end["name"], end["id2"]) for end in ends] == [(one["name"], one["id2"]) for one in (first, second, web)]
    assert all(list(one["id2"]) == ["local"] and "id" not in one for one in (first, second, web, *ends))
    assert {event["cat"] for event in events} == {"span"}
    assert ends[1]["args"] == {"error": "boom"} and "args" not in ends[0]


def test_values_that_json_lacks(exported):
    for x, shown in ((float("nan"), "nan"), (float("-inf"), "-inf")):
        (event,), _ = exported((1, "tick", [2**64 - 1, x, b"", b"a\xffc", [], False, 0]))
        assert event["args"]["x"] == shown
        assert event["args"]["text"] == "a\ufffdc"
        assert event["args"]["n"] == 2**64 - 1


def test_one_event_to_a_line(exported, tmp_path):
    exported((1, "tick", TICK), (2, "log", [20, "a", 'quo"te\n', "c", 1, "d", ""]))
    lines = (tmp_path / "x.json").read_text().splitlines()
    assert [json.loads(line.rstrip(","))["ph"] for line in lines[1:-1]] == ["i", "i"]


def test_rows_of_greenlets_and_of_a_second_image_are_their_own(tmp_path):
    code = [(0, "function_code", [number, name, "a.py", 1, 4 + number]) for number, name in ((1, "one"), (2, "two"))]
    calls = [(1, "function_begin", [1]), (2, "function_begin", [2]), (3, "strand", [7, "task", "Task-1"]),
             (3, "strand_switch", [7, 0]), (4, "function_begin", [2]), (5, "function_end", [2])]  # fmt: skip
    trace = timelines.written(tmp_path, *code, *calls, schemas=timelines.OF_IMAGES)
    trace.export(tmp_path / "out.json")
    events = json.loads((tmp_path / "out.json").read_text())["traceEvents"]
    rows = {(one["pid"], one["tid"]) for one in events if one["ph"] in "BX"}
    assert len(rows) == 3 and timelines.PID in {pid for pid, _ in rows} and len({pid for pid, _ in rows}) == 2
    names = [one["args"]["name"] for one in events if one["ph"] == "M"]
    assert names == [f"process {timelines.PID}, image 2", f"task Task-1 in {timelines.TID}"]


def test_what_was_counted_is_a_counter(tmp_path):
    fields = "metric_kind:str,metric_unit:str,metric_rest:bool,metric_value:f64"
    trace = written(
        tmp_path, (1, "metric:queue", ["gauge", "items", False, 2.5]), contexts="", schemas={"metric:queue": fields}
    )
    trace.export(tmp_path / "x.json")
    events = json.loads((tmp_path / "x.json").read_text())["traceEvents"]
    (found,) = (one for one in events if one["ph"] == "C")
    assert (found["name"], found["args"]) == ("queue", {"items": 2.5})
