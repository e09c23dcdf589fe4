"""The cost-quality frontier of each prompt, and how much of a quality gap a router on it recovers.

For a threshold t, the price of quality in units of quality per unit of cost, the model chosen on prompt i is

    argmax over m of  q_im - t c_m

which is Lagrangian relaxation of "the best mean quality under a budget of mean cost" (Everett 1963, "Generalized
Lagrange multiplier method for solving problems of optimum allocation of resources"). As t rises from minus infinity,
the choice moves along the upper convex hull of the points (c_m, q_im) from the dearest model to the cheapest one.
With two models it is the rule of RouteLLM (Ong, Almahairi, Wu, Chiang, Wu, Gonzalez, Kadous and Stoica 2024, "RouteLLM:
Learning to Route LLMs with Preference Data", arXiv 2406.18665): the strong one where P(strong wins) >= alpha.

How much of the gap between a weak and a strong model a router recovers is measured as in its section 2. With r(M) the
mean value of the answers of M,

    PGR(R)  = (r(R) - r(weak)) / (r(strong) - r(weak))        performance gap recovered
    APGR    = integral of PGR over the share c of calls to the strong model, from 0 to 1
    CPT(x)  = the least c at which PGR reaches x              call-performance threshold

Sending each prompt to the strong model at random with probability c gives PGR = c, so APGR = 1/2 and CPT(x) = x.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model_behavior.arrays import Float64Array, Int64Array
from model_behavior.errors import UsageError

CPT_LEVELS = (0.5, 0.8)
"""The levels that the paper reports."""


@dataclass(frozen=True, eq=False)
class Frontier:
    """The hull of every prompt, from the dearest to the cheapest model.

    Attributes:
        models: columns of the models on the hull, padded with the last one, [n_prompts, length of the longest hull].
        prices: threshold from which the next model is chosen, rising, infinite after the last,
            [n_prompts, length - 1].
    """

    models: Int64Array
    prices: Float64Array

    def choose(self, threshold: float) -> Int64Array:
        """The column of the chosen model of each prompt, [n_prompts]; the cheaper one of equally good models."""
        steps = (self.prices <= threshold).sum(axis=1)
        chosen: Int64Array = self.models[np.arange(len(self.models)), steps]
        return chosen


@dataclass(frozen=True, eq=False)
class Sweep:
    """Mean cost and value of the choices at every threshold at which one of them changes, [n_thresholds].

    Attributes:
        threshold: rising thresholds; the first is minus infinity, where every prompt goes to the dearest model.
        cost: mean cost over prompts from this threshold on.
        value: mean value over prompts from this threshold on.
    """

    threshold: Float64Array
    cost: Float64Array
    value: Float64Array


@dataclass(frozen=True, eq=False)
class GapCurve:
    """PGR along the share of the strong model's cost.

    Attributes:
        share: mean cost between the weak model's, 0, and the strong one's, 1; rising, [n_points]. With two models it is
            the share of calls to the strong one.
        recovered: PGR at each share, [n_points]; NaN where the strong model is not better than the weak one.
    """

    share: Float64Array
    recovered: Float64Array


@dataclass(frozen=True)
class Ends:
    """Mean cost and value of always calling one model: the weak, and the strong one."""

    weak_cost: float
    weak_value: float
    strong_cost: float
    strong_value: float


def find_frontier(quality: Float64Array, cost: Float64Array) -> Frontier:
    """The hull of each prompt.

    Args:
        quality: quality of each answer, [n_prompts, n_models].
        cost: cost of a request, [n_models], or [n_prompts, n_models] where it depends on the prompt.

    Raises:
        UsageError: the shapes do not match, or a value is not finite.
    """
    n_prompts, n_models = quality.shape
    if cost.shape not in ((n_models,), quality.shape) or not n_models:
        raise UsageError(f"quality of shape {quality.shape} and cost of shape {cost.shape}: one cost per model needed")
    if not (np.isfinite(quality).all() and np.isfinite(cost).all()):
        raise UsageError("quality and cost must be finite numbers")
    costs = np.broadcast_to(cost, quality.shape)
    rows = np.arange(n_prompts)
    current = np.lexsort((-quality, -costs), axis=1)[:, 0]
    models, prices = [current], [np.full(n_prompts, -np.inf)]
    for _ in range(n_models - 1):
        saved = costs[rows, current, None] - costs
        lost = quality[rows, current, None] - quality
        price = np.where(saved > 0, lost / np.where(saved > 0, saved, 1), np.inf)
        lowest = price.min(axis=1)
        if not np.isfinite(lowest).any():
            break
        # Of those that become worth it at the same threshold, the cheapest; of equally cheap ones, the better.
        order = np.lexsort((-quality, costs, price), axis=1)[:, 0]
        current = np.where(np.isfinite(lowest), order, current)
        models.append(current)
        prices.append(np.maximum(lowest, prices[-1]))  # a hull is convex; rounding may say otherwise
    return Frontier(np.stack(models, axis=1), np.stack(prices, axis=1)[:, 1:])


def sweep_thresholds(frontier: Frontier, cost: Float64Array, value: Float64Array) -> Sweep:
    """Mean cost and value at every threshold.

    Args:
        frontier: hull of each prompt.
        cost: cost of a request, [n_models] or [n_prompts, n_models].
        value: value of each answer, predicted or measured, [n_prompts, n_models].
    """
    rows = np.arange(len(value))[:, None]
    costs = np.broadcast_to(cost, value.shape)[rows, frontier.models]
    values = value[rows, frontier.models]
    changes = np.isfinite(frontier.prices)
    prices = frontier.prices[changes]
    order = np.argsort(prices, kind="stable")
    last = np.append(np.flatnonzero(np.diff(prices[order])), len(prices) - 1)[: len(prices)]

    def accumulate(of_steps: Float64Array) -> Float64Array:
        moved = np.cumsum(np.diff(of_steps, axis=1)[changes][order])[last]
        mean: Float64Array = np.append(0.0, moved) / len(value) + of_steps[:, 0].mean()
        return mean

    return Sweep(np.append(-np.inf, prices[order][last]), accumulate(costs), accumulate(values))


def recover_gap(sweep: Sweep, ends: Ends) -> GapCurve:
    """The sweep as PGR by share of the gap in cost. Between thresholds it is linear: ties are broken at random."""
    width, gap = ends.strong_cost - ends.weak_cost, ends.strong_value - ends.weak_value
    if width <= 0 or gap <= 0:
        return GapCurve(np.array([0.0, 1.0]), np.full(2, np.nan))
    return GapCurve((sweep.cost[::-1] - ends.weak_cost) / width, (sweep.value[::-1] - ends.weak_value) / gap)


def average_gap_recovered(curve: GapCurve) -> float:
    """APGR: the area below the curve over [0, 1], by trapezoids; 0.5 for a random router.

    With more than two models, the share of the strong model's cost takes the place of the share of calls. A curve that
    ends before 1 continues level.
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
