"""Warnings of the interpreter, as events ``log`` of the logger ``py.warnings``.

    ringbuf.integrations.warnings.install(tracer)

They are shown as before: filters decide which.
"""

from __future__ import annotations

import warnings

from ..record.log_event import LOG_FIELDS
from ..texts import encodable
from . import tracer_or_default

__all__ = ["install"]

_WARNING = 30


def install(tracer=None):
    """See the module. Returns a function that undoes it."""
    record = tracer_or_default(tracer).event("log", **LOG_FIELDS)
    shown = warnings.showwarning

    def show(message, category, filename, lineno, file=None, line=None) -> None:
        text = f"{category.__name__}: {message}"
        try:
            record(_WARNING, "py.warnings", encodable(text), encodable(str(filename)), max(0, lineno), "", "")
        except ValueError:
            pass  # the channel is closed
        shown(message, category, filename, lineno, file, line)

    def undo() -> None:
        if warnings.showwarning is show:
            warnings.showwarning = shown

    warnings.showwarning = show
    return undo
