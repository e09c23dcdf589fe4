"""From log-likelihood ratios to probabilities that hold.

    logit of model i = s(k) ratio_i + c(k) - log n_models + log((1 - prior) / prior),   logit of "none of them" = 0
    s(k) = a / (1 + r (k - 1)),   c(k) = c0 + c1 log k

Multi-class logistic calibration of scores with a scale and an offset (Brümmer and du Preez 2006,
https://doi.org/10.1016/j.csl.2005.08.001). The scale falls with the number of responses, which are not independent:
k responses that correlate with r inside a model say as much as k / (1 + r (k - 1)) independent ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import log_softmax

from model_behavior.catalog.two_covariance import FloatArray

_START = np.array([0.0, np.log(0.02), 0.0, 0.0])
_PRIOR_WIDTH = np.array([2.0, 2.0, 10.0, 3.0])
_PRIOR_TRIALS = 1.0  # the prior counts as this many trials; it decides only where there are hardly any


@dataclass(frozen=True, eq=False)
class Trials:
    """Scored trials whose answer is known.

    Attributes:
        ratios: [n_trials, n_models]; -inf of a model that was taken out.
        k: responses behind each, [n_trials].
        answer: column of the true model, -1 for none of them, [n_trials].
    """

    ratios: FloatArray
    k: FloatArray
    answer: npt.NDArray[np.integer]


@dataclass(frozen=True)
class Calibration:
    """Parameters as in the module's equation: scale a, correlation r, offset c0, slope c1 (per log response)."""

    scale: float = 1.0
    correlation: float = 0.0
    offset: float = 0.0
    slope: float = 0.0

    def logits(self, ratios: FloatArray, k: FloatArray, prior_none: float) -> FloatArray:
        """Of every model, and 0 for none of them, [n_trials, n_models + 1]."""
        scale = self.scale / (1 + self.correlation * (k - 1))
        n_models = np.isfinite(ratios).sum(axis=1)
        offset = self.offset + self.slope * np.log(k) + np.log((1 - prior_none) / prior_none / n_models)
        known = scale[:, None] * ratios + offset[:, None]
        return np.column_stack([known, np.zeros(len(ratios))])

    def probabilities(self, ratios: FloatArray, k: FloatArray, prior_none: float) -> FloatArray:
        """Of every model, and of none of them in the last column, [n_trials, n_models + 1]."""
        probabilities: FloatArray = np.exp(log_softmax(self.logits(ratios, k, prior_none), axis=1))
        return probabilities


def fit_calibration(trials: Trials) -> Calibration:
    """Maximum likelihood where half of the weight is on models that are not known."""
    weight = _weigh(trials)
    rows = np.arange(len(trials.k))

    def loss(parameters: FloatArray) -> float:
        logits = _calibration(parameters).logits(trials.ratios, trials.k, 0.5)
        log_probability = log_softmax(logits, axis=1)[rows, trials.answer]
        prior = np.square((parameters - _START) / _PRIOR_WIDTH).sum() / 2
        return float(_PRIOR_TRIALS * prior - (weight * log_probability).sum())

    return _calibration(minimize(loss, _START, method="L-BFGS-B").x)


def _calibration(parameters: FloatArray) -> Calibration:
    scale, correlation, offset, slope = parameters.tolist()
    return Calibration(float(np.exp(scale)), float(np.exp(correlation)), offset, slope)


def _weigh(trials: Trials) -> FloatArray:
    """Trials of known and of unknown models weigh the same in all; the weights sum to the number of trials."""
    unknown = (trials.answer < 0).astype(np.int64)
    sizes = np.bincount(unknown, minlength=2)
    weight: FloatArray = len(unknown) / 2 / sizes[unknown]
    return weight
