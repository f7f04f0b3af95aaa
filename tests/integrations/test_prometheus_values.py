"""prometheus_client's metrics in a channel: counted by several processes that die, and read by its own parser."""

import subprocess
import sys

import needs
import pytest

from ringbuf import metrics
from ringbuf.metrics.exposition import exposition

PROGRAM = """
import os, signal, sys
import ringbuf, ringbuf.integrations.prometheus
tracer = ringbuf.Tracer.open(sys.argv[1])
ringbuf.integrations.prometheus.install(tracer)
from prometheus_client import Counter, Gauge, Histogram, Summary
requests = Counter("requests", "of clients", ["path"])
took = Histogram("took", "seconds", ["path"], buckets=(0.1, 1))
size = Summary("size", "bytes")
memory, load = Gauge("memory", "each"), Gauge("load", "highest", multiprocess_mode="max")
total = Gauge("total", "sum", multiprocess_mode="livesum")
last = Gauge("last", "newest", multiprocess_mode="mostrecent")
ready, end = os.pipe(), os.pipe()
for n in range(3):
    if os.fork() == 0:
        os.close(end[1])
        for _ in range(100):
            requests.labels("/").inc()
        took.labels("/").observe(0.05 * 10 ** n)
        size.observe(n)
        memory.set(n)
        load.set(n)
        total.inc(n + 1)
        last.set(n)
        if n == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        os.write(ready[1], b"x")
        os.read(end[0], 1)
        os._exit(0)
os.wait()
for _ in range(2):
    os.read(ready[0], 1)
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("openmetrics", [False, True])
def test_counts_of_all_processes(tmp_path, openmetrics):
    needs.module("prometheus_client")
    parser = needs.module("prometheus_client.openmetrics.parser" if openmetrics else "prometheus_client.parser")
    command = [sys.executable, "-c", PROGRAM, tmp_path / "ring"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout.readline() == "ready\n"
        text = exposition([("x", metrics.read(tmp_path / "ring"))], openmetrics=openmetrics)
        program.stdin.close()
    families = {family.name: family for family in parser.text_string_to_metric_families(text)}
    assert {one.name: one.type for one in families.values()} == {
        "requests": "counter", "took": "histogram", "size": "summary", "memory": "gauge", "load": "gauge",
        "total": "gauge", "last": "gauge",
    }  # fmt: skip
    samples = {
        (one.name, *sorted((name, value) for name, value in one.labels.items() if name != "pid")): one.value
        for family in families.values()
        for one in family.samples
    }
    path = ("path", "/")
    assert samples[("requests_total", path)] == 300  # the killed one's too
    assert [samples[("took_bucket", ("le", bound), path)] for bound in ("0.1", "1.0", "+Inf")] == [1, 2, 3]
    assert samples[("took_count", path)] == 3
    assert samples[("took_sum", path)] == pytest.approx(5.55)
    assert (samples[("size_count",)], samples[("size_sum",)]) == (3, 3)
    # Gauges of the living two: each its own, the highest, the sum; and the newest of all.
    assert sorted(one.value for one in families["memory"].samples) == [0, 1]
    assert len({one.labels["pid"] for one in families["memory"].samples}) == 2
    assert (samples[("load",)], samples[("total",)]) == (1, 3)
    assert samples[("last",)] in (0, 1, 2)


def test_a_service_of_its_own_client_shows_the_sum(tmp_path):
    """`get` is what prometheus_client's own registry shows."""
    needs.module("prometheus_client")
    program = """
import sys, os
import ringbuf, ringbuf.integrations.prometheus, prometheus_client
ringbuf.integrations.prometheus.install(ringbuf.Tracer("x"))
hits = prometheus_client.Counter("hits", "")
if os.fork() == 0:
    hits.inc(5)
    os._exit(0)
os.wait()
hits.inc()
print(prometheus_client.generate_latest().decode())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "\nhits_total 6.0\n" in done.stdout


def test_without_the_library_it_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "ringbuf.integrations.prometheus", raising=False)
    with pytest.raises(ImportError, match="prometheus_client"):
        import ringbuf.integrations.prometheus  # noqa: F401
