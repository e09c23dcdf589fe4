"""Tokenizes many texts at once into 64-bit hashes, without a Python loop per character.

A token is a word, or one punctuation mark, or one line break; `scripts` finds the words of text without spaces.
Letters are lower-cased. Every digit counts as 0 unless digits are kept, so that a token shows how a number is written,
not which number it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model_behavior.arrays import Int64Array, UInt8Array, UInt64Array
from model_behavior.models.behavior.text.scripts import part_words

UIntArray = UInt64Array

_WORD, _SPACE, _SINGLE = 0, 1, 2
_END_OF_TEXT = 0  # NUL, the separator of texts in the joined buffer


def _byte_classes() -> UInt8Array:
    classes = np.full(256, _SINGLE, dtype=np.uint8)
    classes[0x80:] = _WORD
    for byte in b"abcdefghijklmnopqrstuvwxyz0123456789":
        classes[byte] = _WORD
    for byte in b" \t\r\x0b\x0c\x00":
        classes[byte] = _SPACE
    return classes


_CLASSES = _byte_classes()
_DIGITS_TO_ZERO = bytes.maketrans(b"123456789", b"000000000")
_BYTE_CODES = np.random.default_rng(20_240_601).integers(1, 2**63, size=256, dtype=np.uint64)
_TOKEN_CODES = np.where(_CLASSES == _SPACE, 0, _BYTE_CODES).astype(np.uint64)
_MULTIPLIER = 0x9E3779B97F4A7C15
_INVERSE = pow(_MULTIPLIER, -1, 2**64)


@dataclass(frozen=True, eq=False)
class Tokens:
    """Tokens of a list of texts, in order.

    Attributes:
        hashes: hash of each token, [n_tokens].
        text: index of each token's text, ascending, [n_tokens].
        n_texts: number of texts.
    """

    hashes: UIntArray
    text: Int64Array
    n_texts: int


def joined_bytes(texts: Sequence[str], keep_digits: bool = False) -> UInt8Array:
    """The lower-cased UTF-8 bytes of the texts, each followed by one NUL byte; every digit is a 0 unless kept."""
    # NUL separates texts, so one inside a text becomes a space first.
    joined = "\0".join(text.replace("\0", " ") for text in texts) + "\0" if texts else ""
    raw = joined.lower().encode("utf-8", "replace")
    raw = raw if keep_digits else raw.translate(_DIGITS_TO_ZERO)
    return np.frombuffer(raw, dtype=np.uint8)


def tokenize(texts: Sequence[str], keep_digits: bool = False) -> Tokens:
    """Splits texts into hashed tokens; an empty text has none. `keep_digits` keeps different digits apart."""
    data = joined_bytes(list(map(part_words, texts)), keep_digits)
    is_word = _CLASSES[data] == _WORD
    starts = is_word.copy()
    starts[1:] &= ~is_word[:-1]
    starts |= _CLASSES[data] == _SINGLE
    first_byte = np.flatnonzero(starts)
    if not len(first_byte):
        return Tokens(np.empty(0, np.uint64), np.empty(0, np.int64), len(texts))
    # Polynomial hash: sum of code times multiplier**position, then shifted to positions from the token's start.
    codes = _TOKEN_CODES[data] * _powers(_MULTIPLIER, len(data))
    hashes = np.add.reduceat(codes, first_byte) * _powers(_INVERSE, len(data))[first_byte]
    n_tokens = np.diff(np.searchsorted(first_byte, np.flatnonzero(data == _END_OF_TEXT)), prepend=0)
    return Tokens(mix(hashes), np.repeat(np.arange(len(texts)), n_tokens), len(texts))


def char_ngrams(texts: Sequence[str], size: int) -> Tokens:
    """Every run of `size` bytes inside a text, hashed. White space counts."""
    data = joined_bytes(texts)
    n_grams = max(len(data) - size + 1, 0)
    codes, powers = _BYTE_CODES[data], _powers(_MULTIPLIER, size)
    hashes = np.zeros(n_grams, dtype=np.uint64)
    for position in range(size):
        hashes += codes[position : position + n_grams] * powers[position]
    ends = np.flatnonzero(data == _END_OF_TEXT)
    first_byte = np.arange(n_grams)
    text = np.searchsorted(ends, first_byte)
    whole = first_byte + size <= ends[text] if n_grams else np.zeros(0, dtype=bool)
    return Tokens(mix(hashes[whole] + np.uint64(size)), text[whole].astype(np.int64), len(texts))


def word_ngrams(tokens: Tokens, size: int) -> Tokens:
    """Every run of `size` tokens inside a text, hashed; `size` 1 gives the tokens themselves."""
    n_grams = max(len(tokens.hashes) - size + 1, 0)
    hashes = np.zeros(n_grams, dtype=np.uint64)
    for position in range(size):
        hashes = mix(hashes * np.uint64(_MULTIPLIER) + tokens.hashes[position : position + n_grams])
    whole = tokens.text[:n_grams] == tokens.text[size - 1 : size - 1 + n_grams]
    return Tokens(hashes[whole], tokens.text[:n_grams][whole], tokens.n_texts)


def _powers(base: int, n: int) -> UIntArray:
    """`base` to the power of 0 up to n - 1, modulo 2**64."""
    factors = np.full(n, base, dtype=np.uint64)
    factors[:1] = 1
    return np.multiply.accumulate(factors)


def mix(hashes: UIntArray) -> UIntArray:
    """Spreads the bits of 64-bit integers (the finalizer of SplitMix64, Steele et al. 2014)."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hashes ^ (hashes >> np.uint64(31))
