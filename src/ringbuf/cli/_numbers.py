"""Numbers on the command line: what is none, or out of range, is refused with a line that says what is wanted."""

from __future__ import annotations

import math
import os
import re
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable

from ..record.files import size_of

__all__ = [
    "MAX_SIZE", "add_choice_of_calls", "age", "choice_of_calls", "count", "duration", "pid", "port", "seconds", "size",
    "target",
]  # fmt: skip

MAX_SIZE = "of the trace's files, such as 500M: what is oldest leaves, and is counted"


def _one_of(parse: Callable, wanted: str) -> Callable:
    """A type for argparse: what `parse` makes of a text, or, if that is a ValueError, that `wanted` was expected."""

    def read(text: str):
        try:
            return parse(text)
        except (ValueError, OverflowError):
            raise ArgumentTypeError(f"{text!r} is not {wanted}") from None

    return read


def _whole(text: str, least: int, most: int) -> int:
    if not re.fullmatch(r"[0-9]{1,20}", text) or not least <= int(text) <= most:
        raise ValueError(text)
    return int(text)


def _scaled(text: str, units: dict[str, int]) -> float:
    """A number with one of these units."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([a-z]*)", text)
    if found is None or found[2] not in units or not math.isfinite(float(found[1])):
        raise ValueError(text)
    return float(found[1]) * units[found[2]]


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 1e6:
        raise ValueError(text)
    return number


def _bytes(text: str) -> int:
    number = size_of(text)
    if number > sys.maxsize:
        raise ValueError(text)
    return number


_NS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9}
_AGES = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}

#: A number of things.
count = _one_of(lambda text: _whole(text, 0, sys.maxsize), "a whole number from 0 on")
#: A process.
pid = _one_of(lambda text: _whole(text, 1, 2**31 - 1), "a process id")
#: Of TCP; 0: any that is free.
port = _one_of(lambda text: _whole(text, 0, 65535), "a port, 0 to 65535")
_depth = _one_of(lambda text: _whole(text, 1, 2**31 - 1), "a whole number from 1 on")
#: Nanoseconds: ``5us``, ``1.5ms``, ``2s``.
duration = _one_of(lambda text: round(_scaled(text, _NS)), "a duration such as 5us, 1.5ms or 2s")
#: How long to sleep, or how far back.
seconds = _one_of(_seconds, "a number of seconds from 0 to 1000000")
#: Seconds that a file is old: ``90s``, ``15m``, ``12h``, ``7d``.
age = _one_of(lambda text: _scaled(text, _AGES), "an age such as 90s, 15m, 12h or 7d")
#: Bytes: ``500M``, ``2G``.
size = _one_of(_bytes, "a size such as 4096, 500M or 2G")


def add_choice_of_calls(parser) -> None:
    """Options that choose among calls of functions."""
    parser.add_argument(
        "--min-duration", metavar="TIME", type=duration, help="only calls that take so long, such as 1ms"
    )
    parser.add_argument(
        "--max-depth", metavar="N", type=_depth, help="only calls within fewer than N others: 1 are the outermost"
    )


def choice_of_calls(args) -> dict[str, list[str]]:
    """What they choose, as `inject.WORDS`. ValueError: without functions."""
    given = {"min-duration": args.min_duration and f"{args.min_duration / 1e9:.9f}", "max-depth": args.max_depth}
    found = {name: [str(value)] for name, value in given.items() if value}
    if found and not args.functions:
        raise ValueError(f"--{' and --'.join(found)} choose among calls: add --functions")
    return found


def target(text: str) -> int | str:
    """What `ringbuf.attach` takes: a pid, or a path. ValueError: it is a trace, which other commands read."""
    if os.path.isfile(os.path.join(text, "metadata")):
        raise ValueError(f"{text}: a trace, and not a channel: ringbuf info and ringbuf view read it")
    return int(text) if text.isdecimal() else text
