"""Flight recorder files: RINGBUF_DIR, and what becomes of them."""

import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

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


# ---- directories that others write to ----


def put_strangers(folder):
    """What may stand in a shared directory under a name like ours; how many."""
    os.mkfifo(folder / "fifo.ringbuf")
    os.mkdir(folder / "directory.ringbuf")
    os.symlink("/dev/zero", folder / "link.ringbuf")
    os.symlink("nowhere", folder / "dangling.ringbuf")
    plug = socket.socket(socket.AF_UNIX)
    plug.bind(os.path.relpath(folder / "socket.ringbuf"))
    plug.close()
    (folder / "text.ringbuf").write_text("a stranger's")
    with open(os.fsencode(folder) + b"/\xff\xfe.ringbuf", "wb") as file:
        file.write(b"another's")
    return 7


def test_what_is_no_channel_hangs_nobody_and_stays(folder, tmp_path, monkeypatch):
    flight = killed(folder)
    monkeypatch.chdir(folder)
    strangers = put_strangers(folder)
    os.mkfifo(flight + ".recovered")
    assert [region.path for region in files.find(folder) if region.problem is None] == [flight]
    assert files.clean(folder) == []
    code, _, _ = run(folder, RINGBUF_MAX_FILES="0")
    assert code == 0
    assert not os.path.exists(flight)
    assert len(there(folder)) == strangers
    for name in ("fifo", "link"):
        with pytest.raises(ringbuf.RegionError, match="not a regular file"):
            ringbuf.recover(folder / f"{name}.ringbuf", tmp_path / "trace")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as somebody else")
@pytest.mark.parametrize("kind", ["file", "fifo", "link"])
def test_a_mark_that_somebody_else_made_is_ignored(folder, kind, tmp_path):
    flight = killed(folder)
    mark = flight + ".recovered"
    if kind == "file":
        Path(mark).write_text("/elsewhere\n")
    elif kind == "fifo":
        os.mkfifo(mark)
    else:
        (tmp_path / "text").write_text("/elsewhere\n")
        os.symlink(tmp_path / "text", mark)
    os.chown(mark, 65534, 65534, follow_symlinks=False)
    assert files.clean(folder) == []
    assert os.path.exists(flight)
    os.unlink(mark)
    files.mark_recovered(flight, tmp_path / "trace")
    assert [one.path for one in files.clean(folder)] == [flight]


def test_a_lease_is_not_waited_for(folder):
    flight = killed(folder)
    code = "import fcntl, sys; f = open(sys.argv[1]); fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_WRLCK); input()"
    command = [sys.executable, "-c", "import signal; signal.signal(signal.SIGIO, signal.SIG_IGN); " + code, flight]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE)
    try:
        rings.eventually(lambda: "lease" in (files.find(folder)[0].problem or ""))
        assert files.clean(folder, keep=0) == []
    finally:
        holder.communicate(b"\n")


@pytest.mark.parametrize("replaced", ["os.mkfifo(path)", "open(path, 'w').write('theirs')", "os.mkdir(path)", "None"])
def test_exit_removes_its_own_file_alone(folder, replaced):
    code, path, _ = run(folder, f"path = tracer.channel.path\nos.unlink(path)\n{replaced}")
    assert code == 0
    assert there(folder) == ([] if replaced == "None" else [os.path.basename(path)])


# ---- who uses a file ----


@pytest.mark.parametrize("hidden", [False, True], ids=["seen", "unseen"])
def test_a_file_that_others_use_outlives_its_creator(folder, hidden, monkeypatch):
    """Whether or not /proc shows them: by the lock."""
    code = "import ringbuf, sys; c = ringbuf.attach(sys.argv[1]); print('ready', flush=True); input()"
    ending = f"""
import subprocess
user = subprocess.Popen([sys.executable, "-c", {code!r}, tracer.channel.path], stdin=0, stdout=subprocess.PIPE)
user.stdout.readline()
if {hidden}:
    from ringbuf.record import processes
    processes.pids = lambda: [os.getpid()]
"""
    reader, writer = os.pipe()
    environment = {**os.environ, "RINGBUF_DIR": str(folder), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    creator = subprocess.Popen([sys.executable, "-c", PROGRAM + ending], stdin=reader, env=environment)
    os.close(reader)
    assert creator.wait() == 0
    monkeypatch.setattr(files.processes, "pids", list)
    (region,) = files.find(folder)
    assert region.used
    assert files.clean(folder, keep=0) == []
    os.close(writer)
    rings.eventually(lambda: not files.find(folder)[0].used)
    assert len(files.clean(folder, keep=0)) == 1


@pytest.mark.parametrize("closing", ["pass", "os.closerange(3, 64)"])
def test_a_daemons_file_outlives_its_creator(folder, closing):
    ending = f"""
ends = os.pipe()
if os.fork() == 0:
    if os.fork():
        os._exit(0)
    os.dup2(ends[1], 1)
    {closing}
    tick(10)
    os.write(1, b"x")
    sys.stdin.read()
    tick(11)
    os._exit(0)
os.wait()
os.read(ends[0], 1)
"""
    reader, writer = os.pipe()
    environment = {**os.environ, "RINGBUF_DIR": str(folder), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    creator = subprocess.Popen([sys.executable, "-c", PROGRAM + ending], stdin=reader, env=environment)
    os.close(reader)
    assert creator.wait() == 0
    (region,) = files.find(folder)
    assert region.used
    os.close(writer)
    rings.eventually(lambda: not files.find(folder)[0].used)
    assert ringbuf.recover(region.path, folder.parent / "trace").records == 12


def test_a_creator_that_attached_to_its_own_file_removes_it(folder):
    run(folder, "other = ringbuf.attach(tracer.channel.path)")
    assert there(folder) == []


def test_reading_a_file_is_not_using_it(folder, tmp_path):
    flight = killed(folder)
    with open(flight, "rb"):
        assert not files.find(folder)[0].used
        assert ringbuf.recover(flight, tmp_path / "trace").records == 10


# ---- files that are being made ----

MAKE = """
import sys
import ringbuf
while True:
    ringbuf.Channel("big", path=sys.argv[1], streams="global", subbuf_size=1 << 23, n_subbufs=16).close()
    import os
    os.unlink(sys.argv[1])
"""


@pytest.mark.slow
def test_what_a_killed_maker_leaves_is_removed(tmp_path, rng):
    for _ in range(12):
        maker = subprocess.Popen(
            [sys.executable, "-c", MAKE, tmp_path / "big.ringbuf"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        rings.eventually(lambda: os.listdir(tmp_path))
        time.sleep(rng.random() / 20)
        maker.kill()
        maker.wait()
        for region in files.find(tmp_path):
            assert region.unfinished or region.problem is None
        files.clean(tmp_path, keep=0)
        assert os.listdir(tmp_path) == []


def test_an_unfinished_file_counts_unless_it_is_being_made(folder):
    folder.mkdir()
    draft = folder / f".{'0' * 32}.ringbuf-new"
    draft.write_bytes(bytes(8192))
    with open(draft) as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        assert [region.used for region in files.find(folder)] == [True]
        assert files.clean(folder, keep=0) == []
    (region,) = files.find(folder)
    assert region.unfinished and "being made" in region.problem
    assert [one.path for one in files.clean(folder)] == [str(draft)]
    assert there(folder) == []


def test_who_attaches_meets_a_whole_channel_or_none(tmp_path):
    path = tmp_path / "made.ringbuf"
    code = """
import os, ringbuf, sys, time
for n in range(30):
    ringbuf.Channel("c", path=sys.argv[1]).close()
    time.sleep(0.01)
    while n == 29 and not os.path.exists(sys.argv[2]):
        time.sleep(0.01)
    os.unlink(sys.argv[1])
"""
    maker = subprocess.Popen(
        [sys.executable, "-c", code, path, tmp_path / "attached"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    while maker.poll() is None:
        try:
            ringbuf.attach(path).close()
            (tmp_path / "attached").touch()
        except FileNotFoundError:
            pass
    assert maker.returncode == 0


def test_a_region_without_magic_is_told_from_a_damaged_one(tmp_path):
    (tmp_path / "zeros").write_bytes(bytes(8192))
    (tmp_path / "text").write_bytes(b"x" * 8192)
    with pytest.raises(ringbuf.RegionUnfinishedError):
        ringbuf.attach(tmp_path / "zeros")
    with pytest.raises(ringbuf.RegionError, match="magic") as error:
        ringbuf.attach(tmp_path / "text")
    assert not isinstance(error.value, ringbuf.RegionUnfinishedError)


def test_all_who_open_a_channel_at_once_have_the_same(tmp_path):
    code = """
import ringbuf, sys
tracer = ringbuf.Tracer.open(sys.argv[1], streams="global", mode="discard", contexts=[("who", "u8", lambda: 7), "vpid"])
print(tracer.channel.uuid, tracer.event("e", n="u8")(1))
input()
"""
    path = tmp_path / "shared.ringbuf"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    command = [sys.executable, "-c", code, path]
    users = [subprocess.Popen(command, env=environment, text=True, **streams) for _ in range(6)]
    lines = {user.communicate("\n")[0] for user in users}
    assert len(lines) == 1 and lines.pop().endswith("True\n")
    with ringbuf.Channel.open(path) as channel:
        assert channel.name == "shared"
        assert [(record.fields["n"], record.contexts["who"]) for record in rings.records(channel)] == [(1, 7)] * 6
    assert os.listdir(tmp_path) == [path.name]
