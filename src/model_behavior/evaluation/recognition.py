"""Recognition of models from k responses, and probes of the parts of an embedding.

`recognise` averages the embeddings of k responses and guesses the known model whose mean embedding is nearest;
`share_right` measures how often the model, or its family, is right. `probe_subspaces` asks each part of an embedding
(identity, quality) for what the other part is trained on: it recognises models from the part alone, and predicts
their ratings from it by ridge regression.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from model_behavior.arrays import Float32Array, Float64Array, Int64Array, IntArray
from model_behavior.evaluation.figures import Figure, bootstrap_prompts, interval, resample_prompts
from model_behavior.models.behavior import metrics
from model_behavior.names import number_families

IDENTIFICATION_SIZES = (1, 8, 32)
_DRAWS = 20
_REPLICATES = 100
_PENALTIES = tuple(10.0**power for power in range(-3, 4))
_PART_REPLICATES = 200
_MIN_FAMILIES = 4


@dataclass(frozen=True, eq=False)
class HeldResponses:
    """Responses that nothing was fitted to, and the models to choose from.

    Attributes:
        embeddings: one row per response, [n_rows, dim].
        model: index into `known` of each row, [n_rows].
        prompt: index of the prompt of each row, [n_rows].
        known: mean embedding of each model from other responses, [n_models, dim]; rows of NaN cannot be chosen.
    """

    embeddings: Float32Array
    model: IntArray
    prompt: IntArray
    known: Float32Array


@dataclass(frozen=True, eq=False)
class Drawn:
    """Groups of k responses: rows, [n_draws, k], and the model of each group, [n_draws]."""

    rows: Int64Array
    model: Int64Array


@dataclass(frozen=True, eq=False)
class Guesses:
    """The true and the guessed model of each group, [n_draws] each."""

    model: Int64Array
    guessed: Int64Array


@dataclass(frozen=True)
class SubspaceFigures:
    """Figures of one part of an embedding.

    Attributes:
        rating_r2: R^2 of Bradley-Terry ratings predicted linearly, each family from the others; 0 for predicting the
            mean, negative where it is worse than that. None with fewer than 4 families. Interval: families resampled.
        rating_correlation: Spearman correlation of the same predictions.
        identification: share of models recognised from this part alone, by k.
    """

    rating_r2: Figure | None
    rating_correlation: Figure | None
    identification: Mapping[int, Figure]


Recognised = Mapping[int, Sequence[Guesses]]
"""Guesses by k: first those of the estimate, then those of each bootstrap replicate."""

RecognitionDraws = Mapping[int, Sequence[Drawn]]
"""Groups by k: first those of the estimate, then those of each bootstrap replicate."""


def draw_recognition(responses: HeldResponses, seed: int) -> RecognitionDraws:
    """Draws groups of k responses to recognise. Several embeddings of the same responses can share one draw.

    Args:
        responses: responses to draw from; only their models and prompts matter.
        seed: seed of the draws and of the bootstrap, which resamples whole prompts.
    """
    sizes = {k: _draw(responses, k, seed) for k in IDENTIFICATION_SIZES}
    return {k: drawn for k, drawn in sizes.items() if drawn}


def recognise(responses: HeldResponses, draws: RecognitionDraws) -> Recognised:
    """Guesses the known model with the nearest mean for every group. A k without enough responses is left out.

    Args:
        responses: responses to recognise.
        draws: groups of them, from `draw_recognition`.
    """
    missing = np.isnan(responses.known).any(axis=1)
    known = np.nan_to_num(metrics.normalise(responses.known)).T

    def guess(drawn: Drawn) -> Guesses:
        similarity = responses.embeddings[drawn.rows].mean(axis=1) @ known
        similarity[:, missing] = -np.inf
        return Guesses(drawn.model, similarity.argmax(axis=1))

    return {k: [guess(drawn) for drawn in groups] for k, groups in draws.items()}


def share_right(recognised: Recognised, label: IntArray | None = None) -> dict[int, Figure]:
    """Share of right guesses for each k.

    Args:
        recognised: guesses from `recognise`.
        label: label of each model, such as its family, [n_models]; a guess is right if its label is. By default only
            the true model is right.
    """

    def share(guesses: Guesses) -> float:
        if not len(guesses.model):
            return float("nan")
        if label is None:
            return float((guesses.guessed == guesses.model).mean())
        return float((label[guesses.guessed] == label[guesses.model]).mean())

    figures = {}
    for k, (whole, *replicates) in recognised.items():
        low, high = interval(np.array([share(guesses) for guesses in replicates]))
        figures[k] = Figure(share(whole), low, high, len(whole.model))
    return figures


def chance_of_recognition(responses: HeldResponses, label: IntArray | None = None) -> float:
    """Share of right guesses by chance: known models drawn at random, true models equally frequent; NaN without any."""
    known = np.flatnonzero(~np.isnan(responses.known).any(axis=1))
    asked = np.unique(responses.model)
    if not len(known) or not len(asked):
        return float("nan")
    label = np.arange(len(responses.known)) if label is None else label
    return float((label[asked][:, None] == label[known][None, :]).mean())


def probe_subspaces(
    parts: Mapping[str, slice],
    responses: HeldResponses,
    draws: RecognitionDraws,
    names: tuple[str, ...],
    rating: Float64Array,
    seed: int = 0,
) -> dict[str, SubspaceFigures]:
    """Probes each part of an embedding.

    The encoder was trained on votes of these models, so their ratings are predicted better than those of models that
    it never saw: compare parts with each other, not with the cold-start figures.

    Args:
        parts: columns of each part; one without columns is left out.
        responses: responses with whole embeddings.
        draws: groups from `draw_recognition`.
        names: model names of the rows of `responses.known`.
        rating: Bradley-Terry rating of each model, NaN where there is none, [n_models].
        seed: seed of the bootstrap.
    """
    usable = np.flatnonzero(np.isfinite(rating) & ~np.isnan(responses.known).any(axis=1))
    family = number_families([names[index] for index in usable])
    figures = {}
    for part, columns in parts.items():
        own = replace(responses, embeddings=responses.embeddings[:, columns], known=responses.known[:, columns])
        if not own.known.shape[1]:
            continue
        r2 = correlation = None
        if len(np.unique(family)) >= _MIN_FAMILIES:
            truth = rating[usable]
            r2, correlation = _score(predict_left_out(own.known[usable], truth, family), truth, family, seed)
        figures[part] = SubspaceFigures(r2, correlation, share_right(recognise(own, draws)))
    return figures


def predict_left_out(embeddings: Float32Array, truth: Float64Array, group: IntArray) -> Float64Array:
    """Predicts each group by ridge regression on the other groups; nested cross-validation chooses the penalty.

    Args:
        embeddings: [n_models, dim].
        truth: value of each model, [n_models].
        group: label of each model; models of one label are left out together, at least 3 labels, [n_models].

    Returns:
        Predictions, [n_models].
    """
    wide = embeddings.astype(np.float64)
    predicted = np.empty(len(truth))
    for left_out in np.unique(group):
        inside = group != left_out
        errors = [
            np.square(_left_out(wide[inside], truth[inside], group[inside], penalty) - truth[inside]).sum()
            for penalty in _PENALTIES
        ]
        penalty = _PENALTIES[int(np.argmin(errors))]
        predicted[~inside] = _ridge(wide[inside], truth[inside], wide[~inside], penalty)
    return predicted


def _draw(responses: HeldResponses, k: int, seed: int) -> list[Drawn]:
    rng = np.random.default_rng(seed)

    def draw(rows: Int64Array, draws: int) -> Drawn:
        # A prompt that was drawn twice counts twice, but never gives the same response twice to one mean.
        distinct, times = np.unique(rows, return_counts=True)
        groups, truth = metrics.draw_groups(responses.model[distinct], k, draws, rng, times)
        return Drawn(distinct[groups], truth)

    whole = draw(np.arange(len(responses.model)), _DRAWS)
    if not len(whole.model):
        return []
    return [whole, *(draw(rows, _DRAWS // 4) for rows in resample_prompts(responses.prompt, _REPLICATES, rng))]


def _left_out(embeddings: Float64Array, truth: Float64Array, group: IntArray, penalty: float) -> Float64Array:
    predicted = np.empty(len(truth))
    for each in np.unique(group):
        inside = group != each
        predicted[~inside] = _ridge(embeddings[inside], truth[inside], embeddings[~inside], penalty)
    return predicted


def _ridge(known: Float64Array, truth: Float64Array, asked: Float64Array, penalty: float) -> Float64Array:
    """Dual ridge regression with an unpenalised intercept; `penalty` is in units of the rows' mean variance."""
    centre, level = known.mean(axis=0), truth.mean()
    rows = known - centre
    gram = rows @ rows.T
    scale = max(float(np.trace(gram)) / len(rows), 1e-12)
    dual = np.linalg.solve(gram + penalty * scale * np.eye(len(rows)), truth - level)
    predicted: Float64Array = level + (asked - centre) @ rows.T @ dual
    return predicted


def _score(predicted: Float64Array, truth: Float64Array, family: IntArray, seed: int) -> tuple[Figure, Figure]:
    from scipy.stats import spearmanr  # slow to load, and needed here alone

    def r2(rows: Int64Array) -> float:
        spread = np.square(truth[rows] - truth[rows].mean()).sum()
        return float(1 - np.square(truth[rows] - predicted[rows]).sum() / spread) if spread > 0 else float("nan")

    def correlation(rows: Int64Array) -> float:
        if np.ptp(truth[rows]) == 0 or np.ptp(predicted[rows]) == 0:
            return float("nan")
        return float(spearmanr(predicted[rows], truth[rows]).statistic)

    everything = np.arange(len(truth))
    r2_figure, correlation_figure = (
        Figure(
            measure(everything),
            *bootstrap_prompts(family, measure, _PART_REPLICATES, np.random.default_rng(seed)),
            len(truth),
        )
        for measure in (r2, correlation)
    )
    return r2_figure, correlation_figure
