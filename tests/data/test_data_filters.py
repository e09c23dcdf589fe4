from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from model_behavior.data.filters import FilterConfig, filter_votes
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


def test_nothing_left_is_an_error_with_the_counts_and_what_other_thresholds_keep() -> None:
    votes = [("p", "a", "x", "b", "y", 0), ("q", "a", "x", "b", "y", 0), ("p", "b", "x", "c", "y", 0)]
    data = make_data([*votes, ("", "a", "x", "b", "y", 0)])
    with pytest.raises(DataError) as caught:
        filter_votes(data, FilterConfig(min_comparisons=20))
    assert str(caught.value) == (
        "no vote is left of 4 after filtering (removed: empty prompt: 1, rare model: 3). "
        "Fix: lower the threshold of 20 votes per model (--min-comparisons), or give more votes. "
        "Kept by --min-comparisons: 1: 3 models, 3 votes; 2: 2 models, 2 votes; 5: 0 models, 0 votes; "
        "10: 0 models, 0 votes; 20: 0 models, 0 votes."
    )


def test_the_threshold_follows_the_size_of_the_file_and_never_costs_half_of_the_votes() -> None:
    rng = np.random.default_rng(0)
    for n_votes, n_models in ((30, 4), (300, 20), (645, 60), (4000, 30)):
        popular = rng.dirichlet(np.full(n_models, 0.3))
        sides = [rng.choice(n_models, 2, replace=False, p=popular * 0.9 + 0.1 / n_models) for _ in range(n_votes)]
        votes = [(f"p{n}", f"m{a}", f"x{n}", f"m{b}", f"y{n}", 0) for n, (a, b) in enumerate(sides)]
        kept, report = filter_votes(make_data(votes), FilterConfig())
        counts = Counter(name for _, a, _, b, _, _ in read_back(kept) for name in (a, b))
        distinct = {name for _, a, _, b, _, _ in votes for name in (a, b)}
        threshold = min(20, 2 * n_votes // (4 * len(distinct)))
        assert min(counts.values()) >= threshold and len(kept) > n_votes / 2
        assert report.thresholds or len(kept) == n_votes
        assert len(counts) + len(report.rare_models) == len(distinct)
