"""Flight recorder files: where they are, who uses them, and which can go.

With ``RINGBUF_DIR`` in the environment, each `ringbuf.Tracer` that is given no path keeps its
buffers in a file there, which can be recovered if its processes die. A clean exit removes it.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

from .._core import Channel, describe_region, is_region_used
from ..errors import RegionError
from ..live.descriptors import channels_of
from ..output import own_directory
from . import processes
from .ends import AtEnd

__all__ = [
    "Region",
    "Removed",
    "automatic_channel",
    "clean",
    "find",
    "in_memory",
    "mark_recovered",
    "open_channels",
    "remove_at_exit",
    "remove_unused",
]

SUFFIX = ".ringbuf"
MARK = ".recovered"  # after a file's name: it was recovered, to the directory that this says


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
    """The channels in files of a directory (``*.ringbuf``), oldest first."""
    paths = [os.path.join(directory, name) for name in os.listdir(directory) if name.endswith(SUFFIX)]
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
    """None if it is gone, or not to be opened."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        status = os.fstat(fd)
        about = {"name": "", "program": "", "mode": "", "pid": 0}
        problem = None
        try:
            described = describe_region(fd, path)
            about = {key: described[key] for key in about}
        except (RegionError, OSError) as error:
            problem = str(error).removeprefix(f"{path}: ")
        return Region(
            path=path,
            in_memory=users is not None,
            **about,
            size=status.st_blocks * 512,
            modified=status.st_mtime,
            users=processes.users_of(fd) if users is None else users,
            used=users is not None or is_region_used(fd),
            recovered=_recovered_to(path),
            problem=problem,
        )
    finally:
        os.close(fd)


# ---- recovered ----


def mark_recovered(path, directory) -> None:
    """Note beside a flight recorder file that it was recovered, so that `clean` may remove it."""
    folder, name = os.path.split(os.path.abspath(os.fsdecode(path)))
    if name.endswith(SUFFIX):
        # A folder that is read-only, or somebody else's, is not ours to mark: its owner cleans it.
        with contextlib.suppress(OSError), own_directory(folder) as place:
            place.write(name + MARK, os.path.abspath(directory) + "\n")


def _recovered_to(path: str) -> str | None:
    try:
        return Path(f"{path}{MARK}").read_text().rstrip("\n")
    except OSError:
        return None


# ---- removing ----


def clean(
    directory, *, age: float | None = None, keep: int | None = None, max_size: int | None = None, dry_run: bool = False
) -> list[Removed]:
    """Remove files of dead processes that were recovered, and those that the arguments say.

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

    A file that a living process uses stays, and so does what is no channel of this version.
    """
    for limit in (age, keep, max_size):
        if limit is not None and not limit >= 0:
            raise ValueError(f"a limit must be 0 or more, not {limit!r}")
    regions = [region for region in find(directory) if not (region.problem or region.used or region.users)]
    why = {region.path: reason for region in regions if (reason := _reason(region, age))}
    rest = [region for region in regions if region.path not in why]
    while rest and keep is not None and len(rest) > keep:
        why[rest.pop(0).path] = f"more than {keep} files"
    while rest and max_size is not None and sum(region.size for region in rest) > max_size:
        why[rest.pop(0).path] = f"more than {max_size} bytes"
    removed = [Removed(region.path, region.size, why[region.path]) for region in regions if region.path in why]
    return removed if dry_run else [one for one in removed if remove_unused(one.path)]


def _reason(region: Region, age: float | None) -> str | None:
    if region.recovered is not None:
        return f"recovered to {region.recovered}"
    if age is not None and time.time() - region.modified > age:
        return f"older than {age:g} s"
    return None


def remove_unused(path: str) -> bool:
    """Remove a file and its mark, unless somebody uses it since. Returns whether it is gone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        if is_region_used(fd):
            return False
        os.unlink(path)
    finally:
        os.close(fd)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path + MARK)
    return True


# ---- made by themselves ----


def automatic_channel(name: str, keep: bool | None, options: dict) -> Channel:
    """A channel in a new file of ``RINGBUF_DIR``; in memory, if the variable is not set or the file cannot be made.

    A program that was not written for this must not fail of it: what is wrong is warned of.
    """
    directory = os.environ.get("RINGBUF_DIR")
    if directory:
        try:
            channel = _channel_in(directory, name, options)
        except OSError as error:
            warnings.warn(f"RINGBUF_DIR: {error}", RuntimeWarning, stacklevel=3)
        else:
            if not (os.environ.get("RINGBUF_KEEP") == "1" if keep is None else keep):
                remove_at_exit(channel.path)
            return channel
    return Channel(name, **options)


def _channel_in(directory: str, name: str, options: dict) -> Channel:
    """The file is PROGRAM-PID-START.ringbuf, or PROGRAM-PID-START-2.ringbuf and so on."""
    os.makedirs(directory, mode=0o700, exist_ok=True)
    _retain(directory)
    start = time.strftime("%Y%m%dT%H%M%S", time.gmtime(processes.started(os.getpid())))
    base = os.path.abspath(os.path.join(directory, f"{_program()}-{os.getpid()}-{start}"))
    number, path = 1, base + SUFFIX
    while True:
        try:
            return Channel(name, path=path, **options)
        except FileExistsError:
            number += 1
            path = f"{base}-{number}{SUFFIX}"


def _retain(directory: str) -> None:
    """What ``RINGBUF_MAX_FILES`` and ``RINGBUF_MAX_SIZE`` say about the files of the dead."""
    files, size = os.environ.get("RINGBUF_MAX_FILES"), os.environ.get("RINGBUF_MAX_SIZE")
    if not files and not size:
        return
    try:
        clean(directory, keep=int(files) if files else None, max_size=size_of(size) if size else None)
    except ValueError as error:
        warnings.warn(f"RINGBUF_MAX_FILES, RINGBUF_MAX_SIZE: {error}", RuntimeWarning, stacklevel=5)


def size_of(text: str) -> int:
    """Bytes: a number, with K, M or G for 1024 and its powers."""
    match = re.fullmatch(r"(\d+)([KMG]?)", text.strip().upper())
    if match is None:
        raise ValueError(f"{text!r} is no size; 500M is one")
    return int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2]]


def _program() -> str:
    """What runs, as part of a file name."""
    path = Path(sys.argv[0] if sys.argv and sys.argv[0] not in ("", "-c", "-m", "-") else "python")
    name = path.parent.name if path.stem == "__main__" else path.name.removesuffix(".py")
    return re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".-")[:64] or "python"


def remove_at_exit(path: str) -> None:
    """Remove the file when this process ends well and nobody else uses it; its crash leaves it."""
    path = os.path.abspath(path)
    AtEnd(lambda well: _remove_at_end(path) if well else None)


def _remove_at_end(path: str) -> None:
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            others = [user for user in processes.users_of(fd) if user != os.getpid()]
        finally:
            os.close(fd)
        if not others:
            os.unlink(path)
