"""Numbers as people read them."""

from __future__ import annotations

__all__ = ["duration_text", "short"]

_UNITS = ((1_000_000_000, "s"), (1_000_000, "ms"), (1000, "us"))


def duration_text(ns: int) -> str:
    """``"17 ns"``, ``"3.25 us"``, ``"120 s"``: with three digits."""
    for size, name in _UNITS:
        if abs(ns) >= size:
            return f"{ns / size:.{_places(abs(ns) / size)}f} {name}"
    return f"{ns} ns"


def _places(number: float) -> int:
    return 2 if number < 9.995 else 1 if number < 99.95 else 0


def short(number: float) -> str:
    """``"9999"``, ``"10.0k"``, ``"1.5M"``."""
    if number < 9999.5:
        return f"{number:.0f}"
    unit = 1000
    for name in "kMG":
        if number / unit < 999.95:
            return f"{number / unit:.1f}{name}"
        unit *= 1000
    return f"{number / unit:.1f}T"
