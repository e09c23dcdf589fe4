"""The rating of a model that was never voted on, read from whom it agrees with on prompts that others answered, too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, final

import numpy as np

from model_behavior.arrays import Float64Array, Int64Array, IntArray
from model_behavior.data_models.scoring_types import Agreement
from model_behavior.models.scoring.few_families import REACH, widening
from model_behavior.names import number_families

_LEAST_RESPONSES = 3
_LEAST_RESIDUAL = 0.02  # of the ratings' variance
_LEAST_SHARE = 1e-3  # of the largest variance between models, in any direction


@dataclass(frozen=True)
class PeerRatingConfig:
    """How far a rating that is read from agreement is trusted.

    Attributes:
        penalty: penalty of the regression, in models.
        least_models: models with votes and shared prompts that are needed to read ratings from agreement.
    """

    penalty: float = 1.0
    least_models: int = 8


@dataclass(frozen=True, eq=False)
class PeerReading:
    """Ratings read from agreement; arrays [n_models].

    Attributes:
        mean: posterior mean of the rating, log-odds.
        variance: posterior variance of the rating.
        shared: number of responses with peers; without any, mean and variance are those of all models.
    """

    mean: Float64Array
    variance: Float64Array
    shared: Int64Array


@final
class PeerRating:
    """Linear regression of ratings on the ratings that models' responses speak for (`catalog.agreement`).

        rating = p + level + b . (z - centre) + residual,    z = mean over responses of z(x), by view

    p is the mean rating of all that answered the same prompts: z tells a model from these, not how good they are. b is
    fitted to models with votes, each read without its family. With k responses z is a noisy one: it is shrunk by
    B (B + W / k)^-1, with B the covariance of z between new models (`REACH`) and W that of z(x) within them (errors in
    variables, Fuller 1987), and the rest of the noise enters the variance.

    Args:
        config: see there.

    Attributes:
        left_out: ratings of the peers of the last `fit`, each read by a regression without its family; NaN for a model
            that was not used, [n_peers].
    """

    def __init__(self, config: PeerRatingConfig | None = None) -> None:
        self.config = config if config is not None else PeerRatingConfig()
        self.left_out: Float64Array = np.zeros(0)
        self._peers: tuple[str, ...] = ()
        self._arrays: dict[str, Float64Array] = {}

    @property
    def is_fitted(self) -> bool:
        """Whether there were enough models to learn from."""
        return bool(self._arrays)

    def fit(self, agreement: Agreement, rating: Float64Array, variance: Float64Array) -> None:
        """Fits to rated models.

        Args:
            agreement: agreement of the peers with one another; its owners are its peers.
            rating: ratings of the peers, [n_peers].
            variance: variances of the ratings, [n_peers].
        """
        self._peers, self._arrays = agreement.peers, {}
        spoken, among, owner = _spoken(agreement, rating)
        count = np.bincount(owner, minlength=len(rating))
        used = np.flatnonzero(count >= _LEAST_RESPONSES)
        if len(used) < self.config.least_models:
            return
        mean = _means(spoken, owner, len(rating))
        inside = np.isin(owner, used)
        off = spoken[inside] - mean[owner[inside]]
        within = off.T @ off / (len(off) - len(used))
        above = rating[used] - _means(among[:, None], owner, len(rating))[used, 0]
        centre, level = mean[used].mean(axis=0), above.mean()
        covariance = np.atleast_2d(np.cov(mean[used], rowvar=False)) - within * (1 / count[used]).mean()
        between = _positive(covariance)
        level, slope = self._regress(mean[used] - centre, above, between)
        families = number_families([agreement.peers[row] for row in used.tolist()])
        self.left_out = np.full(len(rating), np.nan)
        for family in range(int(families.max()) + 1):
            own, rest = families == family, families != family
            some_level, some = self._regress(mean[used][rest] - centre, above[rest], between)
            told = some_level + (mean[used][own] - centre) @ some
            self.left_out[used[own]] = rating[used][own] - above[own] + told
        missed = float(np.square(rating[used] - self.left_out[used]).mean() - variance[used].mean())
        residual = max(missed, _LEAST_RESIDUAL * float(np.var(rating[used])))
        self._arrays = {
            "rating": rating.astype(np.float64),
            "level": np.array([level]),
            "centre": centre,
            "slope": slope,
            "between": between,
            "within": within,
            "residual": np.array([residual * widening(int(families.max()) + 1)]),
        }

    def predict(self, agreement: Agreement, n_models: int) -> PeerReading:
        """Ratings of models, from their agreement with the peers that were fitted to."""
        arrays = self._arrays
        weighed = dict(zip(self._peers, arrays["rating"], strict=True))
        spoken, among, owner = _spoken(agreement, np.array([weighed[name] for name in agreement.peers]))
        shared = np.bincount(owner, minlength=n_models)
        offset = _means(spoken, owner, n_models) - arrays["centre"]
        moved = np.array([self._slope_at(k) @ z if k else 0.0 for k, z in zip(shared, offset, strict=True)])
        met = np.where(shared > 0, _means(among[:, None], owner, n_models)[:, 0], arrays["rating"].mean())
        return PeerReading(met + arrays["level"][0] + moved, self.variance(shared), shared)

    def variance(self, shared: IntArray) -> Float64Array:
        """Of a rating, by number of responses with peers; any shape."""
        arrays = self._arrays
        slope, between = arrays["slope"], REACH * arrays["between"]
        known = np.array([self._slope_at(k) @ between @ slope if k else 0.0 for k in np.ravel(shared).tolist()])
        unknown = np.maximum(slope @ between @ slope - known, 0)
        variance: Float64Array = arrays["residual"][0] + unknown.reshape(np.shape(shared))
        return variance

    def get_state_dict(self) -> dict[str, Any]:
        """The peers, and arrays under "tensors"."""
        return {"peers": list(self._peers), "tensors": {name: value.copy() for name, value in self._arrays.items()}}

    @classmethod
    def load_state_dict(cls, state_dict: Mapping[str, Any], config: PeerRatingConfig) -> Self:
        """The inverse of `get_state_dict`."""
        rating = cls(config)
        rating._peers = tuple(state_dict["peers"])
        rating._arrays = {name: np.array(value) for name, value in state_dict["tensors"].items()}
        return rating

    def _regress(self, offset: Float64Array, above: Float64Array, between: Float64Array) -> tuple[float, Float64Array]:
        """Level and slopes of what ratings are above those of the peers, by how far z is from the centre."""
        scale = np.sqrt(np.diag(between))
        inputs, level = offset / scale, float(above.mean())
        penalised = inputs.T @ inputs + self.config.penalty * np.eye(len(scale))
        return level, np.linalg.solve(penalised, inputs.T @ (above - level)) / scale

    def _slope_at(self, k: float) -> Float64Array:
        """b shrunk by the noise of k responses."""
        arrays = self._arrays
        between = REACH * arrays["between"]
        noisy = between + arrays["within"] / k
        return np.asarray(np.linalg.solve(noisy, between @ arrays["slope"]), dtype=np.float64)


def _spoken(agreement: Agreement, rating: Float64Array) -> tuple[Float64Array, Float64Array, Int64Array]:
    """Of the responses with peers: z(x) [n, n_views], the mean rating of those peers [n], and the model [n]."""
    shared = agreement.is_shared
    return agreement.ratings(rating)[shared], (agreement.means @ rating)[shared], agreement.owner[shared]


def _means(values: Float64Array, owner: Int64Array, n_models: int) -> Float64Array:
    """Mean row of each owner, 0 without rows, [n_models, n_views]."""
    sums = np.zeros((n_models, values.shape[1]))
    np.add.at(sums, owner, values)
    return sums / np.maximum(np.bincount(owner, minlength=n_models), 1)[:, None]


def _positive(covariance: Float64Array) -> Float64Array:
    """The nearest covariance with some variance in every direction."""
    values, vectors = np.linalg.eigh(covariance)
    floor = _LEAST_SHARE * max(float(values.max()), 1e-9)
    positive: Float64Array = (vectors * np.maximum(values, floor)) @ vectors.T
    return positive
