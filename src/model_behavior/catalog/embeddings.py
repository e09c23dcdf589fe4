"""The table of model embeddings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from model_behavior.arrays import BoolArray, Float32Array, Float64Array, Int64Array, IntArray
from model_behavior.data.canonical_text import Changes, canonicalise_responses
from model_behavior.data.text_columns import LazyTexts, is_blank, parts_of
from model_behavior.data_models.votes import PairTable
from model_behavior.models.behavior.model_behavior_encoder import ModelBehaviorEncoder
from model_behavior.models.behavior.text.style import StyleEncoder
from model_behavior.preprocessing.feature_cache import cut_by_content, encode_through_cache


@dataclass(frozen=True, eq=False)
class ModelEmbeddings:
    """One row per model, sorted by name.

    Attributes:
        names: names of the models, [n_models].
        mean: mean of the unit vectors of a model's pairs, float32, [n_models, dim].
        count: number of pairs behind each mean, int64, [n_models].
        spread: root mean square distance of a model's pairs from its mean, in [0, 1], float32, [n_models].
    """

    names: tuple[str, ...]
    mean: Float32Array
    count: Int64Array
    spread: Float32Array

    def __len__(self) -> int:
        return len(self.names)

    def cosine_distances(self, row: int) -> Float64Array:
        """1 - cosine of one row with every row, 0 (alike) to 2, [n_models]; a zero vector is at distance 1 of all."""
        distances: Float64Array = 1 - np.clip(self._unit @ self._unit[row], -1, 1)
        return distances

    @cached_property
    def _unit(self) -> Float64Array:
        """The means at length 1, or 0 where they are 0, [n_models, dim]; made once for all questions."""
        mean = self.mean.astype(np.float64)
        length = np.linalg.norm(mean, axis=1, keepdims=True)
        return mean / np.where(length > 0, length, 1)

    def select(self, rows: Sequence[int]) -> ModelEmbeddings:
        """These rows alone, in this order."""
        chosen = np.array(rows, dtype=np.int64)
        names = tuple(self.names[row] for row in chosen)
        return ModelEmbeddings(names, self.mean[chosen], self.count[chosen], self.spread[chosen])


@dataclass(frozen=True, eq=False)
class EncodedPart:
    """Consecutive pairs, encoded.

    Attributes:
        rows: range of the pairs in their table.
        vectors: vectors of the pairs, float32, [n_part, dim].
        styles: style features of the responses as they were encoded, float32, [n_part, n_features].
    """

    rows: slice
    vectors: Float32Array
    styles: Float32Array


def usable_pairs(pairs: PairTable, keep: BoolArray | None = None) -> BoolArray:
    """Pairs of `keep` (all by default) that have both a prompt and a response, [n_pairs]."""
    usable: BoolArray = ~is_blank(pairs.prompts)[pairs.prompt_index] & ~is_blank(pairs.responses)
    return usable if keep is None else usable & keep


def count_changes(pairs: PairTable, model: int | None = None) -> Changes:
    """Number of responses, of all models or one, that are changed to their canonical form, by kind of the change."""
    rows = None if model is None else np.flatnonzero(pairs.model_index == model)
    found: Counter[str] = Counter()
    responses = LazyTexts(pairs.responses, rows)
    for part in parts_of(len(responses)):
        found.update(canonicalise_responses(responses[part])[1])
    return dict(sorted(found.items()))


def usable_models(pairs: PairTable) -> tuple[str, ...]:
    """Names of the models that have a usable pair, in the order of `pairs.models`."""
    return tuple(pairs.models[index] for index in np.unique(pairs.model_index[usable_pairs(pairs)]))


def encode_pairs(
    encoder: ModelBehaviorEncoder, pairs: PairTable, batch_size: int, clean: bool = False
) -> Iterator[EncodedPart]:
    """Encodes all pairs of a table, `batch_size` at once; see `encode_parts`."""
    prompts, responses = LazyTexts(pairs.prompts, pairs.prompt_index), LazyTexts(pairs.responses)
    return encode_parts(encoder, prompts, responses, batch_size, clean)


def encode_parts(
    encoder: ModelBehaviorEncoder,
    prompts: Sequence[str],
    responses: Sequence[str],
    batch_size: int,
    clean: bool = False,
) -> Iterator[EncodedPart]:
    """Encodes texts, in order, part by part as the cache keeps them, so that what training encoded is found there.

    Args:
        encoder: trained encoder.
        prompts: prompts, [n_pairs].
        responses: responses to them, [n_pairs].
        batch_size: pairs encoded at once.
        clean: the texts are clean already, as those of filtered votes are.
    """
    for rows in cut_by_content(prompts, responses):
        texts = list(prompts[rows]), list(responses[rows])
        texts = texts if clean else encoder.clean(*texts)
        vectors = encoder.encode_clean(*texts, batch_size)
        styles = encode_through_cache(StyleEncoder(), *texts, encoder.runtime.cache, batch_size)
        yield EncodedPart(rows, vectors, np.asarray(styles))


def merge(old: ModelEmbeddings, new: ModelEmbeddings) -> ModelEmbeddings:
    """Both tables' models; where a name is in both, the new row."""
    replaced = set(new.names)
    kept = np.array([index for index, name in enumerate(old.names) if name not in replaced], dtype=np.int64)
    names = [*(old.names[index] for index in kept), *new.names]
    order = sorted(range(len(names)), key=names.__getitem__)
    return ModelEmbeddings(
        names=tuple(names[index] for index in order),
        mean=np.concatenate([old.mean[kept], new.mean])[order],
        count=np.concatenate([old.count[kept], new.count])[order],
        spread=np.concatenate([old.spread[kept], new.spread])[order],
    )


def average(names: Sequence[str], sums: Float64Array, counts: IntArray) -> ModelEmbeddings:
    """Embeddings of models, sorted by name, from the sum and the number of their pairs' unit vectors."""
    mean = sums / counts[:, None]
    # The pairs are unit vectors, so their mean square distance from the mean is 1 - |mean|^2.
    spread = np.sqrt(np.maximum(1 - np.square(mean).sum(axis=1), 0))
    return ModelEmbeddings(tuple(names), mean.astype(np.float32), counts.astype(np.int64), spread.astype(np.float32))
