"""Programs that close descriptors behind our back, give their numbers to others, or had none to begin with."""

import os
import socket

import pytest
import rings

import ringbuf

# Closes every descriptor as a daemon does, and gives the numbers to files of its own.
LOSE = """
import fcntl, os, socket, sys
import ringbuf

epolls = []

def lose(*strangers):
    "Close all; then the numbers are those of files of other kinds."
    os.closerange(3, 64)
    return [stranger() for stranger in strangers for _ in range(8)]

def a_small_file():
    return os.open("stranger", os.O_RDWR | os.O_CREAT)

def a_large_file():
    fd = os.open("large", os.O_RDWR | os.O_CREAT)
    os.truncate(fd, 1 << 30)
    return fd

def a_locked_file():
    fd = os.open("locked", os.O_RDWR | os.O_CREAT)
    fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return fd

def a_fifo():
    if not os.path.exists("fifo"):
        os.mkfifo("fifo")
    return os.open("fifo", os.O_RDWR)

def a_socket():
    return socket.socket().detach()

def an_epoll():
    import select
    epolls.append(select.epoll())
    return epolls[-1].fileno()
"""
STRANGERS = ["", "a_small_file", "a_large_file", "a_locked_file", "a_fifo", "a_socket", "an_epoll"]


def run(tmp_path, code, *args):
    return rings.run_script(LOSE + code, *args, cwd=tmp_path)


@pytest.fixture(params=["file", "memory"])
def where(request):
    return "path='flight.ring'" if request.param == "file" else "path=None"


@pytest.mark.parametrize("stranger", STRANGERS)
def test_recording_goes_on_by_the_mapping(tmp_path, where, stranger):
    code = f"""
first = ringbuf.Tracer("a", mode="discard", {where})
other = ringbuf.Tracer("b", mode="discard", {where.replace("flight", "other")})
event, another = first.event("e", n="u64"), other.event("e", n="u64")
pid = os.fork()
if pid == 0:
    kept = lose({stranger})
    recorded = sum(event(n) for n in range(100))
    another(1)  # registers again: what was recorded must not be given up with its slot
    recorded += sum(event(n) for n in range(100))
    stats = first.stats()
    assert (recorded, stats.records_written, stats.records_lost) == (200, 200, 0), stats
    assert other.stats().records_written == 1
    other.close()
    first.close()
    for fd in kept:
        os.fstat(fd)  # they are the program's, and stay
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
print(first.stats().records_written)
"""
    assert run(tmp_path, code) == "200\n"


@pytest.mark.parametrize("stranger", STRANGERS)
def test_what_needs_a_descriptor_opens_the_file_again(tmp_path, stranger):
    code = f"""
tracer = ringbuf.Tracer("a", mode="discard", streams="global", path="flight.ring")
event = tracer.event("e", n="u64")
kept = lose({stranger})
for n in range(10):
    event(n)
assert tracer.snapshot("snapshot")["records"] == 10
with tracer.channel.map() as mapping:
    assert mapping.meta.nr_subbufs
with ringbuf.attach(tracer.channel) as again:
    assert again.stats().records_written == 10
tracer.channel.finalize()
with tracer.channel.reader() as reader:
    print(len(list(reader.records())))
assert not tracer.channel.has_reader()
for fd in kept:
    os.fstat(fd)
""".replace("ringbuf.attach(tracer.channel)", "ringbuf.attach(tracer.channel.fileno())")
    assert run(tmp_path, code) == "10\n"


def test_memory_that_cannot_be_opened_again_says_so(tmp_path):
    if os.geteuid() == 0:  # root may, by the mapping
        os.chmod(tmp_path, 0o777)
    code = """
import ringbuf.live.mapping, ringbuf.record.recorder, ringbuf.stats
ringbuf.Channel("before").close()  # nothing is imported as somebody else
os.geteuid() or os.setresuid(65534, 65534, 65534)
channel = ringbuf.Channel("a")
channel.write(b"x")
lose(a_small_file)
assert channel.stats().records_written == 1
for use in (channel.reader, channel.map, channel.fileno, lambda: ringbuf.snapshot(channel, "snapshot")):
    try:
        use()
    except ringbuf.RegionError as error:
        assert "closed the channel's descriptor" in str(error), error
    else:
        raise AssertionError(use)
"""
    run(tmp_path, code)


def test_a_reader_goes_on_and_keeps_others_out(tmp_path):
    code = """
channel = ringbuf.Channel("a", streams="global", subbuf_size=4096, path="flight.ring")
reader = channel.reader()
for n in range(20):
    channel.write(b"x" * 1000)
channel.flush()
first = reader.next(0)
kept = lose(a_locked_file)
assert first.n_records == 3
assert reader.next(0).sequence_number == 1
try:
    channel.reader()
except ringbuf.ReaderBusyError:
    print("busy")
reader.close()
for fd in kept:
    os.fstat(fd)
"""
    assert run(tmp_path, code) == "busy\n"


def test_a_reader_whose_place_was_taken_meanwhile_says_so(tmp_path):
    code = """
channel = ringbuf.Channel("a", path="flight.ring")
reader = channel.reader()
lose(a_small_file)
with ringbuf.attach("flight.ring") as other, other.reader():
    try:
        reader.next(0)
    except ringbuf.ReaderBusyError as error:
        print("another reader" in str(error))
reader.next(0)
"""
    assert run(tmp_path, code) == "True\n"


@pytest.mark.parametrize("stranger", STRANGERS)
def test_a_recorder_writes_to_its_own_files_alone(tmp_path, stranger):
    code = f"""
tracer = ringbuf.Tracer("a", mode="discard", streams="global", subbuf_size=4096, path="flight.ring")
event = tracer.event("e", n="u64")
recorder = tracer.record("trace")
def record():
    for n in range(1000):
        while not event(n):
            recorder.poke()
record()
import time
while recorder.stats()["packets"] == 0:
    time.sleep(0.01)
kept = lose({stranger})
record()
recorder.stop()
assert os.path.getsize("stranger") == 0 if os.path.exists("stranger") else True
for fd in kept:
    os.fstat(fd)
print(sum(1 for _ in ringbuf.open_trace("trace")))
"""
    assert run(tmp_path, code) == "2000\n"


@pytest.mark.parametrize("stranger", ["", "a_socket", "an_epoll"])
def test_a_notifier_leaves_the_number_alone(tmp_path, stranger):
    code = f"""
import time
channel = ringbuf.Channel("a", streams="global", path="flight.ring")
reader = channel.reader()
reader.fileno()
kept = lose({stranger})
channel.write(b"x")
channel.flush()
time.sleep(0.2)
try:
    reader.fileno()
except OSError as error:
    print("closed" in str(error))
reader.close()
channel.close()
for fd in kept:
    os.fstat(fd)
"""
    assert run(tmp_path, code) == "True\n"


def test_a_file_that_is_cut_short_is_told_from_a_closed_descriptor(tmp_path):
    code = """
channel = ringbuf.Channel("a", path="flight.ring")
lose(a_large_file)
assert channel.stats().records_written == 0
os.truncate("flight.ring", 0)
try:
    channel.stats()
except ringbuf.RegionError as error:
    print("truncated" in str(error))
channel.close()
"""
    assert run(tmp_path, code) == "True\n"


def test_whoever_recorded_with_its_descriptors_closed_still_counts_as_living(tmp_path):
    code = """
tracer = ringbuf.Tracer("a", path="flight.ring")
event = tracer.event("e")
lose(a_small_file)
event()
try:
    ringbuf.recover("flight.ring", "trace")
except ringbuf.RegionBusyError:
    print("busy")
"""
    assert run(tmp_path, code) == "busy\n"


@pytest.mark.parametrize("path", ["'flight.ring'", "None"])
def test_no_descriptor_of_ours_is_a_standard_one(tmp_path, path):
    code = f"""
import os, sys, threading
for fd in range(3):
    os.close(fd)
import ringbuf
channel = ringbuf.Channel("a", streams="global", path={path})
recorder = ringbuf.Recorder(channel, "trace")
channel.write(b"x")
channel.flush()
recorder.stop()
with channel.reader() as reader, ringbuf.attach(channel.fileno()) as other:
    reader.fileno()
    with channel.map() if False else other:
        taken = []
        for fd in range(3):
            try:
                os.fstat(fd)
                taken.append(os.readlink(f"/proc/self/fd/{{fd}}"))
            except OSError:
                pass
os.write(os.open("taken", os.O_WRONLY | os.O_CREAT), repr(taken).encode())
"""
    code = f"exec({code!r})"
    done = rings.script(code, cwd=tmp_path)
    assert done.returncode == 0, done
    assert (tmp_path / "taken").read_text() == "[]"


def test_a_crash_message_does_not_go_into_the_flight(tmp_path):
    code = """
import ctypes, os
for fd in range(3):
    os.close(fd)
import ringbuf
tracer = ringbuf.Tracer("a", path="flight.ring")
event = tracer.event("e", n="u64")
for n in range(100):
    event(n)
ctypes.pythonapi.Py_FatalError(b"the end")
"""
    done = rings.script(code, cwd=tmp_path)
    assert done.returncode != 0
    assert ringbuf.recover(tmp_path / "flight.ring", tmp_path / "trace").records == 100


def test_the_close_of_an_attachment_leaves_a_strangers_number_alone(tmp_path):
    left, right = socket.socketpair()
    channel = rings.small(path=tmp_path / "flight.ring")
    number = channel.fileno()
    os.dup2(left.fileno(), number)
    channel.close()
    os.write(number, b"alive")
    assert right.recv(8) == b"alive"
    os.close(number)
    left.close()
    right.close()
