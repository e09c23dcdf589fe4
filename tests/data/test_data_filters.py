from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_behavior.data.filters import FilterConfig, filter_votes, select_votes
from model_behavior.data.text_columns import PairBuilder
from model_behavior.data_models.votes import TrainingData
from model_behavior.errors import DataError

VoteRow = tuple[str, str, str, str, str, int]
"""prompt, model_a, response_a, model_b, response_b, outcome"""


def make_data(votes: list[VoteRow]) -> TrainingData:
    builder = PairBuilder()
    pair_a = [builder.add(prompt, model, text, "") for prompt, model, text, _, _, _ in votes]
    pair_b = [builder.add(prompt, model, text, "") for prompt, _, _, model, text, _ in votes]
    return TrainingData(
        pairs=builder.finish(),
        pair_a=np.array(pair_a, dtype=np.int32),
        pair_b=np.array(pair_b, dtype=np.int32),
        outcome=np.array([vote[5] for vote in votes], dtype=np.int8),
    )


def read_back(data: TrainingData) -> list[VoteRow]:
    pairs = data.pairs
    prompts, responses = pairs.prompts.to_pylist(), pairs.responses.to_pylist()

    def side(pair: int) -> tuple[str, str]:
        return pairs.models[pairs.model_index[pair]], responses[pair]

    return [
        (prompts[pairs.prompt_index[a]], *side(a), *side(b), int(outcome))
        for a, b, outcome in zip(data.pair_a, data.pair_b, data.outcome, strict=True)
    ]


def test_the_builder_keeps_what_it_was_given() -> None:
    votes = [("p", "z", "r1", "a", "r2", 0), ("p", "z", "r1", "m", "r1", 2), ("q", "a", "r2", "z", "r1", 1)]
    data = make_data(votes)
    assert read_back(data) == votes
    assert data.pairs.models == ("a", "m", "z")
    assert data.pairs.prompts.to_pylist() == ["p", "q"]
    assert len(data.pairs) == 5
    assert data.pairs.histories.to_pylist() == [""] * 5
    assert data.pairs.prompts.type == data.pairs.responses.type == pa.large_string()


def test_a_lone_surrogate_becomes_the_replacement_character() -> None:
    data = make_data([("p\ud83d", "a", "x", "b", "y", 0)])
    assert data.pairs.prompts.to_pylist() == ["p\ufffd"]


def test_empty_texts_and_rare_models_are_removed_and_counted() -> None:
    votes = [
        ("p", "a", "x", "b", "y", 0),
        ("p", "a", "x2", "b", "y2", 1),
        (" \n", "a", "x", "b", "y", 0),
        ("p", "a", "", "b", "y", 0),
        ("p", "a", "x", "b", "\t\u00a0 ", 0),
        # c has two votes only while d is there, and d has one.
        ("p", "c", "x", "d", "y", 0),
        ("p", "c", "x", "a", "y", 0),
    ]
    filtered, report = filter_votes(make_data(votes), FilterConfig(min_comparisons=2))
    assert read_back(filtered) == votes[:2]
    assert filtered.pairs.models == ("a", "b")
    assert len(filtered.pairs) == 4
    assert filtered.pairs.prompts.to_pylist() == ["p"]
    assert report.votes_before == 7
    assert report.votes_after == 2
    assert report.removed == {"empty prompt": 1, "empty response": 2, "rare model": 2}
    assert report.rare_models == ("c", "d")


def test_self_naming_is_masked_and_counted() -> None:
    data = make_data([("p", "a", "I'm Claude, made by Anthropic.", "b", "fine", 0)])
    filtered, report = filter_votes(data, FilterConfig(min_comparisons=1))
    assert filtered.pairs.responses.to_pylist() == ["I'm [MODEL], made by [MAKER].", "fine"]
    assert report.masked_responses == 1
    untouched, report = filter_votes(data, FilterConfig(min_comparisons=1, mask_self_naming=False))
    assert read_back(untouched) == read_back(data)
    assert report.masked_responses == 0


def test_nothing_left_is_an_error_with_the_counts() -> None:
    data = make_data([("p", "a", "x", "b", "y", 0), ("", "a", "x", "b", "y", 0)])
    with pytest.raises(DataError) as caught:
        filter_votes(data, FilterConfig())
    assert str(caught.value) == (
        "no vote is left of 2 after filtering (removed: empty prompt: 1, rare model: 1). "
        "Fix: lower the threshold of 20 votes per model (--min-comparisons), or give more votes."
    )


MODELS = st.sampled_from("abcdef")
VOTES = st.lists(
    st.tuples(
        st.sampled_from(["p", "q", " "]),
        MODELS,
        st.sampled_from(["x", "y", ""]),
        MODELS,
        st.just("z"),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=100, deadline=None)
@given(VOTES, st.integers(0, 5))
def test_filtering_leaves_only_frequent_models(votes: list[VoteRow], minimum: int) -> None:
    try:
        filtered, report = filter_votes(make_data(votes), FilterConfig(minimum))
    except DataError:
        return
    kept = read_back(filtered)
    assert report.votes_after == len(kept)
    assert report.votes_before == len(votes) == len(kept) + sum(report.removed.values())
    for model in filtered.pairs.models:
        assert sum((vote[1] == model) + (vote[3] == model) for vote in kept) >= max(minimum, 1)
    again, second = filter_votes(filtered, FilterConfig(minimum))
    assert read_back(again) == kept
    assert not second.removed


@settings(max_examples=50, deadline=None)
@given(VOTES, st.data())
def test_selection_keeps_order_and_drops_the_unused(votes: list[VoteRow], draw: st.DataObject) -> None:
    chosen = draw.draw(st.lists(st.integers(0, len(votes) - 1), max_size=10))
    selected = select_votes(make_data(votes), np.array(chosen, dtype=np.int64))
    assert read_back(selected) == [votes[index] for index in chosen]
    assert set(selected.pairs.models) == {name for index in chosen for name in (votes[index][1], votes[index][3])}
    assert len(set(selected.pairs.prompts.to_pylist())) == len(selected.pairs.prompts)
