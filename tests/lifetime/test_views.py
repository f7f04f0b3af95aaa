"""What outlives the close of its channel raises or stays readable; it never crashes."""

import gc
import threading

import pytest
from rings import fill, in_fork, in_thread, payloads, run_script, small, tracer

import ringbuf

# In forked children: what is feared is a crash, and a child's fails its test alone.


def is_mapped(channel_name):
    with open("/proc/self/maps") as file:
        return any(f"memfd:ringbuf:{channel_name}" in line for line in file)


def held_packet(name):
    channel = small(name)
    channel.write(b"the payload")
    channel.flush()
    reader = channel.reader()
    return channel, reader, reader.next(0)


def test_a_packet_stays_readable_until_its_last_view_is_gone():
    def child():
        channel, reader, packet = held_packet("viewed")
        view = memoryview(packet)
        part = view[80:]
        content = bytes(view)
        channel.close()
        del channel, reader, packet
        gc.collect()
        assert bytes(view) == content and b"the payload" in bytes(part)
        view.release()
        assert b"the payload" in bytes(part)
        part.release()
        gc.collect()
        assert not is_mapped("viewed")

    in_fork(child)


def test_a_packet_is_released_after_its_channel_is_closed():
    def child():
        channel, reader, packet = held_packet("viewed")
        with memoryview(packet):
            channel.close()
            with pytest.raises(BufferError):
                packet.release()
        assert packet.n_records == 1
        packet.release()
        with pytest.raises(ValueError, match="released"):
            memoryview(packet)
        assert (packet.n_records, packet.cpu is None, packet.released) == (1, True, True)
        reader.close()
        packet.release()
        assert not is_mapped("viewed")

    in_fork(child)


def test_a_packet_outlives_its_reader_as_unread():
    def child():
        channel, reader, packet = held_packet("viewed")
        other = ringbuf.attach(channel)
        content = bytes(packet)
        view = memoryview(packet)
        with pytest.raises(BufferError):
            reader.close()
        del reader
        packet = None
        channel.close()
        gc.collect()
        assert bytes(view) == content
        view.release()
        gc.collect()
        assert payloads(other) == [b"the payload"]  # nobody had released it as read

    in_fork(child)


READING = {
    "next": lambda reader: reader.next(0),
    "next, waiting": lambda reader: reader.next(),
    "wait": lambda reader: reader.wait(0),
    "iteration": lambda reader: next(reader),
    "records": lambda reader: next(reader.records()),
    "snapshot": lambda reader: next(reader.snapshot()),
    "flush": lambda reader: reader.flush(),
    "clear": lambda reader: reader.clear(),
    "fileno": lambda reader: reader.fileno(),
}


@pytest.mark.parametrize("closed", ["reader", "channel"])
@pytest.mark.parametrize("use", READING)
def test_a_reader_refuses_use_once_it_or_its_channel_is_closed(use, closed):
    def child():
        channel, reader, packet = held_packet("viewed")
        records = reader.records()
        snapshot = reader.snapshot() if closed == "reader" else None
        packet.release()
        channel.write(b"more")
        (reader if closed == "reader" else channel).close()
        for _ in range(2):
            with pytest.raises(ValueError, match="closed"):
                READING[use](reader)
            with pytest.raises(ValueError, match="closed"):
                next(records)
            records = reader.records()
        if snapshot is not None:
            with pytest.raises(ValueError, match="closed"):
                next(snapshot)
        reader.close()
        channel.close()
        assert not is_mapped("viewed")

    in_fork(child)


@pytest.mark.parametrize("closed", ["reader", "channel"])
def test_a_wait_ends_when_its_reader_or_channel_is_closed(closed):
    def child():
        channel = small("viewed", wakeup="writer")
        reader = channel.reader()
        waiting, ended = threading.Event(), []

        def wait():
            with pytest.raises(ValueError, match="closed"):
                waiting.set()
                reader.next()
            ended.append(True)

        thread = threading.Thread(target=wait)
        thread.start()
        waiting.wait(60)
        (reader if closed == "reader" else channel).close()
        thread.join(60)
        assert ended == [True]
        reader.close()
        channel.close()

    in_fork(child)


def test_the_right_to_read_ends_with_the_reader_not_with_the_channel():
    def child():
        channel, reader, _ = held_packet("viewed")
        other = ringbuf.attach(channel)
        channel.close()
        assert other.has_reader()
        reader.close()
        assert not other.has_reader()
        other.reader().close()

    in_fork(child)


def test_events_streams_and_tracers_refuse_use_once_the_channel_is_closed():
    def child():
        made = tracer("viewed", contexts=("vpid", ("x", "u8", lambda: 1)))
        event, late = made.event("event", n="u8"), made.event("late", n="u8", _contexts=(("y", "u8", lambda: 1),))
        (stream,) = made.channel.streams
        stats = made.stats()
        made.close()
        for use in (
            lambda: event(1), lambda: event(n=1), lambda: late(1), lambda: made.event("other"), made.stats,
            lambda: made.name, stream.stats, stream.flush, stream.reader, stream.events_discarded,
            lambda: made.snapshot("/nonexistent"), lambda: made.record("/nonexistent"),
        ):  # fmt: skip
            with pytest.raises(ValueError, match="closed"):
                use()
        assert stats.attempts == 0 and stream.index == 0 and "closed" in repr(made) and "event" in repr(event)
        assert made.event("event", n="u8") is event  # known already
        made.close()
        assert not is_mapped("viewed")

    in_fork(child)


def test_a_reservation_can_be_ended_after_its_channel_is_closed():
    def child():
        channel = small("viewed")
        other = ringbuf.attach(channel)
        one, two, three = (channel.reserve(4) for _ in range(3))
        view, part = one.payload, three.payload[1:]
        channel.close()
        view[:] = b"kept"
        one.commit()
        with pytest.raises(ValueError):
            view[0] = 1
        two.discard()
        three.payload[:] = b"last"
        three.commit()
        del one, two, three, channel
        gc.collect()
        assert is_mapped("viewed")
        bytes(part), part.release()  # of a record that is no longer its own: readable, no more
        assert payloads(other) == [b"kept", b"last"]

    in_fork(child)


def test_what_a_callback_was_given_can_be_kept_and_is_of_no_use():
    kept = []

    class Keeps(ringbuf.Client):
        def buffer_begin(self, stream, timestamp, subbuf_idx, header):
            kept.extend((stream, header))

    def child():
        channel = small("viewed", client=Keeps())
        fill(channel)
        channel.close()
        assert not is_mapped("viewed")
        for one in kept:
            if isinstance(one, ringbuf.Stream):
                with pytest.raises(ValueError, match="closed"):
                    one.stats()
            else:
                with pytest.raises(ValueError, match="released"):
                    bytes(one)

    in_fork(child)


def test_an_inherited_view_stays_readable_when_the_parent_is_gone():
    printed = run_script(
        """
import os, time, ringbuf
channel = ringbuf.Channel("viewed", streams="global")
channel.write(b"the payload")
channel.flush()
reader = channel.reader()
packet = reader.next(0)
view = memoryview(packet)
parent = os.getpid()
if os.fork():
    os._exit(0)
while os.getppid() == parent:
    time.sleep(0.001)
channel.close()
view = view[80:]
print(b"the payload" in bytes(view), flush=True)
"""
    )
    assert printed.strip() == "True"


def test_objects_of_the_parent_can_be_dropped_in_any_order_by_a_child(rng):
    channel, reader, packet = held_packet("viewed")
    objects = [channel, reader, packet, memoryview(packet), channel.reserve(5), channel.streams, reader.records()]
    for _ in range(3):
        order = rng.sample(range(len(objects)), len(objects))

        def child(order=order):
            nonlocal channel, reader, packet
            mine = list(objects)
            objects.clear()
            channel = reader = packet = None
            for i in order:
                mine[i] = None
                gc.collect()
            assert not is_mapped("viewed")

        in_fork(child)
    objects[4].discard()
    objects[3].release()
    packet.release()
    assert in_thread(channel.write, b"more")
    with pytest.raises(ringbuf.ReaderBusyError):
        channel.reader()
    reader.close()
    channel.close()


def test_a_view_in_another_thread_keeps_the_mapping():
    def child():
        channel, reader, packet = held_packet("viewed")
        ready, go, seen = threading.Event(), threading.Event(), []

        def look(view):
            ready.set()
            go.wait(60)
            seen.append(b"the payload" in bytes(view))

        thread = threading.Thread(target=look, args=(memoryview(packet),))
        thread.start()
        ready.wait(60)
        channel.close()
        del channel, reader, packet
        gc.collect()
        go.set()
        thread.join()
        del thread
        assert seen == [True]

    in_fork(child)
