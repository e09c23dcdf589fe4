"""Elo ratings, one vote after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self, final

import numpy as np
import numpy.typing as npt

from model_behavior.data_models.scoring_types import FloatArray, Ratings, ScoringVotes, WideArray
from model_behavior.data_models.votes import Outcome
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
from model_behavior.models.scoring.outcomes import OutcomeConstants
from model_behavior.models.scoring.score_fit import fit_fixed_scores

_LOG_ODDS = np.log(10) / 400
_RESULT = {Outcome.MODEL_A: 1.0, Outcome.MODEL_B: 0.0, Outcome.TIE: 0.5, Outcome.BOTH_BAD: 0.5}


@dataclass(frozen=True)
class EloConfig:
    """How far one vote moves a rating.

    Attributes:
        step: K, in Elo points, of which 400 are odds of 10 to 1.
        seed: of the order in which votes are counted.
    """

    step: float = 4.0
    seed: int = 0


@final
class Elo(ModelBase):
    """R_a += K (result - 1 / (1 + 10^((R_b - R_a) / 400))) for every vote (Elo 1978), ties and both_bad as half a win.

    A last fit scales the ratings to log-odds and finds how often ties and both_bad happen.

    Attributes:
        constants: of the outcome likelihood.
        rating: log-odds, centred, [n_models].
        votes: of each model, [n_models].
    """

    name: ClassVar[str] = "elo"

    def __init__(self, config: EloConfig | None = None) -> None:
        self.config = config if config is not None else EloConfig()
        self.constants = OutcomeConstants()
        self.rating: WideArray = np.zeros(0)
        self.votes: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self._models: tuple[str, ...] = ()

    @property
    def models(self) -> tuple[str, ...]:
        """Names, sorted."""
        return self._models

    def fit(self, votes: ScoringVotes, progress: Callable[[int, int], None] | None = None) -> None:
        """Counts the votes once, in a random order."""
        check_votes(votes)
        order = np.random.default_rng(self.config.seed).permutation(len(votes))
        points = count_elo(votes, order, self.config.step)
        rating = (points - points.mean()) * _LOG_ODDS
        scale, self.constants = fit_fixed_scores(rating[votes.model_a], rating[votes.model_b], votes.outcome)
        self.rating, self.votes, self._models = rating * scale, count_votes(votes), votes.models

    def predict(self, prompts: Sequence[str], models_a: Sequence[str], models_b: Sequence[str]) -> FloatArray:
        """The same for every prompt."""
        a, b = locate_sides(prompts, models_a, models_b, self._models)
        return predict_from_ratings(self.rating, self.constants, a, b)

    def rate(self, models: Sequence[str] | None = None, prompt: str | None = None) -> Ratings:
        """Ratings without intervals."""
        names = tuple(self._models if models is None else models)
        rows = locate_models(names, self._models)
        return rate_without_interval(self.rating[rows], self.votes[rows], names)

    def get_state_dict(self) -> dict[str, Any]:
        """See the base."""
        tensors = {"rating": self.rating, "votes": self.votes}
        return pack_state(self.name, asdict(self.config), self._models, self.constants, tensors)

    @classmethod
    def load_state_dict(cls, state_dict: Mapping[str, Any]) -> Self:
        """See the base."""
        check_state(state_dict, cls.name)
        try:
            model = cls(EloConfig(**state_dict["config"]))
            model._models, model.constants = tuple(state_dict["models"]), OutcomeConstants(**state_dict["constants"])
            model.rating, model.votes = state_dict["tensors"]["rating"], state_dict["tensors"]["votes"]
        except (KeyError, TypeError) as error:
            raise ArtifactError(f"incomplete or unknown state of {cls.name!r}: {error}") from error
        return model


def count_elo(votes: ScoringVotes, order: npt.NDArray[np.integer], step: float) -> WideArray:
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
