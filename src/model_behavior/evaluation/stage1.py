"""Stage 1 on validation prompts: triplet accuracy, identification from k responses, collapse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model_behavior.data.split import normalised_prompt_ids, pairs_of
from model_behavior.data_models.behavior_encoder_types import PreprocessedBehaviorEncoderData, TripletKind
from model_behavior.evaluation.figures import Figure, bootstrap_prompts, bootstrap_share
from model_behavior.models.behavior import metrics
from model_behavior.models.behavior.encoder_base import FloatArray

IDENTIFICATION_SIZES = (1, 8, 32)
_DRAWS = 20
_REPLICATES = 100


@dataclass(frozen=True)
class Stage1Figures:
    """The figures of one embedding on the validation side of a split.

    Attributes:
        triplet: accuracy on triplets of decided votes, "all" and by kind of positive.
        identification: by k, among the models that have k validation responses; nothing where none has.
        n_models: models that an identification chooses from.
        mean_distance: mean cosine distance between validation pairs.
        effective_rank: of the validation pairs' covariance.
        prompt_share: share of their variance explained by the prompt.
        model_share: and by the model.
    """

    triplet: Mapping[str, Figure]
    identification: Mapping[int, Figure]
    n_models: int
    mean_distance: float
    effective_rank: float
    prompt_share: float
    model_share: float


def measure_stage1(embeddings: FloatArray, prepared: PreprocessedBehaviorEncoderData, seed: int = 0) -> Stage1Figures:
    """Measures an embedding of all pairs.

    Args:
        embeddings: [n_pairs, dim], fitted on the training side alone.
        prepared: the votes, their split and the validation triplets.
        seed: of draws and bootstrap replicates.
    """
    pairs = prepared.data.pairs
    train = pairs_of(prepared.data, prepared.split.train)
    validation = pairs_of(prepared.data, prepared.split.validation)
    held = embeddings[validation]
    prompt = normalised_prompt_ids(pairs.prompts)[pairs.prompt_index]
    known = metrics.centroids(embeddings[train], pairs.model_index[train], len(pairs.models))
    return Stage1Figures(
        triplet=_measure_triplets(embeddings, prepared, prompt, seed),
        identification={
            k: figure
            for k in IDENTIFICATION_SIZES
            if (figure := _identify(held, pairs.model_index[validation], prompt[validation], known, k, seed))
        },
        n_models=int((~np.isnan(known).any(axis=1)).sum()),
        mean_distance=metrics.mean_pairwise_distance(held),
        effective_rank=metrics.effective_rank(held) if held.shape[1] > 1 else 1.0,
        prompt_share=metrics.variance_explained(held, prompt[validation]),
        model_share=metrics.variance_explained(held, pairs.model_index[validation]),
    )


def _measure_triplets(
    embeddings: FloatArray,
    prepared: PreprocessedBehaviorEncoderData,
    prompt_of_pair: npt.NDArray[np.integer],
    seed: int,
) -> dict[str, Figure]:
    triplets = prepared.validation_triplets
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


def _identify(
    embeddings: FloatArray,
    model: npt.NDArray[np.integer],
    prompt: npt.NDArray[np.integer],
    known: FloatArray,
    k: int,
    seed: int,
) -> Figure | None:
    rng = np.random.default_rng(seed)

    def share(rows: npt.NDArray[np.int64], draws: int) -> tuple[float, int]:
        # A prompt that was drawn twice counts twice, but never gives the same response twice to one mean.
        distinct, times = np.unique(rows, return_counts=True)
        groups, truth = metrics.draw_groups(model[distinct], k, draws, rng, times)
        if not len(truth):
            return float("nan"), 0
        means = embeddings[distinct][groups].mean(axis=1)
        return float(metrics.identification_hits(means, truth, known).mean()), len(truth)

    value, n_draws = share(np.arange(len(model)), _DRAWS)
    if not n_draws:
        return None
    low, high = bootstrap_prompts(prompt, lambda rows: share(rows, _DRAWS // 4)[0], _REPLICATES, rng)
    return Figure(value, low, high, n_draws)
