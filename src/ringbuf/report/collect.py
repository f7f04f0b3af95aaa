"""One pass over a trace: all that the page shows, in bounded memory.

Slices are spans and calls. The most telling ones are kept one by one (keep.py), the others are counted by lane and
time; so are records of which there are too many. Sums, percentiles, histograms and the flame graph of the
whole are of all of them.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass

import numpy

from .._decode import Levels, packed_rows
from ..errors import TraceError
from ..trace.about import about
from ..trace.counters import is_counted
from ..trace.deaths import deaths
from ..trace.meanings import IDENTITY, ended, meaning
from ..trace.pairs import KINDS, MISSING
from ..trace.plain import plain
from ..trace.summary import Groups
from ..trace.threads import is_named, is_one_of, several
from .columns import packed
from .findings import findings
from .graphs import Graphs
from .keep import Kept, is_special
from .tracks import DEPTHS, KIND_OF, Tracks

__all__ = ["Collected", "collected"]

_SLICES, _CELLS = 120_000, 160_000  # that are kept; of the others, how many cells
_POINTS, _POINT_CELLS = 40_000, 60_000  # the same of records that are neither begin nor end
_DETAILS = 15_000  # slices, and records, that have their fields
_TEXT = 300  # characters of a value
_ROWS = 1500  # of the table
_PATHS = 12_000  # of the flame graph of the whole
_LOSSES = 1000
_LINKS = 20_000
_MOST_ROWS = 1024  # of slices that overlap, one below the other
_CLASSES = 4  # of a histogram, for each doubling
_OF_CPUS = [number for number, kind in KINDS.items() if kind in ("run", "irq")]  # that is nobody's time but the CPUs'


@dataclass(frozen=True)
class Collected:
    """What the page is made of: `data` as of `columns.packed`, and some words for who runs no script."""

    data: bytes
    words: str


def collected(trace, names=None, *, begin=None, end=None, min_duration=None, min_depth=None, max_depth=None, **who):
    """Read a trace, or the part of it that `Pairs.where` and `Trace.records` would give."""
    limits = {"min_duration": min_duration, "min_depth": min_depth, "max_depth": max_depth}
    return _Collector(trace, several(names), begin, end, limits, {k: v for k, v in who.items() if v is not None}).run()


class _Collector:
    def __init__(self, trace, names: tuple, begin, end, limits: dict, who: dict) -> None:
        self._trace = trace
        first, last = trace.time_range or (0, 0)
        self._first = first if begin is None else min(max(first, begin), last)
        self._last = last if end is None else max(min(last, end), self._first)
        self._who = {name: several(one) for name, one in who.items()}
        self._names = names
        self._events = trace.event_classes
        self._pairs = _chosen(trace, names, begin=begin, end=end, **limits, **who)
        self._bounds = begin, end
        self._tracks = Tracks()
        self._levels = Levels(self._first, self._last, _CELLS)
        self._points_level = Levels(self._first, self._last, _POINT_CELLS)
        self._kept = Kept(_SLICES, self._count_slices)
        self._groups = Groups(self._pairs, "name")
        self._histogram = numpy.zeros(0, "i8")
        self._flame = numpy.zeros(0, "i8")
        self._kinds = numpy.zeros(0, "i8")  # by name
        self._errors: dict[int, int] = {}
        self._points: list = []
        self._is_shown = numpy.array(
            [meaning(one) not in ("code", "link") and not is_counted(one) for one in self._events], "?"
        )
        self._n_points = numpy.zeros(len(self._events), "i8")
        self._graphs = Graphs(trace, self._first, self._last)

    def run(self) -> Collected:
        self._about = about(self._trace)
        self._kept_events = self._rare_events()
        for rows in self._pairs.iter_numpy(heard=self._add_points):
            self._add(rows)
        return self._finished()

    # ---- while it is read ----

    def _rare_events(self):
        """By event class: are all of its records kept? The rare ones are, as long as there is room."""
        counts = numpy.array([self._about.events.get(event.name, 0) for event in self._events], "i8")
        order = numpy.argsort(counts, kind="stable")
        keep = numpy.zeros(len(counts), "?")
        keep[order] = numpy.cumsum(counts[order]) <= _POINTS
        return keep

    def _add(self, rows) -> None:
        self._groups.add(rows)
        classes = _class_of(rows["duration"])
        self._histogram = _summed(self._histogram, rows["name"].astype("i8") * 256 + classes, None)
        of_cpus = numpy.isin(rows["kind"], _OF_CPUS)
        ours = rows[~of_cpus] if of_cpus.any() else rows
        self._flame = _summed(self._flame, ours["path"], numpy.maximum(ours["self"], 0))
        self._kinds = _longer(self._kinds, len(self._pairs.names))
        self._kinds[rows["name"]] = rows["kind"]
        errors, counts = numpy.unique(rows["error"], return_counts=True)
        for error, count in zip(errors.tolist(), counts.tolist(), strict=True):
            self._errors[error] = self._errors.get(error, 0) + count
        tracks = numpy.zeros(len(rows), "u4")
        for kind, name in KINDS.items():
            some = rows["kind"] == kind
            if some.any():
                tracks[some] = self._tracks.of(KIND_OF[name], rows["thread"][some], rows["task"][some])
        self._tracks.note_depths(tracks, numpy.minimum(rows["depth"], DEPTHS - 1))
        self._kept.add(rows, tracks)

    def _count_slices(self, rows, tracks) -> None:
        lanes = tracks * numpy.uint32(DEPTHS) + numpy.minimum(rows["depth"], DEPTHS - 1)
        self._levels.add(lanes.astype("u4"), rows["begin"], rows["duration"], rows["self"], rows["path"])

    def _add_points(self, marks) -> None:
        marks = marks[self._wanted_points(marks)]
        if not len(marks):
            return
        self._n_points += numpy.bincount(marks["name"], minlength=len(self._events))
        keep = self._kept_events[marks["name"]]
        if keep.any():
            self._points.append(marks[keep])
        rest = marks[~keep]
        if len(rest):
            lanes = self._tracks.of(0, self._pairs.numbers_of(rest), numpy.zeros(len(rest), "u4"))
            nothing = numpy.zeros(len(rest), "i8")
            self._points_level.add(lanes, rest["timestamp"], nothing, nothing, rest["name"])

    def _wanted_points(self, marks):
        keep = self._is_shown[marks["name"]]
        begin, end = self._bounds
        if begin is not None:
            keep &= marks["timestamp"] >= begin
        if end is not None:
            keep &= marks["timestamp"] <= end
        if self._names:
            keep &= numpy.array([is_named(event.name, self._names) for event in self._events])[marks["name"]]
        if self._who and len(marks):
            of = numpy.array([is_one_of(one, self._who) for one in self._pairs.threads] or [False])
            keep &= of[numpy.minimum(self._pairs.numbers_of(marks), len(of) - 1)]
            if "task" in self._who:
                keep &= numpy.array([is_named(one, self._who["task"]) for one in self._pairs.texts])[marks["task"]]
        return keep

    # ---- when all is read ----

    def _finished(self) -> Collected:
        self._paths = self._pairs.paths
        rows, tracks = self._kept.finish()
        if rows is None:
            rows, tracks = numpy.zeros(0, _dtype_of_rows()), numpy.zeros(0, "u4")
        rows, tracks, lines = self._arranged(rows, tracks)
        points = self._arranged_points()
        cells, point_cells = self._levels.cells(), self._points_level.cells()
        tops = numpy.append(self._tracks.tops(), 0)
        numbers, paths = self._used_paths(rows["path"], cells["what"])
        columns = {
            "begin": rows["begin"] - self._first,
            "duration": rows["duration"],
            "self": rows["self"],
            "path": numbers[rows["path"]],
            "name": rows["name"],
            "track": tracks,
            "row": lines,
            "error": rows["error"],
            "task": rows["task"],
            "thread": rows["thread"],
            "endThread": rows["end_thread"],
            "beginMissing": rows["begin_missing"],
            "endMissing": rows["end_missing"],
            "depth": rows["depth"],
            "parent": _parents(rows),
            "pathAbove": paths["above"],
            "pathName": paths["name"],
            "cellTrack": cells["lane"] // DEPTHS,
            "cellRow": cells["lane"] % DEPTHS - tops[numpy.minimum(cells["lane"] // DEPTHS, len(tops) - 1)],
            "cellBin": cells["bin"],
            "cellN": cells["n"],
            "cellCovered": cells["covered"],
            "cellSelf": cells["self"],
            "cellPath": numbers[cells["what"]],
            "pointTrack": points["track"],
            "pointTime": points["timestamp"] - self._first,
            "pointEvent": points["name"],
            "pointCellTrack": point_cells["lane"],
            "pointCellBin": point_cells["bin"],
            "pointCellN": point_cells["n"],
            "pointCellEvent": point_cells["what"],
            **self._flame_columns(numbers),
            **self._graphs.columns(),
        }
        head = self._head(rows, points)
        near = (
            "begin", "track", "row", "thread", "task", "pathAbove", "cellTrack", "cellBin", "pointTrack", "pointTime",
            "pointCellTrack", "pointCellBin", "graphTime",
        )  # fmt: skip
        return Collected(packed(head, columns, near), str(self._about))

    def _arranged(self, rows, tracks):
        """By track and begin, with the row of each."""
        order = numpy.lexsort((rows["depth"], -rows["duration"], rows["begin"], tracks))
        rows, tracks = rows[order], tracks[order]
        tops = numpy.append(self._tracks.tops(), 0)
        wanted = numpy.maximum(rows["depth"] - tops[tracks], 0).astype("u4")
        begins = numpy.ascontiguousarray(rows["begin"])
        ends = numpy.maximum(begins + rows["duration"], begins + 1)
        lines = packed_rows(tracks.astype("u4"), begins, ends, wanted, _MOST_ROWS)
        order = numpy.lexsort((begins, lines, tracks))
        return rows[order], tracks[order], lines[order]

    def _arranged_points(self):
        kind = [("track", "u4"), ("timestamp", "i8"), ("name", "u4"), ("at", "u8")]
        if not self._points:
            return numpy.zeros(0, kind)
        marks = numpy.concatenate(self._points)
        found = numpy.zeros(len(marks), kind)
        found["track"] = self._tracks.of(0, self._pairs.numbers_of(marks), numpy.zeros(len(marks), "u4"))
        for name in ("timestamp", "name", "at"):
            found[name] = marks[name]
        return found[numpy.lexsort((found["timestamp"], found["track"]))]

    def _used_paths(self, *some):
        """New numbers for the paths that are used, with all above them; and these."""
        used = numpy.zeros(max(1, len(self._paths)), "?")
        used[0] = True
        for paths in (*some, self._hottest()):
            while len(paths):
                paths = numpy.unique(paths)
                paths = paths[~used[paths]]
                used[paths] = True
                paths = self._paths["above"][paths]
        numbers = numpy.cumsum(used) - 1
        found = self._paths[used].copy() if len(self._paths) else numpy.zeros(1, self._paths.dtype)
        found["above"] = numbers[found["above"]]
        return numbers, found

    def _hottest(self):
        """The paths in which most time was spent."""
        order = numpy.argsort(self._flame)[::-1][:_PATHS]
        return order[self._flame[order] > 0].astype("u4")

    def _flame_columns(self, numbers) -> dict:
        """Self times by path; of those that are left out, with the nearest that is not."""
        paths = self._hottest()
        return {"flamePath": numbers[paths], "flameSelf": self._flame[paths]}

    # ---- what explains the numbers ----

    def _head(self, rows, points) -> dict:
        trace, pairs, numbers = self._trace, self._pairs, self._processes()
        table = sorted(self._groups.rows(), key=lambda row: -(row.total or 0))
        names = [plain(name) or "(begin not recorded)" for name in pairs.names]
        found = {
            "title": plain(trace.path.rstrip("/").rpartition("/")[2] or trace.path),
            "path": plain(trace.path),
            "env": {plain(name): plain(value) for name, value in trace.env.items()},
            "begin": str(self._first),  # more digits than a number of JavaScript's has
            "length": self._last - self._first,
            "isEmpty": not trace.packets,
            "width": self._levels.width,
            "pointWidth": self._points_level.width,
            "names": names,
            "kinds": [KINDS.get(kind, "span") for kind in _longer(self._kinds, len(names)).tolist()],
            "places": [f"{plain(one.file)}:{one.line}" if one else "" for one in pairs.functions],
            "events": [plain(event.name) for event in self._events],
            "eventCounts": self._n_points.tolist(),
            "texts": [plain(text) for text in pairs.texts],
            "missing": [one or "" for one in MISSING],
            "threads": [_thread(one, self._first, numbers[one.process_id]) for one in pairs.threads],
            "tracks": [[one.thread, one.task, one.kind] for one in self._tracks.all],
            "table": [self._table_row(row) for row in table[:_ROWS]],
            "tableLeft": max(0, len(table) - _ROWS),
            "tableError": self._groups.error,
            "histograms": self._histograms(table[:_ROWS], names),
            "classes": _CLASSES,
            "errors": {plain(pairs.texts[error]): n for error, n in self._errors.items() if error},
            "leftOut": self._kept.n_left,
            "slices": len(rows) + self._kept.n_left,
            "details": self._details(rows, points),
            "lost": self._lost(),
            "links": self._links(rows),
            "graphs": self._graphs.head(),
            "about": [[plain(title), plain(text)] for title, text in self._about.lines()],
            "notRecorded": [list(map(plain, one)) for one in self._about.not_recorded],
            "damage": [
                {"text": plain(str(one)), "begin": self._offset(one.begin), "end": self._offset(one.end)}
                for one in self._about.damage
            ],
            "deaths": self._deaths(rows),
        }
        found["findings"] = findings(found, rows, points, self._first)
        return found

    def _processes(self) -> dict[tuple, int]:
        """Numbers of processes, by what tells them apart."""
        found: dict[tuple, int] = {}
        for one in self._pairs.threads:
            found.setdefault(one.process_id, len(found))
        return found

    def _links(self, rows) -> list[list[int]]:
        """[from, to] of the spans that follow from others, as far as both are kept."""
        spans = numpy.flatnonzero(rows["kind"] == min(KINDS))
        places = dict(zip(rows["id"][spans].tolist(), spans.tolist(), strict=True))
        flows = itertools.islice(self._trace.flows(begin=self._first, end=self._last), _LINKS)
        return [[places[one.source], places[one.target]] for one in flows if {one.source, one.target} <= places.keys()]

    def _offset(self, time):
        return None if time is None else time - self._first

    def _table_row(self, row) -> dict:
        found = asdict(row)
        found["name"] = plain(row.name) or "(begin not recorded)"
        found["where"] = plain(row.where)
        return found

    def _histograms(self, table, names: list[str]) -> dict:
        """By number of the name: [class, count, class, count, ...]."""
        shown = {plain(row.name) or "(begin not recorded)" for row in table}
        found = {}
        for key in numpy.flatnonzero(self._histogram).tolist():
            name, which = divmod(key, 256)
            if names[name] in shown:
                found.setdefault(name, []).extend((which, int(self._histogram[key])))
        return found

    def _lost(self) -> dict:
        losses = [one for one in self._about.losses if one.end >= self._first and one.begin <= self._last]
        shown = sorted(sorted(losses, key=lambda one: -(one.events + one.packets))[:_LOSSES])
        return {
            "events": self._about.events_lost,
            "packets": self._about.packets_lost,
            "places": [
                [one.begin - self._first, one.end - self._first, one.cpu, one.events, one.packets] for one in shown
            ],
            "left": len(losses) - len(shown),
        }

    def _deaths(self, rows) -> list[dict]:
        """Of the threads whose process ended; `isDeath`: in the middle of a record, a span or a call."""
        threads = self._pairs.threads
        unended = rows["thread"][numpy.isin(rows["end_missing"], [MISSING.index("died")])]
        busy = {threads[number].process_id[:2] for number in numpy.unique(unended).tolist()}
        gone = ended(self._trace)
        busy |= {(one.host, one.pid) for one in gone if one.open}
        early = {(one.host, one.pid) for one in deaths(self._trace, threads) if one.is_early}
        last: dict[tuple, int] = {}
        for thread in threads:
            who = thread.process_id[:2]
            last[who] = max(last.get(who, thread.last), thread.last)
        ids = self._processes()
        return [
            {
                "pid": one.pid,
                "processes": [number for (host, pid, _), number in ids.items() if (host, pid) == who],
                "tid": one.tid,
                "open": one.open,
                "thread": plain(one.thread),
                "last": self._offset(max(last.get(who, 0), one.seen or 0)) if who in last or one.seen else None,
                "isEarly": who in early,
                "isDeath": who in busy,
                "heard": self._offset(last.get(who, one.last)),
            }
            for one in gone
            for who in [(one.host, one.pid)]
        ]

    def _details(self, rows, points) -> dict:
        """By number of the slice, and of the point: names and values of its fields."""
        slices = numpy.arange(len(rows))
        if len(rows) > _DETAILS:
            order = numpy.lexsort((rows["duration"], is_special(rows)))
            slices = order[len(rows) - _DETAILS :]
        places = numpy.where(rows["begin_at"] == 2**64 - 1, rows["end_at"], rows["begin_at"])
        chosen = numpy.arange(len(points))[:_DETAILS]
        found = {
            "slices": self._fields(slices, places),
            "errors": self._error_texts(rows),
            "points": self._fields(chosen, points["at"]),
        }
        return found

    def _fields(self, which, places) -> dict:
        found = {}
        for index in which[numpy.argsort(places[which], kind="stable")].tolist():
            record = self._record(int(places[index]))
            fields = {} if record is None else _shown(record)
            if fields:
                found[index] = fields
        return found

    def _error_texts(self, rows) -> dict:
        some = numpy.flatnonzero(rows["error"] != 0)[:_DETAILS]
        found = {}
        for index in some[numpy.argsort(rows["end_at"][some], kind="stable")].tolist():
            record = self._record(int(rows["end_at"][index]))
            if record is not None:
                found[index] = _cut(record.fields.get("error", ""))
        return found

    def _record(self, place: int):
        try:
            return self._pairs.record_at(place)
        except TraceError:
            return None


def _chosen(trace, names: tuple, **wanted):
    """The spans and calls that are meant: where a name is an event's alone, none."""
    try:
        return trace.pairs(names or None, kinds=KINDS.values(), **wanted)
    except TraceError:
        if not any(is_named(event, names) for event in trace.events):
            raise
        return trace.pairs(kinds=KINDS.values(), **{**wanted, "min_duration": 2**62})


def _dtype_of_rows():
    from .._decode import Joiner

    return Joiner(0, None, 0, {}).take().dtype


def _thread(one, first: int, number: int) -> dict:
    return {
        "pid": one.pid, "tid": one.tid, "cpu": one.cpu, "process": plain(one.process), "name": plain(one.name),
        "number": number, "title": plain(one.process_title), "text": plain(str(one)),
        "first": one.first - first, "last": one.last - first,
    }  # fmt: skip


def _parents(rows):
    """By slice: its parent's place among them, or -1."""
    found = numpy.full(len(rows), -1, "i8")
    is_span = rows["kind"] == min(KINDS)
    for some in (
        numpy.flatnonzero(is_span),
        numpy.flatnonzero(~is_span),
    ):  # ids of all but spans are of one row of numbers
        order = some[numpy.argsort(rows["id"][some], kind="stable")]
        ids, wanted = rows["id"][order], rows["parent"][some]
        places = numpy.minimum(numpy.searchsorted(ids, wanted), max(0, len(ids) - 1))
        if len(some):
            is_there = (ids[places] == wanted) & (wanted != 0)
            found[some[is_there]] = order[places[is_there]]
    return found


def _shown(record) -> dict:
    hidden = ("span_id", "parent_id", "code")
    fields = {name: value for name, value in record.fields.items() if name not in hidden}
    contexts = {name: value for name, value in record.contexts.items() if name not in IDENTITY and name not in fields}
    return {_cut(name): _value(value) for name, value in {**fields, **contexts}.items()}


def _value(value):
    if isinstance(value, (bool, type(None))):
        return value
    if isinstance(value, (int, float)):
        return _cut(plain(value))  # JavaScript rounds what is beyond 2^53
    return _cut(plain(value))


def _cut(value) -> str:
    text = value if isinstance(value, str) else str(value)
    text = plain(text)
    return text if len(text) <= _TEXT else text[:_TEXT] + "\u2026"


def _class_of(durations):
    """Of a histogram: `_CLASSES` for each doubling."""
    return numpy.minimum(numpy.log2(numpy.maximum(durations, 1).astype("f8")) * _CLASSES, 255).astype("i8")


def _longer(values, size: int):
    return numpy.append(values, numpy.zeros(max(0, size - len(values)), values.dtype))


def _summed(sums, keys, values):
    """Add values (1 if None) to the sums that the keys name, with room made for them."""
    sums = _longer(sums, int(keys.max()) + 1 if len(keys) else 0)
    found = numpy.bincount(keys, values, minlength=len(sums))
    return sums + (found if values is None else numpy.rint(found).astype("i8"))
