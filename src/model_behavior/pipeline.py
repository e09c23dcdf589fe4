"""The stages as a user runs them: votes to a trained encoder, responses to model embeddings, pairs to vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from model_behavior.artifact import Artifact
from model_behavior.catalog import Catalog, enrol, merge_catalogs
from model_behavior.data.loading import iter_pairs
from model_behavior.data.prompt_keys import hash_prompts
from model_behavior.data.split import pairs_of
from model_behavior.data_models.split import ValidationSplit
from model_behavior.data_models.votes import PairTable, TrainingData
from model_behavior.errors import DataError, UsageError
from model_behavior.files import written_aside
from model_behavior.models.behavior.model_behavior_encoder import ModelBehaviorEncoder
from model_behavior.preprocessing.behavior_embedding_preprocessor import BehaviorEmbeddingPreprocessor

EMBEDDING_COLUMN = "embedding"


@dataclass(frozen=True)
class TrainingPlan:
    """What `train` is called with.

    Attributes:
        split: divides votes into training and validation.
        epochs: passes over the training votes.
        batch_size: triplets per step.
    """

    split: ValidationSplit
    epochs: int = 10
    batch_size: int = 128


def train_encoder(encoder: ModelBehaviorEncoder, votes: TrainingData, plan: TrainingPlan) -> Artifact:
    """Stage 1: trains the encoder and embeds every model from its training responses.

    Validation responses stay out of the embeddings, so that figures on them stay honest.
    """
    encoder.train(votes, plan.split, plan.epochs, plan.batch_size)
    catalog = enrol_training_models(encoder, votes, plan)
    prepared = BehaviorEmbeddingPreprocessor(encoder.runtime.cache, encoder.config.preprocessing).preprocess(
        votes, plan.split
    )
    pairs = prepared.data.pairs
    used = np.unique(pairs.prompt_index[prepared.data.pair_a[prepared.split.train]])
    keys = np.unique(hash_prompts(pairs.prompts.take(pa.array(used)).to_pylist()))
    return Artifact(encoder, catalog.models, catalog.samples, training_prompts=keys)


def enrol_training_models(encoder: ModelBehaviorEncoder, votes: TrainingData, plan: TrainingPlan) -> Catalog:
    """Enrols the models of a training: embedded from their training responses, sampled from their validation responses.

    The encoder places responses that it was trained on closer together than new ones, so that a sample of them would
    make every later response look like a change.
    """
    preprocessor = BehaviorEmbeddingPreprocessor(encoder.runtime.cache, encoder.config.preprocessing)
    prepared = preprocessor.preprocess(votes, plan.split)
    data = prepared.data
    training, validation = np.zeros((2, len(data.pairs)), dtype=bool)
    training[pairs_of(data, prepared.split.train)] = True
    validation[pairs_of(data, prepared.split.validation)] = True
    progress = partial(encoder.runtime.monitor.on_progress, "model embeddings")
    return enrol(encoder, data.pairs, plan.batch_size, training, validation & ~training, progress)


def embed_into(artifact: Artifact, pairs: PairTable, batch_size: int) -> Artifact:
    """Enrols the models of `pairs` in an artifact; a model that it has already is enrolled anew."""
    progress = partial(artifact.encoder.runtime.monitor.on_progress, "model embeddings")
    new = enrol(artifact.encoder, pairs, batch_size, progress=progress)
    return artifact.with_catalog(merge_catalogs(artifact.catalog, new))


def encode_file(
    encoder: ModelBehaviorEncoder,
    source: str | Path,
    output: Path,
    batch_size: int,
    progress: Callable[[int], None],
) -> int:
    """Writes a source's rows, in order, with a column `embedding`: fixed_size_list<float>, as Parquet.

    Batches stream through, so memory does not grow with the file. The output appears when it is whole.

    Args:
        progress: told the number of rows written.

    Returns:
        Number of rows.

    Raises:
        DataError: a row without a prompt or a response, or as for reading.
        UsageError: the source has a column `embedding` already.
    """
    with written_aside(output) as aside:
        return _write_embeddings(encoder, source, aside, batch_size, progress)


def _write_embeddings(
    encoder: ModelBehaviorEncoder, source: str | Path, path: Path, batch_size: int, progress: Callable[[int], None]
) -> int:
    writer: pq.ParquetWriter | None = None
    n_rows = 0
    try:
        for batch, prompts, responses in iter_pairs(source):
            if EMBEDDING_COLUMN in batch.schema.names:
                raise UsageError(f"{source} has a column {EMBEDDING_COLUMN!r} already. Fix: rename or remove it")
            vectors = encoder.encode(prompts, responses, batch_size)
            column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel(), pa.float32()), encoder.dim)
            table = pa.Table.from_batches([batch]).append_column(EMBEDDING_COLUMN, column)
            if writer is None:
                writer = pq.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table)
            n_rows += batch.num_rows
            progress(n_rows)
    finally:
        if writer is not None:
            writer.close()
    if writer is None:
        raise DataError(f"{source} has no rows")
    return n_rows
