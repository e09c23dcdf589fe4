"""The configuration of stage 1, with its form in JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from model_behavior.data.filters import FilterConfig
from model_behavior.models.behavior.behavior_features import FeatureConfig
from model_behavior.models.behavior.objectives import ObjectiveConfig
from model_behavior.models.behavior.projection import ProjectionConfig
from model_behavior.models.behavior.training import OptimisationConfig
from model_behavior.preprocessing.behavior_embedding_preprocessor import PreprocessingConfig
from model_behavior.preprocessing.triplets import TripletConfig


@dataclass(frozen=True)
class EncoderConfig:
    """Settings of a `ModelBehaviorEncoder` and its training.

    Attributes:
        seed: seed of weights, triplets and batches.
    """

    preprocessing: PreprocessingConfig = field(default_factory=PreprocessingConfig)
    features: FeatureConfig = field(default_factory=FeatureConfig)
    projection: ProjectionConfig = field(default_factory=ProjectionConfig)
    objectives: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optimisation: OptimisationConfig = field(default_factory=OptimisationConfig)
    seed: int = 0

    @property
    def identity_dim(self) -> int:
        """Number of columns that tell models apart: half of the embedding, or 0 with the identity part off."""
        return self.projection.dim // 2 if self.features.identity_weight else 0

    @property
    def quality_dim(self) -> int:
        """Number of columns that are trained with triplets: the rest of the embedding."""
        return self.projection.dim - self.identity_dim

    def to_json(self) -> dict[str, Any]:
        """Nested dictionaries of JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> EncoderConfig:
        """The inverse of `to_json`; reads values saved by earlier releases, too.

        Raises:
            ArtifactError: the values use a setting that this release no longer has.
        """
        return cls(
            preprocessing=PreprocessingConfig(
                FilterConfig(**values["preprocessing"]["filters"]), TripletConfig(**values["preprocessing"]["triplets"])
            ),
            features=FeatureConfig(**values["features"]),
            projection=ProjectionConfig(**values["projection"]),
            objectives=ObjectiveConfig.from_json(values["objectives"]),
            optimisation=OptimisationConfig(**values["optimisation"]),
            seed=values["seed"],
        )
