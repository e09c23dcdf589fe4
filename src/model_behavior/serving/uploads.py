"""Responses in the body of a request: bytes of a file whose format its first bytes say."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from model_behavior.data.loading import load_responses
from model_behavior.data_models.reports import SourceReport
from model_behavior.data_models.votes import PairTable
from model_behavior.errors import DataError, ModelBehaviorError, UsageError

_MAX_NAME = 200
_MAX_MODELS = 100
_MAX_EXPANSION = 20  # of a compressed file, against the body


def read_upload(body: bytes, model: str | None, max_rows: int) -> tuple[PairTable, SourceReport]:
    """The responses in an uploaded file.

    Args:
        body: Parquet, JSON, JSON lines, CSV or TSV, in any format of responses or votes.
        model: the model that rows without a model name are of.
        max_rows: of the file.

    Raises:
        DataError: the content cannot be used, or is too large.
        UsageError: no model is named, or its name is none, or too many models.
    """
    if model is not None:
        _check_name(model)

    def count(done: int, total: int | None) -> None:
        if max(done, total or 0) > max_rows:
            raise DataError(f"the upload has {max(done, total or 0):,} rows or more. Allowed: {max_rows:,}")

    with tempfile.TemporaryDirectory(prefix="model-behavior-upload-") as folder:
        path = Path(folder) / f"upload{_find_extension(body)}"
        path.write_bytes(body)
        try:
            if path.suffix == ".parquet":
                _check_parquet(path, len(body))
            pairs, report = load_responses(path, model=model, progress=count)
        except ModelBehaviorError as error:  # their messages name the file, which is none of the client's
            raise type(error)(str(error).replace(str(path), "upload").replace("--model", "model=")) from None
    if len(pairs.models) > _MAX_MODELS:
        raise UsageError(f"the upload names {len(pairs.models)} models. Allowed: {_MAX_MODELS}")
    for name in pairs.models:
        _check_name(name)
    return pairs, report.sources[0]


def _find_extension(body: bytes) -> str:
    if body.startswith(b"PAR1"):
        return ".parquet"
    head = body[:4096].removeprefix(b"\xef\xbb\xbf").lstrip()
    if not head:
        raise DataError("the upload is empty. Allowed: a file of responses as JSON lines, JSON, CSV, TSV or Parquet")
    if head.startswith((b"{", b"[")):
        return ".jsonl"
    first_line = head.split(b"\n", 1)[0]
    return ".tsv" if b"\t" in first_line and b"," not in first_line else ".csv"


def _check_parquet(path: Path, size: int) -> None:
    try:
        footer = pq.read_metadata(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError("the upload begins as Parquet but cannot be read as such. Fix: send the whole file") from error
    full = sum(footer.row_group(index).total_byte_size for index in range(footer.num_row_groups))
    if full > _MAX_EXPANSION * size + (1 << 20):
        raise DataError(f"the upload unpacks to {full:,} bytes. Allowed: {_MAX_EXPANSION} times its own {size:,}")


def _check_name(name: str) -> None:
    if not name.strip() or len(name) > _MAX_NAME or not name.isprintable():
        raise UsageError(f"model name {name[:60]!r}. Allowed: 1 to {_MAX_NAME} printable characters")
