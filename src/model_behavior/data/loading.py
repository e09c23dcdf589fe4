"""Sources of any known format -> votes or responses in columns, with a report of what was left out.

A source is a file, a folder, a dataset, a list of dictionaries or a DataFrame: see `sources.Source`.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa

from model_behavior.data.byte_streams import shorten
from model_behavior.data.formats.detection import detect_format
from model_behavior.data.formats.records import Format, Response, Row, Skip, Vote
from model_behavior.data.memory_rows import ArrowStream
from model_behavior.data.sources import RowSource, Source, expand_sources, open_rows
from model_behavior.data.text_columns import PairBuilder
from model_behavior.data_models.votes import LoadReport, PairTable, SourceReport, TrainingData
from model_behavior.errors import DataError, UsageError

Progress = Callable[[int, int | None], None]
Record = Vote | Response | Skip

UNNAMED = "(unnamed)"
"""Stands for a model whose name nobody gave."""


@dataclass(frozen=True)
class _OpenedSource:
    rows: RowSource
    format: Format


def load_votes(*sources: Source, progress: Progress | None = None) -> tuple[TrainingData, LoadReport]:
    """Votes from files, folders, `hf://` datasets, lists of dictionaries, and DataFrames, in the order given.

    Args:
        sources: each in one of the formats of votes.
        progress: called after every batch with the rows read so far and in all, None where that is not known.

    Raises:
        DataError: a source that cannot be read, has no usable row, holds responses rather than votes, or an
            impossible value, such as an unknown outcome; names the file, the row and the value.
        UsageError: no source was given.
    """
    opened = _open_sources(sources)
    for source in opened:
        if source.format.family != "votes":
            raise DataError(
                f"{source.rows.name}: holds responses ({source.format.name}), but votes are needed here. "
                "Fix: leave it out, or load it as responses."
            )
    builder = PairBuilder()
    pair_a, pair_b, outcome = array("i"), array("i"), array("b")

    def add(record: Vote | Response) -> None:
        if isinstance(record, Vote):
            pair_a.append(builder.add(record.prompt, record.model_a, record.response_a, record.history_a))
            pair_b.append(builder.add(record.prompt, record.model_b, record.response_b, record.history_b))
            outcome.append(record.outcome)

    report = _read_sources(opened, _convert_as_is, add, progress)
    data = TrainingData(
        pairs=builder.finish(),
        pair_a=np.array(pair_a, dtype=np.int32),
        pair_b=np.array(pair_b, dtype=np.int32),
        outcome=np.array(outcome, dtype=np.int8),
    )
    return data, report


def load_responses(
    *sources: Source, model: str | None = None, progress: Progress | None = None
) -> tuple[PairTable, LoadReport]:
    """Responses from the same kinds of sources; of votes, both sides.

    Args:
        sources: each in one of the formats of responses or of votes.
        model: name of the model that rows without one are of.
        progress: as in `load_votes`.

    Raises:
        DataError: as in `load_votes`.
        UsageError: no model is named, or `model` contradicts the file, or no source was given.
    """
    opened = _open_sources(sources)
    name = None if model is None else model.strip()
    for source in opened:
        _check_model_option(source, name)
    builder = PairBuilder()

    def add(record: Vote | Response) -> None:
        if isinstance(record, Response):
            builder.add(record.prompt, record.model or name or "", record.response, record.history)
        else:
            builder.add(record.prompt, record.model_a, record.response_a, record.history_a)
            builder.add(record.prompt, record.model_b, record.response_b, record.history_b)

    def convert(row: Row, known: Format) -> Record:
        record = known.convert(row)
        if not isinstance(record, Response):
            return record
        if record.model is not None and name not in (None, record.model):
            raise UsageError(
                f"the row is of {shorten(record.model)}, but --model {name} was given. Fix: leave --model "
                "out, or remove the rows of other models."
            )
        return record if record.model or name else Skip("no model name")

    report = _read_sources(opened, convert, add, progress)
    return builder.finish(), report


def as_votes(data: TrainingData | Source | Sequence[Source]) -> tuple[TrainingData, LoadReport | None]:
    """Votes as they are, without a report, or loaded from one source or several.

    Args:
        data: votes, a source of them, or a list of sources; a list of dictionaries is one source.

    Raises:
        DataError: as in `load_votes`.
    """
    return (data, None) if isinstance(data, TrainingData) else load_votes(*_as_sources(data))


def as_responses(
    data: PairTable | TrainingData | Source | Sequence[Source], model: str | None = None
) -> tuple[PairTable, LoadReport | None]:
    """Responses as they are, without a report (of votes, both sides), or loaded from one source or several.

    Args:
        data: responses, votes, a source of either, or a list of sources; a list of dictionaries is one source.
        model: name of the model that rows without one are of; responses as they are have theirs.

    Raises:
        DataError: as in `load_responses`.
        UsageError: as in `load_responses`; also responses as they are of other models than `model`.
    """
    if not isinstance(data, PairTable | TrainingData):
        return load_responses(*_as_sources(data), model=model)
    pairs = data if isinstance(data, PairTable) else data.pairs
    if model is not None and pairs.models != (model.strip(),):
        raise UsageError(
            f"the responses are of {', '.join(pairs.models[:5]) or 'no model'} already, but model={model!r} was given. "
            "Fix: leave model out."
        )
    return pairs, None


def as_anonymous_responses(
    data: PairTable | TrainingData | Source | Sequence[Source],
) -> tuple[PairTable, LoadReport | None]:
    """`as_responses` where the data may or may not say whose the responses are; if not, they are of `UNNAMED`."""
    try:
        return as_responses(data)
    except UsageError:  # nothing names the model; any other fault is found again
        return as_responses(data, UNNAMED)


def iter_pairs(
    source: Source, batch_rows: int = 1024, part: range | None = None
) -> Iterator[tuple[pa.RecordBatch, list[str], list[str]]]:
    """Batches of a responses source with all columns, and each row's prompt and response; rows in order.

    Args:
        source: rows of responses; a folder holds shards of the same columns.
        batch_rows: rows in a batch, at most.
        part: rows to read of a single Parquet file, all by default.

    Raises:
        DataError: as in `load_votes`; also a row without prompt or response, and shards of different columns.
    """
    schema: pa.Schema | None = None
    for opened in _open_sources((source,), part):
        rows, known = opened.rows, opened.format
        if known.family != "responses":
            raise DataError(
                f"{rows.name}: holds votes ({known.name}), but one response in a row is needed here, as in "
                "columns prompt and response."
            )
        done = part.start if part is not None else 0
        for batch in rows.batches(batch_rows=batch_rows):
            schema = schema or batch.schema
            if not schema.equals(batch.schema):
                raise DataError(
                    f"{rows.name}: its columns differ from those of the files before it. Fix: encode it by itself."
                )
            prompts, responses = _pair_texts(batch, opened, done)
            yield batch, prompts, responses
            done += batch.num_rows


def _pair_texts(batch: pa.RecordBatch, opened: _OpenedSource, done: int) -> tuple[list[str], list[str]]:
    prompts, responses = [], []
    columns = opened.format.columns_in(opened.rows.columns)
    for number, row in enumerate(batch.select(columns).to_pylist(), done + 1):
        record = _convert_row(row, opened, number, _convert_as_is)
        if not isinstance(record, Response):
            reason = record.reason if isinstance(record, Skip) else "a vote"
            raise DataError(
                f"{opened.rows.name}, row {number}: {reason}. Allowed: a prompt and a response in every row. "
                "Fix: remove the row, or write an empty text."
            )
        prompts.append(record.prompt)
        responses.append(record.response)
    return prompts, responses


def _as_sources(data: Source | Sequence[Source]) -> Sequence[Source]:
    if isinstance(data, str | bytes | Path | ArrowStream) or not isinstance(data, Sequence):
        return (data,)
    is_one = not data or any(isinstance(each, Mapping) for each in data)
    return (cast(Source, data),) if is_one else cast(Sequence[Source], data)


def _open_sources(sources: Sequence[Source], part: range | None = None) -> list[_OpenedSource]:
    if not sources:
        raise UsageError(
            "no source was given. Allowed: files, folders of files, hf://owner/name, lists of dictionaries, and "
            "DataFrames."
        )
    opened = []
    for source in expand_sources(*sources):
        rows = open_rows(source, part)
        try:
            opened.append(_OpenedSource(rows, detect_format(rows.columns)))
        except DataError as error:
            raise DataError(f"{rows.name}: {error}") from None
    return opened


def _check_model_option(source: _OpenedSource, model: str | None) -> None:
    known, name = source.format, source.rows.name
    if known.family == "votes":
        if model is not None:
            raise UsageError(f"{name}: the rows of {known.name} name their models. Fix: leave --model out.")
    elif known.model_column not in source.rows.columns and not model:
        raise UsageError(
            f"{name}: no column names the model ({known.name}, columns: {', '.join(source.rows.columns)}). "
            f"Fix: give its name with --model, or add a column {known.model_column!r}."
        )


def _read_sources(
    opened: list[_OpenedSource],
    convert: Callable[[Row, Format], Record],
    add: Callable[[Vote | Response], None],
    progress: Progress | None,
) -> LoadReport:
    sizes = [source.rows.n_rows for source in opened]
    total = None if None in sizes else sum(size or 0 for size in sizes)
    done = 0
    reports = []
    for source in opened:
        skipped: Counter[str] = Counter()
        n_rows = 0
        for rows in source.rows.rows(source.format.columns_in(source.rows.columns)):
            for number, row in enumerate(rows, n_rows + 1):
                record = _convert_row(row, source, number, convert)
                if isinstance(record, Skip):
                    skipped[record.reason] += 1
                else:
                    add(record)
            n_rows += len(rows)
            if progress is not None:
                progress(done + n_rows, total)
        done += n_rows
        reports.append(_report(source, n_rows, skipped))
    return LoadReport(tuple(reports))


def _convert_as_is(row: Row, known: Format) -> Record:
    return known.convert(row)


def _convert_row(row: Row, source: _OpenedSource, number: int, convert: Callable[[Row, Format], Record]) -> Record:
    try:
        return convert(row, source.format)
    except (DataError, UsageError) as error:
        raise type(error)(f"{source.rows.name}, row {number}: {error}") from None


def _report(source: _OpenedSource, n_rows: int, skipped: Counter[str]) -> SourceReport:
    name, known = source.rows.name, source.format
    if n_rows == 0:
        raise DataError(
            f"{name}: there is no row ({known.name}). Fix: give at least one; a stream can be read once only."
        )
    used = n_rows - skipped.total()
    if used == 0:
        counts = ", ".join(f"{reason}: {count:,}" for reason, count in sorted(skipped.items()))
        raise DataError(
            f"{name}: none of its {n_rows:,} rows can be used ({known.name}; {counts}). "
            f"Fix: check the columns {', '.join(known.required)}."
        )
    warnings = () if known.warning is None else (known.warning,)
    return SourceReport(name, known.name, n_rows, used, dict(sorted(skipped.items())), warnings)
