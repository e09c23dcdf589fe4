"""Rows of Parquet files, read in batches, because a row group may be the whole file."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from model_behavior.data import remote_files
from model_behavior.data.byte_streams import COMPRESSIONS, NothingToReadError, find_archive, open_bytes, shorten
from model_behavior.errors import DataError

_BUFFER_BYTES = 1 << 20
_BATCH_BYTES = 256 << 20
_FEW_ROWS = 64


def read_parquet_columns(path: Path | str) -> tuple[pa.Schema, int]:
    """The columns and the number of rows.

    Raises:
        DataError: the file is not readable as Parquet, or has no rows.
    """
    with _open_parquet(path) as file:
        schema, n_rows = file.schema_arrow, int(file.metadata.num_rows)
    if n_rows == 0:
        raise NothingToReadError(f"{path}: there are columns ({', '.join(schema.names)}) but no row.", "no rows")
    return schema, n_rows


def text_columns(schema: pa.Schema) -> frozenset[str]:
    """The columns that hold text, bytes, lists or objects."""
    numbers = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_null, pa.types.is_temporal)
    return frozenset(field.name for field in schema if not any(test(field.type) for test in numbers))


def iterate_parquet_batches(
    path: Path | str, columns: Sequence[str] | None, batch_rows: int, part: range | None = None
) -> Iterator[pa.RecordBatch]:
    """Record batches of at most `batch_rows` rows, in order.

    Batches are shorter where values may be long: a dictionary holds a value once, and rows repeat it for a few bits, so
    that a small file may unpack to thousands of times its size.

    Args:
        path: Parquet file, or its address as `remote_files` reads them.
        columns: columns to read, all by default.
        batch_rows: most rows of a batch.
        part: rows to read, all by default; only the row groups that hold some of them are read.

    Raises:
        DataError: the file is damaged.
    """
    with _open_parquet(path) as file:
        wanted = part if part is not None else range(file.metadata.num_rows)
        groups, first = _groups_with(file.metadata, wanted)
        chosen = None if columns is None else list(columns)
        rows_at_once = min(batch_rows, max(_FEW_ROWS, _BATCH_BYTES // _longest_value(file.metadata, groups)))
        for batch in file.iter_batches(batch_size=rows_at_once, row_groups=groups, columns=chosen):
            start, stop = max(wanted.start - first, 0), min(wanted.stop - first, batch.num_rows)
            first += batch.num_rows
            if start < stop:
                yield batch.slice(start, stop - start)


def iterate_encoded_batches(path: Path | str, columns: Sequence[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Record batches of some columns as dictionaries, which hold every value once, however many rows repeat it.

    Raises:
        DataError: the file is damaged.
    """
    with _open_parquet(path, columns) as file:
        yield from file.iter_batches(batch_size=batch_rows, columns=list(columns))


def _longest_value(metadata: pq.FileMetaData, groups: Sequence[int]) -> int:
    """A bound on the bytes of one value: no value is longer than all that its column stores in a row group."""
    sizes = (
        metadata.row_group(group).column(column).total_uncompressed_size
        for group in groups
        for column in range(metadata.num_columns)
    )
    return max(1, max(sizes, default=1))


def _groups_with(metadata: pq.FileMetaData, wanted: range) -> tuple[list[int], int]:
    """The row groups that hold some of the rows, and the first row of the first of them."""
    ends = np.cumsum([metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)])
    first, last = np.searchsorted(ends, [wanted.start, wanted.stop - 1], side="right").tolist()
    return list(range(first, last + 1)), int(ends[first - 1]) if first else 0


def to_rows(batches: Iterable[pa.RecordBatch], name: str, done: int = 0) -> Iterator[list[dict[str, Any]]]:
    """Batches as lists of dictionaries; bytes, which many writers make of text, are decoded.

    Raises:
        DataError: text that is not UTF-8; the message names the row.
    """
    for batch in batches:
        try:
            rows = batch.to_pylist()
        except UnicodeDecodeError:
            raise _text_error(batch, name, done) from None
        binary = [field.name for field in batch.schema if "binary" in str(field.type)]
        for number, row in enumerate(rows if binary else [], done + 1):
            for column in binary:
                try:
                    row[column] = _decode(row[column])
                except UnicodeDecodeError as error:
                    raise _encoding_error(name, number, column, error) from None
        yield rows
        done += len(rows)


def _text_error(batch: pa.RecordBatch, name: str, done: int) -> DataError:
    for index in range(batch.num_rows):
        for column in batch.schema.names:
            try:
                batch.column(column)[index].as_py()
            except UnicodeDecodeError as error:
                return _encoding_error(name, done + index + 1, column, error)
    return DataError(f"{name}, rows {done + 1} to {done + batch.num_rows}: text that is not UTF-8.")


def _encoding_error(name: str, row: int, column: str, error: UnicodeDecodeError) -> DataError:
    return DataError(
        f"{name}, row {row}, column {column!r}: {shorten(bytes(error.object))} is "
        "not UTF-8. Allowed: text in UTF-8. Fix: decode the text before writing the file."
    )


def _decode(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list):
        return [_decode(each) for each in value]
    return {key: _decode(each) for key, each in value.items()} if isinstance(value, dict) else value


@contextmanager
def _open_parquet(path: Path | str, encoded: Sequence[str] = ()) -> Iterator[pq.ParquetFile]:
    """The file; an address is read in place, and only the columns and row groups that are asked for are sent.

    Args:
        path: file or address.
        encoded: columns to read as dictionaries.
    """
    how: dict[str, Any] = {"buffer_size": _BUFFER_BYTES, "pre_buffer": False, "read_dictionary": list(encoded)}
    if isinstance(path, str):
        how["pre_buffer"] = True
        with remote_files.opened(path) as remote, _read_soundly(path), pq.ParquetFile(remote, **how) as file:
            yield file
        return
    try:
        if path.suffix.lower() in COMPRESSIONS or find_archive(path) is not None:
            # Parquet needs random access, which a compressed stream cannot give.
            with tempfile.TemporaryFile() as unpacked:
                with open_bytes(path) as stream:
                    shutil.copyfileobj(stream, unpacked, _BUFFER_BYTES)
                with pq.ParquetFile(unpacked, **how) as file:
                    yield file
        else:
            with pq.ParquetFile(path, **how) as file:
                yield file
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: {_describe(path)} ({shorten(str(error), 160)}).") from error


@contextmanager
def _read_soundly(address: str) -> Iterator[None]:
    try:
        yield
    except pa.ArrowInvalid as error:
        raise DataError(
            f"{address}: not a Parquet file, or a damaged one ({shorten(str(error), 160)}). Fix: copy it there again."
        ) from error


def _describe(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            head = stream.read(24)
    except OSError:
        return "cannot be read"
    if not head:
        return "the file is empty. Allowed: a Parquet file with at least one row"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the data. Fix: run git lfs pull"
    if head.startswith(b"PAR1") or path.suffix.lower() in COMPRESSIONS:
        return "a Parquet file that is cut off or damaged. Fix: copy or download it again"
    return f"not a Parquet file: it begins with {head[:8]!r}. Fix: give it the ending of what it is"
