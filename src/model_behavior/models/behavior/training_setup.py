"""What the training of the head starts from: transforms fitted on training pairs, and all pairs as the head reads them.

Memory is bounded: where there are many training pairs, the transforms are fitted on a sample of them; they are applied
to as many pairs at a time, and what is made of all pairs lies in mapped files where it is large.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from model_behavior.data.prompt_keys import hash_prompts
from model_behavior.data.split import pairs_of
from model_behavior.data_models.votes import PairTable
from model_behavior.models.behavior.behavior_features import BehaviorBlocks, BehaviorFeatures
from model_behavior.models.behavior.configuration import EncoderConfig
from model_behavior.models.behavior.fine_tuning.votes import EncoderVotes
from model_behavior.models.behavior.objectives import Objective
from model_behavior.models.behavior.pair_features import PairFeatureSource
from model_behavior.models.behavior.projection import ProjectionHead, fit_projection
from model_behavior.models.behavior.topic_removal import PromptFeatures
from model_behavior.models.behavior.training import TrainingExamples
from model_behavior.models.behavior.validation import ValidationSide
from model_behavior.preprocessing.large_features import Features, FeatureStack

_Rows: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class TrainingSetup:
    """What `Trainer` is given.

    Attributes:
        transforms: fitted on training pairs.
        head: with fresh weights, and input layers fitted on the same pairs.
        objective: with fresh weights.
        examples: every pair, ready for the head.
    """

    transforms: BehaviorFeatures
    head: ProjectionHead
    objective: Objective
    examples: TrainingExamples


def set_up_training(votes: EncoderVotes, source: PairFeatureSource, config: EncoderConfig) -> TrainingSetup:
    """Encodes all pairs, fits transforms and head on training pairs, and prepares all pairs.

    Args:
        votes: filtered and split.
        source: of the features, through the cache.
        config: settings.
    """
    data, split, most = votes.prepared.data, votes.prepared.split, config.features.fitted_pairs
    model = data.pairs.model_index
    train_pairs, validation_pairs = (pairs_of(data, side) for side in (split.train, split.validation))
    features, prompts = source.of_table(data.pairs)
    rows = choose_fitted_pairs(data.pairs, train_pairs, most)
    at_rows = [block[rows] for block in features], replace(prompts, prompt=prompts.prompt[rows])
    transforms, own = BehaviorFeatures.fit(*at_rows, model[rows], config.features, config.identity_dim)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        projection = replace(config.projection, dim=config.quality_dim)
        head = fit_projection(own.blocks, projection)
        objective = Objective(len(data.pairs.models), projection.dim, config.objectives)
    *stacks, identity = [FeatureStack(source.runtime.cache.path) for _ in (*features, "identity")]
    for part in transform_in_parts(transforms, features, prompts, (rows, own), most):
        identity.append(part.identity)
        for stack, block in zip(stacks, head.prepare(part.blocks), strict=True):
            stack.append(block)
    validation = ValidationSide(model, train_pairs, validation_pairs, votes.prepared.validation_triplets, config.seed)
    prepared, weight = [stack.finish() for stack in stacks], config.features.identity_weight
    examples = TrainingExamples(prepared, identity.finish(), weight, votes.sampler, validation)
    return TrainingSetup(transforms, head, objective, examples)


def choose_fitted_pairs(pairs: PairTable, train_pairs: _Rows, most: int) -> _Rows:
    """The training pairs that transforms are fitted on, ascending: all, or those of some prompts.

    Prompts are taken in the order of their hashes, so that the choice depends neither on a seed nor on the order of the
    votes. All pairs of a prompt are chosen or none, but for the last prompt: what the regression predicts of a prompt
    that it has seen would flatter the pairs that are left out.

    Args:
        pairs: of the votes.
        train_pairs: ascending.
        most: at most so many.
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
    fitted: tuple[_Rows, BehaviorBlocks],
    most: int,
) -> Iterator[BehaviorBlocks]:
    """What is known of all pairs, in order, of at most so many at a time.

    Args:
        transforms: fitted.
        features: of each text encoder, [n_pairs, dim] each.
        prompts: the prompts of the pairs.
        fitted: the pairs that transforms were fitted on, ascending, and what `BehaviorFeatures.fit` gave for them. They
            keep it, since what a regression predicts of a prompt that it has seen would flatter them.
        most: pairs at a time.
    """
    rows, own = fitted
    for start in range(0, len(prompts.prompt), most):
        part = slice(start, start + most)
        begin, end = np.searchsorted(rows, [part.start, part.stop])
        known = own.of(slice(int(begin), int(end)))
        yield transforms.complete(known, rows[begin:end] - start, [block[part] for block in features], prompts.of(part))
