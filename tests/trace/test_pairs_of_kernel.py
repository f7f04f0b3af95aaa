"""pairs.py, pairs.h, timeline.py: what the kernel tells of threads, system calls and interrupts, as slices."""

import subprocess
import sys

import needs
import numpy
import pytest
import timelines
from kernels import tracefs_root  # noqa: F401
from timelines import ORIGIN, PID, SCHEMAS, TID, written

from ringbuf.trace.trace import open_trace

KERNEL = SCHEMAS | {
    "sched_switch": "prev_comm:str,prev_pid:i32,next_comm:str,next_pid:i32",
    "sys_enter_read": "__syscall_nr:i32,fd:u64",
    "sys_exit_read": "__syscall_nr:i32,ret:i64",
    "sys_enter": "id:i64",
    "sys_exit": "id:i64,ret:i64",
    "irq_handler_entry": "irq:i32,name:str",
    "irq_handler_exit": "irq:i32,ret:i32",
    "irq_softirq_entry": "vec:u32",
    "irq_softirq_exit": "vec:u32",
    "sys_enter_exit_group": "__syscall_nr:i32",
}
CODE = (0, "function_code", [3, "shop.pay", "shop.py", 12])
NOBODY = (0, 0, 0)


def of(tid):
    """Contexts of a record of the kernel in this thread."""
    return 0, 0, tid


def traced(tmp_path, *records):
    """Records whose contexts are a thread's, or the kernel's."""
    some = [(*one[:3], one[3] if len(one) > 3 else (PID, TID, 0)) for one in records]
    return written(tmp_path, *some, contexts="vpid:i32,vtid:i32,common_pid:i32", schemas=KERNEL)


def switch(time, before, after, names=("python", "other")):
    called = {TID: names[0], 0: "swapper/0"}
    return (time, "sched_switch", [called.get(before, names[1]), before, called.get(after, names[1]), after], NOBODY)


def told(pairs):
    return [(one.kind, one.name, one.begin - ORIGIN, one.duration, one.self_time, str(one.thread)) for one in pairs]


def test_a_cpu_runs_one_thread_after_another_and_none_while_it_is_idle(tmp_path):
    trace = traced(
        tmp_path, switch(1, 0, TID), switch(5, TID, 7), switch(9, 7, 0), switch(12, 0, TID), (20, "web", [1, 0])
    )
    assert told(trace.pairs(kinds=["run"])) == [
        ("run", f"python {TID}", 1, 4, 4, "CPU 0"), ("run", "other 7", 5, 4, 4, "CPU 0"),
        ("run", f"python {TID}", 12, 8, 8, "CPU 0"),
    ]  # fmt: skip
    assert [one.end_missing for one in trace.pairs(kinds=["run"])] == [None, None, "open"]


def test_a_switch_that_was_lost_leaves_an_end_that_is_none(tmp_path):
    first, _ = traced(tmp_path, switch(1, 0, TID), switch(5, 8, 7)).pairs(kinds=["run"])
    assert (first.name, first.end_missing) == (f"python {TID}", "lost")


def test_interrupts_are_taken_off_what_they_interrupt(tmp_path):
    trace = traced(
        tmp_path, switch(1, 0, TID), (2, "irq_handler_entry", [7, "eth0"], NOBODY),
        (4, "irq_handler_exit", [7, 1], NOBODY), (4, "irq_softirq_entry", [3], NOBODY),
        (7, "irq_softirq_exit", [3], NOBODY), switch(11, TID, 0),
    )  # fmt: skip
    assert told(trace.pairs(kinds=["run", "irq"])) == [
        ("irq", "irq 7", 2, 2, 2, "CPU 0"), ("irq", "softirq NET_RX", 4, 3, 3, "CPU 0"),
        ("run", f"python {TID}", 1, 10, 5, "CPU 0"),
    ]  # fmt: skip


def test_a_system_call_is_of_the_thread_that_the_record_says(tmp_path):
    trace = traced(
        tmp_path, (1, "sys_enter_read", [0, 5], of(TID)), (2, "web", [1, 0]), (6, "sys_exit_read", [0, 100], of(TID)),
        (8, "span_end", [1, ""]),
    )  # fmt: skip
    (call,) = trace.pairs(kinds=["syscall"])
    assert (call.name, call.begin - ORIGIN, call.duration) == ("syscall read", 1, 5)
    assert (call.thread.pid, call.thread.tid) == (PID, TID) and call.fields["fd"] == 5


def test_a_system_call_is_a_part_of_the_function_that_made_it(tmp_path):
    trace = traced(
        tmp_path, CODE, (1, "function_begin", [3]), (2, "sys_enter_read", [0, 5], of(TID)),
        (6, "sys_exit_read", [0, 1], of(TID)), (8, "function_end", [3]),
    )  # fmt: skip
    inner, outer = trace.pairs(kinds=["call", "syscall"])
    assert (inner.name, inner.depth, inner.parent) == ("syscall read", 1, outer.id)
    assert (outer.name, outer.duration, outer.self_time) == ("shop.pay", 7, 3)
    assert [one.self_time for one in trace.calls()] == [7]


def test_where_no_record_says_a_thread_it_is_what_the_cpu_runs(tmp_path):
    events = [switch(1, 0, TID), (2, "sys_enter_read", [0, 5]), (5, "sys_exit_read", [0, 1]), (6, "web", [1, 0])]
    some = [(*one[:3], (PID, TID)) for one in events]
    with written(tmp_path, *some, schemas=KERNEL) as trace:  # as LTTng has it
        (call,) = trace.pairs(kinds=["syscall"])
    assert (call.thread.pid, call.thread.tid, call.duration) == (PID, TID, 3)


def test_one_of_which_the_number_alone_is_known_is_called_by_that(tmp_path):
    trace = traced(tmp_path, (1, "sys_enter", [42], of(9)), (2, "sys_exit", [42, 0], of(9)))
    (call,) = trace.pairs(kinds=["syscall"])
    assert (call.name, call.thread.pid, call.thread.tid) == ("syscall 42", None, 9)


def test_an_end_without_a_begin_is_no_slice_and_a_call_that_never_ends_is_a_record(tmp_path):
    trace = traced(
        tmp_path, (1, "sys_exit_read", [0, 0], of(TID)), (2, "irq_handler_exit", [1, 0], NOBODY),
        (3, "sys_enter_exit_group", [231], of(TID)),
    )  # fmt: skip
    assert list(trace.pairs(kinds=["syscall", "irq"])) == []
    assert [one[0:4:3] for one in timelines.told(trace)] == [("instant", "sys_enter_exit_group")]


def test_spans_and_calls_are_what_they_were_and_a_summary_by_kernel_has_the_rest(tmp_path):
    trace = traced(
        tmp_path, switch(1, 0, TID), (2, "web", [1, 0]), (3, "sys_enter_read", [0, 5], of(TID)),
        (4, "sys_exit_read", [0, 1], of(TID)), (6, "span_end", [1, ""]), switch(8, TID, 0),
    )  # fmt: skip
    assert [row.name for row in trace.summary()] == ["web"]
    assert [(row.kind, row.name, row.total) for row in trace.summary("kernel")] == [
        ("run", f"python {TID}", 7), ("syscall", "syscall read", 1),
    ]  # fmt: skip


def test_kinds_that_there_are_not_are_refused(tmp_path):
    with pytest.raises(ValueError, match="kinds are some of span, call, run, irq, syscall"):
        traced(tmp_path).pairs(kinds=["thread"])


def test_exports_have_slices_of_cpus_and_threads(tmp_path):
    trace = traced(
        tmp_path, switch(1, 0, TID), (2, "web", [1, 0]), (3, "sys_enter_read", [0, 5], of(TID)),
        (4, "irq_softirq_entry", [1], NOBODY), (5, "irq_softirq_exit", [1], NOBODY),
        (6, "sys_exit_read", [0, 100], of(TID)), switch(9, TID, 7), switch(10, 7, 0),
    )  # fmt: skip
    found = [(phase, time, track, name) for phase, time, track, name, _ in timelines.told(trace)]
    assert [one for one in found if one[2].startswith("cpu")] == [
        ("begin", 1, "cpu 0", f"python {TID}"), ("begin", 4, "cpu 0", "softirq TIMER"),
        ("end", 5, "cpu 0", "softirq TIMER"), ("end", 9, "cpu 0", f"python {TID}"), ("begin", 9, "cpu 0", "other 7"),
        ("end", 10, "cpu 0", "other 7"),
    ]  # fmt: skip
    assert [one for one in found if one[2].startswith("thread")] == [
        ("begin", 3, f"thread {TID}", "syscall read"), ("end", 6, f"thread {TID}", "syscall read"),
    ]  # fmt: skip
    (end,) = [
        args for phase, _, track, _, args in timelines.told(trace) if phase == "end" and track.startswith("thread")
    ]
    assert end["ret"] == 100


def test_an_export_of_one_system_call_has_its_end(tmp_path):
    trace = traced(
        tmp_path, (3, "sys_enter_read", [0, 5], of(9)), (6, "sys_exit_read", [0, 100], of(9)), (7, "web", [1, 0])
    )
    assert [one[0] for one in timelines.told(trace, events="sys_enter_read")] == ["begin", "end"]


def test_sums_are_those_of_another_algorithm(tmp_path):
    """Random switches on one CPU: each time of a thread is that to the next switch."""
    picked = numpy.random.default_rng(5)
    threads, times = picked.integers(0, 5, 400).tolist(), numpy.cumsum(picked.integers(1, 50, 400)).tolist()
    pairs = list(zip(threads, [*threads[1:], 0], strict=True))
    trace = traced(tmp_path, *(switch(time, *pair) for time, pair in zip(times, pairs, strict=True)))
    expected = {}
    for (_, thread), begin, end in zip(pairs, times, times[1:], strict=False):
        if thread:
            expected[f"other {thread}"] = expected.get(f"other {thread}", 0) + end - begin
    assert {row.name: row.total for row in trace.summary("kernel")} == expected


PROGRAM = """
import os, time, ringbuf
tracer = ringbuf.Tracer.attach(os.environ["RINGBUF_CHANNEL"])
work = tracer.span_type("work", n="u32")
for n in range(5):
    with work(n):
        time.sleep(0.01)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info < (3, 11), reason="time.sleep is a select before Python 3.11")
def test_the_kernel_s_own_events_are_slices(tracefs_root, tmp_path):  # noqa: F811
    """Who sleeps five times is in a system call five times, and on a CPU before and after each."""
    events = sorted(path.name for path in (tracefs_root / "events" / "syscalls").glob("sys_*_clock_nanosleep"))
    if len(events) < 2:
        needs.missing("a kernel with an event for each system call")
    kernel = ",".join(["sched:sched_switch", *(f"syscalls:{one}" for one in events)])
    command = [sys.executable, "-m", "ringbuf", "record", "--kernel", kernel, "-o", str(tmp_path / "trace"), "--"]
    subprocess.run([*command, sys.executable, "-c", PROGRAM], check=True, timeout=120)
    with open_trace(tmp_path / "trace") as trace:
        spans = list(trace.spans("work"))
        thread = spans[0].thread
        calls = [
            one
            for one in trace.pairs(kinds=["syscall"])
            if (one.thread.pid, one.thread.tid) == (thread.pid, thread.tid)
        ]
        assert [one.name for one in calls] == ["syscall clock_nanosleep"] * 5
        assert all(span.begin <= one.begin and one.end <= span.end for span, one in zip(spans, calls, strict=True))
        assert all(one.duration >= 10_000_000 for one in calls)
        assert sum(one.name.endswith(f" {thread.tid}") for one in trace.pairs(kinds=["run"])) >= 5
