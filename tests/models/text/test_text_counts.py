"""Counts over whole columns against plain loops over single texts."""

from __future__ import annotations

import re

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from model_behavior.models.behavior.text.style import StyleEncoder, compare_tokens, distinct_share
from model_behavior.models.behavior.text.style_features import FEATURES
from model_behavior.models.behavior.text.text_bytes import TextBytes, count_bytes, longest_lines
from model_behavior.models.behavior.text.tokens import tokenize

TEXTS = st.lists(st.text("abAB_09 .,!?\n\t\r\x0b\0é漢😀", max_size=60), min_size=1, max_size=6)


@settings(max_examples=150, deadline=None)
@given(TEXTS)
def test_bytes_words_and_sentences(texts: list[str]) -> None:
    joined = TextBytes(texts)
    counts, longest = count_bytes(joined), longest_lines(joined)
    for row, text in enumerate(texts):
        raw = text.encode()
        assert counts.bytes[row].tolist() == [raw.count(bytes([byte])) for byte in range(256)]
        assert counts.characters[row] == len(text)
        assert counts.words[row] == len(re.findall(r"[0-9A-Za-z_]+", text))
        assert longest[row] == max(map(len, text.split("\n")))
        assert counts.sentences[row] == len(re.findall(r"[.!?](?=[\t\n\f\r ]|\Z)", text))


@settings(max_examples=150, deadline=None)
@given(TEXTS)
def test_shares_of_token_sets(texts: list[str]) -> None:
    prompts = list(reversed(texts))
    shares = distinct_share(tokenize(texts))
    of_response, of_prompt, of_opening, of_all = compare_tokens(tokenize(prompts), tokenize(texts))
    np.testing.assert_array_equal(of_all, shares)
    for row, (prompt, text) in enumerate(zip(prompts, texts, strict=True)):
        asked, told = tokenize([prompt]).hashes.tolist(), tokenize([text]).hashes.tolist()
        assert shares[row] == (len(set(told)) / len(told) if told else 0)
        common = len(set(asked) & set(told))
        assert of_response[row] == (common / len(set(told)) if told else 0)
        assert of_prompt[row] == (common / len(set(asked)) if asked else 0)
        opening = told[:5]
        assert of_opening[row] == (sum(token in asked for token in opening) / len(opening) if opening else 0)


def test_an_offer_ends_the_last_line() -> None:
    reach = 160
    texts = [
        "Let me know" + "x" * reach,
        "Let me know" + "x" * (reach + 1),
        "enjoy\nx",
        "ENJOY \n\n",
        "enjoy, " + "y" * 300 + " good luck!",
        "nothing",
        "",
    ]
    column = StyleEncoder.feature_names.index("ends_with_offer")
    found = StyleEncoder().encode([""] * len(texts), texts, batch_size=4)[:, column]
    assert found.tolist() == [1, 0, 0, 1, 1, 0, 0]


def test_bytes_stand_for_their_pattern() -> None:
    text = "".join(map(chr, range(0x250))) + "漢字😀"
    for feature in FEATURES:
        if feature.bytes is not None:
            pattern = re.escape(feature.pattern) if feature.literal else feature.pattern
            counts = count_bytes(TextBytes([text])).bytes[0]
            assert counts[list(feature.bytes)].sum() == len(re.findall(pattern, text)), feature.name
    assert np.count_nonzero([feature.bytes is not None for feature in FEATURES]) == 22
