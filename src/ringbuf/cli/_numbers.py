"""Numbers on the command line."""

from __future__ import annotations

import os
import re

from ..watch.rules import size_of

__all__ = ["MAX_SIZE", "count", "duration", "seconds", "size", "target"]

MAX_SIZE = "of the trace's files, such as 500M: what is oldest leaves, and is counted"


def count(text: str) -> int:
    """A number of things."""
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


_NS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9}


def duration(text: str) -> int:
    """Nanoseconds: ``5us``, ``1.5ms``, ``2s``."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m)", text)
    if found is None:
        raise ValueError(text)
    return round(float(found[1]) * _NS[found[2]])


def seconds(text: str) -> float:
    """How long to sleep."""
    number = float(text)
    if not 0 <= number <= 1e6:
        raise ValueError(text)
    return number


def size(text: str) -> int:
    """Bytes: ``500M``."""
    return size_of(text, "size")


def target(text: str) -> int | str:
    """What `ringbuf.attach` takes: a pid, or a path. ValueError: it is a trace, which other commands read."""
    if os.path.isfile(os.path.join(text, "metadata")):
        raise ValueError(f"{text}: a trace, and not a channel: ringbuf info and ringbuf view read it")
    return int(text) if text.isdecimal() else text
