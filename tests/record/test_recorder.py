"""Recorder and snapshot: traces on disk, judged by babeltrace2."""

import ctypes
import errno
import gc
import itertools
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
import tracemalloc

import judge
import pytest
import rings
from rings import assert_exact, eventually, exit_code, fill, fork, in_fork, in_thread, run_script, small

import ringbuf
from ringbuf.trace.about import about


def numbers(directory):
    """The fields `n` of all events "number", by babeltrace2, which must not warn of anything."""
    printed = judge.text(directory)
    assert printed.stderr == ""
    return [int(n) for n in re.findall(r" number: .*?\bn = (\d+)", printed.stdout)]


def fields(trace):
    return [event["fields"]["n"] for event in trace.events if event["name"] == "number"]


def lost(trace):
    """Events that babeltrace2 says were discarded; it must know how many."""
    return sum(loss["count"] for loss in trace.discarded_events)


def file_sizes(directory):
    return sum(path.stat().st_size for path in directory.iterdir() if path.name != "metadata")


# ---- recording ----


@pytest.mark.parametrize("streams", ["global", "per-cpu"])
@pytest.mark.parametrize("wakeup", ["timer", "writer"])
def test_what_is_recorded_meanwhile_is_in_the_trace(streams, wakeup, tmp_path):
    with rings.tracer(streams=streams, wakeup=wakeup, subbuf_size=4096, n_subbufs=8, contexts=("vtid",)) as tracer:
        event = tracer.event("number", n="u32", text="str")
        accepted, refused = [], [0]

        def produce(first):
            for n in range(first, first + 2000):
                if event(n, "x" * (n % 100 + 1)):
                    accepted.append((threading.get_native_id(), n))
                else:
                    refused[0] += 1

        with tracer.record(tmp_path / "trace") as recorder:
            threads = [threading.Thread(target=produce, args=(i << 16,)) for i in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        stats = tracer.stats()
        assert_exact(stats, attempts=4000)
        assert stats.records_read == stats.records_written == len(accepted)

    trace = judge.read(tmp_path / "trace")
    assert trace.warnings == ""
    assert lost(trace) == refused[0] and trace.discarded_packets == []
    seen = [(event["contexts"]["stream"]["vtid"], event["fields"]["n"]) for event in trace.events]
    for thread in {vtid for vtid, _ in accepted}:
        assert [n for vtid, n in seen if vtid == thread] == [n for vtid, n in accepted if vtid == thread]
    assert len(seen) == len(accepted)
    assert all(event["fields"]["text"] == "x" * (event["fields"]["n"] % 100 + 1) for event in trace.events)
    times = [event["ns"] for event in trace.events]
    assert times == sorted(times)
    told = recorder.stats()
    assert (told["records"], told["write_errors"], told["last_error"]) == (len(accepted), 0, 0)
    assert told["packets"] <= len(trace.packets)  # those that tell of losses alone are made in the file
    assert told["bytes"] == file_sizes(tmp_path / "trace")
    assert recorder.error is None


def test_an_overwriting_ring_is_recorded_too(tmp_path):
    with rings.tracer(mode="overwrite", subbuf_size=4096, n_subbufs=4) as tracer:
        event = tracer.event("number", n="u32")
        with tracer.record(tmp_path / "trace") as recorder:
            for n in range(20_000):
                assert event(n)
        stats = tracer.stats()
        assert_exact(stats, attempts=20_000)
        trace = judge.read(tmp_path / "trace")
        found = fields(trace)
        assert found == sorted(set(found)) and found[-1] == 19_999
        assert len(found) == stats.records_read == recorder.stats()["records"]
        assert bool(trace.discarded_packets) == bool(20_000 - found[0] - len(found))  # a gap is told


# ---- recordings of limited size ----


def numbers_of(trace):
    return [record.fields["n"] for record in trace.records("number")]


def test_of_a_recording_of_limited_size_the_oldest_packets_leave_and_are_counted(tmp_path):
    directory, limit = tmp_path / "trace", 16 * 4096
    with rings.tracer(subbuf_size=4096, n_subbufs=8, wakeup="none") as tracer:
        event, n = tracer.event("number", n="u32"), 0
        with tracer.record(directory, max_size=limit) as recorder:
            for _ in range(12):
                for _ in range(3):  # more than a packet's worth, less than the ring
                    for _ in range(200):
                        assert event(n)
                        n += 1
                    recorder.poke()
                    eventually(lambda: tracer.stats().records_unread < 600)
                # At every moment it is a trace of the newest.
                assert file_sizes(directory) <= limit
                left, found = None, []
                while left != recorder.stats():  # it may be writing yet
                    left, found = recorder.stats(), numbers(directory)
                assert found == list(range(left["records_rotated"], left["records"]))
                assert numbers_of(ringbuf.open_trace(directory)) == found
        assert_exact(tracer.stats(), attempts=n)
    left = recorder.stats()
    assert left["records"] == n and 0 < left["records_rotated"] < n
    assert file_sizes(directory) == left["bytes"] - left["bytes_rotated"] <= limit
    with ringbuf.open_trace(directory) as trace:
        assert numbers_of(trace) == numbers(directory) == list(range(left["records_rotated"], n))
        assert trace.env["rotated_records"] == left["records_rotated"]
        assert trace.env["rotated_packets"] == left["packets_rotated"]
        said = str(about(trace))
        assert f"{left['records_rotated']} records in {left['packets_rotated']} packets" in said


def test_losses_of_a_recording_of_limited_size_are_told_exactly_where_they_still_are(tmp_path):
    with rings.tracer(subbuf_size=4096, n_subbufs=4, wakeup="none") as tracer:
        event = tracer.event("number", n="u32")
        with tracer.record(tmp_path / "trace", max_size=16 * 4096) as recorder:
            lost = 0
            for _ in range(10):
                while event(1):
                    pass
                lost += 1
                recorder.poke()
                eventually(lambda: tracer.stats().records_unread < 600)
            before = recorder.stats()["records_rotated"]
        assert before and tracer.stats().records_lost == lost
    with ringbuf.open_trace(tmp_path / "trace") as trace:
        told = sum(loss.events for loss in about(trace).losses)
        assert 1 <= told <= lost
        assert about(trace).damage == ()


def test_a_limit_of_size_that_has_no_room_is_refused(tmp_path):
    with small() as channel:
        for wrong in (0, -1, 16 * 4096 - 1, 1e6, "1M"):
            with pytest.raises(ValueError, match="max_size must be at least 65536 bytes"):
                ringbuf.Recorder(channel, tmp_path / "trace", max_size=wrong)
        assert not (tmp_path / "trace").exists()


def test_what_was_counted_is_within_the_limit_too(tmp_path):
    limit = 16 * 4096
    with rings.tracer(subbuf_size=4096, n_subbufs=4) as tracer:
        hits, path = tracer.counter("hits", path="str"), "x" * 1000
        with tracer.record(tmp_path / "trace", max_size=limit, metrics_timer=0.001):
            hits.labels("first")(1)  # which has its last value long before the end
            eventually(lambda: (tmp_path / "trace" / "metrics").exists())
            while not (tmp_path / "trace" / "metrics.2").exists():
                hits.labels(path)(1)
                time.sleep(0.001)
    assert not (tmp_path / "trace" / "metrics").exists()
    assert file_sizes(tmp_path / "trace") <= limit
    assert judge.read(tmp_path / "trace").warnings == ""
    with ringbuf.open_trace(tmp_path / "trace") as trace:
        found = [record.fields for record in trace.records("metric:hits")]
    assert {one["path"] for one in found} == {"first", path}


def test_the_directory_has_a_file_for_each_stream_that_was_used(tmp_path):
    with rings.tracer("named", streams="per-cpu", n_streams=4) as tracer:
        cpus = sorted(os.sched_getaffinity(0))
        with tracer.record(str(tmp_path / "trace")):
            os.sched_setaffinity(0, {cpus[0]})
            try:
                tracer.event("number", n="u32")(1)
            finally:
                os.sched_setaffinity(0, cpus)
        assert sorted(os.listdir(tmp_path / "trace")) == ["metadata", f"named_{cpus[0] % 4}"]
        assert stat.S_IMODE(os.stat(tmp_path / "trace").st_mode) == 0o700


def test_an_empty_directory_may_be_there_already(tmp_path):
    (tmp_path / "trace").mkdir()
    (tmp_path / "trace" / "notes.txt").write_text("mine")
    with rings.tracer() as tracer, tracer.record(tmp_path / "trace"):
        tracer.event("number", n="u32")(1)
    assert sorted(os.listdir(tmp_path / "trace")) == ["metadata", "notes.txt", "small"]
    (tmp_path / "trace" / "notes.txt").unlink()
    assert numbers(tmp_path / "trace") == [1]


def test_nothing_recorded_is_a_trace_too(tmp_path):
    with rings.tracer() as tracer, tracer.record(tmp_path / "trace"):
        pass
    assert judge.events(tmp_path / "trace") == []
    assert list(ringbuf.open_trace(tmp_path / "trace")) == []


def test_recordings_one_after_the_other_have_each_record_once(tmp_path):
    with rings.tracer(subbuf_size=4096, n_subbufs=16) as tracer:
        event = tracer.event("number", n="u32")
        event(0)
        for i in range(3):
            with tracer.record(tmp_path / f"trace{i}"):
                for n in range(100):
                    event(1 + 101 * i + n)
            event(1 + 101 * i + 100)  # between two recordings: in the next
        found = [numbers(tmp_path / f"trace{i}") for i in range(3)]
        assert [len(one) for one in found] == [101] * 3
        assert sum(found, []) == list(range(303))


def test_recorders_of_two_channels_run_at_once(tmp_path):
    with rings.tracer("one") as one, rings.tracer("two") as two:
        with one.record(tmp_path / "one"), two.record(tmp_path / "two"):
            for n in range(100):
                one.event("number", n="u32")(n)
                two.event("number", n="u32")(n + 1000)
    assert (numbers(tmp_path / "one"), numbers(tmp_path / "two")) == ([*range(100)], [*range(1000, 1100)])


# ---- when it writes ----


def test_without_a_switch_timer_a_packet_waits_until_it_is_full(tmp_path):
    with rings.tracer() as tracer, tracer.record(tmp_path / "trace") as recorder:
        tracer.event("number", n="u32")(1)
        for _ in range(20):
            recorder.poke()
            assert not threading.Event().wait(0.01)
        assert recorder.stats()["packets"] == 0
        assert recorder.stats()["unread_bytes"] > 0
        tracer.channel.flush()
        eventually(lambda: recorder.stats()["packets"] == 1)


@pytest.mark.parametrize("where", ["channel", "recorder"])
def test_a_switch_timer_ends_packets(where, tmp_path):
    channels, recorders = ({"switch_timer": 0.01}, {}) if where == "channel" else ({}, {"switch_timer": 0.01})
    with rings.tracer(**channels) as tracer, tracer.record(tmp_path / "trace", **recorders) as recorder:
        for n in range(1, 4):
            tracer.event("number", n="u32")(n)
            eventually(lambda n=n: recorder.stats()["records"] == n)
        assert recorder.stats()["packets"] == 3


def test_the_timers_of_the_recorder_come_before_the_channels(tmp_path):
    with rings.tracer(switch_timer=1e6, read_timer=1e6) as tracer:
        with tracer.record(tmp_path / "trace", switch_timer=0.01, read_timer=0.01) as recorder:
            tracer.event("number", n="u32")(1)
            eventually(lambda: recorder.stats()["records"] == 1)


@pytest.mark.parametrize("options", [{"read_timer": -1}, {"switch_timer": float("nan")}, {"read_timer": "soon"}])
def test_a_timer_that_is_none_is_refused_and_leaves_nothing(options, tmp_path):
    with rings.tracer() as tracer:
        with pytest.raises(ValueError):
            tracer.record(tmp_path / "trace", **options)
        assert not (tmp_path / "trace").exists()
        assert not tracer.channel.has_reader()


@pytest.mark.parametrize(("wakeup", "read_timer"), [("none", 0.001), ("timer", 1e6)])
def test_what_nothing_wakes_is_poked(wakeup, read_timer, tmp_path):
    with rings.tracer(wakeup=wakeup) as tracer, tracer.record(tmp_path / "trace", read_timer=read_timer) as recorder:
        for n in range(1, 4):
            tracer.event("number", n="u32")(n)
            tracer.channel.flush()
            assert not threading.Event().wait(0.05)
            assert recorder.stats()["packets"] == n - 1
            recorder.poke()
            eventually(lambda n=n: recorder.stats()["packets"] == n)
        tracer.event("number", n="u32")(4)
    assert numbers(tmp_path / "trace") == [1, 2, 3, 4]


def test_a_writer_wakes_it(tmp_path):
    with rings.tracer(wakeup="writer") as tracer, tracer.record(tmp_path / "trace", read_timer=1e6) as recorder:
        for n in range(1, 4):
            tracer.event("number", n="u32")(n)
            tracer.channel.flush()
            eventually(lambda n=n: recorder.stats()["packets"] == n)


def test_it_drains_while_a_thread_holds_the_gil(tmp_path):
    """In C code, without end. Only a thread that does without the GIL gets anywhere."""
    with rings.tracer(n_subbufs=4, subbuf_size=4096) as tracer:
        write, recorder = tracer.channel.write, tracer.record(tmp_path / "trace", read_timer=0.001)
        sleep = ctypes.PyDLL(None).usleep  # PyDLL: keeps the GIL
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1000)  # nor is it given up between two calls
        try:
            for n in range(1, 11):
                while not write(b"x" * 3000):
                    sleep(1000)
                tracer.channel.flush()
                for _ in range(60_000):
                    if recorder.stats()["packets"] == n:
                        break
                    sleep(1000)
                assert recorder.stats()["packets"] == n
        finally:
            sys.setswitchinterval(interval)
        recorder.stop()
        assert judge.counts(tmp_path / "trace")["Event"] == 10


def test_packets_reach_the_disk_without_python(tmp_path):
    payload = b"x" * 60_000
    with small(subbuf_size=1 << 16, n_subbufs=4, blocking_timeout=None) as channel:
        with ringbuf.Recorder(channel, tmp_path / "trace") as recorder:
            channel.write(payload)
            tracemalloc.start()
            try:
                for _ in range(200):
                    assert channel.write(payload)
                recorder.stop()
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
    assert file_sizes(tmp_path / "trace") > 200 * len(payload)
    assert peak < 1 << 20


# ---- events, and who declares them ----


def test_events_declared_meanwhile_are_in_the_metadata_soon_and_in_the_trace(tmp_path):
    with rings.tracer() as tracer:
        tracer.event("number", n="u32")(0)
        with tracer.record(tmp_path / "trace"):

            def declare(i):
                assert tracer.event(f"late{i}", n="u32", **{f"own{i}": "str"})(i, "text")

            declare(1)
            in_fork(declare, 2)
            eventually(lambda: "late2" in (tmp_path / "trace" / "metadata").read_text())
            declare(3)
    events = judge.events(tmp_path / "trace")
    assert [event["name"] for event in events] == ["number", "late1", "late2", "late3"]
    assert [event["fields"].get(f"own{i}") for i, event in enumerate(events)] == [None, "text", "text", "text"]
    assert [name for name in os.listdir(tmp_path / "trace") if name.startswith(".")] == []


def test_a_recorder_that_is_killed_leaves_a_trace_that_can_be_read(tmp_path):
    code = """
import ringbuf, sys
tracer = ringbuf.Tracer("small", streams="global", mode="discard", contexts=())
event = tracer.event("number", n="u32")
recorder = tracer.record(sys.argv[1], switch_timer=0.001)
for n in range(100):
    slot = tracer.channel.reserve(100)
    event(n)
    slot.discard()  # holes: the metadata must tell of them from the start
    event(n + 1000)
while recorder.stats()["records"] < 200:
    pass
print(flush=True)
input()
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", code, str(tmp_path / "trace")]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert numbers(tmp_path / "trace") == [n for i in range(100) for n in (i, i + 1000)]


# ---- ending ----


def test_stopping_twice_and_from_many_threads_is_harmless(tmp_path):
    with rings.tracer() as tracer:
        tracer.event("number", n="u32")(1)
        recorder = tracer.record(tmp_path / "trace")
        assert "stopped" not in repr(recorder) and str(tmp_path) in repr(recorder)
        complete = []

        def stop():
            recorder.stop()
            complete.append((tmp_path / "trace" / "small").exists() and not tracer.channel.has_reader())

        threads = [threading.Thread(target=stop) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        recorder.stop()
        recorder.poke()
        assert complete == [True] * 4
        assert "stopped" in repr(recorder)
        assert recorder.stats()["records"] == 1
    assert numbers(tmp_path / "trace") == [1]


def test_an_exception_in_the_block_passes_and_the_trace_is_whole(tmp_path):
    with rings.tracer() as tracer:
        event = tracer.event("number", n="u32")
        for i, error in enumerate((RuntimeError("mine"), KeyboardInterrupt())):
            with pytest.raises(type(error)) as caught, tracer.record(tmp_path / f"trace{i}") as recorder:
                event(i)
                raise error
            assert caught.value is error
            assert numbers(tmp_path / f"trace{i}") == [i]
            assert "stopped" in repr(recorder)


def test_it_ends_by_itself_when_the_channel_is_finalized(tmp_path):
    with rings.tracer() as tracer:
        tracer.event("number", n="u32")(1)
        with tracer.record(tmp_path / "trace") as recorder:
            tracer.channel.finalize()
            eventually(lambda: recorder._consumer.result is not None)
            assert recorder._consumer.result == 0
        assert numbers(tmp_path / "trace") == [1]


def test_the_channel_may_be_closed_first(tmp_path):
    tracer = rings.tracer()
    event = tracer.event("number", n="u32")
    event(1)
    recorder = tracer.record(tmp_path / "trace")
    tracer.event("last", n="u32")(2)
    tracer.close()
    with pytest.raises(ValueError, match="closed"):
        event(3)
    recorder.stop()
    assert [(event["name"], event["fields"]["n"]) for event in judge.events(tmp_path / "trace")] == [
        ("number", 1),
        ("last", 2),
    ]


def test_a_record_in_flight_is_told_and_stays_for_the_next(tmp_path):
    with rings.tracer() as tracer:
        event = tracer.event("number", n="u32")
        event(1)
        slot = tracer.channel.reserve(4)
        event(2)
        recorder = tracer.record(tmp_path / "one")
        with pytest.warns(RuntimeWarning, match="one: a producer was in the middle of a record") as caught:
            recorder.stop(timeout=0.05)
        assert [(warning.filename, source_line(warning)) for warning in caught] == [
            (__file__, "recorder.stop(timeout=0.05)")
        ]
        assert judge.events(tmp_path / "one") == []
        slot.commit()
        with tracer.record(tmp_path / "two"):
            event(3)
        assert numbers(tmp_path / "two") == [1, 2, 3]


def source_line(warning):
    with open(warning.filename) as file:
        return next(itertools.islice(file, warning.lineno - 1, None)).strip()


def test_warnings_of_a_with_block_point_to_it(tmp_path, monkeypatch):
    monkeypatch.setattr(ringbuf.record.recorder, "_IN_FLIGHT", 0.05)
    with rings.tracer() as tracer, tracer.channel.reserve(4):
        with pytest.warns(RuntimeWarning, match="in the middle") as caught:
            with tracer.record(tmp_path / "trace"):  # here
                pass
    assert [(warning.filename, source_line(warning)) for warning in caught] == [
        (__file__, 'with tracer.record(tmp_path / "trace"):  # here')
    ]


def test_it_needs_a_producer_slot_to_flush_with_and_says_so(tmp_path):
    with rings.tracer(n_producers=1) as tracer:
        tracer.event("number", n="u32")(1)
        recorder = tracer.record(tmp_path / "trace")
        with pytest.warns(RuntimeWarning, match="newest records are missing"):
            recorder.stop()
        assert recorder.stats()["flush_errors"] > 0
        assert tracer.stats().records_unread == 1


def test_at_exit_what_was_recorded_is_written(tmp_path):
    run_script(
        """
import atexit, sys, threading, ringbuf
tracer = ringbuf.Tracer("small", streams="global", mode="discard", contexts=())
event = tracer.event("number", n="u32")
recorder = tracer.record(sys.argv[1])
event(1)
atexit.register(event, 3)
threading.Thread(target=lambda: (threading.Event().wait(0.2), event(2))).start()
""",
        tmp_path / "trace",
    )
    assert numbers(tmp_path / "trace") == [1, 2, 3]


def test_at_exit_records_of_children_that_still_run_are_waited_for(tmp_path):
    run_script(
        """
import multiprocessing, sys, time, ringbuf
def work(event):
    time.sleep(0.3)
    event(2)
tracer = ringbuf.Tracer("small", streams="global", mode="discard", contexts=())
event = tracer.event("number", n="u32")
recorder = tracer.record(sys.argv[1])
event(1)
multiprocessing.get_context("fork").Process(target=work, args=(event,)).start()
""",
        tmp_path / "trace",
    )
    assert numbers(tmp_path / "trace") == [1, 2]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_recorder_in_a_worker_is_stopped_when_the_worker_ends(method, tmp_path):
    (tmp_path / "worker.py").write_text(
        """
import multiprocessing, sys, ringbuf
recorders = []
def work(tracer, directory):
    recorders.append(tracer.record(directory))
    tracer.event("number", n="u32")(1)
if __name__ == "__main__":
    tracer = ringbuf.Tracer("small", streams="global", mode="discard", contexts=())
    worker = multiprocessing.get_context(sys.argv[1]).Process(target=work, args=(tracer, sys.argv[2]))
    worker.start()
    worker.join()
    assert worker.exitcode == 0
    assert tracer.stats().records_read == 1
"""
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, tmp_path / "worker.py", method, tmp_path / "trace"]
    subprocess.run(command, env=environment, check=True, timeout=60)
    assert numbers(tmp_path / "trace") == [1]


def test_at_exit_daemon_threads_that_record_do_no_harm(tmp_path):
    run_script(
        """
import sys, threading, ringbuf
tracer = ringbuf.Tracer("small", mode="discard", subbuf_size=4096)
event = tracer.event("number", n="u64")
recorder = tracer.record(sys.argv[1], switch_timer=0.001)
def produce():
    n = 0
    while True:
        event(n)
        n += 1
for _ in range(3):
    threading.Thread(target=produce, daemon=True).start()
while recorder.stats()["packets"] < 10:
    pass
""",
        tmp_path / "trace",
    )
    counts = judge.counts(tmp_path / "trace")
    assert counts["Event"] > 0
    assert ringbuf.open_trace(tmp_path / "trace").count() == {"number": counts["Event"]}


# ---- one reader at a time ----


def test_a_channel_has_one_recorder(tmp_path):
    with rings.tracer() as tracer:
        tracer.event("number", n="u32")(1)
        with tracer.record(tmp_path / "one"):
            for other in (tracer.record, tracer.snapshot):
                with pytest.raises(ringbuf.ReaderBusyError):
                    other(tmp_path / "other")
            with pytest.raises(ringbuf.ReaderBusyError):
                tracer.channel.reader()
            assert tracer.channel.has_reader()
        assert not (tmp_path / "other").exists()
        with tracer.channel.reader(), pytest.raises(ringbuf.ReaderBusyError):
            tracer.record(tmp_path / "other")
        assert numbers(tmp_path / "one") == [1]


# ---- directories that cannot be ----


USES = {"record": lambda tracer, directory: tracer.record(directory).stop(), "snapshot": ringbuf.Tracer.snapshot}


@pytest.mark.parametrize("use", USES)
def test_a_directory_that_cannot_be_had_is_an_error_and_stays_as_it_was(use, tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "metadata-there").mkdir()
    (tmp_path / "metadata-there" / "metadata").symlink_to("nowhere")
    (tmp_path / "stream-there").mkdir()
    (tmp_path / "stream-there" / "small").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with rings.tracer() as tracer:
        tracer.event("number", n="u32")(1)
        for name, error in (
            ("none/trace", FileNotFoundError),
            ("file", (NotADirectoryError, FileExistsError)),
            ("file/trace", NotADirectoryError),
            ("metadata-there", FileExistsError),
            ("stream-there", FileExistsError),
            ("x" * 300, OSError),
        ):
            with pytest.raises(error) as caught:
                USES[use](tracer, tmp_path / name)
            assert caught.value.filename is not None and caught.value.strerror
        assert sorted(tmp_path.rglob("*")) == before
        assert (tmp_path / "stream-there" / "small").read_text() == "mine"
        assert not tracer.channel.has_reader()
        assert tracer.stats().records_unread == 1
        for target in (None, 3):
            with pytest.raises(TypeError):
                USES[use](tracer, target)
        with pytest.raises(ValueError, match="NUL"):
            USES[use](tracer, f"{tmp_path}/tra\0ce")
        assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("use", [ringbuf.Recorder, ringbuf.snapshot])
def test_what_is_no_channel_is_not_recorded(use, tmp_path):
    with rings.tracer() as tracer:
        for other in (tracer, None, "small"):
            with pytest.raises(TypeError, match="Channel"):
                use(other, tmp_path / "trace")
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("use", USES)
def test_a_directory_that_cannot_be_written_to_is_an_error_at_once(use, tmp_path):
    with rings.tracer() as tracer:
        tracer.event("number", n="u32")(1)
        (tmp_path / "locked").mkdir(mode=0o555)

        def check():
            for name in ("locked", "locked/trace"):
                with pytest.raises(PermissionError):
                    USES[use](tracer, name)
            assert not tracer.channel.has_reader()

        def unprivileged():
            os.chdir(tmp_path)
            if os.geteuid() == 0:
                os.setuid(65534)
            check()

        in_fork(unprivileged)
        assert os.listdir(tmp_path / "locked") == []
        assert tracer.stats().records_unread == 1


# ---- disks and directories that fail ----


def until_it_fails(tracer, recorder, code):
    """Record until the disk is full, and then the ring. The accepted numbers, and how many there were."""
    event, accepted, numbers = tracer.event("number", n="u32", text="str"), [], itertools.count()
    while not recorder.stats()["streams_failed"]:
        accepted += [n for n in [next(numbers)] if event(n, "x" * 1000)]
    assert recorder.error.errno == recorder.stats()["last_error"] == code
    assert str(recorder.directory) in str(recorder.error)
    for n in numbers:
        if not event(n, "x" * 1000):
            return accepted, n + 1
        accepted.append(n)


def recovers(tracer, recorder, accepted, n):
    """There is room again: what was accepted before is written, and so is what comes now."""
    eventually(lambda: not recorder.stats()["streams_failed"] and recorder.stats()["unread_bytes"] < 2 * 4096)
    assert tracer.event("number", n="u32", text="str")(n, "x")
    recorder.stop()
    return [*accepted, n]


def test_a_full_disk_is_told_and_recording_goes_on_when_there_is_room(tiny_disk, tmp_path):
    with rings.tracer(subbuf_size=4096, n_subbufs=8) as tracer, rings.tracer("other") as other:
        with other.record(tmp_path / "other"):  # on another disk, and another thread: not disturbed
            recorder = tracer.record(tiny_disk / "trace")
            (tiny_disk / "ballast").write_bytes(bytes(900_000))
            accepted, n = until_it_fails(tracer, recorder, errno.ENOSPC)
            tracer.event("declared on a full disk", x="u8")
            other.event("number", n="u32")(1)
            (tiny_disk / "ballast").unlink()
            accepted = recovers(tracer, recorder, accepted, n)
        assert recorder.stats()["write_errors"] > 0
        trace = judge.read(tiny_disk / "trace")
        assert fields(trace) == accepted
        assert lost(trace) == tracer.stats().records_lost_full == n + 1 - len(accepted)
        assert sorted(os.listdir(tiny_disk / "trace")) == ["metadata", "small"]
        assert "declared on a full disk" in (tiny_disk / "trace" / "metadata").read_text()
        assert numbers(tmp_path / "other") == [1]


def test_a_disk_that_stays_full_is_an_error_in_the_end_and_nothing_is_lost(tiny_disk, tmp_path):
    with rings.tracer(subbuf_size=4096, n_subbufs=8) as tracer:
        tracer.event("number", n="u32", text="str")  # now: later there may be no room for the metadata to name it
        recorder = tracer.record(tiny_disk / "trace")
        (tiny_disk / "ballast").write_bytes(bytes(900_000))
        accepted, n = until_it_fails(tracer, recorder, errno.ENOSPC)
        with pytest.raises(OSError) as caught:
            recorder.stop()
        assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tiny_disk / "trace"))
        recorder.stop()  # told once
        (tiny_disk / "ballast").unlink()
        with tracer.record(tmp_path / "rest"):
            pass
        assert [path.name for path in (tiny_disk / "trace").iterdir() if path.name.startswith(".")] == []
        first, second = judge.read(tiny_disk / "trace"), judge.read(tmp_path / "rest")
        assert fields(first) + fields(second) == accepted
        assert lost(first) + lost(second) == n - len(accepted)


def test_a_file_size_limit_is_told_and_recording_goes_on_when_it_is_raised(tmp_path):
    """As a full disk, where no file system can be mounted."""
    run_script(
        """
import errno, pathlib, resource, sys
sys.path.insert(0, sys.argv[2])
import rings, test_recorder
directory = pathlib.Path(sys.argv[1])
with rings.tracer(subbuf_size=4096, n_subbufs=8) as tracer:
    recorder = tracer.record(directory)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    accepted, n = test_recorder.until_it_fails(tracer, recorder, errno.EFBIG)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    accepted = test_recorder.recovers(tracer, recorder, accepted, n)
    trace = test_recorder.judge.read(directory)
    assert test_recorder.fields(trace) == accepted
    assert test_recorder.lost(trace) == n + 1 - len(accepted)
""",
        tmp_path / "trace",
        os.path.dirname(__file__),
    )


def test_a_directory_that_disappears_is_told_and_not_made_again(tmp_path):
    with rings.tracer() as tracer:
        event = tracer.event("number", n="u32")
        recorder = tracer.record(tmp_path / "trace", switch_timer=0.005)
        event(1)
        eventually(lambda: recorder.stats()["records"] == 1)
        shutil.rmtree(tmp_path / "trace")
        eventually(lambda: event(2) and recorder.stats()["streams_failed"])
        assert recorder.error.errno == errno.ENOENT
        tracer.event("declared when it was gone", x="u8")
        with pytest.raises(FileNotFoundError):
            recorder.stop()
        assert os.listdir(tmp_path) == []
        with tracer.record(tmp_path / "rest"):
            pass
        rest = numbers(tmp_path / "rest")
        assert rest and set(rest) == {2}  # but for those written between the removal and the next look


def test_a_directory_that_disappears_before_anything_is_written_is_told(tmp_path):
    with rings.tracer() as tracer:
        recorder = tracer.record(tmp_path / "trace")
        shutil.rmtree(tmp_path / "trace")
        with pytest.raises(FileNotFoundError):
            recorder.stop()
        assert os.listdir(tmp_path) == []


def test_errors_at_exit_are_warnings(tmp_path):
    done = rings.script(
        """
import shutil, sys, ringbuf
tracer = ringbuf.Tracer("small", streams="global", mode="discard", contexts=())
recorder = tracer.record(sys.argv[1])
tracer.event("number", n="u32")(1)
shutil.rmtree(sys.argv[1])
""",
        tmp_path / "trace",
    )
    assert done.returncode == 0
    assert "RuntimeWarning" in done.stderr and str(tmp_path / "trace") in done.stderr
    assert "Traceback" not in done.stderr


# ---- forks ----


def test_forks_go_on_recording_and_have_no_recorder(tmp_path):
    with rings.tracer(n_subbufs=16) as tracer:
        event = tracer.event("number", n="u32")
        event(0)
        recorder = tracer.record(tmp_path / "trace", switch_timer=0.001)

        def child(n):
            nonlocal recorder
            assert event(n)
            recorder.poke()
            recorder.stop()
            with recorder:
                assert recorder.stats()["capacity"] > 0
            with pytest.raises(ringbuf.ReaderBusyError):
                tracer.record(tmp_path / "child")
            del recorder
            gc.collect()
            assert event(n + 1)

        children = [fork(child, n) for n in range(1, 8, 2)]
        assert [exit_code(pid) for pid in children] == [0] * 4
        recorder.stop()
        assert sorted(numbers(tmp_path / "trace")) == list(range(9))


def test_a_fork_that_exits_like_a_program_leaves_the_trace_alone(tmp_path):
    printed = run_script(
        """
import os, sys, ringbuf
tracer = ringbuf.Tracer("small", streams="global", mode="discard", contexts=())
event = tracer.event("number", n="u32")
recorder = tracer.record(sys.argv[1])
pid = os.fork()
event(1 if pid else 2)
if pid:
    assert os.waitpid(pid, 0)[1] == 0
    event(3)
    recorder.stop()
    print(recorder.stats()["records"])
""",
        tmp_path / "trace",
    )
    assert printed.strip() == "3"
    assert sorted(numbers(tmp_path / "trace")) == [1, 2, 3]


# ---- snapshots ----


def flight(**options):
    return rings.tracer("small", **{"mode": "overwrite", "subbuf_size": 4096, "n_subbufs": 8, **options})


def test_a_snapshot_has_the_newest_records_without_a_gap(tmp_path):
    with flight() as tracer:
        event = tracer.event("number", n="u32")
        for n in range(10_000):
            event(n)
        before = tracer.stats()
        written = tracer.snapshot(tmp_path / "trace")
        found = numbers(tmp_path / "trace")
        assert found == list(range(10_000 - len(found), 10_000))
        assert len(found) > 7 * 300  # all eight sub-buffers but the one that was just begun
        assert (written["records"], written["bytes"]) == (len(found), file_sizes(tmp_path / "trace"))
        assert (written["lapped"], written["incomplete"], written["before"]) == (0, 0, 0)
        after = tracer.stats()
        assert (after.records_read, after.records_unread) == (0, before.records_unread)


@pytest.mark.parametrize("kind", ["monotonic", "auto"])
@pytest.mark.parametrize("seconds", [3600, -86400.5])
def test_a_snapshot_has_the_time_of_a_wall_clock_that_was_set(kind, seconds, tmp_path, monkeypatch):
    tracer = ringbuf.Tracer("weeks", clock=kind)
    tracer.event("e", n="u32")(1)
    tracer.snapshot(tmp_path / "before")
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + int(seconds * 1e9))  # as NTP may do once it has an answer
    tracer.snapshot(tmp_path / "after")
    (before,), (after,) = (list(ringbuf.open_trace(tmp_path / name)) for name in ("before", "after"))
    assert abs(after.timestamp - before.timestamp - seconds * 1e9) < 1e7
    assert len(numbers(tmp_path / "after")) == 0 and after.ticks == before.ticks


def test_a_snapshot_leaves_clocks_alone_that_were_not_set(tmp_path):
    calls = []
    own = ringbuf.Tracer("own", clock=lambda: calls.append(1) or len(calls))
    usual = ringbuf.Tracer("usual", clock="monotonic")
    for tracer in (own, usual):
        tracer.event("e", n="u32")(1)
        tracer.snapshot(tmp_path / tracer.name)
        clock = ringbuf.open_trace(tmp_path / tracer.name).clock
        assert (clock.freq, clock.offset_s, clock.offset) == tracer.channel.clock_parameters[1:]


def test_snapshots_can_be_repeated_and_take_nothing(tmp_path):
    with flight() as tracer:
        event = tracer.event("number", n="u32")
        for i in range(3):
            event(i)
            tracer.snapshot(tmp_path / f"trace{i}")
        assert [numbers(tmp_path / f"trace{i}") for i in range(3)] == [[0], [0, 1], [0, 1, 2]]
        with tracer.record(tmp_path / "recorded"):
            pass
        assert numbers(tmp_path / "recorded") == [0, 1, 2]


@pytest.mark.parametrize("streams", ["global", "per-cpu"])
def test_snapshots_of_a_running_flight_recorder_are_whole(streams, tmp_path):
    with flight(streams=streams, n_subbufs=4, contexts=("vtid",)) as tracer:
        event = tracer.event("number", n="u32", twice="u64")
        stop, recorded, written = threading.Event(), [0, 0], []

        def produce(i):
            for n in itertools.count():
                event(n, 2 * n)
                recorded[i] = n
                if n % 50 == 0 and stop.wait(0.0005):
                    return

        threads = [threading.Thread(target=produce, args=(i,)) for i in range(2)]
        for thread in threads:
            thread.start()
        try:
            eventually(lambda: tracer.stats().records_overrun > 0)
            for i in range(3):
                before = [*recorded]
                eventually(lambda before=before: all(map(int.__gt__, recorded, before)))
                written.append(tracer.snapshot(tmp_path / f"trace{i}"))
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        newest = {}
        for i, counted in enumerate(written):
            trace = judge.read(tmp_path / f"trace{i}")
            assert len(trace.events) == counted["records"] > 0
            assert all(one["fields"]["twice"] == 2 * one["fields"]["n"] for one in trace.events)
            times = [one["ns"] for one in trace.events]
            assert times == sorted(times)
            for thread in threads:
                mine = [
                    one["fields"]["n"] for one in trace.events if one["contexts"]["stream"]["vtid"] == thread.native_id
                ]
                if streams == "global" and not counted["lapped"]:  # with gaps where packets were lapped meanwhile
                    assert mine == list(range(mine[0], mine[0] + len(mine)))
                assert mine == sorted(set(mine))
                assert mine[-1] > newest.get(thread, -1)
                newest[thread] = mine[-1]
        assert tracer.stats().records_read == 0
        assert_exact(tracer.stats())


def test_a_snapshot_of_nothing_is_a_trace(tmp_path):
    with flight() as tracer:
        written = tracer.snapshot(tmp_path / "trace")
        assert (written["packets"], written["records"], written["bytes"]) == (0, 0, 0)
        assert os.listdir(tmp_path / "trace") == ["metadata"]
        assert judge.events(tmp_path / "trace") == []
        assert list(ringbuf.open_trace(tmp_path / "trace")) == []


def test_the_last_while_can_be_asked_for(tmp_path):
    now = [0]
    with flight(clock=lambda: now[0]) as tracer:
        event = tracer.event("number", n="u32")
        for n in range(5):
            now[0] = n * 10**9
            event(n)
            tracer.channel.flush()
        for last in (-1, float("nan")):
            with pytest.raises(ValueError, match="last"):
                ringbuf.snapshot(tracer.channel, tmp_path / "refused", last=last)
        assert not (tmp_path / "refused").exists()
        for last, found in ((None, 5), (100, 5), (float("inf"), 5), (1e300, 5), (2.5, 3), (0, 1)):
            written = ringbuf.snapshot(tracer.channel, tmp_path / f"last{last}", last=last)
            assert numbers(tmp_path / f"last{last}") == list(range(5))[-found:]
            assert (written["records"], written["before"]) == (found, 5 - found)


def test_a_snapshot_goes_round_a_record_in_flight(tmp_path):
    with flight(streams="global") as tracer:
        event = tracer.event("number", n="u32")
        event(1)
        tracer.channel.flush()
        slot = tracer.channel.reserve(4)
        event(2)
        written = ringbuf.snapshot(tracer.channel, tmp_path / "one", timeout=0.02)
        assert (written["packets"], written["incomplete"]) == (1, 1)
        assert numbers(tmp_path / "one") == [1]
        slot.discard()
        tracer.snapshot(tmp_path / "two")
        assert numbers(tmp_path / "two") == [1, 2]


def test_a_finalized_or_disabled_channel_has_a_snapshot_too(tmp_path):
    with flight() as tracer:
        tracer.event("number", n="u32")(1)
        tracer.channel.disable()
        tracer.snapshot(tmp_path / "disabled")
        tracer.channel.finalize()
        tracer.snapshot(tmp_path / "finalized")
        assert numbers(tmp_path / "disabled") == numbers(tmp_path / "finalized") == [1]


def test_a_snapshot_tells_losses(tmp_path):
    with small(subbuf_size=4096, n_subbufs=4) as channel:
        written = fill(channel)
        for _ in range(9):
            channel.write(b"x" * 1000)
        ringbuf.snapshot(channel, tmp_path / "trace")
        trace = judge.read(tmp_path / "trace")
        assert len(trace.events) == written
        assert lost(trace) == channel.stats().records_lost_full == 10


def test_a_snapshot_on_a_full_disk_is_an_error_and_takes_nothing(tiny_disk, tmp_path):
    with flight(subbuf_size=1 << 16, n_subbufs=16) as tracer:
        event = tracer.event("number", n="u32", text="str")
        for n in range(1000):
            event(n, "x" * 1000)
        (tiny_disk / "ballast").write_bytes(bytes(900_000))
        with pytest.raises(OSError) as caught:
            tracer.snapshot(tiny_disk / "trace")
        assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tiny_disk / "trace"))
        assert not tracer.channel.has_reader()
        tracer.snapshot(tmp_path / "trace")
        found = numbers(tmp_path / "trace")
        assert found == list(range(1000 - len(found), 1000))


def test_snapshots_from_many_threads_take_turns_or_are_refused(tmp_path):
    with flight() as tracer:
        tracer.event("number", n="u32")(1)
        names = iter(range(1000))
        done = []

        def work():
            for _ in range(5):
                name = tmp_path / str(next(names))
                try:
                    tracer.snapshot(name)
                    done.append(name)
                except ringbuf.ReaderBusyError:
                    assert not name.exists()

        threads = [threading.Thread(target=in_thread, args=(work,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert done
        assert all(ringbuf.open_trace(name).count() == {"number": 1} for name in done)
        assert sorted(map(str, done)) == sorted(map(str, tmp_path.iterdir()))


def test_directories_and_files_may_be_bytes(tmp_path):
    folder = os.fsencode(tmp_path)
    with rings.tracer(path=folder + b"/ring") as tracer:
        tracer.event("number", n="u32")(1)
        tracer.snapshot(folder + b"/snapshot")
        with tracer.record(folder + b"/recorded"):
            pass
    assert ringbuf.recover(folder + b"/ring", folder + b"/recovered", all=True).records == 1
    for name in (b"snapshot", b"recorded", b"recovered"):
        with ringbuf.open_trace(folder + b"/" + name) as trace:
            assert [record.fields for record in trace] == [{"n": 1}]
            trace.export(folder + b"/" + name + b".json")
            assert os.path.exists(folder + b"/" + name + b".json")
