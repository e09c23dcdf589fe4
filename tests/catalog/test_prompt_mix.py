"""What another mix of prompts does to models that have not changed, and that it does not pass for a change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from model_behavior.arrays import Float64Array
from model_behavior.catalog import Catalog, ModelEmbeddings, remove
from model_behavior.catalog.drift import DriftConfig, DriftReport, line_up, measure_drift
from model_behavior.catalog.prompt_mix import Control, draw_mix, find_controls, measure_effects
from model_behavior.catalog.samples import VectorSample, empty_samples

DIM, N, MODELS = 5, 40, 14
CONFIG = DriftConfig(permutations=79)
OLD, NEW = np.arange(N), np.arange(N, 2 * N)


def enrol(models: dict[str, tuple[Float64Array, np.ndarray]]) -> Catalog:
    names = tuple(models)
    offsets = np.cumsum([0, *(len(keys) for _, keys in models.values())])
    mean = np.stack([vectors.mean(axis=0) for vectors, _ in models.values()]).astype(np.float32)
    vectors = np.concatenate([vectors for vectors, _ in models.values()]).astype(np.float16)
    keys = np.concatenate([keys for _, keys in models.values()]).astype(np.uint64)
    samples = replace(empty_samples(names, DIM), embedded=VectorSample(vectors, keys, offsets))
    return Catalog(ModelEmbeddings(names, mean, np.diff(offsets), np.zeros(len(names), np.float32)), samples)


def draw_field(rng: np.random.Generator, taken: float) -> tuple[Catalog, Float64Array]:
    """Models that take the new prompts each in its own way, by `taken`; "m" is enrolled from the old ones alone."""
    places, ways = rng.normal(0, 1.5, (MODELS, DIM)), rng.normal(0, taken, (MODELS, DIM))
    topic = rng.normal(0, 1, (2 * N, DIM)) + np.repeat([[0.0], [1.5]], N, axis=0)
    answers = places[:, None] + topic + rng.normal(0, 1, (MODELS, 2 * N, DIM))
    answers[:, N:] += ways[:, None]
    models = {f"{chr(97 + row)}x": (answers[row], np.arange(2 * N)) for row in range(1, MODELS)}
    return enrol({"m": (answers[0, :N], OLD), **models}), answers[0, N:]


def split_at(place: int, answers: Float64Array) -> list[Control]:
    """Controls from responses, [n_models, n_prompts, dim], the prompts from `place` on new ones."""
    prompts = np.arange(answers.shape[1])
    return [Control(each, prompts, prompts >= place) for each in answers]


def check(catalog: Catalog, new: Float64Array, config: DriftConfig = CONFIG) -> DriftReport:
    return measure_drift(catalog, "m", enrol({"new": (new, NEW)}), config)


def catalog_without_controls(catalog: Catalog) -> Catalog:
    """The catalog with seven models beside "m": too few to tell what the mix does."""
    return remove(catalog, [f"{chr(97 + row)}x" for row in range(8, MODELS)])


@pytest.mark.parametrize("taken", [0.0, 0.5])
def test_a_mix_that_models_take_in_their_own_way_is_no_change(taken: float) -> None:
    rng, rounds, alarms, unallowed = np.random.default_rng(3), 40, 0, 0
    for _ in range(rounds):
        catalog, new = draw_field(rng, taken)
        report = check(catalog, new)
        alarms += report.changed
        assert "as 13 other models take it" in report.caution
        alone = catalog_without_controls(catalog)
        unallowed += check(alone, new).changed
    assert (unallowed > rounds / 2) == (taken > 0)
    assert stats.binomtest(alarms, rounds, 0.05, alternative="greater").pvalue > 0.01


def test_a_change_is_still_found_under_another_mix() -> None:
    rng, found = np.random.default_rng(4), 0
    for _ in range(20):
        catalog, new = draw_field(rng, 0.3)
        found += check(catalog, new + np.array([3.5, 0, 0, 0, 0]), DriftConfig(permutations=399)).changed
    assert found >= 16


def test_effects_and_controls_by_plain_loops() -> None:
    catalog, _ = draw_field(np.random.default_rng(5), 0.5)
    sample = catalog.samples.embedded
    keys = np.concatenate([OLD, NEW]).astype(np.uint64)
    effects = measure_effects(sample, 0, keys)
    answers = {row: sample.vectors[sample.rows_of(row)].astype(np.float64) for row in range(1, MODELS)}
    away = {row: each - each.mean(axis=0) for row, each in answers.items()}
    for prompt in (0, N + 3):
        expected = sum(each[prompt] for each in away.values()) / MODELS  # 13 responses, shrunk by 13 / 14
        np.testing.assert_allclose(effects.of(keys[[prompt]])[0], expected, atol=1e-6)
    controls = find_controls(sample, 0, keys[:N], keys[N:], effects)
    assert [each.is_new.tolist() for each in controls] == [[False] * N + [True] * N] * (MODELS - 1)
    without = answers[2][N] - sum(away[row][N] for row in away if row != 2) / 13
    np.testing.assert_allclose(controls[1].vectors[N], without, atol=1e-6)
    assert not find_controls(sample, 0, keys[:5], keys[N:], effects), "5 responses on one side are too few"
    assert not find_controls(sample, 0, keys, keys, effects), "prompts on both sides tell nothing"


def test_no_draws_without_enough_controls_and_none_by_prompt() -> None:
    rng = np.random.default_rng(6)
    controls = split_at(10, rng.normal(size=(8, 20, DIM)))
    others = rng.normal(size=(8, DIM))
    assert draw_mix(controls[:7], others, 0.1, 9, 0) is None
    draws = draw_mix(controls, others, 0.1, 9, 0)
    assert draws is not None and draws.means.shape == (9, DIM) and draws.scores.shape == (9, 32)
    catalog, new = draw_field(rng, 0.5)
    assert len(line_up(catalog, 0, enrol({"new": (new, NEW)}), CONFIG).controls) == MODELS - 1
    assert not line_up(catalog, 0, enrol({"new": (new, OLD)}), CONFIG).controls


def test_the_draws_have_the_size_of_what_the_mix_does() -> None:
    rng = np.random.default_rng(7)
    ways = rng.normal(0, 0.8, (60, 1, DIM))
    answers = rng.normal(size=(60, 200, DIM))
    answers[:, 100:] += ways
    controls = split_at(100, answers)
    draws = draw_mix(controls, rng.normal(size=(3, DIM)), controls[0].noise, 4000, 0)
    assert draws is not None
    middle = 0.8 * stats.t.ppf(0.75, 4)  # half of the draws are as small
    assert np.median(np.abs(draws.means)) == pytest.approx(middle, rel=0.15) and np.abs(draws.means.mean()) < 0.1
    still = split_at(100, rng.normal(size=(60, 200, DIM)))
    draws = draw_mix(still, rng.normal(size=(3, DIM)), controls[0].noise, 4000, 0)
    assert draws is not None and not draws.means.any() and not draws.scores.any(), "the same mix costs no power"
