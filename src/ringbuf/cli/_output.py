"""What commands print: texts from anywhere, made safe for a terminal."""

from __future__ import annotations

from ..texts import printable

__all__ = ["say"]


def say(line: str, file=None) -> None:
    """Print a line, to stdout or `file`; what would do something to a terminal is there as an escape."""
    print(printable(line), file=file)
