"""What each baseline does that the contract does not say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from model_behavior.benchmarks.baselines.nearest_prompts import NearestPrompts, similarity_weights
from model_behavior.benchmarks.baselines.ratings import (
    Elo,
    EloConfig,
    LongerResponse,
    StyleControl,
    count_elo,
    style_differences,
)
from model_behavior.data_models.scoring_types import ScoringVotes
from model_behavior.models.scoring.bradley_terry import BradleyTerry
from model_behavior.models.scoring.outcomes import OutcomeConstants, outcome_logits, softmax
from tests.models.scoring.scoring_votes import draw_votes


def test_elo_by_hand() -> None:
    votes = ScoringVotes(
        ("x",),
        ("p", "q"),
        np.zeros(2, np.int32),
        np.zeros(2, np.int32),
        np.ones(2, np.int32),
        np.array([0, 2], np.int8),
    )
    # First p wins as an even match: +16 and -16. Then a tie, of which p was to get 1 / (1 + 10^(-32 / 400)).
    expected = 1 / (1 + 10 ** (-32 / 400))
    points = count_elo(votes, np.arange(2), 32)
    np.testing.assert_allclose(points, [16 + 32 * (0.5 - expected), -16 - 32 * (0.5 - expected)])


def test_elo_agrees_with_bradley_terry_in_the_long_run() -> None:
    votes = draw_votes(20000)
    elo, ratings = Elo(EloConfig(step=1.0)), BradleyTerry()
    elo.fit(votes)
    ratings.fit(votes)
    np.testing.assert_allclose(elo.rating, ratings.rating, atol=0.3)


def test_style_control_takes_out_what_length_did() -> None:
    rng = np.random.default_rng(1)
    votes = draw_votes(6000)
    # All models are equal; the longer response wins, and later models write longer ones.
    difference = style_differences(votes)[:, 0]
    score = 1.5 * difference
    chances = softmax(outcome_logits(score / 2, -score / 2, OutcomeConstants(0.5, 0, -2.0, -4.0)))
    outcome = (chances.cumsum(axis=1) > rng.random((6000, 1))).argmax(axis=1).astype(np.int8)
    votes = replace(votes, outcome=outcome)
    plain, controlled = BradleyTerry(), StyleControl()
    plain.fit(votes)
    controlled.fit(votes)
    assert plain.rating[7] - plain.rating[0] > 1.5
    assert abs(controlled.rating[7] - controlled.rating[0]) < 0.35
    # Markdown counts go with length in these votes, so the effect is shared among the columns.
    assert controlled.effects.sum() == pytest.approx(1.5, abs=0.2)
    ratings = controlled.rate()
    assert ((ratings.low < 0) & (ratings.high > 0)).mean() >= 0.75


def test_longer_response_looks_at_the_responses_themselves() -> None:
    votes = draw_votes(2000)
    assert votes.style_a is not None and votes.style_b is not None
    longer = (votes.style_a[:, 0] < votes.style_b[:, 0]).astype(np.int8)
    model = LongerResponse()
    model.fit(replace(votes, outcome=longer))
    probabilities = model.predict_responses(votes)
    np.testing.assert_array_equal(probabilities[:, :2].argmax(axis=1), longer)
    assert (np.diff(model.rating) > 0).mean() > 0.7


def test_similarity_weights_by_hand() -> None:
    np.testing.assert_allclose(similarity_weights(np.array([0.5, 0.0, -0.5, 0.25]), 10), [10, 1, 0.1, 10**0.5])
    np.testing.assert_allclose(similarity_weights(np.array([0.0, -1.0]), 10), [1, 1])


def test_near_prompts_count_more() -> None:
    model = NearestPrompts()
    model.fit(draw_votes(4000, by_topic=2.5))
    first, third = "prove the theorem about integer sequence number", "tell a story about the sad dragon and castle"
    odd = np.arange(8) % 2 == 1

    def lead(prompt: str) -> float:
        rating = model.rate(prompt=prompt).rating
        return float(rating[odd].mean() - rating[~odd].mean())

    assert lead(first) > lead(third) + 1
