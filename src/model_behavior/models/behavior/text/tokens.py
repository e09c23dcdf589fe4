"""Tokenizes many texts at once into 64-bit hashes, without a Python loop per character.

A token is a word, or one punctuation mark, or one line break; `scripts` finds the words of text without spaces.
Letters are lower-cased. Every digit counts as 0 unless digits are kept, so that a token shows how a number is written,
not which number it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

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
_CAPITALS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_TO_LOWER = bytes.maketrans(_CAPITALS, _CAPITALS.lower())
_TO_LOWER_AND_ZERO = bytes.maketrans(_CAPITALS + b"123456789", _CAPITALS.lower() + b"000000000")
_BYTE_CODES = np.random.default_rng(20_240_601).integers(1, 2**63, size=256, dtype=np.uint64)
_TOKEN_CODES = np.where(_CLASSES == _SPACE, 0, _BYTE_CODES).astype(np.uint64)
_MULTIPLIER = 0x9E3779B97F4A7C15
_INVERSE = pow(_MULTIPLIER, -1, 2**64)
_N_KEPT_POWERS = 1 << 18


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
    joined = "\0".join(map(_lower_non_ascii, texts)) + "\0" if texts else ""
    raw = joined.encode("utf-8", "replace")
    return np.frombuffer(raw.translate(_TO_LOWER if keep_digits else _TO_LOWER_AND_ZERO), dtype=np.uint8)


def _lower_non_ascii(text: str) -> str:
    """The text without NUL, in lower case where it is not ASCII; bytes of ASCII are lowered all at once."""
    text = text.replace("\0", " ")
    return text if text.isascii() else text.lower()


def tokenize(texts: Sequence[str], keep_digits: bool = False) -> Tokens:
    """Splits texts into hashed tokens; an empty text has none. `keep_digits` keeps different digits apart."""
    return tokenize_parted(list(map(part_words, texts)), keep_digits)


def tokenize_parted(texts: Sequence[str], keep_digits: bool = False) -> Tokens:
    """`tokenize` for texts in which words and marks are apart (`part_words`)."""
    data = joined_bytes(texts, keep_digits)
    classes = np.frombuffer(data.tobytes().translate(_CLASSES.tobytes()), dtype=np.uint8)
    is_word = classes == _WORD
    starts = is_word.copy()
    starts[1:] &= ~is_word[:-1]
    starts |= classes == _SINGLE
    first_byte = np.flatnonzero(starts)
    if not len(first_byte):
        return Tokens(np.empty(0, np.uint64), np.empty(0, np.int64), len(texts))
    n_tokens = np.diff(np.searchsorted(first_byte, np.flatnonzero(data == _END_OF_TEXT)), prepend=0)
    return Tokens(_hash(_TOKEN_CODES.take(data), first_byte), np.repeat(np.arange(len(texts)), n_tokens), len(texts))


def _hash(codes: UIntArray, starts: Int64Array) -> UIntArray:
    """Polynomial hash: sum of code times multiplier**position, then shifted to positions from the run's start."""
    sums = np.cumsum(codes * _powers(_MULTIPLIER, len(codes)))  # modulo 2**64, as are their differences
    before = np.where(starts > 0, sums[starts - 1], np.uint64(0))
    after = np.append(before[1:], sums[-1])
    return mix((after - before) * _powers(_INVERSE, len(codes))[starts])


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
    return _kept_powers(base)[:n] if n <= _N_KEPT_POWERS else _raise(base, n)


@cache
def _kept_powers(base: int) -> UIntArray:
    return _raise(base, _N_KEPT_POWERS)


def _raise(base: int, n: int) -> UIntArray:
    factors = np.full(n, base, dtype=np.uint64)
    factors[:1] = 1
    return np.multiply.accumulate(factors)


def mix(hashes: UIntArray) -> UIntArray:
    """Spreads the bits of 64-bit integers (the finalizer of SplitMix64, Steele et al. 2014)."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hashes ^ (hashes >> np.uint64(31))
