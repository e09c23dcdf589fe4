"""Counts over the UTF-8 bytes of many texts at once, without a Python loop per text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from model_behavior.arrays import BoolArray, Int64Array, UInt8Array

_N_BYTES = 256
_CONTINUATION = slice(0x80, 0xC0)
_LINE_FEED = ord("\n")
_WORD, _SPACE, _STOP, _AFTER_FIRST = (1 << bit for bit in range(4))
_LOOK_AHEAD = 16
_MANY_STEPS = 64


def _make_kinds() -> bytes:
    kinds = np.zeros(_N_BYTES, dtype=np.uint8)
    kinds[list(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")] |= _WORD  # \w of RE2
    kinds[list(b"\t\n\f\r ")] |= _SPACE  # \s of RE2
    kinds[list(b".!?")] |= _STOP
    kinds[_CONTINUATION] |= _AFTER_FIRST
    return kinds.tobytes()


_KINDS = _make_kinds()


class TextBytes:
    """The bytes of texts, end to end, each text followed by a line feed.

    Attributes:
        data: UTF-8 bytes, and 16 bytes of 0 after the last text, [n_bytes + 16].
        starts: first byte of each text, and the number of bytes, [n_texts + 1].
    """

    def __init__(self, texts: Sequence[str]) -> None:
        encoded = [text.encode() for text in texts]
        raw = b"\n".join([*encoded, bytes(_LOOK_AHEAD)])
        self.data: UInt8Array = np.frombuffer(raw, dtype=np.uint8)
        self.starts: Int64Array = np.zeros(len(texts) + 1, dtype=np.int64)
        np.cumsum([len(each) + 1 for each in encoded], out=self.starts[1:])
        self._kinds: UInt8Array = np.frombuffer(raw.translate(_KINDS), dtype=np.uint8)

    @property
    def n_texts(self) -> int:
        """Number of texts."""
        return len(self.starts) - 1

    @cached_property
    def words(self) -> tuple[Int64Array, Int64Array]:
        """Where words, matches of \\w+, start, and the places after their last bytes, ascending, [n_words] each."""
        word = (self._kinds & _WORD).view(bool)
        edge = word.copy()
        edge[1:] ^= word[:-1]
        edges = np.flatnonzero(edge)
        return edges[::2], edges[1::2]

    @cached_property
    def lines(self) -> tuple[Int64Array, Int64Array]:
        """Where lines start and end, the end being their line feed, ascending, [n_lines] each."""
        ends = np.flatnonzero(self.data == _LINE_FEED)
        return np.concatenate([np.zeros(min(1, len(ends)), np.int64), ends[:-1] + 1]), ends

    @cached_property
    def stops(self) -> Int64Array:
        """Places of the marks . ! ? ascending."""
        return np.flatnonzero(self._kinds & _STOP > 0)

    def is_space(self, places: Int64Array) -> BoolArray:
        """Whether white space is at each of the places."""
        return np.asarray((self._kinds[places] & _SPACE) > 0)

    def skip(self, places: Int64Array, skipped: BoolArray) -> Int64Array:
        """The first place from each one on whose byte is not skipped, [n_places].

        Args:
            places: [n_places].
            skipped: whether each byte is; 0 is not, [256].
        """
        after = places.copy()
        left = np.flatnonzero(skipped[self.data[places]])
        for _ in range(_MANY_STEPS):
            if not len(left):
                return after
            after[left] += 1
            left = left[skipped[self.data[after[left]]]]
        others = np.flatnonzero(~skipped[self.data])
        after[left] = others[np.searchsorted(others, after[left])]
        return after

    def number_in_texts(self, places: Int64Array) -> Int64Array:
        """How many of the ascending places lie in each text, [n_texts]."""
        numbers: Int64Array = np.diff(np.searchsorted(places, self.starts)).astype(np.int64)
        return numbers

    def characters_before(self, places: Int64Array) -> Int64Array:
        """Number of code points before each place, [n_places]."""
        numbers: Int64Array = places - np.searchsorted(self._continuations, places)
        return numbers

    @cached_property
    def _continuations(self) -> Int64Array:
        return np.flatnonzero(self._kinds & _AFTER_FIRST > 0)


@dataclass(frozen=True, eq=False)
class ByteCounts:
    """Counts over the UTF-8 bytes of texts.

    Attributes:
        bytes: count of each byte in each text, [n_texts, 256].
        words: number of runs of ASCII letters, digits and "_" in each text, matches of \\w+, [n_texts].
        sentences: number of marks . ! ? before white space or the end of the text, [n_texts].
    """

    bytes: Int64Array
    words: Int64Array
    sentences: Int64Array

    @property
    def characters(self) -> Int64Array:
        """Number of code points of each text, [n_texts]: all bytes except UTF-8 continuation bytes."""
        counts: Int64Array = self.bytes.sum(axis=1) - self.bytes[:, _CONTINUATION].sum(axis=1)
        return counts

    def having(self, characters: str) -> BoolArray:
        """Whether each text has a byte with which one of the characters begins, [n_texts]."""
        first = sorted({character.encode()[0] for character in characters})
        return np.asarray(self.bytes[:, first].sum(axis=1) > 0)


def count_bytes(texts: TextBytes) -> ByteCounts:
    """Counts the bytes of each text, its words and its sentences."""
    n_bytes = int(texts.starts[-1])
    place = np.repeat(np.arange(texts.n_texts) * _N_BYTES, np.diff(texts.starts))
    place += texts.data[:n_bytes]
    counts = np.bincount(place, minlength=texts.n_texts * _N_BYTES).reshape(-1, _N_BYTES)
    counts[:, _LINE_FEED] -= 1
    ends = texts.stops[texts.is_space(texts.stops + 1)]
    return ByteCounts(counts, texts.number_in_texts(texts.words[0]), texts.number_in_texts(ends))


def longest_lines(texts: TextBytes) -> Int64Array:
    """Number of code points of the longest line of each text, [n_texts]."""
    starts, ends = texts.lines
    lengths = texts.characters_before(ends) - texts.characters_before(starts)
    if not len(lengths):
        return lengths
    longest: Int64Array = np.maximum.reduceat(lengths, np.searchsorted(starts, texts.starts[:-1]))
    return longest
