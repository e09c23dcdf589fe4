"""Counts of the style patterns in texts, by Arrow over a whole column or by Python's `re` over a few texts.

Arrow compiles a pattern at every call: some ten milliseconds for all of them, which is nothing for a thousand responses
and nearly all of the time for one prompt. Python keeps them compiled, but is many times slower per character. Both give
the same counts, since the patterns are read as RE2 reads them: classes such as `\\w` are ASCII, `\\s` has no vertical
tab, and `$` is the end of the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from model_behavior.models.behavior.byte_counts import ByteCounts
from model_behavior.models.behavior.style_features import FEATURES, StyleFeature

_FEW_CHARACTERS = 2000  # in all; also bounds what a text that is made to be slow can cost
_FOLDED_BY_RE2_ALONE = re.compile("[\u017f\u212a]")  # long s and the Kelvin sign: s and k where case is ignored
_RE2_SPACE = r"\t\n\f\r "

Counts = npt.NDArray[np.float64]


def count_patterns(column: pa.LargeStringArray, bytes_found: ByteCounts) -> Counts:
    """How often each of `FEATURES` occurs: matches, matching lines ("lines"), or 1 if found ("text").

    Args:
        column: texts, [n_texts].
        bytes_found: in them.

    Returns:
        [n_features, n_texts].
    """
    if bytes_found.characters.sum() <= _FEW_CHARACTERS:
        texts = column.to_pylist()
        if not any(map(_FOLDED_BY_RE2_ALONE.search, texts)):
            return count_in_few(texts)
    return count_in_many(column, bytes_found)


def count_in_few(texts: Sequence[str]) -> Counts:
    """By Python's `re`. Texts with the two letters that only RE2 folds may differ."""
    counters = _counters()
    return np.array([[counter(text) for text in texts] for counter in counters], dtype=np.float64).reshape(
        len(counters), len(texts)
    )


def count_in_many(column: pa.LargeStringArray, bytes_found: ByteCounts) -> Counts:
    """By Arrow, and what is one byte by the bytes that were counted."""
    lines = pc.split_pattern(column, "\n")
    counts = np.empty((len(FEATURES), len(column)))
    for row, feature in enumerate(FEATURES):
        if feature.bytes is not None:
            counts[row] = bytes_found.bytes[:, feature.bytes.start : feature.bytes.stop].sum(axis=1)
        else:
            counts[row] = _count(column, lines, feature)
    return counts


def _find(column: pa.LargeStringArray, feature: StyleFeature) -> Counts:
    """1 for a text that has the pattern; where it has a `screen`, only what passes that is looked at."""
    if feature.screen is None:
        return _to_numpy(pc.match_substring_regex(column, feature.pattern))
    found = _to_numpy(pc.match_substring_regex(column, feature.screen))
    passed = np.flatnonzero(found)
    found[passed] = _to_numpy(pc.match_substring_regex(column.take(pa.array(passed)), feature.pattern))
    return found


def _count(column: pa.LargeStringArray, lines: pa.ListArray, feature: StyleFeature) -> Counts:
    if feature.per == "text":
        return _find(column, feature)
    if feature.per != "lines":
        count = pc.count_substring if feature.literal else pc.count_substring_regex
        return _to_numpy(count(column, feature.pattern))
    # Lines are matched one by one: counting in the whole text takes `^` for the end of the match before, too.
    found = _to_numpy(pc.match_substring_regex(lines.flatten(), feature.pattern))
    owner = _to_numpy(pc.list_parent_indices(lines)).astype(np.int64)
    return np.bincount(owner, found, len(column)).astype(np.float64)


def _to_numpy(column: pa.Array) -> Counts:
    values: Counts = column.to_numpy(zero_copy_only=False).astype(np.float64)
    return values


@cache
def _counters() -> tuple[Callable[[str], int], ...]:
    return tuple(map(_make_counter, FEATURES))


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
