"""The stages as a user runs them: votes to a trained encoder, responses to model embeddings."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from model_behavior.artifact import Artifact
from model_behavior.catalog import (
    Catalog,
    EncodedPart,
    EnrolmentConfig,
    ModelEmbeddings,
    enrol_encoded,
    extend_catalog,
    merge_catalogs,
)
from model_behavior.catalog.agreement import model_table
from model_behavior.catalog.embeddings import encode_pairs, usable_pairs
from model_behavior.data.split import hash_prompts, pairs_of
from model_behavior.data_models.behavior_encoder_types import PreprocessedBehaviorEncoderData
from model_behavior.data_models.votes import PairTable, TrainingData, TrainingRecord, ValidationSplit
from model_behavior.models.behavior.model_behavior_encoder import ModelBehaviorEncoder
from model_behavior.models.scoring.dense_network_config import DenseNetworkConfig
from model_behavior.models.scoring.dense_network_model import DenseNetworkModel
from model_behavior.preprocessing.behavior_embedding_preprocessor import BehaviorEmbeddingPreprocessor
from model_behavior.preprocessing.scoring_votes import to_scoring_votes


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


def train_encoder(
    encoder: ModelBehaviorEncoder, votes: TrainingData, plan: TrainingPlan, enrolment: EnrolmentConfig | None = None
) -> Artifact:
    """Stage 1: trains the encoder and embeds every model from its training responses.

    Validation responses stay out of the embeddings, so that figures on them stay honest.

    Args:
        encoder: encoder to train, in place.
        votes: votes, unfiltered.
        plan: split, epochs and batch size.
        enrolment: what is kept of the models' responses.
    """
    encoder.train(votes, plan.split, plan.epochs, plan.batch_size)
    prepared = _prepare(encoder, votes, plan.split)
    catalog = enrol_training_models(encoder, prepared, plan.batch_size, enrolment)
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
    training = to_scoring_votes(prepared.data, prepared.split.train)
    table = model_table(encoder, artifact.catalog, training.models)
    scorer = DenseNetworkModel(table, config, encoder.runtime.cache)
    scorer.fit(training, partial(encoder.runtime.monitor.on_progress, "scorer"))
    return replace(artifact, scorer=scorer)


def _prepare(
    encoder: ModelBehaviorEncoder, votes: TrainingData, split: ValidationSplit
) -> PreprocessedBehaviorEncoderData:
    preprocessor = BehaviorEmbeddingPreprocessor(encoder.runtime.cache, encoder.config.preprocessing)
    return preprocessor.preprocess(votes, split)


def enrol_training_models(
    encoder: ModelBehaviorEncoder,
    prepared: PreprocessedBehaviorEncoderData,
    batch_size: int,
    enrolment: EnrolmentConfig | None = None,
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
    parts = encode_pairs(encoder, data.pairs, batch_size)
    return enrol_encoded(data.pairs, parts, training, validation & ~training, progress, enrolment)


def embed_into(
    artifact: Artifact,
    pairs: PairTable,
    batch_size: int,
    add: bool = False,
    parts: Iterable[EncodedPart] | None = None,
    enrolment: EnrolmentConfig | None = None,
) -> tuple[Artifact, ModelEmbeddings]:
    """Enrols the models of `pairs` in an artifact.

    Args:
        artifact: artifact with an encoder.
        pairs: answers of any number of models.
        batch_size: pairs encoded at once.
        add: of a model that the artifact has already, the responses join those behind its embedding; by default it is
            enrolled anew.
        parts: the pairs, where they are encoded already.
        enrolment: what is kept of the models' responses.

    Returns:
        The artifact with them, and the embeddings of those that have a usable pair.
    """
    if add:
        grown = extend_catalog(artifact.catalog, artifact.encoder, pairs, batch_size, parts, enrolment)
        asked = {pairs.models[index] for index in np.unique(pairs.model_index[usable_pairs(pairs)])}
        rows = [row for row, name in enumerate(grown.models.names) if name in asked]
        return artifact.with_catalog(grown), grown.models.select(rows)
    progress = partial(artifact.encoder.runtime.monitor.on_progress, "model embeddings")
    parts = encode_pairs(artifact.encoder, pairs, batch_size) if parts is None else parts
    new = enrol_encoded(pairs, parts, progress=progress, config=enrolment)
    return artifact.with_catalog(merge_catalogs(artifact.catalog, new)), new.models
