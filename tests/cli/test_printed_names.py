"""Names that somebody else has chosen reach the terminal as text, whatever command prints them."""

import os

import hostile
import pytest
from rings import small

from ringbuf import cli

NASTY = "x\x1b[2J\x9b\u202ey"


def run(capsys, *arguments):
    """Exit status, and all that was printed."""
    try:
        status = cli.main(list(map(str, arguments)))
    except SystemExit as error:
        status = error.code
    out, err = capsys.readouterr()
    return status, out + err


def assert_safe(text):
    assert all(line.isprintable() for line in text.split("\n")), ascii(text)
    assert "u202e" in text


@pytest.fixture
def nasty_trace(tmp_path):
    env = f'env {{ hostname = "{NASTY}"; procname = "{NASTY}"; }};\n'
    metadata = env + hostile.event("string x;", name=NASTY)
    return hostile.trace(tmp_path / "trace", metadata, hostile.packet([NASTY.encode() + b"\0"]))


@pytest.mark.parametrize("options", [[], ["--json"], ["--head", "1"], ["--tail", "1"], ["--event", NASTY]])
def test_view(options, nasty_trace, capsys):
    status, text = run(capsys, "view", nasty_trace, *options)
    assert status == 0
    assert_safe(text)


@pytest.mark.parametrize("command", [["info"], ["info", "--json"], ["summary"], ["summary", "--json"]])
def test_info_and_summary(command, nasty_trace, capsys):
    status, text = run(capsys, *command, nasty_trace)
    assert status == 0
    assert_safe(text)


def test_errors(nasty_trace, capsys):
    for arguments in (
        ["view", nasty_trace.parent / NASTY],
        ["view", nasty_trace, "--event", NASTY + "?"],
        ["view", nasty_trace, "--head", NASTY],
        ["stat", nasty_trace.parent / NASTY],
        ["recover", nasty_trace.parent / NASTY, "-o", nasty_trace.parent / "out"],
        [NASTY],
        ["list", f"--{NASTY}"],
    ):
        status, text = run(capsys, *arguments)
        assert status
        assert_safe(text)


def test_list_clean_recover_and_stat(tmp_path, capsys, monkeypatch):
    path = tmp_path / f"{NASTY}.ringbuf"
    small(NASTY, path=path).close()
    for arguments in (["stat", path], ["list", tmp_path]):
        assert_safe(run(capsys, *arguments)[1])
    assert_safe(run(capsys, "recover", path, "-o", tmp_path / NASTY)[1])
    assert_safe(run(capsys, "clean", tmp_path)[1])


def test_top(capsys):
    with small(NASTY) as channel:
        for target in (channel.fileno(), os.getpid()):
            status, text = run(capsys, "top", "--once", "--interval", "0.01", target)
            if status == 0:
                assert_safe(text)
