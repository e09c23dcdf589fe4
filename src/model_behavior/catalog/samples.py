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
class VectorSample:
    """Vectors of some responses of each model, all models one after the other.

    Attributes:
        vectors: float16, [n_sampled, dim].
        prompt_keys: hash of the normalised prompt of each, uint64, [n_sampled].
        offsets: model i has the rows offsets[i] to offsets[i + 1], int64, [n_models + 1].
    """

    vectors: npt.NDArray[np.float16]
    prompt_keys: npt.NDArray[np.uint64]
    offsets: npt.NDArray[np.int64]

    def rows_of(self, model: int) -> slice:
        """Where the vectors of a model are."""
        return slice(int(self.offsets[model]), int(self.offsets[model + 1]))

    @property
    def owner(self) -> npt.NDArray[np.int64]:
        """The model of each vector, [n_sampled]."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


@dataclass(frozen=True, eq=False)
class ModelSamples:
    """Rows as in the `ModelEmbeddings` beside it.

    The sampled vectors take 2 bytes a dimension and 8 bytes of key each: with the default of 512 responses at most
    132 KiB per model for embeddings of 128 dimensions and 117 KiB for style, 73 MiB for 300 models.

    Attributes:
        names: [n_models], sorted.
        style_mean: mean of the style features over a model's responses, float32, [n_models, n_features].
        style_deviation: their standard deviation, float32, [n_models, n_features].
        style_count: number of responses behind both, int64, [n_models].
        embedded: encoded responses, for `drift`. Of a model that the encoder was trained on, they are of the validation
            side: the encoder places training responses closer together than it will place new ones.
        styles: style features of responses, for `identify`.
        exemplars: of each model, the responses nearest to its embedding, [n_models].
    """

    names: tuple[str, ...]
    style_mean: FloatArray
    style_deviation: FloatArray
    style_count: npt.NDArray[np.int64]
    embedded: VectorSample
    styles: VectorSample
    exemplars: tuple[tuple[Exemplar, ...], ...]


def empty_samples(names: Sequence[str], dim: int) -> ModelSamples:
    """Models of which nothing but the embedding is known."""
    n_features = len(StyleEncoder.feature_names)

    def nothing(columns: int) -> VectorSample:
        offsets = np.zeros(len(names) + 1, np.int64)
        return VectorSample(np.zeros((0, columns), np.float16), np.zeros(0, np.uint64), offsets)

    return ModelSamples(
        names=tuple(names),
        style_mean=np.zeros((len(names), n_features), np.float32),
        style_deviation=np.zeros((len(names), n_features), np.float32),
        style_count=np.zeros(len(names), np.int64),
        embedded=nothing(dim),
        styles=nothing(n_features),
        exemplars=((),) * len(names),
    )


def select_samples(tables: Sequence[ModelSamples], names: Sequence[str]) -> ModelSamples:
    """The rows of these models, in this order; each is taken from the last table that has it."""
    place = {name: (table, row) for table in tables for row, name in enumerate(table.names)}
    rows = [place[name] for name in names]
    first = tables[0]
    return ModelSamples(
        names=tuple(names),
        style_mean=_stack([table.style_mean[row] for table, row in rows], first.style_mean),
        style_deviation=_stack([table.style_deviation[row] for table, row in rows], first.style_deviation),
        style_count=np.array([table.style_count[row] for table, row in rows], np.int64),
        embedded=_join([(table.embedded, row) for table, row in rows], first.embedded),
        styles=_join([(table.styles, row) for table, row in rows], first.styles),
        exemplars=tuple(table.exemplars[row] for table, row in rows),
    )


def _stack(rows: Sequence[FloatArray], like: FloatArray) -> FloatArray:
    return np.stack(rows) if rows else like[:0]


def _join(rows: Sequence[tuple[VectorSample, int]], like: VectorSample) -> VectorSample:
    parts = [(sample, sample.rows_of(row)) for sample, row in rows]
    return VectorSample(
        vectors=np.concatenate([like.vectors[:0], *(sample.vectors[part] for sample, part in parts)]),
        prompt_keys=np.concatenate([like.prompt_keys[:0], *(sample.prompt_keys[part] for sample, part in parts)]),
        offsets=np.cumsum([0, *(part.stop - part.start for _, part in parts)]).astype(np.int64),
    )
