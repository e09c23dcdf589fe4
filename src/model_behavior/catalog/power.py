"""How many responses a test of drift needs.

Without a change the squared distance of two means is close to g chi^2_h, with g and h from the mean and variance of the
permuted distances (Satterthwaite 1946). A change by `effect` adds effect^2 to it, so that the distance is g times a
noncentral chi^2_h with noncentrality effect^2 / g; g falls as the samples grow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

_MOST = 100_000


@dataclass(frozen=True)
class NullDistribution:
    """Distances without a change, as g chi^2_h, and the sizes that they were found with.

    Attributes:
        scale: g.
        freedom: h.
        n_enrolled: enrolled responses; does not matter where responses are compared by prompt.
        n_new: new responses, or prompts.
        by_prompt: whether both samples grow together, a prompt at a time.
    """

    scale: float
    freedom: float
    n_enrolled: int
    n_new: int
    by_prompt: bool

    def scale_with(self, n_new: int) -> float:
        """g with another number of new responses, or of prompts."""
        if self.by_prompt:
            return self.scale * self.n_new / n_new
        return self.scale * (1 / self.n_enrolled + 1 / n_new) / (1 / self.n_enrolled + 1 / self.n_new)


def fit_null(permuted: npt.NDArray[np.float64], n_enrolled: int, n_new: int, by_prompt: bool) -> NullDistribution:
    """Matches mean and variance of permuted squared distances; other arguments as in `NullDistribution`."""
    mean, variance = float(permuted.mean()), float(permuted.var())
    if mean <= 0 or variance <= 0:  # responses that are all the same never differ by chance
        return NullDistribution(0.0, 1.0, n_enrolled, n_new, by_prompt)
    return NullDistribution(variance / mean / 2, 2 * mean**2 / variance, n_enrolled, n_new, by_prompt)


def power_of(null: NullDistribution, effect: float, n_new: int, alpha: float) -> float:
    """Probability that a change by `effect` is found with `n_new` new responses, or prompts."""
    scale = null.scale_with(n_new)
    if scale == 0:
        return 1.0
    critical = stats.chi2.isf(alpha, null.freedom)
    return float(stats.ncx2.sf(critical, null.freedom, effect**2 / scale))


def responses_needed(null: NullDistribution, effect: float, alpha: float, power: float) -> int | None:
    """The fewest new responses, or prompts, with which a change by `effect` is found with that power.

    None where 100,000 would not do. At least 2.
    """
    low, high = 1, 2
    while power_of(null, effect, high, alpha) < power:
        if high >= _MOST:
            return None
        low, high = high, min(2 * high, _MOST)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if power_of(null, effect, middle, alpha) < power else (low, middle)
    return high
