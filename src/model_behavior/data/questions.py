"""Reads prompts, and matchups (a prompt and two models), from files and tables.

Sources may be in any format of votes or responses, or plain tables: one column is enough for prompts, three for
matchups.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from model_behavior.data.formats.detection import detect_format
from model_behavior.data.formats.records import Format, Row, Skip, Vote, model_name
from model_behavior.data.formats.tables import PLAIN, PPE
from model_behavior.data.formats.turns import parse_text
from model_behavior.data.memory_rows import describe_rows
from model_behavior.data.sources import RowSource, Source, expand_sources, open_rows
from model_behavior.data_models.votes import LoadReport, SourceReport
from model_behavior.errors import DataError

_PROMPT = "prompt"
MATCHUP_COLUMNS = (_PROMPT, "model_a", "model_b")


@dataclass(frozen=True)
class Matchup:
    """A prompt and the names of two models."""

    prompt: str
    model_a: str
    model_b: str


def load_prompts(source: Source) -> tuple[list[str], LoadReport]:
    """One prompt per row, in order. Repeated prompts stay, since traffic repeats itself.

    Args:
        source: a text file (.txt, one prompt per line), a table with a column `prompt`, or any format of votes or
            responses, of which the last user turn is the prompt.

    Raises:
        DataError: the source cannot be read, or has no usable prompt.
    """
    prompts: list[str] = []
    reports = []
    for each in expand_sources(source):
        if isinstance(each, str | Path) and str(each).lower().endswith(".txt"):
            found, report = _read_lines(Path(each))
        else:
            found, report = _read_rows(open_rows(each))
        prompts += found
        reports.append(report)
    if not prompts:
        name = source if isinstance(source, str | Path) else describe_rows(source)
        raise DataError(f"{name}: no prompt in it. Allowed: .txt with one per line, or a column {_PROMPT!r}")
    return prompts, LoadReport(tuple(reports))


def iter_matchups(
    source: Source, batch_rows: int = 4096, part: range | None = None
) -> Iterator[tuple[pa.RecordBatch, list[Matchup | None]]]:
    """Batches of a source with all columns, and the matchup of each row; None for a row without a prompt or a name.

    A table needs the columns prompt, model_a and model_b only; others are ignored. Any other format of votes is read as
    for training, so a row that could not be trained on (without an outcome, say) is None, too.

    Args:
        source: rows of votes; a folder holds shards of the same columns.
        batch_rows: most rows of a batch.
        part: rows to read of a single Parquet file, all by default.

    Raises:
        DataError: the source cannot be read or holds no votes, or its shards have different columns.
    """
    schema: pa.Schema | None = None
    for each in expand_sources(source):
        rows = open_rows(each, part)
        known = _format_of_matchups(rows)
        done = part.start if part is not None else 0
        for batch in rows.batches(batch_rows=batch_rows):
            schema = schema or batch.schema
            if not schema.equals(batch.schema):
                raise DataError(
                    f"{rows.name}: its columns differ from those of the files before it. Fix: predict it by itself."
                )
            wanted = MATCHUP_COLUMNS if known is None else known.columns_in(rows.columns)
            records = batch.select(list(wanted)).to_pylist()
            yield batch, [_read_matchup(row, known, rows, number) for number, row in enumerate(records, done + 1)]
            done += batch.num_rows


def _read_lines(path: Path) -> tuple[list[str], SourceReport]:
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {error}. Fix: name a text file in UTF-8") from error
    prompts = [line.strip() for line in lines if line.strip()]
    return prompts, _report(str(path), "text, one prompt per line", len(lines), len(prompts), "empty")


def _read_rows(rows: RowSource) -> tuple[list[str], SourceReport]:
    known = _format_of(rows, (_PROMPT,), f"A column {_PROMPT!r} would do for prompts.")
    columns = [_PROMPT] if known is None else known.columns_in(rows.columns)
    prompts, n_rows = [], 0
    for batch in rows.rows(columns):
        for number, row in enumerate(batch, n_rows + 1):
            try:
                prompt = _read_prompt(row, known)
            except DataError as error:
                raise DataError(f"{rows.name}, row {number}: {error}") from None
            if prompt is not None and prompt.strip():
                prompts.append(prompt)
        n_rows += len(batch)
    name = "prompts" if known is None else known.name
    return prompts, _report(rows.name, name, n_rows, len(prompts), "no prompt, or unusable")


def _read_prompt(row: Row, known: Format | None) -> str | None:
    if known is None:
        return parse_text(row.get(_PROMPT), _PROMPT)
    record = known.convert(row)
    return None if isinstance(record, Skip) else record.prompt


def _read_matchup(row: Row, known: Format | None, rows: RowSource, number: int) -> Matchup | None:
    try:
        if known is not None:
            record = known.convert(row)
            return Matchup(record.prompt, record.model_a, record.model_b) if isinstance(record, Vote) else None
        prompt = parse_text(row[_PROMPT], _PROMPT)
        model_a, model_b = (model_name(row[column], column) for column in MATCHUP_COLUMNS[1:])
    except DataError as error:
        raise DataError(f"{rows.name}, row {number}: {error}") from None
    if prompt is None or model_a is None or model_b is None:
        return None
    return Matchup(prompt, model_a, model_b)


def _format_of_matchups(rows: RowSource) -> Format | None:
    """The format of votes; None for a table with the three columns of matchups, whatever else is in it."""
    known = _format_of(rows, MATCHUP_COLUMNS, f"To predict, at least: {', '.join(MATCHUP_COLUMNS)}.")
    if known is None or (known.family == "votes" and known not in (PLAIN, PPE)):
        return known
    if set(MATCHUP_COLUMNS) <= set(rows.columns):
        return None
    raise DataError(
        f"{rows.name}: holds responses ({known.name}), but votes are needed here: at least "
        f"{', '.join(MATCHUP_COLUMNS)}."
    )


def _format_of(rows: RowSource, enough: Sequence[str], hint: str) -> Format | None:
    """The format of a source; None for a plain table with the columns in `enough`.

    Raises:
        DataError: the source has neither; the message ends with the hint.
    """
    try:
        return detect_format(rows.columns)
    except DataError as error:
        if set(enough) <= set(rows.columns):
            return None
        raise DataError(f"{rows.name}: {error} {hint}") from None


def _report(source: str, name: str, n_rows: int, n_used: int, reason: str) -> SourceReport:
    skipped = {reason: n_rows - n_used} if n_rows > n_used else {}
    return SourceReport(source, name, n_rows, n_used, skipped)
