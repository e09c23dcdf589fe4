"""Counts lines by the marks that they begin with: headings, bullets, numbers, labels.

The patterns of `style_features.MARKUP` are the definition. All lines of many texts are looked at together, byte by byte
from their starts, in place of one pattern after the other.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from model_behavior.arrays import BoolArray, Float64Array, Int64Array, UInt8Array
from model_behavior.models.behavior.text.text_bytes import TextBytes

_MOST_HASHES = 6
_LONGEST_LABEL = 40
_BULLET = "\u2022".encode()


def _among(characters: str) -> BoolArray:
    marked = np.zeros(256, dtype=bool)
    marked[list(characters.encode())] = True
    return marked


_LETTER = _among("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_CAPITAL = _among("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_DIGIT = _among("0123456789")
_SPACE = _among("\t\f\r ")
_BLANK = _among(" ")
_HASH = _among("#")
_LABEL = _LETTER | _DIGIT | _among("_ ")


def count_line_marks(texts: TextBytes) -> dict[str, Float64Array]:
    """Number of lines of each text that match each pattern of `MARKUP` that is counted by lines, [n_texts] each."""
    line_starts, _ = texts.lines
    return {
        name: texts.number_in_texts(line_starts[np.flatnonzero(found)]).astype(np.float64)
        for name, found in _Lines(texts).marks().items()
    }


class _Lines:
    """The lines of texts: where each starts and ends, and its first byte beyond white space."""

    def __init__(self, texts: TextBytes) -> None:
        self._texts = texts
        self._data: UInt8Array = texts.data
        self._start, self._end = texts.lines
        self._first = self._start.copy()
        indented = np.flatnonzero(texts.is_space(self._start) & (self._start < self._end))
        self._first[indented] = np.minimum(texts.skip(self._start[indented], _SPACE), self._end[indented])

    def marks(self) -> Mapping[str, BoolArray]:
        """Whether each line matches each pattern, [n_lines] each."""
        first = self._first
        bracket = first + self._is(first, "(")
        digits = self._texts.skip(bracket, _DIGIT)
        numbered = digits > bracket
        plain = numbered & (bracket == first)
        item = self._after_item(digits, plain)
        return {
            "heading": self._is_heading(),
            "dash_bullet": self._is(first, "- "),
            "star_bullet": self._is(first, "* "),
            "dot_bullet": self._is(first, _BULLET),
            "numbered_dot": plain & self._is(digits, ". "),
            "numbered_bracket": numbered & self._is(digits, ") "),
            "lettered": _LETTER[self._data[bracket]] & (self._is(bracket + 1, ". ") | self._is(bracket + 1, ") ")),
            "bold_line_start": self._is(first, "**") | self._is(item, "**"),
            "label_line": self._is_label(first) | self._is_label(item),
            "indented_line": self._is_indented(),
            "blank_line": first == self._end,
            "table_row": self._is(self._start, "|"),
            "code_fence": self._is(first, "```"),
        }

    def _is(self, places: Int64Array, marks: str | bytes) -> BoolArray:
        """Whether the marks stand at each place; a line feed, which none has, ends every line."""
        found = np.ones(len(places), dtype=bool)
        for step, byte in enumerate(marks.encode() if isinstance(marks, str) else marks):
            found &= self._data[places + step] == byte
        return found

    def _after_item(self, digits: Int64Array, plain: BoolArray) -> Int64Array:
        """The place after "- ", "* " or a number, a full stop and a space; the first place of other lines."""
        bullet = self._is(self._first, "- ") | self._is(self._first, "* ")
        number = plain & self._is(digits, ". ")
        return np.where(bullet, self._first + 2, np.where(number, digits + 2, self._first))

    def _is_heading(self) -> BoolArray:
        text = self._texts.skip(self._start, _HASH)
        return (text > self._start) & (text <= self._start + _MOST_HASHES) & self._is(text, " ")

    def _is_label(self, places: Int64Array) -> BoolArray:
        """Whether a capital, words and a colon follow, in bold or not."""
        starred = self._is(places, "*")
        label = places + starred + (starred & self._is(places + 1, "*"))
        found = _CAPITAL[self._data[label]]
        rows = np.flatnonzero(found)
        colons = np.append(np.flatnonzero(self._data == ord(":")), len(self._data))
        after = label[rows] + 1
        near = colons[np.searchsorted(colons, after)] - after <= _LONGEST_LABEL
        found[rows[~near]] = False
        rows, after = rows[near], after[near]
        colon = self._texts.skip(after, _LABEL)
        found[rows] = (colon > after) & (colon <= after + _LONGEST_LABEL) & self._is(colon, ":")
        return found

    def _is_indented(self) -> BoolArray:
        first, start = self._first, self._start
        found = self._is(start, "\t") & (first == start + 1)
        rows = np.flatnonzero(self._is(start, "  "))
        found[rows] = self._texts.skip(start[rows], _BLANK) == first[rows]
        return np.asarray(found & (first < self._end))
