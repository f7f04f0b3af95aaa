"""Traces in CTF 2: the same records as in CTF 1.8, from every way to write one."""

import os
import shutil
import subprocess

import ctf_writer
import pytest

import ringbuf
from ringbuf.ctf import json2, tsdl, write2
from ringbuf.ctf.metadata import ChannelLayout, ClockInfo, channel_metadata
from ringbuf.ctf.schema import EventSchema
from ringbuf.trace.trace import open_trace


def babeltrace2():
    """One that reads CTF 2, or None."""
    command = os.environ.get("RINGBUF_BABELTRACE2") or shutil.which("babeltrace2")
    if command is None:
        return None
    version = subprocess.run([command, "--version"], capture_output=True, text=True, check=False).stdout
    return command if version.startswith("Babeltrace 2.") and not version.startswith("Babeltrace 2.0") else None


def lines(command, directory):
    done = subprocess.run([command, "--clock-date", directory], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def values(directory):
    return [(one.timestamp, one.name, one.cpu, one.contexts, one.fields) for one in open_trace(directory)]


@pytest.mark.parametrize("header", ["compact", "large"])
@pytest.mark.parametrize("holes", [True, False])
def test_every_type_is_the_same_in_both_formats(tmp_path, header, holes):
    fields = "a:u8,s:str,b:bytes,x:u16[],f:f32[2],e:u8{ONE=1,TWO=2},t:bool,class:i64", "d:bytes@32,q:bool[]"
    events = [EventSchema(index, f"e{index}", fields=text) for index, text in enumerate(fields)]
    contexts = "vpid:i32,who:str"
    channel = ChannelLayout(
        bytes(range(16)), header, True, ClockInfo(10**9, 5), contexts=contexts, events=events, holes=holes
    )
    packet = ctf_writer.Packet(channel, cpu=3)
    packet.event(0, 1, [1, "h\u00e9", b"xyz", [1, 2], [0.5, 1.5], 2, True, -7], common=[7, "me"])
    if holes:
        packet.hole(5)
    packet.event(1, 2, [b"1234", [True, False]], common=[8, "you"], extended=True)
    directory = ctf_writer.write(tmp_path / "t", channel, s=[packet.bytes()])
    before = values(directory)
    text = write2.metadata_of(tsdl.parse(channel_metadata(channel)))
    (directory / "metadata").write_text(text)
    assert values(directory) == before
    assert write2.metadata_of(json2.parse(text)) == text
    if (command := babeltrace2()) and not holes:
        assert len(lines(command, directory)) == 2


def test_recordings_and_snapshots(tmp_path):
    with ringbuf.Tracer("t") as tracer:
        event = tracer.event("e", n="u32", text="str")
        with tracer.record(tmp_path / "recorded", format="ctf2"):
            for n in range(3):
                event(n, "x" * n)
        for n in range(2):
            event(n, "y")
        tracer.snapshot(tmp_path / "snapshot", format="ctf2")
        with pytest.raises(ValueError, match="format is 'ctf' or 'ctf2', not 'json'"):
            tracer.snapshot(tmp_path / "other", format="json")
    for name, count in (("recorded", 3), ("snapshot", 2)):
        trace = open_trace(tmp_path / name)
        assert trace.sources[0].version == 2
        assert [record.fields["n"] for record in trace] == list(range(count))
        if command := babeltrace2():
            assert len(lines(command, tmp_path / name)) == count
