"""How a response is written rather than what about: stylometric features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from model_behavior.models.behavior.encoder_base import FloatArray, TextEncoderBase, portions
from model_behavior.models.behavior.pattern_counts import count_patterns
from model_behavior.models.behavior.style_features import FEATURES, RELATIONS, SIZES
from model_behavior.models.behavior.tokens import Tokens, tokenize, word_ngrams

_N_OPENING_TOKENS = 5


@final
class StyleEncoder(TextEncoderBase):
    """Documented stylometric features of the response and of its relation to the prompt.

    `feature_names` lists them in column order; the patterns are in `style_features`. Counts enter as
    log(1 + rate), so that one long run of a mark does not drown the rest.
    """

    name: ClassVar[str] = "style"
    feature_names: ClassVar[tuple[str, ...]] = (*(feature.name for feature in FEATURES), *SIZES, *RELATIONS)

    @property
    def dim(self) -> int:
        """Number of features."""
        return len(self.feature_names)

    @property
    def config(self) -> Mapping[str, Any]:
        """Empty: there is nothing to choose."""
        return {}

    def encode(self, prompts: Sequence[str], responses: Sequence[str], batch_size: int) -> FloatArray:
        """Features as in `feature_names`, unscaled, float32, [n_pairs, dim]."""
        rows = np.empty((len(responses), self.dim), dtype=np.float32)
        for part in portions(responses, batch_size):
            rows[part] = _describe(prompts[part], responses[part])
        return rows


def _describe(prompts: Sequence[str], responses: Sequence[str]) -> FloatArray:
    texts = pa.array(responses, type=pa.large_string())
    characters = _to_numpy(pc.utf8_length(texts))
    words = _to_numpy(pc.count_substring_regex(texts, r"\w+"))
    lines = 1 + _to_numpy(pc.count_substring(pc.utf8_trim_whitespace(texts), "\n"))
    units = {"chars": characters / 100, "words": words / 100}
    units["lines"] = 1 + _to_numpy(pc.count_substring(texts, "\n"))
    counted = [
        counts if feature.per == "text" else np.log1p(counts / np.maximum(units[feature.per], 1))
        for feature, counts in zip(FEATURES, count_patterns(responses), strict=True)
    ]
    response_tokens, prompt_tokens = tokenize(responses), tokenize(prompts)
    sizes = _measure(texts, characters, words, lines, response_tokens)
    prompt_characters = _to_numpy(pc.utf8_length(pa.array(prompts, type=pa.large_string())))
    relations = [
        np.log((1 + characters) / (1 + prompt_characters)),
        *_overlap(prompt_tokens, response_tokens),
    ]
    return np.column_stack([*counted, *sizes, *relations]).astype(np.float32)


def _measure(
    texts: pa.LargeStringArray,
    characters: npt.NDArray[np.float64],
    words: npt.NDArray[np.float64],
    lines: npt.NDArray[np.float64],
    tokens: Tokens,
) -> list[npt.NDArray[np.float64]]:
    """The columns named in `SIZES`."""
    sentences = _to_numpy(pc.count_substring_regex(texts, r"[.!?](?:\s|$)"))
    line_lists = pc.split_pattern(texts, "\n")
    longest = np.zeros(len(texts))
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
        _distinct_share(tokens),
        _distinct_share(word_ngrams(tokens, 2)),
    ]


def _distinct_share(tokens: Tokens) -> npt.NDArray[np.float64]:
    distinct = _distinct(tokens)
    return np.bincount(distinct.text, minlength=tokens.n_texts) / np.maximum(
        np.bincount(tokens.text, minlength=tokens.n_texts), 1
    )


def _distinct(tokens: Tokens) -> Tokens:
    order = np.lexsort((tokens.hashes, tokens.text))
    hashes, text = tokens.hashes[order], tokens.text[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (hashes[1:] != hashes[:-1]) | (text[1:] != text[:-1])
    return Tokens(hashes[new], text[new], tokens.n_texts)


def _overlap(prompts: Tokens, responses: Tokens) -> list[npt.NDArray[np.float64]]:
    """The token columns of `RELATIONS`: shares of distinct tokens, and of the first words, that both sides have."""
    prompt_set, response_set = _distinct(prompts), _distinct(responses)
    opening = _first(responses, _N_OPENING_TOKENS)
    return [
        _share_in(response_set, prompt_set),
        _share_in(prompt_set, response_set),
        _share_in(opening, prompt_set),
    ]


def _first(tokens: Tokens, n: int) -> Tokens:
    position = np.arange(len(tokens.text)) - np.searchsorted(tokens.text, tokens.text)
    return Tokens(tokens.hashes[position < n], tokens.text[position < n], tokens.n_texts)


def _share_in(tokens: Tokens, other: Tokens) -> npt.NDArray[np.float64]:
    """Share of each text's tokens that the other side's text of the same index has too."""
    found = np.isin(_keys(tokens), _keys(other))
    hits = np.bincount(tokens.text, weights=found, minlength=tokens.n_texts)
    return hits / np.maximum(np.bincount(tokens.text, minlength=tokens.n_texts), 1)


def _keys(tokens: Tokens) -> npt.NDArray[np.uint64]:
    return tokens.hashes + tokens.text.astype(np.uint64) * np.uint64(0xD6E8FEB86659FD93)


def _to_numpy(column: pa.Array) -> npt.NDArray[np.float64]:
    values: npt.NDArray[np.float64] = column.to_numpy(zero_copy_only=False).astype(np.float64)
    return values
