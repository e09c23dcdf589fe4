"""How much of the style features' variance is about the prompt, before and after the topic is removed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from model_behavior.data.split import normalised_prompt_ids, pairs_of
from model_behavior.data_models.behavior_encoder_types import PreprocessedBehaviorEncoderData
from model_behavior.models.behavior import metrics
from model_behavior.models.behavior.feature_views import DenseView
from model_behavior.models.behavior.registry import DEFAULT_ENCODERS, make_text_encoders
from model_behavior.models.behavior.style_encoder import StyleEncoder
from model_behavior.models.behavior.topic_removal import PromptFeatures
from model_behavior.preprocessing.behavior_embedding_preprocessor import BehaviorEmbeddingPreprocessor
from model_behavior.preprocessing.cache import ContentCache
from model_behavior.preprocessing.prompt_embedding_preprocessor import PromptEmbeddingPreprocessor

_BATCH = 512


@dataclass(frozen=True)
class TopicShare:
    """Share of the variance of standardised style features that the prompt explains, on validation responses."""

    before: float
    after: float


def measure_topic_share(prepared: PreprocessedBehaviorEncoderData, cache: ContentCache) -> TopicShare:
    """Fits the removal on training pairs and measures on validation pairs.

    Args:
        prepared: votes and their split.
        cache: of features.
    """
    pairs = prepared.data.pairs
    features = BehaviorEmbeddingPreprocessor(cache).embed(StyleEncoder(), pairs, _BATCH)
    assert isinstance(features, np.ndarray)
    texts = pairs.prompts.to_pylist()
    encoders = make_text_encoders(DEFAULT_ENCODERS)
    blocks = [PromptEmbeddingPreprocessor(encoder, cache).preprocess(texts, _BATCH) for encoder in encoders]
    prompts = PromptFeatures(blocks, pairs.prompt_index)
    train, held = (pairs_of(prepared.data, side) for side in (prepared.split.train, prepared.split.validation))
    group = normalised_prompt_ids(pairs.prompts)[pairs.prompt_index[held]]

    def share(view: DenseView) -> float:
        of_held = replace(prompts, prompt=prompts.prompt[held])
        return metrics.variance_explained(view.apply(features[held], of_held), group)

    plain, _ = DenseView.fit(features[train], None)
    freed, _ = DenseView.fit(features[train], replace(prompts, prompt=prompts.prompt[train]))
    return TopicShare(share(plain), share(freed))
