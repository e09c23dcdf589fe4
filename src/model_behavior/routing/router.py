"""Which model answers a prompt, and what else could have."""

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
"""Win rate between equals, so the largest floor against the best model that can be promised."""


@dataclass(frozen=True)
class Alternative:
    """A candidate on one prompt: its expected win rate against the reference model, in [0, 1], and its cost."""

    model: str
    win_rate: float
    cost: float


@dataclass(frozen=True)
class Choice:
    """Where one prompt goes.

    Attributes:
        model: the chosen one.
        win_rate: its expected win rate against the reference model, ties counted half.
        cost: of the request.
        alternatives: the other candidates, best first.
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
        scorer: says who would win.
        candidates: models to choose from, [n_models].
        costs: of a request to each, [n_models].
        reference: the model that expected win rates are against; need not be a candidate.
        threshold: win rate that one unit of cost must add. 0 takes the best model on each prompt.
        floor: instead of the threshold: the cheapest model is taken whose expected win rate against the best candidate
            on that prompt is at least this, in [0, 0.5].

    Raises:
        UsageError: no candidate, one twice, a threshold that is NaN, a floor out of range, or both.
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
        """One choice per prompt, in order. Equally good models: the cheaper."""
        quality = self.expect_win_rates(prompts)
        chosen = self.choose(prompts, quality)
        by_quality = np.lexsort((np.broadcast_to(self.costs, quality.shape), -quality), axis=1)
        choices = []
        for row, first in enumerate(chosen):
            best, *others = (
                Alternative(self.candidates[column], float(quality[row, column]), self.costs[column])
                for column in (first, *(column for column in by_quality[row] if column != first))
            )
            choices.append(Choice(best.model, best.win_rate, best.cost, tuple(others)))
        return choices

    def choose(self, prompts: Sequence[str], quality: Float64Array) -> Int64Array:
        """The column of the chosen model of each prompt, [n_prompts], given `expect_win_rates`."""
        costs = np.array(self.costs)
        if self.floor is None:
            return find_frontier(quality, costs).choose(self.threshold)
        best = [self.candidates[column] for column in quality.argmax(axis=1)]
        return choose_above_floor(expect_win_rates(self.scorer, prompts, self.candidates, best), costs, self.floor)

    def expect_win_rates(self, prompts: Sequence[str]) -> Float64Array:
        """Of each candidate against the reference, [n_prompts, n_models]."""
        return expect_win_rates(self.scorer, prompts, self.candidates, [self.reference] * len(prompts))


def make_router(
    scorer: ModelBase, costs: CostTable, models: Sequence[str] | None = None, reference: str | None = None
) -> Router:
    """A router over models that have a cost.

    Args:
        scorer: fitted.
        costs: of known models only.
        models: candidates, each with a cost; all models with a cost by default.
        reference: by default the candidate with the best rating over all prompts.

    Raises:
        UsageError: an unknown name, or a candidate without a cost.
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
    """P(candidate wins) + half of P(neither does) against the opponent, 1/2 against itself, [n_prompts, n_candidates].

    Args:
        scorer: fitted.
        prompts: [n_prompts].
        candidates: [n_candidates].
        opponents: of all candidates on each prompt, [n_prompts].
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
    """The cheapest model with at least the floor; of equally cheap ones the better; the best where none has it.

    Args:
        against_best: win rates against the best model of each prompt, [n_prompts, n_models].
        cost: [n_models].
        floor: in [0, 0.5].
    """
    allowed = (against_best >= floor) | (against_best >= against_best.max(axis=1, keepdims=True))
    costs = np.where(allowed, cost, np.inf)
    chosen: Int64Array = np.lexsort((-against_best, costs), axis=1)[:, 0]
    return chosen
