"""Baselines that are one number per model: Elo, the length of responses, and ratings with their style held constant.

Elo counts votes one after the other; the length shows how far a preference for longer responses alone goes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Self, final

import numpy as np
from scipy import sparse

from model_behavior.arrays import Float32Array, Float64Array, IntArray
from model_behavior.data_models.scoring_types import STYLE_COLUMNS, ScoringVotes
from model_behavior.data_models.votes import Outcome
from model_behavior.models.scoring.bradley_terry import (
    BradleyTerryConfig,
    RatingsBase,
    centred_constants,
    count_votes,
    vote_design,
)
from model_behavior.models.scoring.model_base import check_votes
from model_behavior.models.scoring.outcomes import outcome_logits, softmax
from model_behavior.models.scoring.score_fit import Design, clustered_covariance, fit_fixed_scores, fit_scores

_LOG_ODDS = np.log(10) / 400
_RESULT = {Outcome.MODEL_A: 1.0, Outcome.MODEL_B: 0.0, Outcome.TIE: 0.5, Outcome.BOTH_BAD: 0.5}
_LENGTH = STYLE_COLUMNS.index("length")


@dataclass(frozen=True)
class EloConfig:
    """How far one vote moves a rating.

    Attributes:
        step: K, in Elo points, of which 400 are odds of 10 to 1.
        seed: seed of the order in which votes are counted.
    """

    step: float = 4.0
    seed: int = 0


@final
class Elo(RatingsBase):
    """R_a += K (result - 1 / (1 + 10^((R_b - R_a) / 400))) for every vote (Elo 1978), ties and both_bad as half a win.

    A last fit scales the ratings to log-odds and finds how often ties and both_bad happen.

    Args:
        config: step and order.
    """

    name: ClassVar[str] = "elo"

    def __init__(self, config: EloConfig | None = None) -> None:
        super().__init__()
        self.config = config if config is not None else EloConfig()

    def fit(self, votes: ScoringVotes, progress: Callable[[int, int], None] | None = None) -> None:
        """Counts the votes once, in a random order."""
        check_votes(votes)
        order = np.random.default_rng(self.config.seed).permutation(len(votes))
        points = count_elo(votes, order, self.config.step)
        rating = (points - points.mean()) * _LOG_ODDS
        scale, self.constants = fit_fixed_scores(rating[votes.model_a], rating[votes.model_b], votes.outcome)
        self.rating, self.votes, self._models = rating * scale, count_votes(votes), votes.models

    def _config_values(self) -> dict[str, Any]:
        return asdict(self.config)

    @classmethod
    def _from_config(cls, values: Mapping[str, Any]) -> Self:
        return cls(EloConfig(**values))


def count_elo(votes: ScoringVotes, order: IntArray, step: float) -> Float64Array:
    """Elo points after the votes in this order, from 0, [n_models]."""
    points = [0.0] * len(votes.models)
    sides = zip(
        votes.model_a[order].tolist(), votes.model_b[order].tolist(), votes.outcome[order].tolist(), strict=True
    )
    for a, b, outcome in sides:
        expected = 1 / (1 + 10 ** ((points[b] - points[a]) / 400))
        change = step * (_RESULT[Outcome(outcome)] - expected)
        points[a] += change
        points[b] -= change
    return np.array(points)


@final
class LongerResponse(RatingsBase):
    """score = slope log(1 + characters).

    `predict` takes each model's mean over its training responses; `predict_responses` looks at the responses.

    Attributes:
        slope: log-odds per log of characters.
    """

    name: ClassVar[str] = "longer-response"
    needs_style: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self.slope = 0.0
        self._level = 0.0

    def fit(self, votes: ScoringVotes, progress: Callable[[int, int], None] | None = None) -> None:
        """Fits the slope to the responses' own lengths."""
        check_votes(votes, needs_style=True)
        a, b = log_lengths(votes)
        sides, both = np.concatenate([votes.model_a, votes.model_b]), np.concatenate([a, b])
        count = count_votes(votes)
        mean = np.bincount(sides, both, len(votes.models)) / np.maximum(count, 1)
        self._level = float(mean.mean())
        self.slope, self.constants = fit_fixed_scores(a - self._level, b - self._level, votes.outcome)
        self.rating, self.votes, self._models = self.slope * (mean - self._level), count, votes.models

    def predict_responses(self, votes: ScoringVotes) -> Float32Array:
        """Probabilities from the lengths of the very responses, [n_votes, 4]. Needs no known model."""
        check_votes(votes, needs_style=True)
        a, b = (self.slope * (side - self._level) for side in log_lengths(votes))
        return softmax(outcome_logits(a, b, self.constants)).astype(np.float32)

    def _config_values(self) -> dict[str, Any]:
        return {"slope": self.slope, "level": self._level}

    @classmethod
    def _from_config(cls, values: Mapping[str, Any]) -> Self:
        model = cls()
        model.slope, model._level = values["slope"], values["level"]
        return model


def log_lengths(votes: ScoringVotes) -> tuple[Float64Array, Float64Array]:
    """log(1 + characters) of both sides, [n_votes] each."""
    assert votes.style_a is not None and votes.style_b is not None
    a, b = (np.log1p(side[:, _LENGTH].astype(np.float64)) for side in (votes.style_a, votes.style_b))
    return a, b


@dataclass(frozen=True)
class StyleControlConfig:
    """Settings of the fit.

    Attributes:
        ratings: configuration of the ratings.
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
        covariance: covariance of the ratings, clustered by prompt, [n_models, n_models].
    """

    name: ClassVar[str] = "style-control"
    needs_style: ClassVar[bool] = True
    tensors: ClassVar[tuple[str, ...]] = ("effects", "rating", "covariance", "votes")

    def __init__(self, config: StyleControlConfig | None = None) -> None:
        super().__init__()
        self.config = config if config is not None else StyleControlConfig()
        self.effects: Float64Array = np.zeros(len(STYLE_COLUMNS))
        self.covariance: Float64Array = np.zeros((0, 0))

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

    def _deviation(self) -> Float64Array:
        deviation: Float64Array = np.sqrt(np.diag(self.covariance))
        return deviation

    def _config_values(self) -> dict[str, Any]:
        return asdict(self.config)

    @classmethod
    def _from_config(cls, values: Mapping[str, Any]) -> Self:
        return cls(StyleControlConfig(BradleyTerryConfig(**values["ratings"]), values["style_penalty"]))


def style_differences(votes: ScoringVotes) -> Float64Array:
    """(x_a - x_b) / (x_a + x_b) of each style column, 0 where both are 0, scaled to a deviation of 1, [n, 4]."""
    assert votes.style_a is not None and votes.style_b is not None
    a, b = votes.style_a.astype(np.float64), votes.style_b.astype(np.float64)
    relative = (a - b) / np.maximum(a + b, 1e-9)
    deviation = np.sqrt(np.square(relative).mean(axis=0))
    scaled: Float64Array = relative / np.where(deviation > 0, deviation, 1)
    return scaled
