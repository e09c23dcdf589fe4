"""Cost and win rate of routing on a user's own prompts, and thresholds that keep a budget or floor on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import final

import numpy as np

from model_behavior.arrays import Float64Array, Int64Array
from model_behavior.errors import DataError, UsageError
from model_behavior.routing.frontier import Ends, Frontier, Sweep, find_frontier, sweep_thresholds
from model_behavior.routing.router import EVEN, Router

_ROUNDING = 1e-9  # a mean of costs may exceed the budget by this share


@dataclass(frozen=True)
class OperatingPoint:
    """Cost and win rate of routing some prompts at one threshold.

    Attributes:
        threshold: win rate that one unit of cost must add.
        mean_cost: mean cost per prompt.
        win_rate: mean expected win rate against the reference model.
        blind_win_rate: win rate of the best mix of models that ignores the prompt, at the same mean cost.
        shares: share of the calls that each model gets.
    """

    threshold: float
    mean_cost: float
    win_rate: float
    blind_win_rate: float
    shares: dict[str, float]


@dataclass(frozen=True)
class RoutingRule:
    """Rule that trades quality against cost. At most one is set; none means the best model on each prompt.

    Attributes:
        budget: largest mean cost of a request over the prompts.
        floor: win rate that the cheapest choice must have against the best model, 0 to 0.5.
        threshold: win rate that one unit of cost must add.

    Raises:
        UsageError: more than one is set.
    """

    budget: float | None = None
    floor: float | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        given = [name for name, value in vars(self).items() if value is not None]
        if len(given) > 1:
            raise UsageError(f"{' and '.join(given)} given. Allowed: one of {', '.join(vars(self))}, or none")


@final
@dataclass(frozen=True, eq=False)
class Traffic:
    """Prompts with their predicted quality, as a router sees them.

    Attributes:
        router: router with candidates and costs; its threshold and floor are not used.
        prompts: prompt texts, [n_prompts].
        quality: expected win rates against the reference, [n_prompts, n_models].
    """

    router: Router
    prompts: tuple[str, ...]
    quality: Float64Array

    @classmethod
    def of_prompts(cls, router: Router, prompts: Sequence[str]) -> Traffic:
        """Predicts quality once, for all methods.

        Raises:
            DataError: there are no prompts.
        """
        if not prompts:
            raise DataError("no prompts to calibrate on. Fix: give at least one, better some hundred of your own")
        return cls(router, tuple(prompts), router.expect_win_rates(prompts))

    @cached_property
    def costs(self) -> Float64Array:
        """Costs of the candidates, [n_models]."""
        return np.array(self.router.costs)

    @cached_property
    def frontier(self) -> Frontier:
        """All choices that any threshold makes."""
        return find_frontier(self.quality, self.costs)

    @cached_property
    def sweep(self) -> Sweep:
        """Expected cost and win rate at every threshold."""
        return sweep_thresholds(self.frontier, self.costs, self.quality)

    @cached_property
    def blind(self) -> Sweep:
        """Expected cost and value of a router that treats every prompt as the average one."""
        mean = self.quality.mean(axis=0, keepdims=True)
        return sweep_thresholds(find_frontier(mean, self.costs), self.costs, mean)

    @property
    def ends(self) -> Ends:
        """The cheapest candidate and the reference, or the best on average where the reference is not a candidate."""
        mean = self.quality.mean(axis=0)
        weak = int(np.lexsort((-mean, self.costs))[0])
        known = self.router.reference in self.router.candidates
        strong = self.router.candidates.index(self.router.reference) if known else int(mean.argmax())
        return Ends(float(self.costs[weak]), float(mean[weak]), float(self.costs[strong]), float(mean[strong]))

    def describe(self, threshold: float) -> OperatingPoint:
        """Cost and win rate at one threshold."""
        return self.describe_choices(self.frontier.choose(threshold), threshold)

    def describe_choices(self, chosen: Int64Array, threshold: float) -> OperatingPoint:
        """Cost and win rate of any choices, [n_prompts]."""
        cost = float(self.costs[chosen].mean())
        share = np.bincount(chosen, minlength=len(self.costs)) / len(chosen)
        return OperatingPoint(
            threshold=threshold,
            mean_cost=cost,
            win_rate=float(self.quality[np.arange(len(chosen)), chosen].mean()),
            blind_win_rate=float(np.interp(cost, self.blind.cost[::-1], self.blind.value[::-1])),
            shares={name: float(each) for name, each in zip(self.router.candidates, share, strict=True)},
        )

    def threshold_for_budget(self, budget: float) -> float:
        """The least threshold, 0 or more, at which the mean cost is within the budget.

        Raises:
            UsageError: the budget is below the cost of the cheapest candidate.
        """
        cheapest = float(self.costs.min())
        if not budget >= cheapest * (1 - _ROUNDING):
            raise UsageError(
                f"budget {budget:g}: the cheapest candidate costs {cheapest:g} a request. Fix: raise the budget, or "
                "add a cheaper model"
            )
        limit = budget + _ROUNDING * abs(budget)
        if self.costs[self.frontier.choose(0.0)].mean() <= limit:
            return 0.0
        return _inside(self.sweep.threshold, int(np.flatnonzero(self.sweep.cost <= limit)[0]))

    def threshold_for_strong_share(self, share: float) -> float:
        """The least threshold at which the dearer of two candidates gets at most this share of the calls.

        Raises:
            UsageError: there are not two candidates, they cost the same, or the share is outside [0, 1].
        """
        if not 0 <= share <= 1:
            raise UsageError(f"share {share} of calls to the strong model. Allowed: 0 to 1")
        if len(self.costs) != 2 or self.costs[0] == self.costs[1]:
            raise UsageError(
                f"a share of calls to the strong model needs two candidates of different cost, not {len(self.costs)}: "
                f"{', '.join(self.router.candidates)}. Fix: name two with --models, or give a budget"
            )
        low, high = self.costs.min(), self.costs.max()
        shares = (self.sweep.cost - low) / (high - low)
        return _inside(self.sweep.threshold, int(np.flatnonzero(shares <= share + _ROUNDING)[0]))

    def win_rate_cut(self, threshold: float) -> float | None:
        """RouteLLM's alpha: the least P(dearer wins) at which the dearer of two is called; None with more candidates.

        With win rates against one of the two, q_strong - q_weak = P(strong wins) - 1/2, ties counted half, so
        alpha = 1/2 + threshold (c_strong - c_weak).
        """
        if len(self.costs) != 2 or self.router.reference not in self.router.candidates:
            return None
        return EVEN + threshold * float(np.ptp(self.costs))

    def curve(self, n_points: int = 41) -> list[OperatingPoint]:
        """The trade-off from the best choices (threshold 0) to the cheapest, evenly spaced in cost."""
        useful = np.flatnonzero(self.sweep.threshold >= 0)
        thresholds = [0.0]
        if len(useful):
            wanted = np.linspace(self.sweep.cost[useful[0]], self.sweep.cost[useful[-1]], n_points)
            places = [
                int(np.flatnonzero(self.sweep.cost[useful] <= cost + _ROUNDING * abs(cost))[0]) for cost in wanted
            ]
            thresholds += [_inside(self.sweep.threshold, int(useful[place])) for place in dict.fromkeys(places)]
        return [self.describe(threshold) for threshold in dict.fromkeys(thresholds)]


def _inside(thresholds: Float64Array, place: int) -> float:
    """A finite threshold that makes the choices of `thresholds[place]`, away from where they change.

    Scores of a prompt by itself and in a batch may differ in the last digit.
    """
    low = thresholds[place]
    if place + 1 < len(thresholds):
        high = thresholds[place + 1]
        return float((low + high) / 2) if np.isfinite(low) else float(high - max(abs(high), 1.0) / 100)
    return float(low + max(abs(low), 1e-9) / 100) if np.isfinite(low) else 0.0


def apply_rule(router: Router, prompts: Sequence[str], rule: RoutingRule) -> Router:
    """The router whose threshold or floor keeps a rule on these prompts.

    Raises:
        UsageError: the budget is below the cost of the cheapest candidate, or the floor is out of range.
    """
    threshold = rule.threshold
    if rule.budget is not None:
        threshold = Traffic.of_prompts(router, prompts).threshold_for_budget(rule.budget)
    return replace(router, threshold=threshold or 0.0, floor=rule.floor)
