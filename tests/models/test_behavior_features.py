"""The identity part from features to unit rows, and how an embedding is put together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from model_behavior.arrays import Float32Array, IntArray
from model_behavior.errors import UsageError
from model_behavior.models.behavior.behavior_features import BehaviorFeatures, FeatureConfig, compose
from model_behavior.models.behavior.topic_removal import PromptFeatures
from model_behavior.preprocessing.feature_cache import Features

Array = Float32Array
N_PAIRS, N_PROMPTS = 240, 40


def draw(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def draw_counts(seed: int, *shape: int) -> sparse.csr_matrix:
    return sparse.csr_matrix(np.random.default_rng(seed).poisson(1, size=shape).astype(np.float32))


PROMPTS = PromptFeatures([draw(90, N_PROMPTS, 3), draw_counts(91, N_PROMPTS, 6)], np.arange(N_PAIRS) % N_PROMPTS)


def models_of(n_models: int) -> IntArray:
    return np.random.default_rng(5).permutation(np.arange(N_PAIRS) % n_models)


def features_of(model: IntArray) -> list[Features]:
    """Dense features and counts that differ between models."""
    rng = np.random.default_rng(7)
    dense = draw(8, N_PAIRS, 5) + rng.normal(size=(int(model.max()) + 1, 5))[model]
    rates = rng.gamma(1.0, 2.0, size=(int(model.max()) + 1, 12))[model]
    return [dense.astype(np.float32), sparse.csr_matrix(rng.poisson(rates).astype(np.float32))]


def fit(features: Sequence[Features], n_models: int, identity_dim: int, config: FeatureConfig | None = None) -> Array:
    model = models_of(n_models)
    return BehaviorFeatures.fit(features, PROMPTS, model, config or FeatureConfig(), identity_dim)[1].identity


@pytest.mark.parametrize("remove_topic", [True, False])
@pytest.mark.parametrize("kinds", [(0,), (1,), (0, 1), (1, 0)])
def test_identity_rows_have_length_one_and_part_models(kinds: tuple[int, ...], remove_topic: bool) -> None:
    model = models_of(4)
    features = [features_of(model)[kind] for kind in kinds]
    config = FeatureConfig(remove_topic=remove_topic)
    fitted, blocks = BehaviorFeatures.fit(features, PROMPTS, model, config, identity_dim=6)
    assert blocks.identity.shape == (N_PAIRS, 6) and blocks.identity.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(blocks.identity, axis=1), 1, atol=1e-5)
    # Four means span three dimensions.
    assert not blocks.identity[:, 3:].any()
    cosine = blocks.identity @ blocks.identity.T
    same = model[:, None] == model
    np.fill_diagonal(same, val=False)
    assert cosine[same].mean() > cosine[model[:, None] != model].mean() + 0.3
    again = fitted.transform(features, PROMPTS)
    assert np.einsum("ij,ij->i", again.identity, blocks.identity).mean() > 0.9
    assert fitted.span.flags.c_contiguous


def test_without_topic_removal_training_pairs_are_as_any_others() -> None:
    model = models_of(3)
    features = features_of(model)
    none = PromptFeatures((), PROMPTS.prompt)
    fitted, blocks = BehaviorFeatures.fit(features, none, model, FeatureConfig(remove_topic=False), 4)
    again = fitted.transform(features, none)
    np.testing.assert_array_equal(again.identity, blocks.identity)
    np.testing.assert_array_equal(again.blocks[0], blocks.blocks[0])
    assert again.blocks[1] is features[1]


def test_rows_are_transformed_one_by_one() -> None:
    model = models_of(3)
    features = features_of(model)
    fitted, _ = BehaviorFeatures.fit(features, PROMPTS, model, FeatureConfig(), 4)
    whole = fitted.transform(features, PROMPTS).identity
    some = np.array([5, 200, 17])
    prompts = PromptFeatures(PROMPTS.blocks, PROMPTS.prompt[some])
    part = fitted.transform([block[some] for block in features], prompts).identity
    np.testing.assert_allclose(part, whole[some], atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(st.floats(0.01, 100), st.floats(-10, 10))
def test_units_of_dense_features_do_not_change_identity(factor: float, offset: float) -> None:
    dense, counts = features_of(models_of(4))
    changed = (dense.astype(np.float64) * factor * np.arange(1, 6) + factor * offset).astype(np.float32)
    first, second = fit([dense, counts], 4, 6), fit([changed, counts], 4, 6)
    # The axes of the span may turn; angles stay.
    np.testing.assert_allclose(first @ first.T, second @ second.T, atol=1e-2)


def test_a_weight_of_zero_leaves_counts_out() -> None:
    dense, counts = features_of(models_of(3))
    alone = fit([dense], 3, 4)
    both = fit([dense, counts], 3, 4, FeatureConfig(rate_weight=0))
    np.testing.assert_allclose(both @ both.T, alone @ alone.T, atol=1e-4)
    assert np.abs(fit([dense, counts], 3, 4) @ both.T).min() < 0.9


def test_no_identity_part() -> None:
    model = models_of(3)
    fitted, blocks = BehaviorFeatures.fit(features_of(model), PROMPTS, model, FeatureConfig(), identity_dim=0)
    again = BehaviorFeatures.from_arrays(fitted.to_arrays())
    assert not again.discriminants and again.identity_dim == 0
    for each in (blocks, fitted.transform(features_of(model), PROMPTS), again.transform(features_of(model), PROMPTS)):
        assert each.identity.shape == (N_PAIRS, 0)


@pytest.mark.parametrize("n_models", [1, 2, 3])
@pytest.mark.parametrize(
    "features",
    [
        [np.full((N_PAIRS, 3), 1000.1, dtype=np.float32)],
        [draw(1, N_PAIRS, 1)],
        [sparse.csr_matrix((N_PAIRS, 4), dtype=np.float32)],
        [draw(1, N_PAIRS, 2), sparse.csr_matrix((N_PAIRS, 4), dtype=np.float32)],
        [np.zeros((N_PAIRS, 1), dtype=np.float32), sparse.csr_matrix(np.ones((N_PAIRS, 1), dtype=np.float32))],
    ],
    ids=["constant", "one feature", "no counts", "dense and no counts", "all constant"],
)
def test_little_to_go_by_gives_finite_rows(features: list[Features], n_models: int) -> None:
    fitted, blocks = BehaviorFeatures.fit(features, PROMPTS, models_of(n_models), FeatureConfig(), 4)
    for each in (blocks, fitted.transform(features, PROMPTS)):
        assert each.identity.shape == (N_PAIRS, 4) and np.isfinite(each.identity).all()
        length = np.linalg.norm(each.identity, axis=1)
        assert np.minimum(np.abs(length - 1), length).max() < 1e-5


def test_no_pairs_give_no_rows() -> None:
    model = models_of(3)
    fitted, _ = BehaviorFeatures.fit(features_of(model), PROMPTS, model, FeatureConfig(), 4)
    none = PromptFeatures([block[:0] for block in PROMPTS.blocks], np.zeros(0, dtype=np.int64))
    blocks = fitted.transform([block[:0] for block in features_of(model)], none)
    assert blocks.identity.shape == (0, 4)
    assert [block.shape[0] for block in blocks.blocks] == [0, 0]


def test_arrays_round_trip_bit_by_bit_and_lie_in_order() -> None:
    model = models_of(4)
    # More than ten encoders, so that names are told apart by their whole number.
    features = [features_of(model)[index % 2] for index in range(12)]
    fitted, _ = BehaviorFeatures.fit(features, PROMPTS, model, FeatureConfig(rate_weight=0.3), 6)
    arrays = fitted.to_arrays()
    again = BehaviorFeatures.from_arrays(arrays)
    assert arrays.keys() == again.to_arrays().keys()
    for name, value in again.to_arrays().items():
        assert value.dtype == arrays[name].dtype and value.flags.c_contiguous and arrays[name].flags.c_contiguous
        np.testing.assert_array_equal(value, arrays[name])
    expected, found = fitted.transform(features, PROMPTS), again.transform(features, PROMPTS)
    np.testing.assert_array_equal(expected.identity, found.identity)
    np.testing.assert_array_equal(expected.blocks[0], found.blocks[0])


def test_compose_by_hand() -> None:
    quality, identity = np.array([[1, 0], [0, 1]], np.float32), np.array([[0.6, 0.8], [0, 0]], np.float32)
    # 0.75 beside 1 is 0.6 beside 0.8; where nothing tells models apart the trained part is all there is.
    np.testing.assert_allclose(
        compose(quality, identity, 0.75), np.array([[0.8, 0, 0.36, 0.48], [0, 1, 0, 0]]), atol=1e-6
    )
    assert compose(quality[:0], identity[:0], 0.5).shape == (0, 4)
    np.testing.assert_array_equal(compose(quality, identity[:, :0], 0.5), quality)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 99), st.floats(0, 4))
def test_a_cosine_is_the_weighted_mean_of_both_parts(seed: int, weight: float) -> None:
    quality, identity = (
        each / np.linalg.norm(each, axis=1, keepdims=True) for each in (draw(seed, 5, 3), draw(9, 5, 2))
    )
    joined = compose(quality, identity, weight)
    assert joined.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(joined, axis=1), 1, atol=1e-5)
    expected = (quality @ quality.T + weight**2 * identity @ identity.T) / (1 + weight**2)
    np.testing.assert_allclose(joined @ joined.T, expected, atol=1e-5)


@pytest.mark.parametrize("name", ["identity_weight", "dense_shrinkage", "rate_shrinkage", "rate_weight"])
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_settings_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"{name}={value}: a finite number of 0 or more"):
        FeatureConfig(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["rate_columns", "fitted_pairs"])
def test_numbers_below_one_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name}=0: at least 1"):
        FeatureConfig(**{name: 0})  # type: ignore[arg-type]
