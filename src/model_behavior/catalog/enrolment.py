"""Responses to catalog rows: enrol, extend, merge, remove."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from model_behavior.catalog.answer_words import pack_words
from model_behavior.catalog.embeddings import EncodedPart, ModelEmbeddings, average, encode_parts, merge, usable_pairs
from model_behavior.catalog.exemplars import first_to_each_prompt
from model_behavior.catalog.lookup import find_model
from model_behavior.catalog.samples import Exemplar, ModelSamples, VectorSample, empty_samples, select_samples
from model_behavior.data.prompt_keys import hash_text
from model_behavior.data.split import normalise_prompt
from model_behavior.data.text_columns import LazyTexts
from model_behavior.data_models.votes import PairTable
from model_behavior.errors import DataError
from model_behavior.models.behavior.encoder_base import FloatArray
from model_behavior.models.behavior.model_behavior_encoder import ModelBehaviorEncoder


@dataclass(frozen=True)
class EnrolmentConfig:
    """What is kept of a model's responses.

    Attributes:
        max_vectors: sampled vectors per model, of either kind. Those with the smallest prompt hash are kept, so
            that models that answered the same prompts keep the same prompts and can be compared prompt by prompt.
        n_exemplars: typical responses per model, each to another prompt.
        max_characters: longer texts of kept responses are cut.
        n_answers: responses per model to the prompts with the smallest hashes, so that models which answered the same
            prompts can be read side by side. Decision 0015 has how many share one.
    """

    max_vectors: int = 512
    n_exemplars: int = 3
    max_characters: int = 600
    n_answers: int = 6


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
    keep: npt.NDArray[np.bool_] | None = None,
    sample: npt.NDArray[np.bool_] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Catalog:
    """Embeds every model that has a usable pair and describes its responses.

    Args:
        encoder: trained.
        pairs: answers of any number of models. Pairs with an empty prompt or response are never used.
        batch_size: pairs encoded at once.
        keep: pairs that the embeddings and style profiles are made of, [n_pairs]; all by default.
        sample: pairs whose encodings are sampled, where those are others than `keep`, [n_pairs]. Of a model that the
            encoder was trained on, its validation responses: see `ModelSamples.embedded`.
        progress: told (pairs done, pairs in all).

    Raises:
        DataError: no usable pair at all.
    """
    prompts, responses = LazyTexts(pairs.prompts, pairs.prompt_index), LazyTexts(pairs.responses)
    return enrol_encoded(pairs, encode_parts(encoder, prompts, responses, batch_size), keep, sample, progress)


def enrol_encoded(
    pairs: PairTable,
    parts: Iterable[EncodedPart],
    keep: npt.NDArray[np.bool_] | None = None,
    sample: npt.NDArray[np.bool_] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Catalog:
    """`enrol` where the pairs are encoded already: `parts` are all of them, in order.

    Raises:
        DataError: no usable pair at all.
    """
    config = EnrolmentConfig()
    keys = prompt_keys(pairs)
    usable, held_back = usable_pairs(pairs, keep), usable_pairs(pairs, keep if sample is None else sample)
    if not usable.any():
        raise DataError("not one pair has both a prompt and a response, so there is no model to embed")
    chosen = _choose(pairs.model_index, keys, held_back, config.max_vectors)
    models, vectors, style = _gather(pairs, parts, usable, chosen, progress)
    place = {name: index for index, name in enumerate(models.names)}
    model_of = np.array([place.get(name, -1) for name in pairs.models], dtype=np.int64)[pairs.model_index]
    known = model_of[chosen] >= 0
    chosen, vectors = chosen[known], vectors[known]
    embedded = _sample(vectors, keys, model_of, chosen, len(models))
    described = (usable | held_back) & (model_of >= 0)
    moments = _moments(style[described], model_of[described])
    chosen_styles = _choose(model_of, keys, described, config.max_vectors)
    styles = _sample(style[chosen_styles], keys, model_of, chosen_styles, len(models))
    words = replace(styles, vectors=pack_words(pairs.responses.take(chosen_styles).to_pylist()))
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
    usable: npt.NDArray[np.bool_],
    chosen: npt.NDArray[np.int64],
    progress: Callable[[int, int], None] | None,
) -> tuple[ModelEmbeddings, npt.NDArray[np.float16], FloatArray]:
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


def prompt_keys(pairs: PairTable) -> npt.NDArray[np.uint64]:
    """Hash of each pair's normalised prompt with its history, uint64, [n_pairs]; the same in every run."""
    prompts = [normalise_prompt(text) for text in LazyTexts(pairs.prompts)]
    texts = [
        f"{prompts[prompt]}\0{history}" if history else prompts[prompt]
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
        UsageError: a model that is not in it.
    """
    gone = {find_model(catalog.models.names, name) for name in names}
    left = catalog.models.select([index for index in range(len(catalog.models)) if index not in gone])
    return Catalog(left, select_samples([catalog.samples], left.names))


def _choose(
    model: npt.NDArray[np.integer], keys: npt.NDArray[np.uint64], sample: npt.NDArray[np.bool_], n: int
) -> npt.NDArray[np.int64]:
    """The `n` pairs of each model with the smallest keys, models one after the other."""
    candidates = np.flatnonzero(sample)
    ordered = candidates[np.lexsort((keys[candidates], model[candidates]))]
    owner = model[ordered]
    position = np.arange(len(ordered)) - np.searchsorted(owner, owner)
    return ordered[position < n]


def _sample(
    vectors: npt.NDArray[np.floating],
    keys: npt.NDArray[np.uint64],
    model_of: npt.NDArray[np.int64],
    chosen: npt.NDArray[np.int64],
    n_models: int,
) -> VectorSample:
    offsets = np.searchsorted(model_of[chosen], np.arange(n_models + 1)).astype(np.int64)
    return VectorSample(vectors.astype(np.float16), keys[chosen], offsets)


def _moments(style: FloatArray, owner: npt.NDArray[np.int64]) -> tuple[FloatArray, FloatArray, npt.NDArray[np.int64]]:
    """Mean, standard deviation and number of each model's rows; every model has one at least."""
    count = np.bincount(owner)
    values = style.astype(np.float64)
    mean = np.zeros((len(count), values.shape[1]))
    np.add.at(mean, owner, values)
    mean /= count[:, None]
    square = np.zeros_like(mean)
    np.add.at(square, owner, np.square(values - mean[owner]))
    deviation = np.sqrt(square / np.maximum(count - 1, 1)[:, None])
    return mean.astype(np.float32), deviation.astype(np.float32), count.astype(np.int64)


def _typical(
    pairs: PairTable,
    keys: npt.NDArray[np.uint64],
    rows: npt.NDArray[np.int64],
    nearness: FloatArray,
    config: EnrolmentConfig,
) -> tuple[Exemplar, ...]:
    """The responses nearest to the model's embedding, each to another prompt."""
    nearest = rows[np.argsort(-nearness, kind="stable")].tolist()
    return tuple(first_to_each_prompt(pairs, keys, nearest, config.n_exemplars, config.max_characters).values())
