"""The permutation test: exactness, strata, power and the report."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from model_behavior.arrays import Float64Array, IntArray
from model_behavior.catalog import Catalog, ModelEmbeddings
from model_behavior.catalog.drift import (
    DriftConfig,
    NullDistribution,
    fit_null,
    measure_drift,
    permute_distances,
    power_of,
    responses_needed,
)
from model_behavior.catalog.samples import VectorSample, empty_samples
from model_behavior.errors import DataError, UsageError

DIM = 6


def catalog_of(**models: tuple[Float64Array, IntArray]) -> Catalog:
    """A catalog of models with these vectors and prompts, without style."""
    names = tuple(sorted(models))
    parts = [models[name] for name in names]
    offsets = np.cumsum([0, *(len(vectors) for vectors, _ in parts)])
    mean = np.stack([vectors.mean(axis=0) for vectors, _ in parts]).astype(np.float32)
    embeddings = ModelEmbeddings(names, mean, np.diff(offsets), np.zeros(len(names), np.float32))
    keys = np.concatenate([prompts for _, prompts in parts]).astype(np.uint64)
    vectors = np.concatenate([vectors for vectors, _ in parts]).astype(np.float16)
    sample = VectorSample(vectors, keys, offsets)
    return Catalog(embeddings, replace(empty_samples(names, DIM), embedded=sample))


def test_permutations_have_the_distribution_of_all_relabellings() -> None:
    vectors = np.array([[0.0], [1.0], [3.0], [7.0]])
    is_new = np.array([True, False, True, False])
    observed, permuted = permute_distances(vectors, is_new, np.zeros(4, np.int64), DriftConfig(permutations=6000))
    assert observed == pytest.approx((1.5 - 4) ** 2)
    every = [
        (np.mean([vectors[i] for i in chosen]) - np.mean([vectors[i] for i in range(4) if i not in chosen])) ** 2
        for chosen in itertools.combinations(range(4), 2)
    ]
    for value in set(every):
        assert np.mean(np.isclose(permuted, value)) == pytest.approx(every.count(value) / 6, abs=0.03)


def test_labels_are_permuted_within_prompts_only() -> None:
    vectors = np.array([[10.0], [11.0], [20.0], [22.0], [23.0]])
    stratum, is_new = np.array([0, 0, 1, 1, 1]), np.array([False, True, False, True, False])
    observed, permuted = permute_distances(vectors, is_new, stratum, DriftConfig(permutations=3000))
    assert observed == pytest.approx(((11 - 10) + (22 - 21.5)) ** 2 / 4)
    first, second = [1, -1], [20 - 22.5, 22 - 21.5, 23 - 21]
    every = [(a + b) ** 2 / 4 for a in first for b in second]
    assert sorted(set(permuted.round(9))) == pytest.approx(sorted(set(np.round(every, 9))))
    shuffled = np.array([3, 0, 4, 1, 2])
    again, _ = permute_distances(vectors[shuffled], is_new[shuffled], stratum[shuffled], DriftConfig(permutations=19))
    assert again == pytest.approx(observed)


@pytest.mark.parametrize("same_prompts", [True, False])
def test_false_alarms_are_as_rare_as_promised(same_prompts: bool) -> None:
    rng = np.random.default_rng(1)
    n, alarms, rounds = 20, 0, 200
    config = DriftConfig(permutations=99)
    for _ in range(rounds):
        topic = rng.normal(0, 2, (2 * n, DIM))  # what a prompt does to every answer to it
        prompts = np.arange(n)
        other = prompts if same_prompts else prompts + n
        old = catalog_of(m=(topic[prompts] + rng.normal(0, 1, (n, DIM)), prompts))
        new = catalog_of(new=(topic[other] + rng.normal(0, 1, (n, DIM)), other))
        report = measure_drift(old, "m", new, config)
        assert report.by_prompt == same_prompts and bool(report.caution) != same_prompts
        alarms += report.changed
    assert stats.binomtest(alarms, rounds, 0.05).pvalue > 0.01


def test_comparing_by_prompt_finds_what_the_prompts_hide() -> None:
    rng = np.random.default_rng(2)
    n = 40
    topic, shift = rng.normal(0, 5, (n, DIM)), np.full(DIM, 0.6)
    prompts = np.arange(n)
    old = catalog_of(m=(topic + rng.normal(0, 0.5, (n, DIM)), prompts))
    changed = topic + shift + rng.normal(0, 0.5, (n, DIM))
    paired = measure_drift(old, "m", catalog_of(m=(changed, prompts)))
    unpaired = measure_drift(old, "m", catalog_of(m=(changed, prompts + 1000)))
    assert paired.changed and paired.shared_prompts == n and paired.p_value == pytest.approx(0.001)
    assert not unpaired.changed and unpaired.shared_prompts == 0
    assert "cannot be told from a change of the model" in unpaired.caution


def test_the_smallest_p_value_is_one_over_the_permutations_and_one() -> None:
    vectors, prompts = np.random.default_rng(7).normal(0, 1, (40, DIM)), np.arange(40)
    old, far = catalog_of(m=(vectors, prompts)), catalog_of(m=(vectors[::-1] + 9, prompts))
    for permutations in (19, 49):
        report = measure_drift(old, "m", far, DriftConfig(permutations=permutations))
        assert report.p_value == 1 / (permutations + 1) and report.changed
    with pytest.raises(UsageError, match=r"smallest p-value is 0.0526, so no change.*at least 19 permutations"):
        DriftConfig(permutations=18)
    with pytest.raises(UsageError, match="at least 9999 permutations"):
        DriftConfig(alpha=1e-4)
    with pytest.raises(UsageError, match="from 0 to 1"):
        DriftConfig(alpha=-0.05)


def test_effect_is_the_shift_in_standard_deviations() -> None:
    rng = np.random.default_rng(3)
    n = 4000
    shift = np.zeros(DIM)
    shift[0] = 1.5 * 0.8
    old = catalog_of(m=(rng.normal(0, 0.8, (n, DIM)), np.arange(n)), other=(rng.normal(3, 0.8, (n, DIM)), np.arange(n)))
    new = catalog_of(x=(rng.normal(0, 0.8, (n, DIM)) + shift, np.arange(n) + n))
    report = measure_drift(old, "m", new, DriftConfig(permutations=99))
    assert report.effect == pytest.approx(1.5, rel=0.05)
    assert (report.n_enrolled, report.n_new, report.model) == (n, n, "m")


def test_the_same_responses_have_not_changed() -> None:
    vectors, prompts = np.random.default_rng(4).normal(0, 1, (12, DIM)), np.arange(12)
    report = measure_drift(catalog_of(m=(vectors, prompts)), "m", catalog_of(m=(vectors, prompts)))
    assert (report.p_value, report.effect, report.changed) == (1.0, 0.0, False)
    elsewhere = vectors + np.random.default_rng(5).normal(0, 2e-4, vectors.shape)  # what another processor encodes
    report = measure_drift(catalog_of(m=(vectors, prompts)), "m", catalog_of(m=(elsewhere, prompts)))
    assert (report.p_value, report.effect, report.changed) == (1.0, 0.0, False)
    constant = catalog_of(m=(np.ones((12, DIM)), prompts))
    assert measure_drift(constant, "m", constant).p_value == 1.0


def test_power_is_what_simulation_finds() -> None:
    rng = np.random.default_rng(5)
    n_old, n_new, effect, rounds = 100, 30, 0.8, 20_000
    noise = np.sqrt(1 / n_old + 1 / n_new)

    def distances(shift: float) -> Float64Array:
        means = rng.normal(0, noise, (rounds, DIM))
        means[:, 0] += shift
        squared: Float64Array = np.square(means).sum(axis=1)
        return squared

    without = distances(0)
    null = fit_null(without, n_old, n_new, by_prompt=False)
    found = np.mean(distances(effect) > np.quantile(without, 0.95))
    assert power_of(null, effect, n_new, 0.05) == pytest.approx(found, abs=0.02)


def test_the_number_needed_is_the_smallest_that_will_do() -> None:
    for by_prompt in (True, False):
        null = NullDistribution(scale=0.05, freedom=8.0, n_enrolled=200, n_new=25, by_prompt=by_prompt)
        needed = responses_needed(null, 0.7, 0.05, 0.8)
        assert needed is not None and needed > 2
        assert power_of(null, 0.7, needed, 0.05) >= 0.8 > power_of(null, 0.7, needed - 1, 0.05)
    small = NullDistribution(scale=0.3, freedom=8.0, n_enrolled=5, n_new=25, by_prompt=False)
    assert responses_needed(small, 0.1, 0.05, 0.8) is None
    assert null.scale_with(25) == pytest.approx(0.05)
    assert NullDistribution(0.05, 8.0, 9, 25, by_prompt=True).scale_with(100) == pytest.approx(0.0125)


def test_errors() -> None:
    vectors, prompts = np.random.default_rng(6).normal(0, 1, (12, DIM)), np.arange(12)
    catalog = catalog_of(m=(vectors, prompts))
    with pytest.raises(UsageError, match="unknown model 'n'; nearest"):
        measure_drift(catalog, "n", catalog)
    with pytest.raises(UsageError, match="responses are of 2 models"):
        measure_drift(catalog, "m", catalog_of(a=(vectors, prompts), b=(vectors, prompts)))
    with pytest.raises(DataError, match="1 new responses of m"):
        measure_drift(catalog, "m", catalog_of(m=(vectors[:1], prompts[:1])))
    with pytest.raises(DataError, match="m has 0 sampled responses"):
        measure_drift(Catalog.of_embeddings(catalog.models), "m", catalog)
