"""Builds a `PairTable` row by row; every text is held once, as UTF-8 bytes."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from model_behavior.data.byte_streams import replace_surrogates
from model_behavior.data_models.votes import IntArray, PairTable


class PairBuilder:
    """Collects pairs; memory grows with unique texts, not with rows."""

    def __init__(self) -> None:
        self._prompts: dict[bytes, int] = {}
        self._responses: dict[bytes, int] = {}
        self._histories: dict[bytes, int] = {}
        self._models: dict[str, int] = {}
        self._pairs: dict[int, int] = {}
        # One column each for the indices of prompt, model, response and history.
        self._columns = tuple(array("i") for _ in range(4))

    def add(self, prompt: str, model: str, response: str, history: str) -> int:
        """The index of the pair, which is new or known."""
        indices = (
            _index_of(self._prompts, _encode(prompt)),
            self._models.setdefault(model, len(self._models)),
            _index_of(self._responses, _encode(response)),
            _index_of(self._histories, _encode(history)),
        )
        # One integer of four 32-bit fields takes a third of a tuple's memory.
        key = indices[0] << 96 | indices[1] << 64 | indices[2] << 32 | indices[3]
        pair = self._pairs.setdefault(key, len(self._pairs))
        if pair == len(self._columns[0]):
            for column, index in zip(self._columns, indices, strict=True):
                column.append(index)
        return pair

    def finish(self) -> PairTable:
        """The table. Models are sorted by name; prompts and pairs keep the order in which they came."""
        self._pairs.clear()
        prompt, model, response, history = (np.array(column, dtype=np.int32) for column in self._columns)
        names = sorted(self._models)
        rank = np.zeros(len(names), dtype=np.int32)
        for new, name in enumerate(names):
            rank[self._models[name]] = new
        return PairTable(
            prompts=_to_array(self._prompts),
            models=tuple(replace_surrogates(name) for name in names),
            responses=_take(self._responses, response),
            histories=_take(self._histories, history),
            prompt_index=prompt,
            model_index=rank[model],
        )


def _index_of(known: dict[bytes, int], text: bytes) -> int:
    return known.setdefault(text, len(known))


def _encode(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        return replace_surrogates(text).encode()


def _to_array(texts: Iterable[bytes]) -> pa.LargeStringArray:
    return pa.array(texts, pa.large_string())


def _take(texts: dict[bytes, int], indices: IntArray) -> pa.LargeStringArray:
    unique = _to_array(texts)
    texts.clear()
    return unique.take(pa.array(indices))
