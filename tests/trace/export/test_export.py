"""export/: the format is that of the name; the file appears whole or not at all."""

import gzip
import json
import os
import subprocess
import sys

import needs
import pytest
import rings
from timelines import ORIGIN, TICK, written

import ringbuf
from ringbuf.errors import TraceError
from ringbuf.trace.export import FORMATS
from ringbuf.trace.trace import open_trace


@pytest.fixture
def trace(tmp_path):
    return written(tmp_path, (1, "tick", TICK), (2, "web", [1, 0]), (3, "span_end", [1, ""]))


@pytest.mark.parametrize("suffix", [".json", ".pftrace"])
def test_gz_is_the_same_compressed(trace, tmp_path, suffix):
    trace.export(tmp_path / f"x{suffix}")
    trace.export(tmp_path / f"x{suffix}.gz")
    plain = gzip.decompress((tmp_path / f"x{suffix}.gz").read_bytes())
    if suffix == ".json":
        assert plain == (tmp_path / "x.json").read_bytes()
    else:  # Perfetto's packets are compressed once, in either way
        assert b"parent_id" in plain and b"parent_id" not in (tmp_path / "x.pftrace").read_bytes()


def test_another_name_is_refused(trace, tmp_path):
    with pytest.raises(ValueError, match=r"x\.txt: .*\.pftrace.*\.parquet"):
        trace.export(tmp_path / "x.txt")
    assert sorted(os.listdir(tmp_path)) == ["trace"]


@pytest.mark.parametrize("suffix", [".json", ".json.gz", ".pftrace", ".parquet"])
def test_an_error_leaves_what_was_there(tmp_path, suffix):
    if suffix == ".parquet":
        needs.module("pyarrow.parquet")
    trace = written(tmp_path, *[(n, "log", [20, "a", "b", "c", n, "d", "e"]) for n in range(1, 100)])
    data = (tmp_path / "trace" / "s0").read_bytes()
    (tmp_path / f"x{suffix}").write_text("before")
    end = data.rindex(b"e\0")
    (tmp_path / "trace" / "s0").write_bytes(data[:end] + b"e" * (len(data) - end))  # a string without an end
    with pytest.raises(TraceError):
        trace.export(tmp_path / f"x{suffix}")
    assert (tmp_path / f"x{suffix}").read_text() == "before"
    assert sorted(os.listdir(tmp_path)) == ["trace", f"x{suffix}"]
    open_trace(tmp_path / "trace", errors="skip").export(tmp_path / f"x{suffix}")
    assert (tmp_path / f"x{suffix}").read_bytes() != b"before"


def test_an_event_that_is_none_is_refused(trace, tmp_path):
    needs.module("pyarrow.parquet")
    for suffix in FORMATS:
        with pytest.raises(TraceError, match="no (event|span or call) is called 'nothing'"):
            trace.export(tmp_path / f"x{suffix}", events="nothing")
    assert sorted(os.listdir(tmp_path)) == ["trace"]


def test_part_of_a_trace(trace, tmp_path):
    trace.export(tmp_path / "x.json", events=["t*"], begin=ORIGIN, end=ORIGIN + 1)
    events = json.loads((tmp_path / "x.json").read_text())["traceEvents"]
    assert [event["name"] for event in events if event["ph"] != "M"] == ["tick"]


def test_a_trace_without_records(tmp_path):
    for suffix in (".json", ".pftrace"):
        written(tmp_path).export(tmp_path / f"x{suffix}")
    assert json.loads((tmp_path / "x.json").read_text())["traceEvents"] == []


def test_what_a_tracer_recorded_by_several_threads(tmp_path):
    with ringbuf.Tracer("small", mode="discard") as tracer:
        step = tracer.event("step", n="u64")
        with tracer.record(tmp_path / "trace"):
            for n in range(3):
                rings.in_thread(step, n)
    open_trace(tmp_path / "trace").export(tmp_path / "x.json")
    events = json.loads((tmp_path / "x.json").read_text())["traceEvents"]
    steps = [event for event in events if event["name"] == "step"]
    assert [event["args"]["n"] for event in steps] == [0, 1, 2]
    assert {event["pid"] for event in steps} == {os.getpid()} and len({event["tid"] for event in steps}) >= 1


# Not ru_maxrss: a process inherits its parent's.
GROWTH = """
import re, sys
from pathlib import Path
from ringbuf.trace.trace import open_trace
for count in (1, 8):
    open_trace(f"{sys.argv[1]}/{count}/trace").export(f"{sys.argv[1]}/x.{sys.argv[2]}")
    print(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["json", "pftrace"])
def test_memory_does_not_grow_with_the_trace(tmp_path, suffix):
    for count in (1, 8):
        (tmp_path / str(count)).mkdir()
        with rings.tracer(subbuf_size=1 << 16, n_subbufs=64) as tracer:
            log = tracer.event("log", level="u8", logger="str", message="str")
            with tracer.record(tmp_path / str(count) / "trace") as recorder:
                for n in range(count * 10_000):
                    log(20, "shop", f"message {n} " + "x" * 200)
                    if n % 5_000 == 0:
                        recorder.poke()
    small, large = map(int, rings.run_script(GROWTH, tmp_path, suffix).split())
    assert large - small < 10_000  # KiB; the messages alone take 17 MB


def test_exporting_needs_no_library(trace, tmp_path):
    code = "import sys, ringbuf; ringbuf.open_trace(sys.argv[1]).export(sys.argv[2]); print(sorted(sys.modules))"
    for suffix in (".json", ".pftrace"):
        done = rings.run_script(code, tmp_path / "trace", tmp_path / f"x{suffix}")
        assert not any(f"'{name}" in done for name in ("perfetto", "google", "pyarrow", "numpy.random"))


def test_two_at_a_time_do_not_meet(trace, tmp_path):
    code = "import sys, ringbuf; ringbuf.open_trace(sys.argv[1]).export(sys.argv[2])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", code, str(tmp_path / "trace"), str(tmp_path / "x.json")]
    running = [subprocess.Popen(command, env=environment) for _ in range(2)]
    assert [one.wait(60) for one in running] == [0, 0]
    assert sorted(os.listdir(tmp_path)) == ["trace", "x.json"]
