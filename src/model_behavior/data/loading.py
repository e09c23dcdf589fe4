"""Sources of any known format -> votes or responses in columns, with a report of what was left out.

A source is a file, a folder, a dataset, a list of dictionaries or a DataFrame: see `sources.Source`.
"""

from __future__ import annotations

import unicodedata
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa

from model_behavior.data.byte_streams import shorten
from model_behavior.data.formats.records import Record, Response, Row, Skip, Vote, clean_name
from model_behavior.data.linking import Purpose, open_sources
from model_behavior.data.memory_rows import ArrowStream
from model_behavior.data.opening import OpenedSource
from model_behavior.data.reading import AS_IT_IS, ReadingOptions
from model_behavior.data.sources import Source
from model_behavior.data.text_columns import PairBuilder
from model_behavior.data_models.votes import LoadReport, PairTable, SourceReport, TrainingData
from model_behavior.errors import DataError, UsageError

Progress = Callable[[int, int | None], None]

_NAMELESS = "no model name"

UNNAMED = "(unnamed)"
"""Stands for a model whose name nobody gave."""


def load_votes(
    *sources: Source, progress: Progress | None = None, reading: ReadingOptions = AS_IT_IS
) -> tuple[TrainingData, LoadReport]:
    """Votes from files, folders, `hf://` datasets, lists of dictionaries, and DataFrames, in the order given.

    Args:
        sources: each in one of the formats of votes.
        progress: called after every batch with the rows read so far and in all, None where that is not known.
        reading: names of columns and outcomes that the sources have of their own.

    Raises:
        DataError: a source that cannot be read, has no usable row, holds responses rather than votes, or an
            impossible value, such as an unknown outcome; names the file, the row and the value.
        UsageError: no source was given.
    """
    opened = _open_for(sources, "votes", reading)
    for source in opened:
        if source.format.family != "votes":
            raise DataError(
                f"{source.rows.name}: holds {source.format.family} ({source.format.name}), but votes are needed here. "
                f"Fix: leave it out, or load it as {'responses' if source.format.family == 'responses' else 'prompts'}."
            )
    builder = PairBuilder()
    pair_a, pair_b, outcome = array("i"), array("i"), array("b")

    def add(record: Vote | Response) -> None:
        if isinstance(record, Vote):
            pair_a.append(builder.add(record.prompt, record.model_a, record.response_a, record.history_a))
            pair_b.append(builder.add(record.prompt, record.model_b, record.response_b, record.history_b))
            outcome.append(record.outcome)

    sources_read = read_records(opened, OpenedSource.convert, add, progress)
    pairs = builder.finish()
    data = TrainingData(
        pairs=pairs,
        pair_a=np.array(pair_a, dtype=np.int32),
        pair_b=np.array(pair_b, dtype=np.int32),
        outcome=np.array(outcome, dtype=np.int8),
    )
    return data, LoadReport(sources_read, similar_names(pairs.models))


def load_responses(
    *sources: Source,
    model: str | None = None,
    progress: Progress | None = None,
    reading: ReadingOptions = AS_IT_IS,
) -> tuple[PairTable, LoadReport]:
    """Responses from the same kinds of sources; of votes, both sides.

    Args:
        sources: each in one of the formats of responses or of votes.
        model: name of the model that rows without one are of.
        progress: as in `load_votes`.
        reading: as in `load_votes`.

    Raises:
        DataError: as in `load_votes`.
        UsageError: no model is named, or `model` contradicts the file, or no source was given.
    """
    opened = _open_for(sources, "responses", reading)
    name = None if model is None else _clean_option(model)
    for source in opened:
        _check_model_option(source, name)
    builder = PairBuilder()

    def add(record: Vote | Response) -> None:
        if isinstance(record, Response):
            builder.add(record.prompt, record.model or name or "", record.response, record.history)
        else:
            builder.add(record.prompt, record.model_a, record.response_a, record.history_a)
            builder.add(record.prompt, record.model_b, record.response_b, record.history_b)

    def convert(source: OpenedSource, row: Row) -> Record:
        record = source.convert(row)
        for each in record if isinstance(record, tuple) else (record,):
            if isinstance(each, Response) and each.model is not None and name not in (None, each.model):
                raise UsageError(
                    f"the row is of {shorten(each.model)}, but --model {name} was given. Fix: leave --model "
                    "out, or remove the rows of other models."
                )
            if isinstance(each, Response) and not (each.model or name):
                return Skip(_NAMELESS)
        return record

    sources_read = read_records(opened, convert, add, progress)
    pairs = builder.finish()
    return pairs, LoadReport(sources_read, similar_names(pairs.models))


def similar_names(names: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """Groups of names that differ in case, width or invisible characters alone, sorted."""
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        seen = unicodedata.normalize("NFKC", name).casefold()
        visible = "".join(character for character in seen if unicodedata.category(character) != "Cf")
        groups.setdefault(visible, []).append(name)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def as_votes(
    data: TrainingData | Source | Sequence[Source], reading: ReadingOptions = AS_IT_IS
) -> tuple[TrainingData, LoadReport | None]:
    """Votes as they are, without a report, or loaded from one source or several.

    Args:
        data: votes, a source of them, or a list of sources; a list of dictionaries is one source.
        reading: as in `load_votes`.

    Raises:
        DataError: as in `load_votes`.
    """
    return (data, None) if isinstance(data, TrainingData) else load_votes(*as_sources(data), reading=reading)


def as_responses(
    data: PairTable | TrainingData | Source | Sequence[Source],
    model: str | None = None,
    reading: ReadingOptions = AS_IT_IS,
) -> tuple[PairTable, LoadReport | None]:
    """Responses as they are, without a report (of votes, both sides), or loaded from one source or several.

    Args:
        data: responses, votes, a source of either, or a list of sources; a list of dictionaries is one source.
        model: name of the model that rows without one are of; responses as they are have theirs.
        reading: as in `load_votes`.

    Raises:
        DataError: as in `load_responses`.
        UsageError: as in `load_responses`; also responses as they are of other models than `model`.
    """
    if not isinstance(data, PairTable | TrainingData):
        return load_responses(*as_sources(data), model=model, reading=reading)
    pairs = data if isinstance(data, PairTable) else data.pairs
    if model is not None and pairs.models != (_clean_option(model),):
        raise UsageError(
            f"the responses are of {', '.join(pairs.models[:5]) or 'no model'} already, but model={model!r} was given. "
            "Fix: leave model out."
        )
    return pairs, None


def as_anonymous_responses(
    data: PairTable | TrainingData | Source | Sequence[Source], reading: ReadingOptions = AS_IT_IS
) -> tuple[PairTable, LoadReport | None]:
    """`as_responses` where the data may or may not say whose the responses are; if not, they are of `UNNAMED`."""
    try:
        return as_responses(data, reading=reading)
    except UsageError:  # nothing names the model; any other fault is found again
        return as_responses(data, UNNAMED, reading)


def iter_pairs(
    source: Source, batch_rows: int = 1024, part: range | None = None, reading: ReadingOptions = AS_IT_IS
) -> Iterator[tuple[pa.RecordBatch, list[str], list[str]]]:
    """Batches of a responses source with all columns, and each row's prompt and response; rows in order.

    Args:
        source: rows of responses; a folder holds shards of the same columns.
        batch_rows: rows in a batch, at most.
        part: rows to read of a single Parquet file, all by default.
        reading: as in `load_votes`.

    Raises:
        DataError: as in `load_votes`; also a row without prompt or response, and shards of different columns.
    """
    schema: pa.Schema | None = None
    for opened in _open_for((source,), "responses", reading, part):
        rows, known = opened.rows, opened.format
        if known.family != "responses":
            raise DataError(
                f"{rows.name}: holds {known.family} ({known.name}), but one response in a row is needed here, as in "
                "columns prompt and response."
            )
        done = part.start if part is not None else 0
        for batch, records in rows.batches_and_rows(opened.columns, batch_rows):
            schema = schema or batch.schema
            if not schema.equals(batch.schema):
                raise DataError(
                    f"{rows.name}: its columns differ from those of the files before it. Fix: encode it by itself."
                )
            prompts, responses = _pair_texts(records, opened, done)
            yield batch, prompts, responses
            done += batch.num_rows


def _pair_texts(rows: list[dict[str, Any]], opened: OpenedSource, done: int) -> tuple[list[str], list[str]]:
    prompts, responses = [], []
    for number, row in enumerate(rows, done + 1):
        record = _convert_row(row, opened, number, OpenedSource.convert)
        if not isinstance(record, Response):
            reason = record.reason if isinstance(record, Skip) else "several answers"
            raise DataError(
                f"{opened.rows.name}, row {number}: {reason}. Allowed: a prompt and a response in every row. "
                "Fix: remove the row, or write an empty text."
            )
        prompts.append(record.prompt)
        responses.append(record.response)
    return prompts, responses


def as_sources(data: Source | Sequence[Source]) -> Sequence[Source]:
    """One source or several as several; a list of dictionaries is one."""
    if isinstance(data, str | bytes | Path | ArrowStream) or not isinstance(data, Sequence):
        return (data,)
    is_one = not data or any(isinstance(each, Mapping) for each in data)
    return (cast(Source, data),) if is_one else cast(Sequence[Source], data)


def _open_for(
    sources: Sequence[Source], purpose: Purpose, reading: ReadingOptions, part: range | None = None
) -> list[OpenedSource]:
    opened = open_sources(sources, purpose, reading, part)
    for source in opened:
        if source.format.family == "battles":
            raise DataError(
                f"{source.rows.name}: holds battles without texts (columns: {', '.join(source.rows.columns)}), but the "
                f"texts are needed here. Missing: prompt, response_a, response_b. Fix: add them, or name their columns "
                "with --columns response_a=NAME,response_b=NAME; for ratings alone, use load_battles."
            )
    return opened


def _clean_option(model: str) -> str:
    try:
        return clean_name(model, "--model")
    except DataError as error:
        raise UsageError(str(error)) from None


def _check_model_option(source: OpenedSource, model: str | None) -> None:
    known, name = source.format, source.rows.name
    there = {*source.rows.columns, *source.names}
    if known.family == "votes":
        if model is not None:
            raise UsageError(f"{name}: the rows of {known.name} name their models. Fix: leave --model out.")
    elif not (model or known.names_models or any(column in there for column in known.model_columns)):
        raise UsageError(
            f"{name}: no column names the model ({known.name}, columns: {', '.join(source.rows.columns)}). "
            f"Fix: give its name with --model, or add a column {(*known.model_columns, 'model')[0]!r}."
        )


def read_records(
    opened: list[OpenedSource],
    convert: Callable[[OpenedSource, Row], Record],
    add: Callable[[Vote | Response], None],
    progress: Progress | None,
) -> tuple[SourceReport, ...]:
    """Reads sources row by row, and hands over every record that can be used.

    Raises:
        DataError: a source that cannot be read, has no usable row, or an impossible value.
        UsageError: raised by `convert`; names the row.
    """
    sizes = [source.rows.n_rows for source in opened]
    total = None if None in sizes else sum(size or 0 for size in sizes)
    done = 0
    reports: list[SourceReport] = []
    problems: list[DataError | UsageError | None] = []
    judges: set[str] = set()
    for source in opened:

        def keep(row: Row, record: Vote | Response, source: OpenedSource = source) -> None:
            if len(judges) < 2:
                judges.add(source.judge_of(row))
            add(record)

        def advance(n_rows: int, done: int = done) -> None:
            if progress is not None:
                progress(done + n_rows, total)

        n_rows, skipped = _read_source(source, convert, keep, advance)
        done += n_rows
        problems.append(_find_problem(source, n_rows, skipped))
        reports.append(_report(source, n_rows, skipped))
        if problems[-1] is not None and not source.is_part:
            raise problems[-1]
    if problems and problems[0] is not None and all(problems):
        raise problems[0]
    if len(judges) == 1 and "" not in judges:
        note = f"one judge has cast every vote: {shorten(judges.pop())}"
        reports[0] = replace(reports[0], notes=(*reports[0].notes, note))
    return tuple(reports)


def _read_source(
    source: OpenedSource,
    convert: Callable[[OpenedSource, Row], Record],
    keep: Callable[[Row, Vote | Response], None],
    advance: Callable[[int], None],
) -> tuple[int, Counter[str]]:
    """Hands over a row with each of its records; returns the numbers of rows, and of those left out by reason."""
    skipped: Counter[str] = Counter()
    n_rows = 0
    for rows in source.rows.rows(source.columns):
        for number, row in enumerate(rows, n_rows + 1):
            record = _convert_row(row, source, number, convert)
            if isinstance(record, Skip):
                skipped[record.reason] += 1
                continue
            for each in record if isinstance(record, tuple) else (record,):
                keep(row, each)
        n_rows += len(rows)
        advance(n_rows)
    return n_rows, skipped


def _convert_row(row: Row, source: OpenedSource, number: int, convert: Callable[[OpenedSource, Row], Record]) -> Record:
    try:
        return convert(source, row)
    except (DataError, UsageError) as error:
        raise error.reworded(f"{source.rows.name}, row {number}: {error}") from None


def _find_problem(source: OpenedSource, n_rows: int, skipped: Counter[str]) -> DataError | UsageError | None:
    """Why nothing of a source was used; None where something was."""
    name, known = source.rows.name, source.format
    if n_rows == 0:
        return DataError(
            f"{name}: there is no row ({known.name}). Fix: give at least one; a stream can be read once only."
        )
    if n_rows > skipped.total():
        return None
    counts = ", ".join(f"{reason}: {count:,}" for reason, count in sorted(skipped.items()))
    if _NAMELESS in skipped and known.family == "responses":
        return UsageError(
            f"{name}: none of its {n_rows:,} rows names its model ({known.name}; {counts}). Fix: give its name with "
            "--model."
        )
    return DataError(
        f"{name}: none of its {n_rows:,} rows can be used ({known.name}; {counts}). "
        f"Fix: check the columns {', '.join(known.required)}."
    )


def _report(source: OpenedSource, n_rows: int, skipped: Counter[str]) -> SourceReport:
    known, used = source.format, n_rows - skipped.total()
    warnings = (known.warning or "", "" if used else "none of its rows can be used")
    shown = tuple(warning for warning in warnings if warning)
    return SourceReport(source.rows.name, known.name, n_rows, used, dict(sorted(skipped.items())), shown, source.notes)
