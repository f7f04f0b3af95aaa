"""Values of records in the words that JSON and others have."""

from __future__ import annotations

import json
import math

__all__ = ["plain", "to_json", "to_text"]


def to_text(value: str) -> str:
    """What is no UTF-8 was kept as lone surrogates, which nothing but Python takes."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def plain(value):
    """The same of None, bools, ints, finite floats, str, lists and dicts: bytes in hexadecimal, ``"nan"``."""
    if isinstance(value, str):
        return to_text(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {to_text(name): plain(one) for name, one in value.items()}
    return value


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=plain).encode


def to_json(value) -> str:
    """JSON in one line, with whatever is no JSON made `plain`."""
    try:
        line = _encode(value)
        if not line.isascii():
            line.encode()
    except ValueError:  # not finite, or lone surrogates
        line = _encode(plain(value))
    return line
