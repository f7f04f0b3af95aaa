"""SQLAlchemy: a span for each statement that a cursor executes.

    ringbuf.integrations.sqlalchemy.install(engine, tracer)     # an engine, an AsyncEngine, or Engine, the class: all

The span ``query`` has the ``database`` (its name) and the ``statement``, without its parameters; one that fails ends
with its error.
"""

from __future__ import annotations

from sqlalchemy import event

from . import tracer_or_default

__all__ = ["install"]

_SPAN = "_ringbuf_span"


def install(engine, tracer=None) -> None:
    """See the module. Thread safety: as `sqlalchemy.event.listen`."""
    queried = tracer_or_default(tracer).span_type("query", database="str", statement="str")
    target = getattr(engine, "sync_engine", engine)

    def before(connection, cursor, statement, parameters, context, executemany) -> None:
        span = queried(str(connection.engine.url.database or ""), statement.encode("utf-8", "replace").decode())
        span.__enter__()
        setattr(context, _SPAN, span)

    def after(connection, cursor, statement, parameters, context, executemany) -> None:
        _end(context, None)

    def failed(exception) -> None:
        _end(exception.execution_context, exception.original_exception)

    event.listen(target, "before_cursor_execute", before)
    event.listen(target, "after_cursor_execute", after)
    event.listen(target, "handle_error", failed)


def _end(context, error) -> None:
    span = getattr(context, _SPAN, None)
    if span is not None:
        setattr(context, _SPAN, None)
        span.__exit__(type(error) if error else None, error, None)
