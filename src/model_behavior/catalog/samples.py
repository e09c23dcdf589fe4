"""What the catalog keeps of each model's responses beside the embedding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model_behavior.models.behavior.encoder_base import FloatArray
from model_behavior.models.behavior.style_encoder import StyleEncoder


@dataclass(frozen=True)
class Exemplar:
    """One response that is typical of its model; both texts may be cut short."""

    prompt: str
    response: str


@dataclass(frozen=True, eq=False)
class ModelSamples:
    """Rows as in the `ModelEmbeddings` beside it.

    The sampled vectors take 2 bytes x dim and 8 bytes of key each: at most 132 KiB per model with the default 512
    responses of 128 dimensions, 39 MiB for 300 models. They are what `drift` compares new responses with and what
    `identify` is calibrated on; without them it is not possible to say how much a model varies from answer to answer.

    Attributes:
        names: [n_models], sorted.
        style_mean: mean of the style features over a model's responses, float32, [n_models, n_features].
        style_deviation: their standard deviation, float32, [n_models, n_features].
        style_count: number of responses behind both, int64, [n_models].
        vectors: encoded responses of all models one after the other, float16, [n_sampled, dim].
        prompt_keys: hash of the normalised prompt of each, uint64, [n_sampled].
        offsets: model i has the rows offsets[i] to offsets[i + 1], int64, [n_models + 1].
        apart: whether the sampled responses are others than those that the embedding is made of, [n_models]. So it is
            of models that the encoder was trained on: their sample is of the validation side, as the encoder places
            training responses closer together than it will place new ones.
        exemplars: of each model, the responses nearest to its embedding, [n_models].
    """

    names: tuple[str, ...]
    style_mean: FloatArray
    style_deviation: FloatArray
    style_count: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.float16]
    prompt_keys: npt.NDArray[np.uint64]
    offsets: npt.NDArray[np.int64]
    apart: npt.NDArray[np.bool_]
    exemplars: tuple[tuple[Exemplar, ...], ...]

    def rows_of(self, model: int) -> slice:
        """Where the sampled vectors of a model are."""
        return slice(int(self.offsets[model]), int(self.offsets[model + 1]))

    @property
    def owner(self) -> npt.NDArray[np.int64]:
        """The model of each sampled vector, [n_sampled]."""
        return np.repeat(np.arange(len(self.names)), np.diff(self.offsets))


def empty_samples(names: Sequence[str], dim: int) -> ModelSamples:
    """Models of which nothing but the embedding is known."""
    n_features = len(StyleEncoder.feature_names)
    return ModelSamples(
        names=tuple(names),
        style_mean=np.zeros((len(names), n_features), np.float32),
        style_deviation=np.zeros((len(names), n_features), np.float32),
        style_count=np.zeros(len(names), np.int64),
        vectors=np.zeros((0, dim), np.float16),
        prompt_keys=np.zeros(0, np.uint64),
        offsets=np.zeros(len(names) + 1, np.int64),
        apart=np.zeros(len(names), np.bool_),
        exemplars=((),) * len(names),
    )


def stack_samples(tables: Sequence[ModelSamples]) -> ModelSamples:
    """All rows of several tables, sorted by name. A name must be in one of them only."""
    names = [name for table in tables for name in table.names]
    order = sorted(range(len(names)), key=names.__getitem__)
    pieces = [(table, model) for table in tables for model in range(len(table.names))]
    rows = [(pieces[index][0], pieces[index][0].rows_of(pieces[index][1])) for index in order]
    exemplars = [each for table in tables for each in table.exemplars]
    return ModelSamples(
        names=tuple(names[index] for index in order),
        style_mean=np.concatenate([table.style_mean for table in tables])[order],
        style_deviation=np.concatenate([table.style_deviation for table in tables])[order],
        style_count=np.concatenate([table.style_count for table in tables])[order],
        vectors=np.concatenate([tables[0].vectors[:0], *(table.vectors[part] for table, part in rows)]),
        prompt_keys=np.concatenate([tables[0].prompt_keys[:0], *(table.prompt_keys[part] for table, part in rows)]),
        offsets=np.cumsum([0, *(part.stop - part.start for _, part in rows)]),
        apart=np.concatenate([table.apart for table in tables])[order],
        exemplars=tuple(exemplars[index] for index in order),
    )


def take_samples(table: ModelSamples, models: Sequence[int]) -> ModelSamples:
    """The given rows, which must be in ascending order."""
    kept = np.asarray(models, dtype=np.int64)
    sampled = np.isin(table.owner, kept)
    return ModelSamples(
        names=tuple(table.names[index] for index in kept),
        style_mean=table.style_mean[kept],
        style_deviation=table.style_deviation[kept],
        style_count=table.style_count[kept],
        vectors=table.vectors[sampled],
        prompt_keys=table.prompt_keys[sampled],
        offsets=np.concatenate([[0], np.cumsum(np.diff(table.offsets)[kept])]).astype(np.int64),
        apart=table.apart[kept],
        exemplars=tuple(table.exemplars[index] for index in kept),
    )
