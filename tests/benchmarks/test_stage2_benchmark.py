"""`benchmark stage2` as a user runs it, once."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_behavior.benchmarks.stage2 import DENSE_NETWORK, METHODS
from model_behavior.cli.app import run
from model_behavior.data.arena import Arena, write_votes
from model_behavior.evaluation.stage2 import CELLS


@pytest.fixture(scope="module")
def report(arena: Arena, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The page that it writes, pictures beside it, and the seed's figures that it prints."""
    folder = tmp_path_factory.mktemp("stage2")
    write_votes(arena, folder / "votes.parquet")
    output = folder / "report" / "stage2.md"
    arguments = ["--output", str(output), "--seeds", "1", "--epochs", "1", "--draws", "1", "--json"]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert run(["benchmark", "stage2", str(folder / "votes.parquet"), *arguments]) == 0
    (result,) = json.loads(printed.getvalue())["results"]
    (seed,) = result["seeds"]
    return output, seed


def test_all_methods_and_cells_are_in_the_report(report: tuple[Path, dict[str, Any]]) -> None:
    text = report[0].read_text("utf-8")
    assert "benchmark stage2 votes.parquet --output stage2.md --seeds 1 --epochs 1 --draws 1`" in text
    assert "length controlled for" in text and all(text.count(f"| {name} |") >= 2 for name in METHODS)
    for cell in CELLS:
        assert cell.label[1:] in text
    assert "Bradley-Terry oracle" in text and "| 32 |" in text
    pictures = list(report[0].parent.glob("*.svg"))
    assert len(pictures) == 3
    assert all(f"![{each.name}]({each.name})" in text and each.read_text().startswith("<svg") for each in pictures)


def test_new_models_are_predicted_by_the_dense_network_alone(report: tuple[Path, dict[str, Any]]) -> None:
    seed = report[1]
    new = [cell.label for cell in CELLS if not cell.seen_models]
    assert all(cell in seed["cells"][DENSE_NETWORK] for cell in new)
    assert not any(cell in seed["cells"][name] for name in METHODS if name != DENSE_NETWORK for cell in new)
    assert seed["cells"]["Elo"]["new prompt, known LLM"]["accuracy"]["n"] > 0
    assert np.isfinite([figures["accuracy"] for figures in seed["cold_start"].values()]).all()
