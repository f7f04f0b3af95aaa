"""Records of `logging`, as typed events."""

from __future__ import annotations

import logging
import threading

from ..texts import encodable
from .log_event import LOG_FIELDS

__all__ = ["LoggingHandler"]

_traceback = logging.Formatter()


class LoggingHandler(logging.Handler):
    """Records what is logged as events ``log``, in a tracer's buffers.

    Their fields are ``level``, ``logger``, ``message``, ``file``, ``line``, ``function``, and
    ``exception``: the traceback, and the stack where one was asked for. No formatter is needed.
    What does not fit a sub-buffer is lost, and counted (`Stats.records_lost_big`).

    Parameters
    ----------
    tracer : Tracer
    level : int or str
        Records below are left out.

    It takes no lock: other threads, and a fork, never wait for it. Trouble is told as
    `logging.Handler.handleError` does, and does not reach who logs.

    >>> logging.getLogger().addHandler(ringbuf.LoggingHandler(tracer))
    """

    def __init__(self, tracer, level: int | str = logging.NOTSET) -> None:
        super().__init__(level)
        self._record = tracer.event("log", **LOG_FIELDS)
        self._failing = threading.local()

    def createLock(self) -> None:
        """None: events may be recorded at any time."""
        self.lock = None

    def handle(self, record: logging.LogRecord):
        """As that of any handler, but without a lock."""
        found = self.filter(record)
        if isinstance(found, logging.LogRecord):  # a filter may replace it, from Python 3.12 on
            record = found
        if found:
            self.emit(record)
        return found

    def emit(self, record: logging.LogRecord) -> None:
        """Record it."""
        try:
            values = _values(record)
            try:
                self._record(*values)
            except UnicodeEncodeError:
                self._record(*(encodable(value) if isinstance(value, str) else value for value in values))
        except Exception:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """As that of any handler; it prints to ``sys.stderr``, and what that may log is not told again."""
        if getattr(self._failing, "now", False):
            return
        self._failing.now = True
        try:
            super().handleError(record)
        finally:
            self._failing.now = False


def _values(record: logging.LogRecord) -> tuple:
    message, exception = record.getMessage(), _exception(record)
    file, line, function = record.pathname or "", record.lineno or 0, record.funcName or ""
    return record.levelno, record.name or "", message, file, line, function, exception


def _exception(record: logging.LogRecord) -> str:
    if not (record.exc_info or record.exc_text or record.stack_info):
        return ""
    text = record.exc_text or (_traceback.formatException(record.exc_info) if record.exc_info else "")
    return "\n".join(filter(None, (text, record.stack_info)))
