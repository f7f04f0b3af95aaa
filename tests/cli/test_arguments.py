"""Arguments that make no sense: each gives one line that says so, and nothing is done."""

import pytest
import rings

from ringbuf.cli import main


@pytest.fixture
def trace(tmp_path):
    with rings.tracer() as tracer:
        tracer.event("e", n="u8")(1)
        tracer.snapshot(tmp_path / "trace")
    return str(tmp_path / "trace")


def refused(capsys, *arguments):
    """The one line that a command prints for them."""
    assert main([*arguments]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"ringbuf {arguments[0]}: ")
    return line


def test_a_time_that_ends_before_it_begins(trace, capsys):
    assert "--from 5 is later than --to 3" in refused(capsys, "view", trace, "--from", "5", "--to", "3")


@pytest.mark.parametrize("command", [("stat",), ("snapshot", "-o", "x"), ("top", "--once")])
def test_a_trace_is_no_channel(trace, capsys, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    line = refused(capsys, command[0], trace, *command[1:])
    assert f"{trace}: a trace, and not a channel: ringbuf info and ringbuf view read it" in line
    assert not (tmp_path / "x").exists()


def test_tables_without_a_pause(capsys):
    assert "--interval 0 is for --once" in refused(capsys, "top", "--interval", "0")


def test_an_age_that_is_none_is_called_one(capsys, tmp_path):
    with pytest.raises(SystemExit):
        main(["clean", "--age", "x", str(tmp_path)])
    assert "argument --age: invalid age value: 'x'" in capsys.readouterr().err
