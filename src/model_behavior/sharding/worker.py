"""The work on one shard, the same for every engine.

A worker reads its shard and the artifact, and writes one Parquet file: the rows with their vectors or predictions, or
the columns that enrolment needs (`TABLES`). The file is renamed into place once complete, and its footer records its
inputs. So two workers may process the same shard without harm, a killed worker's shard is processed again, and a
finished shard is skipped.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from model_behavior import artifact
from model_behavior.arrays import Float32Array
from model_behavior.artifact import Artifact
from model_behavior.catalog.embeddings import EncodedPart, encode_parts
from model_behavior.data.loading import iter_pairs
from model_behavior.data.questions import Matchup, iter_matchups
from model_behavior.data.reading import AS_IT_IS, ReadingOptions
from model_behavior.data.sources import Shard, cut_into_shards
from model_behavior.errors import ArtifactError, DataError, UsageError
from model_behavior.files import written_aside
from model_behavior.models.behavior.monitor import Runtime
from model_behavior.models.behavior.text.execution import Backend
from model_behavior.names import nearest_models
from model_behavior.preprocessing.cache import ContentCache
from model_behavior.preprocessing.entry_file import digest_of

EMBEDDING_COLUMN = "embedding"
PREDICTION_COLUMNS = ("p_model_a", "p_model_b", "p_tie", "p_both_bad")
_VERSION = 2  # goes up when the same shard and artifact give another file
_FOOTER = b"model_behavior.shard"
_VECTORS, _STYLES = "vector", "style"

JobKind: TypeAlias = Literal["encode", "predict", "enrol"]
Progress: TypeAlias = Callable[[int], None]


@dataclass(frozen=True)
class ShardJob:
    """The work on every shard of a run.

    Attributes:
        kind: kind of the tables that are made, see `TABLES`.
        folder: folder of the artifact, where every worker can read it.
        artifact_digest: digest of the artifact, see `artifact.fingerprint`.
        batch_size: pairs encoded at once.
        cache: folder of cached features; None for the default one of the machine that a worker runs on.
        backend: library that runs the transformers of the artifact.
        strict: True to make an unknown model an error rather than a row without a prediction.
        reading: names of columns and outcomes that the source has of its own, and the place of its questions.
        reading_digest: digest of `reading`, see `digest_of_reading`.
    """

    kind: JobKind
    folder: Path
    artifact_digest: str
    batch_size: int = 512
    cache: Path | None = None
    backend: Backend = "auto"
    strict: bool = False
    reading: ReadingOptions = AS_IT_IS
    reading_digest: str = ""


@dataclass(frozen=True)
class ShardTask:
    """One shard of a job, and the file that it becomes."""

    job: ShardJob
    shard: Shard
    output: Path

    @property
    def fingerprint(self) -> str:
        """Hash of everything that decides the content of the output."""
        part = self.shard.part
        rows = "all" if part is None else f"{part.start}:{part.stop}"
        settings = f"{_VERSION} {self.job.kind} {self.job.batch_size} {self.job.strict} {rows}"
        if self.job.reading_digest:
            settings = f"{settings} {self.job.reading_digest}"
        return digest_of(self.job.artifact_digest, self.shard.digest, settings)


@dataclass(frozen=True)
class UnknownName:
    """A name of a model that the scorer does not know: the rows that have it, and where the first of them is."""

    rows: int
    first: str


@dataclass(frozen=True)
class ShardReport:
    """Result of a shard, or of some of its rows.

    Attributes:
        rows: rows written.
        used: rows that could be encoded or predicted.
        unknown: names for which rows have no prediction.
        apart: predicted rows between models that no chain of votes connects.
    """

    rows: int
    used: int
    apart: int = 0
    unknown: Mapping[str, UnknownName] = field(default_factory=dict)

    def __add__(self, later: ShardReport) -> ShardReport:
        """Both together."""
        unknown = dict(self.unknown)
        for name, found in later.unknown.items():
            known = unknown.get(name, UnknownName(0, found.first))
            unknown[name] = UnknownName(known.rows + found.rows, known.first)
        return ShardReport(self.rows + later.rows, self.used + later.used, self.apart + later.apart, unknown)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ShardReport:
        """The inverse of `asdict`."""
        unknown = {name: UnknownName(**found) for name, found in values["unknown"].items()}
        return cls(**{**values, "unknown": unknown})


Tables: TypeAlias = Iterator[tuple[pa.Table, ShardReport]]
"""Tables of one schema, each with what came of its rows."""


def digest_of_reading(reading: ReadingOptions) -> str:
    """Hash of how sources are read, with the contents of the file of questions; empty where nothing is said of it.

    Raises:
        DataError: there are no such questions.
    """
    if reading == AS_IT_IS:
        return ""
    said = {"columns": dict(reading.columns), "outcomes": {key: each.label for key, each in reading.outcomes.items()}}
    shards = [] if reading.questions is None else cut_into_shards(str(reading.questions), sys.maxsize)
    return digest_of(json.dumps(said, sort_keys=True), *(shard.digest for shard in shards))


def run_shard(task: ShardTask, loaded: Artifact, progress: Progress | None = None) -> ShardReport:
    """Processes a shard, unless it is finished.

    Args:
        task: shard to process.
        loaded: artifact of the task's job.
        progress: function called with the number of rows done.

    Raises:
        DataError: rows are unusable, or there are none.
        UsageError, OSError: see the function of the job in `TABLES`.
    """
    finished = finished_report(task)
    if finished is not None:
        return finished
    writer: pq.ParquetWriter | None = None
    report = ShardReport(0, 0)
    with written_aside(task.output) as aside:
        try:
            for table, of_table in TABLES[task.job.kind](loaded, task.shard, task.job):
                writer = writer or pq.ParquetWriter(aside, table.schema, compression="zstd")
                writer.write_table(table)
                report += of_table
                if progress is not None:
                    progress(report.rows)
            if writer is None:
                raise DataError(f"{task.shard.source} has no rows")
            footer = json.dumps({"fingerprint": task.fingerprint, **asdict(report)})
            writer.add_key_value_metadata({_FOOTER.decode(): footer})
        finally:
            if writer is not None:
                writer.close()
    return report


def run_shard_alone(task: ShardTask) -> ShardReport:
    """Processes a shard in a fresh process, and keeps the loaded artifact for the next shard.

    Raises:
        ArtifactError: the artifact in the folder has changed since the run began.
    """
    job = task.job
    return run_shard(task, _open(job.folder, job.artifact_digest, job.cache, job.backend))


def finished_report(task: ShardTask) -> ShardReport | None:
    """The report of a shard that an earlier run has finished, from the same input and artifact; else None."""
    try:
        footer = json.loads((pq.read_metadata(task.output).metadata or {})[_FOOTER])
        if footer.pop("fingerprint") != task.fingerprint:
            return None
        return ShardReport.from_json(footer)
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError):
        return None


def without_footer(schema: pa.Schema) -> pa.Schema:
    """The schema of a shard as its source had it."""
    kept = {key: value for key, value in (schema.metadata or {}).items() if key != _FOOTER}
    return schema.with_metadata(kept) if kept else schema.remove_metadata()


def encode_tables(loaded: Artifact, shard: Shard, job: ShardJob) -> Tables:
    """All columns of the source, and `embedding`, a fixed_size_list<float>.

    Raises:
        DataError: a row has no prompt or no response, or the source cannot be read.
        UsageError: the source has a column `embedding` already.
    """
    encoder = loaded.encoder
    for batch, prompts, responses in iter_pairs(shard.source, part=shard.part, reading=job.reading):
        if EMBEDDING_COLUMN in batch.schema.names:
            raise UsageError(f"{shard.source} has a column {EMBEDDING_COLUMN!r} already. Fix: rename or remove it")
        vectors = _to_column(encoder.encode(prompts, responses, job.batch_size))
        table = pa.Table.from_batches([batch]).append_column(EMBEDDING_COLUMN, vectors)
        yield table, ShardReport(table.num_rows, table.num_rows)


def predict_tables(loaded: Artifact, shard: Shard, job: ShardJob) -> Tables:
    """All columns, and `PREDICTION_COLUMNS`; null in a row without a prompt or a model, or with an unknown model.

    Raises:
        DataError: as for `iter_matchups`.
        UsageError: a prediction column that the source has already; in a strict job also a model that the scorer does
            not know.
    """
    scorer = loaded.trained_scorer  # prompts are few beside rows, and it encodes each once, whatever the batch
    known = frozenset(scorer.models)
    done = shard.part.start if shard.part is not None else 0
    for batch, matchups in iter_matchups(shard.source, part=shard.part, reading=job.reading):
        taken = [name for name in PREDICTION_COLUMNS if name in batch.schema.names]
        if taken:
            raise UsageError(f"{shard.source} has a column {taken[0]!r} already. Fix: rename or remove it")
        unknown = _find_unknown(matchups, known, f"{shard.source}, row ", done + 1)
        if unknown and job.strict:
            name, found = next(iter(unknown.items()))
            near = ", ".join(nearest_models(scorer.models, name))
            raise UsageError(f"{found.first}: unknown model {name!r}. Nearest known names: {near}")
        usable = [
            (index, each)
            for index, each in enumerate(matchups)
            if each is not None and each.model_a in known and each.model_b in known
        ]
        prompts = [each.prompt for _, each in usable]
        sides = [each.model_a for _, each in usable], [each.model_b for _, each in usable]
        predicted, apart = scorer.predict(prompts, *sides), int(scorer.are_apart(*sides).sum())
        table = pa.Table.from_batches([batch])
        for name, values in zip(PREDICTION_COLUMNS, predicted.T, strict=True):
            column = np.full(len(matchups), np.nan, dtype=np.float32)
            column[[index for index, _ in usable]] = values
            table = table.append_column(name, pa.array(column, from_pandas=True))
        done += len(matchups)
        yield table, ShardReport(len(matchups), len(usable), apart, unknown)


def _find_unknown(
    matchups: Sequence[Matchup | None], known: frozenset[str], place: str, first: int
) -> dict[str, UnknownName]:
    """Names that are not known, in the order of their first rows."""
    unknown: dict[str, UnknownName] = {}
    for number, each in enumerate(matchups, first):
        for name in dict.fromkeys(() if each is None else (each.model_a, each.model_b)):
            if name not in known:
                found = unknown.get(name, UnknownName(0, f"{place}{number}"))
                unknown[name] = replace(found, rows=found.rows + 1)
    return unknown


def enrol_tables(loaded: Artifact, shard: Shard, job: ShardJob) -> Tables:
    """What `catalog.enrol` needs of pairs, one row group for each part that they are encoded in.

    The shard begins where such a part begins, so that its parts are those of the whole.
    """
    texts = pq.read_table(shard.source)
    prompts, responses = (texts[name].to_pylist() for name in ("prompt", "response"))
    for part in encode_parts(loaded.encoder, prompts, responses, job.batch_size):
        table = pa.table({_VECTORS: _to_column(part.vectors), _STYLES: _to_column(part.styles)})
        yield table, ShardReport(table.num_rows, table.num_rows)


def part_of(table: pa.Table, start: int) -> EncodedPart:
    """A table of `enrol_tables` as the part that it was made of, whose first pair is `start`."""
    return EncodedPart(slice(start, start + table.num_rows), *(_to_rows(table[name]) for name in (_VECTORS, _STYLES)))


TABLES: Mapping[str, Callable[[Artifact, Shard, ShardJob], Tables]] = {
    "encode": encode_tables,
    "predict": predict_tables,
    "enrol": enrol_tables,
}
"""What makes the tables, by the kind of a job."""


@lru_cache(maxsize=1)
def _open(folder: Path, digest: str, cache: Path | None, backend: Backend) -> Artifact:
    if artifact.fingerprint(folder) != digest:
        raise ArtifactError(f"{folder} has changed since the run began. Fix: start the run again")
    return Artifact.load(folder, Runtime(ContentCache(cache), backend=backend))


def _to_column(rows: Float32Array) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel(), pa.float32()), rows.shape[1])


def _to_rows(column: pa.ChunkedArray) -> Float32Array:
    values = column.combine_chunks()
    rows: Float32Array = values.flatten().to_numpy().reshape(len(values), -1)
    return rows
