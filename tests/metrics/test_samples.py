"""What was counted, in traces: of recorders, of snapshots, of the dead."""

import multiprocessing
import os
import signal

import agreement
import pytest
from rings import eventually

import ringbuf
from ringbuf import metrics


@pytest.fixture
def tracer():
    with ringbuf.Tracer("shop", mode="discard") as tracer:
        yield tracer


def counted(directory, names=None):
    with ringbuf.open_trace(directory) as trace:
        return [(one.title, one.value) for one in trace.counters(names)]


def test_a_recording_has_the_values_as_they_change(tracer, tmp_path):
    queue = tracer.gauge("queue", "items")
    with tracer.record(tmp_path / "trace", metrics_timer=0.02):
        for n in (5, 3, 9):
            queue(n)
            eventually(lambda n=n: counted(tmp_path / "trace") and counted(tmp_path / "trace")[-1] == ("queue", n))
    found = counted(tmp_path / "trace")
    assert [value for _, value in found] in ([5, 3, 9], [0, 5, 3, 9])  # and none twice


def test_without_a_timer_there_are_begin_and_end(tracer, tmp_path):
    hits = tracer.counter("hits", path="str")
    hits.labels("/a")(1)
    with tracer.record(tmp_path / "trace", metrics_timer=None):
        hits.labels("/b")(2)
        hits.labels("/a")(5)
    assert counted(tmp_path / "trace") == [("hits{path=/a}", 1), ("hits{path=/a}", 6), ("hits{path=/b}", 2)]
    with pytest.raises(ValueError, match="metrics_timer"):
        tracer.record(tmp_path / "other", metrics_timer=0)


def test_what_is_declared_later_is_there(tracer, tmp_path):
    with tracer.record(tmp_path / "trace", metrics_timer=0.02):
        tracer.counter("first")(1)
        eventually(lambda: (tmp_path / "trace" / "metrics").exists())
        tracer.histogram("second", "s", buckets=(1, 2))(1.5)
        tracer.counter("third", real=True)(0.5)
    with ringbuf.open_trace(tmp_path / "trace") as trace:
        last = {one.name: one for one in trace.counters()}
    assert {name: one.value for name, one in last.items()} == {"first": 1, "second": 1, "third": 0.5}
    second = last["second"]
    assert (second.kind, second.unit, second.sum, second.bounds, second.counts) == (
        "histogram", "s", 1.5, (1, 2), (0, 1, 0),
    )  # fmt: skip


def test_a_channel_that_counts_nothing_leaves_no_file(tracer, tmp_path):
    tracer.event("tick")()
    with tracer.record(tmp_path / "trace"):
        pass
    tracer.snapshot(tmp_path / "snapshot")
    assert not (tmp_path / "trace" / "metrics").exists()
    assert not (tmp_path / "snapshot" / "metrics").exists()
    assert counted(tmp_path / "trace") == []


@pytest.mark.parametrize("format", ["ctf", "ctf2"])
def test_a_snapshot_has_the_values(tmp_path, format):
    with ringbuf.Tracer("flight") as tracer:
        tracer.event("tick", n="u32")(1)
        tracer.counter("hits", on="bool", n="i8", text="str").labels(True, -3, "a\0é")(7)
        tracer.snapshot(tmp_path / "trace", format=format)
    with ringbuf.open_trace(tmp_path / "trace") as trace:
        (one,) = trace.counters("hi*")
        assert (one.name, one.kind, one.value) == ("hits", "counter", 7)
        assert one.labels == {"on": True, "n": -3, "text": "a\0é"}
        assert [record.name for record in trace] == ["tick", "metric:hits"]


def test_the_closed_is_recorded_to_the_end(tmp_path):
    tracer = ringbuf.Tracer("shop", mode="discard")
    hits = tracer.counter("hits")
    recorder = tracer.record(tmp_path / "trace")
    hits(3)
    tracer.close()
    recorder.stop()
    assert counted(tmp_path / "trace")[-1] == ("hits", 3)


def die(path):
    tracer = ringbuf.Tracer("shop", path=path)
    tracer.event("tick", n="u32")(1)
    tracer.counter("hits", who="str").labels("me")(41)
    tracer.gauge("memory", "bytes", per="process")(4096)
    tracer.histogram("took", "s")(0.5)
    tracer.counter("hits", who="str").labels("me")()
    os.kill(os.getpid(), signal.SIGKILL)


def test_the_values_of_the_killed_are_recovered(tmp_path):
    child = multiprocessing.get_context("fork").Process(target=die, args=(tmp_path / "ring",))
    child.start()
    child.join()
    found = ringbuf.recover(tmp_path / "ring", tmp_path / "trace")
    assert (found.records, found.damaged) == (1, 0)
    title = f"memory{{pid={child.pid}}}"
    assert counted(tmp_path / "trace") == [("hits{who=me}", 42), (title, 4096), ("took", 1)]
    assert [one.name for one in metrics.read(tmp_path / "ring")] == ["hits", "memory", "took"]


def test_babeltrace_reads_the_same(tracer, tmp_path):
    tracer.event("tick", n="u32")(1)
    tracer.counter("hits", path="str").labels("/a")(7)
    tracer.histogram("took", "s", buckets=(1, 2))(1.5)
    tracer.gauge("memory", per="process")(0.5)
    with tracer.record(tmp_path / "trace"):
        tracer.counter("hits", path="str").labels("/b")(8)
    agreement.assert_agrees(tmp_path / "trace")
