"""Token lists of any length to padded batches that waste little."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

TokenArray = npt.NDArray[np.int64]


def plan_batches(
    token_ids: Sequence[TokenArray], max_rows: int, max_tokens: int | None = None
) -> Iterator[npt.NDArray[np.int64]]:
    """Rows of each batch, longest texts first, so that a batch has texts of like length.

    Args:
        token_ids: of each text, [n_texts].
        max_rows: texts in a batch, at most.
        max_tokens: rows times the longest of them, at most; a longer text is a batch by itself. None for no limit.
    """
    lengths = np.array([len(ids) for ids in token_ids], dtype=np.int64)
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        longest = max(int(lengths[order[start]]), 1)
        rows = max_rows if max_tokens is None else max(1, min(max_rows, max_tokens // longest))
        yield order[start : start + rows]
        start += rows


def pad(token_ids: Sequence[TokenArray], padding: int) -> tuple[TokenArray, TokenArray]:
    """Token ids with `padding` at the end, and a mask of 1 for a token and 0 for padding; [n_texts, longest] both."""
    lengths = np.array([len(ids) for ids in token_ids])
    mask = np.arange(lengths.max())[None, :] < lengths[:, None]
    ids = np.full(mask.shape, padding, dtype=np.int64)
    ids[mask] = np.concatenate(token_ids)
    return ids, mask.astype(np.int64)
