"""How many of a text's tokens are distinct, and how many another text has too; for many texts in one sort."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from model_behavior.models.behavior.tokens import Tokens, UIntArray

_N_OPENING_TOKENS = 5
_HASH_BITS = 64

FloatColumn = npt.NDArray[np.float64]


def distinct_share(tokens: Tokens) -> FloatColumn:
    """Distinct tokens of each text over all of them, 0 without any, [n_texts]."""
    return _count(_distinct(_keys(tokens)), tokens.n_texts) / np.maximum(_per_text(tokens), 1)


def overlap(prompts: Tokens, responses: Tokens) -> list[FloatColumn]:
    """Shares of distinct tokens that both texts of an index have, and of the response's first words, [n_texts] each.

    Returns:
        Of the response's tokens those in the prompt, of the prompt's those in the response, and of the first five
        tokens of the response those in the prompt.
    """
    n_texts = responses.n_texts
    prompt_set, response_set = _distinct(_keys(prompts)), _distinct(_keys(responses))
    first = _first(responses, _N_OPENING_TOKENS)
    return [
        _share_in(response_set, prompt_set, n_texts),
        _share_in(prompt_set, response_set, n_texts),
        _share_in(_keys(first), prompt_set, n_texts),
    ]


def _keys(tokens: Tokens) -> UIntArray:
    """The text in the high bits, and below it as much of the hash as has room: one sort puts texts side by side.

    With 1,024 texts 53 bits of the hash are left: two of a text's 1,000 tokens are confused once in 10**10 texts.
    """
    shift = np.uint64(_HASH_BITS - _text_bits(tokens.n_texts))
    return tokens.text.astype(np.uint64) << shift | tokens.hashes >> np.uint64(_text_bits(tokens.n_texts))


def _text_bits(n_texts: int) -> int:
    return max(int(n_texts).bit_length(), 1)


def _distinct(keys: UIntArray) -> UIntArray:
    """The keys once each, ascending."""
    ordered = np.sort(keys)
    new = np.ones(len(ordered), dtype=bool)
    new[1:] = ordered[1:] != ordered[:-1]
    return ordered[new]


def _count(keys: UIntArray, n_texts: int, found: npt.NDArray[np.bool_] | None = None) -> npt.NDArray[np.float64]:
    """Keys of each text, or those `found`, [n_texts]."""
    text = (keys >> np.uint64(_HASH_BITS - _text_bits(n_texts))).astype(np.int64)
    return np.bincount(text if found is None else text[found], minlength=n_texts).astype(np.float64)


def _per_text(tokens: Tokens) -> npt.NDArray[np.int64]:
    return np.bincount(tokens.text, minlength=tokens.n_texts)


def _first(tokens: Tokens, n: int) -> Tokens:
    starts = np.searchsorted(tokens.text, np.arange(tokens.n_texts))
    position = np.arange(len(tokens.text)) - starts[tokens.text]
    return Tokens(tokens.hashes[position < n], tokens.text[position < n], tokens.n_texts)


def _share_in(keys: UIntArray, others: UIntArray, n_texts: int) -> FloatColumn:
    """Share of each text's keys that are among the ascending `others`."""
    if not len(others):
        return np.zeros(n_texts)
    place = np.minimum(np.searchsorted(others, keys), len(others) - 1)
    return _count(keys, n_texts, others[place] == keys) / np.maximum(_count(keys, n_texts), 1)
