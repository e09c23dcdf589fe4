"""Words, sentences and punctuation in every script.

Words of scripts that are written without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese) are found by ICU, with
its dictionaries (https://unicode-org.github.io/icu/userguide/boundaryanalysis/). All other text has its words between
spaces and marks. ASCII texts, which have neither such scripts nor such marks, cost nothing here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from icu4py.breakers import WordBreaker

from model_behavior.arrays import BoolArray, Int64Array, UInt8Array, UInt32Array
from model_behavior.data.byte_streams import replace_surrogates

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fff\u3005-\u3007\u3021-\u3029\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_HAS_UNSPACED = re.compile(f"[{_UNSPACED}]")
_LEAST_NON_ASCII = 0x80


_MOST_CODES = 0x40000  # no letter, mark or emoji lies beyond, nor a script without spaces
_UNSPACED_ENDS = "\u3002\uff01\uff1f\uff61\u0964\u0965\u061f\u06d4\u1362\u17d4\u104b"
_FULL_WIDTH = "\uff01-\uff0f\uff1a-\uff20\u3001\u3002\u300c-\u300f"
_THAI_LAO = "\u0e00-\u0eff"
_STOPS, _SPACES = ".!?", "\t\n\f\r "
_WORD, _MARK, _SPOT, _WIDE, _THAI, _STOP, _SPACE, _BLANK = (1 << bit for bit in range(8))
_CODES = "utf-32-le"

_ASCII_MARKS = {
    ",": "\uff0c\u3001\u060c\ufe50\uff64\u1363\u055d",
    ".": "\u3002\uff0e\u0964\u0965\u06d4\uff61\u1362\u17d4\u104b",
    "!": "\uff01\u00a1",
    "?": "\uff1f\u061f\u00bf",
    ":": "\uff1a\u1366",
    ";": "\uff1b\u061b\u1364",
    "(": "\uff08",
    ")": "\uff09",
    '"': "\u300c\u300d\u300e\u300f\u00ab\u00bb\u2039\u203a",
    "[": "\uff3b\u3010",
    "]": "\uff3d\u3011",
    "/": "\uff0f",
    "|": "\uff5c",
    "=": "\uff1d",
}
_TO_ASCII = {other: mark for mark, others in _ASCII_MARKS.items() for other in others}


def part_words(text: str) -> str:
    """The text with a space between words and marks that stand together; the same text where it is ASCII."""
    if text.isascii():
        return text
    if _HAS_UNSPACED.search(text):
        return " ".join(WordBreaker(replace_surrogates(text), "en"))
    codes = np.frombuffer(text.encode(_CODES, "surrogatepass"), dtype=np.uint32)
    marks = np.flatnonzero(_kinds(codes) & _MARK)
    if not len(marks):
        return text
    apart: UInt32Array = np.insert(codes, np.concatenate([marks, marks + 1]), ord(" "))
    return apart.tobytes().decode(_CODES, "surrogatepass")


def fold_marks(text: str) -> str:
    """The text with ASCII marks for marks of other scripts that mean the same, one for one."""
    if not text.isascii():
        for mark in _TO_ASCII.keys() & set(text):
            text = text.replace(mark, _TO_ASCII[mark])
    return text


@dataclass(frozen=True, eq=False)
class ScriptCounts:
    """Counts in texts of any script, [n_texts] each.

    Attributes:
        words: number of words.
        sentences: number of ends of sentences.
        wide: number of full-width marks, as they are typed in Chinese and Japanese.
    """

    words: Int64Array
    sentences: Int64Array
    wide: Int64Array


def count_in_scripts(texts: Sequence[str], parted: Sequence[str]) -> ScriptCounts:
    """Counts words, sentences and full-width marks.

    Args:
        texts: [n_texts].
        parted: `part_words` of each, [n_texts].
    """
    kinds, offsets = _look_up(texts)
    return ScriptCounts(
        _starts_between(*_look_up(parted), _WORD),
        _count_between(_sentence_ends(kinds), offsets),
        _count_between(kinds & _WIDE > 0, offsets),
    )


def _look_up(texts: Sequence[str]) -> tuple[UInt8Array, Int64Array]:
    """The properties of every character of the texts, a line feed after each, and where each text starts."""
    joined = "".join(f"{text}\n" for text in texts)
    lengths = np.fromiter((len(text) + 1 for text in texts), np.int64, len(texts))
    kinds = _kinds(np.frombuffer(joined.encode(_CODES, "surrogatepass"), dtype=np.uint32))
    return kinds, np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])


def _kinds(codes: UInt32Array) -> UInt8Array:
    """The properties of characters, as bits, [n_characters]."""
    kinds: UInt8Array = _properties()[np.minimum(codes, _MOST_CODES)]
    return kinds


def _sentence_ends(kinds: UInt8Array) -> BoolArray:
    """Marks before white space, the first of a run of other scripts' marks, and single spaces inside Thai and Lao."""
    ends = kinds & _SPOT > 0
    ends[1:] &= kinds[:-1] & _SPOT == 0
    ends[:-1] |= (kinds[:-1] & _STOP > 0) & (kinds[1:] & _SPACE > 0)
    ends[1:-1] |= (kinds[1:-1] & _BLANK > 0) & (kinds[:-2] & kinds[2:] & _THAI > 0)
    return ends


def _starts_between(kinds: UInt8Array, offsets: Int64Array, kind: int) -> Int64Array:
    """Number of runs of one kind in each text."""
    begins = kinds & kind > 0
    begins[1:] &= kinds[:-1] & kind == 0
    return _count_between(begins, offsets)


def _count_between(found: BoolArray, offsets: Int64Array) -> Int64Array:
    return np.diff(np.searchsorted(np.flatnonzero(found), offsets)).astype(np.int64)


@cache
def _properties() -> UInt8Array:
    """Properties of every code point, as bits; those beyond the last one have none."""
    text = "".join(map(chr, range(_MOST_CODES)))
    table = np.zeros(_MOST_CODES + 1, dtype=np.uint8)
    for code in range(_LEAST_NON_ASCII, 0x10000):
        category = unicodedata.category(chr(code))[0]
        if category in "PS":
            table[code] |= _MARK
        elif category == "M":  # combining marks are parts of words
            table[code] |= _WORD
    table[0x1F000:0x1FB00] |= _MARK
    classes = {
        r"\w": _WORD,
        f"[{_UNSPACED_ENDS}]": _SPOT,
        f"[{_FULL_WIDTH}]": _WIDE,
        f"[{_THAI_LAO}]": _THAI,
        f"[{_STOPS}]": _STOP,
        f"[{_SPACES}]": _SPACE,
        " ": _BLANK,
    }
    for pattern, kind in classes.items():
        for run in re.finditer(f"{pattern}+", text):
            table[run.start() : run.end()] |= kind
    return table
