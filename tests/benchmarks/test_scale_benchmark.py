"""Larger files of votes made from real ones, and what is measured on them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from model_behavior.benchmarks.scale import SizeResult, swap_words, write_enlarged_votes, write_scale_report
from model_behavior.benchmarks.scale_probe import StageCost, probe_training
from model_behavior.cli.app import run
from model_behavior.data.arena import Arena, write_votes
from model_behavior.data.loading import load_votes
from model_behavior.memory import spare_memory
from model_behavior.models.scoring.dense_network_config import DenseNetworkConfig
from model_behavior.models.scoring.dense_network_training import ScoringSchedule
from model_behavior.pipeline import TrainingConfig
from tests.conftest import answer


def test_words_change_places_at_regular_places() -> None:
    assert swap_words("a b c d e f g", 1, 3) == "a c b d f e g"
    assert swap_words("a  b\nc", 0, 5) == " a b\nc"
    assert swap_words("a", 0, 5) == "a"


def test_larger_votes_have_the_shares_of_the_real_ones(arena: Arena, tmp_path: Path) -> None:
    path = tmp_path / "more.parquet"
    data = arena.votes
    write_enlarged_votes(data, 2 * len(data) + 7, path)
    once, _ = load_votes(path)
    assert len(once) == 2 * len(data) + 7
    assert once.pairs.models == data.pairs.models
    np.testing.assert_array_equal(once.outcome, np.r_[data.outcome, data.outcome, data.outcome[:7]])
    rows = pq.read_table(path).to_pylist()
    first, second = rows[0], rows[len(data)]
    pair = int(data.pair_a[0])
    assert first["prompt"] == data.pairs.prompts[int(data.pairs.prompt_index[pair])].as_py()
    assert first["response_a"] == data.pairs.responses[pair].as_py()
    assert second["prompt"] == f"{first['prompt']} (1)"
    assert sorted(second["response_a"].split(" ")) == sorted(first["response_a"].split(" "))
    assert second["response_a"] != first["response_a"]
    n_pairs = len(data.pairs)
    assert 2 * n_pairs <= len(once.pairs) <= 2 * n_pairs + 14
    again = tmp_path / "again.parquet"
    write_enlarged_votes(data, 2 * len(data) + 7, again)
    assert again.read_bytes() == path.read_bytes()


def test_growth_is_the_exponent() -> None:
    results = [
        SizeResult(n, n, (StageCost("start", 0.0, 2**20), StageCost("load", seconds, 2**21)))
        for n, seconds in ((10, 1.0), (100, 100.0))
    ]
    text, pictures = write_scale_report(results, "votes", "the command")
    (row,) = [line for line in text.splitlines() if line.startswith("| 100 |")]
    assert [cell.strip() for cell in row.strip("|").split("|")] == ["100", "0", "100.00", "1,000,000", "2.00", "2"]
    assert sorted(pictures) == ["scale-cpu.svg", "scale-memory.svg"]


def test_the_command_measures_each_size_by_itself(
    arena: Arena, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_votes(arena, tmp_path / "votes.parquet")
    output = tmp_path / "scale.md"
    command = ["benchmark", "scale", tmp_path / "votes.parquet", "--output", output]
    value = answer(capsys, *command, "--sizes", "900")
    (result,) = value["results"]
    stages = result["stages"]
    assert [stage["stage"] for stage in stages] == [
        *("start", "load", "filter and split"),
        *("triplet sampler", "triplets of an epoch"),
    ]
    peaks = [stage["peak_bytes"] for stage in stages]
    assert peaks[0] > 20 * 2**20 and peaks == sorted(peaks)
    assert "| 900 |" in output.read_text()
    assert (tmp_path / "scale-memory.svg").exists()
    assert run([*map(str, command), "--sizes", "10,ten"]) == 2


def test_a_training_is_measured_by_stage(arena: Arena, tmp_path: Path) -> None:
    write_votes(arena, tmp_path / "votes.parquet")
    scorer = replace(DenseNetworkConfig(), schedule=ScoringSchedule(epochs=1, folds=2))
    config = replace(TrainingConfig(), epochs=1, scorer=scorer)
    found = probe_training(tmp_path / "votes.parquet", tmp_path / "cache", config, spare_memory())
    assert [each.stage for each in found.stages] == [
        *("start", "load", "filter and split", "features: style", "features: lexical"),
        *("transforms", "epochs", "model embeddings", "stage 2", "artifact"),
    ]
    assert all(each.seconds >= 0 for each in found.stages) and found.stages[5].seconds > 0
    assert set(found.quality) >= {"triplet accuracy", "log loss"}
    text, _ = write_scale_report([SizeResult(900, 1, found.stages, found.quality)], "votes", "the command")
    assert f"| 900 | {found.quality['triplet accuracy']:.3f} |" in text and "| transforms | " in text
