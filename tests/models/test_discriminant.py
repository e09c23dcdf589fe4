"""Linear discriminant analysis against scikit-learn's, and its properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_behavior.arrays import Float32Array, Float64Array, FloatArray, Int64Array
from model_behavior.models.behavior.discriminant import Discriminant, principal_span

Array = Float32Array


def draw_models(seed: int, n_models: int, n_features: int, n_pairs: int = 300) -> tuple[Array, Int64Array]:
    """Models with means of their own in correlated noise, conditioned well enough for single precision."""
    rng = np.random.default_rng(seed)
    model = np.arange(n_pairs) % n_models
    means = rng.normal(size=(n_models, n_features))
    mixing = np.linalg.qr(rng.normal(size=(n_features, n_features)))[0] * rng.uniform(0.3, 3, n_features)
    rows = 2 * means[model] + rng.normal(size=(n_pairs, n_features)) @ mixing + rng.normal(size=n_features)
    return rows.astype(np.float32), model


def within_by_loops(rows: Array, model: Int64Array) -> Float64Array:
    total = np.zeros((rows.shape[1], rows.shape[1]))
    for each in set(model.tolist()):
        own = rows[model == each].astype(np.float64)
        for row in own - own.mean(axis=0):
            total += np.outer(row, row)
    return total / len(rows)


def span_of(columns: FloatArray) -> Float64Array:
    """The orthogonal projection onto the columns, which is the same for every basis of their span."""
    basis, _ = np.linalg.qr(columns.astype(np.float64))
    projection: Float64Array = basis @ basis.T
    return projection


@pytest.mark.parametrize("n_models", [2, 3, 5])
def test_it_spans_what_that_of_scikit_learn_does(n_models: int) -> None:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    rows, model = draw_models(n_models, n_models, 6)
    expected = LinearDiscriminantAnalysis(solver="eigen").fit(rows.astype(np.float64), model)
    found = Discriminant.fit(rows, model, shrinkage=0, directions=99)
    assert found.projection.shape == (6, n_models - 1)
    np.testing.assert_allclose(span_of(found.projection), span_of(expected.scalings_[:, : n_models - 1]), atol=1e-3)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 5), st.integers(1, 6), st.integers(0, 99), st.sampled_from([0.0, 0.1, 2.0]))
def test_projected_rows_have_the_identity_as_covariance_within_models(
    n_models: int, n_features: int, seed: int, shrinkage: float
) -> None:
    rows, model = draw_models(seed, n_models, n_features)
    found = Discriminant.fit(rows, model, shrinkage, directions=99)
    within = within_by_loops(rows, model)
    within += max(shrinkage, 1e-6) * np.trace(within) / n_features * np.eye(n_features)
    whitened = found.projection.T.astype(np.float64) @ within @ found.projection
    np.testing.assert_allclose(whitened, np.eye(min(n_models - 1, n_features)), atol=1e-3)


def test_means_of_models_are_apart() -> None:
    # The models differ in the third feature only, which varies least; the others are noise.
    model = np.arange(400) % 2
    rows = np.random.default_rng(0).normal(size=(400, 4)) * [50, 5, 0.1, 20]
    rows[:, 2] += model
    found = Discriminant.fit(rows.astype(np.float32), model, shrinkage=0, directions=1)
    projected = found.apply(rows.astype(np.float32))
    assert projected.shape == (400, 1)
    assert set(np.sign(projected[model == 0, 0])) == {-np.sign(projected[model == 1, 0][0])}


def test_fewer_directions_are_the_ones_that_part_models_most() -> None:
    rows = np.random.default_rng(0).normal(size=(3000, 3))
    model = np.arange(3000) % 4
    rows[:, 0] += np.array([-4, -4, 4, 4])[model]
    rows[:, 1] += np.array([-1, 1, -1, 1])[model]
    found = Discriminant.fit(rows.astype(np.float32), model, shrinkage=0, directions=1)
    direction = found.projection[:, 0] / np.linalg.norm(found.projection)
    assert abs(direction[0]) > 0.99


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 5), st.integers(1, 5), st.integers(0, 99))
def test_an_affine_change_of_the_features_changes_no_angle(n_models: int, n_features: int, seed: int) -> None:
    rows, model = draw_models(seed, n_models, n_features)
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(n_features, n_features)))
    changed = (rows @ (rotation * rng.uniform(0.5, 2, n_features)) + rng.normal(size=n_features)).astype(np.float32)
    first, second = (Discriminant.fit(each, model, 0, 99).apply(each) for each in (rows, changed))
    np.testing.assert_allclose(first @ first.T, second @ second.T, atol=2e-2)
    assert np.abs(first @ first.T - second @ second.T).mean() < 1e-3


def test_names_of_models_do_not_matter() -> None:
    rows, model = draw_models(1, 3, 4)
    plain, named = (Discriminant.fit(rows, each, 0.1, 2) for each in (model, np.array([7, 30, 31])[model]))
    np.testing.assert_array_equal(plain.projection, named.projection)


def test_rows_have_length_one_and_the_centre_is_zero() -> None:
    rows, model = draw_models(2, 4, 5)
    found = Discriminant.fit(rows, model, 0.03, 3)
    unit = found.apply(rows)
    assert unit.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-5)
    assert found.apply(found.centre[None]).tolist() == [[0, 0, 0]]
    assert found.apply(rows[:0]).shape == (0, 3)


def test_collinear_features_need_no_shrinkage() -> None:
    rows = np.abs(np.random.default_rng(0).normal(size=(5000, 40))).astype(np.float32)
    rows = 30 * np.concatenate([rows, rows * 3, rows + rows[:, ::-1]], axis=1)
    found = Discriminant.fit(rows, np.arange(5000) % 3, shrinkage=0, directions=4)
    assert np.isfinite(found.apply(rows)).all()


@pytest.mark.parametrize(
    ("rows", "n_models"),
    [
        (np.full((20, 3), 0.1, np.float32), 2),
        (np.arange(20, dtype=np.float32)[:, None], 2),
        (np.empty((20, 0), np.float32), 3),
        (np.arange(40, dtype=np.float32).reshape(20, 2), 1),
        (np.arange(40, dtype=np.float32).reshape(20, 2), 20),
    ],
    ids=["constant", "one feature", "no feature", "one model", "one pair of each model"],
)
def test_little_to_go_by_gives_finite_rows(rows: Array, n_models: int) -> None:
    found = Discriminant.fit(rows, np.arange(20) % n_models, 0.03, 2)
    assert np.isfinite(found.apply(rows)).all()
    centre, span = principal_span(rows, np.arange(20) % n_models, 2)
    assert np.isfinite((rows - centre) @ span).all()


def test_arrays_round_trip_bit_by_bit_and_lie_in_order() -> None:
    rows, model = draw_models(3, 4, 5)
    found = Discriminant.fit(rows, model, 0.03, 2)
    assert found.projection.flags.c_contiguous and found.centre.flags.c_contiguous
    again = Discriminant.from_arrays(found.to_arrays())
    np.testing.assert_array_equal(found.apply(rows), again.apply(rows))
    for name, value in again.to_arrays().items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, found.to_arrays()[name])


def test_the_principal_span_holds_every_mean() -> None:
    rows, model = draw_models(4, 4, 6)
    centre, span = principal_span(rows, model, 99)
    assert span.shape == (6, 3) and span.flags.c_contiguous and span.dtype == np.float32
    np.testing.assert_allclose(span.T @ span, np.eye(3), atol=1e-5)
    means = np.stack([rows[model == each].mean(axis=0) for each in range(4)])
    np.testing.assert_allclose(centre, means.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose((means - centre) @ span @ span.T, means - centre, atol=1e-4)


def test_the_principal_span_is_that_of_means_not_of_pairs() -> None:
    # One model has most of the pairs: the centre lies between the means all the same.
    rows = np.array([[0, 0]] * 9 + [[4, 0]], dtype=np.float32)
    centre, span = principal_span(rows, np.array([0] * 9 + [1]), 2)
    assert centre.tolist() == [2, 0]
    assert np.abs(span).tolist() == [[1], [0]]
