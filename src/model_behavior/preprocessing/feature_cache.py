"""Features of texts through the cache: the one implementation behind both preprocessors."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse

from model_behavior.preprocessing.cache import ContentCache
from model_behavior.preprocessing.entry_file import CacheEntry, digest_of
from model_behavior.preprocessing.large_features import Features as Features
from model_behavior.preprocessing.large_features import FeatureStack

_MEAN_CHUNK = 1024
_LARGEST_CHUNK = 4096

Progress: TypeAlias = Callable[[int, int], None]
"""Called with (pairs done, pairs in all)."""


class PairEncoder(Protocol):
    """What `TextEncoderBase` offers to the preprocessors."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def cache_fingerprint(self) -> str:
        """Names all that decides the output."""

    def use_cache(self, cache: ContentCache) -> None:
        """Told where files that are derived from the weights may be kept."""

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
    encoder.use_cache(cache)
    stack = FeatureStack(cache.path)
    for chunk in cut_by_content(prompts, responses):
        pairs = list(zip(prompts[chunk], responses[chunk], strict=True))
        distinct = {pair: place for place, pair in enumerate(dict.fromkeys(pairs))}
        features = _encode_chunk(encoder, list(distinct), cache, batch_size)
        stack.append(features if len(distinct) == len(pairs) else features[[distinct[pair] for pair in pairs]])
        if progress is not None:
            progress(chunk.stop, len(responses))
    return stack.finish()


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


def _encode_chunk(
    encoder: PairEncoder, chunk: Sequence[tuple[str, str]], cache: ContentCache, batch_size: int
) -> Features:
    key = digest_of(encoder.cache_fingerprint, *(text for pair in chunk for text in pair))

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
