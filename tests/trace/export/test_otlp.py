"""Exports for OpenTelemetry: spans and calls with their ids, parents, times and errors."""

import json

import timelines
from timelines import PID, TID


def exported(tmp_path, *records, **options):
    trace = timelines.written(tmp_path, *records, **options)
    trace.export(tmp_path / "x.otlp.json")
    requests = [json.loads(line) for line in (tmp_path / "x.otlp.json").read_text().splitlines()]
    (resource,) = requests[0]["resourceSpans"]
    return trace, resource["resource"], [span for one in resource["scopeSpans"] for span in one["spans"]]


def attributes(of):
    return {one["key"]: one["value"] for one in of["attributes"]}


def test_spans_are_a_tree_of_one_trace(tmp_path):
    records = [
        (1, "web", [1, 0]), (2, "db", [2, 1, "t"]), (3, "db", [3, 2, "t"]), (4, "span_end", [3, "KeyError: 'x'"]),
        (5, "span_end", [2, ""]), (6, "span_end", [1, ""]), (7, "web", [9, 0]), (8, "span_end", [9, ""]),
    ]  # fmt: skip
    _, resource, spans = exported(tmp_path, *records, env={"hostname": "box", "vpid": PID})
    assert attributes(resource)["host.name"] == {"stringValue": "box"}
    by_id = {int(span["spanId"], 16): span for span in spans}
    assert {number: int(span.get("parentSpanId", "0"), 16) for number, span in by_id.items()} == {
        1: 0,
        2: 1,
        3: 2,
        9: 0,
    }
    traces = [by_id[number]["traceId"] for number in (1, 2, 3, 9)]
    assert len(set(traces[:3])) == 1 and traces[3] != traces[0] and all(len(one) == 32 for one in traces)
    assert by_id[3]["status"] == {"code": 2, "message": "KeyError: 'x'"} and "status" not in by_id[2]
    times = [int(by_id[2][name]) - timelines.ORIGIN for name in ("startTimeUnixNano", "endTimeUnixNano")]
    assert times == [2, 5]
    assert attributes(by_id[2])["table"] == {"stringValue": "t"}
    assert attributes(by_id[2])["thread.id"] == {"intValue": str(TID)}


def test_calls_say_where_they_are_and_what_is_missing(tmp_path):
    code = (0, "function_code", [3, "pay", "shop.py", 12])
    _, _, (span,) = exported(tmp_path, code, (1000, "function_begin", [3]))
    found = attributes(span)
    assert (span["name"], found["code.file.path"], found["code.line.number"]) == (
        "pay", {"stringValue": "shop.py"}, {"intValue": "12"},
    )  # fmt: skip
    assert found["ringbuf.end_missing"] == {"stringValue": "open"}
