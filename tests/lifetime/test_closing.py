"""A channel, reader or mapping that is closed in the middle of a call: an exception at most, never a crash.

The middle is forced: the close comes from a callback, or from the conversion of an argument, which run where
another thread could as well. In forked children: a crash is a child's.
"""

import gc
import itertools
import os
import sys
import threading

import pytest
from rings import in_fork, small

import ringbuf
from ringbuf import client
from ringbuf._core import StreamMap
from ringbuf.live import sharing


def is_mapped(channel_name):
    with open("/proc/self/maps") as file:
        return any(f"memfd:ringbuf:{channel_name}" in line for line in file)


class Trap:
    """A clock that, once it is armed, runs something in the middle of whoever asks for the time."""

    def __init__(self):
        self.ticks = itertools.count(1)
        self.action = None

    def __call__(self):
        action, self.action = self.action, None
        if action is not None:
            action()
        return next(self.ticks)


def trapped(**options):
    trap = Trap()
    return trap, small("closing", clock=trap, n_producers=4, schema_size=4096, **options)


class Closing:
    """A number that closes something when it is asked for."""

    def __init__(self, close, value=0):
        self.close, self.value = close, value

    def __index__(self):
        self.close()
        return self.value

    __int__ = __index__

    def __float__(self):
        self.close()
        return float(self.value)

    def __bool__(self):
        self.close()
        return bool(self.value)


def attempt(function):
    """Call it; whatever it raises must be one of ours."""
    try:
        function()
    except (ValueError, RuntimeError, OSError, ringbuf.EndOfStream, StopIteration):
        pass


ARGUMENTS = {
    "has_reader": lambda channel, closing: channel.has_reader(closing),
    "reader": lambda channel, closing: channel.reader(closing),
    "map": lambda channel, closing: StreamMap(channel, closing),
    "flush": lambda channel, closing: channel.flush(closing),
    "stream.flush": lambda channel, closing: channel.streams[0].flush(closing),
    "reserve": lambda channel, closing: channel.reserve(closing),
    "recorder": lambda channel, closing: ringbuf.Recorder(channel, "trace", read_timer=closing),
    "snapshot": lambda channel, closing: ringbuf.snapshot(channel, "trace", timeout=closing),
    "header": lambda channel, closing: channel._native_header(0, closing, 0, False),
    "header of a stream": lambda channel, closing: channel._native_header(closing, 0, 0, True),
    "reader.next": lambda channel, closing: channel.reader().next(closing),
    "reader.flush": lambda channel, closing: channel.reader().flush(closing),
    "mapping.wait": lambda channel, closing: channel.map().wait(closing),
}


@pytest.mark.parametrize("use", ARGUMENTS)
def test_an_argument_may_close_the_channel(use, tmp_path):
    def child():
        os.chdir(tmp_path)
        channel = small("closing", n_producers=4)
        channel.write(b"x")
        attempt(lambda: ARGUMENTS[use](channel, Closing(channel.close)))
        assert channel.closed
        gc.collect()
        assert not is_mapped("closing")

    in_fork(child)


CHANNEL = {
    "write": lambda channel: channel.write(b"y"),
    "reserve": lambda channel: channel.reserve(1).discard(),
    "flush": lambda channel: channel.flush(),
    "flush, empty": lambda channel: channel.flush(empty=True),
    "stream.flush": lambda channel: channel.streams[0].flush(),
    "finalize": lambda channel: channel.finalize(),
    "clear": lambda channel: channel.clear(),
    "repair": lambda channel: channel.repair(),
    "stats": lambda channel: channel.stats(),
    "schemas": lambda channel: channel.schemas(),
    "declare": lambda channel: channel.declare_event("other", "", "n:u8"),
    "time": lambda channel: channel.current_timestamp(),
    "reader": lambda channel: channel.reader().next(0),
    "map": lambda channel: channel.map(),
    "snapshot": lambda channel: ringbuf.snapshot(channel, "/nonexistent/x"),
    "repr": lambda channel: repr(channel),
    "environment": lambda channel: channel.environment,
}


@pytest.mark.parametrize("use", CHANNEL)
def test_a_callback_may_close_the_channel(use):
    def child():
        trap, channel = trapped()
        channel.write(b"x")
        trap.action = channel.close
        attempt(lambda: CHANNEL[use](channel))
        channel.close()
        gc.collect()
        assert not is_mapped("closing")

    in_fork(child)


READER = {
    "next": lambda reader: reader.next(0),
    "wait": lambda reader: reader.wait(0),
    "flush": lambda reader: reader.flush(empty=True),
    "clear": lambda reader: reader.clear(),
    "snapshot": lambda reader: [bytes(packet) for packet in reader.snapshot()],
    "records": lambda reader: list(reader.records(timeout=0)),
    "next of a stream": lambda reader: reader._next_of_stream(0),
    "at the end": lambda reader: reader._is_at_end(),
}


@pytest.mark.parametrize("finalized", [False, True], ids=["going on", "finalized"])
@pytest.mark.parametrize("closed", ["reader", "channel", "both"])
@pytest.mark.parametrize("use", READER)
def test_a_callback_may_close_a_reader_and_its_channel(use, closed, finalized):
    def child():
        trap, channel = trapped(switch_timer=1e-9)
        channel.write(b"x")
        if finalized:
            channel.finalize()
        reader = channel.reader()

        def close():
            if closed != "channel":
                reader.close()
            if closed != "reader":
                channel.close()

        trap.action = close
        attempt(lambda: READER[use](reader))
        assert trap.action is not None or reader.closed or channel.closed
        reader.close()
        channel.close()
        gc.collect()
        assert not is_mapped("closing")

    in_fork(child)


MAPPING = {
    "get_reader": lambda mapping: mapping.get_reader(),
    "flush": lambda mapping: mapping.flush(),
    "clear": lambda mapping: mapping.clear(),
    "wait": lambda mapping: mapping.wait(0),
    "ready": lambda mapping: mapping._map.is_ready(0),
    "at the end": lambda mapping: mapping._map.is_at_end(),
}


@pytest.mark.parametrize("use", MAPPING)
def test_a_callback_may_close_a_mapping_and_its_channel(use):
    def child():
        trap, channel = trapped()
        channel.write(b"x")
        mapping = channel.map()

        def close():
            mapping.close()
            channel.close()

        trap.action = close
        attempt(lambda: MAPPING[use](mapping))
        close()
        mapping = None
        gc.collect()
        assert not is_mapped("closing")

    in_fork(child)


def test_a_clients_first_callback_may_close_the_channel():
    class Hasty(ringbuf.CtfClient):
        def buffer_create(self, stream, cpu, name):
            stream.channel.close()

    def child():
        with pytest.raises(ValueError, match="closed"):
            small("closing", client=Hasty())
        gc.collect()
        assert not is_mapped("closing")

    in_fork(child)


def test_a_clients_last_callback_may_use_the_channel():
    class Late(ringbuf.CtfClient):
        def buffer_finalize(self, stream, cpu):
            for use in (stream.stats, stream.flush, stream.channel.close, stream.channel.schemas, stream.reader):
                attempt(use)

    def child():
        channel = small("closing", client=Late())
        channel.close()
        del channel
        gc.collect()
        assert not is_mapped("closing")

    in_fork(child)


def test_a_channel_that_was_never_made_refuses_use():
    channel = ringbuf.Channel.__new__(ringbuf.Channel)
    assert channel.closed and "closed" in repr(channel)
    for use in (channel.stats, channel.map, channel.reader, channel.flush, lambda: channel.write(b""), channel.schemas):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_a_channel_is_closed_while_another_thread_maps_it():
    def child():
        sys.setswitchinterval(1e-6)
        for delay in range(60):
            channel = small("closing", mode="overwrite", n_subbufs=2048, schema_size=4096, n_producers=4)
            both, ends = threading.Barrier(2), []

            def use(channel=channel, both=both, ends=ends):
                both.wait()
                attempt(lambda: channel.map().close())
                ends.append(True)

            thread = threading.Thread(target=use)
            thread.start()
            both.wait()
            for _ in range(30 * delay):
                pass
            channel.close()
            thread.join()
            assert ends

    in_fork(child)


def test_a_failed_attach_closes_its_descriptor_once(monkeypatch):
    closed, make = [], client.CtfClient

    def attach_copy(**options):
        fd = os.open(f"/proc/self/fd/{channel.fileno()}", os.O_RDWR)
        closed.clear()
        with monkeypatch.context() as patch:
            patch.setattr(os, "close", lambda number: (closed.append(number), close(number)))
            try:
                sharing._attach_owned(fd, None, options.get("clock"))
            finally:
                with pytest.raises(OSError, match="Bad file descriptor"):
                    os.fstat(fd)

    def make_once(**options):
        if options:  # of the channel that was attached to: the mapping exists by now
            raise MemoryError
        return make()

    close = os.close
    with small() as channel:
        with pytest.raises(TypeError):
            attach_copy(clock=1)
        assert len(closed) == 1
        monkeypatch.setattr(client, "CtfClient", make_once)
        with pytest.raises(MemoryError):
            attach_copy()
        assert closed == []  # the mapping's own end has closed it
