"""Counts English words and phrases in many texts by one look at every word, in place of one pattern after the other.

A word is a run of ASCII letters, digits and "_", as \\b of RE2 has it. Every word is looked up once among all words
that any feature counts; a phrase is words with one character between two of them. The counts are those of the
patterns of `style_features`, which are the definition: matches do not overlap, and case is ignored. The two letters
beyond ASCII that RE2 takes for s and k are left to the caller.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from model_behavior.arrays import BoolArray, Float64Array, Int64Array, UInt8Array, UInt64Array
from model_behavior.models.behavior.text.style_features import (
    CONCLUSION,
    CONTRACTION,
    FEATURES,
    OTHER_FUNCTION_WORDS,
    StyleFeature,
)
from model_behavior.models.behavior.text.text_bytes import TextBytes
from model_behavior.models.behavior.text.tokens import mix

_CURLY = 0x80  # stands for the three bytes of a curly apostrophe; no character begins with this byte
_CURLY_BYTES = "\u2019".encode()
_ENDINGS = ("s", "re", "ve", "ll", "d", "m")
_NOT = "t"  # after an n
_NEGATED = b"nN"
_SHOUTED = "shouted_word"
_LEAST_SHOUTED = 3
_LOWER = np.uint64(0x2020202020202020)  # turns capitals into small letters, leaves digits, and keeps "_" apart
_SLOT_BITS = 16
_SLOT_SHIFT = np.uint64(64 - _SLOT_BITS)


@dataclass(frozen=True, eq=False)
class Words:
    """The words of texts, in order.

    Attributes:
        known: place of each word among those that are counted, their number for any other, [n_words].
        text: index of each word's text, [n_words].
        start: its first byte, [n_words].
        end: the byte after its last, [n_words].
        gap: the byte between it and the next word where only one stands there, 0x80 for a curly apostrophe, else 0,
            [n_words].
        opening: the words that begin a phrase, ascending, [n_opening].
        joined: bytes of the texts.
    """

    known: Int64Array
    text: Int64Array
    start: Int64Array
    end: Int64Array
    gap: UInt8Array
    opening: Int64Array
    joined: TextBytes


@dataclass(frozen=True, eq=False)
class _Phrase:
    """Words of the vocabulary, and the byte after each but the last."""

    words: tuple[int, ...]
    gaps: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class _Vocabulary:
    """All words that are counted.

    Attributes:
        keys: their keys and one more, [n_known + 1].
        factor: spreads keys over the table.
        table: the place of a key by the leading bits of its product with the factor, or `n_known`.
        place: place of each word.
        member: 1 where a word alone is a match of a feature, [n_known + 1, n_features].
        phrases: the phrases of each feature, and last those that conclude.
        opens: True for a word that a phrase begins with, [n_known + 1].
    """

    keys: UInt64Array
    factor: np.uint64
    table: Int64Array
    place: Mapping[str, int]
    member: Float64Array
    phrases: Sequence[Sequence[_Phrase]]
    opens: BoolArray

    @property
    def n_known(self) -> int:
        """Number of words."""
        return len(self.keys) - 1

    def look_up(self, keys: UInt64Array) -> Int64Array:
        """The place of each key, `n_known` for a word that is not counted, [n_keys]."""
        place = self.table[(keys * self.factor) >> _SLOT_SHIFT]
        return np.where(self.keys[place] == keys, place, self.n_known)


_COUNTED: tuple[StyleFeature, ...] = (
    *(feature for feature in FEATURES if feature.words and feature is not CONCLUSION),
    OTHER_FUNCTION_WORDS,
)


def count_words(texts: TextBytes) -> dict[str, Float64Array]:
    """Counts every feature that is made of words, by name, [n_texts] each; 1 or 0 for one of the whole text."""
    vocabulary = _vocabulary()
    words = split_words(texts)
    n_known = vocabulary.n_known
    place = words.text * (n_known + 1) + words.known
    found = np.bincount(place, minlength=texts.n_texts * (n_known + 1)).reshape(texts.n_texts, n_known + 1)
    counts = dict(zip((feature.name for feature in _COUNTED), (found @ vocabulary.member).T, strict=True))
    for feature, phrases in zip(_COUNTED, vocabulary.phrases[:-1], strict=True):
        if phrases:
            spans = [(_find(words, phrase), len(phrase.words)) for phrase in phrases]
            counts[feature.name] = counts[feature.name] + _count_apart(words, spans)
    counts[CONTRACTION.name] = _count_apart(words, [(_find_contractions(words), 2)])
    counts[CONCLUSION.name] = _conclude(words)
    counts[_SHOUTED] = _count_shouted(words)
    return counts


def split_words(texts: TextBytes) -> Words:
    """The words of the texts."""
    start, end = texts.words
    vocabulary = _vocabulary()
    known = vocabulary.look_up(_spell(texts.data, start, end))
    text = np.repeat(np.arange(texts.n_texts), texts.number_in_texts(start))
    opening = np.flatnonzero(vocabulary.opens[known])
    return Words(known, text, start, end, _gaps(texts.data, start, end), opening, texts)


def _spell(data: UInt8Array, start: Int64Array, end: Int64Array) -> UInt64Array:
    """A key of each word, from its first 16 letters in lower case and its length; words of at most 16 have their own.

    Bytes are read eight at a time: 16 bytes stand after the last word (`TextBytes`).
    """
    eights = np.ndarray((len(data) - 7,), dtype="<u8", buffer=data.data, strides=(1,))
    length = (end - start).astype(np.uint64)
    keys = length.copy()
    for step in (0, 8):
        n_letters = np.minimum(length - np.minimum(length, np.uint64(step)), np.uint64(8))
        unused = (np.uint64(8) - n_letters) * np.uint64(8)
        letters = (eights[start + step] | _LOWER) << np.minimum(unused, np.uint64(63))
        letters[n_letters == 0] = 0
        keys = mix(keys + letters)
    return keys


def _gaps(data: UInt8Array, start: Int64Array, end: Int64Array) -> UInt8Array:
    gap = np.zeros(len(start), dtype=np.uint8)  # a line feed between texts is in no phrase
    length = start[1:] - end[:-1]
    one, three = np.flatnonzero(length == 1), np.flatnonzero(length == len(_CURLY_BYTES))
    gap[one] = data[end[one]]
    curly = np.ones(len(three), dtype=bool)
    for place, byte in enumerate(_CURLY_BYTES):
        curly &= data[end[three] + place] == byte
    gap[three[curly]] = _CURLY
    return gap


@cache
def _vocabulary() -> _Vocabulary:
    parts = [[re.findall(r"[a-z]+|.", words) for words in feature.words] for feature in (*_COUNTED, CONCLUSION)]
    spelled = sorted({word for each in parts for words in each for word in words[::2]} | {*_ENDINGS, _NOT})
    place = {word: index for index, word in enumerate(spelled)}
    member = np.zeros((len(spelled) + 1, len(_COUNTED)))
    phrases: list[list[_Phrase]] = []
    for column, each in enumerate(parts[:-1]):
        alone = {words[0] for words in each if len(words) == 1}
        member[[place[word] for word in alone], column] = 1
        # A phrase that begins with a word which is a match by itself is never seen: the word is matched first.
        phrases.append([_as_phrase(words, place) for words in each if words[0] not in alone])
    phrases.append([_as_phrase(words, place) for words in parts[-1]])
    opens = np.zeros(len(spelled) + 1, dtype=bool)
    opens[[phrase.words[0] for each in phrases for phrase in each]] = True
    texts = TextBytes([" ".join(spelled)])
    return _Vocabulary(*_make_table(_spell(texts.data, *texts.words)), place, member, phrases, opens)


def _make_table(keys: UInt64Array) -> tuple[UInt64Array, np.uint64, Int64Array]:
    """The keys and 0, a factor by which the leading bits of all keys differ, and by these bits the place of a key."""
    factor = 1
    while True:
        slot = (keys * np.uint64(factor)) >> _SLOT_SHIFT
        if len(np.unique(slot)) == len(keys):
            break
        factor += 2
    table = np.full(1 << _SLOT_BITS, len(keys), dtype=np.int64)
    table[slot] = np.arange(len(keys))
    return np.append(keys, np.uint64(0)), np.uint64(factor), table


def _as_phrase(parts: Sequence[str], place: Mapping[str, int]) -> _Phrase:
    return _Phrase(tuple(place[word] for word in parts[::2]), tuple(map(ord, parts[1::2])))


def _find(words: Words, phrase: _Phrase) -> Int64Array:
    """Index of the first word of every occurrence, [n_found]."""
    first = words.opening[words.known[words.opening] == phrase.words[0]]
    for step, (gap, word) in enumerate(zip(phrase.gaps, phrase.words[1:], strict=True)):
        first = first[words.gap[first + step] == gap]  # no gap after the last word, so that there is a next one
        first = first[words.known[first + step + 1] == word]
    return np.asarray(first)


def _find_contractions(words: Words) -> Int64Array:
    place = _vocabulary().place
    first = np.flatnonzero((words.gap == ord("'")) | (words.gap == _CURLY))
    after = words.known[first + 1]
    plain = np.isin(after, [place[ending] for ending in _ENDINGS])
    last = words.joined.data[words.end[first] - 1]
    negated = (after == place[_NOT]) & np.isin(last, list(_NEGATED)) & (words.end[first] - words.start[first] > 1)
    return np.asarray(first[plain | negated])


def _count_apart(words: Words, spans: Sequence[tuple[Int64Array, int]]) -> Float64Array:
    """Number of matches in each text, where matches are taken from left to right and none overlaps another."""
    start = np.concatenate([first for first, _ in spans])
    end = np.concatenate([first + length for first, length in spans])
    order = np.argsort(start, kind="stable")
    start, end = start[order], end[order]
    if (start[1:] < end[:-1]).any():
        kept, free = [], 0
        for index, (begin, stop) in enumerate(zip(start.tolist(), end.tolist(), strict=True)):
            if begin >= free:
                kept.append(index)
                free = stop
        start = start[kept]
    return np.bincount(words.text[start], minlength=words.joined.n_texts).astype(np.float64)


def _conclude(words: Words) -> Float64Array:
    """1 for each text with a concluding phrase before which its line has no word."""
    first = np.concatenate([_find(words, phrase) for phrase in _vocabulary().phrases[-1]])
    line = np.searchsorted(words.joined.lines[0], words.start[first], "right")
    before = np.searchsorted(words.joined.lines[0], words.start[first - 1], "right")
    found = np.zeros(words.joined.n_texts)
    found[words.text[first[(first == 0) | (line != before)]]] = 1
    return found


def _count_shouted(words: Words) -> Float64Array:
    """Number of words of three or more capitals in each text."""
    data = words.joined.data
    capital = np.flatnonzero(words.end - words.start >= _LEAST_SHOUTED)
    for step in range(_LEAST_SHOUTED):
        letter = data[words.start[capital] + step]
        capital = capital[(letter >= ord("A")) & (letter <= ord("Z"))]
    shouted = [
        index
        for index, start, end in zip(
            capital.tolist(), words.start[capital].tolist(), words.end[capital].tolist(), strict=True
        )
        if data[start:end].tobytes().isalpha() and data[start:end].tobytes().isupper()
    ]
    return np.bincount(words.text[shouted], minlength=words.joined.n_texts).astype(np.float64)
