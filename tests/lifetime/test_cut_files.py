"""Files that are cut short under those who only look, and memory that is not sealed: an error, never a death."""

import fcntl
import os
import subprocess
import sys

import pytest
import rings

import ringbuf
from ringbuf.live.sharing import look

# Each in a process of its own kind of use: what is done before the file is cut short, and after.
LOOKS = {
    "stats": ("", "channel.stats()"),
    "schemas": ("", "channel.schemas()"),
    "is_finalized": ("", "channel.is_finalized"),
    "is_disabled": ("", "channel.is_disabled"),
    "stream_stats": ("", "channel.streams[0].stats()"),
    "usage": ("", "channel.streams[0].usage()"),
    "events_discarded": ("", "channel.streams[0].events_discarded()"),
    "disable": ("", "channel.disable()"),
    "enable": ("", "channel.enable()"),
    "repair": ("", "channel.repair()"),
    "flush": ("", "channel.flush()"),
    "finalize": ("", "channel.finalize()"),
    "declare": ("", "channel.declare_event('a', '', 'n:u8')"),
    "clear": ("", "channel.clear()"),
    "reader": ("", "channel.reader()"),
    "map": ("", "channel.map()"),
    "snapshot": ("", "ringbuf.snapshot(channel, f'snapshot-{name}')"),
    "recorder": ("", "ringbuf.Recorder(channel, f'recorder-{name}')"),
    "has_reader": ("", "channel.has_reader()"),
    "max_record_size": ("", "channel.max_record_size"),
    "attach": ("", "ringbuf.attach(path)"),
    "tracer": ("", "ringbuf.Tracer.attach(path)"),
    "next": ("reader = channel.reader()", "reader.next(0)"),
    "wait": ("reader = channel.reader()", "reader.wait(0)"),
    "records": ("reader = channel.reader()", "list(reader.records(0))"),
    "reader_snapshot": ("reader = channel.reader()", "list(reader.snapshot())"),
    "reader_clear": ("reader = channel.reader()", "reader.clear()"),
    "get_reader": ("mapping = channel.map()", "mapping.get_reader()"),
    "map_wait": ("mapping = channel.map()", "mapping.wait(0.1)"),
    "meta": ("mapping = channel.map()", "mapping.meta.entries"),
    "subbuf": ("mapping = channel.map()", "bytes(mapping.subbuf(0))"),
    "reader_data": ("mapping = channel.map()", "bytes(mapping.reader_data)"),
    "stop": ("recorder = ringbuf.Recorder(channel, f'stopped-{name}')", "recorder.stop()"),
}

SCRIPT = """
import os, sys
import ringbuf
looks = {looks!r}
path = "flight.ring"
failed = []
for name, (before, after) in looks.items():
    maker = ringbuf.Channel("c", path=path, streams="global", subbuf_size=4096, n_subbufs=4)
    if os.fork() == 0:
        maker.write(b"1")
        maker.flush()
        os._exit(0)
    assert os.wait()[1] == 0  # though channels of before were cut short
    channel = ringbuf.attach(path)
    exec(before)
    os.truncate(path, {size})
    print(name, end=" ", flush=True)
    try:
        exec(after)
        failed.append(name)
    except ringbuf.RegionError:
        pass
    os.unlink(path)
assert not failed, failed
"""


@pytest.mark.parametrize("size", [0, 4096, 1 << 20])
def test_whoever_only_looks_is_told(tmp_path, size):
    rings.run_script(SCRIPT.format(looks=LOOKS, size=size), cwd=tmp_path)


RECORDS = """
import os
import ringbuf
channel = ringbuf.Channel("c", path="flight.ring", streams="global", subbuf_size=4096, n_subbufs=4)
tracer = ringbuf.Tracer("t", path="other.ring")
event = tracer.event("e", n="u64")
channel.write(b"x" * 100)
channel.flush()
reader = channel.reader()
packet = reader.next(0)
view = memoryview(packet)
assert channel.write(b"open")
with channel.reserve(100) as reservation:
    os.truncate("flight.ring", {size})
    reservation.payload[:] = b"y" * 100
done = [channel.write(b"z" * 100) for _ in range(1000)]
assert not done[-1]
bytes(view)
assert event(1)
assert os.fork() or os._exit(0 if event(2) and not channel.write(b"child") else 1)
assert os.wait()[1] == 0
assert tracer.channel.stats().records_lost == 0
try:
    channel.stats()
except ringbuf.RegionError as error:
    assert "truncated" in str(error)
else:
    raise AssertionError
"""


@pytest.mark.parametrize("size", [0, 4096, 1 << 15])
@pytest.mark.parametrize("flags", [(), ("-X", "faulthandler")])
def test_producers_and_views_outlive_it(tmp_path, size, flags):
    done = subprocess.run([sys.executable, *flags, "-c", RECORDS.format(size=size)], cwd=tmp_path, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


def unsealed(channel):
    """Memory with the same bytes, that its maker can shrink."""
    fd = os.memfd_create("ringbuf:unsealed", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.sendfile(fd, channel.fileno(), 0, os.fstat(channel.fileno()).st_size)
    return fd


def test_memory_of_ones_own_that_shrinks_is_noticed():
    with rings.small() as channel:
        fd = unsealed(channel)
    with ringbuf.attach(fd) as attached:
        assert attached.stats().records_written == 0
        os.truncate(fd, 4096)
        with pytest.raises(ringbuf.RegionError, match="truncated"):
            attached.stats()
    os.close(fd)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as somebody else")
def test_another_users_memory_that_can_shrink_is_not_mapped():
    with rings.small() as channel:
        channel.write(b"x")
        fd = unsealed(channel)
    os.fchown(fd, 65534, 65534)
    with pytest.raises(ringbuf.RegionError, match="not sealed"):
        ringbuf.attach(fd)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    with ringbuf.attach(fd) as attached:
        assert attached.stats().records_written == 1
    os.close(fd)


HOSTILE = """
import os, sys, ringbuf
channel = ringbuf.Channel("c", path="flight.ring", streams="global", subbuf_size=4096, n_subbufs=4)
size = os.path.getsize("flight.ring")
with open("flight.ring", "rb") as file:
    image = file.read()
print("ready", flush=True)
for _ in range(3000):
    os.truncate("flight.ring", 0)
    with open("flight.ring", "r+b") as file:
        file.write(image)
"""


def test_an_owner_who_cuts_and_grows_the_file_kills_nobody_who_looks(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    owner = subprocess.Popen(
        [sys.executable, "-c", HOSTILE], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout.readline() == "ready\n"
    seen = 0
    while owner.poll() is None:
        try:
            with look(tmp_path / "flight.ring") as channel:
                channel.stats()
                [stream.usage() for stream in channel.streams]
            seen += 1
        except ringbuf.RegionError:
            pass
    owner.stdout.close()
    assert owner.returncode == 0 and seen
