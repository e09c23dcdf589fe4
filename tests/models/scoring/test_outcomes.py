from __future__ import annotations

import math

import numpy as np
import pytest

from model_behavior.models.scoring.bradley_terry import centred_constants
from model_behavior.models.scoring.outcomes import (
    OutcomeConstants,
    UncertainVotes,
    average_probabilities,
    log_loss,
    outcome_logits,
    softmax,
)


def test_davidson_by_hand() -> None:
    # Strengths 4 and 1, tie constant 0.5: p(a) : p(b) : p(tie) = 4 : 1 : 0.5 sqrt(4 * 1); both_bad of weight 1 beside.
    constants = OutcomeConstants(0.5, 0.0, math.log(0.5), 0.0)
    probabilities = softmax(outcome_logits(np.log([4.0]), np.log([1.0]), constants))
    np.testing.assert_allclose(probabilities, np.array([[4, 1, 1, 1]]) / 7)


def test_slope_one_is_each_response_right_by_itself() -> None:
    easy, difficulty = 0.8, 0.3
    right_a, right_b = (1 / (1 + math.exp(difficulty - s)) for s in (easy, -0.4))
    constants = OutcomeConstants(1.0, 0.0, -difficulty, difficulty)
    probabilities = softmax(outcome_logits(np.array([easy]), np.array([-0.4]), constants))[0]
    by_hand = [right_a * (1 - right_b), right_b * (1 - right_a), right_a * right_b, (1 - right_a) * (1 - right_b)]
    np.testing.assert_allclose(probabilities, by_hand)


def test_a_shift_of_all_scores_moves_into_the_constants() -> None:
    constants = OutcomeConstants(0.8, 0.2, -0.5, -1.0)
    a, b = np.array([1.0, 3.0]), np.array([0.5, 2.0])
    before = softmax(outcome_logits(a, b, constants))
    after = softmax(outcome_logits(a - 0.7, b - 0.7, centred_constants(constants, 0.7)))
    np.testing.assert_allclose(after, before)


def test_shift_of_a_prompt_is_added_to_its_levels() -> None:
    constants = OutcomeConstants()
    logits = outcome_logits(np.zeros(1), np.zeros(1), constants, np.array([[1.5, -2.0]]))
    np.testing.assert_allclose(logits, [[0, 0, 1.5, -2.0]])


def test_average_over_unknown_scores_agrees_with_sampling() -> None:
    votes = UncertainVotes(
        np.array([1.0, 1.0]), np.zeros(2), np.array([0.0, 1.2]), np.array([0.0, 0.5]), np.zeros((2, 2))
    )
    constants = OutcomeConstants(0.5, 0.0, -1.0, -1.0)
    averaged = average_probabilities(votes, constants)
    np.testing.assert_allclose(averaged[0], softmax(outcome_logits(np.ones(1), np.zeros(1), constants))[0])
    rng = np.random.default_rng(0)
    a, b = 1 + 1.2 * rng.normal(size=200_000), 0.5 * rng.normal(size=200_000)
    sampled = softmax(outcome_logits(a, b, constants)).mean(axis=0)
    np.testing.assert_allclose(averaged[1], sampled, atol=3e-3)


def test_log_loss_by_hand_and_finite_at_zero() -> None:
    losses = log_loss(np.array([[0.5, 0.25, 0.25, 0.0]] * 2), np.array([1, 3]))
    assert losses[0] == pytest.approx(math.log(4))
    assert np.isfinite(losses[1])
