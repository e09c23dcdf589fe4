"""LLMs that were never voted on, enrolled from k of their responses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from model_behavior.data_models.scoring_types import ScoringVotes, WideArray
from model_behavior.evaluation.stage2 import Cell, Stage2Figures, coverage, measure_cells, votes_of_cells
from model_behavior.evaluation.stage2_material import Stage2Material, draw_enrolment
from model_behavior.models.scoring.bradley_terry import BradleyTerry
from model_behavior.models.scoring.dense_network_model import DenseNetworkModel

ENROLMENT_SIZES = (1, 8, 32, 128)
NEW_ON_NEW = Cell(seen_prompt=False, seen_models=False)


@dataclass(frozen=True)
class ColdStartFigures:
    """New LLMs at one k, means over the draws of responses; the figures' intervals are of the first draw.

    Attributes:
        k: responses of each.
        votes: on measured prompts, between a new and a known LLM; None where there are none.
        accuracy: mean over draws.
        log_loss: mean over draws.
        correlation: Spearman's, between predicted and later rating of the new LLMs.
        coverage: share of later ratings inside the 95 % interval.
        n_models: new LLMs.
    """

    k: int
    votes: Stage2Figures | None
    accuracy: float
    log_loss: float
    correlation: float
    coverage: float
    n_models: int


def measure_cold_start(
    model: DenseNetworkModel, material: Stage2Material, k: int, draws: int, seed: int
) -> ColdStartFigures:
    """Enrols the new LLMs `draws` times from k responses each, and measures.

    Args:
        model: fitted to `material.fit`; the new LLMs are removed from it in the end.
        material: with held-out LLMs.
        k: responses.
        draws: how often responses are drawn.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    new = tuple(sorted({material.pairs.models[index] for index in material.pairs.model_index[material.pool]}))
    later = later_ratings(material, model.voted_models)
    votes = votes_of_cells(material.test, material.fit).get(NEW_ON_NEW)
    figures, rows = [], []
    for _ in range(draws):
        model.enrol(draw_enrolment(material, k, rng))
        ratings = model.rate(new)
        truth = np.array([later[name] for name in new])
        rho = float(spearmanr(ratings.rating, truth).statistic) if len(new) > 2 else float("nan")
        measured = measure_cells(model, {NEW_ON_NEW: votes}, seed).get(NEW_ON_NEW) if votes is not None else None
        figures.append(measured)
        right = (measured.accuracy.value, measured.log_loss.value) if measured is not None else (np.nan, np.nan)
        rows.append((*right, rho, coverage(ratings.low, ratings.high, truth)))
    model.remove(new)
    accuracy, loss, rho, covered = np.mean(rows, axis=0).tolist()
    return ColdStartFigures(k, figures[0], accuracy, loss, rho, covered, len(new))


def measure_oracle(material: Stage2Material, seed: int) -> Stage2Figures | None:
    """Bradley-Terry that has seen the new LLMs' votes on training prompts."""
    oracle = BradleyTerry()
    oracle.fit(material.oracle)
    votes = votes_of_cells(material.test, material.fit).get(NEW_ON_NEW)
    return measure_cells(oracle, {NEW_ON_NEW: votes}, seed).get(NEW_ON_NEW) if votes is not None else None


def later_ratings(material: Stage2Material, known: tuple[str, ...]) -> dict[str, float]:
    """Bradley-Terry ratings from all votes, so shifted that the known LLMs have a mean of 0."""
    rated = _rate_all(material.everything)
    level = float(np.mean([rated[name] for name in known]))
    return {name: rating - level for name, rating in rated.items()}


def _rate_all(votes: ScoringVotes) -> dict[str, float]:
    model = BradleyTerry()
    model.fit(votes)
    rating: WideArray = model.rating
    return dict(zip(model.models, rating.tolist(), strict=True))
