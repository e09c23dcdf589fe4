"""The two-covariance model: responses scatter around their model, models scatter around their mean.

    x_ij = mean + y_i + e_ij,   y_i ~ N(0, B),   e_ij ~ N(0, W)

Probabilistic linear discriminant analysis with full covariances (Ioffe 2006, https://doi.org/10.1007/11744085_41;
Brümmer and de Villiers 2010, "The speaker partitioning problem"), as used in open-set speaker recognition.
W and B are diagonalised together, so that every density below is a product over independent dimensions with W = 1 and
B = `between`. B is shrunk towards a multiple of the identity (Ledoit and Wolf 2004), since there are often fewer models
than dimensions: a direction without evidence must not count for or against a new model.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from model_behavior.arrays import Float64Array, FloatArray, IntArray

_RIDGE = 0.3  # there are few prompts, and what they have in common must not pass for scatter
_LEAST_DEVIATION = 1e-6  # of the largest
_TINY = 1e-30
_LEAST_BETWEEN = 1e-6


@dataclass(frozen=True, eq=False)
class TwoCovariance:
    """A fitted model.

    Attributes:
        mean: mean of the model embeddings, [dim].
        basis: columns of the coordinates in which W is the identity and B diagonal, [dim, dim].
        between: variances of B there, [dim].
    """

    mean: Float64Array
    basis: Float64Array
    between: Float64Array

    @cached_property
    def _inverse(self) -> Float64Array:
        """Rows are the coordinates' directions, [dim, dim]; the pseudoinverse where a dimension never varies."""
        return np.asarray(np.linalg.pinv(self.basis), dtype=np.float64)

    @cached_property
    def lengths(self) -> Float64Array:
        """Square length of a step by 1 in each coordinate, [dim]."""
        lengths: Float64Array = np.square(self._inverse).sum(axis=1)
        return lengths

    @property
    def within_trace(self) -> float:
        """Trace of W: mean square distance of a response from its model's mean."""
        return float(self.lengths.sum())

    @cached_property
    def within_freedom(self) -> float:
        """(trace W)^2 / trace W^2: degrees of freedom of that distance (Satterthwaite 1946)."""
        return self.within_trace**2 / float(np.square(self._inverse @ self._inverse.T).sum())

    def restore(self, place: Float64Array) -> Float64Array:
        """The inverse of `project`, [dim] or [n, dim]."""
        restored: Float64Array = place @ self._inverse
        return restored + self.mean

    def project(self, vectors: FloatArray) -> Float64Array:
        """[n, dim] to the coordinates of the model."""
        projected: Float64Array = (vectors.astype(np.float64) - self.mean) @ self.basis
        return projected

    def score(self, probes: Float64Array, k: float, centroids: Float64Array, counts: Float64Array) -> Float64Array:
        """How much likelier each known model is than a new one to have given the mean of k responses.

            log N(probe; shrunk centroid, its uncertainty + 1/k) - log N(probe; 0, B + 1/k)

        Args:
            probes: means of k responses, projected, [n_probes, dim].
            k: number of responses of each probe.
            centroids: model embeddings, projected, [n_models, dim].
            counts: number of responses behind each, [n_models].

        Returns:
            Log-likelihood ratios, [n_probes, n_models].
        """
        gain = self.between / (self.between + 1 / counts[:, None])
        known, new = self.between * (1 - gain) + 1 / k, self.between + 1 / k
        centres = gain * centroids
        square = np.square(probes)
        # Sum over dimensions of (probe - centre)^2 / known, without an array of probes x models x dimensions.
        distance = square @ (1 / known).T - 2 * probes @ (centres / known).T + (centres**2 / known).sum(axis=1)
        ratios: Float64Array = np.log(new / known).sum(axis=1) - distance + (square / new).sum(axis=1)[:, None]
        return 0.5 * ratios


def fit_two_covariance(
    vectors: FloatArray,
    owner: IntArray,
    means: FloatArray,
    counts: Float64Array,
) -> TwoCovariance:
    """Fits W to responses around the mean of their model's, and B to model embeddings.

    Args:
        vectors: vectors of the responses, [n_responses, dim].
        owner: model of each response, any integers.
        means: embeddings of at least two models, [n_models, dim].
        counts: responses behind each, [n_models].
    """
    from sklearn.covariance import ledoit_wolf  # slow to load, and few commands need it

    whiten = fit_whitening(vectors, owner)
    mean = means.astype(np.float64).mean(axis=0)
    covariance, _ = ledoit_wolf((means - mean) @ whiten, assume_centered=True)
    observed, rotation = np.linalg.eigh(covariance * len(means) / (len(means) - 1))
    between = np.maximum(observed - (1 / counts).mean(), _LEAST_BETWEEN)
    return TwoCovariance(mean, whiten @ rotation, between)


def fit_whitening(vectors: FloatArray, owner: IntArray) -> Float64Array:
    """Columns of coordinates in which responses vary around their model's mean with covariance 1, [dim, dim].

    The correlations are shrunk, and a dimension that never varies is left out.

    Arguments as for `fit_two_covariance`.
    """
    axes, variance, deviation = _within_axes(vectors, owner)
    whitening: Float64Array = axes / np.sqrt(variance) / deviation[:, None]
    return whitening


def fit_symmetric_whitening(vectors: FloatArray, owner: IntArray) -> Float64Array:
    """`fit_whitening`, turned so that each coordinate is as close as possible to one dimension of the vectors.

    Zero-phase whitening (Bell and Sejnowski 1997, https://doi.org/10.1016/S0042-6989(97)00121-1), [dim, dim].
    """
    axes, variance, deviation = _within_axes(vectors, owner)
    whitening: Float64Array = axes / np.sqrt(variance) @ axes.T / deviation[:, None]
    return whitening


def _within_axes(vectors: FloatArray, owner: IntArray) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Axes and variances of the shrunken correlation of responses around their model, and the deviations, [dim]."""
    values = vectors.astype(np.float64)
    _, owner, sizes = np.unique(owner, return_inverse=True, return_counts=True)
    sums = np.zeros((len(sizes), values.shape[1]))
    np.add.at(sums, owner, values)
    scatter = values - (sums / sizes[:, None])[owner]
    within = scatter.T @ scatter / max(len(values) - len(sizes), 1)
    deviation = np.sqrt(np.diag(within))
    deviation[deviation <= _LEAST_DEVIATION * max(deviation.max(), _TINY)] = np.inf  # never varies, so it says nothing
    correlation = within / np.outer(deviation, deviation)
    variance, axes = np.linalg.eigh((correlation + _RIDGE * np.eye(len(within))) / (1 + _RIDGE))
    return axes, variance, deviation
