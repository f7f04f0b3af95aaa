"""ringbuf view: what Trace.iter_text gives, or part of it."""

import json
import os
import signal
import subprocess
import sys

import pytest
import timelines
from timelines import ORIGIN, TICK

from ringbuf.cli import main
from ringbuf.texts import printable_lines

SECOND = 10**9


@pytest.fixture
def trace(tmp_path):
    """Records at 1 to 5 seconds: tick, web, tick, db, tick."""
    names = ["tick", "web", "tick", "db", "tick"]
    values = {"tick": TICK, "web": [1, 0], "db": [2, 1, "t\u2028"]}
    records = [((n + 1) * SECOND, name, values[name]) for n, name in enumerate(names)]
    return timelines.written(tmp_path, *records)


@pytest.fixture
def view(trace, capsys):
    def run(*args):
        assert main(["view", str(trace.path), *args]) == 0
        return capsys.readouterr().out

    return run


def seconds(text):
    return [json.loads(line)["timestamp"] // SECOND - ORIGIN // SECOND for line in text.split("\n")[:-1]]


def test_it_is_the_text_of_the_trace(view, trace):
    assert view() == printable_lines("".join(trace.iter_text()))


def test_json_has_an_object_for_each_record(view, trace):
    found = [json.loads(line) for line in view("--json").split("\n")[:-1]]
    assert [one["name"] for one in found] == ["tick", "web", "tick", "db", "tick"]
    assert found[1] == {
        "timestamp": ORIGIN + 2 * SECOND, "name": "web", "cpu": 0,
        "contexts": {"vpid": timelines.PID, "vtid": timelines.TID}, "fields": {"span_id": 1, "parent_id": 0},
    }  # fmt: skip
    assert found[0]["fields"]["data"] == "00ff"


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--event", "tick"], [1, 3, 5]),
        (["--event", "d*", "--event", "web"], [2, 4]),
        (["--head", "2"], [1, 2]),
        (["--tail", "2"], [4, 5]),
        (["--head", "3", "--tail", "1"], [3]),
        (["--from", "+2.5"], [3, 4, 5]),  # the packets begin at 0
        (["--to", "-1"], [1, 2, 3, 4]),
        (["--from", "-1.000000001", "--to", "1700000004.5"], [4]),
        (["--event", "tick", "--from", "1700000002"], [3, 5]),
    ],
)
def test_a_part_of_it(view, args, expected):
    assert seconds(view("--json", *args)) == expected
    lines = view(*args).split("\n")
    assert len(lines) == len(expected) + 1 and lines[-1] == ""


def test_times_of_day_are_local(view, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    import time

    time.tzset()
    try:
        # 1_700_000_000 is 2023-11-15 03:43:20 there.
        assert seconds(view("--json", "--from", "03:43:23", "--to", "2023-11-15 03:43:24.5")) == [3, 4]
        assert seconds(view("--json", "--from", "2023-11-15T03:44")) == []
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("text", ["noon", "25:00:00", "1:2:3:4", "", "+x"])
def test_what_is_no_time(trace, capsys, text):
    assert main(["view", str(trace.path), f"--from={text}"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"ringbuf view: {text!r} is no time") and error.count("\n") == 1


def test_errors_are_one_line(trace, tmp_path, capsys):
    for args, why in (
        ([str(tmp_path / "none")], "not a directory"),
        ([trace.path, "--event", "no"], "no event is called"),
    ):
        assert main(["view", *args]) == 1
        done = capsys.readouterr()
        assert done.out == "" and done.err.count("\n") == 1 and why in done.err


@pytest.mark.parametrize("option", ["--head", "--tail"])
def test_there_is_no_number_below_zero(trace, capsys, option):
    with pytest.raises(SystemExit):
        main(["view", trace.path, option, "-1"])
    assert option in capsys.readouterr().err


def test_a_terminal_of_another_encoding_shows_what_it_can(tmp_path):
    trace = timelines.written(tmp_path, (1, "db", [2, 1, "t\xe9"]))
    running = command("view", trace.path, PYTHONIOENCODING="ascii")
    printed, errors = running.communicate(timeout=60)
    assert rb"t\xe9" in printed and errors == b"" and running.returncode == 0


def test_without_an_output_it_prints_nowhere(tmp_path):
    trace = timelines.written(tmp_path, (1, "tick", TICK))
    view = f'"$0" -m ringbuf view {trace.path} >&-'
    subprocess.run(["sh", "-c", view, sys.executable], env=environment(), timeout=60, check=True)


def test_damaged_packets_can_be_left_out(trace, tmp_path, capsys):
    path = tmp_path / "trace" / "s0"
    path.write_bytes(path.read_bytes()[:-4096] + b"\xff" * 4096)
    assert main(["view", trace.path]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["view", trace.path, "--skip-damaged"]) == 0
    assert capsys.readouterr().err == "ringbuf view: 1 damaged packets left out\n"


def test_losses_are_said(tmp_path, capsys):
    trace = timelines.written(tmp_path, (1, "tick", TICK), discarded=(0, 7))
    assert main(["view", trace.path]) == 0
    assert capsys.readouterr().err == "ringbuf view: 7 records lost when it was recorded\n"


def environment(**more):
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **more}


def command(*args, **more):
    command = [sys.executable, "-m", "ringbuf", *args]
    return subprocess.Popen(command, env=environment(**more), stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize("options", [[], ["--json"], ["--head", "100000"]])
def test_a_reader_that_has_had_enough_ends_it_quietly(tmp_path, options):
    trace = timelines.written(tmp_path, *[(n, "tick", TICK) for n in range(1, 20_000)])
    running = command("view", trace.path, *options)
    assert running.stdout.readline()
    running.stdout.close()
    assert running.stderr.read() == b""
    assert running.wait(60) == 0
    running.stderr.close()


def test_an_interrupt_is_no_traceback(tmp_path):
    trace = timelines.written(tmp_path, *[(n, "tick", TICK) for n in range(1, 20_000)])
    running = command("view", trace.path)
    assert running.stdout.readline()
    running.send_signal(signal.SIGINT)  # it is blocked: nobody reads
    assert running.wait(60) == 130
    assert running.stderr.read() == b""
    running.stdout.close()
    running.stderr.close()


def test_records_of_some_threads(tmp_path, capsys):
    contexts = "vpid:i32,vtid:i32,procname:str,thread_name:str,task_name:str"
    one, other = (1, 2, "shop", "main", "Task-1"), (3, 4, "pool", "worker", "")
    trace = timelines.written(tmp_path, (1, "tick", TICK, one), (2, "web", [1, 0], other), contexts=contexts)
    for args, name in (
        (["--process", "1"], "tick"), (["--process", "po*"], "web"), (["--thread", "4"], "web"),
        (["--thread", "main"], "tick"), (["--task", "Task*"], "tick"),
    ):  # fmt: skip
        assert main(["view", "--json", str(trace.path), *args]) == 0
        assert [json.loads(line)["name"] for line in capsys.readouterr().out.splitlines()] == [name]
        assert main(["view", str(trace.path), *args]) == 0
        (line,) = capsys.readouterr().out.splitlines()
        assert line in "".join(trace.iter_text()) and f" {name}: " in line
