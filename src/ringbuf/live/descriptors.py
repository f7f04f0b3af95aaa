"""Which descriptors of a process are channels, told without disturbing whoever else uses them.

A descriptor may be anything: a pipe, a terminal, a file of tracefs whose reading takes records away from
another tracer, a file of a network or FUSE server that no longer answers. So a descriptor is opened only after
/proc has said, without asking the file itself, that the process maps it shared, as it does every channel it uses,
and that it is on a file system of this machine. It is then opened with O_PATH, which asks no driver, and looked at
again, because the number may stand for another file by now.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator

__all__ = ["channels_of", "is_channel"]

_MAGIC = b"\xf1fubring"
_MEMFD = b"/memfd:"
_OPEN_FLAGS = os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY  # a lease, a pipe, a terminal: neither waited for nor taken

#: File systems that answer without a server, and whose files do nothing when they are read.
_PLAIN = frozenset(
    b"bcachefs btrfs devtmpfs exfat ext2 ext3 ext4 f2fs hugetlbfs jfs nilfs2".split()
    + b"overlay ramfs reiserfs tmpfs vfat xfs zfs".split()
)


def channels_of(pid: int) -> list[str]:
    """Paths (in /proc) of the channels that process `pid` has open and mapped, each channel once.

    A file that the process does not map, or that is on a file system of a server (NFS, FUSE), is not looked at.

    Raises
    ------
    ProcessLookupError
        There is no such process.
    PermissionError
        It is somebody else's.
    """
    try:
        mapped = _shared_mappings(pid)
    except FileNotFoundError:
        raise ProcessLookupError(f"no process {pid}") from None
    found = {}
    if mapped:
        file_systems = _file_systems(pid)
        for path in _descriptors(pid, mapped):
            with contextlib.suppress(OSError):  # closed meanwhile
                key = _channel_at(path, file_systems)
                if key is not None:
                    found.setdefault(key, path)
    return list(found.values())


def is_channel(number: int) -> bool:
    """Is this descriptor of our own a channel?"""
    try:
        return _channel_at(f"/proc/self/fd/{number}", _file_systems("self")) is not None
    except OSError:
        return False


# ---- what /proc says ----


def _shared_mappings(pid: int) -> set[bytes]:
    """Names of the files that the process maps shared."""
    names = set()
    with open(f"/proc/{pid}/maps", "rb") as file:
        for line in file:
            parts = line.rstrip(b"\n").split(None, 5)
            if len(parts) == 6 and parts[1].endswith(b"s"):
                names.add(parts[5])
    return names


def _descriptors(pid: int, names: set[bytes]) -> Iterator[str]:
    """Paths in /proc of the descriptors of files with such names."""
    folder = f"/proc/{pid}/fd"
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                link = os.readlink(os.fsencode(entry.path))
                if link.replace(b"\n", b"\\012") in names:  # as the list of mappings writes it
                    yield entry.path


def _file_systems(pid: int | str) -> dict[bytes, bytes]:
    """Type of the file system of each mount, by the mount's number."""
    types = {}
    with open(f"/proc/{pid}/mountinfo", "rb") as file:
        for line in file:
            parts = line.split()
            types[parts[0]] = parts[parts.index(b"-") + 1]
    return types


def _mount_of(path: str) -> bytes:
    """Number of the mount that an open file is on; `path` is that of its descriptor."""
    folder, _, number = path.rpartition("/fd/")
    with open(f"{folder}/fdinfo/{number}", "rb") as file:
        return next((line.split()[1] for line in file if line.startswith(b"mnt_id:")), b"")


def _is_plain(path: str, file_systems: dict[bytes, bytes]) -> bool:
    """Is the open file anonymous memory, which is on no mount, or on a plain file system?"""
    mount = _mount_of(path)
    if mount in file_systems:
        return file_systems[mount] in _PLAIN
    return os.readlink(os.fsencode(path)).startswith(_MEMFD)


# ---- the file itself ----


def _channel_at(path: str, file_systems: dict[bytes, bytes]) -> tuple[int, int] | None:
    """Device and inode of the channel behind a descriptor; None: it is something else."""
    if not _is_plain(path, file_systems):
        return None
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        own, status = f"/proc/self/fd/{fd}", os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or _mount_of(own) != _mount_of(path):
            return None
        return (status.st_dev, status.st_ino) if _has_magic(own) else None
    finally:
        os.close(fd)


def _has_magic(path: str) -> bool:
    fd = os.open(path, os.O_RDONLY | _OPEN_FLAGS)
    try:
        return os.pread(fd, len(_MAGIC), 0) == _MAGIC
    finally:
        os.close(fd)
