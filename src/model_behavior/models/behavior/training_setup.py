"""Prepares the training of the head: fitted transforms, fresh weights, and the inputs for every pair.

Text encoders describe pairs and prompts through the cache. Transforms and head are fitted on training pairs, or on a
sample of them where there are many. They are then applied to all pairs, a part at a time, and the result lies in mapped
files where it is large, so that memory is bounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from model_behavior.arrays import Int64Array, IntArray
from model_behavior.data.split import hash_prompts, pairs_of
from model_behavior.data.text_columns import LazyTexts
from model_behavior.data_models.votes import PairTable
from model_behavior.models.behavior.behavior_features import BehaviorBlocks, BehaviorFeatures
from model_behavior.models.behavior.configuration import EncoderConfig
from model_behavior.models.behavior.encoder_base import TextEncoderBase
from model_behavior.models.behavior.monitor import Runtime
from model_behavior.models.behavior.objectives import Objective
from model_behavior.models.behavior.projection import ProjectionHead, fit_projection
from model_behavior.models.behavior.starting_point import StartingPoint
from model_behavior.models.behavior.topic_removal import PromptFeatures
from model_behavior.models.behavior.training import TrainingExamples
from model_behavior.models.behavior.validation import EncoderVotes, ValidationSide
from model_behavior.preprocessing.balanced_triplets import balanced_of_votes
from model_behavior.preprocessing.feature_cache import Features, FeatureStack, encode_through_cache, let_go
from model_behavior.preprocessing.prompt_embedding_preprocessor import PromptEmbeddingPreprocessor

_MOST_VALIDATED = 65_536  # pairs of each side of the split; with more, epochs are compared on so many


@dataclass(frozen=True)
class PairFeatureSource:
    """Encodes pairs, and their prompts for topic removal.

    Attributes:
        text_encoders: text encoders, whose features stand side by side.
        runtime: cache, and monitor of the progress.
        batch_size: number of pairs encoded at once.
        with_prompts: encode prompts, too.
    """

    text_encoders: Sequence[TextEncoderBase]
    runtime: Runtime
    batch_size: int
    with_prompts: bool

    def of_table(self, pairs: PairTable) -> tuple[list[Features], PromptFeatures]:
        """Features of each text encoder, [n_pairs, dim] each, and of the prompts; with progress."""
        asked, responses = LazyTexts(pairs.prompts, pairs.prompt_index), LazyTexts(pairs.responses)
        features = self._encode(asked, responses, quiet=False)
        return features, self._describe(pairs.prompts.to_pylist(), pairs.prompt_index)

    def of_texts(self, prompts: Sequence[str], responses: Sequence[str]) -> tuple[list[Features], PromptFeatures]:
        """The same of pairs given as texts, [n_pairs] each; in silence."""
        distinct = {prompt: place for place, prompt in enumerate(dict.fromkeys(prompts))}
        index = np.fromiter((distinct[prompt] for prompt in prompts), np.int64, len(prompts))
        return self._encode(prompts, responses, quiet=True), self._describe(list(distinct), index)

    def _encode(self, prompts: Sequence[str], responses: Sequence[str], quiet: bool) -> list[Features]:
        on_progress, cache = self.runtime.monitor.on_progress, self.runtime.cache
        return [
            encode_through_cache(
                encoder,
                prompts,
                responses,
                cache,
                self.batch_size,
                None if quiet else partial(on_progress, f"features: {encoder.name}"),
            )
            for encoder in self.text_encoders
        ]

    def _describe(self, prompts: Sequence[str], prompt: IntArray) -> PromptFeatures:
        if not self.with_prompts:
            return PromptFeatures((), prompt)
        preprocessors = (PromptEmbeddingPreprocessor(encoder, self.runtime.cache) for encoder in self.text_encoders)
        return PromptFeatures([each.preprocess(prompts, self.batch_size) for each in preprocessors], prompt)


@dataclass(frozen=True, eq=False)
class TrainingSetup:
    """The input of `Trainer`.

    Attributes:
        transforms: transforms fitted on training pairs.
        head: head with fresh weights and input layers fitted on the same pairs.
        objective: objective with fresh weights.
        examples: every pair, ready for the head.
    """

    transforms: BehaviorFeatures
    head: ProjectionHead
    objective: Objective
    examples: TrainingExamples


def set_up_training(
    votes: EncoderVotes, source: PairFeatureSource, config: EncoderConfig, start: StartingPoint | None = None
) -> TrainingSetup:
    """Encodes all pairs, fits transforms and head on training pairs, and prepares all pairs.

    With a starting point, transforms and head are not fitted but taken from it.

    Args:
        votes: votes, filtered and split.
        source: source of the features, through the cache.
        config: settings.
        start: trained encoder to start from, of the same configuration.
    """
    data, split, most = votes.prepared.data, votes.prepared.split, config.features.fitted_pairs
    model = data.pairs.model_index
    train_pairs, validation_pairs = (pairs_of(data, side) for side in (split.train, split.validation))
    features, prompts = source.of_table(data.pairs)
    # With a start nothing is fitted: all pairs are new to its transforms.
    rows = train_pairs[:0] if start is not None else choose_fitted_pairs(data.pairs, train_pairs, most)
    at_rows = [block[rows] for block in features], replace(prompts, prompt=prompts.prompt[rows])
    if start is not None:
        transforms, own = start.transforms, start.transforms.transform(*at_rows)
    else:
        transforms, own = BehaviorFeatures.fit(*at_rows, model[rows], config.features, config.identity_dim)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        projection = replace(config.projection, dim=config.quality_dim)
        head = fit_projection(own.blocks, projection) if start is None else start.copy_head(projection)
        objective = Objective(len(data.pairs.models), projection.dim, config.objectives)
    cache = source.runtime.cache
    *stacks, identity = [FeatureStack(cache.path, cache.memory.largest_matrix) for _ in (*features, "identity")]
    for part in transform_in_parts(transforms, features, prompts, (rows, own), most):
        identity.append(part.identity)
        for stack, block in zip(stacks, head.prepare(part.blocks), strict=True):
            stack.append(block)
        for block in features:
            let_go(block)
    validated = None
    if len(model) <= 2 * _MOST_VALIDATED:
        fixed = votes.prepared.validation_triplets
        balanced = balanced_of_votes(data, votes.sampler.prompt, split.validation, config.seed)
        validation = ValidationSide(model, train_pairs, validation_pairs, fixed, balanced, config.seed)
    else:
        validation, validated = votes.validation(_MOST_VALIDATED)
    prepared, weight = [stack.finish() for stack in stacks], config.features.identity_weight
    if start is not None:
        start.place(objective, data.pairs.models, ([block[train_pairs] for block in prepared], model[train_pairs]))
    examples = TrainingExamples(prepared, identity.finish(), weight, votes.sampler, validation, validated)
    return TrainingSetup(transforms, head, objective, examples)


def choose_fitted_pairs(pairs: PairTable, train_pairs: Int64Array, most: int) -> Int64Array:
    """The training pairs that transforms are fitted on, ascending: all, or those of some prompts.

    Prompts are taken in the order of their hashes, so that the choice depends neither on a seed nor on the order of the
    votes. All pairs of a prompt are chosen or none, but for the last prompt: what the regression predicts of a prompt
    that it has seen would flatter the pairs that are left out.

    Args:
        pairs: pairs of the votes.
        train_pairs: training pairs, ascending.
        most: largest number of pairs chosen.
    """
    if len(train_pairs) <= most:
        return train_pairs
    key = hash_prompts(pairs.prompts.to_pylist())[pairs.prompt_index[train_pairs]]
    order = np.lexsort((pairs.model_index[train_pairs], key))
    return np.sort(train_pairs[order[:most]])


def transform_in_parts(
    transforms: BehaviorFeatures,
    features: Sequence[Features],
    prompts: PromptFeatures,
    fitted: tuple[Int64Array, BehaviorBlocks],
    most: int,
) -> Iterator[BehaviorBlocks]:
    """All pairs as the head reads them, in order, a part at a time.

    Args:
        transforms: fitted transforms.
        features: features of each text encoder, [n_pairs, dim] each.
        prompts: prompts of the pairs.
        fitted: pairs that the transforms were fitted on, ascending, and what `BehaviorFeatures.fit` gave for them. They
            keep it, since what a regression predicts of a prompt that it has seen would flatter them.
        most: largest number of pairs in a part.
    """
    rows, own = fitted
    for start in range(0, len(prompts.prompt), most):
        part = slice(start, start + most)
        begin, end = np.searchsorted(rows, [part.start, part.stop])
        known = own.of(slice(int(begin), int(end)))
        yield transforms.complete(known, rows[begin:end] - start, [block[part] for block in features], prompts.of(part))
