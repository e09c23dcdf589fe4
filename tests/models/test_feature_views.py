"""Views of one encoder's features: values by hand, and inputs with little in them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from model_behavior.arrays import Float32Array
from model_behavior.models.behavior.behavior_features import DenseView, RateView
from model_behavior.models.behavior.topic_removal import PromptFeatures, TopicRemoval

Array = Float32Array
NO_PROMPTS = PromptFeatures((), np.zeros(0, dtype=np.int64))


def draw(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def standard_by_loops(columns: list[list[float]]) -> Array:
    """Columns to rows of mean 0 and deviation 1, cut at five deviations."""
    done = []
    for column in columns:
        mean = sum(column) / len(column)
        deviation = math.sqrt(sum((value - mean) ** 2 for value in column) / len(column)) or 1
        done.append([min(max((value - mean) / deviation, -5), 5) for value in column])
    return np.array(done, dtype=np.float32).T


def dense_by_loops(rows: Array) -> Array:
    columns = standard_by_loops([[float(value) for value in column] for column in rows.T]).T.tolist()
    found = [[float(value > column.min()) for value in column] for column in rows.T]
    present = [column for column in found if 0.01 < sum(column) / len(column) < 0.99]
    return standard_by_loops([*columns, *present, *[[abs(value) for value in column] for column in columns]])


def test_dense_features_by_loops() -> None:
    rng = np.random.default_rng(0)
    rows = draw(0, 400, 4)
    rows[:, 1] = np.where(rng.random(400) < 0.7, 0, rng.exponential(size=400))
    rows[:, 2] = np.where(np.arange(400) == 7, 1, 0)
    rows[:, 3] = 9
    view, standard = DenseView.fit(rows, None)
    # Only the second one is at its minimum often enough for its presence to be told, and not always.
    assert view.scaling["present"].tolist() == [1]
    assert standard.shape == (400, 9) and standard.dtype == np.float32
    np.testing.assert_allclose(standard, dense_by_loops(rows), atol=1e-4)
    np.testing.assert_array_equal(view.apply(rows, NO_PROMPTS), standard)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.01, 100), st.floats(-100, 100), st.integers(0, 99))
def test_units_of_dense_features_do_not_matter(factor: float, offset: float, seed: int) -> None:
    rows = draw(seed, 60, 3)
    rows[::2, 0] = rows[:, 0].min()
    changed = (rows.astype(np.float64) * factor + factor * offset).astype(np.float32)
    np.testing.assert_allclose(DenseView.fit(rows, None)[1], DenseView.fit(changed, None)[1], atol=1e-2)


def test_the_topic_is_removed_from_what_is_expanded() -> None:
    rows, prompts = draw(0, 60, 3), PromptFeatures([draw(1, 12, 2)], np.arange(60) % 12)
    standard = DenseView.fit(rows, None)[1]
    topic, expected = TopicRemoval.fit(standard, prompts)
    view, residual = DenseView.fit(rows, prompts)
    np.testing.assert_array_equal(residual, expected)
    np.testing.assert_array_equal(view.apply(rows, prompts), topic.apply(standard, prompts))


def test_neither_fit_nor_apply_changes_its_input() -> None:
    rows, prompts = draw(0, 60, 3), PromptFeatures([draw(1, 12, 2)], np.arange(60) % 12)
    before = rows.copy()
    for given_prompts in (None, prompts):
        view, fitted = DenseView.fit(rows, given_prompts)
        view.apply(rows, prompts)[:] = 0
        fitted[:] = 0
        np.testing.assert_array_equal(rows, before)


def test_far_values_are_cut() -> None:
    view, _ = DenseView.fit(draw(0, 100, 2), None)
    assert np.abs(view.apply(np.full((1, 2), 1e9, np.float32), NO_PROMPTS)).max() <= 5


@pytest.mark.parametrize("value", [0.0, 0.1, 1000.1])
def test_constant_features_say_nothing(value: float) -> None:
    view, standard = DenseView.fit(np.full((50, 2), value, dtype=np.float32), None)
    assert len(view.scaling["present"]) == 0
    np.testing.assert_allclose(standard, 0, atol=1e-3)


@pytest.mark.parametrize("with_topic", [True, False])
def test_dense_arrays_round_trip_bit_by_bit(with_topic: bool) -> None:
    rows, prompts = draw(0, 60, 3), PromptFeatures([draw(1, 12, 2)], np.arange(60) % 12)
    view, _ = DenseView.fit(rows, prompts if with_topic else None)
    arrays = view.to_arrays()
    again = DenseView.from_arrays(arrays)
    assert (again.topic is not None) is with_topic
    np.testing.assert_array_equal(view.apply(rows, prompts), again.apply(rows, prompts))
    for name, value in again.to_arrays().items():
        assert value.dtype == arrays[name].dtype and value.flags.c_contiguous
        np.testing.assert_array_equal(value, arrays[name])
    none = PromptFeatures([prompts.blocks[0][:0]], np.zeros(0, dtype=np.int64))
    assert again.apply(rows[:0], none).shape == (0, view.apply(rows, prompts).shape[1])


COUNTS = np.array([[3, 1, 0, 0], [0, 1, 0, 0], [2, 2, 1, 0], [0, 0, 0, 0]], dtype=np.float32)


def test_rates_by_loops() -> None:
    view = RateView.fit(sparse.csr_matrix(COUNTS), n_columns=2)
    # In two, three, one and no row.
    assert view.columns.tolist() == [0, 1]
    rates = [[math.log1p(300 * row[column] / max(sum(row), 1)) for row in COUNTS.tolist()] for column in (0, 1)]
    np.testing.assert_allclose(view.apply(sparse.csr_matrix(COUNTS)), standard_by_loops(rates), atol=1e-5)


def test_columns_that_no_pair_has_are_never_chosen() -> None:
    assert RateView.fit(sparse.csr_matrix(COUNTS), n_columns=9).columns.tolist() == [0, 1, 2]


def test_a_longer_response_of_the_same_rates_is_the_same() -> None:
    view = RateView.fit(sparse.csr_matrix(COUNTS), n_columns=3)
    np.testing.assert_allclose(
        view.apply(sparse.csr_matrix(10 * COUNTS)), view.apply(sparse.csr_matrix(COUNTS)), atol=1e-5
    )


def test_rows_without_counts_are_finite() -> None:
    nothing = sparse.csr_matrix((5, 4), dtype=np.float32)
    assert np.isfinite(RateView.fit(sparse.csr_matrix(COUNTS), 3).apply(nothing)).all()
    assert RateView.fit(nothing, 3).apply(nothing).shape == (5, 0)
    assert RateView.fit(sparse.csr_matrix(COUNTS), 3).apply(nothing[:0]).shape == (0, 3)


def test_rate_arrays_round_trip_bit_by_bit() -> None:
    view = RateView.fit(sparse.csr_matrix(COUNTS), 3)
    again = RateView.from_arrays(view.to_arrays())
    np.testing.assert_array_equal(view.apply(sparse.csr_matrix(COUNTS)), again.apply(sparse.csr_matrix(COUNTS)))
    for name, value in again.to_arrays().items():
        assert value.dtype == view.to_arrays()[name].dtype
        np.testing.assert_array_equal(value, view.to_arrays()[name])
