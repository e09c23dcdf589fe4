"""Prompts that tell most about the rating of a new model, from how the known models answered them.

The answer of a model of rating r to prompt q speaks for the rating x_q (`agreement`, the model's family left out):

    x_q = level_q + b_q r + e_q,    e ~ N(0, S),    r ~ N(mean, t)

b_q, the variance of e_q and its correlations are estimated from the known models, and shrunk, since some dozen models
say little about hundreds of prompts: b_q and the variance towards those of all prompts, the correlations towards 0. The
answers to a set of prompts leave the share

    left = 1 / (1 + t b' S^-1 b)

of the variance t of the rating. Prompts are taken one after the other, each the one that leaves least given those
before it (adaptive testing takes the most informative item, too: Lord 1980). Where several leave nearly as little, the
one whose answers tell models apart best by their style comes first, for identification.

Once something is known of a model's rating, known models count by how near they are to it: a prompt that tells good
models from bad ones need not tell good ones from each other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from model_behavior.arrays import AnyArray, Float32Array, Float64Array, Int64Array, UInt64Array
from model_behavior.catalog.agreement import answers_of
from model_behavior.catalog.enrolment import prompt_keys
from model_behavior.catalog.samples import ModelSamples
from model_behavior.data.text_columns import LazyTexts
from model_behavior.data_models.scoring_types import Agreement
from model_behavior.data_models.votes import PairTable

MOST_PROMPTS = 2000
_LONGEST = 4000  # characters of a prompt that is suggested
_LEAST_ANSWERS = 8
_MODELS_OF_PRIOR = 10.0  # that the estimates of all prompts weigh as, in those of one
_CORRELATION_KEPT = 0.6
_LEAST_NOISE = 1e-9
_NEARLY = 0.98  # of the best gain
_LEAST_WEIGHT = 12.0  # known models that count at least, in all


@dataclass(frozen=True, eq=False)
class PromptBook:
    """Prompts that known models have answered, with what their answers say about their ratings.

    Attributes:
        keys: hash of each normalised prompt, uint64, [n_prompts].
        texts: prompts, whole, [n_prompts].
        models: names of the known models, [n_models].
        spoken: rating that a model's answer speaks for, less the mean of its peers, in log-odds; NaN where it has not
            answered, float32, [n_models, n_prompts].
        identity: likeness of the answers to their models' usual style, in [-1, 1], float32, [n_prompts].
    """

    keys: UInt64Array
    texts: tuple[str, ...]
    models: tuple[str, ...]
    spoken: Float32Array
    identity: Float32Array

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class SuggestedPrompt:
    """A prompt to ask a new model.

    Attributes:
        key: hash of the normalised prompt, 16 hexadecimal digits.
        prompt: the prompt.
        left: share of the rating's variance that is left after it and all before it, in [0, 1].
    """

    key: str
    prompt: str
    left: float


@dataclass(frozen=True)
class KnownSoFar:
    """What is known of a model already.

    Attributes:
        answered: keys of the prompts that it has answered.
        rating: its rating, log-odds; None for a new model.
        deviation: standard deviation of the rating.
    """

    answered: Collection[int] = ()
    rating: float | None = None
    deviation: float = 0.0


def make_book(
    pairs: PairTable, samples: ModelSamples, agreement: Agreement, rating: Float64Array, most: int = MOST_PROMPTS
) -> PromptBook:
    """The prompts without a history that most known models have answered.

    Args:
        pairs: texts that the known models answered.
        samples: samples of the catalog, the known models among them.
        agreement: agreement of the known models with one another; its owners are its peers.
        rating: their ratings, log-odds, [n_models].
        most: largest number of prompts.
    """
    texts = _texts_by_key(pairs)
    answers = answers_of(samples, agreement.peers)
    shared = agreement.is_shared & np.isin(answers.keys, np.array(list(texts), dtype=np.uint64))
    keys, column, count = np.unique(answers.keys[shared], return_inverse=True, return_counts=True)
    best = np.sort(np.argsort(-count, kind="stable")[:most])
    best = best[count[best] >= _LEAST_ANSWERS]
    views, owner = agreement.ratings(rating)[shared], agreement.owner[shared]
    spoken = np.full((len(agreement.peers), len(keys)), np.nan, dtype=np.float32)
    spoken[owner, column] = _as_one(views, rating[owner] - rating.mean())
    identity = _measure_identity(samples, agreement.peers, keys)
    return PromptBook(
        keys[best], tuple(texts[key] for key in keys[best].tolist()), agreement.peers, spoken[:, best], identity[best]
    )


def choose_prompts(
    book: PromptBook, rating: Float64Array, number: int, known: KnownSoFar | None = None
) -> list[SuggestedPrompt]:
    """The prompts to ask, in order; fewer than `number` where the book has no more.

    Args:
        book: prompts to choose from.
        rating: ratings of its models, log-odds, [n_models].
        number: number of prompts.
        known: what is known of the model; nothing by default.
    """
    known = known if known is not None else KnownSoFar()
    weight = _weigh(rating, known)
    slope, noise, prior = _estimate(book.spoken, rating, weight)
    asked = np.isin(book.keys, np.array(list(known.answered), dtype=np.uint64))
    information = sum(_take(slope, noise, row) for row in np.flatnonzero(asked).tolist())
    free = ~asked
    found = []
    for _ in range(min(number, int(free.sum()))):
        gain = np.square(slope) / np.maximum(np.diag(noise), _LEAST_NOISE)
        near = np.flatnonzero(free & (gain >= _NEARLY * gain[free].max()))
        pick = int(near[np.argmax(book.identity[near])])
        free[pick] = False
        information += _take(slope, noise, pick)
        left = 1 / (1 + prior * information)
        found.append(SuggestedPrompt(f"{int(book.keys[pick]):016x}", book.texts[pick], left))
    return found


def _take(slope: Float64Array, noise: Float64Array, row: int) -> float:
    """What one prompt adds to b' S^-1 b; turns b and S of all others into what is left of them given its answer."""
    variance = max(float(noise[row, row]), _LEAST_NOISE)
    gained = float(slope[row]) ** 2 / variance
    share = noise[:, row] / variance
    slope -= share * slope[row]
    noise -= np.outer(share, noise[row])
    return gained


def book_to_arrays(book: PromptBook) -> dict[str, AnyArray]:
    """The arrays of a book."""
    return {"keys": book.keys, "spoken": book.spoken, "identity": book.identity}


def book_to_json(book: PromptBook) -> dict[str, Any]:
    """The texts of a book."""
    return {"models": list(book.models), "prompts": list(book.texts)}


def book_from_stored(arrays: Mapping[str, AnyArray], value: Mapping[str, Any]) -> PromptBook:
    """The inverse of `book_to_arrays` and `book_to_json`.

    Raises:
        KeyError, TypeError, ValueError: something is missing or does not fit.
    """
    texts, models = tuple(value["prompts"]), tuple(value["models"])
    if arrays["spoken"].shape != (len(models), len(texts)) or len(arrays["keys"]) != len(texts):
        raise ValueError(f"{len(texts)} prompts beside arrays of {arrays['spoken'].shape}")
    return PromptBook(arrays["keys"], texts, models, arrays["spoken"], arrays["identity"])


def _texts_by_key(pairs: PairTable) -> dict[int, str]:
    """Whole prompts without a history, by key."""
    first = np.unique(pairs.prompt_index, return_index=True)[1]
    keys, prompts = prompt_keys(pairs), LazyTexts(pairs.prompts)
    alone = [row for row in first.tolist() if not pairs.histories[row].as_py()]
    texts = {int(keys[row]): prompts[int(pairs.prompt_index[row])] for row in alone}
    return {key: text for key, text in texts.items() if len(text) <= _LONGEST}


def _as_one(views: Float64Array, above: Float64Array) -> Float64Array:
    """What the views of each answer say together, [n]: the regression of ratings on them, which is shrunk by noise."""
    square = views.T @ views
    weights = np.linalg.solve(square + 1e-6 * max(float(np.trace(square)), 1e-9) * np.eye(len(square)), views.T @ above)
    spoken: Float64Array = views @ weights
    return spoken


def _weigh(rating: Float64Array, known: KnownSoFar) -> Float64Array:
    """Weights of the known models, 1 at most, [n_models]."""
    if known.rating is None:
        return np.ones(len(rating))
    width = max(known.deviation, 0.25 * float(rating.std()), 1e-6)
    while True:
        weight: Float64Array = np.exp(-0.5 * np.square((rating - known.rating) / width))
        if weight.sum() >= min(_LEAST_WEIGHT, 0.75 * len(rating)):
            return weight
        width *= 1.25


def _estimate(
    spoken: Float32Array, rating: Float64Array, weight: Float64Array
) -> tuple[Float64Array, Float64Array, float]:
    """b [n_prompts], S [n_prompts, n_prompts] and t of the module's equations."""
    there = ~np.isnan(spoken)
    weights = there * weight[:, None]
    total = np.maximum(weights.sum(axis=0), 1e-9)
    said = np.where(there, spoken, 0).astype(np.float64)
    off = np.where(there, said - (weights * said).sum(axis=0) / total, 0)
    lead = np.where(there, rating[:, None] - (weights * rating[:, None]).sum(axis=0) / total, 0)
    prior = float(np.average(np.square(rating - np.average(rating, weights=weight)), weights=weight))
    product, square = (weights * off * lead).sum(axis=0), (weights * lead**2).sum(axis=0)
    pooled = product.sum() / max(square.sum(), 1e-9)
    pseudo = _MODELS_OF_PRIOR * prior
    slope = (product + pseudo * pooled) / np.maximum(square + pseudo, 1e-9)
    left = np.where(there, off - slope * lead, 0)
    scatter = (weights * left**2).sum(axis=0)
    variance = (scatter + _MODELS_OF_PRIOR * scatter.sum() / total.sum()) / (total + _MODELS_OF_PRIOR)
    length = np.sqrt(np.maximum(scatter, 1e-12))
    noise = _CORRELATION_KEPT * ((weights * left).T @ left) / np.outer(length, length)
    np.fill_diagonal(noise, 1)
    noise *= np.sqrt(np.outer(variance, variance))
    return slope, noise, prior


def _measure_identity(samples: ModelSamples, models: Sequence[str], keys: UInt64Array) -> Float32Array:
    """Mean cosine of the style of answers, less that of their prompt, and of their models, [n_prompts]."""
    place = {name: row for row, name in enumerate(samples.names)}
    rows: Int64Array = np.array([place[name] for name in models], dtype=np.int64)
    usual = samples.style_mean[rows].astype(np.float64)
    scale = np.maximum(np.sqrt(np.square(samples.style_deviation[rows].astype(np.float64)).mean(axis=0)), 1e-6)
    usual = (usual - usual.mean(axis=0)) / scale
    spans = [samples.styles.rows_of(row) for row in rows.tolist()]
    taken = np.concatenate([np.arange(span.start, span.stop) for span in spans])
    owner = np.repeat(np.arange(len(rows)), [span.stop - span.start for span in spans])
    asked = samples.styles.prompt_keys[taken]
    known = np.isin(asked, keys)
    taken, owner, column = taken[known], owner[known], np.searchsorted(keys, asked[known])
    style = samples.styles.vectors[taken].astype(np.float64) / scale
    count = np.maximum(np.bincount(column, minlength=len(keys)), 1)
    mean = np.zeros((len(keys), style.shape[1]))
    np.add.at(mean, column, style)
    off = style - (mean / count[:, None])[column]
    length = np.maximum(np.linalg.norm(off, axis=1) * np.linalg.norm(usual[owner], axis=1), 1e-9)
    likeness = (off * usual[owner]).sum(axis=1) / length
    return (np.bincount(column, likeness, len(keys)) / count).astype(np.float32)
