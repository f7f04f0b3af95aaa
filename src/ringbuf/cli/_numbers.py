"""Numbers on the command line."""

from __future__ import annotations

__all__ = ["count", "seconds", "target"]


def count(text: str) -> int:
    """A number of things."""
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


def seconds(text: str) -> float:
    """How long to sleep."""
    number = float(text)
    if not 0 <= number <= 1e6:
        raise ValueError(text)
    return number


def target(text: str) -> int | str:
    """What `ringbuf.attach` takes: a pid, or a path."""
    return int(text) if text.isdecimal() else text
