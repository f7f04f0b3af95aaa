"""ringbuf stream: everything that was committed is in the trace, however the processes end."""

import json
import os
import signal
import subprocess
import sys
import time

import judge
import pytest
from rings import eventually

import ringbuf

RINGBUF = [sys.executable, "-m", "ringbuf"]

#: Records `n` before and `n` after a fork; ends as it is told once somebody streams it.
PROGRAM = """
import os, signal, sys, time
import ringbuf
path, ending, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
tracer = ringbuf.Tracer("work", mode="discard", path=path if path != "-" else None, subbuf_size=4096, n_subbufs=64)
step = tracer.event("step", n="u32")
for i in range(n):
    step(i)
print("ready", tracer.channel.path, flush=True)
sys.stdin.readline()
exec(ending)
"""
WORK = "list(map(step, range(n)))"


@pytest.fixture
def started():
    """Start a process; it is killed at the end of the test, if it lives."""
    processes = []

    def start(*command, **options):
        pipes = {name: subprocess.PIPE for name in ("stdin", "stdout", "stderr")}
        process = subprocess.Popen([str(part) for part in command], text=True, **pipes, **options)
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def program(started):
    """Start PROGRAM, until it is ready."""

    def start(path, ending="", n=1000, **environment):
        process = started(sys.executable, "-c", PROGRAM, path, ending, n, env={**os.environ, **environment})
        assert process.stdout.readline().startswith("ready")
        return process

    return start


@pytest.fixture
def stream(started):
    """Start `ringbuf stream`, until it has the channel."""

    def start(target, directory, *options):
        process = started(*RINGBUF, "stream", target, "-o", directory, "--json", *options)
        eventually(lambda: (directory / "metadata").exists() or process.poll() is not None)
        return process

    return start


def result(process):
    """What a stream has printed; its only trace."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    (trace,) = json.loads(out)["traces"]
    return trace


def judged(directory):
    trace = judge.read(directory)
    return len(trace.events), sum(loss["count"] for loss in trace.discarded_events)


@pytest.mark.parametrize(
    ("ending", "records"),
    [
        ("", 1000),
        ("os._exit(3)", 1000),
        ("os.execv('/bin/true', ['true'])", 1000),
        ("os.kill(os.getpid(), signal.SIGTERM)", 1000),
        ("os.kill(os.getpid(), signal.SIGKILL)", 1000),
        (f"if os.fork() == 0: {WORK}", 2000),  # not even a main program any more
        (f"{WORK}; os.closerange(0, 100); time.sleep(0.5)\nif os.fork(): os._exit(0)\n{WORK}; os._exit(0)", 3000),
        (f"os.setsid()\nif os.fork(): os._exit(0)\nos.closerange(0, 100); time.sleep(1); {WORK}", 2000),
        ("import threading; t = threading.Thread(target=lambda: list(map(step, range(n)))); t.start(); t.join()", 2000),
    ],
)
def test_it_has_all_however_the_processes_end(tmp_path, program, stream, ending, records):
    process = program(tmp_path / "ring", ending)
    follower = stream(tmp_path / "ring", tmp_path / "trace")
    process.communicate("\n")
    found = result(follower)
    assert found == {
        "directory": str(tmp_path / "trace"), "records": records, "lost": 0, "overwritten": 0, "torn": 0, "unread": 0,
        "elsewhere": 0,
    }  # fmt: skip
    assert judged(tmp_path / "trace") == (records, 0)


def test_it_says_what_it_waits_for(tmp_path, program, started):
    process = program(tmp_path / "ring")
    follower = started(*RINGBUF, "stream", tmp_path / "ring", "-o", tmp_path / "trace")
    first = follower.stderr.readline()
    assert first == (
        f"ringbuf stream: {tmp_path}/ring to {tmp_path}/trace, until its last process has ended; Ctrl-C ends it\n"
    )
    process.communicate("\n")
    assert follower.communicate(timeout=60) == (f"{tmp_path}/trace: 1000 records\n", "")


@pytest.mark.parametrize(
    ("options", "until"), [([], "until the last process of those that come"), (["--stay"], "until")]
)
def test_of_a_directory_it_says_what_is_there(tmp_path, started, options, until):
    (tmp_path / "flights").mkdir(mode=0o700)
    follower = started(*RINGBUF, "stream", tmp_path / "flights", "-o", tmp_path / "traces", *options)
    assert f"each channel (none there yet) {until}" in follower.stderr.readline()
    follower.send_signal(signal.SIGINT)
    follower.communicate(timeout=60)


def test_losses_are_counted_and_told(tmp_path, program, stream):
    """Faster than the ring is read: the sum is exact."""
    process = program(tmp_path / "ring", "for i in range(200_000): step(i)\nos._exit(0)", 1)
    follower = stream(tmp_path / "ring", tmp_path / "trace")
    os.kill(follower.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, follower.pid, os.WSTOPPED | os.WNOWAIT)
    process.communicate("\n")
    os.kill(follower.pid, signal.SIGCONT)
    found = result(follower)
    assert found["records"] + found["lost"] == 200_001
    assert found["lost"] > 0
    assert judged(tmp_path / "trace") == (found["records"], found["lost"])


def test_a_process_is_a_target_too(tmp_path, program, stream):
    process = program("-", f"{WORK}; os._exit(0)")
    follower = stream(process.pid, tmp_path / "trace")
    process.communicate("\n")
    assert result(follower)["records"] == 2000


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_it_ends_when_told_and_has_what_was_there(tmp_path, program, stream, number):
    process = program(tmp_path / "ring", f"{WORK}; os._exit(0)")
    follower = stream(tmp_path / "ring", tmp_path / "trace")
    follower.send_signal(number)
    assert result(follower)["records"] == 1000
    follower = stream(tmp_path / "ring", tmp_path / "rest")  # and another goes on where it left off
    process.communicate("\n")
    assert {**result(follower), "directory": ""} == {
        "directory": "", "records": 1000, "lost": 0, "overwritten": 0, "torn": 0, "unread": 0, "elsewhere": 1000,
    }  # fmt: skip


def test_a_flight_recorder_directory_has_a_trace_for_each_channel(tmp_path, program, started):
    flights, traces = tmp_path / "flights", tmp_path / "traces"
    flights.mkdir()
    environment = {"RINGBUF_DIR": str(flights), "RINGBUF_KEEP": "1"}
    program("-", "", **environment).communicate("\n")
    (dead,) = os.listdir(flights)
    first = program("-", f"{WORK}; os._exit(0)", **environment)
    follower = started(*RINGBUF, "stream", flights, "-o", traces, "--json")
    eventually(lambda: traces.exists() and len(os.listdir(traces)) == 1)
    later = program("-", "os.kill(os.getpid(), signal.SIGKILL)", **environment)
    eventually(lambda: len(os.listdir(traces)) == 2)
    first.communicate("\n")
    later.communicate("\n")
    out, err = follower.communicate(timeout=60)
    assert follower.returncode == 0, err
    found = json.loads(out)["traces"]
    assert sorted(one["records"] for one in found) == [1000, 2000]
    for one in found:
        assert judged(one["directory"]) == (one["records"], 0)
    marked = sorted(name for name in os.listdir(flights) if name.endswith(".recovered"))
    assert len(marked) == 2
    assert f"{dead}.recovered" not in marked


def test_with_stay_it_waits_for_the_next(tmp_path, program, started):
    flights, traces = tmp_path / "flights", tmp_path / "traces"
    flights.mkdir()
    follower = started(*RINGBUF, "stream", flights, "-o", traces, "--json", "--stay", "--remove")
    for n in (1, 2):
        process = program("-", "", RINGBUF_DIR=str(flights))
        eventually(lambda n=n: traces.exists() and len(os.listdir(traces)) == n)
        process.communicate("\n")
    eventually(lambda: os.listdir(flights) == [])
    time.sleep(0.5)
    assert follower.poll() is None
    follower.terminate()
    out, _ = follower.communicate(timeout=60)
    assert [one["records"] for one in json.loads(out)["traces"]] == [1000, 1000]


def test_what_it_cannot_do_is_said(tmp_path, program, capsys):
    from ringbuf.cli import main

    program(tmp_path / "dead.ringbuf").communicate("\n")
    for target, text in (
        ("dead.ringbuf", "no process uses it: ringbuf recover"),
        ("nothing", "No such file"),
    ):
        assert main(["stream", str(tmp_path / target), "-o", str(tmp_path / "trace")]) == 1
        said = capsys.readouterr().err
        assert text in said and str(tmp_path / target) in said
        assert len(said.splitlines()) == 1
        assert not (tmp_path / "trace").exists()
    process = program(tmp_path / "ring")
    assert main(["stream", str(tmp_path / "ring"), "-o", str(tmp_path / "trace"), "--stay"]) == 1
    assert "--stay and --remove go with a directory" in capsys.readouterr().err
    with ringbuf.attach(tmp_path / "ring") as channel, ringbuf.Recorder(channel, tmp_path / "first"):
        assert main(["stream", str(tmp_path / "ring"), "-o", str(tmp_path / "trace")]) == 1
        assert "another reader, or recorder, has the channel" in capsys.readouterr().err
    process.communicate("\n")


def test_a_disk_that_stays_full_is_told_and_the_counts_are_right(tmp_path, tiny_disk, program, started):
    process = program(tmp_path / "ring", "for i in range(100_000): step(i)\nos._exit(0)", 1)
    follower = started(*RINGBUF, "stream", tmp_path / "ring", "-o", tiny_disk / "trace", "--json")
    eventually(lambda: (tiny_disk / "trace" / "metadata").exists())
    (tiny_disk / "ballast").write_bytes(bytes(900_000))
    process.communicate("\n")
    out, err = follower.communicate(timeout=60)
    assert follower.returncode == 1
    assert "No space left on device" in err
    (found,) = json.loads(out)["traces"]
    assert found["unread"] > 0
    assert found["records"] + found["lost"] + found["unread"] == 100_001
    assert judge.read(tiny_disk / "trace")


def test_a_service_that_starts_again_has_what_came_in_between(tmp_path, program, started):
    flights, traces = tmp_path / "flights", tmp_path / "traces"
    flights.mkdir()
    environment = {"RINGBUF_DIR": str(flights), "RINGBUF_KEEP": "1"}
    living = program("-", f"{WORK}; os._exit(0)", **environment)
    for n in (1, 2):
        follower = started(*RINGBUF, "stream", flights, "-o", traces, "--json", "--stay", "--remove")
        eventually(lambda n=n: traces.exists() and len(os.listdir(traces)) >= n)
        if n == 2:
            living.communicate("\n")
            eventually(lambda: os.listdir(flights) == [])
        follower.terminate()
        out, err = follower.communicate(timeout=60)
        assert follower.returncode == 0, err
        found = sorted(one["records"] for one in json.loads(out)["traces"])
        assert found == ([1000] if n == 1 else [1000, 1000])
        if n == 1:
            program("-", "", **environment).communicate("\n")
