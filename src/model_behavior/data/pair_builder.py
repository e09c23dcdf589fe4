"""Builds a `PairTable` row by row; every pair is held once, as UTF-8 bytes."""

from __future__ import annotations

from array import array
from hashlib import blake2b

import numpy as np

from model_behavior.data.byte_streams import replace_surrogates
from model_behavior.data.text_columns import TextColumnBuilder
from model_behavior.data_models.votes import PairTable


class PairBuilder:
    """Collects pairs; memory grows with unique pairs, not with rows, and each text is in it once.

    Prompts and pairs are told apart by 16-byte BLAKE2b digests; among 10^9 the chance that any two share one is below
    10^-20.
    """

    def __init__(self) -> None:
        self._prompt_ids: dict[bytes, int] = {}
        self._pair_ids: dict[bytes, int] = {}
        self._models: dict[str, int] = {}
        self._prompts, self._responses, self._histories = (TextColumnBuilder() for _ in range(3))
        self._prompt_index, self._model_index = array("i"), array("i")

    def add(self, prompt: str, model: str, response: str, history: str) -> int:
        """The index of the pair, which is new or known."""
        question, answer, turns = _encode(prompt), _encode(response), _encode(history)
        asked = self._prompt_ids.setdefault(_digest(question), len(self._prompts))
        if asked == len(self._prompts):
            self._prompts.append(question)
        by = self._models.setdefault(model, len(self._models))
        key = _digest(b"%d %d %d " % (asked, by, len(turns)) + turns + answer)
        pair = self._pair_ids.setdefault(key, len(self._responses))
        if pair == len(self._responses):
            self._responses.append(answer)
            self._histories.append(turns)
            self._prompt_index.append(asked)
            self._model_index.append(by)
        return pair

    def finish(self) -> PairTable:
        """The table. Models are sorted by name; prompts and pairs keep the order in which they came."""
        self._pair_ids.clear()
        self._prompt_ids.clear()
        names = sorted(self._models)
        rank = np.zeros(len(names), dtype=np.int32)
        for new, name in enumerate(names):
            rank[self._models[name]] = new
        return PairTable(
            prompts=self._prompts.finish(),
            models=tuple(replace_surrogates(name) for name in names),
            responses=self._responses.finish(),
            histories=self._histories.finish(),
            prompt_index=np.array(self._prompt_index, dtype=np.int32),
            model_index=rank[np.array(self._model_index, dtype=np.int32)],
        )


def _digest(text: bytes) -> bytes:
    return blake2b(text, digest_size=16).digest()


def _encode(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        return replace_surrogates(text).encode()
