r"""The text encoder `style`: stylometric features, which describe how a response is written, not what it is about.

The features come from three counts:

1. Bytes, in one pass over the text. A mark of one byte needs no regular expression of its own.
2. The patterns of `style_features`. Arrow counts them over a whole column, Python's `re` in a few short texts: Arrow
   compiles every pattern at every call, which takes about ten milliseconds for all of them, and Python keeps them
   compiled but is many times slower per character; lists of words are looked up. Both give the same counts, because
   Python gets the patterns with RE2's meaning: classes such as `\w` are ASCII, `\s` has no vertical tab, and `$` is the
   end of the text.
3. Tokens: how many are distinct, and how many also stand in the prompt; one sort serves many texts.

**Languages.** Marks of other scripts count as the ASCII marks that mean the same, and words and sentences are those of
the script (`scripts`). Features that are English words are 0 in other languages, and in their place are the rates of
`N_GROUPS` groups of words, made by hashing: frequent words, which are function words in every language, decide them.
A text is taken for English unless it is mostly in another script or has more function words of other languages.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model_behavior.arrays import BoolArray, Float32Array, Float64Array, Int64Array
from model_behavior.models.behavior.encoder_base import TextEncoderBase, portions
from model_behavior.models.behavior.text.scripts import (
    count_full_width_marks,
    count_sentences,
    count_words,
    fold_marks,
)
from model_behavior.models.behavior.text.style_features import (
    ENGLISH,
    ENGLISH_FUNCTION_WORDS,
    FEATURES,
    GROUPS,
    OTHER_FUNCTION_WORDS,
    RELATIONS,
    SIZES,
    WIDE,
    StyleFeature,
)
from model_behavior.models.behavior.text.tokens import Tokens, UIntArray, tokenize, word_ngrams

_N_BYTES = 256
_WORD = np.zeros(_N_BYTES, dtype=bool)
_WORD[list(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")] = True
_SPACE = np.zeros(_N_BYTES, dtype=bool)
_SPACE[list(b"\t\n\f\r ")] = True
_FULL_STOP = np.zeros(_N_BYTES, dtype=bool)
_FULL_STOP[list(b".!?")] = True
_SHORT_CHARACTERS = 2000  # of a text, which bounds the cost of one that was crafted to be slow
_FEW_CHARACTERS = 16_000  # in all texts
_FOLDED_BY_RE2_ALONE = re.compile("[\u017f\u212a]")  # long s and the Kelvin sign: s and k where case is ignored
_RE2_SPACE = r"\t\n\f\r "
_ASCII_WORD = re.compile(r"\w+", re.ASCII)
_N_OPENING_TOKENS = 5
_MOST_FOREIGN = 0.3  # share of letters beyond ASCII in English text
_HASH_BITS = 64
_COUNTED = (*FEATURES, OTHER_FUNCTION_WORDS)
_RATES = [row for row, feature in enumerate(FEATURES) if feature.per != "text"]
_BYTE_STARTS, _BYTE_STOPS = np.array(
    [(each.bytes.start, each.bytes.stop) if each.bytes is not None else (0, 0) for each in _COUNTED]
).T
_UNITS = [("chars", "words", "lines").index(FEATURES[row].per) for row in _RATES]


@final
class StyleEncoder(TextEncoderBase):
    """Stylometric features of the response and of its relation to the prompt.

    `feature_names` lists them in column order; `style_features` has the patterns. Counts enter as log(1 + rate), so
    that one long run of a mark does not dominate.
    """

    name: ClassVar[str] = "style"
    version: ClassVar[int] = 2
    feature_names: ClassVar[tuple[str, ...]] = (
        *(feature.name for feature in FEATURES),
        *SIZES,
        *RELATIONS,
        WIDE,
        *GROUPS,
    )

    @property
    def dim(self) -> int:
        """Number of features."""
        return len(self.feature_names)

    @property
    def config(self) -> Mapping[str, Any]:
        """Empty: the encoder has no settings."""
        return {}

    def encode(self, prompts: Sequence[str], responses: Sequence[str], batch_size: int) -> Float32Array:
        """Computes the features of `feature_names`, unscaled, float32, [n_pairs, dim]."""
        rows = np.empty((len(responses), self.dim), dtype=np.float32)
        for part in portions(responses, batch_size):
            rows[part] = _describe(prompts[part], responses[part])
        return rows


def _describe(prompts: Sequence[str], responses: Sequence[str]) -> Float32Array:
    texts = pa.array(map(fold_marks, responses), type=pa.large_string())
    counts, wide = _count_in_any_script(responses, count_bytes(texts))
    characters, words = counts.characters.astype(np.float64), counts.words.astype(np.float64)
    lines = 1 + _to_numpy(pc.count_substring(pc.utf8_trim_whitespace(texts), "\n"))
    units = np.maximum([characters / 100, words / 100, 1.0 + counts.bytes[:, ord("\n")]], 1)
    found = count_patterns(texts, counts)
    other = ~_is_english(counts, found)
    found[np.ix_(np.array(ENGLISH), other)] = 0
    found[_RATES] = np.log1p(found[_RATES] / units[_UNITS])
    response_tokens, prompt_tokens = tokenize(responses), tokenize(prompts)
    sizes = _measure(pc.split_pattern(texts, "\n"), counts, lines, response_tokens)
    prompt_characters = _to_numpy(pc.utf8_length(pa.array(prompts, type=pa.large_string())))
    relations = [
        np.log((1 + characters) / (1 + prompt_characters)),
        *overlap(prompt_tokens, response_tokens),
    ]
    full_width = np.log1p(wide / np.maximum(characters / 100, 1))
    groups = _rate_groups(response_tokens, other)
    columns = np.vstack([found[: len(FEATURES)], *sizes, *relations, full_width, groups.T])
    return columns.T.astype(np.float32, order="C")


def _count_in_any_script(responses: Sequence[str], counts: ByteCounts) -> tuple[ByteCounts, Float64Array]:
    """The counts with words and sentences by the script of each text, and the number of full-width marks."""
    wide = np.zeros(len(responses))
    for row, text in enumerate(responses):
        if not text.isascii():
            counts.words[row], counts.sentences[row] = count_words(text), count_sentences(text)
            wide[row] = count_full_width_marks(text)
    return counts, wide


def _is_english(counts: ByteCounts, found: Float64Array) -> BoolArray:
    """False for texts in another script, or with more function words of other languages than of English, [n_texts]."""
    others = found[len(FEATURES)]
    foreign_letters = counts.bytes[:, 0xC3:0xE0].sum(axis=1) + counts.bytes[:, 0xE0:0xF0].sum(axis=1)
    in_script = foreign_letters < _MOST_FOREIGN * np.maximum(counts.characters, 1)
    english: BoolArray = in_script & (others <= found[ENGLISH_FUNCTION_WORDS].sum(axis=0))
    return english


def _rate_groups(tokens: Tokens, rows: BoolArray) -> Float64Array:
    """log(1 + rate per 100 tokens) of each group of words in the texts of `rows`, 0 in others, [n_texts, n_groups]."""
    n_groups = len(GROUPS)
    if not rows.any():
        return np.zeros((tokens.n_texts, n_groups))
    own = rows[tokens.text]
    place = tokens.text[own] * n_groups + (tokens.hashes[own] % np.uint64(n_groups)).astype(np.int64)
    counts = np.bincount(place, minlength=tokens.n_texts * n_groups).reshape(-1, n_groups)
    rates: Float64Array = np.log1p(100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))
    return rates


def _measure(line_lists: pa.ListArray, counts: ByteCounts, lines: Float64Array, tokens: Tokens) -> list[Float64Array]:
    """The columns named in `SIZES`."""
    characters, words, sentences = counts.characters, counts.words, counts.sentences
    longest = np.zeros(len(line_lists))
    np.maximum.at(
        longest,
        _to_numpy(pc.list_parent_indices(line_lists)).astype(np.int64),
        _to_numpy(pc.utf8_length(line_lists.flatten())),
    )
    return [
        np.log1p(characters),
        np.log1p(words),
        np.log1p(lines),
        np.log1p(sentences),
        np.log1p(longest),
        np.log1p(characters / np.maximum(words, 1)),
        np.log1p(words / np.maximum(sentences, 1)),
        np.log1p(words / lines),
        distinct_share(tokens),
        distinct_share(word_ngrams(tokens, 2)),
    ]


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
        counts: Int64Array = self.bytes.sum(axis=1) - self.bytes[:, 0x80:0xC0].sum(axis=1)
        return counts


def count_bytes(texts: pa.LargeStringArray) -> ByteCounts:
    """Counts the bytes of a column without nulls; a slice of a column may be given."""
    _, offset_buffer, byte_buffer = texts.buffers()
    offsets = np.frombuffer(offset_buffer, dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    data = np.frombuffer(byte_buffer, dtype=np.uint8) if byte_buffer is not None else np.zeros(0, dtype=np.uint8)
    data, offsets = data[offsets[0] : offsets[-1]], offsets - offsets[0]
    counts = np.empty((len(texts), _N_BYTES), dtype=np.int64)
    for row, (start, end) in enumerate(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)):
        counts[row] = np.bincount(data[start:end], minlength=_N_BYTES)
    is_start = np.zeros(len(data) + 1, dtype=bool)  # one more, for the offset of an empty text at the end
    is_start[offsets[:-1]] = True
    word = _WORD[data]
    begins = word.copy()
    begins[1:] &= ~word[:-1] | is_start[1:-1]
    space_next = np.ones(len(data), dtype=bool)
    space_next[:-1] = _SPACE[data[1:]] | is_start[1:-1]
    ends = _FULL_STOP[data] & space_next
    return ByteCounts(counts, _sum_between(begins, offsets), _sum_between(ends, offsets))


def _sum_between(found: BoolArray, offsets: Int64Array) -> Int64Array:
    places = np.searchsorted(np.flatnonzero(found), offsets)
    return np.diff(places).astype(np.int64)


def count_patterns(column: pa.LargeStringArray, bytes_found: ByteCounts) -> Float64Array:
    """Counts `FEATURES` and `OTHER_FUNCTION_WORDS`: matches, matching lines ("lines"), or 1 if found ("text").

    Args:
        column: texts, [n_texts].
        bytes_found: byte counts of these texts.

    Returns:
        Counts, [n_features + 1, n_texts].
    """
    characters = bytes_found.characters
    if characters.max(initial=0) <= _SHORT_CHARACTERS and characters.sum() <= _FEW_CHARACTERS:
        texts = column.to_pylist()
        if not any(map(_FOLDED_BY_RE2_ALONE.search, texts)):
            return count_in_few(texts, bytes_found)
    return count_in_many(column, bytes_found)


def count_in_few(texts: Sequence[str], bytes_found: ByteCounts) -> Float64Array:
    """Counts with Python's `re`. Counts may differ from RE2's in texts with the two letters that only RE2 folds."""
    counts = _count_single_bytes(bytes_found)
    rows, words = _counters(), _rows_of_words()
    for place, text in enumerate(texts):
        for row, counter in rows:
            counts[row, place] = counter(text)
        for word in _ASCII_WORD.findall(text):
            for row in words.get(word.lower(), ()):
                counts[row, place] += 1
    return counts


def count_in_many(column: pa.LargeStringArray, bytes_found: ByteCounts) -> Float64Array:
    """Counts with Arrow; single-byte patterns are read from the byte counts."""
    lines = pc.split_pattern(column, "\n")
    counts = _count_single_bytes(bytes_found)
    for row, feature in enumerate(_COUNTED):
        if feature.bytes is None:
            counts[row] = _count(column, lines, feature)
    return counts


def _count_single_bytes(found: ByteCounts) -> Float64Array:
    """Counts of the patterns whose matches are single bytes, 0 for the others, [n_features + 1, n_texts]."""
    upto = np.zeros((_N_BYTES + 1, len(found.bytes)))
    np.cumsum(found.bytes.T, axis=0, out=upto[1:])
    counts: Float64Array = upto[_BYTE_STOPS] - upto[_BYTE_STARTS]
    return counts


def _find(column: pa.LargeStringArray, feature: StyleFeature) -> Float64Array:
    """Gives 1 for each text with the pattern. If the feature has a `screen`, only texts that match it are searched."""
    if feature.screen is None:
        return _to_numpy(pc.match_substring_regex(column, feature.pattern))
    found = _to_numpy(pc.match_substring_regex(column, feature.screen))
    passed = np.flatnonzero(found)
    found[passed] = _to_numpy(pc.match_substring_regex(column.take(pa.array(passed)), feature.pattern))
    return found


def _count(column: pa.LargeStringArray, lines: pa.ListArray, feature: StyleFeature) -> Float64Array:
    if feature.per == "text":
        return _find(column, feature)
    if feature.per != "lines":
        count = pc.count_substring if feature.literal else pc.count_substring_regex
        return _to_numpy(count(column, feature.pattern))
    # Lines are matched one by one: in a count over the whole text, `^` also matches at the end of the last match.
    found = _to_numpy(pc.match_substring_regex(lines.flatten(), feature.pattern))
    owner = _to_numpy(pc.list_parent_indices(lines)).astype(np.int64)
    return np.bincount(owner, found, len(column)).astype(np.float64)


@cache
def _counters() -> tuple[tuple[int, Callable[[str], int]], ...]:
    """Rows of the patterns that are neither single bytes nor words, and a function that counts each."""
    return tuple(
        (row, _make_counter(feature))
        for row, feature in enumerate(_COUNTED)
        if feature.bytes is None and not feature.whole_words
    )


@cache
def _rows_of_words() -> Mapping[str, list[int]]:
    """Rows that each word counts in."""
    rows: dict[str, list[int]] = {}
    for row, feature in enumerate(_COUNTED):
        for word in feature.whole_words:
            rows.setdefault(word, []).append(row)
    return rows


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


def distinct_share(tokens: Tokens) -> Float64Array:
    """Share of distinct tokens among all tokens of each text, 0 for a text without tokens, [n_texts]."""
    return _count_tokens(_distinct(_keys(tokens)), tokens.n_texts) / np.maximum(_per_text(tokens), 1)


def overlap(prompts: Tokens, responses: Tokens) -> list[Float64Array]:
    """Measures how many tokens prompt and response share.

    Returns:
        Three columns, [n_texts] each: share of the response's distinct tokens that are in the prompt, share of the
        prompt's distinct tokens that are in the response, and share of the response's first five tokens that are in
        the prompt.
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
    """Sort keys: the index of the text in the high bits, and the leading bits of the token's hash below.

    With 1,024 texts, 53 bits of the hash remain: two of a text's 1,000 tokens collide once in 10**10 texts.
    """
    shift = np.uint64(_HASH_BITS - _text_bits(tokens.n_texts))
    return tokens.text.astype(np.uint64) << shift | tokens.hashes >> np.uint64(_text_bits(tokens.n_texts))


def _text_bits(n_texts: int) -> int:
    return max(int(n_texts).bit_length(), 1)


def _distinct(keys: UIntArray) -> UIntArray:
    """Distinct keys, ascending."""
    ordered = np.sort(keys)
    new = np.ones(len(ordered), dtype=bool)
    new[1:] = ordered[1:] != ordered[:-1]
    return ordered[new]


def _count_tokens(keys: UIntArray, n_texts: int, found: BoolArray | None = None) -> Float64Array:
    """Number of keys of each text, or of those marked in `found`, [n_texts]."""
    text = (keys >> np.uint64(_HASH_BITS - _text_bits(n_texts))).astype(np.int64)
    return np.bincount(text if found is None else text[found], minlength=n_texts).astype(np.float64)


def _per_text(tokens: Tokens) -> Int64Array:
    return np.bincount(tokens.text, minlength=tokens.n_texts)


def _first(tokens: Tokens, n: int) -> Tokens:
    starts = np.searchsorted(tokens.text, np.arange(tokens.n_texts))
    position = np.arange(len(tokens.text)) - starts[tokens.text]
    return Tokens(tokens.hashes[position < n], tokens.text[position < n], tokens.n_texts)


def _share_in(keys: UIntArray, others: UIntArray, n_texts: int) -> Float64Array:
    """Share of each text's keys that are among the ascending `others`."""
    if not len(others):
        return np.zeros(n_texts)
    place = np.minimum(np.searchsorted(others, keys), len(others) - 1)
    return _count_tokens(keys, n_texts, others[place] == keys) / np.maximum(_count_tokens(keys, n_texts), 1)


def _to_numpy(column: pa.Array) -> Float64Array:
    values: Float64Array = column.to_numpy(zero_copy_only=False).astype(np.float64)
    return values
