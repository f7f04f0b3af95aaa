"""Where time went: spans, calls or events of a trace, counted and measured by name, task, thread or process.

    print(trace.summary())
    slowest = trace.summary("span", sort="p99", top=10)

Percentiles are exact up to `_EXACT` durations in all; beyond, durations are counted in classes, and a
percentile is right to `_ERROR` of itself. So memory is bounded, whatever the trace.
"""

from __future__ import annotations

import collections
import html
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace

import numpy

from ..texts import printable
from .deaths import deaths
from .pairs import KERNEL, KINDS, MISSING
from .threads import event_counts
from .units import duration_text, short

__all__ = ["GROUPS", "SORTS", "Comparison", "Groups", "Row", "Summary", "compared", "summarized"]

_EXACT = 1 << 22  # durations
_BITS = 7  # of a duration, after the highest: what classes tell apart
_ERROR = 0.5 / (1 << _BITS)
_LOST, _DIED, _RESUMED = (MISSING.index(one) for one in ("lost", "died", "resumed"))
_QUANTILES = (50, 90, 99)

#: What can be counted.
GROUPS = ("span", "function", "event", "task", "thread", "process", "kernel")
#: What rows can be in order of.
SORTS = ("total", "self", "count", "min", "p50", "p90", "p99", "max", "errors", "missing", "name")


@dataclass(frozen=True, slots=True)
class Row:
    """What a summary says of one name.

    Attributes
    ----------
    kind : {"span", "call", "event", "run", "irq", "syscall"}
    name : str
        Of the span, function, event, task, thread, process, system call, interrupt, or thread that ran.
    where : str
        ``"file:line"`` of a function; else empty.
    count : int
        A call that went on after its task or greenlet had waited counts once; its parts are measured each.
    total : int or None
        Nanoseconds in it. Of functions and spans within themselves, the outermost alone counts; of tasks,
        threads and processes it is the sum of self times.
    self_time, min, p50, p90, p99, max : int or None
        Nanoseconds. None of events, which have no duration, and where all durations are unknown.
    errors : int
        Spans that an exception left.
    missing : int
        Those whose begin or end is not in the trace. Where it was lost, the duration is unknown,
        and left out of all times; else it counts as far as the trace goes.
    """

    kind: str
    name: str
    where: str
    count: int
    total: int | None = None
    self_time: int | None = None
    min: int | None = None
    p50: int | None = None
    p90: int | None = None
    p99: int | None = None
    max: int | None = None
    errors: int = 0
    missing: int = 0


_COLUMNS = {
    "count": "count", "total": "total", "self": "self_time", "min": "min", "p50": "p50", "p90": "p90", "p99": "p99",
    "max": "max", "errors": "errors", "missing": "missing",
}  # fmt: skip
_NAMELESS = {"task": "(no task)"}
_TIMES = ("total", "self", "min", "p50", "p90", "p99", "max")


@dataclass(frozen=True)
class Summary:
    """The rows of `Trace.summary`: iterable, printed as a table, shown as one in notebooks.

    Attributes
    ----------
    by : str
        What was counted, one of `GROUPS`, or "name": spans and functions.
    rows : tuple of Row
    left_out : int
        Rows there were beyond the first so many that were asked for.
    error : float
        By how much a percentile may be wrong, as a part of itself; 0: they are exact.
    set : tuple of str
        Of a set gathered from many machines: who is missing, died or ends before the others. Printed first.
    deaths : tuple of str
        Processes that ended while others went on, and those that left something open.
    """

    by: str
    rows: tuple[Row, ...]
    left_out: int = 0
    error: float = 0.0
    set: tuple[str, ...] = ()
    deaths: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def to_records(self) -> list[dict]:
        """A dict for each row: what pandas.DataFrame, polars.DataFrame and json take."""
        return [asdict(row) for row in self.rows]

    def as_dict(self) -> dict:
        found = {"by": self.by, "error": self.error, "left_out": self.left_out, "rows": self.to_records()}
        found["deaths"] = list(self.deaths)
        return {**found, "set": list(self.set)} if self.set else found

    def __str__(self) -> str:
        first = [*map(printable, self.set), ""] if self.set else []
        if not self.rows:
            return "\n".join([*first, "nothing was recorded that this counts"])
        return "\n".join([*first, _table(self._cells()), *self._notes()])

    def _repr_html_(self) -> str:
        head, *lines = self._cells()
        cells = "".join(f"<th>{html.escape(one)}</th>" for one in head)
        rows = "".join(_html_row(line) for line in lines)
        notes = "".join(f"<p>{html.escape(one)}</p>" for one in self._notes())
        first = "".join(f"<p>{html.escape(one)}</p>" for one in self.set)
        return f"{first}<table><thead><tr>{cells}</tr></thead><tbody>{rows}</tbody></table>{notes}"

    def _cells(self) -> list[list[str]]:
        shown = [name for name in _COLUMNS if any(getattr(row, _COLUMNS[name]) for row in self.rows) or name == "count"]
        names = collections.Counter(row.name for row in self.rows)
        lines = []
        for row in self.rows:
            cells = [_cell(name, getattr(row, _COLUMNS[name])) for name in shown]
            label = row.name or _NAMELESS.get(self.by, "(begin not recorded)")
            lines.append([*cells, f"{label} ({row.where})" if row.where and names[row.name] > 1 else label])
        return [[*shown, self.by if self.by in GROUPS else "name"], *lines]

    def _notes(self) -> list[str]:
        notes = [f"{self.left_out} more"] if self.left_out else []
        if self.error:
            notes.append(f"percentiles are right to {self.error:.1%} of themselves")
        return notes + list(map(printable, self.deaths))


def _table(lines: list[list[str]]) -> str:
    """Numbers to the right, the name at the end."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)][:-1]
    numbers = ("  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=False)) for line in lines)
    return "\n".join(f"{cells}  {printable(line[-1])}" for cells, line in zip(numbers, lines, strict=True))


def _html_row(line: list[str]) -> str:
    numbers = "".join(f'<td style="text-align:right">{html.escape(one)}</td>' for one in line[:-1])
    return f'<tr>{numbers}<td style="text-align:left">{html.escape(line[-1])}</td></tr>'


def _cell(name: str, value) -> str:
    if value is None:
        return "-"
    return duration_text(value) if name in _TIMES else short(value)


# ---- making one ----


def summarized(trace, by=None, **wanted) -> Summary:
    """See `Trace.summary`."""
    from ..fleet.health import set_lines

    return replace(_summarized(trace, by, **wanted), set=set_lines(trace))


def _summarized(trace, by=None, *, sort: str = "total", top: int | None = None, names=None, **wanted) -> Summary:
    if by is not None and by not in GROUPS:
        raise ValueError(f"a summary is by one of {', '.join(GROUPS)}, not {by!r}")
    if sort not in SORTS:
        raise ValueError(f"rows are sorted by one of {', '.join(SORTS)}, not {sort!r}")
    if by == "event":
        return _cut("event", _event_rows(trace, names, **wanted), sort, top, 0.0)
    kinds = {"span": ("span",), "function": ("call",), "kernel": KERNEL}.get(by, ("span", "call"))
    made = trace.pairs(names, kinds=kinds, **wanted)
    groups = Groups(made, by or "name")
    for part in made.iter_numpy():
        groups.add(part)
    rows = list(groups.rows())
    if by is None and not rows and not any((names, *wanted.values())):
        return _summarized(trace, "event", sort=sort, top=top)
    return replace(_cut(by or "name", rows, sort, top, groups.error), deaths=_deaths(trace, groups))


def _deaths(trace, groups: Groups) -> tuple[str, ...]:
    begin = (trace.time_range or (0, 0))[0]
    some = [(one, groups.died.get((one.host, one.pid), 0)) for one in deaths(trace, groups.threads)]
    return tuple(one.said(begin, n_open) for one, n_open in some if n_open or one.records or one.is_early)


def _cut(by: str, rows: Iterable[Row], sort: str, top: int | None, error: float) -> Summary:
    ordered = sorted(rows, key=_order(sort))
    shown = ordered if top is None else ordered[:top]
    return Summary(by, tuple(shown), len(ordered) - len(shown), error)


def _order(sort: str):
    if sort == "name":
        return lambda row: (row.name, row.kind, row.where)
    column = _COLUMNS[sort]

    def key(row: Row) -> tuple:
        value = getattr(row, column)
        return -(-1 if value is None else value), -row.count, row.name, row.where

    return key


def _event_rows(trace, names=None, **wanted) -> Iterator[Row]:
    """Records by name."""
    refused = [name for name in ("min_duration", "min_depth", "max_depth") if wanted.pop(name, None) is not None]
    if refused:
        raise ValueError(f"events have no {refused[0]}: a summary by spans or functions takes it")
    known = trace.event_names(names)
    some = {name: value for name, value in wanted.items() if value is not None}
    counts = event_counts(trace, known, **some) if some else trace.count()
    return (Row("event", name, "", counts[name]) for name in known if counts[name])


class Groups:
    """Counts, sums and durations of pairs, by group.

    Parameters
    ----------
    pairs : Pairs
        Whose rows will be added, as they are read.
    by : str
        One of `GROUPS`, or "name".
    """

    def __init__(self, pairs, by: str) -> None:
        self._pairs, self._by = pairs, by
        self._column = {"task": "task", "thread": "thread", "process": "thread"}.get(by, "name")
        self._sums = {name: numpy.zeros(0, "i8") for name in ("count", "total", "self", "errors", "missing")}
        self._low = self._high = numpy.zeros(0, "i8")
        self._durations = _Durations()
        self._processes: dict[tuple, int] = {}
        self.died: dict[tuple, int] = {}  # by host and pid: what it left open as it died

    @property
    def threads(self) -> list:
        """Those that were read of."""
        return self._pairs.threads

    @property
    def error(self) -> float:
        """By how much a percentile may be wrong, as a part of itself."""
        return self._durations.error

    def add(self, rows) -> None:
        """Count rows of `Pairs.iter_numpy`."""
        groups = self._groups_of(rows)
        died = rows["thread"][rows["end_missing"] == _DIED]
        for thread in died.tolist():
            who = self._pairs.threads[thread].process_id[:2]
            self.died[who] = self.died.get(who, 0) + 1
        size = max(int(groups.max()) + 1, len(self._low))
        known = (rows["begin_missing"] != _LOST) & (rows["end_missing"] != _LOST)
        counted = known if self._column != "name" else known & (self._pairs.paths["is_within"][rows["path"]] == 0)
        resumed = rows["begin_missing"] == _RESUMED
        missing = ((rows["begin_missing"] != 0) & ~resumed) | (rows["end_missing"] != 0)
        durations, own = rows["duration"], rows["self"]
        self._sum("count", groups[~resumed], 1, size)
        self._sum("self", groups[known], own[known], size)
        self._sum("total", groups[counted], (durations if self._column == "name" else own)[counted], size)
        self._sum("errors", groups[rows["error"] != 0], 1, size)
        self._sum("missing", groups[missing], 1, size)
        self._low, self._high = _longer(self._low, size, 2**63 - 1), _longer(self._high, size, -1)
        numpy.minimum.at(self._low, groups[known], durations[known])
        numpy.maximum.at(self._high, groups[known], durations[known])
        self._durations.add(groups[known], durations[known])

    def _groups_of(self, rows):
        """A number for each name, thread or whatever, of each kind."""
        numbers = rows[self._column].astype("i8")
        if self._by == "process":
            processes = self._processes
            ids = [processes.setdefault(one.process_id, len(processes)) for one in self._pairs.threads]
            numbers = numpy.array(ids, "i8")[numbers]
        return len(KINDS) * numbers + numpy.searchsorted(list(KINDS), rows["kind"])

    def _sum(self, name: str, groups, what, size: int) -> None:
        self._sums[name] = _longer(self._sums[name], size, 0)
        if isinstance(what, int):
            self._sums[name] += numpy.bincount(groups, minlength=size)
        else:
            numpy.add.at(self._sums[name], groups, what)

    # ---- rows ----

    def rows(self) -> Iterator[Row]:
        quantiles = self._durations.quantiles()
        names = self._names()
        for group in numpy.flatnonzero(self._sums["count"]).tolist():
            count, total, own, errors, missing = (int(sums[group]) for sums in self._sums.values())
            number, which = divmod(group, len(KINDS))
            kind, (name, where) = tuple(KINDS.values())[which], names[number]
            if group not in quantiles:  # all of them were lost in part
                yield Row(kind, name, where, count, errors=errors, missing=missing)
                continue
            low, high = int(self._low[group]), int(self._high[group])
            middle = [min(max(value, low), high) for value in quantiles[group]]
            yield Row(kind, name, where, count, total, own, low, *middle, high, errors, missing)

    def _names(self) -> list[tuple[str, str]]:
        pairs = self._pairs
        if self._by == "process":
            titles = {one.process_id: one.process_title for one in pairs.threads}
            return [(titles[one], "") for one in self._processes]
        if self._column == "name":
            return [(name, f"{one.file}:{one.line}" if one else "")
                    for name, one in zip(pairs.names, pairs.functions, strict=True)]  # fmt: skip
        return [(str(one), "") for one in (pairs.texts if self._column == "task" else pairs.threads)]


def _longer(values, size: int, filler: int):
    return values if len(values) >= size else numpy.append(values, numpy.full(size - len(values), filler, "i8"))


# ---- percentiles ----


class _Durations:
    """Durations by group: all of them, or, where those are too many, how many there are of each class."""

    def __init__(self) -> None:
        self.error = 0.0
        self._parts: list[tuple] = []
        self._n = 0
        self._keys, self._counts = numpy.zeros(0, "i8"), numpy.zeros(0, "i8")

    def add(self, groups, durations) -> None:
        self._parts.append((groups, durations.copy()))
        self._n += len(groups)
        if self._n > _EXACT or self.error and self._n > _EXACT // 8:
            self._classify()

    def _classify(self) -> None:
        keys = [self._keys, *(groups << 16 | _class_of(durations) for groups, durations in self._parts)]
        counts = [self._counts, *(numpy.ones(len(groups), "i8") for groups, _ in self._parts)]
        self._keys, places = numpy.unique(numpy.concatenate(keys), return_inverse=True)
        self._counts = numpy.zeros(len(self._keys), "i8")
        numpy.add.at(self._counts, places, numpy.concatenate(counts))
        self._parts, self._n, self.error = [], 0, _ERROR

    def quantiles(self) -> dict[int, tuple[int, ...]]:
        """By group: the smallest duration that so many per cent do not exceed, for each of `_QUANTILES`."""
        if self.error:
            self._classify()
            groups, values, counts = self._keys >> 16, _duration_of(self._keys & 0xFFFF), self._counts
        elif self._parts:
            groups, values = (numpy.concatenate(parts) for parts in zip(*self._parts, strict=True))
            order = numpy.lexsort((values, groups))
            groups, values, counts = groups[order], values[order], numpy.ones(len(order), "i8")
        else:
            return {}
        found, starts = numpy.unique(groups, return_index=True)
        sums = numpy.cumsum(counts)
        edges = numpy.append(starts, len(groups))
        result = {}
        for group, first, end in zip(found.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            before = int(sums[first - 1]) if first else 0
            n = int(sums[end - 1]) - before
            ranks = [before + -(-n * per_cent // 100) for per_cent in _QUANTILES]
            places = numpy.searchsorted(sums, ranks)
            result[group] = tuple(values[places].tolist())
        return result


def _class_of(durations):
    """The place of the highest bit, and the `_BITS` after it; small ones are a class of their own."""
    durations = numpy.maximum(durations, 0)
    high = numpy.frexp(durations.astype("f8"))[1].astype("i8") - 1
    high -= (durations >> numpy.maximum(high, 0)) == 0  # it was rounded up
    shift = numpy.maximum(high - _BITS, 0)
    return (shift << _BITS) + (durations >> shift)


def _duration_of(classes):
    """The middle of a class."""
    shift = numpy.maximum((classes >> _BITS) - 1, 0)
    return ((classes - (shift << _BITS)) << shift) + ((1 << shift) >> 1)


# ---- two of them ----


@dataclass(frozen=True)
class Comparison:
    """Two summaries, name by name. From `compared`.

    Attributes
    ----------
    rows : tuple of (Row or None, Row or None)
        Of the one and of the other; by how much the totals differ.
    """

    by: str
    rows: tuple[tuple[Row | None, Row | None], ...]

    def to_records(self) -> list[dict]:
        return [
            {"kind": (one or other).kind, "name": (one or other).name, "before": one and asdict(one),
             "after": other and asdict(other)}
            for one, other in self.rows
        ]  # fmt: skip

    def as_dict(self) -> dict:
        return {"by": self.by, "rows": self.to_records()}

    def __str__(self) -> str:
        shown = ("count", "total", "p50", "p99") if any((one or other).max for one, other in self.rows) else ("count",)
        head = [title for name in shown for title in (name, "then", "change")] + [self.by]
        lines = [head]
        for one, other in self.rows:
            cells = []
            for name in shown:
                before, after = (None if row is None else getattr(row, _COLUMNS[name]) for row in (one, other))
                cells += [_cell(name, before), _cell(name, after), _change(before, after)]
            lines.append([*cells, (one or other).name])
        return _table(lines)


def _change(before: int | None, after: int | None) -> str:
    if before is None or after is None:
        return "new" if before is None and after is not None else "gone"
    return f"{after / before - 1:+.0%}" if before else "-" if not after else "new"


def compared(one: Summary, other: Summary, top: int | None = None) -> Comparison:
    """Two summaries by the same, name by name: those first whose totals, or counts, differ most.

    >>> print(compared(before.summary(), after.summary()))
    """
    if one.by != other.by:
        raise ValueError(f"one summary is by {one.by}, the other by {other.by}")
    sides = [_by_key(one), _by_key(other)]
    keys = list(dict.fromkeys([*sides[0], *sides[1]]))
    rows = [(sides[0].get(key), sides[1].get(key)) for key in keys]
    column = "count" if one.by == "event" else "total"

    def difference(pair) -> int:
        before, after = (0 if row is None else getattr(row, column) or 0 for row in pair)
        return -abs(after - before)

    return Comparison(one.by, tuple(sorted(rows, key=difference)[:top]))


def _by_key(summary: Summary) -> dict[tuple, Row]:
    """By kind and name; where two functions have one name, in order of their places."""
    found: dict[tuple, Row] = {}
    for row in sorted(summary.rows, key=lambda row: row.where):
        key, n = (row.kind, row.name, 0), 0
        while key in found:
            n += 1
            key = row.kind, row.name, n
        found[key] = row
    return found
