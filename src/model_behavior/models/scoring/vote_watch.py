"""Tests whether votes say something else than the ratings predict, and thumbs something else than they did before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import erfc
from scipy.stats import fisher_exact

from model_behavior.arrays import Float64Array, IntArray
from model_behavior.data.vote_log import LoggedThumb
from model_behavior.data_models.scoring_types import ScoringVotes
from model_behavior.models.scoring.dense_network_model import DenseNetworkModel
from model_behavior.models.scoring.model_base import NORMAL_QUANTILE

_LEAST_PROMPTS = 5
_LATEST = 100  # prompts of a model whose thumbs are compared with those of all before


@dataclass(frozen=True)
class WatchedModel:
    """Votes on one model beside what its rating predicts.

    Attributes:
        model: name of the model.
        votes: number of votes.
        prompts: number of different prompts.
        observed: share of points that it won; a tie and both_bad are half a point.
        predicted: share that the ratings predict.
        p_value: p-value of the difference, corrected for the number of models (Holm); 1 for fewer than 5 prompts.
        changed: True where the p-value is below the accepted rate of false alarms.
    """

    model: str
    votes: int
    prompts: int
    observed: float
    predicted: float
    p_value: float
    changed: bool


def watch_votes(scorer: DenseNetworkModel, votes: ScoringVotes, alpha: float = 0.05) -> tuple[WatchedModel, ...]:
    """Compares votes with predictions on the average prompt, for each model, the smallest p-value first.

    The test is of the mean residual, with a variance that is clustered by prompt, to which that of the model's own
    rating is added.

    Args:
        scorer: scorer that knows the models, and has not counted the votes.
        votes: votes, with any texts in the place of prompts.
        alpha: accepted rate of false alarms over all models together.
    """
    if not len(votes):
        return ()
    names_a, names_b = ([votes.models[row] for row in side] for side in (votes.model_a, votes.model_b))
    predicted = scorer.predict_on_average(names_a, names_b).astype(np.float64)
    points = np.array([1.0, 0.0, 0.5, 0.5])
    expected, won = predicted @ points, points[votes.outcome]
    slope = expected * (1 - expected)
    ratings = scorer.rate(votes.models)
    deviation = (ratings.high - ratings.low) / (2 * NORMAL_QUANTILE)
    found = []
    for row, name in enumerate(votes.models):
        mine = (votes.model_a == row) | (votes.model_b == row)
        left = votes.model_a[mine] == row
        own, due = (np.where(left, each[mine], 1 - each[mine]) for each in (won, expected))
        cluster = votes.prompt_index[mine]
        p_value = _p_value(own - due, cluster, float(slope[mine].sum() * deviation[row]))
        found.append((name, len(own), len(np.unique(cluster)), float(own.mean()), float(due.mean()), p_value))
    adjusted = _holm(np.array([each[5] for each in found]))
    rows = [
        WatchedModel(*each[:5], p_value=float(p), changed=bool(p < alpha))
        for each, p in zip(found, adjusted, strict=True)
    ]
    return tuple(sorted(rows, key=lambda each: (each.p_value, each.model)))


@dataclass(frozen=True)
class WatchedThumbs:
    """Thumbs for one model, the latest beside those before.

    Attributes:
        model: name of the model.
        earlier: number of earlier prompts.
        latest: number of latest prompts, 100 or half of all.
        before: share of thumbs up on the earlier ones.
        observed: share of thumbs up on the latest ones.
        p_value: p-value of the difference, corrected for the number of models (Holm).
        changed: True where the p-value is below the accepted rate of false alarms.
    """

    model: str
    earlier: int
    latest: int
    before: float
    observed: float
    p_value: float
    changed: bool


def watch_thumbs(thumbs: Sequence[LoggedThumb], alpha: float = 0.05) -> tuple[WatchedThumbs, ...]:
    """Compares each model's latest thumbs with its earlier ones by Fisher's exact test, the smallest p-value first.

    A prompt counts once for a model, with its latest thumb, since thumbs for the same prompt are not independent. The
    test is of a model against itself: shares of different models do not compare them, see
    docs/decisions/0027-drift-of-thumbs.md.

    Args:
        thumbs: thumbs in the order in which they came.
        alpha: accepted rate of false alarms over all models together.
    """
    by_model: dict[str, dict[int, bool]] = {}
    for each in thumbs:
        given = by_model.setdefault(each.model, {})
        given.pop(each.prompt, None)
        given[each.prompt] = each.up
    found = []
    for model, given in by_model.items():
        ups = list(given.values())
        n_latest = min(_LATEST, len(ups) // 2)
        earlier, latest = ups[: len(ups) - n_latest], ups[len(ups) - n_latest :]
        if latest:
            table = [[sum(part), len(part) - sum(part)] for part in (earlier, latest)]
            p_value = float(fisher_exact(table).pvalue)
            before, observed = (sum(part) / len(part) for part in (earlier, latest))
            found.append(WatchedThumbs(model, len(earlier), len(latest), before, observed, p_value, changed=False))
    adjusted = _holm(np.array([each.p_value for each in found])).tolist()
    rows = [replace(each, p_value=p, changed=p < alpha) for each, p in zip(found, adjusted, strict=True)]
    return tuple(sorted(rows, key=lambda each: (each.p_value, each.model)))


def _p_value(residual: Float64Array, cluster: IntArray, uncertainty: float) -> float:
    sums = np.bincount(np.unique(cluster, return_inverse=True)[1], residual)
    if len(sums) < _LEAST_PROMPTS:
        return 1.0
    variance = float(np.square(sums).sum()) * len(sums) / (len(sums) - 1) + uncertainty**2
    return float(erfc(abs(float(residual.sum())) / np.sqrt(2 * variance))) if variance > 0 else 1.0


def _holm(p: Float64Array) -> Float64Array:
    """Holm (1979), "A simple sequentially rejective multiple test procedure"."""
    order = np.argsort(p)
    stepped = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    adjusted = np.empty(len(p))
    adjusted[order] = stepped
    return adjusted
