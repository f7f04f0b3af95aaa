"""Flight recorder files: RINGBUF_DIR, and what becomes of them."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import rings

import ringbuf
from ringbuf.cli import main
from ringbuf.record import files

PROGRAM = """
import os, signal, sys
import ringbuf
tracer = ringbuf.Tracer("flight", subbuf_size=4096, n_subbufs=2, streams="global")
print(tracer.channel.path, flush=True)
tick = tracer.event("tick", n="u32")
for n in range(10):
    tick(n)
"""


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "flights"


def run(folder, ending="", **environment):
    """Run PROGRAM with RINGBUF_DIR; its exit code, and the path it printed."""
    done = rings.script(PROGRAM + ending, env={"RINGBUF_DIR": str(folder), **environment})
    return done.returncode, done.stdout.splitlines()[0], done.stderr


def killed(folder, **environment):
    """The file of a process that was killed."""
    code, path, _ = run(folder, "os.kill(os.getpid(), signal.SIGKILL)", **environment)
    assert code == -signal.SIGKILL
    return path


def there(folder):
    return sorted(os.listdir(folder))


@pytest.mark.parametrize("ending", ["os.kill(os.getpid(), signal.SIGKILL)", "os.abort()", "os._exit(1)", "1 / 0"])
def test_a_crash_leaves_a_file_that_can_be_recovered(folder, tmp_path, ending):
    code, path, _ = run(folder, ending)
    assert code != 0
    assert there(folder) == [os.path.basename(path)]
    assert ringbuf.recover(path, tmp_path / "trace").records == 10


@pytest.mark.parametrize("ending", ["", "sys.exit(3)", "tracer.close()", "raise KeyboardInterrupt"])
def test_a_clean_exit_removes_it(folder, ending):
    run(folder, ending)
    assert there(folder) == []


def test_a_file_can_be_kept(folder):
    run(folder, RINGBUF_KEEP="1")
    assert len(there(folder)) == 1


def test_the_name_is_program_pid_and_start(folder):
    path = killed(folder)
    (region,) = files.find(folder)
    program, pid, start = re.fullmatch(r"(.+)-(\d+)-(\d{8}T\d{6})\.ringbuf", os.path.basename(path)).groups()
    assert program == "python" and int(pid) == region.pid
    assert abs(time.mktime(time.strptime(start, "%Y%m%dT%H%M%S")) - time.timezone - time.time()) < 600
    assert oct(os.stat(path).st_mode & 0o777) == "0o600"
    assert oct(os.stat(folder).st_mode & 0o777) == "0o700"


def test_a_second_tracer_has_a_file_of_its_own(folder, monkeypatch):
    monkeypatch.setenv("RINGBUF_DIR", str(folder))
    with rings.tracer("one", keep=True) as one, rings.tracer("two", keep=True) as two:
        assert two.channel.path == one.channel.path.removesuffix(".ringbuf") + "-2.ringbuf"
        assert sorted(region.name for region in files.find(folder)) == ["one", "two"]


def test_forked_children_record_into_their_parents_file(folder, tmp_path):
    ending = "if os.fork() == 0:\n    tick(10)\n    os.kill(os.getpid(), signal.SIGKILL)\nos.wait()\nos.abort()"
    _, path, _ = run(folder, ending)
    assert there(folder) == [os.path.basename(path)]
    assert ringbuf.recover(path, tmp_path / "trace").records == 11


def test_a_parent_that_exits_leaves_the_file_to_its_living_child(folder):
    ending = "if os.fork() == 0:\n    sys.stdin.read()\n    os._exit(0)"
    reader, writer = os.pipe()
    environment = {**os.environ, "RINGBUF_DIR": str(folder), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    parent = subprocess.Popen([sys.executable, "-c", PROGRAM + ending], stdin=reader, env=environment)
    os.close(reader)
    assert parent.wait() == 0
    (region,) = files.find(folder)
    assert region.used and len(region.users) == 1
    os.close(writer)
    rings.eventually(lambda: not files.find(folder)[0].used)


def test_a_directory_that_cannot_be_had_is_warned_of(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RINGBUF_DIR", str(tmp_path / "file"))
    with pytest.warns(RuntimeWarning, match="RINGBUF_DIR"):
        tracer = rings.tracer()
    assert tracer.channel.path is None


def test_a_path_of_ones_own_is_left_unless_told(tmp_path):
    code = "import ringbuf, sys; ringbuf.Tracer('t', path=sys.argv[1], keep={keep})"
    for keep, left in (("None", True), ("True", True), ("False", False)):
        rings.run_script(code.format(keep=keep), tmp_path / keep)
        assert (tmp_path / keep).exists() == left


# ---- list ----


def test_list_says_who_lives(folder, monkeypatch, capsys):
    dead = killed(folder)
    monkeypatch.setenv("RINGBUF_DIR", str(folder))
    with rings.tracer("alive", keep=True) as tracer, rings.small("only in memory") as channel:
        assert main(["list", "--json"]) == 0
        found = {region["path"]: region for region in json.loads(capsys.readouterr().out)}
        assert not found[dead]["used"] and found[dead]["program"].startswith("python")
        assert found[tracer.channel.path]["users"] == [os.getpid()]
        (memory,) = [one for one in found.values() if one["name"] == "only in memory"]
        assert memory["in_memory"] and os.getpid() in memory["users"]
        assert os.path.samefile(memory["path"], f"/proc/self/fd/{channel.fileno()}")
        assert main(["list"]) == 0
        printed = capsys.readouterr().out
    assert "dead since" in printed and f"used by process {os.getpid()}" in printed


def test_list_of_what_is_no_channel(folder, capsys):
    folder.mkdir()
    (folder / "text.ringbuf").write_text("text")
    assert main(["list", str(folder)]) == 0
    assert "text.ringbuf: not a ringbuf region" in capsys.readouterr().out


# ---- clean ----


def test_clean_removes_what_was_recovered(folder, tmp_path, capsys):
    recovered, other = killed(folder), killed(folder)
    assert main(["recover", recovered, "-o", str(tmp_path / "trace")]) == 0
    assert [region.recovered for region in files.find(folder) if region.path == recovered] == [str(tmp_path / "trace")]
    capsys.readouterr()
    assert main(["clean", str(folder), "--dry-run"]) == 0
    assert f"would remove {recovered}" in capsys.readouterr().out
    assert os.path.exists(recovered)
    assert main(["clean", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1 and f"removed {recovered}" in printed and "recovered to" in printed
    assert there(folder) == [os.path.basename(other)]


def aged(path, seconds):
    os.utime(path, (time.time() - seconds,) * 2)
    return path


def test_clean_by_age_count_and_size(folder):
    paths = [aged(killed(folder), 1000 * (5 - i)) for i in range(5)]
    size = files.find(folder)[0].size
    assert [one.path for one in files.clean(folder, age=4500)] == paths[:1]
    assert [one.path for one in files.clean(folder, keep=3)] == paths[1:2]
    assert [one.path for one in files.clean(folder, max_size=2 * size)] == paths[2:3]
    assert files.clean(folder) == []
    assert there(folder) == sorted(os.path.basename(path) for path in paths[3:])


def test_clean_leaves_what_lives_or_is_not_ours(folder, monkeypatch):
    monkeypatch.setenv("RINGBUF_DIR", str(folder))
    with rings.tracer(keep=True) as tracer:
        (folder / "text.ringbuf").write_text("text")
        assert files.clean(folder, age=0, keep=0, max_size=0) == []
        assert len(there(folder)) == 2
        path = tracer.channel.path
    assert [one.path for one in files.clean(folder, keep=0)] == [path]
    assert there(folder) == ["text.ringbuf"]


@pytest.mark.parametrize("limit", [{"keep": -1}, {"max_size": -1}, {"age": -1}, {"age": float("nan")}])
def test_a_limit_below_zero_removes_nothing(folder, limit):
    path = aged(killed(folder), 100)
    with pytest.raises(ValueError, match="limit"):
        files.clean(folder, **limit)
    assert os.path.exists(path)


def test_a_retention_below_zero_is_warned_of_and_removes_nothing(folder):
    path = killed(folder)
    code, _, error = run(folder, RINGBUF_MAX_FILES="-1")
    assert code == 0 and "RINGBUF_MAX_FILES" in error
    assert os.path.exists(path)


def test_clean_takes_no_number_below_zero(folder, capsys):
    path = killed(folder)
    with pytest.raises(SystemExit):
        main(["clean", str(folder), "--keep", "-1"])
    assert "--keep" in capsys.readouterr().err and os.path.exists(path)


def test_a_file_whose_name_is_no_text_is_listed_and_removed(folder):
    path = killed(folder)
    strange = os.path.join(os.fsencode(folder), b"\xff.ringbuf")
    os.rename(path, strange)
    for command in (["list"], ["clean", "--age", "0"]):
        command = [sys.executable, "-m", "ringbuf", *command, folder]
        path = os.pathsep.join(filter(None, sys.path))
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8:strict"}
        done = subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False)
        assert done.returncode == 0 and rb"\udcff.ringbuf" in done.stdout, done.stderr
    assert not os.path.exists(strange)


def test_retention_when_a_file_is_made(folder):
    first, second = aged(killed(folder), 200), aged(killed(folder), 100)
    third = killed(folder, RINGBUF_MAX_FILES="1")
    assert there(folder) == sorted(os.path.basename(path) for path in (second, third))
    assert not os.path.exists(first)
    code, path, error = run(folder, RINGBUF_MAX_SIZE="lots")
    assert code == 0 and "lots" in error


@pytest.mark.parametrize(("text", "size"), [("0", 0), ("17", 17), ("2k", 2048), ("500M", 500 << 20), ("3G", 3 << 30)])
def test_sizes(text, size):
    assert files.size_of(text) == size


@pytest.mark.parametrize("text", ["", "M", "1.5G", "-1", "1T"])
def test_what_is_no_size(text):
    with pytest.raises(ValueError):
        files.size_of(text)
