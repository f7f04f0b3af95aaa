"""Directories that are written in, and the files that are written there.

All that ringbuf writes is made here or, the files of streams, by the same rules in
include/ringbuf/directory.h. They hold whoever else may write in the directory, whatever the process
does with its own directory and descriptors meanwhile, and wherever writing ends half-way:

- A directory is opened once; what is written goes into that one, by its descriptor.
- A file is written as a draft, whose name nobody can know before, and which is new: no link is
  followed. It takes its name when it is whole, or is removed. Its owner alone may read it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterable, Iterator
from typing import IO

from ._core import open_directory

__all__ = ["Directory", "directory_of", "own_directory", "trace_directory"]

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
_FIRST = 3  # descriptor after the standard ones: what a program prints is not to get into our files
_BUFFER = 1 << 18


class Directory:
    """An open directory, to write in. A context manager: closed at the end of the block.

    Parameters
    ----------
    path : str
        As messages are to name it.
    fd : int
        The open directory, from now on this object's.
    made : bool
        It was made for what will be written.

    Thread safety: any thread.
    """

    _fd = -1

    def __init__(self, path: str, fd: int, *, made: bool = False) -> None:
        self.path = path
        self._where = os.path.abspath(path)  # while the process's directory is what the path was meant for
        self._status = os.fstat(fd)
        self._fd = fd
        self._made = made

    def fileno(self) -> int:
        """The descriptor. If somebody has closed it, as daemons close all, it is opened again where it was."""
        if not self._is_open():
            self._reopen()
        return self._fd

    def _is_open(self) -> bool:
        try:
            return self._fd >= 0 and os.path.samestat(os.fstat(self._fd), self._status)
        except OSError:
            return False

    def _reopen(self) -> None:
        fd = _open(self._where, _DIRECTORY)
        if not os.path.samestat(os.fstat(fd), self._status):
            os.close(fd)
            raise OSError(errno.ESTALE, "the directory was closed, and another one has its name", self.path)
        self._fd = fd

    def has(self, name: str) -> bool:
        """There is something of that name, be it a broken link."""
        try:
            os.stat(name, dir_fd=self.fileno(), follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def create(self, name: str) -> IO[bytes]:
        """A new file that has its name from the beginning."""
        return open(_open(name, _NEW, self.fileno()), "wb")

    @contextlib.contextmanager
    def replacing(self, name: str, *, durable: bool = False) -> Iterator[IO[bytes]]:
        """A new file that takes the name at the end of the block; after an error, all is as it was before.

        Parameters
        ----------
        name : str
        durable : bool
            It has reached the disk when it takes its name: whatever happens to the machine, the name
            stands for the old file or the whole new one.
        """
        draft, place = f".ringbuf-{os.urandom(8).hex()}", self.fileno()
        try:
            with open(_open(draft, _NEW, place), "wb", buffering=_BUFFER) as file:
                yield file
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            os.rename(draft, name, src_dir_fd=place, dst_dir_fd=place)
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.unlink(draft, dir_fd=place)
            if isinstance(error, OSError) and error.filename in (None, draft):
                error.filename = os.path.join(self.path, name)  # nobody asked for the draft
                del error.filename2
            raise

    def write(self, name: str, text: str) -> None:
        """Put a text there: all of it, or what was there before."""
        with self.replacing(name) as file:
            file.write(text.encode())

    def sync(self) -> None:
        """Wait until all files, and their names, have reached the disk."""
        place = self.fileno()
        with os.scandir(place) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False):
                    _sync(_open(entry.name, os.O_RDONLY | os.O_NOFOLLOW, place))
        os.fsync(place)

    def remove(self, names: Iterable[str]) -> None:
        """Those of the files that are there."""
        for name in names:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=self.fileno())

    def undo(self) -> None:
        """Nothing came of it: remove the directory, if it was made for this and is empty."""
        with contextlib.suppress(OSError):
            if self._made and os.path.samestat(os.stat(self._where, follow_symlinks=False), self._status):
                os.rmdir(self._where)

    def close(self) -> None:
        """Twice is harmless."""
        fd, self._fd = self._fd, -1
        with contextlib.suppress(OSError):
            if fd >= 0 and os.path.samestat(os.fstat(fd), self._status):
                os.close(fd)

    def __enter__(self) -> Directory:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if error is not None:
            self.undo()
        self.close()

    def __del__(self) -> None:
        self.close()


def own_directory(path: str | os.PathLike[str]) -> Directory:
    """A directory in which nobody else can plant names, made if it is missing.

    Raises
    ------
    PermissionError
        Others may: it is neither ours nor root's, or not ours and open to everybody.
    OSError
        It cannot be made or opened.
    """
    path = os.fsdecode(path)
    fd, made = open_directory(path)
    return Directory(path, fd, made=made)


def trace_directory(path: str | os.PathLike[str]) -> Directory:
    """One for a new trace, as `own_directory`. Raises FileExistsError if there is a trace in it."""
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(own_directory(path))
        if directory.has("metadata"):
            raise FileExistsError(errno.EEXIST, "there is a trace in this directory", directory.path)
        with contextlib.suppress(_NotNow), directory.replacing("metadata"):
            raise _NotNow  # an error now is better than one after hours of recording
        stack.pop_all()
    return directory


def directory_of(path: str | os.PathLike[str]) -> Directory:
    """The directory of a file that somebody asked for, whoever owns it: to write the file as a draft, and rename it."""
    folder = os.path.dirname(os.fsdecode(path)) or os.curdir
    return Directory(folder, _open(folder, _DIRECTORY))


def _open(path: str, flags: int, place: int | None = None) -> int:
    """A descriptor that is not a standard one, also where a program was started without those."""
    fd = os.open(path, flags | os.O_CLOEXEC, 0o600, dir_fd=place)
    if fd >= _FIRST:
        return fd
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FIRST)
    finally:
        os.close(fd)


def _sync(fd: int) -> None:
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class _NotNow(Exception):
    """Ends a draft that is not meant to stay."""
