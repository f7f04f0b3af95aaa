"""What the commands say when more threads were paused in the middle of a record than a stream has spares."""

import json
import os
import subprocess
import sys

import pytest
import rings

from ringbuf.cli import main, top

PAUSED = """
import os, ringbuf
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
with ringbuf.attach(os.getppid()) as channel:
    paused = channel.reserve(8)
    for _ in range(20):
        channel.write(b"x" * 3000)
    paused.commit()
"""


@pytest.fixture
def scarce(tmp_path):
    """A channel that has lost records because two were open, and there is one spare."""
    with rings.small("scarce-one", mode="overwrite", path=tmp_path / "scarce.ring", n_spares=1) as channel:
        paused = [channel.reserve(2000), channel.reserve(2000)]
        while channel.stats().records_lost_wrap < 3:
            channel.write(b"x" * 3000)
        assert channel.stats().parked_now == 1
        yield tmp_path / "scarce.ring"
        for slot in paused:
            slot.commit()


def test_stat_says_that_there_were_too_few_spares(scarce, capsys):
    assert main(["stat", str(scarce)]) == 0
    out = capsys.readouterr().out
    assert (
        "3 records lost because more threads were paused in the middle of a record than a stream has spares for (1)"
        in out
    )
    assert "make n_spares larger" in out
    assert "1 packets_parked" in out and "1 parked_now" in out


def test_stat_says_nothing_of_it_otherwise(tmp_path, capsys):
    with rings.small(mode="overwrite", path=tmp_path / "ring") as channel:
        with channel.reserve(8):
            for _ in range(20):
                channel.write(b"x" * 3000)
        assert main(["stat", str(tmp_path / "ring")]) == 0
        out = capsys.readouterr().out
        assert "packets_parked" in out and "n_spares" not in out


def test_top_says_so_below_its_rows(scarce, capsys, monkeypatch):
    monkeypatch.setattr(top.time, "sleep", lambda seconds: None)
    assert main(["top", str(scarce), "--once"]) == 0
    assert "make n_spares larger" in capsys.readouterr().out
    assert main(["top", str(scarce), "--once", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["channels"]
    assert "make n_spares larger" in row["hint"]


def test_doctor_warns_of_the_channel(scarce, capsys):
    assert main(["doctor", "--json"]) == 0
    found = {one["what"]: one for one in json.loads(capsys.readouterr().out)["findings"]}
    assert found["channel scarce-one"]["state"] == "warn"
    assert "make n_spares larger" in found["channel scarce-one"]["text"]


@pytest.mark.parametrize("n_spares", [0, 2])
def test_record_says_which_option_has_more(tmp_path, n_spares):
    command = ["record", "--json", "-o", "out", "--mode", "overwrite", "--subbuf-size", 4096, "--n-spares", n_spares]
    done = subprocess.run(
        [sys.executable, "-m", "ringbuf", *map(str, command), "--", sys.executable, "-c", PAUSED],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True, text=True, timeout=100, check=True,
    )  # fmt: skip
    hints = json.loads(done.stdout.splitlines()[-1])["hints"]
    said = [hint for hint in hints if "--n-spares 8 has more" in hint]
    assert len(said) == (n_spares == 0), hints
