"""Trains both stages: the encoder on votes, then the scorer on the embeddings of its models."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from model_behavior.artifact.artifact import Artifact, Votes
from model_behavior.catalog import Catalog, EnrolmentConfig, enrol_encoded
from model_behavior.catalog.agreement import features_of_pairs, model_table
from model_behavior.catalog.embeddings import encode_pairs
from model_behavior.data.loading import as_votes
from model_behavior.data.split import hash_prompts, pairs_of
from model_behavior.data_models.behavior_encoder_types import PreprocessedBehaviorEncoderData
from model_behavior.data_models.scoring_types import ScoringVotes
from model_behavior.data_models.votes import TrainingRecord, ValidationSplit
from model_behavior.models.behavior.configuration import EncoderConfig
from model_behavior.models.behavior.model_behavior_encoder import ModelBehaviorEncoder
from model_behavior.models.behavior.monitor import Runtime
from model_behavior.models.behavior.text.execution import Backend
from model_behavior.models.behavior.text.registry import TextConfig
from model_behavior.models.scoring.dense_network_config import DenseNetworkConfig
from model_behavior.models.scoring.dense_network_model import DenseNetworkModel
from model_behavior.models.scoring.vote_notes import describe_islands
from model_behavior.preprocessing.scoring_votes import select_scoring_votes, to_scoring_votes

_BATCH = 512


@dataclass(frozen=True)
class TrainingConfig:
    """All settings of a training.

    Attributes:
        text: text encoders, whose features are the input of stage 1.
        encoder: settings of stage 1.
        split: division of the votes into training and validation.
        epochs: passes of stage 1 over the training votes.
        batch_size: triplets per step of stage 1, and pairs encoded at once.
        enrolment: limits on the responses that the artifact keeps.
        scorer: settings of stage 2.
    """

    text: TextConfig = field(default_factory=TextConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    split: ValidationSplit = field(default_factory=ValidationSplit)
    epochs: int = 10
    batch_size: int = 128
    enrolment: EnrolmentConfig = field(default_factory=EnrolmentConfig)
    scorer: DenseNetworkConfig = field(default_factory=DenseNetworkConfig)

    def with_seed(self, seed: int) -> TrainingConfig:
        """Returns the configuration with one seed for everything random."""
        return replace(
            self,
            encoder=replace(self.encoder, seed=seed),
            split=replace(self.split, seed=seed),
            scorer=replace(self.scorer, schedule=replace(self.scorer.schedule, seed=seed)),
        )


def train(votes: Votes, config: TrainingConfig | None = None, runtime: Runtime | None = None) -> Artifact:
    """Trains both stages on pairwise votes, and embeds every model with votes.

    Args:
        votes: paths of files in any known format, folders, `hf://owner/name`, lists of dictionaries, or a DataFrame.
        config: settings; `TrainingConfig().with_seed(1)` trains with another random seed.
        runtime: cache of text features, monitor and checkpoint, which do not change the result.

    Raises:
        DataError: the votes cannot be read, or give no triplet.
        CollapseError: the encoder maps every pair to the same point.
    """
    config = config if config is not None else TrainingConfig()
    data, _ = as_votes(votes)
    encoder = make_encoder(config, runtime)
    prepared = encoder.prepare(data, config.split)
    return fit_scorer(fit_encoder(encoder, prepared, config), prepared, config.scorer)


def train_encoder(votes: Votes, config: TrainingConfig | None = None, runtime: Runtime | None = None) -> Artifact:
    """Trains only stage 1; see `train`. `train_scorer` adds stage 2."""
    config = config if config is not None else TrainingConfig()
    data, _ = as_votes(votes)
    encoder = make_encoder(config, runtime)
    return fit_encoder(encoder, encoder.prepare(data, config.split), config)


def train_scorer(artifact: Artifact, votes: Votes, config: DenseNetworkConfig | None = None) -> Artifact:
    """Trains only stage 2, on the frozen embeddings of an artifact, with the votes that its encoder was trained on.

    The split is the encoder's, so that neither stage has seen a validation prompt. All other models of the artifact
    are enrolled.

    Raises:
        DataError: the artifact has no embedding of a model in the votes.
    """
    data, _ = as_votes(votes)
    encoder = artifact.encoder
    split = artifact.training.split if artifact.training is not None else ValidationSplit()
    prepared = encoder.prepare(data, split)
    if prepared.fingerprint != encoder.data_fingerprint:
        warnings.warn(
            "the encoder was trained on other votes than these; validation prompts of the scorer may be "
            "training prompts of the encoder",
            UserWarning,
            stacklevel=2,
        )
    return fit_scorer(artifact, prepared, config)


def make_encoder(
    config: TrainingConfig, runtime: Runtime | None = None, backend: Backend = "auto"
) -> ModelBehaviorEncoder:
    """Makes the untrained encoder of a training; `backend` runs its transformers."""
    return ModelBehaviorEncoder(config.text.make(backend), config.encoder, runtime)


def fit_encoder(
    encoder: ModelBehaviorEncoder, prepared: PreprocessedBehaviorEncoderData, config: TrainingConfig
) -> Artifact:
    """Trains stage 1 on prepared votes, and embeds every model from its training responses.

    Validation responses are not part of the embeddings, so that figures on them are not biased.
    """
    encoder.train_prepared(prepared, config.epochs, config.batch_size)
    catalog = enrol_training_models(encoder, prepared, config.batch_size, config.enrolment)
    data = prepared.data
    prompts = data.pairs.prompt_index[data.pair_a[prepared.split.train]]
    keys = hash_prompts(data.pairs.prompts.take(np.unique(prompts)).to_pylist())
    record = TrainingRecord(config.split, np.unique(keys))
    return Artifact(encoder, catalog.models, catalog.samples, training=record)


def fit_scorer(
    artifact: Artifact, prepared: PreprocessedBehaviorEncoderData, config: DenseNetworkConfig | None = None
) -> Artifact:
    """Trains stage 2 on prepared votes, with frozen embeddings: once on the training votes, once on all.

    What the first has chosen by cross-validation, the second takes over. `rank` and `predict` use the second, and
    `evaluate` uses the first (decision 0018).
    """
    encoder, catalog, split = artifact.encoder, artifact.catalog, prepared.split
    answers = features_of_pairs(encoder, prepared.data.pairs, _BATCH)
    training = to_scoring_votes(prepared.data, split.train, answers=answers)
    table = model_table(encoder, catalog, training.models)
    measured = DenseNetworkModel(table, config, encoder.runtime.cache)
    measured.fit(training, partial(encoder.runtime.monitor.on_progress, "scorer"))
    kept = np.sort(np.concatenate([split.train, split.validation]))
    everything = _of_embedded_models(to_scoring_votes(prepared.data, kept, answers=answers), catalog.models.names)
    if everything.models != training.models:
        table = model_table(encoder, catalog, everything.models)
    if islands := describe_islands(everything):
        warnings.warn(islands, UserWarning, stacklevel=2)
    return replace(artifact, scorer=measured.refitted(everything, table), training_scorer=measured)


def _of_embedded_models(votes: ScoringVotes, embedded: Sequence[str]) -> ScoringVotes:
    """The votes without those of models that have no training response; these are warned of."""
    known = np.isin(np.array(votes.models, dtype=object), np.array(embedded, dtype=object))
    if known.all():
        return votes
    chosen = np.flatnonzero(known[votes.model_a] & known[votes.model_b])
    missing = [name for name, here in zip(votes.models, known, strict=True) if not here]
    warnings.warn(
        f"not rated, since all their votes are on validation prompts: {', '.join(missing)} "
        f"({len(votes) - len(chosen):,} votes). Fix: another seed, or a smaller validation fraction",
        UserWarning,
        stacklevel=3,
    )
    return select_scoring_votes(votes, chosen)


def enrol_training_models(
    encoder: ModelBehaviorEncoder,
    prepared: PreprocessedBehaviorEncoderData,
    batch_size: int,
    enrolment: EnrolmentConfig | None = None,
) -> Catalog:
    """Enrols the models of a training: embeds their training responses, and samples their validation responses.

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
