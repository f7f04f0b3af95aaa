"""pairs.py, pairs.pxi, pairs.h: begins joined with their ends."""

import functools
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import ctf_writer
import needs
import numpy
import pytest
import timelines
from hypothesis import given, settings
from hypothesis import strategies as some
from pairing import Pairing
from timelines import ORIGIN, PID, TID, written

import ringbuf
from ringbuf.ctf.metadata import ChannelLayout, ClockInfo
from ringbuf.ctf.schema import EventSchema

CODE = (0, "function_code", [3, "shop.pay", "shop.py", 12])


def told(pairs):
    """Without what the tests of one thing do not look at."""
    return [(one.name, one.begin - ORIGIN, one.duration, one.self_time, one.depth) for one in pairs]


def missing(pairs):
    return [(one.name, one.begin_missing, one.end_missing) for one in pairs]


# ---- spans ----


def test_a_span_is_its_begin_its_end_and_what_was_in_it(tmp_path):
    trace = written(
        tmp_path, (1, "db", [7, 0, "orders"]), (3, "web", [8, 7]), (5, "span_end", [8, "KeyError: 'x'"]),
        (9, "span_end", [7, ""]),
    )  # fmt: skip
    inner, outer = trace.spans()
    assert told([inner, outer]) == [("web", 3, 2, 2, 1), ("db", 1, 8, 6, 0)]
    assert (inner.parent, outer.id, outer.parent) == (7, 7, 0)
    assert (inner.error, inner.error_text, outer.error, outer.error_text) == ("KeyError", "KeyError: 'x'", "", "")
    assert (outer.fields, outer.contexts) == ({"table": "orders"}, {"vpid": PID, "vtid": TID})
    assert (outer.thread.pid, outer.thread.tid, outer.thread.cpu) == (PID, TID, None)
    assert outer.end - ORIGIN == 9 and missing([inner, outer]) == [("web", None, None), ("db", None, None)]


def test_children_that_overlap_are_taken_off_once(tmp_path):
    trace = written(
        tmp_path, (0, "db", [1, 0, ""]), (2, "web", [2, 1], 8), (3, "web", [3, 1], 9), (5, "span_end", [2, ""], 8),
        (7, "span_end", [3, ""], 9), (10, "span_end", [1, ""]),
    )  # fmt: skip
    assert told(trace.spans("db")) == [("db", 0, 10, 5, 0)]


def test_a_child_told_before_its_parent_is_none_of_those_taken_off(tmp_path):
    trace = written(
        tmp_path, (0, "web", [2, 1], 8), (0, "db", [1, 0, ""]), (2, "web", [3, 1], 9), (4, "span_end", [2, ""], 8),
        (6, "span_end", [3, ""], 9), (10, "span_end", [1, ""]),
    )  # fmt: skip
    assert told(trace.spans("db")) == [("db", 0, 10, 6, 0)]


def test_a_child_that_outlives_its_parent_is_taken_off_to_its_end(tmp_path):
    trace = written(
        tmp_path, (0, "db", [1, 0, ""]), (2, "web", [2, 1]), (6, "span_end", [1, ""]), (9, "span_end", [2, ""])
    )
    assert told(trace.spans()) == [("db", 0, 6, 2, 0), ("web", 2, 7, 7, 1)]


@pytest.mark.parametrize("dead, own", [((5,), [4, 4]), ((5, 1), [3, 4]), ((1, 5), [3, 4]), ((1,), [2, 6])])
def test_spans_of_processes_that_died_end_with_them(tmp_path, dead, own):
    inner = 5, 5
    records = (0, "db", [1, 0, ""], (1, 1)), (2, "web", [2, 1], inner), (4, "tick", timelines.TICK, inner)
    more = {f"ended_{n}": f"{pid} {pid} 0 {ORIGIN + {5: 6, 1: 7}[pid]} 0 x" for n, pid in enumerate(dead, 1)}
    trace = written(tmp_path, *records, (8, "tick", timelines.TICK, (9, 9)), env=more)
    outer, within = sorted(trace.spans(), key=lambda one: one.begin)
    assert [outer.self_time, within.self_time] == own
    assert outer.end_missing == ("died" if 1 in dead else "open") and outer.duration == (7 if 1 in dead else 8)
    assert within.end_missing == ("died" if 5 in dead else "open") and within.duration == (4 if 5 in dead else 6)


def test_a_span_without_an_end_goes_to_the_end_of_the_trace(tmp_path):
    trace = written(tmp_path, (1, "db", [1, 0, ""]), (9, "tick", timelines.TICK))
    (span,) = trace.spans()
    assert (span.duration, span.begin_missing, span.end_missing) == (8, None, "open")


def test_an_end_without_a_begin_is_told_of_by_its_id(tmp_path):
    (span,) = written(tmp_path, (4, "span_end", [9, "E: x"])).spans()
    assert (span.name, span.id, span.begin - ORIGIN, span.end - ORIGIN) == ("", 9, 0, 4)
    assert (span.begin_missing, span.end_missing, span.error) == ("before", None, "E")
    assert span.fields == {} and span.contexts["vpid"] == PID and span.error_text == "E: x"


def test_where_records_were_lost_the_missing_may_be_among_them(tmp_path):
    records = (5, "db", [1, 0, ""]), (6, "span_end", [2, ""]), (9, "tick", timelines.TICK)
    ended, begun = written(tmp_path, *records, discarded=(0, 3)).spans()
    assert (begun.end_missing, ended.begin_missing) == ("lost", "lost")


# ---- calls ----


def test_calls_nest_in_their_thread(tmp_path):
    begin, end = "function_begin", "function_end"
    trace = written(
        tmp_path, CODE, (1, begin, [3]), (2, begin, [4]), (3, begin, [3], 55), (4, end, [4]), (6, end, [3], 55),
        (9, end, [3]),
    )  # fmt: skip
    calls = list(trace.calls())
    assert told(calls) == [("function 4", 2, 2, 2, 1), ("shop.pay", 3, 3, 3, 0), ("shop.pay", 1, 8, 6, 0)]
    assert calls[0].parent == calls[2].id and calls[2].parent == 0
    assert calls[0].function is None and calls[2].function[:3] == ("shop.pay", "shop.py", 12)
    assert calls[1].thread.tid == 55


def test_begins_that_were_told_late_are_at_their_time(tmp_path):
    late = timelines.SCHEMAS | {"function_begin": "code:u32,began:u64"}
    trace = written(
        tmp_path,
        (10, "function_begin", [1, 2]), (10, "function_begin", [2, 5]), (11, "function_end", [2]),
        (12, "function_begin", [3, 99]), (12, "function_end", [3]),  # not yet: damage
        (13, "function_begin", [4, 1]), (14, "function_end", [4]),  # before what is around it: damage
        (20, "function_end", [1]),
        schemas=late,
    )  # fmt: skip
    assert told(trace.calls()) == [
        ("function 2", 5, 6, 6, 1), ("function 3", 12, 0, 0, 1), ("function 4", 2, 12, 12, 1),
        ("function 1", 2, 18, 0, 0),
    ]  # fmt: skip
    record = next(one for one in trace.records("function_begin") if one.fields["code"] == 2)
    assert record.time_of(5) == timelines.ORIGIN + 5
    assert record.time_of(1 << 63) == record.timestamp


def test_ends_that_were_lost_are_made_up_where_the_call_around_them_ends(tmp_path):
    trace = written(tmp_path, (1, "function_begin", [1]), (2, "function_begin", [2]), (4, "function_end", [1]))
    calls = trace.calls()
    assert told(calls) == [("function 2", 2, 2, 2, 1), ("function 1", 1, 3, 1, 0)]
    assert missing(calls) == [("function 2", None, "lost"), ("function 1", None, None)]


def test_an_end_on_no_open_call_has_lost_its_begin(tmp_path):
    trace = written(tmp_path, (1, "function_begin", [1]), (3, "function_end", [9]), (4, "function_end", [1]))
    assert told(trace.calls()) == [("function 9", 3, 0, 0, 1), ("function 1", 1, 3, 3, 0)]
    assert missing(trace.calls()) == [("function 9", "lost", None), ("function 1", None, None)]


def test_calls_that_ran_when_the_trace_began_hold_all_that_ended_before_them(tmp_path):
    records = [(5, "function_begin", [2]), (6, "function_end", [2]), (7, "function_end", [3]), (9, "function_end", [4])]
    trace = written(tmp_path, CODE, *records)
    assert told(trace.calls()) == [("function 2", 5, 1, 1, 0), ("shop.pay", 0, 7, 6, 0), ("function 4", 0, 9, 2, 0)]
    assert missing(trace.calls())[1:] == [("shop.pay", "before", None), ("function 4", "before", None)]


def test_functions_of_one_name_in_two_files_are_two(tmp_path):
    again = (0, "function_code", [4, "shop.pay", "other.py", 1])
    trace = written(tmp_path, CODE, again, *((n, f"function_{what}", [code]) for n, what, code in (
        (1, "begin", 3), (2, "end", 3), (3, "begin", 4), (4, "end", 4))))  # fmt: skip
    calls = trace.calls()
    assert [one.function.file for one in calls] == ["shop.py", "other.py"]
    assert len(set(calls.to_numpy()["name"])) == 2


# ---- strands and process images ----


def marked(directory, *records):
    """A trace of records (ticks, event, values, optional (pid, tid))."""
    events = [EventSchema(index, name, fields=text) for index, (name, text) in enumerate(SCHEMAS.items())]
    clock = ClockInfo(10**9, *divmod(ORIGIN, 10**9))
    layout = ChannelLayout(bytes(16), "compact", True, clock, events=events, contexts=CONTEXTS[0])
    packet = ctf_writer.Packet(layout)
    for ticks, name, values, *who in records:
        packet.event(list(SCHEMAS).index(name), ticks, values, common=who[0] if who else (PID, TID))
    return ringbuf.open_trace(ctf_writer.write(directory / "trace", layout, s0=[packet.bytes()]))


def test_greenlets_and_tasks_of_one_name_are_told_apart(tmp_path):
    trace = written(
        tmp_path, (0, "strand", [5, "task", "fetch"]), (0, "strand", [6, "task", "fetch"]),
        (1, "strand_switch", [5, 0]), (1, "function_begin", [1]), (2, "function_end", [1]),

        (3, "strand_switch", [6, 0]), (3, "function_begin", [1]), (4, "function_end", [1]),
        (5, "strand", [5, "task", "fetch"]), (5, "strand_switch", [5, 0]),
        (6, "function_begin", [1]), (7, "function_end", [1]), schemas=timelines.OF_IMAGES,
    )  # fmt: skip
    assert [call.task for call in trace.calls()] == ["fetch", "fetch #2", "fetch"]


def test_calls_that_go_on_after_a_switch_say_so_and_whose_they_are(tmp_path):
    trace = marked(
        tmp_path, (0, "strand", [5, "task", "Task-5"]), (1, "function_begin", [1]), (3, "function_end", [1]),
        (3, "strand_switch", [5, 0]), (4, "function_begin", [2]), (6, "function_end", [2]),
        (6, "strand_switch", [0, 1]), (7, "function_begin", [1]), (9, "function_end", [1]),
    )  # fmt: skip
    calls = list(trace.calls())
    assert [(one.name, one.task, one.begin_missing) for one in calls] == [
        ("function 1", "", None), ("function 2", "Task-5", None), ("function 1", "", "resumed")
    ]  # fmt: skip
    assert [(row.name, row.count, row.total, row.missing) for row in trace.summary()] == [
        ("function 1", 1, 4, 0), ("function 2", 1, 2, 0)
    ]  # fmt: skip


def test_a_forked_child_has_inherited_its_calls(tmp_path):
    child = 7, 7
    trace = marked(
        tmp_path, (1, "function_begin", [1]), (2, "process_image", [9, 3, 1], child),
        (2, "function_begin", [1], child), (5, "function_begin", [2], child), (6, "function_end", [2], child),
        (7, "function_end", [1], child), (8, "function_end", [4], child), (9, "function_end", [1]),
    )  # fmt: skip
    assert [(one.name, one.begin - ORIGIN, one.duration, one.begin_missing) for one in trace.calls()] == [
        ("function 2", 5, 1, None), ("function 1", 2, 5, "inherited"), ("function 4", 2, 6, "inherited"),
        ("function 1", 1, 8, None),
    ]  # fmt: skip


def test_an_exec_ends_the_calls_of_the_image_before(tmp_path):
    codes = [(0, "function_code", [n, f"f{n}", "f.py", n, image]) for n, image in ((1, 8), (2, 9))]
    trace = marked(
        tmp_path, *codes, (1, "function_begin", [1]), (2, "function_begin", [1], (PID, 55)),
        (4, "function_begin", [1]), (9, "function_begin", [2]), (12, "function_end", [2]),
    )  # fmt: skip
    found = [(one.name, one.begin - ORIGIN, one.duration, one.depth, one.end_missing) for one in trace.calls()]
    assert sorted(found) == [("f1", 1, 3, 0, "died"), ("f1", 2, 0, 0, "died"), ("f1", 4, 0, 1, "died"),
                             ("f2", 9, 3, 0, None)]  # fmt: skip
    assert len({one.thread.first for one in trace.calls("f?") if one.thread.tid == TID}) == 2


# ---- which ----


@pytest.fixture
def mixed(tmp_path):
    contexts = "vpid:i32,vtid:i32,procname:str,thread_name:str,task_name:str"
    main, worker = (PID, PID, "shop", "MainThread", "Task-1"), (PID, 7, "shop", "worker", "")
    return written(
        tmp_path, (0, "db", [1, 0, ""], main), (2, "web", [2, 1], worker), (4, "span_end", [2, ""], worker),
        (10, "span_end", [1, ""], main), (12, "web", [3, 0], (5, 5, "other", "", "")),
        (13, "span_end", [3, ""], worker), contexts=contexts,
    )  # fmt: skip


@pytest.mark.parametrize(
    "wanted, ids",
    [
        ({}, [2, 1, 3]),
        ({"names": "w*"}, [2, 3]),
        ({"names": ["web", "db"]}, [2, 1, 3]),
        ({"min_duration": 2}, [2, 1]),
        ({"min_depth": 1}, [2]),
        ({"max_depth": 0}, [1, 3]),
        ({"pid": PID}, [2, 1]),
        ({"tid": (5, 7)}, [2, 3]),
        ({"process": "sh*"}, [2, 1]),
        ({"thread": "worker"}, [2]),
        ({"task": "Task-*"}, [1]),
        ({"begin": ORIGIN + 5}, [1, 3]),
        ({"end": ORIGIN + 5}, [2, 1]),
        ({"begin": ORIGIN + 5, "end": ORIGIN + 11, "names": "web"}, []),
    ],
)
def test_where_selects(mixed, wanted, ids):
    assert [one.id for one in mixed.spans(**wanted)] == ids
    assert [one.depth for one in mixed.spans(**wanted)] == [int(number == 2) for number in ids]


def test_a_name_that_nothing_has_is_an_error(mixed):
    with pytest.raises(ringbuf.TraceError, match="no span is called 'nope'"):
        mixed.spans("nope")
    with pytest.raises(ringbuf.TraceError, match="no call is called"):
        mixed.calls("db")


def test_threads_say_who_they_are(mixed):
    pairs = mixed.spans()
    pairs.to_numpy()
    assert [str(one) for one in pairs.threads] == [
        f"shop {PID}, MainThread {PID}", f"shop {PID}, worker 7", "other 5"
    ]  # fmt: skip
    assert [(one.first - ORIGIN, one.last - ORIGIN) for one in pairs.threads] == [(0, 10), (2, 13), (12, 12)]


# ---- as columns ----


def test_columns_are_by_begin_and_parts_by_end(mixed):
    whole = mixed.spans().to_numpy()
    assert whole["begin"].tolist() == [ORIGIN, ORIGIN + 2, ORIGIN + 12]
    parts = list(mixed.spans().iter_numpy(1))
    assert numpy.concatenate(parts)["id"].tolist() == [2, 1, 3]


def test_a_trace_without_spans_has_none(tmp_path):
    trace = written(tmp_path, (1, "tick", timelines.TICK))
    assert list(trace.pairs()) == [] and len(trace.spans().to_numpy()) == 0
    assert trace.spans().threads == []


def test_arrow_has_names_for_numbers(mixed):
    needs.module("pyarrow")
    rows = mixed.spans().to_arrow().to_pylist()
    assert [(row["name"], row["process"], row["task"], row["tid"]) for row in rows] == [
        ("db", "shop", "Task-1", PID), ("web", "shop", "", 7), ("web", "other", "", 5)
    ]  # fmt: skip
    assert rows[0]["begin_missing"] is None and rows[0]["kind"] == "span"
    assert sum(batch.num_rows for batch in mixed.spans().iter_arrow(1)) == 3


# ---- beside the obvious algorithm ----

CONTEXTS = ("vpid:i32,vtid:i32", "", "vpid:i32,vtid:i32,task_name:str", "task_name:str,vtid:i32,vpid:i32")
SCHEMAS = {name: timelines.SCHEMAS[name] for name in ("db", "web", "span_end", "function_begin", "function_end",
                                                      "tick")}  # fmt: skip
SCHEMAS |= {
    "function_code": "code:u32,name:str,file:str,line:u32,image:u32",
    "strand": "strand:u64,kind:str,name:str",
    "strand_switch": "strand:u64,resumed:u32",
    "process_image": "image:u32,parent:u32,inherited:u32",
}


#: How often a record does what.
ACTIONS = {"span": 4, "span_end": 4, "call": 7, "call_end": 7, "code": 1, "switch": 0.5, "image": 0.2, "strand": 1}


@some.composite
def streams(draw):
    """Records of two CPUs, in packets, with losses between them; and which image each code is of, 0: unknown.

    From a seed: Hypothesis by itself draws few records, and hardly an end that has its begin.
    """
    random = draw(some.randoms(use_true_random=False))
    whats = random.choices(list(ACTIONS), ACTIONS.values(), k=random.choice((5, 20, 80, 200)))
    small, losses = (lambda: random.choice((0, 0, 1, 1, 2, 3))), random.choice((0, 0.05, 0.2))
    records = [
        (random.randrange(4), what, small(), small(), random.random() < 0.5, small(), random.random() < losses)
        for what in whats
    ]
    images = random.choice(([0, 0, 0, 0], [0, 1, 1, 2]))
    header = random.choice(("compact", "large"))
    ended = {random.randrange(1, 4): random.randrange(2 * len(whats)) for _ in range(random.choice((0, 0, 1, 2)))}
    return random.choice(CONTEXTS), random.random() < 0.7, header, records, images, ended


def made(directory, contexts, per_cpu, header, records, images, ended):
    events = [EventSchema(index, name, fields=text) for index, (name, text) in enumerate(SCHEMAS.items())]
    clock = ClockInfo(10**9, *divmod(ORIGIN, 10**9))
    env = {f"ended_{n}": f"{pid} {pid} 0 {ORIGIN + seen} 0 x" for n, (pid, seen) in enumerate(ended.items(), 1)}
    layout = ChannelLayout(bytes(16), header, per_cpu, clock, events=events, contexts=contexts, env=env)
    ids = {event.name: event.id for event in events}
    packets = [[ctf_writer.Packet(layout, cpu=cpu)] for cpu in (0, 1)]
    now, spans = 0, 0
    for gap, what, one, other, flag, who, is_new in records:
        now += gap
        lane = packets[who % 2]
        if is_new:  # another packet; records or packets may be missing before it
            last = lane[-1]
            lane.append(ctf_writer.Packet(layout, cpu=who % 2, begin=last.now, seq=last.seq + 1 + flag,
                                          discarded=last.discarded + one % 2))  # fmt: skip
        about = {"vpid": 1 + who // 3, "vtid": who, "task_name": f"Task-{one}"}
        common = [about[part.partition(":")[0]] for part in contexts.split(",") if part]
        spans += what == "span"
        name, values = {
            "span": ("db" if flag else "web", [spans, max(0, spans - 1 - other), *["t"] * flag]),
            "span_end": ("span_end", [1 + max(0, spans - 1 - one), "E: x" if flag else ""]),
            "call": ("function_begin", [one]),
            "call_end": ("function_end", [one]),
            "code": ("function_code", [other, f"f{other}", "f.py", other, images[other]]),
            "switch": ("strand_switch", [other, one]),
            "image": ("process_image", [other, 0, one]),
            "strand": ("strand", [other, "task", f"strand {one}"]),
        }[what]
        if what == "span_end" and one == 0 and flag:
            lane[-1].event(ids["tick"], now, timelines.TICK, common=common)
        lane[-1].event(ids[name], now, values, common=common)
    files = {f"s{cpu}": [one.bytes() for one in packets[cpu]] for cpu in (0, 1)}
    return ringbuf.open_trace(ctf_writer.write(directory / "trace", layout, **files))


def comparable(one, by_self=True):
    thread = one.thread
    if not isinstance(thread, tuple) or hasattr(thread, "cpu"):
        thread = (thread.pid, thread.tid) if thread.tid is not None else ("cpu", thread.cpu)
    self_time = one.self_time if by_self else None
    return (one.kind, one.name, one.begin, one.duration, self_time, one.id, one.parent, one.depth, thread, one.task,
            one.error, one.begin_missing or "", one.end_missing or "")  # fmt: skip


@given(streams(), some.integers(1, 30))
@settings(max_examples=150)
def test_pairs_are_those_of_the_obvious_algorithm(stream, rows):
    with tempfile.TemporaryDirectory() as directory, made(Path(directory), *stream) as trace:
        # When a process died is known too late for the own time of other processes' spans around its.
        shown = functools.partial(comparable, by_self=not stream[-1])
        expected = sorted(map(shown, Pairing(trace).found), key=repr)
        pairs = trace.pairs()
        assert sorted(map(shown, pairs), key=repr) == expected
        assert sum(len(part) for part in pairs.iter_numpy(rows)) == len(expected)
        assert sorted(map(shown, pairs.records_of(pairs.to_numpy())), key=repr) == expected
        assert all(0 <= one.self_time <= one.duration for one in pairs)


@pytest.mark.slow
def test_a_recorded_program_is_paired_as_the_obvious_algorithm_does(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import asyncio, os, threading, ringbuf\n"
        "tracer = ringbuf.Tracer.attach(os.environ['RINGBUF_CHANNEL'])\n"
        "def fib(n):\n    return n if n < 2 else fib(n - 1) + fib(n - 2)\n"
        "async def one(n):\n"
        "    with tracer.span('one', n=n):\n        fib(5)\n        await asyncio.sleep(0.001 * n)\n"
        "async def main():\n    await asyncio.gather(*map(one, range(5)))\n"
        "threads = [threading.Thread(target=fib, args=(8,)) for _ in range(3)]\n"
        "for thread in threads:\n    thread.start()\n"
        "asyncio.run(main())\n"
        "if os.fork() == 0:\n    fib(7)\n    os._exit(0)\n"
        "os.wait()\n"
    )
    trace = tmp_path / "trace"
    command = [sys.executable, "-m", "ringbuf", "record", "--functions", "-o", str(trace), "--", str(program)]
    subprocess.run(command, check=True, env={**os.environ, "RINGBUF_DIR": ""}, capture_output=True)
    opened = ringbuf.open_trace(trace)
    expected = sorted(map(comparable, Pairing(opened).found), key=repr)
    assert len(expected) > 300
    assert sorted(map(comparable, opened.pairs()), key=repr) == expected
