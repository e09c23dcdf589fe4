"""The rating of a model that was never voted on, read from its embedding, with an honest variance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, final

import numpy as np
from scipy import optimize

from model_behavior.arrays import AnyArray, Float64Array, Int64Array, IntArray
from model_behavior.data_models.scoring_types import ModelTable
from model_behavior.models.scoring.few_families import REACH, widening
from model_behavior.names import number_families

_START = (np.log(2.0), np.log(0.3))
_PRIOR_SD = 2.0
_LEVEL_VARIANCE = 1.0


@dataclass(frozen=True)
class EmbeddingRatingConfig:
    """How far a rating from an embedding is trusted.

    Attributes:
        least_residual: share of the ratings' variance that an embedding is never trusted to explain.
    """

    least_residual: float = 0.15


@final
class EmbeddingRating:
    """Gaussian process regression with a linear kernel (Rasmussen and Williams 2006, 2.1) of ratings on embeddings.

    rating = level + w . (embedding - centre) + residual, with normal w. The variances of w and of the residual maximise
    the likelihood of each family of models predicted from the others (5.4.2 there, by families). What these predictions
    are off by more than the variances say, and the few families that they are of, widen the variance.

    An embedding of k responses is a noisy one. Scatter within models is taken to be the same in all directions, as
    discriminants leave it; scatter between models is not. Along each principal direction of the known models the
    embedding is shrunk by between / (between + within / k) (errors in variables, Fuller 1987), and the rest of the
    noise enters the variance. New models scatter more than known ones: between is `REACH` times theirs.

    Args:
        config: see there.

    Attributes:
        left_out: ratings of the models of the last `fit`, each predicted without its family, [n_models].
    """

    def __init__(self, config: EmbeddingRatingConfig | None = None) -> None:
        self.config = config if config is not None else EmbeddingRatingConfig()
        self._arrays: dict[str, AnyArray] = {}
        self._signal = self._residual = 0.0
        self._inflation = 1.0
        self.left_out: Float64Array = np.zeros(0)

    def fit(self, table: ModelTable, rating: Float64Array, variance: Float64Array) -> None:
        """Fits to rated models.

        Args:
            table: their embeddings, [n_models].
            rating: [n_models].
            variance: variances of the ratings, [n_models].
        """
        centre = table.embedding.mean(axis=0, dtype=np.float64)
        offset = table.embedding - centre
        scale = max(float(np.sqrt(np.square(offset).sum(axis=1).mean())), 1e-9)
        inputs = offset / scale
        groups = _family_groups(table.names)
        found = optimize.minimize(
            _left_out_loss, _START, (inputs, rating, variance, groups), "Nelder-Mead", options={"maxiter": 300}
        )
        signal, residual = _variances(found.x)
        self.left_out, expected = _leave_out(inputs, rating, variance + residual, signal, groups)
        missed = float(np.square(rating - self.left_out).mean() / expected.mean())
        self._inflation = max(missed, 1.0) * widening(len(groups))
        residual = max(residual, self.config.least_residual * float(np.var(rating)))
        self._signal, self._residual = signal, residual
        between, basis = np.linalg.eigh(inputs.T @ inputs / len(inputs))
        within = np.square(table.spread, dtype=np.float64) / scale**2 / inputs.shape[1]
        noise = float((within / np.maximum(table.count, 1)).mean())
        covariance = _kernel(inputs, inputs, self._signal) + np.diag(variance + self._residual)
        self._arrays = {
            "centre": centre,
            "inputs": inputs,
            "scale": np.array([scale]),
            "basis": basis,
            "between": np.maximum(between - noise, 0.05 * between.clip(0)),
            "within": np.array([float(within.mean())]),
            "precision": np.linalg.inv(covariance),
            "rating": rating.astype(np.float64),
        }

    def predict(self, table: ModelTable) -> tuple[Float64Array, Float64Array]:
        """Mean and variance of the ratings of models, each [n_models]."""
        arrays = self._arrays
        inputs = self.standardise(table)
        cross = _kernel(inputs, arrays["inputs"], self._signal)
        mean = cross @ arrays["precision"] @ arrays["rating"]
        prior = self._signal * np.square(inputs).sum(axis=1) + _LEVEL_VARIANCE
        posterior = prior - np.einsum("ij,jk,ik->i", cross, arrays["precision"], cross)
        lasting = self._inflation * (np.maximum(posterior, 0) + self._residual)
        return mean, lasting + self.sampling_variance(table.count)

    def sampling_variance(self, count: IntArray) -> Float64Array:
        """The part of a rating's variance that more responses take away, by number of responses; any shape."""
        arrays = self._arrays
        weight = arrays["basis"].T @ (self._signal * arrays["inputs"].T @ arrays["precision"] @ arrays["rating"])
        lost: Float64Array = (1 - self._kept(np.asarray(count))) @ (np.square(weight) * REACH * arrays["between"])
        return lost

    @property
    def residual_variance(self) -> float:
        """Variance of a rating that no embedding explains."""
        return self._inflation * self._residual

    def standardise(self, table: ModelTable) -> Float64Array:
        """Embeddings centred, scaled to a mean square norm of 1 and shrunk by their noise, [n_models, dim]."""
        offset = (table.embedding - self._arrays["centre"]) / self._arrays["scale"][0]
        basis = self._arrays["basis"]
        inputs: Float64Array = (offset @ basis * self._kept(table.count)) @ basis.T
        return inputs

    def get_state_dict(self) -> dict[str, Any]:
        """Constants, and arrays under "tensors"."""
        constants = {"signal": self._signal, "residual": self._residual, "inflation": self._inflation}
        return {"constants": constants, "tensors": {name: value.copy() for name, value in self._arrays.items()}}

    @classmethod
    def load_state_dict(cls, state_dict: Mapping[str, Any], config: EmbeddingRatingConfig) -> Self:
        """The inverse of `get_state_dict`."""
        rating = cls(config)
        constants = state_dict["constants"]
        rating._signal, rating._residual = constants["signal"], constants["residual"]
        rating._inflation = constants.get("inflation", 1.0)
        rating._arrays = {name: np.array(value) for name, value in state_dict["tensors"].items()}
        if "noise_ratio" in constants:  # of earlier releases: the same in all directions
            dim = len(rating._arrays["centre"])
            ratio = np.array([constants["noise_ratio"]])
            rating._arrays |= {"basis": np.eye(dim), "between": np.full(dim, 1 / REACH), "within": ratio}
        return rating

    def _kept(self, count: IntArray) -> Float64Array:
        """Share of an offset that is kept along each principal direction, by number of responses, [..., dim]."""
        between, within = REACH * self._arrays["between"], self._arrays["within"][0]
        kept: Float64Array = between / np.maximum(between + within / np.maximum(count, 1)[..., None], 1e-12)
        return kept


def _family_groups(names: Sequence[str]) -> list[Int64Array]:
    member = number_families(names)
    return [np.flatnonzero(member == family) for family in range(int(member.max()) + 1)]


def _kernel(a: Float64Array, b: Float64Array, signal: float) -> Float64Array:
    kernel: Float64Array = signal * (a @ b.T) + _LEVEL_VARIANCE
    return kernel


def _leave_out(
    inputs: Float64Array, rating: Float64Array, noise: Float64Array, signal: float, groups: Sequence[Int64Array]
) -> tuple[Float64Array, Float64Array]:
    """Mean and variance of the ratings of each family, predicted from the others, [n_models] each."""
    precision = np.linalg.inv(_kernel(inputs, inputs, signal) + np.diag(noise))
    weighted = precision @ rating
    mean, variance = np.empty(len(rating)), np.empty(len(rating))
    for group in groups:
        block = np.linalg.inv(precision[np.ix_(group, group)])
        mean[group] = rating[group] - block @ weighted[group]
        variance[group] = np.diag(block)
    return mean, variance


def _variances(logs: Float64Array) -> tuple[float, float]:
    signal, residual = np.exp(np.clip(logs, -10, 10)).tolist()
    return signal, residual


def _left_out_loss(
    logs: Float64Array,
    inputs: Float64Array,
    rating: Float64Array,
    variance: Float64Array,
    groups: Sequence[Int64Array],
) -> float:
    signal, residual = _variances(logs)
    mean, spread = _leave_out(inputs, rating, variance + residual, signal, groups)
    loss = (np.log(spread) + np.square(rating - mean) / spread).sum()
    return float(loss + np.square((logs - _START) / _PRIOR_SD).sum()) / 2
