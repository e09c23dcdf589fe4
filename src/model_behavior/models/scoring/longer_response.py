"""The longer response wins: how far a preference for length alone goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self, final

import numpy as np
import numpy.typing as npt

from model_behavior.data_models.scoring_types import STYLE_COLUMNS, FloatArray, Ratings, ScoringVotes, WideArray
from model_behavior.errors import ArtifactError
from model_behavior.models.scoring.bradley_terry import count_votes
from model_behavior.models.scoring.model_base import (
    ModelBase,
    check_state,
    check_votes,
    locate_models,
    locate_sides,
    pack_state,
    predict_from_ratings,
    rate_without_interval,
)
from model_behavior.models.scoring.outcomes import OutcomeConstants, outcome_logits, softmax
from model_behavior.models.scoring.score_fit import fit_fixed_scores

_LENGTH = STYLE_COLUMNS.index("length")


@final
class LongerResponse(ModelBase):
    """score = slope log(1 + characters).

    `predict` takes each model's mean over its training responses; `predict_responses` looks at the responses.

    Attributes:
        constants: of the outcome likelihood.
        slope: log-odds per log of characters.
        rating: from the mean log length of each model, centred, [n_models].
        votes: of each model, [n_models].
    """

    name: ClassVar[str] = "longer-response"
    needs_style: ClassVar[bool] = True

    def __init__(self) -> None:
        self.constants = OutcomeConstants()
        self.slope = 0.0
        self.rating: WideArray = np.zeros(0)
        self.votes: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self._level = 0.0
        self._models: tuple[str, ...] = ()

    @property
    def models(self) -> tuple[str, ...]:
        """Names, sorted."""
        return self._models

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

    def predict(self, prompts: Sequence[str], models_a: Sequence[str], models_b: Sequence[str]) -> FloatArray:
        """The same for every prompt."""
        a, b = locate_sides(prompts, models_a, models_b, self._models)
        return predict_from_ratings(self.rating, self.constants, a, b)

    def predict_responses(self, votes: ScoringVotes) -> FloatArray:
        """Probabilities from the lengths of the very responses, [n_votes, 4]. Needs no known model."""
        check_votes(votes, needs_style=True)
        a, b = (self.slope * (side - self._level) for side in log_lengths(votes))
        return softmax(outcome_logits(a, b, self.constants)).astype(np.float32)

    def rate(self, models: Sequence[str] | None = None, prompt: str | None = None) -> Ratings:
        """Ratings without intervals."""
        names = tuple(self._models if models is None else models)
        rows = locate_models(names, self._models)
        return rate_without_interval(self.rating[rows], self.votes[rows], names)

    def get_state_dict(self) -> dict[str, Any]:
        """See the base."""
        config = {"slope": self.slope, "level": self._level}
        return pack_state(self.name, config, self._models, self.constants, {"rating": self.rating, "votes": self.votes})

    @classmethod
    def load_state_dict(cls, state_dict: Mapping[str, Any]) -> Self:
        """See the base."""
        check_state(state_dict, cls.name)
        try:
            model = cls()
            model.slope, model._level = state_dict["config"]["slope"], state_dict["config"]["level"]
            model._models, model.constants = tuple(state_dict["models"]), OutcomeConstants(**state_dict["constants"])
            model.rating, model.votes = state_dict["tensors"]["rating"], state_dict["tensors"]["votes"]
        except (KeyError, TypeError) as error:
            raise ArtifactError(f"incomplete or unknown state of {cls.name!r}: {error}") from error
        return model


def log_lengths(votes: ScoringVotes) -> tuple[WideArray, WideArray]:
    """log(1 + characters) of both sides, [n_votes] each."""
    assert votes.style_a is not None and votes.style_b is not None
    a, b = (np.log1p(side[:, _LENGTH].astype(np.float64)) for side in (votes.style_a, votes.style_b))
    return a, b
