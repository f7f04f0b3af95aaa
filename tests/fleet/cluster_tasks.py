"""Tasks for tests. Workers import this module, also those that have no ringbuf and no pytest."""

import time


def slow(number, seconds=0.2):
    time.sleep(seconds)
    return number


def spin(number):
    """Record something of its own."""
    import ringbuf

    tracer = ringbuf.Tracer("mine")
    tracer.event("mine", n="u32")(number)
    slow(number, 0.5)
    return tracer.channel.path


def fail(number):
    raise KeyError("nothing is called so")


def ask_for_a_snapshot():
    import ringbuf.dask

    ringbuf.dask.trigger("too slow")


def is_recorded(dask_worker):
    return getattr(dask_worker.plugins.get("ringbuf"), "recording", None) is not None
