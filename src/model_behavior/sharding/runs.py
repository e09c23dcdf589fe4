"""Runs over a large source: cut it into shards, process them, join the output.

Finished shards stay in a hidden folder beside the output until the run succeeds. A run that is restarted after an
interruption finds them there and continues; `worker` explains how it knows that they are still valid.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from model_behavior.catalog.embeddings import EncodedPart
from model_behavior.data.sources import Shard, cut_into_shards
from model_behavior.data.text_columns import LazyTexts
from model_behavior.data_models.votes import PairTable
from model_behavior.errors import DataError
from model_behavior.files import written_aside
from model_behavior.preprocessing.entry_file import digest_of
from model_behavior.preprocessing.feature_cache import cut_by_content
from model_behavior.sharding.engines import Engine, OnRows
from model_behavior.sharding.worker import ShardJob, ShardReport, ShardTask, finished_report, part_of, without_footer

DEFAULT_SHARD_ROWS = 8192


@dataclass(frozen=True)
class ShardedRun:
    """Settings of a run.

    Attributes:
        job: work on every shard.
        engine: engine that processes the shards.
        shard_rows: approximate size of a shard: rows of a Parquet file, or pairs in enrolment.
    """

    job: ShardJob
    engine: Engine
    shard_rows: int = DEFAULT_SHARD_ROWS

    def over_file(self, source: str | Path, output: Path, on_rows: OnRows) -> ShardReport:
        """Writes a source's rows, in order, with what the job adds to them, as one Parquet file.

        The output is the same bytes whichever engine made it, and appears when it is whole. Memory does not grow with
        the source.

        Raises:
            DataError: shards have different columns; or see the job.
        """
        folder = _work_folder(output)
        shards = cut_into_shards(source, self.shard_rows)
        tasks = [ShardTask(self.job, shard, folder / f"{place:06}.parquet") for place, shard in enumerate(shards)]
        reports = self._finish(tasks, on_rows)
        with written_aside(output) as aside:
            _join(tasks, aside)
        shutil.rmtree(folder, ignore_errors=True)
        return sum(reports, ShardReport(0, 0))

    @contextlib.contextmanager
    def over_pairs(self, pairs: PairTable, folder: Path, on_rows: OnRows) -> Iterator[Iterator[EncodedPart]]:
        """The pairs as `catalog.enrol_encoded` takes them, from shards in a hidden folder beside `folder`.

        It is removed when the block ends well.
        """
        work = _work_folder(folder)
        tasks = [
            ShardTask(self.job, shard, work / f"{place:06}.encoded.parquet")
            for place, shard in enumerate(_write_pairs(pairs, work, self.shard_rows))
        ]
        self._finish(tasks, on_rows)
        yield _read_parts(tasks)
        shutil.rmtree(work, ignore_errors=True)

    def _finish(self, tasks: Sequence[ShardTask], on_rows: OnRows) -> list[ShardReport]:
        try:
            self.engine.run(tasks, on_rows)
        except BaseException:
            with contextlib.suppress(OSError):  # where no shard was finished there is nothing to keep
                tasks[0].output.parent.rmdir()
            raise
        reports = [finished_report(task) for task in tasks]
        lost = [task.output for task, report in zip(tasks, reports, strict=True) if report is None]
        if lost:
            raise DataError(
                f"{lost[0]} is not there, though a worker has written it. Fix: an --output on a file system that all "
                "machines of the cluster share"
            )
        return [report for report in reports if report is not None]


def _work_folder(output: Path) -> Path:
    output = output.resolve()
    return output.with_name(f".{output.name}.shards")


def _read_parts(tasks: Sequence[ShardTask]) -> Iterator[EncodedPart]:
    start = 0
    for task in tasks:
        with pq.ParquetFile(task.output) as file:
            for group in range(file.num_row_groups):
                part = part_of(file.read_row_group(group), start)
                start = part.rows.stop
                yield part


def _join(tasks: Sequence[ShardTask], path: Path) -> None:
    """The shards' rows in one file, with their row groups."""
    writer: pq.ParquetWriter | None = None
    try:
        for task in tasks:
            with pq.ParquetFile(task.output) as file:
                schema = without_footer(file.schema_arrow)
                writer = writer or pq.ParquetWriter(path, schema, compression="zstd")
                if schema != writer.schema:
                    raise DataError(
                        f"{task.shard.source}: its columns differ from those of the files before it. Fix: run it by "
                        "itself."
                    )
                for group in range(file.num_row_groups):
                    writer.write_table(file.read_row_group(group).cast(schema))
    finally:
        if writer is not None:
            writer.close()


def _write_pairs(pairs: PairTable, folder: Path, shard_rows: int) -> list[Shard]:
    """The texts of the pairs as shards that workers can read, cut where enrolment cuts its parts."""
    prompts, responses = LazyTexts(pairs.prompts, pairs.prompt_index), LazyTexts(pairs.responses)
    ends = np.array([part.stop for part in cut_by_content(prompts, responses)])
    last_of_shard = np.flatnonzero(np.diff(ends // shard_rows, append=-1))
    shards, start = [], 0
    for place, stop in enumerate(ends[last_of_shard].tolist()):
        part = slice(start, stop)
        texts = pa.table({"prompt": pa.array(prompts[part]), "response": pa.array(responses[part])})
        path = folder / f"{place:06}.pairs.parquet"
        with written_aside(path) as aside:
            pq.write_table(texts, aside, compression="zstd")
        digest = digest_of(*prompts[part], "", *responses[part])
        shards.append(Shard(str(path), None, digest))
        start = stop
    return shards
