"""Measures routers on votes that they have not seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from model_behavior.arrays import BoolArray, Float64Array, Int64Array
from model_behavior.data_models.scoring_types import ScoringVotes
from model_behavior.data_models.votes import Outcome
from model_behavior.errors import DataError
from model_behavior.evaluation.figures import Figure, bootstrap_prompts
from model_behavior.models.scoring.model_base import ModelBase
from model_behavior.preprocessing.scoring_votes import select_scoring_votes, texts_of
from model_behavior.routing.frontier import (
    CPT_LEVELS,
    Ends,
    GapCurve,
    average_gap_recovered,
    call_performance_threshold,
    find_frontier,
    recover_gap,
    sweep_thresholds,
)
from model_behavior.routing.router import EVEN, Router

_REPLICATES = 500
Rows = Int64Array


@dataclass(frozen=True)
class RoutingFigures:
    """Figures of a router between the dearer and the cheaper side of votes.

    Attributes:
        strong_win_rate: measured win rate of the dearer side, ties counted half; at most 0.5 leaves no gap.
        apgr: average performance gap recovered; 0.5 is random.
        cpt: share of calls to the dearer side that recovers each level of the gap.
    """

    strong_win_rate: Figure
    apgr: Figure
    cpt: Mapping[float, Figure]


def votes_between(votes: ScoringVotes, costs: Mapping[str, float]) -> ScoringVotes:
    """The votes whose two models have different costs.

    Raises:
        DataError: no vote is between models of different cost.
    """
    cost = np.array([costs.get(name, np.nan) for name in votes.models])
    difference = np.abs(cost[votes.model_a] - cost[votes.model_b])
    rows = np.flatnonzero(difference > 0)
    if not len(rows):
        raise DataError(f"none of {len(votes):,} votes is between two candidates of different cost")
    return select_scoring_votes(votes, rows)


def measure_routing(
    scorer: ModelBase, votes: ScoringVotes, costs: Mapping[str, float], seed: int = 0
) -> RoutingFigures:
    """APGR and CPT, with the dearer model of each vote as the strong one, as RouteLLM groups models into two tiers.

    A response's value is 1 if it won, 0 if it lost and 1/2 otherwise, so a tie changes no gap. The router knows the
    prompt and the two names.

    Args:
        scorer: scoring model, fitted to other votes.
        votes: votes to measure on, from `votes_between`.
        costs: cost of each of their models.
        seed: seed of the bootstrap over prompts.
    """
    strong_first = _strong_first(votes, costs)
    predicted = scorer.predict(*texts_of(votes)).astype(np.float64)
    lead = np.where(strong_first, 1, -1) * (predicted[:, 0] - predicted[:, 1])
    strong_value = np.where(strong_first, _value_of_a(votes), 1 - _value_of_a(votes))
    curve = partial(_curve, EVEN + lead / 2, strong_value)

    def figure(measure: Callable[[Rows], float]) -> Figure:
        rng = np.random.default_rng(seed)
        low, high = bootstrap_prompts(votes.prompt_index, measure, _REPLICATES, rng)
        return Figure(measure(np.arange(len(votes))), low, high, len(votes))

    return RoutingFigures(
        strong_win_rate=figure(lambda rows: float(strong_value[rows].mean())),
        apgr=figure(lambda rows: average_gap_recovered(curve(rows))),
        cpt={level: figure(partial(_reach, curve, level)) for level in CPT_LEVELS},
    )


def measure_win_rates(router: Router, votes: ScoringVotes, thresholds: Sequence[float]) -> list[float]:
    """Measured win rate of the side that the router chooses in each vote, ties counted half, by threshold.

    Args:
        router: router whose candidates include both models of every vote.
        votes: votes to measure on, from `votes_between`.
        thresholds: thresholds to measure at.
    """
    prompts, models_a, models_b = texts_of(votes)
    reference = [router.reference] * len(votes)
    sides = [router.scorer.predict(prompts, side, reference).astype(np.float64) for side in (models_a, models_b)]
    quality = np.stack([EVEN + (side[:, 0] - side[:, 1]) / 2 for side in sides], axis=1)
    costs = dict(zip(router.candidates, router.costs, strict=True))
    cost = np.array([[costs[a], costs[b]] for a, b in zip(models_a, models_b, strict=True)])
    frontier = find_frontier(quality, cost)
    value = np.stack([_value_of_a(votes), 1 - _value_of_a(votes)], axis=1)
    rows = np.arange(len(votes))
    return [float(value[rows, frontier.choose(threshold)].mean()) for threshold in thresholds]


def _strong_first(votes: ScoringVotes, costs: Mapping[str, float]) -> BoolArray:
    cost = np.array([costs[name] for name in votes.models])
    first: BoolArray = cost[votes.model_a] > cost[votes.model_b]
    return first


def _value_of_a(votes: ScoringVotes) -> Float64Array:
    values: Float64Array = np.where(
        votes.outcome == Outcome.MODEL_A, 1, np.where(votes.outcome == Outcome.MODEL_B, 0, EVEN)
    )
    return values


def _curve(strong_rate: Float64Array, strong_value: Float64Array, rows: Rows) -> GapCurve:
    rate, won = strong_rate[rows], strong_value[rows]
    calls = np.array([1.0, 0.0])
    value = np.stack([won, 1 - won], axis=1)
    frontier = find_frontier(np.stack([rate, 1 - rate], axis=1), calls)
    ends = Ends(0.0, float(value[:, 1].mean()), 1.0, float(value[:, 0].mean()))
    return recover_gap(sweep_thresholds(frontier, calls, value), ends)


def _reach(curve: Callable[[Rows], GapCurve], level: float, rows: Rows) -> float:
    return call_performance_threshold(curve(rows), level)
