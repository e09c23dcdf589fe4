"""Bradley-Terry ratings with the style of the responses held constant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Self, final

import numpy as np
from scipy import sparse

from model_behavior.data_models.scoring_types import STYLE_COLUMNS, ScoringVotes, WideArray
from model_behavior.models.scoring.bradley_terry import (
    BradleyTerryConfig,
    centred_constants,
    count_votes,
    vote_design,
)
from model_behavior.models.scoring.model_base import check_votes
from model_behavior.models.scoring.ratings_base import RatingsBase
from model_behavior.models.scoring.score_fit import Design, clustered_covariance, fit_scores


@dataclass(frozen=True)
class StyleControlConfig:
    """How it is fitted.

    Attributes:
        ratings: of the ratings.
        style_penalty: precision of the normal prior of each style effect.
    """

    ratings: BradleyTerryConfig = field(default_factory=BradleyTerryConfig)
    style_penalty: float = 0.1


@final
class StyleControl(RatingsBase):
    """Bradley-Terry with the relative difference of length and Markdown counts as covariates.

    score_a - score_b = rating_a - rating_b + sum over style columns of effect (x_a - x_b) / (x_a + x_b) / scale, as in
    LMArena's style control (Li, Angelopoulos and Chiang 2024; the package arena-rank). Ratings, not predictions, are
    what it is for: `predict` knows no responses and takes them to be of equal style.

    Attributes:
        effects: log-odds per standard deviation of each of `STYLE_COLUMNS`, [4].
        covariance: of the ratings, clustered by prompt, [n_models, n_models].
    """

    name: ClassVar[str] = "style-control"
    needs_style: ClassVar[bool] = True
    tensors: ClassVar[tuple[str, ...]] = ("effects", "rating", "covariance", "votes")

    def __init__(self, config: StyleControlConfig | None = None) -> None:
        super().__init__()
        self.config = config if config is not None else StyleControlConfig()
        self.effects: WideArray = np.zeros(len(STYLE_COLUMNS))
        self.covariance: WideArray = np.zeros((0, 0))

    def fit(self, votes: ScoringVotes, progress: Callable[[int, int], None] | None = None) -> None:
        """Fits ratings and effects together."""
        check_votes(votes, needs_style=True)
        n_models = len(votes.models)
        base = vote_design(votes, self.config.ratings.penalty)
        half = sparse.csr_matrix(style_differences(votes) / 2)
        design = Design(
            sparse.hstack([base.side_a, half], format="csr"),
            sparse.hstack([base.side_b, -half], format="csr"),
            base.weight,
            np.concatenate([base.penalty, np.full(half.shape[1], self.config.style_penalty)]),
        )
        fit = fit_scores(design, learn_slopes=self.config.ratings.learn_slopes)
        rating, self.effects = fit.theta[:n_models], fit.theta[n_models:]
        contrast = np.hstack([np.eye(n_models) - 1 / n_models, np.zeros((n_models, half.shape[1]))])
        self.covariance = clustered_covariance(design, fit, votes.prompt_index, contrast)
        self.constants = centred_constants(fit.constants, float(rating.mean()))
        self.rating, self.votes, self._models = rating - rating.mean(), count_votes(votes), votes.models

    def _deviation(self) -> WideArray:
        deviation: WideArray = np.sqrt(np.diag(self.covariance))
        return deviation

    def _config_values(self) -> dict[str, Any]:
        return asdict(self.config)

    @classmethod
    def _from_config(cls, values: Mapping[str, Any]) -> Self:
        return cls(StyleControlConfig(BradleyTerryConfig(**values["ratings"]), values["style_penalty"]))


def style_differences(votes: ScoringVotes) -> WideArray:
    """(x_a - x_b) / (x_a + x_b) of each style column, 0 where both are 0, scaled to a deviation of 1, [n, 4]."""
    assert votes.style_a is not None and votes.style_b is not None
    a, b = votes.style_a.astype(np.float64), votes.style_b.astype(np.float64)
    relative = (a - b) / np.maximum(a + b, 1e-9)
    deviation = np.sqrt(np.square(relative).mean(axis=0))
    scaled: WideArray = relative / np.where(deviation > 0, deviation, 1)
    return scaled
