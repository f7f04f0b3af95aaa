"""summary.py: counts, times and percentiles, by name, task, thread or process."""

import math
import random

import numpy
import pytest
import timelines
from timelines import ORIGIN, PID, written

from ringbuf.trace import summary as module
from ringbuf.trace.summary import Row, Summary, compared


def spans(durations, names=("web",)):
    """Records of spans one after another."""
    now, records = 0, []
    for number, duration in enumerate(durations, 1):
        values = [number, 0, "t"] if names[number % len(names)] == "db" else [number, 0]
        records += [(now, names[number % len(names)], values), (now + duration, "span_end", [number, ""])]
        now += duration + 1
    return records


def nearest_rank(values, per_cent):
    return sorted(values)[math.ceil(len(values) * per_cent / 100) - 1]


def test_a_row_measures_the_spans_of_a_name(tmp_path, rng):
    durations = [rng.randrange(1, 10**6) for _ in range(250)]
    (row,) = written(tmp_path, *spans(durations)).summary("span")
    total, quantiles = sum(durations), [nearest_rank(durations, per_cent) for per_cent in (50, 90, 99)]
    assert row == Row("span", "web", "", 250, total, total, min(durations), *quantiles, max(durations))


@pytest.mark.parametrize("exact", [100, 50_000])
def test_percentiles_of_many_are_right_to_the_error_that_is_stated(tmp_path, rng, monkeypatch, exact):
    monkeypatch.setattr(module, "_EXACT", exact)
    durations = [int(rng.lognormvariate(8, 3)) for _ in range(2000)]
    trace = written(tmp_path, *spans(durations, names=("web", "db")))
    found = trace.summary("span", sort="name")
    assert (found.error > 0) == (exact == 100)
    for row, values in zip(found, (durations[::2], durations[1::2]), strict=True):
        for value, per_cent in ((row.p50, 50), (row.p90, 90), (row.p99, 99)):
            right = nearest_rank(values, per_cent)
            assert abs(value - right) <= found.error * right
        assert (row.min, row.max, row.total) == (min(values), max(values), sum(values))


def test_classes_keep_their_promise_for_all_durations():
    rng = random.Random(1)
    values = [*range(3000), *(rng.getrandbits(rng.randrange(1, 63)) for _ in range(5000)), 2**63 - 1]
    values += [(1 << n) + more for n in range(1, 62) for more in (-1, 0, 1)]
    durations = numpy.array(sorted(values), "i8")
    classes = module._class_of(durations)
    assert (numpy.diff(classes) >= 0).all() and classes.max() < 1 << 16
    middles = module._duration_of(classes)
    assert all(abs(a - b) <= module._ERROR * b for a, b in zip(middles.tolist(), durations.tolist(), strict=True))


def test_recursion_counts_once_in_the_total(tmp_path):
    begin, end = "function_begin", "function_end"
    trace = written(tmp_path, (0, begin, [1]), (2, begin, [2]), (3, begin, [1]), (5, end, [1]), (6, end, [2]),
                    (10, end, [1]))  # fmt: skip
    one, two = trace.summary("function", sort="name")
    assert (one.name, one.count, one.total, one.self_time) == ("function 1", 2, 10, 8)
    assert (two.name, two.count, two.total, two.self_time) == ("function 2", 1, 4, 2)


def test_what_was_lost_has_no_duration_and_what_is_open_counts(tmp_path):
    trace = written(tmp_path, (0, "web", [1, 0]), (3, "function_begin", [1]), (4, "function_begin", [2]),
                    (9, "function_end", [1]))  # fmt: skip
    rows = {row.name: row for row in trace.summary()}
    assert (rows["web"].max, rows["web"].missing) == (9, 1)
    assert (rows["function 2"].count, rows["function 2"].total, rows["function 2"].missing) == (1, None, 1)


@pytest.fixture
def mixed(tmp_path):
    contexts = "vpid:i32,vtid:i32,procname:str,thread_name:str,task_name:str"
    main, worker = (PID, PID, "shop", "", "Task-1"), (8, 9, "pool", "worker", "")
    return written(
        tmp_path, (0, "db", [1, 0, ""], main), (2, "web", [2, 1], worker), (4, "span_end", [2, "E: x"], worker),
        (10, "span_end", [1, ""], main), (11, "function_begin", [3], worker), (12, "function_end", [3], worker),
        (13, "tick", timelines.TICK, worker), contexts=contexts,
    )  # fmt: skip


@pytest.mark.parametrize(
    "by, rows",
    [
        (None, [("span", "db", 1, 10, 8), ("span", "web", 1, 2, 2), ("call", "function 3", 1, 1, 1)]),
        ("span", [("span", "db", 1, 10, 8), ("span", "web", 1, 2, 2)]),
        ("function", [("call", "function 3", 1, 1, 1)]),
        ("task", [("span", "Task-1", 1, 8, 8), ("span", "", 1, 2, 2), ("call", "", 1, 1, 1)]),
        ("thread", [("span", f"shop {PID}", 1, 8, 8), ("span", "pool 8, worker 9", 1, 2, 2),
                    ("call", "pool 8, worker 9", 1, 1, 1)]),
        ("process", [("span", f"shop {PID}", 1, 8, 8), ("span", "pool 8", 1, 2, 2), ("call", "pool 8", 1, 1, 1)]),
        ("event", [("event", "span_end", 2, None, None), ("event", "db", 1, None, None),
                   ("event", "function_begin", 1, None, None), ("event", "function_end", 1, None, None),
                   ("event", "tick", 1, None, None), ("event", "web", 1, None, None)]),
    ],
)  # fmt: skip
def test_by_what_rows_are(mixed, by, rows):
    assert [(one.kind, one.name, one.count, one.total, one.self_time) for one in mixed.summary(by)] == rows


@pytest.mark.parametrize(
    "by, wanted, names",
    [
        ("span", {"names": "d*"}, ["db"]),
        ("span", {"min_duration": 5}, ["db"]),
        (None, {"pid": 8}, ["web", "function 3"]),
        ("event", {"thread": "worker"}, ["function_begin", "function_end", "span_end", "tick", "web"]),
        ("event", {"begin": ORIGIN + 11, "end": ORIGIN + 12}, ["function_begin", "function_end"]),
        ("event", {"task": "Task-1"}, ["db", "span_end"]),
        ("event", {"names": ["tick", "web"]}, ["tick", "web"]),
    ],
)
def test_of_what_rows_are(mixed, by, wanted, names):
    assert [one.name for one in mixed.summary(by, **wanted)] == names


def test_events_have_no_duration(mixed):
    with pytest.raises(ValueError, match="events have no min_duration"):
        mixed.summary("event", min_duration=1)


def test_a_trace_without_spans_is_summed_up_by_its_events(tmp_path):
    found = written(tmp_path, (1, "log", [20, "l", "m", "f", 1, "g", ""])).summary()
    assert (found.by, found.rows) == ("event", (Row("event", "log", "", 1),))


@pytest.mark.parametrize("wrong", [{"by": "colour"}, {"sort": "colour"}])
def test_what_is_unknown_is_refused(mixed, wrong):
    with pytest.raises(ValueError, match="one of .*not 'colour'"):
        mixed.summary(**wrong)


@pytest.mark.parametrize("sort, first", [("count", "db"), ("errors", "web"), ("name", "db"), ("max", "db")])
def test_sort_and_top(mixed, sort, first):
    found = mixed.summary("span", sort=sort, top=1)
    assert ([row.name for row in found], found.left_out) == ([first], 1)


def test_it_is_a_table_in_text_and_in_html(mixed):
    found = mixed.summary("span")
    assert str(found).splitlines() == [
        "count  total  self    min    p50    p90    p99    max  errors  span",
        "    1  10 ns  8 ns  10 ns  10 ns  10 ns  10 ns  10 ns       0  db",
        "    1   2 ns  2 ns   2 ns   2 ns   2 ns   2 ns   2 ns       1  web",
    ]
    evil = Summary("span", (Row("span", "<script>", "", 1, 1, 1, 1, 1, 1, 1, 1),))
    assert "<script>" not in evil._repr_html_() and "&lt;script&gt;" in evil._repr_html_()


def test_functions_of_one_name_say_where_they_are(tmp_path):
    codes = [(0, "function_code", [n, "shop.pay", f"{n}.py", n]) for n in (1, 2)]
    calls = [(n, f"function_{what}", [code]) for n, what, code in ((1, "begin", 1), (2, "end", 1), (3, "begin", 2),
                                                                   (5, "end", 2))]  # fmt: skip
    lines = str(written(tmp_path, *codes, *calls).summary()).splitlines()
    assert [line.split("  ")[-1] for line in lines[1:]] == ["shop.pay (2.py:2)", "shop.pay (1.py:1)"]


def test_two_are_compared_name_by_name(tmp_path):
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    before = written(folders[0], *spans([100, 7], names=("web", "db"))).summary("span")
    after = written(folders[1], *spans([300])).summary("span")
    found = compared(before, after)
    assert [((one or other).name, one and one.total, other and other.total) for one, other in found.rows] == [
        ("web", 7, 300), ("db", 100, None)
    ]  # fmt: skip
    assert found.to_records()[1]["after"] is None
    assert str(found).splitlines()[1].split()[-1] == "web" and "gone" in str(found).splitlines()[2]
    with pytest.raises(ValueError, match="by span, the other by event"):
        compared(before, written(tmp_path, *spans([1])).summary("event"))
