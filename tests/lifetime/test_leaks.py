"""What a process has done leaves nothing behind: no memory, descriptor, thread or mapping."""

import asyncio
import ctypes
import gc
import os
import pickle
import shutil
import sys
import threading

import pytest
from rings import eventually, fill, in_fork, in_thread, small, tracer

import ringbuf


class Mallinfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    ]


mallinfo2 = getattr(ctypes.CDLL(None), "mallinfo2", None)
if mallinfo2 is not None:
    mallinfo2.restype = Mallinfo


clear_caches = getattr(sys, "_clear_internal_caches", None) or sys._clear_type_cache


def resident_shared_memory():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssShmem"))


def mappings():
    """Of channels; files are called ring. Not the page of each that only keeps its image's lock: nobody can read it."""
    with open("/proc/self/maps") as file:
        ours = [line.split() for line in file if "memfd:ringbuf:" in line or "/ring" in line]
    return sorted(words[-2:] for words in ours if words[1] != "---s")


def counts():
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "mappings": len(mappings()),
        "shared memory": resident_shared_memory(),
    }


def is_back(before):
    return all(now <= before[what] for what, now in counts().items())


def memory():
    """Bytes from malloc, and Python's small objects."""
    gc.collect()
    clear_caches()  # CPython keeps names that attributes were looked up by
    info = mallinfo2() if mallinfo2 is not None else Mallinfo()
    return info.uordblks + info.hblkhd, sys.getallocatedblocks()


def stays_flat(cycle, times):
    """What cycles leave behind they leave each time; caches and free lists do not grow for ever.

    It is always looked at in the same place, since malloc counts as used what its own caches hold.
    """
    for _ in range(10):
        cycle()
    heap = objects = None
    for _ in range(40):
        (heap_before, objects_before), (heap, objects) = (heap, objects), memory()
        if heap_before and heap - heap_before < times * 16 and objects - objects_before < times / 2:
            return
        before = counts()
        for _ in range(times):
            cycle()
        # A thread that was joined ends a little later.
        eventually(lambda before=before: is_back(before) or gc.collect() < 0)
    raise AssertionError(f"{heap - heap_before} bytes and {objects - objects_before} objects in {times} times")


# ---- the cycles ----


def create(path):
    small().close()
    small(path=path).close()
    os.unlink(path)


def create_and_forget(path):
    small().write(b"x")


def create_in_a_cycle(path):
    loop = [small()]
    loop[0].write(b"x")
    loop.append(loop)


def fail_to_create(path):
    for options in ({"subbuf_size": 5}, {"path": "/nonexistent/ring"}, {"contexts": "x"}, {"streams": "none"}):
        with pytest.raises((ValueError, OSError)):
            small(**options)


def attach(path):
    with small(path=path, contexts="vpid:i32") as channel:
        for target in (path, channel, channel.fileno()):
            with ringbuf.attach(target) as other:
                other.write(b"x")
    os.unlink(path)


def fail_to_attach(path):
    with open(path, "wb") as file:
        file.write(b"garbage" * 1000)
    for target in (path, "/dev/null", "/nonexistent", -1):
        with pytest.raises((ringbuf.RegionError, OSError)):
            ringbuf.attach(target)


def send(path):
    with small() as channel, tracer(contexts=("vpid", ("x", "u8", int))) as made:
        assert pickle.loads(pickle.dumps(channel)) is channel
        assert pickle.loads(pickle.dumps(made)).channel is made.channel


def receive(path):
    with small() as channel:
        data = pickle.dumps(channel)
        ringbuf._core.known_channels.pop(channel.uuid.bytes)  # as if it came from another process
        received = pickle.loads(data)
        received.write(b"x")
        received.close()


def record_bytes(path):
    with small() as channel:
        fill(channel, memoryview(b"x" * 100))
        channel.write(bytes(5000))
        channel.clear()
        for end in ("commit", "discard"):
            getattr(channel.reserve(10, align=8), end)()
        with channel.reserve(3) as slot:
            slot.payload[:] = b"abc"
        channel.reserve(10)  # forgotten
        with pytest.raises(ZeroDivisionError), channel.reserve(3):
            raise ZeroDivisionError


def record_events(path):
    with tracer(contexts=("vtid", "task_name", ("who", "str", lambda: "me"))) as made:
        event = made.event("event", n="u64", text="str", many="u32[]", blob="bytes", _contexts=(("x", "u8", int),))
        for _ in range(20):
            event(1, "text", [1, 2, 3], b"blob")
            event(n=1, text="é" * 50, many=(1,), blob=bytearray(5))
            with pytest.raises(TypeError):
                event(1, "text", [1, None], b"")
            with pytest.raises(OverflowError):
                event(-1, "text", [], b"")


class Client(ringbuf.Client):
    def clock_read(self):
        return 1

    def buffer_begin(self, stream, timestamp, subbuf_idx, header):
        header[:4] = b"head"


def record_with_callbacks(path):
    with small(client=Client()) as channel:
        fill(channel)
        channel.finalize()


def read(path):
    with small() as channel:
        channel.write(b"x")
        with channel.reader() as reader:
            assert reader.next(0) is None
            channel.flush()
            packet = reader.next(0)
            with memoryview(packet) as view:
                bytes(view[10:20])
            packet.release()
            with pytest.raises(ringbuf.ReaderBusyError):
                channel.reader()
        fill(channel)
        reader = channel.reader()
        next(reader.snapshot())
        next(reader)  # and forgotten, with a packet


def read_records(path):
    with tracer() as made:
        event = made.event("event", n="u64", text="str")
        for n in range(20):
            event(n, "x")
        with made.channel.reader() as reader:
            next(reader.records())
            made.channel.finalize()
            assert len(list(reader.records())) == 19


def wait_in_a_loop(path):
    async def main():
        with small() as channel, channel.reader() as reader:
            channel.write(b"x")
            channel.finalize()
            assert len([packet async for packet in reader]) == 1

    asyncio.run(main())


def wait_by_descriptor(path):
    with small() as channel, channel.reader() as reader:
        assert reader.fileno() >= 0


def record_to_disk(path):
    with tracer() as made:
        with made.record(path, read_timer=0.001) as recorder:
            made.event("event", n="u64")(1)
            recorder.stats()
            with pytest.raises(ringbuf.ReaderBusyError):
                made.record(str(path) + "-other")
    shutil.rmtree(path)


def fail_to_record(path):
    with tracer() as made:
        for directory in ("/nonexistent/trace", "/dev/null"):
            with pytest.raises(OSError):
                made.record(directory)
            with pytest.raises(OSError):
                made.snapshot(directory)


def take_snapshots(path):
    with tracer(mode="overwrite") as made:
        made.event("event", n="u64")(1)
        made.snapshot(path)
        with ringbuf.open_trace(path) as trace:
            assert len(list(trace)) == 1
    shutil.rmtree(path)


def record_in_threads(path):
    with small() as channel:
        for _ in range(3):
            in_thread(channel.write, b"x")


def record_in_forks(path):
    with tracer() as made:
        event = made.event("event", n="u64")
        event(1)
        in_fork(event, 2)


def close_in_forks(path):
    with tracer() as made, made.channel.reader():
        made.event("event", n="u64")(1)
        in_fork(made.close)


CYCLES = {
    function.__name__: (function, times)
    for function, times in [
        (create, 50), (create_and_forget, 50), (create_in_a_cycle, 50), (fail_to_create, 50), (attach, 50),
        (fail_to_attach, 50), (send, 50), (receive, 50), (record_bytes, 50), (record_events, 30),
        (record_with_callbacks, 30), (read, 50), (read_records, 30), (wait_in_a_loop, 5), (wait_by_descriptor, 5),
        (record_to_disk, 30), (fail_to_record, 30), (take_snapshots, 30), (record_in_threads, 50),
        (record_in_forks, 10), (close_in_forks, 10),
    ]
}  # fmt: skip


@pytest.mark.parametrize("name", CYCLES)
def test_doing_it_often_leaves_nothing_behind(name, tmp_path):
    cycle, times = CYCLES[name]
    in_fork(stays_flat, lambda: cycle(tmp_path / "ring"), times)  # without what other tests have left


def test_many_channels_at_once_go_one_by_one():
    gc.collect()
    before = counts()
    channels = [small() for _ in range(100)]
    for channel in channels:
        channel.write(b"x")
    assert len(mappings()) == before["mappings"] + 100
    for i, channel in enumerate(channels, 1):
        channel.close()
        assert len(mappings()) == before["mappings"] + 100 - i
    assert is_back(before)


def test_a_mapping_stays_as_long_as_a_thread_that_recorded_and_no_longer():
    """The kernel and the C library walk through it when the thread ends."""
    channel, recorded, ending = small(), threading.Event(), threading.Event()

    def work():
        channel.write(b"x")
        recorded.set()
        ending.wait(60)

    gc.collect()
    before = len(mappings())
    thread = threading.Thread(target=work)
    thread.start()
    recorded.wait(60)
    channel.close()
    assert len(mappings()) == before
    ending.set()
    thread.join()
    eventually(lambda: len(mappings()) == before - 1)
