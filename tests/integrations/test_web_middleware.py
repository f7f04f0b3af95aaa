"""The WSGI and the ASGI middleware, around Flask and Starlette."""

import needs
import pytest
import recorded

import ringbuf
import ringbuf.integrations.asgi
import ringbuf.integrations.wsgi
from ringbuf._core import current_span


@pytest.fixture
def tracer():
    with ringbuf.Tracer("web") as tracer:
        yield tracer


def test_flask(tracer, tmp_path):
    flask = needs.module("flask")
    app = flask.Flask("shop")

    @app.get("/pay/<order>")
    def pay(order):
        with tracer.span("work"):
            return f"paid {order}"

    @app.get("/pieces")
    def pieces():
        return (piece for piece in ("a", "b"))

    @app.get("/broken")
    def broken():
        raise KeyError("x")

    app.wsgi_app = ringbuf.integrations.wsgi.Middleware(app.wsgi_app, tracer)
    client = app.test_client()
    with tracer.span("caller") as span:
        link = {ringbuf.integrations.LINK_HEADER: str(span.link())}
    assert client.get("/pay/é", headers=link).text == "paid é"
    assert client.get("/pieces").text == "ab"
    assert "not found" in client.get("/nothing", headers={ringbuf.integrations.LINK_HEADER: "no link"}).text
    assert "Internal Server Error" in client.get("/broken").text
    assert current_span() == 0  # as before: every answer was read to its end
    spans, records = recorded.of(tracer, tmp_path / "trace")
    assert spans == [
        ("caller", {}, "", "", []),
        ("request", {"method": "GET", "path": "/pay/é"}, "", "", ["caller"]),
        ("work", {}, "request", "", []),
        ("request", {"method": "GET", "path": "/pieces"}, "", "", []),
        ("request", {"method": "GET", "path": "/nothing"}, "", "", []),
        ("request", {"method": "GET", "path": "/broken"}, "", "", []),
    ]
    assert [one["status"] for one in records["response"]] == [200, 200, 404, 500]


def test_an_application_that_fails(tracer, tmp_path):
    closed = []

    class Pieces:
        def __iter__(self):
            yield b"a"
            raise OSError("gone")

        def close(self):
            closed.append(True)

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/at-once":
            raise ValueError("bad")
        start_response("200 OK", [])
        return Pieces()

    wrapped = ringbuf.integrations.wsgi.Middleware(app, tracer)
    with pytest.raises(ValueError, match="bad"):
        wrapped({"REQUEST_METHOD": "GET", "PATH_INFO": "/at-once"}, lambda *_: None)
    answer = wrapped({"REQUEST_METHOD": "GET", "PATH_INFO": "/later"}, lambda *_: None)
    with pytest.raises(OSError, match="gone"):
        list(answer)
    answer.close()
    wrapped({"PATH_INFO": "/gone"}, lambda *_: None).close()  # the client went away before the first byte
    spans, _ = recorded.of(tracer, tmp_path / "trace")
    assert [(fields["path"], error) for _, fields, _, error, _ in spans] == [
        ("/at-once", "ValueError"), ("/later", "OSError"), ("/gone", ""),
    ]  # fmt: skip
    assert closed == [True, True]


def test_starlette(tracer, tmp_path):
    applications = needs.module("starlette.applications")
    responses, routing = needs.module("starlette.responses"), needs.module("starlette.routing")
    testclient = needs.module("starlette.testclient")

    async def pay(request):
        with tracer.span("work"):
            return responses.PlainTextResponse("paid")

    async def broken(request):
        raise KeyError("x")

    async def talk(websocket):
        await websocket.accept()
        await websocket.send_text("hello")
        await websocket.close()

    routes = [routing.Route("/pay", pay), routing.Route("/broken", broken), routing.WebSocketRoute("/talk", talk)]
    app = applications.Starlette(routes=routes)
    app.add_middleware(ringbuf.integrations.asgi.Middleware, tracer=tracer)
    with tracer.span("caller") as span:
        link = {ringbuf.integrations.LINK_HEADER: str(span.link())}
    with testclient.TestClient(app, raise_server_exceptions=False) as client:
        assert client.get("/pay", headers=link).text == "paid"
        assert client.get("/broken").status_code == 500
        with client.websocket_connect("/talk") as socket:
            assert socket.receive_text() == "hello"
    spans, records = recorded.of(tracer, tmp_path / "trace")
    assert spans == [
        ("caller", {}, "", "", []),
        ("request", {"method": "GET", "path": "/pay"}, "", "", ["caller"]),
        ("work", {}, "request", "", []),
        ("request", {"method": "GET", "path": "/broken"}, "", "KeyError", []),
        ("request", {"method": "WEBSOCKET", "path": "/talk"}, "", "", []),
    ]
    assert [one["status"] for one in records["response"]][:1] == [200]
