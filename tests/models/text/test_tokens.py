from __future__ import annotations

import re
from collections.abc import Hashable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_behavior.models.behavior.text.scripts import part_words
from model_behavior.models.behavior.text.tokens import Tokens, char_ngrams, joined_bytes, tokenize, word_ngrams

# Punctuation, digits, capitals, every white space, letters that change their length or bytes in lower case.
ALPHABET = "abAB19 .,-\n\t\r\x0b\x0c\x00\x1c\x7fßİKΣσé漢字😀\u00a0\u0300"
TEXTS = st.lists(st.one_of(st.text(ALPHABET, max_size=20), st.text(max_size=12)), max_size=6)


def normalised(text: str) -> str:
    lowered = text.replace("\0", " ").lower().encode("utf-8", "replace").decode("utf-8")
    return re.sub("[1-9]", "0", lowered)


def tokens_of(text: str) -> list[str]:
    return re.findall("[a-z0\u0080-\U0010ffff]+|[^ \t\r\x0b\x0c]", normalised(part_words(text)))


def byte_grams_of(text: str, size: int) -> list[bytes]:
    raw = normalised(text).encode()
    return [raw[start : start + size] for start in range(len(raw)) if start + size <= len(raw)]


def token_grams_of(text: str, size: int) -> list[tuple[str, ...]]:
    words = tokens_of(text)
    return [tuple(words[start : start + size]) for start in range(len(words)) if start + size <= len(words)]


def assert_hashes(tokens: Tokens, expected: Sequence[Sequence[Hashable]]) -> None:
    """The same items in the same order and texts; equal items have equal hashes, different ones different hashes."""
    items = [item for text in expected for item in text]
    assert tokens.text.tolist() == [index for index, text in enumerate(expected) for _ in text]
    assert tokens.n_texts == len(expected)
    assert len(tokens.hashes) == len(items)
    assert tokens.hashes.dtype == np.uint64
    assert tokens.text.dtype == np.int64
    hashes = tokens.hashes.tolist()
    assert len(set(zip(items, hashes, strict=True))) == len(set(items)) == len(set(hashes))


@settings(max_examples=300, deadline=None)
@given(TEXTS)
def test_tokens_are_those_of_the_regular_expression(texts: list[str]) -> None:
    assert_hashes(tokenize(texts), [tokens_of(text) for text in texts])


@settings(max_examples=150, deadline=None)
@given(TEXTS, st.integers(1, 5))
def test_char_ngrams_are_the_byte_runs_inside_each_text(texts: list[str], size: int) -> None:
    assert_hashes(char_ngrams(texts, size), [byte_grams_of(text, size) for text in texts])


@settings(max_examples=150, deadline=None)
@given(TEXTS, st.integers(1, 4))
def test_word_ngrams_are_the_token_runs_inside_each_text(texts: list[str], size: int) -> None:
    assert_hashes(word_ngrams(tokenize(texts), size), [token_grams_of(text, size) for text in texts])


@settings(max_examples=150, deadline=None)
@given(TEXTS)
def test_a_text_has_the_same_hashes_alone_and_in_a_batch(texts: list[str]) -> None:
    together = (tokenize(texts), char_ngrams(texts, 3), word_ngrams(tokenize(texts), 2))
    for index, text in enumerate(texts):
        alone = (tokenize([text]), char_ngrams([text], 3), word_ngrams(tokenize([text]), 2))
        for batch, single in zip(together, alone, strict=True):
            assert batch.hashes[batch.text == index].tolist() == single.hashes.tolist()


def test_words_marks_and_line_breaks_by_hand() -> None:
    tokens = tokenize(["Hi, hi!\n\n  42 7up"])
    hi, comma, hi_again, mark, break_, break_again, number, word = tokens.hashes.tolist()
    assert hi == hi_again
    assert break_ == break_again
    assert len({hi, comma, mark, break_, number, word}) == 6


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("CAFÉ", "café", id="case"),
        pytest.param("route 66", "route 10", id="digits"),
        pytest.param("a\0b", "a b", id="NUL is a space"),
        pytest.param("a \t\r\x0b\x0cb", "a b", id="white space"),
        pytest.param("a\ud800b", "a?b", id="lone surrogate"),
        pytest.param(" a ", "a", id="white space around"),
    ],
)
def test_these_are_written_alike(one: str, other: str) -> None:
    assert tokenize([one]).hashes.tolist() == tokenize([other]).hashes.tolist()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("ab", "ba", id="letter order"),
        pytest.param("1", "10", id="number of digits"),
        pytest.param("a b", "ab", id="a space splits"),
        pytest.param("a\nb", "a b", id="a line break counts"),
        pytest.param("a\u00a0b", "a b", id="non-ASCII space is a letter"),
        pytest.param("a" * 256, "a" * 257, id="one letter over 256"),
        pytest.param("a" * 256 + "b" * 256, "b" * 256 + "a" * 256, id="blocks of 256 swapped"),
        pytest.param("x" * 300 + "ab", "x" * 300 + "ba", id="swapped after 256"),
    ],
)
def test_these_are_written_differently(one: str, other: str) -> None:
    assert tokenize([one]).hashes.tolist() != tokenize([other]).hashes.tolist()


def test_a_long_token_is_one_token() -> None:
    assert len(tokenize(["я" * 5000]).hashes) == 1
    assert_hashes(tokenize(["a" * 1000, "b", "a" * 1000]), [["a"], ["b"], ["a"]])


def test_a_char_ngram_may_be_longer_than_any_token() -> None:
    text = "ab" * 400
    assert_hashes(char_ngrams([text, "short"], 300), [byte_grams_of(text, 300), []])


@pytest.mark.parametrize("texts", [[], [""], ["", " \t", "\0"]])
def test_texts_without_tokens(texts: list[str]) -> None:
    assert_hashes(tokenize(texts), [[] for _ in texts])
    assert_hashes(word_ngrams(tokenize(texts), 3), [[] for _ in texts])
    assert_hashes(char_ngrams(texts, 4), [[] for _ in texts])


def test_ngrams_of_different_sizes_share_no_hash() -> None:
    texts = ["a a a a b a b a b a"]
    by_chars = [set(char_ngrams(texts, size).hashes.tolist()) for size in (1, 2, 3)]
    by_words = [set(word_ngrams(tokenize(texts), size).hashes.tolist()) for size in (1, 2, 3)]
    assert len(set.union(*by_chars)) == sum(map(len, by_chars))
    assert len(set.union(*by_words)) == sum(map(len, by_words))


def test_ngrams_of_neighbouring_texts_stay_apart() -> None:
    assert_hashes(word_ngrams(tokenize(["a b", "c d"]), 2), [["a b"], ["c d"]])
    assert_hashes(char_ngrams(["ab", "", "cd"], 2), [["ab"], [], ["cd"]])


def test_joined_bytes_end_every_text_with_nul() -> None:
    assert joined_bytes(["A1", "", "b\0"]).tobytes() == b"a0\0\0b \0"
    assert joined_bytes([]).tobytes() == b""


def test_hashes_never_change() -> None:
    """Saved encoders name their columns by these, so another value would make every one of them wrong."""
    assert tokenize(["Hello, World 42\n"]).hashes.tolist() == [
        5149982609045489677,
        620898624389610356,
        12356159226109991894,
        16592502339649428421,
        7156879930901390938,
    ]
    assert char_ngrams(["abc"], 3).hashes.tolist() == [9063664699422171646]
    assert word_ngrams(tokenize(["a b"]), 2).hashes.tolist() == [8105504271026371365]
