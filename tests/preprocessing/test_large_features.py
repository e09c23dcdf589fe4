"""A matrix in a mapped file is the matrix that memory would hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from model_behavior.preprocessing import feature_cache as large_features
from model_behavior.preprocessing.feature_cache import Features, FeatureStack, let_go

LIMITS = [0, 300, 1 << 20]  # bytes: all in a file, all from the second part on, all in memory
CUTS = [slice(0, 11), slice(11, 11), slice(11, 12), slice(12, 40)]


def stack(parts: Sequence[Features], folder: Path, in_memory: int) -> Features:
    stacked = FeatureStack(folder, in_memory)
    for part in parts:
        stacked.append(part)
    return stacked.finish()


@pytest.mark.parametrize("in_memory", LIMITS)
def test_dense_rows_are_stacked(tmp_path: Path, in_memory: int) -> None:
    rows = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    stacked = stack([rows[cut] for cut in CUTS], tmp_path / "new", in_memory)
    assert isinstance(stacked, np.ndarray)
    assert stacked.dtype == np.float32
    np.testing.assert_array_equal(stacked, rows)
    assert not list(tmp_path.glob("new/*"))
    assert (tmp_path / "new").exists() == (in_memory < rows.nbytes)


@pytest.mark.parametrize("in_memory", LIMITS)
def test_counts_are_stacked(tmp_path: Path, in_memory: int) -> None:
    counts = sparse.random(40, 9, 0.3, "csr", np.float32, np.random.default_rng(1))
    expected = sparse.vstack([counts[cut] for cut in CUTS], format="csr")
    stacked = stack([counts[cut] for cut in CUTS], tmp_path, in_memory)
    assert isinstance(stacked, sparse.csr_matrix)
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(stacked, name), getattr(expected, name))
        assert getattr(stacked, name).dtype == getattr(expected, name).dtype
    assert stacked.shape == (40, 9)


def test_more_counts_than_32_bits_can_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_features, "_MOST_NARROW", 20)
    monkeypatch.setattr(large_features, "_WIDENED_AT_ONCE", 7)
    counts = sparse.random(40, 9, 0.3, "csr", np.float32, np.random.default_rng(1))
    stacked = stack([counts[:3], counts[3:]], tmp_path, 0)
    assert isinstance(stacked, sparse.csr_matrix)
    np.testing.assert_array_equal(stacked.toarray(), counts.toarray())


@pytest.mark.parametrize("in_memory", LIMITS)
def test_a_matrix_that_is_let_go_is_read_again(tmp_path: Path, in_memory: int) -> None:
    rows = np.arange(120, dtype=np.float32).reshape(40, 3)
    for matrix in (stack([rows], tmp_path, in_memory), stack([sparse.csr_matrix(rows)], tmp_path, in_memory)):
        let_go(matrix)
        let_go(matrix[3:9])
        dense = matrix if isinstance(matrix, np.ndarray) else matrix.toarray()
        np.testing.assert_array_equal(dense, rows)


def test_parts_without_rows_are_a_matrix_without_rows(tmp_path: Path) -> None:
    assert stack([np.zeros((0, 3), np.float32)] * 2, tmp_path, 0).shape == (0, 3)
    assert stack([sparse.csr_matrix((0, 5), dtype=np.float32)], tmp_path, 0).shape == (0, 5)
