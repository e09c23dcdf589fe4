"""Tests whether a model's responses have changed since it was enrolled, and says how many responses such a test needs.

**Test.** The means of the enrolled and of the new responses are compared in coordinates in which responses vary around
their model with covariance 1. The statistic is the squared distance of the two means; its distribution under "no
change" is found by permuting who said what (Pitman 1937), within each prompt where both samples answer the same
prompts, so that the prompts cannot pass for a change. The p-value is (1 + permuted >= observed) / (1 + permutations),
which is exact.

**Power.** Without a change the squared distance is close to g chi^2_h, with g and h from the mean and variance of the
permuted distances (Satterthwaite 1946). A change by `effect` adds effect^2 to it, so that the distance is g times a
noncentral chi^2_h with noncentrality effect^2 / g; g falls as the samples grow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from model_behavior.arrays import BoolArray, Float16Array, Float64Array, IntArray
from model_behavior.catalog.enrolment import Catalog
from model_behavior.catalog.style_drivers import StyleDriver, find_drivers, profile_of
from model_behavior.catalog.two_covariance import fit_whitening
from model_behavior.data.canonical_text import Changes
from model_behavior.errors import DataError, UsageError
from model_behavior.names import find_model

_CHUNK = 256  # permutations at once
_LEAST_PER_DIMENSION = 4
_REFERENCE_EFFECTS = (0.25, 0.5, 1.0)
_ROUNDING = 2.0**-22  # of the mean squared length: vectors are kept in float16, so that less is no distance
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
        p_value: probability of a distance at least this large without a change.
        changed: True if the p-value is at most alpha.
        by_prompt: True if responses to the same prompts were compared.
        shared_prompts: prompts that both samples answer.
        n_enrolled: enrolled responses compared.
        n_new: new responses compared.
        needed: number of new responses (prompts, if compared by prompt) that finds an effect of the key's size with the
            power of the configuration; None if no number suffices, since the enrolled sample is too small.
        needed_for_effect: the same number for the effect that was found; None also if the effect is 0.
        drivers: differences in style of the new responses from the enrolled ones.
        caution: limits of the test on these responses; "" if there are none.
        canonicalised: new responses that were brought to their canonical form, by kind of what was changed.
    """

    model: str
    effect: float
    p_value: float
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
    enrolled, added = catalog.samples.embedded, new.samples.embedded
    rows = enrolled.rows_of(model)
    vectors = np.concatenate([enrolled.vectors[rows], added.vectors])
    keys = np.concatenate([enrolled.prompt_keys[rows], added.prompt_keys])
    is_new = np.arange(len(vectors)) >= rows.stop - rows.start
    _check_sizes(name, int((~is_new).sum()), int(is_new.sum()))
    whitened = vectors.astype(np.float64) @ _fit_whitening(catalog, model, vectors)
    shared = np.intersect1d(keys[is_new], keys[~is_new])
    by_prompt = len(shared) >= config.min_shared_prompts
    if by_prompt:
        used = np.isin(keys, shared)
        whitened, is_new, keys = whitened[used], is_new[used], keys[used]
    stratum = np.unique(keys, return_inverse=True)[1] if by_prompt else np.zeros(len(keys), dtype=np.int64)
    observed, permuted = permute_distances(whitened, is_new, stratum, config)
    null = fit_null(permuted, int((~is_new).sum()), len(shared) if by_prompt else int(is_new.sum()), by_prompt)
    effect = float(np.sqrt(max(observed - permuted.mean(), 0)))
    p_value = float((1 + (permuted >= observed * (1 - 1e-12)).sum()) / (1 + len(permuted)))
    return DriftReport(
        model=name,
        effect=effect,
        p_value=p_value,
        changed=p_value <= config.alpha,
        by_prompt=by_prompt,
        shared_prompts=len(shared),
        n_enrolled=int((~is_new).sum()),
        n_new=int(is_new.sum()),
        needed={size: _needed(null, size, config) for size in _REFERENCE_EFFECTS},
        needed_for_effect=_needed(null, effect, config) if effect > 0 else None,
        drivers=_drivers(catalog, model, new),
        caution=_caution(len(shared), by_prompt),
    )


def permute_distances(
    vectors: Float64Array, is_new: BoolArray, stratum: IntArray, config: DriftConfig
) -> tuple[float, Float64Array]:
    """Squared distance between the two samples' means, observed and with labels permuted within strata.

    The difference is taken in each stratum and averaged over strata.

    Args:
        vectors: responses of both samples, [n, dim].
        is_new: True for responses of the new sample, [n].
        stratum: stratum of each response, 0 to n_strata - 1, each with a response of both samples, [n].
        config: number of permutations, and seed.
    """
    rng = np.random.default_rng(config.seed)
    order = np.argsort(stratum, kind="stable")
    vectors, is_new, stratum = vectors[order], is_new[order], stratum[order]
    n_new, n_all = np.bincount(stratum, is_new), np.bincount(stratum)
    n_strata = len(n_all)
    nothing = _ROUNDING * np.square(vectors).sum(axis=1).mean()
    if_new, if_old = (1 / n_new / n_strata)[stratum], (-1 / (n_all - n_new) / n_strata)[stratum]

    def squared(labels: BoolArray) -> Float64Array:
        difference = np.where(labels, if_new, if_old) @ vectors
        distances: Float64Array = np.square(difference).sum(axis=-1)
        return np.where(distances > nothing, distances, 0)

    first = np.cumsum(n_all) - n_all
    permuted = []
    for start in range(0, config.permutations, _CHUNK):
        shape = (min(_CHUNK, config.permutations - start), len(stratum))
        # Sorted by stratum and by a random number in it: labels taken in this order are permuted within strata.
        drawn = np.argsort(stratum + rng.random(shape), axis=1)
        ranked = np.arange(len(stratum)) - first[stratum] < n_new[stratum]
        labels = np.zeros(shape, dtype=bool)
        np.put_along_axis(labels, drawn, np.broadcast_to(ranked, shape), axis=1)
        permuted.append(squared(labels))
    return float(squared(is_new)), np.concatenate(permuted)


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
    others = sample.owner != model
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


def _caution(shared: int, by_prompt: bool) -> str:
    if by_prompt:
        return ""
    return (
        f"only {shared} prompts are in both samples, so a change of prompts cannot be told from a change of the model. "
        "Fix: ask the prompts that the model was enrolled with"
    )
