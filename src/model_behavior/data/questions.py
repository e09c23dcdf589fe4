"""Prompts alone, from text files, tables, and every format of votes or responses.

Who meets whom on which prompt, from any source of votes, whether or not it says who won.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from model_behavior.data.formats.detection import detect_format
from model_behavior.data.formats.records import Format, Row, Skip, Vote, model_name
from model_behavior.data.formats.tables import PLAIN, PPE
from model_behavior.data.formats.turns import parse_text
from model_behavior.data.sources import RowSource, expand_sources, open_rows
from model_behavior.data_models.votes import LoadReport, SourceReport
from model_behavior.errors import DataError

_COLUMN = "prompt"


def load_prompts(source: str | Path) -> tuple[list[str], LoadReport]:
    """One prompt per row, in order and as often as they are there, since traffic repeats itself.

    Args:
        source: a text file (.txt, one prompt per line), a table with a column `prompt`, or a file, folder or
            `hf://owner/name` in any format of votes or responses, of which the last user turn counts.

    Raises:
        DataError: it cannot be read, or has no usable prompt.
    """
    prompts: list[str] = []
    reports = []
    for each in expand_sources(source):
        found, report = _read_lines(Path(each)) if str(each).lower().endswith(".txt") else _read_rows(open_rows(each))
        prompts += found
        reports.append(report)
    if not prompts:
        raise DataError(f"{source}: no prompt in it. Allowed: .txt with one per line, or a column {_COLUMN!r}")
    return prompts, LoadReport(tuple(reports))


def _read_lines(path: Path) -> tuple[list[str], SourceReport]:
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {error}. Fix: name a text file in UTF-8") from error
    prompts = [line.strip() for line in lines if line.strip()]
    return prompts, _report(str(path), "text, one prompt per line", len(lines), len(prompts), "empty")


def _read_rows(rows: RowSource) -> tuple[list[str], SourceReport]:
    known = _format_of_prompts(rows)
    columns = [_COLUMN] if known is None else known.columns_in(rows.columns)
    prompts, n_rows = [], 0
    for batch in rows.rows(columns):
        for number, row in enumerate(batch, n_rows + 1):
            try:
                prompt = _prompt_of(row, known)
            except DataError as error:
                raise DataError(f"{rows.name}, row {number}: {error}") from None
            if prompt is not None and prompt.strip():
                prompts.append(prompt)
        n_rows += len(batch)
    name = "prompts" if known is None else known.name
    return prompts, _report(rows.name, name, n_rows, len(prompts), "no prompt, or unusable")


def _format_of_prompts(rows: RowSource) -> Format | None:
    try:
        return detect_format(rows.columns)
    except DataError as error:
        if _COLUMN in rows.columns:
            return None
        raise DataError(f"{rows.name}: {error} A column {_COLUMN!r} would do for prompts.") from None


def _prompt_of(row: Row, known: Format | None) -> str | None:
    if known is None:
        return parse_text(row.get(_COLUMN), _COLUMN)
    record = known.convert(row)
    return None if isinstance(record, Skip) else record.prompt


def _report(source: str, name: str, n_rows: int, n_used: int, reason: str) -> SourceReport:
    skipped = {reason: n_rows - n_used} if n_rows > n_used else {}
    return SourceReport(source, name, n_rows, n_used, skipped)


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
        known = _format_of_matchups(rows)
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


def _format_of_matchups(rows: RowSource) -> Format | None:
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
