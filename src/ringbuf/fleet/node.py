"""What is done on each machine: the flight files of a directory made traces, those of the dead as well.

The agent is another process than those who record, where there is one: Dask's nanny, an actor of Ray. So it needs
nothing of them: who hangs, holds the GIL, is stopped or dead has a trace like the others.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import re
import shutil
import tempfile
import threading
import time
from dataclasses import asdict, dataclass

from .. import __version__
from ..ctf.metadata import ClockInfo, with_clock
from ..errors import RingbufError, TraceError
from ..output import own_directory
from ..record import files
from ..record.automatic import remove_at_exit
from ..record.recorder import snapshot
from ..record.recovery import recover
from ..texts import of_error
from .clock import Correction, Counter, Sample, clock_identity, corrected, relation
from .manifest import Gathered

__all__ = ["PROTOCOL", "Agent", "Request", "default_base", "file_of", "open_flight", "safe_name", "tidy"]

#: Of what agents are asked and answer. Another one is another version of this package.
PROTOCOL = 1

_FORGOTTEN = 86400.0  # seconds after which nobody comes for the files of a cluster that has gone
_UNFETCHED = 600.0  # seconds that traces wait to be fetched
_LEFT = 900.0  # seconds that the file of a process stays that has ended well
_AGENT = ".agent"  # in a directory: locked while somebody gathers there
_LONGEST_WAIT = 5.0  # seconds that an agent waits for the moment
# Of a thread whose process has ended: its newest record, and when it was last seen to live. docs/formats.md
_ENDED = re.compile(r'^(\tended_\d+ = "\d+ \d+ )(\d+ \d+)', re.MULTILINE)
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass
class Request:
    """What an agent is asked for.

    Parameters
    ----------
    at : int
        The moment, by the reference's clock, in nanoseconds since the Unix epoch.
    last : float or None
        Seconds before it; None: all that there is.
    samples : list of (int, int, int)
        How the agent's clock was asked: `Sample`s.
    offset : int or None
        What the reference is ahead of this machine's CLOCK_MONOTONIC, where that is the reference itself.
    url : str
        Where the traces go; empty: they are kept, and fetched in pieces.
    prefix : str
        Directory of the set that is this agent's: two machines may have files of one name.
    reference : str
        Whose clock it is.
    """

    at: int
    last: float | None
    samples: list
    offset: int | None = None
    url: str = ""
    prefix: str = ""
    reference: str = ""

    def correction(self, begin: int, end: int) -> Correction | None:
        """For times of this machine's CLOCK_MONOTONIC; None: nobody could ask it."""
        if self.offset is not None:
            return Correction(begin, self.offset)
        if not self.samples:
            return None
        return relation([Sample(*one) for one in self.samples], begin, end)

    def as_dict(self) -> dict:
        return asdict(self)


class Agent:
    """Makes traces of the flight files below a directory. One on each machine, or for each worker.

    Parameters
    ----------
    directories : list of str
        Where the files are; what is not there is empty.

    Thread safety: any thread; collecting is done by one at a time.
    """

    def __init__(self, directories: list[str]) -> None:
        self.directories = list(directories)
        self._counter = Counter()
        self._collecting = threading.Lock()
        self._kept: dict[str, tuple[float, str]] = {}
        self._locks: list[int] = []

    def expect_ended(self) -> None:
        """From now on processes that end well leave their files here, for a while (`open_flight`)."""
        for directory in self.directories:
            os.makedirs(os.path.dirname(directory), mode=0o700, exist_ok=True)
            own_directory(directory).close()
            fd = os.open(os.path.join(directory, _AGENT), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            fcntl.flock(fd, fcntl.LOCK_SH)  # an agent before this one may not have gone yet
            self._locks.append(fd)

    def hello(self) -> dict:
        """Who this is, and the time: what a question of the clock is answered with."""
        return {
            "protocol": PROTOCOL, "version": __version__, "clock": clock_identity(), "host": os.uname().nodename,
            "pid": os.getpid(), "directories": self.directories, "now": time.monotonic_ns(),
        }  # fmt: skip

    def collect(self, request: dict, directories: list[str] | None = None) -> dict:
        """Write a trace for each flight file.

        Parameters
        ----------
        request : dict
            Of a `Request`.
        directories : list of str, optional
            Instead of the agent's own: those of one that is gone.

        Returns
        -------
        dict
            ``token``: what the traces can be fetched by. ``files``: for each flight file a dict of its ``path``,
            ``pid``, whether it is ``used``, ``problem`` and the ``trace`` (`Gathered`) or None.
        """
        asked = Request(**request)
        with self._collecting:
            self._forget_old()
            _wait_for(asked)
            found, problems = self._regions(self.directories if directories is None else directories)
            scratch = _scratch(self.directories if found else [])
            token = os.urandom(8).hex()
            results = problems + [self._trace_of(region, asked, scratch) for region in found]
            if asked.url:
                results = [self._deliver(one, asked.url, scratch) for one in results]
                shutil.rmtree(scratch, ignore_errors=True)
            else:
                self._kept[token] = time.monotonic(), scratch
        return {"token": token, "files": results}

    def _regions(self, directories: list[str]) -> tuple[list, list[dict]]:
        found, problems = [], []
        for directory in directories:
            try:
                found += [region for region in files.find(directory) if not region.unfinished]
            except FileNotFoundError:
                continue  # nobody has recorded here yet
            except OSError as error:
                problems.append(_result(directory, 0, False, problem=of_error(error)))
        return found, problems

    def _trace_of(self, region, asked: Request, scratch: str) -> dict:
        name = safe_name(os.path.basename(region.path).removesuffix(files.SUFFIX))
        directory = os.path.join(asked.prefix, name)
        target = os.path.join(scratch, directory)
        result = _result(region.path, region.pid, region.used, region.problem or "")
        result["ended"] = not region.used and files.has_ended(region.path)
        if region.problem is not None:
            return result
        try:
            os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
            trace = self._snapshot(region, target, asked) if region.used else self._recover(region, target, asked)
        except (OSError, RingbufError, TraceError, ValueError) as error:
            shutil.rmtree(target, ignore_errors=True)
            result["problem"] = of_error(error)
        else:
            result["trace"] = trace and {**asdict(trace), "directory": directory}
        return result

    def _snapshot(self, region, target: str, asked: Request) -> Gathered | None:
        from ..live.sharing import attach

        with attach(region.path) as channel:
            written = snapshot(channel, target, last=asked.last)
        trace = self._finished(target, asked)
        trace.records, trace.bytes = written["records"], written["bytes"]
        return trace

    def _recover(self, region, target: str, asked: Request) -> Gathered | None:
        report = recover(region.path, target)
        trace = self._finished(target, asked)
        trace.recovered, trace.records = True, report.records
        trace.open_records = sum(one.open_records for one in report.producers)
        # The report is by the channel's own clock, as the packets were before.
        if trace.end is not None and asked.last is not None and trace.end < asked.at - asked.last * 1e9:
            shutil.rmtree(target)
            return None  # it died before the time that is asked for
        return trace

    def _finished(self, target: str, asked: Request) -> Gathered:
        """Correct the clock of a trace, and say what is in it."""
        from ..trace.trace import open_trace

        with open_trace(target, errors="skip") as trace:
            clock = trace.clock
            sides = [(packet.begin_ticks, packet.end_ticks) for packet in trace.packets]
        ticks = [one for side in sides for one in side if one is not None]
        info = ClockInfo(clock.freq, clock.offset_s, clock.offset, clock.name, clock.description, clock.uuid)
        line = self._line(clock)
        made = Gathered(os.path.basename(target), packets=len(sides))
        if line is None:  # the program's own clock: nobody can say how it runs
            to_reference = None
        else:
            first, last = (min(ticks), max(ticks)) if ticks else (line[0], line[0])
            begin, end = (line[1] + round((tick - line[0]) * line[2]) for tick in (first, last))
            to_reference = asked.correction(begin, end)
        if to_reference is not None:
            before = info
            info = corrected(info, line, to_reference, (first + last) // 2)
            env = {"ringbuf_clock_reference": asked.reference, **_about(made, to_reference)}
            _rewrite(os.path.join(target, "metadata"), before, info, env)
        with open_trace(target, errors="skip") as trace:
            made.begin, made.end = trace.time_range or (None, None)
            made.last_record = max(
                filter(None, map(_last_record, [trace] * len(trace.streams), trace.streams)), default=None
            )
        made.bytes = sum(os.path.getsize(os.path.join(target, name)) for name in os.listdir(target))
        return made

    def _line(self, clock):
        """How the trace's clock runs beside CLOCK_MONOTONIC: a tick, its time, nanoseconds per tick."""
        if clock.description == "monotonic" and clock.freq == 10**9:
            return 0, 0, 1.0
        if clock.description == "tsc" and self._counter.is_usable:
            return self._counter.line(clock.freq)
        return None

    # ---- delivering ----

    def _deliver(self, result: dict, url: str, scratch: str) -> dict:
        if result["trace"] is None:
            return result
        from ..places import place_of

        name = result["trace"]["directory"]
        try:
            place = place_of(url)
            for file in sorted(os.listdir(os.path.join(scratch, name)), key="metadata".__eq__):  # metadata the last
                place.put(f"{name}/{file}", os.path.join(scratch, name, file))
        except Exception as error:  # noqa: BLE001 - whatever the file system raises
            return {**result, "trace": None, "problem": f"{url}: {of_error(error)}"}
        return result

    def listing(self, token: str) -> dict[str, int]:
        """The files that were kept, and their sizes."""
        scratch = self._place_of(token)
        found = {}
        for directory, _, names in os.walk(scratch):
            for name in names:
                path = os.path.join(directory, name)
                found[os.path.relpath(path, scratch)] = os.path.getsize(path)
        return found

    def fetch(self, token: str, name: str, offset: int, size: int) -> bytes:
        """A piece of one."""
        scratch = self._place_of(token)
        path = os.path.realpath(os.path.join(scratch, name))
        if not path.startswith(os.path.realpath(scratch) + os.sep):
            raise ValueError(f"{name!r} is no file of this collection")
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(size)

    def drop(self, token: str) -> None:
        """They were fetched. Twice is harmless."""
        kept = self._kept.pop(token, None)
        if kept is not None:
            shutil.rmtree(kept[1], ignore_errors=True)

    def _place_of(self, token: str) -> str:
        if token not in self._kept:
            raise ValueError("these traces were kept for ten minutes, and are gone")
        return self._kept[token][1]

    def _remove_ended(self, age: float) -> None:
        for directory in self.directories:
            with contextlib.suppress(OSError):
                for region in files.find(directory):
                    is_old = time.time() - region.modified >= age
                    if not region.used and is_old and files.has_ended(region.path):
                        files.remove_unused(region.path)

    def _forget_old(self) -> None:
        self._remove_ended(_LEFT)
        for token, (since, _) in list(self._kept.items()):
            if time.monotonic() - since > _UNFETCHED:
                self.drop(token)

    def close(self) -> None:
        """Remove what was not fetched, and what processes have left that ended well."""
        for token in list(self._kept):
            self.drop(token)
        while self._locks:
            os.close(self._locks.pop())
        self._remove_ended(0.0)


def _last_record(trace, stream) -> int | None:
    """When its newest record was made: a packet may end later."""
    for packet in reversed(stream.packets):
        try:
            times = [record.timestamp for record in stream.source.decoder.packet_records(
                trace.packet_bytes(packet), packet, offset=0, in_ns=True)]  # fmt: skip
        except TraceError:
            continue
        if times:
            return times[-1]
    return None


def _result(path: str, pid: int, used: bool, problem: str = "") -> dict:
    return {"path": path, "pid": pid, "used": used, "ended": False, "problem": problem, "trace": None}


def _wait_for(asked: Request) -> None:
    """Until the moment, if that is to come and this machine knows when."""
    now = time.monotonic_ns()
    correction = asked.correction(now, now)
    if correction is not None:
        time.sleep(min(max(0.0, (correction.inverse(asked.at) - now) / 1e9), _LONGEST_WAIT))


def _about(made: Gathered, correction: Correction) -> dict:
    """Note a correction, and say it for the metadata."""
    made.uncertainty_ns, made.offset_ns = correction.uncertainty_ns, correction.offset_ns
    made.drift_ppb = round(correction.drift * 1e9)
    made.round_trip_ns, made.samples = correction.round_trip_ns, correction.samples
    return {
        "ringbuf_clock_uncertainty_ns": made.uncertainty_ns, "ringbuf_clock_offset_ns": made.offset_ns,
        "ringbuf_clock_drift_ppb": made.drift_ppb, "ringbuf_clock_round_trip_ns": made.round_trip_ns,
        "ringbuf_clock_samples": made.samples,
    }  # fmt: skip


def _rewrite(path: str, before: ClockInfo, clock: ClockInfo, env: dict) -> None:
    """Metadata with another clock, and the times in them as that has them."""
    from ..output import directory_of

    with open(path) as file:
        text = with_clock(file.read(), clock, env)
    text = _ENDED.sub(lambda found: found[1] + " ".join(_moved(one, before, clock) for one in found[2].split()), text)
    with directory_of(path) as folder:
        folder.write(os.path.basename(path), text)


def _moved(text: str, before: ClockInfo, after: ClockInfo) -> str:
    """A time by one clock as another one has it that counts the same ticks. 0: it is not known."""
    ns = int(text)
    ticks = (ns - before.offset_s * 10**9) * before.freq // 10**9 - before.offset_cycles
    return str(after.offset_s * 10**9 + (ticks + after.offset_cycles) * 10**9 // after.freq) if ns else "0"


def _scratch(directories: list[str]) -> str:
    """A directory for traces until they are delivered: beside the flight files, where there is room for such."""
    for directory in directories:
        with contextlib.suppress(OSError):
            return tempfile.mkdtemp(prefix=".gathered-", dir=directory)
    return tempfile.mkdtemp(prefix="ringbuf-gathered-")


# ---- who records ----


def default_base() -> str:
    """Where flight files are, if nobody says: in memory, where the machine has it as files."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else tempfile.gettempdir()
    return os.path.join(base, f"ringbuf-{os.getuid()}")


def tidy(base: str) -> None:
    """Remove what clusters have left below a directory a day ago: files of the dead, and empty directories.

    It is mostly in memory. Where nobody may look or remove, nothing is done.
    """
    for directory, _, _ in os.walk(base, topdown=False):
        with contextlib.suppress(OSError):
            files.clean(directory, age=_FORGOTTEN)
            is_old = time.time() - os.stat(directory).st_mtime > _FORGOTTEN
            if directory != base and is_old and not _is_attended(directory):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(directory, _AGENT))
                os.rmdir(directory)  # if it is empty


def safe_name(name: str) -> str:
    """As a part of a file name."""
    return _UNSAFE.sub("-", name).strip("-.")[:120] or "unnamed"


def file_of(directory: str, name: str) -> str:
    """The flight file of somebody, one that is not there yet."""
    base = os.path.join(directory, safe_name(name))
    path, number = base + files.SUFFIX, 1
    while os.path.lexists(path):
        number += 1
        path = f"{base}+{number}{files.SUFFIX}"
    return path


def open_flight(directory: str, name: str, size: int, *, channel: str, leave: bool = False):
    """A tracer over a flight file of its own, on the machine's one clock; its file goes if the process ends well.

    With `leave` it stays for a while where an agent `expect_ended`, so that what it has done is gathered too.

    Processes of two machines, or containers, have the same ids: a number in each record tells them apart.
    """
    from ..record.tracer import Tracer

    os.makedirs(os.path.dirname(directory), mode=0o700, exist_ok=True)
    own_directory(directory).close()
    image = int.from_bytes(os.urandom(4), "little")
    contexts = ("vpid", "vtid", "thread_name", ("image", "u32", lambda: image))
    subbuf = max(4096, 1 << (size // 8).bit_length() - 1)
    tracer = Tracer(
        channel, path=file_of(directory, name), keep=True, contexts=contexts, clock="monotonic", streams="global",
        subbuf_size=subbuf, n_subbufs=8,
    )  # fmt: skip
    remove_at_exit(tracer.channel, unless=functools.partial(_is_left, tracer.channel.path) if leave else None)
    return tracer


def _is_left(path: str) -> bool:
    """At the good end of a process: its file is marked and stays, if somebody gathers in its directory."""
    if not _is_attended(os.path.dirname(path)):
        return False
    files.mark_ended(path)
    return True


def _is_attended(directory: str) -> bool:
    """Does somebody gather there who expects the files of those that have ended?"""
    try:
        fd = os.open(os.path.join(directory, _AGENT), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False  # nobody ever did
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
