"""What raises and lowers a model's rating: features of its answers, by what the votes say about such answers.

The regressions of votes on features of responses (`models/scoring/answer_rating.py`) are linear. So the rating that a
model's answers speak for is the known models' mean, and for each feature

    (the model's mean of the feature - the known models' mean) x weight x slope,

joined over the regressions by the weights that they would have alone. Features that measure much the same are taken
together, and named by the one that adds most. Features without a name, such as groups of words, are part of the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from model_behavior.arrays import Float64Array
from model_behavior.artifact.folder import Contents
from model_behavior.catalog.agreement import features_of
from model_behavior.catalog.style_drivers import STYLE_LABELS, say
from model_behavior.data_models.scoring_types import ModelAnswers, ScaleName
from model_behavior.names import find_model

DRIVERS = 3
_LEAST_EFFECT = 0.006  # log-odds, 1 Elo


@dataclass(frozen=True)
class RatingDriver:
    """One kind of feature.

    Attributes:
        feature: name of the feature that adds most, as in `StyleEncoder.feature_names`.
        effect: sum of what it and those that measure much the same add to the rating, on the scale asked for.
        text: difference of the model's answers from the known models', as a sentence about the model.
    """

    feature: str
    effect: float
    text: str


@dataclass(frozen=True)
class RatingDrivers:
    """What raises and lowers a rating that is read from answers, against the known models' mean.

    Attributes:
        model: name of the model.
        raising: features that add most, the largest first.
        lowering: features that take away most, the largest first.
        rest: sum of what all other features add.
        weight: weight of these regressions in the model's rating, in [0, 1]; None where votes or published ratings
            speak for the model itself.
    """

    model: str
    raising: tuple[RatingDriver, ...]
    lowering: tuple[RatingDriver, ...]
    rest: float
    weight: float | None


def find_rating_drivers(
    artifact: Contents, models: Sequence[str], number: int = DRIVERS, scale: ScaleName = "elo"
) -> list[RatingDrivers | None]:
    """The features of models' answers that change most what their ratings are read as.

    Args:
        artifact: artifact with its catalog.
        models: names of models in it; one with votes is described as if it had none.
        number: largest number of features that raise the rating, and of those that lower it.
        scale: scale of the effects.

    Returns:
        One for each model; None without sampled answers, without a scorer, or where the votes have not taught how
        features and ratings go together.

    Raises:
        UsageError: an unknown model or scale.
    """
    catalog, scorer = artifact.catalog, artifact.scorer
    for name in models:
        find_model(catalog.models.names, name)
    nothing: list[RatingDrivers | None] = [None] * len(models)
    if scorer is None or not models:
        return nothing
    known, own = features_of(catalog.samples, scorer.voted_models), features_of(catalog.samples, models)
    effects = scorer.answer_effects(own, len(models), known) if len(known.owner) else None
    if effects is None:
        return nothing
    others, shown, drivers = _mean_of_models(known), scorer.scale(scale), nothing
    for row, name in enumerate(models):
        values = own.values[own.owner == row]
        if len(values):
            means = values.mean(axis=0, dtype=np.float64), others
            topics, rest = _name_effects(own.names, shown.unit * effects[row], means)
            drivers[row] = _strongest(
                RatingDrivers(name, topics, (), rest, scorer.answer_weight(name)), number, shown.unit
            )
    return drivers


def _strongest(found: RatingDrivers, number: int, unit: float) -> RatingDrivers:
    """The features that change most, of all of them in `raising`; the others join the rest."""
    least, ordered = _LEAST_EFFECT * unit, sorted(found.raising, key=lambda each: -each.effect)
    raising = tuple(each for each in ordered[:number] if each.effect >= least)
    lowering = tuple(each for each in ordered[::-1][:number] if each.effect <= -least)
    others = sum(each.effect for each in ordered if each not in raising and each not in lowering)
    return replace(found, raising=raising, lowering=lowering, rest=found.rest + others)


def _name_effects(
    names: Sequence[str], effects: Float64Array, means: tuple[Float64Array, Float64Array]
) -> tuple[tuple[RatingDriver, ...], float]:
    """What each topic of features adds, and what those without a name do.

    Args:
        names: names of the features, [n_features].
        effects: what each feature adds, [n_features].
        means: mean features of the model, and of the known models, [n_features] each.
    """
    topics: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        if name in STYLE_LABELS:
            topics.setdefault(STYLE_LABELS[name].topic, []).append(index)
    drivers = []
    for rows in topics.values():
        total = float(effects[rows].sum())
        # Named by what points the way that they do together.
        first = max(rows, key=lambda row: effects[row] * np.sign(total))
        label = STYLE_LABELS[names[first]]
        text = say(label, *(label.shown(float(mean[first])) for mean in means))
        drivers.append(RatingDriver(names[first], total, text))
    return tuple(drivers), float(effects.sum()) - sum(each.effect for each in drivers)


def _mean_of_models(answers: ModelAnswers) -> Float64Array:
    """Mean over models of their mean features, [n_features]."""
    n_models = int(answers.owner.max(initial=0)) + 1
    count = np.bincount(answers.owner, minlength=n_models)
    sums = np.zeros((n_models, answers.values.shape[1]))
    np.add.at(sums, answers.owner, answers.values)
    mean: Float64Array = (sums[count > 0] / count[count > 0][:, None]).mean(axis=0)
    return mean


def _round(value: float, digits: int) -> float:
    """The value as it is shown, without a sign where it is 0."""
    return round(value, digits) + 0.0


def describe_rating_drivers(found: RatingDrivers, digits: int, unit: str) -> list[str]:
    """Lines for people, without indentation."""
    lines = [
        f"{_round(each.effect, digits):+.{digits}f}{unit}: {each.text}" for each in (*found.raising, *found.lowering)
    ] or ["no feature with a name matters"]
    return [*lines, f"{_round(found.rest, digits):+.{digits}f}{unit}: all other features of its answers"]
