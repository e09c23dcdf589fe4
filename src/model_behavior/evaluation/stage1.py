"""Stage 1 on validation prompts: triplet accuracy, identification from k responses, collapse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model_behavior.data.split import normalised_prompt_ids, pairs_of
from model_behavior.data_models.behavior_encoder_types import PreprocessedBehaviorEncoderData, TripletKind, Triplets
from model_behavior.evaluation.figures import Figure, bootstrap_share
from model_behavior.evaluation.recognition import IDENTIFICATION_SIZES as IDENTIFICATION_SIZES
from model_behavior.evaluation.recognition import HeldResponses, draw_recognition, measure_recognition
from model_behavior.models.behavior import metrics
from model_behavior.models.behavior.encoder_base import FloatArray


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
    responses = HeldResponses(held, pairs.model_index[validation], prompt[validation], known)
    return Stage1Figures(
        triplet=measure_triplets(embeddings, prepared.validation_triplets, prompt, seed),
        identification=measure_recognition(responses, draw_recognition(responses, seed)),
        n_models=int((~np.isnan(known).any(axis=1)).sum()),
        mean_distance=metrics.mean_pairwise_distance(held),
        effective_rank=metrics.effective_rank(held) if held.shape[1] > 1 else 1.0,
        prompt_share=metrics.variance_explained(held, prompt[validation]),
        model_share=metrics.variance_explained(held, pairs.model_index[validation]),
    )


def measure_triplets(
    embeddings: FloatArray, triplets: Triplets, prompt_of_pair: npt.NDArray[np.integer], seed: int
) -> dict[str, Figure]:
    """Triplet accuracy of decided votes: "all", "identity" and "performance", as `Stage1Figures.triplet`.

    Args:
        embeddings: of all pairs, [n_pairs, dim].
        triplets: indices into them.
        prompt_of_pair: the cluster of the intervals, [n_pairs].
        seed: of the bootstrap.
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
