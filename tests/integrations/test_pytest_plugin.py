"""``pytest --ringbuf`` with the real pytest, and xdist's workers."""

import os
import subprocess
import sys

import needs
import pytest

import ringbuf

TESTS = """
import logging, time
import pytest

@pytest.fixture
def number():
    yield 7

@pytest.fixture(scope="module")
def shared():
    return []

def test_good(number, shared):
    logging.getLogger("shop").warning("order %d", number)

def test_bad(number):
    assert number == 8

@pytest.fixture
def broken():
    raise OSError("no such thing")

@pytest.mark.parametrize("n", [1, 2])
def test_of_two(n, broken):
    pass
"""


@pytest.fixture
def run(tmp_path):
    (tmp_path / "test_shop.py").write_text(TESTS)

    def run(*options, plugins=("_ringbuf_pytest",)):
        """With these plugins alone: others that are installed take longer to import than all else. None: with all."""
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        environment.pop("PYTEST_ADDOPTS", None)
        if plugins is not None:
            environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        chosen = [part for name in ("no:cacheprovider", *(plugins or ())) for part in ("-p", name)]
        command = [sys.executable, "-m", "pytest", *chosen, "--rootdir", tmp_path, *options]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)

    return run


def spans(directory):
    with ringbuf.open_trace(directory) as trace:
        found = list(trace.spans())
        names = {one.id: one for one in found}
        tests = {one.id: one.fields["nodeid"] for one in found if one.name == "test"}
        fixtures = sorted((one.fields["name"], one.fields["scope"]) for one in found if one.name == "fixture")
        phases = sorted((tests[one.parent], one.name) for one in found if one.name in ("setup", "call", "teardown"))
        assert all(names[one.parent].name == "setup" for one in found if one.name == "fixture")
        outcomes = [record.fields for record in trace.records("outcome")]
        pids = {one.thread.pid for one in found}
    return sorted(tests.values()), phases, fixtures, outcomes, pids


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run(run, tmp_path, workers):
    options, plugins = [], ["_ringbuf_pytest"]
    if workers:
        needs.module("xdist")
        options, plugins = ["-n", str(workers)], [*plugins, "xdist.plugin"]
    done = run("--ringbuf=out", *options, plugins=plugins)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 passed" in done.stdout and "3 error" not in done.stdout
    assert f"all tests: {tmp_path}/out/session.html" in done.stdout
    tests, phases, fixtures, outcomes, pids = spans(tmp_path / "out" / "session")
    assert tests == [f"test_shop.py::test_{name}" for name in ("bad", "good", "of_two[1]", "of_two[2]")]
    assert ("test_shop.py::test_good", "call") in phases and ("test_shop.py::test_of_two[1]", "call") not in phases
    assert len([one for one in phases if one[1] == "teardown"]) == 4
    assert ("number", "function") in fixtures and ("shared", "module") in fixtures
    failed = {one["error"] for one in outcomes if one["outcome"] == "failed"}
    assert "OSError: no such thing" in failed and any(one.startswith("assert 7 == 8") for one in failed)
    assert len(pids) == max(1, workers)
    with ringbuf.open_trace(tmp_path / "out" / "session") as trace:
        assert [record.fields["message"] for record in trace.records("log")] == ["order 7"]
    kept = sorted(os.listdir(tmp_path / "out" / "failures"))
    names = ["test_shop.py_test_bad", "test_shop.py_test_of_two_1-setup", "test_shop.py_test_of_two_2-setup"]
    assert kept == sorted([*names, *(f"{name}.html" for name in names)])
    assert spans(tmp_path / "out" / "failures" / names[0])[0].count("test_shop.py::test_bad") == 1
    assert sorted(os.listdir(tmp_path / "out")) == ["failures", "session", "session.html"]  # the ring is gone


def test_a_second_run_replaces_the_first(run, tmp_path):
    assert run("--ringbuf", "-k", "bad").returncode == 1
    assert run("--ringbuf", "-k", "good").returncode == 0
    assert sorted(os.listdir(tmp_path / "ringbuf-tests")) == ["session", "session.html"]
    assert spans(tmp_path / "ringbuf-tests" / "session")[0] == ["test_shop.py::test_good"]


def test_it_costs_nothing_where_nobody_asks(run, tmp_path):
    (tmp_path / "test_shop.py").write_text(
        "import sys\ndef test(): assert not [name for name in sys.modules if name.split('.')[0] == 'ringbuf']"
    )
    done = run(plugins=None)
    assert done.returncode == 0, done.stdout
    assert "--ringbuf" in run("--help", plugins=None).stdout


def test_a_directory_that_cannot_be_written_is_told_at_once(run, tmp_path):
    (tmp_path / "file").write_text("")
    done = run("--ringbuf=file/x")
    assert done.returncode != 0 and "Not a directory" in done.stderr + done.stdout
