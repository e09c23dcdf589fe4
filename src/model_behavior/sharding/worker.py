"""What is done with one shard, whichever engine does it.

A worker reads its shard and the artifact, and writes one Parquet file. The file is renamed into its place when it is
whole, and its footer says of what it was made; so a shard can be done twice, by two workers at once or again after one
was killed, and is not done at all where the file is there already.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from model_behavior import artifact
from model_behavior.artifact import Artifact
from model_behavior.data.shards import Shard
from model_behavior.errors import ArtifactError, DataError
from model_behavior.files import written_aside
from model_behavior.preprocessing.cache import ContentCache
from model_behavior.preprocessing.entry_file import digest_of
from model_behavior.sharding.tables import TABLES

_VERSION = 1  # goes up when the same shard and artifact give another file
_FOOTER = b"model_behavior.shard"
JobKind: TypeAlias = Literal["encode", "predict", "enrol"]
Progress: TypeAlias = Callable[[int], None]


@dataclass(frozen=True)
class ShardJob:
    """What is done with every shard of a run.

    Attributes:
        kind: which of `TABLES` is made.
        folder: of the artifact, where every worker can read it.
        artifact_digest: see `artifact.fingerprint`.
        batch_size: pairs encoded at once.
        cache: folder of cached features; None for the default one of the machine that a worker runs on.
    """

    kind: JobKind
    folder: Path
    artifact_digest: str
    batch_size: int = 512
    cache: Path | None = None


@dataclass(frozen=True)
class ShardTask:
    """One shard of a job, and the file that it becomes."""

    job: ShardJob
    shard: Shard
    output: Path

    @property
    def fingerprint(self) -> str:
        """Hash of all that decides the content of the output."""
        part = self.shard.part
        rows = "all" if part is None else f"{part.start}:{part.stop}"
        settings = f"{_VERSION} {self.job.kind} {self.job.batch_size} {rows}"
        return digest_of(self.job.artifact_digest, self.shard.digest, settings)


@dataclass(frozen=True)
class ShardReport:
    """What came of a shard.

    Attributes:
        rows: written.
        used: rows that could be encoded or predicted.
    """

    rows: int
    used: int


def finished_report(task: ShardTask) -> ShardReport | None:
    """The report of a shard that an earlier run has finished, from the same input and artifact; else None."""
    try:
        footer = json.loads((pq.read_metadata(task.output).metadata or {})[_FOOTER])
        if footer.pop("fingerprint") != task.fingerprint:
            return None
        return ShardReport(**footer)
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError):
        return None


def without_footer(schema: pa.Schema) -> pa.Schema:
    """The schema of a shard as its source had it."""
    kept = {key: value for key, value in (schema.metadata or {}).items() if key != _FOOTER}
    return schema.with_metadata(kept) if kept else schema.remove_metadata()


def run_shard(task: ShardTask, loaded: Artifact, progress: Progress | None = None) -> ShardReport:
    """Does a shard, unless it is finished.

    Args:
        task: the shard.
        loaded: the task's artifact.
        progress: told the rows done so far.

    Raises:
        DataError: unusable rows, or none at all; UsageError and OSError likewise where the work raises them.
    """
    finished = finished_report(task)
    if finished is not None:
        return finished
    writer: pq.ParquetWriter | None = None
    n_rows = n_used = 0
    with written_aside(task.output) as aside:
        try:
            for table, used in TABLES[task.job.kind](loaded, task.shard, task.job.batch_size):
                writer = writer or pq.ParquetWriter(aside, table.schema, compression="zstd")
                writer.write_table(table)
                n_rows, n_used = n_rows + table.num_rows, n_used + used
                if progress is not None:
                    progress(n_rows)
            if writer is None:
                raise DataError(f"{task.shard.source} has no rows")
            report = ShardReport(n_rows, n_used)
            footer = json.dumps({"fingerprint": task.fingerprint, **asdict(report)})
            writer.add_key_value_metadata({_FOOTER.decode(): footer})
        finally:
            if writer is not None:
                writer.close()
    return report


def run_shard_alone(task: ShardTask) -> ShardReport:
    """Does a shard in a process that has nothing yet; the artifact is kept for the next shard.

    Raises:
        ArtifactError: the artifact in the folder is another one by now.
    """
    return run_shard(task, _open(task.job))


@lru_cache(maxsize=1)
def _open(job: ShardJob) -> Artifact:
    if artifact.fingerprint(job.folder) != job.artifact_digest:
        raise ArtifactError(f"{job.folder} has changed since the run began. Fix: start the run again")
    return artifact.load(job.folder, ContentCache(job.cache))
