"""What becomes of a shard's rows: their vectors, their predictions, or what enrolment needs of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from model_behavior.artifact import Artifact
from model_behavior.catalog.embeddings import EncodedPart, encode_parts
from model_behavior.data.loading import iter_pairs
from model_behavior.data.matchups import iter_matchups
from model_behavior.data.shards import Shard
from model_behavior.errors import UsageError

EMBEDDING_COLUMN = "embedding"
PREDICTION_COLUMNS = ("p_model_a", "p_model_b", "p_tie", "p_both_bad")
_VECTORS, _STYLES = "vector", "style"

Tables: TypeAlias = Iterator[tuple[pa.Table, int]]
"""Tables of one schema, each with the number of its rows that were usable."""


def encode_tables(loaded: Artifact, shard: Shard, batch_size: int) -> Tables:
    """All columns, and `embedding`: fixed_size_list<float>.

    Raises:
        DataError: a row without a prompt or a response, or as for reading.
        UsageError: the source has a column `embedding` already.
    """
    encoder = loaded.encoder
    for batch, prompts, responses in iter_pairs(shard.source, part=shard.part):
        if EMBEDDING_COLUMN in batch.schema.names:
            raise UsageError(f"{shard.source} has a column {EMBEDDING_COLUMN!r} already. Fix: rename or remove it")
        vectors = _to_column(encoder.encode(prompts, responses, batch_size))
        yield pa.Table.from_batches([batch]).append_column(EMBEDDING_COLUMN, vectors), batch.num_rows


def predict_tables(loaded: Artifact, shard: Shard, batch_size: int) -> Tables:
    """All columns, and `PREDICTION_COLUMNS`; null in a row without a prompt or a model.

    Raises:
        DataError: as for `iter_matchups`.
        UsageError: a model that the scorer does not know, or a prediction column that the source has already.
    """
    del batch_size  # prompts are few beside rows, and the scorer encodes each once
    if loaded.scorer is None:
        raise UsageError("this artifact has no scorer. Fix: model-behavior train-scorer")
    for batch, matchups in iter_matchups(shard.source, part=shard.part):
        taken = [name for name in PREDICTION_COLUMNS if name in batch.schema.names]
        if taken:
            raise UsageError(f"{shard.source} has a column {taken[0]!r} already. Fix: rename or remove it")
        usable = [index for index, matchup in enumerate(matchups) if matchup is not None]
        known = [matchup for matchup in matchups if matchup is not None]
        columns = zip(*((each.prompt, each.model_a, each.model_b) for each in known), strict=True)
        predicted = loaded.scorer.predict(*(list(column) for column in columns)) if known else np.empty((0, 4), "f4")
        table = pa.Table.from_batches([batch])
        for name, values in zip(PREDICTION_COLUMNS, predicted.T, strict=True):
            column = np.full(len(matchups), np.nan, dtype=np.float32)
            column[usable] = values
            table = table.append_column(name, pa.array(column, from_pandas=True))
        yield table, len(usable)


def enrol_tables(loaded: Artifact, shard: Shard, batch_size: int) -> Tables:
    """What `catalog.enrol` needs of pairs, one row group for each part that they are encoded in.

    The shard begins where such a part begins, so that its parts are those of the whole.
    """
    texts = pq.read_table(shard.source)
    prompts, responses = (texts[name].to_pylist() for name in ("prompt", "response"))
    for part in encode_parts(loaded.encoder, prompts, responses, batch_size):
        table = pa.table({_VECTORS: _to_column(part.vectors), _STYLES: _to_column(part.styles)})
        yield table, table.num_rows


def part_of(table: pa.Table, start: int) -> EncodedPart:
    """A table of `enrol_tables` as the part that it was made of, whose first pair is `start`."""
    return EncodedPart(slice(start, start + table.num_rows), *(_to_rows(table[name]) for name in (_VECTORS, _STYLES)))


def _to_column(rows: npt.NDArray[np.float32]) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel(), pa.float32()), rows.shape[1])


def _to_rows(column: pa.ChunkedArray) -> npt.NDArray[np.float32]:
    values = column.combine_chunks()
    rows: npt.NDArray[np.float32] = values.flatten().to_numpy().reshape(len(values), -1)
    return rows


TABLES: Mapping[str, Callable[[Artifact, Shard, int], Tables]] = {
    "encode": encode_tables,
    "predict": predict_tables,
    "enrol": enrol_tables,
}
"""By the kind of a job."""
