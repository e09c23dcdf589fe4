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
    compare_sides,
    fit_null,
    line_up,
    measure_drift,
    power_of,
    responses_needed,
)
from model_behavior.catalog.relabelling import Relabelling, combine, permute_distances, permute_mixtures, score_mixtures
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
    observed, *permuted = permute_distances(vectors, Relabelling(is_new, np.zeros(4, np.int64), 6000, seed=0))
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
    observed, *permuted = permute_distances(vectors, Relabelling(is_new, stratum, 3000, seed=0))
    assert observed == pytest.approx(((11 - 10) + (22 - 21.5)) ** 2 / 4)
    first, second = [1, -1], [20 - 22.5, 22 - 21.5, 23 - 21]
    every = [(a + b) ** 2 / 4 for a in first for b in second]
    assert sorted(set(np.round(permuted, 9))) == pytest.approx(sorted(set(np.round(every, 9))))
    shuffled = np.array([3, 0, 4, 1, 2])
    how = Relabelling(is_new[shuffled], stratum[shuffled], 19, seed=0)
    again, *_ = permute_distances(vectors[shuffled], how)
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
    assert paired.p_mixture is None and paired.p_mean == paired.p_value  # no other model is known
    assert not unpaired.changed and unpaired.shared_prompts == 0
    assert "cannot be told from a change of the model" in unpaired.caution


def mixed_catalogs(rng: np.random.Generator, share: float, n: int, known: bool = True) -> tuple[Catalog, Catalog]:
    """A model with four others beside it, and new responses of it, of which a share is another's."""
    places = rng.normal(0, 1.5, (5, DIM))
    names = ["m", *"abcd"]
    drawn = {name: place + rng.normal(0, 1, (n, DIM)) for name, place in zip(names, places, strict=True)}
    new = places[0] + rng.normal(0, 1, (n, DIM))
    n_foreign = round(share * n)
    new[:n_foreign] += places[2] - places[0]
    catalog = catalog_of(**{name: (vectors, np.arange(n)) for name, vectors in drawn.items() if known or name != "b"})
    return catalog, catalog_of(new=(new, np.arange(n) + n))


def test_a_tenth_of_foreign_responses_is_found_and_named() -> None:
    rng = np.random.default_rng(8)
    drawn = [mixed_catalogs(rng, 0.1, 128) for _ in range(30)]
    found = [measure_drift(catalog, "m", new, DriftConfig(permutations=99)) for catalog, new in drawn]
    means = sum(report.p_mean <= 0.05 for report in found)
    assert sum(report.changed for report in found) > means + 5
    named = [report.resembles for report in found if report.resembles is not None]
    assert named.count("b") > 0.8 * len(named) > 10


def test_false_alarms_of_both_tests_together() -> None:
    rng, rounds, config = np.random.default_rng(9), 300, DriftConfig(permutations=59)
    alarms = 0
    for _ in range(rounds):
        catalog, new = mixed_catalogs(rng, 0.0, 24)
        row = catalog.models.names.index("m")
        alarms += compare_sides(catalog, row, line_up(catalog, row, new, config), config).p_value <= 0.05
    assert stats.binomtest(alarms, rounds, 0.05).pvalue > 0.01


def test_scores_are_log_likelihood_ratios_of_mixtures() -> None:
    vectors, others = np.random.default_rng(10).normal(0, 1, (7, 2)), np.array([[1.0, 2.0], [-1.0, 0.5]])
    scores = score_mixtures(vectors, others)
    centre = vectors.mean(axis=0)
    for k, share in itertools.product(range(2), range(4)):
        densities = [stats.multivariate_normal(mean).pdf(vectors) for mean in (centre, others[k])]
        e = (0.05, 0.1, 0.3, 1.0)[share]
        np.testing.assert_allclose(scores[:, k, share], np.log(1 - e + e * densities[1] / densities[0]), atol=1e-9)
    is_new, stratum = np.arange(7) < 3, np.zeros(7, np.int64)
    statistics, nearest = permute_mixtures(scores, Relabelling(is_new, stratum, 500, seed=0))
    differences = scores[is_new].mean(axis=0) - scores[~is_new].mean(axis=0)
    assert len(statistics) == 501 and nearest in (0, 1) and statistics[0] * differences.max() > 0


def test_tests_are_combined_over_the_same_relabellings() -> None:
    first, second = np.array([3.0, 1.0, 2.0, 0.0]), np.array([0.0, 1.0, 2.0, 3.0])
    assert combine([first], [1.0]) == (0.25, (0.25,))
    together, alone = combine([first, second], [0.8, 0.2])
    # sums of weight / p: 0.8 * 4 + 0.2 * 1 = 3.4, then 1.33, 2.0 and 1.6
    assert alone == (0.25, 1.0) and together == 0.25
    assert combine([first, second], [0.2, 0.8])[0] == 0.75  # 1.6, 1.33, 2.0 and 3.4


def test_prompts_that_others_answered_do_not_pass_for_a_change() -> None:
    rng, n = np.random.default_rng(11), 60
    topic = rng.normal(0, 1, (2 * n, DIM))
    topic[n:] += 1.5  # the new prompts are of another kind
    old, later = np.arange(n), np.arange(n, 2 * n)
    everything = np.arange(2 * n)

    def answers(prompts: IntArray) -> tuple[Float64Array, IntArray]:
        return topic[prompts] + rng.normal(0, 0.5, (len(prompts), DIM)), prompts

    new = catalog_of(new=answers(later))
    alone = catalog_of(m=answers(old), a=answers(old), b=answers(old))
    assert measure_drift(alone, "m", new).changed
    answered = catalog_of(m=answers(old), **{name: answers(everything) for name in "abcdefgh"})
    report = measure_drift(answered, "m", new)
    assert report.effect < 0.6 * measure_drift(alone, "m", new).effect


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
