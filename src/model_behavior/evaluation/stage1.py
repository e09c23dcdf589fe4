"""Stage 1 on validation prompts: triplet accuracy, identification from k responses, collapse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from model_behavior.data.families import number_families
from model_behavior.data.split import normalised_prompt_ids, pairs_of
from model_behavior.data_models.behavior_encoder_types import PreprocessedBehaviorEncoderData, TripletKind, Triplets
from model_behavior.evaluation.figures import Figure, bootstrap_share
from model_behavior.evaluation.recognition import IDENTIFICATION_SIZES as IDENTIFICATION_SIZES
from model_behavior.evaluation.recognition import (
    HeldResponses,
    RecognitionDraws,
    draw_recognition,
    recognise,
    share_right,
)
from model_behavior.models.behavior import metrics
from model_behavior.models.behavior.encoder_base import FloatArray


@dataclass(frozen=True)
class Stage1Figures:
    """The figures of one embedding on the validation side of a split.

    Attributes:
        triplet: accuracy on triplets of decided votes, "all" and by kind of positive.
        identification: by k, among the models that have k validation responses; nothing where none has.
        family: the same, where the right family is right.
        n_models: models that an identification chooses from.
        mean_distance: mean cosine distance between validation pairs.
        effective_rank: of the validation pairs' covariance.
        prompt_share: share of their variance explained by the prompt.
        model_share: and by the model.
    """

    triplet: Mapping[str, Figure]
    identification: Mapping[int, Figure]
    family: Mapping[int, Figure]
    n_models: int
    mean_distance: float
    effective_rank: float
    prompt_share: float
    model_share: float


@final
class Stage1Protocol:
    """What every embedding of the same votes is asked: the same triplets, draws and bootstrap replicates.

    The draws take longer than a measurement, so one protocol is meant for all embeddings that are compared.

    Args:
        prepared: the votes, their split and the validation triplets.
        seed: of draws and bootstrap replicates.
    """

    def __init__(self, prepared: PreprocessedBehaviorEncoderData, seed: int = 0) -> None:
        self._prepared, self._seed = prepared, seed
        self._train = pairs_of(prepared.data, prepared.split.train)
        self._validation = pairs_of(prepared.data, prepared.split.validation)
        pairs = prepared.data.pairs
        self._prompt = normalised_prompt_ids(pairs.prompts)[pairs.prompt_index]
        self._family = number_families(pairs.models)
        self._draws: RecognitionDraws | None = None

    def measure(self, embeddings: FloatArray) -> Stage1Figures:
        """The figures of an embedding of all pairs, [n_pairs, dim], fitted on the training side alone."""
        pairs, train, validation = self._prepared.data.pairs, self._train, self._validation
        held, prompt = embeddings[validation], self._prompt[validation]
        known = metrics.centroids(embeddings[train], pairs.model_index[train], len(pairs.models))
        responses = HeldResponses(held, pairs.model_index[validation], prompt, known)
        if self._draws is None:
            self._draws = draw_recognition(responses, self._seed)
        recognised = recognise(responses, self._draws)
        return Stage1Figures(
            triplet=measure_triplets(embeddings, self._prepared.validation_triplets, self._prompt, self._seed),
            identification=share_right(recognised),
            family=share_right(recognised, self._family),
            n_models=int((~np.isnan(known).any(axis=1)).sum()),
            mean_distance=metrics.mean_pairwise_distance(held),
            effective_rank=metrics.effective_rank(held) if held.shape[1] > 1 else 1.0,
            prompt_share=metrics.variance_explained(held, prompt),
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
