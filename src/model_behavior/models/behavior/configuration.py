"""The configuration of stage 1, with its form in JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from model_behavior.data.filters import FilterConfig
from model_behavior.models.behavior.behavior_features import FeatureConfig
from model_behavior.models.behavior.objectives import ObjectiveConfig
from model_behavior.models.behavior.projection import ProjectionConfig
from model_behavior.models.behavior.training import OptimisationConfig
from model_behavior.preprocessing.behavior_embedding_preprocessor import PreprocessingConfig
from model_behavior.preprocessing.triplets import TripletConfig

_LEAST_BATCH = 16
_MOST_DROPOUT = 0.9


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

    def for_size(self, n_votes: int, batch_size: int) -> tuple[EncoderConfig, int]:
        """The same for few votes: smaller batches, so that there are as many steps, and more dropout.

        From `OptimisationConfig.many_votes` on both stay as they are (decision 0019).

        Args:
            n_votes: training votes.
            batch_size: triplets per step where there are many votes.

        Returns:
            The configuration, and the triplets per step.
        """
        share = min(n_votes / self.optimisation.many_votes, 1.0)
        if share == 1:
            return self, batch_size
        rise = 1 - share
        projection = replace(
            self.projection,
            dropout=_raise(self.projection.dropout, 0.2 * rise),
            sparse_dropout=_raise(self.projection.sparse_dropout, 0.2 * rise),
            dense_dropout=_raise(self.projection.dense_dropout, 0.1 * rise),
        )
        fewest = min(batch_size, _LEAST_BATCH)
        return replace(self, projection=projection), max(fewest, round(batch_size * share))

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


def _raise(dropout: float, by: float) -> float:
    """A dropout that is 0 is off and stays so."""
    return min(dropout + by, max(dropout, _MOST_DROPOUT)) if dropout else 0.0
