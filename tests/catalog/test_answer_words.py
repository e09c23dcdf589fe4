"""Words of a response as one row of numbers."""

import re
from collections import Counter

import numpy as np

from model_behavior.catalog.samples import N_ENDING, N_WORDS, WIDTH, pack_words, words_and_weights
from model_behavior.data.canonical_text import canonical_response

TEXTS = ["The cat saw the other cat. It saw 7 of 8 cats!", "So: 8", "", "  \n", "a a a"]


def hash_of(word: str) -> int:
    return int(words_and_weights(pack_words([word]))[0][0, 0])


def test_words_and_counts_are_those_of_a_loop() -> None:
    words, weights = words_and_weights(pack_words(TEXTS))
    for text, found, weight in zip(TEXTS, words, weights, strict=True):
        counts = Counter(hash_of(token) for token in re.findall(r"\w+|[^\w ]", canonical_response(text).lower()))
        held = {int(word): w for word, w in zip(found[:N_WORDS], weight[:N_WORDS], strict=True) if w}
        assert held.keys() == counts.keys()
        for word, count in counts.items():
            assert np.isclose(held[word], 1 + np.log(count))


def test_the_ending_is_the_last_words_in_order() -> None:
    words, weights = words_and_weights(pack_words(TEXTS))
    for text, found, weight in zip(TEXTS, words, weights, strict=True):
        last = [hash_of(token) for token in re.findall(r"\w+|[^\w ]", canonical_response(text).lower())][-N_ENDING:]
        assert found[N_WORDS:].tolist() == [0] * (N_ENDING - len(last)) + last
        assert weight[N_WORDS:].tolist() == [0.0] * (N_ENDING - len(last)) + [1.0] * len(last)


def test_of_many_words_the_same_ones_are_kept_in_every_response() -> None:
    many = [f"w{index}" for index in range(1000)]
    rng = np.random.default_rng(0)
    one, other = (" ".join(rng.permutation(many)) for _ in range(2))
    packed = pack_words([one, other])
    assert packed.shape == (2, WIDTH) and packed.dtype == np.uint32
    assert np.array_equal(packed[0, :N_WORDS], packed[1, :N_WORDS])
    kept = words_and_weights(packed)[0][0, :N_WORDS].tolist()
    assert kept == sorted(hash_of(word) for word in many)[:N_WORDS]


def test_digits_are_told_apart_and_counts_are_bounded() -> None:
    assert hash_of("7") != hash_of("8")
    assert words_and_weights(pack_words(["x " * 5000]))[1].max() == 1 + np.log(63)
