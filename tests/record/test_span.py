"""Spans: span.pxi, Tracer.span, span_type and trace (spans.py). What is recorded, and who is whose parent."""

import abc
import asyncio
import contextvars
import copy
import enum
import functools
import inspect
import math
import os
import pickle
import random
import sys
import sysconfig
import threading
import typing
import weakref

import judge
import numpy
import pytest
import rings

import ringbuf


class Color(enum.Enum):
    RED = 0
    GREEN = 7


class Shape(enum.Enum):
    ROUND = "o"


@pytest.fixture
def tracer():
    with rings.tracer() as tracer:
        yield tracer


def spans_of(tracer):
    """{name: [(id, parent's name or None, fields, error or None)]}; everything that was recorded is checked."""
    names, found, open_ids = {0: None}, {}, {}
    for record in rings.records(tracer.channel):
        fields = dict(record.fields)
        number = fields.pop("span_id")
        assert number != 0
        if record.name == "span_end":
            open_ids.pop(number)[3] = fields.pop("error")
            assert not fields
        else:
            assert number not in names
            names[number] = record.name
            parent = names.get(fields.pop("parent_id"), "unknown")
            open_ids[number] = [number, parent, fields, None]
            found.setdefault(record.name, []).append(open_ids[number])
    return found


def parents_of(tracer):
    """Who was around each span; all must have ended well."""
    spans = spans_of(tracer)
    assert {span[3] for each in spans.values() for span in each} <= {""}
    return {name: [span[1] for span in each] for name, each in spans.items()}


# ---- what a span records ----


def test_a_span_records_begin_fields_and_end(tracer):
    with tracer.span("db", table="orders", rows=17) as span:
        assert span.id and span.name == "db"
    assert spans_of(tracer) == {"db": [[span.id, None, {"table": "orders", "rows": 17}, ""]]}


def test_the_judge_sees_the_convention_of_the_documents(tracer, tmp_path):
    with tracer.span("outer") as outer, tracer.span("db", table="orders") as inner:
        pass
    tracer.snapshot(tmp_path)
    assert [(event["name"], event["fields"]) for event in judge.events(tmp_path)] == [
        ("outer", {"span_id": outer.id, "parent_id": 0}),
        ("db", {"span_id": inner.id, "parent_id": outer.id, "table": "orders"}),
        ("span_end", {"span_id": inner.id, "error": ""}),
        ("span_end", {"span_id": outer.id, "error": ""}),
    ]


VALUES = {
    "i64": [0, -1, 2**63 - 1, -(2**63), numpy.int32(-4), numpy.uint8(4)],
    "f64": [0.5, math.inf, numpy.float64(0.25), numpy.float32(0.5)],
    "bool": [True, False, numpy.bool_(True)],
    "str": ["", "grüße", "a\0b"],
    "bytes": [b"\0\1", bytearray(b"x"), memoryview(b"y")],
}


@pytest.mark.parametrize("kind, value", [(kind, value) for kind, values in VALUES.items() for value in values])
def test_types_follow_from_the_first_value(tracer, kind, value):
    with tracer.span("s", x=value):
        pass
    assert f",x:{kind}" in dict((name, fields) for _, name, _, fields in tracer.channel.schemas())["s"]
    assert spans_of(tracer)["s"][0][2] == {"x": value}


def test_a_member_of_an_enumeration_gives_its_labels(tracer):
    with tracer.span("s", color=Color.GREEN):
        pass
    assert spans_of(tracer)["s"][0][2] == {"color": "GREEN"}


@pytest.mark.parametrize("value", [None, [1], {}, object(), Shape.ROUND, 1j])
def test_a_value_without_a_type_is_refused_by_name(tracer, value):
    with pytest.raises(TypeError, match="field 'x': no type for"):
        tracer.span("s", x=value)
    assert spans_of(tracer) == {}


def test_a_later_value_that_does_not_fit_is_refused_and_nothing_is_open(tracer):
    with tracer.span("s", color=Color.RED, n=1):
        pass
    with pytest.raises(TypeError, match=r"'s' .* first used, with .*n:i64: field 'n': an int is required, not str"):
        with tracer.span("s", color=Color.RED, n="1"):
            raise AssertionError("entered")
    with pytest.raises(OverflowError, match=r"span 's'.* 9223372036854775808 is out of range for i64"):
        tracer.span("s", color=Color.RED, n=2**63).__enter__()
    with tracer.span("after"):
        pass
    assert {name: len(each) for name, each in spans_of(tracer).items()} == {"s": 1, "after": 1}


def test_the_order_of_the_fields_does_not_matter(tracer):
    for _ in range(2):
        with tracer.span("s", a=1, b="x"):
            pass
        with tracer.span("s", b="y", a=2):
            pass
    assert [span[2] for span in spans_of(tracer)["s"]] == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}] * 2
    assert [name for _, name, _, _ in tracer.channel.schemas()] == ["s", "span_end"]


def test_other_fields_make_another_event_of_the_same_name(tracer):
    with tracer.span("s"), tracer.span("s", a=1):
        pass
    assert [(span[1], span[2]) for span in spans_of(tracer)["s"]] == [(None, {}), ("s", {"a": 1})]


def test_fields_may_have_any_name_but_those_of_a_span(tracer):
    with tracer.span("s", name="x", self=1, error="y"):
        pass
    assert spans_of(tracer)["s"][0][2] == {"name": "x", "self": 1, "error": "y"}
    for name in ("span_id", "parent_id"):
        with pytest.raises(TypeError, match=name):
            tracer.span("s", **{name: 1})


# ---- errors, and losses ----


class Rude(Exception):
    def __str__(self):
        raise ValueError("no text")


@pytest.mark.parametrize(
    "error, text",
    [
        (KeyError("x"), "KeyError: 'x'"),
        (asyncio.CancelledError(), "CancelledError"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (Rude(), "Rude"),
        (OSError("\udcff.txt"), "OSError: \\udcff.txt"),
        (ValueError("x" * 100_000), "ValueError: " + "x" * 1000),
    ],
)
def test_an_exception_passes_and_its_text_is_in_the_end(tracer, error, text):
    with pytest.raises(type(error)) as raised, tracer.span("s"):
        raise error
    assert raised.value is error
    assert spans_of(tracer)["s"][0][3] == text


def test_a_lost_begin_has_no_end_and_is_nobodys_parent():
    with rings.tracer(subbuf_size=4096, n_subbufs=2) as tracer:
        tracer.span_type("outer")
        fill = tracer.event("fill", data="bytes")
        with tracer.span("outer"):
            while fill(bytes(500)):
                pass
            while fill(b""):
                pass
            lost = tracer.stats().records_lost
            with tracer.span("lost") as span:
                assert span.id == 0
            assert tracer.stats().records_lost == lost + 1
        assert tracer.stats().records_lost == lost + 2  # and the end of the outer one


def test_a_disabled_span_records_and_counts_nothing_and_its_children_have_its_parent(tracer):
    quiet = tracer.span_type("quiet")
    quiet.enabled = False
    with tracer.span("outer"), quiet() as span, tracer.span("inner"):
        assert not quiet.enabled and span.id == 0
    assert parents_of(tracer) == {"outer": [None], "inner": ["outer"]}


def test_a_channel_that_closes_inside_a_span_does_not_disturb(tracer):
    with tracer.span("s"):
        tracer.close()
    with pytest.raises(ValueError, match="closed"), tracer.span("s"):
        raise AssertionError("entered")


def test_a_span_is_used_again_after_its_end_and_not_before(tracer):
    span = tracer.span("s")
    ids = set()
    for _ in range(2):
        with span:
            ids.add(span.id)
            with pytest.raises(RuntimeError, match="open already"), span:
                raise AssertionError("entered")
    assert len(ids) == 2
    assert {each[0] for each in spans_of(tracer)["s"]} == ids
    with pytest.raises(TypeError):
        type(span)()


# ---- declared ----


def test_a_declared_span_takes_values_in_order_and_by_name(tracer):
    query = tracer.span_type("query", table="str", rows="u32")
    for span in (query("orders", 17), query(rows=17, table="orders"), query("orders", rows=17)):
        with span:
            pass
    assert [span[2] for span in spans_of(tracer)["query"]] == [{"table": "orders", "rows": 17}] * 3


@pytest.mark.parametrize(
    "values, named", [((), {}), (("a",), {}), (("a", 1, 2), {}), (("a",), {"table": "a"}), ((), {"table": "a", "n": 1})]
)
def test_a_declared_span_refuses_other_values(tracer, values, named):
    query = tracer.span_type("query", table="str", rows="u32")
    with pytest.raises(TypeError, match="span 'query' takes"):
        query(*values, **named)


def test_spans_and_their_values_go_when_they_are_done(tracer):
    table, query = "orders-" + str(tracer), tracer.span_type("query", table="str")
    ids = set()

    def use():
        for span in (tracer.span("db", table=table), query(table), query(table=table)):
            with span:
                ids.add(id(span))
            with pytest.raises(TypeError):
                query(table, table)
            with pytest.raises(TypeError):
                query(table=table, more=table)

    use()
    before = sys.getrefcount(table), sys.getrefcount(query)
    for _ in range(1000):
        use()
    assert (sys.getrefcount(table), sys.getrefcount(query)) == before
    assert len(ids) < 1500  # of 3,003: where there is no GIL, memory is used again somewhat later


# ---- parents ----


def test_spans_know_the_span_around_them(tracer):
    with tracer.span("a"):
        with tracer.span("b"), tracer.span("c"):
            pass
        with tracer.span("d"):
            pass
    with tracer.span("e"):
        pass
    assert parents_of(tracer) == {"a": [None], "b": ["a"], "c": ["b"], "d": ["a"], "e": [None]}


def test_threads_begin_outside_of_all_spans(tracer):
    def work():
        with tracer.span("thread"), tracer.span("inner"):
            pass

    with tracer.span("main"):
        rings.in_thread(contextvars.Context().run, work)  # 3.14 may hand the context on
    assert parents_of(tracer) == {"main": [None], "thread": [None], "inner": ["thread"]}


def test_many_threads_never_share_an_id(tracer):
    begin = threading.Barrier(4)

    def work():
        begin.wait()
        for _ in range(20):
            with tracer.span("s"):
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(spans_of(tracer)["s"]) == 80  # whose ids differ: spans_of looks


def test_tasks_that_take_turns_keep_their_own_parents(tracer):
    async def step(name, turn):
        with tracer.span(name):
            for _ in range(3):
                turn.set()
                await asyncio.sleep(0)
                with tracer.span(f"{name}-inner"):
                    await asyncio.sleep(0)

    async def main():
        with tracer.span("main"):
            turn = asyncio.Event()
            await asyncio.gather(step("one", turn), step("two", turn))

    asyncio.run(main())
    assert parents_of(tracer) == {
        "main": [None], "one": ["main"], "two": ["main"], "one-inner": ["one"] * 3, "two-inner": ["two"] * 3
    }  # fmt: skip


def test_a_forked_child_has_ids_of_its_own_and_leaves_the_parents_span_open(tracer):
    with tracer.span("parent"):
        pid = os.fork()
        if not pid:
            try:
                with tracer.span("child"):
                    pass
            except BaseException:
                os._exit(1)
        else:
            assert rings.exit_code(pid) == 0
            with tracer.span("sibling"):
                pass
    if not pid:
        os._exit(0)
    assert parents_of(tracer) == {"parent": [None], "child": ["parent"], "sibling": ["parent"]}


# ---- traced functions ----


def test_a_traced_function_is_a_span_with_its_qualified_name(tracer):
    @tracer.trace
    def add(a, b=2):
        """Adds."""
        with tracer.span("inner"):
            return a + b

    @tracer.trace(name="times")
    def multiply(a, b):
        return a * b

    assert (add(1), add(a=1, b=5), multiply(2, 3)) == (3, 6, 6)
    assert add.__name__ == "add" and add.__doc__ == "Adds." and str(inspect.signature(add)) == "(a, b=2)"
    assert add.__wrapped__(1) == 3
    name = f"{__name__}.test_a_traced_function_is_a_span_with_its_qualified_name.<locals>.add"
    assert parents_of(tracer) == {name: [None, None], "inner": [name, name, None], "times": [None]}


def test_an_exception_of_a_traced_function_passes(tracer):
    @tracer.trace(name="fails")
    def fails():
        raise LookupError("nothing")

    with pytest.raises(LookupError):
        fails()
    assert spans_of(tracer)["fails"][0][3] == "LookupError: nothing"


def test_a_recursion_that_goes_too_deep_ends_its_spans_and_nothing_is_printed(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    with rings.tracer(subbuf_size=1 << 20) as tracer:

        @tracer.trace(name="deep")
        def deep(n):
            return deep(n + 1)

        with pytest.raises(RecursionError):
            deep(0)
        errors = [span[3] for span in spans_of(tracer)["deep"]]
    assert len(errors) > 100 and all(error.startswith("RecursionError") for error in errors)
    assert told == []


def test_methods_of_all_kinds_are_traced_in_either_order(tracer):
    class Shop:
        @tracer.trace(name="method")
        def method(self):
            return self

        @classmethod
        @tracer.trace(name="class below")
        def below(cls):
            return cls

        @tracer.trace(name="class above")
        @classmethod
        def above(cls):
            return cls

        @tracer.trace(name="static above")
        @staticmethod
        def static():
            return 1

        @property
        @tracer.trace(name="property")
        def prop(self):
            return 2

    shop = Shop()
    assert shop.method() is shop and Shop.below() is Shop and shop.above() is Shop
    assert Shop.static() == shop.static() == 1 and shop.prop == 2
    assert {name: len(each) for name, each in parents_of(tracer).items()} == {
        "method": 1, "class below": 1, "class above": 1, "static above": 2, "property": 1
    }  # fmt: skip


def test_what_is_no_function_is_not_traced(tracer):
    for wrong in (3, int, property(len)):
        with pytest.raises(TypeError, match="trace takes a function"):
            tracer.trace(wrong)
    assert tracer.trace(len)("abc") == 3
    assert tracer.trace(functools.partial(len, "abcd"), name="partial")() == 4


def test_a_traced_coroutine_function_is_one_and_its_span_ends_when_it_is_done(tracer):
    @tracer.trace(name="fetch")
    async def fetch(n):
        with tracer.span("inner"):
            await asyncio.sleep(0)
        return n

    async def main():
        return await asyncio.gather(fetch(1), fetch(2))

    assert inspect.iscoroutinefunction(fetch)
    assert asyncio.run(main()) == [1, 2]
    assert parents_of(tracer) == {"fetch": [None] * 2, "inner": ["fetch"] * 2}


# ---- generators ----


def traced_counter(tracer, log):
    @tracer.trace(name="counter")
    def counter(n):
        for i in range(n):
            try:
                with tracer.span("inside"):
                    pass
                log.append((yield i))
            except KeyError as error:
                log.append(error)
            except GeneratorExit:
                log.append("closed")
                raise
        return "end"

    return counter


def test_a_traced_generator_passes_values_exceptions_and_its_result(tracer):
    log = []
    counter = traced_counter(tracer, log)
    assert inspect.isgeneratorfunction(counter)
    steps, error = counter(3), KeyError("k")
    assert next(steps) == 0
    assert steps.send("sent") == 1
    assert steps.throw(error) == 2
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert end.value.value == "end" and log == ["sent", error, None]
    assert parents_of(tracer) == {"counter": [None], "inside": ["counter"] * 3}


def test_an_error_of_a_traced_generator_passes(tracer):
    @tracer.trace(name="fails")
    def fails():
        yield 1
        raise LookupError("nothing")

    with pytest.raises(LookupError):
        list(fails())
    with pytest.raises(OSError):
        steps = fails()
        next(steps)
        steps.throw(OSError("thrown"))
    assert [span[3] for span in spans_of(tracer)["fails"]] == ["LookupError: nothing", "OSError: thrown"]


def test_what_goes_on_between_two_values_is_not_inside_the_generator(tracer):
    counter = traced_counter(tracer, [])
    with tracer.span("loop"):
        for _ in counter(2):
            with tracer.span("body"):
                pass
        with tracer.span("after"):
            pass
    assert parents_of(tracer) == {
        "loop": [None], "counter": ["loop"], "inside": ["counter"] * 2, "body": ["loop"] * 2, "after": ["loop"]
    }  # fmt: skip


def test_a_generator_that_is_left_ends_without_an_error(tracer):
    log = []
    for _ in traced_counter(tracer, log)(5):
        break
    steps = traced_counter(tracer, log)(5)
    next(steps)
    steps.close()
    steps.close()
    rings.eventually(lambda: log == ["closed"] * 2)
    assert parents_of(tracer) == {"counter": [None] * 2, "inside": ["counter"] * 2}


def test_a_traced_asynchronous_generator_behaves_likewise(tracer):
    log = []

    @tracer.trace(name="ticks")
    async def ticks(n):
        try:
            for i in range(n):
                with tracer.span("inside"):
                    await asyncio.sleep(0)
                try:
                    log.append((yield i))
                except KeyError as error:
                    log.append(error)
        finally:
            await asyncio.sleep(0)
            log.append("over")

    async def main():
        with tracer.span("main"):
            async for _ in ticks(2):
                with tracer.span("body"):
                    await asyncio.sleep(0)
            assert log == [None, None, "over"]
            log.clear()
            steps, error = ticks(5), KeyError("k")
            assert await steps.__anext__() == 0
            assert await steps.asend("sent") == 1
            assert await steps.athrow(error) == 2
            await steps.aclose()
            assert log == ["sent", error, "over"]

    assert inspect.isasyncgenfunction(ticks)
    asyncio.run(main())
    assert parents_of(tracer) == {
        "main": [None], "ticks": ["main"] * 2, "inside": ["ticks"] * 5, "body": ["main"] * 2
    }  # fmt: skip


def test_a_span_is_not_copied(tracer):
    with tracer.span("one") as span:
        for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="Span"):
                duplicate(span)


def test_a_span_of_no_kind_does_nothing():
    span = ringbuf.Span.__new__(ringbuf.Span)
    for use in (span.__enter__, lambda: span.name, lambda: repr(span)):
        with pytest.raises(AttributeError):
            use()


def test_a_span_type_is_made_of_a_begin_and_an_end(tracer):
    begin = tracer.event("begin", span_id="u64", parent_id="u64")
    end = tracer.event("end", span_id="u64", error="str")
    longer = tracer.event("longer", span_id="u64", error="str", a="u64", b="str")
    for events in ((end, end), (begin, begin), (begin, longer), (tracer.event("none"), end)):
        with pytest.raises(TypeError, match="no span"):
            ringbuf.SpanType(*events)
    with ringbuf.SpanType(begin, end)():
        pass
    assert tracer.stats().records_written == 2


# ---- contexts: a place is changed where it is, as long as no other context can find it ----


def test_a_task_has_the_parent_that_was_there_when_it_was_made(tracer):
    other = contextvars.ContextVar("other")

    async def work(name):
        other.set(name)  # its context has another map now
        with tracer.span(name):
            await asyncio.sleep(0)

    async def main():
        with tracer.span("a"):
            first = asyncio.create_task(work("first"))
        second = asyncio.create_task(work("second"))
        with tracer.span("b"):
            third = asyncio.create_task(work("third"))
            with tracer.span("c"):
                asyncio.get_running_loop().call_soon(tracer.trace(lambda: None, name="call"))
                await first
            await asyncio.gather(second, third)

    asyncio.run(main())
    assert parents_of(tracer) == {
        "a": [None], "b": [None], "c": ["b"], "first": ["a"], "second": [None], "third": ["b"], "call": ["c"],
    }  # fmt: skip


def test_a_context_that_has_gone_on_keeps_its_place(tracer):
    """Each copy finds where it was made, whatever it and the others set, copy and drop meanwhile."""
    others = [contextvars.ContextVar(f"other {n}") for n in range(60)]  # maps of several levels
    expected = contextvars.ContextVar("expected", default=0)
    choose, open_spans, contexts, asked = random.Random(5), {}, [contextvars.Context()], []

    def begin():
        span = tracer.span("s")
        span.__enter__()
        open_spans.setdefault(id(context), []).append((span, expected.set(span.id)))

    def end():
        if open_spans.get(id(context)):
            span, token = open_spans[id(context)].pop()
            span.__exit__(None, None, None)
            expected.reset(token)

    def look():
        with tracer.span("look") as span:
            asked.append((span.id, expected.get()))

    for _ in range(4000):
        context = choose.choice(contexts)
        action = choose.random()
        if action < 0.1:
            contexts.append(context.copy() if choose.random() < 0.5 else context.run(contextvars.copy_context))
        elif action < 0.2 and len(contexts) > 8:
            contexts[:] = [one for one in contexts if one is not context]
            open_spans.pop(id(context), None)
        elif action < 0.3:
            context.run(choose.choice(others).set, 1)
        else:
            context.run(choose.choice((begin, end, look)))
    parents = {
        record.fields["span_id"]: record.fields["parent_id"]
        for record in rings.records(tracer.channel)
        if record.name == "look"
    }
    assert len(asked) > 500 and len({parent for _, parent in asked}) > 50
    assert [parents[number] for number, _ in asked] == [parent for _, parent in asked]


@pytest.mark.skipif(
    bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    reason="without a GIL another thread may copy a context at any time",
)
def test_a_span_sets_no_variable_where_no_other_context_can_find_its_place(tracer):
    """What a watcher of the context sees: the value is one object, and is another one once there is a copy."""

    def place():
        (found,) = (value for variable, value in contextvars.copy_context().items() if variable.name == "ringbuf_span")
        return id(found)

    def run():
        with tracer.span("a"):
            kept = contextvars.copy_context()
            inside = [id(value) for value in kept.values()]
            del kept
            before = place()
            with tracer.span("b"):
                assert place() == before
            assert [before] == inside
            kept = contextvars.copy_context()
            with tracer.span("c"):
                assert place() != before
            assert [id(value) for value in kept.values()] == inside

    contextvars.Context().run(run)
    assert parents_of(tracer) == {"a": [None], "b": ["a"], "c": ["a"]}


def test_a_traced_function_leaves_no_frame_and_is_like_the_function(tracer):
    @tracer.trace(name="frames")
    def frames(*, extra: "int" = 1) -> "str":
        return sys._getframe(1).f_code.co_name

    here = frames()
    assert here == "test_a_traced_function_leaves_no_frame_and_is_like_the_function"
    assert typing.get_type_hints(frames) == {"extra": int, "return": str} and frames.__kwdefaults__ == {"extra": 1}
    assert copy.deepcopy(frames) is frames and weakref.ref(frames)() is frames
    assert pickle.loads(pickle.dumps(traced_at_top)) is traced_at_top

    class Base(abc.ABC):
        def __init_subclass__(cls, **named):
            seen.append(cls)

        __init_subclass__ = tracer.trace(__init_subclass__)

        @tracer.trace
        @abc.abstractmethod
        def needed(self): ...

    seen = []
    with pytest.raises(TypeError, match="abstract"):
        Base()
    assert type("Derived", (Base,), {}) is seen[0]


with ringbuf.Tracer("top") as _top:  # closed again: what is open is seen by tests that look for open channels
    traced_at_top = _top.trace(lambda: 1)
traced_at_top.__qualname__ = "traced_at_top"
