"""Rows of a trace as tables of pyarrow, pandas and polars, and as columns of NumPy.

All have a column for each of `Trace.to_numpy`, of the same name. ``timestamp`` is a
time in UTC with nanoseconds, null where there is no clock. `kinds` has the type (see
ringbuf.ctf.model) of every column but ``timestamp`` and ``cpu``: what a column of
objects becomes depends on nothing else, so that tables without a row fit those with
some. The libraries are imported when they are asked for.

What has a size that varies becomes text, bytes, a list or a structure. An enumeration
becomes its labels: a dictionary (pyarrow) or categories, or text within one of the
former; a value without a label is its digits. A variant has no type of its own: it
becomes JSON.

Rows are a structured array or, where nothing in them is an object, `Rows`. From these,
text and sequences go to pyarrow's buffers, and to NumPy's strings, without an object for
each value; polars and pandas take them from there if pyarrow is installed.
"""

from __future__ import annotations

import importlib

from .._decode import Rows, picked
from ..ctf import model
from .plain import to_json, to_text

__all__ = ["joined_columns", "library", "to_arrow", "to_columns", "to_pandas", "to_polars"]


_NO_TIME = -(2**63)  # of a stream without a clock


def library(name: str):
    """Import it, or say how to get it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise ImportError(f"{package} is not installed: pip install {package}") from error


def _found(name: str):
    """The library, or None."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _columns(rows) -> dict:
    return {name: rows[name] for name in rows.dtype.names}


# ---- what a column of objects becomes ----

# A shape is "text", "bytes", "json" or the dtype of a number; ("list", shape) or
# ("struct", {name: shape}).


def shape_of(kind: model.Type, *, within: bool = False):
    """The shape of a type; `within` another, an enumeration has labels in place of its integer."""
    if isinstance(kind, model.Enum):
        return "text" if within else shape_of(kind.container)
    if isinstance(kind, (model.Integer, model.VarInteger, model.Bits, model.Boolean, model.Float)):
        return _number(kind)
    if isinstance(kind, (model.String, model.Text)):
        return "text"
    if isinstance(kind, model.Blob):
        return "bytes"
    if isinstance(kind, (model.Array, model.Sequence)):
        return _shape_of_many(kind)
    if isinstance(kind, model.Struct):
        members = [(name, member) for name, member in model.visible_members(kind) if name is not None]
        return ("struct", {name: shape_of(member, within=True) for name, member in members}) if members else "json"
    return shape_of(kind.element, within=True) if isinstance(kind, model.Optional) else "json"


def _number(kind: model.Type) -> str:
    if isinstance(kind, model.Boolean) or getattr(kind, "alias", None) == "bool_t":
        return "?"
    size = getattr(kind, "size", 64)
    if isinstance(kind, model.Float):
        return "f4" if size <= 32 else "f8"
    size = next(bytes for bytes in (1, 2, 4, 8) if size <= 8 * bytes)
    return f"{'i' if getattr(kind, 'signed', False) else 'u'}{size}"


def _shape_of_many(kind: model.Array | model.Sequence):
    element = kind.element
    if isinstance(element, model.Integer) and (element.size, element.align) == (8, 8):
        if element.encoding:
            return "text"
        if element.alias == "byte_t" and isinstance(kind, model.Sequence):
            return "bytes"
    if isinstance(element, model.Enum) and isinstance(kind, model.Sequence) and _is_regular(element.container):
        return "list", _number(element.container)  # such sequences are arrays of NumPy's
    return "list", shape_of(element, within=True)


def _is_regular(kind: model.Type) -> bool:
    is_whole = isinstance(kind, model.Integer) and kind.size in (8, 16, 32, 64) and not kind.is_reversed
    return is_whole and kind.align % 8 == 0 and kind.size % kind.align == 0


def _is_plain(shape) -> bool:
    """Whether values are what the libraries take already."""
    return _is_plain(shape[1]) if shape[0] == "list" else isinstance(shape, str) and shape not in ("text", "json")


def _cell(shape, value):
    """The value of a row as the libraries take it."""
    if value is None or _is_plain(shape):
        return value
    if shape == "text":
        return to_text(value) if isinstance(value, str) else str(value)
    if shape == "json":
        return to_json(value)
    if shape[0] == "list":
        return [_cell(shape[1], one) for one in value]
    return {name: _cell(inner, value[name]) for name, inner in shape[1].items()}


def _cells(column, shape) -> list:
    return column.tolist() if _is_plain(shape) else [_cell(shape, value) for value in column]


# ---- pyarrow ----


def to_arrow(rows, kinds: dict, names=None):
    """Rows, or some of their columns, as a pyarrow.Table."""
    arrow = library("pyarrow")
    chosen = rows.dtype.names if names is None else names
    columns = _contiguous(rows, chosen)
    arrays = {name: _arrow_column(arrow, rows, name, columns, kinds.get(name)) for name in chosen}
    if "timestamp" in arrays:
        arrays["timestamp"] = _arrow_times(arrow, columns["timestamp"])
    return arrow.table(arrays)


def _contiguous(rows, names) -> dict:
    """Columns; of `Rows`, those that vary in size as `Rows.values`."""
    return (
        {name: rows[name] for name in names}
        if rows.dtype.hasobject and not isinstance(rows, Rows)
        else picked(rows, names)
    )


def _arrow_times(arrow, column):
    kind = arrow.timestamp("ns", "UTC")
    if len(column) and column.min() == _NO_TIME:
        return arrow.array(column.view("M8[ns]"), kind)  # NumPy's time that is none has the same number
    return _arrow_numbers(arrow, column, kind)


def _arrow_numbers(arrow, column, kind):
    """A contiguous column as it is; arrow.array() would look at each value whether it is null."""
    column = column.copy() if not column.flags.c_contiguous else column
    return arrow.Array.from_buffers(kind, len(column), [None, arrow.py_buffer(column)])


def _arrow_column(arrow, rows, name: str, columns: dict, kind: model.Type | None):
    if isinstance(rows, Rows) and rows.varies(name):
        array = _arrow_buffers(arrow, rows, name, columns[name], shape_of(kind))
        return _arrow_array(arrow, rows[name], kind) if array is None else array
    if isinstance(kind, model.Enum):
        indexes, labels = _labelled(columns[name], kind)
        return arrow.DictionaryArray.from_arrays(arrow.array(indexes), arrow.array(labels, arrow.large_string()))
    return _arrow_array(arrow, columns[name], kind)


def _arrow_buffers(arrow, rows, name: str, values: tuple, shape):
    """A column of varying size without an object for each value; None if it is text that needs to be looked at."""
    if shape == "text" and not rows.is_utf8(name, *values):
        return None
    if shape in ("text", "bytes"):
        buffers = [None, *map(arrow.py_buffer, reversed(values))]
        return arrow.Array.from_buffers(_arrow_type(arrow, shape), len(rows), buffers)
    numbers, offsets = rows.numbers(name, *values)
    return arrow.LargeListArray.from_arrays(offsets, arrow.array(numbers, _arrow_type(arrow, shape[1])))


def _labelled(column, kind: model.Enum) -> tuple:
    """Of an enumeration's values: i4 indexes into a list of labels, and this list."""
    import numpy

    known = {low: label for label, low, high in reversed(kind.labels) if low == high and _fits(low, column.dtype)}
    values = numpy.array(sorted(known), column.dtype)
    if not len(values):
        indexes, unknown = numpy.empty(len(column), "i4"), numpy.ones(len(column), "?")
    else:
        places = numpy.searchsorted(values, column).clip(max=len(values) - 1)
        indexes, unknown = places.astype("i4"), values[places] != column
    labels = [to_text(known[value]) for value in values.tolist()]
    if unknown.any():
        others, places = numpy.unique(column[unknown], return_inverse=True)
        indexes[unknown] = places + len(labels)
        labels += [to_text(_label_within(kind, value)) for value in others.tolist()]
    return _distinct(indexes, labels)


def _fits(value: int, dtype) -> bool:
    bits = 8 * dtype.itemsize
    return -(1 << bits - 1) <= value < 1 << bits - 1 if dtype.kind == "i" else 0 <= value < 1 << bits


def _label_within(kind: model.Enum, value: int) -> str:
    return next((label for label, low, high in kind.labels if low <= value <= high), str(value))


def _distinct(indexes, labels: list[str]) -> tuple:
    """The same without a label that is there twice."""
    import numpy

    places = {label: place for place, label in enumerate(dict.fromkeys(labels))}
    if len(places) < len(labels):
        indexes = numpy.array([places[label] for label in labels], "i4")[indexes]
    return indexes, list(places)


def _arrow_array(arrow, column, kind: model.Type | None):
    dtype = column.dtype
    if column.ndim > 1:
        inner = _arrow_array(arrow, column.reshape(len(column) * column.shape[1], *column.shape[2:]), None)
        return arrow.FixedSizeListArray.from_arrays(inner, column.shape[1])
    if dtype.names:
        members = [_arrow_array(arrow, column[name], None) for name in dtype.names]
        return arrow.StructArray.from_arrays(members, dtype.names)
    if dtype.kind in "iuf":
        return _arrow_numbers(arrow, column, arrow.from_numpy_dtype(dtype))
    if not dtype.hasobject:
        return arrow.array(column)
    shape = shape_of(kind)
    return arrow.array(_cells(column, shape), _arrow_type(arrow, shape))


def _arrow_type(arrow, shape):
    if shape in ("text", "json"):
        return arrow.large_string()
    if shape == "bytes":
        return arrow.large_binary()
    if shape[0] == "list":
        return arrow.large_list(_arrow_type(arrow, shape[1]))
    if shape[0] == "struct":
        return arrow.struct([(name, _arrow_type(arrow, inner)) for name, inner in shape[1].items()])
    return arrow.from_numpy_dtype(shape)


# ---- pandas ----


def to_pandas(rows, kinds: dict):
    """Rows as a pandas.DataFrame."""
    pandas = library("pandas")
    frame = pandas.DataFrame({name: _of_rows(pandas, rows, name, kinds.get(name)) for name in rows.dtype.names})
    frame["timestamp"] = pandas.to_datetime(frame["timestamp"], unit="ns", utc=True)
    return frame


def _of_rows(pandas, rows, name: str, kind: model.Type | None):
    if isinstance(kind, model.Enum):
        return pandas.Series(pandas.Categorical.from_codes(*_labelled(rows[name], kind)))
    arrow = _found("pyarrow") if isinstance(rows, Rows) and rows.varies(name) and shape_of(kind) == "text" else None
    array = arrow and _arrow_buffers(arrow, rows, name, rows.values(name), "text")
    if array:
        return pandas.Series(array.to_pandas(), dtype=str)
    return _pandas_column(pandas, rows[name], kind)


def _pandas_column(pandas, column, kind: model.Type | None):
    if column.dtype.hasobject:
        shape = shape_of(kind)
        if shape == "text":
            return pandas.Series(list(map(to_text, column)), dtype=str)
        return column if _is_plain(shape) else pandas.Series(_cells(column, shape), dtype=object)
    if column.ndim > 1:
        return pandas.Series(list(column), dtype=object)
    if column.dtype.names:
        rows = [dict(zip(column.dtype.names, row, strict=True)) for row in column.tolist()]
        return pandas.Series(rows, dtype=object)
    return column


# ---- polars ----


def to_polars(rows, kinds: dict):
    """Rows as a polars.DataFrame."""
    polars = library("polars")
    frame = polars.DataFrame([_polars_column(polars, rows, name, kinds.get(name)) for name in rows.dtype.names])
    return frame.with_columns(polars.col("timestamp").cast(polars.Datetime("ns", "UTC")))


def _polars_column(polars, rows, name: str, kind: model.Type | None):
    if isinstance(kind, model.Enum):
        indexes, labels = _labelled(rows[name], kind)
        return polars.Series(name, labels, polars.String).gather(indexes).cast(polars.Categorical).alias(name)
    arrow = _found("pyarrow") if isinstance(rows, Rows) and rows.varies(name) else None
    array = arrow and _arrow_buffers(arrow, rows, name, rows.values(name), shape_of(kind))
    return polars.Series(name, array) if array else _polars_series(polars, name, rows[name], kind)


def _polars_series(polars, name: str, column, kind: model.Type | None):
    dtype = column.dtype
    if dtype.names:
        inner = [_polars_series(polars, one, column[one], None) for one in dtype.names]
        return polars.DataFrame(inner).to_struct(name)
    if not dtype.hasobject:
        return polars.Series(name, column.copy())  # it must be contiguous
    shape = shape_of(kind)
    kind = _polars_type(polars, shape)
    if shape[0] != "list" or not isinstance(shape[1], str) or not _is_plain(shape):
        return polars.Series(name, _cells(column, shape), kind)
    return polars.Series(name, [polars.Series(value, dtype=kind.inner) for value in column], kind)


def _polars_type(polars, shape):
    if shape in ("text", "json"):
        return polars.String
    if shape == "bytes":
        return polars.Binary
    if shape[0] == "list":
        return polars.List(_polars_type(polars, shape[1]))
    if shape[0] == "struct":
        return polars.Struct({name: _polars_type(polars, inner) for name, inner in shape[1].items()})
    import numpy

    return polars.Series(numpy.empty(0, shape)).dtype


# ---- NumPy ----


def to_columns(rows) -> dict:
    """Rows as a contiguous array for each column."""
    columns = {name: _numpy_column(rows, name) for name in rows.dtype.names}
    columns["timestamp"] = columns["timestamp"].view("M8[ns]")
    return columns


def _numpy_column(rows, name: str):
    import numpy

    strings = getattr(getattr(numpy, "dtypes", None), "StringDType", None)
    if strings is None or not (isinstance(rows, Rows) and rows.is_text(name)):
        return numpy.ascontiguousarray(rows[name])
    texts = rows.fixed_text(name)
    if texts is None:
        texts = [to_text(value) for value in rows[name]]
    return numpy.array(texts, strings())


def joined_columns(parts: list[dict], empty: dict) -> dict:
    """Those of several `to_columns` in one; `empty` is for no parts."""
    import numpy

    if not parts:
        return empty
    return {name: numpy.concatenate([part[name] for part in parts]) for name in parts[0]}
