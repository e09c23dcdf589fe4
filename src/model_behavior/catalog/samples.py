"""Samples of each model's responses, kept beside the embedding: vectors, words, and texts for people to read.

**Words.** The content of a response in few bytes: its words, hashed and counted, and its ending. A row of packed words
holds `N_WORDS` distinct words, then the last `N_ENDING` ones in their order, 0 where there are fewer. A word is its
hash of 26 bits and its count of 6. Of more words those with the smallest hashes are kept: the same ones in every
response, so that what two responses share is sampled evenly (min-wise hashing, Broder 1997,
https://doi.org/10.1109/SEQUEN.1997.666900). Digits count, unlike in the encoder's features: they may be the answer.

**Texts.** The typical responses of a model are nearest to its embedding, and two models are seldom typical on the same
prompt. Therefore responses to the prompts with the smallest hashes are kept besides. Every model ranks prompts alike,
so that two that answered the same prompts keep the same ones, and two with a share J of their prompts in common have
one of `n` in common with a chance of about 1 - (1 - J)^n at least (min-wise sampling, as above).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from model_behavior.arrays import AnyArray, Float32Array, Float64Array, Int64Array, UInt32Array, UInt64Array
from model_behavior.catalog.stored_rows import (
    TEXTS,
    Chunk,
    ChunkedArray,
    Exemplar,
    KeptTexts,
    Rows,
    StoredChunk,
    StoredRow,
    chunks_of,
    items_of,
)
from model_behavior.data.canonical_text import canonical_response
from model_behavior.data.text_columns import parts_of
from model_behavior.data_models.votes import PairTable
from model_behavior.models.behavior.text.style import StyleEncoder
from model_behavior.models.behavior.text.tokens import tokenize

N_WORDS, N_ENDING = 184, 8
WIDTH = N_WORDS + N_ENDING
_PACKED_AT_ONCE = 512  # responses
_COUNT_BITS, _HASH_BITS = 6, 26
_MOMENTS = ("style_mean", "style_deviation", "style_count")
_SAMPLES = ("embedded", "styles", "words")
_PARTS = ("vectors", "prompt_keys", "offsets")
PackedWords = UInt32Array


@dataclass(frozen=True)
class SharedPrompt:
    """Responses of two models to one prompt."""

    prompt: str
    response_a: str
    response_b: str


@dataclass(frozen=True, eq=False)
class VectorSample:
    """Vectors of some responses of each model, all models one after the other.

    In a catalog that was read from a folder, both arrays are `ChunkedArray`: an index or a slice reads the models that
    it names, and `numpy.asarray` all of them.

    Attributes:
        vectors: vectors in float16, or packed words, [n_sampled, dim].
        prompt_keys: hash of the normalised prompt of each, uint64, [n_sampled].
        offsets: starts of the models' rows, int64, [n_models + 1]; model i has the rows offsets[i] to offsets[i + 1].
    """

    vectors: Rows
    prompt_keys: Rows
    offsets: Int64Array

    def rows_of(self, model: int) -> slice:
        """Where the vectors of a model are."""
        return slice(int(self.offsets[model]), int(self.offsets[model + 1]))

    @property
    def owner(self) -> Int64Array:
        """The model of each vector, [n_sampled]."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


@dataclass(frozen=True, eq=False)
class StyleSums:
    """Sums over models of their style profiles.

    Attributes:
        centre: values subtracted from the means first, so that nothing cancels, [n_features].
        n_models: number of models with a profile, which is one of two responses or more.
        n_responses: number of responses of these models.
        offset: sum of mean - centre, [n_features].
        square: sum of (mean - centre)^2, [n_features].
        within: sum of the variances over a model's responses, [n_features].
    """

    centre: Float64Array
    n_models: int
    n_responses: int
    offset: Float64Array
    square: Float64Array
    within: Float64Array

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
    132 KiB per model for embeddings of 128 dimensions and 159 KiB for style; their words take 388 KiB. All in all
    199 MiB for 300 models.

    Attributes:
        names: names of the models, sorted, [n_models].
        style_mean: mean of the style features over a model's responses, float32, [n_models, n_features].
        style_deviation: their standard deviation, float32, [n_models, n_features].
        style_count: number of responses behind both, int64, [n_models].
        embedded: encoded responses, for `drift`. Of a model that the encoder was trained on, they are of the validation
            side: the encoder places training responses closer together than it will place new ones.
        styles: style features of responses, for `identify`.
        words: packed words of the same responses, from which ratings are read.
        exemplars: responses nearest to each model's embedding, [n_models].
        answers: responses of each model to the prompts with the smallest keys, by key, smallest first, [n_models].
            Models that answered the same prompts keep the same ones.

    Vectors and texts of a catalog that was read from a folder are read when they are asked for, see `stored_rows`.
    """

    names: tuple[str, ...]
    style_mean: Float32Array
    style_deviation: Float32Array
    style_count: Int64Array
    embedded: VectorSample
    styles: VectorSample
    words: VectorSample
    exemplars: Sequence[tuple[Exemplar, ...]]
    answers: Sequence[Mapping[int, Exemplar]]

    @cached_property
    def style_sums(self) -> StyleSums:
        """Over all models with a profile, made once: the average without one model is then a subtraction."""
        described = np.flatnonzero(self.style_count > 1)
        centre = self.style_mean[described].mean(axis=0, dtype=np.float64) if len(described) else np.zeros(1)
        return style_sums_of(self, described, centre)


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
    exemplars = [each for table in tables for each in items_of(table.exemplars)]
    answers = [each for table in tables for each in items_of(table.answers)]
    return ModelSamples(
        names=tuple(names),
        style_mean=np.concatenate([table.style_mean for table in tables])[rows],
        style_deviation=np.concatenate([table.style_deviation for table in tables])[rows],
        style_count=np.concatenate([table.style_count for table in tables])[rows],
        embedded=_select([table.embedded for table in tables], rows),
        styles=_select([table.styles for table in tables], rows),
        words=_select([table.words for table in tables], rows),
        exemplars=KeptTexts("exemplars", (exemplars[row] for row in rows.tolist())),
        answers=KeptTexts("answers", (answers[row] for row in rows.tolist())),
    )


def style_sums_of(samples: ModelSamples, rows: Int64Array, centre: Float64Array) -> StyleSums:
    """The sums over some rows."""
    offset = samples.style_mean[rows].astype(np.float64) - centre
    within = np.square(samples.style_deviation[rows].astype(np.float64)).sum(axis=0)
    count = int(samples.style_count[rows].sum())
    return StyleSums(centre, len(rows), count, offset.sum(axis=0), np.square(offset).sum(axis=0), within)


def pack_words(responses: Sequence[str]) -> PackedWords:
    """One row per response, uint32, [n_responses, WIDTH]; made part by part, since tokens take fifty times the text."""
    parts = [_pack_words(responses[part]) for part in parts_of(len(responses), _PACKED_AT_ONCE)]
    return np.concatenate([np.zeros((0, WIDTH), np.uint32), *parts])


def _pack_words(responses: Sequence[str]) -> PackedWords:
    packed = np.zeros((len(responses), WIDTH), dtype=np.uint32)
    tokens = tokenize(list(map(canonical_response, responses)), keep_digits=True)
    if not len(tokens.hashes):
        return packed
    # A word is never 0, which stands for none.
    words = np.maximum((tokens.hashes >> np.uint64(64 - _HASH_BITS)).astype(np.int64), 1)
    distinct, counts = np.unique(tokens.text << _HASH_BITS | words, return_counts=True)
    text, word = distinct >> _HASH_BITS, distinct & ((1 << _HASH_BITS) - 1)
    place = np.arange(len(text)) - np.searchsorted(text, text)
    kept = place < N_WORDS
    counts = np.minimum(counts, (1 << _COUNT_BITS) - 1)
    packed[text[kept], place[kept]] = (word << _COUNT_BITS | counts)[kept]
    from_end = np.searchsorted(tokens.text, tokens.text, side="right") - 1 - np.arange(len(words))
    last = from_end < N_ENDING
    packed[tokens.text[last], WIDTH - 1 - from_end[last]] = words[last] << _COUNT_BITS | 1
    return packed


def words_and_weights(packed: PackedWords) -> tuple[UInt32Array, Float64Array]:
    """Hashes and 1 + log of the counts, each of the shape of `packed`; the weight is 0 where there is no word."""
    counts = (packed & np.uint32((1 << _COUNT_BITS) - 1)).astype(np.float64)
    weights: Float64Array = np.where(packed > 0, 1 + np.log(np.maximum(counts, 1)), 0)
    return packed >> np.uint32(_COUNT_BITS), weights


def first_to_each_prompt(
    pairs: PairTable, keys: UInt64Array, rows: Iterable[int], n: int, max_characters: int
) -> dict[int, Exemplar]:
    """The first `n` of some pairs that are to different prompts, by prompt key and in order.

    Args:
        pairs: texts to choose from.
        keys: keys of their prompts, [n_pairs].
        rows: pairs to choose from, best first.
        n: largest number of pairs.
        max_characters: length beyond which texts are cut.
    """
    found: dict[int, Exemplar] = {}
    for row in rows:
        if len(found) == n:
            break
        if int(keys[row]) not in found:
            texts = pairs.prompts[int(pairs.prompt_index[row])].as_py(), pairs.responses[row].as_py()
            found[int(keys[row])] = Exemplar(*(_cut(text, max_characters) for text in texts))
    return found


def join_answers(old: Mapping[int, Exemplar], new: Mapping[int, Exemplar], n: int) -> dict[int, Exemplar]:
    """The `n` answers with the smallest keys of both; the old one where both answer a prompt."""
    return dict(sorted({**new, **old}.items())[:n])


def pair_answers(samples: ModelSamples, a: int, b: int) -> tuple[SharedPrompt, ...]:
    """What the models of two rows answered to the same prompts; empty where they share none that was kept."""
    one, other = samples.answers[a], samples.answers[b]
    return tuple(SharedPrompt(one[key].prompt, one[key].response, other[key].response) for key in one if key in other)


def moments_to_arrays(samples: ModelSamples) -> dict[str, AnyArray]:
    """The arrays that have one row a model, by name."""
    return {name: np.ascontiguousarray(getattr(samples, name)) for name in _MOMENTS}


def columns_of(samples: ModelSamples) -> dict[str, int]:
    """Number of columns of each kind of vectors."""
    return {sample: int(getattr(samples, sample).vectors.shape[1]) for sample in _SAMPLES}


def lengths_of(samples: ModelSamples) -> dict[str, Int64Array]:
    """Number of vectors of each kind, by model, [n_models] each."""
    return {sample: np.diff(getattr(samples, sample).offsets) for sample in _SAMPLES}


def row_to_arrays(samples: ModelSamples, row: int) -> dict[str, AnyArray]:
    """All that is kept of one model, but for its moments; its texts as JSON in UTF-8."""
    arrays: dict[str, AnyArray] = {}
    for name in _SAMPLES:
        sample: VectorSample = getattr(samples, name)
        part = sample.rows_of(row)
        arrays[f"{name}.vectors"] = np.ascontiguousarray(sample.vectors[part])
        arrays[f"{name}.prompt_keys"] = np.ascontiguousarray(sample.prompt_keys[part])
    texts = {
        "exemplars": [vars(each) for each in samples.exemplars[row]],
        "answers": {f"{key:016x}": vars(each) for key, each in samples.answers[row].items()},
    }
    raw = json.dumps(texts, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    arrays[TEXTS] = np.frombuffer(raw, np.uint8)
    return arrays


def stored_rows_of(samples: ModelSamples) -> list[StoredRow | None]:
    """The stored row that holds exactly what is kept of each model, [n_models]; None for a model in memory."""
    chunks = [
        [
            each.row if isinstance(each, StoredChunk) and (each.sample, each.part) == (name, part) else None
            for each in own
        ]
        for name in _SAMPLES
        for part in _PARTS[:2]
        for own in [chunks_of(getattr(getattr(samples, name), part), getattr(samples, name).offsets)]
    ]
    texts = [items_of(samples.exemplars), items_of(samples.answers)]
    found: list[StoredRow | None] = []
    for row in zip(*chunks, *texts, strict=True):
        first = row[0]
        found.append(first if isinstance(first, StoredRow) and all(each is first for each in row) else None)
    return found


def samples_of_rows(
    names: Sequence[str],
    rows: Sequence[StoredRow],
    moments: Mapping[str, AnyArray],
    columns: Mapping[str, int],
    style_features: Sequence[str],
) -> ModelSamples:
    """Samples that are read when they are asked for; what was measured with other style features is left out.

    Args:
        names: names of the models, [n_models].
        rows: what is kept of them, [n_models].
        moments: see `moments_to_arrays`.
        columns: see `columns_of`.
        style_features: names of the style features that were measured.
    """
    nothing = empty_samples(names, columns["embedded"])
    found = {name: _stored_sample(rows, name, getattr(nothing, name).vectors.dtype, columns[name]) for name in _SAMPLES}
    if tuple(style_features) != StyleEncoder.feature_names:
        found["styles"], moments = nothing.styles, {name: getattr(nothing, name) for name in _MOMENTS}
    if any(len(moments[name]) != len(names) for name in _MOMENTS):
        raise ValueError(f"style profiles of {len(moments[_MOMENTS[0]])} models beside {len(names)} names")
    mean, deviation, count = (moments[name] for name in _MOMENTS)
    texts = KeptTexts[tuple[Exemplar, ...]]("exemplars", rows), KeptTexts[Mapping[int, Exemplar]]("answers", rows)
    vectors = found["embedded"], found["styles"], found["words"]
    return ModelSamples(tuple(names), mean, deviation, count, *vectors, *texts)


def _stored_sample(rows: Sequence[StoredRow], name: str, dtype: np.dtype[Any], width: int) -> VectorSample:
    vectors = ChunkedArray([StoredChunk(row, name, "vectors") for row in rows], dtype, (width,))
    keys = ChunkedArray([StoredChunk(row, name, "prompt_keys") for row in rows], np.uint64, ())
    return VectorSample(vectors, keys, vectors.offsets)


def samples_from_stored(
    names: tuple[str, ...], arrays: Mapping[str, AnyArray], value: Mapping[str, Any]
) -> ModelSamples:
    """The samples of a folder of format version 2, which has them in one file.

    What was measured with other style features than this release has is left out. Answers and words are empty where a
    release wrote them that kept none.

    Raises:
        KeyError, TypeError, ValueError: something is missing or does not fit.
    """
    nothing = empty_samples(names, arrays["embedded.vectors"].shape[1])
    embedded, styles, words = (
        VectorSample(*(arrays[f"{sample}.{part}"] for part in _PARTS))
        if f"{sample}.vectors" in arrays
        else getattr(nothing, sample)
        for sample in _SAMPLES
    )
    exemplars = tuple(tuple(Exemplar(**exemplar) for exemplar in each) for each in value["exemplars"])
    answers = tuple(
        {int(key, 16): Exemplar(**answer) for key, answer in each.items()}
        for each in value.get("answers", [{}] * len(names))
    )
    if not len(names) == len(exemplars) == len(answers) == len(embedded.offsets) - 1 == len(styles.offsets) - 1:
        raise ValueError(f"samples of {len(exemplars)} models beside {len(names)} names")
    if tuple(value["style_features"]) != StyleEncoder.feature_names:
        return replace(nothing, embedded=embedded, words=words, exemplars=exemplars, answers=answers)
    mean, deviation, count = (arrays[name] for name in _MOMENTS)
    return ModelSamples(names, mean, deviation, count, embedded, styles, words, exemplars, answers)


def _select(samples: Sequence[VectorSample], rows: Int64Array) -> VectorSample:
    """The vectors of some models, counted over all samples one after the other, in this order."""
    vectors = _select_rows([(sample.vectors, sample.offsets) for sample in samples], rows)
    keys = _select_rows([(sample.prompt_keys, sample.offsets) for sample in samples], rows)
    return VectorSample(vectors, keys, vectors.offsets)


def _select_rows(parts: Sequence[tuple[Rows, Int64Array]], rows: Int64Array) -> ChunkedArray:
    chunks: list[Chunk] = [chunk for array, offsets in parts for chunk in chunks_of(array, offsets)]
    first = parts[0][0]
    return ChunkedArray([chunks[row] for row in rows.tolist()], first.dtype, first.shape[1:])


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"
