"""A WSGI middleware: a span for each request.

    app = ringbuf.integrations.wsgi.Middleware(app, tracer)

The span ``request`` has ``method`` and ``path``, and lasts until the last byte of the answer is there; within it, the
event ``response`` has the ``status``. A request with the header ``x-ringbuf-link`` follows from the span that it names.
"""

from __future__ import annotations

from . import LINK_HEADER, tracer_or_default

__all__ = ["Middleware"]

_LINK = "HTTP_" + LINK_HEADER.upper().replace("-", "_")


class Middleware:
    """An application that runs another one in spans. See the module."""

    def __init__(self, app, tracer=None) -> None:
        self._app = app
        self._tracer = tracer_or_default(tracer)
        self._request = self._tracer.span_type("request", method="str", path="str")
        self._response = self._tracer.event("response", status="u16")

    def __call__(self, environ, start_response):
        span = self._request(_text(environ.get("REQUEST_METHOD")), _text(environ.get("PATH_INFO")))
        span.__enter__()
        try:
            if _LINK in environ:
                self._tracer.follow(environ[_LINK])

            def start(status, headers, *error):
                self._response(_status(status))
                return start_response(status, headers, *error)

            return _Answer(self._app(environ, start), span)
        except BaseException as error:
            span.__exit__(type(error), error, error.__traceback__)
            raise


class _Answer:
    """What the application answers, a piece at a time; the span ends with it."""

    def __init__(self, answer, span) -> None:
        self._answer, self._span = answer, span
        self._pieces = iter(answer)
        self._is_open = True

    def __iter__(self):
        return self

    def __next__(self):
        try:
            return next(self._pieces)
        except StopIteration:
            self._end(None)
            raise
        except BaseException as error:
            self._end(error)
            raise

    def _end(self, error) -> None:
        if self._is_open:
            self._is_open = False
            self._span.__exit__(type(error) if error else None, error, None)

    def close(self) -> None:
        try:
            if hasattr(self._answer, "close"):
                self._answer.close()
        finally:
            self._end(None)


def _text(value) -> str:
    """What WSGI says is text has the bytes of another one: UTF-8, as a rule."""
    return (value or "").encode("latin-1", "replace").decode("utf-8", "replace")


def _status(status: str) -> int:
    return int(status[:3]) if status[:3].isdecimal() else 0
