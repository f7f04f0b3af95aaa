"""Runs the same loop in several threads or processes at once, each on a CPU of its own."""

import ctypes
import os
import signal
import struct
import threading

PR_SET_PDEATHSIG = 1
RUN, END = b"r", b"e"


def in_threads(cpus, loop):
    """loop(index) in a thread on each CPU, from the same moment on; the results. The loop must let go of the GIL."""
    barrier, results = threading.Barrier(len(cpus)), [None] * len(cpus)

    def run(index, cpu):
        os.sched_setaffinity(0, {cpu})
        barrier.wait()
        results[index] = loop(index)

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(cpus)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


class Processes:
    """Forked children, each on a CPU of its own, that run loop(index), a float, whenever they are told to."""

    def __init__(self, cpus, loop):
        self._children = [self._fork(index, cpu, loop) for index, cpu in enumerate(cpus)]

    @staticmethod
    def _fork(index, cpu, loop):
        orders, results = os.pipe(), os.pipe()
        pid = os.fork()
        if pid:
            os.close(orders[0])
            os.close(results[1])
            return pid, orders[1], results[0]
        try:
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            os.sched_setaffinity(0, {cpu})
            # No wait for the end of the pipe: later children have its other end, too.
            while os.read(orders[0], 1) == RUN:
                os.write(results[1], struct.pack("d", loop(index)))
        finally:
            os._exit(0)

    def run(self):
        """One turn of the loop in every child; the results."""
        for _, orders, _ in self._children:
            os.write(orders, RUN)
        return [struct.unpack("d", os.read(results, 8))[0] for _, _, results in self._children]

    def close(self):
        for pid, orders, results in self._children:
            os.write(orders, END)
            os.waitpid(pid, 0)
            os.close(orders)
            os.close(results)
