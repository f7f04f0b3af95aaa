"""What /proc says: which processes live, and who has a file open."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["command", "lives", "others_of", "pids", "started", "users_of"]


def pids() -> list[int]:
    """Of all processes that can be seen."""
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def started(pid: int) -> float:
    """Unix time at which the process started, to about a second."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        ticks = int(file.read().rpartition(b")")[2].split()[19])
    with open("/proc/stat", "rb") as file:
        boot = next(int(line.split()[1]) for line in file if line.startswith(b"btime "))
    return boot + ticks / os.sysconf("SC_CLK_TCK")


def lives(pid: int, start: int) -> bool:
    """Whether there is such a process that started then, in clock ticks since boot, and is no zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return False
    return int(fields[19]) == start and fields[0] not in (b"Z", b"X")


def command(pid: int) -> str:
    """The command line, as far as we may know, cut short."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read(300).replace(b"\0", b" ").decode("utf-8", "backslashreplace").strip()
    except OSError:
        return ""


def _open_at(pid: int, name: str) -> Iterator[str]:
    """Paths in /proc of what the process has open under a file name, in whatever folder, as far as we may know.

    Only the links are read: to ask for the status of another file is to ask its file system, and that of a
    server may never answer.
    """
    folder = f"/proc/{pid}/fd"
    try:
        numbers = os.listdir(folder)
    except OSError:
        return
    for number in numbers:
        try:
            link = os.readlink(f"{folder}/{number}")
        except OSError:
            continue  # closed meanwhile
        if os.path.basename(link) == name:
            yield f"{folder}/{number}"


def _is_at(path: str, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(path), status)
    except OSError:
        return False  # closed meanwhile


def users_of(fd: int) -> list[int]:
    """Processes that have the file behind `fd` open, apart from `fd` itself.

    As far as we may know, for people to read: another PID namespace, or somebody else's process, is
    not seen. Whether a channel is used its lock says.
    """
    own = f"/proc/{os.getpid()}/fd/{fd}"
    try:
        status, name, living = os.fstat(fd), os.path.basename(os.readlink(own)), pids()
    except FileNotFoundError:
        return []  # no /proc
    return [pid for pid in living if any(path != own and _is_at(path, status) for path in _open_at(pid, name))]


def others_of(fd: int) -> list[int]:
    """Other processes that have the file behind `fd`: open, or mapped, as a daemon has it that has closed all."""
    status, own = os.fstat(fd), os.getpid()
    opened = set(users_of(fd))
    return [pid for pid in pids() if pid != own and (pid in opened or _maps(pid, status))]


def _maps(pid: int, status: os.stat_result) -> bool:
    try:
        with open(f"/proc/{pid}/maps", "rb") as lines:
            return any(_is_of(line.split(None, 5), status) for line in lines)
    except OSError:
        return False  # it is somebody else's, or has ended


def _is_of(columns: list[bytes], status: os.stat_result) -> bool:
    if int(columns[4]) != status.st_ino:
        return False
    major, _, minor = columns[3].partition(b":")
    return os.makedev(int(major, 16), int(minor, 16)) == status.st_dev
