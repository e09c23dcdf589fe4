"""Parts of a feature matrix put together: in memory, or in a mapped file that is gone with the process."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse

IN_MEMORY = 1 << 30  # bytes; a larger matrix lies in a file

Features: TypeAlias = npt.NDArray[np.float32] | sparse.csr_matrix
"""[n_pairs, dim]: dense values, or a CSR matrix of counts."""


def stack_features(parts: Sequence[Features], folder: Path, in_memory: int = IN_MEMORY) -> Features:
    """The rows of all parts, which are of one kind, as one matrix, [n_rows, dim].

    Args:
        parts: at least one.
        folder: where the file lies of a matrix that is too large for memory.
        in_memory: largest matrix to hold in memory, bytes. The values are the same either way.
    """
    blocks = [part for part in parts if isinstance(part, np.ndarray)]
    if blocks:
        return np.concatenate(blocks) if _size(blocks) <= in_memory else _fill(blocks, folder)
    counts = [part for part in parts if not isinstance(part, np.ndarray)]
    data, indices = [part.data for part in counts], [part.indices for part in counts]
    if _size([*data, *indices]) <= in_memory:
        return sparse.vstack(counts, format="csr")
    lengths = np.concatenate([np.diff(part.indptr) for part in counts])
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
    index_type = np.int32 if starts[-1] <= np.iinfo(np.int32).max else np.int64
    columns = _fill(indices, folder, index_type)
    shape = (len(lengths), counts[0].shape[1])
    return sparse.csr_matrix((_fill(data, folder), columns, starts.astype(index_type)), shape=shape)


def _size(arrays: Sequence[npt.NDArray[Any]]) -> int:
    return sum(array.nbytes for array in arrays)


def _fill(arrays: Sequence[npt.NDArray[Any]], folder: Path, dtype: type | None = None) -> npt.NDArray[Any]:
    """The rows of all arrays in one, mapped to a file without a name, which the system removes at the end."""
    shape = (sum(len(array) for array in arrays), *arrays[0].shape[1:])
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        mapped = np.memmap(file, dtype or arrays[0].dtype, "w+", shape=shape)
    start = 0
    for array in arrays:
        mapped[start : start + len(array)] = array
        start += len(array)
    return np.asarray(mapped)
