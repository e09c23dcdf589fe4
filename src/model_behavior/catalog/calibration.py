"""Calibration: turns log-likelihood ratios into probabilities.

    P(model i | known)  = softmax_i(s(k) ratio_i)
    support             = log mean_i exp(s(k) ratio_i)
    logit P(known)      = exp(a(k)) support + c(k) + log((1 - prior) / prior)
    s(k)                = size / (1 + r (k - 1))
    a(k), c(k)          quadratic in log k

Logistic calibration of scores with a scale and an offset (Brümmer and du Preez 2006,
https://doi.org/10.1016/j.csl.2005.08.001), for "which of the known" and for "known at all" apart: a new model is often
close to a known relative, so that the same ratio says more about the first question than about the second. The scale s
falls with the number of responses, which are not independent: k responses that correlate with r say as much as
k / (1 + r (k - 1)) independent ones. For "known at all" the curves are free: with scale and offset as rigid as that,
probabilities from 32 responses were off by a tenth (decision 0010).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit, log_softmax, logsumexp

from model_behavior.arrays import Float64Array, IntArray

_SCALE_START, _SCALE_WIDTH = np.array([0.0, np.log(0.02)]), 2.0
_CURVE_START, _CURVE_WIDTH = np.zeros(6), 3.0
_LARGEST_EXPONENT = 100.0  # of exp(a): a search that tries larger ones would overflow, and finds nothing there
_PRIOR_TRIALS = 1.0  # the prior counts as this many trials; it decides only where there are hardly any


@dataclass(frozen=True, eq=False)
class Trials:
    """Scored trials whose answer is known.

    Attributes:
        ratios: log-likelihood ratios, [n_trials, n_models]; -inf for a model that was taken out.
        k: number of responses of each trial, [n_trials].
        answer: column of the true model, -1 for none of them, [n_trials].
    """

    ratios: Float64Array
    k: Float64Array
    answer: IntArray


@dataclass(frozen=True)
class Scale:
    """s(k) = size / (1 + correlation (k - 1))."""

    size: float = 1.0
    correlation: float = 0.0

    def at(self, k: Float64Array) -> Float64Array:
        """s of each k, same shape."""
        return self.size / (1 + self.correlation * (k - 1))


@dataclass(frozen=True)
class Curve:
    """c_0 + c_1 log k + c_2 log^2 k, level beyond the largest k that it was fitted to."""

    coefficients: tuple[float, float, float] = (0.0, 0.0, 0.0)
    most: float = np.inf

    def at(self, k: Float64Array) -> Float64Array:
        """The value at each k, same shape."""
        log = np.log(np.minimum(k, self.most))
        level, slope, bend = self.coefficients
        return level + slope * log + bend * np.square(log)


@dataclass(frozen=True)
class Calibration:
    """Parameters as in the module's equations: s, a and c."""

    identity: Scale = Scale()
    weight: Curve = Curve()
    offset: Curve = Curve()

    def logit_known(self, ratios: Float64Array, k: Float64Array) -> Float64Array:
        """Log-odds that the model is a known one, at even prior odds, [n_trials]."""
        known: Float64Array = _exponential(self.weight, k) * self.support(ratios, k) + self.offset.at(k)
        return known

    def probabilities(self, ratios: Float64Array, k: Float64Array, prior_none: float) -> Float64Array:
        """Of every model, and of none of them in the last column, [n_trials, n_models + 1]."""
        logit = self.logit_known(ratios, k) + np.log((1 - prior_none) / prior_none)
        return np.column_stack([expit(logit)[:, None] * self.among_known(ratios, k), expit(-logit)])

    def support(self, ratios: Float64Array, k: Float64Array) -> Float64Array:
        """Log of the mean likelihood ratio over models that are in the catalog, scaled, [n_trials].

        More responses than in any trial are scaled as the most of them: the ratios level off where the models are known
        by few responses, and a scale that falls on would make more responses say less.
        """
        return _support(self.identity, ratios, np.minimum(k, self.weight.most))

    def among_known(self, ratios: Float64Array, k: Float64Array) -> Float64Array:
        """Of every model, given that the model is a known one, [n_trials, n_models]."""
        among: Float64Array = np.exp(log_softmax(self.identity.at(k)[:, None] * ratios, axis=1))
        return among


def fit_calibration(trials: Trials) -> Calibration:
    """Maximum likelihood: s on trials of known models, then the rest with half of the weight on unknown ones."""
    known = trials.answer >= 0
    ratios, k, answer = trials.ratios[known], trials.k[known], trials.answer[known]
    rows = np.arange(len(k))

    def identity_loss(parameters: Float64Array) -> float:
        scaled = _scale(parameters).at(k)[:, None] * ratios
        return _penalty(parameters, _SCALE_START, _SCALE_WIDTH) - float(log_softmax(scaled, axis=1)[rows, answer].sum())

    identity = _scale(minimize(identity_loss, _SCALE_START, method="L-BFGS-B").x)
    support = _support(identity, trials.ratios, trials.k)
    weight = np.where(known, 0.5 / known.mean(), 0.5 / (~known).mean())
    sign = np.where(known, 1.0, -1.0)
    most = float(trials.k.max())

    def presence_loss(parameters: Float64Array) -> float:
        slope, offset = _curves(parameters, most)
        logit = _exponential(slope, trials.k) * support + offset.at(trials.k)
        return _penalty(parameters, _CURVE_START, _CURVE_WIDTH) - float((weight * log_expit(sign * logit)).sum())

    return Calibration(identity, *_curves(minimize(presence_loss, _CURVE_START, method="L-BFGS-B").x, most))


def _support(identity: Scale, ratios: Float64Array, k: Float64Array) -> Float64Array:
    """Log of the mean likelihood ratio over models that are in the catalog, scaled, [n_trials]."""
    scaled = identity.at(k)[:, None] * ratios
    support: Float64Array = logsumexp(scaled, axis=1) - np.log(np.isfinite(ratios).sum(axis=1))
    return support


def _exponential(curve: Curve, k: Float64Array) -> Float64Array:
    exponential: Float64Array = np.exp(np.minimum(curve.at(k), _LARGEST_EXPONENT))
    return exponential


def _scale(parameters: Float64Array) -> Scale:
    size, correlation = np.exp(np.minimum(parameters, _LARGEST_EXPONENT)).tolist()
    return Scale(size, correlation)


def _curves(parameters: Float64Array, most: float) -> tuple[Curve, Curve]:
    a, b, c, d, e, f = parameters.tolist()
    return Curve((a, b, c), most), Curve((d, e, f), most)


def _penalty(parameters: Float64Array, start: Float64Array, width: float) -> float:
    return _PRIOR_TRIALS * float(np.square((parameters - start) / width).sum()) / 2
