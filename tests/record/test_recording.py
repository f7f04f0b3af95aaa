"""record/recording.py: a program's own tracers under `ringbuf record`, which change for nobody."""

import os
import subprocess
import sys
import textwrap

import judge
import numpy
import pytest
import rings

import ringbuf


@pytest.fixture
def recording(tmp_path, monkeypatch):
    """The channel of a recording that has started this process, as it were."""
    with ringbuf.Tracer("recording", mode="discard", path=tmp_path / "channel") as tracer:
        monkeypatch.setenv("RINGBUF_CHANNEL", str(tmp_path / "channel"))
        yield tracer.channel


def fields(channel):
    return [(record.name, record.fields) for record in rings.records(channel)]


def test_events_and_spans_are_in_both_channels(recording):
    with rings.tracer(contexts=("vpid", "vtid")) as tracer:
        step = tracer.event("step", n="u64", text="str")
        assert step(1, "a") and step(text="b", n=2)
        with tracer.span("work", rows=3):
            step(3, "")
        tracer.event("rows", n="u32").many(numpy.zeros(5, [("n", "u4")]))
        own = rings.records(tracer.channel)
    copies = rings.records(recording)
    assert [record.name for record in own] == [record.name for record in copies]
    assert [record.fields for record in own] == [record.fields for record in copies]
    assert [record.contexts for record in own] == [record.contexts for record in copies]
    assert [record.name for record in own] == ["step", "step", "work", "step", "span_end"] + ["rows"] * 5


@pytest.mark.parametrize("own", [(), ("vtid",), ("vtid", "vpid"), ("thread_name", "vpid"), ("procname",)])
def test_contexts_are_those_of_the_recording_and_the_tracers_own(recording, own):
    with rings.tracer(contexts=own) as tracer:
        assert tracer.event("e", _contexts=(("k", "u8", lambda: 9),), v="u8")(1)
        assert tracer.event("f")()
        first, second = (record.contexts for record in rings.records(tracer.channel))
    assert list(first) == [*own, "k"] and list(second) == [*own]
    copies = [record.contexts for record in rings.records(recording)]
    ours = {"vpid": os.getpid(), "vtid": os.getpid()}
    assert copies == [{**ours, **first}, {**ours, **second}]


def test_values_and_contexts_are_asked_for_once(recording):
    asked = []

    class Number:
        def __index__(self):
            asked.append("value")
            return 7

    def provide():
        asked.append("context")
        return 8

    with rings.tracer(contexts=(("blob", "bytes", lambda: b"no event has it"), ("c", "u8", provide))) as tracer:
        assert tracer.event("e", n="u8")(Number())
        assert rings.records(tracer.channel)[0].fields == {"n": 7}
    (copy,) = rings.records(recording)
    assert copy.fields == {"n": 7} and copy.contexts["c"] == 8 and "blob" not in copy.contexts
    assert asked == ["context", "value"]


def test_a_full_or_closed_recording_changes_nothing(recording):
    with rings.tracer(contexts=()) as tracer:
        event = tracer.event("e", data="bytes")
        recording.disable()
        assert event(b"x")
        ringbuf.inject.attach(os.environ["RINGBUF_CHANNEL"]).close()
        assert event(b"y")
        assert fields(tracer.channel) == [("e", {"data": b"x"}), ("e", {"data": b"y"})]


def test_a_recording_that_is_gone_is_none(recording, monkeypatch):
    monkeypatch.setenv("RINGBUF_CHANNEL", "/nowhere/channel")
    with rings.tracer(contexts=()) as tracer:
        assert tracer.event("e")()
        assert fields(tracer.channel) == [("e", {})]


def test_a_tracer_of_the_recording_itself_records_once(recording):
    tracer = ringbuf.Tracer.attach(os.environ["RINGBUF_CHANNEL"])
    assert tracer.event("e")()
    assert fields(recording) == [("e", {})]
    tracer.close()


PROGRAM = """
    import multiprocessing, ringbuf

    def work(tracer, n):
        tracer.event("child", n="u8")(n)

    if __name__ == "__main__":
        tracer = ringbuf.Tracer("shop", mode="discard")
        with tracer.record("own"):
            with tracer.span("order", id=17):
                tracer.event("step")()
            for n, method in enumerate(("fork", "spawn", "forkserver")):
                process = multiprocessing.get_context(method).Process(target=work, args=(tracer, n))
                process.start()
                process.join()
        print(tracer.stats().records_written, tracer.stats().records_lost)
"""


def test_a_program_that_records_itself_does_so_as_ever(tmp_path):
    (tmp_path / "shop.py").write_text(textwrap.dedent(PROGRAM))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    alone, both = (
        subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100, check=True)
        for command in (
            [sys.executable, "shop.py"],
            ["sh", "-c", f"rm -r own; exec {sys.executable} -m ringbuf record -o out -- {sys.executable} shop.py"],
        )
    )
    assert both.stdout == alone.stdout
    names = ["order", "step", "span_end", "child", "child", "child"]
    for trace in ("own", "out"):
        assert [event["name"] for event in judge.events(tmp_path / trace)] == names
