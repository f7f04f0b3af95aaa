"""Threads that use the same objects at the same time: with a GIL they take turns anywhere, without one they do not."""

import ctypes
import os
import random
import shutil
import sys
import sysconfig
import threading
import time
from collections import Counter

import needs
import pytest

import ringbuf

SECONDS = 0.5  # of each kind of race; more show more: RINGBUF_RACE=10
THREADS = 4
SMALL = {"subbuf_size": 4096, "n_subbufs": 4, "schema_size": 4096, "n_producers": 64, "streams": "global"}


def rounds():
    end = time.monotonic() + float(os.environ.get("RINGBUF_RACE", SECONDS))
    number = 0
    while number < 2 or time.monotonic() < end:
        number += 1
        yield number


def race(*actions, expected=()):
    """Run all at the same moment, each in a thread of its own; what they raise but the expected is raised here."""
    start, raised = threading.Barrier(len(actions)), []

    def run(action):
        start.wait()
        try:
            action()
        except expected:
            pass
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]


def times(n, action):
    def repeated():
        for _ in range(n):
            action()

    return repeated


def close_soon(one):
    def close():
        for _ in range(random.randrange(300)):
            pass
        one.close()

    return close


def end_of(channel):
    """Asks whether its descriptor, and so its mapping, is gone."""
    fd = channel.fileno()
    inode = os.fstat(fd).st_ino

    def is_gone():
        try:
            return os.fstat(fd).st_ino != inode
        except OSError:
            return True

    return is_gone


def soon(is_so):
    """Before CPython 3.13 a thread has been joined before it gives back what it holds: that is at its very end."""
    end = time.monotonic() + 10
    while not is_so() and time.monotonic() < end:
        time.sleep(0.001)
    return is_so()


def reserving(channel):
    def reserve():
        with channel.reserve(8) as slot:
            slot.payload[:] = b"8 bytes."

    return reserve


def looking(channel):
    def look():
        channel.stats()
        _ = channel.name, channel.uuid, channel.is_finalized, channel.max_record_size, repr(channel)
        channel.streams[0].usage()
        channel.has_reader()

    return look


def reading(channel):
    def read():
        try:
            with channel.reader() as reader:
                packet = reader.next(timeout=0)
                if packet is not None:
                    bytes(memoryview(packet)[:100])
        except ringbuf.ReaderBusyError:
            pass

    return read


def in_spans(tracer):
    kind = tracer.span_type("query", n="u64")

    def span():
        with kind(1), tracer.span("inner", k=2):
            pass

    return span


USES = {
    "write": lambda tracer: times(3000, lambda: tracer.channel.write(b"8 bytes.")),
    "write_aligned": lambda tracer: times(3000, lambda: tracer.channel.write(b"8 bytes.", align=16)),
    "reserve": lambda tracer: times(3000, reserving(tracer.channel)),
    "look": lambda tracer: times(300, looking(tracer.channel)),
    "read": lambda tracer: times(300, reading(tracer.channel)),
    "flush": lambda tracer: times(300, tracer.channel.flush),
    "declare": lambda tracer: lambda: [tracer.event(f"e{i}", n="u64") for i in range(50)],
    "snapshot": lambda tracer: lambda: [list(tracer.channel.schemas()) for _ in range(100)],
}


@pytest.mark.parametrize("use", USES)
def test_closing_while_others_use_the_channel(use):
    for _ in rounds():
        tracer = ringbuf.Tracer("c", **SMALL)
        is_gone = end_of(tracer.channel)
        used = [USES[use](tracer) for _ in range(THREADS)]
        race(close_soon(tracer), *used, expected=(ValueError, ringbuf.BufferFullError))
        assert tracer.channel.closed
        assert soon(is_gone)


@pytest.mark.parametrize("what", ["event", "named", "text", "span", "provided"])
def test_closing_while_others_record_values(what):
    for _ in rounds():
        contexts = ("vtid", ("given", "u64", lambda: 1)) if what == "provided" else ("vtid",)
        tracer = ringbuf.Tracer("c", contexts=contexts, **SMALL)
        is_gone = end_of(tracer.channel)
        event, said = tracer.event("e", n="u64"), tracer.event("said", s="str")
        record = {
            "event": lambda event=event: event(1),
            "named": lambda event=event: event(n=1),
            "text": lambda said=said: said("a text"),
            "span": in_spans(tracer) if what == "span" else None,
            "provided": lambda event=event: event(1),
        }[what]
        race(close_soon(tracer), *[times(3000, record)] * THREADS, expected=ValueError)
        assert soon(is_gone)


def test_a_channel_that_lives_on_has_lost_nothing():
    for _ in rounds():
        with ringbuf.Tracer("c", mode="discard", **SMALL | {"n_subbufs": 64}) as tracer:
            event, recorded = tracer.event("e", n="u64"), []
            record = times(500, lambda event=event, recorded=recorded: recorded.append(event(1)))
            race(*[record] * THREADS, times(50, looking(tracer.channel)), times(50, reading(tracer.channel)))
            stats = tracer.stats()
            assert stats.records_written == sum(recorded)
            assert stats.attempts == 500 * THREADS


def test_threads_that_declare_the_same_get_the_same():
    for _ in rounds():
        with ringbuf.Tracer("d", **SMALL) as tracer:
            events, kinds = [], []
            race(*[lambda tracer=tracer, events=events: events.append(tracer.event("e", n="u64"))] * THREADS)
            race(*[lambda tracer=tracer, kinds=kinds: kinds.append(tracer._first_use("s", {"k": 1}))] * THREADS)
            assert len({*map(id, events)}) == len({*map(id, kinds)}) == 1
            assert [name for _, name, *_ in tracer.channel.schemas()] == ["e", "s", "span_end"]


def test_one_reader_in_several_threads():
    for _ in rounds():
        with ringbuf.Channel("r", mode="overwrite", **SMALL) as channel, channel.reader() as reader:

            def take(reader=reader):
                packet = reader.next(timeout=0)
                if packet is not None:
                    with packet:
                        bytes(memoryview(packet)[:100])

            write = times(2000, lambda channel=channel: channel.write(b"x" * 50))
            race(write, *[times(200, take)] * 3, expected=(BufferError, ValueError))


def test_closing_a_reader_that_waits_in_other_threads():
    for _ in rounds():
        with ringbuf.Channel("r", mode="overwrite", **SMALL) as channel:
            reader = channel.reader()
            race(close_soon(reader), *[times(20, lambda r=reader: r.next(timeout=0.01))] * 3, expected=ValueError)
            with channel.reader():  # the right to read is free
                pass


def test_the_views_of_a_packet_and_its_release():
    for _ in rounds():
        with ringbuf.Channel("p", **SMALL) as channel, channel.reader() as reader:
            channel.write(b"x" * 50)
            channel.flush()
            packet = reader.next(timeout=1)

            def look(packet=packet):
                for _ in range(200):
                    with memoryview(packet) as view:
                        assert len(view) == packet.packet_size

            race(look, look, times(200, packet.release), expected=(BufferError, ValueError))
            packet.release()
            assert packet.released


def test_a_mapping_that_is_closed_while_others_use_it():
    for _ in rounds():
        with ringbuf.Channel("m", mode="overwrite", **SMALL) as channel:
            for _ in range(20):
                channel.write(b"8 bytes.", align=8)
            mapping = channel.map()
            race(close_soon(mapping), *[times(300, mapping.get_reader)] * 3, expected=ValueError)
            with channel.map():
                pass


def test_numbers_of_spans_are_given_once(tmp_path):
    with ringbuf.Tracer("s", mode="discard", **SMALL | {"subbuf_size": 1 << 20}) as tracer:
        with tracer.record(tmp_path / "trace"):
            race(*[times(2000, in_spans(tracer))] * THREADS)
        lost = tracer.stats().records_lost
    with ringbuf.open_trace(tmp_path / "trace") as trace:
        begins = [record.fields["span_id"] for record in trace if record.name in ("query", "inner")]
        ends = [record.fields["span_id"] for record in trace if record.name == "span_end"]
    assert Counter(begins).most_common(1)[0][1] == 1
    assert lost or sorted(begins) == sorted(ends)


def test_a_list_that_changes_while_it_is_recorded():
    with ringbuf.Tracer("m", **SMALL) as tracer:
        event, numbers, text = tracer.event("e", v="u32[]", b="bytes"), [*range(50)], bytearray(100)

        def record():
            try:
                event(numbers, text)
            except RuntimeError:  # changed size meanwhile
                pass

        def change():
            del numbers[10:]
            numbers.extend(range(random.randrange(80)))
            try:
                text.extend(b"abc")
                del text[50:]
            except BufferError:
                pass

        for _ in rounds():
            race(*[times(500, record)] * 2, times(500, change))


def test_rows_of_two_kinds_for_one_event():
    numpy = needs.module("numpy")
    with ringbuf.Tracer("m", **SMALL | {"subbuf_size": 65536}) as tracer:
        event = tracer.event("e", n="u32", x="f64")
        one, other = numpy.zeros(100, "u4,f8"), numpy.zeros(100, "f8,u4")
        one.dtype.names, other.dtype.names = ("n", "x"), ("x", "n")
        for _ in rounds():
            race(*[times(50, lambda: event.many(one)), times(50, lambda: event.many(other))] * 2)


def test_functions_have_numbers_of_their_own(tmp_path):
    from ringbuf.record.functions import Functions

    def call_new_ones():
        made = {"__name__": "shop"}
        for number in range(100):
            exec(f"def made_{threading.get_ident()}_{number}(n): return n", made)
        for function in [*made.values()]:
            if callable(function):
                function(1)

    with ringbuf.Tracer("f", subbuf_size=65536, n_subbufs=8) as tracer:
        with Functions(tracer):
            race(*[call_new_ones] * THREADS)
        tracer.snapshot(tmp_path / "trace")
    with ringbuf.open_trace(tmp_path / "trace") as trace:
        names = {}
        for record in trace:
            if record.name == "function_code":
                names.setdefault(record.fields["code"], set()).add(record.fields["name"])
    assert len(names) > 100
    assert not [several for several in names.values() if len(several) > 1]


def test_recorders_that_are_stopped_by_several(tmp_path):
    for number in rounds():
        with ringbuf.Tracer("s", mode="discard", **SMALL) as tracer:
            event, recorder = tracer.event("e", n="u64"), tracer.record(tmp_path / f"{number}")
            race(times(1000, lambda event=event: event(1)), recorder.stop, recorder.stop)
        shutil.rmtree(tmp_path / f"{number}")


class CountsOf(ctypes.Structure):
    """The head of an object where there is no GIL."""

    _fields_ = [
        ("owner", ctypes.c_size_t),
        ("flags", ctypes.c_uint32),
        ("local", ctypes.c_uint32),
        ("shared", ctypes.c_ssize_t),
    ]


@pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED") or sys.version_info < (3, 14),
    reason="reference counts are deferred in free-threaded builds from 3.14 on",
)
def test_threads_that_call_an_event_write_no_reference_count_of_it():
    with ringbuf.Tracer("s", **SMALL) as tracer:
        for shared in (tracer.event("e", n="u64"), tracer.span_type("s")):
            # so much was added to the count that only the cyclic collector looks for the end
            assert CountsOf.from_address(id(shared)).shared >> 2 >= sys.maxsize // 8
        head = CountsOf.from_address(id(tracer.channel))
        assert head.shared >> 2 < sys.maxsize // 8  # as it is where nothing was said
