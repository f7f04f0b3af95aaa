"""Readers and event loops: a descriptor that is readable while a packet waits."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import weakref

__all__ = ["Notifier", "readable"]

_STEP = 0.05  # seconds between looks for the end: closing takes that long


class Notifier:
    """An eventfd for one reader, raised by a thread while a packet waits.

    The thread sleeps without the GIL. Once raised, it rests until somebody has lowered
    the descriptor, so a slow consumer costs nothing. It ends when the reader does.
    """

    def __init__(self, reader) -> None:
        self._bell = _Bell()
        # Neither the thread nor the bell owns the reader: it may go without being closed.
        self._thread = threading.Thread(
            target=_ring, args=(weakref.ref(reader), self._bell), name="ringbuf-notify", daemon=True
        )
        self._thread.start()

    def fileno(self) -> int:
        return self._bell.fd

    def lower(self) -> None:
        """Make the descriptor unreadable until the next packet."""
        self._bell.lower()

    def close(self) -> None:
        self._bell.stopped = True
        self._bell.lowered.set()
        # When the interpreter ends, the thread never runs again, and to join it may never end.
        if self._thread is not threading.current_thread() and not sys.is_finalizing():
            self._thread.join()
        self._bell.close()  # in a forked child there is no thread that would have


class _Bell:
    """What the thread and the reader share."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.lowered = threading.Event()
        self.lowered.set()
        self.stopped = False

    def lower(self) -> None:
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            pass
        self.lowered.set()

    def ring(self) -> None:
        self.lowered.clear()
        os.eventfd_write(self.fd, 1)

    def ring_again(self) -> None:
        """Whoever read the descriptor directly, without `lower`, gets the next packet all the same."""
        try:
            if os.eventfd_read(self.fd):
                os.eventfd_write(self.fd, 1)
        except BlockingIOError:
            self.lowered.set()

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


def _ring(get_reader, bell: _Bell) -> None:
    try:
        while not bell.stopped and get_reader() is not None:
            if not bell.lowered.wait(_STEP):
                bell.ring_again()
            elif _has_packet(get_reader()):
                bell.ring()
    finally:
        bell.close()


def _has_packet(reader) -> bool:
    try:
        return reader is not None and reader.wait(_STEP)
    except Exception:
        return True  # whoever takes the packet gets the exception


async def readable(reader) -> None:
    """Wait, in an asyncio loop, until `reader` may have a packet."""
    loop = asyncio.get_running_loop()
    fd = reader.fileno()
    ready = asyncio.Event()
    loop.add_reader(fd, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(fd)
        reader._lower()
