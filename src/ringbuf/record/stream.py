"""Draining channels from outside the programs that record: what is committed is kept, however they end."""

from __future__ import annotations

import os

from .._core import has_others
from ..errors import RegionError, RingbufError
from ..live.sharing import attach
from ..output import own_directory
from . import files, processes
from .recorder import Recorder

__all__ = ["ChannelStream", "FlightStream"]

_FLUSH = 1.0  # seconds that a record waits at most until it is in the trace
_LOOKS = 2  # so many in a row must find nobody: one may fall between a fork and the child's first step


class ChannelStream:
    """One channel, written to one trace until nobody else has the channel any more.

    Parameters
    ----------
    target : str or int
        As for `attach`.
    directory : str
        The trace.
    must_live : bool
        Refuse a channel that nobody uses.

    Raises
    ------
    RegionError, ReaderBusyError, OSError
        As `attach` and `Recorder`.
    """

    def __init__(self, target: str | int, directory: str, *, must_live: bool = True) -> None:
        self._directory = directory
        self._channel = attach(target)
        self._lonely = 0  # looks in a row that found nobody
        self.error: OSError | None = None
        try:
            if must_live and not self.has_others():
                raise RegionError(f"{target}: no process uses it: ringbuf recover makes a trace of it")
            self._recorder = Recorder(self._channel, directory, switch_timer=_FLUSH)
        except BaseException:
            self._channel.close()
            raise

    def has_others(self) -> bool:
        """Some other process has the channel. Looked for in /proc as well: there may be one without a lock."""
        return bool(has_others(self._channel) or processes.others_of(self._channel.fileno()))

    def is_over(self) -> bool:
        """Nobody records any more: they have ended, or the channel was finalized. To be asked again and again."""
        self._lonely = 0 if self.has_others() else self._lonely + 1
        return self._lonely >= _LOOKS or self._channel.is_finalized

    def stop(self) -> dict:
        """Write what is there, and end; what became of the channel's records.

        Returns
        -------
        dict
            ``directory``; ``records`` in this trace; ``lost``, refused when the buffers were full, or for
            another cause that the channel counts; ``overwritten`` before they were read; ``torn`` by the
            death of their producers; ``unread``, still in the buffers; ``elsewhere``, read by others.
        """
        with self._channel:
            try:
                self._recorder.stop()
            except OSError as error:
                self.error = error
            written, stats = self._recorder.stats()["records"], self._channel.stats()
        return {
            "directory": self._directory, "records": written, "lost": stats.records_lost,
            "overwritten": stats.records_overrun, "torn": stats.records_torn, "unread": stats.records_unread,
            "elsewhere": stats.records_read - written,
        }  # fmt: skip


class FlightStream:
    """The channels of a flight recorder directory, each to a trace that is named as its file; also those to come.

    Parameters
    ----------
    flights : str
        Where the files are.
    directory : str
        Where the traces are made. Made if missing.
    remove : bool
        Take files over: also those that nobody uses when this begins, which are for `recover`
        otherwise; and remove each when all of it is in traces. Otherwise it is marked as recovered.

    A process that ends well leaves its file while we have it. The second trace of a file, from a
    second run, is called NAME-2, and so on.
    """

    def __init__(self, flights: str, directory: str, *, remove: bool = False) -> None:
        self._flights, self._directory, self._remove = flights, directory, remove
        self._streams: dict[str, ChannelStream] = {}  # by the path of the file
        self._seen: set[tuple] = set()  # files that are open, or done with, or not for us
        self._ended: list[dict] = []
        self.errors: dict[str, Exception] = {}  # why a channel is not written, or not to the end; by its path
        own_directory(directory).close()
        if not remove:
            self._seen.update(file for file in self._files() if not _is_used(file[0]))

    def _files(self) -> set[tuple]:
        """Path and inode: both may be used again, hardly together."""
        with os.scandir(self._flights) as entries:
            return {
                (entry.path, entry.inode())
                for entry in entries
                if entry.name.endswith(files.SUFFIX) and entry.is_file(follow_symlinks=False)
            }

    def __len__(self) -> int:
        """How many channels are being written."""
        return len(self._streams)

    def look(self) -> None:
        """Begin with channels that have come, end with those that nobody uses any more."""
        found = self._files()
        self._seen &= found
        for file in sorted(found - self._seen):
            self._begin(file)
        for path in [path for path, stream in self._streams.items() if stream.is_over()]:
            self._end(path)
            self._settle(path)

    def _begin(self, file: tuple) -> None:
        path = file[0]
        if path in self._streams:
            return  # one of another file that had the name
        try:
            self._streams[path] = self._stream(path)
        except (RingbufError, OSError) as error:  # perhaps it is being made: the next look will tell
            self.errors[path] = error
        else:
            self._seen.add(file)
            self.errors.pop(path, None)

    def _stream(self, path: str) -> ChannelStream:
        base = os.path.join(self._directory, os.path.basename(path).removesuffix(files.SUFFIX))
        number, trace = 1, base
        while os.path.lexists(trace):
            number += 1
            trace = f"{base}-{number}"
        return ChannelStream(path, trace, must_live=False)

    def _end(self, path: str) -> None:
        stream = self._streams.pop(path)
        self._ended.append(stream.stop())
        if stream.error is not None:
            self.errors[path] = stream.error

    def _settle(self, path: str) -> None:
        """Nobody will record into it any more. Is anything in it that is not in the trace?"""
        if path not in self.errors and not self._ended[-1]["unread"]:
            files.mark_recovered(path, self._ended[-1]["directory"])
            if self._remove:
                files.remove_unused(path)

    def is_over(self) -> bool:
        """There were channels, and nobody uses one any more."""
        return bool(self._ended) and not self._streams

    def stop(self) -> list[dict]:
        """End with all; as `ChannelStream.stop`, of each."""
        for path in list(self._streams):
            is_last = not self._streams[path].has_others()
            self._end(path)
            if is_last:
                self._settle(path)
        return self._ended


def _is_used(path: str) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return bool(processes.others_of(fd))
    finally:
        os.close(fd)
