"""Each recipe of docs/deploying.md with the real package: every record is in a trace, and no file is left."""

import os
import re
import signal
import subprocess
import sys
import time

import needs
import pytest
from recipes import DOCUMENT, Running, get
from rings import eventually

pytestmark = pytest.mark.slow


def test_every_recipe_has_a_test():
    headings = re.findall(r"^## (.*)$", DOCUMENT.read_text(), re.M)
    assert sorted(headings) == sorted(
        ["Celery", "Gunicorn", "Uvicorn", "python-daemon", "concurrent.futures", "joblib"]
    )


def serve(running, n):
    """Requests that were answered."""
    place = running.folder / "shop.sock"
    eventually(lambda: get(place) == 200 or running.main.poll() is not None, 60)
    assert running.main.poll() is None, running.log()
    answered = 1
    while answered < n:
        answered += get(place) == 200
    return answered


@pytest.mark.parametrize("options", ["", "--worker-class gthread --threads 4", "--worker-class gevent", "--preload"])
def test_gunicorn(tmp_path, options):
    needs.module("gunicorn")
    if "gevent" in options:
        needs.module("gevent")
    with Running("Gunicorn", tmp_path, GUNICORN_CMD_ARGS=options) as running:
        n = serve(running, 20)
        running.end()
        running.stop_stream()
        assert running.counts() == {"served": n}, running.log()
        assert running.flights() == []


def test_uvicorn_with_workers(tmp_path):
    needs.module("uvicorn")
    with Running("Uvicorn", tmp_path) as running:
        n = serve(running, 20)
        running.end()
        running.stop_stream()
        assert running.counts() == {"served": n}, running.log()
        assert running.flights() == []


def test_uvicorn_that_reloads(tmp_path):
    needs.module("uvicorn")
    running = Running("Uvicorn", tmp_path)
    running._lines = [line.replace("--workers 2", "--reload --reload-delay 0.1") for line in running._lines]
    with running:
        n = serve(running, 5)
        (before,) = running.flights()
        os.utime(tmp_path / "shop.py", (time.time() + 5, time.time() + 5))
        eventually(lambda: running.flights() not in ([], [before]), 60)
        n += serve(running, 5)
        running.end()
        running.stop_stream()
        assert running.counts() == {"served": n}, running.log()
        assert running.flights() == []


def test_celery(tmp_path):
    needs.module("celery")
    (tmp_path / "data_in").mkdir()
    (tmp_path / "data_out").symlink_to("data_in")  # the broker is a folder
    with Running("Celery", tmp_path, CELERY_BROKER_URL="filesystem://", C_FORCE_ROOT="1") as running:
        send = "import shop\nfor n in range(23): shop.pay.delay(n)"
        subprocess.run([sys.executable, "-c", send], cwd=tmp_path, env=running._environment, check=True)
        eventually(lambda: (tmp_path / "celery.log").read_text().count(" succeeded in ") == 23, 60)
        running.end()
        running.stop_stream()
        assert running.counts() == {"paid": 23}, running.log()
        assert running.flights() == []


def test_python_daemon(tmp_path):
    needs.module("daemon")
    with Running("python-daemon", tmp_path) as running:
        running.wait()
        eventually(lambda: len(os.listdir(tmp_path / "traces")) == 1)
        eventually(lambda: running.flights() == [])
        running.stop_stream()
        assert running.counts() == {"tick": 100}, running.log()


@pytest.mark.parametrize("heading", ["concurrent.futures", "joblib"])
def test_workers_of_a_pool(tmp_path, heading):
    if heading == "joblib":
        needs.module("joblib")
    with Running(heading, tmp_path) as running:
        running.wait()
        assert (tmp_path / "python.log").read_text() == "100\n", running.log()
        running.stop_stream()
        assert running.counts() == {"paid": 100}, running.log()
        assert running.flights() == [] or heading == "joblib"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_service_that_is_killed_has_all_in_its_trace(tmp_path, number):
    needs.module("gunicorn")
    with Running("Gunicorn", tmp_path) as running:
        n = serve(running, 10)
        if number == signal.SIGKILL:
            os.killpg(running.main.pid, signal.SIGKILL)
            running.wait()
        else:
            running.end(number)
        running.stop_stream()
        assert running.counts() == {"served": n}, running.log()
