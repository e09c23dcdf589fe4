"""A feature matrix put together from parts: in memory, or in a mapped file that is gone with the process."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import IO, Any, TypeAlias, final

import numpy as np
import numpy.typing as npt
from scipy import sparse

IN_MEMORY = 1 << 30  # bytes; a larger matrix lies in a file
_MOST_NARROW = np.iinfo(np.int32).max  # counts in a matrix whose rows can be found with 32 bits
_WIDENED_AT_ONCE = 1 << 24

Features: TypeAlias = npt.NDArray[np.float32] | sparse.csr_matrix
"""[n_pairs, dim]: dense values, or a CSR matrix of counts."""


@final
class FeatureStack:
    """The rows of parts that are of one kind, one part after the other, as one matrix.

    Args:
        folder: where the file lies of a matrix that is too large for memory.
        in_memory: largest matrix to hold in memory, bytes. The values are the same either way.
    """

    def __init__(self, folder: Path, in_memory: int = IN_MEMORY) -> None:
        self._folder = folder
        self._dense = _Spill(folder, in_memory)
        self._counts, self._columns = _Spill(folder, in_memory // 2), _Spill(folder, in_memory // 2)
        self._lengths: list[npt.NDArray[np.int64]] = []
        self._dim = 0

    def append(self, part: Features) -> None:
        """Adds rows, [n_rows, dim]."""
        if isinstance(part, np.ndarray):
            self._dense.append(part)
            return
        self._counts.append(part.data)
        self._columns.append(part.indices)
        self._lengths.append(np.diff(part.indptr))
        self._dim = part.shape[1]

    def finish(self) -> Features:
        """All rows, [n_rows, dim], of at least one part; nothing can be added any more."""
        if not self._lengths:
            return self._dense.finish()
        lengths = np.concatenate(self._lengths)
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
        columns = self._columns.finish()
        if starts[-1] <= _MOST_NARROW:
            starts = starts.astype(np.int32)
        else:  # SciPy wants both of one type, and would widen the columns in memory
            wide = _Spill(self._folder, 0)
            for start in range(0, len(columns), _WIDENED_AT_ONCE):
                wide.append(columns[start : start + _WIDENED_AT_ONCE].astype(np.int64))
            columns = wide.finish()
        return sparse.csr_matrix((self._counts.finish(), columns, starts), shape=(len(lengths), self._dim))


@final
class _Spill:
    """Arrays end to end: in memory, and beyond a number of bytes in a file without a name."""

    def __init__(self, folder: Path, in_memory: int) -> None:
        self._folder, self._left = folder, in_memory
        self._pieces: list[npt.NDArray[Any]] = []
        self._file: IO[bytes] | None = None
        self._rows = 0

    def append(self, piece: npt.NDArray[Any]) -> None:
        self._rows += len(piece)
        self._left -= piece.nbytes
        self._pieces.append(piece)
        if self._left < 0:
            if self._file is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - closed in `finish`
            for each in self._pieces:
                each.tofile(self._file)
            self._pieces = [piece[:0]]

    def finish(self) -> npt.NDArray[Any]:
        last = self._pieces[-1]
        shape = (self._rows, *last.shape[1:])
        if self._file is not None:
            with self._file as file:
                file.flush()
                return np.asarray(np.memmap(file, last.dtype, "r+", shape=shape))
        if len(self._pieces) == 1:
            return last
        whole = np.empty(shape, last.dtype)
        start = self._rows
        while self._pieces:  # each piece goes before the next is copied, so that memory never holds all twice
            piece = self._pieces.pop()
            start -= len(piece)
            whole[start : start + len(piece)] = piece
        return whole
