"""Traces on disk: recording as it happens, and snapshots of what the buffers hold."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
import warnings
from dataclasses import replace
from pathlib import Path

from .._core import Channel, Consumer, read_metrics, snapshot_files
from ..ctf.layout import channel_layout, clock_now
from ..ctf.metadata import channel_metadata, check_format, in_format
from ..ctf.schema import EventSchema
from ..errors import RegionError
from ..metrics import samples
from ..output import Directory, trace_directory
from .ends import AtEnd
from .last import Watch, ended_env
from .steps import Steps

__all__ = ["Recorder", "complete", "snapshot", "write_snapshot"]

_METADATA_PERIOD = 0.5  # seconds between looks for newly declared events
_METRICS_PERIOD = 1.0  # and between looks at what was counted
_LOOK_PERIOD = 0.1  # and between looks for processes that have ended
_IN_FLIGHT = 1.0  # seconds that stopping waits for records that are being written
_SAMPLES_SHARE = 8  # so small a part of a trace of limited size is what was counted
_NO_PLACE = "the newest records are missing: other threads have all places of producers, make n_producers larger"


class Recorder:
    """Streams a channel's packets to a CTF trace directory, from now until `stop`.

    A native thread, which needs no GIL, writes each stream to a file of its own, straight
    from the shared memory. A context manager. One that still runs when its process comes to the
    end of its Python program is stopped then, after the process's multiprocessing children have
    ended; in multiprocessing's children as well. A process that ends otherwise (by ``os._exit``, an
    exec, SIGTERM, a crash) writes nothing any more: what was in no full packet stays in the
    buffers, with which it is gone if they are anonymous memory. `finish` before such an end,
    ``ringbuf stream`` from outside, or a file (`recover`) keep it.

    Parameters
    ----------
    channel : Channel
    directory : str or os.PathLike
        Made if missing, readable for its owner alone, as the files are; its parent must exist, and
        stream files in it must not. It may be renamed meanwhile, and the process's directory changed.
    read_timer, switch_timer : float, optional
        Seconds; the channel's own by default.
    metrics_timer : float, optional
        Seconds between looks at the channel's counters, gauges and histograms: those of another value than at the
        look before are written, and all at begin and end. None: only then.
    max_size : int, optional
        Bytes of all files of the trace but ``metadata``, at least ``16 * channel.subbuf_size``. What would make it
        larger makes the oldest packets leave first, of whichever stream, about a sixteenth of them at a time: so at
        every moment the directory has a trace of the newest. How much has left is counted: `stats`, and
        ``rotated_packets`` and ``rotated_records`` in the trace's environment.
    format : {"ctf", "ctf2"}
        CTF 1.8, which every reader of traces takes, or CTF 2.
    more_metadata : str
        TSDL of further stream classes, whose files others write into the directory.
    made_by : dict, optional
        ``procname`` and ``vpid`` of the process that the trace is about, if that is not who made the channel. What
        it has at the end counts.

    Raises
    ------
    ReaderBusyError
        The channel has a reader already.
    FileExistsError
        The directory has a trace in it.
    PermissionError
        It is somebody else's, or everybody may write in it: then others could plant names there.
    OSError
        The directory cannot be made, or written to.
    ValueError
        A timer that is none, or a `max_size` that is too small.

    While it runs, a full disk or a vanished directory stops nothing: see `stats` for the
    errors. What cannot be written stays in the ring, and is tried again.

    Thread safety: any thread. In a forked child it does nothing; the parent's goes on.
    """

    def __init__(
        self, channel, directory, *, read_timer=None, switch_timer=None, metrics_timer=_METRICS_PERIOD, max_size=None,
        format="ctf", more_metadata="", made_by=None,
    ) -> None:  # fmt: skip
        _check_format(channel)
        check_format(format)
        switch, read = channel.timers
        layout = channel_layout(channel, holes=True)
        # What others write has the channel's clock, as it was given to them.
        self._layout = layout if more_metadata else replace(layout, clock=clock_now(channel))
        self._more_metadata = more_metadata
        self._made_by = {} if made_by is None else made_by
        self._format = format
        self._n_events = -1
        self._samples = samples.Samples(self._layout.uuid, self._layout.clock)
        self._metrics_period = _checked_period(metrics_timer)
        of_samples, of_streams = _shares(channel, max_size)
        self._rotated = 0, 0  # packets and records, as the metadata have it
        self._pid = os.getpid()
        self._stopped = False
        self._stopping = threading.RLock()
        with contextlib.ExitStack() as stack:
            self._output = stack.enter_context(trace_directory(directory))
            self.directory = Path(os.path.abspath(self._output.path))
            self._consumer = Consumer(
                channel,
                self._output,
                channel.name,
                read if read_timer is None else read_timer,
                switch if switch_timer is None else switch_timer,
                of_streams,
            )
            stack.pop_all()
        self._samples_file = samples.SamplesFile(self._output, of_samples)
        self._watch = Watch(channel, self._layout.clock)
        self._watch.look()
        self._steps = Steps(channel, self._layout.clock)
        self._steps.look()
        self._refresh_metadata()
        self._sample()
        self._stop_metadata = threading.Event()
        self._metadata_thread = threading.Thread(target=self._keep_metadata, name="ringbuf-metadata", daemon=True)
        self._metadata_thread.start()
        self._at_end = AtEnd(self._stop_at_end)

    def _keep_metadata(self) -> None:
        """Events may be declared at any time, by any process; a killed recorder leaves their names."""
        metadata_due, metrics_due = (time.monotonic() + one for one in (_METADATA_PERIOD, self._metrics_period))
        while not self._stop_metadata.wait(min(_LOOK_PERIOD, self._metrics_period)):
            has_news, now = self._watch.look() | self._steps.look(), time.monotonic()
            if has_news or now >= metadata_due:
                self._refresh_metadata(has_news)
                metadata_due = now + _METADATA_PERIOD
            if now >= metrics_due:
                self._sample()
                metrics_due += self._metrics_period

    def _sample(self) -> None:
        """Write what was counted. The metadata first: without them nobody can read it."""
        try:
            samples.ask_gauges()
            found, now = self._consumer.metrics()
            if self._samples.learn(found):
                self._write_metadata(self._consumer.schemas(), holes=True)
            self._samples_file.write(self._samples, found, now)
        except (OSError, RegionError):
            return  # the consumer meets the same trouble, and counts it

    def _refresh_metadata(self, has_news: bool = False) -> None:
        # What is written now must be right even if this process is killed: records may be given up any time.
        try:
            schemas = self._consumer.schemas()
            if has_news or len(schemas) != self._n_events or self._rotated != self._rotated_now():
                self._write_metadata(schemas, holes=True)
        except (OSError, RegionError):
            return  # the consumer meets the same trouble, and counts it
        self._n_events = len(schemas)

    def _rotated_now(self) -> tuple[int, int]:
        stats = self._consumer.stats()
        return stats["packets_rotated"], stats["records_rotated"]

    def _write_metadata(self, schemas, *, holes: bool) -> None:
        events = [EventSchema(*schema) for schema in schemas]
        rotated = self._rotated_now()
        env = {**self._layout.env, **self._made_by, **ended_env(self._watch.ended), **self._steps.env()}
        if any(rotated):
            env |= {"rotated_packets": rotated[0], "rotated_records": rotated[1]}
        text = channel_metadata(replace(self._layout, env=env, holes=holes, events=events))
        self._output.write("metadata", in_format(text + self._samples.metadata() + self._more_metadata, self._format))
        self._rotated = rotated

    def stats(self) -> dict:
        """Counters of the files.

        Returns
        -------
        dict
            ``packets``, ``records`` and ``bytes`` written, and with ``_rotated`` how many of these
            have left again to make room (`max_size`); ``write_errors``, attempts that
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
        RegionError
            The channel's file was cut short.

        Warns RuntimeWarning if a producer was in the middle of a record for all of `timeout`:
        its packet, and those after it in that stream, are in the ring, unread.
        """
        self._end(timeout)

    def _stop_at_end(self, well: bool) -> None:
        """Write what is there, however the process ends: the thread would die in the middle of it."""
        try:
            self.stop()
        except (OSError, RegionError) as error:
            warnings.warn(str(error), RuntimeWarning, stacklevel=1)

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
                self._watch.look(now=True)
                self._steps.look(now=True)
                result = self._consumer.stop(timeout)
                self._sample()
                self._samples_file.close()
                self._stopped = True
                self._at_end.cancel()
                try:
                    self._finish_metadata(result)
                finally:
                    self._output.close()
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
            missing = "the newest records are missing: the recorder's thread has no place of a producer, because"
            why = "other threads have all (make n_producers larger), or set_robust_list is forbidden to it"
            warnings.warn(f"{self.directory}: {missing} {why}", RuntimeWarning, stacklevel=4)
        elif result <= -4096:  # no errno: it is the channel's
            raise RegionError(f"{self.directory}: {Consumer.strerror(result)}")
        elif result:
            raise OSError(-result, Consumer.strerror(result), str(self.directory))

    def __repr__(self) -> str:
        return f"<ringbuf.Recorder to {str(self.directory)!r}{', stopped' if self._stopped else ''}>"


def snapshot(channel, directory, *, last: float | None = None, timeout: float = 0.1, format: str = "ctf") -> dict:
    """Write what the buffers hold now to a new CTF trace directory; nothing is consumed.

    Parameters
    ----------
    channel : Channel
    directory : str or os.PathLike
        Made if missing, readable for its owner alone, as the files are; stream files in it must not exist.
    last : float, optional
        Leave out packets that ended more than this many seconds ago.
    timeout : float
        Seconds to wait for records that a producer is in the middle of.
    format : {"ctf", "ctf2"}
        As of `Recorder`.

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
    PermissionError
        The directory is somebody else's, or everybody may write in it.
    OSError
        A file cannot be written, or exists. Then nothing of the snapshot is left.

    Thread safety: any thread; one at a time for a channel, in all processes.
    """
    _check_format(channel)
    check_format(format)
    since = 0 if last is None else _ticks_before(channel, last)
    with trace_directory(directory) as output:
        return write_snapshot(channel, output, since=since, timeout=timeout, format=format)


def write_snapshot(
    channel, output: Directory, *, since: int = 0, timeout: float = 0.1, format: str = "ctf", made_by=None
) -> dict:
    """What `snapshot` does, into a directory that is open; `since` is a time of the channel's clock."""
    written = snapshot_files(channel, output, channel.name, since, timeout)
    if written["flush_errors"]:
        warnings.warn(f"{output.path}: {_NO_PLACE}", RuntimeWarning, stacklevel=3)
    layout = replace(channel_layout(channel, holes=_has_holes(channel.stats())), clock=clock_now(channel))
    metadata = channel_metadata(replace(layout, env={**layout.env, **(made_by or {})}))
    samples.ask_gauges()
    found = read_metrics(channel)
    if found[0]:
        metadata += samples.sample_channel(output, layout, found, channel.current_timestamp())
    complete(output, channel.name, channel, in_format(metadata, format))
    return written


def complete(output: Directory, name: str, channel, metadata: str) -> None:
    """Make a trace of the files of the channel's streams, which are called `name`. If that fails, none is left."""
    try:
        output.write("metadata", metadata)
    except BaseException:
        output.remove([name, samples.FILE, *(f"{name}_{stream.index}" for stream in channel.streams)])
        raise


def _ticks_before(channel, seconds: float) -> int:
    """The time that was so many seconds ago."""
    if not seconds >= 0:
        raise ValueError(f"last must be a number of seconds >= 0 or None, not {seconds!r}")
    now = channel.current_timestamp()
    return now - round(min(seconds * channel.clock_parameters[1], now))


def _checked_period(seconds: float | None) -> float:
    if seconds is None:
        return threading.TIMEOUT_MAX
    if not 0 < seconds <= threading.TIMEOUT_MAX:
        raise ValueError(f"metrics_timer must be a number of seconds > 0 or None, not {seconds!r}")
    return float(seconds)


def _shares(channel, max_size: int | None) -> tuple[int, int]:
    """Bytes for what is counted, and for the streams; 0: without a limit."""
    if max_size is None:
        return 0, 0
    least = 16 * channel.subbuf_size
    if not isinstance(max_size, int) or max_size < least:
        raise ValueError(f"max_size must be at least {least} bytes here, 16 sub-buffers, not {max_size!r}")
    of_samples = max_size // _SAMPLES_SHARE
    return of_samples, max_size - of_samples


def _has_holes(stats) -> bool:
    return bool(stats.records_discarded or stats.records_torn)


def _check_format(channel) -> None:
    if not isinstance(channel, Channel):
        raise TypeError(f"channel must be a ringbuf.Channel, not {type(channel).__name__}")
    if not channel.is_ctf:
        raise TypeError("the channel's client writes headers of its own: read its packets with Channel.reader()")
