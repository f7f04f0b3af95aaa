"""The descriptor of a reader: raised while a packet waits, lowered by whoever takes it, gone with the reader."""

import asyncio
import contextlib
import fcntl
import gc
import os
import selectors
import threading
import time
import weakref

import pytest
from rings import eventually, in_fork, small

import ringbuf
from ringbuf.live import notify


class FakeReader:
    """A reader whose packets are a number, and whose waits are counted."""

    def __init__(self):
        self.packets, self.waits, self.error = 0, 0, None
        self.notifier = notify.Notifier(self)

    def wait(self, timeout):
        self.waits += 1
        if self.error is not None:
            raise self.error
        if not self.packets:
            time.sleep(0.001)
        return bool(self.packets)

    def fileno(self):
        return self.notifier.fileno()

    def _lower(self):
        self.notifier.lower()


@pytest.fixture
def reader():
    fake = FakeReader()
    yield fake
    fake.notifier.close()


def is_raised(fd, timeout=0.0):
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        return bool(selector.select(timeout))


def is_open(fd):
    try:
        fcntl.fcntl(fd, fcntl.F_GETFD)
    except OSError:
        return False
    return True


def test_it_is_raised_while_a_packet_waits(reader):
    assert not is_raised(reader.fileno(), 0.05)
    reader.packets = 1
    assert is_raised(reader.fileno(), 60)
    reader.packets = 0
    reader._lower()
    assert not is_raised(reader.fileno(), 0.05)
    reader.packets = 1
    assert is_raised(reader.fileno(), 60)


def test_once_raised_it_rests_until_it_is_lowered(reader):
    reader.packets = 1
    assert is_raised(reader.fileno(), 60)
    waits = reader.waits
    time.sleep(0.3)  # more than a few of its steps
    assert reader.waits == waits
    assert os.eventfd_read(reader.fileno()) == 1


def test_lowering_what_is_not_raised_is_harmless(reader):
    for _ in range(3):
        reader._lower()
    assert not is_raised(reader.fileno(), 0.05)
    reader.packets = 1
    assert is_raised(reader.fileno(), 60)


def test_whoever_reads_the_descriptor_itself_gets_the_next_packet_too(reader):
    reader.packets = 1
    for _ in range(2):
        assert is_raised(reader.fileno(), 60)
        os.eventfd_read(reader.fileno())


def test_an_error_is_for_whoever_takes_the_packet(reader):
    reader.error = ringbuf.RegionError("truncated")
    assert is_raised(reader.fileno(), 60)
    reader._lower()
    assert is_raised(reader.fileno(), 60)  # and again
    reader.error = None
    reader._lower()
    eventually(lambda: reader._lower() or not is_raised(reader.fileno()))


def test_it_ends_with_its_reader():
    reader = FakeReader()
    fd, thread = reader.fileno(), reader.notifier._thread
    reference = weakref.ref(reader)
    del reader
    gc.collect()
    eventually(lambda: reference() is None and not thread.is_alive())
    assert not is_open(fd)


@pytest.mark.parametrize("raised", [False, True])
def test_closing_ends_it_at_once_and_twice_is_harmless(raised):
    reader = FakeReader()
    reader.packets = int(raised)
    fd, thread = reader.fileno(), reader.notifier._thread
    assert not raised or is_raised(fd, 60)
    reader.notifier.close()
    assert not thread.is_alive() and not is_open(fd)
    reader.notifier.close()
    assert reader.fileno() == -1


def test_a_reader_that_is_closed_by_its_own_thread_is_closed():
    """As by a destructor that happens to run there."""
    reader = FakeReader()
    fd, thread, closed = reader.fileno(), reader.notifier._thread, []

    def wait(timeout):
        reader.notifier.close()
        closed.append(fd)
        return False

    reader.wait = wait
    eventually(lambda: not thread.is_alive())
    assert closed == [fd] and not is_open(fd)


def test_a_forked_child_closes_its_own_copy(reader):
    def child():
        reader.notifier.close()
        assert not is_open(fd)

    fd = reader.fileno()
    in_fork(child)
    reader.packets = 1
    assert is_raised(fd, 60)


def test_other_programs_do_not_inherit_it(reader):
    assert not os.get_inheritable(reader.fileno())
    assert not os.get_blocking(reader.fileno())


# ---- in an event loop ----


def test_readable_waits_for_a_packet_and_lowers(reader):
    async def main():
        waiting = asyncio.create_task(notify.readable(reader))
        await asyncio.sleep(0.02)
        assert not waiting.done()
        reader.packets = 1
        await asyncio.wait_for(waiting, 30)
        reader.packets = 0
        reader._lower()
        assert not is_raised(reader.fileno(), 0.02)
        return asyncio.get_running_loop().remove_reader(reader.fileno())

    assert asyncio.run(main()) is False  # the loop does not watch it any more


def test_readable_leaves_nothing_behind_when_it_is_cancelled(reader):
    async def main():
        for _ in range(3):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(notify.readable(reader), 0.01)
        return asyncio.get_running_loop().remove_reader(reader.fileno())

    assert asyncio.run(main()) is False


def test_a_loop_turns_while_async_readers_wait_and_ends_with_the_channel():
    async def main():
        with small() as channel, channel.reader() as reader:
            turns, seen = 0, []

            async def turn():
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            async def read():
                async for packet in reader:
                    seen.append(packet.n_records)

            turning, reading = asyncio.create_task(turn()), asyncio.create_task(read())
            for n in (1, 2, 3):
                before = turns
                while turns < before + 10:
                    await asyncio.sleep(0)
                for _ in range(n):
                    channel.write(b"x")
                channel.flush()
                while len(seen) < n:
                    await asyncio.sleep(0.001)
            channel.finalize()
            await reading
            turning.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await turning
            return seen

    assert asyncio.run(asyncio.wait_for(main(), 60)) == [1, 2, 3]


def test_an_error_ends_the_waiting_of_a_task(reader):
    reader.error = ringbuf.RegionError("truncated")
    asyncio.run(asyncio.wait_for(notify.readable(reader), 60))


def test_many_descriptors_do_not_share_a_thread_and_all_go():
    before = threading.active_count()
    channels = [small() for _ in range(10)]
    readers = [channel.reader() for channel in channels]
    fds = [reader.fileno() for reader in readers]
    assert len(set(fds)) == 10 and threading.active_count() == before + 10
    for channel in channels[::2]:
        channel.write(b"x")
        channel.flush()
    for fd in fds[::2]:
        assert is_raised(fd, 60)
    assert not any(map(is_raised, fds[1::2]))
    for reader in readers:
        reader.close()
    assert threading.active_count() == before
