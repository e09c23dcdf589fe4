"""Features of texts through the cache: the one implementation behind both preprocessors.

Pairs are cut into chunks by their content, each of which the cache keeps as one entry. The chunks' features are put
together as one matrix, in memory or, where it is too large, in a mapped file that is gone with the process.
"""

from __future__ import annotations

import mmap
import tempfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Protocol, TypeAlias, final

import numpy as np
from scipy import sparse

from model_behavior.arrays import AnyArray, Float32Array, Int64Array
from model_behavior.preprocessing.cache import ContentCache
from model_behavior.preprocessing.entry_file import CacheEntry, digest_of

_MOST_NARROW = np.iinfo(np.int32).max  # counts in a matrix whose rows can be found with 32 bits
_WIDENED_AT_ONCE = 1 << 24
_MEAN_CHUNK = 1024
_LARGEST_CHUNK = 4096

Features: TypeAlias = Float32Array | sparse.csr_matrix
"""[n_pairs, dim]: dense values, or a CSR matrix of counts."""

EntryName: TypeAlias = tuple[str, str]
"""Kind and key of a cache entry."""

Progress: TypeAlias = Callable[[int, int], None]
"""Called with (pairs done, pairs in all)."""


class PairEncoder(Protocol):
    """The part of `TextEncoderBase` that the preprocessors use."""

    @property
    def name(self) -> str:
        """Name of the encoder."""

    @property
    def cache_fingerprint(self) -> str:
        """Key of everything that decides the output."""

    def use_cache(self, cache: ContentCache) -> None:
        """Sets the cache for files that are derived from the weights."""

    def encode(self, prompts: Sequence[str], responses: Sequence[str], batch_size: int) -> Features:
        """Encodes pairs, [n_pairs, dim]."""


def encode_through_cache(
    encoder: PairEncoder,
    prompts: Sequence[str],
    responses: Sequence[str],
    cache: ContentCache,
    batch_size: int,
    progress: Progress | None = None,
) -> Features:
    """Encodes pairs in order; equal ones of a chunk once, and none that an earlier run has encoded.

    Returns:
        [n_pairs, dim], dense float32 or CSR as the encoder gives it.
    """
    if len(prompts) != len(responses):
        raise ValueError(f"{len(prompts)} prompts but {len(responses)} responses")
    encoder.use_cache(cache)
    chunks = cut_by_content(prompts, responses)
    if len(chunks) == 1 and not cache.enabled and progress is None:
        return encoder.encode(prompts, responses, batch_size)
    stack = FeatureStack(cache.path, cache.memory.largest_matrix)
    for chunk in chunks:
        pairs = list(zip(prompts[chunk], responses[chunk], strict=True))
        distinct = _distinct(pairs)
        features = _encode_chunk(encoder, list(distinct), cache, batch_size)
        stack.append(features if len(distinct) == len(pairs) else features[[distinct[pair] for pair in pairs]])
        if progress is not None:
            progress(chunk.stop, len(responses))
    return stack.finish()


def name_entries(encoder: PairEncoder, prompts: Sequence[str], responses: Sequence[str]) -> list[EntryName]:
    """The cache entries that `encode_through_cache` reads or writes of these pairs, in order."""
    chunks = cut_by_content(prompts, responses)
    return [_name(encoder, list(_distinct(zip(prompts[part], responses[part], strict=True)))) for part in chunks]


def cut_by_content(prompts: Sequence[str], responses: Sequence[str]) -> list[slice]:
    """Cuts pairs into the chunks of which the cache keeps one entry each, about 1,000 pairs, at least one chunk.

    A chunk ends where the hash of a pair says so (content-defined chunking, Muthitacharoen et al. 2001): pairs added
    or removed somewhere change the chunk that they are in, and no other.
    """
    ends: list[int] = []
    start = 0
    for index, (prompt, response) in enumerate(zip(prompts, responses, strict=True), 1):
        code = zlib.crc32(response.encode("utf-8", "replace"), zlib.crc32(prompt.encode("utf-8", "replace")))
        if code % _MEAN_CHUNK == 0 or index - start == _LARGEST_CHUNK:
            ends.append(index)
            start = index
    if not ends or ends[-1] < len(responses):
        ends.append(len(responses))
    return [slice(begin, end) for begin, end in zip([0, *ends[:-1]], ends, strict=True)]


@final
class FeatureStack:
    """The rows of parts that are of one kind, one part after the other, as one matrix.

    Args:
        folder: folder of the file of a matrix that is too large for memory.
        in_memory: largest matrix to hold in memory, bytes. The values are the same either way.
    """

    def __init__(self, folder: Path, in_memory: int) -> None:
        self._folder = folder
        self._dense = _Spill(folder, in_memory)
        self._counts, self._columns = _Spill(folder, in_memory // 2), _Spill(folder, in_memory // 2)
        self._lengths: list[Int64Array] = []
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


def let_go(matrix: Features) -> None:
    """Gives the memory of a matrix in a mapped file back to the system; what is read again comes from the file."""
    for array in [matrix] if isinstance(matrix, np.ndarray) else [matrix.data, matrix.indices]:
        base: object = array
        while isinstance(base, np.ndarray):
            base = base.base
        if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            base.madvise(mmap.MADV_DONTNEED)


@final
class _Spill:
    """Arrays end to end: in memory, and beyond a number of bytes in a file without a name."""

    def __init__(self, folder: Path, in_memory: int) -> None:
        self._folder, self._left = folder, in_memory
        self._pieces: list[AnyArray] = []
        self._file: IO[bytes] | None = None
        self._rows = 0

    def append(self, piece: AnyArray) -> None:
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

    def finish(self) -> AnyArray:
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


def _encode_chunk(
    encoder: PairEncoder, chunk: Sequence[tuple[str, str]], cache: ContentCache, batch_size: int
) -> Features:
    def build() -> CacheEntry:
        encoded = encoder.encode([prompt for prompt, _ in chunk], [response for _, response in chunk], batch_size)
        return _to_entry(encoded)

    return _from_entry(cache.get_or_build(*_name(encoder, chunk), build))


def _distinct(pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """The different ones of a chunk, in order, and their places."""
    return {pair: place for place, pair in enumerate(dict.fromkeys(pairs))}


def _name(encoder: PairEncoder, distinct: Sequence[tuple[str, str]]) -> EntryName:
    key = digest_of(encoder.cache_fingerprint, *(text for pair in distinct for text in pair))
    return f"features-{encoder.name}", key


def _to_entry(features: Features) -> CacheEntry:
    if isinstance(features, np.ndarray):
        return CacheEntry({"dense": features}, {})
    arrays = {"counts": features.data, "columns": features.indices, "row_starts": features.indptr}
    return CacheEntry(arrays, {"shape": list(features.shape)})


def _from_entry(entry: CacheEntry) -> Features:
    arrays: Mapping[str, AnyArray] = entry.arrays
    if "dense" in arrays:
        return arrays["dense"]
    matrix = (arrays["counts"], arrays["columns"], arrays["row_starts"])
    return sparse.csr_matrix(matrix, shape=tuple(entry.metadata["shape"]))
