"""Functions, and Calls in calls.pxi: every call has a begin and an end, and a code is told before it is used."""

import asyncio
import gc
import inspect
import json
import os
import sys
import threading
import types

import pytest
import rings

from ringbuf.record.functions import Functions

HERE = [__name__]


@pytest.fixture
def tracer():
    with rings.tracer(subbuf_size=1 << 20, contexts=("vpid", "vtid")) as tracer:
        yield tracer


def calls_of(records):
    """{(process, thread): [(depth, name), ...]} of all begins. Ends must fit, and codes be told before."""
    names, depths, found = {}, {}, {}
    for record in records:
        if record.name in ("strand", "strand_switch", "process_image"):
            continue  # tests/record/test_strands.py
        process, thread = record.contexts["vpid"], record.contexts["vtid"]
        code = process, record.fields["code"]
        if record.name == "function_code":
            assert (record.fields["line"] > 0) == bool(record.fields["file"])  # neither, of C
            assert names.setdefault(code, record.fields["name"]) == record.fields["name"]
            continue
        open_codes = depths.setdefault((process, thread), [])
        if record.name == "function_begin":
            open_codes.append(code)
            name = names[code].removeprefix(f"{__name__}.").removeprefix("outer.<locals>.")
            found.setdefault((process, thread), []).append((len(open_codes), name))
        elif open_codes:
            assert open_codes.pop() == code
    return found


def recorded(tracer, function, *args, **options):
    """The calls that function(*args) makes in this thread."""
    with Functions(tracer, **{"include": HERE, **options}):
        function(*args)
    found = calls_of(rings.records(tracer.channel))
    return found.get((os.getpid(), threading.get_native_id()), [])


def leaf():
    return 1


def outer(n):
    for _ in range(n):
        leaf()
    return sorted([2, 1], key=lambda item: item)


def test_calls_nest_as_on_the_stack(tracer):
    assert recorded(tracer, outer, 2) == [(1, "outer"), (2, "leaf"), (2, "leaf"), (2, "<lambda>"), (2, "<lambda>")]


def test_functions_have_their_qualified_names(tracer):
    class Shop:
        def pay(self):
            leaf()

    with Functions(tracer, include=HERE):
        Shop().pay()
    told = [r.fields for r in rings.records(tracer.channel) if r.name == "function_code"]
    where = "test_functions_have_their_qualified_names.<locals>.Shop." if sys.version_info >= (3, 11) else ""
    assert [(one["name"], one["line"]) for one in told] == [
        (f"{__name__}.{where}pay", Shop.pay.__code__.co_firstlineno),
        (f"{__name__}.leaf", leaf.__code__.co_firstlineno),
    ]
    assert {one["file"] for one in told} == {__file__}


def fails():
    raise KeyError


def catches():
    try:
        fails()
    except KeyError:
        leaf()


def test_an_exception_ends_the_calls_that_it_leaves(tracer):
    assert recorded(tracer, catches) == [(1, "catches"), (2, "fails"), (2, "leaf")]


def counts():
    try:
        yield 1
        leaf()
        yield 2
    except KeyError:
        leaf()
        yield 3


def steps():
    one = counts()
    next(one)
    next(one)
    one.throw(KeyError)
    one.close()
    list(counts())


def test_each_step_of_a_generator_is_a_call(tracer):
    found = recorded(tracer, steps)
    assert {depth for depth, name in found if name == "counts"} == {2}
    assert {depth for depth, name in found if name == "leaf"} == {3}
    assert [name for _, name in found].count("counts") >= 6
    assert [name for _, name in found].count("leaf") == 3


async def waits(n):
    await asyncio.sleep(0)
    leaf()


async def waits_for_both():
    await asyncio.gather(waits(1), waits(2))


def test_coroutines_run_in_parts_that_nest(tracer):
    found = recorded(tracer, lambda: asyncio.run(waits_for_both()))
    names = [name for _, name in found]
    assert names.count("waits") == 4 and names.count("leaf") == 2 and names.count("waits_for_both") >= 2


def test_calls_of_threads_are_theirs(tracer):
    def work():
        with Functions(tracer, include=HERE):
            threads = [threading.Thread(target=outer, args=(3,)) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    work()
    found = calls_of(rings.records(tracer.channel))
    assert [[depth for depth, _ in calls] for calls in found.values() if calls[0][1] == "outer"] == [[1] + [2] * 5] * 3


def test_a_forked_child_tells_its_codes_again(tracer):
    with Functions(tracer, include=HERE):
        leaf()
        rings.in_fork(outer, 1)
        leaf()
    records = rings.records(tracer.channel)
    found = calls_of(records)  # looks up names by process
    assert sorted(len(calls) for calls in found.values()) == [2, 4]
    told = [record for record in records if record.name == "function_code"]
    numbers = [{r.fields["code"] for r in told if r.contexts["vpid"] == pid} for pid in found]
    assert not numbers[0] & numbers[1]  # another image: also where names are looked up by the number alone
    assert len({record.fields["image"] for record in told}) == 2


def module(name):
    made = types.ModuleType(name)
    exec("def f(): pass", vars(made))
    return made.f


BY_DEFAULT = {"shop", "shop.pay", "shop.view", "shopping", "?"}
MADE_UP = ("sitecustomize", "usercustomize", "namedtuple_Point", "_missing_stdlib_info")
MODULES = (*BY_DEFAULT, *MADE_UP, "json", "json.decoder", "ringbuf.record.tracer")


@pytest.mark.parametrize(
    "include, exclude, wanted",
    [
        ([], [], BY_DEFAULT),
        (["*"], [], {*MODULES} - {"ringbuf.record.tracer"}),
        (["shop"], [], {"shop", "shop.pay", "shop.view"}),
        (["shop.*"], [], {"shop.pay", "shop.view"}),
        (["shop*"], ["shop.view"], {"shop", "shop.pay", "shopping"}),
        (["json", "shop.pay"], [], {"json", "json.decoder", "shop.pay"}),
        ([], ["shop"], {"shopping", "?"}),
        (["*"], ["*"], set()),
    ],
)
def test_modules_are_chosen_by_pattern(tracer, include, exclude, wanted):
    functions = {name: module(name) for name in MODULES}
    del functions["?"].__globals__["__name__"]
    with Functions(tracer, include, [*exclude, __name__]):
        for _ in range(2):
            for function in functions.values():
                function()
    told = [r.fields["name"] for r in rings.records(tracer.channel) if r.name == "function_code"]
    assert {name.removesuffix(".f") for name in told if name.endswith(".f")} == wanted


def test_what_was_left_out_once_is_found_by_the_next(tracer):
    with Functions(tracer, exclude=HERE):
        leaf()
    assert recorded(tracer, leaf) == [(1, "leaf")]


def test_a_code_that_was_lost_is_told_again():
    with rings.tracer(subbuf_size=4096, n_subbufs=2, contexts=("vpid", "vtid")) as tracer:
        functions = Functions(tracer, include=HERE)
        fill = tracer.event("fill", data="bytes")
        while fill(bytes(100)):
            pass
        while fill(b""):
            pass
        with functions:
            leaf()
            assert tracer.stats().records_lost > 1
            tracer.channel.clear()
            leaf()
        records = [record for record in rings.records(tracer.channel) if record.name != "fill"]
    assert [record.name for record in records][:3] == ["function_code", "function_begin", "function_end"]


def test_a_flight_recorder_is_told_its_codes_now_and_then():
    with rings.tracer(mode="overwrite", subbuf_size=1 << 18, n_subbufs=2, contexts=("vpid", "vtid")) as tracer:
        with Functions(tracer, include=HERE):
            for _ in range(100_000):
                leaf()
        assert tracer.stats().records_overrun > 100_000
        found = rings.records(tracer.channel)
    assert "function_code" in {record.name for record in found}


def test_code_that_goes_takes_its_word_along(tracer):
    def make():
        for _ in range(1000):
            exec("def f(): pass\nf()", {"__name__": __name__})

    functions = Functions(tracer, include=HERE)
    with functions:
        make()
    gc.collect()
    told = [r.fields["code"] for r in rings.records(tracer.channel) if r.name == "function_code"]
    assert len(told) == len({*told}) >= 2000  # each a code of its own, be it at the same address


def test_a_closed_channel_disturbs_nobody():
    tracer = rings.tracer()
    with Functions(tracer, include=HERE):
        outer(1)
        tracer.close()
        outer(1)


def test_contexts_from_python_do_not_record_themselves():
    with rings.tracer(contexts=("vpid", "vtid", ("n", "u64", leaf))) as tracer:
        found = recorded(tracer, outer, 1)
    assert found == [(1, "outer"), (2, "leaf"), (2, "<lambda>"), (2, "<lambda>")]


def test_it_starts_once_and_stops_for_good(tracer):
    functions = Functions(tracer, include=HERE)
    functions.stop()
    with functions:
        with pytest.raises(RuntimeError, match="already"):
            functions.start()
    functions.stop()
    assert sys.getprofile() is None
    written = tracer.stats().records_written
    outer(2)
    assert tracer.stats().records_written == written
    with functions:
        outer(2)
    assert tracer.stats().records_written > written


@pytest.mark.skipif(not hasattr(sys, "monitoring"), reason="from Python 3.12 on")
def test_other_tools_keep_their_ids(tracer):
    for tool in (4, 3, 2):
        sys.monitoring.use_tool_id(tool, "other")
    try:
        with pytest.raises(RuntimeError, match="no tool id left"):
            Functions(tracer).start()
        sys.monitoring.free_tool_id(3)
        with Functions(tracer):
            assert sys.monitoring.get_tool(3) == "ringbuf"
        assert sys.monitoring.get_tool(3) is None
    finally:
        for tool in (4, 2):
            sys.monitoring.free_tool_id(tool)
        if sys.monitoring.get_tool(3):
            sys.monitoring.free_tool_id(3)


def test_results_and_exceptions_are_what_they_were(tracer):
    with Functions(tracer):
        assert outer(3) == [1, 2]
        assert list(counts()) == [1, 2]
        with pytest.raises(KeyError):
            fails()
        assert inspect.currentframe().f_code.co_name == "test_results_and_exceptions_are_what_they_were"


def test_callbacks_that_somebody_else_calls_take_anything(tracer):
    """Who registers another callback is handed ours."""
    with Functions(tracer, include=HERE, c_functions=True) as functions:
        for callback in functions._calls.callbacks().values():
            for args in ((), (1,), (None, 2), ("x", 1, 2, 3)):
                assert callback(*args) is None


# ---- functions of C ----


def calls_c(*, fail=False):
    kept = [len("ab"), max(leaf(), 2)]
    kept.append("x".upper())
    sorted(kept[:2], key=lambda item: item)
    list("ab")
    if fail:
        int("no number")


def test_functions_of_c_are_calls_too(tracer):
    found = [
        (depth, name.removeprefix("calls_c.<locals>.")) for depth, name in recorded(tracer, calls_c, c_functions=True)
    ]
    types = [(2, "list")] if hasattr(sys, "monitoring") else []  # a profile function is not told of them
    assert found == [
        (1, "calls_c"), (2, "builtins.len"), (2, "leaf"), (2, "builtins.max"), (2, "str.upper"), (2, "list.append"),
        (2, "builtins.sorted"), (3, "<lambda>"), (3, "<lambda>"), *types,
    ]  # fmt: skip


def test_a_function_of_c_that_raises_ends(tracer):
    def run():
        for _ in range(3):
            with pytest.raises(ValueError):
                calls_c(fail=True)
            with pytest.raises(TypeError):
                len(3)

    functions = Functions(tracer, include=HERE, c_functions=True)
    with functions:
        run()
    depths = {depth for depth, name in calls_of(rings.records(tracer.channel)).popitem()[1] if name == "builtins.len"}
    assert depths == {2, 3}


def dumps():
    return json.dumps({"a": [1, 2]})


def test_functions_of_c_that_others_call_are_not_recorded(tracer):
    assert recorded(tracer, dumps, c_functions=True) == [(1, "dumps")]


def test_modules_of_c_are_left_out_by_name(tracer):
    names = [name for _, name in recorded(tracer, calls_c, c_functions=True, exclude=["builtins"])]
    assert "builtins.len" not in names and {"leaf", "str.upper", "list.append"} <= {*names}


def test_functions_of_c_keep_balance_in_generators_tasks_and_forks(tracer):
    def run():
        list(counts())
        asyncio.run(waits_for_both())
        rings.in_fork(calls_c)

    with Functions(tracer, include=HERE, c_functions=True):
        run()
    found = calls_of(rings.records(tracer.channel))  # looks at each end
    assert {"builtins.len", "str.upper"} <= {name for calls in found.values() for _, name in calls}
    assert len({process for process, _ in found}) == 2
