"""ringbuf top: rates of channels, whoever has them."""

import json
import os
import signal

import pytest
import rings

import ringbuf
from ringbuf.cli import main, top
from ringbuf.trace.units import short


@pytest.fixture
def busy(tmp_path):
    """A channel in a file, into which a child records all the time."""
    path = tmp_path / "busy.ring"
    with ringbuf.Channel("busy-one", path=path, streams="global", subbuf_size=4096, n_subbufs=4) as channel:

        def work():
            while True:
                channel.write(b"x" * 100)

        pid = rings.fork(work)
        rings.eventually(lambda: channel.stats().records_lost > 0)
        yield path, pid
        os.kill(pid, signal.SIGKILL)
        rings.exit_code(pid)


def rows(capsys):
    return json.loads(capsys.readouterr().out)["channels"]


def test_a_channel_by_its_path(busy, capsys):
    assert main(["top", str(busy[0]), "--once", "--interval=0.3", "--json"]) == 0
    (row,) = rows(capsys)
    assert (row["name"], row["mode"], row["path"]) == ("busy-one", "discard", str(busy[0]))
    assert row["records_per_second"] == 0  # it is full
    assert row["lost_per_second"] > 0 and row["lost"] > 0
    assert 0.9 < row["full"] <= 1


def test_rates_are_those_of_the_interval(tmp_path, capsys, monkeypatch):
    with rings.small() as channel:
        clock = iter([10.0, 12.0])
        monkeypatch.setattr(top.time, "monotonic", lambda: next(clock))
        monkeypatch.setattr(top.time, "sleep", lambda seconds: [channel.write(b"x" * 1000) for _ in range(6)])
        channel.write(b"before")
        assert main(["top", f"/proc/self/fd/{channel.fileno()}", "--once", "--json"]) == 0
        (row,) = rows(capsys)
        assert row["records_per_second"] == 3
        assert 3000 <= row["bytes_per_second"] < 3000 + 4096
        assert row["lost"] == 0
        assert 0.25 < row["full"] <= 0.75


def test_all_channels_with_their_processes(busy, capsys):
    with rings.small("quiet-one") as quiet:
        quiet.write(b"x")
        assert main(["top", "--once", "--interval=0.1", "--json"]) == 0
        found = {row["name"]: row for row in rows(capsys)}
    assert found["busy-one"]["path"] == str(busy[0])
    assert {os.getpid(), busy[1]} <= set(found["busy-one"]["processes"])
    assert found["quiet-one"]["records_per_second"] == 0


def test_the_table_has_the_busiest_first():
    row = {
        "path": "p", "mode": "discard", "processes": [1, 2], "lost_per_second": 0.0, "lost": 12_345, "full": 0.5,
        "hint": "",
    }  # fmt: skip
    some = [
        top._Row(name=name, records_per_second=rate, bytes_per_second=100 * rate, **row)
        for name, rate in (("slow", 10.0), ("fast", 2_500_000.0))
    ]
    header, fast, slow = top._lines(some)
    assert header.split() == ["CHANNEL", "MODE", "RECORDS/S", "BYTES/S", "LOST/S", "LOST", "FULL", "PROCESSES"]
    assert fast.split() == ["fast", "discard", "2.5M", "250.0M", "0", "12.3k", "50%", "1,2"]
    assert slow.split() == ["slow", "discard", "10", "1000", "0", "12.3k", "50%", "1,2"]
    assert top._lines([]) == ["no channel is in use"]


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (9999, "9999"), (9999.6, "10.0k"), (999_940, "999.9k"), (1e6, "1.0M"), (2.5e9, "2.5G"), (3e13, "30.0T")],
)
def test_numbers_are_short(number, text):
    assert short(number) == text


def test_it_keeps_nothing_open(tmp_path, capsys):
    with rings.small(path=tmp_path / "ring") as channel:
        before = len(os.listdir("/proc/self/fd"))
        assert main(["top", str(tmp_path / "ring"), "--once", "--interval=0", "--json"]) == 0
        assert len(os.listdir("/proc/self/fd")) == before
        assert channel.path


def test_errors_are_one_line(tmp_path, capsys):
    assert main(["top", str(tmp_path / "none"), "--once"]) == 1
    done = capsys.readouterr()
    assert done.err.startswith("ringbuf top: ") and done.err.count("\n") == 1 and not done.out


@pytest.mark.parametrize("interval", ["inf", "nan", "-1", "x"])
def test_an_interval_is_a_number_of_seconds(tmp_path, capsys, interval):
    with pytest.raises(SystemExit):
        main(["top", str(tmp_path / "ring"), f"--interval={interval}"])
    assert "--interval" in capsys.readouterr().err


def test_events_have_their_share_of_what_a_channel_takes_in(tmp_path, capsys, monkeypatch):
    path = tmp_path / "a.ring"
    tracer = ringbuf.Tracer("shop", path=path, streams="global", subbuf_size=4096, n_subbufs=8)
    often, rare = tracer.event("often", n="u64"), tracer.event("rare", n="u64")

    def work(seconds):
        for n in range(1000):
            (rare if n % 10 == 0 else often)(n)

    clock = iter([10.0, 12.0])
    monkeypatch.setattr(top.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(top.time, "sleep", work)
    before = tracer.stats().records_overrun
    assert main(["top", str(path), "--events", "--once", "--json"]) == 0
    rare_row, often_row = sorted(json.loads(capsys.readouterr().out)["events"], key=lambda row: row["share"])
    assert (rare_row["event"], often_row["event"], rare_row["channel"]) == ("rare", "often", "shop")
    assert rare_row["share"] == pytest.approx(0.1, abs=0.01)
    assert often_row["records_per_second"] == pytest.approx(450, abs=5)
    assert tracer.stats().records_overrun >= before and tracer.stats().records_read == 0


def test_events_that_cannot_be_seen_say_why(tmp_path, capsys):
    tracer = ringbuf.Tracer("shop", mode="discard", path=tmp_path / "a.ring", streams="global")
    tracer.event("once", n="u64")(1)
    command = ["top", str(tmp_path / "a.ring"), "--events", "--once", "--interval=0"]
    assert main(command) == 0
    assert "shop (no packet has been filled yet)" in capsys.readouterr().out
    with tracer.record(tmp_path / "trace"):
        assert main(command) == 0
    assert "reader" in capsys.readouterr().out
