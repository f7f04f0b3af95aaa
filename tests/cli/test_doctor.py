"""ringbuf doctor: what the machine gives, and that it notices what it does not."""

import json
import os
from types import SimpleNamespace

import pytest
import rings

from ringbuf.cli import doctor, main
from ringbuf.errors import RegionError


def findings(capsys, status=0):
    assert main(["doctor", "--json"]) == status
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is (status == 0)
    return {one["what"]: (one["state"], one["text"]) for one in found["findings"]}


def test_recording_works_here(capsys):
    found = findings(capsys)
    assert found["recording"][0] == found["robust locks"][0] == found["anonymous memory"][0] == "ok"
    assert {"build", "clock", "CPU number", "/dev/shm", "RINGBUF_DIR", "kernel events", "tables"} <= set(found)
    assert all(state in ("ok", "note", "warn") for state, _ in found.values())


def test_a_finding_a_line(capsys):
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) >= 10 and all(line[:2] in ("ok", "--", "!!") for line in lines)


def test_a_channel_that_cannot_be_made_is_a_failure(capsys, monkeypatch):
    def refuse(*args, **options):
        raise RegionError("no memory\nat all")

    monkeypatch.setattr(doctor, "Channel", refuse)
    found = findings(capsys, status=1)
    assert found["recording"] == ("fail", r"no memory\u000aat all")


def test_another_clock_is_warned_of(capsys, monkeypatch):
    class Slow(doctor.Channel):
        clock_parameters = ("monotonic", 10**9, 0, 0)

    monkeypatch.setattr(doctor, "Channel", Slow)
    monkeypatch.setattr(doctor, "_text_of", lambda path: {"current": "hpet\n", "availab": "hpet acpi_pm\n"}.get(
        os.path.basename(path)[:7], "flags: fpu hypervisor"))  # fmt: skip
    state, text = findings(capsys)["clock"]
    assert state == "warn" and "hpet" in text and "does not trust" in text and "virtual machine" in text


def test_a_small_dev_shm_is_warned_of(capsys, monkeypatch):
    room = SimpleNamespace(f_bavail=10, f_blocks=20, f_frsize=4096)
    monkeypatch.setattr(doctor.os, "statvfs", lambda path: room)
    assert findings(capsys)["/dev/shm"][0] == "warn"


def test_what_a_channel_takes_is_what_its_file_takes(capsys, tmp_path):
    with doctor.Channel("file", path=tmp_path / "ring", mode="overwrite"):
        status = (tmp_path / "ring").stat()
    text = findings(capsys)["/dev/shm"][1]
    assert f"takes {status.st_blocks * 512 / 2**20:.1f} MiB" in text
    assert f": {status.st_size / 2**20:.1f} for " in text


def test_leftovers_are_counted(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("RINGBUF_DIR", str(tmp_path))
    assert "nothing is left" in findings(capsys)["RINGBUF_DIR"][1]
    rings.in_fork(lambda: rings.small(path=tmp_path / "dead.ringbuf").write(b"x"))
    with rings.small(path=tmp_path / "living.ringbuf"):
        assert "1 files of dead processes" in findings(capsys)["RINGBUF_DIR"][1]
    monkeypatch.setenv("RINGBUF_DIR", str(tmp_path / "new"))
    assert findings(capsys)["RINGBUF_DIR"][0] == "note"


@pytest.mark.parametrize("path", ["", "/nowhere"])
def test_babeltrace2_is_optional(capsys, monkeypatch, path):
    monkeypatch.setenv("PATH", path)
    assert findings(capsys)["babeltrace2"][0] == "note"
