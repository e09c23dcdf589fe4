"""Vectors of prompts alone, for scoring."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import final

from model_behavior.data.canonical_text import canonical_prompt
from model_behavior.preprocessing.cache import ContentCache
from model_behavior.preprocessing.feature_cache import (
    EntryName,
    Features,
    PairEncoder,
    Progress,
    cut_by_content,
    encode_through_cache,
    name_entries,
)


@final
class PromptEmbeddingPreprocessor:
    """Encodes prompts through the cache.

    Args:
        encoder: any `TextEncoderBase`.
        cache: shared with `BehaviorEmbeddingPreprocessor`.
    """

    def __init__(self, encoder: PairEncoder, cache: ContentCache) -> None:
        self._encoder = encoder
        self._cache = cache

    def preprocess(self, prompts: Sequence[str], batch_size: int = 32, progress: Progress | None = None) -> Features:
        """Encodes each prompt's canonical form as a text of its own, [n_prompts, dim]."""
        return encode_through_cache(self._encoder, *_as_pairs(prompts), self._cache, batch_size, progress)

    def name_entries(self, prompts: Sequence[str]) -> list[EntryName]:
        """The cache entries that `preprocess` reads or writes."""
        return name_entries(self._encoder, *_as_pairs(prompts))


def cut_prompts(prompts: Iterable[str]) -> list[slice]:
    """The prompts of each cache entry; see `cut_by_content`."""
    return cut_by_content(*_as_pairs(prompts))


def _as_pairs(prompts: Iterable[str]) -> tuple[list[str], list[str]]:
    """An encoder looks at the response; a prompt alone is therefore the response to nothing."""
    texts = list(map(canonical_prompt, prompts))
    return [""] * len(texts), texts
