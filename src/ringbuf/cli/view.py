"""Print a trace, one line for each record; with --json, one object. With -f, a recording or a ring as it goes on.

What is followed is a directory that is being written, or the ring of a living process, by its pid or by the path of
its file: nothing is taken out of it, unless --consume says so. Of a flight recorder only full packets show:
--flush ends those that are not, at the cost of the oldest ones.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from ..errors import TraceError
from ..texts import printable_lines
from ..trace.choose import is_of
from ..trace.plain import to_json
from ..trace.threads import is_named
from . import _progress, _selection
from ._numbers import count, seconds, target

__all__ = ["configure", "run"]

_PERIOD = 0.5  # seconds between two looks


def configure(parser) -> None:
    _selection.configure(parser)
    _selection.configure_pairs(parser)
    parser.add_argument("--head", metavar="N", type=count, help="only the first N")
    parser.add_argument("--tail", metavar="N", type=count, help="only the last N")
    parser.add_argument("-f", "--follow", action="store_true", help="go on as records come; DIR may be a pid or a path")
    parser.add_argument("--consume", action="store_true", help="-f: take the records out of the ring")
    parser.add_argument("--flush", action="store_true", help="-f: end packets that are not full, too")
    parser.add_argument("--timeout", metavar="SECONDS", type=seconds, help="-f: end when nothing has come for so long")


def run(args) -> int:
    if args.follow:
        return _follow(args)
    with _selection.opened(args) as trace:
        wanted = _selection.wanted(args, trace)
        chosen = _selection.chosen(args, trace, wanted)
        with _progress.shown(trace) if args.tail is not None else contextlib.nullcontext():
            for line in _wanted_lines(args, trace, wanted, chosen):
                sys.stdout.write(printable_lines(line))
        sys.stdout.flush()
        _selection.report(args, trace)
    return 0


def _wanted_lines(args, trace, wanted: dict, chosen: Callable | None) -> Iterable[str]:
    if chosen is not None:
        return _cut(_of_some(args, trace, wanted, chosen), args.head, args.tail)
    if args.tail is None or args.head is not None:
        return _cut(_parts(args, trace, wanted), args.head, args.tail)
    return _tail(args, trace, wanted)


def _tail(args, trace, wanted: dict) -> Iterable[str]:
    """From the last packets; if one of them is damaged, what is whole may be before them."""
    near = trace.near_the_end(args.tail + 1, **wanted)  # a line says how long after the one before
    lines, error = _last(_lines(_parts(args, trace, near)), args.tail)
    if error is not None and len(lines) < args.tail:
        lines, error = _last(_lines(_parts(args, trace, wanted)), args.tail)
    return lines if error is None else _then_raise(lines, error)


def _parts(args, trace, wanted: dict) -> Iterable[str]:
    return map(_object, trace.records(**wanted)) if args.json else trace.iter_text(**wanted)


def _of_some(args, trace, wanted: dict, is_wanted: Callable) -> Iterator[str]:
    """Lines and records come in the same order."""
    lines = itertools.repeat("") if args.json else _lines(trace.iter_text(**wanted))
    for record, line in zip(trace.records(**wanted), lines, strict=False):
        if is_wanted(record):
            yield _object(record) if args.json else line


def _object(record) -> str:
    about = {"timestamp": record.time_ns, "name": record.name, "cpu": record.cpu}
    return to_json({**about, "contexts": record.contexts, "fields": record.fields}) + "\n"


def _lines(parts: Iterable[str]) -> Iterator[str]:
    return itertools.chain.from_iterable(io.StringIO(part, newline="\n") for part in parts)


def _cut(parts: Iterable[str], head: int | None, tail: int | None) -> Iterable[str]:
    if head is None and tail is None:
        return parts
    lines = _lines(parts)
    if head is not None:
        lines = itertools.islice(lines, head)
    if tail is None:
        return lines
    kept, error = _last(lines, tail)
    return kept if error is None else _then_raise(kept, error)


def _last(lines: Iterator[str], n: int) -> tuple[deque[str], TraceError | None]:
    """The last `n`; where the trace is damaged, those before the damage, and the error."""
    kept: deque[str] = deque(maxlen=n)
    try:
        kept.extend(lines)
    except TraceError as error:
        return kept, error
    return kept, None


def _then_raise(lines: Iterable[str], error: Exception) -> Iterator[str]:
    yield from lines
    raise error


# ---- following ----


def _follow(args) -> int:
    if args.begin or args.end or args.tail is not None:
        raise ValueError("-f goes on from what is there: without --from, --to and --tail")
    if _selection.wanted_limits(args):
        raise ValueError(
            "-f shows records as they come, when nobody knows yet how long anything takes, nor in what it is"
        )
    if os.path.isdir(args.directory):
        if args.consume or args.flush:
            raise ValueError("--consume and --flush are for rings, and this is a directory")
        from ..live.follow import FollowedDirectory

        return _print_new(args, _looks(args, FollowedDirectory(args.directory)))
    from ..live.follow import FollowedChannel
    from ..live.sharing import attach

    with attach(target(args.directory)) as channel:
        # In a ring that does not overwrite itself, to end a packet early costs nothing that is there.
        source = FollowedChannel(channel, args.flush or channel.mode == "discard", args.consume)
        return _print_new(args, _looks(args, source))


def _looks(args, source) -> Iterator[str]:
    """Lines, and an empty text whenever there is no more for now."""
    while True:
        was_over = source.is_over
        look = source.look()
        if look.missed:
            print(f"ringbuf view: {look.missed} packets were overwritten before they were seen", file=sys.stderr)
        lines = itertools.repeat("") if args.json else _lines([look.text()])
        is_wanted = is_of(look.decoder.model.env, **_selection.wanted_threads(args))
        for record, line in zip(look.records(), lines, strict=False):
            if _is_named(args, record.name) and is_wanted(record):
                yield _object(record) if args.json else line
        if was_over:
            return
        yield ""


def _is_named(args, name: str) -> bool:
    return not args.event or is_named(name, tuple(args.event))


def _print_new(args, lines: Iterator[str]) -> int:
    left = args.head
    last = time.monotonic()
    for line in lines:
        if line:
            if left == 0:
                break
            left = left if left is None else left - 1
            last = time.monotonic()
            sys.stdout.write(printable_lines(line))
            continue
        sys.stdout.flush()
        if left == 0 or (args.timeout is not None and time.monotonic() - last >= args.timeout):
            break
        time.sleep(_PERIOD)
    return 0
