"""Reads responses from an uploaded file, whose format is detected from its content."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import ijson
import pyarrow as pa
import pyarrow.parquet as pq

from model_behavior.data.json_rows import PARSER_ERRORS, JsonReader
from model_behavior.data.loading import load_responses
from model_behavior.data.parquet_rows import iterate_parquet_batches
from model_behavior.data_models.votes import PairTable, SourceReport
from model_behavior.errors import DataError, ModelBehaviorError, UsageError
from model_behavior.files import temporary_folder

_MAX_NAME = 200
_MAX_MODELS = 100
_MAX_EXPANSION = 20  # largest ratio of unpacked to uploaded size
_SMALL = 64 << 20  # unpacked size that any upload may have, in bytes
_ROWS_AT_ONCE = 32
_HEAD = 4096
_ALLOWED = (
    'Allowed: a file of responses as JSON lines, JSON, CSV, TSV or Parquet, or {"model": NAME, "responses": [...]}'
)


def read_upload(file: Path, model: str | None, max_rows: int) -> tuple[PairTable, SourceReport]:
    """Reads the responses in an uploaded file.

    Args:
        file: Parquet, JSON, JSON lines, CSV or TSV file, in any format of responses or votes; or one JSON object with
            `responses`, a list of such rows, and `model` where they do not name it. The file name does not matter.
        model: model name for rows without one.
        max_rows: most rows of the file.

    Raises:
        DataError: the content is invalid or too large.
        UsageError: no model is named, a name is invalid, or there are too many models.
    """

    def count(done: int, total: int | None) -> None:
        if max(done, total or 0) > max_rows:
            raise DataError(f"the upload has {max(done, total or 0):,} rows or more. Allowed: {max_rows:,}")

    with temporary_folder(Path(tempfile.gettempdir()), "model-behavior-upload-") as folder:
        path = folder / "upload"
        try:
            path, model = _prepare(file, path, model)
            if model is not None:
                _check_name(model)
            pairs, report = load_responses(path, model=model, progress=count)
        except ModelBehaviorError as error:  # their messages name the temporary file, which the client does not know
            raise error.reworded(str(error).replace(str(path), "upload").replace("--model", "model=")) from None
    if len(pairs.models) > _MAX_MODELS:
        raise UsageError(f"the upload names {len(pairs.models)} models. Allowed: {_MAX_MODELS}")
    for name in pairs.models:
        _check_name(name)
    return pairs, report.sources[0]


def choose_name(*names: str | None) -> str | None:
    """The one name that a request gives its model, in its address, form or document.

    Raises:
        UsageError: two names differ.
    """
    given = sorted({name for name in names if name is not None})
    if len(given) > 1:
        raise UsageError(f"the request names its model {given[0][:60]!r} and {given[1][:60]!r}. Fix: name it once")
    return given[0] if given else None


def _prepare(file: Path, path: Path, model: str | None) -> tuple[Path, str | None]:
    """A path with the extension of the detected format, and the model name, which a document may give."""
    with file.open("rb") as stream:
        extension = _find_extension(stream.read(_HEAD))
    path = path.with_suffix(extension)
    if extension == ".jsonl":
        found, named = _read_document(file)
        if found:
            _write_rows(file, path)
            return path, choose_name(model, named)
    path.symlink_to(file.resolve())
    if extension == ".parquet":
        _check_parquet(path, file.stat().st_size)
    return path, model


def _find_extension(head: bytes) -> str:
    if head.startswith(b"PAR1"):
        return ".parquet"
    head = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not head:
        raise DataError(f"the upload is empty. {_ALLOWED}")
    if head.startswith((b"{", b"[")):
        return ".jsonl"
    first_line = head.split(b"\n", 1)[0]
    return ".tsv" if b"\t" in first_line and b"," not in first_line else ".csv"


def _read_document(file: Path) -> tuple[bool, str | None]:
    """Tests whether the file is one object with a list of responses; returns this, and the model that it names.

    Raises:
        DataError: the object has unknown fields, or is not valid JSON.
    """
    found, model, unknown = False, None, []
    with file.open("rb") as stream:
        try:
            for prefix, event, value in ijson.parse(JsonReader(stream, "upload")):
                if not prefix and event == "map_key" and value not in ("model", "responses"):
                    unknown.append(value)
                elif prefix == "responses" and event == "start_array":
                    found = True
                elif prefix == "model" and event == "string":
                    model = value
                elif not prefix and event == "end_map":
                    break
        except PARSER_ERRORS as error:
            if found:
                raise DataError(f"the upload is not valid JSON. {_ALLOWED}") from error
    if found and unknown:
        raise DataError(f"the upload has the field {unknown[0][:60]!r}. {_ALLOWED}")
    return found, model


def _write_rows(file: Path, path: Path) -> None:
    with file.open("rb") as stream, path.open("w", encoding="utf-8") as lines:
        for row in ijson.items(JsonReader(stream, "upload"), "responses.item"):
            lines.write(json.dumps(row, default=float) + "\n")


def _check_parquet(path: Path, size: int) -> None:
    try:
        footer = pq.read_metadata(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError("the upload begins as Parquet but cannot be read as such. Fix: send the whole file") from error
    allowed = max(_MAX_EXPANSION * size, _SMALL)
    full = sum(footer.row_group(index).total_byte_size for index in range(footer.num_row_groups))
    if full <= allowed:  # which says nothing of what rows repeat from a dictionary
        full = 0
        for batch in iterate_parquet_batches(path, None, _ROWS_AT_ONCE):
            full += batch.nbytes
            if full > allowed:
                break
    if full > allowed:
        raise DataError(f"the upload unpacks to {full:,} bytes or more. Allowed: {allowed:,} for its own {size:,}")


def _check_name(name: str) -> None:
    if not name.strip() or len(name) > _MAX_NAME or not name.isprintable():
        raise UsageError(f"model name {name[:60]!r}. Allowed: 1 to {_MAX_NAME} printable characters")
