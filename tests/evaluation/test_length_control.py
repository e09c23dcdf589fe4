"""Accuracy by length, against counts by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from model_behavior.data_models.scoring_types import ScoringVotes
from model_behavior.evaluation.stage2 import control_length, control_predictions


def test_strata_by_hand() -> None:
    winner = np.array([200, 105, 100, 50, 100, 90])
    loser = np.array([100, 100, 100, 100, 104, 200])
    hits = np.array([1.0, 0.5, 1.0, 0.0, 1.0, 0.0])
    control = control_length(hits, winner, loser, np.arange(6))
    assert control.matched.value == pytest.approx(2.5 / 3) and control.matched.n == 3
    assert control.longer_won.value == pytest.approx(1.5 / 2) and control.longer_won.n == 2
    assert control.shorter_won.value == pytest.approx(1 / 3) and control.shorter_won.n == 3
    assert control.balanced.value == pytest.approx((1.5 / 2 + 1 / 3) / 2) and control.balanced.n == 5


def test_length_alone_is_worth_a_half() -> None:
    """However much more often the longer response wins."""
    rng = np.random.default_rng(0)
    winner, loser = rng.integers(50, 900, (2, 4000))
    swap = (winner < loser) & (rng.random(4000) < 0.8)
    winner, loser = np.where(swap, loser, winner), np.where(swap, winner, loser)
    control = control_length((winner > loser).astype(float), winner, loser, np.arange(4000) // 4)
    assert control.balanced.value == 0.5 and control.balanced.low == control.balanced.high == 0.5
    assert control.longer_won.value == 1 and control.shorter_won.value == 0
    assert control.matched.value == pytest.approx(0.9, abs=0.05)


def test_intervals_cover_and_empty_strata_are_undefined() -> None:
    rng = np.random.default_rng(1)
    winner, loser = rng.integers(50, 900, (2, 500))
    hits = (rng.random(500) < 0.7).astype(float)
    control = control_length(hits, winner, loser, np.arange(500) // 5)
    for figure in (control.matched, control.longer_won, control.shorter_won, control.balanced):
        assert figure.low <= figure.value <= figure.high
    longer = control_length(np.ones(3), np.full(3, 200), np.full(3, 100), np.arange(3))
    assert longer.shorter_won.n == longer.matched.n == 0
    assert math.isnan(longer.shorter_won.value) and math.isnan(longer.balanced.value)


def test_predictions_are_divided_by_the_lengths_of_winner_and_loser() -> None:
    style = np.zeros((4, 4), np.float32)
    style_a, style_b = style.copy(), style.copy()
    style_a[:, 0], style_b[:, 0] = [100, 100, 300, 100], [200, 200, 100, 500]
    index = np.arange(4, dtype=np.int32)
    side = np.zeros(4, np.int32)
    outcome = np.array([0, 1, 0, 2], np.int8)  # the shorter, the longer, the longer, and a tie
    votes = ScoringVotes(("p", "q", "r", "s"), ("m", "n"), index, side, side + 1, outcome, style_a, style_b)
    left = np.array([[0.7, 0.2, 0.1, 0]] * 4, np.float32)
    control = control_predictions(left, votes)
    assert (control.shorter_won.value, control.shorter_won.n) == (1.0, 1)
    assert (control.longer_won.value, control.longer_won.n) == (0.5, 2)
