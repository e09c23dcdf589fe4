"""The configuration of `DenseNetworkModel`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from model_behavior.models.scoring.answer_rating import AnswerRatingConfig
from model_behavior.models.scoring.bradley_terry import BradleyTerryConfig
from model_behavior.models.scoring.dense_network import NetworkConfig
from model_behavior.models.scoring.dense_network_training import ScoringSchedule
from model_behavior.models.scoring.embedding_rating import EmbeddingRatingConfig
from model_behavior.models.scoring.peer_rating import PeerRatingConfig
from model_behavior.models.scoring.prompt_features import PromptFeaturesConfig
from model_behavior.models.scoring.rating_reader import RatingReaderConfig


@dataclass(frozen=True)
class DenseNetworkConfig:
    """Every choice of stage 2 in one place.

    Attributes:
        model_source: "behavior" uses the models' embeddings; "id" a learned vector per model alone, so that only models
            with votes can be predicted.
        carry_over: share of what prompts do to the behaviour of voted models that is taken over to enrolled ones, which
            had no say in it; in [0, 1].
        prompts: features of prompts.
        offset: fit of the Bradley-Terry ratings, to which everything else is added.
        rating: reading of the offset of a model without votes from its embedding.
        agreement: reading of that offset from the models whose answers to the same prompts it resembles.
        answers: reading of that offset from what the votes say about responses.
        network: size and priors.
        schedule: epochs, steps and folds of training.
    """

    model_source: Literal["behavior", "id"] = "behavior"
    carry_over: float = 0.25
    prompts: PromptFeaturesConfig = field(default_factory=PromptFeaturesConfig)
    offset: BradleyTerryConfig = field(default_factory=BradleyTerryConfig)
    rating: EmbeddingRatingConfig = field(default_factory=EmbeddingRatingConfig)
    agreement: PeerRatingConfig = field(default_factory=PeerRatingConfig)
    answers: AnswerRatingConfig = field(default_factory=AnswerRatingConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    schedule: ScoringSchedule = field(default_factory=ScoringSchedule)

    @property
    def reader(self) -> RatingReaderConfig:
        """Configuration of the joint reading of the offset."""
        return RatingReaderConfig(self.rating, self.agreement, self.answers)

    def to_json(self) -> dict[str, Any]:
        """Nested dictionaries of JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> DenseNetworkConfig:
        """The inverse of `to_json`."""
        prompts = PromptFeaturesConfig(**{**values["prompts"], "encoders": tuple(values["prompts"]["encoders"])})
        return cls(
            model_source=values["model_source"],
            carry_over=values["carry_over"],
            prompts=prompts,
            offset=BradleyTerryConfig(**values["offset"]),
            rating=EmbeddingRatingConfig(**_without(values["rating"], "inflation")),
            agreement=PeerRatingConfig(**_without(values.get("agreement", {}), "correlation")),
            answers=AnswerRatingConfig(**values.get("answers", {})),
            network=NetworkConfig(**values["network"]),
            schedule=ScoringSchedule(**values["schedule"]),
        )


def _without(values: Mapping[str, Any], gone: str) -> dict[str, Any]:
    """The settings without one that earlier releases had."""
    return {name: value for name, value in values.items() if name != gone}
