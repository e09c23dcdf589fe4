"""The rating of a model that was never voted on, from all that its responses tell, and how precise it is.

Two readings are averaged, that of the embedding and that of agreement with other models on the same prompts
(`RatingReader`). The variance of the result has a part that falls with the number of responses, and a rest that does
not: what behaviour, however well known, leaves open about the votes. The half width of the 95 % interval after n
responses is therefore

    1.96 sqrt(variance - s(now) + s(n)),

with s as in `RatingReader.sampling_variance`, and never below the floor, where s is 0 (`RatingPrecision`). The place of
the embedding is taken to stay where it is now, so that this is what to expect, not a promise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self, final

import numpy as np

from model_behavior.arrays import Float64Array, IntArray
from model_behavior.data_models.scoring_types import ModelTable
from model_behavior.errors import UsageError
from model_behavior.models.scoring.embedding_rating import EmbeddingRating, EmbeddingRatingConfig
from model_behavior.models.scoring.model_base import NORMAL_QUANTILE
from model_behavior.models.scoring.peer_rating import PeerRating, PeerRatingConfig
from model_behavior.preprocessing.entry_file import inside

_ENDLESS = 10**9
_MOST = 10_000_000
_WITHIN_REACH = 1.1


@dataclass(frozen=True)
class RatingReading:
    """The rating of one model.

    Attributes:
        mean: posterior mean of the rating, log-odds.
        variance: posterior variance of the rating.
        lasting: part of the embedding's variance that stays with endlessly many responses.
        shared: share of the model's responses that agreement could be read from, in [0, 1].
    """

    mean: float
    variance: float
    lasting: float
    shared: float = 0.0


@final
class RatingReader:
    """Two readings as one: from the embedding (`EmbeddingRating`), and from agreement with peers (`PeerRating`).

    The mean of the two with the least variance, given that of each and the correlation of their errors (Bates and
    Granger 1969, https://doi.org/10.1057/jors.1969.103); no weight is negative. A model that has answered no prompt
    that others have answered is read from its embedding alone.

    Args:
        embedding: configuration of the reading from the embedding.
        peers: configuration of the reading from agreement.
    """

    def __init__(self, embedding: EmbeddingRatingConfig | None = None, peers: PeerRatingConfig | None = None) -> None:
        self._embedding, self._peers = EmbeddingRating(embedding), PeerRating(peers)

    def fit(self, table: ModelTable, rating: Float64Array, variance: Float64Array) -> None:
        """Fits to rated models.

        Args:
            table: their embeddings and, if known, their agreement with one another, [n_models].
            rating: ratings, log-odds, [n_models].
            variance: variances of the ratings, [n_models].
        """
        self._embedding.fit(table, rating, variance)
        if table.agreement is not None and table.agreement.peers == table.names:
            self._peers.fit(table.agreement, rating)

    def read(self, table: ModelTable) -> list[RatingReading]:
        """The ratings of models, in order."""
        mean, variance = self._embedding.predict(table)
        lasting = variance - self._embedding.sampling_variance(table.count)
        shared = np.zeros(len(mean))
        if table.agreement is not None and self._peers.is_fitted:
            peers = self._peers.predict(table.agreement, len(mean))
            weight = np.where(peers.shared > 0, self._weight(variance, peers.variance), 1.0)
            mean = weight * mean + (1 - weight) * peers.mean
            variance = self._variance(weight, variance, peers.variance)
            shared = np.minimum(peers.shared / np.maximum(table.count, 1), 1)
        rows = zip(mean.tolist(), variance.tolist(), lasting.tolist(), shared.tolist(), strict=True)
        return [RatingReading(*row) for row in rows]

    def sampling_variance(self, reading: RatingReading) -> Callable[[IntArray], Float64Array]:
        """The part of a rating's variance that more responses take away, by number of responses."""

        def total(count: IntArray) -> Float64Array:
            embedding = reading.lasting + self._embedding.sampling_variance(count)
            if not reading.shared or not self._peers.is_fitted:
                return embedding
            peers = self._peers.variance(np.maximum(np.round(reading.shared * count), 1))
            return self._variance(self._weight(embedding, peers), embedding, peers)

        limit = total(np.array([_ENDLESS]))
        return lambda count: np.maximum(total(count) - limit, 0)

    def standardise(self, table: ModelTable) -> Float64Array:
        """See `EmbeddingRating.standardise`."""
        return self._embedding.standardise(table)

    def get_state_dict(self) -> dict[str, Any]:
        """Constants, and arrays under "tensors"."""
        parts = {"embedding": self._embedding.get_state_dict(), "peers": self._peers.get_state_dict()}
        tensors = {f"{name}.{key}": value for name, part in parts.items() for key, value in part.pop("tensors").items()}
        return {**parts, "tensors": tensors}

    @classmethod
    def load_state_dict(
        cls, state_dict: Mapping[str, Any], embedding: EmbeddingRatingConfig, peers: PeerRatingConfig
    ) -> Self:
        """The inverse of `get_state_dict`."""
        reader = cls(embedding, peers)
        parts = {
            name: {**state_dict[name], "tensors": inside(state_dict["tensors"], f"{name}.")}
            for name in ("embedding", "peers")
        }
        reader._embedding = EmbeddingRating.load_state_dict(parts["embedding"], embedding)
        reader._peers = PeerRating.load_state_dict(parts["peers"], peers)
        return reader

    def _weight(self, embedding: Float64Array, peers: Float64Array) -> Float64Array:
        """The weight of the reading from the embedding, by the variances of both."""
        shared = self._peers.config.correlation * np.sqrt(embedding * peers)
        weight: Float64Array = np.clip((peers - shared) / (embedding + peers - 2 * shared), 0, 1)
        return weight

    def _variance(self, weight: Float64Array, embedding: Float64Array, peers: Float64Array) -> Float64Array:
        shared = self._peers.config.correlation * np.sqrt(embedding * peers)
        rest = 1 - weight
        variance: Float64Array = weight**2 * embedding + rest**2 * peers + 2 * weight * rest * shared
        return variance


@dataclass(frozen=True)
class RatingPrecision:
    """The precision of one rating.

    Attributes:
        rating: rating as `rank` gives it.
        variance: variance of the rating.
        responses: number of responses that it rests on.
        sampling_variance: part of `variance` that falls with the number of responses, to 0.
        shared: share of the responses that could be compared with voted models' answers to the same prompt, in [0, 1].
    """

    rating: float
    variance: float
    responses: int
    sampling_variance: Callable[[IntArray], Float64Array]
    shared: float = 0.0

    @property
    def half_width(self) -> float:
        """Half width of the 95 % interval as it is."""
        return self.half_width_after(self.responses)

    @property
    def floor(self) -> float:
        """Half width with endlessly many responses; only votes take it further down."""
        return float(NORMAL_QUANTILE * np.sqrt(self._lasting))

    @property
    def within_reach(self) -> float:
        """A tenth above the floor: the half width that is worth more responses."""
        return _WITHIN_REACH * self.floor

    def half_width_after(self, responses: int) -> float:
        """Half width to expect from that many responses altogether, at least 1."""
        return float(NORMAL_QUANTILE * np.sqrt(self._lasting + self._sampling(responses)))

    def responses_needed(self, half_width: float) -> int | None:
        """How many more responses bring the half width down to this; None where no number does.

        Raises:
            UsageError: a half width that is not above 0.
        """
        if not half_width > 0:
            raise UsageError(f"half_width={half_width}: must be above 0, such as 0.5")
        if self.half_width <= half_width:
            return 0
        low, high = self.responses, 2 * self.responses
        while self.half_width_after(high) > half_width:
            if high > _MOST:
                return None
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.half_width_after(middle) > half_width else (low, middle)
        return high - self.responses

    @property
    def _lasting(self) -> float:
        return max(self.variance - self._sampling(self.responses), 0.0)

    def _sampling(self, responses: int) -> float:
        return float(self.sampling_variance(np.array([responses]))[0])
