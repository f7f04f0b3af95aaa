"""Run by Debian's Python under LTTng: ns of a logged message and of the clock, in turns, one line for each round."""

import logging
import sys
import time
import timeit

import lttngust  # noqa: F401 - hands what is logged to LTTng

rounds, count = map(int, sys.argv[1:])
log = logging.getLogger("bench")
log.setLevel(logging.INFO)
for _ in range(rounds):
    record = timeit.timeit("log('order %d', 12345)", number=count, globals={"log": log.info})
    clock = timeit.timeit("clock()", number=count, globals={"clock": time.perf_counter_ns})
    print(record / count * 1e9, clock / count * 1e9)
