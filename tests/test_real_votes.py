"""The promises that stage 1 makes on real votes, measured as a user would. Skipped where the votes are absent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model_behavior import ValidationSplit, artifact, load_votes
from model_behavior.evaluation.stage1 import Stage1Protocol
from model_behavior.preprocessing.behavior_embedding_preprocessor import BehaviorEmbeddingPreprocessor
from model_behavior.preprocessing.cache import ContentCache
from tests.conftest import REAL_DATA

_MEASURE = """
import resource, sys
from model_behavior.cli.app import run
code = run(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""


def measured(arguments: list[str], cache: Path) -> tuple[dict[str, Any], int]:
    """Runs a command in a process of its own; its JSON and its peak memory in MB."""
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, *arguments, "--json", "--cache", str(cache)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), int(done.stderr.strip().splitlines()[-1]) // 1024


@dataclass(frozen=True)
class Cold:
    """The default encoder, trained on votes_alpaca with an empty cache: what it printed and its peak memory in MB."""

    folder: Path
    cache: Path
    printed: dict[str, Any]
    memory: int


@pytest.fixture(scope="module")
def trained_cold(tmp_path_factory: pytest.TempPathFactory) -> Cold:
    votes = REAL_DATA / "votes_alpaca.parquet"
    if not votes.is_file():
        pytest.skip(f"real votes are not at {REAL_DATA}")
    path = tmp_path_factory.mktemp("cold")
    folder, cache = path / "cold", path / "cache"
    return Cold(folder, cache, *measured(["train-encoder", str(votes), "--output", str(folder)], cache))


@pytest.mark.alone
@pytest.mark.timeout(900)
def test_default_training_keeps_its_promises(real_data: Path, trained_cold: Cold, tmp_path: Path) -> None:
    votes = real_data / "votes_alpaca.parquet"
    cold, memory, cache = trained_cold.printed, trained_cold.memory, trained_cold.cache
    assert cold["models"] == 58
    assert cold["seconds"] < 720 and memory < 3000
    assert cold["triplet_accuracy"] >= 0.72
    assert cold["identification_at_8"] >= 0.40
    warm, _ = measured(["train-encoder", str(votes), "--output", str(tmp_path / "warm")], cache)
    assert warm["seconds"] < 60
    for name in ("encoder.safetensors", "models.safetensors"):
        assert (trained_cold.folder / name).read_bytes() == (tmp_path / "warm" / name).read_bytes()

    # The same figures by the protocol, from the saved folder.
    trained = artifact.load(trained_cold.folder)
    prepared = BehaviorEmbeddingPreprocessor(ContentCache(cache)).preprocess(load_votes(votes)[0], ValidationSplit())
    pairs = prepared.data.pairs
    prompts = pairs.prompts.take(pairs.prompt_index).to_pylist()
    figures = Stage1Protocol(prepared).measure(trained.encoder.encode(prompts, pairs.responses.to_pylist(), 128))
    assert figures.triplet["all"].value >= 0.72 and figures.identification[8].value >= 0.40
    assert figures.triplet["all"].low > 0.56, "above the forerunner and the length of the response"


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("name", "n_models"), [("votes_human", 45), ("votes_graded", 45)])
def test_other_votes_train_too(real_data: Path, tmp_path: Path, name: str, n_models: int) -> None:
    arguments = ["train-encoder", str(real_data / f"{name}.parquet"), "--output", str(tmp_path / "e"), "--epochs", "3"]
    value, _ = measured(arguments, tmp_path / "cache")
    assert value["models"] == n_models
    if name == "votes_graded":
        assert {"tie", "both_bad"} <= set(value["history"][-1]["accuracy_by_kind"])


@pytest.mark.alone
@pytest.mark.timeout(600)
def test_encoding_does_not_grow_with_the_file(real_data: Path, trained_cold: Cold, tmp_path: Path) -> None:
    source = pq.ParquetFile(real_data / "responses.parquet")
    whole = pa.Table.from_batches([next(source.iter_batches(24_000))])
    peaks = []
    for n_rows in (6_000, 24_000):
        pq.write_table(whole.slice(0, n_rows), tmp_path / "pairs.parquet", row_group_size=2_000)
        output = tmp_path / f"vectors{n_rows}.parquet"
        value, memory = measured(
            ["encode", str(trained_cold.folder), str(tmp_path / "pairs.parquet"), "--output", str(output)],
            tmp_path / "cache",
        )
        assert value["rows"] == n_rows
        peaks.append(memory)
    assert peaks[1] < peaks[0] + 150
    written = pq.read_table(tmp_path / "vectors24000.parquet")
    assert written.drop_columns("embedding").equals(whole)
    vectors = np.stack(written["embedding"].slice(20_000, 50).to_numpy())
    part = whole.slice(20_000, 50)
    expected = artifact.load(trained_cold.folder).encoder.encode(
        part["prompt"].to_pylist(), part["response"].to_pylist(), 50
    )
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
