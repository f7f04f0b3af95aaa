"""flame.py: self times by stack."""

import json

import pytest
from timelines import PID, TID, written

from ringbuf.trace.flame import burnt

BEGIN, END = "function_begin", "function_end"


@pytest.fixture
def trace(tmp_path):
    codes = [(0, "function_code", [n, name, "f.py", n]) for n, name in ((1, "main"), (2, "a;b"))]
    calls = [(0, BEGIN, [1]), (2, BEGIN, [2]), (5, END, [2]), (6, BEGIN, [2]), (8, END, [2]), (10, END, [1]),
             (11, BEGIN, [2], 7), (12, END, [2], 7), (20, "web", [1, 0]), (23, "span_end", [1, ""])]  # fmt: skip
    return written(tmp_path, *codes, *calls)


def test_lines_are_stacks_with_the_time_in_them_alone(trace):
    assert list(burnt(trace.calls()).collapsed()) == [
        f"process {PID}, thread {TID};main 5\n",
        f"process {PID}, thread {TID};main;a_b 5\n",
        f"process {PID}, thread 7;a_b 1\n",
    ]


def test_a_part_has_whole_stacks(trace):
    assert list(burnt(trace.calls("a;b", min_duration=3)).collapsed()) == [f"process {PID}, thread {TID};main;a_b 3\n"]


def test_speedscope_has_a_profile_for_each_thread(trace):
    found = json.loads(burnt(trace.calls()).speedscope("title"))
    names = [frame["name"] for frame in found["shared"]["frames"]]
    stacks = [
        ([names[one] for one in sample], weight)
        for profile in found["profiles"]
        for sample, weight in zip(profile["samples"], profile["weights"], strict=True)
    ]
    assert stacks == [(["main"], 5), (["main", "a;b"], 5), (["a;b"], 1)]
    assert [(one["endValue"], one["unit"], one["type"]) for one in found["profiles"]] == [
        (10, "nanoseconds", "sampled"), (1, "nanoseconds", "sampled")
    ]  # fmt: skip


def test_spans_have_one_too(trace):
    assert list(burnt(trace.spans()).collapsed()) == [f"process {PID}, thread {TID};web 3\n"]


def test_a_trace_without_any_has_an_empty_one(tmp_path):
    assert burnt(written(tmp_path, (0, "web", [1, 0])).calls()).stacks == ()
