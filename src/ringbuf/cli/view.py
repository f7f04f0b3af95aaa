"""Print a trace, one line for each record; with --json, one object."""

from __future__ import annotations

import io
import itertools
import sys
from collections import deque
from collections.abc import Iterable, Iterator

from ..trace.plain import to_json
from . import _selection
from ._numbers import count

__all__ = ["configure", "run"]


def configure(parser) -> None:
    _selection.configure(parser)
    parser.add_argument("--head", metavar="N", type=count, help="only the first N")
    parser.add_argument("--tail", metavar="N", type=count, help="only the last N")


def run(args) -> int:
    with _selection.opened(args) as trace:
        wanted = _selection.wanted(args, trace)
        parts = _objects(trace.records(**wanted)) if args.json else trace.iter_text(**wanted)
        sys.stdout.writelines(_cut(parts, args.head, args.tail))
        sys.stdout.flush()
        _selection.report(args, trace)
    return 0


def _objects(records) -> Iterator[str]:
    for one in records:
        about = {"timestamp": one.timestamp, "name": one.name, "cpu": one.cpu}
        yield to_json({**about, "contexts": one.contexts, "fields": one.fields}) + "\n"


def _cut(parts: Iterable[str], head: int | None, tail: int | None) -> Iterable[str]:
    if head is None and tail is None:
        return parts
    lines = itertools.chain.from_iterable(io.StringIO(part, newline="\n") for part in parts)
    if head is not None:
        lines = itertools.islice(lines, head)
    return lines if tail is None else deque(lines, tail)
