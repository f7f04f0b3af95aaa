"""Exports to CTF: the same records, by our reader and by babeltrace2, in any part of a trace."""

import subprocess

import ctf_writer
import needs
import pytest

import ringbuf
from ringbuf.ctf.metadata import ChannelLayout, ClockInfo
from ringbuf.ctf.schema import EventSchema
from ringbuf.errors import TraceError
from ringbuf.trace.trace import open_trace


def make(directory, rng, header="compact", holes=False, n=4000, uuid=bytes(range(16)), **options):
    """Events of two kinds from two CPUs, now and then so late that a header cannot say how late."""
    events = [
        EventSchema(0, "one", fields="n:u32,text:str"),
        EventSchema(1, "two", contexts="c:u8", fields="x:f64,b:u8[]"),
    ]
    clock = ClockInfo(1_000_000_000, 1000)
    layout = ChannelLayout(uuid, header, True, clock, contexts="vpid:i32", holes=holes, events=events, **options)
    files = {}
    for cpu in range(2):
        now, packets = cpu, []
        for seq in range(6):
            packet = ctf_writer.Packet(layout, begin=now, cpu=cpu, seq=seq + (seq > 3), discarded=3 * (seq > 1))
            for index in range(n // 12):
                far = rng.random() < 0.01
                now += 2**33 if far else rng.randrange(2000)
                kind = rng.random() < 0.3
                if holes and rng.random() < 0.1:
                    packet.hole(rng.choice((4, 8, 20)))
                values = [0.5, rng.randbytes(rng.randrange(5))] if kind else [index, "t" * rng.randrange(9)]
                packet.event(
                    int(kind), now, values, contexts=[7] if kind else (), common=[-1], extended=far or not index
                )
            packets.append(packet.bytes())
        files[f"chan_{cpu}"] = packets
    return open_trace(ctf_writer.write(directory, layout, **files))


@pytest.fixture(params=[("compact", False), ("large", False), ("compact", True)])
def trace(tmp_path, rng, request):
    return make(tmp_path / "trace", rng, *request.param)


def babeltrace(directory):
    """How many lines it prints."""
    done = subprocess.run([needs.command("babeltrace2"), directory], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.count("\n")


def test_the_whole_is_the_same(trace, tmp_path):
    trace.export(tmp_path / "out")
    out = open_trace(tmp_path / "out")
    assert list(out) == list(trace) and out.env == trace.env
    assert (out.lost.events, out.lost.packets, out.time_range) == (
        trace.lost.events,
        trace.lost.packets,
        trace.time_range,
    )
    assert (out.lost.events, out.lost.packets) == (6, 2)


def parts(trace, rng):
    times = [record.timestamp for record in trace]
    yield {"events": "two"}
    yield {"events": ["one"], "begin": times[len(times) // 3]}
    yield {"begin": times[1], "end": times[-2]}
    for _ in range(6):
        begin, end = sorted(rng.choices(times, k=2))
        yield {"begin": begin, "end": end, "events": rng.choice(("*", "one", "two"))}
    yield {"begin": times[7], "end": times[7]}


def test_a_part_is_that_part(trace, tmp_path, rng):
    for index, wanted in enumerate(parts(trace, rng)):
        expected = list(trace.records(**wanted))
        trace.export(tmp_path / f"part-{index}", **wanted)
        out = open_trace(tmp_path / f"part-{index}")
        assert list(out) == expected, wanted
        assert out.lost.packets <= trace.lost.packets and out.lost.events <= trace.lost.events
        assert all(packet.begin <= packet.end for packet in out.packets)


def test_babeltrace2_reads_it(trace, tmp_path):
    trace.export(tmp_path / "out", events="two")
    assert babeltrace(tmp_path / "out") == sum(1 for _ in trace.records("two"))


@pytest.mark.parametrize("form", ["ctf", "ctf2"])
def test_what_ringbuf_records(tmp_path, form):
    with ringbuf.Tracer("t", mode="discard") as tracer:
        one, two = tracer.event("one", n="u64", s="str"), tracer.event("two", data="bytes")
        with tracer.record(tmp_path / "trace", format=form):
            for n in range(3000):
                one(n, "x" * (n % 20))
                two(b"y" * (n % 5))
    trace = open_trace(tmp_path / "trace")
    begin = sorted(record.timestamp for record in trace)[1000]
    trace.export(tmp_path / "out", events="one", begin=begin)
    assert list(open_trace(tmp_path / "out")) == list(trace.records("one", begin=begin))


def test_a_session_stays_one(tmp_path, rng):
    (tmp_path / "session").mkdir()
    for name in ("a", "b"):
        make(tmp_path / "session" / name, rng, n=600, uuid=16 * name.encode())
    session = open_trace(tmp_path / "session")
    session.export(tmp_path / "out", events="one")
    out = open_trace(tmp_path / "out")
    assert len(out.sources) == 2 and list(out) == list(session.records("one"))


def damage(file, read):
    """Overwrite some bytes of a file, where reading it notices: in the middle of a text it would not."""
    whole = file.read_bytes()
    for at in range(100, len(whole) - 40, 20):
        file.write_bytes(whole[:at] + b"\xff" * 40 + whole[at + 40 :])
        try:
            read()
        except TraceError:
            return
    raise AssertionError("no damage was noticed")


def test_what_cannot_be_moved_is_refused_and_nothing_stays(tmp_path, rng):
    trace = make(tmp_path / "trace", rng, "compact", n=120, header_align=1)
    trace.export(tmp_path / "fine", events="one")
    assert list(open_trace(tmp_path / "fine")) == list(trace.records("one"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    with pytest.raises(FileExistsError):
        trace.export(tmp_path / "full")
    with pytest.raises(TraceError):
        trace.export(tmp_path / "none", events="nothing")
    assert not (tmp_path / "none").exists()
    whole = len(trace)
    data = tmp_path / "trace" / "chan_0"
    damage(data, lambda: list(open_trace(tmp_path / "trace")))
    with pytest.raises(TraceError):
        open_trace(tmp_path / "trace").export(tmp_path / "broken")
    assert not (tmp_path / "broken").exists()
    skipping = open_trace(tmp_path / "trace", errors="skip")
    skipping.export(tmp_path / "rest")
    assert 0 < len(open_trace(tmp_path / "rest")) < whole
