"""timeline.py: which slices and instants a trace shows, and on which tracks."""

import timelines
from timelines import PID, TICK, TID, told, written

CALL = [3]
CODE = (0, "function_code", [3, "shop.pay", "shop.py", 12])


def phases(found):
    return [one[:4] for one in found]


# ---- instants and tracks ----


def test_records_are_instants_of_their_thread(tmp_path):
    (found,) = told(written(tmp_path, (5, "tick", TICK)))
    args = {"n": 1, "x": 0.5, "data": b"\x00\xff", "text": "t", "many": [1, 2], "on": True, "low": -1}
    assert found == ("instant", 5, f"thread {TID}", "tick", args)


def test_threads_are_below_their_process(tmp_path):
    trace = written(tmp_path, (1, "tick", TICK), (2, "tick", TICK, (7, 8)), env={"vpid": PID, "procname": "shop"})
    process, thread, other, other_thread = timelines.notes(trace).tracks
    assert process[1:] == ("process", "shop", PID, None, None)
    assert thread[1:] == ("thread", "", PID, TID, process[0])
    assert other[1:] == ("process", "", 7, None, None)
    assert other_thread[1:] == ("thread", "", 7, 8, other[0])
    assert len({process[0], thread[0], other[0], other_thread[0]}) == 4


def test_names_come_from_contexts(tmp_path):
    contexts = "vpid:i32,vtid:i32,procname:str,thread_name:str,shop:str"
    early, late = (PID, TID, "python", "", "a"), (PID, TID, "python", "worker", "b")
    trace = written(tmp_path, (1, "web", [1, 0], early), (2, "web", [2, 1], late), contexts=contexts)
    notes = timelines.notes(trace)
    names = [track[1:3] for track in notes.tracks]
    assert names == [("process", "python"), ("thread", ""), ("spans", "spans"), ("thread", "worker")]
    assert [one[4]["shop"] for one in notes.told] == ["a", "b"]
    assert "vpid" not in notes.told[0][4] and "thread_name" not in notes.told[0][4]


def test_without_a_thread_the_cpu_is_the_track(tmp_path):
    trace = written(tmp_path, (1, "tick", TICK), contexts="")
    assert [track[1:] for track in timelines.notes(trace).tracks] == [("cpu", "CPU 0", None, 0, None)]


def test_without_a_cpu_there_is_one_track(tmp_path):
    trace = written(tmp_path, (1, "tick", TICK), contexts="", per_cpu=False)
    assert [track[1:] for track in timelines.notes(trace).tracks] == [("cpu", "all CPUs", None, None, None)]


def test_a_log_record_is_called_by_its_message(tmp_path):
    (found,) = told(written(tmp_path, (1, "log", [40, "shop", "no stock", "f.py", 3, "g", ""])))
    assert found[3] == "no stock"
    assert found[4] == {"level": "ERROR", "logger": "shop", "file": "f.py", "line": 3, "function": "g"}


def test_an_audit_event_is_called_by_its_name(tmp_path):
    (found,) = told(written(tmp_path, (1, "audit", ["open", "('x', 'r')"])))
    assert found[3:] == ("open", {"args": "('x', 'r')"})


def test_losses_are_on_the_time_line(tmp_path):
    trace = written(tmp_path, (5, "tick", TICK), discarded=(2, 9))
    assert ("instant", 0, "cpu 0", "records lost", {"count": 7}) in told(trace)


# ---- functions ----


def test_calls_are_slices_of_their_thread(tmp_path):
    trace = written(tmp_path, CODE, (1, "function_begin", CALL), (2, "tick", TICK), (9, "function_end", CALL))
    assert phases(told(trace)) == [
        ("begin", 1, f"thread {TID}", "shop.pay"),
        ("instant", 2, f"thread {TID}", "tick"),
        ("end", 9, f"thread {TID}", "shop.pay"),
    ]


def test_the_name_of_a_function_may_come_late_and_is_of_its_process(tmp_path):
    late = (9, "function_code", [3, "late", "f.py", 1], (PID, 555))
    other = (9, "function_code", [4, "other", "f.py", 1], (PID + 1, 555))
    trace = written(tmp_path, (1, "function_begin", [3]), (2, "function_begin", [4]), late, other)
    assert [one[3] for one in told(trace)] == ["late", "function 4"]


def test_a_call_whose_begin_is_overwritten_begins_before_the_trace(tmp_path):
    ends = [(5, "function_begin", [2]), (6, "function_end", [2]), (7, "function_end", [3]), (9, "function_end", [4])]
    found = told(written(tmp_path, CODE, *ends))
    assert [(phase, name) for phase, _, _, name, _ in found][2:] == [
        ("begin", "shop.pay"), ("end", "shop.pay"), ("begin", "function 4"), ("end", "function 4")
    ]  # fmt: skip
    inner, outer = found[2][1], found[4][1]
    assert outer < inner < 1  # so that they nest
    assert found[2][4] == {"begin": "before the trace"}


def test_a_call_that_does_not_end_stays_open(tmp_path):
    assert phases(told(written(tmp_path, (1, "function_begin", CALL)))) == [("begin", 1, f"thread {TID}", "function 3")]


def test_lost_ends_are_made_up_and_ends_of_lost_begins_left_out(tmp_path):
    records = [
        (1, "function_begin", [1]),
        (2, "function_begin", [2]),
        (3, "function_end", [9]),
        (4, "function_end", [1]),
    ]
    assert [(one[0], one[1], one[3]) for one in told(written(tmp_path, *records))] == [
        ("begin", 1, "function 1"),
        ("begin", 2, "function 2"),
        ("end", 4, "function 2"),
        ("end", 4, "function 1"),
    ]


# ---- process images, greenlets, tasks ----


def code(number, name, image):
    return (0, "function_code", [number, name, "shop.py", 1, image])


def test_an_exec_ends_what_it_replaces_and_begins_another_process(tmp_path):
    codes = code(1, "first", 5), code(2, "second", 6)
    calls = (1, "function_begin", [1]), (2, "function_begin", [2]), (3, "function_end", [2]), (4, "tick", TICK)
    notes = timelines.notes(written(tmp_path, *codes, *calls, schemas=timelines.OF_IMAGES))
    assert [one[1] for one in notes.tracks] == ["process", "thread", "process", "thread"]
    first, second = notes.tracks[1][0], notes.tracks[3][0]
    assert list(zip(notes.lines, phases(notes.told), strict=True)) == [
        (first, ("begin", 1, f"thread {TID}", "first")),
        (second, ("begin", 2, f"thread {TID}", "second")),
        (second, ("end", 3, f"thread {TID}", "second")),
        (second, ("instant", 4, f"thread {TID}", "tick")),
        (first, ("end", 2, f"thread {TID}", "first")),
    ]
    assert notes.told[-1][4] == {"end": "exec"}


def test_images_that_live_at_one_time_with_one_id_are_two(tmp_path):
    codes = code(1, "here", 5), code(2, "there", 6)
    steps = [(1, "begin", 1), (2, "begin", 2), (3, "end", 1), (4, "begin", 1), (5, "end", 2), (6, "end", 1)]
    calls = [(time, f"function_{what}", [number]) for time, what, number in steps]
    notes = timelines.notes(written(tmp_path, *codes, *calls, schemas=timelines.OF_IMAGES))
    by_line = {line: [one[:2] for at, one in zip(notes.lines, notes.told, strict=True) if at == line]
               for line in notes.lines}  # fmt: skip
    assert [*by_line.values()] == [[("begin", 1), ("end", 3), ("begin", 4), ("end", 6)], [("begin", 2), ("end", 5)]]


def test_calls_that_a_fork_interrupted_begin_with_the_child(tmp_path):
    child = 7, 7
    trace = written(
        tmp_path, code(1, "early", 5), (0, "function_code", [2, "early", "shop.py", 1, 6], child),
        (1, "function_begin", [1]), (5, "process_image", [6, 5, 1], child), (6, "function_begin", [2], child),
        (7, "function_begin", [2], child), (8, "function_end", [2], child), (9, "function_end", [2], child),
        (9, "function_end", [2], child), schemas=timelines.OF_IMAGES,
    )  # fmt: skip
    found = told(trace)
    assert [(*one[:2], one[4]) for one in found] == [
        ("begin", 1, {}), ("begin", 6, {"begin": "inherited"}), ("begin", 7, {}), ("end", 8, {}), ("end", 9, {}),
        ("begin", 4, {"begin": "inherited"}), ("end", 9, {}),
    ]  # fmt: skip


def test_greenlets_and_tasks_are_tracks_of_their_own(tmp_path):
    trace = written(
        tmp_path, code(1, "main", 5), code(2, "work", 5), (0, "strand", [70, "greenlet", "Greenlet"]),
        (1, "function_begin", [1]), (2, "function_end", [1]), (2, "strand_switch", [70, 0]),
        (3, "function_begin", [2]), (4, "log", [20, "a", "hello", "", 0, "", ""]), (5, "function_end", [2]),
        (5, "strand_switch", [0, 1]), (5, "function_begin", [1]), (6, "function_end", [1]),
        schemas=timelines.OF_IMAGES,
    )  # fmt: skip
    notes = timelines.notes(trace)
    assert [one[1:3] for one in notes.tracks] == [("process", ""), ("thread", ""), ("strand", "greenlet Greenlet")]
    assert notes.tracks[2][5] == notes.tracks[1][0]
    assert [(kind.split()[0], name) for _, _, kind, name, _ in notes.told] == [
        ("thread", "main"), ("thread", "main"), ("strand", "work"), ("strand", "hello"), ("strand", "work"),
        ("thread", "main"), ("thread", "main"),
    ]  # fmt: skip
    assert [one[4] for one in notes.told if one[0] == "begin"] == [{}, {}, {"begin": "resumed"}]


def test_what_says_where_calls_belong_comes_with_the_calls_that_are_asked_for(tmp_path):
    trace = written(
        tmp_path, code(1, "main", 5), (0, "strand", [70, "task", "Task-1"]), (1, "strand_switch", [70, 0]),
        (2, "function_begin", [1]), (3, "function_end", [1]), (3, "strand_switch", [0, 0]), (4, "tick", TICK),
        schemas=timelines.OF_IMAGES,
    )  # fmt: skip
    found = told(trace, events=["function_begin"])
    assert phases(found) == [("begin", 2, f"strand {TID}", "main"), ("end", 3, f"strand {TID}", "main")]


# ---- spans ----


def test_spans_within_spans_share_a_track(tmp_path):
    records = [
        (1, "web", [1, 0]), (2, "db", [2, 1, "t"]), (3, "span_end", [2, "boom"]), (4, "span_end", [1, ""]),
        (5, "web", [3, 0]), (6, "span_end", [3, ""]),
    ]  # fmt: skip
    notes = timelines.notes(written(tmp_path, *records))
    line = f"spans {TID}"
    assert notes.told == [
        ("begin", 1, line, "web", {"span_id": 1, "parent_id": 0}),
        ("begin", 2, line, "db", {"span_id": 2, "parent_id": 1, "table": "t"}),
        ("end", 3, line, "db", {"error": "boom"}),
        ("end", 4, line, "web", {}),
        ("begin", 5, line, "web", {"span_id": 3, "parent_id": 0}),
        ("end", 6, line, "web", {}),
    ]
    assert [track[1] for track in notes.tracks] == ["process", "thread", "spans"]


def test_spans_that_overlap_have_tracks_of_their_own(tmp_path):
    records = [
        (1, "web", [1, 0]), (2, "db", [2, 1, ""]), (3, "db", [3, 1, ""]), (4, "span_end", [2, ""]),
        (5, "span_end", [3, ""]), (6, "span_end", [1, ""]),
    ]  # fmt: skip
    notes = timelines.notes(written(tmp_path, *records))
    web, first, second, *_ = notes.lines
    assert web == first != second
    assert notes.lines[3:] == [first, second, web]


def test_a_span_that_outlives_its_parent_goes_on_elsewhere(tmp_path):
    records = [(1, "web", [1, 0]), (2, "db", [2, 1, "t"]), (5, "span_end", [1, ""]), (9, "span_end", [2, ""])]
    notes = timelines.notes(written(tmp_path, *records))
    assert [(one[0], one[1], one[3]) for one in notes.told] == [
        ("begin", 1, "web"), ("begin", 2, "db"), ("end", 5, "db"), ("end", 5, "web"),
        ("begin", 5, "db"), ("end", 9, "db"),
    ]  # fmt: skip
    assert notes.told[4][4] == {"span_id": 2, "parent_id": 1, "table": "t", "continued": True}


def test_a_span_of_another_thread_is_on_that_threads_track(tmp_path):
    records = [(1, "web", [1, 0]), (2, "db", [2, 1, ""], 555), (3, "span_end", [2, ""]), (4, "span_end", [1, ""], 555)]
    assert [one[2] for one in told(written(tmp_path, *records))] == [
        f"spans {TID}", "spans 555", "spans 555", f"spans {TID}"
    ]  # fmt: skip


def test_a_span_may_end_in_another_process(tmp_path):
    records = [
        (1, "web", [1, 0]),
        (2, "db", [2, 1, ""], (7, 7)),
        (3, "span_end", [1, ""], (7, 7)),
        (4, "span_end", [2, ""]),
    ]
    assert [one[2] for one in told(written(tmp_path, *records))] == [
        f"spans {TID}",
        "spans 7",
        f"spans {TID}",
        "spans 7",
    ]


def test_an_end_whose_begin_is_overwritten_is_an_instant(tmp_path):
    assert told(written(tmp_path, (1, "span_end", [7, "boom"]))) == [
        ("instant", 1, f"thread {TID}", "span_end", {"span_id": 7, "error": "boom"})
    ]


def test_random_spans_always_nest(tmp_path, rng):
    records, running = [], []
    for now in range(1, 400):
        if running and rng.random() < 0.5:
            records.append((now, "span_end", [running.pop(rng.randrange(len(running))), ""]))
        else:
            parent = rng.choice([0, *running])
            records.append((now, "web", [now, parent], rng.choice([1, 2])))
            running.append(now)

    notes = timelines.notes(written(tmp_path, *records))
    depths = dict.fromkeys(notes.lines, 0)
    for line, (phase, *_) in zip(notes.lines, notes.told, strict=True):
        depths[line] += 1 if phase == "begin" else -1
        assert depths[line] >= 0
    assert sum(depths.values()) == len(running)
    ends = [time for phase, time, *_, args in notes.told if phase == "end" and "continued" not in args]
    assert {now for now, name, *_ in records if name == "span_end"} == set(ends)


# ---- what is asked for ----


def test_ends_come_with_the_begins_that_are_asked_for(tmp_path):
    trace = written(
        tmp_path, CODE, (1, "web", [1, 0]), (2, "db", [2, 1, ""]), (3, "function_begin", CALL), (4, "tick", TICK),
        (5, "function_end", CALL), (6, "span_end", [2, ""]), (7, "span_end", [1, ""]),
    )  # fmt: skip
    assert [(one[0], one[3]) for one in told(trace, events="db")] == [("begin", "db"), ("end", "db")]
    assert [one[3] for one in told(trace, events=["function_begin", "tick"])] == ["shop.pay", "tick", "shop.pay"]


def test_a_time_can_be_asked_for(tmp_path):
    trace = written(tmp_path, *[(ticks, "tick", TICK) for ticks in (1, 5, 9)])
    begin, end = timelines.ORIGIN + 2, timelines.ORIGIN + 9
    assert [one[1] for one in told(trace, begin=begin, end=end)] == [5, 9]


# ---- graphs ----

METRICS = {
    "metric:queue": "metric_kind:str,metric_unit:str,metric_rest:bool,metric_pid:u32,metric_value:f64,who:str",
    "metric:took": "metric_kind:str,metric_unit:str,metric_rest:bool,"
    "metric_sum:f64,metric_bounds:f64[],metric_counts:u64[]",
    "metric:odd": "metric_kind:str,n:u8",
}


def test_what_was_counted_is_a_graph(tmp_path):
    records = [
        (1, "metric:queue", ["gauge", "items", False, 7, 2.5, "a"]),
        (2, "metric:took", ["histogram", "s", False, 3.0, [1.0], [1, 1]]),
        (3, "metric:queue", ["gauge", "items", False, 7, 4.0, "a"]),
        (4, "metric:took", ["histogram", "s", False, 8.0, [1.0], [1, 2]]),
        (5, "metric:took", ["histogram", "s", False, 8.0, [1.0], [1, 2]]),
        (6, "metric:odd", ["gauge", 1]),
    ]
    notes = timelines.notes(written(tmp_path, *records, contexts="", schemas=METRICS))
    queue, count, mean = "queue{who=a, pid=7}", "took count", "took mean"
    assert [(one[1], one[3], *one[4].values()) for one in notes.told if one[0] == "value"] == [
        (1, queue, 2.5, "items"), (2, count, 2, ""), (2, mean, 1.5, "s"), (3, queue, 4.0, "items"), (4, count, 3, ""),
        (4, mean, 5.0, "s"), (5, count, 3, ""),
    ]  # fmt: skip
    assert [one[0] for one in notes.told if one[3] == "metric:odd"] == ["instant"]
    process, graph = notes.tracks[:2]
    assert process[1:4] == ("process", "", 7)
    assert graph[1:3] == ("counter", queue) and graph[5] == process[0]
