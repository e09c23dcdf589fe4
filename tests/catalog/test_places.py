"""Projections of the map against a plain SVD, and their determinism."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from model_behavior.catalog.places import fit_axes, project
from model_behavior.errors import MissingExtraError, UsageError


@pytest.fixture
def embeddings() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(12, 5))


def test_pca_is_the_svd_of_the_centred_embeddings(embeddings: np.ndarray) -> None:
    left, singular, _ = np.linalg.svd(embeddings - embeddings.mean(0), full_matrices=False)
    points = project(embeddings, "pca", seed=0)
    assert points.shape == (12, 2)
    np.testing.assert_allclose(np.abs(points), np.abs(left[:, :2] * singular[:2]), atol=1e-12)


def test_pca_signs_make_the_largest_loading_positive(embeddings: np.ndarray) -> None:
    centred = embeddings - embeddings.mean(0)
    for points in (project(embeddings, "pca", 0), project(embeddings[::-1], "pca", 1)[::-1]):
        loadings = np.linalg.lstsq(centred, points, rcond=None)[0]
        assert (loadings[np.abs(loadings).argmax(0), [0, 1]] > 0).all()
    np.testing.assert_allclose(points, project(embeddings, "pca", 0), atol=1e-12)


def test_pca_of_one_dimension_and_of_equal_models_stays_finite() -> None:
    line = project(np.array([[0.0], [1.0], [3.0]]), "pca", 0)
    np.testing.assert_allclose(line, [[-4 / 3, 0], [-1 / 3, 0], [5 / 3, 0]], atol=1e-12)
    np.testing.assert_array_equal(project(np.ones((4, 3)), "pca", 0), np.zeros((4, 2)))


@pytest.mark.parametrize("n", [3, 12])
def test_tsne_is_deterministic_for_a_seed_also_for_few_models(embeddings: np.ndarray, n: int) -> None:
    first = project(embeddings[:n], "tsne", seed=1)
    assert first.shape == (n, 2)
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, project(embeddings[:n], "tsne", seed=1))


def test_umap_is_deterministic_for_a_seed(embeddings: np.ndarray) -> None:
    pytest.importorskip("umap")
    np.testing.assert_array_equal(project(embeddings, "umap", 1), project(embeddings, "umap", 1))


def test_umap_without_its_extra_names_the_install(embeddings: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(MissingExtraError, match=r"UMAP .*pip install 'model-behavior\[umap\]'"):
        project(embeddings, "umap", 0)


def test_unusable_input_is_a_usage_error(embeddings: np.ndarray) -> None:
    with pytest.raises(UsageError, match="at least 3 models, and there are 2"):
        project(embeddings[:2], "pca", 0)
    for method in ("pca", "tsne"):
        with pytest.raises(UsageError, match="NaN"):
            project(np.full((3, 2), np.nan), method, 0)
    with pytest.raises(UsageError, match="NaN"):
        fit_axes(np.full((3, 2), np.inf))
    with pytest.raises(UsageError, match=r"'mds'.*pca, tsne, umap"):
        project(embeddings, "mds", 0)  # type: ignore[arg-type]


def test_pca_gives_the_places_on_the_axes(embeddings: np.ndarray) -> None:
    np.testing.assert_array_equal(project(embeddings), fit_axes(embeddings).place(embeddings))
