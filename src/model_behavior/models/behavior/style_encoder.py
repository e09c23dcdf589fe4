"""How a response is written rather than what about: stylometric features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from model_behavior.models.behavior.byte_counts import ByteCounts, count_bytes
from model_behavior.models.behavior.encoder_base import FloatArray, TextEncoderBase, portions
from model_behavior.models.behavior.style_features import FEATURES, RELATIONS, SIZES, StyleFeature
from model_behavior.models.behavior.token_sets import distinct_share, overlap
from model_behavior.models.behavior.tokens import Tokens, tokenize, word_ngrams


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
    counts = count_bytes(texts)
    characters, words = counts.characters.astype(np.float64), counts.words.astype(np.float64)
    lines = 1 + _to_numpy(pc.count_substring(pc.utf8_trim_whitespace(texts), "\n"))
    units = {"chars": characters / 100, "words": words / 100}
    split = pc.split_pattern(texts, "\n")
    counted = [
        _share_of_lines(split, feature) if feature.per == "lines" else _count(texts, counts, feature, units)
        for feature in FEATURES
    ]
    response_tokens, prompt_tokens = tokenize(responses), tokenize(prompts)
    sizes = _measure(split, counts, lines, response_tokens)
    prompt_characters = _to_numpy(pc.utf8_length(pa.array(prompts, type=pa.large_string())))
    relations = [
        np.log((1 + characters) / (1 + prompt_characters)),
        *overlap(prompt_tokens, response_tokens),
    ]
    return np.column_stack([*counted, *sizes, *relations]).astype(np.float32)


def _count(
    texts: pa.LargeStringArray, counts: ByteCounts, feature: StyleFeature, units: Mapping[str, npt.NDArray[np.float64]]
) -> npt.NDArray[np.float64]:
    if feature.per == "text":
        return _find(texts, feature).astype(np.float64)
    if (marks := feature.bytes) is not None:
        found = counts.bytes[:, marks.start : marks.stop].sum(axis=1).astype(np.float64)
    else:
        count = pc.count_substring if feature.literal else pc.count_substring_regex
        found = _to_numpy(count(texts, feature.pattern))
    rates: npt.NDArray[np.float64] = np.log1p(found / np.maximum(units[feature.per], 1))
    return rates


def _find(texts: pa.LargeStringArray, feature: StyleFeature) -> npt.NDArray[np.bool_]:
    """Whether each text has the pattern, [n_texts]; where it has a `screen`, only what passes that is looked at."""
    pattern = feature.pattern if feature.screen is None else feature.screen
    found: npt.NDArray[np.bool_] = pc.match_substring_regex(texts, pattern).to_numpy(zero_copy_only=False)
    if feature.screen is None:
        return found
    passed = np.flatnonzero(found)
    found = np.zeros(len(texts), dtype=bool)
    found[passed] = pc.match_substring_regex(texts.take(pa.array(passed)), feature.pattern).to_numpy(
        zero_copy_only=False
    )
    return found


def _share_of_lines(lines: pa.ListArray, feature: StyleFeature) -> npt.NDArray[np.float64]:
    """Lines are matched one by one: counting in the whole text takes `^` for the end of the match before, too."""
    found = _to_numpy(pc.match_substring_regex(lines.flatten(), feature.pattern).cast(pa.int32()))
    n_lines = _to_numpy(pc.list_value_length(lines))
    hits = np.bincount(_to_numpy(pc.list_parent_indices(lines)).astype(np.int64), found, len(n_lines))
    return np.log1p(hits / np.maximum(n_lines, 1))


def _measure(
    line_lists: pa.ListArray, counts: ByteCounts, lines: npt.NDArray[np.float64], tokens: Tokens
) -> list[npt.NDArray[np.float64]]:
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


def _to_numpy(column: pa.Array) -> npt.NDArray[np.float64]:
    values: npt.NDArray[np.float64] = column.to_numpy(zero_copy_only=False).astype(np.float64)
    return values
