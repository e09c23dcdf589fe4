"""The longer response wins: how far a preference for length alone goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self, final

import numpy as np

from model_behavior.data_models.scoring_types import STYLE_COLUMNS, FloatArray, ScoringVotes, WideArray
from model_behavior.models.scoring.bradley_terry import count_votes
from model_behavior.models.scoring.model_base import check_votes
from model_behavior.models.scoring.outcomes import outcome_logits, softmax
from model_behavior.models.scoring.ratings_base import RatingsBase
from model_behavior.models.scoring.score_fit import fit_fixed_scores

_LENGTH = STYLE_COLUMNS.index("length")


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

    def predict_responses(self, votes: ScoringVotes) -> FloatArray:
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


def log_lengths(votes: ScoringVotes) -> tuple[WideArray, WideArray]:
    """log(1 + characters) of both sides, [n_votes] each."""
    assert votes.style_a is not None and votes.style_b is not None
    a, b = (np.log1p(side[:, _LENGTH].astype(np.float64)) for side in (votes.style_a, votes.style_b))
    return a, b
