"""Features of pairs and of their prompts from several text encoders, through the cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from model_behavior.data.text_columns import LazyTexts
from model_behavior.data_models.votes import PairTable
from model_behavior.models.behavior.encoder_base import TextEncoderBase
from model_behavior.models.behavior.monitor import Runtime
from model_behavior.models.behavior.topic_removal import PromptFeatures
from model_behavior.preprocessing.feature_cache import Features, encode_through_cache
from model_behavior.preprocessing.prompt_embedding_preprocessor import PromptEmbeddingPreprocessor


@dataclass(frozen=True)
class PairFeatureSource:
    """Encodes pairs, and their prompts where the topic is to be removed.

    Attributes:
        text_encoders: whose features stand side by side.
        runtime: the cache, and who is told of the progress.
        batch_size: pairs encoded at once.
        with_prompts: whether prompts are encoded, too.
    """

    text_encoders: Sequence[TextEncoderBase]
    runtime: Runtime
    batch_size: int
    with_prompts: bool

    def of_table(self, pairs: PairTable) -> tuple[list[Features], PromptFeatures]:
        """Features of each text encoder, [n_pairs, dim] each, and of the prompts; with progress."""
        asked, responses = LazyTexts(pairs.prompts, pairs.prompt_index), LazyTexts(pairs.responses)
        features = self._encode(asked, responses, quiet=False)
        return features, self._describe(pairs.prompts.to_pylist(), pairs.prompt_index)

    def of_texts(self, prompts: Sequence[str], responses: Sequence[str]) -> tuple[list[Features], PromptFeatures]:
        """The same of pairs given as texts, [n_pairs] each; in silence."""
        distinct = {prompt: place for place, prompt in enumerate(dict.fromkeys(prompts))}
        index = np.fromiter((distinct[prompt] for prompt in prompts), np.int64, len(prompts))
        return self._encode(prompts, responses, quiet=True), self._describe(list(distinct), index)

    def _encode(self, prompts: Sequence[str], responses: Sequence[str], quiet: bool) -> list[Features]:
        on_progress, cache = self.runtime.monitor.on_progress, self.runtime.cache
        return [
            encode_through_cache(
                encoder,
                prompts,
                responses,
                cache,
                self.batch_size,
                None if quiet else partial(on_progress, f"features: {encoder.name}"),
            )
            for encoder in self.text_encoders
        ]

    def _describe(self, prompts: Sequence[str], prompt: npt.NDArray[np.integer]) -> PromptFeatures:
        if not self.with_prompts:
            return PromptFeatures((), prompt)
        preprocessors = (PromptEmbeddingPreprocessor(encoder, self.runtime.cache) for encoder in self.text_encoders)
        return PromptFeatures([each.preprocess(prompts, self.batch_size) for each in preprocessors], prompt)
