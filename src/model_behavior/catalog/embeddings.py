"""The table of model embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from model_behavior.data_models.votes import PairTable
from model_behavior.errors import DataError
from model_behavior.models.behavior.encoder_base import FloatArray
from model_behavior.models.behavior.model_behavior_encoder import ModelBehaviorEncoder
from model_behavior.preprocessing.feature_cache import cut_by_content

CleanTexts: TypeAlias = tuple[list[str], list[str]]
"""Prompts and responses as the encoder has encoded them, see `ModelBehaviorEncoder.clean`."""


@dataclass(frozen=True, eq=False)
class ModelEmbeddings:
    """One row per model, sorted by name.

    Attributes:
        names: [n_models].
        mean: mean of the unit vectors of a model's pairs, float32, [n_models, dim].
        count: number of pairs behind each mean, int64, [n_models].
        spread: root mean square distance of a model's pairs from its mean, in [0, 1], float32, [n_models].
    """

    names: tuple[str, ...]
    mean: FloatArray
    count: npt.NDArray[np.int64]
    spread: FloatArray

    def __len__(self) -> int:
        return len(self.names)

    def cosine_distances(self, row: int) -> npt.NDArray[np.float64]:
        """1 - cosine of one row with every row, 0 (alike) to 2, [n_models]; a zero vector is at distance 1 of all."""
        distances: npt.NDArray[np.float64] = 1 - np.clip(self._unit @ self._unit[row], -1, 1)
        return distances

    @cached_property
    def _unit(self) -> npt.NDArray[np.float64]:
        """The means at length 1, or 0 where they are 0, [n_models, dim]; made once for all questions."""
        mean = self.mean.astype(np.float64)
        length = np.linalg.norm(mean, axis=1, keepdims=True)
        return mean / np.where(length > 0, length, 1)

    def select(self, rows: Sequence[int]) -> ModelEmbeddings:
        """These rows alone, in this order."""
        chosen = np.array(rows, dtype=np.int64)
        names = tuple(self.names[row] for row in chosen)
        return ModelEmbeddings(names, self.mean[chosen], self.count[chosen], self.spread[chosen])


def usable_pairs(pairs: PairTable, keep: npt.NDArray[np.bool_] | None = None) -> npt.NDArray[np.bool_]:
    """Pairs of `keep` (all by default) that have both a prompt and a response, [n_pairs]."""
    with_prompt = np.array([bool(text.strip()) for text in pairs.prompts.to_pylist()], dtype=bool)[pairs.prompt_index]
    with_response = np.array([bool(text.strip()) for text in pairs.responses.to_pylist()], dtype=bool)
    usable: npt.NDArray[np.bool_] = with_prompt & with_response
    return usable if keep is None else usable & keep


def embed_models(
    encoder: ModelBehaviorEncoder,
    pairs: PairTable,
    batch_size: int,
    keep: npt.NDArray[np.bool_] | None = None,
    progress: Callable[[int, int], None] | None = None,
    observe: Callable[[slice, CleanTexts, FloatArray], None] | None = None,
) -> ModelEmbeddings:
    """Embeds every model that has a usable pair.

    Args:
        encoder: trained.
        pairs: answers of any number of models.
        batch_size: pairs encoded at once.
        keep: pairs to use, [n_pairs]; all by default. Pairs with an empty prompt or response are never used.
        progress: told (pairs done, pairs in all).
        observe: shown every part as it comes: (which pairs, their texts as they were encoded, vectors [n_part, dim]).

    Raises:
        DataError: no usable pair at all.
    """
    prompts = pairs.prompts.take(pairs.prompt_index).to_pylist()
    responses = pairs.responses.to_pylist()
    usable = usable_pairs(pairs, keep)
    if not usable.any():
        raise DataError("not one pair has both a prompt and a response, so there is no model to embed")
    sums = np.zeros((len(pairs.models), encoder.dim), dtype=np.float64)
    for part in cut_by_content(prompts, responses):  # as the cache does, so that what training encoded is found
        texts = encoder.clean(prompts[part], responses[part])
        vectors = encoder.encode_clean(*texts, batch_size)
        np.add.at(sums, pairs.model_index[part][usable[part]], vectors[usable[part]])
        if observe is not None:
            observe(part, texts, vectors)
        if progress is not None:
            progress(part.stop, len(responses))
    counts = np.bincount(pairs.model_index[usable], minlength=len(pairs.models))
    present = np.flatnonzero(counts)
    return _table([pairs.models[index] for index in present], sums[present], counts[present])


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


def _table(names: list[str], sums: npt.NDArray[np.float64], counts: npt.NDArray[np.integer]) -> ModelEmbeddings:
    mean = sums / counts[:, None]
    # The pairs are unit vectors, so their mean square distance from the mean is 1 - |mean|^2.
    spread = np.sqrt(np.maximum(1 - np.square(mean).sum(axis=1), 0))
    return ModelEmbeddings(tuple(names), mean.astype(np.float32), counts.astype(np.int64), spread.astype(np.float32))
