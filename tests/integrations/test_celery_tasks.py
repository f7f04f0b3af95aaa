"""Celery: tasks as spans, which follow from who sent them, in a worker of its own process."""

import subprocess
import sys
import time

import needs
from rings import eventually

import ringbuf

APP = """
import os
import celery
import ringbuf, ringbuf.integrations.celery
here = os.path.dirname(os.path.abspath(__file__))
tracer = ringbuf.Tracer.open(os.path.join(here, "ring"))
ringbuf.integrations.celery.install(tracer)
folders = {name: os.path.join(here, "queue") for name in ("data_folder_in", "data_folder_out")}
app = celery.Celery("shop", broker="filesystem://", backend="file://" + os.path.join(here, "results"))
app.conf.update(broker_transport_options={**folders, "control_folder": os.path.join(here, "control")},
                worker_hijack_root_logger=False, broker_connection_retry_on_startup=False)

@app.task
def add(a, b):
    with tracer.span("adding"):
        return a + b

@app.task
def fail():
    raise KeyError("x")
"""
SENDER = """
import shop
with shop.tracer.span("send"):
    good, bad = shop.add.delay(3, 4), shop.fail.delay()
assert good.get(timeout=60) == 7
try:
    bad.get(timeout=60)
except KeyError:
    print("failed")
"""


def ended(tmp_path):
    """How many spans have ended."""
    snapshot = tmp_path / f"snapshot-{time.monotonic_ns()}"
    with ringbuf.Tracer.attach(tmp_path / "ring") as tracer:
        tracer.snapshot(snapshot)
    return ringbuf.open_trace(snapshot).count().get("span_end", 0)


def test_tasks(tmp_path):
    needs.module("celery")
    for name in ("queue", "results", "control"):
        (tmp_path / name).mkdir()
    (tmp_path / "shop.py").write_text(APP)
    command = [sys.executable, "-m", "celery", "-A", "shop", "worker", "--pool=prefork", "--concurrency=1"]
    options = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    with subprocess.Popen([*command, *options], cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        try:
            done = subprocess.run(
                [sys.executable, "-c", SENDER], cwd=tmp_path, capture_output=True, text=True, timeout=90
            )
            assert (done.returncode, done.stdout) == (0, "failed\n"), done.stderr
            eventually(lambda: ended(tmp_path) == 4)  # a result is told before the task's span has ended
        finally:
            worker.terminate()
            worker.communicate()
    with ringbuf.Tracer.attach(tmp_path / "ring") as tracer:
        tracer.snapshot(tmp_path / "trace")
    with ringbuf.open_trace(tmp_path / "trace") as trace:
        pairs = sorted(trace.spans(), key=lambda one: one.begin)
        names = {one.id: one.name for one in pairs}
        found = {
            one.fields.get("name", one.name): (names.get(one.parent), one.error, [names[each] for each in one.follows])
            for one in pairs
        }
        tasks = {one.thread.pid for one in pairs if one.name == "task"}
    assert found == {
        "send": (None, "", []), "shop.add": (None, "", ["send"]), "adding": ("task", "", []),
        "shop.fail": (None, "KeyError", ["send"]),
    }  # fmt: skip
    assert len(tasks) == 1
