r"""The choices that are best for some price of quality, prompt by prompt.

For a threshold t, the price of quality in units of quality per unit of cost, the model chosen on prompt i is

    argmax over m of  q_im - t c_m

which is Lagrangian relaxation of "the best mean quality under a budget of mean cost" (Everett 1963, "Generalized
Lagrange multiplier method for solving problems of optimum allocation of resources"). As t rises from minus infinity,
the choice moves along the upper convex hull of the points (c_m, q_im) from the dearest model to the cheapest one.
With two models it is RouteLLM's rule (Ong et al. 2024, arXiv 2406.18665): the strong one where P(strong wins) >= alpha.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model_behavior.data_models.scoring_types import WideArray
from model_behavior.errors import UsageError

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Frontier:
    """The hull of every prompt, from the dearest to the cheapest model.

    Attributes:
        models: columns of the models on the hull, the last one repeated, [n_prompts, length of the longest hull].
        prices: threshold from which on the next one is chosen, rising, infinite after the last,
            [n_prompts, length - 1].
    """

    models: IntArray
    prices: WideArray

    def choose(self, threshold: float) -> IntArray:
        """The column of the model of each prompt; of equally good ones the cheaper, [n_prompts]."""
        steps = (self.prices <= threshold).sum(axis=1)
        chosen: IntArray = self.models[np.arange(len(self.models)), steps]
        return chosen


def find_frontier(quality: WideArray, cost: WideArray) -> Frontier:
    """The hull of each prompt.

    Args:
        quality: [n_prompts, n_models].
        cost: of a request, [n_models], or [n_prompts, n_models] where it depends on the prompt.

    Raises:
        UsageError: arrays of other shapes, or a value that is not finite.
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


@dataclass(frozen=True, eq=False)
class Sweep:
    """Mean cost and value of the choices at every threshold at which one of them changes, [n_thresholds].

    Attributes:
        threshold: rising; the first is minus infinity, where every prompt goes to the dearest model.
        cost: mean over prompts from this threshold on.
        value: the same.
    """

    threshold: WideArray
    cost: WideArray
    value: WideArray


def sweep_thresholds(frontier: Frontier, cost: WideArray, value: WideArray) -> Sweep:
    """What every threshold costs and brings.

    Args:
        frontier: of n prompts.
        cost: [n_models] or [n_prompts, n_models].
        value: of each answer, predicted or measured, [n_prompts, n_models].
    """
    rows = np.arange(len(value))[:, None]
    costs = np.broadcast_to(cost, value.shape)[rows, frontier.models]
    values = value[rows, frontier.models]
    changes = np.isfinite(frontier.prices)
    prices = frontier.prices[changes]
    order = np.argsort(prices, kind="stable")
    last = np.append(np.flatnonzero(np.diff(prices[order])), len(prices) - 1)[: len(prices)]

    def accumulate(of_steps: WideArray) -> WideArray:
        moved = np.cumsum(np.diff(of_steps, axis=1)[changes][order])[last]
        mean: WideArray = np.append(0.0, moved) / len(value) + of_steps[:, 0].mean()
        return mean

    return Sweep(np.append(-np.inf, prices[order][last]), accumulate(costs), accumulate(values))
