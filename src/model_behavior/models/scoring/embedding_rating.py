"""The rating of a model that was never voted on, read from its embedding, with an honest variance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, final

import numpy as np
from scipy import optimize

from model_behavior.arrays import AnyArray, Float64Array, Int64Array, IntArray
from model_behavior.data_models.scoring_types import ModelTable
from model_behavior.names import number_families

_START = (np.log(2.0), np.log(0.3))
_PRIOR_SD = 2.0
_LEVEL_VARIANCE = 1.0


@dataclass(frozen=True)
class EmbeddingRatingConfig:
    """How far a rating from an embedding is trusted.

    Attributes:
        inflation: residual variance of models that the encoder never saw, over the left-out residual variance of those
            that it was trained on. An encoder trained with votes has placed its own models by their ratings, so that
            even a left-out one is predicted too well. `measure_inflation` estimates it from held-out models.
        least_residual: share of the ratings' variance that an embedding is never trusted to explain, before inflation.
    """

    inflation: float = 2.5
    least_residual: float = 0.15


@dataclass(frozen=True, eq=False)
class LeaveOutFit:
    """Ratings predicted for each family from the others, [n_models]."""

    mean: Float64Array
    variance: Float64Array


@final
class EmbeddingRating:
    """Gaussian process regression with a linear kernel (Rasmussen and Williams 2006, 2.1) of ratings on embeddings.

    rating = level + w . (embedding - centre) + residual, with normal w. The variances of w and of the residual maximise
    the likelihood of each family of models predicted from the others (5.4.2 there, by families).

    An embedding of k responses is a noisy one. Within-model scatter is taken to have the shape of the scatter between
    models, `noise_ratio` times as large for one response; the embedding is shrunk by 1 / (1 + noise_ratio / k)
    accordingly (errors in variables, Fuller 1987) and the rest of the noise enters the variance.

    Args:
        config: see there.
    """

    def __init__(self, config: EmbeddingRatingConfig | None = None) -> None:
        self.config = config if config is not None else EmbeddingRatingConfig()
        self._arrays: dict[str, AnyArray] = {}
        self._signal = self._residual = self._noise_ratio = 0.0
        self.left_out: LeaveOutFit | None = None

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
        self.left_out = _leave_out(inputs, rating, variance + residual, signal, groups)
        residual = max(residual, self.config.least_residual * float(np.var(rating)))
        self._signal, self._residual = signal, residual * self.config.inflation
        within = float(np.square(table.spread, dtype=np.float64).mean())
        noise = float((np.square(table.spread, dtype=np.float64) / np.maximum(table.count, 1)).mean())
        self._noise_ratio = within / max(scale**2 - noise, 0.05 * scale**2)
        covariance = _kernel(inputs, inputs, self._signal) + np.diag(variance + self._residual)
        self._arrays = {
            "centre": centre,
            "inputs": inputs,
            "scale": np.array([scale]),
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
        return mean, np.maximum(posterior, 0) + self._residual + self.sampling_variance(table.count)

    def sampling_variance(self, count: IntArray) -> Float64Array:
        """The part of a rating's variance that more responses take away, by number of responses; any shape."""
        arrays = self._arrays
        weight = self._signal * arrays["inputs"].T @ arrays["precision"] @ arrays["rating"]
        explained = float(np.square(arrays["inputs"] @ weight).mean())
        noise: Float64Array = self._noise_ratio / np.maximum(count, 1)
        return explained * noise / (1 + noise)

    def standardise(self, table: ModelTable) -> Float64Array:
        """Embeddings centred, scaled to a mean square norm of 1 and shrunk by their noise, [n_models, dim]."""
        noise = self._noise_ratio / np.maximum(table.count, 1)
        offset = table.embedding - self._arrays["centre"]
        inputs: Float64Array = offset / self._arrays["scale"][0] / (1 + noise)[:, None]
        return inputs

    def get_state_dict(self) -> dict[str, Any]:
        """Constants, and arrays under "tensors"."""
        constants = {"signal": self._signal, "residual": self._residual, "noise_ratio": self._noise_ratio}
        return {"constants": constants, "tensors": {name: value.copy() for name, value in self._arrays.items()}}

    @classmethod
    def load_state_dict(cls, state_dict: Mapping[str, Any], config: EmbeddingRatingConfig) -> Self:
        """The inverse of `get_state_dict`."""
        rating = cls(config)
        constants = state_dict["constants"]
        rating._signal, rating._residual = constants["signal"], constants["residual"]
        rating._noise_ratio = constants["noise_ratio"]
        rating._arrays = {name: np.array(value) for name, value in state_dict["tensors"].items()}
        return rating


def measure_inflation(
    left_out: LeaveOutFit, rating: Float64Array, error: Float64Array, error_variance: Float64Array
) -> float:
    """What `EmbeddingRatingConfig.inflation` should be, from models that an encoder was not trained on; at least 1.

    Args:
        left_out: left-out predictions of the models that it was trained on.
        rating: their ratings, [n_models].
        error: rating less prediction of held-out models, [n_held_out].
        error_variance: variance of those ratings themselves, [n_held_out].
    """
    inside = float(np.square(rating - left_out.mean).mean())
    outside = float((np.square(error) - error_variance).mean())
    return max(outside / max(inside, 1e-9), 1.0)


def _family_groups(names: Sequence[str]) -> list[Int64Array]:
    member = number_families(names)
    return [np.flatnonzero(member == family) for family in range(int(member.max()) + 1)]


def _kernel(a: Float64Array, b: Float64Array, signal: float) -> Float64Array:
    kernel: Float64Array = signal * (a @ b.T) + _LEVEL_VARIANCE
    return kernel


def _leave_out(
    inputs: Float64Array, rating: Float64Array, noise: Float64Array, signal: float, groups: Sequence[Int64Array]
) -> LeaveOutFit:
    precision = np.linalg.inv(_kernel(inputs, inputs, signal) + np.diag(noise))
    weighted = precision @ rating
    mean, variance = np.empty(len(rating)), np.empty(len(rating))
    for group in groups:
        block = np.linalg.inv(precision[np.ix_(group, group)])
        mean[group] = rating[group] - block @ weighted[group]
        variance[group] = np.diag(block)
    return LeaveOutFit(mean, variance)


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
    fit = _leave_out(inputs, rating, variance + residual, signal, groups)
    loss = (np.log(fit.variance) + np.square(rating - fit.mean) / fit.variance).sum()
    return float(loss + np.square((logs - _START) / _PRIOR_SD).sum()) / 2
