"""Traces on disk: recording as it happens, and snapshots of what the buffers hold."""

from __future__ import annotations

import errno
import os
import threading
import warnings
from dataclasses import replace
from multiprocessing.util import Finalize
from pathlib import Path

from .._core import Channel, Consumer, snapshot_files
from ..ctf.layout import channel_layout
from ..ctf.metadata import channel_metadata
from ..ctf.schema import EventSchema
from ..errors import RegionError

__all__ = ["Recorder", "snapshot"]

_METADATA_PERIOD = 0.5  # seconds between looks for newly declared events
_IN_FLIGHT = 1.0  # seconds that stopping waits for records that are being written
_NO_PLACE = "the newest records are missing: other threads have all places of producers, make n_producers larger"
_AT_EXIT = -1  # multiprocessing's priority of what is done after its children have ended


class Recorder:
    """Streams a channel's packets to a CTF trace directory, from now until `stop`.

    A native thread, which needs no GIL, writes each stream to a file of its own, straight
    from the shared memory. A context manager. One that still runs when its process ends is
    stopped then, after the process's multiprocessing children have ended.

    Parameters
    ----------
    channel : Channel
    directory : str or os.PathLike
        Made if missing; its parent must exist, and stream files in it must not.
    read_timer, switch_timer : float, optional
        Seconds; the channel's own by default.
    more_metadata : str
        TSDL of further stream classes, whose files others write into the directory.

    Raises
    ------
    ReaderBusyError
        The channel has a reader already.
    FileExistsError
        The directory has a trace in it.
    OSError
        The directory cannot be made, or written to.

    While it runs, a full disk or a vanished directory stops nothing: see `stats` for the
    errors. What cannot be written stays in the ring, and is tried again.

    Thread safety: any thread. In a forked child it does nothing; the parent's goes on.
    """

    def __init__(self, channel, directory, *, read_timer=None, switch_timer=None, more_metadata="") -> None:
        _check_format(channel)
        directory = os.fsdecode(directory)
        check_directory(directory)
        switch, read = channel.timers
        self.directory = Path(directory)
        self._channel = channel
        self._pid = os.getpid()
        self._stopped = False
        self._stopping = threading.RLock()
        self._consumer = Consumer(
            channel,
            directory,
            channel.name,
            read if read_timer is None else read_timer,
            switch if switch_timer is None else switch_timer,
        )
        self._layout = channel_layout(channel, holes=True)
        self._more_metadata = more_metadata
        self._n_events = -1
        self._refresh_metadata()
        self._stop_metadata = threading.Event()
        self._metadata_thread = threading.Thread(target=self._keep_metadata, name="ringbuf-metadata", daemon=True)
        self._metadata_thread.start()
        # Unlike an atexit handler this runs in multiprocessing's children too, and not in a forked copy.
        self._at_exit = Finalize(None, _stop_at_exit, (self,), exitpriority=_AT_EXIT)

    def _keep_metadata(self) -> None:
        """Events may be declared at any time, by any process; a killed recorder leaves their names."""
        while not self._stop_metadata.wait(_METADATA_PERIOD):
            self._refresh_metadata()

    def _refresh_metadata(self) -> None:
        # What is written now must be right even if this process is killed: records may be given up any time.
        try:
            schemas = self._consumer.schemas()
            if len(schemas) != self._n_events:
                self._write_metadata(schemas, holes=True)
        except (OSError, RegionError):
            return  # the consumer meets the same trouble, and counts it
        self._n_events = len(schemas)

    def _write_metadata(self, schemas, *, holes: bool) -> None:
        events = [EventSchema(*schema) for schema in schemas]
        text = channel_metadata(replace(self._layout, holes=holes, events=events))
        write_whole(text + self._more_metadata, self.directory)

    def stats(self) -> dict:
        """Counters of the files.

        Returns
        -------
        dict
            ``packets``, ``records`` and ``bytes`` written; ``write_errors``, attempts that
            failed; ``last_error``, their newest errno; ``streams_failed`` now;
            ``unread_bytes`` of ``capacity`` in the ring; and more, all int.
        """
        return self._consumer.stats()

    @property
    def error(self) -> OSError | None:
        """The newest failure to write, if any."""
        code = self.stats()["last_error"]
        return OSError(code, os.strerror(code), str(self.directory)) if code else None

    def poke(self) -> None:
        """Look for packets now; the only way with ``wakeup="none"``."""
        self._consumer.poke()

    def stop(self, timeout: float = _IN_FLIGHT) -> None:
        """Flush, write everything recorded before the call, and end. Twice is harmless.

        Parameters
        ----------
        timeout : float
            Seconds to wait for records that a producer is in the middle of.

        Raises
        ------
        OSError
            A file could not be written, and still cannot; its packets are in the ring, unread.

        Warns RuntimeWarning if a producer was in the middle of a record for all of `timeout`:
        its packet, and those after it in that stream, are in the ring, unread.
        """
        self._end(timeout)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *exc) -> None:
        self._end(_IN_FLIGHT)

    def _end(self, timeout: float) -> None:
        if os.getpid() != self._pid:
            return
        with self._stopping:  # whoever else calls meanwhile returns when the trace is complete
            if not self._stopped:
                self._stop_metadata.set()
                self._metadata_thread.join()
                result = self._consumer.stop(timeout)
                self._stopped = True
                self._at_exit.cancel()
                self._finish_metadata(result)
                self._report(result)

    def _finish_metadata(self, result: int) -> None:
        try:
            self._write_metadata(self._consumer.schemas(), holes=_has_holes(self._consumer.channel_stats()))
        except (OSError, RegionError):
            if not result:
                raise

    def _report(self, result: int) -> None:
        # The fourth frame is that of the call of stop, or of the with statement.
        if result == -errno.ETIMEDOUT:
            warnings.warn(f"{self.directory}: a producer was in the middle of a record", RuntimeWarning, stacklevel=4)
        elif result == -errno.EUSERS:
            warnings.warn(f"{self.directory}: no producer slot was free to flush with", RuntimeWarning, stacklevel=4)
        elif result:
            raise OSError(-result, Consumer.strerror(result), str(self.directory))

    def __repr__(self) -> str:
        return f"<ringbuf.Recorder to {str(self.directory)!r}{', stopped' if self._stopped else ''}>"


def snapshot(channel, directory, *, last: float | None = None, timeout: float = 0.1) -> dict:
    """Write what the buffers hold now to a new CTF trace directory; nothing is consumed.

    Parameters
    ----------
    channel : Channel
    directory : str or os.PathLike
        Made if missing; stream files in it must not exist.
    last : float, optional
        Leave out packets that ended more than this many seconds ago.
    timeout : float
        Seconds to wait for records that a producer is in the middle of.

    Returns
    -------
    dict
        ``packets``, ``records`` and ``bytes`` written; ``lapped``, ``incomplete`` and
        ``before``: packets left out because they were overwritten meanwhile, were still
        being written, or are too old.

    Raises
    ------
    ReaderBusyError
        The channel has a reader, or is being recorded.
    OSError
        A file cannot be written, or exists.

    Thread safety: any thread; one at a time for a channel, in all processes.
    """
    _check_format(channel)
    directory = os.fsdecode(directory)
    since = 0 if last is None else _ticks_before(channel, last)
    check_directory(directory)
    written = snapshot_files(channel, directory, channel.name, since, timeout)
    if written["flush_errors"]:
        warnings.warn(f"{directory}: {_NO_PLACE}", RuntimeWarning, stacklevel=2)
    write_metadata(channel, directory)
    return written


def _ticks_before(channel, seconds: float) -> int:
    """The time that was so many seconds ago."""
    if not seconds >= 0:
        raise ValueError(f"last must be a number of seconds >= 0 or None, not {seconds!r}")
    now = channel.current_timestamp()
    return now - round(min(seconds * channel.clock_parameters[1], now))


def write_metadata(channel, directory) -> None:
    """(Re)write the trace's metadata file, whole or not at all."""
    write_whole(channel_metadata(channel_layout(channel, holes=_has_holes(channel.stats()))), directory)


def _has_holes(stats) -> bool:
    return bool(stats.records_discarded or stats.records_torn)


def write_whole(text: str, directory) -> None:
    """Put the metadata there: all of it, or what was there before."""
    draft = _draft(directory)
    try:
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, Path(directory) / "metadata")
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def _draft(directory) -> Path:
    return Path(directory) / f".metadata.{os.getpid()}"


def _check_format(channel) -> None:
    if not isinstance(channel, Channel):
        raise TypeError(f"channel must be a ringbuf.Channel, not {type(channel).__name__}")
    if not channel.is_ctf:
        raise TypeError("the channel's client writes headers of its own: read its packets with Channel.reader()")


def check_directory(directory) -> None:
    """Stream files are never overwritten; nor is the metadata of another trace."""
    if os.path.lexists(Path(directory) / "metadata"):
        raise FileExistsError(errno.EEXIST, "there is a trace in this directory", os.fspath(directory))
    if os.path.isdir(directory):
        draft = _draft(directory)
        draft.touch()  # an error now is better than one after hours of recording
        draft.unlink()


def _stop_at_exit(recorder: Recorder) -> None:
    """Write what is there: the thread would die in the middle of it."""
    try:
        recorder.stop()
    except OSError as error:
        warnings.warn(str(error), RuntimeWarning, stacklevel=1)
