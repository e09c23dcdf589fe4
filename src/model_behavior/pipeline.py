"""Trains both stages: the encoder on votes, then the scorer on the embeddings of its models."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from model_behavior.artifact.artifact import Artifact, Responses, Votes
from model_behavior.catalog import Catalog, EnrolmentConfig, enrol_encoded
from model_behavior.catalog.agreement import features_of_pairs, model_table
from model_behavior.catalog.asking import PromptBook, make_book
from model_behavior.catalog.embeddings import encode_pairs
from model_behavior.data.filters import filter_votes
from model_behavior.data.loading import as_responses, as_sources, as_votes
from model_behavior.data.prompt_categories import match_categories, read_categories
from model_behavior.data.rated_responses import (
    describe_ratings,
    describe_unmatched,
    draw_votes,
    join_votes,
    responses_of,
)
from model_behavior.data.ratings import RatingTable, load_ratings
from model_behavior.data.sources import Source
from model_behavior.data.split import hash_prompts, pairs_of
from model_behavior.data_models.behavior_encoder_types import PreprocessedBehaviorEncoderData
from model_behavior.data_models.scoring_types import ModelTable, ScoringVotes
from model_behavior.data_models.vote_ledger import VoteLedger
from model_behavior.data_models.votes import PairTable, TrainingData, TrainingRecord, ValidationSplit
from model_behavior.errors import ArtifactError, DataError, UsageError
from model_behavior.evaluation.measured_votes import training_prompts_of
from model_behavior.memory import TrainingSize, check_training
from model_behavior.models.behavior.configuration import EncoderConfig
from model_behavior.models.behavior.model_behavior_encoder import ModelBehaviorEncoder
from model_behavior.models.behavior.monitor import Runtime
from model_behavior.models.behavior.text.registry import TextConfig
from model_behavior.models.scoring.dense_network_config import DenseNetworkConfig
from model_behavior.models.scoring.dense_network_model import DenseNetworkModel
from model_behavior.models.scoring.foundation import rows_of_models
from model_behavior.models.scoring.vote_notes import describe_islands
from model_behavior.preprocessing.scoring_votes import select_scoring_votes, to_ledger, to_scoring_votes, with_models

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


def train(
    votes: Votes | None = None,
    config: TrainingConfig | None = None,
    runtime: Runtime | None = None,
    *,
    ratings: RatingTable | Source | None = None,
    responses: Responses | None = None,
    start: Artifact | None = None,
) -> Artifact:
    """Trains both stages on pairwise votes, published ratings, or both, and embeds every model.

    Args:
        votes: paths of files in any known format, folders, `hf://owner/name`, lists of dictionaries, or a DataFrame.
        config: settings; `TrainingConfig().with_seed(1)` trains with another random seed.
        runtime: cache of text features, monitor, checkpoint and workers, which do not change the result.
        ratings: published ratings on the Elo scale, by the models' exact names: a leaderboard as a file or table.
        responses: responses of the rated models; other models among them are rated from their responses.
        start: trained artifact to start from, of the same configuration: few votes then suffice. Its models are not
            taken over, since the encoder changes.

    Raises:
        DataError: the votes, ratings or responses cannot be read, or give no triplet.
        UsageError: neither votes nor ratings are given, or only one of ratings and responses, or `start` has
            another configuration.
        CollapseError: the encoder maps every pair to the same point.
    """
    config = config if config is not None else TrainingConfig()
    encoder = make_encoder(config, runtime, start)
    material = gather_material(
        None if votes is None else as_votes(votes)[0],
        _with_prompts(ratings, responses),
        None if responses is None else as_responses(responses)[0],
        config.split.seed,
    )
    for note in material.notes:
        warnings.warn(note, UserWarning, stacklevel=2)
    prepared, material = prepare(encoder, material, config)
    return complete(fit_encoder(encoder, prepared, config), prepared, material, config)


def _with_prompts(ratings: RatingTable | Source | None, responses: Responses | None) -> RatingTable | None:
    """Ratings, and the categories of the prompts where the responses are files that say them."""
    if ratings is None:
        return None
    table = ratings if isinstance(ratings, RatingTable) else load_ratings(ratings)
    if table.prompts or not table.categories or responses is None or isinstance(responses, PairTable | TrainingData):
        return table
    return replace(table, prompts=read_categories(as_sources(responses)))


@dataclass(frozen=True, eq=False)
class Material:
    """What a training learns from.

    Attributes:
        data: votes, cast ones and such as were drawn from the ratings; None once they are prepared, so that memory does
            not hold their texts twice.
        ratings: published ratings; None without.
        others: responses of models that have neither votes nor a rating; None if there are none.
        notes: names that ratings and responses do not share.
    """

    data: TrainingData | None
    ratings: RatingTable | None = None
    others: PairTable | None = None
    notes: tuple[str, ...] = ()


def gather_material(
    votes: TrainingData | None, ratings: RatingTable | None, responses: PairTable | None, seed: int
) -> Material:
    """Joins votes with published ratings, from which votes between responses are drawn (`data.rated_responses`).

    Args:
        votes: votes; None to learn from ratings alone.
        ratings: published ratings; None to learn from votes alone.
        responses: responses of the rated models, needed with ratings.
        seed: seed of the drawn votes.

    Raises:
        DataError: no two rated models can be compared on a prompt.
        UsageError: neither votes nor ratings are given, or only one of ratings and responses.
    """
    if (ratings is None) != (responses is None):
        given, missing = ("ratings", "responses") if responses is None else ("responses", "ratings")
        raise UsageError(f"{given} without {missing}. Fix: give both, or neither")
    if ratings is None or responses is None:
        if votes is None:
            raise UsageError("nothing to train on. Fix: give votes, or --ratings and --responses")
        return Material(votes)
    voted = () if votes is None else votes.pairs.models
    notes = (*describe_unmatched(ratings.models, responses.models, voted), *describe_ratings(ratings))
    if not set(ratings.models) & set(responses.models):
        raise DataError(f"no response is of a rated model: {'; '.join(notes)}. Fix: use the same names in both")
    prompts, note = match_categories(ratings.prompts, ratings.categories)
    ratings, notes = replace(ratings, prompts=prompts), (*notes, *([note] if note else []))
    drawn = draw_votes(responses, ratings, seed)
    data = drawn if votes is None else join_votes(votes, drawn)
    compared = {data.pairs.models[index] for index in data.pairs.model_index[pairs_of(data, np.arange(len(data)))]}
    others = responses_of(responses, sorted(set(responses.models) - compared))
    return Material(data, ratings, others, notes)


def prepare(
    encoder: ModelBehaviorEncoder, material: Material, config: TrainingConfig
) -> tuple[PreprocessedBehaviorEncoderData, Material]:
    """Filters and splits the votes; returns them and the material without them.

    Raises:
        DataError: no votes are left.
        UsageError: the votes of the material are prepared already, or need more memory than the user allows.
    """
    if material.data is None:
        raise UsageError("the votes of this material are prepared already. Fix: gather_material() again")
    pairs = material.data.pairs
    text_bytes = pairs.prompts.nbytes + pairs.responses.nbytes
    size = TrainingSize(len(material.data), len(pairs), len(pairs.prompts), text_bytes)
    check_training(encoder.runtime.cache.memory, size, config.encoder.features.fitted_pairs)
    return encoder.prepare(material.data, config.split), replace(material, data=None)


def complete(
    artifact: Artifact, prepared: PreprocessedBehaviorEncoderData, material: Material, config: TrainingConfig
) -> Artifact:
    """Trains stage 2, and rates the models that have neither votes nor a rating."""
    scored = fit_scorer(artifact, prepared, config.scorer, material.ratings)
    return scored if material.others is None else scored.onboard(material.others, config=config.enrolment)


def train_encoder(
    votes: Votes,
    config: TrainingConfig | None = None,
    runtime: Runtime | None = None,
    *,
    start: Artifact | None = None,
) -> Artifact:
    """Trains only stage 1; see `train`. `train_scorer` adds stage 2."""
    config = config if config is not None else TrainingConfig()
    encoder = make_encoder(config, runtime, start)
    data, _ = as_votes(votes)
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
    config: TrainingConfig, runtime: Runtime | None = None, start: Artifact | None = None
) -> ModelBehaviorEncoder:
    """Makes the untrained encoder of a training, which may start from a trained artifact.

    Raises:
        UsageError: `start` has another configuration, or no record of what it was trained on; or workers do not see
            the cache.
    """
    runtime = runtime if runtime is not None else Runtime()
    runtime.check_workers()
    encoder = ModelBehaviorEncoder(config.text.make(runtime.backend), config.encoder, runtime)
    if start is not None:
        encoder.start = start.encoder.as_start(start.models.names, start.models.mean, training_prompts_of(start))
        encoder.start.check(encoder.text_encoders, encoder.config)
    return encoder


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
    if encoder.start is not None:
        keys = np.concatenate([keys, encoder.start.prompts])
    record = TrainingRecord(config.split, np.unique(keys))
    return Artifact(encoder, catalog.models, catalog.samples, training=record)


def fit_scorer(
    artifact: Artifact,
    prepared: PreprocessedBehaviorEncoderData,
    config: DenseNetworkConfig | None = None,
    ratings: RatingTable | None = None,
) -> Artifact:
    """Trains stage 2 on prepared votes, with frozen embeddings: once on the training votes, once on all.

    What the first has chosen by cross-validation, the second takes over. `rank` and `predict` use the second, and
    `evaluate` uses the first (decision 0018).

    Args:
        artifact: trained encoder with its models.
        prepared: votes that it was trained on.
        config: settings of stage 2.
        ratings: published ratings that some of these votes were drawn from.
    """
    encoder, catalog, split = artifact.encoder, artifact.catalog, prepared.split
    answers = features_of_pairs(encoder, prepared.data.pairs, _BATCH)
    training = to_scoring_votes(prepared.data, split.train, answers=answers)
    table = model_table(encoder, catalog, training.models)
    measured = DenseNetworkModel(table, config, encoder.runtime.cache, ratings)
    measured.use_backend(encoder.runtime.backend)
    measured.fit(training, partial(encoder.runtime.monitor.on_progress, "scorer"))
    kept = np.sort(np.concatenate([split.train, split.validation]))
    everything = _of_embedded_models(to_scoring_votes(prepared.data, kept, answers=answers), catalog.models.names)
    if everything.models != training.models:
        table = model_table(encoder, catalog, everything.models)
    if islands := "" if ratings is not None else describe_islands(everything):
        warnings.warn(islands, UserWarning, stacklevel=2)
    scorer = measured.refitted(everything, table)
    book = make_prompt_book(prepared, catalog, table, scorer)
    cast = kept if prepared.data.drawn is None else kept[~prepared.data.drawn[kept]]
    ledger = to_ledger(prepared.data, cast).between(catalog.models.names)
    return replace(artifact, scorer=scorer, training_scorer=measured, votes=ledger, book=book)


def make_prompt_book(
    prepared: PreprocessedBehaviorEncoderData, catalog: Catalog, table: ModelTable, scorer: DenseNetworkModel
) -> PromptBook | None:
    """The prompts that a new model may be asked; None where too few known models share any."""
    names = scorer.ratings.models
    known = rows_of_models(table, names).agreement
    if known is None or not known.is_shared.any():
        return None
    book = make_book(prepared.data.pairs, catalog.samples, known, scorer.ratings.rating)
    return book if len(book) else None


def update_ratings(artifact: Artifact, new: VoteLedger) -> Artifact:
    """Counts new votes beside those behind the ratings, in seconds; neither stage is trained again.

    A vote that is counted already is not counted again, and votes of models without an embedding are left out. Models
    that had no votes are rated by theirs from now on.

    Args:
        artifact: artifact of both stages.
        new: votes, see `as_ledger`.

    Raises:
        UsageError: the artifact has no scorer.
        ArtifactError: an earlier release has written the artifact, without its votes.
    """
    scorer = artifact.trained_scorer
    if artifact.votes is None:
        raise ArtifactError("this artifact does not have the votes that it was trained on. Fix: train again, once")
    votes = artifact.votes.joined(new.between(artifact.models.names))
    if len(votes) == len(artifact.votes):
        return artifact
    counted = votes.to_scoring_votes()
    if scorer.published is not None:
        counted = with_models(counted, scorer.published.table.models)
    table = model_table(artifact.encoder, artifact.catalog, counted.models)
    return replace(artifact, scorer=scorer.rerated(counted, table), votes=votes)


def as_ledger(artifact: Artifact, votes: Votes) -> VoteLedger:
    """Votes for `update_ratings`, with the filters of the artifact's training."""
    data, _ = as_votes(votes)
    filters = replace(artifact.encoder.config.preprocessing.filters, min_comparisons=0)
    return to_ledger(filter_votes(data, filters)[0])


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
    parts = encode_pairs(encoder, data.pairs, batch_size, clean=True)
    return enrol_encoded(data.pairs, parts, training, validation & ~training, progress, enrolment)
