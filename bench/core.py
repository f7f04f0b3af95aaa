"""Is the core ours alone? On a virtual machine, somebody else may be running on its other thread.

Code that keeps a core busy takes up to twice as long then, code that waits for memory or for the kernel less, so
ratios change, too. Benchmarks wait for a core of their own, and leave out the rounds in which it was taken from them.
"""

import bisect
import ctypes
import functools
import os
import time

import compiled

SHARED = 1.15  # times the load of a core of our own
FEW = 50  # one load in so many is less than that of a core of our own: the clock slips, too
FIRST_LOOK = 2.0  # seconds in which the core is taken to be ours once


class Core:
    """The CPUs that the calling thread may use, and what their loads were whenever somebody asked."""

    def __init__(self, load, first_look=FIRST_LOOK):
        self._load, self._seen = load, []
        end = time.monotonic() + first_look
        self.is_own()
        while time.monotonic() < end:
            time.sleep(0.001)
            self.is_own()

    def is_own(self):
        load = self._busiest()
        bisect.insort(self._seen, load)
        return self._is_small(load)

    def wait(self, seconds):
        """Until the core is ours, so long at most. Is it?"""
        end = time.monotonic() + seconds
        while not (is_own := self._is_small(self._busiest())) and time.monotonic() < end:
            time.sleep(0.001)
        return is_own

    def _is_small(self, load):
        return load < SHARED * self._seen[len(self._seen) // FEW]

    def _busiest(self):
        """The load of the busiest of the CPUs."""
        allowed = os.sched_getaffinity(0)
        try:
            return max(map(self._load_of, allowed))
        finally:
            os.sched_setaffinity(0, allowed)

    def _load_of(self, cpu):
        os.sched_setaffinity(0, {cpu})
        return self._load()


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
        is_own = the_core().wait(self._left)
        self._left -= time.monotonic() - began
        return is_own

    def is_own(self):
        return not self.seconds or the_core().is_own()
