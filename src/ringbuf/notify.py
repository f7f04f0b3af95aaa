"""Readers and event loops: a descriptor that is readable while a packet waits."""

from __future__ import annotations

import asyncio
import os
import threading

__all__ = ["Notifier", "readable"]

_STEP = 0.2  # seconds between looks for the end


class Notifier:
    """An eventfd for one reader, raised by a thread while a packet waits.

    The thread sleeps without the GIL. Once raised, it rests until somebody has lowered
    the descriptor, so a slow consumer costs nothing.
    """

    def __init__(self, reader) -> None:
        self._reader = reader
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._lowered = threading.Event()
        self._lowered.set()
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="ringbuf-notify", daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        return self._fd

    def lower(self) -> None:
        """Make the descriptor unreadable until the next packet."""
        try:
            os.eventfd_read(self._fd)
        except BlockingIOError:
            pass
        self._lowered.set()

    def close(self) -> None:
        self._stop = True
        self._lowered.set()
        if self._thread is not threading.current_thread():
            self._thread.join()
        os.close(self._fd)

    def _run(self) -> None:
        while not self._stop:
            if not self._lowered.wait(_STEP):
                self._raise_again()
            elif self._reader.wait(_STEP):
                self._lowered.clear()
                os.eventfd_write(self._fd, 1)

    def _raise_again(self) -> None:
        """Whoever read the descriptor directly, without `lower`, gets the next packet all the same."""
        try:
            if os.eventfd_read(self._fd):
                os.eventfd_write(self._fd, 1)
        except BlockingIOError:
            self._lowered.set()


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
