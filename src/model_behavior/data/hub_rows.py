"""Rows of Hugging Face datasets, streamed. Needs the optional dependency `datasets`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from model_behavior.data.byte_streams import shorten
from model_behavior.errors import DataError, MissingExtraError

HUB_PREFIX = "hf://"


def open_hub_dataset(source: str) -> tuple[Any, tuple[str, ...]]:
    """The streaming dataset and its columns.

    Args:
        source: address, "hf://owner/name", "hf://owner/name@split" or "hf:///folder/with/data/files"; without a split,
            "train" or the only one.

    Raises:
        MissingExtraError: `datasets` is not installed.
        DataError: there is no such dataset or split, or it has no rows.
    """
    try:
        import datasets
    except ImportError:
        raise MissingExtraError(f"Reading {source}", "hub") from None
    name, _, split = source.removeprefix(HUB_PREFIX).partition("@")
    if not name:
        raise DataError(f"{source}: names no dataset. Allowed: hf://owner/name or hf://owner/name@split.")
    try:
        splits = datasets.load_dataset(name, streaming=True)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"{source}: the dataset cannot be opened ({shorten(str(error), 200)}). Fix: check the name and "
            "the connection; for a gated dataset, accept its terms and run `hf auth login`."
        ) from error
    dataset = splits[_choose_split(source, split, [str(found) for found in splits])]
    columns = dataset.column_names
    if columns is None:
        first = next(iterate_hub_batches(source, dataset, None, 1), None)
        columns = [] if first is None else first.schema.names
    if not columns:
        raise DataError(f"{source}: the split holds no rows.")
    return dataset, tuple(columns)


def _choose_split(source: str, wanted: str, found: list[str]) -> str:
    choice = wanted or ("train" if "train" in found else found[0])
    if choice not in found:
        raise DataError(f"{source}: there is no split {choice!r}. Allowed: {', '.join(found)}.")
    if not wanted and choice != "train" and len(found) > 1:
        raise DataError(
            f"{source}: several splits and none called train: {', '.join(found)}. "
            f"Fix: name one, as in {source}@{found[0]}."
        )
    return choice


def iterate_hub_batches(
    source: str, dataset: Any, columns: Sequence[str] | None, batch_rows: int
) -> Iterator[pa.RecordBatch]:
    """Record batches of at most `batch_rows` rows, in order.

    Raises:
        DataError: the rows cannot be fetched or decoded.
    """
    chosen = dataset if columns is None else dataset.select_columns(list(columns))
    try:
        for table in chosen.with_format("arrow").iter(batch_rows):
            yield from table.combine_chunks().to_batches()
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"{source}: the rows cannot be read ({shorten(str(error), 200)}).") from error
