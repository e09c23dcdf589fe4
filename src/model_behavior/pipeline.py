"""The stages as a user runs them: votes to a trained encoder, responses to model embeddings, pairs to vectors."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from model_behavior.artifact import Artifact, TrainingRecord, model_table
from model_behavior.catalog import Catalog, ModelEmbeddings, enrol, extend_catalog, merge_catalogs
from model_behavior.catalog.embeddings import usable_pairs
from model_behavior.data.loading import iter_pairs
from model_behavior.data.matchups import iter_matchups
from model_behavior.data.prompt_keys import hash_prompts
from model_behavior.data.split import pairs_of
from model_behavior.data_models.behavior_encoder_types import PreprocessedBehaviorEncoderData
from model_behavior.data_models.split import ValidationSplit
from model_behavior.data_models.votes import PairTable, TrainingData
from model_behavior.errors import DataError, UsageError
from model_behavior.files import written_aside
from model_behavior.models.behavior.model_behavior_encoder import ModelBehaviorEncoder
from model_behavior.models.scoring.dense_network_config import DenseNetworkConfig
from model_behavior.models.scoring.dense_network_model import DenseNetworkModel
from model_behavior.models.scoring.model_base import ModelBase
from model_behavior.preprocessing.behavior_embedding_preprocessor import BehaviorEmbeddingPreprocessor
from model_behavior.preprocessing.scoring_votes import to_scoring_votes

EMBEDDING_COLUMN = "embedding"
PREDICTION_COLUMNS = ("p_model_a", "p_model_b", "p_tie", "p_both_bad")


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
    prepared = _prepare(encoder, votes, plan.split)
    catalog = enrol_training_models(encoder, prepared, plan.batch_size)
    data = prepared.data
    prompts = data.pairs.prompt_index[data.pair_a[prepared.split.train]]
    keys = hash_prompts(data.pairs.prompts.take(np.unique(prompts)).to_pylist())
    record = TrainingRecord(plan.split, np.unique(keys))
    return Artifact(encoder, catalog.models, catalog.samples, training=record)


def train_scorer(artifact: Artifact, votes: TrainingData, config: DenseNetworkConfig | None = None) -> Artifact:
    """Stage 2: trains the scorer on the votes that stage 1 was trained on, over its frozen embeddings.

    The split is the encoder's, so that neither stage has seen a validation prompt. All other models of the artifact
    are enrolled.

    Raises:
        DataError: a voted model that the artifact has not embedded.
    """
    encoder = artifact.encoder
    split = artifact.training.split if artifact.training is not None else ValidationSplit()
    prepared = _prepare(encoder, votes, split)
    if prepared.fingerprint != encoder.data_fingerprint:
        warnings.warn(
            "these are not the votes that the encoder was trained on; validation prompts of the scorer may be "
            "training prompts of the encoder",
            UserWarning,
            stacklevel=2,
        )
    scorer = DenseNetworkModel(model_table(encoder, artifact.models), config, encoder.runtime.cache)
    scorer.fit(
        to_scoring_votes(prepared.data, prepared.split.train), partial(encoder.runtime.monitor.on_progress, "scorer")
    )
    return replace(artifact, scorer=scorer)


def _prepare(
    encoder: ModelBehaviorEncoder, votes: TrainingData, split: ValidationSplit
) -> PreprocessedBehaviorEncoderData:
    preprocessor = BehaviorEmbeddingPreprocessor(encoder.runtime.cache, encoder.config.preprocessing)
    return preprocessor.preprocess(votes, split)


def enrol_training_models(
    encoder: ModelBehaviorEncoder, prepared: PreprocessedBehaviorEncoderData, batch_size: int
) -> Catalog:
    """Enrols the models of a training: embedded from their training responses, sampled from their validation responses.

    The encoder places responses that it was trained on closer together than new ones, so that a sample of them would
    make every later response look like a change.
    """
    data = prepared.data
    training, validation = np.zeros((2, len(data.pairs)), dtype=bool)
    training[pairs_of(data, prepared.split.train)] = True
    validation[pairs_of(data, prepared.split.validation)] = True
    progress = partial(encoder.runtime.monitor.on_progress, "model embeddings")
    return enrol(encoder, data.pairs, batch_size, training, validation & ~training, progress)


def embed_into(
    artifact: Artifact, pairs: PairTable, batch_size: int, add: bool = False
) -> tuple[Artifact, ModelEmbeddings]:
    """Enrols the models of `pairs` in an artifact.

    Args:
        artifact: with an encoder to use.
        pairs: answers of any number of models.
        batch_size: pairs encoded at once.
        add: of a model that the artifact has already, the responses join those behind its embedding; by default it is
            enrolled anew.

    Returns:
        The artifact with them, and the embeddings of those that have a usable pair.
    """
    if add:
        grown = extend_catalog(artifact.catalog, artifact.encoder, pairs, batch_size)
        asked = {pairs.models[index] for index in np.unique(pairs.model_index[usable_pairs(pairs)])}
        rows = [row for row, name in enumerate(grown.models.names) if name in asked]
        return artifact.with_catalog(grown), grown.models.select(rows)
    progress = partial(artifact.encoder.runtime.monitor.on_progress, "model embeddings")
    new = enrol(artifact.encoder, pairs, batch_size, progress=progress)
    return artifact.with_catalog(merge_catalogs(artifact.catalog, new)), new.models


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
        return _write_batches(source, aside, _embeddings(encoder, source, batch_size), progress)[0]


def predict_file(
    scorer: ModelBase, source: str | Path, output: Path, progress: Callable[[int], None]
) -> tuple[int, int]:
    """Writes a source's rows, in order, with what the scorer predicts, as Parquet: see `PREDICTION_COLUMNS`.

    A row without a prompt or a model has null there. Batches stream through. The output appears when it is whole.

    Args:
        scorer: fitted.
        source: see `iter_matchups`.
        output: the file.
        progress: told the number of rows written.

    Returns:
        Number of rows, and how many of them were predicted.

    Raises:
        DataError: no rows, or as for `iter_matchups`.
        UsageError: a model that the scorer does not know, or a prediction column that the source has already.
    """
    with written_aside(output) as aside:
        return _write_batches(source, aside, _predictions(scorer, source), progress)


def _predictions(scorer: ModelBase, source: str | Path) -> Iterator[tuple[pa.Table, int]]:
    for batch, matchups in iter_matchups(source):
        taken = [name for name in PREDICTION_COLUMNS if name in batch.schema.names]
        if taken:
            raise UsageError(f"{source} has a column {taken[0]!r} already. Fix: rename or remove it")
        usable = [index for index, matchup in enumerate(matchups) if matchup is not None]
        known = [matchup for matchup in matchups if matchup is not None]
        columns = zip(*((each.prompt, each.model_a, each.model_b) for each in known), strict=True)
        predicted = scorer.predict(*(list(column) for column in columns)) if known else np.empty((0, 4), np.float32)
        table = pa.Table.from_batches([batch])
        for name, values in zip(PREDICTION_COLUMNS, predicted.T, strict=True):
            column = np.full(len(matchups), np.nan, dtype=np.float32)
            column[usable] = values
            table = table.append_column(name, pa.array(column, from_pandas=True))
        yield table, len(usable)


def _write_batches(
    source: str | Path, path: Path, tables: Iterator[tuple[pa.Table, int]], progress: Callable[[int], None]
) -> tuple[int, int]:
    """Writes tables to a Parquet file; the number of rows, and the sum of the numbers that came with them."""
    writer: pq.ParquetWriter | None = None
    n_rows = n_used = 0
    try:
        for table, used in tables:
            if writer is None:
                writer = pq.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table)
            n_rows += table.num_rows
            n_used += used
            progress(n_rows)
    finally:
        if writer is not None:
            writer.close()
    if writer is None:
        raise DataError(f"{source} has no rows")
    return n_rows, n_used


def _embeddings(encoder: ModelBehaviorEncoder, source: str | Path, batch_size: int) -> Iterator[tuple[pa.Table, int]]:
    for batch, prompts, responses in iter_pairs(source):
        if EMBEDDING_COLUMN in batch.schema.names:
            raise UsageError(f"{source} has a column {EMBEDDING_COLUMN!r} already. Fix: rename or remove it")
        vectors = encoder.encode(prompts, responses, batch_size)
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel(), pa.float32()), encoder.dim)
        yield pa.Table.from_batches([batch]).append_column(EMBEDDING_COLUMN, column), batch.num_rows
