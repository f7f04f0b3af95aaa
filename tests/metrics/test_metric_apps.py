"""The WSGI and the ASGI application that show metrics."""

import asyncio
import wsgiref.util
import wsgiref.validate

import pytest

import ringbuf
from ringbuf.metrics import asgi_app, wsgi_app

OPENMETRICS = "application/openmetrics-text; version=1.0.0,text/plain;q=0.5"


@pytest.fixture
def tracer():
    with ringbuf.Tracer("shop") as tracer:
        tracer.counter("hits")(3)
        yield tracer


def wsgi(app, method="GET", accept="*/*"):
    environ = {"REQUEST_METHOD": method, "HTTP_ACCEPT": accept, "QUERY_STRING": ""}
    wsgiref.util.setup_testing_defaults(environ)
    answer = {}

    def start_response(status, headers, exc_info=None):
        answer.update(status=status, headers=dict(headers))

    result = wsgiref.validate.validator(app)(environ, start_response)
    answer["body"] = b"".join(result).decode()
    result.close()
    return answer


def asgi(app, method="GET", accept="*/*"):
    sent = []

    async def send(message):
        sent.append(message)

    headers = [(b"accept", accept.encode())]
    asyncio.run(app({"type": "http", "method": method, "headers": headers}, None, send))
    start, body = sent
    found = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], found, body["body"].decode()


def test_wsgi(tracer):
    answer = wsgi(wsgi_app(tracer))
    assert answer["status"] == "200 OK"
    assert answer["body"] == "# TYPE hits_total counter\nhits_total 3\n"
    assert answer["headers"]["Content-Type"].startswith("text/plain; version=0.0.4")
    answer = wsgi(wsgi_app(tracer), accept=OPENMETRICS)
    assert answer["body"] == "# TYPE hits counter\nhits_total 3\n# EOF\n"
    assert answer["headers"]["Content-Type"].startswith("application/openmetrics-text")
    assert wsgi(wsgi_app(tracer), method="HEAD")["body"] == ""
    assert wsgi(wsgi_app(tracer), method="POST")["status"].startswith("405")


def test_asgi(tracer):
    status, headers, body = asgi(asgi_app(tracer))
    assert (status, body) == (200, "# TYPE hits_total counter\nhits_total 3\n")
    assert headers["content-length"] == str(len(body))
    assert asgi(asgi_app(tracer), accept=OPENMETRICS)[2].endswith("# EOF\n")
    assert asgi(asgi_app(tracer), method="HEAD")[::2] == (200, "")
    assert asgi(asgi_app(tracer), method="PUT")[0] == 405


def test_asgi_is_told_of_begin_and_end(tracer):
    asked, sent = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}], []

    async def receive():
        return asked.pop(0)

    async def send(message):
        sent.append(message["type"])

    asyncio.run(asgi_app(tracer)({"type": "lifespan"}, receive, send))
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    with pytest.raises(ValueError, match="not to websocket"):
        asyncio.run(asgi_app(tracer)({"type": "websocket"}, receive, send))
