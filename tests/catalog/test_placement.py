"""Places of models against the plain formulas, and regions against where simulated models are."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from model_behavior.arrays import Float64Array
from model_behavior.catalog import Catalog, ModelEmbeddings
from model_behavior.catalog.placement import Population, fit_population, fit_population_to, posterior, scale_of
from model_behavior.catalog.samples import empty_samples
from model_behavior.catalog.two_covariance import TwoCovariance
from model_behavior.errors import DataError, UsageError

FloatArray = Float64Array

DIM = 6


def covariances(rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """W and B, neither of them diagonal."""
    within, between = rng.normal(size=(2, DIM, DIM))
    return within @ within.T / DIM + 0.2 * np.eye(DIM), between @ between.T / DIM


def model_of(mean: FloatArray, within: FloatArray, between: FloatArray) -> TwoCovariance:
    """The coordinates in which W is the identity and B diagonal, by the generalised eigenproblem."""
    root = np.linalg.cholesky(within)
    half = np.linalg.solve(root, np.eye(DIM)).T
    values, axes = np.linalg.eigh(half.T @ between @ half)
    return TwoCovariance(mean, half @ axes, np.maximum(values, 0))


def simulate(
    n_models: int, k: int, within: FloatArray, between: FloatArray, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Places [n_models, dim] and responses [n_models, k, dim], around 3."""
    places = 3 + rng.multivariate_normal(np.zeros(DIM), between, n_models)
    return places, places[:, None] + rng.multivariate_normal(np.zeros(DIM), within, (n_models, k))


def test_posterior_by_full_matrices() -> None:
    rng = np.random.default_rng(0)
    within, between = covariances(rng)
    mean = rng.normal(size=DIM)
    scatter = model_of(mean, within, between)
    vectors, k, freedom = rng.normal(size=(5, DIM)) + 1, 5.0, 7.0
    found, variance, scale = posterior(scatter, freedom, vectors, k)
    assert scale == pytest.approx(scale_of(scatter, freedom, vectors))
    x, weights, means, traces = vectors.mean(axis=0), [], [], []
    for log_t in np.linspace(-3, 5, 33):
        prior = np.exp(log_t) * between
        total = prior + scale * within / k
        gain = prior @ np.linalg.inv(total)
        weights.append(stats.multivariate_normal(mean, total).pdf(x) * np.exp(-0.5 * (log_t / 0.5) ** 2))
        means.append(mean + gain @ (x - mean))
        traces.append(np.trace(prior - gain @ prior))
    share = np.array(weights) / np.sum(weights)
    expected = share @ np.array(means)
    np.testing.assert_allclose(found, expected)
    spread = share @ np.square(np.array(means) - expected).sum(axis=1)
    assert variance == pytest.approx(share @ np.array(traces) + spread)


def test_traces_are_those_of_w() -> None:
    within, between = covariances(np.random.default_rng(1))
    scatter = model_of(np.zeros(DIM), within, between)
    assert scatter.within_trace == pytest.approx(np.trace(within))
    assert scatter.within_freedom == pytest.approx(np.trace(within) ** 2 / np.trace(within @ within))
    rows = np.random.default_rng(2).normal(size=(4, DIM))
    np.testing.assert_allclose(scatter.restore(scatter.project(rows)), rows)


def test_scale_is_shrunk_towards_one() -> None:
    scatter = model_of(np.zeros(DIM), np.eye(DIM), np.eye(DIM))
    vectors = 2 * np.random.default_rng(3).normal(size=(400, DIM))
    assert scale_of(scatter, 10.0, vectors[:1]) == 1
    few, many = scale_of(scatter, 1000.0, vectors[:10]), scale_of(scatter, 10.0, vectors)
    assert 1 < few < many and many == pytest.approx(4, rel=0.15)


@pytest.fixture(scope="module")
def world() -> tuple[Population, FloatArray, FloatArray]:
    """A population that was fitted to 150 models, and 400 other models: places and 64 responses each."""
    rng = np.random.default_rng(4)
    within, between = covariances(rng)
    _, vectors = simulate(150, 40, within, between, rng)
    owner, prompt = np.repeat(np.arange(150), 40), np.tile(np.arange(40, dtype=np.uint64), 150)
    families = np.array([f"family{index // 3}" for index in range(150)])
    population = fit_population_to(vectors.reshape(-1, DIM), owner, prompt, families, seed=0)
    return population, *simulate(400, 64, within, between, rng)


@pytest.mark.parametrize("k", [1, 8, 16, 64])
def test_regions_hold_the_place_as_often_as_they_say(world: tuple[Population, FloatArray, FloatArray], k: int) -> None:
    population, places, vectors = world
    found = [population.place(each[:k]) for each in vectors]
    for level in (0.5, 0.8, 0.95):
        hits = [
            np.linalg.norm(each.embedding - place) <= each.radius[level]
            for each, place in zip(found, places, strict=True)
        ]
        # Beside the binomial deviation of 400 models there is that of the quantiles, of 50 families.
        assert abs(np.mean(hits) - level) < 3 * np.sqrt(level * (1 - level) * (1 / 400 + 1 / 50))


def test_shrinking_helps_most_where_responses_are_few(world: tuple[Population, FloatArray, FloatArray]) -> None:
    population, places, vectors = world
    gains = []
    for k in (1, 8, 64):
        shrunk = np.stack([population.place(each[:k]).embedding for each in vectors]) - places
        plain = np.square(vectors[:, :k].mean(axis=1) - places)
        gains.append(float(np.square(shrunk).sum() / plain.sum()))
    assert gains[0] < 0.8 and gains == sorted(gains) and gains[-1] < 1.05


def test_certainty_grows_with_responses(world: tuple[Population, FloatArray, FloatArray]) -> None:
    population, _, vectors = world
    radii = [np.mean([population.place(each[:k]).radius[0.95] for each in vectors]) for k in (1, 4, 16, 64)]
    assert radii == sorted(radii, reverse=True)
    place = population.place(vectors[0])
    planned = [population.radius_after(place, k) for k in (8, 32, 128, 512)]
    assert planned == sorted(planned, reverse=True)
    assert planned[2] / planned[3] == pytest.approx(2, rel=0.1)  # as 1 / sqrt(k) where nothing is shrunk any more
    assert population.radius_after(place, 64) == pytest.approx(place.radius[0.95], rel=0.25)
    assert population.place(vectors[0], effective=4.0).radius[0.95] > 2 * place.radius[0.95]


def test_an_outlier_is_not_pulled_in(world: tuple[Population, FloatArray, FloatArray]) -> None:
    population, _, vectors = world
    far = vectors[0, :8] + 40
    assert np.linalg.norm(population.place(far).embedding - far.mean(axis=0)) < 0.5


def test_errors(world: tuple[Population, FloatArray, FloatArray]) -> None:
    population, _, vectors = world
    with pytest.raises(UsageError, match=r"at least one response is needed, \[k, 6\]"):
        population.place(vectors[0, :0])
    with pytest.raises(UsageError, match=r"shape \(3, 2\)"):
        population.place(np.zeros((3, 2)))
    names = ("a", "b")
    models = ModelEmbeddings(names, np.zeros((2, 4), np.float32), np.ones(2, np.int64), np.zeros(2, np.float32))
    with pytest.raises(DataError, match="3 families are needed"):
        fit_population(Catalog(models, empty_samples(names, 4)))
