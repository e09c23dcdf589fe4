"""Triplets obey their rules on any votes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_behavior.data.split import normalise_prompt
from model_behavior.data_models.behavior_encoder_types import TripletKind, Triplets
from model_behavior.data_models.votes import Outcome, TrainingData
from model_behavior.errors import UsageError
from model_behavior.preprocessing.triplets import TripletConfig, TripletSampler, describe_triplet
from tests.conftest import VoteRow, make_votes

OUTCOMES = list(Outcome)


@st.composite
def vote_rows(draw: st.DrawFn) -> list[VoteRow]:
    n_models, n_prompts = draw(st.integers(2, 5)), draw(st.integers(1, 6))
    rows: list[VoteRow] = []
    for _ in range(draw(st.integers(1, 40))):
        a, b = draw(st.lists(st.integers(0, n_models - 1), min_size=2, max_size=2, unique=True))
        prompt = draw(st.integers(0, n_prompts - 1))
        # Some prompts differ by case alone, and some responses are equal across models and prompts.
        text = f"Prompt {prompt // 2}" if prompt % 2 else f"prompt  {prompt // 2}"
        said = [f"text {draw(st.integers(0, 12))}" for _ in range(2)]
        rows.append((text, f"m{a}", said[0], f"m{b}", said[1], draw(st.sampled_from(OUTCOMES))))
    return rows


def sample(data: TrainingData, seed: int = 0, config: TripletConfig | None = None) -> Triplets:
    sampler = TripletSampler(data, np.arange(len(data)), config or TripletConfig())
    return sampler.sample(np.random.default_rng(seed))


@settings(max_examples=300, deadline=None)
@given(vote_rows(), st.integers(0, 3))
def test_rules_hold_for_any_votes(rows: list[VoteRow], seed: int) -> None:
    data = make_votes(rows)
    triplets = sample(data, seed)
    bad_pairs = {
        int(pair)
        for a, b, outcome in zip(data.pair_a, data.pair_b, data.outcome, strict=True)
        if outcome == Outcome.BOTH_BAD
        for pair in (a, b)
    }
    for index in range(len(triplets)):
        triplet = describe_triplet(data.pairs, triplets, index)
        (model_a, prompt_a, text_a), (model_p, prompt_p, text_p) = triplet.anchor, triplet.positive
        model_n, _, text_n = triplet.negative
        assert len({text_a, text_p, text_n}) == 3
        assert int(triplets.anchor[index]) not in bad_pairs
        assert int(triplets.positive[index]) not in bad_pairs
        assert model_n != model_a
        prompts_differ = normalise_prompt(prompt_a) != normalise_prompt(prompt_p)
        if triplet.kind == TripletKind.IDENTITY:
            assert model_p == model_a and prompts_differ
        elif triplet.kind == TripletKind.PERFORMANCE:
            assert model_p != model_a and prompts_differ
        elif triplet.kind == TripletKind.TIE:
            assert prompt_p == prompt_a and model_n not in (model_a, model_p)
        else:
            assert int(triplets.negative[index]) in bad_pairs


@settings(max_examples=200, deadline=None)
@given(vote_rows(), st.integers(0, 3))
def test_every_possible_triplet_is_formed_or_counted(rows: list[VoteRow], seed: int) -> None:
    data = make_votes(rows)
    triplets = sample(data, seed)
    count = Counter(int(outcome) for outcome in data.outcome)
    decided = count[Outcome.MODEL_A] + count[Outcome.MODEL_B]
    others = count[Outcome.TIE] + count[Outcome.BOTH_BAD]
    assert len(triplets) + sum(triplets.skipped.values()) == decided + 2 * others


@settings(max_examples=50, deadline=None)
@given(vote_rows())
def test_ids_are_equal_for_equal_prompts_and_equal_texts(rows: list[VoteRow]) -> None:
    data = make_votes(rows)
    pairs = data.pairs
    sampler = TripletSampler(data, np.arange(len(data)), TripletConfig())
    prompts = [normalise_prompt(text) for text in pairs.prompts.take(pairs.prompt_index).to_pylist()]
    for ids, texts in ((sampler.prompt, prompts), (sampler.text, pairs.responses.to_pylist())):
        assert len(set(zip(ids.tolist(), texts, strict=True))) == len(set(ids.tolist())) == len(set(texts))


def test_a_decided_vote_gives_winner_and_loser() -> None:
    rows: list[VoteRow] = [
        ("p0", "x", "x0", "y", "y0", Outcome.MODEL_A),
        ("p1", "x", "x1", "y", "y1", Outcome.MODEL_B),
    ]
    triplets = sample(make_votes(rows), config=TripletConfig(identity=1, performance=0))
    first, second = (describe_triplet(make_votes(rows).pairs, triplets, index) for index in range(2))
    assert first.anchor == ("x", "p0", "x0") and first.negative == ("y", "p0", "y0")
    assert first.positive == ("x", "p1", "x1")
    assert second.anchor == ("y", "p1", "y1") and second.negative == ("x", "p1", "x1")
    assert second.positive == ("y", "p0", "y0")


def test_a_tie_pulls_both_sides_and_prefers_a_loser_on_the_same_prompt() -> None:
    rows: list[VoteRow] = [
        ("p0", "x", "x0", "y", "y0", Outcome.TIE),
        ("p0", "z", "z0", "w", "w0", Outcome.MODEL_A),
        ("p1", "z", "z1", "w", "w1", Outcome.MODEL_A),
    ]
    data = make_votes(rows)
    for seed in range(20):
        triplets = sample(data, seed)
        ties = [
            describe_triplet(data.pairs, triplets, int(i)) for i in np.flatnonzero(triplets.kind == TripletKind.TIE)
        ]
        assert [(t.anchor[0], t.positive[0], t.negative) for t in ties] == [
            ("x", "y", ("w", "p0", "w0")),
            ("y", "x", ("w", "p0", "w0")),
        ]


def test_both_bad_gives_negatives_only() -> None:
    rows: list[VoteRow] = [
        ("p0", "x", "bad x", "y", "bad y", Outcome.BOTH_BAD),
        ("p0", "z", "z0", "w", "w0", Outcome.MODEL_A),
        ("p1", "z", "z1", "w", "w1", Outcome.MODEL_A),
    ]
    data = make_votes(rows)
    triplets = sample(data, config=TripletConfig(identity=1, performance=0))
    found = [
        describe_triplet(data.pairs, triplets, int(i)) for i in np.flatnonzero(triplets.kind == TripletKind.BOTH_BAD)
    ]
    assert [(t.anchor, t.positive, t.negative[2]) for t in found] == [
        (("z", "p0", "z0"), ("z", "p1", "z1"), "bad x"),
        (("z", "p0", "z0"), ("z", "p1", "z1"), "bad y"),
    ]


def test_what_cannot_be_formed_is_counted_by_reason() -> None:
    rows: list[VoteRow] = [
        ("p0", "once", "only answer", "y", "y0", Outcome.MODEL_A),
        ("p0", "z", "same", "w", "same", Outcome.MODEL_A),
    ]
    triplets = sample(make_votes(rows), config=TripletConfig(identity=1, performance=0))
    assert len(triplets) == 0
    assert triplets.skipped == {"both responses are equal": 1, "no positive (identity)": 1}


def test_only_pairs_of_the_side_are_drawn(arena_votes: TrainingData) -> None:
    side = np.arange(0, len(arena_votes), 3)
    allowed = set(arena_votes.pair_a[side].tolist()) | set(arena_votes.pair_b[side].tolist())
    triplets = TripletSampler(arena_votes, side, TripletConfig()).sample(np.random.default_rng(0))
    for column in (triplets.anchor, triplets.positive, triplets.negative):
        assert set(column.tolist()) <= allowed
    assert set(triplets.vote.tolist()) <= set(side.tolist())


def test_shares_are_as_configured_and_positives_are_fresh(arena_votes: TrainingData) -> None:
    sampler = TripletSampler(arena_votes, np.arange(len(arena_votes)), TripletConfig(identity=3, performance=1))
    rng = np.random.default_rng(0)
    first, second = sampler.sample(rng), sampler.sample(rng)
    decided = first.kind <= TripletKind.PERFORMANCE
    share = (first.kind[decided] == TripletKind.PERFORMANCE).mean()
    assert abs(share - 0.25) < 4 * np.sqrt(0.25 * 0.75 / decided.sum())
    assert (first.positive != second.positive).mean() > 0.5
    again = sampler.sample(np.random.default_rng(0))
    for name in ("anchor", "positive", "negative", "vote", "kind"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))


def test_impossible_shares_are_refused() -> None:
    with pytest.raises(UsageError, match="identity=0 and performance=0"):
        TripletConfig(identity=0, performance=0)
    with pytest.raises(UsageError, match="identity=-1"):
        TripletConfig(identity=-1)


@pytest.fixture(scope="module")
def arena_votes() -> TrainingData:
    from model_behavior.data.arena import build_arena

    return build_arena(seed=1, n_prompts=60).votes
