from __future__ import annotations

import numpy as np
import pytest

from model_behavior.data_models.scoring_types import ModelTable
from model_behavior.models.scoring.calibration import Temperature, fit_temperature
from model_behavior.models.scoring.embedding_rating import EmbeddingRating, EmbeddingRatingConfig

EXACT = EmbeddingRatingConfig(least_residual=0.0)


def world(n_models: int, rng: np.random.Generator, noise: float = 0.4) -> tuple[ModelTable, np.ndarray]:
    """Models whose rating is linear in their embedding, plus noise; every model is a family of its own."""
    embedding = 0.15 * rng.normal(size=(n_models, 5))
    rating = 8 * embedding[:, 0] - 4 * embedding[:, 1] + noise * rng.normal(size=n_models)
    letters = "abcdefghijklmnopqrstuvwxyz"
    names = tuple(f"{letters[i // 26]}{letters[i % 26]}x-1" for i in range(n_models))
    spread = np.full(n_models, 0.4, np.float32)
    return ModelTable(names, embedding.astype(np.float32), np.full(n_models, 100_000), spread), rating


def rows(table: ModelTable, chosen: slice) -> ModelTable:
    return ModelTable(table.names[chosen], table.embedding[chosen], table.count[chosen], table.spread[chosen])


def test_intervals_of_unseen_models_cover_their_ratings() -> None:
    rng = np.random.default_rng(0)
    inside, correlation = [], []
    for _ in range(30):
        table, rating = world(60, rng)
        model = EmbeddingRating(EXACT)
        model.fit(rows(table, slice(0, 40)), rating[:40], np.full(40, 1e-4))
        mean, variance = model.predict(rows(table, slice(40, 60)))
        inside.append(np.abs(mean - rating[40:]) < 1.96 * np.sqrt(variance))
        correlation.append(np.corrcoef(mean, rating[40:])[0, 1])
    assert 0.9 <= np.mean(inside) <= 0.98
    assert np.mean(correlation) > 0.9


def test_left_out_predictions_are_those_of_a_fit_without_the_family() -> None:
    table, rating = world(12, np.random.default_rng(1))
    names = (*("llama-1", "llama-2"), *table.names[2:])
    table = ModelTable(names, table.embedding, table.count, table.spread)
    model = EmbeddingRating(EXACT)
    model.fit(table, rating, np.full(12, 0.01))
    centre = table.embedding.mean(axis=0, dtype=np.float64)
    inputs = table.embedding - centre
    inputs = inputs / np.sqrt(np.square(inputs).sum(axis=1).mean())
    state = model.get_state_dict()["constants"]
    kernel = state["signal"] * inputs @ inputs.T + 1
    others = kernel[2:, 2:] + (0.01 + state["residual"]) * np.eye(10)
    by_hand = kernel[:2, 2:] @ np.linalg.solve(others, rating[2:])
    np.testing.assert_allclose(model.left_out[:2], by_hand, rtol=1e-6)


def test_few_responses_are_trusted_less() -> None:
    table, rating = world(40, np.random.default_rng(2))
    model = EmbeddingRating(EXACT)
    model.fit(table, rating, np.full(40, 1e-4))
    predictions = {
        k: model.predict(ModelTable(table.names, table.embedding, np.full(40, k), table.spread)) for k in (1, 8, 1000)
    }
    spread = [np.std(mean) for mean, _ in predictions.values()]
    assert spread[0] < spread[1] < spread[2]
    variances = [variance.mean() for _, variance in predictions.values()]
    assert variances[0] > variances[1] > variances[2]


@pytest.mark.parametrize("truth", [0.6, 1.0, 1.6])
def test_temperature_is_recovered(truth: float) -> None:
    rng = np.random.default_rng(4)
    right = rng.dirichlet([1, 1, 1, 1], size=8000)
    outcome = (right.cumsum(axis=1) > rng.random((8000, 1))).argmax(axis=1)
    too_sure = Temperature(1 / truth).apply(right)
    found = fit_temperature(too_sure, outcome, np.arange(8000))
    assert found.value == pytest.approx(truth, rel=0.1)  # the prior still pulls a little
    np.testing.assert_allclose(found.apply(too_sure).sum(axis=1), 1, atol=1e-6)


def test_temperature_of_a_handful_of_prompts_stays_near_one() -> None:
    rng = np.random.default_rng(5)
    right = rng.dirichlet([1, 1, 1, 1], size=300)
    outcome = (right.cumsum(axis=1) > rng.random((300, 1))).argmax(axis=1)
    too_sure = Temperature(0.5).apply(right)
    free = fit_temperature(too_sure, outcome, np.arange(300)).value
    held = fit_temperature(too_sure, outcome, np.arange(300) % 2).value
    assert 1 < held < free
    assert fit_temperature(too_sure[:0], outcome[:0], outcome[:0]).value == 1
