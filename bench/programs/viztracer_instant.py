"""ns of VizTracer.log_instant and of the clock, in turns, one line for each round; or a file of instants.

    viztracer_instant.py ROUNDS COUNT [FILE]

A program of its own, because pytest-benchmark uses the interpreter's profiling hook too.
"""

import sys
import time
import timeit

import viztracer

rounds, count = map(int, sys.argv[1:3])
tracer = viztracer.VizTracer(verbose=0, tracer_entries=200_000, max_stack_depth=0)
if len(sys.argv) > 3:
    tracer.start()
    for _ in range(count):
        tracer.log_instant("order", {"n": 12345, "path": "/pay", "ms": 3.25})
    tracer.stop()
    tracer.save(sys.argv[3])
    sys.exit()
for _ in range(rounds):
    tracer.start()
    record = timeit.timeit("log('order', {'n': 12345})", number=count, globals={"log": tracer.log_instant})
    tracer.stop()
    tracer.clear()
    clock = timeit.timeit("clock()", number=count, globals={"clock": time.perf_counter_ns})
    print(record / count * 1e9, clock / count * 1e9)
