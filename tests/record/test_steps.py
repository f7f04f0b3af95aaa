"""steps.py: a recording says where the wall clock went while it was made."""

import time

import pytest

import ringbuf
from ringbuf.record import steps
from ringbuf.trace.about import about
from ringbuf.trace.meanings import wall_clock_steps


@pytest.fixture
def set_clock(monkeypatch):
    """Set the wall clock by so many seconds, in all."""
    real = time.time_ns
    monkeypatch.setattr(steps, "_PERIOD", 0.0)

    def set_by(seconds):
        monkeypatch.setattr(time, "time_ns", lambda: real() + int(seconds * 1e9))

    return set_by


def steps_of(directory):
    with ringbuf.open_trace(directory) as trace:
        return wall_clock_steps(trace), trace.time_range, str(about(trace))


def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("kind", ["monotonic", "auto"])
def test_a_recording_has_the_time_of_a_wall_clock_that_was_set_before_it(kind, tmp_path, set_clock):
    tracer = ringbuf.Tracer("weeks", mode="discard", clock=kind)
    before = time.time_ns()
    set_clock(3600)
    with tracer.record(tmp_path / "t"):
        tracer.event("e", n="u32")(1)
    with ringbuf.open_trace(tmp_path / "t") as trace:
        (record,) = trace
    assert before + 3600e9 <= record.timestamp + 1e7 and record.timestamp - 1e7 <= time.time_ns()
    assert steps_of(tmp_path / "t")[0] == []


def test_what_is_set_meanwhile_is_noted_with_its_time_and_no_record_moves(tmp_path, set_clock):
    tracer = ringbuf.Tracer("weeks", mode="discard", clock="monotonic")
    event = tracer.event("e", n="u32")
    with tracer.record(tmp_path / "t") as recorder:
        event(1)
        set_clock(5)
        until(lambda: recorder._steps.noted)
        set_clock(-2.5)
        until(lambda: len(recorder._steps.noted) == 2)
        event(2)
    found, (first, last), text = steps_of(tmp_path / "t")
    assert [round(ahead / 1e9, 2) for _, ahead in found] == [5.0, -2.5]
    assert first - 1e9 <= found[0][0] <= found[1][0] <= last + 1e9
    assert "the wall clock was 5.00 s ahead of these times" in text and "2.50 s behind these times" in text
    with ringbuf.open_trace(tmp_path / "t") as trace:
        one, two = (record.timestamp for record in trace)
    assert 0 < two - one < 60e9


def test_a_clock_of_the_program_s_own_and_one_that_is_not_set_are_left_alone(tmp_path, set_clock):
    for clock in (lambda: 17, "monotonic"):
        tracer = ringbuf.Tracer("own", mode="discard", clock=clock)
        with tracer.record(tmp_path / str(clock == "monotonic")):
            tracer.event("e", n="u32")(1)
        assert steps_of(tmp_path / str(clock == "monotonic"))[0] == []


def test_many_notes_are_thinned(set_clock):
    tracer = ringbuf.Tracer("drifts", mode="discard", clock="monotonic")
    from ringbuf.ctf.layout import clock_info

    found = steps.Steps(tracer.channel, clock_info(tracer.channel))
    for n in range(1, 500):
        set_clock(n)
        assert found.look()
    assert 90 < len(found.noted) <= 200 and len(found.env()) == len(found.noted)
    assert round(found.noted[-1][1] / 1e9) == 499


@pytest.mark.parametrize("text", ["", "1", "x 2", "1 2 3", "-1 2", f"{10**20} 1"])
def test_what_is_no_note_of_ours_is_left_alone(tmp_path, text):
    import timelines

    with timelines.written(tmp_path, (1, "web", [1, 0]), env={"wall_clock_1": text}) as trace:
        assert wall_clock_steps(trace) == []
