"""Which records are meant: those of some threads, those that begin and end some spans and calls."""

from __future__ import annotations

from collections.abc import Callable

from .meanings import meaning
from .threads import is_named, is_one_of, several, thread_of

__all__ = ["LIMITS", "chooser", "is_of"]

#: What only spans and calls have.
LIMITS = ("min_duration", "min_depth", "max_depth")
_ALWAYS = ("code", "strand", "switch", "image")  # they say what others mean


def is_of(env, **who) -> Callable:
    """Tells of a record whether it is of those threads and tasks, as for `Pairs.where`; None where all are meant."""
    wanted = {name: several(one) for name, one in who.items() if one is not None}

    def is_wanted(record) -> bool:
        get = record.contexts.get
        pid, tid = (env.get("vpid", -1) if get("vpid") is None else get("vpid")), get("vtid", -1)
        thread = thread_of(env, pid, tid, get("procname", ""), get("thread_name", ""), 0, 0, 0)
        return is_one_of(thread, wanted) and is_named(get("task_name", ""), wanted.get("task", ("*",)))

    return is_wanted


def chooser(trace, names=None, *, begin=None, end=None, shaping=False, **wanted) -> Callable | None:
    """Tells of a record of the trace whether it is meant; None: all are.

    Parameters
    ----------
    names, begin, end, **wanted
        As for `Pairs.where`. With a duration or depth, records are those that begin or end such spans and
        calls, and `names` are of these.
    shaping : bool
        Also records that say what others mean: names of functions, switches of tasks.
    """
    given = {name: one for name, one in wanted.items() if one is not None}
    limits = {name: one for name, one in given.items() if name in LIMITS}
    who = {name: one for name, one in given.items() if name not in LIMITS}
    kinds = {(event.name, event.id): meaning(event) for event in trace.event_classes}
    if not given:
        return None
    chosen = _Chosen(trace, kinds, names, begin, end, given).has if limits else is_of(trace.env, **who)
    if not shaping:
        return chosen
    return lambda record: kinds[record.name, record.event_id] in _ALWAYS or chosen(record)


class _Chosen:
    """Spans by their id; calls by the time and thread of their begin and end."""

    def __init__(self, trace, kinds: dict, names, begin, end, given: dict) -> None:
        self._kinds, self._env = kinds, trace.env
        self._spans: set[int] = set()
        self._calls: set[tuple] = set()
        pairs = trace.pairs(names, begin=begin, end=end, **given)
        for rows in pairs.iter_numpy():
            threads = [(one.pid, one.tid) for one in pairs.threads]
            is_span = rows["kind"] == 1
            self._spans.update(rows["id"][is_span].tolist())
            calls = rows[~is_span]
            for kind, some, times in (
                ("call", calls["begin_missing"] == 0, calls["begin"]),
                ("call_end", calls["end_missing"] == 0, calls["begin"] + calls["duration"]),
            ):
                keys = zip(times[some].tolist(), calls["thread"][some].tolist(), strict=True)
                self._calls.update((kind, time, *threads[thread]) for time, thread in keys)

    def has(self, record) -> bool:
        kind = self._kinds[record.name, record.event_id]
        if kind in ("span", "span_end"):
            return record.fields["span_id"] in self._spans
        if kind not in ("call", "call_end"):
            return False
        pid = record.contexts.get("vpid", self._env.get("vpid"))
        tid = record.contexts.get("vtid", None if "vpid" not in record.contexts else pid)
        return (kind, record.timestamp, pid, tid) in self._calls
