"""Flight recorder files: where they are, who uses them, and which can go.

Those of `automatic.py`, and any other.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from dataclasses import asdict, dataclass, replace

from .._core import describe_region, is_last_user, is_region_used, open_file
from ..errors import RegionError, RegionUnfinishedError
from ..live.descriptors import channels_of
from ..output import own_directory
from . import processes
from .automatic import SUFFIX, unlink

__all__ = [
    "Region",
    "Removed",
    "clean",
    "find",
    "has_ended",
    "in_memory",
    "mark_ended",
    "mark_recovered",
    "open_channels",
    "remove_unused",
    "size_of",
]

MARK = ".recovered"  # after a file's name: it was recovered, to the directory that this says
ENDED = ".ended"  # its process ended well, and has left it for who gathers
DRAFT = re.compile(r"\.[0-9a-f]{32}\.ringbuf-new")  # of a file that is being made: include/ringbuf/channel.h

_MARK_SIZE = 8192  # a path, and more than that


@dataclass(frozen=True)
class Region:
    """A channel's memory, in a file or anonymous.

    Parameters
    ----------
    path : str
        Where to attach to it.
    in_memory : bool
    name, program, mode : str
        Of the channel, and of who created it.
    pid : int
        Of who created it.
    size : int
        Bytes that it takes.
    modified : float
        Unix time.
    users : list of int
        Processes that have it open, as far as we may know.
    used : bool
        A living process has it, be it one that we cannot see.
    recovered : str or None
        The trace that it was recovered to.
    problem : str or None
        Why it cannot be used; what else is not known is empty.
    unfinished : bool
        It has no channel yet: it is being made, or, if it is not used, its maker was killed over it.
    """

    path: str
    in_memory: bool
    name: str
    program: str
    mode: str
    pid: int
    size: int
    modified: float
    users: list[int]
    used: bool
    recovered: str | None
    problem: str | None
    unfinished: bool

    def as_dict(self) -> dict:
        """As JSON can say it."""
        return asdict(self)


@dataclass(frozen=True)
class Removed:
    """A file that `clean` has removed, how large it was, and why."""

    path: str
    size: int
    why: str

    def as_dict(self) -> dict:
        """As JSON can say it."""
        return asdict(self)


# ---- looking ----


def find(directory) -> list[Region]:
    """The channels in files of a directory (``*.ringbuf``), oldest first, and what killed makers left of some."""
    directory = os.fsdecode(directory)
    names = [name for name in os.listdir(directory) if name.endswith(SUFFIX) or DRAFT.fullmatch(name)]
    paths = [os.path.join(directory, name) for name in names]
    found = [region for path in paths if (region := _look(path)) is not None]
    return sorted(found, key=lambda region: (region.modified, region.path))


def in_memory() -> list[Region]:
    """The channels in anonymous memory of all processes that we may look at."""
    found = [_look(path, users) for path, users in open_channels() if path.startswith("/proc/")]
    return [region for region in found if region is not None]


def open_channels() -> list[tuple[str, list[int]]]:
    """The channels that processes have open, as far as we may look: a path, and the processes."""
    found: dict[tuple[int, int], tuple[str, list[int]]] = {}
    for pid in processes.pids():
        with contextlib.suppress(OSError):  # it is somebody else's, or has ended
            for path in channels_of(pid):
                with contextlib.suppress(OSError):
                    status = os.stat(path)
                    found.setdefault((status.st_dev, status.st_ino), (_name_of(path), []))[1].append(pid)
    return list(found.values())


def _name_of(link: str) -> str:
    """The path of a file, if that still is its name; else the path in /proc."""
    name = os.readlink(link)
    with contextlib.suppress(OSError):
        if os.path.samefile(name, link):
            return name
    return link


def _look(path: str, users: list[int] | None = None) -> Region | None:
    """None if it is gone, or no regular file. In a directory that anybody writes to, no link is followed."""
    try:
        fd = open_file(path, os.O_RDONLY, follow=users is not None)
    except BlockingIOError:
        return _unknown(path, users, "somebody holds a lease on it")
    except (OSError, RegionError):
        return None
    try:
        return _described(path, fd, users)
    finally:
        os.close(fd)


def _described(path: str, fd: int, users: list[int] | None) -> Region:
    status = os.fstat(fd)
    region = _unknown(path, users, None)
    about = {}
    try:
        described = describe_region(fd, path)
        about = {key: described[key] for key in ("name", "program", "mode", "pid")}
    except (RegionError, OSError) as error:
        about["problem"] = str(error).removeprefix(f"{path}: ")
        about["unfinished"] = isinstance(error, RegionUnfinishedError)
    used = users is not None or is_region_used(fd)
    return replace(
        region,
        **about,
        size=status.st_blocks * 512,
        modified=status.st_mtime,
        users=users if users is not None else processes.users_of(fd) if used else [],
        used=used,
        recovered=_recovered_to(path, status.st_uid),
    )


def _unknown(path: str, users: list[int] | None, problem: str | None) -> Region:
    return Region(
        path=path,
        in_memory=users is not None,
        name="",
        program="",
        mode="",
        pid=0,
        size=0,
        modified=0.0,
        users=users or [],
        used=False,
        recovered=None,
        problem=problem,
        unfinished=False,
    )


# ---- recovered ----


def mark_recovered(path, directory) -> None:
    """Note beside a flight recorder file that it was recovered, so that `clean` may remove it."""
    folder, name = os.path.split(os.path.abspath(os.fsdecode(path)))
    if name.endswith(SUFFIX):
        # A folder that is read-only, or somebody else's, is not ours to mark: its owner cleans it.
        with contextlib.suppress(OSError), own_directory(folder) as place:
            place.write(name + MARK, os.path.abspath(directory) + "\n")


def mark_ended(path) -> None:
    """Note beside a file that its process, this one, ends well."""
    folder, name = os.path.split(os.path.abspath(os.fsdecode(path)))
    with own_directory(folder) as place:
        place.write(name + ENDED, "\n")


def has_ended(path: str) -> bool:
    """Has the process of a file ended well, and left it? Who owns the file says so, or root."""
    try:
        owner = os.stat(path, follow_symlinks=False).st_uid
    except OSError:
        return False
    return _marked(path + ENDED, owner) is not None


def _recovered_to(path: str, owner: int) -> str | None:
    return _marked(path + MARK, owner)


def _marked(path: str, owner: int) -> str | None:
    """What a mark says that the file's owner made, or root. Anybody could make one in a shared directory."""
    try:
        fd = open_file(path, os.O_RDONLY, follow=False)
    except (OSError, RegionError):
        return None
    try:
        if os.fstat(fd).st_uid not in (owner, 0):
            return None
        return os.fsdecode(os.read(fd, _MARK_SIZE)).rstrip("\n")
    finally:
        os.close(fd)


# ---- removing ----


def clean(
    directory, *, age: float | None = None, keep: int | None = None, max_size: int | None = None, dry_run: bool = False
) -> list[Removed]:
    """Remove files of dead processes that were recovered or never finished, and those that the arguments say.

    Parameters
    ----------
    directory : str or os.PathLike
    age : float, optional
        Also those that were last written to more than so many seconds ago.
    keep : int, optional
        Also all but the newest so many.
    max_size : int, optional
        Also the oldest, until the rest takes no more bytes.
    dry_run : bool
        Only say what would be removed.

    Returns
    -------
    list of Removed

    Raises
    ------
    ValueError
        A limit is negative: nothing was removed.

    A file that a living process uses stays, and so does what is no channel of this version. Who uses
    one is asked of its lock; where a file system has none, of /proc.
    """
    for limit in (age, keep, max_size):
        if limit is not None and not limit >= 0:
            raise ValueError(f"a limit must be 0 or more, not {limit!r}")
    regions = [
        region for region in find(directory) if not region.used and (region.unfinished or region.problem is None)
    ]
    why = {region.path: reason for region in regions if (reason := _reason(region, age))}
    rest = [region for region in regions if region.path not in why]
    while rest and keep is not None and len(rest) > keep:
        why[rest.pop(0).path] = f"more than {keep} files"
    while rest and max_size is not None and sum(region.size for region in rest) > max_size:
        why[rest.pop(0).path] = f"more than {max_size} bytes"
    removed = [Removed(region.path, region.size, why[region.path]) for region in regions if region.path in why]
    return removed if dry_run else [one for one in removed if remove_unused(one.path)]


def _reason(region: Region, age: float | None) -> str | None:
    if region.unfinished:
        return "its maker was killed before it was finished"
    if region.recovered is not None:
        return f"recovered to {region.recovered}"
    if age is not None and time.time() - region.modified > age:
        return f"older than {age:g} s"
    return None


def remove_unused(path: str) -> bool:
    """Remove a file and its mark, unless somebody uses it since. Returns whether it is gone."""
    try:
        fd = open_file(path, os.O_RDONLY, follow=False)
    except (OSError, RegionError):
        return False
    try:
        if not is_last_user(fd) or not unlink(path, os.fstat(fd)):
            return False
    finally:
        os.close(fd)
    for mark in (MARK, ENDED):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path + mark)
    return True


def size_of(text: str) -> int:
    """Bytes: a number, with K, M or G for 1024 and its powers."""
    match = re.fullmatch(r"(\d+)([KMG]?)", text.strip().upper())
    if match is None:
        raise ValueError(f"{text!r} is no size; 500M is one")
    return int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2]]
