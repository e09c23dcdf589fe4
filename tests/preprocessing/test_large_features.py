"""A matrix in a mapped file is the matrix that memory would hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from model_behavior.preprocessing.large_features import stack_features


@pytest.mark.parametrize("in_memory", [0, 1 << 20])
def test_dense_rows_are_stacked(tmp_path: Path, in_memory: int) -> None:
    rows = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    stacked = stack_features([rows[:20], rows[20:21], rows[21:]], tmp_path / "new", in_memory)
    assert isinstance(stacked, np.ndarray)
    assert stacked.dtype == np.float32
    np.testing.assert_array_equal(stacked, rows)
    assert not list(tmp_path.glob("new/*"))


@pytest.mark.parametrize("in_memory", [0, 1 << 20])
def test_counts_are_stacked(tmp_path: Path, in_memory: int) -> None:
    counts = sparse.random(40, 9, 0.3, "csr", np.float32, np.random.default_rng(1))
    expected = sparse.vstack([counts[:11], counts[11:11], counts[11:]], format="csr")
    stacked = stack_features([counts[:11], counts[11:11], counts[11:]], tmp_path, in_memory)
    assert isinstance(stacked, sparse.csr_matrix)
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(stacked, name), getattr(expected, name))
        assert getattr(stacked, name).dtype == getattr(expected, name).dtype
    assert stacked.shape == (40, 9)
