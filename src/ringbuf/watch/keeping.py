"""The directory of snapshots: their names, how many there may be, and how often; for all processes that use it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time

from ..output import Directory, own_directory
from ..texts import encodable

__all__ = ["Keeper"]

_NAME = re.compile(r"\d{8}T\d{6}\.\d{6}Z-[\w.-]+-\d+-[a-z]+")
_DRAFT = ".ringbuf-"
_PATIENCE = 10.0  # seconds to wait for another process that writes a snapshot here
_ABANDONED = 600.0  # seconds after which a draft is what somebody who was killed has left


class Keeper:
    """Writes snapshots into a directory: the trace NAME, and NAME.txt, which says why.

    Parameters
    ----------
    directory : str or os.PathLike
        Made if missing, for its owner alone.
    keep : int or None
        So many snapshots stay, the newest.
    max_size : int or None
        Of as many of them as there is room for in so many bytes.

    Raises
    ------
    OSError
        The directory is somebody else's, or nothing can be written there.

    NAME is the time (UTC), the channel's name, the process id and the trigger.
    """

    def __init__(self, directory, keep: int | None, max_size: int | None) -> None:
        with own_directory(directory) as place:
            self.path = os.path.abspath(place.path)
            with contextlib.suppress(_NotNow), place.replacing(f"{_DRAFT}test"):
                raise _NotNow  # an error now is better than one when it matters
        self._keep, self._max_size = keep, max_size

    def take(self, write, channel: str, trigger: str, text: str, rate: tuple[int, float]) -> str | None:
        """Have ``write(path)`` write a snapshot; its name. None: there are enough already, for now."""
        with own_directory(self.path) as place, _alone(place):
            now = time.time()
            if len([one for one in self._times() if now - rate[1] < one <= now]) >= rate[0]:
                return None
            name = _name(now, channel, trigger)
            while place.has(name):
                now += 1e-6
                name = _name(now, channel, trigger)
            draft = _DRAFT + name
            written = write(os.path.join(self.path, draft))
            place.write(f"{name}.txt", f"{text}trace: {name} ({written['records']} records)\n")
            os.rename(draft, name, src_dir_fd=place.fileno(), dst_dir_fd=place.fileno())
            self._remove_old(place)
            return name

    def names(self) -> list[str]:
        """Of the snapshots that are there, oldest first."""
        return sorted(name for name in os.listdir(self.path) if _NAME.fullmatch(name))

    def _times(self) -> list[float]:
        return [time_of(name) for name in self.names()]

    def _remove_old(self, place: Directory) -> None:
        names = self.names()
        gone = names[: -self._keep] if self._keep is not None else []
        left = names[len(gone) :]
        if self._max_size is not None:
            sizes = {name: _size(os.path.join(self.path, name)) for name in left}
            while len(left) > 1 and sum(sizes[name] for name in left) > self._max_size:
                gone.append(left.pop(0))
        for name in gone:
            place.remove([f"{name}.txt"])
            _remove(os.path.join(self.path, name))
        for name in os.listdir(self.path):
            if name.startswith(_DRAFT) and _NAME.fullmatch(name.removeprefix(_DRAFT)):
                if time.time() - time_of(name.removeprefix(_DRAFT)) > _ABANDONED:
                    _remove(os.path.join(self.path, name))


def _name(now: float, channel: str, trigger: str) -> str:
    moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06}Z"
    safe = re.sub(r"[^\w.-]", "_", encodable(channel), flags=re.ASCII)[:40] or "_"
    return f"{moment}-{safe}-{os.getpid()}-{trigger}"


def time_of(name: str) -> float:
    """Unix time of a snapshot, by its name."""
    import calendar

    return calendar.timegm(time.strptime(name[:15], "%Y%m%dT%H%M%S")) + int(name[16:22]) / 1e6


@contextlib.contextmanager
def _alone(place: Directory):
    """Meanwhile no other process writes a snapshot here. The kernel lets go when one dies."""
    fd = os.open(place.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        yield
    finally:
        os.close(fd)


def _size(path: str) -> int:
    with os.scandir(path) as entries:
        return sum(entry.stat(follow_symlinks=False).st_size for entry in entries)


def _remove(path: str) -> None:
    """A trace: a directory with files alone. Anything else in it stays, and it with that."""
    with contextlib.suppress(OSError):
        for name in os.listdir(path):
            os.unlink(os.path.join(path, name))
        os.rmdir(path)


class _NotNow(Exception):
    """Ends a draft that is not meant to stay."""
