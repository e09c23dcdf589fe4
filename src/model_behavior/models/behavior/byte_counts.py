"""Which bytes a text has, counted in one pass: what would be a pass of a regular expression for every mark."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_N_BYTES = 256
_WORD = np.zeros(_N_BYTES, dtype=bool)
_WORD[list(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")] = True
_SPACE = np.zeros(_N_BYTES, dtype=bool)
_SPACE[list(b"\t\n\f\r ")] = True
_FULL_STOP = np.zeros(_N_BYTES, dtype=bool)
_FULL_STOP[list(b".!?")] = True


@dataclass(frozen=True, eq=False)
class ByteCounts:
    """What a look at the UTF-8 bytes of texts tells.

    Attributes:
        bytes: how often each byte stands in each text, [n_texts, 256].
        words: runs of ASCII letters, digits and "_" in each, as the expression \\w+ finds them, [n_texts].
        sentences: marks of . ! ? before white space or the end of the text, [n_texts].
    """

    bytes: npt.NDArray[np.int64]
    words: npt.NDArray[np.int64]
    sentences: npt.NDArray[np.int64]

    @property
    def characters(self) -> npt.NDArray[np.int64]:
        """Code points of each text, [n_texts]: all bytes but those that continue one."""
        counts: npt.NDArray[np.int64] = self.bytes.sum(axis=1) - self.bytes[:, 0x80:0xC0].sum(axis=1)
        return counts


def count_bytes(texts: pa.LargeStringArray) -> ByteCounts:
    """Counts; a slice or a null-free column of any length."""
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


def _sum_between(found: npt.NDArray[np.bool_], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    places = np.searchsorted(np.flatnonzero(found), offsets)
    return np.diff(places).astype(np.int64)
