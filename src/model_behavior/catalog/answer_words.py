"""What a response says, in few bytes: its words, hashed and counted, and how it ends.

A row holds `N_WORDS` distinct words, then the last `N_ENDING` ones in their order, 0 where there are fewer. A word is
its hash of 26 bits and its count of 6. Of more words those with the smallest hashes are kept: the same ones in every
response, so that what two responses share is sampled evenly (min-wise hashing, Broder 1997,
https://doi.org/10.1109/SEQUEN.1997.666900). Digits count, unlike in the encoder's features: they may be the answer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from model_behavior.models.behavior.tokens import tokenize

N_WORDS, N_ENDING = 184, 8
WIDTH = N_WORDS + N_ENDING
_COUNT_BITS, _HASH_BITS = 6, 26

PackedWords = npt.NDArray[np.uint32]


def pack_words(responses: Sequence[str]) -> PackedWords:
    """One row per response, uint32, [n_responses, WIDTH]."""
    packed = np.zeros((len(responses), WIDTH), dtype=np.uint32)
    tokens = tokenize(responses, keep_digits=True)
    if not len(tokens.hashes):
        return packed
    # A word is never 0, which stands for none.
    words = np.maximum((tokens.hashes >> np.uint64(64 - _HASH_BITS)).astype(np.int64), 1)
    distinct, counts = np.unique(tokens.text << _HASH_BITS | words, return_counts=True)
    text, word = distinct >> _HASH_BITS, distinct & ((1 << _HASH_BITS) - 1)
    place = np.arange(len(text)) - np.searchsorted(text, text)
    kept = place < N_WORDS
    counts = np.minimum(counts, (1 << _COUNT_BITS) - 1)
    packed[text[kept], place[kept]] = (word << _COUNT_BITS | counts)[kept]
    from_end = np.searchsorted(tokens.text, tokens.text, side="right") - 1 - np.arange(len(words))
    last = from_end < N_ENDING
    packed[tokens.text[last], WIDTH - 1 - from_end[last]] = words[last] << _COUNT_BITS | 1
    return packed


def words_and_weights(packed: PackedWords) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.float64]]:
    """Hashes and 1 + log of the counts, each of the shape of `packed`; the weight is 0 where there is no word."""
    counts = (packed & np.uint32((1 << _COUNT_BITS) - 1)).astype(np.float64)
    weights: npt.NDArray[np.float64] = np.where(packed > 0, 1 + np.log(np.maximum(counts, 1)), 0)
    return packed >> np.uint32(_COUNT_BITS), weights
