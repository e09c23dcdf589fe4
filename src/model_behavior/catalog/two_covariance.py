"""The two-covariance model: responses scatter around their model, models scatter around their mean.

    x_ij = mean + y_i + e_ij,   y_i ~ N(0, B),   e_ij ~ N(0, W)

Probabilistic linear discriminant analysis with full covariances (Ioffe 2006, https://doi.org/10.1007/11744085_41;
Brümmer and de Villiers 2010, "The speaker partitioning problem"), as speakers are recognised, unknown ones included.
W and B are diagonalised together, so that every density below is a product over independent dimensions with W = 1 and
B = `between`. B is shrunk towards a multiple of the identity (Ledoit and Wolf 2004), since there are often fewer models
than dimensions: what is not known of a direction must not speak for or against a new model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.covariance import ledoit_wolf

FloatArray = npt.NDArray[np.float64]

_RIDGE = 1e-3  # of the mean variance; vectors of unit length have directions in which nothing varies
_LEAST_BETWEEN = 1e-6


@dataclass(frozen=True, eq=False)
class TwoCovariance:
    """A fitted model.

    Attributes:
        mean: of the model embeddings, [dim].
        basis: columns of the coordinates in which W is the identity and B diagonal, [dim, dim].
        between: variances of B there, [dim].
    """

    mean: FloatArray
    basis: FloatArray
    between: FloatArray

    def project(self, vectors: npt.NDArray[np.floating]) -> FloatArray:
        """[n, dim] to the coordinates of the model."""
        projected: FloatArray = (vectors.astype(np.float64) - self.mean) @ self.basis
        return projected

    def log_likelihood_ratios(
        self, probes: FloatArray, k: FloatArray, centroids: FloatArray, counts: FloatArray
    ) -> FloatArray:
        """How much likelier each known model is than a new one to have given each mean of responses.

            log N(x; shrunk centroid, its uncertainty + 1/k) - log N(x; 0, B + 1/k)

        Args:
            probes: mean of k responses, projected, [n_probes, dim].
            k: responses behind each, [n_probes]; need not be whole.
            centroids: model embeddings, projected, [n_models, dim].
            counts: responses behind each, [n_models].

        Returns:
            [n_probes, n_models].
        """
        gain = self.between / (self.between + 1 / counts[:, None])
        centre, uncertainty = gain * centroids, self.between * (1 - gain)
        ratios = np.empty((len(probes), len(centroids)))
        for index, (probe, noise) in enumerate(zip(probes, 1 / k, strict=True)):
            known, new = uncertainty + noise, self.between + noise
            ratios[index] = 0.5 * (np.log(new / known) - (probe - centre) ** 2 / known + probe**2 / new).sum(axis=1)
        return ratios


def fit_two_covariance(vectors: npt.NDArray[np.floating], owner: npt.NDArray[np.integer]) -> TwoCovariance:
    """Fits the model to responses.

    Args:
        vectors: [n_responses, dim].
        owner: model of each, 0 to n_models - 1, each with at least one; two models at least.
    """
    values = vectors.astype(np.float64)
    counts = np.bincount(owner).astype(np.float64)
    means = np.zeros((len(counts), values.shape[1]))
    np.add.at(means, owner, values)
    means /= counts[:, None]
    scatter = values - means[owner]
    within = scatter.T @ scatter / max(len(values) - len(counts), 1)
    within += np.eye(len(within)) * max(_RIDGE * np.trace(within) / len(within), 1e-12)
    variance, axes = np.linalg.eigh(within)
    whiten = axes / np.sqrt(variance)
    mean = means.mean(axis=0)
    covariance, _ = ledoit_wolf((means - mean) @ whiten, assume_centered=True)
    observed, rotation = np.linalg.eigh(covariance * len(counts) / max(len(counts) - 1, 1))
    between = np.maximum(observed - (1 / counts).mean(), _LEAST_BETWEEN)
    return TwoCovariance(mean, whiten @ rotation, between)
