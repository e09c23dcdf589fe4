from __future__ import annotations

import itertools

import evalica
import numpy as np
import pytest
from scipy import optimize

from model_behavior.data_models.scoring_types import ScoringVotes
from model_behavior.models.scoring.bradley_terry import BradleyTerry, BradleyTerryConfig
from model_behavior.models.scoring.outcomes import OutcomeConstants, outcome_logits, softmax
from model_behavior.models.scoring.score_fit import fit_fixed_scores
from model_behavior.preprocessing.scoring_votes import select_scoring_votes
from tests.models.scoring.scoring_votes import draw_votes

FREE = BradleyTerryConfig(penalty=1e-9)

# Agresti, "Categorical Data Analysis", Table 10.10: American League East in 1987, wins of row over column.
TEAMS = ("Baltimore", "Boston", "Cleveland", "Detroit", "Milwaukee", "New York", "Toronto")
WINS = [
    [0, 1, 7, 4, 2, 3, 1],
    [12, 0, 7, 2, 6, 7, 6],
    [6, 6, 0, 4, 4, 6, 5],
    [9, 11, 9, 0, 6, 5, 7],
    [11, 7, 9, 7, 0, 7, 9],
    [10, 6, 7, 8, 6, 0, 6],
    [12, 7, 8, 6, 4, 7, 0],
]
PUBLISHED = [0.0, 1.1077, 0.6839, 1.4364, 1.5814, 1.2476, 1.2945]
"""Log-odds over Baltimore, as in the manual of the R package BradleyTerry2."""


def games() -> ScoringVotes:
    sides = [(i, j) for i, j in itertools.permutations(range(7), 2) for _ in range(WINS[i][j])]
    a, b = np.array(sides, np.int32).T
    n_games = len(sides)
    return ScoringVotes(
        tuple(f"game {index}" for index in range(n_games)),
        TEAMS,
        np.arange(n_games, dtype=np.int32),
        a.copy(),
        b.copy(),
        np.zeros(n_games, np.int8),
    )


def test_published_ratings_of_baseball_teams() -> None:
    model = BradleyTerry(BradleyTerryConfig(penalty=1e-9, learn_slopes=False))
    model.fit(games())
    # The half vote that a tie gets for smoothing makes it possible, which stretches all ratings by a few thousandths.
    np.testing.assert_allclose(model.rating - model.rating[0], PUBLISHED, atol=4e-3)


def test_ratings_agree_with_evalica() -> None:
    votes = draw_votes()
    decided = select_scoring_votes(votes, np.flatnonzero(votes.outcome <= 1))
    model = BradleyTerry(FREE)
    model.fit(decided)
    winners = [evalica.Winner.X if outcome == 0 else evalica.Winner.Y for outcome in decided.outcome]
    names = [[decided.models[index] for index in side] for side in (decided.model_a, decided.model_b)]
    scores = evalica.bradley_terry(names[0], names[1], winners, tolerance=1e-12, limit=10000).scores
    theirs = np.log([scores[name] for name in model.models])
    np.testing.assert_allclose(model.rating, theirs - theirs.mean(), atol=2e-3)


def test_fit_is_the_maximum_of_the_likelihood_written_with_plain_loops() -> None:
    votes = draw_votes(200)
    model = BradleyTerry(BradleyTerryConfig(penalty=0.3, learn_slopes=False))
    model.fit(votes)

    def loss(point: np.ndarray) -> float:
        total = 0.3 * sum(r * r for r in point[:8]) / 2
        for a, b, outcome in zip(votes.model_a, votes.model_b, votes.outcome, strict=True):
            ra, rb = point[a], point[b]
            logits = [ra, rb, (ra + rb) / 2 + point[8], point[9]]
            total -= logits[outcome] - np.log(sum(np.exp(logits)))
        level = [0, 0, point[8], point[9]]
        return float(total - sum(0.5 * (each - np.log(sum(np.exp(level)))) for each in level))

    start = np.concatenate([model.rating, [model.constants.tie, model.constants.both_bad]])
    found = optimize.minimize(loss, np.zeros(10), method="BFGS", options={"gtol": 1e-6}).x
    np.testing.assert_allclose(start[:8], found[:8] - found[:8].mean(), atol=1e-4)
    assert loss(start) == pytest.approx(loss(found), abs=0.05)


def test_slopes_are_recovered() -> None:
    truth = OutcomeConstants(0.9, 0.3, -0.6, -0.9)
    model = BradleyTerry()
    model.fit(draw_votes(20000, constants=truth))
    assert model.constants.tie_slope == pytest.approx(0.9, abs=0.1)
    assert model.constants.bad_slope == pytest.approx(0.3, abs=0.1)
    np.testing.assert_allclose(model.rating, np.linspace(-1.4, 1.4, 8), atol=0.12)


def test_an_undefeated_model_stays_finite() -> None:
    votes = draw_votes(100)
    wins = np.where(votes.model_a == 7, 0, np.where(votes.model_b == 7, 1, votes.outcome)).astype(np.int8)
    model = BradleyTerry()
    model.fit(ScoringVotes(votes.prompts, votes.models, votes.prompt_index, votes.model_a, votes.model_b, wins))
    assert np.isfinite(model.rating).all() and 1 < model.rating[7] < 10


def test_intervals_cover_and_are_wider_where_votes_share_prompts() -> None:
    truth = np.linspace(-1.4, 1.4, 8)
    covered, widths = [], []
    for seed in range(40):
        model = BradleyTerry()
        model.fit(draw_votes(800, seed=seed, n_prompts=200))
        ratings = model.rate()
        covered.append((ratings.low <= truth) & (truth <= ratings.high))
        widths.append((ratings.high - ratings.low).mean())
    assert 0.9 <= np.mean(covered) <= 0.99
    # On three kinds of prompts with preferences of their own, few prompts tell less than many.
    few, many = BradleyTerry(), BradleyTerry()
    few.fit(draw_votes(3000, n_prompts=4, by_topic=2.0))
    many.fit(draw_votes(3000, n_prompts=1500, by_topic=2.0))
    assert np.ptp(few.rate().high - few.rate().low) > 0
    assert (few.rate().high - few.rate().low).mean() > 1.5 * (many.rate().high - many.rate().low).mean()


def test_scale_of_fixed_scores_is_recovered_and_never_negative() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 8000))
    chances = softmax(outcome_logits(1.7 * a, 1.7 * b, OutcomeConstants(0.5, 0.0, -1.0, -2.0)))
    outcome = (chances.cumsum(axis=1) > rng.random((8000, 1))).argmax(axis=1)
    assert fit_fixed_scores(a, b, outcome)[0] == pytest.approx(1.7, abs=0.15)
    assert fit_fixed_scores(-a, -b, outcome)[0] == 0
