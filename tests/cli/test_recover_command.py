"""ringbuf recover: what it prints, and what it refuses."""

import json
import os
import signal

import judge
import pytest
import rings

import ringbuf
from ringbuf.cli import main


@pytest.fixture
def dead(tmp_path):
    """The file of a tracer whose process was killed in the middle of a record."""
    path = tmp_path / "dead.ringbuf"

    def child():
        tracer = rings.tracer("shop", path=path, mode="overwrite", subbuf_size=4096)
        tick = tracer.event("tick", n="u32")
        for n in range(100):
            tick(n)
        slot = tracer.channel.reserve(16)
        os.kill(os.getpid(), signal.SIGKILL)
        slot.commit()

    assert rings.exit_code(rings.fork(child)) == -signal.SIGKILL
    return path


def test_it_says_what_it_found(dead, tmp_path, capsys):
    assert main(["recover", str(dead), "-o", str(tmp_path / "trace")]) == 0
    printed = capsys.readouterr().out
    assert "100 records in 1 packets" in printed and "1 records torn" in printed
    assert "in the middle of 1" in printed and "channel 'shop'" in printed
    assert len(judge.events(tmp_path / "trace")) == 100


def test_json_has_all_of_it(dead, tmp_path, capsys):
    assert main(["recover", str(dead), "-o", str(tmp_path / "trace"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["records"], found["packets"], found["damaged"]) == (100, 1, 0)
    assert found["stats"]["records_torn"] == 1
    (producer,) = found["producers"]
    assert producer["open_records"] == 1 and producer["pid"] == found["pid"]


def test_a_file_in_use_is_one_line(tmp_path, capsys):
    with rings.tracer(path=tmp_path / "live.ringbuf") as tracer:
        tracer.event("tick")()
        assert main(["recover", str(tmp_path / "live.ringbuf"), "-o", str(tmp_path / "trace")]) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and f"in use by process {os.getpid()}" in error
        assert main(["recover", str(tmp_path / "live.ringbuf"), "-o", str(tmp_path / "trace"), "--force"]) == 0
    assert len(judge.events(tmp_path / "trace")) == 1


def test_errors_are_one_line(tmp_path, capsys):
    (tmp_path / "text").write_text("no ring\nat all\n")
    for path, why in ((tmp_path / "text", "magic"), (tmp_path / "nothing", "No such file")):
        assert main(["recover", str(path), "-o", str(tmp_path / "trace")]) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and why in error and str(path) in error


def test_all_has_what_was_read(tmp_path, capsys):
    path = tmp_path / "read.ringbuf"

    def child():
        tracer = rings.tracer(path=path)
        tracer.event("tick")()
        with tracer.record(tmp_path / "before"):
            pass
        os.kill(os.getpid(), signal.SIGKILL)

    rings.exit_code(rings.fork(child))
    assert main(["recover", str(path), "-o", str(tmp_path / "rest")]) == 0
    assert "1 packets left out: they were read before" in capsys.readouterr().out
    assert main(["recover", str(path), "-o", str(tmp_path / "all"), "--all"]) == 0
    assert len(judge.events(tmp_path / "all")) == 1


def test_snapshot_and_stat_of_a_living_channel(tmp_path, capsys):
    with rings.tracer(path=tmp_path / "ring") as tracer:
        for _ in range(10):
            tracer.event("tick")()
        assert main(["snapshot", str(tmp_path / "ring"), "-o", str(tmp_path / "trace"), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["records"] == 10
        assert main(["stat", str(tmp_path / "ring"), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["records_unread"] == 10
        assert main(["stat", str(tmp_path / "ring")]) == 0
        assert "10 records_written" in capsys.readouterr().out
    assert len(judge.events(tmp_path / "trace")) == 10


def test_it_runs_as_a_module(dead, tmp_path):
    done = rings.script("import runpy; runpy.run_module('ringbuf', run_name='__main__')")
    assert done.returncode == 2 and "usage: ringbuf" in done.stderr
    assert ringbuf.recover(dead, tmp_path / "trace").records == 100
