"""Prompts as vectors for scoring: every text encoder's features, reduced to a few dense dimensions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, final

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import svds

from model_behavior.arrays import Float32Array, Float64Array, Int64Array
from model_behavior.errors import ArtifactError
from model_behavior.models.behavior.encoder_base import TextEncoderBase
from model_behavior.models.behavior.text.execution import Backend
from model_behavior.models.behavior.text.registry import check_registered, make_text_encoder, make_text_encoders
from model_behavior.preprocessing.cache import ContentCache
from model_behavior.preprocessing.feature_cache import Features
from model_behavior.preprocessing.prompt_embedding_preprocessor import PromptEmbeddingPreprocessor

_CLIP = 3.0
_MIN_SCALE = 1e-3
_BATCH = 256


@dataclass(frozen=True)
class PromptFeaturesConfig:
    """How prompts are reduced.

    Attributes:
        encoders: text encoders by name, whose features stand side by side.
        dense_dim: dimensions kept of a dense encoder.
        sparse_dim: dimensions kept of a sparse one; never more than a third of the training prompts.
        max_columns: most frequent columns of a sparse encoder that are looked at.
        min_prompts: training prompts that a column must occur in.
    """

    encoders: tuple[str, ...] = ("style", "lexical")
    dense_dim: int = 16
    sparse_dim: int = 48
    max_columns: int = 8192
    min_prompts: int = 2


@dataclass(frozen=True, eq=False)
class _Block:
    """One encoder's reduction: (weigh(features) - mean) @ projection.

    Attributes:
        columns: columns kept of a sparse encoder, ascending; empty for a dense one.
        weight: inverse document frequency of those columns, or the inverse scale of dense features.
        centre: mean of dense features before weighting; empty for a sparse encoder.
        mean: mean after weighting, [n_columns].
        projection: [n_columns, dim]; training prompts get a mean square norm of 1 / number of blocks.
    """

    columns: Int64Array
    weight: Float64Array
    centre: Float64Array
    mean: Float64Array
    projection: Float64Array


@final
class PromptFeatures:
    """Latent semantic features (Deerwester et al. 1990) of word counts beside principal components of dense features.

    Args:
        config: encoders and numbers of dimensions.
        cache: cache of the encoders' output, shared with stage 1.
    """

    def __init__(self, config: PromptFeaturesConfig | None = None, cache: ContentCache | None = None) -> None:
        self.config = config if config is not None else PromptFeaturesConfig()
        self._encoders = make_text_encoders(self.config.encoders)
        self._cache = cache if cache is not None else ContentCache()
        self._blocks: list[_Block] = []

    @property
    def dim(self) -> int:
        """Number of dimensions; 0 before `fit`."""
        return sum(block.projection.shape[1] for block in self._blocks)

    def use_backend(self, backend: Backend) -> None:
        """Sets the library that runs the transformers among the encoders."""
        for encoder in self._encoders:
            encoder.use_backend(backend)

    def fit(self, prompts: Sequence[str]) -> None:
        """Fits weights and projections to training prompts, [n_prompts]."""
        self._blocks = []
        for encoder in self._encoders:
            features = self._encode(encoder, prompts)
            if isinstance(features, np.ndarray):
                block = _fit_dense(features, self.config)
            else:
                block = _fit_sparse(features, self.config)
            self._blocks.append(_scaled(block, features, len(self._encoders)))

    def transform(self, prompts: Sequence[str]) -> Float32Array:
        """[n_prompts, dim], float32, centred on the training prompts."""
        if not len(prompts):
            return np.empty((0, self.dim), dtype=np.float32)
        parts = [
            _apply(block, self._encode(encoder, prompts))
            for encoder, block in zip(self._encoders, self._blocks, strict=True)
        ]
        return np.hstack(parts).astype(np.float32)

    def get_state_dict(self) -> dict[str, Any]:
        """Encoders and their fingerprints under "encoders", arrays under "tensors"."""
        for encoder in self._encoders:
            check_registered(encoder)
        tensors = {
            f"{index}.{name}": getattr(block, name).copy()
            for index, block in enumerate(self._blocks)
            for name in _Block.__dataclass_fields__
        }
        encoders = [
            {"name": each.name, "config": dict(each.config), "fingerprint": each.fingerprint} for each in self._encoders
        ]
        return {"encoders": encoders, "tensors": tensors}

    @classmethod
    def load_state_dict(
        cls, state_dict: Mapping[str, Any], config: PromptFeaturesConfig, cache: ContentCache | None = None
    ) -> Self:
        """The inverse of `get_state_dict`.

        Raises:
            ArtifactError: a text encoder gives other vectors here.
        """
        features = cls(config, cache)
        features._encoders = tuple(make_text_encoder(each["name"], each["config"]) for each in state_dict["encoders"])
        for encoder, saved in zip(features._encoders, state_dict["encoders"], strict=True):
            if encoder.fingerprint != saved["fingerprint"]:
                raise ArtifactError(
                    f"text encoder {encoder.name!r} is not the one that the prompts were scored with in training. "
                    "Fix: install the same weights and release, or train again"
                )
        tensors = state_dict["tensors"]
        names = _Block.__dataclass_fields__
        features._blocks = [
            _Block(**{name: np.array(tensors[f"{index}.{name}"]) for name in names})
            for index in range(len(features._encoders))
        ]
        return features

    def _encode(self, encoder: TextEncoderBase, prompts: Sequence[str]) -> Features:
        return PromptEmbeddingPreprocessor(encoder, self._cache).preprocess(prompts, _BATCH)


def _fit_dense(features: Float32Array, config: PromptFeaturesConfig) -> _Block:
    centre = features.mean(axis=0, dtype=np.float64)
    weight = 1 / np.maximum(features.std(axis=0, dtype=np.float64), _MIN_SCALE)
    block = _Block(np.zeros(0, np.int64), weight, centre, np.zeros(len(centre)), np.eye(len(centre)))
    standard = _weigh(block, features)
    mean = standard.mean(axis=0)
    directions = np.linalg.svd(standard - mean, full_matrices=False)[2][: config.dense_dim]
    return _Block(block.columns, weight, centre, mean, _signed(directions).T)


def _fit_sparse(features: sparse.csr_matrix, config: PromptFeaturesConfig) -> _Block:
    n_prompts = features.shape[0]
    frequency = np.bincount(features.indices, minlength=features.shape[1])
    candidates = np.flatnonzero((frequency >= config.min_prompts) & (frequency < n_prompts))
    most = candidates[np.argsort(-frequency[candidates], kind="stable")[: config.max_columns]]
    columns = np.sort(most).astype(np.int64)
    weight = np.log(n_prompts / np.maximum(frequency[columns], 1))
    rank = min(config.sparse_dim, n_prompts // 3, len(columns) - 1)
    empty = np.zeros(0)
    if rank < 1:
        return _Block(columns, weight, empty, np.zeros(len(columns)), np.zeros((len(columns), 0)))
    block = _Block(columns, weight, empty, np.zeros(len(columns)), np.zeros((len(columns), 0)))
    weighted = _weigh(block, features)
    start = np.full(min(weighted.shape), 1.0)
    directions = svds(weighted, k=rank, v0=start)[2][::-1]
    mean = np.asarray(weighted.mean(axis=0)).ravel()
    return _Block(columns, weight, empty, mean, _signed(directions).T)


def _scaled(block: _Block, features: Features, n_blocks: int) -> _Block:
    square = np.square(_apply(block, features)).sum(axis=1).mean() if block.projection.size else 1.0
    factor = 1 / np.sqrt(max(float(square), 1e-12) * n_blocks)
    # Contiguous as a loaded state is, so that both give the same sums to the last bit.
    projection = np.ascontiguousarray(block.projection * factor)
    return _Block(block.columns, block.weight, block.centre, block.mean, projection)


def _apply(block: _Block, features: Features) -> Float64Array:
    projected: Float64Array = np.asarray(_weigh(block, features) @ block.projection) - block.mean @ block.projection
    return projected


def _weigh(block: _Block, features: Features) -> Any:
    """Standardised and clipped dense features, or unit rows of log(1 + count) times idf."""
    if isinstance(features, np.ndarray):
        return np.clip((features - block.centre) * block.weight, -_CLIP, _CLIP)
    place = np.minimum(np.searchsorted(block.columns, features.indices), len(block.columns) - 1)
    row = np.repeat(np.arange(features.shape[0]), np.diff(features.indptr))
    kept = block.columns[place] == features.indices if len(block.columns) else np.zeros(len(place), dtype=bool)
    row, place = row[kept], place[kept]
    weighted = np.log1p(features.data[kept].astype(np.float64)) * block.weight[place]
    norm = np.sqrt(np.bincount(row, np.square(weighted), features.shape[0]))
    starts = np.searchsorted(row, np.arange(features.shape[0] + 1))
    shape = (features.shape[0], len(block.columns))
    return sparse.csr_matrix((weighted / np.maximum(norm, 1e-12)[row], place, starts), shape=shape)


def _signed(directions: Float64Array) -> Float64Array:
    """The same directions with the sign that makes the largest entry of each positive, since an SVD leaves it open."""
    largest = directions[np.arange(len(directions)), np.abs(directions).argmax(axis=1)]
    signed: Float64Array = directions * np.where(largest < 0, -1.0, 1.0)[:, None]
    return signed
