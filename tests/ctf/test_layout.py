"""What a live channel says of itself is enough to read its packets."""

import mmap
import os
import re
import time

import judge
import pytest
from rings import in_fork, small, tracer

import ringbuf
from ringbuf.ctf import layout, metadata


@pytest.mark.parametrize("header", ["compact", "large"])
@pytest.mark.parametrize("streams", ["global", "per-cpu"])
@pytest.mark.parametrize("holes", [False, True])
def test_packets_of_a_reader_and_the_layouts_metadata_are_a_trace(header, streams, holes, tmp_path):
    with tracer(client=ringbuf.CtfClient(header), streams=streams, contexts=("vpid", "procname")) as made:
        event = made.event("number", n="u32", text="str")
        with made.channel.reader() as reader:
            for n in range(200):
                with made.channel.reserve(20) as slot:
                    event(n, f"text {n}")
                    if holes:
                        slot.discard()
            made.channel.finalize()
            for packet in reader:
                with open(tmp_path / f"stream{packet.stream}", "ab") as file:
                    file.write(packet)
        (tmp_path / "metadata").write_text(metadata.channel_metadata(layout.channel_layout(made.channel, holes=holes)))
    found = [event for event in judge.events(tmp_path) if event["name"] == "number"]
    assert [event["fields"] for event in found] == [{"n": n, "text": f"text {n}"} for n in range(200)]
    assert {event["contexts"]["stream"]["vpid"] for event in found} == {os.getpid()}
    assert {event["cpu"] is None for event in found} == {streams == "global"}


def test_a_layout_says_what_the_channel_says():
    with small(client=ringbuf.CtfClient("large"), streams="per-cpu", contexts="vpid:i32") as channel:
        channel.declare_event("one", "", "n:u32")
        told = layout.channel_layout(channel, holes=False)
        assert (told.uuid, told.header, told.per_cpu, told.contexts) == (channel.uuid.bytes, "large", True, "vpid:i32")
        assert told.holes is False and layout.channel_layout(channel, holes=True).holes is True
        assert [(event.id, event.name, event.contexts, event.fields) for event in told.events] == channel.schemas()
        assert channel.environment.items() <= told.env.items()
        assert told.env["vpid"] == os.getpid()


def test_the_version_in_traces_is_the_packages():
    with small() as channel:
        env = layout.channel_layout(channel, holes=False).env
    assert env["tracer_name"] == "ringbuf"
    assert re.match(rf"{env['tracer_major']}\.{env['tracer_minor']}\.", ringbuf.__version__)


def test_events_declared_later_and_elsewhere_are_in_the_next_layout():
    with small() as channel:
        assert layout.channel_layout(channel, holes=False).events == ()
        in_fork(channel.declare_event, "theirs", "", "")
        channel.declare_event("mine", "vpid:i32", "n:u8,text:str")
        assert [event.name for event in layout.channel_layout(channel, holes=False).events] == ["theirs", "mine"]


@pytest.mark.parametrize("clock", ["monotonic", "auto"])
def test_the_clock_of_a_layout_gives_the_time_of_day(clock):
    with small(clock=clock) as channel:
        info = layout.clock_info(channel)
        before = time.time_ns()
        ticks = channel.current_timestamp()
        after = time.time_ns()
        told = info.offset_s * 10**9 + (info.offset_cycles + ticks) * 10**9 // info.freq
        assert before - 10**9 < told < after + 10**9  # the system's clock may be corrected meanwhile
        assert info.description == channel.clock_parameters[0]


def test_the_clock_of_a_client_is_as_it_says(tmp_path):
    class Slow(ringbuf.Client):
        clock_frequency, clock_offset_s, clock_offset = 1000, 1_000_000, 500

        def clock_read(self):
            return 1500

    with tracer(client=Slow()) as made:
        info = layout.clock_info(made.channel)
        assert (info.freq, info.offset_s, info.offset_cycles, info.description) == (1000, 1_000_000, 500, "custom")
        made.event("number", n="u8")(1)
        made.snapshot(tmp_path / "trace")
        assert [event["ns"] for event in judge.events(tmp_path / "trace")] == [1_000_002 * 10**9]


def test_a_closed_channel_has_no_layout():
    channel = small()
    channel.close()
    for function in (layout.clock_info, lambda channel: layout.channel_layout(channel, holes=False)):
        with pytest.raises(ValueError, match="closed"):
            function(channel)


def test_declarations_that_somebody_scribbled_on_are_a_region_error():
    with small() as channel:
        channel.declare_event("event", "", "n:u64")
        with mmap.mmap(channel.fileno(), 0) as memory:
            at = memory.find(b"event", 8192)
            memory[at : at + 5] = bytes(5)
        with pytest.raises(ringbuf.RegionError, match="declarations are damaged"):
            layout.channel_layout(channel, holes=True)
