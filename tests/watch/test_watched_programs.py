"""Triggers in programs: their ends, their children, their output, and RINGBUF_WATCH."""

import os
import re
import signal
import subprocess
import sys

import needs
import pytest
import rings

import ringbuf

BEGIN = """
import ringbuf, sys, os, time, threading
tracer = ringbuf.Tracer("app", subbuf_size=4096, n_subbufs=4)
tracer.event("step", n="u64")(17)
"""


def run(program, cwd, *, watch=None, status=0, **environment):
    """What a program, a text or a file, prints on both outputs; and its snapshots, with what stands beside them."""
    more = {} if watch is None else {"RINGBUF_WATCH": watch}
    done = subprocess.run(
        [sys.executable, *(["-c"] if "\n" in program else []), program],
        cwd=cwd,
        env={**os.environ, **more, **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr, snapshots(cwd)


def snapshots(cwd):
    folder = cwd / "ringbuf-snapshots"
    names = sorted(name for name in os.listdir(folder) if not name.endswith(".txt")) if folder.exists() else []
    assert not any(name.startswith(".") for name in names)
    return [(list(ringbuf.open_trace(folder / name)), (folder / f"{name}.txt").read_text()) for name in names]


def test_an_exception_that_ends_a_program_is_in_a_whole_snapshot(tmp_path):
    program = BEGIN + "def pay(): raise KeyError('no money')\npay()"
    plain, none = run(program, tmp_path, status=1)
    assert none == []
    printed, [(records, text)] = run(program, tmp_path, watch="exception", status=1)
    assert printed == plain
    assert [one.name for one in records] == ["step", "trigger"]
    assert "what: KeyError: 'no money'\n" in text and "in pay\n" in text


@pytest.mark.parametrize("end", ["sys.exit(0)", "sys.exit('no')", "raise KeyboardInterrupt", "pass"])
def test_an_end_that_somebody_wanted_makes_none(tmp_path, end):
    status = {"pass": 0, "sys.exit(0)": 0, "sys.exit('no')": 1}.get(end, -2)
    assert run(BEGIN + end, tmp_path, watch="exception", status=status)[1] == []


def test_a_hook_that_the_program_sets_later_is_not_in_the_way(tmp_path):
    program = BEGIN + "sys.excepthook = lambda *about: print('mine')\n1 / 0"
    printed, [(_, text)] = run(program, tmp_path, watch="exception", status=1)
    assert printed == "mine\n" and "ZeroDivisionError" in text


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_an_exception_in_a_child_of_multiprocessing(tmp_path, method):
    (tmp_path / "app.py").write_text(
        BEGIN.replace('"app"', '"app", path=f"{os.getpid()}.ring"')
        + f"""
import multiprocessing

def fail():
    tracer.event("child", n="u64")(1)
    raise KeyError("of the child")

def succeed():
    tracer.event("child", n="u64")(2)

if __name__ == "__main__":
    processes = multiprocessing.get_context({method!r})
    for work in (succeed, fail):
        child = processes.Process(target=work)
        child.start()
        child.join()
"""
    )
    _, found = run("app.py", tmp_path, watch="exception,at_most=9/s")
    assert len(found) == 1
    records, text = found[0]
    assert "trigger: exception\n" in text
    # Who forks has imported the program, and its children share its channel; a forkserver has from CPython 3.14 on.
    shared = {"fork": [[2, 1]], "spawn": [[1]], "forkserver": [[1], [2, 1]]}[method]
    assert [one.fields["n"] for one in records if one.name == "child"] in shared


def test_a_signal_that_ends_the_program_still_does_when_the_snapshot_is_there(tmp_path):
    program = BEGIN + "import signal\nos.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(100)"
    _, [(records, text)] = run(program, tmp_path, watch="signal=TERM", status=-15)
    assert text.startswith("trigger: signal\nwhat: SIGTERM\n") and records[0].name == "step"


def test_a_signal_wakes_a_main_thread_that_sleeps(tmp_path):
    program = BEGIN + "print(os.getpid(), flush=True)\nwhile not os.path.exists('end'): time.sleep(0.7)"
    child = subprocess.Popen(
        [sys.executable, "-c", program], cwd=tmp_path, env={**os.environ, "RINGBUF_WATCH": "signal=USR2"},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with child:
        pid = int(child.stdout.readline())
        os.kill(pid, signal.SIGUSR2)
        rings.eventually(lambda: list(tmp_path.glob("ringbuf-snapshots/*-signal")))
        (tmp_path / "end").touch()
    assert child.returncode == 0
    ((_, text),) = snapshots(tmp_path)
    assert "what: SIGUSR2" in text


@pytest.mark.parametrize(
    ("watch", "message"),
    [
        ("crash", "RINGBUF_WATCH: on: 'crash' is no trigger"),
        ("exception,keep=x", "RINGBUF_WATCH: keep: how many"),
        ("exception,at_most=x", "RINGBUF_WATCH: at_most: 'x' is no rate"),
        ("exception,dir=/proc/nothing", "RINGBUF_WATCH: .*/proc/nothing"),
        ("keep=3", "RINGBUF_WATCH: on: no trigger"),
    ],
)
def test_a_variable_that_is_wrong_is_one_line_and_the_program_runs(tmp_path, watch, message):
    printed, found = run(BEGIN + BEGIN + "print('done')", tmp_path, watch=watch)
    assert found == []
    assert printed.startswith("done\n") and re.search(message, printed)
    assert printed.count("RINGBUF_WATCH: ") == 1


def test_options_stand_among_the_triggers(tmp_path):
    program = (
        BEGIN + "import logging\nfrom ringbuf.watch.watch import _watches\n"
        "for n in range(4): logging.error('no %d', n); _watches[0].wait(60)"
    )
    watch = "log=ERROR,at_most=100/s,keep=2,last=60,max_size=1G,dir=here"
    run(program, tmp_path, watch=watch)
    names = sorted(name for name in os.listdir(tmp_path / "here") if name.endswith(".txt"))
    assert [open(tmp_path / "here" / name).read().split("\n")[1] for name in names] == [
        "what: ERROR root: no 2", "what: ERROR root: no 3"
    ]  # fmt: skip


def test_by_default_snapshots_are_where_the_files_are(tmp_path):
    run(BEGIN + "1 / 0", tmp_path, watch="exception", RINGBUF_DIR=str(tmp_path / "flights"), status=1)
    assert len(os.listdir(tmp_path / "flights" / "ringbuf-snapshots")) == 2


def test_without_the_variable_nothing_of_it_is_imported(tmp_path):
    program = BEGIN + "print(any(name.startswith('ringbuf.watch') for name in sys.modules))"
    assert run(program, tmp_path)[0] == "False\n"


def test_no_thread_is_there_unless_something_is_looked_for_in_time(tmp_path):
    program = BEGIN + "print(len(os.listdir('/proc/self/task')))"
    assert run(program, tmp_path, watch="exception,signal=USR2,over=1,log")[0] == "1\n"
    assert run(program, tmp_path, watch="loop=1,main=1")[0] == "2\n"


def test_event_loops_of_uvloop_are_watched_too(tmp_path):
    needs.package("uvloop")
    program = (
        BEGIN
        + """
import asyncio, uvloop
async def fail(): raise KeyError("nobody asked")
async def main():
    asyncio.create_task(fail())
    await asyncio.sleep(0.2)
    while not os.path.exists("ringbuf-snapshots") or len(os.listdir("ringbuf-snapshots")) < 4:
        time.sleep(1)
uvloop.run(main())
"""
    )
    _, found = run(program, tmp_path, watch="exception,loop=0.5,at_most=100/s")
    assert sorted(text.split("\n")[0] for _, text in found) == ["trigger: exception", "trigger: loop"]
    assert "main\n" in next(text for _, text in found if "trigger: loop" in text)
