"""ns of a count with prometheus_client and of the clock, in turns, one line for each round.

    prometheus_counts.py KIND ROUNDS COUNT

KIND: counter or histogram. In its multi-process mode if PROMETHEUS_MULTIPROC_DIR is set, which it looks at when it is
imported: a program of its own.
"""

import sys
import time
import timeit

import prometheus_client

kind, rounds, count = sys.argv[1], *map(int, sys.argv[2:4])
if kind == "counter":
    one = prometheus_client.Counter("requests", "of clients", ["path"]).labels("/")
    statement, names = "inc(3)", {"inc": one.inc}
else:
    one = prometheus_client.Histogram("took", "seconds", ["path"]).labels("/")
    statement, names = "observe(0.25)", {"observe": one.observe}
for _ in range(rounds):
    counted = timeit.timeit(statement, number=count, globals=names)
    clock = timeit.timeit("clock()", number=count, globals={"clock": time.perf_counter_ns})
    print(counted / count * 1e9, clock / count * 1e9)
