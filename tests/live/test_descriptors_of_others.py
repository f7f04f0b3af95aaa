"""Looking at what processes have open: nothing is opened, read or waited for that is not a channel."""

import os
import subprocess
import sys

import pytest
from kernels import kernel_ring, tracefs_root  # noqa: F401
from rings import run_script, small

import ringbuf
from ringbuf.live import descriptors

LOOK = """
import os, sys
from ringbuf.live.descriptors import channels_of

opened = []
sys.addaudithook(lambda event, args: opened.append(args[0]) if event == "open" else None)
found = channels_of(int(sys.argv[1]))
inside = [name for name in map(str, opened) if "/fd/" in name and "/proc/self/" not in name]
print(*map(os.path.basename, found))
print(*map(os.path.basename, inside))
"""


def look():
    """What another process finds in this one: the numbers of channels, and of all that it has opened for it."""
    found, opened = run_script(LOOK, os.getpid()).splitlines()
    return set(map(int, found.split())), set(map(int, opened.split()))


def test_nothing_but_what_may_be_a_channel_is_opened(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    (tmp_path / "file").write_bytes(b"\xf1fubring" + bytes(8192))
    others = [
        os.open(fifo, os.O_RDWR),
        os.open(tmp_path / "file", os.O_RDWR),
        os.open("/proc/self/status", os.O_RDONLY),
    ]
    others += [os.open("/dev/zero", os.O_RDWR), *os.pipe(), os.eventfd(0)]
    with small() as channel, small(path=tmp_path / "ring") as second:
        channels = {channel.fileno(), second.fileno()}
        found, opened = look()
        assert channels <= found and channels <= opened
        assert not opened & set(others)
    for fd in others:
        os.close(fd)


def test_a_file_that_is_mapped_and_is_no_channel_is_none(tmp_path):
    import mmap

    (tmp_path / "file").write_bytes(bytes(8192))
    with open(tmp_path / "file", "r+b") as file, mmap.mmap(file.fileno(), 8192), small() as channel:
        found, _ = look()
        assert channel.fileno() in found and file.fileno() not in found


def test_a_name_with_a_newline_is_found(tmp_path):
    with small(path=tmp_path / "a\nb") as channel:
        assert channel.fileno() in look()[0]


@pytest.mark.parametrize("kind", [b"fuse.sshfs", b"fuse", b"nfs4", b"tracefs", b"proc", b"autofs"])
def test_files_of_other_file_systems_are_not_even_asked_for_their_status(kind, monkeypatch, tmp_path):
    with small(path=tmp_path / "ring") as channel:
        path = f"/proc/self/fd/{channel.fileno()}"
        mount = descriptors._mount_of(path)
        assert descriptors._channel_at(path, {mount: b"ext4"}) is not None
        monkeypatch.setattr(os, "open", None)
        assert descriptors._channel_at(path, {mount: kind}) is None


def test_a_process_that_is_none_has_no_channels():
    with pytest.raises(ProcessLookupError):
        descriptors.channels_of(2**22 + 1)


def test_what_is_no_regular_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", "/dev/null"):
        with pytest.raises(ringbuf.RegionError, match=f"{path}: not a regular file"):
            ringbuf.attach(path)
    with pytest.raises(IsADirectoryError, match=str(tmp_path)):
        ringbuf.attach(tmp_path)


def test_another_tracers_records_are_left_alone(tracefs_root):  # noqa: F811
    with kernel_ring(tracefs_root, 4) as (instance, buffer, write), small() as channel:
        write(1, b"theirs")
        stats = instance.path / f"per_cpu/cpu{buffer.cpu}/stats"
        before = stats.read_text()
        command = [sys.executable, "-m", "ringbuf", "list"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert f"{channel.name!r}" in done.stdout

        def counts(text):
            return [line for line in text.splitlines() if line.startswith(("entries", "read events"))]

        assert counts(stats.read_text()) == counts(before)
