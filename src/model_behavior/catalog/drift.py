"""Tests whether a model's responses have changed since it was enrolled, and says how many responses such a test needs.

**Test.** The enrolled and the new responses are compared in coordinates in which responses vary around their model with
covariance 1, by two permutation tests together (`relabelling`): of the samples' means, for a change of all responses,
and of a mixture with another known model, for a change of some. Responses are relabelled within each prompt where both
samples answer the same prompts, so that the prompts cannot pass for a change. Where they answer others, what a prompt
does to every answer is subtracted, and what another mix of prompts does to models that have not changed is allowed for,
as far as other models' responses to these prompts tell (`prompt_mix`). Decisions 0026 and 0037 have the power.

**Power.** Without a change the squared distance of the means is close to g chi^2_h, with g and h from the mean and
variance of the permuted distances (Satterthwaite 1946). A change by `effect` adds effect^2 to it, so that the distance
is g times a noncentral chi^2_h with noncentrality effect^2 / g; g falls as the samples grow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from model_behavior.arrays import BoolArray, Float16Array, Float64Array, IntArray
from model_behavior.catalog.cut_responses import find_limit, read_endings
from model_behavior.catalog.enrolment import Catalog
from model_behavior.catalog.prompt_mix import LEAST_CONTROLS, Control, draw_mix, find_controls, measure_effects
from model_behavior.catalog.relabelling import (
    Relabelling,
    combine,
    permute_distances,
    permute_mixtures,
    score_mixtures,
)
from model_behavior.catalog.style_drivers import StyleDriver, find_drivers, profile_of
from model_behavior.catalog.two_covariance import fit_whitening
from model_behavior.data.canonical_text import Changes
from model_behavior.errors import DataError, UsageError
from model_behavior.names import find_model

_LEAST_PER_DIMENSION = 4
_MOST_WHITENED = 4096  # responses of other models: more change nothing but the time
_WEIGHTS = (0.2, 0.8)  # of the tests of means and of mixtures
_REFERENCE_EFFECTS = (0.25, 0.5, 1.0)
_MOST = 100_000


@dataclass(frozen=True)
class DriftConfig:
    """Settings of the drift test.

    Attributes:
        permutations: number of permutations; the smallest p-value is 1 / (permutations + 1).
        alpha: probability of a false alarm; with 0 nothing counts as a change.
        power: probability of finding an effect, at which `needed` responses are counted.
        min_shared_prompts: fewest prompts in common to compare by prompt; below, all responses are compared at once.
        seed: seed of the permutations.

    Raises:
        UsageError: alpha is above 0 and smaller than every possible p-value.
    """

    permutations: int = 999
    alpha: float = 0.05
    power: float = 0.8
    min_shared_prompts: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise UsageError(f"alpha={self.alpha}: the probability of a false alarm is from 0 to 1, such as 0.05")
        smallest = 1 / (self.permutations + 1)
        if 0 < self.alpha < smallest:
            raise UsageError(
                f"permutations={self.permutations}, alpha={self.alpha}: the smallest p-value is {smallest:.3g}, so no "
                f"change would ever be found. Fix: at least {math.ceil(1 / self.alpha) - 1} permutations"
            )


@dataclass(frozen=True)
class DriftReport:
    """Result of a comparison of new responses with the enrolled ones.

    Attributes:
        model: name of the model.
        effect: distance of the two means in standard deviations of single responses along the line between them, less
            the part expected by chance; never below 0.
        p_value: probability of a difference at least this large without a change, by both tests together.
        p_mean: p-value of the test of means alone.
        p_mixture: p-value of the test of mixtures alone; None if the catalog has no other model.
        resembles: model that the new responses lean to, more than the enrolled ones do; None if no change was found, or
            none towards a known model.
        changed: True if the p-value is at most alpha.
        by_prompt: True if responses to the same prompts were compared.
        shared_prompts: prompts that both samples answer.
        n_enrolled: enrolled responses compared.
        n_new: new responses compared.
        needed: number of new responses (prompts, if compared by prompt) with which the test of means alone finds an
            effect of the key's size with the power of the configuration; None if no number suffices, since the enrolled
            sample is too small.
        needed_for_effect: the same number for the effect that was found; None also if the effect is 0.
        drivers: differences in style of the new responses from the enrolled ones.
        caution: limits of the test on these responses; "" if there are none.
        canonicalised: new responses that were brought to their canonical form, by kind of what was changed.
    """

    model: str
    effect: float
    p_value: float
    p_mean: float
    p_mixture: float | None
    resembles: str | None
    changed: bool
    by_prompt: bool
    shared_prompts: int
    n_enrolled: int
    n_new: int
    needed: dict[float, int | None]
    needed_for_effect: int | None
    drivers: tuple[StyleDriver, ...]
    caution: str
    canonicalised: Changes = field(default_factory=dict)


@dataclass(frozen=True)
class NullDistribution:
    """Distances without a change, as g chi^2_h, and the sizes that they were found with.

    Attributes:
        scale: scale of the distribution, g.
        freedom: degrees of freedom, h.
        n_enrolled: number of enrolled responses; does not matter where responses are compared by prompt.
        n_new: number of new responses, or of prompts.
        by_prompt: True if both samples grow together, a prompt at a time.
    """

    scale: float
    freedom: float
    n_enrolled: int
    n_new: int
    by_prompt: bool

    def scale_with(self, n_new: int) -> float:
        """g with another number of new responses, or of prompts."""
        if self.by_prompt:
            return self.scale * self.n_new / n_new
        return self.scale * (1 / self.n_enrolled + 1 / n_new) / (1 / self.n_enrolled + 1 / self.n_new)


def measure_drift(catalog: Catalog, name: str, new: Catalog, config: DriftConfig | None = None) -> DriftReport:
    """Compares new responses of a model with its enrolled sample.

    Args:
        catalog: catalog with the model as it was enrolled.
        name: name of the model.
        new: new responses, enrolled on their own under any one name.
        config: settings of the test.

    Raises:
        UsageError: the name is unknown, or `new` has several models.
        DataError: a side has fewer than two responses.
    """
    config = config if config is not None else DriftConfig()
    if len(new.models) != 1:
        raise UsageError(f"the new responses are of {len(new.models)} models; drift compares one. Fix: choose one")
    model = find_model(catalog.models.names, name)
    sides = line_up(catalog, model, new, config)
    n_new = int(sides.is_new.sum())
    found = compare_sides(catalog, model, sides, config)
    permuted = found.distances[1:]
    null = fit_null(permuted, len(sides.is_new) - n_new, sides.n_shared if sides.by_prompt else n_new, sides.by_prompt)
    effect = float(np.sqrt(max(found.distances[0] - permuted.mean(), 0)))
    changed = found.p_value <= config.alpha
    leans = changed and found.p_mixture is not None and found.p_mixture <= config.alpha
    return DriftReport(
        model=name,
        effect=effect,
        p_value=found.p_value,
        p_mean=found.p_mean,
        p_mixture=found.p_mixture,
        resembles=found.nearest if leans else None,
        changed=changed,
        by_prompt=sides.by_prompt,
        shared_prompts=sides.n_shared,
        n_enrolled=len(sides.is_new) - n_new,
        n_new=n_new,
        needed={size: _needed(null, size, config) for size in _REFERENCE_EFFECTS},
        needed_for_effect=_needed(null, effect, config) if effect > 0 else None,
        drivers=_drivers(catalog, model, new),
        caution=_caution(sides),
    )


@dataclass(frozen=True, eq=False)
class Sides:
    """Both samples, those to shared prompts alone where they are compared by prompt.

    Attributes:
        vectors: responses in coordinates in which they vary around their model with covariance 1, [n, dim].
        others: means of the other known models there, [n_others, dim].
        is_new: True for responses of the new sample, [n].
        stratum: prompt of each response, or 0 where they are compared all at once, [n].
        n_shared: number of prompts that both samples answer.
        by_prompt: True if they are compared by prompt.
        limit: log(1 + characters) from which on responses are set aside, since a limit cuts those of one sample.
        n_cut: number of responses that are set aside for it.
        controls: other models' responses to the same prompts, in the coordinates of `vectors`; none by prompt.
    """

    vectors: Float64Array
    others: Float64Array
    is_new: BoolArray
    stratum: IntArray
    n_shared: int
    by_prompt: bool
    limit: float
    n_cut: int
    controls: tuple[Control, ...] = ()


@dataclass(frozen=True, eq=False)
class ChangeTests:
    """Results of both tests; `distances` as from `permute_distances`, `nearest` the model of the largest difference."""

    distances: Float64Array
    p_value: float
    p_mean: float
    p_mixture: float | None
    nearest: str | None


def line_up(catalog: Catalog, model: int, new: Catalog, config: DriftConfig) -> Sides:
    """Brings both samples of a model, given by its row, to the coordinates of the tests.

    Raises:
        DataError: a side has fewer than two responses.
    """
    enrolled, added = catalog.samples.embedded, new.samples.embedded
    rows = enrolled.rows_of(model)
    vectors = np.concatenate([enrolled.vectors[rows], added.vectors])
    keys = np.concatenate([enrolled.prompt_keys[rows], added.prompt_keys])
    is_new = np.arange(len(vectors)) >= rows.stop - rows.start
    _check_sizes(catalog.models.names[model], int((~is_new).sum()), int(is_new.sum()))
    whitening = _fit_whitening(catalog, model, vectors)
    sides = [read_endings(catalog.samples, model), read_endings(new.samples, 0)]
    lengths, unfinished = (np.concatenate(each) for each in zip(*sides, strict=True))
    limit = find_limit(lengths, unfinished, is_new)
    kept = lengths < limit
    if not kept[is_new].sum() > 1 < kept[~is_new].sum():
        raise DataError(
            f"nearly all responses of {catalog.models.names[model]} are longer than {math.expm1(limit):,.0f} "
            "characters, where a limit on the length cuts those of one sample. Fix: ask with the limit of the enrolment"
        )
    vectors, keys, is_new = vectors[kept], keys[kept], is_new[kept]
    shared = np.intersect1d(keys[is_new], keys[~is_new])
    by_prompt = len(shared) >= config.min_shared_prompts
    used = np.isin(keys, shared) if by_prompt else np.ones(len(keys), dtype=bool)
    keys, is_new = keys[used], is_new[used]
    effects = measure_effects(enrolled, model, keys)
    controls = () if by_prompt else find_controls(enrolled, model, keys[~is_new], keys[is_new], effects)
    return Sides(
        vectors=(vectors[used].astype(np.float64) - effects.of(keys)) @ whitening,
        others=np.delete(catalog.models.mean.astype(np.float64), model, axis=0) @ whitening,
        is_new=is_new,
        stratum=np.unique(keys, return_inverse=True)[1] if by_prompt else np.zeros(len(keys), dtype=np.int64),
        n_shared=len(shared),
        by_prompt=by_prompt,
        limit=limit,
        n_cut=int((~kept).sum()),
        controls=tuple(replace(each, vectors=each.vectors @ whitening) for each in controls),
    )


def compare_sides(catalog: Catalog, model: int, sides: Sides, config: DriftConfig) -> ChangeTests:
    """Both tests, one by one and together, of a model given by its row."""
    n_new = int(sides.is_new.sum())
    noise, away = 1 / n_new + 1 / (len(sides.is_new) - n_new), sides.others - sides.vectors.mean(axis=0)
    mix = draw_mix(sides.controls, away, noise, config.permutations, config.seed)
    how = Relabelling(sides.is_new, sides.stratum, config.permutations, config.seed, mix)
    distances = permute_distances(sides.vectors, how)
    if not len(sides.others):
        p_value, _ = combine([distances], [1.0])
        return ChangeTests(distances, p_value, p_value, None, None)
    mixtures, row = permute_mixtures(score_mixtures(sides.vectors, sides.others), how)
    p_value, (p_mean, p_mixture) = combine([distances, mixtures], _WEIGHTS)
    names = [name for other, name in enumerate(catalog.models.names) if other != model]
    return ChangeTests(distances, p_value, p_mean, p_mixture, names[row])


def fit_null(permuted: Float64Array, n_enrolled: int, n_new: int, by_prompt: bool) -> NullDistribution:
    """Matches mean and variance of permuted squared distances; other arguments as in `NullDistribution`."""
    mean, variance = float(permuted.mean()), float(permuted.var())
    if mean <= 0 or variance <= 0:  # responses that are all the same never differ by chance
        return NullDistribution(0.0, 1.0, n_enrolled, n_new, by_prompt)
    return NullDistribution(variance / mean / 2, 2 * mean**2 / variance, n_enrolled, n_new, by_prompt)


def power_of(null: NullDistribution, effect: float, n_new: int, alpha: float) -> float:
    """Probability that a change by `effect` is found with `n_new` new responses, or prompts."""
    scale = null.scale_with(n_new)
    if scale == 0:
        return 1.0
    from scipy import stats  # slow to load, and needed here alone

    critical = stats.chi2.isf(alpha, null.freedom)
    return float(stats.ncx2.sf(critical, null.freedom, effect**2 / scale))


def responses_needed(null: NullDistribution, effect: float, alpha: float, power: float) -> int | None:
    """The fewest new responses, or prompts, with which a change by `effect` is found with that power.

    None where 100,000 would not do. At least 2.
    """
    low, high = 1, 2
    while power_of(null, effect, high, alpha) < power:
        if high >= _MOST:
            return None
        low, high = high, min(2 * high, _MOST)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if power_of(null, effect, middle, alpha) < power else (low, middle)
    return high


def _fit_whitening(catalog: Catalog, model: int, compared: Float16Array) -> Float64Array:
    """Coordinates from other models' responses; with too few of them, from the compared ones too, taken together.

    The enrolled and the new responses have the same part in it, otherwise the permutations would not be exact.
    """
    sample = catalog.samples.embedded
    others = np.flatnonzero(sample.owner != model)
    others = others[:: -(-len(others) // _MOST_WHITENED) or 1]
    vectors, owner = sample.vectors[others], sample.owner[others]
    if len(vectors) < _LEAST_PER_DIMENSION * vectors.shape[1]:
        vectors, owner = np.concatenate([vectors, compared]), np.append(owner, np.full(len(compared), model))
    return fit_whitening(vectors, owner)


def _needed(null: NullDistribution, effect: float, config: DriftConfig) -> int | None:
    return responses_needed(null, effect, config.alpha, config.power)


def _drivers(catalog: Catalog, model: int, new: Catalog) -> tuple[StyleDriver, ...]:
    if catalog.samples.style_count[model] < 2 or new.samples.style_count[0] < 2:
        return ()
    return find_drivers(profile_of(new.samples, 0), profile_of(catalog.samples, model))


def _check_sizes(name: str, n_enrolled: int, n_new: int) -> None:
    if n_enrolled < 2:
        raise DataError(
            f"{name} has {n_enrolled} sampled responses in the catalog: 2 at least are needed to compare. "
            "Fix: enrol it again from its responses"
        )
    if n_new < 2:
        raise DataError(f"{n_new} new responses of {name}: 2 at least are needed to compare")


def _caution(sides: Sides) -> str:
    found = []
    if not sides.by_prompt:
        told = len(sides.controls) >= LEAST_CONTROLS
        found.append(
            f"only {sides.n_shared} prompts are in both samples, so a change of prompts "
            + (
                f"is allowed for as {len(sides.controls)} other models take it"
                if told
                else "cannot be told from a change of the model"
            )
            + ". Fix: ask the prompts that the model was enrolled with"
        )
    if sides.n_cut:
        found.append(
            f"a limit cuts responses of one sample at about {math.expm1(sides.limit):,.0f} characters, so that "
            f"{sides.n_cut} of that length are not compared. Fix: ask with the limit of the enrolment"
        )
    return "; ".join(found)
