"""Rows in memory: lists of dictionaries, and tables with the Arrow stream interface.

Tables are DataFrames of pandas (2.2 or later) and of polars, tables and readers of pyarrow, and whatever else has
`__arrow_c_stream__` (the Arrow PyCapsule interface,
https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html); none of these libraries is imported here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Sized
from datetime import date
from decimal import Decimal
from functools import partial
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa

from model_behavior.data.byte_streams import shorten
from model_behavior.data.json_rows import note_texts, to_batches
from model_behavior.errors import DataError

_ROWS = 'Allowed: one dictionary per row, as in [{"prompt": …}].'
_VALUES = "Allowed: text, numbers, lists, dictionaries, and None."


@runtime_checkable
class ArrowStream(Protocol):
    """A table of any library that can be read as a stream of Arrow record batches."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """A PyCapsule that holds an `ArrowArrayStream`."""


def describe_rows(rows: object) -> str:
    """The name of rows in memory for messages, such as "list of 12 rows" and "DataFrame of 1 row"."""
    kind = type(rows).__name__
    if not isinstance(rows, Sized):
        return kind
    return f"{kind} of {len(rows):,} row{'' if len(rows) == 1 else 's'}"


def read_list_columns(rows: Sequence[Any]) -> dict[str, bool]:
    """The keys of all rows, in the order in which they appear, and whether any row has text, a list or more there.

    Raises:
        DataError: there are no rows, or a row is not a dictionary with text as keys.
    """
    name = describe_rows(rows)
    if not len(rows):
        raise DataError(
            f'the {type(rows).__name__} is empty. Allowed: one dictionary per row, as in [{{"prompt": …}}].'
        )
    columns: dict[str, bool] = {}
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            raise DataError(
                f"{name}, row {number}: {shorten(row)} is not a dictionary. {_ROWS} Fix: give several files or tables "
                'as arguments of their own, as in load_votes("a.csv", table).'
            )
        note_texts(columns, row)
    other = [key for key in columns if not isinstance(key, str)]
    if other:
        raise DataError(f"{name}: the key {shorten(other[0])} is not text. Allowed: names of columns as keys.")
    return columns


def iterate_list_rows(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], batch_rows: int
) -> Iterator[list[dict[str, Any]]]:
    """Some columns of the rows, in order, in lists of at most `batch_rows`; rows may lack keys.

    Values are as JSON has them: arrays of NumPy are lists, and NaN and the missing values of pandas are None.

    Raises:
        DataError: a value of another kind; the message names the row.
    """
    name = describe_rows(rows)
    for start in range(0, len(rows), batch_rows):
        numbered = enumerate(rows[start : start + batch_rows], start + 1)
        yield [_plain_row(row, columns, f"{name}, row {number}") for number, row in numbered]


def iterate_list_batches(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], batch_rows: int
) -> Iterator[pa.RecordBatch]:
    """The same rows as record batches of one schema, see `json_rows.to_batches`."""
    return to_batches(partial(iterate_list_rows, rows, columns), columns, batch_rows)


def open_table(table: ArrowStream) -> pa.RecordBatchReader:
    """Opens a reader of the table, which knows the schema and has read no rows.

    Raises:
        DataError: the table cannot be read as Arrow, or is a single column rather than a table.
    """
    try:
        return pa.RecordBatchReader.from_stream(table)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise _table_error(table, error) from error


def iterate_table_batches(
    table: ArrowStream, readers: list[pa.RecordBatchReader], columns: Sequence[str] | None, batch_rows: int
) -> Iterator[pa.RecordBatch]:
    """Record batches of at most `batch_rows` rows, in order.

    Args:
        table: table to read.
        readers: unused readers of the table; one is used up, or a new one opened.
        columns: columns to read, all by default.
        batch_rows: most rows of a batch.

    Raises:
        DataError: the rows cannot be read.
    """
    reader = readers.pop() if readers else open_table(table)
    try:
        for batch in reader:
            chosen = batch if columns is None else batch.select(list(columns))
            for start in range(0, batch.num_rows, batch_rows):
                yield chosen.slice(start, batch_rows)
    except (pa.ArrowException, OSError) as error:
        raise _table_error(table, error) from error


def _table_error(table: ArrowStream, error: Exception) -> DataError:
    return DataError(
        f"{describe_rows(table)}: cannot be read as an Arrow table ({shorten(str(error), 200)}). Allowed: a table "
        "whose columns have one type each. Fix: give the rows as a list of dictionaries, whose values may differ in "
        "type."
    )


def _plain_row(row: Mapping[str, Any], columns: Sequence[str], place: str) -> dict[str, Any]:
    plain = {}
    for column in columns:
        if column in row:
            try:
                plain[column] = _plain(row[column])
            except (pa.ArrowException, TypeError):
                raise DataError(f"{place}: {column} is {shorten(row[column])}. {_VALUES}") from None
    return plain


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float | Decimal):
        return None if value != value else value
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if not pa.scalar(value, from_pandas=True).is_valid:  # pandas' NA and NaT
        return None
    if isinstance(value, date):
        return str(value)
    raise TypeError
