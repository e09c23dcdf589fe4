"""Permutation tests of two samples of responses: of their means, and of a mixture with another known model.

Under "no change" it is arbitrary who said what (Pitman 1937): every relabelling of the responses, within each prompt
where both samples answer the same ones, is equally likely. A statistic's p-value is the share of relabellings, the
observed one included, in which it is at least as large, which is exact whatever the statistic is, as long as it treats
all relabellings alike.

**Means.** The squared distance of the two samples' means.

**Mixtures.** Where an API answers some requests with another model, the means hardly move. If the new responses are
of the enrolled model in a share 1 - e of cases and of model k in a share e, the best test of that (Neyman and Pearson
1933) sums log(1 - e + e r) over them, with r the ratio of the densities of k and of the enrolled model, both normal
with covariance 1. Its mean in the new sample, less that in the enrolled one, is taken for every other known model k and
for several shares e, each in its standard deviation over the relabellings, and the statistic is the largest. The
enrolled model's density is around the mean of both samples, so that all relabellings are treated alike.

**Together.** Both tests see the same relabellings. Their p-values are combined by the weighted sum of 1 / p (Wilson
2019, https://doi.org/10.1073/pnas.1814092116), which is a statistic of the relabelling, too (Pesarin 2001), so that
the result is exact and needs no correction.

**Mix of prompts.** Where the samples answer different prompts, what another mix of prompts does to a model that has not
changed may be given as draws (`prompt_mix`). One is added to every relabelling, but not to what is observed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from model_behavior.arrays import BoolArray, Float64Array, IntArray

_CHUNK = 256  # relabellings at once
_SHARES = (0.05, 0.1, 0.3, 1.0)  # of foreign responses in a mixture
_ROUNDING = 2.0**-11  # of a typical length: vectors are kept in float16, so that less is no distance
_LARGEST_LOG_RATIO = 50.0


@dataclass(frozen=True, eq=False)
class MixDraws:
    """Draws of what a mix of prompts does to a model that has not changed.

    Attributes:
        means: additions to the difference of the means, [permutations, dim].
        scores: additions to the differences of the mean scores, in standard deviations over the relabellings,
            [permutations, n_models * n_shares].
    """

    means: Float64Array
    scores: Float64Array


@dataclass(frozen=True, eq=False)
class Relabelling:
    """How two samples are relabelled.

    Attributes:
        is_new: True for responses of the new sample, [n].
        stratum: stratum of each response, 0 to n_strata - 1, each with a response of both samples, [n].
        permutations: number of random relabellings.
        seed: seed of the relabellings; the same seed gives the same ones.
        mix: additions of a mix of prompts to each relabelling; None without any.
    """

    is_new: BoolArray
    stratum: IntArray
    permutations: int
    seed: int
    mix: MixDraws | None = None

    def contrasts(self) -> Iterator[Float64Array]:
        """As from `relabel`."""
        return relabel(self.is_new, self.stratum, self.permutations, self.seed)


def permute_distances(vectors: Float64Array, how: Relabelling) -> Float64Array:
    """Squared distance between the two samples' means, [1 + permutations], the observed one first.

    The difference is taken in each stratum and averaged over strata.

    Args:
        vectors: responses of both samples, [n, dim].
        how: labels and relabellings.
    """
    nothing = _ROUNDING**2 * np.square(vectors).sum(axis=1).mean()
    differences = np.concatenate([contrasts @ vectors for contrasts in how.contrasts()])
    if how.mix is not None:
        differences[1:] += how.mix.means
    distances: Float64Array = np.square(differences).sum(axis=1)
    return np.where(distances > nothing, distances, 0)


def permute_mixtures(scores: Float64Array, how: Relabelling) -> tuple[Float64Array, int]:
    """Largest standardised difference between the two samples' mean scores, [1 + permutations], the observed one first.

    Args:
        scores: log(1 - e + e r) of each response for every other model and share, [n, n_models, n_shares].
        how: labels and relabellings.

    Returns:
        The statistics, and the model with the largest observed difference.
    """
    flat = scores.reshape(len(scores), -1)
    nothing = _ROUNDING * flat.std(axis=0)
    differences = np.concatenate([contrasts @ flat for contrasts in how.contrasts()])
    differences[np.abs(differences) <= nothing] = 0
    if how.mix is not None:
        differences[1:] += how.mix.scores * differences.std(axis=0)
    deviation = differences.std(axis=0)
    standard = differences / np.where(deviation > 0, deviation, np.inf)
    statistics: Float64Array = standard.max(axis=1)
    return statistics, int(standard[0].argmax()) // scores.shape[2]


def score_mixtures(vectors: Float64Array, others: Float64Array) -> Float64Array:
    """log(1 - e + e r) of each response, for every other model and share e, [n, n_others, n_shares].

    Args:
        vectors: responses of both samples, in coordinates in which they vary with covariance 1, [n, dim].
        others: means of the other models there, [n_others, dim].
    """
    centre = vectors.mean(axis=0)
    away = others - centre
    ratios = (vectors - centre) @ away.T - np.square(away).sum(axis=1) / 2
    ratios = np.clip(ratios, -_LARGEST_LOG_RATIO, _LARGEST_LOG_RATIO)
    parts = [ratios if share == 1 else np.log1p(share * np.expm1(ratios)) for share in _SHARES]
    scores: Float64Array = np.stack(parts, axis=2)
    return scores


def combine(statistics: Sequence[Float64Array], weights: Sequence[float]) -> tuple[float, tuple[float, ...]]:
    """The p-value of several tests together, and of each.

    Args:
        statistics: statistics of each test for the same relabellings, the observed one first, [1 + permutations] each.
        weights: weight of each test.
    """
    p_values = np.stack([_p_values(each) for each in statistics])
    together = _p_values(np.array(weights) @ (1 / p_values))
    return float(together[0]), tuple(p_values[:, 0].tolist())


def _p_values(statistics: Float64Array) -> Float64Array:
    """Share of the relabellings with a statistic at least as large as each one's, [1 + permutations]."""
    smaller = np.searchsorted(np.sort(statistics), statistics - 1e-12 * np.abs(statistics), side="left")
    shares: Float64Array = (len(statistics) - smaller) / len(statistics)
    return shares


def relabel(is_new: BoolArray, stratum: IntArray, permutations: int, seed: int) -> Iterator[Float64Array]:
    """Weights of each response in the mean of the new less that of the enrolled ones, [chunk, n].

    The first chunk has the observed labels alone; arguments as of `Relabelling`.
    """
    rng = np.random.default_rng(seed)
    n_new, n_all = np.bincount(stratum, is_new), np.bincount(stratum)
    n_strata = len(n_all)
    if_new, if_old = (1 / n_new / n_strata)[stratum], (-1 / (n_all - n_new) / n_strata)[stratum]
    yield np.where(is_new, if_new, if_old)[None]
    ordered = np.sort(stratum)
    first = np.cumsum(n_all) - n_all
    ranked = np.arange(len(stratum)) - first[ordered] < n_new[ordered]
    for start in range(0, permutations, _CHUNK):
        shape = (min(_CHUNK, permutations - start), len(stratum))
        # Sorted by stratum and by a random number in it: labels taken in this order are permuted within strata.
        drawn = np.argsort(stratum + rng.random(shape), axis=1)
        labels = np.zeros(shape, dtype=bool)
        np.put_along_axis(labels, drawn, np.broadcast_to(ranked, shape), axis=1)
        yield np.where(labels, if_new, if_old)
