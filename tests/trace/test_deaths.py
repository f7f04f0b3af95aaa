"""deaths.py: processes that ended while they were recorded, as commands and exports say it."""

import timelines
from timelines import ORIGIN, PID, TICK, TID, written

from ringbuf.trace.about import about
from ringbuf.trace.deaths import Death, deaths
from ringbuf.trace.threads import threads_of

CONTEXTS = "vpid:i32,vtid:i32,procname:str"
OTHER = (7, 7, "worker")
FIRST = (PID, TID, "shop")


def of(tmp_path, *records, **ends):
    env = {f"ended_{n}": one for n, one in enumerate(ends.values(), 1)}
    return written(tmp_path, *records, contexts=CONTEXTS, env=env)


def test_a_process_ends_when_it_was_last_heard_of_or_seen(tmp_path):
    trace = of(
        tmp_path,
        (1, "tick", TICK, FIRST),
        (9, "tick", TICK, OTHER),
        a=f"7 7 0 {ORIGIN + 5} 2 x",
        b=f"{PID} {TID} 0 {ORIGIN + 20} 0 x",
    )
    assert deaths(trace, threads_of(trace)) == [
        Death(7, "worker", ORIGIN + 9, 2, False), Death(PID, "shop", ORIGIN + 20, 0, False),
    ]  # fmt: skip


def test_one_with_nothing_open_is_said_too(tmp_path):
    trace = of(
        tmp_path,
        (0, "tick", TICK, FIRST),
        (9, "web", [1, 0], OTHER),
        (12, "span_end", [1, ""], OTHER),
        (30, "web", [2, 0], FIRST),
        a="7 7 0 0 0 x",
    )
    assert "ended    worker 7 ended at +12 ns, while others went on" in str(about(trace))
    assert trace.summary().deaths == ("worker 7 ended at +12 ns, while others went on; nothing was open",)
    assert str(trace.summary()).endswith("nothing was open")
    assert [one[:4] for one in timelines.told(trace)][-1] == ("instant", 12, "thread 7", "process ended")


def test_what_it_left_open_is_counted(tmp_path):
    records = (0, "tick", TICK, FIRST), (9, "web", [1, 0], OTHER), (10, "web", [2, 1], OTHER), (30, "tick", TICK, FIRST)
    trace = of(tmp_path, *records, a=f"7 7 0 {ORIGIN + 20} 1 x")
    assert trace.summary().deaths == (
        "worker 7 died at +20 ns: 1 record it was writing lost, 2 spans or calls not ended",
    )
    assert about(trace).as_dict()["deaths"] == [
        {"pid": 7, "process": "worker", "time": ORIGIN + 20, "records": 1, "is_early": True, "host": ""}
    ]
    assert [one[:4] for one in timelines.told(trace)][-1] == ("instant", 20, "thread 7", "process died")


def test_the_last_one_to_end_is_nothing_to_tell(tmp_path):
    trace = of(tmp_path, (0, "web", [1, 0], FIRST), (12, "span_end", [1, ""], FIRST), a=f"{PID} {TID} 0 0 0 x")
    assert trace.summary().deaths == () and "ended    shop 100 ended at +12 ns" in str(about(trace))


def test_where_no_process_ended_nothing_is_said(tmp_path):
    trace = of(tmp_path, (0, "web", [1, 0], FIRST))
    assert trace.summary().deaths == about(trace).deaths == ()
