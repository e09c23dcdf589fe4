"""The rating of a model that was never voted on, from all that its responses tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self, final

import numpy as np
import numpy.typing as npt

from model_behavior.data_models.scoring_types import ModelTable, WideArray
from model_behavior.models.scoring.embedding_rating import EmbeddingRating, EmbeddingRatingConfig
from model_behavior.models.scoring.peer_rating import PeerRating, PeerRatingConfig
from model_behavior.preprocessing.entry_file import inside

_ENDLESS = 10**9


@dataclass(frozen=True)
class RatingReading:
    """The rating of one model.

    Attributes:
        mean: of the rating.
        variance: of it.
        lasting: what of the variance of the rating that the embedding gives stays with endlessly many responses.
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
        embedding: see there.
        peers: see there.
    """

    def __init__(self, embedding: EmbeddingRatingConfig | None = None, peers: PeerRatingConfig | None = None) -> None:
        self._embedding, self._peers = EmbeddingRating(embedding), PeerRating(peers)

    def fit(self, table: ModelTable, rating: WideArray, variance: WideArray) -> None:
        """Fits to rated models.

        Args:
            table: their embeddings and, if known, their agreement with one another, [n_models].
            rating: [n_models].
            variance: of the ratings, [n_models].
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

    def sampling_variance(self, reading: RatingReading) -> Callable[[npt.NDArray[np.integer]], WideArray]:
        """The part of a rating's variance that more responses take away, by number of responses."""

        def total(count: npt.NDArray[np.integer]) -> WideArray:
            embedding = reading.lasting + self._embedding.sampling_variance(count)
            if not reading.shared or not self._peers.is_fitted:
                return embedding
            peers = self._peers.variance(np.maximum(np.round(reading.shared * count), 1))
            return self._variance(self._weight(embedding, peers), embedding, peers)

        limit = total(np.array([_ENDLESS]))
        return lambda count: np.maximum(total(count) - limit, 0)

    def standardise(self, table: ModelTable) -> WideArray:
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

    def _weight(self, embedding: WideArray, peers: WideArray) -> WideArray:
        """Of the reading from the embedding, by the variances of both."""
        shared = self._peers.config.correlation * np.sqrt(embedding * peers)
        weight: WideArray = np.clip((peers - shared) / (embedding + peers - 2 * shared), 0, 1)
        return weight

    def _variance(self, weight: WideArray, embedding: WideArray, peers: WideArray) -> WideArray:
        shared = self._peers.config.correlation * np.sqrt(embedding * peers)
        rest = 1 - weight
        variance: WideArray = weight**2 * embedding + rest**2 * peers + 2 * weight * rest * shared
        return variance
