"""Balanced triplets and their share, against plain loops."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from model_behavior.models.behavior import metrics
from model_behavior.preprocessing.balanced_triplets import BalancedTriplets, draw_balanced

N_MODELS, N_PROMPTS = 5, 12


def some_votes(seed: int = 0) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Models and prompts of pairs in no order, some of them in no vote, some in two; a model twice on one prompt."""
    rng = np.random.default_rng(seed)
    model, prompt = rng.integers(0, N_MODELS, 60), rng.integers(0, N_PROMPTS, 60)
    chosen = [(a, b) for a, b in product(range(50), repeat=2) if a < b and prompt[a] == prompt[b]]
    chosen = [chosen[row] for row in rng.permutation(len(chosen))[:30]]
    chosen = [pair for pair in chosen if model[pair[0]] != model[pair[1]]]
    left, right = np.array(chosen, dtype=np.int64).T
    return model, prompt, (left, right)


def by_loops(model: np.ndarray, prompt: np.ndarray, votes: tuple[np.ndarray, np.ndarray]) -> list[tuple[int, int, int]]:
    pool = sorted({*votes[0].tolist(), *votes[1].tolist()})
    found = []
    for left, right in zip(*(side.tolist() for side in votes), strict=True):
        for positive, negative in ((left, right), (right, left)):
            own = [each for each in pool if model[each] == model[positive] and prompt[each] != prompt[positive]]
            found += [(anchor, positive, negative) for anchor in own]
    return sorted(found)


def listed(triplets: BalancedTriplets) -> list[tuple[int, int, int]]:
    return sorted(zip(*(side.tolist() for side in vars(triplets).values()), strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_all_of_them_as_loops_find_them(seed: int) -> None:
    model, prompt, votes = some_votes(seed)
    found = listed(draw_balanced(model, prompt, votes, seed=0))
    assert len(found) > 50 and found == by_loops(model, prompt, votes)


def test_a_draw_is_of_those_without_repeats_and_uniform() -> None:
    model, prompt, votes = some_votes()
    everything = by_loops(model, prompt, votes)
    counts = dict.fromkeys(everything, 0)
    for seed in range(400):
        drawn = listed(draw_balanced(model, prompt, votes, seed, most=20))
        assert len(drawn) == 20
        for triplet in drawn:
            counts[triplet] += 1
    expected = 400 * 20 / len(everything)
    assert abs(np.array(list(counts.values())) - expected).max() < 6 * np.sqrt(expected)
    assert listed(draw_balanced(model, prompt, votes, 7, most=20)) == listed(
        draw_balanced(model, prompt, votes, 7, most=20)
    )


def test_no_votes_and_lonely_models_give_none() -> None:
    nothing = np.zeros(0, np.int64)
    assert not len(draw_balanced(nothing, nothing, (nothing, nothing), 0))
    assert not len(draw_balanced(np.array([0, 1]), np.array([0, 0]), (np.array([0]), np.array([1])), 0))


def test_the_share_as_a_loop_finds_it_with_draws_as_halves() -> None:
    model, prompt, votes = some_votes()
    embeddings = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    embeddings[votes[0][:6]] = embeddings[votes[1][:6]]
    triplets = draw_balanced(model, prompt, votes, 0)

    def cosine(a: int, b: int) -> float:
        x, y = embeddings[a], embeddings[b]
        return float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))

    for (anchor, positive, negative), score in zip(
        zip(*(side.tolist() for side in vars(triplets).values()), strict=True),
        metrics.balanced_scores(embeddings, triplets).tolist(),
        strict=True,
    ):
        same = (embeddings[positive] == embeddings[negative]).all()
        expected = 0.5 if same else float(cosine(anchor, positive) > cosine(anchor, negative))
        assert score == expected
    assert (metrics.balanced_scores(embeddings, triplets) == 0.5).any()


def test_the_prompt_alone_is_worth_nothing_and_the_model_everything() -> None:
    model, prompt, votes = some_votes()
    triplets = draw_balanced(model, prompt, votes, 0)
    for labels, share in ((prompt, 0.5), (model, 1.0)):
        assert metrics.balanced_scores(np.eye(60, dtype=np.float32)[labels], triplets).mean() == share
