"""ringbuf metrics, stat and top --metrics: what programs count, seen from outside."""

import json
import subprocess
import sys
import urllib.request

import pytest

import ringbuf
from ringbuf.cli import main


@pytest.fixture
def ring(tmp_path):
    with ringbuf.Tracer("shop", path=tmp_path / "ring") as tracer:
        tracer.counter("hits", path="str").labels("/\x1b[31m")(12345)
        tracer.gauge("load")(0.00025)
        tracer.gauge("memory", "bytes", per="process")(25e6)
        took = tracer.histogram("took", "s")
        for value in (0.003, 0.004, 700):
            took(value)
        yield tmp_path / "ring"


def test_metrics(ring, capsys):
    assert main(["metrics", str(ring)]) == 0
    out = capsys.readouterr().out
    assert 'hits_total{path="/\x1b[31m"} 12345\n' in out
    assert "took_seconds_count 3\n" in out
    assert main(["metrics", str(ring), str(ring), "--openmetrics"]) == 0
    out = capsys.readouterr().out
    assert out.endswith("# EOF\n") and f'load{{channel="{ring}"}} 0.00025\n' in out
    assert main(["metrics", str(ring), "--json"]) == 0
    hits, *_, took = json.loads(capsys.readouterr().out)[str(ring)]
    assert (hits["series"][0]["value"], took["kind"]) == (12345, "histogram")


def test_metrics_of_nothing(tmp_path, capsys):
    assert main(["metrics", str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err == f"ringbuf metrics: {tmp_path / 'none'}: No such file or directory\n"
    with pytest.raises(SystemExit):
        main(["metrics", "--serve", "http", str(tmp_path)])
    assert "'http' is no port, and no HOST:PORT" in capsys.readouterr().err


def test_metrics_over_http(ring):
    command = [sys.executable, "-m", "ringbuf", "metrics", str(ring), "--serve", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            url = server.stderr.readline().split()[-1]
            with urllib.request.urlopen(url, timeout=100) as answer:
                assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
                assert b"took_seconds_count 3\n" in answer.read()
        finally:
            server.terminate()
    assert server.returncode == 128 + 15


def test_stat(ring, capsys):
    assert main(["stat", str(ring)]) == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()[1:]]
    assert ["12345", r"hits{path=/\u001b[31m}"] in lines
    assert ["0.00025", "load"] in lines
    assert ["3", "took (values, mean 233, p99 > 100 s)"] in lines
    assert main(["stat", str(ring), "--json"]) == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)["metrics"]] == ["hits", "load", "memory", "took"]


def test_top(ring, capsys):
    assert main(["top", "--metrics", "--once", "--interval", "0.01", str(ring)]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["METRIC", "VALUE", "PER", "SECOND", "CHANNEL"]
    found = [line.split()[:4] for line in lines]
    assert found[:2] == [[r"hits{path=/\u001b[31m}", "12.3k", "0", "shop"], ["load", "0.00025", "0", "shop"]]
    assert main(["top", "--metrics", "--once", "--interval", "0.01", "--json", str(ring)]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"][0]["value"] == 12345
