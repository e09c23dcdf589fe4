"""Recognition by model and by family, against cases worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from model_behavior.evaluation.recognition import (
    HeldResponses,
    chance_of_recognition,
    draw_recognition,
    recognise,
    share_right,
)


def responses(n_prompts: int, known: np.ndarray, of_model: np.ndarray) -> HeldResponses:
    """Every model answers every prompt with its own row of `of_model`."""
    n_models = len(of_model)
    model = np.tile(np.arange(n_models), n_prompts)
    return HeldResponses(of_model[model], model, np.repeat(np.arange(n_prompts), n_models), known)


def test_a_model_is_recognised_by_its_mean_and_a_family_by_any_member() -> None:
    corners = np.eye(4, dtype=np.float32)
    confused = corners[[1, 0, 2, 3]]  # models 0 and 1 answer like each other
    asked = responses(40, corners, confused)
    draws = draw_recognition(asked, 0)
    by_model = share_right(recognise(asked, draws))
    assert {k: figure.value for k, figure in by_model.items()} == {1: 0.5, 8: 0.5, 32: 0.5}
    assert by_model[8].n == 4 * 20
    family = np.array([0, 0, 1, 1])
    recognised = recognise(asked, draws)
    assert {k: figure.value for k, figure in share_right(recognised, family).items()} == {1: 1, 8: 1, 32: 1}
    apart = np.array([0, 1, 1, 1])
    assert share_right(recognised, apart)[1].value == 0.5


def test_sizes_that_no_model_can_give_are_left_out() -> None:
    corners = np.eye(3, dtype=np.float32)
    assert list(draw_recognition(responses(7, corners, corners), 0)) == [1]
    nothing = HeldResponses(corners[:0], np.zeros(0, np.int64), np.zeros(0, np.int64), corners)
    assert draw_recognition(nothing, 0) == {} and math.isnan(chance_of_recognition(nothing))


def test_a_model_without_an_embedding_is_never_chosen() -> None:
    known = np.eye(3, dtype=np.float32)
    known[0] = np.nan
    asked = responses(10, known, np.eye(3, dtype=np.float32))
    figures = share_right(recognise(asked, draw_recognition(asked, 0)))
    assert figures[1].value == pytest.approx(2 / 3)


def test_chance_by_hand() -> None:
    corners = np.eye(4, dtype=np.float32)
    asked = responses(5, corners, corners)
    assert chance_of_recognition(asked) == 0.25
    # A blind choice hits the family of three with 3/4, when one of its three models is asked for, else 1/4.
    assert chance_of_recognition(asked, np.array([0, 0, 0, 1])) == pytest.approx((3 * 0.75 + 0.25) / 4)
    corners[3] = np.nan
    known_to_three = responses(5, corners, np.eye(4, dtype=np.float32))
    assert chance_of_recognition(known_to_three) == pytest.approx((3 * (1 / 3) + 0) / 4)
