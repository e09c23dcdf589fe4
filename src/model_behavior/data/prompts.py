"""Prompts alone, from text files, tables, and every format of votes or responses."""

from __future__ import annotations

from pathlib import Path

from model_behavior.data.formats.detection import detect_format
from model_behavior.data.formats.records import Format, Row, Skip
from model_behavior.data.formats.turns import parse_text
from model_behavior.data.sources import RowSource, expand_sources, open_rows
from model_behavior.data_models.reports import LoadReport, SourceReport
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
    known = _format_of(rows)
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


def _format_of(rows: RowSource) -> Format | None:
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
