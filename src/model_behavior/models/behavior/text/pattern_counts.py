r"""Counts the patterns of `style_features` in texts.

Arrow counts them over a whole column, Python's `re` in a few short texts: Arrow compiles every pattern at every call,
which takes milliseconds for all of them, and Python keeps them compiled but is many times slower per character. Both
give the same counts, because Python gets the patterns with RE2's meaning: classes such as `\w` are ASCII, `\s` has no
vertical tab, and `$` is the end of the text.

Most patterns are not run over a whole column: marks of one byte are read from the counts of bytes, words are looked up
(`english_words`), and the rest is searched where the marks that a match needs are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model_behavior.arrays import BoolArray, Float64Array
from model_behavior.models.behavior.text.english_words import count_words
from model_behavior.models.behavior.text.line_marks import count_line_marks
from model_behavior.models.behavior.text.style_features import (
    FEATURES,
    OFFER,
    OFFER_REACH,
    OFFER_WORDS,
    OTHER_FUNCTION_WORDS,
    StyleFeature,
)
from model_behavior.models.behavior.text.text_bytes import ByteCounts, TextBytes

_FEW_CHARACTERS = 2000  # in all texts; also bounds the cost of a text that was crafted to be slow
_FOLDED_BY_RE2_ALONE = re.compile("[\u017f\u212a]")  # long s and the Kelvin sign: s and k where case is ignored
_RE2_SPACE = r"\t\n\f\r "
_SPACES = "\t\n\f\r "
_FOLDED = {0x17F: "s", 0x212A: "k"}
_COUNTED = (*FEATURES, OTHER_FUNCTION_WORDS)


def count_patterns(texts: Sequence[str], joined: TextBytes, counts: ByteCounts) -> Float64Array:
    """Counts each of `FEATURES`: its matches, its matching lines ("lines"), or 1 if found ("text").

    Args:
        texts: [n_texts].
        joined: their bytes.
        counts: counts of the bytes.

    Returns:
        Counts, and in the last row those of `OTHER_FUNCTION_WORDS`, [n_features + 1, n_texts].
    """
    if counts.characters.sum() <= _FEW_CHARACTERS and not any(map(_FOLDED_BY_RE2_ALONE.search, texts)):
        return count_in_few(texts)
    return count_in_many(texts, joined, counts)


def count_in_few(texts: Sequence[str]) -> Float64Array:
    """Counts with Python's `re`. Counts may differ from RE2's in texts with the two letters that only RE2 folds."""
    counters = _counters()
    return np.array([[counter(text) for text in texts] for counter in counters], dtype=np.float64).reshape(
        len(counters), len(texts)
    )


def count_in_many(texts: Sequence[str], joined: TextBytes, counts: ByteCounts) -> Float64Array:
    """Counts bytes, words and the marks of lines all at once, and everything else with Arrow; see `count_patterns`."""
    column = pa.array(texts, type=pa.large_string())
    known = {**count_words(joined), **count_line_marks(joined), OFFER.name: _find_offers(texts)}
    rows = np.flatnonzero(counts.having("\u017f\u212a"))
    folded = rows[_to_numpy(pc.match_substring_regex(column.take(pa.array(rows)), _FOLDED_BY_RE2_ALONE.pattern)) > 0]
    found = np.empty((len(_COUNTED), len(texts)))
    for row, feature in enumerate(_COUNTED):
        if feature.bytes is not None:
            found[row] = counts.bytes[:, feature.bytes.start : feature.bytes.stop].sum(axis=1)
        elif feature.name in known:
            found[row] = known[feature.name]
            if len(folded) and feature.per != "lines":
                found[row, folded] = _search(column.take(pa.array(folded)), feature)
        else:
            found[row] = _count_where(column, feature, _having(feature, joined, counts))
    return found


def _having(feature: StyleFeature, texts: TextBytes, counts: ByteCounts) -> BoolArray:
    """False for texts without anything that a match needs, [n_texts]."""
    if feature.name == "ellipsis":
        full_stops = texts.stops[texts.data[texts.stops] == ord(".")]
        third = full_stops[2:] == full_stops[:-2] + 2
        return (texts.number_in_texts(full_stops[:-2][third]) > 0) | counts.having("\u2026")
    return counts.having(feature.needs) if feature.needs else np.ones(texts.n_texts, dtype=bool)


def _count_where(column: pa.LargeStringArray, feature: StyleFeature, chosen: BoolArray) -> Float64Array:
    """Counts in the chosen texts, [n_texts]; 0 in the others."""
    if chosen.all():
        return _search(column, feature)
    found = np.zeros(len(column))
    if chosen.any():
        places = np.flatnonzero(chosen)
        found[places] = _search(column.take(pa.array(places)), feature)
    return found


def _search(column: pa.LargeStringArray, feature: StyleFeature) -> Float64Array:
    if feature.per == "text":
        return _to_numpy(pc.match_substring_regex(column, feature.pattern))
    return _to_numpy(pc.count_substring_regex(column, feature.pattern))


def _find_offers(texts: Sequence[str]) -> Float64Array:
    """1 for each text that ends with an offer; only the end of its last line is looked at.

    RE2 turns the reach of the pattern into many states, which cost as much as thirty other patterns.
    """
    ends = [text.rstrip(_SPACES).rpartition("\n")[2][-2 * OFFER_REACH :] for text in texts]
    found = _to_numpy(pc.match_substring_regex(pa.array(ends, type=pa.large_string()), OFFER_WORDS))
    pattern = _last_offer()
    for row in np.flatnonzero(found).tolist():
        found[row] = pattern.search(ends[row].translate(_FOLDED)) is not None
    return found


@cache
def _last_offer() -> re.Pattern[str]:
    return re.compile(rf"{OFFER_WORDS}.{{0,{OFFER_REACH}}}\Z", re.ASCII | re.DOTALL)


@cache
def _counters() -> tuple[Callable[[str], int], ...]:
    return tuple(map(_make_counter, _COUNTED))


def _make_counter(feature: StyleFeature) -> Callable[[str], int]:
    if feature.literal:
        return lambda text: text.count(feature.pattern)
    pattern = re.compile(_as_python(feature.pattern), re.ASCII)
    if feature.per == "text":
        return lambda text: pattern.search(text) is not None
    if feature.per == "lines":
        return lambda text: sum(pattern.search(line) is not None for line in text.split("\n"))
    if not pattern.groups:
        return lambda text: len(pattern.findall(text))
    return lambda text: sum(1 for _ in pattern.finditer(text))


def _as_python(pattern: str) -> str:
    """An RE2 pattern of `style_features` in Python's syntax, for `re.ASCII`."""
    parts, in_class = [], False
    for token in re.findall(r"\\x\{[0-9a-f]+\}|\\.|.", pattern, re.DOTALL):
        in_class = token == "[" or (in_class and token != "]")
        if token.startswith(r"\x{"):
            parts.append(re.escape(chr(int(token[3:-1], 16))))
        elif token == r"\s":
            parts.append(_RE2_SPACE if in_class else f"[{_RE2_SPACE}]")
        elif token == r"\S":
            parts.append(f"[^{_RE2_SPACE}]")
        else:
            parts.append(r"\Z" if token == "$" and not in_class else token)
    return "".join(parts)


def _to_numpy(column: pa.Array) -> Float64Array:
    values: Float64Array = column.to_numpy(zero_copy_only=False).astype(np.float64)
    return values
