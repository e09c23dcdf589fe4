"""A ranking of votes alone, which no artifact is needed for: Bradley-Terry ratings of votes that are summed already."""

from __future__ import annotations

from dataclasses import replace

from model_behavior.data_models.scoring_types import RankedModel, RatingScale, ScaleName
from model_behavior.data_models.vote_counts import VoteCounts
from model_behavior.models.scoring.bradley_terry import BradleyTerry
from model_behavior.models.scoring.model_base import group_ratings, rank_best_first
from model_behavior.models.scoring.published_ratings import MEAN_ELO


def rank_votes(counts: VoteCounts, scale: ScaleName = "elo") -> list[RankedModel]:
    """Ranks the models of votes, best first, with 95 % intervals that are clustered by prompt.

    Args:
        counts: votes, summed.
        scale: "elo", where the models average 1000, or "log-odds", where they average 0.

    Raises:
        DataError: no votes.
        UsageError: there is no such scale.
    """
    shown = RatingScale.of(scale, MEAN_ELO)
    fitted = BradleyTerry()
    fitted.fit_counts(counts)
    rated = fitted.rate()
    rated = replace(rated, group=group_ratings(rated.rating, fitted.covariance, fitted.component))
    return rank_best_first(rated.on(shown))
