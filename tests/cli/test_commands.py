"""cli/: commands, their errors and their JSON; `ringbuf record`."""

import json
import os
import subprocess
import sys

import judge
import pytest
from kernels import tracefs_root  # noqa: F401

import ringbuf
from ringbuf import cli
from ringbuf.cli import record

PROGRAM = """
import os, sys, ringbuf
tracer = ringbuf.Tracer.attach(os.environ["RINGBUF_CHANNEL"])
step = tracer.event("step", n="u64")
for n in range(100):
    step(n)
sys.exit(int(sys.argv[1]))
"""


def run(*args):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "ringbuf", *map(str, args)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)


def program(status=0):
    return "--", sys.executable, "-c", PROGRAM, status


def test_the_version():
    assert run("--version").stdout == f"ringbuf {ringbuf.__version__}\n"


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help_and_json(name, capsys):
    assert "--json" in help_of(capsys, name)
    assert name in help_of(capsys)


def test_record_says_where_a_program_finds_its_channel():
    assert "RINGBUF_CHANNEL" in run("record", "--help").stdout


def help_of(capsys, *names):
    with pytest.raises(SystemExit) as end:
        cli.main([*names, "--help"])
    assert end.value.code == 0
    return capsys.readouterr().out


def test_what_was_recorded_is_said_in_one_line(capsys):
    counts = {"records": 1, "lost": 0, "torn": 2, "kernel_packets": 3, "kernel_lost": 0}
    record._report({"directory": "out", **counts, "hints": [], "not_recorded": []}, as_json=False)
    assert capsys.readouterr().err == "out: 1 records, 2 torn, 3 kernel packets\n"


def test_a_program_is_recorded(tmp_path):
    done = run("record", "--json", "-o", tmp_path / "trace", *program())
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "directory": str(tmp_path / "trace"), "exit_status": 0, "records": 100, "lost": 0, "torn": 0,
        "hints": [], "not_recorded": [],
    }  # fmt: skip
    assert [event["fields"] for event in judge.events(tmp_path / "trace")] == [{"n": n} for n in range(100)]


def test_the_programs_exit_status_is_ours(tmp_path):
    done = run("record", "-o", tmp_path / "trace", *program(3))
    assert done.returncode == 3 and "100 records" in done.stderr
    killed = "import os; os.kill(os.getpid(), 9)"
    assert run("record", "-o", tmp_path / "killed", "--", sys.executable, "-c", killed).returncode == 137


def test_errors_are_one_line(tmp_path):
    (tmp_path / "trace").mkdir()
    (tmp_path / "trace" / "metadata").touch()
    for args in (
        ("-o", tmp_path / "trace", *program()),
        ("-o", tmp_path / "missing" / "trace", *program()),
        ("-o", tmp_path / "new", "--", tmp_path / "no-program"),
        ("-o", tmp_path / "size", "--n-subbufs=3", *program()),
    ):
        done = run("record", *args)
        assert done.returncode == 1, args
        assert done.stderr.startswith("ringbuf record: ") and done.stderr.count("\n") == 1, done.stderr
        assert done.stdout == ""
    assert not (tmp_path / "new").exists()  # so it can be recorded there, once the name is right
    assert run("no-such-command").returncode == 2


@pytest.mark.parametrize("name", [b"\xc3\xa9" * 40, b"a\xff b\nc", b"\xff"])
def test_a_program_may_have_any_name(tmp_path, name):
    os.symlink("/bin/true", os.path.join(os.fsencode(tmp_path), name))
    done = run("record", "-o", tmp_path / "trace", "--", os.path.join(str(tmp_path), os.fsdecode(name)))
    assert done.returncode == 0, done.stderr
    assert ringbuf.open_trace(tmp_path / "trace").count() == {}


def test_kernel_and_program_are_one_time_line(tmp_path, tracefs_root):  # noqa: F811
    events = "sched:sched_switch,sched:sched_process_exit"
    done = run("record", "--json", "--kernel", events, "-o", tmp_path / "trace", *program())
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["records"] == 100 and result["kernel_packets"] > 0 and result["kernel_lost"] == 0
    found = judge.events(tmp_path / "trace")
    assert [event["ns"] for event in found] == sorted(event["ns"] for event in found)
    steps = [event for event in found if event["name"] == "step"]
    assert [event["fields"]["n"] for event in steps] == list(range(100))
    tid = steps[0]["contexts"]["stream"]["vtid"]
    # Exactly one clock: the program's records lie between the kernel's switching to it and away, on that CPU.
    # Some switches from idle (0) are in no trace of the kernel's, nor in its own text.
    runs, mine, left = {}, set(), 0
    for event in found:
        cpu = event["cpu"]
        if event["name"] == "sched_switch":
            if cpu in mine:
                assert event["fields"]["prev_pid"] == tid
                mine.remove(cpu)
                left += 1
            runs[cpu] = event["fields"]["next_pid"]
        elif event["name"] == "step":
            assert runs.get(cpu, tid) in (tid, 0)
            mine.add(cpu)
    assert left > 0
    (exit_event,) = (e for e in found if e["name"] == "sched_process_exit" and e["fields"]["pid"] == tid)
    assert exit_event["ns"] > steps[-1]["ns"]
    with ringbuf.open_trace(tmp_path / "trace") as trace:
        assert sum(1 for _ in trace) == len(found)
        assert len(trace.to_numpy("sched_switch")) == sum(event["name"] == "sched_switch" for event in found)


def test_a_kernel_event_that_is_none_is_refused(tmp_path, tracefs_root):  # noqa: F811
    done = run("record", "--kernel", "no:such", "-o", tmp_path / "trace", *program())
    assert (done.returncode, done.stderr) == (1, "ringbuf record: the kernel has no event 'no:such'\n")
    assert not (tmp_path / "trace").exists()
