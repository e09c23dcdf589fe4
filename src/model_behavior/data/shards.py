"""A source cut into shards, which can be worked on apart from one another."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from model_behavior.data.hub_rows import HUB_PREFIX
from model_behavior.data.parquet_rows import read_parquet_columns
from model_behavior.data.sources import expand_sources


@dataclass(frozen=True)
class Shard:
    """A part of a source.

    Attributes:
        source: a file, or `hf://owner/name`.
        part: rows of a Parquet file; None for the whole source.
        digest: SHA-256 of the file; of a dataset that is no file, a value that is never the same again.
    """

    source: str
    part: range | None
    digest: str


def cut_into_shards(source: str | Path, shard_rows: int) -> list[Shard]:
    """Every file of a source as shards, in order: of Parquet at most `shard_rows` rows each, any other file whole.

    Raises:
        DataError: no data file, or a Parquet file that cannot be read.
    """
    return [shard for each in expand_sources(source) for shard in _cut(each, shard_rows)]


def _cut(source: str | Path, shard_rows: int) -> Iterator[Shard]:
    name, path = str(source), Path(source)
    if name.startswith(HUB_PREFIX) or not path.is_file():
        yield Shard(name, None, uuid.uuid4().hex)
        return
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    name = str(path.resolve())
    if path.suffix.lower() != ".parquet":
        yield Shard(name, None, digest)
        return
    _, n_rows = read_parquet_columns(path)
    for start in range(0, n_rows, shard_rows):
        yield Shard(name, range(start, min(start + shard_rows, n_rows)), digest)
