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
from model_behavior.models.behavior.pattern_counts import count_patterns
from model_behavior.models.behavior.style_features import FEATURES, RELATIONS, SIZES
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
    units = {"chars": characters / 100, "words": words / 100, "lines": 1.0 + counts.bytes[:, ord("\n")]}
    counted = [
        found if feature.per == "text" else np.log1p(found / np.maximum(units[feature.per], 1))
        for feature, found in zip(FEATURES, count_patterns(texts, counts), strict=True)
    ]
    response_tokens, prompt_tokens = tokenize(responses), tokenize(prompts)
    sizes = _measure(pc.split_pattern(texts, "\n"), counts, lines, response_tokens)
    prompt_characters = _to_numpy(pc.utf8_length(pa.array(prompts, type=pa.large_string())))
    relations = [
        np.log((1 + characters) / (1 + prompt_characters)),
        *overlap(prompt_tokens, response_tokens),
    ]
    return np.column_stack([*counted, *sizes, *relations]).astype(np.float32)


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
