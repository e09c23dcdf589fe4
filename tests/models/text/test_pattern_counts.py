"""Patterns are counted as a plain loop over single texts counts them, and as RE2 does."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_behavior.arrays import Float64Array
from model_behavior.data.arena import Arena
from model_behavior.models.behavior.text.pattern_counts import count_in_few, count_in_many, count_patterns
from model_behavior.models.behavior.text.style_features import FEATURES, OTHER_FUNCTION_WORDS
from model_behavior.models.behavior.text.text_bytes import TextBytes, count_bytes

# fmt: off
PIECES = [
    "\n", " ", "  ", "\t", "\x0b", "\x0c", "\r", "\x1c", "\x85", "\u2028", "\x00", "I'm", "I’m", "sorry", "Sorry", "**",
    "*", "`", "- ", "1. ", "(a) ", "# ", "let me know", "é", "S", "Overall", "…", "😀", "“", "http://", "|", "$",
    "let’s", "!", "?", ".", ",", "_", "THE", "As an AI language model", "Here's", "İ", "ß", "```", "A b:", "3",
    "\\(", "](", "'", "’", "n't", "can't've", "it's", "x's's", "t", "for example", "e.g", "E.g.", "as an ai assistant",
    "such", "as", "\n  to sum up ", "In Short", "conclusion", "le", "WHO_", "ABC", "...", "12) ", "* ", "• ", "12. **",
    "la", "und", "the", "apologize", "enjoy", "seems", "unfortunately",
]
# fmt: on
TEXTS = st.lists(
    st.one_of(st.sampled_from(PIECES), st.characters(exclude_categories=["Cs"], exclude_characters="\u017f\u212a")),
    max_size=30,
).map("".join)


def counted(texts: list[str]) -> Float64Array:
    joined = TextBytes(texts)
    return count_patterns(texts, joined, count_bytes(joined))


def all_at_once(texts: list[str]) -> Float64Array:
    joined = TextBytes(texts)
    return count_in_many(texts, joined, count_bytes(joined))


def by_re2(texts: list[str]) -> Float64Array:
    """Every documented pattern over every text or line, one after the other."""
    rows = []
    for feature in (*FEATURES, OTHER_FUNCTION_WORDS):
        if feature.per == "lines":
            found = [
                sum(pc.match_substring_regex(pa.array(text.split("\n")), feature.pattern).to_pylist()) for text in texts
            ]
        elif feature.per == "text":
            found = pc.match_substring_regex(pa.array(texts), feature.pattern).to_pylist()
        else:
            count = pc.count_substring if feature.literal else pc.count_substring_regex
            found = count(pa.array(texts), feature.pattern).to_pylist()
        rows.append(found)
    return np.array(rows, dtype=np.float64)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(TEXTS, min_size=1, max_size=30))
def test_few_and_many_agree(texts: list[str]) -> None:
    np.testing.assert_array_equal(count_in_few(texts), all_at_once(texts))
    np.testing.assert_array_equal(counted(texts[:1]), all_at_once(texts[:1]))


def test_few_and_many_agree_on_responses(arena: Arena) -> None:
    texts = arena.votes.pairs.responses.to_pylist()[:300]
    np.testing.assert_array_equal(count_in_few(texts), all_at_once(texts))


@settings(max_examples=8, deadline=None, derandomize=True)
@given(st.lists(st.one_of(TEXTS, TEXTS.map(lambda text: text.replace("s", "\u017f"))), min_size=1, max_size=20))
def test_all_at_once_is_what_the_patterns_count(texts: list[str]) -> None:
    np.testing.assert_array_equal(by_re2(texts), all_at_once(texts))


@pytest.mark.parametrize("letter", ["\u017f", "\u212a"])
def test_letters_that_only_re2_folds_are_left_to_it(letter: str) -> None:
    texts = [
        f"{letter}orry, I as{letter} whether this i{letter} o{letter}. I hope thi{letter}",
        f"{letter}nown: li{letter}e",
    ]
    np.testing.assert_array_equal(counted(texts), by_re2(texts))


def test_long_runs_at_the_starts_of_lines() -> None:
    texts = [
        f"{run * n}{end}" for run in (" ", "#", "1", "\t") for n in (1, 2, 6, 7, 70) for end in ("x", ". x", "- x", "")
    ]
    texts += [f"**{'A' * n}: x" for n in (1, 2, 40, 41, 42)]
    np.testing.assert_array_equal(count_in_few(texts), all_at_once(texts))


def test_every_pattern_is_found_somewhere_by_hand() -> None:
    names = [feature.name for feature in FEATURES]
    counts = dict(zip(names, count_in_few(["# Title\n- a, b, c\nI'm sorry."])[:, 0], strict=False))
    assert (counts["comma"], counts["heading"], counts["dash_bullet"], counts["apology"]) == (2, 1, 1, 1)
    assert counts["opens_with_heading"] == 1 and counts["ends_with_full_stop"] == 1 and counts["table_row"] == 0
