"""Say what this machine gives to recording, what is missing, and what costs time."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import importlib.util
import json
import os
import platform
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from .._core import Channel
from ..errors import RingbufError
from ..kernel.tracefs import find_tracefs
from ..live.sharing import look
from ..record.files import find, open_channels
from ..texts import printable
from ._buffers import spares_hint
from ._output import say

__all__ = ["configure", "run"]

_CLOCKS = "/sys/devices/system/clocksource/clocksource0/"
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
_MARKS = {"ok": "ok", "note": "--", "warn": "!!", "fail": "NO"}
_RECORDS = 20_000


@dataclass
class Finding:
    """`state` is "ok"; "note": something optional is not there; "warn": it costs; "fail": recording cannot work."""

    what: str
    state: str
    text: str


def configure(parser) -> None:
    pass


def run(args) -> int:
    findings = [finding for check in _CHECKS for finding in _guarded(check)]
    is_fine = all(finding.state != "fail" for finding in findings)
    if args.json:
        print(json.dumps({"ok": is_fine, "findings": [asdict(finding) for finding in findings]}))
    else:
        for finding in findings:
            say(f"{_MARKS[finding.state]}  {finding.what}: {finding.text}")
    return 0 if is_fine else 1


def _guarded(check) -> Iterator[Finding]:
    try:
        yield from check()
    except (RingbufError, OSError, ImportError) as error:
        yield Finding(check.__name__.strip("_"), "fail", " ".join(str(error).split()))


def _build() -> Iterator[Finding]:
    import ringbuf

    importlib.import_module("ringbuf._decode")
    python = f"{platform.python_implementation()} {platform.python_version()}"
    yield Finding("build", "ok", f"ringbuf {ringbuf.__version__}, {python}, {platform.machine()}, {platform.release()}")


def _recording() -> Iterator[Finding]:
    """Write and read records; how long one takes."""
    with Channel("doctor", mode="overwrite", streams="global") as channel:
        write, payload = channel.write, b"12345678"
        begin = time.perf_counter_ns()
        for _ in range(_RECORDS):
            write(payload)
        took = (time.perf_counter_ns() - begin) / _RECORDS
        written = channel.stats().records_written
        if written == _RECORDS:
            yield Finding("recording", "ok", f"a record of 8 bytes takes about {took:.0f} ns from Python")
        else:
            yield Finding("recording", "fail", f"only {written} of {_RECORDS} records were written")
        seals = fcntl.fcntl(channel.fileno(), fcntl.F_GET_SEALS)
        is_sealed = seals & _SEALS == _SEALS
        text = (
            "sealed: nobody can cut it short"
            if is_sealed
            else "not sealed: who cuts it short ends the recording of all"
        )
        yield Finding("anonymous memory", "ok" if is_sealed else "warn", text)


def _deaths() -> Iterator[Finding]:
    """Die over a record, and see whether the kernel says so."""
    with Channel("doctor", streams="global") as channel:
        pid = os.fork()
        if pid == 0:
            slot = channel.reserve(8)
            os.kill(os.getpid(), signal.SIGKILL)
            slot.commit()
        os.waitpid(pid, 0)
        is_noticed = channel.repair() == 1
    if is_noticed:
        yield Finding("robust locks", "ok", "a producer that was killed was noticed, and its record repaired")
    else:
        yield Finding("robust locks", "fail", "a producer that was killed was not noticed")


def _clock() -> Iterator[Finding]:
    with Channel("doctor", streams="global") as channel:
        kind, freq, _, _ = channel.clock_parameters
    if kind == "tsc":
        yield Finding("clock", "ok", f"the processor's counter, {freq / 1e6:.0f} MHz")
        return
    used = _text_of(f"{_CLOCKS}current_clocksource").strip() or "unknown"
    has = _text_of(f"{_CLOCKS}available_clocksource").split()
    hint = "" if "tsc" in has else ", and does not trust the processor's counter"
    machine = " (a virtual machine)" if "hypervisor" in _text_of("/proc/cpuinfo") else ""
    yield Finding("clock", "warn", f"clock_gettime, which costs: the kernel uses {used}{hint}{machine}")


def _cpu_number() -> Iterator[Finding]:
    try:
        size = ctypes.c_uint.in_dll(ctypes.CDLL(None), "__rseq_size").value
    except ValueError:
        size = 0
    if size:
        yield Finding("CPU number", "ok", "from the C library's rseq area")
    else:
        library = " ".join(platform.libc_ver())
        yield Finding("CPU number", "warn", f"from sched_getcpu, which costs: no rseq area ({library})")


def _shared_memory() -> Iterator[Finding]:
    with Channel("doctor", mode="overwrite") as channel:
        whole, n_streams = os.fstat(channel.fileno()).st_size, len(channel.streams)
        each = (channel.n_subbufs + 1 + channel.n_spares) * channel.subbuf_size
    takes = whole - (n_streams - 1) * each
    try:
        room = os.statvfs("/dev/shm")
    except OSError as error:
        yield Finding("/dev/shm", "warn", f"{error.strerror}: buffers in files go elsewhere")
        return
    free, size = room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize
    text = (
        f"{free >> 20} of {size >> 20} MiB are free; a flight recorder of default size takes {takes / 2**20:.1f} MiB, "
        f"and {each / 2**20:.1f} for each further CPU that records: {whole / 2**20:.1f} for {n_streams}"
    )
    yield Finding("/dev/shm", "ok" if free >= whole else "note" if free >= takes else "warn", text)


def _flights() -> Iterator[Finding]:
    directory = os.environ.get("RINGBUF_DIR")
    if not directory:
        yield Finding("RINGBUF_DIR", "note", "not set: tracers keep their buffers in anonymous memory")
        return
    if not os.path.isdir(directory):
        yield Finding("RINGBUF_DIR", "note", f"{directory} will be made by the first tracer")
        return
    if not os.access(directory, os.W_OK | os.X_OK):
        yield Finding("RINGBUF_DIR", "warn", f"{directory} cannot be written to: tracers use anonymous memory")
        return
    dead = [region for region in find(directory) if not (region.used or region.problem)]
    left = f"{len(dead)} files of dead processes, {sum(region.size for region in dead) >> 20} MiB"
    yield Finding("RINGBUF_DIR", "ok", f"{directory}: {left if dead else 'nothing is left of dead processes'}")


def _kernel() -> Iterator[Finding]:
    try:
        found = find_tracefs()
    except RingbufError as error:
        yield Finding("kernel events", "note", f"not for you: {error}")
    else:
        yield Finding("kernel events", "ok", f"ringbuf record --kernel reads {found}")


def _tools() -> Iterator[Finding]:
    command = shutil.which("babeltrace2")
    if command is None:
        yield Finding("babeltrace2", "note", "not installed; ringbuf view prints traces as well")
    else:
        done = subprocess.run([command, "--version"], capture_output=True, text=True, check=False)
        yield Finding("babeltrace2", "ok", done.stdout.partition("\n")[0])
    there = [name for name in ("pyarrow", "pandas", "polars") if importlib.util.find_spec(name)]
    text = ", ".join(there) or "none of pyarrow (for Parquet), pandas, polars"
    yield Finding("tables", "ok" if there else "note", text)


def _spares() -> Iterator[Finding]:
    """Have channels in use lost records because threads were paused?"""
    for path, _ in open_channels():
        with contextlib.suppress(RingbufError, OSError), look(path) as channel:  # it may have ended
            hint = spares_hint(channel.stats(), channel)
            if hint:
                yield Finding(f"channel {printable(channel.name)}", "warn", f"{hint}: make n_spares larger")


_CHECKS = (_build, _recording, _deaths, _clock, _cpu_number, _shared_memory, _flights, _spares, _kernel, _tools)


def _text_of(path: str) -> str:
    with contextlib.suppress(OSError):
        return Path(path).read_text(errors="replace")
    return ""
