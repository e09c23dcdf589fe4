"""Batches hold every triplet once, and where it is asked for, a prompt's triplets stay together."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from model_behavior.models.behavior.batches import SAME_PROMPT_RUN, draw_batches, draw_batches_by_prompt

prompts = st.lists(st.integers(0, 5), max_size=120).map(lambda ids: np.array(ids, dtype=np.int64))


@given(prompt=prompts, size=st.integers(1, 40))
def test_every_triplet_is_in_one_batch(prompt: np.ndarray, size: int) -> None:
    free = draw_batches(len(prompt), size, np.random.default_rng(0))
    by_prompt = draw_batches_by_prompt(prompt, size, np.random.default_rng(0))
    for drawn in (free, by_prompt):
        assert sorted(index for batch in drawn for index in batch) == list(range(len(prompt)))
        assert all(len(batch) == size for batch in drawn[:-1])


def test_free_batches_are_the_generators_permutation_cut_in_order() -> None:
    """What makes a training of an earlier release come out again."""
    drawn = draw_batches(10, 4, np.random.default_rng(5))
    assert np.concatenate(drawn).tolist() == np.random.default_rng(5).permutation(10).tolist()
    assert [len(batch) for batch in drawn] == [4, 4, 2]


def test_of_many_triplets_some_are_drawn() -> None:
    drawn = draw_batches(10, 4, np.random.default_rng(5), most=6)
    assert np.concatenate(drawn).tolist() == np.random.default_rng(5).permutation(10)[:6].tolist()


@given(prompt=prompts)
def test_a_prompts_triplets_stay_in_runs(prompt: np.ndarray) -> None:
    drawn = draw_batches_by_prompt(prompt, 1000, np.random.default_rng(0))
    order = prompt[np.concatenate([*drawn, np.zeros(0, np.int64)]).astype(np.int64)]
    runs = 1 + int((np.diff(order) != 0).sum()) if len(order) else 0
    assert runs <= sum(math.ceil(count / SAME_PROMPT_RUN) for count in np.bincount(prompt))


def test_runs_come_in_another_order_with_another_generator() -> None:
    prompt = np.arange(400, dtype=np.int64) % 20
    one, same, other = (draw_batches_by_prompt(prompt, 64, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert all((a == b).all() for a, b in zip(one, same, strict=True))
    assert not all((a == b).all() for a, b in zip(one, other, strict=True))
    assert all(len(set(prompt[batch])) >= 4 for batch in one[:-1]), "a batch has several prompts"
