"""Flight recorder files that programs make by themselves: where, and what becomes of them.

With ``RINGBUF_DIR`` in the environment, each `ringbuf.Tracer` that is given no path keeps its
buffers in a file there, which can be recovered if its processes die. A clean exit removes it.

Imports nothing that a Python does not have anyway: with ``RINGBUF=flight`` it runs before the program does.
"""

import os
import sys
import time

from .._core import Channel, is_last_user, open_file
from ..errors import RegionError
from .ends import AtEnd
from .processes import started

__all__ = ["SUFFIX", "automatic_channel", "channel_in", "default_directory", "remove_at_exit", "unlink"]

SUFFIX = ".ringbuf"

_LONG = 64  # characters of a program's name in that of a file
_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def automatic_channel(name: str, keep: "bool | None", options: dict) -> Channel:
    """A channel in a new file of ``RINGBUF_DIR``; in memory, if the variable is not set or the file cannot be made.

    A program that was not written for this must not fail of it: what is wrong is warned of.
    """
    directory = os.environ.get("RINGBUF_DIR")
    if directory:
        try:
            _retain(directory)
            channel = channel_in(directory, name, options)
        except OSError as error:
            _warn(f"RINGBUF_DIR: {error}")
        else:
            if not (os.environ.get("RINGBUF_KEEP") == "1" if keep is None else keep):
                remove_at_exit(channel)
            return channel
    return Channel(name, **options)


def channel_in(directory: str, name: str, options: dict) -> Channel:
    """A channel in a new file, PROGRAM-PID-START.ringbuf, or PROGRAM-PID-START-2.ringbuf and so on."""
    os.makedirs(directory, mode=0o700, exist_ok=True)
    start = time.strftime("%Y%m%dT%H%M%S", time.gmtime(started(os.getpid())))
    base = os.path.abspath(os.path.join(directory, f"{_program()}-{os.getpid()}-{start}"))
    number, path = 1, base + SUFFIX
    while True:
        try:
            return Channel(name, path=path, **options)
        except FileExistsError:
            number += 1
            path = f"{base}-{number}{SUFFIX}"


def default_directory() -> str:
    """Where the files are: what ``RINGBUF_DIR`` names; else in memory, of this user alone."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else "/tmp"
    return os.environ.get("RINGBUF_DIR") or f"{memory}/ringbuf-{os.getuid()}"


def _retain(directory: str) -> None:
    """What ``RINGBUF_MAX_FILES`` and ``RINGBUF_MAX_SIZE`` say about the files of the dead."""
    count, size = os.environ.get("RINGBUF_MAX_FILES"), os.environ.get("RINGBUF_MAX_SIZE")
    if not (count or size) or not os.path.isdir(directory):
        return
    from .files import clean, size_of

    try:
        clean(directory, keep=int(count) if count else None, max_size=size_of(size) if size else None)
    except ValueError as error:
        _warn(f"RINGBUF_MAX_FILES, RINGBUF_MAX_SIZE: {error}")


def _warn(text: str) -> None:
    import warnings

    warnings.warn(text, RuntimeWarning, stacklevel=5)


def _program() -> str:
    """What runs, as part of a file name."""
    argv = getattr(sys, "argv", None) or [""]
    path = argv[0] if argv[0] not in ("", "-c", "-m", "-") else "python"
    if argv[0] == "-m":  # it is not found yet
        given = getattr(sys, "orig_argv", [])
        path = given[given.index("-m") + 1] if "-m" in given[:-1] else "python"
    folder, base = os.path.split(path)
    if base.rpartition(".")[0] == "__main__" or base == "__main__":
        base = os.path.basename(folder)
    name = "".join(one if one in _SAFE else "_" for one in base.removesuffix(".py"))
    return name.lstrip(".-")[:_LONG] or "python"


def remove_at_exit(channel: Channel, unless=None) -> AtEnd:
    """Remove the file when this process ends well and nobody else uses it; its crash leaves it.

    `unless` is asked then: True leaves it too.
    """
    assert channel.path is not None
    status = os.stat(channel.fileno())
    path, identity = os.path.abspath(channel.path), (status.st_dev, status.st_ino)
    return AtEnd(lambda well: _remove_at_end(path, identity) if well and not (unless and unless()) else None)


def _remove_at_end(path: str, identity: "tuple[int, int]") -> None:
    try:
        fd = open_file(path, os.O_RDONLY, follow=False)
    except (OSError, RegionError):
        return
    try:
        status = os.fstat(fd)
        if (status.st_dev, status.st_ino) == identity and is_last_user(fd):
            unlink(path, status)
    except (OSError, RegionError):
        pass
    finally:
        os.close(fd)


def unlink(path: str, status: os.stat_result) -> bool:
    """Remove the name, if it still is this file's and not that of something else."""
    directory, name = os.path.split(path)
    try:
        folder = os.open(directory or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if (found.st_dev, found.st_ino) == (status.st_dev, status.st_ino):
            os.unlink(name, dir_fd=folder)
            return True
    except OSError:
        pass
    finally:
        os.close(folder)
    return False
