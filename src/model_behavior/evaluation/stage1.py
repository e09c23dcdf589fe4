"""Stage 1 on validation prompts: triplet accuracy, identification from k responses, and signs of collapse.

Signs of collapse are a small mean distance and a low effective rank; the shares of variance that prompt and model
explain say what an embedding encodes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

import numpy as np

from model_behavior.arrays import Float32Array, Int64Array, IntArray
from model_behavior.data.split import normalised_prompt_ids, pairs_of
from model_behavior.data_models.behavior_encoder_types import PreprocessedBehaviorEncoderData, TripletKind, Triplets
from model_behavior.evaluation.figures import Figure, bootstrap_share, interval
from model_behavior.evaluation.recognition import IDENTIFICATION_SIZES as IDENTIFICATION_SIZES
from model_behavior.evaluation.recognition import (
    HeldResponses,
    RecognitionDraws,
    draw_recognition,
    recognise,
    share_right,
)
from model_behavior.models.behavior import metrics
from model_behavior.names import number_families
from model_behavior.preprocessing.balanced_triplets import BalancedTriplets, balanced_of_votes

_REPLICATES = 100

_Rows = Int64Array


@dataclass(frozen=True)
class Stage1Figures:
    """The figures of one embedding on the validation side of a split.

    Attributes:
        triplet: accuracy on triplets of decided votes, "all" and by kind of positive.
        balanced: accuracy on balanced triplets (`preprocessing.balanced_triplets`), draws as a half.
        identification: share of models recognised from k validation responses, by k; no entry where no model has k.
        family: the same, counting a guess of the right family as right.
        n_models: number of models that identification chooses from.
        mean_distance: mean cosine distance between validation pairs.
        effective_rank: effective rank of the validation pairs' covariance.
        prompt_share: share of their variance explained by the prompt.
        model_share: share of their variance explained by the model.
    """

    triplet: Mapping[str, Figure]
    balanced: Figure
    identification: Mapping[int, Figure]
    family: Mapping[int, Figure]
    n_models: int
    mean_distance: float
    effective_rank: float
    prompt_share: float
    model_share: float


@final
class Stage1Protocol:
    """Measures embeddings of the same votes on the same triplets, draws and bootstrap replicates.

    The draws take longer than a measurement, so use one protocol for all embeddings to compare.

    Args:
        prepared: votes, their split and the validation triplets.
        seed: seed of draws and bootstrap replicates.
    """

    def __init__(self, prepared: PreprocessedBehaviorEncoderData, seed: int = 0) -> None:
        self._prepared, self._seed = prepared, seed
        self._train = pairs_of(prepared.data, prepared.split.train)
        self._validation = pairs_of(prepared.data, prepared.split.validation)
        pairs = prepared.data.pairs
        self._prompt = normalised_prompt_ids(pairs.prompts)[pairs.prompt_index]
        self._family = number_families(pairs.models)
        self._balanced = balanced_of_votes(prepared.data, self._prompt, prepared.split.validation, seed)
        self._draws: RecognitionDraws | None = None

    def measure(self, embeddings: Float32Array) -> Stage1Figures:
        """Figures of an embedding of all pairs, [n_pairs, dim], that was fitted on the training side alone."""
        pairs, train, validation = self._prepared.data.pairs, self._train, self._validation
        held, prompt = embeddings[validation], self._prompt[validation]
        known = metrics.centroids(embeddings[train], pairs.model_index[train], len(pairs.models))
        responses = HeldResponses(held, pairs.model_index[validation], prompt, known)
        if self._draws is None:
            self._draws = draw_recognition(responses, self._seed)
        recognised = recognise(responses, self._draws)
        return Stage1Figures(
            triplet=measure_triplets(embeddings, self._prepared.validation_triplets, self._prompt, self._seed),
            balanced=measure_balanced(embeddings, self._balanced, self._prompt, self._seed),
            identification=share_right(recognised),
            family=share_right(recognised, self._family),
            n_models=int((~np.isnan(known).any(axis=1)).sum()),
            mean_distance=metrics.mean_pairwise_distance(held),
            effective_rank=metrics.effective_rank(held) if held.shape[1] > 1 else 1.0,
            prompt_share=metrics.variance_explained(held, prompt),
            model_share=metrics.variance_explained(held, pairs.model_index[validation]),
        )


def measure_triplets(
    embeddings: Float32Array, triplets: Triplets, prompt_of_pair: IntArray, seed: int
) -> dict[str, Figure]:
    """Triplet accuracy of decided votes: "all", "identity" and "performance", as `Stage1Figures.triplet`.

    Args:
        embeddings: one row per pair, [n_pairs, dim].
        triplets: indices into the pairs.
        prompt_of_pair: prompt of each pair, by which the bootstrap clusters, [n_pairs].
        seed: seed of the bootstrap.
    """
    hits = metrics.triplet_hits(embeddings, triplets)
    prompt = prompt_of_pair[triplets.anchor]
    sides = {
        "all": triplets.kind <= TripletKind.PERFORMANCE,
        "identity": triplets.kind == TripletKind.IDENTITY,
        "performance": triplets.kind == TripletKind.PERFORMANCE,
    }
    return {
        name: bootstrap_share(hits[chosen], prompt[chosen], np.random.default_rng(seed))
        for name, chosen in sides.items()
    }


def measure_balanced(
    embeddings: Float32Array, triplets: BalancedTriplets, prompt_of_pair: IntArray, seed: int
) -> Figure:
    """Accuracy on balanced triplets, draws as a half; the bootstrap clusters by the prompt of the vote.

    Arguments as for `measure_triplets`.
    """
    scores = metrics.balanced_scores(embeddings, triplets)
    return bootstrap_share(scores, prompt_of_pair[triplets.positive], np.random.default_rng(seed))


def measure_collapse(embeddings: Float32Array, model: IntArray, prompt: IntArray, seed: int) -> dict[str, Figure]:
    """Mean pairwise cosine distance, effective rank, and the shares of variance that prompt and model explain.

    Intervals come from half-samples: halves of the prompts, drawn without replacement, vary as much as whole samples
    from a population (McCarthy 1969). The bootstrap would draw copies of a response, which look like agreement.

    Args:
        embeddings: one row per response, [n_rows, dim].
        model: model of each response, [n_rows].
        prompt: prompt of each response, [n_rows].
        seed: seed of the half-samples.
    """
    figures: dict[str, Callable[[_Rows], float]] = {
        "mean_distance": lambda rows: metrics.mean_pairwise_distance(embeddings[rows]),
        "effective_rank": lambda rows: metrics.effective_rank(embeddings[rows]) if embeddings.shape[1] > 1 else 1.0,
        "prompt_share": lambda rows: metrics.variance_explained(embeddings[rows], prompt[rows]),
        "model_share": lambda rows: metrics.variance_explained(embeddings[rows], model[rows]),
    }
    halves = _draw_halves(prompt, np.random.default_rng(seed))
    everything = np.arange(len(embeddings))
    measured = {}
    for name, figure in figures.items():
        value = figure(everything)
        replicates = np.array([figure(half) for half in halves]) if halves else np.full(1, np.nan)
        # Half as many responses have a lower rank, so only the scatter of the halves is used, not their mean.
        low, high = interval(value + replicates - np.mean(replicates))
        measured[name] = Figure(value, low, high, len(embeddings))
    return measured


def _draw_halves(prompt: IntArray, rng: np.random.Generator) -> list[_Rows]:
    """Rows of `_REPLICATES` random halves of the prompts; none with fewer than four prompts."""
    distinct = np.unique(prompt)
    if len(distinct) < 4:
        return []
    return [
        np.flatnonzero(np.isin(prompt, rng.permutation(distinct)[: len(distinct) // 2])) for _ in range(_REPLICATES)
    ]
