"""Features of texts through the cache: the one implementation behind both preprocessors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse

from model_behavior.preprocessing.cache import ContentCache
from model_behavior.preprocessing.entry_file import CacheEntry, digest_of

CHUNK = 1024
"""Pairs per cache entry: an interrupted run loses at most this many."""

Features: TypeAlias = npt.NDArray[np.float32] | sparse.csr_matrix
"""[n_pairs, dim]: dense values, or a CSR matrix of counts."""
Progress: TypeAlias = Callable[[int, int], None]
"""Called with (pairs done, pairs in all)."""


class PairEncoder(Protocol):
    """What `TextEncoderBase` offers to the preprocessors."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def fingerprint(self) -> str:
        """Hash of all that decides the output."""

    def encode(self, prompts: Sequence[str], responses: Sequence[str], batch_size: int) -> Features:
        """[n_pairs, dim]."""


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
    parts: list[Features] = []
    for start in range(0, max(len(responses), 1), CHUNK):
        # Chunks are cut by position, so that the same texts read again in other portions give the same entries.
        pairs = list(zip(prompts[start : start + CHUNK], responses[start : start + CHUNK], strict=True))
        distinct = {pair: place for place, pair in enumerate(dict.fromkeys(pairs))}
        features = _encode_chunk(encoder, list(distinct), cache, batch_size)
        parts.append(features if len(distinct) == len(pairs) else features[[distinct[pair] for pair in pairs]])
        if progress is not None:
            progress(start + len(pairs), len(responses))
    return np.concatenate(parts) if isinstance(parts[0], np.ndarray) else sparse.vstack(parts, format="csr")


def _encode_chunk(
    encoder: PairEncoder, chunk: Sequence[tuple[str, str]], cache: ContentCache, batch_size: int
) -> Features:
    key = digest_of(encoder.fingerprint, *(text for pair in chunk for text in pair))

    def build() -> CacheEntry:
        encoded = encoder.encode([prompt for prompt, _ in chunk], [response for _, response in chunk], batch_size)
        return _to_entry(encoded)

    return _from_entry(cache.get_or_build(f"features-{encoder.name}", key, build))


def _to_entry(features: Features) -> CacheEntry:
    if isinstance(features, np.ndarray):
        return CacheEntry({"dense": features}, {})
    arrays = {"counts": features.data, "columns": features.indices, "row_starts": features.indptr}
    return CacheEntry(arrays, {"shape": list(features.shape)})


def _from_entry(entry: CacheEntry) -> Features:
    arrays: Mapping[str, npt.NDArray[Any]] = entry.arrays
    if "dense" in arrays:
        return arrays["dense"]
    matrix = (arrays["counts"], arrays["columns"], arrays["row_starts"])
    return sparse.csr_matrix(matrix, shape=tuple(entry.metadata["shape"]))
