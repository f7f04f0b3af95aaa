"""Chrome's JSON trace events, one to a line.

A call is one complete event, written when it ends: what has not ended is written last, as beginnings.
Times are microseconds from a whole second at or before the trace's beginning, which ``otherData`` has:
since 1970 they would not fit the doubles of those who read them.
"""

from __future__ import annotations

import functools

from ..plain import to_json
from .timeline import Track

__all__ = ["Writer"]

_MARGIN = 1_000_000  # what began before the trace begins less than this before it
_BETWEEN = ",\n"
_IDS = 1 << 22  # process and thread ids are below


class Writer:
    """See `timeline.Writer`."""

    native = "chrome"  #: the format's name in `_decode`, whose C code writes instants

    def __init__(self, write, trace) -> None:
        self._write = write
        start = (trace.time_range or (0, 0))[0]
        self.origin = (start - _MARGIN) // 10**9 * 10**9
        self._places: dict[Track, str] = {}
        about = {"origin_ns": self.origin, **trace.env}
        write(f'{{"displayTimeUnit":"ns","otherData":{to_json(about)},"traceEvents":['.encode())
        self._before = "\n"
        self._open: dict[Track, list[tuple]] = {}  # calls that have begun, innermost last

    def track(self, track: Track) -> None:
        # Rows are told apart by these two numbers: a second process image with the same id needs another one,
        # and so does a greenlet or task.
        tid = _IDS * 256 + track.id if track.kind == "strand" else track.tid or 0
        where = f'"pid":{(track.pid or 0) + _IDS * track.nth},"tid":{tid}'
        # "local": of this process. An "id" is the whole trace's, and viewers put its slices under no process.
        self._places[track] = where + (f',"id2":{{"local":"{track.id:#x}"}}' if track.kind == "spans" else "")
        if track.kind == "cpu":
            self._name("process_name", where, "CPUs")
            self._name("thread_name", where, track.name)
        elif track.kind == "strand":
            self._name("thread_name", where, f"{track.name} in {track.parent.name or track.tid}")
        elif track.kind == "process" and track.nth:
            self._name("process_name", where, f"{track.name or 'process'} {track.pid}, image {track.nth + 1}")
        elif track.kind not in ("spans", "counter") and track.name:
            self._name(f"{track.kind}_name", where, track.name)

    def begin(self, time, track, name, category, args, function) -> None:
        if function is not None:
            args = {"file": function.file, "line": function.line, **args}
        if track.kind == "spans":
            self._event("b", time, track, name, category, args)
        else:
            self._open.setdefault(track, []).append((time, name, category, args))

    def flow(self, outgoing, incoming) -> None:
        """Arrows of this format lead to slices of threads alone, and spans are none."""

    def end(self, time, track, name, category, args) -> None:
        if track.kind == "spans":
            self._event("e", time, track, name, category, args)
            return
        begin, name, category, before = self._open[track].pop()
        duration = f'X","dur":{(time - begin) / 1000!r},"cat":"{category}'
        self._event(duration, begin, track, name, None, {**before, **args})

    def instant(self, time, track, name, category, args) -> None:
        self._event('i","s":"t', time, track, name, category, args)

    def value(self, time, track, value) -> None:
        self._event("C", time, track, track.name, "counter", {track.unit or "value": value})

    def close(self) -> None:
        for track, calls in self._open.items():
            for time, name, category, args in calls:
                self._event("B", time, track, name, category, args)
        self._write(b"\n]}\n")

    # ---- for C code: parts of an instant as it writes them ----

    def raw(self, lines: bytes) -> None:
        """Events, each behind what separates it from the one before."""
        self._write(lines if self._before == _BETWEEN else lines[len(_BETWEEN) - 1 :])
        self._before = _BETWEEN

    def place(self, track: Track) -> bytes:
        return self._places[track].encode()

    def title(self, name: str, category: str) -> bytes:
        return f',"name":{_quoted(name)},"cat":"{category}"'.encode()

    def argument(self, name: str) -> bytes:
        return f"{_quoted(name)}:".encode()

    # ---- lines ----

    # `phase` may have members behind it.
    def _event(self, phase, time, track, name, category, args) -> None:
        head = f'"ph":"{phase}","ts":{(time - self.origin) / 1000!r},{self._places[track]}'
        kind = f',"cat":"{category}"' if category else ""
        more = f',"args":{to_json(args)}' if args else ""
        self._line(f'{head},"name":{_quoted(name)}{kind}{more}')

    def _name(self, what: str, where: str, name: str) -> None:
        self._line(f'"ph":"M",{where},"name":"{what}","args":{{"name":{_quoted(name)}}}')

    def _line(self, text: str) -> None:
        self._write(f"{self._before}{{{text}}}".encode())
        self._before = _BETWEEN


_quoted = functools.lru_cache(maxsize=4096)(to_json)
