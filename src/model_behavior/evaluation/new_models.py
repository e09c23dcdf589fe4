"""Stage 1 on LLMs whose whole family it has never seen: what their embeddings say of ratings and votes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from model_behavior.data.families import draw_held_out
from model_behavior.data_models.split import ValidationSplit
from model_behavior.data_models.votes import TrainingData
from model_behavior.evaluation.certainty import CertaintyFigures, measure_certainty
from model_behavior.evaluation.cold_start import (
    ENROLMENT_SIZES,
    ColdStartFigures,
    measure_cold_start,
    measure_oracle,
)
from model_behavior.evaluation.stage2 import Stage2Figures
from model_behavior.evaluation.stage2_benchmark import Stage2Plan, embed_pairs_for_stage2, train_on_split
from model_behavior.models.behavior.monitor import Runtime
from model_behavior.models.scoring.dense_network_model import DenseNetworkModel


@dataclass(frozen=True)
class NewModels:
    """One seed: other families held out, both stages trained without them.

    Attributes:
        held_out: names.
        by_responses: figures by the number of responses enrolled.
        oracle: Bradley-Terry that has seen their votes on training prompts.
        certainty: of their embeddings, and of "none of them".
    """

    held_out: tuple[str, ...]
    by_responses: Mapping[int, ColdStartFigures]
    oracle: Stage2Figures | None
    certainty: CertaintyFigures


def measure_new_models(votes: TrainingData, plan: Stage2Plan, runtime: Runtime) -> tuple[NewModels, ...]:
    """One result per seed; a seed that holds out nobody, or nobody with votes, gives none."""
    results = []
    for seed in range(plan.seeds):
        held_out = draw_held_out(votes.pairs.models, plan.held_out_share, np.random.default_rng(seed))
        if not held_out:
            continue
        split = ValidationSplit(plan.validation_fraction, seed, held_out_models=held_out)
        encoder, prepared = train_on_split(votes, split, plan, runtime)
        material = embed_pairs_for_stage2(encoder, prepared, plan.batch_size)
        if not len(material.pool):
            continue
        network = DenseNetworkModel(material.known, cache=runtime.cache)
        network.fit(material.fit)
        by_responses = {k: measure_cold_start(network, material, k, plan.draws, seed) for k in ENROLMENT_SIZES}
        certainty = measure_certainty(encoder, prepared, plan.batch_size, seed)
        results.append(NewModels(held_out, by_responses, measure_oracle(material, seed), certainty))
    return tuple(results)
