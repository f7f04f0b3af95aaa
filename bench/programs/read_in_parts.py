"""Reads a trace in parts; prints how much its memory grew at most, in bytes."""

import resource
import sys

import numpy  # noqa: F401 - not counted

import ringbuf


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


with ringbuf.open_trace(sys.argv[1]) as trace:
    (name,) = trace.events
    before = peak()
    rows = sum(map(len, trace.iter_numpy(name)))
assert rows
print(peak() - before)
