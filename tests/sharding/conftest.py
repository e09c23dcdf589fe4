"""A small artifact with both stages, and responses of models that it does not know."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model_behavior import artifact
from model_behavior.artifact import Artifact
from model_behavior.cli.app import run
from model_behavior.data.arena import build_arena, write_votes
from model_behavior.sharding.worker import JobKind, ShardJob
from tests.conftest import held_out_rows


@dataclass(frozen=True)
class Material:
    folder: Path
    votes: Path
    responses: Path

    @property
    def loaded(self) -> Artifact:
        return Artifact.load(self.folder)

    def job(self, kind: JobKind) -> ShardJob:
        return ShardJob(kind, self.folder, artifact.fingerprint(self.folder))


@pytest.fixture(scope="package")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    base = tmp_path_factory.mktemp("sharding")
    arena = build_arena(seed=3, n_prompts=20)
    made = Material(base / "artifact", base / "votes.parquet", base / "responses.parquet")
    write_votes(arena, made.votes)
    pq.write_table(pa.Table.from_pylist(held_out_rows(arena)), made.responses, row_group_size=17)
    options = ["--epochs", "1", "--scorer-epochs", "1", "--encoder", "style", "--min-comparisons", "1"]
    assert run(["train", str(made.votes), "--output", str(made.folder), *options]) == 0
    return made
