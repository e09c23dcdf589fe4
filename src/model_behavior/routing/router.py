"""Routes each prompt to a model, and lists the alternatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from model_behavior.arrays import Float64Array, Int64Array
from model_behavior.errors import UsageError
from model_behavior.models.scoring.model_base import ModelBase
from model_behavior.names import find_model
from model_behavior.routing.costs import CostTable
from model_behavior.routing.frontier import find_frontier

_PREDICTED_AT_ONCE = 100_000
EVEN = 0.5
"""Win rate between equal models, and so the largest floor that can be kept against the best one."""


@dataclass(frozen=True)
class Alternative:
    """A candidate on one prompt: its expected win rate against the reference model, in [0, 1], and its cost."""

    model: str
    win_rate: float
    cost: float


@dataclass(frozen=True)
class Choice:
    """The model chosen for one prompt.

    Attributes:
        model: name of the chosen model.
        win_rate: expected win rate against the reference model, ties counted half.
        cost: cost of the request.
        alternatives: other candidates, best first.
    """

    model: str
    win_rate: float
    cost: float
    alternatives: tuple[Alternative, ...]


@final
@dataclass(frozen=True, eq=False)
class Router:
    """Sends each prompt to one of the candidates, by threshold or by floor.

    Attributes:
        scorer: scoring model that predicts who would win.
        candidates: models to choose from, [n_models].
        costs: cost of a request to each candidate, [n_models].
        reference: model that expected win rates are measured against; need not be a candidate.
        threshold: win rate that one unit of cost must add. 0 takes the best model on each prompt.
        floor: least expected win rate against the best candidate on the prompt, in [0, 0.5]; the cheapest model with it
            is chosen. Replaces the threshold.

    Raises:
        UsageError: no candidates, a candidate twice, a NaN threshold, a floor out of range, or threshold and floor.
    """

    scorer: ModelBase
    candidates: tuple[str, ...]
    costs: tuple[float, ...]
    reference: str
    threshold: float = 0.0
    floor: float | None = None

    def __post_init__(self) -> None:
        if not self.candidates or len(set(self.candidates)) < len(self.candidates):
            raise UsageError(f"candidates {', '.join(self.candidates) or '(none)'}: at least one, and none twice")
        if self.floor is not None and not 0 <= self.floor <= EVEN:
            raise UsageError(
                f"floor {self.floor}: a win rate against the best model, from 0 to {EVEN}, where only the best will do"
            )
        if (self.floor is not None and self.threshold != 0) or np.isnan(self.threshold):
            raise UsageError(f"threshold {self.threshold}, floor {self.floor}. Allowed: a number, or a floor instead")

    def route(self, prompts: Sequence[str]) -> list[Choice]:
        """One choice per prompt, in order. Of equally good models, the cheaper is chosen."""
        quality = self.expect_win_rates(prompts)
        return self._list_choices(quality, self.choose(prompts, quality))

    def route_together(self, prompts: Sequence[str]) -> Choice:
        """One choice for all prompts, such as the turns of a conversation, by the mean of the win rates over them."""
        quality = self.expect_win_rates(prompts).mean(axis=0, keepdims=True)
        if self.floor is None:
            chosen = self.choose(prompts, quality)
        else:
            best = [self.candidates[int(quality[0].argmax())]] * len(prompts)
            against_best = expect_win_rates(self.scorer, prompts, self.candidates, best).mean(axis=0, keepdims=True)
            chosen = choose_above_floor(against_best, np.array(self.costs), self.floor)
        return self._list_choices(quality, chosen)[0]

    def _list_choices(self, quality: Float64Array, chosen: Int64Array) -> list[Choice]:
        by_quality = np.lexsort((np.broadcast_to(self.costs, quality.shape), -quality), axis=1)
        names, costs = self.candidates, self.costs
        choices = []
        for rates, order, first in zip(quality.tolist(), by_quality.tolist(), chosen.tolist(), strict=True):
            order.remove(first)
            others = tuple([Alternative(names[column], rates[column], costs[column]) for column in order])
            choices.append(Choice(names[first], rates[first], costs[first], others))
        return choices

    def choose(self, prompts: Sequence[str], quality: Float64Array) -> Int64Array:
        """The column of the chosen model of each prompt, [n_prompts], from `expect_win_rates`."""
        costs = np.array(self.costs)
        if self.floor is None:
            return find_frontier(quality, costs).choose(self.threshold)
        best = [self.candidates[column] for column in quality.argmax(axis=1)]
        return choose_above_floor(expect_win_rates(self.scorer, prompts, self.candidates, best), costs, self.floor)

    def expect_win_rates(self, prompts: Sequence[str]) -> Float64Array:
        """Expected win rate of each candidate against the reference, [n_prompts, n_models]."""
        return expect_win_rates(self.scorer, prompts, self.candidates, [self.reference] * len(prompts))


def make_router(
    scorer: ModelBase, costs: CostTable, models: Sequence[str] | None = None, reference: str | None = None
) -> Router:
    """A router over models that have a cost.

    Args:
        scorer: fitted scoring model.
        costs: costs of known models only.
        models: candidates, each with a cost; all models with a cost by default.
        reference: model that win rates are measured against; the candidate with the best overall rating by default.

    Raises:
        UsageError: a name is unknown, or a candidate has no cost.
    """
    costs.check_names(scorer.models)
    for name in (*(models or ()), *([reference] if reference is not None else [])):
        find_model(scorer.models, name)
    candidates = tuple(models) if models else tuple(name for name in scorer.models if name in costs.per_request)
    if reference is None and candidates:
        reference = candidates[int(scorer.rate(candidates).rating.argmax())]
    return Router(scorer, candidates, costs.costs_of(candidates), reference or "")


def expect_win_rates(
    scorer: ModelBase, prompts: Sequence[str], candidates: Sequence[str], opponents: Sequence[str]
) -> Float64Array:
    """P(candidate wins) + P(neither wins) / 2 against the opponent, 1/2 against itself, [n_prompts, n_candidates].

    Args:
        scorer: fitted scoring model.
        prompts: prompt texts, [n_prompts].
        candidates: names of the candidates, [n_candidates].
        opponents: name of the opponent of all candidates on each prompt, [n_prompts].
    """
    n = len(candidates)
    rates = np.empty((len(prompts), n))
    step = max(1, _PREDICTED_AT_ONCE // max(n, 1))
    for start in range(0, len(prompts), step):
        part, rivals = prompts[start : start + step], opponents[start : start + step]
        predicted = scorer.predict(
            [prompt for prompt in part for _ in range(n)],
            list(candidates) * len(part),
            [rival for rival in rivals for _ in range(n)],
        ).astype(np.float64)
        rates[start : start + step] = (EVEN + (predicted[:, 0] - predicted[:, 1]) / 2).reshape(len(part), n)
    return rates


def choose_above_floor(against_best: Float64Array, cost: Float64Array, floor: float) -> Int64Array:
    """The cheapest model that keeps the floor, the better of equally cheap ones; the best model where none keeps it.

    Args:
        against_best: win rates against the best model of each prompt, [n_prompts, n_models].
        cost: cost of a request, [n_models].
        floor: least win rate against the best model, in [0, 0.5].
    """
    allowed = (against_best >= floor) | (against_best >= against_best.max(axis=1, keepdims=True))
    costs = np.where(allowed, cost, np.inf)
    chosen: Int64Array = np.lexsort((-against_best, costs), axis=1)[:, 0]
    return chosen
