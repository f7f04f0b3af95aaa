"""Web applications that show metrics, for whatever server there is: ASGI and WSGI."""

from __future__ import annotations

from .exposition import CONTENT_TYPES, exposition
from .process import take_samples
from .reading import read

__all__ = ["asgi_app", "page", "wsgi_app"]


def wsgi_app(*targets):
    """A WSGI application: the metrics of these, summed over all processes, whichever of them answers.

    Parameters
    ----------
    *targets : Tracer, Channel, or as for `ringbuf.attach`

    OpenMetrics for those who accept it, else Prometheus's own format.
    """

    def app(environ, start_response):
        method = environ.get("REQUEST_METHOD", "GET")
        if method not in ("GET", "HEAD"):
            start_response(
                "405 Method Not Allowed",
                [("Allow", "GET, HEAD"), ("Content-Type", "text/plain"), ("Content-Length", "0")],
            )
            return [b""]
        kind, body = page(targets, environ.get("HTTP_ACCEPT", ""))
        start_response("200 OK", [("Content-Type", kind), ("Content-Length", str(len(body)))])
        return [body if method == "GET" else b""]

    return app


def asgi_app(*targets):
    """An ASGI application: as `wsgi_app`."""

    async def app(scope, receive, send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        if scope["type"] != "http":
            raise ValueError(f"metrics are shown to HTTP requests, not to {scope['type']}")
        accept = b",".join(value for name, value in scope["headers"] if name.lower() == b"accept").decode("latin-1")
        status, kind, body = 405, "text/plain", b""
        if scope["method"] in ("GET", "HEAD"):
            status, (kind, body) = 200, page(targets, accept)
        headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
        if status == 405:
            headers.append((b"allow", b"GET, HEAD"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    return app


async def _live(receive, send) -> None:
    """The server asks whether we are ready, and says when it ends."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def page(targets, accept: str) -> tuple[str, bytes]:
    """The type and the bytes of an answer to a request that accepts this."""
    openmetrics = "application/openmetrics-text" in accept
    take_samples()
    channels = [(_name(target), read(target)) for target in targets]
    return CONTENT_TYPES[openmetrics], exposition(channels, openmetrics=openmetrics).encode("utf-8", "replace")


def _name(target) -> str:
    return str(getattr(target, "name", target))
