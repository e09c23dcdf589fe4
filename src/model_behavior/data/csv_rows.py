"""Rows of CSV files. Every value is text; "NA" and "null" are kept as they are.

It uses the csv module rather than Arrow's reader: rows are needed as Python objects, for which Arrow is twice as slow
here, and Arrow neither names the row of an error nor notices a quote that is never closed.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from model_behavior.data.byte_streams import NothingToReadError, iterate_lines, open_bytes, shorten
from model_behavior.errors import DataError


def read_csv_columns(path: Path, delimiter: str) -> tuple[tuple[str, ...], frozenset[str]]:
    """The header, and the columns in which the first row has no number.

    Raises:
        DataError: the file is empty, has a header only, or is separated by another character.
    """
    records = _iterate_records(path, delimiter)
    try:
        header = next(records, None)
        if header is None:
            raise NothingToReadError(
                f"{path}: the file is empty. Allowed: a header line and at least one row.", "no rows"
            )
        if len(header) == 1:
            other = next((mark for mark in (";", "\t", "|", ",") if mark in header[0]), None)
            if other is not None:
                raise DataError(
                    f"{path}: the header {shorten(header[0])} looks separated by {other!r}. "
                    f"Allowed here: {delimiter!r} (.csv is separated by commas, .tsv by tabs). Fix: export it so."
                )
        first = next(records, None)
        if first is None:
            raise NothingToReadError(f"{path}: there is a header ({', '.join(header)}) but no row.", "no rows")
    finally:
        records.close()
    return tuple(header), frozenset(c for c, value in zip(header, first, strict=True) if not _is_number(value))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def iterate_csv_rows(path: Path, delimiter: str, batch_rows: int) -> Iterator[list[dict[str, str]]]:
    """Rows in order as dictionaries, in lists of at most `batch_rows`.

    Raises:
        DataError: a row has more or fewer values than the header, or is not CSV; the message names the row.
    """
    records = _iterate_records(path, delimiter)
    header = next(records)
    rows: list[dict[str, str]] = []
    for record in records:
        rows.append(dict(zip(header, record, strict=True)))
        if len(rows) == batch_rows:
            yield rows
            rows = []
    if rows:
        yield rows


def iterate_csv_batches(
    path: Path, delimiter: str, columns: Sequence[str], batch_rows: int
) -> Iterator[pa.RecordBatch]:
    """The same rows as record batches of `columns`, each a large_string."""
    schema = pa.schema([(column, pa.large_string()) for column in columns])
    for rows in iterate_csv_rows(path, delimiter, batch_rows):
        arrays = [pa.array([row[column] for row in rows], pa.large_string()) for column in columns]
        yield pa.record_batch(arrays, schema=schema)


def _iterate_records(path: Path, delimiter: str) -> Generator[list[str], None, None]:
    """The header, then every row, blank lines left out; each row as long as the header."""
    # The default limit of 128 KiB per value is below the longest real responses. The setting is process-wide.
    csv.field_size_limit(sys.maxsize)
    n_columns = 0
    number = 0
    with open_bytes(path) as stream:
        reader = csv.reader(iterate_lines(stream, str(path)), delimiter=delimiter, strict=True)
        line = 1
        try:
            for record in reader:
                if not record:
                    line = reader.line_num + 1
                    continue
                n_columns = n_columns or len(record)
                if len(record) != n_columns:
                    raise _ragged_error(path, (number, line), record, n_columns)
                yield record
                number += 1
                line = reader.line_num + 1
        except csv.Error as error:
            raise _syntax_error(path, (number, line), str(error)) from None


def _place(position: tuple[int, int]) -> str:
    row, line = position
    return f"row {row} (line {line})" if row else f"the header (line {line})"


def _ragged_error(path: Path, position: tuple[int, int], record: list[str], n_columns: int) -> DataError:
    return DataError(
        f"{path}, {_place(position)}: {len(record)} values, but the header has {n_columns} columns. "
        f"The row begins {shorten(','.join(record))}. Fix: put values that hold a separator, a quote or a "
        'line break in double quotes, and write a quote inside them as "".'
    )


def _syntax_error(path: Path, position: tuple[int, int], problem: str) -> DataError:
    if "unexpected end" in problem:
        problem = "a double quote is opened and never closed"
    if "new-line character" in problem:
        return DataError(f"{path}: lines end in a carriage return alone. Fix: tr '\\r' '\\n' < FILE > NEW_FILE.")
    return DataError(
        f"{path}, {_place(position)}: not valid CSV ({problem}). Fix: write a quote inside a quoted value as "
        '"", and check that the file is complete.'
    )
