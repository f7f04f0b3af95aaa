"""Django: requests, views and queries, synchronous and asynchronous."""

import subprocess
import sys

import needs

import ringbuf

PROGRAM = """
import asyncio, sys
import django
from django.conf import settings
from django.http import HttpResponse
from django.urls import path
import ringbuf, ringbuf.integrations

tracer = ringbuf.Tracer("web")
ringbuf.integrations.use(tracer)
settings.configure(
    SECRET_KEY="x", ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], MIDDLEWARE=["ringbuf.integrations.django.middleware"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
)
django.setup()
from django.db import connection
from django.test import AsyncClient, Client

def pay(request, order):
    with connection.cursor() as cursor:
        cursor.execute("select %s + 1", [order])
        return HttpResponse(str(cursor.fetchone()[0]))

async def wait(request):
    await asyncio.sleep(0)
    return HttpResponse("waited", status=202)

def broken(request):
    with connection.cursor() as cursor:
        cursor.execute("select nothing")

urlpatterns = [path("pay/<int:order>", pay, name="pay"), path("wait", wait, name="wait"), path("broken", broken)]
with tracer.span("caller") as span:
    link = str(span.link())
client = Client(raise_request_exception=False)
assert client.get("/pay/7", headers={ringbuf.integrations.LINK_HEADER: link}).content == b"8"
assert client.get("/nothing").status_code == 404
assert client.get("/broken").status_code == 500
assert asyncio.run(AsyncClient().get("/wait")).status_code == 202
tracer.snapshot(sys.argv[1])
"""


def test_requests_and_queries(tmp_path):
    needs.module("django")
    (tmp_path / "shop.py").write_text(PROGRAM)
    command = [sys.executable, "shop.py", tmp_path / "trace"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    with ringbuf.open_trace(tmp_path / "trace") as trace:
        pairs = sorted(trace.spans(), key=lambda one: one.begin)
        names = {one.id: one.name for one in pairs}
        answers = [(record.fields["status"], record.fields["view"]) for record in trace.records("response")]
        found = [(one.name, one.fields, names.get(one.parent), one.error) for one in pairs]
        assert [names[source] for source in pairs[1].follows] == ["caller"]
    assert found == [
        ("caller", {}, None, ""),
        ("request", {"method": "GET", "path": "/pay/7"}, None, ""),
        ("query", {"database": "default", "statement": "select %s + 1"}, "request", ""),
        ("request", {"method": "GET", "path": "/nothing"}, None, ""),
        ("request", {"method": "GET", "path": "/broken"}, None, ""),
        ("query", {"database": "default", "statement": "select nothing"}, "request", "OperationalError"),
        ("request", {"method": "GET", "path": "/wait"}, None, ""),
    ]
    assert answers == [(200, "pay"), (404, ""), (500, "__main__.broken"), (202, "wait")]
