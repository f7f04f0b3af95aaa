"""structlog: what is logged, as events ``log``, with its key-value pairs in the message.

    structlog.configure(processors=[..., ringbuf.integrations.structlog.Processor(tracer), renderer])

It passes on what it gets, unchanged: put it where the pairs are as they should be recorded.
"""

from __future__ import annotations

import logging
import sys

from ..record.log_event import LOG_FIELDS
from ..texts import encodable
from . import tracer_or_default

__all__ = ["Processor"]

_LEVELS = {
    "debug": 10,
    "info": 20,
    "warning": 30,
    "warn": 30,
    "error": 40,
    "exception": 40,
    "critical": 50,
    "fatal": 50,
}
_HIDDEN = ("event", "level", "logger", "exc_info", "exception", "timestamp")


class Processor:
    """See the module."""

    def __init__(self, tracer=None) -> None:
        self._record = tracer_or_default(tracer).event("log", **LOG_FIELDS)

    def __call__(self, logger, method_name: str, event_dict):
        message = str(event_dict.get("event", ""))
        pairs = " ".join(f"{name}={value!r}" for name, value in event_dict.items() if name not in _HIDDEN)
        name = event_dict.get("logger") or getattr(logger, "name", None) or ""
        frame = _caller()
        texts = [
            str(name),
            f"{message} {pairs}".rstrip(),
            frame.f_code.co_filename,
            frame.f_code.co_name,
            _error(event_dict),
        ]
        logger_name, text, file, function, error = map(encodable, texts)
        self._record(_LEVELS.get(method_name, 0), logger_name, text, file, frame.f_lineno, function, error)
        return event_dict


def _caller():
    """The frame that logs."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "structlog":
        frame = frame.f_back
    return frame


def _error(event_dict) -> str:
    found = event_dict.get("exc_info")
    if found is True:
        found = sys.exc_info()
    elif isinstance(found, BaseException):
        found = (type(found), found, found.__traceback__)
    if isinstance(found, tuple) and found[0] is not None:
        return logging.Formatter().formatException(found)
    return str(event_dict.get("exception") or "")
