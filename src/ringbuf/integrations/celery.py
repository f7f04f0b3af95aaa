"""Celery: a span for each task, which follows from the span that sent it.

    ringbuf.integrations.celery.install(tracer)     # in the module of the app, which senders and workers import

The span ``task`` has the ``name``, the ``id`` and how many ``retries`` went before.
"""

from __future__ import annotations

from celery import signals

from . import LINK_HEADER, tracer_or_default

__all__ = ["install"]

_HEADER = LINK_HEADER.replace("-", "_")


def install(tracer=None) -> None:
    """See the module."""
    tracer = tracer_or_default(tracer)
    run = tracer.span_type("task", name="str", id="str", retries="u32")
    spans: dict = {}  # of tasks that run

    def publish(headers=None, **_) -> None:
        from .._core import current_span

        if headers is not None and current_span():
            headers[_HEADER] = str(current_span())

    def begin(task_id=None, task=None, **_) -> None:
        span = spans[task_id] = run(task.name, str(task_id), task.request.retries or 0)
        span.__enter__()
        link = getattr(task.request, _HEADER, None) or (getattr(task.request, "headers", None) or {}).get(_HEADER)
        if link:
            tracer.follow(link)

    def fail(task_id=None, exception=None, **_) -> None:
        _end(spans.pop(task_id, None), exception)

    def end(task_id=None, **_) -> None:
        _end(spans.pop(task_id, None), None)

    # weak=False: they live as long as the program
    signals.before_task_publish.connect(publish, weak=False)
    signals.task_prerun.connect(begin, weak=False)
    signals.task_failure.connect(fail, weak=False)
    signals.task_postrun.connect(end, weak=False)


def _end(span, error) -> None:
    if span is not None:
        span.__exit__(type(error) if error else None, error, None)
