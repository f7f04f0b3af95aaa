"""ns for each call of a function that does little but call, and of the clock, in turns; it may run under a recorder.

fib.py ROUNDS N
"""

import sys
import time
import timeit


def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def calls_of(n):
    """How many calls fib(n) is."""
    before, now = 1, 1
    for _ in range(n - 1):
        before, now = now, before + now + 1
    return now


rounds, n = map(int, sys.argv[1:3])
for _ in range(rounds):
    began = time.perf_counter_ns()
    fib(n)
    each = (time.perf_counter_ns() - began) / calls_of(n)
    print(each, timeit.timeit("clock()", number=1000, globals={"clock": time.perf_counter_ns}) * 1e6)
