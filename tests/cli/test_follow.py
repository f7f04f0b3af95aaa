"""ringbuf view -f: a recording, or a ring, as it goes on."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

import ringbuf
from ringbuf.cli import main


def numbers(text):
    return [json.loads(line)["fields"]["n"] for line in text.splitlines()]


@pytest.fixture
def follow(capsys):
    def follow(where, *args, status=0):
        assert main(["view", "-f", "--timeout", "0", str(where), *args]) == status
        return capsys.readouterr()

    return follow


@pytest.fixture
def tracer(tmp_path):
    with ringbuf.Tracer("app", mode="discard", path=tmp_path / "app.ring", streams="global").channel as channel:
        yield ringbuf.Tracer.attach(channel)


def test_a_ring_is_looked_at_and_left_as_it_is(tracer, tmp_path, follow):
    step = tracer.event("step", n="u64")
    for n in range(10):
        step(n)
    for _ in range(2):
        assert numbers(follow(tmp_path / "app.ring", "--json").out) == list(range(10))
    assert tracer.stats().records_unread == 10 and tracer.stats().records_read == 0
    assert follow(tmp_path / "app.ring").out.count("step: { cpu_id" if tracer.channel.per_cpu else "step: ") == 10


def test_what_is_consumed_is_gone(tracer, tmp_path, follow):
    step = tracer.event("step", n="u64")
    for n in range(5):
        step(n)
    assert numbers(follow(tmp_path / "app.ring", "--consume", "--json").out) == list(range(5))
    assert tracer.stats().records_read == 5
    assert follow(tmp_path / "app.ring", "--consume").out == ""


def test_a_flight_recorder_is_not_cut_short_by_looking(tmp_path, follow):
    tracer = ringbuf.Tracer("app", path=tmp_path / "a.ring", streams="global", subbuf_size=4096, n_subbufs=4)
    step = tracer.event("step", n="u64")
    for n in range(2000):
        step(n)
    before = tracer.stats().records_overrun
    seen = numbers(follow(tmp_path / "a.ring", "--json").out)
    assert seen and seen[-1] < 1999 and seen == list(range(seen[0], seen[-1] + 1))
    assert tracer.stats().records_overrun == before
    assert numbers(follow(tmp_path / "a.ring", "--json", "--flush").out)[-1] == 1999


def test_some_of_it(tracer, tmp_path, follow):
    step, other = tracer.event("step", n="u64"), tracer.event("other", n="u64")
    for n in range(4):
        step(n)
        other(10 + n)
    ring = tmp_path / "app.ring"
    assert numbers(follow(ring, "--json", "--event", "o*").out) == [10, 11, 12, 13]
    assert numbers(follow(ring, "--json", "--head", "3").out) == [0, 10, 1]
    assert numbers(follow(ring, "--json", "--process", str(os.getpid())).out) == [0, 10, 1, 11, 2, 12, 3, 13]
    assert follow(ring, "--process", "1").out == ""


def test_a_recording_is_followed_while_it_is_written(tmp_path, tracer):
    step = tracer.event("step", n="u64")
    with tracer.record(tmp_path / "trace", switch_timer=0.05):
        step(0)
        while not (tmp_path / "trace" / "metadata").exists():
            time.sleep(0.01)
        command = [sys.executable, "-m", "ringbuf", "view", "-f", "--json", str(tmp_path / "trace")]
        reader = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert numbers(reader.stdout.readline()) == [0]
            late = tracer.event("late", n="u64", text="str")  # the metadata grows as well
            late(1, "x")
            assert numbers(reader.stdout.readline()) == [1]
            step(2)
            assert numbers(reader.stdout.readline()) == [2]
        finally:
            reader.send_signal(signal.SIGINT)
            assert reader.wait(60) == 128 + signal.SIGINT
            reader.stdout.close()


def test_a_packet_that_is_not_whole_is_waited_for(tmp_path, tracer, follow):
    step = tracer.event("step", n="u64")
    with tracer.record(tmp_path / "trace"):
        step(0)
    (stream,) = [one for one in (tmp_path / "trace").iterdir() if one.name != "metadata" and one.name[0] != "."]
    os.truncate(stream, stream.stat().st_size - 1)
    assert follow(tmp_path / "trace", "--json").out == ""


@pytest.mark.parametrize(
    "args, error",
    [
        (["--from", "+1"], "-f goes on from what is there"),
        (["--tail", "3"], "without --from, --to and --tail"),
        (["--consume"], "--consume and --flush are for rings"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path, follow, args, error):
    assert error in follow(tmp_path, *args, status=1).err


def test_a_ring_that_is_being_recorded_says_so(tmp_path, tracer, follow):
    with tracer.record(tmp_path / "trace"):
        assert "reader" in follow(tmp_path / "app.ring", status=1).err
