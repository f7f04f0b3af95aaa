"""ns of a call of a function that does nothing, while all calls are recorded, and of the clock, in turns.

    traced_calls.py RECORDER ROUNDS COUNT

RECORDER: nobody, ringbuf or viztracer. A program of its own, because pytest-benchmark uses the interpreter's profiling
hook too.
"""

import contextlib
import sys
import time
import timeit


def nothing():
    pass


def with_nobody():
    return contextlib.nullcontext


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


rounds, count = map(int, sys.argv[2:4])
recording = {"nobody": with_nobody, "ringbuf": with_ringbuf, "viztracer": with_viztracer}[sys.argv[1]]()
for _ in range(rounds):
    with recording():
        call = timeit.timeit("nothing()", number=count, globals={"nothing": nothing})
    clock = timeit.timeit("clock()", number=count, globals={"clock": time.perf_counter_ns})
    print(call / count * 1e9, clock / count * 1e9)
