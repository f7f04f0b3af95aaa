"""The exports, in Perfetto itself: its trace processor is asked what it has understood."""

import zlib

import browser
import needs
import pytest
import timelines
import trace_processor
from timelines import ORIGIN, PID, TICK, TID, written

import ringbuf

pytestmark = pytest.mark.slow
OTHER = TID + 1
RECORDS = [
    (0, "function_code", [1, "shop.pay", "/srv/shop.py", 17]),
    (10, "function_begin", [1]),
    (20, "db", [7, 0, "orders"]),
    (25, "tick", TICK),
    (30, "db", [8, 7, "rows"], OTHER),  # a child in another thread
    (40, "span_end", [8, "KeyError: 'x'"], OTHER),
    (50, "span_end", [7, ""]),
    (60, "function_end", [1]),
    (70, "db", [9, 0, "left open"]),
    (100, "tick", TICK, (200, 200)),
]


@pytest.fixture(scope="module")
def chromium():
    with browser.chromium() as found:
        yield found


@pytest.fixture(scope="module")
def ask(tmp_path_factory, chromium):
    """SQL over an export of RECORDS in which the process has ended."""
    folder = tmp_path_factory.mktemp("export")
    ended = {"ended_1": f"{PID} {TID} {ORIGIN + 70} {ORIGIN + 90} 0 main"}
    with written(folder, *RECORDS, env=ended) as trace:
        trace.export(folder / "x.pftrace")
    with trace_processor.loaded(chromium, folder / "x.pftrace") as query:
        yield query


def test_nothing_is_wrong_with_it(ask):
    assert ask("select name, value from stats where severity != 'info' and value > 0") == []


def test_slices_have_times_names_and_categories(ask):
    found = ask("select name, category, ts, dur from slice where dur != 0 order by ts")
    assert [tuple(row.values()) for row in found] == [
        ("shop.pay", "function", ORIGIN + 10, 50),
        ("db", "span", ORIGIN + 20, 30),
        ("db", "span", ORIGIN + 30, 10),
        ("db", "span", ORIGIN + 70, 20),
    ]


def test_tracks_are_threads_of_processes(ask):
    found = ask(
        "select utid, tid, pid from thread join process using (upid) where pid = 100 and tid != pid order by tid"
    )
    assert [(row["tid"], row["pid"]) for row in found] == [(TID, PID), (OTHER, PID)]
    found = ask("""select s.name, t.tid from slice s join thread_track k on s.track_id = k.id join thread t using (utid)
                   where category = 'function'""")
    assert [tuple(row.values()) for row in found] == [("shop.pay", TID)]


def test_arguments_are_there(ask):
    found = ask("select key, int_value, string_value, real_value from args order by key")
    args = {row["key"].removeprefix("debug."): row for row in found}
    assert args["table"]["string_value"] in ("orders", "rows", "left open")
    assert args["error"]["string_value"] == "KeyError: 'x'"
    assert (args["n"]["int_value"], args["x"]["real_value"], args["data"]["string_value"]) == (1, 0.5, "00ff")
    assert args["many[1]"]["int_value"] == 2
    assert args["source.file_name"]["string_value"] == "/srv/shop.py"


def test_a_child_in_another_thread_has_an_arrow(ask):
    found = ask("""select a.ts as a, b.ts as b from flow
                   join slice a on flow.slice_out = a.id join slice b on flow.slice_in = b.id""")
    assert [tuple(row.values()) for row in found] == [(ORIGIN + 20, ORIGIN + 30)]


def test_what_a_dead_process_left_open_ends_with_it(ask):
    found = ask("select name, ts from slice where category = 'ringbuf'")
    assert [tuple(row.values()) for row in found] == [("process died", ORIGIN + 90)]
    assert ask("select count(*) as n from slice where dur < 0") == [{"n": 0}]


def test_counters_are_counters(tmp_path, chromium):
    tracer = ringbuf.Tracer("counted", mode="discard")
    queue = tracer.gauge("queue", unit="items")
    with tracer.record(tmp_path / "t", metrics_timer=0.01):
        tracer.event("x", n="u8")(1)
        queue(17)
    tracer.channel.close()
    with ringbuf.open_trace(tmp_path / "t") as trace:
        trace.export(tmp_path / "x.pftrace")
    with trace_processor.loaded(chromium, tmp_path / "x.pftrace") as query:
        found = query("select t.name, t.unit, c.value from counter c join counter_track t on c.track_id = t.id")
    assert {"name": "queue", "unit": "items", "value": 17.0} in found


def test_it_has_the_time_line_of_a_real_trace_of_the_same_machine(tmp_path, chromium):
    """That one counts the time since the machine started; a snapshot of it says what time of day that is."""
    proto = needs.module("perfetto.protos.perfetto.trace.perfetto_trace_pb2")
    real, started = proto.Trace(), ORIGIN - 1_000_000
    packet = real.packet.add(trusted_packet_sequence_id=77)
    packet.clock_snapshot.primary_trace_clock = 6
    for clock, time in ((6, 1_000_000), (1, started + 1_000_000)):
        packet.clock_snapshot.clocks.add(clock_id=clock, timestamp=time)
    real.packet.add(trusted_packet_sequence_id=77).track_descriptor.uuid = 99
    packet = real.packet.add(trusted_packet_sequence_id=77, timestamp=1_000_015)
    packet.track_event.type, packet.track_event.track_uuid, packet.track_event.name = 3, 99, "of the machine"
    with written(tmp_path, *RECORDS) as trace:
        trace.export(tmp_path / "x.pftrace")
    (tmp_path / "real.pftrace").write_bytes(real.SerializeToString())
    with trace_processor.loaded(chromium, tmp_path / "real.pftrace", tmp_path / "x.pftrace") as query:
        found = query("select name, ts from slice where name in ('shop.pay', 'of the machine') order by ts")
        wrong = query("select name, value from stats where severity != 'info' and value > 0")
    assert (wrong, [row["name"] for row in found]) == ([], ["shop.pay", "of the machine"])
    assert found[1]["ts"] - found[0]["ts"] == 5


def test_a_clock_that_was_counted_is_told_and_no_other(tmp_path):
    proto = needs.module("perfetto.protos.perfetto.trace.perfetto_trace_pb2")
    for clock, known in (("monotonic", {1, 3, 128}), ("tsc", {1, 128})):
        if clock == "tsc" and ringbuf.Tracer("x").channel.clock_parameters[0] != "tsc":
            continue
        tracer = ringbuf.Tracer("x", mode="discard", clock=clock)
        with tracer.record(tmp_path / clock):
            tracer.event("x", n="u8")(1)
        tracer.channel.close()
        with ringbuf.open_trace(tmp_path / clock) as trace:
            trace.export(tmp_path / "x.pftrace")
        packed, whole = proto.Trace(), proto.Trace()
        packed.ParseFromString((tmp_path / "x.pftrace").read_bytes())
        whole.ParseFromString(zlib.decompress(packed.packet[0].compressed_packets))
        assert {one.clock_id for one in whole.packet[0].clock_snapshot.clocks} == known


def test_what_the_kernel_told_is_slices_of_cpus_and_threads(tmp_path, chromium):
    schemas = timelines.SCHEMAS | {
        "sched_switch": "prev_comm:str,prev_pid:i32,next_comm:str,next_pid:i32",
        "sys_enter_read": "fd:u64",
        "sys_exit_read": "ret:i64",
    }
    kernel = (0, 0, 0)
    with written(
        tmp_path, (5, "tick", TICK, (PID, TID, 0)), (10, "sched_switch", ["x", 0, "python", TID], kernel),
        (20, "sys_enter_read", [5], (0, 0, TID)), (50, "sys_exit_read", [9], (0, 0, TID)),
        (70, "sched_switch", ["python", TID, "x", 0], kernel), contexts="vpid:i32,vtid:i32,common_pid:i32",
        schemas=schemas,
    ) as trace:  # fmt: skip
        trace.export(tmp_path / "x.pftrace")
    with trace_processor.loaded(chromium, tmp_path / "x.pftrace") as query:
        found = query(
            "select slice.name, dur, track.name as track, tid from slice join track on track.id = track_id"
            " left join thread_track on thread_track.id = track_id left join thread using (utid) where dur > 0"
        )
    assert sorted((row["name"], row["dur"], row["tid"]) for row in found) == [
        (f"python {TID}", 60, None), ("syscall read", 30, TID),
    ]  # fmt: skip
    assert next(row["track"] for row in found if row["tid"] is None) == "CPU 0"
