"""Where traces are: a directory, or a URL of whatever storage fsspec knows.

Names are relative to the place, with ``/`` between. A local file is read by read(), at places; one of a URL by
ranges, so that nothing is read of it but what is asked for.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator

__all__ = ["Local", "Remote", "place_of"]


def place_of(path) -> Local | Remote:
    """By its name: a URL has ``://`` in it.

    Raises
    ------
    ImportError
        A URL, and fsspec is not installed, or what it needs for such.
    ValueError
        No such kind of URL.
    """
    text = os.fsdecode(path)
    if text.startswith("file://"):
        return Local(text.removeprefix("file://"))
    return Remote(text) if "://" in text else Local(text)


class Local:
    """A directory."""

    is_local = True

    def __init__(self, path: str) -> None:
        self.path = path

    def join(self, name: str) -> str:
        """For messages, and for who opens the file itself."""
        return os.path.join(self.path, name) if name else self.path

    def is_at(self, folder: str) -> bool:
        """It is this directory of this machine."""
        return os.path.exists(folder) and os.path.samefile(folder, self.path)

    def is_directory(self) -> bool:
        return os.path.isdir(self.path)

    def has(self, name: str) -> bool:
        """There is something of that name."""
        return os.path.lexists(self.join(name))

    def is_file(self, name: str) -> bool:
        return os.path.isfile(self.join(name))

    def names(self, directory: str = "") -> list[str]:
        """Of what is directly in a directory, sorted."""
        return sorted(os.listdir(self.join(directory)))

    def walk(self) -> Iterator[tuple[str, list[str]]]:
        """Directories that are not hidden, and the names of the files in each. ``""`` is the place itself."""
        for directory, inner, names in os.walk(self.path):
            inner[:] = sorted(name for name in inner if not name.startswith("."))
            relative = os.path.relpath(directory, self.path)
            yield "" if relative == "." else relative, names

    def open(self, name: str) -> LocalFile:
        return LocalFile(self.join(name))

    # ---- writing ----

    def put(self, name: str, source: str) -> None:
        """Copy a file there. It appears when it is whole."""
        with open(source, "rb") as file, self.draft(name) as draft:
            shutil.copyfileobj(file, draft, 1 << 20)

    def write(self, name: str, data: bytes) -> None:
        with self.draft(name) as draft:
            draft.write(data)

    @contextlib.contextmanager
    def draft(self, name: str):
        """A new file, to write to, that appears at the end of the block."""
        from .output import directory_of

        path = self.join(name)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with directory_of(path) as folder, folder.replacing(os.path.basename(path)) as draft:
            yield draft


class LocalFile:
    """An open file. A context manager."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed by the block

    def __enter__(self) -> LocalFile:
        return self

    def __exit__(self, *exc_info) -> None:
        self._file.close()

    def size(self) -> int:
        """Now: it may be growing."""
        return os.fstat(self._file.fileno()).st_size

    def read_at(self, offset: int, size: int) -> bytes:
        """Fewer at the end of the file."""
        return os.pread(self._file.fileno(), size, offset)

    def read_into(self, offset: int, data: memoryview) -> int:
        """How many bytes were there to fill it with."""
        done = 0
        while done < len(data):
            count = os.preadv(self._file.fileno(), [data[done:]], offset + done)
            if not count:
                break
            done += count
        return done

    def next_data(self, offset: int, size: int) -> int:
        """The first place from `offset` on that is not in a hole of the file, where the file system knows."""
        try:
            return os.lseek(self._file.fileno(), offset, os.SEEK_DATA)
        except OSError as error:
            return size if error.errno == errno.ENXIO else offset


class Remote:
    """What fsspec has at a URL."""

    is_local = False

    def __init__(self, url: str) -> None:
        try:
            from fsspec.core import url_to_fs
        except ImportError as error:
            raise ImportError(f"{url}: to use URLs, pip install fsspec") from error
        self.path = url
        self._fs, self._root = url_to_fs(url)
        self._root = self._root.rstrip("/")

    def join(self, name: str) -> str:
        return f"{self.path.rstrip('/')}/{name}" if name else self.path

    def _full(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    def is_at(self, folder: str) -> bool:
        return False

    def is_directory(self) -> bool:
        return self._fs.isdir(self._root)

    def has(self, name: str) -> bool:
        return self._fs.exists(self._full(name))

    def is_file(self, name: str) -> bool:
        return self._fs.isfile(self._full(name))

    def names(self, directory: str = "") -> list[str]:
        found = self._fs.ls(self._full(directory), detail=False)
        return sorted(os.path.basename(one.rstrip("/")) for one in found)

    def walk(self) -> Iterator[tuple[str, list[str]]]:
        for directory, inner, names in self._fs.walk(self._root):
            inner[:] = [name for name in inner if not name.startswith(".")]
            yield directory.rstrip("/")[len(self._root) :].strip("/"), list(names)

    def open(self, name: str) -> RemoteFile:
        return RemoteFile(self._fs, self._full(name))

    def put(self, name: str, source: str) -> None:
        full = self._full(name)
        self._fs.makedirs(os.path.dirname(full), exist_ok=True)
        self._fs.put_file(source, full)

    def write(self, name: str, data: bytes) -> None:
        full = self._full(name)
        self._fs.makedirs(os.path.dirname(full), exist_ok=True)
        self._fs.pipe_file(full, data)


class RemoteFile:
    """As `LocalFile`."""

    def __init__(self, fs, path: str) -> None:
        self._fs, self._path = fs, path
        self._size: int | None = None

    def __enter__(self) -> RemoteFile:
        return self

    def __exit__(self, *exc_info) -> None:
        pass

    def size(self) -> int:
        if self._size is None:
            self._size = self._fs.size(self._path)
        return self._size

    def read_at(self, offset: int, size: int) -> bytes:
        end = min(offset + size, self.size())
        return self._fs.cat_file(self._path, start=offset, end=end) if end > offset else b""

    def read_into(self, offset: int, data: memoryview) -> int:
        found = self.read_at(offset, len(data))
        data[: len(found)] = found
        return len(found)

    def next_data(self, offset: int, size: int) -> int:
        return offset
