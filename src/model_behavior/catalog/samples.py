"""What the catalog keeps of each model's responses beside the embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from model_behavior.catalog.answer_words import WIDTH
from model_behavior.models.behavior.encoder_base import FloatArray
from model_behavior.models.behavior.style_encoder import StyleEncoder


@dataclass(frozen=True)
class Exemplar:
    """One response of a model and the prompt that it is to; both texts may be cut short."""

    prompt: str
    response: str


@dataclass(frozen=True, eq=False)
class VectorSample:
    """Vectors of some responses of each model, all models one after the other.

    Attributes:
        vectors: float16, or packed words, [n_sampled, dim].
        prompt_keys: hash of the normalised prompt of each, uint64, [n_sampled].
        offsets: model i has the rows offsets[i] to offsets[i + 1], int64, [n_models + 1].
    """

    vectors: npt.NDArray[Any]
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
class StyleSums:
    """Sums over models of their style profiles.

    Attributes:
        centre: what is subtracted from the means first, so that nothing cancels; [n_features].
        n_models: models with a profile, which is one of two responses or more.
        n_responses: of these models.
        offset: sum of mean - centre, [n_features].
        square: sum of (mean - centre)^2, [n_features].
        within: sum of the variances over a model's responses, [n_features].
    """

    centre: npt.NDArray[np.float64]
    n_models: int
    n_responses: int
    offset: npt.NDArray[np.float64]
    square: npt.NDArray[np.float64]
    within: npt.NDArray[np.float64]

    def __sub__(self, other: StyleSums) -> StyleSums:
        return StyleSums(
            self.centre,
            self.n_models - other.n_models,
            self.n_responses - other.n_responses,
            self.offset - other.offset,
            self.square - other.square,
            self.within - other.within,
        )


@dataclass(frozen=True, eq=False)
class ModelSamples:
    """Rows as in the `ModelEmbeddings` beside it.

    The sampled vectors take 2 bytes a dimension and 8 bytes of key each: with the default of 512 responses at most
    132 KiB per model for embeddings of 128 dimensions and 117 KiB for style; their words take 388 KiB. All in all
    187 MiB for 300 models.

    Attributes:
        names: [n_models], sorted.
        style_mean: mean of the style features over a model's responses, float32, [n_models, n_features].
        style_deviation: their standard deviation, float32, [n_models, n_features].
        style_count: number of responses behind both, int64, [n_models].
        embedded: encoded responses, for `drift`. Of a model that the encoder was trained on, they are of the validation
            side: the encoder places training responses closer together than it will place new ones.
        styles: style features of responses, for `identify`.
        words: packed words of the same responses (`catalog.answer_words`), from which ratings are read.
        exemplars: of each model, the responses nearest to its embedding, [n_models].
        answers: of each model, its responses to the prompts with the smallest keys, by key, smallest first, [n_models].
            Models that answered the same prompts keep the same ones (see `catalog.exemplars`).
    """

    names: tuple[str, ...]
    style_mean: FloatArray
    style_deviation: FloatArray
    style_count: npt.NDArray[np.int64]
    embedded: VectorSample
    styles: VectorSample
    words: VectorSample
    exemplars: tuple[tuple[Exemplar, ...], ...]
    answers: tuple[Mapping[int, Exemplar], ...]

    @cached_property
    def style_sums(self) -> StyleSums:
        """Over all models with a profile, made once: the average without one model is then a subtraction."""
        described = np.flatnonzero(self.style_count > 1)
        centre = self.style_mean[described].mean(axis=0, dtype=np.float64) if len(described) else np.zeros(1)
        return style_sums_of(self, described, centre)


def style_sums_of(samples: ModelSamples, rows: npt.NDArray[np.int64], centre: npt.NDArray[np.float64]) -> StyleSums:
    """The sums over some rows."""
    offset = samples.style_mean[rows].astype(np.float64) - centre
    within = np.square(samples.style_deviation[rows].astype(np.float64)).sum(axis=0)
    count = int(samples.style_count[rows].sum())
    return StyleSums(centre, len(rows), count, offset.sum(axis=0), np.square(offset).sum(axis=0), within)


def empty_samples(names: Sequence[str], dim: int) -> ModelSamples:
    """Models of which nothing but the embedding is known."""
    n_features = len(StyleEncoder.feature_names)

    def nothing(columns: int, kind: type[np.generic] = np.float16) -> VectorSample:
        offsets = np.zeros(len(names) + 1, np.int64)
        return VectorSample(np.zeros((0, columns), kind), np.zeros(0, np.uint64), offsets)

    return ModelSamples(
        names=tuple(names),
        style_mean=np.zeros((len(names), n_features), np.float32),
        style_deviation=np.zeros((len(names), n_features), np.float32),
        style_count=np.zeros(len(names), np.int64),
        embedded=nothing(dim),
        styles=nothing(n_features),
        words=nothing(WIDTH, np.uint32),
        exemplars=((),) * len(names),
        answers=({},) * len(names),
    )


def select_samples(tables: Sequence[ModelSamples], names: Sequence[str]) -> ModelSamples:
    """The rows of these models, in this order; each is taken from the last table that has it."""
    place = {name: row for row, name in enumerate(name for table in tables for name in table.names)}
    rows = np.array([place[name] for name in names], dtype=np.int64)
    exemplars = [each for table in tables for each in table.exemplars]
    answers = [each for table in tables for each in table.answers]
    return ModelSamples(
        names=tuple(names),
        style_mean=np.concatenate([table.style_mean for table in tables])[rows],
        style_deviation=np.concatenate([table.style_deviation for table in tables])[rows],
        style_count=np.concatenate([table.style_count for table in tables])[rows],
        embedded=_select([table.embedded for table in tables], rows),
        styles=_select([table.styles for table in tables], rows),
        words=_select([table.words for table in tables], rows),
        exemplars=tuple(exemplars[row] for row in rows.tolist()),
        answers=tuple(answers[row] for row in rows.tolist()),
    )


def _select(samples: Sequence[VectorSample], rows: npt.NDArray[np.int64]) -> VectorSample:
    """The vectors of some models, counted over all samples one after the other, in this order."""
    sizes = np.concatenate([np.diff(sample.offsets) for sample in samples])
    start = (np.cumsum(sizes) - sizes)[rows]
    ends = np.cumsum(sizes[rows])
    places = np.arange(ends[-1] if len(ends) else 0) + np.repeat(start - (ends - sizes[rows]), sizes[rows])
    return VectorSample(
        vectors=np.concatenate([sample.vectors for sample in samples])[places],
        prompt_keys=np.concatenate([sample.prompt_keys for sample in samples])[places],
        offsets=np.concatenate([[0], ends]).astype(np.int64),
    )
