"""Choices, thresholds and gap recovery against hand-computed examples and plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from model_behavior.arrays import Float64Array
from model_behavior.errors import UsageError
from model_behavior.routing.frontier import (
    Ends,
    GapCurve,
    average_gap_recovered,
    call_performance_threshold,
    find_frontier,
    recover_gap,
    sweep_thresholds,
)
from model_behavior.routing.router import choose_above_floor

COST = np.array([0.2, 1.0, 3.0, 1.0])


def draw_quality(n: int = 40, models: int = 4) -> Float64Array:
    return np.random.default_rng(0).random((n, models))


@pytest.mark.parametrize("threshold", [-2.0, -0.1, 0.0, 0.05, 0.3, 1.0, 50.0])
def test_the_choice_maximises_quality_less_the_price_of_cost(threshold: float) -> None:
    quality = draw_quality()
    chosen = find_frontier(quality, COST).choose(threshold)
    for row, column in zip(quality, chosen, strict=True):
        worth = [q - threshold * c for q, c in zip(row, COST, strict=True)]
        assert worth[column] == pytest.approx(max(worth), abs=1e-12)


def test_ties_go_to_the_cheaper_then_to_the_better() -> None:
    quality = np.array([[0.5, 0.5, 0.5], [0.4, 0.6, 0.6], [0.2, 0.2, 0.7]])
    frontier = find_frontier(quality, np.array([1.0, 2.0, 5.0]))
    assert frontier.choose(0.0).tolist() == [0, 1, 2]
    assert find_frontier(np.array([[0.1, 0.3]]), np.array([1.0, 1.0])).choose(0.0).tolist() == [1]
    assert find_frontier(np.array([[0.1, 0.3]]), np.array([1.0, 1.0])).choose(9.0).tolist() == [1]
    # At the price where two are worth the same, 0.4 = 0.8 - 0.1 * 4, the cheaper one is taken.
    even = find_frontier(np.array([[0.5, 0.75]]), np.array([1.0, 2.0]))
    assert even.choose(0.25).tolist() == [0] and even.choose(0.2499).tolist() == [1]


def test_two_models_follow_routellms_rule() -> None:
    """Strong where P(strong wins) > alpha = 1/2 + threshold times the difference of cost."""
    chance = np.random.default_rng(1).random(200)
    quality = np.stack([np.full(200, 0.5), 1 - chance], axis=1)  # against the strong one
    frontier = find_frontier(quality, np.array([5.0, 1.0]))
    for alpha in (0.1, 0.45, 0.5, 0.8):
        strong = frontier.choose((alpha - 0.5) / 4) == 0
        assert (strong == (chance > alpha)).all()


def test_the_sweep_is_what_each_threshold_costs_and_brings() -> None:
    quality, value = draw_quality(25), np.random.default_rng(2).random((25, 4))
    frontier = find_frontier(quality, COST)
    sweep = sweep_thresholds(frontier, COST, value)
    assert sweep.threshold[0] == -np.inf and (np.diff(sweep.threshold) > 0).all()
    assert (np.diff(sweep.cost) < 0).all() and sweep.cost[0] == 3.0 and sweep.cost[-1] == pytest.approx(0.2)
    for threshold, cost, mean in zip(sweep.threshold, sweep.cost, sweep.value, strict=True):
        chosen = frontier.choose(threshold)
        assert cost == pytest.approx(np.mean([COST[column] for column in chosen]))
        assert mean == pytest.approx(np.mean([value[row, column] for row, column in enumerate(chosen)]))


def test_expected_quality_falls_with_cost_along_useful_thresholds() -> None:
    quality = draw_quality()
    sweep = sweep_thresholds(find_frontier(quality, COST), COST, quality)
    useful = sweep.threshold >= 0
    assert (np.diff(sweep.value[useful]) <= 1e-12).all()
    assert sweep.value.max() == pytest.approx(quality.max(axis=1).mean())


def test_one_model_has_one_point() -> None:
    sweep = sweep_thresholds(find_frontier(np.array([[0.5], [0.5]]), np.array([2.0])), np.array([2.0]), np.ones((2, 1)))
    assert sweep.cost.tolist() == [2.0] and sweep.value.tolist() == [1.0]


def test_values_that_mean_nothing_are_refused() -> None:
    with pytest.raises(UsageError, match="shape"):
        find_frontier(np.ones((2, 3)), np.ones(2))
    with pytest.raises(UsageError, match="finite"):
        find_frontier(np.array([[0.1, np.nan]]), np.ones(2))


def test_apgr_and_cpt_by_hand() -> None:
    """Four prompts; the strong model is right on all, the weak one on the two that the router leaves till last.

    Calls 0, 1/4, 1/2, 3/4, 1 recover 0, 1/2, 1, 1, 1 of the gap: APGR = (1/4 + 3/4 + 1 + 1) / 4 = 3/4.
    """
    quality = np.array([[0.5, 0.1], [0.5, 0.2], [0.5, 0.6], [0.5, 0.7]])
    value = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 1.0], [1.0, 1.0]])
    calls = np.array([1.0, 0.0])
    curve = recover_gap(sweep_thresholds(find_frontier(quality, calls), calls, value), Ends(0.0, 0.5, 1.0, 1.0))
    assert curve.share == pytest.approx([0, 0.25, 0.5, 0.75, 1]) and curve.recovered == pytest.approx([0, 0.5, 1, 1, 1])
    assert average_gap_recovered(curve) == pytest.approx(0.75)
    assert call_performance_threshold(curve, 0.5) == pytest.approx(0.25)
    assert call_performance_threshold(curve, 0.8) == pytest.approx(0.4)
    assert call_performance_threshold(curve, 0.0) == 0


def test_a_router_that_knows_nothing_is_random() -> None:
    calls, value = np.array([1.0, 0.0]), np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    sweep = sweep_thresholds(find_frontier(np.full((3, 2), 0.5), calls), calls, value)
    curve = recover_gap(sweep, Ends(0.0, 1 / 3, 1.0, 2 / 3))
    assert average_gap_recovered(curve) == pytest.approx(0.5)
    assert call_performance_threshold(curve, 0.8) == pytest.approx(0.8)


def test_no_gap_is_no_figure_and_unreached_levels_have_none() -> None:
    sweep = sweep_thresholds(
        find_frontier(np.full((1, 2), 0.5), np.array([1.0, 0.0])), np.array([1.0, 0.0]), np.ones((1, 2))
    )
    assert np.isnan(average_gap_recovered(recover_gap(sweep, Ends(0.0, 1.0, 1.0, 1.0))))
    assert np.isnan(call_performance_threshold(GapCurve(np.array([0.0, 1.0]), np.array([0.0, 0.6])), 0.8))


def test_a_curve_that_spends_less_than_the_strong_model_goes_on_level() -> None:
    curve = GapCurve(np.array([0.0, 0.5]), np.array([0.0, 1.0]))
    assert average_gap_recovered(curve) == pytest.approx(0.25 + 0.5)


def test_the_floor_is_kept_by_the_cheapest() -> None:
    against_best = np.array([[0.5, 0.45, 0.3], [0.2, 0.5, 0.1], [0.41, 0.41, 0.5]])
    cost = np.array([3.0, 2.0, 1.0])
    assert choose_above_floor(against_best, cost, 0.4).tolist() == [1, 1, 2]
    assert choose_above_floor(against_best, cost, 0.0).tolist() == [2, 2, 2]
    assert choose_above_floor(against_best, cost, 0.5).tolist() == [0, 1, 2]
    assert choose_above_floor(np.array([[0.45, 0.49, 0.5]]), np.array([1.0, 1.0, 2.0]), 0.4).tolist() == [1]
