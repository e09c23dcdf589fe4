"""Fits how models lie and vary to a catalog, and calibrates regions on left-out families."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from model_behavior.catalog.enrolment import Catalog
from model_behavior.catalog.placement import LEVELS, Population, posterior
from model_behavior.catalog.two_covariance import FloatArray, TwoCovariance, fit_two_covariance
from model_behavior.data.families import family_of
from model_behavior.errors import DataError

_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
_DRAWS = 4
_LEAST_RESPONSES, _LEAST_FAMILIES = 6, 3
_LEAST_TRIALS = 20
_ISOTROPIC = 0.3  # share of B that is the same in all directions of scatter: new families leave the old ones' span
_LEAST_LOG_VARIANCE = 1e-3


def fit_population(catalog: Catalog, seed: int = 0) -> Population:
    """Fits to the sampled responses of a catalog's models.

    Those of a model that the encoder was trained on are held back from training, so that they vary as new ones do.

    Args:
        catalog: models of at least three families with six sampled responses each.
        seed: of the draws that regions are calibrated on.

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
    vectors: FloatArray,
    owner: npt.NDArray[np.integer],
    prompt: npt.NDArray[np.uint64],
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


def _compare(
    scatter: TwoCovariance,
    freedom: float,
    asked: FloatArray,
    others: FloatArray,
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


def _quantiles(ratios: dict[int, list[float]]) -> tuple[FloatArray, FloatArray]:
    """Sizes with enough trials, at least one, and the levels' quantiles there."""
    sizes = [k for k in _SIZES if len(ratios[k]) >= _LEAST_TRIALS] or [k for k in _SIZES if ratios[k]][:1]
    if not sizes:
        raise DataError(
            "no sampled model has responses to both halves of the prompts, so that nothing is known of how sure a "
            "place is. Fix: enrol models from responses to several prompts each"
        )
    factors = np.array([np.quantile(ratios[k], LEVELS) for k in sizes])
    return np.array(sizes, dtype=np.float64), factors


def _scatter(vectors: FloatArray, owner: npt.NDArray[np.integer]) -> TwoCovariance:
    _, index, sizes = np.unique(owner, return_inverse=True, return_counts=True)
    means = np.zeros((len(sizes), vectors.shape[1]))
    np.add.at(means, index, vectors)
    counts = sizes.astype(np.float64)
    found = fit_two_covariance(vectors, index, means / counts[:, None], counts)
    return replace(found, between=(1 - _ISOTROPIC) * found.between + _ISOTROPIC * found.between.mean())


def _freedom(scatter: TwoCovariance, vectors: FloatArray, owner: npt.NDArray[np.integer]) -> float:
    """Of the prior of s_i, from the variance of its logarithm over models: that of log chi^2_n is about 2 / n."""
    scales = []
    for model in np.unique(owner):
        own = vectors[owner == model]
        scales.append(np.square(own - own.mean(axis=0)).sum() / max(len(own) - 1, 1))
    return float(2 / max(np.log(np.maximum(scales, 1e-12)).var(), _LEAST_LOG_VARIANCE))
