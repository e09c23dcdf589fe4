from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_behavior.arrays import Float32Array
from model_behavior.data_models.behavior_encoder_types import Triplets
from model_behavior.models.behavior.metrics import (
    centroids,
    draw_groups,
    effective_rank,
    identification_hits,
    mean_pairwise_distance,
    normalise,
    triplet_hits,
    variance_explained,
)

Vectors = Float32Array
SHAPES = st.tuples(st.integers(2, 12), st.integers(1, 5), st.integers(0, 99))


def vectors(n: int, dim: int, seed: int) -> Vectors:
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


def cosine(left: Float32Array, right: Float32Array) -> float:
    pairs = list(zip(left.tolist(), right.tolist(), strict=True))
    length = math.sqrt(sum(a * a for a, _ in pairs) * sum(b * b for _, b in pairs))
    product: float = sum(a * b for a, b in pairs)
    return product / length


def make_triplets(rows: list[tuple[int, int, int]]) -> Triplets:
    anchor, positive, negative = np.array(rows, dtype=np.int32).reshape(-1, 3).T
    none = np.zeros(len(rows), dtype=np.int32)
    return Triplets(anchor, positive, negative, none, none.astype(np.int8), {})


def test_triplet_hits_are_those_of_loops() -> None:
    embeddings = vectors(9, 4, 0) * np.arange(1, 10, dtype=np.float32)[:, None]
    rows = list(itertools.permutations(range(9), 3))
    expected = [cosine(embeddings[a], embeddings[p]) > cosine(embeddings[a], embeddings[n]) for a, p, n in rows]
    assert triplet_hits(embeddings, make_triplets(rows)).tolist() == expected


def test_a_draw_is_a_miss() -> None:
    embeddings = np.array([[1, 0], [0, 1], [0, 1], [1, 1]], dtype=np.float32)
    rows = [(0, 1, 2), (0, 1, 1), (0, 3, 1), (0, 1, 3)]
    assert triplet_hits(embeddings, make_triplets(rows)).tolist() == [False, False, True, False]


def test_no_triplets() -> None:
    assert triplet_hits(vectors(3, 2, 0), make_triplets([])).shape == (0,)


def test_normalising_keeps_rows_of_zeros() -> None:
    unit = normalise(np.array([[3, 4], [0, 0]], dtype=np.float32))
    np.testing.assert_allclose(unit, np.array([[0.6, 0.8], [0, 0]]), rtol=1e-6)
    assert unit.dtype == np.float32


def test_centroids_by_hand() -> None:
    embeddings = np.array([[1, 2], [10, 20], [3, 6]], dtype=np.float32)
    means = centroids(embeddings, np.array([0, 2, 0]), n_models=4)
    assert means[[0, 2]].tolist() == [[2, 4], [10, 20]]
    assert np.isnan(means[[1, 3]]).all()
    assert means.dtype == np.float32


def test_identification_takes_the_nearest_by_cosine() -> None:
    known = np.array([[5, 0], [0, 1], [np.nan, np.nan], [-1, 0]], dtype=np.float32)
    means = np.array([[9, 1], [1, 9], [-3, 1], [-1, 9], [1, 1.1]], dtype=np.float32)
    truth = np.array([0, 1, 3, 0, 2])
    assert identification_hits(means, truth, known).tolist() == [True, True, True, False, False]


def test_an_unknown_model_is_never_chosen() -> None:
    known = np.array([[np.nan, np.nan], [-1, 0]], dtype=np.float32)
    means = np.array([[1, 0], [1, 0]], dtype=np.float32)
    assert identification_hits(means, np.array([0, 1]), known).tolist() == [False, True]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=30), st.integers(1, 4), st.integers(0, 3), st.integers(0, 99))
def test_groups_are_drawn_without_replacement(member: list[int], k: int, draws: int, seed: int) -> None:
    rows, groups = draw_groups(np.array(member, dtype=np.int64), k, draws, np.random.default_rng(seed))
    large = sorted(group for group, size in Counter(member).items() if size >= k)
    assert groups.tolist() == [group for group in large for _ in range(draws)]
    assert rows.shape == (len(groups), k)
    for drawn, group in zip(rows.tolist(), groups.tolist(), strict=True):
        assert len(set(drawn)) == k
        assert {member[row] for row in drawn} == {group}


def test_the_same_generator_draws_the_same_groups() -> None:
    member = np.repeat([0, 1], 50)
    one, again, other = (draw_groups(member, 5, 3, np.random.default_rng(seed))[0] for seed in (1, 1, 2))
    assert one.tolist() == again.tolist() != other.tolist()
    assert len({tuple(row) for row in one.tolist()}) == 6
    assert sorted(draw_groups(member, 50, 1, np.random.default_rng(0))[0].ravel().tolist()) == list(range(100))


@settings(max_examples=60, deadline=None)
@given(SHAPES)
def test_mean_pairwise_distance_is_that_of_two_loops(shape: tuple[int, int, int]) -> None:
    embeddings = vectors(*shape)
    distances = [1 - cosine(one, other) for one, other in itertools.combinations(embeddings, 2)]
    assert mean_pairwise_distance(embeddings) == pytest.approx(sum(distances) / len(distances), abs=1e-5)


def test_mean_pairwise_distance_at_its_ends() -> None:
    assert mean_pairwise_distance(np.ones((5, 3), dtype=np.float32)) == pytest.approx(0, abs=1e-6)
    assert mean_pairwise_distance(np.array([[2, 0], [-1, 0]], dtype=np.float32)) == pytest.approx(2)
    assert mean_pairwise_distance(vectors(1, 3, 0)) == mean_pairwise_distance(vectors(0, 3, 0)) == 0


@pytest.mark.parametrize("rank", [1, 2, 3, 4])
def test_effective_rank_counts_equal_axes(rank: int) -> None:
    axes = np.concatenate([np.eye(4)[:rank], -np.eye(4)[:rank]]).astype(np.float32)
    assert effective_rank(axes + 7) == pytest.approx(rank)


def test_effective_rank_of_unequal_axes() -> None:
    rows = np.array([[3, 0], [-3, 0], [0, 1], [0, -1]], dtype=np.float32)
    expected = math.exp(-(0.9 * math.log(0.9) + 0.1 * math.log(0.1)))  # variances are as 9 to 1
    assert effective_rank(rows) == pytest.approx(expected)
    assert effective_rank(rows * 100) == pytest.approx(expected)


def test_effective_rank_of_many_rows() -> None:
    rows = np.random.default_rng(0).permutation(np.concatenate([np.eye(4), -np.eye(4)] * 1000)).astype(np.float32)
    assert effective_rank(rows) == pytest.approx(4, abs=0.05)


def test_effective_rank_at_its_ends() -> None:
    assert effective_rank(np.ones((5, 3), dtype=np.float32)) == pytest.approx(1)
    assert effective_rank(vectors(9, 1, 0)) == pytest.approx(1)


def variance_explained_by_loops(embeddings: Vectors, group: list[str]) -> float:
    """1 - mean square within groups / mean square in all, dimensions summed."""

    def squares(rows: list[list[float]]) -> float:
        means = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
        total: float = sum((value - mean) ** 2 for row in rows for value, mean in zip(row, means, strict=True))
        return total

    rows: list[list[float]] = embeddings.tolist()
    names = set(group)
    within = sum(squares([row for row, own in zip(rows, group, strict=True) if own == name]) for name in names)
    return 1 - (within / (len(rows) - len(names))) / (squares(rows) / (len(rows) - 1))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from("abc"), min_size=4, max_size=15), st.integers(1, 4), st.integers(0, 99))
def test_variance_explained_is_that_of_loops(group: list[str], dim: int, seed: int) -> None:
    embeddings = vectors(len(group), dim, seed) + 5
    expected = variance_explained_by_loops(embeddings, group)
    codes = np.array([ord(name) for name in group])
    assert variance_explained(embeddings, codes) == pytest.approx(expected, abs=1e-4)


def test_random_groups_explain_nothing_on_average() -> None:
    shares = [variance_explained(vectors(60, 3, seed), np.arange(60) % 20) for seed in range(200)]
    assert abs(np.mean(shares)) < 0.02
    assert np.std(shares) > 0.01


def test_separated_groups_explain_everything() -> None:
    group = np.arange(60) % 3
    assert variance_explained(vectors(60, 3, 0) * 0.01 + group[:, None].astype(np.float32), group) > 0.999


def test_variance_explained_where_it_is_not_defined() -> None:
    assert math.isnan(variance_explained(vectors(3, 2, 0), np.array([0, 1, 2])))
    assert math.isnan(variance_explained(np.full((6, 3), 0.1, dtype=np.float32), np.array([0, 0, 0, 1, 1, 1])))
