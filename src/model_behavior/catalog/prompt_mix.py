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

from model_behavior.arrays import BoolArray, Float64Array, Int64Array, IntArray, UInt64Array
from model_behavior.catalog.relabelling import MixDraws, score_mixtures
from model_behavior.catalog.samples import VectorSample

LEAST_CONTROLS = 8  # models; the scatter of fewer says little
_LEAST_RESPONSES = 8  # of a control to either part of the prompts
_MOST_CONTROLS = 64  # more change nothing but the time
_LARGEST_RATIO = 6.0  # of a difference to its standard error: scores have long tails
_SPLITS, _CHANCE = 39, 0.05
_FREEDOM = 4  # of the tails: some models take a kind of prompts to heart far more than any of a few dozen controls
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
    """Responses of a model that has not changed, to enrolled and to new prompts, without the prompts' effects.

    Attributes:
        vectors: the responses, [n, dim].
        prompt: prompt of each, as a row of the prompts of all controls, [n].
        is_new: True for responses to new prompts, [n].
    """

    vectors: Float64Array
    prompt: IntArray
    is_new: BoolArray

    @property
    def noise(self) -> float:
        """1 / n_enrolled + 1 / n_new: variance of the difference of means of responses with variance 1."""
        n_new = int(self.is_new.sum())
        return 1 / (len(self.is_new) - n_new) + 1 / n_new

    def contrasts(self, splits: BoolArray) -> Float64Array:
        """Weights of the responses in the mean to new less that to enrolled prompts, as they are split, then by chance.

        Args:
            splits: True for new prompts, by chance, [n_splits, n_prompts].
        """
        is_new = np.concatenate([self.is_new[None], splits[:, self.prompt]])
        n_new = is_new.sum(axis=1, keepdims=True)
        weights: Float64Array = is_new / np.maximum(n_new, 1) - ~is_new / np.maximum(is_new.shape[1] - n_new, 1)
        return weights


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
    old_side, new_side = (np.setdiff1d(side, shared) for side in (enrolled, new))
    prompts = np.union1d(old_side, new_side)
    rows = np.flatnonzero((sample.owner != model) & np.isin(sample.prompt_keys, prompts))
    owner, keys = sample.owner[rows], sample.prompt_keys[rows]
    is_new = np.isin(keys, new_side)
    n_models = len(effects.means)
    counts = np.minimum(*(np.bincount(owner[side], minlength=n_models) for side in (is_new, ~is_new)))
    chosen = np.argsort(-counts, kind="stable")[:_MOST_CONTROLS]
    found = []
    for row in chosen[counts[chosen] >= _LEAST_RESPONSES].tolist():
        own = owner == row
        free = effects.free(sample.vectors[rows[own]].astype(np.float64), keys[own], row)
        found.append(Control(free, np.searchsorted(prompts, keys[own]), is_new[own]))
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
    contrasts = _split(controls, rng)
    drawn = rng.integers(len(controls), size=permutations)
    signs = rng.choice([-1.0, 1.0], size=(permutations, 1))
    tails = np.sqrt(_FREEDOM / rng.chisquare(_FREEDOM, size=(permutations, 1)))
    means = _spread_means(controls, contrasts)[drawn] * signs
    return MixDraws(means * tails, _spread_scores(controls, contrasts, others, noise)[drawn] * tails)


def _split(controls: Sequence[Control], rng: np.random.Generator) -> list[Float64Array]:
    """Contrasts of each control, as it is split and then by chance, the prompts of all in the same way."""
    n_prompts = 1 + max(int(each.prompt.max()) for each in controls)
    is_new = np.zeros(n_prompts, dtype=bool)
    for each in controls:
        is_new[each.prompt[each.is_new]] = True
    splits = rng.permuted(np.broadcast_to(is_new, (_SPLITS, n_prompts)), axis=1)
    return [each.contrasts(splits) for each in controls]


def _spread_means(controls: Sequence[Control], contrasts: Sequence[Float64Array]) -> Float64Array:
    """What the mix does to the mean of each control, [n_controls, dim]."""
    pairs = zip(controls, contrasts, strict=True)
    return _shorten(np.stack([weights @ each.vectors for each, weights in pairs], axis=1))


def _spread_scores(
    controls: Sequence[Control], contrasts: Sequence[Float64Array], others: Float64Array, noise: float
) -> Float64Array:
    """What it does to their scores of mixtures, in standard errors of the compared samples, [n_controls, n_scores]."""
    found = []
    for each, weights in zip(controls, contrasts, strict=True):
        scores = score_mixtures(each.vectors, each.vectors.mean(axis=0) + others).reshape(len(each.vectors), -1)
        errors = scores.std(axis=0, ddof=1) * np.sqrt(each.noise)
        found.append(np.clip(weights @ scores / np.maximum(errors, _TINY), -_LARGEST_RATIO, _LARGEST_RATIO))
    factors = np.sqrt([max(each.noise / noise, 1.0) for each in controls])
    spread: Float64Array = _shorten(np.stack(found, axis=1)) * factors[:, None]
    return spread


def _shorten(differences: Float64Array) -> Float64Array:
    """Differences of the controls around their mean, less what chance adds to each, [n_controls, n_columns].

    What all models do alike is no scatter. Each is shortened by itself: models differ in how they take a kind of
    prompts, and a few take it to heart. All are 0 where 5 % of the random splits scatter as much.

    Args:
        differences: of each control, as it is split and then by chance, [1 + n_splits, n_controls, n_columns].
    """
    n = differences.shape[1]
    centred = (differences - differences.mean(axis=1, keepdims=True)) * np.sqrt(n / (n - 1))
    lengths = np.square(centred).sum(axis=2)  # [1 + n_splits, n_controls]
    totals = lengths.sum(axis=1)
    if (totals >= totals[0]).mean() > _CHANCE:
        return np.zeros_like(centred[0])
    kept = 1 - lengths[1:].mean(axis=0) / np.maximum(lengths[0], _TINY)
    shortened: Float64Array = centred[0] * np.sqrt(np.maximum(kept, 0))[:, None]
    return shortened
