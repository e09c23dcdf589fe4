"""Reads prompts, and matchups (a prompt and two models), from files and tables.

Sources may be in any format of votes or responses, or plain tables: one column is enough for prompts, three for
matchups.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from model_behavior.data.formats.records import Format, Record, Response, Row, Skip, Vote, model_name
from model_behavior.data.formats.tables import PLAIN, PPE
from model_behavior.data.formats.turns import parse_column
from model_behavior.data.linking import link_sources, open_files
from model_behavior.data.memory_rows import describe_rows
from model_behavior.data.opening import OpenedSource, open_source
from model_behavior.data.reading import AS_IT_IS, ReadingOptions
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


def load_prompts(source: Source, reading: ReadingOptions = AS_IT_IS) -> tuple[list[str], LoadReport]:
    """`load_prompt_rows` without the rows that have no prompt.

    Raises:
        DataError: see there.
    """
    rows, report = load_prompt_rows(source, reading)
    return [prompt for prompt in rows if prompt is not None], report


def load_prompt_rows(source: Source, reading: ReadingOptions = AS_IT_IS) -> tuple[list[str | None], LoadReport]:
    """One prompt per row, in order and as often as they are there, since traffic repeats itself.

    Args:
        source: a text file (.txt, one prompt per line), a table with a column `prompt`, or any format of votes or
            responses, of which the last user turn counts; a folder of a benchmark gives its questions.
        reading: names of columns that the source has of its own.

    Returns:
        None for a row that has no prompt or an unusable one; empty lines of a text file are no rows.

    Raises:
        DataError: the source cannot be read, or has no usable prompt.
    """
    prompts: list[str | None] = []
    reports = []
    for each in _open_for_prompts(source, reading):
        if isinstance(each, Path):
            lines, report = _read_lines(each)
            prompts += lines
        else:
            found, report = _read_rows(each)
            prompts += found
        reports.append(report)
    if all(prompt is None for prompt in prompts):
        name = source if isinstance(source, str | Path) else describe_rows(source)
        raise DataError(f"{name}: no prompt in it. Allowed: .txt with one per line, or a column {_PROMPT!r}")
    return prompts, LoadReport(tuple(reports))


def iter_matchups(
    source: Source, batch_rows: int = 4096, part: range | None = None, reading: ReadingOptions = AS_IT_IS
) -> Iterator[tuple[pa.RecordBatch, list[Matchup | None]]]:
    """Batches of a source with all columns, and the matchup of each row; None for a row without a prompt or a name.

    A table needs the columns prompt, model_a and model_b only; others are ignored. Any other format of votes is read as
    for training, so a row that could not be trained on (without an outcome, say) is None, too.

    Args:
        source: rows of votes; a folder holds shards of the same columns.
        batch_rows: most rows of a batch.
        part: rows to read of a single Parquet file, all by default.
        reading: as in `load_prompts`.

    Raises:
        DataError: the source cannot be read or holds no votes, or its shards have different columns.
    """
    schema: pa.Schema | None = None
    for each in expand_sources(source):
        opened = _open_matchups(open_rows(each, part), reading)
        rows = opened.rows
        done = part.start if part is not None else 0
        for batch, records in rows.batches_and_rows(opened.columns, batch_rows):
            schema = schema or batch.schema
            if not schema.equals(batch.schema):
                raise DataError(
                    f"{rows.name}: its columns differ from those of the files before it. Fix: predict it by itself."
                )
            yield batch, [_read_matchup(row, opened, number) for number, row in enumerate(records, done + 1)]
            done += batch.num_rows


def _read_lines(path: Path) -> tuple[list[str], SourceReport]:
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {error}. Fix: name a text file in UTF-8") from error
    prompts = [line.strip() for line in lines if line.strip()]
    return prompts, _report(str(path), "text, one prompt per line", len(lines), len(prompts), "empty")


def _open_for_prompts(source: Source, reading: ReadingOptions) -> list[Path | OpenedSource]:
    expanded = expand_sources(source)
    texts: list[Path | OpenedSource] = [Path(str(each)) for each in expanded if _is_text(each)]
    hint = f" A column {_PROMPT!r} would do for prompts."
    others = [each for each in expanded if not _is_text(each)]
    opened, _ = open_files(others, lambda each: _open(open_rows(each), (_PROMPT,), hint, reading))
    return [*texts, *(link_sources(opened, "prompts", reading) if opened else [])]


def _is_text(source: Source) -> bool:
    return isinstance(source, str | Path) and str(source).lower().endswith(".txt")


def _read_rows(opened: OpenedSource) -> tuple[list[str | None], SourceReport]:
    prompts: list[str | None] = []
    without: list[int] = []
    n_rows = 0
    for batch in opened.rows.rows(opened.columns):
        for number, row in enumerate(batch, n_rows + 1):
            try:
                found = _read_prompts(opened.convert(row))
            except DataError as error:
                raise DataError(f"{opened.rows.name}, row {number}: {error}") from None
            usable = [prompt for prompt in found if prompt.strip()]
            prompts += usable or [None]
            if not usable:
                without.append(number)
        n_rows += len(batch)
    reason = f"no prompt, or unusable (first: row {without[0]})" if without else ""
    return prompts, _report(opened.rows.name, opened.format.name, n_rows, n_rows - len(without), reason)


def _read_prompts(record: Record) -> list[str]:
    if isinstance(record, Skip):
        return []
    return [record.prompt] if not isinstance(record, tuple) else list(dict.fromkeys(each.prompt for each in record))


def _read_matchup(row: Row, opened: OpenedSource, number: int) -> Matchup | None:
    place = f"{opened.rows.name}, row {number}"
    try:
        record = opened.convert(row)
        if opened.format is _MATCHUPS:
            return _matchup_of(opened.view(row))
    except DataError as error:
        raise DataError(f"{place}: {error}") from None
    if isinstance(record, tuple):
        raise DataError(
            f"{place}: holds several votes ({opened.format.name}), but one is predicted for each row. Fix: write one "
            f"row for each, with the columns {', '.join(MATCHUP_COLUMNS)}."
        )
    return Matchup(record.prompt, record.model_a, record.model_b) if isinstance(record, Vote) else None


def _matchup_of(row: Row) -> Matchup | None:
    prompt = parse_column(row.get(_PROMPT), _PROMPT)
    model_a, model_b = (model_name(row.get(column), column) for column in MATCHUP_COLUMNS[1:])
    return None if prompt is None or model_a is None or model_b is None else Matchup(prompt, model_a, model_b)


def _convert_prompt(row: Row) -> Record:
    prompt = parse_column(row.get(_PROMPT), _PROMPT)
    return Skip("no prompt") if prompt is None else Response(prompt, "", "", None)


def _convert_matchup(row: Row) -> Record:
    return Skip("a matchup") if row else Skip("nothing")


_PROMPTS = Format("prompts", "questions", (_PROMPT,), _convert_prompt)
_MATCHUPS = Format("matchups", "questions", MATCHUP_COLUMNS, _convert_matchup)


def _open_matchups(rows: RowSource, reading: ReadingOptions) -> OpenedSource:
    """As matchups where the three columns are there, whatever else is, unless another format reads the prompt anew."""
    hint = f" To predict, at least: {', '.join(MATCHUP_COLUMNS)}."
    opened = _open(rows, MATCHUP_COLUMNS, hint, reading)
    known = opened.format
    if known.needs is not None:
        raise DataError(
            f"{rows.name}: holds {known.name}, whose texts are in other files, but each row needs its own here. Fix: "
            f"write one row for each prediction, with the columns {', '.join(MATCHUP_COLUMNS)}."
        )
    if known is _MATCHUPS or (known.family == "votes" and known not in (PLAIN, PPE)):
        return opened
    if set(MATCHUP_COLUMNS) <= {*rows.columns, *opened.names}:
        return replace(opened, format=_MATCHUPS)
    raise DataError(
        f"{rows.name}: holds {known.family} ({known.name}), but votes are needed here: at least "
        f"{', '.join(MATCHUP_COLUMNS)}."
    )


def _open(rows: RowSource, enough: Sequence[str], hint: str, reading: ReadingOptions) -> OpenedSource:
    """A source with its format; where it has none, but the columns that are enough, with that of these.

    Raises:
        DataError: the source has neither; the message ends with the hint.
    """
    try:
        return open_source(rows, reading, also=_PROMPTS if len(enough) == 1 else _MATCHUPS)
    except DataError as error:
        raise error.reworded(f"{error}{hint}") from None


def _report(source: str, name: str, n_rows: int, n_used: int, reason: str) -> SourceReport:
    skipped = {reason: n_rows - n_used} if n_rows > n_used else {}
    return SourceReport(source, name, n_rows, n_used, skipped)
