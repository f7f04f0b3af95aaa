"""Attaching by path, descriptor and pid; pickling into every kind of worker; forks."""

import concurrent.futures
import contextlib
import copy
import gc
import multiprocessing
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import threading
import weakref

import pytest
from rings import (
    assert_exact,
    eventually,
    exit_code,
    fork,
    in_fork,
    in_thread,
    payloads,
    records,
    run_script,
    small,
    tracer,
)

import ringbuf
from ringbuf.live import sharing


def descriptors():
    return set(os.listdir("/proc/self/fd"))


@contextlib.contextmanager
def process(code, *args):
    """A Python process that runs `code` until it prints a line; it ends when its input does. Process and line."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", f"{code}\nprint(flush=True)\ninput()", *map(str, args)]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        try:
            yield running, running.stdout.readline().strip()
        finally:
            running.kill()


# ---- attaching ----


@pytest.mark.parametrize(
    "kind", [str, os.fspath, os.fsencode, lambda path: path], ids=["str", "fspath", "bytes", "Path"]
)
def test_a_channel_is_attached_to_by_path(kind, tmp_path):
    with small(path=tmp_path / "ring") as channel, ringbuf.attach(kind(tmp_path / "ring")) as other:
        assert (other.uuid, other.name, os.fsdecode(other.path)) == (channel.uuid, "small", str(tmp_path / "ring"))
        assert channel.write(b"one") and other.write(b"two")
        assert payloads(channel) == [b"one", b"two"]
        assert other.is_finalized


@pytest.mark.parametrize("backing", ["memory", "file"])
def test_a_channel_is_attached_to_by_descriptor(backing, tmp_path):
    path = str(tmp_path / "ring") if backing == "file" else None
    with small(path=path) as channel:
        before = descriptors()
        file = open(f"/proc/self/fd/{channel.fileno()}", "r+b")  # an object with fileno()
        attached = [ringbuf.attach(target) for target in (channel.fileno(), channel, file)]
        file.close()  # whoever attached has a descriptor of its own
        for other in attached:
            assert (other.uuid, other.path) == (channel.uuid, path)
            assert other.fileno() != channel.fileno()
            assert not os.get_inheritable(other.fileno())
            assert other.write(b"x")
            other.close()
        assert descriptors() == before
        assert channel.stats().records_written == 3


MAKE = """
import ringbuf, sys
ch = ringbuf.Channel("theirs", streams="global", path=sys.argv[1] or None)
ch.write(b"theirs")
"""


@pytest.mark.parametrize("backing", ["memory", "file"])
def test_a_channel_is_attached_to_by_the_pid_of_a_process_that_has_one(backing, tmp_path):
    path = str(tmp_path / "ring") if backing == "file" else None
    with process(MAKE, path or "") as (running, _), ringbuf.attach(running.pid) as channel:
        assert (channel.name, channel.path, channel.environment["vpid"]) == ("theirs", path, running.pid)
        assert channel.write(b"mine")
        assert payloads(channel) == [b"theirs", b"mine"]


def test_the_channel_of_a_forked_child_is_its_parents():
    split = "import os\npid = os.fork()\nif not pid: sys.stdin.read(); os._exit(0)\nprint(pid)"
    with process(MAKE + split, "") as (parent, child), ringbuf.attach(int(child)) as channel:
        with ringbuf.attach(parent.pid) as same:
            assert channel.uuid == same.uuid
        assert payloads(channel) == [b"theirs"]


def test_a_pid_says_nothing_if_its_process_has_no_channel_or_two():
    with (
        process("pass") as (running, _),
        pytest.raises(ringbuf.RegionError, match=f"process {running.pid} has no ringbuf channel"),
    ):
        ringbuf.attach(running.pid)
    two = "import ringbuf; chs = [ringbuf.Channel(n, streams='global') for n in 'ab']"
    with process(two) as (running, _):
        with pytest.raises(ringbuf.RegionError, match="has 2 ringbuf channels open") as error:
            ringbuf.attach(running.pid)
        names = []
        for path in re.findall(r"/proc/\d+/fd/\d+", str(error.value)):
            with ringbuf.attach(path) as channel:
                names.append(channel.name)
        assert sorted(names) == ["a", "b"]


def test_a_channel_that_a_process_has_twice_counts_once():
    twice = MAKE + "other = ringbuf.attach(ch); reader = ch.reader()"  # a reader has a descriptor too
    with process(twice, "") as (running, _), ringbuf.attach(running.pid) as channel:
        assert channel.has_reader()


def test_an_own_descriptor_comes_before_a_pid():
    with small() as channel:
        pid = min({int(name) for name in os.listdir("/proc") if name.isdigit()} - set(map(int, descriptors())))
        os.dup2(channel.fileno(), pid)
        try:
            with ringbuf.attach(pid) as other:
                assert other.uuid == channel.uuid
        finally:
            os.close(pid)


def test_a_process_that_is_none_cannot_be_attached_to():
    pid = fork(lambda: None)
    assert exit_code(pid) == 0
    for number in (pid, -1, 1 << 40):
        with pytest.raises(ProcessLookupError, match=str(number)):
            ringbuf.attach(number)


def test_what_is_no_target_is_a_type_error():
    for target in (None, 1.5, [], object()):
        with pytest.raises(TypeError):
            ringbuf.attach(target)


# ---- refusals ----


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """The bytes of a region."""
    path = tmp_path_factory.mktemp("image") / "ring"
    small(path=path).close()
    return path.read_bytes()


MAGIC, VERSION, BYTE_ORDER, SIZE = 0, 8, 12, 24  # offsets in the superblock: docs/formats.md


def changed(image, at, data):
    return image[:at] + data + image[at + len(data) :]


DAMAGE = {
    "empty": (lambda image: b"", "magic"),
    "text": (lambda image: b"#!/bin/sh\n" * 1000, "magic"),
    "zeros": (lambda image: bytes(len(image)), "magic"),
    "unfinished": (lambda image: changed(image, MAGIC, bytes(8)), "magic"),
    "its magic alone": (lambda image: image[:8], "magic"),
    "cut in the superblock": (lambda image: image[:100], "truncated"),
    "cut after the superblock": (lambda image: image[:4096], "truncated"),
    "cut at the end": (lambda image: image[:-1], "truncated"),
    "newer": (lambda image: changed(image, VERSION, b"\xff\0\0\0"), "layout version"),
    "older": (lambda image: changed(image, VERSION, b"\0\0\0\0"), "layout version"),
    "big-endian": (lambda image: image[:8][::-1] + image[8:], "byte order"),
    "order mark": (lambda image: changed(image, BYTE_ORDER, image[BYTE_ORDER : BYTE_ORDER + 4][::-1]), "byte order"),
    "sizes that do not fit": (lambda image: changed(image, SIZE, b"\xff\xff\xff\xff"), "corrupt"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_no_region_of_ours_is_refused_with_the_reason(damage, image, tmp_path):
    make, reason = DAMAGE[damage]
    path = tmp_path / "ring"
    path.write_bytes(make(image))
    before = descriptors()
    with open(path, "r+b") as file:
        for target in (path, file):
            with pytest.raises(ringbuf.RegionError, match=rf"{path}: .*{reason}") as error:
                ringbuf.attach(target)
            assert isinstance(error.value, ValueError) and isinstance(error.value, ringbuf.RingbufError)
        with pytest.raises((ringbuf.RegionError, ProcessLookupError)):
            ringbuf.attach(file.fileno())  # which could as well be a pid
    assert descriptors() == before
    path.write_bytes(image)
    ringbuf.attach(path).close()


def test_files_that_are_no_files_are_refused(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", "/dev/zero", "/dev/null"):
        with pytest.raises(ringbuf.RegionError, match="not a regular file"):
            ringbuf.attach(path)
    before = descriptors()
    for end in os.pipe():
        with pytest.raises(ringbuf.RegionError):
            ringbuf.attach(end)
        os.close(end)
    with socket.socket() as plug, pytest.raises(OSError):
        ringbuf.attach(plug)
    with pytest.raises(IsADirectoryError):
        ringbuf.attach(tmp_path)
    with pytest.raises(FileNotFoundError):
        ringbuf.attach(tmp_path / "none")
    with open(tmp_path / "closed", "wb") as file:
        pass
    with pytest.raises(ValueError, match="closed"):
        ringbuf.attach(file)
    assert descriptors() == before


def test_another_users_region_and_process_are_refused():
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    with small() as channel:
        parent = os.getpid()

        def child():
            os.setuid(65534)
            with pytest.raises(ringbuf.RegionError, match="belongs to another user"):
                ringbuf.attach(channel)
            with pytest.raises(PermissionError):
                ringbuf.attach(parent)
            assert channel.write(b"inherited")  # and goes on working

        in_fork(child)
        assert payloads(channel) == [b"inherited"]


def test_the_clients_callbacks_are_needed_by_pid_too():
    code = "import ringbuf, time; ch = ringbuf.Channel('theirs', streams='global', clock=time.time_ns)"
    with process(code) as (running, _):
        with pytest.raises(ringbuf.RegionError, match="client"):
            ringbuf.attach(running.pid)
        with ringbuf.attach(running.pid, clock=lambda: 17) as channel:
            assert channel.write(b"x")
            assert [record.timestamp for record in records(channel)] == [17]


# ---- one object for each channel ----


def test_a_pickled_channel_is_itself_where_it_was_made():
    with small() as channel, tracer() as made:
        assert pickle.loads(pickle.dumps(channel)) is channel
        assert copy.copy(channel) is channel and copy.deepcopy([channel])[0] is channel
        assert pickle.loads(pickle.dumps(made)).channel is made.channel

        def child(data):
            assert pickle.loads(data) is channel

        in_fork(child, pickle.dumps(channel))


def test_attaching_gives_an_object_of_its_own():
    with small() as channel:
        one, other = ringbuf.attach(channel), ringbuf.attach(channel)
        one.close()
        assert other.write(b"x") and channel.write(b"x")
        assert pickle.loads(pickle.dumps(other)) is channel
        other.close()


def test_two_objects_of_one_channel_have_one_reader_between_them():
    with small() as channel, ringbuf.attach(channel) as other, channel.reader():
        with pytest.raises(ringbuf.ReaderBusyError):
            other.reader()
        with pytest.raises(ringbuf.ReaderBusyError):
            in_thread(other.clear)


def unpickle_often(data):
    """In another process: every copy is one object, which is kept for the next."""
    first = pickle.loads(data)
    kept = weakref.ref(first)
    assert pickle.loads(data) is first
    assert in_thread(pickle.loads, data) is first
    first.write(b"first")
    del first
    gc.collect()
    assert pickle.loads(data) is kept()
    kept().close()
    assert pickle.loads(data).write(b"second")  # a closed one is of no use


def test_a_process_maps_a_channel_once_however_often_it_comes():
    context = multiprocessing.get_context("spawn")
    with small() as channel:
        worker = context.Process(target=unpickle_often, args=(pickle.dumps(channel),))
        worker.start()
        worker.join()
        assert worker.exitcode == 0
        assert payloads(channel) == [b"first", b"second"]


def test_threads_that_unpickle_at_once_get_one_object():
    with small() as channel:
        run_script(
            """
import pickle, sys, threading
data, barrier, found = bytes.fromhex(sys.argv[1]), threading.Barrier(8), []
def load():
    barrier.wait()
    found.append(pickle.loads(data))
threads = [threading.Thread(target=load) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(found) == 8 and len({id(channel) for channel in found}) == 1
assert sum("memfd:ringbuf:small" in line and " rw-s " in line for line in open("/proc/self/maps")) == 1
""",
            pickle.dumps(channel).hex(),
        )


def test_a_closed_channel_does_not_pickle():
    channel = small()
    channel.close()
    with pytest.raises(ValueError, match="closed"):
        pickle.dumps(channel)


def test_a_pickle_is_of_no_use_once_its_sender_has_closed_the_channel():
    channel = small()
    data = pickle.dumps(channel)
    number = channel.fileno()
    channel.close()
    with pytest.raises(ringbuf.RegionError, match="closed"):
        pickle.loads(data)
    with small("another") as other:  # its descriptor has the number now
        assert other.fileno() == number
        with pytest.raises(ringbuf.RegionError, match="closed"):
            pickle.loads(data)


def test_a_pickle_is_of_no_use_once_its_sender_has_ended():
    code = "import ringbuf, pickle; ch = ringbuf.Channel('theirs', streams='global'); print(pickle.dumps(ch).hex())"
    with process(code) as (_, data):
        pickle.loads(bytes.fromhex(data)).close()
    with pytest.raises(ringbuf.RegionError, match="ended"):
        pickle.loads(bytes.fromhex(data))


# ---- workers ----


class Reversed(ringbuf.Client):
    """Callbacks that a worker must have too."""

    def clock_read(self):
        return 17


def provider():
    return os.getpid()


def record_numbers(tracer, first, count):
    event = tracer.event("number", n="u32")
    return sum(event(n) for n in range(first, first + count))


def assert_numbers(channel, total, own_pid=False):
    found = records(channel)
    assert sorted(record.fields["n"] for record in found) == list(range(total))
    assert_exact(channel.stats(), attempts=total)
    return found


METHODS = ["fork", "spawn", "forkserver"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("backing", ["memory", "file"])
def test_a_tracer_goes_to_processes_as_an_argument(method, backing, tmp_path):
    context = multiprocessing.get_context(method)
    path = tmp_path / "ring" if backing == "file" else None
    with tracer(path=path, contexts=("vpid", ("mine", "u32", provider))) as made:
        workers = [context.Process(target=record_numbers, args=(made, first, 50)) for first in (0, 50)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
            assert worker.exitcode == 0
        found = assert_numbers(made.channel, 100)
        assert {record.contexts["vpid"] for record in found} == {worker.pid for worker in workers}
        assert all(record.contexts["mine"] == record.contexts["vpid"] for record in found)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("backing", ["memory", "file"])
def test_a_tracer_goes_to_a_pool_with_every_task(method, backing, tmp_path):
    path = tmp_path / "ring" if backing == "file" else None
    with tracer(path=path, contexts=("vpid",)) as made:
        context = multiprocessing.get_context(method)
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
            futures = [pool.submit(record_numbers, made, first, 10) for first in range(0, 100, 10)]
            assert [future.result(60) for future in futures] == [10] * 10
        found = assert_numbers(made.channel, 100)
        assert os.getpid() not in {record.contexts["vpid"] for record in found}


def write_time(channel):
    return channel.write(b"x"), type(channel.client).__name__, channel.path


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_channel_takes_its_client_along(method, tmp_path):
    with small(client=Reversed(), path=tmp_path / "ring") as channel:
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
            told = pool.submit(write_time, channel).result(60)
        assert told == (True, "Reversed", str(tmp_path / "ring"))
        assert [record.timestamp for record in records(channel)] == [17]


def test_a_channel_comes_back_from_a_worker_as_itself():
    with small() as channel, multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply_async(copy.copy, (channel,)).get(60) is channel


# ---- forks ----


@pytest.mark.parametrize("first_record", ["before", "after"])
def test_a_forked_child_records_on(first_record):
    with tracer(contexts=("vpid", "vtid")) as made:
        event = made.event("number", n="u32")
        if first_record == "before":
            event(0)

        def child(n):
            assert event(n)
            in_fork(event, n + 1)  # and so do its own children
            assert event(n + 2)

        children = [fork(child, n) for n in (1, 4)]
        assert [exit_code(pid) for pid in children] == [0, 0]
        if first_record == "after":
            event(0)
        found = assert_numbers(made.channel, 7)
        by = {record.fields["n"]: record.contexts["vpid"] for record in found}
        assert (by[0], by[1], by[3], by[4], by[6]) == (os.getpid(), children[0], children[0], children[1], children[1])
        assert len({by[0], by[1], by[2], by[4], by[5]}) == 5
        for record in found:
            assert record.contexts["vtid"] == (
                threading.get_native_id() if record.fields["n"] == 0 else record.contexts["vpid"]
            )


def test_forks_among_recording_threads_lose_nothing_and_confuse_nobody():
    with tracer(n_subbufs=64, subbuf_size=65536) as made:
        event = made.event("number", n="u64")
        stop, counts = threading.Event(), [0] * 3

        def record(i):
            while not stop.is_set():
                assert event(i << 32 | counts[i])
                counts[i] += 1
                stop.wait(0.0002)

        threads = [threading.Thread(target=record, args=(i,)) for i in range(3)]
        for thread in threads:
            thread.start()

        def child(i):
            for n in range(20):
                assert event(i << 32 | n)
            in_thread(event, i << 32 | 20)

        children = []
        for i in range(3, 23):
            children.append(fork(child, i))
        codes = [exit_code(pid) for pid in children]
        stop.set()
        for thread in threads:
            thread.join()
        assert codes == [0] * 20
        expected = [i << 32 | n for i in range(3) for n in range(counts[i])]
        expected += [i << 32 | n for i in range(3, 23) for n in range(21)]
        assert sorted(record.fields["n"] for record in records(made.channel)) == expected
        assert_exact(made.stats(), attempts=len(expected))


def test_the_parent_may_close_the_channel_while_a_child_records():
    made, again = small(), os.pipe()
    other = ringbuf.attach(made)

    def child():
        assert made.write(b"before")
        os.read(again[0], 1)
        assert made.write(b"after")

    pid = fork(child)
    eventually(lambda: other.stats().records_written == 1)
    made.close()
    os.write(again[1], b"x")
    assert exit_code(pid) == 0
    assert payloads(other) == [b"before", b"after"]
    for end in again:
        os.close(end)


def test_a_child_may_close_the_channel_while_the_parent_records():
    with small() as channel:
        assert channel.write(b"one")
        in_fork(channel.close)
        assert channel.write(b"two")
        assert in_thread(channel.write, b"three")
        assert payloads(channel) == [b"one", b"two", b"three"]


def test_a_child_that_outlives_its_parent_goes_on():
    printed = run_script(
        """
import os, sys, time, ringbuf
channel = ringbuf.Channel("orphan", streams="global")
channel.write(b"parent")
parent = os.getpid()
if os.fork():
    os._exit(0)
while os.getppid() == parent:
    time.sleep(0.001)
channel.write(b"child")
channel.finalize()
print([bytes(record.payload) for record in channel.reader().records()], flush=True)
""",
    )  # communicate() waits for the grandchild, which has the pipe
    assert printed.strip() == "[b'parent', b'child']"


def test_a_file_outlives_a_process_that_is_killed(tmp_path):
    code = MAKE + "for i in range(100): ch.write(b'%d' % i)"
    with process(code, tmp_path / "ring") as (running, _):
        running.send_signal(signal.SIGKILL)
        assert running.wait() == -signal.SIGKILL
    with ringbuf.attach(tmp_path / "ring") as channel:
        assert channel.write(b"100")
        assert payloads(channel) == [b"theirs"] + [b"%d" % i for i in range(101)]


def test_a_fork_while_another_thread_holds_the_lock_of_unpickling():
    with small() as channel:
        data = pickle.dumps(channel)
        held, done = threading.Event(), threading.Event()

        def hold():
            with sharing._lock:
                held.set()
                done.wait(60)

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
        try:
            in_fork(lambda: pickle.loads(data).write(b"x"))
        finally:
            done.set()
            thread.join()
        assert payloads(channel) == [b"x"]
