"""last.py: a trace says which processes ended while they recorded, and what they left open ends with them."""

import multiprocessing
import os
import signal
import time

import pytest
import timelines
from rings import eventually

import ringbuf
from ringbuf.ctf.layout import clock_info
from ringbuf.record import processes
from ringbuf.record.last import Watch, ended_env
from ringbuf.trace.meanings import Ended, ended

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def tracer(tmp_path):
    with ringbuf.Tracer("last", mode="discard", path=tmp_path / "last.ring", contexts=["vpid", "vtid"]) as tracer:
        yield tracer


def work(tracer, ready):
    with tracer.span("request"):
        ready.set()
        time.sleep(600)


def killed(tracer, is_seen=lambda pid: True):
    """A process in the middle of a span, until it was seen there and killed."""
    ready = FORK.Event()
    process = FORK.Process(target=work, args=(tracer, ready))
    process.start()
    assert ready.wait(60)
    eventually(lambda: is_seen(process.pid))
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    return process.pid


def request_in(directory):
    with ringbuf.open_trace(directory) as trace:
        (request,) = trace.spans("request")
        return request, ended(trace), trace.time_range


def test_a_recording_tells_of_a_process_that_was_killed(tracer, tmp_path):
    with tracer.record(tmp_path / "t") as recorder:
        watch, before = recorder._watch, time.time_ns()

        def is_seen(pid):
            seen = [one.seen for (of, _, _), one in list(watch._living.items()) if of == pid]
            return seen and min(seen) > before + 300_000_000

        pid = killed(tracer, is_seen)
        after = time.time_ns()
        eventually(lambda: watch.ended)
        tracer.event("later", n="u8")(1)
    request, gone, (_, end) = request_in(tmp_path / "t")
    assert [one.pid for one in gone] == [pid] and before < gone[0].seen <= after
    assert (request.end_missing, request.thread.pid) == ("died", pid)
    assert request.duration > 0 and request.end <= after < end


def test_a_recovery_tells_of_it(tmp_path):
    tracer = ringbuf.Tracer("last", mode="discard", path=tmp_path / "r.ring", contexts=["vpid", "vtid"])
    tracer.event("first", n="u8")(1)  # this thread has a place, and takes none from the dead
    pid = killed(tracer)
    tracer.event("first", n="u8")(2)
    tracer.channel.close()
    ringbuf.recover(tmp_path / "r.ring", tmp_path / "t")
    request, gone, _ = request_in(tmp_path / "t")
    assert pid in {one.pid for one in gone} and request.end_missing == "died"


def test_a_thread_that_ends_well_is_no_process_that_ended(tracer, tmp_path):
    import threading

    with tracer.record(tmp_path / "t"):
        event = tracer.event("x", n="u8")
        event(1)
        thread = threading.Thread(target=event, args=(2,))
        thread.start()
        thread.join()
        time.sleep(0.3)
    with ringbuf.open_trace(tmp_path / "t") as trace:
        assert ended(trace) == []


def test_what_is_closed_is_not_looked_at(tmp_path):
    tracer = ringbuf.Tracer("x")
    watch = Watch(tracer.channel, clock_info(tracer.channel))
    tracer.channel.close()
    assert not watch.look()


@pytest.mark.parametrize("thread", ["main", "two words", "", 'a "name"\\', "new\nline"])
def test_what_a_trace_says_comes_back(tmp_path, thread):
    words = [Ended(1, 2, 3, None, 0, thread), Ended(4, 5, None, 6, 7, thread)]
    with timelines.written(tmp_path, (1, "web", [1, 0]), env=ended_env(words)) as trace:
        assert ended(trace) == words


@pytest.mark.parametrize(
    "text", ["", "1", "x 2 3 4 5 name", "1 2 3 4", "99999999999 1 1 1 1 a", "-1 2 3 4 5 a", f"1 2 {2**64} 0 0 a"]
)
def test_what_is_no_word_of_ours_is_left_alone(tmp_path, text):
    with timelines.written(tmp_path, (1, "web", [1, 0]), env={"ended_1": text, "ended_x": 17}) as trace:
        assert ended(trace) == []


def test_who_lives():
    with open(f"/proc/{os.getpid()}/stat", "rb") as file:
        start = int(file.read().rpartition(b")")[2].split()[19])
    assert processes.lives(os.getpid(), start) and not processes.lives(os.getpid(), start + 1)
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert not processes.lives(child, 0)
    os.waitpid(child, 0)
