"""Is the core ours alone? On a virtual machine, somebody else may be running on its other thread.

Code that keeps a core busy takes up to twice as long then, code that waits for memory or for the kernel less, so
ratios change, too. Benchmarks wait for a core of their own, and leave out the rounds in which it was taken from them.
"""

import ctypes
import functools
import os
import time

import compiled

SHARED = 1.15  # times the load of a core of our own
FIRST_LOOK = 2.0  # seconds in which the core is taken to be ours once


class Core:
    """The CPUs that the calling thread may use, and the least load of a core that was seen."""

    def __init__(self, load, first_look=FIRST_LOOK):
        self._load, self._least = load, load()
        end = time.monotonic() + first_look
        while time.monotonic() < end:
            self.load()
            time.sleep(0.001)

    def load(self):
        """The load of the busiest of the CPUs."""
        allowed = os.sched_getaffinity(0)
        try:
            return max(map(self._load_of, allowed))
        finally:
            os.sched_setaffinity(0, allowed)

    def _load_of(self, cpu):
        os.sched_setaffinity(0, {cpu})
        load = self._load()
        self._least = min(self._least, load)
        return load

    def is_own(self):
        return self.load() < SHARED * self._least


@functools.cache
def the_core():
    return Core(compiled.library("core.c", core_load=(ctypes.c_double,)).core_load)


class Patience:
    """So many seconds a benchmark waits, in all, for a core of its own. With none it does not look."""

    seconds = 6.0  # of each; conftest.py sets it

    def __init__(self):
        self._left = self.seconds

    def wait(self):
        """Until the core is ours, or there is no patience left. Is it ours?"""
        if not self.seconds:
            return True
        began = time.monotonic()
        while not (is_own := the_core().is_own()) and time.monotonic() - began < self._left:
            time.sleep(0.001)
        self._left -= time.monotonic() - began
        return is_own

    def is_own(self):
        return not self.seconds or the_core().is_own()
