"""Django: a span for each request, and for each query of a database within it.

    MIDDLEWARE = ["ringbuf.integrations.django.middleware", ...]

For synchronous and asynchronous views. The span ``request`` has ``method`` and ``path``; the event ``response`` in it
the ``status`` and the ``view``'s name; the span ``query`` the database's alias and the ``statement``, without its
parameters. The tracer is that of `ringbuf.integrations.use`, or a flight recorder called ``app``.
"""

from __future__ import annotations

import contextlib

from asgiref.sync import iscoroutinefunction
from django.db import connections
from django.utils.decorators import sync_and_async_middleware

from . import LINK_HEADER, tracer_or_default

__all__ = ["middleware"]


@sync_and_async_middleware
def middleware(get_response):
    """See the module."""
    tracer = tracer_or_default()
    requested = tracer.span_type("request", method="str", path="str")
    responded = tracer.event("response", status="u16", view="str")
    queried = tracer.span_type("query", database="str", statement="str")

    def run_query(execute, sql, params, many, context):
        with queried(context["connection"].alias, _text(str(sql))):
            return execute(sql, params, many, context)

    @contextlib.contextmanager
    def within(request):
        with contextlib.ExitStack() as stack:
            stack.enter_context(requested(request.method or "", _text(request.path)))
            if LINK_HEADER in request.headers:
                tracer.follow(request.headers[LINK_HEADER])
            for connection in connections.all():
                stack.enter_context(connection.execute_wrapper(run_query))
            yield

    def note(request, response):
        match = getattr(request, "resolver_match", None)
        responded(response.status_code, _text(match.view_name or "") if match else "")
        return response

    async def answer_later(request):
        with within(request):
            return note(request, await get_response(request))

    def answer(request):
        with within(request):
            return note(request, get_response(request))

    return answer_later if iscoroutinefunction(get_response) else answer


def _text(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
