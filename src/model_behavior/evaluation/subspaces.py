"""How much each part of an embedding knows of what the other part is for: linear probes and recognition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from model_behavior.data.families import number_families
from model_behavior.data_models.scoring_types import WideArray
from model_behavior.evaluation.figures import Figure, bootstrap_prompts
from model_behavior.evaluation.recognition import HeldResponses, RecognitionDraws, recognise, share_right
from model_behavior.models.behavior.encoder_base import FloatArray

_PENALTIES = tuple(10.0**power for power in range(-3, 4))
_REPLICATES = 200
_MIN_FAMILIES = 4


@dataclass(frozen=True)
class SubspaceFigures:
    """What one part of an embedding knows.

    Attributes:
        rating_r2: of Bradley-Terry ratings predicted linearly, each family from the others; 0 for their mean, negative
            where it is worse than that. None with fewer than 4 families. Interval: families resampled.
        rating_correlation: Spearman's, of the same predictions.
        identification: by k, from this part alone.
    """

    rating_r2: Figure | None
    rating_correlation: Figure | None
    identification: Mapping[int, Figure]


def probe_subspaces(
    parts: Mapping[str, slice],
    responses: HeldResponses,
    draws: RecognitionDraws,
    names: tuple[str, ...],
    rating: WideArray,
    seed: int = 0,
) -> dict[str, SubspaceFigures]:
    """Probes each part of an embedding.

    The encoder has placed the models that it was trained on by their votes, so that their ratings are read from it
    better than those of models that it never saw: compare parts with each other, not with the cold-start figures.

    Args:
        parts: columns of each part; one without columns is left out.
        responses: with embeddings and means of whole embeddings.
        draws: from `draw_recognition`.
        names: of the rows of `responses.known`.
        rating: Bradley-Terry rating of each, NaN where there is none, [n_models].
        seed: of the bootstrap.
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


def predict_left_out(embeddings: FloatArray, truth: WideArray, group: npt.NDArray[np.integer]) -> WideArray:
    """Ridge regression of each group from the other groups; the penalty is chosen within these, by groups again.

    Args:
        embeddings: [n_models, dim].
        truth: [n_models].
        group: what is left out together, at least 3 of them, [n_models].

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


def _left_out(embeddings: WideArray, truth: WideArray, group: npt.NDArray[np.integer], penalty: float) -> WideArray:
    predicted = np.empty(len(truth))
    for each in np.unique(group):
        inside = group != each
        predicted[~inside] = _ridge(embeddings[inside], truth[inside], embeddings[~inside], penalty)
    return predicted


def _ridge(known: WideArray, truth: WideArray, asked: WideArray, penalty: float) -> WideArray:
    """Solved in the space of rows, with an unpenalised offset; `penalty` is in units of the rows' mean variance."""
    centre, level = known.mean(axis=0), truth.mean()
    rows = known - centre
    gram = rows @ rows.T
    scale = max(float(np.trace(gram)) / len(rows), 1e-12)
    dual = np.linalg.solve(gram + penalty * scale * np.eye(len(rows)), truth - level)
    predicted: WideArray = level + (asked - centre) @ rows.T @ dual
    return predicted


def _score(predicted: WideArray, truth: WideArray, family: npt.NDArray[np.integer], seed: int) -> tuple[Figure, Figure]:
    def r2(rows: npt.NDArray[np.int64]) -> float:
        spread = np.square(truth[rows] - truth[rows].mean()).sum()
        return float(1 - np.square(truth[rows] - predicted[rows]).sum() / spread) if spread > 0 else float("nan")

    def correlation(rows: npt.NDArray[np.int64]) -> float:
        if np.ptp(truth[rows]) == 0 or np.ptp(predicted[rows]) == 0:
            return float("nan")
        return float(spearmanr(predicted[rows], truth[rows]).statistic)

    everything = np.arange(len(truth))
    r2_figure, correlation_figure = (
        Figure(
            measure(everything),
            *bootstrap_prompts(family, measure, _REPLICATES, np.random.default_rng(seed)),
            len(truth),
        )
        for measure in (r2, correlation)
    )
    return r2_figure, correlation_figure
