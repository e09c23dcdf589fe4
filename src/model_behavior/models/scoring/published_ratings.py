"""Ratings that somebody published, in place of votes or beside them.

Published ratings are on the Elo scale, where 400 points are odds of 10 to 1; here a rating is a log-odds. Votes on
other prompts, by other people, measure much the same on a scale of their own. Where models have both, the ratings v of
the votes are brought to the published ones p by

    p_i = a + b v_i + e_i,    var(e_i) = var(p_i) + b^2 var(v_i) + disagreement,

with a, b and the disagreement of greatest likelihood (errors in both variables, York 1966,
https://doi.org/10.1139/p66-090), one `a` for each group of models that votes connect. Then both are averaged by their
inverse variances; the disagreement counts against the votes, since the scale is the published one.

A category of prompts has ratings of its own. They are nearly linear in the overall ones, so that

    category rating = level + slope * rating + residual

also rates models that the category leaves out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import optimize

from model_behavior.arrays import Float64Array, Int64Array
from model_behavior.data.ratings import RatingTable
from model_behavior.data_models.scoring_types import ELO_PER_LOG_ODDS, ScoringVotes
from model_behavior.models.scoring.bradley_terry import BradleyTerry, BradleyTerryConfig
from model_behavior.models.scoring.model_base import NORMAL_QUANTILE
from model_behavior.models.scoring.score_fit import fit_fixed_scores
from model_behavior.preprocessing.scoring_votes import select_scoring_votes

MEAN_ELO = 1000.0
"""Elo of the mean of the models with votes, where no ratings were published."""

RATINGS_ALONE = "ratings without votes say nothing of ties, so that hardly any are predicted"

_LEAST_FOR_SLOPE = 5
_SLOPES = (0.2, 5.0)
_LEAST_VARIANCE = 1e-9
_LEAST_FOR_CATEGORY = 4


@dataclass(frozen=True)
class CategoryLine:
    """Ratings in a category of prompts, as a line in the overall ratings; all in log-odds.

    Attributes:
        level: category rating of a model whose overall rating is 0.
        slope: category rating gained with 1 of the overall rating.
        variance: variance of category ratings around the line.
    """

    level: float
    slope: float
    variance: float


@dataclass(frozen=True, eq=False)
class Published:
    """Published ratings as a scorer keeps them.

    Attributes:
        table: ratings of the models that the scorer knows, on the Elo scale, with their categories.
        anchor: Elo of a rating of 0 log-odds.
        lines: lines from overall ratings to those of each category.
    """

    table: RatingTable
    anchor: float
    lines: Mapping[str, CategoryLine]

    def interval_of(self, model: str, category: str | None = None) -> tuple[float, float, float] | None:
        """Rating, low and high end of a model as they were published, in log-odds around the anchor.

        Without a published interval low and high are NaN. None if the model has no such rating.
        """
        table = self.table if category is None else self.table.categories[category]
        if model not in table.models:
            return None
        row = table.models.index(model)
        rating, low, high = (
            float((column[row] - self.anchor) / ELO_PER_LOG_ODDS) for column in (table.rating, table.low, table.high)
        )
        return rating, low, high

    def off_lines(self, models: Sequence[str]) -> dict[str, tuple[Float64Array, Int64Array, float]]:
        """How far the category ratings of models are off each line.

        Returns:
            By category: log-odds above the line, 0 for a model that the category does not rate, [n_models]; rows of the
            models that it rates; variance around the line.
        """
        found = {}
        for category, line in self.lines.items():
            off, rows = np.zeros(len(models)), []
            for row, name in enumerate(models):
                overall, own = self.interval_of(name), self.interval_of(name, category)
                if overall is not None and own is not None:
                    off[row] = own[0] - line.level - line.slope * overall[0]
                    rows.append(row)
            found[category] = off, np.array(rows, dtype=np.int64), line.variance
        return found

    def to_json(self) -> dict[str, Any]:
        """JSON values; NaN is None."""
        return {
            "table": _table_to_json(self.table),
            "categories": {name: _table_to_json(each) for name, each in self.table.categories.items()},
            "anchor": self.anchor,
            "lines": {name: vars(line) for name, line in self.lines.items()},
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Published:
        """The inverse of `to_json`."""
        categories = {name: _table_from_json(each, {}) for name, each in values["categories"].items()}
        lines = {name: CategoryLine(**line) for name, line in values["lines"].items()}
        return cls(_table_from_json(values["table"], categories), values["anchor"], lines)


def fit_published(
    votes: ScoringVotes, published: RatingTable, config: BradleyTerryConfig
) -> tuple[BradleyTerry, Published, Int64Array]:
    """Ratings of all models in the votes, from the published ones and from the votes that were cast.

    Args:
        votes: votes, cast ones and such as were drawn from the published ratings; each of its models has a published
            rating or a cast vote.
        published: published ratings; of models without votes none is used.
        config: fit of the ratings of the cast votes.

    Returns:
        The ratings; what was published; and the models on its scale, ascending: those that have a published rating or
            that a chain of votes connects with one. Of others nobody knows how good they are as a group.
    """
    table = _without_overall(published.select(votes.models))
    rating, variance = _in_log_odds(table)
    rows = np.array([votes.models.index(name) for name in table.models], dtype=np.int64)
    mean, covariance = np.zeros(len(votes.models)), np.zeros((len(votes.models),) * 2)
    mean[rows], covariance[rows, rows] = rating, variance
    cast, counts, placed = votes.cast, np.zeros(len(votes.models), np.int64), rows
    if len(cast):
        voted = BradleyTerry(config)
        voted.fit(select_scoring_votes(votes, cast))
        place = np.array([votes.models.index(name) for name in voted.models], dtype=np.int64)
        counts[place] = voted.votes
        mean, covariance = _join(mean, covariance, rows, voted, place)
        connected = np.isin(voted.component, voted.component[np.isin(place, rows)])
        placed = np.union1d(rows, place[connected])
    level = float(mean.mean())
    used = cast if len(cast) else np.arange(len(votes))
    sides = votes.model_a[used], votes.model_b[used]
    _, constants = fit_fixed_scores(mean[sides[0]] - level, mean[sides[1]] - level, votes.outcome[used])
    ratings = BradleyTerry.of_ratings(votes.models, mean - level, covariance, counts, constants)
    lines = {
        name: line for name, each in table.categories.items() if (line := _fit_line(table, each, level)) is not None
    }
    kept = replace(table, categories={name: table.categories[name] for name in lines})
    return ratings, Published(kept, level * ELO_PER_LOG_ODDS, lines), placed


def _join(
    mean: Float64Array, covariance: Float64Array, known: Int64Array, voted: BradleyTerry, place: Int64Array
) -> tuple[Float64Array, Float64Array]:
    """Published and voted ratings on the published scale, averaged by their inverse variances.

    Args:
        mean: published ratings, log-odds, 0 for a model without one, [n_models].
        covariance: their covariance, [n_models, n_models].
        known: models with a published rating.
        voted: ratings from votes.
        place: rows of its models among all, [n_voted].
    """
    both = np.flatnonzero(np.isin(place, known))
    mapped, slope, disagreement = _map_to_published(mean, np.diag(covariance), voted, place, both)
    prior = slope**2 * voted.covariance + max(disagreement, _LEAST_VARIANCE) * np.eye(len(place))
    apart = ~np.isin(voted.component, voted.component[both])
    prior[np.ix_(apart, apart)] += voted.level_variance * (voted.component[apart][:, None] == voted.component[apart])
    # Both are normal measures of one rating: the Kalman update of the votes' by the published ones.
    measured = prior[:, both] @ np.linalg.inv(prior[np.ix_(both, both)] + covariance[np.ix_(place[both], place[both])])
    joined, spread = mean.copy(), covariance.copy()
    joined[place] = mapped + measured @ (mean[place[both]] - mapped[both])
    spread[np.ix_(place, place)] = prior - measured @ prior[both]
    return joined, spread


def _map_to_published(
    mean: Float64Array, variance: Float64Array, voted: BradleyTerry, place: Int64Array, both: Int64Array
) -> tuple[Float64Array, float, float]:
    """Ratings from votes on the published scale, [n_voted], the slope to it, and the variance of the disagreement."""
    group = voted.component
    target, source = mean[place[both]], voted.rating[both]
    of_both, noise = group[both], np.diag(voted.covariance)[both]

    def levels(slope: float, weight: Float64Array) -> Float64Array:
        above = weight * (target - slope * source)
        n_groups = int(group.max()) + 1
        total = np.bincount(of_both, weight, n_groups)
        mean = float(above.sum() / max(total.sum(), _LEAST_VARIANCE))
        # A group without a published rating is taken to be as good as the others.
        level: Float64Array = np.where(
            total > 0, np.bincount(of_both, above, n_groups) / np.maximum(total, _LEAST_VARIANCE), mean
        )
        return level

    def loss(point: Float64Array) -> float:
        slope, spread = math.exp(point[0]), variance[place[both]] + math.exp(2 * point[0]) * noise + math.exp(point[1])
        left = target - slope * source - levels(slope, 1 / spread)[of_both]
        # A weak prior around 1: a handful of models tells little about the slope.
        return float((np.log(spread) + left**2 / spread).sum() + (point[0] / 0.5) ** 2)

    free = len(both) >= _LEAST_FOR_SLOPE
    bounds = [tuple(map(math.log, _SLOPES)) if free else (0.0, 0.0), (math.log(1e-4), math.log(4.0))]
    found = optimize.minimize(loss, [0.0, math.log(0.05)], method="L-BFGS-B", bounds=bounds)
    slope, disagreement = math.exp(found.x[0]), math.exp(found.x[1])
    level = levels(slope, 1 / (variance[place[both]] + slope**2 * noise + disagreement))
    return slope * voted.rating + level[group], slope, disagreement


def _fit_line(overall: RatingTable, category: RatingTable, level: float) -> CategoryLine | None:
    """The line of one category by least squares; None with too few models."""
    place = {name: row for row, name in enumerate(overall.models)}
    rows = np.array([place[name] for name in category.models], dtype=np.int64)
    if len(rows) < _LEAST_FOR_CATEGORY:
        return None
    x = overall.rating[rows] / ELO_PER_LOG_ODDS - level
    y = category.rating / ELO_PER_LOG_ODDS - level
    slope, intercept = np.polyfit(x, y, 1) if np.ptp(x) > 0 else (1.0, float(np.mean(y - x)))
    left = y - intercept - slope * x
    return CategoryLine(float(intercept), float(slope), float(np.square(left).sum() / (len(rows) - 2)))


def _in_log_odds(table: RatingTable) -> tuple[Float64Array, Float64Array]:
    """Ratings, and variances from their intervals, 0 where there is no interval; both [n_models]."""
    deviation = np.nan_to_num((table.high - table.low) / (2 * NORMAL_QUANTILE * ELO_PER_LOG_ODDS))
    return table.rating / ELO_PER_LOG_ODDS, np.square(deviation)


def _without_overall(table: RatingTable) -> RatingTable:
    """The ratings without the category that is the overall one."""
    same = [
        name
        for name, each in table.categories.items()
        if each.models == table.models and np.array_equal(each.rating, table.rating)
    ]
    return replace(table, categories={name: each for name, each in table.categories.items() if name not in same})


def _table_to_json(table: RatingTable) -> dict[str, Any]:
    columns = {
        name: [None if math.isnan(value) else value for value in getattr(table, name).tolist()]
        for name in ("rating", "low", "high")
    }
    return {"models": list(table.models), **columns}


def _table_from_json(values: Mapping[str, Any], categories: Mapping[str, RatingTable]) -> RatingTable:
    rating, low, high = (
        np.array([math.nan if value is None else value for value in values[name]], dtype=np.float64)
        for name in ("rating", "low", "high")
    )
    return RatingTable(tuple(values["models"]), rating, low, high, categories)
