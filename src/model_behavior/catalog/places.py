"""Positions of models on the map: principal axes with 95 % regions; t-SNE and UMAP without regions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from model_behavior.arrays import FloatArray
from model_behavior.catalog import Catalog, ModelEmbeddings
from model_behavior.errors import MissingExtraError, UsageError

Method = Literal["pca", "tsne", "umap"]
LEAST_MODELS: Final = 3
_MAX_PERPLEXITY = 30.0
_POOLED = 1 << 17  # responses, about
_RADIUS = math.sqrt(-2 * math.log(0.05))
"""Standard deviations from the centre to the edge of a 95 % region of two normal variables."""


@dataclass(frozen=True, eq=False)
class PrincipalAxes:
    """The plane of the map.

    Attributes:
        centre: mean embedding, [dim].
        directions: two orthonormal vectors, [dim, 2]; the largest entry of each is positive, so that no map is another
            one's mirror image. The second is 0 where embeddings have one dimension only.
        shares: share of the variance along each, [2].
    """

    centre: FloatArray
    directions: FloatArray
    shares: FloatArray

    def place(self, embeddings: FloatArray) -> FloatArray:
        """Coordinates, [n_models, dim] to [n_models, 2]; of models that the axes were not fitted to, too."""
        points: FloatArray = (np.asarray(embeddings, dtype=np.float64) - self.centre) @ self.directions
        return points


@dataclass(frozen=True)
class Ellipse:
    """The 95 % region of a model's position: semi-axes in units of the map, angle of the major one in radians."""

    major: float
    minor: float
    angle: float


def fit_axes(embeddings: FloatArray) -> PrincipalAxes:
    """The first two principal axes of embeddings, [n_models, dim].

    Raises:
        UsageError: some values are not finite.
    """
    _check_finite(embeddings)
    centre: FloatArray = np.asarray(embeddings, dtype=np.float64).mean(axis=0)
    _, singular, axes = np.linalg.svd(np.asarray(embeddings, dtype=np.float64) - centre, full_matrices=False)
    largest = np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], axis=1)
    directions, shares = np.zeros((len(centre), 2)), np.zeros(2)
    used = min(2, len(axes))  # a one-dimensional embedding has no second axis
    directions[:, :used] = (axes * np.where(largest < 0, -1, 1))[:used].T
    shares[:used] = (singular**2 / max((singular**2).sum(), np.finfo(np.float64).tiny))[:used]
    return PrincipalAxes(centre, directions, shares)


def project(embeddings: FloatArray, method: Method = "pca", seed: int = 0) -> FloatArray:
    """Project embeddings [n_models, dim] to [n_models, 2].

    PCA has no randomness; it gives the places on `fit_axes`. t-SNE and UMAP keep neighbours rather than distances; the
    same seed gives the same map.

    Raises:
        UsageError: there are fewer than three models, some values are not finite, or the method is unknown.
        MissingExtraError: the method is UMAP, which is not installed.
    """
    n = len(embeddings)
    if n < LEAST_MODELS:
        raise UsageError(f"A map needs at least {LEAST_MODELS} models, and there are {n}. Fix: add models.")
    if method == "pca":
        return fit_axes(embeddings).place(embeddings)
    _check_finite(embeddings)
    if method == "tsne":
        from sklearn.manifold import TSNE  # slow to load, and most commands draw nothing

        init = "pca" if embeddings.shape[1] > 1 else "random"
        tsne = TSNE(perplexity=min(_MAX_PERPLEXITY, (n - 1) / 3), init=init, random_state=seed)
        return np.asarray(tsne.fit_transform(embeddings), dtype=np.float64)
    if method == "umap":
        try:
            from umap import UMAP
        except ImportError as error:
            raise MissingExtraError("UMAP", "umap") from error
        # The spectral start fails on a handful of models.
        init = "spectral" if n > 10 else "random"
        umap = UMAP(n_neighbors=min(15, n - 1), init=init, random_state=seed, n_jobs=1)
        return np.asarray(umap.fit_transform(embeddings), dtype=np.float64)
    raise UsageError(f"Unknown projection {method!r}. Allowed: pca, tsne, umap.")


def measure_ellipses(catalog: Catalog, axes: PrincipalAxes, models: ModelEmbeddings) -> tuple[Ellipse, ...]:
    """The uncertainty of each model's position: that of the mean of its responses' vectors.

    The covariance of responses around their model is pooled over the catalog in its shape and scaled to each model's
    own spread, since few responses tell a size but no shape:

        C_i = W / T * s_i^2 n_i / (n_i - 1) / n_i

    with W the pooled covariance in the plane, T its trace in all dimensions, s_i the spread and n_i the number of
    responses. A model of one response takes T for its spread. Responses are taken for independent.

    Args:
        catalog: catalog whose sampled vectors give W and T; without any, all directions count alike.
        axes: plane of the map.
        models: models of this or of another catalog, one ellipse each.
    """
    shape, total = _pool(catalog, axes)
    count = models.count.astype(np.float64)
    square = np.square(models.spread.astype(np.float64))
    variance = np.where(count > 1, square / np.maximum(count - 1, 1), total)
    values, vectors = np.linalg.eigh(shape)
    minor, major = _RADIUS * np.sqrt(np.maximum(values, 0)[:, None] * variance)
    angle = math.atan2(vectors[1, 1], vectors[0, 1]) % math.pi
    return tuple(Ellipse(float(a), float(b), angle) for a, b in zip(major, minor, strict=True))


def _check_finite(embeddings: FloatArray) -> None:
    if not np.isfinite(embeddings).all():
        raise UsageError("Some embeddings hold NaN or infinity. Fix: embed the models again.")


def _pool(catalog: Catalog, axes: PrincipalAxes) -> tuple[FloatArray, float]:
    """Pooled covariance of responses around their model in the plane, as a share of its trace, [2, 2]; the trace.

    Of a large catalog every so many models are pooled, which tell a deviation to about 0.2 %.
    """
    sample, n_models = catalog.samples.embedded, len(catalog.models)
    square, scatter, freedom = 0.0, np.zeros((2, 2)), 0
    for model in range(0, n_models, max(math.ceil(len(sample.vectors) / _POOLED), 1)):
        vectors = np.asarray(sample.vectors[sample.rows_of(model)]).astype(np.float64)
        if len(vectors) > 1:
            around = vectors - vectors.mean(axis=0)
            plane = around @ axes.directions
            scatter += plane.T @ plane
            square += float(np.square(around).sum())
            freedom += len(vectors) - 1
    if freedom < 1:
        plane = axes.directions.T @ axes.directions
        return plane / len(axes.centre), float(np.square(catalog.models.spread.astype(np.float64)).mean())
    total = max(square / freedom, np.finfo(np.float64).tiny)
    return scatter / freedom / total, total
