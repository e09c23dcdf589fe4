"""Two-covariance scores against densities, calibration against truth, and identification on simulated models."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from model_behavior.artifact import Artifact
from model_behavior.catalog import Catalog, ModelEmbeddings, enrol, merge_catalogs
from model_behavior.catalog.calibration import Calibration, Scale, Trials, fit_calibration
from model_behavior.catalog.identification import fit_identifier
from model_behavior.catalog.samples import ModelSamples, VectorSample, empty_samples
from model_behavior.catalog.two_covariance import TwoCovariance, fit_two_covariance, fit_whitening
from model_behavior.data.arena import Arena
from model_behavior.errors import DataError, UsageError

N_FEATURES = empty_samples((), 1).style_mean.shape[1]


def test_score_is_the_ratio_of_the_two_densities() -> None:
    rng = np.random.default_rng(0)
    between = np.array([2.0, 0.5, 0.1])
    model = TwoCovariance(np.zeros(3), np.eye(3), between)
    centroids, counts, probes = rng.normal(0, 1, (4, 3)), np.array([3.0, 10.0, 50.0, 1.0]), rng.normal(0, 1, (5, 3))
    k = 8
    ratios = model.score(probes, k, centroids, counts)
    for i, probe in enumerate(probes):
        new = stats.multivariate_normal(np.zeros(3), np.diag(between + 1 / k)).logpdf(probe)
        for j, (centroid, n) in enumerate(zip(centroids, counts, strict=True)):
            # Posterior of the model's place given its mean of n responses, by the textbook product of two normals.
            precision = 1 / between + n
            place = stats.multivariate_normal(n * centroid / precision, np.diag(1 / precision + 1 / k))
            assert ratios[i, j] == pytest.approx(place.logpdf(probe) - new)


def test_whitening_gives_unit_scatter_and_ignores_what_never_varies() -> None:
    rng = np.random.default_rng(1)
    owner = np.repeat(np.arange(50), 200)
    scale = np.array([0.01, 1.0, 30.0, 0.0])
    vectors = rng.normal(0, 1, (50, 4))[owner] * scale + rng.normal(0, 1, (len(owner), 4)) * scale + 7
    whitened = vectors @ fit_whitening(vectors, owner)
    residual = whitened - np.stack([whitened[owner == model].mean(axis=0) for model in range(50)])[owner]
    spread = np.sort(residual.std(axis=0))
    assert spread[0] == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(spread[1:], 1, rtol=0.02)


def test_between_variance_is_recovered() -> None:
    rng = np.random.default_rng(2)
    owner = np.repeat(np.arange(2000), 5)
    places = rng.normal(0, 1, (2000, 2)) * np.array([3.0, 0.5])
    vectors = places[owner] + rng.normal(0, 1, (len(owner), 2)) + 10
    means = np.stack([vectors[owner == model].mean(axis=0) for model in range(2000)])
    model = fit_two_covariance(vectors, owner, means, np.full(2000, 5.0))
    np.testing.assert_allclose(np.sort(model.between), [0.25, 9.0], rtol=0.2)
    np.testing.assert_allclose(model.mean, 10, atol=0.3)


def test_probabilities_by_hand() -> None:
    calibration = Calibration(Scale(0.5, 0.1), Scale(2.0, 0.0), offset=0.3, slope=-0.2)
    k, ratios = 4.0, np.array([[4.0, 1.0, -np.inf]])
    probabilities = calibration.probabilities(ratios, np.array([k]), prior_none=0.2)
    s = 0.5 / (1 + 0.1 * 3)
    weights = np.exp(s * ratios[0])
    logit = 2 * np.log(weights.sum() / 2) + 0.3 - 0.2 * np.log(4) + np.log(0.8 / 0.2)
    known = 1 / (1 + np.exp(-logit))
    np.testing.assert_allclose(probabilities[0], [*(known * weights / weights.sum()), 1 - known])


def test_calibration_finds_the_scale_that_made_the_answers() -> None:
    rng = np.random.default_rng(3)
    true = Calibration(Scale(0.4, 0.05), Scale(0.8, 0.02), offset=-0.5, slope=0.1)
    n = 12_000
    k = rng.choice([1.0, 4.0, 16.0, 64.0], n)
    ratios = rng.normal(0, 6, (n, 5))
    drawn = true.probabilities(ratios, k, 0.5)
    answer = np.array([rng.choice(6, p=row) for row in drawn])
    answer[answer == 5] = -1
    found = fit_calibration(Trials(ratios, k, answer))
    np.testing.assert_allclose(found.identity.at(np.array([1.0, 64])), true.identity.at(np.array([1.0, 64])), rtol=0.1)
    # Known and unknown weigh the same in the fit, which moves the offset by the log-odds of the trials.
    shift = np.log((answer >= 0).mean() / (answer < 0).mean())
    np.testing.assert_allclose(found.logit_known(ratios, k) + shift, true.logit_known(ratios, k), atol=0.5)


def simulate(n_models: int, n: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Responses of models that differ in place: [n_models, n, N_FEATURES]."""
    places = rng.normal(0, 0.35, (n_models, 1, N_FEATURES))
    result: npt.NDArray[np.float64] = places + rng.normal(0, 1, (n_models, n, N_FEATURES))
    return result


def catalog_of(styles: npt.NDArray[np.float64]) -> Catalog:
    n_models, n, _ = styles.shape
    names = tuple(f"m{index:02d}" for index in range(n_models))
    empty = empty_samples(names, 2)
    keys = np.tile(np.arange(n), n_models).astype(np.uint64)
    sample = VectorSample(styles.reshape(-1, N_FEATURES).astype(np.float16), keys, np.arange(n_models + 1) * n)
    models = ModelEmbeddings(
        names, np.zeros((n_models, 2), np.float32), np.full(n_models, n), np.zeros(n_models, np.float32)
    )
    samples = ModelSamples(
        names, empty.style_mean, empty.style_deviation, empty.style_count, empty.embedded, sample, empty.exemplars
    )
    return Catalog(models, samples)


@pytest.mark.parametrize("k", [1, 8, 32])
def test_probabilities_hold_on_new_responses_and_new_models(k: int) -> None:
    rng = np.random.default_rng(4)
    everything = simulate(60, 160, rng)
    identifier = fit_identifier(catalog_of(everything[:40, :80]))
    none, is_new, right = [], [], []
    for model in range(60):
        for start in range(80, 160 - k + 1, max(k, 16)):
            found = identifier.identify(everything[model, start : start + k])
            assert found.none + sum(each.probability for each in found.candidates) == pytest.approx(1)
            assert [each.probability for each in found.candidates] == sorted(
                (each.probability for each in found.candidates), reverse=True
            )
            none.append(found.none)
            is_new.append(model >= 40)
            right.append(found.candidates[0].model == f"m{model:02d}")
    p, y = np.array(none), np.array(is_new)
    weight = np.where(y, 0.5 / y.mean(), 0.5 / (~y).mean())
    assert abs(np.average(p - y, weights=weight)) < 0.1
    if k >= 8:
        assert np.average((p > 0.5) == y, weights=weight) > 0.9 and np.mean(np.array(right)[~y]) > 0.95


def test_a_prior_moves_the_answer() -> None:
    styles = simulate(12, 40, np.random.default_rng(5))
    identifier = fit_identifier(catalog_of(styles))
    low, even, high = (identifier.identify(styles[3, :2], prior).none for prior in (0.01, 0.5, 0.99))
    assert low < even < high
    odds = [p / (1 - p) for p in (low, high)]
    assert odds[1] / odds[0] == pytest.approx(99**2, rel=1e-6)


def test_the_arenas_models_are_known_again(known: Artifact, arena: Arena) -> None:
    identifier = fit_identifier(known.catalog)
    held_out = enrol(known.encoder, arena.held_out_responses, 256).samples.styles
    for row in range(6):
        assert identifier.identify(held_out.vectors[held_out.rows_of(row)]).none > 0.5
    both = merge_catalogs(known.catalog, enrol(known.encoder, arena.held_out_responses, 256))
    grown = fit_identifier(both)
    for row, name in enumerate(arena.held_out):
        assert grown.identify(held_out.vectors[held_out.rows_of(row)][:16]).likeliest == name


def test_errors() -> None:
    styles = simulate(4, 10, np.random.default_rng(6))
    identifier = fit_identifier(catalog_of(styles))
    with pytest.raises(UsageError, match="prior_none=1"):
        identifier.identify(styles[0], prior_none=1)
    with pytest.raises(UsageError, match="at least one response"):
        identifier.identify(styles[0, :0])
    with pytest.raises(DataError, match="3 models with at least 5 sampled"):
        fit_identifier(catalog_of(styles[:3]))
    catalog = catalog_of(styles)
    catalog.samples.styles.prompt_keys[:] = 7
    with pytest.raises(DataError, match="too few prompts in common"):
        fit_identifier(catalog)
