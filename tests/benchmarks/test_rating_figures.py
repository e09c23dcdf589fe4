"""Figures of ratings that were read, against plain loops and formulas written again."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from model_behavior.benchmarks.rating_figures import (
    VOTE_COUNTS,
    ReadRatings,
    measure_vote_errors,
    summarise,
    votes_worth,
)


def _read(seed: int) -> ReadRatings:
    rng = np.random.default_rng(seed)
    names = tuple(f"{family}-{size}b" for family in ("ant", "bee", "cow", "dog") for size in (7, 13, 70))
    truth = rng.normal(size=len(names))
    mean = truth + rng.normal(scale=0.5, size=(3, len(names)))
    errors = np.geomspace(1.0, 0.01, len(VOTE_COUNTS))
    return ReadRatings(names, truth, mean, np.full_like(mean, 0.5), np.full(len(names), 8), errors)


def test_figures_are_means_over_draws_and_seeds() -> None:
    read = [_read(0), _read(1)]
    found = summarise(read)
    by_seed = [np.mean([spearmanr(row, each.truth).statistic for row in each.mean]) for each in read]
    assert found.correlation.value == pytest.approx(np.mean(by_seed))
    assert found.correlation_spread == pytest.approx(np.std(by_seed, ddof=1))
    square = [np.square(each.mean - each.truth).mean() for each in read]
    assert found.error.value == pytest.approx(np.sqrt(np.mean(square)))
    inside = [np.mean(np.abs(each.mean - each.truth) <= 1.959964 * 0.5) for each in read]
    assert found.coverage.value == pytest.approx(np.mean(inside))
    assert found.width == pytest.approx(2 * 1.959964 * 0.5)
    assert found.correlation.low < found.correlation.value < found.correlation.high
    assert found.error.low < found.error.value < found.error.high
    assert found.error.n == 72 and found.seeds == 2 and found.responses == 8


def test_votes_are_worth_what_their_ratings_err() -> None:
    errors = np.geomspace(1.0, 0.01, len(VOTE_COUNTS))
    for place, count in enumerate(VOTE_COUNTS):
        assert votes_worth(float(errors[place]), errors) == pytest.approx(count)
    assert 4 < votes_worth(float(np.sqrt(errors[3] * errors[4])), errors) < 8
    assert votes_worth(2.0, errors) == 0 and votes_worth(0.001, errors) == np.inf


def test_errors_of_votes_follow_their_information() -> None:
    rng = np.random.default_rng(0)
    truth, known = np.zeros(20), np.array([-0.5, 0.5])
    errors = measure_vote_errors(truth, known, rng)
    assert errors[0] == 0  # without votes the known mean, which is the truth here
    chance = 1 / (1 + np.exp(-0.5))
    information = 1024 * chance * (1 - chance)
    expected = information / (information + 1 / known.var()) ** 2  # of a posterior mode
    assert errors[-1] == pytest.approx(expected, rel=0.25)
    far = measure_vote_errors(np.full(10, 2.0), known, rng)
    assert far[0] == pytest.approx(4.0) and (np.diff(far[[0, 3, 6, 9]]) < 0).all()
