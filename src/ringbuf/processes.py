"""What /proc says: which processes live, and who has a file open."""

from __future__ import annotations

import os
from collections.abc import Iterator

__all__ = ["is_alive", "pids", "start_of", "users_of"]


def pids() -> list[int]:
    """Of all processes that can be seen."""
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def start_of(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; None: there is none, or only a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in b"ZX" else int(fields[19])


def is_alive(pid: int, start: int) -> bool:
    """Is it the process that started then? Its number alone may be another's by now."""
    return start_of(pid) == start


def open_files(pid: int) -> Iterator[tuple[str, os.stat_result]]:
    """Path in /proc and status of what the process has open, as far as we may know."""
    folder = f"/proc/{pid}/fd"
    try:
        numbers = os.listdir(folder)
    except OSError:
        return
    for number in numbers:
        try:
            yield f"{folder}/{number}", os.stat(f"{folder}/{number}")
        except OSError:
            continue  # closed meanwhile


def users_of(status: os.stat_result) -> list[int]:
    """Processes that have the file open. Who uses a channel has."""
    wanted = status.st_dev, status.st_ino
    return [pid for pid in pids() if any((s.st_dev, s.st_ino) == wanted for _, s in open_files(pid))]
