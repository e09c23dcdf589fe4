"""Placement: estimates where a model lies in the embedding space, and how certain that is, from k of its responses.

    x_ij = mean + y_i + e_ij,   y_i ~ N(0, t_i B),   e_ij ~ N(0, s_i W)

**Place.** The two-covariance model (`two_covariance`) with a scale t_i for models that lie far out, and a scale s_i
since some models vary more than others. A model's place is the posterior mean of y_i, averaged over a grid of t_i: the
mean of its responses, shrunk towards the population as far as the noise in it is the larger of the two (Efron and
Morris 1973; t_i keeps outliers from being shrunk, as a heavy-tailed prior does, Dawid 1973). s_i is the pooled variance
of its responses and of `freedom` responses' worth of the population (inverse-gamma prior, Gelman et al. 2013, 5.4 and
2.6).

**Region.** Few models say little of how a model of another family will lie, so the expected error of the model is not
taken at its word: the radius of a region is that error times a quantile of how far off left-out families were in
relation to theirs (split conformal prediction, Vovk, Gammerman and Shafer 2005; Lei et al. 2018,
https://doi.org/10.1080/01621459.2017.1307116).

**Topics.** Responses to one topic say less than as many to different ones. With an intraclass correlation r between
responses of one model to one topic, the mean of k responses varies as that of

    k / (1 + r (m - 1)),   m = sum over topics of (responses to it)^2 / k

independent ones (Kish 1965, Survey Sampling, 5.4 and 11.7). r is estimated from the mean squares between and within
topics, summed over dimensions and models (one-way analysis of variance, Searle, Casella and McCulloch 1992, 3.6).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from model_behavior.arrays import Float64Array, FloatArray, IntArray, UInt64Array
from model_behavior.catalog.enrolment import Catalog
from model_behavior.catalog.two_covariance import TwoCovariance, fit_two_covariance
from model_behavior.errors import DataError, UsageError
from model_behavior.names import family_of

LEVELS = (0.5, 0.8, 0.95)
_LOG_SCALES = np.linspace(-3, 5, 33)
_LOG_SCALE_DEVIATION = 0.5
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
_DRAWS = 4
_LEAST_RESPONSES, _LEAST_FAMILIES = 6, 3
_LEAST_TRIALS = 20
_ISOTROPIC = 0.3  # share of B that is the same in all directions of scatter: new families leave the old ones' span
_LEAST_LOG_VARIANCE = 1e-3


@dataclass(frozen=True, eq=False)
class Placement:
    """A model's place.

    Attributes:
        embedding: place of the model, shrunk, [dim].
        responses: number of independent responses that it rests on.
        error: root of the expected square distance of `embedding` from the mean of endlessly many responses, if the
            population were as it is modelled.
        radius: radius of the region around `embedding` that holds that mean, by probability: 0.5, 0.8, 0.95.
        spread: root mean square distance of one response from its model's mean, partly the population's.
    """

    embedding: Float64Array
    responses: float
    error: float
    radius: Mapping[float, float]
    spread: float


@dataclass(frozen=True, eq=False)
class Population:
    """How models lie and how their responses vary; see the module's equations.

    Attributes:
        scatter: mean, W and B.
        freedom: degrees of freedom of the prior of s_i, in squared distances.
        sizes: numbers of responses that regions are calibrated at, ascending, [n_sizes].
        factors: radius over expected error at those sizes, by level, [n_sizes, 3].
    """

    scatter: TwoCovariance
    freedom: float
    sizes: Float64Array
    factors: Float64Array

    def place(self, vectors: FloatArray, effective: float | None = None) -> Placement:
        """Places a model.

        Args:
            vectors: embeddings of k of its responses, [k, dim].
            effective: effective number of independent responses, see `effective_responses`; k by default.

        Raises:
            UsageError: there are no responses, or their embeddings have another size.
        """
        dim = len(self.scatter.mean)
        if vectors.ndim != 2 or not len(vectors) or vectors.shape[1] != dim:
            raise UsageError(f"embeddings of shape {vectors.shape}: at least one response is needed, [k, {dim}]")
        k = float(len(vectors)) if effective is None else effective
        embedding, variance, scale = posterior(self.scatter, self.freedom, vectors.astype(np.float64), k)
        error = float(np.sqrt(variance))
        return Placement(
            embedding=embedding,
            responses=k,
            error=error,
            radius={level: error * factor for level, factor in zip(LEVELS, self._factors_at(k), strict=True)},
            spread=float(np.sqrt(scale * self.scatter.within_trace)),
        )

    def radius_after(self, placement: Placement, responses: int, level: float = 0.95) -> float:
        """The radius to expect of a model as scattered as a placed one, from a number of responses.

        Args:
            placement: place of the model, which gives the scatter.
            responses: number of responses altogether, at least 1.
            level: probability of the region: 0.5, 0.8 or 0.95.
        """
        scale = placement.spread**2 / self.scatter.within_trace
        between = self.scatter.between
        error = np.sqrt((between * scale / (responses * between + scale)) @ self.scatter.lengths)
        return float(error * self._factors_at(float(responses))[LEVELS.index(level)])

    def _factors_at(self, k: float) -> list[float]:
        log = np.log(self.sizes)
        return [float(np.interp(np.log(k), log, column)) for column in self.factors.T]


def fit_population(catalog: Catalog, seed: int = 0) -> Population:
    """Fits to the sampled responses of a catalog's models.

    Those of a model that the encoder was trained on are held back from training, so that they vary as new ones do.

    Args:
        catalog: models of at least three families with six sampled responses each.
        seed: seed of the draws that regions are calibrated on.

    Raises:
        DataError: fewer models than that.
    """
    sample = catalog.samples.embedded
    enough = np.flatnonzero(np.diff(sample.offsets) >= _LEAST_RESPONSES)
    families = np.array([family_of(catalog.models.names[index]) for index in enough.tolist()])
    if len(np.unique(families)) < _LEAST_FAMILIES:
        raise DataError(
            f"the catalog has {len(enough)} models of {len(np.unique(families))} families with at least "
            f"{_LEAST_RESPONSES} sampled responses: {_LEAST_FAMILIES} families are needed to tell how models lie. "
            "Fix: enrol more models from their responses"
        )
    rows = np.isin(sample.owner, enough)
    owner = np.searchsorted(enough, sample.owner[rows])
    return fit_population_to(sample.vectors[rows].astype(np.float64), owner, sample.prompt_keys[rows], families, seed)


def fit_population_to(
    vectors: Float64Array,
    owner: IntArray,
    prompt: UInt64Array,
    families: npt.NDArray[np.str_],
    seed: int,
) -> Population:
    """The same from responses: [n, dim], model of each [n], prompt of each [n], family of each model [n_models]."""
    scatter = _scatter(vectors, owner)
    rng = np.random.default_rng(seed)
    freedom = _freedom(scatter, vectors, owner)
    ratios: dict[int, list[float]] = {k: [] for k in _SIZES}
    prompts = np.unique(prompt)
    for family in np.unique(families):
        out = np.isin(owner, np.flatnonzero(families == family))
        left = _scatter(vectors[~out], owner[~out])
        for model in np.unique(owner[out]):
            own = np.flatnonzero(owner == model)
            for _ in range(_DRAWS):
                asked = np.isin(prompt[own], rng.permutation(prompts)[: len(prompts) // 2])
                _compare(left, freedom, vectors[own[asked]], vectors[own[~asked]], ratios, rng)
    return Population(scatter, freedom, *_quantiles(ratios))


def posterior(
    scatter: TwoCovariance, freedom: float, vectors: Float64Array, k: float
) -> tuple[Float64Array, float, float]:
    """Posterior mean [dim], expected square error, and s_i of a model with these responses [n, dim], worth k."""
    scale = scale_of(scatter, freedom, vectors)
    z = scatter.project(vectors.mean(axis=0, keepdims=True))[0]
    noise = scale / k
    places = np.exp(_LOG_SCALES)[:, None] * scatter.between
    evidence = -0.5 * (np.log(places + noise) + np.square(z) / (places + noise)).sum(axis=1)
    weight = softmax(evidence - 0.5 * np.square(_LOG_SCALES / _LOG_SCALE_DEVIATION))
    gains = places / (places + noise)
    gain = weight @ gains
    # The variance given t_i, and that of the mean over t_i.
    moved = np.square(scatter.restore(gains * z) - scatter.restore(gain * z)).sum(axis=1)
    return scatter.restore(gain * z), float(gain * noise @ scatter.lengths + weight @ moved), scale


def scale_of(scatter: TwoCovariance, freedom: float, vectors: Float64Array) -> float:
    """s_i: how much more than the average model this one varies; 1 for a single response."""
    trace = scatter.within_trace
    own = np.square(vectors - vectors.mean(axis=0)).sum() / trace * scatter.within_freedom
    return float((freedom + own) / (freedom + (len(vectors) - 1) * scatter.within_freedom))


def effective_responses(topic: IntArray, correlation: float) -> float:
    """Effective number of independent responses, at most their number.

    Args:
        topic: topic of each response, [k], at least one.
        correlation: correlation of two responses of one model to one topic.
    """
    sizes: Float64Array = np.unique(topic, return_counts=True)[1].astype(np.float64)
    return float(len(topic) / (1 + correlation * (np.square(sizes).sum() / len(topic) - 1)))


def intraclass_correlation(vectors: FloatArray, owner: IntArray, topic: IntArray) -> float:
    """Correlation of two responses of one model to one topic, around the model's mean; in [0, 1].

    0 where no topic has two responses of a model, or no model has two topics.

    Args:
        vectors: embeddings of responses, [n, dim].
        owner: model of each, [n].
        topic: topic, or prompt, of each, [n].
    """
    between = within = pairs = 0.0
    freedom = np.zeros(2)
    for model in np.unique(owner):
        own = vectors[owner == model].astype(np.float64)
        _, group, sizes = np.unique(topic[owner == model], return_inverse=True, return_counts=True)
        means = np.zeros((len(sizes), own.shape[1]))
        np.add.at(means, group, own)
        means /= sizes[:, None]
        within += float(np.square(own - means[group]).sum())
        between += float((sizes[:, None] * np.square(means - own.mean(axis=0))).sum())
        freedom += len(sizes) - 1, len(own) - len(sizes)
        pairs += len(own) - float(np.square(sizes).sum()) / len(own)
    if not freedom.all():
        return 0.0
    noise = within / freedom[1]
    shared = (between / freedom[0] - noise) / (pairs / freedom[0])
    return float(np.clip(shared / max(shared + noise, 1e-30), 0, 1))


def _compare(
    scatter: TwoCovariance,
    freedom: float,
    asked: Float64Array,
    others: Float64Array,
    ratios: dict[int, list[float]],
    rng: np.random.Generator,
) -> None:
    """Adds, for each k, the distance from k responses' place to the mean of the others, over what is expected."""
    if len(others) < 2:
        return
    later = others.mean(axis=0)
    for k in _SIZES:
        if k <= len(asked):
            place, variance, scale = posterior(scatter, freedom, asked[rng.permutation(len(asked))[:k]], float(k))
            expected = variance + scale * scatter.within_trace / len(others)
            ratios[k].append(float(np.sqrt(np.square(later - place).sum() / expected)))


def _quantiles(ratios: dict[int, list[float]]) -> tuple[Float64Array, Float64Array]:
    """Sizes with enough trials, at least one, and the levels' quantiles there."""
    sizes = [k for k in _SIZES if len(ratios[k]) >= _LEAST_TRIALS] or [k for k in _SIZES if ratios[k]][:1]
    if not sizes:
        raise DataError(
            "no sampled model has responses to both halves of the prompts, so that nothing is known of how sure a "
            "place is. Fix: enrol models from responses to several prompts each"
        )
    factors = np.array([np.quantile(ratios[k], LEVELS) for k in sizes])
    return np.array(sizes, dtype=np.float64), factors


def _scatter(vectors: Float64Array, owner: IntArray) -> TwoCovariance:
    _, index, sizes = np.unique(owner, return_inverse=True, return_counts=True)
    means = np.zeros((len(sizes), vectors.shape[1]))
    np.add.at(means, index, vectors)
    counts = sizes.astype(np.float64)
    found = fit_two_covariance(vectors, index, means / counts[:, None], counts)
    return replace(found, between=(1 - _ISOTROPIC) * found.between + _ISOTROPIC * found.between.mean())


def _freedom(scatter: TwoCovariance, vectors: Float64Array, owner: IntArray) -> float:
    """Degrees of freedom of the prior of s_i, from the variance of log s_i over models; log chi^2_n has about 2 / n."""
    scales = []
    for model in np.unique(owner):
        own = vectors[owner == model]
        scales.append(np.square(own - own.mean(axis=0)).sum() / max(len(own) - 1, 1))
    return float(2 / max(np.log(np.maximum(scales, 1e-12)).var(), _LEAST_LOG_VARIANCE))
