"""core/open.h: calls that are recorded only if they take long enough, or do not lie too deep. No test asks that
something be fast: calls that need not take long may, on a busy machine."""

import asyncio
import json
import os
import sys
import threading
import time

import needs
import pytest
import rings

import ringbuf
from ringbuf.record.functions import Functions

HERE = [__name__]
LONG = 0.03


def wait():
    time.sleep(LONG)


def leaf():
    return 1


def middle():
    leaf()
    wait()
    leaf()


def fails():
    time.sleep(LONG)
    raise KeyError(1)


def outer():
    for _ in range(3):
        leaf()
    middle()
    with pytest.raises(KeyError):
        fails()


def steps():
    for n in range(3):
        time.sleep(LONG)
        yield n


async def task():
    leaf()
    await asyncio.sleep(LONG)
    wait()


def loop():
    asyncio.run(task())


def deep(n):
    return deep(n - 1) if n else leaf()


@pytest.fixture(params=[0.0, 30.0], ids=["direct", "blocking"])
def recorded(request, tmp_path):
    """The calls of a function, as a trace has them: by its own name, without the module's."""

    def record(function, **options):
        trace = tmp_path / "trace"
        channel = {"blocking_timeout": request.param, "contexts": ("vpid", "vtid")}
        with rings.tracer(subbuf_size=1 << 18, **channel) as tracer:
            with tracer.record(trace), Functions(tracer, HERE, **options):
                function()
            assert tracer.stats().records_lost == 0
        calls = list(ringbuf.open_trace(trace).calls())
        assert all(call.begin_missing is None and call.end_missing is None for call in calls)
        return calls

    return record


def named(calls):
    return [call.name.removeprefix(f"{__name__}.") for call in sorted(calls, key=lambda call: call.begin)]


def path(call, calls):
    """Names from the outermost on."""
    by_id, found = {one.id: one for one in calls}, []
    while call is not None:
        found.insert(0, call.name.removeprefix(f"{__name__}."))
        call = by_id.get(call.parent)
    return found


def test_calls_that_take_long_enough_are_there_and_those_around_them(recorded):
    calls = recorded(outer, min_duration=LONG)
    assert all(call.duration >= LONG * 1e9 for call in calls)
    paths = [path(call, calls) for call in calls]
    for wanted in (["outer"], ["outer", "middle"], ["outer", "middle", "wait"], ["outer", "fails"]):
        assert paths.count(wanted) == 1
    (around,) = [call for call in calls if call.name.endswith(".outer")]
    for call in calls:
        assert around.begin <= call.begin and call.begin + call.duration <= around.begin + around.duration


def test_a_call_that_nothing_reaches_leaves_its_name_alone(recorded):
    assert recorded(outer, min_duration=1e6) == []


def test_a_step_of_a_generator_counts_by_itself(recorded):
    calls = recorded(lambda: list(steps()), min_duration=LONG)
    assert named(calls).count("steps") == 3


def test_each_thread_is_in_calls_of_its_own(recorded):
    def threads():
        found = [threading.Thread(target=outer) for _ in range(4)]
        for thread in found:
            thread.start()
        for thread in found:
            thread.join()

    calls = recorded(threads, min_duration=LONG)
    by_thread = {}
    for call in calls:
        by_thread.setdefault(call.thread.tid, []).append(path(call, calls))
    assert sum(["outer", "middle", "wait"] in paths for paths in by_thread.values()) == 4


def test_what_is_around_a_task_s_step_is_not_the_task_s(recorded):
    calls = recorded(loop, min_duration=LONG)
    tasks = {call.name.removeprefix(f"{__name__}."): call.task for call in calls}
    assert tasks["loop"] == "" and tasks["wait"] == tasks["task"] and tasks["task"].startswith("Task-")
    assert ["loop", "task", "wait"] in [path(call, calls) for call in calls]


def test_calls_that_run_when_recording_begins_are_left_out(tmp_path):
    with rings.tracer(subbuf_size=1 << 18, contexts=("vpid", "vtid")) as tracer, tracer.record(tmp_path / "trace"):
        functions = Functions(tracer, HERE, min_duration=LONG)

        def begins():
            functions.start()
            wait()

        begins()
        functions.stop()
        functions.start()  # on one more stack: nothing is left of what was open
        wait()
        functions.stop()
    calls = list(ringbuf.open_trace(tmp_path / "trace").calls())
    assert named(calls) == ["wait", "wait"]
    assert [call.depth for call in calls] == [0, 0]


@pytest.mark.parametrize("depth", [1, 2, 3, 100])
def test_calls_that_lie_too_deep_are_left_out(recorded, depth):
    calls = recorded(lambda: deep(10), max_depth=depth)
    assert len(calls) == min(depth, 13)
    assert {call.depth for call in calls} == set(range(min(depth, 13)))
    assert named(calls)[1:] == (["deep"] * 11 + ["leaf"])[: depth - 1]


def test_both_can_be_given(recorded):
    calls = recorded(outer, min_duration=LONG, max_depth=2)
    paths = [path(call, calls) for call in calls]
    assert ["outer", "middle"] in paths and ["outer", "fails"] in paths
    assert max(len(one) for one in paths) == 2


@pytest.mark.parametrize("options", [{"max_depth": 2}, {"min_duration": LONG}, {}], ids=str)
def test_a_forked_child_begins_with_the_calls_that_it_is_in(tmp_path, options):
    with rings.tracer(subbuf_size=1 << 18, contexts=("vpid", "vtid")) as tracer:

        def forks():
            pid = os.fork()
            if pid == 0:
                middle()
                os._exit(0)
            assert rings.exit_code(pid) == 0

        with tracer.record(tmp_path / "trace"), Functions(tracer, HERE, **options):
            forks()
    calls = list(ringbuf.open_trace(tmp_path / "trace").calls())
    child = [call for call in calls if call.thread.pid != os.getpid()]
    names = [name.rpartition(".")[2] for name in named(child)]
    if options == {"min_duration": LONG}:
        assert {"forks", "middle", "wait"} >= set(names) >= {"middle", "wait"}  # forks has no end in the child
    else:
        assert names == ["forks", "middle", *(["leaf", "wait", "leaf"] if not options else [])]
    inherited = [call for call in child if call.begin_missing == "inherited"]
    if "min_duration" in options:
        assert not inherited  # each is told with its own begin, in the child
    else:
        assert [call.name.rpartition(".")[2] for call in inherited] == ["forks"]


def test_greenlets_have_their_calls(tmp_path):
    needs.package("greenlet")
    import greenlet

    with rings.tracer(subbuf_size=1 << 18, contexts=("vpid", "vtid")) as tracer:

        def other():
            wait()
            main.switch()
            wait()

        def switches():
            one = greenlet.greenlet(other)
            one.switch()
            wait()
            one.switch()

        main = greenlet.getcurrent()
        with tracer.record(tmp_path / "trace"), Functions(tracer, HERE, min_duration=LONG):
            switches()
    calls = list(ringbuf.open_trace(tmp_path / "trace").calls())
    assert all(call.duration >= LONG * 1e9 and not call.end_missing for call in calls)
    waits = [call for call in calls if call.name.endswith(".wait")]
    assert len(waits) == 3
    assert [path(call, calls)[-2].rpartition(".")[2] for call in sorted(waits, key=lambda call: call.begin)] == [
        "other", "switches", "other",
    ]  # fmt: skip


def test_exports_show_them_at_their_time(tmp_path):
    trace = tmp_path / "trace"
    with rings.tracer(subbuf_size=1 << 18, contexts=("vpid", "vtid")) as tracer:
        with tracer.record(trace), Functions(tracer, HERE, min_duration=LONG):
            outer()
    opened = ringbuf.open_trace(trace)
    calls = {call.name: call for call in opened.calls()}
    opened.export(tmp_path / "trace.json")
    with open(tmp_path / "trace.json") as file:
        slices = {one["name"]: one for one in json.load(file)["traceEvents"] if one["ph"] == "X"}
    for name in (f"{__name__}.outer", f"{__name__}.wait"):
        assert slices[name]["dur"] * 1000 == pytest.approx(calls[name].duration, abs=1)


def test_deep_recursion_finds_room(recorded):
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        calls = recorded(lambda: deep(3000), max_depth=2)
    finally:
        sys.setrecursionlimit(limit)
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"min_duration": -1}, "min_duration is a number of seconds"),
        ({"min_duration": float("nan")}, "min_duration is a number of seconds"),
        ({"max_depth": 0}, "max_depth is a number of calls"),
    ],
)
def test_a_choice_that_is_none_is_refused(options, said):
    with rings.tracer() as tracer, pytest.raises(ValueError, match=said):
        Functions(tracer, **options)


def test_a_clock_of_python_s_tells_no_durations():
    with rings.tracer(clock=time.time_ns) as tracer:
        with pytest.raises(ValueError, match="min_duration needs a channel whose clock"):
            Functions(tracer, HERE, min_duration=1).start()
        with Functions(tracer, HERE, max_depth=1):
            outer()
