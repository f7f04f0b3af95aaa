"""ringbuf attach: recording begins and ends in a process that runs."""

import json
import os
import signal
import subprocess
import sys

import needs
import pytest
from rings import eventually

import ringbuf
from ringbuf.cli import _asking, main
from ringbuf.inject import attached, listen

PROGRAM = """
import logging, os, sys, time

def work(n):
    if n % 10 == 0:
        logging.getLogger("shop").warning("order %d", n)
    return n + 1

def go_on():
    n = 0
    turns = os.open("turns", os.O_CREAT | os.O_WRONLY)
    print("ready", flush=True)
    while True:
        n = work(n)
        os.pwrite(turns, b"%d" % n, 0)
        time.sleep(0.002)

go_on()
"""

WAYS = [
    pytest.param("listen", id="by-socket"),
    pytest.param(
        "remote",
        id="by-remote-exec",
        marks=pytest.mark.skipif(not hasattr(sys, "remote_exec"), reason="sys.remote_exec is of CPython 3.14"),
    ),
]


def start(way, tmp_path, program=PROGRAM):
    environment = {**os.environ, "RINGBUF_DIR": str(tmp_path / "flights")}
    begin = ""
    if way == "listen":
        environment["RINGBUF_LISTEN"] = str(tmp_path / "sockets")
        if not os.path.exists(needs_hook()):  # ringbuf is on the path, and not installed
            begin = "import _ringbuf_start; _ringbuf_start.start()\n"
    child = subprocess.Popen(
        [sys.executable, "-c", begin + program], env=environment, cwd=tmp_path, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdout.readline() == "ready\n"
    return child


def needs_hook():
    import sysconfig

    return os.path.join(sysconfig.get_path("purelib"), "ringbuf_trace.pth")


def end(child):
    child.kill()
    printed = "".join(child.communicate(timeout=60))
    assert set(line.partition("order")[0] for line in printed.splitlines()) <= {""}, printed


@pytest.fixture(params=WAYS)
def running(request, tmp_path, monkeypatch):
    monkeypatch.setenv("RINGBUF_DIR", str(tmp_path / "flights"))
    child = start(request.param, tmp_path)
    yield child
    end(child)


def attach(*arguments, status=0):
    assert main(["attach", *map(str, arguments)]) == status


def attach_until(is_enough, out, *arguments):
    """Record for a moment; for a longer one, where the process had no turn meanwhile."""
    for seconds in (0.5, 5, 30):
        attach(*arguments, "-o", f"{out}-{seconds}", "--duration", seconds)
        records = list(ringbuf.open_trace(f"{out}-{seconds}"))
        if is_enough(records):
            break
    return records


def goes_on(tmp_path, calls=20):
    """Wait until PROGRAM has called work() so many times more."""

    def n_calls():
        return int((tmp_path / "turns").read_bytes() or b"0")

    before = n_calls()
    eventually(lambda: n_calls() > before + calls)


def names_of_calls(records):
    codes = {one.fields["code"]: one.fields["name"] for one in records if one.name == "function_code"}
    return {codes[one.fields["code"]] for one in records if one.name == "function_begin"}


def test_what_a_process_calls_and_logs_is_in_the_trace_and_it_goes_on(running, tmp_path, capsys):
    records = attach_until(
        lambda records: {"log", "function_end"} <= {one.name for one in records}, tmp_path / "out", running.pid
    )
    told = capsys.readouterr().err
    assert f"recording process {running.pid}" in told and " records" in told
    assert names_of_calls(records) == {"__main__.work"}
    assert {one.fields["message"].partition(" ")[0] for one in records if one.name == "log"} == {"order"}
    assert {one.contexts["vpid"] for one in records} == {running.pid}
    assert running.poll() is None
    attach(running.pid, "-o", tmp_path / "again", "--functions", "--exclude", "__main__", "--duration", "0.2", "--json")
    result = json.loads(capsys.readouterr().out)
    assert result["records"] == 0 and result["pid"] == running.pid
    with open(f"/proc/{running.pid}/maps") as maps:  # one stays until its threads record into the next
        assert len({line.split()[4] for line in maps if "/channel" in line and "ringbuf-" in line}) <= 1


def test_it_ends_with_the_process_and_all_is_in_the_trace(running, tmp_path):
    with subprocess.Popen(
        [sys.executable, "-m", "ringbuf", "attach", str(running.pid), "-o", "out"], cwd=tmp_path,
        stderr=subprocess.PIPE, text=True, env=dict(os.environ),
    ) as command:  # fmt: skip
        assert "recording process" in command.stderr.readline()
        goes_on(tmp_path)
        running.kill()
        told = command.communicate(timeout=60)[1]
    assert command.returncode == 0 and "lost" not in told
    records = list(ringbuf.open_trace(tmp_path / "out"))
    assert len(records) > 10 and told.startswith(f"out: {len(records)} records")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_the_process_goes_on(running, tmp_path, number):
    with subprocess.Popen(
        [sys.executable, "-m", "ringbuf", "attach", str(running.pid), "-o", "out"], cwd=tmp_path,
        stderr=subprocess.PIPE, text=True, env=dict(os.environ),
    ) as command:  # fmt: skip
        assert "recording process" in command.stderr.readline()
        goes_on(tmp_path)
        command.send_signal(number)
        assert " records" in command.communicate(timeout=60)[1]
    assert command.returncode == 0 and running.poll() is None
    assert names_of_calls(list(ringbuf.open_trace(tmp_path / "out"))) == {"__main__.work"}


def test_a_flight_recorder_stays_until_it_is_stopped(running, tmp_path, capsys):
    attach(running.pid, "--flight", "--functions", "--json")
    path = json.loads(capsys.readouterr().out)["path"]
    assert os.path.dirname(path) == str(tmp_path / "flights")
    attach(running.pid, "--flight", status=1)
    assert "it has a flight recorder already" in capsys.readouterr().err
    goes_on(tmp_path)
    assert main(["snapshot", path, "-o", str(tmp_path / "snapshot")]) == 0
    assert names_of_calls(list(ringbuf.open_trace(tmp_path / "snapshot"))) == {"__main__.work"}
    attach(running.pid, "--stop")
    assert "1 recording ended" in capsys.readouterr().out
    attach(running.pid, "--stop", status=1)
    running.kill()
    running.wait()
    assert ringbuf.recover(path, tmp_path / "recovered").records > 0


def test_events_that_the_program_declares_meanwhile_are_in_it(tmp_path, monkeypatch):
    program = """
import time, ringbuf
print("ready", flush=True)
while True:
    with ringbuf.Tracer("own") as tracer:
        tracer.event("step", n="u64")(17)
    time.sleep(0.01)
"""
    child = start("listen", tmp_path, program)
    try:
        records = attach_until(
            lambda records: "step" in {one.name for one in records}, tmp_path / "out", child.pid, "--logging"
        )
    finally:
        end(child)
    assert {one.fields["n"] for one in records if one.name == "step"} == {17}


def test_a_forked_child_listens_too(tmp_path):
    in_child = "os.fork() and os.wait(); open('child', 'w').write(str(os.getpid()))"
    program = PROGRAM.replace('    print("ready"', f'    {in_child}; print("ready"')
    child = start("listen", tmp_path, program)
    try:
        pid = int((tmp_path / "child").read_text())
        assert pid != child.pid
        records = attach_until(names_of_calls, tmp_path / "out", pid)
        os.kill(pid, signal.SIGKILL)
    finally:
        child.kill()
        child.communicate()
    assert names_of_calls(records) == {"__main__.work"}


# ---- refusals: one line, and nothing is left ----


def test_a_process_that_is_not_there(tmp_path, capsys):
    attach(2**22 - 1, "-o", tmp_path / "out", status=1)
    assert capsys.readouterr().err == f"ringbuf attach: there is no process {2**22 - 1}\n"
    assert not (tmp_path / "out").exists()


def test_a_process_that_is_no_python(tmp_path, capsys):
    with subprocess.Popen([needs.command("sh"), "-c", "read line"], stdin=subprocess.PIPE) as child:
        try:
            attach(child.pid, "-o", tmp_path / "out", status=1)
        finally:
            child.kill()
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "RINGBUF_LISTEN=1" in told and "no CPython that can be told" in told
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(hasattr(sys, "remote_exec"), reason="this one can")
def test_an_older_python_that_does_not_listen(tmp_path, capsys):
    child = start("not", tmp_path)
    try:
        attach(child.pid, "-o", tmp_path / "out", status=1)
    finally:
        end(child)
    assert "start older ones with RINGBUF_LISTEN=1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--include", "shop"], "choose among functions: add --functions"),
        (["--stop", "--flight"], "give one of them"),
        (["--functions", "--include", " "], "is no pattern"),
    ],
)
def test_options_that_do_not_go_together(arguments, message, capsys):
    attach(os.getpid(), *arguments, status=1)
    assert message in capsys.readouterr().err


def test_the_answer_to_nonsense_is_an_error():
    assert attached.answer("").startswith("error\n'' is nothing")
    assert attached.answer("start\n/nowhere\nfunctions").startswith("error\n[Errno 2]")
    assert attached.answer("start\n/nowhere\nfly").startswith("error\n'fly' is none of functions")


def test_a_socket_of_another_user_s_directory_is_refused(tmp_path):
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    with pytest.raises(PermissionError, match="everybody may write in it"):
        listen.start(str(open_to_all))


def test_why_the_kernel_forbids_it_is_explained(monkeypatch):
    texts = {
        "1": "ptrace_scope is 1, so only its parent",
        "2": "only with CAP_SYS_PTRACE",
        "3": "nobody",
        "0": "seccomp",
    }
    monkeypatch.setattr(os, "geteuid", lambda: os.stat(f"/proc/{os.getpid()}").st_uid or 0)
    real = _asking.Path
    for scope, text in texts.items():
        monkeypatch.setattr(_asking, "Path", lambda path, scope=scope: _Scope(scope) if "yama" in path else real(path))
        if scope != "1" or os.geteuid() != 0:
            told = _asking._why_not_permitted(os.getpid())
            assert text in told and "RINGBUF_LISTEN=1" in told


class _Scope:
    def __init__(self, text):
        self.read_text = lambda: f"{text}\n"


def test_a_version_is_told_by_what_a_process_runs():
    assert _asking._version_of(os.getpid()) == "{}.{}".format(*sys.version_info)
