"""Words, sentences and punctuation in every script.

Words of scripts that are written without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese) are found by ICU, with
its dictionaries (https://unicode-org.github.io/icu/userguide/boundaryanalysis/). All other text has its words between
spaces and marks. ASCII texts, which have neither such scripts nor such marks, cost nothing here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

from icu4py.breakers import WordBreaker

from model_behavior.data.byte_streams import replace_surrogates

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fff\u3005-\u3007\u3021-\u3029\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_HAS_UNSPACED = re.compile(f"[{_UNSPACED}]")
_LEAST_NON_ASCII = 0x80


def _of_categories(first_letters: str) -> Iterator[int]:
    for code in range(_LEAST_NON_ASCII, 0x10000):
        if unicodedata.category(chr(code))[0] in first_letters:
            yield code


def _as_class(codes: Iterable[int]) -> str:
    """The inside of a character class, of ascending code points."""
    ranges: list[tuple[int, int]] = []
    for code in codes:
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1] = (ranges[-1][0], code)
        else:
            ranges.append((code, code))
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)


_MARK = re.compile(f"[{_as_class(_of_categories('PS'))}\U0001f000-\U0001faff]")
_WORD = re.compile(rf"[\w{_as_class(_of_categories('M'))}]+")  # combining marks are parts of words
_SENTENCE_END = re.compile(
    r"[.!?](?=[\t\n\f\r ]|\Z)"
    "|[\u3002\uff01\uff1f\uff61\u0964\u0965\u061f\u06d4\u1362\u17d4\u104b]+"
    "|(?<=[\u0e00-\u0eff]) (?=[\u0e00-\u0eff])"  # a space ends a phrase in Thai and Lao
)
_FULL_WIDTH = re.compile("[\uff01-\uff0f\uff1a-\uff20\u3001\u3002\u300c-\u300f]")

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
    return _MARK.sub(r" \g<0> ", text)


def fold_marks(text: str) -> str:
    """The text with ASCII marks for marks of other scripts that mean the same, one for one."""
    if not text.isascii():
        for mark in _TO_ASCII.keys() & set(text):
            text = text.replace(mark, _TO_ASCII[mark])
    return text


def count_words(text: str) -> int:
    """Number of words, in any script."""
    return len(_WORD.findall(part_words(text)))


def count_sentences(text: str) -> int:
    """Number of ends of sentences, in any script."""
    return len(_SENTENCE_END.findall(text))


def count_full_width_marks(text: str) -> int:
    """Number of full-width marks, as they are typed in Chinese and Japanese."""
    return len(_FULL_WIDTH.findall(text))
