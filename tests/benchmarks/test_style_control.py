"""Style control against what arena-rank fits, and Bradley-Terry's intervals against a bootstrap of evalica's ratings.

arena-rank 0.1.0 demands numpy==2.3.3 exactly, so it cannot be installed beside the pinned versions. What it computes
is derived again here: logistic regression of decided votes on one column per model (+1 on side a, -1 on side b) and on
the relative differences of style, by scikit-learn, and the sandwich covariance of its estimates written out.
"""

from __future__ import annotations

from dataclasses import replace

import evalica
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from model_behavior.benchmarks.baselines.ratings import StyleControl, StyleControlConfig
from model_behavior.data_models.scoring_types import STYLE_COLUMNS, ScoringVotes
from model_behavior.models.scoring.bradley_terry import BradleyTerry, BradleyTerryConfig
from model_behavior.preprocessing.scoring_votes import select_scoring_votes
from tests.models.scoring.scoring_votes import draw_votes

FREE = BradleyTerryConfig(penalty=1e-9)


@pytest.fixture(scope="module")
def decided() -> ScoringVotes:
    """Decided votes, each on a prompt of its own, in which long and marked-up responses win more often."""
    votes = draw_votes(1500, seed=5, n_prompts=1500)
    rng = np.random.default_rng(6)
    style = np.exp(rng.normal([6, 1, 1, 1], 0.5, (2, len(votes.outcome), 4))).astype(np.float32)
    longer = style[0, :, 0] > style[1, :, 0]
    swayed = rng.random(len(votes.outcome)) < 0.3
    outcome = np.where(swayed & (votes.outcome <= 1), np.where(longer, 0, 1), votes.outcome).astype(np.int8)
    votes = replace(
        votes,
        outcome=outcome,
        style_a=style[0],
        style_b=style[1],
        prompt_index=np.arange(len(outcome), dtype=np.int32),
    )
    return select_scoring_votes(votes, np.flatnonzero(votes.outcome <= 1))


def arena_rank_design(votes: ScoringVotes) -> np.ndarray:
    """One row per vote, by a plain loop; style columns scaled to a root mean square of 1."""
    assert votes.style_a is not None and votes.style_b is not None
    n_models = len(votes.models)
    rows = np.zeros((len(votes.outcome), n_models + len(STYLE_COLUMNS)))
    for row, (a, b) in enumerate(zip(votes.model_a, votes.model_b, strict=True)):
        rows[row, a], rows[row, b] = 1, -1
        for column in range(len(STYLE_COLUMNS)):
            left, right = float(votes.style_a[row, column]), float(votes.style_b[row, column])
            rows[row, n_models + column] = (left - right) / (left + right)
    rows[:, n_models:] /= np.sqrt(np.mean(rows[:, n_models:] ** 2, axis=0))
    return rows


def test_ratings_effects_and_intervals_are_those_of_arena_rank(decided: ScoringVotes) -> None:
    ours = StyleControl(StyleControlConfig(FREE, style_penalty=1e-9))
    ours.fit(decided)
    design, won = arena_rank_design(decided), decided.outcome == 0
    theirs = LogisticRegression(C=1e8, fit_intercept=False, tol=1e-8, max_iter=2000).fit(design, won).coef_[0]
    n_models = len(decided.models)
    np.testing.assert_allclose(ours.rating, theirs[:n_models] - theirs[:n_models].mean(), atol=5e-3)
    np.testing.assert_allclose(ours.effects, theirs[n_models:], atol=5e-3)
    assert ours.effects[0] > 0.2 > np.abs(ours.effects[1:]).max()
    chance = 1 / (1 + np.exp(-design @ theirs))
    bread = np.linalg.pinv(design.T @ (design * (chance * (1 - chance))[:, None]))
    meat = design.T @ (design * ((won - chance) ** 2)[:, None])
    centre = np.hstack([np.eye(n_models) - 1 / n_models, np.zeros((n_models, len(STYLE_COLUMNS)))])
    sandwich, naive = (np.diag(centre @ each @ centre.T) for each in (bread @ meat @ bread, bread))
    # Ours is never narrower than without the sandwich, which is all that it adds to arena-rank's.
    deviation = np.sqrt(np.maximum(sandwich, naive))
    np.testing.assert_allclose(np.sqrt(np.diag(ours.covariance)), deviation, rtol=5e-3)
    ratings = ours.rate()
    np.testing.assert_allclose(ratings.high - ratings.low, 2 * 1.96 * deviation, rtol=5e-3)


def test_intervals_are_as_wide_as_evalicas_ratings_scatter_over_resampled_prompts() -> None:
    votes = draw_votes(3000, seed=7, n_prompts=300)
    votes = select_scoring_votes(votes, np.flatnonzero(votes.outcome <= 1))
    model = BradleyTerry(FREE)
    model.fit(votes)
    rng, names = np.random.default_rng(0), np.array(votes.models)
    of_prompt = [np.flatnonzero(votes.prompt_index == prompt) for prompt in range(len(votes.prompts))]
    scattered = []
    for _ in range(150):
        rows = np.concatenate([of_prompt[prompt] for prompt in rng.integers(len(of_prompt), size=len(of_prompt))])
        sides = [names[side[rows]].tolist() for side in (votes.model_a, votes.model_b)]
        winners = [evalica.Winner.X if outcome == 0 else evalica.Winner.Y for outcome in votes.outcome[rows]]
        scores = evalica.bradley_terry(*sides, winners, tolerance=1e-8, limit=2000).scores
        theirs = np.log([scores[name] for name in votes.models])
        scattered.append(theirs - theirs.mean())
    ratings = model.rate()
    # A standard deviation from 150 replicates has an error of 6 %.
    np.testing.assert_allclose((ratings.high - ratings.low) / 3.92, np.std(scattered, axis=0, ddof=1), rtol=0.17)
