"""Arguments that make no sense: each gives one line that says so, and nothing is done."""

import pytest
import rings

from ringbuf import cli
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


# command, option, what is wanted, and a value of it
NUMBERS = [
    (("clean", "."), "--age", "an age such as 90s, 15m, 12h or 7d", "1.5h"),
    (("clean", "."), "--keep", "a whole number from 0 on", "3"),
    (("clean", "."), "--max-size", "a size such as 4096, 500M or 2G", "2G"),
    (("snapshot", "x", "-o", "y"), "--last", "a number of seconds from 0 to 1000000", "1e3"),
    (("top",), "--interval", "a number of seconds from 0 to 1000000", "0.5"),
    (("summary", "x"), "--top", "a whole number from 0 on", "0"),
    (("summary", "x"), "--min-duration", "a duration such as 5us, 1.5ms or 2s", "5us"),
    (("summary", "x"), "--max-depth", "a whole number from 0 on", "0"),
    (("view", "x"), "--head", "a whole number from 0 on", "3"),
    (("view", "x"), "--timeout", "a number of seconds from 0 to 1000000", "1"),
    (("ui", "x"), "--port", "a port, 0 to 65535", "65535"),
    (("ui", "x"), "--timeout", "a number of seconds from 0 to 1000000", "1"),
    (("attach", "1"), "--duration", "a number of seconds from 0 to 1000000", "1"),
    (("attach", "1"), "--n-subbufs", "a whole number from 0 on", "4"),
    (("record",), "--duration", "a number of seconds from 0 to 1000000", "1"),
    (("record",), "--subbuf-size", "a whole number from 0 on", "4096"),
    (("record",), "--n-producers", "a whole number from 0 on", "9"),
    (("record",), "--max-size", "a size such as 4096, 500M or 2G", "500M"),
    (("record",), "--n-spares", "a whole number from 0 on", "0"),
]


@pytest.mark.parametrize(("command", "option", "wanted", "good"), NUMBERS)
def test_numbers(capsys, command, option, wanted, good):
    parser = cli._parser()
    parser.parse_args([*command, option, good])
    for bad in ("nan", "inf", "-1", "-inf", "", " ", "x", "5x", "1e400", "9" * 30 + "x", "9" * 400):
        with pytest.raises(SystemExit) as end:
            parser.parse_args([*command, f"{option}={bad}"])
        assert end.value.code == 2
        assert f"argument {option}: {bad!r} is not {wanted}" in capsys.readouterr().err.replace("\n", "")


def test_every_number_is_among_them():
    """An option that takes a text is checked where its text is used; none is an int or a float just so."""
    (commands,) = [one.choices for one in cli._parser()._actions if isinstance(one.choices, dict)]
    for command in commands.values():
        assert not [action.dest for action in command._actions if action.type in (int, float)]


@pytest.mark.parametrize("pid", ["0", "-5", "x", "4294967296"])
def test_a_process_to_attach_to(capsys, pid):
    with pytest.raises(SystemExit):
        main(["attach", "--", pid])
    assert f"argument PID: {pid!r} is not a process id" in capsys.readouterr().err
