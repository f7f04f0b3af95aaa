"""Attach to a channel of another process: by path, descriptor or pid; and pickling.

`attach` gives a Channel of its own with each call. Unpickling gives the one that the
process has already, because it or its parent made it, or because it came before.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time

from .._core import Channel, known_channel, open_file, remember
from ..errors import RegionError, RegionUnfinishedError
from .descriptors import channels_of, is_channel

__all__ = ["attach", "look", "open_channel", "reduce_channel"]

_newest: Channel | None = None  # a worker that is sent a channel with each task keeps it in between
_TRIES, _PAUSE = 100, 0.01  # of opening: somebody else may create, or remove, the file in between
_lock = threading.RLock()  # again: by signal handlers and destructors
os.register_at_fork(after_in_child=lambda: globals().update(_lock=threading.RLock()))


def attach(target, *, client=None, clock=None) -> Channel:
    """Use a channel that another process (or this one) has created.

    Parameters
    ----------
    target : str, os.PathLike, int or file object
        A path; the pid of a process that uses exactly one channel; or an open
        descriptor, given as an object with ``fileno()``, or as an int that is an open
        descriptor of this process and a channel.
    client : Client, optional
        Equal to the one the channel was made with, if that had callbacks.
    clock : callable, optional
        Likewise.

    Raises
    ------
    RegionUnfinishedError
        Somebody is making the region, or was killed over it.
    RegionError
        Not a ringbuf region, truncated, of another layout version, byte order or owner,
        corrupt, or made with a custom client that was not passed. The message says which.
    OSError
        The file cannot be opened or mapped; ProcessLookupError: no such process.

    Thread safety: any thread. Source: include/ringbuf/channel.h.
    """
    if hasattr(target, "fileno"):
        return _attach_descriptor(target.fileno(), client, clock)
    if isinstance(target, int):
        return _attach_opened(_path_of_number(target), client, clock)
    path = os.fsdecode(target)
    return _attach_opened(path, client, clock, path)


def open_channel(path, name=None, *, client=None, clock="auto", **options) -> Channel:
    """See `Channel.open`."""
    path = os.fsdecode(path)
    theirs = clock if callable(clock) else None
    for _ in range(_TRIES):
        try:
            return attach(path, client=client, clock=theirs)
        except FileNotFoundError:
            pass
        except RegionUnfinishedError:  # of another file system, or copied there: not by us, who rename what is whole
            time.sleep(_PAUSE)
            continue
        with contextlib.suppress(FileExistsError):
            given = os.path.basename(path).removesuffix(".ringbuf") if name is None else name
            return Channel(given, path=path, client=client, clock=clock, **options)
    return attach(path, client=client, clock=theirs)


def look(target) -> Channel:
    """The counters of a channel, as they are now: a Channel over a private copy, with nothing else in it.

    For channels of strangers, who can cut them short under whoever maps them. It takes no right to write,
    needs no client, and the channel does not notice. `target` and what it raises: as for `attach`.
    """
    path = _path_of_number(target) if isinstance(target, int) else os.fsdecode(target)
    fd = open_file(path, os.O_RDONLY)
    try:
        return Channel._look(fd, path)
    finally:
        os.close(fd)


def _path_of_number(number: int) -> str:
    """Of a descriptor of this process if it is a channel; else of the channel of the process with this pid."""
    own = f"/proc/self/fd/{number}"
    if is_channel(number) or (os.path.lexists(own) and not os.path.exists(f"/proc/{number}")):
        return own  # what is no channel is told by who attaches
    paths = channels_of(number)
    if not paths:
        raise RegionError(f"process {number} has no ringbuf channel open, and {number} is no descriptor of one")
    if len(paths) > 1:
        raise RegionError(f"process {number} has {len(paths)} ringbuf channels open: attach to one of {sorted(paths)}")
    return paths[0]


def _attach_descriptor(fd: int, client, clock) -> Channel:
    # A description of our own: locks and offsets of the caller's are its own affair.
    return _attach_opened(f"/proc/self/fd/{fd}", client, clock)


def _attach_opened(name: str, client, clock, path=None) -> Channel:
    return _attach_owned(open_file(name, os.O_RDWR), client, clock, path)


def _attach_owned(fd: int, client, clock, path=None) -> Channel:
    """Attach by a descriptor that the Channel takes over, or that is closed."""
    return Channel._attach(fd, client, clock, _file_of(fd) if path is None else path)


def _file_of(fd: int) -> str | None:
    """The path of an open file; None: it is anonymous memory."""
    name = os.readlink(f"/proc/self/fd/{fd}")
    return None if name.startswith("/memfd:") else name


# ---- pickling ----


def reduce_channel(channel):
    """How a Channel pickles: into an attachment, for processes on this machine.

    While multiprocessing starts a process, the descriptor itself is passed. Otherwise (a
    task for a pool) the receiver opens it through this process, which must still live.
    """
    clock = channel._clock
    client = channel.client if channel._needs_client else None
    if _is_spawning():
        from multiprocessing.reduction import DupFd

        source = DupFd(channel.fileno())
    else:
        source = f"/proc/{os.getpid()}/fd/{channel.fileno()}"
    return _restore, (source, channel.uuid.bytes, client, clock)


def _is_spawning() -> bool:
    """Is multiprocessing pickling what a new process is to have?"""
    context = sys.modules.get("multiprocessing.context")
    return context is not None and context.get_spawning_popen() is not None


def _restore(source, uuid: bytes, client, clock) -> Channel:
    global _newest
    with _lock:
        known = known_channel(uuid)
        if known is not None and not known.closed:
            if not isinstance(source, str):
                os.close(source.detach())
            return known
        channel = _newest = _attach_sent(source, uuid, client, clock)
        remember(channel)
        return channel


def _attach_sent(source, uuid: bytes, client, clock) -> Channel:
    if not isinstance(source, str):
        return _attach_owned(source.detach(), client, clock)
    try:
        channel = _attach_opened(source, client, clock)
    except FileNotFoundError:
        channel = None
    if channel is not None and channel.uuid.bytes == uuid:
        return channel
    if channel is not None:
        channel.close()
    raise RegionError("the process that pickled the channel has closed it, or has ended")
