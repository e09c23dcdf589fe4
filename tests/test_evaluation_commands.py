"""evaluate and benchmark stage2, as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model_behavior.cli.app import run
from model_behavior.data.arena import Arena, write_votes
from model_behavior.evaluation.stage2_benchmark import METHODS


@pytest.fixture(scope="module")
def folder(arena: Arena, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """votes.parquet and an encoder trained on it."""
    path = tmp_path_factory.mktemp("evaluation")
    write_votes(arena, path / "votes.parquet")
    arguments = ["--encoder", "style", "--epochs", "2", "--validation-fraction", "0.3", "--cache", str(path / "cache")]
    assert run(["train-encoder", str(path / "votes.parquet"), "--output", str(path / "e"), *arguments]) == 0
    return path


def test_evaluate_prints_tables_and_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["evaluate", str(folder / "e"), str(folder / "votes.parquet"), "--cache", str(folder / "cache")]
    capsys.readouterr()
    assert run(arguments) == 0
    text = capsys.readouterr().out
    for words in ("prompts that it was not trained on", "TF-IDF, untrained", "chance", "family @8", "within 10 %"):
        assert words in text
    assert "nan" not in text
    assert run([*arguments, "--json", "--seed", "0"]) == 0
    captured = capsys.readouterr()
    value = json.loads(captured.out)
    assert "rows used" in captured.err
    triplet = value["stage1"]["triplet"]["all"]
    assert f"{triplet['value']:.3f} [{triplet['low']:.3f}, {triplet['high']:.3f}] ({triplet['n']:,})" in text
    assert value["stage2"] is None and "MiniLM, untrained" not in value["baselines"]


def test_evaluate_says_what_is_wrong(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", str(tmp_path / "none"), str(folder / "votes.parquet")]) == 1
    assert run(["evaluate", str(folder / "e"), str(tmp_path / "none.csv")]) == 3
    assert "none.csv" in capsys.readouterr().err


def test_benchmark_stage2_writes_a_report_with_pictures(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "report" / "stage2.md"
    arguments = ["benchmark", "stage2", str(folder / "votes.parquet"), "--output", str(output), "--seeds", "1"]
    arguments += ["--epochs", "1", "--draws", "1", "--cache", str(folder / "cache"), "--json"]
    capsys.readouterr()
    assert run(arguments) == 0
    text = output.read_text("utf-8")
    assert "benchmark stage2 votes.parquet --output stage2.md --seeds 1 --epochs 1 --draws 1`" in text
    assert "length controlled for" in text and all(text.count(f"| {name} |") >= 2 for name in METHODS)
    pictures = [path.name for path in output.parent.glob("*.svg")]
    assert pictures and all(f"![{name}]({name})" in text for name in pictures)
    (result,) = json.loads(capsys.readouterr().out)["results"]
    assert result["seeds"][0]["cells"]["Elo"]["new prompt, known LLM"]["accuracy"]["n"] > 0
