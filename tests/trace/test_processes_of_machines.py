"""threads.py, pairs.h: processes of two machines, or images of one, that have the same id are not taken for one."""

import os
import shutil

import browser
import pytest
from timelines import ORIGIN, TICK, written

from ringbuf.trace.about import about
from ringbuf.trace.trace import open_trace

RECORDS = (0, "function_code", [1, "work", "w.py", 1])


def of_two(
    tmp_path, *records, env=({}, {}), contexts="vpid:i32,vtid:i32", who=((7, 7), (7, 7)), hosts=("alpha", "beta")
):
    """A set of traces: the same records, each with the contexts and the environment of its own."""
    (tmp_path / "set").mkdir(mode=0o700)
    for host, more, one, name in zip(hosts, env, who, ("one", "two"), strict=True):
        (tmp_path / name).mkdir()
        with written(
            tmp_path / name,
            *((*record, one) for record in records),
            contexts=contexts,
            env={"hostname": host, "which": name, **more},
        ):
            pass
        shutil.move(tmp_path / name / "trace", tmp_path / "set" / name)
        os.chmod(tmp_path / "set" / name, 0o700)
    return open_trace(tmp_path / "set")


SPAN = (10, "web", [1, 0]), (30, "span_end", [1, ""])
CALL = (40, "function_begin", [1]), (70, "function_end", [1])


def test_a_summary_by_process_has_a_row_for_each(tmp_path):
    with of_two(tmp_path, RECORDS, *CALL) as trace:
        rows = trace.summary("process").rows
        assert [(row.name, row.count, row.total) for row in rows] == [
            ("process 7 on alpha", 1, 30), ("process 7 on beta", 1, 30),
        ]  # fmt: skip
        assert {row.name for row in trace.summary("thread")} == {"process 7 on alpha", "process 7 on beta"}


def test_calls_of_one_do_not_lie_within_those_of_the_other(tmp_path):
    with of_two(tmp_path, RECORDS, *CALL) as trace:
        assert [(call.depth, call.thread.host) for call in trace.calls()] == [(0, "alpha"), (0, "beta")]


def test_the_dead_one_is_that_of_its_machine(tmp_path):
    ends = {"ended_1": f"7 7 0 {ORIGIN + 20} 0 x"}
    with of_two(tmp_path, (10, "function_begin", [1]), (90, "tick", TICK), env=(ends, {})) as trace:
        assert {call.thread.host: call.end_missing for call in trace.calls()} == {"alpha": "died", "beta": "open"}
        (alpha,) = about(trace).deaths
        assert (alpha.pid, alpha.host) == (7, "alpha")


def test_who_is_there_is_said_with_the_machine(tmp_path):
    with of_two(tmp_path, *SPAN) as trace:
        found = about(trace)
    assert [str(thread) for thread in found.threads] == ["process 7 on alpha", "process 7 on beta"]
    assert found.as_dict()["processes"] == [
        {"pid": 7, "name": "", "host": "alpha"}, {"pid": 7, "name": "", "host": "beta"},
    ]  # fmt: skip


def test_of_one_machine_nothing_is_said_of_it_and_an_id_is_one_process(tmp_path):
    with of_two(tmp_path, *SPAN, hosts=("alpha", "alpha")) as trace:
        assert [str(thread) for thread in about(trace).threads] == ["process 7"]
        assert [row.name for row in trace.summary("process")] == ["process 7"]


def test_an_image_that_is_told_tells_two_of_one_machine_apart(tmp_path):
    contexts, who = "vpid:i32,vtid:i32,image:u32", ((7, 7, 1), (7, 7, 2))
    with of_two(tmp_path, *SPAN, hosts=("alpha", "alpha"), contexts=contexts, who=who) as trace:
        assert [(one.pid, one.image) for one in about(trace).threads] == [(7, 1), (7, 2)]
        assert len(trace.summary("process")) == 2


def test_records_without_an_image_are_of_the_process_that_tells_one_elsewhere(tmp_path):
    with of_two(
        tmp_path, *SPAN, hosts=("alpha", "alpha"), contexts="vpid:i32,vtid:i32,image:u32", who=((7, 7, 5), (7, 7, 0))
    ) as trace:
        assert [(one.pid, one.image, one.records) for one in about(trace).threads] == [(7, 5, 4)]


@pytest.mark.slow
def test_the_page_has_both(tmp_path):
    with of_two(tmp_path, *SPAN) as trace:
        trace.report(tmp_path / "r.html")
    with browser.chromium() as chromium:
        page, wrong = browser.page_of(chromium)
        page.goto((tmp_path / "r.html").as_uri())
        page.wait_for_selector("html[data-ready]", timeout=60_000)
        labels = [one.strip() for one in page.locator("#gutter .process").all_inner_texts()]
        assert labels == ["process 7 on alpha", "process 7 on beta"] and wrong == []
