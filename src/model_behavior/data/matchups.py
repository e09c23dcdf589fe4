"""Who meets whom on which prompt, from any source of votes, whether or not it says who won."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from model_behavior.data.formats.detection import detect_format
from model_behavior.data.formats.records import Format, Row, Vote, model_name
from model_behavior.data.formats.tables import PLAIN, PPE
from model_behavior.data.formats.turns import parse_text
from model_behavior.data.sources import RowSource, expand_sources, open_rows
from model_behavior.errors import DataError

COLUMNS = ("prompt", "model_a", "model_b")


@dataclass(frozen=True)
class Matchup:
    """A prompt and the names of two models."""

    prompt: str
    model_a: str
    model_b: str


def iter_matchups(
    source: str | Path, batch_rows: int = 4096, part: range | None = None
) -> Iterator[tuple[pa.RecordBatch, list[Matchup | None]]]:
    """Batches of a source with all columns, and what each row asks; None for a row that lacks a prompt or a name.

    A table needs the columns prompt, model_a and model_b only, and no other counts. Any other format of votes is read
    as for training, so that a row which could not be trained on (without an outcome or an answer, say) is None too.

    Args:
        source: a file, a folder of shards, or `hf://owner/name`.
        batch_rows: rows in a batch, at most.
        part: rows to read of a single Parquet file, all by default.

    Raises:
        DataError: a source that cannot be read, or is none of votes, or shards of different columns.
    """
    schema: pa.Schema | None = None
    for path in expand_sources(source):
        rows = open_rows(path, part)
        known = _format_of(rows)
        done = part.start if part is not None else 0
        for batch in rows.batches(batch_rows=batch_rows):
            schema = schema or batch.schema
            if not schema.equals(batch.schema):
                raise DataError(
                    f"{rows.name}: its columns differ from those of the files before it. Fix: predict it by itself."
                )
            wanted = COLUMNS if known is None else known.columns_in(rows.columns)
            records = batch.select(list(wanted)).to_pylist()
            yield batch, [_read(row, known, rows, number) for number, row in enumerate(records, done + 1)]
            done += batch.num_rows


def _format_of(rows: RowSource) -> Format | None:
    """None for a table whose three columns are enough."""
    flat = set(COLUMNS) <= set(rows.columns)
    try:
        known = detect_format(rows.columns)
    except DataError as error:
        if flat:
            return None
        raise DataError(f"{rows.name}: {error} To predict, at least: {', '.join(COLUMNS)}.") from None
    if flat and (known in (PLAIN, PPE) or known.family != "votes"):
        return None
    if known.family != "votes":
        raise DataError(
            f"{rows.name}: holds responses ({known.name}), but votes are needed here: at least {', '.join(COLUMNS)}."
        )
    return known


def _read(row: Row, known: Format | None, rows: RowSource, number: int) -> Matchup | None:
    try:
        if known is not None:
            record = known.convert(row)
            return Matchup(record.prompt, record.model_a, record.model_b) if isinstance(record, Vote) else None
        prompt = parse_text(row["prompt"], "prompt")
        model_a, model_b = (model_name(row[column], column) for column in COLUMNS[1:])
    except DataError as error:
        raise DataError(f"{rows.name}, row {number}: {error}") from None
    if prompt is None or model_a is None or model_b is None:
        return None
    return Matchup(prompt, model_a, model_b)
