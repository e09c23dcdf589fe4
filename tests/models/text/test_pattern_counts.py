"""Both ways of counting give the same."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_behavior.arrays import Float64Array
from model_behavior.data.arena import Arena
from model_behavior.models.behavior.text.style import count_bytes, count_in_few, count_in_many, count_patterns
from model_behavior.models.behavior.text.style_features import FEATURES

# fmt: off
PIECES = [
    "\n", " ", "  ", "\t", "\x0b", "\x0c", "\r", "\x1c", "\x85", "\u2028", "\x00", "I'm", "I’m", "sorry", "Sorry", "**",
    "*", "`", "- ", "1. ", "(a) ", "# ", "let me know", "é", "S", "Overall", "…", "😀", "“", "http://", "|", "$",
    "let’s", "!", "?", ".", ",", "_", "THE", "As an AI language model", "Here's", "İ", "ß", "```", "A b:", "3",
    "\\(", "](", "we'll", "und", "LE", "the_", "of", "İn",
]
# fmt: on
TEXTS = st.lists(
    st.one_of(st.sampled_from(PIECES), st.characters(exclude_categories=["Cs"], exclude_characters="\u017f\u212a")),
    max_size=30,
).map("".join)


def counted(texts: list[str]) -> Float64Array:
    column = pa.array(texts, pa.large_string())
    return count_patterns(column, count_bytes(column))


def by_python(texts: list[str]) -> Float64Array:
    return count_in_few(texts, count_bytes(pa.array(texts, pa.large_string())))


def by_arrow(texts: list[str]) -> Float64Array:
    column = pa.array(texts, pa.large_string())
    return count_in_many(column, count_bytes(column))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(TEXTS, min_size=1, max_size=30))
def test_few_and_many_agree(texts: list[str]) -> None:
    np.testing.assert_array_equal(by_python(texts), by_arrow(texts))
    np.testing.assert_array_equal(counted(texts[:1]), by_arrow(texts[:1]))


def test_few_and_many_agree_on_responses(arena: Arena) -> None:
    texts = arena.votes.pairs.responses.to_pylist()[:300]
    np.testing.assert_array_equal(by_python(texts), by_arrow(texts))


@pytest.mark.parametrize("letter", ["\u017f", "\u212a"])
def test_letters_that_only_re2_folds_are_left_to_it(letter: str) -> None:
    texts = [f"{letter}orry, I as{letter} whether this i{letter} o{letter}."]
    np.testing.assert_array_equal(counted(texts), by_arrow(texts))


def test_every_pattern_is_found_somewhere_by_hand() -> None:
    names = [feature.name for feature in FEATURES]
    counts = dict(zip(names, by_python(["# Title\n- a, b, c\nI'm sorry."])[:, 0], strict=False))
    assert (counts["comma"], counts["heading"], counts["dash_bullet"], counts["apology"]) == (2, 1, 1, 1)
    assert counts["opens_with_heading"] == 1 and counts["ends_with_full_stop"] == 1 and counts["table_row"] == 0
