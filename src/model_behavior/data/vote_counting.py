"""Counts votes of any number of files, each by itself, in one process or in several.

A Parquet file with the columns model_a, model_b and winner is counted column by column: each combination of their
values that occurs is read once, as any row would be. The prompts tell which votes depend on each other; where there is
no text of the prompt, a column with its number does, and without either each vote is by itself.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from model_behavior.arrays import Int64Array, UInt64Array
from model_behavior.data.byte_streams import NothingToReadError
from model_behavior.data.formats.detection import BATTLES
from model_behavior.data.formats.records import Record, Row, Vote, model_name, parse_outcome
from model_behavior.data.linking import open_sources
from model_behavior.data.loading import read_records, similar_names
from model_behavior.data.opening import OpenedSource
from model_behavior.data.parquet_rows import iterate_encoded_batches
from model_behavior.data.ratings import as_battles
from model_behavior.data.reading import AS_IT_IS, ReadingOptions
from model_behavior.data.remote_files import is_remote
from model_behavior.data.sources import Source, expand_sources
from model_behavior.data.split import hash_prompt_column, hash_prompts, hash_text
from model_behavior.data_models.vote_counts import VoteCounts, add_counts
from model_behavior.data_models.votes import LoadReport, SourceReport
from model_behavior.errors import DataError, ModelBehaviorError, UsageError

Counted = tuple[VoteCounts, SourceReport]
Workers = Callable[[Callable[..., Counted], Sequence[tuple[Any, ...]]], Iterable[Counted]]
"""Calls a function with each of some arguments, anywhere, and gives the results in any order."""

_TEXTS = ("prompt", "question", "instruction")
_NUMBERS = ("prompt_id", "question_id")
_BATCH_ROWS = 1 << 17
_SIDES = ("model_a", "model_b", "winner")


def count_votes(
    *sources: Source,
    reading: ReadingOptions = AS_IT_IS,
    progress: Callable[[int, int | None], None] | None = None,
    workers: Workers | None = None,
) -> tuple[VoteCounts, LoadReport]:
    """Counts votes for ratings alone; files as `load_battles` reads them.

    Args:
        sources: files, folders or addresses of files, and rows in memory.
        reading: as in `load_votes`.
        progress: called after every file with the rows counted so far.
        workers: what counts several files at once; this process by default.

    Raises:
        DataError: as in `load_battles`.
        UsageError: no source was given.
    """
    if not sources:
        raise UsageError("no source was given. Allowed: files, folders of files, and addresses of either")
    files = [each for source in sources for each in expand_sources(source)]
    if all(isinstance(each, str | Path) and _is_parquet(str(each)) for each in files):
        calls = [(each, reading, len(files) > 1) for each in files]
        found = workers(count_file, calls) if workers is not None else (count_file(*call) for call in calls)
    else:  # files that may belong together
        opened = open_sources(sources, "votes", reading, also=BATTLES)
        found = (_count(as_battles(each)) for each in opened)
    parts, reports, done = [], [], 0
    for counts, report in found:
        parts.append(counts)
        reports.append(report)
        done += report.rows
        if progress is not None:
            progress(done, None)
    if not sum(report.used for report in reports):
        raise DataError(f"{reports[0].source}: none of {done:,} rows can be used. Fix: check the columns {_SIDES}")
    counts = add_counts(parts)
    return counts, LoadReport(tuple(reports), similar_names(counts.models))


def count_file(source: Source, reading: ReadingOptions, is_part: bool = False) -> Counted:
    """Counts the votes of one file.

    Args:
        source: file or its address.
        reading: as in `load_votes`.
        is_part: True for one of several files, which may have no row that can be used.

    Raises:
        DataError: as in `load_battles`.
    """
    try:
        (opened,) = open_sources([source], "votes", reading, also=BATTLES)
        return _count(replace(as_battles(opened), is_part=is_part))
    except NothingToReadError as error:
        if not is_part:
            raise
        return add_counts([]), SourceReport(str(source), error.reason, 0, 0, {})


def _count(opened: OpenedSource) -> Counted:
    cluster = _cluster_column(opened)
    is_flat = all(len(path) == 1 for path in opened.names.values())
    if opened.format.name == BATTLES.name and is_flat and _is_parquet(opened.rows.name):
        return _count_columns(opened, cluster)
    return _count_rows(opened, cluster)


def _is_parquet(name: str) -> bool:
    return name.lower().partition("?")[0].endswith(".parquet")


@dataclass(frozen=True)
class ProcessWorkers:
    """Processes of this machine.

    Attributes:
        number: number of processes.
    """

    number: int = os.cpu_count() or 1

    def __call__(self, work: Callable[..., Counted], calls: Sequence[tuple[Any, ...]]) -> Iterator[Counted]:
        """See `Workers`."""
        if self.number < 2 or len(calls) < 2:
            yield from (work(*call) for call in calls)
            return
        with ProcessPoolExecutor(min(self.number, len(calls)), get_context("spawn")) as pool:
            try:
                yield from pool.map(work, *zip(*calls, strict=True))
            except ModelBehaviorError:
                pool.shutdown(cancel_futures=True)
                raise


def _cluster_column(opened: OpenedSource) -> tuple[str, bool] | None:
    """The column by which votes depend on each other, and True where it is a text."""
    for name in (*_TEXTS, *_NUMBERS):
        if name in opened.rows.columns or name in opened.names:
            return opened.names.get(name, (name,))[0], name in _TEXTS
    return None


def _count_columns(opened: OpenedSource, cluster: tuple[str, bool] | None) -> Counted:
    """Column by column: every distinct name and outcome is read once."""
    sides = [opened.names.get(name, (name,))[0] for name in _SIDES]
    columns = [*dict.fromkeys([*sides, *([cluster[0]] if cluster else [])])]
    ids: dict[str, int] = {}
    skipped: Counter[str] = Counter()
    prompts, cells, done = [], [], 0
    for batch in iterate_encoded_batches(_as_file(opened.rows.name), columns, _BATCH_ROWS):
        where = f"{opened.rows.name}, row ", done + 1
        a, b = (_places(batch.column(name), name, ids, where) for name in sides[:2])
        outcome = _outcomes(batch.column(sides[2]), opened, where)
        reasons = {"no outcome": outcome < 0, "no model name": (a < 0) | (b < 0), "same model on both sides": a == b}
        used = np.ones(len(a), dtype=bool)
        for reason, without in reasons.items():  # the first that holds counts, as in `build_vote`
            skipped[reason] += int((used & without).sum())
            used &= ~without
        prompts.append(_hash_clusters(batch, cluster, opened.rows.name, done)[used])
        cells.append(np.stack([a, b, outcome], axis=1)[used].astype(np.int32))
        done += batch.num_rows
    skipped += Counter()  # without those that are 0
    used_rows = done - skipped.total()
    report = SourceReport(opened.rows.name, opened.format.name, done, used_rows, dict(sorted(skipped.items())), ())
    return _sum(ids, prompts, cells), report


def _as_file(name: str) -> Path | str:
    return name if is_remote(name) else Path(name)


def _places(column: pa.Array, name: str, ids: dict[str, int], where: tuple[str, int]) -> Int64Array:
    """The number of each row's model, -1 where it has no name, [n_rows]."""

    def place(value: Any) -> int:
        found = model_name(value, name)
        return -1 if found is None else ids.setdefault(found, len(ids))

    return _map_values(column, place, where)


def _outcomes(column: pa.Array, opened: OpenedSource, where: tuple[str, int]) -> Int64Array:
    """The outcome of each row, -1 where it has none, [n_rows]."""

    def read(value: Any) -> int:
        meant = opened.reading.outcome_of(value) if opened.reading.outcomes else None
        found = parse_outcome(value if meant is None else meant)
        return -1 if found is None else int(found)

    return _map_values(column, read, where)


def _map_values(column: pa.Array, read: Callable[[Any], int], where: tuple[str, int]) -> Int64Array:
    """A number for each row, from its value; an error names the row."""
    values, indices = _encode(column)
    numbers = np.zeros(len(values), np.int64)
    for place in np.unique(indices).tolist():
        try:
            numbers[place] = read(values[place].as_py())
        except DataError as error:
            row = where[1] + int(np.flatnonzero(indices == place)[0])
            raise error.reworded(f"{where[0]}{row}: {error}") from None
    found: Int64Array = numbers[indices]
    return found


def _encode(column: pa.Array) -> tuple[pa.Array, Int64Array]:
    """Values, the last of which is null, and the place of each row's value, [n_rows]."""
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    values = pa.concat_arrays([encoded.dictionary, pa.nulls(1, encoded.dictionary.type)])
    indices = encoded.indices.fill_null(len(values) - 1).to_numpy(zero_copy_only=False)
    return values, indices.astype(np.int64)


def _hash_clusters(batch: pa.RecordBatch, cluster: tuple[str, bool] | None, name: str, done: int) -> UInt64Array:
    """Hash of what each row depends on, [n_rows]."""
    if cluster is None:
        return np.fromiter((hash_text(f"{name} {done + row}") for row in range(batch.num_rows)), np.uint64)
    column, is_text = cluster
    values, indices = _encode(batch.column(column))
    if is_text and pa.types.is_string(values.type) | pa.types.is_large_string(values.type):
        hashes = hash_prompt_column(values.fill_null(""))
    else:
        hashes = np.fromiter((hash_text(str(value)) for value in values.to_pylist()), np.uint64, len(values))
    found: UInt64Array = hashes[indices]
    return found


def _count_rows(opened: OpenedSource, cluster: tuple[str, bool] | None) -> Counted:
    """Row by row, whatever the format."""
    ids: dict[str, int] = {}
    keys: list[str] = []
    cells: list[tuple[int, int, int]] = []

    def add(record: object) -> None:
        if isinstance(record, Vote):
            keys.append(record.prompt)
            a, b = (ids.setdefault(name, len(ids)) for name in (record.model_a, record.model_b))
            cells.append((a, b, int(record.outcome)))

    def convert(source: OpenedSource, row: Row) -> Record:
        record = source.convert(row)
        if cluster is not None and isinstance(record, Vote) and not record.prompt:
            return replace(record, prompt=str(row.get(cluster[0])))
        return record

    wanted = opened
    if cluster is not None and opened.format.name == BATTLES.name:
        wanted = replace(opened, format=replace(opened.format, optional=(*opened.format.optional, cluster[0])))
    (report,) = read_records([wanted], convert, add, None)
    name = opened.rows.name
    if cluster is None and not any(keys):
        prompts = np.fromiter((hash_text(f"{name} {row}") for row in range(len(keys))), np.uint64, len(keys))
    else:
        prompts = hash_prompts(keys)
    counts = _sum(ids, [prompts], [np.array(cells, np.int32).reshape(-1, 3)])
    return counts, report


def _sum(ids: dict[str, int], prompts: list[UInt64Array], cells: list[Any]) -> VoteCounts:
    names = tuple(sorted(ids))
    place = np.zeros(max(len(ids), 1), np.int64)
    place[[ids[name] for name in names]] = np.arange(len(names))
    table = np.concatenate([np.zeros((0, 3), np.int32), *cells])
    keys = np.concatenate([np.zeros(0, np.uint64), *prompts])
    return VoteCounts.of_votes(names, keys, (place[table[:, 0]], place[table[:, 1]]), table[:, 2].astype(np.int64))
