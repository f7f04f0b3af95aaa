"""What a signal handler raises while a callback of ours runs: it is the program's, and reaches the program."""

import functools
import os
import signal
import threading
import time

import pytest
import rings

import ringbuf


class Asked(Exception):
    """To end."""


def raise_asked(*_args):
    raise Asked


class Handler:
    def method(self, number, frame):
        raise_asked()

    def __call__(self, number, frame):
        raise_asked()


HANDLERS = {
    "function": raise_asked,
    "lambda": lambda *args: raise_asked(),
    "method": Handler().method,
    "object": Handler(),
    "partial": functools.partial(raise_asked, 1),
    "exit": lambda *args: exit(3),
    "default": signal.default_int_handler,
}
RAISED = {"exit": SystemExit, "default": KeyboardInterrupt}


@pytest.fixture
def reports(monkeypatch):
    found = []
    monkeypatch.setattr("sys.unraisablehook", lambda report: found.append(report.exc_type))
    return found


def interrupted(handler, raised, tracer, call):
    """Call until a signal's exception comes through, which must be that of the one signal that is sent."""
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(raised):
            for _ in range(1000):
                call()
        return tracer.stats()
    finally:
        signal.signal(signal.SIGUSR1, before)


def sends_once(value):
    """A callback in which one signal arrives, at its third call."""
    calls = iter(range(1 << 60))

    def callback():
        if next(calls) == 2:
            os.kill(os.getpid(), signal.SIGUSR1)
            for _ in range(100):
                pass  # here the handler runs
        return value() if callable(value) else value

    return callback


@pytest.mark.parametrize("how", HANDLERS)
def test_an_exception_in_a_clock_reaches_the_program_and_no_record_is_lost(how, reports):
    with rings.tracer(clock=sends_once(time.monotonic_ns)) as tracer:
        stats = interrupted(HANDLERS[how], RAISED.get(how, Asked), tracer, tracer.event("e"))
        assert 0 < stats.records_written <= 3 and stats.records_lost == 0
    assert reports == []


@pytest.mark.parametrize("how", HANDLERS)
def test_an_exception_in_a_provider_reaches_the_program(how, reports):
    with rings.tracer(contexts=(("n", "u64", sends_once(7)),)) as tracer:
        stats = interrupted(HANDLERS[how], RAISED.get(how, Asked), tracer, tracer.event("e"))
        assert stats.records_written == 3
    assert reports == []


def test_what_a_callback_raises_itself_is_reported_and_goes_no_further(reports):
    def fail():
        raise Asked

    before = signal.signal(signal.SIGUSR1, lambda *args: None)
    try:
        with rings.tracer(contexts=(("n", "u64", fail),)) as tracer:
            event = tracer.event("e")
            assert event() and event()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert reports == [Asked, Asked]


def test_a_thread_that_is_told_to_exit_exits():
    def leave():
        raise SystemExit

    done = []

    def work():
        try:
            event()
            for _ in range(1000):
                pass
        except SystemExit:
            done.append(True)

    with rings.tracer(contexts=(("n", "u64", leave),)) as tracer:
        event = tracer.event("e")
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert tracer.stats() == ringbuf.Stats(records_written=1, records_unread=1)
    assert done == [True]


def test_the_traceback_is_the_handlers(reports):
    with rings.tracer(contexts=(("n", "u64", sends_once(7)),)) as tracer:
        before = signal.signal(signal.SIGUSR1, raise_asked)
        try:
            with pytest.raises(Asked) as caught:
                event = tracer.event("e")
                for _ in range(10):
                    event()
        finally:
            signal.signal(signal.SIGUSR1, before)
    assert [entry.name for entry in caught.traceback][-2:] == ["callback", "raise_asked"]
