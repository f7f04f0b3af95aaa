"""Tasks for tests. Workers import this module, also those that have no ringbuf and no pytest."""

import os
import time


def slow(number, seconds=0.2):
    time.sleep(seconds)
    return number


def hang(folder):
    """Say so in the folder, and go on for longer than any test."""
    open(os.path.join(folder, str(os.getpid())), "w").close()
    time.sleep(600)


def spin(number, folder):
    """Record something of its own, and say so; until it is told to end."""
    import ringbuf

    tracer = ringbuf.Tracer("mine")
    tracer.event("mine", n="u32")(number)
    open(os.path.join(folder, "recorded"), "w").close()
    while not os.path.exists(os.path.join(folder, "end")):
        time.sleep(0.05)
    return tracer.channel.path


def fail(number):
    raise KeyError("nothing is called so")


def ask_for_a_snapshot():
    import ringbuf.dask

    ringbuf.dask.trigger("too slow")


def is_recorded(dask_worker):
    return getattr(dask_worker.plugins.get("ringbuf"), "recording", None) is not None
