"""An ASGI middleware: a span for each request.

    app = ringbuf.integrations.asgi.Middleware(app, tracer)         # Starlette, FastAPI: app.add_middleware(Middleware)

The span ``request`` has ``method`` and ``path``, and lasts until the application returns; within it, the event
``response`` has the ``status``. A websocket is a request with the method ``WEBSOCKET``. A request with the header
``x-ringbuf-link`` follows from the span that it names.
"""

from __future__ import annotations

from . import LINK_HEADER, tracer_or_default

__all__ = ["Middleware"]

_LINK = LINK_HEADER.encode()


class Middleware:
    """An application that runs another one in spans. See the module."""

    def __init__(self, app, tracer=None) -> None:
        self._app = app
        self._tracer = tracer_or_default(tracer)
        self._request = self._tracer.span_type("request", method="str", path="str")
        self._response = self._tracer.event("response", status="u16")

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return

        async def tell(message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                self._response(message["status"])
            await send(message)

        with self._request(scope.get("method", "WEBSOCKET"), scope["path"].encode("utf-8", "replace").decode()):
            for name, value in scope["headers"]:
                if name == _LINK:
                    self._tracer.follow(value)
            await self._app(scope, receive, tell)
