"""The kernel's tracing for tests: tracefs at a place of our own, buffers of our own, one CPU."""

import contextlib
import errno
import fcntl
import os
import struct
import subprocess

import needs
import pytest

from ringbuf.kernel import tracefs


@pytest.fixture
def tracefs_root(tmp_path_factory):
    """Where tracefs is mounted for this test, while no other test uses it.

    A machine has one tracefs, however often it is mounted: instances and settings are those of all interpreters'
    runs, also of those in other systems on this machine. So what they lock is its root directory.
    """
    if os.geteuid() != 0:
        needs.missing("root, which tracing the kernel takes")
    if "tracefs" not in open("/proc/filesystems").read():
        needs.missing("a kernel with tracefs")
    root = tmp_path_factory.mktemp("tracefs")
    done = subprocess.run(["mount", "-t", "tracefs", "nodev", root], capture_output=True, text=True, check=False)
    if done.returncode:
        needs.missing(f"a tracefs that can be mounted ({done.stderr.strip()})")
    lock = os.open(root, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    yield root
    os.close(lock)
    subprocess.run(["umount", "-l", root], check=True)


@contextlib.contextmanager
def one_cpu():
    """This thread on one CPU; its number."""
    allowed = os.sched_getaffinity(0)
    cpu = min(allowed)
    os.sched_setaffinity(0, {cpu})
    try:
        yield cpu
    finally:
        os.sched_setaffinity(0, allowed)


@contextlib.contextmanager
def kernel_ring(root, n_subbufs, *, overwrite=True, **options):
    """An instance whose buffers have `n_subbufs` pages beside the reader's, its MappedBuffer, and a writer."""
    with one_cpu() as cpu, contextlib.ExitStack() as stack:
        options = {"clock": "counter", **options}
        instance = stack.enter_context(
            tracefs.Instance(root=root, buffer_size=4080 * n_subbufs, overwrite=overwrite, **options)
        )
        buffer = stack.enter_context(tracefs.MappedBuffer(cpu, instance))
        if not buffer.is_mapped:
            needs.missing("a kernel that maps its ring buffer (6.10)")
        writer = os.open(instance.path / "trace_marker_raw", os.O_WRONLY)
        stack.callback(os.close, writer)
        instance.start()
        yield instance, buffer, lambda number, data: write_raw(writer, number, data)


def write_raw(writer, number, data):
    """A raw_data event; False if the kernel had no room for it."""
    try:
        os.write(writer, struct.pack("<I", number) + data)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        return False
    return True
