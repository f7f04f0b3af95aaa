"""Columns of numbers, and what explains them, as bytes that compress well; page/data.js reads them.

    4 bytes    n, the size of what follows, little-endian
    n bytes    JSON, in ASCII: {"head": ..., "columns": [{"name", "n", "bytes", "delta", "signed", "at"}, ...]}
    the rest   the columns, each from byte `at` of the rest on

A column has its numbers' lowest bytes, then the next ones, and so on. `delta`: each is the difference to the one
before. `signed`: 2n stands for n, 2n - 1 for -n.
"""

from __future__ import annotations

import json
import zlib

import numpy

__all__ = ["packed"]


def packed(head: dict, columns: dict, sorted_columns=()) -> bytes:
    """All of it, compressed (RFC 1950).

    Parameters
    ----------
    head : dict
        What JSON can say; texts may have lone surrogates.
    columns : dict of str to numpy.ndarray
        Of integers.
    sorted_columns : container of str
        Those of which neighbours differ little.
    """
    found, parts, at = [], [], 0
    for name, values in columns.items():
        about, data = _column(numpy.asarray(values).astype("i8"), name in sorted_columns)
        found.append({"name": name, "n": len(values), "at": at, **about})
        parts.append(data)
        at += len(data)
    text = json.dumps({"head": head, "columns": found}, separators=(",", ":")).encode("ascii")
    return zlib.compress(b"".join([len(text).to_bytes(4, "little"), text, *parts]), 6)


def _column(values, is_delta: bool) -> tuple[dict, bytes]:
    if is_delta:
        values = numpy.diff(values, prepend=numpy.int64(0))
    is_signed = bool(len(values)) and int(values.min()) < 0
    if is_signed:
        values = (values << 1) ^ (values >> 63)
    most = int(values.max()) if len(values) else 0
    n_bytes = max(1, (most.bit_length() + 7) // 8)
    planes = numpy.ascontiguousarray(values).view("u1").reshape(-1, 8)[:, :n_bytes]
    return {"bytes": n_bytes, "delta": is_delta, "signed": is_signed}, planes.T.tobytes()
