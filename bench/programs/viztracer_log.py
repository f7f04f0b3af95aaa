"""ns of a log call with VizTracer's handler and of the clock, in turns, one line for each round.

    viztracer_log.py ROUNDS COUNT

A program of its own, because pytest-benchmark uses the interpreter's profiling hook too.
"""

import logging
import sys
import time
import timeit

import viztracer
from viztracer.vizlogging import VizLoggingHandler

rounds, count = map(int, sys.argv[1:3])
tracer = viztracer.VizTracer(verbose=0, tracer_entries=200_000, max_stack_depth=0)
handler = VizLoggingHandler()
handler.setTracer(tracer)
logger = logging.Logger("bench", logging.INFO)
logger.addHandler(handler)
for _ in range(rounds):
    tracer.start()
    record = timeit.timeit("log('order %d', 12345)", number=count, globals={"log": logger.info})
    tracer.stop()
    tracer.clear()
    clock = timeit.timeit("clock()", number=count, globals={"clock": time.perf_counter_ns})
    print(record / count * 1e9, clock / count * 1e9)
