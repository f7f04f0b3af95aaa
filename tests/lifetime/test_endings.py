"""Objects go in any order, in cycles, and with the interpreter; threads give their places back."""

import _thread
import gc
import os
import threading

import pytest
from belongings import everything
from rings import assert_exact, eventually, in_fork, in_thread, run_script, script, small, tracer

import ringbuf


def footprint():
    """Mappings, descriptors, threads."""
    with open("/proc/self/maps") as file:
        mapped = sum("memfd:ringbuf:ending" in line for line in file)
    return mapped, len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))


def begin():
    gc.collect()  # what other tests have left is not ours
    return footprint()


def is_back(before):
    return all(now <= then for now, then in zip(footprint(), before, strict=True))


def gone(before):
    """A thread that was joined ends a little later; one of a reader that was dropped, later still."""
    eventually(lambda: is_back(before) or gc.collect() < 0)


@pytest.mark.parametrize("closing", ["closed first", "never closed", "closed last"])
def test_objects_are_dropped_in_any_order(closing, rng, tmp_path):
    def child():
        before = begin()
        for i in range(4):
            objects = everything(tmp_path / str(i), "ending")
            recorder, channel = objects["recorder"], objects["channel"]
            if closing == "closed first":
                channel.close()
            elif closing == "never closed":
                channel = None
            for name in rng.sample(list(objects), len(objects)):
                del objects[name]
                if rng.random() < 0.2:
                    gc.collect()
            if closing == "closed last":
                channel.close()
            channel = None
            recorder.stop()
            del recorder
            gone(before)

    in_fork(child)


def test_objects_in_reference_cycles_are_collected(tmp_path):
    class Node:
        pass

    def child():
        before = begin()
        for i in range(3):
            objects = everything(tmp_path / str(i), "ending")
            objects["recorder"].stop()
            node = Node()
            node.objects, node.self = objects, node
            objects["objects"] = objects
            objects["closure"] = lambda node=node: node
            del objects, node
            gone(before)

    in_fork(child)


def test_a_provider_that_refers_to_its_tracer_is_collected():
    class Owner:
        def __init__(self):
            self.tracer = tracer("ending", contexts=(("x", "u8", self.provide),))
            self.event = self.tracer.event("event", n="u8")
            assert self.event(1)

        def provide(self):
            return 1

    class Client(ringbuf.Client):
        def clock_read(self):
            return 1

    def child():
        before = begin()
        for _ in range(5):
            Owner()
            client = Client()
            client.channel = small("ending", client=client)
            assert client.channel.write(b"x")
            del client
        gone(before)

    in_fork(child)


def test_a_destructor_may_use_what_is_being_collected():
    class Owner:
        def __init__(self):
            self.tracer = tracer("ending")
            self.event = self.tracer.event("event", n="u8")
            self.slot = self.tracer.channel.reserve(10)
            self.self = self

        def __del__(self):
            told.append(self.event(1))
            self.slot.commit()
            told.append(self.tracer.stats().records_written)
            kept.append(self.tracer)

    told, kept = [], []

    def child():
        before = begin()
        Owner()
        gc.collect()
        assert told == [True, 2]
        assert_exact(kept[0].stats(), attempts=2)
        kept.clear()
        gone(before)

    in_fork(child)


# ---- the interpreter ends ----

EXIT = """
import atexit, gc, sys, threading, weakref
sys.path[:0] = sys.argv[2:]
import pathlib, belongings, ringbuf
objects = belongings.everything(pathlib.Path(sys.argv[1]), "ending")
"""

AT_EXIT = {
    "globals": "globals().update(objects)",
    "a module": "import json; json.kept = objects",
    "builtins": "import builtins; builtins.kept = objects",
    "a cycle": "objects['self'] = objects; gc.disable()",
    "a thread-local": "local = threading.local(); local.kept = objects; del objects",
    "an atexit handler": "atexit.register(lambda objects: objects['event'](3), objects); del objects",
    "a class": "class Kept: kept = objects; self = None\nKept.self = Kept()",
    "a suspended generator": """
def generate():
    with objects["channel"].reserve(3):
        yield
generator = generate()
next(generator)
""",
    "a destructor": """
class Kept:
    def __init__(self, objects): self.objects = objects
    def __del__(self):
        assert self.objects["event"](3)
        self.objects["slot"].discard()
        self.objects["view"].release()
        self.objects["reader"].close()
        self.objects["channel"].close()
kept = Kept(objects); del objects
""",
    "a closed channel": "objects['channel'].close()",
    "a daemon thread that records": """
event = objects["event"]
def work():
    while True: event(1)
for _ in range(3): threading.Thread(target=work, daemon=True).start()
""",
    "a daemon thread that reads": """
one, other = ringbuf.Channel("one"), ringbuf.Channel("other")
threading.Thread(target=one.reader().next, daemon=True).start()
threading.Thread(target=list, args=(other.reader().records(),), daemon=True).start()
""",
    "a daemon thread that waits for room": """
full = ringbuf.Channel("full", streams="global", subbuf_size=4096, blocking_timeout=None)
def work():
    while True: full.write(b"x" * 1000)
threading.Thread(target=work, daemon=True).start()
while full.stats().records_written < 12: pass
""",
    "an exception": "raise SystemExit(0)",
}


@pytest.mark.parametrize("where", AT_EXIT)
def test_an_interpreter_ends_whatever_is_left(where, tmp_path):
    done = script(EXIT + AT_EXIT[where], tmp_path / "trace", os.path.dirname(__file__))
    assert (done.returncode, done.stderr) == (0, "")


def test_an_interpreter_that_is_finalizing_may_still_record():
    """Modules are taken down one by one; destructors run among the ruins."""
    printed = run_script(
        """
import os, ringbuf
channel = ringbuf.Channel("ending", streams="global")
channel.stats()  # imports what it needs, which is too late among the ruins
class Late:
    def __del__(self, channel=channel, write=os.write, str=str):
        for i in range(3):
            channel.write(b"x")
        with channel.reserve(1):
            pass
        channel.flush()
        write(1, str(channel.stats().records_written).encode())
late = Late()
"""
    )
    assert printed.strip() == "4"


# ---- threads ----


def test_thousands_of_short_threads_give_their_places_back():
    with small(n_producers=128, n_subbufs=64, subbuf_size=65536) as channel:
        before = begin()
        for _ in range(30):
            threads = [threading.Thread(target=channel.write, args=(b"x",)) for _ in range(100)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            eventually(lambda: is_back(before))
        stats = channel.stats()
        assert (stats.records_written, stats.records_lost) == (3000, 0)


def test_threads_that_python_has_not_started_give_their_places_back():
    """The C library runs the destructor, not the threading module."""
    with small(n_producers=1) as channel:
        before = begin()
        for i in range(100):
            _thread.start_new_thread(channel.write, (b"x",))
            eventually(lambda i=i: channel.stats().records_written == i + 1 and is_back(before))


def test_a_thread_that_records_into_many_channels_gives_back_all_its_places():
    before = begin()
    channels = [small("ending", n_producers=1) for _ in range(10)]
    during = begin()
    for _ in range(3):
        assert in_thread(lambda: [channel.write(b"x") for channel in channels]) == [True] * 10
        gone(during)
    for channel in channels:
        channel.close()
    gone(before)


def test_a_reservation_may_be_dropped_after_its_thread_and_its_channel():
    def child():
        before = begin()
        channel = small("ending")
        other = ringbuf.attach(channel)
        kept = [in_thread(channel.reserve, 4)]
        channel.close()
        kept.clear()  # another thread's: it stays open
        channel = None
        assert other.stats().records_written == 0
        other.close()
        other = None
        gone(before)

    in_fork(child)


# ---- subinterpreters ----


def test_a_subinterpreter_is_refused_in_so_many_words():
    done = script(
        """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
import sys, ringbuf
channel = ringbuf.Channel("ending", streams="global")
channel.write(b"one")
code = '''
try:
    import ringbuf
except ImportError as error:
    print("refused:", error)
else:
    print("works:", ringbuf.Channel("other").write(b"x"))
'''
for _ in range(3):
    interpreter = interpreters.create()
    interpreters.run_string(interpreter, code)
    sys.stdout.flush()
    interpreters.destroy(interpreter)
    channel.write(b"more")
print(channel.stats().records_written)
"""
    )
    assert (done.returncode, done.stderr) == (0, "")
    *told, written = done.stdout.splitlines()
    assert written == "4"
    assert len(told) == 3
    for line in told:
        assert line.startswith("refused:") and "interpreter" in line and "not built" not in line
