from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_behavior.data.split import normalise_prompt, normalised_prompt_ids, split_votes
from model_behavior.data.text_columns import PairBuilder
from model_behavior.data_models.votes import TrainingData, ValidationSplit
from model_behavior.errors import DataError, UsageError


def make_votes(rows: list[tuple[str, str, str]]) -> TrainingData:
    """Votes of (prompt, model_a, model_b), all won by the left side."""
    builder = PairBuilder()
    pair_a = [builder.add(prompt, left, "x", "") for prompt, left, _ in rows]
    pair_b = [builder.add(prompt, right, "y", "") for prompt, _, right in rows]
    return TrainingData(
        builder.finish(), np.array(pair_a, np.int32), np.array(pair_b, np.int32), np.zeros(len(rows), np.int8)
    )


def prompt_of(data: TrainingData, vote: int) -> str:
    prompt: str = data.pairs.prompts[data.pairs.prompt_index[data.pair_a[vote]]].as_py()
    return prompt


def test_prompts_are_compared_normalised() -> None:
    assert normalise_prompt("  Hello\u00a0 \n WORLD ") == "hello world"
    assert normalise_prompt("ﬁne Ｓtraße") == "fine strasse"
    assert normalise_prompt(" \n") == ""


@given(st.text())
def test_normalising_is_idempotent(text: str) -> None:
    assert normalise_prompt(normalise_prompt(text)) == normalise_prompt(text)


def test_equal_prompts_share_an_id() -> None:
    prompts = pa.array(["b", "A ", "a", "B", "c"], pa.large_string())
    ids = normalised_prompt_ids(prompts)
    assert ids.tolist() == [1, 0, 0, 1, 2]
    assert ids.dtype == np.int32


PROMPTS = st.text(alphabet="aAbBﬁ é\n", max_size=4)
ROWS = st.lists(st.tuples(PROMPTS, st.sampled_from("mno"), st.sampled_from("xyz")), min_size=2, max_size=40)


@settings(max_examples=150, deadline=None)
@given(ROWS, st.floats(0.01, 0.99), st.integers(0, 99), st.sampled_from(["prompt", "random"]), st.booleans())
def test_every_vote_is_in_one_part_and_no_prompt_is_on_two_sides(
    rows: list[tuple[str, str, str]], fraction: float, seed: int, by: str, hold_out: bool
) -> None:
    data = make_votes(rows)
    held = (data.pairs.models[0],) if hold_out else ()
    config = ValidationSplit(fraction, seed, by, held)  # type: ignore[arg-type]
    try:
        parts = split_votes(data, config)
    except DataError:
        free = [row for row in rows if not {row[1], row[2]}.intersection(held)]
        assert len({normalise_prompt(row[0]) for row in free} if by == "prompt" else free) < 2
        return
    assert sorted([*parts.train, *parts.validation, *parts.held_out]) == list(range(len(rows)))
    assert len(parts.train) > 0 and len(parts.validation) > 0
    for vote, row in enumerate(rows):
        assert (vote in parts.held_out) == bool({row[1], row[2]}.intersection(held))
    for part in (parts.train, parts.validation, parts.held_out):
        assert part.tolist() == sorted(part)
        assert part.dtype == np.int64
    if by == "prompt":
        train, validation = (
            {normalise_prompt(prompt_of(data, vote)) for vote in part} for part in (parts.train, parts.validation)
        )
        assert not train & validation
        assert len(validation) == min(max(1, round(fraction * len(train | validation))), len(train | validation) - 1)
    again = split_votes(data, config)
    assert again.train.tolist() == parts.train.tolist()


@settings(max_examples=50, deadline=None)
@given(ROWS, st.integers(0, 9), st.randoms(use_true_random=False))
def test_row_order_does_not_matter(rows: list[tuple[str, str, str]], seed: int, random: object) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    results = []
    for ordering in (rows, shuffled):
        data = make_votes(ordering)
        try:
            parts = split_votes(data, ValidationSplit(0.3, seed))
        except DataError:
            return
        results.append({normalise_prompt(prompt_of(data, vote)) for vote in parts.validation})
    assert results[0] == results[1]


def test_held_out_models_are_on_neither_side() -> None:
    data = make_votes([("p", "m", "x"), ("q", "m", "y"), ("r", "n", "x"), ("s", "n", "y"), ("t", "o", "y")])
    parts = split_votes(data, ValidationSplit(0.5, 0, "prompt", ("n", "x")))
    assert parts.held_out.tolist() == [0, 2, 3]
    assert len(parts.train) == len(parts.validation) == 1


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 2.0, float("nan")])
def test_the_fraction_must_leave_both_sides(fraction: float) -> None:
    with pytest.raises(UsageError, match=r"validation fraction .*: must be above 0 and below 1, such as 0\.1"):
        split_votes(make_votes([("p", "a", "b"), ("q", "a", "b")]), ValidationSplit(fraction))


def test_an_unknown_held_out_model_lists_near_names() -> None:
    data = make_votes([("p", "vicuna-7b", "gpt-4"), ("q", "vicuna-13b", "gpt-4")])
    with pytest.raises(UsageError) as caught:
        split_votes(data, ValidationSplit(held_out_models=("vicuna-7",)))
    assert (
        str(caught.value) == "held-out model 'vicuna-7': no vote has it. Nearest names: vicuna-7b, vicuna-13b, gpt-4."
    )


def test_an_unknown_way_to_split_is_an_error() -> None:
    config = ValidationSplit(by="model")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"split by 'model': unknown\. Allowed: 'prompt', 'random'"):
        split_votes(make_votes([("p", "a", "b"), ("q", "a", "b")]), config)


def test_one_prompt_cannot_be_divided() -> None:
    with pytest.raises(DataError, match="1 different prompt among 2 votes"):
        split_votes(make_votes([("p", "a", "b"), ("P ", "b", "a")]), ValidationSplit())
