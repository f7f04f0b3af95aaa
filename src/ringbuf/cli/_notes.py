"""The recorder's side of inject/notes.py: what recorded programs tell of processes that are not recorded."""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
from dataclasses import asdict, dataclass

__all__ = ["Note", "Notes"]

_MOST = 100  # notes that are kept: anybody can send


@dataclass(frozen=True)
class Note:
    """A process that is not recorded (pid 0: it is not known), what it runs, and why it is not."""

    pid: int
    program: str
    why: str

    def __str__(self) -> str:
        who = f"process {self.pid} ({self.program})" if self.pid else self.program
        return f"{who}: {self.why}"

    def as_dict(self) -> dict:
        """As JSON can say it."""
        return asdict(self)


class Notes:
    """Collects notes, from now until `stop`; a context manager."""

    def __init__(self) -> None:
        self.address = f"ringbuf-{secrets.token_hex(16)}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.bind(b"\0" + self.address.encode())
        self._found: dict[Note, None] = {}
        self._thread = threading.Thread(target=self._collect, name="ringbuf-notes", daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        while True:
            data = self._socket.recv(4096)
            if not data:
                return
            texts = data.decode("utf-8", "backslashreplace").split("\0")
            if len(texts) == 3 and texts[0].isascii() and texts[0].isdigit() and len(self._found) < _MOST:
                pid, program, why = int(texts[0][:9]), *(_printable(text) for text in texts[1:])
                self._found[Note(pid, program, why)] = None

    def stop(self) -> list[Note]:
        """All notes that have come so far. Twice is harmless."""
        if self._thread.is_alive():
            with contextlib.suppress(OSError):
                sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
                with sender:
                    sender.sendto(b"", b"\0" + self.address.encode())  # after those that came before
            self._thread.join()
            self._socket.close()
        return list(self._found)

    def __enter__(self) -> Notes:
        return self

    def __exit__(self, *exc) -> None:
        self.stop()


def _printable(text: str) -> str:
    """A terminal is not told to do anything by it."""
    return "".join(one if one.isprintable() else "?" for one in text)
