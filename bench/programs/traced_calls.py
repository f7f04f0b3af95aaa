"""ns that a call of a function which does nothing takes more while all calls are recorded, and of the clock, in turns.

    traced_calls.py RECORDER ROUNDS COUNT

RECORDER: nothing (two callbacks of sys.monitoring that do nothing), ringbuf, viztracer or trace0. A program of its own,
because pytest-benchmark uses the interpreter's profiling hook too.
"""

import contextlib
import sys
import tempfile
import time
import timeit
from pathlib import Path


def nothing():
    pass


def with_nothing():
    sys.path.insert(0, str(Path(__file__).parents[1]))
    import compiled

    callbacks = compiled.extension("nothing.c")
    monitoring, tool = sys.monitoring, 4
    monitoring.use_tool_id(tool, "nothing")
    monitoring.register_callback(tool, monitoring.events.PY_START, callbacks.begin)
    monitoring.register_callback(tool, monitoring.events.PY_RETURN, callbacks.end)

    @contextlib.contextmanager
    def recording():
        monitoring.set_events(tool, monitoring.events.PY_START | monitoring.events.PY_RETURN)
        yield
        monitoring.set_events(tool, 0)

    return recording


def with_ringbuf():
    import ringbuf
    from ringbuf.record.functions import Functions

    functions = Functions(ringbuf.Tracer("bench", subbuf_size=1 << 20))
    return lambda: functions


def with_viztracer():
    import viztracer

    tracer = viztracer.VizTracer(verbose=0, tracer_entries=200_000)

    @contextlib.contextmanager
    def recording():
        tracer.start()
        yield
        tracer.stop()
        tracer.clear()

    return recording


def with_trace0():
    import trace0

    folder = tempfile.TemporaryDirectory(dir="/dev/shm")

    @contextlib.contextmanager
    def recording():
        with trace0.Tracer(f"{folder.name}/trace.pb"):
            yield

    return recording


def ns(count):
    return timeit.timeit("nothing()", number=count, globals={"nothing": nothing}) / count * 1e9


rounds, count = map(int, sys.argv[2:4])
recording = globals()[f"with_{sys.argv[1]}"]()
for _ in range(rounds):
    with recording():
        ns(100)  # what is made at a first call
        recorded = ns(count)
    clock = timeit.timeit("clock()", number=count, globals={"clock": time.perf_counter_ns})
    print(recorded - ns(count), clock / count * 1e9)
