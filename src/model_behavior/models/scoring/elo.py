"""Elo ratings, one vote after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self, final

import numpy as np
import numpy.typing as npt

from model_behavior.data_models.scoring_types import ScoringVotes, WideArray
from model_behavior.data_models.votes import Outcome
from model_behavior.models.scoring.bradley_terry import count_votes
from model_behavior.models.scoring.model_base import check_votes
from model_behavior.models.scoring.ratings_base import RatingsBase
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
