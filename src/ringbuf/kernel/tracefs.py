"""The kernel's own trace buffers, through tracefs: mapped, decoded, recorded.

Needs root. Linux 6.10 and later map the buffers; with older ones they are read.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import select
import struct
import threading
import time
from pathlib import Path

from .._decode import FileMap
from ..ctf.metadata import ClockInfo
from ..errors import RingbufError
from ..live.mapping import Mapped
from ..output import Directory
from .packets import KernelDecoder, commit_of

__all__ = ["Instance", "KernelEvents", "MappedBuffer", "TracefsError", "find_tracefs"]

_GET_READER = 0x5220  # TRACE_MMAP_IOCTL_GET_READER
_WAKE = 0  # any other number that trace_pipe_raw knows: wake all who wait
_HEADER_SIZE = 16
_PERIOD = 0.01  # between looks for events
_OURS = "ringbuf-"  # names of instances that may be removed if their process is gone


class TracefsError(RingbufError):
    """The kernel's buffers cannot be had; says why."""


def find_tracefs() -> Path:
    """Where tracefs is mounted. TracefsError: nowhere, or not for us."""
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as mounts:
        found = [line.split()[1].encode().decode("unicode_escape") for line in mounts if line.split()[2] == "tracefs"]
    if not found:
        raise TracefsError("tracefs is not mounted: as root, mount -t tracefs nodev /sys/kernel/tracing")
    if not os.access(found[0], os.R_OK | os.X_OK):
        raise TracefsError(f"{found[0]}: only root may trace the kernel")
    return Path(found[0])


class Instance:
    """A tracing instance of our own: buffers and settings that nobody else uses. A context manager.

    Removed by `close`; one whose process was killed, by the next that is made.

    Parameters
    ----------
    root : path-like, optional
        Where tracefs is mounted.
    clock : str, optional
        For ``trace_clock``, such as ``"mono"`` or ``"x86-tsc"``.
    buffer_size : int, optional
        Bytes of each CPU's buffer.
    overwrite : bool
        When it is full, drop the oldest events; else the newest.

    Raises
    ------
    TracefsError
    """

    def __init__(self, *, root=None, clock: str | None = None, buffer_size: int | None = None, overwrite=True) -> None:
        self.root = find_tracefs() if root is None else Path(root)
        _remove_left_over(self.root)
        self.path = self.root / "instances" / f"{_OURS}{os.getpid()}-{_start_time(os.getpid())}-{time.monotonic_ns()}"
        self._pid = os.getpid()
        try:
            self.path.mkdir()
        except OSError as error:
            raise TracefsError(f"{self.path.parent}: no instance can be made: {error.strerror}") from None
        try:
            self.set("tracing_on", 0)
            if clock is not None:
                self.set("trace_clock", clock)
            if buffer_size is not None:
                self.set("buffer_size_kb", max(1, buffer_size // 1024))
            self.set("options/overwrite", int(overwrite))
        except BaseException:
            self.close()
            raise

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def cpus(self) -> list[int]:
        """CPUs that have a buffer."""
        return sorted(int(path.name[3:]) for path in (self.path / "per_cpu").iterdir())

    def set(self, setting: str, value) -> None:
        """Write a file of the instance, such as ``"tracing_on"``."""
        try:
            (self.path / setting).write_text(f"{value}\n")
        except OSError as error:
            raise TracefsError(f"{setting}: the kernel refuses {value!r}: {error.strerror}") from None

    def get(self, setting: str) -> str:
        """Read one."""
        return (self.path / setting).read_text().strip()

    def enable(self, event: str) -> None:
        """Enable ``"group:name"``, or all events of a ``"group"``; wildcards will do."""
        group, _, name = event.partition(":")
        events = [*self.path.glob(f"events/{group}/{name or '*'}/enable")]
        if not events:
            raise TracefsError(f"the kernel has no event {event!r}")
        for path in events:
            self.set(str(path.relative_to(self.path)), 1)

    def start(self) -> None:
        self.set("tracing_on", 1)

    def stop(self) -> None:
        self.set("tracing_on", 0)

    def close(self) -> None:
        """Remove the instance. Twice is harmless, and so is a forked child's."""
        if self._pid == os.getpid():
            _remove(self.path)

    def __enter__(self) -> Instance:
        return self

    def __exit__(self, *exc) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<ringbuf.kernel.tracefs.Instance {self.name}>"


def _remove(path: Path) -> None:
    try:
        (path / "events" / "enable").write_text("0")
        path.rmdir()
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno != errno.EBUSY:  # somebody has its files open: the next run will do it
            raise


def _remove_left_over(root: Path) -> None:
    """Instances of processes that are gone."""
    try:
        names = [path.name for path in (root / "instances").iterdir()]
    except OSError as error:
        raise TracefsError(f"{root}: no tracefs that we may use: {error.strerror}") from None
    for name in names:
        parts = name.removeprefix(_OURS).split("-")
        if name.startswith(_OURS) and len(parts) == 3 and _start_time(int(parts[0])) != parts[1]:
            _remove(root / "instances" / name)


def _start_time(pid: int) -> str:
    """When a process began, in the kernel's ticks; "" if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[19]


class MappedBuffer(Mapped):
    """One CPU's buffer of the kernel, mapped where it can be, with the interface of `Channel.map`.

    Parameters
    ----------
    cpu : int
    instance : Instance, str or path-like, optional
        An `Instance`, the name of one, or its directory; None: the top-level buffers.
    mapped : bool, optional
        False: read the pages, as on kernels that cannot map them. ``meta`` is then our own
        count, and what others read is missing from it.

    Raises
    ------
    TracefsError

    `get_reader` is the kernel's: what it hands out counts as read at once, and
    ``meta.reader.lost_events`` stays 0; `lost_events` has what the page says.
    """

    _header_size = _HEADER_SIZE

    def __init__(self, cpu: int, instance=None, *, mapped: bool | None = None) -> None:
        self._directory = _directory(instance)
        self.cpu = cpu
        self._fd = -1
        self._settings = self._directory / "buffer_percent"
        path = self._directory / "per_cpu" / f"cpu{cpu}" / "trace_pipe_raw"
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise TracefsError(f"{path}: {error.strerror}") from None
        mapping = None if mapped is False else self._map(must=bool(mapped))
        self._pages = None if mapping else _Pages(self._subbuf_size())
        self._memory = memoryview(mapping or self._pages.memory).toreadonly()
        self._decoder: KernelDecoder | None = None

    def _map(self, must: bool):
        try:
            meta_size, _, subbuf_size, count = struct.unpack_from("<4I", FileMap(self._fd, mmap.PAGESIZE))
            return FileMap(self._fd, meta_size + count * subbuf_size)
        except OSError as error:
            if not must and error.errno in (errno.ENODEV, errno.EINVAL):
                return None
            self.close()
            raise TracefsError(f"the buffer of CPU {self.cpu} cannot be mapped: {error.strerror}") from None

    def _subbuf_size(self) -> int:
        text = (self._directory.parent.parent if self._is_instance else self._directory) / "events" / "header_page"
        data = next(line for line in text.read_text().splitlines() if "char data" in line)
        page = _HEADER_SIZE + int(data.partition("size:")[2].partition(";")[0])
        size = self._directory / "buffer_subbuf_size_kb"
        return int(size.read_text()) * 1024 if size.exists() else page

    @property
    def _is_instance(self) -> bool:
        return self._directory.parent.name == "instances"

    @property
    def is_mapped(self) -> bool:
        """bool: False where pages are read."""
        return self._pages is None

    def _check(self) -> None:
        if self._fd < 0:
            raise ValueError("the buffer is closed")

    def _get_reader(self) -> int:
        self._check()
        if self._pages:
            self._new = self._pages.read(self._fd)
            return self.meta.reader.id
        before = self.meta.reader
        was, had = before.id, before.read
        fcntl.ioctl(self._fd, _GET_READER)
        now = self.meta.reader
        begin = had if now.id == was else 0
        self._new = _HEADER_SIZE + min(begin, now.read), _HEADER_SIZE + now.read
        return now.id

    @property
    def lost_events(self) -> int | None:
        """Events overwritten before the reader's sub-buffer, as its header says; None: some."""
        return commit_of(self.subbuf(self.meta.reader.id))[1]

    def wait(self, timeout: float | None = None, percent: int = 0) -> bool:
        """Wait for events: any, if `percent` is 0, or as many as the instance's ``buffer_percent``.

        Returns
        -------
        bool
            False on time-out.
        """
        self._check()
        if percent not in (0, int(self._settings.read_text())):
            raise ValueError(f"percent {percent} is neither 0 nor the instance's buffer_percent: set that first")
        deadline = None if timeout is None else time.monotonic() + timeout
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        while True:
            left = 1.0 if deadline is None else max(0.0, min(1.0, deadline - time.monotonic()))
            if percent == 0:
                if self._has_events():
                    return True
                time.sleep(min(left, _PERIOD))
            elif poll.poll(round(left * 1000)):
                return True
            if deadline is not None and time.monotonic() >= deadline:
                return percent == 0 and self._has_events()

    def _has_events(self) -> bool:
        stats = (self._directory / "per_cpu" / f"cpu{self.cpu}" / "stats").read_text()
        return int(stats.split()[1]) > 0

    def wake(self) -> None:
        """End every blocking call on the buffer, of other programs too."""
        self._check()
        fcntl.ioctl(self._fd, _WAKE)

    def fileno(self) -> int:
        """The descriptor of ``trace_pipe_raw``: readable at the instance's ``buffer_percent``."""
        self._check()
        return self._fd

    # -- decoding --

    @property
    def decoder(self) -> KernelDecoder:
        """Knows the kernel's events; times are ticks of the instance's clock."""
        if self._decoder is None:
            root = self._directory.parent.parent if self._is_instance else self._directory
            self._decoder = KernelDecoder(root / "events", ClockInfo(10**9, name="kernel"))
        return self._decoder

    def new_packet(self, decoder: KernelDecoder | None = None, **header) -> bytes:
        """The events of `new_data` as a CTF packet; empty if there are none."""
        begin, end = (offset - _HEADER_SIZE for offset in self._new)
        if begin >= end:
            return b""
        subbuf = self.subbuf(self.meta.reader.id)
        return (decoder or self.decoder).packet(subbuf, begin, end, cpu=self.cpu, **header)

    def new_records(self) -> list:
        """The events that the last `get_reader` handed out, as records."""
        return self.decoder.records(self.new_packet(), cpu=self.cpu)

    def new_arrays(self, name: str | None = None):
        """The same as structured NumPy arrays by name of event, or that of one event."""
        return self.decoder.arrays(self.new_packet(), name)

    def records(self, timeout: float | None = None):
        """Iterate over events as they come, until there was none for `timeout` seconds."""
        while True:
            self.get_reader()
            if len(self.new_data):
                yield from self.new_records()
            elif not self.wait(timeout):
                return

    @property
    def closed(self) -> bool:
        return self._fd < 0

    def close(self) -> None:
        """Close, and unmap when no view is left. Twice is harmless."""
        if self._fd < 0:
            return
        os.close(self._fd)
        self._fd = -1
        if hasattr(self, "_memory"):
            self._memory.release()

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self.close()

    def __repr__(self) -> str:
        return f"<ringbuf.kernel.tracefs.MappedBuffer of CPU {self.cpu}{', closed' if self.closed else ''}>"


class _Pages:
    """Two pages in turn, read from a buffer that cannot be mapped, behind a meta page like the kernel's."""

    def __init__(self, subbuf_size: int) -> None:
        self._size = subbuf_size
        self.memory = bytearray(mmap.PAGESIZE + 2 * subbuf_size)
        struct.pack_into("<4I", self.memory, 0, mmap.PAGESIZE, 80, subbuf_size, 2)

    def read(self, fd: int) -> tuple[int, int]:
        """Read what is there, if anything; (begin, end) of its bytes, header left out."""
        (last,) = struct.unpack_from("<I", self.memory, 24)
        begin = mmap.PAGESIZE + (1 - last) * self._size
        with memoryview(self.memory) as memory:
            page = memory[begin : begin + self._size]
            try:
                n = os.readv(fd, [page])
            except BlockingIOError:
                n = 0
        (read,) = struct.unpack_from("<I", self.memory, 28)
        if not n:
            return _HEADER_SIZE + read, _HEADER_SIZE + read
        size = commit_of(self.memory[begin : begin + self._size])[0]
        struct.pack_into("<2I", self.memory, 24, 1 - last, size)
        return _HEADER_SIZE, _HEADER_SIZE + size


def _directory(instance) -> Path:
    if instance is None:
        return find_tracefs()
    if isinstance(instance, Instance):
        return instance.path
    path = Path(instance)
    if len(path.parts) == 1:
        path = find_tracefs() / "instances" / path
    if not path.is_dir():
        raise TracefsError(f"{path}: there is no such instance")
    return path


class KernelEvents:
    """Kernel events beside a channel's trace: one directory, one clock. A context manager.

    Parameters
    ----------
    events : list of str
        As for `Instance.enable`.
    buffer_size : int
        Bytes of each CPU's buffer.
    """

    def __init__(self, events: list[str], *, root=None, buffer_size: int = 1 << 20) -> None:
        self._instance = Instance(root=root, buffer_size=buffer_size)
        try:
            self._buffers = []
            for event in events:
                self._instance.enable(event)
            # The processor's counter on both sides where there is one clock for it; else nanoseconds.
            tsc = _tsc_is_the_kernels() and "x86-tsc" in self._instance.get("trace_clock")
            self._instance.set("trace_clock", "x86-tsc" if tsc else "mono")
            #: ``clock=`` for a channel that counts the same clock
            self.channel_clock = "tsc" if tsc else "monotonic"
            self._ids = sorted(int(path.read_text()) for path in self._enabled())
        except BaseException:
            self._instance.close()
            raise
        self.n_packets = self.n_lost = 0

    def _enabled(self):
        for path in self._instance.path.glob("events/*/*/enable"):
            if path.read_text().startswith("1"):
                yield path.with_name("id")

    def metadata(self, clock: ClockInfo) -> str:
        """TSDL of the events, for a trace whose clock is `clock`."""
        self._decoder = KernelDecoder(self._instance.root / "events", clock)
        return self._decoder.metadata(self._ids)

    def recording(self, directory: Directory, uuid: bytes) -> _KernelRecording:
        """A context manager: record into the directory, in the trace with this UUID, meanwhile."""
        return _KernelRecording(self, directory, uuid)

    def close(self) -> None:
        self._instance.close()

    def __enter__(self) -> KernelEvents:
        return self

    def __exit__(self, *exc) -> None:
        self.close()


def _tsc_is_the_kernels() -> bool:
    """As a channel with clock="auto" decides."""
    try:
        source = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource").read_text()
    except OSError:
        return False
    return source.strip() == "tsc"


class _KernelRecording:
    """A thread that writes packets of every CPU's buffer to files ``kernel_0``, ``kernel_1``, ..."""

    def __init__(self, kernel: KernelEvents, directory: Directory, uuid: bytes) -> None:
        self._kernel = kernel
        self._directory = directory
        self._decoder = KernelDecoder(kernel._instance.root / "events", ClockInfo(1), uuid, only=frozenset(kernel._ids))
        self._stopping = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="ringbuf-kernel", daemon=True)

    def _run(self) -> None:
        try:
            while not self._stopping.wait(_PERIOD):
                self._drain()
        except Exception as error:
            self._error = error

    def _drain(self) -> None:
        for stream in self._streams:
            stream.drain(self._decoder)

    def __enter__(self) -> None:
        instance = self._kernel._instance
        self._decoder.formats  # noqa: B018 - read now, not while events come
        self._streams = [_KernelStream(cpu, instance, self._directory) for cpu in instance.cpus]
        instance.start()
        self._thread.start()

    def __exit__(self, *exc) -> None:
        self._stopping.set()
        self._thread.join()
        try:
            self._kernel._instance.stop()
            if self._error is not None:
                raise self._error
            self._drain()
        finally:
            for stream in self._streams:
                stream.close()
                self._kernel.n_packets += stream.n_packets
                self._kernel.n_lost += stream.n_lost


class _KernelStream:
    """One CPU's buffer and its file."""

    def __init__(self, cpu: int, instance: Instance, directory: Directory) -> None:
        self._buffer = MappedBuffer(cpu, instance)
        self._file = directory.create(f"kernel_{cpu}")
        self.n_packets = self.n_lost = 0

    def drain(self, decoder: KernelDecoder) -> None:
        """Write what is new; at most a ring's worth, so that every CPU gets its turn."""
        for _ in range(self._buffer.meta.nr_subbufs):
            self._buffer.get_reader()
            self.n_lost = self._buffer.meta.overrun
            packet = self._buffer.new_packet(
                decoder, sequence_number=self.n_packets, events_discarded=self._buffer.meta.overrun
            )
            if packet:
                self._file.write(packet)
                self.n_packets += 1
            elif not len(self._buffer.new_data):
                return

    def close(self) -> None:
        self._file.close()
        self._buffer.close()
