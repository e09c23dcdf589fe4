"""Bounded evidence of style: which known model writes like this, where no single feature convicts.

    log p(x | i) = sum_j log((1 - p) N(x_j; c_ij, v_ij) + p N(x_j; c_ij, v_ij + s))

The mean x of k responses is compared in coordinates in which responses vary around their model with covariance 1 and
which are each close to one style feature. Along each, a harness or a system prompt has shifted all responses with the
probability p (a contaminated normal distribution, Tukey 1960). One feature can then weigh no more than about
log(1 / p), for a model or against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model_behavior.arrays import Float64Array, IntArray
from model_behavior.catalog.style_drivers import STYLE_LABELS
from model_behavior.catalog.two_covariance import fit_symmetric_whitening
from model_behavior.models.behavior.text.style import StyleEncoder

_SHIFTED = 0.05  # chance that the responses are shifted along a coordinate
_SHIFT = 4.0  # variance of such a shift, where responses vary by 1
_LEAST_CHANGE = 0.02  # share of the models' own variance by which a model may differ from one day to the next
_LEAST_BETWEEN = 1e-3
_TELLING, _ODD = 1.0, 0.5  # log-likelihood ratio of a feature, and probability of its shift, from which it is named
_MOST_WORDS = 5


@dataclass(frozen=True, eq=False)
class BoundedStyle:
    """The known models by style.

    Attributes:
        mean: mean of the models, [dim].
        basis: columns of the coordinates, [dim, dim].
        between: variance of the models along each coordinate, [dim].
        centroids: means of the models in these coordinates, [n_models, dim].
        counts: number of responses behind each, [n_models]; a model without any cannot have written anything.
    """

    mean: Float64Array
    basis: Float64Array
    between: Float64Array
    centroids: Float64Array
    counts: Float64Array

    def ratios(self, probes: Float64Array, k: int) -> Float64Array:
        """Log-likelihood ratios against a new model, of mean styles of k responses [n, dim], [n, n_models]."""
        places = (probes - self.mean) @ self.basis
        new = _mix(places, np.zeros(len(self.mean)), self.between + 1 / k).sum(axis=1)
        found = np.full((len(probes), len(self.counts)), -np.inf)
        for model in self._present:
            found[:, model] = _mix(places, *self._expect(model, k)).sum(axis=1) - new
        return found

    def explain(self, style: Float64Array, model: int, k: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What speaks for a model against the other known ones, and what sets the responses apart from it, in words.

        Args:
            style: mean style of k responses, [dim].
            model: row of the model.
            k: number of responses.
        """
        place = (style - self.mean) @ self.basis
        centre, variance = self._expect(model, k)
        others = [_mix(place, *self._expect(row, k)) for row in self._present if row != model]
        gain = _mix(place, centre, variance) - np.mean(others, axis=0)
        usual, shifted = _usual_and_shifted(place, centre, variance)
        chance = np.exp(shifted - np.logaddexp(usual, shifted))
        telling = [index for index in np.argsort(-gain, kind="stable").tolist() if gain[index] > _TELLING]
        odd = [index for index in np.argsort(-chance, kind="stable").tolist() if chance[index] > _ODD]
        return _in_words(telling, place), _in_words(odd, place - centre)

    @property
    def _present(self) -> list[int]:
        """Rows of the models that have responses."""
        rows: list[int] = np.flatnonzero(self.counts > 0).tolist()
        return rows

    def _expect(self, model: int, k: int) -> tuple[Float64Array, Float64Array]:
        """Where the mean of k responses of a model is expected, and its variance, [dim] each."""
        gain = self.between / (self.between + 1 / self.counts[model])
        return gain * self.centroids[model], self.between * (1 - gain + _LEAST_CHANGE) + 1 / k


def fit_bounded_style(vectors: Float64Array, owner: IntArray, n_models: int) -> BoundedStyle:
    """Fits the coordinates and places of models.

    Args:
        vectors: standardised style of responses, [n, dim].
        owner: model of each, at least two different ones, [n].
        n_models: number of models, with or without responses.
    """
    sums, counts = np.zeros((n_models, vectors.shape[1])), np.bincount(owner, minlength=n_models).astype(np.float64)
    np.add.at(sums, owner, vectors)
    present = counts > 0
    means = sums / np.where(present, counts, 1.0)[:, None]
    basis, mean = fit_symmetric_whitening(vectors, owner), means[present].mean(axis=0)
    centroids = (means - mean) @ basis
    between = centroids[present].var(axis=0, ddof=1) - (1 / counts[present]).mean()
    return BoundedStyle(mean, basis, np.maximum(between, _LEAST_BETWEEN), centroids, counts)


def _mix(places: Float64Array, centre: Float64Array, variance: Float64Array) -> Float64Array:
    """The module's log density of each coordinate, of the shape of `places`."""
    density: Float64Array = np.logaddexp(*_usual_and_shifted(places, centre, variance))
    return density


def _usual_and_shifted(
    places: Float64Array, centre: Float64Array, variance: Float64Array
) -> tuple[Float64Array, Float64Array]:
    """Logs of the two parts of the mixture."""
    square = np.square(places - centre)
    usual = -0.5 * (np.log(variance) + square / variance) + np.log1p(-_SHIFTED)
    shifted = -0.5 * (np.log(variance + _SHIFT) + square / (variance + _SHIFT)) + np.log(_SHIFTED)
    return usual, shifted


def _in_words(features: Sequence[int], differences: Float64Array) -> tuple[str, ...]:
    """Style features as a person calls them, with the direction of the difference; groups of words have no name."""
    words: list[str] = []
    names = dict(enumerate(StyleEncoder.feature_names))
    for index in features:
        label = STYLE_LABELS.get(names.get(index, ""))
        if label is not None and len(words) < _MOST_WORDS:
            words.append(f"{'more' if differences[index] > 0 else 'less'}: {label.label} ({label.unit})")
    return tuple(words)
