"""Rows of JSON arrays and JSON lines, streamed. The first character of a file tells which of the two it is."""

from __future__ import annotations

import codecs
import io
import json
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from decimal import Decimal
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import ijson
import pyarrow as pa

from model_behavior.data.byte_streams import (
    encoding_error,
    iterate_lines,
    null_byte_error,
    open_bytes,
    replace_surrogates,
    shorten,
    without_bom,
)
from model_behavior.errors import DataError

_PEEKED_ROWS = 1000
_EXACT_IN_FLOAT = 2**53
_ALLOWED = "Allowed: an array of objects, or one object per line."

ReadRows = Callable[[int], Iterator[list[dict[str, Any]]]]
"""Function from a number of rows to rows in order, in lists of at most that many."""


def read_json_columns(path: Path) -> tuple[str, ...]:
    """The keys of the first 1,000 rows, in the order in which they appear.

    Raises:
        DataError: the file holds no rows or is broken.
    """
    columns: dict[str, None] = {}
    n_rows = 0
    rows = _iterate_objects(path)
    for row in islice(rows, _PEEKED_ROWS):
        columns.update(dict.fromkeys(row))
        n_rows += 1
    rows.close()
    if not n_rows:
        raise DataError(f"{path}: the file holds no rows. {_ALLOWED}")
    return tuple(columns)


def iterate_json_rows(path: Path, batch_rows: int) -> Iterator[list[dict[str, Any]]]:
    """Rows in order as they were parsed, in lists of at most `batch_rows`; rows may lack keys.

    Raises:
        DataError: broken JSON, or a row that is not an object; the message names the row or line.
    """
    objects = _iterate_objects(path)
    while rows := list(islice(objects, batch_rows)):
        yield rows


def iterate_json_batches(path: Path, columns: Sequence[str] | None, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """The same rows as record batches of one schema, see `to_batches`."""
    return to_batches(partial(iterate_json_rows, path), columns, batch_rows)


def to_batches(read_rows: ReadRows, columns: Sequence[str] | None, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Rows of JSON values as record batches of one schema, which takes a first pass over them.

    Nested values become JSON text; a column of mixed scalars becomes text.

    Args:
        read_rows: function that reads the rows from the beginning at every call.
        columns: columns of the batches, all by default.
        batch_rows: most rows of a batch.
    """
    schema = _scan_schema(row for rows in read_rows(batch_rows) for row in rows)
    if columns is not None:
        schema = pa.schema(
            [pa.field(c, pa.large_string()) if c not in schema.names else schema.field(c) for c in columns]
        )
    for rows in read_rows(batch_rows):
        arrays = [_to_array([row.get(field.name) for row in rows], field.type) for field in schema]
        yield pa.record_batch(arrays, schema=schema)


def _iterate_objects(path: Path) -> Generator[dict[str, Any], None, None]:
    with open_bytes(path) as stream:
        head = without_bom(stream.peek(64), str(path)).lstrip()
        objects = _iterate_array if head.startswith(b"[") else _iterate_json_lines
        yield from objects(stream, str(path))


def _iterate_json_lines(stream: io.BufferedReader, name: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(iterate_lines(stream, name), 1):
        if line.isspace():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            cut = "" if line.endswith("\n") else " It is the last line: is the file complete?"
            raise DataError(
                f"{name}, line {number}: not valid JSON ({error}): {shorten(line.strip())}.{cut} {_ALLOWED}"
            ) from None
        yield _require_object(value, f"{name}, line {number}")


def _iterate_array(stream: io.BufferedReader, name: str) -> Iterator[dict[str, Any]]:
    text = _Utf8Reader(stream, name)
    try:
        for value in ijson.items(text, "item"):
            text.row += 1
            yield _require_object(value, f"{name}, row {text.row - 1}")
    except ijson.JSONError as error:
        raise DataError(
            f"{name}, row {text.row}: not valid JSON ({_describe_json_error(error)}). {_ALLOWED} "
            "Fix: check that the file is complete, and write it with a JSON library."
        ) from None


def _describe_json_error(error: Exception) -> str:
    message = error.args[0] if error.args else ""
    if isinstance(message, bytes):
        message = message.decode("utf-8", "replace")
    problem, *context = [line.strip() for line in str(message).splitlines() if line.strip()]
    near = [line for line in context if "right here" not in line]
    return f"{problem} near {shorten(near[0])}" if near else problem


def _require_object(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{place}: {shorten(value)} is not an object. {_ALLOWED}")
    return value


class _Utf8Reader:
    """A byte reader for ijson that stops right before the first bad byte, so that the error can name the row."""

    def __init__(self, stream: io.BufferedReader, name: str) -> None:
        self.row = 1
        self._stream = stream
        self._name = name
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._started = False
        self._failure: UnicodeDecodeError | str | None = None

    def read(self, size: int = -1) -> bytes:
        if self._failure is not None:
            raise self._error()
        if size == 0:
            # ijson's first call, to see whether it gets bytes.
            return b""
        data = self._stream.read(size)
        if not self._started:
            data, self._started = without_bom(data, self._name), True
        good = data
        if (null := data.find(b"\0")) >= 0:
            good, self._failure = data[:null], "null byte"
        try:
            self._decoder.decode(good, final=not data)
        except UnicodeDecodeError as error:
            # The error counts from bytes of a character that an earlier read has begun.
            begun = len(error.object) - len(good)
            good, self._failure = good[: max(0, error.start - begun)], error
        if data and not good:
            raise self._error()
        return good

    def _error(self) -> DataError:
        place = f"row {self.row}"
        if isinstance(self._failure, UnicodeDecodeError):
            return encoding_error(self._name, place, self._failure)
        return null_byte_error(self._name, place)


def _scan_schema(rows: Iterable[dict[str, Any]]) -> pa.Schema:
    """The columns of all rows and the narrowest type that holds every value of each."""
    kinds: dict[str, set[str]] = {}
    for row in rows:
        for key, value in row.items():
            kinds.setdefault(key, set()).add(_kind(value))
    return pa.schema([(key, _arrow_type(found - {"null"})) for key, found in kinds.items()])


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        if abs(value) <= _EXACT_IN_FLOAT:
            return "int"
        return "long" if -(2**63) <= value < 2**63 else "text"
    return "float" if isinstance(value, (float, Decimal)) else "text"


def _arrow_type(kinds: set[str]) -> pa.DataType:
    if not kinds:
        return pa.null()
    if kinds == {"bool"}:
        return pa.bool_()
    if kinds <= {"int", "long"}:
        return pa.int64()
    # An integer beyond 2^53 beside floats would be rounded: such a column stays text.
    return pa.float64() if kinds <= {"int", "float"} else pa.large_string()


def _to_array(values: list[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_large_string(kind):
        return pa.array([None if value is None else _to_text(value) for value in values], kind)
    if pa.types.is_float64(kind):
        return pa.array([None if value is None else float(value) for value in values], kind)
    return pa.array(values, kind)


def _to_text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=float)
    return replace_surrogates(text)
