"""How much of the gap between a weak and a strong model a router recovers, as RouteLLM measures it.

Source: Ong, Almahairi, Wu, Chiang, Wu, Gonzalez, Kadous and Stoica 2024, "RouteLLM: Learning to Route LLMs with
Preference Data", arXiv 2406.18665, section 2. With r(M) the mean value of the answers of M,

    PGR(R)  = (r(R) - r(weak)) / (r(strong) - r(weak))        performance gap recovered
    APGR    = integral of PGR over the share c of calls to the strong model, from 0 to 1
    CPT(x)  = the least c at which PGR reaches x              call-performance threshold

Sending each prompt to the strong model at random with probability c gives PGR = c, so APGR = 1/2 and CPT(x) = x.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model_behavior.data_models.scoring_types import WideArray
from model_behavior.routing.frontier import Sweep

CPT_LEVELS = (0.5, 0.8)
"""The levels that the paper reports."""


@dataclass(frozen=True, eq=False)
class GapCurve:
    """PGR along the share of the strong model's cost.

    Attributes:
        share: 0 is the weak model everywhere, 1 the strong one's cost; rising, [n_points]. With two models it is the
            share of calls to the strong one.
        recovered: PGR there, [n_points]; NaN where the strong model is not better than the weak one.
    """

    share: WideArray
    recovered: WideArray


@dataclass(frozen=True)
class Ends:
    """Mean cost and value of always calling one model: the weak, and the strong one."""

    weak_cost: float
    weak_value: float
    strong_cost: float
    strong_value: float


def recover_gap(sweep: Sweep, ends: Ends) -> GapCurve:
    """The sweep in units of the gap. Between two thresholds lies a line: prompts of equal score go at random."""
    width, gap = ends.strong_cost - ends.weak_cost, ends.strong_value - ends.weak_value
    if width <= 0 or gap <= 0:
        return GapCurve(np.array([0.0, 1.0]), np.full(2, np.nan))
    return GapCurve((sweep.cost[::-1] - ends.weak_cost) / width, (sweep.value[::-1] - ends.weak_value) / gap)


def average_gap_recovered(curve: GapCurve) -> float:
    """APGR: the area below the curve over [0, 1], by trapezoids; 0.5 for a random router.

    More than two models are the same with the share of the strong model's cost in place of the share of calls; a curve
    that ends before 1 spends no more and goes on level.
    """
    inside = (curve.share > 0) & (curve.share < 1)
    share = np.concatenate([[0.0], curve.share[inside], [1.0]])
    ends = np.interp([0.0, 1.0], curve.share, curve.recovered)
    recovered = np.concatenate([ends[:1], curve.recovered[inside], ends[1:]])
    return float(np.trapezoid(recovered, share))


def call_performance_threshold(curve: GapCurve, level: float) -> float:
    """CPT(level): the least share at which PGR reaches `level`, in [0, 1]; NaN where it never does."""
    reached = np.flatnonzero(curve.recovered >= level)
    if not len(reached):
        return float("nan")
    after = int(reached[0])
    if after == 0:
        return float(curve.share[0])
    low, high = curve.recovered[after - 1], curve.recovered[after]
    part = (level - low) / (high - low)
    return float(curve.share[after - 1] + part * (curve.share[after] - curve.share[after - 1]))


def thresholds_of_levels(curve: GapCurve, levels: Sequence[float] = CPT_LEVELS) -> dict[float, float]:
    """CPT of several levels."""
    return {level: call_performance_threshold(curve, level) for level in levels}
