"""about.py: what a trace is."""

import timelines
from timelines import ORIGIN, PID, TID, written

import ringbuf
from ringbuf.trace.about import about


def test_it_counts_and_names_what_there_is(tmp_path):
    trace = written(
        tmp_path, (1, "web", [1, 0]), (2, "tick", timelines.TICK, 7), (3, "function_begin", [1]),
        (5, "span_end", [1, ""]), env={"vpid": PID, "procname": "shop"}, discarded=(0, 4),
    )  # fmt: skip
    found = about(trace)
    assert (found.records, found.spans, found.calls) == (4, 1, 1)
    assert found.events == {"web": 1, "tick": 1, "function_begin": 1, "span_end": 1}
    assert (found.begin, found.end) == (ORIGIN, ORIGIN + 5)
    assert [(one.tid, one.records, one.first - ORIGIN, one.last - ORIGIN) for one in found.threads] == [
        (7, 1, 2, 2), (TID, 3, 1, 5)
    ]  # fmt: skip
    assert found.processes == {("", PID, 0): "shop"}
    assert (found.events_lost, found.packets_lost, len(found.losses)) == (4, 0, 1)
    text = str(found)
    assert "4 in 2 packets" in text and f"shop {PID}, thread 7" in text and "4 records that did not fit" in text


def test_a_damaged_packet_is_named(tmp_path):
    path = written(tmp_path, (1, "web", [1, 0])).path
    with open(f"{path}/s0", "r+b") as file:
        file.seek(4096)
        file.write(b"nonsense")
    found = about(ringbuf.open_trace(path, errors="skip"))
    assert [(one.file, one.offset) for one in found.damage] == [("s0", 4096)]
    assert "damaged" in str(found) and "magic number" in str(found)
    assert found.as_dict()["damage"][0]["offset"] == 4096


def test_a_trace_without_packets_is_empty(tmp_path):
    path = written(tmp_path).path
    (tmp_path / "trace" / "s0").unlink()
    found = about(ringbuf.open_trace(path))
    assert found.begin is None and "there is no packet" in str(found)


def test_processes_that_are_not_there_are_named(tmp_path):
    with ringbuf.Tracer("record", mode="discard").channel as channel:
        tracer = ringbuf.Tracer.attach(channel)
        with tracer.record(tmp_path / "trace"):
            tracer.event("not_recorded", pid="i32", program="str", why="str")(17, "worker", "it ended too early")
    found = about(ringbuf.open_trace(tmp_path / "trace"))
    assert found.not_recorded == ((17, "worker", "it ended too early"),)
    assert "not there" in str(found) and "worker 17: it ended too early" in str(found)


def test_text_never_becomes_html(tmp_path):
    found = about(written(tmp_path, (1, "web", [1, 0]), env={"procname": "<script>"}))
    assert "<script>" in str(found) and "<script>" not in found._repr_html_()
