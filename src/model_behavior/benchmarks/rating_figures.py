"""Figures of ratings that were read from responses: order, error, coverage, width, and what they are worth in votes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from model_behavior.arrays import Float64Array, Int64Array
from model_behavior.evaluation.figures import Figure, interval
from model_behavior.models.scoring.model_base import NORMAL_QUANTILE
from model_behavior.names import number_families

VOTE_COUNTS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_REPLICATES = 500
_REPEATS = 20
_STEPS = 12
_LEAST_MODELS = 3


@dataclass(frozen=True, eq=False)
class ReadRatings:
    """What one method reads in one cell from some responses of each new LLM, with one seed.

    Attributes:
        names: names of the LLMs, [n_models].
        truth: later ratings, log-odds, [n_models].
        mean: ratings that were read, [n_draws, n_models].
        deviation: their standard deviations, [n_draws, n_models].
        responses: number of responses of each LLM, [n_models].
        vote_errors: mean square error of a rating from each number of votes in `VOTE_COUNTS`.
    """

    names: tuple[str, ...]
    truth: Float64Array
    mean: Float64Array
    deviation: Float64Array
    responses: Int64Array
    vote_errors: Float64Array


@dataclass(frozen=True)
class RatingFigures:
    """Figures over seeds, draws and LLMs. Intervals resample whole families of LLMs.

    Attributes:
        correlation: Spearman's correlation with the later ratings, mean over draws and seeds.
        correlation_spread: standard deviation of it over seeds, NaN for one.
        error: root mean square error, log-odds.
        error_spread: standard deviation of it over seeds.
        coverage: share of later ratings inside the 95 % interval.
        width: mean width of that interval, log-odds.
        responses: mean number of responses that were there to read.
        worth: number of votes whose rating has the same error, infinite beyond the largest of `VOTE_COUNTS`.
        seeds: number of seeds.
    """

    correlation: Figure
    correlation_spread: float
    error: Figure
    error_spread: float
    coverage: Figure
    width: float
    responses: float
    worth: float
    seeds: int


def summarise(read: Sequence[ReadRatings], seed: int = 0) -> RatingFigures:
    """Figures of one method in one cell.

    Args:
        read: readings of each seed.
        seed: seed of the bootstrap.
    """
    rng = np.random.default_rng(seed)
    drawn = [_resample(number_families(each.names), rng) for each in read]
    columns = []
    for measure in (_correlation, _square_error, _coverage):
        whole = np.array([measure(each, np.ones((1, len(each.names))))[0] for each in read])
        replicates = np.array([measure(each, weight) for each, weight in zip(read, drawn, strict=True)])
        columns.append((whole, replicates.mean(axis=0)))
    n = sum(each.mean.size for each in read)
    correlation, error, coverage = (Figure(float(whole.mean()), *interval(parts), n) for whole, parts in columns)
    value, low, high = np.sqrt([error.value, error.low, error.high]).tolist()
    root = Figure(value, low, high, n)
    return RatingFigures(
        correlation=correlation,
        correlation_spread=_spread(columns[0][0]),
        error=root,
        error_spread=_spread(np.sqrt(columns[1][0])),
        coverage=coverage,
        width=float(np.mean([2 * NORMAL_QUANTILE * each.deviation.mean() for each in read])),
        responses=float(np.mean([each.responses.mean() for each in read])),
        worth=votes_worth(error.value, np.mean([each.vote_errors for each in read], axis=0)),
        seeds=len(read),
    )


def votes_worth(square_error: float, vote_errors: Float64Array) -> float:
    """Number of votes whose rating has this mean square error, between those of `VOTE_COUNTS` on a line of logs.

    Args:
        square_error: mean square error of the ratings that were read.
        vote_errors: that of ratings from each number of votes in `VOTE_COUNTS`.
    """
    falling = np.minimum.accumulate(np.log(vote_errors))
    wanted = np.log(square_error)
    if wanted >= falling[0]:
        return 0.0
    if wanted < falling[-1]:
        return float("inf")
    counts = np.log1p(np.array(VOTE_COUNTS))
    return float(np.expm1(np.interp(-wanted, -falling, counts)))


def measure_vote_errors(truth: Float64Array, known: Float64Array, rng: np.random.Generator) -> Float64Array:
    """Mean square error of new LLMs' ratings from n votes each, for every n of `VOTE_COUNTS`.

    Votes against known LLMs drawn at random, won with the probability that the later ratings give. The rating has the
    largest posterior probability under a normal prior with the known LLMs' mean and variance, so that 0 votes read as
    the mean.

    Args:
        truth: later ratings of the new LLMs, log-odds, [n_models].
        known: ratings of the known LLMs on the same scale, [n_known].
        rng: generator of opponents and outcomes.
    """
    centre, precision = float(known.mean()), 1 / max(float(known.var()), 1e-6)
    errors = []
    for count in VOTE_COUNTS:
        rival = rng.choice(known, (_REPEATS, len(truth), count))
        won = rng.random(rival.shape) < 1 / (1 + np.exp(rival - truth[:, None]))
        rating = np.full(rival.shape[:2], centre)
        for _ in range(_STEPS):
            chance = 1 / (1 + np.exp(rival - rating[:, :, None]))
            slope = (won - chance).sum(axis=2) - precision * (rating - centre)
            curve = (chance * (1 - chance)).sum(axis=2) + precision
            rating = rating + np.clip(slope / curve, -1, 1)
        errors.append(float(np.square(rating - truth).mean()))
    return np.array(errors)


def _resample(family: Int64Array, rng: np.random.Generator) -> Float64Array:
    """How often each LLM is in each bootstrap replicate, [n_replicates, n_models]; families are drawn whole."""
    n_families = int(family.max()) + 1
    times: Float64Array = rng.multinomial(n_families, np.full(n_families, 1 / n_families), _REPLICATES).astype(float)
    return times[:, family]


def _correlation(read: ReadRatings, weight: Float64Array) -> Float64Array:
    """Mean over draws of the correlation of ranks, in which each LLM counts with its weight, [n_replicates]."""
    if len(read.names) < _LEAST_MODELS:
        return np.full(len(weight), np.nan)
    share = weight / weight.sum(axis=1, keepdims=True)
    later = rankdata(read.truth)
    found = []
    for row in rankdata(read.mean, axis=1):
        x, y = (rank - (share @ rank)[:, None] for rank in (row, later))
        product, square = (share * x * y).sum(axis=1), (share * x**2).sum(axis=1) * (share * y**2).sum(axis=1)
        found.append(np.where(square > 0, product / np.sqrt(np.maximum(square, 1e-12)), np.nan))
    mean: Float64Array = np.mean(found, axis=0)
    return mean


def _square_error(read: ReadRatings, weight: Float64Array) -> Float64Array:
    return _weighted(np.square(read.mean - read.truth), weight)


def _coverage(read: ReadRatings, weight: Float64Array) -> Float64Array:
    return _weighted((np.abs(read.mean - read.truth) <= NORMAL_QUANTILE * read.deviation).astype(np.float64), weight)


def _weighted(values: Float64Array, weight: Float64Array) -> Float64Array:
    mean: Float64Array = weight @ values.mean(axis=0) / weight.sum(axis=1)
    return mean


def _spread(values: Float64Array) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
