"""Columns of text, built in one growing buffer and read a few texts at a time, so that memory holds one copy.

Texts are held as UTF-8 bytes. `PairBuilder` builds a `PairTable` row by row, with every prompt and every pair once.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import final, overload

import numpy as np
import pyarrow as pa

from model_behavior.arrays import BoolArray, Int64Array, IntArray
from model_behavior.data.byte_streams import replace_surrogates
from model_behavior.data.canonical_text import is_empty_response
from model_behavior.data_models.votes import PairTable

_READ_AT_ONCE = 4096


@final
class TextColumnBuilder:
    """Builds a column of texts in one growing buffer, which becomes the column without a copy."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._ends = array("q", [0])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def append(self, text: bytes) -> None:
        """Adds one text in UTF-8."""
        self._bytes += text
        self._ends.append(len(self._bytes))

    def finish(self) -> pa.LargeStringArray:
        """The column, [n_texts]. Nothing can be added after it."""
        return pa.LargeStringArray.from_buffers(len(self), pa.py_buffer(self._ends), pa.py_buffer(self._bytes))


@final
class PairBuilder:
    """Collects unique pairs; memory grows with unique pairs, not with rows.

    Prompts and pairs are compared by 16-byte BLAKE2b digests; among 10^9 the chance that any two share one is below
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


@final
class LazyTexts(Sequence[str]):
    """A column of text as a sequence of str, each decoded on access.

    Args:
        column: column of texts.
        index: rows of the column, in order, [n_texts]; all by default.
    """

    def __init__(self, column: pa.LargeStringArray, index: IntArray | None = None) -> None:
        self._column = column
        self._index = index

    def __len__(self) -> int:
        return len(self._column) if self._index is None else len(self._index)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            rows = self._column[place] if self._index is None else self._column.take(pa.array(self._index[place]))
            texts: list[str] = rows.to_pylist()
            return texts
        text: str = self._column[place if self._index is None else int(self._index[place])].as_py()
        return text

    def __iter__(self) -> Iterator[str]:
        for part in parts_of(len(self)):
            yield from self[part]


def parts_of(n_rows: int, rows_at_once: int = _READ_AT_ONCE) -> Iterator[slice]:
    """Consecutive parts of at most `rows_at_once` rows."""
    return (slice(start, min(start + rows_at_once, n_rows)) for start in range(0, n_rows, rows_at_once))


def is_blank(column: pa.LargeStringArray) -> BoolArray:
    """True for each text of which nothing is left in its canonical form, [n_texts]."""
    return np.fromiter(map(is_empty_response, LazyTexts(column)), np.bool_, len(column))


def take_texts(column: pa.LargeStringArray, rows: IntArray) -> pa.LargeStringArray:
    """The texts at `rows`; the column itself where these are all of them, in order."""
    return column if np.array_equal(rows, np.arange(len(column))) else column.take(pa.array(rows))


def text_ids(column: pa.LargeStringArray) -> Int64Array:
    """One id per text, equal for equal texts, in order of first appearance, [n_texts].

    Texts are compared by 16-byte BLAKE2b digests, so memory grows with their number and not with their length; among
    10^9 texts the chance that any two share one is below 10^-20.
    """
    known: dict[bytes, int] = {}
    ids = np.empty(len(column), dtype=np.int64)
    for part in parts_of(len(column)):
        raw = column[part].cast(pa.large_binary()).to_pylist()
        ids[part] = [known.setdefault(blake2b(text, digest_size=16).digest(), len(known)) for text in raw]
    return ids


def _digest(text: bytes) -> bytes:
    return blake2b(text, digest_size=16).digest()


def _encode(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        return replace_surrogates(text).encode()
