"""inject/flight.py: RINGBUF=flight, in every Python that has ringbuf installed."""

import os
import signal
import subprocess
import sys
import sysconfig
import time

import pytest

import ringbuf
from ringbuf.cli import main
from ringbuf.inject import flight

PROGRAM = """
import logging, os, sys

def pay(order):
    logging.getLogger("shop").warning("order %d", order)
    return order

pay(17)
print("done")
sys.stdout.flush()
"""

HOOK = os.path.join(sysconfig.get_path("purelib"), "ringbuf_trace.pth")


@pytest.fixture(autouse=True)
def is_installed():
    if not os.path.exists(HOOK):
        pytest.skip("ringbuf is on the path, and not installed")


def run(program, folder, *, flight="flight", status=0, more=(), **environment):
    """What it prints on both outputs."""
    found = {**os.environ, "RINGBUF": flight, "RINGBUF_DIR": str(folder), **environment}
    done = subprocess.run(
        [sys.executable, *more, "-c", program], env=found, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


def recovered(folder, tmp_path):
    """The records of each file that is left."""
    found = []
    for name in sorted(os.listdir(folder)):
        if name.endswith(".ringbuf"):
            trace = tmp_path / f"recovered-{len(found)}-{time.monotonic_ns()}"
            ringbuf.recover(folder / name, trace)
            found.append(list(ringbuf.open_trace(trace)))
    return found


def names_of_calls(records):
    codes = {one.fields["code"]: one.fields["name"] for one in records if one.name == "function_code"}
    return [codes[one.fields["code"]] for one in records if one.name == "function_begin"]


def test_functions_and_logs_survive_sigkill(tmp_path):
    printed = run(PROGRAM + "os.kill(os.getpid(), 9)", tmp_path / "flights", status=-signal.SIGKILL)
    assert printed == "done\norder 17\n"
    (records,) = recovered(tmp_path / "flights", tmp_path)
    assert names_of_calls(records) == ["__main__.<module>", "__main__.pay"]
    assert [one.fields["message"] for one in records if one.name == "log"] == ["order 17"]
    assert {one.contexts["vpid"] for one in records} == {records[0].contexts["vtid"]}


def test_a_good_end_leaves_nothing_and_a_bad_one_the_file(tmp_path):
    folder = tmp_path / "flights"
    run(PROGRAM, folder)
    assert os.listdir(folder) == []
    run(PROGRAM, folder, RINGBUF_KEEP="1")
    run(PROGRAM + "1 / 0", folder, status=1)
    assert len(recovered(folder, tmp_path)) == 2


def test_the_program_finds_nothing_that_would_not_be_there_without_it(tmp_path):
    program = PROGRAM + (
        "print(sorted(name for name in sys.modules if 'ringbuf' not in name and 'cython' not in name),"
        " len(os.listdir('/proc/self/task')), sys.argv, sys.getprofile(), sys.gettrace())"
    )
    plain = run(program, tmp_path, flight="").replace(", 'atexit'", "")
    watched = run(program, tmp_path)
    extra = set(watched.split("'")) - set(plain.split("'"))
    assert {name for name in extra if not name.startswith("_")} <= {"atexit", "time"}


def test_without_the_variable_ringbuf_is_not_imported_and_it_takes_no_millisecond(tmp_path):
    program = "import sys; print([name for name in sys.modules if 'ringbuf' in name])"
    expected = "[]\n" if sys.version_info < (3, 15) else "['_ringbuf_start']\n"
    assert run(program, tmp_path, flight="") == expected
    with open(HOOK) as file:
        line = file.read()
    assert line.startswith("import os; ") and line.count("\n") == 1
    begin = time.thread_time()
    for _ in range(100):
        exec(line, {})
    assert time.thread_time() - begin < 0.1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fly", "'fly' is none of flight"),
        ("flight,calls", "'calls' is none of functions, c-functions"),
        ("flight,size=big", "size: 'big' is no size"),
        ("flight,include", "include needs a value"),
        ("flight,functions=1", "functions takes no value"),
        ("flight,logging,include=shop", "include, exclude and c-functions are about functions"),
    ],
)
def test_a_variable_that_is_wrong_is_one_line_and_the_program_runs(tmp_path, text, message):
    printed = run(PROGRAM, tmp_path / "flights", flight=text)
    told = [line for line in printed.splitlines() if line.startswith("ringbuf: RINGBUF: ")]
    assert len(told) == 1 and message in told[0] and printed.replace(told[0] + "\n", "") == "done\norder 17\n"


def test_a_directory_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    printed = run(PROGRAM, tmp_path / "file" / "flights")
    assert printed.count("ringbuf: RINGBUF: ") == 1 and "done\n" in printed


def test_what_is_recorded_can_be_chosen(tmp_path):
    folder = tmp_path / "flights"
    run(PROGRAM, folder, flight="flight,logging,size=1M", RINGBUF_KEEP="1")
    (path,) = folder.iterdir()
    assert path.stat().st_size < 5 << 20
    (records,) = recovered(folder, tmp_path)
    assert [one.name for one in records] == ["log"]
    assert flight.options_of("flight") == ({"functions": [], "logging": []}, 32 << 20)


def test_include_alone_is_about_the_functions_of_the_default():
    what, _ = flight.options_of("flight,include=shop,exclude=shop.views")
    assert what == {"include": ["shop"], "exclude": ["shop.views"], "functions": [], "logging": []}


def test_children_of_every_kind_have_theirs_and_forked_ones_their_parent_s(tmp_path):
    folder = tmp_path / "flights"
    program = f"""
import os, subprocess, sys
def of_child(): pass
if not os.fork():
    of_child()
    os._exit(0)
os.wait()
subprocess.run([sys.executable, "-c", {PROGRAM!r}])
os.kill(os.getpid(), 9)
"""
    run(program, folder, status=-signal.SIGKILL)
    (records,) = recovered(folder, tmp_path)  # the other has ended well
    assert "__main__.of_child" in names_of_calls(records)
    assert len({one.contexts["vpid"] for one in records}) == 2


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_child_of_multiprocessing_that_fails_leaves_its_file(tmp_path, method):
    folder = tmp_path / "flights"
    (tmp_path / "app.py").write_text(
        f"""
import multiprocessing
def fail():
    raise KeyError("of the child")
def succeed():
    pass
if __name__ == "__main__":
    for work in (succeed, fail):
        child = multiprocessing.get_context({method!r}).Process(target=work)
        child.start()
        child.join()
"""
    )
    done = subprocess.run(
        [sys.executable, "app.py"], cwd=tmp_path, env={**os.environ, "RINGBUF": "flight", "RINGBUF_DIR": str(folder)},
        capture_output=True, text=True, timeout=100, check=True,
    )  # fmt: skip
    assert "KeyError" in done.stderr
    calls = [names_of_calls(records) for records in recovered(folder, tmp_path)]
    if method == "spawn":  # the others share the file of who forked them, which ends well
        assert len(calls) == 1 and calls[0][-1].endswith("fail")


def test_a_program_s_own_events_and_spans_are_in_it_too(tmp_path):
    folder = tmp_path / "flights"
    program = """
import ringbuf, os
tracer = ringbuf.Tracer("own", path="/dev/shm/ringbuf-test-%d" % os.getpid(), keep=False)
with tracer.span("db", table="orders"):
    tracer.event("step", n="u64")(17)
os.unlink(tracer.channel.path)
os.kill(os.getpid(), 9)
"""
    run(program, folder, status=-signal.SIGKILL)
    (records,) = recovered(folder, tmp_path)
    own = [(one.name, one.fields) for one in records if not one.name.startswith("function")]
    assert [name for name, _ in own] == ["db", "step", "span_end"] and own[1][1] == {"n": 17}


def test_triggers_of_the_environment_watch_it(tmp_path):
    folder = tmp_path / "flights"
    run(PROGRAM + "pay(18)\n1 / 0", folder, status=1, RINGBUF_WATCH="exception,log=ERROR")
    (name,) = [name for name in os.listdir(folder / "ringbuf-snapshots") if not name.endswith(".txt")]
    records = list(ringbuf.open_trace(folder / "ringbuf-snapshots" / name))
    assert [one.fields["message"] for one in records if one.name == "log"] == ["order 17", "order 18"]
    assert "ZeroDivisionError" in (folder / "ringbuf-snapshots" / f"{name}.txt").read_text()


def test_a_slow_span_of_a_program_s_own_tracer_is_a_trigger_of_the_flight(tmp_path):
    folder = tmp_path / "flights"
    program = """
import ringbuf, time
tracer = ringbuf.Tracer("own", mode="discard")
with tracer.span("db"):
    time.sleep(0.05)
"""
    run(program, folder, RINGBUF_WATCH="over=0.02")
    (text,) = [path.read_text() for path in (folder / "ringbuf-snapshots").glob("*.txt")]
    assert "what: db took " in text


def test_under_ringbuf_record_the_recording_has_the_program(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("RINGBUF", "flight")
    monkeypatch.setenv("RINGBUF_DIR", str(tmp_path / "flights"))
    assert main(["record", "--functions", "-o", str(tmp_path / "out"), "--", sys.executable, "-c", PROGRAM]) == 0
    assert not (tmp_path / "flights").exists()
    assert "__main__.pay" in names_of_calls(list(ringbuf.open_trace(tmp_path / "out")))


def test_without_a_directory_the_files_are_in_memory_and_list_shows_them(tmp_path, monkeypatch, capfd):
    place = tmp_path / "default"
    monkeypatch.setattr("ringbuf.record.automatic.default_directory", lambda: str(place))
    place.mkdir(mode=0o777)
    place.chmod(0o777)
    with pytest.raises(PermissionError, match="everybody may write in it: set RINGBUF_DIR"):
        flight._check(str(place))
    place.chmod(0o700)
    flight._check(str(place))
    for n in range(40):
        channel = ringbuf.Channel("x", path=place / f"x-{n}.ringbuf", subbuf_size=4096, n_subbufs=2)
        channel.close()
    flight._check(str(place))
    assert len(list(place.iterdir())) == 16
