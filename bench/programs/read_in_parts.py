"""Reads a trace in parts; prints how much its memory grew at most, in bytes."""

import re
import sys
from pathlib import Path

import numpy  # noqa: F401 - not counted

import ringbuf


def peak():
    """Not ru_maxrss: a process inherits its parent's."""
    return int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1]) * 1024


with ringbuf.open_trace(sys.argv[1]) as trace:
    (name,) = trace.events
    before = peak()
    rows = sum(map(len, trace.iter_numpy(name)))
assert rows
print(peak() - before)
