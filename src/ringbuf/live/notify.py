"""Readers and event loops: a descriptor that is readable while a packet waits."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import sys
import threading
import weakref

from .._core import Descriptor

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
        return self._bell.fileno()

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


def _eventfd_id(fd: int) -> bytes:
    """All eventfds, epolls and timers are one inode to `Descriptor`: this tells them apart, where /proc is."""
    try:
        info = os.open(f"/proc/self/fdinfo/{fd}", os.O_RDONLY | os.O_CLOEXEC)  # the built-in open ends earlier
    except OSError:
        return b""
    try:
        return next((line for line in os.read(info, 4096).splitlines() if line.startswith(b"eventfd-id:")), b"")
    finally:
        os.close(info)


class _Bell:
    """What the thread and the reader share: an eventfd, which the program may have closed."""

    def __init__(self) -> None:
        self._descriptor = Descriptor(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
        self._id = _eventfd_id(self._descriptor.fileno())
        self.lowered = threading.Event()
        self.lowered.set()
        self.stopped = False

    def lower(self) -> None:
        self._silence()
        self.lowered.set()

    def _silence(self) -> bool:
        """Was it raised?"""
        try:
            return os.eventfd_read(self.fileno()) > 0
        except OSError:  # not raised; or the program has closed it: who asks for the descriptor is told
            return False

    def fileno(self) -> int:
        fd = self._descriptor.fileno()
        if fd >= 0 and _eventfd_id(fd) != self._id:
            raise OSError(errno.EBADF, "the program has closed the descriptor of this reader: open another reader")
        return fd

    def ring(self) -> None:
        self.lowered.clear()
        with contextlib.suppress(OSError):  # closed by the program
            os.eventfd_write(self.fileno(), 1)

    def ring_again(self) -> None:
        """Whoever read the descriptor directly, without `lower`, gets the next packet all the same."""
        if self._silence():
            self.ring()
        else:
            self.lowered.set()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.fileno()
            self._descriptor.close()
        self._descriptor.forget()


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
