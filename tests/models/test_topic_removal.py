"""The regression on prompts against least squares, and what its residuals must not know."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from model_behavior.arrays import Float32Array, Float64Array
from model_behavior.models.behavior.topic_removal import PromptBasis, PromptFeatures, TopicRemoval, moments

Array = Float32Array


def draw(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def draw_counts(seed: int, *shape: int) -> sparse.csr_matrix:
    return sparse.csr_matrix(np.random.default_rng(seed).poisson(0.7, size=shape).astype(np.float32))


def ridge_by_augmented_rows(known: Array, wanted: Array) -> tuple[Float64Array, Float64Array]:
    """Least squares where one more row for each column asks that its weight be 0; the offset has no such row."""
    n_columns = known.shape[1]
    rows = np.block([[known, np.ones((len(known), 1))], [np.eye(n_columns), np.zeros((n_columns, 1))]])
    targets = np.concatenate([wanted, np.zeros((n_columns, wanted.shape[1]))])
    solution = np.linalg.lstsq(rows.astype(np.float64), targets.astype(np.float64))[0]
    return solution[:-1], solution[-1]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 6), st.integers(0, 8), st.integers(1, 3), st.integers(0, 99))
def test_the_regression_is_ridge_on_the_means_of_prompts(
    n_prompts: int, n_dense: int, n_counts: int, n_features: int, seed: int
) -> None:
    blocks = [draw(seed, n_prompts, n_dense), draw_counts(seed + 1, n_prompts, n_counts)]
    prompt = np.concatenate([np.arange(n_prompts), np.random.default_rng(seed).integers(0, n_prompts, 20)])
    features = draw(seed + 2, len(prompt), n_features)
    topic, _ = TopicRemoval.fit(features, PromptFeatures(blocks, prompt))
    means = np.stack([features[prompt == each].mean(axis=0) for each in range(n_prompts)])
    weight, offset = ridge_by_augmented_rows(topic.basis.transform(blocks), means)
    np.testing.assert_allclose(topic.weight, weight, atol=1e-5)
    np.testing.assert_allclose(topic.offset, offset, atol=1e-5)
    applied = topic.apply(features, PromptFeatures(blocks, prompt))
    expected = features - (topic.basis.transform(blocks) @ weight + offset)[prompt]
    np.testing.assert_allclose(applied, expected, atol=1e-5)
    assert applied.dtype == np.float32


def test_the_basis_of_dense_features_by_hand() -> None:
    block = np.array([[1, 7], [3, 7], [1, 7], [3, 7]], dtype=np.float32)
    basis = PromptBasis.fit([block])
    # Mean 2, deviation 1; the second column is constant. Both are divided by the root of the number of columns.
    expected = np.array([[-1, 0], [1, 0], [-1, 0], [1, 0]]) / np.sqrt(2)
    np.testing.assert_allclose(basis.transform([block]), expected, atol=1e-6)
    np.testing.assert_allclose(
        basis.transform([np.array([[99, 8]], np.float32)]), [[5 / 2**0.5, 1 / 2**0.5]], atol=1e-6
    )


def test_the_basis_of_counts_by_hand() -> None:
    counts = sparse.csr_matrix(np.array([[1, 2, 0, 3], [1, 0, 0, 0], [0, 1, 9, 0]], dtype=np.float32))
    basis = PromptBasis.fit([counts])
    # Columns 2 and 3 are found in one prompt only. Both others have the same inverse document frequency.
    assert basis.arrays[0]["columns"].tolist() == [0, 1]
    np.testing.assert_allclose(basis.arrays[0]["idf"], np.log(4 / 3), rtol=1e-6)
    length = np.hypot(1, 1 + np.log(2))
    expected = [[1 / length, (1 + np.log(2)) / length], [1, 0], [0, 1]]
    np.testing.assert_allclose(basis.transform([counts]), expected, atol=1e-6)
    nothing = sparse.csr_matrix((2, 4), dtype=np.float32)
    assert not basis.transform([nothing]).any()


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 12), st.integers(0, 99), st.data())
def test_a_training_pair_is_predicted_without_its_prompt(n_prompts: int, seed: int, data: st.DataObject) -> None:
    chosen = data.draw(st.integers(0, n_prompts - 1))
    prompt = np.random.default_rng(seed).permutation(np.arange(3 * n_prompts) % n_prompts)
    prompts = PromptFeatures([draw(seed, n_prompts, 4)], prompt)
    features = draw(seed + 1, len(prompt), 3)
    changed = features + 7 * (prompt == chosen)[:, None].astype(np.float32)
    _, residual = TopicRemoval.fit(features, prompts)
    topic, other = TopicRemoval.fit(changed, prompts)
    own = prompt == chosen
    np.testing.assert_allclose((changed - other)[own], (features - residual)[own], atol=1e-4)
    # The fit that is kept has seen it, and so have those behind prompts of other folds.
    assert np.abs((changed - other)[~own] - (features - residual)[~own]).max() > 1e-3
    assert np.abs(topic.apply(changed, prompts) - other)[own].max() > 1e-3


def test_pairs_without_a_prompts_row_in_training_do_not_need_it() -> None:
    blocks = [draw(0, 9, 3), draw_counts(1, 9, 5)]
    prompt = np.array([1, 4, 4, 7, 1, 8])
    features = draw(2, 6, 2)
    topic, residual = TopicRemoval.fit(features, PromptFeatures(blocks, prompt))
    used = [block[[1, 4, 7, 8]] for block in blocks]
    same, expected = TopicRemoval.fit(features, PromptFeatures(used, np.array([0, 1, 1, 2, 0, 3])))
    np.testing.assert_array_equal(residual, expected)
    np.testing.assert_array_equal(topic.weight, same.weight)


def test_what_follows_from_the_prompt_goes() -> None:
    known = draw(0, 2000, 3)
    prompt = np.arange(4000) % 2000
    standard = np.clip((known - known.mean(axis=0)) / known.std(axis=0), -5, 5)
    features = (standard @ draw(1, 3, 4) + draw(2, 4))[prompt]
    topic, residual = TopicRemoval.fit(features, PromptFeatures([known], prompt))
    assert topic.explained > 0.999
    assert np.square(residual).mean() < 1e-3 * features.var(axis=0).mean()
    assert np.square(topic.apply(features, PromptFeatures([known], prompt))).mean() < 1e-3


def test_what_does_not_follow_from_the_prompt_stays() -> None:
    prompt = np.arange(4000) % 2000
    features = draw(1, 4000, 4)
    topic, residual = TopicRemoval.fit(features, PromptFeatures([draw(0, 2000, 3)], prompt))
    assert -0.02 < topic.explained < 0.02
    assert residual.var() == pytest.approx(features.var(), rel=0.01)


def test_what_is_explained_is_held_out() -> None:
    # As many columns as prompts: a regression on what it has seen would predict most of this noise.
    prompts = PromptFeatures([30 * draw(0, 40, 40)], np.arange(40))
    features = draw(1, 40, 5)
    topic, residual = TopicRemoval.fit(features, prompts)
    assert np.square(topic.apply(features, prompts)).sum() < np.square(features).sum() / 2
    held_out = 1 - np.square(residual).sum() / np.square(features - features.mean(axis=0)).sum()
    assert topic.explained == pytest.approx(held_out, abs=1e-5) and held_out < 0


@pytest.mark.parametrize("value", [0.0, 1000.1])
def test_features_that_do_not_vary(value: float) -> None:
    features = np.full((20, 2), value, dtype=np.float32)
    topic, residual = TopicRemoval.fit(features, PromptFeatures([draw(0, 10, 3)], np.arange(20) % 10))
    assert topic.explained == 0
    np.testing.assert_allclose(residual, 0, atol=1e-3)


def test_a_single_prompt_has_its_mean_removed() -> None:
    features = draw(0, 8, 3)
    prompts = PromptFeatures([draw(1, 1, 2), draw_counts(2, 1, 4)], np.zeros(8, dtype=np.int64))
    topic, residual = TopicRemoval.fit(features, prompts)
    np.testing.assert_allclose(residual, features - features.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(topic.apply(features, prompts), residual, atol=1e-6)
    assert topic.explained == 0


def test_no_pairs_give_no_rows() -> None:
    blocks = [draw(0, 6, 2), draw_counts(1, 6, 5)]
    topic, _ = TopicRemoval.fit(draw(2, 12, 3), PromptFeatures(blocks, np.arange(12) % 6))
    none = PromptFeatures([block[:0] for block in blocks], np.zeros(0, dtype=np.int64))
    assert topic.apply(np.empty((0, 3), dtype=np.float32), none).shape == (0, 3)


def test_arrays_round_trip_bit_by_bit() -> None:
    blocks = [draw(0, 6, 2), draw_counts(1, 6, 5), draw(3, 6, 4)]
    prompts = PromptFeatures(blocks, np.arange(12) % 6)
    features = draw(2, 12, 3)
    topic, _ = TopicRemoval.fit(features, prompts)
    arrays = topic.to_arrays()
    again = TopicRemoval.from_arrays(arrays)
    assert arrays.keys() == again.to_arrays().keys()
    for name, value in again.to_arrays().items():
        assert value.dtype == arrays[name].dtype and value.flags.c_contiguous
        np.testing.assert_array_equal(value, arrays[name])
    np.testing.assert_array_equal(topic.apply(features, prompts), again.apply(features, prompts))
    assert again.explained == topic.explained


def test_moments_of_a_constant_column_are_not_those_of_its_rounding() -> None:
    rows = np.column_stack([np.full(1000, 1000.1), np.arange(1000)]).astype(np.float32)
    mean, scale = moments(rows)
    assert scale[0] == 1 and scale[1] == pytest.approx(np.sqrt((1000**2 - 1) / 12), rel=1e-5)
    np.testing.assert_allclose(mean, [1000.1, 499.5], rtol=1e-5)
