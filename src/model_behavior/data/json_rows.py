"""Rows of JSON: arrays, JSON lines, objects that hold the rows, and pretty-printed objects.

Which one a file is, its beginning says. Arrays are streamed, also inside an object; an object without one of
`CONTAINERS` is one row, or a table that pandas wrote column by column, which must be in memory as a whole.
"""

from __future__ import annotations

import codecs
import io
import json
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import ijson
import pyarrow as pa

from model_behavior.data.byte_streams import (
    NothingToReadError,
    encoding_error,
    iterate_lines,
    null_byte_error,
    open_bytes,
    replace_surrogates,
    shorten,
    without_bom,
)
from model_behavior.data.json_bounds import JsonBounds, check_depth
from model_behavior.errors import DataError

MAX_COLUMNS = 10_000
"""Most columns of a source."""

_PEEKED_ROWS = 1000
_EXACT_IN_FLOAT = 2**53
_ALLOWED = "Allowed: an array of objects, or one object per line."

_FIRST_LINE_BYTES = 4 << 20
_WHOLE_OBJECT_BYTES = 512 << 20

CONTAINERS = (
    ("results", "results"),
    ("samples",),
    ("request_states",),
    ("data",),
    ("rows",),
    ("results",),
    ("items",),
    ("records",),
    ("traces",),
    ("observations",),
    ("spans",),
)
"""Where the rows of a file are that is one object: in promptfoo's results, inspect_ai's logs, HELM's, and so on."""

PARSER_ERRORS = (ijson.JSONError, UnicodeDecodeError)
"""What ijson raises; the second for an escaped surrogate without its pair."""

ReadRows = Callable[[int], Iterator[list[dict[str, Any]]]]
"""Function from a number of rows to rows in order, in lists of at most that many."""

Kind = Literal["array", "lines", "object", "stream"]


def read_json_columns(path: Path) -> dict[str, bool]:
    """The keys of the first 1,000 rows, in the order in which they appear, and whether any of these has text in it.

    Raises:
        DataError: the file holds no rows or is broken.
    """
    columns: dict[str, bool] = {}
    n_rows = 0
    rows = _iterate_objects(path)
    for row in islice(rows, _PEEKED_ROWS):
        note_texts(columns, row)
        n_rows += 1
    rows.close()
    if not n_rows:
        raise NothingToReadError(f"{path}: the file holds no rows. {_ALLOWED}", "no rows")
    return columns


def note_texts(columns: dict[str, bool], row: Mapping[str, Any]) -> None:
    """Adds the keys of a row to the columns, and whether they hold text, lists or objects."""
    for key, value in row.items():
        if not columns.get(key):
            columns[key] = isinstance(value, str | list | Mapping)


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
    """The batches of `to_batches_and_rows` alone."""
    return (batch for batch, _ in to_batches_and_rows(read_rows, columns, batch_rows))


def to_batches_and_rows(
    read_rows: ReadRows, columns: Sequence[str] | None, batch_rows: int
) -> Iterator[tuple[pa.RecordBatch, list[dict[str, Any]]]]:
    """Rows of JSON values as record batches of one schema, which takes a first pass over them, and as they are.

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
        yield pa.record_batch(arrays, schema=schema), rows


def _iterate_objects(path: Path) -> Generator[dict[str, Any], None, None]:
    with open_bytes(path) as stream:
        kind = _kind_of_file(stream, str(path))
    if kind in ("lines", "array"):
        with open_bytes(path) as stream:
            yield from (_iterate_json_lines if kind == "lines" else _iterate_array)(stream, str(path))
    elif kind == "object":
        with open_bytes(path) as stream:
            text = without_bom(stream.read(), str(path)).decode()
        check_depth(text, str(path))
        value = json.loads(text)
        yield from unwrap_object(value, str(path))
    else:
        yield from _iterate_printed(path)


def _kind_of_file(stream: io.BufferedReader, name: str) -> Kind:
    """Told by the first line that is not blank, and whether there is another."""
    first = without_bom(stream.readline(_FIRST_LINE_BYTES), name)
    while first.isspace():
        first = stream.readline(_FIRST_LINE_BYTES)
    if first.lstrip().startswith(b"["):
        return "array"
    if not first.lstrip().startswith(b"{"):
        return "lines"
    more = next((line for line in iter(partial(stream.readline, _FIRST_LINE_BYTES), b"") if not line.isspace()), b"")
    if more and not first.endswith(b"\n"):
        return "stream"  # the line is too long to be looked at
    try:
        json.loads(first)
    except json.JSONDecodeError as error:
        # A line that is complete but for its rest, as pretty-printing leaves it; text never goes on in the next line.
        goes_on = more and error.pos >= len(error.doc.rstrip())
        return "stream" if goes_on else "lines"
    except (ValueError, RecursionError):
        return "lines"
    return "lines" if more else "object"


def unwrap_object(value: dict[str, Any], name: str) -> Iterator[dict[str, Any]]:
    """The rows that one object holds: those of a container, of a table that pandas wrote, or the object itself."""
    for path in CONTAINERS:
        inner: Any = value
        for key in path:
            inner = inner.get(key) if isinstance(inner, dict) else None
        if isinstance(inner, list) and inner and all(isinstance(row, dict) for row in inner):
            yield from inner
            return
    table = _read_pandas(value)
    yield from [value] if table is None else table


def _read_pandas(value: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The rows of DataFrame.to_json, with orient="split", "columns" or "index"; None where the object is no such."""
    columns, data = value.get("columns"), value.get("data")
    if isinstance(columns, list) and isinstance(data, list) and all(isinstance(row, list) for row in data):
        return [dict(zip(map(str, columns), row, strict=False)) for row in data]
    inner = list(value.values())
    if not inner or not all(isinstance(each, dict) and each and list(each) == list(inner[0]) for each in inner):
        return None
    if all(key.isdigit() for key in value):
        return inner
    if all(key.isdigit() for key in inner[0]):  # with other keys it could be one row of objects
        return [{column: value[column][label] for column in value} for label in inner[0]]
    return None


def _iterate_printed(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of an object that runs over lines, streamed from its container, or of several objects one after another."""
    prefix = _find_container(path)
    with open_bytes(path) as stream:
        if prefix is not None:
            yield from _iterate_array(stream, str(path), prefix)
            return
        objects = _iterate_array(_Limited(stream, str(path)), str(path), "")
        first = next(objects, None)
        second = next(objects, None)
        if first is not None and second is None:
            yield from unwrap_object(first, str(path))
            return
        yield from (row for row in (first, second) if row is not None)
        yield from objects


def _find_container(path: Path) -> str | None:
    """The place of the rows in an object, as ijson writes it; None where there is none of `CONTAINERS`."""
    places = {".".join(each): each for each in CONTAINERS}
    with open_bytes(path) as stream:
        before = ""
        try:
            for prefix, event, _ in ijson.parse(JsonReader(stream, str(path)), multiple_values=True):
                if event == "start_map" and before and prefix == f"{before}.item":
                    return str(prefix)
                before = prefix if event == "start_array" and prefix in places else ""
        except PARSER_ERRORS:
            return None  # said when it is read
    return None


class _Limited:
    """A stream of an object that must be in memory as a whole."""

    def __init__(self, stream: io.BufferedReader, name: str) -> None:
        self._stream, self._name, self._left = stream, name, _WHOLE_OBJECT_BYTES

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise DataError(
                f"{self._name}: one object of more than {_WHOLE_OBJECT_BYTES >> 20} MiB, none of whose lists is known "
                "to hold rows. Fix: write one object per line, as to_json(orient='records', lines=True) does."
            )
        return data


def _iterate_json_lines(stream: io.BufferedReader, name: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(iterate_lines(stream, name), 1):
        if line.isspace():
            continue
        check_depth(line, f"{name}, line {number}")
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            cut = "" if line.endswith("\n") else " It is the last line: is the file complete?"
            raise DataError(
                f"{name}, line {number}: not valid JSON ({error}): {shorten(line.strip())}.{cut} {_ALLOWED}"
            ) from None
        yield _require_object(value, f"{name}, line {number}")


def _iterate_array(stream: io.BufferedReader | _Limited, name: str, prefix: str = "item") -> Iterator[dict[str, Any]]:
    text = JsonReader(stream, name)
    try:
        for value in ijson.items(text, prefix, multiple_values=not prefix):
            text.row += 1
            yield _require_object(value, f"{name}, row {text.row - 1}")
    except PARSER_ERRORS as error:
        raise DataError(
            f"{name}, row {text.row}: not valid JSON ({_describe_json_error(error)}). {_ALLOWED} "
            "Fix: check that the file is complete, and write it with a JSON library."
        ) from None


def _describe_json_error(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "an escape such as \\udfff, half of a pair, that is no character by itself"
    message = error.args[0] if error.args else ""
    if isinstance(message, bytes):
        message = message.decode("utf-8", "replace")
    problem, *context = [line.strip() for line in str(message).splitlines() if line.strip()]
    near = [line for line in context if "right here" not in line]
    if near and re.search(r":\s*-?(NaN|Infinity)\b", near[0]):
        problem = "NaN and Infinity are no JSON: write null instead;"
    return f"{problem} near {shorten(near[0])}" if near else problem


def _require_object(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{place}: {shorten(value)} is not an object. {_ALLOWED}")
    return value


class JsonReader:
    """A byte reader for ijson that stops right before the first bad byte, so that the error can name the row.

    What ijson cannot bear, see `JsonBounds`, never reaches it.
    """

    def __init__(self, stream: io.BufferedReader | _Limited, name: str) -> None:
        self.row = 1
        self._bounds = JsonBounds(name)
        self._stream = stream
        self._name = name
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._started = False
        self._failure: UnicodeDecodeError | str | None = None

    def read(self, size: int = -1) -> bytes:
        """The next bytes, checked.

        Raises:
            DataError: a byte or a bound is violated.
        """
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
        self._bounds.check(good)
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
        if len(kinds) > MAX_COLUMNS:
            raise DataError(f"the rows have more than {MAX_COLUMNS:,} columns. Fix: leave out the rest.")
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
