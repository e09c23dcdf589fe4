"""Two-covariance scores against densities, calibration against truth, and identification on simulated models."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from model_behavior.arrays import Float64Array
from model_behavior.artifact import Artifact
from model_behavior.catalog import Catalog, ModelEmbeddings, enrol, merge_catalogs
from model_behavior.catalog.calibration import Calibration, Curve, Scale, Trials, fit_calibration
from model_behavior.catalog.identification import (
    Identification,
    Identifier,
    draw_trials,
    fit_identifier,
    gather_evidence,
)
from model_behavior.catalog.presence import Presence
from model_behavior.catalog.samples import VectorSample, empty_samples
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
    calibration = Calibration(Scale(0.5, 0.1), Curve((0.7, -0.1, 0.05)), Curve((0.3, -0.2, 0.1)))
    k, ratios = 4.0, np.array([[4.0, 1.0, -np.inf]])
    probabilities = calibration.probabilities(ratios, np.array([k]), prior_none=0.2)
    s = 0.5 / (1 + 0.1 * 3)
    weights = np.exp(s * ratios[0])
    log = np.log(4)
    weight, offset = np.exp(0.7 - 0.1 * log + 0.05 * log**2), 0.3 - 0.2 * log + 0.1 * log**2
    logit = weight * np.log(weights.sum() / 2) + offset + np.log(0.8 / 0.2)
    known = 1 / (1 + np.exp(-logit))
    np.testing.assert_allclose(probabilities[0], [*(known * weights / weights.sum()), 1 - known])


def test_curves_are_level_beyond_what_they_were_fitted_to() -> None:
    curve = Curve((0.0, 1.0, 1.0), most=8.0)
    np.testing.assert_allclose(
        curve.at(np.array([1.0, 8.0, 500.0])), [0, np.log(8) + np.log(8) ** 2] + [curve.at(np.array([8.0]))[0]]
    )


def test_more_responses_than_in_any_trial_say_no_less() -> None:
    """The ratios level off where models are known by few responses; nothing may make them count less then."""
    curve = Curve((0.3, -0.4, 0.35), most=8.0)
    calibration, ratios = Calibration(Scale(0.55, 0.4), curve, curve), np.array([[38.0, -210.0]] * 3)
    k = np.array([8.0, 29.0, 500.0])
    for found in (calibration.logit_known(ratios, k), calibration.support(ratios, k)):
        np.testing.assert_allclose(found, found[0])
    named = calibration.among_known(np.array([[3.0, 0.0]] * 3), k)[:, 0]
    assert (np.diff(named) < 0).all(), "which of the known ones it is stays as unsure as correlated responses make it"
    presence = Presence((0.6, 0.7, 0.35, -0.9, -0.8, -0.2, 0.1, 0.3), most=8.0)
    logits = presence.logit_known(np.full(3, 2.0), np.full(3, 4.0), k)
    np.testing.assert_allclose(logits, logits[0])


def test_calibration_finds_the_scale_that_made_the_answers() -> None:
    rng = np.random.default_rng(3)
    true = Calibration(Scale(0.4, 0.05), Curve((-0.2, 0.1, -0.05)), Curve((-0.5, 0.1, 0.02)))
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


DIM = 8


def simulate(n_models: int, n: int, rng: np.random.Generator) -> tuple[Float64Array, Float64Array]:
    """Responses of models that differ in place: style [n_models, n, N_FEATURES], embeddings [n_models, n, DIM]."""
    style, embedded = (
        rng.normal(0, 0.35, (n_models, 1, size)) + rng.normal(0, 1, (n_models, n, size)) for size in (N_FEATURES, DIM)
    )
    return style, embedded


def catalog_of(styles: Float64Array, embedded: Float64Array, held_back: bool = False) -> Catalog:
    """Of all responses; or its embeddings of the first half, and its samples of the second."""
    n_models, n, _ = styles.shape
    names = tuple(f"{chr(97 + index // 26)}{chr(97 + index % 26)}x" for index in range(n_models))
    start = n // 2 if held_back else 0

    def sample(vectors: Float64Array, start: int) -> VectorSample:
        keys = np.tile(np.arange(start, n), n_models).astype(np.uint64)
        offsets = np.arange(n_models + 1) * (n - start)
        return VectorSample(vectors[:, start:].reshape(-1, vectors.shape[2]).astype(np.float16), keys, offsets)

    inside = embedded[:, :start] if held_back else embedded
    count = np.full(n_models, inside.shape[1])
    models = ModelEmbeddings(names, inside.mean(axis=1).astype(np.float32), count, np.zeros(n_models, np.float32))
    samples = replace(
        empty_samples(names, DIM),
        style_count=np.full(n_models, n),
        embedded=sample(embedded, start),
        styles=sample(styles, 0),
    )
    return Catalog(models, samples)


@pytest.fixture(scope="module", params=[False, True], ids=["all", "held back"])
def world(request: pytest.FixtureRequest) -> tuple[Identifier, Float64Array, Float64Array]:
    """An identifier of 40 models from 80 responses each, and 160 responses of 60 models."""
    styles, embedded = simulate(60, 160, np.random.default_rng(4))
    return fit_identifier(catalog_of(styles[:40, :80], embedded[:40, :80], request.param)), styles, embedded


@pytest.mark.parametrize("k", [1, 8, 32])
def test_probabilities_hold_on_new_responses_and_new_models(
    k: int, world: tuple[Identifier, Float64Array, Float64Array]
) -> None:
    identifier, styles, embedded = world
    none, is_new, right = [], [], []
    for model in range(60):
        for start in range(80, 160 - k + 1, max(k, 16)):
            rows = slice(start, start + k)
            found = identifier.identify(styles[model, rows], embedded[model, rows])
            assert found.none + sum(each.probability for each in found.candidates) == pytest.approx(1)
            assert [each.probability for each in found.candidates] == sorted(
                (each.probability for each in found.candidates), reverse=True
            )
            none.append(found.none)
            is_new.append(model >= 40)
            right.append(model < 40 and found.candidates[0].model == identifier.names[model])
    p, y = np.array(none), np.array(is_new)
    weight = np.where(y, 0.5 / y.mean(), 0.5 / (~y).mean())
    assert abs(np.average(p - y, weights=weight)) < 0.1
    if k >= 8:
        assert np.average((p > 0.5) == y, weights=weight) > 0.9 and np.mean(np.array(right)[~y]) > 0.95


def test_what_the_catalog_says_of_recognition_holds(world: tuple[Identifier, Float64Array, Float64Array]) -> None:
    identifier, styles, embedded = world
    right = [
        identifier.identify(styles[model, start : start + 2], embedded[model, start : start + 2]).candidates[0].model
        == identifier.names[model]
        for model in range(40)
        for start in range(80, 160, 4)
    ]
    assert identifier.recognition[2] == pytest.approx(np.mean(right), abs=0.1)
    assert identifier.recognition[1] < identifier.recognition[4] <= identifier.recognition[16]


def test_models_are_known_without_the_asked_responses() -> None:
    styles, embedded = simulate(6, 20, np.random.default_rng(9))
    evidence = gather_evidence(catalog_of(styles, embedded))
    asked = np.arange(0, 20, 2).astype(np.uint64)
    _, known = evidence.know(asked)
    others = embedded.astype(np.float16).astype(np.float64)[:, 1::2].mean(axis=1)
    np.testing.assert_allclose(known.scatter.restore(known.centroids), others, atol=2e-3)
    np.testing.assert_array_equal(known.counts, 10)
    back = gather_evidence(catalog_of(styles, embedded, held_back=True))
    _, known = back.know(np.arange(10, 20).astype(np.uint64))
    np.testing.assert_allclose(known.scatter.restore(known.centroids), embedded[:, :10].mean(axis=1), atol=1e-5)


def test_a_model_that_the_trial_takes_out_is_unknown_alone_and_with_its_family() -> None:
    catalog = catalog_of(*simulate(6, 20, np.random.default_rng(10)))
    names = ("llama-1", "llama-2", "mpt", "pythia", "qwen", "yi")
    renamed = Catalog(
        ModelEmbeddings(names, catalog.models.mean, catalog.models.count, catalog.models.spread),
        replace(catalog.samples, names=names),
    )
    trials = draw_trials(gather_evidence(renamed), np.random.default_rng(0))
    gone = {tuple(np.flatnonzero(np.isneginf(row))) for row in trials.ratios}
    assert gone == {(), (0,), (1,), (0, 1), (2,), (3,), (4,), (5,)}
    np.testing.assert_array_equal(trials.answer < 0, np.isneginf(trials.ratios).any(axis=1))


def test_a_prior_moves_the_answer() -> None:
    styles, embedded = simulate(12, 40, np.random.default_rng(5))
    identifier = fit_identifier(catalog_of(styles, embedded))
    low, even, high = (identifier.identify(styles[3, :2], embedded[3, :2], prior).none for prior in (0.01, 0.5, 0.99))
    assert low < even < high
    odds = [p / (1 - p) for p in (low, high)]
    assert odds[1] / odds[0] == pytest.approx(99**2, rel=1e-6)


def test_the_arenas_models_are_known_again(known: Artifact, arena: Arena) -> None:
    identifier = fit_identifier(known.catalog)
    samples = enrol(known.encoder, arena.held_out_responses, 256).samples

    def judge(identifier: Identifier, row: int, k: int | None = None) -> Identification:
        rows = samples.styles.rows_of(row)
        return identifier.identify(samples.styles.vectors[rows][:k], samples.embedded.vectors[rows][:k])

    for row in range(6):
        assert judge(identifier, row).none > 0.5
    both = merge_catalogs(known.catalog, enrol(known.encoder, arena.held_out_responses, 256))
    grown = fit_identifier(both)
    for row, name in enumerate(arena.held_out):
        assert judge(grown, row, 16).likeliest == name


def test_style_decides_alone_where_too_few_embeddings_were_sampled() -> None:
    styles, embedded = simulate(8, 30, np.random.default_rng(7))
    catalog = catalog_of(styles, embedded)
    alone = replace(catalog.samples, embedded=empty_samples(catalog.models.names, DIM).embedded)
    identifier = fit_identifier(replace(catalog, samples=alone))
    assert len(identifier.known) == 1
    found = identifier.identify(styles[2, :10], np.zeros((10, DIM)))
    assert found.likeliest == identifier.names[2]


def test_errors() -> None:
    styles, embedded = simulate(4, 10, np.random.default_rng(6))
    identifier = fit_identifier(catalog_of(styles, embedded))
    with pytest.raises(UsageError, match="prior_none=1"):
        identifier.identify(styles[0], embedded[0], prior_none=1)
    with pytest.raises(UsageError, match="at least one response"):
        identifier.identify(styles[0, :0], embedded[0, :0])
    with pytest.raises(UsageError, match="at least one response"):
        identifier.identify(styles[0], embedded[0, :3])
    with pytest.raises(DataError, match="3 models with at least 5 sampled"):
        fit_identifier(catalog_of(styles[:3], embedded[:3]))
    catalog = catalog_of(styles, embedded)
    for keys in (catalog.samples.styles.prompt_keys, catalog.samples.embedded.prompt_keys):
        assert isinstance(keys, np.ndarray)
        keys[:] = 7
    with pytest.raises(DataError, match="too few prompts in common"):
        fit_identifier(catalog)


def test_a_search_that_goes_too_far_overflows_nothing() -> None:
    steep = Calibration(weight=Curve((0.0, 0.0, 40.0)))  # exp(40 log^2 128) is beyond every float
    ratios, k = np.array([[-3.0, 2.0], [1.0, -5.0], [-9.0, -9.0]]), np.full(3, 128.0)
    logit = steep.logit_known(ratios, k)
    assert np.isfinite(logit).all() and logit[0] > 1e6 and logit[2] < -1e6
    np.testing.assert_allclose(steep.probabilities(ratios, k, 0.5).sum(axis=1), 1)
