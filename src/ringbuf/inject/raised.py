"""Exceptions as they are raised, and runs of the garbage collector, without running any of the program's code."""

import sys
import time

from ..texts import encodable
from .audit import describe

__all__ = ["record_collections", "record_exceptions"]


def record_exceptions(sink, include=(), exclude=()) -> bool:
    """Each exception, whoever catches it, as an event ``exception``. False: that takes Python 3.12.

    Recorded once, where it comes to a module that is wanted, as of `Functions`; told is where it was raised.
    """
    monitoring = getattr(sys, "monitoring", None)
    if monitoring is None:
        return False
    from ..record.functions import is_wanted, take_tool

    event = sink.event("exception", type="str", args="str", file="str", line="u32", function="str")
    known: dict = {}

    def wants(frame) -> bool:
        module = frame.f_globals.get("__name__", "?")
        if type(module) is not str:
            return False
        if module not in known:
            known[module] = is_wanted(module, include, exclude)
        return known[module]

    def raised(_code, _offset, error) -> None:
        at = error.__traceback__
        if at is None or not wants(at.tb_frame):
            return
        while at.tb_next is not None:
            at = at.tb_next
            if wants(at.tb_frame):
                return  # it was recorded there
        code, args = at.tb_frame.f_code, describe(BaseException.args.__get__(error))
        where = encodable(code.co_filename), at.tb_lineno or 0, encodable(code.co_qualname)
        event(encodable(type(error).__qualname__), args, *where)

    tool = take_tool(monitoring)
    monitoring.register_callback(tool, monitoring.events.RAISE, raised)
    monitoring.set_events(tool, monitoring.events.RAISE)
    return True


def record_collections(sink) -> None:
    """Each run of the garbage collector, at its end, as an event ``gc``."""
    import gc

    event = sink.event("gc", generation="u8", collected="u64", uncollectable="u64", ns="u64")
    began = [0]

    def collects(phase, info) -> None:
        if phase == "start":
            began[0] = time.monotonic_ns()
        elif began[0]:
            ns, began[0] = time.monotonic_ns() - began[0], 0
            event(info["generation"], info["collected"], info["uncollectable"], ns)

    gc.callbacks.append(collects)
