"""What every Python that has ringbuf installed asks at its start: is there something to do?

ringbuf_trace.pth, and from Python 3.15 on ringbuf_trace.start, call `start`. A module of its own, so that a Python that
is not to record anything does not import ringbuf.
"""

import os

_is_begun = False  # a folder may be looked into twice, and ringbuf be installed in two


def start():
    """Record what the environment says, if it says something. The program does not fail of it."""
    global _is_begun
    if not _is_begun and (os.environ.get("RINGBUF") or os.environ.get("RINGBUF_LISTEN")):
        _is_begun = True
        try:
            from ringbuf.inject import flight
        except ImportError:
            return  # it is being installed, or removed
        flight.start()
