"""The directions in which models differ most, in units of how much one model varies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np

from model_behavior.arrays import AnyArray, Arrays, Float32Array, IntArray
from model_behavior.models.behavior.metrics import centroids, normalise

_LEAST_SHRINKAGE = 1e-6  # below it, rounding makes the covariance of collinear features indefinite


@final
@dataclass(frozen=True, eq=False)
class Discriminant:
    """Linear discriminant analysis with a shrunk within-class covariance (Fisher 1936; Friedman 1989).

    With S the covariance of responses around their model's mean, shrunk to S + shrinkage (tr S / d) I, and M the means
    of the models, the projection is A with A' S A = I onto the span of the centred M: the within-class covariance
    normalisation of speaker verification (Hatch et al. 2006) followed by LDA. Projected rows are brought to length 1
    (length normalisation, Garcia-Romero and Espy-Wilson 2011), which raises identification from many responses.

    Attributes:
        centre: centre of the features, [n_features].
        projection: projection matrix A, [n_features, n_directions].
    """

    centre: Float32Array
    projection: Float32Array

    @classmethod
    def fit(cls, features: Float32Array, model: IntArray, shrinkage: float, directions: int) -> Discriminant:
        """Fits on training pairs.

        Args:
            features: features of the pairs, [n_pairs, n_features].
            model: model index of each pair, [n_pairs].
            shrinkage: shrinkage of the covariance in units of the mean variance, at least 0.
            directions: largest number of directions to keep, at least 1. At most n_models - 1 are kept, but always
                one; directions beyond the rank of the means are arbitrary.
        """
        _, member = np.unique(model, return_inverse=True)
        n_models = int(member.max()) + 1
        means = centroids(features, member, n_models).astype(np.float64)
        centre = features.mean(axis=0, dtype=np.float64)
        within = features - means.astype(np.float32)[member]
        covariance = (within.T @ within).astype(np.float64) / len(features)
        size = len(covariance)
        covariance += (max(shrinkage, _LEAST_SHRINKAGE) * np.trace(covariance) / max(size, 1) + 1e-9) * np.eye(size)
        root = np.linalg.cholesky(covariance)
        whitened = np.linalg.solve(root, (means - centre).T).T
        _, _, basis = np.linalg.svd(whitened - whitened.mean(axis=0), full_matrices=False)
        kept = basis[: max(1, min(directions, n_models - 1, size))]
        projection = np.linalg.solve(root.T, kept.T)
        return cls(centre.astype(np.float32), np.ascontiguousarray(projection, dtype=np.float32))

    def apply(self, features: Float32Array) -> Float32Array:
        """Unit rows, [n_pairs, n_directions]; a row at the centre stays 0."""
        return normalise(((features - self.centre) @ self.projection).astype(np.float32))

    def to_arrays(self) -> Arrays:
        """For saving."""
        return {"centre": self.centre, "projection": self.projection}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, AnyArray]) -> Discriminant:
        """The inverse of `to_arrays`."""
        centre, projection = (np.asarray(arrays[name], dtype=np.float32) for name in ("centre", "projection"))
        return cls(centre, projection)


def principal_span(vectors: Float32Array, model: IntArray, directions: int) -> tuple[Float32Array, Float32Array]:
    """The centre and the principal directions of the models' means, [n_features] and [n_features, n_directions].

    The rest of the space does not tell any two of the models apart and is noise.

    Args:
        vectors: features of the pairs, [n_pairs, n_features].
        model: model index of each pair, [n_pairs].
        directions: largest number of directions to keep; see `Discriminant.fit`.
    """
    _, member = np.unique(model, return_inverse=True)
    n_models = int(member.max()) + 1
    means = centroids(vectors, member, n_models)
    centre = means.mean(axis=0)
    _, _, basis = np.linalg.svd((means - centre).astype(np.float64), full_matrices=False)
    kept = basis[: max(1, min(directions, n_models - 1, vectors.shape[1]))]
    return centre, np.ascontiguousarray(kept.T, dtype=np.float32)
