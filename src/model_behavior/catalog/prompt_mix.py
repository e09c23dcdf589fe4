"""What prompts do to every answer, and what another mix of prompts does to models that have not changed.

**Effect of a prompt.** Mean of other models' responses to it, each less its own model's mean, shrunk towards 0 by
c / (c + 1) for c responses. It is subtracted before two samples to different prompts are compared.

**Effect of a mix.** What is left is how each model takes a kind of prompts in its own way: longer prompts make one
model terse and another one talkative. A sample to longer prompts than the enrolled ones then differs although nothing
has changed. How much, other known models that answered the same prompts show: each is split as the compared samples
are, and the scatter of their differences, beyond what responses vary anyway, is what a mix does to a model at random
(a random effect; Laird and Ware 1982, https://doi.org/10.2307/2529876). The tests add draws of it to every relabelling,
so that a difference counts only where it exceeds both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model_behavior.arrays import Float64Array, Int64Array, UInt64Array
from model_behavior.catalog.relabelling import MixDraws, score_mixtures
from model_behavior.catalog.samples import VectorSample

LEAST_CONTROLS = 8  # models; the scatter of fewer says little
_LEAST_RESPONSES = 8  # of a control to either part of the prompts
_MOST_CONTROLS = 64  # more change nothing but the time
_LARGEST_RATIO = 6.0  # of a difference to its standard error: scores have long tails
_TINY = 1e-30


@dataclass(frozen=True, eq=False)
class PromptEffects:
    """What each prompt does to the answers of all models but one.

    Attributes:
        keys: prompts, ascending, [n_prompts].
        sums: sums of responses less their own model's mean, [n_prompts, dim].
        counts: number of responses, [n_prompts].
        means: mean of each model, 0 without responses, [n_models, dim].
    """

    keys: UInt64Array
    sums: Float64Array
    counts: Int64Array
    means: Float64Array

    def of(self, keys: UInt64Array) -> Float64Array:
        """The shrunk effect of each prompt, [n, dim]; each must be among `keys`."""
        place = np.searchsorted(self.keys, keys)
        shrunk: Float64Array = self.sums[place] / (self.counts[place, None] + 1)
        return shrunk

    def free(self, vectors: Float64Array, keys: UInt64Array, row: int) -> Float64Array:
        """Responses of a model behind the effects, less what the others say of their prompts, [n, dim]."""
        place = np.searchsorted(self.keys, keys)
        own = vectors - self.means[row]
        rest: Float64Array = vectors - (self.sums[place] - own) / np.maximum(self.counts[place, None], 1)
        return rest


@dataclass(frozen=True, eq=False)
class Control:
    """Responses of a model that has not changed, to the enrolled and to the new prompts, without their effects.

    Attributes:
        enrolled: responses to the enrolled prompts, [n_enrolled, dim].
        new: responses to the new prompts, [n_new, dim].
    """

    enrolled: Float64Array
    new: Float64Array

    @property
    def noise(self) -> float:
        """1 / n_enrolled + 1 / n_new: variance of the difference of means of responses with variance 1."""
        return 1 / len(self.enrolled) + 1 / len(self.new)


def measure_effects(sample: VectorSample, model: int, keys: UInt64Array) -> PromptEffects:
    """Effects of some prompts on the responses of every model but one, given by its row.

    Each response counts less the mean of its own model's, so that it does not matter which models answered.
    """
    asked = np.unique(keys)
    dim = sample.vectors.shape[1]
    means = np.zeros((len(sample.offsets) - 1, dim))
    sums, totals = np.zeros((len(asked), dim)), np.zeros(len(asked), dtype=np.int64)
    present = np.flatnonzero(np.diff(sample.offsets))
    rows = np.flatnonzero((sample.owner != model) & np.isin(sample.prompt_keys, asked))
    if len(rows):
        everything = np.add.reduceat(sample.vectors, sample.offsets[present], axis=0, dtype=np.float64)
        means[present] = everything / np.diff(sample.offsets)[present, None]
        ordered = rows[np.argsort(sample.prompt_keys[rows], kind="stable")]
        answered, first, counts = np.unique(sample.prompt_keys[ordered], return_index=True, return_counts=True)
        away = sample.vectors[ordered] - means[sample.owner[ordered]]
        place = np.searchsorted(asked, answered)
        sums[place], totals[place] = np.add.reduceat(away, first, axis=0), counts
    return PromptEffects(asked, sums, totals, means)


def find_controls(
    sample: VectorSample, model: int, enrolled: UInt64Array, new: UInt64Array, effects: PromptEffects
) -> list[Control]:
    """Other models that answered at least 8 of the prompts on each side, those with most first; 64 at most.

    Args:
        sample: responses of all models.
        model: row of the model that is tested.
        enrolled: prompts of its enrolled responses.
        new: prompts of its new responses; those on both sides are left out.
        effects: effects of all these prompts.
    """
    shared = np.intersect1d(enrolled, new)
    sides = [np.setdiff1d(side, shared) for side in (enrolled, new)]
    rows = [np.flatnonzero((sample.owner != model) & np.isin(sample.prompt_keys, side)) for side in sides]
    counts = np.stack([np.bincount(sample.owner[side], minlength=len(effects.means)) for side in rows]).min(axis=0)
    chosen = np.argsort(-counts, kind="stable")[:_MOST_CONTROLS]
    found = []
    for row in chosen[counts[chosen] >= _LEAST_RESPONSES].tolist():
        parts = [side[sample.owner[side] == row] for side in rows]
        vectors = [sample.vectors[part].astype(np.float64) for part in parts]
        free = [effects.free(each, sample.prompt_keys[part], row) for each, part in zip(vectors, parts, strict=True)]
        found.append(Control(*free))
    return found


def draw_mix(
    controls: Sequence[Control], others: Float64Array, noise: float, permutations: int, seed: int
) -> MixDraws | None:
    """Draws of what the mix of prompts does to a model that has not changed; None with fewer than 8 controls.

    Args:
        controls: models that have not changed, in coordinates in which responses vary with covariance 1.
        others: means of the other known models there, less the mean of the compared responses, [n_others, dim].
        noise: as of `Control`, of the compared responses.
        permutations: number of draws.
        seed: seed of the draws.
    """
    if len(controls) < LEAST_CONTROLS:
        return None
    rng = np.random.default_rng([seed, 1])
    drawn = rng.integers(len(controls), size=permutations)
    signs = rng.choice([-1.0, 1.0], size=(permutations, 1))
    return MixDraws(_spread_means(controls)[drawn] * signs, _spread_scores(controls, others, noise)[drawn])


def _spread_means(controls: Sequence[Control]) -> Float64Array:
    """Differences of the means of each control around their mean, less what chance adds to each, [n_controls, dim].

    Each is shortened by itself: models differ in how they take a kind of prompts, and a few take it to heart.
    """
    differences = np.stack([each.new.mean(axis=0) - each.enrolled.mean(axis=0) for each in controls])
    errors = np.array([sum(_error(side).sum() for side in (each.enrolled, each.new)) for each in controls])
    spread = _centre(differences)
    kept = 1 - errors / np.maximum(np.square(spread).sum(axis=1), _TINY)
    shortened: Float64Array = spread * np.sqrt(np.maximum(kept, 0))[:, None]
    return shortened


def _spread_scores(controls: Sequence[Control], others: Float64Array, noise: float) -> Float64Array:
    """The same for scores of mixtures, in standard errors of the compared samples, [n_controls, n_scores]."""
    found = []
    for each in controls:
        vectors = np.concatenate([each.enrolled, each.new])
        scores = score_mixtures(vectors, vectors.mean(axis=0) + others).reshape(len(vectors), -1)
        enrolled, new = scores[: len(each.enrolled)], scores[len(each.enrolled) :]
        error = np.sqrt(_error(enrolled) + _error(new) + _TINY)
        found.append(np.clip((new.mean(axis=0) - enrolled.mean(axis=0)) / error, -_LARGEST_RATIO, _LARGEST_RATIO))
    spread = _centre(np.stack(found))
    kept = max(0.0, 1 - 1 / max(float(np.square(spread).mean()), _TINY))
    factors = np.sqrt([kept * max(each.noise / noise, 1.0) for each in controls])
    shortened: Float64Array = spread * factors[:, None]
    return shortened


def _centre(differences: Float64Array) -> Float64Array:
    """Differences around their mean, with their variance unbiased: what all models do alike is no scatter."""
    n = len(differences)
    centred: Float64Array = (differences - differences.mean(axis=0)) * np.sqrt(n / (n - 1))
    return centred


def _error(values: Float64Array) -> Float64Array:
    """Variance of the mean of some rows, [n_columns]."""
    variance: Float64Array = values.var(axis=0, ddof=1) / len(values)
    return variance
