"""loguru: what is logged, as events ``log``.

logger.add(ringbuf.integrations.loguru.sink(tracer))
"""

from __future__ import annotations

import traceback

from ..record.log_event import LOG_FIELDS
from ..texts import encodable
from . import tracer_or_default

__all__ = ["sink"]


def sink(tracer=None):
    """A function for `logger.add`. Its keyword arguments choose levels and filters, as for any sink."""
    record_log = tracer_or_default(tracer).event("log", **LOG_FIELDS)

    def write(message) -> None:
        record = message.record
        error = record["exception"]
        told = "" if error is None else "".join(traceback.format_exception(error.type, error.value, error.traceback))
        texts = (record["name"] or "", record["message"], record["file"].path, record["function"], told.rstrip("\n"))
        logger, text, file, function, exception = map(encodable, texts)
        record_log(record["level"].no, logger, text, file, record["line"], function, exception)

    return write
