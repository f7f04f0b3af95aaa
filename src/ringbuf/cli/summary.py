"""Say where the time of a trace went: by span, function, event, task, thread, process, or what the kernel told.

Without --by: spans and functions, or, where there are none, events. Percentiles are exact up to four million
durations; beyond, they are right to half a per cent. With --compare, what differs most comes first.
"""

from __future__ import annotations

from ..texts import printable_lines
from ..trace.plain import to_json
from ..trace.threads import UnknownName
from ..trace.trace import Trace
from . import _progress, _selection
from ._numbers import count

__all__ = ["configure", "run"]

_GROUPS = ("span", "function", "event", "task", "thread", "process", "kernel")
_SORTS = ("total", "self", "count", "min", "p50", "p90", "p99", "max", "errors", "missing", "name")


def configure(parser) -> None:
    _selection.configure(parser, "spans, functions or events")
    _selection.configure_pairs(parser)
    parser.add_argument("--by", choices=_GROUPS, help="what a row is of")
    parser.add_argument("--sort", choices=_SORTS, default="total", help="order of the rows (%(default)s)")
    parser.add_argument("--top", metavar="N", type=count, help="only the first N rows")
    parser.add_argument("--compare", metavar="OTHER", help="beside the same of another trace")


def run(args) -> int:
    with _selection.opened(args) as trace:
        if args.compare is None:
            found = _summary(args, trace, args.top)
        else:
            from ..trace.summary import compared

            with _selection.opened(args, args.compare) as other:
                _selection.report(args, other)
                found = compared(*_both(args, trace, other), args.top)
        print(printable_lines(to_json(found.as_dict()) if args.json else str(found)))
        _selection.report(args, trace)
    return 0


def _both(args, *traces: Trace) -> list:
    """Of two traces; where --event is in one of them alone, the other has no row."""
    found: list = []
    errors = []
    for trace in traces:
        try:
            found.append(_summary(args, trace, None))
        except UnknownName as error:
            found.append(None)
            errors.append(error)
    if len(errors) == len(traces):
        raise errors[0]
    from ..trace.summary import Summary

    by = next(one.by for one in found if one is not None)
    return [Summary(by, ()) if one is None else one for one in found]


def _summary(args, trace: Trace, top: int | None):
    with _progress.shown(trace, passes=2):
        return trace.summary(args.by, sort=args.sort, top=top, **_selection.wanted_pairs(args, trace))
