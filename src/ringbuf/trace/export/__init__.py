"""A trace in the formats of other tools, chosen by the name of the file.

==================== =============================================================
``.pftrace``         Perfetto's protobuf, for ui.perfetto.dev and trace_processor
``.json``            Chrome's JSON, for the same and chrome://tracing
``.otlp.json``       spans and calls for OpenTelemetry, a request to a line
``.parquet``         a table, for pandas, polars, DuckDB, Spark
a directory          CTF, of the version that the trace has
==================== =============================================================

The name of a directory has no dot, ends with a slash, or is that of an empty one. The first two may end
with ``.gz`` as well. docs/formats.md says how records look in each.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import io
import os
from collections.abc import Callable, Iterator
from typing import IO

from ...output import directory_of
from ..choose import LIMITS, chooser
from . import chrome, ctf, otlp, parquet, perfetto
from .timeline import Timeline

__all__ = ["FORMATS", "export"]

_BUFFER = 1 << 20


def export(trace, path, *, events=None, begin=None, end=None, **more) -> None:
    """See `Trace.export`."""
    path = os.fsdecode(path)
    write = _format_of(path)
    folder = os.path.dirname(path) or os.curdir
    if trace.sources[0].place.is_at(folder):
        raise ValueError(f"{path}: every file in the directory of a trace is a stream of it: export to another")
    partition = more.pop("partition", None)
    if partition not in (None, "event") or (partition and write is not _write_parquet):
        raise ValueError("partition is 'event', and of Parquet alone")
    some = {name: one for name, one in more.items() if one is not None}
    if some and write in (_write_parquet, _write_ctf):
        what = "a table" if write is _write_parquet else "a trace in CTF"
        raise ValueError(f"{path}: {what} has records of some events and times, and takes no {next(iter(some))}")
    wanted = {"events": events, "begin": begin, "end": end, **some}
    write(trace, path, wanted | ({"partition": partition} if partition else {}))


def _format_of(path: str) -> Callable:
    for suffix, write in FORMATS.items():
        if path.endswith(suffix):
            return write
    if path.endswith("/") or "." not in os.path.basename(path) or os.path.isdir(path):
        return _write_ctf
    raise ValueError(f"{path}: the name of an export ends with one of {', '.join(FORMATS)}, or is a directory's")


def _write_timeline(writer_class, trace, path: str, wanted: dict) -> None:
    limits = {name: wanted.pop(name) for name in list(wanted) if name in LIMITS}
    names = wanted["events"] if limits else None
    more = {name: wanted.pop(name) for name in list(wanted) if name not in ("events", "begin", "end")}
    # An error before there is a file.
    is_wanted = chooser(trace, names, begin=wanted["begin"], end=wanted["end"], shaping=True, **more, **limits)
    wanted["events"] = None if limits else wanted["events"]
    trace.event_names(wanted["events"])
    with _draft(path) as draft, _packed(draft, path.endswith(".gz")) as file:
        writer = writer_class(file.write, trace)
        Timeline(trace, writer).write(**wanted, is_wanted=is_wanted)
        writer.close()


def _write_chrome(trace, path: str, wanted: dict) -> None:
    _write_timeline(chrome.Writer, trace, path, wanted)


def _write_perfetto(trace, path: str, wanted: dict) -> None:
    once = functools.partial(perfetto.Writer, compress=not path.endswith(".gz"))
    _write_timeline(once, trace, path, wanted)


def _write_otlp(trace, path: str, wanted: dict) -> None:
    trace.pairs(wanted["events"])  # an error before there is a file
    with _draft(path) as draft, _packed(draft, path.endswith(".gz")) as file:
        otlp.write(trace, file, **wanted)


def _write_ctf(trace, path: str, wanted: dict) -> None:
    ctf.write(trace, path.rstrip("/"), **wanted)


def _write_parquet(trace, path: str, wanted: dict) -> None:
    if wanted.pop("partition", None):
        parquet.write_partitions(trace, path, **wanted)
        return
    with _draft(path) as draft:
        parquet.write(trace, draft, **wanted)


#: What writes a file, by the end of its name.
FORMATS = {
    ".pftrace": _write_perfetto,
    ".pftrace.gz": _write_perfetto,
    ".otlp.json": _write_otlp,
    ".otlp.json.gz": _write_otlp,
    ".json": _write_chrome,
    ".json.gz": _write_chrome,
    ".parquet": _write_parquet,
}


@contextlib.contextmanager
def _draft(path: str) -> Iterator[IO[bytes]]:
    """A file that takes the place of `path` at the end, or is removed if there was an error."""
    with directory_of(path) as folder, folder.replacing(os.path.basename(path), durable=True) as draft:
        yield draft


@contextlib.contextmanager
def _packed(file: IO[bytes], compressed: bool) -> Iterator[IO[bytes]]:
    if compressed:
        packed = gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0)
        with io.BufferedWriter(packed, _BUFFER) as buffered:
            yield buffered
    else:
        yield file
