r"""The text encoder `style`: stylometric features, which describe how a response is written, not what it is about.

The features come from three counts:

1. Bytes, in one pass over the texts (`text_bytes`). A mark of one byte needs no regular expression of its own.
2. The patterns of `style_features` (`pattern_counts`), those that are English words by one look at every word
   (`english_words`).
3. Tokens: how many are distinct, and how many also stand in the prompt.

**Languages.** Marks of other scripts count as the ASCII marks that mean the same, and words and sentences are those of
the script (`scripts`). Features that are English words are 0 in other languages, and in their place are the rates of
`N_GROUPS` groups of words, made by hashing: frequent words, which are function words in every language, decide them.
A text is taken for English unless it is mostly in another script or has more function words of other languages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model_behavior.arrays import BoolArray, Float32Array, Float64Array, Int32Array, Int64Array
from model_behavior.models.behavior.encoder_base import TextEncoderBase, portions
from model_behavior.models.behavior.text.pattern_counts import count_patterns
from model_behavior.models.behavior.text.scripts import count_in_scripts, fold_marks, part_words
from model_behavior.models.behavior.text.style_features import (
    ENGLISH,
    ENGLISH_FUNCTION_WORDS,
    FEATURES,
    GROUPS,
    RELATIONS,
    SIZES,
    WIDE,
)
from model_behavior.models.behavior.text.text_bytes import ByteCounts, TextBytes, count_bytes, longest_lines
from model_behavior.models.behavior.text.tokens import Tokens, mix, tokenize, tokenize_parted, word_ngrams

_N_OPENING_TOKENS = 5
_MOST_FOREIGN = 0.3  # share of letters beyond ASCII in English text
_HASH_BITS = 64
_ODD = np.uint64(0x9E3779B97F4A7C15)
_NON_ASCII = 0x80


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
    folded = list(map(fold_marks, responses))
    texts = TextBytes(folded)
    parted = list(map(part_words, responses))
    counts, wide = _count_in_any_script(responses, parted, count_bytes(texts))
    characters, words = counts.characters.astype(np.float64), counts.words.astype(np.float64)
    units = {"chars": characters / 100, "words": words / 100, "lines": 1.0 + counts.bytes[:, ord("\n")]}
    *found, others = count_patterns(folded, texts, counts)
    other = ~_is_english(counts, np.array(found), others)
    for row in ENGLISH:
        found[row][other] = 0
    counted = [
        each if feature.per == "text" else np.log1p(each / np.maximum(units[feature.per], 1))
        for feature, each in zip(FEATURES, found, strict=True)
    ]
    response_tokens = tokenize_parted(parted)
    *shares, distinct = compare_tokens(tokenize(prompts), response_tokens)
    distinct_pairs = distinct_share(word_ngrams(response_tokens, 2))
    sizes = [*_measure(texts, counts, _count_lines(folded, texts, counts)), distinct, distinct_pairs]
    prompt_characters = np.fromiter(map(len, prompts), np.float64, len(prompts))
    relations = [
        np.log((1 + characters) / (1 + prompt_characters)),
        *shares,
    ]
    full_width = np.log1p(wide / np.maximum(characters / 100, 1))
    groups = _rate_groups(response_tokens, other)
    return np.column_stack([*counted, *sizes, *relations, full_width, groups]).astype(np.float32)


def _count_in_any_script(
    responses: Sequence[str], parted: Sequence[str], counts: ByteCounts
) -> tuple[ByteCounts, Float64Array]:
    """The counts with words and sentences by the script of each text, and the number of full-width marks."""
    wide = np.zeros(len(responses))
    rows = [row for row, text in enumerate(responses) if not text.isascii()]
    if rows:
        found = count_in_scripts([responses[row] for row in rows], [parted[row] for row in rows])
        counts.words[rows], counts.sentences[rows], wide[rows] = found.words, found.sentences, found.wide
    return counts, wide


def _is_english(counts: ByteCounts, found: Float64Array, others: Float64Array) -> BoolArray:
    """False for texts in another script, or with more function words of other languages than of English, [n_texts]."""
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


def _measure(texts: TextBytes, counts: ByteCounts, lines: Float64Array) -> list[Float64Array]:
    """The columns named in `SIZES`, but for the shares of distinct tokens."""
    characters, words, sentences = counts.characters, counts.words, counts.sentences
    return [
        np.log1p(characters),
        np.log1p(words),
        np.log1p(lines),
        np.log1p(sentences),
        np.log1p(longest_lines(texts).astype(np.float64)),
        np.log1p(characters / np.maximum(words, 1)),
        np.log1p(words / np.maximum(sentences, 1)),
        np.log1p(words / lines),
    ]


def _count_lines(texts: Sequence[str], joined: TextBytes, counts: ByteCounts) -> Float64Array:
    """Number of lines of each text between its first and last character that is not white space, [n_texts]."""
    lines = 1 + counts.bytes[:, ord("\n")].astype(np.float64)
    edges = joined.data[np.stack([joined.starts[:-1], np.maximum(joined.starts[1:] - 2, joined.starts[:-1])])]
    rows = np.flatnonzero(((edges <= ord(" ")) | (edges >= _NON_ASCII)).any(axis=0))
    trimmed = pc.utf8_trim_whitespace(pa.array([texts[row] for row in rows.tolist()], type=pa.large_string()))
    lines[rows] = 1.0 + _to_numpy(pc.count_substring(trimmed, "\n"))
    return lines


def distinct_share(tokens: Tokens) -> Float64Array:
    """Share of distinct tokens among all tokens of each text, 0 for a text without tokens, [n_texts]."""
    equal = stand_ins(tokens)
    distinct = _per_text(tokens.text, tokens.n_texts, equal == np.arange(len(equal)))
    return distinct / np.maximum(np.bincount(tokens.text, minlength=tokens.n_texts), 1)


def compare_tokens(prompts: Tokens, responses: Tokens) -> list[Float64Array]:
    """Measures how many tokens prompt and response share.

    Returns:
        Four columns, [n_texts] each: share of the response's distinct tokens that are in the prompt, share of the
        prompt's distinct tokens that are in the response, share of the response's first five tokens that are in the
        prompt, and share of distinct tokens among all of the response.
    """
    n_asked, n_texts = len(prompts.hashes), responses.n_texts
    text = np.concatenate([prompts.text, responses.text])
    equal = stand_ins(Tokens(np.concatenate([prompts.hashes, responses.hashes]), text, n_texts))
    asked, told = np.zeros(len(text), dtype=bool), np.zeros(len(text), dtype=bool)
    asked[equal[:n_asked]] = told[equal[n_asked:]] = True
    common, n_told = _per_text(text, n_texts, asked & told), _per_text(text, n_texts, told)
    opening = equal[n_asked:][_is_among_first(responses, _N_OPENING_TOKENS)]
    n_opening = np.bincount(text[opening], minlength=n_texts)
    return [
        common / np.maximum(n_told, 1),
        common / np.maximum(_per_text(text, n_texts, asked), 1),
        np.bincount(text[opening], asked[opening], n_texts) / np.maximum(n_opening, 1),
        n_told / np.maximum(np.bincount(responses.text, minlength=n_texts), 1),
    ]


def stand_ins(tokens: Tokens) -> Int32Array:
    """The index of one token of the same text for all that are equal, without sorting them, [n_tokens].

    Tokens are thrown into a table, and each finds there itself, an equal one, or another that fell on the same place;
    the last kind is thrown again.
    """
    keys = tokens.hashes + tokens.text.astype(np.uint64) * _ODD
    n_bits = max(int(2 * len(keys)).bit_length(), 1)
    table = np.empty(1 << n_bits, dtype=np.int32)
    equal = np.arange(len(keys), dtype=np.int32)
    open_, own, thrown = equal.copy(), keys, keys
    while len(open_):
        slot = thrown >> np.uint64(_HASH_BITS - n_bits)
        table[slot] = open_
        there = table[slot]
        found = keys[there] == own
        equal[open_[found]] = there[found]
        open_, own, thrown = open_[~found], own[~found], mix(thrown[~found])
    return equal


def _per_text(text: Int64Array, n_texts: int, chosen: BoolArray) -> Float64Array:
    """Number of chosen tokens of each text, [n_texts]."""
    return np.bincount(text[chosen], minlength=n_texts).astype(np.float64)


def _is_among_first(tokens: Tokens, n: int) -> BoolArray:
    starts = np.searchsorted(tokens.text, np.arange(tokens.n_texts))
    among: BoolArray = np.arange(len(tokens.text)) - starts[tokens.text] < n
    return among


def _to_numpy(column: pa.Array) -> Float64Array:
    values: Float64Array = column.to_numpy(zero_copy_only=False).astype(np.float64)
    return values
