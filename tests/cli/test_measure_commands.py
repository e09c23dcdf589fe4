"""evaluate, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model_behavior.cli.app import run

pytestmark = pytest.mark.usefixtures("few_replicates")


def test_evaluate_prints_tables_and_json(stage1: Path, votes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["evaluate", str(stage1), str(votes)]
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


def test_evaluate_says_what_is_wrong(
    stage1: Path, votes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", str(tmp_path / "none"), str(votes)]) == 1
    assert run(["evaluate", str(stage1), str(tmp_path / "none.csv")]) == 3
    assert "none.csv" in capsys.readouterr().err
