"""Vectors of prompts alone, for scoring."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from model_behavior.data.canonical_text import canonical_prompt
from model_behavior.preprocessing.cache import ContentCache
from model_behavior.preprocessing.feature_cache import Features, PairEncoder, Progress, encode_through_cache


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
        prompts = list(map(canonical_prompt, prompts))
        # An encoder looks at the response; a prompt alone is therefore the response to nothing.
        return encode_through_cache(self._encoder, [""] * len(prompts), prompts, self._cache, batch_size, progress)
