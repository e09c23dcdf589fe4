"""Baselines of stage 1: embeddings of pairs that are not trained on votes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from model_behavior.arrays import Float32Array
from model_behavior.data.split import pairs_of
from model_behavior.data_models.behavior_encoder_types import PreprocessedBehaviorEncoderData
from model_behavior.models.behavior.projection import DenseInput, ProjectionConfig, SparseInput
from model_behavior.models.behavior.text.lexical import LexicalEncoder
from model_behavior.models.behavior.text.registry import make_text_encoder
from model_behavior.models.behavior.text.style import StyleEncoder
from model_behavior.preprocessing.behavior_embedding_preprocessor import BehaviorEmbeddingPreprocessor
from model_behavior.preprocessing.feature_cache import Features, PairEncoder, Progress

_TFIDF_COLUMNS = 8192
_BATCH = 32

Baseline = Callable[[PreprocessedBehaviorEncoderData, BehaviorEmbeddingPreprocessor, Progress], Float32Array]


def length_alone(
    prepared: PreprocessedBehaviorEncoderData, preprocessor: BehaviorEmbeddingPreprocessor, progress: Progress
) -> Float32Array:
    """The logarithm of the response's length, as an angle, so that cosine distance grows with its difference."""
    style = StyleEncoder()
    features = _embed(prepared, preprocessor, style, progress)
    length = features[:, style.feature_names.index("log_characters")]
    angle = length / max(float(length.max()), 1e-6) * (np.pi / 2)
    return np.column_stack([np.cos(angle), np.sin(angle)]).astype(np.float32)


def style_untrained(
    prepared: PreprocessedBehaviorEncoderData, preprocessor: BehaviorEmbeddingPreprocessor, progress: Progress
) -> Float32Array:
    """Standardised style features."""
    features = _embed(prepared, preprocessor, StyleEncoder(), progress)
    layer = DenseInput(features.shape[1], ProjectionConfig())
    layer.fit(features[pairs_of(prepared.data, prepared.split.train)])
    return layer.prepare(features)


def tfidf(
    prepared: PreprocessedBehaviorEncoderData, preprocessor: BehaviorEmbeddingPreprocessor, progress: Progress
) -> Float32Array:
    """TF-IDF of words, punctuation marks and their pairs, the most frequent ones."""
    features = _embed(prepared, preprocessor, LexicalEncoder(), progress)
    train = features[pairs_of(prepared.data, prepared.split.train)]
    config = ProjectionConfig(max_columns=_TFIDF_COLUMNS, min_pairs=2)
    columns = SparseInput.select(train, config)
    layer = SparseInput(len(columns), config)
    layer.fit(train, columns)
    dense: Float32Array = layer.prepare(features).toarray()
    return dense


def raw_minilm(
    prepared: PreprocessedBehaviorEncoderData, preprocessor: BehaviorEmbeddingPreprocessor, progress: Progress
) -> Float32Array:
    """all-MiniLM-L6-v2 over prompt and response, frozen."""
    features = _embed(prepared, preprocessor, make_text_encoder("semantic"), progress)
    assert isinstance(features, np.ndarray)
    return features


BASELINES: dict[str, Baseline] = {
    "length of the response": length_alone,
    "style features, untrained": style_untrained,
    "TF-IDF, untrained": tfidf,
}
SEMANTIC_BASELINES: dict[str, Baseline] = {"MiniLM, untrained": raw_minilm}
"""Baselines that need a transformer."""


def _embed(
    prepared: PreprocessedBehaviorEncoderData,
    preprocessor: BehaviorEmbeddingPreprocessor,
    encoder: PairEncoder,
    progress: Progress,
) -> Features:
    return preprocessor.embed(encoder, prepared.data.pairs, _BATCH, progress)
