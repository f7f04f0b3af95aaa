"""`ringbuf record`: what it says about what is not in the trace, and that with --block nothing is lost, nor hangs."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

import ringbuf

BURST = "def f(): pass\nfor _ in range({n}): f()"


def environment():
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PATH": path, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def record(*arguments, cwd, status=0):
    command = [sys.executable, "-m", "ringbuf", "record", "--json", "-o", "out", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == status, done.stderr
    lines = done.stdout.splitlines()
    return json.loads(lines[-1]), done.stderr, lines[:-1]


def not_recorded(directory):
    return [one.fields for one in ringbuf.open_trace(directory) if one.name == "not_recorded"]


# ---- losses ----

SMALL = ("--subbuf-size", 4096, "--n-subbufs", 2)


def test_losses_are_told_with_the_option_that_helps(tmp_path):
    result, _, _ = record("--functions", *SMALL, "--", sys.executable, "-c", BURST.format(n=50_000), cwd=tmp_path)
    assert result["lost"] > 0
    (hint,) = result["hints"]
    assert "--block" in hint and "--n-subbufs 8" in hint and "8 KiB for each CPU" in hint
    assert hint.startswith(f"{result['lost']} records lost")


def test_with_block_nothing_is_lost(tmp_path):
    program = BURST.format(n=20_000)
    result, _, _ = record("--functions", "--block", *SMALL, "--", sys.executable, "-c", program, cwd=tmp_path)
    assert result["lost"] == 0 and result["hints"] == []
    names = [one.name for one in ringbuf.open_trace(tmp_path / "out")]
    assert names.count("function_begin") == names.count("function_end") == 20_001
    assert len(names) == result["records"]


def test_records_that_are_too_large_are_told_so(tmp_path):
    program = "import logging; logging.warning('x' * 5000)"
    result, _, _ = record("--logging", *SMALL, "--", sys.executable, "-c", program, cwd=tmp_path)
    assert result["lost"] == 1 and "--subbuf-size 16384" in result["hints"][0]


def test_too_many_threads_are_told_so(tmp_path):
    program = """
import threading
gate = threading.Barrier(8)
def f(): gate.wait()
threads = [threading.Thread(target=f) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    result, _, _ = record("--functions", "--n-producers", 3, "--", sys.executable, "-c", program, cwd=tmp_path)
    assert result["lost"] > 0 and any("--n-producers 12" in hint for hint in result["hints"])


def test_overwriting_counts_what_is_in_the_trace(tmp_path):
    program = BURST.format(n=50_000)
    options = "--functions", "--mode", "overwrite", *SMALL
    result, _, _ = record(*options, "--", sys.executable, "-c", program, cwd=tmp_path)
    assert result["records"] == len(list(ringbuf.open_trace(tmp_path / "out")))
    assert result["overwritten"] > 0 and "--n-subbufs 8" in result["hints"][0]


def test_the_buffers_for_functions_take_a_second_of_calls(tmp_path):
    result, _, _ = record("--functions", "--", sys.executable, "-c", BURST.format(n=200_000), cwd=tmp_path)
    assert result["lost"] == 0 and result["records"] == 400_004


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_program_goes_on_when_its_recorder_is_gone(tmp_path, how):
    program = f"""
import os, signal, sys, time
def f(): pass
f()
os.kill(os.getppid(), signal.{how.name})
if {how == signal.SIGSTOP}:
    signal.signal(signal.SIGALRM, lambda *args: os.kill(os.getppid(), signal.SIGCONT))
    signal.alarm(1)
time.sleep(0.2)
for _ in range(20_000): f()
open("done", "w").close()
"""
    command = [sys.executable, "-m", "ringbuf", "record", "--functions", "--block", *map(str, SMALL), "-o", "out", "--"]
    with subprocess.Popen([*command, sys.executable, "-c", program], cwd=tmp_path, env=environment()) as recorder:
        recorder.wait(60)
    deadline = time.monotonic() + 60
    while not (tmp_path / "done").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# ---- processes that are not recorded ----

CHILD = "import subprocess, sys, os\nargs = [sys.executable, '-c', 'print(1, flush=True)']\n"
STARTS = {
    "env": ("subprocess.run(args, env={})", "it was started with an environment of its own"),
    "path": ("subprocess.run(args, env={**os.environ, 'PYTHONPATH': '/x'})", "it was started with a PYTHONPATH"),
    "changed": ("os.environ['PYTHONPATH'] = '/x'; subprocess.run(args)", "it was started with a PYTHONPATH"),
    "isolated": ("subprocess.run([args[0], '-I', *args[1:]])", "it was started with -I"),
    "exec": ("if not os.fork(): os.execve(args[0], args, {})\nos.wait()", "it was started with an environment"),
    "spawn": ("os.waitpid(os.posix_spawn(args[0], args, {}), 0)", "it was started with an environment"),
}


@pytest.mark.parametrize("how", STARTS)
def test_children_that_cannot_be_recorded_are_named(tmp_path, how):
    start, why = STARTS[how]
    result, errors, printed = record("--functions", "--", sys.executable, "-c", CHILD + start, cwd=tmp_path)
    assert printed == ["1"] and errors == ""
    (note,) = result["not_recorded"]
    assert note["why"].startswith(why) and "print(1" in note["program"]
    assert not_recorded(tmp_path / "out") == [note]


def test_children_that_are_recorded_are_not_named(tmp_path):
    start = "subprocess.run(args); subprocess.run(['true'], env={}); os.system('true')"
    result, _, printed = record("--functions", "--", sys.executable, "-c", CHILD + start, cwd=tmp_path)
    assert printed == ["1"] and result["not_recorded"] == []


def test_a_child_that_cannot_record_says_so_to_the_recorder_alone(tmp_path):
    start = "subprocess.run(args, env={**os.environ, 'RINGBUF_CHANNEL': '/etc/passwd'})"
    result, errors, printed = record("--functions", "--", sys.executable, "-c", CHILD + start, cwd=tmp_path)
    assert printed == ["1"] and errors == ""
    (note,) = result["not_recorded"]
    assert note["why"].startswith("RegionError: /etc/passwd") and note["pid"] > 0


def test_what_outlives_the_recording_is_named(tmp_path):
    child = "import os, time; open('begun', 'w')\nwhile not os.path.exists('end'): time.sleep(0.1)"
    start = (
        f"nowhere = dict.fromkeys(['stdin', 'stdout', 'stderr'], subprocess.DEVNULL)\n"
        f"subprocess.Popen([args[0], '-c', {child!r}], **nowhere)\n"
        "import time\nwhile not os.path.exists('begun'): time.sleep(0.01)"
    )
    try:
        result, _, _ = record("--functions", "--", sys.executable, "-c", CHILD + start, cwd=tmp_path)
    finally:
        (tmp_path / "end").touch()
    (note,) = result["not_recorded"]
    assert note["why"] == "it outlives the recording" and "time.sleep(0.1)" in note["program"] and note["pid"] > 0


def test_notes_are_printed_below_the_report(tmp_path):
    command = [sys.executable, "-m", "ringbuf", "record", "--functions", "-o", "out", "--", sys.executable, "-c"]
    start = CHILD + "subprocess.run(args, env={'\\x1b[31m': ''}, executable=args[0])"
    done = subprocess.run([*command, start], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].startswith("not recorded: ") and "\x1b" not in done.stderr


@pytest.mark.skipif(hasattr(sys, "monitoring"), reason="before Python 3.12")
@pytest.mark.parametrize("how", ["sys.setprofile(lambda *args: None)", "import cProfile; cProfile.Profile().enable()"])
def test_a_profile_function_of_the_program_is_told(tmp_path, how):
    program = f"import sys\ndef f(): pass\nf()\n{how}\nf()"
    result, errors, _ = record("--functions", "--", sys.executable, "-c", program, cwd=tmp_path)
    (note,) = result["not_recorded"]
    assert "has a profile function of its own" in note["why"] and errors == ""


# ---- audit ----


def audited(directory):
    return {one.fields["name"] for one in ringbuf.open_trace(directory) if one.name == "audit"}


AUDITED = "import sys; sys._getframe(); id(1); sys.argv.__class__; sys.audit('shop.pay', 1); open('/dev/null')"


def test_audit_leaves_out_what_nobody_asks_for(tmp_path):
    record("--audit", "--", sys.executable, "-c", AUDITED, cwd=tmp_path)
    found = audited(tmp_path / "out")
    assert {"open", "shop.pay"} <= found and not found & {"sys._getframe", "builtins.id"}
    assert not {name for name in found if name.startswith("object.")}


@pytest.mark.parametrize(
    "patterns, wanted, unwanted",
    [
        (["--audit", "shop.*"], {"shop.pay"}, {"open"}),
        (["--audit", "open", "--audit=builtins.id"], {"open", "builtins.id"}, {"shop.pay"}),
        (["--audit", "*"], {"open", "shop.pay", "sys._getframe", "builtins.id"}, set()),
    ],
)
def test_audit_events_are_chosen(tmp_path, patterns, wanted, unwanted):
    record(*patterns, "--", sys.executable, "-c", AUDITED, cwd=tmp_path)
    found = audited(tmp_path / "out")
    assert wanted <= found and not found & unwanted


# ---- arguments ----


@pytest.mark.parametrize(
    "arguments, line",
    [
        (["--c-functions", "--", "true"], "--c-functions is about what functions call: add --functions"),
        (["--include", "x", "--", "true"], "--include and --exclude choose among functions: add --functions"),
        (["--functions"], "there is no program to run (ringbuf record [options] -- PROGRAM [ARGUMENT ...])"),
        (["--audit", "true"], "there is no program to run: --audit took 'true' for an event, put -- before"),
        (["--audit", "sh", "x.py"], "--audit took 'sh' for an event: put -- before the program"),
        (["--mode", "overwrite", "--block", "--", "true"], "--block waits: it goes with --mode discard"),
        (["--functions", "--include", "", "--", "true"], "'' is no pattern of names"),
        (["--n-subbufs", "3", "--", "true"], "n_subbufs must be a power of two, 2 to 16384, not 3"),
        (["--n-producers", "0", "--", "true"], "n_producers must be an int, 1 to 1048576, not 0"),
        (["--", "no-such-program"], "no-such-program: no such program"),
    ],
)
def test_wrong_arguments_give_one_line(tmp_path, arguments, line):
    command = [sys.executable, "-m", "ringbuf", "record", "-o", "out", *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=100)
    assert done.returncode == 1 and done.stderr.startswith(f"ringbuf record: {line}") and done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_program_needs_no_dashes_before_it(tmp_path):
    result, _, printed = record("--functions", sys.executable, "-c", "print('-o', 2)", "-o", "x", cwd=tmp_path)
    assert printed == ["-o 2"] and result["records"] > 0
