"""Votes that a saved encoder can fairly be measured on: those on prompts that it was not trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from model_behavior.arrays import Int32Array, Int64Array
from model_behavior.catalog.embeddings import ModelEmbeddings
from model_behavior.data.canonical_text import canonical_prompt
from model_behavior.data.filters import filter_votes, select_votes
from model_behavior.data.split import PromptKeys, hash_prompts, normalised_prompt_ids
from model_behavior.data_models.behavior_encoder_types import PreprocessedBehaviorEncoderData, Triplets
from model_behavior.data_models.votes import FilterReport, SplitVotes, TrainingData, TrainingRecord
from model_behavior.errors import DataError, UsageError
from model_behavior.models.behavior.model_behavior_encoder import ModelBehaviorEncoder
from model_behavior.models.scoring.dense_network_model import DenseNetworkModel
from model_behavior.preprocessing.triplets import TripletConfig, TripletSampler


class Trained(Protocol):
    """An artifact to evaluate: a trained encoder, the models that it has embedded, and the scorer over them."""

    @property
    def encoder(self) -> ModelBehaviorEncoder:
        """The encoder of stage 1."""

    @property
    def models(self) -> ModelEmbeddings:
        """Embeddings of the models."""

    @property
    def measured_scorer(self) -> DenseNetworkModel | None:
        """The scoring model of stage 2, fitted without the validation votes; None where it was not trained."""

    @property
    def training(self) -> TrainingRecord | None:
        """Record of what the encoder was trained on; None where that is not known."""


@dataclass(frozen=True, eq=False)
class MeasuredVotes:
    """Filtered votes, divided by whether the prompt is new.

    Attributes:
        data: all votes after filtering.
        report: counts of what filtering left out.
        new: indices of the votes on new prompts, which nothing was fitted to.
        seen: indices of the votes on the other prompts.
        fresh: votes on new prompts alone, with their pairs.
        prompt: id of the normalised prompt of each pair of `fresh`, [n_pairs].
        triplets: triplets of `fresh`, drawn as training draws its validation triplets.
    """

    data: TrainingData
    report: FilterReport
    new: Int64Array
    seen: Int64Array
    fresh: TrainingData
    prompt: Int32Array
    triplets: Triplets


def select_measured(
    artifact: Trained, votes: TrainingData, seed: int, progress: Callable[[int, int], None] | None = None
) -> MeasuredVotes:
    """Filters votes as training does, except that rare models stay, and separates new prompts from seen ones.

    Args:
        artifact: trained artifact, with a record of the prompts that it was trained on.
        votes: unfiltered votes.
        seed: seed of the triplets.
        progress: callback of the filters, called with (done, total).

    Raises:
        UsageError: the artifact does not record which prompts it was trained on.
        DataError: no vote is left after filtering, or none is on a new prompt.
    """
    filters = replace(artifact.encoder.config.preprocessing.filters, min_comparisons=0)
    data, report = filter_votes(votes, filters, progress)
    new, seen = separate_new_prompts(artifact, data)
    fresh = select_votes(data, new)
    return MeasuredVotes(
        data=data,
        report=report,
        new=new,
        seen=seen,
        fresh=fresh,
        prompt=normalised_prompt_ids(fresh.pairs.prompts)[fresh.pairs.prompt_index],
        triplets=_draw_triplets(fresh, np.arange(len(fresh)), seed),
    )


def separate_new_prompts(artifact: Trained, data: TrainingData) -> tuple[Int64Array, Int64Array]:
    """Indices of the votes on prompts that an artifact was not trained on, and of the others, ascending.

    Raises:
        UsageError: the artifact does not record which prompts it was trained on.
        DataError: no vote is on a new prompt.
    """
    prompts = list(map(canonical_prompt, data.pairs.prompts.to_pylist()))  # as training has hashed them
    prompt_is_seen = np.isin(hash_prompts(prompts), training_prompts_of(artifact))
    vote_is_seen = prompt_is_seen[data.pairs.prompt_index[data.pair_a]]
    new, seen = np.flatnonzero(~vote_is_seen), np.flatnonzero(vote_is_seen)
    if not len(new):
        raise DataError(
            f"all {len(data):,} votes are on prompts that the encoder was trained on, so figures on them would be "
            "too good. Fix: give votes on other prompts, or the file that it was trained on with its validation side"
        )
    return new, seen


def training_prompts_of(artifact: Trained) -> PromptKeys:
    """Keys of the prompts that stage 1 and the measured scorer were fitted to.

    Raises:
        UsageError: the artifact has no record of them.
    """
    if artifact.training is None:
        raise UsageError(
            "this artifact does not record which prompts it was trained on, so no prompts can be held out. "
            "Fix: train it again with this release"
        )
    return artifact.training.prompts


def prepare_baselines(measured: MeasuredVotes, seed: int) -> PreprocessedBehaviorEncoderData:
    """Splits the votes for baselines, which must be fitted to some of them.

    Baselines are fitted to votes on prompts that the encoder was trained on, where the file has at least as many of
    those as of new ones. Otherwise they are fitted to half of the new prompts, and measured on the other half alone.
    """
    if len(measured.seen) >= len(measured.new):
        split = SplitVotes(measured.seen, measured.new, np.zeros(0, np.int64))
        return _prepare(measured.data, measured.report, split, seed)
    prompt = measured.prompt[measured.fresh.pair_a]
    distinct = np.random.default_rng(seed).permutation(np.unique(prompt))
    fits = np.isin(prompt, distinct[: len(distinct) // 2])
    split = SplitVotes(np.flatnonzero(fits), np.flatnonzero(~fits), np.zeros(0, np.int64))
    return _prepare(measured.fresh, measured.report, split, seed)


def _prepare(data: TrainingData, report: FilterReport, split: SplitVotes, seed: int) -> PreprocessedBehaviorEncoderData:
    return PreprocessedBehaviorEncoderData(data, split, _draw_triplets(data, split.validation, seed), report, "")


def _draw_triplets(data: TrainingData, votes: Int64Array, seed: int) -> Triplets:
    return TripletSampler(data, votes, TripletConfig()).sample(np.random.default_rng(seed))
