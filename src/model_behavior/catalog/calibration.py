"""From log-likelihood ratios to probabilities that hold.

    P(model i | known)  = softmax_i(s_1(k) ratio_i)
    support             = log mean_i exp(s_1(k) ratio_i)
    logit P(known)      = s_2(k) support + c_0 + c_1 log k + log((1 - prior) / prior)
    s_j(k)              = a_j / (1 + r_j (k - 1))

Logistic calibration of scores with a scale and an offset (Brümmer and du Preez 2006,
https://doi.org/10.1016/j.csl.2005.08.001), for "which of the known" and for "known at all" apart: a new model is often
close to a known relative, so that the same ratio says more about the first question than about the second. The scales
fall with the number of responses, which are not independent: k responses that correlate with r say as much as
k / (1 + r (k - 1)) independent ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit, log_expit, log_softmax, logsumexp

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
class Scale:
    """s(k) = size / (1 + correlation (k - 1))."""

    size: float = 1.0
    correlation: float = 0.0

    def at(self, k: FloatArray) -> FloatArray:
        """s of each k, same shape."""
        return self.size / (1 + self.correlation * (k - 1))


@dataclass(frozen=True)
class Calibration:
    """Parameters as in the module's equations: s_1, s_2, c_0 and c_1."""

    identity: Scale = Scale()
    presence: Scale = Scale()
    offset: float = 0.0
    slope: float = 0.0

    def logit_known(self, ratios: FloatArray, k: FloatArray) -> FloatArray:
        """Log-odds that the model is a known one, at even prior odds, [n_trials]."""
        known: FloatArray = self.presence.at(k) * _support(self.identity, ratios, k) + self.offset
        return known + self.slope * np.log(k)

    def probabilities(self, ratios: FloatArray, k: FloatArray, prior_none: float) -> FloatArray:
        """Of every model, and of none of them in the last column, [n_trials, n_models + 1]."""
        logit = self.logit_known(ratios, k) + np.log((1 - prior_none) / prior_none)
        among = np.exp(log_softmax(self.identity.at(k)[:, None] * ratios, axis=1))
        return np.column_stack([expit(logit)[:, None] * among, expit(-logit)])


def fit_calibration(trials: Trials) -> Calibration:
    """Maximum likelihood: s_1 on trials of known models, then the rest with half of the weight on unknown ones."""
    known = trials.answer >= 0
    ratios, k, answer = trials.ratios[known], trials.k[known], trials.answer[known]
    rows = np.arange(len(k))

    def identity_loss(parameters: FloatArray) -> float:
        scaled = _scale(parameters).at(k)[:, None] * ratios
        return _penalty(parameters) - float(log_softmax(scaled, axis=1)[rows, answer].sum())

    identity = _scale(minimize(identity_loss, _START[:2], method="L-BFGS-B").x)
    support = _support(identity, trials.ratios, trials.k)
    weight = np.where(known, 0.5 / known.mean(), 0.5 / (~known).mean())
    sign = np.where(known, 1.0, -1.0)

    def presence_loss(parameters: FloatArray) -> float:
        logit = _scale(parameters).at(trials.k) * support + parameters[2] + parameters[3] * np.log(trials.k)
        return _penalty(parameters) - float((weight * log_expit(sign * logit)).sum())

    fitted = minimize(presence_loss, _START, method="L-BFGS-B").x
    return Calibration(identity, _scale(fitted), float(fitted[2]), float(fitted[3]))


def _support(identity: Scale, ratios: FloatArray, k: FloatArray) -> FloatArray:
    """Log of the mean likelihood ratio over models that are in the catalog, scaled, [n_trials]."""
    scaled = identity.at(k)[:, None] * ratios
    support: FloatArray = logsumexp(scaled, axis=1) - np.log(np.isfinite(ratios).sum(axis=1))
    return support


def _scale(parameters: FloatArray) -> Scale:
    return Scale(float(np.exp(parameters[0])), float(np.exp(parameters[1])))


def _penalty(parameters: FloatArray) -> float:
    distance = (parameters - _START[: len(parameters)]) / _PRIOR_WIDTH[: len(parameters)]
    return _PRIOR_TRIALS * float(np.square(distance).sum()) / 2
