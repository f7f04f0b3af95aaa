"""Parquet files, through pyarrow.

One event, asked for by its name: the table that `Trace.to_arrow` gives. Otherwise all events in one
table, by time: a column ``event`` has the name, and each field a column, with nulls in the rows of
events that have no such field. Where two events have a field of one name and different types, the
second one's column is ``EVENT.FIELD``. What pyarrow has no type for is JSON.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from urllib.parse import quote

from ...output import directory_of, own_directory
from .. import tables

__all__ = ["write", "write_partitions"]

_ROWS = 1 << 17  # about how many make a row group


def write(trace, file, *, events=None, begin: int | None = None, end: int | None = None) -> None:
    """Write to a binary file."""
    arrow, parquet = tables.library("pyarrow"), tables.library("pyarrow.parquet")
    names = trace.event_names(events)
    indexes = [index for index, event in enumerate(trace.event_classes) if event.name in names]
    parts = {index: _Part(arrow, trace, index) for index in indexes}
    columns = {"timestamp": arrow.timestamp("ns", "UTC"), "event": arrow.large_string(), "cpu": arrow.int32()}
    for part in parts.values():
        part.name_columns(columns)
    if events in names:
        del columns["event"]
    schema = arrow.schema(list(columns.items()))
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in trace._column_batches({index: [index] for index in indexes}, _ROWS, begin, end):
            group = [parts[index].table(_within(rows, begin, end), schema) for index, rows in batch]
            whole = group[0] if len(group) == 1 else arrow.concat_tables(group).sort_by("timestamp")
            if len(whole):
                writer.write_table(whole)


def write_partitions(trace, path: str, *, events=None, begin: int | None = None, end: int | None = None) -> None:
    """Write a new directory with a file for each event that has a record: ``event=NAME/part-0.parquet``.

    DuckDB, Spark, polars and pyarrow read it as one table that has a column ``event``, and open only the files
    of the events that are asked for. In each file are the columns that this event has.
    """
    arrow, parquet = tables.library("pyarrow"), tables.library("pyarrow.parquet")
    if os.path.exists(path):
        raise FileExistsError(f"{path}: export to a new directory")
    with own_directory(path):
        for name in trace.event_names(events):
            _write_partition(
                arrow, parquet, trace, name, os.path.join(path, f"event={quote(name, safe=' ')}"), begin, end
            )


def _write_partition(arrow, parquet, trace, name: str, folder: str, begin: int | None, end: int | None) -> None:
    kinds, writer = trace._kinds(name), None
    with contextlib.ExitStack() as stack:
        batches = trace._column_batches({name: trace._names[name]}, _ROWS, begin, end)
        for _, rows in itertools.chain.from_iterable(batches):
            rows = _within(rows, begin, end)
            if not len(rows):
                continue
            table = tables.to_arrow(rows, kinds)
            if writer is None:
                stack.enter_context(own_directory(folder))
                place = stack.enter_context(directory_of(os.path.join(folder, "part-0.parquet")))
                file = stack.enter_context(place.replacing("part-0.parquet", durable=True))
                writer = stack.enter_context(parquet.ParquetWriter(file, table.schema, compression="zstd"))
            writer.write_table(table)


def _within(rows, begin: int | None, end: int | None):
    """Those of the time that is asked for; whole packets have been read."""
    if begin is not None:
        rows = rows[rows["timestamp"] >= begin]
    return rows if end is None else rows[rows["timestamp"] <= end]


class _Part:
    """An event class, and the columns of its values."""

    def __init__(self, arrow, trace, index: int) -> None:
        self._arrow = arrow
        self._event = trace.event_classes[index].name
        self._types = trace._column_kinds(index)
        self._empty = tables.to_arrow(trace._empty_rows(index), self._types)
        self._names: dict[str, str] = {}

    def name_columns(self, columns: dict) -> None:
        """Add those of this event to `columns`, a type for each name."""
        for one in self._empty.schema:
            name, kind = one.name, one.type
            while columns.get(name, kind) != kind or name == "event":
                name = f"{self._event}.{name}"
            self._names[name] = one.name
            columns[name] = kind

    def table(self, rows, schema):
        """Rows of this event, with nulls in the columns of others."""
        found = tables.to_arrow(rows, self._types)
        arrays = [self._column(found, one) for one in schema]
        return self._arrow.table(arrays, schema)

    def _column(self, found, field):
        arrow = self._arrow
        own = self._names.get(field.name)
        if own is None and field.name == "event":
            return arrow.repeat(arrow.scalar(self._event, arrow.large_string()), len(found))
        if own is None:
            return arrow.nulls(len(found), field.type)
        return found[own]
