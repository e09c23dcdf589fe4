"""Ratings that somebody published, in place of votes or beside them.

Published ratings are on the Elo scale, where 400 points are odds of 10 to 1; here a rating is a log-odds. Votes on
other prompts, by other people, measure much the same on a scale of their own. Where models have both, the ratings v of
the votes are brought to the published ones p by

    p_i = a + b v_i + e_i,    var(e_i) = var(p_i) + b^2 var(v_i) + disagreement,

with one `a` for each group of models that votes connect. A handful of models tells little of a, b and the disagreement,
and judges differ in how decided they are: the votes of a language model may spread LLMs five times as far as people's.
So each has a prior, by which the models with votes are such LLMs as the published ones: the slope b that makes them
spread as far, and levels a that vary as ratings do. b and the disagreement are those of the greatest posterior
probability (errors in both variables, York 1966, https://doi.org/10.1139/p66-090); the levels stay uncertain, and what
they may be counts in the variances. Then both are averaged by their inverse variances; the disagreement counts against
the votes, since the scale is the published one.

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
from model_behavior.names import family_of
from model_behavior.preprocessing.scoring_votes import select_scoring_votes

MEAN_ELO = 1000.0
"""Elo of the mean of the models with votes, where no ratings were published."""

RATINGS_ALONE = "ratings without votes say nothing of ties, so that hardly any are predicted"

_SLOPE_SPREAD = 0.5  # standard deviation of the prior of the slope's logarithm
_STEEPEST = 5.0  # prior slope, and 1 / 5 the flattest: a few votes may spread models hardly, or by chance alone
_LEAST_SHARE = 0.5  # of the spread of ratings from votes, which is never taken for noise
_SLOPES_BESIDE = 10.0  # slopes are looked for up to so many times the prior's, and down to such a part of it
_DISAGREEMENT = 0.3  # of the published ratings' variance, the middle of the prior
_DISAGREEMENT_SPREAD = 1.0  # of its logarithm
_USUAL_VARIANCE, _USUAL_MODELS = 0.5, 2.0  # of published ratings, and how many models that is worth
_LEAST_VARIANCE = 1e-9
_LEAST_PLACED, _LEAST_PLACED_FAMILIES = 8, 4
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
        The ratings; what was published; and the models to learn levels from, ascending: those that have a published
            rating, or where these are few also those that a chain of votes connects with one.
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
        families = {family_of(name) for name in table.models}
        if len(rows) < _LEAST_PLACED or len(families) < _LEAST_PLACED_FAMILIES:
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
    told, noise = mean[place[both]], covariance[np.ix_(place[both], place[both])]
    prior = _Population.of(mean[known], np.diag(covariance)[known]).map(voted, both, told, noise)
    # Both are normal measures of one rating: the Kalman update of the votes' by the published ones.
    measured = prior.covariance[:, both] @ np.linalg.inv(prior.covariance[np.ix_(both, both)] + noise)
    joined, spread = mean.copy(), covariance.copy()
    joined[place] = prior.mean + measured @ (told - prior.mean[both])
    spread[np.ix_(place, place)] = prior.covariance - measured @ prior.covariance[both]
    return joined, spread


@dataclass(frozen=True, eq=False)
class _Mapped:
    """Ratings from votes on the published scale, before any published rating of theirs is looked at.

    Attributes:
        mean: [n_voted].
        covariance: [n_voted, n_voted].
    """

    mean: Float64Array
    covariance: Float64Array


@dataclass(frozen=True)
class _Population:
    """The published ratings as a population, from which the models with votes are taken to come.

    Attributes:
        mean: mean rating, log-odds.
        variance: variance of the ratings, without their noise; where they are few, nearer to what is usual.
    """

    mean: float
    variance: float

    @classmethod
    def of(cls, rating: Float64Array, noise: Float64Array) -> _Population:
        """Of published ratings and the variances of their noise, [n_published] each."""
        n = len(rating)
        total = n * max(float(np.var(rating) - noise.mean()), 0.0) + _USUAL_VARIANCE * _USUAL_MODELS
        return cls(float(rating.mean()), total / (n + _USUAL_MODELS))

    def map(self, voted: BradleyTerry, both: Int64Array, told: Float64Array, noise: Float64Array) -> _Mapped:
        """Brings ratings from votes to the published scale.

        Args:
            voted: ratings from votes, [n_voted].
            both: rows of its models that have a published rating, too.
            told: their published ratings, [n_both].
            noise: covariance of these, [n_both, n_both].
        """
        level = np.bincount(voted.component, voted.rating) / np.bincount(voted.component)
        off = voted.rating - level[voted.component]
        together = voted.component[:, None] == voted.component
        whole, chance = float(np.square(off).mean()), float(np.diag(voted.covariance).mean())
        spread = max(whole - chance, _LEAST_SHARE * whole, _LEAST_VARIANCE)
        usual = float(np.clip(0.5 * math.log(self.variance / spread), -math.log(_STEEPEST), math.log(_STEEPEST)))
        disagreement = math.log(_DISAGREEMENT * self.variance)

        def mapped(point: Float64Array) -> _Mapped:
            covariance = math.exp(2 * point[0]) * voted.covariance + math.exp(point[1]) * np.eye(len(off))
            return _Mapped(self.mean + math.exp(point[0]) * off, covariance + self.variance * together)

        def loss(point: Float64Array) -> float:
            prior = mapped(point)
            covariance = prior.covariance[np.ix_(both, both)] + noise
            left = told - prior.mean[both]
            fit = float(np.linalg.slogdet(covariance)[1] + left @ np.linalg.solve(covariance, left))
            off_prior = ((point[0] - usual) / _SLOPE_SPREAD, (point[1] - disagreement) / _DISAGREEMENT_SPREAD)
            return fit + float(off_prior[0] ** 2 + off_prior[1] ** 2)

        widest = math.log(_SLOPES_BESIDE)
        bounds = [(middle - widest, middle + widest) for middle in (usual, disagreement)]
        found = optimize.minimize(loss, [usual, disagreement], method="L-BFGS-B", bounds=bounds)
        return mapped(found.x)


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
