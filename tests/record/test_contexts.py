"""Contexts: what every record says about where it was recorded."""

import asyncio
import contextvars
import enum
import os
import threading

import judge
import pytest
import rings
from rings import assert_exact, in_fork, in_thread, records
from test_client import unraisable

import ringbuf


class Color(enum.Enum):
    RED = 1
    BLUE = 2


def judged_contexts(tracer, path):
    tracer.snapshot(path)
    return [{**event["contexts"]["stream"], **event["contexts"]["event"]} for event in judge.events(path)]


def test_built_in_contexts_are_those_of_the_recording_thread(tmp_path):
    names = ("vpid", "vtid", "procname", "thread_name", "task_name")
    with rings.tracer(contexts=names) as tracer:
        event = tracer.event("event", i="u8")
        wanted = []

        def record(i, task_name=""):
            assert event(i)
            with open("/proc/self/comm") as file:
                procname = file.read().strip()
            me = threading.current_thread()
            values = os.getpid(), threading.get_native_id(), procname, me.name, task_name
            wanted.append(dict(zip(names, values, strict=True)))

        async def tasks():
            await asyncio.create_task(asyncio.sleep(0), name="unrelated")
            for name in ("first", "名前"):
                task = asyncio.create_task(asyncio.to_thread(lambda: None), name=name)
                await task

                async def recorded(name=name):
                    record(0, name)

                await asyncio.create_task(recorded(), name=name)

        record(1)
        for name in ("worker", "", "nämé 名前" * 10):
            thread = threading.Thread(target=record, args=(2,))
            thread.name = name
            thread.start()
            thread.join()
        asyncio.run(tasks())
        found = judged_contexts(tracer, tmp_path / "trace")
        assert found == wanted
        assert [record.contexts for record in records(tracer.channel)] == wanted


@pytest.mark.parametrize(
    "contexts", [(), ("vpid",), ("vtid", "vpid"), ("procname",), ("vpid", "vtid", "procname"), ("task_name", "vtid")]
)
def test_any_selection_keeps_its_order(contexts, tmp_path):
    with rings.tracer(contexts=contexts) as tracer:
        assert tracer.event("event", x="u8")(7)
        (found,) = judged_contexts(tracer, tmp_path / "trace")
        assert tuple(found) == contexts
        assert found.get("vpid", os.getpid()) == os.getpid()


def test_a_thread_that_python_did_not_start_has_no_name():
    import _thread

    with rings.tracer(contexts=("thread_name", "vtid")) as tracer:
        event = tracer.event("event")
        done = threading.Event()
        before = threading.active_count()
        _thread.start_new_thread(lambda: (event(), done.set()), ())
        done.wait()
        assert threading.active_count() == before  # no dummy was made for it
        (record,) = records(tracer.channel)
        assert record.contexts["thread_name"] == ""


def test_a_forked_child_has_contexts_of_its_own():
    with rings.tracer(contexts=("vpid", "vtid", "procname")) as tracer:
        event = tracer.event("event", parent="i32")
        assert event(0)

        def child():
            assert event(os.getppid())
            in_thread(event, os.getppid())

        in_fork(child)
        first, second, third = (record.contexts for record in records(tracer.channel))
        assert first["vpid"] == first["vtid"] == os.getpid()
        assert second["vpid"] == second["vtid"] == third["vpid"] != os.getpid()
        assert third["vtid"] not in (second["vtid"], first["vtid"])


USER = [
    ("flag", "bool", True), ("tiny", "i8", -128), ("big", "u64", 2**64 - 1), ("ratio", "f64", 0.1),
    ("single", "f32", 0.5),
    ("text", "str", "né"), ("blob", "bytes", b"\0\1"), ("many", "u16[]", [1, 2, 65535]),
    ("three", "f64[3]", [1.0, 2.0, 3.0]),
    ("color", Color, Color.BLUE), ("empty", "str", ""), ("none", "u8[]", []),
]  # fmt: skip


def test_user_contexts_may_have_any_type(tmp_path):
    contexts = [(name, kind, lambda value=value: value) for name, kind, value in USER]
    with rings.tracer(contexts=("vpid", *contexts)) as tracer:
        event = tracer.event("event", x="u8")
        for i in range(3):
            assert event(i)
        wanted = {"vpid": os.getpid(), **{name: value for name, _, value in USER}}
        shown = {**wanted, "flag": 1, "blob": [0, 1], "color": 2}
        for found in judged_contexts(tracer, tmp_path / "trace"):
            assert {name: found[name] for name in shown} == shown
        for record in records(tracer.channel):
            assert {**record.contexts, "color": Color.BLUE} == wanted


def test_a_provider_is_asked_once_for_each_record_on_its_thread():
    calls = []

    def provide():
        calls.append(threading.get_ident())
        return len(calls)

    with rings.tracer(contexts=[("n", "u32", provide)]) as tracer:
        event = tracer.event("event")
        event()
        in_thread(event)
        event()
        assert [record.contexts["n"] for record in records(tracer.channel)] == [1, 2, 3]
        assert calls[0] == calls[2] == threading.get_ident()


def test_contexts_of_one_event_come_after_those_of_all(tmp_path):
    with rings.tracer(contexts=("vpid", ("user", "str", lambda: "me"))) as tracer:
        plain = tracer.event("plain", x="u8")
        own = tracer.event("own", x="u8", _contexts=("vtid", ("depth", "u16", lambda: 3)))
        assert plain(1) and own(2) and plain(3)
        tracer.snapshot(tmp_path / "trace")
        found = judge.events(tmp_path / "trace")
        stream = {"vpid": os.getpid(), "user": "me"}
        assert [event["contexts"]["stream"] for event in found] == [stream] * 3
        assert [event["contexts"]["event"] for event in found] == [
            {},
            {"vtid": threading.get_native_id(), "depth": 3},
            {},
        ]
        assert [event["fields"]["x"] for event in found] == [1, 2, 3]
        assert records(tracer.channel)[1].contexts == {**stream, "vtid": threading.get_native_id(), "depth": 3}


def test_contexts_of_one_event_need_none_of_the_channel(tmp_path):
    with rings.tracer() as tracer:
        event = tracer.event("event", x="str", _contexts=("procname", ("n", "u8[2]", lambda: b"ab")))
        assert event("value")
        (found,) = judged_contexts(tracer, tmp_path / "trace")
        assert found["n"] == [97, 98]


def test_a_provider_that_raises_is_reported_and_its_field_is_empty():
    def fail():
        raise LookupError("mine")

    kinds = {"a": "u32", "b": "str", "c": "bytes", "d": "f64[3]", "e": "u16[]", "f": "bool", "g": "f32", "h": Color}
    contexts = [
        ("before", "u8", lambda: 1),
        *((name, kind, fail) for name, kind in kinds.items()),
        ("after", "u8", lambda: 2),
    ]
    with unraisable() as reports, rings.tracer(contexts=contexts) as tracer:
        event = tracer.event("event", x="str")
        assert event("one") and event("two")
        found = [record.contexts for record in records(tracer.channel)]
    assert [report[:2] for report in reports] == [(LookupError, "mine")] * 16
    assert {report[2] for report in reports} == {fail}
    empty = {"a": 0, "b": "", "c": b"", "d": [0.0, 0.0, 0.0], "e": [], "f": False, "g": 0.0}
    for contexts in found:
        assert contexts.pop("h") in (0, None)
        assert contexts == {"before": 1, **empty, "after": 2}


def test_a_record_with_a_failed_provider_is_whole(tmp_path):
    def fail():
        raise LookupError

    contexts = [("text", "str", fail), ("three", "u32[3]", fail), ("many", "u8[]", fail), ("last", "u16", lambda: 9)]
    with unraisable(), rings.tracer(contexts=contexts) as tracer:
        event = tracer.event("event", x="str")
        assert event("one") and event("two")
        for found in judged_contexts(tracer, tmp_path / "trace"):
            assert (found["text"], found["three"], found["many"], found["last"]) == ("", [0, 0, 0], [], 9)
        assert [record.fields["x"] for record in records(tracer.channel)] == ["one", "two"]


@pytest.mark.parametrize("value", [None, "text", 1.5, -1, 1 << 32, object(), [1]])
def test_a_provider_of_the_wrong_value_is_reported(value):
    with unraisable() as reports, rings.tracer(contexts=[("n", "u32", lambda: value)]) as tracer:
        assert tracer.event("event")()
        (record,) = records(tracer.channel)
        assert record.contexts == {"n": 0}
    ((kind, message, _),) = reports
    assert issubclass(kind, (TypeError, OverflowError)) and "'n'" in message


def test_a_provider_that_is_interrupted_interrupts_the_program_after_the_record():
    def interrupt():
        raise KeyboardInterrupt

    held = bytearray(b"held")
    with rings.tracer(contexts=[("blob", "bytes", lambda: held), ("n", "u8", interrupt)]) as tracer:
        event = tracer.event("event")
        with pytest.raises(KeyboardInterrupt):
            event()
            assert not "reached"
        assert tracer.stats() == ringbuf.Stats(records_written=1, records_unread=1)
        held.extend(b"not exported any more")


def test_values_of_failed_providers_are_given_back():
    held = bytearray(b"held")
    with unraisable(), rings.tracer(contexts=[("three", "u8[3]", lambda: held)]) as tracer:
        assert tracer.event("event")()
        held.extend(b"not exported any more")


def test_a_provider_that_records_is_refused_and_counted():
    with rings.tracer(contexts=[("n", "u32", lambda: inner.append(event()) or 5)]) as tracer:
        inner = []
        event = tracer.event("event")
        assert [event() for _ in range(3)] == [True] * 3
        assert inner == [False] * 3
        assert tracer.stats().records_lost_nesting == 3
        assert_exact(tracer.stats(), attempts=6)
        assert [record.contexts for record in records(tracer.channel)] == [{"n": 5}] * 3


def test_a_provider_that_closes_the_channel_is_an_error():
    rings.run_script(
        """
import ringbuf
for timeout in (0, None):
    tracer = ringbuf.Tracer("x", mode="discard", blocking_timeout=timeout,
        contexts=[("n", "u8", lambda: tracer.close() or 1)])
    try:
        tracer.event("event")()
    except ValueError as error:
        assert "closed" in str(error), error
    else:
        raise AssertionError
"""
    )


@pytest.mark.parametrize(
    ("contexts", "error"),
    [
        (("cpu",), ValueError), (("vpid", "vpid"), ValueError), ((("vpid", "i32", os.getpid), "vpid"), ValueError),
        ((("a", "u9", int),), ValueError), ((("a b", "u8", int),), ValueError), ((("a", "u8", 5),), TypeError),
        ((("a", "u8"),), TypeError), ((5,), TypeError), ((None,), TypeError), (None, TypeError),
        ((("a", "bytes@8", bytes),), ValueError),
        ((("a", "u8[9999]", bytes),), ValueError), ((("a", None, bytes),), TypeError),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_context_is_refused(contexts, error):
    with pytest.raises(error):
        rings.tracer(contexts=contexts)
    if contexts is not None and contexts != (("a", "u8[9999]", bytes),):  # one event's may be large
        with rings.tracer() as tracer:
            with pytest.raises(error):
                tracer.event("event", _contexts=contexts)
            assert tracer.channel.schemas() == []


def test_contexts_too_large_for_a_packet_lose_the_record_and_count_it():
    text = ["x" * 100]
    with rings.tracer(contexts=[("text", "str", lambda: text[0])], subbuf_size=4096) as tracer:
        event = tracer.event("event", x="u8")
        assert event(1)
        text[0] = "x" * 5000
        assert event(2) is False
        text[0] = ""
        assert event(3)
        assert tracer.stats().records_lost_big == 1
        assert [record.fields["x"] for record in records(tracer.channel)] == [1, 3]


def test_raw_records_have_what_the_core_knows(tmp_path):
    contexts = ("vpid", ("user", "str", lambda: "me"), ("n", "u16[2]", lambda: (1, 2)), "vtid")
    with rings.tracer(contexts=contexts) as tracer:
        assert tracer.channel.write(b"raw")
        (found,) = judged_contexts(tracer, tmp_path / "trace")
        assert found == {"vpid": os.getpid(), "user": "", "n": [0, 0], "vtid": threading.get_native_id()}


def test_whoever_attaches_provides_what_it_can(tmp_path):
    contexts = (
        "vpid",
        ("user", "str", lambda: "creator"),
        ("n", "u32", lambda: 1),
        ("color", Color, lambda: Color.RED),
    )
    with unraisable() as reports, rings.tracer(contexts=contexts) as tracer:
        assert tracer.event("event")()
        for given in (
            (),
            [("user", "str", lambda: "guest")],
            [("n", "u32", lambda: 5), ("user", "str", lambda: "guest")],
        ):
            other = ringbuf.Tracer.attach(tracer.channel.fileno(), contexts=given)
            assert other.event("event")()
            other.event("more", _contexts=[("own", "u8", lambda: 3)])()
            other.close()
        found = [record.contexts for record in records(tracer.channel)]
        assert [(one["user"], one["n"]) for one in found] == [
            ("creator", 1), ("", 0), ("", 0), ("guest", 0), ("guest", 0), ("guest", 5), ("guest", 5),
        ]  # fmt: skip
        assert all(one["vpid"] == os.getpid() for one in found)
        assert [one.get("own") for one in found] == [None, None, 3, None, 3, None, 3]
    assert reports == []


def test_task_names_need_no_asyncio():
    rings.run_script(
        """
import sys, ringbuf
tracer = ringbuf.Tracer("x", contexts=("task_name",))
assert tracer.event("event")()
assert "asyncio" not in sys.modules, "it takes long to import"
"""
    )


def test_contexts_work_in_every_thread_at_once():
    with rings.tracer(contexts=("vtid", "thread_name"), subbuf_size=1 << 16) as tracer:
        event = tracer.event("event", vtid="i32")

        def run():
            for _ in range(200):
                assert event(threading.get_native_id())

        threads = [threading.Thread(target=run, name=f"name of {i}") for i in range(6)]
        for thread in threads:
            thread.start()
        names = {thread.native_id: thread.name for thread in threads}
        for thread in threads:
            thread.join()
        found = records(tracer.channel)
        assert len(found) == 1200
        for record in found:
            assert record.contexts == {"vtid": record.fields["vtid"], "thread_name": names[record.fields["vtid"]]}


def test_a_context_variable_is_what_it_is_where_the_record_is_made():
    request = contextvars.ContextVar("request")
    user = contextvars.ContextVar("user", default=-1)
    with rings.tracer(contexts=(("request", "str", request), ("user", "i64", user))) as tracer:
        event = tracer.event("event", i="u8")
        event(0)

        async def serve(i, name):
            request.set(name)
            await asyncio.sleep(0)
            user.set(i)
            event(i)

        async def main():
            await asyncio.gather(serve(1, "/pay"), serve(2, "/list"))

        asyncio.run(main())
        event(3)
        found = {one.fields["i"]: (one.contexts["request"], one.contexts["user"]) for one in records(tracer.channel)}
    assert found == {0: ("", -1), 1: ("/pay", 1), 2: ("/list", 2), 3: ("", -1)}


@pytest.mark.parametrize("kind", [Color, "f64[3]"])
def test_a_context_variable_without_a_value_that_can_be_recorded_is_refused(kind):
    with pytest.raises(TypeError, match="give the context variable a default"):
        rings.tracer(contexts=(("color", kind, contextvars.ContextVar("color")),))
    empty = {Color: Color.RED, "f64[3]": [0.0] * 3}[kind]
    with rings.tracer(contexts=(("color", kind, contextvars.ContextVar("color", default=empty)),)) as tracer:
        assert tracer.event("event", i="u8")(1)


def test_a_context_variable_that_is_empty_at_the_start_may_be_of_any_length():
    sizes = contextvars.ContextVar("sizes")
    with rings.tracer(
        contexts=(("sizes", "u32[]", sizes), ("body", "bytes", contextvars.ContextVar("body")))
    ) as tracer:
        event = tracer.event("event", i="u8")
        event(1)
        sizes.set([1, 2])
        event(2)
        found = [(one.contexts["sizes"], one.contexts["body"]) for one in records(tracer.channel)]
    assert found == [([], b""), ([1, 2], b"")]
