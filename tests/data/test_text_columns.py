"""Columns of text beside plain lists of the same."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from model_behavior.data.text_columns import LazyTexts, TextColumnBuilder, is_blank, take_texts, text_ids

TEXTS = st.lists(st.sampled_from(["", " ", "\u2003\n", "a", "A", "aé", "日本", "a b"]), max_size=12)


@given(TEXTS)
def test_columns_are_lists(texts: list[str]) -> None:
    builder = TextColumnBuilder()
    for text in texts:
        builder.append(text.encode())
    column = builder.finish()
    column.validate(full=True)
    assert column.equals(pa.array(texts, pa.large_string()))
    assert list(LazyTexts(column)) == texts
    assert LazyTexts(column)[1:3] == texts[1:3]
    assert is_blank(column).tolist() == [not text.strip() for text in texts]
    first = list(dict.fromkeys(texts))
    assert text_ids(column).tolist() == [first.index(text) for text in texts]


def test_an_index_chooses_and_repeats() -> None:
    column = pa.array(["a", "b", "c"], pa.large_string())
    texts = LazyTexts(column, np.array([2, 0, 2]))
    assert (len(texts), list(texts), texts[1], texts[1:]) == (3, ["c", "a", "c"], "a", ["a", "c"])


def test_all_texts_are_taken_without_a_copy() -> None:
    column = pa.array(["a", "b"], pa.large_string())
    assert take_texts(column, np.array([0, 1])) is column
    assert take_texts(column, np.array([1])).to_pylist() == ["b"]
