"""NumPy rows of a trace as tables of pyarrow, pandas and polars.

All three have a column for each of `Trace.to_numpy`, of the same name. ``timestamp``
is a time in UTC with nanoseconds. `types` has the schema type of every column but
``timestamp`` and ``cpu``: the type of a column of objects depends on nothing else, so
that tables without a row fit those with some. The libraries are imported when they are
asked for.
"""

from __future__ import annotations

import importlib
import re

from .plain import to_text

__all__ = ["library", "to_arrow", "to_pandas", "to_polars"]


def library(name: str):
    """Import it, or say how to get it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise ImportError(f"{package} is not installed: pip install {package}") from error


def _columns(rows) -> dict:
    return {name: rows[name] for name in rows.dtype.names}


def _is_text(kind: str) -> bool:
    """Not a ``"struct"``."""
    return kind == "str" or kind.startswith("str[")


def _elements(kind: str):
    """NumPy dtype of the elements of a sequence of numbers; None of anything else."""
    found = re.fullmatch(r"(?:([uif])(\d+)|bool)(?:{.*})?\[\]", kind)
    if not found:
        return None
    return f"{found[1]}{int(found[2]) // 8}" if found[1] else "?"


# ---- pyarrow ----


def to_arrow(rows, types: dict[str, str]):
    """A structured array as a pyarrow.Table."""
    arrow = library("pyarrow")
    arrays = {name: _arrow_array(arrow, column, types.get(name, "")) for name, column in _columns(rows).items()}
    arrays["timestamp"] = arrays["timestamp"].cast(arrow.timestamp("ns", "UTC"))
    return arrow.table(arrays)


def _arrow_array(arrow, column, kind: str):
    dtype = column.dtype
    if column.ndim > 1:
        return arrow.FixedSizeListArray.from_arrays(_arrow_array(arrow, column.reshape(-1), ""), column.shape[1])
    if dtype.names:
        members = [_arrow_array(arrow, column[name], "") for name in dtype.names]
        return arrow.StructArray.from_arrays(members, dtype.names)
    if not dtype.hasobject:
        return arrow.array(column)
    if _is_text(kind):
        return arrow.array(list(map(to_text, column)), arrow.large_string())
    if kind.startswith("bytes"):
        return arrow.array(column, arrow.large_binary())
    elements = _elements(kind)
    return arrow.array(column.tolist(), elements and arrow.large_list(arrow.from_numpy_dtype(elements)))


# ---- pandas ----


def to_pandas(rows, types: dict[str, str]):
    """A structured array as a pandas.DataFrame."""
    pandas = library("pandas")
    columns = _columns(rows).items()
    frame = pandas.DataFrame({name: _pandas_column(pandas, column, types.get(name, "")) for name, column in columns})
    frame["timestamp"] = pandas.to_datetime(frame["timestamp"], unit="ns", utc=True)
    return frame


def _pandas_column(pandas, column, kind: str):
    if _is_text(kind) and column.dtype.hasobject:
        return pandas.Series(list(map(to_text, column)), dtype=str)
    if column.ndim > 1:
        return pandas.Series(list(column), dtype=object)
    if column.dtype.names:
        rows = [dict(zip(column.dtype.names, row, strict=True)) for row in column.tolist()]
        return pandas.Series(rows, dtype=object)
    return column


# ---- polars ----


def to_polars(rows, types: dict[str, str]):
    """A structured array as a polars.DataFrame."""
    polars = library("polars")
    columns = _columns(rows).items()
    frame = polars.DataFrame([_polars_series(polars, name, column, types.get(name, "")) for name, column in columns])
    return frame.with_columns(polars.col("timestamp").cast(polars.Datetime("ns", "UTC")))


def _polars_series(polars, name: str, column, kind: str):
    dtype = column.dtype
    if dtype.names:
        return polars.DataFrame([_polars_series(polars, one, column[one], "") for one in dtype.names]).to_struct(name)
    if not dtype.hasobject:
        return polars.Series(name, column.copy())  # it must be contiguous
    if _is_text(kind):
        return polars.Series(name, list(map(to_text, column)), polars.String)
    if kind.startswith("bytes"):
        return polars.Series(name, column.tolist(), polars.Binary)
    elements = _elements(kind)
    if elements is None:
        return polars.Series(name, column.tolist())
    import numpy

    inner = polars.Series(numpy.empty(0, elements)).dtype
    return polars.Series(name, [polars.Series(value) for value in column], polars.List(inner))
