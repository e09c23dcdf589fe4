"""What is mined within a batch obeys the rules of sampling, and is the hardest that does."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from model_behavior.models.behavior.batches import SAME_PROMPT_RUN, draw_batches
from model_behavior.models.behavior.objectives import (
    Distance,
    Mining,
    Objective,
    ObjectiveConfig,
    TripletBatch,
    mine_triplets,
)

Triple = tuple[int, int, int]
Columns = tuple[list[int], list[int], list[int]]
MARGIN = 0.4


def make_batch(columns: Columns, triplets: list[Triple], seed: int = 0) -> TripletBatch:
    """Pairs as (models, prompts, texts)."""
    anchor, positive, negative = torch.tensor(triplets).T
    raw = torch.randn(len(columns[0]), 3, generator=torch.Generator().manual_seed(seed))
    ids = (torch.tensor(each) for each in columns)
    nothing = torch.zeros(len(triplets), dtype=torch.bool)
    return TripletBatch(raw, anchor, positive, negative, nothing, nothing, *ids)


def triples(columns: Columns) -> list[Triple]:
    """Every triplet that sampling may form, of any kind."""
    model, prompt, text = columns
    pairs = range(len(model))
    return [
        (a, p, n)
        for a, p, n in product(pairs, pairs, pairs)
        if len({text[a], text[p], text[n]}) == 3
        and model[n] != model[a]
        and (prompt[p] != prompt[a] or (model[p] != model[a] and model[n] != model[p]))
    ]


@st.composite
def batches(draw: st.DrawFn) -> TripletBatch:
    size = draw(st.integers(4, 14))
    model, prompt, text = (draw(st.lists(st.integers(0, top), min_size=size, max_size=size)) for top in (3, 2, 9))
    model[:3], prompt[:3], text[:3] = [0, 0, 1], [0, 1, 0], [20, 21, 22]  # at least one triplet
    columns = model, prompt, text
    chosen = draw(st.lists(st.sampled_from(triples(columns)), min_size=1, max_size=8))
    return make_batch(columns, chosen, draw(st.integers(0, 1000)))


def distance_by_loops(left: list[float], right: list[float], distance: Distance) -> float:
    if distance == "cosine":
        return 1 - sum(a * b for a, b in zip(left, right, strict=True))
    return math.dist(left, right)


def mined_by_loops(of: TripletBatch, mining: Mining, distance: Distance) -> list[Triple]:
    unit = functional.normalize(of.raw.double(), dim=1).tolist()
    model, prompt, text = of.model.tolist(), of.prompt.tolist(), of.text.tolist()
    own = list(zip(of.anchor.tolist(), of.positive.tolist(), of.negative.tolist(), strict=True))
    pulled = {frozenset((a, p)) for a, p, _ in own}
    good = {pair for a, p, _ in own for pair in (a, p)}
    mined = []
    for a, p, n in own:
        negatives, positives = [n], [p]
        if model[p] == model[a]:
            for j in range(len(unit)):
                unlike = model[j] != model[a] and text[j] not in (text[a], text[p])
                if unlike and prompt[j] == prompt[a] and frozenset((a, j)) not in pulled:
                    negatives.append(j)
        d = [distance_by_loops(unit[a], other, distance) for other in unit]
        if mining == "semi-hard":
            band = [j for j in negatives if d[p] < d[j] < d[p] + MARGIN]
            mined.append((a, p, min(band, key=d.__getitem__) if band else n))
            continue
        negative = min(negatives, key=d.__getitem__)
        if model[p] == model[a]:
            for j in good:
                unlike_text = text[j] not in (text[a], text[negative])
                if model[j] == model[a] and prompt[j] != prompt[a] and unlike_text:
                    positives.append(j)
        mined.append((a, max(positives, key=d.__getitem__), negative))
    return mined


def mine(of: TripletBatch, mining: Mining, distance: Distance) -> list[Triple]:
    positive, negative = mine_triplets(functional.normalize(of.raw, dim=1), of, mining, MARGIN, distance)
    return list(zip(of.anchor.tolist(), positive.tolist(), negative.tolist(), strict=True))


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("mining", ["semi-hard", "batch-hard"])
class TestMining:
    @settings(deadline=None, max_examples=60)
    @given(of=batches())
    def test_it_finds_what_loops_find(self, mining: Mining, distance: Distance, of: TripletBatch) -> None:
        assert mine(of, mining, distance) == mined_by_loops(of, mining, distance)

    @settings(deadline=None, max_examples=60)
    @given(of=batches())
    def test_the_rules_hold(self, mining: Mining, distance: Distance, of: TripletBatch) -> None:
        model, prompt, text = of.model.tolist(), of.prompt.tolist(), of.text.tolist()
        sides = zip(mine(of, mining, distance), of.positive.tolist(), of.negative.tolist(), strict=True)
        condemned = set(range(len(model))) - {*of.anchor.tolist(), *of.positive.tolist()}
        for (a, p, n), own_positive, own_negative in sides:
            assert len({text[a], text[p], text[n]}) == 3
            assert model[n] != model[a] and p not in condemned
            if p != own_positive:
                assert model[p] == model[a] and prompt[p] != prompt[a]
            if n != own_negative:
                assert prompt[n] == prompt[a]
            if model[own_positive] != model[a]:
                assert (p, n) == (own_positive, own_negative)

    def test_a_batch_without_other_candidates_keeps_its_triplets(self, mining: Mining, distance: Distance) -> None:
        of = make_batch(([0, 0, 1, 1, 2], [0, 1, 0, 1, 2], [0, 1, 2, 3, 4]), [(0, 1, 2)])
        assert mine(of, mining, distance) == [(0, 1, 2)]

    def test_the_other_side_of_a_tie_is_never_mined(self, mining: Mining, distance: Distance) -> None:
        """Pair 3 lies on the anchor 0 but is tied with it; pair 4 of the same prompt is free."""
        columns = [0, 0, 1, 2, 3, 1], [0, 1, 0, 0, 0, 1], [0, 1, 2, 3, 4, 5]
        of = make_batch(columns, [(0, 1, 2), (3, 0, 5)])
        angle = torch.tensor([0.0, 0.0, 3.0, 0.01, 0.1, 2.0])
        of = replace(of, raw=torch.stack([angle.cos(), angle.sin(), 0 * angle], dim=1))
        assert mine(of, mining, distance) == [(0, 1, 4), (3, 0, 5)]


def test_semi_hard_passes_over_what_is_nearer_than_the_positive() -> None:
    """Angles to the anchor: positive 0.5; negatives 2.0 (its own), 0.3 (hard), 0.7 and 0.8 (semi-hard)."""
    columns = [0, 0, 1, 2, 3, 4], [0, 1, 0, 0, 0, 0], [0, 1, 2, 3, 4, 5]
    of = make_batch(columns, [(0, 1, 2)])
    angle = torch.tensor([0.0, 0.5, 2.0, 0.3, 0.7, 0.8])
    of = replace(of, raw=torch.stack([angle.cos(), angle.sin(), 0 * angle], dim=1))
    assert mine(of, "semi-hard", "euclidean") == [(0, 1, 4)]
    assert mine(of, "batch-hard", "euclidean") == [(0, 1, 3)]
    assert mine(of, "none", "euclidean") == [(0, 1, 2)]


@settings(deadline=None, max_examples=60)
@given(of=batches())
def test_the_batch_hard_loss_is_never_below_that_of_the_votes(of: TripletBatch) -> None:
    def loss(mining: Mining) -> torch.Tensor:
        config = ObjectiveConfig(proxy=0, vote=0, margin=MARGIN, mining=mining)
        total: torch.Tensor = Objective(n_models=4, dim=3, config=config)(of)[0]
        return total

    of.raw.requires_grad_()
    hard = loss("batch-hard")
    assert float(hard.detach()) >= float(loss("none").detach()) - 1e-6
    hard.backward()  # type: ignore[no-untyped-call]
    assert of.raw.grad is not None and of.raw.grad.isfinite().all()


prompts = st.lists(st.integers(0, 5), max_size=120).map(lambda ids: np.array(ids, dtype=np.int64))


class TestBatches:
    @given(prompt=prompts, size=st.integers(1, 40), mining=st.sampled_from(["none", "semi-hard", "batch-hard"]))
    def test_every_triplet_is_in_one_batch(self, prompt: np.ndarray, size: int, mining: Mining) -> None:
        drawn = draw_batches(prompt, size, mining != "none", np.random.default_rng(0))
        assert sorted(index for batch in drawn for index in batch) == list(range(len(prompt)))
        assert all(len(batch) == size for batch in drawn[:-1])

    @given(prompt=prompts)
    def test_with_mining_a_prompts_triplets_stay_in_runs(self, prompt: np.ndarray) -> None:
        drawn = draw_batches(prompt, 1000, True, np.random.default_rng(0))
        order = prompt[np.concatenate([*drawn, np.zeros(0, np.int64)]).astype(np.int64)]
        runs = 1 + int((np.diff(order) != 0).sum()) if len(order) else 0
        assert runs <= sum(math.ceil(count / SAME_PROMPT_RUN) for count in np.bincount(prompt))

    def test_runs_come_in_another_order_with_another_generator(self) -> None:
        prompt = np.arange(400, dtype=np.int64) % 20
        one, same, other = (draw_batches(prompt, 64, True, np.random.default_rng(seed)) for seed in (0, 0, 1))
        assert all((a == b).all() for a, b in zip(one, same, strict=True))
        assert not all((a == b).all() for a, b in zip(one, other, strict=True))
        assert all(len(set(prompt[batch])) >= 4 for batch in one[:-1]), "a batch has several prompts"
