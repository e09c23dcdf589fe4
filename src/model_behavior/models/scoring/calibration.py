"""Probabilities that mean what they say: a temperature fitted on votes that nothing else was fitted on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize

from model_behavior.arrays import Float32Array, FloatArray, IntArray
from model_behavior.models.scoring.outcomes import log_loss

_LOG_PRIOR_SD = 0.3
_BOUND = 1.5


@dataclass(frozen=True)
class Temperature:
    """Probabilities to the power of 1 / `value`, normalised (Guo et al. 2017, "On calibration of modern networks").

    Attributes:
        value: above 1 where the probabilities were too sure.
    """

    value: float = 1.0

    def apply(self, probabilities: FloatArray) -> Float32Array:
        """[n, 4]; rows sum to 1, and their order of outcomes stays."""
        powers = np.maximum(probabilities.astype(np.float64), 1e-30) ** (1 / self.value)
        normalised: Float32Array = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
        return normalised


def fit_temperature(probabilities: FloatArray, outcome: IntArray, prompt: IntArray) -> Temperature:
    """The temperature with the least log loss, held near 1 by a normal prior on its logarithm.

    Votes on one prompt tell little more than one vote, so that the prior weighs as much as votes on that prompt.

    Args:
        probabilities: [n, 4].
        outcome: outcome of each vote, [n].
        prompt: the prompt of each vote, [n].
    """
    if not len(outcome):
        return Temperature()
    votes_per_prompt = len(outcome) / len(np.unique(prompt))

    def loss(log_value: float) -> float:
        heated = Temperature(float(np.exp(log_value))).apply(probabilities)
        return float(log_loss(heated, outcome).sum()) + votes_per_prompt * (log_value / _LOG_PRIOR_SD) ** 2 / 2

    found = optimize.minimize_scalar(loss, bounds=(-_BOUND, _BOUND), method="bounded")
    return Temperature(float(np.exp(found.x)))
