"""ringbuf record --gc, --exceptions, --snapshot-on: inject/raised.py and its watch."""

import os
import sys

import pytest

import ringbuf
from ringbuf.cli import main

PROGRAM = """
import gc, json, os, signal, sys

class Own(Exception):
    def __str__(self):
        os._exit(77)  # nobody may ask

def fail():
    raise Own("no money", 17)

def go_on():
    for work in (fail, lambda: json.loads("{")):
        try:
            work()
        except Exception:
            pass

go_on()
gc.collect()
if sys.argv[1:]:
    os.kill(os.getpid(), signal.SIGUSR2)
print("done")
"""


@pytest.fixture
def record(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))

    def run(*options, status=0, more=()):
        (tmp_path / "app.py").write_text(PROGRAM)
        assert main(["record", *options, "-o", "out", "--", sys.executable, "app.py", *more]) == status
        return capfd.readouterr()

    return run


def records(name, trace="out"):
    return [one.fields for one in ringbuf.open_trace(trace) if one.name == name]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="exceptions are told from CPython 3.12 on")
def test_exceptions_are_there_once_with_where_they_were_raised_and_none_of_the_program_s_code_runs(record):
    assert record("--exceptions", "--snapshot-on", "loss", "--mode", "overwrite").out == "done\n"
    found = [(one["type"], one["function"], one["args"].partition(",")[0]) for one in records("exception")]
    assert found[0] == ("Own", "fail", "'no money'")
    assert [one[0] for one in found[1:]] == ["JSONDecodeError"] and found[1][1].endswith("raw_decode")


@pytest.mark.skipif(sys.version_info < (3, 12), reason="exceptions are told from CPython 3.12 on")
def test_exceptions_of_modules_that_are_left_out_are_left_out(record):
    record("--exceptions", "--exclude", "__main__", "--gc")
    assert records("exception") == []


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="this one tells of exceptions")
def test_an_older_python_is_said_not_to_tell_of_exceptions(record):
    assert "its exceptions are not: that takes Python 3.12" in record("--exceptions").err


def test_collections_are_there_with_how_long_they_took(record):
    record("--gc")
    whole = [one for one in records("gc") if one["generation"] == 2]
    assert whole and all(0 < one["ns"] < 60e9 for one in whole)


def test_snapshots_are_beside_the_trace(record, tmp_path):
    record("--mode", "overwrite", "--gc", "--snapshot-on", "signal=USR2", more=["now"])
    (name,) = [name for name in os.listdir("out-snapshots") if not name.endswith(".txt")]
    assert name.endswith("-signal") and records("trigger", tmp_path / "out-snapshots" / name)[0]["what"] == "SIGUSR2"
    assert records("trigger")[0]["what"] == "SIGUSR2"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--snapshot-on", "crash", "--mode", "overwrite"], "'crash' is no trigger"),
        (["--snapshot-on", "exception"], "it goes with --mode overwrite"),
    ],
)
def test_triggers_that_cannot_be_are_one_line_at_the_start(record, options, message):
    told = record(*options, status=1)
    assert message in told.err and told.err.count("\n") == 1 and not os.path.exists("out")
