"""Enrolment: makes catalog rows from responses, and extends, merges and removes them.

Adding responses to a model gives the same row as enrolling all of them at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from model_behavior.arrays import BoolArray, Float16Array, Float32Array, FloatArray, Int64Array, IntArray, UInt64Array
from model_behavior.catalog.embeddings import EncodedPart, ModelEmbeddings, average, encode_pairs, merge, usable_pairs
from model_behavior.catalog.samples import (
    ModelSamples,
    VectorSample,
    empty_samples,
    first_to_each_prompt,
    join_answers,
    pack_words,
    select_samples,
)
from model_behavior.catalog.stored_rows import Exemplar
from model_behavior.data.canonical_text import canonical_prompt
from model_behavior.data.split import hash_text, normalise_prompt
from model_behavior.data.text_columns import LazyTexts, parts_of
from model_behavior.data_models.votes import PairTable
from model_behavior.errors import DataError, UsageError
from model_behavior.models.behavior.model_behavior_encoder import ModelBehaviorEncoder
from model_behavior.models.behavior.text.style import StyleEncoder
from model_behavior.names import find_model
from model_behavior.preprocessing.feature_cache import encode_through_cache

Progress = Callable[[int, int], None]

_SAME = 2e-3  # Kept vectors are rounded to float16, and a batch of another size changes the last digits.


@dataclass(frozen=True)
class EnrolmentConfig:
    """Limits on the responses that the catalog keeps of each model.

    Attributes:
        max_vectors: sampled vectors per model, of either kind, at least 1. Those with the smallest prompt hash are
            kept, so that models that answered the same prompts keep the same prompts and can be compared by prompt.
        n_exemplars: typical responses per model, each to another prompt.
        max_characters: length that kept texts are cut to, at least 1.
        n_answers: responses per model to the prompts with the smallest hashes, so that models which answered the same
            prompts can be read side by side. Decision 0015 has how many share one.

    Raises:
        UsageError: a number is too small.
    """

    max_vectors: int = 512
    n_exemplars: int = 3
    max_characters: int = 600
    n_answers: int = 6

    def __post_init__(self) -> None:
        for name, least in (("max_vectors", 1), ("n_exemplars", 0), ("max_characters", 1), ("n_answers", 0)):
            if getattr(self, name) < least:
                raise UsageError(f"{name}={getattr(self, name)}: at least {least} is needed")


@dataclass(frozen=True, eq=False)
class Catalog:
    """The models that an encoder knows: their embeddings, and what is kept of their responses. Same rows in both."""

    models: ModelEmbeddings
    samples: ModelSamples

    def __post_init__(self) -> None:
        if self.models.names != self.samples.names:
            raise ValueError("embeddings and samples are of other models")

    @classmethod
    def of_embeddings(cls, models: ModelEmbeddings) -> Catalog:
        """A catalog of embeddings alone: it has neighbours, but no style drivers, identification or drift."""
        return cls(models, empty_samples(models.names, models.mean.shape[1]))


def enrol(
    encoder: ModelBehaviorEncoder,
    pairs: PairTable,
    batch_size: int,
    progress: Progress | None = None,
    config: EnrolmentConfig | None = None,
) -> Catalog:
    """Embeds every model that has a usable pair and describes its responses.

    Args:
        encoder: trained encoder.
        pairs: answers of any number of models. Pairs with an empty prompt or response are never used.
        batch_size: pairs encoded at once.
        progress: function called with (pairs done, pairs in all).
        config: limits on the responses that are kept.

    Raises:
        DataError: there is no usable pair.
    """
    return enrol_encoded(pairs, encode_pairs(encoder, pairs, batch_size), progress=progress, config=config)


def enrol_encoded(
    pairs: PairTable,
    parts: Iterable[EncodedPart],
    keep: BoolArray | None = None,
    sample: BoolArray | None = None,
    progress: Progress | None = None,
    config: EnrolmentConfig | None = None,
) -> Catalog:
    """`enrol` of pairs that are encoded already, or of some of them.

    Args:
        pairs: answers of any number of models.
        parts: all pairs, encoded, in order.
        keep: pairs that make the embeddings and style profiles, [n_pairs]; all by default.
        sample: pairs whose encodings are sampled, if other than `keep`, [n_pairs]; for a model of the training these
            are its validation responses, see `ModelSamples.embedded`.
        progress: function called with (pairs done, pairs in all).
        config: limits on the responses that are kept.

    Raises:
        DataError: there is no usable pair.
    """
    config = config if config is not None else EnrolmentConfig()
    keys = prompt_keys(pairs)
    usable, held_back = usable_pairs(pairs, keep), usable_pairs(pairs, keep if sample is None else sample)
    if not usable.any():
        raise DataError("no pair has both a prompt and a response, so there is no model to embed")
    chosen = _choose(pairs.model_index, keys, held_back, config.max_vectors)
    models, vectors, style = _gather(pairs, parts, usable, chosen, progress)
    place = {name: index for index, name in enumerate(models.names)}
    model_of = np.array([place.get(name, -1) for name in pairs.models], dtype=np.int64)[pairs.model_index]
    known = model_of[chosen] >= 0
    chosen, vectors = chosen[known], vectors[known]
    embedded = _sample(vectors, keys, model_of, chosen, len(models))
    described = (usable | held_back) & (model_of >= 0)
    moments = _moments(style, np.flatnonzero(described), model_of)
    chosen_styles = _choose(model_of, keys, described, config.max_vectors)
    styles = _sample(style[chosen_styles], keys, model_of, chosen_styles, len(models))
    words = replace(styles, vectors=pack_words(LazyTexts(pairs.responses, chosen_styles)))
    exemplars = tuple(
        _typical(pairs, keys, chosen[part], vectors[part].astype(np.float32) @ mean, config)
        for part, mean in zip(map(embedded.rows_of, range(len(models))), models.mean, strict=True)
    )
    answers = tuple(
        first_to_each_prompt(pairs, keys, chosen_styles[part].tolist(), config.n_answers, config.max_characters)
        for part in map(styles.rows_of, range(len(models)))
    )
    return Catalog(models, ModelSamples(models.names, *moments, embedded, styles, words, exemplars, answers))


def _gather(
    pairs: PairTable,
    parts: Iterable[EncodedPart],
    usable: BoolArray,
    chosen: Int64Array,
    progress: Progress | None,
) -> tuple[ModelEmbeddings, Float16Array, Float32Array]:
    """Embeddings of the models, the vectors of the chosen pairs, the style of all, from parts as they come."""
    row = np.full(len(pairs), -1, dtype=np.int64)
    row[chosen] = np.arange(len(chosen))
    sums, vectors, style = np.empty((0, 0)), np.empty((0, 0), np.float16), np.empty((0, 0), np.float32)
    for part in parts:
        if not part.rows.start:
            sums = np.zeros((len(pairs.models), part.vectors.shape[1]))
            vectors = np.zeros((len(chosen), part.vectors.shape[1]), dtype=np.float16)
            style = np.empty((len(pairs), part.styles.shape[1]), dtype=np.float32)
        own, rows = usable[part.rows], row[part.rows]
        np.add.at(sums, pairs.model_index[part.rows][own], part.vectors[own])
        vectors[rows[rows >= 0]] = part.vectors[rows >= 0]
        style[part.rows] = part.styles
        if progress is not None:
            progress(part.rows.stop, len(pairs))
    counts = np.bincount(pairs.model_index[usable], minlength=len(pairs.models))
    present = np.flatnonzero(counts)
    return average([pairs.models[index] for index in present], sums[present], counts[present]), vectors, style


def prompt_keys(pairs: PairTable) -> UInt64Array:
    """Hash of each pair's normalised prompt with its history, uint64, [n_pairs]; the same in every run."""
    prompts = [normalise_prompt(text) for text in LazyTexts(pairs.prompts)]
    texts = [
        f"{prompts[prompt]}\0{canonical_prompt(history)}" if history else prompts[prompt]
        for prompt, history in zip(pairs.prompt_index.tolist(), LazyTexts(pairs.histories), strict=True)
    ]
    known = {text: hash_text(text) for text in set(texts)}
    return np.array([known[text] for text in texts], dtype=np.uint64)


def merge_catalogs(old: Catalog, new: Catalog) -> Catalog:
    """Both catalogs' models; where a name is in both, the new row."""
    models = merge(old.models, new.models)
    return Catalog(models, select_samples([old.samples, new.samples], models.names))


def remove(catalog: Catalog, names: Sequence[str]) -> Catalog:
    """The catalog without these models.

    Raises:
        UsageError: a model is not in the catalog.
    """
    gone = {find_model(catalog.models.names, name) for name in names}
    left = catalog.models.select([index for index in range(len(catalog.models)) if index not in gone])
    return Catalog(left, select_samples([catalog.samples], left.names))


def _choose(model: IntArray, keys: UInt64Array, sample: BoolArray, n: int) -> Int64Array:
    """The `n` pairs of each model with the smallest keys, models one after the other."""
    candidates = np.flatnonzero(sample)
    ordered = candidates[np.lexsort((keys[candidates], model[candidates]))]
    owner = model[ordered]
    position = np.arange(len(ordered)) - np.searchsorted(owner, owner)
    return ordered[position < n]


def _sample(
    vectors: FloatArray,
    keys: UInt64Array,
    model_of: Int64Array,
    chosen: Int64Array,
    n_models: int,
) -> VectorSample:
    offsets = np.searchsorted(model_of[chosen], np.arange(n_models + 1)).astype(np.int64)
    return VectorSample(vectors.astype(np.float16), keys[chosen], offsets)


def _moments(style: Float32Array, rows: Int64Array, owner: Int64Array) -> tuple[Float32Array, Float32Array, Int64Array]:
    """Mean, standard deviation and number of each model's rows, of those at `rows`; every model has one at least."""
    count = np.bincount(owner[rows])
    mean, square = np.zeros((2, len(count), style.shape[1]))
    for part in parts_of(len(rows)):
        np.add.at(mean, owner[rows[part]], style[rows[part]].astype(np.float64))
    mean /= count[:, None]
    for part in parts_of(len(rows)):
        own = owner[rows[part]]
        np.add.at(square, own, np.square(style[rows[part]].astype(np.float64) - mean[own]))
    deviation = np.sqrt(square / np.maximum(count - 1, 1)[:, None])
    return mean.astype(np.float32), deviation.astype(np.float32), count.astype(np.int64)


def _typical(
    pairs: PairTable,
    keys: UInt64Array,
    rows: Int64Array,
    nearness: Float32Array,
    config: EnrolmentConfig,
) -> tuple[Exemplar, ...]:
    """The responses nearest to the model's embedding, each to another prompt."""
    nearest = rows[np.argsort(-nearness, kind="stable")].tolist()
    return tuple(first_to_each_prompt(pairs, keys, nearest, config.n_exemplars, config.max_characters).values())


def extend_catalog(
    catalog: Catalog,
    encoder: ModelBehaviorEncoder,
    pairs: PairTable,
    batch_size: int,
    parts: Iterable[EncodedPart] | None = None,
    config: EnrolmentConfig | None = None,
) -> Catalog:
    """Adds responses to models of the catalog, and enrols models that are new.

    Mean, spread, counts, style moments, sampled vectors and answers are those of one enrolment of everything. Typical
    responses are chosen among those that either enrolment has chosen. A response to the same prompt that the sample of
    the model holds already is not counted again.

    Args:
        catalog: catalog of `encoder`.
        encoder: trained encoder.
        pairs: answers of any number of models.
        batch_size: pairs encoded at once.
        parts: the pairs, where they are encoded already.
        config: limits on the responses that are kept of a model, old and new together.

    Raises:
        DataError: there is no usable pair.
    """
    fresh = ~find_repeats(catalog, encoder, pairs, batch_size)
    if usable_pairs(pairs).any() and not usable_pairs(pairs, fresh).any():
        return catalog
    parts = encode_pairs(encoder, pairs, batch_size) if parts is None else parts
    new = enrol_encoded(pairs, parts, fresh, config=config)
    known = [name for name in new.models.names if name in catalog.models.names]
    kept = config if config is not None else EnrolmentConfig()
    rows = [_combine(_row(catalog, name), _row(new, name), encoder, batch_size, kept) for name in known]
    grown = merge_catalogs(catalog, new)
    for row in rows:
        grown = merge_catalogs(grown, row)
    return grown


def find_repeats(catalog: Catalog, encoder: ModelBehaviorEncoder, pairs: PairTable, batch_size: int) -> BoolArray:
    """Pairs that the catalog's samples hold already: same model, prompt and, by its vectors, response. [n_pairs]."""
    keys = prompt_keys(pairs)
    given = set(pairs.models)
    held = {name: _by_prompt(catalog.samples, row) for row, name in enumerate(catalog.samples.names) if name in given}
    candidates = [
        index
        for index in np.flatnonzero(usable_pairs(pairs)).tolist()
        if int(keys[index]) in held.get(pairs.models[pairs.model_index[index]], {})
    ]
    repeats = np.zeros(len(pairs), dtype=bool)
    prompts = [pairs.prompts[int(pairs.prompt_index[index])].as_py() for index in candidates]
    texts = encoder.clean(prompts, [pairs.responses[index].as_py() for index in candidates])
    vectors = encoder.encode_clean(*texts, batch_size)
    styles = encode_through_cache(StyleEncoder(), *texts, encoder.runtime.cache, batch_size)
    for place, index in enumerate(candidates):
        old_styles, old_vectors = held[pairs.models[pairs.model_index[index]]][int(keys[index])]
        same_style = any(np.array_equal(each, styles[place].astype(np.float16)) for each in old_styles)
        # Of a model that was trained on, only some responses are kept as vectors.
        near = [bool(np.abs(each.astype(np.float32) - vectors[place]).max() < _SAME) for each in old_vectors]
        repeats[index] = same_style and (any(near) or not near)
    return repeats


def _by_prompt(samples: ModelSamples, row: int) -> dict[int, tuple[list[Float16Array], list[Float16Array]]]:
    """The style and the embedding vectors that are kept of a model, by prompt key."""
    found: dict[int, tuple[list[Float16Array], list[Float16Array]]] = defaultdict(lambda: ([], []))
    for kind, sample in enumerate((samples.styles, samples.embedded)):
        part = sample.rows_of(row)
        for key, vector in zip(sample.prompt_keys[part].tolist(), sample.vectors[part], strict=True):
            found[key][kind].append(vector)
    return found


def _row(catalog: Catalog, name: str) -> Catalog:
    row = catalog.models.names.index(name)
    return Catalog(catalog.models.select([row]), select_samples([catalog.samples], (name,)))


def _combine(
    old: Catalog, new: Catalog, encoder: ModelBehaviorEncoder, batch_size: int, config: EnrolmentConfig
) -> Catalog:
    """Two rows of the same model as one."""
    models = _add_embeddings(old.models, new.models)
    mean, deviation, count = _add_moments(old.samples, new.samples)
    exemplars = (*old.samples.exemplars[0], *new.samples.exemplars[0])
    return Catalog(
        models,
        ModelSamples(
            names=models.names,
            style_mean=mean,
            style_deviation=deviation,
            style_count=count,
            embedded=_add_samples(old.samples.embedded, new.samples.embedded, config.max_vectors),
            styles=_add_samples(old.samples.styles, new.samples.styles, config.max_vectors),
            words=_add_samples(old.samples.words, new.samples.words, config.max_vectors),
            exemplars=(_choose_exemplars(exemplars, encoder, models.mean[0], batch_size)[: config.n_exemplars],),
            answers=(join_answers(old.samples.answers[0], new.samples.answers[0], config.n_answers),),
        ),
    )


def _add_embeddings(old: ModelEmbeddings, new: ModelEmbeddings) -> ModelEmbeddings:
    sums = [models.mean.astype(np.float64) * models.count[:, None] for models in (old, new)]
    return average(old.names, sums[0] + sums[1], old.count + new.count)


def _add_moments(old: ModelSamples, new: ModelSamples) -> tuple[Float32Array, Float32Array, Int64Array]:
    """Pooled mean and deviation (Chan, Golub and LeVeque 1983, https://doi.org/10.1080/00031305.1983.10483115)."""
    n_old, n_new = old.style_count[:, None], new.style_count[:, None]
    n_all = n_old + n_new
    shift = new.style_mean.astype(np.float64) - old.style_mean
    mean = old.style_mean + shift * n_new / np.maximum(n_all, 1)
    within = sum(
        np.square(each.style_deviation.astype(np.float64)) * np.maximum(each.style_count[:, None] - 1, 0)
        for each in (old, new)
    )
    square = within + np.square(shift) * n_old * n_new / np.maximum(n_all, 1)
    deviation = np.sqrt(square / np.maximum(n_all - 1, 1))
    return mean.astype(np.float32), deviation.astype(np.float32), old.style_count + new.style_count


def _add_samples(old: VectorSample, new: VectorSample, n: int) -> VectorSample:
    keys = np.concatenate([old.prompt_keys, new.prompt_keys])
    kept = np.argsort(keys, kind="stable")[:n]
    return VectorSample(np.concatenate([old.vectors, new.vectors])[kept], keys[kept], np.array([0, len(kept)]))


def _choose_exemplars(
    exemplars: tuple[Exemplar, ...], encoder: ModelBehaviorEncoder, mean: Float32Array, batch_size: int
) -> tuple[Exemplar, ...]:
    """Nearest to the embedding first, each prompt once."""
    prompts, responses = [each.prompt for each in exemplars], [each.response for each in exemplars]
    nearness = encoder.encode(prompts, responses, batch_size) @ mean
    ordered = [exemplars[index] for index in np.argsort(-nearness, kind="stable").tolist()]
    return tuple({each.prompt: each for each in reversed(ordered)}.values())[::-1]
