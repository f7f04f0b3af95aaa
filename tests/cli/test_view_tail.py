"""ringbuf view --tail: the last lines, from the last packets; of a damaged trace those that are whole."""

import ctf_writer
import pytest

from ringbuf.cli import main
from ringbuf.ctf.metadata import ChannelLayout, ClockInfo
from ringbuf.ctf.schema import EventSchema
from ringbuf.trace.trace import Trace, open_trace


@pytest.fixture
def directory(tmp_path, rng):
    events = [EventSchema(0, "e", fields="n:u32"), EventSchema(1, "rare", fields="n:u32")]
    layout = ChannelLayout(bytes(16), "compact", True, ClockInfo(10**9, 1000), events=events)
    files = {}
    for cpu in range(3):
        now, packets = 0, []
        for seq in range(8):
            packet = ctf_writer.Packet(layout, begin=now, cpu=cpu, seq=seq)
            for n in range(50):
                now += rng.randrange(1, 1000)
                packet.event(int(n == 7), now, [seq * 100 + n])
            packets.append(packet.bytes())
        files[f"chan_{cpu}"] = packets
    return ctf_writer.write(tmp_path / "trace", layout, **files)


def printed(capsys, *arguments):
    status = main(["view", *map(str, arguments)])
    return status, capsys.readouterr().out.splitlines(keepends=True)


@pytest.mark.parametrize("count", [1, 5, 60, 1000, 10_000])
@pytest.mark.parametrize("more", [[], ["--event", "rare"], ["--event", "e", "--to", "0.0000150"], ["--json"]])
def test_the_tail_is_the_end_of_the_whole(directory, capsys, count, more):
    _, whole = printed(capsys, directory, *more)
    assert printed(capsys, directory, "--tail", count, *more) == (0, whole[-count:])


def test_only_the_last_packets_are_read(directory):
    trace = open_trace(directory)
    read = []
    trace.when_read = read.append
    list(trace.records(**trace.near_the_end(5)))
    assert 0 < sum(read) < sum(packet.size for packet in trace.packets) / 3
    wanted = {"events": "rare", "begin": 3, "end": None}
    assert trace.near_the_end(10_000, **wanted) == wanted


def test_of_a_damaged_trace_what_is_whole_is_printed(directory, capsys, monkeypatch):
    file = directory / "chan_1"
    last = [packet for packet in open_trace(directory).packets if packet.file == "chan_1"][-1]
    data = bytearray(file.read_bytes())
    data[last.offset + last.content_size - 200 : last.offset + last.content_size - 180] = b"\x1d" * 20
    file.write_bytes(data)
    for part in ([], ["--json"]):
        status, lines = printed(capsys, directory, "--tail", 5, *part)
        assert status != 0 and len(lines) == 5
    monkeypatch.setattr(Trace, "near_the_end", lambda self, count, **wanted: wanted)
    assert printed(capsys, directory, "--tail", 5, "--json")[1] == lines
